"""How optimizers converge: problems to watch them on, comparisons, rates and pictures.

================  ==============================================================================
`compare`         runs update rules and solvers on one problem and says how fast each converges
`Problem`         what is minimized; `PROBLEMS` has the surfaces of textbooks
`rate_of`         the rate of convergence of a sequence of errors
`plots`           pictures of all that, with matplotlib
================  ==============================================================================
"""

from fastopt.convergence import plots
from fastopt.convergence.comparison import Comparison, compare
from fastopt.convergence.problems import PROBLEMS, Problem
from fastopt.convergence.rates import Rate, rate_of
from fastopt.convergence.runs import History

__all__ = ["PROBLEMS", "Comparison", "History", "Problem", "Rate", "compare", "plots", "rate_of"]
