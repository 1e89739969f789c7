"""Cgroups: the path, ownership, device rules, limits. Files of cgroup v2, or of v1 where the runtime uses that."""

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

from conformance.output import Late
from conformance.runtime import Container, leftover_cgroups
from conformance.trial import Failure, Trial, change, host, must, should

MIB = 1 << 20


# --- where a container's cgroup is


def moved(container: Container) -> "dict[str, str]":
    """Its cgroups by hierarchy, `""` for v2, as far as they are not the caller's."""
    own = Path("/proc/self/cgroup").read_text().splitlines()
    lines = [line.split(":", 2) for line in container.file("cgroup").splitlines() if line not in own]
    return {names: path for _, names, path in lines}


def v1_mount(controller: str) -> "Path | None":
    """Where cgroup v1 is mounted with this controller."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] == "cgroup" and controller in rest.split()[-1].split(","):
            return Path(fields.split()[4])
    return None


def v1_path(container: Container, controller: str) -> "Path | None":
    """The container's directory in the hierarchy of a v1 controller; None if the runtime did not put it there."""
    for names, path in moved(container).items():
        mount = v1_mount(controller)
        if controller in names.split(",") and mount:
            return mount / path[1:]
    return None


class Uses:
    """Which version of cgroups the runtime uses for a controller; Missing if the controller is in no hierarchy
    of its own.
    """

    def __init__(self, t: Trial, v2: str, v1: str = "") -> None:
        if host.is_unified():
            host.require_controller(v2)
        found = hierarchies(t)
        self.v1 = bool(v1) and any(v1 in names.split(",") for names in found) and v1_mount(v1) is not None
        self.controller = v1 if self.v1 else v2
        if self.v1:
            return
        if found != [""]:
            raise host.Missing(f"the runtime uses cgroup v1 here, which has no {v1 or v2} controller")
        host.require_controller(v2)

    def folder(self, container: Container) -> Path:
        if not self.v1:
            return container.cgroup()
        path = v1_path(container, self.controller)
        if path is None:
            raise Failure(f"the container is not in a {self.controller} cgroup of its own")
        return path

    def made(self, t: Trial, **files: str) -> Path:
        """A cgroup for the container, there before it is, with these files written; `cgroupsPath` is set."""
        name = f"{t.runtime.prefix}-made"
        mount = v1_mount(self.controller) if self.v1 else host.cgroup_mount()
        assert mount
        if not self.v1:
            (mount / "cgroup.subtree_control").write_text(f"+{self.controller}")
        path = mount / name
        path.mkdir()
        for file, value in files.items():
            (path / file.replace("__", ".")).write_text(value)
        t.bundle.linux["cgroupsPath"] = f"/{name}"
        return path


def hierarchies(t: Trial) -> "list[str]":
    """In which hierarchies the runtime gives a container a cgroup of its own, as `moved` names them."""

    def look() -> "list[str]":
        bundle = t.another_bundle("bundle-for-cgroups")
        bundle.linux["cgroupsPath"] = f"/{t.runtime.prefix}-look"
        found = sorted(moved(t.create(bundle=bundle)))
        if not found and host.is_unified():  # where there is no v1, that is nobody's choice of it
            raise Failure("a container with a cgroupsPath has no cgroup of its own")
        return found

    return list(t.once("hierarchies", look))


def require_v2(t: Trial) -> None:
    """The runtime uses cgroup v2 here, and no hierarchy of v1: those who use v1 may join v2 beside."""
    if hierarchies(t) != [""]:
        raise host.Missing("the runtime uses cgroup v1 here")


def expect(
    t: Trial, uses: Uses, resources: "dict[str, Any]", v2: "dict[str, str]", v1: "dict[str, str] | None" = None
) -> Path:
    """With these resources a container's files hold this; files that the kernel lacks are passed over."""
    t.bundle.linux["resources"] = resources
    folder = uses.folder(t.running())
    wanted = v1 if uses.v1 else v2
    if wanted is None:
        raise host.Missing(f"this is judged with cgroup v2, and the runtime uses v1 for {uses.controller}")
    there = {name: value for name, value in wanted.items() if (folder / name).exists()}
    if not there:
        raise host.Missing(f"the kernel has no {' or '.join(wanted)}")
    t.equal(there, {name: (folder / name).read_text().strip() for name in there}, f"what {resources} gives")
    return folder


# --- fitness and path


def unfit(t: Trial, what: str) -> None:
    """Whether a cgroup is fit is the runtime's to look at, or not; if it does, create fails."""
    before = t.traces()
    container = t.create(ok=False)
    if container.created.status == 0:
        raise host.Missing(f"the runtime does not look whether a cgroup is {what}, as it may")
    t.assert_no_traces(before, container.id, "create")


def CG_01(t: Trial) -> None:
    """A cgroup that is frozen may be refused; it is left as it is then."""
    name = f"{t.runtime.prefix}-frozen"
    frozen = host.cgroup_mount() / name
    frozen.mkdir()
    (frozen / "cgroup.freeze").write_text("1")
    mount = v1_mount("freezer")
    if mount:
        (mount / name).mkdir()
        (mount / name / "freezer.state").write_text("FROZEN")
    t.bundle.linux["cgroupsPath"] = f"/{name}"
    try:
        unfit(t, "frozen")
        t.true(frozen.is_dir(), "the cgroup that was refused is gone")
    except Late:
        raise host.Missing("the runtime does not look whether a cgroup is frozen, as it may, and waits") from None
    finally:
        with contextlib.suppress(OSError):
            (frozen / "cgroup.freeze").write_text("0")
        if mount:
            with contextlib.suppress(OSError):
                (mount / name / "freezer.state").write_text("THAWED")


