"""The files of a release for aarch64, which a host of another architecture has made.

`tests/vm/qemu` has a machine for containers. QEMU's user mode (tools/foreign) has every Python, and no containers.
"""

import json
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pyoci.version import VERSION
from tests.packages.test_release import ONLY_THEN, RELEASE
from tests.support import installed, pythons, releases
from tests.support.machine import QEMU, environment, run
from tools import release_check, release_make, wheels

ARCHITECTURE = "aarch64"
AARCH64 = 183  # e_machine of an ELF file
SUITE = "trixie"  # the machine's
NAME = release_make.name(ARCHITECTURE)

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.root,
    pytest.mark.may_skip("a host of aarch64 makes them in other tests"),
    pytest.mark.skipif(wheels.MACHINE == ARCHITECTURE, reason="this is aarch64"),
    pytest.mark.deadline(7200),
]


@pytest.fixture(scope="module")
def files() -> Path:
    """The files; not to be written to."""
    return releases.made(ARCHITECTURE)


# --- the files


def test_release_has_the_files_of_one_architecture(files: Path) -> None:
    """Its executable is of that architecture."""
    expected = {NAME, f"{NAME}.tar.xz", f"{NAME}.cdx.json", "install.sh", "SHA256SUMS"}
    assert expected == {path.name for path in files.iterdir()}
    assert AARCH64 == int.from_bytes((files / NAME).read_bytes()[18:20], "little")


def test_check_accepts_them(files: Path) -> None:
    """All conditions hold but those of a tagged checkout and of wheels, as for this host's architecture."""
    done = subprocess.run([RELEASE, "--check", "--no-again", files], capture_output=True, text=True)
    failed = {line[5:].partition(":")[0] for line in done.stdout.splitlines() if not line.startswith("ok   ")}

    assert len(release_check.CONDITIONS) == len(done.stdout.splitlines())
    assert failed <= ONLY_THEN, done.stdout


def test_check_finds_the_executable_of_another_architecture(files: Path, tmp_path: Path) -> None:
    """QEMU does not run it."""
    executable = tmp_path / NAME
    executable.write_bytes((releases.made() / releases.NAME).read_bytes())
    executable.chmod(0o755)

    with pytest.raises(subprocess.CalledProcessError):
        release_check.runs_alone(tmp_path)


def test_bill_and_licences_are_of_what_was_linked(files: Path) -> None:
    """Debian's packages of that architecture are part of the executable. Those of this host's have compiled it."""
    bill = json.loads((files / f"{NAME}.cdx.json").read_text())
    found = {each["name"]: each for each in bill["components"] if each["purl"].startswith("pkg:deb/")}
    with tarfile.open(files / f"{NAME}.tar.xz") as archive:
        licences = {Path(member.name).stem for member in archive if "/licences/" in member.name}

    assert f"arch={ARCHITECTURE}" in bill["metadata"]["component"]["purl"]
    assert {"libc6-dev", f"libpython{release_make.PYTHON}-dev"} <= found.keys()
    for name, each in found.items():
        assert ("required" == each["scope"]) == (name in licences), name
        debian = "amd64" if name.startswith("binutils") or name.endswith("linux-gnu") else "arm64"
        assert each["purl"].endswith((f"?arch={debian}", "?arch=all")), each


def test_second_build_has_the_same_files(files: Path) -> None:
    """In another directory, at another time."""
    release_check.same_again(files)


# --- each Python, under QEMU's user mode

API = """
import sys
sys.path.insert(0, sys.argv[1])
from pyoci import _native, plan, spec, validate
print(validate({})[0].message, [*plan(spec())][-1].verb, sep="\\n")
"""


@pytest.fixture(params=wheels.versions_for(ARCHITECTURE))
def version(request: pytest.FixtureRequest) -> str:
    """Each Python that tools/foreign has."""
    return str(request.param)


def foreign(version: str, *command: "str | Path", cwd: Path) -> tuple[int, str, str]:
    """Run a command among the programs of a Debian that has a Python: status, output, errors."""
    suite = {**environment(cwd), "PYOCI_FOREIGN_SUITE": wheels.PYTHONS[version]}
    status, out, err = run(installed.CHECKOUT / "tools/foreign", ARCHITECTURE, *command, cwd=cwd, env=suite)
    return status, out, err


