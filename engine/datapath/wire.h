/* A PPPoE frame as octets: what an incoming one carries, and the header an outgoing one needs. Pure functions. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table.h"

enum {
    ETHERTYPE_PPPOE_DISCOVERY = 0x8863,
    ETHERTYPE_PPPOE_SESSION = 0x8864,
    ETHERTYPE_VLAN = 0x8100,         /* IEEE 802.1Q customer tag */
    ETHERTYPE_SERVICE_VLAN = 0x88a8, /* IEEE 802.1Q service tag */
    PPPOE_PADT = 0xa7,
    PPP_IPV4 = 0x0021,
    PPP_IPV6 = 0x0057,
    PPP_IPCP = 0x8021,
    PPP_IPV6CP = 0x8057,
    PPP_LCP = 0xc021,
    PPP_PAP = 0xc023,
    PPP_CHAP = 0xc223,
    MAX_VLAN_TAGS = 2,
    MIN_FRAME = 60,   /* an Ethernet frame without its FCS */
    MAX_HEADER = 30,  /* Ethernet 14, two tags 8, PPPoE 6, PPP 2 */
};

struct vlan_tag {
    uint16_t tpid;
    uint16_t tci;
};

/* Who talks to whom: everything that tells one session's frames from another's. */
struct session_address {
    uint8_t own_mac[6];
    uint8_t peer_mac[6];
    uint16_t session_id;
    uint16_t vlan_count;
    struct vlan_tag vlans[MAX_VLAN_TAGS]; /* outer first */
};

enum frame_kind {
    FRAME_BAD_HEADER, /* not PPPoE, more than two tags, not version 1 and type 1, or in a session not code 0 */
    FRAME_BAD_LENGTH, /* cut short, or LENGTH runs past its end, or that of LCP, PAP, CHAP, IPCP or IPv6CP within */
    FRAME_DISCOVERY,  /* other than PADT */
    FRAME_CONTROL,    /* a session frame with a PPP protocol other than IP, or a PADT */
    FRAME_DATA,       /* a session frame with an IP packet */
};

struct frame {
    struct key key; /* of session frames and PADTs */
    const uint8_t *packet;
    uint32_t length; /* of the IP packet, without the frame's padding */
};

/* Never reads past `length` octets; `out` is filled as far as the kind says. RFC 2516 section 4, RFC 1661 section 2. */
enum frame_kind frame_parse(const uint8_t *octets, uint32_t length, struct frame *out);

/* The key under which the frames that arrive from this peer are looked up. Of a VLAN tag it holds the id, which alone
 * tells one VLAN from another; a tag with id 0 is as none. */
struct key session_key(const struct session_address *address);

/* Writes the header of a session's data frames, at most MAX_HEADER octets, and returns its length; LENGTH and the
 * protocol are left for header_finish. */
uint32_t header_build(const struct session_address *address, uint8_t *header);

/* Fills in what changes from packet to packet; `end` is where the packet starts. */
void header_finish(uint8_t *end, uint16_t protocol, uint32_t packet_length);

/* PPP_IPV4, PPP_IPV6, or 0 if it is neither. */
uint16_t ip_protocol(const uint8_t *packet, uint32_t length);
