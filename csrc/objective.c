/* Losses over dense predictions: blocks of rows, shared out to threads. */
#include <string.h>

#include "hogwild.h"
#include "objective.h"

static int find(const char *const *names, int count, const char *name) {
    while (count-- > 0)
        if (strcmp(names[count], name) == 0) return count;
    return -1;
}

int fo_objective_of_classes(const char *name) {
    return find(fo_current()->objective->class_names, FO_OF_CLASSES, name);
}

int fo_objective_of_elements(const char *name) {
    return find(fo_current()->objective->element_names, FO_OF_ELEMENTS, name);
}

int fo_objective_labels(ptrdiff_t n, const int64_t *y, ptrdiff_t classes) {
    return fo_current()->sparse->within[FO_I64](n, y, classes);
}

typedef struct {
    int dtype, what;
    ptrdiff_t n;
    const char *y;
    _Atomic int bad;
} targets_t;

static void targets_body(void *ctx, int k, int n) {
    targets_t *job = (targets_t *)ctx;
    const ptrdiff_t blocks = (job->n + FO_BLOCK - 1) / FO_BLOCK,
                    end = blocks / n * (k + 1) + blocks % n * (k + 1) / n;
    ptrdiff_t bad = 0;
    for (ptrdiff_t b = blocks / n * k + blocks % n * k / n; b < end && !bad; b++) {
        const ptrdiff_t start = b * FO_BLOCK;
        const ptrdiff_t some = job->n - start < FO_BLOCK ? job->n - start : FO_BLOCK;
        bad = fo_current()->objective->bad[job->what][job->dtype](
            some, job->y + start * fo_item_size[job->dtype]);
    }
    if (bad) job->bad = 1;
}

int fo_objective_targets(int dtype, int what, ptrdiff_t n, const void *y, int threads) {
    targets_t job = {dtype, what, n, (const char *)y, 0};
    fo_parallel(targets_body, &job, fo_worth(n, threads));
    return !job.bad;
}

static ptrdiff_t rows_of_block(const fo_objective *o) {
    if (o->columns == 0) return FO_BLOCK;
    return o->columns < FO_BLOCK ? FO_BLOCK / o->columns : 1;
}

ptrdiff_t fo_objective_blocks(const fo_objective *o) {
    const ptrdiff_t rows = rows_of_block(o);
    return (o->rows + rows - 1) / rows;
}

typedef struct {
    const fo_objective *o;
    const fo_objective_kernels *kernels;
    fo_reduce *sum;
    ptrdiff_t first, last;
    double *sums;
} job_t;

static const void *at(const void *data, ptrdiff_t k, ptrdiff_t size) {
    return data ? (const char *)data + k * size : NULL;
}

static double of_elements(const job_t *job, ptrdiff_t start, ptrdiff_t n) {
    const fo_objective *o = job->o;
    const ptrdiff_t size = fo_item_size[o->dtype];
    double room[FO_BLOCK];
    void *values = o->values ? (void *)((char *)o->values + start * size) : room;
    job->kernels->elements[o->loss][o->dtype](
        n, at(o->p, start, size), at(o->y, start, size), at(o->weight, start, size),
        (char *)o->g + start * size, values, o->parameter, o->scale);
    return job->sum(n, 1, values, values);
}

static double of_classes(const job_t *job, ptrdiff_t start, ptrdiff_t n) {
    const fo_objective *o = job->o;
    const ptrdiff_t size = fo_item_size[o->dtype], k = o->columns;
    double values[FO_BLOCK], sum = 0;
    job->kernels->classes[o->loss][o->dtype](
        n, k, at(o->p, start * k, size), (const int64_t *)o->y + start, at(o->weight, start, size),
        (char *)o->g + start * k * size, values, o->parameter, o->scale);
    for (ptrdiff_t r = 0; r < n; r++) {
        sum += values[r];
        if (o->values && o->dtype == FO_F32) ((float *)o->values)[start + r] = (float)values[r];
        if (o->values && o->dtype == FO_F64) ((double *)o->values)[start + r] = values[r];
    }
    return sum;
}

static void body(void *ctx, int k, int n) {
    const job_t *job = (const job_t *)ctx;
    const fo_objective *o = job->o;
    const ptrdiff_t rows = rows_of_block(o), blocks = job->last - job->first,
                    end = job->first + blocks / n * (k + 1) + blocks % n * (k + 1) / n;
    const unsigned long long mode = fo_flush_subnormals();
    for (ptrdiff_t b = job->first + blocks / n * k + blocks % n * k / n; b < end; b++) {
        const ptrdiff_t start = b * rows, some = o->rows - start < rows ? o->rows - start : rows;
        job->sums[b] = o->columns ? of_classes(job, start, some) : of_elements(job, start, some);
    }
    fo_restore_subnormals(mode);
}

void fo_objective_run(const fo_objective *o, ptrdiff_t first, ptrdiff_t last, double *sums,
                      int threads) {
    const fo_kernels *kernels = fo_current();
    job_t job = {o, kernels->objective, kernels->reduce[FO_SUM][o->dtype], first, last, sums};
    const ptrdiff_t width = o->columns ? o->columns : 1;
    fo_parallel(body, &job, fo_worth((last - first) * rows_of_block(o) * width, threads));
}
