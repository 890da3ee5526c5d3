#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "counters.h"
#include "flow.h"
#include "relay.h"

enum { EVENTS = 256, CLIENT = 0, SERVER = 1 };
#define SECOND UINT64_C(1000000000)
#define SWEEP (SECOND / 2) /* how late an idle connection may be ended */
#define NEVER UINT64_MAX

/* One direction: `source_ready` and `target_ready` tell whether epoll has said something since it had nothing, or no room.
 * What its target has room for is asked of epoll once it had none. */
struct way {
    struct flow flow;
    _Atomic uint64_t octets;
    uint64_t uncounted; /* octets of the first that are nobody's but the proxy's */
    bool source_ready, target_ready, target_watched, over;
};

struct connection {
    struct connection *next, *before; /* of the same slot */
    struct connection *queued;        /* the next one that is new, has something to do, or has ended */
    struct way ways[2];               /* from the client, from the server */
    uint64_t id, idle, number;        /* `number`: how many had been added before it */
    uint64_t last;                    /* when an octet moved, or it began */
    uint64_t patience;                /* how long the server may take to be connected; 0: it is */
    int fds[2];
    int error; /* what kept it from being connected */
    uint32_t slot;
    uint32_t why;
    bool waits; /* for its turn */
    bool ended;
};

struct queue {
    struct connection *first, **last;
};

struct slot_counters {
    RELAY_COUNTERS(COUNTER_FIELD)
};

struct relay {
    /* The thread's own. */
    struct pipes pipes;
    struct connection **slots; /* the connections of each */
    struct queue turns;
    uint64_t now, next_sweep;
    uint32_t slot_count;
    int poll;

    /* Both sides'; what isn't atomic under the lock. */
    struct slot_counters *counters;
    int wake, event;
    atomic_bool stop;
    atomic_bool asked; /* something was added or is to be cut, and the thread is woken for it */
    pthread_mutex_t lock;
    struct queue added, ended;
    uint64_t added_count;
    _Atomic uint32_t connecting;
    uint64_t *cut_before; /* by slot that is to be cut: how many had been added, over all, when that was said */
    uint32_t *to_cut;     /* those slots */
    uint32_t to_cut_count;

    pthread_t thread;
};

