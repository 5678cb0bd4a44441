"""scikit-learn-compatible estimators on top of the lock-free runner; needs the `sklearn` extra."""

try:
    from fastopt.fm.fm_classifier import FMClassifier
    from fastopt.fm.fm_regressor import FMRegressor
    from fastopt.sparse.sgd_classifier import SGDClassifier
    from fastopt.sparse.sgd_regressor import SGDRegressor
except ImportError as error:
    raise ImportError(
        "fastopt.SGDClassifier, SGDRegressor, FMClassifier and FMRegressor need "
        "scikit-learn >= 1.6: pip install 'fastopt[sklearn]'"
    ) from error

__all__ = ["FMClassifier", "FMRegressor", "SGDClassifier", "SGDRegressor"]
