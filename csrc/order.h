/* Random orders without memory, the same on every machine. */
#ifndef FASTOPT_ORDER_H
#define FASTOPT_ORDER_H

#include <stdint.h>

static inline uint64_t fo_mix(uint64_t x) { /* splitmix64 */
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* A permutation of 0..n-1: steps that are one-to-one on the next power of two, repeated until the
   result is below n. */
static inline uint64_t fo_permute(uint64_t i, uint64_t n, uint64_t key) {
    int bits = 2;
    while (bits < 63 && (UINT64_C(1) << bits) < n) bits++;
    const uint64_t mask = (UINT64_C(1) << bits) - 1;
    do {
        for (uint64_t round = 0; round < 4; round++) {
            const uint64_t k = fo_mix(key + round);
            i = (i * (k | 1) + (k >> 32)) & mask;
            i ^= i >> ((bits + 1) / 2);
        }
    } while (i >= n);
    return i;
}

#endif
