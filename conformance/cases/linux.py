"""Memory policy, sysctl, propagation, masked and read-only paths, mount label, personality."""

import os
from pathlib import Path

from conformance.runtime import Container
from conformance.trial import Trial, change, host, mounts

MODES = {  # their numbers, and nodes that go with them
    "MPOL_DEFAULT": (0, None),
    "MPOL_PREFERRED": (1, "0"),
    "MPOL_BIND": (2, "0"),
    "MPOL_INTERLEAVE": (3, "0"),
    "MPOL_LOCAL": (4, None),
    "MPOL_PREFERRED_MANY": (5, "0"),
    "MPOL_WEIGHTED_INTERLEAVE": (6, "0"),
}
SINCE = {"MPOL_PREFERRED_MANY": (5, 15), "MPOL_WEIGHTED_INTERLEAVE": (6, 9)}
NUMA_BALANCING, RELATIVE_NODES, STATIC_NODES = 1 << 13, 1 << 14, 1 << 15


def policy(mode: str, nodes: "str | None" = None, *flags: str) -> "dict[str, object]":
    """`linux.memoryPolicy`."""
    entry: dict[str, object] = {"mode": mode}
    if nodes is not None:
        entry["nodes"] = nodes
    if flags:
        entry["flags"] = list(flags)
    return entry


def MPOL_01(t: Trial) -> None:
    """The process runs under the memory policy whose mode is given, whatever the caller's is."""
    host.get_mempolicy()
    for mode, (number, nodes) in MODES.items():
        if host.kernel() < SINCE.get(mode, (0, 0)):
            continue
        host.set_mempolicy(*((1, 1) if mode != "MPOL_PREFERRED" else (2, 1)))
        t.bundle.linux["memoryPolicy"] = policy(mode, nodes)
        found = t.report()
        t.equal((number, int(nodes is not None)), (found["mempolicy"], found["memnodes"]), f"with {mode}, the policy")


def MPOL_01_wrong(t: Trial) -> None:
    """A mode that is missing or unknown is an error."""
    host.get_mempolicy()
    wrong = ({}, {"nodes": "0"}, policy("MPOL_MOST", "0"), policy("BIND", "0"), policy("mpol_bind", "0"), policy(""))
    t.each_refused(dict(change("/linux/memoryPolicy", value) for value in wrong))


def MPOL_02(t: Trial) -> None:
    """Nodes are a list of numbers and ranges, and may be empty where the mode needs none."""
    host.get_mempolicy()
    for mode, nodes, number, mask in (
        ("MPOL_BIND", "0-0", 2, 1),
        ("MPOL_INTERLEAVE", "0,0", 3, 1),
        ("MPOL_DEFAULT", "", 0, 0),
        ("MPOL_LOCAL", "", 4, 0),
    ):
        t.bundle.linux["memoryPolicy"] = policy(mode, nodes)
        found = t.report()
        t.equal((number, mask), (found["mempolicy"], found["memnodes"]), f"with {mode} of nodes {nodes!r}, the policy")


def MPOL_02_wrong(t: Trial) -> None:
    """Nodes that the mode does not allow, that it needs and that are missing, or that are not a list, are an error."""
    host.get_mempolicy()
    needy = [policy(mode, nodes) for mode in ("MPOL_BIND", "MPOL_INTERLEAVE") for nodes in (None, "")]
    idle = [policy(mode, "0") for mode in ("MPOL_DEFAULT", "MPOL_LOCAL")]
    bad = [policy("MPOL_BIND", nodes) for nodes in ("a", "0-", "-0", "1-0", "0;0", "0x0", "1023")]
    t.each_refused(dict(change("/linux/memoryPolicy", value) for value in [*needy, *idle, *bad]))


def MPOL_03(t: Trial) -> None:
    """The flags of a memory policy are set."""
    host.get_mempolicy()
    for flags, bits in (
        (["MPOL_F_STATIC_NODES"], STATIC_NODES),
        (["MPOL_F_RELATIVE_NODES"], RELATIVE_NODES),
        (["MPOL_F_NUMA_BALANCING", "MPOL_F_STATIC_NODES"], NUMA_BALANCING | STATIC_NODES),
    ):
        t.bundle.linux["memoryPolicy"] = policy("MPOL_BIND", "0", *flags)
        t.equal(2 | bits, t.report()["mempolicy"], f"with {', '.join(flags)}, the policy")


