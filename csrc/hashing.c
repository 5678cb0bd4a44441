/* Hashes of many strings, and checksums of memory at the speed of reading it. */
#include "hashing.h"

#include <stdlib.h>
#include <string.h>

#include "fastopt.h"
#include "murmur.h"

static const uint64_t P1 = 0x9E3779B185EBCA87, P2 = 0xC2B2AE3D27D4EB4F, P3 = 0x165667B19E3779F9,
                      P4 = 0x85EBCA77C2B2AE63, P5 = 0x27D4EB2F165667C5;

static uint64_t rotate(uint64_t x, int r) { return x << r | x >> (64 - r); }

static uint64_t word(const unsigned char *p, int bytes) {
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

static uint64_t mixed(uint64_t sum, uint64_t x) { return rotate(sum + x * P2, 31) * P1; }

static uint64_t checksum(const unsigned char *p, int64_t n) {
    const unsigned char *const end = p + n;
    uint64_t h = P5;
    if (n >= 32) {
        uint64_t a = P1 + P2, b = P2, c = 0, d = 0 - P1;
        for (; end - p >= 32; p += 32) {
            a = mixed(a, word(p, 8));
            b = mixed(b, word(p + 8, 8));
            c = mixed(c, word(p + 16, 8));
            d = mixed(d, word(p + 24, 8));
        }
        h = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
        h = (h ^ mixed(0, a)) * P1 + P4;
        h = (h ^ mixed(0, b)) * P1 + P4;
        h = (h ^ mixed(0, c)) * P1 + P4;
        h = (h ^ mixed(0, d)) * P1 + P4;
    }
    h += (uint64_t)n;
    for (; end - p >= 8; p += 8) h = rotate(h ^ mixed(0, word(p, 8)), 27) * P1 + P4;
    for (; end - p >= 4; p += 4) h = rotate(h ^ word(p, 4) * P1, 23) * P2 + P3;
    for (; p < end; p++) h = rotate(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

typedef struct {
    const unsigned char *bytes;
    int64_t n, piece;
    uint64_t *sums;
} pieces;

static void body(void *ctx, int k, int n) {
    const pieces *s = ctx;
    const int64_t count = (s->n + s->piece - 1) / s->piece;
    for (int64_t i = count * k / n; i < count * (k + 1) / n; i++) {
        const int64_t rest = s->n - i * s->piece;
        s->sums[i] = checksum(s->bytes + i * s->piece, rest < s->piece ? rest : s->piece);
    }
}

void fo_checksums(const void *bytes, int64_t n, int64_t piece, uint64_t *sums, int threads) {
    pieces s = {bytes, n, piece, sums};
    fo_parallel(body, &s, threads);
}

int fo_hash_strings(const char *bytes, const int64_t *offsets, int64_t n, const char *prefix,
                    int64_t prefix_bytes, uint32_t *hashes) {
    int64_t longest = 0;
    for (int64_t i = 0; i < n; i++)
        if (offsets[i + 1] - offsets[i] > longest) longest = offsets[i + 1] - offsets[i];
    char *text = malloc((size_t)(prefix_bytes + longest) + 1);
    if (!text) return 0;
    memcpy(text, prefix, (size_t)prefix_bytes);
    for (int64_t i = 0; i < n; i++) {
        const size_t size = (size_t)(offsets[i + 1] - offsets[i]);
        if (size) memcpy(text + prefix_bytes, bytes + offsets[i], size);
        hashes[i] = fo_murmur3(text, (size_t)prefix_bytes + size, 0);
    }
    free(text);
    return 1;
}
