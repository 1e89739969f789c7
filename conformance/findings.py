"""What is known of failures of other runtimes: (row, runtime) → a sentence, with the words of the specification it breaks.

They tell what the tests saw of Debian's versions, and what the specification says there. A failure that is not listed here is
reported with what the test saw.
"""

FINDINGS: "dict[tuple[str, str], str]" = {
    # --- global rules
    ("ERR-01", "crun"): (
        "a create that fails, for instance since a namespace's path is missing, leaves the cgroup that it made; "
        "runtime.md, Errors: generating an error leaves the environment as if the operation was never attempted."
    ),
    ("EXT-02", "runc"): (
        "1.1 takes any linux.personality, even a domain that does not exist, and ignores it; "
        "config.md, Extensibility: an invalid or unsupported value is an error."
    ),
    ("EXT-02", "crun"): (
        "takes any rootfsPropagation and device type, and values of another JSON type, such as a string for process.args, "
        "as if the property were not there; config.md, Extensibility: an invalid or unsupported value is an error."
    ),
    ("JSON-01", "runc"): (
        "bytes of config.json that are not UTF-8 become U+FFFD without a word; "
        "glossary.md, JSON: all of the configuration is encoded in UTF-8."
    ),
    ("JSON-02", "runc"): (
        "the last of several members of one name counts, the others are ignored; "
        "glossary.md, JSON: objects do not repeat a name, and config.md: an invalid value is an error."
    ),
    ("JSON-02", "crun"): (
        "one of several members of one name counts, the others are ignored; "
        "glossary.md, JSON: objects do not repeat a name, and config.md: an invalid value is an error."
    ),
    # --- bundle
    ("CFG-01", "runc"): (
        "ociVersion is not looked at: it may be missing, empty or anything; "
        "config.md, Specification version: it is required, and in SemVer 2.0.0 format."
    ),
    ("CFG-01", "crun"): (
        "an ociVersion such as 1.0, 1.0.0.0 or v1.0.0 is accepted; "
        "config.md, Specification version: it is in SemVer 2.0.0 format."
    ),
    ("CFG-02", "runc"): (
        "a config for version 2.0.0 is accepted; config.md, Specification version: compatibility is within one major version."
    ),
    ("ANN-01", "runc"): "an annotation with an empty key is accepted; config.md, Annotations: keys are not empty.",
    ("ANN-01", "crun"): "an annotation with an empty key is accepted; config.md, Annotations: keys are not empty.",
    # --- state
    ("ST-01", "crun"): (
        "hooks get ociVersion 1.0, which `state` does not show and which is no version of the specification; "
        "runtime.md, State: it is the version that the state complies with."
    ),
    ("ST-03", "runc"): (
        "1.1 runs poststart hooks in create, with status created; "
        "runtime.md, Lifecycle: they run when the program has been started, and so the status is running."
    ),
    ("ST-03", "crun"): (
        "startContainer hooks get status starting; runtime.md, State: as long as the process has neither ended nor executed "
        "the program, it is created."
    ),
    ("ST-04", "crun"): (
        "createContainer and startContainer hooks get pid 0; runtime.md, State: hooks in the container's namespaces get the pid "
        "as the container sees it."
    ),
    ("ST-08", "crun"): (
        "hooks get pid 0 with status created, and the status starting, which the schema does not have; "
        "runtime.md, State: pid is required while the status is created or running."
    ),
    # --- lifecycle
    ("LIFE-07", "runc"): (
        "start does not wait for startContainer hooks, so that it succeeds although one fails; "
        "runtime.md, Lifecycle, step 7: if one fails, the runtime generates an error."
    ),
    ("LIFE-07", "crun"): (
        "start does not wait for startContainer hooks, so that it succeeds although one fails; "
        "runtime.md, Lifecycle, step 7: if one fails, the runtime generates an error."
    ),
    ("LIFE-09", "runc"): (
        "1.1 runs poststart hooks in create, which then fails; later versions kill the container but keep it; "
        "runtime.md, Lifecycle, step 9: start generates an error, and the container is destroyed."
    ),
    ("LIFE-09", "crun"): (
        "start succeeds although a poststart hook fails, and the program runs on; "
        "runtime.md, Lifecycle, step 9: the runtime generates an error and stops the container."
    ),
    ("LIFE-13", "runc"): (
        "after a poststop hook that fails no other runs; "
        "runtime.md, Lifecycle, step 13: the remaining hooks go on as if it had succeeded."
    ),
    ("LIFE-14", "runc"): (
        "1.1 runs poststart hooks in create, before the program; runtime.md, Lifecycle: after the program, in start."
    ),
    ("LIFE-14", "crun"): (
        "start does not wait for startContainer hooks, and runs poststart hooks before them; "
        "runtime.md, Lifecycle: first startContainer hooks, then the program, then poststart hooks."
    ),
    ("LIFE-15", "runc"): (
        "after a startContainer or poststart hook that fails the container is still there; "
        "runtime.md, Lifecycle: it goes on with steps 12 and 13, is destroyed, and poststop hooks run."
    ),
    ("LIFE-15", "crun"): (
        "after a hook that fails no poststop hook runs, and after a startContainer or poststart hook the container is still "
        "there; runtime.md, Lifecycle: it goes on with steps 12 and 13."
    ),
    # --- operations
    ("OP-10", "crun"): (
        "kill with an unknown signal sends signal 0, which is none, and succeeds; "
        "runtime.md, Kill: the signal that is specified is sent."
    ),
    ("OP-12", "runc"): (
        "delete removes the container's cgroup even if it was there before create, and leaves the cgroups above it that create "
        "made; runtime.md, Delete: what create made is deleted, and what it did not make is not."
    ),
    ("OP-12", "crun"): (
        "delete removes the container's cgroup even if it was there before create, and leaves the cgroups above it that create "
        "made; runtime.md, Delete: what create made is deleted, and what it did not make is not."
    ),
    # --- hooks
    ("HOOK-01", "runc"): (
        "a hook may have a relative path, which depends on the working directory; config.md, POSIX-platform Hooks: the path is "
        "absolute."
    ),
    ("HOOK-01", "crun"): (
        "a relative path of a hook is taken if it happens to lead to a program; config.md, POSIX-platform Hooks: the path is absolute."
    ),
    ("HOOK-04", "runc"): (
        "a poststop hook may have a timeout of 0 or less, and start succeeds although a startContainer hook exceeds its "
        "timeout; config.md, POSIX-platform Hooks: the timeout is more than 0, and then the hook is aborted."
    ),
    ("HOOK-04", "crun"): (
        "a timeout of 0, of less, or that is a string is accepted, and start succeeds although a startContainer or poststart "
        "hook exceeds its timeout; config.md, POSIX-platform Hooks: the timeout is more than 0, and then the hook is aborted."
    ),
    ("HOOK-06", "crun"): (
        "the state that startContainer hooks get says that the bundle is /; and a hook that does not read its standard input "
        "makes the operation fail, or the runtime end by SIGPIPE; config.md, POSIX-platform Hooks: the state is passed to hooks."
    ),
    ("HOOK-10", "runc"): (
        "start succeeds although a startContainer hook can't be executed; runtime.md, Lifecycle, step 7: an error."
    ),
    ("HOOK-10", "crun"): (
        "start succeeds although a startContainer hook can't be executed; runtime.md, Lifecycle, step 7: an error."
    ),
    ("HOOK-11", "crun"): (
        "poststart hooks run while startContainer hooks still do, before the program; "
        "config.md, POSIX-platform Hooks: after the program has been executed."
    ),
    ("HOOK-11", "runc"): (
        "1.1 runs poststart hooks in create; config.md, POSIX-platform Hooks: after the program has been executed, in start."
    ),
    # --- process
    ("PROC-01", "runc"): (
        "create refuses a config without process; config.md, Process: it is optional until start is called."
    ),
    ("PROC-01", "crun"): (
        "create without process is an internal error; config.md, Process: it is optional until start is called."
    ),
    ("PROC-04", "crun"): "a relative cwd is accepted; config.md, Process: it is an absolute path.",
    (
        "PROC-06",
        "crun",
    ): "args may be missing; config.md, Process: at least one entry is required.",
    **{
        (
            "PROC-12",
            runtime,
        ): "two limits of one type are accepted; config.md, POSIX process: such a config is an error."
        for runtime in ("runc", "crun")
    },
    **{
        ("PROC-21", runtime): (
            "create fails if the runtime itself lacks a capability; "
            "config.md, Linux Process: a capability that can't be granted is logged as a warning."
        )
        for runtime in ("runc", "crun")
    },
    ("PROC-23", "crun"): (
        "an oomScoreAdj of 0 is ignored; config.md, Linux Process: if it is set, it is the value of oom_score_adj."
    ),
    **{
        (
            row,
            runtime,
        ): f"{version} does not know process.{name}, which came with 1.1 of the specification, and ignores it."
        for row, name in (
            *((row, "scheduler") for row in ("PROC-30", "PROC-31", "PROC-32", "PROC-33")),
            ("PROC-35", "ioPriority"),
        )
        for runtime, version in (("runc", "1.1"), ("crun", "1.8"))
    },
    **{
        ("PROC-40", runtime): (
            f"{version} does not know execCPUAffinity, which came with 1.2.1 of the specification: what is malformed is ignored."
        )
        for runtime, version in (("runc", "1.1"), ("crun", "1.8"))
    },
    **{
        (
            "PROC-50",
            runtime,
        ): "a user may lack its uid or its gid, which are 0 then; config.md, User: both are required."
        for runtime in ("runc", "crun")
    },
    **{
        ("PROC-51", runtime): (
            "without a umask in the config it is 0022; config.md, User: it should not be changed from the calling process's."
        )
        for runtime in ("runc", "crun")
    },
    ("PROC-53", "crun"): (
        "a uid or gid that is a string counts as 0, so that the program is root; config.md, User: they are integers."
    ),
    # --- root
    (
        "ROOT-02",
        "runc",
    ): "root without a path is accepted, and the bundle itself is the root; config.md, Root: path is required.",
    ("UTS-02", "runc"): "1.1 does not know domainname, which came with 1.1 of the specification, and ignores it.",
    # --- mounts
    ("MNT-06", "runc"): (
        "defaults is handed to the filesystem, of which tmpfs refuses it, and ratime fails; "
        "config.md, Linux mount options: defaults and all options of the table are the runtime's to apply."
    ),
    ("MNT-06", "crun"): (
        "the later of two contradicting options does not win, silent, loud, iversion, noiversion and nosymfollow are handed to the "
        "filesystem, rnoatime, ratime and rdiratime fail, shared and unbindable are recursive, and two kinds of propagation "
        "fail; config.md, Linux mount options: each option does what it does in mount(8)."
    ),
    ("MNT-07", "runc"): (
        "1.1 sets the mode of a tmpfs to that of the directory below, whatever mode= says; "
        "config.md, Mounts: options that the runtime does not know are handed to mount(2) as data."
    ),
    **{
        (row, "runc"): "1.1 does not know idmapped mounts, which came with 1.1 of the specification, and ignores them."
        for row in ("MNT-09", "MNT-10", "MNT-11")
    },
    **{
        (row, "crun"): (
            "1.8 does not know ridmap, and loses the mounts below one that is idmapped; "
            "config.md, Linux mount options: ridmap maps recursively."
        )
        for row in ("MNT-09", "MNT-10", "MNT-11")
    },
    # --- namespaces
    **{
        (row, runtime): f"{version} does not know time namespaces, which came with 1.1 of the specification."
        for row in ("NS-01", "TIME-01")
        for runtime, version in (("runc", "1.1"), ("crun", "1.8"))
    },
    ("NS-03", "runc"): (
        "1.1 joins no user namespace without mappings of the config's own, and no time namespace; "
        "config-linux.md, Namespaces: with a path the process is placed in that namespace."
    ),
    ("NS-03", "crun"): (
        "1.8 does not know time namespaces; "
        "config-linux.md, Namespaces: with a path the process is placed in that namespace."
    ),
    ("NS-06", "crun"): "a type may be listed twice; config-linux.md, Namespaces: the runtime must generate an error.",
    ("NS-07", "runc"): (
        "1.1 joins no user namespace without mappings of the config's own; "
        "config-linux.md, Namespaces: with a path the process is placed in that namespace."
    ),
    **{
        (
            "UM-01",
            runtime,
        ): "a mapping may lack a number, which is 0 then; config-linux.md, User namespace mappings: required."
        for runtime in ("runc", "crun")
    },
    # --- devices
    ("FD-02", "runc"): (
        "without a procfs no container can be made; runtime-linux.md, Dev symbolic links: the links are conditional upon it."
    ),
    ("FD-02", "crun"): (
        "the links are made without a procfs too; runtime-linux.md, Dev symbolic links: only if what they lead to exists."
    ),
    ("DEV-02", "crun"): "a device of any type is accepted; config-linux.md, Devices: c, b, u or p.",
    ("DEV-03", "runc"): "a device without a path is accepted and ignored; config-linux.md, Devices: path is required.",
    **{
        ("DEV-04", runtime): (
            "whatever is at the path of a device is left there, and passes for it; "
            "config-linux.md, Devices: if it does not match the device, the runtime must generate an error."
        )
        for runtime in ("runc", "crun")
    },
    **{
        (
            "DEV-05",
            runtime,
        ): "major and minor may be missing, and are 0 then; config-linux.md, Devices: required unless p."
        for runtime in ("runc", "crun")
    },
    ("DEV-07", "runc"): (
        "1.1 binds the host's node of the same path in a user namespace, whose owner it keeps, and fails if there is none; "
        "config-linux.md, Devices: uid and gid are those in the container's namespace."
    ),
    # --- network devices, Intel RDT, memory policy: newer than these
    **{
        (row, "runc"): "1.1 does not know linux.netDevices, which came with 1.3 of the specification, and ignores it."
        for row in ("NET-01", "NET-02", "NET-03", "NET-04", "NET-05", "NET-06", "NET-07")
    },
    **{
        (row, "crun"): "1.8 does not know linux.netDevices, which came with 1.3 of the specification, and ignores it."
        for row in ("NET-01", "NET-02", "NET-03", "NET-04", "NET-05", "NET-06", "NET-07")
    },
    **{
        (
            row,
            runtime,
        ): f"{version} does not know linux.memoryPolicy, which came with 1.3 of the specification, and ignores it."
        for row in ("MPOL-01", "MPOL-02", "MPOL-03")
        for runtime, version in (("runc", "1.1"), ("crun", "1.8"))
    },
    **{
        (
            f"RDT-{number:02}",
            "crun",
        ): "1.8 does not know linux.intelRdt and ignores it: no group, no schemata, no error."
        for number in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
    },
    ("RDT-02", "runc"): (
        "without a resctrl filesystem an intelRdt that has no schema is accepted and ignored; "
        "config-linux.md, IntelRdt: if none is mounted, an error."
    ),
    (
        "RDT-03",
        "runc",
    ): "1.1 refuses the closID /; config-linux.md, IntelRdt: it is the default group and must be used.",
    ("RDT-06", "runc"): (
        "any memBwSchema is written, with other resources and several lines; "
        "config-linux.md, IntelRdt: it begins with MB: and has no newline."
    ),
    (
        "RDT-07",
        "runc",
    ): "1.1 does not know intelRdt.schemata, which came with 1.3 of the specification, and ignores it.",
    (
        "RDT-08",
        "runc",
    ): "1.1 does not know intelRdt.schemata, which came with 1.3 of the specification, and ignores it.",
    ("RDT-09", "runc"): (
        "the schemata of a group that exists are overwritten, not compared; "
        "config-linux.md, IntelRdt: if they differ from those of the config, an error."
    ),
    ("RDT-11", "runc"): (
        "after a create that fails the group stays that it made for a closID; "
        "runtime.md, Errors: generating an error leaves the environment as if the operation was never attempted."
    ),
    ("RDT-12", "runc"): "1.1 does not know enableMonitoring, which came with 1.3 of the specification, and ignores it.",
    # --- cgroups
    ("CG-01", "crun"): (
        "create waits for as long as the cgroup is frozen; in a cgroup that has processes of others it starts, and delete kills "
        "them; runtime.md, Delete: what the container did not make is not deleted."
    ),
    ("CG-12", "runc"): (
        "without systemd the owner of the cgroup never changes; "
        "config-linux.md, Cgroup ownership: it should, if cgroup is mounted read-write."
    ),
    ("CG-12", "crun"): (
        "without a user namespace the owner never changes; config-linux.md, Cgroup ownership: it should, if cgroup is mounted "
        "read-write."
    ),
    (
        "CG-13",
        "runc",
    ): "without systemd the owner of the cgroup's files never changes; config-linux.md, Cgroup ownership.",
    (
        "CG-13",
        "crun",
    ): "without a user namespace the owner of the cgroup's files never changes; config-linux.md, Cgroup ownership.",
    ("CG-20", "runc"): (
        "a rule that denies a part of what a wildcard allows is refused with cgroup v2 too, where nothing stands against it; "
        "config-linux.md, Allowed Device list: the rules are applied in the order listed."
    ),
    ("CG-21", "runc"): (
        "a device rule may lack allow, and letters of access other than r, w and m are dropped; "
        "config-linux.md, Allowed Device list: allow is required, and access is composed of r, w and m."
    ),
    ("CG-30", "runc"): (
        "with cgroup v2 kernel, kernelTCP, swappiness, disableOOMKiller, realtimeRuntime, leafWeight and network are ignored; "
        "config-linux.md, Control groups: what can't be converted is an error."
    ),
    ("CG-33", "runc"): "1.1 does not know cpu.burst, which came with 1.1 of the specification, and ignores it.",
    ("CG-33", "crun"): "1.8 does not know cpu.burst, which came with 1.1 of the specification, and ignores it.",
    ("CG-34", "runc"): "1.1 does not know cpu.idle, which came with 1.1 of the specification, and ignores it.",
    ("CG-36", "runc"): (
        "a weightDevice without weight and leafWeight is accepted; config-linux.md, Block IO: at least one of them."
    ),
    ("CG-37", "runc"): "a throttle may lack its minor and its rate; config-linux.md, Block IO: they are required.",
    ("CG-37", "crun"): (
        "a throttle may lack its minor, and a negative rate is accepted; "
        "config-linux.md, Block IO: major, minor and rate are required, and rate is of type uint64."
    ),
    ("CG-38", "runc"): (
        "the limit of reservations is not set, and a hugepageLimits without limit is accepted; "
        "config-linux.md, Huge page limits: reservation limits are used where the kernel has them."
    ),
    ("CG-38", "crun"): (
        "the limit of reservations is not set, and a hugepageLimits without limit is accepted; "
        "config-linux.md, Huge page limits: reservation limits are used where the kernel has them."
    ),
    ("CG-39", "runc"): (
        "with cgroup v2 network is ignored, also a priority without name or value; "
        "config-linux.md, Control groups: what can't be converted is an error."
    ),
    **{
        ("CG-40", runtime): (
            "a pids.limit of 0 sets no limit; config-linux.md, PIDs: since 1.3, 0 is a limit and should be set as such."
        )
        for runtime in ("runc", "crun")
    },
    ("CG-43", "runc"): (
        "with cgroup v2 swappiness is ignored, even one above 100; config-linux.md, Memory: values are from 0 to 100."
    ),
    ("CG-44", "runc"): (
        "with cgroup v2 disableOOMKiller is ignored; config-linux.md, Control groups: what can't be converted is an error."
    ),
    ("CG-47", "runc"): (
        "with cgroup v2 leafWeight is ignored; config-linux.md, Control groups: what can't be converted is an error."
    ),
    # --- Linux
    ("PROP-01", "runc"): (
        "1.1 sets rootfsPropagation on the host's / before the root is changed, not on the container's; "
        "config-linux.md, Rootfs Mount Propagation."
    ),
    ("PROP-01", "crun"): (
        "an unknown rootfsPropagation means private, and so does slave; "
        "config-linux.md, Rootfs Mount Propagation: the values are shared, slave, private and unbindable."
    ),
    ("PROP-02", "runc"): (
        "1.1 leaves the root private; config-linux.md, Rootfs Mount Propagation: it belongs to a new peer group."
    ),
    ("PROP-03", "runc"): (
        "1.1 leaves the root private with slave, and heeds rslave only; "
        "config-linux.md, Rootfs Mount Propagation: it receives mounts from the host."
    ),
    ("PROP-03", "crun"): (
        "the root is private; config-linux.md, Rootfs Mount Propagation: it receives mounts from the host."
    ),
    ("PROP-05", "runc"): "1.1 leaves the root private, and bindable; config-linux.md, Rootfs Mount Propagation.",
    **{
        (
            row,
            runtime,
        ): "a path that is not absolute is accepted; config-linux.md, Masked Paths, Readonly Paths: it is absolute."
        for row in ("MASK-01", "MASK-02")
        for runtime in ("runc", "crun")
    },
    ("PERS-01", "runc"): "1.1 does not know linux.personality, and ignores it.",
    ("PERS-02", "runc"): "1.1 does not know linux.personality, and ignores it.",
    ("PERS-02", "crun"): (
        "flags of a personality are ignored; config-linux.md, Personality: none is defined, and config.md: an invalid value is an error."
    ),
    # --- seccomp
    ("SEC-01", "runc"): (
        "a seccomp without defaultAction is accepted if there are no rules, and no filter is loaded; "
        "config-linux.md, Seccomp: it is required."
    ),
    ("SEC-02", "runc"): (
        "an errno for an action that has none is ignored; config-linux.md, Seccomp: the runtime prints an error and fails."
    ),
    (
        "SEC-03",
        "crun",
    ): "names such as x86_64 are accepted as architectures; config-linux.md, Seccomp: they begin with SCMP_ARCH_.",
    ("SEC-05", "runc"): "a rule without names is accepted; config-linux.md, Seccomp: at least one entry.",
    ("SEC-05", "crun"): "a rule with an empty list of names is accepted; config-linux.md, Seccomp: at least one entry.",
    ("SEC-06", "runc"): "an argument may lack its index and its value; config-linux.md, Seccomp: they are required.",
    ("SEC-06", "crun"): (
        "an argument may lack its index and its value, which may be below 0; config-linux.md, Seccomp: they are required, of type uint64."
    ),
    ("SEC-20", "crun"): (
        "it connects to listenerPath, and fails if it can't, though no rule has NOTIFY; "
        "config-linux.md, Seccomp: the path is ignored then."
    ),
    (
        "SEC-24",
        "runc",
    ): "listenerMetadata without listenerPath is accepted; config-linux.md, Seccomp: it must not be set.",
    (
        "SEC-24",
        "crun",
    ): "listenerMetadata without listenerPath is accepted; config-linux.md, Seccomp: it must not be set.",
    # --- features
    ("FEAT-06", "runc"): (
        "defaults is listed, and handed to the filesystem, of which tmpfs refuses it; "
        "features.md, mountOptions: the options are recognised by the runtime."
    ),
}
