"""The wheels and the source distribution under each Python, installed with the commands of docs/install.md."""

import json
import os
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import installed, pythons
from tools import wheels

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.deadline(3600),  # the first test of all builds the wheels
]

WAYS = {
    "pip": ("With pip, in a virtual environment", "/opt/pyoci"),
    "pipx": ("With [pipx](https://pipx.pypa.io) 1.5 or later", "/opt/pipx/venvs/pyoci"),
    "uv": ("With [uv](https://docs.astral.sh/uv)", "/opt/uv/pyoci"),
}
# Where pipx, uv and man keep files of their own, whatever they install and show; and the bundle, which has run.
THEIR_OWN = ("/root/.cache/", "/root/.local/", "/opt/pipx/shared/", "/opt/pipx/logs/", "/opt/pipx/py/", "/opt/pipx/.")
THEIR_OWN += ("/opt/pipx/venvs/.", "/opt/uv/.", "/var/cache/", "/srv/bundle/")

API = """
import json, sys
import pyoci
runtime = pyoci.Runtime()
print(json.dumps([runtime.executable, runtime.name, pyoci.validate({})[0].message, [*pyoci.plan(pyoci.spec())][-1].verb]))
"""


class System(installed.Root):
    """A system that has one Python, the distributions, pipx and uv."""

    def __init__(self, version: str) -> None:
        super().__init__(wheels.PYTHONS[version], *wheels.PACKAGES, *installed.SHELLS_AND_MANUAL)
        self.version = version
        files = pythons.distributions()
        self.copy(*pythons.wheelhouse(version), directory="/srv/wheelhouse")
        self.copy(files.wheels[version], directory="/srv/wheel")
        later(files.wheels[version], Path(f"{self.path}/srv/later"))
        self.copy(files.source, directory="/srv/sdist")
        self.configure("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /srv/wheelhouse\n")
        self.configure("/etc/uv/uv.toml", 'no-index = true\nfind-links = ["/srv/wheelhouse"]\noffline = true\n')
        self.run(f"python{version}", "-m", "venv", "/opt/tools")
        self.run("/opt/tools/bin/pip", "install", "--quiet", "pipx", "uv")
        # pip leaves dependencies behind when it uninstalls
        self.run("python3", "-m", "venv", "/opt/pyoci")
        self.run("/opt/pyoci/bin/pip", "install", "--quiet", "jsonschema>=4.18")
        self.bundle = installed.bundle(self)

    def configure(self, path: str, text: str) -> None:
        """Write a file of the system."""
        file = Path(f"{self.path}{path}")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def shell(self, script: str, directory: str = "/root") -> str:
        """Run a script, with pipx and uv in its PATH. Return what it prints."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/tools/bin"
        variables = {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PIPX_DEFAULT_BACKEND": "pip"}
        return self.run("sh", "-ec", script, directory=directory, environment=variables).stdout


def later(wheel: Path, directory: Path) -> None:
    """Write the same wheel as a later version."""
    version = wheel.name.split("-")[1]
    old, new = f"pyoci-{version}", f"pyoci-{version}.post1"
    directory.mkdir()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(directory / wheel.name.replace(old, new), "w") as target:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith(".dist-info/RECORD"):
                content = content.replace(old.encode(), new.encode())
            if member.filename.endswith(".dist-info/METADATA"):
                content = content.replace(f"\nVersion: {version}\n".encode(), f"\nVersion: {version}.post1\n".encode())
            member.filename = member.filename.replace(f"{old}.", f"{new}.")
            target.writestr(member, content)


@pytest.fixture(scope="module", params=wheels.PYTHONS)
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """One for each Python."""
    with System(request.param) as system:
        yield system


def left_over(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What differs between two lists of files."""
    different = {path for path, _ in before.items() ^ after.items()}
    return sorted(path for path in different if not path.startswith(THEIR_OWN))


def install(system: System, way: str, kind: str) -> str:
    """Run the commands of docs/install.md with a wheel or source distribution. Return the lines with variables."""
    script = installed.commands(WAYS[way][0])
    if kind == "sdist":
        script = script.replace("pyoci-*.whl", "pyoci-*.tar.gz")
    assert f"./pyoci-*.{'whl' if kind == 'wheel' else 'tar.gz'}" in script
    system.shell(script, directory=f"/srv/{kind}")
    return "".join(f"{line}\n" for line in script.splitlines() if line.startswith("export "))


