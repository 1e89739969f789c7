"""Runs cases: each in a process and a mount namespace of its own, some at a time, and cleans up after each.

A case is a function in one of the modules of `cases/`: its name begins with the id of the row it judges (`MNT_10`,
`MNT_10_without_mappings`), its docstring says the requirement in a sentence, and it gets a `Trial`. It asks for as much
as its row does, unless it is marked to ask for more or less (`must`, `should`).
"""

import ctypes
import importlib
import json
import os
import pkgutil
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import cases, host
from conformance.output import Failure
from conformance.rows import ROWS, SINCE
from conformance.runtime import Runtime, descendants, end_children, kill_cgroup, leftover_cgroups
from conformance.trial import SEMVER, Trial

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
TIME = 90 * float(os.environ.get("CONFORMANCE_SLOWNESS", "1"))  # seconds for one case, cleaning up included

PASS, FAIL, UNMET, MISSING, ERROR = "pass", "fail", "unmet", "missing", "error"


class Case:
    """One test of one row."""

    def __init__(self, function: "Callable[[Trial], None]") -> None:
        self.name = function.__name__
        self.row = "-".join(self.name.split("_")[:2])
        self.sentence = " ".join((function.__doc__ or "").split())
        self.function = function
        self.level: str = getattr(function, "level", ROWS[self.row].level if self.row in ROWS else "?")


class Result:
    """How a case ended: `outcome` (pass, fail, unmet, missing, error), why, and after how many seconds; and what the
    runtime left behind when it refused what it had to refuse.
    """

    def __init__(self, case: Case, outcome: str, message: str, seconds: float, left_behind: str = "") -> None:
        self.case = case
        self.outcome = outcome
        self.left_behind = left_behind
        self.message = message
        self.seconds = seconds

    def to_dicts(self) -> "list[dict[str, Any]]":
        """The report: the case, and one more of ERR-01 if something was left behind."""
        if not self.left_behind:
            return [self.to_dict()]
        more = {
            "row": "ERR-01",
            "level": ROWS["ERR-01"].level,
            "name": f"ERR_01_in_{self.case.name}",
            "sentence": "What fails leaves nothing behind.",
            "outcome": FAIL,
            "message": self.left_behind,
            "seconds": 0,
        }
        return [self.to_dict(), more]

    def to_dict(self) -> "dict[str, Any]":
        return {
            "row": self.case.row,
            "level": self.case.level,
            "name": self.case.name,
            "sentence": self.case.sentence,
            "outcome": self.outcome,
            "message": self.message,
            "seconds": round(self.seconds, 3),
        }


def collect(wanted: "list[str]" = ()) -> "list[Case]":
    """Every case whose row or name is, or begins with, one of `wanted`; all if there is none. In the order of
    the rows.
    """
    found = []
    for module in pkgutil.iter_modules(cases.__path__):
        loaded = importlib.import_module(f"conformance.cases.{module.name}")
        for name, value in vars(loaded).items():
            if "_" in name and name[:2].isupper() and callable(value) and value.__module__ == loaded.__name__:
                found.append(Case(value))
    order = {row: number for number, row in enumerate(ROWS)}
    unknown = [case.name for case in found if case.row not in order]
    if unknown:
        raise ValueError(f"cases of rows that do not exist: {', '.join(unknown)}")
    found.sort(key=lambda case: order[case.row])
    return [case for case in found if not wanted or any(is_wanted(case, word) for word in wanted)]


def is_wanted(case: Case, word: str) -> bool:
    """`MNT`, `MNT-10`, `MNT_10_without_mappings`."""
    return word in (case.row, case.name) or case.row.startswith(f"{word}-")


