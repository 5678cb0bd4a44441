/* Dual coordinate ascent over sparse rows: see dual.c. */
#ifndef FASTOPT_DUAL_H
#define FASTOPT_DUAL_H

#include "hogwild.h"

/* A loss by its dual: with s the row's weight, row i's own number b is what maximises
   target * b - epsilon * |b| - curve * b^2 / (2 s) - b * margin in [low * s, high * s]. For the
   losses of classes the bounds are those of y * b. Logistic has the entropy of y * b / s instead.
 */
typedef struct {
    int classes, logistic;
    double low, high, curve, epsilon;
} fo_dual_loss;

typedef struct {
    fo_samples samples;
    fo_dual_loss loss;
    double per;  /* 1 / (l2 * rows): the weights are per * sum(beta_i * x_i) */
    double gain; /* square of the intercept's column; 0: no intercept */
    void *beta;  /* per row, of the samples' dtype, as all that follows */
    void *before;
    const void *squares; /* per row: |x|^2 */
    uint8_t *rest;       /* per row: see dual.inc */
} fo_dual;

/* One worker: written by one thread at a time. */
typedef struct {
    void *w;
    double intercept, moved; /* sum of the changes of beta since the last merge */
    double slope[2];         /* of the separable part along this round's change, at its ends */
    double gap;              /* of the rows as they were met */
    double dots[2];          /* of its columns: model . change, change . change */
    ptrdiff_t low, high, rows, nonzeros;
    char padding[128];
} fo_dual_worker;

/* Walks the rows [low, high), at most FO_ROWS, in an order made from `key`; with several workers
   also notes what the line search needs. */
typedef void fo_ascend(const fo_dual *d, fo_dual_worker *me, ptrdiff_t low, ptrdiff_t high,
                       uint64_t key, int several);
/* The sum over rows of what the primal has more than the dual, and of the primal's losses. */
typedef void fo_dual_gaps(const fo_dual *d, const double *margins, double intercept, ptrdiff_t low,
                          ptrdiff_t high, double *out);

typedef double fo_dual_shift(const fo_dual *d, double shift, double *out);
typedef void fo_dual_swap(const fo_dual *d, double *betas, void *room);

/* What `rest` becomes at one more visit without a change, by the number of those before. */
extern const uint8_t fo_rest_after[16];

struct fo_dual_kernels {
    fo_ascend *ascend[FO_DTYPES][FO_INDEX_TYPES];
    fo_dual_gaps *gaps[FO_DTYPES];
    /* change[j] = sum_k copies[k][j] - w[j], into copies[0]; out: dots with w and with itself */
    void (*gather[FO_DTYPES])(ptrdiff_t n, int count, void *const *copies, ptrdiff_t at,
                              const void *w, double *out);
    /* w += share * copies[0]; all copies = w */
    void (*apply[FO_DTYPES])(ptrdiff_t n, int count, void *const *copies, ptrdiff_t at, void *w,
                             double share);
    void (*back[FO_DTYPES])(ptrdiff_t n, void *beta, const void *before, double share);
    fo_dual_shift *shifted[FO_DTYPES];
    fo_dual_swap *exchange[FO_DTYPES][FO_INDEX_TYPES];
    void (*squares[FO_DTYPES])(const fo_samples *s, ptrdiff_t low, ptrdiff_t high, void *out);
};

typedef struct {
    fo_dual d;
    int workers, shuffle;
    uint64_t seed;
    void *w;
    double intercept, sum; /* sum of all beta */
    fo_dual_worker *worker;
    void **copies;              /* of each worker */
    ptrdiff_t epoch, at, most;  /* blocks: done in this epoch, in it */
    ptrdiff_t stretch, longest; /* blocks in the next round, and at most */
    double gap;                 /* of the last whole epoch's rows as they were met */
    double met;
    double share;     /* of the last merge */
    ptrdiff_t rounds; /* left of this slice */
    fo_barrier barrier;
} fo_ascent;

void fo_dual_prepare(fo_ascent *run, int threads);
/* Some rounds, at least one and at most to the end of the epoch; returns 1 at that end. */
int fo_dual_slice(fo_ascent *run, ptrdiff_t rounds, int threads);
/* Takes shift from all betas, as far as their bounds let it, into out (double, per row); returns
   the sum of what comes out. */
double fo_dual_shifted(const fo_ascent *run, double shift, double *out);
/* Lets the betas be what `betas` has; returns |per * sum((new - old) * x)|^2, which is how far the
   weights of the new ones are from those of the old; `room`: zeros, as many as weights, or NULL
   where nobody asks how far. */
double fo_dual_exchange(fo_ascent *run, double *betas, void *room);
/* The duality gap and the primal's losses at margins plus an intercept, summed over all rows;
   partials: 2 per 256 rows. */
void fo_dual_measure(const fo_ascent *run, const double *margins, double intercept,
                     double *partials, double *gap, double *loss, int threads);

#endif
