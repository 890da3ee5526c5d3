/* What the ends of a measured line have in common. */
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

static inline double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void must(int condition, const char *what)
{
    if (!condition) {
        perror(what);
        exit(1);
    }
}

static inline struct sockaddr_in address(const char *host, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    must(inet_pton(AF_INET, host, &to.sin_addr) == 1, host);
    return to;
}

static inline void watch(int poll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};

    must(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}