static void queue_open(struct queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

static void enqueue(struct queue *queue, struct connection *connection)
{
    connection->queued = NULL;
    *queue->last = connection;
    queue->last = &connection->queued;
}

static struct connection *dequeue(struct queue *queue)
{
    struct connection *connection = queue->first;

    if (connection) {
        queue->first = connection->queued;
        if (!queue->first)
            queue->last = &queue->first;
    }
    return connection;
}

static uint64_t clock_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* Closes a socket; with a reset, so that nobody takes what came for all there was. */
static void close_socket(int fd, bool reset)
{
    const struct linger at_once = {.l_onoff = 1};

    if (reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

/* The client's socket stays open where it has not been told yet whether it gets what it wants: the owner tells it. */
static void close_both(struct relay *relay, struct connection *connection, bool reset)
{
    for (int side = CLIENT; side <= SERVER; side++) {
        flow_close(&connection->ways[side].flow, &relay->pipes);
        epoll_ctl(relay->poll, EPOLL_CTL_DEL, connection->fds[side], NULL); /* somebody else may have it open as well */
        if (side == SERVER || !connection->patience)
            close_socket(connection->fds[side], reset);
    }
}

static void link_to_slot(struct relay *relay, struct connection *connection)
{
    struct connection **first = &relay->slots[connection->slot];

    connection->next = *first;
    if (*first)
        (*first)->before = connection;
    *first = connection;
}

static void unlink_from_slot(struct relay *relay, struct connection *connection)
{
    if (connection->next)
        connection->next->before = connection->before;
    *(connection->before ? &connection->before->next : &relay->slots[connection->slot]) = connection->next;
}

/* It is told at once, or when its turn comes if it waits for one: until then it stands in that queue. */
static void tell(struct relay *relay, struct connection *connection)
{
    bool first;

    if (connection->waits)
        return;
    pthread_mutex_lock(&relay->lock);
    first = !relay->ended.first; /* else the owner knows already that some wait */
    enqueue(&relay->ended, connection);
    pthread_mutex_unlock(&relay->lock);
    if (first)
        eventfd_write(relay->event, 1);
}

static void end(struct relay *relay, struct connection *connection, enum souppp_relay_why why)
{
    struct slot_counters *counters = &relay->counters[connection->slot];

    connection->ended = true;
    connection->why = why;
    close_both(relay, connection, why != RELAY_DONE);
    unlink_from_slot(relay, connection);
    atomic_fetch_sub_explicit(&counters->connections, 1, memory_order_relaxed);
    if (connection->patience)
        atomic_fetch_sub_explicit(&relay->connecting, 1, memory_order_relaxed);
    tell(relay, connection);
}

static void end_unconnected(struct relay *relay, struct connection *connection, int error)
{
    connection->error = error;
    end(relay, connection, RELAY_UNCONNECTED);
}

static bool holds(const struct connection *connection)
{
    return flow_holds(&connection->ways[CLIENT].flow) || flow_holds(&connection->ways[SERVER].flow);
}

/* When it has been idle, or on its way to the server, for too long. */
static uint64_t due(const struct connection *connection)
{
    uint64_t most = connection->patience ? connection->patience : connection->idle;

    return most ? connection->last + most : NEVER;
}

static void wait_for_turn(struct relay *relay, struct connection *connection)
{
    if (connection->waits)
        return;
    connection->waits = true;
    enqueue(&relay->turns, connection);
}

static bool can_move(const struct way *way)
{
    return !way->over && (flow_holds(&way->flow) ? way->target_ready : way->source_ready);
}

static enum flow_turn move(struct relay *relay, struct connection *connection, int side)
{
    struct slot_counters *counters = &relay->counters[connection->slot];
    struct way *way = &connection->ways[side];
    uint64_t moved = 0;
    enum flow_turn turn = flow_move(&way->flow, &relay->pipes, connection->fds[side], connection->fds[!side], &moved);

    if (moved) {
        uint64_t own = moved < way->uncounted ? moved : way->uncounted;

        connection->last = relay->now;
        way->uncounted -= own;
        moved -= own;
        count(&way->octets, moved);
        count(side == CLIENT ? &counters->up : &counters->down, moved);
    }
    return turn;
}

/* A pointer to a connection, and the side in its lowest bit. */
static uint64_t marked(struct connection *connection, int side)
{
    return (uint64_t)(uintptr_t)connection | (uint64_t)side;
}

static int watch(struct relay *relay, struct connection *connection, int side, int how, uint32_t more)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET | more,
                                .data.u64 = marked(connection, side)};

    return epoll_ctl(relay->poll, how, connection->fds[side], &event);
}

/* One direction's part of a turn. False if the connection ended with it. */
static bool serve_way(struct relay *relay, struct connection *connection, int side)
{
    static const enum souppp_relay_why gone[2] = {RELAY_CLIENT_GONE, RELAY_SERVER_GONE};
    struct way *way = &connection->ways[side];

    switch (move(relay, connection, side)) {
    case FLOW_SOURCE_WAITS:
        way->source_ready = false;
        break;
    case FLOW_TARGET_WAITS:
        way->target_ready = false;
        if (!way->target_watched && watch(relay, connection, !side, EPOLL_CTL_MOD, EPOLLOUT)) {
            end(relay, connection, RELAY_SHORT);
            return false;
        }
        way->target_watched = true;
        break;
    case FLOW_MORE:
        break;
    case FLOW_OVER:
        way->over = true;
        break;
    case FLOW_SOURCE_GONE:
        end(relay, connection, gone[side]);
        return false;
    case FLOW_TARGET_GONE:
        end(relay, connection, gone[!side]);
        return false;
    case FLOW_NO_MEMORY:
        end(relay, connection, RELAY_SHORT);
        return false;
    }
    return true;
}

/* Whether the server is connected at last. */
static bool is_connected(struct relay *relay, struct connection *connection)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (!connection->patience)
        return true;
    if (!connection->ways[CLIENT].target_ready) /* epoll has not said anything of the server */
        return false;
    if (getsockopt(connection->fds[SERVER], SOL_SOCKET, SO_ERROR, &error, &size))
        error = errno;
    if (error) {
        end_unconnected(relay, connection, error);
        return false;
    }
    connection->patience = 0;
    connection->last = relay->now;
    if (due(connection) < relay->next_sweep)
        relay->next_sweep = due(connection);
    atomic_fetch_sub_explicit(&relay->connecting, 1, memory_order_relaxed);
    return true;
}

static void serve(struct relay *relay, struct connection *connection)
{
    struct way *ways = connection->ways;

    if (!is_connected(relay, connection))
        return;
    for (int side = CLIENT; side <= SERVER; side++)
        if (can_move(&ways[side]) && !serve_way(relay, connection, side))
            return;
    if (ways[CLIENT].over && ways[SERVER].over)
        end(relay, connection, RELAY_DONE);
    else if (can_move(&ways[CLIENT]) || can_move(&ways[SERVER]))
        wait_for_turn(relay, connection);
}

