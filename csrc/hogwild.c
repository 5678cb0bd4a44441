/* Lock-free training: workers take batches of rows from one counter and never wait for each other.

   serial  one worker trains the model itself.
   copies  every worker trains its own copy of the weights and merges it into the model every
           few thousand rows, so that cache lines do not travel between cores at every row.
   shared  every worker writes the model, component by component (Niu, Recht, Re, Wright 2011).

   A block is 64 rows that lie together, and blocks come in random order. A batch is 8 blocks; where
   the data is sorted, their rows take turns, so that training sees both classes all the time.
   Single rows in random order, or in one that the caller gives, are read where they lie.

   The number of a block gives the time of its rows, so steps need no counter of their own; and as
   the sum of all steps up to a time has a closed form, every worker knows how far L2 has shrunk
   the model without a shared scale. */
#include <math.h>
#include <string.h>

#include "coordinate.h"
#include "multi.h"
#include "order.h"
#include "study.h"

const char *fo_loss_name(int loss) {
    return loss < FO_LOSSES ? fo_current()->sparse->loss_names[loss] : NULL;
}

/* ---- time ---- */

static ptrdiff_t blocks_in_epoch(const fo_hogwild *run) {
    return (run->samples.rows + 2 * (FO_ROWS - 1)) / FO_ROWS;
}

ptrdiff_t fo_hogwild_batches(ptrdiff_t rows) {
    return (rows + 2 * (FO_ROWS - 1) + (FO_BLOCKS - 1) * FO_ROWS) / (FO_BLOCKS * FO_ROWS);
}

/* The first block of a batch, blocks counted from the first epoch on. */
ptrdiff_t fo_hogwild_first_block(const fo_hogwild *run, ptrdiff_t batch) {
    const ptrdiff_t batches = fo_hogwild_batches(run->samples.rows);
    return batch / batches * blocks_in_epoch(run) + batch % batches * FO_BLOCKS;
}

/* The sum of all steps before a row, rows counted from the first epoch on. A constant step is
   stretched so that exp(-l2 * sum) is the product of all (1 - l2 * step), or nearly 0 if that is
   negative: L2 then is as in the formula, w = (1 - step * l2) w - step * derivative * x. */
static double total_step(const fo_hogwild *run, double row) {
    const double n = (double)run->samples.rows, rate = run->step * run->rate;
    if (run->schedule == FO_EPOCH_DECAY && run->order == FO_GIVEN) /* counts within an epoch */
        return run->step * pow(run->decay, (double)run->epoch) * row;
    if (run->schedule == FO_EPOCH_DECAY && run->decay < 1) {
        const double epoch = floor(row / n), left = pow(run->decay, epoch);
        return run->step * (n * (1 - left) / (1 - run->decay) + left * (row - epoch * n));
    }
    row += run->origin;
    if (run->schedule == FO_INVERSE_TIME && rate > 0) return log1p(rate * row) / run->rate;
    if (run->schedule == FO_POWER) { /* step / t^power, t from 1: the integral around every t */
        const double left = 1 - run->power;
        if (fabs(left) < 1e-9) return run->step * log1p(2 * row);
        return run->step * (pow(row + 0.5, left) - pow(0.5, left)) / left;
    }
    const double shrinks = run->step * run->l2;
    if (run->schedule == FO_CONSTANT && shrinks > 0)
        return -log1p(-(shrinks < 1 - 1e-12 ? shrinks : 1 - 1e-12)) / run->l2 * row;
    return run->step * row;
}

/* The row at which a block starts on average: blocks at the ends of the data are smaller. Epochs of
   given rows may be shorter than the data; the rest of their blocks is empty. */
static double row_of(const fo_hogwild *run, ptrdiff_t block) {
    if (run->order == FO_GIVEN) {
        const ptrdiff_t rows = (block - run->epoch * blocks_in_epoch(run)) * FO_ROWS;
        return run->before + (double)(rows < run->n_given ? rows : run->n_given);
    }
    return (double)block * ((double)run->samples.rows / (double)blocks_in_epoch(run));
}

void fo_hogwild_give(fo_hogwild *run, const int64_t *rows, ptrdiff_t count, ptrdiff_t epoch) {
    run->before += (double)run->n_given;
    run->given = rows, run->n_given = count, run->epoch = epoch;
}

double fo_hogwild_step(const fo_hogwild *run, double row) {
    return (total_step(run, row + 1) - total_step(run, row));
}

/* ---- order ---- */

