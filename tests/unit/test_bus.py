"""The systemd driver against a systemd that a test plays: slow, refusing, lying."""

import contextlib
import os
import signal as signal_
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import cgroupfs, systemd, units
from pyoci.cgroups.resources import Write
from pyoci.cgroups.systemd import Unit
from pyoci.container import Container
from pyoci.dbus import connection, wire
from pyoci.dbus.connection import Bus
from pyoci.dbus.wire import Variant
from pyoci.errors import CgroupError
from pyoci.host import processes
from pyoci.kill import kill
from pyoci.record import Record
from tests.support.runtime import wait_for

JOB = "/org/freedesktop/systemd1/job/7"


class Systemd:
    """One connection: `answers` holds, by method, what to do with a call of it; every call is in `calls`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[wire.Message] = []
        self.answers: dict[str, list[object]] = {"Hello": [(":1.9",)], "AddMatch": [()]}
        self.greeting = b"DATA\r\nOK 00112233445566778899aabbccddeeff\r\n"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"unix:path={self.path}"

    def names(self) -> list[str]:
        return [call.fields[wire.MEMBER] for call in self.calls]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for accepted in list(self._connections):
            with contextlib.suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for accepted in self._connections:  # the last of them may have been taken only now
            accepted.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        data = b""
        while b"BEGIN\r\n" not in data:
            more = connection.recv(4096)
            if not more:
                return
            data += more
        assert data.startswith(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        connection.sendall(self.greeting)
        data = data.partition(b"BEGIN\r\n")[2]
        while True:
            while (found := wire.decode(data)) is not None:
                message, size = found
                data = data[size:]
                self.calls.append(message)
                for answer in self.answers.get(message.fields[wire.MEMBER], []):
                    self._answer(connection, message, answer)
            more = connection.recv(4096)
            if not more:
                return
            data += more

    def _answer(self, connection: socket.socket, call: wire.Message, answer: object) -> None:
        if callable(answer):
            answer = answer(call)
        if isinstance(answer, bytes):
            connection.sendall(answer)
        elif isinstance(answer, str):
            fields = {wire.REPLY_SERIAL: call.serial, wire.ERROR_NAME: answer, wire.SENDER: ":1.0"}
            connection.sendall(wire.encode(wire.ERROR, 1, fields, "s", "It is so."))
        elif isinstance(answer, tuple):
            signature = "".join("o" if value.startswith("/") else "s" for value in answer)
            fields = {wire.REPLY_SERIAL: call.serial, wire.SENDER: ":1.0"}
            connection.sendall(wire.encode(wire.RETURN, 1, fields, signature, *answer))


def removed(
    result: str = "done", *, job: str = JOB, sender: str = ":1.0", unit: str = "x-y.scope", **fields: str
) -> bytes:
    return signal(sender, "uoss", 7, job, unit, result, **fields)


def signal(sender: str, signature: str, *body: object, **others: str) -> bytes:
    """JobRemoved, with other header fields or a body that it does not have."""
    fields = {wire.PATH: "/org/freedesktop/systemd1", wire.INTERFACE: systemd.MANAGER, wire.MEMBER: "JobRemoved"}
    fields |= {getattr(wire, name.upper()): value for name, value in others.items()}
    return wire.encode(wire.SIGNAL, 1, {**fields, wire.SENDER: sender}, signature, *body)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "bus")
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a systemd that hangs."""
    monkeypatch.setattr(systemd, "JOB_TIMEOUT", 0.5)


@pytest.fixture
def unit(fake: Systemd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unit]:
    """A unit before its first request, without the parts of the kernel."""
    monkeypatch.setattr(systemd, "path_of", lambda _: "/a.slice/x-y.scope")
    for name in ("_claim", "enable"):
        monkeypatch.setattr(Unit, name, lambda *_: None)
    made = Unit("/nowhere", "/a.slice/x-y.scope", 0, "x-y.scope", fake.address, user=False)
    yield made
    made._disconnect()


def start(unit: Unit) -> None:
    unit.start_transient_unit(42, units.base(units.parse_path("a.slice:x:y", "y", user=False), "y"))
    unit.await_unit(42, [])


