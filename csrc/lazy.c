/* Steps on chosen rows of a parameter alone, as a gradient of an embedding needs them. Long rows
   are updated where they lie; short ones are brought together in a block in L1, and put back. */
#include <math.h>
#include <string.h>

#include "fastopt.h"

enum { LONG = 64 }; /* elements of a row from which on the call of a kernel costs little */

#if defined(__GNUC__)
#define PREFETCH(p) __builtin_prefetch(p, 1)
#else
#define PREFETCH(p) ((void)(p))
#endif

typedef union {
    float f32[FO_BLOCK];
    double f64[FO_BLOCK];
    char bytes[FO_BLOCK * sizeof(double)];
} block_t;

/* w as if it had had its decay in every step: soft thresholds and factors < 1 add up exactly. */
static void make_up(const fo_segment *s, int64_t row, void *w) {
    const fo_stage_kernels *stages = &fo_current()->stages[s->dtype];
    const fo_skipped *skipped = &s->skipped;
    const ptrdiff_t rows = s->w.shape[0];
    const double then = skipped->factor[row], now = skipped->factor[rows];
    double soft = 0;
    if (skipped->soft) {
        soft = (skipped->soft[rows] - skipped->soft[row]) * exp(-then);
        skipped->soft[row] = skipped->soft[rows];
    }
    skipped->factor[row] = now;
    if (soft == 0 && now == then) return;
    /* A row that is inside the bounds stays there; one from outside comes in first. */
    const int bounded = s->group->least > -INFINITY || s->group->most < INFINITY;
    if (bounded) stages->clamp(s->row, w, s->group->least, s->group->most);
    stages->shrink(s->row, w, soft, exp(then - now));
    if (bounded) stages->clamp(s->row, w, s->group->least, s->group->most);
}

/* This step's own decay of a row: the rule has applied it. */
static void note(const fo_segment *s, int64_t row) {
    s->skipped.factor[row] += s->skipped.step_factor;
    if (s->skipped.soft) s->skipped.soft[row] += s->skipped.step_soft;
}

static void catch_up_body(void *ctx, int k, int n) {
    const fo_segment *s = (const fo_segment *)ctx;
    const ptrdiff_t rows = s->w.shape[0], size = s->row * fo_item_size[s->dtype];
    const ptrdiff_t end = fo_part(rows, k + 1, n);
    for (ptrdiff_t row = fo_part(rows, k, n); row < end; row++)
        make_up(s, row, s->w.data + row * size);
}

void fo_catch_up(const fo_segment *given, int threads) {
    fo_segment all = *given;
    const ptrdiff_t rows = all.w.shape[0], worth = rows / 1024;
    const fo_skipped *skipped = &all.skipped;
    if (rows == 0 || (skipped->factor[rows] == 0 && !(skipped->soft && skipped->soft[rows] != 0)))
        return;
    all.row = 1;
    for (int d = 1; d < all.w.ndim; d++) all.row *= all.w.shape[d];
    fo_parallel(catch_up_body, &all, worth < 1 ? 1 : worth < threads ? (int)worth : threads);
    memset(all.skipped.factor, 0, (size_t)(rows + 1) * sizeof(double));
    if (all.skipped.soft) memset(all.skipped.soft, 0, (size_t)(rows + 1) * sizeof(double));
}

/* The segment of one row, or of rows that lie together in blocks. */
static fo_segment alone(const fo_segment *s, ptrdiff_t start) {
    fo_segment one = *s;
    one.rows = NULL;
    one.g = s->g;
    if (s->row_scale) one.row_scale = s->row_scale + start / s->row;
    return one;
}

static ptrdiff_t step_long(const fo_segment *s, const fo_step_numbers *numbers, ptrdiff_t start) {
    const ptrdiff_t size = fo_item_size[s->dtype];
    const int64_t *at = s->rows + start / s->row;
    fo_segment one = alone(s, start);
    one.w.data += *at * s->row * size;
    for (int k = 0; k < FO_MAX_STATES; k++)
        if (one.states[k].data) one.states[k].data += *at * s->row * size;
    one.g.data += start * size;
    if (s->skipped.factor) make_up(s, *at, one.w.data);
    const ptrdiff_t bad = fo_step_slice(&one, numbers, 0, s->row);
    if (s->skipped.factor) note(s, *at);
    return bad;
}

/* Moves `count` rows between an array and a block. */
static void bring(char *data, const int64_t *rows, ptrdiff_t count, ptrdiff_t bytes, char *block) {
    for (ptrdiff_t k = 0; k < count; k++)
        memcpy(block + k * bytes, data + rows[k] * bytes, (size_t)bytes);
}

