/* churn CARD XSK-MAP WIRE CYCLES EGRESS OUTSIDE ...: sessions added and removed CYCLES times while frames come and go
 * at full rate through all queues, and counters are read. All but CARD and CYCLES are descriptors: WIRE is a packet
 * socket at the far end of the card's cable, EGRESS what the data path gets, OUTSIDE where its packets come out. The
 * first egress is routed.
 *
 * Session s has egress s % egresses. Down, its packets say s; up, they say which egress they were sent into, and by the
 * routed egress s itself. So each packet tells whether it came out where it should. Built with sanitizers.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../c/check.h"
#include "octets.h"
#include "souppp.h"
#include "wire.h"

enum {
    QUEUES = 2,
    SLOTS = 16,
    MOST = 16,      /* egresses */
    SESSIONS = 48,  /* ids from 1 on */
    STRANGERS = 4,  /* ids that are never added */
    FLOWS = 4,      /* by which the line spreads frames over queues */
    BURST = 64,
    HEADER = 22,    /* of a session's frame, untagged */
    PACKET = 28 + 2,
    FRAME = 60,
    ECHOES = 16,    /* one frame in so many is for the engine */
};

static const uint8_t own[6] = {2, 0, 0, 0, 0, 1}, peer[6] = {2, 0, 0, 0, 0, 2};
static struct datapath *datapath;
static int wire, egress[MOST], outside[MOST];
static uint32_t egresses;
static atomic_bool stop;
static _Atomic uint64_t came_up, came_down;

static void address_of(uint32_t session, uint8_t *address)
{
    const uint8_t octets[4] = {10, 0, 0, (uint8_t)session};

    memcpy(address, octets, sizeof octets);
}

/* An IPv4 packet of UDP to a session's address, that says `what`. */
static void fill_packet(uint8_t *packet, uint32_t session, uint32_t what, uint32_t flow)
{
    memset(packet, 0, PACKET);
    packet[0] = 0x45;
    packet[3] = PACKET;
    packet[8] = 64;
    packet[9] = 17;
    memcpy(packet + 12, (uint8_t[]){192, 0, 2, 1}, 4);
    address_of(session, packet + 16);
    set16(packet + 20, 5000 + flow);
    set16(packet + 24, PACKET - 20);
    set16(packet + 28, what);
}

static void fill_frame(uint8_t *frame, uint32_t session, uint32_t flow)
{
    static const uint8_t pppoe[] = {0x88, 0x64, 0x11, 0, 0, 0, 0, 2 + PACKET, 0, PPP_IPV4};

    memset(frame, 0, FRAME);
    memcpy(frame, own, 6);
    memcpy(frame + 6, peer, 6);
    memcpy(frame + 12, pppoe, sizeof pppoe);
    set16(frame + 16, session);
    fill_packet(frame + HEADER, session, session, flow);
    if (flow == ECHOES)
        set16(frame + 20, 0xc021);
}

