/* The C interface of fastopt: what the Cython layer and the C files know of each other. */
#ifndef FASTOPT_H
#define FASTOPT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FO_MAX_STATES 4
#define FO_MAX_SCALARS 16

enum { FO_F32 = 0, FO_F64 = 1, FO_DTYPES = 2 };
enum { FO_I32 = 0, FO_I64 = 1, FO_INDEX_TYPES = 2 };
static const ptrdiff_t fo_item_size[FO_DTYPES] = {4, 8}, fo_index_size[FO_INDEX_TYPES] = {4, 8};

/* What every rule does before its own arithmetic, on each element:
   total = scale * (fold * g) + l2 * w;  w -= decay * w;  then the rule sees total as its g.
   fold is 1, unless scale would be too small for a float32: clipping must not lose a huge g. */
typedef struct {
    double fold, scale, l2, decay;
} fo_prelude;

/* The rule on n contiguous elements. */
typedef void fo_dense(ptrdiff_t n, void *w, const void *g, void *const *states,
                      const fo_prelude *prelude, const double *scalars);
/* The rule on the n coordinates at[k] with gradients g[k], through relaxed atomics. */
typedef void fo_sparse(ptrdiff_t n, const void *at, void *w, const void *g, void *const *states,
                       const fo_prelude *prelude, const double *scalars);

typedef struct {
    const char *name, *states, *scalars; /* "adam", "(m, v)", "(lr, b1, ...)" */
    fo_dense *dense[FO_DTYPES];
    fo_sparse *sparse[FO_DTYPES][FO_INDEX_TYPES];
} fo_rule;

/* Reductions of scale * x over n contiguous elements, accumulated in double in fixed lanes, so the
   same bits on every instruction set. */
typedef double fo_reduce(ptrdiff_t n, double scale, const void *x, const void *y);
enum { FO_SUM, FO_DOT, FO_SUMSQ, FO_ABSMAX, FO_REDUCTIONS };

typedef struct fo_sparse_kernels fo_sparse_kernels; /* hogwild.h */

/* Everything that is compiled once per instruction set. */
typedef struct {
    const char *isa;
    int n_rules;
    const fo_rule *rules;
    fo_reduce *reduce[FO_REDUCTIONS][FO_DTYPES];
    const fo_sparse_kernels *sparse;
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

/* blocks.c: an array of any strides, read and written a block at a time. strides == NULL says
   C-contiguous. Strides are in bytes. */
typedef struct {
    char *data;
    int ndim;
    const ptrdiff_t *shape, *strides;
} fo_array;

enum { FO_BLOCK = 2048 }; /* elements; a block of parameter and gradient stays in L1 */

void fo_gather(const fo_array *a, int dtype, ptrdiff_t start, ptrdiff_t n, void *out);
void fo_scatter(const fo_array *a, int dtype, ptrdiff_t start, ptrdiff_t n, const void *in);

/* One parameter: its array, its gradient, its states (contiguous), and its group's numbers. */
typedef struct {
    int dtype;
    ptrdiff_t n;
    fo_array w, g;
    void *states[FO_MAX_STATES];
    const fo_prelude *prelude;
    const double *scalars;
} fo_segment;

/* The elements [start, start + n) of a segment, subnormals as the caller set them. */
void fo_step_slice(const fo_segment *s, const fo_rule *rule, ptrdiff_t start, ptrdiff_t n);

/* dense.c: one step of one rule over all segments in one parallel region; `ends` are the running
   totals of the segments' sizes. Element-wise, so the bits do not depend on threads. */
void fo_step(const fo_segment *segments, const ptrdiff_t *ends, ptrdiff_t count, int rule,
             int threads);

/* The sum of squares (FO_SUMSQ) or largest magnitude (FO_ABSMAX) of scale * g over all gradients,
   added in an order that depends on nothing but sizes. Needs room for fo_partials(...) doubles. */
ptrdiff_t fo_partials(const fo_segment *segments, ptrdiff_t count);
double fo_reduce_gradients(const fo_segment *segments, ptrdiff_t count, int what, double scale,
                           double *partials, int threads);

#endif
