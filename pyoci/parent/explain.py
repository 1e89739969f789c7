"""From (operation, step, errno) to a sentence: what failed, on what, why, and what to do about it.

Engines look for some of these texts and map them to exit statuses (126, 127); they are marked "contract".
"""

import errno

from pyoci import _native
from pyoci.compiler.mounts import idmap_where, option_where
from pyoci.compiler.operations import CLONES, SYNC_NAMES, TARGET_REAL, Op
from pyoci.errors import HookError, PyociError, SetupError, reason
from pyoci.host.hooks import failure, unstarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOOK_TIMED_OUT = 1 << 30

# Checks of the executor that are no system call.
_CHECKS = {
    "changed": "it was replaced by something else in the meantime",
    "target-is-root": "the destination is the container's root",
    "target-in-proc": "the destination lies on procfs, which nothing may cover",
    "not-proc": "only the root of a procfs may be mounted on /proc",
    "other-node": "something else exists at this path",
    "not-devpts": "the container's /dev/pts is not a devpts",
    "outside": "it lies outside of the container's root",
    "caps-differ": "the kernel did not grant exactly these sets",
    "nodes-differ": "the kernel did not take all of these nodes",
    "too-deep": "the directory tree is too deep",
    "label-differs": "the kernel did not take exactly this label",
    "unknown-verb": "the executor does not know this operation",
}

# What a security module says of a label that it does not know.
_UNKNOWN_LABEL = {
    ("/process/apparmorProfile", errno.ENOENT): "no such profile is loaded",
    ("/process/selinuxLabel", errno.EINVAL): "the loaded policy does not know it",
    ("/linux/mountLabel", errno.EINVAL): "the loaded policy does not know the label",
}


def explain(config: "dict[str, Any]", op: Op, step_number: int, error: int, detail: int, payload: bytes) -> PyociError:
    """The error for a failed operation of the child."""
    step = _native.STEPS[step_number]
    if op.verb == "run_hook":
        return _hook(op, step, error, detail, payload)
    if op.verb in ("find_program", "exec"):
        return _program(config, op, step, error, detail, payload)
    if op.verb == "chdir":
        why = _CHECKS.get(step) or reason(error)
        return SetupError(f'chdir to cwd ("{op.s1}") set in config.json failed: {why}', where=op.where)  # contract
    where = op.where
    if op.verb in ("mount", "remount") and step == "fsconfig":
        where = option_where(config, op, detail)
    if op.verb == "mount" and step == "mount_setattr":
        where = idmap_where(config, op) or op.where
    why = _CHECKS.get(step) or (reason(error) if _like_the_runtime(op, step) else f"{step}: {reason(error)}")
    if step in ("write", "fsconfig", "fsetxattr"):
        why = unknown_label(where, error) or why
    if payload and op.verb in ("mount", "remount"):
        why += f" ({_kernel_message(payload)})"
    hint = _hint(op, step, error, detail)
    if op.verb == "mount" and step == "fsconfig" and not payload and 0 < detail <= len(op.options):
        hint = f"the option is {op.options[detail - 1]}"
    if step == "mount":
        hint = hint or "the kernel's log may say more: its options are too long for fsconfig, which tells the reason"
    return SetupError(f"cannot {describe(op)}: {why}", where=where, hint=hint)


NO_ROOM = "the cgroup, one above it or the user may not have more processes: pids.max, RLIMIT_NPROC"


def no_clone(op: Op, process: str, step_number: int, error: int) -> SetupError:
    """The error for a bootstrap process that can't clone `process`."""
    step = _native.STEPS[step_number]
    why = _CHECKS.get(step) or f"{step}: {reason(error)}"
    return SetupError(f"cannot clone {process}: {why}", where=op.where, hint=NO_ROOM if error == errno.EAGAIN else "")


def _like_the_runtime(op: Op, step: str) -> bool:
    """Whether it is something that the runtime does itself if it may: the words are the same, whoever it was."""
    return step in ("", "prlimit", "sched_setattr", "ioprio_set") or op.verb in CLONES.values()


