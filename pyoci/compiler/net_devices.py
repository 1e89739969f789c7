"""`linux.netDevices` → operations.

Implements config-linux.md "Network Devices". The runtime moves the devices when the container's network namespace is
there, new or joined, and before any hook runs: prestart and createRuntime hooks find them inside. As late as that,
since a move has to be undone when something fails after it.
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
    """Move each device at a point of its own, at which the container's network namespace exists."""
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
