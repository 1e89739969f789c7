"""Operations and plans: what will be done, in order, each with the place in config.json it came from.

An operation is a verb with a fixed contract, not a system call; the contracts stand above each verb in
`native/child/`. A plan is a flat list of them: no conditions, no loops, no variables. What depends on the config was
decided by the compiler; what depends on the root filesystem is part of a verb's contract.

Operations of the child are encoded into one buffer and run by the native executor. Operations of the parent (the
runtime itself) use the same class and stand in the plan where they happen: before the clone, or at a synchronisation
point.
"""

import _struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyoci.cgroups.resources import Write
    from pyoci.cgroups.units import Property
    from pyoci.compiler.seccomp import Filter

# The order is the executor's enum; tests/native compares them.
VERBS = (
    "", "set_pdeathsig", "set_dumpable", "setsid", "set_umask", "join_namespace", "unshare",
    "sync", "become_root", "clone_init", "open_proc", "set_propagation", "attach_rootfs",
    "bind_mount", "mount", "remount", "set_mount_attributes", "mknod", "bind_device", "symlink",
    "run_hook", "pivot_root", "move_root", "mask_path", "readonly_path", "set_hostname",
    "set_domainname", "write_sysctl", "open_console", "mount_console", "write_attr", "join_keyring",
    "set_no_new_privs", "set_personality", "drop_bounding", "set_groups", "set_ids",
    "set_capabilities", "set_ambient", "make_directory", "chdir", "find_program", "set_home",
    "chown_stdio", "lo_up", "reset_affinity", "close_fds", "set_rlimit", "wait_start",
    "load_seccomp", "exec", "open_root", "take_terminal", "reset_signals", "label_mount",
    "make_mask_directory", "enter_root", "open_devices", "set_scheduler", "set_io_priority",
    "set_memory_policy", "clone_rootfs", "clone_tree", "clone_device", "open_bundle", "hide_caller",
    "use_terminal",
)  # fmt: skip
CODES = {verb: code for code, verb in enumerate(VERBS)}

# Verbs of the runtime itself; never encoded.
PARENT_VERBS = (
    "open_rootfs", "open_tree", "make_user_namespace", "idmap_tree", "make_device_filesystem", "make_device",
    "open_device", "open_namespace", "open_null", "make_cgroup", "write_cgroup", "attach_device_filter",
    "make_rdt_group", "write_schemata", "make_monitoring_group", "join_rdt_group", "write_id_maps", "deny_setgroups",
    "run_id_mapper", "write_time_offsets", "write_oom_score_adj", "move_net_device", "chown_cgroup", "run_host_hook",
    "send_console", "sched_setattr", "ioprio_set", "prlimit", "raise_own_rlimit", "commit", "send_listener",
    "open_container", "open_container_root", "set_affinity", "enter_cgroup", "verify_namespaces", "write_filter",
    "open_host_proc", "connect_systemd", "set_property", "start_unit", "await_unit", "change_property",
)  # fmt: skip

# What the container's first process clones by itself where the runtime has no power over mounts, by the runtime's verb.
CLONES = {"open_rootfs": "clone_rootfs", "open_tree": "clone_tree", "open_device": "clone_device"}

# Synchronisation points: the child says that it is there and waits; the parent does its part and answers.
# INIT is no question of init, but the news of it: a bootstrap process has cloned it. BORN is before the first child
# does anything: it waits for the parent only where the plan has something to do then. At LISTENER it says nothing
# either: whoever starts it has stopped it (pyoci.host.seccomp_agent).
BORN = -1
INIT, ID_MAPS, TIME_OFFSETS, HOOKS, CONSOLE, READY, CREATED, NET_DEVICES, LISTENER, CGROUP = range(10)
SYNC_NAMES = {
    0: "init", 1: "id-maps", 2: "time-offsets", 3: "hooks", 4: "console", 5: "ready", 6: "created", 7: "net-devices",
    8: "listener", 9: "cgroup",
}  # fmt: skip

