/* The C interface of fastopt: what the Cython layer and the C files know of each other. */
#ifndef FASTOPT_H
#define FASTOPT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FO_MAX_STATES 4
#define FO_MAX_SCALARS 16

/* The types of the arithmetic come first; the others are for memory only: 16 bits
   in convert.inc, 8 bits in compressed.inc. */
enum { FO_F32, FO_F64, FO_DTYPES, FO_BF16 = FO_DTYPES, FO_F16, FO_S8, FO_U8, FO_TYPES };
enum { FO_I32 = 0, FO_I64 = 1, FO_INDEX_TYPES = 2 };
static const ptrdiff_t fo_item_size[FO_TYPES] = {4, 8, 2, 2, 1, 1},
                       fo_index_size[FO_INDEX_TYPES] = {4, 8};

/* What every rule does before its own arithmetic, on each element:
   total = scale * (fold * g) + l2 * w;  w -= decay * w;  then the rule sees total as its g.
   fold is 1, unless scale would be too small for a float32: clipping must not lose a huge g. */
typedef struct {
    double fold, scale, l2, decay;
} fo_prelude;

/* The prelude, with a scale that a float32 may not hold in two factors that it does. */
fo_prelude fo_make_prelude(double scale, double l2, double decay);

/* The rule on n contiguous elements; returns how many of the gradients were not finite. */
typedef ptrdiff_t fo_dense(ptrdiff_t n, void *w, const void *g, void *const *states,
                           const fo_prelude *prelude, const double *scalars);
/* The rule on the n coordinates at[k] with gradients g[k], through relaxed atomics. */
typedef void fo_sparse(ptrdiff_t n, const void *at, void *w, const void *g, void *const *states,
                       const fo_prelude *prelude, const double *scalars);

/* The sum of squares of a rule's direction over n contiguous elements, in fixed lanes of double. */
typedef double fo_measure(ptrdiff_t n, const void *w, void *const *states, const double *scalars);

typedef struct {
    const char *name, *states, *scalars; /* "adam", "(m, v)", "(lr, b1, ...)" */
    fo_dense *dense[FO_DTYPES];
    fo_sparse *sparse[FO_DTYPES][FO_INDEX_TYPES];
    fo_measure *measure[FO_DTYPES]; /* NULL for most */
} fo_rule;

/* Reductions of scale * x over n contiguous elements, accumulated in double in fixed lanes, so the
   same bits on every instruction set. */
typedef double fo_reduce(ptrdiff_t n, double scale, const void *x, const void *y);
enum { FO_SUM, FO_DOT, FO_SUMSQ, FO_ABSMAX, FO_REDUCTIONS };

enum { FO_BLOCK = 2048 }; /* elements; a block of parameter and gradient stays in L1 */

/* Low precision: random numbers are words of the step's noise, from a place that is the array's and
   the quantum's own, XOR a number that is so too. So each is uniform, any two are independent of
   each other, neither threads nor blocks change one, and an element costs one operation. */
enum { FO_QUANTUM = 256 }; /* elements that share this, and in 8 bits their largest magnitude */
enum { FO_NOISE = 2 * FO_QUANTUM };
typedef struct {
    const uint32_t *noise; /* FO_NOISE words; NULL: round to nearest */
    uint32_t keys[FO_BLOCK / FO_QUANTUM];
} fo_rounding;
/* Of at most FO_BLOCK elements from quantum `first` of an array on. */
fo_rounding fo_round_by(const uint32_t *noise, uint32_t array, ptrdiff_t first, ptrdiff_t n);

/* Every bit of x moves every bit of the result (MurmurHash3's finalizer). */
static inline uint32_t fo_mixed(uint32_t x) {
    x = (x ^ (x >> 16)) * UINT32_C(0x85ebca6b);
    x = (x ^ (x >> 13)) * UINT32_C(0xc2b2ae35);
    return x ^ (x >> 16);
}

typedef void fo_load(ptrdiff_t n, const void *in, const float *largest, float *out);
typedef void fo_save(ptrdiff_t n, const float *in, void *out, const float *largest,
                     const fo_rounding *how);

/* What is done to a block beside the rule (stages.inc). */
typedef struct {
    ptrdiff_t (*mask)(ptrdiff_t n, void *g);
    ptrdiff_t (*clamp)(ptrdiff_t n, void *x, double least, double most);
    void (*multiply)(ptrdiff_t n, void *x, double factor);
    void (*add_sign)(ptrdiff_t n, void *g, const void *w, double l1);
    void (*shrink)(ptrdiff_t n, void *w, double soft, double divided);
    void (*average)(ptrdiff_t n, void *a, const void *w, double c);
} fo_stage_kernels;

