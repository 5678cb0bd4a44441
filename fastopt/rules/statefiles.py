"""State files: a header that JSON can hold and named arrays, as npz or as safetensors.

A path that ends in .safetensors names the second. Arrays of uint16 are what bfloat16 is here, and
are BF16 there. That format has no checksums: one of the header and all arrays goes with them.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from fastopt.files import replacing
from fastopt.rules.parameters import transposed

Path = str | os.PathLike[str]

CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "uint16": "BF16",
    "uint8": "U8",
    "int8": "I8",
    "int32": "I32",
    "int64": "I64",
}


def is_safetensors(path: Path) -> bool:
    """Return whether `path` asks for safetensors."""
    return os.fsdecode(path).endswith(".safetensors")


def write(path: Path, header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a state file: the old file stays until the new one is complete."""
    text = json.dumps(header)
    with replacing(path) as file:
        if is_safetensors(path):
            _write_safetensors(file, text, arrays)
        else:
            np.savez(file, header=np.array(text), **arrays)


def read(
    path: Path, what: str, assemble: Callable[[Any, Mapping[str, np.ndarray]], dict[str, Any]]
) -> dict[str, Any]:
    """Return what `assemble` makes of the header and the arrays of a state file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not whole or something else, "not a complete `what`".
    ImportError
        If it is a safetensors file and the package is not there.
    """
    where = f"{os.fspath(path)!r}"
    if is_safetensors(path):
        _package()
    try:
        if is_safetensors(path):
            return assemble(*_read_safetensors(path))
        with np.load(path, allow_pickle=False) as file:
            return assemble(json.loads(str(file["header"])), file)
    except OSError:
        raise
    except Exception as error:  # foreign bytes fail in many ways: zip, npy header, JSON, sizes
        reason = "" if "pickle" in str(error) else f": {error}"
        raise ValueError(f"{where} is not a complete {what}{reason}") from None


def _package() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "reading a .safetensors file needs safetensors: pip install 'fastopt[safetensors]'"
        ) from error
    if not hasattr(safetensors.safe_open, "offset_keys"):
        raise ImportError(
            f"reading a .safetensors file needs safetensors >= 0.6, this is "
            f"{safetensors.__version__}: pip install 'fastopt[safetensors]'"
        )
    return safetensors


def _checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return a number for the header and the arrays, whatever their order in the file."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name], crc)
    return str(crc)


def _write_safetensors(file: BinaryIO, text: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the format's few bytes around the arrays, from where they are.

    The package has no bfloat16 for NumPy, and would want the file's name.
    """
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)  # so that all are aligned
    fortran = json.dumps([name for name in order if transposed(arrays[name])])
    arrays = {name: np.asarray(arrays[name], order="C") for name in order}
    crc = _checksum(text + fortran, arrays)
    head: dict[str, Any] = {"__metadata__": {"fastopt": text, "fortran": fortran, "crc32": crc}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        head[name] = {
            "dtype": CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    packed = json.dumps(head).encode()
    packed += b" " * (-len(packed) % 8)
    file.write(len(packed).to_bytes(8, "little") + packed)
    for array in arrays.values():
        file.write(array)


def _read_safetensors(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """Return the header and the arrays of a file that the package finds whole."""
    dtypes = {code: np.dtype(name) for name, code in CODES.items()}
    arrays = {}
    with open(path, "rb") as file:  # first: what is wrong with the path is an OSError
        try:
            with _package().safe_open(path, "np") as checked:
                metadata = checked.metadata() or {}
                names = checked.offset_keys()
                parts = [checked.get_slice(name) for name in names]
                kinds = [(part.get_dtype(), part.get_shape()) for part in parts]
        except OSError as error:
            raise ValueError(str(error)) from None
        if not {"fastopt", "fortran", "crc32"} <= metadata.keys():
            raise ValueError("it was not written by fastopt")
        # The package has checked that the arrays fill the rest of the file without gaps.
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        for name, (code, shape) in zip(names, kinds, strict=True):
            if code not in dtypes:
                raise ValueError(f"{name!r} has the dtype {code}, not one of {list(dtypes)}")
            flat = np.fromfile(file, dtypes[code], int(np.prod(shape, dtype=np.int64)))
            arrays[name] = flat.reshape(shape)
    if _checksum(metadata["fastopt"] + metadata["fortran"], arrays) != metadata["crc32"]:
        raise ValueError("its checksum is wrong")
    for name in json.loads(metadata["fortran"]):  # the order of their axes in memory
        arrays[name] = np.asfortranarray(arrays[name])
    return json.loads(metadata["fastopt"]), arrays
