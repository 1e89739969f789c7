"""Known failures of other runtimes, by the version that has them: row → a sentence, with the words of the
specification that it breaks.

They tell what the tests saw, and what the specification says there. A failure that is not listed here, or of a version
that is not, is reported with what the test saw.
"""

import re

# What both miss, and in the same way.
ALIKE = {
    "CFG-02": (
        "a config for version 2.0.0 is accepted; config.md, Specification version: compatibility is within "
        "one major version."
    ),
    "ANN-01": ("an annotation with an empty key is accepted; config.md, Annotations: keys are not empty."),
    "LIFE-07": (
        "start does not wait for startContainer hooks, so that it succeeds although one fails; runtime.md, "
        "Lifecycle, step 7: if one fails, the runtime generates an error."
    ),
    "OP-12": (
        "delete removes the container's cgroup even if it was there before create, and leaves the cgroups "
        "above it that create made; runtime.md, Delete: what create made is deleted, and what it did not make"
        " is not."
    ),
    "HOOK-10": (
        "start succeeds although a startContainer hook can't be executed; runtime.md, Lifecycle, step 7: an error."
    ),
    "PROC-12": ("two limits of one type are accepted; config.md, POSIX process: such a config is an error."),
    "PROC-21": (
        "create fails if the runtime itself lacks a capability; config.md, Linux Process: the runtime should "
        "not fail, but log a warning."
    ),
    "PROC-50": ("a user may lack its uid or its gid, which are 0 then; config.md, User: both are required."),
    "PROC-51": (
        "without a umask in the config it is 0022; config.md, User: it should not be changed from the calling"
        " process's."
    ),
    "UM-01": ("a mapping may lack a number, which is 0 then; config-linux.md, User namespace mappings: required."),
    "DEV-04": (
        "whatever is at the path of a device is left there, and passes for it; config-linux.md, Devices: if "
        "it does not match the device, the runtime must generate an error."
    ),
    "DEV-05": ("major and minor may be missing, and are 0 then; config-linux.md, Devices: required unless p."),
    "RDT-06": (
        "any memBwSchema is written, with other resources and several lines; config-linux.md, IntelRdt: it "
        "begins with MB: and has no newline."
    ),
    "MASK-01": (
        "a path that is not absolute is accepted; config-linux.md, Masked Paths, Readonly Paths: it is absolute."
    ),
    "MASK-02": (
        "a path that is not absolute is accepted; config-linux.md, Masked Paths, Readonly Paths: it is absolute."
    ),
    "SEC-24": ("listenerMetadata without listenerPath is accepted; config-linux.md, Seccomp: it must not be set."),
    "PROC-35": ("ioPriority may lack its priority; config.md, Linux Process: it is required."),
    "PERS-02": (
        "flags of a personality are ignored; config-linux.md, Personality: none is defined, and config.md: an"
        " invalid value is an error."
    ),
}

