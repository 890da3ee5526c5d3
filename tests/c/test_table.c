/* The table under readers: what stays in is always found, what is found is what was asked for, and nothing is seen half
 * written. */
#include <pthread.h>
#include <stdbool.h>

#include "check.h"
#include "quiescence.h"
#include "table.h"

enum { CAPACITY = 64, FIXED = 16, READERS = 3, CHANGES = 2000 };

static struct table table;
static uint32_t owner[CAPACITY]; /* what an entry's user keeps beside it, not atomic: the key's number */
static struct reader readers[READERS];
static atomic_bool done;

static struct key key_of(uint32_t number)
{
    struct key key = {0};

    memcpy(key.octets, &number, sizeof number);
    return key;
}

static void insert(uint32_t entry, uint32_t number)
{
    struct key key = key_of(number);

    owner[entry] = number;
    table_insert(&table, entry, &key);
}

static void *look(void *argument)
{
    struct reader *reader = argument;
    uint64_t state = (uint64_t)(reader - readers);

    while (!atomic_load(&done)) {
        reader_turn(reader);
        for (int i = 0; i < 50; i++) {
            uint32_t number = chance(&state) % (4 * CAPACITY);
            struct key key = key_of(number);
            uint32_t entry = table_find(&table, &key);

            CHECK(entry != TABLE_NONE || number >= FIXED);
            CHECK(entry == TABLE_NONE || owner[entry] == number);
        }
        reader_turn(reader);
    }
    return NULL;
}

static void change_under_readers(void)
{
    pthread_t threads[READERS];
    uint32_t held[CAPACITY] = {0};
    bool in[4 * CAPACITY] = {false};
    uint64_t state = 99;

    for (uint32_t i = 0; i < FIXED; i++)
        insert(i, i);
    for (int i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, look, &readers[i]);
    for (int i = 0; i < CHANGES; i++) {
        uint32_t entry = FIXED + chance(&state) % (CAPACITY - FIXED);
        uint32_t number = FIXED + chance(&state) % (3 * CAPACITY);

        if (held[entry]) {
            table_remove(&table, entry);
            for (int r = 0; r < READERS; r++)
                reader_wait(&readers[r]);
            in[held[entry]] = false;
            held[entry] = 0;
        } else if (!in[number]) {
            insert(entry, number);
            in[number] = true;
            held[entry] = number;
        }
    }
    atomic_store(&done, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t number = FIXED; number < 4 * CAPACITY; number++) {
        struct key key = key_of(number);

        CHECK((table_find(&table, &key) != TABLE_NONE) == in[number]);
    }
}

int main(void)
{
    CHECK(table_open(&table, CAPACITY) == 0);
    table.mask = 3; /* long chains */
    change_under_readers();
    table_close(&table);
    return 0;
}
