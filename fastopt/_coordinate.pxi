# Rules with a learning rate for each column: their states, held for a run.

cdef extern from "coordinate.h" nogil:
    ctypedef struct fo_coordinate:
        int rule
        int loss
        double l1
        double l2
        double eps
        double b1
        double b2
        void *state[2]
        double *paid

COORDINATE_RULES = ("adagrad", "adam", "ftrl")


@cython.final
cdef class Coordinate:
    """A rule, its scalars and its states: arrays of X's dtype with a number for each column.

    `second` is None for adagrad; `paid` (float64) is None unless columns shrink. `own` are the
    intercept's two states, `t` the rows seen so far.
    """

    cdef fo_coordinate c
    cdef Buffers held
    cdef double own[2]
    cdef double t

    def __cinit__(self, Samples samples, str rule, loss, double l1, double l2, double eps,
                  double b1, double b2, first, second, paid, own, double t):
        self.held = Buffers()
        self.c.rule = COORDINATE_RULES.index(rule)
        self.c.loss = 0 if isinstance(loss, UserLoss) else LOSSES.index(loss)
        self.c.l1, self.c.l2, self.c.eps, self.c.b1, self.c.b2 = l1, l2, eps, b1, b2
        self.c.state[0] = <void *>samples.weights_of_model(self.held, "first", first, True)
        if (second is None) != (rule == "adagrad"):
            raise ValueError(f"{rule} does not have these states")
        if second is not None:
            self.c.state[1] = <void *>samples.weights_of_model(self.held, "second", second, True)
        cdef Py_buffer *view
        if paid is not None:
            view = self.held.take("paid", paid, True)
            if dtype_of(view) != FO_F64 or view.shape[0] < samples.columns:
                raise ValueError(f"paid must be float64 with {samples.columns} numbers")
            self.c.paid = <double *>view.buf
        self.own[0], self.own[1] = own
        self.t = t

    cdef void prepare(self, fo_walk *walk):
        """Let a worker begin."""
        walk.coordinate = &self.c
        walk.t = self.t
        walk.own[0], walk.own[1] = self.own[0], self.own[1]
        # From there on 1 - b^t is 1 in double precision.
        walk.corrected = 40 / -log(max(self.c.b1, self.c.b2)) if self.c.b2 > 0 else 0
