"""sd_notify(3): a container reports to the service manager of its caller that it is ready."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.probe import build
from tests.support.runtime import AT_ONCE, PATIENCE, Bundle, Runtime, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def notifier() -> Path:
    """A static program that speaks to $NOTIFY_SOCKET."""
    return build("notifier")


class Manager:
    """A service manager's socket, and all messages it has received; it closes descriptors of a message."""

    def __init__(self, path: Path | str) -> None:
        self.address = "\0" + path[1:] if isinstance(path, str) else str(path)  # an abstract name begins with @
        self.path = path
        self.heard = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        if isinstance(path, Path):
            path.chmod(0o777)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 4)
            if message == b"end":
                return
            self.heard.append(message.decode())
            for fd in descriptors:
                os.close(fd)

    def end(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", self.address)
        self.thread.join()
        self.socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "manager")
    yield made
    made.end()


@pytest.fixture
def says(runtime: Runtime, bundle: Bundle, notifier: Path) -> Callable[..., Any]:
    """A container whose program says these messages; it is created."""
    shutil.copy(notifier, bundle.rootfs / "bin/notifier")

    def create(*messages: Any, **options: Any) -> None:
        bundle.program("/bin/notifier", *messages)
        runtime.create(**options)

    return create


def environment(manager: "Manager | Stuck") -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": str(manager.path)}


def test_start_waits_until_it_is_ready(runtime: Runtime, says: Callable[..., Any], manager: Manager) -> None:
    """Of all that it says READY goes on, once; its pid on the host follows, and `start` has waited for it."""
    says("STATUS=nearly", "WATCHDOG=1\nREADY=1\nSTATUS=done", env=environment(manager))
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=environment(manager)))
    assert ["READY=1", f"MAINPID={runtime.pid()}", "BARRIER=1"] == manager.heard
    runtime.delete("--force")


def test_start_does_not_return_before(runtime: Runtime, says: Callable[..., Any], manager: Manager) -> None:
    """A program that is not ready yet: `start` waits, and others may use the container meanwhile."""
    says("STATUS=never", env=environment(manager))
    start = subprocess.Popen(runtime.command("start", runtime.id), env=environment(manager))
    runtime.wait("running")
    assert (0, "", "") == tuple(runtime("pause", runtime.id))
    assert (0, "", "") == tuple(runtime("resume", runtime.id))
    time.sleep(0.1)
    assert start.poll() is None
    runtime.delete("--force")
    assert 0 == start.wait(PATIENCE)
    assert [] == manager.heard


def test_container_in_a_user_namespace(
    runtime: Runtime, bundle: Bundle, says: Callable[..., Any], manager: Manager
) -> None:
    """With any user, it may write to the socket, and to nothing else there."""
    bundle.in_user_namespace()
    bundle.process["user"] = {"uid": 7, "gid": 7}
    says("READY=1", env=environment(manager))
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=environment(manager)))
    assert "READY=1" == manager.heard[0]
    runtime.delete("--force")


def test_run_in_the_foreground(runtime: Runtime, bundle: Bundle, notifier: Path, manager: Manager) -> None:
    """READY goes on while it runs; the main process is the runtime itself."""
    shutil.copy(notifier, bundle.rootfs / "bin/notifier")
    bundle.shell("exec /bin/notifier READY=1")
    bundle.write()
    words = runtime.command("run", "--bundle", bundle.folder, runtime.id)
    run = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment(manager))
    wait_for(lambda: manager.heard == ["READY=1"])
    assert (0, "", "") == tuple(runtime("kill", runtime.id, "KILL"))
    assert 128 + 9 == run.wait(PATIENCE)


def test_run_detached(runtime: Runtime, bundle: Bundle, notifier: Path, manager: Manager) -> None:
    """It comes back when the program is ready."""
    shutil.copy(notifier, bundle.rootfs / "bin/notifier")
    bundle.program("/bin/notifier", "READY=1")
    runtime.detached("run", "--detach", "--bundle", bundle.folder, runtime.id, env=environment(manager))
    assert ["READY=1", f"MAINPID={runtime.pid()}", "BARRIER=1"] == manager.heard
    runtime.delete("--force")


UNREACHABLE = {
    "no such socket": ("/nowhere/notify", "no such file or directory"),
    "no such name": ("@pyoci-without-a-listener", "connection refused"),
    "long name": ("@" + "x" * 108, "file name too long"),
    "long path": ("/" + "x" * 200, "no such file or directory"),
    "relative": ("notify", "expected an absolute path or @NAME"),
    "of a machine": ("vsock:2:1234", "expected an absolute path or @NAME"),
}


