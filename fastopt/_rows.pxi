# Gradients that are rows: their numbers checked, and duplicates added up.

cdef extern from "fastopt.h" nogil:
    int64_t fo_distinct(const int64_t *rows, int64_t count, int64_t limit, int64_t *table,
                        int64_t table_size, int64_t *distinct, int64_t *place)
    void fo_add_rows(int dtype, const void *values, const int64_t *place, int64_t count,
                     Py_ssize_t row, void *out)


def distinct(const int64_t[::1] rows, int64_t limit):
    """Return the different numbers in order of first appearance, and the place of each in them.

    The place is None where all are different.

    Raises
    ------
    IndexError
        With the position of the first number that is not in [0, limit).
    """
    import numpy
    cdef int64_t count = rows.shape[0], size = 1, found, k
    cdef bint ascending = True
    cdef int64_t[::1] first, place, table
    if count == 0:
        return numpy.asarray(rows), None
    for k in range(1, count):
        if rows[k - 1] >= rows[k]:
            ascending = False
            break
    if ascending:
        for k in (0, count - 1):
            if not 0 <= rows[k] < limit:
                raise IndexError(k)
        return numpy.asarray(rows), None
    while size < 2 * count:
        size *= 2
    unique, where = numpy.empty(count, "i8"), numpy.empty(count, "i8")
    first, place, table = unique, where, numpy.empty(size, "i8")
    with nogil:
        found = fo_distinct(&rows[0], count, limit, &table[0], size, &first[0], &place[0])
    if found < 0:
        raise IndexError(-1 - found)
    return unique[:found], where if found < count else None


def add_rows(out, const int64_t[::1] place, values):
    """out[place[k]] += values[k]; both contiguous and of one dtype, float32 or float64."""
    cdef Py_buffer to, source
    cdef Py_ssize_t row
    cdef int dtype
    PyObject_GetBuffer(out, &to, PyBUF_WRITABLE | PyBUF_STRIDES | PyBUF_FORMAT)
    try:
        PyObject_GetBuffer(values, &source, PyBUF_STRIDES | PyBUF_FORMAT)
        try:
            if (dtype_of(&to) < 0 or dtype_of(&to) != dtype_of(&source)
                    or not PyBuffer_IsContiguous(&to, b"C")
                    or not PyBuffer_IsContiguous(&source, b"C")
                    or source.shape[0] != place.shape[0]):
                raise ValueError("rows must be contiguous, of one dtype, one for each place")
            if source.len:
                row = source.len // source.itemsize // source.shape[0]
                dtype = dtype_of(&to)
                with nogil:
                    fo_add_rows(dtype, source.buf, &place[0], place.shape[0], row, to.buf)
        finally:
            PyBuffer_Release(&source)
    finally:
        PyBuffer_Release(&to)