# Descriptors that both sides know by number; a plan's own come after.
ROOTFS, CHANNEL, EXEC_FIFO, RESULT_FIFO, HOOK_STATE, START_STATE, BUNDLE, NULL = range(8)
PROC, PTY, MASK_DIRECTORY, FILTER = range(8, 12)
CREATE_STATE = 12  # only this side knows it by number
NOTIFY_FOLDER = 13
HOST_PROC, JOINED_PIDS = 14, 15
FIRST_SLOT = 16

# Flags of mount targets and of new filesystems (the executor's enum).
TARGET_REAL, TARGET_PROC, TARGET_BELOW_PROC, COPY_UP, INHERIT_MODE = 2, 4, 8, 16, 32
ONE_STRING = 128  # of a new filesystem: its options go to mount(2), the source ahead of one string with the others
LEAVE_AS_IT_IS = 1  # of a node: one that is there already keeps its mode and its owner
OUTSIDE_PIDS = 1  # of find_program: this process is not in the container's pid namespace
QUIET = 1  # of load_seccomp: more than the program follows
ADD_HOME = 1  # of a hook: HOME, if set_home has found one, is added to its environment
READONLY_AT_LAST = 64  # the compiler's own: a filesystem that is writable until every mount point exists


class Op:
    """One operation.

    `verb` names the contract, `where` is the JSON pointer of the property that asked for it. What the strings `s1` to
    `s3` and the integers `a` to `d` mean is the verb's. `blob` is a program or table for the kernel and travels as
    `s1`; `options` are a filesystem's and travel as `s2`; `argv` and `envp` are the vectors of a program.
    """

    __slots__ = ("a", "argv", "b", "blob", "c", "d", "envp", "flags", "options", "s1", "s2", "s3", "verb", "where")

    def __init__(
        self,
        verb: str,
        where: str = "",
        s1: str = "",
        s2: str = "",
        s3: str = "",
        *,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        d: int = 0,
        flags: int = 0,
        blob: bytes = b"",
        options: "Sequence[str]" = (),
        argv: "Sequence[str] | None" = None,
        envp: "Sequence[str] | None" = None,
    ) -> None:
        self.verb = verb
        self.where = where
        self.s1 = s1
        self.s2 = s2
        self.s3 = s3
        self.a = a
        self.b = b
        self.c = c
        self.d = d
        self.flags = flags
        self.blob = blob
        self.options = options
        self.argv = argv
        self.envp = envp

    def __repr__(self) -> str:
        return f"<{self.verb} {self.s1!r} {self.s2!r} {self.a} {self.b} {self.c} {self.d} from {self.where or '/'}>"


def sync(point: int, where: str = "") -> Op:
    """The child waits here for the parent's part of `point`."""
    return Op("sync", where, a=point)


