#include "table.h"

#include <stdlib.h>
#include <sys/random.h>

int table_open(struct table *table, uint32_t capacity)
{
    uint32_t buckets = 64;

    while (buckets < 2 * capacity)
        buckets *= 2;
    table->mask = buckets - 1;
    table->buckets = calloc(buckets, sizeof *table->buckets);
    table->entries = aligned_alloc(64, (capacity * sizeof *table->entries + 63) / 64 * 64);
    /* A peer chooses session ids; an unknown seed keeps it from choosing the chains' lengths too. */
    if (getrandom(&table->seed, sizeof table->seed, GRND_NONBLOCK) != sizeof table->seed)
        table->seed = (uint64_t)(uintptr_t)table->buckets;
    if (table->buckets && table->entries)
        return 0;
    table_close(table);
    return -1;
}

void table_close(struct table *table)
{
    free((void *)table->buckets);
    free(table->entries);
    *table = (struct table){0};
}

void table_insert(struct table *table, uint32_t number, const struct key *key)
{
    struct table_entry *entry = &table->entries[number];
    _Atomic uint32_t *bucket = &table->buckets[table_bucket(table, key)];

    entry->key = *key;
    atomic_store_explicit(&entry->next, atomic_load_explicit(bucket, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(bucket, number + 1, memory_order_release);
}

void table_remove(struct table *table, uint32_t number)
{
    struct table_entry *entry = &table->entries[number];
    _Atomic uint32_t *link = &table->buckets[table_bucket(table, &entry->key)];

    while (atomic_load_explicit(link, memory_order_relaxed) != number + 1)
        link = &table->entries[atomic_load_explicit(link, memory_order_relaxed) - 1].next;
    atomic_store_explicit(link, atomic_load_explicit(&entry->next, memory_order_relaxed), memory_order_release);
}
