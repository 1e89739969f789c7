#!/usr/bin/env python3
"""Builds the source distribution, and from it a wheel for each Python.

    tools/wheels.py DIRECTORY               for every Python
    tools/wheels.py DIRECTORY 3.11 3.13     for these

Each wheel is built in a Debian or Ubuntu that has this Python (tools/debian), without the network. auditwheel gives it
the tag of the oldest glibc that it runs on. The same sources give the same files on any day: tools/constraints.txt
fixes the versions of Cython and setuptools, and $SOURCE_DATE_EPOCH, by default the last commit, is the time of every
file in them.

Needs root, the network for what it has not yet fetched, and the virtual environment that ./test makes.
"""

import argparse
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv/bin"
PYTHONS = {"3.11": "bookworm", "3.12": "noble", "3.13": "trixie", "3.14": "sid"}
"""The suites of Debian and Ubuntu that have these Pythons."""
PACKAGES = ("gcc", "libc6-dev", "python3-dev", "python3-venv")
WITHOUT_NETWORK = ("unshare", "--net")
EARLIEST = 315532800  # 1980, the first year of zip's clock

# Reads an archive of the source distribution, Cython and setuptools. Prints the wheel after a line with its name.
BUILD = """
mkdir /tmp/in /tmp/out
tar -C /tmp/in -x
"$1" -m venv /tmp/venv
/tmp/venv/bin/pip wheel --quiet --no-deps --no-cache-dir --wheel-dir /tmp/out /tmp/in/pyoci-*.tar.gz >&2
cd /tmp/out
ls
cat *
"""


class Failed(Exception):
    """A distribution can't be built. The message is for the user."""


def epoch() -> str:
    """The time of every file in the distributions, in seconds since 1970."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return commit.stdout.strip() or str(EARLIEST)


def source_distribution(directory: Path) -> Path:
    """Write the source distribution to `directory`, and return its path."""
    with tempfile.TemporaryDirectory() as temp:
        # without metadata of an earlier version in the checkout
        run(VENV / "python", "setup.py", "--quiet", "egg_info", "--egg-base", temp, "sdist", "--dist-dir", temp)
        (archive,) = Path(temp).glob("*.tar.gz")
        directory.mkdir(parents=True, exist_ok=True)
        output = directory / archive.name
        output.write_bytes(gzip.compress(normalised(archive), mtime=int(epoch())))
    return output


def normalised(archive: Path) -> bytes:
    """The members of a tar archive in order, owned by root, and of one time; $PYOCI_COMMIT is in pyoci/version.py."""
    content = io.BytesIO()
    with tarfile.open(archive) as source, tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as target:
        for member in sorted(source, key=lambda member: member.name):
            member.mtime, member.pax_headers = int(epoch()), {}
            member.uid, member.gid, member.uname, member.gname = 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            file = source.extractfile(member)
            data = file.read() if file else b""
            if member.name.endswith("/pyoci/version.py"):
                data = data.replace(b'COMMIT = ""', f'COMMIT = "{os.environ.get("PYOCI_COMMIT", "")}"'.encode())
                member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    return content.getvalue()


def download(version: str, directory: Path, *requirements: str) -> None:
    """Fetch wheels that `requirements` need under this Python into `directory`."""
    command = [VENV / "python", "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--dest", directory]
    constraints = ["--constraint", ROOT / "tools/constraints.txt"]
    run(*command, *constraints, "--only-binary", ":all:", "--python-version", version, *requirements)


def wheel(version: str, source: Path, directory: Path) -> Path:
    """Build the wheel of a source distribution for a Python, write it to `directory`, and return its path."""
    suite = PYTHONS[version]
    root = [ROOT / "tools/debian", suite, *PACKAGES, "--"]
    run(*root, "true")  # makes it, and may read standard input
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "SOURCE_DATE_EPOCH": epoch(),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/tmp/in",
    }
    clean = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    with tempfile.TemporaryDirectory() as temp:
        files = Path(temp, "in")
        download(version, files, "Cython", "setuptools")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as target:
            for file in (source, *files.iterdir()):
                target.add(file, file.name)
        built = run(
            *root, *WITHOUT_NETWORK, *clean, "sh", "-ec", BUILD, "sh", f"python{version}", input=archive.getvalue()
        )
        unrepaired = Path(temp, built.partition(b"\n")[0].decode())
        unrepaired.write_bytes(built.partition(b"\n")[2])
        check(unrepaired)
        repaired = Path(temp, "repaired")
        # the extension needs the C library only, so there is nothing to patch
        run(VENV / "auditwheel", "repair", "--patcher", "none", "--wheel-dir", repaired, unrepaired, epoch=epoch())
        (finished,) = repaired.glob("*.whl")
        return Path(shutil.copy(finished, directory))


def check(wheel: Path) -> None:
    """Raise Failed unless the wheel has the executable, and the licences of what that contains.

    The script in place of the executable would only work where it was built.
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".data/scripts/pyoci"))
        if not archive.read(name).startswith(b"\x7fELF"):
            raise Failed(f"{wheel.name} has a script and not the executable: its Python has no libpython")
        if not any(name.endswith("/licences/README.md") for name in archive.namelist()):
            raise Failed(f"{wheel.name} lacks the licences of what the executable contains")


def build(directory: Path, versions: Iterable[str] = PYTHONS) -> list[Path]:
    """Build the source distribution and the wheels, two at a time. Return their paths. Raises Failed."""
    source = source_distribution(directory)
    with ThreadPoolExecutor(2) as pool:
        wheels = list(pool.map(lambda version: wheel(version, source, directory), versions))
    run(VENV / "twine", "check", "--strict", source, *wheels)
    return [source, *wheels]


def run(*command: "str | Path", input: bytes = b"", epoch: str = "") -> bytes:
    """Run a command, and return its standard output. Raises Failed with what it has printed."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch} if epoch else None
    done = subprocess.run(
        [*map(str, command)], input=input, capture_output=True, env=environment, cwd=ROOT, check=False
    )
    if done.returncode:
        printed = (done.stderr + done.stdout).decode(errors="replace")
        raise Failed(f"cannot build the distributions: {' '.join(map(str, command[:4]))}: {printed}")
    return done.stdout


def main() -> int:
    """Build what the command line asks for, and print the paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="where to write")
    parser.add_argument("versions", nargs="*", metavar="PYTHON", help=", ".join(PYTHONS))
    options = parser.parse_args()
    if unknown := set(options.versions) - {*PYTHONS}:
        parser.error(f"cannot build for Python {', '.join(sorted(unknown))}: choose from {', '.join(PYTHONS)}")
    try:
        print(*build(options.directory, options.versions or PYTHONS), sep="\n")
    except Failed as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
