/* Hashes of many strings, and checksums of memory. */
#ifndef FASTOPT_HASHING_H
#define FASTOPT_HASHING_H

#include <stdint.h>

/* XXH64 (Yann Collet, the specification of xxHash) with seed 0 of each piece of `piece` bytes of a
   memory, the last one shorter. */
void fo_checksums(const void *bytes, int64_t n, int64_t piece, uint64_t *sums, int threads);

/* MurmurHash3 of `prefix` and string i, which is bytes offsets[i] to offsets[i + 1]; 0 if out of
   memory. */
int fo_hash_strings(const char *bytes, const int64_t *offsets, int64_t n, const char *prefix,
                    int64_t prefix_bytes, uint32_t *hashes);

#endif
