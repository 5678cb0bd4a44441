# Dual coordinate ascent: one run over some rows.

cdef extern from "dual.h" nogil:
    ctypedef struct fo_dual_loss:
        int classes, logistic
        double low, high, curve, epsilon
    ctypedef struct fo_dual:
        fo_samples samples
        fo_dual_loss loss
        double per, gain
        void *beta
        void *before
        const void *squares
        uint8_t *rest
    ctypedef struct fo_dual_worker:
        void *w
        double intercept
        Py_ssize_t rows, nonzeros
    ctypedef struct fo_ascent:
        fo_dual d
        int workers, shuffle
        uint64_t seed
        void *w
        double intercept, sum
        fo_dual_worker *worker
        void **copies
        Py_ssize_t epoch, at, most, stretch, longest
        double gap, met, share
    void fo_dual_prepare(fo_ascent *run, int threads)
    int fo_dual_slice(fo_ascent *run, Py_ssize_t rounds, int threads)
    double fo_dual_shifted(const fo_ascent *run, double shift, double *out)
    double fo_dual_exchange(fo_ascent *run, double *betas, void *room)
    void fo_dual_measure(const fo_ascent *run, const double *margins, double intercept,
                         double *partials, double *gap, double *loss, int threads)


@cython.final
cdef class Ascent:
    """One run of dual coordinate ascent: its model, betas and workers.

    `room`: of X's dtype, three numbers per row (betas first), then for each of several workers
    `columns` numbers, rounded up to 64.
    """

    cdef fo_ascent run
    cdef Samples samples
    cdef Buffers held, held_targets

    def __cinit__(self, Samples samples, tuple loss, double l2, double gain, int workers,
                  bint shuffle, uint64_t seed, Py_ssize_t stretch, w, double intercept, room):
        cdef Py_ssize_t k, size, columns = (samples.columns + 63) // 64 * 64
        cdef Py_buffer *view
        self.samples, self.held = samples, Buffers()
        if samples.s.y == NULL and samples.s.codes == NULL:
            raise ValueError("y is not set")
        self.run.d.samples, self.held_targets = samples.s, samples.held_targets
        self.run.d.loss.classes, self.run.d.loss.logistic = loss[0], loss[1]
        self.run.d.loss.low, self.run.d.loss.high = loss[2], loss[3]
        self.run.d.loss.curve, self.run.d.loss.epsilon = loss[4], loss[5]
        self.run.d.per, self.run.d.gain = 1 / (l2 * samples.rows), gain
        self.run.workers, self.run.shuffle, self.run.seed = workers, shuffle, seed
        self.run.stretch = self.run.longest = stretch
        self.run.intercept = intercept
        self.run.w = <void *>samples.weights_of_model(self.held, "w", w, True)
        view = self.held.take("room", room, True)
        size = view.itemsize
        if dtype_of(view) != samples.s.dtype or view.shape[0] < (
                3 * samples.rows + (workers * columns if workers > 1 else 0)):
            raise ValueError("room must have X's dtype and enough numbers")
        self.run.d.beta = view.buf
        self.run.d.before = <char *>view.buf + samples.rows * size
        self.run.d.squares = <char *>view.buf + 2 * samples.rows * size
        self.run.worker = <fo_dual_worker *>calloc(workers, sizeof(fo_dual_worker))
        self.run.copies = <void **>calloc(workers, sizeof(void *))
        self.run.d.rest = <uint8_t *>calloc(samples.rows, 1)
        if self.run.worker == NULL or self.run.copies == NULL or self.run.d.rest == NULL:
            raise MemoryError
        for k in range(workers):
            self.run.copies[k] = self.run.w
            if workers > 1:
                self.run.copies[k] = (<char *>view.buf
                                      + (3 * samples.rows + k * columns) * size)
                memcpy(self.run.copies[k], self.run.w, samples.columns * size)
            self.run.worker[k].w = self.run.copies[k]
            self.run.worker[k].intercept = intercept
        with nogil:
            fo_dual_prepare(&self.run, workers)

    def __dealloc__(self):
        free(self.run.worker)
        free(self.run.copies)
        free(self.run.d.rest)

    def slice(self, Py_ssize_t rounds, int threads):
        """Do some rounds, at most to the end of the epoch; return whether it was reached."""
        cdef bint end
        with nogil:
            end = fo_dual_slice(&self.run, rounds, threads)
        return end

    def measure(self, margins, double intercept, int threads):
        """Return the duality gap and the primal's losses, each as the sum over rows.

        `margins` (float64) are those of w, without the intercept.
        """
        cdef Buffers buffers = Buffers()
        cdef const double *given = self.samples.room(buffers, margins)
        cdef double gap = 0, loss = 0
        cdef double *partials = <double *>calloc(self.samples.rows // 256 + 1, 2 * sizeof(double))
        if partials == NULL:
            raise MemoryError
        with nogil:
            fo_dual_measure(&self.run, given, intercept, partials, &gap, &loss, threads)
        free(partials)
        return gap, loss

    @property
    def epoch(self):
        return self.run.epoch

    @property
    def intercept(self):
        """The multiplier of the constraint that betas sum to 0: nearly the primal's intercept."""
        return self.run.intercept

    @property
    def imbalance(self):
        """The sum of all betas, which is 0 at the optimum with an intercept."""
        return self.run.sum

    @property
    def met_gap(self):
        """The last epoch's duality gap, of every row when it was met."""
        return self.run.gap

    @property
    def share(self):
        """How much of the last round's change was taken."""
        return self.run.share

    def shifted(self, double shift, out):
        """Write the betas less a shift, within their bounds, into out (float64); return their sum.
        """
        cdef Buffers buffers = Buffers()
        cdef double *to = self.samples.room(buffers, out)
        cdef double total
        with nogil:
            total = fo_dual_shifted(&self.run, shift, to)
        return total

    def exchange(self, betas, room=None):
        """Exchange the betas with these (float64); return |w' - w|^2 of the weights they make.

        `room`: zeros, as many as weights, of X's dtype; without it that is not worked out.
        """
        cdef Buffers buffers = Buffers()
        cdef double *them = self.samples.room(buffers, betas)
        cdef void *zeros = NULL
        cdef double total
        if room is not None:
            zeros = <void *>self.samples.weights_of_model(buffers, "room", room, True)
        with nogil:
            total = fo_dual_exchange(&self.run, them, zeros)
        return total

    def state(self):
        """Return the numbers of a run between two slices; w and betas go with them."""
        cdef fo_ascent *run = &self.run
        rows, nonzeros = self.done()
        return {
            "intercept": run.intercept, "sum": run.sum, "epoch": run.epoch, "at": run.at,
            "stretch": run.stretch, "gap": run.gap, "met": run.met, "share": run.share,
            "rows": rows, "nonzeros": nonzeros,
        }

    def restore(self, dict numbers, const uint8_t[::1] rest):
        """Take over what `state` and `rest` returned; begun with its w, betas and intercept."""
        cdef fo_ascent *run = &self.run
        if rest.shape[0] != self.samples.rows:
            raise ValueError(f"rest must be {self.samples.rows} numbers, got {rest.shape[0]}")
        run.sum, run.epoch, run.at = numbers["sum"], numbers["epoch"], numbers["at"]
        run.stretch, run.gap, run.met = numbers["stretch"], numbers["gap"], numbers["met"]
        run.share = numbers["share"]
        if not (0 <= run.at < run.most and 1 <= run.stretch <= run.longest and run.epoch >= 0):
            raise ValueError(f"no place in an epoch: {numbers!r}")
        run.worker.rows, run.worker.nonzeros = numbers["rows"], numbers["nonzeros"]
        memcpy(run.d.rest, &rest[0], self.samples.rows)

    def rest(self):
        """Return how long each row has been at rest, a byte each."""
        return (<const char *>self.run.d.rest)[:self.samples.rows]

    def done(self):
        """Return (rows, non-zeros) walked so far."""
        rows = sum([self.run.worker[k].rows for k in range(self.run.workers)])
        return rows, sum([self.run.worker[k].nonzeros for k in range(self.run.workers)])