def unknown_label(where: str, error: int) -> str:
    """What an error says of a label, "" if it is about something else."""
    return _UNKNOWN_LABEL.get((where, error), "")


def _kernel_message(payload: bytes) -> str:
    """What a filesystem said of its options: lines that begin with `e `, `w ` or `i `."""
    lines = payload.decode("utf-8", "backslashreplace").strip().split("\n")
    return "; ".join(line[2:] if line[1:2] == " " else line for line in lines)


def _hook(op: Op, step: str, error: int, detail: int, payload: bytes) -> HookError:
    if step == "waitpid":
        return failure(
            op.where,
            op.s1,
            detail & ~HOOK_TIMED_OUT,
            timed_out=bool(detail & HOOK_TIMED_OUT),
            timeout_ms=op.c,
            output=payload,
        )
    return unstarted(op.where, op.s1, error)


def _program(config: "dict[str, Any]", op: Op, step: str, error: int, detail: int, payload: bytes) -> SetupError:
    """Texts of the contract: `executable file not found in $PATH`, `permission denied`, `is a directory`, `no such
    file…`.
    """
    name = config["process"]["args"][0]
    why, hint = reason(error), ""
    if step == "interpreter":
        interpreter, _, file = payload.decode("utf-8", "backslashreplace").partition("\0")
        what = "`#!` interpreter" if detail == FILE_SCRIPT else "ELF loader"
        why = f"cannot be executed without its {what} {interpreter}: {why}"
        hint = _interpreter_hint(interpreter, file, detail)
    elif step == "not-found" and "/" not in name and error in (errno.ENOENT, errno.ENOTDIR):
        why = "executable file not found in $PATH"
        hint = f"it is {op.s2}" if op.s2 else "process.env has none"
    elif step == "not-found":
        why = f"stat {name}: {why}"
    elif step == "not-executable":
        user = config["process"].get("user", {}).get("uid", 0)
        hint = _mode_hint(payload.decode("utf-8", "backslashreplace"), detail, user)
    elif step == "execve" and error == errno.ENOEXEC:
        hint = _format_hint(detail)
    return SetupError(f'exec: "{name}": {why}', where="/process/args/0", hint=hint)


def _interpreter_hint(interpreter: str, file: str, kind: int) -> str:
    if kind == FILE_SCRIPT and interpreter.endswith("\r"):
        return f"the first line of {file} ends with a carriage return, as on Windows"
    if kind == FILE_SCRIPT:
        return f"the first line of {file} names it"
    return f"{file} is linked dynamically, and was made for another root filesystem"


def _mode_hint(path: str, mode: int, user: int) -> str:
    """Why a file may not be executed."""
    if mode & 0o170000 != 0o100000:
        return f"{path} is no regular file"
    if mode & ON_NOEXEC_MOUNT:
        return f"{path} lies on a mount with the option noexec"
    if mode & 0o111:
        return f"{path} has mode {mode & 0o7777:04o}, and the program's user is {user}"
    return f"{path} has mode {mode & 0o7777:04o}: nobody may execute it"


def _format_hint(kind: int) -> str:
    """Why execve did not know what to do with a file."""
    if kind & 0xFF == FILE_FOREIGN_ELF:
        return f"the program was made for {_MACHINES.get(kind >> 8, f'ELF machine {kind >> 8}')}"
    return _FORMATS.get(kind & 0xFF, "")


# The executor's FILE_*: what the first bytes of a program tell.
FILE_SCRIPT, FILE_ELF, FILE_FOREIGN_ELF, FILE_PLAIN, FILE_EMPTY = 1, 2, 3, 4, 5
ON_NOEXEC_MOUNT = 1 << 16
_FORMATS = {
    FILE_SCRIPT: "its `#!` line names no interpreter",
    FILE_ELF: "its ELF header is broken, or this kernel runs no programs of this class",
    FILE_PLAIN: "it is neither a program for this machine nor a script with a `#!` line",
    FILE_EMPTY: "the file is empty",
}
_MACHINES = {
    3: "i386", 8: "MIPS", 20: "PowerPC", 21: "ppc64", 22: "s390x", 40: "ARM", 62: "x86_64", 183: "aarch64",
    243: "RISC-V", 258: "LoongArch",
}  # fmt: skip


