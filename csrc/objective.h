/* Losses over dense predictions: value and gradient in one pass. Included by C files alone. */
#ifndef FO_OBJECTIVE_H
#define FO_OBJECTIVE_H

#include "fastopt.h"

enum { FO_SIGNS, FO_COUNTS, FO_NUMBERS, FO_TARGETS }; /* what targets may be */
/* The losses of each kind, from 0. */
#define CLASS_OBJECTIVES(X) X(softmax) X(weston_watkins) X(crammer_singer)
#define OBJECTIVES(X)                                                                              \
    X(logistic) X(hinge) X(squared_hinge) X(squared) X(absolute) X(huber) X(quantile) X(poisson)
#define FO_NUMBER_CLASSES(loss) FO_CLASSES_##loss,
#define FO_NUMBER_ELEMENTS(loss) FO_ELEMENTS_##loss,
enum { CLASS_OBJECTIVES(FO_NUMBER_CLASSES) FO_OF_CLASSES };
enum { OBJECTIVES(FO_NUMBER_ELEMENTS) FO_OF_ELEMENTS };

/* Of n elements, n <= FO_BLOCK: the gradient, times `scale` and the weight, may lie where the
   predictions do; `values` get the losses, times the weight. weight: NULL for none. */
typedef void fo_element_loss(ptrdiff_t n, const void *p, const void *y, const void *weight, void *g,
                             void *values, double parameter, double scale);

/* Of n rows of k scores each, n * k <= FO_BLOCK or n = 1; `labels` are within [0, k). */
typedef void fo_class_loss(ptrdiff_t n, ptrdiff_t k, const void *scores, const int64_t *labels,
                           const void *weight, void *g, double *values, double parameter,
                           double scale);

struct fo_objective_kernels {
    fo_class_loss *classes[FO_OF_CLASSES][FO_DTYPES];
    fo_element_loss *elements[FO_OF_ELEMENTS][FO_DTYPES];
    const char *class_names[FO_OF_CLASSES], *element_names[FO_OF_ELEMENTS];
    /* How many of n targets are not -1 or 1; not finite or negative; not finite. */
    ptrdiff_t (*bad[FO_TARGETS][FO_DTYPES])(ptrdiff_t n, const void *y);
};

typedef struct {
    int dtype, loss;
    ptrdiff_t rows, columns;    /* columns: 0 for losses of single elements */
    const void *p, *y, *weight; /* y: int64 labels of rows, or of dtype */
    void *g;                    /* may be p */
    void *values;               /* one for each row or element, of dtype; NULL: not wanted */
    double parameter, scale;    /* scale: of the gradient alone */
} fo_objective;

/* The number of a loss, or -1. */
int fo_objective_of_classes(const char *name);
int fo_objective_of_elements(const char *name);

/* Whether all targets are what they may be. */
int fo_objective_targets(int dtype, int what, ptrdiff_t n, const void *y, int threads);
int fo_objective_labels(ptrdiff_t n, const int64_t *y, ptrdiff_t classes);

/* The losses' sum over rows, added in an order that depends on the shape alone: in lanes and rows
   inside a block, blocks in order. `sums` has room for fo_objective_blocks(...) doubles. */
ptrdiff_t fo_objective_blocks(const fo_objective *o);
void fo_objective_run(const fo_objective *o, ptrdiff_t first_block, ptrdiff_t last_block,
                      double *sums, int threads);

#endif
