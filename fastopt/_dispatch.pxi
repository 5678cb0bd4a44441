# Which instruction set runs, and what is compiled in.

cdef extern from "fastopt.h" nogil:
    ctypedef struct fo_rounding:
        const uint32_t *noise
    fo_rounding fo_round_by(const uint32_t *noise, uint32_t array, Py_ssize_t first, Py_ssize_t n)
    ctypedef void fo_load(Py_ssize_t n, const void *data, const float *largest, float *out)
    ctypedef void fo_save(Py_ssize_t n, const float *data, void *out, const float *largest,
                          const fo_rounding *how)
    const char *c_isa_available "fo_isa_available"(int k)
    int c_set_isa "fo_set_isa"(const char *name)
    const char *fo_openmp()
    int fo_forked()
    void fo_stay_serial()
    ctypedef void fo_body(void *ctx, int k, int n) noexcept
    int fo_parallel(fo_body *body, void *ctx, int threads)
    ctypedef struct fo_rule:
        const char *name
        const char *states
        const char *scalars
    ctypedef struct fo_stage_kernels:
        void (*multiply)(Py_ssize_t n, void *x, double factor) noexcept nogil
    ctypedef struct fo_kernels:
        const char *isa
        int n_rules
        const fo_rule *rules
        void (*noise)(uint32_t key, uint32_t *noise)
        void (*largest)(Py_ssize_t n, const float *data, float *largest)
        fo_load *load[6]
        fo_save *save[6]
        fo_stage_kernels stages[2]
    const fo_kernels *fo_current()


def isa_available():
    """Return the instruction sets that run here, best first."""
    names = []
    while c_isa_available(len(names)) != NULL:
        names.append(c_isa_available(len(names)).decode())
    return names


def get_isa():
    """Return the instruction set in use."""
    return fo_current().isa.decode()


def set_isa(name):
    """Use instruction set `name` (one of `isa_available()`) for all kernels from now on."""
    if not isinstance(name, str) or not c_set_isa(name.encode()):
        raise ValueError(f"set_isa: name must be one of {isa_available()}, got {name!r}")


def openmp():
    """Return "openmp", or "none" if the compiler had no OpenMP."""
    return fo_openmp().decode()


def forked():
    """Return whether this is the child of a process that had used threads."""
    return bool(fo_forked())


def stay_serial():
    """Use one thread from now on: this is a child of a process whose OpenMP others had used."""
    fo_stay_serial()


cdef void _mark(void *ctx, int k, int n) noexcept nogil:
    (<int *> ctx)[k] = n


def _parallel_probe(int threads):
    """Return how many threads a parallel region gets when it asks for `threads`."""
    cdef int team, k
    cdef int *seen = <int *> calloc(max(threads, 1), sizeof(int))
    if seen == NULL:
        raise MemoryError
    try:
        with nogil:
            team = fo_parallel(_mark, seen, threads)
        for k in range(team):
            if seen[k] != team:
                raise RuntimeError(f"thread {k} of {team} did not run")
    finally:
        free(seen)
    return team


def _declared(const char *text):
    return tuple(name.strip() for name in text.decode().strip("()").split(",") if name.strip())


def rules():
    """Return what the compiled rules declare: name -> (names of states, names of scalars)."""
    cdef const fo_kernels *kernels = fo_current()
    return {kernels.rules[k].name.decode():
            (_declared(kernels.rules[k].states), _declared(kernels.rules[k].scalars))
            for k in range(kernels.n_rules)}
