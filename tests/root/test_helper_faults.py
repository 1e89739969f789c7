"""The helper that is killed, and calls of its start that fail, at every point: one clear line, and nothing is left.

tests/support/faults.c traces a command, and counts the system calls of the runtime or of the helper. No product code
knows of it.
"""

import json
import os
import random
import re
import shutil
import subprocess
from dataclasses import dataclass
from errno import EACCES, EIO, EMFILE, ENOMEM, ENOSPC, ENOSYS, EPERM
from pathlib import Path

import pytest

from pyoci.compiler._syscalls import COLUMNS, NAMES
from tests.support.probe import build
from tests.support.runtime import PATIENCE, Bundle, Runtime

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ANY = -1
SEED = 5736
KILLED = "was killed by signal 9 while it was set up"
CREATE_KILLS, EXEC_KILLS, STEPS = 60, 30, 20  # how many points of each course
FIRST_STEPS = 12_000  # instructions: while the helper receives, checks and begins its plan


@dataclass
class Outcome:
    """What a command with a fault did, and how many calls or instructions there were until then."""

    status: int
    err: str
    count: int


class Faults:
    """Runs commands of one container with a fault."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.tool = build("faults")

    def run(self, who: str, action: str | int, call: int, n: int, *words: object) -> Outcome:
        """Run a command, with the `n`th `call` of the runtime or the helper as the fault."""
        self.runtime.bundle.write()
        counted = self.runtime.folder / "count"
        command = [str(part) for part in (self.tool, who, action, call, n, *self.runtime.command(*words))]
        script = 'exec 9>"$0" && exec "$@"'
        with (self.runtime.folder / "out").open("wb") as out, (self.runtime.folder / "err").open("wb") as err:
            done = subprocess.run(
                ["sh", "-c", script, counted, *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=PATIENCE, check=False,
            )  # fmt: skip
        return Outcome(done.returncode, (self.runtime.folder / "err").read_text(), int(counted.read_text()))

    def create(self, who: str, action: str | int, call: int, n: int) -> Outcome:
        """Create the container, with a fault."""
        words = ("create", "--bundle", self.runtime.bundle.folder, self.runtime.id)
        return self.run(who, action, call, n, *words)

    def execute(self, who: str, action: str | int, call: int, n: int) -> Outcome:
        """Execute a program in the container, with a fault."""
        return self.run(who, action, call, n, "exec", self.runtime.id, "true")

    def assert_clean(self) -> None:
        """A create that failed has left nothing; one that succeeded can be deleted."""
        if (self.runtime.root / self.runtime.id).exists():
            self.runtime.delete("--force")
        self.runtime.host.assert_clean(self.runtime.root)


@pytest.fixture
def faults(runtime: Runtime, bundle: Bundle) -> Faults:
    """Faults of the commands of a container whose program sleeps."""
    bundle.shell("exec sleep 100")
    return Faults(runtime)


def is_one_line(outcome: Outcome) -> bool:
    """Whether the command failed with one line that is a sentence."""
    return outcome.status != 0 and bool(re.fullmatch(r"[^\n]+\n", outcome.err)) and "Traceback" not in outcome.err


def number_of(name: str) -> int:
    """The number of a system call on this machine."""
    return COLUMNS[f"SCMP_ARCH_{os.uname().machine.upper()}"][NAMES.index(name)]


def spread(last: int, count: int) -> list[int]:
    """The first points of a course of `last`, which differ most, and then some at random."""
    first = range(1, min(20, last) + 1)
    rest = range(21, last + 1)
    return [*first, *sorted(random.Random(SEED).sample(rest, min(max(count - 20, 0), len(rest))))]


def test_tool_counts(faults: Faults) -> None:
    """It sees the helper's system calls, and the runtime's."""
    counts = {}
    for who in ("runtime", "helper"):
        outcome = faults.create(who, "count", ANY, 0)
        assert (0, "") == (outcome.status, outcome.err)
        counts[who] = outcome.count
        faults.assert_clean()
    assert counts["runtime"] > 100
    assert counts["helper"] > 100


def test_helper_of_create_is_killed(faults: Faults) -> None:
    """At any system call: the runtime says so, and removes the rest. After the commit, the container has stopped."""
    last = faults.create("helper", "count", ANY, 0).count
    faults.assert_clean()
    committed = 0
    for n in spread(last, CREATE_KILLS):
        outcome = faults.create("helper", "kill", ANY, n)
        if outcome.status:  # 0 at the very beginning: the runtime tries again, as after cgroup.kill
            assert is_one_line(outcome), (n, outcome)
            assert KILLED in outcome.err, (n, outcome)
            assert not (faults.runtime.root / faults.runtime.id).exists(), n
        else:
            committed += 1
            assert faults.runtime.status() in ("created", "stopped"), n  # the command may end before that call
        faults.assert_clean()
    assert committed < 5


def test_helper_of_create_is_killed_at_an_instruction(faults: Faults) -> None:
    """Between system calls, too, such as while it checks its plan."""
    last = faults.create("helper", "step", ANY, 0).count
    faults.assert_clean()
    assert last > FIRST_STEPS
    for n in sorted(random.Random(SEED).sample(range(1, FIRST_STEPS), STEPS)):
        outcome = faults.create("helper", "step", ANY, n)
        assert is_one_line(outcome), (n, outcome)
        assert KILLED in outcome.err, (n, outcome)
        assert not (faults.runtime.root / faults.runtime.id).exists(), n
    faults.assert_clean()


def test_helper_of_exec_is_killed(faults: Faults) -> None:
    """The container goes on, and nothing else runs in it. The engine reaps a program that the helper did not report."""
    faults.runtime.create()
    faults.runtime.start()
    last = faults.execute("helper", "count", ANY, 0).count
    late = range(last - 8, last + 1)  # the helper has made the program: both run, and either may make the nth call
    for n in sorted({*spread(last, EXEC_KILLS), *late}):
        outcome = faults.execute("helper", "kill", ANY, n)
        if outcome.status == 0:
            # At once, it may be a victim of cgroup.kill, and the runtime tries again. At last, it may be the parent of
            # the program, which has only to end.
            assert n < 4 or n in late
        elif (outcome.status, outcome.err) == (128 + 9, ""):  # after its last record it counts as the program
            assert n in late
        else:
            assert is_one_line(outcome), (n, outcome)
            assert "was killed by signal 9" in outcome.err, (n, outcome)
        assert "running" == faults.runtime.status()
        pids = json.loads(faults.runtime("ps", "--format", "json", faults.runtime.id).out)
        assert [faults.runtime.pid()] == pids, n
        assert [] == faults.runtime.host.processes(faults.runtime.pid()), n
    assert 0 == faults.execute("helper", "count", ANY, 0).status
    faults.assert_clean()


def test_helper_is_killed_while_it_waits_for_its_plan(faults: Faults) -> None:
    """For either block, or for more descriptors."""
    call = number_of("recvmsg")
    count = faults.create("helper", "count", call, 0).count
    faults.assert_clean()
    assert count >= 2
    for n in range(1, count + 1):
        outcome = faults.create("helper", "kill", call, n)
        if outcome.status:  # 0 at the very beginning: the runtime tries again
            assert KILLED in outcome.err, (n, outcome)
            assert is_one_line(outcome), (n, outcome)
            assert not (faults.runtime.root / faults.runtime.id).exists(), n
        faults.assert_clean()


def test_namespaces_cannot_be_made(faults: Faults) -> None:
    """The runtime prepares the rest of the plan meanwhile. The error is the helper's, and names the namespaces."""
    outcome = faults.create("helper", ENOSPC, number_of("unshare"), 1)
    assert outcome.status != 0
    assert re.fullmatch(
        r"/linux/namespaces: cannot create the namespaces: [a-z, ]+: unshare: no space left on device\n", outcome.err
    )
    assert not (faults.runtime.root / faults.runtime.id).exists()
    faults.assert_clean()


