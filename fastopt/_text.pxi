# The text parsers: runs their slices, and answers signals and reports progress between them.

from cpython.buffer cimport PyBUF_SIMPLE
from libc.string cimport memset

cdef extern from "text.h" nogil:
    ctypedef struct fo_chunk:
        pass
    ctypedef struct fo_place:
        int error
        int64_t lines, line, at, column
    ctypedef struct fo_murmur:
        pass
    fo_murmur fo_murmur3_begin(const void *bytes, size_t n)
    ctypedef struct fo_column:
        int kind
        int64_t index
        fo_murmur prefix
    ctypedef struct fo_text:
        const char *text
        int64_t size, chunk_bytes, n_chunks
        fo_chunk *chunks
        int threads, format, last
        int dtype, index_type, zero_based, want_qid
        int64_t n_features
        uint64_t mask
        char delimiter
        int skip_missing
        int64_t n_columns
        const fo_column *columns
        void *data
        void *indices
        int32_t *fields
        int64_t *ends
        int64_t *qid
        int64_t entry0
        double *y
        double *weights
        int64_t first, bytes, whole, rows, entries, largest
        int zero, weighted
        fo_place error, edge
    int fo_text_count(fo_text *job)
    int fo_text_parse(fo_text *job)
    void fo_text_free(fo_text *job)
    int64_t fo_table_rows(fo_text *job, int64_t n, int64_t k, const int64_t *columns,
                          const double *values)

# In the order of the enumerations in text.h.
FORMATS = ("svmlight", "vw", "ffm", "csv")
COLUMN_KINDS = ("ignored", "number", "string", "label", "weight")


cdef tuple place_of(const fo_place *place):
    if place.error == 0:
        return None
    return place.error, place.lines, place.line, place.at, place.column


