/* Ratings are read where they lie, checked, and put into blocks that stay in a cache.

   All passes go over FO_CHUNKS parts of the ratings, whatever the number of threads, and a part
   knows where its ratings go: the blocks do not depend on threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "factor.h"

/* ---- reading ---- */

/* A row at or before that of rating k, to start reading from. */
static ptrdiff_t start_at(const fo_axis *a, ptrdiff_t k) {
    if (!a->pointers) return 0;
    ptrdiff_t low = 0, high = a->size - 1;
    while (low < high) {
        const ptrdiff_t middle = high - (high - low) / 2;
        if (fo_axis_pointer(a, middle) <= k)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static double y_of(const fo_ratings *r, ptrdiff_t k) {
    const char *at = (const char *)r->y + k * r->y_stride;
    if (!r->y) return 1;
    switch (r->y_type) {
    case FO_Y_F32:
        return (double)*(const float *)at;
    case FO_Y_F64:
        return *(const double *)at;
    case FO_Y_I32:
        return (double)*(const int32_t *)at;
    default:
        return (double)*(const int64_t *)at;
    }
}

static int held_out(const fo_ratings *r, ptrdiff_t k) {
    return r->held && fo_mix(r->seed + (uint64_t)k) < r->held;
}

static ptrdiff_t chunk_start(ptrdiff_t n, ptrdiff_t c) {
    return n / FO_CHUNKS * c + (c < n % FO_CHUNKS ? c : n % FO_CHUNKS);
}

/* ---- checking ---- */

typedef struct {
    const fo_ratings *r;
    double first;
    fo_ratings_facts facts[FO_CHUNKS];
    int bad[FO_CHUNKS], axis[FO_CHUNKS];
    ptrdiff_t where[FO_CHUNKS];
} check;

static void check_chunk(check *p, ptrdiff_t c) {
    const fo_ratings *r = p->r;
    fo_ratings_facts f = {.first = p->first, .least = INFINITY, .most = -INFINITY};
    ptrdiff_t k = chunk_start(r->n, c), row[2];
    const ptrdiff_t stop = chunk_start(r->n, c + 1);
    p->bad[c] = 0;
    for (int a = 0; a < 2; a++) row[a] = start_at(r->axis + a, k);
    for (; k < stop; k++) {
        for (int a = 0; a < 2; a++) {
            const ptrdiff_t at = fo_axis_row(r->axis + a, k, row + a);
            if (at >= 0 && at < r->axis[a].size) continue;
            p->bad[c] = FO_RATINGS_INDEX, p->axis[c] = a, p->where[c] = k;
            return;
        }
        const double y = y_of(r, k), d = y - f.first;
        if (!(fabs(y) <= 1e24)) {
            p->bad[c] = FO_RATINGS_VALUE, p->where[c] = k;
            return;
        }
        if (y < f.least) f.least = y;
        if (y > f.most) f.most = y;
        f.zeros |= y == 0, f.ones |= y == 1, f.minus_ones |= y == -1;
        f.others |= !(y == 0 || y == 1 || y == -1);
        if (held_out(r, k))
            f.held++;
        else
            f.n++, f.sum += d, f.squares += d * d;
    }
    p->facts[c] = f;
}

static void check_body(void *ctx, int k, int n) {
    for (ptrdiff_t c = k; c < FO_CHUNKS; c += n) check_chunk((check *)ctx, c);
}

int fo_ratings_check(const fo_ratings *r, ptrdiff_t length, fo_ratings_facts *facts, int *axis,
                     ptrdiff_t *where, int threads) {
    for (int a = 0; a < 2; a++) {
        if (!r->axis[a].pointers) continue;
        for (ptrdiff_t i = 0; i < r->axis[a].size; i++) {
            const ptrdiff_t begin = fo_axis_pointer(r->axis + a, i),
                            end = fo_axis_pointer(r->axis + a, i + 1);
            if ((i == 0 && begin != 0) || end < begin || end > length) {
                *axis = a, *where = i;
                return FO_RATINGS_POINTERS;
            }
        }
    }
    check *p = (check *)calloc(1, sizeof *p);
    if (!p) return -1;
    p->r = r;
    p->first = r->n > 0 ? y_of(r, 0) : 0; /* what the others are taken from */
    if (!(fabs(p->first) <= 1e24)) {
        free(p);
        *where = 0;
        return FO_RATINGS_VALUE;
    }
    fo_parallel(check_body, p, threads);
    fo_ratings_facts total = {.first = p->first, .least = INFINITY, .most = -INFINITY};
    int bad = 0;
    for (int c = 0; c < FO_CHUNKS && !bad; c++) {
        const fo_ratings_facts *f = p->facts + c;
        if ((bad = p->bad[c])) *axis = p->axis[c], *where = p->where[c];
        total.n += f->n, total.held += f->held, total.sum += f->sum, total.squares += f->squares;
        if (f->least < total.least) total.least = f->least;
        if (f->most > total.most) total.most = f->most;
        total.zeros |= f->zeros, total.ones |= f->ones, total.minus_ones |= f->minus_ones;
        total.others |= f->others;
    }
    *facts = total;
    free(p);
    return bad;
}

void fo_ratings_count(const fo_ratings *r, ptrdiff_t stride, int64_t *users, int64_t *items) {
    ptrdiff_t row[2] = {0, 0};
    for (ptrdiff_t k = 0; k < r->n; k += stride) {
        users[fo_axis_row(r->axis, k, row)]++;
        items[fo_axis_row(r->axis + 1, k, row + 1)]++;
    }
}

/* ---- into blocks ---- */

typedef struct {
    const fo_ratings *r;
    const fo_blocks *blocks;
    int held;
    int64_t *cursors; /* [chunk][block] */
    int64_t largest;  /* block */
    int64_t *users, *items;
    uint32_t *sorted;
    _Atomic int failed;
} pass;

static void count_body(void *ctx, int worker, int workers) {
    pass *p = (pass *)ctx;
    const fo_ratings *r = p->r;
    const fo_grid *g = p->blocks->grid;
    for (ptrdiff_t c = worker; c < FO_CHUNKS; c += workers) {
        int64_t *count = p->cursors + c * g->bands * g->bands;
        ptrdiff_t k = chunk_start(r->n, c), row[2];
        const ptrdiff_t stop = chunk_start(r->n, c + 1);
        memset(count, 0, (size_t)(g->bands * g->bands) * sizeof *count);
        for (int a = 0; a < 2; a++) row[a] = start_at(r->axis + a, k);
        for (; k < stop; k++) {
            const uint32_t u = g->place[0][fo_axis_row(r->axis, k, row)],
                           i = g->place[1][fo_axis_row(r->axis + 1, k, row + 1)];
            if (held_out(r, k) == p->held)
                count[u / (uint32_t)g->width[0] * g->bands + i / (uint32_t)g->width[1]]++;
        }
    }
}

void fo_blocks_count(const fo_ratings *r, const fo_blocks *blocks, int held, int64_t *cursors,
                     int threads) {
    pass p = {.r = r, .blocks = blocks, .held = held, .cursors = cursors};
    const ptrdiff_t count = blocks->grid->bands * blocks->grid->bands;
    fo_parallel(count_body, &p, threads);
    int64_t at = 0;
    for (ptrdiff_t b = 0; b < count; b++) {
        blocks->start[b] = at;
        for (ptrdiff_t c = 0; c < FO_CHUNKS; c++) {
            const int64_t n = cursors[c * count + b];
            cursors[c * count + b] = at;
            at += n;
        }
    }
    blocks->start[count] = at;
}

static void put(const fo_blocks *blocks, int64_t at, uint32_t u, uint32_t i, double y) {
    if (blocks->dtype == FO_F32)
        ((fo_rating_f32 *)blocks->ratings)[at] = (fo_rating_f32){u, i, (float)y};
    else
        ((fo_rating_f64 *)blocks->ratings)[at] = (fo_rating_f64){u, i, y};
}

static void fill_body(void *ctx, int worker, int workers) {
    pass *p = (pass *)ctx;
    const fo_ratings *r = p->r;
    const fo_blocks *blocks = p->blocks;
    const fo_grid *g = blocks->grid;
    for (ptrdiff_t c = worker; c < FO_CHUNKS; c += workers) {
        int64_t *cursor = p->cursors + c * g->bands * g->bands;
        ptrdiff_t k = chunk_start(r->n, c), row[2];
        const ptrdiff_t stop = chunk_start(r->n, c + 1);
        for (int a = 0; a < 2; a++) row[a] = start_at(r->axis + a, k);
        for (; k < stop; k++) {
            const uint32_t u = g->place[0][fo_axis_row(r->axis, k, row)],
                           i = g->place[1][fo_axis_row(r->axis + 1, k, row + 1)];
            if (held_out(r, k) != p->held) continue;
            const ptrdiff_t b = u / (uint32_t)g->width[0] * g->bands + i / (uint32_t)g->width[1];
            put(blocks, cursor[b]++, u, i, blocks->factor * y_of(r, k) + blocks->shift);
        }
    }
}

#define WITH_DTYPE(dtype, name, ...)                                                               \
    ((dtype) == FO_F32 ? name##_f32(__VA_ARGS__) : name##_f64(__VA_ARGS__))

/* Ratings in random order, but those of FO_NEAR rows of the longer axis together: their factors
   stay in the innermost cache, those of the band of the other axis in the next one. Neighbours
   rarely have a row in common, so that the processor can work on several at once. */
#define ARRANGE(type)                                                                              \
    static void arrange_##type(fo_rating_##type *x, fo_rating_##type *copy, ptrdiff_t n,           \
                               int longer, uint32_t first, ptrdiff_t groups, int64_t *count,       \
                               uint64_t key) {                                                     \
        for (ptrdiff_t k = n - 1; k > 0; k--) {                                                    \
            const uint64_t x64 = fo_mix(key + (uint64_t)k);                                        \
            const ptrdiff_t j = (ptrdiff_t)(x64 % (uint64_t)(k + 1));                              \
            const fo_rating_##type swap = x[k];                                                    \
            x[k] = x[j], x[j] = swap;                                                              \
        }                                                                                          \
        memcpy(copy, x, (size_t)n * sizeof *x);                                                    \
        memset(count, 0, (size_t)(groups + 1) * sizeof *count);                                    \
        for (ptrdiff_t k = 0; k < n; k++)                                                          \
            count[((longer ? copy[k].i : copy[k].u) - first) / FO_NEAR + 1]++;                     \
        for (ptrdiff_t g = 0; g < groups; g++) count[g + 1] += count[g];                           \
        for (ptrdiff_t k = 0; k < n; k++)                                                          \
            x[count[((longer ? copy[k].i : copy[k].u) - first) / FO_NEAR]++] = copy[k];            \
    }
ARRANGE(f32)
ARRANGE(f64)

static const size_t rating_size[FO_DTYPES] = {sizeof(fo_rating_f32), sizeof(fo_rating_f64)};

static void arrange_body(void *ctx, int worker, int workers) {
    pass *p = (pass *)ctx;
    const fo_blocks *blocks = p->blocks;
    const fo_grid *g = blocks->grid;
    const int longer = g->width[1] > g->width[0];
    const ptrdiff_t groups = (g->width[longer] + FO_NEAR - 1) / FO_NEAR;
    const size_t size = rating_size[blocks->dtype];
    void *copy = malloc((size_t)(p->largest ? p->largest : 1) * size);
    int64_t *count = (int64_t *)malloc((size_t)(groups + 1) * sizeof *count);
    if (!copy || !count) p->failed = 1;
    for (ptrdiff_t b = worker; copy && count && b < g->bands * g->bands; b += workers) {
        const ptrdiff_t band = longer ? b % g->bands : b / g->bands;
        void *x = (char *)blocks->ratings + (size_t)blocks->start[b] * size;
        const ptrdiff_t n = (ptrdiff_t)(blocks->start[b + 1] - blocks->start[b]);
        const uint32_t first = (uint32_t)(band * g->width[longer]);
        WITH_DTYPE(blocks->dtype, arrange, x, copy, n, longer, first, groups, count,
                   fo_mix(p->r->seed + (uint64_t)b));
    }
    free(copy);
    free(count);
}

int fo_blocks_fill(const fo_ratings *r, const fo_blocks *blocks, int held, int64_t *cursors,
                   int threads) {
    pass p = {.r = r, .blocks = blocks, .held = held, .cursors = cursors};
    fo_parallel(fill_body, &p, threads);
    for (ptrdiff_t b = 0; b < blocks->grid->bands * blocks->grid->bands; b++) {
        const int64_t n = blocks->start[b + 1] - blocks->start[b];
        if (n > p.largest) p.largest = n;
    }
    fo_parallel(arrange_body, &p, threads);
    return !p.failed;
}

/* ---- what the blocks have ---- */

static uint32_t place_in(const fo_blocks *blocks, int axis, int64_t k) {
    if (blocks->dtype == FO_F32) {
        const fo_rating_f32 *x = (const fo_rating_f32 *)blocks->ratings + k;
        return axis ? x->i : x->u;
    }
    const fo_rating_f64 *x = (const fo_rating_f64 *)blocks->ratings + k;
    return axis ? x->i : x->u;
}

/* A thread has a band of users to itself, and afterwards one of items. */
static void degrees_body(void *ctx, int worker, int workers) {
    const pass *p = (const pass *)ctx;
    const ptrdiff_t bands = p->blocks->grid->bands;
    for (ptrdiff_t a = worker; a < bands; a += workers)
        for (ptrdiff_t b = 0; b < bands; b++) {
            const int64_t *user = p->blocks->start + a * bands + b,
                          *item = p->blocks->start + b * bands + a;
            for (int64_t k = user[0]; k < user[1]; k++) p->users[place_in(p->blocks, 0, k)]++;
            for (int64_t k = item[0]; k < item[1]; k++) p->items[place_in(p->blocks, 1, k)]++;
        }
}

void fo_blocks_degrees(const fo_blocks *blocks, int64_t *users, int64_t *items, int threads) {
    pass p = {.blocks = blocks, .users = users, .items = items};
    memset(users, 0, (size_t)(blocks->grid->bands * blocks->grid->width[0]) * sizeof *users);
    memset(items, 0, (size_t)(blocks->grid->bands * blocks->grid->width[1]) * sizeof *items);
    fo_parallel(degrees_body, &p, threads);
}

/* Blocks of a band of users come with ascending items, each put in order by counting. */
static void items_body(void *ctx, int worker, int workers) {
    pass *p = (pass *)ctx;
    const fo_blocks *blocks = p->blocks;
    const fo_grid *g = blocks->grid;
    const int64_t *start = p->users;
    int64_t *next = (int64_t *)malloc((size_t)g->width[0] * sizeof *next);
    int64_t *count = (int64_t *)malloc((size_t)(g->width[1] + 1) * sizeof *count);
    int64_t *order = (int64_t *)malloc((size_t)(p->largest ? p->largest : 1) * sizeof *order);
    if (!next || !count || !order) p->failed = 1;
    for (ptrdiff_t a = worker; next && count && order && a < g->bands; a += workers) {
        const uint32_t first = (uint32_t)(a * g->width[0]);
        memcpy(next, start + first, (size_t)g->width[0] * sizeof *next);
        for (ptrdiff_t b = 0; b < g->bands; b++) {
            const int64_t *at = blocks->start + a * g->bands + b;
            const uint32_t least = (uint32_t)(b * g->width[1]);
            memset(count, 0, (size_t)(g->width[1] + 1) * sizeof *count);
            for (int64_t k = at[0]; k < at[1]; k++) count[place_in(blocks, 1, k) - least + 1]++;
            for (ptrdiff_t j = 0; j < g->width[1]; j++) count[j + 1] += count[j];
            for (int64_t k = at[0]; k < at[1]; k++)
                order[count[place_in(blocks, 1, k) - least]++] = k;
            for (int64_t k = 0; k < at[1] - at[0]; k++)
                p->sorted[next[place_in(blocks, 0, order[k]) - first]++] =
                    place_in(blocks, 1, order[k]);
        }
    }
    free(next);
    free(count);
    free(order);
}

int fo_blocks_items(const fo_blocks *blocks, const int64_t *start, uint32_t *items, int threads) {
    pass p = {.blocks = blocks, .users = (int64_t *)start, .sorted = items};
    for (ptrdiff_t b = 0; b < blocks->grid->bands * blocks->grid->bands; b++) {
        const int64_t n = blocks->start[b + 1] - blocks->start[b];
        if (n > p.largest) p.largest = n;
    }
    fo_parallel(items_body, &p, threads);
    return !p.failed;
}