/* Gives each connection one turn that waits for one now. */
static void take_turns(struct relay *relay)
{
    struct queue now = relay->turns;
    struct connection *connection;

    if (!now.first)
        return;
    queue_open(&relay->turns);
    while ((connection = now.first)) {
        now.first = connection->queued;
        connection->waits = false;
        if (connection->ended)
            tell(relay, connection);
        else
            serve(relay, connection);
    }
}

/* Ends those of a slot that were added before so many had been. */
static void cut_slot(struct relay *relay, uint32_t slot, uint64_t before)
{
    struct connection *next;

    for (struct connection *connection = relay->slots[slot]; connection; connection = next) {
        next = connection->next;
        if (connection->number < before)
            end(relay, connection, RELAY_CUT);
    }
}

static void cut_slots(struct relay *relay)
{
    for (;;) {
        uint64_t before = 0;
        uint32_t slot = 0;

        pthread_mutex_lock(&relay->lock);
        if (relay->to_cut_count) {
            slot = relay->to_cut[--relay->to_cut_count];
            before = relay->cut_before[slot];
            relay->cut_before[slot] = 0;
        }
        pthread_mutex_unlock(&relay->lock);
        if (!before)
            return;
        cut_slot(relay, slot, before);
    }
}

static void begin(struct relay *relay, struct connection *connection)
{
    const int on = 1;

    link_to_slot(relay, connection);
    connection->last = relay->now;
    for (int side = CLIENT; side <= SERVER; side++) /* the two ends decide what to gather */
        setsockopt(connection->fds[side], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (due(connection) < relay->next_sweep)
        relay->next_sweep = due(connection);
    if (watch(relay, connection, CLIENT, EPOLL_CTL_ADD, 0) ||
        watch(relay, connection, SERVER, EPOLL_CTL_ADD, connection->patience ? EPOLLOUT : 0))
        end(relay, connection, RELAY_SHORT);
    else if (!connection->patience && holds(connection))
        wait_for_turn(relay, connection);
}

/* Takes over what was added since the last time. */
static void take_over(struct relay *relay)
{
    struct connection *connection;
    struct queue added;

    pthread_mutex_lock(&relay->lock);
    added = relay->added;
    queue_open(&relay->added);
    pthread_mutex_unlock(&relay->lock);
    while ((connection = added.first)) {
        added.first = connection->queued;
        begin(relay, connection);
    }
}

/* Ends what has been idle for too long, and finds out when to look again. */
static void sweep(struct relay *relay)
{
    uint64_t next = NEVER, soon = relay->now + SWEEP;

    for (uint32_t slot = 0; slot < relay->slot_count; slot++) {
        struct connection *following;

        for (struct connection *connection = relay->slots[slot]; connection; connection = following) {
            following = connection->next;
            if (due(connection) <= relay->now && connection->patience)
                end_unconnected(relay, connection, ETIMEDOUT);
            else if (due(connection) <= relay->now)
                end(relay, connection, RELAY_IDLE);
            else if (due(connection) < next)
                next = due(connection);
        }
    }
    relay->next_sweep = next < soon ? soon : next;
}

/* Milliseconds that epoll may wait. */
static int patience(const struct relay *relay)
{
    uint64_t left;

    if (relay->turns.first)
        return 0;
    if (relay->next_sweep == NEVER)
        return -1;
    left = relay->next_sweep > relay->now ? relay->next_sweep - relay->now : 0;
    return left > 60 * SECOND ? 60000 : (int)(left / 1000000 + 1);
}

/* Notes what epoll says of a connection, which is served when it is its turn. */
static void note(struct relay *relay, const struct epoll_event *event)
{
    int side = event->data.u64 & 1;
    struct connection *connection = (struct connection *)(uintptr_t)(event->data.u64 & ~UINT64_C(1));

    if (event->events & ~(uint32_t)EPOLLOUT)
        connection->ways[side].source_ready = true;
    if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        connection->ways[side].flow.hangs = true;
    if (event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
        connection->ways[!side].target_ready = true;
    if (connection->patience ? connection->ways[CLIENT].target_ready
                             : can_move(&connection->ways[CLIENT]) || can_move(&connection->ways[SERVER]))
        wait_for_turn(relay, connection);
}

static void *run(void *argument)
{
    struct relay *relay = argument;
    struct epoll_event events[EVENTS];

    pthread_setname_np(pthread_self(), "souppp-relay"); /* by itself: others' files may be out of reach */
    while (!atomic_load_explicit(&relay->stop, memory_order_acquire)) {
        int ready = epoll_wait(relay->poll, events, EVENTS, patience(relay));

        relay->now = clock_now();
        for (int i = 0; i < ready; i++) {
            eventfd_t ignored;

            if (events[i].data.u64)
                note(relay, &events[i]);
            else
                eventfd_read(relay->wake, &ignored);
        }
        /* From here on connections end: no event of this batch is looked at any more. */
        if (atomic_exchange(&relay->asked, false)) {
            take_over(relay);
            cut_slots(relay);
        }
        take_turns(relay);
        if (relay->now >= relay->next_sweep)
            sweep(relay);
    }
    return NULL;
}

static int start(struct relay *relay)
{
    sigset_t all, before;
    int error;

    sigfillset(&all); /* SIGPIPE among them */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&relay->thread, NULL, run, relay);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static int open_relay(struct relay *relay)
{
    struct epoll_event event = {.events = EPOLLIN};

    queue_open(&relay->turns);
    queue_open(&relay->added);
    queue_open(&relay->ended);
    pthread_mutex_init(&relay->lock, NULL);
    relay->next_sweep = NEVER;
    relay->now = clock_now();
    relay->poll = epoll_create1(EPOLL_CLOEXEC);
    relay->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    relay->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (relay->poll < 0 || relay->wake < 0 || relay->event < 0)
        return errno;
    if (!relay->slots || !relay->counters || !relay->cut_before || !relay->to_cut)
        return ENOMEM;
    if (epoll_ctl(relay->poll, EPOLL_CTL_ADD, relay->wake, &event))
        return errno;
    return start(relay);
}

static void destroy(struct relay *relay)
{
    if (relay->poll >= 0)
        close(relay->poll);
    if (relay->wake >= 0)
        close(relay->wake);
    if (relay->event >= 0)
        close(relay->event);
    pthread_mutex_destroy(&relay->lock);
    free(relay->slots);
    free(relay->counters);
    free(relay->cut_before);
    free(relay->to_cut);
    free(relay);
}

struct relay *souppp_relay_open(uint32_t slots)
{
    struct relay *relay = calloc(1, sizeof *relay);
    int error;

    if (!relay)
        return NULL;
    relay->poll = relay->wake = relay->event = -1;
    relay->slot_count = slots;
    relay->slots = calloc(slots, sizeof *relay->slots);
    relay->counters = calloc(slots, sizeof *relay->counters);
    relay->cut_before = calloc(slots, sizeof *relay->cut_before);
    relay->to_cut = calloc(slots, sizeof *relay->to_cut);
    error = open_relay(relay);
    if (!error)
        return relay;
    destroy(relay);
    errno = error;
    return NULL;
}

void souppp_relay_close(struct relay *relay)
{
    struct connection *connection;

    atomic_store_explicit(&relay->stop, true, memory_order_release);
    eventfd_write(relay->wake, 1);
    pthread_join(relay->thread, NULL);
    take_over(relay);
    for (uint32_t slot = 0; slot < relay->slot_count; slot++)
        cut_slot(relay, slot, NEVER);
    take_turns(relay); /* all that wait for one have ended */
    while ((connection = dequeue(&relay->ended))) {
        if (connection->patience)
            close(connection->fds[CLIENT]);
        free(connection);
    }
    pipes_close(&relay->pipes);
    destroy(relay);
}

static int prepare(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK)) ? -1 : 0;
}

