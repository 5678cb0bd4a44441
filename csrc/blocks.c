/* The one pass, block by block: whatever is not a plain contiguous array is gathered into a block
   that stays in L1, updated there, and scattered back. Never a copy of a whole array. */
#include <math.h>
#include <string.h>

#include "fastopt.h"

typedef void run_fn(char *element, ptrdiff_t stride, ptrdiff_t n, char *block);

#define RUNS(suffix, T)                                                                            \
    static void gather_##suffix(char *element, ptrdiff_t stride, ptrdiff_t n, char *block) {       \
        for (ptrdiff_t i = 0; i < n; i++)                                                          \
            memcpy(block + i * (ptrdiff_t)sizeof(T), element + i * stride, sizeof(T));             \
    }                                                                                              \
    static void scatter_##suffix(char *element, ptrdiff_t stride, ptrdiff_t n, char *block) {      \
        for (ptrdiff_t i = 0; i < n; i++)                                                          \
            memcpy(element + i * stride, block + i * (ptrdiff_t)sizeof(T), sizeof(T));             \
    }
RUNS(2, uint16_t)
RUNS(4, float)
RUNS(8, double)

static run_fn *const gather[FO_TYPES] = {gather_4, gather_8, gather_2, gather_2, NULL, NULL};
static run_fn *const scatter[FO_TYPES] = {scatter_4, scatter_8, scatter_2, scatter_2, NULL, NULL};

/* Calls run on the stretches of the last axis that make up elements [start, start + n). */
static void over_runs(const fo_array *a, ptrdiff_t start, ptrdiff_t n, char *block, run_fn *run) {
    const ptrdiff_t size = fo_item_size[a->type];
    const int last = a->ndim - 1;
    while (n > 0) {
        /* An odometer would save these divisions; they are paid once a run, not once an element. */
        ptrdiff_t rest = start, offset = 0, column = 0, length = 1, stride = size;
        for (int d = last; d >= 0; d--) {
            const int axis = a->reversed ? last - d : d;
            const ptrdiff_t at = rest % a->shape[axis];
            offset += at * a->strides[axis];
            rest /= a->shape[axis];
            if (d == last) column = at;
        }
        if (last >= 0) {
            const int axis = a->reversed ? 0 : last;
            length = a->shape[axis] - column, stride = a->strides[axis];
        }
        if (length > n) length = n;
        run(a->data + offset, stride, length, block);
        block += length * size;
        start += length;
        n -= length;
    }
}

/* One block of numbers in any type. */
typedef union {
    float f32[FO_BLOCK];
    double f64[FO_BLOCK];
    char bytes[FO_BLOCK * sizeof(double)];
} block_t;

void fo_gather(const fo_array *a, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
               void *out) {
    const ptrdiff_t size = fo_item_size[a->type];
    uint16_t raw[FO_BLOCK];
    const char *in = a->data + start * size;
    if (!a->contiguous) {
        char *to = a->type < FO_DTYPES ? (char *)out : (char *)raw;
        over_runs(a, start, n, to, gather[a->type]);
        in = to;
    }
    if (a->type >= FO_DTYPES)
        kernels->load[a->type](n, in, NULL, (float *)out);
    else if (in != out)
        memcpy(out, in, (size_t)(n * size));
}

void fo_scatter(const fo_array *a, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
                const void *in, const fo_rounding *how) {
    const ptrdiff_t size = fo_item_size[a->type];
    uint16_t raw[FO_BLOCK];
    if (a->type >= FO_DTYPES) {
        void *to = a->contiguous ? (void *)(a->data + start * size) : (void *)raw;
        kernels->save[a->type](n, (const float *)in, to, NULL, how);
        in = to;
    }
    if (!a->contiguous)
        over_runs(a, start, n, (char *)(uintptr_t)in, scatter[a->type]);
    else if (a->type < FO_DTYPES)
        memcpy(a->data + start * size, in, (size_t)(n * size));
}

