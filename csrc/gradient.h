/* The full gradient of a loss over sparse rows: see gradient.c. */
#ifndef FASTOPT_GRADIENT_H
#define FASTOPT_GRADIENT_H

#include "hogwild.h"

/* What is differentiated: weights in float64, the intercept after them. */
struct fo_gradient {
    const fo_samples *s;
    int loss;
    double shape;
    const fo_user *user; /* or NULL */
    const double *w;
};

/* The sum of weight * loss over all rows, and its gradient by the weights and by the intercept,
   into out (columns + 1 numbers). `room` has workers * (columns + 1) numbers and one more per
   worker: each adds up a share of the rows, so the bits depend on how many there are, not on
   threads. */
double fo_samples_gradient(const fo_samples *s, int loss, double shape, const fo_user *user,
                           const double *w, double *out, double *room, int workers, int threads);

/* Adds the Hessian of the rows [low, high) to room, a matrix of (columns + 1)^2 numbers for each
   worker, of which it is the sum. The intercept is root * its weight. Its column is not that of the
   Hessian, which is its row, but what the diagonal lacks: see gradient.inc, also of `least`, with
   which 0 takes every row. */
void fo_samples_hessian(const fo_samples *s, int loss, double shape, const fo_user *user,
                        const double *w, double root, double least, ptrdiff_t low, ptrdiff_t high,
                        double *room, int workers, int threads);

#endif