/* Adafactor's loops (factored.inc). The direction of an element is the gradient, after the
   prelude's fold and scale, times the factors of its row and its column, whose product is at most
   `most`, and times that of the whole array. Elements go on through the rows and matrices of an
   array. */
typedef struct {
    double fold, scale, most, factor;
    const void *row_factor, *column_factor; /* of this row; of this matrix's first column */
    ptrdiff_t at, row, rows, columns;       /* the first element's column and row in its matrix */
} fo_factors;
typedef struct {
    /* Sums of squares of scale * g: for each row of `width`, and added to those of the columns,
       which are others after the last of `height` rows. */
    void (*squares)(ptrdiff_t rows, ptrdiff_t width, double scale, const void *g, ptrdiff_t row,
                    ptrdiff_t height, double *row_sums, double *column_sums);
    /* The factors of columns, and of the rows of some matrices, from their averages. */
    void (*roots)(ptrdiff_t n, const double *average, double none, void *factors);
    void (*row_roots)(ptrdiff_t matrices, ptrdiff_t rows, const double *average, double least,
                      double none, void *factors);
    /* The direction of n elements: the sum of its squares, and, in place of g, itself, counting
       what in g was not finite. */
    double (*measure)(ptrdiff_t n, const void *g, const fo_factors *factors);
    ptrdiff_t (*precondition)(ptrdiff_t n, void *g, const fo_factors *factors);
    /* The same with an average square v for each element, which first moves by weight towards the
       square plus `added`; roots are at least `least`. */
    double (*average)(ptrdiff_t n, const void *g, void *v, double weight, double added,
                      double least, const fo_factors *factors);
    ptrdiff_t (*divide)(ptrdiff_t n, void *g, const void *v, double least,
                        const fo_factors *factors);
} fo_factored_kernels;

typedef struct fo_fm_kernels fo_fm_kernels; /* fm.h */

typedef struct fo_sparse_kernels fo_sparse_kernels;       /* hogwild.h */
typedef struct fo_multi_kernels fo_multi_kernels;         /* multi.h */
typedef struct fo_dual_kernels fo_dual_kernels;           /* dual.h */
typedef struct fo_factor_kernels fo_factor_kernels;       /* factor.h */
typedef struct fo_objective_kernels fo_objective_kernels; /* objective.h */
typedef struct fo_vector_kernels fo_vector_kernels;       /* vector.h */

/* Everything that is compiled once per instruction set. */
typedef struct {
    const char *isa;
    int n_rules;
    const fo_rule *rules;
    fo_reduce *reduce[FO_REDUCTIONS][FO_DTYPES];
    void (*noise)(uint32_t key, uint32_t *noise);
    void (*largest)(ptrdiff_t n, const float *in, float *largest); /* of each quantum */
    fo_load *load[FO_TYPES];                                       /* to float32 */
    fo_save *save[FO_TYPES];
    fo_stage_kernels stages[FO_DTYPES];
    fo_factored_kernels factored[FO_DTYPES];
    const fo_fm_kernels *fm;
    const fo_sparse_kernels *sparse;
    const fo_multi_kernels *multi;
    const fo_dual_kernels *dual;
    const fo_factor_kernels *factor;
    const fo_objective_kernels *objective;
    const fo_vector_kernels *vector;
} fo_kernels;

/* dispatch.c: the instruction set in use; fo_set_isa returns 0 if `name` cannot run here. */
const fo_kernels *fo_current(void);
int fo_set_isa(const char *name);
const char *fo_isa_available(int k); /* best first; NULL past the last */
fo_sparse *fo_sparse_rule(int rule, int dtype, int index_type);

/* Whether the caller may use what the flag guards until it puts the flag back to 0. */
typedef _Atomic int fo_flag;
static inline int fo_claim(fo_flag *flag) { return atomic_exchange(flag, 1) == 0; }

/* parallel.c: the only parallel region of the package. Runs body(ctx, k, n) for k = 0..n-1 and
   returns n <= threads: less than asked for in the child of a fork, or when another Python thread
   is in a region already, so a body must divide its work by the n it is given. */
typedef void fo_body(void *ctx, int k, int n);
int fo_parallel(fo_body *body, void *ctx, int threads);
/* Where all n bodies of a region wait for each other. A thread that waits gives its core away soon:
   others may need it, if only the threads that it waits for. */
