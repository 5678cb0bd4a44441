/* MurmurHash3, the 32-bit variant for x86 (Austin Appleby, public domain), of little-endian words:
   what Vowpal Wabbit and scikit-learn hash names with. */
#ifndef FASTOPT_MURMUR_H
#define FASTOPT_MURMUR_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t fo_murmur_rotate(uint32_t x, int r) { return x << r | x >> (32 - r); }

static inline uint32_t fo_murmur_word(const unsigned char *p, size_t n) {
    uint32_t k = 0;
    for (size_t i = 0; i < n; i++) k |= (uint32_t)p[i] << (8 * i);
    return fo_murmur_rotate(k * 0xcc9e2d51U, 15) * 0x1b873593U;
}

static inline uint32_t fo_murmur3(const void *bytes, size_t n, uint32_t seed) {
    const unsigned char *p = bytes;
    uint32_t h = seed;
    size_t rest = n;
    for (; rest >= 4; rest -= 4, p += 4)
        h = fo_murmur_rotate(h ^ fo_murmur_word(p, 4), 13) * 5 + 0xe6546b64U;
    if (rest) h ^= fo_murmur_word(p, rest);
    h ^= (uint32_t)n;
    h = (h ^ h >> 16) * 0x85ebca6bU;
    h = (h ^ h >> 13) * 0xc2b2ae35U;
    return h ^ h >> 16;
}

#endif
