# The lock-free sparse runner: rows checked and held once, then trained in slices.

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from "hogwild.h" nogil:
    ctypedef struct fo_coordinate
    enum:
        FO_USER_LOSS
        FO_BAD_POINTERS
        FO_BAD_INDEX
    ctypedef struct fo_samples:
        int dtype
        int index_type
        int pointer_type
        Py_ssize_t rows
        Py_ssize_t columns
        const void *data
        const void *indices
        const void *indptr
        const void *y
        const int64_t *codes
        int64_t positive
        Py_ssize_t classes
        const void *weights
    ctypedef struct fo_walk:
        double step
        double scale
        double intercept
        double gain
        double shape
        const fo_user *user
        double *intercepts
        void *room
        void *paid
        double l1
        double due
        void *lag
        double sum
        double intercept_sum
        Py_ssize_t wait
        Py_ssize_t averaged
        int positive
        int aggressive
        double most
        int clipped
        double max_norm
        double square
        const fo_coordinate *coordinate
        double t
        double clock
        double corrected
        double own[2]
    ctypedef struct fo_worker:
        fo_walk walk
        void *v
        void *base
        double *intercepts
        double *base_intercepts
        double area
        double net
        Py_ssize_t since
        Py_ssize_t rows
        Py_ssize_t nonzeros
        Py_ssize_t watched
        Py_ssize_t changed
        Py_ssize_t overwritten
    ctypedef double fo_shared_double
    ctypedef struct fo_hogwild:
        fo_samples samples
        int loss
        int mode
        int way
        int full
        void *locks
        int schedule
        int order
        int workers
        int careful
        double l2
        double step
        double decay
        double rate
        double power
        double origin
        double calm
        uint64_t seed
        Py_ssize_t n_given, epoch
        double before
        Py_ssize_t merge_rows
        Py_ssize_t numbers
        Py_ssize_t outputs
        void *w
        fo_shared_double *intercepts
        const void *h
        double h_intercept
        void *average
        double *average_intercepts
        double snapshots
        double forget
        Py_ssize_t gathered
        Py_ssize_t observed
        fo_worker *worker
        const fo_coordinate *coordinate
        double earlier
        int diverged
    enum:
        FO_PLAIN
        FO_ROUNDS
        FO_HOGBATCH
        FO_ROUND_ROBIN
        FO_LOCKED
    const char *fo_loss_name(int loss)
    Py_ssize_t fo_hogwild_batches(Py_ssize_t rows)
    void fo_hogwild_give(fo_hogwild *run, const int64_t *rows, Py_ssize_t count, Py_ssize_t epoch)
    void fo_hogwild_slice(fo_hogwild *run, Py_ssize_t start, Py_ssize_t stop, int threads)
    void fo_hogwild_settle(fo_hogwild *run)
    int fo_samples_check(const fo_samples *s, Py_ssize_t length, double *partials,
                         Py_ssize_t *where, int threads)
    double fo_samples_loss(const fo_samples *s, int loss, double shape, const fo_user *user,
                           const void *w, double intercept, double *partials, int threads)
    Py_ssize_t fo_samples_partials(const fo_samples *s)
    void fo_samples_losses(const fo_samples *s, int loss, double shape, const fo_user *user,
                           const void *w, double intercept, double *out, int threads)
    void fo_samples_margins(const fo_samples *s, const void *w, double intercept, double *out,
                            int threads)
    double fo_samples_slope(const fo_samples *s, int loss, double shape, const double *margins,
                            double intercept, double *partials, int threads)
    Py_ssize_t fo_pointer(const fo_samples *s, Py_ssize_t i)
    void fo_samples_copy(const fo_samples *s, Py_ssize_t count, const int64_t *rows,
                         const int64_t *ends, void *data, void *indices)
    void fo_samples_curvature(const fo_samples *s, Py_ssize_t stride, double one, void *h)

cdef extern from "study.h" nogil:
    int fo_samples_full(const fo_samples *s)


def loss_names():
    """Return the losses' names, in the order of the C tables."""
    names = []
    while fo_loss_name(len(names)) != NULL:
        names.append(fo_loss_name(len(names)).decode())
    return tuple(names)


