# The prepared step: pointers resolved and checked once, buffers held, one native call per step.

from cpython.dict cimport PyDict_Update

# Below this many elements, giving the GIL up and taking it back costs more than it gives others.
cdef Py_ssize_t GIL_WORTH = 8192


def commit(list arrays, list dicts, Plan plan, long long t):
    """Copy the second of every pair of arrays and of dictionaries into the first, and set t.

    Nothing here looks at signals, so Ctrl-C comes before or after all of it.
    """
    for target, source in arrays:
        target[...] = source
    for target, source in dicts:
        PyDict_Update(target, source)
    plan.t = t


def bias_correction(double beta, double t):
    """Return 1 - beta**t without cancellation, for beta in [0, 1) and t >= 1."""
    return -expm1(t * log(beta)) if beta > 0 else 1.0


@cython.final
cdef class StepInfo:
    """What one step did.

    Attributes
    ----------
    t : int
        Steps done, this one included.
    lr : float
        The first group's learning rate in this step.
    grad_norm : float
        Global 2-norm of the gradients before clipping; nan if `clip_norm` is not set.
    clip_coef : float
        What the gradients were multiplied by, `min(1, clip_norm / grad_norm)`; 1 if unclipped.
        The least of them where tensors are clipped one by one; nan where rows are.
    nonfinite : int
        How many elements of the gradients were NaN or infinite.
    skipped : bool
        The step was left out because of these, or only added to the accumulated gradients.
    """

    cdef readonly long long t, nonfinite
    cdef readonly double lr, grad_norm, clip_coef
    cdef readonly bint skipped

    def __repr__(self):
        return (f"StepInfo(t={self.t}, lr={self.lr:g}, grad_norm={self.grad_norm:g}, "
                f"clip_coef={self.clip_coef:g}, nonfinite={self.nonfinite}, "
                f"skipped={self.skipped})")


@cython.final
cdef class RowGradient:
    """A gradient that is 0 but in some rows: different numbers, and values as contiguous rows."""

    cdef readonly object rows, values

    def __init__(self, rows, values):
        self.rows, self.values = rows, values


