# The prepared step: pointers resolved and checked once, buffers held, one native call per step.

from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.dict cimport PyDict_Update

cdef extern from "fastopt.h" nogil:
    enum:
        FO_MAX_STATES
        FO_MAX_SCALARS
        FO_F32
        FO_F64
        FO_SUM
        FO_DOT
        FO_SUMSQ
        FO_ABSMAX
    ctypedef struct fo_prelude:
        double fold
        double scale
        double l2
        double decay
    ctypedef int fo_flag
    bint fo_claim(fo_flag *flag)
    ctypedef struct fo_array:
        char *data
        int ndim
        const Py_ssize_t *shape
        const Py_ssize_t *strides
    ctypedef struct fo_segment:
        int dtype
        Py_ssize_t n
        fo_array w
        fo_array g
        void *states[4]
        const fo_prelude *prelude
        const double *scalars
    void fo_step(const fo_segment *segments, const Py_ssize_t *ends, Py_ssize_t count, int rule,
                 int threads)
    Py_ssize_t fo_partials(const fo_segment *segments, Py_ssize_t count)
    double fo_reduce_gradients(const fo_segment *segments, Py_ssize_t count, int what,
                               double scale, double *partials, int threads)

cdef extern from "math.h" nogil:
    bint isfinite(double)
    double sqrt(double)
    double frexp(double, int *)
    double ldexp(double, int)
    double expm1(double)
    double log(double)

cdef extern from "float.h":
    double FLT_MIN
    double FLT_MAX

# Below this many elements, giving the GIL up and taking it back costs more than it gives others.
cdef Py_ssize_t GIL_WORTH = 8192


cdef int dtype_of(Py_buffer *view) noexcept:
    """FO_F32, FO_F64, or -1: anything else, byte-swapped numbers included."""
    cdef const char *text = view.format
    if text == NULL:
        return -1
    if text[0] in (b"@", b"=", NATIVE_ORDER):
        text += 1
    if text[0] == b"f" and text[1] == 0 and view.itemsize == 4:
        return FO_F32
    if text[0] == b"d" and text[1] == 0 and view.itemsize == 8:
        return FO_F64
    return -1


cdef char NATIVE_ORDER = b"<" if sys.byteorder == "little" else b">"


cdef bint aligned(Py_buffer *view) noexcept:
    if <size_t>view.buf % <size_t>view.itemsize != 0:
        return False
    for d in range(view.ndim):
        if view.shape[d] > 1 and view.strides[d] % view.itemsize != 0:
            return False
    return True


cdef void describe(fo_array *array, Py_buffer *view) noexcept:
    array.data = <char *>view.buf
    array.ndim = view.ndim
    array.shape = view.shape
    array.strides = NULL
    if not PyBuffer_IsContiguous(view, b"C") or not aligned(view):
        array.strides = view.strides  # through blocks, which are aligned


cdef void release_all(Py_buffer *views, Py_ssize_t count) noexcept:
    for k in range(count):
        PyBuffer_Release(&views[k])


