/* The full gradient of a loss over sparse rows, in float64, for solvers that take whole steps. */
#include <string.h>

#include "gradient.h"

typedef struct {
    fo_gradient p;
    double *out, *room;
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
    const fo_sparse_kernels *kernels = fo_current()->sparse;
    job j = {.p = {.s = s, .user = user, .shape = shape, .w = w},
             .out = out,
             .room = room,
             .workers = workers};
    if (!user) j.p.value = kernels->value[loss], j.p.derivative = kernels->derivative[loss];
    fo_parallel(rows_body, &j, threads < workers ? threads : workers);
    fo_parallel(columns_body, &j, threads);
    double sum = 0;
    for (int k = 0; k < workers; k++) sum += room[workers * (s->columns + 1) + k];
    return sum;
}
