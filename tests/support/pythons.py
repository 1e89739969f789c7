"""The distributions of this checkout for each Python, and what they need to be installed without the network.

`tools/wheels.py` builds them in build/pythons. They are kept until a source changes.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from tools import wheels

DIRECTORY = Path(__file__).resolve().parents[2] / "build/pythons"
# What a wheel depends on, what pip needs to build it from the sources, and the programs that install it.
REQUIREMENTS = ("jsonschema>=4.18", "Cython", "setuptools", "pip", "pipx", "uv")


@dataclass(frozen=True)
class Distributions:
    """The source distribution, and the wheel of each Python."""

    source: Path
    wheels: dict[str, Path]


def distributions(versions: Iterable[str] = (), architecture: str = wheels.MACHINE) -> Distributions:
    """Build what is missing or older than the sources. `versions` are those of Python, by default all."""
    versions = [*versions] or wheels.versions_for(architecture)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    # the digest must not change with each commit
    constant = mock.patch.dict(os.environ, SOURCE_DATE_EPOCH=str(wheels.EARLIEST))
    with constant, (DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        source = wheels.source_distribution(DIRECTORY)
        digest, noted = hashlib.sha256(source.read_bytes()).hexdigest(), DIRECTORY / "sources"
        if not noted.exists() or noted.read_text() != digest:
            for stale in DIRECTORY.glob("*.whl"):
                stale.unlink()
            noted.write_text(digest)
        if missing := [version for version in versions if not _wheel(version, architecture)]:
            wheels.build(DIRECTORY, missing, architecture)
        found = {version: wheel for version in versions if (wheel := _wheel(version, architecture))}
    return Distributions(source, found)


def wheelhouse(version: str, architecture: str = wheels.MACHINE) -> list[Path]:
    """The wheels that a machine without the network needs, fetched once."""
    directory = DIRECTORY / f"wheelhouse-{version}-{architecture}"
    with (DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "complete").exists():
            tags = platforms(architecture) if architecture != wheels.MACHINE else []
            wheels.download(version, directory, *tags, *REQUIREMENTS)
            (directory / "complete").touch()
    return sorted(directory.glob("*.whl"))


def platforms(architecture: str) -> list[str]:
    """Options for pip: what a system with glibc 2.34 can install."""
    return [f"--platform=manylinux_2_{minor}_{architecture}" for minor in range(17, 35)]


def _wheel(version: str, architecture: str) -> Path | None:
    return next(DIRECTORY.glob(f"pyoci-*-cp{version.replace('.', '')}-*_{architecture}.whl"), None)
