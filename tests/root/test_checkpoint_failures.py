"""checkpoint and restore with a CRIU that fails, images that are damaged, and a full disk.

A container that was to keep running keeps running, with the same processes; a restore that fails leaves nothing.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.restoring import FILE_COUNTER
from tests.support.runtime import Result, Runtime, wait_for

pytestmark = pytest.mark.root

BUILD = Path(__file__).resolve().parents[2] / "build"
LONG = 30  # seconds in which a running program counts on a machine whose disk is busy
SOON = 60  # seconds in which a restore ends, well or badly
FD = 3  # of the socket that criu gets


class Subject:
    """A container that counts, and what is done to it."""

    def __init__(self, runtime: Runtime, criu: Path, folder: Path) -> None:
        self.runtime = runtime
        self.criu = criu
        self.folder = folder  # where only root can write
        self.images = folder / "images"
        self.count = runtime.bundle.rootfs / "count"
        self.pids: list[int] = []

    def start(self) -> None:
        """Start the container."""
        self.runtime.bundle.shell(FILE_COUNTER)
        self.runtime.create(stdout=-3, stderr=-3)
        self.runtime.start()
        wait_for(self.counts)
        self.pids = [self.runtime.pid()]

    def counts(self, seconds: float = 2) -> bool:
        """Whether the program runs: whether it counts within that time."""
        try:
            before = self.count.read_text()
        except OSError:
            return False
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.count.read_text() not in ("", before):
                return True
            time.sleep(0.01)
        return False

    def checkpoint(self, *options: object, criu: Path | None = None) -> Result:
        """Dump it."""
        words = ("checkpoint", "--image-path", self.images, *options, self.runtime.id)
        return self.runtime("--criu", criu or self.criu, *words)

    def restore(self, *options: object, criu: Path | None = None) -> Result:
        """Restore it."""
        words = ("restore", "--detach", "--bundle", self.runtime.bundle.folder, "--image-path", self.images)
        words = ("--criu", criu or self.criu, *words, "--work-path", self.folder / "work", *options, self.runtime.id)
        return self.runtime.into_files(*words, stdout=-3, timeout=SOON)

    def dump(self) -> None:
        """Dump it, successfully."""
        self.start()
        assert (0, "", "") == tuple(self.checkpoint())

    def assert_as_before(self) -> None:
        """It runs, its processes are the same, and nothing is left in its cgroup."""
        state = self.runtime.state()
        assert ("running", self.pids) == (state["status"], [state["pid"]])
        assert self.counts(LONG)
        (cgroup,) = self.runtime.host.cgroups(self.runtime.id)
        assert self.pids[0] in [int(pid) for pid in Path(cgroup, "cgroup.procs").read_text().split()]

    def script(self, text: str, name: str = "fake") -> Path:
        """An executable that stands for criu. `swrk` is the command that the runtime uses."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\n[ "$1" = swrk ] || exec {self.criu} "$@"\n{text}\n')
        path.chmod(0o755)
        return path

    def program(self, text: str) -> Path:
        """A Python program that stands for criu; `s` is its socket, and `read()` returns a message."""
        program = self.folder / "fake.py"
        program.write_text(
            f"import os, socket, time\ns = socket.socket(fileno={FD})\nread = lambda: s.recv(99999)\n{text}\n"
        )
        return self.script(f"exec /usr/bin/python3 -IS {program}")


@pytest.fixture
def subject(runtime: Runtime, criu: Path) -> Iterator[Subject]:
    """A container, and a directory that only root can write to."""
    folder = BUILD / f"failures-{runtime.id}"
    folder.mkdir(mode=0o755)
    try:
        yield Subject(runtime, criu, folder)
    finally:
        shutil.rmtree(folder)


# --- a CRIU that fails

