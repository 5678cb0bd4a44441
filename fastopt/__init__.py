"""fastopt: the optimizer core for CPUs."""

import fastopt._openmp  # noqa: F401  before _core: it decides which OpenMP that uses
from fastopt import functional, initializers, losses, penalties, presets, schedules
from fastopt._core import StepInfo, get_isa, isa_available, set_isa
from fastopt.calculus import (
    GradReport,
    assert_grad,
    check_grad,
    check_hessp,
    numerical_grad,
    numerical_hessian,
    numerical_jacobian,
)
from fastopt.config import show_config
from fastopt.convergence.comparison import compare
from fastopt.curriculum import Curriculum, SelfPaced
from fastopt.data import CSR, DataError, Dataset, iter_svmlight, load_svmlight, open_data
from fastopt.factorization.completion import factorize
from fastopt.factorization.factors import FactorizationResult
from fastopt.factorization.ratings_file import load_ratings
from fastopt.graphcut.cuts import GraphCut, GraphCutResult, graph_cut
from fastopt.graphcut.graphs import image_graph
from fastopt.minibatches import batches
from fastopt.models import LinearClassifier, LinearRegressor
from fastopt.plots import plot_history
from fastopt.rules.adafactor import Adafactor
from fastopt.rules.adam import AdaBelief, Adam, Adamax, AdamW, NAdam, RAdam
from fastopt.rules.adaptive import FTRL, Adadelta, Adagrad, DeltaBarDelta, RMSprop, Rprop
from fastopt.rules.arena import Arena
from fastopt.rules.base import Optimizer
from fastopt.rules.layerwise import LAMB, LARS
from fastopt.rules.muon import Muon
from fastopt.rules.optimizers import ASGD, SGD, Lion, SignSGD
from fastopt.rules.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from fastopt.rules.torch_state import load_torch_state, to_torch_state
from fastopt.rules.wrappers import SAM, Lookahead
from fastopt.schedules.plateau import ReduceOnPlateau
from fastopt.search import RandomSearchResult, random_search
from fastopt.solvers.line_search import LineSearchResult, backtracking, strong_wolfe
from fastopt.solvers.minimize import minimize
from fastopt.solvers.result import OptimizeResult
from fastopt.solvers.scalar import RootResult, newton_optimum, root
from fastopt.sparse.dual import DualResult, sdca
from fastopt.sparse.hogwild import hogwild
from fastopt.sparse.runner import HogwildResult
from fastopt.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"
__all__ = [  # without SGDClassifier and MatrixFactorization, which need scikit-learn
    "ASGD",
    "CSR",
    "FTRL",
    "LAMB",
    "LARS",
    "SAM",
    "SGD",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Arena",
    "Curriculum",
    "DataError",
    "Dataset",
    "DeltaBarDelta",
    "DualResult",
    "FactorizationResult",
    "GradReport",
    "GraphCut",
    "GraphCutResult",
    "HogwildResult",
    "LineSearchResult",
    "LinearClassifier",
    "LinearRegressor",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "OptimizeResult",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RandomSearchResult",
    "ReduceOnPlateau",
    "RootResult",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SelfPaced",
    "SignSGD",
    "StepInfo",
    "assert_grad",
    "backtracking",
    "batches",
    "check_grad",
    "check_hessp",
    "compare",
    "convergence",
    "factorize",
    "functional",
    "get_isa",
    "get_num_threads",
    "graph_cut",
    "hogwild",
    "image_graph",
    "initializers",
    "isa_available",
    "iter_svmlight",
    "load_ratings",
    "load_svmlight",
    "load_torch_state",
    "losses",
    "minimize",
    "newton_optimum",
    "numerical_grad",
    "numerical_hessian",
    "numerical_jacobian",
    "open_data",
    "penalties",
    "plot_history",
    "presets",
    "random_search",
    "root",
    "schedules",
    "sdca",
    "set_isa",
    "set_num_threads",
    "show_config",
    "strong_wolfe",
    "to_torch_state",
]


def __getattr__(name: str) -> object:
    """Import what needs an extra when it is first asked for."""
    if name in ("FMClassifier", "FMRegressor", "SGDClassifier", "SGDRegressor"):
        from importlib import import_module

        return getattr(import_module("fastopt.estimators"), name)
    if name == "MatrixFactorization":
        from fastopt.factorization.matrix_factorization import MatrixFactorization

        return MatrixFactorization
    raise AttributeError(f"module 'fastopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    late = ("FMClassifier", "FMRegressor", "MatrixFactorization", "SGDClassifier", "SGDRegressor")
    return sorted([*globals(), *late])
