"""New limits for a container that exists: all of them, or none.

The `linux.resources` of an update lists what changes. Where cgroup v2 keeps two values in one file, such as quota and
period, an update may name one of them. This reads the other one from the file.
"""

from pyoci.cgroups import resources as conversion
from pyoci.cgroups.resources import Write
from pyoci.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cgroups.driver import Driver
    from pyoci.types import Memory, Resources


def update(cgroup: "Driver", resources: "Resources", version: str) -> None:
    """Put `resources` into effect. `version` is the `ociVersion` of the container's config.

    Ignores device rules: engines send the container's whole `linux.resources`. Raises CgroupError for a limit that
    can't be set, and then restores the limits that it has changed.
    """
    meant = conversion.as_meant(resources, version)
    wanted = cgroup.rounded(conversion.writes(_completed(cgroup, meant), ""))
    cgroup.enable(wanted)
    undo: list[Write] = []
    for write in wanted:
        before = _inverse(cgroup, write)
        try:
            cgroup.apply([write])
        except CgroupError as error:
            raise _undone(cgroup, undo, error) from error
        if before is not None:
            undo.append(before)
    try:
        cgroup.notify_manager(wanted)
    except CgroupError as error:
        raise _undone(cgroup, undo, error) from error


def _completed(cgroup: "Driver", resources: "Resources") -> "Resources":
    """Return `resources` with the values that an update leaves out but the conversion needs.

    A period alone keeps the quota, and a quota alone the period. A memory limit alone keeps the limit of memory plus
    swap, and the other way round.
    """
    completed: Resources = {**resources}
    cpu, memory = resources.get("cpu", {}), resources.get("memory", {})
    if cpu.get("period") and not cpu.get("quota"):
        quota = cgroup.read("cpu.max").partition(" ")[0]
        completed["cpu"] = {**cpu, "quota": int(quota) if quota.isdigit() else -1}
    limit, total = memory.get("limit", 0), memory.get("swap", 0)
    if (limit > 0 and not total) or (total > 0 and not limit):
        completed["memory"] = {**memory, **_other_memory_limit(cgroup, limit, total)}
    return completed


def _other_memory_limit(cgroup: "Driver", limit: int, total: int) -> "Memory":
    memory, swap = cgroup.read("memory.max").strip(), cgroup.read("memory.swap.max").strip()
    if not limit and not memory.isdigit():
        raise CgroupError(
            f"cannot set swap {total}: it limits memory plus swap, and the container has no limit of memory",
            where="/memory/swap",
        )
    if not limit and total < int(memory):
        raise CgroupError(
            f"cannot set swap {total}: it limits memory plus swap, and the container's limit of memory is {memory}",
            where="/memory/swap",
        )
    if not limit:
        return {"limit": int(memory)}
    if not memory.isdigit():
        return {}
    # If the container may not swap, a lower memory limit must not let it.
    if not swap.isdigit() or swap == "0" or int(memory) + int(swap) < limit:
        return {}
    return {"swap": int(memory) + int(swap)}


def _inverse(cgroup: "Driver", write: Write) -> "Write | None":
    """Return the write that undoes `write`; None if the file does not exist, so that nothing can change."""
    file = write.file
    text = cgroup.read(file)
    if not text and write.otherwise:
        return _inverse(cgroup, write.otherwise)
    if not text:
        return None
    if " " not in write.value or file == "cpu.max":
        return Write(file, text.strip(), write.where)
    key, _, values = write.value.partition(" ")
    for line in text.splitlines():
        if line.startswith(f"{key} "):
            return Write(file, line, write.where)
    # A device without a line has no limit.
    lifted = " ".join(f"{pair.partition('=')[0]}=max" for pair in values.split()) if "=" in values else "default"
    return Write(file, f"{key} {lifted}", write.where)


def _undone(cgroup: "Driver", undo: "list[Write]", error: CgroupError) -> CgroupError:
    """Apply `undo`, last change first. Returns `error`, and names in it the files that keep their new values."""
    kept = []
    for write in reversed(undo):
        try:
            cgroup.apply([write])
        except CgroupError:
            kept.append(write.file)
    if not kept:
        return error
    return CgroupError(f"{error.message}; cannot restore {', '.join(kept)}", where=error.where, hint=error.hint)


__all__ = ["update"]
