// Sends packets of the host's own for some seconds, each routed anew, and prints nanoseconds of processor for each.
//
//     bystanders ADDRESS SECONDS
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static double clock_of(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    if (argc != 3 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        return 2;
    }
    int sender = socket(AF_INET, SOCK_DGRAM, 0);
    double begun = clock_of(CLOCK_PROCESS_CPUTIME_ID), end = clock_of(CLOCK_MONOTONIC) + atof(argv[2]);
    unsigned long sent = 0;
    do {
        for (int n = 0; n < 256; n++) {
            sent += sendto(sender, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1;
        }
    } while (clock_of(CLOCK_MONOTONIC) < end);
    printf("%.1f\n", (clock_of(CLOCK_PROCESS_CPUTIME_ID) - begun) * 1e9 / (double)sent);
    return 0;
}
