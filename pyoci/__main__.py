"""Entry point of `python3 -m pyoci`, which runs the command line without the executable.

This module does what main.c does in the executable.
"""

import posix
import sys

# Imports pyoci in isolated mode. The first argument is where another process has found it.
ISOLATED = """
import sys
place = sys.argv.pop(1)
try:
    from pyoci import __main__ as entry
except ModuleNotFoundError:
    entry = None
if entry is None or entry.__file__.rpartition("/")[0] != place:
    sys.exit(f"pyoci: cannot run {place} as root: the environment or the working directory says where it is "
             "(hint: install pyoci, or run build/pyoci of a checkout)")
sys.exit(entry.main())
"""


def main() -> int:
    """Run the command line and return the exit status."""
    try:
        _prepare()
    except (ImportError, OSError) as error:
        posix.write(2, f"pyoci: {error}\n".encode("utf-8", "surrogateescape"))
        return 1
    from pyoci import cli

    return cli.main(sys.argv[1:])


def _prepare() -> None:
    """Open closed standard descriptors on /dev/null, and check where modules come from.

    As root, begin again in isolated mode: the environment and the working directory must not say what is imported.
    Raises ImportError, OSError.
    """
    from pyoci.executable import check_trusted

    for fd in range(3):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)
    if not sys.flags.isolated and posix.geteuid() == 0:
        package = __file__.rpartition("/")[0]
        posix.execv(sys.executable, [sys.executable, "-I", "-c", ISOLATED, package, *sys.argv[1:]])
    for directory in sys.path:
        check_trusted(directory)
    try:
        import pyoci._native  # noqa: F401 - before any module that can't report its absence
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        hint = f"in a checkout, run tools/build with PYTHON={sys.executable}"
        raise ImportError(f"cannot import the extension for Python {version}: {error} (hint: {hint})") from error


if __name__ == "__main__":
    sys.exit(main())
