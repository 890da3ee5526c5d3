/* Joining consecutive segments of one flow into super-packets, which a TUN device takes in one write.
 *
 * Packets of one batch go in, trains come out: each one packet or a super-packet that segmentation would cut into just
 * these packets again. Trains written in their order keep the order of every flow. Pure functions; first headers are
 * changed where they lie.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "transport.h"
#include "vnet.h"

enum {
    JOIN_MAX = 1024,  /* packets in a batch */
    JOIN_BUCKETS = 1024, /* a power of two */
    UDP_SEGMENTS = 64, /* more in a super-packet the kernel does not take: its UDP_MAX_SEGMENTS of old */
};

struct piece {
    uint8_t *packet;
    struct transport transport;
    uint32_t next; /* the train's next piece */
};

struct train {
    uint32_t slot;     /* the session */
    uint32_t flow;     /* a hash of the flow; 0 if it has none */
    uint32_t before;   /* an older train whose flow has the same bucket: number + 1, or 0 */
    uint32_t first, last;
    uint32_t count;    /* pieces */
    uint32_t size;     /* data octets in each piece but the last */
    uint32_t length;   /* octets of the packet as it stands */
    uint32_t octets;   /* of all the packets that it was */
    uint32_t sequence; /* TCP: what comes next */
    bool open;         /* more may follow */
    bool verified;     /* the checksum is right */
};

/* Zeroed before first use. */
struct join {
    uint32_t piece_count, train_count;
    uint16_t latest[JOIN_BUCKETS]; /* train of a flow with this hash: number + 1, or 0 */
    struct piece pieces[JOIN_MAX];
    struct train trains[JOIN_MAX];
};

static inline uint32_t join_bucket(uint32_t flow)
{
    return (flow >> 1) % JOIN_BUCKETS; /* all flows' hashes are odd */
}

static inline void join_begin(struct join *join)
{
    for (uint32_t i = 0; i < join->train_count; i++)
        join->latest[join_bucket(join->trains[i].flow)] = 0;
    join->piece_count = join->train_count = 0;
}

/* At most JOIN_MAX packets; `packet` stays there until the batch is done, and the octets of a vnet_header in front of it
 * are free to be written to. */
void join_add(struct join *join, uint32_t slot, uint8_t *packet, uint32_t length, bool udp);

/* What to write for a train: its header and packet, in parts. `vector` has room for JOIN_MAX of them. Returns how many
 * there are. Once for each train. */
uint32_t join_write(struct join *join, uint32_t train, struct iovec *vector);
