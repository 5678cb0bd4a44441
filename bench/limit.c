/* The least that passes over arrays must do: read some, read and write others, an addition each. */
#include <omp.h>
#include <stddef.h>

/* Sums of what is only read, so that nothing is left out. */
enum { LANES = 64 };
static volatile double sink;

/* Arrays a[0 .. reads) are read, a[reads .. reads + writes) read and written. What is written is
   taken from a sum and not added to it: the numbers stay bounded over any number of passes. */
#define PASS(name, T)                                                                              \
    static inline __attribute__((always_inline)) void name(                                        \
        const int reads, const int writes, ptrdiff_t n, T *const *a, ptrdiff_t start) {            \
        const T *r0 = a[0] + start, *r1 = reads > 1 ? a[1] + start : NULL;                         \
        T *w0 = writes > 0 ? a[reads] + start : NULL;                                              \
        T *w1 = writes > 1 ? a[reads + 1] + start : NULL;                                          \
        T *w2 = writes > 2 ? a[reads + 2] + start : NULL;                                          \
        T *w3 = writes > 3 ? a[reads + 3] + start : NULL;                                          \
        if (writes == 0) {                                                                         \
            T sums[LANES] = {0};                                                                   \
            for (ptrdiff_t i = 0; i + LANES <= n; i += LANES)                                      \
                for (int j = 0; j < LANES; j++)                                                    \
                    sums[j] += reads > 1 ? r0[i + j] + r1[i + j] : r0[i + j];                      \
            for (int j = 0; j < LANES; j++) sink = sums[j];                                        \
            return;                                                                                \
        }                                                                                          \
        _Pragma("omp simd") for (ptrdiff_t i = 0; i < n; i++) {                                    \
            const T x = reads > 1 ? r0[i] + r1[i] : r0[i];                                         \
            w0[i] = x - w0[i];                                                                     \
            if (writes > 1) w1[i] = x - w1[i];                                                     \
            if (writes > 2) w2[i] = x - w2[i];                                                     \
            if (writes > 3) w3[i] = x - w3[i];                                                     \
        }                                                                                          \
    }
PASS(pass_f32, float)
PASS(pass_f64, double)

#define CASE(pass, T, r, w)                                                                        \
    case 8 * r + w:                                                                                \
        pass(r, w, n, (T *const *)a, start);                                                       \
        break
#define CASES(pass, T)                                                                             \
    CASE(pass, T, 1, 0);                                                                           \
    CASE(pass, T, 1, 1);                                                                           \
    CASE(pass, T, 1, 2);                                                                           \
    CASE(pass, T, 1, 3);                                                                           \
    CASE(pass, T, 1, 4);                                                                           \
    CASE(pass, T, 2, 0);                                                                           \
    CASE(pass, T, 2, 1);                                                                           \
    CASE(pass, T, 2, 2);                                                                           \
    CASE(pass, T, 2, 3);                                                                           \
    CASE(pass, T, 2, 4)

static void slice(int size, int reads, int writes, ptrdiff_t n, void *const *a, ptrdiff_t start) {
    if (size == 4) {
        switch (8 * reads + writes) { CASES(pass_f32, float); }
    } else {
        switch (8 * reads + writes) { CASES(pass_f64, double); }
    }
}

/* counts: reads and writes of each pass; arrays: those of the first pass, then the second's, ... */
void passes(int size, ptrdiff_t n, int count, const int *counts, void *const *arrays, int threads,
            int repeats) {
    for (int r = 0; r < repeats; r++) {
        void *const *a = arrays;
        for (int p = 0; p < count; p++) {
            const int reads = counts[2 * p], writes = counts[2 * p + 1];
            if (threads == 1)
                slice(size, reads, writes, n, a, 0);
            else {
#pragma omp parallel num_threads(threads)
                {
                    const int k = omp_get_thread_num(), t = omp_get_num_threads();
                    const ptrdiff_t start = n / t * k / 64 * 64;
                    const ptrdiff_t end = k + 1 == t ? n : n / t * (k + 1) / 64 * 64;
                    slice(size, reads, writes, end - start, a, start);
                }
            }
            a += reads + writes;
        }
    }
}
