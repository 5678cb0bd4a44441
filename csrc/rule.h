/* RULE turns one element's arithmetic into its loops and its table entry.

   RULE(adam, (m, v), (lr, b1, ...)) { ... }   defines, for the type T and the suffix of FN,
     adam_at      the braces: a real inline function of one element (breakpoints work in it)
     adam_dense   the loop over contiguous elements
     adam_sparse  the loop over coordinates, for both index types
     adam_text    the declared names, which Python reads
   Works with any compiler that has __VA_OPT__ (gcc 8, clang 6, MSVC's conforming preprocessor). */
#ifndef FO_RULE_H
#define FO_RULE_H

#include "fastopt.h"

/* EACH(f, a, b, c) -> f(a) f(b) f(c), up to 64 arguments, none allowed. */
#define EACH(f, ...) __VA_OPT__(EACH_16(EACH_STEP(f, __VA_ARGS__)))
#define EACH_STEP(f, a, ...) f(a) __VA_OPT__(EACH_LATER EACH_NONE(f, __VA_ARGS__))
#define EACH_LATER() EACH_STEP
#define EACH_NONE ()
#define EACH_16(...) EACH_4(EACH_4(EACH_4(EACH_4(__VA_ARGS__))))
#define EACH_4(...) EACH_1(EACH_1(EACH_1(EACH_1(__VA_ARGS__))))
#define EACH_1(...) __VA_ARGS__
#define UNWRAP(...) __VA_ARGS__

#define STATE_PARAMETER(s) , UNUSED T *s
#define SCALAR_PARAMETER(s) , UNUSED T s
#define STATE_UNPACK(s) T *restrict s = (T *)*state++;
#define SCALAR_UNPACK(s) const T s = (T)*scalar++;
#define STATE_LOAD(s) T s##_i = LOAD(s + j);
#define STATE_STORE(s) STORE(s + j, s##_i);
#define STATE_LOCAL(s) , &s##_i
#define ARGUMENT(s) , s
#define ONE(s) +1

/* 0 at 0, and NaN stays NaN. */
#define SIGN(x) ((x) != (x) ? (x) : (T)((x) > 0) - (T)((x) < 0))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

#if defined(_MSC_VER) && !defined(__clang__)
#define SIMD __pragma(loop(ivdep))
#define SIMD_SUM(...) __pragma(loop(ivdep))
#define SIMD_MAX(x) __pragma(loop(ivdep))
#define INLINE static __forceinline
#define UNUSED
#else
#define SIMD _Pragma("omp simd")
#define SIMD_SUM(...) PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#define SIMD_MAX(x) PRAGMA(omp simd reduction(max : x))
#define PRAGMA(...) _Pragma(#__VA_ARGS__)
#define INLINE static inline __attribute__((always_inline))
#define UNUSED __attribute__((unused))
#endif

/* Racy accesses of the lock-free side: plain moves on x86 and ARM, and no undefined behaviour. */
#if defined(__GNUC__)
INLINE float fo_load_f32(const float *p) {
    float x;
    __atomic_load(p, &x, __ATOMIC_RELAXED);
    return x;
}
INLINE double fo_load_f64(const double *p) {
    double x;
    __atomic_load(p, &x, __ATOMIC_RELAXED);
    return x;
}
#if defined(__x86_64__) && !defined(__clang__) && !defined(FO_SANITIZE)
/* The move that an atomic store is; gcc would take it through an integer register. */
INLINE void fo_store_f32(float *p, float x) { __asm__("%vmovss %1, %0" : "=m"(*p) : "x"(x)); }
INLINE void fo_store_f64(double *p, double x) { __asm__("%vmovsd %1, %0" : "=m"(*p) : "x"(x)); }
#else
INLINE void fo_store_f32(float *p, float x) { __atomic_store(p, &x, __ATOMIC_RELAXED); }
INLINE void fo_store_f64(double *p, double x) { __atomic_store(p, &x, __ATOMIC_RELAXED); }
#endif
#define LOAD(p) FN(fo_load)(p)
#define STORE(p, x) FN(fo_store)(p, x)
#else
#define LOAD(p) (*(volatile const T *)(p))
#define STORE(p, x) (*(volatile T *)(p) = (x))
#endif

/* Counts the gradients that are not finite. Adding them up instead, and counting only where the sum
   is not finite, takes one operation in place of three; but a loop with nothing else to do would
   wait for the additions. */
#define CHECK(x, states_)                                                                          \
    if (0 EACH(ONE, UNWRAP states_) > 0)                                                           \
        added += x;                                                                                \
    else                                                                                           \
        bad += fabs(x) <= MAXIMUM ? (COUNT)0 : (COUNT)1;