@pytest.mark.parametrize("way", ["start", "run --detach", "run"])
@pytest.mark.parametrize("kind", UNREACHABLE)
def test_dead_service_manager(runtime: Runtime, says: Callable[..., Any], bundle: Bundle, kind: str, way: str) -> None:
    """A service manager that is not there is a warning: the program still runs, and `start` does not wait."""
    upstream, reason = UNREACHABLE[kind]
    env = {**os.environ, "NOTIFY_SOCKET": upstream}
    bundle.shell("exit 7" if way == "run" else "exec sleep 100")
    bundle.write()
    if way == "start":
        runtime.create(env=env)
        words = ["start", runtime.id]
    else:
        words = [*way.split(), "--bundle", bundle.folder, runtime.id]
    # without a log: an engine takes an unexpected warning in it for the error
    command = [runtime.executable, "--root", runtime.root, *words]
    with (runtime.folder / "told").open("wb") as told:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, stdout=told, stderr=told, timeout=PATIENCE, check=False
        )
    assert f"warning: cannot connect to NOTIFY_SOCKET {upstream}: {reason}\n" == (runtime.folder / "told").read_text()
    assert (7 if way == "run" else 0) == done.returncode
    if way != "run":
        assert "running" == runtime.state()["status"]
        runtime.delete("--force")


@pytest.mark.parametrize("length", [5, 64, 107], ids=lambda length: f"{length} bytes")
def test_abstract_socket(runtime: Runtime, says: Callable[..., Any], length: int) -> None:
    """A service manager may listen on an abstract name of any length that a socket address holds."""
    name = f"@{runtime.id}".ljust(length + 1, "x")[: length + 1]
    manager = Manager(name)
    env = {**os.environ, "NOTIFY_SOCKET": name}
    says("READY=1", env=env)
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=env))
    assert ["READY=1", f"MAINPID={runtime.pid()}", "BARRIER=1"] == manager.heard
    runtime.delete("--force")
    manager.end()


def test_socket_with_a_long_path(runtime: Runtime, says: Callable[..., Any], tmp_path: Path) -> None:
    """A path may be longer than a socket address: in its directories, in its own name, or both."""
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = folder / ("n" * 120)
    manager = Manager(tmp_path / "manager")
    os.rename(tmp_path / "manager", path)
    env = {**os.environ, "NOTIFY_SOCKET": str(path)}
    says("READY=1", env=env)
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=env))
    assert ["READY=1", f"MAINPID={runtime.pid()}", "BARRIER=1"] == manager.heard
    os.rename(path, tmp_path / "manager")
    runtime.delete("--force")
    manager.end()


