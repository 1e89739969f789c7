"""checkpoint and restore of a container's mounts: volumes, masks, its own filesystems, another root filesystem."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import Runtime, wait_for

pytestmark = pytest.mark.root

COUNTER = "n=0; while :; do n=$((n+1)); echo $n >/run/count; touch /alive; sleep 0.05; done"


class Dumped:
    """A container with all kinds of mounts, which can be dumped and restored."""

    def __init__(self, runtime: Runtime, criu: Path, data: Path) -> None:
        self.runtime = runtime
        self.bundle = runtime.bundle
        self.criu = criu
        self.data = data
        self.images = runtime.folder / "images"
        for name in ("secret", "file"):
            (data / name).write_text(f"{name}\n")
        (self.bundle.rootfs / "secret").write_text("secret\n")
        (self.bundle.rootfs / "var").mkdir(exist_ok=True)
        (self.bundle.rootfs / "var/link").symlink_to("/files")
        self.bundle.linux.setdefault("maskedPaths", []).append("/secret")
        self.bundle.config["mounts"] += [
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/data", "type": "bind", "source": str(data), "options": ["rbind", "ro"]},
            {"destination": "/var/link/file", "type": "bind", "source": str(data / "file"), "options": ["bind"]},
        ]

    def dump(self, script: str = COUNTER) -> None:
        """Start the container, and dump it once its program runs."""
        self.bundle.shell(script)
        self.runtime.create(stdout=-3, stderr=-3)
        self.runtime.start()
        wait_for((self.bundle.rootfs / "alive").exists, self.runtime.log.read_text())
        done = self.runtime("--criu", self.criu, "checkpoint", "--image-path", self.images, self.runtime.id)
        assert (0, "", "") == tuple(done)
        (self.bundle.rootfs / "alive").unlink()

    def again(self) -> None:
        """Dump it once more, in place of the images that it came from."""
        for path in self.images.iterdir():
            path.unlink()
        done = self.runtime("--criu", self.criu, "checkpoint", "--image-path", self.images, self.runtime.id)
        assert (0, "", "") == tuple(done)
        (self.bundle.rootfs / "alive").unlink()

    def restore(self, bundle: Path | None = None) -> None:
        """Restore it, and wait until its program runs."""
        folder = bundle or self.bundle.folder
        words = ("restore", "--detach", "--bundle", folder, "--image-path", self.images)
        self.runtime.detached("--criu", self.criu, *words, self.runtime.id, stdout=-3, stderr=-3)
        wait_for((folder / "rootfs/alive").exists)

    def error(self) -> str:
        """Why it can't be restored. Nothing of the container is there."""
        words = ("restore", "--detach", "--bundle", self.bundle.folder, "--image-path", self.images)
        self.bundle.write()
        done = self.runtime("--criu", self.criu, *words, self.runtime.id)
        assert (1, "") == (done.status, done.out)
        self.runtime.assert_gone()
        return done.err.strip()

    def sh(self, script: str) -> str:
        """What a shell in the container says."""
        done = self.runtime("exec", self.runtime.id, "/bin/sh", "-c", f"{script} 2>&1")
        return done.out


@pytest.fixture
def dumped(runtime: Runtime, criu: Path, tmp_path: Path) -> Iterator[Dumped]:
    """A container whose volume has a filesystem below it."""
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", data / "below"], check=True)
    (data / "below/file").write_text("below\n")
    try:
        yield Dumped(runtime, criu, data)
    finally:
        runtime.clean_up()
        subprocess.run(["umount", data / "below"], check=True)


def mounts_of(runtime: Runtime) -> list[str]:
    """Mount point, attributes and propagation of each mount of init."""
    lines = [line.split() for line in Path(f"/proc/{runtime.pid()}/mountinfo").read_text().splitlines()]
    return sorted(" ".join(line[4 : line.index("-")]) for line in lines)


