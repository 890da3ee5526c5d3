#include <errno.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "souppp.h"
#include "worker.h"

enum { ETHERNET_MTU = 1500, ETHERNET_HEADER = 14, VLAN_TAG = 4, MAX_QUEUES = 128, ALIGNMENT = 64 };

/* What the engine's side keeps of a session, by slot. */
struct slot {
    bool used;
    struct egress egress; /* its own; fd is -1 without one */
    struct route {
        struct key key;
        uint32_t number;
    } routes[2];
    uint32_t route_count;
};

struct datapath {
    struct shared shared;
    struct slot *slots;
    struct egress routed;
    struct souppp_options options;
    uint32_t max_sessions;
    uint32_t queues; /* how many of the workers there are */
    int ifindex; /* a card's name may change */
    int asker; /* a socket in the card's network namespace */
    uint32_t next; /* the queue whose control frames come first next time */
    uint64_t mark; /* a worker's `shown` that the card is being watched to reach */
    uint32_t control_taken;
    struct worker *workers[MAX_QUEUES];
};

static void explain(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void explain(char *error, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error, size, format, arguments);
    va_end(arguments);
}

/* Linux has had UDP segmentation for TUN since 6.2, and no question to ask for it. */
static bool kernel_cuts_udp(void)
{
    struct utsname name;
    int major, minor;

    return uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 2));
}

static bool has_vnet_header(int fd)
{
    struct ifreq request = {0};

    return ioctl(fd, TUNGETIFF, &request) == 0 && request.ifr_flags & IFF_VNET_HDR;
}

/* The longest frame that the kernel lets a device with this MTU forward: one VLAN tag's room is free. */
static uint32_t longest_frame(const struct datapath *dp)
{
    struct ifreq request = {.ifr_ifindex = dp->ifindex};
    uint32_t longest;

    if (ioctl(dp->asker, SIOCGIFNAME, &request) || ioctl(dp->asker, SIOCGIFMTU, &request))
        return MAX_FRAME;
    longest = (uint32_t)request.ifr_mtu + ETHERNET_HEADER + VLAN_TAG;
    return longest < MAX_FRAME ? longest : MAX_FRAME;
}

static int open_shared(struct datapath *dp)
{
    dp->shared.join_udp = kernel_cuts_udp();
    dp->shared.control_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    dp->asker = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (dp->shared.control_event < 0 || dp->asker < 0)
        return -errno;
    dp->shared.sessions = calloc(dp->max_sessions, sizeof *dp->shared.sessions);
    dp->slots = calloc(dp->max_sessions, sizeof *dp->slots);
    dp->shared.ducted = calloc(dp->max_sessions, sizeof *dp->shared.ducted);
    dp->shared.max_sessions = dp->max_sessions;
    if (!dp->shared.sessions || !dp->slots || !dp->shared.ducted || table_open(&dp->shared.keys, dp->max_sessions) ||
        table_open(&dp->shared.routes, 2 * dp->max_sessions))
        return -ENOMEM;
    return 0;
}

/* Zeroed memory that ends on a cache line of its own. */
static void *allocate(size_t size)
{
    size_t whole = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = aligned_alloc(ALIGNMENT, whole);

    return memory ? memset(memory, 0, whole) : NULL;
}

static const char *objection(int code, const struct souppp_options *options)
{
    if (code == -EBUSY)
        return "another program uses this queue; stop it";
    if (code == -EOPNOTSUPP && options->copying == SOUPPP_ZERO_COPY)
        return "its driver has none; use `xdp: auto`";
    if (code == -ENOBUFS)
        return "too little memory may be locked; it takes CAP_IPC_LOCK, or `ulimit -l` with 8192 for each queue, "
               "and twice that for zero-copy";
    return strerror(-code);
}

