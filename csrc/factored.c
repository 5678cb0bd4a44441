/* Adafactor's second moments: of a matrix, the averages of its rows' and columns' mean squares; of
   a vector, of each square. The gradient is read three times: for the means, for the norm of the
   direction, and in the step itself. The direction is never stored. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "fastopt.h"

/* What has sums of its own, and is not cut between threads: a part of a matrix, some rows times
   FO_BLOCK columns, or some whole matrices. The rows are many, so that the columns' sums are small
   beside the matrix, and the parts of its height are not, for the same reason. */
enum { PART_ROWS = 128, PARTS = 64, PART_SIZE = 8 * FO_BLOCK };

typedef struct {
    const fo_segment *s;
    const fo_kernels *kernels;
    double scale;
    ptrdiff_t height, parts, chunks; /* rows of a part; parts of a matrix, in both directions */
    ptrdiff_t whole, pieces;         /* matrices in one part; parts in all */
    double *row_sums, *column_sums;  /* [chunks][all rows], [matrices][parts][columns] */
} moments_job;

typedef union {
    float f32[FO_BLOCK];
    double f64[FO_BLOCK];
} block_t;

static ptrdiff_t above(ptrdiff_t n, ptrdiff_t d) { return (n + d - 1) / d; }

static moments_job make_job(const fo_factored *f) {
    moments_job job = {.chunks = above(f->columns, FO_BLOCK), .whole = 1};
    job.height = above(f->rows, PARTS);
    if (job.height < PART_ROWS) job.height = f->rows < PART_ROWS ? f->rows : PART_ROWS;
    job.parts = above(f->rows, job.height);
    if (job.parts * job.chunks == 1 && f->rows * f->columns < PART_SIZE)
        job.whole = PART_SIZE / (f->rows * f->columns);
    job.pieces = above(f->matrices, job.whole) * job.parts * job.chunks;
    return job;
}

/* The norms are added in pieces of this size. */
enum { STRETCH = 32 * FO_BLOCK };

ptrdiff_t fo_factored_room(const fo_segment *s) {
    const fo_factored *f = s->factored;
    const ptrdiff_t norms = 2 * above(s->n, STRETCH);
    if (!f->row) return norms;
    const moments_job job = make_job(f);
    const ptrdiff_t sums = f->matrices * (f->rows * job.chunks + f->columns * job.parts);
    return sums > norms ? sums : norms;
}

static void sum_piece(const moments_job *job, ptrdiff_t piece) {
    const fo_segment *s = job->s;
    const fo_factored *f = s->factored;
    const ptrdiff_t chunk = piece % job->chunks, part = piece / job->chunks % job->parts;
    const ptrdiff_t matrix = piece / job->chunks / job->parts * job->whole;
    const ptrdiff_t column = chunk * FO_BLOCK, right = f->columns - column;
    const ptrdiff_t width = right < FO_BLOCK ? right : FO_BLOCK;
    const ptrdiff_t together = job->chunks > 1 ? 1 : FO_BLOCK / width; /* rows in a block */
    ptrdiff_t row = matrix * f->rows + part * job->height;             /* of all matrices */
    const ptrdiff_t most = job->whole > 1 ? f->matrices : matrix + 1;
    ptrdiff_t end = row + job->whole * job->height;
    if (end > most * f->rows) end = most * f->rows;
    double *sums = job->column_sums + (matrix * job->parts + part) * f->columns + column;
    double *row_sums = job->row_sums + chunk * f->matrices * f->rows;
    const ptrdiff_t matrices = job->whole > 1 ? (end - row) / f->rows : 1;
    memset(sums, 0, (size_t)(matrices * width) * sizeof *sums);
    block_t block;
    while (row < end) {
        const ptrdiff_t rows = end - row < together ? end - row : together;
        const void *g = fo_staged(s, job->kernels, row * f->columns + column, rows * width, &block);
        job->kernels->factored[s->dtype].squares(rows, width, job->scale, g, row % f->rows, f->rows,
                                                 row_sums + row, sums);
        if (job->whole > 1) sums += ((row + rows) / f->rows - row / f->rows) * width;
        row += rows;
    }
}

static void moments_body(void *ctx, int k, int n) {
    const moments_job *job = (const moments_job *)ctx;
    const ptrdiff_t all = job->pieces, end = all / n * (k + 1) + all % n * (k + 1) / n;
    for (ptrdiff_t i = all / n * k + all % n * k / n; i < end; i++) sum_piece(job, i);
}

/* Moves averages to the means of `count` squares, whose sums are in the first of `lists` lists when
   all are added. */
static void move(const fo_factored *f, ptrdiff_t n, double *restrict average, double *restrict sums,
                 ptrdiff_t lists, ptrdiff_t stride, ptrdiff_t count) {
    const double kept = 1 - f->weight, weight = f->weight, added = f->added, size = (double)count;
    for (ptrdiff_t k = 1; k < lists; k++)
        for (ptrdiff_t i = 0; i < n; i++) sums[i] += sums[k * stride + i];
    for (ptrdiff_t i = 0; i < n; i++)
        average[i] = kept * average[i] + weight * (sums[i] / size + added);
}

