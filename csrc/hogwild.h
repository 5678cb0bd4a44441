/* Lock-free training over sparse rows: the data, one worker's state, and the whole run. */
#ifndef FASTOPT_HOGWILD_H
#define FASTOPT_HOGWILD_H

#include "fastopt.h"
#include "user.h"

enum { FO_LOSSES = 11 };              /* losses.inc */
enum { FO_USER_LOSS = FO_LOSSES };    /* the caller's, after them */
enum { FO_ROWS = 64, FO_BLOCKS = 8 }; /* rows in a block, blocks in a batch: see hogwild.c */

/* Rows in CSR form with their targets. Where codes is set, the target is +1 for the rows whose
   code is `positive` and -1 for the others; with `classes`, the target is the code itself, and the
   model has a block of weights for each column (multi.h). */
typedef struct {
    int dtype, index_type, pointer_type;
    ptrdiff_t rows, columns;
    const void *data, *indices, *indptr;
    const void *y;        /* of dtype, or NULL */
    const int64_t *codes; /* or NULL */
    int64_t positive;
    ptrdiff_t classes;   /* or 0 */
    const void *weights; /* of dtype and mean 1, or NULL */
} fo_samples;

static inline ptrdiff_t fo_pointer(const fo_samples *s, ptrdiff_t i) {
    return s->pointer_type == FO_I32 ? (ptrdiff_t)((const int32_t *)s->indptr)[i]
                                     : (ptrdiff_t)((const int64_t *)s->indptr)[i];
}

typedef struct fo_coordinate fo_coordinate; /* coordinate.h */

/* What one worker carries from row to row. Its weights are scale * v; L2 shrinks the scale. */
typedef struct {
    double step, keep; /* of each row: the learning rate, and what L2 leaves of the weights */
    double scale, intercept;
    double gain;         /* the intercept's step is gain times as long; 0 leaves it alone */
    double shape;        /* the loss's own number */
    const fo_user *user; /* the caller's loss, or NULL */
    int diverged;
    double *intercepts; /* several classes: one for each, */
    void *room;         /* and room for two blocks */
    /* Of the careful loop alone: see hogwild.inc. */
    void *paid;                /* L1, or NULL: what each column has paid, with the weight's sign */
    double l1, due;            /* its strength; what a column that was never 0 would have paid */
    void *lag;                 /* the mean of all rows' models, or NULL */
    double sum, intercept_sum; /* of the scales since lag was 0, of the intercepts from the start */
    ptrdiff_t wait, averaged;  /* rows until the mean begins, rows in it */
    int positive, aggressive;  /* no weight below 0; 1 and 2: PA-I and PA-II */
    double most;               /* the largest derivative; infinite unless asked for */
    int clipped;               /* whether one was larger */
    double max_norm, square;   /* bound of the model's norm, or 0; |v|^2 */
    /* Of rules with a rate for each column: see coordinate.inc. */
    const fo_coordinate *coordinate; /* or NULL */
    double t, clock;                 /* rows so far, and the sum of their steps */
    double corrected;                /* rows until the start of adam's averages is forgotten */
    double own[2];                   /* states of the intercept */
} fo_walk;

typedef struct fo_worker fo_worker;

/* kernels.c: SGD over the rows [low, high), one after the other. */
typedef void fo_train(const fo_samples *s, fo_walk *walk, void *v, ptrdiff_t low, ptrdiff_t high);
/* out[k] = x_i . w + intercept of row i = low + k. */
typedef void fo_margins(const fo_samples *s, const void *w, double intercept, ptrdiff_t low,
                        ptrdiff_t high, double *out);
/* Losses and their derivatives of n predictions, at most FO_MANY: see margins.inc. */
enum { FO_MANY = 256 };
typedef void fo_many(ptrdiff_t n, const double *p, const double *y, double shape, double *value,
                     double *derivative);
/* h[j] += |x_ij| * |x_i|_1 for the rows 0, stride, ..., the intercept being a column of the value
   `one`. */
typedef void fo_curvature(const fo_samples *s, ptrdiff_t stride, double one, void *h);
/* See hogwild.inc. */
typedef void fo_merge(ptrdiff_t n, void *v, double scale, void *base, void *shared, const void *h,
                      double area, double stretch, double workers);
typedef void fo_observe(ptrdiff_t n, const void *v, double scale, void *average, double share);
typedef void fo_scale(ptrdiff_t n, void *v, double scale);
typedef void fo_pay(ptrdiff_t n, const fo_walk *walk, void *v);
typedef void fo_mean(ptrdiff_t n, const void *v, double sum, void *lag, void *average, double old,
                     double share);
/* See study.inc: parts of what a row does, v being the weights without their scale. */
typedef double fo_row_dot(const fo_samples *s, const void *v, ptrdiff_t i);
typedef void fo_row_add(const fo_samples *s, void *v, ptrdiff_t i, double factor);
/* The weights of a row's first elements, into before; returns how many. */
typedef ptrdiff_t fo_row_peek(const fo_samples *s, const void *v, ptrdiff_t i, double *before);
/* As fo_row_add, counting weights that are no longer as before, and writes of others in the middle
   of ours. */
