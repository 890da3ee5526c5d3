/* Traffic for benchmarks/datapath.py, each kind a subcommand; results go to standard output as "COUNT SECONDS CPU-SECONDS".
 *
 *   serve PORT                              TCP: send or receive, as the client's first octet says
 *   tcp up|down SERVER PORT SECONDS N D     octets over N connections, bound in turn to the devices soup0 … soupD-1;
 *                                           as UP or DOWN no faster than PACE octets a second (given when compiling)
 *   udp SERVER PORT SECONDS SIZE SEGMENTS   datagrams sent, SEGMENTS of them a call (UDP_SEGMENT)
 *   number SERVER PORT COUNT FLOWS SEGMENTS RATE   COUNT datagrams over FLOWS flows, numbered, RATE a second
 *   late PORT                               takes those: "RECEIVED LATE LOST"; late is one after a higher number of its flow
 *   frames DEVICE SECONDS FRAME FLOWS       a frame (in hex, an IPv4/UDP packet in PPPoE) sent on a packet socket
 *   tun FD SECONDS PACKET                   a packet (in hex) written to a TUN device: its bare rate
 *   xsk DEVICE SECONDS FRAME                a frame sent on queue 0 by AF_XDP: its bare rate
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ends.h"
#include "port.h"

enum { CHUNK = 1 << 18, MANY = 64, WARM_UP_MS = 500, NUMBERED = 64, PORTS = 65536 };

static char chunk[CHUNK];

static void result(uint64_t count, double seconds)
{
    printf("%llu %.6f %.6f\n", (unsigned long long)count, seconds, (double)clock() / CLOCKS_PER_SEC);
    exit(0);
}

static uint32_t from_hex(const char *hex, uint8_t *octets)
{
    uint32_t n = 0;

    for (; hex[2 * n] && sscanf(hex + 2 * n, "%2hhx", octets + n) == 1; n++)
        ;
    return n;
}

static void pace(int fd, char direction)
{
    uint64_t rate = PACE;

    if (direction == 'U' || direction == 'D')
        must(setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate) == 0, "SO_MAX_PACING_RATE");
}

static int is_up(char direction)
{
    return direction == 'u' || direction == 'U';
}

static void serve(const char *port)
{
    struct sockaddr_in here = address("0.0.0.0", port);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0), yes = 1;
    struct epoll_event events[MANY];

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    must(bind(listener, (struct sockaddr *)&here, sizeof here) == 0 && listen(listener, 2000) == 0, "listen");
    watch(poll, listener, EPOLLIN);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(poll, events, MANY, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd == listener) {
                char direction;

                fd = accept(listener, NULL, NULL);
                if (fd < 0)
                    continue;
                if (read(fd, &direction, 1) != 1) {
                    close(fd);
                    continue;
                }
                fcntl(fd, F_SETFL, O_NONBLOCK);
                pace(fd, direction);
                watch(poll, fd, is_up(direction) ? EPOLLIN : EPOLLOUT);
            } else {
                ssize_t done = events[i].events & EPOLLOUT ? send(fd, chunk, CHUNK, MSG_NOSIGNAL)
                                                           : recv(fd, chunk, CHUNK, MSG_TRUNC);
                if (done == 0 || (done < 0 && errno != EAGAIN))
                    close(fd);
            }
        }
    }
}

static uint64_t acknowledged(const int *fds, int n)
{
    uint64_t sum = 0;

    for (int i = 0; i < n; i++) {
        struct tcp_info info = {0};
        socklen_t size = sizeof info;

        getsockopt(fds[i], IPPROTO_TCP, TCP_INFO, &info, &size);
        sum += info.tcpi_bytes_acked;
    }
    return sum;
}

static void tcp(char direction, const char *host, const char *port, double seconds, int n, int devices)
{
    struct sockaddr_in to = address(host, port);
    struct epoll_event events[MANY];
    int poll = epoll_create1(0), *fds = calloc((size_t)n, sizeof *fds);
    uint64_t octets = 0, before = 0;
    double start = 0, begin, end;
    struct linger at_once = {.l_onoff = 1}; /* what is still to be sent must not disturb the next measurement */

    for (int i = 0; i < n; i++) {
        char device[IFNAMSIZ];

        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        snprintf(device, sizeof device, "soup%d", i % devices);
        setsockopt(fds[i], SOL_SOCKET, SO_BINDTODEVICE, device, sizeof device);
        must(connect(fds[i], (struct sockaddr *)&to, sizeof to) == 0, device);
        setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        must(write(fds[i], &direction, 1) == 1, "write");
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        pace(fds[i], direction);
        watch(poll, fds[i], is_up(direction) ? EPOLLOUT : EPOLLIN);
    }
    begin = now() + WARM_UP_MS / 1e3;
    end = begin + seconds;
    for (double t = now(); t < end; t = now()) {
        int ready = epoll_wait(poll, events, MANY, 100);

        if (!start && t >= begin) {
            start = t;
            before = is_up(direction) ? acknowledged(fds, n) : octets;
        }
        for (int i = 0; i < ready; i++) {
            ssize_t done = is_up(direction) ? send(events[i].data.fd, chunk, CHUNK, MSG_NOSIGNAL)
                                            : recv(events[i].data.fd, chunk, CHUNK, MSG_TRUNC);
            if (done > 0)
                octets += (uint64_t)done;
        }
    }
    if (is_up(direction))
        octets = acknowledged(fds, n);
    result(octets - before, now() - start);
}

