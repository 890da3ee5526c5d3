/* Both ends and a bare relay for benchmarks/proxies.py, each a subcommand.
 *
 *   serve ADDRESS PORT           a server: the first octet of a connection says whether it sends for ever (D), takes all
 *                                (U), or says all back (E)
 *   names ADDRESS PORT           a DNS server: any name has one address
 *   splice PORT OWN ADDRESS PORT [COUNT]
 *                                a plain relay with epoll and splice: what connects to PORT of 127.0.0.1 is connected from
 *                                OWN to ADDRESS; with COUNT, by turns from so many addresses from OWN on, each by its device
 *                                near0, near1 ...
 *   load WHAT HOW PROXY PORT OWN ADDRESS PORT N SECONDS
 *        WHAT   down | up: octets a second over N connections; rate: new connections a second, N at a time, each with an
 *               octet there and back; hold: opens N, says "held", waits for standard input to end, says how many still answer;
 *               attempts: N a second, each refused: by SOCKS to this host itself; says how many there were, how many were
 *               told that they may not go there, how many ended otherwise, and how many were given up
 *        HOW    socks: by SOCKS 5 at 127.0.0.1:PORT; relay: as socks, but nothing is said; direct: from OWN
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ends.h"

enum { CHUNK = 1 << 18, EVENTS = 256, PIPE = 1 << 16, WARM_UP_MS = 300, DESCRIPTORS = 65536, SOURCES = 64, MOST_ATTEMPTS = 8192, FEW = 64, SENDING = 1 << 17 };

static char chunk[CHUNK];

static int listening(const char *host, const char *port)
{
    struct sockaddr_in at = address(host, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    must(bind(fd, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    must(listen(fd, 4096) == 0, "listen");
    return fd;
}

/* A connection under way; from `own` if that isn't NULL. */
static int connecting(const struct sockaddr_in *to, const char *own)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

    must(fd >= 0, "socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (own) {
        struct sockaddr_in from = address(own, "0");

        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        must(bind(fd, (struct sockaddr *)&from, sizeof from) == 0, "bind");
    }
    must(connect(fd, (const struct sockaddr *)to, sizeof *to) == 0 || errno == EINPROGRESS, "connect");
    return fd;
}

/* --- the server --- */

static void serve(const char *host, const char *port)
{
    static char says[DESCRIPTORS];
    int poll = epoll_create1(0), listener = listening(host, port), on = 1;
    struct epoll_event events[EVENTS];

    watch(poll, listener, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);

        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            ssize_t n = 1;

            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    says[fd] = 0;
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    watch(poll, fd, EPOLLIN);
                }
                continue;
            }
            if (!says[fd]) {
                n = recv(fd, &says[fd], 1, 0);
                if (n == 1 && says[fd] == 'D')
                    must(epoll_ctl(poll, EPOLL_CTL_MOD, fd,
                                   &(struct epoll_event){.events = EPOLLOUT, .data.fd = fd}) == 0, "epoll_ctl");
                if (n == 1)
                    continue;
            } else if (says[fd] == 'D') {
                n = send(fd, chunk, CHUNK, MSG_NOSIGNAL);
            } else {
                n = recv(fd, chunk, CHUNK, says[fd] == 'U' ? MSG_TRUNC : 0);
                if (n > 0 && says[fd] == 'E')
                    n = send(fd, chunk, (size_t)n, MSG_NOSIGNAL);
            }
            if (n == 0 || (n < 0 && errno != EAGAIN))
                close(fd);
        }
    }
}

static void names(const char *host, const char *port)
{
    static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 80};
    struct sockaddr_in at = address(host, port), from;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    uint8_t octets[1024];

    must(bind(fd, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t n = recvfrom(fd, octets, 512, 0, (struct sockaddr *)&from, &size), end = 12;

        if (n < 17)
            continue;
        while (end < n && octets[end])
            end += octets[end] + 1;
        end += 5;
        octets[2] = 0x81; /* a response, recursion desired and available */
        octets[3] = 0x80;
        octets[7] = 1; /* one answer */
        octets[11] = 0;
        memcpy(octets + end, record, sizeof record);
        sendto(fd, octets, (size_t)end + sizeof record, 0, (struct sockaddr *)&from, size);
    }
}

/* --- the plain relay: level-triggered, a pipe for each direction --- */

struct side {
    struct side *other;
    int fd, pipe[2]; /* what it said is in its pipe */
    size_t piped;
    bool ended, asked_in, asked_out;
};

