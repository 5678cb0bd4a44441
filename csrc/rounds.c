/* Training in rounds: the same bits for any number of threads.

   There is a fixed number of workers, whatever the threads. In a round each of them trains its own
   copy of the weights on its own batches; then all changes are added to the model in the order of
   the workers, by the rule of private copies (hogwild.inc), and all copies become the model. Which
   thread does the work of which worker, and which columns of the merge, changes nothing.

   A round ends where an epoch does, so that the model can be looked at there. */
#include "study.h"

typedef struct {
    fo_hogwild *run;
    ptrdiff_t first, each, stop; /* worker k has the batches from first + k * each on */
    double share;                /* of the model in the average; 0: it does not join */
} round;

static const double SMALL = 1e-3; /* a scale that small is multiplied into the weights */

static void work(void *ctx, int k, int n) {
    const round *r = (const round *)ctx;
    fo_hogwild *run = r->run;
    const unsigned mode = fo_flush_subnormals();
    (void)k, (void)n;
    for (;;) {
        const ptrdiff_t o = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
        if (o >= run->workers) break;
        fo_worker *me = run->worker + o;
        const ptrdiff_t first = r->first + o * r->each, end = first + r->each;
        for (ptrdiff_t batch = first; batch < end && batch < r->stop; batch++) {
            fo_hogwild_batch(run, me, batch);
            if (me->walk.scale < SMALL) { /* then the merge takes the mean of the shrunk copies */
                fo_current()->sparse->scale[run->samples.dtype](run->numbers, me->v,
                                                                me->walk.scale);
                me->walk.scale = 1;
            }
        }
    }
    fo_restore_subnormals(mode);
}

static void merge_all(void *ctx, int k, int n) {
    const round *r = (const round *)ctx;
    const fo_hogwild *run = r->run;
    const fo_sparse_kernels *kernels = fo_current()->sparse;
    const int dtype = run->samples.dtype;
    const ptrdiff_t pieces = (run->numbers + FO_ROWS - 1) / FO_ROWS;
    const ptrdiff_t low = pieces * k / n * FO_ROWS, end = pieces * (k + 1) / n * FO_ROWS;
    const ptrdiff_t high = end < run->numbers ? end : run->numbers;
    const ptrdiff_t start = low * fo_item_size[dtype];
    if (low >= high) return;
    const unsigned mode = fo_flush_subnormals();
    kernels->end_round[dtype](high - low, low, run->w, run->h, run->workers, run->worker);
    if (r->share > 0)
        kernels->observe[dtype](high - low, (const char *)run->w + start, 1,
                                (char *)run->average + start, r->share);
    fo_restore_subnormals(mode);
}

static void merge_intercepts(fo_hogwild *run) {
    for (ptrdiff_t c = 0; c < run->outputs; c++) {
        double z = run->intercepts[c];
        const double base = z;
        for (int o = 0; o < run->workers; o++) {
            const fo_worker *me = run->worker + o;
            const double a = me->area * run->h_intercept;
            z += (1 + a) / (fo_stretch(me) + run->workers * a) * (me->intercepts[c] - base);
        }
        run->intercepts[c] = z;
    }
}

void fo_rounds_slice(fo_hogwild *run, ptrdiff_t start, ptrdiff_t stop, int threads) {
    const ptrdiff_t batches = fo_hogwild_batches(run->samples.rows);
    const ptrdiff_t rows = run->merge_rows / (FO_BLOCKS * FO_ROWS), each = rows > 1 ? rows : 1;
    while (start < stop && !run->diverged) {
        const ptrdiff_t epoch_end = (start / batches + 1) * batches;
        const ptrdiff_t whole = start + each * run->workers;
        round r = {.run = run, .first = start, .each = each};
        r.stop = whole < epoch_end ? whole : epoch_end;
        r.each = (r.stop - start + run->workers - 1) / run->workers;
        run->start = start, run->stop = r.stop;
        atomic_store(&run->next, 0);
        fo_parallel(work, &r, threads);
        merge_intercepts(run);
        const ptrdiff_t block = fo_hogwild_first_block(run, r.stop);
        if (run->average && (block - run->observed) * FO_ROWS >= run->merge_rows * run->workers &&
            block * FO_ROWS > run->worker->walk.wait) {
            r.share = (run->forget + 1) / (run->snapshots++ + run->forget + 1);
            for (ptrdiff_t c = 0; c < run->outputs; c++)
                run->average_intercepts[c] +=
                    r.share * (run->intercepts[c] - run->average_intercepts[c]);
            run->observed = block;
        }
        fo_parallel(merge_all, &r, run->numbers < 4096 ? 1 : threads);
        for (int o = 0; o < run->workers; o++) {
            fo_worker *me = run->worker + o;
            if (me->walk.diverged) atomic_store(&run->diverged, 1);
            for (ptrdiff_t c = 0; c < run->outputs; c++) me->intercepts[c] = run->intercepts[c];
            me->walk.scale = 1;
            me->area = me->net = 0, me->since = 0;
        }
        start = r.stop;
    }
}
