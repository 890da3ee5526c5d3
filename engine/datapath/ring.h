/* A ring of frames between one producing and one consuming thread; frames of any length lie in it back to back. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct ring {
    uint8_t *octets;
    uint32_t size; /* a power of two */
    _Alignas(64) _Atomic uint32_t head; /* the producer's; both run freely and are cut to size on use */
    _Alignas(64) _Atomic uint32_t tail; /* the consumer's */
};

enum { RING_SKIP = UINT32_MAX, RING_HEADER = sizeof(uint32_t) }; /* the rest up to the end is empty */

static inline int ring_open(struct ring *ring, uint32_t size)
{
    *ring = (struct ring){.octets = malloc(size), .size = size};
    return ring->octets ? 0 : -1;
}

static inline void ring_close(struct ring *ring)
{
    free(ring->octets);
    ring->octets = NULL;
}

static inline uint32_t ring_record(uint32_t length)
{
    return (RING_HEADER + length + 3) & ~3u;
}

static inline void ring_mark(struct ring *ring, uint32_t place, uint32_t value)
{
    memcpy(ring->octets + (place & (ring->size - 1)), &value, RING_HEADER);
}

/* False if it is full. */
static inline bool ring_put(struct ring *ring, const uint8_t *frame, uint32_t length)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t room = ring->size - (head - atomic_load_explicit(&ring->tail, memory_order_acquire));
    uint32_t to_end = ring->size - (head & (ring->size - 1)), need = ring_record(length);

    if (need > to_end) {
        if (need + to_end > room)
            return false;
        ring_mark(ring, head, RING_SKIP);
        head += to_end;
    } else if (need > room) {
        return false;
    }
    ring_mark(ring, head, length);
    memcpy(ring->octets + (head & (ring->size - 1)) + RING_HEADER, frame, length);
    atomic_store_explicit(&ring->head, head + need, memory_order_release);
    return true;
}

/* The oldest frame, which stays until ring_drop; NULL if there is none. */
static inline const uint8_t *ring_first(struct ring *ring, uint32_t *length)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    while (tail != atomic_load_explicit(&ring->head, memory_order_acquire)) {
        const uint8_t *at = ring->octets + (tail & (ring->size - 1));

        memcpy(length, at, RING_HEADER);
        if (*length != RING_SKIP)
            return at + RING_HEADER;
        tail += ring->size - (tail & (ring->size - 1));
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
    }
    return NULL;
}

static inline void ring_drop(struct ring *ring, uint32_t length)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    atomic_store_explicit(&ring->tail, tail + ring_record(length), memory_order_release);
}
