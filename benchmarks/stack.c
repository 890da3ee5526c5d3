/* Stands where the data path's worker stands, for benchmarks/stack.py: carries packets between sessions and a far TUN device.
 *
 *   bridge FAR OWN NEAR...       descriptors: the far device's, then each session's, a TUN device. What is for the address
 *                                OWN + n is for the nth session. A full one loses packets.
 *   bridge FAR OWN duct MEMORY BELL SIZE COUNT       the same by a duct, with rings of so many octets, for so many sessions
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../engine/datapath/duct.h"

enum { LARGEST = 70000, EVENTS = 128, AT_ONCE = 64, VNET = 10, IPV4_DESTINATION = VNET + 16 };

static uint8_t packet[LARGEST];

static struct duct duct;

static void watch(int poll, int fd)
{
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd}) != 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

/* Which session a packet is for; `count` if none. */
static uint32_t session_of(ssize_t size, uint32_t first, uint32_t count)
{
    uint32_t to;

    if (size < IPV4_DESTINATION + 4 || packet[VNET] >> 4 != 4)
        return count;
    memcpy(&to, packet + IPV4_DESTINATION, sizeof to);
    to = ntohl(to) - first;
    return to < count ? to : count;
}

static bool far_to_duct(int far, uint32_t first, uint32_t count)
{
    for (int n = 0; n < AT_ONCE; n++) {
        ssize_t size = read(far, packet, sizeof packet);
        uint32_t to;

        if (size <= 0)
            return size < 0;
        to = session_of(size, first, count);
        if (to < count)
            duct_put(&duct, to, &(struct iovec){packet, (size_t)size}, 1, (uint32_t)size);
    }
    return true;
}

/* Whether there may be more; ends when what is there makes no sense. */
static bool duct_to_far(int far)
{
    for (int n = 0; n < AT_ONCE; n++) {
        uint32_t slot;
        int32_t size = duct_take(&duct, packet, sizeof packet, &slot);

        if (size < 0)
            exit(1);
        if (size == 0)
            return false;
        if (write(far, packet, (size_t)size) < 0 && errno != EAGAIN)
            perror("write");
    }
    return true;
}

static int by_duct(int poll, int far, uint32_t first, char **argv)
{
    uint32_t size = (uint32_t)atoi(argv[6]), count = (uint32_t)atoi(argv[7]);
    void *memory = mmap(NULL, DUCT_START + 2 * (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[4]), 0);
    struct epoll_event events[2];
    bool more = false;

    if (memory == MAP_FAILED)
        return 1;
    duct_begin(&duct, memory, size, atoi(argv[5]));
    watch(poll, far);
    watch(poll, duct.bell);
    for (;;) {
        int ready = epoll_wait(poll, events, 2, more || !duct_sleep(&duct, true) ? 0 : -1);

        duct_sleep(&duct, false);
        for (int i = 0; i < ready; i++)
            if (events[i].data.fd == far ? !far_to_duct(far, first, count) : !duct_heard(&duct))
                return 0;
        duct_tell(&duct);
        more = duct_to_far(far);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    int poll = epoll_create1(0), far = argc > 3 ? atoi(argv[1]) : -1;
    uint32_t first, count = (uint32_t)argc - 3;
    struct in_addr own;

    if (argc < 4 || inet_pton(AF_INET, argv[2], &own) != 1)
        return 2;
    first = ntohl(own.s_addr);
    fcntl(far, F_SETFL, O_NONBLOCK);
    if (argc == 8 && !strcmp(argv[3], "duct"))
        return by_duct(poll, far, first, argv);
    watch(poll, far);
    for (uint32_t i = 0; i < count; i++) {
        fcntl(atoi(argv[i + 3]), F_SETFL, O_NONBLOCK);
        watch(poll, atoi(argv[i + 3]));
    }
    for (;;) {
        int ready = epoll_wait(poll, events, EVENTS, -1);

        for (int i = 0; i < ready; i++)
            for (int n = 0; n < AT_ONCE; n++) {
                int from = events[i].data.fd, into = far;
                ssize_t size = read(from, packet, sizeof packet);

                if (size == 0)
                    return 0;
                if (size < 0)
                    break;
                if (from == far) {
                    uint32_t to = session_of(size, first, count);

                    if (to >= count)
                        continue;
                    into = atoi(argv[to + 3]);
                }
                if (write(into, packet, (size_t)size) < 0 && errno != EAGAIN)
                    perror("write");
            }
    }
}
