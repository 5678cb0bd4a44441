/* One step over all parameters in one parallel region, and the reductions over all gradients. */
#include <math.h>

#include "fastopt.h"

fo_prelude fo_make_prelude(double scale, double l2, double decay) {
    double fold = 1;
    int exponent;
    if (scale != 0 && fabs(scale) < 1e-30) {
        frexp(scale, &exponent);
        fold = ldexp(1, exponent / 2);
    }
    return (fo_prelude){fold, scale / fold, l2, decay};
}

/* Below this many elements a thread costs more than it saves (measured: bench_rules). */
enum { ELEMENTS_PER_THREAD = 16384 };

int fo_worth(ptrdiff_t elements, int threads) {
    const ptrdiff_t most = elements / ELEMENTS_PER_THREAD;
    return most < 1 ? 1 : most < threads ? (int)most : threads;
}

typedef struct {
    const fo_segment *segments;
    const ptrdiff_t *ends;
    ptrdiff_t count;
    fo_step_numbers numbers;
    _Atomic ptrdiff_t bad;
} step_job;

/* A cut at `at` moves up to the end of a quantum, or of s. */
static ptrdiff_t cut(const fo_segment *s, ptrdiff_t at) {
    if (s->rows) return (at + s->row - 1) / s->row * s->row;
    at = (at + FO_QUANTUM - 1) / FO_QUANTUM * FO_QUANTUM;
    return at < s->n ? at : s->n;
}

/* Where thread k of n starts: equal shares. */
static ptrdiff_t share(ptrdiff_t total, int k, int n) {
    return k == n ? total : total / n * k + total % n * k / n;
}

/* Whether something is rounded stochastically. */
static int rounds(const fo_segment *s) {
    for (int k = 0; k < FO_MAX_STATES; k++)
        if (s->states[k].type >= FO_DTYPES) return 1;
    return s->stochastic && (s->w.type >= FO_DTYPES || s->copy.data);
}

static void step_body(void *ctx, int k, int n) {
    step_job *job = (step_job *)ctx;
    const ptrdiff_t total = job->ends[job->count - 1];
    ptrdiff_t start = share(total, k, n);
    const ptrdiff_t end = share(total, k + 1, n);
    ptrdiff_t low = 0, high = job->count; /* the first segment that ends after start */
    while (low < high) {
        const ptrdiff_t middle = low + (high - low) / 2;
        if (job->ends[middle] > start)
            high = middle;
        else
            low = middle + 1;
    }
    const unsigned long long mode = fo_flush_subnormals();
    _Alignas(64) uint32_t noise[FO_NOISE];
    fo_step_numbers numbers = job->numbers;
    ptrdiff_t bad = 0;
    for (; start < end; low++) {
        const fo_segment *s = &job->segments[low];
        const ptrdiff_t offset = job->ends[low] - s->n;
        const ptrdiff_t stop = job->ends[low] < end ? job->ends[low] : end;
        const ptrdiff_t first = cut(s, start - offset), last = cut(s, stop - offset);
        if (!numbers.noise && rounds(s)) {
            numbers.kernels->noise(numbers.key, noise);
            numbers.noise = noise;
        }
        if (last > first && !s->frozen) bad += fo_step_slice(s, &numbers, first, last - first);
        start = stop;
    }
    job->bad += bad;
    fo_restore_subnormals(mode);
}

ptrdiff_t fo_step(const fo_segment *segments, const ptrdiff_t *ends, ptrdiff_t count, int rule,
                  uint32_t key, int partial, int threads) {
    if (count < 1 || ends[count - 1] < 1) return 0;
    const fo_kernels *kernels = fo_current();
    step_job job = {segments, ends, count, {kernels, &kernels->rules[rule], key, partial, NULL}, 0};
    fo_parallel(step_body, &job, fo_worth(ends[count - 1], threads));
    return job.bad;
}

