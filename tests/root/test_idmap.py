"""Idmapped mounts: ids that are shifted inside, and as they were outside."""

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from pyoci import _native
from tests.support.kernels import KERNEL
from tests.support.runtime import Bundle, Runtime, wait_for

pytestmark = pytest.mark.root

TMPFS_SINCE = (6, 3)  # the kernel that can idmap a tmpfs
MOVE_MOUNT = 429
EMPTY_PATHS = 0x44  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH


def mapping(container: int, host: int, size: int = 65536) -> dict[str, int]:
    return {"containerID": container, "hostID": host, "size": size}


SHIFTED = {"uidMappings": [mapping(0, 100000)], "gidMappings": [mapping(0, 200000)]}


@pytest.fixture
def data(runtime: Runtime) -> Path:
    """A directory of the host: `root` is root's, `user` belongs to 5:6. Its filesystem must be one that can be
    idmapped.
    """
    folder = runtime.folder / "data"
    folder.mkdir()
    folder.chmod(0o777)
    for name, uid, gid in (("root", 0, 0), ("user", 5, 6)):
        (folder / name).touch()
        os.chown(folder / name, uid, gid)
    return folder


def add(bundle: Bundle, destination: str, source: Path | str, *options: str, **mappings: list[dict[str, int]]) -> None:
    """A bind mount with mappings of its own."""
    bundle.mount(destination, "none", *options, source=source)
    bundle.config["mounts"][-1] |= mappings


def owners(*paths: str) -> str:
    """A script that tells them."""
    return f"stat -c %u:%g {' '.join(paths)}"


def outside(*paths: Path) -> list[tuple[int, int]]:
    return [(path.stat().st_uid, path.stat().st_gid) for path in paths]


