/* Pipes to splice through. One is held only while octets are in it, so connections that are silent cost none.
 *
 * One thread uses a pool. */
#pragma once
#include <stdint.h>

struct pipe {
    int out, in; /* octets are read from the first, written to the other */
    struct pipe *next;
};

/* Zeroed before first use. */
struct pipes {
    struct pipe *idle; /* empty ones, to be had again */
    uint32_t idle_count;
    uint32_t held;
};

/* NULL where descriptors or memory are short. */
struct pipe *pipes_take(struct pipes *pipes);
/* With octets in it, it isn't to be had again. */
void pipes_give_back(struct pipes *pipes, struct pipe *pipe, uint32_t octets);
void pipes_close(struct pipes *pipes);

/* How much to take in at once: with many held by connections whose other side is slow, each holds less. */
uint32_t pipes_share(const struct pipes *pipes);
