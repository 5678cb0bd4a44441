# Matrix completion: ratings where they lie, the same in blocks, and a run over them.

cdef extern from "factor.h" nogil:
    enum:
        FO_RATED_SQUARED
        FO_PAIRWISE
        FO_RATINGS_POINTERS
        FO_RATINGS_INDEX
        FO_CHUNKS
        FO_LINE
        FO_Y_F32
        FO_Y_F64
        FO_Y_I32
        FO_Y_I64
    ctypedef struct fo_axis:
        const void *at
        int type
        int pointers
        Py_ssize_t stride
        Py_ssize_t size
    ctypedef struct fo_ratings:
        Py_ssize_t n
        fo_axis axis[2]
        const void *y
        int y_type
        Py_ssize_t y_stride
        uint64_t seed
        uint64_t held
    ctypedef struct fo_ratings_facts:
        Py_ssize_t n
        Py_ssize_t held
        double first
        double sum
        double squares
        double least
        double most
        int zeros
        int ones
        int minus_ones
        int others
    ctypedef struct fo_grid:
        Py_ssize_t bands
        Py_ssize_t width[2]
        const uint32_t *place[2]
        const uint32_t *sizes[2]
    ctypedef struct fo_blocks:
        const fo_grid *grid
        int dtype
        void *ratings
        int64_t *start
        double factor
        double shift
    ctypedef struct fo_factor_model:
        int loss
        int dtype
        int biased
        int adaptive
        int nonnegative
        Py_ssize_t rank
        void *rows[2]
        void *extra[2]
        double mean
        double step
        double gain
        double l2
        double l2_bias
        double weight[2]
        const int64_t *seen
        const uint32_t *items
    ctypedef struct fo_factor_run:
        const fo_blocks *blocks
        fo_factor_model model
        uint64_t seed
        int racy
        uint32_t *order
        int diverged
    int fo_ratings_check(const fo_ratings *r, Py_ssize_t length, fo_ratings_facts *facts,
                         int *axis, Py_ssize_t *where, int threads)
    void fo_ratings_count(const fo_ratings *r, Py_ssize_t stride, int64_t *users, int64_t *items)
    void fo_blocks_count(const fo_ratings *r, const fo_blocks *blocks, int held, int64_t *cursors,
                         int threads)
    int fo_blocks_fill(const fo_ratings *r, const fo_blocks *blocks, int held, int64_t *cursors,
                       int threads)
    void fo_blocks_degrees(const fo_blocks *blocks, int64_t *users, int64_t *items, int threads)
    int fo_blocks_items(const fo_blocks *blocks, const int64_t *start, uint32_t *items,
                        int threads)
    Py_ssize_t fo_factor_units(const fo_factor_run *run)
    Py_ssize_t fo_factor_round(const fo_factor_run *run)
    void fo_factor_epoch(fo_factor_run *run, int64_t epoch)
    int fo_factor_blocks(const fo_factor_run *run, Py_ssize_t unit, Py_ssize_t *blocks)
    void fo_factor_slice(fo_factor_run *run, Py_ssize_t start, Py_ssize_t stop, int threads)
    ctypedef struct fo_factor_sums:
        double loss
        double count
        double right
        double penalty
    int fo_factor_loss(const fo_factor_run *run, const fo_blocks *blocks, Py_ssize_t band,
                       fo_factor_sums *sums, int threads)
    double fo_factor_penalty(const fo_factor_model *m, int axis, const int64_t *degrees,
                             Py_ssize_t rows)
    double fo_factor_squares(const fo_factor_model *m, int axis, Py_ssize_t rows)
    void fo_factor_predict(const fo_ratings *pairs, int dtype, Py_ssize_t rank, const void *users,
                           const void *items, const double *user_biases,
                           const double *item_biases, double mean, double *out, int threads)

FACTOR_LOSSES = ("squared", "absolute", "logistic", "hinge", "bpr")
LINE_BYTES = FO_LINE