def test_wheel_is_installed_and_validates(version: str, tmp_path: Path) -> None:
    """pip takes it for a system with glibc 2.34. The executable, the extension and the API work."""
    wheel = pythons.distributions([version], ARCHITECTURE).wheels[version]
    target = tmp_path / "installed"
    dependencies = pythons.wheelhouse(version, ARCHITECTURE)[0].parent
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", dependencies]
    command += ["--only-binary=:all:", f"--python-version={version}", *pythons.platforms(ARCHITECTURE)]
    subprocess.run([*command, "--target", target, wheel], check=True)
    bundle = tmp_path / "bundle"
    installed.write_bundle(bundle, str(bundle))
    (tmp_path / "config.json").write_text('{"ociVersion": "1.3.0", "root": {"path": "rootfs", "readonly": 1}}')
    pyoci = target / "bin/pyoci"

    status, out, err = foreign(version, pyoci, "--version", cwd=tmp_path)
    assert (0, "", f"pyoci version {VERSION}") == (status, err, out.partition("\n")[0])
    assert (0, "", "") == foreign(version, pyoci, "validate", bundle, cwd=tmp_path)
    status, out, err = foreign(version, pyoci, "validate", tmp_path, cwd=tmp_path)
    assert (1, "") == (status, err)
    assert "/root/readonly: expected true or false" in out
    status, out, err = foreign(version, f"python{version}", "-I", "-c", API, target, cwd=tmp_path)
    assert (0, "", 'missing the required property "ociVersion"\nexec\n') == (status, err, out)


# --- in a machine

# Runs in the directory of the files. Prints a line for each way of installing, and then what `use` prints.
SCRIPT = """
set -eu
here=$PWD
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$here/wheelhouse PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
cp /usr/bin/busybox bundle/rootfs/bin/
mkdir -p /usr/local/bin /usr/local/share

files() {
    find / -xdev \\( -path /tmp -o -path /var/cache \\) -prune -o ! -type d -printf '%p %m %s %l\\n' | LC_ALL=C sort
}
# check WAY DIRECTORY INSTALL UNINSTALL
check() {
    echo "$1:"
    files >/run/before
    cd "$here/$2"
    eval "$3" >&2
    echo installed
    sh "$here/use" "$here/bundle"
    eval "$4" >&2
    files >/run/after
    diff /run/before /run/after >&2
    echo removed
}

# pip leaves behind dependencies, and the virtual environment
VENV
/opt/pyoci/bin/pip install --quiet 'jsonschema>=4.18'
"""


@pytest.fixture
def disk(files: Path, tmp_path: Path) -> Path:
    """What the machine has of this host: what is installed, and what uses it. It lies at the checkout's path."""
    disk = tmp_path / "disk"
    for name in ("archive", "wheel", "wheelhouse"):
        (disk / name).mkdir(parents=True)
    for source, directory in (
        *((files / name, "archive") for name in (f"{NAME}.tar.xz", "SHA256SUMS")),
        (pythons.distributions([release_make.PYTHON], ARCHITECTURE).wheels[release_make.PYTHON], "wheel"),
        *((wheel, "wheelhouse") for wheel in pythons.wheelhouse(release_make.PYTHON, ARCHITECTURE)),
        (installed.USE, "."),
    ):
        (disk / directory / source.name).write_bytes(source.read_bytes())
    installed.write_bundle(disk / "bundle", str(installed.CHECKOUT / "bundle"))
    return disk


def test_wheel_and_archive_are_installed_in_a_machine(disk: Path, tmp_path: Path) -> None:
    """With the commands of docs/install.md. They run Docker's container, show a page, and leave nothing."""
    introductions = ("In the directory with the archive and `SHA256SUMS`", "To uninstall")
    archive = [installed.commands(each).replace(release_make.name("x86_64"), NAME) for each in introductions]
    venv, _, install = installed.commands("With pip, in a virtual environment").partition("\n")
    ways = {
        "archive": ("archive", *archive),
        "pip, wheel": ("wheel", install, installed.in_table("pip", 2) + "; rm /usr/local/bin/pyoci"),
    }
    checks = [shlex.join(["check", way, *arguments]) for way, arguments in ways.items()]
    (disk / "script").write_text(SCRIPT.replace("VENV", venv) + "\n".join(checks))

    command = [QEMU, "--arch", ARCHITECTURE, "--disk", disk, "--timeout", "3600", "--verbose", "sh", "script"]
    status, out, err = run(*command, cwd=installed.CHECKOUT, env=environment(tmp_path))

    assert 0 == status, out + err
    found = {}
    for part in re.split(r"(?m)^(?=.*:$)", out):
        way, _, words = part.partition(":\n")
        found[way] = {*words.split()}
    for way in ways:
        python = release_make.PYTHON if "wheel" in way else "—"
        installed.assert_listed(installed.row(way, SUITE, python, found[way], ARCHITECTURE))
