/* The libffm format: `label field:index:value ...`. */
#include "tokens.h"

static int ends_token(char c) { return (unsigned char)c <= ' '; }

/* The row at p, which ends at `end`; 0 after an error. */
static int parse_row(const fo_text *job, fo_chunk *c, const char *p, const char *end,
                     double *label) {
    const char *const limit = job->text + job->size;
    const int one_based = job->zero_based != 1;
    const int64_t unquestioned = job->n_features - (job->zero_based != 0);
    const double too_large = fo_too_large(job);
    const char *q = fo_decimal(p, limit, label);
    if (!q || !ends_token(*q)) return fo_fail(c, FO_TEXT_LABEL, p), 0;
    if (!(fabs(*label) < HUGE_VAL)) return fo_fail(c, FO_TEXT_LABEL_LARGE, p), 0;
    for (p = q; p < end; p = q) {
        if (!fo_is_blank(*p)) return fo_fail(c, FO_TEXT_CONTROL, p), 0;
        while (fo_is_blank(*p)) p++;
        if (p == end) break;
        int64_t field, index;
        const char *colon = fo_integer(p, limit, &field);
        if (colon == p || *colon != ':' || field > INT32_MAX) return fo_fail(c, FO_FFM_FIELD, p), 0;
        const char *second = fo_integer(colon + 1, limit, &index);
        if (second == colon + 1 || *second != ':') return fo_fail(c, FO_FFM_FIELD, p), 0;
        c->zero |= index == 0;
        if (index == 0 && job->zero_based == 0) return fo_fail(c, FO_SVM_ZERO, colon + 1), 0;
        if (index > unquestioned) {
            if (job->zero_based != -1 || index > job->n_features)
                return fo_fail(c, FO_TEXT_RANGE, colon + 1), 0;
            if (!c->edge) c->edge = colon + 1;
        }
        if (index > c->largest) c->largest = index;
        double value;
        q = fo_decimal(second + 1, limit, &value);
        if (!q || !ends_token(*q)) return fo_fail(c, FO_TEXT_VALUE, second + 1), 0;
        if (!(fabs(value) < too_large)) return fo_fail(c, FO_TEXT_VALUE_LARGE, second + 1), 0;
        if (!fo_row_add(&c->scratch, index - one_based, value))
            return fo_fail(c, FO_TEXT_MEMORY, p), 0;
        c->scratch.fields[c->scratch.n - 1] = (int32_t)field;
    }
    return 1;
}

void fo_parse_ffm(const fo_text *job, fo_chunk *c, const char *stop) {
    while (c->p < c->end && c->p < stop) {
        const char *next, *p = c->p, *end = fo_line_end(c, p, &next);
        if (!end) return;
        while (p < end && fo_is_blank(*p)) p++;
        if (p < end) {
            double label;
            c->scratch.n = 0;
            if (!parse_row(job, c, p, end, &label)) return;
            if (!fo_row_write(job, c, 0, label, 1, p)) return;
        }
        c->p = next;
    }
}
