/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The in-kernel data path: IP packets of the sessions in the maps below go between the card and the sessions' devices
 * without leaving the kernel. bcc's dialect of C, compiled as one text behind souppp.bpf.c; SESSIONS, a power of two,
 * NETWORKS, DEVICE_MAC, IPV4_OPEN and IPV6_OPEN come from the command line.
 *
 * A session's device is one end of a veth pair. What is redirected to the other, hidden end arrives on the device, and
 * what the device sends arrives on the hidden end, where `push` makes a PPPoE frame of it. Whatever isn't an IP packet
 * of a known session, or is malformed, is left to `souppp`, and so to the engine, which knows what is wrong with it;
 * so is, now and then, a packet of a network protocol that is closed: the peer may have to be told.
 */
#include <linux/if_ether.h>
#include <linux/in.h>

#define INLINE static inline __attribute__((always_inline))
/* The compiler must not know what is in `variable` from here on: it would leave out, or work with a copy, where the
 * kernel's verifier has to see the very register that is bounded. */
#define KEEP(variable) asm volatile("" : "+r"(variable))
#define PPP_IPV4 0x21
#define PPP_IPV6 0x57
#define VERSION_AND_TYPE 0x11
#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define IPV4_FRAGMENT 0x3fff
#define FRAGMENT_OFFSET 0x1fff
#define ICMP_REDIRECT 5
#define ICMP_ROUTER_ADVERTISEMENT 9
#define ICMPV6 58 /* linux/icmpv6.h is not among bcc's headers */
#define ICMPV6_ROUTER_ADVERTISEMENT 134
#define ICMPV6_REDIRECT 137
#define LISTENER_QUERY 130
#define NEIGHBOR_SOLICITATION 135
#define NEIGHBOR_ADVERTISEMENT 136
#define FROM_THE_LINK 255 /* a hop limit that no router has lowered */
/* Hop-by-hop, routing, fragment, authentication, destination: those below 64. */
#define EXTENSIONS (1ull << 0 | 1ull << 43 | 1ull << 44 | 1ull << 51 | 1ull << 60)
#define MOBILITY 135
#define UDP_HEADER 8
#define DHCPV6_CLIENT 546
#define TCP_HEADER 20
#define TCP_SYN 2
#define TCP_OPTIONS_MOST 40
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2

struct pppoe {
    u8 version_and_type;
    u8 code;
    __be16 session_id;
    __be16 length;
} __attribute__((packed));

struct session {
    u8 macs[12]; /* as an outgoing frame has them: the concentrator's first */
    u32 tags[MAX_VLAN_TAGS]; /* TPID and TCI as they are in a frame, outer tag first */
    __be16 session_id;
    u16 tag_count;
    u16 mtu;     /* the longest IP packet, octets */
    u16 clamp;   /* the MTU to keep TCP's segments in, or 0 */
    u16 longest; /* the longest IP packet that fits into a frame of the card's */
    u16 open;    /* whose packets may flow: IPV4_OPEN when IPCP is open, IPV6_OPEN when IPv6CP is */
    u32 index; /* of the hidden end; its low bits are the session's number */
    __be32 ipv4; /* its own address, and the one below: see engine/datapath/own.h */
    u64 ipv6[2]; /* as they are in a packet */
    u32 network_count;
    u32 told; /* in which second the engine was last handed a packet of a closed protocol */
};

/* What is routed to a session, by its number; an IPv4 network stands in ::ffff:0:0/96. The value is the prefix's length:
 * of an IPv4 network without these 96 bits. */
struct network_key {
    u32 length; /* of what is to be the same, in bits: 32 of the number, and then so many of the address */
    u32 number;
    __be32 address[4];
};

/* Packets of a session that its own addresses have nothing to do with. */
struct strays {
    u64 not_for_us, forged, not_from_us;
};

/* Frames taken off the card, those that were then dropped too; bytes are those of Ethernet frames. */
struct received {
    u64 packets, bytes;
    u64 bad_ip, closed_in, router_message, not_for_us, forged, too_long, no_room, egress_refused;
};

/* Frames given to the card; what was dropped is not among them. */
struct sent {
    u64 packets, bytes;
    u64 not_ip, not_open, closed_out, not_from_us, too_long, too_long_for_card, no_room, no_card;
};

struct traffic {
    u64 rx_packets, rx_bytes, tx_packets, tx_bytes; /* bytes of IP packets */
};

