"""The runtime's own operations, one function for each verb.

Each function takes the launch, whose descriptors and processes it uses, and the operation. It raises OSError, which
`Launch` turns into an error with the operation's pointer, or a PyociError. The classes of the verbs have the contracts
(`pyoci.compiler.verbs`).
"""

import errno
import fcntl
import posix

from pyoci import _native, ranges
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.compiler import verbs
from pyoci.compiler.verbs.numbers import (
    BUNDLE,
    FILTER,
    HOOK_STATE,
    NET_DEVICES,
    NOTIFY_DIRECTORY,
)
from pyoci.errors import SetupError
from pyoci.host import files, hooks
from pyoci.linux import (
    CLONE_NEWUSER,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    O_ACCMODE,
    O_PATH,
    S_IFCHR,
    S_IFLNK,
    S_IFMT,
)
from pyoci.parent import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyoci.parent.protocol import Launch


# --- mounts and devices


def open_rootfs(launch: "Launch", op: "verbs.OpenRootfs") -> None:
    try:
        launch.slots[op.tree] = _native.clone_host_rootfs(op.path)
    except NotADirectoryError as error:
        if posix.stat(op.path, follow_symlinks=False).st_mode & S_IFMT != S_IFLNK:
            raise
        raise SetupError(f"cannot {op.attempt()}: it is a symlink", where=op.where) from error


def open_tree(launch: "Launch", op: "verbs.OpenTree") -> None:
    flags = verbs.by_child(op).flags  # the clone has one implementation, for the child and for the runtime
    try:
        launch.slots[op.tree] = _native.clone_host_tree(
            op.path,
            flags,
            op.recursive_set,
            op.recursive_clear,
            op.attr_set,
            op.attr_clear,
            launch.slots[NOTIFY_DIRECTORY],
        )
    except OSError as error:
        if error.strerror != "changed":
            raise
        text = f"cannot {op.attempt()}: it was replaced by something else in the meantime"
        raise SetupError(text, where=op.where) from error


def make_user_namespace(launch: "Launch", op: "verbs.MakeUserNamespace") -> None:
    ours, child_end = _native.channel()
    try:
        pid, pidfd = launch.helper.start(child_end, CLONE_NEWUSER)
    except (OSError, SetupError):
        posix.close(ours)
        raise
    finally:
        posix.close(child_end)
    try:
        files.write(f"/proc/{pid}/uid_map", op.uids.encode("ascii"))
        files.write(f"/proc/{pid}/gid_map", op.gids.encode("ascii"))
        launch.slots[op.namespace] = posix.open(f"/proc/{pid}/ns/user", posix.O_RDONLY | posix.O_CLOEXEC)
    finally:
        posix.close(ours)  # the child waits for its plan, and ends at the end of file
        posix.close(pidfd)
        posix.waitpid(pid, 0)


def idmap_tree(launch: "Launch", op: "verbs.IdmapTree") -> None:
    _native.idmap(launch.slots[op.tree], op.recursive, launch.slots[op.namespace])


