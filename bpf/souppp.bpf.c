/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Hands PPPoE frames to the AF_XDP socket of the queue they came in on and passes everything else to the kernel.
 *
 * bcc's dialect of C; QUEUES comes from the command line. No frame is ever dropped here: without a socket in the map
 * a PPPoE frame goes to the kernel too, so a dead engine leaves the card as it was. IP packets of sessions with the
 * in-kernel data path leave before, see kernel_path.bpf.c.
 */
#include <linux/if_ether.h>

#define MAX_VLAN_TAGS 2
#define VLAN_ID 0x0fff

struct vlan_tag {
    __be16 tci;
    __be16 ethertype;
};

/* As an incoming frame has them: our own address first. VLAN ids without priorities; ids of 0 are left out. */
struct session_key {
    u8 macs[12];
    __be16 session_id;
    __be16 vlans[MAX_VLAN_TAGS];
    u16 unused;
};

struct counts {
    u64 redirected;
    u64 passed;
    u64 failed;
};

BPF_HASH(ethertypes, __be16, u8, 16); /* what to hand over, in network byte order */
BPF_XSKMAP(xsks, QUEUES);
BPF_PERCPU_ARRAY(counters, struct counts, QUEUES);

#define NOT_TAKEN -1
#ifdef KERNEL_PATH
/* Takes an IP packet of a session with the in-kernel data path; `at` is behind the EtherType. See kernel_path.bpf.c. */
static int strip(struct xdp_md *ctx, struct session_key *key, u8 *at);
#else
static int strip(struct xdp_md *ctx, struct session_key *key, u8 *at) { return NOT_TAKEN; }
#endif

int souppp(struct xdp_md *ctx)
{
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    struct vlan_tag *tag = (void *)(ethernet + 1);
    struct session_key key = {};
    int queue = ctx->rx_queue_index;
    struct counts *count = counters.lookup(&queue);
    __be16 ethertype, id;

    if (!count || (void *)tag > end) /* more queues than the maps have room for */
        return XDP_PASS;
    ethertype = ethernet->h_proto;
#pragma unroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
            break;
        if ((void *)(tag + 1) > end)
            break;
        id = tag->tci & bpf_htons(VLAN_ID);
        if (id && !key.vlans[0])
            key.vlans[0] = id;
        else if (id)
            key.vlans[1] = id;
        ethertype = tag->ethertype;
        tag++;
    }
    if (!ethertypes.lookup(&ethertype)) {
        count->passed++;
        return XDP_PASS;
    }
    if (ethertype == bpf_htons(ETH_P_PPP_SES)) {
        int verdict;

        __builtin_memcpy(key.macs, ethernet, sizeof key.macs);
        verdict = strip(ctx, &key, (void *)tag);
        if (verdict != NOT_TAKEN)
            return verdict;
    }
    if (xsks.redirect_map(queue, XDP_PASS) != XDP_REDIRECT) {
        count->failed++;
        return XDP_PASS;
    }
    count->redirected++;
    return XDP_REDIRECT;
}