static uint64_t key_of(const fo_hogwild *run, ptrdiff_t batch) {
    const ptrdiff_t epoch = batch / fo_hogwild_batches(run->samples.rows);
    return fo_mix(run->seed + fo_mix((uint64_t)epoch));
}

/* The blocks of a batch as rows [low, high), some of them empty. In every epoch blocks are permuted
   and their borders move, so that every epoch groups other rows. Where rows take turns, the blocks
   come from the eighths of the data: a sorted class has its share of each batch. */
static void blocks_of(const fo_hogwild *run, ptrdiff_t batch, ptrdiff_t *low, ptrdiff_t *high) {
    const ptrdiff_t rows = run->order == FO_GIVEN ? run->n_given : run->samples.rows;
    const ptrdiff_t batches = fo_hogwild_batches(run->samples.rows), j = batch % batches;
    const ptrdiff_t blocks = blocks_in_epoch(run);
    const uint64_t key = key_of(run, batch);
    const int moves = run->order == FO_SHUFFLED || run->order == FO_TURNS;
    const ptrdiff_t shift = moves ? (ptrdiff_t)(key >> 58) : 0;
    for (ptrdiff_t b = 0; b < FO_BLOCKS; b++) {
        ptrdiff_t block = j * FO_BLOCKS + b;
        if (run->order == FO_TURNS)
            block = b * batches +
                    (ptrdiff_t)fo_permute((uint64_t)j, (uint64_t)batches, key + 64 * (uint64_t)b);
        else if (run->order == FO_SHUFFLED && block < blocks)
            block = (ptrdiff_t)fo_permute((uint64_t)block, (uint64_t)blocks, key);
        low[b] = block * FO_ROWS - shift;
        high[b] = low[b] + FO_ROWS > rows ? rows : low[b] + FO_ROWS;
        if (low[b] < 0) low[b] = 0;
    }
}

ptrdiff_t fo_hogwild_rows(const fo_hogwild *run, ptrdiff_t batch,
                          ptrdiff_t row[FO_BLOCKS * FO_ROWS], ptrdiff_t ends[FO_BLOCKS]) {
    const uint64_t all = (uint64_t)run->samples.rows, key = key_of(run, batch);
    ptrdiff_t low[FO_BLOCKS], high[FO_BLOCKS], n = 0;
    blocks_of(run, batch, low, high);
    for (ptrdiff_t b = 0; b < FO_BLOCKS; b++) {
        if (run->order == FO_TURNS) { /* an eighth of every block's rows */
            for (ptrdiff_t k = 0; k < FO_ROWS / FO_BLOCKS; k++)
                for (ptrdiff_t c = 0; c < FO_BLOCKS; c++)
                    if (low[c] < high[c]) row[n++] = low[c]++;
        } else {
            for (ptrdiff_t i = low[b]; i < high[b]; i++)
                row[n++] = run->order == FO_GIVEN    ? (ptrdiff_t)run->given[i]
                           : run->order == FO_SINGLY ? (ptrdiff_t)fo_permute((uint64_t)i, all, key)
                                                     : i;
        }
        ends[b] = n;
    }
    return n;
}

/* ---- workers ---- */

/* Rules with a rate for each column: all columns as they are at a worker's time. */
static void catch_up(const fo_hogwild *run, const fo_worker *me) {
    if (run->coordinate)
        fo_current()->sparse->catch_up_columns[run->samples.dtype](run->samples.columns, &me->walk,
                                                                   run->w);
}

static void *model_of(const fo_hogwild *run, const fo_worker *me) {
    return run->mode == FO_COPIES ? me->v : run->w;
}

/* Every row moves the intercept, so copies of it learn nearly the same in a few thousand rows, of
   which only 1/T may count. It is merged after each block instead, with `area` the sum of the
   block's steps: then most of what every worker has learned of it is new. */
void fo_merge_intercepts(fo_hogwild *run, fo_worker *me, double area) {
    const double a = area * run->h_intercept, stretch = me->stretch > 0 ? me->stretch : 1;
    for (ptrdiff_t c = 0; c < run->outputs; c++) {
        double z = atomic_load_explicit(&run->intercepts[c], memory_order_relaxed);
        z += (1 + a) / (stretch + run->workers * a) * (me->intercepts[c] - me->base_intercepts[c]);
        atomic_store_explicit(&run->intercepts[c], z, memory_order_relaxed);
        me->intercepts[c] = me->base_intercepts[c] = z;
    }
}

