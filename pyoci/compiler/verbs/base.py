"""The base of all verbs. A verb is a class with named fields, a contract, two phrases, and for the child an encoding.

Each verb has one declaration, in `verbs/`. Its class says everything about it:

    class SetHostname(ChildOp):
        '''Set the hostname of the UTS namespace.    ← the contract: what it takes, ignores, leaves, fails with

        Fails with: sethostname.
        Calls: sethostname                           ← its system calls, in order
        '''

        name: str                                    ← fields, given by name to the constructor
        shows = "{name}"                             ← what `pyoci plan` prints beside the verb
        fails = "set hostname {name}"                ← what an error says after "cannot"

`Calls:` is a pattern over names of system calls: `?`, `*`, `+`, `|` and parentheses mean what they mean in a regular
expression. It describes a run that succeeds. A name in capitals stands for calls that many verbs share, such as PATH
for those that resolve a path and create what is missing (tests/support/contracts.py). For a verb of the runtime it
lists only the calls that change mounts, namespaces, credentials or cgroups. tests/root/test_traced.py compares these
patterns with what processes call.

An operation is an instance: `SetHostname("/hostname", name="box")`. Its first argument, `where`, is the JSON
pointer of the property that asked for it.

A child's operation travels in 48 bytes: a code, flags, three strings, four numbers. Its fields take these places in the
order in which they are declared:

    str                 the next string, as an offset into the pool of strings
    bytes, Options      likewise: a table for the kernel, or a filesystem's options, each with its own NUL. The 4 bytes
                        before it hold its length
    int                 the next number, of any value; a mask of 64 bits travels as the signed number with the same bits
    Natural             likewise, but never negative
    Point               likewise: a synchronisation point
    Slot                likewise: the number of a descriptor that the plan names. OptionalSlot may be NO_SLOT
    SlotCount           likewise: how many slots follow from the `Slot` before it
    u32                 half of the next number; two that follow each other share one
    Vector, Environment the next number: the index of a vector of strings. An environment has a spare place for HOME
    bool                the next bit of the flags

The runtime writes the fields by these types (native/encode.pxi). The child checks each of them by its type before it
runs an operation of the block (native/child/block.pxi). Fields listed in `unsent` stay in the runtime.
`tools/gen_verbs.py` writes the same layout as a C struct for each verb, and the types as a table.
"""

import _struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, ClassVar, TypeAlias, TypeVar, dataclass_transform

    OpType = TypeVar("OpType", bound="Op")

    u32: TypeAlias = int
    Natural: TypeAlias = int
    Point: TypeAlias = int
    Slot: TypeAlias = int
    OptionalSlot: TypeAlias = int
    SlotCount: TypeAlias = int
    Options: TypeAlias = Sequence[str]
    Vector: TypeAlias = Sequence[str]
    Environment: TypeAlias = Sequence[str]
else:

    def dataclass_transform(**_):
        """Mark the classes whose constructors a type checker derives from their fields."""
        return lambda cls: cls


# How each type travels. The names of annotations are looked up, never evaluated.
(
    TEXT, BLOB, OPTIONS, NUMBER, NATURAL, POINT, SLOT, OPTIONAL_SLOT, SLOT_COUNT, HALF, VECTOR, ENVIRONMENT, FLAG,
) = range(1, 14)  # fmt: skip
KINDS = {
    "str": TEXT, "bytes": BLOB, "Options": OPTIONS, "int": NUMBER, "Natural": NATURAL, "Point": POINT, "Slot": SLOT,
    "OptionalSlot": OPTIONAL_SLOT, "SlotCount": SLOT_COUNT, "u32": HALF, "Vector": VECTOR, "Environment": ENVIRONMENT,
    "bool": FLAG,
}  # fmt: skip
STRINGS = (TEXT, BLOB, OPTIONS)
MAX_STRINGS, MAX_NUMBERS, MAX_FLAGS = 3, 4, 16


def field(*, default: str, kw_only: bool) -> "Any":  # noqa: ARG001 - a type checker reads it
    """Describe a field to a type checker. At run time, return its default."""
    return default


