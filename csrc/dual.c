/* Dual coordinate ascent (Hsieh et al. 2008; Shalev-Shwartz and Zhang 2013) by several workers.

   Every row i has a number beta_i, and w = per * sum(beta_i * x_i). A turn makes the best of one
   beta while the others stay, which takes one product with w and one addition to it; the dual
   never falls, and there is no step size.

   Each worker has rows of its own and a copy of the weights. In a round all of them walk some
   blocks of 64 rows, then their changes are added to the model. As they did not see each other's,
   the sum may go too far: a line search on the dual, which is concave, shortens it, at most to
   their mean, with which the dual cannot fall. Rounds are halved where it did, and grow again.

   The intercept is not penalised, so the betas must sum to 0. It is the multiplier of that: a
   column of the value sqrt(gain) whose weight is penalised for its distance from the last epoch's
   (the method of multipliers). For a given number of workers nothing depends on the time at which
   anything happens. */
#include <math.h>
#include <string.h>

#include "dual.h"
#include "order.h"

const uint8_t fo_rest_after[16] = {0x10, 0x20, 0x31, 0x42, 0x54, 0x68, 0x68};

static const fo_dual_kernels *kernels(void) { return fo_current()->dual; }

static ptrdiff_t blocks_in(const fo_dual_worker *me) {
    return (me->high - me->low + FO_ROWS - 1) / FO_ROWS;
}

/* The rows [low, high) of a worker's block in this epoch; none past its last. */
static void rows_of(const fo_ascent *run, const fo_dual_worker *me, ptrdiff_t block, uint64_t key,
                    ptrdiff_t *low, ptrdiff_t *high) {
    const ptrdiff_t blocks = blocks_in(me);
    *low = *high = me->high;
    if (block >= blocks) return;
    if (run->shuffle) block = (ptrdiff_t)fo_permute((uint64_t)block, (uint64_t)blocks, key);
    *low = me->low + block * FO_ROWS;
    *high = *low + FO_ROWS < me->high ? *low + FO_ROWS : me->high;
}

static uint64_t epoch_key(const fo_ascent *run, const fo_dual_worker *me) {
    return fo_mix(run->seed + fo_mix((uint64_t)run->epoch * 1024 + (uint64_t)(me - run->worker)));
}

static void walk(fo_ascent *run, ptrdiff_t stop, int k, int n) {
    const fo_samples *s = &run->d.samples;
    for (int w = k; w < run->workers; w += n) {
        fo_dual_worker *me = &run->worker[w];
        const uint64_t key = epoch_key(run, me);
        me->slope[0] = me->slope[1] = me->moved = me->gap = 0;
        for (ptrdiff_t block = run->at; block < stop; block++) {
            ptrdiff_t low, high;
            rows_of(run, me, block, key, &low, &high);
            if (low >= high) continue;
            kernels()->ascend[s->dtype][s->index_type](
                &run->d, me, low, high, run->shuffle ? fo_mix(key + (uint64_t)block) | 1 : 0,
                run->workers > 1);
        }
    }
}

/* Worker w's share of the columns, cut at cache lines. */
static void columns_of(const fo_ascent *run, int w, ptrdiff_t *from, ptrdiff_t *to) {
    const ptrdiff_t columns = run->d.samples.columns;
    *from = columns / run->workers * w / FO_ROWS * FO_ROWS;
    *to = w + 1 == run->workers ? columns : columns / run->workers * (w + 1) / FO_ROWS * FO_ROWS;
}

static void gather(const fo_ascent *run, int k, int n) {
    for (int w = k; w < run->workers; w += n) {
        ptrdiff_t from, to;
        columns_of(run, w, &from, &to);
        kernels()->gather[run->d.samples.dtype](to - from, run->workers, run->copies, from, run->w,
                                                run->worker[w].dots);
    }
}

static void apply(const fo_ascent *run, ptrdiff_t stop, double share, int k, int n) {
    for (int w = k; w < run->workers; w += n) {
        ptrdiff_t from, to, low, high;
        columns_of(run, w, &from, &to);
        kernels()->apply[run->d.samples.dtype](to - from, run->workers, run->copies, from, run->w,
                                               share);
        if (share == 1) continue;
        const fo_dual_worker *me = &run->worker[w];
        const ptrdiff_t size = fo_item_size[run->d.samples.dtype];
        for (ptrdiff_t block = run->at; block < stop; block++) {
            rows_of(run, me, block, epoch_key(run, me), &low, &high);
            kernels()->back[run->d.samples.dtype](high - low, (char *)run->d.beta + low * size,
                                                  (const char *)run->d.before + low * size, share);
        }
    }
}

/* How much of the sum of all changes to take: the line search along it. */
static double share_of(const fo_ascent *run) {
    double with_w = 0, square = 0, moved = 0, start = 0, end = 0;
    for (int w = 0; w < run->workers; w++) {
        const fo_dual_worker *me = &run->worker[w];
        with_w += me->dots[0], square += me->dots[1], moved += me->moved;
        start += me->slope[0], end += me->slope[1];
    }
    start -= with_w / run->d.per + run->intercept * moved;
    end -= (with_w + square) / run->d.per +
           (run->intercept + run->d.gain * run->d.per * moved) * moved;
    if (!(end < 0) || !(start > 0)) return 1;
    const double share = start / (start - end), least = 1.0 / run->workers;
    return share > least ? share : least;
}

