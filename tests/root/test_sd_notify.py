"""sd_notify(3): a container tells the service manager of whoever runs it that it is ready."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.probe import build
from tests.support.runtime import PATIENCE, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def notifier():
    """A static program that speaks to $NOTIFY_SOCKET."""
    return build("notifier")


class Manager:
    """A service manager's socket, and all it has heard; of a message with descriptors it closes them."""

    def __init__(self, path):
        self.path = path
        self.heard = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        while True:
            message, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 4)
            if message == b"end":
                return
            self.heard.append(message.decode())
            for fd in descriptors:
                os.close(fd)

    def end(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", str(self.path))
        self.thread.join()
        self.socket.close()


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path / "manager")
    yield made
    made.end()


@pytest.fixture
def says(runtime, bundle, notifier):
    """A container whose program says these messages; it is created."""
    shutil.copy(notifier, bundle.rootfs / "bin/notifier")

    def create(*messages, **options):
        bundle.program("/bin/notifier", *messages)
        runtime.create(**options)

    return create


def environment(manager):
    return {**os.environ, "NOTIFY_SOCKET": str(manager.path)}


def test_start_waits_until_it_is_ready(runtime, says, manager):
    """Of all that it says READY goes on, once; its pid on the host follows, and `start` has waited for it."""
    says("STATUS=nearly", "WATCHDOG=1\nREADY=1\nSTATUS=done", env=environment(manager))
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=environment(manager)))
    assert ["READY=1", f"MAINPID={runtime.pid()}", "BARRIER=1"] == manager.heard
    runtime.delete("--force")


def test_start_does_not_return_before(runtime, says, manager):
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


def test_container_in_a_user_namespace(runtime, bundle, says, manager):
    """Whoever its user is, it may write to the socket, and to nothing else there."""
    bundle.in_user_namespace()
    bundle.process["user"] = {"uid": 7, "gid": 7}
    says("READY=1", env=environment(manager))
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=environment(manager)))
    assert "READY=1" == manager.heard[0]
    runtime.delete("--force")


def test_run_in_the_foreground(runtime, bundle, notifier, manager):
    """READY goes on while it runs; the main process is the runtime itself."""
    shutil.copy(notifier, bundle.rootfs / "bin/notifier")
    bundle.shell("exec /bin/notifier READY=1")
    bundle.write()
    words = runtime.command("run", "--bundle", bundle.folder, runtime.id)
    run = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment(manager))
    wait_for(lambda: manager.heard == ["READY=1"])
    assert (0, "", "") == tuple(runtime("kill", runtime.id, "KILL"))
    assert 128 + 9 == run.wait(PATIENCE)


def test_run_detached(runtime, bundle, notifier, manager):
    """It comes back when the program is ready."""
    shutil.copy(notifier, bundle.rootfs / "bin/notifier")
    bundle.program("/bin/notifier", "READY=1")
    runtime.detached("run", "--detach", "--bundle", bundle.folder, runtime.id, env=environment(manager))
    assert ["READY=1", f"MAINPID={runtime.pid()}", "BARRIER=1"] == manager.heard
    runtime.delete("--force")


def test_nobody_listens(runtime, says, manager, tmp_path):
    """A service manager that is not there is an error before the program runs."""
    says("READY=1", env=environment(manager))
    message = runtime.fails("start", runtime.id, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nothing")})
    assert f"cannot connect to NOTIFY_SOCKET {tmp_path}/nothing: no such file or directory" == message
    assert "created" == runtime.state()["status"]


def test_start_without_a_service_manager(runtime, says, manager):
    """Who starts it and has nobody to tell does not wait."""
    says("READY=1", env=environment(manager))
    runtime.start()
    runtime.wait("stopped")  # there is no socket for it
    assert [] == manager.heard


def test_create_without_a_service_manager(runtime, bundle, manager):
    """The container has no such socket, then, whatever `start` has in its environment."""
    bundle.shell("echo $NOTIFY_SOCKET; ls /run")
    runtime.create()
    assert (0, "", "") == tuple(runtime("start", runtime.id, env=environment(manager)))
    runtime.wait("stopped")
    assert "\n" == runtime.output()


def test_error_of_its_mount(runtime, bundle, manager):
    """It is nothing of the config's, so the message names the variable."""
    (bundle.rootfs / "run").mkdir(exist_ok=True)
    (bundle.rootfs / "run/notify").write_text("")
    bundle.shell("true")
    bundle.write()
    message = runtime.fails("create", "--bundle", bundle.folder, runtime.id, env=environment(manager))
    assert re.fullmatch(r"NOTIFY_SOCKET: cannot bind \S+/notify on /run/notify: .*not a directory.*", message)


def test_without_a_mount_namespace(runtime, bundle, manager):
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


def test_plan_shows_it(runtime, bundle, manager):
    """What create would do with it."""
    bundle.shell("true")
    bundle.write()
    planned = json.loads(runtime("plan", "--json", bundle.folder, env=environment(manager)).out)
    (op,) = [op for op in planned["init"] if op["where"] == "NOTIFY_SOCKET"]
    assert op["object"].endswith("/ID/notify → /run/notify")
    assert "NOTIFY_SOCKET" not in runtime("plan", bundle.folder).out
