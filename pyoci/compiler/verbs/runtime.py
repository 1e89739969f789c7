"""The runtime's own operations: before the clone, at synchronisation points, and beside the child's work."""

from pyoci.compiler.verbs.base import ParentOp
from pyoci.compiler.verbs.phrases import filter_size, limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.seccomp import Filter

# --- files and descriptors


class OpenNamespace(ParentOp):
    """Open a namespace for the child to join, and check its type.

    Takes: `path`; `kind`, the config's word for the type `flag`; `must_differ`, the pointer of a setting that must not
        reach the runtime's own namespace, or "".
    Leaves: slot `namespace`.
    Fails with: an error of the calls; SetupError for a file that is not such a namespace, or for the runtime's own
        namespace if `must_differ` is set.
    Calls:
    """

    path: str
    kind: str
    must_differ: str = ""
    namespace: int
    flag: int
    shows = "{kind}  {path}"
    fails = "join {path}"


class OpenHostProc(ParentOp):
    """Open the host's procfs for a bootstrap process, which the container's /proc does not show.

    Leaves: slot `tree`.
    Fails with: an error of the calls.
    Calls:
    """

    path: str
    tree: int
    shows = "{path}"
    fails = "open the host's procfs"


class OpenContainer(ParentOp):
    """Open the container's first process as a pidfd, for `exec` to join its namespaces.

    Takes: `id` and `namespaces`, for messages.
    Leaves: slot `process`.
    Fails with: StatusError if the container has stopped.
    Calls:
    """

    id: str
    namespaces: str
    process: int
    shows = "{id}: its first process"
    fails = "open container {id}"


class OpenContainerRoot(ParentOp):
    """Open the root directory of the container's first process, for `exec` in a container without a mount namespace.

    Takes: `id`, for messages.
    Leaves: slot `root`.
    Fails with: StatusError if the container has stopped.
    Calls:
    """

    id: str
    root: int
    shows = "{id}: the root of its first process"
    fails = "open the root of container {id}"


class WriteFilter(ParentOp):
    """Compile the seccomp filter and write it to the file in slot FILTER, from which the child loads it.

    Fails with: PyociError if rules contradict each other; an error of the file.
    Calls:
    """

    filter: "Filter"
    fails = "compile the seccomp filter"

    def shown(self) -> str:
        return filter_size(self.filter.instructions, 0)


# --- namespaces and mounts


class MakeUserNamespace(ParentOp):
    """Make a user namespace without processes, whose id mappings an idmapped mount takes.

    Takes: `uids` and `gids`, the lines of its maps.
    Does: clones a process into it, which waits until its maps are written and the namespace is open.
    Leaves: slot `namespace`.
    Fails with: an error of the calls.
    Calls: clone3
    """

    uids: str
    gids: str
    namespace: int
    fails = "make a user namespace for the id mappings of a mount"

    def shown(self) -> str:
        uids, gids = (", ".join(lines.split("\n")[:-1]) for lines in (self.uids, self.gids))
        return f"ids {uids}" if uids == gids else f"uids {uids}; gids {gids}"


class IdmapTree(ParentOp):
    """Give the mount in slot `tree` the id mappings of the user namespace in slot `namespace`.

    Takes: `source`, for messages; `recursive`, to map the mounts below, too.
    Fails with: the call's error.
    Calls: mount_setattr
    """

    source: str
    tree: int
    namespace: int
    recursive: bool
    fails = "map the ids of mount source {source}"

    def shown(self) -> str:
        return f"{self.source}{' with everything below' if self.recursive else ''}"


class _IdMap(ParentOp):
    name: str
    lines: str

    def shown(self) -> str:
        return f"{self.name} = {', '.join(self.lines.split(chr(10))[:-1])}"


class WriteIdMaps(_IdMap):
    """Write the file `name` of the child's user namespace: uid_map or gid_map.

    Fails with: an error of the calls.
    Calls: write
    """

    fails = "write {name}"


class RunIdMapper(_IdMap):
    """Run the set-user-ID program `name`, newuidmap or newgidmap, which writes the map for an unprivileged runtime.

    Fails with: SetupError, with the program's message.
    Calls: clone3 | clone | vfork
    """

    fails = "map ids with {name}"


class DenySetgroups(ParentOp):
    """Deny setgroups in the child's user namespace. Otherwise an unprivileged runtime can't map a group.

    Fails with: an error of the calls.
    Calls: write
    """

    fails = "deny setgroups in the user namespace"


class WriteTimeOffsets(ParentOp):
    """Write a clock's offset for the child's new time namespace.

    Takes: `line`, for the file timens_offsets.
    Fails with: an error of the calls.
    Calls: write
    """

    line: str
    fails = "set clock offsets"

    def shown(self) -> str:
        return self.line.strip()


class MoveNetDevice(ParentOp):
    """Move a network device into the container's network namespace. One process moves all of a plan.

    Takes: `device`, its name on the host; `name`, its name in the container; `name_where`, the pointer of that.
    Leaves: the network namespace open, for the launch to bring the device back after a later failure.
    Fails with: SetupError. Then every device is back in the runtime's namespace.
    Calls: setns
    """

    device: str
    name: str
    name_where: str
    shows = "{device} → {name}"
    fails = "move network device {device}"


class SetUpNetwork(ParentOp):
    """Bring loopback up in the network namespace that CRIU has made, which is empty, and write its kernel parameters.

    Takes: `parameters`: the pointer of each, its path below /proc/sys, and its value.
    Does: starts a process, which enters the namespace.
    Leaves: the network namespace open, as in `move_net_device`.
    Fails with: SetupError.
    Calls: clone3 | clone | vfork
    """

    parameters: "tuple[tuple[str, str, str], ...]"
    fails = "set up the network namespace"

    def shown(self) -> str:
        return ", ".join(["loopback up", *(f"/proc/sys/{path} = {value}" for _, path, value in self.parameters)])


