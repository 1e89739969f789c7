"""`linux.cgroupsPath` and `linux.resources` → operations, for each cgroup manager.

Implements config-linux.md "Control groups". With cgroupfs the runtime creates the cgroup before the clone, which goes
straight into it. systemd needs a process to create a unit, and some milliseconds. The runtime asks it as soon as init
exists, and init continues meanwhile until it needs its cgroup.
"""

from pyoci.cgroups import device_filter, resources
from pyoci.compiler import verbs
from pyoci.compiler.operations import Part, ignore
from pyoci.compiler.verbs.numbers import CGROUP, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cgroups.resources import Write
    from pyoci.cgroups.units import Property
    from pyoci.compiler.facts import Host, Options
    from pyoci.compiler.verbs import ParentOp
    from pyoci.types import Config, Resources


def compile_disabled(config: "Config", options: "Options") -> Part:
    """Warn about limits that no cgroup enforces."""
    if not resources.writes(_limits(config)):
        return Part()
    why = options.no_cgroup or "the cgroup manager is disabled"
    return Part(warnings=[f"/linux/resources: ignored: the container gets no cgroup: {why}"])


def compile_cgroupfs(config: "Config", host: "Host", options: "Options", *, opens_devices: bool) -> Part:
    """Create the cgroup before the clone. Limit it while the child works.

    `opens_devices`: mounts of the container open devices of the host, which the device filter must not deny.
    """
    limits = _limits(config)
    writes = resources.writes(limits)
    path = config.get("linux", {}).get("cgroupsPath") or f"{options.container_id}, beside the runtime's own cgroup"
    early, late = _write_limits(writes)
    filters = _filter_devices(limits, host)
    return Part(
        before=[verbs.MakeCgroup("/linux/cgroupsPath", path=path, writes=writes)],
        alongside=[*early, *(() if opens_devices else filters)],
        at={READY: [*late, *(filters if opens_devices else ())]},
    )


class Unit:
    """What systemd's unit adds to a plan: `asking`, operations for as soon as init exists, and the rest as a `part`."""

    __slots__ = ("asking", "part")

    def __init__(self, asking: "list[ParentOp]", part: Part) -> None:
        self.asking = asking
        self.part = part


def compile_unit(config: "Config", host: "Host", options: "Options", *, opens_devices: bool, clones_more: bool) -> Unit:
    """Ask systemd for the unit, and limit its cgroup once it exists.

    `clones_more`: the setup clones processes in the cgroup, such as hooks, which a limit of processes must not stop.
    Raises `CgroupError` with the pointer of a path, limit or annotation that is not available.
    """
    from pyoci.cgroups import units  # only this manager needs it

    limits = _limits(config)
    writes = units.rounded(resources.writes(limits))
    name = units.parse_path(
        config.get("linux", {}).get("cgroupsPath", ""), options.container_id, user=host.user_manager
    )
    at_start = units.base(name, options.container_id)
    when_ready: list[Property] = []
    for write in writes:
        found = units.changes([write]) if name.is_slice else units.properties([write])
        (when_ready if clones_more and write.controller == "pids" else at_start).extend(found)
    part = Part()

    def show(annotation: str, value: str, why: str) -> None:
        ignored = ignore(annotation, value, why)
        part.ignored += ignored.ignored
        part.warnings += ignored.warnings

    at_start += units.annotated(config.get("annotations", {}), writes, show)
    asking: list[ParentOp] = [verbs.SetProperty(one.where, property=one) for one in at_start]
    where, user = units.PATH_POINTER, host.user_manager
    asking.append(verbs.StartUnit(where, unit=name.unit, slice=name.slice, user=user))
    early, late = _write_limits(writes)
    filters = _filter_devices(limits, host)
    changes = [verbs.ChangeProperty(one.where, property=one) for one in when_ready]
    part.before = [verbs.ConnectSystemd(where, whose="the user's" if user else "the system's")]
    part.at = {
        CGROUP: [verbs.AwaitUnit(where, unit=name.unit, writes=writes)],
        READY: [*late, *changes, *(filters if opens_devices else ())],
    }
    part.after = {CGROUP: [*early, *(() if opens_devices else filters), verbs.RecordCgroup(where)]}
    return Unit(asking, part)


def give_cgroup(config: "Config", *, mapped: bool) -> Part:
    """Give the cgroup to the container's user. `mapped`: the user's id is one of the container's user namespace."""
    uid = config.get("process", {}).get("user", {}).get("uid", 0)
    return Part(at={READY: [verbs.ChownCgroup("/process/user/uid", uid=uid, mapped=mapped)]})


def _limits(config: "Config") -> "Resources":
    return resources.as_meant(config.get("linux", {}).get("resources", {}), config.get("ociVersion", ""))


def _write_limits(writes: "list[Write]") -> "tuple[list[ParentOp], list[ParentOp]]":
    """Return the limits to write early, and the limit of processes, which waits for the last clone of the setup."""
    early: list[ParentOp] = [
        verbs.WriteCgroup(write.where, write=write) for write in writes if write.controller != "pids"
    ]
    late: list[ParentOp] = [
        verbs.WriteCgroup(write.where, write=write) for write in writes if write.controller == "pids"
    ]
    return early, late


def _filter_devices(limits: "Resources", host: "Host") -> "list[ParentOp]":
    """Attach the device filter. Without the host's root skip it: the kernel then denies the filter and device nodes."""
    program = b"" if host.rootless else device_filter.compile_rules(limits.get("devices", []))
    return [verbs.AttachDeviceFilter("/linux/resources/devices", program=program)] if program else []


__all__ = ["Unit", "compile_cgroupfs", "compile_disabled", "compile_unit", "give_cgroup"]
