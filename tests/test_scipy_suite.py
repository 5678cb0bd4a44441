"""SciPy's own tests of its solvers, line searches, roots and differences, run on ours.

swap_solvers.py puts them there. Not chosen: tests of what is not here (fmin_* and their counts,
constraints, arrays of roots, quasi-Newton Hessians, `disp`, `return_all`; bounds, sparsity and
relative steps of differences), of SciPy's words and of its exact counts, and

- test_bfgs_nan_return, which wants nan for a value of 0 at x0 and nan elsewhere: ours returns x0;
- test_initial_step_scaling, which wants CG's first step to be 1.01: ours is 1;
- test_equal_bounds, which wants the gradient of a fixed variable to be nan: ours is 0;
- test_scalar_search_wolfe2_regression, which wants a step below 1.5 where 1.85 satisfies both
  conditions too, and test_line_search_wolfe2_bounds, which wants five doublings to be too few;
- test_newton_collections, half of which is complex, and test_newton_full_output: we count what
  SciPy does not evaluate, the value at the root.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

scipy = pytest.importorskip("scipy", minversion="1.15")
TESTS = "scipy.optimize.tests."
METHODS = "cg or bfgs or newton-cg or l-bfgs-b or trust-ncg or trust-exact"
CHOSEN = {
    "test_linesearch": (
        "scalar_search_wolfe1 or (scalar_search_wolfe2 and not regression) or armijo "
        "or line_search_wolfe1 or (line_search_wolfe2 and not bounds)",
        8,
    ),
    "test_zeros": (
        "test_newton_by_name or (TestNewton and test_newton and not (collections or array or "
        "combined or output or special or modify)) or secant_by_name or halley_by_name "
        "or root_scalar_fail or args_gh19090 or int_x0",
        9,
    ),
    "test_optimize": (
        "TestOptimizeSimple and (finite_differences_jac or double_evaluations "
        "or (test_minimize_l_bfgs_b and not interruption) or tol_parameter or coerce_args "
        "or ((copies_array or callback_stop or respect_maxiter or no_increase or nan_values "
        f"or duplicate) and ({METHODS}) "
        "and not (fmin or nan_return or trust-constr)))"
        " or (TestLBFGSBBounds and minimize) or (TestNewtonCg and not strategy)"
        " or x_overwritten or len_x_is_one",
        50,
    ),
    "test__numdiff": (
        "TestApproxDerivativesDense and (scalar_scalar or scalar_vector or vector_scalar or "
        "vector_vector or non_numpy) and not (workers or parametrized)",
        6,
    ),
    "test_trustregion": ("ncg_hessp or (start_in_optimum and not krylov)", 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("module", CHOSEN)
def test_scipys(module, tmp_path):
    wanted, least = CHOSEN[module]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "swap_solvers", "-p", "no:cacheprovider"),
            *("-c", os.devnull, f"--rootdir={tmp_path}", "-W", "ignore", "-k", wanted),
            *("--pyargs", TESTS + module),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    if "not found" in done.stderr:
        pytest.skip("SciPy's tests are not installed")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = int(done.stdout.rpartition(" passed")[0].split()[-1].strip(","))
    assert passed >= least
