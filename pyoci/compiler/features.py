"""The features document (specification: features.md and features-linux.md): what this pyoci supports.

It describes the build, not the host, and needs no privileges. Only whether checkpoint and restore work depends on the
host, which has criu or not. The lists come from the tables of the code that implements them.
"""

from pyoci.version import COMMIT, SPEC, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.types import Features, LinuxFeatures, SeccompFeatures

OLDEST_SPEC = "1.0.0"
"""The oldest ociVersion that a config may have."""

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

UNSAFE_ANNOTATIONS = ("org.criu.config", "org.systemd.property.", "run.oci.keep_original_groups")
"""The annotations of a config that change what pyoci does: names, and prefixes of names that end with a dot."""


def document(*, checkpoint: bool = False) -> "Features":
    """Return the features document. `checkpoint` says whether the host has criu.

    By the specification, an empty list means that pyoci supports none, and a missing key that it does not know.
    """
    from pyoci.compiler.mount_options import MOUNT_OPTIONS

    return {
        "ociVersionMin": OLDEST_SPEC,
        "ociVersionMax": SPEC,
        "hooks": list(HOOKS),
        "mountOptions": sorted(MOUNT_OPTIONS),
        "linux": _linux(),
        "annotations": _annotations(checkpoint=checkpoint),
        "potentiallyUnsafeConfigAnnotations": list(UNSAFE_ANNOTATIONS),
    }


def _linux() -> "LinuxFeatures":
    from pyoci.compiler.memory_policy import FLAGS as MEMORY_FLAGS
    from pyoci.compiler.memory_policy import MODES
    from pyoci.compiler.namespaces import CLONE_FLAGS
    from pyoci.config.constants import CAPABILITIES

    return {
        "namespaces": sorted(CLONE_FLAGS),
        "capabilities": list(CAPABILITIES),
        "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
        "seccomp": _seccomp(),
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
        "memoryPolicy": {"modes": sorted(MODES), "flags": sorted(MEMORY_FLAGS)},
        "mountExtensions": {"idmap": {"enabled": True}},
        "netDevices": {"enabled": True},
    }


def _seccomp() -> "SeccompFeatures":
    from pyoci.compiler.seccomp import ACTIONS, FLAGS, MACHINES
    from pyoci.compiler.seccomp_rules import OPERATORS

    return {
        "enabled": True,
        "actions": sorted(ACTIONS),
        "operators": sorted(OPERATORS),
        "archs": sorted(abi.name for machine in MACHINES.values() for abi in machine),
        "knownFlags": sorted(FLAGS),
        "supportedFlags": sorted(FLAGS),
    }


def _annotations(*, checkpoint: bool) -> "dict[str, str]":
    annotations = {"io.github.pyoci.version": VERSION}
    if checkpoint:
        annotations["org.opencontainers.runc.checkpoint.enabled"] = "true"
    if COMMIT:
        annotations["io.github.pyoci.commit"] = COMMIT
    return annotations
