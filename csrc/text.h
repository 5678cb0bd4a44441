/* Text with a row a line, or a record, to the arrays of a CSR matrix, by all threads: what is the
   same for every format. text.c cuts, counts and puts together; svmlight.c, vw.c, ffm.c and csv.c
   read the rows of their formats. */
#ifndef FASTOPT_TEXT_H
#define FASTOPT_TEXT_H

#include <stdint.h>

#include "murmur.h"

enum { FO_SVMLIGHT, FO_VW, FO_FFM, FO_CSV, FO_FORMATS };

/* What was wrong at the first malformed place. The order is that of `EXPECTED` in builder.py. */
enum {
    FO_TEXT_FINE,
    FO_TEXT_LABEL,
    FO_TEXT_LABEL_LARGE,
    FO_TEXT_VALUE,
    FO_TEXT_VALUE_LARGE,
    FO_TEXT_RANGE,
    FO_TEXT_CONTROL,
    FO_TEXT_CHANGED,
    FO_TEXT_MEMORY,
    FO_SVM_FEATURE,
    FO_SVM_ZERO,
    FO_SVM_ORDER,
    FO_SVM_QID,
    FO_SVM_QID_MISSING,
    FO_FFM_FIELD,
    FO_VW_BAR,
    FO_VW_TAB,
    FO_VW_TOUCHES,
    FO_VW_INITIAL,
    FO_VW_WEIGHT,
    FO_VW_NAMESPACE,
    FO_VW_NAMESPACE_WEIGHT,
    FO_VW_VALUE,
    FO_CSV_NUMBER,
    FO_CSV_WEIGHT,
    FO_CSV_MISSING,
    FO_CSV_FEW,
    FO_CSV_MANY,
    FO_CSV_QUOTE,
    FO_CSV_CLOSED,
    FO_CSV_BEHIND,
};

/* A place in the text: its error, the lines before its line, offsets of its line and of itself, and
   the number of its column, in tables. */
typedef struct {
    int error;
    int64_t lines, line, at, column;
} fo_place;

/* A row whose entries are not in order yet. */
typedef struct {
    int64_t index;
    double value;
} fo_entry;

typedef struct {
    fo_entry *entries; /* NULL at first, as the others */
    int32_t *fields;
    uint64_t *keys; /* for sorting: twice the room */
    int64_t n, room;
    char *bytes; /* a field of a table without its quotes */
    int64_t bytes_room;
} fo_row;

/* One piece of the text: the rows that end in its share of the bytes. */
typedef struct {
    const char *p, *end;          /* what is left to parse */
    int64_t lines, marks, quotes; /* in it; no more rows and entries than the first two */
    int64_t row, entry;           /* lines and marks before it: where its output starts */
    int64_t rows, entries;        /* parsed so far */
    int64_t largest;              /* index so far, -1 if none */
    int64_t previous;             /* index of the row that is open */
    const char *at;               /* the place of the error, */
    int64_t column;               /* and its column */
    const char *edge;             /* first index that is right only if the file is one-based */
    int open, done, error, zero, weighted;
    fo_row scratch;
} fo_chunk;

/* A column of a table. */
enum { FO_COLUMN_IGNORED, FO_COLUMN_NUMBER, FO_COLUMN_STRING, FO_COLUMN_LABEL, FO_COLUMN_WEIGHT };
typedef struct {
    int kind;
    int64_t index;    /* the first in the matrix */
    fo_murmur prefix; /* "name=", which is hashed before a string */
} fo_column;

typedef struct {
    /* The text ends with a newline. Chunks: room for ceil(size / chunk_bytes), zeroed. */
    const char *text;
    int64_t size, chunk_bytes, n_chunks;
    fo_chunk *chunks;
    int threads, format;
    int last; /* no text follows: an open quote is an error, not a record to be continued */
    /* How to read it: zero_based 1, 0 or -1, not known. Indices are below n_features. */
    int dtype, index_type, zero_based, want_qid;
    int64_t n_features;
    uint64_t mask; /* of hashes */
    char delimiter;
    unsigned char stops[256]; /* whether a byte ends a field without quotes; by fo_begin_csv */
    int skip_missing;
    int64_t n_columns;
    const fo_column *columns;
    /* Where to put it: index - 1, or index if zero_based is 1, and the end of each row, entries of
       earlier texts (`entry0`) included. Only data, indices, ends and y are there always. */
    void *data, *indices;
    int32_t *fields;
    int64_t *ends, *qid, entry0;
    double *y, *weights;
    /* Done so far; largest: index, -1 if none; zero: an index 0 has occurred; weighted: a weight.
       `whole`: bytes of whole records, set by counting. */
    int64_t first, bytes, whole, rows, entries, largest;
    int zero, weighted;
    /* The first error; the first index before it that is out of range if the file is zero-based,
       where that is not known. */
    fo_place error, edge;
} fo_text;

/* Each call works for some 30 ms and returns whether there is more to do. Count first: it sets
   `rows` and `entries` to upper bounds, for which the caller provides room; then parse. */
int fo_text_count(fo_text *job);
int fo_text_parse(fo_text *job);
/* Free what chunks hold, also after a run that was given up. */
void fo_text_free(fo_text *job);
void fo_row_free(fo_row *row);

/* n rows of k columns and values each, of which zeros are left out, to data, indices and ends of
   `job`, with room for n * k entries. Returns the entries, -1 if out of memory, and -2 - r if row r
   has a value that is too large. */
int64_t fo_table_rows(fo_text *job, int64_t n, int64_t k, const int64_t *columns,
                      const double *values);

/* The formats: parse rows until `stop` is passed or there is an error. */
typedef void fo_parse(const fo_text *job, fo_chunk *c, const char *stop);
void fo_begin_csv(fo_text *job);
fo_parse fo_parse_svmlight, fo_parse_vw, fo_parse_ffm, fo_parse_csv;

#endif