static int open_queue(struct datapath *dp, const char *ifname, uint32_t queue, char *error, size_t size)
{
    const struct souppp_options *options = &dp->options;
    struct worker *worker = allocate(sizeof *worker);
    int code;

    if (!worker) {
        explain(error, size, "not enough memory for queue %u of %s", queue, ifname);
        return -ENOMEM;
    }
    code = port_open(&worker->port, ifname, queue,
                         (struct port_options){.copying = options->copying, .busy_poll = options->busy_poll});

    if (code) {
        explain(error, size, "cannot open an AF_XDP socket on queue %u of %s%s: %s", queue, ifname,
                options->copying == SOUPPP_ZERO_COPY ? " with zero-copy" : "", objection(code, options));
        free(worker);
        return code;
    }
    code = worker_open(worker, &dp->shared, dp->max_sessions);
    if (!code)
        code = worker_start(worker, queue);
    if (code)
        explain(error, size, "cannot start the worker of queue %u of %s: %s", queue, ifname,
                code == -EAGAIN ? "raise the limit of processes (pids.max of the cgroup, TasksMax=, `ulimit -u`)"
                                : strerror(-code));
    else if (bpf_map_update_elem(options->xsk_map, &queue, &worker->port.fd, BPF_ANY)) {
        code = -errno;
        explain(error, size, "cannot give queue %u of %s to the XDP program: %s", queue, ifname, strerror(-code));
    }
    if (code) {
        worker_close(worker);
        port_close(&worker->port);
        free(worker);
        return code;
    }
    dp->workers[queue] = worker;
    dp->queues = queue + 1;
    return 0;
}

bool souppp_add_queues(struct datapath *dp, const char *ifname, uint32_t queues, char *error, size_t size)
{
    if (queues > MAX_QUEUES) {
        explain(error, size, "%s has %u queues, of which %u can be used", ifname, queues, MAX_QUEUES);
        return false;
    }
    for (uint32_t queue = dp->queues; queue < queues; queue++)
        if (open_queue(dp, ifname, queue, error, size))
            return false;
    return true;
}

struct datapath *souppp_open(const char *ifname, const struct souppp_options *options, char *error, size_t size)
{
    struct datapath *dp = allocate(sizeof *dp);

    libxdp_set_print(NULL); /* errors are told by us; nothing else may write on the operator's screen */
    libbpf_set_print(NULL);
    if (!dp) {
        explain(error, size, "not enough memory for the data path");
        return NULL;
    }
    dp->options = *options;
    dp->max_sessions = options->max_sessions;
    dp->ifindex = (int)if_nametoindex(ifname);
    dp->routed = (struct egress){.fd = -1, .slot = EGRESS_ROUTED};
    if (open_shared(dp)) {
        explain(error, size, "not enough memory for %u sessions", options->max_sessions);
        souppp_close(dp);
        return NULL;
    }
    if (!souppp_add_queues(dp, ifname, options->queues, error, size)) {
        souppp_close(dp);
        return NULL;
    }
    return dp;
}

void souppp_close(struct datapath *dp)
{
    for (uint32_t i = 0; i < dp->queues; i++) {
        worker_close(dp->workers[i]);
        port_close(&dp->workers[i]->port);
        free(dp->workers[i]);
    }
    table_close(&dp->shared.keys);
    table_close(&dp->shared.routes);
    for (uint32_t i = 0; dp->shared.sessions && i < dp->max_sessions; i++)
        free(dp->shared.sessions[i].own);
    free(dp->shared.sessions);
    free(dp->shared.ducted);
    free(dp->slots);
    if (dp->shared.control_event >= 0)
        close(dp->shared.control_event);
    if (dp->asker >= 0)
        close(dp->asker);
    free(dp);
}

int souppp_control_event(const struct datapath *dp)
{
    return dp->shared.control_event;
}

bool souppp_zero_copy(const struct datapath *dp)
{
    for (uint32_t i = 0; i < dp->queues; i++)
        if (!dp->workers[i]->port.zero_copy)
            return false;
    return true;
}

struct batch {
    uint8_t *octets;
    uint32_t size, used, *ends, count, max;
};

