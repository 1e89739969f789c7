"""Compile the profiles that engines send by default, while the build makes the executable's image.

No command imports this module. Its result is `seccomp.KNOWN`, the only thing in the image that is made from data.
"""

from pyoci.compiler import seccomp
from pyoci.compiler._profiles import HEADS, PROFILES, RULES
from pyoci.compiler._syscalls import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.types import Seccomp, SyscallRule


def compile_known(arch: str) -> None:
    """Fill `seccomp.KNOWN` for the architecture `arch` (uname -m). Leaves it empty if no profile is known for that."""
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


def _rule(names: str, rest: "dict[str, object]", texts: "dict[str, str]") -> "SyscallRule":
    """Return a rule, whose names are the same objects in each rule."""
    return {"names": [texts.setdefault(name, name) for name in names.split()], **rest}  # type: ignore[typeddict-item]


def _numbers(text: str) -> "Iterator[int]":
    """Yield the numbers in a text such as `0-3 7`."""
    for item in text.split():
        first, _, last = item.partition("-")
        yield from range(int(first), int(last or first) + 1)
