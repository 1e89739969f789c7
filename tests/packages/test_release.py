"""tools/release makes the files of a release, and finds what must not be published."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from pyoci.version import VERSION
from tests.support import releases
from tests.support.releases import NAME
from tools import release_check, release_make

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

RELEASE = releases.release_make.ROOT / "tools/release"
# What no checkout but that of a release fulfils.
ONLY_THEN = {
    "the checkout is what the commit has",
    "the commit has the version's tag",
    "CHANGELOG.md has the version and its day",
    "the documents have no placeholders",
    "the package index takes the wheels and the source distribution",
}


@pytest.fixture(scope="module")
def files() -> Path:
    """The files of a release; not to be written to."""
    return releases.made()


@pytest.fixture
def copy(files: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(files, tmp_path / "copy"))


def test_release_has_its_files(files: Path) -> None:
    """Each file is there, and sha256sum(1) confirms the sums."""
    expected = {NAME, f"{NAME}.tar.xz", f"{NAME}.cdx.json", "install.sh", "SHA256SUMS"}
    assert expected == {path.name for path in files.iterdir()}
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, check=True)
    assert f"install.sh: OK\n{NAME}: OK\n{NAME}.cdx.json: OK\n{NAME}.tar.xz: OK\n" == done.stdout


def test_executable_names_its_commit(files: Path) -> None:
    """`--version` of a release shows what it was built from."""
    output = subprocess.check_output([files / NAME, "--version"], text=True, env={})
    assert output.startswith(f"pyoci version {VERSION}\ncommit: {release_make.commit()}\n")


def test_archive_has_licences_of_what_was_linked(files: Path) -> None:
    """The C library and Python are part of the executable: their licences and the way to their sources are there."""
    with tarfile.open(files / f"{NAME}.tar.xz") as archive:
        folder = f"{NAME}/share/doc/pyoci/licences"
        names = {member.name.removeprefix(f"{folder}/") for member in archive if member.name.startswith(f"{folder}/")}
        table = archive.extractfile(f"{folder}/README.md")
        assert table is not None
        text = table.read().decode()

    assert {"README.md", "libc6-dev.txt", f"libpython{release_make.PYTHON}-dev.txt"} <= names
    assert {"common-licenses/LGPL-2.1", "common-licenses/GPL-3"} <= names
    rows = re.findall(r"(?m)^\| (\S+) \| (\S+) \| (\S+) (\S+) \|$", text)
    assert {name for name in names if name.endswith(".txt")} == {f"{row[0]}.txt" for row in rows if row[0] != "package"}
    assert "glibc" in {source for _, _, source, _ in rows}


def test_bill_lists_what_was_linked_and_what_built_it(files: Path) -> None:
    """Its versions are those that the executable was made of."""
    bill = json.loads((files / f"{NAME}.cdx.json").read_text())
    found = {each["name"]: each for each in bill["components"]}
    python = found[f"libpython{release_make.PYTHON}-dev"]

    assert ("required", [{"expression": "PSF-2.0"}]) == (python["scope"], python["licenses"])
    assert ("required", [{"expression": "LGPL-2.1-or-later"}]) == (
        found["libc6-dev"]["scope"],
        found["libc6-dev"]["licenses"],
    )
    assert "excluded" == found["Cython"]["scope"]
    assert any(name.startswith("gcc-") and each["scope"] == "excluded" for name, each in found.items())
    assert python["version"].partition("-")[0].encode() + b" (main, " in (files / NAME).read_bytes()


def test_check_finds_nothing_else_than_in_any_checkout(files: Path) -> None:
    """Each condition has a line. Those that depend on the files hold."""
    done = subprocess.run([RELEASE, "--check", "--no-again", files], capture_output=True, text=True)
    lines = [re.fullmatch(r"(ok  |no  ) ([^:]+)(: .+)?", line) for line in done.stdout.splitlines()]

    assert [text for text, _ in release_check.CONDITIONS] == [line[2] for line in lines if line]
    failed = {line[2] for line in lines if line and line[1] == "no  "}
    assert failed <= ONLY_THEN, done.stdout
    assert (done.returncode == 0) == (not failed)


def test_check_finds_another_executable(copy: Path) -> None:
    """One changed byte is enough for three conditions."""
    content = bytearray((copy / NAME).read_bytes())
    content[-1] ^= 1
    (copy / NAME).write_bytes(content)

    for condition in (release_check.sums_are_right, release_check.archive_is_complete, release_check.bill_is_valid):
        with pytest.raises(release_check.Wrong):
            condition(copy)
    release_make.write_sums(copy)
    release_check.sums_are_right(copy)


def test_check_finds_a_file_without_a_sum(copy: Path) -> None:
    """And a sum without a file."""
    (copy / "another").write_text("")
    with pytest.raises(release_check.Wrong, match="SHA256SUMS is wrong about another"):
        release_check.sums_are_right(copy)
    (copy / "another").unlink()
    (copy / f"{NAME}.cdx.json").unlink()
    with pytest.raises(release_check.Wrong, match=f"wrong about {NAME}.cdx.json"):
        release_check.sums_are_right(copy)


def test_check_finds_an_incomplete_archive(copy: Path, tmp_path: Path) -> None:
    """Here it lacks a manual page."""
    tree = releases.unpacked(tmp_path)
    (tree / "share/man/man8/pyoci-run.8").unlink()
    release_make.pack(tree, copy / f"{NAME}.tar.xz", 0)

    with pytest.raises(release_check.Wrong, match=r"lacks share/man/man8/pyoci-run\.8"):
        release_check.archive_is_complete(copy)


def test_check_finds_an_executable_that_needs_a_library(copy: Path) -> None:
    """In its place is one of this system."""
    shutil.copy("/bin/ls", copy / NAME)

    with pytest.raises(release_check.Wrong, match="needs a dynamic linker"):
        release_check.is_static(copy)
    with pytest.raises(subprocess.CalledProcessError):
        release_check.runs_alone(copy)


@pytest.mark.parametrize("text", ["mail security@example.org", "see https://example.com/pyoci", "a TODO"])
def test_check_finds_placeholders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """They stand for an address that the project does not have yet."""
    (tmp_path / "README.md").write_text(f"First line.\n{text}\n")
    monkeypatch.setattr(release_check, "ROOT", tmp_path)

    with pytest.raises(release_check.Wrong, match=r"README\.md has "):
        release_check.has_no_placeholder(tmp_path)


@pytest.mark.parametrize(
    ("heading", "holds"),
    [(f"{VERSION} (2030-01-31)", True), (f"{VERSION} (unreleased)", False), ("9 (2030-01-31)", False)],
)
def test_check_reads_the_changelog(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, heading: str, holds: bool) -> None:
    """Its first section is that of the version, with the day."""
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n\n## 0.0.1 (2020-01-01)\n")
    monkeypatch.setattr(release_check, "ROOT", tmp_path)

    if holds:
        release_check.has_changelog(tmp_path)
    else:
        with pytest.raises(release_check.Wrong, match="expected"):
            release_check.has_changelog(tmp_path)


def test_archive_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    """Not on times, owners, modes of a umask, or the order in a directory."""
    packed = []
    for number, umask in enumerate((0o022, 0o077)):
        before = os.umask(umask)
        tree = tmp_path / str(number) / "tree"
        (tree / "bin").mkdir(parents=True)
        for name in ("b", "a") if number else ("a", "b"):
            (tree / "bin" / name).write_text(name)
        (tree / "bin" / "a").chmod(0o700 if number else 0o755)
        os.umask(before)
        os.utime(tree / "bin" / "b", (number, number))
        os.chown(tree / "bin" / "a", number, number)
        release_make.pack(tree, tmp_path / f"{number}.tar.xz", 1_000_000_000)
        packed.append(hashlib.sha256((tmp_path / f"{number}.tar.xz").read_bytes()).hexdigest())

    assert packed[0] == packed[1]


def test_directory_with_files_is_refused(tmp_path: Path) -> None:
    """A release does not mix with an earlier one."""
    (tmp_path / "file").write_text("")
    done = subprocess.run([RELEASE, tmp_path], capture_output=True, text=True)
    assert (1, f"cannot make a release in {tmp_path}: it has files already\n") == (done.returncode, done.stderr)


def test_check_finds_the_architectures_of_the_files(tmp_path: Path) -> None:
    """Each needs wheels. Without files it is this one's, so that a condition does not hold for an empty directory."""
    assert [platform.machine()] == release_make.made_for(tmp_path)
    with pytest.raises(FileNotFoundError):
        release_check.is_static(tmp_path)

    for file in ("linux-aarch64.tar.xz", "linux-x86_64", "cp313-cp313-manylinux_2_34_x86_64.whl", "linux-x86_64.orig"):
        (tmp_path / f"pyoci-{VERSION}-{file}").write_text("")
    assert ["aarch64", "x86_64"] == release_make.made_for(tmp_path)
    with pytest.raises(release_check.Wrong, match="there are no wheels for aarch64"):
        release_check.packages_are_right(tmp_path)


