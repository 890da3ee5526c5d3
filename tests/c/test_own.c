/* Which packets are for a session and from it, in buffers with not an octet to spare. Every pair of addresses is tried on
 * both data paths in tests/system/test_own.py; here are the lengths, and networks of every length. */
#include <string.h>

#include "check.h"
#include "octets.h"
#include "own.h"

static const uint8_t ours6[16] = {0xfe, 0x80, [15] = 1}, theirs6[16] = {0xfe, 0x80, [15] = 2}, nobody6[16];
static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1};

static struct own *make(struct souppp_network network)
{
    struct souppp_own from = {.open = IPV4_OPEN, .network_count = 1, .ipv4 = {192, 0, 2, 1}, .networks = {network}};
    struct own *own;

    memcpy(from.ipv6, ours6, sizeof ours6);
    own = own_new(&from);
    CHECK(own && is_open(own, PPP_IPV4) && !is_open(own, PPP_IPV6));
    return own;
}

static bool lets_in(const struct own *own, const uint8_t *packet, uint32_t length)
{
    uint8_t *copy = malloc(length);
    enum way_in way;

    memcpy(copy, packet, length);
    way = way_in(own, ip_protocol(copy, length), copy, length);
    free(copy);
    return way == LET_IN;
}

static bool comes_from(const struct own *own, const uint8_t *packet, uint32_t length)
{
    uint8_t *copy = malloc(length);
    bool found;

    memcpy(copy, packet, length);
    found = is_from_us(own, ip_protocol(copy, length), copy, length);
    free(copy);
    return found;
}

/* Whether a message of ICMPv6, cut off after so many octets, is let in, or goes out. */
static bool message(const struct own *own, bool out, const uint8_t *from, uint8_t next, const uint8_t *body, uint32_t length)
{
    uint8_t packet[80] = {6 << 4};

    packet[6] = next;
    memcpy(packet + 8, from, 16);
    memcpy(packet + 24, all_nodes, 16);
    memcpy(packet + 40, body, 16);
    return out ? comes_from(own, packet, length) : lets_in(own, packet, length);
}

static void messages(const struct own *own)
{
    static const uint8_t solicitation[16] = {135}, query[16] = {58, 0, [8] = 130}, echo[16] = {128};
    static const uint8_t long_options[16] = {58, 1, [8] = 130}, report[16] = {58, 0, [8] = 143};

    CHECK(message(own, false, theirs6, 58, solicitation, 56));
    CHECK(message(own, false, theirs6, 58, solicitation, 41));
    CHECK(!message(own, false, theirs6, 58, solicitation, 40));
    CHECK(!message(own, false, theirs6, 58, echo, 56));
    CHECK(message(own, false, nobody6, 58, solicitation, 56));
    CHECK(message(own, false, theirs6, 0, query, 56));
    CHECK(message(own, false, theirs6, 0, query, 49));
    CHECK(!message(own, false, theirs6, 0, query, 48));
    CHECK(!message(own, false, theirs6, 0, query, 47));
    CHECK(!message(own, false, nobody6, 0, query, 56));
    CHECK(!message(own, false, theirs6, 0, long_options, 56));
    CHECK(!message(own, false, theirs6, 0, report, 56));
    CHECK(message(own, true, nobody6, 0, report, 56));
    CHECK(message(own, true, nobody6, 58, solicitation, 56));
    CHECK(!message(own, true, nobody6, 58, solicitation, 40));
    CHECK(!message(own, true, nobody6, 17, solicitation, 56));
    CHECK(!message(own, true, theirs6, 58, solicitation, 56));
}

/* An address that begins as the network does, for so many bits, and then doesn't. */
static void networks(uint32_t version, uint32_t most)
{
    uint8_t address[16] = {0xac, 0x5a, 0x3c, 0x99, 0x81, 0x7e, 0x24, 0xdb, 1, 2, 3, 4, 5, 6, 7, 8};
    uint32_t source = version == 4 ? 12 : 8, size = version == 4 ? 4 : 16;

    for (uint32_t length = 1; length <= most; length++) {
        struct souppp_network network = {.length = length, .version = version};
        uint8_t packet[40] = {(uint8_t)(version << 4 | 5)};
        struct own *own;

        for (uint32_t bit = 0; bit < length; bit++)
            network.address[bit / 8] |= address[bit / 8] & (0x80 >> bit % 8);
        own = make(network);
        memcpy(packet + source, address, size);
        CHECK(comes_from(own, packet, sizeof packet));
        for (uint32_t bit = 0; bit < most; bit++) {
            packet[source + bit / 8] ^= 0x80 >> bit % 8;
            CHECK(comes_from(own, packet, sizeof packet) == (bit >= length));
            packet[source + bit / 8] ^= 0x80 >> bit % 8;
        }
        free(own);
    }
}

int main(void)
{
    struct own *own = make((struct souppp_network){{203, 0, 113, 8}, 29, 4});
    uint64_t state = 1;

    messages(own);
    networks(4, 32);
    networks(6, 128);
    for (uint32_t i = 0; i < 200000; i++) {
        uint8_t packet[64];
        uint32_t length = chance(&state) % sizeof packet;

        for (uint32_t at = 0; at < sizeof packet; at++)
            packet[at] = chance(&state) & 3 ? 0 : (uint8_t)chance(&state);
        packet[0] = chance(&state) & 1 ? 4 << 4 | 5 : 6 << 4;
        if (length && ip_protocol(packet, length)) {
            lets_in(own, packet, length);
            comes_from(own, packet, length);
        }
    }
    free(own);
    return 0;
}
