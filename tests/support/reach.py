"""Files that another user needs, where every user can reach them: a checkout below /root is root's alone."""

import contextlib
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


def is_reachable(path: Path) -> bool:
    """Whether every user may enter all directories on the way to `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[Path]:
    """`path`, or else a copy of this file that every user can reach, for as long as the context lasts."""
    if is_reachable(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="pyoci-tests-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(shutil.copy(path, folder))