static void discard(struct connection *connection)
{
    for (int side = CLIENT; side <= SERVER; side++)
        free(connection->ways[side].flow.kept);
    free(connection);
}

/* Has the thread look at what it is asked for, once for all that is asked until it does. */
static void ask(struct relay *relay)
{
    if (!atomic_exchange(&relay->asked, true))
        eventfd_write(relay->wake, 1);
}

struct connection *souppp_relay_add(struct relay *relay, const struct souppp_relayed *relayed, const uint8_t *octets)
{
    struct connection *connection;

    if (relayed->slot >= relay->slot_count) {
        errno = EINVAL;
        return NULL;
    }
    if (prepare(relayed->client) || prepare(relayed->server))
        return NULL;
    connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    connection->id = relayed->id;
    connection->idle = relayed->idle;
    connection->patience = relayed->patience;
    connection->slot = relayed->slot;
    connection->fds[CLIENT] = relayed->client;
    connection->fds[SERVER] = relayed->server;
    connection->ways[SERVER].uncounted = relayed->answer;
    connection->ways[CLIENT].target_ready = !relayed->patience;
    connection->ways[CLIENT].target_watched = relayed->patience;
    connection->ways[SERVER].target_ready = true;
    if (!flow_keep(&connection->ways[CLIENT].flow, octets, relayed->from_client) ||
        !flow_keep(&connection->ways[SERVER].flow, octets + relayed->from_client, relayed->answer + relayed->from_server)) {
        discard(connection);
        errno = ENOMEM;
        return NULL;
    }
    atomic_fetch_add_explicit(&relay->counters[relayed->slot].connections, 1, memory_order_relaxed);
    if (relayed->patience)
        atomic_fetch_add_explicit(&relay->connecting, 1, memory_order_relaxed);
    pthread_mutex_lock(&relay->lock);
    connection->number = relay->added_count++;
    enqueue(&relay->added, connection);
    pthread_mutex_unlock(&relay->lock);
    ask(relay);
    return connection;
}

