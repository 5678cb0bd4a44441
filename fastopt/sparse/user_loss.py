"""Losses that a caller brings as compiled functions: what they may be, and their signatures."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from fastopt import _core

PLAIN = "double (double p, double y, double *derivative)"
WITH_DATA = "double (double p, double y, double *derivative, void *user_data)"
_PLAIN, _WITH_DATA = "double(double,double,double*)", "double(double,double,double*,void*)"

RECIPE = """\
compile it, for example with numba:

    @numba.cfunc("float64(float64, float64, CPointer(float64))")
    def loss(p, y, derivative):  # prediction, target; writes the derivative by p
        derivative[0] = p - y
        return (p - y) ** 2 / 2"""


def loss_of(loss: Any, names: tuple[str, ...]) -> str | _core.UserLoss:
    """Return a name among `names`, or the compiled function that `loss` is.

    Parameters
    ----------
    loss : str, scipy.LowLevelCallable, numba.cfunc, ctypes or cffi function pointer, PyCapsule
        A function ``double (double p, double y, double *derivative)`` that returns the loss at
        prediction p of target y and writes its derivative by p. A capsule has this signature as
        its name. A LowLevelCallable with `user_data`, or a capsule with a context, has
        ``void *user_data`` as a fourth argument.
    names : tuple of str

    Raises
    ------
    TypeError
        If it is none of them or has another signature; both are in the message.
    ValueError
        If it is another string, or the pointer is NULL.

    Examples
    --------
    >>> import ctypes
    >>> from fastopt.sparse.user_loss import loss_of
    >>> loss_of("hinge", ("hinge", "logistic"))
    'hinge'
    >>> loss_of(ctypes.CFUNCTYPE(ctypes.c_double)(8), ())
    Traceback (most recent call last):
    TypeError: loss must be double (double p, double y, double *derivative), got double ()
    """
    if isinstance(loss, _core.UserLoss):
        return loss
    if isinstance(loss, str):
        if loss not in names:
            raise ValueError(
                f"loss must be one of {', '.join(map(repr, names))}, or a compiled function "
                f"{PLAIN}, got {loss!r}"
            )
        return loss
    data, has_data = 0, False
    cffi = sys.modules.get("_cffi_backend")
    if type(loss).__name__ == "PyCapsule":
        signature, address, data = _core.capsule(loss)
        has_data = True
    elif type(loss).__name__ == "LowLevelCallable" and isinstance(loss, tuple):
        signature, address, data = _core.capsule(tuple.__getitem__(loss, 0))
        has_data = True
    elif isinstance(loss, ctypes._CFuncPtr):
        signature, address = _of_ctypes(loss)
    elif type(loss).__module__ == "numba.core.ccallback" and hasattr(loss, "address"):
        signature, address = _of_numba(loss._sig), loss.address
    elif cffi is not None and isinstance(loss, cffi._CDataBase):
        signature, address = _of_cffi(cffi.FFI(), loss)
    else:
        raise TypeError(
            f"loss must be one of {', '.join(map(repr, names))}, or a compiled function {PLAIN} as "
            "scipy.LowLevelCallable, numba.cfunc, ctypes or cffi function pointer or PyCapsule, "
            f"got {loss!r}" + (f": {RECIPE}" if callable(loss) else "")
        )
    found = "".join(str(signature).split())
    if found != _PLAIN and not (has_data and found == _WITH_DATA):
        expected = f"{PLAIN} or {WITH_DATA}" if has_data else PLAIN
        hint = ": user_data needs a scipy.LowLevelCallable" if found == _WITH_DATA else ""
        raise TypeError(f"loss must be {expected}, got {signature}{hint}")
    if found == _PLAIN and data:
        raise TypeError(f"loss has user_data and must be {WITH_DATA}, got {signature}")
    if not address:
        raise ValueError("loss must be a function, got a NULL pointer")
    return _core.UserLoss(address, found == _WITH_DATA, data, loss)


def _refuse_python(kind: str) -> None:
    raise TypeError(
        f"loss must be compiled, got a {kind} callback into Python, which would run in one thread "
        f"at a time: {RECIPE}"
    )


_C_TYPES = {ctypes.c_double: "double", ctypes.c_float: "float", ctypes.c_void_p: "void *"}


def _name(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, ctypes._Pointer):
        return f"{_name(kind._type_)} *"
    return "void" if kind is None else _C_TYPES.get(kind) or getattr(kind, "__name__", str(kind))


def _of_ctypes(function: Any) -> tuple[str, int]:
    if any(type(held).__name__ == "CThunkObject" for held in (function._objects or {}).values()):
        _refuse_python("ctypes")
    # Without prototypes ctypes says (int, anything).
    arguments = "?" if function.argtypes is None else ", ".join(map(_name, function.argtypes))
    address = ctypes.cast(function, ctypes.c_void_p).value
    return f"{_name(function.restype)} ({arguments})", address or 0


def _of_numba(signature: Any) -> str:
    names = {"float64": "double", "float32": "float", "float64*": "double *", "none": "void"}
    arguments = ", ".join(names.get(str(a), str(a)) for a in signature.args)
    result = names.get(str(signature.return_type), str(signature.return_type))
    return f"{result} ({arguments})".replace("void*", "void *")


def _of_cffi(ffi: Any, pointer: Any) -> tuple[str, int]:
    kind = ffi.typeof(pointer)
    if kind.kind != "function":
        return kind.cname, 0
    if " calling " in repr(pointer):
        _refuse_python("cffi")
    return kind.cname.replace("(*)", " "), int(ffi.cast("uintptr_t", pointer))