cdef int y_type_of(Py_buffer *view) noexcept:
    cdef int type = dtype_of(view)
    if type >= 0:
        return FO_Y_F32 if type == FO_F32 else FO_Y_F64
    type = index_type_of(view)
    return type if type < 0 else FO_Y_I32 if type == FO_I32 else FO_Y_I64


cdef void *typed(Buffers held, name, source, str format, Py_ssize_t size,
                 bint writable=False) except NULL:
    """Return an array of our own making: its type and size are right, or it is a bug."""
    cdef Py_buffer *view = held.take(name, source, writable)
    if (view.format.decode().lstrip("@=<>") not in format or view.shape[0] < size
            or view.itemsize != (4 if format in ("f", "IL") else 8)):
        raise ValueError(f"{name} must be {format} with {size} numbers")
    return view.buf


@cython.final
cdef class Ratings:
    """Ratings where they lie, all checked: rows and columns within the shape, values finite.

    An axis is (name, array, whether it has pointers); y is (name, array) or None.
    """

    cdef fo_ratings r
    cdef fo_ratings_facts f
    cdef Buffers held

    def __cinit__(self, users, items, y, Py_ssize_t n, shape, uint64_t seed, uint64_t held,
                  int threads):
        cdef int problem, axis = 0
        cdef Py_ssize_t where = 0
        cdef Py_buffer *view
        self.held = Buffers()
        self.r.n, self.r.seed, self.r.held = n, seed, held
        for a, (name, source, pointers) in enumerate((users, items)):
            view = self.held.take(name, source, False, not pointers)
            self.r.axis[a].at, self.r.axis[a].pointers = view.buf, pointers
            self.r.axis[a].type, self.r.axis[a].size = index_type_of(view), shape[a]
            self.r.axis[a].stride = view.strides[0]
            if self.r.axis[a].type < 0:
                raise TypeError(f"{name} must be int32 or int64, in native byte order")
            if view.shape[0] != (shape[a] + 1 if pointers else n):
                raise ValueError(f"{name} must have {shape[a] + 1 if pointers else n} numbers, "
                                 f"got {view.shape[0]}")
        if y is not None:
            view = self.held.take(y[0], y[1], False, True)
            self.r.y, self.r.y_type, self.r.y_stride = view.buf, y_type_of(view), view.strides[0]
            if self.r.y_type < 0:
                raise TypeError(f"{y[0]} must be float32, float64, int32 or int64")
            if view.shape[0] < n:
                raise ValueError(f"{y[0]} must have {n} numbers, got {view.shape[0]}")
        with nogil:
            problem = fo_ratings_check(&self.r, n, &self.f, &axis, &where, threads)
        if problem < 0:
            raise MemoryError
        name, source, pointers = (users, items)[axis]
        if problem == FO_RATINGS_POINTERS:
            raise ValueError(f"{name} must start at 0, never decrease and end at or before {n}, "
                             f"the number of entries; it does not at {where}")
        if problem == FO_RATINGS_INDEX:
            raise ValueError(f"{name} must lie in 0..{shape[axis] - 1}; entry {where} is "
                             f"{source[where]}")
        if problem:
            raise ValueError(f"{y[0]} must be finite, and at most 1e24 in size; entry {where} is "
                             f"{y[1][where]}")

    @property
    def facts(self):
        """What the ratings are; n, sum and squares (of y - first) without those held out."""
        return self.f

    def count(self, Py_ssize_t stride, int64_t[::1] users, int64_t[::1] items):
        """Count the rows and columns of every stride-th rating."""
        if users.shape[0] != self.r.axis[0].size or items.shape[0] != self.r.axis[1].size:
            raise ValueError("users and items must have as many numbers as the shape says")
        with nogil:
            fo_ratings_count(&self.r, stride, &users[0], &items[0])

    def predict(self, users, items, user_biases, item_biases, double mean, double[::1] out,
                int threads):
        """Write the prediction of every pair into out; factors of shape (rows, rank)."""
        cdef Buffers held = Buffers()
        cdef Py_ssize_t rank = users.shape[1], m = self.r.axis[0].size, n = self.r.axis[1].size
        cdef Py_buffer *p = held.take("users", users.reshape(-1))
        cdef Py_buffer *q = held.take("items", items.reshape(-1))
        cdef const double *b = <const double *>typed(held, "user_biases", user_biases, "d", m)
        cdef const double *c = <const double *>typed(held, "item_biases", item_biases, "d", n)
        cdef int dtype = dtype_of(p)
        if (dtype < 0 or dtype_of(q) != dtype or p.shape[0] != m * rank or q.shape[0] != n * rank
                or out.shape[0] != self.r.n):
            raise ValueError("factors must have one dtype, and the shape of the ratings")
        if self.r.n:
            with nogil:
                fo_factor_predict(&self.r, dtype, rank, p.buf, q.buf, b, c, mean, &out[0], threads)


