"""Makes the files of a release, for tools/release.

The executable depends on the compiler, the C library and the Python that it was built with. So a release is built in a
Debian of its own, the same on each host, by `tools/debian`. There, this module runs a second time (`make_here`), in the
unpacked source distribution. For another architecture, it runs under tools/foreign in place of the Debian.
"""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from pyoci.version import VERSION
from tools import licences, release_bill, wheels

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.13"
TOOLS = ("Cython", "setuptools", "cyclonedx-python-lib")
# Reads an archive of the source distribution and of TOOLS, builds without the network, and writes an archive of the
# files.
INSIDE = """
mkdir /tmp/in /tmp/sources /tmp/out
tar -C /tmp/in -x
python3 -m venv /tmp/venv
/tmp/venv/bin/pip install --quiet "$@" >&2
tar -C /tmp/sources --strip-components=1 -xf /tmp/in/pyoci-*.tar.gz
cd /tmp/sources
/tmp/venv/bin/python tools/release --here /tmp/out >&2
tar -C /tmp/out -c .
"""
SUMS = "SHA256SUMS"


class Failure(Exception):
    """A release can't be made: the message says why."""


def name(architecture: str = wheels.MACHINE) -> str:
    """What the names of the files for an architecture begin with."""
    return f"pyoci-{VERSION}-linux-{architecture}"


def made_for(directory: Path) -> list[str]:
    """The architectures whose files are in a directory; this one if there are none."""
    pattern = re.compile(rf"{re.escape(name(''))}(\w+)(\.tar\.xz|\.cdx\.json)?")
    found = {match[1] for path in directory.iterdir() if (match := pattern.fullmatch(path.name))}
    return sorted(found) or [wheels.MACHINE]


# --- in a Debian


def make(directory: Path, architectures: Iterable[str] = (wheels.MACHINE,), *, with_wheels: bool) -> None:
    """Make all files for these architectures in `directory`. Raises Failure, wheels.Failed."""
    _require_empty(directory)
    if os.geteuid() != 0:
        raise Failure("cannot make a release: tools/debian needs root (hint: --here needs none)")
    environment = {"SOURCE_DATE_EPOCH": wheels.epoch(), "PYOCI_COMMIT": commit()}
    with mock.patch.dict(os.environ, environment), tempfile.TemporaryDirectory() as temporary:
        source = wheels.source_distribution(Path(temporary))
        for architecture in architectures:
            if architecture == wheels.MACHINE:
                _build_in_debian(source, directory)
            else:
                _build_for(architecture, source, directory)
            if with_wheels:
                wheels.build(directory, architecture=architecture)
    write_sums(directory)


def _build_in_debian(source: Path, directory: Path) -> None:
    """Run `make_here` in the Debian, on the source distribution. Move the files to `directory`."""
    made = wheels.run_in_debian(PYTHON, source, TOOLS, INSIDE, *TOOLS)
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        archive.extractall(directory)  # made by this program


def _build_for(architecture: str, source: Path, directory: Path) -> None:
    """Run `make_here` for another architecture, on the source distribution. Move the files to `directory`."""
    with tempfile.TemporaryDirectory() as temporary:
        foreign = wheels.Foreign(architecture, PYTHON, source, Path(temporary), *TOOLS)
        foreign.run(foreign.python, "tools/release", "--here", Path(temporary, "out"))
        shutil.copytree(Path(temporary, "out"), directory, dirs_exist_ok=True)


def commit() -> str:
    """The commit of the checkout; with `-dirty` at its end if the checkout has other content."""
    is_dirty = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "HEAD").decode().strip() + ("-dirty" if is_dirty else "")


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        raise Failure(f"cannot make a release: git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout


# --- where the build runs


def make_here(directory: Path) -> None:
    """Make all files but the wheels and the source distribution with this Python. Raises Failure."""
    _require_empty(directory)
    _run("build", ROOT / "tools" / "build", env={**os.environ, "PYTHON": sys.executable})
    linked = json.loads(_run("list what was linked", sys.executable, ROOT / "tools" / "linked"))
    shutil.copy(ROOT / "contrib" / "install.sh", directory)
    executable = directory / name()
    shutil.copy(ROOT / "build" / "pyoci", executable)
    executable.chmod(0o755)
    content = executable.read_bytes()
    (directory / f"{name()}.cdx.json").write_text(release_bill.write(VERSION, content, linked, int(wheels.epoch())))
    with tempfile.TemporaryDirectory(prefix="pyoci-release.") as temporary:
        tree = Path(temporary, name())
        (tree / "bin").mkdir(parents=True)
        shutil.copy(executable, tree / "bin" / "pyoci")
        _run("write share/", sys.executable, ROOT / "tools" / "share", tree / "share")
        licences.write(tree / "share" / "doc" / "pyoci" / "licences", linked["linked"])
        pack(tree, directory / f"{name()}.tar.xz", int(wheels.epoch()))
    write_sums(directory)


def pack(tree: Path, output: Path, time: int) -> None:
    """Write an archive of a directory: sorted, of root, and all of it changed at `time`."""

    def neutral(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = time
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with tarfile.open(output, "w:xz", format=tarfile.GNU_FORMAT, preset=6) as archive:
        for path in [tree, *sorted(tree.rglob("*"))]:
            archive.add(path, str(path.relative_to(tree.parent)), recursive=False, filter=neutral)


def write_sums(directory: Path) -> None:
    """Write SHA256SUMS, in the form of sha256sum(1)."""
    (directory / SUMS).write_text("".join(f"{digest}  {file}\n" for file, digest in sums(directory).items()))


def sums(directory: Path) -> dict[str, str]:
    """The SHA-256 sum of each file but SHA256SUMS, by its name, sorted."""
    files = sorted(path for path in directory.iterdir() if path.name != SUMS)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _require_empty(directory: Path) -> None:
    """Make the directory. Raises Failure if it has files."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise Failure(f"cannot make a release in {directory}: it has files already")


def _run(what: str, *command: "str | Path", env: "dict[str, str] | None" = None) -> str:
    """Run a command and return its output. Raises Failure with what it reports."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise Failure(f"cannot {what}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
