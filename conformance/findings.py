"""What is known of failures of other runtimes: (row, runtime) → a sentence, with the words of the specification it breaks.

Each was checked against the specification's text, and by hand, before it was written down. A failure that is not listed
here is reported with what the test saw.
"""

FINDINGS: "dict[tuple[str, str], str]" = {
    # --- global rules
    ("ERR-01", "crun"): (
        "when a namespace's path is missing, create fails and leaves the cgroup that it made; "
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
    ("LIFE-15", "runc"): (
        "after a startContainer or poststart hook that fails the container is still there; "
        "runtime.md, Lifecycle: it goes on with steps 12 and 13, is destroyed, and poststop hooks run."
    ),
    ("LIFE-15", "crun"): (
        "after a hook that fails no poststop hook runs, and after a startContainer or poststart hook the container is still "
        "there; runtime.md, Lifecycle: it goes on with steps 12 and 13."
    ),
    # --- operations
    ("OP-06", "crun"): (
        "when a property can't be applied, create fails but leaves the cgroup; "
        "runtime.md, Create: an error, and no container is created."
    ),
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
    ("HOOK-11", "runc"): (
        "1.1 runs poststart hooks in create; config.md, POSIX-platform Hooks: after the program has been executed, in start."
    ),
}
