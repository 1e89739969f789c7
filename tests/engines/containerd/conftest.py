"""A containerd for all tests, empty before and after each."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containerd import Containerd, Cri
from tests.support.leaks import Leaks


@pytest.fixture(scope="session")
def daemon(request: pytest.FixtureRequest, runtime: str) -> Iterator[Containerd]:
    """With the configuration that we recommend, and a busybox image."""
    folder = Path(tempfile.mkdtemp(prefix="engine"))
    folder.chmod(0o711)  # root of a user namespace has to get through to its root filesystem, as in /run/containerd
    containerd = Containerd(folder, runtime)
    request.config.engine_version = containerd.version()
    containerd.import_images()
    for namespace in "default", "k8s.io":  # runc leaves the parents of cgroups and states
        os.makedirs(f"/sys/fs/cgroup/{namespace}")
        (containerd.states / namespace).mkdir(parents=True)
    yield containerd
    containerd.stop()


@pytest.fixture
def ctr(daemon: Containerd) -> Iterator[Containerd]:
    """Nothing is left of what a test does."""
    leaks = Leaks(states=(daemon.states,))
    yield daemon
    for task in daemon("tasks", "ls", "--quiet").split():
        daemon("tasks", "delete", "--force", task)
    for container in daemon("containers", "ls", "--quiet").split():
        daemon("containers", "delete", container)
    leaks.assert_none()


@pytest.fixture(scope="session")
def interface(daemon: Containerd) -> Iterator[Cri]:
    """What Kubernetes calls."""
    cri = Cri(daemon)
    yield cri
    cri.close()
