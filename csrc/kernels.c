/* All vectorized loops, compiled once per instruction set with that set's flags (see setup.py):
   FO_ISA is base, avx2 or avx512. Everything is static except one table, so the linker can never
   hand an AVX-512 copy of a function to a caller that runs on an older CPU. */
#include <float.h>
#include <math.h>
#include <string.h>
#include <tgmath.h>

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

#include "coordinate.h"
#include "dual.h"
#include "factor.h"
#include "gradient.h"
#include "multi.h"
#include "objective.h"
#include "rule.h"
#include "study.h"
#include "vector.h"

#include "fm.h" /* the models of fm.inc */

#include "convert.inc"

#include "compressed.inc"

#include "elementary.h"

#include "dtypes.inc"

static const fo_vector_kernels vector = {
    .passes = {{reduce_pass_dot_f32, reduce_pass_dot_f64},
               {reduce_pass_combine_f32, reduce_pass_combine_f64},
               {reduce_pass_receive_f32, reduce_pass_receive_f64},
               {reduce_pass_pair_f32, reduce_pass_pair_f64}},
    .cholesky = cholesky_solve,
};

#define LOOPS(rule)                                                                                \
#rule, rule##_states_f32, rule##_scalars_f32, {rule##_dense_f32, rule##_dense_f64 }, {         \
        {rule##_sparse_i32_f32, rule##_sparse_i64_f32}, {                                          \
            rule##_sparse_i32_f64, rule##_sparse_i64_f64                                           \
        }                                                                                          \
    }
#define RULE_ENTRY(rule) {LOOPS(rule), {NULL, NULL}},
#define DIRECTED_ENTRY(rule) {LOOPS(rule), {rule##_measure_f32, rule##_measure_f64}},

