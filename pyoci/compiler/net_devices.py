"""`linux.netDevices` → operations.

Implements config-linux.md "Network Devices". The runtime moves the devices once the container's network namespace
exists, new or joined. It moves them before any hook runs, so that prestart and createRuntime hooks find them inside. It
moves them no earlier, because it has to undo the move if something fails later.
"""

from pyoci.compiler import verbs
from pyoci.compiler.operations import Part
from pyoci.compiler.verbs.numbers import NET_DEVICES
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.types import Linux

WHERE = "/linux/netDevices"


def move_net_devices(linux: "Linux") -> Part:
    """Move the devices at their own sync point, at which the container's network namespace exists."""
    moves = [
        verbs.MoveNetDevice(
            where,
            device=name,
            name=device.get("name", name),
            name_where=f"{where}/name" if "name" in device else where,
        )
        for name, device in linux["netDevices"].items()
        for where in (f"{WHERE}/{escape(name)}",)
    ]
    return Part([verbs.Sync(WHERE, point=NET_DEVICES)], at={NET_DEVICES: moves})
