"""The relay between a container's sd_notify(3) and the service manager."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.host.sd_notify import Relay
from pyoci.host.state_directory import NOTIFY, StateDirectory


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "manager"))
        made.settimeout(5)
        yield made


@pytest.fixture
def relay(tmp_path: Path, manager: socket.socket) -> Iterator[Relay]:
    """A relay with the container's socket."""
    (tmp_path / "box" / NOTIFY).mkdir(parents=True)
    made = Relay(str(tmp_path / "manager"), [])
    directory = StateDirectory(str(tmp_path), -1, "box", os.open(tmp_path / "box", os.O_RDONLY))
    made.listen(directory)
    os.close(directory.fd)
    yield made
    made.close()


@pytest.fixture
def ended() -> Iterator[int]:
    """A descriptor that is readable, as the pidfd of a process that has ended."""
    ours, its = os.pipe()
    os.close(its)
    yield ours
    os.close(ours)


def say(tmp_path: Path, *messages: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(message.encode(), str(tmp_path / "box" / NOTIFY / "notify.sock"))


def test_wait_ends_with_the_program_while_another_process_goes_on_to_speak(
    tmp_path: Path, relay: Relay, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the program leaves behind may keep the socket readable for ever."""
    rounds = []
    receive = relay._receive

    def receive_and_send() -> None:
        receive()
        say(tmp_path, "STATUS=busy")
        rounds.append(1)
        assert len(rounds) < 100

    monkeypatch.setattr(relay, "_receive", receive_and_send)
    say(tmp_path, "STATUS=busy")
    relay.wait(1, ended)

    assert 1 == len(rounds)


def test_last_words_of_the_program_count(tmp_path: Path, relay: Relay, ended: int, manager: socket.socket) -> None:
    """A program that is ready and ends at once was ready."""
    say(tmp_path, "STATUS=busy", "READY=1")
    relay._barrier = lambda deadline: None  # type: ignore[method-assign]
    relay.wait(7, ended)

    assert [b"READY=1", b"MAINPID=7"] == [manager.recv(100), manager.recv(100)]
