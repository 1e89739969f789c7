"""Turn (operation, step, errno) into a message: which operation failed, on which object, why, and what may help.

Engines search for some of these texts and map them to exit statuses (126, 127). A comment marks those as "contract".
"""

import errno

from pyoci import _native
from pyoci.compiler import verbs
from pyoci.compiler.verbs.numbers import BLOCK_ERRORS
from pyoci.errors import HookError, PyociError, SetupError, reason
from pyoci.host.hooks import exec_failure, failure
from pyoci.linux import S_IFMT, S_IFREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.compiler.verbs import ChildOp, Op, ParentOp
    from pyoci.types import Process

HOOK_TIMED_OUT = 1 << 30

# Checks of the child that are not system calls.
_CHECKS = {
    "changed": "it was replaced by something else in the meantime",
    "target-is-root": "the destination is the container's root",
    "target-in-proc": "the destination lies on procfs, which nothing may cover",
    "not-proc": "only the root of a procfs may be mounted on /proc",
    "other-node": "something else exists at this path",
    "not-devpts": "the container's /dev/pts is not a devpts",
    "outside": "it lies outside of the container's root",
    "caps-differ": "the kernel did not grant exactly these sets",
    "not-mounted": "nothing is mounted there",
    "nodes-differ": "the kernel did not take all of these nodes",
    "too-deep": "the directory tree is too deep",
    "label-differs": "the kernel did not take exactly this label",
    "unknown-verb": "the child does not know this operation",
}

# The errors of security modules for an unknown label.
_UNKNOWN_LABEL = {
    ("/process/apparmorProfile", errno.ENOENT): "no such profile is loaded",
    ("/process/selinuxLabel", errno.EINVAL): "the loaded policy does not know it",
    ("/linux/mountLabel", errno.EINVAL): "the loaded policy does not know the label",
}


def explain(
    process: "Process | None", op: "ChildOp", step_number: int, error: int, detail: int, payload: bytes
) -> PyociError:
    """Return the error for a failed operation of the child."""
    step = _native.STEPS[step_number]
    if isinstance(op, verbs.RunHook):
        return _hook(op, step, error, detail, payload)
    if process and isinstance(op, verbs.FindProgram | verbs.Exec):
        return _program(process, op, step, error, detail, payload)
    if isinstance(op, verbs.Chdir):
        return SetupError(f"{op.attempt()}: {_CHECKS.get(step) or reason(error)}", where=op.where)  # contract
    where = _pointer(op, step, detail)
    why = _CHECKS.get(step) or (reason(error) if _like_the_runtime(op, step) else f"{step}: {reason(error)}")
    if step in ("write", "fsconfig", "fsetxattr"):
        why = unknown_label(where, error) or why
    hint = _hint(op, step, error, detail)
    if isinstance(op, verbs.Mount | verbs.Remount):
        if payload:
            why += f" ({_kernel_message(payload)})"
        elif step == "fsconfig" and isinstance(op, verbs.Mount) and 0 < detail <= len(op.options):
            hint = f"the option is {op.options[detail - 1]}"
    if step == "mount":
        hint = hint or "the kernel's log may give the reason: only fsconfig reports it, and takes shorter options"
    return SetupError(f"cannot {op.attempt()}: {why}", where=where, hint=hint)


def unreadable(ops: "Sequence[ChildOp]", number: int, index: int, place: int) -> SetupError:
    """Return the error for a plan that the child can't read.

    `number` is the reason's, from 1. `index` is the operation's, and `place` the place of its field; -1 for none.
    """
    why = [*BLOCK_ERRORS.values()][number - 1]
    if 0 <= index < len(ops):
        field = ops[index].field_at(place)
        why = f"operation {index}, {ops[index].verb}{f', field {field}' if field else ''}: {why}"
    return SetupError(f"cannot read the plan: {why}")


def _pointer(op: "ChildOp", step: str, detail: int) -> str:
    """Return the pointer of the option of a filesystem that failed, the `detail`th from 1, or of an id mapping.

    Otherwise return the operation's.
    """
    if isinstance(op, verbs.Mount | verbs.Remount) and step == "fsconfig" and 0 < detail <= len(op.pointers):
        return op.pointers[detail - 1]
    if isinstance(op, verbs.Mount) and step == "mount_setattr":
        return op.idmap_where or op.where
    return op.where


NO_ROOM = "the cgroup, a parent of it or the user has reached a limit of processes: pids.max, RLIMIT_NPROC"
NO_MEMORY = "out of memory? the limit may be too low"
# Why a process can't be cloned, or can't execute the helper. E2BIG: the kernel found no memory for the arguments.
CLONE_HINTS = {errno.EAGAIN: NO_ROOM, errno.ENOMEM: NO_MEMORY, errno.E2BIG: NO_MEMORY}


def no_clone(op: "ChildOp", process: str, step_number: int, error: int) -> SetupError:
    """Return the error for a bootstrap process that can't clone `process`."""
    step = _native.STEPS[step_number]
    why = _CHECKS.get(step) or f"{step}: {reason(error)}"
    return SetupError(f"cannot clone {process}: {why}", where=op.where, hint=CLONE_HINTS.get(error, ""))