@pytest.mark.parametrize("command", ["create", "exec"])
def test_helper_start_with_a_failing_call(faults: Faults, command: str) -> None:
    """Each of the first calls, which receive and map the plan, or its first block. It ignores the failure of some."""
    run = faults.create if command == "create" else faults.execute
    if command == "exec":
        faults.runtime.create()
        faults.runtime.start()
    failed = 0
    for n in range(1, 32):
        for error in (EIO, ENOMEM):
            outcome = run("helper", error, ANY, n)
            assert outcome.status == 0 or is_one_line(outcome), (n, error, outcome)
            failed += outcome.status != 0
            if command == "create":
                faults.assert_clean()
            else:
                assert "running" == faults.runtime.status()
    assert failed > 8
    faults.assert_clean()


# What the runtime calls to start the helper and to send it its plan, and errors that these calls may have.
CALLS = {
    "memfd_create": (ENOMEM, EMFILE, ENOSYS, EPERM, EACCES),
    "fchmod": (EIO, EPERM),
    "socketpair": (EMFILE, ENOMEM),
    "clone3": (ENOMEM, ENOSYS, EPERM),
    "sendmsg": (ENOMEM, EPERM),
    "wait4": (EIO,),
}


@pytest.mark.parametrize("name", CALLS)
def test_runtime_with_a_failing_call(faults: Faults, name: str) -> None:
    """Each of them, with each error: one line or another way, and nothing is left."""
    call = number_of(name)
    count = faults.create("runtime", "count", call, 0).count
    faults.assert_clean()
    assert count or name == "wait4"
    for n in range(1, min(count, 6) + 1):
        for error in CALLS[name]:
            outcome = faults.create("runtime", error, call, n)
            assert outcome.status == 0 or is_one_line(outcome), (name, n, error, outcome)
            faults.assert_clean()


def test_every_call_from_the_memfd_to_the_plan_fails(faults: Faults, runtime: Runtime) -> None:
    """mmap, mprotect, write, fcntl and the others between them: one line or another way."""
    strace = shutil.which("strace")
    assert strace, "there is no strace"
    trace = runtime.folder / "trace"
    runtime.bundle.write()
    words = runtime.command("create", "--bundle", runtime.bundle.folder, runtime.id)
    subprocess.run([strace, "-qq", "-o", trace, *words], check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    faults.assert_clean()
    for name, n in calls_between(trace, "memfd_create", "sendmsg"):
        outcome = faults.create("runtime", EIO, number_of(name), n)
        assert outcome.status == 0 or is_one_line(outcome), (name, n, outcome)
        faults.assert_clean()


def calls_between(trace: Path, first: str, last: str) -> list[tuple[str, int]]:
    """The calls of a trace from the first of one name to the last of another, each with its number among its equals."""
    counts: dict[str, int] = {}
    found: list[tuple[str, int]] = []
    for line in trace.read_text(errors="replace").splitlines():
        call = re.match(r"(\w+)\(", line)
        if call:
            counts[call[1]] = counts.get(call[1], 0) + 1
            found.append((call[1], counts[call[1]]))
    begin = [name for name, _ in found].index(first)
    end = max(n for n, (name, _) in enumerate(found) if name == last)
    assert begin < end
    return found[begin : end + 1]