class Stuck:
    """A service manager that reads nothing, and whose queue is full."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as filler, \
                contextlib.suppress(BlockingIOError):  # fmt: skip
            while True:
                filler.sendto(b"full", str(path))

    def drain(self) -> list[str]:
        """Read what has come so far, and then go on to read: the messages but for those that filled the queue."""
        heard = []
        self.socket.settimeout(PATIENCE)
        while not heard or heard[-1] != "READY=1":
            heard = [*heard, self.socket.recv(4096).decode()]
        return [message for message in heard if message != "full"]


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    made = Stuck(tmp_path / "stuck")
    yield made
    made.socket.close()


@pytest.mark.parametrize("way", ["start", "run --detach"])
def test_full_queue(runtime: Runtime, says: Callable[..., Any], bundle: Bundle, stuck: Stuck, way: str) -> None:
    """`start` waits for a service manager that reads nothing until a timeout, and then warns."""
    says("READY=1", env=environment(stuck))
    words = ["start", runtime.id]
    if way != "start":
        runtime.delete("--force")
        words = [*way.split(), "--bundle", bundle.folder, runtime.id]
    command = [runtime.executable, "--root", runtime.root, *words]
    with (runtime.folder / "told").open("wb") as told:
        done = subprocess.run(
            command, env=environment(stuck), stdin=subprocess.DEVNULL, stdout=told, stderr=told, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
    warning = "warning: cannot write to NOTIFY_SOCKET: its queue has been full for 10 s\n"
    assert (0, warning) == (done.returncode, (runtime.folder / "told").read_text())
    runtime.delete("--force")


def test_full_queue_that_drains(runtime: Runtime, says: Callable[..., Any], stuck: Stuck) -> None:
    """A service manager that reads again gets everything."""
    says("READY=1", env=environment(stuck))
    with subprocess.Popen(runtime.command("start", runtime.id), env=environment(stuck)) as start:
        assert ["READY=1"] == stuck.drain()
        assert f"MAINPID={runtime.pid()}" == stuck.socket.recv(4096).decode()
        message, descriptors, _, _ = socket.recv_fds(stuck.socket, 4096, 4)
        assert b"BARRIER=1" == message
        os.close(descriptors[0])
        assert 0 == start.wait(PATIENCE)
    runtime.delete("--force")


@pytest.mark.parametrize("ends", [False, True], ids=["program runs", "program has ended"])
def test_run_heeds_signals_while_the_queue_is_full(
    runtime: Runtime, bundle: Bundle, notifier: Path, stuck: Stuck, ends: bool
) -> None:
    """In the foreground `run` passes signals on, and notices the program's end, whatever the service manager does."""
    shutil.copy(notifier, bundle.rootfs / "bin/notifier")
    bundle.shell("/bin/notifier READY=1 & trap 'exit 7' TERM; sleep 3; echo ready; " + ("exit 7" if ends else "wait"))
    bundle.write()
    words = [runtime.executable, "--root", runtime.root, "run", "--bundle", bundle.folder, runtime.id]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(stuck),
    ) as run:  # fmt: skip
        assert "ready\n" == run.stdout.readline()
        if not ends:
            run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=PATIENCE)
    assert (7, "warning: cannot write to NOTIFY_SOCKET: its queue is full\n") == (run.returncode, err)


def test_signal_ends_a_start_that_waits_for_the_queue(runtime: Runtime, says: Callable[..., Any], stuck: Stuck) -> None:
    """TERM ends `start` at once; the container goes on."""
    says("READY=1", env=environment(stuck))
    with subprocess.Popen(runtime.command("start", runtime.id), env=environment(stuck)) as start:
        runtime.wait("running")
        start.terminate()
        assert -signal.SIGTERM == start.wait(AT_ONCE)
    assert "running" == runtime.state()["status"]
    runtime.delete("--force")


def test_start_without_a_service_manager(runtime: Runtime, says: Callable[..., Any], manager: Manager) -> None:
    """A caller without a service manager does not wait."""
    says("READY=1", env=environment(manager))
    runtime.start()
    runtime.wait("stopped")  # there is no socket for it
    assert [] == manager.heard


def test_create_without_a_service_manager(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    """The container has no such socket, then, whatever `start` has in its environment."""
    bundle.shell("echo $NOTIFY_SOCKET; ls /run")
    runtime.create()
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=environment(manager)))
    runtime.wait("stopped")
    assert "\n" == runtime.output()


def test_error_of_its_mount(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    """It is nothing of the config's, so the message names the variable."""
    (bundle.rootfs / "run").mkdir(exist_ok=True)
    (bundle.rootfs / "run/notify").write_text("")
    bundle.shell("true")
    bundle.write()
    message = runtime.fails("create", "--bundle", bundle.folder, runtime.id, env=environment(manager))
    assert re.fullmatch(r"NOTIFY_SOCKET: cannot bind \S+/notify on /run/notify: .*not a directory.*", message)


def test_without_a_mount_namespace(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    """The mount would be the host's: there is none, and `start` does not wait."""
    bundle.config["mounts"] = []
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "mount"]
    for key in ("maskedPaths", "readonlyPaths", "rootfsPropagation"):
        bundle.linux.pop(key, None)
    bundle.program("/bin/sh", "-c", "echo =$NOTIFY_SOCKET=")
    runtime.create(env=environment(manager))
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=environment(manager)))
    runtime.wait("stopped")
    assert "==\n" == runtime.output()
    assert "/run/notify" not in Path("/proc/self/mountinfo").read_text()
    assert not os.path.exists(bundle.rootfs / "run/notify")


def test_plan_shows_it(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    """What create would do with it."""
    bundle.shell("true")
    bundle.write()
    planned = json.loads(runtime("plan", "--json", bundle.folder, env=environment(manager)).out)
    (op,) = [op for op in planned["init"] if op["where"] == "NOTIFY_SOCKET"]
    assert op["object"].endswith("/ID/notify → /run/notify")
    assert "NOTIFY_SOCKET" not in runtime("plan", bundle.folder).out