def make_device_filesystem(launch: "Launch", op: "verbs.MakeDeviceFilesystem") -> None:
    options = [("source", "devices"), ("mode", "0711")]
    if op.label:
        options.append(("context", op.label))
    try:
        launch.slots[op.filesystem] = _native.new_mount("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
    except OSError as error:
        why = explain.unknown_label(op.where, error.errno or 0)
        if not why:
            raise
        text = f"cannot {op.attempt()} with the SELinux label `{op.label}`: {why}"
        raise SetupError(text, where=op.where) from error


def make_device(launch: "Launch", op: "verbs.MakeDevice") -> None:
    filesystem = launch.slots[op.filesystem]
    uid, gid = op.uid, op.gid
    if op.owner_in_container:
        uid, gid = _owner_on_host(launch, op, "uid", uid), _owner_on_host(launch, op, "gid", gid)
    posix.mknod(op.name, op.mode & S_IFMT, posix.makedev(op.major, op.minor), dir_fd=filesystem)
    posix.chown(op.name, uid, gid, dir_fd=filesystem, follow_symlinks=False)
    posix.chmod(op.name, op.mode & 0o7777, dir_fd=filesystem)


def _owner_on_host(launch: "Launch", op: "verbs.MakeDevice", kind: str, inside: int) -> int:
    """Return the host's id of an owner in a joined user namespace. The child must be in it."""
    try:
        return _host_id(files.read(f"/proc/{launch.pid}/{kind}_map"), inside)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        text = f"cannot set the owner of the device: {kind} {inside} is not mapped in the user namespace that is joined"
        raise SetupError(text, where=op.where) from error


def open_device(launch: "Launch", op: "verbs.OpenDevice") -> None:
    try:
        launch.slots[op.tree] = _native.clone_host_device(op.path, op.kind == "b", op.major, op.minor)
    except OSError as error:
        if error.strerror != "other-node":
            raise
        raise SetupError(
            f"cannot bind device {op.path}: the host's is not {op.kind} {op.major}:{op.minor}",
            where=op.where,
            hint="a user namespace can't make nodes of its own",
        ) from error


# --- namespaces


def open_namespace(launch: "Launch", op: "verbs.OpenNamespace") -> None:
    fd = posix.open(op.path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    launch.slots[op.namespace] = fd
    try:
        kind = _native.namespace_type(fd)
    except OSError as error:
        raise SetupError(f"cannot join {op.path}: not a namespace", where=op.where) from error
    if kind != op.flag:
        raise SetupError(f"cannot join {op.path}: not a {op.kind} namespace", where=op.where)
    if op.must_differ and _is_own_namespace(fd, op.kind):
        what = "set a kernel parameter of" if op.must_differ.startswith("/linux/sysctl") else "move network devices to"
        raise SetupError(f"cannot {what} {op.path}: it is the host's {op.kind} namespace", where=op.must_differ)


def _is_own_namespace(fd: int, kind: str) -> bool:
    """Whether `fd` is the namespace that the runtime itself is in."""
    name = {"network": "net"}.get(kind, kind)
    its, ours = posix.fstat(fd), posix.stat(f"/proc/self/ns/{name}")
    return (its.st_dev, its.st_ino) == (ours.st_dev, ours.st_ino)


def open_host_proc(launch: "Launch", op: "verbs.OpenHostProc") -> None:
    launch.slots[op.tree] = posix.open(op.path, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)


def write_id_maps(launch: "Launch", op: "verbs.WriteIdMaps") -> None:
    files.write(f"/proc/{launch.pid}/{op.name}", op.lines.encode("ascii"))


def deny_setgroups(launch: "Launch", _op: "verbs.DenySetgroups") -> None:
    files.write(f"/proc/{launch.pid}/setgroups", b"deny")


def run_id_mapper(launch: "Launch", op: "verbs.RunIdMapper") -> None:
    from pyoci.host import newidmap  # only an unprivileged runtime needs it

    newidmap.run(op, launch.pid)


def write_time_offsets(launch: "Launch", op: "verbs.WriteTimeOffsets") -> None:
    files.write(f"/proc/{launch.pid}/timens_offsets", op.line.encode("ascii"))


def move_net_device(launch: "Launch", op: "verbs.MoveNetDevice") -> None:
    ops = [other for other in launch.plan.at[NET_DEVICES] if isinstance(other, verbs.MoveNetDevice)]
    if op is not ops[0]:
        return  # the first operation has moved them all
    from pyoci.host import net_devices  # most containers have none

    # Kept open until the container is created. Otherwise a device would vanish with its namespace before `abort` can
    # bring it back.
    if launch.network < 0:
        launch.network = posix.open(f"/proc/{launch.pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    launch.moved_devices = net_devices.move(ops, launch.network)


def set_up_network(launch: "Launch", op: "verbs.SetUpNetwork") -> None:
    from pyoci.host import net_devices

    launch.network = posix.open(f"/proc/{launch.pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    net_devices.set_up(op.parameters, launch.network)


def _host_id(id_map: bytes, inside: int) -> int:
    """Return the runtime's id for an id of a user namespace, by its uid_map. Raises OSError if it is not mapped."""
    for line in id_map.splitlines():
        first, outside, count = map(int, line.split())
        if first <= inside < first + count:
            return outside + inside - first
    raise OSError(errno.EINVAL, "")


# --- cgroup and resource group


def make_cgroup(launch: "Launch", op: "verbs.MakeCgroup") -> None:
    path = launch.config.get("linux", {}).get("cgroupsPath", "")
    launch.cgroup = Cgroup.create(path, launch.id, op.writes, launch.cgroup_mount, rootless=launch.rootless)


def connect_systemd(launch: "Launch", _op: "verbs.ConnectSystemd") -> None:
    launch.unit.connect()


def set_property(launch: "Launch", op: "verbs.SetProperty") -> None:
    launch.properties.append(op.property)


def start_unit(launch: "Launch", _op: "verbs.StartUnit") -> None:
    launch.unit.start_transient_unit(launch.pid, launch.properties)


def await_unit(launch: "Launch", op: "verbs.AwaitUnit") -> None:
    launch.unit.await_unit(launch.pid, op.writes)


def change_property(launch: "Launch", op: "verbs.ChangeProperty") -> None:
    launch.unit.set_properties([op.property])


def enter_cgroup(launch: "Launch", _op: "verbs.EnterCgroup") -> None:
    launch.cgroup.add(launch.pid)


def write_cgroup(launch: "Launch", op: "verbs.WriteCgroup") -> None:
    launch.cgroup.apply([op.write])


def attach_device_filter(launch: "Launch", op: "verbs.AttachDeviceFilter") -> None:
    launch.cgroup.attach_device_filter(op.program)


def chown_cgroup(launch: "Launch", op: "verbs.ChownCgroup") -> None:
    uid = _host_id(files.read(f"/proc/{launch.pid}/uid_map"), op.uid) if op.mapped else op.uid
    launch.cgroup.delegate(uid)


def in_rdt_group(launch: "Launch", op: "verbs.ParentOp") -> None:
    """Perform one of the four operations of the resource group that `Launch.plan_rdt` has found."""
    if launch.rdt is not None:
        launch.rdt.run(op, launch.pid)


# --- the process, its limits, hooks


def protect_stdio(launch: "Launch", _op: "verbs.ProtectStdio") -> None:
    null = -1
    try:
        for fd in range(3):
            if _is_null(fd):
                if null < 0:
                    null = _native.clone_host_device("/dev/null", False, 1, 3)
                access = fcntl.fcntl(fd, fcntl.F_GETFL) & O_ACCMODE
                opened = posix.open(f"/proc/self/fd/{null}", access | posix.O_CLOEXEC | posix.O_NOCTTY)
                posix.dup2(opened, fd)
                posix.close(opened)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOENT) and error.strerror != "other-node":
            raise
    finally:
        if null >= 0:
            # The last close of a clone waits for an RCU grace period, some 30 microseconds or more.
            launch.unneeded.append(null)


def _is_null(fd: int) -> bool:
    st = posix.fstat(fd)
    return st.st_mode & S_IFMT == S_IFCHR and st.st_rdev == posix.makedev(1, 3)


def write_filter(launch: "Launch", op: "verbs.WriteFilter") -> None:
    files.write_all(launch.slots[FILTER], op.filter.program)


def run_host_hook(launch: "Launch", op: "verbs.RunHostHook") -> None:
    hooks.run(op.where, op.path, op.argv, op.envp, op.timeout_ms, launch.slots[HOOK_STATE], launch.slots[BUNDLE])


def prlimit(launch: "Launch", op: "verbs.Prlimit") -> None:
    _native.prlimit(launch.pid, op.resource, op.soft, op.hard)


def raise_own_rlimit(launch: "Launch", op: "verbs.RaiseOwnRlimit") -> None:
    launch.own_rlimit = (op.resource, *_native.getrlimit(op.resource))
    _native.prlimit(0, op.resource, op.soft, op.hard)


def set_affinity(launch: "Launch", op: "verbs.SetAffinity") -> None:
    try:
        posix.sched_setaffinity(launch.pid, ranges.numbers(op.cpus))
    except ValueError as error:
        raise OSError(errno.EINVAL, "") from error


def sched_setattr(launch: "Launch", op: "verbs.SchedSetattr") -> None:
    _native.sched_setattr(launch.pid, op.attributes)


def ioprio_set(launch: "Launch", op: "verbs.IoprioSet") -> None:
    _native.ioprio_set(launch.pid, op.priority)


def write_oom_score_adj(launch: "Launch", op: "verbs.WriteOomScoreAdj") -> None:
    files.write(f"/proc/{launch.pid}/oom_score_adj", str(op.adjustment).encode("ascii"))


HOST_VERBS: "dict[type[verbs.ParentOp], Callable[[Launch, Any], None]]" = {
    verbs.OpenRootfs: open_rootfs,
    verbs.OpenTree: open_tree,
    verbs.MakeUserNamespace: make_user_namespace,
    verbs.IdmapTree: idmap_tree,
    verbs.MakeDeviceFilesystem: make_device_filesystem,
    verbs.MakeDevice: make_device,
    verbs.OpenDevice: open_device,
    verbs.OpenNull: open_device,
    verbs.OpenNamespace: open_namespace,
    verbs.OpenHostProc: open_host_proc,
    verbs.WriteIdMaps: write_id_maps,
    verbs.DenySetgroups: deny_setgroups,
    verbs.RunIdMapper: run_id_mapper,
    verbs.WriteTimeOffsets: write_time_offsets,
    verbs.MoveNetDevice: move_net_device,
    verbs.SetUpNetwork: set_up_network,
    verbs.MakeCgroup: make_cgroup,
    verbs.ConnectSystemd: connect_systemd,
    verbs.SetProperty: set_property,
    verbs.StartUnit: start_unit,
    verbs.AwaitUnit: await_unit,
    verbs.ChangeProperty: change_property,
    verbs.EnterCgroup: enter_cgroup,
    verbs.WriteCgroup: write_cgroup,
    verbs.AttachDeviceFilter: attach_device_filter,
    verbs.ChownCgroup: chown_cgroup,
    verbs.MakeRdtGroup: in_rdt_group,
    verbs.WriteSchemata: in_rdt_group,
    verbs.MakeMonitoringGroup: in_rdt_group,
    verbs.JoinRdtGroup: in_rdt_group,
    verbs.ProtectStdio: protect_stdio,
    verbs.WriteFilter: write_filter,
    verbs.RunHostHook: run_host_hook,
    verbs.Prlimit: prlimit,
    verbs.RaiseOwnRlimit: raise_own_rlimit,
    verbs.SetAffinity: set_affinity,
    verbs.SchedSetattr: sched_setattr,
    verbs.IoprioSet: ioprio_set,
    verbs.WriteOomScoreAdj: write_oom_score_adj,
}
"""The functions for create and exec alike. Each adds its own, which need its record or its sockets."""

__all__ = ["HOST_VERBS"]