def MPOL_03_wrong(t: Trial) -> None:
    """Flags that are unknown, exclude each other, or do not go with the mode, are an error."""
    host.get_mempolicy()
    wrong = (
        policy("MPOL_BIND", "0", "MPOL_F_NO_SUCH"),
        policy("MPOL_BIND", "0", "STATIC_NODES"),
        policy("MPOL_BIND", "0", "MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"),
        policy("MPOL_INTERLEAVE", "0", "MPOL_F_NUMA_BALANCING"),
    )
    t.each_refused(dict(change("/linux/memoryPolicy", value) for value in wrong))


# --- sysctl


def SYS_01(t: Trial) -> None:
    """Kernel parameters are written in the container's namespaces, and the host's stay as they are."""
    wanted = {
        "net.ipv4.ip_forward": "1",
        "net.ipv4.ping_group_range": "7 70",
        "net.ipv4.conf.lo.arp_ignore": "3",
        "kernel.shm_rmid_forced": "1",
        "kernel.msgmax": "4096",
    }
    files = {name: f"/proc/sys/{name.replace('.', '/')}" for name in wanted}
    before = {name: Path(path).read_text() for name, path in files.items()}
    t.bundle.linux["sysctl"] = wanted
    lines = t.run(*(word for path in files.values() for word in ("read", path)))
    for (name, value), line in zip(wanted.items(), lines, strict=True):
        t.equal(value, " ".join(line.get("content", line.get("error")).split()), f"{name} in the container")
    t.equal(before, {name: Path(path).read_text() for name, path in files.items()}, "what the host has")


def SYS_01_wrong(t: Trial) -> None:
    """A parameter that does not exist, or does not take the value, is an error."""
    wrong = (
        {"net.ipv4.no_such_thing": "1"},
        {"net.ipv4.ip_forward": "x"},
        {"kernel.msgmax": "-9"},
        {"net.ipv4.ip_forward": 1},
    )
    t.each_refused(dict(change("/linux/sysctl", value) for value in wrong))


# --- propagation


def with_propagation(t: Trial, kind: str) -> "tuple[Container, set[str]]":
    """A running container with this rootfsPropagation, on a root filesystem that the host shares; fields of its
    root.
    """
    for name in ("from-host", "from-container", "nested"):
        (t.bundle.rootfs / name).mkdir()
    host.mount("none", t.folder, "", host.MS_SHARED)
    t.bundle.linux["rootfsPropagation"] = kind
    container = t.running()
    fields = {field.partition(":")[0] for field in mounts(container.file("mountinfo"))["/"]["fields"]}
    return container, fields


def mount_on_host(t: Trial, container: Container) -> bool:
    """Whether a mount of the host, in the container's root filesystem, comes to be in the container."""
    host.mount("conformance", t.bundle.rootfs / "from-host", "tmpfs")
    came = "/from-host" in mounts(container.file("mountinfo"))
    host.umount(t.bundle.rootfs / "from-host")
    return came


def mount_in_container(t: Trial, container: Container) -> bool:
    """Whether a mount of the container comes to be on the host."""
    host.elsewhere(container.pid, ("mnt",), lambda: host.mount("conformance", "/from-container", "tmpfs"))
    t.true("/from-container" in mounts(container.file("mountinfo")), "the container can't mount anything")
    return str(t.bundle.rootfs / "from-container") in mounts(Path("/proc/self/mountinfo").read_text())


def mount_in_nested(container: Container) -> bool:
    """Whether a mount in a namespace that is made of the container's comes to be in the container."""

    def act() -> None:
        host.unshare(host.CLONE_NEWNS)
        host.mount("conformance", "/nested", "tmpfs")

    host.elsewhere(container.pid, ("mnt",), act)
    return "/nested" in mounts(container.file("mountinfo"))


def PROP_01(t: Trial) -> None:
    """A rootfsPropagation that the specification does not know is an error."""
    t.each_refused(
        dict(change("/linux/rootfsPropagation", value) for value in ("bogus", "", "SHARED", "private,slave"))
    )


def PROP_01_values(t: Trial) -> None:
    """Each of shared, slave, private and unbindable gives the root another propagation."""
    host.mount("none", t.folder, "", host.MS_SHARED)
    found = {}
    for kind in ("shared", "slave", "private", "unbindable"):
        t.bundle.linux["rootfsPropagation"] = kind
        root = mounts(t.report()["mountinfo"])["/"]
        found[kind] = {field.partition(":")[0] for field in root["fields"]}
    t.true("shared" in found["shared"], f"shared: the propagation of / is {found['shared'] or 'private'}")
    t.equal({"master"}, found["slave"], "slave: the propagation of /")
    t.equal(set(), found["private"], "private: the propagation of /")
    t.equal({"unbindable"}, found["unbindable"], "unbindable: the propagation of /")


