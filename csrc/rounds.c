/* Training in rounds: the same bits for any number of threads.

   There is a fixed number of workers, whatever the threads. In a round each of them takes a copy of
   the weights and trains it on its own batches; then all changes are added to the model in the
   order of the workers, by the rule of private copies (hogwild.inc). Which thread does the work of
   which worker, and which columns of the merge, changes nothing.

   Every row moves the intercept: its copies are merged several times in a round, for which all
   workers meet; weights as well, where there are so few that it costs little.

   A round ends where an epoch does, so that the model can be looked at there. */
#include <string.h>

#include "study.h"

enum { MEET = 16000 }; /* non-zeros that each worker trains on between two meetings, at least */

typedef struct {
    fo_hogwild *run;
    ptrdiff_t first, each, stop; /* worker k has the batches from first + k * each on */
    ptrdiff_t blocks;            /* between two meetings */
    int often;                   /* weights are merged at meetings, too */
    double share;                /* of the model in the average; 0: it does not join */
    fo_barrier barrier;
} round;

static const double SMALL = 1e-3; /* a scale that small is multiplied into the weights */

/* Blocks [from, to) of a worker's batches. */
static void train_blocks(const round *r, ptrdiff_t o, ptrdiff_t from, ptrdiff_t to) {
    fo_hogwild *run = r->run;
    fo_worker *me = run->worker + o;
    for (ptrdiff_t q = from; q < to; q++) {
        const ptrdiff_t batch = r->first + o * r->each + q / FO_BLOCKS;
        if (batch >= r->stop) return;
        if (q % FO_BLOCKS == 0) fo_hogwild_open(run, batch, &me->of);
        fo_hogwild_block(run, me, &me->of, q % FO_BLOCKS);
        if (me->walk.scale < SMALL) { /* then the merge takes the mean of the shrunk copies */
            fo_current()->sparse->scale[run->samples.dtype](run->numbers, me->v, me->walk.scale);
            me->walk.scale = 1;
        }
    }
}

static void merge_intercepts(fo_hogwild *run) {
    for (ptrdiff_t c = 0; c < run->outputs; c++) {
        double z = run->intercepts[c];
        const double base = z;
        for (int o = 0; o < run->workers; o++) {
            const fo_worker *me = run->worker + o;
            const double area = me->area - me->met[0], net = me->net - me->met[1];
            const double a = area * run->h_intercept, stretch = net > 0 ? area / net : 1;
            z += (1 + a) / (stretch + run->workers * a) * (me->intercepts[c] - base);
        }
        run->intercepts[c] = z;
    }
}

/* Merges the k-th of n parts of the weights. */
static void merge_weights(const round *r, int k, int n) {
    const fo_hogwild *run = r->run;
    const int dtype = run->samples.dtype;
    const ptrdiff_t pieces = (run->numbers + FO_ROWS - 1) / FO_ROWS;
    const ptrdiff_t low = pieces * k / n * FO_ROWS, end = pieces * (k + 1) / n * FO_ROWS;
    const ptrdiff_t high = end < run->numbers ? end : run->numbers;
    const ptrdiff_t start = low * fo_item_size[dtype];
    if (low >= high) return;
    fo_current()->sparse->end_round[dtype](high - low, low, run->w, run->h, run->workers,
                                           run->worker);
    if (r->share > 0)
        fo_current()->sparse->observe[dtype](high - low, (const char *)run->w + start, 1,
                                             (char *)run->average + start, r->share);
}

/* Lets a worker go on from what is merged. */
static void begin(const fo_hogwild *run, fo_worker *me) {
    memcpy(me->v, run->w, (size_t)run->numbers * (size_t)fo_item_size[run->samples.dtype]);
    me->walk.scale = 1;
    me->area = me->net = me->met[0] = me->met[1] = 0;
}

static void work(void *ctx, int k, int n) {
    round *r = (round *)ctx;
    fo_hogwild *run = r->run;
    const ptrdiff_t blocks = r->each * FO_BLOCKS;
    const unsigned mode = fo_flush_subnormals();
    for (int o = k; o < run->workers; o += n) /* here, into this processor's cache */
        begin(run, run->worker + o);
    for (ptrdiff_t q = 0; q < blocks; q += r->blocks) {
        const ptrdiff_t end = q + r->blocks < blocks ? q + r->blocks : blocks;
        const int weights = r->often && end < blocks; /* at the end of the round they are anyway */
        for (int o = k; o < run->workers; o += n) train_blocks(r, o, q, end);
        if (n > 1) fo_wait(&r->barrier, n);
        if (k == 0) merge_intercepts(run);
        if (weights) merge_weights(r, k, n);
        if (n > 1) fo_wait(&r->barrier, n);
        for (int o = k; o < run->workers; o += n) {
            fo_worker *me = run->worker + o;
            me->met[0] = me->area, me->met[1] = me->net;
            for (ptrdiff_t c = 0; c < run->outputs; c++) me->intercepts[c] = run->intercepts[c];
            if (weights) begin(run, me);
        }
    }
    fo_restore_subnormals(mode);
}

static void merge_all(void *ctx, int k, int n) {
    const unsigned mode = fo_flush_subnormals();
    merge_weights((const round *)ctx, k, n);
    fo_restore_subnormals(mode);
}

void fo_rounds_slice(fo_hogwild *run, ptrdiff_t start, ptrdiff_t stop, int threads) {
    const ptrdiff_t batches = fo_hogwild_batches(run->samples.rows);
    const ptrdiff_t rows = run->merge_rows / (FO_BLOCKS * FO_ROWS), each = rows > 1 ? rows : 1;
    const fo_samples *s = &run->samples;
    const ptrdiff_t per_block = fo_pointer(s, s->rows) / s->rows * FO_ROWS;
    while (start < stop && !run->diverged) {
        const ptrdiff_t epoch_end = (start / batches + 1) * batches;
        const ptrdiff_t whole = start + each * run->workers;
        round r = {.run = run, .first = start, .each = each};
        r.stop = whole < epoch_end ? whole : epoch_end;
        r.each = (r.stop - start + run->workers - 1) / run->workers;
        r.blocks = 1;
        while (r.blocks * per_block < MEET && r.blocks < r.each * FO_BLOCKS) r.blocks *= 2;
        r.often = 2 * run->numbers * run->workers <= r.blocks * per_block;
        run->start = start, run->stop = r.stop;
        fo_parallel(work, &r, threads < run->workers ? threads : run->workers);
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
            me->since = 0;
        }
        start = r.stop;
    }
}
