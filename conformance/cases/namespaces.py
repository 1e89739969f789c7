"""Namespaces: new, joined, inherited; id mappings; offsets of clocks."""

import os
import time

from conformance import host
from conformance.bundle import Bundle
from conformance.runtime import Container
from conformance.trial import Failure, Trial, should

PLAIN = ("pid", "network", "mount", "ipc", "uts")
JOINABLE = ("network", "ipc", "uts", "cgroup", "pid")


def own(kind: str) -> str:
    """The namespace that the runtime is called in."""
    return os.readlink(f"/proc/self/ns/{host.NAMESPACES[kind][0]}")


def found(report: "dict", kind: str) -> str:
    """The namespace that the program is in."""
    return report["namespaces"][host.NAMESPACES[kind][0]]


def has_a_new(t: Trial, kind: str) -> None:
    """A container with one more namespace, of this type, is in one that no other process is in."""
    host.require_namespace(host.NAMESPACES[kind][0])
    if kind == "user":
        t.bundle.user_namespace()
    else:
        t.bundle.namespace(kind)
    first, second = found(t.report(), kind), found(t.report(), kind)
    t.true(first != own(kind), f"the {kind} namespace is the runtime's")
    t.true(first != second or kind in ("user", "cgroup", "time"), "two containers have the same")


@should
def NS_01(t: Trial) -> None:
    """The types pid, network, mount, ipc and uts are supported."""
    report = t.report()
    for kind in PLAIN:
        t.true(found(report, kind) != own(kind), f"the {kind} namespace is the runtime's")


@should
def NS_01_user(t: Trial) -> None:
    """The type user is supported."""
    has_a_new(t, "user")


@should
def NS_01_cgroup(t: Trial) -> None:
    """The type cgroup is supported: its root is the container's cgroup."""
    has_a_new(t, "cgroup")
    t.true("0::/\n" in t.report()["cgroup"], "the root of the cgroup namespace is not the container's cgroup")


@should
def NS_01_time(t: Trial) -> None:
    """The type time is supported."""
    has_a_new(t, "time")


def NS_01_unknown(t: Trial) -> None:
    """A type that does not exist, or none, is an error."""
    for entry in ({"type": "conformance"}, {"type": "net"}, {"type": ""}, {}):
        t.bundle.linux["namespaces"].append(entry)
        t.refused(why=f"with the namespace {entry}")
        t.bundle.linux["namespaces"].pop()


def NS_02(t: Trial) -> None:
    """A namespace without a path is new, and as empty as it should be."""
    container = t.running("report", "list", "/sys/class/net", "list", "/proc")
    report, net, proc = container.lines[:3]
    t.equal(1, report["pid"], "pid of the program")
    t.equal(host.new_network(), set(net["names"]), "network devices")
    t.equal(["1"], [name for name in proc["names"] if name.isdigit()], "processes in /proc")
    bundle = t.another_bundle()
    bundle.program("report")
    (other,) = t.run(bundle=bundle)
    for kind in PLAIN:
        t.true(found(report, kind) != found(other, kind), f"two containers have the same {kind} namespace")


def NS_03(t: Trial) -> None:
    """With a path the program is in the namespace that it names."""
    paths = t.holder(*JOINABLE)
    for kind, path in paths.items():
        t.bundle.namespace(kind, path)
    report = t.report()
    for kind, path in paths.items():
        t.equal(os.readlink(path), found(report, kind), f"{kind} namespace")


def NS_03_file(t: Trial) -> None:
    """The path may be that of a file that a namespace is bound to."""
    path = t.folder / "netns"
    path.touch()
    host.mount(t.holder("network")["network"], path, "", host.MS_BIND)
    t.bundle.namespace("network", path)
    t.equal(f"net:[{path.stat().st_ino}]", found(t.report(), "network"), "network namespace")


def NS_03_user(t: Trial) -> None:
    """A user namespace can be joined, with others that it owns."""
    t.require_type("user")
    paths = t.holder("user", "network", "ipc", "uts")
    t.bundle.user_namespace()
    del t.bundle.linux["uidMappings"], t.bundle.linux["gidMappings"]
    for kind, path in paths.items():
        t.bundle.namespace(kind, path)
    report = t.report()
    for kind, path in paths.items():
        t.equal(os.readlink(path), found(report, kind), f"{kind} namespace")
    t.equal([0, 0, 0], report["uid"], "uid")


