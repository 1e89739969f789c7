"""kill -9 of the runtime, or of the container's process, at any moment: what is left can be described and removed.

strace kills a command as it enters a system call, the nth of its name: every call after the command began to change
something is such a moment. No product code knows of this.
"""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.container import Container
from pyoci.delete import delete
from pyoci.errors import StateError
from pyoci.host import state_directory
from tests.support.moments import Moments
from tests.support.runtime import PATIENCE, Bundle, Runtime, status_of, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def moments(runtime: Runtime) -> Moments:
    """The moments of this runtime's commands."""
    return Moments(runtime)


@pytest.fixture
def listener(runtime: Runtime) -> Iterator[Path]:
    """A console socket that takes every connection, and never reads."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(runtime.folder / "console"))
        made.listen(200)
        yield runtime.folder / "console"


def settle(runtime: Runtime) -> str:
    """The container's status, once the processes that a killed runtime took with it are gone; "" if there is none."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline
        result = runtime("state", runtime.id)
        if result.status:
            assert re.search("does not exist|half made", result.err), result
            return ""
        document = json.loads(result.out)
        status = document["status"]
        if status != "creating" and (status != "created" or is_at_rest(document["pid"])):
            return str(status)


def is_at_rest(pid: int) -> bool:
    """Whether the process sleeps, and is not about to be killed."""
    try:
        status = status_of(pid)
    except OSError:
        return False
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return status["State"].startswith("S") and not pending >> signal.SIGKILL - 1 & 1


def assert_removable(runtime: Runtime) -> None:
    """`delete --force` converges, and the host is clean."""
    for _ in range(2):
        runtime.delete("--force")
    runtime.host.assert_clean(runtime.root)


def plain(bundle) -> None:
    """Limits, masks, devices: what every container has."""


def elaborate(bundle) -> None:
    """Every synchronisation point: id maps, clock offsets, hooks, console."""
    bundle.in_user_namespace().namespace("time")
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 10}}
    bundle.process["terminal"] = True
    for kind in ("createRuntime", "createContainer", "startContainer", "poststop"):
        bundle.hook(kind, "true")


@pytest.mark.parametrize("config", [plain, elaborate], ids=lambda config: config.__name__)
def test_create_is_killed(
    runtime: Runtime, bundle: Bundle, moments: Moments, listener: Path, config: Callable[..., Any]
) -> None:
    """Before the commit the container dies with the runtime; after it, it can be started."""
    config(bundle)
    bundle.shell("echo ran > /tmp/marker; exec sleep 100").write()
    marker = bundle.rootfs / "tmp/marker"
    (bundle.rootfs / "tmp").chmod(0o777)
    words = ["create", "--bundle", bundle.folder, "--pid-file", runtime.folder / "pid"]
    words += ["--console-socket", listener, runtime.id] if bundle.process.get("terminal") else [runtime.id]
    points = moments.of(*words, first=r"^mkdir")
    runtime.delete("--force")

    seen = {}
    for moment in points:
        killed = moments.kill(moment, *words)
        status = settle(runtime)
        assert status in ("", "created", "stopped"), moment
        seen.setdefault(status, []).append(moment)
        if status == "created":
            runtime.start()
            wait_for(marker.exists)
            marker.unlink()
        elif status == "stopped":
            assert "stopped" in runtime.fails("start", runtime.id)
        assert killed or status == "created", f"{moment}: {(runtime.folder / 'out').read_text()}"
        assert not marker.exists(), moment
        assert_removable(runtime)
    assert {"", "created", "stopped"} == set(seen)


def test_start_is_killed(runtime: Runtime, bundle: Bundle, moments: Moments) -> None:
    """The container is still created, or it runs; nothing in between."""
    bundle.shell("echo ran > /tmp/marker; exec sleep 100").hook("poststart", "true")
    marker = bundle.rootfs / "tmp/marker"
    runtime.create()
    points = moments.of("start", runtime.id, first=r"flock")
    assert_removable(runtime)

    seen = set()
    for moment in points:
        marker.unlink(missing_ok=True)
        runtime.create()
        moments.kill(moment, "start", runtime.id)
        status = settle(runtime)
        assert status in ("created", "running"), moment
        seen.add(status)
        if status == "created":
            assert not marker.exists(), moment
            runtime.start()
        else:
            assert "already running" in runtime.fails("start", runtime.id), moment
        wait_for(marker.exists)
        assert "running" == runtime.state()["status"]
        assert_removable(runtime)
    assert {"created", "running"} == seen


@pytest.mark.parametrize("status", ["created", "running", "stopped"])
def test_delete_is_killed(runtime: Runtime, bundle: Bundle, moments: Moments, status: str) -> None:
    """Whatever delete had done, the next one does the rest."""
    bundle.program("sleep", 100)

    def prepare() -> None:
        runtime.create()
        if status != "created":
            runtime.start()
        if status == "stopped":
            runtime("kill", runtime.id, "KILL")
            runtime.wait("stopped")

    prepare()
    points = moments.of("delete", "--force", runtime.id, first=r"flock")
    runtime.host.assert_clean(runtime.root)
    for moment in points:
        prepare()
        moments.kill(moment, "delete", "--force", runtime.id)
        assert settle(runtime) in ("", status, "stopped"), moment
        assert_removable(runtime)


