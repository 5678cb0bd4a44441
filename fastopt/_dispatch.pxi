# Which instruction set runs, and what is compiled in.

cdef extern from "fastopt.h" nogil:
    const char *c_isa_available "fo_isa_available"(int k)
    int c_set_isa "fo_set_isa"(const char *name)
    const char *fo_openmp()
    int fo_forked()
    ctypedef struct fo_rule:
        const char *name
        const char *states
        const char *scalars
    ctypedef struct fo_kernels:
        const char *isa
        int n_rules
        const fo_rule *rules
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


def _declared(const char *text):
    return tuple(name.strip() for name in text.decode().strip("()").split(",") if name.strip())


def rules():
    """Return what the compiled rules declare: name -> (names of states, names of scalars)."""
    cdef const fo_kernels *kernels = fo_current()
    return {kernels.rules[k].name.decode():
            (_declared(kernels.rules[k].states), _declared(kernels.rules[k].scalars))
            for k in range(kernels.n_rules)}
