/* The header in front of each packet of a TUN device with IFF_VNET_HDR: what of the packet is still to be done.
 *
 * Debian 12's kernel headers lack UDP segmentation, which Linux has since 6.2.
 */
#pragma once
#include <linux/if_tun.h>
#include <linux/virtio_net.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

typedef struct virtio_net_hdr vnet_header;
