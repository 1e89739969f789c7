"""Mounts that the child makes and changes."""

from pyoci.compiler.verbs.base import ChildOp
from pyoci.compiler.verbs.numbers import FIRST_SLOT, NO_SLOT
from pyoci.compiler.verbs.phrases import attributes, propagation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyoci.compiler.verbs.base import Natural, OptionalSlot, Options, Slot


class SetPropagation(ChildOp):
    """Set the propagation type of the mount at `path`, or of the one in slot `tree` if that is not NO_SLOT.

    Takes: `kind`, an MS_ constant of mount(2); `recursive`, to change the mounts below, too.
    Fails with: mount_setattr.
    Calls: mount_setattr
    """

    path: str = ""
    tree: "OptionalSlot" = NO_SLOT
    kind: "Natural"
    recursive: bool
    fails = "change mount propagation {path}"

    def shown(self) -> str:
        target = self.path if self.tree == NO_SLOT else "/" if self.tree < FIRST_SLOT else "the mount"
        return f"{target}  {propagation(self.kind)}{' recursively' if self.recursive else ''}"


class SetMountAttributes(ChildOp):
    """Set attributes of the mount in slot `tree`.

    Fails with: mount_setattr.
    Calls: mount_setattr
    """

    tree: "Slot"
    attr_set: "Natural"
    fails = "make the mount read-only"

    def shown(self) -> str:
        return ("/" if self.tree < FIRST_SLOT else "the mount") + f"  {attributes(self.attr_set)}"


class AttachRootfs(ChildOp):
    """Attach the clone of the root filesystem at `path` of this mount namespace.

    Leaves: the slot ROOTFS, the root directory of the container. createContainer hooks find it at `path`.
    Fails with: openat, move_mount; changed if `path` is not what was cloned.
    Calls: openat newfstatat newfstatat move_mount close
    """

    path: str
    shows = "{path}"
    fails = "attach the root filesystem on {path}"


class CoverRoot(ChildOp):
    """Attach the clone of the root filesystem over `/` of this mount namespace, which has none of the host's mounts.

    Leaves: the slot ROOTFS, the root directory of the container.
    Fails with: move_mount.
    Calls: move_mount
    """

    fails = "attach the root filesystem"


class OpenBundle(ChildOp):
    """Find the bundle in this mount namespace, for the working directory of createContainer hooks.

    Leaves: the slot BUNDLE. From there a hook sees the container's mounts, and may mount. The runtime's descriptor
        leads to the runtime's mounts, over which this process has no power.
    Fails with: openat; changed if `path` is not the bundle.
    Calls: openat newfstatat newfstatat close
    """

    path: str
    shows = "{path}"
    fails = "enter bundle {path} in the container's mount namespace"


class _MountPoint(ChildOp):
    """An operation that mounts on a path of the container. It resolves the path once, and creates what is missing.

    `target_real`: the path must be a directory behind no symlink, as for proc and sysfs.
    `target_proc`: the path is /proc, on which only the root of a procfs may lie (CVE-2019-19921).
    `target_below_proc`: the path is one of the files below /proc that lxcfs may cover.
    """

    target_real: bool = False
    target_proc: bool = False
    target_below_proc: bool = False


class BindMount(_MountPoint):
    """Attach a clone of `source` to a path of the container.

    Takes: `tree`, the slot of the clone, with its attributes set; `source`, for messages.
    Does: creates a missing mount point, a directory or a file like the source. Copies the symlink if the clone is one.
    Leaves: the slot, for `set_propagation`.
    Fails with: fstat, openat2, mkdirat, openat, move_mount, readlinkat, symlinkat; target-is-root; target-in-proc;
        not-proc. The detail is 1 if the source is a file.
    Calls: newfstatat (TARGET (fstatfs newfstatat)? move_mount close | readlinkat PATH symlinkat readlinkat? close)
    """

    target: str
    source: str
    tree: "Slot"
    shows = "{source} → {target}"
    fails = "bind {source} on {target}"


class Mount(_MountPoint):
    """Mount a new filesystem on a path of the container.

    Takes: `type` and `options`; mount `attributes`; `tree`, the slot that keeps the mount; `users`, the slot of the
        user namespace that maps its ids, 0 for none; `copy_up`, to copy the target's files to a tmpfs; `inherit_mode`,
        to give it the target's mode; `one_string`, if the options are too long for fsconfig(2). Then mount(2) takes
        `mount_flags` and two strings, `source=…` and the others with commas between.
    Leaves: slot `tree`.
    Fails with: the steps of a mount; fsconfig, with the number of the option in the detail and the filesystem's
        messages in the payload; target-is-root; target-in-proc; not-proc; too-deep.
    Calls: TARGET (fsopen fsconfig+ (newfstatat fsconfig+)? fsmount close | FILESYSTEM openat move_mount mkdirat openat
        fchdir mount open_tree newfstatat newfstatat close fchdir umount2 fchdir close close mount_setattr
        (openat newfstatat fchmod close)?) (fstatfs newfstatat)? COPY mount_setattr? move_mount close
    """

    type: str
    options: "Options"
    target: str
    mount_flags: "Natural" = 0
    attributes: "Natural"
    tree: "Slot"
    users: "Slot"
    copy_up: bool = False
    inherit_mode: bool = False
    one_string: bool = False
    pointers: "Sequence[str]" = ()
    """The JSON pointer of the property behind each option."""
    idmap_where: str = ""
    """The JSON pointer of the property behind the id mapping."""
    unsent = ("pointers", "idmap_where")
    fails = "mount {type} on {target}"

    def shown(self) -> str:
        extra = [*self.options]
        if self.copy_up:
            extra.append("tmpcopyup")
        if self.one_string:
            extra.append("in one string")
        if self.inherit_mode:
            extra.append("mode of the target")
        if self.users:
            extra.append("idmapped")
        text = f"{self.type} → {self.target}  {attributes(self.attributes)}".rstrip()
        return text + (f"  ({', '.join(extra)})" if extra else "")


class Remount(ChildOp):
    """Change a mount that exists: attributes, propagation, or options of its filesystem.

    Takes: `target`, a path of the container; `options`; attributes to set and clear; `propagation`, 0 to keep it;
        `recursive`, to change attributes and propagation of the mounts below, too.
    Fails with: openat2, mount_setattr, fspick, fsconfig, fsconfig(create).
    Calls: openat2 mount_setattr? (fspick fsconfig+ close)? close
    """

    target: str
    options: "Options" = ()
    attr_set: "Natural" = 0
    attr_clear: "Natural" = 0
    propagation: "Natural" = 0
    recursive: bool = False
    pointers: "Sequence[str]" = ()
    """The JSON pointer of the property behind each option."""
    unsent = ("pointers",)
    fails = "remount {target}"

    def shown(self) -> str:
        below = "recursively" if self.recursive else ""
        changes = (
            below, attributes(self.attr_set, self.attr_clear), propagation(self.propagation), ",".join(self.options),
        )  # fmt: skip
        return f"{self.target}  {' '.join(part for part in changes if part)}".rstrip()


class LabelMount(ChildOp):
    """Give the root of the mount in slot `tree` an SELinux label.

    Message queues exist before their mount, so an mqueue takes no option `context=`.

    Takes: `target`, for messages.
    Ignores: EOPNOTSUPP, from a policy without labels for this filesystem.
    Fails with: openat, fsetxattr.
    Calls: openat fsetxattr close
    """

    label: str
    target: str
    tree: "Slot"
    shows = "{target} = {label}"
    fails = "give {target} the SELinux label `{label}`"
