/* Frames as octets: every cut of good frames and a great many random ones, in buffers with not an octet to spare. */
#include <stdint.h>

#include "check.h"
#include "octets.h"
#include "wire.h"

static const uint8_t octets_of_packet[40] = {0x60};

static uint32_t build(const struct session_address *address, uint8_t *frame)
{
    uint32_t length = header_build(address, frame);

    header_finish(frame + length, PPP_IPV6, sizeof octets_of_packet);
    memcpy(frame + length, octets_of_packet, sizeof octets_of_packet);
    return length + sizeof octets_of_packet;
}

static void swap_addresses(uint8_t *frame)
{
    uint8_t destination[6];

    memcpy(destination, frame, 6);
    memcpy(frame, frame + 6, 6);
    memcpy(frame + 6, destination, 6);
}

/* The sanitizer watches the end of the heap block. */
static enum frame_kind parse_exact(const uint8_t *frame, uint32_t length, struct frame *out)
{
    uint8_t *copy = malloc(length ? length : 1);
    enum frame_kind kind;

    memcpy(copy, frame, length);
    kind = frame_parse(copy, length, out);
    if (kind == FRAME_DATA) {
        uint64_t sum = 0;

        CHECK(out->packet >= copy && out->packet + out->length <= copy + length);
        for (uint32_t i = 0; i < out->length; i++)
            sum += out->packet[i];
        CHECK(sum < UINT64_MAX);
        out->packet = frame + (out->packet - copy);
    }
    free(copy);
    return kind;
}

static void round_trip(uint32_t tags)
{
    const struct session_address address = {
        .own_mac = {2, 0, 0, 0, 0, 1},
        .peer_mac = {2, 0, 0, 0, 0, 2},
        .session_id = 0x1234,
        .vlan_count = tags & 0xffff,
        .vlans = {{ETHERTYPE_SERVICE_VLAN, 0x6064}, {ETHERTYPE_VLAN, 0xaffe}},
    };
    struct key key = session_key(&address);
    uint8_t frame[128];
    uint32_t length = build(&address, frame);
    struct frame parsed;

    CHECK(length == 22 + 4 * tags + sizeof octets_of_packet);
    swap_addresses(frame); /* as the peer sends it */
    CHECK(parse_exact(frame, length, &parsed) == FRAME_DATA);
    CHECK(memcmp(&parsed.key, &key, sizeof key) == 0);
    CHECK(parsed.length == sizeof octets_of_packet);
    CHECK(memcmp(parsed.packet, octets_of_packet, sizeof octets_of_packet) == 0);
    CHECK(ip_protocol(parsed.packet, parsed.length) == PPP_IPV6);
    for (uint32_t cut = 0; cut < length; cut++)
        CHECK(parse_exact(frame, cut, &parsed) == FRAME_BAD_LENGTH);
    frame[12 + 4 * tags + 3] = 1;
    CHECK(parse_exact(frame, length, &parsed) == FRAME_BAD_HEADER);
}

/* Cheaply dropped before they cost the engine anything; other protocols may have other headers. */
static void control_packets_are_whole(void)
{
    static const uint16_t spoken[] = {PPP_LCP, PPP_PAP, PPP_CHAP, PPP_IPCP, PPP_IPV6CP};
    uint8_t frame[] = {2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x88, 0x64, 0x11, 0, 0, 1, 0, 8, 0, 0, 9, 1, 0, 0, 1, 2};
    struct frame parsed;

    for (size_t i = 0; i < sizeof spoken / sizeof *spoken; i++) {
        set16(frame + 20, spoken[i]);
        for (uint32_t length = 0; length < 9; length++) {
            set16(frame + 24, length);
            CHECK(parse_exact(frame, sizeof frame, &parsed) ==
                  (length >= 4 && length <= 6 ? FRAME_CONTROL : FRAME_BAD_LENGTH));
        }
        set16(frame + 24, 4);
        set16(frame + 18, 5); /* LENGTH cuts the header */
        CHECK(parse_exact(frame, sizeof frame, &parsed) == FRAME_BAD_LENGTH);
        set16(frame + 18, 8);
    }
    set16(frame + 20, 0xc025); /* a Link-Quality-Report has no such header */
    set16(frame + 24, 0);
    CHECK(parse_exact(frame, sizeof frame, &parsed) == FRAME_CONTROL);
}

