"""checkpoint and restore of programs that change what config.json gave them: the checks of restore accept all."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.linux import CAP_SYS_RESOURCE
from tests.root.test_console import ConsoleSocket
from tests.support.runtime import Bundle, Runtime, kill, status_of, wait_for

pytestmark = pytest.mark.root

BUILD = Path(__file__).resolve().parents[2] / "build"
READY = "touch /ready; while :; do touch /alive; sleep 0.05; done"


class Dumped:
    """A container that can be dumped and restored."""

    def __init__(self, runtime: Runtime, criu: Path, folder: Path) -> None:
        self.runtime = runtime
        self.bundle = runtime.bundle
        self.criu = criu
        self.folder = folder

    def start(self, script: str) -> None:
        """Start a container whose program makes the file /ready."""
        self.bundle.shell(script)
        self.runtime.create(stdout=-3, stderr=-3)
        self.runtime.start()
        wait_for((self.bundle.rootfs / "ready").exists, self.runtime.log.read_text())

    def again(self) -> None:
        """Dump the container and restore it."""
        images = self.folder / "images"
        done = self.runtime("--criu", self.criu, "checkpoint", "--image-path", images, self.runtime.id)
        assert (0, "", "") == tuple(done), (images / "dump.log").read_text()[-2000:]
        words = ("restore", "--detach", "--bundle", self.bundle.folder, "--image-path", images)
        result = self.runtime.into_files("--criu", self.criu, *words, self.runtime.id, stdout=-3, stderr=-3)
        assert 0 == result.status, self.runtime.log.read_text()
        shutil.rmtree(images)
        alive = self.bundle.rootfs / "alive"
        alive.unlink(missing_ok=True)
        wait_for(alive.exists)

    def allow(self, *names: str) -> None:
        """Give the program capabilities."""
        sets = self.bundle.process["capabilities"]
        for kind in ("bounding", "permitted", "effective"):
            sets[kind] = [*sets.get(kind, []), *names]  # type: ignore[literal-required]


@pytest.fixture
def dumped(runtime: Runtime, criu: Path) -> Iterator[Dumped]:
    """A container that can be dumped and restored."""
    folder = BUILD / f"programs-{runtime.id}"
    folder.mkdir(mode=0o755)
    try:
        yield Dumped(runtime, criu, folder)
    finally:
        shutil.rmtree(folder)


def test_restore_keeps_a_program(dumped: Dumped) -> None:
    """Three times, with a filter, read-only paths, a volume and a tmpfs."""
    dumped.bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    dumped.bundle.bind(dumped.folder, "/data", "ro", "nosuid")
    dumped.bundle.mount("/run/lock", "tmpfs", "ro", "noexec")
    dumped.start(READY)

    for _ in range(3):
        dumped.again()


def test_restore_keeps_a_dead_process(dumped: Dumped) -> None:
    """A zombie, for which its parent has not waited yet."""
    dumped.start(f"(sleep 0 & exec sleep 1000) & {READY}")

    for _ in range(2):
        dumped.again()
        init = dumped.runtime.pid()
        (parent,) = filter(is_parent, children(init))
        (zombie,) = children(parent)
        assert status_of(zombie)["State"].startswith("Z")


def is_parent(pid: int) -> bool:
    """Whether this is the `sleep` that has a child. Others end at any time."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n" and bool(children(pid))
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_restore_gives_the_streams_of_its_caller(dumped: Dumped) -> None:
    """Files of the host, which the caller has given."""
    runtime, images = dumped.runtime, dumped.folder / "images"
    dumped.bundle.shell("while :; do echo line; sleep 0.05; done")
    runtime.create()
    runtime.start()
    wait_for(runtime.output)
    done = runtime("--criu", dumped.criu, "checkpoint", "--image-path", images, runtime.id)
    assert (0, "", "") == tuple(done), (images / "dump.log").read_text()[-2000:]

    words = ("restore", "--detach", "--bundle", dumped.bundle.folder, "--image-path", images)
    before = runtime.output()  # CRIU rejects files of another size than at the checkpoint
    with (runtime.folder / "more").open("w") as more, (runtime.folder / "none").open("w") as none:
        more.write(before)
        more.flush()
        runtime.detached("--criu", dumped.criu, *words, runtime.id, stdout=more, stderr=none)
    wait_for(lambda: len((runtime.folder / "more").read_text()) > len(before))


