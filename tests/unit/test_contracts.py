"""What verbs promise to call: each promise can be read, and a process that calls anything else is found out."""

import ast
from pathlib import Path

import pytest

from pyoci.compiler import verbs
from tests.support.contracts import Step, difference, promises
from tests.support.tracing import Call

PRODUCT = Path(__file__).resolve().parents[2] / "pyoci"


def compare(calls: str, *patterns: str) -> str:
    """How these calls differ from the promises of operations called 0, 1, …"""
    steps = [Step(str(number), pattern) for number, pattern in enumerate(patterns)]
    return difference([Call(name, []) for name in calls.split()], steps)


@pytest.mark.parametrize("verb", [*verbs.CHILD, *verbs.PARENT], ids=lambda verb: verb.verb)
def test_verb_has_a_promise_that_can_be_read(verb: type) -> None:
    """Its docstring says what it calls, as a pattern."""
    assert difference([Call("no_such_call", [])], [Step("it", promises(verb))])


@pytest.mark.parametrize(
    ("calls", "patterns"),
    [
        ("a b", ["a b"]),
        ("a b", ["a", "b"]),
        ("", [""]),
        ("", ["a? b*"]),
        ("a a a", ["a+"]),
        ("a b a c", ["(a (b | c))+"]),
        ("a c", ["a? b*", "c"]),
        ("openat2", ["PATH"]),
        ("openat2 openat2 openat2 readlinkat mkdirat openat newfstatat close x", ["PATH", "x"]),
        ("fstat", ["newfstatat"]),
        ("newfstatat", ["fstat"]),
    ],
)
def test_calls_that_are_promised(calls: str, patterns: list[str]) -> None:
    """There is no difference."""
    assert "" == compare(calls, *patterns)


@pytest.mark.parametrize(
    ("calls", "patterns", "said"),
    [
        ("b", ["a"], "call 0, b(), is not promised; 0 promises a"),
        ("a c", ["a", "b? d"], "call 1, c(), after a call of 0, is not promised; 1 promises b or d"),
        ("a", ["a", "b"], "the calls end after a call of 0, too early; 1 promises b"),
        ("a b", ["a"], "call 1, b(), after a call of 0, is not promised; or the end"),
        ("a a", ["a?", "b"], "call 1, a(), after a call of 0, is not promised; 1 promises b"),
    ],
)
def test_calls_that_are_not_promised(calls: str, patterns: list[str], said: str) -> None:
    """The message names the call, and the operation that promises another one."""
    assert said == compare(calls, *patterns)


@pytest.mark.parametrize("pattern", ["(a", "a)", "a | | *", "*", "A", "a.b", "(.)*"])
def test_pattern_with_a_mistake(pattern: str) -> None:
    """It is rejected, not taken for one that promises nothing."""
    with pytest.raises((AssertionError, KeyError)):
        compare("a", pattern)


def test_product_does_not_use_python_ptrace() -> None:
    """Its license is the GPL: only tests may import it."""
    imported = set()
    for path in PRODUCT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])

    assert "pyoci" in imported
    assert "ptrace" not in imported
    assert [] == [str(path) for path in PRODUCT.rglob("*.p[yx][xi]") if "import ptrace" in path.read_text()]