def PROP_02(t: Trial) -> None:
    """shared: the root is in a peer group that is not the host's, and mounts of nested namespaces come to it."""
    container, fields = with_propagation(t, "shared")
    t.true("shared" in fields, f"the propagation of / is {fields or 'private'}")
    groups = mounts(container.file("mountinfo"))["/"]["fields"]
    own = {field for mount in mounts(Path("/proc/self/mountinfo").read_text()).values() for field in mount["fields"]}
    t.true(not own & {field for field in groups if field.startswith("shared:")}, "the peer group of / is the host's")
    t.true(mount_in_nested(container), "a mount in a nested namespace did not come to the container")
    t.true(not mount_in_container(t, container), "a mount of the container came to the host")


def PROP_03(t: Trial) -> None:
    """slave: mounts of the host below the root filesystem come to the container, and none goes to the host."""
    container, fields = with_propagation(t, "slave")
    t.true("shared" not in fields, f"the propagation of / is {fields}")
    t.true(mount_on_host(t, container), "a mount of the host did not come to the container")
    t.true(not mount_in_container(t, container), "a mount of the container came to the host")


def PROP_04(t: Trial) -> None:
    """private: mounts go neither from the host to the container nor back, nor between it and nested namespaces."""
    container, fields = with_propagation(t, "private")
    t.equal(set(), fields, "the propagation of /")
    t.true(not mount_on_host(t, container), "a mount of the host came to the container")
    t.true(not mount_in_container(t, container), "a mount of the container came to the host")
    t.true(not mount_in_nested(container), "a mount in a nested namespace came to the container")


def PROP_05(t: Trial) -> None:
    """unbindable: private, and the root can't be bound anywhere; its submounts can."""
    host.require_capability("SYS_ADMIN")
    (t.bundle.rootfs / "copy").mkdir()
    t.bundle.linux["rootfsPropagation"] = "unbindable"
    root, submount = t.run(
        "mount", "/", "/copy", "none", host.MS_BIND, "mount", "/dev/shm", "/copy", "none", host.MS_BIND
    )
    t.equal("EINVAL", root.get("error"), "the error of a bind of /")
    t.equal(None, submount.get("error"), "the error of a bind of /dev/shm")


def PROP_05_private(t: Trial) -> None:
    """With private the root can be bound: unbindable is more than that."""
    host.require_capability("SYS_ADMIN")
    (t.bundle.rootfs / "copy").mkdir()
    t.bundle.linux["rootfsPropagation"] = "private"
    t.equal(None, t.ask("mount", "/", "/copy", "none", host.MS_BIND).get("error"), "the error of a bind of /")


# --- paths


def with_files(t: Trial) -> None:
    """/secret/file and /plain/file, on the root filesystem and, at /more, on a mount."""
    outside = t.folder / "outside"
    for place in (t.bundle.rootfs, outside):
        for name in ("secret", "plain"):
            (place / name).mkdir(parents=True)
            (place / name / "file").write_text(f"{name} words")
            (place / name / "file").chmod(0o666)
    t.bundle.bind(outside, "/more")


def MASK_01(t: Trial) -> None:
    """What maskedPaths names has no content inside, file or directory, on the root or on a mount; the rest is as
    it was.
    """
    with_files(t)
    t.bundle.linux["maskedPaths"] = ["/secret", "/plain/file", "/more/secret/file", "/proc/version", "/missing"]
    t.bundle.program(
        *(
            "list",
            "/secret",
            "read",
            "/secret/file",
            "read",
            "/plain/file",
            "read",
            "/more/secret/file",
            "read",
            "/proc/version",
        ),
        *("read", "/more/plain/file", "read", "/proc/uptime"),
    )
    folder, gone, *masked, plain, uptime = t.run()
    t.true(not folder.get("names"), f"/secret holds {folder.get('names')}")
    t.true("error" in gone, "/secret/file can be read")
    for line in masked:
        t.true(not line.get("content"), f"{line['path']} can be read: {line.get('content')!r}")
    t.equal("plain words", plain.get("content"), "/more/plain/file")
    t.true(uptime.get("content"), "/proc/uptime is masked too")


def MASK_01_kept(t: Trial) -> None:
    """Masking changes nothing on the host, and the process can't write through it."""
    with_files(t)
    t.bundle.linux["maskedPaths"] = ["/secret", "/more/secret/file"]
    t.run("create", "/secret/new", "spoilt", "write", "/more/secret/file", "spoilt")
    t.equal(["file"], os.listdir(t.bundle.rootfs / "secret"), "the directory on the host")
    t.equal("secret words", (t.folder / "outside/secret/file").read_text(), "the file on the host")