void fo_fill_zero(const fo_array *a, ptrdiff_t start, ptrdiff_t n) {
    static const block_t zero; /* 0 has the same bytes in every type */
    if (!a->contiguous)
        over_runs(a, start, n, (char *)(uintptr_t)zero.bytes, scatter[a->type]);
    else
        memset(a->data + start * fo_item_size[a->type], 0, (size_t)(n * fo_item_size[a->type]));
}

fo_rounding fo_round_by(const uint32_t *noise, uint32_t array, ptrdiff_t first, ptrdiff_t n) {
    fo_rounding how;
    how.noise = noise;
    for (uint32_t q = 0; (ptrdiff_t)q * FO_QUANTUM < n; q++)
        how.keys[q] = fo_mixed(array + fo_mixed((uint32_t)first + q));
    return how;
}

static const fo_rounding nearest = {NULL, {0}};

/* How array `slot` of a segment is rounded stochastically. */
static fo_rounding rounding(const fo_segment *s, const fo_step_numbers *numbers, uint32_t slot,
                            ptrdiff_t start, ptrdiff_t n) {
    const uint32_t array = UINT32_C(0x9e3779b9) * (s->number * 8 + slot + 1);
    return fo_round_by(numbers->noise, fo_mixed(numbers->key + array), start / FO_QUANTUM, n);
}

/* Whether the rule can run where the arrays lie, over any number of elements. */
static int plain(const fo_segment *s) {
    const fo_group *group = s->group;
    if (!s->w.contiguous || !s->g.contiguous || s->w.type != s->dtype || s->g.type != s->dtype)
        return 0;
    if (s->copy.data || s->average || s->row_scale || group->mask || group->zero_grad) return 0;
    if (s->factored) return 0;
    for (int k = 0; k < FO_MAX_STATES; k++)
        if (s->states[k].data && s->states[k].type != s->dtype) return 0;
    return group->clip_value == INFINITY && group->l1 == 0 && group->soft == 0 &&
           group->divided == 1 && group->least == -INFINITY && group->most == INFINITY;
}

/* A factor that a float32 may not hold is two that it does. */
static void multiply(const fo_stage_kernels *stages, ptrdiff_t n, void *x, double factor) {
    const fo_prelude two = fo_make_prelude(factor, 0, 0);
    if (two.fold != 1) stages->multiply(n, x, two.fold);
    if (two.scale != 1) stages->multiply(n, x, two.scale);
}

/* The gradient's own stages, on a copy of it. */
static ptrdiff_t before(const fo_segment *s, const fo_stage_kernels *stages, ptrdiff_t start,
                        ptrdiff_t n, const void *w, void *g) {
    const fo_group *group = s->group;
    const double scale = group->prelude.fold * group->prelude.scale * s->gain;
    const ptrdiff_t size = fo_item_size[s->dtype];
    ptrdiff_t bad = 0;
    if (group->mask) bad = stages->mask(n, g);
    if (group->clip_value < INFINITY) {
        const double most = group->clip_value / fabs(scale);
        const ptrdiff_t found = stages->clamp(n, g, -most, most);
        if (!group->mask) bad = found;
    }
    if (s->row_scale && s->reversed) {
        const ptrdiff_t rows = s->n / s->row;
        for (ptrdiff_t i = 0; i < n; i++)
            multiply(stages, 1, (char *)g + i * size, s->row_scale[(start + i) % rows]);
    } else if (s->row_scale)
        for (ptrdiff_t i = 0; i < n;) {
            const ptrdiff_t row = (start + i) / s->row, rest = (row + 1) * s->row - (start + i);
            const ptrdiff_t count = rest < n - i ? rest : n - i;
            multiply(stages, count, (char *)g + i * size, s->row_scale[row]);
            i += count;
        }
    if (group->l1 != 0 && scale != 0) stages->add_sign(n, g, w, group->l1 / scale);
    return bad;
}

