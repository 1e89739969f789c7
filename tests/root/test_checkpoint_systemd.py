"""Checkpoint and restore with the systemd driver: tests/vm runs this where systemd is the first process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root import test_systemd
from tests.root.test_systemd import Systemd, cgroup, scope, show, systemctl
from tests.support.restoring import COUNTER, CheckpointRuntime, assert_same, facts
from tests.support.runtime import Bundle, Host, wait_for

pytestmark = test_systemd.pytestmark


class SystemdCheckpoints(CheckpointRuntime, Systemd):
    """Containers in scopes, with a CRIU."""


@pytest.fixture
def checkpoints(
    pyoci: str, criu: Path, tmp_path: Path, bundle: Bundle, host_clean: Host
) -> Iterator[SystemdCheckpoints]:
    made = SystemdCheckpoints(pyoci, tmp_path, bundle, host_clean, criu)
    bundle.linux["cgroupsPath"] = f"system.slice:docker:{made.id}"
    yield made
    made.clean_up()
    left = ("list-units", "--all", "--plain", "--no-legend", f"*{host_clean.token}*")
    wait_for(lambda: "" == systemctl(*left), "units are left")


def test_a_restored_container_is_in_a_scope(checkpoints: SystemdCheckpoints, bundle: Bundle) -> None:
    """checkpoint ends the scope. restore starts it again with the properties of create, and all processes are in it."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    unit, before = show(scope(checkpoints)), facts(checkpoints)
    assert "active" == unit["ActiveState"]

    checkpoints.checkpoint()

    wait_for(lambda: {} == show(scope(checkpoints)), "the scope is left")
    checkpoints.restore()
    restored = show(scope(checkpoints))
    names = ("ActiveState", "Slice", "ControlGroup", "Delegate", "DefaultDependencies", "TasksMax", "Description")
    assert {name: unit[name] for name in names} == {name: restored[name] for name in names}
    assert f"/system.slice/{scope(checkpoints)}" in Path(f"/proc/{checkpoints.pid()}/cgroup").read_text()
    assert_same(before, facts(checkpoints))
    checkpoints.assert_counts()
    assert "0::/" in checkpoints.inside("cat /proc/self/cgroup").splitlines()
    assert ("running", scope(checkpoints)) == tuple(checkpoints.state()[name] for name in ("status", "systemd-scope"))
    for verb, status in (("pause", "paused"), ("resume", "running")):
        assert (0, "", "") == tuple(checkpoints(verb, checkpoints.id))
        assert status == checkpoints.state()["status"]


@test_systemd.needs("pids", "memory")
@pytest.mark.may_skip("needs controllers in cgroup v2, which the host may lack")
def test_limits_of_a_restored_scope(checkpoints: SystemdCheckpoints, bundle: Bundle) -> None:
    """The unit has the limits of config.json, and so has its cgroup."""
    bundle.linux["resources"] |= {"pids": {"limit": 77}, "memory": {"limit": 64 << 20}}
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()

    checkpoints.again()

    unit = show(scope(checkpoints))
    assert ("77", str(64 << 20)) == (unit["TasksMax"], unit["MemoryMax"])
    assert "77\n" == (cgroup(checkpoints) / "pids.max").read_text()
    checkpoints.assert_counts()


def test_a_restore_that_fails_leaves_no_scope(checkpoints: SystemdCheckpoints, bundle: Bundle) -> None:
    """Neither unit nor cgroup."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.checkpoint()
    for image in checkpoints.images().glob("core-1.img"):
        image.unlink()

    words = ("restore", "--detach", "--bundle", bundle.folder, "--image-path", checkpoints.images())
    checkpoints.fails(*words, checkpoints.id)

    wait_for(lambda: {} == show(scope(checkpoints)), "the scope is left")
    checkpoints.assert_gone()
