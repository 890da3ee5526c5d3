#include "join.h"

#include "checksum.h"

enum { MAX_IP_PACKET = 65535 };

static uint32_t mix(uint32_t hash, uint32_t word)
{
    hash = (hash ^ word) * 0x9e3779b1u;
    return hash ^ hash >> 15;
}

static uint32_t flow_hash(uint32_t slot, const struct piece *piece)
{
    const uint8_t *addresses = piece->packet + (piece->transport.version == 4 ? 12 : 20);
    uint32_t hash = mix(slot, get32(piece->packet + piece->transport.start));

    hash = mix(hash, get32(addresses));
    return mix(hash, get32(addresses + (piece->transport.version == 4 ? 4 : 16))) | 1;
}

static bool same_octets(const struct piece *a, const struct piece *b, uint32_t from, uint32_t to)
{
    return memcmp(a->packet + from, b->packet + from, to - from) == 0;
}

static bool same_flow(const struct piece *a, const struct piece *b)
{
    const struct transport *one = &a->transport, *other = &b->transport;

    if (one->version != other->version || one->protocol != other->protocol)
        return false;
    return memcmp(a->packet + one->start, b->packet + other->start, 4) == 0 &&
           (one->version == 4 ? same_octets(a, b, 12, 20) : same_octets(a, b, 8, 40));
}

/* The latest train of the piece's flow. */
static struct train *find_train(struct join *join, uint32_t slot, uint32_t flow, const struct piece *piece)
{
    struct train *train;

    for (uint32_t link = join->latest[join_bucket(flow)]; link; link = train->before) {
        train = &join->trains[link - 1];
        if (train->flow == flow && train->slot == slot && same_flow(&join->pieces[train->first], piece))
            return train;
    }
    return NULL;
}

/* Can it be part of a super-packet at all? */
static bool joinable(const struct piece *piece, bool udp)
{
    const struct transport *transport = &piece->transport;

    if (transport->data == transport->end)
        return false;
    if (transport->protocol == IPPROTO_UDP)
        return udp;
    return !(piece->packet[transport->start + 13] & (TCP_SYN | TCP_RST | TCP_URG | TCP_CWR));
}

/* Would segmentation give this piece the number `number` in a train that begins with `first`? */
static bool same_ip_header(const struct piece *first, const struct piece *piece, uint32_t number)
{
    uint32_t start = first->transport.start;

    if (start != piece->transport.start)
        return false;
    if (first->transport.version == 6) /* all but the length */
        return same_octets(first, piece, 0, 4) && same_octets(first, piece, 6, 8) &&
               same_octets(first, piece, 40, start);
    /* The identification has no meaning where fragmenting is forbidden: RFC 6864. */
    return same_octets(first, piece, 0, 2) && same_octets(first, piece, 6, 10) &&
           same_octets(first, piece, 20, start) &&
           (first->packet[6] & 0x40 ||
            (uint16_t)(get16(first->packet + 4) + number) == get16(piece->packet + 4));
}

static bool follows(const struct join *join, const struct train *train, const struct piece *piece)
{
    const struct piece *first = &join->pieces[train->first];
    uint32_t start = first->transport.start, data = first->transport.data;
    uint32_t size = piece->transport.end - piece->transport.data;

    if (!same_ip_header(first, piece, train->count) || data != piece->transport.data || size > train->size ||
        train->length + size > MAX_IP_PACKET)
        return false;
    if (first->transport.protocol == IPPROTO_UDP)
        return train->count < UDP_SEGMENTS;
    return get32(piece->packet + start + 4) == train->sequence && same_octets(first, piece, start + 8, start + 13) &&
           !((first->packet[start + 13] ^ piece->packet[start + 13]) & ~(TCP_FIN | TCP_PSH)) &&
           same_octets(first, piece, start + 14, start + 16) && same_octets(first, piece, start + 18, data);
}

static void append(struct join *join, struct train *train, uint32_t number)
{
    const struct piece *piece = &join->pieces[number];
    const struct transport *transport = &piece->transport;
    uint32_t size = transport->end - transport->data;

    join->pieces[train->last].next = number;
    train->last = number;
    train->count++;
    train->length += size;
    train->octets += transport->end;
    train->sequence += size;
    train->open = size == train->size;
    if (transport->protocol == IPPROTO_TCP && piece->packet[transport->start + 13] & (TCP_FIN | TCP_PSH))
        train->open = false;
}

