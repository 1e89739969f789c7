"""Decide whether a container's mount namespace begins with a copy of the host's mounts.

A new mount namespace is a copy of its creator's. The copy takes a microsecond for each mount of the host, and pins them
all until the child pivots the root. So the child first joins the kernel's own mount namespace, which has two mounts,
and copies that. The container gets the same mounts, because the runtime clones every tree of the host before, and the
child attaches the clones (docs/decisions/0009-host-mounts.md).

A container needs the host's mounts only if something looks at a path of the host from inside the new namespace before
the child pivots the root.
"""

from pyoci.compiler import verbs
from pyoci.linux import CLONE_NEWNS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.compiler.facts import Host, Options
    from pyoci.compiler.namespaces import Entry, Namespaces
    from pyoci.compiler.operations import Slots
    from pyoci.types import Config, Mount

# Filesystems that have neither a device nor an option with a path, which the kernel would resolve in the namespace.
_WITHOUT_PATHS = (
    "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "hugetlbfs", "bpf", "debugfs", "tracefs",
    "securityfs",
)  # fmt: skip
# These hooks may enter the container's mount namespace before the root is pivoted, and find the host's paths there.
_EARLY_HOOKS = ("prestart", "createRuntime", "createContainer")
_MAX_OPTION = 48  # characters; a longer option may need mount(2), which needs a mount point on `/`


def leaves_host(config: "Config", host: "Host", options: "Options", namespaces: "Namespaces") -> bool:
    """Whether the child can leave the host's mounts behind.

    It can't in a user namespace, where the kernel lets it mount a procfs only if it sees one. It can't with a bootstrap
    process, which makes the namespaces in another order, or with --no-pivot, which moves the root filesystem over `/`.
    """
    return bool(
        host.kernel_mounts
        and "mount" in namespaces.new
        and not (namespaces.own_user or namespaces.needs_bootstrap or options.no_pivot)
        and not any(config.get("hooks", {}).get(kind) for kind in _EARLY_HOOKS)
        and len(config.get("linux", {}).get("mountLabel", "")) <= _MAX_OPTION
        and all(_names_no_path(mount) for mount in config.get("mounts", ()))
    )


def _names_no_path(mount: "Mount") -> bool:
    """Whether the child mounts this without a path of the host. The runtime opens the sources of bind mounts."""
    options = mount.get("options", ())
    if "bind" in options or "rbind" in options:
        return True
    return mount.get("type") in _WITHOUT_PATHS and all(
        len(text) <= _MAX_OPTION for text in (mount.get("source", ""), *options)
    )


def leave_host(entry: "Entry", namespaces: "Namespaces", slots: "Slots", kernel_mounts: str) -> None:
    """Let init join the kernel's mount namespace before it makes its own."""
    where, slot = namespaces.where["mount"], slots.new()
    entry.part.before.append(
        verbs.OpenNamespace(where, path=kernel_mounts, kind="mount", namespace=slot, flag=CLONE_NEWNS)
    )
    entry.init.append(verbs.JoinNamespace(where, kind="kernel's mount", namespaces=slot, types=CLONE_NEWNS))
