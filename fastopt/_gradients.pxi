# The gradients that a plan is given: what is taken, and what is refused.

NOTHING = b""


cdef list listed(Plan plan, grads):
    """The gradients in order, where that is easy; otherwise None."""
    cdef list found
    if isinstance(grads, ndarray):
        return [grads] if plan.count == 1 else None
    if type(grads) not in (list, tuple, dict) or len(grads) != plan.count:
        return None
    if type(grads) is list or type(grads) is tuple:
        return list(grads) if isinstance(grads[0], ndarray) else None
    found = []
    for name in plan.names:
        if name not in <dict>grads:
            return None
        found.append((<dict>grads)[name])
    return found


cdef int fetch(Plan plan, Py_ssize_t k, grad, Py_buffer *view) except -1:
    """Get the buffer of gradient k; return whether it is the bits of a bfloat16 array."""
    if grad is None:
        raise ValueError(f"gradient of {plan.names[k]!r} is missing (None)")
    if isinstance(grad, tuple):
        raise ValueError(f"gradient of {plan.names[k]!r} is a tuple: (rows, values) needs an "
                         "optimizer with lazy='row', 'catchup' or 'dense'")
    try:
        PyObject_GetBuffer(grad, view, PyBUF_STRIDES | PyBUF_FORMAT)
        if view.ndim > 0 and view.strides == NULL:  # as ctypes has it; memoryview works it out
            PyBuffer_Release(view)
            PyObject_GetBuffer(memoryview(grad), view, PyBUF_STRIDES | PyBUF_FORMAT)
        return False
    except TypeError:
        raise TypeError(f"gradient of {plan.names[k]!r} must be an array, got "
                        f"{type(grad).__name__}: use numpy.asarray") from None
    except (BufferError, ValueError) as error:
        # ml_dtypes' bfloat16, which the buffer protocol has no code for
        if getattr(getattr(grad, "dtype", None), "name", "") == "bfloat16":
            PyObject_GetBuffer(grad.view("uint16"), view, PyBUF_STRIDES | PyBUF_FORMAT)
            return True
        raise TypeError(f"gradient of {plan.names[k]!r}: {error}") from None


cdef int check_gradient(Plan plan, Py_ssize_t k, Py_buffer *view, grad, bint bits, clash,
                        Py_ssize_t rows) except -1:
    cdef size_t low, high
    cdef Py_ssize_t first = 0, last = plan.n_hulls, middle
    if rows < 0 and not same_shape(view, &plan.w[k]):
        order = slice(None, None, -1 if plan.segments[k].reversed else 1)
        raise ValueError(f"gradient of {plan.names[k]!r} has shape {shape_of(view)[order]}, "
                         f"its parameter {shape_of(&plan.w[k])[order]}")
    cdef int type = type_of(view)
    if (type < 0 or arithmetic_of(type) != plan.segments[k].dtype
            or (type == FO_BF16 and not bits)):
        wanted = "float32" if plan.segments[k].dtype == FO_F32 else "float64"
        found = "none" if view.format == NULL else repr(view.format.decode())
        also = ", float16 or bfloat16" if wanted == "float32" else ""
        raise TypeError(f"gradient of {plan.names[k]!r} must be a native {wanted}{also} array "
                        f"like its parameter, got format {found}")
    if plan.zeroes and view.readonly:
        raise ValueError(f"gradient of {plan.names[k]!r} is read-only: zero_grad writes to it")
    if hasattr(grad, "mask"):
        raise TypeError(f"gradient of {plan.names[k]!r} is a masked array, whose mask a step "
                        "would not respect: pass its .data")
    if view.len == 0:
        return 0
    extent(view, &low, &high)
    while first < last:
        middle = (first + last) // 2
        if plan.hulls[2 * middle + 1] <= low:
            first = middle + 1
        else:
            last = middle
    if first < plan.n_hulls and plan.hulls[2 * first] < high:
        clash(k, grad)
    return 0


cdef bint apart(Plan plan):
    """Whether the new gradients obviously share no memory, with each other or within."""
    cdef Py_ssize_t k
    cdef size_t low, high, before = 0
    spans = []
    for k in range(plan.count):
        if plan.fresh[k].len == 0:
            continue
        if not PyBuffer_IsContiguous(&plan.fresh[k], b"A"):
            return False
        extent(&plan.fresh[k], &low, &high)
        spans.append((low, high))
    spans.sort()
    for low, high in spans:
        if low < before:
            return False
        before = high
    return True


cdef int copy_gradient(Plan plan, Py_ssize_t k, out) except -1:
    """Write gradient k to a new array, converted."""
    cdef Py_buffer view
    cdef Py_ssize_t start = 0, n
    cdef Py_ssize_t size = 8 if plan.segments[k].dtype == FO_F64 else 4
    PyObject_GetBuffer(out, &view, PyBUF_WRITABLE | PyBUF_STRIDES)
    while start < plan.segments[k].n:
        n = min(plan.segments[k].n - start, FO_BLOCK)
        fo_gather(&plan.segments[k].g, fo_current(), start, n, <char *>view.buf + start * size)
        start += n
    PyBuffer_Release(&view)
    return 0
