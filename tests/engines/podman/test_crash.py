"""conmon is killed in the middle of things; Podman recovers."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.daemon import until
from tests.support.leaks import processes
from tests.support.podman import Podman


def conmons():
    """The processes of that name."""
    return {pid for pid, _, name in processes() if name == "conmon"}


def kill_conmon(podman, arguments, known, delay) -> None:
    """Run Podman, and kill the conmon that it starts, `delay` seconds later. Fails if there was none."""
    command = podman.start(*arguments)
    while not conmons() - known and command.poll() is None:
        pass
    time.sleep(delay)
    killed = 0
    while not killed and command.poll() is None:  # the one that is seen first is about to end, and leaves another
        killed = sum(kill(pid) for pid in conmons() - known)
    try:
        command.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        command.kill()
        command.communicate(timeout=120)
    assert killed, "no conmon lived to be killed"


def kill(pid):
    """kill -9; whether it lived."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.mark.differs("If runc is killed in the middle of a command, it can leave a cgroup or a process behind.")
@pytest.mark.parametrize("delay", [0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.15])
def test_conmon_is_killed_in_create(either: Podman, delay: float) -> None:
    """kill -9 of conmon while the container is made, then rm --force."""
    kill_conmon(either, ["run", "--name", "box", "busybox", "sleep", "99"], set(), delay)

    either("rm", "--force", "--time", "0", "box")
    either.delete_forgotten()
    # the name is free, and the container is made anew
    assert "well" == either("run", "--rm", "--name", "box", "busybox", "echo", "well")


@pytest.mark.differs("If conmon is killed while a hook runs, runc leaves the hook and the cgroup.")
def test_conmon_is_killed_while_a_hook_runs(podman: Podman) -> None:
    """kill -9 of conmon while a createRuntime hook runs: the hook and what was made end with it."""
    hooks = podman.folder / "slow"
    hooks.mkdir(exist_ok=True)
    (hooks / "slow.json").write_text(
        '{"version": "1.0.0", "hook": {"path": "/bin/sleep", "args": ["sleep", "77"]},'
        ' "when": {"always": true}, "stages": ["createRuntime"]}'
    )

    def hook_runs():
        for pid, _, name in processes():
            if name == "sleep":
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if b"77" in file.read():
                        return True
        return False

    command = podman.start("--hooks-dir", hooks, "run", "--name", "box", "busybox", "true")
    until(hook_runs, "the hook runs")
    assert sum(map(kill, conmons()))
    command.communicate(timeout=30)

    until(lambda: not hook_runs(), "the hook has ended")
    podman("rm", "--force", "--time", "0", "box")


@pytest.mark.parametrize("delay", [0, 0.01, 0.02, 0.04, 0.1])
def test_conmon_is_killed_in_exec(podman: Podman, delay: float) -> None:
    """kill -9 of conmon while another process is made; the container goes on."""
    podman("run", "-d", "--name", "box", "busybox", "sleep", "99")

    kill_conmon(podman, ["exec", "box", "sleep", "88"], conmons(), delay)

    assert "well" == podman("exec", "box", "echo", "well")
    podman("rm", "--force", "--time", "0", "box")


@pytest.mark.cgroup
def test_conmon_of_a_container_that_runs_is_killed(either: Podman) -> None:
    """kill -9 of the conmon of a container that runs: it can be stopped and removed."""
    either("run", "-d", "--name", "box", "busybox", "sleep", "99")
    assert sum(map(kill, conmons()))

    either("rm", "--force", "--time", "0", "box")


def test_many_in_a_row(podman: Podman, endurance: bool) -> None:
    """run --rm, again and again."""
    for number in range(200 if endurance else 5):
        assert str(number) == podman("run", "--rm", "busybox", "echo", number)


def test_many_at_once(podman: Podman, endurance: bool) -> None:
    """run --rm, many at once."""
    commands = [podman.start("run", "--rm", "busybox", "echo", n) for n in range(50 if endurance else 5)]
    for number, command in enumerate(commands):
        assert f"{number}\n" == command.communicate(timeout=300)[0]