def test_a_unit_is_started(fake: Systemd, unit: Unit) -> None:
    """With the process in it; everything that needs no answer goes ahead of it."""
    fake.answers["StartTransientUnit"] = [(JOB,), removed()]

    start(unit)

    assert ["Hello", "AddMatch", "StartTransientUnit"] == fake.names()
    name, mode, properties, others = fake.calls[-1].body
    assert ("x-y.scope", "replace", []) == (name, mode, others)
    assert {"PIDs": [42], "Slice": "a.slice", "Delegate": True}.items() <= {n: v.value for n, v in properties}.items()


def test_a_job_may_be_done_before_the_answer(fake: Systemd, unit: Unit) -> None:
    fake.answers["StartTransientUnit"] = [removed(), (JOB,)]

    start(unit)


LIES = {
    "job": removed(job="/other"),
    "sender": removed(sender=":1.66"),
    "path": removed(path="/other"),
    "interface": removed(interface="org.freedesktop.systemd1.Other"),
    "unit": signal(":1.0", "uoss", 7, JOB, "other.scope", "done"),
    "types": signal(":1.0", "asasasas", [], [JOB], ["x-y.scope"], ["done"]),
    "length": signal(":1.0", "uos", 7, JOB, "x-y.scope"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_only_systemd_ends_a_job(fake: Systemd, unit: Unit, impatient: None, lie: bytes) -> None:
    """Every client on the bus may send signals."""
    fake.answers["StartTransientUnit"] = [(JOB,), lie]

    with pytest.raises(CgroupError, match=r"no answer in 0\.5 s"):
        start(unit)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_what_others_say_changes_nothing(fake: Systemd, unit: Unit, lie: bytes) -> None:
    """Neither ahead of systemd's word nor after it, nor when the unit is stopped."""
    fake.answers["StartTransientUnit"] = [lie, removed(), lie, removed("failed", sender=":1.66"), (JOB,)]
    fake.answers["StopUnit"] = [lie, (f"{JOB}1",), lie, removed(job=f"{JOB}1"), lie]

    start(unit)
    unit.destroy(kill=True)

    assert [] == unit.warnings
    assert "StopUnit" == fake.names()[-1]


def test_a_flood_of_signals_does_not_hide_systemds(fake: Systemd, unit: Unit) -> None:
    """It is kept, whatever other messages came before; of those only a number is kept."""
    flood = b"".join(removed(job=f"/j{n}", sender=":1.66") for n in range(2000))
    fake.answers["StartTransientUnit"] = [
        lambda call: b"".join((flood, answered(call, "o", JOB), removed(), flood[:50000]))
    ]

    start(unit)

    assert len(unit._results) <= 1024


def test_bodies_of_unrequested_messages_are_not_read(
    fake: Systemd, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be large, and of many small values; and come in pieces."""
    read = []
    value = wire._Reader.value
    monkeypatch.setattr(
        wire._Reader, "value", lambda self, type_, *rest: read.append(type_) or value(self, type_, *rest)
    )
    large = signal(":1.66", "a(ybnq)", [(1, True, 2, 3)] * 100_000)
    small = signal(":1.66", "a(ybnq)", [(1, True, 2, 3)] * 1000)
    huge_but_fit = signal(":1.66", "uoss", 7, "/j" + "x" * 200_000, "x-y.scope", "done")
    fake.answers["StartTransientUnit"] = [small, large + small, (JOB,), huge_but_fit, removed()]

    start(unit)

    assert "a(ybnq)" not in read
    assert [(":1.0", JOB)] == list(unit._results)


def test_a_flood_without_an_end_ends_at_the_deadline(fake: Systemd, unit: Unit, impatient: None) -> None:
    flood = removed(job="/other", sender=":1.66") * 500
    stop = time.monotonic() + 60

    def pour(call):
        with contextlib.suppress(OSError):
            while time.monotonic() < stop:
                fake._connections[-1].sendall(flood)
        return b""

    fake.answers["StartTransientUnit"] = [pour]
    before = time.monotonic()

    with pytest.raises(CgroupError, match="no answer in"):
        start(unit)

    assert time.monotonic() - before < 20


def test_the_deadline_holds_while_messages_are_taken(fake: Systemd) -> None:
    """However many have come at once."""
    made = Bus(fake.address, "", "systemd", time.monotonic() + 10)
    made.wait(lambda: made._authenticated)
    made._in, made.deadline = removed() * 3, time.monotonic() - 1

    with pytest.raises(CgroupError, match="no answer in"):
        made._take_all()
    made.close()


@pytest.mark.parametrize("answer", [(), ("x",), (JOB, "x"), lambda call: answered(call, "as", [JOB])])
@pytest.mark.parametrize("method", ["StartTransientUnit", "StopUnit", "GetUnit"])
def test_answers_of_other_types_are_errors(
    fake: Systemd, unit: Unit, method: str, answer: Callable[..., Any] | tuple[str, ...]
) -> None:
    fake.answers["StartTransientUnit"] = [(JOB,), removed()]
    fake.answers[method] = [answer]
    odd = "cannot talk to systemd: its reply has an unexpected type"

    def everything() -> None:
        start(unit)
        unit.destroy(kill=True)
        assert [f"unit x-y.scope may be left behind: {odd}"] == unit.warnings
        unit._control_group()

    if method == "StopUnit":
        fake.answers["GetUnit"] = [(JOB,)]
        fake.answers["Get"] = [lambda call: version(call, "/a")]
        everything()
    else:
        with pytest.raises(CgroupError, match=odd):
            unit._control_group() if method == "GetUnit" else start(unit)


@pytest.mark.parametrize(
    ("signature", "value"), [("", None), ("s", "252"), ("v", wire.Variant("u", 252)), ("v", wire.Variant("as", []))]
)
def test_properties_of_other_types_are_errors(
    fake: Systemd, unit: Unit, signature: str, value: Variant | str | None
) -> None:
    fake.answers["Get"] = [lambda call: answered(call, signature, *([] if value is None else [value]))]

    with pytest.raises(CgroupError, match="its reply has an unexpected type"):
        unit._version()


def answered(call: wire.Message, signature: str, *body: object) -> bytes:
    return wire.encode(wire.RETURN, 1, {wire.REPLY_SERIAL: call.serial, wire.SENDER: ":1.0"}, signature, *body)


@pytest.mark.parametrize("method", ["Hello", "StartTransientUnit", "JobRemoved"])
def test_a_systemd_that_hangs_is_waited_for_no_longer_than_it_may(
    fake: Systemd, unit: Unit, impatient: None, method: str
) -> None:
    """At every step. It does not wait a second time for the unit."""
    fake.answers["StartTransientUnit"] = [(JOB,)] if method == "JobRemoved" else []
    if method == "Hello":
        fake.greeting = b""
    before = time.monotonic()

    with pytest.raises(CgroupError, match=r"cannot talk to systemd: no answer in 0\.5 s"):
        start(unit)
    unit.destroy(kill=True)

    assert 0.4 < time.monotonic() - before < 20


@pytest.mark.parametrize("method", ["StartTransientUnit", "JobRemoved"])
def test_a_unit_that_is_made_too_late_is_stopped(
    fake: Systemd, unit: Unit, impatient: None, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """systemd handles requests in order, so the runtime does not wait again."""
    fake.answers["StartTransientUnit"] = [(JOB,)] if method == "JobRemoved" else []
    with pytest.raises(CgroupError, match="no answer in"):
        start(unit)
    monkeypatch.setattr(systemd, "JOB_TIMEOUT", 60)
    before = time.monotonic()

    unit.destroy(kill=True)

    assert time.monotonic() - before < 20
    wait_for(lambda: "StopUnit" == fake.names()[-1])
    why = "cannot talk to systemd: no answer in 0.5 s (hint: it may be overloaded)"
    assert [f"unit x-y.scope may be left behind: {why}"] == unit.warnings


def test_a_unit_of_another_is_not_stopped_when_systemd_says_nothing(
    fake: Systemd, unit: Unit, impatient: None, tmp_path: Path
) -> None:
    """The process was killed. A process with its pid is another one, and systemd would have rejected the request."""
    (tmp_path / "a.slice/x-y.scope").mkdir(parents=True)
    (tmp_path / "a.slice/x-y.scope/cgroup.events").write_text("populated 1\nfrozen 0\n")
    unit.mount = str(tmp_path)
    with pytest.raises(CgroupError, match="no answer in"):
        start(unit)

    unit.destroy(kill=True)
    time.sleep(0.2)

    assert "StopUnit" not in fake.names()


def test_a_job_that_fails(fake: Systemd, unit: Unit) -> None:
    fake.answers["StartTransientUnit"] = [(JOB,), removed("failed")]

    with pytest.raises(CgroupError) as caught:
        start(unit)

    assert "cannot start unit x-y.scope: the job's result is failed" == caught.value.message
    assert "see `journalctl -u x-y.scope`" == caught.value.hint


def test_a_failed_unit_of_the_name_is_reset_once(fake: Systemd, unit: Unit) -> None:
    answers = iter((systemd.UNIT_EXISTS, (JOB,)))
    fake.answers["StartTransientUnit"] = [lambda _: next(answers), removed()]
    fake.answers["ResetFailedUnit"] = [()]

    start(unit)

    assert ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"] == fake.names()[2:]


def test_a_unit_of_another_is_not_stopped(fake: Systemd, unit: Unit) -> None:
    """It is there still after it was reset: it is in use."""
    fake.answers["StartTransientUnit"] = [systemd.UNIT_EXISTS]
    fake.answers["ResetFailedUnit"] = [systemd.NO_SUCH_UNIT]

    with pytest.raises(CgroupError, match=r"cannot start unit x-y\.scope: It is so"):
        start(unit)
    unit.destroy(kill=True)

    assert 2 == fake.names().count("StartTransientUnit")
    assert "StopUnit" not in fake.names()


@pytest.fixture
def in_cgroup(fake: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A unit of a slice or a scope whose cgroup, a directory, has processes."""
    killed = []
    monkeypatch.setattr(systemd, "path_of", lambda _: "/a.slice/x-y.scope")
    monkeypatch.setattr(Unit, "enable", lambda *_: None)
    monkeypatch.setattr(Unit, "add", lambda *_: None)
    monkeypatch.setattr(cgroupfs.Cgroup, "kill", lambda self, *_: bool(killed.append(self.path)))
    fake.answers["GetUnit"] = [(JOB,)]
    fake.answers["Get"] = [lambda call: answered(call, "v", wire.Variant("s", "/a.slice/x-y.scope"))]

    def make(name, *pids: Any, below=()):
        fake.answers["StartTransientUnit"] = [(JOB,), removed(unit=name)]
        folder = tmp_path / "cgroup/a.slice/x-y.scope"
        for each, inside in ((folder, pids), (folder / "below", below)):
            each.mkdir(parents=True)
            (each / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in inside))
        return Unit(str(tmp_path / "cgroup"), "/a.slice/x-y.scope", 0, name, fake.address, user=False)

    make.killed = killed
    return make


@pytest.mark.parametrize(
    ("name", "pids", "below"), [("x-y.scope", [42, 43], []), ("x-y.scope", [42], [43]), ("x-y.slice", [], [43])]
)
def test_a_cgroup_with_strangers_in_it_is_not_taken(
    fake: Systemd, in_cgroup: Callable[..., Any], name: str, pids: list[int], below: list[int]
) -> None:
    """When create fails, neither pyoci nor systemd kills them."""
    unit = in_cgroup(name, *pids, below=below)

    with pytest.raises(
        CgroupError, match=r"cannot use cgroup /a\.slice/x-y\.scope: the container's cgroup is not empty"
    ):
        start(unit)
    unit.destroy(kill=True)

    assert 0 == unit.inode
    assert [] == in_cgroup.killed
    assert "StopUnit" not in fake.names()


def test_a_cgroup_of_ones_own_is_taken(in_cgroup: Callable[..., Any]) -> None:
    unit = in_cgroup("x-y.scope", 42)

    start(unit)
    unit.close()

    assert os.stat(f"{unit.mount}{unit.path}").st_ino == unit.inode


@pytest.mark.parametrize(
    ("path", "events", "stopped"),
    [
        ("/real.scope", "populated 0\nfrozen 0\n", True),
        ("/real.scope", "populated 1\nfrozen 0\n", False),
        ("/real.scope", "", False),
        ("/elsewhere.scope", "populated 0\nfrozen 0\n", False),
        ("", "populated 0\nfrozen 0\n", False),
    ],
)
def test_a_unit_left_by_a_killed_runtime_is_stopped_if_its_own_cgroup_is_empty(
    fake: Systemd, tmp_path: Path, path: str, events: str, stopped: bool
) -> None:
    """Whether or not a cgroup exists at the guessed path: the unit of that name may belong to another container."""
    for name, content in (("real.scope", events), ("guess.scope", "populated 0\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.events").write_text(content)
    fake.answers["GetUnit"] = [(JOB,)]
    fake.answers["Get"] = [lambda call: version(call, path)]
    fake.answers["StopUnit"] = [(JOB,), removed()]
    for guess in ("/guess.scope", "/none.scope"):
        planned = Unit(str(tmp_path), guess, 0, "x-y.scope", fake.address, user=False)

        Unit.from_dict(planned.to_dict()).destroy(kill=True)

    assert (2 if stopped else 0) == fake.names().count("StopUnit")


def test_a_create_that_fails_elsewhere_stops_the_unit_that_it_has_asked_for(fake: Systemd, unit: Unit) -> None:
    """The answer has not been read yet."""
    fake.answers["StartTransientUnit"] = [(JOB,)]
    fake.answers["StopUnit"] = [(JOB,), removed()]
    unit.start_transient_unit(42, [])
    unit.close()

    unit.destroy(kill=True)

    assert "StopUnit" == fake.names()[-1]
    assert [] == unit.warnings


def test_properties_of_a_later_systemd_are_left_out(fake: Systemd, unit: Unit) -> None:
    """It would refuse the unit as a whole."""
    fake.answers["Get"] = [lambda call: version(call, "252.38-1~deb12u1")]
    fake.answers["StartTransientUnit"] = [(JOB,), removed()]

    unit.start_transient_unit(
        42, [units.Property("OOMPolicy", "s", "kill", since=253), units.Property("CPUWeight", "t", 0, since=252)]
    )
    unit.await_unit(42, [])

    assert ["PIDs", "CPUWeight"] == [name for name, _ in fake.calls[-1].body[2]]


def test_properties_of_a_new_unit_are_not_sent_again(
    fake: Systemd, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd would refuse all the others with it: the file is written, after systemd has written what it knows."""
    applied = []
    monkeypatch.setattr(Unit, "apply", lambda _, writes: applied.append([fake.names()[-1], *(w.file for w in writes)]))
    fake.answers["Get"] = [lambda call: version(call, "262")]
    fake.answers["SetUnitProperties"] = [()]

    unit.notify_manager([Write("memory.oom.group", "1", ""), Write("memory.max", "4096", "")])

    assert [["MemoryMax"]] == [
        [name for name, _ in call.body[2]] for call in fake.calls if call.fields[wire.MEMBER] == "SetUnitProperties"
    ]
    assert [["Get", "memory.oom.group"]] == applied


def test_nothing_to_tell(fake: Systemd, unit: Unit) -> None:
    """systemd is not even asked."""
    unit.notify_manager([Write("memory.oom.group", "1", "")])
    assert "SetUnitProperties" not in fake.names()


def version(call: wire.Message, text: str) -> bytes:
    return answered(call, "v", wire.Variant("s", text))


def test_the_error_of_a_property_leads_to_what_asked_for_it(fake: Systemd, unit: Unit) -> None:
    fields = {wire.ERROR_NAME: "org.freedesktop.DBus.Error.PropertyReadOnly", wire.SENDER: ":1.0"}
    text = "Cannot set property ExecStart, or unknown property."
    fake.answers["StartTransientUnit"] = [
        lambda call: wire.encode(wire.ERROR, 1, {**fields, wire.REPLY_SERIAL: call.serial}, "s", text)
    ]

    unit.start_transient_unit(42, [units.Property("ExecStart", "s", "x", "/annotations/y")])
    with pytest.raises(CgroupError) as caught:
        unit.await_unit(42, [])

    assert "/annotations/y" == caught.value.where
    assert "cannot start unit x-y.scope: Cannot set property ExecStart, or unknown property" == caught.value.message


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (b"REJECTED EXTERNAL\r\n", "it rejects this user"),
        (b"ERROR\r\n", "it rejects this user"),
        (b"x" * 20000, "malformed message: a line is too long"),
        (b"OK x\r\n" + b"z" * 64, "malformed message: unknown endianness or version"),
    ],
)
def test_invalid_bus_is_rejected(fake: Systemd, unit: Unit, greeting: bytes, why: str) -> None:
    fake.greeting = greeting

    with pytest.raises(CgroupError, match=f"cannot talk to systemd: {why}"):
        start(unit)


def test_a_bus_that_hangs_up(fake: Systemd, unit: Unit) -> None:
    fake.answers["StartTransientUnit"] = [lambda _: fake._connections[-1].shutdown(socket.SHUT_RDWR)]

    with pytest.raises(CgroupError, match="cannot talk to systemd: connection reset by peer"):
        start(unit)


def test_systemd_moves_processes_below_where_this_user_may_not(
    fake: Systemd, in_cgroup: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a container that manages its own cgroups, in which the processes are then."""
    unit = in_cgroup("x-y.scope", 42, below=[])
    fake.answers["AttachProcessesToUnit"] = [()]

    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(cgroupfs.Cgroup, "add", refuse)
    below = unit.child("/below")
    assert below.manager_moves_processes
    assert os.fstat(below.dirfd).st_ino == below.inode

    below.add(43)
    below.close()

    assert ["x-y.scope", "/below", [43]] == fake.calls[-1].body
    assert unit._systemd is None


@pytest.mark.parametrize("everyone", [True, False])
def test_kill_reaches_the_process_before_it_is_in_its_cgroup(everyone: bool) -> None:
    """Of a create that was killed while it waited for systemd, the record has nothing but a plan of the cgroup."""
    planned = Unit("/sys/fs/cgroup", "/a.slice/x-y.scope", 0, "x-y.scope", "unix:path=/none", user=False)
    child = subprocess.Popen(["sleep", "100"])
    try:
        record = Record("x", "/x", rootfs="/x", created="", status="created", cgroup=planned.to_dict())
        record.pid, record.start_time = child.pid, processes.start_time(child.pid)
        record.boot_id = processes.boot_id()

        kill(Container(None, record), signal_.SIGTERM, all=everyone)

        assert -signal_.SIGTERM == child.wait(60)
    finally:
        child.kill()
        child.wait()


# --- addresses


def connected(address: str) -> Bus:
    made = Bus(address, "", "systemd", time.monotonic() + 10)
    made.close()
    return made


def test_addresses(tmp_path: Path) -> None:
    """The first that takes us; escapes; paths too long for a socket's address."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    directory = os.open(folder, os.O_RDONLY)
    server = Systemd(Path("/proc/self/fd") / str(directory) / "a b")
    named = folder / ("name" * 40)
    os.rename(folder / "a b", named)
    long = f"{folder}/a%20b"
    (folder / "a b").symlink_to(named)
    try:
        connected(f"unix:path={named}")
        for address in (f"unix:path={long}", f"tcp:host=x;unix:path=/none;unix:path={long},guid=00"):
            connected(address)
    finally:
        server.close()
        os.close(directory)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("unix:path=/none", "there is no such socket"),
        ("tcp:host=localhost,port=1", "protocol not supported"),
        ("unix:abstract=/tmp/x", "protocol not supported"),
        ("unix:path=/%zz", "invalid argument"),
        ("unix:path=/%0", "invalid argument"),
        ("unix:path=/a%00b", "invalid argument"),
        ("", "protocol not supported"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, why: str) -> None:
    with pytest.raises(CgroupError, match=f"cannot connect to systemd at .*: {why}"):
        connected(address)


def test_where_the_user_bus_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the environment says, or beside the user's other sockets: later commands have nothing but XDG_RUNTIME_DIR."""
    environment = {b"DBUS_SESSION_BUS_ADDRESS": b"unix:path=/x", b"XDG_RUNTIME_DIR": b"/run/user/1 2"}
    monkeypatch.setattr("posix.environ", environment)

    assert "unix:path=/x" == connection.user_bus()
    del environment[b"DBUS_SESSION_BUS_ADDRESS"]
    assert "unix:path=/run/user/1%202/bus" == connection.user_bus()
    del environment[b"XDG_RUNTIME_DIR"]
    with pytest.raises(CgroupError, match="neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set"):
        connection.user_bus()
