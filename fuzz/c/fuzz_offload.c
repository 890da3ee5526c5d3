/* Joining, cutting and clamping on anything: the input is a batch of packets, and a packet with an offload header. */
#include "mss.h"
#include "offload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Without right checksums hardly anything would ever be joined. */
static void repair(uint8_t *packet, uint32_t length)
{
    struct transport transport;
    uint8_t *field;

    if (!transport_find(packet, length, &transport))
        return;
    if (transport.version == 4)
        ip_finish(packet, transport.start, transport.end);
    if (transport.protocol == IPPROTO_UDP)
        set16(packet + transport.start + 4, transport.end - transport.start);
    field = packet + transport.start + checksum_offset(transport.protocol);
    set16(field, 0);
    set16(field, 0xffff & ~plain_sum(0, packet + transport.start, transport.end - transport.start));
    for (uint32_t i = transport.version == 4 ? 12 : 8, end = transport.version == 4 ? 20 : 40; i < end; i += 2)
        set16(field, 0xffff & ~(plain_sum((uint32_t)get16(packet + i) + (0xffff & ~get16(field)), packet, 0)));
    set16(field, 0xffff & ~plain_sum(0xffffu & ~get16(field), (uint8_t[]){0, transport.protocol}, 2));
    set16(field, 0xffff & ~plain_sum((0xffffu & ~get16(field)) + (transport.end - transport.start), packet, 0));
    if (transport.protocol == IPPROTO_UDP && !get16(field))
        set16(field, 0xffff);
}

static void cut(const uint8_t *data, uint32_t size)
{
    static uint8_t out[LONGEST];
    struct segments segments;
    vnet_header header;
    uint32_t mtu, length;
    uint8_t *packet;

    if (size < sizeof header + 2)
        return;
    memcpy(&header, data, sizeof header);
    mtu = get16(data + sizeof header);
    length = size - (uint32_t)sizeof header - 2;
    packet = malloc(length ? length : 1);
    memcpy(packet, data + sizeof header + 2, length);
    if (length && segments_begin(&segments, &header, packet, length, mtu) == SEGMENT_OK)
        while (segments_left(&segments))
            CHECK(segments_next(&segments, out) <= mtu);
    free(packet);
}

/* Each packet is a control octet, a length of two octets and that many octets; it may take the headers of the packet
 * before it, moved on as the next segment of the same flow. */
static void join(const uint8_t *data, uint32_t size)
{
    struct sample samples[JOIN_MAX];
    static uint8_t packet[4096];
    uint32_t count = 0, last = 0, moved = 0;

    for (uint32_t at = 0; at + 3 <= size && count < JOIN_MAX; count++) {
        uint8_t how = data[at];
        uint32_t length = get16(data + at + 1) % 2048;
        struct transport transport;

        at += 3;
        if (length > size - at)
            length = size - at;
        if (how & 4 && transport_find(packet, last, &transport)) {
            moved = transport.end - transport.data;
            if (transport.version == 4)
                set16(packet + 4, get16(packet + 4) + 1);
            if (transport.protocol == IPPROTO_TCP)
                set32(packet + transport.start + 4, get32(packet + transport.start + 4) + moved);
            length = length < moved ? length : moved;
            memcpy(packet + transport.data, data + at, length);
            at += length;
            length = last;
        } else {
            memcpy(packet, data + at, length);
            at += length;
        }
        last = length;
        if (how & 2)
            repair(packet, length);
        samples[count] = sample_new(how & 1, packet, length);
        mss_clamp(packet, length, 1400);
        if (length)
            memcpy(packet, samples[count].before, length);
    }
    check_round_trip(samples, count, true);
    for (uint32_t i = 0; i < count; i++)
        sample_free(&samples[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (data[0] & 1)
        cut(data + 1, (uint32_t)size - 1);
    else
        join(data + 1, (uint32_t)size - 1);
    return 0;
}
