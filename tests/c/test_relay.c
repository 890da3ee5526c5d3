/* Connections of a relay under all that may happen at once: what comes out is what went in, in its order, with its end. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "relay.h"

enum { TALKS = 24, SLOTS = 4, READ_BEFORE = 1000, SECONDS = 60 };
#define NEVER 0

/* What one end says: the octets of a generator, so that the other end knows them. */
struct voice {
    int fd;
    uint64_t seed;
    uint32_t length;
    uint32_t said_before; /* of those, read by whoever handed the socket to the relay */
    uint32_t at_once;
    bool slow;
};

static uint8_t octet(uint64_t seed, uint32_t at)
{
    uint64_t state = seed + at / 64;

    return (uint8_t)(chance(&state) >> (at % 4 * 8)) ^ (uint8_t)at;
}

static void *speak(void *argument)
{
    const struct voice *voice = argument;
    uint8_t octets[4096];

    for (uint32_t at = voice->said_before; at < voice->length;) {
        uint32_t n = voice->length - at < voice->at_once ? voice->length - at : voice->at_once;

        for (uint32_t i = 0; i < n; i++)
            octets[i] = octet(voice->seed, at + i);
        for (uint32_t sent = 0; sent < n;) {
            ssize_t took = send(voice->fd, octets + sent, n - sent, MSG_NOSIGNAL);

            CHECK(took > 0);
            sent += (uint32_t)took;
        }
        at += n;
        if (voice->slow)
            usleep(200);
    }
    CHECK(shutdown(voice->fd, SHUT_WR) == 0);
    return NULL;
}

/* What the other one says; it comes out at `voice->fd`. */
static void *hear(void *argument)
{
    const struct voice *voice = argument;
    uint8_t octets[4096];
    uint32_t at = 0;
    ssize_t n;

    while ((n = recv(voice->fd, octets, voice->at_once, 0)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            CHECK(octets[i] == octet(voice->seed, at + (uint32_t)i));
        at += (uint32_t)n;
        if (voice->slow)
            usleep(200);
    }
    CHECK(n == 0);
    CHECK(at == voice->length);
    return NULL;
}

/* A TCP connection over the loopback device: `near` is for the relay. */
static void connection_open(int *near, int *far)
{
    static int listening = -1;
    static struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;

    if (listening < 0) {
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(bind(listening, (struct sockaddr *)&address, size) == 0);
        CHECK(listen(listening, 64) == 0);
        CHECK(getsockname(listening, (struct sockaddr *)&address, &size) == 0);
    }
    *far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(*far, (struct sockaddr *)&address, size) == 0);
    *near = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    CHECK(*near >= 0);
}

static struct connection *add(struct relay *relay, uint64_t id, uint32_t slot, uint64_t idle, int *client, int *server,
                              const uint8_t *before)
{
    struct souppp_relayed relayed = {.id = id, .slot = slot, .idle = idle};
    struct connection *connection;

    if (before)
        relayed.from_client = relayed.from_server = READ_BEFORE;
    connection_open(&relayed.client, client);
    connection_open(&relayed.server, server);
    connection = souppp_relay_add(relay, &relayed, before);
    CHECK(connection);
    return connection;
}

/* Waits for so many to be told. */
static void wait_ended(struct relay *relay, struct souppp_ended *ended, uint32_t count)
{
    uint32_t told = 0;

    while (told < count) {
        struct pollfd event = {.fd = souppp_relay_event(relay), .events = POLLIN};

        CHECK(poll(&event, 1, SECONDS * 1000) == 1);
        told += souppp_relay_ended(relay, ended + told, count - told < 3 ? count - told : 3);
    }
}

