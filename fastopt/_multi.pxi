# Several classes at once: the losses, and the objective's sum.

cdef extern from "multi.h" nogil:
    Py_ssize_t fo_width(const fo_samples *s)
    const char *fo_multi_loss_name(int loss)
    Py_ssize_t fo_multi_room(const fo_samples *s, int threads)
    double fo_multi_loss(const fo_samples *s, int loss, const void *w, const double *intercepts,
                         double *each, double *room, int threads)
    double fo_multi_at(int loss, Py_ssize_t classes, const double *p, Py_ssize_t y, double *g)


def multi_loss_names():
    """Return the names of the losses over several classes, in the order of the C tables."""
    names = []
    while fo_multi_loss_name(len(names)) != NULL:
        names.append(fo_multi_loss_name(len(names)).decode())
    return tuple(names)


MULTI_LOSSES = multi_loss_names()


cdef bint within(const int64_t *codes, Py_ssize_t n, int64_t classes) noexcept:
    for k in range(n):
        if not 0 <= codes[k] < classes:
            return False
    return True


cdef multi_loss(Samples samples, str loss, w, intercepts, double *each, int threads):
    """Return the sum of weight * loss over all rows; write each row's loss, if wanted."""
    cdef int which = MULTI_LOSSES.index(loss)
    cdef Buffers buffers = Buffers()
    cdef const void *model = samples.weights_of_model(buffers, "w", w, False)
    cdef Py_buffer *shifts = buffers.take("intercept", intercepts)
    if dtype_of(shifts) != FO_F64 or shifts.shape[0] != samples.s.classes:
        raise ValueError(f"intercept must have {samples.s.classes} float64 numbers")
    cdef double *room = <double *>calloc(fo_multi_room(&samples.s, threads), sizeof(double))
    if room == NULL:
        raise MemoryError
    cdef double total
    with nogil:
        total = fo_multi_loss(&samples.s, which, model, <const double *>shifts.buf, each, room,
                              threads)
    free(room)
    return total


def multi_at(str loss, scores, Py_ssize_t code, derivative):
    """Return the loss of a row with these scores (float64); write its derivative."""
    cdef int which = MULTI_LOSSES.index(loss)
    cdef Buffers buffers = Buffers()
    cdef Py_buffer *p = buffers.take("scores", scores)
    cdef Py_buffer *g = buffers.take("derivative", derivative, True)
    if dtype_of(p) != FO_F64 or dtype_of(g) != FO_F64 or p.shape[0] != g.shape[0] \
            or p.shape[0] < 2 or not 0 <= code < p.shape[0]:
        raise ValueError("scores and derivative must be float64 of one size, with a class for code")
    return fo_multi_at(which, p.shape[0], <const double *>p.buf, code, <double *>g.buf)
