/* A duct: packets arrive whole and in order; whatever the other side's memory holds, nothing outside a ring is touched. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "duct.h"

enum { SIZE = 1 << 18, MOST = 65546, PACKETS = 1500 };
#ifdef __SANITIZE_THREAD__ /* what one thread does alone: others are looked for then, which takes ten times as long */
enum { ROUNDS = 3000 };
#else
enum { ROUNDS = 300000 };
#endif

static uint8_t packet[MOST];

static uint32_t length_of(uint32_t number)
{
    return 1 + number * 7919 % (number % 50 ? 2000 : MOST);
}

/* The other process's end, in which the rings change places. */
static struct duct *other_end(const int *given)
{
    static struct duct duct;
    void *memory = mmap(NULL, DUCT_START + 2 * SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, given[0], 0);

    CHECK(memory != MAP_FAILED);
    duct_begin(&duct, memory, SIZE, given[1]);
    duct.in = memory;
    duct.out = duct.in + 1;
    duct.in_octets = (uint8_t *)memory + DUCT_START;
    duct.out_octets = duct.in_octets + SIZE;
    return &duct;
}

static void *produce(void *argument)
{
    struct duct *duct = argument;
    static uint8_t sent[MOST];

    for (uint32_t i = 0; i < PACKETS; i++) {
        uint32_t length = length_of(i), half = length / 2;
        struct iovec parts[] = {{sent, half}, {sent + half, length - half}};

        memset(sent, (uint8_t)i, length);
        while (!duct_put(duct, i, parts, 2, length))
            sched_yield();
        duct_tell(duct);
    }
    return NULL;
}

static void test_both_ways(struct duct *from, struct duct *to)
{
    pthread_t producer;
    uint32_t slot = 0;

    pthread_create(&producer, NULL, produce, from);
    for (uint32_t i = 0; i < PACKETS; i++) {
        int32_t n;

        while (!(n = duct_take(to, packet, sizeof packet, &slot)))
            if (duct_sleep(to, true)) {
                poll(&(struct pollfd){.fd = to->bell, .events = POLLIN}, 1, -1);
                CHECK(duct_heard(to));
            }
        CHECK(n == (int32_t)length_of(i) && slot == i);
        for (int32_t k = 0; k < n; k++)
            CHECK(packet[k] == (uint8_t)i);
    }
    pthread_join(producer, NULL);
    CHECK(!duct_has_some(to) && duct_used(from) == 0);
}

static uint32_t pick(void)
{
    static uint64_t state = 1;
    const uint32_t any = chance(&state), words[] = {0, 8, 16, MOST, MOST + 1, SIZE - 8, SIZE, DUCT_SKIP, any, any & ~7u};

    return words[chance(&state) % (sizeof words / sizeof *words)];
}

static void test_nonsense(struct duct *duct)
{
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t slot, words[2] = {pick(), 0};
        int32_t n;

        duct->tail = pick() & ~7u;
        atomic_store(&duct->in->head, duct->tail + pick());
        memcpy(duct->in_octets + (duct->tail & (SIZE - 1)), words, sizeof words);
        words[0] = pick();
        memcpy(duct->in_octets, words, sizeof words);
        n = duct_take(duct, packet, sizeof packet, &slot);
        CHECK(n >= -1 && n <= MOST);
        atomic_store(&duct->out->tail, duct->head + pick());
        duct_put(duct, 0, &(struct iovec){packet, MOST}, 1, MOST);
    }
}

int main(void)
{
    int given[DUCT_GIVEN];
    struct duct *duct = duct_open(SIZE, given), *other;

    CHECK(duct);
    CHECK(ftruncate(given[0], 4096) && errno == EPERM);
    other = other_end(given);
    test_both_ways(duct, other);
    test_both_ways(other, duct);
    test_nonsense(duct);
    close(given[1]);
    while (duct_heard(duct) && errno != EAGAIN)
        ;
    duct_tell(duct); /* to nobody */
    munmap(other->in, DUCT_START + 2 * SIZE);
    close(given[0]);
    duct_close(duct);
    return 0;
}