static void test_both_ways_at_once(void)
{
    static struct voice voices[TALKS][4]; /* client speaks, server hears, server speaks, client hears */
    static pthread_t threads[TALKS][4];
    struct relay *relay = souppp_relay_open(SLOTS);
    struct souppp_ended ended[TALKS];
    uint64_t up = 0, down = 0, state = 7, *counters = souppp_relay_counters(relay);
    bool seen[TALKS] = {false};

    for (uint32_t i = 0; i < TALKS; i++) {
        uint8_t before[2 * READ_BEFORE];
        int client, server;

        for (int way = 0; way < 2; way++) {
            uint32_t length = READ_BEFORE + (chance(&state) % 4 ? chance(&state) % 300000 : 0);
            uint64_t seed = 1000 * i + (uint64_t)way;

            voices[i][2 * way] = (struct voice){.seed = seed, .length = length, .said_before = READ_BEFORE};
            voices[i][2 * way + 1] = (struct voice){.seed = seed, .length = length};
            for (uint32_t at = 0; at < READ_BEFORE; at++)
                before[(uint32_t)way * READ_BEFORE + at] = octet(seed, at);
            *(way ? &down : &up) += length;
        }
        add(relay, i, i % SLOTS, NEVER, &client, &server, before);
        voices[i][0].fd = voices[i][3].fd = client;
        voices[i][1].fd = voices[i][2].fd = server;
        for (int v = 0; v < 4; v++) {
            voices[i][v].at_once = chance(&state) % 3 ? 4096 : 700;
            voices[i][v].slow = chance(&state) % 3 == 0;
            CHECK(pthread_create(&threads[i][v], NULL, v % 2 ? hear : speak, &voices[i][v]) == 0);
        }
    }
    for (int i = 0; i < TALKS; i++)
        for (int v = 0; v < 4; v++)
            pthread_join(threads[i][v], NULL);
    wait_ended(relay, ended, TALKS);
    for (int i = 0; i < TALKS; i++) {
        CHECK(ended[i].why == RELAY_DONE);
        CHECK(ended[i].up == voices[ended[i].id][0].length);
        CHECK(ended[i].down == voices[ended[i].id][2].length);
        CHECK(!seen[ended[i].id]);
        seen[ended[i].id] = true;
        close(voices[i][0].fd);
        close(voices[i][1].fd);
    }
    for (int slot = 0; slot < SLOTS; slot++) {
        up -= counters[3 * slot];
        down -= counters[3 * slot + 1];
        CHECK(counters[3 * slot + 2] == 0);
    }
    CHECK(up == 0 && down == 0);
    souppp_relay_close(relay);
}

static bool is_reset(int fd)
{
    char octet;

    return recv(fd, &octet, 1, 0) == -1 && errno == ECONNRESET;
}

/* What was added before is cut, what came after goes on, whatever the thread has seen of it by then. */
static void test_a_slot_is_cut(void)
{
    struct relay *relay = souppp_relay_open(SLOTS);
    struct souppp_ended ended[2];
    char octet = 'x';
    int before[2], after[2], other[2];

    for (int i = 0; i < 50; i++) {
        add(relay, 1, 0, NEVER, &before[0], &before[1], NULL);
        add(relay, 2, 1, NEVER, &other[0], &other[1], NULL);
        CHECK(souppp_relay_cut(relay, 0) == 0);
        add(relay, 3, 0, NEVER, &after[0], &after[1], NULL);
        wait_ended(relay, ended, 1);
        CHECK(ended[0].id == 1 && ended[0].why == RELAY_CUT);
        CHECK(is_reset(before[0]) && is_reset(before[1]));
        for (int side = 0; side < 2; side++) {
            CHECK(send(other[side], &octet, 1, 0) == 1 && recv(other[!side], &octet, 1, 0) == 1);
            CHECK(send(after[side], &octet, 1, 0) == 1 && recv(after[!side], &octet, 1, 0) == 1);
        }
        for (int side = 0; side < 2; side++) {
            close(before[side]);
            close(other[side]);
            close(after[side]);
        }
        wait_ended(relay, ended, 2);
        CHECK(ended[0].why == RELAY_DONE && ended[1].why == RELAY_DONE);
    }
    CHECK(souppp_relay_cut(relay, SLOTS) == -EINVAL);
    souppp_relay_close(relay);
}