cdef fo_prelude prelude_of(double scale, double l2, double decay) noexcept nogil:
    """The prelude, with a scale that a float32 may not hold in two factors that it does."""
    cdef fo_prelude prelude
    cdef int exponent = 0
    prelude.fold = 1
    if scale != 0 and -1e-30 < scale < 1e-30:
        frexp(scale, &exponent)
        prelude.fold = ldexp(1, exponent // 2)
    prelude.scale = scale / prelude.fold
    prelude.l2 = l2
    prelude.decay = decay
    return prelude


def commit(list arrays, list dicts, Plan plan, long long t):
    """Copy the second of every pair of arrays and of dictionaries into the first, and set t.

    Nothing here looks at signals, so Ctrl-C comes before or after all of it.
    """
    for target, source in arrays:
        target[...] = source
    for target, source in dicts:
        PyDict_Update(target, source)
    plan.t = t


cdef bint same_shape(Py_buffer *a, Py_buffer *b) noexcept:
    if a.ndim != b.ndim:
        return False
    for d in range(a.ndim):
        if a.shape[d] != b.shape[d]:
            return False
    return True


cdef void extent(Py_buffer *view, size_t *low, size_t *high) noexcept:
    """The bytes [low, high) that the elements of a non-empty array lie in."""
    low[0] = <size_t>view.buf
    high[0] = low[0] + <size_t>view.itemsize
    for d in range(view.ndim):
        if view.strides[d] < 0:
            low[0] += <size_t>((view.shape[d] - 1) * view.strides[d])
        else:
            high[0] += <size_t>((view.shape[d] - 1) * view.strides[d])


cdef tuple shape_of(Py_buffer *view):
    return tuple([view.shape[d] for d in range(view.ndim)])


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
    """

    cdef readonly long long t
    cdef readonly double lr, grad_norm, clip_coef

    def __repr__(self):
        return (f"StepInfo(t={self.t}, lr={self.lr:g}, grad_norm={self.grad_norm:g}, "
                f"clip_coef={self.clip_coef:g})")


@cython.final
cdef class Plan:
    """One rule, its parameters and their states, and the gradients held for the next steps.

    The layers above have checked parameters and states; gradients are checked here, because they
    may be new at every step. A step is a `with` block, which only one thread enters at a time;
    gradients passed to it are let go at its end. `t` counts steps; it moves with the parameters,
    so that Ctrl-C never comes between the two.
    """

    cdef Py_ssize_t count, held, elements
    cdef int rule, n_scalars, n_groups
    cdef tuple names, scalar_names
    cdef Py_buffer *w
    cdef Py_buffer *g
    cdef Py_buffer *fresh
    cdef Py_buffer *s
    cdef fo_flag busy
    cdef bint passing
    cdef bint *in_f32
    cdef bint *is_eps
    cdef public long long t
    cdef Py_ssize_t n_states_held
    cdef fo_segment *segments
    cdef Py_ssize_t *ends
    cdef fo_prelude *preludes
    cdef double *scalars
    cdef double *partials
    cdef size_t *hulls
    cdef Py_ssize_t n_hulls

    def __cinit__(self, str rule, tuple names, list params, list states, list groups, list hulls):
        cdef Py_ssize_t k, j
        declared = rules()
        self.rule = list(declared).index(rule)
        self.scalar_names = declared[rule][1]
        self.n_scalars = len(self.scalar_names)
        self.names = names
        self.n_groups = max(groups) + 1
        count = len(params)
        self.w = <Py_buffer *>calloc(count, sizeof(Py_buffer))
        self.g = <Py_buffer *>calloc(count, sizeof(Py_buffer))
        self.fresh = <Py_buffer *>calloc(count, sizeof(Py_buffer))
        self.s = <Py_buffer *>calloc(count * FO_MAX_STATES, sizeof(Py_buffer))
        self.in_f32 = <bint *>calloc(self.n_groups, sizeof(bint))
        self.is_eps = <bint *>calloc(FO_MAX_SCALARS, sizeof(bint))
        self.segments = <fo_segment *>calloc(count, sizeof(fo_segment))
        self.ends = <Py_ssize_t *>calloc(count, sizeof(Py_ssize_t))
        self.preludes = <fo_prelude *>calloc(self.n_groups, sizeof(fo_prelude))
        self.scalars = <double *>calloc(self.n_groups * FO_MAX_SCALARS, sizeof(double))
        self.hulls = <size_t *>calloc(2 * len(hulls) + 1, sizeof(size_t))
        if not (self.w and self.g and self.fresh and self.s and self.segments and self.ends
                and self.preludes and self.scalars and self.hulls and self.in_f32 and self.is_eps):
            raise MemoryError
        for k in range(self.n_scalars):
            self.is_eps[k] = self.scalar_names[k].startswith("eps")
        self.n_hulls = len(hulls)
        for k in range(self.n_hulls):
            self.hulls[2 * k], self.hulls[2 * k + 1] = hulls[k]
        for k in range(count):
            PyObject_GetBuffer(params[k], &self.w[k], PyBUF_WRITABLE | PyBUF_STRIDES | PyBUF_FORMAT)
            self.count = k + 1
            segment = &self.segments[k]
            segment.dtype = dtype_of(&self.w[k])
            segment.n = self.w[k].len // self.w[k].itemsize
            describe(&segment.w, &self.w[k])
            segment.prelude = &self.preludes[<Py_ssize_t>groups[k]]
            segment.scalars = &self.scalars[<Py_ssize_t>groups[k] * FO_MAX_SCALARS]
            if segment.dtype == FO_F32:
                self.in_f32[<Py_ssize_t>groups[k]] = True
            for j in range(len(states[k])):
                view = &self.s[self.n_states_held]
                PyObject_GetBuffer(states[k][j], view,
                                   PyBUF_WRITABLE | PyBUF_STRIDES | PyBUF_FORMAT)
                self.n_states_held += 1
                if (dtype_of(view) != segment.dtype or not same_shape(view, &self.w[k])
                        or not PyBuffer_IsContiguous(view, b"C")):
                    raise ValueError(f"a state of {names[k]!r} has the wrong dtype or layout")
                segment.states[j] = view.buf
            self.elements += segment.n
            self.ends[k] = self.elements
        self.partials = <double *>malloc((fo_partials(self.segments, self.count) + 1)
                                         * sizeof(double))
        if not self.partials:
            raise MemoryError

    def __dealloc__(self):
        release_all(self.g, self.held)
        release_all(self.w, self.count)
        release_all(self.s, self.n_states_held)
        free(self.w)
        free(self.g)
        free(self.fresh)
        free(self.s)
        free(self.in_f32)
        free(self.is_eps)
        free(self.segments)
        free(self.ends)
        free(self.preludes)
        free(self.scalars)
        free(self.partials)
        free(self.hulls)

    def __enter__(self):
        if not fo_claim(&self.busy):
            raise RuntimeError("this optimizer is in use already: a step runs in another thread, "
                               "or in a schedule that steps")
        return self

    def __exit__(self, kind, error, trace):
        if self.passing:
            self.release()
        self.passing = False
        self.busy = 0

    def release(self):
        """Let go of the gradients."""
        release_all(self.g, self.held)
        self.held = 0

    def hold(self, grads, clash, bint passing):
        """Check and hold one gradient per parameter; after an error all is as before.

        `clash(k, grad)` is asked when gradient k lies where a parameter or state may lie too.
        `passing`: only until the end of the `with` block.
        """
        cdef Py_ssize_t k, got = 0
        cdef Py_buffer *view
        try:
            for k in range(self.count):
                view = &self.fresh[k]
                try:
                    PyObject_GetBuffer(grads[k], view, PyBUF_STRIDES | PyBUF_FORMAT)
                except TypeError:
                    raise TypeError(f"gradient of {self.names[k]!r} must be an array, got "
                                    f"{type(grads[k]).__name__}: use numpy.asarray") from None
                except (BufferError, ValueError) as error:
                    raise TypeError(f"gradient of {self.names[k]!r}: {error}") from None
                got = k + 1
                self.check_gradient(k, view, grads[k], clash)
        except BaseException:
            release_all(self.fresh, got)
            raise
        self.release()
        self.g, self.fresh = self.fresh, self.g
        self.held = self.count
        self.passing = passing
        for k in range(self.count):
            describe(&self.segments[k].g, &self.g[k])

    cdef int check_gradient(self, Py_ssize_t k, Py_buffer *view, grad, clash) except -1:
        cdef size_t low, high
        cdef Py_ssize_t first = 0, last = self.n_hulls, middle
        if not same_shape(view, &self.w[k]):
            raise ValueError(f"gradient of {self.names[k]!r} has shape {shape_of(view)}, "
                             f"its parameter {shape_of(&self.w[k])}")
        if dtype_of(view) != self.segments[k].dtype:
            wanted = "float32" if self.segments[k].dtype == FO_F32 else "float64"
            found = "none" if view.format == NULL else repr(view.format.decode())
            raise TypeError(f"gradient of {self.names[k]!r} must be a native {wanted} array like "
                            f"its parameter, got format {found}")
        if hasattr(grad, "mask"):
            raise TypeError(f"gradient of {self.names[k]!r} is a masked array, whose mask a step "
                            "would not respect: pass its .data")
        if self.segments[k].n == 0:
            return 0
        extent(view, &low, &high)
        while first < last:
            middle = (first + last) // 2
            if self.hulls[2 * middle + 1] <= low:
                first = middle + 1
            else:
                last = middle
        if first < self.n_hulls and self.hulls[2 * first] < high:
            clash(k, grad)
        return 0

    def set_groups(self, tuple groups, scalars, bint decoupled):
        """Set the numbers of every group for the next step; return the first group's lr.

        `scalars(h, t)` gives the rule's from the group's hyper-parameters h.
        """
        cdef int k = 0
        cdef double lr, decay, first = 0
        next_t = self.t + 1
        for group in groups:
            h = group.at(self.t) if group.scheduled else group.plain
            lr = h["lr"]
            decay = h.get("weight_decay", 0.0)
            self.set_group(k, -1 if h["maximize"] else 1, 0 if decoupled else decay,
                           lr * decay if decoupled else 0, scalars(h, next_t))
            if k == 0:
                first = lr
            k += 1
        return first

    cpdef set_group(self, int group, double scale, double l2, double decay, dict scalars):
        """Set the numbers of one group: the prelude, and the rule's scalars by name."""
        cdef int j
        cdef double value
        cdef double *out = &self.scalars[group * FO_MAX_SCALARS]
        cdef double most
        if not 0 <= group < self.n_groups:
            raise IndexError(group)
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
        self.preludes[group] = prelude_of(scale, l2, decay)

    def scale(self, double factor):
        """Multiply every group's gradient scale, for clipping."""
        cdef fo_prelude *p
        for k in range(self.n_groups):
            p = &self.preludes[k]
            p[0] = prelude_of(p.fold * p.scale * factor, p.l2, p.decay)

    def norm(self, int threads):
        """The 2-norm over all held gradients, right even where its square is out of range."""
        cdef double result
        cdef double scale = 1
        if self.held != self.count:
            raise RuntimeError("the plan holds no gradients")
        with nogil:
            result = fo_reduce_gradients(self.segments, self.count, FO_SUMSQ, 1, self.partials,
                                         threads)
            if not 1e-280 < result < 1e300:
                scale = fo_reduce_gradients(self.segments, self.count, FO_ABSMAX, 1,
                                            self.partials, threads)
                if isfinite(scale) and scale > 0:
                    # A power of two near the maximum: scaling by it is exact.
                    scale = power_of_two(scale)
                    result = fo_reduce_gradients(self.segments, self.count, FO_SUMSQ, 1 / scale,
                                                 self.partials, threads)
                else:
                    result = scale
                    scale = 1
        return sqrt(result) * scale

    def run(self, int threads, double lr, double grad_norm, double clip_coef):
        """Do the step, count it, and return its record."""
        if self.held != self.count:
            raise RuntimeError("the plan holds no gradients")
        if self.elements < GIL_WORTH:
            fo_step(self.segments, self.ends, self.count, self.rule, 1)
        else:
            with nogil:
                fo_step(self.segments, self.ends, self.count, self.rule, threads)
        self.t += 1
        cdef StepInfo info = StepInfo.__new__(StepInfo)
        info.t = self.t
        info.lr = lr
        info.grad_norm = grad_norm
        info.clip_coef = clip_coef
        return info


cdef double power_of_two(double x) noexcept nogil:
    cdef int exponent = 0
    frexp(x, &exponent)
    return ldexp(1, max(-1000, min(exponent, 1000)))