def _like_the_runtime(op: "ChildOp", step: str) -> bool:
    """Whether a privileged runtime would do this itself. Its error names no system call, so the child's does not."""
    return step in ("", "prlimit", "sched_setattr", "ioprio_set") or type(op) in _CLONES


_CLONES = (verbs.CloneRootfs, verbs.CloneTree, verbs.CloneDevice)


def unknown_label(where: str, error: int) -> str:
    """Explain the error of a label, or return "" for any other error."""
    return _UNKNOWN_LABEL.get((where, error), "")


def _kernel_message(payload: bytes) -> str:
    """Return a filesystem's messages about its options, without the `e `, `w ` or `i ` that begins each line."""
    lines = payload.decode("utf-8", "backslashreplace").strip().split("\n")
    return "; ".join(line[2:] if line[1:2] == " " else line for line in lines)


def _hook(op: "verbs.RunHook", step: str, error: int, detail: int, payload: bytes) -> HookError:
    if step == "waitpid":
        return failure(
            op.where,
            op.path,
            detail & ~HOOK_TIMED_OUT,
            timed_out=bool(detail & HOOK_TIMED_OUT),
            timeout_ms=op.timeout_ms,
            output=payload,
        )
    return exec_failure(op.where, op.path, error)


def _program(process: "Process", op: "ChildOp", step: str, error: int, detail: int, payload: bytes) -> SetupError:
    """Return the error for a program that can't be found or executed.

    Contract: `executable file not found in $PATH`, `permission denied`, `is a directory`, `no such file…`.
    """
    name = process["args"][0]
    why, hint = reason(error), ""
    if step == "interpreter":
        interpreter, _, file = payload.decode("utf-8", "backslashreplace").partition("\0")
        what = "`#!` interpreter" if detail == FILE_SCRIPT else "ELF loader"
        why = f"cannot be executed without its {what} {interpreter}: {why}"
        hint = _interpreter_hint(interpreter, file, detail)
    elif step == "not-found" and "/" not in name and error in (errno.ENOENT, errno.ENOTDIR):
        why = "executable file not found in $PATH"
        search = op.search if isinstance(op, verbs.FindProgram) else ""
        hint = f"PATH is {search}" if search else "process.env has no PATH"
    elif step == "not-found":
        why = f"stat {name}: {why}"
    elif step == "not-executable":
        user = process.get("user", {}).get("uid", 0)
        hint = _mode_hint(payload.decode("utf-8", "backslashreplace"), detail, user)
    elif step == "execve" and error == errno.ENOEXEC:
        hint = _format_hint(detail)
    return SetupError(f'exec: "{name}": {why}', where="/process/args/0", hint=hint)


def _interpreter_hint(interpreter: str, file: str, kind: int) -> str:
    if kind == FILE_SCRIPT and interpreter.endswith("\r"):
        return f"the first line of {file} ends with a carriage return, as on Windows"
    if kind == FILE_SCRIPT:
        return f"the first line of {file} names it"
    return f"{file} is dynamically linked, and was built for another root filesystem"


def _mode_hint(path: str, mode: int, user: int) -> str:
    """Explain why the user may not execute a file."""
    if mode & S_IFMT != S_IFREG:
        return f"{path} is not a regular file"
    if mode & ON_NOEXEC_MOUNT:
        return f"{path} lies on a mount with the option noexec"
    if mode & 0o111:
        return f"{path} has mode {mode & 0o7777:04o}, and the program's user is {user}"
    return f"{path} has mode {mode & 0o7777:04o}: no user may execute it"


def _format_hint(kind: int) -> str:
    """Explain why execve does not recognise a file, whose kind the child has read from its first bytes."""
    if kind & 0xFF == FILE_FOREIGN_ELF:
        return f"the program was made for {_MACHINES.get(kind >> 8, f'ELF machine {kind >> 8}')}"
    return _FORMATS.get(kind & 0xFF, "")


# FILE_* of native/child/protocol.pxi: the kind of a program's file, by its first bytes.
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


def priority_hint(op: "Op", error: int) -> str:
    """Explain an error of sched_setattr or ioprio_set (sched(7), ioprio_set(2))."""
    if error == errno.EPERM:
        policy = op.policy if isinstance(op, verbs.SetScheduler | verbs.SchedSetattr) else ""
        return "needs CAP_SYS_NICE in the initial user namespace" + _ALSO.get(policy, "")
    return {
        errno.EBUSY: "the host has not enough processor time left for SCHED_DEADLINE",
        errno.EOPNOTSUPP: "this kernel can't clamp utilization (CONFIG_UCLAMP_TASK)",
    }.get(error, "")


_NO_REALTIME = ", and a kernel with CONFIG_RT_GROUP_SCHED gives cgroups of version 2 no real-time processor time"
_ALSO = {
    "SCHED_FIFO": _NO_REALTIME,
    "SCHED_RR": _NO_REALTIME,
    "SCHED_DEADLINE": ", and all processors of the host in cpuset.cpus",
}


