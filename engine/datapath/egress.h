/* Where IP packets go and come from: a file descriptor that carries whole IP packets, non-blocking, a TUN device mostly,
 * or the ducts to a network stack in user space, of which each worker has one.
 *
 * An egress belongs to one session, or is routed: shared by many, which are told apart by the IP packet's destination.
 * Any worker may write to it; one worker, its owner, reads from it.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "own.h"
#include "table.h"
#include "wire.h"

enum { EGRESS_ROUTED = TABLE_NONE };

struct egress {
    int fd;
    bool offload; /* a TUN device with IFF_VNET_HDR, or what speaks as one does */
    bool ducted; /* it has no descriptor */
    uint32_t slot; /* of its only session, or EGRESS_ROUTED */
    uint32_t owner; /* the worker that reads */
    atomic_bool watched; /* the owner may read; an event of its epoll can be older than that */
};

struct session {
    struct egress *egress; /* NULL while the session is being set up: its control frames only */
    _Atomic(struct own *) own; /* what may flow; the engine's thread exchanges it */
    uint32_t mtu;
    uint32_t clamp; /* the MTU to which TCP's segment size is held; 0: any */
    uint32_t longest; /* IP packet that the card takes with this session's header */
    uint32_t header_length;
    uint8_t header[32];
};

/* For as long as the reader doesn't turn. */
static inline const struct own *own_of(const struct session *session)
{
    return atomic_load_explicit(&session->own, memory_order_acquire);
}

/* A route's key: an IPv4 address, or the first 64 bits of an IPv6 address. */
static inline struct key route_key(uint16_t protocol, const uint8_t *address)
{
    struct key key = {0};

    memcpy(key.octets, address, protocol == PPP_IPV4 ? 4 : 6);
    key.octets[8] = (uint8_t)protocol;
    return key;
}

static inline const uint8_t *ip_destination(uint16_t protocol, const uint8_t *packet)
{
    return packet + (protocol == PPP_IPV4 ? 16 : 24);
}
