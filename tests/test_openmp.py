"""One OpenMP runtime for fastopt, torch and scikit-learn, whoever comes first."""

import importlib.util
import itertools
import sys
from os.path import realpath

import pytest

from fastopt import _buildinfo, _openmp

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or _buildinfo.openmp != "gomp", reason="GNU's OpenMP on Linux"
)

USE = {
    "fastopt": """
import fastopt
w = np.zeros(400_000, np.float32)
opt = fastopt.Adam(w, lr=0.5, threads=2)
def use_fastopt():
    opt.step(np.ones_like(w))
    assert w[0] == w[-1] != 0
""",
    "torch": """
import torch
torch.set_num_threads(2)
def use_torch():
    assert torch.ones(400_000).add(1).sum() == 800_000
""",
    "sklearn": """
from sklearn.cluster import KMeans
X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5000, axis=0)
def use_sklearn():
    assert KMeans(2, n_init=1, max_iter=3, random_state=0).fit(X).inertia_ < 1e-9
""",
}
BOUND = """
import ctypes
class Info(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
                ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p)]
info = Info()
symbol = ctypes.CDLL(None).GOMP_parallel  # what a module that is loaded now would be bound to
ctypes.CDLL(None).dladdr(ctypes.cast(symbol, ctypes.c_void_p), ctypes.byref(info))
print(info.file.decode())
print(fastopt._openmp.shared)
"""


def installed(names):
    return all(importlib.util.find_spec(name) for name in names)


ORDERS = [
    order
    for others in (["torch"], ["sklearn"], ["torch", "sklearn"])
    for order in itertools.permutations(["fastopt", *others])
]


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_import_orders(run_python, order):
    """All results are right, in one process, alternating; one runtime is visible to all."""
    if not installed(order):
        pytest.skip(f"needs {', '.join(order)}")
    code = "import numpy as np\n" + "".join(USE[name] for name in order)
    code += "for _ in range(5):\n" + "".join(f"    use_{name}()\n" for name in order)
    bound, shared = map(realpath, run_python(code + BOUND, timeout=120).split()[-2:])
    assert bound == shared and "libgomp" in shared


def test_sharing_can_be_turned_off(run_python):
    code = "import numpy as np\n" + USE["fastopt"] + "use_fastopt()\nprint(fastopt._openmp.shared)"
    assert run_python(code, FASTOPT_SHARE_OPENMP="0").strip() == "None"


@pytest.mark.parametrize(
    ("env", "inside"),
    [({}, None), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
)
def test_environment_is_left_as_it_was(run_python, env, inside):
    code = "import fastopt, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert run_python(code, **env).split()[-1] == str(inside)


def test_runtimes_are_read_from_a_map(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r--p 00000000 fe:01 17 /a b/libgomp-e985bcbb.so.1.0.0\n"
        "7f01-7f02 r-xp 00001000 fe:01 17 /a b/libgomp-e985bcbb.so.1.0.0\n"
        "7f02-7f03 r--p 00000000 fe:01 18 /x/libomp.so.5\n"
        "7f03-7f04 r--p 00000000 fe:01 19 /x/libgompertz.so\n"
        "7f04-7f05 r--p 00000000 fe:01 19 /x/libgomp.so.1/other\n"
        "7f05-7f06 rw-p 00000000 00:00 0 \n"
        "7f06-7f07 rw-p 00000000 00:00 0 [heap]\n"
    )
    assert _openmp.runtimes(str(maps)) == ["/a b/libgomp-e985bcbb.so.1.0.0", "/x/libomp.so.5"]
    assert _openmp.runtimes(str(tmp_path / "none")) == []
