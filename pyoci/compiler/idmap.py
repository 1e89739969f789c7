"""Idmapped mounts: `uidMappings`, `gidMappings`, `idmap` and `ridmap` of a mount → the user namespaces they take.

Implements config.md "Mounts". The kernel reads the mapping of a mount from a user namespace. The container's own, where
there is one to join, serves as it is; for any other mapping a namespace is made that no process stays in.
"""

from pyoci.compiler import verbs
from pyoci.compiler.namespaces import id_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.operations import Plan
    from pyoci.types import Linux, Mount

OPTIONS = {"idmap": False, "ridmap": True}  # option: whether the mounts below get the mapping, too


class Mappings:
    """The user namespaces of a container's idmapped mounts, each mapping made once."""

    def __init__(self, plan: "Plan", linux: "Linux") -> None:
        self._plan = plan
        self._linux = linux
        self._made: dict[tuple[str, str], int] = {}

    def slot(self, entry: "Mount", where: str) -> int:
        """The slot of a user namespace for one entry of `mounts`: its own mappings, or the container's."""
        if entry.get("uidMappings"):
            return self._make(entry, where)
        for op in self._plan.before:
            if isinstance(op, verbs.OpenNamespace) and op.kind == "user":
                return op.namespace
        return self._make(self._linux, where)

    def _make(self, mappings: "Linux | Mount", where: str) -> int:
        maps = (id_map(mappings["uidMappings"]), id_map(mappings["gidMappings"]))
        if maps not in self._made:
            slot = self._made[maps] = self._plan.new_slot()
            self._plan.before.append(verbs.MakeUserNamespace(where, uids=maps[0], gids=maps[1], namespace=slot))
        return self._made[maps]


__all__ = ["OPTIONS", "Mappings"]
