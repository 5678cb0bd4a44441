# The svmlight parser: runs its slices, and answers signals and reports progress between them.

from cpython.buffer cimport PyBUF_SIMPLE
from libc.string cimport memset

cdef extern from "svmlight.h" nogil:
    ctypedef struct fo_svm_chunk:
        pass
    ctypedef struct fo_svm_place:
        int error
        int64_t lines, line, at
    ctypedef struct fo_svmlight:
        const char *text
        int64_t size, chunk_bytes, n_chunks
        fo_svm_chunk *chunks
        int threads
        int dtype, index_type, zero_based, want_qid
        int64_t n_features
        void *data
        void *indices
        int64_t *ends
        int64_t *qid
        int64_t entry0
        double *y
        int64_t first, bytes, rows, entries, largest
        int zero
        fo_svm_place error, edge
    int fo_svmlight_count(fo_svmlight *job)
    int fo_svmlight_parse(fo_svmlight *job)


cdef tuple place_of(const fo_svm_place *place):
    if place.error == 0:
        return None
    return place.error, place.lines, place.line, place.at


def svmlight_parse(text, allocate, progress, *, int threads, int64_t chunk_bytes, int zero_based,
                   bint want_qid, int64_t n_features, int64_t entry0):
    """Parse `text`, whole lines, into the arrays that `allocate(rows, entries)` returns.

    These are data, indices, row ends, labels and qid (or None), with room for so many rows and
    entries, which are upper bounds. Calls `progress(bytes)` some 30 times a second. Returns lines,
    rows, entries, largest index (-1 if none), whether an index 0 occurred, and two places or None,
    each (error, lines before, offset of the line, offset): the first error, and the first index
    that is out of range if the file is zero-based where `zero_based` is -1 (see svmlight.h).
    """
    cdef fo_svmlight job
    cdef Py_buffer source
    cdef Py_buffer[5] out
    cdef int held = 0, more = 1
    cdef int64_t lines
    memset(&job, 0, sizeof(job))
    PyObject_GetBuffer(text, &source, PyBUF_SIMPLE)
    try:
        job.text = <const char *>source.buf
        job.size = source.len
        if job.size == 0 or job.text[job.size - 1] != b"\n" or chunk_bytes < 1:
            raise ValueError("text must be whole lines, chunk_bytes at least 1")
        job.chunk_bytes = chunk_bytes
        job.n_chunks = (job.size - 1) // chunk_bytes + 1
        job.chunks = <fo_svm_chunk *>calloc(job.n_chunks, sizeof(fo_svm_chunk))
        if not job.chunks:
            raise MemoryError
        job.threads = threads
        job.zero_based = zero_based
        job.want_qid = want_qid
        job.n_features = n_features
        job.entry0 = entry0
        while more:
            with nogil:
                more = fo_svmlight_count(&job)
            PyErr_CheckSignals()
        lines = job.rows
        arrays = allocate(job.rows, job.entries)
        for k in range(5 if want_qid else 4):
            PyObject_GetBuffer(arrays[k], &out[k], PyBUF_WRITABLE)
            held += 1
            if out[k].len < out[k].itemsize * (job.entries if k < 2 else job.rows):
                raise ValueError("an array is too small")
        job.dtype = out[0].itemsize == 8
        job.index_type = out[1].itemsize == 8
        job.data = out[0].buf
        job.indices = out[1].buf
        job.ends = <int64_t *>out[2].buf
        job.y = <double *>out[3].buf
        if want_qid:
            job.qid = <int64_t *>out[4].buf
        more = 1
        while more:
            with nogil:
                more = fo_svmlight_parse(&job)
            PyErr_CheckSignals()
            progress(job.bytes)
        return (lines, job.rows, job.entries, job.largest, bool(job.zero), place_of(&job.error),
                place_of(&job.edge))
    finally:
        for k in range(held):
            PyBuffer_Release(&out[k])
        free(job.chunks)
        PyBuffer_Release(&source)