typedef void fo_row_contend(const fo_samples *s, void *v, ptrdiff_t i, double factor,
                            const double *before, ptrdiff_t *changed, ptrdiff_t *overwritten);
typedef void fo_combine(ptrdiff_t n, void *v, const void *data, const ptrdiff_t *row,
                        const double *factor, ptrdiff_t count);
typedef void fo_end_round(ptrdiff_t n, ptrdiff_t from, void *w, const void *h, double workers,
                          fo_worker *worker);
/* Adds the gradient of weight * loss over the rows [low, high) to out; returns the losses' sum. See
   gradient.h. */
typedef struct fo_gradient fo_gradient;
typedef double fo_gradient_of(const fo_gradient *p, ptrdiff_t low, ptrdiff_t high, double *out);
typedef void fo_hessian_of(const fo_gradient *p, double root, double least, ptrdiff_t low,
                           ptrdiff_t high, double *out);
/* 1 if all n numbers are finite; 1 if all n indices lie in [0, columns). */
typedef int fo_finite(ptrdiff_t n, const void *x);
typedef int fo_within(ptrdiff_t n, const void *indices, ptrdiff_t columns);

/* coordinate.inc: all columns of w as they are at the walk's time. */
typedef void fo_catch_up_columns(ptrdiff_t n, const fo_walk *walk, void *w);

enum { FO_ADAGRAD, FO_ADAM, FO_FTRL, FO_COORDINATE_RULES };

struct fo_sparse_kernels {
    fo_train *train[2][FO_LOSSES + 1][FO_DTYPES][FO_INDEX_TYPES]; /* plain, careful */
    const char *loss_names[FO_LOSSES];
    fo_many *many[FO_LOSSES];
    double (*derivative[FO_LOSSES])(double p, double y, double shape);
    fo_margins *margins[FO_DTYPES][FO_INDEX_TYPES];
    fo_gradient_of *gradient[FO_DTYPES][FO_INDEX_TYPES];
    fo_hessian_of *hessian[FO_DTYPES][FO_INDEX_TYPES];
    fo_curvature *curvature[FO_DTYPES][FO_INDEX_TYPES];
    fo_merge *merge[FO_DTYPES];
    fo_observe *observe[FO_DTYPES];
    fo_scale *scale[FO_DTYPES];
    fo_pay *pay[FO_DTYPES];
    fo_mean *mean[FO_DTYPES];
    fo_row_dot *dot[FO_DTYPES][FO_INDEX_TYPES];
    fo_row_add *add[FO_DTYPES][FO_INDEX_TYPES];
    fo_row_peek *peek[FO_DTYPES][FO_INDEX_TYPES];
    fo_row_contend *contend[FO_DTYPES][FO_INDEX_TYPES];
    fo_combine *combine[FO_DTYPES];
    fo_end_round *end_round[FO_DTYPES];
    fo_finite *finite[FO_DTYPES];
    fo_within *within[FO_INDEX_TYPES];
    fo_train *coordinate[FO_COORDINATE_RULES][FO_DTYPES][FO_INDEX_TYPES];
    fo_catch_up_columns *catch_up_columns[FO_DTYPES];
};

enum { FO_SERIAL, FO_COPIES, FO_SHARED };
/* How that is done: as hogwild.c says; copies in rounds (rounds.c); shared, in one of the ways of
   study.c. */
enum { FO_PLAIN, FO_ROUNDS, FO_HOGBATCH, FO_ROUND_ROBIN, FO_LOCKED };
/* Of the rows: the data's; random blocks; random blocks whose rows take turns; single rows at
   random; those that the caller gives for each epoch. */
enum { FO_SEQUENTIAL, FO_SHUFFLED, FO_TURNS, FO_SINGLY, FO_GIVEN };
enum { FO_INVERSE_TIME, FO_CONSTANT, FO_EPOCH_DECAY, FO_POWER };

/* The rows of a batch, block by block: [low, high) where they lie together, else those of `row`,
   block b's before high[b]. Of a shared model's the first one is watched. */
typedef struct {
    ptrdiff_t batch;
    int together, watch;
    ptrdiff_t low[FO_BLOCKS], high[FO_BLOCKS], row[FO_BLOCKS * FO_ROWS];
} fo_batch;

/* One worker: written by one thread at a time, read by nobody else. */
struct fo_worker {
    fo_walk walk;
    void *v, *base; /* copies: own weights, and what they were at the last merge */
    double *intercepts, *base_intercepts; /* of all outputs: now, and at the last merge */
    double area, net;                     /* sums of steps since the last merge: as they */
    double stretch;                       /* were taken, and by the schedule; their ratio now */
    double met[2];                        /* rounds: area and net as intercepts were merged */
    ptrdiff_t since;                      /* rows since the last merge */
    ptrdiff_t rows, nonzeros;
    ptrdiff_t watched, changed, overwritten; /* shared: weights of watched rows, see study.c */
    fo_batch of;                             /* rounds: where it is */
    char padding[128];
};

