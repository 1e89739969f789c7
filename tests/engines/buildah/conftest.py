"""Buildah for all tests, root's and a user's, and for each test one without containers, before and after."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leaks import Leaks
from tests.support.podman import Buildah, prepare_machine


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for engines, on a machine with users."""
    folder = tmp_path_factory.mktemp("engine")
    prepare_machine(folder / "etc")
    return folder


@pytest.fixture(scope="session")
def of_root(request: pytest.FixtureRequest, machine: Path, runtime: str) -> Buildah:
    """With the configuration that we recommend, and the image `busybox`."""
    buildah = Buildah(machine / "root", runtime)
    request.config.engine_version = buildah.version()
    buildah.import_busybox()
    return buildah


@pytest.fixture(scope="session")
def of_user(of_root: Buildah, machine: Path, runtime: str) -> Buildah:
    """The same of a plain user."""
    buildah = Buildah(machine / "user", runtime, user=True)
    buildah.import_busybox()
    buildah("from", "--name", "first", "busybox")
    buildah("run", "--isolation", "oci", "first", "true")  # creates the directory of states, which stays
    buildah.remove_all()
    return buildah


@pytest.fixture(params=["root", "rootless"])
def buildah(request: pytest.FixtureRequest) -> Iterator[Buildah]:
    """Root's, and a user's; what the test leaves is removed, and then nothing is left of it."""
    made = request.getfixturevalue("of_root" if request.param == "root" else "of_user")
    leaks = Leaks(states=(made.states,))
    yield made
    made.remove_all()
    leaks.assert_none()


@pytest.fixture
def box(buildah: Buildah) -> str:
    """A working container."""
    return buildah("from", "--name", "box", "busybox")