/* False when the batch is full. */
static bool collect(struct ring *ring, struct batch *batch)
{
    const uint8_t *frame;
    uint32_t length;

    while ((frame = ring_first(ring, &length))) {
        if (batch->count == batch->max || length > batch->size - batch->used)
            return false;
        memcpy(batch->octets + batch->used, frame, length);
        batch->used += length;
        batch->ends[batch->count++] = batch->used;
        ring_drop(ring, length);
    }
    return true;
}

uint32_t souppp_receive_control(struct datapath *dp, uint8_t *octets, uint32_t size, uint32_t *ends, uint32_t max)
{
    struct batch batch = {.octets = octets, .size = size, .ends = ends, .max = max};
    uint32_t first = dp->next++;
    bool empty = true;
    eventfd_t ignored;

    eventfd_read(dp->shared.control_event, &ignored);
    atomic_store(&dp->shared.control_waiting, false); /* before looking, so that nothing put in later goes untold */
    for (uint32_t i = 0; i < dp->queues; i++)
        empty &= collect(&dp->workers[(first + i) % dp->queues]->known, &batch);
    if (empty)
        atomic_fetch_add_explicit(&dp->shared.rounds, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < dp->queues; i++)
        empty &= collect(&dp->workers[(first + i) % dp->queues]->unknown, &batch);
    if (!empty && !atomic_exchange(&dp->shared.control_waiting, true))
        eventfd_write(dp->shared.control_event, 1);
    return batch.count;
}

uint32_t souppp_send_control(struct datapath *dp, const uint8_t *octets, const uint32_t *ends, uint32_t count)
{
    struct worker *worker = dp->workers[0]; /* one queue for all, so that they leave in this order */
    uint32_t taken = 0, start = 0;

    for (; taken < count && ring_put(&worker->outgoing, octets + start, ends[taken] - start); taken++)
        start = ends[taken];
    if (taken)
        worker_wake(worker);
    return taken;
}

uint32_t souppp_control_taken(struct datapath *dp)
{
    const struct worker *worker = dp->workers[0];
    uint32_t taken = port_taken(&worker->port);

    /* One mark after another: the latest may never be reached while more and more is sent. What isn't in the ring's
     * reach has been taken long ago. */
    for (int i = 0; i < 2 && (uint32_t)dp->mark - taken - 1 >= RING_SIZE; i++) {
        dp->control_taken = (uint32_t)(dp->mark >> 32);
        dp->mark = atomic_load_explicit(&worker->shown, memory_order_acquire);
    }
    return dp->control_taken;
}

static const uint8_t zeros[8];

/* The routes a session needs, 0 to 2 of them. */
static uint32_t session_routes(const struct souppp_session *session, uint32_t number, struct route *routes)
{
    uint32_t n = 0;

    if (session->egress != SOUPPP_EGRESS_ROUTED)
        return 0;
    if (memcmp(session->ipv4, zeros, sizeof session->ipv4))
        routes[n++] = (struct route){route_key(PPP_IPV4, session->ipv4), 2 * number};
    if (memcmp(session->ipv6, zeros, sizeof session->ipv6))
        routes[n++] = (struct route){route_key(PPP_IPV6, session->ipv6), 2 * number + 1};
    return n;
}

static struct session_address address_of(const struct souppp_session *session)
{
    struct session_address address = {.session_id = session->session_id, .vlan_count = session->vlan_count};

    memcpy(address.own_mac, session->own_mac, 6);
    memcpy(address.peer_mac, session->peer_mac, 6);
    for (uint32_t i = 0; i < session->vlan_count; i++)
        address.vlans[i] = (struct vlan_tag){.tpid = session->vlans[i][0], .tci = session->vlans[i][1]};
    return address;
}

/* When it returns no worker holds on to what it found before. */
static void wait_for_workers(struct datapath *dp)
{
    for (uint32_t i = 0; i < dp->queues; i++)
        reader_wait(&dp->workers[i]->reader);
}