@cython.final
cdef class Plan:
    """One rule, its parameters and their states, and the gradients held for the next steps.

    The layers above have checked parameters and states; gradients are checked here, because they
    may be new at every step. A step is a `with` block, which only one thread enters at a time;
    gradients passed to it are let go at its end. `t` counts steps; it moves with the parameters,
    so that Ctrl-C never comes between the two.
    """

    cdef Py_ssize_t count, held, elements
    cdef int rule, first, n_scalars, n_groups
    cdef tuple names, scalar_names
    cdef Py_buffer *w
    cdef Py_buffer *g
    cdef Py_buffer *fresh
    cdef Py_buffer *s
    cdef list rows  # of each parameter whose gradient is rows: arrays that must live on
    cdef bint sparse  # whether there are such
    cdef fo_flag busy
    cdef bint passing
    cdef bint *in_f32
    cdef bint *is_eps
    cdef public long long t
    cdef public tuple slots  # (group, steps it has missed) for each group of numbers
    cdef public bint decoupled, penalized  # how weight_decay acts; whether l1 is a penalty
    cdef public bint zeroes  # gradients are written to
    cdef Py_ssize_t n_others, room
    cdef fo_segment *segments
    cdef Py_ssize_t *ends
    cdef fo_group *groups
    cdef double *partials
    cdef double *row_scales
    cdef size_t *hulls
    cdef Py_ssize_t n_hulls
    cdef fo_factored *factored  # of each parameter, see _factored.pxi; NULL for most rules
    cdef double *sums
    cdef char *factors
    cdef bint orthogonal  # see _muon.pxi

    def __cinit__(self, str rule, tuple names, list params, list states, list groups, list hulls,
                  dict extra=None):
        """`extra`: "copy", "rest", "average", "skipped", "skipped_soft" -> one array or None per
        parameter; "reversed" -> those whose axes are the user's in reverse; "stochastic",
        "clip_rows".

        A state is an array, or (codes, largest magnitudes, whether signed) in 8 bits.
        """
        cdef Py_ssize_t k, j, rows, height
        declared = rules()
        self.rule = list(declared).index(rule)
        self.first = -1
        self.scalar_names = declared[rule][1]
        self.n_scalars = len(self.scalar_names)
        self.names = names
        self.n_groups = max(groups) + 1
        extra = extra or {}
        count = len(params)
        self.room = count * (2 * FO_MAX_STATES + 5)
        self.w = <Py_buffer *>calloc(count, sizeof(Py_buffer))
        self.g = <Py_buffer *>calloc(count, sizeof(Py_buffer))
        self.fresh = <Py_buffer *>calloc(count, sizeof(Py_buffer))
        self.s = <Py_buffer *>calloc(self.room, sizeof(Py_buffer))
        self.in_f32 = <bint *>calloc(self.n_groups, sizeof(bint))
        self.is_eps = <bint *>calloc(FO_MAX_SCALARS, sizeof(bint))
        self.segments = <fo_segment *>calloc(count, sizeof(fo_segment))
        self.ends = <Py_ssize_t *>calloc(count, sizeof(Py_ssize_t))
        self.groups = <fo_group *>calloc(self.n_groups, sizeof(fo_group))
        self.hulls = <size_t *>calloc(2 * len(hulls) + 1, sizeof(size_t))
        if not (self.w and self.g and self.fresh and self.s and self.segments and self.ends
                and self.groups and self.hulls and self.in_f32 and self.is_eps):
            raise MemoryError
        for k in range(self.n_scalars):
            self.is_eps[k] = self.scalar_names[k].startswith("eps")
        self.n_hulls = len(hulls)
        for k in range(self.n_hulls):
            self.hulls[2 * k], self.hulls[2 * k + 1] = hulls[k]
        for k in range(self.n_groups):
            no_stages(&self.groups[k])
        rows = 0
        for k in range(count):
            PyObject_GetBuffer(params[k], &self.w[k], PyBUF_WRITABLE | PyBUF_STRIDES | PyBUF_FORMAT)
            self.count = k + 1
            segment = &self.segments[k]
            describe(&segment.w, &self.w[k])
            segment.dtype = arithmetic_of(segment.w.type)
            segment.number = <uint32_t>k
            segment.n = self.w[k].len // self.w[k].itemsize
            segment.row = segment.n
            segment.reversed = k in extra.get("reversed", ())
            if self.w[k].ndim > 1:
                height = self.w[k].shape[self.w[k].ndim - 1 if segment.reversed else 0]
                segment.row = segment.n // height if height else 0
            rows += segment.n // segment.row if segment.row else 0
            segment.group = &self.groups[<Py_ssize_t>groups[k]]
            segment.gain = segment.l2_gain = segment.lr_gain = 1
            segment.stochastic = extra.get("stochastic", False)
            if segment.dtype == FO_F32:
                self.in_f32[<Py_ssize_t>groups[k]] = True
            for j in range(len(states[k])):
                self.hold_state(k, &segment.states[j], states[k][j])
            if "copy" in extra and extra["copy"][k] is not None:
                view = self.hold_other(extra["copy"][k])
                if not same_shape(view, &self.w[k]):
                    raise ValueError(f"a copy of {names[k]!r} has the wrong shape")
                describe(&segment.copy, view)
            if "rest" in extra and extra["rest"][k] is not None:
                segment.rest = self.hold_like(k, extra["rest"][k], FO_BF16).buf
            if "average" in extra and extra["average"][k] is not None:
                segment.average = self.hold_like(k, extra["average"][k], segment.dtype).buf
            if "skipped" in extra and extra["skipped"][k] is not None:
                segment.skipped.factor = self.hold_totals(k, extra["skipped"][k])
                if extra["skipped_soft"][k] is not None:
                    segment.skipped.soft = self.hold_totals(k, extra["skipped_soft"][k])
            self.elements += segment.n
            self.ends[k] = self.elements
        self.rows = [None] * self.count
        self.partials = <double *>malloc((fo_partials(self.segments, self.count) + 1)
                                         * sizeof(double))
        if not self.partials:
            raise MemoryError
        if extra.get("clip_rows", False):
            self.row_scales = <double *>malloc((rows + 1) * sizeof(double))
            if not self.row_scales:
                raise MemoryError

    cdef Py_buffer *hold_other(self, array) except NULL:
        cdef Py_buffer *view = &self.s[self.n_others]
        PyObject_GetBuffer(array, view, PyBUF_WRITABLE | PyBUF_STRIDES | PyBUF_FORMAT)
        self.n_others += 1
        return view

    cdef Py_buffer *hold_like(self, Py_ssize_t k, array, int type) except NULL:
        """Hold a contiguous array of the shape of parameter k, of `type` or -1 for any."""
        cdef Py_buffer *view = self.hold_other(array)
        if (type_of(view) < 0 or (type >= 0 and type_of(view) != type)
                or not same_shape(view, &self.w[k]) or not PyBuffer_IsContiguous(view, b"C")):
            raise ValueError(f"a state of {self.names[k]!r} has the wrong dtype or layout")
        return view

    cdef double *hold_totals(self, Py_ssize_t k, array) except NULL:
        cdef Py_buffer *view = self.hold_other(array)
        if (type_of(view) != FO_F64 or view.ndim != 1 or view.shape[0] != self.w[k].shape[0] + 1
                or not PyBuffer_IsContiguous(view, b"C")):
            raise ValueError(f"skipped decay of {self.names[k]!r} has the wrong dtype or shape")
        return <double *>view.buf

    cdef int hold_state(self, Py_ssize_t k, fo_state *state, value) except -1:
        cdef Py_buffer *view
        cdef Py_buffer *largest
        cdef Py_ssize_t n = self.segments[k].n
        if isinstance(value, tuple):
            codes, magnitudes, signed = value
            view, largest = self.hold_other(codes), self.hold_other(magnitudes)
            if (view.itemsize != 1 or view.len != n or type_of(largest) != FO_F32
                    or largest.len // 4 != (n + FO_QUANTUM - 1) // FO_QUANTUM
                    or self.segments[k].dtype != FO_F32 or <size_t>view.buf % 4 != 0
                    or not PyBuffer_IsContiguous(view, b"C")
                    or not PyBuffer_IsContiguous(largest, b"C")):
                raise ValueError(f"an 8-bit state of {self.names[k]!r} has the wrong layout")
            state.type = FO_S8 if signed else FO_U8
            state.largest = <float *>largest.buf
        else:
            view = self.hold_like(k, value, -1)
            state.type = type_of(view)
            if arithmetic_of(state.type) != self.segments[k].dtype or state.type == FO_F16:
                raise ValueError(f"a state of {self.names[k]!r} has the wrong dtype or layout")
        state.data = <char *>view.buf
        return 0

    def __dealloc__(self):
        release_all(self.g, self.held)
        release_all(self.w, self.count)
        release_all(self.s, self.n_others)
        free(self.w)
        free(self.g)
        free(self.fresh)
        free(self.s)
        free(self.in_f32)
        free(self.is_eps)
        free(self.segments)
        free(self.ends)
        free(self.groups)
        free(self.partials)
        free(self.row_scales)
        free(self.hulls)
        free(self.factored)
        free(self.sums)
        free(self.factors)

    cdef int claim(self) except -1:
        if not fo_claim(&self.busy):
            raise RuntimeError("this optimizer is in use already: a step runs in another thread, "
                               "or in a schedule that steps")
        return 0

    cdef void leave(self) noexcept:
        if self.passing:
            self.release()
        self.passing = False
        self.busy = 0

    def __enter__(self):
        self.claim()
        return self

    def __exit__(self, kind, error, trace):
        self.leave()

    cpdef release(self):
        """Let go of the gradients."""
        release_all(self.g, self.held)
        self.held = 0
        if self.sparse:
            self.sparse = False
            self.lay_out([None] * self.count)

    cdef int lay_out(self, list rows) except -1:
        """Let every segment be the rows that its gradient has; None: all."""
        cdef fo_segment *segment
        cdef const int64_t[::1] numbers
        self.elements = 0
        for k in range(self.count):
            segment = &self.segments[k]
            if rows[k] is not None or self.rows[k] is not None:
                segment.n = self.w[k].len // self.w[k].itemsize
                segment.rows = NULL
                segment.row = segment.n
                if self.w[k].ndim > (rows[k] is None) and self.w[k].shape[0] > 0:
                    segment.row = segment.n // self.w[k].shape[0]
            if rows[k] is not None:
                numbers = rows[k]
                segment.n = segment.row * numbers.shape[0]
                segment.rows = &numbers[0] if segment.n else NULL
            self.elements += segment.n
            self.ends[k] = self.elements
        self.rows = rows
        return 0

    cpdef hold(self, grads, clash, bint passing):
        """Check and hold one gradient per parameter; after an error all is as before.

        `clash(k, grad)` is asked when gradient k lies where a parameter or state may lie too.
        `passing`: only until the end of the `with` block.
        """
        cdef Py_ssize_t k, count, got = 0
        cdef Py_buffer *view
        cdef list rows = None
        try:
            for k in range(self.count):
                view = &self.fresh[k]
                grad, count = grads[k], -1
                if grad is None and self.segments[k].frozen:
                    PyObject_GetBuffer(NOTHING, view, PyBUF_STRIDES | PyBUF_FORMAT)
                    got = k + 1
                    continue
                if passing and type(grad) is RowGradient:
                    rows = rows or [None] * self.count
                    rows[k], grad = (<RowGradient>grad).rows, (<RowGradient>grad).values
                    count = len(rows[k])
                bits = fetch(self, k, grad, view)
                got = k + 1
                check_gradient(self, k, view, grad, bits, clash, count)
            if self.zeroes and not apart(self):
                from fastopt.rules.gradients import refuse_shared
                refuse_shared(self.names, grads)
        except BaseException:
            release_all(self.fresh, got)
            raise
        self.release()
        self.g, self.fresh = self.fresh, self.g
        self.held = self.count
        self.passing = passing
        for k in range(self.count):
            describe(&self.segments[k].g, &self.g[k])
        if rows is not None:
            self.sparse = True
            self.lay_out(rows)

    cpdef double set_groups(self, opt) except? -1:
        """Set the numbers of every group for the next step; return the first group's lr.

        `opt.scalars(h, t)` gives the rule's numbers from the group's hyper-parameters h. What
        `opt.decay(h)` says is taken from w before the rule if the decay is decoupled; else
        weight_decay is an L2 penalty.
        """
        cdef int k = 0
        cdef double weight_decay, l2, decay, sign, first = 0
        cdef dict h
        cdef long long next_t = self.t + 1
        for group, missed in self.slots:
            h = group.at(self.t) if group.scheduled else group.plain
            weight_decay = h["weight_decay"] if "weight_decay" in h else 0
            l2 = decay = 0
            if weight_decay != 0 and not h["proximal"]:
                if self.decoupled:
                    decay = opt.decay(h)
                else:
                    l2 = weight_decay
            sign = -1 if h["maximize"] else 1
            self.set_group(k, sign, l2, decay, opt.scalars(h, next_t - missed))
            if opt.lazy == "catchup":
                self.set_skipped(k, h, l2, decay)
            if k == 0:
                first = h["lr"]
            if group.staged:
                self.set_stages(k, h, weight_decay, h["l1"] if self.penalized else 0)
            k += 1
        return first

    def step(self, opt, grads, int threads):
        """Do a step that is nothing but the rule, with `grads` if they are not bound."""
        self.claim()
        try:
            if grads is not None:
                found = listed(self, grads)
                self.hold(opt._ordered(grads) if found is None else found, opt._clash, True)
            return self.run(threads, self.set_groups(opt), NAN, 1.0)
        finally:
            self.leave()

    cdef int set_skipped(self, int group, dict h, double l2, double decay) except -1:
        """Set what this step takes from the rows that it skips."""
        cdef fo_segment *segment
        cdef double lr = h["lr"], part = lr * l2 if l2 else decay
        if l2 != 0 and self.rule != sgd_rule():
            raise ValueError("lazy='catchup' can make up for an L2 penalty in SGD without momentum "
                             "only: use proximal=True, a decoupled decay or lazy='dense'")
        if h["l1"] != 0 and self.penalized and not h["proximal"]:
            raise ValueError("lazy='catchup' needs proximal=True to make up for l1")
        if part >= 1:
            raise ValueError(f"lazy='catchup' needs lr * weight_decay < 1, got {part}")
        for k in range(self.count):
            segment = &self.segments[k]
            if segment.group != &self.groups[group] or not segment.skipped.factor:
                continue
            if h["proximal"]:
                segment.skipped.step_factor = log1p(lr * h["weight_decay"]
                                                    if "weight_decay" in h else 0)
                segment.skipped.step_soft = lr * h["l1"] if self.penalized else 0
                if segment.skipped.step_soft != 0 and not segment.skipped.soft:
                    raise ValueError("lazy='catchup' makes up for l1 only where the optimizer was "
                                     "built with proximal=True")
            else:
                segment.skipped.step_factor = -log1p(-part)
                segment.skipped.step_soft = 0
        return 0

    cdef int set_stages(self, int k, dict h, double decay, double l1) except -1:
        """Set what is done to the parameters of a group beside the rule."""
        cdef fo_group *group = &self.groups[k]
        cdef double lr = h["lr"]
        group.l1 = 0 if h["proximal"] else l1
        group.soft = lr * l1 if h["proximal"] else 0
        group.divided = 1 / (1 + lr * decay) if h["proximal"] else 1
        group.least = -INFINITY if h["lower"] is None else h["lower"]
        group.most = INFINITY if h["upper"] is None else h["upper"]
        group.max_norm = INFINITY if h["max_norm"] is None else h["max_norm"]
        if group.least > group.most:
            raise ValueError(f"lower must be <= upper, got lower={group.least}, "
                             f"upper={group.most}")
        return 0

    def set_common(self, double clip_value, bint mask, bint zero_grad, double average, bint pull):
        """Set the stages that are the same in all groups."""
        cdef fo_group *group
        for k in range(self.n_groups):
            group = &self.groups[k]
            group.clip_value = clip_value
            group.mask = mask
            group.zero_grad = zero_grad
            group.average = average
            group.pull = pull

    cpdef set_group(self, int group, double scale, double l2, double decay, dict scalars):
        """Set the numbers of one group: the prelude, and the rule's scalars by name."""
        cdef int j
        cdef double value
        cdef double *out
        cdef double most
        if not 0 <= group < self.n_groups:
            raise IndexError(group)
        out = self.groups[group].scalars
        most = FLT_MAX if self.in_f32[group] else 1e308
        if not (-most <= scale <= most and -most <= l2 <= most and -most <= decay <= most):
            raise ValueError("weight_decay, or lr * weight_decay, is no number or too large for "
                             f"the parameters' dtype in this step: {l2 if l2 else decay}")
        for j in range(self.n_scalars):
            name = self.scalar_names[j]
            value = scalars[name]
            if not -most <= value <= most:
                raise ValueError(f"scalar {name!r} of the rule is {value}: a hyper-parameter is "
                                 "no number, or too large for the parameters' dtype, in this step")
            if self.is_eps[j] and 0 < value < FLT_MIN and self.in_f32[group]:
                raise ValueError(f"{name} is {value:g} in this step, which is 0 in float32: use 0 "
                                 f"or at least {FLT_MIN:g}")
            out[j] = value
        self.groups[group].prelude = fo_make_prelude(scale, l2, decay)

    def scale(self, double factor):
        """Multiply every group's gradient scale, for clipping."""
        cdef fo_prelude *p
        for k in range(self.n_groups):
            p = &self.groups[k].prelude
            p[0] = fo_make_prelude(p.fold * p.scale * factor, p.l2, p.decay)

    def freeze(self, Py_ssize_t k, bint frozen):
        """Leave parameter k alone from now on, or not."""
        self.segments[k].frozen = frozen

    def set_gain(self, Py_ssize_t k, double gain, double l2_gain):
        """Multiply the gradient's scale and the L2 penalty of parameter k in the next step."""
        self.segments[k].gain = gain
        self.segments[k].l2_gain = l2_gain

    def norm(self, int threads, Py_ssize_t k=-1, bint of_w=False):
        """The 2-norm over all held gradients, of gradient k, or of parameter k.

        Right even where its square is out of range.
        """
        cdef double result
        cdef int of = FO_OF_W if of_w else FO_OF_G
        cdef const fo_segment *first = self.segments if k < 0 else &self.segments[k]
        cdef Py_ssize_t count = self.count if k < 0 else 1
        if self.held != self.count or k >= self.count:
            raise RuntimeError("the plan holds no gradients")
        with nogil:
            result = norm_of(self, first, count, of, threads)
        return result

    def zero_gradients(self):
        """Set all held gradients to zero."""
        for k in range(self.count):
            if not self.segments[k].frozen:
                fill_zero(&self.segments[k].g, self.segments[k].n)

    def finite(self, int threads):
        """Whether all held gradients are finite."""
        cdef double largest
        with nogil:
            largest = fo_reduce_all(self.segments, self.count, FO_OF_G, 0, FO_ABSMAX, 1,
                                    self.partials, threads)
        return isfinite(largest)

    def rows_of(self, Py_ssize_t k):
        """Return the numbers of the rows that gradient k has, or None for all."""
        return self.rows[k]

    def gradients(self):
        """Return arrays over the held gradients; only while they are held. For rare paths."""
        import numpy
        found = []
        for k in range(self.count):
            if self.segments[k].frozen:
                found.append(numpy.empty(0))
                continue
            one = numpy.empty(shape_of(&self.g[k]), "f4" if self.segments[k].dtype == FO_F32
                              else "f8")
            copy_gradient(self, k, one)
            found.append(one)
        return found

    def direct(self, str first):
        """Make every step two passes: rule `first`, then this rule with a factor for each array.

        The factor is min(|w|, most) / |direction| in 2-norms, `most` being the rule's last
        number; 1 where a norm is 0.
        """
        self.first = list(rules()).index(first)

    cdef void first_pass(self, uint32_t key, int threads) noexcept nogil:
        cdef fo_segment *segment
        cdef double size, length
        fo_step(self.segments, self.ends, self.count, self.first, key, 1, threads)
        for k in range(self.count):
            segment = &self.segments[k]
            size = sqrt(fo_reduce_all(segment, 1, FO_OF_W, 0, FO_SUMSQ, 1, self.partials, threads))
            length = sqrt(fo_reduce_all(segment, 1, FO_OF_RULE, self.rule, FO_SUMSQ, 1,
                                        self.partials, threads))
            size = min(size, segment.group.scalars[self.n_scalars - 1])
            segment.lr_gain = 1
            if size != 0 and length != 0:
                segment.lr_gain = size / length

    def set_rate(self, Py_ssize_t k, double factor):
        """Multiply the rule's first number for parameter k from now on."""
        self.segments[k].lr_gain = factor

    def factor(self, list moments):
        """Make g the direction of Adafactor in every step; its rule ends with the numbers for it.

        `moments`: for each parameter the averages of its rows' and of its columns' mean squares,
        or one array with an average for each element.
        """
        attach_moments(self, moments)

    def orthogonalize(self, str first):
        """Make every step two passes: rule `first`, then this rule.

        The last state of the first is a scratch matrix, which is made orthogonal in between and is
        the gradient of the second.
        """
        self.first = list(rules()).index(first)
        self.orthogonal = True

    def clip_rows(self, double most, int threads):
        """Clip the norm of every row of every gradient in the next step."""
        cdef Py_ssize_t rows = 0
        cdef fo_segment *segment
        with nogil:
            for k in range(self.count):
                segment = &self.segments[k]
                if segment.row == 0:
                    continue
                if not segment.frozen:
                    segment.row_scale = self.row_scales + rows
                    fo_clip_rows(segment, most, threads)
                rows += segment.n // segment.row

    cpdef StepInfo run(self, int threads, double lr, double grad_norm, double clip_coef):
        """Do the step, count it, and return its record."""
        cdef Py_ssize_t bad
        cdef uint32_t key = self.key()
        if self.held != self.count:
            raise RuntimeError("the plan holds no gradients")
        if self.orthogonal:
            return orthogonal_step(self, key, threads, lr, grad_norm, clip_coef)
        if self.first >= 0:
            with nogil:
                self.first_pass(key, threads)
        if self.factored:
            with nogil:
                find_directions(self, threads)
        self.before_rows(threads)
        if self.elements < GIL_WORTH:
            bad = fo_step(self.segments, self.ends, self.count, self.rule, key, 0, 1)
        else:
            with nogil:
                bad = fo_step(self.segments, self.ends, self.count, self.rule, key, 0, threads)
        self.finish(threads)
        return self.info(lr, grad_norm, clip_coef, bad, False)

    cdef void finish(self, int threads) noexcept:
        """Bound the rows' norms, and count the step."""
        for k in range(self.count):
            if self.segments[k].group.max_norm < INFINITY and not self.segments[k].frozen:
                with nogil:
                    fo_project_rows(&self.segments[k], self.segments[k].group.max_norm, threads)
            self.segments[k].gain = self.segments[k].l2_gain = 1
            self.segments[k].row_scale = NULL
        self.after_rows()
        self.t += 1

    cdef int before_rows(self, int threads) except -1:
        """Bring parameters up to date that are stepped as a whole, or that have much to make up."""
        cdef fo_segment *segment
        cdef fo_skipped *skipped
        for k in range(self.count):
            segment = &self.segments[k]
            skipped = &segment.skipped
            if not skipped.factor or segment.frozen:
                continue
            if self.rows[k] is None or skipped.factor[self.w[k].shape[0]] > 500:
                with nogil:
                    fo_catch_up(segment, threads)
            skipped.step_soft *= exp(skipped.factor[self.w[k].shape[0]])
        return 0

    cdef int after_rows(self) except -1:
        cdef fo_segment *segment
        for k in range(self.count):
            segment = &self.segments[k]
            if segment.skipped.factor and not segment.frozen and self.rows[k] is not None:
                segment.skipped.factor[self.w[k].shape[0]] += segment.skipped.step_factor
                if segment.skipped.soft:
                    segment.skipped.soft[self.w[k].shape[0]] += segment.skipped.step_soft
        return 0

    def flush(self, int threads):
        """Bring all rows up to date."""
        with nogil:
            for k in range(self.count):
                if self.segments[k].skipped.factor:
                    fo_catch_up(&self.segments[k], threads)

    cdef uint32_t key(self):
        """Of the random numbers of the next step."""
        cdef uint64_t x = (<uint64_t>self.t + 1) * <uint64_t>0x9e3779b97f4a7c15
        x = (x ^ (x >> 32)) * <uint64_t>0xd6e8feb86659fd93
        return <uint32_t>(x >> 32)

    cpdef StepInfo info(self, double lr, double grad_norm, double clip_coef, long long nonfinite,
                        bint skipped):
        """Return the record of a step."""
        cdef StepInfo info = StepInfo.__new__(StepInfo)
        info.t = self.t
        info.lr = lr
        info.grad_norm = grad_norm
        info.clip_coef = clip_coef
        info.nonfinite = nonfinite
        info.skipped = skipped
        return info


