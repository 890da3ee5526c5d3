#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mss.h"
#include "router.h"
#include "segment.h"

enum {
    EVENTS = 64,
    EGRESS_BATCH = 32,   /* reads from one egress before the next one's turn */
    DUCT_BATCH = 64,     /* packets from the duct before a look at the card */
    SEGMENTS_ROOM = 256, /* free frames before a super-packet is read */
    BACKLOG = 256,       /* frames waiting for the card from which on packets had better wait in their egress */
    BACKLOG_WAIT_NS = 50000, /* when the card is behind nothing tells when it isn't any more */
    BACKLOG_MOST_NS = BACKLOG_WAIT_NS << 11, /* reached by doubling while it takes nothing: it may be down */
    FAREWELL_MS = 50,
};

/* For as long as the worker doesn't turn. */
static struct duct *duct_of(struct worker *worker)
{
    struct duct *duct = atomic_load_explicit(&worker->duct, memory_order_acquire);

    return duct && !atomic_load_explicit(&duct->broken, memory_order_relaxed) ? duct : NULL;
}

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

/* False for a session that floods the engine, whose frames would keep those of all others waiting. */
static bool within_share(struct worker *worker, uint32_t slot, uint32_t most)
{
    uint32_t round = atomic_load_explicit(&worker->shared->rounds, memory_order_relaxed);
    struct share *share = &worker->shares[slot];

    if (share->round != round) {
        share->round = round;
        share->frames = 0;
    }
    return share->frames < most && ++share->frames;
}

/* `packets` of a session that were given to its egress in one go, or not. */
static void count_delivery(struct worker *worker, uint32_t slot, ssize_t written, uint32_t packets, uint32_t octets)
{
    struct counters *counters = &worker->counters;
    struct session_counters *session = &worker->sessions[slot];

    if (written >= 0) {
        count(&counters->rx_data, packets);
        count(&session->rx_packets, packets);
        count(&session->rx_bytes, octets);
    } else if (errno == EAGAIN || errno == ENOBUFS) {
        count(&counters->egress_full, packets);
    } else {
        count(&counters->egress_refused, packets);
    }
}

/* Whether an IP packet may come in; counted if not. */
static bool is_let_in(struct worker *worker, uint32_t slot, uint16_t protocol, const uint8_t *packet, uint32_t length)
{
    struct counters *counters = &worker->counters;
    struct session_counters *session = &worker->sessions[slot];
    const struct own *own = own_of(&worker->shared->sessions[slot]);

    if (is_router_message(packet, length)) {
        count(&counters->router_message, 1);
        return false;
    }
    switch (way_in(own, protocol, packet, length)) {
    case NOT_FOR_US:
        count(&counters->not_for_us, 1);
        count(&session->not_for_us, 1);
        return false;
    case FORGED:
        count(&counters->forged, 1);
        count(&session->forged, 1);
        return false;
    case LET_IN:
        break;
    }
    return true;
}

/* False if the packet's network protocol is closed, which the peer may have to be told. */
static bool to_egress(struct worker *worker, uint32_t slot, uint8_t *packet, uint32_t length)
{
    struct counters *counters = &worker->counters;
    const struct session *session = &worker->shared->sessions[slot];
    uint16_t protocol;

    protocol = ip_protocol(packet, length);
    if (!protocol) {
        count(&counters->bad_ip, 1);
        return true;
    }
    if (!is_open(own_of(session), protocol)) {
        count(&counters->closed_in, 1);
        return false;
    }
    if (!session->egress) {
        count(&counters->not_open, 1);
        count(&worker->sessions[slot].not_open, 1);
        return true;
    }
    if (!is_let_in(worker, slot, protocol, packet, length))
        return true;
    if (session->clamp)
        mss_clamp(packet, length, session->clamp);
    if (session->egress->offload)
        join_add(&worker->join, slot, packet, length, worker->shared->join_udp);
    else
        count_delivery(worker, slot, write(session->egress->fd, packet, length), 1, length);
    return true;
}

/* Whether the engine is to see a packet of a closed protocol: one a second of each session is enough to say so. */
static bool is_told(struct worker *worker, uint32_t slot)
{
    struct share *share = &worker->shares[slot];
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (share->told == (uint32_t)now.tv_sec)
        return false;
    share->told = (uint32_t)now.tv_sec;
    return within_share(worker, slot, CONTROL_SHARE);
}

