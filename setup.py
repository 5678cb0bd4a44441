"""Builds the one compiled module: kernels.c once per instruction set, the rest for the baseline.

Environment switches, each for one build:
  FASTOPT_NO_OPENMP=1                        leave OpenMP out, whatever the compiler has
  FASTOPT_ABI3=1                             one binary for CPython 3.11 and later (the limited API)
  FASTOPT_SANITIZE=address,undefined|thread  the compiler's sanitizers
  FASTOPT_WERROR=1                           warnings in csrc/ are errors
"""

import os
import shutil
import subprocess
import sys
import sysconfig

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

APT_LINE = "sudo apt-get install -y gcc make python3-dev python3-venv"
GNU_FLAGS = [
    "-std=c11",
    "-O3",
    "-g0",  # some Pythons ask for -g: ten times the size
    "-fvisibility=hidden",  # the module's one public symbol is its init function
    "-fno-math-errno",  # nobody reads errno after sqrt, and setting it stops vectorization
    "-fno-trapping-math",  # nobody traps floating-point exceptions: ?: may become a select
    "-ffp-contract=off",  # no fused multiply-add: the same bits on every instruction set
    "-fopenmp-simd",  # `omp simd` says that iterations are independent; starts no threads
    "-Wall",
    "-Wextra",
]
MSVC_FLAGS = [
    "/O2",
    "/std:c11",
    "/experimental:c11atomics",
    "/Zc:preprocessor",  # __VA_OPT__
    "/fp:precise",  # as -ffp-contract=off
]
# Single features, as the run-time test in dispatch.c asks for them. -mfma is left out on purpose.
GNU_LEVELS = {
    "base": [],
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"],
}
MSVC_LEVELS = {"base": [], "avx2": ["/arch:AVX2"], "avx512": ["/arch:AVX512"]}
X86_64_PROBE = """
#if !defined(__x86_64__) && !defined(_M_X64)
#error these levels exist on x86-64 only
#endif
int main(void) { return 0; }
"""
OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


def switch(name):
    return os.environ.get(name, "") not in ("", "0")


ABI3 = switch("FASTOPT_ABI3")
SANITIZE = os.environ.get("FASTOPT_SANITIZE", "")


class BuildExt(build_ext):
    """build_ext with flags per file, and a record of what it did in fastopt/_buildinfo.py."""

    def run(self):
        if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
            raise SystemExit(f"error: Python.h is missing. On Debian or Ubuntu: {APT_LINE}")
        self.force = True  # a switch may have changed; no time stamp shows that
        super().run()
        with open(self.info_path(), "w", encoding="utf-8") as file:
            file.write('"""How fastopt._core was built. Written by setup.py."""\n\n')
            file.writelines(f"{name} = {value!r}\n" for name, value in self.info.items())

    def build_extension(self, ext):
        msvc = self.compiler.compiler_type == "msvc"
        if not msvc and not shutil.which(self.compiler.compiler_so[0]):
            raise SystemExit(f"error: no C compiler. On Debian or Ubuntu: {APT_LINE}")
        common = MSVC_FLAGS if msvc else GNU_FLAGS
        levels = MSVC_LEVELS if msvc else GNU_LEVELS
        levels = {k: v for k, v in levels.items() if k == "base" or self.works(X86_64_PROBE, v)}
        openmp, compile_openmp, link_openmp = self.find_openmp(msvc)
        sanitize = []
        if SANITIZE:
            sanitize = [f"-fsanitize={SANITIZE}", "-DFO_SANITIZE", "-g", "-fno-omit-frame-pointer"]
        werror = ["/WX" if msvc else "-Werror"] if switch("FASTOPT_WERROR") else []

        def compile_c(names, folder, flags, macros):
            return self.compiler.compile(
                [f"csrc/{name}" for name in names],
                output_dir=os.path.join(self.build_temp, folder),
                include_dirs=["csrc"],
                macros=macros,
                extra_postargs=common + flags + sanitize + werror,
            )

        baseline = sorted(n for n in os.listdir("csrc") if n.endswith(".c") and n != "kernels.c")
        have = [(f"FO_HAVE_{level.upper()}", "1") for level in levels]
        objects = compile_c(baseline, "baseline", compile_openmp, have)
        for level, flags in levels.items():
            objects += compile_c(["kernels.c"], level, flags, [("FO_ISA", level)])
        ext.extra_objects = objects
        quiet = ["-g0", "-fvisibility=hidden", "-ffp-contract=off"]  # as above
        ext.extra_compile_args = sanitize if msvc else quiet + sanitize
        ext.extra_link_args = link_openmp + sanitize
        super().build_extension(ext)

        self.info = {
            "compiler": self.compiler_version(),
            "flags": " ".join(common),
            "levels": {level: " ".join(flags) for level, flags in levels.items()},
            "openmp": openmp,
            "abi3": ABI3,
            "sanitize": SANITIZE,
        }

    def info_path(self):
        """Beside the module: in the build folder, or in the source tree when built in place."""
        folder = os.path.dirname(self.get_ext_fullpath("fastopt._core"))
        return os.path.join(folder, "_buildinfo.py")

    def get_outputs(self):
        return [*super().get_outputs(), self.info_path()]

    def works(self, program, flags, link_flags=()):
        """Return whether a program compiles and links with these flags."""
        folder = os.path.join(self.build_temp, "probe")
        os.makedirs(folder, exist_ok=True)
        source = os.path.join(folder, "probe.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write(program)
        try:
            objects = self.compiler.compile([source], output_dir=folder, extra_postargs=list(flags))
            self.compiler.link_executable(
                objects, "probe", output_dir=folder, extra_postargs=list(link_flags)
            )
        except Exception:  # every compiler class has its own errors
            return False
        return True

    def find_openmp(self, msvc):
        """Return what OpenMP there is, its compile flags and its link flags."""
        kind, ways = "gomp", [(["-fopenmp"], ["-fopenmp"])]
        if msvc:
            kind, ways = "msvc", [(["/openmp"], [])]
        elif sys.platform == "darwin":  # Apple's clang needs Homebrew's libomp
            apple = ["-Xpreprocessor", "-fopenmp"]
            kind, ways = "omp", [(apple, ["-lomp"])]
            for root in ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp"):
                ways.append(([*apple, f"-I{root}/include"], [f"-L{root}/lib", "-lomp"]))
        elif "clang" in self.compiler_version():
            kind = "omp"
        for compile_flags, link_flags in () if switch("FASTOPT_NO_OPENMP") else ways:
            if self.works(OPENMP_PROBE, compile_flags, link_flags):
                return kind, compile_flags, link_flags
        return "none", [], []

    def compiler_version(self):
        if self.compiler.compiler_type == "msvc":
            return "MSVC"
        command = [*self.compiler.compiler_so, "--version"]
        return subprocess.run(command, capture_output=True, text=True).stdout.partition("\n")[0]


if __name__ == "__main__":
    extension = Extension("fastopt._core", ["fastopt/_core.pyx"], include_dirs=["csrc"])
    options = {}
    if ABI3:
        extension.py_limited_api = True
        extension.define_macros = [("Py_LIMITED_API", "0x030B0000")]
        options = {"bdist_wheel": {"py_limited_api": "cp311"}}
    setup(cmdclass={"build_ext": BuildExt}, ext_modules=cythonize([extension]), options=options)
