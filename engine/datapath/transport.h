/* What stands where in an IP packet that carries TCP or UDP, and the checksums of both. Pure functions. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "octets.h"

enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_PSH = 0x08, TCP_URG = 0x20, TCP_ECE = 0x40, TCP_CWR = 0x80 };

struct transport {
    uint8_t version;    /* 4 or 6 */
    uint8_t protocol;   /* IPPROTO_TCP or IPPROTO_UDP */
    uint16_t start;     /* offset of its header */
    uint16_t data;      /* offset of what it carries */
    uint32_t end;       /* offset of the packet's end; more octets may follow as padding */
};

/* False if it is neither TCP nor UDP, a fragment, or not well-formed. Never reads past `length` octets. */
bool transport_find(const uint8_t *packet, uint32_t length, struct transport *out);

/* The sum over the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) with a transport header and data of
 * `length` octets. */
uint64_t pseudo_sum(const uint8_t *packet, const struct transport *transport, uint32_t length);

/* Of the transport header and data, and of IPv4's header. False as well for a UDP datagram without a checksum, and for
 * packets with a source route. */
bool checksum_correct(const uint8_t *packet, const struct transport *transport);

/* Sets the IP header's length field for a packet of `length` octets, and the checksum of IPv4. */
void ip_finish(uint8_t *packet, uint32_t header_length, uint32_t length);

/* A checksum field, as it lies in memory. */
static inline uint16_t load_sum(const uint8_t *at)
{
    uint16_t sum;

    memcpy(&sum, at, sizeof sum);
    return sum;
}

static inline void store_sum(uint8_t *at, uint16_t sum)
{
    memcpy(at, &sum, sizeof sum);
}

/* Where in the transport header its checksum stands. */
static inline uint32_t checksum_offset(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? 16 : 6;
}
