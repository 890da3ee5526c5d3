#include "own.h"

#include <stdlib.h>
#include <string.h>

enum {
    IPV4_SOURCE = 12,
    IPV4_DESTINATION = 16,
    IPV6_SOURCE = 8,
    IPV6_DESTINATION = 24,
    IPV6_HEADER = 40,
    HOP_BY_HOP = 0,
    ICMPV6 = 58,
    LISTENER_QUERY = 130,
    NEIGHBOR_SOLICITATION = 135,
    NEIGHBOR_ADVERTISEMENT = 136,
};

/* An address as the structs have it. */
struct address {
    uint64_t words[2];
};

static struct address load(uint16_t protocol, const uint8_t *octets)
{
    struct address address = {0};

    memcpy(&address, octets, protocol == PPP_IPV4 ? 4 : 16);
    return address;
}

struct own *own_new(const struct souppp_own *from)
{
    struct own *own = calloc(1, sizeof *own + from->network_count * sizeof *own->networks);

    if (!own)
        return NULL;
    own->open = from->open;
    memcpy(&own->ipv4, from->ipv4, sizeof own->ipv4);
    memcpy(own->ipv6, from->ipv6, sizeof own->ipv6);
    own->count = from->network_count;
    for (uint32_t i = 0; i < own->count; i++) {
        const struct souppp_network *network = &from->networks[i];
        uint8_t mask[16] = {0};

        for (uint32_t bit = 0; bit < network->length && bit < 128; bit++)
            mask[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
        own->networks[i].protocol = network->version == 4 ? PPP_IPV4 : PPP_IPV6;
        memcpy(own->networks[i].address, network->address, sizeof own->networks[i].address);
        memcpy(own->networks[i].mask, mask, sizeof mask);
    }
    return own;
}

/* The network that an address is in. */
static const struct network *network_of(const struct own *own, uint16_t protocol, const uint8_t *octets)
{
    for (uint32_t i = 0; i < own->count; i++) {
        const struct network *network = &own->networks[i];
        struct address address = load(protocol, octets);

        if (network->protocol == protocol && (address.words[0] & network->mask[0]) == network->address[0] &&
            (address.words[1] & network->mask[1]) == network->address[1])
            return network;
    }
    return NULL;
}

/* A network that isn't everything. */
static bool in_network(const struct own *own, uint16_t protocol, const uint8_t *octets)
{
    const struct network *network = own->count ? network_of(own, protocol, octets) : NULL;

    return network && network->mask[0];
}

static bool is_ours(const struct own *own, const uint8_t *octets)
{
    return memcmp(octets, own->ipv6, sizeof own->ipv6) == 0;
}

static bool is_unspecified(const uint8_t *octets)
{
    static const uint8_t unspecified[16];

    return memcmp(octets, unspecified, sizeof unspecified) == 0;
}

/* The type of an ICMPv6 message, be it behind the router alert of a listener's (RFC 2710 section 3); 0 if it is none. */
static uint8_t icmpv6_type(const uint8_t *packet, uint32_t length)
{
    uint32_t at = IPV6_HEADER;
    uint8_t next = packet[6];

    if (next == HOP_BY_HOP && length >= IPV6_HEADER + 8 && packet[IPV6_HEADER + 1] == 0) {
        next = packet[IPV6_HEADER];
        at += 8;
    }
    return next == ICMPV6 && at < length ? packet[at] : 0;
}

/* ff02::1, where all nodes are, and ff02::1:ff00:0/104, where those are looked for whose address has a certain end. */
static bool is_for_neighbours(const uint8_t *address)
{
    static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1}, solicited[13] = {0xff, 2, [11] = 1, 0xff};

    return memcmp(address, all_nodes, sizeof all_nodes) == 0 || memcmp(address, solicited, sizeof solicited) == 0;
}

static bool is_neighbourly(const uint8_t *packet, uint32_t length)
{
    uint8_t type = icmpv6_type(packet, length);

    return is_for_neighbours(packet + IPV6_DESTINATION) &&
           (type == NEIGHBOR_SOLICITATION || type == NEIGHBOR_ADVERTISEMENT || type == LISTENER_QUERY);
}

static enum way_in way_in4(const struct own *own, const uint8_t *packet)
{
    const uint8_t *source = packet + IPV4_SOURCE, *destination = packet + IPV4_DESTINATION;

    if (memcmp(destination, &own->ipv4, sizeof own->ipv4) != 0 && !network_of(own, PPP_IPV4, destination))
        return NOT_FOR_US;
    if (*source == 0 || *source == 127 || *source >= 224 || memcmp(source, &own->ipv4, sizeof own->ipv4) == 0)
        return FORGED;
    return in_network(own, PPP_IPV4, source) ? FORGED : LET_IN;
}

static enum way_in way_in6(const struct own *own, const uint8_t *packet, uint32_t length)
{
    const uint8_t *source = packet + IPV6_SOURCE, *destination = packet + IPV6_DESTINATION;

    if (!is_ours(own, destination) && !network_of(own, PPP_IPV6, destination) && !is_neighbourly(packet, length))
        return NOT_FOR_US;
    if (*source == 0xff || is_ours(own, source) || in_network(own, PPP_IPV6, source))
        return FORGED;
    if (load(PPP_IPV6, source).words[0])
        return LET_IN;
    return is_unspecified(source) && icmpv6_type(packet, length) == NEIGHBOR_SOLICITATION ? LET_IN : FORGED;
}

enum way_in way_in(const struct own *own, uint16_t protocol, const uint8_t *packet, uint32_t length)
{
    return protocol == PPP_IPV4 ? way_in4(own, packet) : way_in6(own, packet, length);
}

bool is_from_us(const struct own *own, uint16_t protocol, const uint8_t *packet, uint32_t length)
{
    const uint8_t *source = packet + (protocol == PPP_IPV4 ? IPV4_SOURCE : IPV6_SOURCE);

    if (protocol == PPP_IPV4 ? memcmp(source, &own->ipv4, sizeof own->ipv4) == 0 : is_ours(own, source))
        return true;
    if (network_of(own, protocol, source))
        return true;
    return protocol == PPP_IPV6 && is_unspecified(source) && packet[IPV6_DESTINATION] == 0xff &&
           (packet[IPV6_DESTINATION + 1] & 15) == 2 && icmpv6_type(packet, length);
}
