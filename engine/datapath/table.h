/* A hash table that many threads read without locks while one changes it.
 *
 * Entries are numbered by the caller, 0 to capacity-1, and chained by number. A removed entry keeps its link, so a
 * reader standing on it still finds its way; it must not be inserted again before all readers have moved on, see
 * quiescence.h.
 */
#pragma once
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum { TABLE_NONE = UINT32_MAX >> 1 };

struct key {
    _Alignas(8) uint8_t octets[24];
};

struct table_entry {
    struct key key;
    _Atomic uint32_t next; /* number + 1; 0 ends the chain */
};

struct table {
    _Atomic uint32_t *buckets;
    struct table_entry *entries;
    uint32_t mask;
    uint64_t seed;
};

/* 0, or -1 if memory is short. */
int table_open(struct table *table, uint32_t capacity);
void table_close(struct table *table);

/* One thread at a time. Inserting needs a key that is not in the table. */
void table_insert(struct table *table, uint32_t number, const struct key *key);
void table_remove(struct table *table, uint32_t number);

static inline uint32_t table_bucket(const struct table *table, const struct key *key)
{
    uint64_t word[3], hash = table->seed;

    memcpy(word, key->octets, sizeof word);
    for (int i = 0; i < 3; i++) {
        hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return (uint32_t)hash & table->mask;
}

/* The entry's number, or TABLE_NONE. Any thread. */
static inline uint32_t table_find(const struct table *table, const struct key *key)
{
    uint32_t link = atomic_load_explicit(&table->buckets[table_bucket(table, key)], memory_order_acquire);

    while (link) {
        const struct table_entry *entry = &table->entries[link - 1];

        if (memcmp(entry->key.octets, key->octets, sizeof key->octets) == 0)
            return link - 1;
        link = atomic_load_explicit(&entry->next, memory_order_acquire);
    }
    return TABLE_NONE;
}