def test_ids_are_shifted_inside_and_not_outside(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """The file's own ids are what the mapping calls the container's (MNT-09)."""
    add(bundle, "/plain", data, "bind")
    add(bundle, "/mapped", data, "bind", "idmap", **SHIFTED)
    add(bundle, "/unasked", data, "bind", **SHIFTED)  # mappings don't need the option

    out = runtime.shell(owners("/plain/root", "/plain/user", "/mapped/root", "/mapped/user", "/unasked/user"))

    assert ["0:0", "5:6", "100000:200000", "100005:200006", "100005:200006"] == out.split()
    assert [(0, 0), (5, 6)] == outside(data / "root", data / "user")


def test_what_is_made_inside_is_shifted_back(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """A file of the container's user belongs on the host to the mapped user."""
    add(bundle, "/mapped", data, "bind", "idmap", **SHIFTED)
    bundle.process["user"] = {"uid": 100005, "gid": 200006}
    out = runtime.shell(f"touch /mapped/new; {owners('/mapped/new')}; echo x > /mapped/user && echo written")
    assert ["100005:200006", "written"] == out.split()
    assert [(5, 6)] == outside(data / "new")


def test_an_id_without_a_mapping_is_the_overflow_id(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """And can't make a file there: the filesystem could not record its owner."""
    add(bundle, "/mapped", data, "bind", "idmap", uidMappings=[mapping(0, 7, 1)], gidMappings=[mapping(0, 7, 1)])
    out = runtime.shell(f"{owners('/mapped/root', '/mapped/user')}; touch /mapped/new 2>&1; true")
    assert ["7:7", "65534:65534"] == out.split()[:2]
    assert "Value too large" in out
    assert not (data / "new").exists()


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_the_mapping_of_a_new_user_namespace(runtime: Runtime, bundle: Bundle, data: Path, option: str) -> None:
    """Without mappings of its own a mount takes the container's (MNT-10): what is root's stays root's."""
    bundle.in_user_namespace()
    add(bundle, "/plain", data, "bind")
    add(bundle, "/mapped", data, "rbind", option)
    out = runtime.shell(f"touch /mapped/new; {owners('/plain/root', '/mapped/root', '/mapped/user', '/mapped/new')}")
    assert ["65534:65534", "0:0", "5:6", "0:0"] == out.split()
    assert [(0, 0), (0, 0)] == outside(data / "root", data / "new")


def test_other_mappings_than_the_user_namespaces(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """Both hold: from the disk to the host's ids, and from these to the container's."""
    bundle.in_user_namespace()
    shift = [mapping(5, 100000, 1), mapping(0, 100005, 1)]
    add(bundle, "/mapped", data, "bind", "idmap", uidMappings=shift, gidMappings=[mapping(0, 100000, 10)])
    assert ["5:0", "0:6"] == runtime.shell(owners("/mapped/root", "/mapped/user")).split()


def test_the_mapping_of_a_joined_user_namespace(runtime: Runtime, bundle: Bundle, data: Path, tmp_path: Path) -> None:
    """It is read from the namespace itself, because the config does not have it."""
    other = Bundle(tmp_path / "other").in_user_namespace(host=300000).program("sleep", 100)
    others = Runtime(runtime.executable, runtime.folder, other, runtime.host)
    others.id = f"{runtime.id}-other"
    others.create()
    bundle.in_user_namespace(host=300000).namespace("user", f"/proc/{others.pid()}/ns/user")
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    add(bundle, "/mapped", data, "bind", "idmap")
    assert ["0:0", "5:6"] == runtime.shell(owners("/mapped/root", "/mapped/user")).split()


@pytest.mark.may_skip("before Linux 6.3 a tmpfs, which is mounted below, can't be idmapped")
@pytest.mark.skipif(KERNEL < TMPFS_SINCE, reason="a tmpfs, which is mounted below, can't be idmapped")
def test_recursively_or_not(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """ridmap reaches what is mounted below (MNT-11), idmap and mappings alone do not; the later option counts."""
    (data / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", data / "below"], check=True)
    try:
        (data / "below/file").touch()
        add(bundle, "/idmap", data, "rbind", "idmap", **SHIFTED)
        add(bundle, "/ridmap", data, "rbind", "ridmap", **SHIFTED)
        add(bundle, "/unasked", data, "rbind", **SHIFTED)
        add(bundle, "/later", data, "rbind", "ridmap", "idmap", **SHIFTED)
        mounts = ("/idmap", "/ridmap", "/unasked", "/later")
        out = runtime.shell(owners(*(f"{mount}/{name}" for mount in mounts for name in ("root", "below/file"))))
    finally:
        subprocess.run(["umount", data / "below"], check=True)
    shifted, plain = "100000:200000", "0:0"
    assert [shifted, plain, shifted, shifted, shifted, plain, shifted, plain] == out.split()


def test_with_the_other_options(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """Attributes and propagation hold beside the mapping."""
    add(bundle, "/mapped", data, "rbind", "ro", "nosuid", "rprivate", "idmap", "noexec", **SHIFTED)
    out = runtime.shell(f"grep ' /mapped ' /proc/self/mountinfo; {owners('/mapped/user')}; touch /mapped/x 2>&1; true")
    assert "ro,nosuid,noexec,relatime,idmapped - " in out
    assert "\n100005:200006\ntouch: /mapped/x: Read-only file system\n" in out


def test_a_new_tmpfs(runtime: Runtime, bundle: Bundle) -> None:
    """Where the kernel has it, for a filesystem that the container makes; `idmap` is not passed to the filesystem."""
    bundle.mount("/m", "tmpfs", "idmap", "size=64k", "ro", "uid=5", "gid=6")
    bundle.config["mounts"][-1] |= SHIFTED
    if KERNEL >= TMPFS_SINCE:
        out = runtime.shell(f"{owners('/m')}; grep ' /m ' /proc/self/mountinfo")
        assert "100005:200006" == out.split()[0]
        assert "ro,relatime,idmapped - tmpfs" in out
        assert "size=64k" in out
    else:
        message = runtime.create_fails()
        assert message.startswith(
            "/mounts/6/options/0: cannot mount tmpfs on /m: mount_setattr: invalid argument (hint:"
        )


@pytest.mark.may_skip("before Linux 6.3 a tmpfs can't be idmapped")
@pytest.mark.skipif(KERNEL < TMPFS_SINCE, reason="a tmpfs can't be idmapped")
def test_a_tmpfs_with_a_copy(runtime: Runtime, bundle: Bundle) -> None:
    """Copied files keep their ids, through the mapping."""
    (bundle.rootfs / "there").mkdir()
    (bundle.rootfs / "there/file").touch()
    os.chown(bundle.rootfs / "there/file", 5, 6)
    bundle.mount("/there", "tmpfs", "idmap", "tmpcopyup")
    bundle.config["mounts"][-1] |= SHIFTED
    assert ["100005:200006"] == runtime.shell(owners("/there/file")).split()


# --- what can't be

INVALID = "invalid argument (hint: its filesystem can't be idmapped: ext4, xfs and btrfs can, tmpfs since Linux 6.3)"
SECOND = "(hint: a mount takes one id mapping, but not the host's, and the runtime must have power over its filesystem)"


def test_a_filesystem_that_has_no_mappings(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel's refusal, with the pointer of what asked for it; nothing is left."""
    add(bundle, "/m", "/proc/sys", "bind", "ro", "idmap", **SHIFTED)
    assert f"/mounts/6/options/2: cannot map the ids of mount source /proc/sys: {INVALID}" == runtime.create_fails()


def test_a_filesystem_of_the_container_that_has_no_mappings(runtime: Runtime, bundle: Bundle) -> None:
    """The same for one that is made in the container."""
    bundle.mount("/proc2", "proc")
    bundle.config["mounts"][-1] |= SHIFTED
    assert f"/mounts/6/uidMappings: cannot mount proc on /proc2: mount_setattr: {INVALID}" == runtime.create_fails()


def test_a_tree_with_one_that_has_no_mappings(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """ridmap is for all of a tree or for none of it."""
    (data / "below").mkdir()
    subprocess.run(["mount", "-t", "proc", "below", data / "below"], check=True)
    try:
        add(bundle, "/m", data, "rbind", "ridmap", **SHIFTED)
        assert f"/mounts/6/options/1: cannot map the ids of mount source {data}: {INVALID}" == runtime.create_fails()
    finally:
        subprocess.run(["umount", data / "below"], check=True)


def test_a_mount_that_is_mapped_already(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """The kernel gives a mount one mapping."""
    tree = _native.clone_host_tree(str(data), 0, 0, 0, 0, 0, -1)
    process = subprocess.Popen(["unshare", "--map-root-user", "--user", "cat"], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "cat\n")
        users = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY)
    finally:
        process.communicate()
    _native.idmap(tree, False, users)
    place = os.open(data, os.O_PATH)
    assert 0 == ctypes.CDLL(None).syscall(MOVE_MOUNT, tree, b"", place, b"", EMPTY_PATHS)
    for fd in (tree, users, place):
        os.close(fd)
    try:
        add(bundle, "/m", data, "bind", "idmap", **SHIFTED)
        message = runtime.create_fails()
    finally:
        subprocess.run(["umount", data], check=True)
    assert (
        f"/mounts/6/options/1: cannot map the ids of mount source {data}: operation not permitted {SECOND}" == message
    )


def test_no_mapping_to_take(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """`idmap` without mappings and without a user namespace is an error (MNT-10)."""
    add(bundle, "/m", data, "bind", "idmap")
    assert '/mounts/6/options/1: an idmapped mount needs "uidMappings" and "gidMappings"' in runtime.create_fails()


def test_half_a_mapping(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """They come as a pair (MNT-09)."""
    add(bundle, "/m", data, "bind", "idmap", uidMappings=[mapping(0, 1)])
    assert "come as a pair" in runtime.create_fails()


def test_no_more_user_namespaces(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """What the mapping needs can't be made: one line, and nothing is left. In a user namespace with a limit of
    its own.
    """
    add(bundle, "/m", data, "bind", "idmap", **SHIFTED)
    bundle.write()
    options = ("--cgroup-manager", "disabled", "create", "--bundle", bundle.folder, runtime.id)
    script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "-", *runtime.command(*options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 0 != done.returncode
    assert done.stderr.startswith("/mounts/6/options/1: cannot make a user namespace for the id mappings of a mount: ")
    assert "max_user_namespaces is reached" in done.stderr
    runtime.assert_gone()
