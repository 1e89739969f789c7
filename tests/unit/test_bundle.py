"""Reading config.json: whatever stands in its place, nothing hangs and the error says what it is."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyoci.errors import PyociError
from pyoci.host import bundle as bundle_module
from pyoci.host.bundle import MAX_CONFIG, read_config, read_given, read_pipe


def refusal(bundle: Path | str, name: str = "config.json") -> str:
    """The message with which the config is refused, which must come at once."""
    start = time.monotonic()
    with pytest.raises(PyociError) as caught:
        read_config(str(bundle), name)
    assert time.monotonic() - start < 10  # it does not wait for a writer
    return str(caught.value)


def test_the_bytes_are_returned_as_they_are(tmp_path: Path) -> None:
    """Decoding is another module's business."""
    (tmp_path / "config.json").write_bytes(b'\xff{"a": 1}\n')

    assert b'\xff{"a": 1}\n' == read_config(str(tmp_path))


def test_another_name_in_the_bundle(tmp_path: Path) -> None:
    """A relative name is one in the bundle."""
    (tmp_path / "other.json").write_bytes(b"{}")

    assert b"{}" == read_config(str(tmp_path), "other.json")


def test_an_absolute_name_is_not_in_the_bundle(tmp_path: Path) -> None:
    """--config FILE may be anywhere; the bundle must still exist."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "other.json").write_bytes(b"{}")

    assert b"{}" == read_config(str(tmp_path / "bundle"), str(tmp_path / "other.json"))
    assert "there is no such directory" in refusal(tmp_path / "none", str(tmp_path / "other.json"))


def test_the_bundle_may_be_reached_by_a_link(tmp_path: Path) -> None:
    """Only the config itself must not be a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real/config.json").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("real")

    assert b"{}" == read_config(str(tmp_path / "link"))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """The most common mistake; its text must not read like a missing program (engines map that to 127)."""
    message = refusal(tmp_path)

    assert f"cannot read {tmp_path}/config.json: there is no such file" in message
    assert "(hint: pass --bundle, or create a config with `pyoci spec`)" in message
    assert "no such file or directory" not in message


def test_a_missing_bundle(tmp_path: Path) -> None:
    """The bundle is named, and not taken for a missing program."""
    assert f"cannot open bundle {tmp_path}/none: there is no such directory" == refusal(tmp_path / "none")


def test_a_bundle_that_is_a_file(tmp_path: Path) -> None:
    """Engines take `not a directory` for a bad mount, so it isn't said."""
    (tmp_path / "file").write_text("")

    message = refusal(tmp_path / "file")

    assert message.startswith(f"cannot open bundle {tmp_path}/file: expected a directory (hint: ")
    assert "not a directory" not in message


def test_nul_in_a_path() -> None:
    """A NUL can't be in a path; it is an error, not a truncated name."""
    assert "the path has a NUL" in refusal("/tmp/a\0b")
    assert "the path has a NUL" in refusal("/tmp", "a\0b")


def make_fifo(path) -> None:
    """A FIFO without a writer."""
    os.mkfifo(path)


