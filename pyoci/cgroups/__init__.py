"""Control groups, version 2.

driver.py          what every driver offers: a typing.Protocol
cgroupfs.py        the driver that creates and removes cgroups through the file system, and limits them
freezer.py         stops, resumes and signals the processes of a cgroup
takeover.py        a cgroup that existed before its container: who owns it, and what to restore
controllers.py     enables controllers in the ancestors
device_program.py  attaches the device filter
systemd.py         the driver for which systemd creates the cgroup
disabled.py        the driver without a cgroup
update.py          new limits for a container that runs
moved.py           an init process that has left the container's cgroup
hierarchy.py       where the hierarchy is mounted, and where a cgroup lies in it
directories.py     its directories and files, by descriptor

Pure:

resources.py       `linux.resources` → the values to write
device_filter.py   `linux.resources.devices` → an eBPF program
stats.py           a cgroup's files → statistics
units.py           `linux.cgroupsPath`, limits and annotations → a systemd unit and its properties
gvariant.py        an annotation → the value of a property

This module chooses the driver of an existing container.
"""

from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cgroups.driver import Driver


def from_dict(record: "dict[str, Any]") -> "Driver":
    """Return the cgroup that a driver's `to_dict` described. Raises CgroupError for an unknown driver."""
    name = record["driver"]
    if name == "systemd":
        from pyoci.cgroups.systemd import Unit  # only containers with a unit load this

        return Unit.from_dict(record)
    if name == "cgroupfs":
        from pyoci.cgroups.cgroupfs import Cgroup

        return Cgroup.from_dict(record)
    if name == "disabled":
        from pyoci.cgroups.disabled import NoCgroup

        return NoCgroup.from_dict(record)
    raise CgroupError(f"cannot use cgroup manager {name}: this pyoci does not have it")


__all__ = ["from_dict"]
