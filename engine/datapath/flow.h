/* Octets on their way from one socket to another, which are non-blocking: few are copied, many spliced through a pipe.
 *
 * What the target doesn't take at once stays in the pipe, or in memory. No more is read before all of that is passed on,
 * so what a slow target costs is bounded.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "pipes.h"

/* Zeroed before first use. */
struct flow {
    struct pipe *pipe; /* NULL while nothing is in one */
    uint32_t piped;    /* octets in it */
    uint8_t *kept;     /* NULL while nothing is in memory; what is there goes first */
    uint32_t kept_from, kept_to;
    bool many;  /* there was more than is copied, the last time */
    bool hangs; /* epoll has said that the source has ended or failed: so it is read until that is reached */
    bool ended; /* the source sends no more */
};

enum flow_turn {
    FLOW_SOURCE_WAITS, /* it has no more now */
    FLOW_TARGET_WAITS, /* it takes no more now */
    FLOW_MORE,         /* there may be more, but others have their turn first */
    FLOW_OVER,         /* all is passed on, and that it is all */
    FLOW_SOURCE_GONE,
    FLOW_TARGET_GONE,
    FLOW_NO_MEMORY,
};

/* Octets to be passed on before all others. False if memory is short. */
bool flow_keep(struct flow *flow, const uint8_t *octets, uint32_t length);

static inline bool flow_holds(const struct flow *flow)
{
    return flow->piped || flow->kept;
}

/* Moves what can be moved in one turn, and adds to `moved` how many octets `to` took. */
enum flow_turn flow_move(struct flow *flow, struct pipes *pipes, int from, int to, uint64_t *moved);

/* What it holds is lost. */
void flow_close(struct flow *flow, struct pipes *pipes);
