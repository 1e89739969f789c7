"""Checks whether the files of a release may be published, for tools/release --check."""

import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pyoci.executable.image import SEGMENT
from pyoci.version import SPEC, VERSION
from tools import release_make, wheels
from tools.release_make import ROOT, SUMS, made_for, name

PT_INTERP, PT_DYNAMIC = 3, 2
# Addresses and names that stand for what the project does not have yet. The documents in DOCUMENTS may not have one.
PLACEHOLDER = re.compile(
    r"[\w.+-]+@(?:[\w-]+\.)*example(?:\.\w+)?\b|https?://(?:[\w-]+\.)*example\.\w+[^\s)>\"']*|\bTODO\b"
)
DOCUMENTS = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "pyproject.toml", "debian/control", "debian/copyright",
             "debian/changelog", "docs/install.md", "docs/release.md")  # fmt: skip
IN_ARCHIVE = (
    "bin/pyoci", "share/man/man8/pyoci.8", "share/man/man8/pyoci-run.8", "share/bash-completion/completions/pyoci",
    "share/zsh/site-functions/_pyoci", "share/fish/vendor_completions.d/pyoci.fish", "share/doc/pyoci/LICENSE",
    "share/doc/pyoci/CHANGELOG.md", "share/doc/pyoci/licences/README.md",
)  # fmt: skip


class Wrong(Exception):
    """A condition does not hold: the message says why, and what to do."""


def for_each_architecture(condition: Callable[[Path, str], None]) -> Callable[[Path], None]:
    """The condition for the files of every architecture in a directory."""

    @functools.wraps(condition)
    def for_all(directory: Path) -> None:
        for architecture in made_for(directory):
            condition(directory, architecture)

    return for_all


def emulator(architecture: str) -> list[str]:
    """The program that runs executables of an architecture; none for this host's. Raises Wrong."""
    if architecture == platform.machine():
        return []
    program = shutil.which(f"qemu-{architecture}-static")
    if program is None:
        raise Wrong(f"there is no qemu-{architecture}-static (hint: apt-get install qemu-user-static)")
    return [program]


FAILURES = (Wrong, release_make.Failure, wheels.Failed)


def check(directory: Path, *, again: bool) -> bool:
    """Print a line for each condition. Return whether all hold.

    `again` builds the release a second time, and compares each file.
    """
    if not directory.is_dir():
        raise release_make.Failure(f"cannot check {directory}: there is no such directory")
    holds = True
    conditions = [*CONDITIONS, ("a second build gives the same bytes", same_again)] if again else CONDITIONS
    for text, condition in conditions:
        try:
            condition(directory)
        except (*FAILURES, OSError, tarfile.TarError, subprocess.CalledProcessError) as reason:
            print(f"no   {text}: {reason}", flush=True)
            holds = False
        else:
            print(f"ok   {text}", flush=True)
    return holds


# --- the sources


def is_clean(_directory: Path) -> None:
    """The files come from the commit alone."""
    changed = subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT, text=True).splitlines()
    if changed:
        raise Wrong(f"{len(changed)} files differ from the commit, such as {changed[0][3:]}")


def has_tag(_directory: Path) -> None:
    """The tag of a release is its version."""
    tags = subprocess.check_output(["git", "tag", "--points-at", "HEAD"], cwd=ROOT, text=True).split()
    if f"v{VERSION}" not in tags:
        raise Wrong(f"the commit has no tag v{VERSION} (hint: git tag --sign v{VERSION})")


