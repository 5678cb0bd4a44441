# Factorization machines: a model and its training over checked rows.

cdef extern from "fm.h" nogil:
    enum:
        FO_FM_RANK
    ctypedef struct fo_fm_model:
        int adaptive
        Py_ssize_t rank
        Py_ssize_t stride
        void *rows
        void *extra
        int loss
        double shape
        double step
        double weight_step
        double factor_step
        double l2_weight
        double l2_factor
    ctypedef struct fo_fm:
        fo_samples samples
        fo_fm_model model
        int shuffle
        uint64_t seed
        double intercept
        double square
        int diverged
    Py_ssize_t fo_fm_batches(Py_ssize_t rows)
    void fo_fm_slice(fo_fm *run, Py_ssize_t start, Py_ssize_t stop, int threads)
    double fo_fm_loss(const fo_fm *run, const fo_samples *s, double *partials, int threads)
    void fo_fm_predict(const fo_fm *run, const fo_samples *s, double *out, int threads)
    void fo_samples_count(const fo_samples *s, int64_t *counts)
    fo_samples fo_samples_part(const fo_samples *s, Py_ssize_t low, Py_ssize_t high)


cdef Py_ssize_t rows_at_once(Samples samples, Py_ssize_t rank) noexcept:
    """How many rows to work on between two looks at Ctrl-C: it depends on nothing but the data."""
    cdef double work = <double>(samples.nonzeros + samples.rows) * (rank + 1) / samples.rows
    return <Py_ssize_t>(5e7 / work) + 1


@cython.final
cdef class FactorizationMachine:
    """A model, in arrays that are the caller's, and its run over some rows.

    `rows` has for each column of X its factors, padded to lines of LINE_BYTES, and if `adaptive` as
    many sums of squares; `extra` has its weight and that weight's sum of squares.
    """

    cdef fo_fm run
    cdef Samples samples
    cdef Buffers held, held_targets
    cdef bint trains
    cdef readonly Py_ssize_t batches

    def __cinit__(self, Samples samples, str loss, double shape, Py_ssize_t rank, rows, extra,
                  bint adaptive, double intercept, double square, bint shuffle, uint64_t seed,
                  bint trains=True):
        cdef fo_fm_model *m = &self.run.model
        cdef Py_ssize_t line = FO_LINE // (4 if samples.s.dtype == FO_F32 else 8)
        self.samples, self.held, self.held_targets = samples, Buffers(), samples.held_targets
        self.run.samples = samples.s
        if rank < 0 or rank % line or rank > FO_FM_RANK:
            raise ValueError(f"rank must be a multiple of {line} up to {FO_FM_RANK}")
        m.rank, m.stride, m.adaptive = rank, rank * (1 + adaptive), adaptive
        format = "f" if samples.s.dtype == FO_F32 else "d"
        m.rows = typed(self.held, "rows", rows, format, samples.columns * m.stride, trains)
        m.extra = typed(self.held, "extra", extra, format, 2 * samples.columns, trains)
        m.loss, m.shape = LOSSES.index(loss), shape
        self.run.intercept, self.run.square = intercept, square
        self.run.shuffle, self.run.seed, self.trains = shuffle, seed, trains
        self.batches = fo_fm_batches(samples.rows)

    def go_on_with(self, double step, double weight_step, double factor_step, double l2_weight,
                   double l2_factor):
        """Take steps of these sizes from here on: of the intercept, the weights, the factors."""
        cdef fo_fm_model *m = &self.run.model
        m.step, m.weight_step, m.factor_step = step, weight_step, factor_step
        m.l2_weight, m.l2_factor = l2_weight, l2_factor

    def slice(self, Py_ssize_t start, Py_ssize_t stop, int threads):
        """Train on the batches [start, stop), counted from the first epoch on."""
        if self.run.samples.y == NULL and self.run.samples.codes == NULL:
            raise ValueError("y is not set")
        if not 0 <= start <= stop:
            raise ValueError("start must not be negative, nor above stop")
        if not self.trains:
            raise ValueError("trains is False")
        with nogil:
            fo_fm_slice(&self.run, start, stop, threads)

    cdef void fits(self, Samples samples) except *:
        if (samples.s.dtype != self.run.samples.dtype
                or samples.columns != self.run.samples.columns):
            raise ValueError("the rows must have the model's dtype and columns")

    def loss(self, Samples samples, int threads):
        """Return the sum of weight * loss over all of these rows."""
        self.fits(samples)
        if samples.s.y == NULL and samples.s.codes == NULL:
            raise ValueError("y is not set")
        cdef double *partials = scratch(&samples.s)
        cdef double total = 0
        cdef Py_ssize_t low, count = rows_at_once(samples, self.run.model.rank)
        cdef fo_samples part
        try:
            for low in range(0, samples.rows, count):
                part = fo_samples_part(&samples.s, low, min(low + count, samples.rows))
                with nogil:
                    total += fo_fm_loss(&self.run, &part, partials, threads)
                PyErr_CheckSignals()
        finally:
            free(partials)
        return total

    def predict(self, Samples samples, double[::1] out, int threads):
        """Write the prediction of each of these rows into out."""
        self.fits(samples)
        if out.shape[0] != samples.rows:
            raise ValueError(f"out must have {samples.rows} numbers")
        cdef Py_ssize_t low, count = rows_at_once(samples, self.run.model.rank)
        cdef fo_samples part
        for low in range(0, samples.rows, count):
            part = fo_samples_part(&samples.s, low, min(low + count, samples.rows))
            with nogil:
                fo_fm_predict(&self.run, &part, &out[low], threads)
            PyErr_CheckSignals()

    @property
    def intercept(self):
        """The intercept, and the sum of squares of its derivatives."""
        return self.run.intercept, self.run.square

    @property
    def diverged(self):
        return bool(self.run.diverged)


def count_columns(Samples samples, int64_t[::1] counts):
    """Add to counts[j] the number of rows that have column j, with a value other than 0."""
    if counts.shape[0] != samples.columns:
        raise ValueError(f"counts must have {samples.columns} numbers")
    cdef Py_ssize_t low, rows = rows_at_once(samples, 0)
    cdef fo_samples part
    for low in range(0, samples.rows, rows):
        part = fo_samples_part(&samples.s, low, min(low + rows, samples.rows))
        with nogil:
            fo_samples_count(&part, &counts[0])
        PyErr_CheckSignals()
