/* The full gradient of a loss over sparse rows: see gradient.c. */
#ifndef FASTOPT_GRADIENT_H
#define FASTOPT_GRADIENT_H

#include "hogwild.h"

/* What is differentiated: weights in float64, the intercept after them. */
struct fo_gradient {
    const fo_samples *s;
    double (*value)(double p, double y, double shape);
    double (*derivative)(double p, double y, double shape);
    const fo_user *user; /* or NULL */
    double shape;
    const double *w;
};

static inline double fo_loss_at(const fo_gradient *p, double margin, double y, double *derivative) {
    if (p->user) return fo_ask(p->user, margin, y, derivative);
    *derivative = p->derivative(margin, y, p->shape);
    return p->value(margin, y, p->shape);
}

/* The sum of weight * loss over all rows, and its gradient by the weights and by the intercept,
   into out (columns + 1 numbers). `room` has workers * (columns + 1) numbers and one more per
   worker: each adds up a share of the rows, so the bits depend on how many there are, not on
   threads. */
double fo_samples_gradient(const fo_samples *s, int loss, double shape, const fo_user *user,
                           const double *w, double *out, double *room, int workers, int threads);

#endif
