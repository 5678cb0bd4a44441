# Buffers: their types, and where they lie.

from cpython.buffer cimport PyBuffer_IsContiguous

cdef int dtype_of(Py_buffer *view) noexcept:
    """FO_F32, FO_F64, or -1: anything else, byte-swapped numbers included."""
    cdef int type = type_of(view)
    return type if type in (FO_F32, FO_F64) else -1


cdef int type_of(Py_buffer *view) noexcept:
    """The type in memory, or -1. bfloat16 has no code of its own and comes as its bits, "H"."""
    cdef const char *text = view.format
    if text == NULL:
        return -1
    if text[0] in (b"@", b"=", NATIVE_ORDER):
        text += 1
    if text[1] != 0:
        return -1
    if text[0] == b"f" and view.itemsize == 4:
        return FO_F32
    if text[0] == b"d" and view.itemsize == 8:
        return FO_F64
    if text[0] == b"e" and view.itemsize == 2:
        return FO_F16
    if text[0] == b"H" and view.itemsize == 2:
        return FO_BF16
    return -1


cdef int arithmetic_of(int type) noexcept:
    return FO_F64 if type == FO_F64 else FO_F32


cdef char NATIVE_ORDER = b"<" if sys.byteorder == "little" else b">"


cdef bint aligned(Py_buffer *view) noexcept:
    if <size_t>view.buf % <size_t>view.itemsize != 0:
        return False
    for d in range(view.ndim):
        if view.shape[d] > 1 and view.strides[d] % view.itemsize != 0:
            return False
    return True


cdef void describe(fo_array *array, Py_buffer *view) noexcept:
    array.type = type_of(view)
    array.data = <char *>view.buf
    array.ndim = view.ndim
    array.shape = view.shape
    array.strides = view.strides
    # what is not goes through blocks, which are aligned
    array.contiguous = PyBuffer_IsContiguous(view, b"C") and aligned(view)


cdef void release_all(Py_buffer *views, Py_ssize_t count) noexcept:
    for k in range(count):
        PyBuffer_Release(&views[k])


cdef bint same_shape(Py_buffer *a, Py_buffer *b) noexcept:
    if a.ndim != b.ndim:
        return False
    for d in range(a.ndim):
        if a.shape[d] != b.shape[d]:
            return False
    return True


cdef void extent(Py_buffer *view, size_t *low, size_t *high) noexcept:
    """The bytes [low, high) that the elements of a non-empty array lie in."""
    low[0] = <size_t>view.buf
    high[0] = low[0] + <size_t>view.itemsize
    for d in range(view.ndim):
        if view.strides[d] < 0:
            low[0] += <size_t>((view.shape[d] - 1) * view.strides[d])
        else:
            high[0] += <size_t>((view.shape[d] - 1) * view.strides[d])


cdef tuple shape_of(Py_buffer *view):
    return tuple([view.shape[d] for d in range(view.ndim)])