LOSSES = loss_names()
ORDERS = ("sequential", "blocks", "turns", "shuffle", "given")
# Where the weights are, and how they are shared: csrc/hogwild.h.
WAYS = {
    "serial": ("serial", FO_PLAIN),
    "copies": ("copies", FO_PLAIN),
    "shared": ("shared", FO_PLAIN),
    "rounds": ("copies", FO_ROUNDS),
    "hogbatch": ("shared", FO_HOGBATCH),
    "rr": ("shared", FO_ROUND_ROBIN),
    "aig": ("shared", FO_LOCKED),
}
PLACES = ("serial", "copies", "shared")
MODES = tuple(WAYS)
SCHEDULES = ("inverse_time", "constant", "epoch_decay", "power")


@cython.final
cdef class Buffers:
    """One-dimensional buffers, held until this object goes; contiguous unless said otherwise."""

    cdef Py_buffer view[10]
    cdef int count

    cdef Py_buffer *take(self, name, source, bint writable=False,
                         bint strided=False) except NULL:
        cdef Py_buffer *view = &self.view[self.count]
        flags = PyBUF_FORMAT | PyBUF_STRIDES | (PyBUF_WRITABLE if writable else 0)
        PyObject_GetBuffer(source, view, flags)
        self.count += 1
        if (view.ndim != 1 or not aligned(view)
                or not (strided or PyBuffer_IsContiguous(view, b"C"))):
            raise ValueError(f"{name} must be a contiguous, aligned array of one dimension")
        return view

    def __dealloc__(self):
        for k in range(self.count):
            PyBuffer_Release(&self.view[k])


