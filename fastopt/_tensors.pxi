# Tensors of torch: where they lie, and the numbers that torch counts for each parameter.
#
# Nothing of torch is compiled against. Where its tensors lie is asked by the table of functions
# that DLPack 1.3 defines, 40 ns a tensor, and by Python's attributes where there is no such table.

from cpython.dict cimport PyDict_Next
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memset

cdef enum:
    DIMS = 16  # axes that a tensor may have

ctypedef struct dl_tensor:
    void *data
    int32_t device_type
    int32_t device_id
    int32_t ndim
    unsigned char code
    unsigned char bits
    unsigned short lanes
    int64_t *shape
    int64_t *strides
    uint64_t byte_offset

ctypedef int (*dl_look)(PyObject *tensor, dl_tensor *out) except -1

ctypedef struct dl_table:
    uint32_t major
    uint32_t minor
    void *older
    void *allocate
    void *managed_from
    void *managed_to
    dl_look look
    void *stream

ctypedef struct place:  # what a tensor was when its plan was made
    void *data
    int64_t geometry[2 * DIMS]
    int32_t ndim
    unsigned char code
    unsigned char bits

ctypedef struct counter:  # a number that torch keeps in a tensor, or that is kept here
    void *data
    int bits
    double own

cdef dict CODES = {"torch.float32": (2, 32), "torch.float64": (2, 64), "torch.float16": (2, 16),
                   "torch.bfloat16": (4, 16), "torch.complex64": (5, 64),
                   "torch.complex128": (5, 128)}


def attribute(list tensors, str name):
    """Return that attribute of each tensor."""
    return [getattr(tensor, name) for tensor in tensors]


def identical(list a, list b):
    """Whether two lists hold the same objects."""
    cdef Py_ssize_t k
    if len(a) != len(b):
        return False
    for k in range(len(a)):
        if a[k] is not b[k]:
            return False
    return True


def unlike(list tensors, kind, layout):
    """Whether a tensor is of another class or layout, or lazily negated or conjugated."""
    for tensor in tensors:
        if tensor is not None and (type(tensor) is not kind or tensor.layout is not layout
                                   or tensor.is_neg() or tensor.is_conj()):
            return True
    return False


def same_items(found, list items):
    """Whether a dictionary has these (key, value), in this order, the same objects."""
    cdef Py_ssize_t place = 0, k = 0
    cdef PyObject *key
    cdef PyObject *value
    if len(found) != len(items):
        return False
    while PyDict_Next(found, &place, &key, &value):
        pair = <tuple>items[k]
        if key != <PyObject *>pair[0] or value != <PyObject *>pair[1]:
            return False
        k += 1
    return True


def unchanged(group, dict before):
    """Whether a group has the values that it had before, the same objects."""
    if len(group) != len(before):
        return False
    for name, value in before.items():
        if group.get(name, before) is not value:
            return False
    return True


