/* The data path as one object, for the engine. All calls come from one thread at a time, but souppp_queue and
 * souppp_add_traffic, which any thread may make. Calls return 0 or -errno where nothing else is said. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

struct datapath;

/* Whether the card's driver writes received frames to our memory and takes those to send from it. */
enum souppp_copying { SOUPPP_ANY, SOUPPP_ZERO_COPY, SOUPPP_COPY };

/* Fields as lists, from which souppp_layout tells where they are: type, name, dimensions. */
#define SOUPPP_OPTIONS(X) \
    X(uint32_t, queues, ) \
    X(uint32_t, max_sessions, ) \
    X(int, xsk_map, )      /* the XDP program's map of sockets by queue */ \
    X(uint32_t, copying, ) /* enum souppp_copying */ \
    X(bool, busy_poll, )

#define SOUPPP_FIELD(type, name, dimensions) type name dimensions;

struct souppp_options {
    SOUPPP_OPTIONS(SOUPPP_FIELD)
};

/* A device's descriptor, one that many share, or no device but the ducts to another process. */
enum souppp_egress { SOUPPP_EGRESS_NONE, SOUPPP_EGRESS_OWN, SOUPPP_EGRESS_ROUTED, SOUPPP_EGRESS_DUCTED };

enum { SOUPPP_NETWORKS = 32 }; /* a session's at most */

#define SOUPPP_NETWORK(X) \
    X(uint8_t, address, [16]) /* of IPv4 the first four octets, and zeros */ \
    X(uint32_t, length, )     /* of the prefix, in bits */ \
    X(uint32_t, version, )    /* 4 or 6 */

struct souppp_network {
    SOUPPP_NETWORK(SOUPPP_FIELD)
};

/* Whose packets flow, see own.h. */
#define SOUPPP_OWN(X) \
    X(uint32_t, open, )          /* the protocols, both ways: 1 IPv4, 2 IPv6, 3 both */ \
    X(uint32_t, network_count, ) \
    X(uint8_t, ipv4, [4]) \
    X(uint8_t, ipv6, [16]) \
    X(struct souppp_network, networks, [SOUPPP_NETWORKS])

struct souppp_own {
    SOUPPP_OWN(SOUPPP_FIELD)
};

#define SOUPPP_SESSION(X) \
    X(uint8_t, own_mac, [6]) \
    X(uint8_t, peer_mac, [6]) \
    X(uint16_t, session_id, ) \
    X(uint16_t, vlan_count, ) \
    X(uint16_t, vlans, [2][2]) /* TPID and TCI, outer tag first */ \
    X(uint32_t, mtu, )         /* the longest IP packet, octets */ \
    X(uint32_t, egress, )      /* enum souppp_egress */ \
    X(int32_t, fd, )           /* SOUPPP_EGRESS_OWN */ \
    X(uint8_t, ipv4, [4])      /* SOUPPP_EGRESS_ROUTED; all zero: none */ \
    X(uint8_t, ipv6, [8])      /* the /48 prefix, then two zeros; all zero: none */ \
    X(struct souppp_own, own, )

struct souppp_session {
    SOUPPP_SESSION(SOUPPP_FIELD)
};

/* A field of a struct above, the whole of one (its name is empty), or the value of a name (its size is 0). */
struct souppp_place {
    const char *structure;
    const char *name;
    size_t offset;
    size_t size;
};

/* All that the other side must have the same, ended by one whose structure is NULL. */
const struct souppp_place *souppp_layout(void);

/* NULL with a line in `error` if it can't be done. */
struct datapath *souppp_open(const char *ifname, const struct souppp_options *options, char *error, size_t size);
void souppp_close(struct datapath *datapath);
/* Serves the queues up to `queues` as well, of the card by the name it has now; false with what went wrong in `error`.
 * No other call may be under way. */
bool souppp_add_queues(struct datapath *datapath, const char *ifname, uint32_t queues, char *error, size_t size);

/* An eventfd that is readable while control frames wait. */
int souppp_control_event(const struct datapath *datapath);
bool souppp_zero_copy(const struct datapath *datapath);

/* Copies waiting control frames one after another to `octets`, those of known sessions first; ends[i] is where frame i
 * ends. Returns how many. */
uint32_t souppp_receive_control(struct datapath *datapath, uint8_t *octets, uint32_t size, uint32_t *ends,
                                uint32_t max);
/* Frames in the same form; returns how many were taken, fewer than given when the ring is full. */
uint32_t souppp_send_control(struct datapath *datapath, const uint8_t *octets, const uint32_t *ends, uint32_t count);
/* How many of those, from the first on, the card is known to have taken, modulo 2^32. */
uint32_t souppp_control_taken(struct datapath *datapath);

/* -EEXIST for a slot, a session's address on the line or a routed address in use, -ENOENT for a routed session without a
 * routed egress, -EINVAL for a slot, tags or networks too many. */
int souppp_add_session(struct datapath *datapath, uint32_t slot, const struct souppp_session *session);
/* Changes whose packets flow: when it returns no other one's do. -ENOENT if there is no such session, and so below. */
int souppp_set_own(struct datapath *datapath, uint32_t slot, const struct souppp_own *own);
/* When it returns no worker uses the session's descriptor any more. */
int souppp_remove_session(struct datapath *datapath, uint32_t slot);
/* The descriptor that all routed sessions share; once, and it stays until souppp_close. */
int souppp_routed_egress(struct datapath *datapath, int fd);

/* Has a queue's worker pass packets of sessions with SOUPPP_EGRESS_DUCTED to another process and back, by rings of `size`
 * octets, a power of two, in memory that both have; in place of the ones before. `given` takes two descriptors, the
 * caller's, for the other process: the memory, and a socket by which each side wakes the other. */
int souppp_open_duct(struct datapath *datapath, uint32_t queue, uint32_t size, int *given);
/* Whether another process has put into a ring what makes no sense, after which nothing passes there. */
bool souppp_duct_broken(const struct datapath *datapath);

/* Adds to four numbers for each of the first `count` slots: packets and IP bytes in, packets and IP bytes out. */
void souppp_add_traffic(const struct datapath *datapath, uint64_t *numbers, uint32_t count);

/* Four numbers of a session: packets that came in and were not for it, that came in with a source that was forged, that
 * were to go out and were not from it, and that came in for a session without an egress. */
void souppp_strays(const struct datapath *datapath, uint32_t slot, uint64_t *numbers);

/* The names of what souppp_queue gives, in its order, ended by NULL; drops begin with "drop_". */
const char *const *souppp_queue_names(void);
void souppp_queue(const struct datapath *datapath, uint32_t queue, uint64_t *numbers);

#pragma GCC visibility pop
