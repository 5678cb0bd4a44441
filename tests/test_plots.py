"""`plot_history`: what is in the lines, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fastopt

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def result(loss="logistic", **options):
    r = np.random.default_rng(0)
    dense = r.normal(size=(300, 5)).astype("f4")
    X = fastopt.CSR(dense.ravel(), np.tile(np.arange(5), 300), np.arange(301) * 5, (300, 5))
    y = np.where(dense[:, 0] > 0, 1, -1)
    return fastopt.hogwild(X, y, loss=loss, epochs=6, threads=1, track_objective=True, **options)


def test_lines_of_results():
    first, second = result(), result("hinge")
    for x in ("seconds", "epoch", "rows"):
        axes = fastopt.plot_history(first, second.history, x=x)
        assert axes.get_yscale() == "log" and axes.get_ylabel() == "objective"
        for line, source in zip(axes.get_lines(), (first, second), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), [h[x] for h in source.history])
            found = [h["objective"] for h in source.history]
            np.testing.assert_array_equal(line.get_ydata(), found)
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["run 1", "run 2"]
    again = fastopt.plot_history(first, ax=axes, log=False, labels=["more"])
    assert again is axes and len(axes.get_lines()) == 3


def test_lines_of_an_estimator():
    pytest.importorskip("sklearn")
    r = np.random.default_rng(0)
    X = r.normal(size=(300, 4))
    model = fastopt.SGDClassifier(random_state=0, early_stopping=True, max_iter=9)
    model.fit(X, np.digitize(X[:, 0], [-0.4, 0.4]))
    axes = fastopt.plot_history(model, x="epoch", y="score")
    assert len(axes.get_lines()) == 3
    for k, line in enumerate(axes.get_lines()):
        records = [h for h in model.history_ if h["problem"] == k]
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(records) + 1))
        np.testing.assert_array_equal(line.get_ydata(), [h["score"] for h in records])


def test_refused(monkeypatch):
    done = result()
    for arguments, options, error, message in [
        ((done,), {"x": "hours"}, ValueError, "x must be one of 'seconds', 'epoch', 'rows'"),
        ((), {}, ValueError, "histories must be at least one"),
        ((3,), {}, TypeError, "histories must be fitted estimators"),
        ((done,), {"labels": ["a", "b"]}, ValueError, "labels must be 1 names, got 2"),
        ((done,), {"y": "score"}, ValueError, "no record has 'seconds' and 'score'"),
        (([{"epoch": 1, "seconds": 1.0}],), {}, ValueError, "track_objective=True"),
        (([{"seconds": 1.0, "objective": 0.0}],), {}, ValueError, "give log=False"),
    ]:
        with pytest.raises(error, match=message):
            fastopt.plot_history(*arguments, **options)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'fastopt\[plot\]'"):
        fastopt.plot_history(done)
