"""Builds the one compiled module: baseline C files, and kernels.c once per instruction set."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMMON = ["-O3", "-std=c11", "-fvisibility=hidden", "-g0", "-fno-math-errno", "-fno-trapping-math",
          "-ffp-contract=off", "-fopenmp-simd", "-Wall", "-Wextra"]
LEVELS = {
    "base": [],
    "avx2": ["-mavx2"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"],
}
BASELINE = ["dispatch", "parallel", "blocks", "dense", "hogwild", "svmlight"]


class BuildExt(build_ext):
    def build_extension(self, ext):
        macros = [(f"FO_HAVE_{level.upper()}", "1") for level in LEVELS]
        objects = []
        for level, flags in LEVELS.items():
            objects += self.compiler.compile(
                ["csrc/kernels.c"], output_dir=os.path.join(self.build_temp, level),
                include_dirs=["csrc"], macros=[("FO_ISA", level)], extra_postargs=COMMON + flags,
                depends=ext.depends)
        objects += self.compiler.compile(
            [f"csrc/{name}.c" for name in BASELINE if os.path.exists(f"csrc/{name}.c")],
            output_dir=self.build_temp, include_dirs=["csrc"],
            macros=macros, extra_postargs=COMMON + ["-fopenmp"], depends=ext.depends)
        ext.extra_objects = objects
        ext.extra_link_args = ["-fopenmp"]
        super().build_extension(ext)


depends = [f"csrc/{name}" for name in sorted(os.listdir("csrc"))]
extension = Extension("fastopt._core", ["fastopt/_core.pyx"], include_dirs=["csrc"], depends=depends,
                      extra_compile_args=["-g0", "-fvisibility=hidden"])
setup(cmdclass={"build_ext": BuildExt}, ext_modules=cythonize([extension]))