/* The averages and factors of some matrices, whose squares are added. */
static void factors_body(void *ctx, int k, int n) {
    const moments_job *job = (const moments_job *)ctx;
    const fo_factored *f = job->s->factored;
    const fo_factored_kernels *loops = &job->kernels->factored[job->s->dtype];
    const ptrdiff_t size = fo_item_size[job->s->dtype], all = f->matrices;
    const ptrdiff_t low = all / n * k + all % n * k / n;
    const ptrdiff_t count = all / n * (k + 1) + all % n * (k + 1) / n - low;
    if (count == 0) return;
    /* Where an average is 0, which only eps1 = 0 allows, there is no step, but if what is divided
       by has a lower bound. */
    const double none = f->least > 0 ? DBL_MAX : 0;
    const ptrdiff_t row = low * f->rows, column = low * f->columns;
    move(f, count * f->rows, f->row + row, job->row_sums + row, job->chunks, all * f->rows,
         f->columns);
    loops->row_roots(count, f->rows, f->row + row, f->least, none,
                     (char *)f->row_factor + row * size);
    if (job->parts == 1) { /* their columns' sums lie together */
        move(f, count * f->columns, f->column + column, job->column_sums + column, 1, 0, f->rows);
    } else {
        for (ptrdiff_t m = low; m < low + count; m++)
            move(f, f->columns, f->column + m * f->columns,
                 job->column_sums + m * job->parts * f->columns, job->parts, f->columns, f->rows);
    }
    loops->roots(count * f->columns, f->column + column, none,
                 (char *)f->column_factor + column * size);
}

void fo_factored_moments(const fo_segment *s, double *room, int threads) {
    const fo_factored *f = s->factored;
    const fo_prelude prelude = fo_own_prelude(s);
    moments_job job = make_job(f);
    job.s = s;
    job.kernels = fo_current();
    job.scale = prelude.fold * prelude.scale;
    job.row_sums = room;
    job.column_sums = room + f->matrices * f->rows * job.chunks;
    fo_parallel(moments_body, &job, fo_worth(s->n, threads));
    fo_parallel(factors_body, &job, fo_worth(f->matrices * (f->rows + f->columns), threads));
}

/* The factors from element `start` on. */
static fo_factors factors_at(const fo_segment *s, ptrdiff_t start, double factor) {
    const fo_factored *f = s->factored;
    const fo_prelude prelude = fo_own_prelude(s);
    const ptrdiff_t size = fo_item_size[s->dtype];
    const double bound = f->least > 0 ? 1 / f->least : DBL_MAX;
    const double most = s->dtype == FO_F32 ? FLT_MAX : DBL_MAX;
    fo_factors made = {.fold = prelude.fold,
                       .scale = prelude.scale,
                       .most = bound < most ? bound : most,
                       .factor = factor};
    if (!f->row) return made;
    const ptrdiff_t row = start / f->columns;
    made.at = start % f->columns;
    made.row = row % f->rows;
    made.rows = f->rows;
    made.columns = f->columns;
    made.row_factor = (char *)f->row_factor + row * size;
    made.column_factor = (char *)f->column_factor + row / f->rows * f->columns * size;
    return made;
}

/* The sum of squares of the direction of a block; averages of each element move here. */
static double measure(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start,
                      ptrdiff_t n) {
    const fo_factored *f = s->factored;
    const fo_factored_kernels *loops = &kernels->factored[s->dtype];
    const fo_factors factors = factors_at(s, start, 1);
    block_t block;
    const void *g = fo_staged(s, kernels, start, n, &block);
    const unsigned long long mode = fo_flush_subnormals(); /* as in the step */
    const double sum = f->row
                           ? loops->measure(n, g, &factors)
                           : loops->average(n, g, (char *)f->full + start * fo_item_size[s->dtype],
                                            f->weight, f->added, f->least, &factors);
    fo_restore_subnormals(mode);
    return sum;
}

static double squares_of_w(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start,
                           ptrdiff_t n) {
    block_t block;
    const void *w = s->w.data + start * fo_item_size[s->w.type];
    if (!s->w.contiguous || s->w.type != s->dtype)
        fo_gather(&s->w, kernels, start, n, &block), w = &block;
    return kernels->reduce[FO_SUMSQ][s->dtype](n, 1, w, w);
}

typedef struct {
    const fo_segment *s;
    const fo_kernels *kernels;
    int of_direction, of_w;
    double *sums; /* two for each stretch */
} norms_job;

static void norms_body(void *ctx, int k, int n) {
    const norms_job *job = (const norms_job *)ctx;
    const fo_segment *s = job->s;
    const ptrdiff_t all = above(s->n, STRETCH), end = all / n * (k + 1) + all % n * (k + 1) / n;
    for (ptrdiff_t i = all / n * k + all % n * k / n; i < end; i++) {
        double *sums = job->sums + 2 * i;
        sums[0] = sums[1] = 0;
        ptrdiff_t start = i * STRETCH;
        const ptrdiff_t stop = start + STRETCH < s->n ? start + STRETCH : s->n;
        for (; start < stop; start += FO_BLOCK) {
            const ptrdiff_t count = stop - start < FO_BLOCK ? stop - start : FO_BLOCK;
            if (job->of_direction) sums[0] += measure(s, job->kernels, start, count);
            if (job->of_w) sums[1] += squares_of_w(s, job->kernels, start, count);
        }
    }
}

void fo_factored_norms(const fo_segment *s, int of_direction, int of_w, double *room, int threads,
                       double *direction, double *w) {
    norms_job job = {s, fo_current(), of_direction || !s->factored->row, of_w, room};
    fo_parallel(norms_body, &job, fo_worth(s->n, threads));
    *direction = *w = 0;
    for (ptrdiff_t i = 0; i < above(s->n, STRETCH); i++)
        *direction += room[2 * i], *w += room[2 * i + 1];
}

ptrdiff_t fo_factored_direction(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start,
                                ptrdiff_t n, void *g) {
    const fo_factored *f = s->factored;
    const fo_factored_kernels *loops = &kernels->factored[s->dtype];
    const fo_factors factors = factors_at(s, start, f->factor);
    return f->row ? loops->precondition(n, g, &factors)
                  : loops->divide(n, g, (char *)f->full + start * fo_item_size[s->dtype], f->least,
                                  &factors);
}
