/* Segmentation, joining and MSS clamping over random flows: IPv4 options, IPv6 extension headers, TCP options, ECN, URG. */
#include "checksum.h"
#include "mss.h"
#include "offload.h"

static uint64_t state = 7;

static uint32_t below(uint32_t limit)
{
    return chance(&state) % limit;
}

static void fill(uint8_t *at, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        at[i] = (uint8_t)chance(&state);
}

/* A packet up to its data; returns where those begin. Its lengths and checksums are still to be set. */
static uint32_t random_headers(uint8_t *packet, uint8_t protocol)
{
    uint32_t start, at;

    memset(packet, 0, 200);
    if (below(2)) {
        start = 20 + 4 * (below(3) ? 0 : below(11));
        packet[0] = (uint8_t)(0x40 | start / 4);
        packet[1] = (uint8_t)below(4); /* ECN */
        set16(packet + 4, chance(&state));
        packet[6] = below(2) ? 0x40 : 0;
        packet[8] = 64;
        packet[9] = protocol;
        fill(packet + 12, 8);
        memset(packet + 20, 1, start - 20);
    } else {
        static const uint8_t extensions[] = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING};
        uint32_t last = 6;

        start = 40;
        packet[0] = 0x60;
        packet[1] = (uint8_t)(below(4) << 4); /* ECN */
        packet[7] = 64;
        fill(packet + 8, 32);
        for (uint32_t i = below(3) ? 0 : below(4); i; i--) {
            packet[last] = extensions[below(3)];
            packet[start + 1] = (uint8_t)below(3);
            last = start;
            start += (packet[start + 1] + 1u) * 8;
        }
        packet[last] = protocol;
    }
    set32(packet + start, chance(&state));
    if (protocol == IPPROTO_UDP)
        return start + 8;
    fill(packet + start + 4, 8);
    at = start + 20 + 4 * (below(2) ? 3 : below(11));
    packet[start + 12] = (uint8_t)((at - start) / 4 << 4);
    packet[start + 13] = 0x10 | (below(4) ? 0 : TCP_ECE);
    set16(packet + start + 14, 500);
    memset(packet + start + 20, 1, at - start - 20);
    return at;
}

/* Sets lengths and checksums of a whole packet. */
static void seal(uint8_t *packet, uint32_t start, uint32_t length, uint8_t protocol)
{
    struct transport transport;
    uint8_t *field = packet + start + checksum_offset(protocol);
    uint16_t sum;

    ip_finish(packet, start, length);
    if (protocol == IPPROTO_UDP)
        set16(packet + start + 4, length - start);
    set16(field, 0);
    CHECK(transport_find(packet, length, &transport) && transport.start == start && transport.end == length);
    sum = (uint16_t)~sum_fold(sum_add(pseudo_sum(packet, &transport, length - start), packet + start, length - start));
    store_sum(field, protocol == IPPROTO_UDP && !sum ? 0xffff : sum);
    CHECK(checksum_correct(packet, &transport));
}

static void check_checksums(const uint8_t *packet, uint32_t length)
{
    struct transport transport;
    uint8_t pseudo[36] = {0};
    uint32_t sum, addresses;

    CHECK(transport_find(packet, length, &transport) && transport.end == length);
    addresses = transport.version == 4 ? 8 : 32;
    memcpy(pseudo, packet + (transport.version == 4 ? 12 : 8), addresses);
    set16(pseudo + addresses, transport.protocol);
    set16(pseudo + addresses + 2, length - transport.start);
    sum = plain_sum(0, pseudo, addresses + 4);
    CHECK(plain_sum(sum, packet + transport.start, length - transport.start) == 0xffff);
    if (transport.version == 4)
        CHECK(plain_sum(0, packet, transport.start) == 0xffff);
}