def CG_01_inhabited(t: Trial) -> None:
    """A cgroup with another process in it may be rejected; both are then left alone."""
    name = f"{t.runtime.prefix}-shared"
    folder = host.cgroup_mount() / name
    folder.mkdir()
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    (folder / "cgroup.procs").write_text(str(pid))
    t.bundle.linux["cgroupsPath"] = f"/{name}"
    unfit(t, "empty")
    t.equal((0, 0), os.waitpid(pid, os.WNOHANG), "whether the other process ended")


def own_places(container: Container) -> "set[str]":
    """Where the container is, in each hierarchy; not where its caller is."""
    places = set(moved(container).values())
    if not places:
        raise Failure("the container has no cgroup of its own")
    return places


def assert_at(t: Trial, container: Container, path: str) -> None:
    """The container is in this cgroup, or in one that the runtime has made in it: how it names them is its own
    affair.
    """
    astray = {place for place in own_places(container) if place != path and not place.startswith(f"{path}/")}
    t.equal(set(), astray, f"cgroups of the container that are not {path}")


def CG_02(t: Trial) -> None:
    """An absolute cgroupsPath stands below the mount point of cgroups, just so."""
    path = f"/{t.runtime.prefix}/deep/er"
    t.bundle.linux["cgroupsPath"] = path
    container = t.running()
    assert_at(t, container, path)
    if "" in moved(container):
        t.true((host.cgroup_mount() / path[1:]).is_dir(), f"there is no {path} below the mount point")


def assert_same_place(t: Trial, path: str) -> None:
    """Two containers of two bundles, one after the other, are in the same cgroups."""
    found = []
    for number in range(2):
        bundle = t.another_bundle(f"bundle-{number}")
        bundle.linux["cgroupsPath"] = path
        bundle.program("pause")
        container = t.create(bundle=bundle)
        found.append(moved(container))
        own_places(container)
        container.end()
    t.equal(found[0], found[1], f"the place of {path} for another container")


def CG_03(t: Trial) -> None:
    """The same cgroupsPath is the same place for another container, of another bundle."""
    assert_same_place(t, f"/{t.runtime.prefix}/same")


def CG_03_relative(t: Trial) -> None:
    """So it is with a relative one, wherever the runtime puts it, unless it is refused."""
    path = f"{t.runtime.prefix}/same-relative"
    t.bundle.linux["cgroupsPath"] = path
    container = t.create(ok=False)
    if container.created.status:
        raise host.Missing("the runtime considers a relative cgroupsPath to be invalid, as it may")
    container.end()
    assert_same_place(t, path)


@must
def CG_05(t: Trial) -> None:
    """A cgroupsPath that leads out of the mount point is refused, or stays inside."""
    for path in (
        "/../..",
        f"/../../../{t.runtime.prefix}-out",
        f"../../../../{t.runtime.prefix}-out",
        f"/a/../../{t.runtime.prefix}-out",
    ):
        t.bundle.linux["cgroupsPath"] = path
        before = t.traces()
        container = t.runtime.create(t.bundle, ok=False)
        if container.created.status:
            t.assert_no_traces(before, container.id, "create")
        else:
            places = set(moved(container).values())
            t.true(all(".." not in place for place in places), f"with {path} the container is in {places}")
        outside = [str(place) for place in Path("/sys/fs").glob(f"{t.runtime.prefix}*")]
        t.equal([], outside, "what was made outside")


def CG_06(t: Trial) -> None:
    """Directories of the cgroupsPath are made if they are missing, and the container's own is gone after delete."""
    path = f"/{t.runtime.prefix}/a/b/c"
    t.bundle.linux["cgroupsPath"] = path
    t.equal([], leftover_cgroups(t.runtime.prefix), "the cgroups beforehand")
    container = t.running()
    assert_at(t, container, path)
    container.end()
    left = [str(place) for place in leftover_cgroups(t.runtime.prefix) if str(place).endswith(path)]
    t.equal([], left, "what is left")


def CG_07(t: Trial) -> None:
    """A cgroup that exists keeps its limits if resources says nothing of them."""
    name = f"{t.runtime.prefix}-kept"
    path = host.cgroup_mount() / name
    path.mkdir()
    (path / "cgroup.max.descendants").write_text("77")
    limits = {path / "cgroup.max.descendants": "77"}
    pids = v1_mount("pids")
    if pids:
        (pids / name).mkdir()
        limits[pids / name / "pids.max"] = "77"
    elif (path / "pids.max").exists():
        limits[path / "pids.max"] = "77"
    for file, value in limits.items():
        file.write_text(value)
    t.bundle.linux["cgroupsPath"] = f"/{name}"
    for resources in (None, {}, {"devices": [{"allow": True, "access": "rwm"}]}):
        if resources is not None:
            t.bundle.linux["resources"] = resources
        container = t.running()
        assert_at(t, container, f"/{name}")
        for file, value in limits.items():
            t.equal(value, file.read_text().strip(), f"{file.name} with resources {resources}")
        container.end()
        for file, value in limits.items():
            file.parent.mkdir(exist_ok=True)
            file.write_text(value)


# --- ownership


def owned(t: Trial, uid: int = 1234) -> None:
    """A config with all that ownership needs: the process is `uid`'s, its cgroup namespace new, the mount writable."""
    require_v2(t)
    t.bundle.process["user"] = {"uid": uid, "gid": 0}
    t.bundle.namespace("cgroup")
    t.bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev")