int souppp_add_session(struct datapath *dp, uint32_t number, const struct souppp_session *what)
{
    struct session_address address;
    struct session *session;
    struct slot *slot;
    struct key key;
    struct own *own;
    int error;

    if (number >= dp->max_sessions || what->vlan_count > MAX_VLAN_TAGS || what->own.network_count > SOUPPP_NETWORKS)
        return -EINVAL;
    slot = &dp->slots[number];
    if (what->egress == SOUPPP_EGRESS_ROUTED && dp->routed.fd < 0)
        return -ENOENT;
    address = address_of(what);
    key = session_key(&address);
    if (slot->used || table_find(&dp->shared.keys, &key) != TABLE_NONE)
        return -EEXIST;
    slot->egress.fd = -1; /* field by field: a worker may be looking whether it is watched */
    slot->egress.offload = slot->egress.ducted = false;
    slot->egress.slot = number;
    slot->egress.owner = number % dp->queues;
    slot->route_count = session_routes(what, number, slot->routes);
    for (uint32_t i = 0; i < slot->route_count; i++)
        if (table_find(&dp->shared.routes, &slot->routes[i].key) != TABLE_NONE)
            return -EEXIST;

    own = own_new(&what->own);
    if (!own)
        return -ENOMEM;
    session = &dp->shared.sessions[number];
    free(session->own); /* of a session that could not be added, or is gone: nobody looks at it */
    *session = (struct session){
        .own = own,
        .mtu = what->mtu < MAX_PACKET ? what->mtu : MAX_PACKET,
        .clamp = what->mtu < ETHERNET_MTU ? what->mtu : 0,
    };
    session->header_length = header_build(&address, session->header);
    session->longest = longest_frame(dp) - session->header_length;
    if (what->egress == SOUPPP_EGRESS_ROUTED) {
        session->egress = &dp->routed;
    } else if (what->egress == SOUPPP_EGRESS_DUCTED) {
        slot->egress.offload = slot->egress.ducted = true;
        session->egress = &slot->egress;
        atomic_store_explicit(&dp->shared.ducted[number], true, memory_order_release);
    } else if (what->egress != SOUPPP_EGRESS_NONE) {
        slot->egress.fd = what->fd;
        slot->egress.offload = has_vnet_header(what->fd);
        session->egress = &slot->egress;
        error = worker_watch(dp->workers[slot->egress.owner], &slot->egress);
        if (error)
            return error;
    }
    slot->used = true;
    table_insert(&dp->shared.keys, number, &key);
    for (uint32_t i = 0; i < slot->route_count; i++)
        table_insert(&dp->shared.routes, slot->routes[i].number, &slot->routes[i].key);
    return 0;
}

int souppp_set_own(struct datapath *dp, uint32_t number, const struct souppp_own *what)
{
    struct own *own;

    if (number >= dp->max_sessions || !dp->slots[number].used)
        return -ENOENT;
    if (what->network_count > SOUPPP_NETWORKS)
        return -EINVAL;
    own = own_new(what);
    if (!own)
        return -ENOMEM;
    own = atomic_exchange(&dp->shared.sessions[number].own, own);
    wait_for_workers(dp);
    free(own);
    return 0;
}

int souppp_remove_session(struct datapath *dp, uint32_t number)
{
    struct slot *slot;

    if (number >= dp->max_sessions || !dp->slots[number].used)
        return -ENOENT;
    slot = &dp->slots[number];
    if (slot->egress.fd >= 0)
        worker_unwatch(dp->workers[slot->egress.owner], &slot->egress);
    atomic_store_explicit(&dp->shared.ducted[number], false, memory_order_release);
    table_remove(&dp->shared.keys, number);
    for (uint32_t i = 0; i < slot->route_count; i++)
        table_remove(&dp->shared.routes, slot->routes[i].number);
    wait_for_workers(dp);
    slot->used = false;
    return 0;
}

