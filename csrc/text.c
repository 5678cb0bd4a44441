/* Text to CSR arrays. A first pass counts newlines and what bounds the entries, so that the second
   writes every chunk straight to its place in the output. Where a chunk had fewer (comments, blank
   lines, zeros), the output is moved down while it is still in cache. */
#include "text.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fastopt.h"

enum { STRIDE = 1 << 18 }; /* bytes between two looks at the clock */
static const double SLICE = 0.03;

static fo_parse *const parse_of[FO_FORMATS] = {fo_parse_svmlight, fo_parse_vw, fo_parse_ffm,
                                               fo_parse_csv};

typedef struct {
    fo_text *job;
    struct timespec start;
    _Atomic int64_t next, last; /* chunk to take; no chunk behind `last` matters: it has an error */
} slice;

static void begin_slice(slice *s, fo_text *job) {
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

/* Adds how often three bytes occur. */
static void tally(const char *p, int64_t n, const char bytes[3], int64_t counts[3]) {
    enum { LANES = 32 };
    const char x = bytes[0], y = bytes[1], z = bytes[2];
    while (n >= LANES) {
        uint8_t a[LANES] = {0}, b[LANES] = {0}, c[LANES] = {0};
        int64_t rounds = n / LANES < 255 ? n / LANES : 255;
        n -= rounds * LANES;
        for (; rounds > 0; rounds--, p += LANES)
            for (int j = 0; j < LANES; j++) {
                a[j] = (uint8_t)(a[j] + (p[j] == x));
                b[j] = (uint8_t)(b[j] + (p[j] == y));
                c[j] = (uint8_t)(c[j] + (p[j] == z));
            }
        for (int j = 0; j < LANES; j++) {
            counts[0] += a[j];
            counts[1] += b[j];
            counts[2] += c[j];
        }
    }
    for (; n > 0; n--, p++) {
        counts[0] += *p == x;
        counts[1] += *p == y;
        counts[2] += *p == z;
    }
}

/* Adds to lines, marks and quotes what is in n bytes. Each entry of a row has a mark of its own:
   a colon (two in libffm), the blank before it, the delimiter or newline behind it. */
static void count_bytes(const fo_text *job, const char *p, int64_t n, int64_t *lines,
                        int64_t *marks, int64_t *quotes) {
    int64_t counts[3] = {0};
    switch (job->format) {
    case FO_VW:
        tally(p, n, "\n \t", counts);
        *marks += counts[1] + counts[2];
        break;
    case FO_CSV: {
        const char bytes[3] = {'\n', job->delimiter, '"'};
        tally(p, n, bytes, counts);
        *marks += counts[0] + counts[1];
        *quotes += counts[2];
        break;
    }
    default: {
        tally(p, n, "\n::", counts);
        *marks += counts[1];
    }
    }
    *lines += counts[0];
}

static void count_chunk(const fo_text *job, int64_t i) {
    fo_chunk *c = &job->chunks[i];
    const int64_t rest = job->size - i * job->chunk_bytes;
    count_bytes(job, job->text + i * job->chunk_bytes,
                rest < job->chunk_bytes ? rest : job->chunk_bytes, &c->lines, &c->marks,
                &c->quotes);
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

/* Behind the last newline in [begin, end) that ends a record, NULL if there is none: in tables, one
   before which the number of quotes is even. `quotes`: their number before `end`. */
static const char *last_end(const fo_text *job, const fo_chunk *c, const char *begin,
                            const char *end, int64_t quotes) {
    if (c->lines == 0) return NULL;
    if (job->format != FO_CSV) quotes = 0;
    const int counted = job->format == FO_CSV && c->quotes > 0;
    if (!counted && quotes & 1) return NULL;
    for (; end > begin; end--) {
        if (end[-1] == '\n' && !(quotes & 1)) return end;
        if (counted) quotes -= end[-1] == '"';
    }
    return NULL;
}

int fo_text_count(fo_text *job) {
    if (job->format == FO_CSV) fo_begin_csv(job);
    slice s;
    begin_slice(&s, job);
    fo_parallel(count_body, &s, job->threads);
    while (job->first < job->n_chunks && job->chunks[job->first].done) job->first++;
    if (job->first < job->n_chunks) return 1;
    /* Give each chunk the records that end in it. */
    const char *begin = job->text;
    int64_t lines = 0, marks = 0, quotes = 0; /* since `begin`, since the text's beginning */
    int64_t row = 0, entry = 0;
    for (int64_t i = 0; i < job->n_chunks; i++) {
        fo_chunk *c = &job->chunks[i];
        const char *p = job->text + i * job->chunk_bytes, *stop = p + job->chunk_bytes;
        if (stop > job->text + job->size) stop = job->text + job->size;
        lines += c->lines;
        marks += c->marks;
        quotes += c->quotes;
        const char *cut = last_end(job, c, p, stop, quotes);
        if (i == job->n_chunks - 1 && job->last) cut = stop;
        c->largest = -1;
        c->row = row;
        c->entry = entry;
        c->p = c->end = begin;
        c->lines = c->marks = 0;
        if (cut) {
            int64_t behind_lines = 0, behind_marks = 0, none = 0;
            count_bytes(job, cut, stop - cut, &behind_lines, &behind_marks, &none);
            c->end = begin = cut;
            c->lines = lines - behind_lines;
            c->marks = marks - behind_marks;
            if (job->format == FO_FFM) c->marks /= 2;
            lines = behind_lines;
            marks = behind_marks;
        }
        c->done = c->p == c->end;
        row += c->lines;
        entry += c->marks;
    }
    job->first = 0;
    job->whole = begin - job->text;
    job->rows = row;
    job->entries = entry;
    job->largest = -1;
    return 0;
}

/* ---- parsing ---- */

static void parse_body(void *ctx, int k, int n) {
    (void)k, (void)n;
    slice *s = ctx;
    fo_parse *parse = parse_of[s->job->format];
    int64_t i;
    while ((i = atomic_fetch_add(&s->next, 1)) <= atomic_load(&s->last)) {
        fo_chunk *c = &s->job->chunks[i];
        while (!c->done) {
            if (time_is_up(s)) return;
            parse(s->job, c, c->end - c->p > STRIDE ? c->p + STRIDE : c->end);
            if (c->p == c->end) c->done = 1;
        }
        fo_row_free(&c->scratch);
        if (c->error) {
            int64_t last = atomic_load(&s->last);
            while (i < last && !atomic_compare_exchange_weak(&s->last, &last, i)) {
            }
        }
    }
}

static void move(void *array, int64_t to, int64_t from, int64_t n, size_t size) {
    char *p = array;
    if (p && to != from) memmove(p + (size_t)to * size, p + (size_t)from * size, (size_t)n * size);
}

/* Moves the output of a parsed chunk to behind that of the chunks before it. */
static void settle(fo_text *job, const fo_chunk *c) {
    const int64_t gap = c->entry - job->entries;
    move(job->data, job->entries, c->entry, c->entries, (size_t)fo_item_size[job->dtype]);
    move(job->indices, job->entries, c->entry, c->entries, (size_t)fo_index_size[job->index_type]);
    move(job->fields, job->entries, c->entry, c->entries, 4);
    if (gap || c->row != job->rows)
        for (int64_t r = 0; r < c->rows; r++)
            job->ends[job->rows + r] = job->ends[c->row + r] - gap;
    move(job->y, job->rows, c->row, c->rows, 8);
    move(job->qid, job->rows, c->row, c->rows, 8);
    move(job->weights, job->rows, c->row, c->rows, 8);
    job->rows += c->rows;
    job->entries += c->entries;
}

static fo_place place(const fo_text *job, const fo_chunk *c, int error, const char *at) {
    const char *begin = c > job->chunks ? c[-1].end : job->text, *line = at;
    while (line > begin && line[-1] != '\n') line--;
    fo_place found = {error, c->row, line - job->text, at - job->text, c->column};
    int64_t none = 0;
    count_bytes(job, begin, line - begin, &found.lines, &none, &none);
    return found;
}

int fo_text_parse(fo_text *job) {
    if (job->first == 0) job->rows = job->entries = 0;
    slice s;
    begin_slice(&s, job);
    fo_parallel(parse_body, &s, job->threads);
    for (; job->first < job->n_chunks && job->chunks[job->first].done; job->first++) {
        const fo_chunk *c = &job->chunks[job->first];
        job->zero |= c->zero;
        job->weighted |= c->weighted;
        if (c->edge && !job->edge.error) job->edge = place(job, c, FO_TEXT_RANGE, c->edge);
        if (c->error) {
            job->error = place(job, c, c->error, c->at);
            return 0;
        }
        if (c->largest > job->largest) job->largest = c->largest;
        job->bytes = c->end - job->text;
        settle(job, c);
    }
    return job->first < job->n_chunks;
}

void fo_text_free(fo_text *job) {
    for (int64_t i = 0; i < job->n_chunks && job->chunks; i++) fo_row_free(&job->chunks[i].scratch);
    free(job->chunks);
    job->chunks = NULL;
}
