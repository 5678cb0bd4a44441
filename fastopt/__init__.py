"""fastopt: the optimizer core for CPUs."""

import fastopt._openmp  # noqa: F401  before _core: it decides which OpenMP that uses
from fastopt import functional, presets, schedules
from fastopt._core import StepInfo, get_isa, isa_available, set_isa
from fastopt.adafactor import Adafactor
from fastopt.adam import AdaBelief, Adam, Adamax, AdamW, NAdam, RAdam
from fastopt.adaptive import FTRL, Adadelta, Adagrad, DeltaBarDelta, RMSprop, Rprop
from fastopt.arena import Arena
from fastopt.base import Optimizer
from fastopt.completion import factorize
from fastopt.config import show_config
from fastopt.cuts import GraphCut, GraphCutResult, graph_cut
from fastopt.data import CSR, DataError, Dataset, iter_svmlight, load_svmlight, open_data
from fastopt.dual import DualResult, sdca
from fastopt.factors import FactorizationResult
from fastopt.graphs import image_graph
from fastopt.layerwise import LAMB, LARS
from fastopt.muon import Muon
from fastopt.optimizers import ASGD, SGD, Lion, SignSGD
from fastopt.plateau import ReduceOnPlateau
from fastopt.ratings_file import load_ratings
from fastopt.runner import HogwildResult, hogwild
from fastopt.schedule_free import ScheduleFreeAdamW, ScheduleFreeSGD
from fastopt.search import RandomSearchResult, random_search
from fastopt.threads import get_num_threads, set_num_threads
from fastopt.torch_state import load_torch_state, to_torch_state
from fastopt.wrappers import SAM, Lookahead

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
    "DataError",
    "Dataset",
    "DeltaBarDelta",
    "DualResult",
    "FactorizationResult",
    "GraphCut",
    "GraphCutResult",
    "HogwildResult",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RandomSearchResult",
    "ReduceOnPlateau",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SignSGD",
    "StepInfo",
    "factorize",
    "functional",
    "get_isa",
    "get_num_threads",
    "graph_cut",
    "hogwild",
    "image_graph",
    "isa_available",
    "iter_svmlight",
    "load_ratings",
    "load_svmlight",
    "load_torch_state",
    "open_data",
    "presets",
    "random_search",
    "schedules",
    "sdca",
    "set_isa",
    "set_num_threads",
    "show_config",
    "to_torch_state",
]


def __getattr__(name: str) -> object:
    """Import what needs an extra when it is first asked for."""
    if name in ("SGDClassifier", "SGDRegressor"):
        from importlib import import_module

        return getattr(import_module("fastopt.estimators"), name)
    if name == "MatrixFactorization":
        from fastopt.matrix_factorization import MatrixFactorization

        return MatrixFactorization
    raise AttributeError(f"module 'fastopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "MatrixFactorization", "SGDClassifier", "SGDRegressor"])