BPF_F_TABLE("hash", struct session_key, u32, numbers, SESSIONS, BPF_F_NO_PREALLOC);
BPF_ARRAY(sessions, struct session, SESSIONS);
BPF_F_TABLE("array", u32, struct traffic, traffic, SESSIONS, BPF_F_MMAPABLE);
BPF_F_TABLE("lpm_trie", struct network_key, u32, networks, NETWORKS, BPF_F_NO_PREALLOC);
BPF_ARRAY(strays, struct strays, SESSIONS);
BPF_DEVMAP(devices, SESSIONS + 1); /* the card, then the hidden end of each session */
BPF_PERCPU_ARRAY(received, struct received, QUEUES);
BPF_PERCPU_ARRAY(sent, struct sent, 1);

/* RFC 1624, equation 3. */
INLINE u16 checksum_change(u16 checksum, u16 before, u16 after)
{
    u32 sum = (u16)~checksum + (u16)~before + after;

    sum = (sum & 0xffff) + (sum >> 16);
    return ~(sum + (sum >> 16));
}

INLINE u16 swapped(u16 word, bool odd)
{
    return odd ? (u16)(word << 8 | word >> 8) : word;
}

/* The TCP header of the IP packet at `ip`, 0 if it has none. */
INLINE u8 *tcp_header(u8 *ip, void *end)
{

    if ((void *)ip + IPV4_HEADER > end)
        return 0;
    if (ip[0] >> 4 == 4) {
        if (ip[9] != IPPROTO_TCP || *(__be16 *)(ip + 6) & bpf_htons(IPV4_FRAGMENT) || (ip[0] & 15) < 5)
            return 0;
        return ip + (ip[0] & 15) * 4;
    }
    if ((void *)ip + IPV6_HEADER > end)
        return 0;
    return ip[6] == IPPROTO_TCP ? ip + IPV6_HEADER : 0;
}

/* Lowers the Maximum Segment Size of a SYN to what fits into `mtu` (RFC 4459 section 3.2). */
INLINE void clamp_mss(u8 *ip, void *end, u32 mtu)
{
    u8 *tcp = tcp_header(ip, end);
    u64 at = TCP_HEADER, last; /* of the register's own width: a copy cut to 32 bits has bounds of its own on Linux 6.1 */
    u16 most;

    if (!tcp || (void *)tcp + TCP_HEADER > end || !(tcp[13] & TCP_SYN))
        return;
    most = mtu - TCP_HEADER - (ip[0] >> 4 == 4 ? IPV4_HEADER : IPV6_HEADER);
    last = (tcp[12] >> 4) * 4;
#pragma clang loop unroll(disable)
    for (int i = 0; i < TCP_OPTIONS_MOST; i++) {
        u8 *option = tcp + at;
        u64 is_nop;

        if ((void *)option + 4 > end || at + 4 > last || *option == OPTION_END)
            return;
        if (option[0] == OPTION_MSS && option[1] == 4) {
            u16 before = *(__be16 *)(option + 2), after = bpf_htons(most), *checksum = (u16 *)(tcp + 16);

            if (bpf_ntohs(before) <= most)
                return;
            *(__be16 *)(option + 2) = after;
            *checksum = checksum_change(*checksum, swapped(before, at & 1), swapped(after, at & 1));
            return;
        }
        /* Without a branch, so that the verifier has one way through the loop to follow and not two to the power of 40. */
        is_nop = (((u32)option[0] ^ OPTION_NOP) - 1) >> 31;
        KEEP(is_nop);
        at += is_nop + (1 - is_nop) * option[1];
        KEEP(at); /* what is compared with the bound must be what is added to the pointer */
        if (at > TCP_HEADER + TCP_OPTIONS_MOST)
            return;
    }
}

/* A message that would change the host's routes, neighbours or addresses: as in engine/datapath/router.h. */
INLINE bool router_message(u8 *ip, void *end)
{
    u8 *message = ip + IPV6_HEADER;

    if ((void *)ip + IPV4_HEADER > end)
        return 0;
    if (ip[0] >> 4 == 4) {
        if (ip[9] != IPPROTO_ICMP || *(__be16 *)(ip + 6) & bpf_htons(FRAGMENT_OFFSET))
            return 0;
        message = ip + (ip[0] & 15) * 4;
        return (void *)message + 1 <= end && (*message == ICMP_REDIRECT || *message == ICMP_ROUTER_ADVERTISEMENT);
    }
    if ((void *)message > end || ip[7] != FROM_THE_LINK)
        return 0;
    if (ip[6] == MOBILITY || (ip[6] < 64 && EXTENSIONS >> ip[6] & 1))
        return 1;
    return ip[6] == ICMPV6 && (void *)message + 1 <= end &&
           (*message == ICMPV6_ROUTER_ADVERTISEMENT || *message == ICMPV6_REDIRECT);
}

