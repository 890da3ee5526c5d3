/* What a worker counts. Each number has one writer, its worker, and may be read by any thread at any time.
 *
 * Of a queue:  rx_packets = rx_data + rx_control + the drops on the way in;
 *              tx_packets = tx_data + tx_control;  packets read from an egress = tx_data + the drops on the way out.
 * A super-packet counts as the packets that it is cut to, or joined from; one that can't be cut counts as one.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

/* Octets of a queue are those of Ethernet frames without FCS. */
#define QUEUE_COUNTERS(X) \
    X(rx_packets) X(rx_bytes) X(tx_packets) X(tx_bytes) \
    X(rx_data)    /* IP packets given to an egress */ \
    X(rx_control) /* frames given to the engine */ \
    X(tx_data) \
    X(tx_control)

#define DROP_REASONS(X) \
    /* on the way in */ \
    X(bad_header)      /* not PPPoE of version 1, type 1, code 0, or too many VLAN tags */ \
    X(bad_length)      /* cut short, or LENGTH past the frame's end */ \
    X(bad_ip)          /* the PPP protocol says IP, the packet doesn't */ \
    X(unknown_session) /* data for nobody here */ \
    X(closed_in)       /* its network protocol isn't open: IPCP, IPv6CP */ \
    X(not_open)        /* data for a session that has no egress here */ \
    X(router_message)  /* would change the host's routes: see router.h */ \
    X(not_for_us)      /* to none of the session's own addresses: see own.h */ \
    X(forged)          /* from one of them, or from where nothing can come */ \
    X(egress_full)     /* the TUN device's queue, or the socket's */ \
    X(egress_refused)  /* the TUN device is down or gone */ \
    X(control_full)    /* the engine is behind with control frames */ \
    X(control_flood)   /* more control frames of one session than its share */ \
    /* on the way out */ \
    X(not_ip)          /* what an egress gave is no IP packet */ \
    X(closed_out)      /* its network protocol isn't open */ \
    X(not_from_us)     /* from none of the session's own addresses */ \
    X(too_long)        /* longer than the session's MTU */ \
    X(too_long_for_card) /* with its headers and tags longer than the card's MTU lets pass */ \
    X(bad_offload)     /* an egress wants more done to a packet than can be */ \
    X(tx_full)         /* the card is behind in the middle of a super-packet */ \
    X(no_route)        /* a routed egress gave a packet for nobody's address */

/* Counted by the kernel before or after us. */
#define KERNEL_DROPS(X) \
    X(rx_ring_full) /* the worker is behind with frames */ \
    X(rx_dropped)   /* no free frame, or longer than one */ \
    X(tx_invalid)

#define COUNTER_FIELD(name) _Atomic uint64_t name;

struct counters {
    QUEUE_COUNTERS(COUNTER_FIELD)
    DROP_REASONS(COUNTER_FIELD)
};

/* Of a session; bytes are those of IP packets. In the order in which souppp_add_traffic gives them. */
#define TRAFFIC_COUNTERS(X) X(rx_packets) X(rx_bytes) X(tx_packets) X(tx_bytes)

/* Likewise, in the order in which souppp_strays gives them: packets that its own addresses have nothing to do with, and
 * those that had nowhere to go. */
#define STRAY_COUNTERS(X) X(not_for_us) X(forged) X(not_from_us) X(not_open)

struct session_counters {
    TRAFFIC_COUNTERS(COUNTER_FIELD)
    STRAY_COUNTERS(COUNTER_FIELD)
};

static inline void count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}
