#include "transport.h"

#include "checksum.h"

enum { IPV4_FRAGMENT = 0x3fff, MAX_EXTENSIONS = 8 };

static bool find_in_ipv4(const uint8_t *packet, uint32_t length, struct transport *out)
{
    uint32_t header = (packet[0] & 15) * 4u;

    if (length < 20 || header < 20)
        return false;
    out->end = get16(packet + 2);
    out->start = (uint16_t)header;
    out->protocol = packet[9];
    return header <= out->end && out->end <= length && !(get16(packet + 6) & IPV4_FRAGMENT);
}

static bool find_in_ipv6(const uint8_t *packet, uint32_t length, struct transport *out)
{
    uint32_t at = 40;

    if (length < 40)
        return false;
    out->end = 40u + get16(packet + 4);
    if (out->end > length)
        return false;
    out->protocol = packet[6];
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        if (out->protocol != IPPROTO_HOPOPTS && out->protocol != IPPROTO_ROUTING && out->protocol != IPPROTO_DSTOPTS)
            break;
        if (at + 8 > out->end)
            return false;
        out->protocol = packet[at];
        at += (packet[at + 1] + 1u) * 8;
    }
    out->start = (uint16_t)at;
    return at <= out->end;
}

bool transport_find(const uint8_t *packet, uint32_t length, struct transport *out)
{
    uint32_t room, header = 8;

    if (!length)
        return false;
    out->version = packet[0] >> 4;
    if (out->version == 4 ? !find_in_ipv4(packet, length, out)
                          : out->version != 6 || !find_in_ipv6(packet, length, out))
        return false;
    room = out->end - out->start;
    if (out->protocol == IPPROTO_TCP) {
        if (room < 20)
            return false;
        header = (packet[out->start + 12] >> 4) * 4u;
        if (header < 20)
            return false;
    } else if (out->protocol != IPPROTO_UDP) {
        return false;
    }
    out->data = (uint16_t)(out->start + header);
    return header <= room;
}

uint64_t pseudo_sum(const uint8_t *packet, const struct transport *transport, uint32_t length)
{
    uint64_t sum = (uint64_t)htons(transport->protocol) + htons((uint16_t)length);

    return transport->version == 4 ? sum_add(sum, packet + 12, 8) : sum_add(sum, packet + 8, 32);
}

bool checksum_correct(const uint8_t *packet, const struct transport *transport)
{
    uint32_t length = transport->end - transport->start;
    const uint8_t *header = packet + transport->start;

    if (transport->protocol == IPPROTO_UDP && (get16(header + 4) != length || !get16(header + 6)))
        return false;
    if (transport->version == 4 && sum_fold(sum_add(0, packet, transport->start)) != 0xffff)
        return false;
    return sum_fold(sum_add(pseudo_sum(packet, transport, length), header, length)) == 0xffff;
}

void ip_finish(uint8_t *packet, uint32_t header_length, uint32_t length)
{
    if (packet[0] >> 4 == 6) {
        set16(packet + 4, length - 40);
        return;
    }
    set16(packet + 2, length);
    set16(packet + 10, 0);
    store_sum(packet + 10, (uint16_t)~sum_fold(sum_add(0, packet, header_length)));
}