/* What the engine reads itself, a client's part: as in engine/datapath/router.h. */
INLINE bool autoconfiguration(u8 *ip, void *end)
{
    u8 *message = ip + IPV6_HEADER;

    if ((void *)message + UDP_HEADER > end)
        return 0;
    if (ip[6] == ICMPV6)
        return ip[7] == FROM_THE_LINK && *message == ICMPV6_ROUTER_ADVERTISEMENT;
    return ip[6] == IPPROTO_UDP && *(__be16 *)(message + 2) == bpf_htons(DHCPV6_CLIENT) &&
           ((ip[24] == 0xfe && (ip[25] & 0xc0) == 0x80) || (ip[24] == 0xff && (ip[25] & 15) == 2));
}

/* Whether a session's packets of this EtherType may flow. */
INLINE bool is_open(struct session *session, __be16 ethertype)
{
    return session->open & (ethertype == bpf_htons(ETH_P_IP) ? IPV4_OPEN : IPV6_OPEN);
}

/* Whether the engine is to see a packet of a closed protocol: as in engine/datapath/worker.c, by the same clock, which
 * must not be ahead of the helper's. */
INLINE bool is_told(struct session *session)
{
    u32 second = bpf_ktime_get_coarse_ns() / 1000000000;

    if (session->told == second)
        return 0;
    session->told = second;
    return 1;
}

/* The length of the network of the session's that an address is in; without one the default. */
INLINE u32 network_of(struct session *session, u32 number, u8 *address, bool four, u32 otherwise)
{
    struct network_key key = {.length = 32 + 128, .number = number};
    u32 *length;

    if (!session->network_count)
        return otherwise;
    if (four) {
        key.address[2] = bpf_htonl(0xffff);
        key.address[3] = *(__be32 *)address;
    } else {
        __builtin_memcpy(key.address, address, sizeof key.address);
    }
    length = networks.lookup(&key);
    return length ? *length : otherwise;
}

#define NO_NETWORK 0xffff

INLINE bool same(u8 *address, u64 *words)
{
    return *(u64 *)address == words[0] && *(u64 *)(address + 8) == words[1];
}

/* The type of an ICMPv6 message, be it behind a router alert; 0 if it is none. */
INLINE u8 icmpv6_type(u8 *ip, void *end)
{
    u8 *message = ip + IPV6_HEADER, next = ip[6];

    if (next == 0) {
        if ((void *)message + 8 > end || message[1])
            return 0;
        next = message[0];
        message += 8;
    }
    return next == ICMPV6 && (void *)message + 1 <= end ? *message : 0;
}

/* Neighbours and listeners are looked for: at ff02::1, and at ff02::1:ff00:0/104. */
INLINE bool is_neighbourly(u8 *ip, void *end)
{
    u64 group = *(u64 *)(ip + 24), last = *(u64 *)(ip + 32);
    u8 type;

    if (group != bpf_htonll(0xff02ull << 48) ||
        (last != bpf_htonll(1) && (last & bpf_htonll(~0xffffffull)) != bpf_htonll(0x1ff000000ull)))
        return 0;
    type = icmpv6_type(ip, end);
    return type == NEIGHBOR_SOLICITATION || type == NEIGHBOR_ADVERTISEMENT || type == LISTENER_QUERY;
}

enum way_in { LET_IN, NOT_FOR_US, FORGED };

/* As in engine/datapath/own.h, and so below. */
INLINE enum way_in way_in(struct session *session, u32 number, u8 *ip, void *end)
{
    u64 first;

    if ((void *)ip + IPV4_HEADER > end)
        return NOT_FOR_US;
    if (ip[0] >> 4 == 4) {
        __be32 source = *(__be32 *)(ip + 12);

        if (*(__be32 *)(ip + 16) != session->ipv4 && network_of(session, number, ip + 16, 1, NO_NETWORK) == NO_NETWORK)
            return NOT_FOR_US;
        if (ip[12] == 0 || ip[12] == 127 || ip[12] >= 224 || source == session->ipv4 ||
            network_of(session, number, ip + 12, 1, 0))
            return FORGED;
        return LET_IN;
    }
    if ((void *)ip + IPV6_HEADER > end)
        return NOT_FOR_US;
    if (!same(ip + 24, session->ipv6) && network_of(session, number, ip + 24, 0, NO_NETWORK) == NO_NETWORK &&
        !is_neighbourly(ip, end))
        return NOT_FOR_US;
    if (ip[8] == 0xff || same(ip + 8, session->ipv6) || network_of(session, number, ip + 8, 0, 0))
        return FORGED;
    first = *(u64 *)(ip + 8);
    if (first || (!*(u64 *)(ip + 16) && icmpv6_type(ip, end) == NEIGHBOR_SOLICITATION))
        return LET_IN;
    return FORGED;
}

