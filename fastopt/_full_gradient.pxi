# The full gradient over the rows of a `Samples`, and the Hessian.

cdef extern from "gradient.h" nogil:
    double fo_samples_gradient(const fo_samples *s, int loss, double shape, const fo_user *user,
                               const double *w, double *out, double *room, int workers,
                               int threads)
    void fo_samples_hessian(const fo_samples *s, int loss, double shape, const fo_user *user,
                            const double *w, double root, double least, Py_ssize_t low,
                            Py_ssize_t high, double *room, int workers, int threads)


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


def hessian(Samples samples, loss, double shape, const double[::1] w, double root, double least,
            Py_ssize_t low, Py_ssize_t high, double[:, :, ::1] room, int threads):
    """Add second derivatives of weight * loss over the rows [low, high) at w to room.

    `w` has a number for each column and one for the intercept, which is root times its weight;
    `room` has a square matrix of that size for each worker, of which the Hessian is the sum, apart
    from the intercept's column: it is the Hessian's row. Where second derivatives are below `least`
    times the largest ones nearby, one row stands for many, and that column has what the diagonal
    lacks; 0 takes every row.
    """
    cdef const fo_user *user = user_of(loss)
    cdef int which = FO_USER_LOSS if user != NULL else LOSSES.index(loss)
    cdef Py_ssize_t size = samples.columns + 1
    if samples.s.y == NULL and samples.s.codes == NULL:
        raise ValueError("y is not set")
    if not 0 <= low <= high <= samples.rows:
        raise ValueError(f"rows must be within 0 and {samples.rows}, got {low} to {high}")
    if w.shape[0] != size or room.shape[1] != size or room.shape[2] != size or not room.shape[0]:
        raise ValueError(f"w must have {size} numbers, room a matrix of {size} for each worker")
    with nogil:
        fo_samples_hessian(&samples.s, which, shape, user, &w[0], root, least, low, high,
                           &room[0, 0, 0], <int>room.shape[0], threads)
