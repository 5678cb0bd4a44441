/* The least that a step with k states must do: read g, read and write w and the states. */
#include <omp.h>
#include <stddef.h>

#define TOUCH(name, T)                                                                             \
    static void name(int states, ptrdiff_t n, T *restrict w, const T *restrict g, T *restrict a,   \
                     T *restrict b, T *restrict c) {                                               \
        if (states == 0)                                                                           \
            for (ptrdiff_t i = 0; i < n; i++) w[i] += g[i];                                        \
        else if (states == 1)                                                                      \
            for (ptrdiff_t i = 0; i < n; i++) {                                                    \
                a[i] += g[i];                                                                      \
                w[i] += a[i];                                                                      \
            }                                                                                      \
        else if (states == 2)                                                                      \
            for (ptrdiff_t i = 0; i < n; i++) {                                                    \
                a[i] += g[i];                                                                      \
                b[i] += g[i];                                                                      \
                w[i] += a[i];                                                                      \
            }                                                                                      \
        else                                                                                       \
            for (ptrdiff_t i = 0; i < n; i++) {                                                    \
                a[i] += g[i];                                                                      \
                b[i] += g[i];                                                                      \
                c[i] += g[i];                                                                      \
                w[i] += a[i];                                                                      \
            }                                                                                      \
    }
TOUCH(touch_f32, float)
TOUCH(touch_f64, double)

static void slice(int size, int states, ptrdiff_t from, ptrdiff_t to, void *w, const void *g,
                  void *a, void *b, void *c) {
    if (size == 4)
        touch_f32(states, to - from, (float *)w + from, (const float *)g + from, (float *)a + from,
                  (float *)b + from, (float *)c + from);
    else
        touch_f64(states, to - from, (double *)w + from, (const double *)g + from,
                  (double *)a + from, (double *)b + from, (double *)c + from);
}

void touch(int size, int states, ptrdiff_t n, void *w, const void *g, void *a, void *b, void *c,
           int threads, int repeats) {
    for (int r = 0; r < repeats; r++) {
        if (threads == 1) {
            slice(size, states, 0, n, w, g, a, b, c);
            continue;
        }
#pragma omp parallel num_threads(threads)
        {
            const int k = omp_get_thread_num(), t = omp_get_num_threads();
            slice(size, states, n / t * k / 64 * 64, k + 1 == t ? n : n / t * (k + 1) / 64 * 64, w,
                  g, a, b, c);
        }
    }
}
