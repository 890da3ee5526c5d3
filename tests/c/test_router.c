/* Which packets are a router's word, in buffers with not an octet to spare. */
#include <string.h>

#include "check.h"
#include "octets.h"
#include "router.h"
#include "wire.h"

static bool verdict(const uint8_t *packet, uint32_t length)
{
    uint8_t *copy = malloc(length);
    bool found;

    memcpy(copy, packet, length);
    found = is_router_message(copy, length);
    free(copy);
    return found;
}

static bool icmp(uint8_t header_words, uint8_t protocol, uint16_t fragment, uint8_t type, uint32_t length)
{
    uint8_t packet[64] = {(uint8_t)(4 << 4 | header_words)};

    packet[9] = protocol;
    set16(packet + 6, fragment);
    packet[header_words * 4] = type;
    return verdict(packet, length);
}

static bool icmpv6(uint8_t next, uint8_t hop_limit, uint8_t type, uint32_t length)
{
    uint8_t packet[64] = {6 << 4};

    packet[6] = next;
    packet[7] = hop_limit;
    packet[40] = type;
    return verdict(packet, length);
}

static bool read_by_engine(uint8_t next, uint8_t hop_limit, uint16_t what, uint8_t destination, bool provider)
{
    uint8_t packet[48] = {6 << 4};
    uint8_t *copy = malloc(sizeof packet);
    bool found;

    packet[6] = next;
    packet[7] = hop_limit;
    packet[24] = destination;
    packet[25] = destination == 0xfe ? 0x80 : 2;
    if (next == 58)
        packet[40] = (uint8_t)what;
    else
        set16(packet + 42, what);
    memcpy(copy, packet, sizeof packet);
    found = is_autoconfiguration(copy, sizeof packet, provider);
    free(copy);
    return found;
}

static void check_autoconfiguration(void)
{
    static const uint8_t cut[47] = {6 << 4, [6] = 58, 255, [40] = 134};

    CHECK(read_by_engine(58, 255, 134, 0xff, false)); /* Router Advertisement */
    CHECK(read_by_engine(58, 255, 133, 0xff, true));  /* Router Solicitation */
    CHECK(!read_by_engine(58, 255, 133, 0xff, false));
    CHECK(!read_by_engine(58, 255, 134, 0xff, true));
    CHECK(!read_by_engine(58, 254, 134, 0xff, false)); /* from afar */
    CHECK(!read_by_engine(58, 255, 137, 0xff, false));
    CHECK(read_by_engine(17, 64, 546, 0xfe, false)); /* DHCPv6 */
    CHECK(read_by_engine(17, 64, 547, 0xff, true));
    CHECK(!read_by_engine(17, 64, 547, 0xfe, false));
    CHECK(!read_by_engine(17, 64, 546, 0x20, false)); /* to a global address, from anywhere */
    CHECK(!read_by_engine(6, 64, 546, 0xfe, false));
    CHECK(!is_autoconfiguration(cut, sizeof cut, false));
}

int main(void)
{
    uint64_t state = 1;

    check_autoconfiguration();

    CHECK(icmp(5, 1, 0, 5, 28));          /* Redirect */
    CHECK(icmp(5, 1, 0, 9, 28));          /* Router Advertisement */
    CHECK(icmp(15, 1, 0, 5, 64));         /* behind all the options there can be */
    CHECK(icmp(5, 1, 0x2000, 5, 28));     /* the first fragment */
    CHECK(!icmp(5, 1, 0x2001, 5, 28));    /* another one, which alone is nothing */
    CHECK(!icmp(5, 1, 0, 0, 28));         /* Echo Reply */
    CHECK(!icmp(5, 1, 0, 3, 28));         /* Destination Unreachable: Path MTU Discovery needs it */
    CHECK(!icmp(5, 17, 0, 5, 28));
    CHECK(!icmp(5, 1, 0, 5, 20));         /* cut off */

    CHECK(icmpv6(58, 255, 134, 56));
    CHECK(icmpv6(58, 255, 137, 80 - 16));
    CHECK(!icmpv6(58, 64, 134, 56));      /* the kernel takes none from afar */
    CHECK(!icmpv6(58, 255, 133, 48));     /* Router Solicitation */
    CHECK(!icmpv6(58, 255, 135, 64));     /* Neighbor Solicitation, Advertisement */
    CHECK(!icmpv6(58, 255, 136, 64));
    CHECK(!icmpv6(58, 255, 2, 48));       /* Packet Too Big */
    CHECK(!icmpv6(17, 255, 134, 56));
    CHECK(!icmpv6(58, 255, 134, 40));     /* cut off */
    for (uint32_t next = 0; next < 256; next++) {
        bool extension = next == 0 || next == 43 || next == 44 || next == 51 || next == 60 || next == 135;

        CHECK(icmpv6((uint8_t)next, 255, 0, 48) == extension);
        CHECK(!icmpv6((uint8_t)next, 254, 0, 48));
    }
    for (uint32_t i = 0; i < 200000; i++) {
        uint8_t packet[64];
        uint32_t length = chance(&state) % sizeof packet;

        for (uint32_t at = 0; at < sizeof packet; at++)
            packet[at] = (uint8_t)chance(&state);
        packet[0] = chance(&state) & 1 ? 4 << 4 | (packet[0] & 15) : 6 << 4;
        if (length && ip_protocol(packet, length))
            verdict(packet, length);
    }
    return 0;
}
