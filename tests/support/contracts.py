"""Compare what a process called with what the operations of its plan promise.

A promise is a pattern over the names of system calls: names in their order, `( | )` for one of several, and `?`, `*`
and `+` behind a name or a group as in regular expressions. A name in capitals stands for a pattern that many verbs
share. `fstat` and `newfstatat` are one call: the C library chooses.
"""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.support.tracing import Call

_TOKEN = re.compile(r"\s*([a-z0-9_]+|[()|?*+])")
_NAMED = re.compile(r"\b[A-Z]+\b")
SHARED = {
    # resolve a path in the root filesystem; create, or follow, each component that is missing or a symlink into nowhere
    "PATH": """openat2 (openat2 (openat2 (close
        | readlinkat? (mkdirat | openat close) openat newfstatat close
        | readlinkat close openat2))*)?""",
    # resolve a mount point, and look that it is neither the root nor a file of procfs
    "TARGET": "openat2? PATH (close openat2)? newfstatat newfstatat fstatfs",
    # find what to mask or to make read-only, from the root or from a mount of the container's own
    "PROTECTED": "openat2 (fstatfs openat2 close)?",
    # make a filesystem that is attached nowhere
    "FILESYSTEM": "fsopen fsconfig+ fsmount close",
    # copy what a directory holds
    "COPY": """(openat | getdents64 | newfstatat | readlinkat | symlinkat | fchownat | mkdirat | read | write | fchown | fchmod
        | mknodat | close)*""",
}
ALIASES = {"fstat": "newfstatat", "dup3": "dup2", "ppoll": "poll"}


@dataclass(frozen=True)
class Step:
    """One operation: what a report calls it, and the calls that it promises."""

    label: str
    pattern: str


class _State:
    """A state of the automaton: the call that leads to `then`, or, without a name, states that are reached at once."""

    __slots__ = ("also", "name", "step", "then")

    def __init__(self, step: Step | None, name: str = "") -> None:
        self.step = step
        self.name = name
        self.then: _State | None = None
        self.also: list[_State] = []


class _Parser:
    """Adds the states of one pattern to an automaton."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._tokens = []
        at, text = 0, _expanded(step.pattern).strip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            assert token, f"{step.label}: `{text}` is not a pattern from column {at + 1} on"
            self._tokens.append(token[1])
            at = token.end()
        self._at = 0

    def parse(self, start: _State) -> _State:
        """The state behind the pattern."""
        end = self._alternatives(start)
        assert self._at == len(self._tokens), f"{self._step.label}: `{self._step.pattern}` has a `)` too many"
        return end

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _alternatives(self, start: _State) -> _State:
        end = _State(self._step)
        while True:
            begin = _State(self._step)
            start.also.append(begin)
            self._sequence(begin).also.append(end)
            if self._next() != "|":
                return end
            self._at += 1

    def _sequence(self, state: _State) -> _State:
        while self._next() not in ("", "|", ")"):
            state = self._repeated(state)
        return state

    def _repeated(self, start: _State) -> _State:
        begin = _State(self._step)
        start.also.append(begin)
        end = self._single(begin)
        mark = self._next()
        if mark and mark in "?*+":
            self._at += 1
            if mark in "*+":
                end.also.append(begin)
            after = _State(self._step)
            end.also.append(after)
            if mark in "?*":
                begin.also.append(after)
            return after
        return end

    def _single(self, state: _State) -> _State:
        token = self._next()
        self._at += 1
        if token == "(":
            end = self._alternatives(state)
            assert self._next() == ")", f"{self._step.label}: `{self._step.pattern}` lacks a `)`"
            self._at += 1
            return end
        assert token not in ("", *"|?*+)"), f"{self._step.label}: `{self._step.pattern}` has a `{token}` too many"
        leaf, end = _State(self._step, ALIASES.get(token, token)), _State(self._step)
        state.also.append(leaf)
        leaf.then = end
        return end


def _expanded(pattern: str) -> str:
    """A pattern without names in capitals."""
    while name := _NAMED.search(pattern):
        pattern = f"{pattern[: name.start()]}({SHARED[name[0]]}){pattern[name.end() :]}"
    return pattern


class Contract:
    """What operations promise together, in their order."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._begin = state = _State(None)
        for step in steps:
            state = _Parser(step).parse(state)
        self._final = state

    def difference(self, calls: Sequence[Call]) -> str:
        """How the calls differ from what is promised; "" if they are exactly that.

        The text names the first call that no operation promises at this place, and what is promised there instead.
        """
        live = _reachable([self._begin])
        last: Step | None = None
        for number, call in enumerate(calls):
            taken = _taken(live, call)
            if not taken:
                return f"call {number}, {call}, {_after(last)}is not promised; {_expected(live, self._final in live)}"
            last = taken[-1].step
            live = _followers(taken)
        if self._final in live:
            return ""
        return f"the calls end {_after(last)}too early; {_expected(live, end=False)}"

    def promised_before(self, calls: Sequence[Call]) -> list[set[str]]:
        """The names of the calls that are promised in place of each of these, and behind the last."""
        live = _reachable([self._begin])
        names = [{state.name for state in live}]
        for call in calls:
            live = _followers(_taken(live, call))
            names.append({state.name for state in live})
        return names


def difference(calls: Sequence[Call], steps: Iterable[Step]) -> str:
    """How the calls differ from what the steps promise; "" if they are exactly that."""
    return Contract(steps).difference(calls)


def _taken(live: Iterable[_State], call: Call) -> list[_State]:
    name = ALIASES.get(call.name, call.name)
    return [state for state in live if state.name == name]


def _followers(taken: list[_State]) -> dict[_State, None]:
    return _reachable([state.then for state in taken if state.then])


def _reachable(states: list[_State]) -> dict[_State, None]:
    found: dict[_State, None] = {}
    todo = states[::-1]
    while todo:
        state = todo.pop()
        if state not in found:
            found[state] = None
            todo += state.also[::-1]
    return found


def _after(step: Step | None) -> str:
    return f"after a call of {step.label}, " if step else ""


def _expected(live: Iterable[_State], end: bool) -> str:
    """What could have come next: the calls of each operation that could be at work."""
    expected: dict[str, list[str]] = {}
    for state in live:
        if state.name and state.step:
            names = expected.setdefault(state.step.label, [])
            if state.name not in names:
                names.append(state.name)
    promises = [f"{label} promises {' or '.join(names)}" for label, names in expected.items()]
    return "; ".join([*promises, *(["or the end"] if end else [])])


def promises(verb: type) -> str:
    """The pattern of a verb's class: what follows `Calls:` in its docstring, up to the next paragraph."""
    text = inspect.getdoc(verb) or ""
    _, found, rest = text.partition("Calls:")
    assert found, f"the contract of {verb.__name__} does not say what it calls"
    return " ".join(rest.partition("\n\n")[0].split())
