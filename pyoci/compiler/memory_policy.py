"""`linux.memoryPolicy` → an operation.

Implements config-linux.md "Memory policy". The policy is set when the cgroup has its limits: what comes after, a change
of cpuset.mems, would have the kernel move the policy to other nodes.
"""

from pyoci import ranges
from pyoci.compiler import verbs
from pyoci.compiler.verbs.process import MEMORY_POLICY_FLAGS as FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.verbs import ChildOp
    from pyoci.types import MemoryPolicy

# linux/mempolicy.h
MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
# set_mempolicy(2): of several nodes the first that it may have is taken.
TAKES_ONE = "MPOL_PREFERRED"
# The same: the nodes need not be there, or not yet.
NOT_YET = FLAGS["MPOL_F_RELATIVE_NODES"] | FLAGS["MPOL_F_STATIC_NODES"]


def set_memory_policy(policy: "MemoryPolicy") -> "ChildOp":
    """The policy of the process, which its children inherit."""
    mode = policy["mode"]
    flags = 0
    for name in policy.get("flags", ()):
        flags |= FLAGS[name]
    nodes = policy.get("nodes", "")
    bits = ranges.bits(nodes) if nodes else 0
    mask = bits.to_bytes((bits.bit_length() + 63) // 64 * 8, "little")  # an array of unsigned long
    return verbs.SetMemoryPolicy(
        "/linux/memoryPolicy",
        mask=mask,
        name=mode,
        nodes=nodes,
        mode=MODES[mode] | flags,
        size=8 * len(mask),
        exactly=bool(mask) and mode != TAKES_ONE and not flags & NOT_YET,
    )


__all__ = ["FLAGS", "MODES", "set_memory_policy"]
