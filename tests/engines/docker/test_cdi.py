"""Devices of the Container Device Interface, by Docker itself and by NVIDIA's container runtime in its cdi mode."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.devices import NVIDIA, SHOW_SENSOR, assert_sensor
from tests.support.docker import Docker, separate


def test_device(docker: Docker, sensor: str) -> None:
    """run --device of a CDI device: its node, its variable, the mount of all devices of its kind."""
    assert_sensor(docker("run", "--rm", "--device", sensor, "busybox", "sh", "-c", SHOW_SENSOR))


def test_unknown_device(docker: Docker, sensor: str) -> None:
    """run --device of a CDI device that no file has."""
    unknown = sensor.replace("=", "=un")

    assert unknown in docker("run", "--rm", "--device", unknown, "busybox", "true", status=125)


class WithNvidia(Docker):
    """A dockerd with the configuration of contrib/nvidia."""

    def _configuration(self) -> Path:
        return NVIDIA / "daemon.json"


@pytest.fixture
def nvidia(daemon: Docker, sensor: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[WithNvidia]:
    """A separate dockerd, whose runtime `nvidia` calls pyoci."""
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(NVIDIA / "config.toml"))
    with separate(WithNvidia, "nvidia", "runc") as docker:
        yield docker


@pytest.mark.compares
@pytest.mark.program("nvidia-container-runtime")
def test_nvidia_container_runtime(nvidia: WithNvidia, sensor: str) -> None:
    """NVIDIA's runtime in its cdi mode calls pyoci: it adds the devices of NVIDIA_VISIBLE_DEVICES to config.json."""
    wanted = ["--runtime", "nvidia", "--env", f"NVIDIA_VISIBLE_DEVICES={sensor}", "busybox"]
    assert_sensor(nvidia("run", "--rm", *wanted, "sh", "-c", SHOW_SENSOR))

    nvidia("run", "-d", "--name", "box", *wanted, "sleep", "99")

    assert "/dev/sensor0" == nvidia("exec", "box", "ls", "/dev/sensor0")
    listed = ["pyoci", "--root", str(nvidia.states), "list", "--quiet"]
    assert nvidia.inspect("box")["Id"] == subprocess.check_output(listed, text=True, timeout=60).strip()
    nvidia("stop", "--time", "0", "box")
    nvidia("rm", "box")
    assert "" == subprocess.check_output(listed, text=True, timeout=60)


@pytest.mark.compares
@pytest.mark.program("nvidia-container-runtime")
def test_nvidia_container_runtime_without_devices(nvidia: WithNvidia) -> None:
    """NVIDIA's runtime in its cdi mode leaves other containers as they are."""
    assert "none" == nvidia("run", "--rm", "--runtime", "nvidia", "busybox", "sh", "-c", "ls /dev/sensor* || echo none")


@pytest.mark.compares
@pytest.mark.program("nvidia-container-runtime")
def test_nvidia_container_runtime_with_an_unknown_device(nvidia: WithNvidia, sensor: str) -> None:
    """NVIDIA's runtime in its cdi mode reports a device that no file has, and creates no container."""
    unknown = sensor.replace("=", "=un")
    options = ["--rm", "--runtime", "nvidia", "--env", f"NVIDIA_VISIBLE_DEVICES={unknown}"]

    assert unknown in nvidia("run", *options, "busybox", "true", status=125)
