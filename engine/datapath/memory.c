#include "memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ARENA = 1 << 20, ARENAS = 64, HUGE = 2 * ARENA, SPAN = ARENAS * ARENA };

struct span {
    struct span *next;
    uint8_t *octets;
    uint64_t taken; /* a bit for each arena */
};

static struct span *spans;

static void *map(size_t size)
{
    void *octets = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return octets == MAP_FAILED ? NULL : octets;
}

static struct span *add_span(void)
{
    struct span *span = malloc(sizeof *span);
    uint8_t *octets = span ? map(SPAN + HUGE) : NULL;
    if (octets == NULL) {
        free(span);
        return NULL;
    }
    uint8_t *aligned = (uint8_t *)(((uintptr_t)octets + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
    if (aligned != octets)
        munmap(octets, (size_t)(aligned - octets));
    munmap(aligned + SPAN, HUGE - (size_t)(aligned - octets));
    madvise(aligned, SPAN, MADV_HUGEPAGE); /* without them it is memory like any other */
    *span = (struct span){.next = spans, .octets = aligned};
    return spans = span;
}

void *souppp_arena_get(void *ignored, size_t size)
{
    (void)ignored;
    if (size != ARENA)
        return map(size);
    struct span *span = spans;
    while (span != NULL && span->taken == UINT64_MAX)
        span = span->next;
    if (span == NULL && (span = add_span()) == NULL)
        return map(size); /* what is left may be enough for one */
    int at = __builtin_ctzll(~span->taken);
    span->taken |= 1ull << at;
    return span->octets + (size_t)at * ARENA;
}

void souppp_arena_give_back(void *ignored, void *arena, size_t size)
{
    (void)ignored;
    struct span **link = &spans;
    while (*link != NULL && (uintptr_t)arena - (uintptr_t)(*link)->octets >= SPAN)
        link = &(*link)->next;
    struct span *span = *link;
    if (span == NULL) {
        munmap(arena, size);
        return;
    }
    size_t at = (size_t)((uint8_t *)arena - span->octets) / ARENA, pair = at & ~(size_t)1;
    span->taken &= ~(1ull << at);
    if (span->taken == 0 && spans->next != NULL) { /* the last one stays, or it would come and go */
        *link = span->next;
        munmap(span->octets, SPAN);
        free(span);
    } else if ((span->taken >> pair & 3) == 0) {
        madvise(span->octets + pair * ARENA, HUGE, MADV_DONTNEED); /* half of a huge page isn't given back */
    }
}
