/* The svmlight (libsvm) format: `label [qid:number] index:value ... [# comment]`. */
#include "tokens.h"

static int ends_token(char c) { return (unsigned char)c <= ' ' || c == '#'; }

/* From behind a line's last token to the next line; NULL after an error. A carriage return stands
   before the newline or it is an error, in comments too: old files of carriage returns only would
   otherwise be one long comment. */
static const char *next_line(fo_chunk *c, const char *p, int error) {
    if (*p == '#') {
        const char *newline = memchr(p, '\n', (size_t)(c->end - p));
        if (!newline) return fo_fail(c, FO_TEXT_CHANGED, p), NULL;
        const char *stop = newline - (newline[-1] == '\r');
        const char *nul = memchr(p, 0, (size_t)(stop - p));
        const char *cr = memchr(p, '\r', (size_t)(stop - p));
        if (nul || cr)
            return fo_fail(c, FO_TEXT_CONTROL, !cr || (nul && nul < cr) ? nul : cr), NULL;
        return newline + 1;
    }
    if (*p == '\r') {
        if (p[1] == '\n') return p + 2;
        error = FO_TEXT_CONTROL;
    }
    if (*p == '\n') return p + 1;
    return fo_fail(c, *p == 0 ? FO_TEXT_CONTROL : error, p), NULL;
}

/* The finite number at p; NULL after an error, which is `error` or, if too large, the next one. */
static const char *number(fo_chunk *c, const char *p, const char *limit, int error, double largest,
                          double *value) {
    const char *end = fo_decimal(p, limit, value);
    if (!end || !ends_token(*end)) return fo_fail(c, error, p), NULL;
    if (!(fabs(*value) < largest)) return fo_fail(c, error + 1, p), NULL;
    return end;
}

/* The label and the qid that open the line at p; NULL after an error. */
static const char *open_row(const fo_text *job, fo_chunk *c, const char *p) {
    const char *limit = job->text + job->size;
    const int64_t row = c->row + c->rows;
    if (c->rows == c->lines) return fo_fail(c, FO_TEXT_CHANGED, p), NULL;
    p = number(c, p, limit, FO_TEXT_LABEL, HUGE_VAL, &job->y[row]);
    if (!p) return NULL;
    const char *q = p;
    while (fo_is_blank(*q)) q++;
    if (q[0] == 'q' && q[1] == 'i' && q[2] == 'd' && q[3] == ':') {
        const char *digits = q + 4 + (q[4] == '-' || q[4] == '+');
        int64_t value;
        p = fo_integer(digits, limit, &value);
        if (p == digits || !ends_token(*p) || value == INT64_MAX)
            return fo_fail(c, FO_SVM_QID, q), NULL;
        if (job->want_qid) job->qid[row] = q[4] == '-' ? -value : value;
    } else if (job->want_qid)
        return fo_fail(c, FO_SVM_QID_MISSING, q), NULL;
    c->open = 1;
    c->previous = -1;
    return p;
}

/* Parses lines, and the entries of a long line, until `stop` is passed. */
void fo_parse_svmlight(const fo_text *job, fo_chunk *c, const char *stop) {
    const char *const limit = job->text + job->size;
    const char *p = c->p;
    const int one_based = job->zero_based != 1;
    const int64_t least = job->zero_based == 0;
    const int64_t unquestioned = job->n_features - (job->zero_based != 0);
    const double largest = fo_too_large(job);
    float *const data32 = job->data;
    double *const data64 = job->data;
    int32_t *const indices32 = job->indices;
    int64_t *const indices64 = job->indices;

    while (p < c->end) {
        if (!c->open) {
            if (p >= stop) {
                c->p = p;
                return;
            }
            while (fo_is_blank(*p)) p++;
            if (*p == '\n' || *p == '\r' || *p == '#') {
                if (!(p = next_line(c, p, FO_TEXT_LABEL))) return;
                continue;
            }
            if (!(p = open_row(job, c, p))) return;
        }
        int64_t previous = c->previous, k = c->entry + c->entries;
        const int64_t room = c->entry + c->marks;
        for (;;) {
            if (p >= stop) {
                c->p = p;
                c->previous = previous;
                c->entries = k - c->entry;
                return;
            }
            if (!fo_is_blank(*p++)) {
                p--;
                break;
            }
            while (fo_is_blank(*p)) p++;
            if (!fo_is_digit(*p)) break;
            int64_t index;
            const char *colon = fo_integer(p, limit, &index);
            if (*colon != ':') return fo_fail(c, FO_SVM_FEATURE, p);
            if (index == 0) c->zero = 1; /* no store otherwise: other threads' chunks are near */
            if (index < least) return fo_fail(c, FO_SVM_ZERO, p);
            if (index > unquestioned) {
                if (job->zero_based != -1 || index > job->n_features)
                    return fo_fail(c, FO_TEXT_RANGE, p);
                if (!c->edge) c->edge = p;
            }
            if (index <= previous) return fo_fail(c, FO_SVM_ORDER, p);
            if (k == room) return fo_fail(c, FO_TEXT_CHANGED, p);
            previous = index;
            double value;
            p = number(c, colon + 1, limit, FO_TEXT_VALUE, largest, &value);
            if (!p) return;
            if (job->dtype == FO_F32)
                data32[k] = (float)value;
            else
                data64[k] = value;
            if (job->index_type == FO_I32)
                indices32[k] = (int32_t)(index - one_based);
            else
                indices64[k] = index - one_based;
            k++;
        }
        if (!(p = next_line(c, p, FO_SVM_FEATURE))) return;
        c->entries = k - c->entry;
        if (previous > c->largest) c->largest = previous;
        job->ends[c->row + c->rows] = job->entry0 + k;
        c->rows++;
        c->open = 0;
    }
    c->p = p;
    if (p != c->end) fo_fail(c, FO_TEXT_CHANGED, c->end - 1);
}