/* A norm's additions: lanes inside FO_BLOCK elements, blocks in order inside a part, parts in
   order. Nothing in it depends on threads, nor on whether the gradient is contiguous. */
enum { PART = 32 * FO_BLOCK };

typedef struct {
    const fo_segment *segments;
    ptrdiff_t count, parts;
    int of, rule, what;
    double scale;
    double *partials;
} reduce_job;

ptrdiff_t fo_partials(const fo_segment *segments, ptrdiff_t count) {
    ptrdiff_t parts = 0;
    for (ptrdiff_t k = 0; k < count; k++) parts += (segments[k].n + PART - 1) / PART;
    return parts;
}

static double combine(int what, double a, double b) {
    if (what != FO_ABSMAX) return a + b;
    return a > b || a != a ? a : b;
}

/* Of block-sized stretches, gathered where they are not as the arithmetic needs them. */
static double measure(const reduce_job *job, const fo_segment *s, ptrdiff_t start, ptrdiff_t n,
                      const void *w) {
    const fo_rule *rule = &fo_current()->rules[job->rule];
    void *states[FO_MAX_STATES];
    for (int k = 0; k < FO_MAX_STATES; k++)
        states[k] = s->states[k].data ? s->states[k].data + start * fo_item_size[s->dtype] : NULL;
    return rule->measure[s->dtype](n, w, states, s->group->scalars);
}

static double reduce_part(const reduce_job *job, const fo_segment *s, ptrdiff_t start) {
    union {
        float f32[FO_BLOCK];
        double f64[FO_BLOCK];
    } block;
    const fo_kernels *kernels = fo_current();
    const fo_array *a = job->of == FO_OF_G ? &s->g : &s->w;
    const int masked = job->of == FO_OF_G && s->group->mask;
    const ptrdiff_t size = fo_item_size[a->type];
    const ptrdiff_t end = s->n - start < PART ? s->n : start + PART;
    fo_reduce *reduce = kernels->reduce[job->what][s->dtype];
    double result = 0;
    for (; start < end; start += FO_BLOCK) {
        const ptrdiff_t count = end - start < FO_BLOCK ? end - start : FO_BLOCK;
        const void *x = a->data + start * size;
        if (!a->contiguous || a->type != s->dtype || masked)
            fo_gather(a, kernels, start, count, &block), x = &block;
        if (masked) kernels->stages[s->dtype].mask(count, &block);
        const double some = job->of == FO_OF_RULE ? measure(job, s, start, count, x)
                                                  : reduce(count, job->scale, x, x);
        result = combine(job->what, result, some);
    }
    return result;
}

static void reduce_body(void *ctx, int k, int n) {
    const reduce_job *job = (const reduce_job *)ctx;
    const ptrdiff_t first = job->parts / n * k + job->parts % n * k / n;
    const ptrdiff_t last =
        k + 1 == n ? job->parts : job->parts / n * (k + 1) + job->parts % n * (k + 1) / n;
    ptrdiff_t part = 0;
    for (ptrdiff_t j = 0; j < job->count && part < last; j++) {
        const fo_segment *s = &job->segments[j];
        for (ptrdiff_t start = 0; start < s->n && part < last; start += PART, part++)
            if (part >= first) job->partials[part] = s->frozen ? 0 : reduce_part(job, s, start);
    }
}

double fo_reduce_all(const fo_segment *segments, ptrdiff_t count, int of, int rule, int what,
                     double scale, double *partials, int threads) {
    ptrdiff_t elements = 0;
    for (ptrdiff_t k = 0; k < count; k++) elements += segments[k].n;
    reduce_job job = {segments, count,   fo_partials(segments, count), of, rule, what,
                      scale,    partials};
    fo_parallel(reduce_body, &job, fo_worth(elements, threads));
    double result = 0;
    for (ptrdiff_t k = 0; k < job.parts; k++) result = combine(what, result, partials[k]);
    return result;
}
