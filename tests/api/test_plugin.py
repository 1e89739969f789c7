"""pyoci.testing: the plugin in a pytest of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.cli.table import COMMANDS
from tests.support.runtime import cgroup_mount

ROOT = Path(__file__).resolve().parents[2]
UID = 43210  # of no user on any host


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The directory of another project with tests."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return directory


def command(pyoci: str, project: Path, *options: str) -> list[str]:
    """The command line of pytest, with the plugin. Its temporary files are the project's."""
    words = ["-p", "pyoci.testing.plugin", "-p", "no:cacheprovider", f"--pyoci-runtime={pyoci}", "-q"]
    return [sys.executable, "-m", "pytest", *words, f"--basetemp={project}/temp", *options]


def run(project: Path, pyoci: str, tests: str, *options: str) -> str:
    """Run tests that pass. Returns the output."""
    (project / "test_it.py").write_text(tests)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command(pyoci, project, *options),
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert 0 == result.returncode, result.stdout + result.stderr
    return result.stdout


TEN = """
import pytest

@pytest.mark.parametrize("number", range(10))
def test_exec(container, number):
    assert container.exec(["echo", str(number)], check=True).stdout == b"%d\\n" % number
"""


@pytest.mark.root
def test_a_container_costs_four_calls_of_the_runtime(project: Path, pyoci: str) -> None:
    """Ten tests, each with a container and an exec: each call costs milliseconds."""
    runtime, calls = project / "runtime", project / "calls"
    runtime.write_text(f'#!/bin/sh\necho "$*" >>{calls}\nexec {pyoci} "$@"\n')
    runtime.chmod(0o755)

    assert "10 passed" in run(project, str(runtime), TEN)

    version, *lines = calls.read_text().splitlines()
    assert "--version" == version
    commands = [next(word for word in line.split() if word in COMMANDS) for line in lines]
    assert ["create", "start", "exec", "delete"] * 10 == commands


FIXTURES = """
import os
import pytest
import pyoci
from pathlib import Path

def test_rootfs(rootfs):
    assert (rootfs / "bin/sh").exists()

def test_bundle(bundle, tmp_path):
    assert bundle.directory == tmp_path / "bundle" and bundle.rootfs == bundle.directory / "rootfs"
    assert [] == pyoci.validate(bundle.config)

def test_runtime(runtime, bundle, tmp_path):
    bundle.shell("echo hello; exit 3").mount("/data", "tmpfs")
    assert runtime.root == str(tmp_path / "state")
    result = runtime.run("run", bundle)
    assert (3, b"hello\\n") == (result.returncode, result.stdout)

def test_leaves_a_container(runtime, bundle):
    runtime.create("left", bundle, stdout=-3, stderr=-3).start()

def test_container(container):
    assert "running" == container.state["status"]
    assert b"0\\n" == container.exec(["id", "-u"], check=True).stdout
    (Path("pid")).write_text(str(container.state["pid"]))

@pytest.mark.rootfs("tree")
def test_source(container):
    assert b"mine\\n" == container.exec(["cat", "/etc/name"], check=True).stdout
"""


def tree(project: Path) -> None:
    """A root filesystem in the project."""
    from pyoci.testing import make_rootfs

    make_rootfs("busybox", project / "tree")
    (project / "tree/etc/name").write_text("mine\n")


def _runs(pid: str) -> bool:
    """Whether a process still runs. A dead one keeps its pid until process 1 of this machine reaps it."""
    try:
        stat = Path("/proc", pid, "stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.root
def test_fixtures(project: Path, pyoci: str) -> None:
    """Every fixture, the marker, and nothing left of any test."""
    tree(project)
    output = run(project, pyoci, FIXTURES)

    assert "6 passed" in output
    assert [] == list((project / "temp").glob("*/state/*"))
    assert not _runs((project / "pid").read_text())
    assert [] == processes(project)


@pytest.fixture
def open_project() -> Iterator[Path]:
    """The same where every user can reach it: pytest closes the directory of its temporary files to others."""
    with tempfile.TemporaryDirectory(prefix="pyoci-tests-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.root
def test_fixtures_without_root(open_project: Path, pyoci: str) -> None:
    """A user needs nothing but a user namespace."""
    tree(open_project)
    (open_project / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (open_project / "test_it.py").write_text(FIXTURES)
    shutil.copytree(ROOT / "pyoci", open_project / "pyoci")  # a checkout can be below /root
    subprocess.run(["chmod", "--recursive", "a+rX", open_project], check=True)
    for path in (open_project, *open_project.rglob("*")):
        os.chown(path, UID, UID, follow_symlinks=False)
    as_user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    result = subprocess.run(
        [*as_user, *command(pyoci, open_project)],
        cwd=open_project,
        env={"PATH": os.environ["PATH"], "HOME": str(open_project), "PYTHONPATH": str(open_project)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert "6 passed" in result.stdout, result.stdout + result.stderr
    assert [] == processes(open_project)


KILLED = """
import os
import signal
import subprocess
import pytest

@pytest.mark.parametrize("moment", [MOMENT])
def test_is_killed(runtime, bundle, container, moment):
    if moment == "exec":
        os.kill(os.getpid(), signal.SIGKILL)
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"kill -9 {os.getpid()}; sleep 0.3"]}]}
    if moment == "create":
        runtime.create("second", bundle, stdin=subprocess.DEVNULL)
    runtime.run("third", bundle.program("sleep", "1000"))
"""


@pytest.mark.root
@pytest.mark.parametrize("moment", ["exec", "create", "run"])
def test_a_killed_run_leaves_nothing(project: Path, pyoci: str, moment: str) -> None:
    """kill -9 of pytest: while a container runs, and while the runtime creates another one."""
    (project / "test_it.py").write_text(KILLED.replace("MOMENT", repr(moment)))
    mounts = Path("/proc/self/mountinfo").read_text()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    null = subprocess.DEVNULL
    pytest_ = subprocess.Popen(
        command(pyoci, project), cwd=project, env=environment, stdin=null, stdout=null, stderr=null
    )
    assert -signal.SIGKILL == pytest_.wait(timeout=300)
    deadline = time.monotonic() + 60
    while processes(project):
        assert time.monotonic() < deadline, processes(project)
        time.sleep(0.01)

    assert [] == list((project / "temp").glob("*/state"))
    find = ["find", cgroup_mount(), "-ignore_readdir_race", "-name", f"test-{pytest_.pid}"]
    assert "" == subprocess.run(find, capture_output=True, text=True, check=False).stdout
    assert [line for line in mounts.splitlines() if str(project) in line] == [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(project) in line
    ]


def processes(project: Path) -> list[str]:
    """Processes that have to do with a project: by command line, directory, or root filesystem."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or process.name == str(os.getpid()):
            continue
        try:
            facts = (process / "cmdline").read_text(), os.readlink(process / "cwd"), (process / "mountinfo").read_text()
        except (OSError, UnicodeDecodeError):
            continue
        if any(str(project) in fact for fact in facts):
            found.append(f"{process.name} {facts[0]}")
    return found
