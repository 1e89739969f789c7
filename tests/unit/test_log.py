"""Messages: where they go, and the exact bytes, since engines parse them."""

import contextlib
import json
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.cli import log as log_module
from pyoci.cli.log import Log
from pyoci.cli.output import print_data
from pyoci.config.text import printable
from pyoci.errors import PyociError, UsageError
from pyoci.host import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log file goes."""
    return tmp_path / "log.json"


def read_json(path: Path) -> list[dict[str, str]]:
    """The entries of a JSON log: every line must be one whole entry."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_error_reaches_log_and_standard_error(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The error is one JSON line in the log, and the same text on standard error."""
    Log(str(path), format="json").error("cannot do it: permission denied")

    assert [("error", "cannot do it: permission denied")] == [(e["level"], e["msg"]) for e in read_json(path)]
    assert ("", "cannot do it: permission denied\n") == capfd.readouterr()


def test_json_line_has_exactly_the_three_members_in_rfc_3339(path: Path) -> None:
    """containerd decodes level, msg and time; one bad time makes every later error unreadable."""
    Log(str(path), format="json").error("x")
    (entry,) = read_json(path)

    assert {"level", "msg", "time"} == set(entry)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["time"], re.ASCII)


def test_json_line_has_class_pointer_and_hint_behind_the_message(path: Path) -> None:
    """A program that reads the log gets them apart from the message, whose text engines match."""
    Log(str(path), format="json").error("/a~1b: no (hint: yes)", kind="HookError", pointer="/a~1b", hint='say "yes"')
    (line,) = path.read_text().splitlines()
    members = list(json.loads(line).items())

    assert [("error", "HookError"), ("pointer", "/a~1b"), ("hint", 'say "yes"')] == members[3:]
    assert ["level", "msg", "time"] == [name for name, _ in members[:3]]


@pytest.mark.parametrize("fields", [{"pointer": "/a"}, {"hint": "h"}])
def test_json_line_leaves_out_an_empty_field(path: Path, fields: dict[str, str]) -> None:
    """An error has a pointer, a hint, both or neither."""
    Log(str(path), format="json").error("x", **fields)

    assert {"level", "msg", "time", *fields} == set(read_json(path)[0])


def test_json_line_prefers_the_message_to_pointer_and_hint(path: Path) -> None:
    """The line stays within 8191 bytes, and the message is what it would be without them."""
    log = Log(str(path), format="json")
    for fields in ({}, {"pointer": "/" + "p" * 5000, "hint": "h"}):
        log.error("x" * 4000, **fields)
    without, line = read_json(path)

    assert (without["msg"], {"level", "msg", "time"}) == (line["msg"], set(line))


def test_text_log_has_no_pointer_and_hint(path: Path) -> None:
    """Their text is in the message."""
    Log(str(path)).error("x", pointer="/a", hint="h")

    assert path.read_text().endswith(' level=error msg="x"\n')


