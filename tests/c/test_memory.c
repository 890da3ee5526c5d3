/* Arenas are apart, and what is given back can be had again; what others mapped is unmapped. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "memory.h"

enum { ARENA = 1 << 20, MANY = 200, ROUNDS = 20000 };

static uint8_t *arenas[MANY];

static bool is_mapped(const void *at)
{
    unsigned char there;
    return mincore((void *)((uintptr_t)at & ~(uintptr_t)4095), 1, &there) == 0;
}

static void take(int i)
{
    arenas[i] = souppp_arena_get(NULL, ARENA);
    CHECK(arenas[i] != NULL);
    memset(arenas[i], i + 1, 64);
    memset(arenas[i] + ARENA - 64, i + 1, 64);
}

static void give_back(int i)
{
    CHECK(arenas[i][0] == (uint8_t)(i + 1) && arenas[i][ARENA - 1] == (uint8_t)(i + 1));
    souppp_arena_give_back(NULL, arenas[i], ARENA);
    arenas[i] = NULL;
}

static void test_many(void)
{
    uint64_t state = 1;
    for (int round = 0; round < ROUNDS; round++) {
        int i = (int)(chance(&state) % MANY);
        if (arenas[i])
            give_back(i);
        else
            take(i);
    }
    for (int i = 0; i < MANY; i++)
        if (arenas[i])
            give_back(i);
}

static void test_memory_goes_back_to_the_kernel(void)
{
    for (int i = 0; i < MANY; i++)
        take(i);
    uint8_t *first = arenas[0], *last = arenas[MANY - 1];
    for (int i = 0; i < MANY; i++)
        give_back(i);
    CHECK(is_mapped(first) + is_mapped(last) < 2); /* one span stays */
    arenas[0] = souppp_arena_get(NULL, ARENA);
    arenas[1] = souppp_arena_get(NULL, ARENA);
    memset(arenas[0], 1, ARENA);
    memset(arenas[1], 1, ARENA);
    uint8_t *octet = arenas[0];
    souppp_arena_give_back(NULL, arenas[0], ARENA);
    souppp_arena_give_back(NULL, arenas[1], ARENA);
    CHECK(!is_mapped(octet) || *octet == 0); /* both halves of a huge page were free */
}

static void test_others(void)
{
    uint8_t *octets = souppp_arena_get(NULL, 3 * 4096);
    CHECK(octets != NULL && is_mapped(octets));
    souppp_arena_give_back(NULL, octets, 3 * 4096);
    CHECK(!is_mapped(octets));
    octets = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    souppp_arena_give_back(NULL, octets, ARENA);
    CHECK(!is_mapped(octets));
    CHECK(souppp_arena_get(NULL, SIZE_MAX / 2) == NULL);
}

int main(void)
{
    test_others();
    test_many();
    test_memory_goes_back_to_the_kernel();
    return 0;
}
