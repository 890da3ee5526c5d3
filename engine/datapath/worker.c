#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    EVENTS = 64,
    EGRESS_BATCH = 32,   /* packets from one egress before the next one's turn */
    HEADROOM = 32,       /* in a transmit frame, the packet's place: the header is put in front of it */
    MAX_PACKET = FRAME_SIZE - HEADROOM,
    BACKLOG_WAIT_MS = 1, /* when the card is behind nothing tells when it isn't any more */
    FAREWELL_MS = 50,
};

static void tell_engine(struct worker *worker)
{
    struct shared *shared = worker->shared;

    if (!worker->told)
        return;
    worker->told = false;
    if (!atomic_exchange(&shared->control_waiting, true))
        eventfd_write(shared->control_event, 1);
}

static void to_engine(struct worker *worker, struct ring *ring, const uint8_t *frame, uint32_t length)
{
    if (ring_put(ring, frame, length)) {
        count(&worker->counters.rx_control, 1);
        worker->told = true;
    } else {
        count(&worker->counters.control_full, 1);
    }
}

static void to_egress(struct worker *worker, uint32_t slot, const struct frame *frame)
{
    struct counters *counters = &worker->counters;
    struct session_counters *session = &worker->sessions[slot];
    struct egress *egress = worker->shared->sessions[slot].egress;

    if (!egress) {
        count(&counters->not_open, 1);
    } else if (!ip_protocol(frame->packet, frame->length)) {
        count(&counters->bad_ip, 1);
    } else if (write(egress->fd, frame->packet, frame->length) >= 0) {
        count(&counters->rx_data, 1);
        count(&session->rx_packets, 1);
        count(&session->rx_bytes, frame->length);
    } else if (errno == EAGAIN || errno == ENOBUFS) {
        count(&counters->egress_full, 1);
    } else {
        count(&counters->egress_refused, 1);
    }
}

static void handle_frame(struct worker *worker, const uint8_t *octets, uint32_t length)
{
    struct counters *counters = &worker->counters;
    struct frame frame;
    enum frame_kind kind = frame_parse(octets, length, &frame);
    uint32_t slot = TABLE_NONE;

    count(&counters->rx_packets, 1);
    count(&counters->rx_bytes, length);
    if (kind == FRAME_CONTROL || kind == FRAME_DATA)
        slot = table_find(&worker->shared->keys, &frame.key);
    switch (kind) {
    case FRAME_BAD_HEADER:
        count(&counters->bad_header, 1);
        break;
    case FRAME_BAD_LENGTH:
        count(&counters->bad_length, 1);
        break;
    case FRAME_DISCOVERY:
        to_engine(worker, &worker->unknown, octets, length);
        break;
    case FRAME_CONTROL:
        to_engine(worker, slot == TABLE_NONE ? &worker->unknown : &worker->known, octets, length);
        break;
    case FRAME_DATA:
        if (slot == TABLE_NONE)
            count(&counters->unknown_session, 1);
        else
            to_egress(worker, slot, &frame);
        break;
    }
}

/* Card to egress and engine; returns the number of frames. */
static uint32_t receive(struct worker *worker)
{
    struct port *port = &worker->port;
    uint64_t addresses[BATCH];
    uint32_t index, n = xsk_ring_cons__peek(&port->rx, BATCH, &index);

    for (uint32_t i = 0; i < n; i++) {
        const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&port->rx, index + i);

        addresses[i] = desc->addr;
        handle_frame(worker, port->frames + desc->addr, desc->len);
    }
    if (n) {
        xsk_ring_cons__release(&port->rx, n);
        port_refill(port, addresses, n);
    }
    return n;
}

/* Queues a frame that stands in the current transmit frame at `offset`, padded to Ethernet's minimum. */
static void send_frame(struct worker *worker, uint64_t frame, uint32_t offset, uint32_t length)
{
    if (length < MIN_FRAME) {
        memset(worker->port.frames + frame + offset + length, 0, MIN_FRAME - length);
        length = MIN_FRAME;
    }
    port_send(&worker->port, offset, length);
    count(&worker->counters.tx_packets, 1);
    count(&worker->counters.tx_bytes, length);
}

/* Engine to card; returns the number of frames. */
static uint32_t send_control(struct worker *worker)
{
    uint32_t n = 0, length;
    const uint8_t *control;

    while (n < BATCH && (control = ring_first(&worker->outgoing, &length)) && port_room(&worker->port)) {
        uint64_t frame = port_frame(&worker->port);

        memcpy(worker->port.frames + frame, control, length);
        ring_drop(&worker->outgoing, length);
        send_frame(worker, frame, 0, length);
        count(&worker->counters.tx_control, 1);
        n++;
    }
    return n;
}

/* Which session a packet from this egress is for. */
static uint32_t route(const struct shared *shared, const struct egress *egress, uint16_t protocol,
                      const uint8_t *packet)
{
    struct key key;
    uint32_t found;

    if (egress->slot != EGRESS_ROUTED)
        return egress->slot;
    key = route_key(protocol, ip_destination(protocol, packet));
    found = table_find(&shared->routes, &key);
    return found == TABLE_NONE ? TABLE_NONE : found / 2;
}

