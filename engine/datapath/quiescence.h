/* When is nobody looking at something any more? (Quiescent-state-based reclamation.)
 *
 * A worker counts: odd while it may hold on to what it found in a table, even while it holds nothing. Whoever has
 * taken something out of a table waits until each worker's count is even or has moved, and may then reuse it.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

struct reader {
    _Atomic uint64_t count;
};

/* Both ways between holding and not holding. */
static inline void reader_turn(struct reader *reader)
{
    atomic_fetch_add_explicit(&reader->count, 1, memory_order_acq_rel);
}

/* Returns when the reader holds nothing of what it found before this call. */
static inline void reader_wait(struct reader *reader)
{
    /* Adding nothing puts this look in order with the reader's turns: one that comes later sees what we took out. */
    uint64_t seen = atomic_fetch_add_explicit(&reader->count, 0, memory_order_acq_rel);

    while (seen & 1 && atomic_load_explicit(&reader->count, memory_order_acquire) == seen)
        usleep(20);
}
