"""The table of verbs: everything that a plan can ask of the child or of the runtime, one class each.

To add a verb of the child, write its class in a module here and its function `do_<verb>` in a file of native/child.
tools/gen_verbs.py derives its code, its struct and its place in the table of functions from the class. To add a verb of
the runtime, write its class here and its function in `pyoci.parent.operations`.
"""

# fmt: off
# In the order of a container's life, by which the child's verbs get their codes.
from pyoci.compiler.verbs.base import CHILD, PARENT, ChildOp, Op, ParentOp, converted
from pyoci.compiler.verbs.process import (
    BecomeRoot, CloneInit, CloseFds, HideCaller, JoinNamespace, LoUp, ReceivePlan, ResetAffinity, ResetSignals,
    SetDomainname, SetDumpable, SetHostname, SetMemoryPolicy, SetPdeathsig, SetRlimit, Setsid, SetUmask, Sync, Unshare,
)
from pyoci.compiler.verbs.proc import OpenProc, WriteAttr, WriteSysctl
from pyoci.compiler.verbs.clones import (
    CLONES, CloneDevice, CloneRootfs, CloneTree, OpenDevice, OpenNull, OpenRootfs, OpenTree, by_child,
)
from pyoci.compiler.verbs.mounts import (
    AttachRootfs, BindMount, CoverRoot, LabelMount, Mount, OpenBundle, Remount, SetMountAttributes, SetPropagation,
)
from pyoci.compiler.verbs.devices import BindDevice, MakeDevice, MakeDeviceFilesystem, Mknod, OpenDevices, Symlink
from pyoci.compiler.verbs.root import (
    EnterRoot, MakeMaskDirectory, MaskPath, MoveRoot, OpenRoot, PivotRoot, ReadonlyPath,
)
from pyoci.compiler.verbs.terminal import ChownStdio, MountConsole, OpenConsole, TakeTerminal, UseTerminal
from pyoci.compiler.verbs.credentials import (
    DropBounding, JoinKeyring, SetAmbient, SetCapabilities, SetGroups, SetIds, SetNoNewPrivs, SetPersonality,
)
from pyoci.compiler.verbs.program import (
    Chdir, Exec, FindProgram, IoprioSet, LoadSeccomp, MakeDirectory, SchedSetattr, SetHome, SetIoPriority,
    SetScheduler, WaitStart,
)
from pyoci.compiler.verbs.restore import (
    AddSource, ExecHost, MakeMountPoint, MountSources, NumberFds, ShareImages, StageTree, UnstageTree,
)
from pyoci.compiler.verbs.hooks import RunHook, RunHostHook
from pyoci.compiler.verbs.runtime import (
    CheckInit, Commit, DenySetgroups, FillHookState, FillStartState, IdmapTree, IgnoreAnnotation, MakeUserNamespace,
    MoveNetDevice, OpenContainer, OpenContainerRoot, OpenHostProc, OpenNamespace, Prlimit, ProtectStdio, RaiseOwnRlimit,
    RecordCgroup, RecordProcess, RunIdMapper, SaveExecSettings, SendConsole, SendListener, SendPidfd, SetAffinity,
    SetUpNetwork,
    TakeSignals, TraceChild, VerifyNamespaces, WriteFilter, WriteIdMaps, WriteOomScoreAdj, WriteTimeOffsets,
)
from pyoci.compiler.verbs.cgroup import (
    AttachDeviceFilter, AwaitUnit, ChangeProperty, ChownCgroup, ConnectSystemd, EnterCgroup, JoinRdtGroup, MakeCgroup,
    MakeMonitoringGroup, MakeRdtGroup, SetProperty, StartUnit, WriteCgroup, WriteSchemata,
)
# fmt: on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


BY_RUNTIME: dict[type[ChildOp], type[ParentOp]] = {
    SetRlimit: Prlimit, SetScheduler: SchedSetattr, SetIoPriority: IoprioSet,
}  # fmt: skip


def by_runtime(op: ChildOp) -> ParentOp:
    """Return the operation by which the runtime does `op`, one of BY_RUNTIME, for the child."""
    return converted(op, BY_RUNTIME[type(op)])


def to_record(op: ChildOp) -> "dict[str, object]":
    """Return what the record keeps of an operation that runs during `start`, to explain its failure."""
    path, timeout_ms = (op.path, op.timeout_ms) if isinstance(op, RunHook) else ("", 0)
    return {"verb": op.verb, "where": op.where, "s1": path, "timeout": timeout_ms}


def from_record(kept: "dict[str, Any]") -> ChildOp:
    """Return the operation that `to_record` kept, with only the fields that an error needs."""
    if kept["verb"] == RunHook.verb:
        return RunHook(
            kept["where"], path=kept["s1"], timeout_ms=kept["timeout"], argv=(), envp=(), state=0, add_home=False
        )
    for verb in CHILD:
        if verb.verb == kept["verb"]:
            return verb(kept["where"])
    return ChildOp(kept["where"])
