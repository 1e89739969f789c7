"""A create at work: the container is being created, and no other command takes it for what it will be, or has been.

strace stops create as it enters a system call. Other commands are run there; then create goes on.
"""

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci import create as creation
from pyoci.cli.log import Log
from pyoci.request import CreateRequest
from tests.support.moments import Moments
from tests.support.runtime import PATIENCE, Bundle, Runtime, wait_for

pytestmark = pytest.mark.root

CREATING = "is being created|still being created|that is not stopped: creating"
OTHERS = (
    "start ID",
    "kill ID KILL",
    "kill --all ID KILL",
    "pause ID",
    "resume ID",
    "update --pids-limit 9 ID",
    "ps ID",
    "events --stats ID",
    "exec ID true",
    "delete ID",
)


@pytest.fixture
def hold(runtime: Runtime, bundle: Bundle) -> Iterator[Path]:
    """A createRuntime hook runs as long as this file exists."""
    hold = runtime.folder / "hold"
    hold.touch()
    script = f"touch {runtime.folder}/running; while [ -e {hold} ]; do sleep 0.01; done"
    bundle.hook("createRuntime", script).program("sleep", 100).write()
    yield hold
    hold.unlink(missing_ok=True)


def begin_create(runtime: Runtime) -> subprocess.Popen[Any]:
    """A create that runs beside the test."""
    command = runtime.command("create", "--bundle", runtime.bundle.folder, runtime.id)
    with (runtime.folder / "out").open("wb") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def words_of(runtime: Runtime, command: str) -> list[str]:
    return [runtime.id if word == "ID" else word for word in command.split()]


def test_other_commands_are_refused(runtime: Runtime, hold: Path) -> None:
    """At once, and without a trace: create succeeds."""
    with begin_create(runtime) as create:
        try:
            wait_for((runtime.folder / "running").exists)
            before = time.monotonic()
            messages = {command: runtime.fails(*words_of(runtime, command)) for command in OTHERS}
            seconds = time.monotonic() - before
            states = [runtime.state(), *json.loads(runtime("list", "--format", "json").out)]
        finally:
            hold.unlink()
    assert [] == [(command, text) for command, text in messages.items() if not re.search(CREATING, text)]
    assert seconds < PATIENCE / 2
    assert ["creating", "creating"] == [state["status"] for state in states]
    assert (0, "created") == (create.returncode, runtime.state()["status"])


def test_every_moment_of_create(runtime: Runtime, bundle: Bundle) -> None:
    """From the record's first byte on it is being created; until then there is no such container."""
    bundle.program("sleep", 100)
    moments, words, points = moments_of_create(runtime)
    seen = set()
    for moment in points:
        with moments.stopped(moment, *words) as stopped:
            if stopped:
                recorded = recorded_status(runtime)
                first = status_and_error(runtime)
                assert first[0] == runtime.state().get("status", "")
                if first[0] != "created":
                    results = {command: runtime(*words_of(runtime, command)) for command in OTHERS}
                    listed = [state["status"] for state in json.loads(runtime("list", "--format", "json").out) or []]
        assert "created" == runtime.state()["status"], moment
        runtime.delete("--force")
        if not stopped:
            continue
        seen.add(first[0])
        assert recorded == first[0], moment
        if recorded == "created":
            continue
        assert [first[0]] * bool(first[0]) == listed, moment
        expected = CREATING if first[0] else f"{CREATING}|does not exist"
        for command, result in results.items():
            assert result.status == (255 if "exec" in command else 1), (moment, command)
            assert re.search(expected, result.err), (moment, command, result.err)
    assert {"", "creating", "created"} == seen


def recorded_status(runtime: Runtime) -> str:
    """What the record says; "" before there is one."""
    record = runtime.root / runtime.id / "record.json"
    return json.loads(record.read_text())["status"] if record.exists() else ""


def moments_of_create(runtime: Runtime) -> tuple[Moments, list[Path | str], list[tuple[str, int, str]]]:
    """The moments of a create that is not the first one under its root: their numbers are those of every further
    one.
    """
    moments = Moments(runtime)
    words = ["create", "--bundle", runtime.bundle.folder, runtime.id]
    runtime.create()
    runtime.delete("--force")
    points = moments.of(*words, first=r"^mkdir")
    runtime.delete("--force")
    return moments, words, points


def status_and_error(runtime: Runtime) -> tuple[str, str]:
    result = runtime("state", runtime.id)
    return (json.loads(result.out)["status"], "") if result.status == 0 else ("", result.err)


