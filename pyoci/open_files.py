"""Room for a plan with very many descriptors: each mount has one until it is attached, and longer.

The soft limit is there to protect programs that can't cope with large numbers; the runtime takes what it needs of the
hard one for as long as it makes the container, and the container's program gets the soft limit of the caller.
"""

from pyoci import _native, files
from pyoci.plan.operations import READY, Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyoci.plan.operations import Plan

_OTHERS = 64  # what the runtime has open besides
_NOFILE = 7


def make_room(plan: "Plan", preserved: int) -> "Callable[[], None]":
    """Raise this process' soft limit as far as `plan` needs it, `preserved` descriptors aside, and have the container's
    first process lower its own again. Returns what takes it back here, once the plan has been run.
    """
    soft, hard = _limits()
    needed = min(plan.slots + preserved + _OTHERS, hard)
    if needed <= soft:
        return lambda: None
    _native.prlimit(0, _NOFILE, needed, hard)
    ready = next(index for index, op in enumerate(plan.init) if op.verb == "sync" and op.a == READY)
    # by itself, which takes no privilege, and before the runtime sets the limits of the config
    plan.init.insert(ready, Op("set_rlimit", "", "RLIMIT_NOFILE", a=_NOFILE, b=soft, c=hard))
    return lambda: _native.prlimit(0, _NOFILE, soft, hard)


def _limits() -> "tuple[int, int]":
    """The limits on this process' descriptors, soft and hard."""
    for line in files.read("/proc/self/limits").split(b"\n"):
        if line.startswith(b"Max open files"):
            soft, hard = line.split()[3:5]
            return int(soft), int(hard)
    return 1 << 20, 1 << 20  # a kernel that does not tell has its way


__all__ = ["make_room"]