int souppp_open_duct(struct datapath *dp, uint32_t queue, uint32_t size, int *given)
{
    struct duct *duct, *before;
    int error;

    if (queue >= dp->queues || size < SUPER_PACKET * 2 || size & (size - 1))
        return -EINVAL;
    duct = duct_open(size, given);
    if (!duct)
        return -errno;
    error = worker_exchange_duct(dp->workers[queue], duct, &before);
    if (error) {
        for (int i = 0; i < DUCT_GIVEN; i++)
            close(given[i]);
        before = duct;
    } else {
        reader_wait(&dp->workers[queue]->reader);
    }
    duct_close(before);
    return error;
}

bool souppp_duct_broken(const struct datapath *dp)
{
    for (uint32_t i = 0; i < dp->queues; i++) {
        const struct duct *duct = atomic_load(&dp->workers[i]->duct);

        if (duct && atomic_load_explicit(&duct->broken, memory_order_relaxed))
            return true;
    }
    return false;
}

int souppp_routed_egress(struct datapath *dp, int fd)
{
    int error;

    if (dp->routed.fd >= 0)
        return -EEXIST;
    dp->routed.fd = fd;
    dp->routed.offload = has_vnet_header(fd);
    error = worker_watch(dp->workers[dp->routed.owner], &dp->routed);
    if (error)
        dp->routed.fd = -1;
    return error;
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void souppp_add_traffic(const struct datapath *dp, uint64_t *numbers, uint32_t count)
{
    for (uint32_t queue = 0; queue < dp->queues; queue++) {
        const struct session_counters *sessions = dp->workers[queue]->sessions;

        uint64_t *number = numbers;

        for (uint32_t i = 0; i < count; i++) {
#define ADD(name) *number++ += load(&sessions[i].name);
            TRAFFIC_COUNTERS(ADD)
#undef ADD
        }
    }
}

void souppp_strays(const struct datapath *dp, uint32_t slot, uint64_t *numbers)
{
    for (uint32_t queue = 0; slot < dp->max_sessions && queue < dp->queues; queue++) {
        const struct session_counters *session = &dp->workers[queue]->sessions[slot];
        uint64_t *number = numbers;

#define ADD(name) *number++ += load(&session->name);
        STRAY_COUNTERS(ADD)
#undef ADD
    }
}

#define NAME(name) #name,
#define DROP_NAME(name) "drop_" #name,

const char *const *souppp_queue_names(void)
{
    static const char *const names[] = {
        QUEUE_COUNTERS(NAME) DROP_REASONS(DROP_NAME) KERNEL_DROPS(DROP_NAME)
        "cpu_ns", "rx_waiting", "tx_waiting", "ring_size", NULL,
    };
    return names;
}

void souppp_queue(const struct datapath *dp, uint32_t queue, uint64_t *numbers)
{
    const struct worker *worker = dp->workers[queue];
    const struct counters *counters = &worker->counters;
    const struct port *port = &worker->port;
    struct xdp_statistics kernel = {0};
    socklen_t size = sizeof kernel;
    struct timespec cpu = {0};
    clockid_t clock;

    if (pthread_getcpuclockid(worker->thread, &clock) == 0)
        clock_gettime(clock, &cpu);
    getsockopt(port->fd, SOL_XDP, XDP_STATISTICS, &kernel, &size);
#define VALUE(name) *numbers++ = load(&counters->name);
    QUEUE_COUNTERS(VALUE)
    DROP_REASONS(VALUE)
#undef VALUE
    *numbers++ = kernel.rx_ring_full;
    *numbers++ = kernel.rx_dropped;
    *numbers++ = kernel.tx_invalid_descs;
    *numbers++ = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    *numbers++ = ring_waiting(port->rx.producer, port->rx.consumer);
    *numbers++ = ring_waiting(port->tx.producer, port->tx.consumer);
    *numbers = RING_SIZE;
}
