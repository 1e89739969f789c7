"""Podman for all tests, root's and a user's, and for each test one that is empty, before and after."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hierarchies import keep_out_of_v1
from tests.support.leaks import Leaks
from tests.support.podman import Podman, prepare_machine


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for engines, on a machine with users."""
    folder = tmp_path_factory.mktemp("engine")
    prepare_machine(folder / "etc")
    return folder


def _ready(podman: Podman) -> Podman:
    podman.import_busybox()
    # the first makes what stays: storage, locks, networks, the process that keeps a user's namespaces
    podman("run", "--rm", "busybox", "true")
    podman("pod", "create", "--name", "first")
    podman("run", "--rm", "--pod", "first", "busybox", "true")
    podman.remove_all()
    return podman


@pytest.fixture(scope="session")
def of_root(request: pytest.FixtureRequest, machine: Path, runtime: str) -> Podman:
    """With the configuration that we recommend, and the image `busybox`."""
    if runtime == "runc":
        keep_out_of_v1()
    podman = Podman(machine / "root", runtime)
    request.config.engine_version = podman.version()
    return _ready(podman)


@pytest.fixture(scope="session")
def of_user(of_root: Podman, machine: Path, runtime: str) -> Podman:
    """The same of a plain user."""
    return _ready(Podman(machine / "user", runtime, user=True))


def _empty(podman: Podman) -> Iterator[Podman]:
    leaks = Leaks(states=(podman.states,))
    yield podman
    podman.remove_all()
    leaks.assert_none()


@pytest.fixture
def podman(of_root: Podman) -> Iterator[Podman]:
    """Root's, without containers; what the test leaves is removed, and then nothing is left of it."""
    yield from _empty(of_root)


@pytest.fixture
def rootless(of_user: Podman) -> Iterator[Podman]:
    """A user's, likewise."""
    yield from _empty(of_user)


@pytest.fixture(params=["root", "rootless"])
def either(request: pytest.FixtureRequest) -> Iterator[Podman]:
    """Root's, and a user's."""
    yield from _empty(request.getfixturevalue("of_root" if request.param == "root" else "of_user"))
