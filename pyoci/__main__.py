"""`python3 -I -m pyoci`: the same code under an ordinary Python."""

import sys


def main() -> int:
    """Run the command line; the exit status."""
    import posix

    if not sys.flags.isolated and posix.geteuid() == 0:
        posix.write(2, b"pyoci: cannot run as root without isolation: use `python3 -I -m pyoci`\n")
        return 1
    from pyoci import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