static struct train *new_train(struct join *join, uint32_t slot, uint32_t flow, uint32_t number, uint32_t length)
{
    struct train *train = &join->trains[join->train_count++];
    uint16_t *latest = &join->latest[join_bucket(flow)];

    *train = (struct train){.slot = slot,
                            .flow = flow,
                            .before = *latest,
                            .first = number,
                            .last = number,
                            .count = 1,
                            .length = length,
                            .octets = length};
    *latest = (uint16_t)join->train_count;
    return train;
}

void join_add(struct join *join, uint32_t slot, uint8_t *packet, uint32_t length, bool udp)
{
    uint32_t number = join->piece_count++, flow;
    struct piece *piece = &join->pieces[number];
    const struct transport *transport = &piece->transport;
    struct train *train;
    bool verified;

    piece->packet = packet;
    if (!transport_find(packet, length, &piece->transport)) { /* a fragment, say, may belong to any flow */
        for (uint32_t i = 0; i < join->train_count; i++)
            if (join->trains[i].slot == slot)
                join->trains[i].open = false;
        new_train(join, slot, 0, number, length);
        return;
    }
    flow = flow_hash(slot, piece);
    verified = checksum_correct(packet, transport);
    train = find_train(join, slot, flow, piece);
    if (train && train->open) {
        if (verified && joinable(piece, udp) && follows(join, train, piece)) {
            append(join, train, number);
            return;
        }
        train->open = false;
    }
    train = new_train(join, slot, flow, number, transport->end);
    train->verified = verified;
    if (!verified || !joinable(piece, udp))
        return;
    train->size = transport->end - transport->data;
    train->open = true;
    if (transport->protocol == IPPROTO_TCP) {
        train->sequence = get32(packet + transport->start + 4) + train->size;
        train->open = !(packet[transport->start + 13] & (TCP_FIN | TCP_PSH));
    }
}

static void finish_super_packet(const struct join *join, const struct train *train, vnet_header *header)
{
    const struct piece *first = &join->pieces[train->first], *last = &join->pieces[train->last];
    const struct transport *transport = &first->transport;
    uint8_t *start = first->packet + transport->start;
    uint32_t length = train->length - transport->start;

    ip_finish(first->packet, transport->start, train->length);
    if (transport->protocol == IPPROTO_TCP)
        start[13] |= last->packet[transport->start + 13] & (TCP_FIN | TCP_PSH);
    else
        set16(start + 4, length);
    store_sum(start + checksum_offset(transport->protocol), sum_fold(pseudo_sum(first->packet, transport, length)));
    *header = (vnet_header){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = transport->protocol == IPPROTO_UDP ? VIRTIO_NET_HDR_GSO_UDP_L4
                    : transport->version == 4          ? VIRTIO_NET_HDR_GSO_TCPV4
                                                       : VIRTIO_NET_HDR_GSO_TCPV6,
        .hdr_len = transport->data,
        .gso_size = (uint16_t)train->size,
        .csum_start = transport->start,
        .csum_offset = (uint16_t)checksum_offset(transport->protocol),
    };
}

uint32_t join_write(struct join *join, uint32_t number, struct iovec *vector)
{
    const struct train *train = &join->trains[number];
    const struct piece *piece = &join->pieces[train->first];
    vnet_header header = {.flags = train->verified ? VIRTIO_NET_HDR_F_DATA_VALID : 0};
    uint32_t parts = 0, length = train->length;

    if (train->count > 1) {
        finish_super_packet(join, train, &header);
        length = piece->transport.end;
    }
    memcpy(piece->packet - sizeof header, &header, sizeof header);
    vector[parts++] = (struct iovec){piece->packet - sizeof header, sizeof header + length};
    for (uint32_t i = 1; i < train->count; i++) {
        piece = &join->pieces[piece->next];
        vector[parts++] = (struct iovec){piece->packet + piece->transport.data,
                                         piece->transport.end - piece->transport.data};
    }
    return parts;
}