/* What one thread does for all of them at the end of a round. */
static void end_round(fo_ascent *run, ptrdiff_t stop, double share) {
    double moved = 0;
    if (run->workers > 1) {
        run->share = share;
        if (share < 0.9 && run->stretch > 1) run->stretch /= 2;
        if (share == 1 && run->stretch < run->longest) run->stretch++;
    }
    for (int w = 0; w < run->workers; w++) {
        moved += share * run->worker[w].moved;
        run->met += run->worker[w].gap;
    }
    run->sum += moved;
    if (run->d.gain > 0) run->intercept += run->d.gain * run->d.per * moved;
    for (int w = 0; w < run->workers; w++) run->worker[w].intercept = run->intercept;
    run->at = stop;
    run->rounds--;
}

/* The rounds of a slice. Every thread works out the same share from the same numbers. */
static void rounds_body(void *ctx, int k, int n) {
    fo_ascent *run = (fo_ascent *)ctx;
    const unsigned long long mode = fo_flush_subnormals();
    while (run->rounds > 0 && run->at < run->most) {
        const ptrdiff_t next = run->at + run->stretch, stop = next < run->most ? next : run->most;
        double share = 1;
        walk(run, stop, k, n);
        if (n > 1) fo_wait(&run->barrier, n);
        if (run->workers > 1) {
            gather(run, k, n);
            if (n > 1) fo_wait(&run->barrier, n);
            share = share_of(run);
            apply(run, stop, share, k, n);
            if (n > 1) fo_wait(&run->barrier, n);
        }
        if (k == 0) end_round(run, stop, share);
        if (n > 1) fo_wait(&run->barrier, n);
    }
    fo_restore_subnormals(mode);
}

int fo_dual_slice(fo_ascent *run, ptrdiff_t rounds, int threads) {
    if (threads > run->workers) threads = run->workers;
    run->rounds = rounds;
    run->barrier = (fo_barrier){0, 0};
    fo_parallel(rounds_body, run, threads);
    if (run->at < run->most) return 0;
    run->at = 0, run->epoch++;
    run->gap = run->met, run->met = 0;
    run->intercept += run->d.gain * run->d.per * run->sum;
    for (int w = 0; w < run->workers; w++) run->worker[w].intercept = run->intercept;
    return 1;
}

static void prepare_body(void *ctx, int k, int n) {
    const fo_ascent *run = (const fo_ascent *)ctx;
    for (int w = k; w < run->workers; w += n)
        kernels()->squares[run->d.samples.dtype](&run->d.samples, run->worker[w].low,
                                                 run->worker[w].high,
                                                 (void *)(uintptr_t)run->d.squares);
}

void fo_dual_prepare(fo_ascent *run, int threads) {
    const ptrdiff_t rows = run->d.samples.rows;
    run->most = 0;
    for (int w = 0; w < run->workers; w++) {
        fo_dual_worker *me = &run->worker[w];
        me->low = rows / run->workers * w + (w < rows % run->workers ? w : rows % run->workers);
        me->high = me->low + rows / run->workers + (w < rows % run->workers);
        if (blocks_in(me) > run->most) run->most = blocks_in(me);
    }
    fo_parallel(prepare_body, run, threads);
}

/* ---- betas that sum to 0 ---- */

double fo_dual_shifted(const fo_ascent *run, double shift, double *out) {
    return kernels()->shifted[run->d.samples.dtype](&run->d, shift, out);
}

double fo_dual_exchange(fo_ascent *run, double *betas, void *room) {
    const fo_samples *s = &run->d.samples;
    kernels()->exchange[s->dtype][s->index_type](&run->d, betas, room);
    return room ? fo_current()->reduce[FO_SUMSQ][s->dtype](s->columns, 1, room, room) : 0;
}

/* ---- the duality gap ---- */

enum { BATCH = 256 };

typedef struct {
    const fo_ascent *run;
    const double *margins;
    double intercept, *partials;
} measure_job;

static void measure_body(void *ctx, int k, int n) {
    const measure_job *job = (const measure_job *)ctx;
    const fo_samples *s = &job->run->d.samples;
    for (ptrdiff_t b = k; b * BATCH < s->rows; b += n) {
        const ptrdiff_t high = (b + 1) * BATCH < s->rows ? (b + 1) * BATCH : s->rows;
        kernels()->gaps[s->dtype](&job->run->d, job->margins, job->intercept, b * BATCH, high,
                                  job->partials + 2 * b);
    }
}

void fo_dual_measure(const fo_ascent *run, const double *margins, double intercept,
                     double *partials, double *gap, double *loss, int threads) {
    measure_job job = {run, margins, intercept, partials};
    fo_parallel(measure_body, &job, threads);
    *gap = *loss = 0;
    for (ptrdiff_t b = 0; b * BATCH < run->d.samples.rows; b++) {
        *gap += partials[2 * b];
        *loss += partials[2 * b + 1];
    }
}
