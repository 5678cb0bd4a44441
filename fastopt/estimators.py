"""scikit-learn's SGD estimators on top of the lock-free runner; needs the `sklearn` extra."""

try:
    from fastopt.sparse.sgd_classifier import SGDClassifier
    from fastopt.sparse.sgd_regressor import SGDRegressor
except ImportError as error:
    raise ImportError(
        "fastopt.SGDClassifier and SGDRegressor need scikit-learn >= 1.6: "
        "pip install 'fastopt[sklearn]'"
    ) from error

__all__ = ["SGDClassifier", "SGDRegressor"]
