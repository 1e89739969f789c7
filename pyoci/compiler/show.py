"""Print a plan: one line for each operation, numbered and aligned, with the JSON pointer that it comes from.

Errors name the child's operations by these numbers. The runtime's operations appear where they happen: before the
clone, beside the child, or below the sync point at which the child waits for them. A title says which block the child
has at that moment.
"""

from pyoci.compiler import namespaces, verbs
from pyoci.compiler.block import encode
from pyoci.compiler.decode import decode
from pyoci.compiler.restore import NOTIFICATIONS
from pyoci.compiler.verbs.numbers import HELD, INIT, LISTENER, POINTS
from pyoci.config.jsonio import dumps
from pyoci.criu import rpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyoci.compiler.operations import Plan
    from pyoci.compiler.verbs import ChildOp, Op, ParentOp

    Row = tuple[str, str, str, str]  # number, verb, object, where

_MAX_LINE = 64


def text(plan: "Plan") -> str:
    """Return the plan as text for a reader. Text of the config never begins a line."""
    rows = [row if isinstance(row, str) else _on_one_line(row) for row in rows_of(plan)]
    widths = [max(len(row[column]) for row in rows if not isinstance(row, str)) for column in range(3)]
    lines: list[str] = []
    for row in rows:
        if isinstance(row, str):
            lines.append(f"\n{row}\n" if lines else f"{row}\n")
            continue
        number, verb, what, where = row
        for part in _wrapped(what):
            line = f"{number:>{widths[0]}}  {verb:<{widths[1]}}  {part:<{min(widths[2], _MAX_LINE)}}  {where}"
            lines.append(line.rstrip() + "\n")
            number = verb = where = ""
    return "".join(lines)


def _on_one_line(row: "Row") -> "Row":
    number, verb, what, where = row
    return number, verb, what.replace("\n", "\\n"), where.replace("\n", "\\n")


def _wrapped(what: str) -> "list[str]":
    """Break text into lines of at most _MAX_LINE characters, after a comma or a space. A longer word stays whole."""
    lines = [""]
    word = ""
    for character in what:
        word += character
        if character in ", ":
            _put(lines, word)
            word = ""
    _put(lines, word)
    return [line.rstrip() for line in lines]


def _put(lines: "list[str]", word: str) -> None:
    if lines[-1] and len(lines[-1]) + len(word.rstrip()) > _MAX_LINE:
        if word.strip():
            lines.append(word)
    else:
        lines[-1] += word


def as_json(plan: "Plan") -> str:
    """Return the plan as JSON for a program, with each operation as an object.

    The operations of the child have their fields, read back from the blocks that the child gets.
    """
    blocks = [decode(encode(ops, plan.slots, first=first)) for first, ops in plan.blocks()]
    fields = [read.sent_fields() for block in blocks for read in block.ops]
    bootstrap = len(plan.bootstrap)
    document = {
        "ignored": [_object(op) for op in plan.ignored],
        "cloneFlags": _clone_flags(plan.clone_flags),
        "before": [_object(op) for op in plan.before],
        "opening": [_object(op) for op in plan.opening],
        "meanwhile": [_object(op) for op in plan.alongside],
        "bootstrap": _child_objects(plan.bootstrap, fields[:bootstrap]),
        "init": _child_objects(plan.init, fields[bootstrap:]),
        "at": {POINTS[point]: [_object(op) for op in ops] for point, ops in sorted(plan.at.items())},
        "after": {POINTS[point]: [_object(op) for op in ops] for point, ops in sorted(plan.after.items())},
        "poststart": [_object(op) for op in plan.poststart],
        "poststop": [_object(op) for op in plan.poststop],
        "blocks": [
            {
                "first": block.first,
                "size": block.size,
                "operations": len(block.ops),
                "vectors": len(block.vectors),
                "strings": len(block.pool),
                "slots": block.slots,
            }
            for block in blocks
        ],
    }
    return dumps(document, indent=2) + "\n"