@cython.final
cdef class Tensors:
    """The tensors of one plan: parameters, and the states and counters that belong to each.

    Parameters
    ----------
    capsule : PyCapsule or None
        `torch.Tensor.__dlpack_c_exchange_api__`, where torch has it.
    plan : Plan
        The plan that was made of these tensors.
    params : list of Tensor
    states : list of list of (dict, key, Tensor)
        For each parameter its states, and in which dictionary under which key they are.
    counters : list of list of (Tensor or float)
        For each parameter as many counters: tensors of one number, or what to count on from here.
    perms : list of (tuple or None)
        In which order the axes of a parameter come in the plan.
    """

    cdef const dl_table *table
    cdef Plan plan
    cdef readonly list params
    cdef list states, perms, held
    cdef Py_ssize_t n_counters
    cdef place *w
    cdef place *s
    cdef counter *counts
    cdef Py_ssize_t *slot       # of each parameter
    cdef Py_ssize_t *first      # parameter of each slot
    cdef Py_ssize_t n_slots
    cdef Py_ssize_t *geometry   # of the gradients that are held, as the plan sees them
    cdef Py_ssize_t *fresh
    cdef int64_t asked[2 * DIMS]

    def __cinit__(self, capsule, Plan plan, list params, list states, list counters, list perms):
        cdef Py_ssize_t k, j, at = 0, n = len(params)
        cdef dl_tensor found
        if capsule is not None:
            self.table = <const dl_table *>PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
            if self.table.major != 1 or self.table.look == NULL:
                self.table = NULL
        self.plan, self.params, self.states, self.perms = plan, params, states, perms
        self.held = []
        self.n_counters = len(counters[0]) if n else 0
        self.w = <place *>calloc(n + 1, sizeof(place))
        self.s = <place *>calloc(sum(map(len, states)) + 1, sizeof(place))
        self.counts = <counter *>calloc(n * self.n_counters + 1, sizeof(counter))
        self.slot = <Py_ssize_t *>calloc(n + 1, sizeof(Py_ssize_t))
        self.first = <Py_ssize_t *>calloc(n + 1, sizeof(Py_ssize_t))
        self.geometry = <Py_ssize_t *>calloc(n * 2 * DIMS + 1, sizeof(Py_ssize_t))
        self.fresh = <Py_ssize_t *>calloc(n * 2 * DIMS + 1, sizeof(Py_ssize_t))
        if not (self.w and self.s and self.counts and self.slot and self.first and self.geometry
                and self.fresh):
            raise MemoryError
        for k in range(n):
            self.look(params[k], &found)
            remember(&self.w[k], &found)
            for _, _, tensor in states[k]:
                self.look(tensor, &found)
                remember(&self.s[at], &found)
                at += 1
            for j in range(self.n_counters):
                one = &self.counts[k * self.n_counters + j]
                if isinstance(counters[k][j], float):
                    one.own = counters[k][j]
                    continue
                self.look(counters[k][j], &found)
                if found.code != 2 or found.bits not in (32, 64):
                    raise TypeError("a counter must be a float32 or float64 tensor")
                one.data, one.bits = <char *>found.data + found.byte_offset, found.bits
                self.held.append(counters[k][j])

    def __dealloc__(self):
        free(self.w)
        free(self.s)
        free(self.counts)
        free(self.slot)
        free(self.first)
        free(self.geometry)
        free(self.fresh)

    cdef int look(self, tensor, dl_tensor *out) except -1:
        """Say where a tensor lies; refuse one that is not in this memory."""
        if self.table:
            self.table.look(<PyObject *>tensor, out)
        else:
            shape, strides = tensor.shape, tensor.stride()
            out.ndim, out.byte_offset, out.lanes = len(shape), 0, 1
            if out.ndim > DIMS:
                raise TypeError(f"tensors of more than {DIMS} dimensions")
            for d in range(out.ndim):
                self.asked[d], self.asked[DIMS + d] = shape[d], strides[d]
            out.shape, out.strides = self.asked, self.asked + DIMS
            out.data = <void *><size_t>tensor.data_ptr()
            out.device_type = 1 if tensor.device.type == "cpu" else 2
            out.code, out.bits = CODES.get(str(tensor.dtype), (0, 0))
        if out.device_type != 1 and out.device_type != 3 or out.ndim >= DIMS:
            raise TypeError("a tensor is elsewhere, or has too many dimensions")
        if out.data == NULL:
            for d in range(out.ndim):
                if out.shape[d] == 0:
                    return 0
            raise TypeError("a tensor has no memory")
        return 0

    def same(self, list params):
        """Whether these are the parameters, and all tensors lie where they lay."""
        cdef Py_ssize_t k, at = 0
        cdef dl_tensor found
        if len(params) != len(self.params):
            return False
        for k in range(len(params)):
            if params[k] is not self.params[k]:
                return False
            self.look(params[k], &found)
            if not unmoved(&self.w[k], &found):
                return False
            for state, key, tensor in <list>self.states[k]:
                if (<dict>state).get(key) is not tensor:
                    return False
                self.look(tensor, &found)
                if not unmoved(&self.s[at], &found):
                    return False
                at += 1
        return True

    def hold(self, list grads, clash):
        """Let the plan hold the gradients until its `with` block ends; None: no step.

        `clash(k, grad)` is called when gradient k may lie where a parameter or state lies.
        """
        cdef Py_ssize_t k, got = 0, count
        cdef Plan plan = self.plan
        cdef list rows = None
        cdef Py_buffer *view
        try:
            for k in range(plan.count):
                view, grad = &plan.fresh[k], grads[k]
                if grad is None:
                    PyObject_GetBuffer(NOTHING, view, PyBUF_STRIDES | PyBUF_FORMAT)
                    got = k + 1
                    continue
                count = -1
                if type(grad) is RowGradient:
                    rows = rows or [None] * plan.count
                    rows[k] = (<RowGradient>grad).rows
                    count = len(rows[k])
                    PyObject_GetBuffer((<RowGradient>grad).values, view,
                                       PyBUF_STRIDES | PyBUF_FORMAT)
                else:
                    self.fill(grad, view, self.fresh + k * 2 * DIMS, self.perms[k])
                got = k + 1
                check_gradient(plan, k, view, None, True, clash, count)
        except BaseException:
            release_all(plan.fresh, got)
            raise
        plan.release()
        plan.g, plan.fresh = plan.fresh, plan.g
        self.geometry, self.fresh = self.fresh, self.geometry
        plan.held = plan.count
        plan.passing = True
        for k in range(plan.count):
            plan.segments[k].frozen = grads[k] is None
            describe(&plan.segments[k].g, &plan.g[k])
        if rows is not None:
            plan.sparse = True
            plan.lay_out(rows)

    cdef int fill(self, tensor, Py_buffer *view, Py_ssize_t *geometry, perm) except -1:
        """Describe a tensor as a buffer: complex numbers as pairs, its axes in the plan's order."""
        cdef dl_tensor found
        cdef Py_ssize_t size, d, source
        self.look(tensor, &found)
        if perm is not None and len(perm) != found.ndim + (found.code == 5):
            raise ValueError(f"a gradient has shape {tuple(tensor.shape)}, its parameter has "
                             f"{len(perm)} axes")
        memset(view, 0, sizeof(Py_buffer))
        if found.code == 2 and found.bits in (16, 32, 64):
            size = found.bits // 8
        elif found.code == 4 and found.bits == 16:
            size = 2
        elif found.code == 5 and found.bits in (64, 128) and found.ndim < DIMS:
            size = found.bits // 16
        else:
            raise TypeError("a gradient of another kind of numbers")
        view.format = b"d" if size == 8 else b"f" if size == 4 else b"e"
        if found.code == 4:
            view.format = b"H"
        view.buf = <char *>found.data + found.byte_offset
        view.itemsize = size
        view.ndim = found.ndim + (found.code == 5)
        view.shape, view.strides = geometry, geometry + DIMS
        view.len = size
        for d in range(view.ndim):
            source = d if perm is None else perm[d]
            if source < found.ndim:
                view.shape[d] = found.shape[source]
                view.strides[d] = found.strides[source] * size * (2 if found.code == 5 else 1)
            else:
                view.shape[d], view.strides[d] = 2, size
            view.len *= view.shape[d]
        return 0

    cdef double count(self, Py_ssize_t k, Py_ssize_t j) noexcept:
        cdef counter *one = &self.counts[k * self.n_counters + j]
        if one.data == NULL:
            return one.own
        return (<float *>one.data)[0] if one.bits == 32 else (<double *>one.data)[0]

    cdef bint agree(self, Py_ssize_t a, Py_ssize_t b) noexcept:
        for j in range(self.n_counters):
            if self.count(a, j) != self.count(b, j):
                return False
        return True

    def slots(self, list grads, list groups):
        """Return (group, counters) for each set of numbers that the next step needs.

        Parameters of one group with the same counters share one; `groups`: of each parameter.
        """
        cdef Py_ssize_t k, n = self.plan.count
        cdef bint valid = self.n_slots > 0
        for k in range(n):
            if valid and grads[k] is not None:
                valid = self.agree(k, self.first[self.slot[k]])
        # the first of a slot must take part, or its counters are those of nobody
        for k in range(self.n_slots if valid else 0):
            valid = valid and grads[self.first[k]] is not None
        if not valid:
            self.assign(grads, groups)
        return [(groups[self.first[k]],
                 tuple([self.count(self.first[k], j) for j in range(self.n_counters)]))
                for k in range(self.n_slots)]

    cdef int assign(self, list grads, list groups) except -1:
        cdef Py_ssize_t k, n = self.plan.count
        cdef dict known = {}
        self.n_slots = 0
        for k in range(n):
            if grads[k] is None:
                self.slot[k] = 0
                continue
            key = (groups[k], *[self.count(k, j) for j in range(self.n_counters)])
            if key not in known:
                known[key] = self.n_slots
                self.first[self.n_slots] = k
                self.n_slots += 1
            self.slot[k] = known[key]
        regroup(self.plan, self.slot, max(self.n_slots, 1))
        return 0

    def average(self, Py_ssize_t slot, double part):
        """Let a slot's parameters enter their averages with this part."""
        self.plan.groups[slot].average = part

    def run(self, list after, int threads):
        """Take the step, and write what `after` has for each slot into the counters.

        No Python runs in between, so Ctrl-C comes before or after both.
        """
        cdef Py_ssize_t k, j, n = self.plan.count
        cdef counter *one
        cdef double *values = <double *>malloc((self.n_slots * self.n_counters + 1)
                                               * sizeof(double))
        if not values:
            raise MemoryError
        try:
            for k in range(self.n_slots):
                for j in range(self.n_counters):
                    values[k * self.n_counters + j] = after[k][j]
            self.plan.run(threads, 0, NAN, 1)
            for k in range(n):
                for j in range(0 if self.plan.segments[k].frozen else self.n_counters):
                    one = &self.counts[k * self.n_counters + j]
                    put(one, values[self.slot[k] * self.n_counters + j])
        finally:
            free(values)


