"""`process` → operations: terminal, limits, credentials, the program. This module decides their order.

Implements config.md "Process".

- Whatever can fail for a reason in the config happens during create, before `wait_start`. So create enters the working
  directory, and looks up the program as the container's user.
- The child loads the seccomp filter as late as the kernel allows. A profile then need not permit the setup. Without
  noNewPrivileges, loading needs CAP_SYS_ADMIN, which the child keeps in its permitted set until then.
- Other processes of the container may see the program's process as soon as it exists. The process that clones it has
  then dropped every privilege and descriptor of the runtime.
"""

import sys

from pyoci import _native, linux
from pyoci.compiler import verbs
from pyoci.compiler.operations import Part, ignore
from pyoci.compiler.verbs.numbers import CREATED, FILTER, READY
from pyoci.compiler.verbs.program import SCHED_ATTR, SCHEDULER_FLAGS
from pyoci.config.constants import CAPABILITIES, CAPABILITY_SETS, RLIMITS
from pyoci.errors import ConfigError, Problem
from pyoci.linux import IOPRIO_CLASS_SHIFT, SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyoci.compiler.facts import Host
    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Config, Linux, Process

CAP_CHOWN, CAP_FOWNER, CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYS_RESOURCE, CAP_MKNOD = (
    1 << number
    for number in (
        linux.CAP_CHOWN,
        linux.CAP_FOWNER,
        linux.CAP_SYS_ADMIN,
        linux.CAP_SYS_NICE,
        linux.CAP_SYS_RESOURCE,
        linux.CAP_MKNOD,
    )
)
ALL_CAPABILITIES = (1 << len(CAPABILITIES)) - 1
PERSONALITIES = {"LINUX": 0, "LINUX32": 8}

# linux/sched.h
POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
# linux/ioprio.h
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

KEEP_GROUPS = "run.oci.keep_original_groups"  # crun's annotation; Podman sets it for --group-add keep-groups


def mask(names: "list[str]") -> int:
    """Return capability names as a bit mask. Ignores unknown names, about which the config's checks have warned."""
    bits = 0
    for name in names:
        bits |= _BITS.get(name, 0)
    return bits


_BITS = {name: 1 << number for name, number in CAPABILITIES.items()}


def _names(bits: int) -> "list[str]":
    return [name for name, bit in _BITS.items() if bits & bit] if bits else []


def of_config(config: "Config") -> "Process":
    """Return the `process` of a config, or without one a process without properties."""
    found: Process = config.get("process", {})  # type: ignore[assignment]
    return found


def console(process: "Process", *, on_dev_console: bool = True, taken_later: bool = False) -> "Iterator[ChildOp]":
    """Open a terminal in the container's own devpts. The runtime takes its master, and sends it to the engine.

    `on_dev_console`: bind the terminal on /dev/console, too.
    `taken_later`: only put it on descriptors 0 to 2. A process that leads a session takes it later.
    """
    if not process.get("terminal"):
        return
    size = process.get("consoleSize", {})
    uid = process.get("user", {}).get("uid", 0)
    where = "/process/terminal"
    yield verbs.OpenConsole(where, height=size.get("height", 0), width=size.get("width", 0), uid=uid)
    yield verbs.MountConsole(where, take=not taken_later) if on_dev_console else verbs.UseTerminal(where)


def early_keyring(process: "Process") -> "Iterator[ChildOp]":
    """Join a new session keyring while this process is still the runtime's user.

    The kernel counts a keyring against the quota of the user who creates it. Other containers may have exhausted the
    quota of the container's user, because they share that user on the host.
    """
    if not process.get("selinuxLabel"):
        yield verbs.JoinKeyring()


def labelled_keyring(process: "Process") -> "Iterator[ChildOp]":
    """Label the keyrings that this process creates until its next execve, and join a new session keyring.

    In a user namespace the keyring counts against the quota of container root. If other containers have exhausted that
    quota, this fails where `early_keyring` would not.
    """
    if process.get("selinuxLabel"):
        yield _selinux_label(process["selinuxLabel"], "keycreate")
        yield verbs.JoinKeyring()