def test_time_is_utc(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment itself is right, whatever the time zone."""
    monkeypatch.setattr(log_module.time, "time_ns", lambda: 1_767_323_045_000_456_789)
    Log(str(path), format="json").error("x")

    assert "2026-01-02T03:04:05.000456Z" == read_json(path)[0]["time"]


def test_text_line_is_logfmt(path: Path) -> None:
    """The text format is that of runc."""
    Log(str(path), format="text").error('a "quoted" \\ word')

    assert re.fullmatch(r'time="[-:.T\dZ]+" level=error msg="a \\"quoted\\" \\\\ word"\n', path.read_text(), re.ASCII)


def test_log_is_appended_to(path: Path) -> None:
    """Every command of a container appends to the same file."""
    for message in ("first", "second"):
        Log(str(path), format="json").error(message)

    assert ["first", "second"] == [entry["msg"] for entry in read_json(path)]


def test_log_file_mode_is_0644(path: Path) -> None:
    """Others may read the log and not write it, whatever the umask of the test."""
    mask = os.umask(0)
    try:
        Log(str(path), format="json")
    finally:
        os.umask(mask)

    assert 0o644 == stat.S_IMODE(path.stat().st_mode)


def test_log_is_not_inherited(path: Path) -> None:
    """The descriptor of the log does not survive execve."""
    log = Log(str(path))
    held = [int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    (fd,) = [fd for fd in held if os.path.samestat(os.fstat(fd), path.stat())]

    assert not os.get_inheritable(fd)
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_symbolic_link_is_refused(path: Path, tmp_path: Path) -> None:
    """Another user can't make the log write to a file of their choice."""
    target = tmp_path / "target"
    path.symlink_to(target)

    with pytest.raises(PyociError, match=r"cannot open log .*: too many levels of symbolic links"):
        Log(str(path))
    assert not target.exists()


def test_fifo_without_reader_is_refused_at_once(path: Path) -> None:
    """A FIFO in the log's place can't hang us."""
    os.mkfifo(path)

    with pytest.raises(PyociError, match="no such device or address"):
        Log(str(path))


@pytest.mark.parametrize("name", ["/dev/stderr", "/proc/self/fd/2", "file:/dev/stderr", ""])
def test_standard_error_as_log_gets_the_error_once(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """When the log is standard error itself, the error is printed once."""
    Log(name).error("once")

    assert "once\n" == capfd.readouterr().err


def test_json_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """--log-format json without --log: standard error is the log."""
    Log(format="json").error("x")

    assert "x" == json.loads(capfd.readouterr().err)["msg"]


def test_file_prefix(path: Path) -> None:
    """crun writes the destination as file:PATH."""
    Log(f"file:{path}", format="json").error("x")

    assert "x" == read_json(path)[0]["msg"]


def test_forged_lines_and_escape_sequences_stay_text(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A hostile name or hook output is one line without control characters, on both ways."""
    hostile = 'a\n{"level":"error","msg":"forged"}\r\x1b]0;pwned\x07\x9b31m\u2028\u202e\x00\udcff"'
    Log(str(path), format="json").error(hostile)
    (entry,) = read_json(path)
    error = capfd.readouterr().err

    assert entry["msg"].isprintable()
    assert entry["msg"] + "\n" == error
    assert r'a\n{"level":"error","msg":"forged"}\x0d\x1b]0;pwned\x07\x9b31m\u2028\u202e\x00\udcff"' == entry["msg"]


def test_readable_text_stays_as_it_is() -> None:
    """Only bytes that are not text are escaped."""
    assert "café 容器 `x`" == printable("café 容器 `x`")


@pytest.mark.parametrize("message", ["a" * 100_000, "\x1b" * 20_000, '"' * 9_000, "é" * 9_000, "𝄞" * 9000, "a" * 8191])
@pytest.mark.parametrize("form", ["json", "text"])
def test_long_message_is_cut(message: str, form: str, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No line is longer than what conmon reads, and a cut is visible."""
    Log(str(path), format=form).error(message)
    data = path.read_bytes()
    error = capfd.readouterr().err.encode()

    assert 1 == data.count(b"\n") == error.count(b"\n")
    assert 8000 < len(data) <= 8191
    assert 8000 < len(error) <= 8191
    assert b"[truncated]" in data


def test_longest_whole_message_is_not_cut(capfd: pytest.CaptureFixture[str]) -> None:
    """8190 characters and the newline fit."""
    Log().error("a" * 8190)

    assert "a" * 8190 + "\n" == capfd.readouterr().err


def test_one_message_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent commands of a container can't mix their lines."""
    writes = []
    monkeypatch.setattr(log_module.posix, "write", lambda fd, data: writes.append((fd, data)) or len(data))
    Log(str(path), format="json").error("x")

    assert [2] == [fd for fd, _ in writes if fd == 2]
    assert 2 == len(writes)
    assert writes[0][1].endswith(b"\n")


def test_concurrent_writers_do_not_mix(path: Path) -> None:
    """The file is opened for appending: lines of several writers are whole."""
    logs = [Log(str(path), format="json") for _ in range(4)]
    threads = [
        threading.Thread(target=lambda log=log: [log._note("error", "x" * 500) for _ in range(50)]) for log in logs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 200 == len(read_json(path))


def test_warnings_stay_out_of_the_log_by_default(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Podman takes a lone warning in the log for the error; standard error may be the container's own."""
    Log(str(path), format="json").warning("careful")

    assert "" == path.read_text()
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize(
    ("level", "expected"),
    [("error", []), ("warning", ["warning"]), ("info", ["warning"]), ("debug", ["warning", "debug"])],
)
def test_log_level(level: str, expected: list[str], path: Path) -> None:
    """--log-level says what the log gets beside the error."""
    log = Log(str(path), format="json", level=level)
    log.warning("w")
    log.debug("d")

    assert expected == [entry["level"] for entry in read_json(path)]


def test_warnings_without_a_log_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A person at the terminal sees warnings, marked as such, and no debug messages."""
    log = Log()
    log.warning("careful")
    log.debug("detail")

    assert "warning: careful\n" == capfd.readouterr().err


@pytest.mark.parametrize("text", ["careful", "\n" * 60, "x" * 100_000])
def test_many_warnings_leave_room_for_the_error(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """conmon reads 8191 bytes of standard error once, and takes them for the reason of a failure."""
    log = Log()
    for _ in range(10_000):
        log.warning(text)
    log.error("failed")
    lines = capfd.readouterr().err.split("\n")

    assert ["failed", ""] == lines[-2:]
    assert "warning: pyoci leaves out further warnings (hint: pass --log-level warning)" == lines[-3]
    assert {f"warning: {printable(text)}"} >= set(lines[:-3])
    assert sum(len(line) + 1 for line in lines) < 8191 // 2 + 200


def test_all_warnings_are_there_for_the_asking(capfd: pytest.CaptureFixture[str]) -> None:
    """The level asks for them."""
    log = Log(level="warning")
    for n in range(10_000):
        log.warning(f"careful {n}")

    assert [f"warning: careful {n}" for n in range(10_000)] == capfd.readouterr().err.splitlines()


def test_quiet_log_tells_the_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """`state` is parsed together with its standard error."""
    log = Log(level="debug", quiet=True)
    log.warning("careful")
    log.debug("detail")
    assert "" == capfd.readouterr().err
    log.error("failed")
    assert "failed\n" == capfd.readouterr().err


def test_unwritable_log_does_not_hide_the_error(capfd: pytest.CaptureFixture[str]) -> None:
    """When the log's disk is full, standard error still tells."""
    Log("/dev/full").error("failed")

    assert "failed\n" == capfd.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("format", "xml"), ("level", "loud")])
def test_unknown_words_are_refused(option: str, value: str) -> None:
    """An unknown format or level is a usage error that names the possible ones."""
    with pytest.raises(UsageError, match=rf"cannot use log {option} `{value}`: expected one of .*"):
        Log(**{option: value})


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("journald", "SYSLOG_IDENTIFIER=abc\nPRIORITY=3\nMESSAGE=failed\\nPRIORITY=0\n"),
        ("syslog", "<27>abc: failed\\nPRIORITY=0"),
    ],
)
def test_services_get_a_datagram(
    service: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """journald:ID and syslog:ID, as crun has them; a message can't add fields."""
    address = str(tmp_path / "socket")
    template = log_module._SERVICES[service][1]
    monkeypatch.setitem(log_module._SERVICES, service, (address, template))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        log = Log(f"{service}:abc")
        log.error("failed\nPRIORITY=0")
        log.close()

        assert expected == server.recv(9000).decode()
    assert "failed\\nPRIORITY=0\n" == capfd.readouterr().err


def test_absent_service_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without a reader is reported, not ignored."""
    monkeypatch.setitem(log_module._SERVICES, "syslog", (str(tmp_path / "none"), ""))

    with pytest.raises(PyociError, match="cannot open log syslog:x: no such file or directory"):
        Log("syslog:x")


def test_print_data_finishes_partial_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe may take less than was given."""
    written = []
    monkeypatch.setattr(files.posix, "write", lambda _fd, data: written.append(bytes(data[:3])) or len(data[:3]))
    print_data("12345678")

    assert b"12345678" == b"".join(written)


def test_log_with_several_names_is_refused(path: Path) -> None:
    """A user may have linked a file there that only the runtime may write to."""
    target = path.parent / "target"
    target.write_text("untouched")
    os.link(target, path)
    with pytest.raises(PyociError) as caught:
        Log(str(path))
    assert f"cannot open log {path}: it has several names (hard links)" == str(caught.value)
    assert "untouched" == target.read_text()


@pytest.fixture
def full_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A system log that reads nothing, and whose queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "log"))
        monkeypatch.setitem(log_module._SERVICES, "syslog", (str(tmp_path / "log"), "<{code}>{name}: {text}"))
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with filler, contextlib.suppress(BlockingIOError):
            while True:
                filler.sendto(b"full", str(tmp_path / "log"))
        yield listener


def test_log_without_room(full_syslog: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once, and not for ever."""
    monkeypatch.setattr(log_module, "_TIMEOUT", 0.2)
    log = Log("syslog:x", level="warning")
    begin = time.monotonic()
    log.warning("lost")
    assert time.monotonic() - begin >= 0.2
    monkeypatch.setattr(log_module, "_wait_for_room", lambda _, seconds: None if seconds == 0 else pytest.fail("waits"))
    log.warning("lost, too")
    log.close()


def test_log_that_gets_room(full_syslog: socket.socket) -> None:
    """A message waits until the log reads again."""
    log = Log("syslog:x", level="warning")
    reader = threading.Timer(0.1, lambda: full_syslog.recv(100))
    reader.start()
    log.warning("received")
    reader.join()
    log.close()
    full_syslog.setblocking(False)
    heard = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(full_syslog.recv(100))
    assert b"<28>x: received" == heard[-1]
