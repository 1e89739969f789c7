#!/usr/bin/env python3
"""Builds the source distribution, and from it a wheel for each Python.

    tools/wheels.py DIRECTORY                      for every Python
    tools/wheels.py DIRECTORY 3.11 3.13            for these
    tools/wheels.py --arch aarch64 DIRECTORY       for another architecture than this one

Each wheel is built in a Debian or Ubuntu that has this Python (tools/debian), without the network. For another
architecture, a cross compiler and an emulated Python build it (tools/foreign). That knows no Ubuntu, so it leaves out
3.12. auditwheel gives each wheel the tag of the oldest glibc that it runs on. The same sources give the same files on
any day: tools/constraints.txt fixes the versions of Cython and setuptools, and $SOURCE_DATE_EPOCH, by default the last
commit, is the time of every file in them.

Needs root, the network for what it has not yet fetched, and the virtual environment that ./test makes.
"""

import argparse
import fcntl
import gzip
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv/bin"
PYTHONS = {"3.11": "bookworm", "3.12": "noble", "3.13": "trixie", "3.14": "sid"}
"""The suites of Debian and Ubuntu that have these Pythons."""
PACKAGES = ("gcc", "libc6-dev", "python3-dev", "python3-venv")
WITHOUT_NETWORK = ("unshare", "--net")
MACHINE = platform.machine()
ARCHITECTURES = tuple(dict.fromkeys((MACHINE, "aarch64")))  # what distributions can be built for
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
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temp, (ROOT / "build/sdist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it gathers the files in a directory of the checkout
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


def wheel(version: str, source: Path, directory: Path, architecture: str = MACHINE) -> Path:
    """Build the wheel of a source distribution for a Python, write it to `directory`, and return its path."""
    build = _build_here if architecture == MACHINE else partial(_build_for, architecture)
    with tempfile.TemporaryDirectory() as temp:
        unrepaired = build(version, source, Path(temp))
        check(unrepaired)
        repaired = Path(temp, "repaired")
        # the extension needs the C library only, so there is nothing to patch
        repair = [VENV / "auditwheel", "repair", "--patcher", "none", "--wheel-dir", repaired, unrepaired]
        run(*repair, environment={**os.environ, "SOURCE_DATE_EPOCH": epoch()})
        (finished,) = repaired.glob("*.whl")
        return Path(shutil.copy(finished, directory))


def _build_here(version: str, source: Path, temp: Path) -> Path:
    """Build the wheel in a Debian or Ubuntu. Return its path in `temp`, a new directory."""
    built = run_in_debian(version, source, ["Cython", "setuptools"], BUILD, f"python{version}")
    output = temp / built.partition(b"\n")[0].decode()
    output.write_bytes(built.partition(b"\n")[2])
    return output


def run_in_debian(version: str, source: Path, tools: Iterable[str], script: str, *arguments: str) -> bytes:
    """Run a script of the shell in the Debian or Ubuntu that has a Python, without the network. Return its output.

    Its standard input is an archive of the source distribution and of wheels of `tools`. pip takes packages from
    /tmp/in only, where the script unpacks them. Raises Failed.
    """
    root = [ROOT / "tools/debian", PYTHONS[version], *PACKAGES, "--"]
    run(*root, "true")  # makes it, and may read standard input
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as temp, tarfile.open(fileobj=archive, mode="w") as target:
        download(version, Path(temp), *tools)
        for file in (source, *Path(temp).iterdir()):
            target.add(file, file.name)
    variables = environment(PIP_NO_INDEX="1", PIP_FIND_LINKS="/tmp/in").items()
    clean = ["env", "-i", *(f"{name}={value}" for name, value in variables)]
    command = [*root, *WITHOUT_NETWORK, *clean, "sh", "-ec", script, "sh", *arguments]
    return run(*command, input=archive.getvalue())


def environment(**variables: str) -> dict[str, str]:
    """The variables of a build: these, and nothing that depends on the caller."""
    return {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "SOURCE_DATE_EPOCH": epoch(), **variables}


class Foreign:
    """An unpacked source distribution, and a virtual environment of another architecture to build it with.

    Attributes:
        python: The virtual environment's Python, for `run`.
    """

    def __init__(self, architecture: str, version: str, source: Path, directory: Path, *tools: str) -> None:
        """Make both in `directory`.

        Args:
            architecture: One that tools/foreign has.
            version: The Python.
            source: The source distribution.
            directory: An absolute path.
            tools: Packages of the virtual environment, without compiled code. Cython is one of them.

        Raises Failed.
        """
        suite = PYTHONS[version]
        if suite == "noble":
            raise Failed(
                f"cannot build for Python {version} on {architecture}: tools/foreign has no Ubuntu "
                f"(hint: use an {architecture} machine)"
            )
        self._sources = directory / "sources"
        self._foreign = [ROOT / "tools/foreign", architecture]
        self._environment = environment(PYOCI_FOREIGN_SUITE=suite)
        with tarfile.open(source) as archive:
            archive.extractall(directory)  # made by this program
        (directory / source.name.removesuffix(".tar.gz")).rename(self._sources)

        # fetches what it needs, for which a host may need more variables
        run(*self._foreign, "true", environment={**os.environ, "PYOCI_FOREIGN_SUITE": suite})
        self.run("python3", "-m", "venv", "--without-pip", directory / "venv")
        self.python = directory / "venv/bin/python"
        site = directory / f"venv/lib/python{version}/site-packages"
        pip = [VENV / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
        pure = ["--only-binary", ":all:", "--implementation", "py", "--abi", "none", "--platform", "any"]
        pure += ["--python-version", version, "--constraint", ROOT / "tools/constraints.txt"]
        run(*pip, "--target", site, *pure, *tools)
        # Generate the C code, which is the same everywhere: it would take minutes there. If the checkout's virtual
        # environment has another Cython, that one generates it again.
        run(VENV / "python", "setup.py", "--quiet", "--name", cwd=self._sources)

    def run(self, *command: "str | Path") -> bytes:
        """Run a command in the sources, among programs of that architecture. Return its output. Raises Failed."""
        return run(*WITHOUT_NETWORK, *self._foreign, *command, cwd=self._sources, environment=self._environment)


# What pip calls, which would be slow there.
BUILD_WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def _build_for(architecture: str, version: str, source: Path, temp: Path) -> Path:
    """Build the wheel for another architecture. Return its path in `temp`, a new directory."""
    foreign = Foreign(architecture, version, source, temp, "Cython", "setuptools")
    foreign.run(foreign.python, "-c", BUILD_WHEEL, temp / "out")
    (output,) = (temp / "out").iterdir()
    return output


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


def versions_for(architecture: str) -> list[str]:
    """The Pythons that wheels can be built for: tools/foreign has no Ubuntu."""
    return [version for version, suite in PYTHONS.items() if architecture == MACHINE or suite != "noble"]


def build(directory: Path, versions: Iterable[str] = (), architecture: str = MACHINE) -> list[Path]:
    """Build the source distribution and the wheels, two at a time. Return their paths. Raises Failed.

    `versions` are those of Python, by default all.
    """
    source = source_distribution(directory)
    chosen = [*versions] or versions_for(architecture)
    with ThreadPoolExecutor(2) as pool:
        wheels = list(pool.map(lambda version: wheel(version, source, directory, architecture), chosen))
    run(VENV / "twine", "check", "--strict", source, *wheels)
    return [source, *wheels]


def run(
    *command: "str | Path", input: bytes = b"", cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> bytes:
    """Run a command, and return its standard output. Raises Failed with what it has printed."""
    words = [*map(str, command)]
    done = subprocess.run(words, input=input, capture_output=True, env=environment, cwd=cwd, check=False)
    if done.returncode:
        printed = (done.stderr + done.stdout).decode(errors="replace")
        raise Failed(f"cannot build the distributions: {' '.join(words[:4])}: {printed}")
    return done.stdout


def main() -> int:
    """Build what the command line asks for, and print the paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="where to write")
    parser.add_argument("--arch", choices=ARCHITECTURES, default=MACHINE, help="the architecture")
    parser.add_argument("versions", nargs="*", metavar="PYTHON", help=", ".join(PYTHONS))
    options = parser.parse_args()
    if unknown := set(options.versions) - {*PYTHONS}:
        parser.error(f"cannot build for Python {', '.join(sorted(unknown))}: choose from {', '.join(PYTHONS)}")
    try:
        print(*build(options.directory.absolute(), options.versions, options.arch), sep="\n")
    except Failed as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