def test_foreground_run_is_killed(runtime: Runtime, bundle: Bundle) -> None:
    """The container goes on without the runtime, and can be deleted."""
    bundle.program("sleep", 100).write()
    process = subprocess.Popen(runtime.command("run", "--bundle", bundle.folder, runtime.id), stdin=subprocess.DEVNULL)
    runtime.wait("running")
    process.kill()
    process.wait(PATIENCE)
    assert "running" == runtime.state()["status"]
    assert_removable(runtime)


def test_init_is_killed_before_start(runtime: Runtime, bundle: Bundle) -> None:
    """state says stopped, start says so, delete needs no force."""
    bundle.program("sleep", 100)
    runtime.create()
    os.kill(runtime.pid(), signal.SIGKILL)
    runtime.wait("stopped")
    assert 0 == runtime.state()["pid"]
    assert "cannot start a container that has stopped" in runtime.fails("start", runtime.id)
    runtime.delete()


def test_init_is_killed_while_it_is_set_up(runtime: Runtime, bundle: Bundle) -> None:
    """A hook kills the container's process: create says so, and takes everything back."""
    script = """kill -9 $(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/')"""
    bundle.hook("createRuntime", script)
    assert "was killed by signal 9" in runtime.create_fails()


def test_init_is_killed_while_start_waits(runtime: Runtime, bundle: Bundle) -> None:
    """A startContainer hook that hangs, and a kill: start fails, the container is gone."""
    bundle.hook("startContainer", "sleep 100")
    runtime.create()
    process = subprocess.Popen(
        runtime.command("start", runtime.id), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: _children(runtime.pid()))
    assert 0 == runtime("kill", runtime.id, "KILL").status
    _, err = process.communicate(timeout=PATIENCE)
    assert 1 == process.returncode
    assert "killed before it ran the program" in err
    runtime.assert_gone()


def _children(pid: int) -> list[str]:
    """The pids of a process' children: of a container's first process, its hook's."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture
def held(runtime: Runtime, bundle: Bundle) -> Iterator[int]:
    """The descriptor of a created container's directory, whose lock this test holds."""
    bundle.program("sleep", 100)
    runtime.create()
    fd = os.open(runtime.root / runtime.id, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("command", ["start", "delete"])
def test_a_lock_is_waited_for(runtime: Runtime, held: int, command: str) -> None:
    """A command waits until another one has done with the container."""
    process = subprocess.Popen(runtime.command(command, runtime.id), stdin=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert "created" == runtime.state()["status"]
    fcntl.flock(held, fcntl.LOCK_UN)
    assert 0 == process.wait(PATIENCE)


def test_a_lock_is_not_waited_for_for_ever(runtime: Runtime, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that keeps the lock is the reason of the failure; the container has still ended."""
    monkeypatch.setattr(state_directory, "LOCK_TIMEOUT", 0.2)
    container = Container.load(runtime.id, root=str(runtime.root))
    with pytest.raises(StateError, match=r"cannot lock container .*: another process has held it for"):
        delete(container, force=True)
    container.close()
    runtime.wait("stopped")
    fcntl.flock(held, fcntl.LOCK_UN)


def test_several_starts(runtime: Runtime, bundle: Bundle) -> None:
    """Of several starts at once exactly one succeeds, and the program runs once."""
    bundle.shell("echo ran >> /tmp/marker; sleep 100")
    marker = bundle.rootfs / "tmp/marker"
    for _ in range(6):
        runtime.create()
        errors = at_once(runtime, *[["start", runtime.id]] * 6)
        assert [""] == [error for error in errors if not error]
        assert [] == [error for error in errors if error and "already running" not in error]
        wait_for(lambda: marker.exists() and marker.read_text())
        assert "ran\n" == marker.read_text()
        marker.unlink()
        assert_removable(runtime)


def test_twenty_creates(runtime: Runtime, bundle: Bundle) -> None:
    """Of twenty creates of one id one wins, and the others do not disturb it."""
    bundle.program("sleep", 100).write()
    create = ["create", "--bundle", bundle.folder, "--pid-file", runtime.folder / "pid", runtime.id]
    errors = at_once(runtime, *[create] * 20)
    assert 1 == errors.count("")
    assert {"", f"container with given ID already exists: {runtime.id}\n"} == set(errors)
    assert runtime.pid() == int((runtime.folder / "pid").read_text())
    runtime.start()
    assert "running" == runtime.state()["status"]


def test_everything_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """start, kill, state and delete race: whatever comes first, each answers in a line, and nothing is left."""
    bundle.program("sleep", 100)
    name = runtime.id
    known = re.compile(
        "^$|does not exist|cannot start |cannot delete container .* not stopped|container not running|at the same time"
    )
    for _ in range(30):
        runtime.create()
        errors = at_once(
            runtime,
            ["start", name],
            ["kill", name, "KILL"],
            ["state", name],
            ["delete", name],
            ["delete", "--force", name],
        )
        for error in errors:
            assert known.search(error), error
            assert error.count("\n") <= 1
        assert "" == errors[-1]
        assert_removable(runtime)


def at_once(runtime: Runtime, *commands: list[Path | str]) -> list[str]:
    """Run commands at the same time: what each wrote to standard error, "" for those that succeeded."""
    processes = []
    for n, words in enumerate(commands):
        with (runtime.folder / f"err{n}").open("wb") as err:
            command = runtime.command(*words)
            processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err))
    try:
        for process in processes:
            process.wait(PATIENCE)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    errors = [(runtime.folder / f"err{n}").read_text() for n in range(len(commands))]
    for process, error in zip(processes, errors, strict=True):
        assert (1, True) == (process.returncode, bool(error)) or (0, "") == (process.returncode, error), error
        assert "internal error" not in error, error
    return errors
