"""The same many times, in a row and at once: nothing accumulates."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support.docker import Docker
from tests.support.leaks import Leaks

COMPOSE = """
services:
  one: {image: busybox, command: sleep 1000, stop_signal: KILL, volumes: ["shared:/data"]}
  two: {image: busybox, command: sleep 1000, stop_signal: KILL, volumes: ["shared:/data"], depends_on: [one]}
volumes: {shared: }
"""


@pytest.fixture
def level(docker: Docker, endurance: bool):
    """After the test, the daemons hold as many descriptors as after one container, or fewer than one more for each."""
    docker("run", "--rm", "busybox", "true")
    leaks = Leaks(states=(docker.states,), daemons=docker.daemons(), slack=40 if endurance else 15)
    yield
    docker.collect_garbage()
    leaks.assert_none()


def at_once(docker, commands):
    """Run clients at the same time: how often each exit status came, and what the failed ones said."""
    clients = [
        subprocess.Popen([*docker.client, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    texts = [client.communicate(timeout=300)[1] for client in clients]
    return Counter(client.returncode for client in clients), "".join(texts)


def test_in_a_row(docker: Docker, level, endurance: bool) -> None:
    """run --rm, many times in a row: nothing is left."""
    for number in range(200 if endurance else 20):
        assert str(number) == docker("run", "--rm", "busybox", "echo", number)


def test_at_once(docker: Docker, level, endurance: bool) -> None:
    """run --rm, many at once: nothing is left."""
    count = 50 if endurance else 20

    assert (Counter({0: count}), "") == at_once(docker, [["run", "--rm", "busybox", "true"]] * count)


def test_at_once_with_runc(docker: Docker, level, endurance: bool) -> None:
    """run --rm, many at once, half of them with runc."""
    count = 25 if endurance else 10
    commands = [["run", "--rm", "--runtime", runtime, "busybox", "true"] for runtime in ("pyoci", "runc")]

    assert (Counter({0: 2 * count}), "") == at_once(docker, commands * count)


def test_many_run(docker: Docker, level, endurance: bool) -> None:
    """Many containers at the same time, and each is found."""
    names = [f"box{number}" for number in range(30 if endurance else 10)]
    assert (Counter({0: len(names)}), "") == at_once(
        docker, [["run", "-d", "--name", name, "busybox", "sleep", "1000"] for name in names]
    )

    assert (Counter({0: len(names)}), "") == at_once(docker, [["exec", name, "true"] for name in names])
    assert (Counter({0: len(names)}), "") == at_once(docker, [["rm", "-f", name] for name in names])


def test_exec_in_a_row(docker: Docker, level, endurance: bool) -> None:
    """exec, many times in a row: nothing is left."""
    docker("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    docker("exec", "box", "true")
    shim = Leaks(daemons=(docker.shim("box"),), slack=15)
    for number in range(200 if endurance else 20):
        assert str(number) == docker("exec", "box", "echo", number)
    shim.assert_none()
    docker("rm", "-f", "box")


def test_compose(docker: Docker, level, endurance: bool, folder: Path) -> None:
    """compose up and down, again and again: nothing is left."""
    (folder / "compose.yaml").write_text(COMPOSE)
    compose = ["compose", "--progress", "quiet", "--project-name", "project", "--file", folder / "compose.yaml"]
    for _ in range(20 if endurance else 2):
        docker(*compose, "up", "--detach")
        assert 2 == len(docker(*compose, "ps", "--quiet").split())
        docker(*compose, "down", "--volumes")
