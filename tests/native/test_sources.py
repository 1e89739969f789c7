"""The native sources: they declare nothing that they do not use, and compile without warnings."""

import re
import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "pyoci/_native.pyx", *sorted((ROOT / "pyoci/native").rglob("*.pxi"))]
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]  # those of setup.py


def code_of(path: Path) -> str:
    """The text of a native source without comments and docstrings; C code in a string stays."""
    text = re.sub(r"#(?! ?(?:include|define|ifn?def|if|elif|else|endif)\b).*", "", path.read_text())
    return re.sub(r'((?:nogil|\)|:)\s*:\n\s*)""".*?"""', r"\1", text, flags=re.DOTALL)


def unused(names: "set[str]", text: str) -> "set[str]":
    """Names that occur only once: where they are declared."""
    return {name for name in names if len(re.findall(rf"\b{name}\b", text)) < 2}


def test_every_native_function_and_struct_is_used() -> None:
    """Native code uses each `cdef` function and struct; the product calls each `def` function."""
    native = "\n".join(map(code_of, SOURCES))
    python = "\n".join(path.read_text() for path in (ROOT / "pyoci").rglob("*.py"))
    inner = set(re.findall(r"^cdef [\w* ]*?\b(\w+)\(", native, re.MULTILINE)) - {"pyoci_helper"}  # libc.c calls it
    outer = set(re.findall(r"^def (\w+)\(", native, re.MULTILINE))
    assert len(inner) > 100
    assert len(outer) > 30
    structs = set(re.findall(r"^cdef struct (\w+)", native, re.MULTILINE))
    assert set() == unused(inner | structs, native)
    assert set() == {name for name in outer if not re.search(rf"\b{name}\b", python)}


def test_every_declaration_is_used() -> None:
    """What linux.pxi declares of the kernel and the C library occurs somewhere else."""
    native = "\n".join(map(code_of, SOURCES))
    declarations = re.sub(r'""".*?"""', "", code_of(ROOT / "pyoci/native/linux.pxi"), flags=re.DOTALL)
    functions = set(re.findall(r"^    [\w* ]*?\b(\w+)\(.*nogil$", declarations, re.MULTILINE))
    constants = set(re.findall(r"\b(?:[A-Z]+_?[A-Z0-9_]{2,}|SYS_\w+)\b", declarations))
    assert len(functions) > 40
    assert len(constants) > 100
    assert set() == unused(functions | constants, native)


def test_the_extension_compiles_without_warnings(tmp_path: Path) -> None:
    """The build's own warnings, as errors."""
    source = ROOT / "pyoci/_native.c"
    include = sysconfig.get_path("include")
    command = ["cc", "-O2", *WARNINGS, "-Werror", "-I", include, "-c", source, "-o", tmp_path / "native.o"]
    subprocess.run(command, check=True)


def test_files_have_at_most_600_lines() -> None:
    """A reader can take in one file. It skips generated files."""
    paths = [*SOURCES, *sorted((ROOT / "pyoci/executable").glob("*.[ch]"))]
    long = {path.name for path in paths if len(path.read_text().splitlines()) > 600}
    assert long <= {"_verbs.pxi"}
