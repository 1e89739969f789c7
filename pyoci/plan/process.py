"""`process` → operations: terminal, limits, credentials, the program. The order is the point of this module.

Implements config.md "Process". Everything that can fail for a reason in the config happens before `wait_start`, in create: the
program is looked up and the working directory entered as the container's user. The seccomp filter is loaded as late
as the kernel allows, so that a profile need not permit what the runtime does; without noNewPrivileges that takes
CAP_SYS_ADMIN, which is kept, permitted only, until then.
"""

from pyoci.plan.operations import CONSOLE, CREATED, READY, START_STATE, Op, sync
from pyoci.config.names import CAPABILITIES, RLIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.plan.operations import Plan
    from pyoci.plan.seccomp import Filter

CAP_SYS_ADMIN = 1 << 21
PERSONALITIES = {"LINUX": 0, "LINUX32": 8}


def mask(names: "list[str]") -> int:
    """Capability names as a bit mask; unknown names have been warned about and are left out."""
    bits = 0
    for name in names:
        if name in CAPABILITIES:
            bits |= 1 << CAPABILITIES[name]
    return bits


def console(process: "dict[str, Any]") -> "Iterator[Op]":
    """The container's terminal, made in its own devpts; the runtime takes the master and sends it on."""
    if not process.get("terminal"):
        return
    size = process.get("consoleSize", {})
    uid = process.get("user", {}).get("uid", 0)
    yield Op("open_console", "/process/terminal", a=CONSOLE, b=size.get("height", 0), c=size.get("width", 0), d=uid)
    yield Op("mount_console", "/process/terminal")


def security_labels(process: "dict[str, Any]") -> "Iterator[Op]":
    """LSM labels, which take effect at the next execve of this very process."""
    profile = process.get("apparmorProfile")
    if profile:
        value = f"exec {profile}"
        yield Op("write_attr", "/process/apparmorProfile", "thread-self/attr/apparmor/exec", value, a=len(value.encode()))
    label = process.get("selinuxLabel")
    if label:
        for attribute in ("exec", "keycreate"):
            yield Op("write_attr", "/process/selinuxLabel", f"thread-self/attr/{attribute}", label, a=len(label.encode()))


def rlimits(process: "dict[str, Any]") -> "Iterator[Op]":
    """Set by the runtime, which may have the privilege to raise them, once the child has opened all it needs."""
    for index, limit in enumerate(process.get("rlimits", ())):
        where = f"/process/rlimits/{index}"
        yield Op("prlimit", where, limit["type"], a=RLIMITS[limit["type"]], b=limit["soft"], c=limit["hard"])


def credentials(process: "dict[str, Any]", bounded: int, seccomp: bool) -> "Iterator[Op]":
    """Bounding set, groups, ids, working directory, capability sets: the order of which each is still allowed.

    `bounded` is the mask of what can be granted at all.
    """
    capabilities = process.get("capabilities", {})
    user = process.get("user", {})
    sets = {name: mask(capabilities.get(name, [])) & bounded for name in _SETS}
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    late = CAP_SYS_ADMIN if seccomp and not process.get("noNewPrivileges") else 0
    if process.get("noNewPrivileges"):
        yield Op("set_no_new_privs", "/process/noNewPrivileges")
    yield Op("drop_bounding", "/process/capabilities/bounding", a=sets["bounding"])
    groups = user.get("additionalGids", [])
    yield Op("set_groups", "/process/user/additionalGids", pack_groups(groups), a=len(groups))
    yield Op("set_ids", "/process/user", a=uid, b=gid)
    yield Op(
        "set_capabilities", "/process/capabilities", a=sets["effective"] & sets["permitted"], b=sets["permitted"] | late,
        c=sets["inheritable"],
    )  # fmt: skip
    yield Op("set_ambient", "/process/capabilities/ambient", a=sets["ambient"] & sets["permitted"] & sets["inheritable"])


_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def pack_groups(groups: "list[int]") -> bytes:
    """Group ids as setgroups(2) takes them."""
    return b"".join(gid.to_bytes(4, "little") for gid in groups)


def environment(process: "dict[str, Any]") -> "list[str]":
    """`process.env` as it is: the last of equal names counts to the program, as with any environ."""
    return list(process.get("env", ()))


def variable(env: "list[str]", name: str) -> "str | None":
    """The value of a variable in `env`, the first one as getenv(3) finds it."""
    prefix = name + "="
    for entry in env:
        if entry.startswith(prefix):
            return entry[len(prefix) :]
    return None


def program(process: "dict[str, Any]", env: "list[str]") -> "Iterator[Op]":
    """The working directory and the program exist and are the user's to use: known in create, as engines need it."""
    yield Op("chdir", "/process/cwd", process["cwd"])
    path = variable(env, "PATH")
    yield Op("find_program", "/process/args/0", process["args"][0], path or "")


def start(
    process: "dict[str, Any]", env: "list[str]", hooks: "list[Op]", program_filter: "Filter | None", preserve_fds: int, bounded: int
) -> "Iterator[Op]":
    """From the created container to its program. Only what `hooks` and execve need happens under the seccomp filter."""
    yield sync(READY)
    yield Op("set_pdeathsig", a=0)
    yield Op("close_fds", a=3 + preserve_fds)
    yield sync(CREATED)
    yield Op("wait_start")
    user = process.get("user", {})
    yield Op("set_umask", "/process/user/umask", a=user.get("umask", -1))
    if program_filter is not None:
        capabilities = process.get("capabilities", {})
        permitted = mask(capabilities.get("permitted", [])) & bounded
        effective = mask(capabilities.get("effective", [])) & permitted
        inheritable = mask(capabilities.get("inheritable", [])) & bounded
        late = not process.get("noNewPrivileges")
        needed = CAP_SYS_ADMIN if late else 0
        if late and not effective & CAP_SYS_ADMIN:
            yield Op("set_capabilities", "/linux/seccomp", a=effective | needed, b=permitted | needed, c=inheritable)
        yield Op(
            "load_seccomp", "/linux/seccomp", program_filter.program, a=len(program_filter.program) // 8, b=program_filter.flags
        )
        if late and not effective & permitted & CAP_SYS_ADMIN:
            yield Op("set_capabilities", "/process/capabilities", a=effective, b=permitted, c=inheritable)
    yield from hooks
    yield Op("exec", "/process/args", argv=process["args"], envp=env)


__all__ = ["START_STATE", "console", "credentials", "environment", "mask", "program", "rlimits", "security_labels", "start", "variable"]
