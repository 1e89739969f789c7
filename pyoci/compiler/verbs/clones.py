"""Clones of mounts of the host. If it may mount, the runtime makes them
before the child needs them. Otherwise the child does.

Both have a verb for each of three sources. The child of an unprivileged runtime is root of the user namespace that owns
its copy of the mounts, so it may clone them.
"""

from pyoci.compiler.verbs.base import ChildOp, Op, ParentOp, converted
from pyoci.compiler.verbs.phrases import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Natural, Slot, u32


class _Rootfs(Op):
    path: str
    tree: "Slot"
    shows = "{path}"
    fails = "use root filesystem {path}"


class OpenRootfs(_Rootfs, ParentOp):
    """Clone the mounts at `path` and below. The path must be a directory, not a symlink to one.

    Leaves: slot `tree`, a slave of the host's mounts.
    Fails with: an error of the calls, or if the path is a symlink.
    Calls: open_tree mount_setattr
    """


class CloneRootfs(_Rootfs, ChildOp):
    """Clone the mounts at `path` and below. The path must be a directory, not a symlink to one.

    Leaves: slot `tree`, a slave of the host's mounts.
    Fails with: openat, open_tree, mount_setattr.
    Calls: openat open_tree close mount_setattr
    """


class _Tree(Op):
    path: str
    tree: "Slot"
    attr_set: "Natural" = 0
    attr_clear: "Natural" = 0
    recursive_set: "u32" = 0
    recursive_clear: "u32" = 0
    recursive: bool = False
    slave: bool = False
    no_follow: bool = False
    notify_directory: bool = False
    fails = "use mount source {path}"

    def shown(self) -> str:
        below = attributes(self.recursive_set, self.recursive_clear)
        changes = (attributes(self.attr_set, self.attr_clear), f"recursively {below}" if below else "")
        what = " with everything below" if self.recursive else ""
        link = ", a symlink as it is" if self.no_follow else ""
        return f"{self.path}{what}{link}  {' '.join(part for part in changes if part)}".rstrip()


class OpenTree(_Tree, ParentOp):
    """Clone the mount at `path`, the source of a bind mount.

    Takes: `recursive`, to clone the mounts below, too; `slave`, to receive later mounts of the host, but pass none
        back; `no_follow`, to clone a symlink itself; `notify_directory`, to require that it is the container's own
        directory for sd_notify; attributes to set and clear on the mount, and recursively on every clone.
    Leaves: slot `tree`.
    Fails with: an error of the calls, or if the source was replaced.
    Calls: open_tree mount_setattr*
    """


class CloneTree(_Tree, ChildOp):
    """Clone the mount at `path`, the source of a bind mount.

    Takes: the fields of `OpenTree`.
    Leaves: slot `tree`.
    Fails with: open_tree, mount_setattr; changed if the source was replaced.
    Calls: open_tree newfstatat* mount_setattr*
    """


class _Device(Op):
    path: str
    kind: str
    tree: "Slot"
    major: "Natural"
    minor: "Natural"
    fails = "bind device {path}"

    def shown(self) -> str:
        return f"{self.path}  {self.kind} {self.major}:{self.minor}"


class OpenDevice(_Device, ParentOp):
    """Clone the mount of one device node of the host, for a container that can't make nodes.

    Takes: `kind`, `major` and `minor`, which the node must have.
    Leaves: slot `tree`, a read-only and private mount. Programs still read and write the device, but can't change the
        owner or mode of the host's node, and a mount on it does not show on the host.
    Fails with: an error of the calls, or if the host's node is another device.
    Calls: open_tree mount_setattr
    """


class OpenNull(OpenDevice):
    """Clone the mount of the host's /dev/null, which masks files.

    Leaves: slot NULL.
    Fails with: an error of the calls, or if the host's /dev/null is another device.
    Calls: open_tree mount_setattr
    """

    fails = "use the host's /dev/null"

    def shown(self) -> str:
        return self.path


class CloneDevice(_Device, ChildOp):
    """Clone the mount of one device node of the host.

    Takes: `kind`, `major` and `minor`, which the node must have.
    Leaves: slot `tree`, a read-only and private mount, as `OpenDevice` does.
    Fails with: open_tree, mount_setattr, fstat; other-node if it is another device.
    Calls: open_tree mount_setattr newfstatat
    """


CLONES: dict[type[ParentOp], type[ChildOp]] = {
    OpenRootfs: CloneRootfs,
    OpenTree: CloneTree,
    OpenDevice: CloneDevice,
    OpenNull: CloneDevice,
}


def by_child(op: ParentOp) -> ChildOp:
    """Return the operation by which the child does what `op`, one of CLONES, does in the runtime."""
    return converted(op, CLONES[type(op)])
