/* The one pass, block by block: whatever is not a plain contiguous array is gathered into a block
   that stays in L1, updated there, and scattered back. Never a copy of a whole array. */
#include <string.h>

#include "fastopt.h"

typedef void run_fn(char *element, ptrdiff_t stride, ptrdiff_t n, char *block);

#define RUNS(suffix, T)                                                                            \
    static void gather_##suffix(char *element, ptrdiff_t stride, ptrdiff_t n, char *block) {       \
        for (ptrdiff_t i = 0; i < n; i++)                                                          \
            memcpy(block + i * (ptrdiff_t)sizeof(T), element + i * stride, sizeof(T));             \
    }                                                                                              \
    static void scatter_##suffix(char *element, ptrdiff_t stride, ptrdiff_t n, char *block) {      \
        for (ptrdiff_t i = 0; i < n; i++)                                                          \
            memcpy(element + i * stride, block + i * (ptrdiff_t)sizeof(T), sizeof(T));             \
    }
RUNS(f32, float)
RUNS(f64, double)

static run_fn *const gather[FO_DTYPES] = {gather_f32, gather_f64};
static run_fn *const scatter[FO_DTYPES] = {scatter_f32, scatter_f64};

/* Calls run on the stretches of the last axis that make up elements [start, start + n). */
static void over_runs(const fo_array *a, int dtype, ptrdiff_t start, ptrdiff_t n, char *block,
                      run_fn *run) {
    const ptrdiff_t size = fo_item_size[dtype];
    const int last = a->ndim - 1;
    while (n > 0) {
        /* An odometer would save these divisions; they are paid once a run, not once an element. */
        ptrdiff_t rest = start, offset = 0, column = 0, length = 1, stride = size;
        for (int d = last; d >= 0; d--) {
            const ptrdiff_t at = rest % a->shape[d];
            offset += at * a->strides[d];
            rest /= a->shape[d];
            if (d == last) column = at;
        }
        if (last >= 0) length = a->shape[last] - column, stride = a->strides[last];
        if (length > n) length = n;
        run(a->data + offset, stride, length, block);
        block += length * size;
        start += length;
        n -= length;
    }
}

void fo_gather(const fo_array *a, int dtype, ptrdiff_t start, ptrdiff_t n, void *out) {
    const ptrdiff_t size = fo_item_size[dtype];
    if (!a->strides)
        memcpy(out, a->data + start * size, (size_t)(n * size));
    else
        over_runs(a, dtype, start, n, (char *)out, gather[dtype]);
}

void fo_scatter(const fo_array *a, int dtype, ptrdiff_t start, ptrdiff_t n, const void *in) {
    const ptrdiff_t size = fo_item_size[dtype];
    if (!a->strides)
        memcpy(a->data + start * size, in, (size_t)(n * size));
    else
        over_runs(a, dtype, start, n, (char *)in, scatter[dtype]);
}

void fo_step_slice(const fo_segment *s, const fo_rule *rule, ptrdiff_t start, ptrdiff_t n) {
    const ptrdiff_t size = fo_item_size[s->dtype];
    const int plain = !s->w.strides && !s->g.strides;
    const ptrdiff_t most = plain ? n : FO_BLOCK;
    union {
        float f32[FO_BLOCK];
        double f64[FO_BLOCK];
    } w_block, g_block;
    for (const ptrdiff_t end = start + n; start < end; start += most) {
        const ptrdiff_t count = end - start < most ? end - start : most;
        void *w = s->w.data + start * size, *g = s->g.data + start * size;
        void *states[FO_MAX_STATES];
        for (int k = 0; k < FO_MAX_STATES; k++)
            states[k] = s->states[k] ? (char *)s->states[k] + start * size : NULL;
        if (s->w.strides) fo_gather(&s->w, s->dtype, start, count, w = &w_block);
        if (s->g.strides) fo_gather(&s->g, s->dtype, start, count, g = &g_block);
        rule->dense[s->dtype](count, w, g, states, s->prelude, s->scalars);
        if (s->w.strides) fo_scatter(&s->w, s->dtype, start, count, w);
    }
}