/* A PADT is looked up like what it ends; other discovery belongs to no session. */
static void padt_is_its_sessions(void)
{
    const struct session_address address = {.own_mac = {2}, .peer_mac = {4}, .session_id = 0x1234};
    struct key key = session_key(&address);
    uint8_t frame[20] = {2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x88, 0x63, 0x11, PPPOE_PADT, 0x12, 0x34, 0, 0};
    struct frame parsed;

    CHECK(parse_exact(frame, sizeof frame, &parsed) == FRAME_CONTROL);
    CHECK(memcmp(&parsed.key, &key, sizeof key) == 0);
    for (uint32_t cut = 0; cut < sizeof frame; cut++)
        CHECK(parse_exact(frame, cut, &parsed) == FRAME_BAD_LENGTH);
    frame[15] = 0x65;
    CHECK(parse_exact(frame, sizeof frame, &parsed) == FRAME_DISCOVERY);
}

/* A tag with id 0 is a priority and no VLAN, and a TPID tells no VLANs apart; yet tags of any kind are two at most. */
static void vlan_ids_alone_are_the_key(void)
{
    const struct session_address plain = {.session_id = 1};
    const struct session_address tagged = {.session_id = 1, .vlan_count = 1, .vlans = {{ETHERTYPE_VLAN, 7}}};
    const struct session_address other = {.session_id = 1, .vlan_count = 2, .vlans = {{ETHERTYPE_VLAN, 7}, {0x8100, 8}}};
    const struct {
        const struct session_address *meant;
        struct session_address seen;
    } pairs[] = {
        {&plain, {.session_id = 1, .vlan_count = 1, .vlans = {{ETHERTYPE_VLAN, 0xe000}}}},
        {&plain, {.session_id = 1, .vlan_count = 2, .vlans = {{ETHERTYPE_SERVICE_VLAN, 0}, {ETHERTYPE_VLAN, 0xf000}}}},
        {&tagged, {.session_id = 1, .vlan_count = 2, .vlans = {{ETHERTYPE_VLAN, 0xe000}, {ETHERTYPE_VLAN, 7}}}},
        {&tagged, {.session_id = 1, .vlan_count = 2, .vlans = {{ETHERTYPE_VLAN, 7}, {ETHERTYPE_SERVICE_VLAN, 0x1000}}}},
        {&tagged, {.session_id = 1, .vlan_count = 1, .vlans = {{ETHERTYPE_SERVICE_VLAN, 0xf007}}}},
        {&other, {.session_id = 1, .vlan_count = 2, .vlans = {{ETHERTYPE_SERVICE_VLAN, 7}, {ETHERTYPE_VLAN, 0x2008}}}},
    };
    uint8_t frame[128];
    struct frame parsed;

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct key meant = session_key(pairs[i].meant), key = session_key(&pairs[i].seen);
        uint32_t length = build(&pairs[i].seen, frame);

        CHECK(frame_parse(frame, length, &parsed) == FRAME_DATA);
        CHECK(memcmp(&parsed.key, &meant, sizeof meant) == 0);
        CHECK(memcmp(&key, &meant, sizeof meant) == 0);
    }
    memmove(frame + 16, frame + 12, sizeof frame - 16); /* one tag more */
    CHECK(frame_parse(frame, sizeof frame, &parsed) == FRAME_BAD_HEADER);
}

static void random_frames(void)
{
    static const uint8_t likely[] = {0x81, 0x00, 0x88, 0xa8, 0x88, 0x63, 0x88, 0x64, 0x11, 0x00, 0x21, 0x57, 0xc0};
    uint64_t state = 1;
    uint32_t seen[FRAME_DATA + 1] = {0};

    for (int n = 0; n < 300000; n++) {
        uint8_t frame[80];
        uint32_t length = chance(&state) % (sizeof frame + 1);
        struct frame parsed;

        for (uint32_t i = 0; i < sizeof frame; i++)
            frame[i] = chance(&state) % 4 ? likely[chance(&state) % sizeof likely] : (uint8_t)chance(&state);
        if (n % 2) { /* far enough to be interesting */
            frame[12] = 0x88;
            frame[13] = 0x63 + chance(&state) % 2;
            frame[14] = 0x11;
            frame[15] = 0;
            frame[18] = 0;
        }
        seen[parse_exact(frame, length, &parsed)]++;
    }
    for (int kind = 0; kind <= FRAME_DATA; kind++)
        CHECK(seen[kind] > 100);
}

int main(void)
{
    for (uint32_t tags = 0; tags <= MAX_VLAN_TAGS; tags++)
        round_trip(tags);
    control_packets_are_whole();
    padt_is_its_sessions();
    vlan_ids_alone_are_the_key();
    random_frames();
    return 0;
}
