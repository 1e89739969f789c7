"""Device nodes and links in /dev: made by the child, or by the runtime for a container that can't make nodes."""

from pyoci.compiler.verbs.base import ChildOp, ParentOp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Natural, Slot, SlotCount, u32


class Mknod(ChildOp):
    """Make a device node or FIFO with this mode and owner.

    Takes: `mode` with the file type; `kind`, its letter in the config.
    Ignores: a node at this path that is the same device. It gets the mode and owner, unless `keep_existing` is set.
    Fails with: openat2, mkdirat, openat, mknodat, fchmodat, fchownat; other-node if something else has this path.
    Calls: PATH mknodat openat newfstatat (fchmodat2 (FILESYSTEM? fchmodat)?)? fchownat? close close
    """

    path: str
    kind: str
    mode: "Natural"
    major: "Natural"
    minor: "Natural"
    uid: "u32"
    gid: "u32"
    keep_existing: bool = False
    fails = "make device {path}"

    def shown(self) -> str:
        number = "" if self.kind == "p" else f" {self.major}:{self.minor}"
        kept = ", unless it is there" if self.keep_existing else ""
        return f"{self.path}  {self.kind}{number} mode {self.mode & 0o7777:04o} owner {self.uid}:{self.gid}{kept}"


class OpenDevices(ChildOp):
    """Clone each node that the runtime made in the tmpfs of slot `filesystem`, as a mount of its own.

    It attaches the tmpfs to the container's root for the time of the clones, which Linux before 6.15 requires. Nothing
    resolves a path meanwhile, and no other process sees the mount.

    Takes: `count` nodes, whose names are numbers from 0; `first`, the slot of the first clone.
    Leaves: `count` slots. The tmpfs is attached nowhere.
    Fails with: move_mount, open_tree, fchdir, umount2.
    Calls: move_mount open_tree+ fchdir umount2 fchdir close
    """

    filesystem: "Slot"
    first: "Slot"
    count: "SlotCount"
    shows = "{count} nodes of the runtime's tmpfs"
    fails = "clone the container's devices"


class BindDevice(ChildOp):
    """Attach the clone of a device node to a file of the container, and create that file if it is missing.

    Takes: `tree`, the slot of the clone.
    Ignores: a path that already is the same node.
    Fails with: openat2, mkdirat, openat, move_mount; target-in-proc.
    Calls: PATH newfstatat newfstatat (fstatfs move_mount)? close
    """

    path: str
    tree: "Slot"
    shows = "{path}"
    fails = "make device {path}"


class Symlink(ChildOp):
    """Make a symlink, if `condition` is "" or a path that exists.

    Ignores: an existing file at this path, of any type.
    Fails with: openat2, mkdirat, openat, symlinkat.
    Calls: openat2 | (openat2 close)? PATH symlinkat close
    """

    target: str
    path: str
    condition: str = ""
    fails = "link {path} to {target}"

    def shown(self) -> str:
        return f"{self.path} → {self.target}" + (f"  if {self.condition} exists" if self.condition else "")


class MakeDeviceFilesystem(ParentOp):
    """Make a tmpfs for device nodes that is attached nowhere.

    It belongs to the runtime's user namespace, so its nodes work. Container root may search it, and do nothing else.

    Takes: `label`, an SELinux context or "".
    Leaves: slot `filesystem`.
    Fails with: an error of the calls.
    Calls: fsopen fsconfig+ fsmount
    """

    label: str
    filesystem: int
    fails = "make a tmpfs for devices"

    def shown(self) -> str:
        return "tmpfs" + (f"  (context={self.label})" if self.label else "")


class MakeDevice(ParentOp):
    """Make one node in the tmpfs of slot `filesystem`.

    Takes: `name`, a number; `path`, for messages; `mode` with the file type; the owner, with ids of the joined user
        namespace if `owner_in_container` is set.
    Fails with: an error of the calls; SetupError for an id without a mapping.
    Calls:
    """

    path: str
    kind: str
    name: str
    filesystem: int
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    owner_in_container: bool
    fails = "make device {path}"

    def shown(self) -> str:
        owner = f"owner {self.uid}:{self.gid} of the {'container' if self.owner_in_container else 'host'}"
        return f"{self.path}  {self.kind} {self.major}:{self.minor} mode {self.mode & 0o7777:04o} {owner}"
