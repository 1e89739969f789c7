"""A container whose first process has moved to another cgroup, as buildkitd does in a privileged pod of Kubernetes.

The first cgroup may be gone then: its manager removes it once it is empty.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import PATIENCE, Bundle, Runtime, cgroup_mount, wait_for

pytestmark = pytest.mark.root

# The shell forks children that tell of SIGTERM, and live on.
SCRIPT = """
trap 'echo first >> /tmp/told' TERM
sh -c 'trap "echo second >> /tmp/told" TERM; echo > /tmp/ready; while :; do sleep 0.05; done' &
while :; do sleep 0.05; done
"""


class Moved:
    """A container that runs, and the cgroup its processes are in."""

    def __init__(self, runtime: Runtime, bundle: Bundle, beside: Path) -> None:
        self.runtime = runtime
        self.beside = beside
        self.told = bundle.rootfs / "tmp/told"
        (bundle.rootfs / "tmp").chmod(0o777)
        bundle.shell(SCRIPT)
        runtime.create()
        runtime.start()
        wait_for((bundle.rootfs / "tmp/ready").exists)
        record = runtime.record()["cgroup"]
        self.first = Path(record["mount"] + record["path"])

    def move(self) -> None:
        """Every process goes, as the engine's scripts have it, and the first cgroup with the last."""
        self.move_processes()
        self.first.rmdir()

    def move_processes(self) -> None:
        while pids := (self.first / "cgroup.procs").read_text().split():
            for pid in pids:
                move(pid, self.beside)


def move(pid: int | str, cgroup: Path) -> None:
    try:
        (cgroup / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        pass  # a sleep that has ended


@pytest.fixture
def beside(runtime: Runtime) -> Iterator[Path]:
    """A cgroup with a process of the host's in it, which no command may touch."""
    path = Path(cgroup_mount(), f"{runtime.host.token}-beside")
    path.mkdir()
    stranger = subprocess.Popen(["/bin/sleep", "1000"])
    runtime.host.ours(stranger.pid)
    move(stranger.pid, path)
    try:
        yield path
    finally:
        lives = stranger.poll() is None
        (path / "cgroup.kill").write_text("1")
        stranger.wait(PATIENCE)
        runtime.clean_up()
        wait_for(lambda: "populated 0" in (path / "cgroup.events").read_text())
        path.rmdir()
    assert lives


@pytest.fixture(params=[False, True], ids=["host's cgroup namespace", "its own cgroup namespace"])
def moved(request: pytest.FixtureRequest, runtime: Runtime, bundle: Bundle, beside: Path) -> Moved:
    """Its cgroup is gone."""
    if request.param:
        bundle.namespace("cgroup")
    made = Moved(runtime, bundle, beside)
    made.move()
    return made


def cgroup_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].partition("::")[2]


