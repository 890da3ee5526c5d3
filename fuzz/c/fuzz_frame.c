/* Parsing any octets as a frame stays inside them. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "router.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame frame;

    if (frame_parse(data, (uint32_t)size, &frame) == FRAME_DATA) {
        CHECK(frame.packet >= data && frame.packet + frame.length <= data + size);
        if (ip_protocol(frame.packet, frame.length))
            is_router_message(frame.packet, frame.length);
    }
    return 0;
}
