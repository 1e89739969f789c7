"""The Python side of the `pyoci` executable (main.c).

The hot path runs on CPython's core: only modules that are built in or frozen into the executable. A static executable
has no others. Elsewhere, the first import of another module, such as `fcntl` in a file, finishes the initialisation of
Python. It then comes from the standard library, to which only root, or the user who runs pyoci, may be able to write.

An ordinary `python3 -I -m pyoci` has nothing to finish, and uses only `check_trusted`.
"""

import _frozen_importlib
import _imp
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# Commands that write to more of the image than others, and so populate its pages when they start (image.c).
POPULATING = ("create", "run", "exec")

# Modules that the image loads, with those that they import. They include all modules of every hot command
# (tests/native/test_image.py). Modules that an ordinary create needs come first, so they lie together.
PRELOADED = (
    "pyoci.cli",
    "pyoci.host.terminal",
    "pyoci.run",
    "pyoci.kill",
    "pyoci.listing",
    "pyoci.request",
    "pyoci.config._validator",
    "pyoci.config.checks",
    "pyoci.cgroups.device_filter",
    "pyoci.cgroups.device_program",
    "pyoci.host.hooks",
    "pyoci.cli.signals",
    "pyoci.exec",
    "pyoci.cgroups.systemd",
    "pyoci.cgroups.units",
)


def main(arguments: list[str]) -> int:
    """Run a command line and return its exit status. main.c calls it: the core has no `sys.argv`."""
    import _pyoci_executable

    sys.unraisablehook = _say_nothing
    _install_finder()
    if not _pyoci_executable.core_only:
        _complete()
    from pyoci import cli

    return cli.main(arguments)


def _say_nothing(_: object) -> None:
    """Drop errors that Python can't raise, such as a generator's lack of memory: a command's error is one line."""


def preload(directory: str) -> None:
    """Import and warm up the modules of the hot path, while the build makes the image (image.c).

    `directory` has a config.json.
    """
    import _pyoci_executable  # noqa: F401 - otherwise each process would import it

    _install_finder()
    for name in PRELOADED:
        if _imp.is_frozen(name):
            __import__(name)
    _rehearse("compile_known_filters", directory)
    _rehearse("warm_up", directory)


def rehearse_any(directory: str) -> None:
    """Do the work that all commands share, in a child of the survey (heap.c)."""
    _rehearse("any_command", directory)


def rehearse_create(directory: str) -> None:
    """Do the work of create, in the survey or in a process that began with the image (image.c)."""
    _rehearse("create", directory)


def _rehearse(part: str, directory: str) -> None:
    """Run one function of rehearsal.py. If it fails, the executable still works, but starts more slowly."""
    if not _imp.is_frozen("pyoci.executable.rehearsal"):  # a test may freeze another package
        return
    from pyoci.executable import rehearsal

    try:
        getattr(rehearsal, part)(directory, main)
    except Exception as error:  # noqa: BLE001 - such as a temporary directory without FIFOs or locks
        text = f"pyoci: cannot rehearse {part}, so the executable will be slower: {error!r}\n"
        posix.write(2, text.encode("utf-8", "backslashreplace"))


def _install_finder() -> None:
    if type(sys.meta_path[-1]) is not _LastFinder:
        sys.meta_path.append(_LastFinder())


class _LastFinder:
    """The last finder: a module that no other one finds needs more than the core of Python."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name == "pyoci._native":  # built in, but CPython 3.11 finds top-level names only
            return _frozen_importlib.BuiltinImporter.find_spec(name)
        if _is_static():
            return None
        sys.meta_path.remove(self)
        _complete()
        from _frozen_importlib_external import PathFinder  # `importlib.machinery` may not be installed

        return PathFinder.find_spec(name, path, target)


def _is_static() -> bool:
    """Whether this executable is static: all of its modules are in it, and it can't load extension modules."""
    import _pyoci_executable

    return bool(_pyoci_executable.static)


def _complete() -> None:
    """Finish the initialisation of Python. Raises ImportError if modules are missing or other users can write them."""
    import _pyoci_executable

    check_trusted(_pyoci_executable.stdlib)
    _pyoci_executable.complete()
    # the package is frozen, but most of its modules are not
    sys.modules["encodings"].__path__.append(f"{_pyoci_executable.stdlib}/encodings")


def check_trusted(directory: str) -> None:
    """Raise ImportError unless only root, or the user who runs pyoci, can put code into `directory`.

    Accepts a missing directory that no other user can create: nothing is imported from it.
    """
    from pyoci.host import trust

    try:
        trust.check(directory)
    except trust.Untrusted as error:
        raise ImportError(f"cannot import from {directory}: {error}") from None
