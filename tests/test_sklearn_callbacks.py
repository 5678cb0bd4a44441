"""The estimators with scikit-learn's callbacks: its protocol, its monitors, and stopping."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastopt import SGDClassifier, SGDRegressor

callback = pytest.importorskip("sklearn.callback")


class Record:
    """Writes down every hook, and scores the models that it is given."""

    def __init__(self, stop=None):
        self.events, self.scores, self.stop = [], [], stop

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.events.append(("end", context.task_name, context.task_id))
        if fitted_estimator is not None:
            self.scores.append(fitted_estimator.score(X, y))
        return self.stop is not None and context.task_id == self.stop


def data(classes=2, seed=0):
    r = np.random.default_rng(seed)
    X = r.normal(size=(400, 6))
    score = X @ r.normal(size=6)
    edges = np.quantile(score, np.arange(1, classes) / classes)
    return X, np.array(list("abc"))[np.digitize(score, edges)], score


def test_tasks_of_two_classes():
    X, y, _ = data()
    record = Record()
    model = SGDClassifier(random_state=0, max_iter=4, tol=None).set_callbacks(record).fit(X, y)
    epochs = [(what, "epoch", k) for k in range(4) for what in ("begin", "end")]
    assert record.events == [
        "setup", ("begin", "fit", 0), *epochs, ("end", "fit", 0), "teardown",
    ]  # fmt: skip
    assert len(record.scores) == 5 and record.scores[-1] == record.scores[-2] == model.score(X, y)
    plain = SGDClassifier(random_state=0, max_iter=4, tol=None).fit(X, y)
    np.testing.assert_array_equal(plain.coef_, model.coef_)
    record.events.clear()
    model.partial_fit(X, y)  # has no hooks, as scikit-learn's own partial_fit
    assert record.events == []


def test_tasks_of_three_classes():
    X, y, _ = data(3)
    record = Record()
    model = SGDClassifier(random_state=0, max_iter=50, tol=1e-2, n_iter_no_change=2)
    model.set_callbacks(record).fit(X, y)
    depth, begun = 0, []
    for event in record.events[1:-1]:
        depth += 1 if event[0] == "begin" else -1
        begun += [event[1:]] if event[0] == "begin" else []
        assert depth <= 3
    assert depth == 0 and [b for b in begun if b[0] == "class"] == [("class", k) for k in range(3)]
    assert record.scores[-1] == model.score(X, y) > record.scores[0]


def test_a_callback_stops_the_epochs():
    X, _, score = data()
    record = Record(stop=2)
    model = SGDRegressor(random_state=0, tol=None, max_iter=100).set_callbacks(record)
    model.fit(X, score)
    assert model.n_iter_ == 3 and model.fit_report_["stop"] == ["a callback asked to stop"]
    np.testing.assert_array_equal(
        model.coef_, SGDRegressor(random_state=0, tol=None, max_iter=3).fit(X, score).coef_
    )


def test_teardown_after_an_error():
    X, y, _ = data()
    record = Record()
    with pytest.raises(ValueError, match="sample_weight"):
        SGDClassifier().set_callbacks(record).fit(X, y, sample_weight=-np.ones(400))
    assert record.events[-1] == "teardown" and not hasattr(clone(SGDClassifier()), "_skl_callbacks")


def test_scoring_monitor_in_a_pipeline():
    X, y, _ = data()
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = SGDClassifier(random_state=0, max_iter=5, tol=None).set_callbacks(monitor)
    fitted = make_pipeline(StandardScaler(), model).fit(X, y)
    log = monitor.get_logs()
    assert len(log.data) == 6
    assert log.data[-1]["accuracy"] == log.data[0]["accuracy"] == fitted.score(X, y)


def test_callbacks_of_a_search_see_every_epoch():
    class Everywhere(Record):
        max_propagation_depth = None

    X, y, _ = data()
    record = Everywhere()
    model = SGDClassifier(random_state=0, max_iter=5, tol=None)
    search = GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=3)
    search.set_callbacks(record).fit(X, y)
    assert record.events.count(("begin", "epoch", 0)) == 2 * 3 + 1  # and the last fit, of all rows
    assert sum(event[:2] == ("end", "epoch") for event in record.events) == 5 * 7
    assert record.events.count("setup") == record.events.count("teardown") == 1