def owner(container: Container, name: str = ".") -> int:
    return (container.cgroup() / name).stat().st_uid


def changed(folder: Path) -> None:
    """A runtime may change the owner; one that leaves it to root breaks no rule about how."""
    if folder.stat().st_uid == 0:
        raise host.Missing("the runtime leaves the cgroup to root")


@should
def CG_10(t: Trial) -> None:
    """The cgroup belongs to the host's uid of the container's user, who can make a cgroup of its own in it."""
    owned(t)
    container = t.running("mkdir", "/sys/fs/cgroup/mine", "write", "/sys/fs/cgroup/mine/cgroup.procs", "0")
    changed(container.cgroup())
    t.equal(
        (1234, 1234),
        (owner(container), owner(container, "cgroup.procs")),
        "the owner of the cgroup and its cgroup.procs",
    )
    t.equal([None, None], [line.get("error") for line in container.lines[:2]], "what the program gets")


@should
def CG_10_user_namespace(t: Trial) -> None:
    """In a user namespace the owner is the uid that the container's user has on the host."""
    owned(t)
    t.bundle.user_namespace()
    container = t.running()
    changed(container.cgroup())
    t.equal(101234, owner(container), "the owner of the cgroup")


def CG_11(t: Trial) -> None:
    """Without a new cgroup namespace the owner stays."""
    owned(t)
    t.bundle.drop_namespace("cgroup")
    t.equal(0, owner(t.running()), "the owner without a cgroup namespace")


def CG_11_joined(t: Trial) -> None:
    """In a cgroup namespace that is joined, not made, the owner stays."""
    owned(t)
    other = t.running()
    t.bundle.namespace("cgroup", f"/proc/{other.pid}/ns/cgroup")
    t.equal(0, owner(t.running()), "the owner with a cgroup namespace that is joined")


def CG_12(t: Trial) -> None:
    """The owner changes if cgroup is mounted at /sys/fs/cgroup and not read-only, and only then."""
    owned(t)
    whole = t.bundle.config["mounts"][-1]
    t.bundle.config["mounts"][-1] = {**whole, "options": [*whole["options"], "ro"]}
    t.equal(0, owner(t.running()), "the owner with a read-only mount")
    t.bundle.config["mounts"][-1] = {**whole, "destination": "/sys/fs/cgroup2"}
    t.bundle.drop_mount("/sys")
    t.equal(0, owner(t.running()), "the owner with a mount at another place")
    t.bundle.config["mounts"].pop()
    t.equal(0, owner(t.running()), "the owner without the mount")
    t.bundle.config["mounts"].append({**whole, "options": ["rw"]})
    t.equal(1234, owner(t.running()), "the owner with a writable mount")


def CG_13(t: Trial) -> None:
    """The directory and the files that the kernel lists as delegatable change hands, and no other."""
    owned(t)
    host.require_file("/sys/kernel/cgroup/delegate", "the kernel has no /sys/kernel/cgroup/delegate")
    listed = Path("/sys/kernel/cgroup/delegate").read_text().split()
    judge_owners(t, listed)


def judge_owners(t: Trial, listed: "list[str]", *, others: bool = True) -> None:
    """The directory and these files of it are the user's; `others` are not."""
    folder = t.running().cgroup()
    changed(folder)
    t.equal(1234, folder.stat().st_uid, "the owner of the directory")
    owners = {entry.name: entry.stat().st_uid for entry in os.scandir(folder) if entry.is_file()}
    for name, uid in owners.items():
        if name in listed or others:
            t.equal(1234 if name in listed else 0, uid, f"the owner of {name}")


def CG_13_other_list(t: Trial) -> None:
    """It is the kernel's list that counts."""
    owned(t)
    other_list(t, "cgroup.procs", "cgroup.freeze")
    judge_owners(t, ["cgroup.procs", "cgroup.freeze"])


def other_list(t: Trial, *names: str) -> None:
    """The kernel says that these files may be delegated."""
    host.require_file("/sys/kernel/cgroup/delegate", "the kernel has no /sys/kernel/cgroup/delegate")
    listed = t.folder / "delegate"
    listed.write_text("".join(f"{name}\n" for name in names))
    host.mount(str(listed), "/sys/kernel/cgroup/delegate", "", host.MS_BIND)


@must
def CG_13_missing_file(t: Trial) -> None:
    """Names in the kernel's list of which there is no file do no harm."""
    owned(t)
    other_list(t, "cgroup.procs", "no.such.file")
    t.running()


