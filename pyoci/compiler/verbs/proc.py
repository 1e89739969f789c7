"""Writes to procfs. The child uses a procfs that is attached nowhere, so no mount can cover its files."""

from pyoci.compiler.verbs.base import ChildOp


class OpenProc(ChildOp):
    """Open the procfs through which this process writes: a new one that is attached nowhere.

    Takes: `visible`, to use the one at `path`, which is /proc. A process can't mount a procfs if another user namespace
        owns its pid namespace.
    Ignores: EPERM for a new one if /proc is a procfs. The kernel denies it if mounts cover files of /proc. The writes
        then go through /proc.
    Leaves: the slot PROC.
    Fails with: fsopen, fsconfig, fsconfig(create), fsmount, openat2.
    Calls: openat2 fstatfs newfstatat | fsopen fsconfig+ fsmount? close (openat2 fstatfs newfstatat close)?
    """

    path: str
    visible: bool

    def shown(self) -> str:
        return f"the one at {self.path}" if self.path else ""

    def attempt(self) -> str:
        return f"open the procfs at {self.path}" if self.path else "mount a private procfs"


class WriteSysctl(ChildOp):
    """Write a kernel parameter.

    Takes: `path` below /proc; `value`.
    Fails with: openat2 (EXDEV: something is mounted over the file), not-proc, write.
    Calls: openat2? (openat2 fstatfs newfstatat openat2 close)? fstatfs write close
    """

    path: str
    value: str
    shows = "/proc/{path} = {value}"

    def attempt(self) -> str:
        return f"write {self.value!r} to /proc/{self.path}"


class WriteAttr(ChildOp):
    """Set an attribute of a security module for the next execve of this thread, and read it back.

    Takes: `path` below /proc; `value`; `expected`, the beginning of the text that it reads back.
    Fails with: openat2, not-proc, write, read; label-differs if the module reports another label.
    Calls: openat2? (openat2 fstatfs newfstatat openat2 close)? fstatfs write close
        openat2? (openat2 fstatfs newfstatat openat2 close)? fstatfs read close
    """

    path: str
    value: str
    expected: str
    shows = "/proc/{path} = {value}"

    def attempt(self) -> str:
        if self.where == "/process/apparmorProfile":
            return f"apply the AppArmor profile `{self.value.removeprefix('exec ')}`"
        return f"apply the SELinux label `{self.value}`"
