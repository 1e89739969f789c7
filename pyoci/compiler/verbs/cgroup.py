"""What the runtime does with the container's cgroup, its unit under systemd, and its resctrl groups."""

from pyoci.compiler.verbs.base import ParentOp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.cgroups.resources import Write
    from pyoci.cgroups.units import Property


class MakeCgroup(ParentOp):
    """Create the container's cgroup, or take over one that exists.

    Takes: `path`, for messages; `writes`, the limits to come, whose controllers it enables.
    Fails with: CgroupError.
    Calls: mkdirat* fsetxattr* write*
    """

    path: str
    writes: "list[Write]"
    shows = "{path}"
    fails = "create the cgroup"


class EnterCgroup(ParentOp):
    """Move the child into the container's cgroup.

    Fails with: CgroupError.
    Calls: write?
    """

    fails = "move the container's first process into its cgroup"


class WriteCgroup(ParentOp):
    """Write one limit to a file of the cgroup.

    Fails with: CgroupError, with the pointer of the limit.
    Calls: write
    """

    write: "Write"
    fails = "limit the cgroup"

    def shown(self) -> str:
        return f"{self.write.file} = {self.write.value}"


class AttachDeviceFilter(ParentOp):
    """Attach the eBPF program that decides which devices the cgroup's processes may use.

    Fails with: CgroupError.
    Calls: bpf+
    """

    program: bytes
    fails = "attach the device filter"

    def shown(self) -> str:
        return f"{len(self.program) // 8} eBPF instructions"


class ChownCgroup(ParentOp):
    """Give the cgroup to the container's user, who may then make cgroups below it.

    Takes: `uid`; `mapped`, if that is an id of the container's user namespace.
    Fails with: CgroupError; EINVAL for an id without a mapping.
    Calls: fchownat*
    """

    uid: int
    mapped: bool
    fails = "give the container's user its cgroup"

    def shown(self) -> str:
        return f"uid {self.uid}" + (" of the container's user namespace" if self.mapped else "")


class ConnectSystemd(ParentOp):
    """Connect to the system's or the user's systemd.

    Takes: `whose`, for messages.
    Leaves: the connection, for `start_unit` and `await_unit`.
    Fails with: CgroupError.
    Calls:
    """

    whose: str
    shows = "{whose}"
    fails = "connect to {whose} systemd"


class SetProperty(ParentOp):
    """Add a property to the unit that `start_unit` asks for.

    Leaves: the property with the launch, for `start_unit`.
    Calls:
    """

    property: "Property"
    fails = "set a property of the unit"

    def shown(self) -> str:
        return f"{self.property.name} = {self.property.text}"


class StartUnit(ParentOp):
    """Ask systemd for the container's unit, with the child in it.

    Takes: `unit` and `slice`, for messages; `user`, to ask the user's systemd.
    Fails with: CgroupError.
    Calls:
    """

    unit: str
    slice: str
    user: bool
    fails = "start unit {unit}"

    def shown(self) -> str:
        return f"{self.unit} in {self.slice}" + (" of the user's systemd" if self.user else "")


class AwaitUnit(ParentOp):
    """Wait until systemd has made the unit and its cgroup.

    Takes: `writes`, the limits to come, whose controllers must be there.
    Fails with: CgroupError, with systemd's reason.
    Calls:
    """

    unit: str
    writes: "list[Write]"
    shows = "{unit}"
    fails = "wait for unit {unit}"


class ChangeProperty(SetProperty):
    """Change a property of a unit that exists.

    Fails with: CgroupError.
    Calls:
    """

    fails = "change a property of the unit"


# --- intelRdt

# Whether make_rdt_group requires a group that exists, one that does not, or takes either.
FIND, MAKE, FIND_OR_MAKE = range(3)
_REQUIRED = ("  which exists", "  a new one", "  unless it exists")


class MakeRdtGroup(ParentOp):
    """Create a resource group in the resctrl file system, or find one.

    Takes: `group`, `/` for the default one; `monitoring`, the monitoring group that follows, or ""; `required`: FIND,
        MAKE or FIND_OR_MAKE.
    Fails with: SetupError.
    Calls:
    """

    group: str
    monitoring: str
    required: int
    fails = "create resource group {group}"

    def shown(self) -> str:
        return f"{self.group}{_REQUIRED[self.required]}"


class WriteSchemata(ParentOp):
    """Write a line to the group's schemata. If the group existed before, only compare its schemata with the line.

    Fails with: SetupError.
    Calls:
    """

    line: str
    shows = "{line}"
    fails = "write schemata"


class MakeMonitoringGroup(ParentOp):
    """Create a monitoring group below the resource group.

    Fails with: SetupError.
    Calls:
    """

    group: str
    shows = "mon_groups/{group}"
    fails = "create monitoring group {group}"


class JoinRdtGroup(ParentOp):
    """Move the child into the resource group and the monitoring group.

    Fails with: SetupError.
    Calls:
    """

    group: str
    monitoring: str = ""
    fails = "join resource group {group}"

    def shown(self) -> str:
        return self.group + (f" and mon_groups/{self.monitoring}" if self.monitoring else "")