typedef struct {
    _Atomic int waiting, phase;
} fo_barrier;
void fo_wait(fo_barrier *barrier, int n);
/* Number i of an array of a dtype. */
static inline double fo_element(int dtype, const void *x, ptrdiff_t i) {
    return dtype == FO_F32 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}
/* Where part k of n equal parts of 0..size-1 begins. */
static inline ptrdiff_t fo_part(ptrdiff_t size, int k, int n) {
    return size / n * k + size % n * k / n;
}
const char *fo_openmp(void); /* "openmp" or "none" */
int fo_forked(void);         /* 1 in a child forked after threads were used: serial from then on */
void fo_stay_serial(void);   /* in the child of a process whose OpenMP others had used: the same */

/* Subnormal numbers make arithmetic 50 times slower; a moment that decays without gradient gets
   there. Loops flush them to zero, on each thread, and put the caller's mode back afterwards. */
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
static inline unsigned fo_flush_subnormals(void) {
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* flush to zero, denormals are zero */
    return mode;
}
static inline void fo_restore_subnormals(unsigned mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__) && defined(__GNUC__)
static inline uint64_t fo_flush_subnormals(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | (UINT64_C(1) << 24)));
    return mode;
}
static inline void fo_restore_subnormals(uint64_t mode) {
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
}
#else
static inline unsigned fo_flush_subnormals(void) { return 0; }
static inline void fo_restore_subnormals(unsigned mode) { (void)mode; }
#endif

/* blocks.c: an array of any strides, which are in bytes, read and written a block at a time. */
typedef struct {
    int type;
    char *data; /* NULL: there is none */
    int ndim;
    const ptrdiff_t *shape, *strides;
    int contiguous; /* in C's order, and aligned: the strides are not needed */
    int reversed;   /* elements are counted with the first axis, not the last, moving fastest */
} fo_array;

/* Elements [start, start + n), n <= FO_BLOCK, in float32, or float64 if stored so. */
void fo_gather(const fo_array *a, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
               void *out);
void fo_scatter(const fo_array *a, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
                const void *in, const fo_rounding *how);
void fo_fill_zero(const fo_array *a, ptrdiff_t start, ptrdiff_t n);

/* A contiguous state; `largest` of every FO_QUANTUM elements if it has 8 bits. */
typedef struct {
    int type;
    char *data;
    float *largest;
} fo_state;

/* The numbers of a group of parameters in one step. What is not wanted is 0, or infinity if it is
   a limit. */
typedef struct {
    fo_prelude prelude;
    double scalars[FO_MAX_SCALARS];
    double clip_value, l1;     /* on the gradient, after masking */
    double soft, divided;      /* on the parameter, after the rule: see stage_shrink */
    double least, most;        /* bounds of each element */
    double max_norm;           /* bound of each row's norm */
    double average;            /* weight of w in its average */
    int mask, zero_grad, pull; /* pull: w becomes its average */
} fo_group;

/* Decay that rows have not had yet (lazy.c): running totals of what all rows should have had, and
   where each row stood when it was last brought up to date. NULL where nothing is made up for. */
typedef struct {
    double *factor; /* per row: a sum of -log(factor of a step); the total after the last row */
    double *soft;   /* the same of what is taken from |w|, times exp(total factor before it) */
    double step_factor, step_soft; /* what this step adds */
} fo_skipped;

/* Adafactor's second moments of one parameter: averages of the mean squares of rows and columns, as
   matrices over its last two axes, or of each square. */
typedef struct {
    ptrdiff_t matrices, rows, columns;
    double *row, *column;             /* the averages, or NULL: then there is */
    void *full;                       /* one for each element */
    void *row_factor, *column_factor; /* of the arithmetic's type, anew in every step */
    /* Of the current step: the weight of the new squares in the averages, what is added to them,
       the least root that is divided by, and what the direction is multiplied by. */
    double weight, added, least, factor;
} fo_factored;

/* One parameter: its array, its gradient, its states, and its group's numbers. */
typedef struct {
    int dtype;        /* of the arithmetic */
    int frozen;       /* leave it alone */
    int stochastic;   /* how w is rounded */
    uint32_t number;  /* among the segments: random numbers differ by it */
    ptrdiff_t n, row; /* elements; of them in a row */
    int reversed;     /* the axes are the user's in reverse: a row is one index of the last */
    fo_array w, g;
    fo_array copy;     /* w again, in low precision */
    void *rest;        /* bf16: what w has lost in rounding */
    void *average;     /* of dtype */
    double *row_scale; /* what each row's gradient is multiplied by */
    fo_state states[FO_MAX_STATES];
    fo_factored *factored; /* the rule sees the direction in place of g; NULL for most */
    const fo_group *group;
    double gain, l2_gain; /* the gradient's scale and l2 are multiplied by these, */
    double lr_gain;       /* and the rule's first scalar by this */
    const int64_t *rows;  /* n and g are of these rows of w alone; NULL: of all */
    fo_skipped skipped;
} fo_segment;