static void reset(int fd)
{
    const struct linger at_once = {.l_onoff = 1};

    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    close(fd);
}

static void test_a_reset_is_passed_on(void)
{
    struct relay *relay = souppp_relay_open(SLOTS);
    struct souppp_ended ended[1];
    int fds[2];

    for (int side = 0; side < 2; side++) {
        add(relay, 1, 0, NEVER, &fds[0], &fds[1], NULL);
        reset(fds[side]);
        CHECK(is_reset(fds[!side]));
        wait_ended(relay, ended, 1);
        CHECK(ended[0].why == (side ? RELAY_SERVER_GONE : RELAY_CLIENT_GONE));
        close(fds[!side]);
    }
    souppp_relay_close(relay);
}

static void test_silence_ends(void)
{
    struct relay *relay = souppp_relay_open(SLOTS);
    struct souppp_ended ended[1];
    int silent[2], patient[2];
    char octet = 'x';

    add(relay, 1, 0, 50000000, &silent[0], &silent[1], NULL);
    add(relay, 2, 0, 3600000000000, &patient[0], &patient[1], NULL);
    wait_ended(relay, ended, 1);
    CHECK(ended[0].id == 1 && ended[0].why == RELAY_IDLE);
    CHECK(is_reset(silent[0]) && is_reset(silent[1]));
    CHECK(send(patient[0], &octet, 1, 0) == 1 && recv(patient[1], &octet, 1, 0) == 1);
    souppp_relay_close(relay);
    CHECK(is_reset(patient[0]) && is_reset(patient[1]));
    for (int side = 0; side < 2; side++) {
        close(silent[side]);
        close(patient[side]);
    }
}

/* A descriptor that epoll doesn't take ends the connection, as all ends do: it is told. */
static void test_what_cannot_be_watched(void)
{
    struct relay *relay = souppp_relay_open(SLOTS);
    struct souppp_relayed relayed = {.id = 9, .slot = 3, .server = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)};
    struct souppp_ended ended[1];
    int client;

    connection_open(&relayed.client, &client);
    CHECK(souppp_relay_add(relay, &relayed, NULL));
    wait_ended(relay, ended, 1);
    CHECK(ended[0].id == 9 && ended[0].why == RELAY_SHORT);
    CHECK(is_reset(client));
    CHECK(souppp_relay_counters(relay)[3 * 3 + 2] == 0);
    close(client);
    souppp_relay_close(relay);
}

enum { ANSWERING, REFUSING, SILENT };

/* A socket that is being connected, to somebody who answers, refuses or says nothing: nobody is let in there any more. */
static int connecting(int to_whom, int *listening)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(*listening, (struct sockaddr *)&address, size) == 0);
    CHECK(getsockname(*listening, (struct sockaddr *)&address, &size) == 0);
    if (to_whom != REFUSING)
        CHECK(listen(*listening, to_whom == SILENT ? 0 : 8) == 0);
    if (to_whom == SILENT)
        CHECK(connect(fd, (struct sockaddr *)&address, size) == 0);
    else
        close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&address, size) == -1 && errno == EINPROGRESS);
    return fd;
}

