#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "pipes.h"

enum {
    IDLE = 16,           /* empty pipes that are kept */
    SIZE = 1 << 18,      /* octets; 64 pages, of which a small packet fills one too */
    SHARE = 1 << 18,
    MANY = 256,          /* held: from then on the kernel gives an ordinary user pipes of two pages */
    SMALL_SHARE = 1 << 14,
};

struct pipe *pipes_take(struct pipes *pipes)
{
    struct pipe *pipe = pipes->idle;
    int ends[2];

    if (pipe) {
        pipes->idle = pipe->next;
        pipes->idle_count--;
        pipes->held++;
        return pipe;
    }
    pipe = malloc(sizeof *pipe);
    if (!pipe || pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
        free(pipe);
        return NULL;
    }
    if (pipes->held < MANY)
        fcntl(ends[1], F_SETPIPE_SZ, SIZE); /* a small one does as well */
    *pipe = (struct pipe){.out = ends[0], .in = ends[1]};
    pipes->held++;
    return pipe;
}

static void destroy(struct pipe *pipe)
{
    close(pipe->out);
    close(pipe->in);
    free(pipe);
}

void pipes_give_back(struct pipes *pipes, struct pipe *pipe, uint32_t octets)
{
    pipes->held--;
    if (octets || pipes->idle_count == IDLE) {
        destroy(pipe);
        return;
    }
    pipe->next = pipes->idle;
    pipes->idle = pipe;
    pipes->idle_count++;
}

void pipes_close(struct pipes *pipes)
{
    while (pipes->idle) {
        struct pipe *pipe = pipes->idle;

        pipes->idle = pipe->next;
        destroy(pipe);
    }
    pipes->idle_count = 0;
}

uint32_t pipes_share(const struct pipes *pipes)
{
    return pipes->held < MANY ? SHARE : SMALL_SHARE;
}
