"""Fixtures and options of all engines' tests: where they run, what must be left behind, how results are reported.

Outside an engine's machine, pytest collects only test_engines.py; inside, only the directory of the engine. Each test
is a row of build/engines/results.md (`tools/engines`), and its docstring names the feature.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import devices
from tests.support.engines import ENGINES, RESULTS, SYSTEMD
from tests.support.leaks import Leaks

INSIDE = os.environ.get("PYOCI_ENGINE")
collect_ignore = ["test_engines.py"] if INSIDE else list(ENGINES)
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The runtime that the engine uses."""
    parser.addoption("--runtime", default="pyoci", choices=["pyoci", "runc"], help="the engine's default runtime")
    parser.addoption("--endurance", action="store_true", help="with all repetitions")
    parser.addoption("--needs", action="store_true", help="only what needs a controller")


def pytest_configure(config: pytest.Config) -> None:
    """Markers, and the report."""
    config.addinivalue_line("markers", "needs(controller…): the cgroup v2 controllers that the feature needs")
    config.addinivalue_line("markers", "differs(sentence): how runc differs, for docs/engines.md")
    config.addinivalue_line(
        "markers", "cgroup: about the container's cgroup, so ./test runs it with the systemd driver, too"
    )
    config.addinivalue_line("markers", "driver(name): with this cgroup driver only")
    config.addinivalue_line("markers", "section(name): the section of its row in the results, if it is not its engine")
    config.addinivalue_line("markers", "compares: with pyoci only, since it uses both runtimes")
    config.addinivalue_line("markers", "program(name): only where tools/go-install has built this program")
    config.addinivalue_line("markers", "apparmor: only on a kernel with AppArmor")
    if INSIDE:
        config.pluginmanager.register(Report(config), "engine-report")


def is_installed(marker: pytest.Mark) -> bool:
    """Whether this Debian has a program that Debian does not package."""
    return shutil.which(marker.args[0]) is not None


def has_apparmor() -> bool:
    """Whether the kernel has AppArmor."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return enabled.exists() and enabled.read_text() == "Y\n"


@pytest.hookimpl(tryfirst=True)  # before may_skip is looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need what this machine lacks."""
    if INSIDE and config.getoption("--needs"):
        items[:] = [item for item in items if any(item.iter_markers("needs"))]
    driver = "systemd" if SYSTEMD else "cgroupfs"
    items[:] = [item for item in items if all(marker.args[0] == driver for marker in item.iter_markers("driver"))]
    items[:] = [item for item in items if all(map(is_installed, item.iter_markers("program")))]
    if not has_apparmor():
        items[:] = [item for item in items if not any(item.iter_markers("apparmor"))]
    if config.getoption("--runtime") == "runc":
        items[:] = [item for item in items if not any(item.iter_markers("compares"))]
    present = CONTROLLERS.read_text().split() if CONTROLLERS.exists() else []
    for item in items:
        for marker in item.iter_markers("needs"):
            missing = [controller for controller in marker.args if controller not in present]
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"the controller {' and '.join(missing)} in cgroup v2"))
                item.add_marker(pytest.mark.may_skip("tested where the controller is"))


class Report:
    """Collects the rows and prints them as the last line of the run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.rows: dict[str, dict[str, Any]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            parameters = item.callspec.id if hasattr(item, "callspec") else ""
            title = (item.function.__doc__ or item.name).splitlines()[0].rstrip(".")
            self.rows[item.nodeid] = {
                "engine": INSIDE,
                "machine": os.environ.get("PYOCI_ENGINE_MACHINE", "host"),
                "kernel": ".".join(platform.release().split(".")[:2]),
                "runtime": self.config.getoption("--runtime"),
                "feature": f"{title} ({parameters})" if parameters else title,
                "result": "works",
                "note": " ".join(marker.args[0] for marker in item.iter_markers("differs")),
            }
            if section := item.get_closest_marker("section"):
                self.rows[item.nodeid]["section"] = section.args[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self.rows[report.nodeid]
        row.update(report.user_properties)
        if report.failed:
            row["result"] = "fails"
        elif report.skipped:
            row["result"], row["note"] = "needs", report.longrepr[2].removeprefix("Skipped: ")

    def pytest_unconfigure(self) -> None:
        version = getattr(self.config, "engine_version", "")
        if SYSTEMD:
            show = ["systemctl", "show", "--property=Version", "--value"]  # of the one that runs, not of the program
            version += f" with systemd {subprocess.check_output(show, text=True).partition('.')[0]}"
        print(
            "\n" + RESULTS + json.dumps([{**row, "version": row.get("version", version)} for row in self.rows.values()])
        )


@pytest.fixture(scope="session")
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of the runtime that the engine uses."""
    return request.config.getoption("--runtime")


@pytest.fixture(scope="session")
def endurance(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for all repetitions."""
    return request.config.getoption("--endurance")


@pytest.fixture
def leaks() -> Iterator[Leaks]:
    """After the test, the machine is what it was: processes, mounts, cgroups, states, descriptors of daemons."""
    leaks = Leaks()
    yield leaks
    leaks.assert_none()


@pytest.fixture
def sensor() -> Iterator[str]:
    """The name of a device of contrib/cdi, which engines find meanwhile."""
    directory = Path(devices.DIRECTORY)
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    path = directory / devices.EXAMPLE.name
    shutil.copyfile(devices.EXAMPLE, path)
    path.chmod(0o644)
    yield devices.SENSOR
    path.unlink()
