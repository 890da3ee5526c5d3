/* Proxied connections: one thread passes on what two sockets say to each other, the end of each direction too.
 *
 * All calls come from one thread, the owner's. Calls return 0 or -errno where nothing else is said. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "souppp.h"

#pragma GCC visibility push(default)

struct relay;
struct connection;

/* Why a connection ended. All but the first end with a reset of both sides: of the server's alone if that hadn't been
 * connected yet, for then the client's socket is the owner's again. */
enum souppp_relay_why {
    RELAY_DONE, /* each side said all, and that it was all */
    RELAY_CLIENT_GONE,
    RELAY_SERVER_GONE,
    RELAY_IDLE,
    RELAY_CUT,
    RELAY_SHORT, /* of memory, or of what epoll may watch */
    RELAY_UNCONNECTED, /* the server couldn't be connected, or not in time */
};

/* What is to be relayed: type, name, dimensions. */
#define SOUPPP_RELAYED(X) \
    X(uint64_t, id, )    /* the owner's name for it */ \
    X(uint64_t, idle, )  /* nanoseconds without an octet after which it ends; 0: never */ \
    X(uint64_t, patience, ) /* nanoseconds in which the server has to be connected, which is under way; 0: it is */ \
    X(int32_t, client, ) /* sockets, which are the relay's from now on */ \
    X(int32_t, server, ) \
    X(uint32_t, slot, )  /* whose counters it counts in, and is cut with */ \
    X(uint32_t, from_client, ) /* octets that go first, which follow each other: read from the client before, … */ \
    X(uint32_t, answer, )      /* … what the proxy itself says to the client, which counts as nobody's, … */ \
    X(uint32_t, from_server, ) /* … read from the server before */

struct souppp_relayed {
    SOUPPP_RELAYED(SOUPPP_FIELD)
};

/* A connection that ended. Octets are those that the other side took. */
#define SOUPPP_ENDED(X) \
    X(uint64_t, id, ) \
    X(uint64_t, up, )   /* from the client */ \
    X(uint64_t, down, ) /* from the server */ \
    X(uint32_t, why, ) \
    X(int32_t, client, ) /* the client's socket if the server wasn't connected yet, which is the owner's again; or -1 */ \
    X(int32_t, error, )  /* errno, of what kept it from being connected */

struct souppp_ended {
    SOUPPP_ENDED(SOUPPP_FIELD)
};

/* Of a slot, in memory that may be read at any time. */
#define RELAY_COUNTERS(X) X(up) X(down) X(connections)

/* What the other side must have the same, as souppp_layout. */
const struct souppp_place *souppp_relay_layout(void);

/* NULL, with errno, if it can't be done. */
struct relay *souppp_relay_open(uint32_t slots);
/* Resets what there is. */
void souppp_relay_close(struct relay *relay);

/* Takes over both sockets; `octets` are what goes first. NULL, with errno, and the sockets are as they were. The
 * connection is good for souppp_relay_traffic until it was told as ended. */
struct connection *souppp_relay_add(struct relay *relay, const struct souppp_relayed *relayed, const uint8_t *octets);
/* Ends all connections of a slot with a reset. They are told as ended later. */
int souppp_relay_cut(struct relay *relay, uint32_t slot);

/* An eventfd that is readable while connections that ended wait to be told. */
int souppp_relay_event(const struct relay *relay);
/* At most `max`; returns how many. */
uint32_t souppp_relay_ended(struct relay *relay, struct souppp_ended *ended, uint32_t max);
/* The octets of a connection until now: up, down. */
void souppp_relay_traffic(const struct connection *connection, uint64_t *numbers);
/* How many wait for their servers to be connected, in memory that may be read at any time. */
const uint32_t *souppp_relay_connecting(const struct relay *relay);
/* RELAY_COUNTERS of slot 0, those of slot 1 …; to be zeroed while a slot has no connection, and else only read. */
uint64_t *souppp_relay_counters(struct relay *relay);

#pragma GCC visibility pop
