// flood DEVICE FRAMES-PER-SECOND SECONDS OCTETS: junk frames from the line, for a bounded time; OCTETS is a hexadecimal
// file of frames, one a line, sent round and round. Prints how many went out, in how many seconds, and for how many of
// them this program waited for a processor.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST = 128, LONGEST = 2048, BATCH = 64 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Seconds spent ready to run, on the run queue (Documentation/scheduler/sched-stats.rst).
static double waited(void)
{
    FILE *file = fopen("/proc/self/schedstat", "r");
    unsigned long long ran, ready = 0;

    if (file) {
        if (fscanf(file, "%llu %llu", &ran, &ready) != 2)
            ready = 0;
        fclose(file);
    }
    return (double)ready * 1e-9;
}

static int read_frames(const char *path, struct iovec *frames)
{
    static unsigned char octets[MOST][LONGEST];
    char line[2 * LONGEST + 2];
    FILE *file = fopen(path, "r");
    int kinds = 0;

    if (!file)
        return 0;
    for (; kinds < MOST && fgets(line, sizeof line, file); kinds++) {
        unsigned char *at = octets[kinds];

        for (size_t n = 0; sscanf(line + 2 * n, "%2hhx", at) == 1; n++)
            at++;
        frames[kinds] = (struct iovec){octets[kinds], (size_t)(at - octets[kinds])};
    }
    fclose(file);
    return kinds;
}

int main(int argc, char **argv)
{
    static struct iovec frames[MOST];
    struct mmsghdr batch[BATCH] = {0};
    int kinds = argc == 5 ? read_frames(argv[4], frames) : 0, yes = 1, fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_ifindex = kinds ? (int)if_nametoindex(argv[1]) : 0};
    double rate, start, end, before, t;
    long sent = 0;

    if (!kinds || bind(fd, (struct sockaddr *)&place, sizeof place) ||
        setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes)) // past the taps of the far end's own sockets
        return 2;
    rate = atof(argv[2]);
    before = waited();
    start = now();
    end = start + atof(argv[3]);
    while ((t = now()) < end) {
        long due = (long)((t - start) * rate) - sent;
        int n = due < BATCH ? (int)due : BATCH;

        if (n <= 0) {
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
            continue;
        }
        for (int i = 0; i < n; i++)
            batch[i].msg_hdr = (struct msghdr){.msg_iov = &frames[(sent + i) % kinds], .msg_iovlen = 1};
        n = sendmmsg(fd, batch, (unsigned)n, 0);
        if (n < 0 && errno != ENOBUFS)
            return 2;
        if (n > 0)
            sent += n;
    }
    printf("%ld %.3f %.3f\n", sent, now() - start, waited() - before);
}
