"""`linux.netDevices` → operations.

Implements config-linux.md "Network Devices". The runtime moves the devices when the container's network namespace is
there, new or joined, and before any hook runs: prestart and createRuntime hooks find them inside. As late as that,
since a move has to be undone when something fails after it.
"""

from pyoci.compiler.operations import NET_DEVICES, Op, sync
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyoci.compiler.operations import Plan

WHERE = "/linux/netDevices"


def move_net_devices(plan: "Plan", linux: "dict[str, Any]") -> "Iterator[Op]":
    """One operation of the runtime for each device: s1 its name on the host, s2 the one in the container, s3 where that
    comes from."""
    plan.at[NET_DEVICES] = [
        Op("move_net_device", where, name, device.get("name", name), f"{where}/name" if "name" in device else where)
        for name, device in linux["netDevices"].items()
        for where in (f"{WHERE}/{escape(name)}",)
    ]
    yield sync(NET_DEVICES, WHERE)
