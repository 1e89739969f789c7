"""Features of the systemd driver."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker import Docker

pytestmark = pytest.mark.driver("systemd")


def systemctl(*arguments: Any):
    """What systemd says."""
    return subprocess.check_output(["systemctl", *arguments], text=True).strip()


def test_unit(docker: Docker) -> None:
    """run: systemd is the default driver, and the container a scope, which survives a reload unchanged."""
    assert "systemd" == docker("info", "--format", "{{.CgroupDriver}}")
    docker("run", "-d", "--name", "box", "busybox", "sleep", "99")
    box = docker.inspect("box")

    scope = f"docker-{box['Id']}.scope"
    show = "show", "--property=ActiveState,ControlGroup,Delegate", "--value", scope
    before = systemctl(*show)
    systemctl("daemon-reload")

    assert {"active", f"/system.slice/{scope}", "yes"} == set(before.split())
    assert before == systemctl(*show)
    assert f"0::/system.slice/{scope}\n" in Path(f"/proc/{box['State']['Pid']}/cgroup").read_text()
    assert "hi" == docker("exec", "box", "echo", "hi")


def test_unit_is_stopped(docker: Docker) -> None:
    """systemctl stop: the container ends, and can be started again."""
    docker.run_with_trap("box", "exit 7", "TERM")
    scope = f"docker-{docker.inspect('box')['Id']}.scope"

    systemctl("stop", scope)

    docker.await_state("box", "exited")
    assert 7 == docker.inspect("box")["State"]["ExitCode"]
    docker("start", "box")
    assert "active" == systemctl("is-active", scope)
