"""`linux.namespaces`, id mappings, timeOffsets, hostname, domainname and sysctl → operations.

Implements config-linux.md "Namespaces", "User namespace mappings", "Offset for Time Namespace", "Sysctl" and
config.md "Hostname", "Domainname". The kernel dictates the order:

- A user namespace owns the namespaces that its processes make afterwards.
- A pid namespace, and the offsets of a time namespace, take effect in the next child only.
- The root of a cgroup namespace is the cgroup of the process that makes it, so the child makes it last.
"""

from pyoci.compiler import verbs
from pyoci.compiler.operations import Part, Slots
from pyoci.compiler.verbs.numbers import ID_MAPS, JOINED_PIDS, TIME_OFFSETS
from pyoci.config.constants import sysctl_namespace, sysctl_path
from pyoci.linux import (
    CAP_SETGID,
    CAP_SETUID,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    SIGKILL,
)
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Literal

    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Config, IdMapping, Linux, TimeOffset

CLONE_FLAGS = {
    "time": CLONE_NEWTIME,
    "mount": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
}

CLOCKS: "tuple[Literal['boottime', 'monotonic'], ...]" = ("boottime", "monotonic")

# The mount namespace comes last, so that paths stay reachable.
_JOIN_ORDER = ("user", "ipc", "uts", "network", "pid", "time", "cgroup", "mount")

# setns and unshare move only the children of a process into one of these.
_IN_NEXT_CHILD = ("pid", "time")

_MOUNTS_PROC_OF_OTHERS = (6, 17)  # the first Linux whose procfs has the option `pidns`


class Namespaces:
    """The namespaces of a container.

    `new`              the types that it makes
    `joined`           path and pointer of those that it joins, by type
    `where`            the pointer of each, by type
    `own_user`         whether it has a user namespace, a new or a joined one
    `joins_first`      whether it joins namespaces before it makes the user namespace
    `needs_bootstrap`  whether an intermediate process clones init
    `settles_first`    whether init's process finishes its setup before a joined pid namespace shows it
    `enters_early`     whether init enters its namespaces while the runtime opens what the rest of its plan needs
    """

    def __init__(self, linux: "Linux", kernel: "tuple[int, int]") -> None:
        self.linux = linux
        self.new: list[str] = []
        self.joined: dict[str, tuple[str, str]] = {}
        self.where: dict[str, str] = {}
        for index, entry in enumerate(linux.get("namespaces", ())):
            kind = entry["type"]
            self.where[kind] = f"/linux/namespaces/{index}"
            if entry.get("path"):
                self.joined[kind] = (entry["path"], f"/linux/namespaces/{index}/path")
            else:
                self.new.append(kind)
        offsets = linux.get("timeOffsets", {})
        self.time_offsets: dict[str, TimeOffset] = {clock: offsets[clock] for clock in CLOCKS if clock in offsets}
        self.own_user = "user" in self.where
        # a process in a new user namespace has no power to join the namespaces of others, so it joins them before
        self.joins_first = "user" in self.new and bool(self.joined.keys() - {"mount"})
        self.needs_bootstrap = (
            "pid" in self.joined
            or "user" in self.joined
            or self.joins_first
            or bool(self.time_offsets and "time" in self.new)
        )
        # Other programs run in a joined pid namespace, and could trace the container's process. If a process outside
        # can mount a procfs of that namespace, it does the setup, and the namespace shows its child only afterwards. A
        # process in a user namespace of its own needs no such care: it has no power over the host.
        self.settles_first = "pid" in self.joined and not self.own_user and kernel >= _MOUNTS_PROC_OF_OTHERS

        # The network namespace alone takes longer than the runtime needs to open the container's files. In a user
        # namespace, the kernel makes all at once, because that owns the others.
        self.enters_early = not (self.needs_bootstrap or self.own_user)

    def made_by_clone(self) -> "list[str]":
        """Return the types of namespaces that the clone of the first process makes."""
        if self.joins_first:
            return []
        if self.enters_early:
            return [kind for kind in self.new if kind in _IN_NEXT_CHILD]
        return [kind for kind in self.new if (kind == "user" if self.needs_bootstrap else kind != "cgroup")]

    def has(self, kind: str) -> bool:
        """Whether the container makes or joins a namespace of this type."""
        return kind in self.where


