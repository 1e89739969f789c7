"""The conversation of the runtime with the container's process. An attacker may speak for either."""

import contextlib
import errno
import json
import os
import random
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci import _native
from pyoci.compiler import verbs
from pyoci.compiler.block import encode
from pyoci.compiler.create import compile_container
from pyoci.compiler.exec import ExecTarget, compile_exec
from pyoci.compiler.facts import Host, Options
from pyoci.compiler.operations import Plan
from pyoci.compiler.verbs.numbers import CONSOLE, CREATED, FIRST_SLOT, HOOKS, ID_MAPS, READY
from pyoci.errors import HookError, PyociError, SetupError
from pyoci.host import net_devices, processes
from pyoci.parent import conversation, explain, protocol
from pyoci.parent.conversation import CLONED, EXEC, FAILED, RECORD, SYNC, UNREADABLE, Records
from pyoci.parent.helper import Helper
from pyoci.parent.protocol import Launch
from pyoci.record import Record
from pyoci.start import reports_success

PLANS = Path(__file__).parents[1] / "plans"
HOST = Host("x86_64", "/sys/fs/cgroup", capabilities=(1 << 41) - 1)
SEEDS = range(4)
SEQUENCES = 1000  # for each seed


def container_plan(name):
    config = json.loads((PLANS / f"{name}.json").read_text())
    return config, compile_container(config, HOST, Options("/bundle", "id"))


def exec_plan():
    config = json.loads((PLANS / "terminal.json").read_text())
    target = ExecTarget("id", ["mount", "pid", "user"], {}, None)
    return config, compile_exec(config["process"], target, HOST)


MADE = {
    "container": container_plan("terminal"),
    "hooks": container_plan("hooks"),
    "joined": container_plan("joined"),
    "exec": exec_plan(),
}


# The conversation alone: the runtime does nothing at any point.
OPERATIONS = dict.fromkeys(verbs.PARENT, lambda launch, op: None)

EXEC_OP = verbs.Exec(argv=["sh"], envp=[])


def record(
    kind: int, index: int, step: int = 0, error: int = 0, detail: int = 0, payload: bytes = b"", length=None
) -> bytes:
    return RECORD.pack(kind, index, step, error, len(payload) if length is None else length, detail) + payload


def honest(plan: Plan, cloned: int) -> list[tuple[bytes, int]]:
    """Messages that the child sends for a plan: (message, number of descriptors), …"""
    said = []
    for index, op in enumerate(plan.child()):
        if op.verb == "sync" or op.verb == "open_console":
            said.append((record(SYNC, index, detail=op.point), int(op.point == CONSOLE)))
            if op.point == CREATED:
                break
        elif op.verb == "clone_init":
            said.append((record(CLONED, index, detail=cloned), 0))
        elif op.verb == "exec":
            said.append((record(EXEC, index), 0))
    return said