def text_parse(text, allocate, progress, *, int format, int threads, int64_t chunk_bytes,
               int64_t n_features, int64_t entry0, int zero_based=1, bint want_qid=False,
               bint last=True, int hash_bits=0, delimiter=b",", bint skip_missing=False,
               columns=()):
    """Parse `text`, whole lines, into the arrays that `allocate(rows, entries)` returns.

    These are data, indices, row ends, labels, and if they are wanted, else None, qid, weights and
    fields, with room for so many rows and entries, which are upper bounds. Calls `progress(bytes)`
    some 30 times a second. `columns` are tuples (kind, index, name with "="), of tables. Without
    `last`, what follows the last whole record is left alone.

    Returns lines, bytes and rows parsed, entries, largest index (-1 if none), whether an index 0
    occurred, whether a weight did, and two places or None, each (error, lines before, offset of the
    line, offset, column): the first error, and the first index that is out of range if the file is
    zero-based where `zero_based` is -1 (see text.h).
    """
    cdef fo_text job
    cdef Py_buffer source
    cdef Py_buffer[7] out
    cdef bint[7] held = [False, False, False, False, False, False, False]
    cdef int more = 1
    cdef int64_t lines
    cdef fo_column *column = NULL
    memset(&job, 0, sizeof(job))
    PyObject_GetBuffer(text, &source, PyBUF_SIMPLE)
    try:
        job.text = <const char *>source.buf
        job.size = source.len
        if job.size == 0 or job.text[job.size - 1] != b"\n" or chunk_bytes < 1:
            raise ValueError("text must be whole lines, chunk_bytes at least 1")
        if not 0 <= format < len(FORMATS) or not 0 <= hash_bits < 63 or len(delimiter) != 1:
            raise ValueError("unknown format, hash_bits or delimiter")
        job.chunk_bytes = chunk_bytes
        job.n_chunks = (job.size - 1) // chunk_bytes + 1
        job.threads = threads
        job.format = format
        job.last = last
        job.zero_based = zero_based
        job.want_qid = want_qid
        job.n_features = n_features
        job.mask = (<uint64_t>1 << hash_bits) - 1
        job.delimiter = delimiter[0]
        job.skip_missing = skip_missing
        job.entry0 = entry0
        job.n_columns = len(columns)
        column = <fo_column *>calloc(len(columns) + 1, sizeof(fo_column))
        job.chunks = <fo_chunk *>calloc(job.n_chunks, sizeof(fo_chunk))
        if not column or not job.chunks:
            raise MemoryError
        job.columns = column
        for k, (kind, index, name) in enumerate(columns):
            column[k].kind = kind
            column[k].index = index
            column[k].prefix = fo_murmur3_begin(<const char *>name, len(name))
        while more:
            with nogil:
                more = fo_text_count(&job)
            PyErr_CheckSignals()
        lines = job.rows
        arrays = allocate(job.rows, job.entries)
        for k, itemsize in enumerate((0, 0, 8, 8, 8, 8, 4)):
            if arrays[k] is None:
                continue
            PyObject_GetBuffer(arrays[k], &out[k], PyBUF_WRITABLE)
            held[k] = True
            need = job.entries if k < 2 or k == 6 else job.rows
            if out[k].len < out[k].itemsize * need or (itemsize and out[k].itemsize != itemsize):
                raise ValueError("an array is too small")
        if not (held[0] and held[1] and held[2] and held[3]) or (want_qid and not held[4]):
            raise ValueError("an array is missing")
        job.dtype = out[0].itemsize == 8
        job.index_type = out[1].itemsize == 8
        job.data = out[0].buf
        job.indices = out[1].buf
        job.ends = <int64_t *>out[2].buf
        job.y = <double *>out[3].buf
        job.qid = <int64_t *>out[4].buf if held[4] else NULL
        job.weights = <double *>out[5].buf if held[5] else NULL
        job.fields = <int32_t *>out[6].buf if held[6] else NULL
        more = 1
        while more:
            with nogil:
                more = fo_text_parse(&job)
            PyErr_CheckSignals()
            progress(job.bytes)
        return (lines, job.whole, job.rows, job.entries, job.largest, bool(job.zero),
                bool(job.weighted), place_of(&job.error), place_of(&job.edge))
    finally:
        for k in range(7):
            if held[k]:
                PyBuffer_Release(&out[k])
        fo_text_free(&job)
        free(column)
        PyBuffer_Release(&source)


def table_rows(columns, values, data, indices, ends):
    """Write rows of columns and values to CSR arrays, sorted, without zeros, doubles added up.

    `columns` (int64) and `values` (float64) have one row each, in C's order; `data`, `indices` and
    `ends` are as those of `text_parse`, with room for all. Labels go to nowhere. Returns the number
    of entries, or -2 - r if the sum of values in row r is too large.
    """
    cdef fo_text job
    cdef Py_buffer[5] view
    cdef int held = 0
    cdef int64_t n = len(ends)
    cdef int64_t k, found
    memset(&job, 0, sizeof(job))
    try:
        for source in (columns, values, data, indices, ends):
            PyObject_GetBuffer(source, &view[held], PyBUF_WRITABLE if held > 1 else PyBUF_SIMPLE)
            held += 1
        k = view[0].len // (8 * n) if n else 0
        if (view[0].len != 8 * n * k or view[1].len != view[0].len or view[4].len < 8 * n
                or view[2].len < view[2].itemsize * n * k
                or view[3].len < view[3].itemsize * n * k):
            raise ValueError("the arrays' sizes do not fit")
        job.dtype = view[2].itemsize == 8
        job.index_type = view[3].itemsize == 8
        job.data = view[2].buf
        job.indices = view[3].buf
        job.ends = <int64_t *>view[4].buf
        job.y = <double *>calloc(n + 1, 8)
        if not job.y:
            raise MemoryError
        with nogil:
            found = fo_table_rows(&job, n, k, <const int64_t *>view[0].buf,
                                  <const double *>view[1].buf)
        if found == -1:
            raise MemoryError
        return found
    finally:
        free(job.y)
        for j in range(held):
            PyBuffer_Release(&view[j])
