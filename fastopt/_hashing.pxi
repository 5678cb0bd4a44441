# Hashes of many strings, and checksums of memory.

cdef extern from "hashing.h" nogil:
    void fo_checksums(const void *bytes, int64_t n, int64_t piece, uint64_t *sums, int threads)
    int fo_hash_strings(const char *bytes, const int64_t *offsets, int64_t n, const char *prefix,
                        int64_t prefix_bytes, uint32_t *hashes)


def checksums(data, int64_t piece, sums, int threads=1):
    """Write XXH64 of each `piece` bytes of `data`, the last one shorter, to the uint64 `sums`."""
    cdef Py_buffer source, out
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(sums, &out, PyBUF_WRITABLE)
        try:
            if piece < 1 or out.len < 8 * ((source.len + piece - 1) // piece):
                raise ValueError("piece must be at least 1, sums one number for each")
            with nogil:
                fo_checksums(source.buf, source.len, piece, <uint64_t *>out.buf, threads)
        finally:
            PyBuffer_Release(&out)
    finally:
        PyBuffer_Release(&source)


def hash_strings(data, offsets, bytes prefix, hashes):
    """Write MurmurHash3 (32 bits, seed 0) of `prefix` and each string to the uint32 `hashes`.

    String i is data[offsets[i]:offsets[i + 1]]; offsets are int64.
    """
    cdef Py_buffer[3] view
    cdef int held = 0
    cdef int done
    cdef int64_t n = len(hashes)
    cdef int64_t prefix_bytes = len(prefix)
    cdef const char *text = prefix
    cdef const int64_t *at
    try:
        for source in (data, offsets, hashes):
            PyObject_GetBuffer(source, &view[held], PyBUF_WRITABLE if held == 2 else PyBUF_SIMPLE)
            held += 1
        at = <const int64_t *>view[1].buf
        if view[1].len < 8 * (n + 1) or view[2].len < 4 * n:
            raise ValueError("offsets must be one more than hashes")
        if at[0] < 0 or at[n] > view[0].len:
            raise ValueError("offsets must lie in the data")
        for i in range(n):
            if at[i] > at[i + 1]:
                raise ValueError("offsets must not decrease")
        with nogil:
            done = fo_hash_strings(<const char *>view[0].buf, at, n, text, prefix_bytes,
                                   <uint32_t *>view[2].buf)
        if not done:
            raise MemoryError
    finally:
        for k in range(held):
            PyBuffer_Release(&view[k])
