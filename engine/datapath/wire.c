#include "wire.h"

#include <string.h>

#include "octets.h"

enum { KEY_VLANS = 16 }; /* in a key, behind the MAC addresses and the session id */

static uint8_t *put16(uint8_t *at, uint32_t value)
{
    set16(at, value);
    return at + 2;
}

/* The VLANs of a key are ids one after another. Id 0 names none: such a tag only carries a priority (IEEE 802.1Q
 * section 6.9), and the next one takes its place. */
static uint8_t *key_add_vlan(uint8_t *at, uint16_t tci)
{
    return tci & 0x0fff ? put16(at, tci & 0x0fff) : at;
}

struct key session_key(const struct session_address *address)
{
    struct key key = {0};
    uint8_t *vlan = key.octets + KEY_VLANS;

    memcpy(key.octets, address->own_mac, 6);
    memcpy(key.octets + 6, address->peer_mac, 6);
    put16(key.octets + 12, address->session_id);
    for (uint32_t i = 0; i < MAX_VLAN_TAGS && i < address->vlan_count; i++)
        vlan = key_add_vlan(vlan, address->vlans[i].tci);
    return key;
}

uint16_t ip_protocol(const uint8_t *packet, uint32_t length)
{
    if (length >= 20 && packet[0] >> 4 == 4)
        return PPP_IPV4;
    if (length >= 40 && packet[0] >> 4 == 6)
        return PPP_IPV6;
    return 0;
}

/* Whether a packet, of a protocol that the engine speaks, has room for its header and for what its Length says
 * (RFC 1661 section 5). What follows it is padding. */
static bool is_whole(uint16_t protocol, const uint8_t *packet, const uint8_t *end)
{
    switch (protocol) {
    case PPP_LCP:
    case PPP_PAP:
    case PPP_CHAP:
    case PPP_IPCP:
    case PPP_IPV6CP:
        return end - packet >= 4 && get16(packet + 2) >= 4 && get16(packet + 2) <= end - packet;
    default:
        return true;
    }
}

enum frame_kind frame_parse(const uint8_t *octets, uint32_t length, struct frame *out)
{
    const uint8_t *at = octets + 12, *end = octets + length;
    uint8_t *vlan = out->key.octets + KEY_VLANS;
    uint32_t tags = 0;
    uint16_t ethertype, session_id;
    uint8_t code;

    if (length < 14)
        return FRAME_BAD_LENGTH;
    out->key = (struct key){0};
    memcpy(out->key.octets, octets, 12); /* destination and source: our own address, then the peer's */
    ethertype = get16(at);
    at += 2;
    while (ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_SERVICE_VLAN) {
        if (tags == MAX_VLAN_TAGS)
            return FRAME_BAD_HEADER;
        if (end - at < 4)
            return FRAME_BAD_LENGTH;
        vlan = key_add_vlan(vlan, get16(at));
        tags++;
        ethertype = get16(at + 2);
        at += 4;
    }
    if (ethertype != ETHERTYPE_PPPOE_DISCOVERY && ethertype != ETHERTYPE_PPPOE_SESSION)
        return FRAME_BAD_HEADER;

    if (end - at < 6)
        return FRAME_BAD_LENGTH;
    if (at[0] != 0x11 || (ethertype == ETHERTYPE_PPPOE_SESSION && at[1] != 0))
        return FRAME_BAD_HEADER;
    code = at[1];
    session_id = get16(at + 2);
    if (get16(at + 4) > end - at - 6)
        return FRAME_BAD_LENGTH;
    end = at + 6 + get16(at + 4);
    at += 6;
    if (ethertype == ETHERTYPE_PPPOE_DISCOVERY && code != PPPOE_PADT)
        return FRAME_DISCOVERY;

    put16(out->key.octets + 12, session_id);
    if (ethertype == ETHERTYPE_PPPOE_DISCOVERY)
        return FRAME_CONTROL;
    if (at == end)
        return FRAME_BAD_LENGTH;
    if (*at == PPP_IPV4 || *at == PPP_IPV6) { /* compressed to one octet: RFC 1661 section 6.5 */
        at += 1;
    } else if (*at & 1) {
        return FRAME_CONTROL;
    } else {
        if (end - at < 2)
            return FRAME_BAD_LENGTH;
        if (get16(at) != PPP_IPV4 && get16(at) != PPP_IPV6)
            return is_whole(get16(at), at + 2, end) ? FRAME_CONTROL : FRAME_BAD_LENGTH;
        at += 2;
    }
    out->packet = at;
    out->length = (uint32_t)(end - at);
    return FRAME_DATA;
}

uint32_t header_build(const struct session_address *address, uint8_t *header)
{
    uint8_t *at = header;

    memcpy(at, address->peer_mac, 6);
    memcpy(at + 6, address->own_mac, 6);
    at += 12;
    for (uint32_t i = 0; i < MAX_VLAN_TAGS && i < address->vlan_count; i++)
        at = put16(put16(at, address->vlans[i].tpid), address->vlans[i].tci);
    at = put16(at, ETHERTYPE_PPPOE_SESSION);
    at = put16(at, 0x1100);
    at = put16(at, address->session_id);
    at = put16(at, 0);
    at = put16(at, 0);
    return (uint32_t)(at - header);
}

void header_finish(uint8_t *end, uint16_t protocol, uint32_t packet_length)
{
    put16(end - 4, packet_length + 2);
    put16(end - 2, protocol);
}