static void put_back(char *data, const int64_t *rows, ptrdiff_t count, ptrdiff_t bytes,
                     const char *block) {
    for (ptrdiff_t k = 0; k < count; k++)
        memcpy(data + rows[k] * bytes, block + k * bytes, (size_t)bytes);
}

static ptrdiff_t step_short(const fo_segment *s, const fo_step_numbers *numbers, ptrdiff_t start,
                            ptrdiff_t n) {
    const ptrdiff_t size = fo_item_size[s->dtype], bytes = s->row * size, count = n / s->row;
    const int64_t *at = s->rows + start / s->row;
    block_t w, states[FO_MAX_STATES];
    fo_segment one = alone(s, start);
    bring(s->w.data, at, count, bytes, w.bytes);
    if (s->skipped.factor)
        for (ptrdiff_t k = 0; k < count; k++) make_up(s, at[k], w.bytes + k * bytes);
    one.w.data = w.bytes;
    one.g.data += start * size;
    for (int k = 0; k < FO_MAX_STATES; k++)
        if (s->states[k].data) {
            bring(s->states[k].data, at, count, bytes, states[k].bytes);
            one.states[k].data = states[k].bytes;
        }
    const ptrdiff_t bad = fo_step_slice(&one, numbers, 0, n);
    put_back(s->w.data, at, count, bytes, w.bytes);
    for (int k = 0; k < FO_MAX_STATES; k++)
        if (s->states[k].data) put_back(s->states[k].data, at, count, bytes, states[k].bytes);
    if (s->skipped.factor)
        for (ptrdiff_t k = 0; k < count; k++) note(s, at[k]);
    return bad;
}

/* What the processor cannot foresee: where the rows after the next one begin. */
static void announce(const fo_segment *s, ptrdiff_t start, ptrdiff_t n) {
    const ptrdiff_t bytes = s->row * fo_item_size[s->dtype];
    for (ptrdiff_t row = start / s->row; row < (start + n) / s->row; row++)
        for (ptrdiff_t at = 0; at < bytes && at < 256; at += 64) {
            PREFETCH(s->w.data + s->rows[row] * bytes + at);
            for (int k = 0; k < FO_MAX_STATES; k++)
                if (s->states[k].data) PREFETCH(s->states[k].data + s->rows[row] * bytes + at);
        }
}

ptrdiff_t fo_step_rows(const fo_segment *s, const fo_step_numbers *numbers, ptrdiff_t start,
                       ptrdiff_t n) {
    const ptrdiff_t end = start + n;
    ptrdiff_t bad = 0;
    if (s->row >= LONG) {
        for (; start < end; start += s->row) {
            if (start + 3 * s->row <= end) announce(s, start + 2 * s->row, s->row);
            bad += step_long(s, numbers, start);
        }
        return bad;
    }
    const ptrdiff_t most = FO_BLOCK / 4 / s->row * s->row; /* w and states stay in L1 */
    for (; start < end; start += most) {
        const ptrdiff_t count = end - start < most ? end - start : most;
        announce(s, start, count);
        bad += step_short(s, numbers, start, count);
    }
    return bad;
}

int64_t fo_distinct(const int64_t *rows, int64_t count, int64_t limit, int64_t *table,
                    int64_t table_size, int64_t *distinct, int64_t *place) {
    int64_t found = 0;
    for (int64_t k = 0; k < count; k++)
        if (rows[k] < 0 || rows[k] >= limit) return -1 - k;
    if (!table) {
        for (int64_t k = 0; k < count; k++) distinct[k] = rows[k], place[k] = k;
        return count;
    }
    for (int64_t k = 0; k < table_size; k++) table[k] = -1;
    for (int64_t k = 0; k < count; k++) {
        uint64_t slot = ((uint64_t)rows[k] * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
        for (;; slot++) {
            int64_t *entry = &table[slot & (uint64_t)(table_size - 1)];
            if (*entry < 0) {
                *entry = found;
                distinct[found++] = rows[k];
            } else if (distinct[*entry] != rows[k]) {
                continue;
            }
            place[k] = *entry;
            break;
        }
    }
    return found;
}

void fo_add_rows(int dtype, const void *values, const int64_t *place, int64_t count, ptrdiff_t row,
                 void *out) {
    for (int64_t k = 0; k < count; k++) {
        if (dtype == FO_F32) {
            const float *from = (const float *)values + k * row;
            float *to = (float *)out + place[k] * row;
            for (ptrdiff_t i = 0; i < row; i++) to[i] += from[i];
        } else {
            const double *from = (const double *)values + k * row;
            double *to = (double *)out + place[k] * row;
            for (ptrdiff_t i = 0; i < row; i++) to[i] += from[i];
        }
    }
}
