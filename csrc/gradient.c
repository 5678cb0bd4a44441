/* The full gradient of a loss over sparse rows, and its Hessian, in float64, for solvers that take
   whole steps. */
#include <string.h>

#include "gradient.h"

typedef struct {
    fo_gradient p;
    double *out, *room;
    double root, least;
    ptrdiff_t low, high;
    int workers;
} job;

static void rows_body(void *ctx, int k, int n) {
    const job *j = (const job *)ctx;
    const fo_samples *s = j->p.s;
    const ptrdiff_t size = s->columns + 1;
    for (int w = k; w < j->workers; w += n) {
        double *mine = j->room + w * size;
        memset(mine, 0, (size_t)size * sizeof *mine);
        const ptrdiff_t low = fo_part(s->rows, w, j->workers);
        j->room[j->workers * size + w] = fo_current()->sparse->gradient[s->dtype][s->index_type](
            &j->p, low, fo_part(s->rows, w + 1, j->workers), mine);
    }
}

static void columns_body(void *ctx, int k, int n) {
    const job *j = (const job *)ctx;
    const ptrdiff_t size = j->p.s->columns + 1;
    const ptrdiff_t low = fo_part(size, k, n), high = fo_part(size, k + 1, n);
    memcpy(j->out + low, j->room + low, (size_t)(high - low) * sizeof *j->out);
    for (int w = 1; w < j->workers; w++) {
        const double *theirs = j->room + w * size;
        for (ptrdiff_t i = low; i < high; i++) j->out[i] += theirs[i];
    }
}

double fo_samples_gradient(const fo_samples *s, int loss, double shape, const fo_user *user,
                           const double *w, double *out, double *room, int workers, int threads) {
    job j = {.p = {s, loss, shape, user, w}, .out = out, .room = room, .workers = workers};
    fo_parallel(rows_body, &j, threads < workers ? threads : workers);
    fo_parallel(columns_body, &j, threads);
    double sum = 0;
    for (int k = 0; k < workers; k++) sum += room[workers * (s->columns + 1) + k];
    return sum;
}

static void hessian_body(void *ctx, int k, int n) {
    const job *j = (const job *)ctx;
    const fo_samples *s = j->p.s;
    const ptrdiff_t size = s->columns + 1, rows = j->high - j->low;
    for (int w = k; w < j->workers; w += n)
        fo_current()->sparse->hessian[s->dtype][s->index_type](
            &j->p, j->root, j->least, j->low + fo_part(rows, w, j->workers),
            j->low + fo_part(rows, w + 1, j->workers), j->room + w * size * size);
}

void fo_samples_hessian(const fo_samples *s, int loss, double shape, const fo_user *user,
                        const double *w, double root, double least, ptrdiff_t low, ptrdiff_t high,
                        double *room, int workers, int threads) {
    job j = {.p = {s, loss, shape, user, w},
             .room = room,
             .root = root,
             .least = least,
             .low = low,
             .high = high,
             .workers = workers};
    fo_parallel(hessian_body, &j, threads < workers ? threads : workers);
}
