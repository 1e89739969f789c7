"""Print a plan: one line an operation, numbered and aligned, with the JSON path it came from.

The numbers of the child's operations are the ones that errors name. Parent operations stand where they happen: before
the clone, beside the child, or below the synchronisation point at which the child waits for them.
"""

from pyoci.compiler import memory_policy, mounts, namespaces, process
from pyoci.compiler.devices import OF_CONTAINER
from pyoci.compiler.operations import (
    BORN,
    COPY_UP,
    FIRST_SLOT,
    INHERIT_MODE,
    INIT,
    LEAVE_AS_IT_IS,
    LISTENER,
    ONE_STRING,
    SYNC_NAMES,
    Op,
    Plan,
)
from pyoci.config.constants import CAPABILITIES
from pyoci.config.jsonio import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Row = tuple[str, str, str, str]  # number, verb, object, where

_ATTRIBUTE_NAMES = (
    (1, "RDONLY"), (2, "NOSUID"), (4, "NODEV"), (8, "NOEXEC"), (0x10, "NOATIME"), (0x20, "STRICTATIME"),
    (0x80, "NODIRATIME"), (0x200000, "NOSYMFOLLOW"),
)  # fmt: skip
_PROPAGATION_NAMES = {1 << 17: "UNBINDABLE", 1 << 18: "PRIVATE", 1 << 19: "SLAVE", 1 << 20: "SHARED"}
_SECCOMP_FLAGS = (
    (1, "TSYNC"), (2, "LOG"), (4, "SPEC_ALLOW"), (8, "NEW_LISTENER"), (0x10, "TSYNC_ESRCH"),
    (0x20, "WAIT_KILLABLE_RECV"),
)  # fmt: skip
# Where the runtime acts without being asked.
_POINTS = {"clone_init": INIT, "load_seccomp": LISTENER}
_LONGEST = 64


def text(plan: Plan) -> str:
    """The plan for people. No text of the config begins a line of its own."""
    plan.complete()
    rows = [row if isinstance(row, str) else _on_one_line(row) for row in _rows(plan)]
    widths = [max(len(row[column]) for row in rows if not isinstance(row, str)) for column in range(3)]
    lines: list[str] = []
    for row in rows:
        if isinstance(row, str):
            lines.append(f"\n{row}\n" if lines else f"{row}\n")
            continue
        number, verb, what, where = row
        for part in _wrapped(what):
            line = f"{number:>{widths[0]}}  {verb:<{widths[1]}}  {part:<{min(widths[2], _LONGEST)}}  {where}"
            lines.append(line.rstrip() + "\n")
            number = verb = where = ""
    return "".join(lines)


def _on_one_line(row: "Row") -> "Row":
    number, verb, what, where = row
    return number, verb, what.replace("\n", "\\n"), where.replace("\n", "\\n")


def _wrapped(what: str) -> "list[str]":
    """Lines of at most _LONGEST characters, broken after a comma or a space; a longer word stays whole."""
    lines = [""]
    word = ""
    for character in what:
        word += character
        if character in ", ":
            _put(lines, word)
            word = ""
    _put(lines, word)
    return [line.rstrip() for line in lines]


def _put(lines: "list[str]", word: str) -> None:
    if lines[-1] and len(lines[-1]) + len(word.rstrip()) > _LONGEST:
        if word.strip():
            lines.append(word)
    else:
        lines[-1] += word


def as_json(plan: Plan) -> str:
    """The plan for programs: every operation as an object, in the order of `text`."""
    plan.complete()
    document = {
        "ignored": [_object(op) for op in plan.ignored],
        "cloneFlags": _clone_flags(plan.clone_flags),
        "before": [_object(op) for op in plan.before],
        "meanwhile": [_object(op) for op in plan.meanwhile],
        "bootstrap": [_object(op) for op in plan.bootstrap],
        "init": [_object(op) for op in plan.init],
        "at": {SYNC_NAMES[point]: [_object(op) for op in ops] for point, ops in sorted(plan.at.items())},
        "after": {SYNC_NAMES[point]: [_object(op) for op in ops] for point, ops in sorted(plan.after.items())},
        "poststart": [_object(op) for op in plan.poststart],
        "poststop": [_object(op) for op in plan.poststop],
    }
    return dumps(document, indent=2) + "\n"


