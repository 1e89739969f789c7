"""Compile the profiles and device rules that engines send by default, while the build makes the executable's image.

No command imports this module. Its results are `seccomp.KNOWN` and `device_filter.KNOWN`, which the image keeps.
"""

from pyoci.cgroups import device_filter
from pyoci.compiler import seccomp
from pyoci.compiler._profiles import HEADS, PROFILES, RULES
from pyoci.compiler._syscalls import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.types import DeviceRule, Seccomp, SyscallRule


def compile_known(arch: str) -> None:
    """Fill `KNOWN` of both compilers, that of seccomp with the profiles of the architecture `arch` (uname -m)."""
    device_filter.KNOWN.extend((rules, device_filter.compile_rules(rules)) for rules in device_rules().values())
    for _, profile in profiles(arch):
        compiled = seccomp.compile_filter(profile, arch)
        # without what `compiled` keeps to compile its program
        known = seccomp.Filter(compiled.flags, compiled.warnings, program=compiled.program)
        seccomp.KNOWN.setdefault(seccomp.shape(profile, arch), []).append((profile, known))


def profiles(arch: str) -> "Iterator[tuple[str, Seccomp]]":
    """Yield each known profile with its description: the engine and the container's capabilities."""
    texts = {name: name for name in NAMES}
    rules = [_rule(names, rest, texts) for names, rest in RULES]
    for label, head, places in PROFILES.get(arch, ()):
        syscalls = [rules[place] for place in _numbers(places)]
        profile: Seccomp = {**HEADS[head], "syscalls": syscalls}  # type: ignore[typeddict-item]
        yield label, profile


def device_rules() -> "dict[str, list[DeviceRule]]":
    """Return each known list of device rules by its engine. Podman sends one rule, which compiles at once."""
    everything: DeviceRule = {"allow": False, "access": "rwm"}
    docker = [everything, *map(_allowed, ("1:5", "1:3", "1:9", "1:8", "5:0", "5:1"))]
    fuse: DeviceRule = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    containerd = [everything, *map(_allowed, ("1:3", "1:8", "1:7", "5:0", "1:5", "1:9", "5:1", "136:", "5:2"))]
    return {"Docker": 2 * [*docker, fuse], "containerd": containerd}


def _allowed(numbers: str) -> "DeviceRule":
    """Return the rule that allows a character device, or all that have its major number."""
    major, _, minor = numbers.partition(":")
    rule: DeviceRule = {"allow": True, "type": "c", "major": int(major)}
    if minor:
        rule["minor"] = int(minor)
    return {**rule, "access": "rwm"}


def _rule(names: str, rest: "dict[str, object]", texts: "dict[str, str]") -> "SyscallRule":
    """Return a rule, whose names are the same objects in each rule."""
    return {"names": [texts.setdefault(name, name) for name in names.split()], **rest}  # type: ignore[typeddict-item]


def _numbers(text: str) -> "Iterator[int]":
    """Yield the numbers in a text such as `0-3 7`."""
    for item in text.split():
        first, _, last = item.partition("-")
        yield from range(int(first), int(last or first) + 1)
