"""New limits for a container that exists: all of them, or none.

`linux.resources` of an update says what changes. What cgroup v2 keeps in one file but an update may name in part, such
as quota and period, is completed from the file.
"""

from pyoci.cgroups import resources as conversion
from pyoci.cgroups.resources import Write
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.cgroups.cgroupfs import Cgroup
    from pyoci.cgroups.disabled import NoCgroup


def update(cgroup: "Cgroup | NoCgroup", resources: "dict[str, Any]", version: str) -> None:
    """Put `resources` into effect. `version` is the `ociVersion` of the container's config.

    Raises CgroupError for what can't be had; the limits are then as they were.

    Device rules are left alone: engines send the container's whole `linux.resources`.
    """
    meant = conversion.as_meant(resources, version)
    wanted = cgroup.fitted(conversion.writes(_completed(cgroup, meant), ""))
    cgroup.enable(wanted)
    undo: list[Write] = []
    for write in wanted:
        before = _before(cgroup, write)
        try:
            cgroup.apply([write])
        except CgroupError as error:
            raise _taken_back(cgroup, undo, error) from error
        if before is not None:
            undo.append(before)
    try:
        cgroup.tell(wanted)
    except CgroupError as error:
        raise _taken_back(cgroup, undo, error) from error


def _completed(cgroup: "Cgroup | NoCgroup", resources: "dict[str, Any]") -> "dict[str, Any]":
    """A period alone keeps the quota, a quota alone the period; a limit of memory alone, or one of memory plus swap,
    keeps the other one.
    """
    completed = dict(resources)
    cpu, memory = resources.get("cpu", {}), resources.get("memory", {})
    if cpu.get("period") and not cpu.get("quota"):
        quota = cgroup.read("cpu.max").partition(" ")[0]
        completed["cpu"] = {**cpu, "quota": int(quota) if quota.isdigit() else -1}
    limit, total = memory.get("limit", 0), memory.get("swap", 0)
    if (limit > 0 and not total) or (total > 0 and not limit):
        completed["memory"] = {**memory, **_with_other_limit(cgroup, limit)}
    return completed


def _with_other_limit(cgroup: "Cgroup | NoCgroup", limit: int) -> "dict[str, int]":
    memory, swap = cgroup.read("memory.max").strip(), cgroup.read("memory.swap.max").strip()
    if not memory.isdigit():
        return {}
    if not limit:
        return {"limit": int(memory)}
    # who has no swap gets none by less memory
    if not swap.isdigit() or swap == "0" or int(memory) + int(swap) < limit:
        return {}
    return {"swap": int(memory) + int(swap)}


def _before(cgroup: "Cgroup | NoCgroup", write: Write) -> "Write | None":
    """The write that takes `write` back; None if there is no such file, and so nothing that could be changed."""
    file = write.file
    text = cgroup.read(file)
    if not text and write.otherwise:
        return _before(cgroup, write.otherwise)
    if not text:
        return None
    if " " not in write.value or file == "cpu.max":
        return Write(file, text.strip(), write.where)
    key, _, values = write.value.partition(" ")
    for line in text.splitlines():
        if line.startswith(f"{key} "):
            return Write(file, line, write.where)
    # a device without a line has no limit
    lifted = " ".join(f"{pair.partition('=')[0]}=max" for pair in values.split()) if "=" in values else "default"
    return Write(file, f"{key} {lifted}", write.where)


def _taken_back(cgroup: "Cgroup | NoCgroup", undo: "list[Write]", error: CgroupError) -> CgroupError:
    """`error`, after the limits that were changed before it got their old values; those that did not are named."""
    kept = []
    for write in reversed(undo):
        try:
            cgroup.apply([write])
        except CgroupError:
            kept.append(write.file)
    if not kept:
        return error
    return CgroupError(f"{error.message}; could not take back {', '.join(kept)}", where=error.where, hint=error.hint)
