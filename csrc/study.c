/* Ways of sharing one model that the Hogwild! paper compares with, and what is measured of its own.

   rr        round-robin: workers work out their rows' derivatives at the same time and write in the
             order of the rows, each waiting for its turn (Langford, Smola, Zinkevich 2009).
   aig       a worker locks the weights that its row has, one lock each, before it reads them.
   hogbatch  a worker works out the derivatives of 16 rows and writes their sum, so that it
             touches the shared model 16 times less often where all rows have all columns
             (Sallinen, Satish, Smelyanskiy, Sury, Re 2016).

   All are for a shared model, whose L2 is that of hogwild.c. A watched row tells what other workers
   write while a worker is at it. */
#include "study.h"

#include <math.h>
#ifndef _WIN32
#include <sched.h>
#endif

/* What a waiting thread does the k-th time: threads may be more than processors. */
static void pause_waiting(int k) {
#ifndef _WIN32
    if (k > 64) sched_yield();
#else
    (void)k;
#endif
}

/* ---- one row in two parts ---- */

/* What the row's values are to be multiplied with and added to the weights. The intercept, which is
   the worker's own, moves here. */
static double row_factor(const fo_hogwild *run, fo_worker *me, ptrdiff_t i) {
    const fo_samples *s = &run->samples;
    const fo_sparse_kernels *kernels = fo_current()->sparse;
    fo_walk *walk = &me->walk;
    const double p =
        walk->scale * kernels->dot[s->dtype][s->index_type](s, run->w, i) + walk->intercept;
    const double y =
        s->codes ? (s->codes[i] == s->positive ? 1 : -1) : fo_element(s->dtype, s->y, i);
    const double weight = s->weights ? fo_element(s->dtype, s->weights, i) : 1;
    double g = 0;
    if (walk->user)
        fo_ask(walk->user, p, y, &g);
    else
        g = kernels->derivative[run->loss](p, y, walk->shape);
    g = weight > 0 ? g * weight : 0;
    walk->scale *= walk->keep;
    walk->intercept -= walk->gain * walk->step * g;
    walk->diverged |= !(fabs(p) <= 1e30);
    me->area += walk->step, me->net += walk->step;
    me->since++, me->rows++;
    me->nonzeros += fo_pointer(s, i + 1) - fo_pointer(s, i);
    return -walk->step / walk->scale * g;
}

static void write_row(const fo_hogwild *run, ptrdiff_t i, double factor) {
    const fo_samples *s = &run->samples;
    if (factor != 0) fo_current()->sparse->add[s->dtype][s->index_type](s, run->w, i, factor);
}

/* ---- rr ---- */

void fo_round_robin(void *ctx, int k, int n) {
    fo_hogwild *run = (fo_hogwild *)ctx;
    fo_worker *me = run->worker + k;
    const unsigned mode = fo_flush_subnormals();
    ptrdiff_t row[FO_BLOCKS * FO_ROWS], ends[FO_BLOCKS], number = 0;
    for (ptrdiff_t batch = run->start; batch < run->stop; batch++) {
        fo_hogwild_rows(run, batch, row, ends);
        for (ptrdiff_t b = 0; b < FO_BLOCKS; b++) {
            fo_hogwild_set_time(run, me, fo_hogwild_first_block(run, batch) + b);
            for (ptrdiff_t r = b ? ends[b - 1] : 0; r < ends[b]; r++, number++) {
                if (number % n != k) {
                    me->walk.scale *= me->walk.keep;
                    continue;
                }
                const double factor = row_factor(run, me, row[r]);
                for (int wait = 0;
                     atomic_load_explicit(&run->ticket, memory_order_acquire) != number; wait++)
                    pause_waiting(wait);
                write_row(run, row[r], factor);
                atomic_store_explicit(&run->ticket, number + 1, memory_order_release);
            }
        }
        fo_merge_intercepts(run, me, me->area);
        fo_hogwild_merge(run, me);
        if (k == 0) fo_hogwild_observe(run, me, fo_hogwild_first_block(run, batch + 1));
    }
    if (me->walk.diverged) atomic_store_explicit(&run->diverged, 1, memory_order_relaxed);
    fo_restore_subnormals(mode);
}