static void udp(const char *host, const char *port, double seconds, size_t size, int segments)
{
    struct sockaddr_in to = address(host, port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), segment = (int)size, none = 0;
    uint64_t sent = 0;
    double start = now();

    setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &none, sizeof none);
    must(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    if (segments > 1)
        must(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) == 0, "UDP_SEGMENT");
    while (now() - start < seconds)
        for (int i = 0; i < MANY; i++)
            if (send(fd, chunk, size * (size_t)segments, 0) > 0)
                sent += (uint64_t)segments;
    result(sent, now() - start);
}

static void number(const char *host, const char *port, uint64_t count, int flows, int segments, double rate)
{
    struct sockaddr_in to = address(host, port);
    int *fds = calloc((size_t)flows, sizeof *fds), segment = NUMBERED;
    uint64_t *next = calloc((size_t)flows, sizeof *next), sent = 0;
    double start = now();

    for (int i = 0; i < flows; i++) {
        fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
        must(connect(fds[i], (struct sockaddr *)&to, sizeof to) == 0, "connect");
        if (segments > 1)
            must(setsockopt(fds[i], SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) == 0, "UDP_SEGMENT");
    }
    while (sent < count) {
        for (int i = 0; i < flows; i++) {
            for (int j = 0; j < segments; j++)
                memcpy(chunk + j * NUMBERED, &(uint64_t){next[i] + (uint64_t)j}, sizeof *next);
            if (send(fds[i], chunk, (size_t)(segments * NUMBERED), 0) > 0) {
                next[i] += (uint64_t)segments;
                sent += (uint64_t)segments;
            }
        }
        while ((double)sent > rate * (now() - start))
            usleep(50);
    }
    result(sent, now() - start);
}