static void handle_packet(struct worker *worker, const struct egress *egress, uint64_t frame, uint32_t length)
{
    struct counters *counters = &worker->counters;
    uint8_t *packet = worker->port.frames + frame + HEADROOM;
    uint16_t protocol = ip_protocol(packet, length);
    const struct session *session;
    uint32_t slot;

    if (!protocol) {
        count(&counters->not_ip, 1);
        return;
    }
    slot = route(worker->shared, egress, protocol, packet);
    if (slot == TABLE_NONE) {
        count(&counters->no_route, 1);
        return;
    }
    session = &worker->shared->sessions[slot];
    if (length > session->mtu) {
        count(&counters->too_long, 1);
        return;
    }
    memcpy(packet - session->header_length, session->header, session->header_length);
    header_finish(packet, protocol, length);
    send_frame(worker, frame, HEADROOM - session->header_length, session->header_length + length);
    count(&counters->tx_data, 1);
    count(&worker->sessions[slot].tx_packets, 1);
    count(&worker->sessions[slot].tx_bytes, length);
}

/* Egress to card. */
static void drain_egress(struct worker *worker, struct egress *egress)
{
    for (int i = 0; i < EGRESS_BATCH && port_room(&worker->port); i++) {
        uint64_t frame = port_frame(&worker->port);
        ssize_t n = read(egress->fd, worker->port.frames + frame + HEADROOM, MAX_PACKET);

        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) /* the device is gone: don't be told so for ever */
                worker_unwatch(worker, egress);
            return;
        }
        handle_packet(worker, egress, frame, (uint32_t)n);
    }
}

static void flush(struct worker *worker)
{
    port_flush(&worker->port);
    tell_engine(worker);
}

/* Waits until there is something to do. No egress is looked at while the card is behind: its packets wait in it. */
static void sleep_until_work(struct worker *worker, bool backlog)
{
    struct pollfd any[] = {{.fd = worker->poll, .events = POLLIN}};
    struct pollfd no_egress[] = {{.fd = worker->port.fd, .events = POLLIN}, {.fd = worker->wake, .events = POLLIN}};

    reader_turn(&worker->reader);
    if (backlog) {
        eventfd_t ignored;

        poll(no_egress, 2, BACKLOG_WAIT_MS);
        eventfd_read(worker->wake, &ignored);
    } else {
        poll(any, 1, -1);
    }
    reader_turn(&worker->reader);
}

/* Sends what the engine has handed in, its farewells mostly, as far as the card takes it at once. */
static void finish(struct worker *worker)
{
    while (send_control(worker))
        port_flush(&worker->port);
    for (int i = 0; i < FAREWELL_MS && port_backlog(&worker->port); i++) {
        usleep(1000);
        port_flush(&worker->port);
    }
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    struct epoll_event events[EVENTS];

    reader_turn(&worker->reader);
    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        uint32_t done = receive(worker) + send_control(worker);
        bool backlog;
        int ready;

        flush(worker);
        backlog = port_backlog(&worker->port) || !port_room(&worker->port);
        /* Events are fetched while holding, so that an egress taken out of the epoll can't be among those fetched
         * before and still be used after reader_wait. */
        ready = backlog ? 0 : epoll_wait(worker->poll, events, EVENTS, 0);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == worker) {
                eventfd_t ignored;

                eventfd_read(worker->wake, &ignored);
            } else if (events[i].data.ptr) {
                drain_egress(worker, events[i].data.ptr);
                if (worker->port.queued >= BATCH) {
                    flush(worker);
                    receive(worker);
                }
            }
        }
        flush(worker);
        if (!done && ready <= 0)
            sleep_until_work(worker, backlog);
        else {
            reader_turn(&worker->reader);
            reader_turn(&worker->reader);
        }
    }
    finish(worker);
    reader_turn(&worker->reader);
    return NULL;
}

static int watch(struct worker *worker, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

    return epoll_ctl(worker->poll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int worker_watch(struct worker *worker, struct egress *egress)
{
    return watch(worker, egress->fd, egress);
}

void worker_unwatch(struct worker *worker, struct egress *egress)
{
    epoll_ctl(worker->poll, EPOLL_CTL_DEL, egress->fd, NULL);
}

int worker_open(struct worker *worker, struct shared *shared, uint32_t max_sessions)
{
    int error = 0;

    worker->shared = shared;
    worker->poll = epoll_create1(EPOLL_CLOEXEC);
    worker->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->sessions = calloc(max_sessions, sizeof *worker->sessions);
    if (worker->poll < 0 || worker->wake < 0)
        return -errno;
    error |= ring_open(&worker->known, CONTROL_RING);
    error |= ring_open(&worker->unknown, CONTROL_RING);
    error |= ring_open(&worker->outgoing, CONTROL_RING);
    if (error || !worker->sessions)
        return -ENOMEM;
    error = watch(worker, worker->wake, worker);
    return error ? error : watch(worker, worker->port.fd, NULL);
}

int worker_start(struct worker *worker)
{
    sigset_t all, before;
    int error;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        worker->thread = 0;
    return -error;
}

void worker_wake(struct worker *worker)
{
    eventfd_write(worker->wake, 1);
}

void worker_close(struct worker *worker)
{
    if (worker->thread) {
        atomic_store(&worker->stop, true);
        worker_wake(worker);
        pthread_join(worker->thread, NULL);
    }
    ring_close(&worker->known);
    ring_close(&worker->unknown);
    ring_close(&worker->outgoing);
    free(worker->sessions);
    close(worker->poll);
    close(worker->wake);
}
