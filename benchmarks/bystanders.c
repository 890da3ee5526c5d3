// Sends datagrams from several hosts to one address, each routed anew, and prints for each host the median nanoseconds
// of processor that one takes. The hosts take turns after some hundred: what the machine does besides meets all alike.
//
//     bystanders ADDRESS SECONDS NAMESPACE...
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { MAX_HOSTS = 8, MAX_TURNS = 100000, AT_ONCE = 400 };

static double taken[MAX_HOSTS][MAX_TURNS];

static double clock_of(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int by_value(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    int hosts = argc - 3, senders[MAX_HOSTS], turns = 0;
    if (hosts < 1 || hosts > MAX_HOSTS || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        return 2;
    }
    for (int host = 0; host < hosts; host++) {
        if (setns(open(argv[3 + host], O_RDONLY), CLONE_NEWNET) != 0) {
            perror(argv[3 + host]);
            return 1;
        }
        senders[host] = socket(AF_INET, SOCK_DGRAM, 0);
    }
    double end = clock_of(CLOCK_MONOTONIC) + atof(argv[2]);
    for (; turns < MAX_TURNS && clock_of(CLOCK_MONOTONIC) < end; turns++) {
        for (int number = 0; number < hosts; number++) {
            int host = (number + turns) % hosts, sent = 0;
            double begun = clock_of(CLOCK_PROCESS_CPUTIME_ID);
            for (int n = 0; n < AT_ONCE; n++) {
                sent += sendto(senders[host], "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1;
            }
            taken[host][turns] = (clock_of(CLOCK_PROCESS_CPUTIME_ID) - begun) * 1e9 / (double)sent;
        }
    }
    for (int host = 0; host < hosts; host++) {
        qsort(taken[host], (size_t)turns, sizeof taken[host][0], by_value);
        printf("%.1f\n", taken[host][turns / 2]);
    }
    return 0;
}
