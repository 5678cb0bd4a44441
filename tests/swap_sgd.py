"""A pytest plugin that puts fastopt's SGD estimators in the place of scikit-learn's.

`pytest -p swap_sgd --pyargs sklearn.linear_model.tests.test_sgd` then tests ours; with
SWAP_INTERCEPT_RATE=sklearn as if that were the default of `intercept_rate`.
"""

import os

import sklearn.linear_model

from fastopt.estimators import SGDClassifier, SGDRegressor

for ours in (SGDClassifier, SGDRegressor):
    rate = os.environ.get("SWAP_INTERCEPT_RATE", "auto")
    ours.__init__.__kwdefaults__["intercept_rate"] = rate
    setattr(sklearn.linear_model, ours.__name__, ours)
