"""A dockerd for all tests, and for each test one that is empty, before and after."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker import Docker
from tests.support.hierarchies import keep_out_of_v1
from tests.support.leaks import Leaks


@pytest.fixture(scope="session")
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, runtime: str) -> Iterator[Docker]:
    """With the configuration that we recommend, and the image `busybox`."""
    if runtime == "runc":
        keep_out_of_v1()
    # a kernel may have bridges, but no tables for them
    tables = not subprocess.run(["iptables", "--table", "nat", "--list"], capture_output=True, check=False).returncode
    options = [] if tables else ["--iptables=false", "--ip6tables=false"]
    docker = Docker(tmp_path_factory.mktemp("engine"), runtime, "--debug", "--experimental", *options)
    request.config.engine_version = docker.version()
    docker.import_busybox()
    docker("run", "--rm", "--network", "host", "busybox", "true")  # its namespace stays, as an endpoint of its network
    # The parents of all cgroups: runc leaves them, and pyoci if another container is in them when the one ends that
    # made them.
    os.makedirs("/sys/fs/cgroup/docker/buildkit", exist_ok=True)
    yield docker
    docker.stop()


@pytest.fixture
def docker(daemon: Docker) -> Iterator[Docker]:
    """Without containers; what the test leaves is removed, and then nothing is left of it."""
    leaks = Leaks(states=(daemon.states,))
    yield daemon
    daemon.remove_all()
    leaks.assert_none()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """On the host, for containers to see."""
    return tmp_path
