"""The layers of docs/design.md: an arrow only ever points down, and the pure layers do no I/O."""

import ast
import graphlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.executable import freeze

PACKAGE = Path(__file__).resolve().parents[2] / "pyoci"

PURE = ("config", "compiler")
PURE_FILES = (
    "cgroups/resources.py",
    "cgroups/device_filter.py",
    "cgroups/units.py",
    "cgroups/gvariant.py",
    "dbus/wire.py",
    "criu/cgroups.py",
    "criu/confinement.py",
    "criu/credentials.py",
    "criu/images.py",
    "criu/messages.py",
    "criu/remaps.py",
    "criu/shape.py",
    "criu/explain.py",
    "criu/pagemap.py",
    "criu/propagation.py",
    "criu/unsupported.py",
    "criu/wire.py",
    "criu/rpc.py",
    "mountinfo.py",
)

# What the pure layers may import besides each other: what works on values. Of the extension that is the JSON reader.
PURE_MODULES = {
    "pyoci.errors",
    "pyoci.linux",
    "pyoci.mountinfo",
    "pyoci.pointer",
    "pyoci.ranges",
    "pyoci.version",
    "pyoci._native",
    "sys",
    "math",
    "itertools",
    "re",
    "_struct",
}
PURE_NATIVE = {"json_loads", "json_dumps", "admits_setup", "encode", "count_pages"}
# Built-ins that reach outside, or run what was not written here.
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


def modules(*folders: str) -> list[str]:
    """The files of these directories, relative to the package."""
    files = [file for folder in folders for file in sorted((PACKAGE / folder).glob("*.py"))]
    return [str(file.relative_to(PACKAGE)) for file in files]


def imports(file: str, *, typing: bool = False) -> Iterator[tuple[str, int]]:
    """Yield every module that `file` imports at run time, with its line; with `typing` for type checkers too."""
    tree = ast.parse((PACKAGE / file).read_text())
    typing_only = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in typing_only and not typing:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if is_module(full) else str(node.module)), node.lineno


def is_module(name: str) -> bool:
    """Whether `name` is a module of the package."""
    path = PACKAGE.parent / name.replace(".", "/")
    return (path / "__init__.py").exists() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyx"))


@pytest.mark.parametrize("file", [*modules(*PURE), *PURE_FILES])
def test_pure(file: str) -> None:
    """config/, compiler/ and the pure halves of cgroups/ import nothing that does I/O, and call nothing that does."""
    pure = (file.removesuffix(".py").replace("/", ".") for file in PURE_FILES)
    allowed = tuple(f"pyoci.{name}" for name in (*PURE, *pure))

    wrong = [
        f"line {line}: {name}"
        for name, line in imports(file)
        if name not in {*PURE_MODULES, "pyoci.cgroups", "pyoci.dbus"} and not name.startswith(allowed)
    ]
    calls = [
        f"line {node.lineno}: {node.func.id}()"
        for node in ast.walk(ast.parse((PACKAGE / file).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
    ]

    assert [] == wrong + calls


WINGS = ("cgroups", "cli", "compiler", "config", "criu", "dbus", "executable", "host", "parent")
# The Python API runs in a program of its own, never in the executable.
LIBRARY = ("client", "testing")
ALL = modules(".", *WINGS)


@pytest.mark.parametrize("file", modules("cgroups"))
def test_cgroups(file: str) -> None:
    """cgroups/ stands on errors, the extension and a bus alone: it knows no container."""
    beneath = (
        "pyoci.errors",
        "pyoci.linux",
        "pyoci.mountinfo",
        "pyoci.pointer",
        "pyoci.ranges",
        "pyoci._native",
        "pyoci.host.files",
        "pyoci.dbus.connection",
        "pyoci.dbus.wire",
        "pyoci.cgroups",
    )
    ours = {name for name, _line in imports(file) if name.startswith("pyoci")}

    assert set() == {name for name in ours if not name.startswith(beneath)}


ENTRANCES = ("cli/", "executable/", "__main__")


@pytest.mark.parametrize("file", [file for file in [*ALL, *modules(*LIBRARY)] if not file.startswith(ENTRANCES)])
def test_nothing_below_imports_the_command_line(file: str) -> None:
    """Only the entry points import cli/, and that holds for type checkers too."""
    above = [f"line {line}: {name}" for name, line in imports(file, typing=True) if f"{name}.".startswith("pyoci.cli.")]

    assert [] == above


@pytest.mark.parametrize("file", [file for file in ALL if file != "__init__.py"])
def test_the_runtime_does_not_import_the_python_api(file: str) -> None:
    """The API drives the executable, so nothing in the executable needs it."""
    api = tuple(f"pyoci.{wing}" for wing in LIBRARY)
    above = [f"line {line}: {name}" for name, line in imports(file, typing=True) if name.startswith(api)]

    assert [] == above


def test_imports_have_no_circle() -> None:
    """No module imports itself through others, at run time or for type checkers."""
    graph = {}
    for file in [*ALL, *modules(*LIBRARY)]:
        name = f"pyoci.{file.removesuffix('.py').replace('/', '.')}".removesuffix(".__init__")
        graph[name] = {other for other, _line in imports(file, typing=True) if other != name and is_module(other)}

    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("file", modules(*PURE))
def test_pure_natives(file: str) -> None:
    """Of the extension the pure layers use the JSON reader and writer, no system call."""
    tree = ast.parse((PACKAGE / file).read_text())
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "pyoci._native"
        for alias in node.names
    }
    names |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_native"
    }

    assert set() == names - PURE_NATIVE


# What runs at build time or under an ordinary Python only.
CORE = {"_frozen_importlib", "_frozen_importlib_external", "_pyoci_executable"}
OUTSIDE = {*(f"executable/{name}.py" for name in ("freeze", "image", "layout", "start")), "__main__.py", "types.py"}


@pytest.mark.parametrize("file", [file for file in ALL if file not in OUTSIDE])
def test_typing_is_not_imported(file: str) -> None:
    """Annotations cost nothing at run time: `typing` and its like stand under TYPE_CHECKING."""
    unwanted = {"typing", "dataclasses", "enum", "collections.abc", "types", "pathlib", "logging", "argparse", "pickle"}

    assert [] == [f"line {line}: {name}" for name, line in imports(file) if name in unwanted]


@pytest.mark.parametrize("package", ["re", "collections"])
def test_frozen_packages_are_whole(package: str) -> None:
    """A module of a frozen package is never found in a file: other libraries may want it."""
    folder = Path(sysconfig.get_path("stdlib"), package)
    names = {f"{package}.{file.stem}" for file in folder.glob("*.py")} - {f"{package}.__init__"}

    assert names == {name for name in freeze.REGULAR_EXPRESSIONS if name.startswith(f"{package}.")}


@pytest.mark.parametrize("file", [file for file in ALL if file not in OUTSIDE])
def test_modules_are_in_the_executable(file: str) -> None:
    """Every import, on cold paths too, is of a module that is built in or frozen: no Python has to be installed."""
    inside = {*freeze.BUILT_IN, *freeze.IMPORTED, *CORE, *freeze.REGULAR_EXPRESSIONS}
    missing = {(file, name) for name, _line in imports(file) if not name.startswith("pyoci") and name not in inside}

    assert set() == missing