/* A snapshot of the model joins the average with a weight that grows with time, so that the
   beginning is forgotten (polynomial-decay averaging: Shamir and Zhang 2013). Whichever worker
   comes first after merge_rows rows of every worker takes it; nobody waits. */
void fo_hogwild_observe(fo_hogwild *run, const fo_worker *me, ptrdiff_t block) {
    if (!run->average || run->worker->walk.lag || !fo_claim(&run->observing)) return;
    if ((block - run->observed) * FO_ROWS >= run->merge_rows * run->workers &&
        block * FO_ROWS > run->worker->walk.wait) {
        const double share = (run->forget + 1) / (run->snapshots++ + run->forget + 1);
        catch_up(run, me);
        fo_current()->sparse->observe[run->samples.dtype](run->numbers, model_of(run, me),
                                                          me->walk.scale, run->average, share);
        for (ptrdiff_t c = 0; c < run->outputs; c++)
            run->average_intercepts[c] += share * (me->intercepts[c] - run->average_intercepts[c]);
        run->observed = block;
    }
    run->observing = 0;
}

static void merge_weights(fo_hogwild *run, fo_worker *me, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t start = from * fo_item_size[run->samples.dtype];
    fo_current()->sparse->merge[run->samples.dtype](
        to - from, (char *)me->v + start, me->walk.scale, (char *)me->base + start,
        (char *)run->w + start, (const char *)run->h + start, me->area, fo_stretch(me),
        run->workers);
}

void fo_hogwild_merge(fo_hogwild *run, fo_worker *me) {
    if (run->mode == FO_COPIES) {
        /* Two workers at the same weights at once would lose one's work: each starts elsewhere. */
        const ptrdiff_t middle = run->numbers / run->workers * (me - run->worker);
        merge_weights(run, me, middle, run->numbers);
        merge_weights(run, me, 0, middle);
        me->walk.scale = 1;
    }
    me->area = me->net = 0, me->since = 0;
}

static void fold(const fo_hogwild *run, void *v, double *scale) {
    if (*scale != 1) fo_current()->sparse->scale[run->samples.dtype](run->numbers, v, *scale);
    *scale = 1;
}

/* Makes the scale of a run with one worker 1, and `average` the mean of its rows' models. */
static void fold_serial(fo_hogwild *run) {
    fo_walk *walk = &run->worker->walk;
    const int dtype = run->samples.dtype;
    const ptrdiff_t columns = run->samples.columns;
    const fo_sparse_kernels *kernels = fo_current()->sparse;
    if (walk->lag && walk->averaged > run->gathered) {
        const double rows = (double)walk->averaged;
        kernels->mean[dtype](columns, run->w, walk->sum, walk->lag, run->average,
                             (double)run->gathered / rows, 1 / rows);
        run->average_intercepts[0] = walk->intercept_sum / rows;
        run->gathered = walk->averaged, run->snapshots = rows;
        walk->sum = 0;
    }
    if (walk->paid && walk->scale != 1) {
        kernels->scale[dtype](columns, walk->paid, walk->scale);
        walk->due *= walk->scale;
    }
    fold(run, run->w, &walk->scale);
    if (walk->max_norm > 0)
        walk->square = fo_current()->reduce[FO_SUMSQ][dtype](columns, 1, run->w, run->w);
}

/* Makes w the model: all columns pay L1. */
static void look_serial(fo_hogwild *run) {
    fo_walk *walk = &run->worker->walk;
    if (walk->paid)
        fo_current()->sparse->pay[run->samples.dtype](run->samples.columns, walk, run->w);
    catch_up(run, run->worker);
    fold_serial(run);
}

/* After 1, 2, 4, ... epochs what columns at 0 have not paid is forgotten: the large steps of the
   beginning must not outweigh all that comes later. */
static void forget(fo_hogwild *run, ptrdiff_t epochs) {
    fo_walk *walk = &run->worker->walk;
    if (!walk->paid || (epochs & (epochs - 1))) return;
    memset(walk->paid, 0, (size_t)run->samples.columns * (size_t)fo_item_size[run->samples.dtype]);
    walk->due = 0;
}

/* How far L2 has shrunk the model at a block since the start of this slice. */
static double shrunk(const fo_hogwild *run, ptrdiff_t block) {
    const double start = row_of(run, fo_hogwild_first_block(run, run->start));
    return exp(run->l2 * (total_step(run, start) - total_step(run, row_of(run, block))));
}

