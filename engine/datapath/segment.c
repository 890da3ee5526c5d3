#include "segment.h"

#include "checksum.h"

static enum segment_error begin_cut(struct segments *s, uint8_t protocol, uint32_t mtu, const vnet_header *header)
{
    const struct transport *transport = &s->transport;

    if (!transport_find(s->packet, s->end, &s->transport) || transport->protocol != protocol || !header->gso_size ||
        !(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || header->csum_start != transport->start)
        return SEGMENT_BAD;
    s->end = transport->end;
    s->next = transport->data;
    s->size = header->gso_size;
    if (mtu <= transport->data)
        return SEGMENT_TOO_LONG;
    if (s->size > mtu - transport->data) {
        if (protocol == IPPROTO_UDP && s->end > mtu) /* a datagram's bounds are the application's */
            return SEGMENT_TOO_LONG;
        s->size = mtu - transport->data;
    }
    return SEGMENT_OK;
}

enum segment_error segments_begin(struct segments *s, const vnet_header *header, const uint8_t *packet,
                                  uint32_t length, uint32_t mtu)
{
    *s = (struct segments){.packet = packet, .end = length};
    switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return begin_cut(s, IPPROTO_TCP, mtu, header);
    case VIRTIO_NET_HDR_GSO_UDP_L4:
        return begin_cut(s, IPPROTO_UDP, mtu, header);
    case VIRTIO_NET_HDR_GSO_NONE:
        break;
    default:
        return SEGMENT_BAD;
    }
    if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        s->checksum_start = header->csum_start;
        s->checksum_at = (uint32_t)header->csum_start + header->csum_offset;
        if (!s->checksum_start || s->checksum_at + 2 > length)
            return SEGMENT_BAD;
    }
    return length > mtu ? SEGMENT_TOO_LONG : SEGMENT_OK;
}

/* `sum` is that of the pseudo-header; the field in the packet is part of what is summed up and must be 0. */
static void finish_checksum(uint8_t *field, uint64_t sum, const uint8_t *start, uint32_t length, bool udp)
{
    uint16_t checksum = (uint16_t)~sum_fold(sum_add(sum, start, length));

    store_sum(field, udp && !checksum ? 0xffff : checksum); /* 0 would mean that there is none: RFC 768 */
}

static uint32_t whole(struct segments *s, uint8_t *out)
{
    s->number++;
    memcpy(out, s->packet, s->end);
    if (s->checksum_start) {
        uint8_t *field = out + s->checksum_at;
        uint16_t pseudo = load_sum(field);

        set16(field, 0);
        finish_checksum(field, pseudo, out + s->checksum_start, s->end - s->checksum_start,
                        s->checksum_at - s->checksum_start == checksum_offset(IPPROTO_UDP));
    }
    return s->end;
}

/* What of a TCP header belongs to all, to the first or to the last segment only. */
static void cut_tcp(uint8_t *tcp, uint32_t offset, bool last)
{
    uint32_t urgent = get16(tcp + 18);

    set32(tcp + 4, get32(tcp + 4) + offset);
    if (!last)
        tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    if (offset)
        tcp[13] &= (uint8_t)~TCP_CWR; /* RFC 3168 section 6.1.2 */
    if (tcp[13] & TCP_URG) { /* the pointer counts from this segment's sequence number */
        if (urgent <= offset)
            tcp[13] &= (uint8_t)~TCP_URG;
        set16(tcp + 18, urgent > offset ? urgent - offset : 0);
    }
}

uint32_t segments_next(struct segments *s, uint8_t *out)
{
    const struct transport *transport = &s->transport;
    uint32_t start = transport->start, offset = s->next - transport->data;
    uint32_t size, length;
    uint8_t *header = out + start, *field;
    uint64_t sum;

    if (!s->size)
        return whole(s, out);
    size = s->end - s->next < s->size ? s->end - s->next : s->size;
    length = transport->data + size;
    memcpy(out, s->packet, transport->data);
    memcpy(out + transport->data, s->packet + s->next, size);
    s->next += size;
    if (transport->version == 4)
        set16(out + 4, get16(out + 4) + s->number);
    s->number++;
    ip_finish(out, start, length);
    if (transport->protocol == IPPROTO_TCP)
        cut_tcp(header, offset, s->next == s->end);
    else
        set16(header + 4, length - start);
    field = header + checksum_offset(transport->protocol);
    /* The field holds the pseudo-header's sum, with the whole packet's length in it. */
    sum = (uint64_t)load_sum(field) + (uint16_t)~htons((uint16_t)(s->end - start)) + htons((uint16_t)(length - start));
    set16(field, 0);
    finish_checksum(field, sum, header, length - start, transport->protocol == IPPROTO_UDP);
    return length;
}

uint32_t segments_left(const struct segments *s)
{
    if (s->next == s->end || !s->size)
        return s->number ? 0 : 1;
    return (s->end - s->next + s->size - 1) / s->size;
}
