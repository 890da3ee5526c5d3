/* One thread per queue: card to egress, egress to card, control frames to and from the engine. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "counters.h"
#include "duct.h"
#include "egress.h"
#include "join.h"
#include "port.h"
#include "quiescence.h"
#include "ring.h"
#include "table.h"

enum {
    CONTROL_RING = 1 << 19, /* octets */
    CONTROL_SHARE = 256,    /* frames of one session while the engine catches up: more is a flood in its name */
    IPV6_SHARE = 64,        /* so many of them may be of IPv6's autoconfiguration: they are not what keeps it up */
    DUCT_SHARE = 8,         /* of a duct that is half full a session may fill one in so many, once round */
    SUPER_PACKET = sizeof(vnet_header) + 65536,
};

/* What all workers share: read by them, changed by the engine's thread. */
struct shared {
    struct table keys;        /* session_key -> slot */
    struct table routes;      /* route_key -> 2 * slot (IPv4) or 2 * slot + 1 (IPv6) */
    struct session *sessions; /* by slot */
    atomic_bool *ducted;      /* by slot: whose packets ducts may bring, which may name any slot at any time */
    uint32_t max_sessions;
    int control_event;        /* an eventfd: control frames wait for the engine */
    atomic_bool control_waiting;
    _Atomic uint32_t rounds; /* how often the engine has caught up with known sessions' control frames */
    bool join_udp; /* the kernel can cut UDP super-packets */
};

/* How many control frames a session has had in a round. */
struct share {
    uint32_t round;
    uint32_t frames;
    uint32_t told; /* the second in which the engine was last shown a packet of a closed protocol */
    uint32_t lap, octets; /* what it has put into the duct while that went round this time */
};

struct worker {
    struct shared *shared;
    struct port port;
    int poll; /* an epoll of the socket, the wake-up and every egress this worker reads */
    int wake; /* an eventfd */
    atomic_bool stop;
    pthread_t thread;
    _Alignas(64) struct reader reader;
    /* Two rings, so that a flood of strangers' frames can't take the keepalives of known sessions with it. */
    struct ring known;   /* control frames of sessions in the table, each within its share */
    struct ring unknown; /* discovery, and sessions not in the table */
    struct ring outgoing;
    _Atomic(struct duct *) duct; /* or NULL; the engine's thread exchanges it */
    struct join join; /* what came in one batch */
    uint8_t super_packet[SUPER_PACKET]; /* read from an egress */
    struct timespec patience; /* with a card that is behind */
    uint32_t taken; /* what the card had taken when it was last looked at */
    _Atomic uint64_t shown; /* control frames the card was shown, and port_shown() behind the last of them */
    bool told; /* frames were put into a ring in this pass */
    struct counters counters;
    struct session_counters *sessions; /* by slot */
    struct share *shares;              /* by slot */
};

/* 0 or -errno. The thread runs in the caller's network namespace. */
int worker_open(struct worker *worker, struct shared *shared, uint32_t max_sessions);
int worker_start(struct worker *worker, uint32_t queue);
void worker_wake(struct worker *worker);
/* Ends the thread, if it runs, and frees everything but the port. */
void worker_close(struct worker *worker);

/* Any thread. 0 or -errno. */
int worker_watch(struct worker *worker, struct egress *egress);
void worker_unwatch(struct worker *worker, struct egress *egress);
/* Have another duct, or none. The one before comes back by `before`: the worker may use it still until it turns. */
int worker_exchange_duct(struct worker *worker, struct duct *duct, struct duct **before);
