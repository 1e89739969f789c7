"""tools/build says what it lacks: one line, before it makes anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "tools" / "build"
REQUIREMENTS = {"Cython": "Cython>=3", "setuptools": "setuptools>=77"}


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python that knows the standard library and the modules in the directory `libraries`: Cython and setuptools, at
    first.
    """
    libraries = tmp_path / "libraries"
    for name, version in (("Cython", "3.1.2"), ("setuptools", "80.0.0")):
        (libraries / name).mkdir(parents=True)
        (libraries / name / "__init__.py").write_text(f"__version__ = '{version}'\n")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec env PYTHONPATH={libraries} {sys.executable} -S "$@"\n')
    program.chmod(0o755)
    return program


def build(python: Path | str, **environment: str) -> str:
    """What tools/build says, which fails."""
    done = subprocess.run(
        [BUILD], capture_output=True, text=True, env={**os.environ, "PYTHON": str(python), **environment}, timeout=60
    )
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith("\n")
    return done.stderr.removesuffix("\n")


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_a_library_that_is_missing(python: Path, name: str) -> None:
    """The line names it, and how to get it."""
    (python.parent / "libraries" / name / "__init__.py").unlink()
    (python.parent / "libraries" / name).rmdir()

    assert (
        f"cannot build pyoci: {python} has no {name} "
        f"(hint: run ./test, which installs it, or {python} -m pip install '{REQUIREMENTS[name]}')" == build(python)
    )


@pytest.mark.parametrize(("name", "version"), [("Cython", "0.29.37"), ("setuptools", "66.1.1")])
def test_a_library_that_is_too_old(python: Path, name: str, version: str) -> None:
    """Debian 12 has these."""
    (python.parent / "libraries" / name / "__init__.py").write_text(f"__version__ = '{version}'\n")

    expected = f"{name} is too old (hint: {python} -m pip install '{REQUIREMENTS[name]}')"
    assert f"cannot build pyoci: {expected}" == build(python)


def test_no_compiler(python: Path) -> None:
    """What $CC names has to be there."""
    expected = "there is no C compiler no-such-cc (hint: apt-get install gcc libc6-dev, or set CC)"
    assert f"cannot build pyoci: {expected}" == build(python, CC="no-such-cc -O2")


def test_no_headers_of_the_c_library(python: Path) -> None:
    """A compiler alone is not enough."""
    expected = "false finds no headers of the C library (hint: apt-get install libc6-dev)"
    assert f"cannot build pyoci: {expected}" == build(python, CC="false")


def test_no_headers_of_python(python: Path) -> None:
    """Debian has them in a package of their own."""
    (python.parent / "libraries" / "sysconfig.py").write_text(
        "def get_path(name): return '/no/include'\ndef get_config_var(name): return None\n"
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    expected = f"{python} has no headers in /no/include (hint: apt-get install python{version}-dev)"
    assert f"cannot build pyoci: {expected}" == build(python)


def test_another_version_of_python(tmp_path: Path) -> None:
    """Marshalled code and the core are looked at for each version that is supported."""
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3.10\n")
    old.chmod(0o755)

    expected = f"{old} is Python 3.10 (hint: set PYTHON to a Python 3.11, 3.12, 3.13 or 3.14)"
    assert f"cannot build pyoci: {expected}" == build(old)


def test_a_free_threaded_python(python: Path) -> None:
    """The image and the start of the executable are made for an interpreter with its lock."""
    (python.parent / "libraries" / "sysconfig.py").write_text(
        "def get_config_var(name): return name == 'Py_GIL_DISABLED'\n"
    )

    expected = f"{python} is a free-threaded Python (hint: set PYTHON to an ordinary Python 3.11, 3.12, 3.13 or 3.14)"
    assert f"cannot build pyoci: {expected}" == build(python)


FREE_THREADED = """
import sysconfig
ask = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: name == "Py_GIL_DISABLED" or ask(name)
"""
M68K = """
import os
machine = os.uname_result((*os.uname()[:4], "m68k"))
os.uname = lambda: machine
"""
REFUSED = {
    FREE_THREADED: "this is a free-threaded Python, which pyoci does not support "
    "(hint: use an ordinary Python 3.11, 3.12, 3.13 or 3.14)",
    M68K: "m68k is not supported (hint: use x86_64, aarch64, riscv64, ppc64le, s390x)",
}


@pytest.mark.parametrize("kind", REFUSED, ids=["free-threaded", "m68k"])
def test_setup_refuses_what_it_cannot_build_for(kind: str) -> None:
    """pip shows the line. Nothing is compiled before."""
    program = f"{kind}\nimport runpy\nrunpy.run_path('setup.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], cwd=BUILD.parents[1], capture_output=True, text=True)

    assert (1, f"cannot build pyoci: {REFUSED[kind]}\n") == (done.returncode, done.stderr)


def test_no_python() -> None:
    """Not even that."""
    expected = "there is no /no/python (hint: apt-get install python3-dev, or set PYTHON)"
    assert f"cannot build pyoci: {expected}" == build("/no/python")
