/* One pass over vectors in parts, whose sums are added in order: threads change no bit. */
#include "vector.h"

enum { PART = 8 * FO_BLOCK };

typedef struct {
    fo_vector_kernel *kernel;
    ptrdiff_t n, parts, item;
    const double *scalars;
    void *const *arrays;
    int count;
    double *room;
} vector_job;

static const int arrays_of[FO_PASSES] = {2, 4, 3, 7};

ptrdiff_t fo_vector_parts(ptrdiff_t n) { return n / PART + (n % PART != 0); }

static void vector_body(void *ctx, int k, int n) {
    const vector_job *job = (const vector_job *)ctx;
    const ptrdiff_t each = job->parts / n, left = job->parts % n;
    const ptrdiff_t first = each * k + left * k / n, last = each * (k + 1) + left * (k + 1) / n;
    for (ptrdiff_t part = first; part < last; part++) {
        const ptrdiff_t start = part * PART;
        void *arrays[FO_VECTOR_ARRAYS];
        for (int a = 0; a < job->count; a++) arrays[a] = (char *)job->arrays[a] + start * job->item;
        job->kernel(job->n - start < PART ? job->n - start : PART, job->scalars, arrays,
                    job->room + part * FO_VECTOR_RESULTS);
    }
}

void fo_vector_pass(int pass, int dtype, ptrdiff_t n, const double *scalars, void *const *arrays,
                    double *results, double *room, int threads) {
    vector_job job = {fo_current()->vector->passes[pass][dtype],
                      n,
                      fo_vector_parts(n),
                      fo_item_size[dtype],
                      scalars,
                      arrays,
                      arrays_of[pass],
                      room};
    fo_parallel(vector_body, &job, fo_worth(n / 2, threads)); /* a pass is short: large shares */
    for (int r = 0; r < FO_VECTOR_RESULTS; r++) results[r] = 0;
    for (ptrdiff_t part = 0; part < job.parts; part++, room += FO_VECTOR_RESULTS) {
        for (int r = 0; r < FO_VECTOR_SUMS; r++) results[r] += room[r];
        const double top = room[FO_VECTOR_SUMS];
        if (!(top <= results[FO_VECTOR_SUMS]) && results[FO_VECTOR_SUMS] == results[FO_VECTOR_SUMS])
            results[FO_VECTOR_SUMS] = top; /* a NaN stays */
    }
}

int fo_cholesky_solve(ptrdiff_t n, double *a, double *b) {
    return fo_current()->vector->cholesky(n, a, b);
}
