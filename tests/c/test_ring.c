/* The ring between two threads: every frame arrives once, whole and in order, and a full ring refuses. */
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "ring.h"

enum { FRAMES = 200000, SIZE = 4096, LONGEST = 1500 };

static struct ring ring;

static uint32_t length_of(uint32_t number)
{
    return number % 97 ? number % 60 : number % (LONGEST + 1);
}

static void *produce(void *argument)
{
    uint8_t frame[LONGEST];

    for (uint32_t i = 0; i < FRAMES; i++) {
        memset(frame, (uint8_t)i, length_of(i));
        while (!ring_put(&ring, frame, length_of(i)))
            sched_yield();
    }
    return argument;
}

int main(void)
{
    static const uint8_t frame[100];
    uint32_t length, fit = 0;
    pthread_t producer;

    CHECK(ring_open(&ring, SIZE) == 0);
    CHECK(ring_first(&ring, &length) == NULL);
    while (ring_put(&ring, frame, sizeof frame))
        fit++;
    CHECK(fit == SIZE / 104);
    for (; fit; fit--) {
        CHECK(ring_first(&ring, &length) && length == sizeof frame);
        ring_drop(&ring, length);
    }
    CHECK(ring_first(&ring, &length) == NULL);

    pthread_create(&producer, NULL, produce, NULL);
    for (uint32_t i = 0; i < FRAMES; i++) {
        const uint8_t *at;

        while (!(at = ring_first(&ring, &length)))
            sched_yield();
        CHECK(length == length_of(i));
        for (uint32_t k = 0; k < length; k++)
            CHECK(at[k] == (uint8_t)i);
        ring_drop(&ring, length);
    }
    pthread_join(producer, NULL);
    ring_close(&ring);
    return 0;
}
