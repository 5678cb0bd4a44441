/* Passes over all rows: margins, losses, slopes, and the check of arrays from outside. Sums are
   made in an order that depends on nothing but the number of rows. */
#include <string.h>

#include "hogwild.h"

enum { BATCH = FO_MANY }; /* rows whose margins are kept at once */

typedef struct {
    const fo_samples *s;
    const void *w;
    double intercept, *out;
    int loss;
    double shape;
    const fo_user *user;
} pass;

static void margins_body(void *ctx, int k, int n) {
    const pass *p = (const pass *)ctx;
    const ptrdiff_t rows = p->s->rows, low = rows / n * k + (k < rows % n ? k : rows % n);
    const ptrdiff_t high = low + rows / n + (k < rows % n);
    fo_current()->sparse->margins[p->s->dtype][p->s->index_type](p->s, p->w, p->intercept, low,
                                                                 high, p->out + low);
}

void fo_samples_margins(const fo_samples *s, const void *w, double intercept, double *out,
                        int threads) {
    pass p = {.s = s, .w = w, .intercept = intercept, .out = out};
    fo_parallel(margins_body, &p, threads);
}

ptrdiff_t fo_samples_partials(const fo_samples *s) { return (s->rows + BATCH - 1) / BATCH; }

/* The targets of n rows from `low` on. */
static void targets(const fo_samples *s, ptrdiff_t low, ptrdiff_t n, double *y) {
    if (s->codes)
        for (ptrdiff_t i = 0; i < n; i++) y[i] = s->codes[low + i] == s->positive ? 1 : -1;
    else if (s->dtype == FO_F32)
        for (ptrdiff_t i = 0; i < n; i++) y[i] = (double)((const float *)s->y)[low + i];
    else
        memcpy(y, (const double *)s->y + low, (size_t)n * sizeof *y);
}

void fo_samples_ask(const fo_samples *s, int loss, double shape, const fo_user *user, ptrdiff_t low,
                    ptrdiff_t n, const double *p, double *value, double *derivative) {
    double y[FO_MANY];
    targets(s, low, n, y);
    if (!user) {
        fo_current()->sparse->many[loss](n, p, y, shape, value, derivative);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        double slope = 0; /* where it writes none */
        const double v = fo_ask(user, p[i], y[i], &slope);
        if (value) value[i] = v;
        if (derivative) derivative[i] = slope;
    }
}

/* The weighted sum of numbers of rows from `low` on. */
static double weighted(const fo_samples *s, ptrdiff_t low, ptrdiff_t n, const double *of) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double weight = s->weights ? fo_element(s->dtype, s->weights, low + i) : 1;
        if (weight != 0) sum += weight * of[i]; /* a loss may be infinite */
    }
    return sum;
}

/* The sum of what the threads put into out, one number for each BATCH rows. */
static double sum_over(pass *p, fo_body *body, int threads) {
    double sum = 0;
    fo_parallel(body, p, threads);
    for (ptrdiff_t b = 0; b < fo_samples_partials(p->s); b++) sum += p->out[b];
    return sum;
}

/* The losses of the rows [low, high), at most BATCH. */
static void losses_of(const pass *p, ptrdiff_t low, ptrdiff_t high, double *out) {
    const fo_samples *s = p->s;
    fo_current()->sparse->margins[s->dtype][s->index_type](s, p->w, p->intercept, low, high, out);
    fo_samples_ask(s, p->loss, p->shape, p->user, low, high - low, out, out, NULL);
}

static void loss_body(void *ctx, int k, int n) {
    const pass *p = (const pass *)ctx;
    const fo_samples *s = p->s;
    double loss[BATCH];
    for (ptrdiff_t b = k; b < fo_samples_partials(s); b += n) {
        const ptrdiff_t low = b * BATCH, high = low + BATCH < s->rows ? low + BATCH : s->rows;
        losses_of(p, low, high, loss);
        p->out[b] = weighted(s, low, high - low, loss);
    }
}

static void losses_body(void *ctx, int k, int n) {
    const pass *p = (const pass *)ctx;
    for (ptrdiff_t b = k; b < fo_samples_partials(p->s); b += n) {
        const ptrdiff_t low = b * BATCH, high = low + BATCH < p->s->rows ? low + BATCH : p->s->rows;
        losses_of(p, low, high, p->out + low);
    }
}

static pass of_losses(const fo_samples *s, int loss, double shape, const fo_user *user,
                      const void *w, double intercept, double *out) {
    return (pass){.s = s,
                  .w = w,
                  .intercept = intercept,
                  .out = out,
                  .loss = loss,
                  .shape = shape,
                  .user = user};
}

void fo_samples_losses(const fo_samples *s, int loss, double shape, const fo_user *user,
                       const void *w, double intercept, double *out, int threads) {
    pass p = of_losses(s, loss, shape, user, w, intercept, out);
    fo_parallel(losses_body, &p, threads);
}