INLINE bool is_from_us(struct session *session, u32 number, u8 *ip, void *end)
{
    u64 first, last;

    if ((void *)ip + IPV4_HEADER > end)
        return 0;
    if (ip[0] >> 4 == 4)
        return *(__be32 *)(ip + 12) == session->ipv4 ||
               network_of(session, number, ip + 12, 1, NO_NETWORK) != NO_NETWORK;
    if ((void *)ip + IPV6_HEADER > end)
        return 0;
    if (same(ip + 8, session->ipv6) || network_of(session, number, ip + 8, 0, NO_NETWORK) != NO_NETWORK)
        return 1;
    first = *(u64 *)(ip + 8);
    last = *(u64 *)(ip + 16);
    return !first && !last && ip[24] == 0xff && (ip[25] & 15) == 2 && icmpv6_type(ip, end);
}

/* The EtherType of an IP packet of so many octets that begins with `first`, or 0 if it is none. */
INLINE __be16 ip_ethertype(u8 first, u32 length)
{
    if (first >> 4 == 4 && length >= IPV4_HEADER)
        return bpf_htons(ETH_P_IP);
    if (first >> 4 == 6 && length >= IPV6_HEADER)
        return bpf_htons(ETH_P_IPV6);
    return 0;
}

/* From the card to a session's device. */
INLINE int strip(struct xdp_md *ctx, struct session_key *key, u8 *at)
{
    void *end = (void *)(long)ctx->data_end;
    struct pppoe *pppoe = (void *)at;
    struct session *session;
    struct traffic *traffic_of;
    struct strays *strays_of;
    struct ethhdr *ethernet;
    u32 *number, slot, length, frame = ctx->data_end - ctx->data, queue = ctx->rx_queue_index;
    struct received *count = received.lookup(&queue);
    enum way_in way;
    bool closed;
    long rest;
    __be16 ethertype;

    if ((void *)(pppoe + 1) + 3 > end || pppoe->version_and_type != VERSION_AND_TYPE || pppoe->code)
        return NOT_TAKEN;
    length = bpf_ntohs(pppoe->length);
    KEEP(length);
    length &= 0xffff; /* before Linux 6.18 or so the verifier loses all bounds at a byte swap */
    rest = end - (void *)(pppoe + 1) - length;
    at = (void *)(pppoe + 1);
    if (rest < 0 || length < 3)
        return NOT_TAKEN;
    if (*at == 0) {
        at++;
        length--;
    }
    if (*at != PPP_IPV4 && *at != PPP_IPV6)
        return NOT_TAKEN;
    at++;
    length--;
    key->session_id = pppoe->session_id;
    number = numbers.lookup(key);
    if (!number)
        return NOT_TAKEN;
    slot = *number;
    session = sessions.lookup(&slot);
    traffic_of = traffic.lookup(&slot);
    if (!session || !traffic_of || !count)
        return NOT_TAKEN;

    ethertype = ip_ethertype(*at, length);
    if (ethertype == bpf_htons(ETH_P_IPV6) && autoconfiguration(at, end))
        return NOT_TAKEN;
    closed = ethertype && !is_open(session, ethertype);
    if (closed && is_told(session))
        return NOT_TAKEN; /* the helper counts it */
    count->packets++;
    count->bytes += frame;
    if (!ethertype) {
        count->bad_ip++;
        return XDP_DROP;
    }
    if (closed) {
        count->closed_in++;
        return XDP_DROP;
    }
    if (length > session->mtu) {
        count->too_long++;
        return XDP_DROP;
    }
    if ((rest && bpf_xdp_adjust_tail(ctx, -(int)rest)) ||
        bpf_xdp_adjust_head(ctx, (int)(frame - rest - length) - ETH_HLEN)) {
        count->no_room++;
        return XDP_DROP;
    }
    ethernet = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if ((void *)(ethernet + 1) > end)
        return XDP_DROP;
    __builtin_memcpy(ethernet->h_dest, (u8[])DEVICE_MAC, ETH_ALEN);
    __builtin_memcpy(ethernet->h_source, (u8[])DEVICE_MAC, ETH_ALEN);
    ethernet->h_proto = ethertype;
    if (router_message((void *)(ethernet + 1), end)) {
        count->router_message++;
        return XDP_DROP;
    }
    way = way_in(session, slot, (void *)(ethernet + 1), end);
    if (way != LET_IN) {
        strays_of = strays.lookup(&slot);
        if (!strays_of)
            return XDP_DROP;
        if (way == FORGED) {
            count->forged++;
            __sync_fetch_and_add(&strays_of->forged, 1);
        } else {
            count->not_for_us++;
            __sync_fetch_and_add(&strays_of->not_for_us, 1);
        }
        return XDP_DROP;
    }
    if (session->clamp)
        clamp_mss((void *)(ethernet + 1), end, session->clamp);
    slot++;
    if (devices.redirect_map(slot, XDP_DROP) != XDP_REDIRECT) {
        count->egress_refused++;
        return XDP_DROP;
    }
    __sync_fetch_and_add(&traffic_of->rx_packets, 1);
    __sync_fetch_and_add(&traffic_of->rx_bytes, length);
    return XDP_REDIRECT;
}