@must
def CG_13_no_list(t: Trial) -> None:
    """Without the kernel's list it is cgroup.procs, cgroup.subtree_control and cgroup.threads."""
    owned(t)
    if os.path.isdir("/sys/kernel/cgroup"):
        host.mount("conformance", "/sys/kernel/cgroup", "tmpfs")
    judge_owners(t, ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"], others=False)


# --- devices. 60 to 63 are majors for experiments: with no driver, open(2) says ENXIO if the cgroup lets it

ALL_DENIED = {"allow": False, "access": "rwm"}


def verdicts(t: Trial, rules: "list[dict[str, Any]]", tries: "list[tuple[str, int, str]]") -> "list[bool]":
    """Which of these (type, minor of major 60, mode of open) are allowed under these rules."""
    nodes = sorted({(kind, minor) for kind, minor, _ in tries})
    t.bundle.linux["devices"] = [
        {"type": kind, "path": f"/dev/{kind}{minor}", "major": 60, "minor": minor, "fileMode": 0o666}
        for kind, minor in nodes
    ]
    t.bundle.linux["resources"] = {"devices": rules}
    lines = t.run(*(word for kind, minor, mode in tries for word in ("open", f"/dev/{kind}{minor}", mode)))
    allowed = []
    for line in lines:
        if line.get("error") not in ("EPERM", "ENXIO", "ENODEV"):
            raise Failure(f"open of {line['path']} gives {line.get('error')}")
        allowed.append(line["error"] != "EPERM")
    return allowed


def c60(
    minor: "int | None" = None, access: "str | None" = "rwm", *, allow: bool = True, kind: str = "c"
) -> "dict[str, Any]":
    """A device rule for character devices of major 60."""
    entry: dict[str, Any] = {"allow": allow, "type": kind, "major": 60}
    if minor is not None:
        entry["minor"] = minor
    return entry if access is None else {**entry, "access": access}


def CG_20(t: Trial) -> None:
    """Device rules are applied in order: a later one overrides what earlier ones said."""
    tries = [("c", 1, "r"), ("c", 2, "r"), ("c", 3, "r")]
    found = verdicts(t, [ALL_DENIED, c60(1), c60(2), c60(2, allow=False)], tries)
    t.equal([True, False, False], found, "denied all, allowed 1 and 2, denied 2: access to 1, 2, 3")
    found = verdicts(t, [ALL_DENIED, c60(1), ALL_DENIED, c60(2)], tries)
    t.equal([False, True, False], found, "denied all, allowed 1, denied all, allowed 2: access to 1, 2, 3")


def CG_20_exception(t: Trial) -> None:
    """A later rule may take back a part of what an earlier one allowed, and allow a part of what one denied."""
    require_v2(t)  # v1 can't express it
    t.bundle.linux["resources"] = {"devices": [ALL_DENIED, c60(), c60(2, allow=False)]}
    container = t.create(ok=False)
    if container.created.status != 0:
        raise host.Missing("the runtime refuses to take back a part of what a wildcard allows, as it may")
    container.clear()
    tries = [("c", 1, "r"), ("c", 2, "r"), ("c", 2, "w")]
    found = verdicts(t, [ALL_DENIED, c60(), c60(2, allow=False)], tries)
    t.equal([True, False, False], found, "denied all, allowed 60:*, denied 60:2: access to 1, 2, 2")
    found = verdicts(t, [ALL_DENIED, c60(2), c60(2, "w", allow=False)], tries)
    t.equal([False, True, False], found, "denied all, allowed 60:2, denied its writing: access to 1, 2, writing to 2")


def CG_20_open(t: Trial) -> None:
    """A rule for all may have exceptions."""
    everything = {"allow": True, "access": "rwm"}
    found = verdicts(t, [everything, c60(2, allow=False)], [("c", 1, "rw"), ("c", 2, "r"), ("c", 2, "w")])
    t.equal([True, False, False], found, "allowed all, denied 60:2: access to 1, 2, 2")


def CG_21(t: Trial) -> None:
    """Type, numbers and access of a rule decide what it is about; type, major or minor that are unset stand for any."""
    tries = [("c", 1, "r"), ("c", 1, "w"), ("c", 1, "rw"), ("b", 1, "r"), ("c", 2, "r")]
    for rule, wanted in (
        (c60(1), [True, True, True, False, False]),
        (c60(1, "r"), [True, False, False, False, False]),
        (c60(1, "w"), [False, True, False, False, False]),
        (c60(1, kind="b"), [False, False, False, True, False]),
        (c60(), [True, True, True, False, True]),
        ({"allow": True, "type": "c", "minor": 1, "access": "rwm"}, [True, True, True, False, False]),
        ({"allow": True, "type": "c", "access": "rwm"}, [True, True, True, False, True]),
        ({"allow": True, "type": "a", "access": "rwm"}, [True] * 5),
        ({"allow": True, "access": "rwm"}, [True] * 5),
    ):
        t.equal(wanted, verdicts(t, [ALL_DENIED, rule], tries), f"access under {rule}: c1 r, w, rw, b1 r, c2 r")


def CG_21_wrong(t: Trial) -> None:
    """A type or an access letter that is unknown, or a rule without allow, is an error."""
    wrong = (
        {"allow": True, "type": "x", "access": "rwm"},
        {"allow": True, "type": "u", "major": 60, "minor": 1, "access": "rwm"},
        {"allow": True, "type": "c", "major": 60, "minor": 1, "access": "rwx"},
        {"allow": True, "type": "c", "major": 60, "minor": 1, "access": "R"},
        {"type": "c", "major": 60, "minor": 1, "access": "rwm"},
    )
    t.each_refused(dict(change("/linux/resources/devices", [ALL_DENIED, rule]) for rule in wrong))


def CG_22(t: Trial) -> None:
    """On cgroup v2 a rule that denies everything is in force, and the default devices and terminals can still be
    used.
    """
    require_v2(t)
    t.bundle.linux["resources"] = {"devices": [ALL_DENIED]}
    t.bundle.linux["devices"] = [{"type": "c", "path": "/dev/other", "major": 60, "minor": 1, "fileMode": 0o666}]
    default = ("null", "zero", "full", "random", "urandom", "tty", "ptmx")
    *lines, other, made, opened = t.run(
        *(word for name in default for word in ("open", f"/dev/{name}", "r" if "random" in name else "rw")),
        *("open", "/dev/other", "r", "mknod", "/tmp/null", "c", 1, 3, "open", "/tmp/null", "rw"),
    )
    denied = [line["path"] for line in lines if line.get("error") == "EPERM"]
    t.equal([], denied, "default devices that can't be used")
    t.equal("EPERM", other.get("error"), "the error for another device")
    if not made.get("error"):
        t.equal(None, opened.get("error"), "the error for a new node of /dev/null")


# --- limits


def CG_30(t: Trial) -> None:
    """Properties of cgroup v1 that have no counterpart in v2 are errors there, not ignored."""
    require_v2(t)
    wrong = {
        "memory": [{"kernel": 64 * MIB}, {"kernelTCP": 64 * MIB}, {"swappiness": 37}, {"disableOOMKiller": True}],
        "cpu": [{"realtimeRuntime": 5000, "realtimePeriod": 1000000}],
        "blockIO": [{"leafWeight": 300}, {"weightDevice": [{"major": 7, "minor": 0, "leafWeight": 300}]}],
        "network": [{"classID": 1048577}, {"priorities": [{"name": "lo", "priority": 5}]}],
    }
    t.each_refused(
        dict(change(f"/linux/resources/{name}", value) for name, values in wrong.items() for value in values)
    )


def CG_31(t: Trial) -> None:
    """memory.limit and swap are the hard limit, and that of memory and swap together."""
    uses = Uses(t, "memory", "memory")
    expect(
        t,
        uses,
        {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}},
        {"memory.max": str(64 * MIB), "memory.swap.max": str(32 * MIB)},
        {"memory.limit_in_bytes": str(64 * MIB), "memory.memsw.limit_in_bytes": str(96 * MIB)},
    )


