"""restore with hostile images: what the check of the images rejects, and what the check of the processes kills.

For the second, a criu of the test changes the images after pyoci has checked them, as an attacker would who can write
to them.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import checkpoints
from tests.support.checkpoints import Fields, edit, edit_inside
from tests.support.restoring import FILE_COUNTER
from tests.support.runtime import Runtime, wait_for

pytestmark = pytest.mark.root

BUILD = Path(__file__).resolve().parents[2] / "build"
SYS_ADMIN = 1 << 21


class Hostile:
    """A container that was dumped, and whose images an attacker changes."""

    def __init__(self, runtime: Runtime, criu: Path, folder: Path) -> None:
        self.runtime = runtime
        self.criu = criu
        self.folder = folder  # where CRIU can reach it by path: restore covers /tmp
        self.images = folder / "images"
        self.count = runtime.bundle.rootfs / "count"
        self.before = ""

    def dump(self) -> None:
        """Dump a container that counts."""
        self.runtime.bundle.shell(FILE_COUNTER)
        self.runtime.bundle.process["noNewPrivileges"] = True
        self.runtime.bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
        self.runtime.create(stdout=-3, stderr=-3)
        self.runtime.start()
        wait_for(self.count.exists)
        words = ("--criu", self.criu, "checkpoint", "--image-path", self.images, self.runtime.id)
        assert (0, "", "") == tuple(self.runtime(*words))
        self.before = self.count.read_text()

    def restore(self, criu: Path | None = None) -> str:
        """Restore it, which fails. Returns the error; no process of the container has run."""
        words = ("restore", "--detach", "--bundle", self.runtime.bundle.folder, "--image-path", self.images)
        result = self.runtime.into_files(
            *("--criu", criu or self.criu, *words, "--work-path", self.folder / "work", self.runtime.id),
            stdout=-3,
            stderr=-3,
        )
        assert 1 == result.status
        self.runtime.assert_gone()
        assert self.before == self.count.read_text()
        text = self.runtime.log.read_text().splitlines()[-1]
        return text.partition('"msg":"')[2].partition('","')[0]

    def late(self, change: Callable[[Path], object]) -> str:
        """Restore it with a criu that changes the images before it reads them."""
        changed = self.folder / "changed"
        shutil.copytree(self.images, changed)
        change(changed)
        script = self.folder / "criu"
        script.write_text(f'#!/bin/sh\n[ "$1" = swrk ] && cp {changed}/*.img {self.images}/\nexec {self.criu} "$@"\n')
        script.chmod(0o755)
        return self.restore(script)


@pytest.fixture
def hostile(runtime: Runtime, criu: Path) -> Iterator[Hostile]:
    """A dumped container."""
    folder = BUILD / f"hostile-{runtime.id}"
    folder.mkdir(mode=0o755)
    try:
        made = Hostile(runtime, criu, folder)
        made.dump()
        yield made
    finally:
        shutil.rmtree(folder)


# --- changes of an image


def of_thread(change: Callable[[Fields], None], *path: int) -> Callable[[Path], None]:
    """A change of what core-1.img says about init's first thread."""
    return lambda images: edit(images / "core-1.img", lambda fields: edit_inside(fields, [5, *path], change))


def of_mounts(change: Callable[[Fields], bool | None]) -> Callable[[Path], None]:
    """A change of each mount."""

    def changed(images: Path) -> None:
        (file,) = images.glob("mountpoints-*.img")
        edit(file, change)

    return changed


def gain(fields: Fields) -> None:
    """Add CAP_SYS_ADMIN to every set."""
    for number in (10, 11, 12):
        low, *rest = fields[number]
        assert isinstance(low, int)
        fields[number] = [low | SYS_ADMIN, *rest]


def lose_no_new_privs(fields: Fields) -> None:
    """Let the process gain privileges."""
    del fields[18]


def lose_filter(fields: Fields) -> None:
    """Leave the process without its filter."""
    del fields[11], fields[12]


def open_proc_sys(fields: Fields) -> None:
    """Make a read-only path writable."""
    if fields[7] == [b"/proc/sys"]:
        fields[5] = [0]


def uncover(fields: Fields) -> bool:
    """Leave out a mask."""
    return fields[7] != [b"/proc/keys"]