def security_labels(process: "Process") -> "Iterator[ChildOp]":
    """Set the labels of security modules, which take effect at the next execve of this process."""
    profile = process.get("apparmorProfile")
    if profile:
        value = f"exec {profile}"
        # AppArmor reports a stack of profiles, or a profile of another policy namespace, in another form
        expected = "" if "//&" in profile or profile.startswith(":") else profile
        path = "thread-self/attr/apparmor/exec"
        yield verbs.WriteAttr("/process/apparmorProfile", path=path, value=value, expected=expected)
    if process.get("selinuxLabel"):
        yield _selinux_label(process["selinuxLabel"], "exec")


def _selinux_label(label: str, attribute: str) -> "ChildOp":
    # without the categories: the kernel stores them as a set, and may report them in another form
    expected = ":".join(label.split(":")[:3])
    path = f"thread-self/attr/{attribute}"
    return verbs.WriteAttr("/process/selinuxLabel", path=path, value=label, expected=expected)


def priorities(process: "Process") -> "Iterator[ChildOp]":
    """Set the scheduling policy and I/O priority, after the cgroup's limits and the last clone of the setup.

    The limits decide which policies the kernel admits. Under SCHED_DEADLINE a process can't clone another. Most changes
    need CAP_SYS_NICE in the initial user namespace, so the runtime makes them if it has that capability.
    """
    scheduler, io = process.get("scheduler"), process.get("ioPriority")
    if scheduler:
        flags = 0
        for name in scheduler.get("flags", ()):
            flags |= SCHEDULER_FLAGS[name]
        attributes = SCHED_ATTR.pack(
            SCHED_ATTR.size,
            POLICIES[scheduler["policy"]],
            flags,
            scheduler.get("nice", 0),
            scheduler.get("priority", 0),
            *(scheduler.get(name, 0) for name in ("runtime", "deadline", "period")),
            0,
            0,
        )
        yield verbs.SetScheduler("/process/scheduler", attributes=attributes, policy=scheduler["policy"])
    if io:
        value = IO_CLASSES[io["class"]] << IOPRIO_CLASS_SHIFT | io["priority"]
        yield verbs.SetIoPriority("/process/ioPriority", name=io["class"], priority=value)


def rlimits(process: "Process") -> "Iterator[ChildOp]":
    """Set the limits once the child has opened everything that it needs."""
    for index, limit in enumerate(process.get("rlimits", ())):
        name = limit["type"]
        yield verbs.SetRlimit(
            f"/process/rlimits/{index}", name=name, resource=RLIMITS[name], soft=limit["soft"], hard=limit["hard"]
        )


class Capabilities:
    """The five sets as masks. A set that the config does not have is empty.

    Each set has only capabilities that the runtime can grant; `warnings` names those that it leaves out.
    `late` is CAP_SYS_ADMIN if loading the seccomp filter needs it. With noNewPrivileges it does not.
    """

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "late", "permitted", "warnings")

    def __init__(self, process: "Process", grantable: int, *, seccomp: bool) -> None:
        names = process.get("capabilities", {})
        asked: dict[str, int] = {kind: mask(names.get(kind, [])) for kind in CAPABILITY_SETS}
        given = {kind: bits & grantable for kind, bits in asked.items()}
        self.bounding, self.permitted = given["bounding"], given["permitted"]
        self.inheritable = given["inheritable"] & self.bounding  # or capset(2) refuses all of them
        self.effective = given["effective"] & self.permitted
        self.ambient = given["ambient"] & self.permitted & self.inheritable
        self.late = CAP_SYS_ADMIN if seccomp and not process.get("noNewPrivileges") else 0
        lacking = 0
        for bits in asked.values():
            lacking |= bits & ~grantable
        self.warnings = [
            f"/process/capabilities{where}: left out, since {why}: {', '.join(_names(bits))}"
            for where, why, bits in (
                ("", "the runtime itself lacks them", lacking),
                ("/effective", "`permitted` lacks them", given["effective"] & ~self.effective),
                ("/inheritable", "`bounding` lacks them", given["inheritable"] & ~self.inheritable),
            )
            if bits
        ]
        why = "`permitted` or `inheritable` lacks it"
        self.warnings.extend(
            f"/process/capabilities/ambient: can't raise ambient capability {name}: {why}"
            for name in _names(given["ambient"] & ~self.ambient)
        )

    def apply(self, where: str, *, effective: int = 0, permitted: int = 0) -> "ChildOp":
        """Set the effective, permitted and inheritable sets, with these capabilities added."""
        return verbs.SetCapabilities(
            where,
            effective=self.effective | effective,
            permitted=self.permitted | permitted,
            inheritable=self.inheritable,
        )