class CheckInit(ParentOp):
    """Check that the container's init is alive, once the child is in its namespaces.

    Fails with: StatusError if the container has stopped.
    Calls:
    """

    id: str
    shows = "{id}"
    fails = "check the container's init"


class VerifyNamespaces(ParentOp):
    """Check that the child is in the namespaces of the container's first process.

    Fails with: SetupError if a namespace differs, or if the child has ended.
    Calls:
    """

    namespaces: str
    shows = "{namespaces}"
    fails = "verify the namespaces"


# --- limits


class Prlimit(ParentOp):
    """Set a resource limit of the child, which may lack the privilege.

    Takes: `resource`, the kernel's number of `name`.
    Fails with: the call's error.
    Calls:
    """

    name: str
    resource: int
    soft: int
    hard: int
    fails = "set {name}"

    def shown(self) -> str:
        return f"{self.name}  soft {limit(self.soft)} hard {limit(self.hard)}"


class RaiseOwnRlimit(Prlimit):
    """Raise a limit of the runtime until the container is created.

    Takes: the fields of `Prlimit`.
    Leaves: the limit raised. The launch restores it when it ends.
    Fails with: the call's error.
    Calls:
    """

    fails = "set {name} of the runtime"


class SetAffinity(ParentOp):
    """Run the child on these CPUs.

    Takes: `cpus`, a list such as 0-3,7.
    Fails with: the call's error; EINVAL for another text.
    Calls:
    """

    cpus: str
    shows = "CPUs {cpus}"
    fails = "run on CPUs {cpus}"


class WriteOomScoreAdj(ParentOp):
    """Set the child's OOM score adjustment.

    Fails with: an error of the calls.
    Calls: write
    """

    adjustment: int
    shows = "{adjustment}"
    fails = "set the OOM score adjustment"


# --- the record, and what later commands read


class RecordProcess(ParentOp):
    """Save the pid of the child. From here on, `delete --force` can clean up after a killed create.

    Fails with: StateError; SetupError on a host without a procfs on /proc.
    Calls:
    """

    fails = "record the container's process"


class RecordCgroup(ParentOp):
    """Save the cgroup that systemd has made. A killed create may leave more processes in it than init.

    Fails with: StateError.
    Calls:
    """

    fails = "record the container's cgroup"


class SaveExecSettings(ParentOp):
    """Save what `exec` needs of the config and of the seccomp filter.

    Fails with: StateError.
    Calls:
    """

    fails = "save the settings for exec"


class FillHookState(ParentOp):
    """Write the container's state, `creating`, for the hooks that run before its root is in place.

    Leaves: the slots HOOK_STATE, with the pid that the host sees, and CREATE_STATE, with the pid that the container
        sees.
    Fails with: an error of the files.
    Calls:
    """

    fails = "write the state for hooks"


class FillStartState(ParentOp):
    """Write the container's state, `created`, for startContainer hooks, with the pid that the container sees.

    Leaves: the slot START_STATE.
    Fails with: an error of the files.
    Calls:
    """

    fails = "write the state for startContainer hooks"


class Commit(ParentOp):
    """Record the container as created, and write the pid file.

    Fails with: StateError; SetupError for the pid file.
    Calls:
    """

    fails = "record the container as created"


# --- streams, sockets, signals


class ProtectStdio(ParentOp):
    """Replace each standard stream of the runtime that is the host's /dev/null by a read-only mount of it.

    Reading and writing still work. Container root can't change the owner or mode of the host's device through the
    stream that it inherits.

    Ignores: EPERM, because a runtime that may not mount has no power over the device; a /dev/null that is another file.
    Leaves: the mounts as the runtime's streams, for good.
    Fails with: an error of the calls.
    Calls: (open_tree mount_setattr?)?
    """

    shows = "read-only mounts for the host's /dev/null"
    fails = "use the host's /dev/null"


class SendConsole(ParentOp):
    """Send the master of the container's terminal to the console socket.

    Ignores: a command without a console socket, which keeps the terminal for itself.
    Fails with: an error of the socket.
    Calls:
    """

    fails = "send the terminal"


class SendPidfd(ParentOp):
    """Send a pidfd of the child to the pidfd socket.

    Fails with: an error of the socket.
    Calls:
    """

    fails = "send the pidfd"


class TakeSignals(ParentOp):
    """From here on, take the signals of a runtime in the foreground, and pass them to the program.

    Fails with: an error of the calls.
    Calls:
    """

    fails = "take the signals"


class TraceChild(ParentOp):
    """Trace the child, so that it stops at the call that makes its seccomp listener.

    Leaves: the child traced, until `send_listener` has taken the listener.
    Fails with: an error of ptrace(2).
    Calls: ptrace+
    """

    fails = "trace the process"


class SendListener(ParentOp):
    """Send the listener of the seccomp filter to the agent at `path`, with the container's state and `metadata`.

    Fails with: an error of the socket.
    Calls:
    """

    path: str
    metadata: str
    shows = "{path}"
    fails = "send the seccomp listener to {path}"


class IgnoreAnnotation(ParentOp):
    """Show that an annotation has no effect. The runtime never performs this operation.

    Calls:
    """

    setting: str
    why: str
    shows = "{setting}  ({why})"
    fails = "ignore {setting}"
