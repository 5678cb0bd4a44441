# A user's own loss: a compiled function, kept alive together with what it came from.

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetName, PyCapsule_GetPointer
from libc.stdint cimport uintptr_t

cdef extern from "user.h" nogil:
    ctypedef double fo_user_plain(double p, double y, double *derivative)
    ctypedef double fo_user_with_data(double p, double y, double *derivative, void *data)
    ctypedef struct fo_user:
        fo_user_plain *plain
        fo_user_with_data *with_data
        void *data


@cython.final
cdef class UserLoss:
    """The function at an address, which the caller has checked; `source` keeps it alive."""

    cdef fo_user user
    cdef readonly object source

    def __cinit__(self, uintptr_t address, bint with_data, uintptr_t data, source):
        self.source = source
        if with_data:
            self.user.with_data = <fo_user_with_data *>address
        else:
            self.user.plain = <fo_user_plain *>address
        self.user.data = <void *>data

    def __repr__(self):
        return f"UserLoss({self.source!r})"


cdef const fo_user *user_of(loss):
    """Return the function of a user's loss, or NULL for the name of one of ours."""
    return &(<UserLoss>loss).user if isinstance(loss, UserLoss) else NULL


def capsule(source):
    """Return (name or None, address, context) of a PyCapsule."""
    cdef const char *name = PyCapsule_GetName(source)
    return (None if name == NULL else name.decode("utf-8", "replace"),
            <uintptr_t>PyCapsule_GetPointer(source, name),
            <uintptr_t>PyCapsule_GetContext(source))
