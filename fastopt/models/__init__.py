"""Linear models W x + b on dense data, trained by any rule or solver of the library."""

from fastopt.models.classifier import LinearClassifier
from fastopt.models.regressor import LinearRegressor

__all__ = ["LinearClassifier", "LinearRegressor"]
