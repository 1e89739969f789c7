"""linux.timeOffsets: the clocks of a container's time namespace, its own or another's (TIME-01, A-40)."""

import os
import time
from pathlib import Path

import pytest

from tests.support.runtime import Bundle, Runtime

pytestmark = [pytest.mark.root, pytest.mark.may_skip("user-mode Linux has no time namespaces")]

SHOW = "cat /proc/self/timens_offsets; cat /proc/uptime"
OFFSETS = {"monotonic": {"secs": 100000, "nanosecs": 500}, "boottime": {"secs": -2, "nanosecs": 999999999}}
LINES = [["monotonic", "100000", "500"], ["boottime", "-2", "999999999"]]


@pytest.fixture(autouse=True)
def _time_namespaces() -> None:
    if not os.path.lexists("/proc/self/ns/time"):
        pytest.skip("this kernel has no time namespaces")


def clocks(out: str, before: float) -> tuple[list[list[str]], float]:
    """What SHOW printed after `before` on the host's clock: the offsets' lines, and how far the container's clock is
    off.
    """
    *lines, uptime = [line.split() for line in out.splitlines()]
    assert time.clock_gettime(time.CLOCK_BOOTTIME) - before < 20, "the host is too slow to tell"
    return lines, float(uptime[0]) - before


@pytest.mark.parametrize("user_namespace", [False, True])
def test_offsets(runtime: Runtime, bundle: Bundle, user_namespace: bool) -> None:
    """monotonic and boottime run ahead, or behind; nanoseconds too."""
    if user_namespace:
        bundle.in_user_namespace()
    bundle.namespace("time").linux["timeOffsets"] = OFFSETS
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    lines, off = clocks(runtime.shell(SHOW), before)
    assert lines == LINES
    assert -2 <= off < 19


def test_clocks_are_set_before_anything_runs_in_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel takes offsets only then; its first process has them, so do hooks in the container."""
    bundle.namespace("time").linux["timeOffsets"] = {"boottime": {"secs": 10**6}}
    bundle.hook("startContainer", "cat /proc/uptime > /hook").program("sleep", 100)
    runtime.create()
    runtime.start()
    assert float((bundle.rootfs / "hook").read_text().split()[0]) > 10**6
    result = runtime("exec", runtime.id, "/bin/cat", "/proc/uptime")
    assert (0, "") == (result.status, result.err)
    assert float(result.out.split()[0]) > 10**6


def test_no_offsets(runtime: Runtime, bundle: Bundle) -> None:
    """A new namespace whose clocks are the host's."""
    bundle.namespace("time")
    out = runtime.shell("readlink /proc/self/ns/time; cat /proc/self/timens_offsets")
    link, *lines = out.splitlines()
    assert link != os.readlink("/proc/self/ns/time")
    assert [["monotonic", "0", "0"], ["boottime", "0", "0"]] == [line.split() for line in lines]


def test_clocks_of_another_container(runtime: Runtime, bundle: Bundle) -> None:
    """A joined namespace comes with its clocks."""
    bundle.namespace("time").program("sleep", 100).linux["timeOffsets"] = OFFSETS
    other = f"{runtime.host.token}-other"
    runtime.create(id=other)
    namespace = f"/proc/{runtime.pid(other)}/ns/time"
    del bundle.linux["timeOffsets"]
    bundle.namespace("time", namespace)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    lines, off = clocks(runtime.shell(SHOW), before)
    assert lines == LINES
    assert -2 <= off < 19
    assert os.readlink(namespace) == runtime.shell("readlink /proc/self/ns/time").strip()


@pytest.mark.parametrize("path", ["", "/proc/self/ns/time"])
def test_offsets_that_nothing_can_have(runtime: Runtime, bundle: Bundle, path: str) -> None:
    """Without a namespace of the container's own there is no clock to set: an error, whatever other namespace it has
    (A-40).
    """
    if path:
        bundle.namespace("time", path)
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 1}}
    expected = "/linux/timeOffsets: time offsets need a new namespace of type time in /linux/namespaces"
    assert runtime.create_fails().endswith(expected)


def test_a_clock_that_would_run_before_boot(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel refuses it; the message names the clock, and nothing is left."""
    bundle.namespace("time").linux["timeOffsets"] = {"boottime": {"secs": -(10**9)}}
    expected = "/linux/timeOffsets/boottime: cannot set clock offsets: numerical result out of range"
    assert expected == runtime.create_fails()
    assert [["monotonic", "0", "0"], ["boottime", "0", "0"]] == [
        line.split() for line in Path("/proc/self/timens_offsets").read_text().splitlines()
    ]
