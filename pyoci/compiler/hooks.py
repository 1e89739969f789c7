"""`hooks` → operations.

Implements config.md "POSIX-platform Hooks":

- prestart and createRuntime run in the runtime's namespaces. They are parent operations at the sync point `hooks`.
- createContainer and startContainer run in the container. They are operations of the child.
- `start` runs poststart, and `delete` runs poststop. Both find them in the container's record.
"""

from pyoci.compiler import verbs
from pyoci.compiler.namespaces import outside_pids
from pyoci.compiler.operations import Part, Slots
from pyoci.compiler.verbs.numbers import CREATE_STATE, HOOKS, START_STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyoci.compiler.namespaces import Namespaces
    from pyoci.compiler.verbs import ChildOp, ParentOp
    from pyoci.types import Config, Hook


MAX_TIMEOUT = 1_000_000_000
"""Seconds, some 31 years. A longer timeout counts as this one, whose milliseconds fit 64 bits."""


def _entries(config: "Config", kind: str) -> "Iterator[tuple[Hook, str]]":
    hooks: Mapping[str, object] = config.get("hooks", {})
    entries = hooks.get(kind, ())
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        yield entry, f"/hooks/{kind}/{index}"


def timeout_ms(entry: "Hook") -> int:
    """Return a hook's `timeout` in milliseconds, or 0 if it has none."""
    return int(min(entry.get("timeout", 0), MAX_TIMEOUT)) * 1000


def _argv(entry: "Hook") -> "list[str]":
    return entry.get("args") or [entry["path"]]


def host_hooks(config: "Config", *kinds: str) -> "list[ParentOp]":
    """Run these hooks in the runtime's namespaces."""
    return [
        verbs.RunHostHook(
            where,
            path=entry["path"],
            argv=_argv(entry),
            envp=entry.get("env", []),
            timeout_ms=timeout_ms(entry),
        )
        for kind in kinds
        for entry, where in _entries(config, kind)
    ]


def container_hooks(config: "Config", kind: str, slot: int, env: "Sequence[str]" = ()) -> "list[ChildOp]":
    """Run hooks in the child, with the state in `slot` as stdin. A hook without `env` of its own gets `env`."""
    return [
        verbs.RunHook(
            where,
            path=entry["path"],
            argv=_argv(entry),
            envp=entry.get("env", env),
            timeout_ms=timeout_ms(entry),
            state=slot,
            add_home=bool(env) and "env" not in entry,
        )
        for entry, where in _entries(config, kind)
    ]


def open_bundle(config: "Config", bundle: str) -> "Iterator[ChildOp]":
    """Open the working directory of createContainer hooks: the bundle in the container's mount namespace.

    This operation follows attach_rootfs.
    """
    if config.get("hooks", {}).get("createContainer"):
        yield verbs.OpenBundle("/hooks/createContainer", path=bundle)


def create_hooks(config: "Config", namespaces: "Namespaces", slots: Slots) -> Part:
    """Run prestart, createRuntime and createContainer hooks, after the mounts and before the child pivots the root."""
    on_host = host_hooks(config, "prestart", "createRuntime")
    in_container = container_hooks(config, "createContainer", CREATE_STATE)
    if not on_host and not in_container:
        return Part()
    inner = outside_pids(namespaces, in_container, slots)
    sync = verbs.Sync("/hooks", point=HOOKS)
    at: list[ParentOp] = [verbs.FillHookState("/hooks"), *on_host]
    return Part([sync, *inner.child], before=inner.before, at={HOOKS: at})


def run_in_container(config: "Config") -> bool:
    """Whether a hook runs in the container, as a process in its cgroup."""
    hooks = config.get("hooks", {})
    return bool(hooks.get("createContainer") or (hooks.get("startContainer") and config.get("process")))


def start_hooks(config: "Config", env: "list[str]") -> "list[ChildOp]":
    """Run startContainer hooks in the container, just before its program. They get its environment, as with runc.

    The other hooks find their programs on the host. The image must not choose their environment, because it could then
    control programs of the host.
    """
    return container_hooks(config, "startContainer", START_STATE, env)
