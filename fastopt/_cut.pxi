# Graph cuts: a graph checked and held once, then runs over its edges in slices.

cdef extern from "cut.h" nogil:
    enum:
        FO_LABELS
        FO_BAD_NODE
        FO_BAD_LOOP
    const double FO_MOST_F32
    const double FO_MOST_F64
    ctypedef struct fo_graph:
        int dtype
        int index_type
        Py_ssize_t nodes
        Py_ssize_t edges
        Py_ssize_t width
        const void *ends
        const void *weights
    ctypedef struct fo_cut:
        fo_graph graph
        int method
        int schedule
        double step
        double decay
        uint64_t seed
        void *z
        void *p
        void *f
        const void *slope
        const unsigned char *fixed
        Py_ssize_t done
    Py_ssize_t fo_cut_blocks(const fo_graph *g)
    void fo_cut_slice(fo_cut *run, Py_ssize_t blocks, int threads)
    void fo_cut_shares(const fo_cut *run, void *x)
    void fo_cut_outflow(const fo_cut *run, double *out)
    void fo_project(int dtype, Py_ssize_t n, Py_ssize_t width, void *x)
    int fo_graph_check(const fo_graph *g, Py_ssize_t *where)
    double fo_graph_variation(const fo_graph *g, const void *x)
    double fo_graph_cut(const fo_graph *g, const int32_t *labels)
    void fo_graph_degrees(const fo_graph *g, double *of)
    void fo_graph_sweep(const fo_graph *g, const int32_t *codes, double *change)

MOST_LABELS = FO_LABELS
CUT_METHODS = ("flow", "subgradient")
CUT_SCHEDULES = ("epoch_decay", "constant", "inverse", "inverse_sqrt")


cdef void *numbers(Buffers held, name, source, int dtype, Py_ssize_t size,
                   bint writable) except NULL:
    """Hold an array of `size` numbers of a dtype."""
    cdef Py_buffer *view = held.take(name, source, writable)
    if dtype_of(view) != dtype or view.shape[0] != size:
        raise ValueError(f"{name} must have {size} numbers of the weights' dtype")
    return view.buf


cdef const int32_t *codes_of(Buffers held, name, source, Py_ssize_t size) except NULL:
    cdef Py_buffer *view = held.take(name, source)
    if index_type_of(view) != FO_I32 or view.shape[0] != size:
        raise ValueError(f"{name} must have {size} numbers of int32")
    return <const int32_t *>view.buf


@cython.final
cdef class Graph:
    """Edges and their weights, checked and held in place; `width` numbers belong to a node."""

    cdef fo_graph g
    cdef Buffers held
    cdef readonly Py_ssize_t nodes, edges, width

    def __cinit__(self, ends, weights, Py_ssize_t nodes, Py_ssize_t width):
        cdef Py_ssize_t where = 0
        cdef int problem
        cdef Py_buffer *view
        self.held = Buffers()
        view = self.held.take("edges", ends)
        self.g.index_type = index_type_of(view)
        self.g.ends = view.buf
        self.edges = self.g.edges = view.shape[0] // 2
        if self.g.index_type < 0 or view.shape[0] % 2:
            raise TypeError("edges must be pairs of int32 or int64, in native byte order")
        view = self.held.take("weights", weights)
        self.g.dtype = dtype_of(view)
        self.g.weights = view.buf
        if self.g.dtype < 0:
            raise TypeError("weights must be float32 or float64, in native byte order")
        if view.shape[0] != self.edges:
            raise ValueError(f"weights must be one number per edge, shape ({self.edges},), "
                             f"got shape ({view.shape[0]},)")
        if nodes < 1 or not (width == 1 or 3 <= width <= FO_LABELS):
            raise ValueError("a graph has at least one node, and 2 to 64 labels")
        self.nodes = self.g.nodes = nodes
        self.width = self.g.width = width
        with nogil:
            problem = fo_graph_check(&self.g, &where)
        if not problem:
            return
        u, v = self.ends_of(where)
        if problem == FO_BAD_NODE:
            raise ValueError(f"edges must have nodes in 0..{nodes - 1}; edge {where} is {u}, {v}")
        if problem == FO_BAD_LOOP:
            raise ValueError(f"edges must join two different nodes; edge {where} is {u}, {v}")
        most = FO_MOST_F32 if self.g.dtype == FO_F32 else FO_MOST_F64
        weight = (<const float *>self.g.weights)[where] if self.g.dtype == FO_F32 \
            else (<const double *>self.g.weights)[where]
        raise ValueError(f"weights must be in [0, {most:g}]; that of edge {where} is {weight:g}")

    cdef ends_of(self, Py_ssize_t e):
        if self.g.index_type == FO_I32:
            return (<const int32_t *>self.g.ends)[2 * e], (<const int32_t *>self.g.ends)[2 * e + 1]
        return (<const int64_t *>self.g.ends)[2 * e], (<const int64_t *>self.g.ends)[2 * e + 1]

    def variation(self, x):
        """Return the sum of weight * |x_u - x_v|_1, halved where there is a number per label."""
        cdef Buffers held = Buffers()
        cdef const void *of = numbers(held, "x", x, self.g.dtype, self.nodes * self.width, False)
        cdef double total
        with nogil:
            total = fo_graph_variation(&self.g, of)
        return total

    def cut(self, labels):
        """Return the weight of the edges whose nodes have different labels (int32)."""
        cdef Buffers held = Buffers()
        cdef const int32_t *of = codes_of(held, "labels", labels, self.nodes)
        cdef double total
        with nogil:
            total = fo_graph_cut(&self.g, of)
        return total

    def degrees(self, out):
        """Add the weight of each node's edges to out (float64)."""
        cdef Buffers held = Buffers()
        cdef double *of = <double *>numbers(held, "out", out, FO_F64, self.nodes, True)
        with nogil:
            fo_graph_degrees(&self.g, of)

    def sweep(self, codes, int32_t levels, change):
        """Add to change[t] by how much {code > t} weighs more than {code > t - 1}."""
        cdef Buffers held = Buffers()
        cdef const int32_t *of = codes_of(held, "codes", codes, self.nodes)
        cdef double *out = <double *>numbers(held, "change", change, FO_F64, levels, True)
        cdef Py_ssize_t u
        for u in range(self.nodes):
            if of[u] < 0 or of[u] >= levels:
                raise ValueError(f"codes must be in 0..{levels - 1}")
        with nogil:
            fo_graph_sweep(&self.g, of, out)


