"""Builds the extension `pyoci._native` and, as the script `pyoci`, the executable with the package frozen in.

It also installs manual pages, completion and documentation (tools/share). Everything else about the project stands in
pyproject.toml.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

# isort: split
from distutils.command.build_scripts import build_scripts  # brought by setuptools where Python has it no more
from distutils.command.install_data import install_data

MACHINES = ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x")
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(
        "cannot build pyoci: this is a free-threaded Python, which pyoci does not support "
        "(hint: use an ordinary Python 3.11, 3.12, 3.13 or 3.14)"
    )
if os.uname().machine not in MACHINES:
    sys.exit(f"cannot build pyoci: {os.uname().machine} is not supported (hint: use {', '.join(MACHINES)})")

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))
from pyoci.executable import freeze  # noqa: E402

# native/_verbs.pxi has to be there when Cython looks for what the extension includes
subprocess.run([sys.executable, "tools/gen_verbs.py"], cwd=ROOT, check=True)

FLAGS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
NATIVE = Extension(
    "pyoci._native",
    ["pyoci/_native.pyx", "pyoci/native/helper/embed.c"],
    define_macros=[("PYOCI_HELPER", f'"{freeze.HELPER}"')],
    depends=[str(path) for path in (*(ROOT / "pyoci").rglob("*.px[id]"), *(ROOT / "pyoci/native/helper").iterdir())],
    extra_compile_args=[*FLAGS, *freeze.EXTENSION],
    extra_link_args=[*freeze.SAFE_LINKING, "-s"],  # symbols would name the directory of the build
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
    """Generates the validator and the types from specs/, then copies the package."""

    def run(self) -> None:
        for tool in ("tools/gen_validator.py", "tools/gen_types.py"):
            subprocess.run([sys.executable, tool], cwd=ROOT, check=True)
        super().run()


class BuildExt(build_ext):
    """Links the helper first, because the extension contains it."""

    def run(self) -> None:
        freeze.build_helper(Path(self.build_temp))
        super().run()


class BuildScripts(build_scripts):
    """Builds the executable in place of the script `pyoci`."""

    def run(self) -> None:
        self.run_command("build_py")
        self.run_command("build_ext")
        self.mkpath(self.build_dir)
        output = Path(self.build_dir, "pyoci")
        temp = Path(self.get_finalized_command("build").build_temp, "executable")
        try:
            print(f"pyoci embeds {freeze.build(output, temp)}")
        except freeze.NoLibpython as reason:
            print(f"pyoci will be a script, since Python can't be embedded: {reason}")
            freeze.write_script(output)

    def get_source_files(self) -> list[str]:
        return []


class InstallData(install_data):
    """Installs below `share` what tools/share writes."""

    def run(self) -> None:
        share = Path(self.get_finalized_command("build").build_temp, "share").resolve()
        shutil.rmtree(share, ignore_errors=True)  # of an earlier version
        subprocess.run([sys.executable, "tools/share", share], cwd=ROOT, check=True)
        self._write_licences(share / "doc/pyoci/licences")
        directories: dict[str, list[str]] = {}
        for file in sorted(path for path in share.rglob("*") if path.is_file()):
            directories.setdefault(f"share/{file.parent.relative_to(share)}", []).append(str(file))
        self.data_files = [*directories.items()]
        super().run()

    def _write_licences(self, directory: Path) -> None:
        """Write the licences of what the executable contains, which a distributor passes on. Only Debian has them."""
        trace = Path(self.get_finalized_command("build").build_temp, "executable", freeze.LINKED).resolve()
        if not trace.exists() or not shutil.which("dpkg-query"):
            return
        listed = subprocess.run([sys.executable, "tools/linked", trace], cwd=ROOT, capture_output=True, check=False)
        if listed.returncode:
            print(f"pyoci has no licences of what is linked: {listed.stderr.decode().strip()}")
            return
        subprocess.run([sys.executable, "tools/licences.py", directory], cwd=ROOT, input=listed.stdout, check=True)


setup(
    ext_modules=[*cythonize([NATIVE], compiler_directives=DIRECTIVES)],
    scripts=["pyoci"],
    data_files=[("share", [])],  # InstallData finds the files
    cmdclass={"build_py": BuildPy, "build_ext": BuildExt, "build_scripts": BuildScripts, "install_data": InstallData},
)
