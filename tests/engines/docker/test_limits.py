"""Limits. They need their controllers; without, dockerd leaves them out, with a warning."""

import json

import pytest

from tests.support.daemon import until
from tests.support.docker import Docker


def cgroup(docker, name, file):
    """A file of a container's cgroup, as it sees it."""
    return docker("exec", name, "cat", f"/sys/fs/cgroup/{file}")


@pytest.mark.needs("memory")
def test_memory(docker: Docker) -> None:
    """run --memory, --memory-reservation, --memory-swap."""
    options = ["--memory", "64m", "--memory-reservation", "32m", "--memory-swap", "64m"]
    docker("run", "-d", "--name", "box", *options, "busybox", "sleep", "99")

    assert [str(64 << 20), str(32 << 20)] == [cgroup(docker, "box", f"memory.{name}") for name in ("max", "low")]


@pytest.mark.needs("memory")
def test_out_of_memory(docker: Docker) -> None:
    """run --memory: the kernel kills what exceeds the limit, and docker knows why."""
    limits, eat = ("--memory", "16m", "--memory-swap", "16m"), "x=x; while :; do x=$x$x; done"
    docker("run", "--name", "init", *limits, "busybox", "sh", "-c", eat, status=137)

    # The container goes on: with one that has ended, containerd may report the end before it has read the reason.
    docker("run", "-d", "--name", "box", *limits, "busybox", "sh", "-c", f"sh -c '{eat}'; sleep 99")
    until(lambda: docker.inspect("box")["State"]["OOMKilled"], "docker knows that a process was killed")


@pytest.mark.needs("cpu")
def test_cpus(docker: Docker) -> None:
    """run --cpus, --cpu-shares."""
    docker("run", "-d", "--name", "box", "--cpus", "0.5", "--cpu-shares", "512", "busybox", "sleep", "99")

    assert "50000 100000" == cgroup(docker, "box", "cpu.max")
    assert cgroup(docker, "box", "cpu.weight") in ("20", "59")  # by the older and the newer conversion


@pytest.mark.needs("cpuset")
def test_cpuset(docker: Docker) -> None:
    """run --cpuset-cpus."""
    docker("run", "-d", "--name", "box", "--cpuset-cpus", "0", "busybox", "sleep", "99")

    assert "0" == cgroup(docker, "box", "cpuset.cpus")


@pytest.mark.cgroup
@pytest.mark.needs("pids")
def test_pids(docker: Docker) -> None:
    """run --pids-limit."""
    docker("run", "-d", "--name", "box", "--pids-limit", "10", "busybox", "sleep", "99")

    assert "10" == cgroup(docker, "box", "pids.max")
    script = "i=0; while [ $((i += 1)) -lt 20 ]; do sleep 9 & done"
    assert "can't fork" in docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script, status=2)


@pytest.mark.cgroup
@pytest.mark.needs("cpu", "memory", "pids")
def test_update(docker: Docker) -> None:
    """update, while it runs: --memory, --cpus, --pids-limit."""
    docker("run", "-d", "--name", "box", "--memory", "64m", "busybox", "sleep", "99")

    docker("update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.25", "--pids-limit", "77", "box")

    files = "memory.max", "cpu.max", "pids.max"
    assert [str(96 << 20), "25000 100000", "77"] == [cgroup(docker, "box", file) for file in files]


@pytest.mark.needs("cpu", "memory", "pids")
def test_stats_of_limits(docker: Docker) -> None:
    """stats: the limit of memory."""
    docker("run", "-d", "--name", "box", "--memory", "64m", "busybox", "sleep", "99")

    until(
        lambda: json.loads(docker("stats", "--no-stream", "--format", "json", "box"))["MemUsage"].endswith("/ 64MiB"),
        "it",
    )


def test_update_restart_policy(docker: Docker) -> None:
    """update --restart: what needs no controller."""
    docker("run", "-d", "--name", "box", "busybox", "sleep", "99")

    docker("update", "--restart", "always", "box")

    assert "always" == docker.inspect("box")["HostConfig"]["RestartPolicy"]["Name"]
