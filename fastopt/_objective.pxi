# Losses over dense predictions: the value, and the gradient in place.

from cpython.buffer cimport PyBUF_C_CONTIGUOUS

cdef extern from "objective.h" nogil:
    enum:
        FO_SIGNS
        FO_COUNTS
        FO_NUMBERS
    ctypedef struct fo_objective:
        int dtype, loss
        Py_ssize_t rows, columns
        const void *p
        const void *y
        const void *weight
        void *g
        void *values
        double parameter, scale
    int fo_objective_of_classes(const char *name)
    int fo_objective_of_elements(const char *name)
    bint fo_objective_targets(int dtype, int what, Py_ssize_t n, const void *y, int threads)
    bint fo_objective_labels(Py_ssize_t n, const int64_t *y, Py_ssize_t classes)
    Py_ssize_t fo_objective_blocks(const fo_objective *o)
    void fo_objective_run(const fo_objective *o, Py_ssize_t first_block, Py_ssize_t last_block,
                          double *sums, int threads)

TARGETS = {"signs": FO_SIGNS, "counts": FO_COUNTS, "numbers": FO_NUMBERS}


def objective(str loss, bint of_classes, p, y, weight, g, values, double parameter, double scale,
              int threads):
    """Write the gradient to g and return the sum of the losses.

    All arrays are in C's order and of the dtype of p, but for int64 labels of classes, which are
    within the columns of p. weight and values may be None, g may be p.
    """
    cdef Py_buffer[5] view
    cdef int held = 0
    cdef Py_ssize_t size, first, last, each, blocks, k
    cdef fo_objective o
    cdef double *sums
    cdef double total = 0
    cdef void *data[5]
    try:
        for k, array in enumerate((p, y, weight, g, values)):
            data[k] = NULL
            if array is None:
                continue
            flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if k >= 3 else 0)
            PyObject_GetBuffer(array, &view[held], flags)
            data[k] = view[held].buf
            held += 1
            if k == 0:
                o.dtype, size = dtype_of(&view[0]), view[0].len
                o.rows = view[0].shape[0] if of_classes else size // view[0].itemsize
                o.columns = view[0].shape[1] if of_classes else 0
            elif k == 1 and of_classes:
                if view[held - 1].itemsize != 8 or view[held - 1].len != 8 * o.rows:
                    raise ValueError("y must be int64, one for each row")
            elif (view[held - 1].len != (size if k == 3 or not of_classes
                                         else o.rows * view[0].itemsize)
                  or dtype_of(&view[held - 1]) != o.dtype):
                raise ValueError("arrays must be of the dtype and the length of p")
        o.loss = (fo_objective_of_classes(loss.encode()) if of_classes
                  else fo_objective_of_elements(loss.encode()))
        if o.loss < 0 or o.dtype < 0:
            raise ValueError(f"no loss {loss!r} of this type")
        o.p, o.y, o.weight, o.g, o.values = data[0], data[1], data[2], data[3], data[4]
        o.parameter, o.scale = parameter, scale
        blocks = fo_objective_blocks(&o)
        sums = <double *> malloc(max(blocks, 1) * sizeof(double))
        if sums == NULL:
            raise MemoryError
        try:
            first = 0
            each = max(1, (1 << 24) // max(FO_BLOCK, o.columns))  # elements to a look at Ctrl-C
            while first < blocks:
                last = min(blocks, first + each)
                with nogil:
                    fo_objective_run(&o, first, last, sums, threads)
                    for k in range(first, last):
                        total += sums[k]
                first = last
                PyErr_CheckSignals()
        finally:
            free(sums)
    finally:
        release_all(view, held)
    return total


def targets_are(str what, y, int threads):
    """Return whether all of y, float32 or float64 in C's order, may be targets."""
    cdef Py_buffer view
    cdef int dtype, kind = TARGETS[what]
    cdef bint good
    PyObject_GetBuffer(y, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
    try:
        dtype = dtype_of(&view)
        if dtype < 0:
            raise ValueError("y must be float32 or float64")
        with nogil:
            good = fo_objective_targets(dtype, kind, view.len // view.itemsize, view.buf, threads)
    finally:
        PyBuffer_Release(&view)
    return good


def labels_within(const int64_t[::1] y, Py_ssize_t classes):
    """Return whether all labels are in [0, classes)."""
    if y.shape[0] == 0:
        return True
    return fo_objective_labels(y.shape[0], &y[0], classes)