def test_create_is_polled(runtime: Runtime, bundle: Bundle) -> None:
    """A poller that deletes what has stopped never deletes what a create makes."""
    bundle.program("sleep", 100).write()
    statuses = set()
    ended = threading.Event()
    at_work = 0  # the number of the create at work; 0 between them

    def poll() -> None:
        while not ended.is_set():
            number = at_work
            status, _ = status_and_error(runtime)
            if not number or number != at_work:
                continue  # it may have met the end of the container before
            statuses.add(status)
            if status == "stopped":
                runtime("delete", runtime.id)

    pollers = [threading.Thread(target=poll) for _ in range(2)]
    for poller in pollers:
        poller.start()
    try:
        for number in range(1, 31):
            at_work = number
            status = begin_create(runtime).wait(PATIENCE)
            assert 0 == status, (runtime.folder / "out").read_text()
            assert "created" == runtime.state()["status"]
            at_work = 0
            runtime.delete("--force")
    finally:
        ended.set()
        for poller in pollers:
            poller.join()
    assert statuses <= {"", "creating", "created"}


@pytest.mark.parametrize("words", [["delete"], ["delete", "--force"]], ids=" ".join)
def test_delete_between_claim_and_lock(runtime: Runtime, bundle: Bundle, words: list[str]) -> None:
    """The id is claimed before it is locked: a delete at this moment finds no container, and create claims it anew."""
    bundle.program("sleep", 100)
    moments, create, points = moments_of_create(runtime)
    locking = next(n for n, moment in enumerate(points) if moment[0] == "flock")
    for moment in points[:locking]:
        with moments.stopped(moment, *create) as stopped:
            assert stopped
            result = runtime(*words, runtime.id)
        expected = (0, "") if "--force" in words else (1, f"container `{runtime.id}` does not exist\n")
        assert expected == (result.status, result.err), moment
        assert "created" == runtime.state()["status"], moment
        runtime.delete("--force")


def test_forced_delete_ends_a_create(runtime: Runtime, bundle: Bundle) -> None:
    """At every moment: it kills what create has made so far, and create takes everything back."""
    bundle.program("sleep", 100)
    moments, words, points = moments_of_create(runtime)
    locking = next(n for n, moment in enumerate(points) if moment[0] == "flock")
    killed = 0
    for moment in points[locking + 1 :: 7]:
        with moments.stopped(moment, *words, statuses=(0, 1)) as stopped:
            state = status_and_error(runtime)[0]
            pid = runtime.pid() if state else 0
            with open(runtime.folder / "delete", "wb") as err:
                delete = subprocess.Popen(
                    runtime.command("delete", "--force", runtime.id), stdin=subprocess.DEVNULL, stdout=err, stderr=err
                )
            if pid:
                wait_for(lambda pid=pid: not is_alive(pid), str(moment))
                killed += stopped and state == "creating"
        assert 0 == delete.wait(PATIENCE), (moment, (runtime.folder / "delete").read_text())
        assert not (runtime.root / runtime.id).exists(), (moment, pid, state, delete.returncode)
        runtime.assert_gone()
    assert killed


def test_forced_delete_waits_for_a_hook(runtime: Runtime, hold: Path) -> None:
    """The container's process ends at once, and create with its hook."""
    with begin_create(runtime) as create:
        wait_for((runtime.folder / "running").exists)
        pid = runtime.pid()
        delete = subprocess.Popen(
            runtime.command("delete", "--force", runtime.id), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_for(lambda: not is_alive(pid))
        assert delete.poll() is None
        hold.unlink()
        assert (b"", 0) == (delete.communicate(timeout=PATIENCE)[1], delete.returncode)
    assert 1 == create.returncode
    assert "was killed by signal 9" in runtime.output()
    runtime.assert_gone()


def is_alive(pid: int) -> bool:
    """Whether the process has not ended: one that waits to be reaped has."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("words", [["delete"], ["delete", "--force"]], ids=" ".join)
def test_create_that_was_killed_is_deleted(runtime: Runtime, hold: Path, words: list[str]) -> None:
    """A killed create leaves a stopped container, which delete removes."""
    create = begin_create(runtime)
    wait_for((runtime.folder / "running").exists)
    create.send_signal(signal.SIGKILL)
    create.wait()
    hold.unlink()
    runtime.wait("stopped")
    runtime.delete(*words[1:])
    runtime.assert_gone()


def test_create_claims_the_id_last(runtime: Runtime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a launch can undo the claim, so a lack of memory for the launch must leave no state."""

    def launch(*_: object, **__: object) -> None:
        raise MemoryError

    bundle.program("sleep", 100).write()
    monkeypatch.setattr(creation, "Launch", launch)
    with pytest.raises(MemoryError):
        creation.create(CreateRequest(runtime.id, root=str(runtime.root), bundle=str(bundle.folder), log=Log()))
    runtime.assert_gone()
