"""restore: let CRIU make the processes of a container from the images of a checkpoint.

config.json says what the container may do and where its files are; the images say what its processes did. The process
that becomes CRIU starts in the container's cgroup, as the child of create does. CRIU clones init as a child of the
runtime. Before anything of the container runs, the runtime checks every process that CRIU has made.
"""

import posix

from pyoci.compiler.create import rootfs_path
from pyoci.compiler.restore import NOTIFICATIONS, RESTORE_LOG, compile_restore
from pyoci.compiler.verbs.numbers import STDERR, STDIN, STDOUT
from pyoci.container import Container
from pyoci.create import Compiled, Creation, read_request
from pyoci.criu import cgroups, explain, image_directory, links, program, restored, rpc, shape
from pyoci.criu.directories import Directories
from pyoci.criu.service import Service
from pyoci.errors import CgroupError, PyociError, SetupError
from pyoci.host.places import resolve
from pyoci.host.processes import open_pid, send_signal, with_descendants
from pyoci.host.terminal import Foreground, check_terminal
from pyoci.linux import SIGKILL
from pyoci.run import stay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.cgroups.driver import Driver
    from pyoci.compiler import verbs
    from pyoci.compiler.restore import RestorePlan
    from pyoci.criu.images import Image
    from pyoci.criu.rpc import Options, Response
    from pyoci.parent.protocol import Launch
    from pyoci.request import RestoreRequest
    from pyoci.types import Config

ACTION = "restore the container"

CGROUP_V1 = "/sys/fs/cgroup"  # where distributions mount the hierarchies


def restore(request: "RestoreRequest") -> int:
    """Restore a container; return 0 with `detach`, else wait for its end and return its exit status.

    Raises PyociError, and then leaves nothing behind.
    """
    path = program.find(request.criu, ACTION)
    with Directories.open(request.image_path, request.work_path) as directories:
        with program.Version(path, ACTION):
            restoration = Restoration(*_prepare(request, path, directories), directories)
        restoration.begin()
        restoration.run()
    container = Container(restoration.directory, restoration.record)
    container.unlock()
    if request.detach:
        restoration.launch.release()
        return 0
    return _wait(request, container, restoration.launch)


def plan(request: "RestoreRequest") -> "RestorePlan":
    """Return the plan and CRIU's request of `restore`. Raises what it raises."""
    with Directories.open(request.image_path, request.work_path) as directories:
        _, made, _ = _prepare(request, request.criu or "criu", directories)
        return made


def _prepare(request: "RestoreRequest", path: str, directories: Directories) -> "tuple[Compiled, RestorePlan, Image]":
    """Read and check the config and the images, and compile the plan and CRIU's request. Raises PyociError."""
    create = request.create
    config, host, options = read_request(create)
    images = image_directory.read(directories.images)
    given = request.options
    shape.check(images, config, host, lsm_profile=given.lsm_profile, shell_job=given.shell_job)
    check_terminal(
        terminal=bool(config.get("process", {}).get("terminal")),
        socket=create.console_socket,
        detached=request.detach,
    )
    rootfs = rootfs_path(config, options)
    places = resolve(rootfs, _destinations(config))
    links.check(images, config, directories.images, bundle=options.bundle, rootfs=rootfs, places=places)
    made = compile_restore(
        config,
        host,
        options,
        images,
        request,
        path,
        directories=() if request.plan else _image_directories(directories, config),
        descriptors=directories.read_descriptors(),
        places=places,
    )
    configuration = program.config_file(config.get("annotations", {}))
    if configuration:
        made.options["config_file"] = configuration
    for warning in made.plan.warnings:
        create.log.warning(warning)
    return Compiled(create, config, host, options, made.plan), made, images


def _image_directories(directories: Directories, config: "Config") -> "list[tuple[str, str]]":
    """Return places and paths of the images that were checked, and of their parents, for a user namespace."""
    if not any(entry["type"] == "user" for entry in config.get("linux", {}).get("namespaces", ())):
        return []
    place = posix.readlink(f"/proc/self/fd/{directories.images}").rpartition("/")[2]
    directories.parents = image_directory.parents(directories.images, place)
    return [(at, f"/proc/self/fd/{fd}") for at, fd in ((place, directories.images), *directories.parents)]


def _destinations(config: "Config") -> "Iterator[str]":
    """Yield every path of the container on which the config puts a mount."""
    linux = config.get("linux", {})
    yield from (mount["destination"] for mount in config.get("mounts", ()))
    yield from linux.get("maskedPaths", ())
    yield from (device["path"] for device in linux.get("devices", ()))


def _wait(request: "RestoreRequest", container: Container, launch: "Launch") -> int:
    """Stay with the container, as `run` does."""
    foreground = Foreground(subreaper=not request.no_subreaper)
    foreground.prepare(launch)
    return stay(foreground, container, launch, request.create.log, keep=request.keep)


