# The full gradient over the rows of a `Samples`.

cdef extern from "gradient.h" nogil:
    double fo_samples_gradient(const fo_samples *s, int loss, double shape, const fo_user *user,
                               const double *w, double *out, double *room, int workers,
                               int threads)


def full_gradient(Samples samples, loss, double shape, const double[::1] w, double[::1] out,
                  double[::1] room, int workers, int threads):
    """Return the sum of weight * loss at w, and write its gradient into out.

    w and out have a number for each column and one for the intercept; `room` that many for each
    worker, and one more.
    """
    cdef const fo_user *user = user_of(loss)
    cdef int which = FO_USER_LOSS if user != NULL else LOSSES.index(loss)
    cdef Py_ssize_t size = samples.columns + 1
    cdef double total
    if samples.s.y == NULL and samples.s.codes == NULL:
        raise ValueError("y is not set")
    if w.shape[0] != size or out.shape[0] != size or room.shape[0] < workers * (size + 1):
        raise ValueError(f"w and out must have {size} numbers, room {size + 1} for each worker")
    with nogil:
        total = fo_samples_gradient(&samples.s, which, shape, user, &w[0], &out[0], &room[0],
                                    workers, threads)
    return total
