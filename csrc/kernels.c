/* All vectorized loops, compiled once per instruction set with that set's flags (see setup.py):
   FO_ISA is base, avx2 or avx512. Everything is static except one table, so the linker can never
   hand an AVX-512 copy of a function to a caller that runs on an older CPU. */
#include <math.h>
#include <tgmath.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

#include "rule.h"

#include "dtypes.inc"

#define RULE_ENTRY(rule)                                                                           \
    {#rule,                                                                                        \
     rule##_states_f32,                                                                            \
     rule##_scalars_f32,                                                                           \
     {rule##_dense_f32, rule##_dense_f64},                                                         \
     {{rule##_sparse_i32_f32, rule##_sparse_i64_f32},                                              \
      {rule##_sparse_i32_f64, rule##_sparse_i64_f64}}},

static const fo_rule rules[] = {RULES(RULE_ENTRY)};

const fo_kernels PASTE(fo_kernels, FO_ISA) = {
    .isa = TEXT(FO_ISA),
    .n_rules = sizeof rules / sizeof *rules,
    .rules = rules,
    .reduce = {{reduce_sum_f32, reduce_sum_f64},
               {reduce_dot_f32, reduce_dot_f64},
               {reduce_sumsq_f32, reduce_sumsq_f64},
               {reduce_absmax_f32, reduce_absmax_f64}},
};