static void ask(int poll, struct side *side)
{
    bool in = !side->piped && !side->ended, out = side->other->piped;
    struct epoll_event event = {.events = (in ? EPOLLIN : 0) | (out ? EPOLLOUT : 0), .data.ptr = side};

    if (in == side->asked_in && out == side->asked_out)
        return;
    side->asked_in = in;
    side->asked_out = out;
    epoll_ctl(poll, EPOLL_CTL_MOD, side->fd, &event);
}

/* False if the connection is over. */
static bool pump(struct side *from)
{
    ssize_t n;

    if (!from->piped && !from->ended) {
        n = splice(from->fd, NULL, from->pipe[1], NULL, PIPE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0)
            return errno == EAGAIN;
        from->ended = n == 0;
        from->piped = (size_t)n;
        if (from->ended)
            shutdown(from->other->fd, SHUT_WR);
    }
    if (from->piped) {
        n = splice(from->pipe[0], NULL, from->other->fd, NULL, from->piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0)
            return errno == EAGAIN;
        from->piped -= (size_t)n;
    }
    return !(from->ended && from->other->ended);
}

/* The nth connection is from the address `own` + n % count, by the device of this number. */
static int connecting_by_device(const struct sockaddr_in *to, const char *own, uint32_t n)
{
    struct in_addr from = {htonl(ntohl(address(own, "0").sin_addr.s_addr) + n)};
    char text[INET_ADDRSTRLEN], device[16];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in source = address(inet_ntop(AF_INET, &from, text, sizeof text), "0");

    snprintf(device, sizeof device, "near%u", n);
    must(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, sizeof device) == 0, device);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    must(bind(fd, (struct sockaddr *)&source, sizeof source) == 0, "bind");
    must(connect(fd, (const struct sockaddr *)to, sizeof *to) == 0 || errno == EINPROGRESS, "connect");
    return fd;
}

static void plain_relay(const char *port, const char *own, const char *host, const char *target_port, uint32_t count)
{
    uint32_t turn = 0;
    int poll = epoll_create1(0), listener = listening("127.0.0.1", port), on = 1;
    struct sockaddr_in to = address(host, target_port);
    struct epoll_event events[EVENTS];

    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN});
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        struct side *dead[EVENTS];
        int deaths = 0;

        for (int i = 0; i < ready; i++) {
            struct side *side = events[i].data.ptr, *pair;
            int fd;

            if (!side) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    pair = calloc(2, sizeof *pair);
                    must(pair && pipe2(pair[0].pipe, O_NONBLOCK) == 0 && pipe2(pair[1].pipe, O_NONBLOCK) == 0, "pipe");
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    pair[0].fd = fd;
                    pair[1].fd = count ? connecting_by_device(&to, own, turn++ % count) : connecting(&to, own);
                    for (int s = 0; s < 2; s++) {
                        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &pair[s]};

                        pair[s].other = &pair[!s];
                        pair[s].asked_in = true;
                        epoll_ctl(poll, EPOLL_CTL_ADD, pair[s].fd, &event);
                    }
                }
                continue;
            }
            if (side->fd < 0)
                continue;
            if (!pump(side) || !pump(side->other)) {
                for (int s = 0; s < 2; s++, side = side->other) {
                    close(side->fd);
                    close(side->pipe[0]);
                    close(side->pipe[1]);
                    side->fd = -1;
                }
                dead[deaths++] = side < side->other ? side : side->other;
                continue;
            }
            ask(poll, side);
            ask(poll, side->other);
        }
        while (deaths)
            free(dead[--deaths]);
    }
}

/* --- the load --- */

enum step { CONNECTING, GREETED, ASKED, TALKING };

struct talk {
    enum step step;
};

static struct {
    bool socks;
    const char *own; /* directly, from there */
    struct sockaddr_in first, target;
    char says;
    int room; /* of a socket for what it sends; 0 is what the kernel thinks right */
    int poll;
    struct talk talks[DESCRIPTORS];
} load;

static void talk_begin(void)
{
    int fd = connecting(&load.first, load.own);

    if (load.room) /* else all together fill the memory that the machine has for TCP, and that is what is measured */
        must(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &load.room, sizeof load.room) == 0, "setsockopt");
    load.talks[fd].step = CONNECTING;
    watch(load.poll, fd, EPOLLOUT);
}

