"""The pages of the documentation's site that are made from the code name everything."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import fastopt

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "docs" / "site" / "conf.py"
if not CONF.exists():
    pytest.skip("docs/ is not here: it is in the source tree only", allow_module_level=True)
pytest.importorskip("sklearn", reason="the API's page has the estimators on it")


@pytest.fixture(scope="module")
def conf():
    spec = importlib.util.spec_from_file_location("site_conf", CONF)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_api_page_lists_every_public_name_once(conf):
    listed = re.findall(r"^   (fastopt\.[\w.]+)$", conf.api_page(), re.M)
    assert len(listed) == len(set(listed))
    for name in {*fastopt.__all__, "SGDClassifier", "SGDRegressor", "MatrixFactorization"}:
        thing = getattr(fastopt, name)
        if not inspect.ismodule(thing):
            assert f"fastopt.{name}" in listed
            continue
        for member in getattr(thing, "__all__", ()):
            value = getattr(thing, member)
            if callable(value):
                assert f"fastopt.{name}.{member}" in listed
    assert {"fastopt.schedules.cosine", "fastopt.convergence.plots.save"} <= set(listed)
    for name in listed:
        thing = fastopt
        for part in name.split(".")[1:]:
            thing = getattr(thing, part)
        assert callable(thing)


def test_every_example_has_a_page_that_says_what_it_does(conf):
    for path in sorted((ROOT / "examples").glob("*.py")):
        page = conf.example_page(path)
        title, line = page.splitlines()[:2]
        assert line == "=" * len(line) and len(line) >= len(title)
        assert f"literalinclude:: ../../../../examples/{path.name}" in page


def test_text_of_docstrings_is_escaped_and_code_is_not(conf):
    lines = [
        "The norm |w| of ``|x|`` and `y_`, n_features_in_ as (k, *x.shape), *this* stays.",
        "",
        ">>> f(x_) | g(*y)",
        "",
        ".. math:: |x_|",
        "   |y_|",
        "",
        "and :math:`|z_|`.",
    ]
    conf.plain(None, "", "", None, None, lines)
    assert lines[0] == (
        r"The norm \|w\| of ``|x|`` and `y_`, n_features_in\_ as (k, \*x.shape), *this* stays."
    )
    assert lines[2:] == [
        ">>> f(x_) | g(*y)",
        "",
        ".. math:: |x_|",
        "   |y_|",
        "",
        "and :math:`|z_|`.",
    ]