def uninstall(system: System, way: str, variables: str) -> None:
    """Run the command of docs/install.md."""
    system.shell(variables + installed.in_table(way, 2))
    if way == "pip":
        system.run("rm", "/usr/local/bin/pyoci")


def check(system: System, way: str, kind: str) -> None:
    """Install, use, upgrade and uninstall pyoci, and look for the row in docs/install.md."""
    before = system.files()
    variables = install(system, way, kind)
    words = {"installed", *installed.use(system, system.bundle)}
    check_python(system, WAYS[way][1])
    check_manual(system, way)
    if kind == "wheel":
        check_upgrade(system, way, variables)
    uninstall(system, way, variables)

    assert [] == left_over(before, system.files())
    suite = wheels.PYTHONS[system.version]
    installed.assert_listed(installed.row(f"{way}, {kind}", suite, system.version, {*words, "removed"}))


def check_python(system: System, prefix: str) -> None:
    """The API works, finds the executable, and `python -m pyoci` is the same program."""
    python = f"{prefix}/bin/python"
    executable, name, message, verb = json.loads(system.shell(f"{python} -I -c '{API}'"))
    assert (f"{prefix}/bin/pyoci", "pyoci", "exec") == (executable, name, verb)
    assert 'missing the required property "ociVersion"' == message
    assert system.shell("pyoci --version") == system.shell(f"{python} -m pyoci --version")


def check_manual(system: System, way: str) -> None:
    """pipx links the pages to where man searches. For pip and uv, MANPATH names the directory."""
    line = "uv, set MANPATH. The colon at the end keeps the system's pages"
    script = "man pyoci-run" if way == "pipx" else installed.commands(line).replace(WAYS["pip"][1], WAYS[way][1])
    assert "pyoci-run" in system.shell(script)


def check_upgrade(system: System, way: str, variables: str) -> None:
    """While a container runs, a later version replaces the executable, and controls the container."""
    config = Path(f"{system.path}{system.bundle}/config.json")
    own = json.loads(config.read_text())
    own["process"]["args"] = ["/bin/sleep", "600"]
    own["linux"]["cgroupsPath"] += "-upgrade"
    config.with_name("sleep.json").write_text(json.dumps(own))
    system.shell(f"pyoci run --detach --bundle {system.bundle} --config {system.bundle}/sleep.json box >/dev/null 2>&1")
    try:
        executable = Path(f"{system.path}{WAYS[way][1]}/bin/pyoci")
        before = executable.stat().st_ino
        system.shell(variables + installed.in_table(way, 1), directory="/srv/later")

        assert before != executable.stat().st_ino
        assert "inside\n" == system.shell("pyoci exec box echo inside")
    finally:
        system.shell("pyoci delete --force box")


@pytest.mark.parametrize("way", WAYS)
def test_the_wheel_can_be_installed_upgraded_and_uninstalled(system: System, way: str) -> None:
    """With the commands of docs/install.md."""
    check(system, way, "wheel")


@pytest.mark.nightly
def test_the_source_distribution_can_be_installed_and_uninstalled(system: System) -> None:
    """The system has a compiler and Python's headers. The build is the same with pipx and uv."""
    check(system, "pip", "sdist")


@pytest.mark.may_skip("a source distribution can be tested, too")
@pytest.mark.skipif(not (installed.CHECKOUT / ".git").exists(), reason="needs the repository")
def test_the_source_distribution_has_every_file_of_the_repository(tmp_path: Path) -> None:
    """And none that the build makes, besides the metadata."""
    tracked = subprocess.check_output(["git", "ls-files"], cwd=installed.CHECKOUT, text=True).splitlines()
    with tarfile.open(wheels.source_distribution(tmp_path)) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}

    assert set() == set(tracked) - files
    assert {"PKG-INFO", "setup.cfg"} == {name for name in files - set(tracked) if ".egg-info/" not in name}


# Those for another architecture take minutes each.
WHEELS = [pytest.param((wheels.MACHINE, version), id=version) for version in wheels.PYTHONS]
WHEELS += [
    pytest.param((other, version), id=f"{version}-{other}", marks=pytest.mark.nightly)
    for other in wheels.ARCHITECTURES[1:]
    for version in wheels.versions_for(other)
]


@pytest.fixture(scope="module", params=WHEELS)
def wheel(request: pytest.FixtureRequest) -> Path:
    """The wheel of each architecture and Python."""
    architecture, version = request.param
    return pythons.distributions([version], architecture).wheels[version]


