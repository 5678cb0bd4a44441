/* The svmlight parser. A first pass counts newlines and colons, which bounds rows and entries, so
   that the second writes every chunk straight to its place in the output. Where a chunk had fewer
   (comments, blank lines, qid), the output is moved down while it is still in cache. */
#include "svmlight.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "decimal.h"
#include "fastopt.h"

enum { STRIDE = 1 << 18 }; /* bytes between two looks at the clock */
static const double SLICE = 0.03;

typedef struct {
    fo_svmlight *job;
    struct timespec start;
    _Atomic int64_t next, last; /* chunk to take; no chunk behind `last` matters: it has an error */
} slice;

static void begin_slice(slice *s, fo_svmlight *job) {
    s->job = job;
    timespec_get(&s->start, TIME_UTC);
    atomic_init(&s->next, job->first);
    atomic_init(&s->last, job->n_chunks - 1);
}

static int time_is_up(const slice *s) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    const double t =
        (double)(now.tv_sec - s->start.tv_sec) + 1e-9 * (double)(now.tv_nsec - s->start.tv_nsec);
    return t < 0 || t > SLICE; /* below 0: the clock was set back */
}

/* ---- counting ---- */

static void tally(const char *p, int64_t n, int64_t *colons, int64_t *lines) {
    enum { LANES = 32 };
    while (n >= LANES) {
        uint8_t a[LANES] = {0}, b[LANES] = {0};
        int64_t rounds = n / LANES < 255 ? n / LANES : 255;
        n -= rounds * LANES;
        for (; rounds > 0; rounds--, p += LANES)
            for (int j = 0; j < LANES; j++) {
                a[j] = (uint8_t)(a[j] + (p[j] == ':'));
                b[j] = (uint8_t)(b[j] + (p[j] == '\n'));
            }
        for (int j = 0; j < LANES; j++) {
            *colons += a[j];
            *lines += b[j];
        }
    }
    for (; n > 0; n--, p++) {
        *colons += *p == ':';
        *lines += *p == '\n';
    }
}

/* Counts the bytes of chunk i: up to its last newline into the chunk's own fields; `end` is set
   behind that newline, and `entry` to the colons behind it, which belong to the next line's end. */
static void count_chunk(const fo_svmlight *job, int64_t i) {
    fo_svm_chunk *c = &job->chunks[i];
    const int64_t rest = job->size - i * job->chunk_bytes;
    const char *begin = job->text + i * job->chunk_bytes;
    const char *stop = begin + (rest < job->chunk_bytes ? rest : job->chunk_bytes), *end = stop;
    while (end > begin && end[-1] != '\n') end--;
    c->end = end;
    int64_t none = 0;
    tally(begin, end - begin, &c->colons, &c->lines);
    tally(end, stop - end, &c->entry, &none);
    c->done = 1;
}

static void count_body(void *ctx, int k, int n) {
    (void)k, (void)n;
    slice *s = ctx;
    int64_t i;
    while ((i = atomic_fetch_add(&s->next, 1)) < s->job->n_chunks) {
        count_chunk(s->job, i);
        if (time_is_up(s)) return;
    }
}

int fo_svmlight_count(fo_svmlight *job) {
    slice s;
    begin_slice(&s, job);
    fo_parallel(count_body, &s, job->threads);
    while (job->first < job->n_chunks && job->chunks[job->first].done) job->first++;
    if (job->first < job->n_chunks) return 1;
    /* Give each chunk the lines that end in it. */
    const char *begin = job->text;
    int64_t pending = 0, row = 0, entry = 0;
    for (int64_t i = 0; i < job->n_chunks; i++) {
        fo_svm_chunk *c = &job->chunks[i];
        const int64_t behind = c->entry;
        c->largest = -1;
        c->row = row;
        c->entry = entry;
        c->p = begin;
        if (c->lines == 0) {
            c->end = begin;
            pending += c->colons + behind;
            c->colons = 0;
        } else {
            begin = c->end;
            c->colons += pending;
            pending = behind;
        }
        c->done = c->p == c->end;
        row += c->lines;
        entry += c->colons;
    }
    job->first = 0;
    job->rows = row;
    job->entries = entry;
    job->largest = -1;
    return 0;
}

