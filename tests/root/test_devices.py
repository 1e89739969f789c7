"""Devices in a user namespace, where the container can make none: the runtime does, on a filesystem of the
container's.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import Bundle, Runtime, wait_for

pytestmark = pytest.mark.root

ZERO = {"type": "c", "major": 1, "minor": 5}


@pytest.fixture
def joined(bundle: Bundle) -> Iterator[Path]:
    """The container joins a user namespace whose mappings are 0 → 200000 and, for nine more, 1 → 300000."""
    holder = subprocess.Popen(["unshare", "--user", "sleep", "100"])
    try:
        own, its = Path("/proc/self/ns/user"), Path(f"/proc/{holder.pid}/ns/user")
        wait_for(lambda: own.readlink() != its.readlink())
        for kind in ("uid", "gid"):
            Path(f"/proc/{holder.pid}/{kind}_map").write_text("0 200000 1\n1 300000 9\n")
        bundle.in_user_namespace(200000)
        bundle.namespace("user", its)
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
        yield its
    finally:
        holder.kill()
        holder.wait()


def test_a_masked_device_stays_masked(runtime: Runtime, bundle: Bundle) -> None:
    """Nothing that is mounted on the node goes with what the runtime cleans up (SEC-21)."""
    bundle.in_user_namespace()
    bundle.linux |= {"devices": [{"path": "/dev/masked", **ZERO}], "maskedPaths": ["/dev/masked"]}
    assert ["1:3", "0"] == runtime.shell("stat -c %t:%T /dev/masked; head -c 3 /dev/masked | wc -c").splitlines()


def test_the_container_gets_nothing_but_the_nodes(runtime: Runtime, bundle: Bundle) -> None:
    """Each one is a mount of a file; the filesystem that they are on is mounted nowhere, and no path of the host
    shows.
    """
    bundle.in_user_namespace()
    bundle.linux["devices"] = [{"path": "/dev/one", **ZERO}]
    table = [line.split() for line in runtime.shell("cat /proc/self/mountinfo").splitlines()]
    found = {fields[4]: fields[3] for fields in table if "devices" in fields}
    assert {"/dev/one": "/0", "/dev/null": "/1", "/dev/zero": "/2", "/dev/full": "/3"}.items() <= found.items()
    assert "/" not in found.values()
    assert [] == [fields for fields in table if "deleted" in fields[3] or str(runtime.root) in fields[3]]


def test_default_devices_are_container_roots(runtime: Runtime, bundle: Bundle) -> None:
    """Their mode is what it should be, whatever the host's nodes are."""
    bundle.in_user_namespace()
    out = runtime.shell("cd /dev; stat -c '%u:%g %a %h' null zero full random urandom tty", umask=0o77)
    assert ["0:0 666 1"] * 6 == out.splitlines()


def test_owners_are_ids_of_a_joined_user_namespace(joined: Path, runtime: Runtime, bundle: Bundle) -> None:
    """Its mappings count, which no config tells (DEV-07)."""
    bundle.linux["devices"] = [{"path": "/dev/own", "uid": 5, "gid": 9, "fileMode": 0o604, **ZERO}]
    bundle.shell(
        "stat -c '%u:%g %a' /dev/own /dev/null; head -c 3 /dev/own | wc -c; mknod /dev/made c 1 5 || echo no; sleep 100"
    )
    runtime.create()
    node = os.stat(f"/proc/{runtime.pid()}/root/dev/own")
    assert (300004, 300008) == (node.st_uid, node.st_gid)
    runtime.start()
    wait_for(lambda: runtime.output().endswith("no\n"))
    assert ["5:9 604", "0:0 666", "3"] == runtime.output().splitlines()[:3]


