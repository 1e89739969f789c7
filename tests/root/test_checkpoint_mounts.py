"""Checkpoint and restore of mounts: volumes, tmpfs, masked and read-only paths, devices."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.test_idmap import SHIFTED
from tests.support.config import MASKED, READONLY
from tests.support.restoring import COUNTER, CheckpointRuntime, again, assert_same, facts
from tests.support.runtime import Bundle

pytestmark = pytest.mark.root


@pytest.fixture
def volume(checkpoints: CheckpointRuntime) -> Iterator[Path]:
    """A directory of the host with a file, and a tmpfs mounted below it, in a shared mount."""
    folder = checkpoints.folder / "volume"
    (folder / "sub").mkdir(parents=True)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "--make-shared", folder], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "volume", folder / "sub"], check=True)
    for path in (folder, folder / "sub"):
        path.chmod(0o777)
        (path / "file").write_text("host\n")
    (folder / "late").mkdir()
    checkpoints.host.remember()
    yield folder
    checkpoints.clean_up()
    subprocess.run(["umount", "--recursive", folder], check=True)
    checkpoints.host.remember()


def test_volumes(checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path) -> None:
    """Directories, with and without what is mounted below, and single files; writable and read-only."""
    bundle.mount("/rw", "none", "bind", "rprivate", source=volume)
    bundle.mount("/ro", "none", "bind", "ro", "nosuid", "nodev", "rprivate", source=volume)
    bundle.bind(volume, "/recursive", "rprivate").bind(volume, "/recursive-ro", "rro", "rprivate")
    bundle.mount("/etc/hosts", "none", "bind", "ro", "rprivate", source=volume / "file")
    bundle.mount("/deep/er/file", "none", "bind", "rprivate", source=volume / "sub/file")

    again(checkpoints, bundle)

    (volume / "new").write_text("new\n")
    (volume / "sub/new").write_text("below\n")
    assert "new\n" == checkpoints.inside("cat /rw/new")
    assert "new\nbelow\n" == checkpoints.inside("cat /recursive/new /recursive/sub/new")
    assert "new\nbelow\n" == checkpoints.inside("cat /recursive-ro/new /recursive-ro/sub/new")
    assert "host\nhost\n" == checkpoints.inside("cat /etc/hosts /deep/er/file")
    assert "" == checkpoints.inside("ls /rw/sub")
    checkpoints.inside("echo inside >/rw/file; echo inside >/recursive/sub/file")
    assert ["inside\n"] * 2 == [(volume / name).read_text() for name in ("file", "sub/file")]
    for path in ("/ro/x", "/recursive-ro/x", "/recursive-ro/sub/x", "/etc/hosts"):
        assert "no\n" == checkpoints.inside(f"(: >>{path}) 2>/dev/null && echo yes || echo no"), path


def test_volumes_in_a_user_namespace(checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path) -> None:
    """The same where container root is unmapped on the host, devices included: they are bind mounts there."""
    bundle.in_user_namespace()
    bundle.bind(volume, "/recursive", "rprivate")
    bundle.mount("/etc/hosts", "none", "bind", "ro", "rprivate", source=volume / "file")
    (volume / "sub/file").chmod(0o666)

    again(checkpoints, bundle)

    checkpoints.inside("echo inside >/recursive/sub/file; echo x >/dev/null; head -c 1 /dev/zero >/dev/null")
    assert "inside\n" == (volume / "sub/file").read_text()
    assert "65534:65534\n" == checkpoints.inside("stat -c %u:%g /recursive/file")


def test_idmapped_volumes(checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path) -> None:
    """The ids of their files are shifted as before; a new file has the shifted ids on the host."""
    os.chown(volume / "file", 5, 6)
    bundle.mount("/mapped", "none", "bind", "idmap", source=volume)
    bundle.config["mounts"][-1] |= SHIFTED

    again(checkpoints, bundle)

    assert "100005:200006\n" == checkpoints.inside("stat -c %u:%g /mapped/file")
    assert "idmapped" in checkpoints.inside("grep ' /mapped ' /proc/self/mountinfo")


@pytest.mark.parametrize(("option", "seen"), [("rslave", "yes"), ("rprivate", "no")])
def test_mounts_of_the_host_reach_the_container(
    checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path, option: str, seen: str
) -> None:
    """What the host mounts after the restore appears in the container, where the volume propagates."""
    bundle.bind(volume, "/volume", option)

    again(checkpoints, bundle)

    subprocess.run(["mount", "-t", "tmpfs", "late", volume / "late"], check=True)
    (volume / "late/file").touch()
    assert f"{seen}\n" == checkpoints.inside("test -e /volume/late/file && echo yes || echo no")


@pytest.mark.parametrize("options", [(), ("--leave-running",), ("--pre-dump",), ("--plan",)])
def test_a_volume_shared_with_the_host(
    checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path, options: tuple[str, ...]
) -> None:
    """CRIU would restore it in another peer group, so checkpoint refuses it before it begins."""
    bundle.bind(volume, "/volume", "rshared")
    bundle.shell(COUNTER)
    checkpoints.launch()

    message = checkpoints.checkpoint_fails(*options)

    assert "cannot checkpoint the container: CRIU can't restore the propagation of the mounts at /volume" in message
    assert "make the volumes rprivate in config.json" in message
    checkpoints.assert_counts()


def refuse(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Start a counter. `checkpoint` refuses it, and it goes on."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    assert "make the volumes rprivate in config.json" in checkpoints.checkpoint_fails()
    checkpoints.assert_counts()


@pytest.mark.parametrize("option", ["rslave", "rshared", "rprivate", ""])
def test_volumes_beside_the_root(
    checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path, tmp_path: Path, option: str
) -> None:
    """The root filesystem and private volumes may be directories of one shared mount, such as the host's root.

    checkpoint refuses volumes that get mounts of the host there.
    """
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", tmp_path], check=True)
        checkpoints.host.remember()
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            bundle.bind(tmp_path / name, f"/{name}", *[option] if option else [])
        (tmp_path / "file").write_text("text\n")
        bundle.mount("/file", "none", "bind", *[option] if option else [], source=tmp_path / "file")

        if option != "rprivate":
            refuse(checkpoints, bundle)
            return
        again(checkpoints, bundle)

        (tmp_path / "second/file").write_text("second\n")
        assert "text\nsecond\n" == checkpoints.inside("cat /file /second/file")
    finally:
        checkpoints.clean_up()
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
        checkpoints.host.remember()


def test_a_volume_that_has_gone(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """restore names it, and leaves nothing behind."""
    gone = checkpoints.folder / "gone"
    gone.mkdir()
    bundle.bind(gone, "/gone").shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.checkpoint()
    gone.rmdir()

    assert str(gone) in checkpoints.restore_fails()

    gone.mkdir()
    checkpoints.restore()
    checkpoints.assert_counts()


def test_a_tmpfs_keeps_its_content(checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path) -> None:
    """Files with modes, owners, links, sizes and times; also of a tmpfs with a volume inside, and of one in another."""
    bundle.mount("/run", "tmpfs", "mode=751", "size=8m", "nosuid").mount("/run/inner", "tmpfs", "size=4m")
    bundle.bind(volume, "/run/volume")
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.inside(
        """cd /run; echo text >file; chmod 640 file; chown 7:8 file; ln -s file link; ln file hard; mkdir -p d/e
        head -c 2000000 /dev/urandom >d/e/data; mkfifo fifo; mknod null c 1 3; echo inner >inner/file; touch -d @1000 file"""
    )
    look = "cd /run; find . -xdev | sort | xargs stat -c '%n %f %u:%g %s %h %Y'; md5sum d/e/data; cat file inner/file"
    before, content = facts(checkpoints), checkpoints.inside(look)

    checkpoints.again()

    assert content == checkpoints.inside(look)
    assert_same(before, facts(checkpoints))
    assert "host\n" == checkpoints.inside("cat /run/volume/file")
    size = "df -k /run | tail -n 1 | awk '{print $2}'"
    assert "8192\n" == checkpoints.inside(size)


def test_masked_and_read_only_paths(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """All those of Docker: they are covered again before any process runs."""
    bundle.linux["maskedPaths"] = [*MASKED, "/etc/masked", "/masked"]
    bundle.linux["readonlyPaths"] = [*READONLY, "/etc/kept"]
    for name in ("etc/masked", "etc/kept", "masked/file"):
        (bundle.rootfs / name).parent.mkdir(exist_ok=True)
        (bundle.rootfs / name).write_text("secret\n")

    again(checkpoints, bundle)

    assert "" == checkpoints.inside("cat /etc/masked; ls -A /masked /sys/firmware | grep -v :$ | grep . || true")
    assert "" == checkpoints.inside("cat /proc/keys /proc/timer_list")
    for path in ("/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/etc/kept", "/masked/x"):
        assert "no\n" == checkpoints.inside(f"(echo 1 >{path}) 2>/dev/null && echo yes || echo no"), path


def test_a_read_only_root(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """It stays read-only."""
    bundle.config["root"]["readonly"] = True
    (bundle.rootfs / "mnt").mkdir()

    again(checkpoints, bundle)

    assert "no\n" == checkpoints.inside("(: >/x) 2>/dev/null && echo yes || echo no")


def test_devices(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Nodes keep number, mode and owner. The cgroup's device rules hold again."""
    bundle.linux["devices"] = [
        {"path": "/dev/extra/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
    ]
    look = "stat -c '%n %t:%T %a %u:%g' /dev/extra/zero /dev/kmsg /dev/null /dev/tty /dev/ptmx"
    bundle.shell(f"exec 4<>/dev/zero 5>/dev/null 6</dev/urandom; {look}; {COUNTER}")

    again_with_devices(checkpoints, look)


def again_with_devices(checkpoints: CheckpointRuntime, look: str) -> None:
    checkpoints.launch()
    checkpoints.assert_counts()
    before, content = facts(checkpoints), checkpoints.inside(look)

    checkpoints.again()

    assert content == checkpoints.inside(look)
    assert_same(before, facts(checkpoints))
    assert "1\n" == checkpoints.inside("head -c 1 /dev/extra/zero | wc -c")
    opened = checkpoints("exec", checkpoints.id, "/bin/sh", "-c", ": </dev/kmsg")
    assert "Operation not permitted" in opened.err


def test_mounts_that_the_container_made(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """A tmpfs and binds that a privileged container mounted by itself are dumped like those of the config."""
    for name in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][name].append("CAP_SYS_ADMIN")
    script = """mkdir -p /own/tmpfs /own/bind /own/file; : >/own/file/of
        mount -t tmpfs own /own/tmpfs; echo kept >/own/tmpfs/file
        mount --bind /etc /own/bind; mount --bind /own/tmpfs/file /own/file/of; mount -t proc proc /own/file/../bind/../tmpfs
        umount /own/tmpfs
    """
    bundle.shell(script + COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    before = facts(checkpoints)
    assert {"/own/tmpfs", "/own/bind", "/own/file/of"} <= {entry[0] for entry in before["mounts"]}

    checkpoints.again()

    assert_same(before, facts(checkpoints))
    assert "kept\nkept\n" == checkpoints.inside("cat /own/tmpfs/file /own/file/of")


OVERLAY = "mount -t overlay -o lowerdir=/etc,upperdir=/dev/shm/u,workdir=/dev/shm/w overlay /own"


def privileged(checkpoints: CheckpointRuntime, bundle: Bundle, script: str) -> None:
    """Start a counter that may mount, after this script."""
    for name in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][name].append("CAP_SYS_ADMIN")
    bundle.shell(f"mkdir -p /own /dev/shm/u /dev/shm/w; {script}\n{COUNTER}")
    checkpoints.launch()
    checkpoints.assert_counts()


@pytest.mark.parametrize("options", [(), ("--leave-running",), ("--pre-dump",), ("--plan",)])
def test_a_filesystem_that_restore_rejects(
    checkpoints: CheckpointRuntime, bundle: Bundle, options: tuple[str, ...]
) -> None:
    """checkpoint rejects it before it begins. The container would be gone."""
    privileged(checkpoints, bundle, OVERLAY)

    message = checkpoints.checkpoint_fails(*options)

    text = "cannot checkpoint the container: the container has mounted overlay on /own, which pyoci does not restore"
    assert f"{text} (hint: unmount it)" in message
    checkpoints.assert_counts()
    checkpoints.inside("umount /own")
    checkpoints.again()


def test_a_filesystem_of_the_host_that_restore_rejects(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """devtmpfs is the same wherever it is mounted. restore has it only if config.json binds it."""
    privileged(checkpoints, bundle, "mount -t devtmpfs dev /own")

    message = checkpoints.checkpoint_fails()

    assert "the container has mounted devtmpfs on /own, which pyoci does not restore" in message
    assert "hint: unmount it, or bind it in config.json" in message
    checkpoints.assert_counts()
    checkpoints.inside("umount /own")
    checkpoints.again()


def test_a_bind_of_a_volume_that_the_container_made(
    checkpoints: CheckpointRuntime, bundle: Bundle, volume: Path
) -> None:
    """config.json does not explain it, so restore would reject it."""
    bundle.bind(volume, "/volume", "rprivate")
    privileged(checkpoints, bundle, "mount --bind /volume/late /own")

    message = checkpoints.checkpoint_fails()

    assert " on /own, which pyoci does not restore (hint: unmount it, or bind it in config.json)" in message
    checkpoints.assert_counts()
    checkpoints.inside("umount /own")
    checkpoints.again()


def test_a_bound_filesystem_of_the_host(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """config.json binds devtmpfs, at the end of a link of the root filesystem."""
    (bundle.rootfs / "link").symlink_to("/real")
    (bundle.rootfs / "real").mkdir()
    bundle.mount("/link/dev", "none", "bind", "rprivate", source=Path("/dev"))

    again(checkpoints, bundle)

    assert "/real/dev devtmpfs" in checkpoints.inside("cut -d' ' -f2,3 /proc/mounts")


@pytest.mark.parametrize("options", [(), ("--leave-running",), ("--plan",)])
def test_no_mount_namespace(checkpoints: CheckpointRuntime, bundle: Bundle, options: tuple[str, ...]) -> None:
    """restore can't give it one of the host's, so checkpoint refuses the container."""
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "mount"]
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = bundle.config["mounts"] = []
    bundle.shell("exec sleep 1000")
    checkpoints.launch()

    message = checkpoints.checkpoint_fails(*options)

    text = "cannot checkpoint the container: CRIU restores no container without its own mount namespace"
    assert text in message
    assert "running" == checkpoints.status()


@pytest.mark.parametrize("options", [(), ("--leave-running",)])
def test_an_image_that_restore_rejects(
    checkpoints: CheckpointRuntime, bundle: Bundle, options: tuple[str, ...]
) -> None:
    """Only the image shows the mounts of another process. The container goes on, and can be checkpointed later."""
    privileged(checkpoints, bundle, f"unshare -m sh -c '{OVERLAY}; echo >/dev/shm/mounted; exec sleep 1000' &")
    checkpoints.wait_for_file("/dev/shm/mounted")

    message = checkpoints.checkpoint_fails(*options)

    text = "restore would reject it: the image has a filesystem at /own that pyoci does not restore"
    assert f"cannot checkpoint the container: {text}" in message
    checkpoints.assert_counts()
    checkpoints.inside("kill $(pidof sleep)")
    checkpoints.again()


def test_an_image_directory_that_restore_rejects(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Users other than root can write to it."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.images().mkdir()
    checkpoints.images().chmod(0o777)

    message = checkpoints.checkpoint_fails()

    text = "restore would reject it: other users can write to the image directory"
    assert f"cannot checkpoint the container: {text}" in message
    checkpoints.assert_counts()
    checkpoints.images().chmod(0o755)
    checkpoints.again()