/* Frames of all sessions and some others from the far end. */
static void *send_down(void *unused)
{
    static uint8_t frames[BURST][FRAME];
    struct mmsghdr messages[BURST] = {0};
    struct iovec vectors[BURST];
    uint64_t state = 1;

    for (int i = 0; i < BURST; i++) {
        vectors[i] = (struct iovec){frames[i], FRAME};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    while (!atomic_load(&stop)) {
        for (int i = 0; i < BURST; i++)
            fill_frame(frames[i], 1 + chance(&state) % (SESSIONS + STRANGERS), i % ECHOES ? i % FLOWS : ECHOES);
        sendmmsg(wire, messages, BURST, 0);
        usleep(200);
    }
    return unused;
}

/* Packets into every egress. */
static void *send_up(void *unused)
{
    uint8_t packet[PACKET];
    uint64_t state = 2;

    while (!atomic_load(&stop)) {
        for (uint32_t i = 0; i < BURST; i++) {
            uint32_t to = chance(&state) % egresses, session = 1 + chance(&state) % SESSIONS;

            fill_packet(packet, session, to ? to : session, i % FLOWS);
            send(outside[to], packet, sizeof packet, MSG_DONTWAIT);
        }
        usleep(200);
    }
    return unused;
}

/* What arrives at the far end must bear a session of the egress that it was sent into. */
static void *watch_wire(void *unused)
{
    uint8_t frame[2048];

    while (!atomic_load(&stop)) {
        ssize_t length = recv(wire, frame, sizeof frame, MSG_DONTWAIT);
        uint32_t session, said;

        if (length < 0) {
            usleep(200);
            continue;
        }
        CHECK(length == FRAME && memcmp(frame, peer, 6) == 0 && memcmp(frame + 6, own, 6) == 0);
        if (get16(frame + 20) != PPP_IPV4)
            continue;
        session = get16(frame + 16);
        said = get16(frame + HEADER + 28);
        CHECK(session >= 1 && session <= SESSIONS);
        CHECK(said == (session % egresses ? session % egresses : session));
        atomic_fetch_add(&came_up, 1);
    }
    return unused;
}

static void *read_counters(void *unused)
{
    uint64_t queue[64], traffic[SLOTS * 4], before = 0;

    while (!atomic_load(&stop)) {
        uint64_t packets = 0;

        for (uint32_t i = 0; i < QUEUES; i++)
            souppp_queue(datapath, i, queue);
        memset(traffic, 0, sizeof traffic);
        souppp_add_traffic(datapath, traffic, SLOTS);
        for (uint32_t i = 0; i < SLOTS; i++)
            packets += traffic[4 * i] + traffic[4 * i + 2];
        CHECK(packets >= before); /* counters only grow */
        before = packets;
        usleep(100);
    }
    return unused;
}

/* Everything that waits outside of an egress must be of this session, or of any routed one. */
static void drain(uint32_t from, uint32_t session)
{
    uint8_t packet[2048];
    ssize_t length;

    while ((length = recv(outside[from], packet, sizeof packet, MSG_DONTWAIT)) > 0) {
        uint32_t said = get16(packet + 28);

        CHECK(length == PACKET);
        CHECK(from ? said == session : said % egresses == 0);
        atomic_fetch_add(&came_down, 1);
    }
}

static const struct souppp_own everything = {.open = 3, .network_count = 1, .networks = {{.version = 4}}};

static void add(uint32_t slot, uint32_t session)
{
    uint32_t to = session % egresses;
    struct souppp_session what = {
        .session_id = (uint16_t)session,
        .mtu = 1492,
        .own = everything,
        .egress = to ? SOUPPP_EGRESS_OWN : SOUPPP_EGRESS_ROUTED,
        .fd = to ? egress[to] : -1,
    };

    memcpy(what.own_mac, own, 6);
    memcpy(what.peer_mac, peer, 6);
    if (!to)
        address_of(session, what.ipv4);
    CHECK(souppp_add_session(datapath, slot, &what) == 0);
}

static void talk(void)
{
    static const uint8_t echo[30] = {2,    0,    0,    0, 0, 2, 2, 0,  0,    0,   0, 1,
                                     0x88, 0x64, 0x11, 0, 0, 1, 0, 10, 0xc0, 0x21};
    static uint8_t octets[1 << 16];
    uint32_t ends[256], end = sizeof echo, n = souppp_receive_control(datapath, octets, sizeof octets, ends, 256);

    for (uint32_t i = 0, start = 0; i < n; start = ends[i++])
        CHECK(ends[i] - start == FRAME && get16(octets + start + 20) == 0xc021);
    souppp_send_control(datapath, echo, &end, 1);
}

static uint64_t sum(const char *wanted)
{
    const char *const *names = souppp_queue_names();
    uint64_t numbers[64], total = 0;

    for (uint32_t queue = 0; queue < QUEUES; queue++) {
        souppp_queue(datapath, queue, numbers);
        for (uint32_t i = 0; names[i]; i++)
            if (!strcmp(names[i], wanted))
                total += numbers[i];
    }
    return total;
}

/* Has there been load enough beside the coming and going? On a busy machine that may take longer. */
static bool loaded(uint32_t cycles)
{
    return atomic_load(&came_up) > cycles && atomic_load(&came_down) > cycles / 10 &&
           sum("rx_control") > cycles / 10 && sum("drop_unknown_session") > cycles / 10;
}

/* Slots, ids and descriptors are used again at once, by other sessions. */
static void churn(uint32_t cycles)
{
    uint32_t in_slot[SLOTS] = {0}, on_egress[MOST] = {0};
    bool open[SESSIONS + 1] = {false};
    uint64_t state = 3;

    for (uint32_t added = 0, removed = 0; added < cycles || removed < added || !loaded(cycles);) {
        uint32_t slot = chance(&state) % SLOTS, session = in_slot[slot], to = session % egresses;

        if (session && chance(&state) & 1) {
            CHECK(souppp_set_own(datapath, slot, &everything) == 0);
        } else if (session) {
            CHECK(souppp_remove_session(datapath, slot) == 0);
            drain(to, session);
            in_slot[slot] = on_egress[to] = 0;
            open[session] = false;
            removed++;
        } else if (added < cycles || !loaded(cycles)) {
            session = 1 + chance(&state) % SESSIONS;
            to = session % egresses;
            if (open[session] || (to && on_egress[to]))
                continue;
            add(slot, session);
            in_slot[slot] = session;
            on_egress[to] = 1;
            open[session] = true;
            added++;
        }
        talk();
    }
}

int main(int count, char **words)
{
    void *(*const roles[])(void *) = {send_down, send_up, watch_wire, read_counters};
    pthread_t threads[sizeof roles / sizeof *roles];
    struct souppp_options options = {.queues = QUEUES, .max_sessions = SLOTS, .xsk_map = atoi(words[2])};
    char error[256];

    wire = atoi(words[3]);
    for (int i = 5; i + 1 < count; i += 2, egresses++) {
        egress[egresses] = atoi(words[i]);
        outside[egresses] = atoi(words[i + 1]);
    }
    datapath = souppp_open(words[1], &options, error, sizeof error);
    if (!datapath || souppp_routed_egress(datapath, egress[0])) {
        fprintf(stderr, "%s\n", error);
        return 2;
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        CHECK(pthread_create(&threads[i], NULL, roles[i], NULL) == 0);
    churn((uint32_t)atoi(words[4]));
    atomic_store(&stop, true);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        pthread_join(threads[i], NULL);
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", atomic_load(&came_up), atomic_load(&came_down),
           sum("rx_control"), sum("drop_unknown_session"));
    souppp_close(datapath);
    return 0;
}
