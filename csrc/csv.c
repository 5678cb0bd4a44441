/* Tables as text (RFC 4180): one number per column that is a number, and for strings one hashed
   column for each "name=value". */
#include <stdlib.h>

#include "murmur.h"
#include "tokens.h"

/* A field: its content, and where it ends. */
typedef struct {
    const char *begin, *end, *next;
    int doubled; /* the content has doubled quotes */
} field;

static int bad(fo_chunk *c, int error, const char *at, int64_t column) {
    c->column = column;
    fo_fail(c, error, at);
    return 0;
}

/* Reads the field at p, which something must follow; 0 after an error. */
static int read_field(const fo_text *job, fo_chunk *c, const char *p, int64_t column, field *f) {
    const char *const limit = job->text + job->size, delimiter = job->delimiter;
    f->doubled = 0;
    if (*p != '"') {
        f->begin = p;
        while (p < limit && !job->stops[(unsigned char)*p]) p++;
        if (p == limit) return bad(c, FO_TEXT_CHANGED, p - 1, column);
        if (*p == '"') return bad(c, FO_CSV_QUOTE, p, column);
        f->end = f->next = p;
    } else {
        const char *q = f->begin = p + 1;
        while ((q = memchr(q, '"', (size_t)(limit - q))) && q[1] == '"') {
            q += 2;
            f->doubled = 1;
        }
        if (!q) return bad(c, FO_CSV_CLOSED, p, column);
        f->end = q;
        f->next = p = q + 1;
        if (*p != delimiter && *p != '\n' && *p != '\r') return bad(c, FO_CSV_BEHIND, p, column);
    }
    if (*p == '\r' && p[1] != '\n') return bad(c, FO_TEXT_CONTROL, p, column);
    return 1;
}

/* The number in the field, blanks around it allowed; 0 after an error. */
static int read_number(const fo_text *job, fo_chunk *c, const field *f, int64_t column,
                       double *value) {
    const char *p = f->begin, *q;
    while (p < f->end && fo_is_blank(*p)) p++;
    if (p == f->end) return bad(c, FO_CSV_MISSING, f->begin, column);
    q = fo_decimal(p, job->text + job->size, value);
    if (!q || q > f->end) return bad(c, FO_CSV_NUMBER, f->begin, column);
    while (q < f->end && fo_is_blank(*q)) q++;
    if (q != f->end) return bad(c, FO_CSV_NUMBER, f->begin, column);
    return 1;
}

static int is_missing(const field *f) {
    const char *p = f->begin;
    while (p < f->end && fo_is_blank(*p)) p++;
    return p == f->end;
}

/* The hash of "name=content"; 0 if out of memory. */
static int hash(fo_row *row, const fo_column *column, const field *f, uint32_t *found) {
    const char *begin = f->begin;
    int64_t n = f->end - f->begin;
    if (f->doubled) {
        if (n > row->bytes_room) {
            char *bytes = realloc(row->bytes, 2 * (size_t)n);
            if (!bytes) return 0;
            row->bytes = bytes;
            row->bytes_room = 2 * n;
        }
        char *to = row->bytes;
        for (const char *p = f->begin; p < f->end; p += 1 + (*p == '"')) *to++ = *p;
        begin = row->bytes;
        n = to - begin;
    }
    *found = fo_murmur3_end(column->prefix, begin, (size_t)n);
    return 1;
}

/* Reads the record at p; returns where the next one begins, NULL after an error. */
static const char *read_record(const fo_text *job, fo_chunk *c, const char *p, double *label,
                               double *weight) {
    const double too_large = fo_too_large(job);
    for (int64_t k = 0;; k++, p++) {
        field f;
        double value = 1;
        if (k == job->n_columns) return bad(c, FO_CSV_MANY, p, k), NULL;
        const fo_column *column = &job->columns[k];
        if (column->kind >= FO_COLUMN_NUMBER && column->kind != FO_COLUMN_STRING) {
            /* the usual number is all of its field */
            f.begin = p;
            f.next = fo_decimal(p, job->text + job->size, &value);
            if (!f.next || (*f.next != job->delimiter && *f.next != '\n')) {
                if (!read_field(job, c, p, k, &f)) return NULL;
                if (column->kind == FO_COLUMN_NUMBER && job->skip_missing && is_missing(&f))
                    value = 0;
                else if (!read_number(job, c, &f, k, &value))
                    return NULL;
            }
        } else if (!read_field(job, c, p, k, &f))
            return NULL;
        switch (column->kind) {
        case FO_COLUMN_LABEL:
            if (!(fabs(value) < HUGE_VAL)) return bad(c, FO_TEXT_LABEL_LARGE, f.begin, k), NULL;
            *label = value;
            break;
        case FO_COLUMN_WEIGHT:
            if (!(value >= 0 && value < HUGE_VAL)) return bad(c, FO_CSV_WEIGHT, f.begin, k), NULL;
            *weight = value;
            c->weighted = 1;
            break;
        case FO_COLUMN_NUMBER:
            if (!(fabs(value) < too_large)) return bad(c, FO_TEXT_VALUE_LARGE, f.begin, k), NULL;
            if (fo_vanishes(job, value)) break;
            if (!fo_row_add(&c->scratch, column->index, value))
                return bad(c, FO_TEXT_MEMORY, f.begin, k), NULL;
            break;
        case FO_COLUMN_STRING: {
            if (f.begin == f.end) break; /* an empty string has no column */
            uint32_t h;
            if (!hash(&c->scratch, column, &f, &h) ||
                !fo_row_add(&c->scratch, column->index + (int64_t)(h & job->mask), 1))
                return bad(c, FO_TEXT_MEMORY, f.begin, k), NULL;
            break;
        }
        default:;
        }
        p = f.next;
        if (*p == job->delimiter) continue;
        if (k + 1 < job->n_columns) return bad(c, FO_CSV_FEW, p, k + 1), NULL;
        return p + 1 + (*p == '\r');
    }
}

void fo_begin_csv(fo_text *job) {
    memset(job->stops, 0, sizeof(job->stops));
    job->stops[(unsigned char)job->delimiter] = job->stops['\n'] = 1;
    job->stops['\r'] = job->stops['"'] = 1;
}

void fo_parse_csv(const fo_text *job, fo_chunk *c, const char *stop) {
    while (c->p < c->end && c->p < stop) {
        const char *p = c->p;
        if (*p == '\n' || (*p == '\r' && p[1] == '\n')) { /* an empty line is no record */
            c->p = p + 1 + (*p == '\r');
            continue;
        }
        double label = NAN, weight = 1;
        c->scratch.n = 0;
        const char *next = read_record(job, c, p, &label, &weight);
        if (!next) return;
        if (next > c->end) return fo_fail(c, FO_TEXT_CHANGED, p);
        if (!fo_row_write(job, c, 1, label, weight, p)) return;
        c->p = next;
    }
}
