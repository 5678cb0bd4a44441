/* Several classes at once: the tables' entries, and the objective's sum over all rows. */
#include "multi.h"

const char *fo_multi_loss_name(int loss) {
    return loss < FO_MULTI_LOSSES ? fo_current()->multi->names[loss] : NULL;
}

fo_train *fo_multi_train(const fo_samples *s, int loss, int shared) {
    return fo_current()->multi->train[loss][shared][s->dtype][s->index_type];
}

double fo_multi_at(int loss, ptrdiff_t classes, const double *p, ptrdiff_t y, double *g) {
    return fo_current()->multi->value[loss](classes, p, y, g);
}

enum { BATCH = 256 }; /* rows whose losses are added up before they join the others */

typedef struct {
    const fo_samples *s;
    int loss;
    const void *w;
    const double *intercepts;
    double *each, *partials, *room;
} pass;

static ptrdiff_t batches(const fo_samples *s) { return (s->rows + BATCH - 1) / BATCH; }

ptrdiff_t fo_multi_room(const fo_samples *s, int threads) {
    return batches(s) + 2 * threads * s->classes;
}

static double weight_of(const fo_samples *s, ptrdiff_t i) {
    if (!s->weights) return 1;
    return s->dtype == FO_F32 ? (double)((const float *)s->weights)[i]
                              : ((const double *)s->weights)[i];
}

static void body(void *ctx, int k, int n) {
    const pass *p = (const pass *)ctx;
    const fo_samples *s = p->s;
    const fo_multi_kernels *kernels = fo_current()->multi;
    double *score = p->room + 2 * k * s->classes, *derivative = score + s->classes;
    for (ptrdiff_t b = k; b < batches(s); b += n) {
        const ptrdiff_t low = b * BATCH, high = low + BATCH < s->rows ? low + BATCH : s->rows;
        double sum = 0;
        for (ptrdiff_t i = low; i < high; i++) {
            kernels->scores[s->dtype][s->index_type](s, p->w, p->intercepts, i, score);
            const double loss =
                kernels->value[p->loss](s->classes, score, (ptrdiff_t)s->codes[i], derivative);
            if (p->each) p->each[i] = loss;
            sum += weight_of(s, i) * loss;
        }
        p->partials[b] = sum;
    }
}

double fo_multi_loss(const fo_samples *s, int loss, const void *w, const double *intercepts,
                     double *each, double *room, int threads) {
    pass p = {.s = s,
              .loss = loss,
              .w = w,
              .intercepts = intercepts,
              .each = each,
              .partials = room,
              .room = room + batches(s)};
    fo_parallel(body, &p, threads);
    double sum = 0;
    for (ptrdiff_t b = 0; b < batches(s); b++) sum += p.partials[b];
    return sum;
}
