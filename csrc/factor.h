/* Matrix completion: ratings put into blocks, and lock-free training of their factors. */
#ifndef FASTOPT_FACTOR_H
#define FASTOPT_FACTOR_H

#include "fastopt.h"
#include "order.h"

enum {
    FO_RATED_SQUARED,
    FO_RATED_ABSOLUTE,
    FO_RATED_LOGISTIC,
    FO_RATED_HINGE,
    FO_PAIRWISE,
    FO_RATED_LOSSES
};
enum { FO_CHUNKS = 64 }; /* parts of the ratings, whatever the number of threads */
enum { FO_NEAR = 16 };   /* rows whose ratings lie together in a block */
enum { FO_LINE = 64 };   /* bytes: rows of factors start at multiples of it */

/* ---- what the caller has (ratings.c) ---- */

/* The users or the items of all ratings: an index each, `stride` bytes apart; or, if `pointers`,
   at[r] is where the ratings of row r start. */
typedef struct {
    const void *at;
    int type, pointers;
    ptrdiff_t stride, size; /* size: rows */
} fo_axis;

enum { FO_Y_F32, FO_Y_F64, FO_Y_I32, FO_Y_I64 };

typedef struct {
    ptrdiff_t n; /* ratings */
    fo_axis axis[2];
    const void *y; /* NULL: ones */
    int y_type;
    ptrdiff_t y_stride;
    uint64_t seed, held; /* rating k is held out if its random number is below `held` */
} fo_ratings;

typedef struct {
    ptrdiff_t n, held;                   /* n: not held out */
    double first, sum, squares;          /* of their y - first */
    double least, most;                  /* of all */
    int zeros, ones, minus_ones, others; /* which values there are, of all */
} fo_ratings_facts;

/* The row of rating k on an axis. *row is that of a rating before it, 0 to begin with. */
static inline ptrdiff_t fo_axis_pointer(const fo_axis *a, ptrdiff_t row) {
    return a->type == FO_I32 ? (ptrdiff_t)((const int32_t *)a->at)[row]
                             : (ptrdiff_t)((const int64_t *)a->at)[row];
}
static inline ptrdiff_t fo_axis_row(const fo_axis *a, ptrdiff_t k, ptrdiff_t *row) {
    if (!a->pointers) {
        const char *at = (const char *)a->at + k * a->stride;
        return a->type == FO_I32 ? (ptrdiff_t) * (const int32_t *)at
                                 : (ptrdiff_t) * (const int64_t *)at;
    }
    while (fo_axis_pointer(a, *row + 1) <= k) ++*row;
    return *row;
}

enum { FO_RATINGS_POINTERS = 1, FO_RATINGS_INDEX, FO_RATINGS_VALUE };
/* What is wrong: 0, or one of these, on an axis, at a row (pointers) or rating. */
int fo_ratings_check(const fo_ratings *r, ptrdiff_t length, fo_ratings_facts *facts, int *axis,
                     ptrdiff_t *where, int threads);
/* How often rows occur among every stride-th rating. */
void fo_ratings_count(const fo_ratings *r, ptrdiff_t stride, int64_t *users, int64_t *items);

/* ---- the same in blocks ---- */

typedef struct {
    uint32_t u, i;
    float y;
} fo_rating_f32;
typedef struct {
    uint32_t u, i;
    double y;
} fo_rating_f64;

/* Users and items in `bands` equal bands each; place[a][r] is the row's place in the model. */
typedef struct {
    ptrdiff_t bands, width[2]; /* places in a band, of which sizes[a][band] are used */
    const uint32_t *place[2];
    const uint32_t *sizes[2];
} fo_grid;

/* Ratings of block (a, b), users' band and items' band: [start[a * bands + b], start[... + 1]). */
typedef struct {
    const fo_grid *grid;
    int dtype;
    void *ratings;
    int64_t *start;
    double factor, shift; /* ratings are factor * y + shift of the caller's */
} fo_blocks;

/* How many of the ratings, those held out or the others, are in which block: fills start and
   `cursors`, room for FO_CHUNKS * bands^2 numbers. Then puts them there, near rows together and in
   random order. Returns 0 if there is no memory. */
void fo_blocks_count(const fo_ratings *r, const fo_blocks *blocks, int held, int64_t *cursors,
                     int threads);
int fo_blocks_fill(const fo_ratings *r, const fo_blocks *blocks, int held, int64_t *cursors,
                   int threads);
/* Ratings of each place. */
void fo_blocks_degrees(const fo_blocks *blocks, int64_t *users, int64_t *items, int threads);
/* Each user's items in ascending order, without y: items[start[u]...]. 0 if there is no memory. */
int fo_blocks_items(const fo_blocks *blocks, const int64_t *start, uint32_t *items, int threads);

/* ---- the model and its training (factor.c) ---- */

typedef struct {
    int loss, dtype, biased, adaptive, nonnegative;
    ptrdiff_t rank;    /* padded to FO_LINE */
    void *rows[2];     /* factors of users and items */
    void *extra[2];    /* bias, and 1 + the sum of squares of its gradients, of each row */
    double mean;       /* added to all predictions */
    double step, gain; /* of factors; biases have gain times as much */
    double l2, l2_bias;
    double weight[2];    /* a user, an item: the square of weight * derivative joins its squares */
    const int64_t *seen; /* pairwise: where each user's items start in */
    const uint32_t *items;
} fo_factor_model;