static void expect(int fd, uint32_t events)
{
    must(epoll_ctl(load.poll, EPOLL_CTL_MOD, fd, &(struct epoll_event){.events = events, .data.fd = fd}) == 0, "epoll");
}

static void say_first(int fd)
{
    load.talks[fd].step = TALKING;
    must(send(fd, load.says == 'E' ? "Ex" : &load.says, load.says == 'E' ? 2 : 1, MSG_NOSIGNAL) > 0, "send");
    expect(fd, load.says == 'U' ? EPOLLOUT : EPOLLIN);
}

/* One step of a handshake; true once the talk has begun. */
static bool handshake(int fd)
{
    uint8_t octets[32] = {5, 1, 0, 1};
    struct talk *talk = &load.talks[fd];
    int error = 0;
    socklen_t size = sizeof error;
    ssize_t n;

    switch (talk->step) {
    case CONNECTING:
        must(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0, "getsockopt");
        errno = error;
        must(!error, "connect");
        if (!load.socks) {
            say_first(fd);
            return true;
        }
        must(send(fd, octets, 3, MSG_NOSIGNAL) == 3, "send");
        talk->step = GREETED;
        expect(fd, EPOLLIN);
        return false;
    case GREETED:
        must(recv(fd, octets + 8, 2, 0) == 2 && octets[9] == 0, "SOCKS greeting");
        memcpy(octets + 4, &load.target.sin_addr, 4);
        memcpy(octets + 8, &load.target.sin_port, 2);
        must(send(fd, octets, 10, MSG_NOSIGNAL) == 10, "send");
        talk->step = ASKED;
        return false;
    case ASKED:
        n = recv(fd, octets, 10, 0);
        if (n != 10 || octets[1]) {
            fprintf(stderr, "SOCKS reply: %d\n", n < 2 ? -1 : octets[1]);
            exit(1);
        }
        say_first(fd);
        return true;
    default:
        return true;
    }
}

static int open_talks(int number)
{
    struct epoll_event events[EVENTS];
    int begun = 0;

    for (int i = 0, opened = 0; begun < number;) {
        while (opened - begun < 64 && opened < number) {
            talk_begin();
            opened++;
        }
        int ready = epoll_wait(load.poll, events, EVENTS, 20000);

        must(ready > 0, "handshakes");
        for (i = 0; i < ready; i++)
            if (load.talks[events[i].data.fd].step != TALKING)
                begun += handshake(events[i].data.fd);
            else if (load.says == 'E')
                expect(events[i].data.fd, 0);
    }
    return begun;
}

static void bulk(int number, double seconds)
{
    struct epoll_event events[EVENTS];
    double begin, end;
    uint64_t octets = 0;

    load.room = number > FEW ? SENDING : 0;
    open_talks(number);
    begin = now() + WARM_UP_MS / 1e3;
    end = begin + seconds;
    while (now() < end) {
        int ready = epoll_wait(load.poll, events, EVENTS, 1000);
        bool counts = now() >= begin;

        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            ssize_t n = load.says == 'U' ? send(fd, chunk, CHUNK, MSG_NOSIGNAL) : recv(fd, chunk, CHUNK, MSG_TRUNC);

            must(n > 0 || errno == EAGAIN, "the other side");
            if (n > 0 && counts)
                octets += (uint64_t)n;
        }
    }
    printf("%.0f\n", (double)octets / seconds);
}

static void rate(int number, double seconds)
{
    struct epoll_event events[EVENTS];
    double begin = now() + WARM_UP_MS / 1e3, end = begin + seconds;
    uint64_t done = 0;
    char octet;

    for (int i = 0; i < number; i++)
        talk_begin();
    while (now() < end) {
        int ready = epoll_wait(load.poll, events, EVENTS, 1000);

        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;

            if (load.talks[fd].step != TALKING) {
                handshake(fd);
                continue;
            }
            must(recv(fd, &octet, 1, 0) == 1 && octet == 'x', "echo");
            close(fd);
            done += now() >= begin;
            talk_begin();
        }
    }
    printf("%.1f\n", (double)done / seconds);
}

