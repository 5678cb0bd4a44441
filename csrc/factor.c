/* Training of factors: which ratings come when, and on which thread.

   Users and items are cut into bands, ratings into the blocks of their bands, and a unit of work is
   one block. Units come in rounds in which every band occurs once, so that threads at different
   units of a round never meet: between rounds they wait for each other, and the model has the same
   bits for any number of threads. Or (racy) nobody waits: a thread that is ahead may meet rows of
   one that is still in the round before, and an update may be lost (Niu, Recht, Re, Wright 2011).

   Pairwise, a unit is one band of users with two bands of items. A negative comes from the item's
   own band with the probability that a random item is in it, else from the other band. As bands are
   paired anew in every epoch, all pairs of items meet. */
#include <math.h>
#include <stdlib.h>

#include "factor.h"

/* ---- order ---- */

static ptrdiff_t paired(const fo_factor_run *run) {
    return run->model.loss == FO_PAIRWISE && run->blocks->grid->bands > 1 ? 2 : 1;
}

ptrdiff_t fo_factor_round(const fo_factor_run *run) {
    return run->blocks->grid->bands / paired(run);
}

ptrdiff_t fo_factor_units(const fo_factor_run *run) {
    return fo_factor_round(run) * run->blocks->grid->bands;
}

static uint64_t key_of(const fo_factor_run *run) {
    return fo_mix(run->seed + fo_mix((uint64_t)run->epoch));
}

static void shuffle(uint32_t *x, ptrdiff_t n, uint64_t key) {
    for (ptrdiff_t k = 0; k < n; k++) x[k] = (uint32_t)k;
    for (ptrdiff_t k = n - 1; k > 0; k--) {
        const ptrdiff_t j = (ptrdiff_t)(fo_mix(key + (uint64_t)k) % (uint64_t)(k + 1));
        const uint32_t swap = x[k];
        x[k] = x[j], x[j] = swap;
    }
}

void fo_factor_epoch(fo_factor_run *run, int64_t epoch) {
    const ptrdiff_t bands = run->blocks->grid->bands;
    run->epoch = epoch;
    shuffle(run->order, bands, key_of(run));
    shuffle(run->order + bands, bands, ~key_of(run));
}

int fo_factor_blocks(const fo_factor_run *run, ptrdiff_t unit, ptrdiff_t *blocks) {
    const ptrdiff_t bands = run->blocks->grid->bands, each = paired(run);
    const ptrdiff_t round = unit / fo_factor_round(run), m = unit % fo_factor_round(run);
    const ptrdiff_t users = run->order[(each * m + round) % bands];
    for (ptrdiff_t k = 0; k < each; k++)
        blocks[k] = users * bands + run->order[bands + each * m + k];
    return (int)each;
}

/* ---- training ---- */

static const size_t rating_size[FO_DTYPES] = {sizeof(fo_rating_f32), sizeof(fo_rating_f64)};

static const void *ratings_at(const fo_blocks *b, int64_t k) {
    return (const char *)b->ratings + (size_t)k * rating_size[b->dtype];
}

static void band_of_negatives(const fo_grid *g, ptrdiff_t block, uint32_t *first, uint32_t *size) {
    const ptrdiff_t band = block % g->bands;
    *first = (uint32_t)(band * g->width[1]), *size = g->sizes[1][band];
}

static uint32_t items_of(const fo_grid *g) {
    uint32_t items = 0;
    for (ptrdiff_t b = 0; b < g->bands; b++) items += g->sizes[1][b];
    return items;
}

static void train(fo_factor_run *run, ptrdiff_t unit) {
    const fo_factor_model *m = &run->model;
    const fo_blocks *blocks = run->blocks;
    ptrdiff_t block[2];
    const int count = fo_factor_blocks(run, unit, block);
    for (int k = 0; k < count; k++) {
        const int64_t start = blocks->start[block[k]], stop = blocks->start[block[k] + 1];
        fo_negatives from = {.key = key_of(run), .own = UINT32_MAX};
        if (m->loss == FO_PAIRWISE) {
            band_of_negatives(blocks->grid, block[k], from.first, from.size);
            band_of_negatives(blocks->grid, block[count == 2 ? 1 - k : k], from.first + 1,
                              from.size + 1);
            if (count == 2)
                from.own = (uint32_t)(((uint64_t)from.size[0] << 32) / items_of(blocks->grid));
        }
        if (start < stop && fo_current()->factor->train[m->loss][m->dtype](
                                m, ratings_at(blocks, start), (ptrdiff_t)(stop - start), run->racy,
                                &from, (uint64_t)start))
            atomic_store_explicit(&run->diverged, 1, memory_order_relaxed);
    }
}

