/* Lock-free training of factorization machines: workers take batches of rows from one counter and
   never wait for each other. All write one model, number by number (Niu, Recht, Re, Wright 2011);
   only the intercept, which every row has, is each worker's own within a batch. */
#include "fm.h"
#include "order.h"

enum { NEAR = 8, BATCH = NEAR * NEAR }; /* rows that lie together; in a batch */

/* Blocks of rows that lie together; their borders move. */
static ptrdiff_t blocks_in(ptrdiff_t rows) { return (rows + 2 * (NEAR - 1)) / NEAR; }

ptrdiff_t fo_fm_batches(ptrdiff_t rows) { return (blocks_in(rows) + NEAR - 1) / NEAR; }

/* The rows of a batch; returns how many. Blocks come in random order, another one in each epoch,
   and the rows of a batch's blocks take turns: as good as a random order of rows, and the memory is
   read a few lines at a time. */
static ptrdiff_t rows_of(const fo_fm *run, ptrdiff_t batch, ptrdiff_t *order) {
    const ptrdiff_t rows = run->samples.rows, blocks = blocks_in(rows);
    const ptrdiff_t batches = fo_fm_batches(rows), first = batch % batches * NEAR;
    const uint64_t key = fo_mix(run->seed + fo_mix((uint64_t)(batch / batches)));
    ptrdiff_t low[NEAR], n = 0;
    for (ptrdiff_t b = 0; b < NEAR; b++) {
        low[b] = rows;
        if (first + b >= blocks) continue;
        low[b] = (first + b) * NEAR;
        if (run->shuffle)
            low[b] = (ptrdiff_t)fo_permute((uint64_t)(first + b), (uint64_t)blocks, key) * NEAR -
                     (ptrdiff_t)(key >> 61);
    }
    for (ptrdiff_t k = 0; k < BATCH; k++) {
        const ptrdiff_t row = run->shuffle ? low[k % NEAR] + k / NEAR : low[0] + k;
        if (row >= 0 && row < rows) order[n++] = row;
    }
    return n;
}

static void train(fo_fm *run, ptrdiff_t batch) {
    ptrdiff_t order[BATCH];
    const ptrdiff_t n = rows_of(run, batch, order);
    const fo_samples *s = &run->samples;
    fo_fm_walk walk = {.intercept = atomic_load_explicit(&run->intercept, memory_order_relaxed),
                       .square = atomic_load_explicit(&run->square, memory_order_relaxed)};
    const fo_fm_walk before = walk;
    fo_current()->fm->train[run->model.adaptive][s->dtype][s->index_type](&run->model, s, &walk,
                                                                          order, n);
    const double intercept = atomic_load_explicit(&run->intercept, memory_order_relaxed);
    const double square = atomic_load_explicit(&run->square, memory_order_relaxed);
    atomic_store_explicit(&run->intercept, intercept + (walk.intercept - before.intercept),
                          memory_order_relaxed);
    atomic_store_explicit(&run->square, square + (walk.square - before.square),
                          memory_order_relaxed);
    if (walk.diverged) atomic_store_explicit(&run->diverged, 1, memory_order_relaxed);
}

static void body(void *ctx, int k, int n) {
    fo_fm *run = (fo_fm *)ctx;
    const unsigned mode = fo_flush_subnormals();
    (void)k, (void)n;
    for (;;) {
        const ptrdiff_t batch = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
        if (batch >= run->stop || atomic_load_explicit(&run->diverged, memory_order_relaxed)) break;
        train(run, batch);
    }
    fo_restore_subnormals(mode);
}

void fo_fm_slice(fo_fm *run, ptrdiff_t start, ptrdiff_t stop, int threads) {
    run->stop = stop;
    atomic_store(&run->next, start);
    fo_parallel(body, run, threads);
}

/* ---- passes over all rows ---- */

enum { PASS = 256 }; /* rows whose predictions are kept at once */

typedef struct {
    const fo_fm *run;
    const fo_samples *s;
    double *out;
} pass;

static void margins_of(const pass *p, ptrdiff_t block, double *out) {
    const fo_samples *s = p->s;
    const ptrdiff_t low = block * PASS, high = low + PASS < s->rows ? low + PASS : s->rows;
    fo_current()->fm->margins[s->dtype][s->index_type](&p->run->model, s, p->run->intercept, low,
                                                       high, out);
}

static void predict_body(void *ctx, int k, int n) {
    const pass *p = (const pass *)ctx;
    for (ptrdiff_t b = k; b * PASS < p->s->rows; b += n) margins_of(p, b, p->out + b * PASS);
}

static void loss_body(void *ctx, int k, int n) {
    const pass *p = (const pass *)ctx;
    const fo_samples *s = p->s;
    const fo_fm_model *m = &p->run->model;
    double margin[PASS];
    for (ptrdiff_t b = k; b * PASS < s->rows; b += n) {
        const ptrdiff_t low = b * PASS, count = low + PASS < s->rows ? PASS : s->rows - low;
        double sum = 0;
        margins_of(p, b, margin);
        fo_samples_ask(s, m->loss, m->shape, NULL, low, count, margin, margin, NULL);
        for (ptrdiff_t j = 0; j < count; j++) {
            const double weight = s->weights ? fo_element(s->dtype, s->weights, low + j) : 1;
            if (weight != 0) sum += weight * margin[j];
        }
        p->out[b] = sum;
    }
}

double fo_fm_loss(const fo_fm *run, const fo_samples *s, double *partials, int threads) {
    pass p = {.run = run, .s = s, .out = partials};
    fo_parallel(loss_body, &p, threads);
    double sum = 0;
    for (ptrdiff_t b = 0; b * PASS < s->rows; b++) sum += partials[b];
    return sum;
}

void fo_fm_predict(const fo_fm *run, const fo_samples *s, double *out, int threads) {
    pass p = {.run = run, .s = s, .out = out};
    fo_parallel(predict_body, &p, threads);
}

void fo_samples_count(const fo_samples *s, int64_t *counts) {
    for (ptrdiff_t k = fo_pointer(s, 0); k < fo_pointer(s, s->rows); k++) {
        const ptrdiff_t j = s->index_type == FO_I32 ? (ptrdiff_t)((const int32_t *)s->indices)[k]
                                                    : (ptrdiff_t)((const int64_t *)s->indices)[k];
        counts[j] += s->dtype == FO_F32 ? ((const float *)s->data)[k] != 0
                                        : ((const double *)s->data)[k] != 0;
    }
}

fo_samples fo_samples_part(const fo_samples *s, ptrdiff_t low, ptrdiff_t high) {
    fo_samples part = *s;
    part.rows = high - low;
    part.indptr = (const char *)s->indptr + low * fo_index_size[s->pointer_type];
    if (s->y) part.y = (const char *)s->y + low * fo_item_size[s->dtype];
    if (s->weights) part.weights = (const char *)s->weights + low * fo_item_size[s->dtype];
    if (s->codes) part.codes = s->codes + low;
    return part;
}