def _rows(plan: Plan) -> "Iterator[Row | str]":
    yield from _ignored(plan)
    yield "runtime: before the clone"
    for op in plan.before:
        yield "", op.verb, phrase(op), op.where
    flags = ", ".join(_clone_flags(plan.clone_flags)) or "no new namespaces"
    into = ", into the cgroup" if any(op.verb in ("make_cgroup", "open_container") for op in plan.before) else ""
    held = plan.at.get(BORN, [])
    if held:
        yield f"runtime: clone ({flags}), and before the child does anything"
        for op in held:
            yield "", op.verb, phrase(op), op.where
    else:
        yield f"runtime: clone ({flags}{into}), and meanwhile"
    for op in plan.meanwhile:
        yield "", op.verb, phrase(op), op.where
    index = 0
    if plan.bootstrap:
        yield "bootstrap process"
        for op in plan.bootstrap:
            yield from _child_rows(plan, op, index)
            index += 1
    yield "container's first process"
    for op in plan.init:
        yield from _child_rows(plan, op, index)
        index += 1
    for title, ops in (
        ("runtime: start, when the program runs", plan.poststart),
        ("runtime: delete, when the container is gone", plan.poststop),
    ):
        if ops:
            yield title
        for op in ops:
            yield "", op.verb, phrase(op), op.where


def _ignored(plan: Plan) -> "Iterator[Row | str]":
    if plan.ignored:
        yield "annotations without effect"
    for op in plan.ignored:
        yield "", op.verb, phrase(op), op.where


def _child_rows(plan: Plan, op: Op, index: int) -> "Iterator[Row]":
    yield str(index), op.verb, phrase(op), op.where
    point = _POINTS.get(op.verb, op.a if op.verb in ("sync", "open_console") else BORN)
    for parent in plan.at.get(point, ()) if point != BORN else ():
        yield "", f"  runtime: {parent.verb}", phrase(parent), parent.where
    for parent in plan.after.get(point, ()):
        yield "", f"  meanwhile: {parent.verb}", phrase(parent), parent.where


def _object(op: Op) -> "dict[str, Any]":
    return {"verb": op.verb, "object": phrase(op), "where": op.where}


def phrase(op: Op) -> str:
    """What an operation acts on, with flags by their names."""
    say = _PHRASES.get(op.verb)
    return "".join(_ESCAPES.get(character, character) for character in say(op)) if say else ""


