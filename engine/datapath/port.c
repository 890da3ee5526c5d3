#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9 /* since Linux 6.17; headers of Debian 12 don't have it */
#endif

enum {
    BIND_TRIES = 500,
    BIND_PAUSE_US = 2000,
    POLL_US = 20,
    WAKES = 16,
    KICKS = 128, /* in copy mode the kernel sends some 32 frames a call */
};

static size_t memory_size(const struct port *port)
{
    return (size_t)(RX_FRAMES + TX_FRAMES) * port->frame_size;
}

/* The address in UMEM where the frame begins that an address lies in. */
static uint64_t frame_of(const struct port *port, uint64_t address)
{
    return address & ~(uint64_t)(port->frame_size - 1);
}

static void fill(struct port *port, const uint64_t *addresses, uint32_t count)
{
    uint32_t index;

    if (!xsk_ring_prod__reserve(&port->fill, count, &index))
        return;
    for (uint32_t i = 0; i < count; i++)
        *xsk_ring_prod__fill_addr(&port->fill, index + i) = frame_of(port, addresses[i]);
    xsk_ring_prod__submit(&port->fill, count);
}

static void hand_out(struct port *port)
{
    uint64_t addresses[RX_FRAMES];

    for (uint32_t i = 0; i < RX_FRAMES; i++)
        addresses[i] = (uint64_t)i * port->frame_size;
    fill(port, addresses, RX_FRAMES);
    for (uint32_t i = 0; i < TX_FRAMES; i++)
        port->free[i] = (uint64_t)(RX_FRAMES + i) * port->frame_size;
    port->free_count = TX_FRAMES;
}

static int bind_once(struct port *port, const char *ifname, uint32_t queue, uint16_t flags)
{
    const struct xsk_umem_config memory = {
        .fill_size = RX_FRAMES,
        .comp_size = RING_SIZE,
        .frame_size = port->frame_size,
    };
    const struct xsk_socket_config socket = {
        .rx_size = RING_SIZE,
        .tx_size = RING_SIZE,
        .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
        .bind_flags = XDP_USE_NEED_WAKEUP | flags,
    };
    int error;

    port->fill = port->tx = (struct xsk_ring_prod){0}; /* libxdp goes on where an earlier try of ours ended */
    port->rx = port->completion = (struct xsk_ring_cons){0};
    error = xsk_umem__create(&port->umem, port->frames, memory_size(port), &port->fill, &port->completion, &memory);
    if (error)
        return error;
    hand_out(port);
    error = xsk_socket__create(&port->socket, ifname, queue, port->umem, &port->rx, &port->tx, &socket);
    if (error) {
        xsk_umem__delete(port->umem);
        port->umem = NULL;
    }
    return error;
}

