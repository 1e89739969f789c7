"""Builds the extension `pyoci._native` and, as the script `pyoci`, the executable with the package frozen in.

Everything else about the project stands in pyproject.toml.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py  # isort: split

from distutils.command.build_scripts import build_scripts  # setuptools brings it, also to Python 3.12


ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "pyoci" / "launcher"))
import freeze  # noqa: E402

EXTENSION = Extension(
    "pyoci._native",
    ["pyoci/_native.pyx"],
    depends=[str(path) for path in (ROOT / "pyoci").glob("*.px[id]")],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fno-strict-aliasing"],
    define_macros=[("_GNU_SOURCE", "1")],
)
DIRECTIVES = {
    "language_level": 3,
    "binding": False,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}


class BuildPy(build_py):
    """Copies the package; first generates the validator from specs/, which goes along."""

    def run(self) -> None:
        subprocess.run([sys.executable, "tools/gen_validator.py"], cwd=ROOT, check=True)
        super().run()
        if not self.editable_mode:
            shutil.copytree(ROOT / "specs", Path(self.build_lib, "pyoci", "specs"), dirs_exist_ok=True)


class BuildScripts(build_scripts):
    """Builds the executable in place of the script `pyoci`."""

    def run(self) -> None:
        self.run_command("build_py")
        self.run_command("build_ext")
        Path(self.build_dir).mkdir(parents=True, exist_ok=True)
        output = Path(self.build_dir, "pyoci")
        print(f"pyoci: {freeze.build_or_fall_back(output, Path(self.build_dir, 'launcher.tmp'))}")
        shutil.rmtree(Path(self.build_dir, "launcher.tmp"))

    def get_source_files(self) -> list[str]:
        return []


setup(
    ext_modules=cythonize([EXTENSION], compiler_directives=DIRECTIVES),
    scripts=["pyoci"],
    cmdclass={"build_py": BuildPy, "build_ext": build_ext, "build_scripts": BuildScripts},
)
