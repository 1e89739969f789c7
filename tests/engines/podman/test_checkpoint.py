"""podman container checkpoint and restore, as root."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.counting import COUNT, LISTEN, await_count, counted, repeat, until_count
from tests.support.daemon import until
from tests.support.podman import GRAPH_ROOT, Podman


@pytest.fixture
def counter(podman: Podman) -> str:
    """The name of a container that counts."""
    podman("run", "-d", "--name", "counter", "busybox", *COUNT)
    await_count(podman, "counter", 5)
    return "counter"


@pytest.mark.cgroup
def test_restore(podman: Podman, counter: str) -> None:
    """container checkpoint: ends the container; restore: it goes on where it was."""
    podman("container", "checkpoint", counter)
    assert "exited" == podman.state(counter)
    assert podman.inspect(counter)["State"]["Checkpointed"]
    before = counted(podman, counter)

    podman("container", "restore", counter)

    assert "running" == podman.state(counter)
    await_count(podman, counter, before + 5)
    assert "1 " in podman("exec", counter, "ps")
    podman("kill", counter)
    assert "137" == podman("wait", counter)


def test_repeat(podman: Podman, counter: str) -> None:
    """Three generations of a container."""
    for _ in range(3):
        podman("container", "checkpoint", counter)
        podman("container", "restore", counter)
        await_count(podman, counter, counted(podman, counter) + 5)


def test_leave_running(podman: Podman, counter: str) -> None:
    """container checkpoint --leave-running --print-stats: the same process counts on."""
    process = podman.inspect(counter)["State"]["Pid"]

    said = json.loads(podman("container", "checkpoint", "--leave-running", "--print-stats", counter))

    assert 0 < said["container_statistics"][0]["criu_statistics"]["pages_written"]
    await_count(podman, counter, counted(podman, counter) + 5)
    assert process == podman.inspect(counter)["State"]["Pid"]


def test_keep(podman: Podman, counter: str) -> None:
    """container checkpoint and restore --keep: the logs, the images and the figures stay."""
    kept = Path(podman.inspect(counter)["StaticDir"])
    podman("container", "checkpoint", "--keep", counter)
    assert {"dump.log", "stats-dump"} <= set(os.listdir(kept))

    said = json.loads(podman("container", "restore", "--keep", "--print-stats", counter))

    assert {"restore.log", "stats-restore"} <= set(os.listdir(kept))
    assert (kept / "checkpoint/inventory.img").exists()
    assert 0 < said["container_statistics"][0]["criu_statistics"]["restore_time"]


def test_all(podman: Podman) -> None:
    """container checkpoint --all, and restore --all."""
    for name in "first", "second":
        podman("run", "-d", "--name", name, "busybox", *COUNT)
        await_count(podman, name, 3)

    podman("container", "checkpoint", "--all")
    assert "" == podman("ps", "--quiet")
    podman("container", "restore", "--all")

    for name in "first", "second":
        await_count(podman, name, counted(podman, name) + 5)


def test_export(podman: Podman, counter: str, tmp_path: Path) -> None:
    """container checkpoint --export, and restore --import --name: copies with the files of the first."""
    podman("exec", counter, "sh", "-c", "echo written >/file; rm /etc/group")
    podman("container", "checkpoint", "--export", tmp_path / "archive", "--compress", "gzip", counter)
    before = counted(podman, counter)
    podman("rm", counter)

    for name in "second", "third":
        podman("container", "restore", "--import", tmp_path / "archive", "--name", name)

    for name in "second", "third":
        assert before <= await_count(podman, name, before + 5)
        assert "written" == podman("exec", name, "cat", "/file")
        podman("exec", name, "test", "-e", "/etc/group", status=1)


def test_damage(podman: Podman, counter: str, tmp_path: Path) -> None:
    """container restore --import: an error for an archive with a damaged image, and no process is left."""
    podman("container", "checkpoint", "--export", tmp_path / "archive", "--compress", "none", counter)
    podman("rm", counter)
    content = tmp_path / "content"
    content.mkdir()
    subprocess.check_call(["tar", "-C", content, "-xf", tmp_path / "archive"])
    (content / "checkpoint/pstree.img").write_bytes(b"damaged")
    subprocess.check_call(["tar", "-C", content, "-cf", tmp_path / "damaged", "."])

    said = podman("container", "restore", "--import", tmp_path / "damaged", status=125)

    assert "restore" in said or "criu" in said
    assert "" == podman("ps", "--quiet")


def test_other_host(podman: Podman, counter: str, tmp_path: Path) -> None:
    """container restore --import: on another host, which has the image."""
    podman("container", "checkpoint", "--export", tmp_path / "archive", counter)
    before = counted(podman, counter)
    podman("rm", counter)
    podman("save", "--output", tmp_path / "image", "busybox")

    other = Other(podman, tmp_path / "other")
    try:
        assert "" == other("ps", "--all", "--quiet")
        other("load", "--quiet", "--input", tmp_path / "image")
        other("container", "restore", "--import", tmp_path / "archive")

        assert "running" == other.state(counter)
        assert before < await_count(other, counter, before + 5)
        other("rm", "--force", "--time", "0", counter)
    finally:
        other.close()


class Other(Podman):
    """The Podman of another host: its storage and its state are other filesystems at the same paths."""

    def __init__(self, podman: Podman, folder: Path) -> None:
        self.folder, self.runtime, self.user = podman.folder, podman.runtime, False
        self.environment, self.states = podman.environment, podman.states
        folder.mkdir()
        places = [podman.folder / GRAPH_ROOT, podman.folder / "run", Path("/run/libpod"), Path("/var/lib/containers")]
        mounts = "".join(f"mkdir -p {place}; mount -t tmpfs tmpfs {place};" for place in map(str, places))
        self.namespace = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", f"{mounts} echo ready; exec sleep 3600"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.namespace.stdout
        assert "ready\n" == self.namespace.stdout.readline()

    def command(self, *arguments: object) -> list[str]:
        """The command line, in that host's mount namespace."""
        return ["nsenter", f"--mount=/proc/{self.namespace.pid}/ns/mnt", *super().command(*arguments)]

    def close(self) -> None:
        """End it."""
        self.namespace.kill()
        self.namespace.communicate()


