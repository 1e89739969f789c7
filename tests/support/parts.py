"""Run all tests, several parts at a time, and print the result and the time of each.

    python -m tests.support.parts [STEP=SECONDS...]

A part is one run of pytest. The tests of the host take turns, because each of them looks at the whole host for what it
has left behind. The others run in machines of their own, beside them. The output of a part that fails is printed whole;
that of each part is in build/tests. `STEP=SECONDS` are lines for the table: what came before.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.times import table

CHECKOUT = Path(__file__).resolve().parents[2]
LOGS = CHECKOUT / "build/tests"
# Keep the directories of failed tests only: those of all tests take 5 GB. Debian 12's pytest lacks this key.
ONLY_FAILED = ("-o", "tmp_path_retention_policy=failed")


@dataclass
class Part:
    """One run of pytest: its name, its arguments, and its result."""

    name: str
    arguments: Sequence[str]
    status: int | None = None  # None: it did not end
    seconds: float = 0.0
    output: str = ""
    tests: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.status == 0

    def summary(self) -> str:
        """The last line of its output: how many tests passed."""
        lines = self.output.split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        return last.strip("= ")


# These take turns, because they look at the whole host.
HOST = [Part(name, [f"tests/{name}"]) for name in ("unit", "native", "api", "root", "packages")]
# These run in VMs, or only look at what has their own names. Those that take longest come first.
TWO_ENGINES = "docker or containerd"
MACHINES = [
    Part("engines: docker, containerd", ["tests/engines", "-k", TWO_ENGINES]),
    Part("conformance", ["tests/conformance"]),
    Part("vm", ["tests/vm"]),
    Part("engines: podman, buildah", ["tests/engines", "-k", f"not ({TWO_ENGINES})"]),
]


class Runner:
    """Runs parts in lanes: each lane takes the next part of its queue when it has finished one."""

    def __init__(self, host: Sequence[Part], machines: Sequence[Part], lanes: int) -> None:
        self._queues = [list(host), list(machines)]
        self._lanes = max(2, lanes)
        self._parts = [*host, *machines]
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._folder = Path(tempfile.mkdtemp(prefix="pytest-"))
        self._folder.chmod(0o711)  # users of containers get through to the root filesystems
        self._width = max(len(part.name) for part in self._parts)

    def run(self) -> bool:
        """Run every part; whether all passed."""
        LOGS.mkdir(parents=True, exist_ok=True)
        threads = [threading.Thread(target=self._lane, args=(number,)) for number in range(self._lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = all(part.passed for part in self._parts)
        if passed:  # what a failed test left helps to explain it
            shutil.rmtree(self._folder, ignore_errors=True)
        return passed

    def stop(self) -> None:
        """Interrupt each pytest and its machines, once: a second signal would end the cleanup of pytest."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)

    def _lane(self, number: int) -> None:
        """Only the first lane takes the host's tests, and it runs them first."""
        queues = self._queues if number == 0 else self._queues[1:]
        for queue in queues:
            while (part := self._next(queue)) is not None:
                self._run(part)

    def _next(self, queue: list[Part]) -> Part | None:
        with self._lock:
            return queue.pop(0) if queue and not self._stopped else None

    def _run(self, part: Part) -> None:
        name = part.name.replace(": ", "-").replace(", ", "-")
        log, times = LOGS / f"{name}.log", LOGS / f"{name}.json"
        times.unlink(missing_ok=True)
        began = time.monotonic()
        with log.open("wb") as output:
            with self._lock:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "pytest",
                        f"--basetemp={self._folder / name}",
                        *ONLY_FAILED,
                        *part.arguments,
                    ],
                    cwd=CHECKOUT,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    env={**os.environ, "PYOCI_TIMES": str(times)},
                )
                self._running.add(process)
            part.status = process.wait()
        with self._lock:
            self._running.discard(process)
            part.seconds = time.monotonic() - began
            part.output = log.read_text(errors="backslashreplace")
            part.tests = json.loads(times.read_text()) if times.exists() else {}
            if part.passed:
                print(f"  {part.name:<{self._width}}  ok      {part.seconds:5.0f} s  {part.summary()}", flush=True)
            else:
                print(f"  {part.name:<{self._width}}  FAILED  {part.seconds:5.0f} s\n\n{part.output}", flush=True)


def report(steps: dict[str, float], parts: Sequence[Part], seconds: float) -> None:
    """Print how long everything took, and which parts failed."""
    times = {**steps, **{f"tests: {part.name}": part.seconds for part in parts}}
    times |= {"all tests, side by side": seconds, "everything": seconds + sum(steps.values())}
    tests = {nodeid: taken for part in parts for nodeid, taken in part.tests.items()}
    print("\nHow long it took", *table(times, tests), sep="\n")
    if failed := [part.name for part in parts if not part.passed]:
        print(f"\nFAILED: {', '.join(failed)}")


def main(words: Sequence[str]) -> int:
    """Run all parts; `words` are the steps that ran before, as STEP=SECONDS."""
    steps = {name: float(seconds) for name, _, seconds in (word.rpartition("=") for word in words)}
    began = time.monotonic()
    runner = Runner(HOST, MACHINES, lanes=len(os.sched_getaffinity(0)) + 1)

    def interrupted(_number: int, _frame: object) -> None:
        threading.Thread(target=runner.stop).start()  # the handler may hold the lock already

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupted)
    passed = runner.run()
    report(steps, [*HOST, *MACHINES], time.monotonic() - began)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