class Forger:
    """Changes the child's messages in every way that the kernel lets through."""

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)

    def sequence(self, said: list[tuple[bytes, int]], operations: int) -> list[tuple[bytes, int]]:
        said = list(said)
        for _ in range(self.random.randint(0, 3)):
            at = self.random.randrange(len(said) + 1)
            change = self.random.choice(("insert", "drop", "double", "swap", "bytes", "descriptors", "insert", "fail"))
            if change == "insert":
                said.insert(at, (self.any_record(operations), 0))
            elif change == "fail":
                said.insert(at, (self.failure(operations), 0))
            elif at < len(said):
                message, descriptors = said[at]
                if change == "drop":
                    del said[at]
                elif change == "double":
                    said.insert(at, said[at])
                elif change == "swap":
                    other = self.random.randrange(len(said))
                    said[at], said[other] = said[other], said[at]
                elif change == "bytes":
                    said[at] = (self.damaged(message), descriptors)
                else:
                    said[at] = (message, self.random.randint(0, 20))
        return said

    def any_record(self, operations: int) -> bytes:
        numbers = (0, 1, 2, 3, 4, 5, 7, 12, -1, -2, operations - 1, operations, 9999, 2**31 - 1, -(2**31))
        fields = [self.random.choice(numbers) for _ in range(6)]
        payload = self.random.randbytes(self.random.choice((0, 0, 1, 30, 3072, 3073, 9000)))
        if self.random.random() < 0.5:
            fields[4] = len(payload)
        return (
            struct.pack("=IiiiII", fields[0] & 0xFFFFFFFF, *fields[1:4], *(n & 0xFFFFFFFF for n in fields[4:]))
            + payload
        )

    def failure(self, operations: int) -> bytes:
        payload = self.random.choice((b"", b"\xff\0\x1b", b"e x: y\n", self.random.randbytes(100)))
        return record(
            FAILED,
            self.random.randrange(operations),
            self.random.randrange(1, len(_native.STEPS)),
            self.random.choice((0, 1, 2, 11, 12, 22, 38, 4095)),
            self.random.choice((0, 1, 2, 77, 2**31, 2**32 - 1, 1 << 30)),
            payload,
        )

    def damaged(self, message: bytes) -> bytes:
        data = bytearray(message)
        if data:
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        return bytes(data[: self.random.choice((0, 1, 23, len(data), len(data), len(data)))])