/* Where negatives come from: an item's own band, or another one. */
typedef struct {
    uint64_t key;
    uint32_t first[2], size[2], own; /* own: share of the own band, of 2^32 */
} fo_negatives;

/* x times size, x being a share of 2^32. */
static inline uint32_t fo_share(uint32_t x, uint32_t size) {
    return (uint32_t)(((uint64_t)x * size) >> 32);
}

/* Whether a user has an item. */
static inline int fo_has(const fo_factor_model *m, uint32_t u, uint32_t i) {
    const uint32_t *low = m->items + m->seen[u];
    ptrdiff_t n = (ptrdiff_t)(m->seen[u + 1] - m->seen[u]);
    while (n > 0) {
        const ptrdiff_t half = n / 2;
        if (low[half] == i) return 1;
        if (low[half] < i)
            low += half + 1, n -= half + 1;
        else
            n = half;
    }
    return 0;
}

enum { FO_TRIES = 16 };
static const uint32_t FO_NONE = UINT32_MAX;

/* An item that the user does not have, by the rating's number; FO_NONE after some tries. */
static inline uint32_t fo_negative(const fo_factor_model *m, const fo_negatives *from, uint32_t u,
                                   uint64_t number) {
    for (uint64_t k = 0; k < FO_TRIES; k++) {
        const uint64_t x = fo_mix(from->key + number * FO_TRIES + k);
        const int other = (uint32_t)(x >> 32) >= from->own;
        const uint32_t i = from->first[other] + fo_share((uint32_t)x, from->size[other]);
        if (!fo_has(m, u, i)) return i;
    }
    return FO_NONE;
}

/* kernels.c: trains on n ratings, the first of which has a number, in order; returns 1 if it
   diverges. racy: other threads may be at the same rows. */
typedef int fo_factor_train(const fo_factor_model *m, const void *ratings, ptrdiff_t n, int racy,
                            const fo_negatives *from, uint64_t number);
/* out[k] = the prediction of a rating, or of a rating less that of negative[k]. */
typedef void fo_factor_margins(const fo_factor_model *m, const void *ratings, ptrdiff_t n,
                               const uint32_t *negative, double *out);

struct fo_factor_kernels {
    fo_factor_train *train[FO_RATED_LOSSES][FO_DTYPES];
    fo_factor_margins *margins[FO_DTYPES];
    double (*value[FO_RATED_LOSSES])(double p, double y, double a);
};

typedef struct {
    const fo_blocks *blocks;
    fo_factor_model model;
    uint64_t seed;
    int racy;        /* no thread waits for another: those ahead may meet rows of those behind */
    int64_t epoch;   /* set with fo_factor_epoch */
    uint32_t *order; /* of bands in this epoch: users', then items' */
    _Atomic int diverged;
    ptrdiff_t stop;
    char padding[128];
    _Atomic ptrdiff_t next; /* the next unit to hand out */
    char more_padding[128];
} fo_factor_run;

/* A unit is one band of users with one of items; pairwise, with two, whose items are each other's
   negatives. Units that follow each other have different bands: a round of them is independent. */
ptrdiff_t fo_factor_units(const fo_factor_run *run);
ptrdiff_t fo_factor_round(const fo_factor_run *run); /* units in a round */
void fo_factor_epoch(fo_factor_run *run, int64_t epoch);
/* The blocks of a unit, at most two; returns how many. */
int fo_factor_blocks(const fo_factor_run *run, ptrdiff_t unit, ptrdiff_t *blocks);
void fo_factor_slice(fo_factor_run *run, ptrdiff_t start, ptrdiff_t stop, int threads);

/* Over all ratings of a band of users, in an order that does not depend on threads; pairwise, over
   one draw of negatives. Returns 0 if there is no memory. */
typedef struct {
    double loss, count;
    double right, penalty; /* pairwise: pairs in the right order, and l2 of the negatives */
} fo_factor_sums;
int fo_factor_loss(const fo_factor_run *run, const fo_blocks *blocks, ptrdiff_t band,
                   fo_factor_sums *sums, int threads);
/* The sum of degree * (l2 / 2 * |factors|^2 + l2_bias / 2 * bias^2) over the rows of an axis. */
double fo_factor_penalty(const fo_factor_model *m, int axis, const int64_t *degrees,
                         ptrdiff_t rows);

/* The sum of squares of all factors of an axis. */
double fo_factor_squares(const fo_factor_model *m, int axis, ptrdiff_t rows);

/* out[k] = mean + biases + product of the factors of pair k, in double; rows as the caller has
   them: contiguous, of `rank` numbers; biases of FO_F64. */
void fo_factor_predict(const fo_ratings *pairs, int dtype, ptrdiff_t rank, const void *users,
                       const void *items, const double *user_biases, const double *item_biases,
                       double mean, double *out, int threads);

#endif
