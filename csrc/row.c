/* Rows of hashed columns: sorted, and the values of one column added up. */
#include <stdlib.h>

#include "tokens.h"

int fo_row_grow(fo_row *row) {
    const int64_t room = row->room ? 2 * row->room : 256;
    fo_entry *entries = realloc(row->entries, 2 * (size_t)room * sizeof(fo_entry));
    if (!entries) return 0;
    row->entries = entries;
    row->room = room;
    return 1;
}

/* Stable: runs of eight by insertion, then merges between the two halves of the room. */
static const fo_entry *sort(fo_row *row) {
    enum { RUN = 8 };
    const int64_t n = row->n;
    fo_entry *from = row->entries, *to = row->entries + row->room;
    for (int64_t a = 0; a < n; a += RUN) {
        const int64_t b = a + RUN < n ? a + RUN : n;
        for (int64_t i = a + 1; i < b; i++) {
            const fo_entry e = from[i];
            int64_t j = i;
            for (; j > a && from[j - 1].index > e.index; j--) from[j] = from[j - 1];
            from[j] = e;
        }
    }
    for (int64_t width = RUN; width < n; width *= 2) {
        for (int64_t a = 0; a < n; a += 2 * width) {
            const int64_t b = a + width < n ? a + width : n;
            const int64_t end = b + width < n ? b + width : n;
            if (b == end || from[b - 1].index <= from[b].index) {
                memcpy(to + a, from + a, (size_t)(end - a) * sizeof(fo_entry));
                continue;
            }
            int64_t i = a, j = b;
            for (int64_t k = a; k < end; k++) {
                const int left = j == end || (i < b && from[i].index <= from[j].index);
                to[k] = left ? from[i++] : from[j++];
            }
        }
        fo_entry *other = from;
        from = to;
        to = other;
    }
    return from;
}

int fo_row_write(const fo_text *job, fo_chunk *c, int merge, double label, double weight,
                 const char *line) {
    fo_row *row = &c->scratch;
    const int64_t n = row->n;
    const fo_entry *e = row->entries;
    if (c->rows == c->lines || c->entries + n > c->marks)
        return fo_fail(c, FO_TEXT_CHANGED, line), 0;
    int sorted = 1;
    for (int64_t i = 1; i < n; i++) sorted &= e[i - 1].index < e[i].index;
    if (!sorted) e = sort(row);
    int64_t k = c->entry + c->entries;
    const double too_large = fo_too_large(job);
    for (int64_t i = 0; i < n; i++, k++) {
        double value = e[i].value;
        if (merge && !sorted)
            while (i + 1 < n && e[i + 1].index == e[i].index) value += e[++i].value;
        if (!(fabs(value) < too_large)) return fo_fail(c, FO_TEXT_VALUE_LARGE, line), 0;
        fo_put(job, k, e[i].index, value);
        if (job->fields) job->fields[k] = e[i].field;
    }
    c->entries = k - c->entry;
    const int64_t r = c->row + c->rows++;
    job->ends[r] = job->entry0 + k;
    job->y[r] = label;
    if (job->weights) job->weights[r] = weight;
    row->n = 0;
    return 1;
}
