"""checkpoint: let CRIU write the processes of a container to a directory of images.

A container that does not stay is deleted once it is dumped, as in runc and crun. If the dump fails, the container goes
on as before.
"""

import posix

from pyoci.compiler.dump import DUMP_LOG, EXTERNAL_NAMESPACES, Dumped, compile_dump, external_mounts, shows
from pyoci.compiler.mount_options import Mount
from pyoci.compiler.paths import clean
from pyoci.config import load
from pyoci.config.text import printable
from pyoci.criu import explain, image_directory, program, rpc, shape
from pyoci.criu.directories import Directories
from pyoci.criu.service import Service
from pyoci.criu.undumpable import find
from pyoci.criu.unsupported import KERNEL_WIDE_FILESYSTEMS
from pyoci.delete import delete
from pyoci.errors import CgroupError, PyociError, SetupError, StatusError, reason
from pyoci.host import files
from pyoci.host.bundle import read_config
from pyoci.host.places import resolve
from pyoci.host.processes import wait_ended, with_descendants
from pyoci.linux import S_IFCHR, S_IFMT, S_IFREG, SIGKILL
from pyoci.mountinfo import mount_of, parse
from pyoci.parent.operations import HOST_VERBS
from pyoci.parent.protocol import Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cgroups.driver import Driver
    from pyoci.compiler.dump import DumpPlan
    from pyoci.container import Container
    from pyoci.criu.rpc import Request, Response
    from pyoci.request import CheckpointRequest

ACTION = "checkpoint the container"
_NAMESPACES = ("ipc", "net", "pid")  # those whose filesystems CRIU mounts again
_STANDARD_STREAMS = (0, 1, 2)
_LINKS_OF_A_CGROUP = 2  # its name and its `.`; each cgroup below adds one
_LONG = 3600.0  # seconds
_MAX_MOUNTINFO = 64 << 20  # bytes


def checkpoint(container: "Container", request: "CheckpointRequest") -> None:
    """Dump the container, and delete it unless it stays.

    Raises StatusError unless it is running or paused. Raises SetupError if there is no usable CRIU, or if it can't dump
    the container.
    """
    container.lock("cannot checkpoint a container that is still being created")
    try:
        paused = _require_processes(container)
        path = program.find(request.criu, ACTION)
        with program.Version(path, ACTION, no_new_privs=_has_no_new_privs(container.record.pid)):
            made, descriptors = _compile(container, request, path)
        _require_features(path, request)
        with Directories.make(request.image_path, request.work_path) as directories:
            if not request.pre_dump:
                directories.write_descriptors(descriptors)
            _dump(container, made, directories, request, paused=paused)
        if not request.leave_running and not request.pre_dump:
            delete(container, force=True)
    finally:
        container.close()


def plan(container: "Container", request: "CheckpointRequest") -> "DumpPlan":
    """Return the plan and CRIU's request of `checkpoint`. Raises what it raises."""
    _require_processes(container)
    return _compile(container, request, request.criu or "criu")[0]


def undumpable(container: "Container", request: "CheckpointRequest", wanted: "Request") -> "list[str]":
    """Return what CRIU can't dump, one line for each problem. `wanted` comes from `plan`."""
    cgroup = container.cgroup()
    try:
        pids = cgroup.pids()
    except CgroupError:
        pids = []
    finally:
        cgroup.close()
    external = wanted.options.get("external", [])
    names = [name for name in external if isinstance(name, str)] if isinstance(external, list) else []
    return find(container.record.pid, pids, request.options, names)


def _require_processes(container: "Container") -> bool:
    """Return whether the container is paused. Raises StatusError if it does not run."""
    status = container.status()
    if status not in ("running", "paused"):
        raise StatusError(_NOT_RUNNING.get(status, f"cannot checkpoint a container that is {status}"))
    return status == "paused"


def _has_no_new_privs(pid: int) -> bool:
    try:
        return b"\nNoNewPrivs:\t1\n" in files.read(f"/proc/{pid}/status")
    except OSError as error:
        raise SetupError(f"cannot read what process {pid} may do: {reason(error.errno or 0)}") from error


_NOT_RUNNING = {
    "created": "cannot checkpoint a container that was not started",
    "creating": "cannot checkpoint a container that is still being created",
    "stopped": "container not running",
}


