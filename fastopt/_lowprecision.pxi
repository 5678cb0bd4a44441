# States and parameters in low precision, from and to float32.

QUANTUM = FO_QUANTUM


def encode(values, stored, uint32_t key=0, bint stochastic=True):
    """Write flat float32 `values` to a flat array of 16 bits, or (codes, largest, signed) of 8.

    8 bits are always rounded stochastically.
    """
    _convert(values, stored, key, stochastic, True)


def decode(stored, out):
    """Write what encode has stored to flat float32 `out`."""
    _convert(out, stored, 0, False, False)


cdef _convert(values, stored, uint32_t key, bint stochastic, bint save):
    cdef Py_buffer views[3]
    cdef uint32_t noise[FO_NOISE]
    cdef int held = 0, type
    cdef float *largest = NULL
    cdef bint quantized = isinstance(stored, tuple)
    arrays = (values, *stored[:2]) if quantized else (values, stored)
    fo_current().noise(key, noise)
    try:
        for array in arrays:
            PyObject_GetBuffer(array, &views[held], PyBUF_FORMAT | PyBUF_STRIDES
                               | (PyBUF_WRITABLE if (held > 0) == save else 0))
            held += 1
            if views[held - 1].ndim != 1 or not PyBuffer_IsContiguous(&views[held - 1], b"C"):
                raise ValueError("arrays must be one-dimensional and contiguous")
        type = type_of(&views[1])
        if quantized:
            type = FO_S8 if stored[2] else FO_U8
            largest = <float *>views[2].buf
            if views[1].itemsize != 1 or type_of(&views[2]) != FO_F32 or (
                    views[2].shape[0] != (views[1].shape[0] + FO_QUANTUM - 1) // FO_QUANTUM):
                raise ValueError("8-bit codes and their largest magnitudes do not fit")
            if <size_t>views[1].buf % 4 != 0:
                raise ValueError("8-bit codes must be aligned to 4 bytes")
        elif type not in (FO_BF16, FO_F16):
            raise TypeError("stored numbers must have 16 or 8 bits")
        if type_of(&views[0]) != FO_F32 or views[0].shape[0] != views[1].shape[0]:
            raise ValueError("values must be float32, as many as are stored")
        convert(views, type, largest, noise if stochastic or quantized else NULL, key, save)
    finally:
        for k in range(held):
            PyBuffer_Release(&views[k])


cdef void convert(Py_buffer *views, int type, float *largest, const uint32_t *noise,
                  uint32_t key, bint save) noexcept:
    """Between float32 in the first view and `type` in the second, block by block."""
    cdef const fo_kernels *kernels = fo_current()
    cdef fo_rounding how
    cdef Py_ssize_t start = 0, end = views[0].shape[0], n
    cdef float *values = <float *>views[0].buf
    cdef char *stored = <char *>views[1].buf
    while start < end:
        n = min(end - start, FO_BLOCK)
        how = fo_round_by(noise, key, start // FO_QUANTUM, n)
        if save and largest != NULL:
            kernels.largest(n, values, largest)
        if save:
            kernels.save[type](n, values, stored, largest, &how)
        else:
            kernels.load[type](n, stored, largest, values)
        start += n
        values += n
        stored += n * views[1].itemsize
        if largest != NULL:
            largest += n // FO_QUANTUM