# criu_resp: type NOTIFY (6) with notify {script}; type DUMP (1) or RESTORE (2) without success
NOTIFY = r"""s.send(b"\x08\x06\x10\x01\x2a\x0a\x0a\x08pre-dump")"""
FAKES = {
    "is killed at once": "sh: kill -9 $$",
    "exits at once": "sh: exit 3",
    "prints and exits": "sh: echo 'out of cheese' >&2; exit 1",
    "dies after the request": "py: read(); os.kill(os.getpid(), 9)",
    "closes its socket": "py: read(); s.close(); time.sleep(0.2)",
    "answers with nonsense": r"""py: read(); s.send(b"\xff" * 500)""",
    "answers with an empty message": r"""py: read(); s.send(b"\x08\x01\x10\x00")""",
    "sends a length beyond the message": r"""py: read(); s.send(b"\x08\x06\x2a\xff\xff\xff\xff\x0f")""",
    "notifies and dies": f"py: read(); {NOTIFY}; read(); os._exit(1)",
    "notifies fifty times": f"py: read()\nfor _ in range(50):\n    {NOTIFY}\n    read()",
}


def fake(subject: Subject, name: str) -> Path:
    """The fake CRIU of that name."""
    kind, _, text = FAKES[name].partition(": ")
    return subject.script(text) if kind == "sh" else subject.program(text)


@pytest.mark.parametrize("name", FAKES)
def test_checkpoint_survives_a_criu_that(name: str, subject: Subject) -> None:
    """The container runs on, and the next checkpoint works."""
    subject.start()

    failed = subject.checkpoint(criu=fake(subject, name))

    assert failed.status == 1
    assert failed.err.startswith("cannot checkpoint the container: ")
    assert 1 == len(failed.err.splitlines())
    subject.assert_as_before()
    assert (0, "", "") == tuple(subject.checkpoint("--leave-running"))
    subject.assert_as_before()


@pytest.mark.parametrize("name", FAKES)
def test_restore_survives_a_criu_that(name: str, subject: Subject) -> None:
    """Nothing is left, and the next restore works."""
    subject.dump()

    failed = subject.restore(criu=fake(subject, name))

    assert failed.status == 1
    assert failed.err.splitlines()[-1].startswith(
        "cannot restore the container: "
    )  # a criu may print something itself: it has the streams of the caller
    subject.runtime.assert_gone()
    assert (0, "") == (subject.restore().status, subject.runtime.output())
    wait_for(subject.counts)


def test_no_criu(subject: Subject) -> None:
    """One line that says what is missing."""
    subject.start()
    missing = subject.folder / "none"

    for failed in (subject.checkpoint(criu=missing), subject.restore(criu=missing)):
        assert failed.status == 1
        assert f"cannot run {missing}: no such file or directory" in failed.err
    subject.assert_as_before()


def test_an_old_criu(subject: Subject) -> None:
    """The runtime says which version it needs."""
    subject.start()
    old = subject.folder / "old"
    old.write_text("#!/bin/sh\necho Version: 3.10\n")
    old.chmod(0o755)
    subject.images.mkdir()

    for failed in (subject.checkpoint(criu=old), subject.restore(criu=old)):
        assert failed.status == 1
        assert "is version 3.10; pyoci needs 3.17" in failed.err
        assert "hint: " in failed.err
    subject.assert_as_before()


def test_a_criu_that_others_can_write(subject: Subject) -> None:
    """It would run with the privileges of the runtime."""
    subject.start()
    criu = subject.script("exit 1")
    criu.chmod(0o777)

    for failed in (subject.checkpoint(criu=criu), subject.restore(criu=criu)):
        assert failed.status == 1
        assert f"cannot trust {criu}" in failed.err
    subject.assert_as_before()


# --- the file system


def test_the_images_are_private(subject: Subject) -> None:
    """They have the memory of the container."""
    subject.start()
    old = os.umask(0)
    try:
        assert (0, "", "") == tuple(subject.checkpoint("--leave-running", "--work-path", subject.folder / "work"))
    finally:
        os.umask(old)

    assert 0o40700 == subject.images.stat().st_mode
    assert 0o40700 == (subject.folder / "work").stat().st_mode
    files = [*subject.images.iterdir(), *(subject.folder / "work").iterdir()]
    assert len(files) > 10
    assert [] == [path.name for path in files if path.lstat().st_mode & 0o077 and not path.is_symlink()]


