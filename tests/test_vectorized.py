"""Every loop over elements vectorizes on every instruction set: the compiler says so.

kernels.c is preprocessed and laid out one statement to a line, so that each loop of each rule and
type has a line of its own, then compiled with the build's own flags; the compiler's report must
name every loop marked `omp simd`, with the whole width of the instruction set.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastopt import _buildinfo

CSRC = Path(__file__).resolve().parent.parent / "csrc"
BYTES = {"base": 16, "avx2": 32, "avx512": 64}
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]

pytestmark = [
    pytest.mark.skipif(not CSRC.is_dir(), reason="no C sources here"),
    pytest.mark.skipif(not _buildinfo.flags.startswith("-"), reason="built by another compiler"),
    pytest.mark.skipif(not COMPILERS, reason="no gcc or clang here"),
]


def expand(compiler, folder, isa, output):
    """Write kernels.c without macros, one statement to a line; return that text's lines."""
    command = [compiler, *_buildinfo.flags.split(), *_buildinfo.levels[isa].split()]
    command += [f"-DFO_ISA={isa}", "-E", "-P", str(folder / "kernels.c")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"([;{}])", r"\1\n", text)
    output.write_text(text)
    return text.split("\n")


def simd_loops(lines):
    """Return {line number of a loop: function it is in} for all loops marked `omp simd`."""
    loops, function = {}, None
    for number, line in enumerate(lines, 1):
        head = re.match(r"static .*?\b(\w+)\((?:ptrdiff_t n|uint32_t key), ", line.strip())
        function = head[1] if head else function
        if line.strip().startswith("#pragma omp simd"):
            start = next(k for k in range(number, number + 3) if "for (" in lines[k])
            loops[start + 1] = function
    return loops


def vectorized(compiler, isa, source, *flags):
    """Return {line: widest vector} from the compiler's report, in bytes (gcc) or items (clang)."""
    report = "-fopt-info-vec-optimized" if compiler == "gcc" else "-Rpass=loop-vectorize"
    command = [compiler, *_buildinfo.flags.split(), *_buildinfo.levels[isa].split(), report]
    if compiler == "gcc":
        command.append("-fno-ipa-icf")  # or of two rules with the same loop only one is compiled
    command += [*flags, "-c", str(source), "-o", str(source.with_suffix(".o"))]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    widths = {}
    pattern = r":(\d+):\d+: .*?vectorized (?:loop )?(?:using|\(vectorization width:) (\d+)"
    for line, width in re.findall(pattern, result.stderr):
        widths[int(line)] = max(int(width), widths.get(int(line), 0))
    return widths


def slow_loops(compiler, isa, folder, tmp_path, *flags):
    """Return all loops marked `omp simd`, and those that are not vectorized at full width."""
    source = tmp_path / "kernels.i"
    loops = simd_loops(expand(compiler, folder, isa, source))
    widths = vectorized(compiler, isa, source, *flags)
    slow = []
    for start, function in loops.items():
        if compiler == "clang" and function.startswith("reduce"):
            continue  # it unrolls the sixteen lanes before it vectorizes, and reports no width
        # A loop's place is its pragma in clang, one of the first lines of its body in gcc, which
        # reports at the pragma how it adds up the lanes of a sum.
        first = start if compiler == "gcc" else start - 1
        width = max(widths.get(line, 0) for line in range(first, start + 7))
        if compiler == "clang":
            width *= 4 if function.endswith("f32") else 8
        if width < BYTES[isa]:
            slow.append(f"{function}: {width} of {BYTES[isa]} bytes")
    return list(loops.values()), slow


def declared():
    """Return the loops there must be: each rule with and without its prelude, each reduction."""
    rules = re.findall(r"^RULE\((\w+),", (CSRC / "rules.inc").read_text(), re.M)
    reductions = re.findall(r"^REDUCTION\((\w+),", (CSRC / "reductions.inc").read_text(), re.M)
    assert {"sgd", "adam"} <= set(rules) and "reduce_dot" in reductions
    return sorted(
        [f"{rule}_dense_{t}" for rule in rules for t in ("f32", "f64") for _ in range(2)]
        + [f"{reduction}_{t}" for reduction in reductions for t in ("f32", "f64")]
    )


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("isa", sorted(_buildinfo.levels))
def test_every_loop_vectorizes(compiler, isa, tmp_path):
    found, slow = slow_loops(compiler, isa, CSRC, tmp_path)
    assert not set(declared()) - set(found), "loops that are not marked `omp simd`"
    assert all(found.count(loop) >= declared().count(loop) for loop in found)
    assert slow == []


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_loop_that_does_not_is_named(compiler, tmp_path):
    copy = tmp_path / "csrc"
    shutil.copytree(CSRC, copy)
    text = (copy / "rules.inc").read_text()
    bad = {
        "rmsprop": "for (T x = g; x > 1; x /= 2) w[i] -= x;",
        "adadelta": "w[i] += (T)lgamma((double)g);",
    }
    for rule, line in bad.items():
        text = re.sub(rf"(RULE\({rule},.*\{{\n)", rf"\1    {line}\n", text)
    (copy / "rules.inc").write_text(text)
    isa = "avx2" if "avx2" in _buildinfo.levels else "base"
    # gcc would split the loop, and vectorize the half that counts what is not finite
    whole = ["-fno-tree-loop-distribution"] if compiler == "gcc" else []
    _, slow = slow_loops(compiler, isa, copy, tmp_path, *whole)
    named = {loop.split(":")[0] for loop in slow}
    assert named >= {f"{rule}_dense_{t}" for rule in bad for t in ("f32", "f64")}
    assert all(loop.startswith(tuple(bad)) for loop in slow)