/* False for a session that would fill a duct which is behind: others have packets too. */
static bool within_duct(struct worker *worker, const struct duct *duct, uint32_t slot, uint32_t length)
{
    struct share *share = &worker->shares[slot];
    uint32_t lap = duct->head / duct->size;

    if (share->lap != lap) {
        share->lap = lap;
        share->octets = 0;
    }
    if (duct_used(duct) > duct->size / 2 && share->octets > duct->size / DUCT_SHARE)
        return false;
    share->octets += length;
    return true;
}

/* As writev does for a descriptor. */
static ssize_t write_duct(struct worker *worker, uint32_t slot, const struct iovec *vector, int parts)
{
    struct duct *duct = duct_of(worker);
    uint32_t length = 0;

    for (int i = 0; i < parts; i++)
        length += (uint32_t)vector[i].iov_len;
    if (!duct) {
        errno = ENOTCONN;
        return -1;
    }
    if (!within_duct(worker, duct, slot, length) || !duct_put(duct, slot, vector, parts, length)) {
        errno = ENOBUFS;
        return -1;
    }
    return length;
}

/* Writes what has been joined; the offload header goes where the frame's own headers were. */
static void deliver(struct worker *worker)
{
    struct join *join = &worker->join;
    struct iovec vector[JOIN_MAX];
    struct duct *duct;

    for (uint32_t i = 0; i < join->train_count; i++) {
        const struct train *train = &join->trains[i];
        const struct egress *egress = worker->shared->sessions[train->slot].egress;
        int parts = (int)join_write(join, i, vector);
        ssize_t written = egress->ducted ? write_duct(worker, train->slot, vector, parts)
                          : parts == 1   ? write(egress->fd, vector->iov_base, vector->iov_len)
                                         : writev(egress->fd, vector, parts);

        count_delivery(worker, train->slot, written, train->count, train->octets);
    }
    if ((duct = duct_of(worker)))
        duct_tell(duct);
}

/* A known session's control frame. */
static void known_to_engine(struct worker *worker, uint32_t slot, const uint8_t *frame, uint32_t length, uint32_t most)
{
    if (within_share(worker, slot, most))
        to_engine(worker, &worker->known, frame, length);
    else
        count(&worker->counters.control_flood, 1);
}

/* Whether we are the concentrator of a session. */
static bool is_provider(const struct worker *worker, uint32_t slot)
{
    const struct egress *egress = worker->shared->sessions[slot].egress;

    return egress && egress->slot == EGRESS_ROUTED;
}

static void handle_frame(struct worker *worker, uint8_t *octets, uint32_t length)
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
        if (slot == TABLE_NONE)
            to_engine(worker, &worker->unknown, octets, length);
        else
            known_to_engine(worker, slot, octets, length, CONTROL_SHARE);
        break;
    case FRAME_DATA:
        if (slot == TABLE_NONE)
            count(&counters->unknown_session, 1);
        else if (is_autoconfiguration(frame.packet, frame.length, is_provider(worker, slot)))
            known_to_engine(worker, slot, octets, length, IPV6_SHARE);
        else if (!to_egress(worker, slot, octets + (frame.packet - octets), frame.length) && is_told(worker, slot))
            to_engine(worker, &worker->known, octets, length);
        break;
    }
}