#define TRAIN_ENTRY(loss)                                                                          \
    {{train_##loss##_i32_f32, train_##loss##_i64_f32},                                             \
     {train_##loss##_i32_f64, train_##loss##_i64_f64}},
#define CAREFUL_ENTRY(loss)                                                                        \
    {{careful_##loss##_i32_f32, careful_##loss##_i64_f32},                                         \
     {careful_##loss##_i32_f64, careful_##loss##_i64_f64}},
#define COORDINATE_ENTRY(rule)                                                                     \
    {                                                                                              \
        {by_##rule##_i32_f32, by_##rule##_i64_f32}, { by_##rule##_i32_f64, by_##rule##_i64_f64 }   \
    }
#define MANY_ENTRY(loss) loss##_many,
#define DERIVATIVE_ENTRY(loss) loss##_derivative_f64,
#define NAME_ENTRY(loss) #loss,

static int within_i32(ptrdiff_t n, const void *indices, ptrdiff_t columns) {
    const uint32_t *at = (const uint32_t *)indices; /* a negative index is a huge one */
    uint32_t largest = 0;
    for (ptrdiff_t k = 0; k < n; k++) largest = MAX(largest, at[k]);
    return n == 0 || (largest <= INT32_MAX && (ptrdiff_t)largest < columns);
}

static int within_i64(ptrdiff_t n, const void *indices, ptrdiff_t columns) {
    const uint64_t *at = (const uint64_t *)indices;
    uint64_t largest = 0;
    for (ptrdiff_t k = 0; k < n; k++) largest = MAX(largest, at[k]);
    return n == 0 || largest < (uint64_t)columns;
}

static const fo_fm_kernels fm = {
    .train = {{{fm_plain_i32_f32, fm_plain_i64_f32}, {fm_plain_i32_f64, fm_plain_i64_f64}},
              {{fm_adaptive_i32_f32, fm_adaptive_i64_f32},
               {fm_adaptive_i32_f64, fm_adaptive_i64_f64}}},
    .margins = {{fm_margins_i32_f32, fm_margins_i64_f32}, {fm_margins_i32_f64, fm_margins_i64_f64}},
};

static const fo_sparse_kernels sparse = {
    .train = {{LOSSES(TRAIN_ENTRY) TRAIN_ENTRY(user)}, {LOSSES(CAREFUL_ENTRY) CAREFUL_ENTRY(user)}},
    .loss_names = {LOSSES(NAME_ENTRY)},
    .many = {LOSSES(MANY_ENTRY)},
    .derivative = {LOSSES(DERIVATIVE_ENTRY)},
    .margins = {{margins_i32_f32, margins_i64_f32}, {margins_i32_f64, margins_i64_f64}},
    .gradient = {{gradient_i32_f32, gradient_i64_f32}, {gradient_i32_f64, gradient_i64_f64}},
    .hessian = {{hessian_i32_f32, hessian_i64_f32}, {hessian_i32_f64, hessian_i64_f64}},
    .curvature = {{curvature_i32_f32, curvature_i64_f32}, {curvature_i32_f64, curvature_i64_f64}},
    .merge = {merge_f32, merge_f64},
    .observe = {observe_f32, observe_f64},
    .scale = {scale_f32, scale_f64},
    .pay = {pay_f32, pay_f64},
    .mean = {mean_f32, mean_f64},
    .dot = {{row_dot_i32_f32, row_dot_i64_f32}, {row_dot_i32_f64, row_dot_i64_f64}},
    .add = {{row_add_i32_f32, row_add_i64_f32}, {row_add_i32_f64, row_add_i64_f64}},
    .peek = {{row_peek_i32_f32, row_peek_i64_f32}, {row_peek_i32_f64, row_peek_i64_f64}},
    .contend = {{row_contend_i32_f32, row_contend_i64_f32},
                {row_contend_i32_f64, row_contend_i64_f64}},
    .combine = {combine_rows_f32, combine_rows_f64},
    .end_round = {end_round_f32, end_round_f64},
    .finite = {finite_f32, finite_f64},
    .within = {within_i32, within_i64},
    .coordinate = {COORDINATE_ENTRY(adagrad), COORDINATE_ENTRY(adam), COORDINATE_ENTRY(ftrl)},
    .catch_up_columns = {catch_up_columns_f32, catch_up_columns_f64},
};

#define MULTI_ENTRY(loss)                                                                          \
    {{{loss##_rows_i32_f32, loss##_rows_i64_f32}, {loss##_rows_i32_f64, loss##_rows_i64_f64}},     \
     {{loss##_shared_i32_f32, loss##_shared_i64_f32},                                              \
      {loss##_shared_i32_f64, loss##_shared_i64_f64}}},
#define MULTI_VALUE(loss) loss##_of_f64,

static const fo_multi_kernels multi = {
    .train = {MULTI_LOSSES(MULTI_ENTRY)},
    .names = {MULTI_LOSSES(NAME_ENTRY)},
    .value = {MULTI_LOSSES(MULTI_VALUE)},
    .scores = {{block_scores_i32_f32, block_scores_i64_f32},
               {block_scores_i32_f64, block_scores_i64_f64}},
};

static const fo_dual_kernels dual = {
    .shifted = {shifted_f32, shifted_f64},
    .exchange = {{exchange_i32_f32, exchange_i64_f32}, {exchange_i32_f64, exchange_i64_f64}},
    .ascend = {{ascend_i32_f32, ascend_i64_f32}, {ascend_i32_f64, ascend_i64_f64}},
    .gaps = {gaps_f32, gaps_f64},
    .gather = {gather_copies_f32, gather_copies_f64},
    .apply = {apply_change_f32, apply_change_f64},
    .back = {go_back_f32, go_back_f64},
    .squares = {row_squares_f32, row_squares_f64},
};

static const fo_factor_kernels factor = {
    .train = {{factor_squared_f32, factor_squared_f64},
              {factor_absolute_f32, factor_absolute_f64},
              {factor_logistic_f32, factor_logistic_f64},
              {factor_hinge_f32, factor_hinge_f64},
              {factor_pairs_f32, factor_pairs_f64}},
    .margins = {factor_margins_f32, factor_margins_f64},
    .value = {squared_value_f64, absolute_value_f64, logistic_value_f64, hinge_value_f64,
              logistic_value_f64},
};

#define CLASS_ENTRY(loss) {class_##loss##_f32, class_##loss##_f64},
#define ELEMENT_ENTRY(loss) {element_##loss##_f32, element_##loss##_f64},

static const fo_objective_kernels objective = {
    .classes = {CLASS_OBJECTIVES(CLASS_ENTRY)},
    .elements = {OBJECTIVES(ELEMENT_ENTRY)},
    .class_names = {CLASS_OBJECTIVES(NAME_ENTRY)},
    .element_names = {OBJECTIVES(NAME_ENTRY)},
    .bad = {{not_signs_f32, not_signs_f64},
            {not_counts_f32, not_counts_f64},
            {not_numbers_f32, not_numbers_f64}},
};

static const fo_rule rules[] = {RULES(RULE_ENTRY) DIRECTED(DIRECTED_ENTRY)};

const fo_kernels PASTE(fo_kernels, FO_ISA) = {
    .isa = TEXT(FO_ISA),
    .vector = &vector,
    .n_rules = sizeof rules / sizeof *rules,
    .rules = rules,
    .reduce = {{reduce_sum_f32, reduce_sum_f64},
               {reduce_dot_f32, reduce_dot_f64},
               {reduce_sumsq_f32, reduce_sumsq_f64},
               {reduce_absmax_f32, reduce_absmax_f64}},
    .noise = make_noise,
    .largest = largest_of,
    .load = {load_f32, NULL, load_bf16, load_f16, load_s8, load_u8},
    .save = {save_f32, NULL, save_bf16, save_f16, save_s8, save_u8},
    .stages = {{stage_mask_f32, stage_clamp_f32, scale_f32, stage_add_sign_f32, stage_shrink_f32,
                stage_average_f32},
               {stage_mask_f64, stage_clamp_f64, scale_f64, stage_add_sign_f64, stage_shrink_f64,
                stage_average_f64}},
    .factored = {{factored_squares_f32, factored_roots_f32, factored_row_roots_f32,
                  factored_measure_f32, factored_precondition_f32, factored_average_f32,
                  factored_divide_f32},
                 {factored_squares_f64, factored_roots_f64, factored_row_roots_f64,
                  factored_measure_f64, factored_precondition_f64, factored_average_f64,
                  factored_divide_f64}},
    .fm = &fm,
    .sparse = &sparse,
    .multi = &multi,
    .dual = &dual,
    .factor = &factor,
    .objective = &objective,
};