@pytest.fixture
def child() -> Iterator[int]:
    process = subprocess.Popen(["/bin/sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def converse(
    plan: Plan,
    config: dict[str, Any],
    said: list[tuple[bytes, int]],
    pid: int,
    monkeypatch: pytest.MonkeyPatch,
    **options: str,
) -> HookError | SetupError | None:
    """Have the runtime hear these messages: None, or what it raises. It leaves no descriptor open."""
    made = protocol.Launch(plan, OPERATIONS, config, "id", **options)
    plan.at, plan.after = {}, {}
    made._channel, theirs = _native.channel()
    made.pid, made.pidfd = pid, os.pidfd_open(pid)
    made._pidfds.append(made.pidfd)
    monkeypatch.setattr(made, "ended", lambda: SetupError("it ended"))
    monkeypatch.setattr(made, "adopt", lambda pid: None)
    monkeypatch.setattr(made, "reap_bootstrap", lambda pid, pidfd: None)
    null = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    peer = socket.socket(fileno=theirs)
    try:
        for message, descriptors in said:
            socket.send_fds(peer, [message], [null] * descriptors)
        peer.shutdown(socket.SHUT_WR)
        made.serve_child()
    except PyociError as error:
        return error
    finally:
        os.close(null)
        peer.close()
        assert [] == made.abort()
    return None


@pytest.mark.parametrize("name", MADE)
def test_honest_conversation(name: str, child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime accepts the child's messages, from the first point to the last."""
    config, plan = MADE[name]
    assert converse(plan, config, honest(plan, child), os.getpid(), monkeypatch) is None


@pytest.mark.parametrize(("name", "accepted"), [("exec", True), ("joined", False)])
def test_cloned_process_overtakes_the_record_of_its_pid(
    name: str, accepted: bool, child: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes send at that moment, unless the cloned one waits for the runtime."""
    config, plan = MADE[name]
    said = honest(plan, child)
    clone = next(n for n, (message, _) in enumerate(said) if RECORD.unpack(message)[0] == CLONED)
    said[clone], said[clone + 1] = said[clone + 1], said[clone]

    error = converse(plan, config, said, os.getpid(), monkeypatch)

    assert accepted == (error is None)


def test_cloned_process_sends_one_record_before_its_pid_comes(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the runtime then, so a second one is not its own."""
    config, plan = MADE["exec"]
    said = honest(plan, child)
    clone = next(n for n, (message, _) in enumerate(said) if RECORD.unpack(message)[0] == CLONED)
    said = [*said[:clone], said[clone + 1], said[clone + 1], *said[clone:]]

    error = converse(plan, config, said, os.getpid(), monkeypatch)

    assert error is not None
    assert "makes no sense: the operation is not one that comes next" in error.message


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MADE)
def test_forged_conversation(name: str, seed: int, child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes, the runtime goes on or ends with one clear error, and keeps no descriptor that came with it."""
    config, plan = MADE[name]
    forger = Forger(f"{name}{seed}")
    said = honest(plan, child)
    before = len(os.listdir("/proc/self/fd"))
    errors = 0
    for _ in range(SEQUENCES // len(MADE)):
        sequence = forger.sequence(said, len(plan.child()))
        with monkeypatch.context() as patch:
            error = converse(plan, config, sequence, os.getpid(), patch)
        assert error is None or str(error), sequence
        errors += error is not None
        assert before == len(os.listdir("/proc/self/fd")), sequence
    assert errors > SEQUENCES // len(MADE) // 4


NONSENSE = {
    "empty": (b"\0", "it is too short"),
    "short": (record(SYNC, 0)[:-1], "it is too short"),
    "length": (record(SYNC, 2, length=5), "its length is wrong"),
    "payload": (record(FAILED, 2, 1, 1, payload=b"x" * 3073), "its length is wrong"),
    "operation": (record(FAILED, 7, 1, 1), "the operation is not one that comes next"),
    "negative": (record(FAILED, -1, 1, 1), "the operation is not one that comes next"),
    "later": (record(SYNC, 4, detail=READY), "the operation is not one that comes next"),
    "step": (record(FAILED, 1, 9999, 1), "this operation can't fail so"),
    "no step": (record(FAILED, 1, 0, 1), "this operation can't fail so"),
    "errno": (record(FAILED, 1, 1, -1), "this operation can't fail so"),
    "point": (record(SYNC, 2, detail=READY), "nothing of its kind comes next"),
    "no point": (record(SYNC, 1, detail=READY), "nothing of its kind comes next"),
    "clone": (record(CLONED, 1, detail=1), "nothing of its kind comes next"),
    "exec": (record(EXEC, 1), "nothing of its kind comes next"),
    "reason": (record(UNREADABLE, 1, 99), "nothing of its kind comes next"),
    "no reason": (record(UNREADABLE, 1, 0), "nothing of its kind comes next"),
    "kind": (record(77, 2), "nothing of its kind comes next"),
    "success with an error": (record(SYNC, 2, 0, 5, detail=HOOKS), "it reports success and an error"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(name: str) -> None:
    """Each field of a record is checked against the plan."""
    said, why = NONSENSE[name]
    mount = verbs.OpenRoot()
    ops = [verbs.CloneInit(signal=9), mount, verbs.Sync(point=HOOKS), mount, verbs.Sync(point=READY), EXEC_OP]
    records = Records(dict(enumerate(ops)))
    records.take(record(CLONED, 0, detail=5))
    with pytest.raises(SetupError) as caught:
        records.take(said)
    assert f"the container's process sent a record that makes no sense: {why}" == caught.value.message


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (record(UNREADABLE, -1, 3, detail=0xFFFFFFFF), "its checksum is wrong"),
        (record(UNREADABLE, 1, 9), "operation 1, chdir: there is no such operation"),
        (record(UNREADABLE, 1, 11, detail=4), "operation 1, chdir, field path: the string is outside the pool"),
        (record(UNREADABLE, 1, 18, detail=24), "operation 1, chdir, field gid: the number is negative"),
        (record(UNREADABLE, 9, 11, detail=4), "the string is outside the pool"),
    ],
)
def test_child_that_cannot_read_its_plan(said: bytes, message: str) -> None:
    """The error names the operation and the field."""
    made, theirs = begun("/bin/sleep", "1000")
    made.plan = Plan()
    made.plan.init = [verbs.OpenRoot(), verbs.Chdir(path="/", uid=0, gid=0), EXEC_OP]
    os.write(theirs, said)
    with pytest.raises(SetupError) as caught:
        made.serve_child()
    os.close(theirs)
    made.abort()
    assert f"cannot read the plan: {message}" == caught.value.message


def test_order() -> None:
    """Each point comes once and in the plan's order; after the word that only execve remains, only a failure comes."""
    hook = verbs.RunHook(path="/h", argv=["h"], envp=[], timeout_ms=0, state=5, add_home=False)
    filter_ = verbs.LoadSeccomp(seccomp_flags=0, quiet=False, filter=None)
    ops = [verbs.Sync(point=ID_MAPS), verbs.OpenRoot(), verbs.Sync(point=READY), filter_, hook, EXEC_OP]
    records = Records(dict(enumerate(ops)))
    first = record(SYNC, 0, detail=ID_MAPS)
    records.take(first)
    for again in (first, record(EXEC, 3)):
        with pytest.raises(SetupError):
            records.take(again)
    records.take(record(SYNC, 2, detail=READY))
    records.take(record(EXEC, 3))
    with pytest.raises(SetupError):
        records.take(record(EXEC, 5))
    assert (FAILED, 5) == records.take(record(FAILED, 5, 39, 2))[:2]


@pytest.mark.parametrize("seed", SEEDS)
def test_forged_results(seed: int) -> None:
    """`start` reads records from a FIFO: whatever is in it, that is a result or one clear error."""
    forger = Forger(seed)
    verbs = {50: "wait_start", 51: "run_hook", 52: "load_seccomp", 53: "exec"}
    rest = {"where": "/hooks/startContainer/0", "s1": "/x", "timeout": 0}
    operations = {n: {"verb": verb, **rest} for n, verb in verbs.items()}
    made = Record("x", "/x", rootfs="/x", created="", cgroup={}, args=["true"], start_operations=operations)
    for _ in range(SEQUENCES):
        parts = forger.sequence([(record(EXEC, 52), 0), (record(FAILED, 53, 39, 2), 0)], 54)
        with contextlib.suppress(PyociError):
            assert reports_success(made, b"".join(message for message, _ in parts)) in (True, False)


@pytest.mark.parametrize("name", MADE)
def test_every_failure_is_explained(name: str) -> None:
    """Whatever numbers and bytes come with a failure, it becomes a sentence."""
    config, plan = MADE[name]
    for op in plan.child():
        for step in range(1, len(_native.STEPS)):
            for detail, payload in ((0, b""), (1, b"\xff\0"), (2**32 - 1, b"e x\n\n"), (1 << 30, b"x" * 3072)):
                assert str(explain.explain(config["process"], op, step, 22, detail, payload))


@pytest.mark.parametrize("process", ["the container's first process", "the process"])
def test_no_room_for_the_process(process: str, child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the process that can't be cloned, and the limits that forbid it."""
    config, plan = MADE["exec"]
    index = [op.verb for op in plan.child()].index("clone_init")
    said = [message for message in honest(plan, child) if RECORD.unpack_from(message[0])[1] < index]
    said.append((record(FAILED, index, _native.STEPS.index("clone"), errno.EAGAIN), 0))
    error = converse(plan, config, said, os.getpid(), monkeypatch, process=process)
    assert f"cannot clone {process}: clone: resource temporarily unavailable" == error.message
    assert (
        "the cgroup, a parent of it or the user has reached a limit of processes: pids.max, RLIMIT_NPROC" == error.hint
    )


def begun(*command: str, **options: str) -> tuple[Launch, int]:
    """A launch whose process is this program, and the process' end of the channel."""
    config, plan = MADE["container"]
    made = protocol.Launch(plan, OPERATIONS, config, "id", **options)
    made.pid = os.posix_spawn(command[0], command, {})
    made._channel, theirs = _native.channel()  # now, because the new process closes what it inherits a little later
    made.pidfd = os.pidfd_open(made.pid)
    made._children.append(made.pid)
    made._pidfds.append(made.pidfd)
    return made, theirs


def test_process_that_is_killed() -> None:
    """The message names exec's process, and guesses at memory."""
    made, theirs = begun("/bin/sleep", "1000", process="the process")
    os.kill(made.pid, signal.SIGKILL)
    os.close(theirs)
    with pytest.raises(SetupError, match=r"^the process was killed by signal 9 while it was set up") as caught:
        made.serve_child()
    assert "out of memory? the limit may be too low" == caught.value.hint
    assert [] == made.abort()


def test_abort_tells_everything_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that its tracer keeps, and a network device: one does not hide the other."""
    made, theirs = begun("/bin/sleep", "1000")
    os.close(theirs)
    monkeypatch.setattr(processes, "reap", lambda pid, seconds: None)
    monkeypatch.setattr(net_devices, "bring_back", lambda moved, network: ["cannot bring eth0 back"])
    made.moved_devices = [{}]
    assert [f"process {made.pid} stays until its tracer ends", "cannot bring eth0 back"] == made.abort()
    os.waitpid(made.pid, 0)


@pytest.mark.parametrize("when", ["it has read everything", "a block is unread", "the rest is on its way"])
def test_process_that_fails_before_the_rest_of_its_plan(when: str) -> None:
    """The error is what the process reports, although the runtime sends it more, or is about to."""
    made, theirs = begun("/bin/sleep", "1000")
    made.plan = Plan()
    made.plan.init = [verbs.Unshare(kinds="network", types=0), verbs.ReceivePlan(), EXEC_OP]
    made._blocks = made.plan.blocks()
    made._send_block()
    peer = socket.socket(fileno=theirs)
    if when == "it has read everything":
        _, descriptors, _, _ = socket.recv_fds(peer, 64, 4)
        os.close(descriptors[0])
    proceed = made.send_plan
    if when == "the rest is on its way":
        made.send_plan()
        proceed = made.serve_child
    peer.send(record(FAILED, 0, _native.STEPS.index("unshare"), errno.ENOSPC))
    peer.close()
    with pytest.raises(SetupError, match="cannot create the namespaces: network: unshare: no space left on device"):
        proceed()
    assert [] == made.abort()


def test_process_that_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that closes its end of the channel and lives on is killed."""
    monkeypatch.setattr(protocol, "_EXIT_TIMEOUT", 0.1)
    made, theirs = begun("/bin/sleep", "1000")
    os.close(theirs)
    with pytest.raises(SetupError, match="sent a record that makes no sense: it has hung up"):
        made.serve_child()
    assert [] == made.abort()
    with pytest.raises(ChildProcessError):
        os.waitpid(made.pid, 0)


def test_forged_answers() -> None:
    """The child goes on only after the runtime's own answer; any other message ends it."""
    generator = random.Random(1)
    block = encode([verbs.Sync(point=point) for point in (ID_MAPS, HOOKS, READY)])
    helper = Helper()
    for _ in range(200):
        answers = [generator.choice((b"\1", b"\1", b"\1", b"\0", b"\2", b"\xff", b"\1\1", b"x" * 9)) for _ in range(3)]
        ours, theirs = _native.channel()
        peer = socket.socket(fileno=ours)
        pid, pidfd = helper.start(theirs, 0)
        os.close(theirs)
        _native.send_plan(ours, block, [-1] * FIRST_SLOT)
        for answer in answers:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(peer, [answer], [1] * generator.choice((0, 0, 1, 3)))
        assert processes.wait_ended(pidfd, 60)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        good = all(answer[:1] == b"\1" for answer in answers)
        assert (0 if good else 1) == os.waitstatus_to_exitcode(status), answers
        peer.close()


def test_records_are_bounded() -> None:
    """The largest record fits into what the runtime receives at once."""
    assert RECORD.size + conversation.MAX_PAYLOAD < 8192


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, {"moved": 1}, {"moved": ["x"]}, {"moved": None}, {"error": 1}, {"error": {"message": "x"}},
        {"error": {"message": 1, "where": "", "hint": ""}}, {"warnings": []},
    ],
)  # fmt: skip
def test_answer_of_the_mover_of_network_devices(
    answer: dict[str, Any] | list[Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer without its parts is an error, not an accident."""
    monkeypatch.setattr(net_devices, "_run", lambda fds: os.write(fds[1], json.dumps(answer).encode()) * 0)
    with pytest.raises(SetupError, match="the mover gave no answer"):
        net_devices.move([], -1)
