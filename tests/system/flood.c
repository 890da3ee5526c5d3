// flood DEVICE FRAMES-PER-SECOND SECONDS OCTETS: junk frames from the line, for a bounded time; OCTETS is a hexadecimal
// file of frames, one a line, sent round and round. Prints how many were sent.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST = 64, LONGEST = 2048, BATCH = 64 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    static unsigned char frames[MOST][LONGEST];
    static size_t lengths[MOST];
    int kinds = 0;
    FILE *file = argc == 5 ? fopen(argv[4], "r") : NULL;
    char line[2 * LONGEST + 2];
    if (!file)
        return 2;
    while (kinds < MOST && fgets(line, sizeof line, file)) {
        unsigned octet;
        while (sscanf(line + 2 * lengths[kinds], "%2x", &octet) == 1)
            frames[kinds][lengths[kinds]++] = octet;
        kinds++;
    }
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
    if (!kinds || bind(fd, (struct sockaddr *)&place, sizeof place))
        return 2;
    double rate = atof(argv[2]), start = now(), end = start + atof(argv[3]);
    long sent = 0;
    for (double t; (t = now()) < end;) {
        if (sent < (t - start) * rate)
            for (int n = 0; n < BATCH; n++, sent++)
                send(fd, frames[sent % kinds], lengths[sent % kinds], 0);
        else
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    printf("%ld\n", sent);
}