def versions_agree(directory: Path) -> None:
    """Each place that names the version names this one."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {"pyproject.toml": project.get("version", VERSION)}
    changelog = ROOT / "debian" / "changelog"
    if changelog.exists():
        found["debian/changelog"] = changelog.read_text().partition("(")[2].partition(")")[0].partition("-")[0]
    commit = release_make.commit()
    others = []
    for executable in map(name, made_for(directory)):
        command = [*emulator(executable.rpartition("-")[2]), directory / executable, "--version"]
        reported = subprocess.check_output(command, text=True, env={})
        found[executable] = reported.splitlines()[0].removeprefix("pyoci version ")
        others += [] if f"commit: {commit}\nspec: {SPEC}\n" in reported else [executable]
    different = [f"{place} has {version}" for place, version in found.items() if version != VERSION]
    if different:
        raise Wrong(f"pyoci/version.py has {VERSION}, but {', '.join(different)}")
    if others:
        raise Wrong(f"{', '.join(others)}: not of commit {commit}")


def has_changelog(_directory: Path) -> None:
    """The version is the newest in CHANGELOG.md, and has a day."""
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    if not headings or not re.fullmatch(rf"{re.escape(VERSION)} \(\d{{4}}-\d\d-\d\d\)", headings[0]):
        raise Wrong(f"CHANGELOG.md begins with `{headings[0]}`, expected `{VERSION} (YEAR-MONTH-DAY)`")


def has_no_placeholder(_directory: Path) -> None:
    """No address of the documents is an example."""
    found = []
    for document in DOCUMENTS:
        path = ROOT / document
        for line in path.read_text().splitlines() if path.exists() else ():
            found += [f"{document} has {match[0]}" for match in PLACEHOLDER.finditer(line)]
    if found:
        raise Wrong("; ".join(dict.fromkeys(found)))


# --- the files


def sums_are_right(directory: Path) -> None:
    """SHA256SUMS lists each file, and no other."""
    listed = dict(reversed(line.split("  ", 1)) for line in (directory / SUMS).read_text().splitlines())
    found = release_make.sums(directory)
    wrong = sorted(file for file in {*listed, *found} if listed.get(file) != found.get(file))
    if wrong:
        raise Wrong(f"{SUMS} is wrong about {', '.join(wrong)}")


@for_each_architecture
def is_static(directory: Path, architecture: str) -> None:
    """The executable needs no other file."""
    elf = (directory / name(architecture)).read_bytes()
    table, count = int.from_bytes(elf[32:40], "little"), int.from_bytes(elf[56:58], "little")
    kinds = {SEGMENT.unpack_from(elf, table + SEGMENT.size * index)[0] for index in range(count)}
    if kinds & {PT_INTERP, PT_DYNAMIC}:
        raise Wrong(f"{name(architecture)} needs a dynamic linker")


@for_each_architecture
def runs_alone(directory: Path, architecture: str) -> None:
    """It runs where nothing else is: neither a library, nor /proc."""
    if os.geteuid() != 0:
        raise Wrong("only root can try that")
    with tempfile.TemporaryDirectory(prefix="pyoci-release.") as empty:
        programs = [*emulator(architecture), directory / name(architecture)]
        copies = [f"/{Path(shutil.copy(program, empty)).name}" for program in programs]
        for command in ("--version", "--help", "features"):
            subprocess.run(["/usr/sbin/chroot", empty, *copies, command], check=True, capture_output=True, env={})


@for_each_architecture
def archive_is_complete(directory: Path, architecture: str) -> None:
    """It has the executable, and what belongs to it; all of root."""
    own = name(architecture)
    with tarfile.open(directory / f"{own}.tar.xz") as archive:
        members = {member.name.removeprefix(f"{own}/"): member for member in archive}
        missing = [file for file in IN_ARCHIVE if file not in members]
        if missing:
            raise Wrong(f"the archive lacks {', '.join(missing)}")
        owners = {(member.uid, member.gid, member.mtime) for member in members.values()}
        if len(owners) != 1 or (0, 0) != next(iter(owners))[:2]:
            raise Wrong("members of the archive differ in owner or time")
        inside = archive.extractfile(members["bin/pyoci"])
        if inside is None or inside.read() != (directory / own).read_bytes():
            raise Wrong("the archive has another executable")


@for_each_architecture
def bill_is_valid(directory: Path, architecture: str) -> None:
    """The bill of materials follows the schema of CycloneDX, and describes this executable."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (directory / f"{name(architecture)}.cdx.json").read_text()
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem:
        raise Wrong(str(problem).splitlines()[0])
    bill = json.loads(text)
    digest = hashlib.sha256((directory / name(architecture)).read_bytes()).hexdigest()
    if digest != bill["metadata"]["component"]["hashes"][0]["content"]:
        raise Wrong("the bill of materials describes another executable")
    unlicensed = [
        each["name"] for each in bill["components"] if each["scope"] == "required" and not each.get("licenses")
    ]
    if unlicensed:
        raise Wrong(f"tools/release_bill.py does not know the licence of {', '.join(unlicensed)}")


def packages_are_right(directory: Path) -> None:
    """The package index takes the wheels and the source distribution. One Python's wheel has the same executable."""
    files = [path for path in directory.iterdir() if path.name.endswith((".whl", ".tar.gz"))]
    built = [path for path in files if path.suffix == ".whl"]
    lacking = [each for each in made_for(directory) if not any(wheel.stem.endswith(each) for wheel in built)]
    if lacking or len(built) == len(files):
        raise Wrong(f"there are no wheels for {', '.join(lacking)}" if lacking else "there is no source distribution")
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Wrong(" ".join(done.stdout.split()))
    same = f"-cp{release_make.PYTHON.replace('.', '')}-"
    for architecture in made_for(directory):
        for wheel in (path for path in built if same in path.name and path.stem.endswith(architecture)):
            with zipfile.ZipFile(wheel) as archive:
                (script,) = (file for file in archive.namelist() if file.endswith(".data/scripts/pyoci"))
                content = archive.read(script)
            if content != (directory / name(architecture)).read_bytes():
                raise Wrong(f"{wheel.name} has another executable than the release")


def same_again(directory: Path) -> None:
    """Another build from the same sources gives the same files."""
    with tempfile.TemporaryDirectory(prefix="pyoci-release-again.") as other:
        release_make.make(Path(other), made_for(directory), with_wheels=any(directory.glob("*.whl")))
        one, two = release_make.sums(directory), release_make.sums(Path(other))
    different = sorted(file for file in {*one, *two} if one.get(file) != two.get(file))
    if different:
        raise Wrong(f"the second build differs in {', '.join(different)}")


CONDITIONS: list[tuple[str, Callable[[Path], None]]] = [
    ("the checkout is what the commit has", is_clean),
    ("the commit has the version's tag", has_tag),
    ("all places have the same version, and the executable the commit", versions_agree),
    ("CHANGELOG.md has the version and its day", has_changelog),
    ("the documents have no placeholders", has_no_placeholder),
    ("SHA256SUMS has each file", sums_are_right),
    ("the executable is static", is_static),
    ("the executable runs in an empty root, without /proc", runs_alone),
    ("the archive is complete", archive_is_complete),
    ("the bill of materials is valid", bill_is_valid),
    ("the package index takes the wheels and the source distribution", packages_are_right),
]