@pytest.fixture
def small_disk(subject: Subject) -> Iterator[None]:
    """The image directory is a filesystem of 40 kB."""
    subject.images = subject.runtime.folder / "images"  # other tests do not mind mounts below /tmp
    subject.images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k,mode=700", "small", subject.images], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", subject.images], check=True)


@pytest.mark.usefixtures("small_disk")
def test_checkpoint_on_a_full_disk(subject: Subject) -> None:
    """The reason is that, and the container runs on."""
    subject.start()
    (subject.images / "full").write_bytes(b"x" * 30_000)

    failed = subject.checkpoint("--work-path", subject.folder / "work")

    assert failed.status == 1
    assert "no space left on device" in failed.err
    subject.assert_as_before()


@pytest.mark.parametrize("kind", ["file", "parent is a file", "link to nothing"])
def test_invalid_image_paths(kind: str, subject: Subject) -> None:
    """checkpoint makes missing directories, and nothing in place of something else."""
    subject.start()
    if kind == "file":
        subject.images.write_text("")
    elif kind == "link to nothing":
        subject.images.symlink_to("nothing")
    else:
        subject.images.write_text("")
        subject.images /= "images"

    for failed in (subject.checkpoint(), subject.restore()):
        assert failed.status == 1
        assert f"cannot open image directory {subject.images}: " in failed.err
    subject.assert_as_before()


