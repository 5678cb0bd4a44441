/* Lock-free training with a learning rate for each column: what a run knows of its columns. */
#ifndef FASTOPT_COORDINATE_H
#define FASTOPT_COORDINATE_H

#include "hogwild.h"

/* Shared by all workers. */
struct fo_coordinate {
    int rule, loss;
    double l1, l2;  /* of the mean of the losses, as everywhere on the sparse side */
    double eps;     /* added to the root; of ftrl, beta */
    double b1, b2;  /* of adam's averages */
    void *state[2]; /* of dtype; adagrad has one */
    double *paid;   /* adagrad, adam with l2: the clock up to which a column has been shrunk */
};

#endif
