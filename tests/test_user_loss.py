"""Losses that a caller brings as compiled functions, against the built-in ones."""

from __future__ import annotations

import copy
import ctypes
import gc
import pickle
import shutil
import subprocess

import numpy as np
import pytest

import fastopt
from fastopt.sparse.evaluation import objective
from fastopt.sparse.rows import LOSSES
from fastopt.sparse.user_loss import loss_of

numba = pytest.importorskip("numba")
scipy = pytest.importorskip("scipy")
NAMES = []
SIGNATURE = "float64(float64, float64, CPointer(float64))"
SOURCE = r"""
double squared(double p, double y, double *derivative) {
    *derivative = p - y;
    return (p - y) * (p - y) / 2;
}
double tilted(double p, double y, double *derivative, void *user_data) {
    double slope = *(double *)user_data;
    *derivative = p < y ? -slope : p > y ? 1 - slope : 0;
    return p < y ? slope * (y - p) : (1 - slope) * (p - y);
}
double nothing(double p, double y) { return p + y; }
"""


@numba.cfunc(SIGNATURE)
def logistic(p, y, derivative):
    derivative[0] = -y / (1 + np.exp(y * p))
    return max(-y * p, 0.0) + np.log1p(np.exp(-abs(p)))


@numba.cfunc(SIGNATURE)
def squared(p, y, derivative):
    derivative[0] = p - y
    return (p - y) * (p - y) / 2


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("losses")
    (folder / "losses.c").write_text(SOURCE)
    target = folder / "losses.so"
    command = [compiler, "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-o", str(target)]
    subprocess.run([*command, str(folder / "losses.c")], check=True)
    return str(target)


def of_ctypes(library, name="squared", data=False):
    function = getattr(ctypes.CDLL(library), name)
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_double, ctypes.c_double, ctypes.POINTER(ctypes.c_double)]
    function.argtypes = [*function.argtypes, *([ctypes.c_void_p] if data else [])]
    return function


def capsule_of(address, name, context=None):
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    NAMES.append(name)  # which a capsule does not keep
    made = new(address, name, None)
    if context is not None:
        put = ctypes.pythonapi.PyCapsule_SetContext
        put.argtypes = [ctypes.py_object, ctypes.c_void_p]
        put(made, context)
    return made


def make(n=2000, d=50, seed=0, dtype="f8", labels=False):
    r = np.random.default_rng(seed)
    dense = r.normal(size=(n, d)) * (r.random((n, d)) < 0.2)
    y = dense @ r.normal(size=d) + 0.3 * r.normal(size=n)
    X = scipy.sparse.csr_matrix(dense.astype(dtype))
    return X, np.where(y > 0, 1.0, -1.0) if labels else y


def same_as_squared(loss, **more):
    X, y = make()
    given = {"l2": 1e-3, "epochs": 4, "threads": 1, "track_objective": True, **more}
    ours = fastopt.hogwild(X, y, loss="squared", **given)
    theirs = fastopt.hogwild(X, y, loss=loss, **given)
    np.testing.assert_array_equal(ours.w, theirs.w)
    assert ours.intercept == theirs.intercept
    for one, two in zip(ours.history, theirs.history, strict=True):
        assert one["objective"] == pytest.approx(two["objective"], rel=1e-14)


@pytest.mark.parametrize("more", [{}, {"l1": 1e-3, "average": False}, {"positive": True}])
def test_numba(more):
    same_as_squared(squared, **more)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("index", ["i4", "i8"])
def test_a_logistic_of_numba(dtype, index):
    X, y = make(dtype=dtype, labels=True)
    X.indices = X.indices.astype(index)
    given = {"epochs": 5, "threads": 1, "step": 0.5, "track_objective": True}
    ours = fastopt.hogwild(X, y, loss="logistic", **given)
    theirs = fastopt.hogwild(X, y, loss=logistic, **given)
    close = 1e-11 if dtype == "f8" else 1e-4
    np.testing.assert_allclose(ours.w, theirs.w, rtol=close, atol=close)
    assert ours.history[-1]["objective"] == pytest.approx(
        theirs.history[-1]["objective"], rel=close
    )
    assert objective(X, y, theirs.w, loss=logistic) == pytest.approx(
        objective(X, y, theirs.w, loss="logistic"), rel=1e-12
    )


