/* What of the Internet a session is: packets to it come in, packets from it go out, and no others. Pure functions.
 *
 *            in                                                 out
 *    IPv4    to:   its address; its networks                    from: its address; its networks
 *            from: none of these, nor 0/8, 127/8, 224/3
 *    IPv6    to:   its link-local address; its networks;        from: its link-local address; its networks;
 *                  ff02::1 and ff02::1:ff00:0/104, by whoever         ::, in ICMPv6 to ff02::/16: a node that has no
 *                  looks for neighbours or for listeners (RFC         address yet looks whether another has it, and
 *                  4861 NS, NA; RFC 2710 Query)                       tells what it listens to (RFC 4862, RFC 3590)
 *            from: none of these, nor ::/64, ff00::/8; but ::
 *                  may look for a neighbour (RFC 4862)
 *
 * Its networks are its global IPv6 addresses, what is delegated to it, and what the operator says is routed to it. Where
 * to it goes out is up to the host. What autoconfiguration sends is the engine's, see router.h. No IPv4 packet to a group or to everybody is let in: nothing that PPP needs comes by such.
 * Router Advertisements and Redirects are dropped before, see router.h. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "souppp.h"
#include "wire.h"

/* IPCP is open; IPv6CP is. As in souppp.h. */
enum { IPV4_OPEN = 1, IPV6_OPEN = 2 };

enum way_in { LET_IN, NOT_FOR_US, FORGED };

/* In network byte order; of an IPv4 network the first four octets. One of length 0 is everything: whoever has it
 * takes anybody's packets, and no source in it is forged. */
struct network {
    uint64_t address[2];
    uint64_t mask[2];
    uint16_t protocol;
};

/* Never changed while anybody may look at it: another one takes its place. */
struct own {
    uint32_t open; /* IPV4_OPEN | IPV6_OPEN */
    uint32_t ipv4;
    uint64_t ipv6[2];
    uint32_t count;
    struct network networks[];
};

/* To be freed; NULL if memory is short. `from->network_count` is SOUPPP_NETWORKS at most. */
struct own *own_new(const struct souppp_own *from);

/* Whether a session's packets of this protocol may flow. */
static inline bool is_open(const struct own *own, uint16_t protocol)
{
    return own->open & (protocol == PPP_IPV4 ? IPV4_OPEN : IPV6_OPEN);
}

/* Of an IP packet that ip_protocol() takes for one of this protocol. */
enum way_in way_in(const struct own *own, uint16_t protocol, const uint8_t *packet, uint32_t length);
bool is_from_us(const struct own *own, uint16_t protocol, const uint8_t *packet, uint32_t length);
