/* What must hold for joining and cutting, whatever the packets: used by the tests and by the fuzzers. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "join.h"
#include "segment.h"

enum { LONGEST = 65536 + 64, HEADER = sizeof(vnet_header) };

struct sample {
    uint32_t slot, length;
    uint8_t *packet; /* on the heap without an octet to spare: the sanitizer watches its end */
    uint8_t *before; /* as it was */
};

static inline struct sample sample_new(uint32_t slot, const uint8_t *packet, uint32_t length)
{
    struct sample sample = {slot, length, malloc(HEADER + length), malloc(length ? length : 1)};

    sample.packet += HEADER;

    memcpy(sample.packet, packet, length);
    memcpy(sample.before, packet, length);
    return sample;
}

static inline void sample_free(struct sample *sample)
{
    free(sample->packet - HEADER);
    free(sample->before);
}

/* RFC 1071 as it is written there: octet by octet. */
static inline uint32_t plain_sum(uint32_t sum, const uint8_t *at, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        sum += i & 1 ? at[i] : (uint32_t)at[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline bool same_checksum(const uint8_t *a, const uint8_t *b)
{
    return (get16(a) ? get16(a) : 0xffff) == (get16(b) ? get16(b) : 0xffff); /* two ways to write zero */
}

/* Equal but for an identification that has no meaning, and the checksums that follow from it. */
static inline void check_same_packet(const uint8_t *was, const uint8_t *is, uint32_t length)
{
    struct transport transport;
    uint8_t *copy = malloc(length ? length : 1);

    memcpy(copy, is, length);
    if (transport_find(was, length, &transport)) {
        uint8_t *field = copy + transport.start + checksum_offset(transport.protocol);
        const uint8_t *field_was = was + (field - copy);

        if (same_checksum(field, field_was))
            memcpy(field, field_was, 2);
        if (transport.version == 4 && (was[6] & 0x40))
            memcpy(copy + 4, was + 4, 2);
        if (transport.version == 4 && ((was[6] & 0x40) || same_checksum(copy + 10, was + 10)))
            memcpy(copy + 10, was + 10, 2);
    }
    CHECK(memcmp(was, copy, length) == 0);
    free(copy);
}

/* Must b come after a, if it did? */
static inline bool ordered(const struct sample *a, const struct sample *b)
{
    struct transport one, other;
    bool flow_a = transport_find(a->before, a->length, &one), flow_b = transport_find(b->before, b->length, &other);

    if (a->slot != b->slot)
        return false;
    if (!flow_a || !flow_b)
        return flow_a != flow_b; /* neither has a flow: they are written one by one */
    return one.version == other.version && one.protocol == other.protocol &&
           memcmp(a->before + one.start, b->before + other.start, 4) == 0 &&
           memcmp(a->before + (one.version == 4 ? 12 : 8), b->before + (one.version == 4 ? 12 : 8),
                  one.version == 4 ? 8 : 32) == 0;
}

/* Cutting what was joined gives back the same packets, each once, and those of a flow in their order. Returns how many
 * super-packets there were. */
static inline uint32_t check_round_trip(struct sample *samples, uint32_t count, bool udp)
{
    static struct join join;
    static uint8_t super[LONGEST], out[LONGEST];
    uint32_t order[JOIN_MAX], done = 0, super_packets = 0;
    struct iovec vector[JOIN_MAX];
    vnet_header header;

    join_begin(&join);
    for (uint32_t i = 0; i < count; i++)
        join_add(&join, samples[i].slot, samples[i].packet, samples[i].length, udp);
    for (uint32_t t = 0; t < join.train_count; t++) {
        struct train train = join.trains[t];
        uint32_t parts = join_write(&join, t, vector), length = 0, piece = train.first, octets = 0;
        struct segments segments;

        memcpy(&header, vector[0].iov_base, HEADER);
        vector[0] = (struct iovec){(uint8_t *)vector[0].iov_base + HEADER, vector[0].iov_len - HEADER};
        for (uint32_t i = 0; i < parts; i++) {
            memcpy(super + length, vector[i].iov_base, vector[i].iov_len);
            length += (uint32_t)vector[i].iov_len;
        }
        CHECK(length == train.length && length <= 65535);
        super_packets += train.count > 1;
        CHECK((header.gso_type == VIRTIO_NET_HDR_GSO_NONE) == (train.count == 1));
        CHECK(segments_begin(&segments, &header, super, length, UINT32_MAX) == SEGMENT_OK);
        CHECK(segments_left(&segments) == train.count);
        for (uint32_t i = 0; i < train.count; i++, piece = join.pieces[piece].next) {
            const struct sample *sample = &samples[piece];
            uint32_t size = segments_next(&segments, out);

            CHECK(sample->slot == train.slot && size <= sample->length);
            check_same_packet(sample->before, out, size);
            octets += size;
            order[done++] = piece;
        }
        CHECK(octets == train.octets);
        CHECK(segments_left(&segments) == 0);
    }
    CHECK(done == count);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = i + 1; j < count; j++) {
            CHECK(order[i] != order[j]);
            CHECK(order[i] < order[j] || !ordered(&samples[order[j]], &samples[order[i]]));
        }
    return super_packets;
}