@pytest.mark.parametrize("mode", ["copies", "shared"])
def test_several_threads(mode):
    X, y = make(n=6000, labels=True)
    given = {"epochs": 10, "threads": 2, "mode": mode, "track_objective": True, "l2": 1e-3}
    alone = fastopt.hogwild(X, y, **{**given, "threads": 1, "mode": "serial"})
    several = fastopt.hogwild(X, y, loss=logistic, **given)
    assert several.status == "finished"
    assert several.history[-1]["objective"] < 1.02 * alone.history[-1]["objective"]


def test_ctypes(library):
    same_as_squared(of_ctypes(library))


def test_low_level_callables(library):
    same_as_squared(scipy.LowLevelCallable(squared.ctypes))
    same_as_squared(scipy.LowLevelCallable(of_ctypes(library)))


def test_user_data(library):
    X, y = make()
    slope = ctypes.c_double(0.8)
    data = ctypes.cast(ctypes.pointer(slope), ctypes.c_void_p)
    tilted = of_ctypes(library, "tilted", data=True)
    given = {"l2": 1e-3, "epochs": 3, "threads": 1}
    ours = fastopt.hogwild(X, y, loss="quantile", quantile=0.8, **given)
    low = scipy.LowLevelCallable(tilted, data)
    np.testing.assert_array_equal(fastopt.hogwild(X, y, loss=low, **given).w, ours.w)
    address = ctypes.cast(tilted, ctypes.c_void_p).value
    name = b"double (double, double, double *, void *)"
    capsule = capsule_of(address, name, ctypes.addressof(slope))
    np.testing.assert_array_equal(fastopt.hogwild(X, y, loss=capsule, **given).w, ours.w)
    with pytest.raises(TypeError, match="user_data needs a scipy"):
        fastopt.hogwild(X, y, loss=tilted)
    with pytest.raises(TypeError, match="loss has user_data"):
        fastopt.hogwild(
            X,
            y,
            loss=capsule_of(address, b"double (double, double, double *)", ctypes.addressof(slope)),
        )


def test_cffi(library):
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("double squared(double, double, double *); double nothing(double, double);")
    opened = ffi.dlopen(library)
    same_as_squared(opened.squared)
    same_as_squared(scipy.LowLevelCallable(opened.squared))
    refused(opened.nothing, r"got double \(double, double\)")
    refused(ffi.new("double *"), r"got double \*")
    refused(
        ffi.callback("double(double, double, double *)", lambda p, y, d: 0.0), "a cffi callback"
    )
    with pytest.raises(ValueError, match="NULL"):
        loss_of(ffi.cast("double (*)(double, double, double *)", 0), LOSSES)


def test_capsules():
    same_as_squared(capsule_of(squared.address, b"double (double, double, double *)"))
    refused(capsule_of(squared.address, b"double (double)"), r"got double \(double\)")
    refused(capsule_of(squared.address, None), "got None")


def refused(loss, message):
    with pytest.raises(TypeError, match=message) as caught:
        loss_of(loss, LOSSES)
    assert "double (double p, double y, double *derivative)" in str(caught.value) or (
        "numba.cfunc" in str(caught.value)
    )


def test_other_signatures_are_refused(library):
    single = numba.cfunc("float32(float32, float32)")(lambda p, y: p - y)
    refused(single, r"got float \(float, float\)")
    refused(scipy.LowLevelCallable(single.ctypes), r"got float \(float, float\)")
    bare = ctypes.CDLL(library).squared
    refused(bare, r"got c_int \(\?\)")
    bare.restype = ctypes.c_double
    bare.argtypes = [ctypes.c_double, ctypes.c_double, ctypes.c_double]
    refused(bare, r"got double \(double, double, double\)")
    kind = ctypes.CFUNCTYPE(
        ctypes.c_double, ctypes.c_double, ctypes.c_double, ctypes.POINTER(ctypes.c_double)
    )
    refused(kind(lambda p, y, derivative: 0.0), "got a ctypes callback into Python")
    with pytest.raises(ValueError, match="NULL"):
        loss_of(kind(), LOSSES)