def NS_03_time(t: Trial) -> None:
    """A time namespace can be joined."""
    t.require_type("time")
    path = t.holder("time")["time"]
    t.bundle.namespace("time", path)
    t.equal(os.readlink(path), found(t.report(), "time"), "time namespace")


def NS_03_mount(t: Trial) -> None:
    """A mount namespace can be joined."""
    path = t.holder("mount")["mount"]
    t.bundle.namespace("mount", path)
    t.equal(os.readlink(path), found(t.report(), "mount"), "mount namespace")


def NS_03_relative(t: Trial) -> None:
    """The path has to be absolute."""
    path = t.holder("network")["network"]
    t.bundle.namespace("network", os.path.relpath(path, t.folder))
    t.refused(why="with a relative path", cwd=t.folder)


def NS_04(t: Trial) -> None:
    """A path to a namespace of another type, to no namespace, or to nothing is an error."""
    (t.folder / "file").touch()
    for path in ("/proc/self/ns/net", t.folder / "file", t.folder, t.folder / "missing", "/dev/null"):
        t.bundle.namespace("uts", path)
        t.refused(why=f"with {path} for the uts namespace")
    t.bundle.namespace("uts")
    for kind in ("pid", "network", "ipc", "mount", "user"):
        t.bundle.namespace(kind, "/proc/self/ns/uts")
        t.refused(why=f"with /proc/self/ns/uts for the {kind} namespace")
        t.bundle.namespace(kind)


def NS_05(t: Trial) -> None:
    """A type that is not listed is inherited: the namespace is the runtime's."""
    t.bundle.linux["namespaces"] = [{"type": "mount"}]
    report = t.report()
    for kind, (name, _) in host.NAMESPACES.items():
        if kind != "mount" and os.path.exists(f"/proc/self/ns/{name}"):
            t.equal(own(kind), found(report, kind), f"{kind} namespace")


def NS_05_mount(t: Trial) -> None:
    """The mount namespace too is the runtime's if it is not listed."""
    t.bundle.drop_namespace("mount")
    t.bundle.program("list", "/", "pause")
    mounts, t.bundle.config["mounts"] = t.bundle.config["mounts"], []
    container = t.create(ok=False)
    if container.created.status:  # a runtime may need a procfs, or refuse to mount anything where others would see it
        t.bundle.config["mounts"] = mounts
        container = t.create()
    container.start()
    t.equal(own("mount"), container.namespace("mnt"), "mount namespace")
    t.true("probe" in container.tells("list")["names"], "the container's / is not its root filesystem")


def NS_06(t: Trial) -> None:
    """A type that is listed twice is an error."""
    for kind in PLAIN:
        t.bundle.linux["namespaces"].append({"type": kind})
        t.refused(why=f"with {kind} twice")
        t.bundle.linux["namespaces"].pop()


def joined_in_any_order(t: Trial, first: Container, kinds: "tuple[str, ...]", bundle: Bundle) -> None:
    """Namespaces of another container are joined, or else they are refused, in whatever order they are listed."""
    refused = {}
    for order in (kinds, kinds[::-1]):
        bundle.linux["namespaces"] = [
            {"type": kind, "path": f"/proc/{first.pid}/ns/{host.NAMESPACES[kind][0]}"} for kind in order
        ]
        bundle.namespace("mount")
        bundle.program("report")
        container = t.create(bundle=bundle, ok=False)
        if container.created.status:
            refused[", ".join(order)] = str(container.created)
            continue
        container.start()
        container.wait()  # a process in the pid namespace of another container must be gone before that container
        (report,) = container.lines
        container.delete()
        for kind in kinds:
            expected = first.namespace(host.NAMESPACES[kind][0])
            t.equal(expected, found(report, kind), f"{kind} namespace with the order {', '.join(order)}")
    if len(refused) == 1:
        ((order, told),) = refused.items()
        raise Failure(f"with the order {order}, and not with the reverse, {told}")
    if refused:  # whatever the reason is, it is not the order
        raise host.Missing("the runtime does not join these namespaces at all, which NS-03 is about")


def NS_07(t: Trial) -> None:
    """Another container's namespaces can be joined in whatever order they are listed."""
    joined_in_any_order(t, t.running(), ("pid", "network", "ipc", "uts"), t.another_bundle())


def NS_07_user(t: Trial) -> None:
    """So they can with the user namespace that they belong to."""
    t.require_type("user")
    t.bundle.user_namespace()
    bundle = t.another_bundle()
    bundle.user_namespace()
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    joined_in_any_order(t, t.running(), ("pid", "user", "network", "ipc", "uts"), bundle)


