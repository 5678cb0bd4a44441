# The solvers' passes over vectors: buffers checked, the GIL released, signals seen between passes.

cdef extern from "vector.h" nogil:
    enum:
        FO_DOT_PASS, FO_COMBINE, FO_RECEIVE, FO_PAIR, FO_VECTOR_RESULTS, FO_VECTOR_ARRAYS
    Py_ssize_t fo_vector_parts(Py_ssize_t n)
    void fo_vector_pass(int kind, int dtype, Py_ssize_t n, const double *scalars,
                        void *const *arrays, double *results, double *room, int threads)
    int fo_cholesky_solve(Py_ssize_t n, double *a, double *b)


def cholesky_solve(double[:, ::1] a, double[::1] b):
    """Solve a x = b in place by Cholesky's factors; return whether a is positive definite.

    Of `a` the lower triangle is read; then it is the factor, or half of it.
    """
    cdef Py_ssize_t n = b.shape[0]
    cdef bint good
    if n == 0 or a.shape[0] != n or a.shape[1] != n:
        raise ValueError(f"a must have shape ({n}, {n}), n > 0, got ({a.shape[0]}, {a.shape[1]})")
    with nogil:
        good = fo_cholesky_solve(n, &a[0, 0], &b[0])
    return good


cdef class Vectors:
    """The passes of one solver, over vectors of `n` elements of one dtype."""

    cdef Py_ssize_t n
    cdef int dtype, threads
    cdef double results[5]
    cdef double *room

    def __cinit__(self, Py_ssize_t n, dtype, int threads):
        self.n, self.threads = n, threads
        self.dtype = FO_F32 if dtype == "float32" else FO_F64
        self.room = <double *> malloc(
            max(1, fo_vector_parts(n)) * FO_VECTOR_RESULTS * sizeof(double))
        if self.room == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.room)

    cdef void run(self, int kind, const double *scalars, void *const *arrays) noexcept nogil:
        fo_vector_pass(kind, self.dtype, self.n, scalars, arrays, self.results, self.room,
                       self.threads)

    cdef int take(self, tuple given, int outputs, int kind, double a, double b) except -1:
        cdef Py_buffer views[7]
        cdef void *arrays[7]
        cdef double[2] scalars = [a, b]
        cdef Py_ssize_t held = 0
        try:
            for one in given:
                PyObject_GetBuffer(one, &views[held], PyBUF_STRIDES | PyBUF_FORMAT
                                   | (PyBUF_WRITABLE if held < outputs else 0))
                held += 1
                self.check(&views[held - 1], self.n)
                arrays[held - 1] = views[held - 1].buf
            with nogil:
                self.run(kind, scalars, arrays)
        finally:
            release_all(views, held)
        return 0

    cdef int check(self, Py_buffer *view, Py_ssize_t n) except -1:
        if (dtype_of(view) != self.dtype or not PyBuffer_IsContiguous(view, b"C")
                or not aligned(view) or view.len != n * view.itemsize):
            raise ValueError("vectors must be contiguous, of the solver's dtype and size")
        return 0

    def dot(self, x, y):
        """Return x.y, x.x and the largest |x|."""
        self.take((x, y), 0, FO_DOT_PASS, 0, 0)
        return self.results[0], self.results[1], self.results[4]

    def combine(self, out, double a, x, double b, y, z):
        """out = a x + b y; return out.z and the largest |out|."""
        self.take((out, x, y, z), 1, FO_COMBINE, a, b)
        return self.results[0], self.results[4]

    def receive(self, out, g, d):
        """out = g; return g.d, g.g and the largest |g|."""
        self.take((out, g, d), 1, FO_RECEIVE, 0, 0)
        return self.results[0], self.results[1], self.results[4]

    def pair(self, moved, s, y, x, double t, d, after, before):
        """moved = x + t d, s = moved - x, y = after - before; return s.y, y.y, s.s, s.after."""
        self.take((moved, s, y, x, d, after, before), 3, FO_PAIR, t, 0)
        return self.results[0], self.results[1], self.results[2], self.results[3]

    def two_loop(self, d, g, S, Y, list order, list rho, double gamma, double newest):
        """d = -H g by the two loops, where `order` has the rows of S and Y, the oldest first.

        rho is 1 / (s.y) by row, `newest` is s.g of the last row. Each pass subtracts one pair's
        vector and takes the product with the next one. Return d.g and the largest |d|.
        """
        return self.two_loop_of(d, g, [S[row] for row in order], [Y[row] for row in order],
                                [rho[row] for row in order], gamma, newest)

    def two_loop_of(self, d, g, list S, list Y, list rho, double gamma, double newest):
        """The same for vectors that lie anywhere, the oldest first, at least one."""
        cdef Py_ssize_t held = 0, m = len(S), k
        cdef Py_buffer *views = <Py_buffer *>malloc((2 * m + 2) * sizeof(Py_buffer))
        cdef double *alpha = <double *>malloc((m + 1) * sizeof(double))
        cdef void *arrays[4]
        cdef double[2] scalars
        cdef double dot = -newest
        try:
            if views == NULL or alpha == NULL:
                raise MemoryError
            for one in (d, g, *S, *Y):
                PyObject_GetBuffer(one, &views[held], PyBUF_STRIDES | PyBUF_FORMAT
                                   | (PyBUF_WRITABLE if held == 0 else 0))
                held += 1
                self.check(&views[held - 1], self.n)
            if not 0 < m == len(Y) == len(rho):
                raise ValueError("S, Y and rho must be as many, and not none")
            arrays[0], arrays[1] = views[0].buf, views[1].buf
            scalars[0] = -1
            for k in range(m - 1, -1, -1):
                alpha[k] = <double>rho[k] * dot
                scalars[1] = -alpha[k]
                arrays[2] = views[2 + m + k].buf
                if k > 0:
                    arrays[3] = views[2 + k - 1].buf
                else:
                    arrays[3] = arrays[2]
                    scalars[0] *= gamma
                    scalars[1] *= gamma
                with nogil:
                    self.run(FO_COMBINE, scalars, arrays)
                PyErr_CheckSignals()
                arrays[1], scalars[0] = arrays[0], 1
                dot = self.results[0]
            for k in range(m):
                scalars[1] = alpha[k] - <double>rho[k] * dot
                arrays[2] = views[2 + k].buf
                arrays[3] = views[2 + m + k + 1].buf if k + 1 < m else views[1].buf
                with nogil:
                    self.run(FO_COMBINE, scalars, arrays)
                PyErr_CheckSignals()
                dot = self.results[0]
        finally:
            release_all(views, held)
            free(views)
            free(alpha)
        return self.results[0], self.results[4]