/* One random super-packet, cut: the stream, flags, lengths and checksums of what comes out. */
static void cut(uint8_t protocol)
{
    static uint8_t packet[LONGEST], out[LONGEST];
    uint32_t data = random_headers(packet, protocol), size = 1 + below(below(8) ? 20000 : 60), got = 0, number = 0;
    struct transport transport;
    struct segments segments;
    uint32_t mtu = data + 1 + below(1500), length = data + size, sequence, urgent = 0, most;
    vnet_header header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
    uint8_t flags = 0;

    fill(packet + data, size);
    ip_finish(packet, 20, length);
    CHECK(transport_find(packet, length, &transport));
    ip_finish(packet, transport.start, length);
    if (protocol == IPPROTO_TCP) {
        flags = packet[transport.start + 13] |= (uint8_t)(chance(&state) & (TCP_FIN | TCP_PSH | TCP_CWR | TCP_URG));
        urgent = below(size + 100);
        set16(packet + transport.start + 18, urgent);
    } else {
        set16(packet + transport.start + 4, length - transport.start);
    }
    sequence = get32(packet + transport.start + 4);
    header.gso_type = protocol == IPPROTO_UDP    ? VIRTIO_NET_HDR_GSO_UDP_L4
                      : transport.version == 4   ? VIRTIO_NET_HDR_GSO_TCPV4
                                                 : VIRTIO_NET_HDR_GSO_TCPV6;
    header.gso_size = (uint16_t)(1 + below(1460));
    header.csum_start = transport.start;
    header.csum_offset = (uint16_t)checksum_offset(protocol);
    store_sum(packet + transport.start + header.csum_offset,
              sum_fold(pseudo_sum(packet, &transport, length - transport.start)));
    most = header.gso_size;
    if (most > mtu - data) {
        most = mtu - data;
        if (protocol == IPPROTO_UDP && length > mtu) {
            CHECK(segments_begin(&segments, &header, packet, length, mtu) == SEGMENT_TOO_LONG);
            return;
        }
    }
    CHECK(segments_begin(&segments, &header, packet, length, mtu) == SEGMENT_OK);
    CHECK(segments_left(&segments) == (size + most - 1) / most);
    while (segments_left(&segments)) {
        uint32_t n = segments_next(&segments, out);
        const uint8_t *tcp = out + transport.start;
        bool last = segments_left(&segments) == 0;

        CHECK(n <= mtu && n > data && (last || n == data + most));
        check_checksums(out, n);
        CHECK(memcmp(out + data, packet + data + got, n - data) == 0);
        if (transport.version == 4)
            CHECK(get16(out + 4) == (uint16_t)(get16(packet + 4) + number));
        if (protocol == IPPROTO_TCP) {
            CHECK(get32(tcp + 4) == sequence + got);
            CHECK((tcp[13] & (TCP_FIN | TCP_PSH)) == (last ? flags & (TCP_FIN | TCP_PSH) : 0));
            CHECK((tcp[13] & TCP_CWR) == (got ? 0 : flags & TCP_CWR));
            CHECK((tcp[13] & TCP_URG) == (urgent > got ? flags & TCP_URG : 0));
            if (tcp[13] & TCP_URG)
                CHECK(got + get16(tcp + 18) == urgent);
            CHECK((tcp[13] & TCP_ECE) == (flags & TCP_ECE));
        }
        got += n - data;
        number++;
    }
    CHECK(got == size);
}

/* Batches from a few flows that were cut by someone else, with what disturbs joining in between. */
static uint32_t join_batch(void)
{
    enum { FLOWS = 4 };
    static uint8_t headers[FLOWS][512];
    uint8_t packet[4096];
    uint32_t data[FLOWS], start[FLOWS], sizes[FLOWS], slots[FLOWS], super_packets;
    uint32_t count = below(below(16) ? JOIN_MAX / 4 : JOIN_MAX) + 1; /* long ones take their time */
    uint8_t protocols[FLOWS];
    struct sample samples[JOIN_MAX];
    struct transport transport;

    for (int i = 0; i < FLOWS; i++) {
        protocols[i] = below(3) ? IPPROTO_TCP : IPPROTO_UDP;
        data[i] = random_headers(headers[i], protocols[i]);
        ip_finish(headers[i], 20, data[i] + 1);
        CHECK(transport_find(headers[i], data[i] + 1, &transport));
        start[i] = transport.start;
        sizes[i] = 1 + below(1400);
        slots[i] = below(2);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t flow = below(1 + below(FLOWS)), size = below(10) ? sizes[flow] : below(1500), length;
        uint8_t *header = headers[flow], *tcp = packet + start[flow];

        memcpy(packet, header, data[flow]);
        fill(packet + data[flow], size);
        length = data[flow] + size;
        if (protocols[flow] == IPPROTO_TCP) {
            set32(header + start[flow] + 4, get32(header + start[flow] + 4) + size);
            if (below(10) == 0)
                tcp[13] |= (uint8_t)(1u << below(8));
            if (below(20) == 0)
                set32(tcp + 4, get32(tcp + 4) + below(3000)); /* a hole, or a repetition */
            if (below(20) == 0)
                set32(tcp + 8, chance(&state));
        }
        if (header[0] >> 4 == 4)
            set16(header + 4, get16(header + 4) + (below(20) ? 1 : 2));
        if (below(30) == 0)
            packet[1] ^= 1; /* congestion was met, or another flow label */
        seal(packet, start[flow], length, protocols[flow]);
        if (below(30) == 0)
            packet[below(length)] ^= 1;
        if (below(30) == 0 && packet[0] >> 4 == 4)
            packet[6] |= 0x20; /* a fragment */
        length += below(20) ? 0 : below(10); /* padding */
        samples[i] = sample_new(slots[flow], packet, length);
    }
    super_packets = check_round_trip(samples, count, below(5) != 0);
    for (uint32_t i = 0; i < count; i++)
        sample_free(&samples[i]);
    return super_packets;
}

