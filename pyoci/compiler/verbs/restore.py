"""Operations of the process that becomes CRIU: the mounts that CRIU restores from, its descriptors, its program.

CRIU finds the root filesystem and each external mount of an image by a path. So the child attaches clones of them to a
tmpfs in a mount namespace of its own, where nothing of the container can change a path. The host does not see them, and
they vanish with the child.
"""

from pyoci.compiler.verbs.base import ChildOp
from pyoci.compiler.verbs.phrases import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Natural, OptionalSlot, Slot, SlotCount, Vector


class MountSources(ChildOp):
    """Cover `path` of this mount namespace with a tmpfs for the mounts that CRIU restores from.

    Takes: `yard`, the name of a new directory in it, in which CRIU mounts cgroups.
    Leaves: slot `sources`, the root of the tmpfs. Every user may search it: CRIU opens some of the mounts as root of
        the container's user namespace.
    Fails with: openat, fsopen, fsconfig, fsmount, move_mount, mkdirat.
    Calls: openat FILESYSTEM move_mount close mkdirat
    """

    path: str
    yard: str
    sources: "Slot"
    shows = "tmpfs → {path}"
    fails = "mount a tmpfs on {path}"


class ShareImages(ChildOp):
    """Attach images at the path `name` of the tmpfs `sources`, readable for every user of this mount namespace.

    On the host only root may read them. Root of a new user namespace is the overflow user until its ids are mapped, and
    another user afterwards. CRIU opens images at both times. So this is an overlay, whose copies of the modes are in
    the tmpfs.

    Takes: `images`, the slot of a clone that `stage_tree` has attached; `upper` and `work`, paths of new directories in
        the tmpfs.
    Fails with: mkdirat, fchdir, fsopen, fsconfig, fsconfig(create), fsmount, openat, getdents64, fchmodat, fchmod,
        move_mount.
    Calls: mkdirat mkdirat fsopen fsconfig+ fchdir fsconfig+ fsmount close openat (getdents64 fchmodat*)+ fchmod
        close mkdirat+ openat move_mount close
    """

    name: str
    upper: str
    work: str
    sources: "Slot"
    images: "Slot"
    fails = "make the images readable for the container's root"

    def shown(self) -> str:
        return f"→ {self.name}"


class StageTree(ChildOp):
    """Attach a clone with all mounts below it to a new directory or file of the tmpfs `sources`.

    CRIU must not restore from it, because root of a user namespace can't clone one mount that has others below.
    `add_source` clones single mounts of it, and `unstage_tree` detaches it again.

    Takes: `tree`, the slot of the clone; `source`, for messages; `name`, a new name in the tmpfs.
    Leaves: the slot.
    Fails with: fstat, mkdirat, openat, move_mount.
    Calls: newfstatat (mkdirat | openat close) openat newfstatat move_mount close
    """

    source: str
    name: str
    sources: "Slot"
    tree: "Slot"
    shows = "{source}"
    fails = "attach {source}"


class AddSource(ChildOp):
    """Attach one mount to the new directory or file `name` of the tmpfs `sources`.

    Takes: `tree`, the slot of a clone or of a namespace; `below`, a path in it, whose mount to clone; `source`, for
        messages; attributes to set and clear. `clone`: attach a clone, because the tree is attached already, or is the
        file of a namespace. `is_mount`: the path must be a mount point.
    Does: resolves `below` without symlinks. Makes the mount shared, because CRIU copies propagation from no other. It
        stays a slave of the host's mount.
    Fails with: openat2, fstat, open_tree, mount_setattr, mkdirat, openat, move_mount; not-mounted if `is_mount` is set
        and no mount begins at the path.
    Calls: (openat2 (openat2+ close?)?)? open_tree? mount_setattr newfstatat (mkdirat | openat close) openat newfstatat
        move_mount close close? close?
    """

    source: str
    name: str
    below: str = ""
    sources: "Slot"
    tree: "Slot"
    attr_set: "Natural" = 0
    attr_clear: "Natural" = 0
    clone: bool = False
    is_mount: bool = False
    fails = "use mount source {source}"

    def shown(self) -> str:
        return f"{self.source} → {self.name}  {attributes(self.attr_set)}".rstrip()


class UnstageTree(ChildOp):
    """Detach a tree that `stage_tree` has attached.

    Takes: `name`, in the tmpfs `sources`; `source`, for messages.
    Fails with: fchdir, umount2.
    Calls: fchdir umount2
    """

    source: str
    name: str
    sources: "Slot"
    shows = "{source}"
    fails = "detach {source}"


class MakeMountPoint(ChildOp):
    """Create the mount point `path`, at `below` in slot `tree`, if it is missing.

    Takes: `like`, the slot of what CRIU mounts there, a file or a directory; `directory`, if `like` is NO_SLOT.
    Does: creates missing directories above it, too. The path must contain no symlink: CRIU would follow it.
    Fails with: openat2, mkdirat, openat, fstat; other-node if the mount point has another type.
    Calls: newfstatat? openat2 (openat2 | mkdirat | openat | newfstatat | close)* newfstatat close
    """

    path: str
    below: str
    tree: "Slot"
    like: "OptionalSlot"
    directory: bool = False
    shows = "{path}"
    fails = "make mount point {path}"


class NumberFds(ChildOp):
    """Give the program the descriptors of `count` slots under the numbers from `number` on.

    Takes: `first`, the first of the slots.
    Does: moves the channel and the slots out of the way.
    Fails with: dup.
    Calls: (fcntl | dup2)*
    """

    first: "Slot"
    count: "SlotCount"
    number: "Natural"
    fails = "number the descriptors of the program"

    def shown(self) -> str:
        last = self.number + self.count - 1
        return f"{self.number}" if self.count == 1 else f"{self.number} to {last}"


class ExecHost(ChildOp):
    """Replace this process by a program of the host.

    Takes: `path`; `argv`; `envp`.
    Does: sends a record before the call, so that the runtime knows that every other operation has succeeded.
    Fails with: execve.
    Calls: write execve
    """

    path: str
    argv: "Vector"
    envp: "Vector"
    fails = "execute {path}"

    def shown(self) -> str:
        return " ".join((self.path, *self.argv[1:]))