/* On a hidden end: an IP packet that the session's device sends, to the card. */
int push(struct xdp_md *ctx)
{
    u32 first = 0, slot = ctx->ingress_ifindex & (SESSIONS - 1), length = ctx->data_end - ctx->data - ETH_HLEN, header;
    void *end = (void *)(long)ctx->data_end;
    u8 *at = (void *)(long)ctx->data;
    struct session *session = sessions.lookup(&slot);
    struct traffic *traffic_of = traffic.lookup(&slot);
    struct sent *count = sent.lookup(&first);
    struct pppoe *pppoe;
    __be16 ethertype;

    if (!session || !traffic_of || !count)
        return XDP_DROP;
    if (session->index != ctx->ingress_ifindex) {
        count->not_open++;
        return XDP_DROP;
    }
    if ((void *)at + ETH_HLEN + 1 > end || !(ethertype = ip_ethertype(at[ETH_HLEN], length))) {
        count->not_ip++;
        return XDP_DROP;
    }
    if (!is_open(session, ethertype)) {
        count->closed_out++;
        return XDP_DROP;
    }
    if (!is_from_us(session, slot, at + ETH_HLEN, end)) {
        struct strays *strays_of = strays.lookup(&slot);

        count->not_from_us++;
        if (strays_of)
            __sync_fetch_and_add(&strays_of->not_from_us, 1);
        return XDP_DROP;
    }
    if (length > session->mtu) {
        count->too_long++;
        return XDP_DROP;
    }
    if (length > session->longest) {
        count->too_long_for_card++;
        return XDP_DROP;
    }
    if (session->clamp)
        clamp_mss(at + ETH_HLEN, end, session->clamp);
    header = sizeof *pppoe + 2 + sizeof session->tags[0] * (session->tag_count & 3);
    if (bpf_xdp_adjust_head(ctx, -(int)header)) {
        count->no_room++;
        return XDP_DROP;
    }
    at = (void *)(long)ctx->data;
    end = (void *)(long)ctx->data_end;
    if ((void *)at + ETH_HLEN + MAX_VLAN_TAGS * sizeof session->tags[0] + sizeof *pppoe + 2 > end)
        return XDP_DROP;
    __builtin_memcpy(at, session->macs, sizeof session->macs);
    at += sizeof session->macs;
#pragma unroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (i < session->tag_count) {
            __builtin_memcpy(at, &session->tags[i], sizeof session->tags[i]);
            at += sizeof session->tags[i];
        }
    }
    *(__be16 *)at = bpf_htons(ETH_P_PPP_SES);
    pppoe = (void *)at + 2;
    pppoe->version_and_type = VERSION_AND_TYPE;
    pppoe->code = 0;
    pppoe->session_id = session->session_id;
    pppoe->length = bpf_htons(length + 2);
    *(__be16 *)(pppoe + 1) = bpf_htons(ethertype == bpf_htons(ETH_P_IP) ? PPP_IPV4 : PPP_IPV6);
    length += ETH_HLEN + header;
    if (length < ETH_ZLEN && bpf_xdp_adjust_tail(ctx, ETH_ZLEN - length)) {
        count->no_room++;
        return XDP_DROP;
    }
    if (devices.redirect_map(0, XDP_DROP) != XDP_REDIRECT) {
        count->no_card++;
        return XDP_DROP;
    }
    count->packets++;
    count->bytes += length < ETH_ZLEN ? ETH_ZLEN : length;
    __sync_fetch_and_add(&traffic_of->tx_packets, 1);
    __sync_fetch_and_add(&traffic_of->tx_bytes, length - ETH_HLEN - header);
    return XDP_REDIRECT;
}