class Plan:
    """Everything that create will do.

    `before`     parent operations ahead of the clone, in order
    `clone_flags` namespaces that the first child is cloned into
    `bootstrap`  operations of an intermediate process, if one is needed (to join a pid or user namespace, or for time
                 offsets); ends in `clone_init`
    `init`       operations of the container's first process; ends in `exec`
    `meanwhile`  parent operations that run beside the child's, done before its first question is answered
    `at`         parent operations by synchronisation point
    `after`      likewise, what runs once the child was answered, beside its work
    `poststart`  what `start` runs once the program runs; create keeps it in the state
    `poststop`   what `delete` runs once the container is gone; kept likewise
    `slots`      how many descriptors the plan numbers
    `filter`     the seccomp filter, which may still have to be compiled, by `write_filter`
    `writes`     the cgroup's limits, which `make_cgroup` needs to know and `write_cgroup` numbers
    `properties` the unit's, under the systemd driver, which `set_property` and `change_property` number
    `ignored`    annotations that ask for something which does not happen; see `ignore`
    `no_cgroup`  why this host lets the runtime make no cgroup; "" if it does
    `warnings`   what the person should know; nothing depends on it
    """

    __slots__ = (
        "after", "at", "before", "bootstrap", "clone_flags", "filter", "ignored", "init", "meanwhile", "no_cgroup",
        "poststart", "poststop", "properties", "slots", "warnings", "writes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.before: list[Op] = []
        self.clone_flags = 0
        self.bootstrap: list[Op] = []
        self.init: list[Op] = []
        self.meanwhile: list[Op] = []
        self.at: dict[int, list[Op]] = {}
        self.after: dict[int, list[Op]] = {}
        self.poststart: list[Op] = []
        self.poststop: list[Op] = []
        self.slots = FIRST_SLOT
        self.ignored: list[Op] = []
        self.no_cgroup = ""
        self.warnings: list[str] = []
        self.writes: list[Write] = []
        self.filter: Filter | None = None
        self.properties: list[Property] = []

    def new_slot(self) -> int:
        """The number of a descriptor that did not exist before."""
        self.slots += 1
        return self.slots - 1

    def ignore(self, name: str, value: str, why: str) -> None:
        """Show in the plan that the annotation `name` has no effect, and warn about it."""
        where = f"/annotations/{name.replace('~', '~0').replace('/', '~1')}"
        shown = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"
        self.ignored.append(Op("ignore_annotation", where, f"{name} = {shown}", why))
        self.warnings.append(f"{where}: ignored {name} = {shown}: {why}")

    def complete(self) -> None:
        """Compute now what the runtime would compute meanwhile: for those who look at the plan and don't run it."""
        if self.filter is not None:
            for op in (*self.meanwhile, *self.child()):
                if op.verb in ("write_filter", "load_seccomp"):
                    op.a = self.filter.instructions

    def child(self) -> list[Op]:
        """What the executor runs, in order; a record's `op` is an index into this list."""
        return self.bootstrap + self.init

    def parent(self) -> "Iterator[Op]":
        """Every operation of the parent."""
        yield from self.before
        yield from self.meanwhile
        for point in sorted(self.at):
            yield from self.at[point]
            yield from self.after.get(point, ())
        yield from self.poststart
        yield from self.poststop


_OP = _struct.Struct("=HHIIIqqqq")
_LONGEST_VALUE = 64  # characters of an annotation that a message repeats


def encode(ops: "Iterable[Op]") -> tuple[bytes, bytes, list[int | None]]:
    """(operations, string pool, vectors) for `_native.launch`.

    The pool starts with an empty string, so that offset 0 means "none". Binary strings are aligned to 8 bytes.
    """
    pool = bytearray(8)
    vectors: list[int | None] = []
    known: dict[str, int] = {"": 0}

    def put(text: str) -> int:
        offset = known.get(text)
        if offset is None:
            offset = known[text] = len(pool)
            pool.extend(text.encode("utf-8", "surrogateescape"))
            pool.append(0)
        return offset

    def put_blob(blob: bytes) -> int:
        pool.extend(bytes(-len(pool) % 8))
        offset = len(pool)
        pool.extend(blob)
        pool.append(0)
        return offset

    def put_vector(values: "Sequence[str]", spare: int = 0) -> int:
        start = len(vectors)
        vectors.extend([put(value) for value in values])
        vectors.extend([None] * (1 + spare))
        return start

    encoded = bytearray()
    for op in ops:
        a, b = op.a, op.b
        if op.argv is not None:
            a = put_vector(op.argv)
            b = put_vector(op.envp or (), 1)
        encoded.extend(
            _OP.pack(
                CODES[op.verb],
                op.flags,
                put_blob(op.blob) if op.blob else put(op.s1),
                put_blob("\0".join(op.options).encode("utf-8", "surrogateescape")) if op.options else put(op.s2),
                put(op.s3),
                a,
                _signed(b),
                _signed(op.c),
                _signed(op.d),
            )
        )
    return bytes(encoded), bytes(pool), vectors


def _signed(value: int) -> int:
    """A 64-bit mask as the signed number that travels."""
    return value - (1 << 64) if value >> 63 == 1 else value
