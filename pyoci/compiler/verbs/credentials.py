"""The ids, groups, capabilities and other limits of power of the program's process."""

import sys

from pyoci.compiler.verbs.base import ChildOp
from pyoci.compiler.verbs.phrases import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs.base import Natural


class JoinKeyring(ChildOp):
    """Join a new session keyring. It has no name, because another process could have made a keyring of that name.

    Ignores: ENOSYS, a kernel without keyrings, and EPERM, an engine's seccomp filter that denies them.
    Fails with: keyctl.
    Calls: keyctl
    """

    shows = "a new one"
    fails = "join a session keyring"


class SetNoNewPrivs(ChildOp):
    """Set no_new_privs, so that execve grants no privileges.

    Fails with: prctl.
    Calls: prctl
    """

    fails = "set no_new_privs"


class SetPersonality(ChildOp):
    """Set the execution domain.

    Takes: `name`, the config's word for `personality`.
    Fails with: personality.
    Calls: personality
    """

    name: str
    personality: "Natural"
    shows = "{name}"
    fails = "set personality {name}"


class DropBounding(ChildOp):
    """Drop every capability from the bounding set but those in the mask `keep`.

    Ignores: capabilities that the kernel does not know.
    Fails with: prctl.
    Calls: prctl+
    """

    keep: int
    fails = "drop capabilities"

    def shown(self) -> str:
        return f"keep {capabilities(self.keep)}"


class SetGroups(ChildOp):
    """Set the supplementary groups.

    Takes: `gids`, numbers of 32 bits.
    Fails with: setgroups.
    Calls: setgroups
    """

    gids: bytes
    fails = "set supplementary groups"

    def shown(self) -> str:
        gids = self.gids
        return " ".join(str(int.from_bytes(gids[n : n + 4], sys.byteorder)) for n in range(0, len(gids), 4)) or "none"


class SetIds(ChildOp):
    """Set real, effective and saved ids.

    Leaves: the permitted capabilities, which `set_capabilities` reduces. A process that is not dumpable and dies with
        the runtime, as before: the kernel resets both with the ids, and this operation sets them back.
    Fails with: prctl, setresgid, setresuid.
    Calls: prctl setresgid setresuid prctl prctl
    """

    uid: "Natural"
    gid: "Natural"
    shows = "uid {uid} gid {gid}"
    fails = "change user and group"


class SetCapabilities(ChildOp):
    """Set three capability sets to exactly these masks, and read them back.

    Fails with: capset; caps-differ if the kernel has granted something else.
    Calls: capset capget
    """

    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    fails = "set capabilities"

    def shown(self) -> str:
        effective = f"effective {capabilities(self.effective)}"
        if self.effective == self.permitted and not self.inheritable:
            return effective
        return f"{effective}; permitted {capabilities(self.permitted)}; inheritable {capabilities(self.inheritable)}"


class SetAmbient(ChildOp):
    """Set the ambient capabilities to exactly this mask.

    Fails with: prctl.
    Calls: prctl+
    """

    ambient: int
    fails = "raise ambient capabilities"

    def shown(self) -> str:
        return capabilities(self.ambient)
