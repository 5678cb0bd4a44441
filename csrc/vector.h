/* The passes over vectors that solvers are made of: each writes what it computes and returns the
   sums of what it saw, so that a vector in memory is read once for both. */
#ifndef FO_VECTOR_H
#define FO_VECTOR_H

#include "fastopt.h"

/* Sums are in double, in fixed lanes and parts: the same bits for all instruction sets and threads.
   A pass takes its arrays in this order, those that it writes first. */
enum {
    FO_DOT_PASS, /* x, y:                          sum of x y, sum of x x; largest |x| */
    FO_COMBINE,  /* out, x, y, z; a, b:            out = a x + b y; sum of out z; largest |out| */
    FO_RECEIVE,  /* out, g, d:                     out = g; sums of g d, g g; largest |g| */
    FO_PAIR,     /* xn, s, y, x, d, gn, g; t:      xn = x + t d, s = xn - x, y = gn - g;
                                                   sums of s y, y y, s s, s gn */
    FO_PASSES
};
enum { FO_VECTOR_SUMS = 4, FO_VECTOR_RESULTS = FO_VECTOR_SUMS + 1, FO_VECTOR_ARRAYS = 7 };

/* On n contiguous elements; results are the sums, then the largest magnitude, where NaN is kept. */
typedef void fo_vector_kernel(ptrdiff_t n, const double *scalars, void *const *arrays,
                              double *results);
typedef struct fo_vector_kernels {
    fo_vector_kernel *passes[FO_PASSES][FO_DTYPES];
    int (*cholesky)(ptrdiff_t n, double *a, double *b); /* see cholesky.inc */
} fo_vector_kernels;

/* vector.c: one pass. `room` has FO_VECTOR_RESULTS doubles for each of fo_vector_parts(n). */
ptrdiff_t fo_vector_parts(ptrdiff_t n);
void fo_vector_pass(int pass, int dtype, ptrdiff_t n, const double *scalars, void *const *arrays,
                    double *results, double *room, int threads);
int fo_cholesky_solve(ptrdiff_t n, double *a, double *b);

#endif