class Groups:
    """Supplementary groups: those of the config, or the runtime's own if `kept`.

    The runtime keeps its own if the user namespace denies setgroups (user_namespaces(7)). It also does so if crun's
    annotation asks for it and `host` has no power over groups of the host. An annotation may come from an image, and
    an image must not get root's groups. `part` shows an annotation that is ignored.

    Raises ConfigError if the config asks for groups and the user namespace does not allow them.
    """

    __slots__ = ("gids", "kept", "part")

    def __init__(self, process: "Process", host: "Host", *, allowed: bool, annotations: "dict[str, str]") -> None:
        self.gids: list[int] = process.get("user", {}).get("additionalGids", [])
        wanted = annotations.get(KEEP_GROUPS) == "1"
        self.part = Part()
        if wanted and host.holds_groups:
            self.part = ignore(KEEP_GROUPS, "1", "a runtime that runs as root does not pass on its groups")
        self.kept = not allowed or (wanted and not host.holds_groups)
        if self.gids and not allowed:
            text = "cannot set supplementary groups: the user namespace denies it (user_namespaces(7), setgroups)"
            raise ConfigError([Problem("/process/user/additionalGids", text)])


def become_container_user(
    process: "Process",
    env: "list[str]",
    capabilities: Capabilities,
    groups: Groups,
    preserve_fds: int,
    *,
    outside_pids: bool = False,
) -> "Iterator[ChildOp]":
    """Turn the process into the container's user, and find the program. create and exec both do this.

    The order keeps each step permitted: bounding set, groups, working directory, ids, capability sets. The process
    closes every directory of the host before it enters the working directory and looks up the program. So no path leads
    out through /proc/self/fd. Create reports a program that the user may not execute, because engines expect that.
    `outside_pids`: this process only clones the program's process, and is not in the container's pid namespace.
    """
    user = process.get("user", {})
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    if variable(env, "HOME") is None:
        yield verbs.SetHome("/process/env", uid=uid)
    if not process.get("terminal"):
        yield verbs.ChownStdio("/process/user/uid", uid=uid)
    if process.get("noNewPrivileges"):
        yield verbs.SetNoNewPrivs("/process/noNewPrivileges")
    yield verbs.DropBounding("/process/capabilities/bounding", keep=capabilities.bounding)
    if not groups.kept:
        yield verbs.SetGroups("/process/user/additionalGids", gids=pack_groups(groups.gids))
    yield verbs.CloseFds(first=3 + preserve_fds)
    # before the ids: a user may have a working directory that only root can enter, such as /root
    yield verbs.Chdir("/process/cwd", path=process["cwd"], uid=uid, gid=gid)
    yield verbs.SetIds("/process/user", uid=uid, gid=gid)
    yield capabilities.apply("/process/capabilities", permitted=capabilities.late)
    yield verbs.SetAmbient("/process/capabilities/ambient", ambient=capabilities.ambient)
    yield verbs.FindProgram(
        "/process/args/0",
        name=process["args"][0],
        search=variable(env, "PATH") or "",
        outside_pids=outside_pids,
    )


def pack_groups(groups: "list[int]") -> bytes:
    """Pack group ids as setgroups(2) expects them."""
    return b"".join(gid.to_bytes(4, sys.byteorder) for gid in groups)


