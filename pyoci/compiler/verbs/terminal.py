"""The program's terminal and standard streams."""

from pyoci.compiler.verbs.base import ChildOp
from pyoci.compiler.verbs.numbers import CONSOLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Natural, Point


class OpenConsole(ChildOp):
    """Open a pseudo-terminal of the container's devpts, and send its master to the runtime at the point CONSOLE.

    Takes: `height` and `width` in characters, 0 and 0 to keep the kernel's; `uid`, its owner.
    Ignores: a user who can't own it, as in a user namespace without this id.
    Leaves: the slot TERMINAL. It comes from the master, because another process could replace a path.
    Fails with: openat2, fstatfs, ioctl, fchownat; not-devpts.
    Calls: openat2 fstatfs openat2 newfstatat ioctl ioctl ioctl? fchown sendmsg read close close
    """

    point: "Point" = CONSOLE
    height: "Natural"
    width: "Natural"
    uid: "Natural"
    fails = "open a terminal"

    def shown(self) -> str:
        return f"{self.width}x{self.height}" if self.height or self.width else ""


class MountConsole(ChildOp):
    """Bind the terminal on /dev/console and put it on descriptors 0 to 2.

    Takes: `take`, to make it the controlling terminal of this process, too.
    Fails with: openat2, mkdirat, openat, open_tree, move_mount, dup, ioctl; target-in-proc.
    Calls: PATH fstatfs open_tree move_mount close close dup2 dup2 dup2 ioctl?
    """

    take: bool
    fails = "set up /dev/console"


class UseTerminal(ChildOp):
    """Put the terminal on descriptors 0 to 2.

    Fails with: dup.
    Calls: dup2 dup2 dup2
    """

    fails = "use the terminal"


class TakeTerminal(ChildOp):
    """Make descriptor 0 the controlling terminal of this process, which leads a session.

    It makes one call only, because the seccomp filter may be in force.

    Fails with: ioctl.
    Calls: ioctl
    """

    fails = "take the terminal"


class ChownStdio(ChildOp):
    """Let the program's user open /dev/stdin, /dev/stdout and /dev/stderr again.

    Does: gives pipes, sockets, ptys and files that are open for writing to `uid`. Replaces the host's /dev/null by the
        container's.
    Ignores: other devices, directories, and files that are open for reading only, because a caller may have opened them
        without owning them; an error of fchown.
    Calls: (newfstatat | fcntl | fchown | openat2 | dup2 | close)*
    """

    uid: "Natural"
    shows = "uid {uid}"
    fails = "give the standard streams to the container's user"
