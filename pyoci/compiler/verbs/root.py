"""The container's root, and its masked and read-only paths."""

from pyoci.compiler.verbs.base import ChildOp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Natural


class OpenRoot(ChildOp):
    """Open `/` of the mount namespace that the child has joined. Later operations resolve paths beneath it.

    Leaves: the slot ROOTFS.
    Fails with: openat.
    Calls: openat
    """

    fails = "open the container's root"


class PivotRoot(ChildOp):
    """Make the root filesystem `/`, and unmount the old tree. Both arguments are the current directory, not a path.

    Fails with: fchdir, openat, pivot_root, mount_setattr, umount2, chdir; changed if `/` is something else afterwards.
    Calls: fchdir openat pivot_root fchdir close mount_setattr umount2 chdir openat newfstatat newfstatat close
    """

    fails = "pivot to the root filesystem"


class EnterRoot(ChildOp):
    """Make the root filesystem `/` of this process only, whose mount namespace is not the container's.

    The root filesystem is attached nowhere. So a process that escapes its chroot finds nothing above it.

    Fails with: fchdir, chroot, chdir.
    Calls: fchdir chroot chdir
    """

    fails = "enter the root filesystem"


class MoveRoot(ChildOp):
    """Move the root filesystem over `/` and enter it by chroot: --no-pivot, for a host whose root is an initramfs.

    It detaches the host's procfs and sysfs first, because a process can escape a chroot. If the kernel refuses, as in a
    user namespace, it covers them with an empty tmpfs.

    Fails with: umount2, move_mount, fchdir, chroot, chdir.
    Calls: (openat (fstatfs umount2? (fsopen fsconfig+ fsmount close move_mount)? close)?)+
        fchdir move_mount chroot chdir
    """

    fails = "move to the root filesystem"


class MakeMaskDirectory(ChildOp):
    """Make the empty, read-only tmpfs that masks directories, with an SELinux label.

    Leaves: the slot MASK_DIRECTORY. Without this operation `mask_path` makes one when it needs it.
    Fails with: fsopen, fsconfig, fsmount.
    Calls: FILESYSTEM
    """

    label: str
    fails = "make a tmpfs with the SELinux label `{label}`"
    shows = "{label}"


class _ProtectedPath(ChildOp):
    """An operation that protects `path`, or if `mount` is one of the container's own mounts, `below` from its root.

    That mount must have the type `filesystem`, as in statfs(2), and lie behind no symlink. Otherwise a process has
    replaced the mount point, and the paths below would stay unprotected.
    """

    path: str
    mount: str = ""
    below: str = ""
    filesystem: "Natural" = 0
    shows = "{path}"


class MaskPath(_ProtectedPath):
    """Cover a path so that no process can read it: a directory by an empty tmpfs, a file by the host's /dev/null.

    Ignores: a missing path.
    Fails with: openat2, fstat, open_tree, move_mount; changed if the mount above it was replaced.
    Calls: PROTECTED (newfstatat (FILESYSTEM? move_mount | open_tree move_mount close) close)?
    """

    fails = "mask {path}"


class ReadonlyPath(_ProtectedPath):
    """Bind a path over itself, with all mounts below it, and make the bind read-only before attaching it.

    Ignores: a missing path.
    Fails with: openat2, open_tree, mount_setattr, move_mount; changed if the mount above it was replaced.
    Calls: PROTECTED (open_tree mount_setattr move_mount close close)?
    """

    fails = "make {path} read-only"
