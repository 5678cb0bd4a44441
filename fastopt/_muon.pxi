# Muon: the matrices are made orthogonal one after the other, through NumPy's matmul.
#
# Between the first and the last parameter no Python code runs, so that Ctrl-C comes before or after
# all of them, and nothing is allocated but NumPy's small objects: what is needed is there before.

cdef class Scratch:
    """The matrices that one parameter of one step needs, as NumPy arrays over shared memory.

    x and y are of the parameter's size, a and b square; `tall`: x has more rows than columns.
    """

    cdef object x, y, a, b
    cdef bint tall


cdef list make_scratch(Plan plan):
    """Return one Scratch per parameter, None where it takes no part in the step."""
    import numpy
    cdef Py_ssize_t k, n, size, most = 0, most_square = 0
    cdef Scratch scratch
    cdef list found = [None] * plan.count
    for k in range(plan.count):
        if plan.segments[k].frozen or not plan.segments[k].n:
            continue
        size = min(plan.w[k].shape[0], plan.w[k].shape[1])
        most = max(most, plan.segments[k].n * fo_item(plan, k))
        most_square = max(most_square, size * size * fo_item(plan, k))
    full = [aligned_bytes(most) for _ in range(2)]
    square = [aligned_bytes(most_square) for _ in range(2)]
    for k in range(plan.count):
        if plan.segments[k].frozen or not plan.segments[k].n:
            continue
        scratch = Scratch.__new__(Scratch)
        n, shape = plan.segments[k].n * fo_item(plan, k), shape_of(&plan.w[k])
        dtype = numpy.float32 if plan.segments[k].dtype == FO_F32 else numpy.float64
        scratch.tall = shape[0] > shape[1]
        scratch.x, scratch.y = [one[:n].view(dtype).reshape(shape) for one in full]
        size = min(shape)
        n = size * size * fo_item(plan, k)
        scratch.a, scratch.b = [one[:n].view(dtype).reshape(size, size) for one in square]
        found[k] = scratch
    return found


cdef aligned_bytes(Py_ssize_t n):
    """Return n bytes on a cache line: a BLAS may take another way where they lie otherwise."""
    import numpy
    found = numpy.empty(n + 64, numpy.uint8)
    cdef Py_ssize_t start = -<Py_ssize_t>pointer_of(found) & 63
    return found[start:start + n]


cdef Py_ssize_t fo_item(Plan plan, Py_ssize_t k) noexcept:
    return 4 if plan.segments[k].dtype == FO_F32 else 8


cdef StepInfo orthogonal_step(Plan plan, uint32_t key, int threads, double lr, double grad_norm,
                              double clip_coef):
    """Take Muon's step and count it."""
    import numpy
    cdef Py_ssize_t k, bad = 0
    cdef list scratch = make_scratch(plan)
    functions = numpy.matmul, numpy.multiply, numpy.add
    with numpy.errstate(all="ignore"):  # what is not finite in a gradient is counted
        for k in range(plan.count):
            if scratch[k] is not None:
                bad += orthogonal_update(plan, k, scratch[k], functions, key, threads)
        plan.finish(threads)
        info = plan.info(lr, grad_norm, clip_coef, bad, False)
    return info


cdef Py_ssize_t orthogonal_update(Plan plan, Py_ssize_t k, Scratch scratch, tuple functions,
                                  uint32_t key, int threads) except -1:
    """Update one parameter; return how many elements of its gradient were not finite."""
    cdef fo_segment *segment = &plan.segments[k]
    cdef fo_segment inner = segment[0]
    cdef fo_group group = segment.group[0]
    cdef Py_ssize_t bad
    cdef fo_array matrix
    cdef int j
    # The average, and the matrix h in the place of the rule's last state; w stays as it is.
    inner.group = &group
    group.prelude.decay = 0
    for j in range(FO_MAX_STATES):
        if not inner.states[j].data:
            break
    matrix.type = inner.states[j].type = segment.dtype
    matrix.data = inner.states[j].data = pointer_of(scratch.x)
    with nogil:
        bad = fo_step(&inner, &inner.n, 1, plan.first, key, 1, threads)
    matrix.ndim, matrix.shape, matrix.strides = 2, plan.w[k].shape, NULL
    matrix.contiguous, matrix.reversed = True, False
    inner.w = matrix
    normalize(plan, &inner, threads)
    # The step along it, without the stages of the gradient that it was made of.
    found = iterate(scratch, functions, segment.group.scalars + 7)
    matrix.data = pointer_of(found)
    inner = segment[0]
    group = segment.group[0]
    inner.group = &group
    inner.g = matrix
    inner.gain = 1
    inner.row_scale = NULL
    for j in range(FO_MAX_STATES):
        inner.states[j].data = NULL
    group.prelude = fo_make_prelude(1, 0, group.prelude.decay)
    group.mask = group.zero_grad = 0
    group.clip_value = INFINITY
    group.l1 = 0
    with nogil:
        fo_step(&inner, &inner.n, 1, plan.rule, key, 0, threads)
        if segment.group.zero_grad:
            fill_zero(&segment.g, segment.n)
    return bad


cdef char *pointer_of(array) except NULL:
    """Where an array's memory is, which the array keeps."""
    cdef Py_buffer view
    cdef char *data
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE | PyBUF_STRIDES)
    data = <char *>view.buf
    PyBuffer_Release(&view)
    return data


cdef void normalize(Plan plan, const fo_segment *s, int threads) noexcept:
    """Divide s.w, which is contiguous, by its 2-norm, with eps in the place that the rule says."""
    cdef double eps = s.group.scalars[5], size, factor
    with nogil:
        size = norm_of(plan, s, 1, FO_OF_W, threads)
        if s.group.scalars[6] != 0:
            size += eps
        elif size < eps:
            size = eps
        factor = 0
        if size != 0:
            factor = 1 / size
        if factor != 0 and factor < 1e-30:  # more than a float32 holds in one factor
            fo_current().stages[s.dtype].multiply(s.n, s.w.data, 1e-20)
            factor *= 1e20
        fo_current().stages[s.dtype].multiply(s.n, s.w.data, factor)


cdef iterate(Scratch scratch, tuple functions, const double *numbers):
    """Return the matrix x after the Newton-Schulz steps x <- x1 x + x3 (xx')x + x5 (xx')^2 x."""
    matmul, multiply, add = functions
    x, y, a, b = scratch.x, scratch.y, scratch.a, scratch.b
    diagonal = b.reshape(-1)[::b.shape[0] + 1]
    for _ in range(<int>numbers[0]):
        if scratch.tall:
            matmul(x.T, x, out=a)
        else:
            matmul(x, x.T, out=a)
        matmul(a, a.T, out=b)  # of two factors that are one, NumPy makes half
        multiply(b, numbers[3], out=b)
        multiply(a, numbers[2], out=a)
        add(b, a, out=b)
        add(diagonal, numbers[1], out=diagonal)
        if scratch.tall:
            matmul(x, b, out=y)
        else:
            matmul(b, x, out=y)
        x, y = y, x
    return x
