"""Fixtures for tests that run real containers."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile import Attack


@pytest.fixture
def attack(pyoci: str, tmp_path: Path) -> Iterator[Attack]:
    """A container to attack. Whatever the test did, the host is clean afterwards, and that is checked."""
    assert os.geteuid() == 0, "these tests need root"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o711)  # a container's user, who is nobody on the host, has to get through
    made = Attack(pyoci, tmp_path)
    try:
        yield made
        made.assert_host_clean()
    finally:
        made.clean_up()
