/* The svmlight parser: whole lines of text to the arrays of a CSR matrix. */
#ifndef FASTOPT_SVMLIGHT_H
#define FASTOPT_SVMLIGHT_H

#include <stdint.h>

/* What was wrong at the first malformed place. The order is that of `_EXPECTED` in data.py. */
enum {
    FO_SVM_FINE,
    FO_SVM_LABEL,
    FO_SVM_LABEL_LARGE,
    FO_SVM_QID,
    FO_SVM_QID_MISSING,
    FO_SVM_FEATURE,
    FO_SVM_ZERO,
    FO_SVM_RANGE,
    FO_SVM_ORDER,
    FO_SVM_VALUE,
    FO_SVM_VALUE_LARGE,
    FO_SVM_CONTROL,
    FO_SVM_CHANGED,
};

/* A place in the text: its error, the lines before its line, offsets of its line and of itself. */
typedef struct {
    int error;
    int64_t lines, line, at;
} fo_svm_place;

/* One piece of the text: the lines that end in its share of the bytes. */
typedef struct {
    const char *p, *end;   /* what is left to parse */
    int64_t lines, colons; /* in it: no more rows and entries than these */
    int64_t row, entry;    /* lines and colons before it: where its output starts */
    int64_t rows, entries; /* parsed so far */
    int64_t largest;       /* index so far, -1 if none */
    int64_t previous;      /* index of the row that is open */
    const char *line, *at; /* the line in hand; the place of the error */
    const char *edge;      /* first index that is right only if the file is one-based, */
    const char *edge_line; /* and its line */
    int open, done, error, zero;
} fo_svm_chunk;

typedef struct {
    /* The text ends with a newline. Chunks: room for ceil(size / chunk_bytes), zeroed. */
    const char *text;
    int64_t size, chunk_bytes, n_chunks;
    fo_svm_chunk *chunks;
    int threads;
    /* How to read it: zero_based 1, 0 or -1, not known. Indices are below n_features. */
    int dtype, index_type, zero_based, want_qid;
    int64_t n_features;
    /* Where to put it: index - 1, or index if zero_based is 1, and the end of each row, entries of
       earlier texts (`entry0`) included. */
    void *data, *indices;
    int64_t *ends, *qid, entry0;
    double *y;
    /* Done so far; largest: index, -1 if none; zero: an index 0 has occurred. */
    int64_t first, bytes, rows, entries, largest;
    int zero;
    /* The first error; the first index before it that is out of range if the file is zero-based,
       where that is not known. */
    fo_svm_place error, edge;
} fo_svmlight;

/* Each call works for some 30 ms and returns whether there is more to do. Count first: it sets
   `rows` and `entries` to upper bounds, for which the caller provides room; then parse. */
int fo_svmlight_count(fo_svmlight *job);
int fo_svmlight_parse(fo_svmlight *job);

#endif