def test_check_needs_an_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an executable of another architecture."""
    monkeypatch.setenv("PATH", "")
    assert [] == release_check.emulator(platform.machine())
    with pytest.raises(release_check.Wrong, match=r"there is no qemu-s390x-static \(hint: apt-get install"):
        release_check.emulator("s390x")


@pytest.mark.parametrize("option", ["--check", "--here"])
def test_architecture_is_for_a_build_elsewhere(tmp_path: Path, option: str) -> None:
    """The check looks at the files, and --here builds for this machine."""
    done = subprocess.run([RELEASE, option, "--arch", "aarch64", tmp_path / "new"], capture_output=True, text=True)
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith(f"error: --arch can't be combined with {option}\n")
    assert not (tmp_path / "new").exists()


@pytest.mark.nightly
@pytest.mark.deadline(3600)
def test_check_accepts_a_release_with_wheels(tmp_path: Path) -> None:
    """Only the conditions fail that no checkout fulfils. A wheel with another executable is found."""
    release_make.make(tmp_path, with_wheels=True)
    release_check.packages_are_right(tmp_path)
    release_check.sums_are_right(tmp_path)
    (wheel,) = tmp_path.glob(f"*-cp{release_make.PYTHON.replace('.', '')}-*.whl")
    other = tmp_path / "other"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(other, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            target.writestr(member, content + b"x" if member.filename.endswith(".data/scripts/pyoci") else content)
    other.replace(wheel)

    with pytest.raises(release_check.Wrong, match="has another executable than the release"):
        release_check.packages_are_right(tmp_path)


@pytest.mark.nightly
def test_second_build_has_the_same_files(files: Path) -> None:
    """Later, in another directory of the same Debian."""
    time.sleep(2)  # the clock of zip and of old file systems has steps of two seconds
    release_check.same_again(files)