@pytest.mark.may_skip("the tests run without CAP_SYS_RESOURCE, which CRIU needs to read the limits of another user")
def test_restore_keeps_dropped_privileges(dumped: Dumped, bundle: Bundle) -> None:
    """A server that starts as root and becomes another user."""
    if not int(status_of()["CapEff"], 16) >> CAP_SYS_RESOURCE & 1:
        pytest.skip("without CAP_SYS_RESOURCE, CRIU can't read the limits of another user's process")
    (bundle.rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nserver:x:33:33::/:/bin/sh\n")
    (bundle.rootfs / "alive").touch()
    (bundle.rootfs / "alive").chmod(0o666)
    bundle.rootfs.chmod(0o777)
    dumped.allow("CAP_SETUID", "CAP_SETGID")
    dumped.start(f"exec setpriv --nnp su -s /bin/sh server -c '{READY}'")
    before = status_of(dumped.runtime.pid())

    dumped.again()

    after = status_of(dumped.runtime.pid())
    kept = ("Uid", "Gid", "Groups", "CapBnd", "CapPrm", "CapEff", "NoNewPrivs", "Seccomp")
    assert [before[name] for name in kept] == [after[name] for name in kept]
    assert "33\t33\t33\t33" == after["Uid"]


def test_restore_keeps_a_sandbox(dumped: Dumped) -> None:
    """A child in a mount namespace of its own. CRIU can't dump the others if a container has two of them."""
    dumped.allow("CAP_SYS_ADMIN")
    dumped.start(f"unshare -m sh -c 'mount -t tmpfs none /mnt; cd /mnt; {READY}' & wait")

    dumped.again()


def test_restore_keeps_mounts_that_the_program_changed(dumped: Dumped) -> None:
    """With CAP_SYS_ADMIN."""
    dumped.allow("CAP_SYS_ADMIN")
    script = (
        "umount /proc/keys; mount -t proc proc /mnt; mount -t tmpfs none /tmp; mkdir /tmp/a; mount -o bind /tmp /var; "
    )
    dumped.start(script + READY)

    dumped.again()


def test_restore_keeps_children_and_zombies(dumped: Dumped) -> None:
    """CRIU makes a dead process again."""
    dumped.start(f"(sleep 1000 & sleep 1000) & sleep 0.01 & exec sh -c '{READY}'")

    dumped.again()


def test_restore_keeps_a_terminal(dumped: Dumped, tmp_path: Path) -> None:
    """The engine gets its master through the console socket, each time."""
    dumped.bundle.process["terminal"] = True
    dumped.bundle.shell("while read line; do touch /alive; echo got $line; done")
    runtime, images = dumped.runtime, dumped.folder / "images"
    console = ConsoleSocket(tmp_path / "console")
    try:
        runtime.create("--console-socket", console.path)
        console.receive()
        runtime.start()
        for name in ("first", "second", "third"):
            os.write(console.master, f"{name}\n".encode())
            console.until(f"got {name}")
            done = runtime("--criu", dumped.criu, "checkpoint", "--image-path", images, runtime.id)
            assert (0, "", "") == tuple(done), (images / "dump.log").read_text()[-2000:]
            os.close(console.master)
            words = ("restore", "--detach", "--bundle", dumped.bundle.folder, "--image-path", images)
            runtime.detached("--criu", dumped.criu, *words, "--console-socket", console.path, runtime.id)
            console.receive()
            shutil.rmtree(images)
    finally:
        console.close()


def test_restore_joins_the_network_namespace_of_the_config(dumped: Dumped) -> None:
    """It is another one than at the checkpoint, as for a pod on another host."""
    holders = [subprocess.Popen(["unshare", "--net", "sleep", "1000"]) for _ in range(2)]
    links = [Path(f"/proc/{holder.pid}/ns/net") for holder in holders]
    try:
        for link in links:
            wait_for(lambda link=link: link.readlink() != Path("/proc/self/ns/net").readlink())
        dumped.bundle.namespace("network", links[0])
        dumped.start(READY)
        dumped.bundle.namespace("network", links[1])
        dumped.bundle.write()
        dumped.again()
        assert links[1].readlink() == Path(f"/proc/{dumped.runtime.pid()}/ns/net").readlink()
    finally:
        for holder in holders:
            kill(holder)


def test_restore_keeps_a_user_namespace(dumped: Dumped) -> None:
    """With an ordinary user in it."""
    dumped.bundle.in_user_namespace()
    dumped.bundle.rootfs.chmod(0o777)
    dumped.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    dumped.start(READY)

    dumped.again()
