"""What every test run has in common: the built executable, deadlines, times, and that no skip goes unseen."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import criu as criu_program
from tests.support import deadline
from tests.support.reach import reachable
from tests.support.times import Times

ROOT = Path(__file__).resolve().parent.parent

pytest_plugins = ["pyoci.testing.plugin"]


@pytest.fixture(scope="session")
def pyoci() -> Iterator[str]:
    """The path of the executable under test: $PYOCI, or the one that tools/build makes; where every user can
    reach it.
    """
    path = os.environ.get("PYOCI") or str(ROOT / "build" / "pyoci")
    assert os.access(path, os.X_OK), f"there is no {path}: run tools/build"
    with reachable(Path(path)) as executable:
        yield str(executable)


@pytest.fixture(scope="session")
def criu() -> Path:
    """The path of a criu that works on this kernel."""
    return criu_program.program()


class NoSilentSkips:
    """Where CI is set, a skipped test fails the run, unless `@pytest.mark.may_skip(reason)` allows it.

    CI's machine is made for the tests. A skipped test tests nothing, and would go unnoticed.
    """

    def __init__(self) -> None:
        self.allowed: set[str] = set()
        self.skipped: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for marker in item.iter_markers("may_skip"):
                if not marker.args or not str(marker.args[0]).strip():
                    raise pytest.UsageError(f"{item.nodeid}: may_skip needs a reason")
                self.allowed.add(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and report.nodeid not in self.allowed:
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:  # a whole module, before any of its tests could be marked
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(hookwrapper=True)  # which Debian 12's pytest has, too
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        if self.skipped and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        yield

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        if self.skipped:
            terminalreporter.section("skipped, but must run here", red=True)
            for nodeid in self.skipped:
                terminalreporter.line(nodeid)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that run at night, unless $NIGHTLY is set."""
    if not os.environ.get("NIGHTLY"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


def pytest_configure(config: pytest.Config) -> None:
    """Bound every test, take its time, and guard the run under CI."""
    config.pluginmanager.register(deadline, "deadline")
    if "PYOCI_ENGINE" not in os.environ:  # in an engine's machine: its rows are the last that it prints
        config.pluginmanager.register(Times(), "times")
    if os.environ.get("CI"):
        config.pluginmanager.register(NoSilentSkips(), "no-silent-skips")
