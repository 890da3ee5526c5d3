/* One queue of the card: an AF_XDP socket, its four rings and the memory its frames lie in (UMEM).
 *
 * Half of the frames receive: each is always in the fill ring, with the kernel, or in the batch being worked on, so
 * filling can never fail. The other half transmits, by way of a list of free frames.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xdp/xsk.h>

#include "souppp.h"

enum {
    MAX_FRAME = 2048, /* octets, the longest that is sent */
    COPY_FRAME = 2048, /* room for a frame in UMEM where the kernel copies */
    /* And where the driver writes into it: 256 octets are the kernel's, and of the rest some cards use whole KB only. */
    ZERO_COPY_FRAME = 4096,
    RX_FRAMES = 2048, /* the size of the fill ring */
    TX_FRAMES = 2048,
    RING_SIZE = 2048, /* RX, TX and completion */
    BATCH = 64, /* frames to send between two looks at what came in */
    HEADROOM = 32, /* in a transmit frame, the packet's place: the header is put in front of it */
    MAX_PACKET = MAX_FRAME - HEADROOM,
};

struct port {
    int fd;
    bool zero_copy;
    bool busy_poll;
    uint8_t *frames;
    uint32_t frame_size;
    struct xsk_umem *umem;
    struct xsk_socket *socket;
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons rx, completion;
    uint64_t free[TX_FRAMES];
    uint32_t free_count;
    uint32_t queued; /* put into the TX ring and not yet shown to the kernel */
};

struct port_options {
    enum souppp_copying copying;
    bool busy_poll; /* let the worker drive the card's driver */
};

/* 0 or -errno. The fill ring is full before the socket is bound: a driver may look at it only then. Waits up to a second
 * for a queue whose last socket is still being taken down. */
int port_open(struct port *port, const char *ifname, uint32_t queue, struct port_options options);
void port_close(struct port *port);

/* How many frames can be sent now, after taking back those that were sent. */
uint32_t port_room(struct port *port);

/* Shows queued frames to the kernel and wakes it if it wants that. */
void port_flush(struct port *port);

/* How many frames wait for the card; no wake-up tells when they are gone. */
uint32_t port_backlog(const struct port *port);

/* How many the card has been shown and has taken since the start, modulo 2^32. */
uint32_t port_shown(const struct port *port);
uint32_t port_taken(const struct port *port);

/* Gives back the receive frames of a batch. */
void port_refill(struct port *port, const uint64_t *addresses, uint32_t count);

/* Frames waiting in a ring; any thread. */
static inline uint32_t ring_waiting(const uint32_t *producer, const uint32_t *consumer)
{
    return __atomic_load_n(producer, __ATOMIC_RELAXED) - __atomic_load_n(consumer, __ATOMIC_RELAXED);
}

/* With port_room() > 0 only: a free frame's place in UMEM, to write to and pass to port_send, or keep unused. */
static inline uint64_t port_frame(const struct port *port)
{
    return port->free[port->free_count - 1];
}

/* Queues the frame last given by port_frame; `offset` is where in it the octets start. */
static inline void port_send(struct port *port, uint32_t offset, uint32_t length)
{
    uint32_t index;

    if (!xsk_ring_prod__reserve(&port->tx, 1, &index))
        return;
    *xsk_ring_prod__tx_desc(&port->tx, index) =
        (struct xdp_desc){.addr = port->free[--port->free_count] + offset, .len = length};
    port->queued++;
}
