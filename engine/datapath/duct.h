/* Packets to and from a process without rights: two rings in memory that it has too, and may write anything to at any time.
 *
 * So nothing is read from there twice: an index or a length is a copy of ours before it is judged, and a packet too before
 * it is looked at. One thread puts in and takes out at this end. A record is its length, a session's slot and a packet with
 * the vnet_header in front; it lies in one piece. Who finds nothing says that it sleeps, and is woken by a pair of sockets: unlike an
 * eventfd's, nobody but us can have a call of ours at our end wait.
 */
#pragma once
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
    DUCT_START = 4096, /* where the first ring lies, behind both sides' indices; the other one lies behind it */
    DUCT_RECORD = 2 * sizeof(uint32_t), /* what stands before a packet; records are aligned to that */
};
#define DUCT_SKIP UINT32_MAX /* in place of a length: the rest up to the end is empty */

/* Of one direction. Indices run freely and are cut to size on use. */
struct duct_indices {
    _Alignas(64) _Atomic uint32_t head; /* the producer's */
    _Alignas(64) _Atomic uint32_t tail; /* the consumer's */
    _Alignas(64) _Atomic uint32_t sleeping; /* the consumer has found nothing */
};

struct duct {
    struct duct_indices *out, *in; /* to the other process, and from there: shared */
    uint8_t *out_octets, *in_octets; /* shared */
    uint32_t size; /* octets of each ring, a power of two */
    uint32_t head, tail; /* ours of each, which are shown there and never read back */
    int bell; /* a stream socket by which each side wakes the other */
    bool put; /* something that it may have to be woken for */
    atomic_bool broken; /* what came from there made no sense: it is looked at no more */
};

enum { DUCT_GIVEN = 2 };

/* One with memory of its own; the other process is given the memory and the other end of the bell, which are the
 * caller's. NULL, with errno. */
struct duct *duct_open(uint32_t size, int given[DUCT_GIVEN]);
/* When nobody uses it any more; NULL is none. */
void duct_close(struct duct *duct);

/* Begins in memory that is DUCT_START and two rings long, and zero. */
static inline void duct_begin(struct duct *duct, void *memory, uint32_t size, int bell)
{
    struct duct_indices *indices = memory;
    uint8_t *octets = (uint8_t *)memory + DUCT_START;

    *duct = (struct duct){
        .out = indices, .in = indices + 1, .out_octets = octets, .in_octets = octets + size, .size = size,
        .bell = bell,
    };
    atomic_store(&duct->in->sleeping, 1); /* nobody looks yet */
    atomic_store(&duct->out->sleeping, 1);
}

static inline uint32_t duct_record(uint32_t length)
{
    return (DUCT_RECORD + length + DUCT_RECORD - 1) & ~(uint32_t)(DUCT_RECORD - 1);
}

static inline void duct_mark(struct duct *duct, uint32_t head, uint32_t length, uint32_t slot)
{
    uint32_t words[2] = {length, slot};

    memcpy(duct->out_octets + (head & (duct->size - 1)), words, sizeof words);
}

/* Octets that the other process has yet to take; more than the ring has if it says what can't be. */
static inline uint32_t duct_used(const struct duct *duct)
{
    return duct->head - atomic_load_explicit(&duct->out->tail, memory_order_acquire);
}

/* Puts in one packet; false if there is no room. */
static inline bool duct_put(struct duct *duct, uint32_t slot, const struct iovec *parts, int count, uint32_t length)
{
    uint32_t to_end = duct->size - (duct->head & (duct->size - 1)), need = duct_record(length);
    uint32_t skipped = need > to_end ? to_end : 0, used = duct_used(duct);
    uint8_t *at;

    if (used > duct->size || skipped + need > duct->size - used)
        return false;
    if (skipped) {
        duct_mark(duct, duct->head, DUCT_SKIP, 0);
        duct->head += skipped;
    }
    duct_mark(duct, duct->head, length, slot);
    at = duct->out_octets + (duct->head & (duct->size - 1)) + DUCT_RECORD;
    for (int i = 0; i < count; i++) {
        memcpy(at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    duct->head += need;
    atomic_store_explicit(&duct->out->head, duct->head, memory_order_release);
    duct->put = true;
    return true;
}

/* After a batch: wakes the other process if it sleeps. */
static inline void duct_tell(struct duct *duct)
{
    if (!duct->put)
        return;
    duct->put = false;
    if (atomic_exchange(&duct->out->sleeping, 0)) /* else the exchange there comes later, and sees the head */
        send(duct->bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* After the bell has rung; false if it never will again. */
static inline bool duct_heard(struct duct *duct)
{
    char rung[64];
    ssize_t n = recv(duct->bell, rung, sizeof rung, MSG_DONTWAIT);

    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static inline bool duct_has_some(const struct duct *duct)
{
    return atomic_load_explicit(&duct->in->head, memory_order_acquire) != duct->tail;
}

/* Says that we sleep, or not any more; false if there is something to do before. */
static inline bool duct_sleep(struct duct *duct, bool sleeping)
{
    atomic_exchange(&duct->in->sleeping, sleeping);
    return !sleeping || !duct_has_some(duct);
}

/* Takes a copy of one packet of at most `most` octets. Its length; 0 if there is none, -1 if what is there makes no sense. */
static inline int32_t duct_take(struct duct *duct, uint8_t *into, uint32_t most, uint32_t *slot)
{
    uint32_t there = atomic_load_explicit(&duct->in->head, memory_order_acquire) - duct->tail;
    uint32_t words[2], place = duct->tail & (duct->size - 1);

    if (!there)
        return 0;
    if (there > duct->size || there % DUCT_RECORD)
        return -1;
    memcpy(words, duct->in_octets + place, sizeof words);
    atomic_signal_fence(memory_order_seq_cst); /* that copy is what is judged, and used */
    if (words[0] == DUCT_SKIP) {
        if (there <= duct->size - place)
            return -1;
        there -= duct->size - place;
        duct->tail += duct->size - place;
        place = 0;
        memcpy(words, duct->in_octets, sizeof words);
        atomic_signal_fence(memory_order_seq_cst);
    }
    if (!words[0] || words[0] > most || duct_record(words[0]) > there || duct_record(words[0]) > duct->size - place)
        return -1;
    memcpy(into, duct->in_octets + place + DUCT_RECORD, words[0]);
    *slot = words[1];
    duct->tail += duct_record(words[0]);
    atomic_store_explicit(&duct->in->tail, duct->tail, memory_order_release);
    return (int32_t)words[0];
}