/* Card to egress and engine; returns the number of frames. */
static uint32_t receive(struct worker *worker)
{
    struct port *port = &worker->port;
    uint64_t addresses[JOIN_MAX];
    uint32_t index = 0, n = xsk_ring_cons__peek(&port->rx, JOIN_MAX, &index);

    join_begin(&worker->join);
    for (uint32_t i = 0; i < n; i++) {
        const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&port->rx, index + i);

        addresses[i] = desc->addr;
        handle_frame(worker, port->frames + desc->addr, desc->len);
    }
    if (n) {
        deliver(worker);
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

/* Which session a packet is for that comes from an egress of this slot. */
static uint32_t route(const struct shared *shared, uint32_t slot, uint16_t protocol, const uint8_t *packet)
{
    struct key key;
    uint32_t found;

    if (slot != EGRESS_ROUTED)
        return slot;
    key = route_key(protocol, ip_destination(protocol, packet));
    found = table_find(&shared->routes, &key);
    return found == TABLE_NONE ? TABLE_NONE : found / 2;
}

/* The session that an outgoing packet belongs to, of an egress with this slot, which it is exchanged for; NULL, and
 * counted, if there is none. */
static const struct session *session_of(struct worker *worker, const uint8_t *packet, uint32_t length,
                                        uint16_t *protocol, uint32_t *slot)
{
    const struct own *own;

    *protocol = ip_protocol(packet, length);
    if (!*protocol) {
        count(&worker->counters.not_ip, 1);
        return NULL;
    }
    *slot = route(worker->shared, *slot, *protocol, packet);
    if (*slot == TABLE_NONE) {
        count(&worker->counters.no_route, 1);
        return NULL;
    }
    own = own_of(&worker->shared->sessions[*slot]);
    if (!is_open(own, *protocol)) {
        count(&worker->counters.closed_out, 1);
        return NULL;
    }
    if (!is_from_us(own, *protocol, packet, length)) {
        count(&worker->counters.not_from_us, 1);
        count(&worker->sessions[*slot].not_from_us, 1);
        return NULL;
    }
    return &worker->shared->sessions[*slot];
}

/* Sends the packet that stands in the current transmit frame. */
static void send_packet(struct worker *worker, const struct session *session, uint32_t slot, uint16_t protocol,
                        uint32_t length)
{
    uint64_t frame = port_frame(&worker->port);
    uint8_t *packet = worker->port.frames + frame + HEADROOM;

    if (length > session->longest) {
        count(&worker->counters.too_long_for_card, 1);
        return;
    }
    memcpy(packet - session->header_length, session->header, session->header_length);
    header_finish(packet, protocol, length);
    send_frame(worker, frame, HEADROOM - session->header_length, session->header_length + length);
    count(&worker->counters.tx_data, 1);
    count(&worker->sessions[slot].tx_packets, 1);
    count(&worker->sessions[slot].tx_bytes, length);
}

/* False, with errno; a socket whose other end was closed has no error of its own. */
static bool nothing_read(ssize_t length)
{
    if (length >= 0)
        errno = EPIPE;
    return false;
}

/* Reads one packet straight into a transmit frame and sends it. False if there was none. */
static bool forward_packet(struct worker *worker, const struct egress *egress)
{
    uint8_t *packet = worker->port.frames + port_frame(&worker->port) + HEADROOM;
    ssize_t length = read(egress->fd, packet, MAX_PACKET);
    const struct session *session;
    uint32_t slot = egress->slot;
    uint16_t protocol;

    if (length <= 0)
        return nothing_read(length);
    session = session_of(worker, packet, (uint32_t)length, &protocol, &slot);
    if (!session)
        return true;
    if ((uint32_t)length > session->mtu) {
        count(&worker->counters.too_long, 1);
        return true;
    }
    if (session->clamp)
        mss_clamp(packet, (uint32_t)length, session->clamp);
    send_packet(worker, session, slot, protocol, (uint32_t)length);
    return true;
}

/* Sends what the super-packet that was read is cut to; its `size` counts the header in front. */
static void send_super_packet(struct worker *worker, uint32_t slot, uint32_t size)
{
    const uint8_t *packet = worker->super_packet + sizeof(vnet_header);
    uint32_t length = size - sizeof(vnet_header);
    struct segments segments;
    const struct session *session;
    enum segment_error error;
    vnet_header header;
    uint16_t protocol;

    memcpy(&header, worker->super_packet, sizeof header);
    session = session_of(worker, packet, length, &protocol, &slot);
    if (!session)
        return;
    error = segments_begin(&segments, &header, packet, length, session->mtu);
    if (error) {
        count(error == SEGMENT_TOO_LONG ? &worker->counters.too_long : &worker->counters.bad_offload, 1);
        return;
    }
    do {
        uint8_t *out;

        if (!port_room(&worker->port)) {
            port_flush(&worker->port);
            if (!port_room(&worker->port)) {
                count(&worker->counters.tx_full, segments_left(&segments));
                break;
            }
        }
        out = worker->port.frames + port_frame(&worker->port) + HEADROOM;
        length = segments_next(&segments, out);
        if (session->clamp && !segments.size)
            mss_clamp(out, length, session->clamp);
        send_packet(worker, session, slot, protocol, length);
    } while (segments_left(&segments));
}

/* False if there was none. */
static bool forward_super_packet(struct worker *worker, const struct egress *egress)
{
    ssize_t n = read(egress->fd, worker->super_packet, SUPER_PACKET);

    if (n < (ssize_t)sizeof(vnet_header))
        return nothing_read(n);
    send_super_packet(worker, egress->slot, (uint32_t)n);
    return true;
}

/* Whether what has come by a duct is a packet of a session that ducts are for; counted if not. */
static bool is_ducted(struct worker *worker, uint32_t slot, uint32_t size)
{
    const struct shared *shared = worker->shared;

    if (slot >= shared->max_sessions || !atomic_load_explicit(&shared->ducted[slot], memory_order_acquire)) {
        count(&worker->counters.no_route, 1);
        return false;
    }
    if (size < sizeof(vnet_header)) {
        count(&worker->counters.not_ip, 1);
        return false;
    }
    return true;
}

static bool card_has_room(struct worker *worker, uint32_t room)
{
    return worker->port.queued < BATCH && port_room(&worker->port) >= room;
}

/* Duct to card. */
static void drain_duct(struct worker *worker)
{
    struct duct *duct = duct_of(worker);

    for (int i = 0; duct && i < DUCT_BATCH && card_has_room(worker, SEGMENTS_ROOM); i++) {
        uint32_t slot;
        int32_t n = duct_take(duct, worker->super_packet, SUPER_PACKET, &slot);

        if (n < 0)
            atomic_store_explicit(&duct->broken, true, memory_order_relaxed);
        if (n <= 0)
            return;
        if (is_ducted(worker, slot, (uint32_t)n))
            send_super_packet(worker, slot, (uint32_t)n);
    }
}

/* Egress to card. */
static void drain_egress(struct worker *worker, struct egress *egress)
{
    bool (*forward)(struct worker *, const struct egress *);
    uint32_t room;

    if (!atomic_load_explicit(&egress->watched, memory_order_acquire)) /* taken out since the event was fetched */
        return;
    forward = egress->offload ? forward_super_packet : forward_packet;
    room = egress->offload ? SEGMENTS_ROOM : 1;
    for (int i = 0; i < EGRESS_BATCH && card_has_room(worker, room); i++) {
        if (!forward(worker, egress)) {
            if (errno != EAGAIN && errno != EINTR) /* the device is gone: don't be told so for ever */
                worker_unwatch(worker, egress);
            return;
        }
    }
}

/* Tells how many control frames the card has been shown, and what it will have taken when it has taken those. */
static void publish_shown(struct worker *worker)
{
    uint64_t shown = atomic_load_explicit(&worker->shown, memory_order_relaxed);
    uint32_t control = (uint32_t)atomic_load_explicit(&worker->counters.tx_control, memory_order_relaxed);

    if (control != (uint32_t)(shown >> 32)) {
        shown = (uint64_t)control << 32 | port_shown(&worker->port);
        atomic_store_explicit(&worker->shown, shown, memory_order_release);
    }
}

static void flush(struct worker *worker)
{
    port_flush(&worker->port);
    publish_shown(worker);
    tell_engine(worker);
}

/* True while no egress is to be looked at: its packets wait in it until the card has caught up. */
static bool behind(struct worker *worker)
{
    return port_backlog(&worker->port) >= BACKLOG || port_room(&worker->port) < SEGMENTS_ROOM;
}

/* How long to leave a card alone that is behind. */
static const struct timespec *patience(struct worker *worker)
{
    uint32_t taken = port_taken(&worker->port);
    long *wait = &worker->patience.tv_nsec;

    if (!*wait || taken != worker->taken)
        *wait = BACKLOG_WAIT_NS;
    else if (*wait < BACKLOG_MOST_NS)
        *wait *= 2;
    worker->taken = taken;
    return &worker->patience;
}

/* Waits until there is something to do, or just looks; returns how many egresses or wake-ups have something to read. */
static int wait_for_work(struct worker *worker, struct epoll_event *events, bool just_look)
{
    bool backlog = port_backlog(&worker->port), without_egress = behind(worker);
    const struct timespec *most = backlog || without_egress ? patience(worker) : NULL;
    struct pollfd any[] = {{.fd = worker->poll, .events = POLLIN}};
    struct pollfd no_egress[] = {{.fd = worker->port.fd, .events = POLLIN}, {.fd = worker->wake, .events = POLLIN}};
    struct duct *duct = duct_of(worker);
    int ready = 0;

    if (duct && !without_egress && !just_look && !duct_sleep(duct, true))
        just_look = true;
    reader_turn(&worker->reader);
    if (without_egress) {
        eventfd_t ignored;

        ppoll(no_egress, 2, most, NULL);
        eventfd_read(worker->wake, &ignored);
    } else {
        if (backlog && !just_look)
            ppoll(any, 1, most, NULL);
        ready = epoll_wait(worker->poll, events, EVENTS, backlog || just_look ? 0 : -1);
    }
    reader_turn(&worker->reader);
    if ((duct = duct_of(worker)))
        duct_sleep(duct, false);
    return ready;
}

/* Sends what the engine has handed in, its farewells mostly, as far as the card takes it in FAREWELL_MS. */
static void finish(struct worker *worker)
{
    while (send_control(worker))
        port_flush(&worker->port);
    for (int i = 0; i < FAREWELL_MS && port_backlog(&worker->port); i++) {
        usleep(1000);
        port_flush(&worker->port);
    }
}

/* The duct's bell has rung, or its other end is closed: then don't be told so for ever. */
static void hear(struct worker *worker)
{
    struct duct *duct = atomic_load_explicit(&worker->duct, memory_order_acquire);

    if (duct && !duct_heard(duct))
        epoll_ctl(worker->poll, EPOLL_CTL_DEL, duct->bell, NULL);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    struct epoll_event events[EVENTS];

    reader_turn(&worker->reader);
    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        bool full = receive(worker) == JOIN_MAX; /* then there may be more */
        int ready;

        full |= send_control(worker) == BATCH;
        flush(worker);
        ready = wait_for_work(worker, events, full);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == worker) {
                eventfd_t ignored;

                eventfd_read(worker->wake, &ignored);
            } else if (events[i].data.ptr == &worker->duct) {
                hear(worker);
            } else if (events[i].data.ptr) {
                drain_egress(worker, events[i].data.ptr);
                if (worker->port.queued >= BATCH) {
                    flush(worker);
                    receive(worker);
                }
            }
        }
        if (!behind(worker))
            drain_duct(worker);
        flush(worker);
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
    int error;

    atomic_store_explicit(&egress->watched, true, memory_order_release);
    error = watch(worker, egress->fd, egress);
    if (error)
        atomic_store_explicit(&egress->watched, false, memory_order_relaxed);
    return error;
}

