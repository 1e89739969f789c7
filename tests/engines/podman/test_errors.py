"""What can't be run: the exit statuses, and what Podman makes of the runtime's message."""

from typing import Any

import pytest

from tests.support.podman import Podman

WRONG = [
    ("/nothing", 127, 'exec: "/nothing": stat /nothing: no such file or directory'),
    ("nothing", 127, 'exec: "nothing": executable file not found in $PATH'),
    ("/etc", 126, 'exec: "/etc": is a directory'),
    ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
]


@pytest.mark.parametrize(("program", "status", "message"), WRONG)
def test_run_what_can_not_be_run(either: Podman, program: Any, status: Any, message: Any) -> None:
    """run: a program that does not exist, is a directory, or is not executable."""
    said = either("run", "--rm", "busybox", program, status=status)

    if either.runtime == "pyoci":
        assert message in said


@pytest.mark.parametrize(("program", "status", "message"), WRONG)
def test_exec_what_can_not_be_run(either: Podman, program: Any, status: Any, message: Any) -> None:
    """exec: a program that does not exist, is a directory, or is not executable."""
    either("run", "-d", "--name", "box", "busybox", "sleep", "99")

    said = either("exec", "box", program, status=255 if program == "/etc" else status)

    if either.runtime == "pyoci":
        assert message in said


def test_exec_in_a_missing_directory(podman: Podman) -> None:
    """exec --workdir: one that does not exist."""
    podman("run", "-d", "--name", "box", "busybox", "sleep", "99")

    said = podman("exec", "--workdir", "/nothing", "box", "true", status=127)

    assert "/nothing" in said
    assert "no such file or directory" in said


def test_user_that_does_not_exist(podman: Podman) -> None:
    """run and exec --user: an unknown name."""
    assert "unable to find user jack" in podman("run", "--rm", "--user", "jack", "busybox", "true", status=126)
    podman("run", "-d", "--name", "box", "busybox", "sleep", "99")
    assert "unable to find user jack" in podman("exec", "--user", "jack", "box", "true", status=255)


def test_volume_that_does_not_exist(podman: Podman) -> None:
    """run --mount: a source that does not exist."""
    said = podman("run", "--rm", "--mount", "type=bind,src=/nothing,dst=/mnt", "busybox", "true", status=125)
    assert "no such file or directory" in said


def test_device_that_does_not_exist(podman: Podman) -> None:
    """run --device: one that does not exist."""
    said = podman("run", "--rm", "--device", "/dev/nothing", "busybox", "true", status=125)
    assert "/dev/nothing: no such file or directory" in said


def test_nothing_is_left_of_a_container_that_fails(podman: Podman) -> None:
    """create of a container that can't be started leaves it to be removed."""
    podman("run", "--name", "box", "busybox", "/nothing", status=127)

    assert podman.state("box") in ("created", "configured")
    podman("rm", "box")
