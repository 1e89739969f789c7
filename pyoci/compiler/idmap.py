"""Idmapped mounts: `uidMappings`, `gidMappings`, `idmap` and `ridmap` of a mount → the user namespaces they need.

Implements config.md "Mounts". The kernel reads the mapping of a mount from a user namespace. If the mount has no
mappings of its own and the container joins a user namespace, the runtime uses that one. For any other mapping it makes
a namespace in which no process stays.
"""

from pyoci.compiler import verbs
from pyoci.compiler.namespaces import id_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.operations import Slots
    from pyoci.compiler.verbs import ParentOp
    from pyoci.types import Linux, Mount

OPTIONS = {"idmap": False, "ridmap": True}  # option: whether the mapping includes the mounts below


class MountIdMaps:
    """The user namespaces of a container's idmapped mounts. Each mapping gets one.

    `joined` is the slot of the user namespace that the container joins, 0 if it joins none.
    """

    def __init__(self, linux: "Linux", slots: "Slots", joined: int) -> None:
        self._linux = linux
        self._slots = slots
        self._joined = joined
        self._made: dict[tuple[str, str], int] = {}

    def find(self, entry: "Mount", where: str) -> "tuple[int, list[ParentOp]]":
        """Return the slot of the namespace for one entry of `mounts`, and the operation that makes it, if it is new.

        Uses the mount's own mappings if it has some, else the container's.
        """
        if not entry.get("uidMappings") and self._joined:
            return self._joined, []
        mappings: Linux | Mount = entry if entry.get("uidMappings") else self._linux
        uids, gids = id_map(mappings["uidMappings"]), id_map(mappings["gidMappings"])
        if (uids, gids) in self._made:
            return self._made[uids, gids], []
        slot = self._made[uids, gids] = self._slots.new()
        return slot, [verbs.MakeUserNamespace(where, uids=uids, gids=gids, namespace=slot)]


__all__ = ["OPTIONS", "MountIdMaps"]
