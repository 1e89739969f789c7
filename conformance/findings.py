"""What is known of failures of other runtimes, by the version that they were seen in: row → a sentence, with the words of the
specification that it breaks.

They tell what the tests saw, and what the specification says there. A failure that is not listed here, or of a version that
is not, is reported with what the test saw.
"""

import re

FINDINGS: "dict[str, dict[str, str]]" = {
    "runc 1.3": {
        "JSON-01": (
            "bytes of config.json that are not UTF-8 become U+FFFD without a word; glossary.md, JSON: all of the "
            "configuration is encoded in UTF-8."
        ),
        "JSON-02": (
            "the last of several members of one name counts, the others are ignored; glossary.md, JSON: objects "
            "do not repeat a name, and config.md: an invalid value is an error."
        ),
        "CFG-01": (
            "ociVersion is not looked at: it may be missing, empty or anything; config.md, Specification version:"
            " it is required, and in SemVer 2.0.0 format."
        ),
        "CFG-02": (
            "a config for version 2.0.0 is accepted; config.md, Specification version: compatibility is within "
            "one major version."
        ),
        "ANN-01": ("an annotation with an empty key is accepted; config.md, Annotations: keys are not empty."),
        "LIFE-07": (
            "start does not wait for startContainer hooks, so that it succeeds although one fails; runtime.md, "
            "Lifecycle, step 7: if one fails, the runtime generates an error."
        ),
        "LIFE-13": (
            "after a poststop hook that fails no other runs; runtime.md, Lifecycle, step 13: the remaining hooks "
            "go on as if it had succeeded."
        ),
        "LIFE-15": (
            "after a startContainer or poststart hook that fails the container is still there; runtime.md, "
            "Lifecycle: it goes on with steps 12 and 13, is destroyed, and poststop hooks run."
        ),
        "OP-12": (
            "delete removes the container's cgroup even if it was there before create, and leaves the cgroups "
            "above it that create made; runtime.md, Delete: what create made is deleted, and what it did not make"
            " is not."
        ),
        "HOOK-01": (
            "a hook may have a relative path, which depends on the working directory; config.md, POSIX-platform "
            "Hooks: the path is absolute."
        ),
        "HOOK-04": (
            "a poststop hook may have a timeout of 0 or less, and start succeeds although a startContainer hook "
            "exceeds its timeout; config.md, POSIX-platform Hooks: the timeout is more than 0, and then the hook "
            "is aborted."
        ),
        "HOOK-10": (
            "start succeeds although a startContainer hook can't be executed; runtime.md, Lifecycle, step 7: an error."
        ),
        "PROC-01": (
            "create refuses a config without process; config.md, Process: it is optional until start is called."
        ),
        "PROC-12": ("two limits of one type are accepted; config.md, POSIX process: such a config is an error."),
        "PROC-21": (
            "create fails if the runtime itself lacks a capability; config.md, Linux Process: a capability that "
            "can't be granted is logged as a warning."
        ),
        "PROC-50": ("a user may lack its uid or its gid, which are 0 then; config.md, User: both are required."),
        "PROC-51": (
            "without a umask in the config it is 0022; config.md, User: it should not be changed from the calling"
            " process's."
        ),
        "ROOT-02": (
            "root without a path is accepted, and the bundle itself is the root; config.md, Root: path is required."
        ),
        "MNT-06": (
            "defaults is handed to the filesystem, of which tmpfs refuses it, and ratime fails; config.md, Linux "
            "mount options: defaults and all options of the table are the runtime's to apply."
        ),
        "UM-01": ("a mapping may lack a number, which is 0 then; config-linux.md, User namespace mappings: required."),
        "FD-02": (
            "without a procfs no container can be made; runtime-linux.md, Dev symbolic links: the links are "
            "conditional upon it."
        ),
        "DEV-03": ("a device without a path is accepted and ignored; config-linux.md, Devices: path is required."),
        "DEV-04": (
            "whatever is at the path of a device is left there, and passes for it; config-linux.md, Devices: if "
            "it does not match the device, the runtime must generate an error."
        ),
        "DEV-05": ("major and minor may be missing, and are 0 then; config-linux.md, Devices: required unless p."),
        "RDT-02": (
            "without a resctrl filesystem an intelRdt that has no schema is accepted and ignored; config-"
            "linux.md, IntelRdt: if none is mounted, an error."
        ),
        "RDT-06": (
            "any memBwSchema is written, with other resources and several lines; config-linux.md, IntelRdt: it "
            "begins with MB: and has no newline."
        ),
        "RDT-09": (
            "the schemata of a group that exists are overwritten, not compared; config-linux.md, IntelRdt: if "
            "they differ from those of the config, an error."
        ),
        "RDT-11": (
            "after a create that fails the group stays that it made for a closID; runtime.md, Errors: generating "
            "an error leaves the environment as if the operation was never attempted."
        ),
        "CG-12": (
            "without systemd the owner of the cgroup never changes; config-linux.md, Cgroup ownership: it should,"
            " if cgroup is mounted read-write."
        ),
        "CG-13": ("without systemd the owner of the cgroup's files never changes; config-linux.md, Cgroup ownership."),
        "CG-20": (
            "a rule that denies a part of what a wildcard allows is refused with cgroup v2 too, where nothing "
            "stands against it; config-linux.md, Allowed Device list: the rules are applied in the order listed."
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
            "a weightDevice without weight and leafWeight is accepted; config-linux.md, Block IO: at least one of them."
        ),
        "CG-37": ("a throttle may lack its minor and its rate; config-linux.md, Block IO: they are required."),
        "CG-38": (
            "the limit of reservations is not set, and a hugepageLimits without limit is accepted; config-"
            "linux.md, Huge page limits: reservation limits are used where the kernel has them."
        ),
        "CG-39": (
            "with cgroup v2 network is ignored, also a priority without name or value; config-linux.md, Control "
            "groups: what can't be converted is an error."
        ),
        "CG-40": (
            "a pids.limit of 0 sets no limit; config-linux.md, PIDs: since 1.3, 0 is a limit and should be set as such."
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
        "MASK-01": (
            "a path that is not absolute is accepted; config-linux.md, Masked Paths, Readonly Paths: it is absolute."
        ),
        "MASK-02": (
            "a path that is not absolute is accepted; config-linux.md, Masked Paths, Readonly Paths: it is absolute."
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
        "SEC-24": ("listenerMetadata without listenerPath is accepted; config-linux.md, Seccomp: it must not be set."),
        "FEAT-06": (
            "defaults is listed, and handed to the filesystem, of which tmpfs refuses it; features.md, "
            "mountOptions: the options are recognised by the runtime."
        ),
    },
    "crun 1.28": {
        "ERR-01": (
            "a create that fails, for instance since a namespace's path is missing, leaves the cgroup that it "
            "made; runtime.md, Errors: generating an error leaves the environment as if the operation was never "
            "attempted."
        ),
        "EXT-02": (
            "takes any rootfsPropagation and device type, and values of another JSON type, such as a string for "
            "process.args, as if the property were not there; config.md, Extensibility: an invalid or unsupported"
            " value is an error."
        ),
        "JSON-02": (
            "one of several members of one name counts, the others are ignored; glossary.md, JSON: objects do not"
            " repeat a name, and config.md: an invalid value is an error."
        ),
        "CFG-01": (
            "an ociVersion such as 1.0, 1.0.0.0 or v1.0.0 is accepted; config.md, Specification version: it is in"
            " SemVer 2.0.0 format."
        ),
        "ANN-01": ("an annotation with an empty key is accepted; config.md, Annotations: keys are not empty."),
        "ST-01": (
            "hooks get ociVersion 1.0, which `state` does not show and which is no version of the specification; "
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
        "LIFE-07": (
            "start does not wait for startContainer hooks, so that it succeeds although one fails; runtime.md, "
            "Lifecycle, step 7: if one fails, the runtime generates an error."
        ),
        "LIFE-09": (
            "start succeeds although a poststart hook fails, and the program runs on; runtime.md, Lifecycle, step"
            " 9: the runtime generates an error and stops the container."
        ),
        "LIFE-14": (
            "start does not wait for startContainer hooks, and runs poststart hooks before them; runtime.md, "
            "Lifecycle: first startContainer hooks, then the program, then poststart hooks."
        ),
        "LIFE-15": (
            "after a hook that fails no poststop hook runs, and after a startContainer or poststart hook the "
            "container is still there; runtime.md, Lifecycle: it goes on with steps 12 and 13."
        ),
        "OP-10": (
            "kill with an unknown signal sends signal 0, which is none, and succeeds; runtime.md, Kill: the "
            "signal that is specified is sent."
        ),
        "OP-12": (
            "delete removes the container's cgroup even if it was there before create, and leaves the cgroups "
            "above it that create made; runtime.md, Delete: what create made is deleted, and what it did not make"
            " is not."
        ),
        "HOOK-01": (
            "a relative path of a hook is taken if it happens to lead to a program; config.md, POSIX-platform "
            "Hooks: the path is absolute."
        ),
        "HOOK-04": (
            "a timeout of 0, of less, or that is a string is accepted, and start succeeds although a "
            "startContainer or poststart hook exceeds its timeout; config.md, POSIX-platform Hooks: the timeout "
            "is more than 0, and then the hook is aborted."
        ),
        "HOOK-06": (
            "the state that startContainer hooks get says that the bundle is /; and a hook that does not read its"
            " standard input makes the operation fail, or the runtime end by SIGPIPE; config.md, POSIX-platform "
            "Hooks: the state is passed to hooks."
        ),
        "HOOK-10": (
            "start succeeds although a startContainer hook can't be executed; runtime.md, Lifecycle, step 7: an error."
        ),
        "HOOK-11": (
            "poststart hooks run while startContainer hooks still do, before the program; config.md, POSIX-"
            "platform Hooks: after the program has been executed."
        ),
        "PROC-01": (
            "create without process is an internal error; config.md, Process: it is optional until start is called."
        ),
        "PROC-04": ("a relative cwd is accepted; config.md, Process: it is an absolute path."),
        "PROC-06": ("args may be missing; config.md, Process: at least one entry is required."),
        "PROC-12": ("two limits of one type are accepted; config.md, POSIX process: such a config is an error."),
        "PROC-21": (
            "create fails if the runtime itself lacks a capability; config.md, Linux Process: a capability that "
            "can't be granted is logged as a warning."
        ),
        "PROC-23": (
            "an oomScoreAdj of 0 is ignored; config.md, Linux Process: if it is set, it is the value of oom_score_adj."
        ),
        "PROC-50": ("a user may lack its uid or its gid, which are 0 then; config.md, User: both are required."),
        "PROC-51": (
            "without a umask in the config it is 0022; config.md, User: it should not be changed from the calling"
            " process's."
        ),
        "PROC-53": (
            "a uid or gid that is a string counts as 0, so that the program is root; config.md, User: they are "
            "integers."
        ),
        "MNT-06": (
            "the later of two contradicting options does not win, silent, loud, iversion, noiversion and "
            "nosymfollow are handed to the filesystem, rnoatime, ratime and rdiratime fail, shared and unbindable"
            " are recursive, and two kinds of propagation fail; config.md, Linux mount options: each option does "
            "what it does in mount(8)."
        ),
        "NS-06": ("a type may be listed twice; config-linux.md, Namespaces: the runtime must generate an error."),
        "UM-01": ("a mapping may lack a number, which is 0 then; config-linux.md, User namespace mappings: required."),
        "FD-02": (
            "the links are made without a procfs too; runtime-linux.md, Dev symbolic links: only if what they "
            "lead to exists."
        ),
        "DEV-02": ("a device of any type is accepted; config-linux.md, Devices: c, b, u or p."),
        "DEV-04": (
            "whatever is at the path of a device is left there, and passes for it; config-linux.md, Devices: if "
            "it does not match the device, the runtime must generate an error."
        ),
        "DEV-05": ("major and minor may be missing, and are 0 then; config-linux.md, Devices: required unless p."),
        "CG-01": (
            "create waits for as long as the cgroup is frozen; in a cgroup that has processes of others it "
            "starts, and delete kills them; runtime.md, Delete: what the container did not make is not deleted."
        ),
        "CG-12": (
            "without a user namespace the owner never changes; config-linux.md, Cgroup ownership: it should, if "
            "cgroup is mounted read-write."
        ),
        "CG-13": (
            "without a user namespace the owner of the cgroup's files never changes; config-linux.md, Cgroup ownership."
        ),
        "CG-37": (
            "a throttle may lack its minor, and a negative rate is accepted; config-linux.md, Block IO: major, "
            "minor and rate are required, and rate is of type uint64."
        ),
        "CG-38": (
            "the limit of reservations is not set, and a hugepageLimits without limit is accepted; config-"
            "linux.md, Huge page limits: reservation limits are used where the kernel has them."
        ),
        "CG-40": (
            "a pids.limit of 0 sets no limit; config-linux.md, PIDs: since 1.3, 0 is a limit and should be set as such."
        ),
        "PROP-01": (
            "an unknown rootfsPropagation means private, and so does slave; config-linux.md, Rootfs Mount "
            "Propagation: the values are shared, slave, private and unbindable."
        ),
        "PROP-03": (
            "the root is private; config-linux.md, Rootfs Mount Propagation: it receives mounts from the host."
        ),
        "MASK-01": (
            "a path that is not absolute is accepted; config-linux.md, Masked Paths, Readonly Paths: it is absolute."
        ),
        "MASK-02": (
            "a path that is not absolute is accepted; config-linux.md, Masked Paths, Readonly Paths: it is absolute."
        ),
        "PERS-02": (
            "flags of a personality are ignored; config-linux.md, Personality: none is defined, and config.md: an"
            " invalid value is an error."
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
        "SEC-24": ("listenerMetadata without listenerPath is accepted; config-linux.md, Seccomp: it must not be set."),
    },
}


def finding(version: str, row: str) -> str:
    """What is known of this failure of a runtime that calls itself `NAME version 1.2.3`, or ""."""
    match = re.match(r"(\S+) version (\d+\.\d+)(?!\d)", version)
    return FINDINGS.get(" ".join(match.groups()), {}).get(row, "") if match else ""