def make_socket(path) -> None:
    """A socket without a listener."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (make_fifo, "a FIFO"),
        (make_socket, "a socket"),
        (lambda path: path.mkdir(), "a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "a symbolic link"),
        (lambda path: path.symlink_to("real.json"), "a symbolic link"),
    ],
    ids=["fifo", "socket", "directory", "link to device", "link to file"],
)
def test_other_types_of_files_are_rejected(make: Callable[..., Any], what: str, tmp_path: Path) -> None:
    """FIFO, socket, directory, symbolic link: the error names the type."""
    (tmp_path / "real.json").write_bytes(b"{}")
    make(tmp_path / "config.json")

    assert f"cannot read {tmp_path}/config.json: it is {what}, not a regular file" == refusal(tmp_path)


def test_a_device_is_refused() -> None:
    """/dev/zero would never end."""
    assert "cannot read /dev/zero: it is a character device, not a regular file" == refusal("/dev", "zero")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """It is refused by its size, before it is read."""
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(100 << 20)

    assert f"cannot read {tmp_path}/config.json: it is larger than 16 MiB" == refusal(tmp_path)


def test_the_largest_file(tmp_path: Path) -> None:
    """Exactly 16 MiB are read."""
    (tmp_path / "config.json").write_bytes(b" " * MAX_CONFIG)

    assert MAX_CONFIG == len(read_config(str(tmp_path)))


@pytest.mark.parametrize("change", [b'{"a": 2}', b'{"a": 1}  ', b"{}"], ids=["other", "longer", "shorter"])
def test_a_file_that_changes_while_it_is_read(change: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of one config and half of another must never be run."""
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a": 1}')
    os.utime(path, ns=(1, 1))
    read = os.read

    def read_then_change(fd, size):
        data = read(fd, size)
        path.write_bytes(change)
        return data

    monkeypatch.setattr(bundle_module.posix, "read", read_then_change)

    assert f"cannot read {path}: it changed while it was read" == refusal(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the kernel's reason in lower case."""

    def refuse(name, *_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied", name)

    (tmp_path / "config.json").write_bytes(b"{}")
    real_open = bundle_module.posix.open
    monkeypatch.setattr(
        bundle_module.posix,
        "open",
        lambda name, *a, **k: (refuse if name == "config.json" else real_open)(name, *a, **k),
    )

    assert f"cannot read {tmp_path}/config.json: permission denied" == refusal(tmp_path)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Neither success nor a refusal leaks one."""
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "bad").mkdir()
    os.mkfifo(tmp_path / "bad/config.json")
    before = len(os.listdir("/proc/self/fd"))
    read_config(str(tmp_path))
    refusal(tmp_path / "bad")
    refusal(tmp_path / "none")

    assert before == len(os.listdir("/proc/self/fd"))


def test_messages_have_the_house_style(tmp_path: Path) -> None:
    """`cannot <verb> <object>: <reason>`, without a full stop."""
    assert re.fullmatch(r"cannot \w+ .+: .+[^.]", refusal(tmp_path))


@pytest.mark.parametrize("written", [False, True], ids=["without a writer", "with a writer"])
def test_read_given_rejects_fifos(tmp_path: Path, written: bool) -> None:
    """A FIFO with a name may never get a writer, or its writer may never close it: the runtime refuses it at once."""
    os.mkfifo(tmp_path / "fifo")
    held = os.open(tmp_path / "fifo", os.O_RDWR) if written else -1
    start = time.monotonic()
    with pytest.raises(PyociError) as caught:
        read_given(f"{tmp_path}/fifo")
    if written:
        os.close(held)

    assert f"cannot read {tmp_path}/fifo: it is a FIFO, not a regular file" == str(caught.value)
    assert time.monotonic() - start < 10


def test_a_pipe_that_the_command_line_names() -> None:
    """A shell's `<(command)`: it is read to its end, but not for ever."""
    reader, writer = os.pipe()
    os.write(writer, b'{"a"')
    os.write(writer, b": 1}")
    os.close(writer)
    assert b'{"a": 1}' == read_given(f"/dev/fd/{reader}")
    os.close(reader)

    reader, writer = os.pipe()
    with subprocess.Popen(["cat", "/dev/zero"], stdout=writer):
        os.close(writer)
        with pytest.raises(PyociError, match="cannot read it: it is larger than 16 MiB"):
            read_pipe(reader, "it")
        os.close(reader)


def test_a_file_that_the_command_line_names(tmp_path: Path) -> None:
    """It follows a link, and names other types of files."""
    (tmp_path / "real").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("real")

    assert b"{}" == read_given(f"{tmp_path}/link")
    for path, why in (("none", "there is no such file"), ("", "it is a directory, not a regular file")):
        with pytest.raises(PyociError, match=why):
            read_given(f"{tmp_path}/{path}")
