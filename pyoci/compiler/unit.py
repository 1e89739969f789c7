"""The systemd driver → operations: a unit with its properties, and the moment at which its cgroup has to be there.

systemd needs a process to make a unit, and takes some milliseconds: it is asked as soon as the container's first
process exists, which goes on up to its cgroup namespace meanwhile.
"""

from pyoci.cgroups import resources, units
from pyoci.compiler import verbs
from pyoci.compiler.create import filter_devices, write_limits
from pyoci.compiler.verbs.numbers import CGROUP, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.create import Host
    from pyoci.compiler.operations import Plan
    from pyoci.compiler.verbs import ParentOp
    from pyoci.types import Config


def compile_unit(plan: "Plan", config: "Config", host: "Host", id: str, of_init: "list[ParentOp]") -> None:
    """Ask for the unit in `of_init`, where the first process is known; limit its cgroup once it is there.

    Raises `CgroupError` with the pointer of a path, limit or annotation that can't be had.
    """
    linux = config.get("linux", {})
    limits = resources.as_meant(linux.get("resources", {}), config.get("ociVersion", ""))
    name = units.parse_path(linux.get("cgroupsPath", ""), id, user=host.user_manager)
    writes = units.rounded(resources.writes(limits))
    early = units.base(name, id)
    late: list[units.Property] = []
    hooked = any(
        isinstance(op, verbs.RunHook | verbs.CloneInit) for op in plan.init
    )  # not before every process of the set-up was cloned
    for write in writes:
        found = units.changes([write]) if name.is_slice else units.properties([write])
        (late if hooked and write.controller == "pids" else early).extend(found)
    early += units.annotated(config.get("annotations", {}), writes, plan.ignore)
    asking: list[ParentOp] = [verbs.SetProperty(one.where, property=one) for one in early]
    asking.append(verbs.StartUnit(units.PATH_POINTER, unit=name.unit, slice=name.slice, user=host.user_manager))
    of_init[:0] = asking

    whose = "the user's" if host.user_manager else "the system's"
    plan.before.append(verbs.ConnectSystemd(units.PATH_POINTER, whose=whose))
    plan.at.setdefault(CGROUP, []).append(verbs.AwaitUnit(units.PATH_POINTER, unit=name.unit, writes=writes))
    there, ready = plan.after.setdefault(CGROUP, []), plan.at.setdefault(READY, [])
    write_limits(plan, writes, there)
    ready.extend(verbs.ChangeProperty(one.where, property=one) for one in late)
    filter_devices(plan, limits, there, host)
    there.append(verbs.RecordCgroup(units.PATH_POINTER))


__all__ = ["compile_unit"]
