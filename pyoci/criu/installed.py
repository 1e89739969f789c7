"""Whether CRIU is installed. `--version` reports it, so this module imports next to nothing."""

import posix

from pyoci.compiler.paths import SYSTEM_DIRECTORIES
from pyoci.linux import S_IFMT, S_IFREG


def is_available(given: str = "") -> bool:
    """Whether there is a criu that could be executed: the `given` one, or any. Needs no privileges."""
    return any(_is_program(path) for path in ([given] if given else [f"{each}/criu" for each in SYSTEM_DIRECTORIES]))


def _is_program(path: str) -> bool:
    try:
        mode = posix.stat(path).st_mode
    except OSError:
        return False
    return mode & S_IFMT == S_IFREG and bool(mode & 0o111)
