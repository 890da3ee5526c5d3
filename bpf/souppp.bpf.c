/* Hands PPPoE frames to the AF_XDP socket of the queue they came in on and passes everything else to the kernel.
 *
 * bcc's dialect of C; QUEUES comes from the command line. No frame is ever dropped here: without a socket in the map
 * a PPPoE frame goes to the kernel too, so a dead engine leaves the card as it was.
 */
#include <linux/if_ether.h>

#define MAX_VLAN_TAGS 2

struct vlan_tag {
    __be16 tci;
    __be16 ethertype;
};

struct counts {
    u64 redirected;
    u64 passed;
    u64 failed;
};

BPF_HASH(ethertypes, __be16, u8, 16); /* what to hand over, in network byte order */
BPF_XSKMAP(xsks, QUEUES);
BPF_PERCPU_ARRAY(counters, struct counts, QUEUES);

int souppp(struct xdp_md *ctx)
{
    void *end = (void *)(long)ctx->data_end;
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    struct vlan_tag *tag = (void *)(ethernet + 1);
    int queue = ctx->rx_queue_index;
    struct counts *count = counters.lookup(&queue);
    __be16 ethertype;

    if (!count || (void *)tag > end) /* more queues than the maps have room for */
        return XDP_PASS;
    ethertype = ethernet->h_proto;
#pragma unroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
            break;
        if ((void *)(tag + 1) > end)
            break;
        ethertype = tag->ethertype;
        tag++;
    }
    if (!ethertypes.lookup(&ethertype)) {
        count->passed++;
        return XDP_PASS;
    }
    if (xsks.redirect_map(queue, XDP_PASS) != XDP_REDIRECT) {
        count->failed++;
        return XDP_PASS;
    }
    count->redirected++;
    return XDP_REDIRECT;
}
