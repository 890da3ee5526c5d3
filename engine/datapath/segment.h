/* Cutting a super-packet, as a TUN device with segmentation offload gives it, into packets for the wire.
 *
 * The kernel leaves two things to us: to cut TCP and UDP packets of up to 64 KB into segments, and to finish checksums
 * that so far cover only the pseudo-header. Pure functions.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "transport.h"
#include "vnet.h"

enum segment_error {
    SEGMENT_OK,
    SEGMENT_BAD,      /* what the header says doesn't fit the packet */
    SEGMENT_TOO_LONG, /* it can't be cut to the MTU */
};

struct segments {
    const uint8_t *packet;
    struct transport transport;
    uint32_t end;            /* of the packet */
    uint32_t size;           /* data octets in each segment but the last; 0: the packet goes as it is */
    uint32_t next;           /* the offset of what comes next */
    uint32_t number;         /* segments given so far */
    uint32_t checksum_start; /* of a packet that goes as it is; 0: its checksum is finished */
    uint32_t checksum_at;
};

/* `packet` stays as it is and must remain there until the last segment was given. */
enum segment_error segments_begin(struct segments *segments, const vnet_header *header, const uint8_t *packet,
                                  uint32_t length, uint32_t mtu);

/* With segments_left() > 0 only: writes the next packet, at most `mtu` octets, to `out` and returns its length. */
uint32_t segments_next(struct segments *segments, uint8_t *out);

/* How many packets are to come. */
uint32_t segments_left(const struct segments *segments);
