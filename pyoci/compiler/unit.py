"""The systemd driver → operations: a unit with its properties, and the moment at which its cgroup has to be there.

systemd needs a process to make a unit, and takes some milliseconds: it is asked as soon as the container's first
process exists, which goes on up to its cgroup namespace meanwhile.
"""

from pyoci.cgroups import resources, units
from pyoci.compiler.create import filter_devices, write_limits
from pyoci.compiler.operations import CGROUP, READY, Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyoci.compiler.create import Host
    from pyoci.compiler.operations import Plan


def compile_unit(plan: "Plan", config: "dict[str, Any]", host: "Host", id: str, of_init: "list[Op]") -> None:
    """Ask for the unit in `of_init`, where the first process is known; limit its cgroup once it is there.

    Raises `CgroupError` with the pointer of a path, limit or annotation that can't be had.
    """
    linux = config.get("linux", {})
    limits = resources.as_meant(linux.get("resources", {}), config.get("ociVersion", ""))
    name = units.parse_path(linux.get("cgroupsPath", ""), id, user=host.user_manager)
    plan.writes = units.rounded(resources.writes(limits))
    early = units.base(name, id)
    late: list[units.Property] = []
    hooked = any(
        op.verb in ("run_hook", "clone_init") for op in plan.init
    )  # not before every process of the set-up was cloned
    for write in plan.writes:
        found = units.changes([write]) if name.is_slice else units.properties([write])
        (late if hooked and write.controller == "pids" else early).extend(found)
    early += units.annotated(config.get("annotations", {}), plan.writes, plan.ignore)
    plan.properties = [*early, *late]
    asking = [_property("set_property", plan, index) for index in range(len(early))]
    asking.append(Op("start_unit", units.PATH_POINTER, name.unit, name.slice, a=host.user_manager))
    of_init[:0] = asking

    plan.before.append(Op("connect_systemd", units.PATH_POINTER, "the user's" if host.user_manager else "the system's"))
    plan.at.setdefault(CGROUP, []).append(Op("await_unit", units.PATH_POINTER, name.unit))
    there, ready = plan.after.setdefault(CGROUP, []), plan.at.setdefault(READY, [])
    write_limits(plan, there)
    ready.extend(_property("change_property", plan, index) for index in range(len(early), len(plan.properties)))
    filter_devices(plan, limits, there, host)


def _property(verb: str, plan: "Plan", index: int) -> Op:
    one = plan.properties[index]
    return Op(verb, one.where, one.name, one.text, a=index)


__all__ = ["compile_unit"]