@cython.final
cdef class Blocks:
    """Ratings in the blocks of a grid of bands; `records` holds them."""

    cdef fo_grid grid
    cdef fo_blocks b
    cdef Buffers held
    cdef readonly Py_ssize_t bands
    cdef readonly object records, start

    def __cinit__(self, Ratings ratings, Py_ssize_t bands, widths, places, sizes, dtype,
                  double factor, double shift, bint held, int threads):
        import numpy
        cdef int64_t[::1] cursors
        cdef int ok
        self.held, self.bands, self.grid.bands = Buffers(), bands, bands
        for a in range(2):
            self.grid.width[a] = widths[a]
            self.grid.place[a] = <const uint32_t *>typed(self.held, "places", places[a], "IL",
                                                         ratings.r.axis[a].size)
            self.grid.sizes[a] = <const uint32_t *>typed(self.held, "sizes", sizes[a], "IL", bands)
            if places[a].max() >= bands * widths[a]:
                raise ValueError("places must lie in the bands")
        self.b.grid, self.b.factor, self.b.shift = &self.grid, factor, shift
        self.b.dtype = FO_F32 if dtype == "f4" else FO_F64
        self.start = numpy.zeros(bands * bands + 1, "i8")
        self.b.start = <int64_t *>typed(self.held, "start", self.start, "lq", bands * bands + 1,
                                        True)
        cursors = numpy.empty(FO_CHUNKS * bands * bands, "i8")
        with nogil:
            fo_blocks_count(&ratings.r, &self.b, held, &cursors[0], threads)
        n = self.start[-1]
        self.records = numpy.empty(n, [("user", "u4"), ("item", "u4"), ("y", dtype)])
        view = self.records.view("u4")
        self.b.ratings = typed(self.held, "records", view, "IL", 3 * n, True)
        with nogil:
            ok = fo_blocks_fill(&ratings.r, &self.b, held, &cursors[0], threads)
        if not ok:
            raise MemoryError

    def degrees(self, int64_t[::1] users, int64_t[::1] items, int threads):
        """Count the ratings of each place."""
        if (users.shape[0] != self.bands * self.grid.width[0]
                or items.shape[0] != self.bands * self.grid.width[1]):
            raise ValueError("users and items must have a number for each place")
        with nogil:
            fo_blocks_degrees(&self.b, &users[0], &items[0], threads)

    def items_of(self, int64_t[::1] start, uint32_t[::1] items, int threads):
        """Write the items of each user, ascending, to items[start[place]...]."""
        cdef int ok
        if (start.shape[0] != self.bands * self.grid.width[0] + 1
                or start[start.shape[0] - 1] != items.shape[0]):
            raise ValueError("start must have the running totals of the users' ratings")
        with nogil:
            ok = fo_blocks_items(&self.b, &start[0], &items[0], threads)
        if not ok:
            raise MemoryError