@cython.final
cdef class Cut:
    """One run over the edges of a graph."""

    cdef fo_cut run
    cdef Graph graph
    cdef Buffers held
    cdef readonly Py_ssize_t blocks

    def __cinit__(self, Graph graph, str method, str schedule, double step, double decay,
                  uint64_t seed, z, p, f, slope, fixed):
        cdef Py_ssize_t size = graph.nodes * graph.width
        cdef int dtype = graph.g.dtype
        cdef Py_buffer *view
        self.graph, self.held = graph, Buffers()
        self.run.graph = graph.g
        self.run.method = CUT_METHODS.index(method)
        self.run.schedule = CUT_SCHEDULES.index(schedule)
        self.run.step, self.run.decay, self.run.seed = step, decay, seed
        self.run.z = numbers(self.held, "z", z, dtype, size, True)
        self.run.p = numbers(self.held, "p", p, dtype, size, True)
        if method == "flow":
            self.run.f = numbers(self.held, "f", f, dtype, graph.edges * graph.width, True)
        else:
            view = self.held.take("fixed", fixed)
            if view.itemsize != 1 or view.shape[0] != graph.nodes:
                raise ValueError(f"fixed must have {graph.nodes} bytes")
            self.run.fixed = <const unsigned char *>view.buf
            if slope is not None:
                self.run.slope = numbers(self.held, "slope", slope, dtype, size, False)
        self.blocks = fo_cut_blocks(&graph.g)

    @property
    def done(self):
        """How many blocks have been visited, counted from the first epoch on."""
        return self.run.done

    def slice(self, Py_ssize_t blocks, int threads):
        """Go on with so many blocks."""
        with nogil:
            fo_cut_slice(&self.run, blocks, threads)

    def shares(self, x):
        """Write each node's shares in the labels into x."""
        cdef Buffers held = Buffers()
        cdef Py_ssize_t size = self.graph.nodes * self.graph.width
        cdef void *out = numbers(held, "x", x, self.graph.g.dtype, size, True)
        with nogil:
            fo_cut_shares(&self.run, out)

    def outflow(self, out):
        """Add what flows out of each node to out (float64)."""
        cdef Buffers held = Buffers()
        cdef Py_ssize_t size = self.graph.nodes * self.graph.width
        cdef double *total = <double *>numbers(held, "out", out, FO_F64, size, True)
        if self.run.f == NULL:
            raise ValueError("method 'subgradient' has no flow")
        with nogil:
            fo_cut_outflow(&self.run, total)


def project_simplex(x, Py_ssize_t width):
    """Project rows of `width` numbers onto the simplex, or single numbers onto [0, 1], in place."""
    cdef Buffers held = Buffers()
    cdef Py_buffer *view = held.take("x", x, True)
    cdef int dtype = dtype_of(view)
    cdef void *rows = view.buf
    cdef Py_ssize_t n = view.shape[0]
    if dtype < 0 or not 1 <= width <= FO_LABELS or n % width:
        raise ValueError("x must be float32 or float64, in rows of 1 to 64 numbers")
    with nogil:
        fo_project(dtype, n // width, width, rows)
