"""A CRI-O for all tests, empty before and after each."""

import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containerd import Cri, Pod
from tests.support.crio import Crio
from tests.support.daemon import until
from tests.support.leaks import Leaks


class Held(Pod):
    """A pod whose first process can end. The kernel drops a SIGTERM that comes before the process has its handler."""

    def __init__(self, *arguments: Any, **linux: Any) -> None:
        super().__init__(*arguments, **linux)
        found = subprocess.run(["pyoci", "state", self.id], capture_output=True, text=True, check=False, timeout=60)
        if found.returncode:  # CRI-O makes such a process for some pods only
            return
        status = Path(f"/proc/{json.loads(found.stdout)['pid']}/status")

        def handles() -> int:
            (caught,) = re.findall(r"SigCgt:\t(\w+)", status.read_text())
            return int(caught, 16) >> signal.SIGTERM - 1 & 1

        until(handles, "the first process of the pod handles SIGTERM")


@pytest.fixture(scope="session")
def interface(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cri]:
    """What Kubernetes calls."""
    folder = Path(tempfile.mkdtemp(prefix="engine", dir="/tmp"))
    folder.chmod(0o711)  # root of a user namespace has to get through to its root filesystem
    crio = Crio(folder)
    request.config.engine_version = crio.version()
    cri = Cri(crio)
    Held(cri, "pyoci", tmp_path_factory.mktemp("first")).remove()  # makes what stays, such as the bridge of all pods
    yield cri
    cri.close()
    crio.stop()


@pytest.fixture
def make(interface: Cri, tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """Make pods; at the end, nothing is left of them."""
    leaks = Leaks()
    pods: list[Pod] = []

    def call(handler: str = "pyoci", **linux: Any) -> Pod:
        pods.append(Held(interface, handler, tmp_path, **linux))
        return pods[-1]

    yield call
    for pod in pods:
        pod.remove()
    for cgroup in Path("/sys/fs/cgroup").glob("crio-conmon-*"):
        cgroup.rmdir()  # CRI-O leaves that of a conmon whose container could not be created
    leaks.assert_none()


@pytest.fixture
def pod(make: Callable[..., Pod]) -> Pod:
    """A pod."""
    return make()