@cython.final
cdef class Samples:
    """Rows in CSR form, checked, held in place, and with targets once `target` was called."""

    cdef fo_samples s
    cdef Buffers held, held_targets
    cdef readonly Py_ssize_t rows, columns, nonzeros

    def __cinit__(self, data, indices, indptr, shape, int threads):
        cdef Py_ssize_t where = 0
        cdef int problem
        cdef Py_buffer *view
        self.held = Buffers()
        view = self.held.take("X.data", data)
        self.s.dtype = dtype_of(view)
        self.s.data = view.buf
        cdef Py_ssize_t length = view.shape[0]
        if self.s.dtype < 0:
            raise TypeError("X.data must be float32 or float64, in native byte order")
        view = self.held.take("X.indices", indices)
        self.s.index_type = index_type_of(view)
        self.s.indices = view.buf
        if view.shape[0] < length:
            length = view.shape[0]
        if self.s.index_type < 0:
            raise TypeError("X.indices must be int32 or int64, in native byte order")
        view = self.held.take("X.indptr", indptr)
        self.s.pointer_type = index_type_of(view)
        self.s.indptr = view.buf
        if self.s.pointer_type < 0:
            raise TypeError("X.indptr must be int32 or int64, in native byte order")
        self.rows, self.columns = self.s.rows, self.s.columns = shape
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"X must have at least one row and one column, got shape {shape}")
        if view.shape[0] != self.rows + 1:
            raise ValueError(f"X.indptr must have {self.rows} + 1 numbers, got {view.shape[0]}")
        cdef double *partials = scratch(&self.s)
        with nogil:
            problem = fo_samples_check(&self.s, length, partials, &where, threads)
        free(partials)
        if problem == FO_BAD_POINTERS:
            raise ValueError("X.indptr must start at 0, never decrease and end at or before "
                             f"{length}, the size of X.data and X.indices; it does not at row "
                             f"{where}")
        if problem == FO_BAD_INDEX:
            raise ValueError(f"X.indices must lie in 0..{self.columns - 1}; row {where} has others")
        if problem:
            raise ValueError(f"X.data must be finite: row {where} has NaN or infinity")
        self.nonzeros = <Py_ssize_t>(<int32_t *>self.s.indptr)[self.rows] \
            if self.s.pointer_type == FO_I32 else <Py_ssize_t>(<int64_t *>self.s.indptr)[self.rows]

    def target(self, y, codes, int64_t positive, weights, Py_ssize_t classes=0):
        """Set y and weights (X's dtype; weights of mean 1) or codes (int64), each of X's rows.

        With `classes`, the codes are of so many, and a model has a block of weights per column.
        """
        cdef Buffers targets = Buffers()
        cdef fo_samples s = self.s
        s.y = s.weights = NULL
        s.codes = NULL
        if y is not None:
            s.y = self.column(targets, "y", y, s.dtype)
        if codes is not None:
            s.codes = <const int64_t *>self.column(targets, "codes", codes, -1)
        if weights is not None:
            s.weights = self.column(targets, "sample_weight", weights, s.dtype)
        s.positive, s.classes = positive, classes
        if classes and (codes is None or not within(s.codes, s.rows, classes)):
            raise ValueError(f"codes must lie in 0..{classes - 1}")
        self.s, self.held_targets = s, targets

    cdef const void *column(self, Buffers targets, name, source, int dtype) except NULL:
        cdef Py_buffer *view = targets.take(name, source)
        if dtype >= 0 and dtype_of(view) != dtype or dtype < 0 and index_type_of(view) != FO_I64:
            raise TypeError(f"{name} has the wrong dtype")
        if view.shape[0] != self.rows:
            raise ValueError(f"{name} must have {self.rows} numbers, one per row of X, "
                             f"got {view.shape[0]}")
        return view.buf

    cdef const void *weights_of_model(self, Buffers buffers, name, w, bint writable) except NULL:
        return self.per_column(buffers, name, w, writable, self.width)

    cdef const void *per_column(self, Buffers buffers, name, w, bint writable,
                                Py_ssize_t width) except NULL:
        cdef Py_buffer *view = buffers.take(name, w, writable)
        if dtype_of(view) != self.s.dtype or view.shape[0] < self.columns * width:
            raise ValueError(f"{name} must have X's dtype and {self.columns * width} numbers")
        return view.buf

    @property
    def width(self):
        """How many numbers of a model belong to a column."""
        return fo_width(&self.s)

    def loss(self, loss, double shape, w, intercept, int threads):
        """Return the sum of weight * loss over all rows."""
        if self.s.classes:
            return multi_loss(self, loss, w, intercept, NULL, threads)
        cdef const fo_user *user = user_of(loss)
        cdef int which = FO_USER_LOSS if user != NULL else LOSSES.index(loss)
        if self.s.y == NULL and self.s.codes == NULL:
            raise ValueError("y is not set")
        cdef Buffers buffers = Buffers()
        cdef const void *model = self.weights_of_model(buffers, "w", w, False)
        cdef double *partials = scratch(&self.s)
        cdef double total, shift = intercept
        with nogil:
            total = fo_samples_loss(&self.s, which, shape, user, model, shift, partials, threads)
        free(partials)
        return total

    def losses(self, loss, double shape, w, intercept, out, int threads):
        """Write the loss of every row, without its weight, into out (float64)."""
        cdef Buffers buffers = Buffers()
        cdef double *each = self.room(buffers, out)
        if self.s.classes:
            multi_loss(self, loss, w, intercept, each, threads)
            return
        cdef const fo_user *user = user_of(loss)
        cdef int which = FO_USER_LOSS if user != NULL else LOSSES.index(loss)
        if self.s.y == NULL and self.s.codes == NULL:
            raise ValueError("y is not set")
        cdef const void *model = self.weights_of_model(buffers, "w", w, False)
        cdef double shift = intercept
        with nogil:
            fo_samples_losses(&self.s, which, shape, user, model, shift, each, threads)

    cdef double *room(self, Buffers buffers, out) except NULL:
        cdef Py_buffer *view = buffers.take("out", out, True)
        if dtype_of(view) != FO_F64 or view.shape[0] != self.rows:
            raise ValueError(f"out must be float64 with {self.rows} numbers")
        return <double *>view.buf

    def margins(self, w, double intercept, out, int threads):
        """Write x_i . w + intercept of every row into out (float64)."""
        cdef Buffers buffers = Buffers()
        cdef const void *model = self.weights_of_model(buffers, "w", w, False)
        cdef double *margin = self.room(buffers, out)
        with nogil:
            fo_samples_margins(&self.s, model, intercept, margin, threads)

    def slope(self, str loss, double shape, margins, double intercept, int threads):
        """Return the sum of weight * derivative over rows of these margins (float64), shifted."""
        cdef Buffers buffers = Buffers()
        cdef double *given = self.room(buffers, margins)
        cdef int which = LOSSES.index(loss)
        cdef double *partials = scratch(&self.s)
        cdef double total
        with nogil:
            total = fo_samples_slope(&self.s, which, shape, given, intercept, partials, threads)
        free(partials)
        return total

    def copy_rows(self, rows, ends, data, indices=None):
        """Copy rows (int64), the elements of the k-th from ends[k] to ends[k + 1] (int64)."""
        cdef Buffers buffers = Buffers()
        cdef Py_buffer *view = buffers.take("rows", rows)
        cdef const int64_t *which = <const int64_t *>view.buf
        cdef Py_ssize_t k, count = view.shape[0]
        cdef bint fits = index_type_of(view) == FO_I64
        view = buffers.take("ends", ends)
        cdef const int64_t *to = <const int64_t *>view.buf
        fits = fits and index_type_of(view) == FO_I64 and view.shape[0] == count + 1
        view = buffers.take("data", data, True)
        cdef void *values = view.buf
        cdef void *columns = NULL
        fits = fits and dtype_of(view) == self.s.dtype and view.shape[0] >= to[count]
        if indices is not None:
            view = buffers.take("indices", indices, True)
            columns = view.buf
            fits = fits and index_type_of(view) == self.s.index_type and view.shape[0] >= to[count]
        fits = fits and to[0] == 0
        for k in range(count):
            fits = fits and 0 <= which[k] < self.rows and to[k + 1] - to[k] == (
                fo_pointer(&self.s, which[k] + 1) - fo_pointer(&self.s, which[k]))
        if not fits:
            raise ValueError("rows, ends, data and indices must fit each other")
        with nogil:
            fo_samples_copy(&self.s, count, which, to, values, columns)

    def curvature(self, Py_ssize_t stride, double one, h):
        """Add |x_ij| * |x_i|_1 over every stride-th row to h, `one` being the intercept's value."""
        cdef Buffers buffers = Buffers()
        cdef void *out = <void *>self.per_column(buffers, "h", h, True, 1)
        with nogil:
            fo_samples_curvature(&self.s, stride, one, out)


