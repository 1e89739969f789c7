"""How long the parts of a test run take: a table below its results, and the slowest tests.

A part is a directory of tests, such as tests/unit. With $PYOCI_TIMES the figures go to that file instead, for the
program that runs several parts (tests/support/parts.py).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

SLOWEST = 10  # tests that the table names


def part_of(nodeid: str) -> str:
    """The part that a test belongs to: its directory below tests, or its file if it has none."""
    return "/".join(nodeid.partition("::")[0].split("/")[:2])


def by_part(tests: Mapping[str, float]) -> dict[str, float]:
    """The seconds of each part, in the order in which the parts came."""
    parts: dict[str, float] = {}
    for nodeid, seconds in tests.items():
        parts[part_of(nodeid)] = parts.get(part_of(nodeid), 0.0) + seconds
    return parts


def table(parts: Mapping[str, float], tests: Mapping[str, float]) -> list[str]:
    """The lines that show how long parts took, and which tests took longest."""
    slowest = sorted(tests, key=lambda nodeid: -tests[nodeid])[:SLOWEST]
    return [
        *(_line(seconds, name) for name, seconds in parts.items()),
        "",
        "the slowest tests",
        *(_line(tests[nodeid], nodeid) for nodeid in slowest),
    ]


def _line(seconds: float, name: str) -> str:
    return f"{seconds:9.1f} s  {name}"


class Times:
    """Sums up how long each test takes, with its fixtures."""

    def __init__(self) -> None:
        self.tests: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.tests[report.nodeid] = self.tests.get(report.nodeid, 0.0) + report.duration

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        if path := os.environ.get("PYOCI_TIMES"):
            Path(path).write_text(json.dumps(self.tests))
        elif self.tests:
            terminalreporter.section("how long it took")
            for line in table(by_part(self.tests), self.tests):
                terminalreporter.line(line)