/* ---- parsing ---- */

static int is_blank(char c) { return c == ' ' || c == '\t'; }
static int ends_token(char c) { return (unsigned char)c <= ' ' || c == '#'; }

static void fail(fo_svm_chunk *c, int error, const char *at) {
    c->error = error;
    c->at = at;
    c->done = 1;
}

/* From behind a line's last token to the next line; NULL after an error. A carriage return stands
   before the newline or it is an error, in comments too: old files of carriage returns only would
   otherwise be one long comment. */
static const char *next_line(fo_svm_chunk *c, const char *p, int error) {
    if (*p == '#') {
        const char *newline = memchr(p, '\n', (size_t)(c->end - p));
        if (!newline) return fail(c, FO_SVM_CHANGED, p), NULL;
        const char *stop = newline - (newline[-1] == '\r');
        const char *nul = memchr(p, 0, (size_t)(stop - p));
        const char *cr = memchr(p, '\r', (size_t)(stop - p));
        if (nul || cr) return fail(c, FO_SVM_CONTROL, !cr || (nul && nul < cr) ? nul : cr), NULL;
        return newline + 1;
    }
    if (*p == '\r') {
        if (p[1] == '\n') return p + 2;
        error = FO_SVM_CONTROL;
    }
    if (*p == '\n') return p + 1;
    return fail(c, *p == 0 ? FO_SVM_CONTROL : error, p), NULL;
}

/* The finite number at p; NULL after an error, which is `error` or, if too large, the next one. */
static const char *number(fo_svm_chunk *c, const char *p, const char *limit, int error,
                          double largest, double *value) {
    const char *end = fo_decimal(p, limit, value);
    if (!end || !ends_token(*end)) return fail(c, error, p), NULL;
    if (!(fabs(*value) < largest)) return fail(c, error + 1, p), NULL;
    return end;
}