def run_tensors(list parts, int threads, list counts):
    """Take the steps of (Tensors, after), then write each (dictionary, key, value) of `counts`.

    No bytecode runs in between, so Ctrl-C comes before or after all of it.
    """
    for tensors, after in parts:
        (<Tensors>tensors).run(after, threads)
    for owner, key, value in counts:
        (<dict>owner)[key] = value


cdef void put(counter *one, double value) noexcept:
    if one.data == NULL:
        one.own = value
    elif one.bits == 32:
        (<float *>one.data)[0] = <float>value
    else:
        (<double *>one.data)[0] = value


cdef void remember(place *out, const dl_tensor *tensor) noexcept:
    out.data, out.ndim = <char *>tensor.data + tensor.byte_offset, tensor.ndim
    out.code, out.bits = tensor.code, tensor.bits
    for d in range(tensor.ndim):
        out.geometry[d], out.geometry[DIMS + d] = tensor.shape[d], tensor.strides[d]


cdef bint unmoved(const place *before, const dl_tensor *now) noexcept:
    cdef size_t size = now.ndim * sizeof(int64_t)
    return (before.data == <char *>now.data + now.byte_offset and before.ndim == now.ndim
            and before.code == now.code and before.bits == now.bits
            and memcmp(before.geometry, now.shape, size) == 0
            and memcmp(before.geometry + DIMS, now.strides, size) == 0)


cdef int regroup(Plan plan, const Py_ssize_t *slots, Py_ssize_t count) except -1:
    """Give each parameter the numbers of its slot, of which there are `count`."""
    cdef Py_ssize_t k
    cdef void *groups = realloc(plan.groups, count * sizeof(fo_group))
    if not groups:
        raise MemoryError
    plan.groups = <fo_group *>groups
    for k in range(plan.count):
        plan.segments[k].group = plan.groups
    cdef void *narrow = realloc(plan.in_f32, count * sizeof(bint))
    if not narrow:
        raise MemoryError
    plan.in_f32 = <bint *>narrow
    plan.n_groups = count
    memset(plan.groups, 0, count * sizeof(fo_group))
    memset(plan.in_f32, 0, count * sizeof(bint))
    for k in range(count):
        no_stages(&plan.groups[k])
    for k in range(plan.count):
        plan.segments[k].group = &plan.groups[slots[k]]
        if plan.segments[k].dtype == FO_F32:
            plan.in_f32[slots[k]] = True
    return 0
