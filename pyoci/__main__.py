"""`python3 -I -m pyoci`: the same code under an ordinary Python, which does here what main.c does there."""

import os
import posix
import sys


def main() -> int:
    """Run the command line; the exit status."""
    try:
        _prepare()
    except (ImportError, OSError) as error:
        posix.write(2, f"pyoci: {error}\n".encode("utf-8", "surrogateescape"))
        return 1
    from pyoci import cli

    return cli.main(sys.argv[1:])


def _prepare() -> None:
    """What has to hold before any other code runs. Does not return where the interpreter is executed again."""
    from pyoci.executable import ENTERS_CONTAINER, _protect, check_trusted

    _protect.fill_standard_descriptors()
    if not sys.flags.isolated and posix.geteuid() == 0:
        raise ImportError("cannot run as root where the environment says what is imported: use `python3 -I -m pyoci`")
    for directory in sys.path:
        check_trusted(directory)
    if any(argument in ENTERS_CONTAINER for argument in sys.argv[1:]):
        # argv[0] must lead to the interpreter: the protected copy finds the standard library by it
        arguments = [sys.executable, *sys.orig_argv[1:]]
        _protect.protect([os.fsencode(argument) for argument in arguments])


if __name__ == "__main__":
    sys.exit(main())
