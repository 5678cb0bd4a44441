# cython: language_level=3, freethreading_compatible=True
# cython: boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False
"""The boundary between Python and C: buffers are checked here once; the C side trusts them."""

import sys

from numpy import array, ndarray

cimport cython
from cpython.buffer cimport (
    Py_buffer, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport log
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

include "_dispatch.pxi"
include "_declarations.pxi"
include "_buffers.pxi"
include "_plan.pxi"
include "_gradients.pxi"
include "_tensors.pxi"
include "_factored.pxi"
include "_muon.pxi"
include "_lowprecision.pxi"
include "_rows.pxi"
include "_sparse.pxi"
include "_user.pxi"
include "_hogwild.pxi"
include "_coordinate.pxi"
include "_hogwild_state.pxi"
include "_multi.pxi"
include "_full_gradient.pxi"
include "_dual.pxi"
include "_factor.pxi"
include "_fm.pxi"
include "_text.pxi"
include "_hashing.pxi"
include "_cut.pxi"
include "_objective.pxi"
include "_vector.pxi"