typedef struct {
    const fo_kernels *kernels;
    const fo_rule *rule;
    uint32_t key;          /* of this step's random numbers */
    int partial;           /* the first of two passes: it leaves w alone */
    const uint32_t *noise; /* FO_NOISE words made from the key */
} fo_step_numbers;

/* The elements [start, start + n) of a segment, subnormals as the caller set them; start begins a
   quantum. Returns the number of gradients that were not finite. */
ptrdiff_t fo_step_slice(const fo_segment *s, const fo_step_numbers *numbers, ptrdiff_t start,
                        ptrdiff_t n);

/* The gradient after its stages: where it lies, or in `block`; its prelude is still to come. */
const void *fo_staged(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start, ptrdiff_t n,
                      void *block);
/* The group's prelude with the segment's own factors. */
fo_prelude fo_own_prelude(const fo_segment *s);

/* dense.c: one step of one rule over all segments in one parallel region; `ends` are the running
   totals of the segments' sizes. Element-wise, so the bits do not depend on threads. */
ptrdiff_t fo_step(const fo_segment *segments, const ptrdiff_t *ends, ptrdiff_t count, int rule,
                  uint32_t key, int partial, int threads);

/* How many of `threads` so many elements are worth. */
int fo_worth(ptrdiff_t elements, int threads);

/* The sum of squares (FO_SUMSQ) or largest magnitude (FO_ABSMAX) of scale * g over all gradients,
   after masking, or with FO_OF_W over all parameters, added in an order that depends on nothing but
   sizes. Needs room for fo_partials(...) doubles. */
ptrdiff_t fo_partials(const fo_segment *segments, ptrdiff_t count);
/* FO_OF_RULE: the sum of squares of a rule's direction. */
enum { FO_OF_G, FO_OF_W, FO_OF_RULE };
double fo_reduce_all(const fo_segment *segments, ptrdiff_t count, int of, int rule, int what,
                     double scale, double *partials, int threads);

/* lazy.c: the elements [start, start + n), whole rows, of a segment that has `rows`. */
ptrdiff_t fo_step_rows(const fo_segment *s, const fo_step_numbers *numbers, ptrdiff_t start,
                       ptrdiff_t n);
/* Brings all rows of w up to date; the totals start at 0 again. */
void fo_catch_up(const fo_segment *s, int threads);
/* The different numbers among `rows` in order of first appearance, and where each is among them;
   `table` has room for a power of two >= 2 * count, or is NULL where rows only ascend. Returns how
   many there are, or -1 - k if rows[k] is not in [0, limit). */
int64_t fo_distinct(const int64_t *rows, int64_t count, int64_t limit, int64_t *table,
                    int64_t table_size, int64_t *distinct, int64_t *place);
/* out[place[k]] += values[k], rows of `row` elements of FO_F32 or FO_F64. */
void fo_add_rows(int dtype, const void *values, const int64_t *place, int64_t count, ptrdiff_t row,
                 void *out);

/* rows.c: what is done row by row; a row is one index of the first axis, or a whole vector. */
void fo_clip_rows(const fo_segment *s, double most, int threads);    /* fills row_scale */
void fo_project_rows(const fo_segment *s, double most, int threads); /* and averages w then */

/* factored.c: the rows' and columns' averages and factors, from the segment's gradient. Additions
   are in an order that depends on the shape alone. Both need room for fo_factored_room(...)
   doubles. */
ptrdiff_t fo_factored_room(const fo_segment *s);
void fo_factored_moments(const fo_segment *s, double *room, int threads);
/* The sums of squares of the direction and of w, where they are wanted. If there is an average for
   each element, it moves here. */
void fo_factored_norms(const fo_segment *s, int of_direction, int of_w, double *room, int threads,
                       double *direction, double *w);
/* Turns a block of the staged gradient into the direction; counts what was not finite in it. */
ptrdiff_t fo_factored_direction(const fo_segment *s, const fo_kernels *kernels, ptrdiff_t start,
                                ptrdiff_t n, void *g);

#endif
