"""docs/engines.md names every configuration file and every difference; docs/errors.md has what the tests expect."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINES, ERRORS = ROOT / "docs/engines.md", ROOT / "docs/errors.md"
CONFIGURATION = (".toml", ".json", ".conf", ".yaml")
CASES = ROOT / "tests/engines/docker/test_errors.py"


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    """The calls of a function, or of an attribute of that name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and name in (getattr(node.func, "attr", ""), getattr(node.func, "id", "")):
            yield node


def constants(path: Path) -> dict[str, Any]:
    """The constants of a module whose values are literals."""
    return {
        node.targets[0].id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def test_every_configuration_file_is_linked() -> None:
    """Each configuration file of contrib/."""
    files = [path for path in (ROOT / "contrib").rglob("*.*") if path.suffix in CONFIGURATION]

    assert len(files) > 5
    assert [] == [path.name for path in files if f"(../{path.relative_to(ROOT)})" not in ENGINES.read_text()]


def test_every_difference_is_listed() -> None:
    """The sentences that tests are marked with by `differs`, and no others."""
    marked = {
        argument.value
        for path in (ROOT / "tests/engines").rglob("test_*.py")
        for call in calls(path, "differs")
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    marked |= {value for value in constants(CASES).values() if str(value).endswith(".")}
    _, _, table = ENGINES.read_text().partition("| engine | difference |\n|-|-|\n")

    assert len(marked) > 5
    assert marked == {line.split(" | ", 1)[1].removesuffix(" |") for line in table.splitlines() if line}


def cases(test: str) -> Iterator[Any]:
    """Title, status and pattern of each case of a test in test_errors.py."""
    functions = [node for node in ast.parse(CASES.read_text()).body if isinstance(node, ast.FunctionDef)]
    function = next(node for node in functions if node.name == f"test_{test}")
    for decorator in function.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "case":
                yield [argument.value for argument in node.args[:3]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_error_page_has_each_case(verb: str) -> None:
    """With the status and a message that the test accepts, or among those that Docker itself rejects."""
    sections = dict(part.split("\n", 1) for part in ERRORS.read_text().split("\n## ")[1:])
    rejected = sections.pop("Rejected by Docker")
    expected = list(cases(verb))

    assert len(expected) > 5
    for title, status, pattern in expected:
        if f"- {verb}: {title} (status {status})\n" in rejected:
            continue
        section = sections.pop(f"{verb}: {title}")
        assert section.startswith(f"\nStatus {status}")
        ours, _runcs = re.findall(r"^(?:pyoci|runc): +(.*)$", section, re.MULTILINE)
        assert re.search(pattern, ours)
    assert [] == [title for title in sections if title.startswith(verb)]
