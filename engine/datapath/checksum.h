/* The Internet checksum, RFC 1071: a one's complement sum of 16-bit words, taken as they lie in memory. */
#pragma once
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

/* Adds octets that start at an even place of what is summed up. */
static inline uint64_t sum_add(uint64_t sum, const uint8_t *at, uint32_t length)
{
    uint64_t word, high = 0;
    uint32_t i = 0;

    for (; i + 8 <= length; i += 8) { /* the compiler makes vector code of it */
        memcpy(&word, at + i, 8);
        sum += word & UINT32_MAX;
        high += word >> 32;
    }
    if (i < length) {
        word = 0;
        memcpy(&word, at + i, length - i);
        sum += word & UINT32_MAX;
        high += word >> 32;
    }
    return sum + high;
}

static inline uint16_t sum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* RFC 1624: the checksum after one of the words it covers has changed. */
static inline uint16_t checksum_change(uint16_t checksum, uint16_t before, uint16_t after)
{
    return (uint16_t)~sum_fold((uint64_t)(uint16_t)~checksum + (uint16_t)~before + after);
}
