"""Fixtures for tests that run real containers."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hostile import Attack
from tests.support.probe import build
from tests.support.restoring import CheckpointRuntime, Pipe
from tests.support.runtime import Bundle, Host, Runtime, kill


def _let_through(folder: Path) -> None:
    """A container's user, who is unmapped on the host, needs access to the root filesystem."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and "pytest" in str(path):
            path.chmod(0o711)


@pytest.fixture
def attack(pyoci: str, tmp_path: Path) -> Iterator[Attack]:
    """A container to attack. Whatever the test did, the host is clean afterwards, and that is checked."""
    assert os.geteuid() == 0, "these tests need root"
    _let_through(tmp_path)
    made = Attack(pyoci, tmp_path)
    try:
        yield made
        made.assert_host_clean()
    finally:
        made.clean_up()


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that no command may signal."""
    process = subprocess.Popen(["/bin/sleep", "100"])
    time.sleep(0.02)  # a process is known by its start, too, which the kernel tells in hundredths of a second
    yield process
    kill(process)


@pytest.fixture
def host_clean(tmp_path: Path) -> Iterator[Host]:
    """The host around a test. That it is afterwards what it was before, is checked: invariants I1 to I5."""
    host = Host(tmp_path)
    try:
        yield host
        host.assert_clean(tmp_path / "state")
    finally:
        host.release()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle with a busybox root filesystem, and a config as Docker sends it."""
    _let_through(tmp_path)
    return Bundle(tmp_path / "bundle")


@pytest.fixture
def runtime(pyoci: str, tmp_path: Path, bundle: Bundle, host_clean: Host) -> Iterator[Runtime]:
    """The executable with a private state root, whose containers are deleted afterwards."""
    made = Runtime(pyoci, tmp_path, bundle, host_clean)
    yield made
    made.clean_up()


@pytest.fixture
def checkpoints(
    pyoci: str, criu: Path, tmp_path: Path, bundle: Bundle, host_clean: Host
) -> Iterator[CheckpointRuntime]:
    """The same with a CRIU that works here."""
    made = CheckpointRuntime(pyoci, tmp_path, bundle, host_clean, criu)
    yield made
    made.clean_up()


@pytest.fixture
def pipes() -> Iterator[Callable[[], Pipe]]:
    """A function that makes a pipe, as an engine gives it to a container."""
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe())
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


@pytest.fixture(scope="session")
def probe() -> Path:
    """A static program that tells, as `name=value` lines, what it was given: see tests/support/probe.c."""
    return build()