/* What waits for its server to be connected: the client hears nothing before, and is given back where it comes to nothing. */
static void test_a_server_that_is_being_connected(void)
{
    static const uint8_t octets[] = "requestgranted";
    struct relay *relay = souppp_relay_open(SLOTS);
    struct souppp_ended ended[1];
    int client, listening, server;
    char said[16];

    for (int what = ANSWERING; what <= SILENT + 1; what++) {
        int to_whom = what > SILENT ? SILENT : what;
        struct souppp_relayed relayed = {.id = 5, .slot = 1, .from_client = 7, .answer = 7};

        relayed.patience = what == SILENT ? 50000000 : 60000000000;
        connection_open(&relayed.client, &client);
        relayed.server = connecting(to_whom, &listening);
        CHECK(send(client, "!", 1, 0) == 1);
        CHECK(souppp_relay_add(relay, &relayed, octets));
        if (what == ANSWERING) {
            server = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
            CHECK(recv(server, said, 8, MSG_WAITALL) == 8 && !memcmp(said, "request!", 8));
            CHECK(recv(client, said, 7, MSG_WAITALL) == 7 && !memcmp(said, "granted", 7));
            CHECK(*souppp_relay_connecting(relay) == 0);
            close(client);
            close(server);
            wait_ended(relay, ended, 1);
            CHECK(ended[0].client == -1 && ended[0].error == 0);
        } else {
            if (what > SILENT)
                CHECK(souppp_relay_cut(relay, 1) == 0);
            wait_ended(relay, ended, 1);
            CHECK(ended[0].why == (what > SILENT ? RELAY_CUT : RELAY_UNCONNECTED));
            CHECK(ended[0].error == (what > SILENT ? 0 : what == SILENT ? ETIMEDOUT : ECONNREFUSED));
            CHECK(ended[0].up == 0 && ended[0].down == 0);
            CHECK(ended[0].client == relayed.client);
            CHECK(recv(relayed.client, said, sizeof said, 0) == 1 && send(relayed.client, "no", 2, 0) == 2);
            CHECK(recv(client, said, 2, MSG_WAITALL) == 2 && !memcmp(said, "no", 2));
            CHECK(*souppp_relay_connecting(relay) == 0);
            close(relayed.client);
            close(client);
        }
        CHECK(souppp_relay_counters(relay)[3 * 1 + 2] == 0);
        close(listening);
    }
    souppp_relay_close(relay);
}

/* While the target takes nothing the relay reads no more, and sleeps. */
static void test_a_slow_target_costs_little(void)
{
    struct relay *relay = souppp_relay_open(SLOTS);
    struct connection *connection;
    static uint8_t octets[1 << 16];
    uint64_t traffic[2], total = 0, taken = 0, before;
    struct souppp_ended ended[1];
    clockid_t clock;
    struct timespec used;
    int client, server;
    ssize_t n;

    connection = add(relay, 1, 0, NEVER, &client, &server, NULL);
    CHECK(fcntl(client, F_SETFL, O_NONBLOCK) == 0);
    for (int idle = 0; idle < 50;) {
        n = send(client, octets, sizeof octets, 0);
        if (n > 0)
            total += (uint64_t)n;
        idle = n > 0 ? 0 : idle + 1;
        if (n < 0)
            usleep(2000);
    }
    CHECK(pthread_getcpuclockid(pthread_self(), &clock) == 0);
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    before = (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    usleep(300000);
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
    CHECK((uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec - before < 100000000);
    souppp_relay_traffic(connection, traffic);
    CHECK(traffic[0] <= total && traffic[1] == 0);
    CHECK(shutdown(client, SHUT_WR) == 0);
    while ((n = recv(server, octets, sizeof octets, 0)) > 0)
        taken += (uint64_t)n;
    CHECK(n == 0 && taken == total);
    close(server);
    wait_ended(relay, ended, 1);
    CHECK(ended[0].up == total && ended[0].down == 0 && ended[0].why == RELAY_DONE);
    close(client);
    souppp_relay_close(relay);
}

/* No descriptor is left for a pipe: octets go through memory. */
static void test_without_descriptors(void)
{
    struct rlimit before, none;
    int last = dup(0);

    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = (rlim_t)last + 8 + 4 * TALKS; /* the relay's and the talks'; of pipes only some */
    close(last);
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    test_both_ways_at_once();
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

int main(void)
{
    test_both_ways_at_once();
    test_without_descriptors();
    test_a_slot_is_cut();
    test_a_reset_is_passed_on();
    test_silence_ends();
    test_what_cannot_be_watched();
    test_a_server_that_is_being_connected();
    test_a_slow_target_costs_little();
    return 0;
}
