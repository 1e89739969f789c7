"""Control groups, version 2.

resources.py      PURE: `linux.resources` → the files to write
device_filter.py  PURE: `linux.resources.devices` → an eBPF program
hierarchy.py      where the hierarchy is mounted, and where in it a cgroup lies
directories.py    its directories and files, by descriptor
fs.py             the effects: make a cgroup, limit it, freeze it, kill it, remove it
moved.py          a first process that has left the container's cgroup
disabled.py       no cgroup
units.py          PURE: `linux.cgroupsPath`, files and annotations → a unit of systemd's and its properties
gvariant.py       PURE: a property's value out of an annotation
systemd.py        the effects where systemd makes the cgroup

This package itself finds out which of them made a container's.
"""

from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cgroups.cgroupfs import Cgroup
    from pyoci.cgroups.disabled import NoCgroup


def from_dict(record: "dict[str, Any]") -> "Cgroup | NoCgroup":
    """The cgroup that some manager's `to_dict` described. Raises CgroupError if there is no such manager."""
    if record["driver"] == "systemd":
        from pyoci.cgroups.systemd import Unit  # only what is one pays for it

        return Unit.from_dict(record)
    from pyoci.cgroups.cgroupfs import Cgroup
    from pyoci.cgroups.disabled import NoCgroup

    managers: dict[str, type[Cgroup | NoCgroup]] = {"cgroupfs": Cgroup, "disabled": NoCgroup}
    if record["driver"] not in managers:
        raise CgroupError(f"cannot use cgroup manager {record['driver']}: this pyoci does not have it")
    return managers[record["driver"]].from_dict(record)
