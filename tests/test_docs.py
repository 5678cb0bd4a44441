"""Every example in a docstring and in the documentation runs and prints what it says."""

import doctest
import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

import fastopt

MODULES = [
    "fastopt",
    *(
        f"fastopt.{m.name}"
        for m in pkgutil.iter_modules(fastopt.__path__)
        if not m.name.startswith("_")
    ),
]
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if "pip install 'fastopt[" not in str(error):
            raise
        pytest.skip(str(error))
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


DOCUMENTS = ["README.md", "ARCHITECTURE.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_in_documents(name, tmp_path, monkeypatch, capsys):
    path = ROOT / name
    if not path.exists():
        pytest.skip("not in a source tree")
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        if "import torch" in block and not importlib.util.find_spec("torch"):
            continue
        exec(compile(block, name, "exec"), {})
        printed = capsys.readouterr().out.split("\n")
        expected = re.findall(r"print\(.*\)\s+# (.+)", block)
        for line, shown in zip(expected, printed, strict=False):
            assert shown == line


@pytest.mark.parametrize("name", fastopt.__all__)
def test_public_names_have_docstrings(name):
    thing = getattr(fastopt, name)
    if callable(thing):
        assert thing.__doc__ and len(thing.__doc__.split("\n")[0]) < 100
