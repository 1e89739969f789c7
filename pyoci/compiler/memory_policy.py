"""`linux.memoryPolicy` → an operation.

Implements config-linux.md "Memory policy". The policy is set when the cgroup has its limits: what comes after, a change
of cpuset.mems, would have the kernel move the policy to other nodes.
"""

from pyoci import ranges
from pyoci.compiler.operations import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# linux/mempolicy.h
MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
FLAGS = {"MPOL_F_NUMA_BALANCING": 1 << 13, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_STATIC_NODES": 1 << 15}
# set_mempolicy(2): of several nodes the first that it may have is taken.
TAKES_ONE = "MPOL_PREFERRED"
# The same: the nodes need not be there, or not yet.
NOT_YET = FLAGS["MPOL_F_RELATIVE_NODES"] | FLAGS["MPOL_F_STATIC_NODES"]


def set_memory_policy(policy: "dict[str, Any]") -> Op:
    """The policy of the process, which its children inherit."""
    mode = policy["mode"]
    flags = 0
    for name in policy.get("flags", ()):
        flags |= FLAGS[name]
    nodes = policy.get("nodes", "")
    bits = ranges.bits(nodes) if nodes else 0
    mask = bits.to_bytes((bits.bit_length() + 63) // 64 * 8, "little")  # an array of unsigned long
    exactly = mask and mode != TAKES_ONE and not flags & NOT_YET
    a, b, c = MODES[mode] | flags, 8 * len(mask), 1 if exactly else 0
    return Op("set_memory_policy", "/linux/memoryPolicy", mode, nodes, blob=mask, a=a, b=b, c=c)


__all__ = ["FLAGS", "MODES", "set_memory_policy"]