static void hold(int number)
{
    int held = open_talks(number), alive;
    char octet;

    printf("held\n");
    fflush(stdout);
    while (read(0, &octet, 1) > 0)
        ;
    for (int fd = 3; fd < DESCRIPTORS; fd++)
        if (load.talks[fd].step == TALKING) {
            while (recv(fd, &octet, 1, MSG_DONTWAIT) == 1)
                ;
            send(fd, "y", 1, MSG_NOSIGNAL);
        }
    alive = 0;
    for (double end = now() + 30; alive < held && now() < end; usleep(10000))
        for (int fd = 3; fd < DESCRIPTORS; fd++)
            if (load.talks[fd].step == TALKING && recv(fd, &octet, 1, MSG_DONTWAIT) == 1) {
                load.talks[fd].step = CONNECTING;
                alive++;
            }
    printf("%d %d\n", held, alive);
}

/* So many a second, whatever becomes of those before: the oldest is given up where there are too many. */
static void attempts(const struct sockaddr_in *proxy, double a_second, double seconds)
{
    static struct {
        int fd;
        uint64_t number;
    } under_way[MOST_ATTEMPTS];
    static uint64_t numbers[DESCRIPTORS]; /* by descriptor: of the attempt that has it, 0 once that is over */
    static const uint8_t asks[] = {5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 80};
    const struct linger at_once = {.l_onoff = 1}; /* a flood that leaves nothing behind on its own side */
    struct epoll_event events[EVENTS];
    double begin = now(), end = begin + seconds, drained = end + 5;
    uint64_t begun = 0, refused = 0, otherwise = 0, given_up = 0;
    int whole = 12; /* octets: of both answers */

    for (double t = begin; t < end || (begun > refused + otherwise + given_up && t < drained); t = now()) {
        while (t < end && (double)begun < (t - begin) * a_second) {
            char from[INET_ADDRSTRLEN];
            int slot = (int)(begun % MOST_ATTEMPTS), fd = under_way[slot].fd;

            if (fd && numbers[fd] == under_way[slot].number) {
                close(fd);
                given_up++;
            }
            snprintf(from, sizeof from, "127.0.0.%d", (int)(begun++ % SOURCES) + 2);
            fd = under_way[slot].fd = connecting(proxy, from);
            numbers[fd] = under_way[slot].number = begun;
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &whole, sizeof whole);
            watch(load.poll, fd, EPOLLOUT);
        }
        for (int i = 0, ready = epoll_wait(load.poll, events, EVENTS, 1); i < ready; i++) {
            int fd = events[i].data.fd;
            uint8_t octets[12];

            if (events[i].events == EPOLLOUT && send(fd, asks, sizeof asks, MSG_NOSIGNAL) == (ssize_t)sizeof asks) {
                expect(fd, EPOLLIN);
                continue;
            }
            if (recv(fd, octets, sizeof octets, 0) == (ssize_t)sizeof octets && octets[3] == 2)
                refused++;
            else
                otherwise++;
            numbers[fd] = 0;
            close(fd);
        }
    }
    printf("%.0f %llu %llu %llu\n", (double)begun / seconds, (unsigned long long)refused, (unsigned long long)otherwise,
           (unsigned long long)given_up);
}

static void run_load(char **argv)
{
    const char *what = argv[0], *how = argv[1];
    struct sockaddr_in proxy = address(argv[2], argv[3]);
    int number = atoi(argv[7]);
    double seconds = atof(argv[8]);

    load.poll = epoll_create1(0);
    load.socks = !strcmp(how, "socks");
    load.own = strcmp(how, "direct") ? NULL : argv[4];
    load.target = address(argv[5], argv[6]);
    load.first = load.own ? load.target : proxy;
    load.says = !strcmp(what, "down") ? 'D' : !strcmp(what, "up") ? 'U' : 'E';
    if (load.says != 'E')
        bulk(number, seconds);
    else if (!strcmp(what, "rate"))
        rate(number, seconds);
    else if (!strcmp(what, "attempts"))
        attempts(&proxy, number, seconds);
    else
        hold(number);
}

int main(int argc, char **argv)
{
    struct rlimit most;

    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max < DESCRIPTORS ? most.rlim_max : DESCRIPTORS;
    setrlimit(RLIMIT_NOFILE, &most);
    if (argc == 4 && !strcmp(argv[1], "serve"))
        serve(argv[2], argv[3]);
    else if (argc == 4 && !strcmp(argv[1], "names"))
        names(argv[2], argv[3]);
    else if ((argc == 6 || argc == 7) && !strcmp(argv[1], "splice"))
        plain_relay(argv[2], argv[3], argv[4], argv[5], argc == 7 ? (uint32_t)atoi(argv[6]) : 0);
    else if (argc == 11 && !strcmp(argv[1], "load"))
        run_load(argv + 2);
    else
        return 2;
    return 0;
}
