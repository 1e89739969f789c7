"""The files of a release of this checkout, for tests. tools/release makes them once, in build/release/ARCH/files.

They are kept until a source changes. They have no wheels, which tests/support/pythons.py makes.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from tools import release_make, wheels

DIRECTORY = release_make.ROOT / "build/release"
NAME = release_make.name()


@functools.cache
def made(architecture: str = wheels.MACHINE) -> Path:
    """The directory with the files for an architecture."""
    directory = DIRECTORY / architecture
    directory.mkdir(parents=True, exist_ok=True)
    files, noted = directory / "files", directory / "sources"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = f"{_digest()} {release_make.commit()}"
        if not files.exists() or not noted.exists() or noted.read_text() != sources:
            shutil.rmtree(files, ignore_errors=True)
            unfinished = directory / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            release_make.make(unfinished, [architecture], with_wheels=False)
            unfinished.rename(files)
            noted.write_text(sources)
    return files


def unpacked(directory: Path) -> Path:
    """Unpack the archive below `directory`, and return the directory that it has: the future prefix."""
    shutil.unpack_archive(made() / f"{NAME}.tar.xz", directory)
    return directory / NAME


def _digest() -> str:
    """A sum of all sources."""
    constant = mock.patch.dict(os.environ, SOURCE_DATE_EPOCH=str(wheels.EARLIEST), PYOCI_COMMIT="")
    with constant, tempfile.TemporaryDirectory() as temporary:
        return hashlib.sha256(wheels.source_distribution(Path(temporary)).read_bytes()).hexdigest()
