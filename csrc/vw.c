/* Vowpal Wabbit's text: `[label [importance]] ['tag]|namespace[:weight] feature[:value] ... |...`,
   with the columns that VW's own hashing gives (its --hash strings). */
#include "murmur.h"
#include "tokens.h"

/* Of a byte: what ends a name there, and what has no place in text. */
enum { NAME = 0, ENDS = 1, BAD = 2 };
static const unsigned char kind_of[256] = {
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,          ENDS,         BAD,          BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,          BAD,          BAD,          BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, [' '] = ENDS, [':'] = ENDS, ['|'] = ENDS,
};

static const char *name_end(const char *p, const char *end) {
    while (p < end && kind_of[(unsigned char)*p] == NAME) p++;
    return p;
}

/* VW's hashing of a name: a number stands for itself, behind its namespace or what else is hashed
   before it. */
static uint64_t hash(const char *p, const char *end, uint64_t seed) {
    uint64_t m = 0;
    const char *q = p;
    while (q < end && fo_is_digit(*q)) m = m * 10 + (uint64_t)(*q++ - '0');
    return q == end ? m + seed : fo_murmur3(p, (size_t)(end - p), (uint32_t)seed);
}

static int ends_value(const char *p, const char *end) {
    return p == end || fo_is_blank(*p) || *p == '|';
}

/* Whether a word would be a number to others: it begins like one, or is nan or infinity. */
static int like_a_number(const char *p, const char *end) {
    if (p == end || fo_is_digit(*p)) return 1;
    p += *p == '+' || *p == '-';
    if (p < end && (fo_is_digit(*p) || *p == '.')) return 1;
    static const char *const words[] = {"nan", "inf", "infinity"};
    for (int k = 0; k < 3; k++) {
        const char *q = p, *w = words[k];
        while (*w && q < end && (*q | 32) == *w) q++, w++;
        if (!*w && q == end) return 1;
    }
    return 0;
}

/* What stands before the first bar; 0 after an error. */
static int parse_label(const fo_text *job, fo_chunk *c, const char *p, const char *bar,
                       double *label, double *weight) {
    const char *const limit = job->text + job->size, *token[3] = {0}, *token_end = p;
    int n = 0;
    *label = NAN;
    *weight = 1;
    while (p < bar) {
        if (*p == ' ') {
            p++;
            continue;
        }
        if (kind_of[(unsigned char)*p] == BAD) return fo_fail(c, FO_TEXT_CONTROL, p), 0;
        if (n == 3) return fo_fail(c, FO_VW_INITIAL, token[2]), 0;
        token[n++] = p;
        for (; p < bar && *p != ' '; p++) {
            if (*p == '\t') return fo_fail(c, FO_VW_TAB, p), 0;
            if (kind_of[(unsigned char)*p] == BAD) return fo_fail(c, FO_TEXT_CONTROL, p), 0;
        }
        token_end = p;
    }
    if (n > 0 && (token_end == bar || *token[n - 1] == '\'')) {
        /* a tag; but VW would take the label of "1|f" for one, and train without it */
        if (n == 1 && *token[0] != '\'' && like_a_number(token[0], token_end))
            return fo_fail(c, FO_VW_TOUCHES, token[0]), 0;
        n--;
    }
    if (n == 3) return fo_fail(c, FO_VW_INITIAL, token[2]), 0;
    if (n > 0) {
        const char *end = fo_decimal(token[0], limit, label);
        if (!end || *end != ' ') return fo_fail(c, FO_TEXT_LABEL, token[0]), 0;
        if (!(fabs(*label) < HUGE_VAL)) return fo_fail(c, FO_TEXT_LABEL_LARGE, token[0]), 0;
    }
    if (n > 1) {
        const char *end = fo_decimal(token[1], limit, weight);
        if (!end || *end != ' ' || !(*weight >= 0 && *weight < HUGE_VAL))
            return fo_fail(c, FO_VW_WEIGHT, token[1]), 0;
        c->weighted = 1;
    }
    return 1;
}

/* The features of the namespaces, from the first bar on; 0 after an error. */
static int parse_features(const fo_text *job, fo_chunk *c, const char *p, const char *end) {
    const char *const limit = job->text + job->size;
    const double too_large = fo_too_large(job);
    while (p < end) { /* at a bar */
        uint64_t space = 0, anonymous = 0;
        double scale = 1;
        const char *name = ++p;
        if (p < end && *p == ':') return fo_fail(c, FO_VW_NAMESPACE, p), 0;
        p = name_end(p, end);
        if (p > name) space = hash(name, p, 0);
        if (p < end && *p == ':') {
            const char *value = p + 1;
            p = fo_decimal(value, limit, &scale);
            if (!p || !ends_value(p, end) || !(fabs(scale) < too_large))
                return fo_fail(c, FO_VW_NAMESPACE_WEIGHT, value), 0;
        }
        for (;;) {
            while (p < end && fo_is_blank(*p)) p++;
            if (p == end || *p == '|') break;
            name = p;
            p = name_end(p, end);
            uint64_t at = p > name ? hash(name, p, space) : space + anonymous;
            double value = 1;
            if (p < end && *p == ':') {
                const char *word = p + 1;
                const char *q = fo_decimal(word, limit, &value);
                if (q && ends_value(q, end)) {
                    p = q;
                    anonymous += word - 1 == name;
                    if (!(fabs(value *= scale) < too_large))
                        return fo_fail(c, FO_TEXT_VALUE_LARGE, word), 0;
                } else { /* a word: VW hashes it behind the name, and its value is 1 */
                    p = name_end(word, end);
                    if (!ends_value(p, end) && kind_of[(unsigned char)*p] == BAD)
                        return fo_fail(c, FO_TEXT_CONTROL, p), 0;
                    if (like_a_number(word, p) || (p < end && !fo_is_blank(*p)))
                        return fo_fail(c, FO_VW_VALUE, word), 0;
                    at = hash(word, p, hash(name, word - 1, space));
                    value = 1;
                }
            } else {
                if (!ends_value(p, end)) return fo_fail(c, FO_TEXT_CONTROL, p), 0;
                value = scale;
            }
            if (fo_vanishes(job, value)) continue; /* as VW does */
            if (!fo_row_add(&c->scratch, (int64_t)(at & job->mask), value))
                return fo_fail(c, FO_TEXT_MEMORY, name), 0;
        }
    }
    return 1;
}

void fo_parse_vw(const fo_text *job, fo_chunk *c, const char *stop) {
    while (c->p < c->end && c->p < stop) {
        const char *next, *p = c->p, *end = fo_line_end(c, p, &next);
        if (!end) return;
        const char *bar = memchr(p, '|', (size_t)(end - p));
        if (!bar) {
            while (p < end && fo_is_blank(*p)) p++;
            if (p < end) return fo_fail(c, FO_VW_BAR, end);
        } else {
            double label, weight;
            c->scratch.n = 0;
            if (!parse_label(job, c, p, bar, &label, &weight)) return;
            if (!parse_features(job, c, bar, end)) return;
            if (!fo_row_write(job, c, 1, label, weight, p)) return;
        }
        c->p = next;
    }
}
