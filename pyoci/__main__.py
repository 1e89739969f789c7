"""Entry point of `python3 -I -m pyoci`, which runs the command line without the executable.

This module does what main.c does in the executable.
"""

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
    """Open closed standard descriptors on /dev/null, and check where modules come from.

    Raises ImportError, OSError.
    """
    from pyoci.executable import check_trusted

    for fd in range(3):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)
    if not sys.flags.isolated and posix.geteuid() == 0:
        raise ImportError("cannot run as root where the environment says what is imported: use `python3 -I -m pyoci`")
    for directory in sys.path:
        check_trusted(directory)


if __name__ == "__main__":
    sys.exit(main())