def environment(process: "Process", more: "Sequence[str]" = ()) -> "list[str]":
    """Return `process.env` and `more`. Of entries with the same name it keeps the last, because programs differ here.

    It drops an empty HOME, as runc and crun do.
    """
    last: dict[str, str] = {}
    for entry in (*process.get("env", ()), *more):
        name = entry.partition("=")[0]
        last.pop(name, None)
        last[name] = entry
    if last.get("HOME") == "HOME=":
        del last["HOME"]
    return list(last.values())


def variable(env: "list[str]", name: str) -> "str | None":
    """Return the value of a variable in `env`, or None."""
    prefix = name + "="
    for entry in env:
        if entry.startswith(prefix):
            return entry[len(prefix) :]
    return None


def start(
    process: "Process",
    env: "list[str]",
    hooks: "list[ChildOp]",
    seccomp: "Filter | None",
    capabilities: Capabilities,
    limits: "list[ChildOp]",
) -> "Iterator[ChildOp]":
    """Go from the created container to its program. Only `hooks` and execve run under the seccomp filter.

    The child sets `limits` itself, after the runtime has set its own.
    """
    yield verbs.Sync(point=READY)
    yield verbs.SetPdeathsig(signal=0)
    yield from limits
    yield verbs.Sync(point=CREATED)
    yield verbs.WaitStart()
    yield from enter_program(process, env, hooks, seccomp, capabilities)


def settled_start(
    process: "Process",
    env: "list[str]",
    hooks: "list[ChildOp]",
    seccomp: "Filter | None",
    capabilities: Capabilities,
    limits: "list[ChildOp]",
) -> "tuple[list[ChildOp], list[ChildOp]]":
    """Do what `start` does for a process that other programs can see as soon as it exists.

    Returns the operations of the process that clones it, and its own. The cloning process loads the seccomp filter if
    the filter admits the rest of the setup.
    """
    early = seccomp is not None and _native.admits_setup(
        seccomp.program, bool(capabilities.late), bool(process.get("terminal")), True, bool(limits)
    )
    before: list[ChildOp] = [set_umask(process)]
    if early and seccomp is not None:
        before += load_filter(seccomp, capabilities, quiet=True)
    before.append(verbs.CloneInit("/linux/namespaces", signal=0 if early else SIGKILL, waits=True))
    own: list[ChildOp] = [verbs.Setsid()]
    if process.get("terminal"):
        own.append(verbs.TakeTerminal("/process/terminal"))
    own.append(verbs.Sync(point=READY))
    if not early:
        own.append(verbs.SetPdeathsig(signal=0))
    own += [*limits, verbs.Sync(point=CREATED), verbs.WaitStart()]
    if seccomp is not None and not early:
        own += load_filter(seccomp, capabilities)
    own += [*hooks, exec_program(process, env)]
    return before, own


def without_program(preserve_fds: int, *, settles_first: bool) -> "tuple[list[ChildOp], list[ChildOp]]":
    """Do what `start` does for a container without `process`. `pyoci start` reports that it has no program."""
    close = verbs.CloseFds(first=3 + preserve_fds)
    before: list[ChildOp] = []
    own: list[ChildOp] = []
    if settles_first:
        before = [verbs.DropBounding("/process", keep=0), close, verbs.SetCapabilities("/process")]
        before.append(verbs.CloneInit("/linux/namespaces", signal=SIGKILL, waits=True))
        own.append(verbs.Setsid())
    own += [verbs.Sync(point=READY), verbs.SetPdeathsig(signal=0)]
    if not settles_first:
        own.append(close)
    return before, [*own, verbs.Sync(point=CREATED), verbs.WaitStart()]


def personality(linux: "Linux") -> "Iterator[ChildOp]":
    """Set `linux.personality`, which applies to every process of the container."""
    if linux.get("personality"):
        domain = linux["personality"]["domain"]
        yield verbs.SetPersonality("/linux/personality/domain", name=domain, personality=PERSONALITIES[domain])


