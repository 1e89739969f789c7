"""The requirements of the OCI runtime specification 1.3 for Linux: their ids, levels, and where they stand.

M must, M! must not, S should, S! should not, E must fail, W must warn, Y may. `UNREACHABLE` names the rows that no
test of a command line can reach, each with its reason.
"""


class Row:
    """One requirement: `level`, `what` it is about in a few words, its `area`, and the document it stands in."""

    def __init__(self, level: str, what: str, area: str) -> None:
        self.level = level
        self.what = what
        self.area = area
        self.spec = SPECS[area]


AREAS = {
    "global": "Global rules",
    "bundle": "Bundle, version, annotations",
    "state": "State",
    "lifecycle": "Lifecycle",
    "operations": "Operations",
    "hooks": "Hooks",
    "process": "Process",
    "root": "Root, hostname, domainname",
    "mounts": "Mounts",
    "namespaces": "Namespaces, id maps, time",
    "devices": "Files, devices, descriptors",
    "network": "Network devices",
    "cgroups": "Cgroups",
    "rdt": "Intel RDT",
    "linux": "Memory policy, sysctl, propagation, paths, label, personality",
    "seccomp": "Seccomp",
    "features": "Features document",
}
SPECS = {
    "global": "runtime.md, config.md Extensibility",
    "bundle": "bundle.md, config.md",
    "state": "runtime.md State",
    "lifecycle": "runtime.md Lifecycle",
    "operations": "runtime.md Operations",
    "hooks": "config.md POSIX-platform Hooks",
    "process": "config.md Process",
    "root": "config.md Root",
    "mounts": "config.md Mounts",
    "namespaces": "config-linux.md Namespaces",
    "devices": "config-linux.md Devices, runtime-linux.md",
    "network": "config-linux.md Network Devices",
    "cgroups": "config-linux.md Control groups",
    "rdt": "config-linux.md IntelRdt",
    "linux": "config-linux.md",
    "seccomp": "config-linux.md Seccomp",
    "features": "features.md, features-linux.md",
}