cdef int sgd_rule() except -1:
    return list(rules()).index("sgd")


cdef double norm_of(Plan plan, const fo_segment *first, Py_ssize_t count, int of,
                    int threads) noexcept nogil:
    """The 2-norm over the gradients or parameters of some segments."""
    cdef double scale = 1, result
    result = fo_reduce_all(first, count, of, 0, FO_SUMSQ, 1, plan.partials, threads)
    if not 1e-280 < result < 1e300:
        scale = fo_reduce_all(first, count, of, 0, FO_ABSMAX, 1, plan.partials, threads)
        if isfinite(scale) and scale > 0:
            # A power of two near the maximum: scaling by it is exact.
            scale = power_of_two(scale)
            result = fo_reduce_all(first, count, of, 0, FO_SUMSQ, 1 / scale, plan.partials, threads)
        else:
            result = scale
            scale = 1
    return sqrt(result) * scale


cdef void fill_zero(const fo_array *a, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t start = 0
    while start < n:
        fo_fill_zero(a, start, min(n - start, FO_BLOCK))
        start += FO_BLOCK


cdef void no_stages(fo_group *group) noexcept:
    group.clip_value = INFINITY
    group.divided = 1
    group.least = -INFINITY
    group.most = INFINITY
    group.max_norm = INFINITY


cdef double power_of_two(double x) noexcept nogil:
    cdef int exponent = 0
    frexp(x, &exponent)
    return ldexp(1, max(-1000, min(exponent, 1000)))