cdef double *scratch(const fo_samples *s) except NULL:
    cdef double *partials = <double *>calloc(fo_samples_partials(s), sizeof(double))
    if partials == NULL:
        raise MemoryError
    return partials


@cython.final
cdef class Hogwild:
    """One run over some rows: its model, its workers, and what they have done so far."""

    cdef fo_hogwild run
    cdef Samples samples
    cdef Buffers held, held_targets, held_order
    cdef object loss  # a user's must live
    cdef Coordinate coordinate
    cdef double *room
    cdef readonly Py_ssize_t batches

    def __cinit__(self, Samples samples, loss, double shape, str mode, str schedule,
                  str order, int workers, double gain, double l2, double step, double decay,
                  uint64_t seed, Py_ssize_t merge_rows, w, intercept, h,
                  double h_intercept, average, copies, double rate, double power=0.5,
                  double origin=0.0, double l1=0.0, bint positive=False, int aggressive=0,
                  double most=float("inf"), double forget=3.0, Py_ssize_t wait=0,
                  double average_intercept=0.0,
                  Py_ssize_t averaged=0, paid=None, lag=None, Coordinate coordinate=None,
                  double max_norm=0.0, double square=0.0, double calm=0.0):
        cdef Py_ssize_t classes = samples.s.classes
        cdef Py_ssize_t k
        self.samples, self.held = samples, Buffers()
        if samples.s.y == NULL and samples.s.codes == NULL:
            raise ValueError("y is not set")
        place, self.run.way = WAYS[mode]
        if (place == "copies") != (copies is not None) or (place == "serial") != (h is None):
            raise ValueError(f"mode {mode!r} does not fit h and copies")
        if classes and self.run.way not in (FO_PLAIN, FO_ROUNDS):
            raise ValueError(f"mode {mode!r} is not for several classes")
        self.run.samples, self.held_targets = samples.s, samples.held_targets
        cdef const fo_user *user = user_of(loss)
        self.loss = loss
        self.run.loss = FO_USER_LOSS if user != NULL else \
            (MULTI_LOSSES if classes else LOSSES).index(loss)
        self.run.mode = PLACES.index(place)
        self.run.schedule = SCHEDULES.index(schedule)
        self.run.order = ORDERS.index(order)
        self.run.l2, self.run.step, self.run.decay = l2, step, decay
        self.run.seed, self.run.merge_rows, self.run.workers = seed, merge_rows, workers
        self.run.numbers, self.run.outputs = samples.columns * samples.width, max(1, classes)
        self.run.rate, self.run.power, self.run.origin = rate, power, origin
        self.run.forget, self.run.gathered, self.run.calm = forget, averaged, calm
        self.run.w = <void *>samples.weights_of_model(self.held, "w", w, True)
        if average is not None:
            self.run.average = <void *>samples.weights_of_model(self.held, "average", average, True)
        if h is not None:
            self.run.h = samples.weights_of_model(self.held, "h", h, False)
            self.run.h_intercept = h_intercept
        self.run.worker = <fo_worker *>calloc(workers, sizeof(fo_worker))
        if self.run.worker == NULL:
            raise MemoryError
        cdef Py_ssize_t size = 4 if samples.s.dtype == FO_F32 else 8
        cdef Py_ssize_t stride = 0
        cdef char *room = NULL
        cdef Py_buffer *view
        cdef int models = 1 if mode == "rounds" else 2  # of a worker
        if copies is not None:
            view = self.held.take("copies", copies, True)
            room = <char *>view.buf
            stride = view.shape[0] // (models * workers) * size
            if dtype_of(view) != samples.s.dtype or stride < self.run.numbers * size:
                raise ValueError(f"copies must have X's dtype and room for {models * workers} "
                                 "models")
        if mode == "aig":
            self.run.locks = calloc(samples.columns, 2)
            if self.run.locks == NULL:
                raise MemoryError
        if mode == "hogbatch" and samples.nonzeros == samples.rows * samples.columns:
            self.run.full = fo_samples_full(&samples.s)
        self.begin_intercepts(intercept)
        for k in range(workers):
            self.run.worker[k].walk.step = step  # of columns brought up to date before any row
            self.run.worker[k].walk.scale = 1
            self.run.worker[k].walk.gain = gain
            self.run.worker[k].walk.shape = shape
            self.run.worker[k].walk.user = user
            if room != NULL:
                self.run.worker[k].v = room + models * k * stride
                memcpy(self.run.worker[k].v, self.run.w, self.run.numbers * size)
                if models == 2:
                    self.run.worker[k].base = room + (2 * k + 1) * stride
                    memcpy(self.run.worker[k].base, self.run.w, self.run.numbers * size)
        self.batches = fo_hogwild_batches(samples.rows)
        self.run.careful = l1 > 0 or positive or aggressive > 0 or lag is not None \
            or most < float("inf") or max_norm > 0
        cdef fo_walk *walk = &self.run.worker.walk
        walk.most = most
        walk.max_norm, walk.square = max_norm, square
        walk.wait, walk.positive, walk.aggressive, walk.l1 = wait, positive, aggressive, l1
        if self.run.careful and mode != "serial" or (l1 > 0) != (paid is not None) \
                or lag is not None and average is None \
                or coordinate is not None and (self.run.careful or mode == "copies" or l2 > 0):
            raise ValueError(f"mode {mode!r} does not fit what only one thread can do")
        self.coordinate = coordinate
        if coordinate is not None:
            self.run.coordinate, self.run.earlier = &coordinate.c, coordinate.t
            for k in range(workers):
                coordinate.prepare(&self.run.worker[k].walk)
        if l1 > 0:
            walk.paid = <void *>samples.weights_of_model(self.held, "paid", paid, True)
        if lag is not None:
            walk.lag = <void *>samples.weights_of_model(self.held, "lag", lag, True)
            walk.averaged, walk.intercept_sum = averaged, average_intercept * averaged
            self.run.average_intercepts[0], self.run.snapshots = average_intercept, averaged

    cdef int begin_intercepts(self, intercept) except -1:
        """Give the model, its average and all workers their intercepts; workers also room."""
        cdef Py_ssize_t k, c, outputs = self.run.outputs, classes = self.samples.s.classes
        cdef Py_ssize_t width = self.samples.width
        cdef fo_worker *worker
        self.run.intercepts = <fo_shared_double *>calloc(outputs, sizeof(fo_shared_double))
        self.room = <double *>calloc(outputs + self.run.workers * (2 * outputs + 2 * width + 16),
                                     sizeof(double))
        if self.run.intercepts == NULL or self.room == NULL:
            raise MemoryError
        cdef double *free_room = self.room + outputs
        self.run.average_intercepts = self.room
        values = intercept if classes else (intercept,)
        if len(values) != outputs:
            raise ValueError(f"intercept must have {outputs} numbers, got {len(values)}")
        for k in range(self.run.workers):
            worker = &self.run.worker[k]
            worker.base_intercepts, free_room = free_room, free_room + outputs
            worker.intercepts = &worker.walk.intercept
            if classes:
                worker.intercepts, free_room = free_room, free_room + outputs
                worker.walk.intercepts = worker.intercepts
                worker.walk.room, free_room = free_room, free_room + 2 * width + 16
            for c in range(outputs):
                worker.intercepts[c] = worker.base_intercepts[c] = values[c]
        for c in range(outputs):
            self.run.intercepts[c] = self.run.average_intercepts[c] = values[c]
        return 0

    def __dealloc__(self):
        free(self.run.worker)
        free(self.run.locks)
        free(self.run.intercepts)
        free(self.room)

    def give(self, rows, Py_ssize_t epoch):
        """Let an epoch have these rows (int64, checked here); before its first batch."""
        cdef Buffers given = Buffers()
        cdef Py_buffer *view = given.take("order", rows)
        cdef const int64_t *at = <const int64_t *>view.buf
        cdef Py_ssize_t k, count = view.shape[0]
        cdef bint bad = index_type_of(view) != FO_I64 or not 0 < count <= self.run.samples.rows
        if not bad:
            for k in range(count):
                bad |= not 0 <= at[k] < self.run.samples.rows
        if bad or ORDERS[self.run.order] != "given":
            raise ValueError("order does not fit the rows")
        fo_hogwild_give(&self.run, at, count, epoch)
        self.held_order = given

    def slice(self, Py_ssize_t start, Py_ssize_t stop, int threads):
        """Train on the batches [start, stop), counted from the first epoch on."""
        with nogil:
            fo_hogwild_slice(&self.run, start, stop, threads)

    def settle(self):
        """Bring what the workers have learned into w; return the intercepts of w and average."""
        with nogil:
            fo_hogwild_settle(&self.run)
        if not self.samples.s.classes:
            return self.run.intercepts[0], self.run.average_intercepts[0]
        outputs = range(self.run.outputs)
        return (array([self.run.intercepts[c] for c in outputs]),
                array([self.run.average_intercepts[c] for c in outputs]))

    def done(self):
        """Return (rows, non-zeros) trained on so far."""
        rows = sum([self.run.worker[k].rows for k in range(self.run.workers)])
        return rows, sum([self.run.worker[k].nonzeros for k in range(self.run.workers)])

    def watched(self):
        """Return (weights watched, those that others changed, those that others overwrote)."""
        return tuple([
            sum([self.run.worker[k].watched for k in range(self.run.workers)]),
            sum([self.run.worker[k].changed for k in range(self.run.workers)]),
            sum([self.run.worker[k].overwritten for k in range(self.run.workers)]),
        ])

    def seen(self):
        """Return the rows that a rule for columns has seen, and the intercept's two states."""
        cdef const fo_walk *walk = self.latest()
        return walk.t, (walk.own[0], walk.own[1])

    cdef const fo_walk *latest(self):
        """The state of the worker that has seen most rows."""
        cdef fo_walk *walk = &self.run.worker.walk
        cdef int k
        for k in range(1, self.run.workers):
            if self.run.worker[k].walk.t > walk.t:
                walk = &self.run.worker[k].walk
        return walk

    def go_on_with(self, double step):
        """Take steps of another size from here on; nothing may be running."""
        self.run.step = step

    @property
    def clipped(self):
        """Whether a derivative was larger than `most`."""
        return bool(self.run.worker.walk.clipped)

    @property
    def rows_averaged(self):
        """Rows whose models are in the mean, once settled; 0 without `lag`."""
        return self.run.gathered

    @property
    def diverged(self):
        return bool(self.run.diverged)

    @property
    def averaged(self):
        """Whether a snapshot has joined the average."""
        return self.run.snapshots > 0