def _require_features(path: str, request: "CheckpointRequest") -> None:
    """Raise SetupError if the kernel or CRIU lacks what the options need."""
    if not request.pre_dump and not request.options.lazy_pages:
        return
    service = Service(ACTION)
    try:
        service.start(path)
        found = service.send(rpc.encode_feature_check())
    finally:
        service.close()
    if request.pre_dump and not found.memory_tracking:
        raise SetupError(
            f"cannot {ACTION}: --pre-dump needs a kernel that tracks changes of memory",
            hint="use a kernel with CONFIG_MEM_SOFT_DIRTY, or leave out --pre-dump",
        )
    if request.options.lazy_pages and not found.lazy_pages:
        raise SetupError(
            f"cannot {ACTION}: --lazy-pages needs a kernel with userfaultfd",
            hint="set vm.unprivileged_userfaultfd=1, or leave out --lazy-pages",
        )


# --- the plan and the request


def _compile(container: "Container", request: "CheckpointRequest", path: str) -> "tuple[DumpPlan, list[str]]":
    """Return the plan for the CRIU at `path`, and the content of descriptors.json: CRIU's names of the streams."""
    record = container.record
    pid = record.pid
    try:
        mounts = parse(_read(f"/proc/{pid}/mountinfo"))
        on_host = parse(_read("/proc/self/mountinfo"))
        streams = _host_files(pid, {mount.id for mount in mounts})
        cgroup = container.cgroup()
        shared = [kind for kind in _NAMESPACES if _namespace(pid, kind) == _namespace("self", kind)]
        dumped = Dumped(
            pid,
            mounts=mounts,
            host_devices={mount.device for mount in on_host},
            host_groups={mount.shared for mount in on_host if mount.shared},
            shared=shared,
            external={
                kind: _namespace(pid, name)
                for kind, (name, _) in EXTERNAL_NAMESPACES.items()
                if record.namespaces.get(kind)
            },
            freezer=f"{cgroup.mount}{cgroup.path}" if cgroup.path and _needs_freezer(cgroup, pid) else "",
            has_subgroups=bool(cgroup.path) and _has_subgroups(f"{cgroup.mount}{cgroup.path}"),
            files=dict.fromkeys(streams.values()),
            has_iptables=program.has_helper("iptables-restore"),
        )
        _require_restorable(container, dumped)
    except OSError as error:
        raise SetupError(f"cannot read what process {pid} uses: {reason(error.errno or 0)}") from error
    descriptors = list(record.descriptors) or [""] * len(_STANDARD_STREAMS)
    for fd, name in streams.items():
        descriptors[fd] = name
    return compile_dump(dumped, request, path, program.config_file(record.annotations) or ""), descriptors


def _require_restorable(container: "Container", dumped: Dumped) -> None:
    """Raise SetupError for what `restore` rejects, whichever config.json it gets."""
    record = container.record
    if "mount" in record.namespaces or _namespace(dumped.pid, "mnt") == _namespace("self", "mnt"):
        raise SetupError(f"cannot {ACTION}: CRIU restores no container without its own mount namespace")
    if "cgroup" in record.namespaces:
        raise SetupError(f"cannot {ACTION}: CRIU can't join a cgroup namespace")
    points = external_mounts(dumped)
    external = [mount for mount in dumped.mounts if mount.point in points]
    found = [mount for mount in external if mount.type in KERNEL_WIDE_FILESYSTEMS and mount.root == "/"]
    # One that shows a part of another one may have been bound by the container itself.
    found += [mount for mount in external if any(other is not mount and shows(other, mount) for other in external)]
    known = _destinations(record.bundle, record.rootfs) if found else []
    for mount in found:
        if not any(shape.is_below(mount.point, path) for path in known):
            text = f"the container has mounted {mount.type} on {printable(mount.point)}, which pyoci does not restore"
            raise SetupError(f"cannot {ACTION}: {text}", hint="unmount it, or bind it in config.json")


def _destinations(bundle: str, rootfs: str) -> "list[str]":
    """Return where config.json has mounts of the host; "/" if it can't be read, because `restore` may get another."""
    try:
        config, _ = load(read_config(bundle))
    except PyociError:
        return ["/"]
    mounts = [Mount(entry, index) for index, entry in enumerate(config.get("mounts", ()))]
    linux = config.get("linux", {})
    points = [mount.destination for mount in mounts if mount.bind]
    points += [*linux.get("maskedPaths", ()), *(device["path"] for device in linux.get("devices", ()))]
    return [*map(clean, points), *resolve(rootfs, points).values(), "/dev"]


def _read(path: str) -> str:
    return files.read(path, limit=_MAX_MOUNTINFO).decode("utf-8", "surrogateescape")


