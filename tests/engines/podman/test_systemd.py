"""Features of the systemd driver: units, and a Podman that is a unit itself."""

import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import until
from tests.support.podman import ETC, Podman

pytestmark = pytest.mark.driver("systemd")


def test_unit(either: Podman) -> None:
    """run: the container is a scope, a user's one of the user's own systemd."""
    either("run", "-d", "--name", "box", "busybox", "sleep", "99")
    box = either.inspect("box")

    scope = f"libpod-{box['Id']}.scope"
    above = "user.slice/user-1000.slice/user@1000.service/user.slice" if either.user else "machine.slice"
    path = f"/{above}/{scope}"
    cgroup = Path(f"/proc/{box['State']['Pid']}/cgroup").read_text()
    assert path in (cgroup.rpartition("0::")[2].strip(), cgroup.rpartition("0::")[2].strip().rpartition("/")[0])
    assert "active" == either.systemctl("is-active", scope)


def test_quadlet(podman: Podman) -> None:
    """run --cgroups=split --sdnotify=conmon, as a service: all of it is in the cgroup of the service, and ends
    with it.
    """
    options = ["--name", "box", "--cgroups=split", "--cgroupns=host", "--sdnotify=conmon", "--replace", "--detach"]
    settings = ["--property=Delegate=yes", "--property=NotifyAccess=all", "--property=KillMode=mixed"]
    settings += [f"--property={name}=-/usr/bin/podman rm --force --ignore box" for name in ("ExecStop", "ExecStopPost")]
    variables = [f"--setenv={name}={value}" for name, value in podman.environment.items()]
    start = ["systemd-run", "--quiet", "--unit=shop.service", "--service-type=notify", *settings, *variables]
    script = "trap 'exit 0' TERM; while :; do sleep .1; done"
    subprocess.check_call([*start, "podman", "run", *options, "busybox", "sh", "-c", script])

    path = podman("exec", "box", "cat", "/proc/self/cgroup").rpartition("0::")[2]
    assert path.startswith("/system.slice/shop.service/libpod-payload-")
    podman("pause", "box")
    assert "paused" == podman.state("box")
    podman("unpause", "box")

    subprocess.check_call(["systemctl", "stop", "shop.service"])
    assert 1 == podman.run("container", "exists", "box").returncode


@pytest.fixture
def configuration(podman: Podman):
    """Storage settings of the environment in a file, for timers, which don't get the environment."""
    path = ETC / "storage.conf"
    path.write_text(Path(podman.environment["CONTAINERS_STORAGE_CONF"]).read_text())
    yield
    path.unlink()


def test_health_timer(podman: Podman, configuration) -> None:
    """run --health-interval: a timer of systemd's looks after it, and goes with it."""
    options = ["--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1"]
    podman("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", "touch /tmp/well; exec sleep 99")

    def health():
        return podman.inspect("box")["State"]["Health"]["Status"]

    until(lambda: health() == "healthy", "it is healthy")
    podman("exec", "box", "rm", "/tmp/well")
    until(lambda: health() == "unhealthy", "it is unhealthy")
