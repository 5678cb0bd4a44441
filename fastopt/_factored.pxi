# Adafactor: what is found out before its pass, see csrc/factored.c.

cdef extern from "fastopt.h" nogil:
    Py_ssize_t fo_factored_room(const fo_segment *s)
    void fo_factored_moments(const fo_segment *s, double *room, int threads)
    void fo_factored_norms(const fo_segment *s, bint of_direction, bint of_w, double *room,
                           int threads, double *direction, double *w)

cdef extern from "float.h":
    double FLT_EPSILON
    double DBL_EPSILON


cdef int attach_moments(Plan plan, list moments) except -1:
    """Hold the averages of each parameter: those of rows and of columns, or of all squares."""
    cdef Py_ssize_t k, room = 0, bytes_ = 0
    cdef fo_factored *f
    cdef fo_segment *segment
    cdef Py_buffer *view
    cdef Py_buffer *w
    plan.factored = <fo_factored *>calloc(plan.count, sizeof(fo_factored))
    if not plan.factored:
        raise MemoryError
    for k in range(plan.count):
        f, segment, w = &plan.factored[k], &plan.segments[k], &plan.w[k]
        f.factor = 1
        if not isinstance(moments[k], tuple):
            f.full = plan.hold_like(k, moments[k], segment.dtype).buf
        elif segment.n:
            f.rows, f.columns = w.shape[w.ndim - 2], w.shape[w.ndim - 1]
            f.matrices = segment.n // (f.rows * f.columns)
            for j in range(2):
                view = plan.hold_other(moments[k][j])
                if (type_of(view) != FO_F64 or not PyBuffer_IsContiguous(view, b"C")
                        or view.len // 8 != f.matrices * (f.columns if j else f.rows)):
                    raise ValueError(f"an average of {plan.names[k]!r} has the wrong layout")
                if j:
                    f.column = <double *>view.buf
                else:
                    f.row = <double *>view.buf
            bytes_ += f.matrices * (f.rows + f.columns) * 8
        segment.factored = f
        room = max(room, fo_factored_room(segment))
    plan.sums = <double *>malloc(room * sizeof(double) + 1)
    plan.factors = <char *>malloc(bytes_ + 1)
    if not plan.sums or not plan.factors:
        raise MemoryError
    bytes_ = 0
    for k in range(plan.count):
        f = &plan.factored[k]
        if f.row:
            f.row_factor = plan.factors + bytes_
            bytes_ += f.matrices * f.rows * 8
            f.column_factor = plan.factors + bytes_
            bytes_ += f.matrices * f.columns * 8
    return 0


cdef void find_directions(Plan plan, int threads) noexcept nogil:
    """Move the averages, and set what each parameter's direction is multiplied by."""
    cdef Py_ssize_t k
    cdef fo_segment *segment
    cdef fo_factored *f
    cdef const double *numbers
    cdef double direction, w, epsilon
    for k in range(plan.count):
        segment, f = &plan.segments[k], &plan.factored[k]
        if segment.frozen or not segment.n:
            continue
        numbers = segment.group.scalars + plan.n_scalars - 6  # weight, eps1, eps1_least, eps2, ...
        epsilon = FLT_EPSILON if segment.dtype == FO_F32 else DBL_EPSILON
        f.weight = numbers[0]
        f.added = epsilon if numbers[1] < 0 else numbers[1]
        f.least = epsilon if numbers[2] < 0 else numbers[2]
        if f.row:
            fo_factored_moments(segment, plan.sums, threads)
        fo_factored_norms(segment, numbers[4] > 0, numbers[3] >= 0, plan.sums, threads, &direction,
                          &w)
        f.factor = 1
        direction = sqrt(direction / segment.n)
        if numbers[4] > 0 and not direction <= numbers[4]:
            f.factor = numbers[4] / direction
        if numbers[3] >= 0:
            w = sqrt(w) if 1e-280 < w < 1e300 else norm_of(plan, segment, 1, FO_OF_W, threads)
            w /= sqrt(<double>segment.n)
            if numbers[5] != 0:
                w *= abs(1 - segment.group.prelude.decay)
            f.factor *= numbers[3] if w < numbers[3] else w