def CG_31_reservation(t: Trial) -> None:
    """memory.reservation is the soft limit; cgroup v2 has two that it may be converted to."""
    uses = Uses(t, "memory", "memory")
    wanted = str(32 * MIB)
    t.bundle.linux["resources"] = {"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}}
    folder = uses.folder(t.running())
    names = ("memory.soft_limit_in_bytes",) if uses.v1 else ("memory.low", "memory.high")
    found = {name: (folder / name).read_text().strip() for name in names}
    t.true(wanted in found.values(), f"none of the soft limits is {wanted}: {found}")


def CG_31_unlimited(t: Trial) -> None:
    """-1 takes a limit away."""
    uses = Uses(t, "memory", "memory")
    if uses.v1:
        uses.made(t, memory__limit_in_bytes=str(64 * MIB))
    else:
        uses.made(t, memory__max=str(64 * MIB))
    none = str(2**63 // os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PAGE_SIZE") - os.sysconf("SC_PAGE_SIZE"))
    # not reservation: what of v2 has no soft limit is open, since its limits are of another kind
    expect(t, uses, {"memory": {"limit": -1}}, {"memory.max": "max"}, {"memory.limit_in_bytes": none})


def CG_31_no_swap(t: Trial) -> None:
    """Memory and swap together as large as memory alone means no swap; less than that is an error."""
    uses = Uses(t, "memory", "memory")
    expect(
        t,
        uses,
        {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}},
        {"memory.swap.max": "0"},
        {"memory.memsw.limit_in_bytes": str(64 * MIB)},
    )
    t.each_refused(dict([change("/linux/resources/memory", {"limit": 64 * MIB, "swap": 32 * MIB})]))


def CG_31_in_force(t: Trial) -> None:
    """Who uses more than memory.limit is killed."""
    uses = Uses(t, "memory", "memory")
    t.bundle.linux["resources"] = {"memory": {"limit": 48 * MIB}}
    folder = uses.folder(t.running())
    swap = folder / ("memory.memsw.limit_in_bytes" if uses.v1 else "memory.swap.max")
    t.bundle.linux["resources"]["memory"] |= {"swap": 48 * MIB} if swap.exists() else {}
    small, large = t.run("allocate", 4, "allocate", 256)
    t.equal(0, small.get("exited"), "how a process ends that uses 4 MiB of 48")
    t.equal(9, large.get("signal"), "how a process ends that uses 256 MiB of 48")


@must
def CG_32(t: Trial) -> None:
    """With checkBeforeUpdate a limit above the usage is set; one below it is refused, or it is set too."""
    uses = Uses(t, "memory", "memory")
    name = "memory.limit_in_bytes" if uses.v1 else "memory.max"
    resources = {"memory": {"limit": 64 * MIB, "checkBeforeUpdate": True}}
    expect(t, uses, resources, {name: str(64 * MIB)}, {name: str(64 * MIB)})
    t.bundle.linux["resources"] = {"memory": {"limit": 4096, "checkBeforeUpdate": True}}
    container = t.runtime.create(t.bundle, ok=False)
    if container.created.status == 0:
        t.equal("4096", (uses.folder(container) / name).read_text().strip(), name)


def CG_33(t: Trial) -> None:
    """cpu.burst is what may be used on top of the quota."""
    uses = Uses(t, "cpu", "cpu")
    expect(
        t,
        uses,
        {"cpu": {"quota": 50000, "period": 100000, "burst": 20000}},
        {"cpu.max.burst": "20000"},
        {"cpu.cfs_burst_us": "20000"},
    )


def CG_34(t: Trial) -> None:
    """cpu.idle is 0 or 1."""
    uses = Uses(t, "cpu", "cpu")
    expect(t, uses, {"cpu": {"idle": 1}}, {"cpu.idle": "1"}, {"cpu.idle": "1"})
    expect(t, uses, {"cpu": {"idle": 0}}, {"cpu.idle": "0"}, {"cpu.idle": "0"})
    t.each_refused(dict(change("/linux/resources/cpu", {"idle": value}) for value in (2, -1)))


def CG_35(t: Trial) -> None:
    """cpu.cpus and mems are the processors and memory nodes that may be used."""
    uses = Uses(t, "cpuset", "cpuset")
    wanted = {"cpuset.cpus": "0", "cpuset.mems": "0"}
    expect(t, uses, {"cpu": {"cpus": "0", "mems": "0"}}, wanted, wanted)
    wrong = ({"cpus": "x"}, {"cpus": "0-"}, {"cpus": "9999"}, {"mems": "0;1"}, {"mems": "999"})
    t.each_refused(dict(change("/linux/resources/cpu", value) for value in wrong))


def block_device() -> str:
    """MAJOR:MINOR of a disk, if there is one with a medium."""
    disks = [Path("/sys/block", name) for name in sorted(os.listdir("/sys/block"))]
    for disk in sorted(disks, key=lambda disk: (disk / "size").read_text().strip() == "0"):
        return (disk / "dev").read_text().strip()
    raise host.Missing("there is no block device")


def CG_36(t: Trial) -> None:
    """A weightDevice entry without weight and leafWeight, or without numbers, is an error."""
    Uses(t, "io", "blkio")
    wrong = (
        {"major": 7, "minor": 0},
        {"minor": 0, "weight": 300},
        {"major": 7, "weight": 300},
        {"major": 7, "minor": 0, "weight": 70000},
    )
    t.each_refused(dict(change("/linux/resources/blockIO/weightDevice", [value]) for value in wrong))


def CG_37(t: Trial) -> None:
    """The four throttles of a device are set."""
    uses = Uses(t, "io", "blkio")
    major, minor = map(int, block_device().split(":"))
    rates = {"ReadBps": 1048576, "WriteBps": 2097152, "ReadIOPS": 500, "WriteIOPS": 600}
    t.bundle.linux["resources"] = {
        "blockIO": {
            f"throttle{name}Device": [{"major": major, "minor": minor, "rate": rate}] for name, rate in rates.items()
        }
    }
    folder = uses.folder(t.running())
    if uses.v1:
        files = {"ReadBps": "read_bps", "WriteBps": "write_bps", "ReadIOPS": "read_iops", "WriteIOPS": "write_iops"}
        for name, file in files.items():
            found = (folder / f"blkio.throttle.{file}_device").read_text().split()
            t.equal([f"{major}:{minor}", str(rates[name])], found, f"blkio.throttle.{file}_device")
        return
    lines = {line.split()[0]: set(line.split()[1:]) for line in (folder / "io.max").read_text().splitlines()}
    t.equal(
        {"rbps=1048576", "wbps=2097152", "riops=500", "wiops=600"},
        lines.get(f"{major}:{minor}"),
        "io.max of the device",
    )


def CG_37_wrong(t: Trial) -> None:
    """A throttle without a number of the device, or without a rate, is an error."""
    Uses(t, "io", "blkio")
    whole = dict(zip(("major", "minor"), map(int, block_device().split(":")), strict=True)) | {"rate": 1048576}
    wrong = [{key: value for key, value in whole.items() if key != name} for name in whole] + [{**whole, "rate": -1}]
    t.each_refused(dict(change("/linux/resources/blockIO/throttleReadBpsDevice", [value]) for value in wrong))


def CG_38(t: Trial) -> None:
    """A limit of huge pages is one of reservations, if the kernel knows that, or of use."""
    uses = Uses(t, "hugetlb", "hugetlb")
    sizes = [int(name[10:-2]) for name in os.listdir("/sys/kernel/mm/hugepages")]
    for size in sizes:
        name = f"{size >> 20}GB" if size >> 20 else f"{size >> 10}MB" if size >> 10 else f"{size}KB"
        limit = 3 * size << 10
        t.bundle.linux["resources"] = {"hugepageLimits": [{"pageSize": name, "limit": limit}]}
        folder = uses.folder(t.running())
        end = "limit_in_bytes" if uses.v1 else "max"
        files = [folder / f"hugetlb.{name}.{kind}{end}" for kind in ("rsvd.", "")]
        (file, *_) = [file for file in files if file.exists()]
        t.equal(str(limit), file.read_text().strip(), file.name)


def CG_38_wrong(t: Trial) -> None:
    """A page size that is invalid, unknown to this host, or without a limit, is an error."""
    Uses(t, "hugetlb", "hugetlb")
    wrong = [{"pageSize": size, "limit": 0} for size in ("2", "2M", "2 MB", "02MB", "-2MB", "3MB", "2mb", "")]
    wrong += [{"pageSize": "2MB"}, {"limit": 0}, {"pageSize": "2MB", "limit": -1}]
    t.each_refused(dict(change("/linux/resources/hugepageLimits", [value]) for value in wrong))


def CG_39(t: Trial) -> None:
    """network.classID and priorities are set in cgroup v1; with v2 they are an error."""
    found = hierarchies(t)
    if found == [""]:
        wrong = ({"classID": 1048577}, {"priorities": [{"name": "lo", "priority": 5}]})
        t.each_refused(dict(change("/linux/resources/network", value) for value in wrong))
        return
    if not {"net_cls", "net_prio"} <= {name for names in found for name in names.split(",")}:
        raise host.Missing("cgroup v1 has no net_cls and net_prio controllers")
    t.bundle.linux["resources"] = {"network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]}}
    container = t.running()
    classes, priorities = v1_path(container, "net_cls"), v1_path(container, "net_prio")
    if not classes or not priorities:
        raise Failure("the container is not in cgroups of net_cls and net_prio of its own")
    t.equal("1048577", (classes / "net_cls.classid").read_text().strip(), "net_cls.classid")
    t.true("lo 5" in (priorities / "net_prio.ifpriomap").read_text(), "net_prio.ifpriomap does not have `lo 5`")


def CG_39_wrong(t: Trial) -> None:
    """A priority needs a name and a value."""
    wrong = ({"name": "lo"}, {"priority": 5})
    t.each_refused(dict(change("/linux/resources/network/priorities", [value]) for value in wrong))


def CG_40(t: Trial) -> None:
    """pids.limit is the number of processes that there may be, and it is in force."""
    uses = Uses(t, "pids", "pids")
    expect(t, uses, {"pids": {"limit": 17}}, {"pids.max": "17"}, {"pids.max": "17"})
    line = t.ask("fork", 40)
    t.equal(
        (16, "EAGAIN"), (line["made"], line.get("error")), "children made of 40, beside their parent, and the error"
    )


def CG_40_unlimited(t: Trial) -> None:
    """-1 takes the limit away; an object without a limit changes nothing."""
    uses = Uses(t, "pids", "pids")
    uses.made(t, pids__max="77")
    t.bundle.linux["resources"] = {"pids": {}}
    container = t.running()
    t.equal("77", (uses.folder(container) / "pids.max").read_text().strip(), "pids.max without a limit")
    container.end()
    with contextlib.suppress(FileExistsError):
        uses.made(t, pids__max="77")
    expect(t, uses, {"pids": {"limit": -1}}, {"pids.max": "max"}, {"pids.max": "max"})


@should
def CG_40_zero(t: Trial) -> None:
    """0 is a limit, from version 1.3.0 on: the process can have no children."""
    t.bundle.config["ociVersion"] = "1.3.0"
    uses = Uses(t, "pids", "pids")
    expect(t, uses, {"pids": {"limit": 0}}, {"pids.max": "0"}, {"pids.max": "0"})
    t.equal(0, t.ask("fork", 3)["made"], "the number of children")


def CG_41(t: Trial) -> None:
    """The handles and objects of an RDMA device are limited."""
    uses = Uses(t, "rdma", "rdma")
    with host.rdma_device() as device:
        t.bundle.linux["resources"] = {"rdma": {device: {"hcaHandles": 3, "hcaObjects": 10000}}}
        lines = (uses.folder(t.running()) / "rdma.max").read_text().splitlines()
        t.true(f"{device} hca_handle=3 hca_object=10000" in map(str.strip, lines), f"rdma.max is {lines}")


def CG_41_wrong(t: Trial) -> None:
    """An RDMA limit without a number, or of a device that is not there, is an error."""
    Uses(t, "rdma", "rdma")
    t.each_refused(dict(change("/linux/resources/rdma", {"conf0": value}) for value in ({}, {"hcaHandles": 3})))


def CG_42(t: Trial) -> None:
    """The files that unified names hold what it says, in cgroup v2."""
    require_v2(t)
    values = {"cgroup.max.descendants": "7", "cgroup.max.depth": "3"}
    t.bundle.linux["resources"] = {"unified": values}
    folder = t.running().cgroup()
    t.equal(values, {name: (folder / name).read_text().strip() for name in values}, "what the files hold")


def CG_42_controllers(t: Trial) -> None:
    """The controllers are enabled that the files of unified need, also those that the runtime knows nothing of."""
    require_v2(t)
    known = {
        "pids": ("pids.max", "33"),
        "memory": ("memory.high", "268435456"),
        "cpu": ("cpu.weight", "77"),
        "cpuset": ("cpuset.cpus", "0"),
        "hugetlb": ("hugetlb.2MB.max", "4194304"),
        "misc": ("misc.max", ""),
    }
    controllers = (host.cgroup_mount() / "cgroup.controllers").read_text().split()
    values = dict(known[name] for name in controllers if name in known and name != "misc")
    if not values:
        raise host.Missing("cgroup v2 has none of the controllers pids, memory, cpu, cpuset, hugetlb")
    t.bundle.linux["resources"] = {"unified": values}
    folder = t.running().cgroup()
    t.equal(values, {name: (folder / name).read_text().strip() for name in values}, "what the files hold")


def CG_42_lines(t: Trial) -> None:
    """A value is written as it stands, several lines too."""
    require_v2(t)
    host.require_controller("io")
    device = block_device()
    t.bundle.linux["resources"] = {"unified": {"io.max": f"{device} rbps=1048576\n{device} wiops=120\n"}}
    found = (t.running().cgroup() / "io.max").read_text()
    t.true(
        re.search(rf"^{device} rbps=1048576 wbps=max riops=max wiops=120$", found, re.MULTILINE), f"io.max is {found!r}"
    )


def CG_42_wrong(t: Trial) -> None:
    """A file that is not there, of a controller or not, and a value that it does not take, are errors."""
    require_v2(t)
    wrong = ({"nosuch.max": "1"}, {"cgroup.nosuch": "1"}, {"pids.nosuch": "1"}, {"cgroup.max.depth": "many"})
    wrong += ({"../cgroup.max.depth": "5"}, {"": "1"})
    t.each_refused(dict(change("/linux/resources/unified", value) for value in wrong))


def CG_43(t: Trial) -> None:
    """memory.swappiness is set in cgroup v1, between 0 and 100; v2 has none, where it is an error."""
    uses = Uses(t, "memory", "memory")
    if uses.v1:
        expect(t, uses, {"memory": {"swappiness": 37}}, {}, {"memory.swappiness": "37"})
    else:
        t.each_refused(dict([change("/linux/resources/memory", {"swappiness": 37})]))


def CG_43_wrong(t: Trial) -> None:
    """A swappiness above 100 or below 0 is an error."""
    t.each_refused(dict(change("/linux/resources/memory", {"swappiness": value}) for value in (101, -1, 2**64)))


def CG_44(t: Trial) -> None:
    """memory.disableOOMKiller is done in cgroup v1, and an error with v2, where it can be left on."""
    uses = Uses(t, "memory", "memory")
    if uses.v1:
        t.bundle.linux["resources"] = {"memory": {"disableOOMKiller": True}}
        t.true(
            "oom_kill_disable 1" in (uses.folder(t.running()) / "memory.oom_control").read_text(),
            "the OOM killer is not off",
        )
        return
    t.each_refused(dict([change("/linux/resources/memory", {"disableOOMKiller": True})]))
    t.bundle.linux["resources"] = {"memory": {"limit": 64 * MIB, "disableOOMKiller": False}}
    t.equal(str(64 * MIB), (t.running().cgroup() / "memory.max").read_text().strip(), "memory.max")


def CG_45(t: Trial) -> None:
    """cpu.quota of each cpu.period may run."""
    uses = Uses(t, "cpu", "cpu")
    for cpu, quota, period in (
        ({"quota": 20000, "period": 50000}, "20000", "50000"),
        ({"quota": 30000}, "30000", "100000"),
        ({"period": 60000}, "max", "60000"),
        ({"quota": -1, "period": 50000}, "max", "50000"),
    ):
        v1 = {"cpu.cfs_quota_us": quota.replace("max", "-1"), "cpu.cfs_period_us": period}
        expect(t, uses, {"cpu": cpu}, {"cpu.max": f"{quota} {period}"}, v1)


def CG_45_in_force(t: Trial) -> None:
    """A process that is busy all the time is made to wait when its quota is used up, and only then."""
    uses = Uses(t, "cpu", "cpu")
    for quota in (10000, -1):
        t.bundle.linux["resources"] = {"cpu": {"quota": quota, "period": 100000}}
        # not by the time that it got: that measures nothing if the machine itself has to wait
        text = (uses.folder(t.running("spin", 500)) / "cpu.stat").read_text()
        waits = int(re.findall(r"^nr_throttled (\d+)", text, re.MULTILINE)[0])
        t.equal(quota > 0, waits > 0, f"with a quota of {quota}, whether the process had to wait")


def CG_45_shares(t: Trial) -> None:
    """More cpu.shares are more weight."""
    uses = Uses(t, "cpu", "cpu")
    shares = [2, 256, 1024, 2048, 262144]
    weights = []
    for share in shares:
        t.bundle.linux["resources"] = {"cpu": {"shares": share}}
        container = t.create()
        weights.append(int((uses.folder(container) / ("cpu.shares" if uses.v1 else "cpu.weight")).read_text()))
    if uses.v1:
        t.equal(shares, weights, "cpu.shares")
    t.equal(sorted(set(weights)), weights, f"the weights for shares of {shares}, which must rise,")


def CG_46(t: Trial) -> None:
    """cpu.realtimeRuntime and realtimePeriod are set in cgroup v1; with v2 they are an error."""
    uses = Uses(t, "cpu", "cpu")
    resources = {"cpu": {"realtimeRuntime": 5000, "realtimePeriod": 1000000}}
    if not uses.v1:
        t.each_refused(dict([change("/linux/resources/cpu", resources["cpu"])]))
        return
    mount = v1_mount("cpu")
    if not mount or not (mount / "cpu.rt_runtime_us").exists():
        raise host.Missing("the kernel has no realtime group scheduling")
    expect(t, uses, resources, {}, {"cpu.rt_runtime_us": "5000", "cpu.rt_period_us": "1000000"})


def CG_47(t: Trial) -> None:
    """blockIO.weight is the weight of the group; a larger one gives more."""
    uses = Uses(t, "io", "blkio")
    folder = uses.folder(t.running())
    names = ("blkio.weight", "blkio.bfq.weight") if uses.v1 else ("io.bfq.weight", "io.weight")
    files = [name for name in names if (folder / name).exists()]
    if not files:
        raise host.Missing(f"the kernel has neither {' nor '.join(names)}")
    found = []
    for weight in (10, 300, 1000):
        t.bundle.linux["resources"] = {"blockIO": {"weight": weight}}
        text = (uses.folder(t.running()) / files[0]).read_text()
        found.append(int(re.findall(r"\d+", text)[0]))
    t.equal(sorted(set(found)), found, "the weights for 10, 300 and 1000, which must rise,")


def CG_47_leaf(t: Trial) -> None:
    """blockIO.leafWeight has no counterpart in cgroup v2 and is an error there; kernels after 5.0 have none in v1."""
    uses = Uses(t, "io", "blkio")
    mount = v1_mount("blkio")
    if uses.v1 and mount and (mount / "blkio.leaf_weight").exists():
        expect(t, uses, {"blockIO": {"leafWeight": 300}}, {}, {"blkio.leaf_weight": "300"})
    else:
        t.each_refused(dict([change("/linux/resources/blockIO", {"leafWeight": 300})]))
