"""Sphinx's settings, and the pages that are made from the code: `make docs` builds the site.

The source folder is the repository's: pages are the README and docs/ as they stand, so that their
links work here and there. The API's pages are made from `fastopt.__all__`, the examples' from
examples/.
"""

import inspect
import re
import shutil
from pathlib import Path

import fastopt

ROOT = Path(__file__).resolve().parents[2]
MADE = ROOT / "docs" / "site" / "made"

project, author = "fastopt", "fastopt developers"
copyright = author
version = release = fastopt.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
root_doc = "docs/site/index"
include_patterns = ["*.md", "docs/**", "bench/README.md", "examples/*.py"]
exclude_patterns = ["docs/site/conf.py", "docs/site/templates"]
myst_enable_extensions = ["html_image"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
templates_path = [str(ROOT / "docs" / "site" / "templates")]
suppress_warnings = ["myst.header"]  # a page may begin at any level
autosummary_generate = True
autosummary_generate_overwrite = True
numpydoc_show_class_members = False
html_theme = "alabaster"
html_theme_options = {"description": "The optimizer core for CPUs", "page_width": "1080px"}
linkcheck_ignore = [r"https?://"]  # those of other sites need a network

# A folder of the package -> what its names are called together; others by the folder's name.
HEADINGS = {
    "rules": "Update rules",
    "schedules": "Schedules",
    "sparse": "Sparse linear models",
    "factorization": "Matrix completion",
    "graphcut": "Graph cuts",
    "data": "Data",
    "convergence": "Convergence",
    "calculus": "Gradients",
    "solvers": "Solvers",
    "models": "Dense linear models",
    "minibatches": "Data",
    "curriculum": "Data",
    "fm": "Factorization machines",
    "plots": "Convergence",
}


def public_names() -> list[str]:
    """Return what `fastopt` offers, with what it imports when it is asked for."""
    late = set(dir(fastopt)) - set(vars(fastopt))
    return sorted({*fastopt.__all__, *late} - {"annotations"}, key=str.lower)


def api_page() -> str:
    """Return the page that lists every public name, each linked to a page of its own."""
    groups: dict[str, list[str]] = {}
    for name in public_names():
        thing = getattr(fastopt, name)
        if inspect.ismodule(thing):
            groups.setdefault(f"fastopt.{name}", []).extend(members(thing))
            continue
        folder = [*getattr(thing, "__module__", "").split("."), ""][1]
        heading = HEADINGS.get(folder) or "This machine, and everything else"
        groups.setdefault(heading, []).append(f"fastopt.{name}")
    lines = ["API", "===", ""]
    for heading, names in sorted(groups.items()):
        lines += [heading, "-" * len(heading), ""]
        if heading.startswith("fastopt."):
            about = getattr(fastopt, heading.partition(".")[2]).__doc__
            lines += [about.splitlines()[0].replace("`", "``"), ""]
        lines += [".. autosummary::", "   :toctree: api", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names] + [""]
    return "\n".join(lines)


def members(module: object) -> list[str]:
    """Return the public names of a module, and those of its own plots."""
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_")
        and value.__module__ == module.__name__
    ]  # fmt: skip
    found = []
    for name in names:
        value = getattr(module, name)
        if inspect.ismodule(value):
            found += members(value)
        elif callable(value):
            found.append(f"{module.__name__}.{name}")
    return found


def example_page(path: Path) -> str:
    """Return an example's page: what it says, and its program."""
    text = path.read_text()
    doc = inspect.cleandoc(text.split('"""')[1])
    title, _, rest = doc.partition("\n")
    code = re.sub(r"^    (python .*)$", r"``\1``", rest, flags=re.M)
    return (f"{title.rstrip('.')}\n{'=' * len(title)}\n{code}\n\n"
            f".. literalinclude:: ../../../../examples/{path.name}\n")  # fmt: skip


# Code, mathematics and what directives hold: not text.
NO_TEXT = r"``.*?``|`[^`]*`|^ *>>> .*?(?=\n *\n|\Z)|^( *)\.\. [^\n]*\n(?:(?:\2 +[^\n]*)?\n)*"
# In text: bars, names that end in _, and stars that open what no other closes.
MARKS = r"\||(?<=\w)_(?=\W|$)|(?<![\w*\\])\*(?=[^\s*])(?![^*\n]*[^\s*]\*(?![\w*]))"


def plain(_app: object, _what: str, _name: str, _thing: object, _how: object, lines: list) -> None:
    """Escape what docstrings, which are to be read as text, mean as it is: |x|, and n_features_."""
    text = re.sub(
        rf"({NO_TEXT})|{MARKS}",
        lambda found: found[0] if found[1] is not None else "\\" + found[0],
        "\n".join(lines),
        flags=re.DOTALL | re.MULTILINE,
    )
    lines[:] = text.split("\n")


def skipped(_app: object, _what: str, name: str, _thing: object, skip: bool, _how: object) -> bool:
    """Whether a member is left out: what scikit-learn makes for its routing of metadata, too."""
    return skip or re.fullmatch(r"set_\w+_request", name) is not None


def make_pages(*_: object) -> None:
    """Write the pages that are made from the code."""
    shutil.rmtree(MADE, ignore_errors=True)
    (MADE / "examples").mkdir(parents=True)
    (MADE / "api.rst").write_text(api_page())
    for path in sorted((ROOT / "examples").glob("[a-z]*.py")):
        (MADE / "examples" / f"{path.stem}.rst").write_text(example_page(path))


def setup(app: object) -> None:
    """Tell Sphinx to have the pages made first."""
    app.connect("config-inited", make_pages)
    app.connect("autodoc-skip-member", skipped)
    app.connect("autodoc-process-docstring", plain, priority=900)  # numpydoc is done then