class IdMapWriter:
    """Decides who writes the id mappings of a new user namespace. `uid`, `gid` and `capabilities` are the runtime's.

    Without CAP_SETUID and CAP_SETGID the kernel takes only one line, which maps the caller's own id. For other mappings
    the runtime runs the set-user-ID programs newuidmap and newgidmap, which know the ranges of each user.
    """

    def __init__(self, linux: "Linux", namespaces: Namespaces, uid: int, gid: int, capabilities: int) -> None:
        self._linux = linux
        new = "user" in namespaces.new
        self._programs = {
            "uid": new and not (capabilities & 1 << CAP_SETUID or self._only("uid", uid)),
            "gid": new and not (capabilities & 1 << CAP_SETGID or self._only("gid", gid)),
        }
        # Without CAP_SETGID the kernel lets a process map its group only if it can't drop supplementary groups, because
        # a group may deny access.
        self.denies_setgroups = new and not capabilities & 1 << CAP_SETGID and not self._programs["gid"]

    def _only(self, kind: str, id: int) -> bool:
        mappings = self._mappings(kind)
        return len(mappings) == 1 and mappings[0]["size"] == 1 and bool(mappings[0]["hostID"] == id)

    def _mappings(self, kind: str) -> "list[IdMapping]":
        return self._linux.get("uidMappings", []) if kind == "uid" else self._linux.get("gidMappings", [])

    def operations(self) -> "Iterator[ParentOp]":
        """Yield the runtime's operations for a namespace that exists."""
        if self.denies_setgroups:
            yield verbs.DenySetgroups("/linux/gidMappings")
        for kind, by_program in self._programs.items():
            lines = id_map(self._mappings(kind))
            where = f"/linux/{kind}Mappings"
            if by_program:
                yield verbs.RunIdMapper(where, name=f"new{kind}map", lines=lines)
            else:
                yield verbs.WriteIdMaps(where, name=f"{kind}_map", lines=lines)


class Entry:
    """How the container's processes get into its namespaces.

    `clone_flags`   namespaces that the first clone makes
    `bootstrap`     operations of the intermediate process, if one is needed
    `init`          operations with which init begins
    `part`          the runtime's operations, before the clone and at sync points
    `joined_users`  the slot of the user namespace that the container joins, 0 without one
    """

    __slots__ = ("bootstrap", "clone_flags", "init", "joined_users", "part")

    def __init__(self) -> None:
        self.clone_flags = 0
        self.bootstrap: list[ChildOp] = []
        self.init: list[ChildOp] = []
        self.part = Part()
        self.joined_users = 0


def enter_namespaces(
    namespaces: Namespaces,
    writer: IdMapWriter,
    slots: Slots,
    begin: "list[ChildOp]",
    *,
    dumpable: bool,
    privileged: bool,
) -> Entry:
    """Decide what the first clone makes, what a bootstrap process does, and what init does itself.

    The first process does `begin` before anything else. It is still `dumpable` until its ids are mapped. A `privileged`
    process joins all that the runtime may join before it enters a user namespace, which need not own the others.
    Another process gets the right to join them from the user namespace.
    """
    entry = Entry()
    joins = _joins(namespaces, slots)
    opened = [op for op, _ in joins.values()]
    left = {kind: join for kind, (_, join) in joins.items()}
    if "user" in left:
        entry.joined_users = left["user"].namespaces
    for kind in namespaces.made_by_clone():
        entry.clone_flags |= CLONE_FLAGS[kind]
    at: dict[int, list[ParentOp]] = {}
    first: list[ChildOp] = []
    if namespaces.joins_first or (privileged and "user" in left):
        first += [left.pop(kind) for kind in _JOIN_ORDER if kind in left and kind not in ("user", "mount")]
    if "user" in left:
        first.append(left.pop("user"))
    if namespaces.joins_first:
        first.append(verbs.Unshare(namespaces.where["user"], kinds="user", types=CLONE_FLAGS["user"]))
    if "user" in namespaces.new:
        at[ID_MAPS] = list(writer.operations())
        first.append(verbs.Sync("/linux/uidMappings", point=ID_MAPS))
        if dumpable:
            first.append(verbs.SetDumpable(dumpable=0))
    session = [verbs.Setsid()]
    if not namespaces.needs_bootstrap:
        entry.init = [*begin, *session, *first]
    else:
        entry.bootstrap = [*begin, *first, *_bootstrap(namespaces, left)]
        if namespaces.time_offsets:
            at[TIME_OFFSETS] = list(_time_offsets(namespaces.time_offsets))
        if not namespaces.settles_first:
            entry.init = [verbs.SetPdeathsig(signal=SIGKILL), verbs.SetDumpable(dumpable=0), *session]
    in_bootstrap = _IN_NEXT_CHILD if namespaces.needs_bootstrap else ()
    entry.init += [left[kind] for kind in _JOIN_ORDER if kind in left and kind not in in_bootstrap]
    entry.part = Part(before=opened, at=at)
    return entry


def enter_early(namespaces: Namespaces) -> "Iterator[ChildOp]":
    """Make the namespaces that the clone does not make, and wait for the rest of the plan."""
    if namespaces.enters_early:
        others = (*namespaces.made_by_clone(), "cgroup")
        yield from _unshare([kind for kind in namespaces.new if kind not in others], namespaces)
        yield verbs.ReceivePlan()