/* Sets the step size for a block. Where steps are the caller's, they stay as they are; else they
   are (1 - keep) / l2, so that every row is w = (1 - step * l2) w - step * derivative * x.

   Where workers have copies, each sees 1/T of the rows, and of what it learns of columns that are
   everywhere 1/T counts: with the schedule's steps, which fall as 1/t, all of them together would
   learn as slowly as one worker alone does in 1/T of the time. So its steps are up to T times as
   long, where they are short enough for noise not to matter, and the merge takes that into
   account: a rare column's change is divided by what its steps were too long. */
void fo_hogwild_set_time(const fo_hogwild *run, fo_worker *me, ptrdiff_t block) {
    const double t = row_of(run, block), next = row_of(run, block + 1);
    const double end = next > t ? next : t + 1; /* an empty block has a step too */
    double step = (total_step(run, end) - total_step(run, t)) / (end - t);
    me->stretch = 1;
    if (run->mode == FO_COPIES && step > 0) {
        const double most = run->calm / step;
        me->stretch = most < 1 ? 1 : most < run->workers ? most : run->workers;
        step *= me->stretch;
    }
    const double keep = exp(-run->l2 * step);
    me->walk.keep = keep > 1e-12 ? keep : 1e-12; /* as in total_step: the scale is a divisor */
    me->walk.step = run->schedule == FO_CONSTANT ? run->step * me->stretch
                    : run->schedule == FO_POWER  ? step
                    : run->l2 > 0                ? -expm1(-run->l2 * step) / run->l2
                                                 : step;
    if (run->mode != FO_SHARED) return;
    me->walk.scale = shrunk(run, block);
    if (run->coordinate)
        me->walk.t = run->earlier + t, me->walk.clock = total_step(run, t) - total_step(run, 0);
}

static const double SMALL = 1e-3; /* a scale that small is multiplied into the weights */

void fo_hogwild_train(fo_hogwild *run, fo_worker *me, ptrdiff_t low, ptrdiff_t high) {
    const fo_samples *s = &run->samples;
    if (low >= high) return;
    const fo_sparse_kernels *kernels = fo_current()->sparse;
    fo_train *rows = s->classes ? fo_multi_train(s, run->loss, run->mode == FO_SHARED)
                     : run->coordinate
                         ? kernels->coordinate[run->coordinate->rule][s->dtype][s->index_type]
                         : kernels->train[run->careful][run->loss][s->dtype][s->index_type];
    /* With more workers keep is 0.9 at least, and a batch leaves a scale that float32 can hold. */
    if (run->mode != FO_SERIAL || (me->walk.keep > 0.9 && !(me->walk.max_norm > 0))) {
        rows(s, &me->walk, model_of(run, me), low, high);
    } else { /* a block of such rows would leave a scale of nothing */
        for (ptrdiff_t i = low; i < high; i++) {
            rows(s, &me->walk, model_of(run, me), i, i + 1);
            if (me->walk.scale < SMALL) fold_serial(run);
        }
    }
    me->area += me->walk.step * (double)(high - low);
    me->net += me->walk.step / me->stretch * (double)(high - low);
    me->since += high - low;
    me->rows += high - low;
    me->nonzeros += fo_pointer(s, high) - fo_pointer(s, low);
}

/* Trains on single rows. */
static void train_rows(fo_hogwild *run, fo_worker *me, const ptrdiff_t *row, ptrdiff_t n) {
    if (run->way == FO_HOGBATCH)
        fo_train_micro(run, me, row, n);
    else if (run->way == FO_LOCKED)
        fo_train_locked(run, me, row, n);
    else
        for (ptrdiff_t k = 0; k < n; k++) fo_hogwild_train(run, me, row[k], row[k] + 1);
}

void fo_hogwild_open(const fo_hogwild *run, ptrdiff_t batch, fo_batch *out) {
    const int plain = run->way == FO_PLAIN || run->way == FO_ROUNDS;
    out->batch = batch;
    out->together = plain && (run->order == FO_SEQUENTIAL || run->order == FO_SHUFFLED);
    out->watch = run->mode == FO_SHARED && plain && run->workers > 1;
    out->watch &= !run->coordinate && !run->samples.classes;
    if (out->together)
        blocks_of(run, batch, out->low, out->high);
    else
        fo_hogwild_rows(run, batch, out->row, out->high);
}

void fo_hogwild_block(fo_hogwild *run, fo_worker *me, fo_batch *of, ptrdiff_t b) {
    ptrdiff_t from = of->together ? of->low[b] : b ? of->high[b - 1] : 0;
    fo_hogwild_set_time(run, me, fo_hogwild_first_block(run, of->batch) + b);
    if (of->watch && from < of->high[b]) {
        fo_train_watched(run, me, of->together ? from : of->row[from]);
        from++, of->watch = 0;
    }
    if (of->together)
        fo_hogwild_train(run, me, from, of->high[b]);
    else
        train_rows(run, me, of->row + from, of->high[b] - from);
}