static void body(void *ctx, int k, int n) {
    fo_factor_run *run = (fo_factor_run *)ctx;
    const unsigned mode = fo_flush_subnormals();
    (void)k, (void)n;
    for (;;) {
        const ptrdiff_t unit = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
        if (unit >= run->stop || atomic_load_explicit(&run->diverged, memory_order_relaxed)) break;
        train(run, unit);
    }
    fo_restore_subnormals(mode);
}

void fo_factor_slice(fo_factor_run *run, ptrdiff_t start, ptrdiff_t stop, int threads) {
    const ptrdiff_t round = fo_factor_round(run);
    while (start < stop && !run->diverged) {
        const ptrdiff_t end = (start / round + 1) * round;
        run->stop = run->racy || threads == 1 || end > stop ? stop : end;
        atomic_store(&run->next, start);
        fo_parallel(body, run, threads);
        start = run->stop;
    }
}

/* ---- the objective ---- */

enum { BATCH = 256 }; /* ratings whose predictions are kept at once */

typedef struct {
    const fo_factor_run *run;
    const fo_blocks *blocks;
    ptrdiff_t first;      /* block */
    fo_factor_sums *sums; /* of each block from there on */
} pass;

static const double *factors_of(const fo_factor_model *m, int axis, ptrdiff_t row, double *out) {
    for (ptrdiff_t f = 0; f < m->rank; f++)
        out[f] = m->dtype == FO_F32 ? (double)((const float *)m->rows[axis])[row * m->rank + f]
                                    : ((const double *)m->rows[axis])[row * m->rank + f];
    return out;
}

static double bias_of(const fo_factor_model *m, int axis, ptrdiff_t row) {
    return m->dtype == FO_F32 ? (double)((const float *)m->extra[axis])[2 * row]
                              : ((const double *)m->extra[axis])[2 * row];
}

enum { MOST_RANK = 256 }; /* a multiple of a line */

static double penalty(const fo_factor_model *m, int axis, ptrdiff_t row) {
    double x[MOST_RANK], sum = 0;
    const double bias = bias_of(m, axis, row);
    factors_of(m, axis, row, x);
    for (ptrdiff_t f = 0; f < m->rank; f++) sum += x[f] * x[f];
    return m->l2 / 2 * sum + m->l2_bias / 2 * bias * bias;
}

double fo_factor_penalty(const fo_factor_model *m, int axis, const int64_t *degrees,
                         ptrdiff_t rows) {
    double sum = 0;
    for (ptrdiff_t row = 0; row < rows; row++)
        if (degrees[row]) sum += (double)degrees[row] * penalty(m, axis, row);
    return sum;
}

double fo_factor_squares(const fo_factor_model *m, int axis, ptrdiff_t rows) {
    return fo_current()->reduce[FO_SUMSQ][m->dtype](rows * m->rank, 1, m->rows[axis], NULL);
}

static uint32_t user_at(const fo_blocks *b, int64_t k) {
    return b->dtype == FO_F32 ? ((const fo_rating_f32 *)b->ratings)[k].u
                              : ((const fo_rating_f64 *)b->ratings)[k].u;
}

static double y_at(const fo_blocks *b, int64_t k) {
    return b->dtype == FO_F32 ? (double)((const fo_rating_f32 *)b->ratings)[k].y
                              : ((const fo_rating_f64 *)b->ratings)[k].y;
}

/* One item for each rating, out of all; FO_NONE where the user has what was drawn. */
static void draw(const pass *p, int64_t start, ptrdiff_t n, uint32_t items, uint32_t *negative) {
    const fo_factor_model *m = &p->run->model;
    const fo_grid *g = p->blocks->grid;
    for (ptrdiff_t k = 0; k < n; k++) {
        const uint32_t u = user_at(p->blocks, start + k);
        negative[k] = FO_NONE;
        for (uint64_t try = 0; try < FO_TRIES && negative[k] == FO_NONE; try++) {
            const uint64_t x = fo_mix(~p->run->seed + (uint64_t)(start + k) * FO_TRIES + try);
            const uint32_t i = g->place[1][fo_share((uint32_t)(x >> 32), items)];
            if (!fo_has(m, u, i)) negative[k] = i;
        }
    }
}