def describe(op: Op) -> str:
    """The operation as `<verb> <object>`."""
    s1, s2, s3 = op.s1, op.s2, op.s3
    if op.verb == "bind_mount":
        return f"bind {s2} on {s1}"
    if op.verb == "mount":
        return f"mount {s1} on {s3}"
    if op.verb in ("mknod", "bind_device"):
        return f"make device {s1}"
    if op.verb == "symlink":
        return f"link {s2} to {s1}"
    if op.verb == "sync":
        return f"synchronise at {SYNC_NAMES[op.a]}"
    if op.verb == "write_sysctl":
        return f"write {s2!r} to /proc/{s1}"
    if op.verb == "open_proc":
        return f"open the procfs at {s1}" if s1 else "mount a private procfs"
    if op.verb in ("write_attr", "label_mount"):
        return _label(op)
    if op.verb in ("join_namespace", "open_namespace"):
        return f"join the {s2 or s1} namespace"
    if op.verb == "attach_rootfs":
        return f"attach the root filesystem on {s1}"
    if op.verb in _PHRASES:
        return _PHRASES[op.verb].replace("{}", s1)
    verb = op.verb.replace("_", " ")
    return f"{verb} {s1}" if s1 else verb


def _label(op: Op) -> str:
    if op.verb == "label_mount":
        return f"give {op.s2} the SELinux label `{op.s1}`"
    if op.where == "/process/apparmorProfile":
        return f"apply the AppArmor profile `{op.s2.removeprefix('exec ')}`"
    return f"apply the SELinux label `{op.s2}`"


_PHRASES = {
    "clone_rootfs": "use root filesystem {}",
    "clone_tree": "use mount source {}",
    "clone_device": "bind device {}",
    "set_hostname": "set hostname {}",
    "set_domainname": "set domainname {}",
    "mask_path": "mask {}",
    "readonly_path": "make {} read-only",
    "make_directory": "make directory {}",
    "remount": "remount {}",
    "set_propagation": "change mount propagation {}",
    "set_mount_attributes": "make the mount read-only",
    "pivot_root": "pivot to the root filesystem",
    "enter_root": "enter the root filesystem",
    "move_root": "move to the root filesystem",
    "open_console": "open a terminal",
    "mount_console": "set up /dev/console",
    "lo_up": "bring loopback up",
    "set_groups": "set supplementary groups",
    "set_scheduler": "set scheduling policy {}",
    "set_io_priority": "set I/O priority {}",
    "set_memory_policy": "set memory policy {}",
    "set_rlimit": "set {}",
    "set_ids": "change user and group",
    "become_root": "become root of the user namespace",
    "set_capabilities": "set capabilities",
    "set_ambient": "raise ambient capabilities",
    "drop_bounding": "drop capabilities",
    "load_seccomp": "load the seccomp filter",
    "set_no_new_privs": "set no_new_privs",
    "clone_init": "clone the container's init",
    "unshare": "make the namespaces: {}",
    "open_bundle": "enter bundle {} in the container's mount namespace",
    "open_devices": "clone the container's devices",
    "make_mask_directory": "make a tmpfs with the SELinux label `{}`",
    "set_personality": "set personality {}",
}


def priority_hint(op: Op, error: int) -> str:
    """What a refusal of sched_setattr or ioprio_set may come from: sched(7), ioprio_set(2)."""
    if error == errno.EPERM:
        return "it takes CAP_SYS_NICE of the initial user namespace" + _ALSO.get(op.s1, "")
    return {
        errno.EBUSY: "there is not so much processor time left for SCHED_DEADLINE",
        errno.EOPNOTSUPP: "this kernel can't clamp utilization (CONFIG_UCLAMP_TASK)",
    }.get(error, "")


