"""Derivatives by differences, and gradients checked against them."""

from fastopt.calculus.check import assert_grad, check_grad, check_hessp
from fastopt.calculus.differences import numerical_grad, numerical_hessian, numerical_jacobian
from fastopt.calculus.report import GradReport, GradRow

__all__ = [
    "GradReport",
    "GradRow",
    "assert_grad",
    "check_grad",
    "check_hessp",
    "numerical_grad",
    "numerical_hessian",
    "numerical_jacobian",
]