_TABLE = """
global
ERR-01 M an operation that fails leaves everything as it was
ERR-02 M! a warning changes the flow of control
ERR-03 M all requirements of the platform hold for each architecture
EXT-01 M unknown properties, at any depth, are ignored
EXT-02 E invalid or unsupported values of known properties
EXT-03 Y the config is validated before anything is made
JSON-01 M config.json is JSON in UTF-8
JSON-02 M! objects repeat a name
SCOPE-01 M who created a container can run every operation on it
SCOPE-02 Y operations are abstract, the command line is not specified
bundle
BUN-01 M config.json at the root of the bundle
BUN-02 M the bundle is one directory and can be moved
CFG-01 M ociVersion is a SemVer 2.0.0 version
CFG-02 M a config of 1.x works on a runtime for 1.y, y ≥ x
CFG-03 M objects of other platforms are ignored
ANN-01 M annotations: non-empty keys, string values
ANN-02 M! reserved annotation keys are an error
state
ST-01 M ociVersion of the state document
ST-02 M id
ST-03 M status: creating, created, running, stopped
ST-04 M pid while created or running
ST-05 M bundle is an absolute path
ST-06 M annotations of the config
ST-07 Y further properties
ST-08 M the document follows the state schema
lifecycle
LIFE-01 M create gets a bundle and a unique id
LIFE-02 M create makes everything, runs no program, later edits have no effect
LIFE-03 M prestart hooks; a failure stops the container and goes to step 12
LIFE-04 M createRuntime hooks; a failure stops the container and goes to step 12
LIFE-05 M createContainer hooks; a failure stops the container and goes to step 12
LIFE-06 M start gets an id
LIFE-07 M startContainer hooks; a failure makes start fail, stops and goes to step 12
LIFE-08 M start runs the program
LIFE-09 M poststart hooks; a failure makes start fail, stops and goes to step 12
LIFE-10 M the container is stopped when its process ends
LIFE-11 M delete gets an id
LIFE-12 M delete undoes what create did
LIFE-13 M poststop hooks; a failure is a warning, the rest goes on
LIFE-14 M the order of the steps
LIFE-15 M after a failing hook the container is destroyed and poststop hooks have run
operations
OP-01 E state without an id or of an unknown one
OP-02 M state returns the state document
OP-03 E create without bundle or id
OP-04 E create with an id that is taken or invalid
OP-05 M create applies everything but the program
OP-06 E a property that can't be applied
OP-07 E start without an id, or of a container that is not created
OP-08 M start runs the program; without `process` it fails
OP-09 E kill without an id, or of a container neither created nor running
OP-10 M kill sends the signal
OP-11 E delete without an id, or of a container that is not stopped
OP-12 M delete removes what create made, and nothing else
OP-13 Y the id can be used again after delete
hooks
HOOK-01 M path is absolute
HOOK-02 M args is the whole argument vector
HOOK-03 M env is the environment
HOOK-04 M timeout in seconds, more than 0; a hook that takes longer is aborted
HOOK-05 M hooks run in the order listed
HOOK-06 M each hook gets the state on its standard input
HOOK-07 M prestart: in create, before pivot_root, in the runtime's namespaces
HOOK-08 M createRuntime: in create, before pivot_root, in the runtime's namespaces
HOOK-09 M createContainer: resolved in the runtime's, executed in the container's namespaces
HOOK-10 M startContainer: in start, before the program, in the container's namespaces
HOOK-11 M poststart: after the program has started, before start returns, in the runtime's namespaces
HOOK-12 M poststop: after the container was destroyed, before delete returns, in the runtime's namespaces
process
PROC-01 M process is optional at create, required at start
PROC-02 M terminal
PROC-03 M consoleSize, ignored without a terminal
PROC-04 M cwd is absolute
PROC-05 M env
PROC-06 M args: at least one; the first is looked up as execvp does
PROC-07 M! commandLine and user.username have an effect
PROC-10 E rlimits of unknown type
PROC-11 M rlimits: soft and hard
PROC-12 E two rlimits of one type
PROC-15 M apparmorProfile
PROC-16 M selinuxLabel
PROC-20 M capabilities: five sets
PROC-21 W capabilities that are unknown or can't be granted
PROC-22 M noNewPrivileges
PROC-23 M oomScoreAdj; unset, the value stays
PROC-30 M scheduler.policy
PROC-31 M scheduler.nice and priority
PROC-32 M scheduler.flags
PROC-33 M scheduler.runtime, deadline and period
PROC-35 M ioPriority
PROC-40 M execCPUAffinity is never for the first process; malformed, it is an error
PROC-41 M execCPUAffinity.initial
PROC-42 M execCPUAffinity.final
PROC-50 M user.uid and gid, in the container's user namespace
PROC-51 M user.umask; unset, the caller's stays
PROC-52 M user.additionalGids
PROC-53 M! names of users or groups are looked up
root
ROOT-01 M root is required
ROOT-02 M root.path is an existing directory, absolute or relative to the bundle
ROOT-03 M root.readonly
UTS-01 M hostname
UTS-02 M domainname
mounts
MNT-01 M mounts are made in the order listed
MNT-02 M destination; a relative one is relative to /
MNT-03 M source; of a bind mount absolute or relative to the bundle
MNT-04 M bind and rbind make a bind mount, whatever its type
MNT-05 E a filesystem that the kernel does not know
MNT-06 M the options behave as mount(8) has them
MNT-07 S unknown options go to the filesystem
MNT-08 Y options of the runtime's own
MNT-09 M uidMappings and gidMappings
MNT-10 M idmap
MNT-11 M ridmap
MNT-12 E a mount that is impossible
FS-01 S /proc, /sys, /dev/pts and /dev/shm
namespaces
NS-01 M types of namespaces
NS-02 M without a path the namespace is new
NS-03 M with a path, which is absolute, it is joined
NS-04 E a path that is not a namespace of this type
NS-05 M a type that is not listed is inherited
NS-06 E a type listed twice
NS-07 M the order of the list means nothing
UM-01 M uidMappings and gidMappings
UM-02 S! ownership of files is changed for a mapping
TIME-01 M timeOffsets
devices
FD-01 M the program has descriptors 0, 1, 2 alone
FD-02 M /dev/fd, stdin, stdout, stderr, if /proc is there
DEV-01 M each device is available
DEV-02 M types c, b, u, p
DEV-03 M a device can be anywhere
DEV-04 E something else is at the path of a device
DEV-05 E a device without major or minor
DEV-06 M fileMode
DEV-07 M uid and gid
DEV-08 M! a device listed twice is an error
DEV-09 M default devices, /dev/ptmx, /dev/console with a terminal
DEV-10 M nodes outside the list are not available
network
NET-01 M a device is moved into the container's network namespace
NET-02 M its new name
NET-03 E a device that can't be moved
NET-04 E a name that is taken, unless it is a template
NET-05 M its permanent global addresses are kept
NET-06 M it is set up
NET-07 M! it is managed afterwards or moved back
cgroups
CG-01 Y an unfit cgroup is refused
CG-02 M cgroupsPath: an absolute one is relative to the cgroup mount
CG-03 M the same cgroupsPath is always the same place
CG-04 Y cgroupsPath unset
CG-05 Y an invalid cgroupsPath is refused
CG-06 M missing cgroups are made
CG-07 M resources unset: limits stay
CG-08 Y more controllers than needed
CG-10 Y the cgroup belongs to the container's user
CG-11 S! ownership changes without a new cgroup namespace
CG-12 S ownership changes if and only if the cgroup is mounted read-write at /sys/fs/cgroup
CG-13 S only the files that may be delegated change hands
CG-20 M device rules in order
CG-21 M device rules: type, major, minor, access
CG-22 M device rules on cgroup v2
CG-30 M properties of cgroup v1 are converted, or are an error
CG-31 M memory limit, reservation, swap
CG-32 Y memory.checkBeforeUpdate
CG-33 M cpu.burst, at most the quota
CG-34 M cpu.idle
CG-35 M cpu.cpus and mems
CG-36 E blockIO.weightDevice without a weight
CG-37 M blockIO throttles
CG-38 M hugepageLimits
CG-39 M network of cgroup v1
CG-40 M pids.limit; 0 is a limit
CG-41 M rdma
CG-42 M unified
CG-43 M memory.swappiness
CG-44 M memory.disableOOMKiller, useHierarchy
CG-45 M cpu.shares, quota, period
CG-46 M cpu.realtimeRuntime, realtimePeriod
CG-47 M blockIO.weight, leafWeight
rdt
RDT-01 M! resctrl is touched without intelRdt
RDT-02 M the process is in the group; without resctrl it is an error
RDT-03 M closID names the group, / is the default one
RDT-04 M without closID the container's id
RDT-05 S l3CacheSchema starts with L3:
RDT-06 M memBwSchema starts with MB: and is one line
RDT-07 M schemata: one line each
RDT-08 M the order in which schemata are written
RDT-09 M a group that exists has the schemata asked for, or it is an error
RDT-10 M closID without a schema must exist
RDT-11 M delete removes the group that create made, and no other
RDT-12 M enableMonitoring
RDT-13 M enableCMT and enableMBM are unknown properties
linux
MPOL-01 M memoryPolicy.mode
MPOL-02 M memoryPolicy.nodes
MPOL-03 M memoryPolicy.flags
SYS-01 M sysctl
PROP-01 M rootfsPropagation: four values
PROP-02 M shared
PROP-03 M slave
PROP-04 M private
PROP-05 M unbindable
MASK-01 M maskedPaths
MASK-02 M readonlyPaths
LBL-01 M mountLabel
PERS-01 M personality.domain
PERS-02 E personality.flags
seccomp
SEC-01 M defaultAction
SEC-02 M errnoRet and defaultErrnoRet, only with an action that has an errno
SEC-03 M architectures
SEC-04 M flags
SEC-05 M names: at least one
SEC-06 M args
SEC-07 M strings are libseccomp's
SEC-10 M actions
SEC-20 M listenerPath, ignored without NOTIFY
SEC-21 M one process state per connection
SEC-22 M the payload
SEC-23 M the fields of the process state
SEC-24 M listenerMetadata, only with listenerPath
features
FEAT-01 M the document describes the build
FEAT-02 M! null
FEAT-03 M ociVersionMin is accepted
FEAT-04 M ociVersionMax is accepted, and is not below the minimum
FEAT-05 M the hooks listed work
FEAT-06 M the mount options listed are recognised
FEAT-07 M annotations follow the rules of the config's
FEAT-08 M potentiallyUnsafeConfigAnnotations
FEAT-10 M the namespaces listed are recognised
FEAT-11 M the capabilities listed are recognised
FEAT-12 M cgroup
FEAT-13 M seccomp: what is listed is recognised
FEAT-14 M apparmor and selinux do not depend on the host
FEAT-15 M intelRdt does not depend on the host
FEAT-16 M memoryPolicy: what is listed is recognised
FEAT-17 M idmap says whether mount mappings are attempted
FEAT-18 M netDevices
"""


