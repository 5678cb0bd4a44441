/* Factorization machines (Rendle 2010): a model over sparse rows, and its lock-free training. */
#ifndef FASTOPT_FM_H
#define FASTOPT_FM_H

#include "hogwild.h"

enum { FO_FM_RANK = 256 }; /* the most factors: a multiple of a line of either type */

/* The prediction is intercept + w . x + the sum over all pairs i < j of (v_i . v_j) x_i x_j. */
typedef struct {
    int adaptive;
    ptrdiff_t rank;   /* padded to FO_LINE */
    ptrdiff_t stride; /* of rows: rank, and as much for the sums of squares if adaptive */
    void *rows;       /* each column's factors, then the sums of squares of their derivatives */
    void *extra;      /* each column's weight, and that sum */
    int loss;
    double shape;                          /* the loss's own number */
    double step, weight_step, factor_step; /* step: of the intercept; 0 leaves it alone */
    double l2_weight, l2_factor;
} fo_fm_model;

/* What one worker carries from row to row. */
typedef struct {
    double intercept, square; /* square: of the intercept's derivatives */
    int diverged;
} fo_fm_walk;

/* kernels.c: SGD over the rows order[0], ..., order[n - 1]; a prediction for each of the rows
   [low, high). */
typedef void fo_fm_train(const fo_fm_model *m, const fo_samples *s, fo_fm_walk *walk,
                         const ptrdiff_t *order, ptrdiff_t n);
typedef void fo_fm_margins(const fo_fm_model *m, const fo_samples *s, double intercept,
                           ptrdiff_t low, ptrdiff_t high, double *out);

struct fo_fm_kernels {
    fo_fm_train *train[2][FO_DTYPES][FO_INDEX_TYPES]; /* plain, adaptive */
    fo_fm_margins *margins[FO_DTYPES][FO_INDEX_TYPES];
};

typedef struct {
    fo_samples samples;
    fo_fm_model model;
    int shuffle;
    uint64_t seed;
    _Atomic double intercept, square;
    _Atomic int diverged;
    ptrdiff_t stop;
    char padding[128];
    _Atomic ptrdiff_t next; /* the next batch to hand out */
    char more_padding[128];
} fo_fm;

ptrdiff_t fo_fm_batches(ptrdiff_t rows); /* batches in an epoch */
/* Trains on the batches [start, stop), counted from the first epoch on. */
void fo_fm_slice(fo_fm *run, ptrdiff_t start, ptrdiff_t stop, int threads);
/* Over rows that need not be the run's: the sum of weight * loss, in an order that depends on
   nothing but their number, with room for fo_samples_partials(s) numbers; the predictions. */
double fo_fm_loss(const fo_fm *run, const fo_samples *s, double *partials, int threads);
void fo_fm_predict(const fo_fm *run, const fo_samples *s, double *out, int threads);
/* counts[j] += the rows that have a column with a value other than 0. */
void fo_samples_count(const fo_samples *s, int64_t *counts);
/* The rows [low, high) as samples of their own. */
fo_samples fo_samples_part(const fo_samples *s, ptrdiff_t low, ptrdiff_t high);

#endif
