/* Messages by which a router changes a host's addresses, routes and neighbours. Whoever is at the other end of a session
 * can send them, and the kernel may heed them: they are for networks whose routers one trusts. A pure function. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Of an IP packet that ip_protocol() takes for one: Router Advertisement and Redirect of ICMPv6 (RFC 4861) and of ICMP
 * (RFC 1256, RFC 792). And any IPv6 packet with an extension header that came from the link itself, as its hop limit of
 * 255 tells: no such message needs one (RFC 6980 forbids fragments), and nothing hides in what isn't let in. */
bool is_router_message(const uint8_t *packet, uint32_t length);

/* What a session's engine reads itself, and no device gets: a client's Router Advertisements, and DHCPv6's answers to its
 * link-local address; a provider's Router Solicitations, and DHCPv6's questions. Nobody beyond the link can send them. */
bool is_autoconfiguration(const uint8_t *packet, uint32_t length, bool provider);