def _read(table: str) -> "dict[str, Row]":
    rows, area = {}, ""
    for line in table.strip().splitlines():
        if " " not in line:
            area = line
            continue
        row, level, what = line.split(" ", 2)
        rows[row] = Row(level, what, area)
    return rows


ROWS = _read(_TABLE)

UNREACHABLE = {
    "ERR-03": "it is the sum of the others: run the suite on each architecture",
    "EXT-03": "it allows, and asks nothing; that a config which fails leaves nothing is ERR-01's matter",
    "SCOPE-02": "it asks nothing",
    "ST-07": "it allows, and asks nothing; ST-08 looks at what is there",
    "MNT-08": "it allows, and asks nothing; FEAT-06 tries the options that a runtime says it has",
    "CG-04": "it allows, and asks nothing; that what create made goes with delete is OP-12's matter",
    "CG-08": "it allows, and asks nothing",
    "PROC-41": "it is for processes that are added to a container, for which the specification has no operation",
    "PROC-42": "it is for processes that are added to a container, for which the specification has no operation",
}

# Where the suite asks for less than the words do, and why.
RELAXED = {
    **dict.fromkeys(
        ("JSON-01", "JSON-02"),
        "that config.json is in UTF-8, and that no object repeats a name, binds who writes it; that a runtime refuses what is"
        " not so is concluded from it: no row fails if it does not",
    ),
    "OP-11": "delete of a container that is created and was never started has to be an error, by the words; engines delete such"
    " containers, and every runtime lets them: it is not tried",
    "EXT-02": "unknown system calls in a seccomp profile are invalid values; engines' profiles name those of"
    " newer kernels: they are not tried",
    "PROC-21": "that a warning is logged can't be seen: where a log goes is not specified. That create does not fail is what is"
    " tried",
    "NS-05": "a runtime that inherits the mount namespace may refuse mounts, or may need a procfs: a config with mounts"
    " or one without will do",
    "SEC-04": "TSYNC leaves no trace of its use by seccomp(2): the suite tries whether it is accepted, where `features`"
    " lists it",
    "FD-02": "links are demanded where there is a procfs; that there are none where there is not is not said: it is not tried",
    "CG-20": "a runtime need not support every list of rules: one that it refuses is not judged, one that it applies is",
    "FEAT-12": "that a runtime works with systemd takes a systemd, and an option that is not specified: it is not tried; rdma is"
    " CG-41's matter",
    "CG-30": "how a value of cgroup v1 is converted is not specified: where there are several ways, each will do",
}

# The version of the specification that introduced what a row, or one case of it, is about, if it is later than 1.0.2.
SINCE = {
    **dict.fromkeys(
        (
            *("PROC-21", "PROC-30", "PROC-31", "PROC-32", "PROC-33", "PROC-35", "UTS-02", "TIME-01"),
            *("CG-10", "CG-11", "CG-12", "CG-13", "CG-32", "CG-33", "CG-34", "CG-42"),
            *("SEC-20", "SEC-21", "SEC-22", "SEC-23", "SEC-24"),
        ),
        (1, 1, 0),
    ),
    **dict.fromkeys(("MNT-02", "MNT-09", "MNT-10", "MNT-11"), (1, 2, 0)),
    "PROC-40": (1, 2, 1),
    **dict.fromkeys(
        (
            *("LIFE-09", "LIFE_15_poststart", "HOOK_04_poststart"),  # before, such a failure was worth a warning
            *("CG_40_zero", "RDT_03_default", "RDT_08_schemata", "RDT-07", "RDT-12", "MPOL-01", "MPOL-02", "MPOL-03"),
            *(f"NET-0{number}" for number in range(1, 8)),
        ),
        (1, 3, 0),
    ),
}