/* How many times as long a worker's steps since the last merge were as the schedule's. */
static inline double fo_stretch(const fo_worker *me) {
    return me->net > 0 ? me->area / me->net : 1;
}

typedef _Atomic double fo_shared_double;

typedef struct {
    fo_samples samples;
    int loss, mode, way, schedule, order, workers;
    int full;                /* FO_HOGBATCH: all rows have all columns, in order */
    _Atomic uint16_t *locks; /* FO_LOCKED: of each weight, the number of the worker that has it */
    int careful;             /* the loop with everything in it: serial alone */
    double l2, step, decay;
    double rate, power; /* of the schedules: see total_step */
    double origin;      /* rows that earlier runs have trained on */
    uint64_t seed;
    const int64_t *given;     /* FO_GIVEN: the rows of this epoch, in order */
    ptrdiff_t n_given, epoch; /* how many; which epoch it is */
    double before;            /* rows that all earlier epochs had */
    double calm;              /* copies: the longest step that may be taken in place of a shorter */
    ptrdiff_t merge_rows;
    ptrdiff_t numbers, outputs; /* of the model: weights, and intercepts */
    void *w;                    /* the model: shared by all workers */
    fo_shared_double *intercepts;
    const void *h; /* copies: curvature per weight, and of the intercept */
    double h_intercept;
    void *average; /* or NULL: running mean of snapshots of the model */
    double *average_intercepts, snapshots;
    double forget;      /* snapshots weigh as their number to this power: 0 is a plain mean */
    ptrdiff_t gathered; /* rows in the average already */
    ptrdiff_t observed; /* block of the last snapshot */
    fo_flag observing;  /* a worker is at the average */
    fo_worker *worker;
    const fo_coordinate *coordinate; /* a rule with a rate for each column, or NULL */
    double earlier;                  /* rows it has seen in earlier runs */
    ptrdiff_t start, stop;           /* batches of this slice, counted from the first epoch on */
    _Atomic int diverged;
    char padding[128];
    _Atomic ptrdiff_t next;   /* the next batch to hand out */
    _Atomic ptrdiff_t ticket; /* FO_ROUND_ROBIN: the next row to be written */
    char more_padding[128];
} fo_hogwild;

const char *fo_loss_name(int loss);           /* NULL past the last */
ptrdiff_t fo_hogwild_batches(ptrdiff_t rows); /* batches in an epoch */
/* Lets an epoch have these rows, at most as many as there are: FO_GIVEN, before its first batch. */
void fo_hogwild_give(fo_hogwild *run, const int64_t *rows, ptrdiff_t count, ptrdiff_t epoch);
/* The rows of a batch in the order of visits, those of its b-th block being [ends[b - 1], ends[b]);
   returns their number. */
ptrdiff_t fo_hogwild_rows(const fo_hogwild *run, ptrdiff_t batch,
                          ptrdiff_t row[FO_BLOCKS * FO_ROWS], ptrdiff_t ends[FO_BLOCKS]);
/* Trains on the batches [start, stop); the model is in w only after fo_hogwild_settle. */
void fo_hogwild_slice(fo_hogwild *run, ptrdiff_t start, ptrdiff_t stop, int threads);
void fo_hogwild_settle(fo_hogwild *run);
double fo_hogwild_step(const fo_hogwild *run, double row); /* learning rate at a row */

/* What is wrong with the rows: 0, or one of these, at row *where. */
enum { FO_BAD_POINTERS = 1, FO_BAD_INDEX, FO_BAD_VALUE };
int fo_samples_check(const fo_samples *s, ptrdiff_t length, double *partials, ptrdiff_t *where,
                     int threads);
/* Sum of weight * loss over all rows, in an order that depends on nothing but their number.
   Needs room for fo_samples_partials(s) doubles, and so does the check. */
double fo_samples_loss(const fo_samples *s, int loss, double shape, const fo_user *user,
                       const void *w, double intercept, double *partials, int threads);
ptrdiff_t fo_samples_partials(const fo_samples *s);
/* The losses and derivatives, without weights, of n rows from `low` on, at most FO_MANY, at
   predictions p; value and derivative may be NULL, or p itself. */
void fo_samples_ask(const fo_samples *s, int loss, double shape, const fo_user *user, ptrdiff_t low,
                    ptrdiff_t n, const double *p, double *value, double *derivative);
/* The loss of each row, without its weight. */
void fo_samples_losses(const fo_samples *s, int loss, double shape, const fo_user *user,
                       const void *w, double intercept, double *out, int threads);
void fo_samples_margins(const fo_samples *s, const void *w, double intercept, double *out,
                        int threads);
/* The sum of weight * derivative over rows whose margins without the intercept are given. */
double fo_samples_slope(const fo_samples *s, int loss, double shape, const double *margins,
                        double intercept, double *partials, int threads);
/* Copies some rows, row k's elements to ends[k]; indices may be NULL. */
void fo_samples_copy(const fo_samples *s, ptrdiff_t count, const int64_t *rows, const int64_t *ends,
                     void *data, void *indices);
/* Curvature per column over every stride-th row, into h. */
void fo_samples_curvature(const fo_samples *s, ptrdiff_t stride, double one, void *h);

#endif