_NO_REALTIME = ", and a kernel with CONFIG_RT_GROUP_SCHED has no real time for a cgroup of version 2"
_ALSO = {
    "SCHED_FIFO": _NO_REALTIME,
    "SCHED_RR": _NO_REALTIME,
    "SCHED_DEADLINE": ", and all processors of the host in cpuset.cpus",
}


_PROCESS_HINTS = {
    ("set_ids", errno.EINVAL): "the id is not mapped in the user namespace",
    ("set_groups", errno.EINVAL): "the id is not mapped in the user namespace",
    ("set_rlimit", errno.EPERM): "raising a hard limit needs CAP_SYS_RESOURCE",
    ("set_memory_policy", errno.EINVAL): (
        "a node has no memory or is not in cpuset.mems, or the kernel does not know this mode or flag"
    ),
    ("set_memory_policy", errno.ENOSYS): "this kernel was built without NUMA",
}


def _hint(op: Op, step: str, error: int, detail: int) -> str:
    if op.verb in CLONES.values():
        return clone_hint(op, error)
    if step == "fsopen" and error == errno.ENODEV:
        return f"this kernel has no filesystem of type {op.s1}"
    if op.verb in ("mount", "bind_mount") and (hint := _mount_hint(op, step, error)):
        return hint
    if op.verb in ("set_scheduler", "set_io_priority"):
        return priority_hint(op, error)
    if op.verb in ("write_sysctl", "write_attr") and step == "openat2" and error == errno.EXDEV:
        return "something is mounted over it, or over a folder on the way to it"
    if (op.verb, error) in _PROCESS_HINTS:
        return _PROCESS_HINTS[op.verb, error]
    if step == "move_mount" and error == errno.ENOTDIR and op.verb in ("bind_mount", "mount"):
        if op.verb == "bind_mount" and detail:
            return f"{op.s2} is a file, and {op.s1} of the container a directory"
        what, target = (op.s2, op.s1) if op.verb == "bind_mount" else (f"a new {op.s1}", op.s3)
        # not the other way round: engines take `is a directory` for a program that is one
        return f"{target} of the container is a file, and {what} a directory"
    if step == "mkdirat" and error == errno.EROFS:
        return "the mount point is missing and the filesystem is read-only"
    if step in ("mkdirat", "openat") and error == errno.EEXIST:
        return "a dangling symlink is in the way"
    if op.verb == "set_no_new_privs" or (op.verb == "load_seccomp" and error == errno.EINVAL):
        return "the kernel does not know a flag or action of the filter"
    return ""


def _mount_hint(op: Op, step: str, error: int) -> str:
    if op.flags & TARGET_REAL and step == "openat2" and error == errno.ELOOP:
        return "it must be mounted on ordinary directory, through no symlink"
    if op.s1 == "sysfs" and op.verb == "mount" and error == errno.EPERM:
        return "sysfs needs a network namespace of the container's own"
    return idmap_hint(error) if step == "mount_setattr" and (op.d or op.verb == "bind_mount") else ""


def clone_hint(op: Op, error: int) -> str:
    """Why a mount of the host can't be cloned, or not with these attributes."""
    if error == errno.EINVAL and not op.flags & 1:
        return "in a user namespace, what has mounts below it can be bound with them only: rbind"
    if error != errno.EPERM:
        return ""
    if op.b or op.c or op.d:
        return "what the host has set of ro, nosuid, nodev, noexec and the access times is locked in a user namespace"
    return "it takes a mount namespace of one's own user namespace"


def idmap_hint(error: int) -> str:
    """Why the kernel does not give a mount an id mapping."""
    if error == errno.EINVAL:
        return "its filesystem can't be idmapped: ext4, xfs and btrfs can, tmpfs since Linux 6.3"
    if error == errno.EPERM:
        return "a mount gets one mapping only, not the host's, and of a filesystem that the runtime has power over"
    return ""