static void loss_body(void *ctx, int worker, int workers) {
    const pass *p = (const pass *)ctx;
    const fo_factor_model *m = &p->run->model;
    const fo_factor_kernels *kernels = fo_current()->factor;
    const ptrdiff_t bands = p->blocks->grid->bands;
    const uint32_t items = items_of(p->blocks->grid);
    const int pairs = m->loss == FO_PAIRWISE;
    double margin[BATCH];
    uint32_t negative[BATCH];
    for (ptrdiff_t b = p->first + worker; b < p->first + bands; b += workers) {
        fo_factor_sums sums = {0};
        for (int64_t at = p->blocks->start[b]; at < p->blocks->start[b + 1]; at += BATCH) {
            const int64_t left = p->blocks->start[b + 1] - at;
            const ptrdiff_t n = (ptrdiff_t)(left < BATCH ? left : BATCH);
            if (pairs) draw(p, at, n, items, negative);
            kernels->margins[m->dtype](m, ratings_at(p->blocks, at), n, pairs ? negative : NULL,
                                       margin);
            for (ptrdiff_t k = 0; k < n; k++) {
                if (pairs && negative[k] == FO_NONE) continue;
                sums.count++;
                sums.loss +=
                    kernels->value[m->loss](margin[k], pairs ? 1 : y_at(p->blocks, at + k), 0);
                if (!pairs) continue;
                sums.right += margin[k] > 0 ? 1 : margin[k] == 0 ? 0.5 : 0;
                sums.penalty += penalty(m, 1, negative[k]);
            }
        }
        p->sums[b - p->first] = sums;
    }
}

int fo_factor_loss(const fo_factor_run *run, const fo_blocks *blocks, ptrdiff_t band,
                   fo_factor_sums *sums, int threads) {
    const ptrdiff_t bands = blocks->grid->bands;
    pass p = {.run = run, .blocks = blocks, .first = band * bands};
    *sums = (fo_factor_sums){0};
    p.sums = (fo_factor_sums *)malloc((size_t)bands * sizeof *p.sums);
    if (!p.sums) return 0;
    fo_parallel(loss_body, &p, threads);
    for (ptrdiff_t b = 0; b < bands; b++) {
        sums->loss += p.sums[b].loss, sums->right += p.sums[b].right;
        sums->count += p.sums[b].count, sums->penalty += p.sums[b].penalty;
    }
    free(p.sums);
    return 1;
}

/* ---- predictions ---- */

typedef struct {
    const fo_ratings *pairs;
    int dtype;
    ptrdiff_t rank;
    const void *rows[2];
    const double *biases[2];
    double mean, *out;
} prediction;

static void predict_body(void *ctx, int worker, int workers) {
    const prediction *p = (const prediction *)ctx;
    const ptrdiff_t n = p->pairs->n, each = n / workers, more = n % workers;
    const ptrdiff_t start = each * worker + (worker < more ? worker : more);
    const ptrdiff_t stop = start + each + (worker < more),
                    row_size = p->rank * fo_item_size[p->dtype];
    fo_reduce *dot = fo_current()->reduce[FO_DOT][p->dtype];
    ptrdiff_t row[2] = {0, 0};
    for (ptrdiff_t k = start; k < stop; k++) {
        const ptrdiff_t u = fo_axis_row(p->pairs->axis, k, row),
                        i = fo_axis_row(p->pairs->axis + 1, k, row + 1);
        p->out[k] = p->mean + (p->biases[0][u] + p->biases[1][i]) +
                    dot(p->rank, 1, (const char *)p->rows[0] + u * row_size,
                        (const char *)p->rows[1] + i * row_size);
    }
}

void fo_factor_predict(const fo_ratings *pairs, int dtype, ptrdiff_t rank, const void *users,
                       const void *items, const double *user_biases, const double *item_biases,
                       double mean, double *out, int threads) {
    prediction p = {.pairs = pairs,
                    .dtype = dtype,
                    .rank = rank,
                    .rows = {users, items},
                    .biases = {user_biases, item_biases},
                    .mean = mean,
                    .out = out};
    fo_parallel(predict_body, &p, threads);
}
