# A rule on some coordinates: what lazy and lock-free updates are made of.

cdef extern from "fastopt.h" nogil:
    enum:
        FO_I32
        FO_I64
    ctypedef void fo_sparse(Py_ssize_t n, const void *at, void *w, const void *g,
                            void *const *states, const fo_prelude *prelude,
                            const double *scalars)
    fo_sparse *fo_sparse_rule(int rule, int dtype, int index_type)


cdef int index_type_of(Py_buffer *view) noexcept:
    """FO_I32, FO_I64, or -1: anything else, byte-swapped numbers included."""
    cdef const char *text = view.format
    if text == NULL:
        return -1
    if text[0] in (b"@", b"=", NATIVE_ORDER):
        text += 1
    if text[0] in (b"i", b"l", b"q") and text[1] == 0:
        return FO_I32 if view.itemsize == 4 else FO_I64 if view.itemsize == 8 else -1
    return -1


cdef bint in_range(const void *at, int index_type, Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t k
    cdef int64_t j
    for k in range(n):
        j = (<const int32_t *>at)[k] if index_type == FO_I32 else (<const int64_t *>at)[k]
        if j < 0 or j >= size:
            return False
    return True


def sparse_step(str rule, at, w, g, list states, double scale, double l2, double decay,
                dict scalars):
    """Apply `rule` to the coordinates `at` of `w` and its states, in order, with gradients `g`.

    All arrays are one-dimensional and contiguous: `at` of int32 or int64, the others of one dtype.
    A coordinate that stands in `at` twice is updated twice. Coordinates are read and written as
    relaxed atomics, so several threads may do this to the same arrays at once.
    """
    cdef Py_buffer views[3 + 4]
    cdef void *pointers[4]
    cdef double numbers[16]
    cdef fo_prelude prelude = fo_make_prelude(scale, l2, decay)
    cdef int held = 0, dtype, index_type, k
    cdef Py_ssize_t n
    names, scalar_names = rules()[rule]
    if len(states) != len(names):
        raise ValueError(f"states: rule {rule!r} has {len(names)}, got {len(states)}")
    for k, name in enumerate(scalar_names):
        numbers[k] = scalars[name]
    try:
        for array in (at, g, w, *states):
            PyObject_GetBuffer(array, &views[held], PyBUF_FORMAT | PyBUF_STRIDES
                               | (0 if held < 2 else PyBUF_WRITABLE))
            held += 1
            if views[held - 1].ndim != 1 or not PyBuffer_IsContiguous(&views[held - 1], b"C"):
                raise ValueError("all arrays must be one-dimensional and contiguous")
        index_type, dtype = index_type_of(&views[0]), dtype_of(&views[2])
        if index_type < 0:
            raise TypeError("at must be a native int32 or int64 array")
        n = views[0].shape[0]
        if views[1].shape[0] != n:
            raise ValueError(f"g has {views[1].shape[0]} elements for {n} coordinates")
        for k in range(1, held):
            if dtype < 0 or dtype_of(&views[k]) != dtype:
                raise TypeError("g, w and states must be native arrays of one dtype, float32 or "
                                "float64")
            if k > 2 and views[k].shape[0] != views[2].shape[0]:
                raise ValueError("every state must have the size of w")
        if not in_range(views[0].buf, index_type, n, views[2].shape[0]):
            raise IndexError(f"at must be in [0, {views[2].shape[0]})")
        for k in range(3, held):
            pointers[k - 3] = views[k].buf
        fo_sparse_rule(list(rules()).index(rule), dtype, index_type)(
            n, views[0].buf, views[2].buf, views[1].buf, pointers, &prelude, numbers)
    finally:
        for k in range(held):
            PyBuffer_Release(&views[k])
