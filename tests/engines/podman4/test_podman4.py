"""Podman 4.3, which many hosts still have: where it differs from the newest in what it asks of a runtime."""

import pytest

from tests.support.daemon import until
from tests.support.podman import Podman

FORK = "cat /sys/fs/cgroup/pids.max; (echo child); echo $(echo grandchild)"


@pytest.mark.cgroup
def test_run(podman: Podman) -> None:
    """run: output on both streams, the exit status."""
    done = podman.run("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")

    assert (3, "out\n", "err\n") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.needs("pids")
@pytest.mark.parametrize("limit", ["-1", "0"])
def test_no_pids_limit(podman: Podman, limit: str) -> None:
    """run --pids-limit: unlimited, so the container can fork."""
    out = podman("run", "--rm", "--pids-limit", limit, "busybox", "sh", "-c", FORK)

    assert ["max", "child", "grandchild"] == out.split()


@pytest.mark.needs("pids")
def test_pids_limit(podman: Podman) -> None:
    """run --pids-limit and the default of the configuration."""
    out = podman("run", "--rm", "--pids-limit", "50", "busybox", "sh", "-c", FORK)
    assert ["50", "child", "grandchild"] == out.split()

    assert ["max", "child", "grandchild"] == podman("run", "--rm", "busybox", "sh", "-c", FORK).split()


@pytest.mark.cgroup
def test_life(podman: Podman) -> None:
    """exec, stop, start, pause and kill, for which it asks the runtime for the state."""
    podman.run_with_trap("box", "exit 7", "TERM")
    assert "uid=1000(joan)" in podman("exec", "--user", "joan", "box", "id")
    podman("stop", "box")
    assert 7 == podman.inspect("box")["State"]["ExitCode"]

    podman("start", "box")
    podman("pause", "box")
    assert "paused" == podman.state("box")
    podman("unpause", "box")
    podman("kill", "box")
    assert "137" == podman("wait", "box")


def test_pid_namespace_of_the_host(podman: Podman) -> None:
    """run --pid=host, with the default_sysctls of Debian's containers.conf."""
    script = "cat /proc/sys/net/ipv4/ping_group_range; echo $$"

    low, high, pid = podman("run", "--rm", "--pid=host", "busybox", "sh", "-c", script).split()
    assert (["0", "0"], True) == ([low, high], int(pid) > 1)


def test_volume_of_an_image(podman: Podman) -> None:
    """run --mount type=image, with a lowerdir longer than 256 bytes."""
    options = ["--mount", "type=image,source=localhost/busybox,destination=/mnt"]

    assert "root:x:0:0" in podman("run", "--rm", *options, "busybox", "head", "-n1", "/mnt/etc/passwd")


def test_network(podman: Podman) -> None:
    """run --network: a bridge, on which a container finds another by its name."""
    podman("network", "create", "net")
    try:
        serve = ["busybox", "httpd", "-f", "-h", "/etc"]
        podman("run", "-d", "--name", "server", "--network", "net", *serve)
        fetch = ["run", "--rm", "--network", "net", "busybox", "wget", "-qO-", "server/passwd"]
        until(lambda: "root:x:0:0" in podman.run(*fetch).stdout, "it answers")
    finally:
        podman("rm", "--all", "--force", "--time", "0")
        podman("network", "rm", "net")