def build_probe(folder: Path) -> Path:
    """Compile the program for the inside of containers: static, so that a root filesystem needs nothing else."""
    program = folder / "probe"
    command = [os.environ.get("CC", "cc"), "-static", "-Os", "-o", str(program), str(HERE / "probe.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"cannot build the probe: {done.stderr[-2000:]}")
    return program


def run(
    command_line: str, wanted: "list[Case]", jobs: int, tell: "Callable[[Result], None]" = lambda result: None
) -> "list[Result]":
    """Judge one runtime; results in the order of `wanted`. `tell` hears of each as it comes."""
    adopt_orphans()
    base = Path(tempfile.mkdtemp(prefix="conformance-"))
    base.chmod(0o711)
    results: dict[str, Result] = {}
    try:
        probe = build_probe(base)
        host.syscalls()  # asked of the compiler once, for all cases
        document = features(command_line)
        waiting = list(reversed(wanted))
        running: dict[int, Worker] = {}
        with selectors.DefaultSelector() as selector:
            while waiting or running:
                while waiting and len(running) < jobs:
                    worker = Worker(waiting.pop(), command_line, base, probe, document)
                    running[worker.fd] = worker
                    selector.register(worker.fd, selectors.EVENT_READ)
                for key, _ in selector.select(0.2):
                    running[key.fd].read()
                for fd, worker in list(running.items()):
                    result = worker.ended()
                    if result:
                        selector.unregister(fd)
                        del running[fd]
                        worker.close()
                        results[worker.case.name] = result
                        tell(result)
    finally:
        end_children()
        shutil.rmtree(base, ignore_errors=True)
    return [results[case.name] for case in wanted]


def features(command_line: str) -> "dict[str, Any]":
    """The runtime's `features`; empty if it has none, which is allowed."""
    try:
        return Runtime(command_line, Path("/nonexistent"), "").features()
    except (Failure, host.Missing, OSError):
        return {}


def newest(document: "dict[str, Any]") -> "tuple[int, ...] | None":
    """The newest version of the specification that the runtime says it implements; None if it does not."""
    match = SEMVER.fullmatch(str(document.get("ociVersionMax")))
    return tuple(int(number) for number in match.group(1, 2, 3)) if match else None


def adopt_orphans() -> None:
    """What a runtime leaves becomes our child: a container's first process, or what should not be there."""
    host.LIBC.prctl(host.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Worker:
    """A process that runs one case."""

    def __init__(self, case: Case, command_line: str, base: Path, probe: Path, document: "dict[str, Any]") -> None:
        self.case = case
        self.claimed = newest(document)
        self.started = time.monotonic()
        self.folder = base / case.name
        self._data = b""
        self._closed = False
        self.fd, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.fd)
            code = 70
            try:
                told = json.dumps(judge(case, command_line, self.folder, probe, document))
                with open(write, "wb") as pipe:
                    pipe.write(told.encode())
                code = 0
            finally:
                os._exit(code)
        os.close(write)

    def read(self) -> None:
        part = os.read(self.fd, 65536)
        self._data += part
        self._closed = self._closed or not part

    def ended(self) -> "Result | None":
        seconds = time.monotonic() - self.started
        if not self._closed:
            if seconds < TIME:
                return None
            self._kill()
            return Result(self.case, ERROR, f"did not end within {TIME:.0f} s", seconds)
        os.waitpid(self.pid, 0)
        if not self._data:
            return Result(self.case, ERROR, "the suite's own process died", seconds)
        outcome, message, left_behind = json.loads(self._data)
        if (
            outcome == FAIL
            and self.claimed
            and self.claimed < SINCE.get(self.case.name, SINCE.get(self.case.row, (1, 0, 0)))
        ):
            # what it fails to do is an unknown property to it, which it has to ignore
            outcome, message = (
                MISSING,
                f"the runtime claims version {'.'.join(map(str, self.claimed))} alone: {message}",
            )
        if outcome == FAIL and self.case.level.startswith("S"):
            outcome = UNMET
        return Result(self.case, outcome, message, seconds, left_behind)

    def _kill(self) -> None:
        """The case and all that it made, which is ours as soon as its own parent is gone."""
        pids = descendants(self.pid)
        for pid in (self.pid, *pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.waitpid(self.pid, 0)
        for path in leftover_cgroups(prefix_of(self.case, self.pid)):
            kill_cgroup(path)

    def close(self) -> None:
        os.close(self.fd)
        shutil.rmtree(self.folder, ignore_errors=True)


def prefix_of(case: Case, pid: int) -> str:
    """What all names begin with that a case, run by this process, gives to containers and cgroups."""
    return f"conf-{case.name.lower().replace('_', '-')}-{pid}"


def judge(
    case: Case, command_line: str, folder: Path, probe: Path, document: "dict[str, Any]"
) -> "tuple[str, str, str]":
    """Run a case in this process: (outcome, message, what was left behind)."""
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    host.unshare(host.CLONE_NEWNS)
    host.mount("none", "/", "", host.MS_REC | host.MS_PRIVATE)
    folder.mkdir(mode=0o711)
    # a mount of its own, so that a case can make it shared
    host.mount(str(folder), folder, "", host.MS_BIND)
    trial = Trial(command_line, folder, probe, prefix_of(case, os.getpid()), document)
    outcome, message = PASS, ""
    try:
        case.function(trial)
    except Failure as failure:
        outcome, message = FAIL, str(failure)
    except host.Missing as missing:
        outcome, message = MISSING, str(missing)
    except Exception:  # noqa: BLE001 - whatever it is, it is reported
        outcome, message = ERROR, traceback.format_exc(limit=-4)
    finally:
        trial.runtime.clean_up()
        ctypes.CDLL(None).umount2(os.fsencode(str(folder)), host.MNT_DETACH)
    left_behind = "; ".join(dict.fromkeys(trial.left_behind))
    if case.row == "ERR-01" and outcome == PASS and left_behind:
        return FAIL, left_behind, ""
    return outcome, message, left_behind