def _namespace(pid: "int | str", kind: str) -> int:
    return posix.stat(f"/proc/{pid}/ns/{kind}").st_ino


def _has_subgroups(directory: str) -> bool:
    """Whether a cgroup has others below it."""
    return posix.stat(directory).st_nlink > _LINKS_OF_A_CGROUP


def _needs_freezer(cgroup: "Driver", init: int) -> bool:
    """Whether CRIU must freeze the cgroup. It finds the processes below init, and stops them one after another.

    It waits a tenth of a second for a cgroup to freeze, and a killed CRIU leaves it frozen.
    """
    return cgroup.is_frozen() or not set(cgroup.pids()) <= set(with_descendants(init))


def _host_files(pid: int, mounts: "set[int]") -> "dict[int, str]":
    """Return CRIU's names of files that the container has as standard streams, but in none of its mounts."""
    found = {}
    for fd in _STANDARD_STREAMS:
        try:
            status = posix.stat(f"/proc/{pid}/fd/{fd}")
            mount = mount_of(files.read(f"/proc/{pid}/fdinfo/{fd}"))
        except FileNotFoundError:
            continue  # closed
        if status.st_mode & S_IFMT in (S_IFREG, S_IFCHR) and mount not in mounts:
            found[fd] = f"file[{mount:x}:{status.st_ino:x}]"
    return found


# --- the dump


def _dump(
    container: "Container",
    made: "DumpPlan",
    directories: "Directories",
    request: "CheckpointRequest",
    *,
    paused: bool,
) -> None:
    """Let CRIU dump the container. Raises SetupError with CRIU's reason. The container is then as before."""
    service = Service(ACTION)
    launch = Launch(made.plan, HOST_VERBS, {"ociVersion": ""}, container.id, process="criu")
    try:
        _start(launch, service)
        options = {**directories.options(), **made.request.options}
        response = service.ask(made.request.kind, options, lambda event, _: _notified(event, directories))
        service.close()  # after a pre-dump CRIU waits for the next one
        launch.reap()
    except BaseException:
        service.close()
        _end(launch)
        _thaw(container, paused=paused)
        raise
    finally:
        service.close()
        launch.release()
    if not response.success:
        _thaw(container, paused=paused)
        raise _failure(response, directories, undumpable(container, request, made.request))


def _notified(event: "Response", directories: "Directories") -> None:
    """Read the images when they are complete, as `restore` will. Raises SetupError if it would always reject them.

    CRIU then lets the container go on. Later, it would have killed the processes.
    """
    if event.script != rpc.POST_DUMP:
        return
    try:
        image = image_directory.read(directories.images)
        problem = next(shape.unrestorable(image), None)
        if problem:
            raise PyociError(problem[1])
    except PyociError as error:
        why = str(error).removeprefix("cannot restore the container: ")
        raise SetupError(f"cannot {ACTION}: restore would reject it: {why}") from error


def _start(launch: Launch, service: Service) -> None:
    """Start CRIU. It writes what it has to say before it opens its log to a file of the service."""
    launch.prepare()
    launch.clone()
    service.fill(launch.slots)
    launch.send_plan()
    launch.serve_child()
    launch.close()
    service.adopt(launch.pid, posix.dup(launch.pidfd))


def _end(launch: Launch) -> None:
    """Wait until CRIU has undone what it did, which it does as soon as its peer is gone; then end its own children.

    They may wait for ever for a CRIU that was killed. The plan gives CRIU a process group of its own.
    """
    if launch.pidfd >= 0:
        while not wait_ended(launch.pidfd, _LONG):
            pass
        try:
            posix.killpg(launch.pid, SIGKILL)  # before CRIU is reaped: until then its number is its own
        except OSError:
            pass  # CRIU had not begun yet
    launch.reap()


def _thaw(container: "Container", *, paused: bool) -> None:
    """Resume a container that a killed CRIU has left frozen."""
    if paused:
        return
    cgroup = container.cgroup()
    try:
        if cgroup.is_frozen():
            cgroup.thaw()
    except CgroupError as error:
        container.warnings.append(str(error))
    finally:
        cgroup.close()


def _failure(response: "Response", directories: "Directories", problems: "list[str]") -> PyociError:
    log = directories.read_log(DUMP_LOG)
    why, hint = explain.name_process(*explain.explain(log or response.error, dumping=True), problems)
    return SetupError(f"cannot {ACTION}: {why}", hint=hint or f"see {directories.log_path(DUMP_LOG)}")


__all__ = ["checkpoint", "plan", "undumpable"]