# --- id mappings


def UM_01(t: Trial) -> None:
    """The mappings are those of the container's user namespace, line by line."""
    t.require_type("user")
    t.bundle.user_namespace(base=100000)
    t.bundle.linux["uidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 1000},
        {"containerID": 1000, "hostID": 0, "size": 1},
        {"containerID": 1001, "hostID": 201001, "size": 64535},
    ]
    t.bundle.linux["gidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 10},
        {"containerID": 4294967294, "hostID": 300000, "size": 1},
    ]
    report = t.report()
    t.equal([[0, 100000, 1000], [1000, 0, 1], [1001, 201001, 64535]], lines(report["uid_map"]), "uid_map")
    t.equal([[0, 100000, 10], [4294967294, 300000, 1]], lines(report["gid_map"]), "gid_map")


def lines(text: str) -> "list[list[int]]":
    return [[int(word) for word in line.split()] for line in text.splitlines()]


def UM_01_incomplete(t: Trial) -> None:
    """All three numbers of a mapping are required."""
    t.require_type("user")
    t.bundle.user_namespace()
    for name in ("uidMappings", "gidMappings"):
        whole = t.bundle.linux[name]
        for key in whole[0]:
            t.bundle.linux[name] = [{other: value for other, value in whole[0].items() if other != key}]
            t.refused(why=f"with {name} without {key}")
        t.bundle.linux[name] = whole


def UM_01_impossible(t: Trial) -> None:
    """Mappings that overlap are an error."""
    t.require_type("user")
    t.bundle.user_namespace()
    entry = {"containerID": 0, "hostID": 100000, "size": 1000}
    t.bundle.linux["uidMappings"] = [entry, {"containerID": 999, "hostID": 200000, "size": 10}]
    t.refused(why="with mappings that overlap")


def UM_02(t: Trial) -> None:
    """Files keep their owners on the host when ids are mapped."""
    t.require_type("user")
    t.bundle.namespace("user")
    for name in ("uidMappings", "gidMappings"):
        t.bundle.linux[name] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    data = t.folder / "data"
    data.mkdir()
    (data / "file").touch()
    t.bundle.bind(data, "/tmp")
    files = [t.bundle.rootfs, *t.bundle.rootfs.rglob("*"), data, data / "file"]
    container = t.running()
    changed = [str(path) for path in files if (path.lstat().st_uid, path.lstat().st_gid) != (0, 0)]
    t.equal([], changed, "list of files with another owner")
    t.equal("         0     100000      65536\n", container.file("uid_map"), "uid_map")


# --- clocks


def TIME_01(t: Trial) -> None:
    """The clocks of a new time namespace have these offsets."""
    t.require_type("time")
    t.bundle.namespace("time")
    t.bundle.linux["timeOffsets"] = {
        "monotonic": {"secs": 86400, "nanosecs": 500},
        "boottime": {"secs": -1, "nanosecs": 999999999},
    }
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    report, clocks = t.run("report", "clocks")
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    offsets = {line.split()[0]: line.split()[1:] for line in report["timens_offsets"].splitlines()}
    t.equal({"monotonic": ["86400", "500"], "boottime": ["-1", "999999999"]}, offsets, "timens_offsets")
    now = clocks["monotonic"]  # in whole seconds
    t.true(before + 86399 <= now <= after + 86401, f"the monotonic clock is {now - after:.0f} s ahead, not 86400")


def TIME_01_partial(t: Trial) -> None:
    """Both numbers of an offset are optional, and so is each clock."""
    t.require_type("time")
    t.bundle.namespace("time")
    for offset, expected in (({"secs": 7}, ["7", "0"]), ({"nanosecs": 7}, ["0", "7"]), ({}, ["0", "0"])):
        t.bundle.linux["timeOffsets"] = {"boottime": offset}
        text = t.report()["timens_offsets"]
        t.equal(
            [["monotonic", "0", "0"], ["boottime", *expected]], [line.split() for line in text.splitlines()], "offsets"
        )


def TIME_01_impossible(t: Trial) -> None:
    """An offset that the kernel does not take is an error."""
    t.require_type("time")
    t.bundle.namespace("time")
    for offset in ({"nanosecs": 10**9}, {"secs": -(10**9)}, {"secs": 2**62}):
        t.bundle.linux["timeOffsets"] = {"monotonic": offset}
        t.refused(why=f"with the offset {offset}")