static void late(const char *port)
{
    struct sockaddr_in here = address("0.0.0.0", port), from[MANY];
    static uint64_t next[PORTS], octets[MANY];
    struct mmsghdr messages[MANY] = {0};
    struct iovec vectors[MANY];
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 1 << 26;
    struct timeval patience = {.tv_sec = 2};
    uint64_t received = 0, behind = 0, expected = 0;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    must(bind(fd, (struct sockaddr *)&here, sizeof here) == 0, "bind");
    puts("ready");
    fflush(stdout);
    for (int n = 0; n >= 0; n = recvmmsg(fd, messages, MANY, MSG_WAITFORONE, NULL)) {
        for (int i = 0; i < n; i++) {
            uint64_t *after = &next[ntohs(from[i].sin_port)];

            received++;
            behind += octets[i] < *after;
            if (octets[i] >= *after)
                *after = octets[i] + 1;
        }
        for (int i = 0; i < MANY; i++) {
            vectors[i] = (struct iovec){&octets[i], sizeof octets[i]};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &vectors[i], .msg_iovlen = 1};
        }
        if (received) /* then a pause is the end */
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    for (int i = 0; i < PORTS; i++)
        expected += next[i];
    printf("%llu %llu %llu\n", (unsigned long long)received, (unsigned long long)behind,
           (unsigned long long)(expected - received));
    exit(0);
}

static void frames(const char *device, double seconds, const char *hex, int flows)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(device)};
    static uint8_t copies[MANY][2048];
    struct mmsghdr messages[MANY] = {0};
    struct iovec vectors[MANY];
    int fd = socket(AF_PACKET, SOCK_RAW, 0), yes = 1;
    uint64_t sent = 0;
    double start;

    must(bind(fd, (struct sockaddr *)&to, sizeof to) == 0, device);
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes);
    for (int i = 0; i < MANY; i++) {
        uint32_t length = from_hex(hex, copies[i]);
        uint8_t *udp = copies[i] + 22 + 20;
        int flow = i % flows;

        udp[1] = (uint8_t)(udp[1] + flow); /* the checksum stays right: what the port gains the data lose */
        udp[8] = 0xff;
        udp[9] = (uint8_t)~flow;
        vectors[i] = (struct iovec){copies[i], length};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    start = now();
    while (now() - start < seconds) {
        int n = sendmmsg(fd, messages, MANY, 0);

        sent += n > 0 ? (uint64_t)n : 0;
    }
    result(sent, now() - start);
}

static void tun(int fd, double seconds, const char *hex)
{
    uint8_t packet[2048];
    uint32_t length = from_hex(hex, packet);
    uint64_t sent = 0;
    double start = now();

    while (now() - start < seconds)
        for (int i = 0; i < MANY; i++)
            sent += write(fd, packet, length) > 0;
    result(sent, now() - start);
}

static void xsk(const char *device, double seconds, const char *hex)
{
    struct port port;
    uint8_t frame[2048];
    uint32_t length = from_hex(hex, frame);
    uint64_t sent = 0;
    double start;

    must(port_open(&port, device, 0, (struct port_options){0}) == 0, device);
    start = now();
    while (now() - start < seconds) {
        for (int i = 0; i < MANY && port_room(&port); i++) {
            memcpy(port.frames + port_frame(&port), frame, length);
            port_send(&port, 0, length);
            sent++;
        }
        port_flush(&port);
    }
    result(sent, now() - start);
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "serve"))
        serve(words[2]);
    else if (count == 8 && !strcmp(words[1], "tcp"))
        tcp(words[2][0], words[3], words[4], atof(words[5]), atoi(words[6]), atoi(words[7]));
    else if (count == 7 && !strcmp(words[1], "udp"))
        udp(words[2], words[3], atof(words[4]), (size_t)atoi(words[5]), atoi(words[6]));
    else if (count == 8 && !strcmp(words[1], "number"))
        number(words[2], words[3], strtoull(words[4], NULL, 10), atoi(words[5]), atoi(words[6]), atof(words[7]));
    else if (count == 3 && !strcmp(words[1], "late"))
        late(words[2]);
    else if (count == 6 && !strcmp(words[1], "frames"))
        frames(words[2], atof(words[3]), words[4], atoi(words[5]));
    else if (count == 5 && !strcmp(words[1], "tun"))
        tun(atoi(words[2]), atof(words[3]), words[4]);
    else if (count == 5 && !strcmp(words[1], "xsk"))
        xsk(words[2], atof(words[3]), words[4]);
    fputs("see the comment at the top of load.c\n", stderr);
    return 1;
}