def test_mounts_are_those_of_create(dumped: Dumped) -> None:
    """After three generations, each mount has the attributes that it had, and programs find the same files."""
    dumped.runtime.bundle.shell(COUNTER)
    dumped.runtime.create(stdout=-3, stderr=-3)
    dumped.runtime.start()
    before = mounts_of(dumped.runtime)
    assert 0 == dumped.runtime("delete", "--force", dumped.runtime.id).status
    (dumped.bundle.rootfs / "alive").unlink(missing_ok=True)
    dumped.dump()
    for _ in range(2):
        dumped.restore()
        dumped.again()
    dumped.restore()

    assert before == mounts_of(dumped.runtime)
    assert "secret\nbelow\nfile\n" == dumped.sh("cat /data/secret /data/below/file /files/file")
    assert "" == dumped.sh("cat /secret")
    assert "touch: /data/secret: Read-only file system\n" == dumped.sh("touch /data/secret")
    count = dumped.sh("cat /run/count")
    wait_for(lambda: count != dumped.sh("cat /run/count"))


def test_restore_on_another_root_filesystem(dumped: Dumped, tmp_path: Path) -> None:
    """The volume comes from another path, and missing mount points are made."""
    dumped.dump()
    other = tmp_path / "other"
    shutil.copytree(dumped.bundle.folder, other / "bundle", symlinks=True)
    shutil.copytree(dumped.data, other / "data")
    shutil.rmtree(dumped.bundle.rootfs)
    for name in ("data", "proc", "sys", "files"):
        shutil.rmtree(other / "bundle/rootfs" / name)
    text = (other / "bundle/config.json").read_text()
    (other / "bundle/config.json").write_text(text.replace(str(dumped.data), str(other / "data")))
    subprocess.run(["mount", "--bind", other / "data/below", other / "data/below"], check=True)
    try:
        dumped.restore(other / "bundle")
        (other / "data/secret").write_text("moved\n")

        assert "moved\nbelow\nfile\n" == dumped.sh("cat /data/secret /data/below/file /files/file")
        assert (other / "bundle/rootfs/files/file").is_file()
    finally:
        dumped.runtime.clean_up()
        subprocess.run(["umount", other / "data/below"], check=True)


def test_volume_is_missing(dumped: Dumped) -> None:
    """In the checkpoint, in config.json, or on this host."""
    dumped.dump()
    volumes = dumped.bundle.config["mounts"]
    new = {"destination": "/new", "type": "bind", "source": str(dumped.data), "options": ["bind"]}
    volumes.append(new)
    index = len(volumes) - 1
    prefix = "cannot restore the container: the checkpoint has"

    assert f"/mounts/{index}: {prefix} no mount at /new" == dumped.error()

    volumes.pop()
    removed = volumes.pop()
    assert f"{prefix} an external mount at /files/file, which config.json does not have" == dumped.error()

    volumes.append({**removed, "source": "/nonexistent"})
    expected = f"/mounts/{index - 1}/source: cannot use mount source /nonexistent: no such file or directory"
    assert expected == dumped.error()


def test_volume_must_stay_read_only(dumped: Dumped) -> None:
    """A config.json that makes another volume read-only than the checkpoint has does not restore."""
    dumped.dump()
    volumes = dumped.bundle.config["mounts"]
    volumes[-1]["options"] = ["bind", "ro"]

    assert f"/mounts/{len(volumes) - 1}" in dumped.error()


@pytest.mark.parametrize("images", ["beside others", "on a mount of their own"])
def test_user_namespace(dumped: Dumped, images: str) -> None:
    """CRIU reads some images as root of it, who is an ordinary user of the host. They stay root's."""
    mounted = images == "on a mount of their own"
    dumped.images.mkdir(mode=0o700)
    if mounted:
        subprocess.run(["mount", "--bind", dumped.images, dumped.images], check=True)
    try:
        linux = dumped.bundle.linux
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        for path in (dumped.bundle.rootfs, *dumped.bundle.rootfs.rglob("*")):
            os.chown(path, 100000, 100000, follow_symlinks=False)
        dumped.dump()
        for _ in range(2):
            dumped.restore()
            assert "below\nfile\n" == dumped.sh("cat /secret /data/below/file /files/file")
            dumped.again()
        assert {(0, 0o600)} == {
            (path.stat().st_uid, path.stat().st_mode & 0o777) for path in dumped.images.glob("*.img")
        }
    finally:
        dumped.runtime.clean_up()
        if mounted:
            subprocess.run(["umount", dumped.images], check=True)