def test_terminal(podman: Podman) -> None:
    """A container with a terminal: input and output after its restore."""
    podman("run", "-dit", "--name", "box", "busybox", "sh")
    podman("container", "checkpoint", "box")

    podman("container", "restore", "box")

    terminal = podman.terminal("attach", "box")
    try:
        terminal.type("tty; echo he''re\r")
        assert "/dev/pts/0" in terminal.expect("\nhere\r\n")
        terminal.type("exit 3\r")
        podman.await_state("box", "exited")
    finally:
        terminal.end()
    assert 3 == podman.inspect("box")["State"]["ExitCode"]


def test_files(podman: Podman, tmp_path: Path) -> None:
    """A volume, a bind mount and a tmpfs: with their files after the restore."""
    files = (
        "echo $$ >/volume/a; echo bound >/bound/b; echo kept >/tmpfs/c; echo shared >/dev/shm/d; exec 3>>/volume/log; "
    )
    script = files + repeat("echo x >&3")
    options = ["--volume", "data:/volume", "--volume", f"{tmp_path}:/bound", "--tmpfs", "/tmpfs"]
    podman("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", script)
    log = Path(podman("volume", "inspect", "data", "--format", "{{.Mountpoint}}")) / "log"
    until(lambda: log.exists() and log.stat().st_size, "it writes")
    podman("container", "checkpoint", "box")
    size = log.stat().st_size

    podman("container", "restore", "box")

    said = podman("exec", "box", "cat", "/volume/a", "/bound/b", "/tmpfs/c", "/dev/shm/d")
    assert "1\nbound\nkept\nshared" == said
    until(lambda: log.stat().st_size > size, "it writes on")


CONNECTED = f"{LISTEN}; " + repeat("echo x") + " | nc 127.0.0.1 7001"


def test_connection(podman: Podman) -> None:
    """container checkpoint: an error for an open connection; with --tcp-established it is restored."""
    podman("run", "-d", "--name", "box", "busybox", "sh", "-c", f"i=0; {CONNECTED}")
    podman.await_logs("box", "x")
    said = podman("container", "checkpoint", "box", status=125)
    assert "checkpoint" in said
    assert "running" == podman.state("box")

    podman("container", "checkpoint", "--tcp-established", "box")
    podman("container", "restore", "--tcp-established", "box")

    lines = podman("logs", "box").count("x")
    until(lambda: podman("logs", "box").count("x") > lines, "it answers on")


def test_pod(podman: Podman, tmp_path: Path) -> None:
    """container restore --import --pod: into another pod."""
    for name in "first", "second":
        podman("pod", "create", "--name", name, "--share", "ipc,net,uts")
    podman("run", "-d", "--pod", "first", "--name", "box", "busybox", *COUNT)
    await_count(podman, "box", 5)
    podman("container", "checkpoint", "--export", tmp_path / "archive", "box")
    before = counted(podman, "box")
    podman("pod", "start", "second")

    podman("container", "restore", "--import", tmp_path / "archive", "--pod", "second", "--name", "other")

    assert before <= until_count(lambda: counted(podman, "other"), before + 5)
    assert podman.inspect("second", "pod")["Id"] == podman.inspect("other")["Pod"]


def test_image(podman: Podman, counter: str) -> None:
    """container checkpoint --create-image, and restore of that image."""
    podman("container", "checkpoint", "--create-image", "localhost/checkpoint", counter)
    before = counted(podman, counter)
    podman("rm", counter)
    try:
        podman("container", "restore", "localhost/checkpoint")

        assert before <= await_count(podman, counter, before + 5)
    finally:
        podman("rm", "--force", "--time", "0", counter)
        podman("rmi", "localhost/checkpoint")


@pytest.mark.needs
@pytest.mark.may_skip("tested where the kernel tracks changed pages")
def test_pre_checkpoint(podman: Podman, counter: str, tmp_path: Path) -> None:
    """container checkpoint --pre-checkpoint, then --with-previous: a dump of the pages that have changed since."""
    checked = subprocess.run(["criu", "check", "--feature", "mem_dirty_track"], capture_output=True, check=False)
    if checked.returncode:
        pytest.skip("a kernel that tracks changed pages")
    podman("container", "checkpoint", "--pre-checkpoint", "--export", tmp_path / "first", counter)
    await_count(podman, counter, counted(podman, counter) + 5)
    podman("container", "checkpoint", "--with-previous", "--export", tmp_path / "second", counter)
    before = counted(podman, counter)
    podman("rm", counter)

    podman("container", "restore", "--import-previous", tmp_path / "first", "--import", tmp_path / "second")

    assert before <= await_count(podman, counter, before + 5)


def test_missing(podman: Podman) -> None:
    """container restore: an error for a container that has no checkpoint."""
    podman("create", "--name", "box", "busybox", "true")

    assert "not" in podman("container", "restore", "box", status=125)