def share_uts(images: Path) -> None:
    """Leave the container in the host's uts namespace."""
    host = checkpoints.wire.decode((images / "inventory.img").read_bytes()[8:])
    (ids,) = host[3]
    assert isinstance(ids, bytes)
    number = checkpoints.wire.decode(ids)[8]
    for file in images.glob("ids-*.img"):
        edit(file, lambda fields: fields.update({8: [*number]}))


# --- before CRIU starts


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (of_thread(gain, 10), "process 1 (sh) has CAP_SYS_ADMIN in its bounding set"),
        (of_thread(lose_no_new_privs, 10), "process 1 (sh) can gain privileges"),
        (of_thread(lose_filter), "process 1 (sh) has no seccomp filter"),
        (of_mounts(open_proc_sys), "the image has this path writable"),
        (share_uts, "the image has no uts namespace"),
        (lambda images: (images / "pages-9.img").symlink_to("/etc/shadow"), "image pages-9.img is a symbolic link"),
        (lambda images: (images / "pstree.img").write_bytes(b"?"), "image pstree.img is damaged: it is truncated"),
    ],
    ids=["capabilities", "privileges", "filter", "readonly", "uts", "link", "damage"],
)
def test_restore_rejects_hostile_images(hostile: Hostile, change: Callable[[Path], object], expected: str) -> None:
    """One line says what is wrong. CRIU has not started: it has written no log."""
    change(hostile.images)

    text = hostile.restore()
    assert "cannot restore the container: " in text
    assert expected in text
    assert not (hostile.folder / "work/restore.log").exists()


def test_restore_rejects_filesystems_of_the_host(hostile: Hostile) -> None:
    """CRIU would mount any device."""

    def mount_device(fields: Fields) -> None:
        if fields[7] == [b"/dev/shm"]:
            fields.update({1: [16], 8: [b"/dev/sda1"], 3: [8 << 20 | 1]})

    of_mounts(mount_device)(hostile.images)

    assert "the image has a filesystem at /dev/shm that pyoci does not restore" in hostile.restore()


def test_restore_follows_no_symlink_to_the_host(hostile: Hostile) -> None:
    """CRIU would bind a directory of the host: it resolves the link in the host's root."""
    (hostile.runtime.bundle.rootfs / "link").symlink_to("/etc")
    (file,) = hostile.images.glob("mountpoints-*.img")
    root: Fields = {}

    def bind_directory(fields: Fields) -> None:
        if fields[7] == [b"/dev/shm"]:
            (path,) = root[6]
            assert isinstance(path, bytes)
            fields.update({number: root[number] for number in (1, 3, 8, 9)} | {6: [path.rstrip(b"/") + b"/link"]})

    edit(file, lambda fields: root.update(fields) if fields[7] == [b"/"] else None)
    edit(file, bind_directory)

    assert "CRIU would follow link in " in hostile.restore()
    assert not (hostile.folder / "work/restore.log").exists()


def test_restore_truncates_no_file(hostile: Hostile) -> None:
    """CRIU would open files with the flags in the image."""

    def truncate(fields: Fields) -> None:
        if 3 in fields:
            edit_inside(fields, [3], lambda file: file.update({2: [0o1001]}))

    edit(hostile.images / "files.img", truncate)

    assert "image files.img is damaged: a file has the flags 0x201" in hostile.restore()


# --- after CRIU has restored the processes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (of_thread(gain, 10), "has CAP_SYS_ADMIN in its bounding set"),
        (of_thread(lose_no_new_privs, 10), "can gain privileges"),
        (of_thread(lose_filter), "has no seccomp filter"),
        (of_mounts(open_proc_sys), "can write to /proc/sys"),
        (of_mounts(uncover), "can see /proc/keys"),
        (share_uts, "is in the runtime's uts namespace"),
    ],
    ids=["capabilities", "privileges", "filter", "readonly", "mask", "uts"],
)
def test_restore_kills_processes_that_differ_from_the_image(
    hostile: Hostile, change: Callable[[Path], object], expected: str
) -> None:
    """The images changed after the check. No process has run, and nothing is left."""
    text = hostile.late(change)

    assert "cannot restore the container: process " in text
    assert expected in text
    assert (hostile.folder / "work/restore.log").exists()