double fo_samples_loss(const fo_samples *s, int loss, double shape, const fo_user *user,
                       const void *w, double intercept, double *partials, int threads) {
    pass p = of_losses(s, loss, shape, user, w, intercept, partials);
    return sum_over(&p, loss_body, threads);
}

static void slope_body(void *ctx, int k, int n) {
    const pass *p = (const pass *)ctx;
    const fo_samples *s = p->s;
    const double *margins = (const double *)p->w;
    double slopes[BATCH];
    for (ptrdiff_t b = k; b < fo_samples_partials(s); b += n) {
        const ptrdiff_t low = b * BATCH, count = low + BATCH < s->rows ? BATCH : s->rows - low;
        for (ptrdiff_t i = 0; i < count; i++) slopes[i] = margins[low + i] + p->intercept;
        fo_samples_ask(s, p->loss, p->shape, NULL, low, count, slopes, NULL, slopes);
        p->out[b] = weighted(s, low, count, slopes);
    }
}

double fo_samples_slope(const fo_samples *s, int loss, double shape, const double *margins,
                        double intercept, double *partials, int threads) {
    pass p = of_losses(s, loss, shape, NULL, margins, intercept, partials);
    return sum_over(&p, slope_body, threads);
}

void fo_samples_copy(const fo_samples *s, ptrdiff_t count, const int64_t *rows, const int64_t *ends,
                     void *data, void *indices) {
    const size_t value = (size_t)fo_item_size[s->dtype],
                 index = (size_t)fo_index_size[s->index_type];
    for (ptrdiff_t k = 0; k < count; k++) {
        const size_t to = (size_t)ends[k], n = (size_t)(ends[k + 1] - ends[k]);
        const size_t from = (size_t)fo_pointer(s, (ptrdiff_t)rows[k]);
        memcpy((char *)data + to * value, (const char *)s->data + from * value, n * value);
        if (indices)
            memcpy((char *)indices + to * index, (const char *)s->indices + from * index,
                   n * index);
    }
}

void fo_samples_curvature(const fo_samples *s, ptrdiff_t stride, double one, void *h) {
    fo_current()->sparse->curvature[s->dtype][s->index_type](s, stride, one, h);
}

/* The row of what is wrong at or after a position is looked for only when something is wrong. */
static void check_body(void *ctx, int k, int n) {
    pass *p = (pass *)ctx;
    const fo_samples *s = p->s;
    const fo_sparse_kernels *kernels = fo_current()->sparse;
    const size_t value = (size_t)fo_item_size[s->dtype],
                 index = (size_t)fo_index_size[s->index_type];
    for (ptrdiff_t b = k; b < fo_samples_partials(s); b += n) {
        const ptrdiff_t low = b * BATCH, high = low + BATCH < s->rows ? low + BATCH : s->rows;
        const ptrdiff_t from = fo_pointer(s, low), count = fo_pointer(s, high) - from;
        int bad = 0;
        if (!kernels->within[s->index_type](count, (const char *)s->indices + (size_t)from * index,
                                            s->columns))
            bad = FO_BAD_INDEX;
        else if (!kernels->finite[s->dtype](count, (const char *)s->data + (size_t)from * value))
            bad = FO_BAD_VALUE;
        if (bad) p->out[b] = bad;
    }
}

int fo_samples_check(const fo_samples *s, ptrdiff_t length, double *partials, ptrdiff_t *where,
                     int threads) {
    for (ptrdiff_t i = 0; i < s->rows; i++) {
        const ptrdiff_t begin = fo_pointer(s, i), end = fo_pointer(s, i + 1);
        if ((i == 0 && begin != 0) || end < begin || end > length) {
            *where = i;
            return FO_BAD_POINTERS;
        }
    }
    pass p = {.s = s, .out = partials};
    memset(partials, 0, (size_t)fo_samples_partials(s) * sizeof *partials);
    fo_parallel(check_body, &p, threads);
    for (ptrdiff_t b = 0; b < fo_samples_partials(s); b++)
        if (partials[b] != 0) {
            const fo_sparse_kernels *kernels = fo_current()->sparse;
            const int bad = (int)partials[b];
            const char *data = (const char *)s->data, *indices = (const char *)s->indices;
            const ptrdiff_t value = fo_item_size[s->dtype], index = fo_index_size[s->index_type];
            ptrdiff_t i = b * BATCH;
            for (;; i++) {
                const ptrdiff_t from = fo_pointer(s, i), count = fo_pointer(s, i + 1) - from;
                if (bad == FO_BAD_INDEX
                        ? !kernels->within[s->index_type](count, indices + from * index, s->columns)
                        : !kernels->finite[s->dtype](count, data + from * value))
                    break;
            }
            *where = i;
            return bad;
        }
    return 0;
}