/* An integer without sign at p, saturating at INT64_MAX; its end, or p if there is none. */
static const char *integer(const char *p, const char *limit, int64_t *value) {
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

/* The label and the qid that open the line at p; NULL after an error. */
static const char *open_row(const fo_svmlight *job, fo_svm_chunk *c, const char *p) {
    const char *limit = job->text + job->size;
    const int64_t row = c->row + c->rows;
    if (c->rows == c->lines) return fail(c, FO_SVM_CHANGED, p), NULL;
    p = number(c, p, limit, FO_SVM_LABEL, HUGE_VAL, &job->y[row]);
    if (!p) return NULL;
    const char *q = p;
    while (is_blank(*q)) q++;
    if (q[0] == 'q' && q[1] == 'i' && q[2] == 'd' && q[3] == ':') {
        const char *digits = q + 4 + (q[4] == '-' || q[4] == '+');
        int64_t value;
        p = integer(digits, limit, &value);
        if (p == digits || !ends_token(*p) || value == INT64_MAX)
            return fail(c, FO_SVM_QID, q), NULL;
        if (job->want_qid) job->qid[row] = q[4] == '-' ? -value : value;
    } else if (job->want_qid)
        return fail(c, FO_SVM_QID_MISSING, q), NULL;
    c->open = 1;
    c->previous = -1;
    return p;
}

/* Parses lines, and the entries of a long line, until `stop` is passed. */
static void parse_chunk(const fo_svmlight *job, fo_svm_chunk *c, const char *stop) {
    const char *const limit = job->text + job->size;
    const char *p = c->p;
    const int one_based = job->zero_based != 1;
    const int64_t least = job->zero_based == 0;
    const int64_t unquestioned = job->n_features - (job->zero_based != 0);
    const double largest = job->dtype == FO_F32 ? 0x1.ffffffp127 : HUGE_VAL; /* rounds to inf */
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
            c->line = p;
            while (is_blank(*p)) p++;
            if (*p == '\n' || *p == '\r' || *p == '#') {
                if (!(p = next_line(c, p, FO_SVM_LABEL))) return;
                continue;
            }
            if (!(p = open_row(job, c, p))) return;
        }
        int64_t previous = c->previous, k = c->entry + c->entries;
        const int64_t room = c->entry + c->colons;
        for (;;) {
            if (p >= stop) {
                c->p = p;
                c->previous = previous;
                c->entries = k - c->entry;
                return;
            }
            if (!is_blank(*p++)) {
                p--;
                break;
            }
            while (is_blank(*p)) p++;
            if (!fo_is_digit(*p)) break;
            int64_t index;
            const char *colon = integer(p, limit, &index);
            if (*colon != ':') return fail(c, FO_SVM_FEATURE, p);
            if (index == 0) c->zero = 1; /* no store otherwise: other threads' chunks are near */
            if (index < least) return fail(c, FO_SVM_ZERO, p);
            if (index > unquestioned) {
                if (job->zero_based != -1 || index > job->n_features)
                    return fail(c, FO_SVM_RANGE, p);
                if (!c->edge) c->edge = p, c->edge_line = c->line;
            }
            if (index <= previous) return fail(c, FO_SVM_ORDER, p);
            if (k == room) return fail(c, FO_SVM_CHANGED, p);
            previous = index;
            double value;
            p = number(c, colon + 1, limit, FO_SVM_VALUE, largest, &value);
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
    c->done = 1;
    if (p != c->end) fail(c, FO_SVM_CHANGED, c->line);
}

static void parse_body(void *ctx, int k, int n) {
    (void)k, (void)n;
    slice *s = ctx;
    int64_t i;
    while ((i = atomic_fetch_add(&s->next, 1)) <= atomic_load(&s->last)) {
        fo_svm_chunk *c = &s->job->chunks[i];
        while (!c->done) {
            if (time_is_up(s)) return;
            parse_chunk(s->job, c, c->end - c->p > STRIDE ? c->p + STRIDE : c->end);
        }
        if (c->error) {
            int64_t last = atomic_load(&s->last);
            while (i < last && !atomic_compare_exchange_weak(&s->last, &last, i)) {
            }
        }
    }
}

/* Moves the output of a parsed chunk to behind that of the chunks before it. */
static void settle(fo_svmlight *job, const fo_svm_chunk *c) {
    const int64_t gap = c->entry - job->entries;
    const size_t value = (size_t)fo_item_size[job->dtype];
    const size_t index = (size_t)fo_index_size[job->index_type];
    if (gap) {
        char *data = job->data, *indices = job->indices;
        memmove(data + (size_t)job->entries * value, data + (size_t)c->entry * value,
                (size_t)c->entries * value);
        memmove(indices + (size_t)job->entries * index, indices + (size_t)c->entry * index,
                (size_t)c->entries * index);
    }
    if (gap || c->row != job->rows)
        for (int64_t r = 0; r < c->rows; r++) {
            job->ends[job->rows + r] = job->ends[c->row + r] - gap;
            job->y[job->rows + r] = job->y[c->row + r];
            if (job->want_qid) job->qid[job->rows + r] = job->qid[c->row + r];
        }
    job->rows += c->rows;
    job->entries += c->entries;
}

static fo_svm_place place(const fo_svmlight *job, const fo_svm_chunk *c, int error,
                          const char *line, const char *at) {
    fo_svm_place found = {error, c->row, line - job->text, at - job->text};
    const char *begin = c > job->chunks ? c[-1].end : job->text;
    int64_t colons = 0;
    tally(begin, line - begin, &colons, &found.lines);
    return found;
}

int fo_svmlight_parse(fo_svmlight *job) {
    if (job->first == 0) job->rows = job->entries = 0;
    slice s;
    begin_slice(&s, job);
    fo_parallel(parse_body, &s, job->threads);
    for (; job->first < job->n_chunks && job->chunks[job->first].done; job->first++) {
        const fo_svm_chunk *c = &job->chunks[job->first];
        job->zero |= c->zero;
        if (c->edge && !job->edge.error)
            job->edge = place(job, c, FO_SVM_RANGE, c->edge_line, c->edge);
        if (c->error) {
            job->error = place(job, c, c->error, c->line, c->at);
            return 0;
        }
        if (c->largest > job->largest) job->largest = c->largest;
        job->bytes = c->end - job->text;
        settle(job, c);
    }
    return job->first < job->n_chunks;
}
