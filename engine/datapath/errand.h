/* What the kernel is asked for to make a device: requests that take it long, carried out in a row by a thread of their
 * own, beside the interpreter. The engine goes on, and asks how it went when it needs the device.
 *
 * All calls but those that say otherwise come from one thread. The thread lives in the network namespace of who opens
 * it, and has that one's rights. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "souppp.h"

#pragma GCC visibility push(default)

/* What a step is; its octets are said here. */
enum souppp_step_kind {
    STEP_TUN,     /* the path of /dev/net/tun: opened, non-blocking; the errand's descriptor from now on */
    STEP_NAME,    /* a TUN device's name: that descriptor has it; its option: TUN offloads that are wanted, or 0 */
    STEP_OFFLOAD, /* struct souppp_offload: one of a device's, by a socket in its namespace */
    STEP_FIND,    /* a device's name: its index is the errand's from now on; by a socket in its namespace */
    STEP_ASK,     /* rtnetlink requests, the last of which alone is acknowledged and has the sequence number 1 */
    STEP_ENTER,   /* an entry of a BPF map, by the map's descriptor: its key, of four octets, and its value */
    STEP_WRITE,   /* a path below /proc/sys, 0, and what to write there; where that can't be it stays as it is */
};

/* An ASK's options. */
#define ASK_OF_INDEX 1 /* the requests are about the device whose index is the errand's */
#define ASK_LACKING 2  /* that this kernel knows no such thing is no failure */

#define SOUPPP_STEP(X) \
    X(uint32_t, kind, ) \
    X(int32_t, fd, ) \
    X(uint32_t, option, ) \
    X(uint32_t, length, ) /* of the octets that follow, before they are filled up to a multiple of four */

struct souppp_step {
    SOUPPP_STEP(SOUPPP_FIELD)
};

#define SOUPPP_OFFLOAD(X) \
    X(char, name, [16]) \
    X(uint32_t, command, ) /* as in linux/ethtool.h */ \
    X(uint32_t, value, )

struct souppp_offload {
    SOUPPP_OFFLOAD(SOUPPP_FIELD)
};

/* How an errand went. */
#define SOUPPP_DONE(X) \
    X(int32_t, error, )  /* errno of what failed, after which nothing was done; ECANCELED: it was withdrawn in time */ \
    X(uint32_t, kind, )  /* of the step that failed */ \
    X(uint32_t, step, )  /* its number, from 0 on */ \
    X(int32_t, fd, )     /* the descriptor, which is the owner's now; -1 if there is none, as where anything failed */ \
    X(uint32_t, index, ) /* the device's; 0 if it was not looked for */ \
    X(char, text, [128]) /* what the kernel said in its own words, if anything */

struct souppp_done {
    SOUPPP_DONE(SOUPPP_FIELD)
};

struct errands;
struct errand;

/* What the other side must have the same, as souppp_layout. */
const struct souppp_place *souppp_errand_layout(void);

/* Carries out steps in the calling thread, whichever that is. Returns whether all went well. */
bool souppp_carry_out(const uint8_t *steps, size_t length, struct souppp_done *done);

/* NULL, with errno, if no thread can be had. */
struct errands *souppp_errands_open(void);
/* Waits for the errand that is under way; those that wait are not carried out, and descriptors that nobody has asked
 * for are closed. */
void souppp_errands_close(struct errands *errands);

/* Copies the steps, to be carried out after all that were given before. NULL, with errno, if there is no memory. */
struct errand *souppp_errand_give(struct errands *errands, const uint8_t *steps, size_t length);
/* Waits until it has been carried out, tells how it went, and forgets it. If it is `withdrawn` and not yet under way
 * it isn't carried out at all. */
void souppp_errand_end(struct errands *errands, struct errand *errand, bool withdrawn, struct souppp_done *done);

#pragma GCC visibility pop