#define RULE(name, states_, scalars_)                                                              \
    _Static_assert(0 EACH(ONE, UNWRAP states_) <= FO_MAX_STATES, #name " has too many states");    \
    _Static_assert(0 EACH(ONE, UNWRAP scalars_) <= FO_MAX_SCALARS, #name " has too many scalars"); \
    UNUSED static const char FN(name##_states)[] = #states_, FN(name##_scalars)[] = #scalars_;     \
    INLINE void FN(name##_at)(ptrdiff_t i, T g,                                                    \
                              UNUSED T * w EACH(STATE_PARAMETER, UNWRAP states_)                   \
                                             EACH(SCALAR_PARAMETER, UNWRAP scalars_));             \
    static ptrdiff_t FN(name##_dense)(ptrdiff_t n, void *w_, const void *g_, void *const *state,   \
                                      const fo_prelude *prelude, const double *scalar) {           \
        T *restrict w = (T *)w_;                                                                   \
        const T *restrict g = (const T *)g_;                                                       \
        EACH(STATE_UNPACK, UNWRAP states_)                                                         \
        EACH(SCALAR_UNPACK, UNWRAP scalars_)                                                       \
        T added = 0;                                                                               \
        COUNT bad = 0;                                                                             \
        (void)state, (void)scalar;                                                                 \
        if (prelude->scale == 1 && prelude->l2 == 0 && prelude->decay == 0) {                      \
            SIMD_SUM(added, bad)                                                                   \
            for (ptrdiff_t i = 0; i < n; i++) {                                                    \
                CHECK(g[i], states_)                                                               \
                FN(name##_at)                                                                      \
                (i, g[i], w EACH(ARGUMENT, UNWRAP states_) EACH(ARGUMENT, UNWRAP scalars_));       \
            }                                                                                      \
        } else {                                                                                   \
            const T fold = (T)prelude->fold, scale = (T)prelude->scale;                            \
            const T l2 = (T)prelude->l2, decay = (T)prelude->decay;                                \
            SIMD_SUM(added, bad)                                                                   \
            for (ptrdiff_t i = 0; i < n; i++) {                                                    \
                CHECK(g[i], states_)                                                               \
                const T total = scale * (fold * g[i]) + l2 * w[i];                                 \
                w[i] -= decay * w[i];                                                              \
                FN(name##_at)                                                                      \
                (i, total, w EACH(ARGUMENT, UNWRAP states_) EACH(ARGUMENT, UNWRAP scalars_));      \
            }                                                                                      \
        }                                                                                          \
        return fabs(added) <= MAXIMUM ? (ptrdiff_t)bad : FN(count_bad)(n, g);                      \
    }                                                                                              \
    RULE_SPARSE(name, states_, scalars_, i32, int32_t)                                             \
    RULE_SPARSE(name, states_, scalars_, i64, int64_t)                                             \
    INLINE void FN(name##_at)(UNUSED ptrdiff_t i, UNUSED T g,                                      \
                              UNUSED T * w EACH(STATE_PARAMETER, UNWRAP states_)                   \
                                             EACH(SCALAR_PARAMETER, UNWRAP scalars_))

/* DIRECTION(lamb, (m, v), (lr, ...)) { return ...; } before the rule of that name: what lr times a
   factor of the whole array moves an element by. lamb_measure is the sum of its squares. */
#define DIRECTION(name, states_, scalars_)                                                         \
    INLINE T FN(name##_direction)(ptrdiff_t i, const T *w EACH(STATE_PARAMETER, UNWRAP states_)    \
                                                   EACH(SCALAR_PARAMETER, UNWRAP scalars_));       \
    static double FN(name##_measure)(ptrdiff_t n, const void *w_, void *const *state,              \
                                     const double *scalar) {                                       \
        const T *restrict w = (const T *)w_;                                                       \
        double lane[FN(LANES)] = {0}, sum = 0;                                                     \
        EACH(STATE_UNPACK, UNWRAP states_)                                                         \
        EACH(SCALAR_UNPACK, UNWRAP scalars_)                                                       \
        ptrdiff_t start = 0;                                                                       \
        for (; start + FN(LANES) <= n; start += FN(LANES)) {                                       \
            SIMD                                                                                   \
            for (int j = 0; j < FN(LANES); j++) {                                                  \
                const double x = FN(name##_direction)(                                             \
                    start + j, w EACH(ARGUMENT, UNWRAP states_) EACH(ARGUMENT, UNWRAP scalars_));  \
                lane[j] += x * x;                                                                  \
            }                                                                                      \
        }                                                                                          \
        for (ptrdiff_t i = start; i < n; i++) {                                                    \
            const double x = FN(name##_direction)(i, w EACH(ARGUMENT, UNWRAP states_)              \
                                                         EACH(ARGUMENT, UNWRAP scalars_));         \
            lane[i - start] += x * x;                                                              \
        }                                                                                          \
        for (int j = 0; j < FN(LANES); j++) sum += lane[j];                                        \
        return sum;                                                                                \
    }                                                                                              \
    INLINE T FN(name##_direction)(ptrdiff_t i, const T *w EACH(STATE_PARAMETER, UNWRAP states_)    \
                                                   EACH(SCALAR_PARAMETER, UNWRAP scalars_))

#define RULE_SPARSE(name, states_, scalars_, suffix, index_t)                                      \
    static void FN(name##_sparse_##suffix)(ptrdiff_t n, const void *at_, void *w_, const void *g_, \
                                           void *const *state, const fo_prelude *prelude,          \
                                           const double *scalar) {                                 \
        const index_t *at = (const index_t *)at_;                                                  \
        T *w = (T *)w_;                                                                            \
        const T *g = (const T *)g_;                                                                \
        const T fold = (T)prelude->fold, scale = (T)prelude->scale;                                \
        const T l2 = (T)prelude->l2, decay = (T)prelude->decay;                                    \
        EACH(STATE_UNPACK, UNWRAP states_)                                                         \
        EACH(SCALAR_UNPACK, UNWRAP scalars_)                                                       \
        (void)state, (void)scalar;                                                                 \
        for (ptrdiff_t k = 0; k < n; k++) {                                                        \
            const ptrdiff_t j = (ptrdiff_t)at[k];                                                  \
            T w_i = LOAD(w + j);                                                                   \
            EACH(STATE_LOAD, UNWRAP states_)                                                       \
            const T total = scale * (fold * g[k]) + l2 * w_i;                                      \
            w_i -= decay * w_i;                                                                    \
            FN(name##_at)                                                                          \
            (0, total, &w_i EACH(STATE_LOCAL, UNWRAP states_) EACH(ARGUMENT, UNWRAP scalars_));    \
            STORE(w + j, w_i);                                                                     \
            EACH(STATE_STORE, UNWRAP states_)                                                      \
        }                                                                                          \
    }
#endif