@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_an_owner_that_a_joined_user_namespace_lacks(joined: Path, runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """It is known when the container is half made; nothing is left of it."""
    bundle.linux["devices"] = [{"path": "/dev/zero", **ZERO}, {"path": "/dev/own", kind: 10, **ZERO}]
    message = runtime.create_fails()
    expected = f"cannot set the owner of the device: {kind} 10 is not mapped in the user namespace that is joined"
    assert f"/linux/devices/1: {expected}" in message


def test_many_devices(runtime: Runtime, bundle: Bundle) -> None:
    """Each one is itself."""
    bundle.in_user_namespace()
    bundle.linux["devices"] = [
        {"path": f"/dev/many/{n}", "type": "b", "major": 7, "minor": n, "uid": n} for n in range(300)
    ]
    out = runtime.shell("cd /dev/many; stat -c '%n %T %u' $(seq 0 299)")
    assert [f"{n} {n:x} {n}" for n in range(300)] == out.splitlines()


def test_no_pivot(runtime: Runtime, bundle: Bundle) -> None:
    """They are there without pivot_root, too."""
    bundle.in_user_namespace()
    bundle.linux["devices"] = [{"path": "/dev/own", "uid": 5, **ZERO}]
    assert "5 3\n" == runtime.shell("echo $(stat -c %u /dev/own) $(head -c 3 /dev/own | wc -c)", "--no-pivot")


URANDOM = os.makedev(1, 9)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("userns", [False, True])
def test_a_mount_takes_the_place_of_a_default_device(
    runtime: Runtime, bundle: Bundle, userns: bool, named: bool
) -> None:
    """As in `docker run --volume /dev/urandom:/dev/random`, with --privileged, too, which names all devices of the
    host;
    the others are made as ever."""
    if userns:
        bundle.in_user_namespace()
    if named:
        bundle.linux["devices"] = [
            {"path": f"/dev/{name}", "type": "c", "major": 1, "minor": minor}
            for name, minor in (("random", 8), ("zero", 5), ("full", 7))
        ]
    bundle.mount("/dev/random", "bind", "rbind", "ro", source="/dev/urandom")
    bundle.mount("/dev/full", "bind", "bind", source=bundle.folder / "config.json")
    assert "1:9 1:5 0:0\n" == runtime.shell("cd /dev; echo $(stat -c %t:%T random zero full)")


def test_a_mount_that_another_covers_takes_no_place(runtime: Runtime, bundle: Bundle) -> None:
    """Here /dev is mounted after it."""
    bundle.mount("/dev/random", "bind", "bind", source="/dev/urandom")
    bundle.config["mounts"].insert(0, bundle.config["mounts"].pop())
    assert "1:8\n" == runtime.shell("stat -c %t:%T /dev/random")


@pytest.mark.parametrize("options", [[], ["ro"]], ids=str)
@pytest.mark.parametrize("folder", [False, True])
def test_a_bound_node_keeps_the_host_mode_and_owner(
    runtime: Runtime, bundle: Bundle, folder: bool, options: list[str]
) -> None:
    """The config's mode and owner of a device don't change the host's node that is bound there."""
    host = runtime.folder / "host"
    host.mkdir()
    os.mknod(host / "node", 0o020640, URANDOM)
    os.chown(host / "node", 7, 8)
    bundle.mount(
        "/dev/host" if folder else "/dev/host/node", "bind", "bind", *options, source=host / ("" if folder else "node")
    )
    bundle.linux["devices"] = [
        {"path": "/dev/host/node", "type": "c", "major": 1, "minor": 9, "fileMode": 0o666, "uid": 0, "gid": 0}
    ]
    assert "1:9 640 7 8\n" == runtime.shell("stat -c '%t:%T %a %u %g' /dev/host/node")
    status = (host / "node").stat()
    assert (0o020640, 7, 8) == (status.st_mode, status.st_uid, status.st_gid)


def test_another_node_that_is_bound_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    """A device of the config has to be the one that it says (DEV-04)."""
    bundle.mount("/dev/some", "bind", "bind", source="/dev/zero")
    bundle.linux["devices"] = [{"path": "/dev/some", "type": "c", "major": 1, "minor": 9}]
    expected = "/linux/devices/0: cannot make device /dev/some: something else exists at this path"
    assert expected == runtime.create_fails()
