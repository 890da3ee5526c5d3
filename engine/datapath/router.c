#include "router.h"

#include "octets.h"

enum {
    ICMP = 1,
    ICMP_REDIRECT = 5,
    ICMP_ROUTER_ADVERTISEMENT = 9,
    ICMPV6 = 58,
    UDP = 17,
    ICMPV6_ROUTER_SOLICITATION = 133,
    ICMPV6_ROUTER_ADVERTISEMENT = 134,
    ICMPV6_REDIRECT = 137,
    DHCPV6_CLIENT = 546,
    DHCPV6_SERVER = 547,
    IPV6_DESTINATION = 24,
    IPV6_HEADER = 40,
    UDP_HEADER = 8,
    FRAGMENT_OFFSET = 0x1fff,
    FROM_THE_LINK = 255, /* a hop limit that no router has lowered */
};

/* IPv6 extension headers that the kernel follows: hop-by-hop, routing, fragment, authentication, destination, mobility. */
static bool is_extension(uint8_t header)
{
    return header == 0 || header == 43 || header == 44 || header == 51 || header == 60 || header == 135;
}

bool is_router_message(const uint8_t *packet, uint32_t length)
{
    uint32_t header = packet[0] >> 4 == 4 ? (packet[0] & 15) * 4u : IPV6_HEADER;
    uint8_t type = header < length ? packet[header] : 0;

    if (packet[0] >> 4 == 4)
        return packet[9] == ICMP && !(get16(packet + 6) & FRAGMENT_OFFSET) &&
               (type == ICMP_REDIRECT || type == ICMP_ROUTER_ADVERTISEMENT);
    if (packet[7] != FROM_THE_LINK)
        return false;
    return is_extension(packet[6]) ||
           (packet[6] == ICMPV6 && (type == ICMPV6_ROUTER_ADVERTISEMENT || type == ICMPV6_REDIRECT));
}

/* fe80::/10 and ff02::/16: of the link, as no router forwards what is for them. */
static bool is_of_the_link(const uint8_t *address)
{
    return (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) || (address[0] == 0xff && (address[1] & 15) == 2);
}

bool is_autoconfiguration(const uint8_t *packet, uint32_t length, bool provider)
{
    const uint8_t *message = packet + IPV6_HEADER;

    if (packet[0] >> 4 != 6 || length < IPV6_HEADER + UDP_HEADER)
        return false;
    if (packet[6] == ICMPV6)
        return packet[7] == FROM_THE_LINK &&
               message[0] == (provider ? ICMPV6_ROUTER_SOLICITATION : ICMPV6_ROUTER_ADVERTISEMENT);
    return packet[6] == UDP && get16(message + 2) == (provider ? DHCPV6_SERVER : DHCPV6_CLIENT) &&
           is_of_the_link(packet + IPV6_DESTINATION);
}