def test_python_functions_are_refused_with_the_recipe():
    X, y = make(n=10)
    with pytest.raises(TypeError, match=r"@numba.cfunc\(.float64\(float64, float64, CPointer"):
        fastopt.hogwild(X, y, loss=lambda p, y: p - y)
    with pytest.raises(TypeError, match=r"got 3$"):
        fastopt.hogwild(X, y, loss=3)
    with pytest.raises(ValueError, match=r"'hinge'.*or a compiled function.*got 'hing'"):
        fastopt.hogwild(X, y, loss="hing")
    with pytest.raises(ValueError, match="sdca takes no loss of your own"):
        fastopt.sdca(X, np.sign(y), loss=squared)


def test_the_recipe_works():
    from fastopt.sparse.user_loss import RECIPE

    scope = {"numba": numba}
    code = RECIPE.partition("\n\n")[2]
    exec("\n".join(line[4:] for line in code.splitlines()), scope)
    same_as_squared(scope["loss"])


def test_what_a_loss_came_from_lives_as_long():
    X, y = make(n=100)
    loss = loss_of(numba.cfunc(SIGNATURE)(lambda p, y, derivative: 1.0), LOSSES)
    gc.collect()
    assert fastopt.hogwild(X, y, loss=loss, epochs=1, threads=1).status == "finished"


def test_a_derivative_that_is_not_a_number_ends_training():
    X, y = make(n=100)

    @numba.cfunc(SIGNATURE)
    def bad(p, y, derivative):
        derivative[0] = np.nan
        return 0.0

    with pytest.warns(RuntimeWarning, match="diverged"):
        assert fastopt.hogwild(X, y, loss=bad, step=0.1).status == "diverged"


def test_several_classes():
    X, y = make(n=1500)
    codes = np.digitize(y, np.quantile(y, [0.3, 0.6]))
    given = {"alpha": 1e-3, "random_state": 0, "max_iter": 20, "tol": None}
    fastopt_estimators = pytest.importorskip("fastopt.estimators")
    ours = fastopt_estimators.SGDClassifier("log_loss", **given).fit(X, codes)
    theirs = fastopt_estimators.SGDClassifier(logistic, **given).fit(X, codes)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-9, atol=1e-12)
    assert not hasattr(theirs, "predict_proba")


def test_estimators():
    estimators = pytest.importorskip("fastopt.estimators")
    from sklearn import config_context
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    X, y = make()
    given = {"random_state": 0, "max_iter": 30, "tol": None, "target": 0.0, "average": True}
    ours = estimators.SGDRegressor("squared_error", **given).fit(X, y)
    model = estimators.SGDRegressor(squared, **given)
    theirs = model.fit(X, y)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)
    assert [r["objective"] for r in ours.history_] == [r["objective"] for r in theirs.history_]
    theirs.partial_fit(X, y)
    np.testing.assert_array_equal(ours.partial_fit(X, y).coef_, theirs.coef_)

    for loss in (squared, squared.ctypes, scipy.LowLevelCallable(squared.ctypes)):
        with config_context(enable_metadata_routing=True):
            asked = estimators.SGDRegressor(loss, **given).set_fit_request(sample_weight=True)
            twin = clone(asked)
            assert twin.get_metadata_routing().fit.requests["sample_weight"] is True
        assert twin.loss is loss and twin.average is True
        assert not hasattr(twin, "coef_")
    with pytest.raises(TypeError, match=r"cannot be saved: set_params\(loss=...\)"):
        pickle.dumps(theirs)
    kept = copy.deepcopy(theirs.set_params(loss="squared_error"))
    np.testing.assert_array_equal(kept.predict(X), theirs.predict(X))
    search = GridSearchCV(estimators.SGDRegressor(squared, **given), {"alpha": [1e-4, 1e-1]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.9
    with pytest.raises(ValueError, match="scikit-learn's SGDRegressor has no loss"):
        estimators.SGDRegressor(squared, **given).fit(X, y).to_sklearn()
    with pytest.raises(ValueError, match="takes no loss of your own"):
        estimators.SGDRegressor(squared, optimizer="sdca").fit(X, y)
    with pytest.raises(ValueError, match="'pa1' only works with loss"):
        estimators.SGDRegressor(squared, learning_rate="pa1").fit(X, y)
    with pytest.raises(TypeError, match=r"numba\.cfunc"):
        estimators.SGDRegressor(lambda p, y: 0.0).fit(X, y)