def hand_over(process: "Process", *, pidfd_socket: bool) -> "Iterator[ParentOp]":
    """Send the terminal and the pidfd of a process that is ready to the engine."""
    if process.get("terminal"):
        yield verbs.SendConsole("/process/terminal")
    if pidfd_socket:
        yield verbs.SendPidfd()


def limits_and_priorities(process: "Process", linux: "Linux", host: "Host") -> Part:
    """Set memory policy, priorities and limits of a process that is ready.

    The runtime sets what its capabilities permit. The child does the rest itself, because any process may lower its own
    limits.
    """
    child: list[ChildOp] = []
    if linux.get("memoryPolicy"):
        from pyoci.compiler import memory_policy  # most containers have none

        child.append(memory_policy.set_memory_policy(linux["memoryPolicy"]))
    by_runtime: list[ParentOp] = []
    if host.capabilities & CAP_SYS_NICE and not host.user_namespace:
        by_runtime += map(verbs.by_runtime, priorities(process))
    else:
        child += priorities(process)
    if host.capabilities & CAP_SYS_RESOURCE:
        by_runtime += map(verbs.by_runtime, rlimits(process))
    else:
        child += rlimits(process)
    return Part(child, at={READY: by_runtime})


def check_labels(process: "Process", mount_label: str, host: "Host") -> None:
    """Raise ConfigError for a label that no security module would enforce."""
    labels = (
        (process.get("apparmorProfile"), host.apparmor, "/process/apparmorProfile", "an AppArmor profile", "AppArmor"),
        (process.get("selinuxLabel"), host.selinux, "/process/selinuxLabel", "an SELinux label", "SELinux"),
        (mount_label, host.selinux, "/linux/mountLabel", "a mount label", "SELinux"),
    )
    problems = [
        Problem(where, f"cannot apply {what}: {module} is not enabled on this host")
        for label, enabled, where, what, module in labels
        if label and not enabled
    ]
    if problems:
        raise ConfigError(problems)


def enter_program(
    process: "Process",
    env: "list[str]",
    hooks: "list[ChildOp]",
    seccomp: "Filter | None",
    capabilities: Capabilities,
) -> "Iterator[ChildOp]":
    """Set the umask, load the filter, run `hooks`, and execute the program."""
    yield set_umask(process)
    if seccomp is not None:
        yield from load_filter(seccomp, capabilities)
    yield from hooks
    yield exec_program(process, env)


def set_umask(process: "Process") -> "ChildOp":
    """Set `user.umask`, or without one the caller's umask."""
    return verbs.SetUmask("/process/user/umask", umask=process.get("user", {}).get("umask", -1))


def exec_program(process: "Process", env: "list[str]") -> "ChildOp":
    """Execute the program. This is the last operation of a plan."""
    return verbs.Exec("/process/args", argv=process["args"], envp=env)


def load_filter(seccomp: "Filter", capabilities: Capabilities, *, quiet: bool = False) -> "Iterator[ChildOp]":
    """Load the filter, and drop the capability that loading needs. `quiet`: more than hooks and execve follows."""
    lacking = capabilities.late & ~capabilities.effective
    if lacking:
        yield capabilities.apply("/linux/seccomp", effective=lacking, permitted=lacking)
    where, flags = "/linux/seccomp", seccomp.flags
    if seccomp.is_compiled:
        yield verbs.LoadSeccomp(
            where,
            program=seccomp.program,
            seccomp_flags=flags,
            quiet=quiet,
            filter=seccomp,
        )
    else:
        yield verbs.LoadSeccomp(where, seccomp_flags=flags, file=FILTER, quiet=quiet, filter=seccomp)
    if lacking:
        yield capabilities.apply("/process/capabilities")


__all__ = [
    "Capabilities",
    "Groups",
    "become_container_user",
    "check_labels",
    "console",
    "early_keyring",
    "enter_program",
    "environment",
    "exec_program",
    "labelled_keyring",
    "limits_and_priorities",
    "load_filter",
    "mask",
    "priorities",
    "rlimits",
    "security_labels",
    "set_umask",
    "settled_start",
    "start",
    "variable",
]