@cython.final
cdef class Factorization:
    """One run over blocks: `rows` and `extra` are the model, which it trains."""

    cdef fo_factor_run run
    cdef Blocks blocks
    cdef Buffers held
    cdef readonly Py_ssize_t units, round

    def __cinit__(self, Blocks blocks, str loss, Py_ssize_t rank, rows, extra, bint biased,
                  bint adaptive, bint nonnegative, double mean, double gain, double l2,
                  double l2_bias, bint racy, uint64_t seed, seen, items):
        import numpy
        self.blocks, self.held, self.run.blocks = blocks, Buffers(), &blocks.b
        cdef fo_factor_model *m = &self.run.model
        m.loss, m.dtype, m.rank = FACTOR_LOSSES.index(loss), blocks.b.dtype, rank
        m.biased, m.adaptive, m.nonnegative = biased, adaptive, nonnegative
        m.mean, m.gain, m.l2, m.l2_bias = mean, gain, l2, l2_bias
        self.run.racy, self.run.seed = racy, seed
        cdef Py_ssize_t size = FO_LINE // (4 if m.dtype == FO_F32 else 8)
        if rank < 1 or rank % size or rank > 256:
            raise ValueError(f"rank must be a multiple of {size} up to 256")
        format = "f" if m.dtype == FO_F32 else "d"
        for a in range(2):
            size = blocks.bands * blocks.grid.width[a]
            m.rows[a] = typed(self.held, "rows", rows[a], format, size * rank, True)
            m.extra[a] = typed(self.held, "extra", extra[a], format, 2 * size, True)
        if (loss == "bpr") != (seen is not None):
            raise ValueError("seen and items are for loss 'bpr'")
        if seen is not None:
            size = blocks.bands * blocks.grid.width[0] + 1
            m.seen = <const int64_t *>typed(self.held, "seen", seen, "lq", size)
            m.items = <const uint32_t *>typed(self.held, "items", items, "IL", seen[-1])
        order = numpy.empty(2 * blocks.bands, "u4")
        self.run.order = <uint32_t *>typed(self.held, "order", order, "IL", 2 * blocks.bands, True)
        self.units, self.round = fo_factor_units(&self.run), fo_factor_round(&self.run)
        fo_factor_epoch(&self.run, 0)

    def epoch(self, int64_t epoch, double step, double user_weight, double item_weight):
        """Begin an epoch; the squares of weight * derivative join rows' squares."""
        self.run.model.step = step
        self.run.model.weight[0], self.run.model.weight[1] = user_weight, item_weight
        fo_factor_epoch(&self.run, epoch)

    def slice(self, Py_ssize_t start, Py_ssize_t stop, int threads):
        """Train on the units [start, stop) of the epoch."""
        if not 0 <= start <= stop <= self.units:
            raise ValueError("start and stop must lie in the epoch")
        with nogil:
            fo_factor_slice(&self.run, start, stop, threads)

    def blocks_of(self, Py_ssize_t unit):
        """Return the numbers of the blocks of a unit of the epoch, in order."""
        cdef Py_ssize_t found[2]
        cdef int count = fo_factor_blocks(&self.run, unit, found)
        return [found[k] for k in range(count)]

    def loss(self, Blocks blocks, Py_ssize_t band, int threads):
        """Return the sums of losses and the like over a band of users; see fo_factor_sums."""
        cdef fo_factor_sums sums
        cdef int ok
        if blocks.bands != self.blocks.bands or blocks.b.dtype != self.blocks.b.dtype:
            raise ValueError("blocks must be of the grid of the run")
        if not 0 <= band < self.blocks.bands:
            raise ValueError("band must be one of the grid's")
        with nogil:
            ok = fo_factor_loss(&self.run, &blocks.b, band, &sums, threads)
        if not ok:
            raise MemoryError
        return sums

    def penalty(self, int axis, int64_t[::1] degrees):
        """Return the sum of degree * (l2 / 2 * |factors|^2 + l2_bias / 2 * bias^2)."""
        cdef Py_ssize_t rows = self.blocks.bands * self.blocks.grid.width[axis]
        cdef double total
        if degrees.shape[0] != rows:
            raise ValueError("degrees must have a number for each place")
        with nogil:
            total = fo_factor_penalty(&self.run.model, axis, &degrees[0], rows)
        return total

    def squares(self, int axis):
        """Return the sum of squares of the factors of an axis."""
        return fo_factor_squares(&self.run.model, axis,
                                 self.blocks.bands * self.blocks.grid.width[axis])

    @property
    def diverged(self):
        return bool(self.run.diverged)
