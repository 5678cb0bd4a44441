/* What needs the norm of each row: clipping the gradient's rows, bounding the parameter's. */
#include <math.h>

#include "fastopt.h"

typedef struct {
    const fo_segment *s;
    double most;
    const fo_kernels *kernels;
    fo_array w, g, copy; /* with the elements of a row one after the other */
} rows_job;

typedef union {
    float f32[FO_BLOCK];
    double f64[FO_BLOCK];
} block_t;

/* The elements [start, start + n) of an array, in place if they lie there as they are needed. */
static const void *block_of(const rows_job *job, const fo_array *a, ptrdiff_t start, ptrdiff_t n,
                            block_t *block) {
    const int masked = a == &job->g && job->s->group->mask;
    if (a->contiguous && a->type == job->s->dtype && !masked)
        return a->data + start * fo_item_size[a->type];
    fo_gather(a, job->kernels, start, n, block);
    if (masked) job->kernels->stages[job->s->dtype].mask(n, block);
    return block;
}

static double reduced(const rows_job *job, const fo_array *a, ptrdiff_t row, int what,
                      double scale) {
    fo_reduce *reduce = job->kernels->reduce[what][job->s->dtype];
    double result = 0;
    block_t block;
    ptrdiff_t start = row * job->s->row;
    for (const ptrdiff_t end = start + job->s->row; start < end; start += FO_BLOCK) {
        const ptrdiff_t n = end - start < FO_BLOCK ? end - start : FO_BLOCK;
        const void *x = block_of(job, a, start, n, &block);
        const double some = reduce(n, scale, x, x);
        result =
            what == FO_ABSMAX ? (result > some || result != result ? result : some) : result + some;
    }
    return result;
}

static double norm_of_row(const rows_job *job, const fo_array *a, ptrdiff_t row) {
    const double squares = reduced(job, a, row, FO_SUMSQ, 1);
    if (squares > 1e-280 && squares < 1e300) return sqrt(squares);
    const double largest = reduced(job, a, row, FO_ABSMAX, 1);
    if (!(largest > 0) || isinf(largest)) return largest; /* 0, infinity or NaN */
    int exponent;
    frexp(largest, &exponent);
    exponent = exponent > 1000 ? 1000 : exponent < -1000 ? -1000 : exponent;
    return ldexp(sqrt(reduced(job, a, row, FO_SUMSQ, ldexp(1, -exponent))), exponent);
}

static void clip_body(void *ctx, int k, int n) {
    const rows_job *job = (const rows_job *)ctx;
    const ptrdiff_t rows = job->s->n / job->s->row, end = fo_part(rows, k + 1, n);
    for (ptrdiff_t row = fo_part(rows, k, n); row < end; row++) {
        const double norm = norm_of_row(job, &job->g, row);
        job->s->row_scale[row] = norm <= job->most ? 1 : job->most / norm;
    }
}

static void multiply_row(const rows_job *job, ptrdiff_t row, double factor) {
    const fo_segment *s = job->s;
    const fo_rounding nearest = {NULL, {0}};
    block_t block;
    ptrdiff_t start = row * s->row;
    for (const ptrdiff_t end = start + s->row; start < end; start += FO_BLOCK) {
        const ptrdiff_t n = end - start < FO_BLOCK ? end - start : FO_BLOCK;
        fo_gather(&job->w, job->kernels, start, n, &block);
        job->kernels->stages[s->dtype].multiply(n, &block, factor);
        fo_scatter(&job->w, job->kernels, start, n, &block, &nearest);
        if (s->copy.data) fo_scatter(&job->copy, job->kernels, start, n, &block, &nearest);
    }
}

static void project_body(void *ctx, int k, int n) {
    const rows_job *job = (const rows_job *)ctx;
    const ptrdiff_t rows = job->s->n / job->s->row, end = fo_part(rows, k + 1, n);
    for (ptrdiff_t row = fo_part(rows, k, n); row < end; row++) {
        const ptrdiff_t at = job->s->rows ? (ptrdiff_t)job->s->rows[row] : row;
        const double norm = norm_of_row(job, &job->w, at);
        if (norm > job->most) multiply_row(job, at, job->most / norm);
    }
}

/* The average of the weights, which are only now what they are after the step. */
static void average_body(void *ctx, int k, int n) {
    const rows_job *job = (const rows_job *)ctx;
    const fo_segment *s = job->s;
    const ptrdiff_t blocks = (s->n + FO_BLOCK - 1) / FO_BLOCK,
                    end = blocks / n * (k + 1) + blocks % n * (k + 1) / n;
    const unsigned long long mode = fo_flush_subnormals();
    for (ptrdiff_t i = blocks / n * k + blocks % n * k / n; i < end; i++) {
        const ptrdiff_t start = i * FO_BLOCK;
        const ptrdiff_t count = s->n - start < FO_BLOCK ? s->n - start : FO_BLOCK;
        char *average = (char *)s->average + start * fo_item_size[s->dtype];
        block_t block;
        job->kernels->stages[s->dtype].average(
            count, average, block_of(job, &s->w, start, count, &block), s->group->average);
    }
    fo_restore_subnormals(mode);
}

static fo_array in_rows(const fo_segment *s, fo_array a) {
    if (s->reversed) a.contiguous = 0, a.reversed = 1;
    return a;
}

static void over_rows(fo_body *body, const fo_segment *s, double most, int threads) {
    rows_job job = {s, most, fo_current(), in_rows(s, s->w), in_rows(s, s->g), in_rows(s, s->copy)};
    const ptrdiff_t worth = s->n / 16384;
    if (s->n == 0) return;
    fo_parallel(body, &job, worth < threads ? (int)worth : threads);
}

void fo_clip_rows(const fo_segment *s, double most, int threads) {
    over_rows(clip_body, s, most, threads);
}

void fo_project_rows(const fo_segment *s, double most, int threads) {
    over_rows(project_body, s, most, threads);
    if (s->average && s->group->average > 0) over_rows(average_body, s, most, threads);
}