/* ---- aig ---- */

static ptrdiff_t column_of(const fo_samples *s, ptrdiff_t k) {
    return s->index_type == FO_I32 ? (ptrdiff_t)((const int32_t *)s->indices)[k]
                                   : (ptrdiff_t)((const int64_t *)s->indices)[k];
}

/* Gives back the locks of the elements [from, to) that `name` holds: a column may come twice. */
static void unlock(const fo_hogwild *run, ptrdiff_t from, ptrdiff_t to, uint16_t name) {
    for (ptrdiff_t k = from; k < to; k++) {
        _Atomic uint16_t *lock = run->locks + column_of(&run->samples, k);
        if (atomic_load_explicit(lock, memory_order_relaxed) == name)
            atomic_store_explicit(lock, 0, memory_order_release);
    }
}

/* Takes the locks of a row, or none of them. */
static int lock(const fo_hogwild *run, ptrdiff_t from, ptrdiff_t to, uint16_t name) {
    for (ptrdiff_t k = from; k < to; k++) {
        uint16_t holder = 0;
        if (!atomic_compare_exchange_strong_explicit(run->locks + column_of(&run->samples, k),
                                                     &holder, name, memory_order_acquire,
                                                     memory_order_relaxed) &&
            holder != name) {
            unlock(run, from, k, name); /* waiting with locks could be for ever */
            return 0;
        }
    }
    return 1;
}

void fo_train_locked(fo_hogwild *run, fo_worker *me, const ptrdiff_t *row, ptrdiff_t n) {
    const uint16_t name = (uint16_t)(me - run->worker + 1);
    for (ptrdiff_t r = 0; r < n; r++) {
        const ptrdiff_t from = fo_pointer(&run->samples, row[r]),
                        to = fo_pointer(&run->samples, row[r] + 1);
        for (int wait = 0; !lock(run, from, to, name); wait++) pause_waiting(wait);
        fo_hogwild_train(run, me, row[r], row[r] + 1);
        unlock(run, from, to, name);
    }
}

/* ---- hogbatch ---- */

void fo_train_micro(fo_hogwild *run, fo_worker *me, const ptrdiff_t *row, ptrdiff_t n) {
    const fo_samples *s = &run->samples;
    for (ptrdiff_t start = 0; start < n; start += FO_MICRO) {
        const ptrdiff_t count = n - start < FO_MICRO ? n - start : FO_MICRO;
        double factor[FO_MICRO];
        for (ptrdiff_t r = 0; r < count; r++) factor[r] = row_factor(run, me, row[start + r]);
        if (run->full)
            fo_current()->sparse->combine[s->dtype](s->columns, run->w, s->data, row + start,
                                                    factor, count);
        else
            for (ptrdiff_t r = 0; r < count; r++) write_row(run, row[start + r], factor[r]);
    }
}

int fo_samples_full(const fo_samples *s) {
    for (ptrdiff_t i = 0; i < s->rows; i++) {
        const ptrdiff_t from = fo_pointer(s, i);
        if (from != i * s->columns || fo_pointer(s, i + 1) - from != s->columns) return 0;
        for (ptrdiff_t j = 0; j < s->columns; j++)
            if (column_of(s, from + j) != j) return 0;
    }
    return 1;
}

/* ---- what others write meanwhile ---- */

void fo_train_watched(fo_hogwild *run, fo_worker *me, ptrdiff_t row) {
    const fo_samples *s = &run->samples;
    const fo_sparse_kernels *kernels = fo_current()->sparse;
    double before[FO_SAMPLED];
    const ptrdiff_t watched = kernels->peek[s->dtype][s->index_type](s, run->w, row, before);
    const double factor = row_factor(run, me, row);
    if (factor == 0) return;
    me->watched += watched;
    kernels->contend[s->dtype][s->index_type](s, run->w, row, factor, before, &me->changed,
                                              &me->overwritten);
}
