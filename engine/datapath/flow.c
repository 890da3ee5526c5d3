#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "flow.h"

enum {
    STEPS = 8,     /* of a turn */
    FEW = 1 << 14, /* octets that are copied */
};

/* Where the next step leads. */
enum step { STEP_ON, STEP_TURN_ENDS };

bool flow_keep(struct flow *flow, const uint8_t *octets, uint32_t length)
{
    if (!length)
        return true;
    flow->kept = malloc(length);
    if (!flow->kept)
        return false;
    memcpy(flow->kept, octets, length);
    flow->kept_from = 0;
    flow->kept_to = length;
    return true;
}

static bool try_again(void)
{
    return errno == EAGAIN || errno == EINTR;
}

static enum step pass_kept(struct flow *flow, int to, uint64_t *moved, enum flow_turn *turn)
{
    ssize_t n = send(to, flow->kept + flow->kept_from, flow->kept_to - flow->kept_from, MSG_NOSIGNAL);

    if (n < 0) {
        *turn = try_again() ? FLOW_TARGET_WAITS : FLOW_TARGET_GONE;
        return STEP_TURN_ENDS;
    }
    *moved += (uint64_t)n;
    flow->kept_from += (uint32_t)n;
    if (flow->kept_from == flow->kept_to) {
        free(flow->kept);
        flow->kept = NULL;
    }
    return STEP_ON;
}

static enum step pass_piped(struct flow *flow, struct pipes *pipes, int to, uint64_t *moved, enum flow_turn *turn)
{
    ssize_t n = splice(flow->pipe->out, NULL, to, NULL, flow->piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    if (n <= 0) {
        *turn = n < 0 && try_again() ? FLOW_TARGET_WAITS : FLOW_TARGET_GONE;
        return STEP_TURN_ENDS;
    }
    *moved += (uint64_t)n;
    flow->piped -= (uint32_t)n;
    if (!flow->piped) {
        pipes_give_back(pipes, flow->pipe, 0);
        flow->pipe = NULL;
    }
    return STEP_ON;
}

/* What a source had, by what its read returned. */
static enum step taken(struct flow *flow, ssize_t n, enum flow_turn *turn)
{
    if (n < 0) {
        *turn = try_again() ? FLOW_SOURCE_WAITS : FLOW_SOURCE_GONE;
        return STEP_TURN_ENDS;
    }
    flow->ended = n == 0;
    return STEP_ON;
}

/* Copies what there is: cheaper than a pipe for a few octets, and all that can be done without one. */
static enum step copy(struct flow *flow, int from, int to, uint64_t *moved, enum flow_turn *turn)
{
    uint8_t octets[FEW];
    ssize_t n = recv(from, octets, sizeof octets, 0), sent;

    if (n <= 0)
        return taken(flow, n, turn);
    flow->many = n == FEW;
    sent = send(to, octets, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && !try_again()) {
        *turn = FLOW_TARGET_GONE;
        return STEP_TURN_ENDS;
    }
    if (sent < 0)
        sent = 0;
    *moved += (uint64_t)sent;
    if (!flow_keep(flow, octets + sent, (uint32_t)(n - sent))) {
        *turn = FLOW_NO_MEMORY;
        return STEP_TURN_ENDS;
    }
    if (flow->kept || flow->many || flow->hangs)
        return STEP_ON;
    *turn = FLOW_SOURCE_WAITS; /* it had less than was asked for, so epoll tells of what comes now */
    return STEP_TURN_ENDS;
}

static enum step take(struct flow *flow, struct pipes *pipes, int from, int to, uint64_t *moved, enum flow_turn *turn)
{
    struct pipe *pipe = flow->many ? pipes_take(pipes) : NULL;
    ssize_t n;

    if (!pipe)
        return copy(flow, from, to, moved, turn);
    n = splice(from, NULL, pipe->in, NULL, pipes_share(pipes), SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n > 0) {
        flow->many = n > FEW;
        flow->pipe = pipe;
        flow->piped = (uint32_t)n;
        return STEP_ON;
    }
    pipes_give_back(pipes, pipe, 0);
    return taken(flow, n, turn);
}

enum flow_turn flow_move(struct flow *flow, struct pipes *pipes, int from, int to, uint64_t *moved)
{
    enum flow_turn turn = FLOW_MORE;
    enum step step = STEP_ON;

    for (int i = 0; i < STEPS && step == STEP_ON; i++) {
        if (flow->kept)
            step = pass_kept(flow, to, moved, &turn);
        else if (flow->piped)
            step = pass_piped(flow, pipes, to, moved, &turn);
        else if (flow->ended) {
            shutdown(to, SHUT_WR);
            return FLOW_OVER;
        } else
            step = take(flow, pipes, from, to, moved, &turn);
    }
    return turn;
}

void flow_close(struct flow *flow, struct pipes *pipes)
{
    if (flow->pipe)
        pipes_give_back(pipes, flow->pipe, flow->piped);
    free(flow->kept);
    *flow = (struct flow){0};
}