/* Trains on the rows of a batch; returns how many they are. */
static ptrdiff_t train_batch(fo_hogwild *run, fo_worker *me, ptrdiff_t batch) {
    const ptrdiff_t before = me->rows;
    fo_batch of;
    fo_hogwild_open(run, batch, &of);
    for (ptrdiff_t b = 0; b < FO_BLOCKS; b++) {
        const double area = me->area;
        fo_hogwild_block(run, me, &of, b);
        if (run->mode != FO_SERIAL && me->area > area)
            fo_merge_intercepts(run, me, me->area - area);
        if (run->mode == FO_SERIAL && me->walk.scale < SMALL) fold_serial(run);
    }
    return me->rows - before;
}

/* One turn of one worker: 0 when the slice is used up. What a single worker does depends on the
   batch alone, never on where slices end: the same bits every time. */
static int turn(fo_hogwild *run, fo_worker *me) {
    const ptrdiff_t batch = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
    if (batch >= run->stop || atomic_load_explicit(&run->diverged, memory_order_relaxed)) return 0;
    const ptrdiff_t batches = fo_hogwild_batches(run->samples.rows);
    const int last = (batch + 1) % batches == 0; /* of its epoch */
    if (!train_batch(run, me, batch) && !last) return 1;
    if (me->walk.diverged) atomic_store_explicit(&run->diverged, 1, memory_order_relaxed);
    if (run->mode == FO_SERIAL) {
        /* At the end of an epoch too: looking at the model there must not change its bits. */
        if (last) {
            look_serial(run);
            forget(run, (batch + 1) / batches);
        }
    } else if (run->mode == FO_SHARED || me->since >= run->merge_rows || me->walk.scale < SMALL) {
        fo_hogwild_merge(run, me);
    } else {
        return 1;
    }
    fo_hogwild_observe(run, me, fo_hogwild_first_block(run, batch + 1));
    return 1;
}

/* More workers than threads take turns. */
static void body(void *ctx, int k, int n) {
    fo_hogwild *run = (fo_hogwild *)ctx;
    const unsigned mode = fo_flush_subnormals();
    for (int working = 1; working;) {
        working = 0;
        for (int w = k; w < run->workers; w += n) working |= turn(run, run->worker + w);
    }
    fo_restore_subnormals(mode);
}

/* The last batch up to which the scale of a shared model, 1 at `start`, stays above SMALL. */
static ptrdiff_t until_small(const fo_hogwild *run, ptrdiff_t stop) {
    ptrdiff_t low = run->start + 1, high = stop;
    while (low < high) {
        const ptrdiff_t middle = high - (high - low) / 2;
        if (shrunk(run, fo_hogwild_first_block(run, middle)) >= SMALL)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

void fo_hogwild_slice(fo_hogwild *run, ptrdiff_t start, ptrdiff_t stop, int threads) {
    if (run->way == FO_ROUNDS) {
        fo_rounds_slice(run, start, stop, threads);
        return;
    }
    fo_body *work = run->way == FO_ROUND_ROBIN ? fo_round_robin : body;
    while (start < stop && !run->diverged) {
        run->start = start;
        run->stop = run->mode == FO_SHARED ? until_small(run, stop) : stop;
        atomic_store(&run->next, start);
        atomic_store(&run->ticket, 0);
        fo_parallel(work, run, threads < run->workers ? threads : run->workers);
        start = run->stop;
        if (run->mode == FO_SHARED) {
            double scale = shrunk(run, fo_hogwild_first_block(run, start));
            fold(run, run->w, &scale);
            for (int k = 0; k < run->workers; k++) run->worker[k].walk.scale = 1;
        }
    }
}

void fo_hogwild_settle(fo_hogwild *run) {
    if (run->mode == FO_SERIAL) {
        look_serial(run);
        for (ptrdiff_t c = 0; c < run->outputs; c++)
            run->intercepts[c] = run->worker->intercepts[c];
        return;
    }
    const fo_worker *last = run->worker;
    for (int k = 0; k < run->workers; k++) {
        if (run->worker[k].since > 0) fo_hogwild_merge(run, run->worker + k);
        if (run->worker[k].walk.t > last->walk.t) last = run->worker + k;
    }
    catch_up(run, last);
}
