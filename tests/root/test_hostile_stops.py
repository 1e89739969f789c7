"""The container stops or traces processes while the runtime sets them up: no command hangs."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import Attack
from tests.support.probe import build
from tests.support.runtime import wait_for

pytestmark = pytest.mark.root

BOUND = 30  # seconds for a command that the runtime gives up, on a busy machine
AGAIN = "another process stops the container's process again and again while the runtime sets it up\n"
KILLED = "the process was killed by signal 9 while it was set up (hint: out of memory? the limit may be too low)\n"
HELD = "another process has traced and held the container's process for 10 s\n"


@pytest.fixture(scope="session")
def stopper() -> Path:
    return build("stopper")


@pytest.fixture
def stopped_by(attack: Attack, stopper: Path) -> Callable[..., Any]:
    """A container whose first process attacks what the runtime sets up in it."""

    def start(how: str, *capabilities: str) -> Attack:
        shutil.copy(stopper, attack.rootfs / "bin/stopper")
        for name in ("bounding", "effective", "permitted"):
            attack.process["capabilities"][name] += capabilities
        attack.bundle.shell(f"/bin/stopper {how} & exec sleep 1000")
        assert 0 == attack.create().status
        assert 0 == attack.start().status
        wait_for(lambda: attack.output().startswith("."))
        return attack

    return start


def test_exec_goes_on_after_a_stop(stopped_by: Callable[..., Any]) -> None:
    """Root of the container stops the process of exec once: the runtime notices it, and the program runs."""
    attack = stopped_by("once")
    hits = 0
    for attempt in range(200):  # on a busy machine the attacker is late for many of them
        result = attack("exec", attack.id, "/bin/true", timeout=BOUND)
        assert (0, "") == (result.status, result.err)
        hits = attack.output().count(".") - 1
        if hits and attempt >= 19:
            break
    assert hits


def outcome(attack: Attack, *words: object) -> tuple[int, str]:
    """How a command ends whose program may be stopped for ever; that one must not hold a pipe to the test."""
    with (attack.folder / "told").open("wb") as told:
        done = subprocess.run(
            attack.command(*words), stdin=subprocess.DEVNULL, stdout=told, stderr=told, timeout=BOUND, check=False
        )
    return done.returncode, (attack.folder / "told").read_text()


def test_exec_ends_under_endless_stops(stopped_by: Callable[..., Any]) -> None:
    """Root of the container stops it again and again: the program runs, or the runtime gives it up in bounded time."""
    attack = stopped_by("stop")
    for attempt in range(200):
        assert outcome(attack, "exec", "--detach", attack.id, "/bin/true") in ((0, ""), (255, AGAIN))
        if attempt >= 9 and attack.output().count(".") > 1:
            break
    assert attack.output().count(".") > 1


@pytest.mark.parametrize(
    ("how", "message"), [("hold", HELD), ("keep", KILLED)], ids=["held by a tracer", "killed and not reaped"]
)
def test_exec_ends_under_a_tracer(stopped_by: Callable[..., Any], how: str, message: str) -> None:
    """A tracer in the container holds the process of exec, or keeps its end to itself: the runtime gives it up."""
    attack = stopped_by(how, "CAP_SYS_PTRACE")
    for _ in range(1000):
        result = outcome(attack, "exec", attack.id, "/bin/true")
        if result != (0, ""):
            break
    assert (255, message) == result


def test_exec_of_a_program_that_a_tracer_keeps(attack: Attack, stopper: Path) -> None:
    """In the foreground exec returns its program's exit status, though a tracer never reaps the program."""
    shutil.copy(stopper, attack.rootfs / "bin/stopper")
    for name in ("bounding", "effective", "permitted"):
        attack.process["capabilities"][name] += ["CAP_SYS_PTRACE"]
    attack.bundle.shell("exec sleep 1000")
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    assert (7, "") == outcome(attack, "exec", attack.id, "/bin/stopper", "exit")


def neighbour(attack: Attack) -> str:
    """The config becomes that of another container in the pid namespace of the first one."""
    for entry in attack.linux["namespaces"]:
        if entry["type"] == "pid":
            entry["path"] = f"/proc/{attack.pid()}/ns/pid"
    attack.process["args"] = ["/bin/true"]
    attack.bundle.write()
    name = f"{attack.id}-neighbour"
    attack.ids.add(name)
    return name


@pytest.mark.parametrize("how", ["once", "stop"])
def test_create_in_a_joined_pid_namespace(stopped_by: Callable[..., Any], how: str) -> None:
    """A container in the namespace stops the first process of another one while that is made, and before its start."""
    attack = stopped_by(how)
    name = neighbour(attack)
    for _ in range(5):
        status, message = outcome(attack, "create", "--bundle", attack.bundle.folder, name)
        if (status, message) == (0, ""):
            result = outcome(attack, "start", name)
            assert result in ((0, ""), (1, AGAIN))
            assert how == "stop" or result == (0, "")
        else:
            assert (1, AGAIN, "stop") == (status, message, how)
        assert 0 == attack("delete", "--force", name, timeout=BOUND).status
    assert attack.output().count(".") > 1


def test_start_of_a_stopped_process(attack: Attack) -> None:
    """Another process has stopped the one that waits for its start: `start` continues it."""
    attack.bundle.shell("echo started; exec sleep 1000")
    assert 0 == attack.create().status
    os.kill(attack.pid(), signal.SIGSTOP)
    wait_for(lambda: ") T " in Path(f"/proc/{attack.pid()}/stat").read_text())
    assert 0 == attack("start", attack.id, timeout=BOUND).status
    wait_for(lambda: attack.output() == "started\n")