/* What has no checksum yet gets one; what has one keeps it. */
static void finish_checksums(void)
{
    static uint8_t packet[LONGEST], out[LONGEST];
    uint8_t protocol = below(2) ? IPPROTO_TCP : IPPROTO_UDP;
    uint32_t data = random_headers(packet, protocol), length = data + below(1000);
    struct transport transport;
    struct segments segments;
    vnet_header header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_offset = (uint16_t)checksum_offset(protocol)};

    fill(packet + data, length - data);
    ip_finish(packet, 20, length);
    CHECK(transport_find(packet, length, &transport));
    seal(packet, transport.start, length, protocol);
    CHECK(segments_begin(&segments, &(vnet_header){0}, packet, length, length) == SEGMENT_OK);
    CHECK(segments_next(&segments, out) == length && segments_left(&segments) == 0);
    CHECK(memcmp(out, packet, length) == 0);
    header.csum_start = transport.start;
    store_sum(packet + transport.start + header.csum_offset,
              sum_fold(pseudo_sum(packet, &transport, length - transport.start)));
    CHECK(segments_begin(&segments, &header, packet, length, length) == SEGMENT_OK);
    CHECK(segments_next(&segments, out) == length && segments_left(&segments) == 0);
    check_checksums(out, length);
    CHECK(segments_begin(&segments, &header, packet, length, length - 1) == SEGMENT_TOO_LONG);
    header.csum_start = (uint16_t)length;
    CHECK(segments_begin(&segments, &header, packet, length, length) == SEGMENT_BAD);
}

static uint32_t mss_of(const uint8_t *packet, uint32_t length)
{
    struct transport transport;

    CHECK(transport_find(packet, length, &transport));
    for (uint32_t at = transport.start + 20u; at + 4 <= transport.data; at += packet[at] == 1 ? 1 : packet[at + 1])
        if (packet[at] == 2)
            return get16(packet + at + 2);
    return 0;
}

static void clamp(void)
{
    uint8_t packet[512] = {0}, before[512];
    uint32_t data = random_headers(packet, IPPROTO_TCP), start, place, mss = below(2000), fits, length;
    struct transport transport;

    ip_finish(packet, 20, data);
    CHECK(transport_find(packet, data, &transport));
    start = transport.start;
    packet[start + 12] = 0x80; /* 12 octets of options: NOPs, with the MSS anywhere among them */
    data = length = start + 32u;
    memset(packet + start + 20, 1, 12);
    place = start + 20 + below(9);
    packet[place] = 2;
    packet[place + 1] = 4;
    set16(packet + place + 2, mss);
    packet[start + 13] = TCP_SYN | (below(2) ? 0x10 : 0);
    seal(packet, start, length, IPPROTO_TCP);
    fits = 1400 - (packet[0] >> 4 == 4 ? 40 : 60);
    mss_clamp(packet, length, 1400);
    CHECK(mss_of(packet, length) == (mss < fits ? mss : fits));
    check_checksums(packet, length);
    memcpy(before, packet, length);
    mss_clamp(packet, length, 1400);
    CHECK(memcmp(before, packet, length) == 0);
    packet[start + 13] = 0x10; /* no SYN: what looks like an option stays */
    memcpy(before, packet, length);
    mss_clamp(packet, length, 100);
    CHECK(memcmp(before, packet, length) == 0);
    packet[start + 13] = TCP_SYN;
    packet[start + 20 + below(12)] = (uint8_t)chance(&state); /* options that make no sense: the sanitizer watches */
    mss_clamp(packet, length, 100);
}

int main(void)
{
    uint32_t super_packets = 0;

    for (int i = 0; i < 4000; i++) {
        cut(i % 3 ? IPPROTO_TCP : IPPROTO_UDP);
        super_packets += join_batch();
        finish_checksums();
        clamp();
    }
    CHECK(super_packets > 4000);
    return 0;
}
