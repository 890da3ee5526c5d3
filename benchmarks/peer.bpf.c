/* PPPoE in the kernel, bcc's dialect: the neutral peer of the benchmark.
 *
 * The session id is the low 16 bits of the session's IPv4 address, the destination of a packet going out.
 */
#include <linux/if_ether.h>

struct macs {
    u8 to[6];
    u8 from[6];
};

struct pppoe {
    u8 macs[12];
    __be16 ethertype;
    u8 version_and_type;
    u8 code;
    __be16 session_id;
    __be16 length;
    __be16 protocol;
} __attribute__((packed));

BPF_ARRAY(addresses, struct macs, 1);
BPF_DEVMAP(devices, 1);

#define IPV4_DESTINATION 16
#define GROWTH ((int)(sizeof(struct pppoe) - sizeof(struct ethhdr)))

/* From the line: an IP packet to the stack. */
int strip(struct xdp_md *ctx)
{
    struct pppoe *pppoe = (void *)(long)ctx->data;
    struct ethhdr *ethernet;
    struct macs *macs;
    int first = 0;

    if ((void *)(pppoe + 1) > (void *)(long)ctx->data_end || pppoe->ethertype != bpf_htons(ETH_P_PPP_SES))
        return XDP_PASS;
    macs = addresses.lookup(&first);
    if (!macs || bpf_xdp_adjust_head(ctx, GROWTH))
        return XDP_DROP;
    ethernet = (void *)(long)ctx->data;
    if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
        return XDP_DROP;
    __builtin_memcpy(ethernet, macs, sizeof *macs);
    ethernet->h_proto = bpf_htons(ETH_P_IP);
    return XDP_PASS;
}

/* From a device of the stack: to the line. */
int push(struct xdp_md *ctx)
{
    struct ethhdr *ethernet = (void *)(long)ctx->data;
    struct pppoe *pppoe;
    struct macs *macs;
    __be16 session_id;
    int first = 0;

    if ((void *)(ethernet + 1) + 20 > (void *)(long)ctx->data_end || ethernet->h_proto != bpf_htons(ETH_P_IP))
        return XDP_DROP;
    session_id = *(__be16 *)((void *)(ethernet + 1) + IPV4_DESTINATION + 2);
    macs = addresses.lookup(&first);
    if (!macs || bpf_xdp_adjust_head(ctx, -GROWTH))
        return XDP_DROP;
    pppoe = (void *)(long)ctx->data;
    if ((void *)(pppoe + 1) > (void *)(long)ctx->data_end)
        return XDP_DROP;
    __builtin_memcpy(pppoe, macs, sizeof *macs);
    pppoe->ethertype = bpf_htons(ETH_P_PPP_SES);
    pppoe->version_and_type = 0x11;
    pppoe->code = 0;
    pppoe->session_id = session_id;
    pppoe->length = bpf_htons((u16)(ctx->data_end - ctx->data - sizeof *pppoe + 2));
    pppoe->protocol = bpf_htons(0x0021);
    return devices.redirect_map(0, 0);
}