def cgroup_namespace(namespaces: Namespaces) -> "Iterator[ChildOp]":
    """Make a cgroup namespace, once the container's first process is in its cgroup."""
    if "cgroup" in namespaces.new:
        yield verbs.Unshare(namespaces.where["cgroup"], kinds="cgroup", types=CLONE_FLAGS["cgroup"])


def outside_pids(namespaces: Namespaces, hooks: "list[ChildOp]", slots: Slots) -> Part:
    """Run `hooks` in the runtime's pid namespace, even if their process has joined another one for its children.

    Other programs run in the joined namespace. They must not see a hook, which has the runtime's power.
    """
    if not (hooks and namespaces.settles_first):
        return Part(hooks)
    where, slot, flag = namespaces.joined["pid"][1], slots.new(), CLONE_FLAGS["pid"]
    own = verbs.OpenNamespace(where, path="/proc/self/ns/pid", kind="pid", namespace=slot, flag=flag)
    leave = verbs.JoinNamespace(where, kind="pid, the runtime's", namespaces=slot, types=flag)
    come_back = verbs.JoinNamespace(where, kind="pid", namespaces=JOINED_PIDS, types=flag)
    return Part([leave, *hooks, come_back], before=[own])


def _joins(namespaces: Namespaces, slots: Slots) -> "dict[str, tuple[verbs.OpenNamespace, verbs.JoinNamespace]]":
    """Return how to open and how to join each namespace. The runtime opens all before the child enters any."""
    linux = namespaces.linux
    # Namespaces that get kernel parameters or devices. They must not turn out to be the host's.
    changed = {sysctl_namespace(sysctl_path(key)): f"/linux/sysctl/{escape(key)}" for key in linux.get("sysctl", ())}
    if linux.get("netDevices"):
        changed["network"] = "/linux/netDevices"
    joins = {}
    for kind in _JOIN_ORDER:
        if kind in namespaces.joined:
            path, where = namespaces.joined[kind]
            slot = JOINED_PIDS if kind == "pid" and namespaces.settles_first else slots.new()
            flag = CLONE_FLAGS[kind]
            joins[kind] = (
                verbs.OpenNamespace(
                    where, path=path, kind=kind, must_differ=changed.get(kind, ""), namespace=slot, flag=flag
                ),
                verbs.JoinNamespace(where, kind=kind, namespaces=slot, types=flag),
            )
    return joins


def _bootstrap(namespaces: Namespaces, joins: "Mapping[str, ChildOp]") -> "Iterator[ChildOp]":
    """Do what takes effect in the next child only: pid namespaces, clock offsets, and what a user namespace owns.

    Ends in the clone of init, unless a pid namespace is joined and the process settles first.
    """
    if namespaces.own_user:
        yield verbs.BecomeRoot(namespaces.where["user"])
    yield from _unshare([kind for kind in namespaces.new if kind not in ("user", "cgroup")], namespaces)
    if namespaces.time_offsets:
        yield verbs.Sync("/linux/timeOffsets", point=TIME_OFFSETS)
    for kind in _IN_NEXT_CHILD:
        if kind in joins:
            yield joins[kind]
    if not namespaces.settles_first:
        yield verbs.CloneInit("/linux/namespaces", signal=SIGKILL, waits=True)


def _unshare(kinds: "list[str]", namespaces: Namespaces) -> "Iterator[ChildOp]":
    if kinds:
        flags = 0
        for kind in kinds:
            flags |= CLONE_FLAGS[kind]
        where = namespaces.where[kinds[0]] if len(kinds) == 1 else "/linux/namespaces"
        yield verbs.Unshare(where, kinds=", ".join(kinds), types=flags)


def id_map(mappings: "Iterable[IdMapping]") -> str:
    """Return the text for uid_map or gid_map of a process (user_namespaces(7))."""
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)


def _time_offsets(offsets: "Mapping[str, TimeOffset]") -> "Iterator[ParentOp]":
    for clock, offset in offsets.items():
        line = f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        yield verbs.WriteTimeOffsets(f"/linux/timeOffsets/{clock}", line=line)


def identity(config: "Config", namespaces: Namespaces) -> "Iterator[ChildOp]":
    """Bring the loopback device up, and set the host and domain name."""
    if "network" in namespaces.new:
        yield verbs.LoUp(namespaces.where["network"])
    if config.get("hostname"):
        name = config["hostname"]
        yield verbs.SetHostname("/hostname", name=name)
    if config.get("domainname"):
        name = config["domainname"]
        yield verbs.SetDomainname("/domainname", name=name)


def sysctl(linux: "Linux") -> "Iterator[ChildOp]":
    """Write each kernel parameter through a private procfs."""
    for key, value in linux.get("sysctl", {}).items():
        yield verbs.WriteSysctl(
            f"/linux/sysctl/{escape(key)}",
            path=f"sys/{sysctl_path(key)}",
            value=value,
        )