FINDINGS: "dict[str, dict[str, str]]" = {
    "runc 1.3": {
        **ALIKE,
        "JSON-01": (
            "bytes of config.json that are not UTF-8 become U+FFFD without a word; glossary.md, JSON: all of the "
            "configuration is encoded in UTF-8."
        ),
        "JSON-02": (
            "the last of several members of one name counts, the others are ignored; glossary.md, JSON: objects "
            "do not repeat a name."
        ),
        "CFG-01": (
            "ociVersion is not looked at: it may be missing, empty or anything; config.md, Specification version:"
            " it is required, and in SemVer 2.0.0 format."
        ),
        "LIFE-13": (
            "after a poststop hook that fails no other runs; runtime.md, Lifecycle, step 13: the remaining hooks "
            "go on as if it had succeeded."
        ),
        "LIFE-15": (
            "after a startContainer hook that fails start succeeds, and the container is still there; runtime.md,"
            " Lifecycle: it goes on with steps 12 and 13, is destroyed, and poststop hooks run."
        ),
        "HOOK-01": (
            "a hook may have a relative path, which depends on the working directory, and a hook that runs after "
            "create may have none; config.md, POSIX-platform Hooks: the path is required, and absolute."
        ),
        "HOOK-04": (
            "a poststop hook may have a timeout of 0 or less, and one that exceeds its timeout makes delete fail;"
            " start succeeds although a startContainer hook exceeds its timeout; config.md, POSIX-platform Hooks:"
            " the timeout is more than 0, and then the hook is aborted."
        ),
        "PROC-01": (
            "create refuses a config without process; config.md, Process: it is optional until start is called."
        ),
        "ROOT-02": (
            "root without a path is accepted, and the bundle itself is the root; config.md, Root: path is required."
        ),
        "MNT-06": (
            "defaults is taken for an option of the filesystem, which a bind mount and a tmpfs refuse; config.md,"
            " Linux mount options: it is the runtime's to know."
        ),
        "DEV-03": ("a device without a path is accepted and ignored; config-linux.md, Devices: path is required."),
        "RDT-02": (
            "without a resctrl filesystem an intelRdt that has no schema is accepted and ignored; config-"
            "linux.md, IntelRdt: if none is mounted, an error."
        ),
        "RDT-09": (
            "the schemata of a group that exists are overwritten, not compared; config-linux.md, IntelRdt: if "
            "they differ from those of the config, an error."
        ),
        "CG-12": (
            "without systemd the owner of the cgroup never changes; config-linux.md, Cgroup ownership: it should,"
            " if cgroup is mounted read-write."
        ),
        "CG-21": (
            "a device rule may lack allow, and letters of access other than r, w and m are dropped; config-"
            "linux.md, Allowed Device list: allow is required, and access is composed of r, w and m."
        ),
        "CG-30": (
            "with cgroup v2 kernel, kernelTCP, swappiness, disableOOMKiller, realtimeRuntime, leafWeight and "
            "network are ignored; config-linux.md, Control groups: what can't be converted is an error."
        ),
        "CG-36": (
            "a weightDevice may lack both of its weights, its major or its minor; config-linux.md, Block IO: both"
            " numbers are required, and at least one weight."
        ),
        "CG-37": ("a throttle may lack its minor; config-linux.md, Block IO: major, minor and rate are required."),
        "CG-38": ("a hugepageLimits without limit is accepted; config-linux.md, Huge page limits: it is required."),
        "CG-39": (
            "with cgroup v2 network is ignored, also a priority without name or value; config-linux.md, Control "
            "groups: what can't be converted is an error."
        ),
        "CG-43": (
            "with cgroup v2 swappiness is ignored, even one above 100; config-linux.md, Memory: values are from 0"
            " to 100."
        ),
        "CG-44": (
            "with cgroup v2 disableOOMKiller is ignored; config-linux.md, Control groups: what can't be converted"
            " is an error."
        ),
        "CG-47": (
            "with cgroup v2 leafWeight is ignored; config-linux.md, Control groups: what can't be converted is an"
            " error."
        ),
        "SEC-01": (
            "a seccomp without defaultAction is accepted if there are no rules, and no filter is loaded; config-"
            "linux.md, Seccomp: it is required."
        ),
        "SEC-02": (
            "an errno for an action that has none is ignored; config-linux.md, Seccomp: the runtime prints an "
            "error and fails."
        ),
        "SEC-05": ("a rule without names is accepted; config-linux.md, Seccomp: at least one entry."),
        "SEC-06": ("an argument may lack its index and its value; config-linux.md, Seccomp: they are required."),
        "FEAT-06": (
            "defaults is listed, and handed to the filesystem, of which tmpfs refuses it; features.md, "
            "mountOptions: the options are recognised by the runtime."
        ),
        "ERR-01": (
            "a create that fails leaves the resctrl group that it made for a closID; runtime.md, Errors: "
            "generating an error leaves the environment as if the operation was never attempted."
        ),
        "ERR-02": (
            "delete fails if a poststop hook does; runtime.md, Lifecycle, step 13: a failing poststop hook is "
            "logged as a warning, and, Warnings: a warning does not change the flow of control."
        ),
        "ST-03": (
            "poststart hooks run in create, with status created; runtime.md, Lifecycle: they run when the program"
            " has been started, and so the status is running."
        ),
        "LIFE-14": (
            "poststart hooks run in create, before the program; runtime.md, Lifecycle: after the program, in start."
        ),
        "HOOK-11": (
            "poststart hooks run in create; config.md, POSIX-platform Hooks: after the program has been executed,"
            " in start."
        ),
        "DEV-07": (
            "in a user namespace the host's node of the same path is bound, and if there is none, create fails; "
            "config-linux.md, Devices: the devices listed must be available, with the owner that uid and gid "
            "name."
        ),
        "PROP-01": (
            "slave leaves the root private, and an empty value is taken; config-linux.md, Rootfs Mount "
            "Propagation: the values are shared, slave, private and unbindable."
        ),
        "PROP-03": (
            "with slave the root is private; config-linux.md, Rootfs Mount Propagation: it receives mounts from "
            "the host."
        ),
        "CG-46": (
            "with cgroup v2 realtimeRuntime and realtimePeriod are ignored; config-linux.md, Control groups: what"
            " can't be converted is an error."
        ),
    },
    "crun 1.28": {
        **ALIKE,
        "ERR-01": (
            "a create that fails, for instance since a namespace's path is missing, leaves the cgroup that it "
            "made, a resctrl group, and a network device that it moved is lost; runtime.md, Errors: generating an"
            " error leaves the environment as if the operation was never attempted."
        ),
        "EXT-02": (
            "any rootfsPropagation and device type is taken, and values of another JSON type, such as a string "
            "for process.args, as if the property were not there; config.md, Extensibility: an invalid or "
            "unsupported value is an error."
        ),
        "JSON-02": (
            "one of several members of one name counts, the others are ignored; glossary.md, JSON: objects do not"
            " repeat a name."
        ),
        "CFG-01": (
            "an ociVersion such as 1.0, 1.0.0.0 or v1.0.0 is accepted; config.md, Specification version: it is in"
            " SemVer 2.0.0 format."
        ),
        "ST-01": (
            "hooks get ociVersion 1.0, which `state` does not show and which is not a version of the specification; "
            "runtime.md, State: it is the version that the state complies with."
        ),
        "ST-03": (
            "startContainer hooks get status starting; runtime.md, State: as long as the process has neither "
            "ended nor executed the program, it is created."
        ),
        "ST-04": (
            "createContainer and startContainer hooks get pid 0; runtime.md, State: hooks in the container's "
            "namespaces get the pid as the container sees it."
        ),
        "ST-08": (
            "hooks get pid 0 with status created, and the status starting, which the schema does not have; "
            "runtime.md, State: pid is required while the status is created or running."
        ),
        "LIFE-14": (
            "start does not wait for startContainer hooks, and runs poststart hooks before them; runtime.md, "
            "Lifecycle: first startContainer hooks, then the program, then poststart hooks."
        ),
        "LIFE-15": (
            "after a hook of create that fails no poststop hook runs, and after a startContainer hook start "
            "succeeds and the container is still there; runtime.md, Lifecycle: it goes on with steps 12 and 13."
        ),
        "HOOK-01": (
            "a relative path of a startContainer or poststop hook is taken; config.md, POSIX-platform Hooks: the "
            "path is absolute."
        ),
        "HOOK-04": (
            "a timeout of 0, or that is a string, is accepted, and of a poststop hook one below 0; start succeeds"
            " although a startContainer hook exceeds its timeout; config.md, POSIX-platform Hooks: the timeout is"
            " more than 0, and then the hook is aborted."
        ),
        "HOOK-06": (
            "the state that startContainer hooks get says that the bundle is /; and a hook that does not read its"
            " standard input makes the operation fail, or the runtime end by SIGPIPE; config.md, POSIX-platform "
            "Hooks: the state is passed to hooks."
        ),
        "HOOK-11": (
            "poststart hooks run while startContainer hooks still do, before the program; config.md, POSIX-"
            "platform Hooks: after the program has been executed."
        ),
        "PROC-01": (
            "start of a container without process succeeds; config.md, Process: it is required when start is called."
        ),
        "PROC-04": ("a relative cwd is accepted; config.md, Process: it is an absolute path."),
        "PROC-06": ("args may be missing; config.md, Process: at least one entry is required."),
        "PROC-53": (
            "a uid or gid that is a string counts as 0, so that the program is root; config.md, User: they are "
            "integers."
        ),
        "MNT-06": (
            "on a new filesystem the later of two contradicting options does not win; silent, loud, iversion and "
            "noiversion are handed to the filesystem; shared and unbindable are recursive, and two kinds of "
            "propagation fail; config.md, Linux mount options: each option does what it does in mount(8)."
        ),
        "DEV-02": ("a device of any type is accepted; config-linux.md, Devices: c, b, u or p."),
        "CG-12": (
            "without a user namespace the owner never changes; config-linux.md, Cgroup ownership: it should, if "
            "cgroup is mounted read-write."
        ),
        "CG-37": (
            "a throttle may lack its minor, and a negative rate is accepted; config-linux.md, Block IO: major, "
            "minor and rate are required, and rate is of type uint64."
        ),
        "CG-38": (
            "the limit of reservations is not set, and a hugepageLimits without limit, or with one below 0, is "
            "accepted; config-linux.md, Huge page limits: reservation limits are used where the kernel has them, "
            "and limit is required, of type uint64."
        ),
        "PROP-01": (
            "an unknown rootfsPropagation means private, and so does slave; config-linux.md, Rootfs Mount "
            "Propagation: the values are shared, slave, private and unbindable."
        ),
        "PROP-03": (
            "the root is private; config-linux.md, Rootfs Mount Propagation: it receives mounts from the host."
        ),
        "SEC-03": (
            "names such as x86_64 are accepted as architectures; config-linux.md, Seccomp: they begin with SCMP_ARCH_."
        ),
        "SEC-05": ("a rule with an empty list of names is accepted; config-linux.md, Seccomp: at least one entry."),
        "SEC-06": (
            "an argument may lack its index and its value, which may be below 0; config-linux.md, Seccomp: they "
            "are required, of type uint64."
        ),
        "SEC-20": (
            "it connects to listenerPath, and fails if it can't, though no rule has NOTIFY; config-linux.md, "
            "Seccomp: the path is ignored then."
        ),
        "LIFE-13": (
            "delete ends by SIGPIPE, and no other hook runs, if a poststop hook can't be executed and so does not take"
            " the state; runtime.md, Lifecycle, step 13: a warning, and the remaining hooks go on as if it had "
            "succeeded."
        ),
        "CG-41": (
            "rdma is ignored, also for a device that is not there; config.md, Extensibility: an unsupported value is "
            "an error."
        ),
        "JSON-01": (
            "bytes of config.json that are not UTF-8 are taken; glossary.md, JSON: all of the configuration is "
            "encoded in UTF-8."
        ),
        "OP-08": (
            "start of a container without process succeeds; runtime.md, Start: if process is not set, it "
            "generates an error."
        ),
        "PROC-15": (
            "an apparmorProfile is ignored where AppArmor is not active; config.md, Extensibility: a value that "
            "is not supported is an error."
        ),
        "PROC-31": (
            "a nice value out of range is taken, and another one is set; config.md, Extensibility: an invalid "
            "value is an error."
        ),
        "DEV-09": (
            "with a terminal /dev/console is a link to it; config-linux.md, Default Devices: the terminal is bind "
            "mounted there."
        ),
        "CG-21": (
            "a rule may have any type, and lack allow; config-linux.md, Allowed Device list: a, c or b, and allow"
            " is required."
        ),
        "RDT-09": (
            "the schemata of a group that exists are compared only where the kernel does not indent their lines, "
            "which it does on processors with CDP, and so any others are taken; config-linux.md, IntelRdt: if "
            "they differ, an error."
        ),
        "FEAT-04": (
            "features has properties of 1.2 and 1.3 of the specification, and claims 1.1 as the newest; "
            "features.md, ociVersionMax: the document has no property that is newer."
        ),
        "CG-10": (
            "in a user namespace the cgroup belongs to the root of it, with any container's user; config-"
            "linux.md, Cgroup ownership: the owner is the host's uid of process.user.uid."
        ),
        "FEAT-06": (
            "rnodiratime, rdiratime, rnoatime, ratime, rstrictatime and rnostrictatime are listed, and "
            "mount_setattr(2) refuses what they are turned into; features.md, mountOptions: the options are "
            "recognised by the runtime."
        ),
        "NS-03": (
            "a time namespace can be made, but not joined: create fails; config-linux.md, Namespaces: with a path"
            " the process is placed in that namespace."
        ),
    },
}


def finding(version: str, row: str) -> str:
    """Return the known sentence for this failure of a runtime that calls itself `NAME version 1.2.3`, or ""."""
    match = re.match(r"(\S+) version (\d+\.\d+)(?!\d)", version)
    return FINDINGS.get(" ".join(match.groups()), {}).get(row, "") if match else ""
