/* MurmurHash3, the 32-bit variant for x86 (Austin Appleby, public domain), of little-endian words:
   what Vowpal Wabbit and scikit-learn hash names with. */
#ifndef FASTOPT_MURMUR_H
#define FASTOPT_MURMUR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A hash to be continued: of whole words so far, and the bytes behind them. */
typedef struct {
    uint32_t h, rest;
    unsigned rest_bytes;
    size_t n;
} fo_murmur;

static inline uint32_t fo_murmur_rotate(uint32_t x, int r) { return x << r | x >> (32 - r); }

static inline uint32_t fo_murmur_mix(uint32_t word) {
    return fo_murmur_rotate(word * 0xcc9e2d51U, 15) * 0x1b873593U;
}

static inline uint32_t fo_murmur_add(uint32_t h, uint32_t word) {
    return fo_murmur_rotate(h ^ fo_murmur_mix(word), 13) * 5 + 0xe6546b64U;
}

/* n <= 4 bytes, the first one lowest. */
static inline uint32_t fo_murmur_word(const unsigned char *p, size_t n) {
    uint32_t word = 0;
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n == 4) return memcpy(&word, p, 4), word;
#endif
    for (size_t i = 0; i < n; i++) word |= (uint32_t)p[i] << (8 * i);
    return word;
}

static inline uint32_t fo_murmur_finish(uint32_t h, uint32_t rest, size_t rest_bytes, size_t n) {
    if (rest_bytes) h ^= fo_murmur_mix(rest);
    h ^= (uint32_t)n;
    h = (h ^ h >> 16) * 0x85ebca6bU;
    h = (h ^ h >> 13) * 0xc2b2ae35U;
    return h ^ h >> 16;
}

static inline uint32_t fo_murmur3(const void *bytes, size_t n, uint32_t seed) {
    const unsigned char *p = bytes;
    uint32_t h = seed;
    size_t rest = n;
    for (; rest >= 4; rest -= 4, p += 4) h = fo_murmur_add(h, fo_murmur_word(p, 4));
    return fo_murmur_finish(h, fo_murmur_word(p, rest), rest, n);
}

/* The hash of a prefix, seed 0, and of the prefix and n bytes more. */
static inline fo_murmur fo_murmur3_begin(const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    fo_murmur m = {0, 0, (unsigned)(n % 4), n};
    for (; n >= 4; n -= 4, p += 4) m.h = fo_murmur_add(m.h, fo_murmur_word(p, 4));
    m.rest = fo_murmur_word(p, n);
    return m;
}

static inline uint32_t fo_murmur3_end(fo_murmur m, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    const unsigned shift = 8 * m.rest_bytes;
    uint64_t rest = m.rest;
    size_t left = n;
    for (; left >= 4; left -= 4, p += 4) {
        rest |= (uint64_t)fo_murmur_word(p, 4) << shift;
        m.h = fo_murmur_add(m.h, (uint32_t)rest);
        rest >>= 32;
    }
    rest |= (uint64_t)fo_murmur_word(p, left) << shift;
    left += m.rest_bytes;
    if (left >= 4) {
        m.h = fo_murmur_add(m.h, (uint32_t)rest);
        rest >>= 32;
        left -= 4;
    }
    return fo_murmur_finish(m.h, (uint32_t)rest, left, m.n + n);
}

#endif