/* The parameter's own stages. */
static void after(const fo_segment *s, const fo_stage_kernels *stages, ptrdiff_t start, ptrdiff_t n,
                  void *w) {
    const fo_group *group = s->group;
    if (group->soft != 0 || group->divided != 1) stages->shrink(n, w, group->soft, group->divided);
    if (group->least > -INFINITY || group->most < INFINITY)
        stages->clamp(n, w, group->least, group->most);
    if (s->average && group->average > 0 && group->max_norm == INFINITY) { /* else: rows.c */
        char *average = (char *)s->average + start * fo_item_size[s->dtype];
        stages->average(n, average, w, group->average);
        if (group->pull) memcpy(w, average, (size_t)(n * fo_item_size[s->dtype]));
    }
}

static void add_rest(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
                     float *w) {
    float rest[FO_BLOCK];
    kernels->load[FO_BF16](n, (uint16_t *)s->rest + start, NULL, rest);
    for (ptrdiff_t i = 0; i < n; i++) w[i] += rest[i];
}

/* Kahan's summation: what the rounding of w has lost is kept for the next step. */
static void keep_rest(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
                      float *w, const fo_rounding *how) {
    float rounded[FO_BLOCK];
    fo_gather(&s->w, kernels, start, n, rounded);
    for (ptrdiff_t i = 0; i < n; i++) w[i] -= rounded[i];
    kernels->save[FO_BF16](n, w, (uint16_t *)s->rest + start, NULL, how);
}

/* Whether the gradient has stages. */
static int staged(const fo_segment *s) {
    const fo_group *group = s->group;
    return group->mask || group->clip_value < INFINITY || s->row_scale || group->l1 != 0;
}

/* The parameter where it lies, or in `block`. */
static void *parameter(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
                       block_t *block) {
    if (s->w.contiguous && s->w.type == s->dtype) return s->w.data + start * fo_item_size[s->dtype];
    fo_gather(&s->w, kernels, start, n, block);
    if (s->rest) add_rest(s, kernels, start, n, block->f32);
    return block;
}

const void *fo_staged(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
                      void *block) {
    block_t w_block;
    if (s->g.contiguous && s->g.type == s->dtype && !staged(s))
        return s->g.data + start * fo_item_size[s->dtype];
    fo_gather(&s->g, kernels, start, n, block);
    if (staged(s)) {
        const void *w = s->group->l1 != 0 ? parameter(s, kernels, start, n, &w_block) : NULL;
        before(s, &kernels->stages[s->dtype], start, n, w, block);
    }
    return block;
}

static ptrdiff_t step_block(const fo_segment *s, const fo_step_numbers *numbers,
                            const fo_prelude *prelude, const double *scalars, ptrdiff_t start,
                            ptrdiff_t n) {
    const fo_kernels *kernels = numbers->kernels;
    const fo_stage_kernels *stages = &kernels->stages[s->dtype];
    const fo_group *group = s->group;
    const ptrdiff_t size = fo_item_size[s->dtype];
    _Alignas(64) block_t w_block, g_block;
    _Alignas(64) float state_blocks[FO_MAX_STATES][FO_BLOCK];
    const int stage_g = staged(s);
    void *w = parameter(s, kernels, start, n, &w_block), *g = s->g.data + start * size;
    void *states[FO_MAX_STATES] = {NULL};
    float *largest[FO_MAX_STATES];
    fo_rounding how[FO_MAX_STATES]; /* made here, so that nothing waits for it */
    fo_prelude factored;
    ptrdiff_t bad = 0, raw = 0;
    if (!s->g.contiguous || s->g.type != s->dtype || stage_g || s->factored)
        fo_gather(&s->g, kernels, start, n, g = &g_block);
    if (stage_g) bad = before(s, stages, start, n, w, g);
    if (s->factored) {
        raw = fo_factored_direction(s, kernels, start, n, g);
        factored = (fo_prelude){1, 1, 0, prelude->decay};
        prelude = &factored;
    }
    for (int k = 0; k < FO_MAX_STATES && s->states[k].data; k++) {
        const fo_state *state = &s->states[k];
        char *data = state->data + start * fo_item_size[state->type];
        states[k] = data;
        if (state->type == s->dtype) continue;
        largest[k] = state->largest ? state->largest + start / FO_QUANTUM : NULL;
        states[k] = state_blocks[k];
        how[k] = rounding(s, numbers, (uint32_t)k, start, n);
        kernels->load[state->type](n, data, largest[k], state_blocks[k]);
    }
    const ptrdiff_t found = numbers->rule->dense[s->dtype](n, w, g, states, prelude, scalars);
    if (!group->mask && group->clip_value == INFINITY) bad = s->factored ? raw : found;
    if (!numbers->partial) after(s, stages, start, n, w);
    for (int k = 0; k < FO_MAX_STATES && s->states[k].data; k++)
        if (s->states[k].largest) kernels->largest(n, state_blocks[k], largest[k]);
    for (int k = 0; k < FO_MAX_STATES && s->states[k].data; k++) {
        const fo_state *state = &s->states[k];
        if (state->type == s->dtype) continue;
        char *data = state->data + start * fo_item_size[state->type];
        kernels->save[state->type](n, state_blocks[k], data, largest[k], &how[k]);
    }
    if (numbers->partial) return bad;
    if (w == &w_block || s->copy.data) {
        const int random = s->stochastic && numbers->noise;
        const fo_rounding own = random ? rounding(s, numbers, FO_MAX_STATES, start, n) : nearest;
        if (w == &w_block) fo_scatter(&s->w, kernels, start, n, w, &own);
        if (s->rest) keep_rest(s, kernels, start, n, w_block.f32, &own);
        if (s->copy.data) fo_scatter(&s->copy, kernels, start, n, w, &own);
    }
    if (group->zero_grad) fo_fill_zero(&s->g, start, n);
    return bad;
}