/* XDP_ZEROCOPY or XDP_COPY. */
static int bind_as(struct port *port, const char *ifname, uint32_t queue, uint16_t flags)
{
    int error = -EBUSY;

    port->frame_size = flags == XDP_ZEROCOPY ? ZERO_COPY_FRAME : COPY_FRAME;
    port->frames = mmap(NULL, memory_size(port), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (port->frames == MAP_FAILED) {
        port->frames = NULL;
        return -ENOMEM;
    }
    for (int i = 0; error == -EBUSY && i < BIND_TRIES; i++) {
        if (i)
            usleep(BIND_PAUSE_US);
        error = bind_once(port, ifname, queue, flags);
    }
    if (error)
        port_close(port);
    return error;
}

static bool set(const struct port *port, int option, int value)
{
    return setsockopt(port->fd, SOL_SOCKET, option, &value, sizeof value) == 0;
}

/* With SO_PREFER_BUSY_POLL the kernel leaves a zero-copy driver asleep when there is something to send: it takes for
 * granted that polling what receives also sends. A card with an interrupt for each (igb with up to 4 queues) would send
 * nothing. */
static bool set_busy_poll(const struct port *port)
{
    return (port->zero_copy || set(port, SO_PREFER_BUSY_POLL, 1)) && set(port, SO_BUSY_POLL, POLL_US) &&
           set(port, SO_BUSY_POLL_BUDGET, BATCH);
}

static void set_options(struct port *port)
{
    struct xdp_options options = {0};
    socklen_t size = sizeof options;
    int budget = RING_SIZE;

    if (getsockopt(port->fd, SOL_XDP, XDP_OPTIONS, &options, &size) == 0)
        port->zero_copy = options.flags & XDP_OPTIONS_ZEROCOPY;
    setsockopt(port->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof budget); /* only saves system calls */
    if (port->busy_poll)
        port->busy_poll = set_busy_poll(port);
}

int port_open(struct port *port, const char *ifname, uint32_t queue, struct port_options options)
{
    int error = -EOPNOTSUPP;

    *port = (struct port){.fd = -1, .busy_poll = options.busy_poll};
    if (options.copying != SOUPPP_COPY)
        error = bind_as(port, ifname, queue, XDP_ZEROCOPY);
    if (error && error != -EBUSY && options.copying != SOUPPP_ZERO_COPY)
        error = bind_as(port, ifname, queue, XDP_COPY);
    if (error)
        return error;
    port->fd = xsk_socket__fd(port->socket);
    set_options(port);
    return 0;
}

void port_close(struct port *port)
{
    if (port->socket)
        xsk_socket__delete(port->socket);
    if (port->umem)
        xsk_umem__delete(port->umem);
    if (port->frames)
        munmap(port->frames, memory_size(port));
    port->socket = NULL;
    port->umem = NULL;
    port->frames = NULL;
}

uint32_t port_room(struct port *port)
{
    uint32_t index = 0, sent = xsk_ring_cons__peek(&port->completion, RING_SIZE, &index), room;

    for (uint32_t i = 0; i < sent; i++)
        port->free[port->free_count++] = frame_of(port, *xsk_ring_cons__comp_addr(&port->completion, index + i));
    if (sent)
        xsk_ring_cons__release(&port->completion, sent);
    /* Asked for less, it would answer from memory while there is a little room, and never see there is more. */
    room = xsk_prod_nb_free(&port->tx, RING_SIZE);
    return room < port->free_count ? room : port->free_count;
}

void port_flush(struct port *port)
{
    uint32_t waiting;

    if (port->queued) {
        xsk_ring_prod__submit(&port->tx, port->queued);
        port->queued = 0;
    }
    for (int i = 0; i < KICKS && (waiting = port_backlog(port)); i++) {
        if (!port->busy_poll && !xsk_ring_prod__needs_wakeup(&port->tx))
            return;
        if (sendto(port->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0) {
            if (port->zero_copy) /* the driver goes on by itself */
                return;
        } else if (errno != EAGAIN && errno != EBUSY && errno != EINTR) {
            return;
        }
        if (port_backlog(port) == waiting) /* the card is behind: asking again only takes time from it */
            return;
    }
}

uint32_t port_backlog(const struct port *port)
{
    return ring_waiting(port->tx.producer, port->tx.consumer);
}

uint32_t port_shown(const struct port *port)
{
    return __atomic_load_n(port->tx.producer, __ATOMIC_RELAXED);
}

uint32_t port_taken(const struct port *port)
{
    return __atomic_load_n(port->tx.consumer, __ATOMIC_RELAXED);
}

/* A driver that ran out of frames asks to be woken. The same cards are woken to send only, so what receives is polled,
 * again while it asks: it may have been at work just then, and about to stop. */
static void wake_receiver(const struct port *port)
{
    set(port, SO_BUSY_POLL, POLL_US);
    for (int i = 0; i < WAKES && xsk_ring_prod__needs_wakeup(&port->fill); i++)
        recvfrom(port->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
    set(port, SO_BUSY_POLL, 0);
}

void port_refill(struct port *port, const uint64_t *addresses, uint32_t count)
{
    fill(port, addresses, count);
    if (port->busy_poll)
        recvfrom(port->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
    else if (xsk_ring_prod__needs_wakeup(&port->fill))
        wake_receiver(port);
}
