"""Plans: the operations of a container in order, each with the place in config.json that asked for it.

An operation is an instance of a verb (`pyoci.compiler.verbs`), whose class states its contract. A plan is flat: it has
no conditions, no loops and no variables. The compiler decides what depends on the config. What depends on the root
filesystem is part of a verb's contract.

The child's operations are encoded into one buffer, which native code runs after the clone. The runtime's operations
stand in the plan where they happen: before the clone, beside the child's work, or at a synchronisation point.
"""

from pyoci.compiler import verbs
from pyoci.compiler.verbs.base import BLOB, ENVIRONMENT, HALF, NUMBER, OPTIONS, TEXT, VECTOR, signed
from pyoci.compiler.verbs.numbers import FIRST_SLOT
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs import ChildOp, ParentOp


class Part:
    """What one part of a config adds to a plan.

    `child` are operations of the child, which the compiler puts in their place. The others go to the plan's fields of
    the same name.
    """

    __slots__ = ("after", "alongside", "at", "before", "child", "ignored", "warnings")

    def __init__(
        self,
        child: "Iterable[ChildOp]" = (),
        *,
        before: "Iterable[ParentOp]" = (),
        alongside: "Iterable[ParentOp]" = (),
        at: "Mapping[int, Sequence[ParentOp]] | None" = None,
        after: "Mapping[int, Sequence[ParentOp]] | None" = None,
        warnings: "Iterable[str]" = (),
        ignored: "Iterable[ParentOp]" = (),
    ) -> None:
        self.child = list(child)
        self.before = list(before)
        self.alongside = list(alongside)
        self.at = at or {}
        self.after = after or {}
        self.warnings = list(warnings)
        self.ignored = list(ignored)


class Start:
    """How the process becomes the program.

    `part`     becoming the container's user, and what the runtime does to a process that is ready
    `clone`    cloning the program's process, if other programs can see that one as soon as it exists
    `program`  what the program's process does, up to its program
    """

    __slots__ = ("clone", "part", "program")

    def __init__(self, part: Part, clone: "list[ChildOp]", program: "list[ChildOp]") -> None:
        self.part = part
        self.clone = clone
        self.program = program


def ignore(name: str, value: str, why: str) -> Part:
    """Show in the plan that the annotation `name` has no effect, and warn about it."""
    where = f"/annotations/{escape(name)}"
    shown = value if len(value) <= _MAX_VALUE else f"{value[:_MAX_VALUE]}…"
    op = verbs.IgnoreAnnotation(where, setting=f"{name} = {shown}", why=why)
    return Part(ignored=[op], warnings=[f"{where}: ignored {name} = {shown}: {why}"])


_MAX_VALUE = 64  # characters of an annotation that a message repeats


class Slots:
    """Numbers for descriptors that did not exist before."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = FIRST_SLOT

    def new(self) -> int:
        """Return the next number."""
        self.count += 1
        return self.count - 1


class Plan:
    """Everything that create will do.

    `before`     the runtime's operations ahead of the clone, in order
    `clone_flags` namespaces that the first child is cloned into
    `bootstrap`  operations of an intermediate process, if one is needed (to join a pid or user namespace, or for time
                 offsets); ends in `clone_init`
    `init`       operations of the container's first process; ends in `exec`
    `alongside`  the runtime's operations beside the child's work, done before the runtime answers it for the first time
    `at`         the runtime's operations by synchronisation point, before its answer
    `after`      the same after its answer, beside the child's work
    `poststart`  what `start` runs once the program runs; create keeps it in the record
    `poststop`   what `delete` runs once the container is gone; kept likewise
    `slots`      how many descriptors the plan numbers
    `filter`     the seccomp filter, which `write_filter` may still have to compile
    `ignored`    annotations that ask for something that does not happen; see `ignore`
    `no_cgroup`  why this host lets the runtime create no cgroup; "" if it does
    `warnings`   what the user should know; nothing depends on it
    """

    __slots__ = (
        "after", "alongside", "at", "before", "bootstrap", "clone_flags", "filter", "ignored", "init", "no_cgroup",
        "poststart", "poststop", "slots", "warnings",
    )  # fmt: skip

    def __init__(self) -> None:
        self.before: list[ParentOp] = []
        self.clone_flags = 0
        self.bootstrap: list[ChildOp] = []
        self.init: list[ChildOp] = []
        self.alongside: list[ParentOp] = []
        self.at: dict[int, list[ParentOp]] = {}
        self.after: dict[int, list[ParentOp]] = {}
        self.poststart: list[ParentOp] = []
        self.poststop: list[ParentOp] = []
        self.slots = FIRST_SLOT
        self.ignored: list[ParentOp] = []
        self.no_cgroup = ""
        self.warnings: list[str] = []
        self.filter: Filter | None = None

    def add(self, part: Part) -> None:
        """Add the runtime's operations of a part, and what it reports."""
        self.before += part.before
        self.alongside += part.alongside
        for point, ops in part.at.items():
            self.at.setdefault(point, []).extend(ops)
        for point, ops in part.after.items():
            self.after.setdefault(point, []).extend(ops)
        self.warnings += part.warnings
        self.ignored += part.ignored

    def child(self) -> "list[ChildOp]":
        """What the child runs, in order; a record's `op` is an index into this list."""
        return self.bootstrap + self.init

    def parent(self) -> "Iterator[ParentOp]":
        """Every operation of the runtime."""
        yield from self.before
        yield from self.alongside
        for point in sorted(self.at):
            yield from self.at[point]
            yield from self.after.get(point, ())
        yield from self.poststart
        yield from self.poststop


def encode(ops: "Iterable[ChildOp]") -> tuple[bytes, bytes, list[int | None]]:
    """(operations, string pool, vectors) for `_native.launch`.

    The pool starts with an empty string, so that offset 0 means "none". Binary strings are aligned to 8 bytes.
    """
    pool = bytearray(8)
    vectors: list[int | None] = []
    known: dict[str, int] = {"": 0}

    def put(text: str) -> int:
        offset = known.get(text)
        if offset is None:
            offset = known[text] = len(pool)
            pool.extend(text.encode("utf-8", "surrogateescape"))
            pool.append(0)
        return offset

    def put_blob(blob: bytes) -> int:
        if not blob:
            return 0
        pool.extend(bytes(-len(pool) % 8))
        offset = len(pool)
        pool.extend(blob)
        pool.append(0)
        return offset

    def put_options(options: "Sequence[str]") -> int:
        return put_blob("\0".join(options).encode("utf-8", "surrogateescape"))

    def put_vector(values: "Sequence[str]") -> int:
        start = len(vectors)
        vectors.extend([put(value) for value in values])
        vectors.append(None)
        return start

    def put_environment(values: "Sequence[str]") -> int:
        start = put_vector(values)
        vectors.append(None)
        return start

    places: dict[int, Callable[[Any], int]] = {
        TEXT: put, BLOB: put_blob, OPTIONS: put_options, NUMBER: signed, HALF: int, VECTOR: put_vector,
        ENVIRONMENT: put_environment,
    }  # fmt: skip
    encoded = bytearray()
    for op in ops:
        values = [op.code, op.flags if op.bits else 0]
        for name, kind in op.wire:
            values.append(places[kind](getattr(op, name)))
        encoded.extend(op.layout.pack(*values))
    return bytes(encoded), bytes(pool), vectors
