"""A containerd for all tests, empty before and after each."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containerd import Containerd, Cri, Pod
from tests.support.devices import NVIDIA
from tests.support.engines import SYSTEMD
from tests.support.hierarchies import keep_out_of_v1
from tests.support.leaks import Leaks

KERNEL = tuple(map(int, platform.release().split(".")[:2]))
SECURITY = Path("/sys/kernel/security")
TMPFS_WITH_IDS = (6, 3)  # the first Linux whose tmpfs can be idmapped


def disk(folder: Path) -> None:
    """Mount an ext4 there."""
    image = folder.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(1 << 30)
    subprocess.check_call(["mkfs.ext4", "-q", image], timeout=60)
    subprocess.check_call(["mount", "-o", "loop", image, folder], timeout=60)


@pytest.fixture(scope="session")
def daemon(request: pytest.FixtureRequest, runtime: str) -> Iterator[Containerd]:
    """With the configuration that we recommend, and a busybox image."""
    if runtime == "runc":
        keep_out_of_v1()
    # a tmpfs: the root of a machine can be an overlay, which can't hold another
    folder = Path(tempfile.mkdtemp(prefix="engine", dir=None if SYSTEMD else "/tmp"))
    if KERNEL < TMPFS_WITH_IDS and os.path.exists("/dev/loop-control"):
        disk(folder)
    folder.chmod(0o711)  # root of a user namespace has to get through to its root filesystem, as in /run/containerd
    more = []
    if shutil.which("nvidia-container-runtime"):
        more.append(NVIDIA / "containerd.toml")
        os.environ["NVIDIA_CTK_CONFIG_FILE_PATH"] = str(NVIDIA / "config.toml")
    if Path("/sys/module/apparmor").exists() and not SECURITY.joinpath("apparmor").exists():
        subprocess.check_call(["mount", "-t", "securityfs", "securityfs", SECURITY])
    containerd = Containerd(folder, runtime, *more)
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
def interface(daemon: Containerd, runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cri]:
    """What Kubernetes calls."""
    cri = Cri(daemon)
    Pod(cri, runtime, tmp_path_factory.mktemp("first")).remove()  # makes what stays, such as the bridge of all pods
    yield cri
    cri.close()


@pytest.fixture
def make(daemon: Containerd, interface: Cri, runtime: str, tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """Make pods; at the end, nothing is left of them."""
    leaks = Leaks(states=(daemon.states,))
    pods: list[Pod] = []

    def call(handler: str = runtime, **linux: Any) -> Pod:
        pods.append(Pod(interface, handler, tmp_path, **linux))
        return pods[-1]

    yield call
    for pod in pods:
        pod.remove()
    leaks.assert_none()


@pytest.fixture
def pod(make: Callable[..., Pod]) -> Pod:
    """A pod."""
    return make()