def cut(path: Path) -> None:
    """Lose the second half."""
    os.truncate(path, path.stat().st_size // 2)


def link(path: Path) -> None:
    """Lead to a file of the host."""
    path.unlink()
    path.symlink_to("/etc/shadow")


def fifo(path: Path) -> None:
    """Never answer."""
    path.unlink()
    os.mkfifo(path)


def grow(path: Path) -> None:
    """Have a terabyte of zeros at the end."""
    os.truncate(path, 1 << 40)


def noise(path: Path) -> None:
    """Have random content behind the head of the file."""
    data = path.read_bytes()
    path.write_bytes(data[:8] + os.urandom(len(data)))


IMAGES = ("inventory", "pstree", "core-1", "mm-1", "files", "fdinfo-2", "mountpoints-*", "ids-1", "fs-1", "utsns-*")
DATA = ("pagemap-1", "pages-1", "tmpfs-dev-*", "seccomp", "cgroup", "timens-0", "ipcns-var-*")


@pytest.mark.may_skip("not all combinations make sense")
@pytest.mark.parametrize("change", [cut, Path.unlink, link, fifo, grow, noise], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", [*IMAGES, *DATA])
def test_restore_from_damaged_images(name: str, change: Callable[[Path], object], subject: Subject) -> None:
    """It fails soon with one line, or it has the whole container again; nothing is in between."""
    subject.dump()
    files = sorted(subject.images.glob(f"{name}.*img"))
    if change is grow and name.startswith("tmpfs"):
        pytest.skip("tar reads all of it")
    change(files[0])

    done = subject.restore()

    if done.status:
        assert 1 == len(done.err.splitlines()), done
        subject.runtime.assert_gone()
    else:
        assert subject.runtime.status() == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_restore_is_interrupted(number: signal.Signals, subject: Subject) -> None:
    """CRIU and the half of the container die with the runtime."""
    subject.dump()
    begun = subject.folder / "begun"
    criu = subject.script(f"echo >{begun}; exec sleep 100")
    words = ("restore", "--detach", "--bundle", subject.runtime.bundle.folder, "--image-path", subject.images)
    command = subject.runtime.command("--criu", criu, *words, subject.runtime.id)
    null = subprocess.DEVNULL
    command = ["env", "--default-signal", *command]  # nohup(1) ignores SIGHUP for all that it starts
    with subprocess.Popen(command, stdin=null, stdout=null, stderr=null) as restoring:
        wait_for(begun.exists)
        assert subject.runtime.status() in ("", "creating")
        restoring.send_signal(number)
        restoring.wait(SOON)

    assert restoring.returncode
    subject.runtime.host.reap()
    subject.runtime.delete("--force")
    subject.runtime.assert_gone()


def begin(subject: Subject, criu: Path) -> "subprocess.Popen[bytes]":
    """A checkpoint at work."""
    words = ("--criu", criu, "checkpoint", "--image-path", subject.images, subject.runtime.id)
    null = subprocess.DEVNULL
    return subprocess.Popen(subject.runtime.command(*words), stdin=null, stdout=null, stderr=null)


def hanging(subject: Subject) -> tuple[Path, Path]:
    """A CRIU that gets its request and never answers, and the file that it makes then."""
    mark = subject.folder / "mark"
    return subject.program(f"read(); open({str(mark)!r}, 'w').close(); s.recv(1); os._exit(1)"), mark


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_checkpoint_is_interrupted(number: signal.Signals, subject: Subject) -> None:
    """The container runs on, and the next checkpoint works."""
    subject.start()
    criu, mark = hanging(subject)
    with begin(subject, criu) as checkpoint:
        wait_for(mark.exists)
        assert subject.runtime.status() == "running"
        checkpoint.send_signal(number)
        checkpoint.wait(SOON)

    assert checkpoint.returncode
    subject.assert_as_before()
    assert (0, "", "") == tuple(subject.checkpoint("--leave-running"))
    subject.assert_as_before()


def test_other_commands_during_a_checkpoint(subject: Subject) -> None:
    """`state`, `ps` and `kill` answer at once. The container may end meanwhile: the checkpoint then fails."""
    subject.start()
    criu, mark = hanging(subject)
    with begin(subject, criu) as checkpoint:
        wait_for(mark.exists)
        assert subject.runtime.status() == "running"
        assert subject.runtime("ps", subject.runtime.id).status == 0
        assert (0, "", "") == tuple(subject.runtime("kill", subject.runtime.id, "KILL"))
        wait_for(lambda: subject.runtime.status() == "stopped")
        checkpoint.terminate()
        checkpoint.wait(SOON)

    subject.runtime.delete()


def test_a_paused_container_stays_paused(subject: Subject) -> None:
    """After a checkpoint that fails, and after one with --leave-running."""
    subject.start()
    assert (0, "", "") == tuple(subject.runtime("pause", subject.runtime.id))

    assert 1 == subject.checkpoint(criu=fake(subject, "dies after the request")).status
    assert subject.runtime.status() == "paused"
    assert (0, "", "") == tuple(subject.checkpoint("--leave-running"))
    assert subject.runtime.status() == "paused"

    assert not subject.counts()
    assert (0, "", "") == tuple(subject.runtime("resume", subject.runtime.id))
    subject.assert_as_before()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_a_hook_that_fails_ends_the_restore(kind: str, subject: Subject) -> None:
    """Nothing is left, and the images are still good."""
    subject.dump()
    hooks = subject.runtime.bundle.config.setdefault("hooks", {})
    failing: Any = {"path": "/bin/sh", "args": ["sh", "-c", "echo no such network >&2; exit 1"]}
    hooks[kind] = [failing]  # type: ignore[literal-required]

    failed = subject.restore()

    assert failed.status == 1
    assert "no such network" in failed.err
    subject.runtime.assert_gone()
    del hooks[kind]  # type: ignore[misc]
    assert 0 == subject.restore().status


def test_a_container_with_the_id_exists(subject: Subject) -> None:
    """It is not touched."""
    subject.start()
    assert (0, "", "") == tuple(subject.checkpoint("--leave-running"))

    failed = subject.restore()

    assert failed.status == 1
    assert "container with given ID already exists" in failed.err
    subject.assert_as_before()
