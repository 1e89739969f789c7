"""Write the verbs of pyoci/compiler/verbs as declarations for native code: `python tools/gen_verbs.py`.

pyoci/native/_verbs.pxi gets steps, slots, synchronisation points and flags by name, a struct for each verb, whose
members are the verb's fields, and a table of what these fields may hold. pyoci/native/_table.pxi gets the function that
calls `do_<verb>` by code. The build makes both; edit the classes instead.
"""

import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from pyoci.compiler.verbs import CHILD, ChildOp, Exec, ExecHost, ReceivePlan, base, numbers  # noqa: E402

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


def offsets(verb: type[ChildOp]) -> list[tuple[str, int]]:
    """Each checked place of the verb's 48 bytes, as its kind and its offset. Places without a field must be zero."""
    strings = [kind for _, kind in verb.wire if kind in base.STRINGS]
    places = [(_NAMES[kind], 4 + 4 * n) for n, kind in enumerate(strings)]
    places += [("ZERO_32", 4 + 4 * n) for n in range(len(strings), base.MAX_STRINGS)]
    at = 4 + 4 * base.MAX_STRINGS
    for _, kind in verb.wire:
        if kind not in base.STRINGS:
            if kind not in _OF_ANY_VALUE:
                places.append((_NAMES[kind], at))
            at += 4 if kind == base.HALF else 8
    return places + [("ZERO_64", n) for n in range(at, 48, 8)]


_NAMES = {getattr(base, name): name for name in dir(base) if name.isupper() and name.replace("_", "").isalpha()
          and type(getattr(base, name)) is int and not name.startswith("MAX")}  # fmt: skip
_OF_ANY_VALUE = (base.NUMBER, base.HALF)
_CHECKED = (*(name for kind, name in sorted(_NAMES.items()) if kind not in (*_OF_ANY_VALUE, base.FLAG)), "ZERO_32",
            "ZERO_64")  # fmt: skip


def _wrapped(text: str) -> list[str]:
    """Break C code into lines of at most 120 characters."""
    return textwrap.wrap(text, 118, initial_indent=" " * 8, subsequent_indent=" " * 12)


def checks() -> list[str]:
    """The table of what the fields of each verb may hold. It is constant: a program without Python includes it, too."""
    longest = max(len(offsets(verb)) for verb in CHILD)
    rows = []
    for verb in CHILD:
        places = ", ".join(f"{{PLACE_{kind}, {at}}}" for kind, at in offsets(verb))
        rows += [f"        /* {verb.verb} */", *_wrapped(f"{{{sum(bit for _, bit in verb.bits)}, {{{places}}}}},")]
    return [
        "cdef extern from *:",
        '    """',
        f"    #define PYOCI_BLOCK_MAGIC {numbers.BLOCK_MAGIC:#x}ULL",
        *_wrapped("enum { PLACE_END, " + ", ".join(f"PLACE_{kind}" for kind in _CHECKED) + " };"),
        "    struct pyoci_place { unsigned char kind, offset; };",
        f"    struct pyoci_checks {{ unsigned short flags; struct pyoci_place places[{longest + 1}]; }};",
        "    static const struct pyoci_checks pyoci_checks[] = {",
        "        {0, {{0, 0}}},",
        *rows,
        "    };",
        '    """',
        '    const uint64_t BLOCK_MAGIC "PYOCI_BLOCK_MAGIC"',
        "    enum:",
        *(f"        {name}" for name in ("PLACE_END", *(f"PLACE_{kind}" for kind in _CHECKED))),
        '    ctypedef struct Place "struct pyoci_place":',
        "        uint8_t kind",
        "        uint8_t offset",
        '    ctypedef struct Checks "struct pyoci_checks":',
        "        uint16_t flags",
        f"        const Place places[{longest + 1}]",
        '    const Checks CHECKS "pyoci_checks"[]',
        "",
    ]


def step_constant(name: str) -> str:
    """`fsconfig(create)` as STEP_FSCONFIG_CREATE."""
    return "STEP_" + re.sub(r"\W+", "_", name).strip("_").upper()


def block_constants() -> dict[str, int]:
    """What the two sides of a block agree on, and why one can't be read."""
    shared = {name: getattr(numbers, name) for name in ("FIRST_SLOT", "MAX_SLOTS", "BLOCK_UNFINISHED")}
    errors = {f"BAD_{name}": n for n, name in enumerate(numbers.BLOCK_ERRORS, 1)}
    return {**shared, "LAST_POINT": max(numbers.POINTS), **errors}


def declarations() -> str:
    """The text of _verbs.pxi."""
    slots = {f"SLOT_{name}": getattr(numbers, name) for name in numbers.SLOTS}
    points = {f"SYNC_{name.upper().replace('-', '_')}": point for point, name in numbers.POINTS.items()}
    steps = {step_constant(name): index for index, name in enumerate(numbers.STEPS) if name}
    codes = {
        "LAST_VERB": len(CHILD),
        "VERB_EXEC": Exec.code,
        "VERB_EXEC_HOST": ExecHost.code,
        "VERB_RECEIVE_PLAN": ReceivePlan.code,
    }
    lines = [
        HEADER,
        *constants("codes of operations go from 1 to", codes),
        *constants("steps of operations: system calls and checks", steps),
        *constants("slots of descriptors that both sides know by number", slots),
        *constants("synchronisation points", points),
        *constants("flags of operations", flags()),
        *constants("blocks of operations", block_constants()),
        *constants("how fields travel", {f"KIND_{name}": kind for kind, name in sorted(_NAMES.items())}),
        "cdef struct Op:  # any operation",
        "    uint16_t code",
        "    uint16_t flags",
        *(f"    uint32_t s{n}" for n in (1, 2, 3)),
        *(f"    int64_t {letter}" for letter in "abcd"),
        "",
    ]
    for verb in CHILD:
        lines += struct(verb)
    lines += checks()
    for title, names in ("VERBS", ("", *(verb.verb for verb in CHILD))), ("STEPS", numbers.STEPS):
        lines += [f"{title} = (", *(f'    "{name}",' for name in names), ")"]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The text of _table.pxi: a switch, because a table of pointers would need code that runs at the start."""
    lines = [HEADER, "cdef int call_verb(Context *ctx, const Op *op) noexcept nogil:"]
    for verb in CHILD:
        lines.append(f"    {'if' if verb.code == 1 else 'elif'} op.code == {verb.code}:")
        lines.append(f"        return do_{verb.verb}(ctx, <const {verb.__name__}Op *>op)")
    return "\n".join([*lines, "    return STEP_UNKNOWN_VERB", ""])


def main() -> None:
    """Write the files whose text has changed: a newer file would make the build compile everything again."""
    for name, text in (("_verbs.pxi", declarations()), ("_table.pxi", table())):
        path = ROOT / "pyoci" / "native" / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
