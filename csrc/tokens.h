/* What the readers of text formats share: tokens of a line, and rows whose entries are unordered.
 */
#ifndef FASTOPT_TOKENS_H
#define FASTOPT_TOKENS_H

#include <string.h>

#include "decimal.h"
#include "fastopt.h"
#include "text.h"

static inline int fo_is_blank(char c) { return c == ' ' || c == '\t'; }

static inline void fo_fail(fo_chunk *c, int error, const char *at) {
    c->error = error;
    c->at = at;
    c->done = 1;
}

/* An integer without sign at p, saturating at INT64_MAX; its end, or p if there is none. */
static inline const char *fo_integer(const char *p, const char *limit, int64_t *value) {
    uint64_t m = 0;
    const char *end = fo_digits(p, limit, &m);
    if (end - p > 18) {
        m = 0;
        for (const char *q = p; q < end && m < INT64_MAX; q++) {
            const uint64_t digit = (uint64_t)(*q - '0');
            m = m > (INT64_MAX - digit) / 10 ? INT64_MAX : m * 10 + digit;
        }
    }
    *value = (int64_t)m;
    return end;
}

/* The least double that a value's type rounds to infinity. */
static inline double fo_too_large(const fo_text *job) {
    return job->dtype == FO_F32 ? 0x1.ffffffp127 : HUGE_VAL;
}

/* Whether the value becomes a zero in its type. */
static inline int fo_vanishes(const fo_text *job, double value) {
    return job->dtype == FO_F32 ? (float)value == 0 : value == 0;
}

static inline void fo_put(const fo_text *job, int64_t k, int64_t index, double value) {
    if (job->dtype == FO_F32)
        ((float *)job->data)[k] = (float)value;
    else
        ((double *)job->data)[k] = value;
    if (job->index_type == FO_I32)
        ((int32_t *)job->indices)[k] = (int32_t)index;
    else
        ((int64_t *)job->indices)[k] = index;
}

/* The end of the line at p, without its newline; sets *next behind it. NULL after an error: a
   carriage return stands before the newline or nowhere. */
static inline const char *fo_line_end(fo_chunk *c, const char *p, const char **next) {
    const char *newline = memchr(p, '\n', (size_t)(c->end - p));
    if (!newline) return fo_fail(c, FO_TEXT_CHANGED, p), NULL;
    *next = newline + 1;
    return newline - (newline > p && newline[-1] == '\r');
}

/* row.c: adds an entry, 0 if out of memory. Writing sorts the row by index, entries of one index in
   the order they came (`merge`: as their sum), and gives it to the chunk. 0 after an error. */
int fo_row_grow(fo_row *row);
static inline int fo_row_add(fo_row *row, int64_t index, double value) {
    if (row->n == row->room && !fo_row_grow(row)) return 0;
    row->entries[row->n++] = (fo_entry){index, value};
    return 1;
}
int fo_row_write(const fo_text *job, fo_chunk *c, int merge, double label, double weight,
                 const char *line);

#endif
