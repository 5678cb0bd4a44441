"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import fastopt

OPTIONAL = {"typer", "rich", "sklearn", "torch", "dask", "distributed", "matplotlib"}
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(fastopt.__path__, "fastopt.")
    if not name.endswith("__main__")
)


@pytest.mark.parametrize("name", ["fastopt", *MODULES])
def test_doctests(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] in OPTIONAL or "fastopt[" in str(error):
            pytest.skip(str(error))
        raise
    failed, _ = doctest.testmod(module)
    assert failed == 0
