/* Rows whose columns come in any order: sorted, and the values of one column added up. */
#include <stdlib.h>

#include "tokens.h"

int fo_row_grow(fo_row *row) {
    const int64_t room = row->room ? 2 * row->room : 256;
    const size_t n = (size_t)room;
    fo_entry *entries = realloc(row->entries, n * sizeof(fo_entry));
    if (entries) row->entries = entries;
    int32_t *fields = realloc(row->fields, n * sizeof(int32_t));
    if (fields) row->fields = fields;
    uint64_t *keys = realloc(row->keys, 2 * n * sizeof(uint64_t));
    if (keys) row->keys = keys;
    if (!entries || !fields || !keys) return 0;
    row->room = room;
    return 1;
}

void fo_row_free(fo_row *row) {
    free(row->entries);
    free(row->fields);
    free(row->keys);
    free(row->bytes);
    *row = (fo_row){0};
}

/* ---- sorting keys that differ ---- */

static inline void order(uint64_t *a, uint64_t *b) {
    const uint64_t x = *a, y = *b;
    *a = x < y ? x : y;
    *b = x < y ? y : x;
}

/* Two sorted runs of w keys to one, from both ends at once and without branches: each end takes w
   keys, and neither can run out of its run before. */
static void merge_equal(const uint64_t *a, int64_t w, uint64_t *out) {
    const uint64_t *b = a + w, *x = b - 1, *y = b + w - 1;
    uint64_t *back = out + 2 * w - 1;
    for (int64_t k = 0; k < w; k++) {
        const int low = *b<*a, high = *x> * y;
        *out++ = low ? *b : *a;
        b += low;
        a += !low;
        *back-- = high ? *x : *y;
        x -= high;
        y -= !high;
    }
}

/* The same for runs of any lengths. */
static void merge(const uint64_t *a, int64_t n, int64_t m, uint64_t *out) {
    const uint64_t *b = a + n, *a_end = b, *b_end = b + m;
    while (a < a_end && b < b_end) {
        const int low = *b < *a;
        *out++ = low ? *b : *a;
        b += low;
        a += !low;
    }
    while (a < a_end) *out++ = *a++;
    while (b < b_end) *out++ = *b++;
}

/* Runs of four by a network, then merges between two arrays; returns the one that is sorted. */
static const uint64_t *sort(uint64_t *keys, uint64_t *spare, int64_t n) {
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint64_t *k = keys + i;
        order(k, k + 1);
        order(k + 2, k + 3);
        order(k, k + 2);
        order(k + 1, k + 3);
        order(k + 1, k + 2);
    }
    for (int64_t j = i + 1; j < n; j++)
        for (int64_t l = j; l > i && keys[l - 1] > keys[l]; l--) order(keys + l - 1, keys + l);
    for (int64_t w = 4; w < n; w *= 2) {
        for (i = 0; i < n; i += 2 * w) {
            const uint64_t *a = keys + i;
            if (i + w >= n || a[w - 1] <= a[w])
                memcpy(spare + i, a, sizeof(*a) * (size_t)(n - i < 2 * w ? n - i : 2 * w));
            else if (i + 2 * w <= n)
                merge_equal(a, w, spare + i);
            else
                merge(a, w, n - i - w, spare + i);
        }
        uint64_t *other = keys;
        keys = spare;
        spare = other;
    }
    return keys;
}

/* ---- rows ---- */

static int by_index(const void *a, const void *b) {
    const fo_entry *x = *(const fo_entry *const *)a, *y = *(const fo_entry *const *)b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return x < y ? -1 : x > y; /* as they came */
}

/* Puts the places of the entries from `first` on, in order, into `keys`; returns where. Place and
   index of an entry make one key, if the indices are not very large. */
static const uint64_t *places(fo_row *row, int64_t first) {
    const fo_entry *e = row->entries;
    const int64_t n = row->n - first;
    uint64_t *keys = row->keys, wide = (uint64_t)row->n;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t above = (uint64_t)(e[first + i].index + 1); /* -1: if 0 may be wrong */
        wide |= above;
        keys[i] = above << 32 | (uint64_t)(first + i);
    }
    if (wide >> 32 == 0) {
        const uint64_t *sorted = sort(keys, keys + row->room, n);
        keys = row->keys;
        for (int64_t i = 0; i < n; i++) keys[i] = (uint32_t)sorted[i];
        return keys;
    }
    const fo_entry **at = (const fo_entry **)(void *)(keys + row->room);
    for (int64_t i = 0; i < n; i++) at[i] = e + first + i;
    qsort(at, (size_t)n, sizeof(*at), by_index);
    for (int64_t i = 0; i < n; i++) keys[i] = (uint64_t)(at[i] - e);
    return keys;
}

/* The number of entries at the beginning that are where they belong. */
static int64_t in_place(const fo_entry *e, int64_t n) {
    int64_t first = 1, least = INT64_MAX;
    while (first < n && e[first - 1].index < e[first].index) first++;
    if (first >= n) return n;
    for (int64_t i = first; i < n; i++) least = e[i].index < least ? e[i].index : least;
    while (first > 0 && e[first - 1].index >= least) first--;
    return first;
}

int fo_row_write(const fo_text *job, fo_chunk *c, int merge, double label, double weight,
                 const char *line) {
    fo_row *row = &c->scratch;
    const int64_t n = row->n;
    const fo_entry *e = row->entries;
    if (c->rows == c->lines || c->entries + n > c->marks)
        return fo_fail(c, FO_TEXT_CHANGED, line), 0;
    const double too_large = fo_too_large(job);
    const int64_t first = in_place(e, n);
    int64_t k = c->entry + c->entries;
    for (int64_t i = 0; i < first; i++, k++) {
        fo_put(job, k, e[i].index, e[i].value);
        if (job->fields) job->fields[k] = row->fields[i];
    }
    if (first < n) {
        const uint64_t *at = places(row, first);
        for (int64_t i = 0; i < n - first; i++, k++) {
            const fo_entry *one = e + at[i];
            double value = one->value;
            if (job->fields) job->fields[k] = row->fields[at[i]];
            if (merge)
                while (i + 1 < n - first && e[at[i + 1]].index == one->index)
                    value += e[at[++i]].value;
            if (!(fabs(value) < too_large)) return fo_fail(c, FO_TEXT_VALUE_LARGE, line), 0;
            fo_put(job, k, one->index, value);
        }
    }
    c->entries = k - c->entry;
    const int64_t r = c->row + c->rows++;
    job->ends[r] = job->entry0 + k;
    job->y[r] = label;
    if (job->weights) job->weights[r] = weight;
    row->n = 0;
    return 1;
}

int64_t fo_table_rows(fo_text *job, int64_t n, int64_t k, const int64_t *columns,
                      const double *values) {
    fo_chunk c = {.lines = n, .marks = n * k};
    int64_t result = 0;
    for (int64_t r = 0; r < n && result == 0; r++) {
        for (int64_t j = r * k; j < (r + 1) * k && result == 0; j++)
            if (!fo_vanishes(job, values[j]) && !fo_row_add(&c.scratch, columns[j], values[j]))
                result = -1;
        if (result == 0 && !fo_row_write(job, &c, 1, 0, 1, NULL)) result = -2 - r;
    }
    fo_row_free(&c.scratch);
    return result ? result : c.entries;
}