int souppp_relay_cut(struct relay *relay, uint32_t slot)
{
    if (slot >= relay->slot_count)
        return -EINVAL;
    pthread_mutex_lock(&relay->lock);
    if (relay->added_count) {
        if (!relay->cut_before[slot])
            relay->to_cut[relay->to_cut_count++] = slot;
        relay->cut_before[slot] = relay->added_count;
    }
    pthread_mutex_unlock(&relay->lock);
    ask(relay);
    return 0;
}

int souppp_relay_event(const struct relay *relay)
{
    return relay->event;
}

uint32_t souppp_relay_ended(struct relay *relay, struct souppp_ended *ended, uint32_t max)
{
    struct connection *connection;
    uint32_t n = 0;
    eventfd_t ignored;
    bool more;

    eventfd_read(relay->event, &ignored);
    pthread_mutex_lock(&relay->lock);
    while (n < max && (connection = dequeue(&relay->ended))) {
        ended[n++] = (struct souppp_ended){
            .id = connection->id,
            .up = atomic_load_explicit(&connection->ways[CLIENT].octets, memory_order_relaxed),
            .down = atomic_load_explicit(&connection->ways[SERVER].octets, memory_order_relaxed),
            .why = connection->why,
            .client = connection->patience ? connection->fds[CLIENT] : -1,
            .error = connection->error,
        };
        free(connection);
    }
    more = relay->ended.first;
    pthread_mutex_unlock(&relay->lock);
    if (more)
        eventfd_write(relay->event, 1);
    return n;
}

void souppp_relay_traffic(const struct connection *connection, uint64_t *numbers)
{
    for (int side = CLIENT; side <= SERVER; side++)
        numbers[side] = atomic_load_explicit(&connection->ways[side].octets, memory_order_relaxed);
}

const uint32_t *souppp_relay_connecting(const struct relay *relay)
{
    return (const uint32_t *)&relay->connecting;
}

uint64_t *souppp_relay_counters(struct relay *relay)
{
    return (uint64_t *)relay->counters;
}

#define OF_RELAYED(type, name, dimensions) \
    {"souppp_relayed", #name, offsetof(struct souppp_relayed, name), sizeof ((struct souppp_relayed *)0)->name},
#define OF_ENDED(type, name, dimensions) \
    {"souppp_ended", #name, offsetof(struct souppp_ended, name), sizeof ((struct souppp_ended *)0)->name},
#define OF_SLOT(name) {"slot_counters", #name, offsetof(struct slot_counters, name), 8},
#define WHY(name) {"why", #name, name, 0},

const struct souppp_place *souppp_relay_layout(void)
{
    static const struct souppp_place places[] = {
        {"souppp_relayed", "", 0, sizeof(struct souppp_relayed)}, SOUPPP_RELAYED(OF_RELAYED)
        {"souppp_ended", "", 0, sizeof(struct souppp_ended)}, SOUPPP_ENDED(OF_ENDED)
        {"slot_counters", "", 0, sizeof(struct slot_counters)}, RELAY_COUNTERS(OF_SLOT)
        WHY(RELAY_DONE) WHY(RELAY_CLIENT_GONE) WHY(RELAY_SERVER_GONE) WHY(RELAY_IDLE) WHY(RELAY_CUT)
        WHY(RELAY_SHORT) WHY(RELAY_UNCONNECTED)
        {NULL, NULL, 0, 0},
    };
    return places;
}