@contextlib.contextmanager
def executed(runtime):
    """A process that exec adds, as the host numbers it; this is who reaps it."""
    pid_file = runtime.folder / "exec-pid"
    words = ["exec", "--detach", "--pid-file", pid_file, runtime.id, "sleep", "100"]
    with (runtime.folder / "exec-out").open("wb") as out:
        done = subprocess.run(
            runtime.command(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=PATIENCE, check=False
        )
    assert (0, "") == (done.returncode, (runtime.folder / "exec-out").read_text())
    pid = int(pid_file.read_text())
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_exec(moved: Moved, runtime: Runtime) -> None:
    """The process belongs where the container's first one is."""
    with executed(runtime) as pid:
        assert f"/{moved.beside.name}" == cgroup_of(pid)
    assert "running" == runtime.state()["status"]
    assert ["running"] == [state["status"] for state in json.loads(runtime("list", "--format", "json").out)]


def test_exec_below_a_cgroup_that_is_gone(moved: Moved, runtime: Runtime) -> None:
    """The path is one below the container's."""
    message = runtime.fails("exec", "--cgroup", "sub", runtime.id, "true")
    assert "no such file or directory" in message


def test_exec_while_the_first_cgroup_is_there(runtime: Runtime, bundle: Bundle, beside: Path) -> None:
    """The container's cgroup goes before that of its first process."""
    made = Moved(runtime, bundle, beside)
    made.move_processes()
    with executed(runtime) as pid:
        assert f"/{made.first.name}" == cgroup_of(pid)


def test_exec_where_the_first_cgroup_takes_no_process(runtime: Runtime, bundle: Bundle, beside: Path) -> None:
    """It has given a controller to its children, and the first process is elsewhere."""
    made = Moved(runtime, bundle, beside)
    made.move_processes()
    controllers = (made.first / "cgroup.controllers").read_text().split()
    if not controllers:
        pytest.skip("no controller")
    (made.first / "cgroup.subtree_control").write_text(f"+{controllers[0]}")
    with executed(runtime) as pid:
        assert f"/{beside.name}" == cgroup_of(pid)


def test_exec_in_the_root_cgroup(runtime: Runtime, bundle: Bundle, beside: Path) -> None:
    """Which has no name below the mount."""
    made = Moved(runtime, bundle, beside)
    made.beside = Path(cgroup_mount())
    made.move()
    with executed(runtime) as pid:
        assert "/" == cgroup_of(pid)


def test_ps(moved: Moved, runtime: Runtime) -> None:
    """Lists what is in the cgroup and of the container, by its pid namespace."""
    pids = json.loads(runtime("ps", "--format", "json", runtime.id).out)
    here = [int(pid) for pid in (moved.beside / "cgroup.procs").read_text().split()]
    assert runtime.pid() == pids[0]
    assert 2 <= len(pids) < len(here) + 2
    with executed(runtime) as pid:
        assert pid in json.loads(runtime("ps", "--format", "json", runtime.id).out)


def test_kill_all(moved: Moved, runtime: Runtime) -> None:
    """Each process of the container gets the signal, and no other one of the cgroup."""
    assert (0, "", "") == tuple(runtime("kill", "--all", runtime.id, "TERM"))
    wait_for(lambda: moved.told.exists() and {"first", "second"} == set(moved.told.read_text().split()))
    assert (0, "", "") == tuple(runtime("kill", "--all", runtime.id, "KILL"))
    runtime.wait("stopped")
    runtime.delete()


def test_kill_all_while_the_first_cgroup_is_there(runtime: Runtime, bundle: Bundle, beside: Path) -> None:
    """It reaches both those in it and those that have left it with the first process."""
    made = Moved(runtime, bundle, beside)
    made.move_processes()
    with executed(runtime) as pid:
        assert 0 == runtime("kill", "--all", runtime.id, "TERM").status
        wait_for(lambda: made.told.exists() and {"first", "second"} == set(made.told.read_text().split()))
        wait_for(lambda: f"{pid} (sleep) Z" in Path(f"/proc/{pid}/stat").read_text())


def test_kill_all_in_the_hosts_pid_namespace(runtime: Runtime, bundle: Bundle, beside: Path) -> None:
    """Nothing tells the container's processes from others: the first one alone is signalled."""
    bundle.linux["namespaces"] = [each for each in bundle.linux["namespaces"] if each["type"] != "pid"]
    made = Moved(runtime, bundle, beside)
    made.move()
    assert (0, "", "") == tuple(runtime("kill", "--all", runtime.id, "TERM"))
    wait_for(lambda: made.told.exists() and made.told.read_text())
    assert "first\n" == made.told.read_text()


@pytest.mark.parametrize("gone", [False, True])
def test_pause(runtime: Runtime, bundle: Bundle, beside: Path, gone: bool) -> None:
    """It can't be stopped as a whole, and pause says so. Others in its cgroup are left alone."""
    made = Moved(runtime, bundle, beside)
    (made.move if gone else made.move_processes)()
    expected = f"cannot pause the container: its first process has moved to cgroup /{beside.name}"
    assert expected == runtime.fails("pause", runtime.id)
    assert "running" == runtime.state()["status"]
    assert "frozen 0" in (beside / "cgroup.events").read_text()


@pytest.mark.parametrize("words", ["update --pids-limit 9 ID", "events --stats ID"])
def test_limits_and_statistics(moved: Moved, runtime: Runtime, words: str) -> None:
    """There is nothing to limit or to read; others' limits stay."""
    message = runtime.fails(*[runtime.id if word == "ID" else word for word in words.split()])
    assert f"{moved.first.name}: no such file or directory" in message


def test_delete(moved: Moved, runtime: Runtime) -> None:
    """All of it goes, and the cgroup that it has moved to stays."""
    runtime.delete("--force")
    assert 1 == len((moved.beside / "cgroup.procs").read_text().split())
