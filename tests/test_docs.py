"""Examples in docstrings and documents run and print what they say; the rules' pages are true."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

import fastopt
from fastopt.presets import PRESETS
from fastopt.rules.base import Common
from fastopt.rules.hyperparameters import COMMON

MODULES = [
    "fastopt",
    *(m.name for m in pkgutil.walk_packages(fastopt.__path__, "fastopt.") if "._" not in m.name),
]
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
PAGES = {path.stem for path in DOCS.glob("rules/*.md")} - {"README"}
RULES = {
    *(name for name, cls in fastopt.Optimizer.registry.items() if cls.__module__[:8] == "fastopt."),
    *("Lookahead", "SAM", "random_search"),
}


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


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", *DOCUMENTS])
def test_examples_in_documents(name, tmp_path, monkeypatch, capsys):
    path = ROOT / name
    if not path.exists():
        pytest.skip("not in a source tree")
    if path.stem in PAGES:
        page(path.stem)
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        try:
            exec(compile(block, name, "exec"), {})
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] == "fastopt":
                raise
            pytest.skip(str(error))
        expected = re.findall(r"print\(.*\)\s+# (.+)", block)
        assert capsys.readouterr().out.split("\n")[: len(expected)] == expected


@pytest.mark.parametrize("name", fastopt.__all__)
def test_public_names_have_docstrings(name):
    thing = getattr(fastopt, name)
    if callable(thing):
        assert thing.__doc__ and len(thing.__doc__.split("\n")[0]) < 100


def page(name):
    """Return the page of a rule, or skip where there are no pages or not this rule."""
    if not DOCS.exists():
        pytest.skip("docs/ is not here: it is in the source tree only")
    assert name in PAGES, f"docs/rules/{name}.md is missing"
    if not hasattr(fastopt, name):
        pytest.skip(f"this fastopt has no {name}")
    return (DOCS / "rules" / f"{name}.md").read_text()


def tables(text, heading):
    """Return the rows of the tables under a heading, each a mapping from column to cell."""
    section = re.split(rf"^## {heading}$", text, flags=re.M)[1].split("\n## ")[0]
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", section, re.M):
        head, _, *rows = (
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        )
        found += [dict(zip(head, row, strict=True)) for row in rows]
    return found


def code(cell):
    """Return what a cell has in backticks."""
    return re.fullmatch("`(.+)`", cell)[1]


def same(cell, value):
    """Whether a cell has this value, of this type."""
    return repr(ast.literal_eval(code(cell))) == repr(value)


each_rule = pytest.mark.parametrize("name", sorted(RULES | PAGES))


@each_rule
def test_page_has_its_sections_and_checks_its_formula(name):
    text = page(name)
    assert re.findall("^# .+", text)[:1] == [f"# {name}"]
    sections = ["Formula", "Source", "Parameters", "When to use it", "State", "Example"]
    assert re.findall("^## (.+)", text, re.M) == sections
    assert f"](../pictures/{name}.svg)" in text
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        assert f"fastopt.{name}" in block or "rule in (" in block
        assert re.search(r"print\(.*\)\s+# .+", block)


@each_rule
def test_page_has_the_parameters_of_the_signature(name):
    rows = tables(page(name), "Parameters")
    signature = inspect.signature(getattr(fastopt, name))
    own = [
        p
        for p in signature.parameters.values()
        if p.name not in ("params", "preset") and p.kind is not p.VAR_KEYWORD
    ]
    assert [code(row["parameter"]) for row in rows] == [p.name for p in own]
    for row, p in zip(rows, own, strict=True):
        if p.default is p.empty or (p.name == "lr" and p.default is None):
            assert row["fastopt"] == "required"
        else:
            assert same(row["fastopt"], p.default), p.name


@each_rule
def test_page_has_the_values_of_the_presets(name):
    rows = tables(page(name), "Parameters")
    columns = [preset for preset, classes in PRESETS.items() if name in classes]
    assert list(rows[0]) == ["parameter", "what it is", "fastopt", *columns]
    for preset in columns:
        values = dict(PRESETS[preset][name])
        for row in rows:
            if row[preset] == "–":
                assert code(row["parameter"]) not in values
            else:
                assert same(row[preset], values.pop(code(row["parameter"])))
        assert not values


@pytest.mark.parametrize("name", sorted(n for n in RULES | PAGES if n != "random_search"))
def test_page_has_the_measured_bytes_of_state(name):
    rows = tables(page(name), "State")
    assert rows
    for row in rows:
        w = np.zeros((64, 64), np.float32)
        opt = eval(code(row["built as"]), {**vars(fastopt), "w": w})
        assert type(opt).__name__ == name
        states = dict(opt.state["0"])
        if hasattr(opt, "slow"):
            states["slow"] = opt.slow["0"]
        names = re.findall("`(.+?)`", row["states"])
        assert names == list(states) or (row["states"], states) == ("none", {})
        size = sum(s.nbytes for s in states.values()) / w.size
        assert float(row["bytes per float32 parameter"]) == round(size, 2)


def test_index_of_rules():
    if not DOCS.exists():
        pytest.skip("docs/ is not here: it is in the source tree only")
    text = (DOCS / "rules" / "README.md").read_text()
    headings = re.findall("^## (.+)", text, re.M)
    rows = [row for heading in headings for row in tables(text, heading) if "rule" in row]
    assert sorted(row["rule"] for row in rows) == sorted(f"[{n}]({n}.md)" for n in PAGES)
    for row in rows:
        name = re.match(r"\[(\w+)\]", row["rule"])[1]
        assert f'src="../pictures/{name}.svg"' in row["picture"]
        first = tables((DOCS / "rules" / f"{name}.md").read_text(), "State")[:1]
        wanted = [r["bytes per float32 parameter"] for r in first] or ["0"]
        assert [row["bytes"]] == wanted
    common = tables(text, "What every rule takes")
    defaults = inspect.signature(fastopt.Optimizer.__init__).parameters
    assert {code(row["keyword"]) for row in common} == set(Common.__annotations__)
    for row in common:
        keyword = code(row["keyword"])
        wanted = COMMON[keyword] if keyword in COMMON else defaults[keyword].default
        assert same(row["default"], wanted), keyword


def anchors(path):
    """Return what the headings of a document are called in links."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    names = (re.sub(r"[^\w\- ]", "", line).lower() for line in re.findall("^#+ (.+)", text, re.M))
    return {name.replace(" ", "-") for name in names}


@pytest.mark.parametrize("name", ["README.md", *DOCUMENTS])
def test_links_and_pictures_exist(name):
    path = ROOT / name
    if not DOCS.exists() or not path.exists():
        pytest.skip("docs/ is not here: it is in the source tree only")
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text):
        file, _, anchor = "".join(target).partition("#")
        if re.match("[a-z]+:", file):
            continue
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), file
        if anchor:
            assert anchor in anchors(there), f"{file}#{anchor}"


def test_pictures_are_small_and_whole():
    if not DOCS.exists():
        pytest.skip("docs/ is not here: it is in the source tree only")
    pictures = sorted(DOCS.glob("pictures/*.svg"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 60_000
        assert xml.etree.ElementTree.parse(picture).getroot().tag.endswith("svg")