/* So many non-finite elements can be counted in 32 bits. */
static const ptrdiff_t COUNTABLE = (ptrdiff_t)1 << 30;

/* Whether states pass through blocks too: then these are shorter, so that all fit into L1. */
static int decoded(const fo_segment *s) {
    for (int k = 0; k < FO_MAX_STATES; k++)
        if (s->states[k].data && s->states[k].type != s->dtype) return 1;
    return 0;
}

static ptrdiff_t step_in_place(const fo_segment *s, const fo_step_numbers *numbers,
                               const fo_prelude *prelude, const double *scalars, ptrdiff_t start,
                               ptrdiff_t n) {
    const ptrdiff_t offset = start * fo_item_size[s->dtype];
    void *states[FO_MAX_STATES];
    for (int k = 0; k < FO_MAX_STATES; k++)
        states[k] = s->states[k].data ? s->states[k].data + offset : NULL;
    return numbers->rule->dense[s->dtype](n, s->w.data + offset, s->g.data + offset, states,
                                          prelude, scalars);
}

fo_prelude fo_own_prelude(const fo_segment *s) {
    fo_prelude prelude = s->group->prelude;
    if (s->gain != 1)
        prelude =
            fo_make_prelude(prelude.fold * prelude.scale * s->gain, prelude.l2, prelude.decay);
    prelude.l2 *= s->l2_gain;
    return prelude;
}

ptrdiff_t fo_step_slice(const fo_segment *s, const fo_step_numbers *numbers, ptrdiff_t start,
                        ptrdiff_t n) {
    if (s->rows) return fo_step_rows(s, numbers, start, n);
    const fo_prelude prelude = fo_own_prelude(s);
    double own[FO_MAX_SCALARS];
    const double *scalars = s->group->scalars;
    if (s->lr_gain != 1) {
        memcpy(own, scalars, sizeof own);
        own[0] *= s->lr_gain;
        scalars = own;
    }
    ptrdiff_t bad = 0;
    const int in_place = plain(s);
    const ptrdiff_t most = in_place ? COUNTABLE : decoded(s) ? 4 * FO_QUANTUM : FO_BLOCK;
    for (const ptrdiff_t end = start + n; start < end; start += most) {
        const ptrdiff_t count = end - start < most ? end - start : most;
        bad += in_place ? step_in_place(s, numbers, &prelude, scalars, start, count)
                        : step_block(s, numbers, &prelude, scalars, start, count);
    }
    return bad;
}