def test_wheels_run_on_older_systems(wheel: Path) -> None:
    """auditwheel agrees with the tag in the name: glibc 2.34 or older, as in RHEL 9, Debian 12 and Ubuntu 22.04."""
    shown = subprocess.check_output([wheels.VENV / "auditwheel", "show", wheel], text=True)
    (tag,) = re.findall(r'is consistent with\s+the following platform tag:\s*"(manylinux_2_(?:\d+)_\w+)"', shown)

    assert tag in wheel.name
    assert int(tag.split("_")[2]) <= 34, shown


def test_wheels_have_everything(wheel: Path) -> None:
    """The executable, the API with its types, manual pages, completion, licence."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (script,) = (name for name in names if name.endswith(".data/scripts/pyoci"))
        executable = archive.read(script)
        (entry_points,) = (archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    share = f"{script.partition('/')[0]}/data/share"

    assert executable.startswith(b"\x7fELF")
    stubs = {str(path.relative_to(installed.CHECKOUT)) for path in (installed.CHECKOUT / "pyoci").rglob("*.pyi")}
    assert stubs == {name for name in names if name.endswith(".pyi")}
    assert {"pyoci/py.typed", "pyoci/types.py", "pyoci/testing/plugin.py"} <= names
    assert "pyoci.testing.plugin = pyoci.testing.plugin" in entry_points
    pages = {f"{share}/man/man8/{path.stem}" for path in (installed.CHECKOUT / "docs/man").glob("*.md")}
    assert pages
    assert pages <= names
    shells = "bash-completion/completions/pyoci", "zsh/site-functions/_pyoci", "fish/vendor_completions.d/pyoci.fish"
    assert {f"{share}/{path}" for path in shells} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    licences = "README.md", "libc6-dev.txt", "common-licenses/LGPL-2.1"
    assert {f"{share}/doc/pyoci/licences/{file}" for file in licences} <= names
    assert not [name for name in names if name.endswith((".c", ".pyx", ".pxi", ".h")) or name.startswith("tests/")]


@pytest.mark.nightly
def test_a_second_build_gives_the_same_wheel(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second build has the same bytes."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(wheels.EARLIEST))
    version = re.sub(r".*-cp3(\d+)-cp3.*", r"3.\1", wheel.name)
    (architecture,) = (each for each in wheels.ARCHITECTURES if wheel.stem.endswith(each))
    source, again = wheels.build(tmp_path, [version], architecture)

    assert (wheel.name, wheel.read_bytes()) == (again.name, again.read_bytes())
    assert pythons.distributions([version], architecture).source.read_bytes() == source.read_bytes()


@pytest.mark.may_skip("a machine of aarch64 builds all of its wheels")
@pytest.mark.skipif(wheels.MACHINE == "aarch64", reason="this is aarch64")
def test_a_wheel_of_ubuntu_is_refused_for_another_architecture(tmp_path: Path) -> None:
    """tools/foreign has Debian only."""
    command = [installed.CHECKOUT / "tools/wheels.py", "--arch", "aarch64", tmp_path, "3.12"]
    done = subprocess.run(command, capture_output=True, text=True)

    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr == (
        "cannot build for Python 3.12 on aarch64: tools/foreign has no Ubuntu (hint: use an aarch64 machine)\n"
    )
    assert "3.12" not in wheels.versions_for("aarch64")


def test_without_libpython_a_script_is_installed() -> None:
    """It runs under this Python, in isolated mode, wherever the build ran. pip shows why, if it is asked to."""
    with System("3.11") as system:
        system.shell("rm /usr/lib/python3.11/config-3.11-*/libpython3.11*.a /usr/lib/*/libpython3.11.so*")
        before = system.files()
        variables = installed.commands(WAYS["uv"][0]).partition("uv tool")[0]
        shown = system.shell(f"{variables}uv tool install --verbose ./pyoci-*.tar.gz", directory="/srv/sdist")
        words = {"installed", *installed.use(system, system.bundle)}

        assert (
            "pyoci will be a script, since Python can't be embedded: there is no /usr/lib/python3.11/config-" in shown
        )
        assert Path(f"{system.path}/opt/uv/pyoci/bin/pyoci").read_text().startswith("#!/usr/bin/python3.11 -IS\n")
        check_python(system, WAYS["uv"][1])
        uninstall(system, "uv", variables)
        assert [] == left_over(before, system.files())
        row = installed.row("uv, sdist, without libpython", "bookworm", "3.11", {*words, "removed"})
        installed.assert_listed(row)