def snake_case(name: str) -> str:
    """Turn `BindMount` into `bind_mount`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class _Fields:
    """The root of all operations, which has no fields itself."""


class Op(_Fields):
    """One operation: an instance of a verb.

    `where` is the JSON pointer of the property that asked for it, "" if the runtime adds it by itself.
    `verb` is the name of the class in snake_case, as `pyoci plan` prints it.
    """

    where: str = field(default="", kw_only=False)

    verb: "ClassVar[str]" = ""
    fields: "ClassVar[tuple[tuple[str, str], ...]]" = ()  # name and type, in order
    shows: "ClassVar[str]" = ""
    fails: "ClassVar[str]" = ""

    def __init_subclass__(cls) -> None:
        cls.verb = snake_case(cls.__name__)
        own = cls.__annotations__  # only those of the class itself, since Python 3.10
        kinds = {name: kind if isinstance(kind, str) else kind.__name__ for name, kind in own.items()}
        known = {name for name, _ in cls.fields}
        new = [(name, kind) for name, kind in kinds.items() if name not in known and not kind.startswith("ClassVar")]
        cls.fields = (*cls.fields, *new)

    if not TYPE_CHECKING:

        def __init__(self, where="", **fields):
            self.where = where
            self.__dict__.update(fields)

    def shown(self) -> str:
        """Describe the object of the operation, as `pyoci plan` prints it."""
        return self.shows.format_map(_ByName(self))

    def attempt(self) -> str:
        """Describe the operation as `<verb> <object>`, for "cannot …"."""
        return self.fails.format_map(_ByName(self))

    def __repr__(self) -> str:
        return f"<{self.verb} {self.shown()} from {self.where or '/'}>"


class _ByName(dict[str, object]):
    """The fields of an operation for a template, with the defaults of its class."""

    def __init__(self, op: Op) -> None:
        self._op = op

    def __missing__(self, name: str) -> object:
        return getattr(self._op, name)


PARENT: "list[type[ParentOp]]" = []
"""Every verb of the runtime."""


class ParentOp(Op):
    """An operation of the runtime. It never leaves this process, so its fields may have any type."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__name__.startswith("_"):
            PARENT.append(cls)


def _format(cls: "type[ChildOp]", strings: int, numbers: list[int]) -> str:
    """Return the format of the operation's 48 bytes for `struct`. Padding fills the places that the verb leaves."""
    packed = "".join("I" if kind == HALF else "q" for kind in numbers)
    size = sum(4 if kind == HALF else 8 for kind in numbers)
    if "I" in packed and packed.count("I") % 2:
        raise TypeError(f"{cls.__name__}: u32 fields come in pairs")
    if strings > MAX_STRINGS or size > 8 * MAX_NUMBERS or len(cls.bits) > MAX_FLAGS:
        raise TypeError(f"{cls.__name__}: too many fields for an operation's 48 bytes")
    return f"=HH{'I' * strings}{4 * (MAX_STRINGS - strings)}x{packed}{8 * MAX_NUMBERS - size}x"


CHILD: "list[type[ChildOp]]" = []
"""Every verb of the child. Its code is its position, from 1; 0 names no verb."""


class ChildOp(Op):
    """An operation of the child. `code` is its number on both sides, `wire` and `layout` are how it travels."""

    fails = "run an operation that this version of pyoci does not have"

    code: "ClassVar[int]" = 0
    unsent: "ClassVar[tuple[str, ...]]" = ()
    wire: "ClassVar[tuple[tuple[str, int], ...]]" = ()  # name and kind, in the order of the struct
    bits: "ClassVar[tuple[tuple[str, int], ...]]" = ()  # name and bit of each flag
    layout: "ClassVar[_struct.Struct]"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__name__.startswith("_"):
            return  # what several verbs share
        CHILD.append(cls)
        cls.code = len(CHILD)
        sent = [(name, KINDS[kind]) for name, kind in cls.fields if name not in cls.unsent]
        strings = [entry for entry in sent if entry[1] in STRINGS]
        numbers = [entry for entry in sent if entry[1] not in (*STRINGS, FLAG)]
        cls.bits = tuple((name, 1 << n) for n, name in enumerate(name for name, kind in sent if kind == FLAG))
        cls.wire = (*strings, *numbers)
        cls.layout = _struct.Struct(_format(cls, len(strings), [kind for _, kind in numbers]))

    @property
    def flags(self) -> int:
        """The bits of all fields that are true."""
        flags = 0
        for name, bit in self.bits:
            if getattr(self, name):
                flags |= bit
        return flags

    def sent_fields(self) -> "dict[str, object]":
        """Return the fields that the child gets, by name."""
        return {name: getattr(self, name) for name, _ in (*self.wire, *self.bits)}

    @classmethod
    def field_at(cls, place: int) -> str:
        """Return the name of the field at this place of the 48 bytes, or ""."""
        at = 4
        for name, kind in cls.wire:
            if kind not in STRINGS:
                at = max(at, 4 + 4 * MAX_STRINGS)
            if at == place:
                return name
            at += 4 if kind in (*STRINGS, HALF) else 8
        return ""


def converted(op: Op, verb: "type[OpType]") -> "OpType":
    """Convert an operation of the child to one of the runtime, or back. Both verbs have the same fields."""
    other = verb(op.where)
    other.__dict__.update(op.__dict__)
    return other
