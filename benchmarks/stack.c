/* Stands where the data path's worker stands, for benchmarks/stack.py: carries packets between sessions and a far TUN device.
 *
 *   bridge FAR OWN NEAR...       descriptors: the far device's, then each session's, a TUN device or a SEQPACKET socket. What
 *                                is for the address OWN + n is for the nth session. A full one loses packets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { LARGEST = 70000, EVENTS = 128, AT_ONCE = 64, VNET = 10, IPV4_DESTINATION = VNET + 16 };

static uint8_t packet[LARGEST];

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    int poll = epoll_create1(0), far = argc > 3 ? atoi(argv[1]) : -1;
    uint32_t first, to, count = (uint32_t)argc - 3;
    struct in_addr own;

    if (argc < 4 || inet_pton(AF_INET, argv[2], &own) != 1)
        return 2;
    first = ntohl(own.s_addr);
    for (int i = 0; i <= (int)count; i++) {
        int fd = i == 0 ? far : atoi(argv[i + 2]);

        fcntl(fd, F_SETFL, O_NONBLOCK);
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd}) != 0) {
            perror("epoll_ctl");
            return 1;
        }
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
                    memcpy(&to, packet + IPV4_DESTINATION, sizeof to);
                    to = ntohl(to) - first;
                    if (size < IPV4_DESTINATION + 4 || packet[VNET] >> 4 != 4 || to >= count)
                        continue;
                    into = atoi(argv[to + 3]);
                }
                if (write(into, packet, (size_t)size) < 0 && errno != EAGAIN)
                    perror("write");
            }
    }
}