void worker_unwatch(struct worker *worker, struct egress *egress)
{
    epoll_ctl(worker->poll, EPOLL_CTL_DEL, egress->fd, NULL);
    atomic_store_explicit(&egress->watched, false, memory_order_relaxed);
}

int worker_exchange_duct(struct worker *worker, struct duct *duct, struct duct **before)
{
    int error = duct ? watch(worker, duct->bell, &worker->duct) : 0;

    *before = NULL;
    if (error)
        return error;
    *before = atomic_exchange(&worker->duct, duct);
    if (*before)
        epoll_ctl(worker->poll, EPOLL_CTL_DEL, (*before)->bell, NULL);
    return 0;
}

int worker_open(struct worker *worker, struct shared *shared, uint32_t max_sessions)
{
    int error = 0;

    worker->shared = shared;
    worker->poll = epoll_create1(EPOLL_CLOEXEC);
    worker->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->sessions = calloc(max_sessions, sizeof *worker->sessions);
    worker->shares = calloc(max_sessions, sizeof *worker->shares);
    if (worker->poll < 0 || worker->wake < 0)
        return -errno;
    error |= ring_open(&worker->known, CONTROL_RING);
    error |= ring_open(&worker->unknown, CONTROL_RING);
    error |= ring_open(&worker->outgoing, CONTROL_RING);
    if (error || !worker->sessions || !worker->shares)
        return -ENOMEM;
    error = watch(worker, worker->wake, worker);
    return error ? error : watch(worker, worker->port.fd, NULL);
}

int worker_start(struct worker *worker, uint32_t queue)
{
    char name[16]; /* as `top -H` shows it */
    sigset_t all, before;
    int error;

    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&worker->thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        worker->thread = 0;
        return -error;
    }
    snprintf(name, sizeof name, "souppp-q%u", queue);
    pthread_setname_np(worker->thread, name);
    return 0;
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
    duct_close(atomic_load(&worker->duct));
    ring_close(&worker->known);
    ring_close(&worker->unknown);
    ring_close(&worker->outgoing);
    free(worker->sessions);
    free(worker->shares);
    close(worker->poll);
    close(worker->wake);
}
