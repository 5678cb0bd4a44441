/* Several classes at once: what multi.c and multi.inc add to the runner in hogwild.c.

   A model has a block of weights for each column, one weight per class and zeros up to the block's
   width, so that a row touches one piece of memory for each of its non-zeros. */
#ifndef FASTOPT_MULTI_H
#define FASTOPT_MULTI_H

#include "hogwild.h"

enum { FO_MULTI_LOSSES = 3 }; /* multi.inc */

/* The width of a block: a power of two, and from 64 bytes on whole cache lines. */
static inline ptrdiff_t fo_width(const fo_samples *s) {
    const ptrdiff_t line = 64 / fo_item_size[s->dtype];
    if (s->classes == 0) return 1;
    if (s->classes <= 4) return 4;
    if (s->classes <= 8) return 8;
    return (s->classes + line - 1) / line * line;
}

/* The loss of a row of class y with these scores; its derivative by each of them goes to g. */
typedef double fo_multi_value(ptrdiff_t classes, const double *p, ptrdiff_t y, double *g);
/* p[c] = x_i . w_c + intercepts[c], in double. */
typedef void fo_block_scores(const fo_samples *s, const void *w, const double *intercepts,
                             ptrdiff_t i, double *p);

struct fo_multi_kernels {
    /* Of one worker's weights; of weights that all share. */
    fo_train *train[FO_MULTI_LOSSES][2][FO_DTYPES][FO_INDEX_TYPES];
    const char *names[FO_MULTI_LOSSES];
    fo_multi_value *value[FO_MULTI_LOSSES];
    fo_block_scores *scores[FO_DTYPES][FO_INDEX_TYPES];
};

const char *fo_multi_loss_name(int loss); /* NULL past the last */
fo_train *fo_multi_train(const fo_samples *s, int loss, int shared);
/* Sum of weight * loss over all rows, in an order that depends on nothing but their number; each
   row's loss goes to `each`, if it is not NULL. Needs fo_multi_room(s, threads) doubles. */
double fo_multi_loss(const fo_samples *s, int loss, const void *w, const double *intercepts,
                     double *each, double *room, int threads);
ptrdiff_t fo_multi_room(const fo_samples *s, int threads);
/* The loss of one row with `classes` scores, and in g its derivative. */
double fo_multi_at(int loss, ptrdiff_t classes, const double *p, ptrdiff_t y, double *g);

#endif
