"""Plans: the operations of a container in order, each with the pointer into config.json that it comes from.

An operation is an instance of a verb (`pyoci.compiler.verbs`), whose class states its contract. A plan is flat: it has
no conditions, no loops and no variables. The compiler decides what depends on the config. What depends on the root
filesystem is part of a verb's contract.

`pyoci.compiler.block` writes the child's operations into blocks, which native code runs after the clone. The plan keeps
the runtime's operations by the moment when they happen: before the clone, before the last block, beside the child's
work, or at a sync point. The child's operations travel in one block or in two. The first one has what the child does
while the runtime opens what the second one needs.
"""

from pyoci.compiler import verbs
from pyoci.compiler.verbs.numbers import FIRST_SLOT
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pyoci.compiler.seccomp import Filter
    from pyoci.compiler.verbs import ChildOp, ParentOp


class Part:
    """The operations and warnings that one part of a config adds to a plan.

    The compiler decides where the operations of `child` go. `Plan.add` adds the other fields to the plan's own.
    """

    __slots__ = ("after", "alongside", "at", "before", "child", "ignored", "opening", "warnings")

    def __init__(
        self,
        child: "Iterable[ChildOp]" = (),
        *,
        before: "Iterable[ParentOp]" = (),
        opening: "Iterable[ParentOp]" = (),
        alongside: "Iterable[ParentOp]" = (),
        at: "Mapping[int, Sequence[ParentOp]] | None" = None,
        after: "Mapping[int, Sequence[ParentOp]] | None" = None,
        warnings: "Iterable[str]" = (),
        ignored: "Iterable[ParentOp]" = (),
    ) -> None:
        self.child = list(child)
        self.before = list(before)
        self.opening = list(opening)
        self.alongside = list(alongside)
        self.at = at or {}
        self.after = after or {}
        self.warnings = list(warnings)
        self.ignored = list(ignored)


class Start:
    """The steps by which the process becomes the program.

    `part`     the child becomes the container's user; the runtime prepares the process once it is ready
    `clone`    the child clones the program's process, if other programs can see that one as soon as it exists
    `program`  the program's process sets itself up and executes the program
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
    """Hands out numbers for descriptors that the plan's operations open."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = FIRST_SLOT

    def new(self) -> int:
        """Return the next number."""
        self.count += 1
        return self.count - 1


class Plan:
    """The operations of create or exec, in order.

    `before`       the runtime's operations before the clone
    `clone_flags`  the namespaces of the first child
    `bootstrap`    operations of an intermediate process, if the plan needs one (to join a pid or user namespace, or for
                   time offsets); the last one is `clone_init`
    `init`         operations of the container's first process; the last one is `exec`
    `opening`      the runtime's operations after the clone, which open what the child's last block needs
    `alongside`    the runtime's operations once the child has its last block, before the first answer to the child
    `at`           the runtime's operations at each sync point, before its answer
    `after`        the runtime's operations after its answer at each sync point, beside the child's work
    `poststart`    hooks that `start` runs once the program runs; create keeps them in the record
    `poststop`     hooks that `delete` runs once the container is gone; create keeps them in the record
    `guards_memory`  whether to keep the first child's memory from the container's user namespace
    `slots`        the number of descriptors that the plan numbers
    `filter`       the seccomp filter, which `write_filter` may still have to compile
    `ignored`      annotations that have no effect; see `ignore`
    `no_cgroup`    why the runtime can't create a cgroup on this host; "" if it can
    `becomes_criu`  whether the child becomes CRIU, with whose notifications the points of `at` come
    `warnings`     messages for the user
    """

    __slots__ = (
        "after", "alongside", "at", "becomes_criu", "before", "bootstrap", "clone_flags", "filter", "guards_memory",
        "ignored", "init", "no_cgroup", "opening", "poststart", "poststop", "slots", "warnings",
    )  # fmt: skip

    def __init__(self) -> None:
        self.before: list[ParentOp] = []
        self.clone_flags = 0
        self.bootstrap: list[ChildOp] = []
        self.init: list[ChildOp] = []
        self.opening: list[ParentOp] = []
        self.alongside: list[ParentOp] = []
        self.at: dict[int, list[ParentOp]] = {}
        self.after: dict[int, list[ParentOp]] = {}
        self.poststart: list[ParentOp] = []
        self.poststop: list[ParentOp] = []
        self.guards_memory = False
        self.becomes_criu = False
        self.slots = FIRST_SLOT
        self.ignored: list[ParentOp] = []
        self.no_cgroup = ""
        self.warnings: list[str] = []
        self.filter: Filter | None = None

    def add(self, part: Part) -> None:
        """Add everything of a part but its operations of the child."""
        self.before += part.before
        self.opening += part.opening
        self.alongside += part.alongside
        for point, ops in part.at.items():
            self.at.setdefault(point, []).extend(ops)
        for point, ops in part.after.items():
            self.after.setdefault(point, []).extend(ops)
        self.warnings += part.warnings
        self.ignored += part.ignored

    def child(self) -> "list[ChildOp]":
        """Return the child's operations in order. Its failure reports name an operation by its index in this list."""
        return self.bootstrap + self.init

    def blocks(self) -> "list[tuple[int, list[ChildOp]]]":
        """Return the child's operations block by block, each with the number of its first operation.

        A block ends where the child receives the next one.
        """
        ops = self.child()
        ends = [number for number, op in enumerate(ops, 1) if type(op) is verbs.ReceivePlan]
        return [(first, ops[first:end]) for first, end in zip([0, *ends], [*ends, len(ops)], strict=True)]

    def parent(self) -> "Iterator[ParentOp]":
        """Yield every operation of the runtime."""
        yield from self.before
        yield from self.opening
        yield from self.alongside
        for point in sorted(self.at):
            yield from self.at[point]
            yield from self.after.get(point, ())
        yield from self.poststart
        yield from self.poststop
