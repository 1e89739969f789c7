"""`linux.memoryPolicy` → an operation.

Implements config-linux.md "Memory policy". The child sets the policy once the cgroup has its limits. If cpuset.mems
changed later, the kernel would move the policy to other nodes.
"""

import sys

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
# set_mempolicy(2): with this mode the kernel uses the first node that the process may use.
USES_FIRST_NODE = "MPOL_PREFERRED"
# set_mempolicy(2): with these flags the nodes may be missing, and appear later.
NODES_MAY_BE_MISSING = FLAGS["MPOL_F_RELATIVE_NODES"] | FLAGS["MPOL_F_STATIC_NODES"]


def set_memory_policy(policy: "MemoryPolicy") -> "ChildOp":
    """Set the policy of the process, which its children inherit."""
    mode = policy["mode"]
    flags = 0
    for name in policy.get("flags", ()):
        flags |= FLAGS[name]
    nodes = policy.get("nodes", "")
    bits = ranges.bits(nodes) if nodes else 0
    # an array of unsigned long, the lowest nodes first
    mask = b"".join(
        (bits >> first & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, sys.byteorder) for first in range(0, bits.bit_length(), 64)
    )
    return verbs.SetMemoryPolicy(
        "/linux/memoryPolicy",
        mask=mask,
        name=mode,
        nodes=nodes,
        mode=MODES[mode] | flags,
        exactly=bool(mask) and mode != USES_FIRST_NODE and not flags & NODES_MAY_BE_MISSING,
    )


__all__ = ["FLAGS", "MODES", "set_memory_policy"]
