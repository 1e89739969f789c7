"""Entry point of `python3 -I -m pyoci`, which runs the command line without the executable.

This module does what main.c does in the executable.
"""

import os
import posix
import sys


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
    """Check where modules come from, and protect the interpreter from the container.

    For a command that enters a container this executes a protected copy of the interpreter, and does not return.
    Raises ImportError, OSError.
    """
    from pyoci.executable import ENTERS_CONTAINER, _protect, check_trusted

    _protect.fill_standard_descriptors()
    if not sys.flags.isolated and posix.geteuid() == 0:
        raise ImportError("cannot run as root where the environment says what is imported: use `python3 -I -m pyoci`")
    for directory in sys.path:
        check_trusted(directory)
    if any(argument in ENTERS_CONTAINER for argument in sys.argv[1:]):
        # The protected copy finds the standard library by argv[0], so that must be the interpreter's path.
        arguments = [sys.executable, *sys.orig_argv[1:]]
        _protect.protect([os.fsencode(argument) for argument in arguments])


if __name__ == "__main__":
    sys.exit(main())
