"""Write the verbs of pyoci/compiler/verbs as declarations for native code: `python tools/gen_verbs.py`.

pyoci/native/_verbs.pxi gets steps, slots, synchronisation points and flags by name, and a struct for each verb whose
members are the verb's fields. pyoci/native/_table.pxi gets the table of the functions `do_<verb>` by code. The build
makes both; edit the classes instead.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from pyoci.compiler.verbs import CHILD, ChildOp, base, numbers  # noqa: E402

HEADER = "# Made by tools/gen_verbs.py from pyoci/compiler/verbs. Edit the classes there.\n"


def constants(title: str, values: dict[str, int]) -> list[str]:
    """An enum."""
    return [f"cdef enum:  # {title}", *(f"    {name} = {value}" for name, value in values.items()), ""]


def flags() -> dict[str, int]:
    """Every flag of an operation. A name means the same bit in all verbs, so that they can share functions."""
    bits: dict[str, int] = {}
    for verb in CHILD:
        for name, bit in verb.bits:
            if bits.setdefault(f"FLAG_{name.upper()}", bit) != bit:
                raise SystemExit(f"{verb.__name__}: the flag {name} has another bit in another verb")
    return bits


def struct(verb: type[ChildOp]) -> list[str]:
    """The 48 bytes of one verb, with its fields by name. Unused members keep the size."""
    strings = [name for name, kind in verb.wire if kind in base.STRINGS]
    lines = [f"cdef struct {verb.__name__}Op:", "    uint16_t code", "    uint16_t flags"]
    lines += [f"    uint32_t {name}" for name in strings]
    lines += [f"    uint32_t unused_s{n + 1}" for n in range(len(strings), base.MAX_STRINGS)]
    size = 0
    for name, kind in verb.wire:
        if kind not in base.STRINGS:
            half = kind == base.HALF
            lines.append(f"    {'uint32_t' if half else 'int64_t'} {name}")
            size += 4 if half else 8
    lines += [f"    int64_t unused_{'abcd'[n]}" for n in range(size // 8, base.MAX_NUMBERS)]
    return [*lines, ""]


def step_constant(name: str) -> str:
    """`fsconfig(create)` as STEP_FSCONFIG_CREATE."""
    return "STEP_" + re.sub(r"\W+", "_", name).strip("_").upper()


def declarations() -> str:
    """The text of _verbs.pxi."""
    slots = {f"SLOT_{name}": getattr(numbers, name) for name in numbers.SLOTS}
    points = {f"SYNC_{name.upper().replace('-', '_')}": point for point, name in numbers.POINTS.items()}
    steps = {step_constant(name): index for index, name in enumerate(numbers.STEPS) if name}
    lines = [
        HEADER,
        *constants("codes of operations go from 1 to", {"LAST_VERB": len(CHILD)}),
        *constants("steps of operations: system calls and checks", steps),
        *constants("slots of descriptors that both sides know by number", slots),
        *constants("synchronisation points", points),
        *constants("flags of operations", flags()),
        "cdef struct Op:  # any operation",
        "    uint16_t code",
        "    uint16_t flags",
        *(f"    uint32_t s{n}" for n in (1, 2, 3)),
        *(f"    int64_t {letter}" for letter in "abcd"),
        "",
    ]
    for verb in CHILD:
        lines += struct(verb)
    for title, names in ("VERBS", ("", *(verb.verb for verb in CHILD))), ("STEPS", numbers.STEPS):
        lines += [f"{title} = (", *(f'    "{name}",' for name in names), ")"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The text of _table.pxi."""
    return "\n".join(
        [
            HEADER,
            "ctypedef int (*Function)(Context *, const Op *) noexcept nogil",
            f"cdef Function FUNCTIONS[{len(CHILD) + 1}]",
            "FUNCTIONS[0] = NULL",
            *(f"FUNCTIONS[{verb.code}] = <Function><void *>do_{verb.verb}" for verb in CHILD),
            "",
        ]
    )


def main() -> None:
    """Write the files whose text has changed: a newer file would make the build compile everything again."""
    for name, text in (("_verbs.pxi", declarations()), ("_table.pxi", table())):
        path = ROOT / "pyoci" / "native" / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