def MASK_01_relative(t: Trial) -> None:
    """A masked path that is not absolute is an error."""
    with_files(t)
    t.each_refused(dict(change("/linux/maskedPaths", [value]) for value in ("secret", "./secret", "../secret", "")))


def MASK_02(t: Trial) -> None:
    """What readonlyPaths names can be read and not written, with what is below it; the rest can be written."""
    with_files(t)
    t.bundle.linux["readonlyPaths"] = ["/secret", "/plain/file", "/more/secret", "/proc/sys", "/missing"]
    read, *lines, other, more = t.run(
        *("read", "/secret/file"),
        *(
            "write",
            "/secret/file",
            "x",
            "create",
            "/secret/new",
            "x",
            "write",
            "/plain/file",
            "x",
            "mkdir",
            "/more/secret/new",
        ),
        *("write", "/proc/sys/kernel/msgmax", "4096"),
        *("create", "/plain/new", "x", "write", "/more/plain/file", "x"),
    )
    t.equal("secret words", read.get("content"), "/secret/file")
    for line in lines:
        t.equal("EROFS", line.get("error"), f"the error of `{line['op']} {line['path']}`")
    for line in (other, more):
        t.equal(None, line.get("error"), f"the error of `{line['op']} {line['path']}`")


def MASK_02_host(t: Trial) -> None:
    """A read-only path is so for the container only."""
    with_files(t)
    t.bundle.linux["readonlyPaths"] = ["/secret", "/more/secret"]
    t.running()
    (t.bundle.rootfs / "secret/new").write_text("x")
    (t.folder / "outside/secret/new").write_text("x")


def MASK_02_relative(t: Trial) -> None:
    """A read-only path that is not absolute is an error."""
    with_files(t)
    t.each_refused(dict(change("/linux/readonlyPaths", [value]) for value in ("secret", "./secret", "../secret", "")))


# --- label


def LBL_01(t: Trial) -> None:
    """The container's mounts have the SELinux context of mountLabel."""
    if not host.is_lsm("selinux"):
        raise host.Missing("SELinux is not active")
    label = some_label()
    host.require_selinux(label)
    t.bundle.linux["mountLabel"] = label
    t.bundle.mount("/tmp", "tmpfs", "tmpfs")
    for line in t.run("label", "/dev/shm", "label", "/tmp"):
        t.equal(label, line.get("label", line.get("error", "")).rstrip("\0"), f"the label of {line['path']}")


def some_label() -> str:
    """An SELinux context for files that the policy of this host knows, and that new tmpfs mounts do not have anyway."""
    for label in (
        "system_u:object_r:container_file_t:s0:c17,c170",
        "system_u:object_r:container_file_t:s0",
        "system_u:object_r:svirt_sandbox_file_t:s0",
        "system_u:object_r:var_t:s0",
        "system_u:object_r:unlabeled_t:s0",
    ):
        try:
            Path("/sys/fs/selinux/context").write_text(label)
        except OSError:
            continue
        return label
    raise host.Missing("the SELinux policy has no context that this suite knows")


# --- personality


def PERS_01(t: Trial) -> None:
    """LINUX32 gives the process the personality of a 32-bit machine, and LINUX a plain one, whatever the
    caller's is.
    """
    for domain, number, caller in (("LINUX32", 8, 0), ("LINUX", 0, 8)):
        if host.LIBC.personality(number) < 0:
            raise host.Missing("the kernel has no 32-bit personality")
        machine = os.uname().machine  # not every kernel has another name for it
        host.LIBC.personality(caller)
        t.bundle.linux["personality"] = {"domain": domain}
        found = t.report()
        t.equal(
            (number, machine),
            (found["personality"] & 0xFF, found["machine"]),
            f"with {domain}, personality and machine",
        )


def PERS_01_wrong(t: Trial) -> None:
    """A domain that is missing or unknown is an error."""
    t.each_refused(
        dict(
            change("/linux/personality", value)
            for value in ({}, {"domain": "BSD"}, {"domain": "linux32"}, {"domain": ""})
        )
    )


def PERS_02(t: Trial) -> None:
    """No flag of a personality is defined, so that each is an error."""
    for flag in ("X", "ADDR_NO_RANDOMIZE"):
        t.bundle.linux["personality"] = {"domain": "LINUX", "flags": [flag]}
        t.refused(why=f"with the flag {flag}")
