"""Debian 12's Podman, root's, and for each test one that is empty, before and after.

It has no pods here: without systemd, the cgroup that it makes for a pod denies its containers /dev/null, with runc as
well.
"""

from collections.abc import Iterator

import pytest

from tests.support.leaks import Leaks
from tests.support.podman import Podman, prepare_machine


@pytest.fixture(scope="session")
def of_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, runtime: str) -> Podman:
    """With the configuration that we recommend, and the image `busybox`."""
    folder = tmp_path_factory.mktemp("engine")
    prepare_machine(folder / "etc")
    podman = Podman(folder / "root", runtime)
    request.config.engine_version = podman.version()
    podman.import_busybox()
    podman("run", "--rm", "busybox", "true")  # makes what stays, such as storage, locks and the network
    podman.remove_all()
    return podman


@pytest.fixture
def podman(of_root: Podman) -> Iterator[Podman]:
    """Without containers; what the test leaves is removed, and then nothing is left of it."""
    leaks = Leaks(states=(of_root.states,))
    yield of_root
    of_root.remove_all()
    leaks.assert_none()
