"""ctr, containerd's own client."""

import os
import re
import signal
from typing import Any

import pytest

from tests.support import profiles
from tests.support.containerd import BUSYBOX, Containerd
from tests.support.daemon import until
from tests.support.docker import LATE
from tests.support.leaks import children, processes

pytestmark = pytest.mark.cgroup


@pytest.fixture
def run(ctr: Containerd):
    """ctr run. A program that ctr waits for starts a moment later: like Docker, ctr misses a container that ends before
    ctr attaches to it."""

    def call(name, *command: Any, status=0, options=()):
        delayed = command if "--detach" in options or command == ("none",) else (*LATE, *command)
        return ctr("run", *ctr.options(), *options, BUSYBOX, name, *delayed, status=status)

    return call


@pytest.fixture
def box(ctr: Containerd, run):
    """The name of a container that runs."""
    run("box", "sleep", "99", options=["--detach"])
    return "box"


def status(ctr, name):
    """A task's status."""
    return re.search(rf"^{name}\s+\d+\s+(\w+)", ctr("tasks", "ls"), re.M)[1]


def test_run(run) -> None:
    """ctr run: output and exit status."""
    assert "out" == run("box", "echo", "out", options=["--rm"])
    run("box", "sh", "-c", "exit 7", options=["--rm"], status=7)


def test_run_terminal(ctr: Containerd) -> None:
    """ctr run --tty."""
    terminal = ctr.terminal("run", *ctr.options(), "--rm", "--tty", BUSYBOX, "box", "sh")
    try:
        terminal.expect("/ # ")
        terminal.type("tty; exit 3\r")
        terminal.expect("/dev/pts/0\r")
        assert 3 == terminal.wait()
    finally:
        terminal.end()


def test_exec(ctr: Containerd, box) -> None:
    """ctr tasks exec: output, exit status, user, working directory.

    ctr loses the output of a process that ends before ctr's thread has opened the FIFO. It does so with runc as well,
    if the thread is late.
    """

    def execute(*command: str, options=(), status=0) -> str:
        return ctr("tasks", "exec", "--exec-id", "e", *options, box, *LATE, *command, status=status)

    assert "out" == execute("echo", "out")
    assert "uid=1000 gid=1000" in execute("id", options=["--user", "1000:1000"])
    assert "/etc" == execute("pwd", options=["--cwd", "/etc"])
    execute("sh", "-c", "exit 5", status=5)


def test_pause(ctr: Containerd, box) -> None:
    """ctr tasks pause and resume."""
    ctr("tasks", "pause", box)
    assert "PAUSED" == status(ctr, box)

    ctr("tasks", "resume", box)
    assert "RUNNING" == status(ctr, box)


def test_kill(ctr: Containerd, box) -> None:
    """ctr tasks kill and delete."""
    ctr("tasks", "kill", "--signal", "SIGKILL", box)
    until(lambda: status(ctr, box) == "STOPPED", "it ends")

    ctr("tasks", "delete", box)
    ctr("containers", "delete", box)


def test_kill_all(ctr: Containerd, box) -> None:
    """ctr tasks kill --all."""
    ctr("tasks", "exec", "--detach", "--exec-id", "e", box, "sleep", "98")

    ctr("tasks", "kill", "--all", "--signal", "SIGKILL", box)

    until(lambda: status(ctr, box) == "STOPPED", "all of it ends")


def test_delete_force(ctr: Containerd, box) -> None:
    """ctr tasks delete --force of one that runs."""
    ctr("tasks", "delete", "--force", box)


def test_ps(ctr: Containerd, box) -> None:
    """ctr tasks ps: the processes."""
    ctr("tasks", "exec", "--detach", "--exec-id", "e", box, "sleep", "98")

    until(lambda: len(ctr("tasks", "ps", box).splitlines()) == 3, "there are two, below a heading")


def test_metrics(ctr: Containerd, box) -> None:
    """ctr tasks metrics."""
    assert box in ctr("tasks", "metrics", box)


@pytest.mark.parametrize(
    ("options", "script", "expected"),
    [
        (["--read-only"], "touch /x 2>&1", "Read-only file system"),
        (["--env", "A=b"], "echo $A", "b"),
        (["--cwd", "/etc"], "pwd", "/etc"),
        (["--user", "1000:1001"], "id", "uid=1000 gid=1001"),
        (["--hostname", "name"], "hostname", "name"),
        (["--privileged"], "mount -t tmpfs x /tmp && echo mounted", "mounted"),
        (["--cap-add", "CAP_SYS_ADMIN"], "mount -t tmpfs x /tmp && echo mounted", "mounted"),
        (
            ["--mount", "type=bind,src=/usr,dst=/mnt,options=rbind:ro"],
            "ls /mnt; touch /mnt/x 2>&1",
            "Read-only file system",
        ),
        (["--device", "/dev/fuse"], "exec 3<>/dev/fuse && echo open", "open"),
        (["--net-host"], "ls /sys/class/net | wc -l", ""),
        (["--seccomp"], "grep Seccomp: /proc/self/status", "2"),
        pytest.param(
            *(["--cgroup", "/default/where"], "cat /proc/self/cgroup", "0::/default/where"),
            marks=pytest.mark.driver("cgroupfs"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options(run, options: Any, script: Any, expected: Any) -> None:
    """ctr run, with options."""
    assert expected in run("box", "sh", "-c", f"{script}; true", options=["--rm", *options])


@pytest.mark.parametrize(
    ("options", "capabilities"),
    [
        ([], "default capabilities"),
        (["--cap-add", "CAP_SYS_ADMIN"], "CAP_SYS_ADMIN added"),
        (["--cap-add", "CAP_SYS_PTRACE"], "CAP_SYS_PTRACE added"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_seccomp_default_is_known(ctr: Containerd, run, options: list[str], capabilities: str) -> None:
    """ctr run --seccomp: the executable knows the default seccomp profile."""
    run("box", "sleep", "99", options=["--detach", "--seccomp", *options])
    (config,) = ctr.folder.rglob("default/box/config.json")

    assert f"containerd 2.1, {capabilities}" == profiles.described(config)


@pytest.mark.may_skip("it is not about pyoci then")
def test_no_pivot(ctr: Containerd, run) -> None:
    """ctr run --no-pivot."""
    if ctr.version().startswith("1."):
        pytest.skip("containerd 2: with --no-pivot, ctr forgets --runc-binary")
    assert "here" == run("box", "echo", "here", options=["--rm", "--no-pivot"])


def test_program_is_missing(run) -> None:
    """ctr run of a program that is not there."""
    out = run("box", "none", options=["--rm"], status=1)

    assert 'exec: "none": executable file not found in $PATH' in out
    assert "OCI runtime create failed" in out


def test_shim_is_killed(ctr: Containerd, box) -> None:
    """kill -9 of the shim: the task is gone, and so are its processes."""
    pid = int(re.search(rf"^{box}\s+(\d+)", ctr("tasks", "ls"), re.M)[1])
    (shim,) = (each for each, _, _ in processes() if pid in children(each))

    os.kill(shim, signal.SIGKILL)

    until(lambda: box not in ctr("tasks", "ls"), "the task is gone")
    ctr("containers", "delete", box)