def rows_of(plan: "Plan") -> "Iterator[Row | str]":
    """Yield a row for each operation of the plan, and a string for each title between them."""
    if plan.ignored:
        yield from _titled("annotations without effect", plan.ignored)
    yield from _titled("runtime: before the clone", plan.before)
    yield from _clone(plan)
    if plan.bootstrap:
        yield "bootstrap process"
    for index, child in enumerate(plan.bootstrap):
        yield from _child_rows(plan, child, index)
    yield "process that becomes CRIU" if plan.becomes_criu else "container's first process"
    for index, child in enumerate(plan.init, len(plan.bootstrap)):
        yield from _child_rows(plan, child, index)
    if plan.becomes_criu:
        for script, title in _NOTIFICATIONS.items():
            ops = [op for point in NOTIFICATIONS[script] for op in plan.at.get(point, ())]
            if ops:
                yield from _titled(title, ops)
    for title, ops in (
        ("runtime: start, when the program runs", plan.poststart),
        ("runtime: delete, when the container is gone", plan.poststop),
    ):
        if ops:
            yield from _titled(title, ops)


# When CRIU's notifications come.
_NOTIFICATIONS = {
    rpc.SETUP_NAMESPACES: "runtime: once the namespaces exist",
    rpc.ORPHAN_PTS_MASTER: "runtime: once the terminal exists",
    rpc.POST_RESTORE: "runtime: once all processes exist",
    rpc.PRE_RESUME: "runtime: once all processes are checked, and before any of them runs",
}


def _titled(title: str, ops: "Sequence[ParentOp]") -> "Iterator[Row | str]":
    yield title
    for op in ops:
        yield "", op.verb, phrase(op), op.where


def _clone(plan: "Plan") -> "Iterator[Row | str]":
    """Yield what the runtime does from the clone until the child reaches its first sync point."""
    flags = ", ".join(_clone_flags(plan.clone_flags)) or "no new namespaces"
    if HELD in plan.at:
        yield from _titled(f"runtime: clone ({flags}), and before the child does anything", plan.at[HELD])
        return
    in_cgroup = any(isinstance(op, verbs.MakeCgroup | verbs.OpenContainer) for op in plan.before)
    clone = f"runtime: clone ({flags}{', into the cgroup' if in_cgroup else ''})"
    if len(plan.blocks()) > 1:
        yield from _titled(f"{clone}, send the operations up to receive_plan, and meanwhile", plan.opening)
        yield from _titled("runtime: send the rest of the plan, and meanwhile", plan.alongside)
    elif plan.opening:
        yield from _titled(f"{clone}, and before the child gets its plan", plan.opening)
        yield from _titled("runtime: send the plan, and meanwhile", plan.alongside)
    else:
        yield from _titled(f"{clone}, and meanwhile", plan.alongside)


def _child_rows(plan: "Plan", op: "ChildOp", index: int) -> "Iterator[Row]":
    yield str(index), op.verb, phrase(op), op.where
    point = _point(op)
    if point is None:
        return
    for parent in plan.at.get(point, ()):
        yield "", f"  runtime: {parent.verb}", phrase(parent), parent.where
    for parent in plan.after.get(point, ()):
        yield "", f"  meanwhile: {parent.verb}", phrase(parent), parent.where


def _point(op: "ChildOp") -> "int | None":
    """Return the sync point that the child reaches in this operation, or None."""
    if isinstance(op, verbs.Sync | verbs.OpenConsole):
        return op.point
    if isinstance(op, verbs.CloneInit):
        return INIT
    return LISTENER if isinstance(op, verbs.LoadSeccomp) else None


def _object(op: "Op") -> "dict[str, object]":
    return {"verb": op.verb, "object": phrase(op), "where": op.where}


def _child_objects(ops: "list[ChildOp]", fields: "list[dict[str, object]]") -> "list[dict[str, object]]":
    return [
        {**_object(op), "fields": {name: _plain(value) for name, value in sent.items()}}
        for op, sent in zip(ops, fields, strict=True)
    ]


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def phrase(op: "Op") -> str:
    """Return the object that an operation acts on, with flags by their names."""
    return "".join(_ESCAPES.get(character, character) for character in op.shown())


# A control character of the config must not break a line or reach the terminal.
_ESCAPES = {chr(code): f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {"\n": "\\n", "\t": "\\t"}


def _clone_flags(flags: int) -> "list[str]":
    return [f"NEW{_NAMESPACE_FLAGS[kind]}" for kind, bit in namespaces.CLONE_FLAGS.items() if flags & bit]


_NAMESPACE_FLAGS = {
    "time": "TIME", "mount": "NS", "cgroup": "CGROUP", "uts": "UTS", "ipc": "IPC", "user": "USER", "pid": "PID",
    "network": "NET",
}  # fmt: skip