# A config's newline must not look like the plan's.
_ESCAPES = {chr(code): f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {"\n": "\\n", "\t": "\\t"}


def _flags(value: int, names: "tuple[tuple[int, str], ...]") -> str:
    return "|".join(name for bit, name in names if value & bit)


def _clone_flags(flags: int) -> "list[str]":
    return [f"NEW{_NAMESPACE_FLAGS[kind]}" for kind, bit in namespaces.CLONE_FLAGS.items() if flags & bit]


_NAMESPACE_FLAGS = {
    "time": "TIME", "mount": "NS", "cgroup": "CGROUP", "uts": "UTS", "ipc": "IPC", "user": "USER", "pid": "PID",
    "network": "NET",
}  # fmt: skip


def _capabilities(mask: int) -> str:
    """A set as its names, or as what is missing from the full one."""
    names = [name.removeprefix("CAP_") for name, bit in CAPABILITIES.items() if mask >> bit & 1]
    missing = [name.removeprefix("CAP_") for name, bit in CAPABILITIES.items() if not mask >> bit & 1]
    if not names:
        return "none"
    if len(missing) < 4:
        return "all" + (f" but {','.join(missing)}" if missing else "")
    return ",".join(names)


def _attributes(set_: int, clear: int = 0) -> str:
    parts = []
    if set_:
        parts.append(_flags(set_, _ATTRIBUTE_NAMES))
    if clear & ~mounts.ATIME:
        parts.append("-" + _flags(clear & ~mounts.ATIME, _ATTRIBUTE_NAMES))
    return " ".join(parts)


def _mount(op: Op) -> str:
    extra = [*op.options]
    if op.flags & COPY_UP:
        extra.append("tmpcopyup")
    if op.flags & ONE_STRING:
        extra.append("in one string")
    if op.flags & INHERIT_MODE:
        extra.append("mode of the target")
    if op.d:
        extra.append("idmapped")
    text_ = f"{op.s1} → {op.s3}  {_attributes(op.b)}".rstrip()
    return text_ + (f"  ({', '.join(extra)})" if extra else "")


def _open_tree(op: Op) -> str:
    recursive = _attributes(op.d & 0xFFFFFFFF, op.d >> 32)
    attributes = " ".join(
        part for part in (_attributes(op.b, op.c), f"recursively {recursive}" if recursive else "") if part
    )
    what = " with everything below" if op.flags & 1 else ""
    link = ", a symlink as it is" if op.flags & 4 else ""
    return f"{op.s1}{what}{link}  {attributes}".rstrip()


def _make_user_namespace(op: Op) -> str:
    uids, gids = (", ".join(lines.split("\n")[:-1]) for lines in (op.s1, op.s2))
    return f"ids {uids}" if uids == gids else f"uids {uids}; gids {gids}"


def _remount(op: Op) -> str:
    propagation = _PROPAGATION_NAMES.get(op.d & ~mounts.RECURSIVE, "")
    below = "recursively" if op.d & mounts.RECURSIVE else ""
    parts = [below, _attributes(op.b, op.c), propagation, ",".join(op.options)]
    return f"{op.s1}  {' '.join(part for part in parts if part)}".rstrip()


def _set_propagation(op: Op) -> str:
    target = op.s1 if op.a < 0 else "/" if op.a < FIRST_SLOT else "the mount"
    return f"{target}  {_PROPAGATION_NAMES[op.b]}{' recursively' if op.c else ''}"


def _mknod(op: Op) -> str:
    number = "" if op.s2 == "p" else f" {op.b}:{op.c}"
    bound = ", unless it is there" if op.flags & LEAVE_AS_IT_IS else ""
    return f"{op.s1}  {op.s2}{number} mode {op.a & 0o7777:04o} owner {op.d >> 32}:{op.d & 0xFFFFFFFF}{bound}"


def _make_device(op: Op) -> str:
    owner = f"owner {op.d >> 32}:{op.d & 0xFFFFFFFF} of the {'container' if op.flags & OF_CONTAINER else 'host'}"
    return f"{op.s1}  {op.s2} {op.b}:{op.c} mode {op.flags & 0o7777:04o} {owner}"


def _groups(op: Op) -> str:
    groups = [str(int.from_bytes(op.blob[n : n + 4], "little")) for n in range(0, len(op.blob), 4)]
    return " ".join(groups) or "none"


def _set_capabilities(op: Op) -> str:
    return (
        f"effective {_capabilities(op.a)}"
        if op.a == op.b and not op.c
        else (f"effective {_capabilities(op.a)}; permitted {_capabilities(op.b)}; inheritable {_capabilities(op.c)}")
    )


def _hook(op: Op) -> str:
    timeout = f"  (at most {op.c // 1000} s)" if op.c else ""
    return f"{op.s1} {' '.join((op.argv or ())[1:])}".rstrip() + timeout


def _seccomp(op: Op) -> str:
    flags = _flags(op.b, _SECCOMP_FLAGS)
    return f"{op.a} instructions" + (f"  {flags}" if flags else "")


def _scheduler(op: Op) -> str:
    _, _, flags, nice, priority, *times, _, _ = process.SCHED_ATTR.unpack(op.blob)
    words = [op.s1]
    if nice:
        words.append(f"nice {nice}")
    if priority:
        words.append(f"priority {priority}")
    words += [f"{name} {value}" for name, value in zip(("runtime", "deadline", "period"), times, strict=True) if value]
    words += [name.removeprefix("SCHED_FLAG_") for name, bit in process.SCHEDULER_FLAGS.items() if flags & bit]
    return "  ".join(words)


def _io_priority(op: Op) -> str:
    return f"{op.s1}  {op.a & (1 << process.IO_CLASS_SHIFT) - 1}"


def _memory_policy(op: Op) -> str:
    flags = [name.removeprefix("MPOL_F_") for name, bit in memory_policy.FLAGS.items() if op.a & bit]
    nodes = f"nodes {op.s2}" if op.s2 else ""
    return "  ".join(word for word in (op.s1, nodes, *flags) if word)


def _limit(value: int) -> str:
    return "infinity" if value == (1 << 64) - 1 else str(value)


def _id_map(op: Op) -> str:
    return f"{op.s1} = {', '.join(op.s2.split(chr(10))[:-1])}"


def _first(op: Op) -> str:
    return op.s1


_HOW = ("  which exists", "  a new one", "  unless it exists")  # compiler/intel_rdt.py: FIND, MAKE, FIND_OR_MAKE

_PHRASES: "dict[str, Callable[[Op], str]]" = {
    "await_unit": _first,
    "connect_systemd": _first,
    "change_property": lambda op: f"{op.s1} = {op.s2}",
    "attach_device_filter": lambda op: f"{op.a} eBPF instructions",
    "attach_rootfs": _first,
    "bind_device": _first,
    "clone_device": lambda op: f"{op.s1}  {op.s2} {op.b}:{op.c}",
    "clone_rootfs": _first,
    "clone_tree": _open_tree,
    "bind_mount": lambda op: f"{op.s2} → {op.s1}",
    "chdir": _first,
    "chown_cgroup": lambda op: f"uid {op.a}" + (" of the container's user namespace" if op.b else ""),
    "chown_stdio": lambda op: f"uid {op.a}",
    "close_fds": lambda op: f"from {op.a}" + (" but the container's pidfd" if op.b else ""),
    "drop_bounding": lambda op: f"keep {_capabilities(op.a)}",
    "exec": lambda op: " ".join(op.argv or ()),
    "find_program": lambda op: f"{op.s1}" + (f"  in {op.s2}" if "/" not in op.s1 else ""),
    "hide_caller": lambda _: "command line, environment, name",
    "ignore_annotation": lambda op: f"{op.s1}  ({op.s2})",
    "idmap_tree": lambda op: f"{op.s1}{' with everything below' if op.c else ''}",
    "ioprio_set": _io_priority,
    "join_keyring": lambda _: "a new one",
    "join_namespace": _first,
    "join_rdt_group": lambda op: op.s1 + (f" and mon_groups/{op.s2}" if op.s2 else ""),
    "label_mount": lambda op: f"{op.s2} = {op.s1}",
    "load_seccomp": _seccomp,
    "write_filter": _seccomp,
    "make_cgroup": _first,
    "make_device": _make_device,
    "make_device_filesystem": lambda op: "tmpfs" + (f"  (context={op.s1})" if op.s1 else ""),
    "make_directory": _first,
    "make_mask_directory": _first,
    "make_monitoring_group": lambda op: f"mon_groups/{op.s1}",
    "make_rdt_group": lambda op: f"{op.s1}{_HOW[op.a]}",
    "make_user_namespace": _make_user_namespace,
    "mask_path": _first,
    "mknod": _mknod,
    "mount": _mount,
    "move_net_device": lambda op: f"{op.s1} → {op.s2}",
    "open_bundle": _first,
    "open_console": lambda op: f"{op.c}x{op.b}" if op.b or op.c else "",
    "open_container": lambda op: f"{op.s1}: its first process",
    "open_container_root": lambda op: f"{op.s1}: the root of its first process",
    "open_device": lambda op: f"{op.s1}  {op.s2} {op.b}:{op.c}",
    "open_devices": lambda op: f"{op.c} nodes of the runtime's tmpfs",
    "open_host_proc": _first,
    "open_namespace": lambda op: f"{op.s2}  {op.s1}",
    "open_null": _first,
    "open_proc": lambda op: f"the one at {op.s1}" if op.s1 else "",
    "open_rootfs": _first,
    "open_tree": _open_tree,
    "sched_setattr": _scheduler,
    "send_listener": _first,
    "set_io_priority": _io_priority,
    "set_memory_policy": _memory_policy,
    "set_property": lambda op: f"{op.s1} = {op.s2}",
    "set_rlimit": lambda op: f"{op.s1}  soft {_limit(op.b)} hard {_limit(op.c)}",
    "prlimit": lambda op: f"{op.s1}  soft {_limit(op.b)} hard {_limit(op.c)}",
    "raise_own_rlimit": lambda op: f"{op.s1}  soft {_limit(op.b)} hard {_limit(op.c)}",
    "readonly_path": _first,
    "remount": _remount,
    "run_hook": _hook,
    "run_host_hook": _hook,
    "set_affinity": lambda op: f"CPUs {op.s1}",
    "set_ambient": lambda op: _capabilities(op.a),
    "set_capabilities": _set_capabilities,
    "set_domainname": _first,
    "set_dumpable": lambda op: str(op.a),
    "set_groups": _groups,
    "set_home": lambda op: f"from /etc/passwd, uid {op.a}",
    "set_hostname": _first,
    "set_ids": lambda op: f"uid {op.a} gid {op.b}",
    "set_mount_attributes": lambda op: ("/" if op.a < FIRST_SLOT else "the mount") + f"  {_attributes(op.b, op.c)}",
    "set_pdeathsig": lambda op: "KILL" if op.a else "off",
    "set_personality": _first,
    "set_propagation": _set_propagation,
    "set_scheduler": _scheduler,
    "set_umask": lambda op: "the caller's" if op.a < 0 else f"{op.a:04o}",
    "start_unit": lambda op: f"{op.s1} in {op.s2}" + (" of the user's systemd" if op.a else ""),
    "symlink": lambda op: f"{op.s2} → {op.s1}" + (f"  if {op.s3} exists" if op.s3 else ""),
    "sync": lambda op: SYNC_NAMES[op.a],
    "unshare": _first,
    "verify_namespaces": _first,
    "write_attr": lambda op: f"/proc/{op.s1} = {op.s2}",
    "write_cgroup": lambda op: f"{op.s1} = {op.s2}",
    "write_id_maps": _id_map,
    "run_id_mapper": _id_map,
    "write_oom_score_adj": lambda op: str(op.a),
    "write_schemata": _first,
    "write_sysctl": lambda op: f"/proc/{op.s1} = {op.s2}",
    "write_time_offsets": lambda op: op.s1.strip(),
}
