# States in low precision, from and to float32.

QUANTUM = FO_QUANTUM


def encode(values, stored, uint32_t key=0, bint stochastic=True):
    """Write flat float32 `values` to a flat array of 16 bits, or (codes, largest, signed)."""
    _convert(values, stored, key, stochastic, True)


def decode(stored, out):
    """Write a flat array of 16 bits, or (codes, largest, signed), to flat float32 `out`."""
    _convert(out, stored, 0, False, False)


cdef _convert(values, stored, uint32_t key, bint stochastic, bint save):
    cdef Py_buffer views[3]
    cdef int held = 0, type
    cdef float *largest = NULL
    cdef fo_rounding how
    cdef bint quantized = isinstance(stored, tuple)
    how.key = key
    how.first = 0
    how.stochastic = stochastic
    arrays = (values, stored[0], stored[1]) if quantized else (values, stored)
    try:
        for array in arrays:
            PyObject_GetBuffer(array, &views[held], PyBUF_FORMAT | PyBUF_STRIDES
                               | (PyBUF_WRITABLE if (held > 0) == save else 0))
            held += 1
            if views[held - 1].ndim != 1 or not PyBuffer_IsContiguous(&views[held - 1], b"C"):
                raise ValueError("arrays must be one-dimensional and contiguous")
        if quantized:
            type = FO_S8 if stored[2] else FO_U8
            largest = <float *>views[2].buf
            if views[1].itemsize != 1 or type_of(&views[2]) != FO_F32 or (
                    views[2].shape[0] != (views[1].shape[0] + FO_QUANTUM - 1) // FO_QUANTUM):
                raise ValueError("8-bit codes and their largest magnitudes do not fit")
        else:
            type = type_of(&views[1])
            if type not in (FO_BF16, FO_F16):
                raise TypeError("stored numbers must have 16 or 8 bits")
        if type_of(&views[0]) != FO_F32 or views[0].shape[0] != views[1].shape[0]:
            raise ValueError("values must be float32, as many as are stored")
        if save:
            fo_current().save[type](views[0].shape[0], <const float *>views[0].buf, views[1].buf,
                                    largest, &how)
        else:
            fo_current().load[type](views[0].shape[0], views[1].buf, largest,
                                    <float *>views[0].buf)
    finally:
        for k in range(held):
            PyBuffer_Release(&views[k])
