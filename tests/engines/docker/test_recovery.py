"""Crashes: kill -9 of what runs containers, in the middle of what it does. The engine recovers, and nothing is left."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import until
from tests.support.docker import Docker, separate
from tests.support.leaks import processes

STEPS = 6  # moments in the course of a command
COURSE = 0.3  # seconds that a command takes, about
KILLED = pytest.mark.differs("If runc is killed in the middle of a command, it can leave a cgroup or a process behind.")


def remove_remains(docker: Docker) -> None:
    """Remove what a dockerd leaves that is killed: shims without a task, and its mounts."""
    folder = str(docker.folder)
    for pid, _, name in processes():  # one that had just been started when its containerd was killed has no task yet
        if name == "containerd-shim" and folder in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if folder in (target := line.split()[4]):
            subprocess.run(["umount", "--lazy", target], check=False, capture_output=True)


@pytest.fixture
def crashing(daemon: Docker, runtime: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A separate dockerd, which may crash."""
    with separate(Docker, "crash", runtime, *getattr(request, "param", []), clean_up=remove_remains) as docker:
        docker.nap = str(9_000_000 + time.monotonic_ns() % 1_000_000)  # seconds; they show which processes it runs
        yield docker


def sleepers(docker):
    """The containers' processes that live."""
    return [
        pid
        for pid, _, name in processes()
        if name == "sleep" and docker.nap in Path(f"/proc/{pid}/cmdline").read_text()
    ]


def kill(name, client, docker):
    """kill -9 of the newest process of this name, which may be about to come as long as the client has not what it asks
    for; whether there was one."""
    while client.poll() is None and not sleepers(docker):
        found = [(int(started), pid) for pid, started, command in processes() if command == name[:15]]
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(max(found)[1], signal.SIGKILL)
                return True
        time.sleep(0.002)
    return False


def start(docker, *command: Any):
    """A client in the background."""
    return subprocess.Popen([*docker.client, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def await_end(client) -> None:
    """A client may wait for good for a container whose shim was killed."""
    try:
        client.wait(2)
    except subprocess.TimeoutExpired:
        client.kill()
        client.wait()


def test_daemon_is_killed(crashing) -> None:
    """kill -9 of dockerd: another dockerd ends the containers, and starts them again."""
    crashing("run", "-d", "--name", "box", "--stop-signal", "KILL", "busybox", "sleep", crashing.nap)

    crashing.daemon.kill()
    crashing.restart()

    crashing.await_state("box", "exited")
    until(lambda: not sleepers(crashing), "its process is gone")
    crashing("start", "box")
    until(lambda: 1 == len(sleepers(crashing)), "its program runs")  # with runc maybe not before `start` has ended


@pytest.mark.cgroup
@pytest.mark.parametrize("crashing", [["--live-restore"]], indirect=True, ids=["live-restore"])
def test_daemon_is_killed_and_containers_go_on(crashing: list[str]) -> None:
    """kill -9 of dockerd: with --live-restore the containers go on, and another dockerd has them again."""
    crashing("run", "-d", "--name", "box", "--stop-signal", "KILL", "busybox", "sleep", crashing.nap)
    before = sleepers(crashing)

    crashing.daemon.kill()
    crashing.restart()

    assert ("running", before) == (crashing.state("box"), sleepers(crashing))
    assert "hi" == crashing("exec", "box", "echo", "hi")
    crashing("stop", "--time", "0", "box")


@pytest.mark.cgroup
def test_shim_is_killed(crashing) -> None:
    """kill -9 of a container's shim: the container ends, and can be started again."""
    crashing("run", "-d", "--name", "box", "--stop-signal", "KILL", "busybox", "sleep", crashing.nap)

    os.kill(crashing.shim("box"), signal.SIGKILL)

    crashing.await_state("box", "exited")
    until(lambda: not sleepers(crashing), "its process is gone")
    crashing("start", "box")
    assert "hi" == crashing("exec", "box", "echo", "hi")


@KILLED
@pytest.mark.parametrize("victim", ["dockerd", "containerd-shim", pytest.param("runtime", marks=pytest.mark.cgroup)])
def test_killed_while_creating(crashing, victim: str, runtime: str, endurance: bool) -> None:
    """kill -9 at many moments of a `docker run`: then it can be removed, and another one runs."""
    killed = 0
    for step in range(STEPS * (8 if endurance else 1)):
        client = start(
            crashing, "run", "-d", "--name", "box", "--stop-signal", "KILL", "busybox", "sleep", crashing.nap
        )
        time.sleep(COURSE * (step % STEPS) / STEPS)
        if victim == "dockerd":
            crashing.daemon.kill()
            crashing.restart()
            killed += 1
        else:
            killed += kill(runtime if victim == "runtime" else victim, client, crashing)
        await_end(client)
        crashing.run("rm", "-f", "box")
        crashing.remove_forgotten()
        until(lambda: not sleepers(crashing), "its process is gone")
        assert "hi" == crashing("run", "--rm", "busybox", "echo", "hi")
    assert killed


@KILLED
@pytest.mark.parametrize("victim", ["dockerd", "containerd-shim", "runtime"])
def test_killed_while_executing(crashing, victim: str, runtime: str, endurance: bool) -> None:
    """kill -9 at many moments of a `docker exec`: then the container can be restarted, and joined."""
    crashing("run", "-d", "--name", "box", "--stop-signal", "KILL", "busybox", "sleep", "999")
    killed = 0
    for step in range(STEPS * (8 if endurance else 1)):
        client = start(crashing, "exec", "box", "sleep", crashing.nap)
        time.sleep(COURSE / 2 * (step % STEPS) / STEPS)
        if victim == "dockerd":
            crashing.daemon.kill()
            crashing.restart()
            killed += 1
        else:
            killed += kill(runtime if victim == "runtime" else victim, client, crashing)
        if victim == "runtime":
            assert "hi" == crashing("exec", "box", "echo", "hi")
        await_end(client)  # what it began later would be in the next life
        crashing("restart", "--time", "0", "box")
        until(lambda: not sleepers(crashing), "its process is gone")
        assert "hi" == crashing("exec", "box", "echo", "hi")
    assert killed
