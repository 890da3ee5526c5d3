/* Parsing any octets as a frame stays inside them. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "own.h"
#include "router.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is let in doesn't look as if it came from us, with addresses that inputs are likely to have. */
static void check_own(uint16_t protocol, const uint8_t *packet, uint32_t length)
{
    static const struct souppp_own from = {
        .open = IPV4_OPEN | IPV6_OPEN,
        .network_count = 2,
        .ipv4 = {192, 0, 2, 1},
        .ipv6 = {0xfe, 0x80, [15] = 1},
        .networks = {{{192, 0, 2, 8}, 29, 4}, {{0x20, 1, 0xd, 0xb8}, 32, 6}},
    };
    static struct own *own;

    if (!own)
        own = own_new(&from);
    if (way_in(own, protocol, packet, length) == LET_IN && is_from_us(own, protocol, packet, length))
        CHECK(protocol == PPP_IPV6 && packet[8] == 0); /* :: looks for a neighbour */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frame;

    if (frame_parse(data, (uint32_t)size, &frame) == FRAME_DATA) {
        CHECK(frame.packet >= data && frame.packet + frame.length <= data + size);
        uint16_t protocol = ip_protocol(frame.packet, frame.length);

        if (protocol) {
            is_router_message(frame.packet, frame.length);
            check_own(protocol, frame.packet, frame.length);
        }
    }
    return 0;
}