_PROCESS_HINTS: "dict[tuple[type[ChildOp], int], str]" = {
    (verbs.SetIds, errno.EINVAL): "the id is not mapped in the user namespace",
    (verbs.SetGroups, errno.EINVAL): "the id is not mapped in the user namespace",
    (verbs.SetRlimit, errno.EPERM): "raising a hard limit needs CAP_SYS_RESOURCE",
    (verbs.SetMemoryPolicy, errno.EINVAL): (
        "a node has no memory or is not in cpuset.mems, or the kernel does not know this mode or flag"
    ),
    (verbs.SetMemoryPolicy, errno.ENOSYS): "this kernel was built without NUMA",
}


def _hint(op: "ChildOp", step: str, error: int, detail: int) -> str:
    if type(op) in _CLONES:
        return clone_hint(op, error)
    if isinstance(op, verbs.Mount | verbs.BindMount) and (hint := _mount_hint(op, step, error, detail)):
        return hint
    if isinstance(op, verbs.SetScheduler | verbs.SetIoPriority):
        return priority_hint(op, error)
    if isinstance(op, verbs.WriteSysctl | verbs.WriteAttr) and step == "openat2" and error == errno.EXDEV:
        return "something is mounted over it, or over a directory on the way to it"
    if (type(op), error) in _PROCESS_HINTS:
        return _PROCESS_HINTS[type(op), error]
    if step == "mkdirat" and error == errno.EROFS:
        return "the mount point is missing and the filesystem is read-only"
    if step in ("mkdirat", "openat") and error == errno.EEXIST:
        return "a dangling symlink is in the way"
    if isinstance(op, verbs.SetNoNewPrivs) or (isinstance(op, verbs.LoadSeccomp) and error == errno.EINVAL):
        return "the kernel does not know a flag or action of the filter"
    return ""


def _mount_hint(op: "verbs.Mount | verbs.BindMount", step: str, error: int, detail: int) -> str:
    if op.target_real and step == "openat2" and error == errno.ELOOP:
        return "it must be mounted on ordinary directory, through no symlink"
    if step == "move_mount" and error == errno.ENOTDIR:
        if isinstance(op, verbs.BindMount) and detail:
            return f"{op.source} is a file, and {op.target} of the container a directory"
        what = op.source if isinstance(op, verbs.BindMount) else f"a new {op.type}"
        # not the other way round: engines take `is a directory` for a program that is one
        return f"{op.target} of the container is a file, and {what} a directory"
    if isinstance(op, verbs.BindMount):
        return idmap_hint(error) if step == "mount_setattr" else ""
    if step == "fsopen" and error == errno.ENODEV:
        return f"this kernel has no filesystem of type {op.type}"
    if op.type == "sysfs" and error == errno.EPERM:
        return "sysfs needs a network namespace of the container's own"
    return idmap_hint(error) if step == "mount_setattr" and op.users else ""


def clone_hint(op: "Op", error: int) -> str:
    """Explain why the kernel does not clone a mount of the host, or not with these attributes."""
    tree = op if isinstance(op, verbs.OpenTree | verbs.CloneTree) else None
    if error == errno.EINVAL and not (tree and tree.recursive):
        return "in a user namespace, a source with mounts below it needs the option rbind"
    if error != errno.EPERM:
        return ""
    if tree and (tree.attr_set or tree.attr_clear or tree.recursive_set or tree.recursive_clear):
        return "a user namespace locks ro, nosuid, nodev, noexec and access times as the host has set them"
    return "needs a mount namespace owned by the caller's user namespace"


def idmap_hint(error: int) -> str:
    """Explain why the kernel does not give a mount an id mapping."""
    if error == errno.EINVAL:
        return "its filesystem can't be idmapped: ext4, xfs and btrfs can, tmpfs since Linux 6.3"
    if error == errno.EPERM:
        return "a mount takes one id mapping, but not the host's, and the runtime must have power over its filesystem"
    return ""


def host_hint(op: "ParentOp", error: OSError) -> str:
    """Return a hint for an operation of the runtime that failed, or ""."""
    if isinstance(op, verbs.SchedSetattr | verbs.IoprioSet):
        return priority_hint(op, error.errno or 0)
    if type(op) is verbs.Prlimit and isinstance(error, PermissionError):
        return "raising a hard limit needs CAP_SYS_RESOURCE"
    if isinstance(op, verbs.WriteOomScoreAdj) and isinstance(error, PermissionError):
        return "lowering it needs CAP_SYS_RESOURCE"
    if isinstance(op, verbs.OpenRootfs | verbs.OpenTree) or type(op) is verbs.OpenDevice:
        return clone_hint(op, error.errno or 0)
    if isinstance(op, verbs.IdmapTree):
        return idmap_hint(error.errno or 0)
    if isinstance(op, verbs.MakeUserNamespace) and error.errno == errno.ENOSPC:
        return "the limit /proc/sys/user/max_user_namespaces is reached"
    return ""