class Restoration(Creation):
    """A container that is being restored."""

    __slots__ = ("_directories", "_images", "_service", "made")

    def __init__(self, compiled: Compiled, made: "RestorePlan", images: "Image", directories: Directories) -> None:
        super().__init__(compiled)
        self.made = made
        self._images = images
        self._directories = directories
        self._service = Service(ACTION)

    def _open_descriptors(self) -> None:
        """Fill the slots of the plan, and give CRIU its end of the socket pair."""
        super()._open_descriptors()
        self._service.fill(self.launch.slots)
        for fd, slot in enumerate((STDIN, STDOUT, STDERR)):
            try:
                self.launch.slots[slot] = posix.dup(fd)
            except OSError:  # the caller has closed it
                self.launch.slots[slot] = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)

    def _finish(self) -> None:
        """Serve CRIU until the container is restored."""
        launch = self.launch
        launch.serve_child()
        criu, criu_pidfd = launch.pid, launch.pidfd
        self._service.adopt(criu, posix.dup(criu_pidfd))
        own = self._directories.options(images="images_dir" not in self.made.options)
        options: Options = {**own, **self.made.options}
        if self.made.manages_cgroups:
            # An empty controller is cgroup v2. Without one, CRIU would change the hierarchies of version 1, too.
            options["cg_root"] = {"ctrl": "", "path": launch.cgroup.path}
            if self._images.cgroups is not None:
                soft = options.get("manage_cgroups_mode") == rpc.CGROUP_MODES["soft"]
                cgroups.check(self._images.cgroups, launch.cgroup.path, _cgroup_state, soft=soft)
        try:
            response = self._service.ask(rpc.RESTORE, options, self._notified)
        finally:
            self._service.close()
        if not response.success:
            raise self._failure(response)
        launch.reap_bootstrap(criu, criu_pidfd)

    def _notified(self, event: "Response", fd: int) -> None:
        if event.script in (rpc.SETUP_NAMESPACES, rpc.POST_RESTORE) and event.pid != self.launch.pid:
            self.launch.adopt(event.pid)
        if event.script == rpc.ORPHAN_PTS_MASTER:
            self.launch.console = posix.dup(fd)
        if event.script == rpc.PRE_RESUME:
            self._verify()
        else:
            self._perform(event.script)

    def _perform(self, script: str) -> None:
        """Perform the operations at a notification of CRIU."""
        for point in NOTIFICATIONS.get(script, ()):
            self.launch.perform(point)

    def _record_process(self, launch: "Launch", op: "verbs.RecordProcess", *, save: bool = True) -> None:
        """Record CRIU at once, and init only with the commit.

        If restore is killed before the commit, its container then counts as stopped, although init waits for CRIU.
        """
        super()._record_process(launch, op, save=save and self.record.pid <= 0)

    def _verify(self) -> None:
        """Check every process that CRIU has made, and commit the container.

        CRIU ignores a failure here, so this kills the container itself. If the runtime is killed, CRIU dies with it
        and lets the processes go. So they are frozen until they are checked.
        """
        cgroup = self.launch.cgroup
        frozen = _freeze(cgroup)
        everyone = {*with_descendants(self.launch.pid), *cgroup.pids()}
        try:
            restored.check(
                self.launch.pid,
                self.compiled.config,
                cgroup.path,
                self._images,
                rootfs=self.record.rootfs,
                pids=cgroup.pids(),
                criu=self._service.pid,
                lsm_profile=str(self.made.options.get("lsm_profile", "")),
            )
            self._perform(rpc.PRE_RESUME)
            if frozen:
                cgroup.thaw()
        except BaseException:
            # In a pid namespace of others, a process outlives init, and the images may have put it into another cgroup.
            for pid in everyone:
                _kill(pid)
            send_signal(self.launch.pidfd, SIGKILL)
            cgroup.kill(SIGKILL)
            raise

    def _failure(self, response: "Response") -> PyociError:
        log = self._directories.read_log(RESTORE_LOG)
        why, hint = explain.explain(log or response.error, dumping=False)
        return SetupError(f"cannot {ACTION}: {why}", hint=hint or f"see {self._directories.log_path(RESTORE_LOG)}")


def _kill(pid: int) -> None:
    """Kill a process. CRIU traces it until the runtime answers, so no other process can have its pid."""
    pidfd = open_pid(pid)
    if pidfd >= 0:
        send_signal(pidfd, SIGKILL)
        posix.close(pidfd)


def _cgroup_state(path: str) -> "tuple[int, int, int] | None":
    """Return mode, uid and gid of a cgroup v1 below its mounts; None if it is missing."""
    try:
        status = posix.stat(f"{CGROUP_V1}/{path}", follow_symlinks=False)
    except OSError:
        return None
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


def _freeze(cgroup: "Driver") -> bool:
    """Freeze a cgroup, which has CRIU as well. Returns False if it can't be frozen, such as without cgroup v2."""
    try:
        cgroup.freeze()
    except CgroupError:
        return False
    return True


__all__ = ["plan", "restore"]
