"""Devices of the Container Device Interface."""

from tests.support.devices import SHOW_SENSOR, assert_sensor
from tests.support.podman import Podman


def test_device(podman: Podman, sensor: str) -> None:
    """run --device of a CDI device: its node, its variable, the mount of all devices of its kind."""
    assert_sensor(podman("run", "--rm", "--device", sensor, "busybox", "sh", "-c", SHOW_SENSOR))


def test_renamed_device_of_a_user(rootless: Podman, sensor: str) -> None:
    """run --device of a CDI device, by a user: the host's node is bound, so it needs the same path there."""
    said = rootless("run", "--rm", "--device", sensor, "busybox", "true", status=127)

    assert "/dev/sensor0" in said
    assert "no such file or directory" in said


def test_unknown_device(either: Podman, sensor: str) -> None:
    """run --device of a CDI device that no file has."""
    unknown = sensor.replace("=", "=un")

    assert unknown in either("run", "--rm", "--device", unknown, "busybox", "true", status=126)
