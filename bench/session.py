"""What the parts of the measurement share: the containers' life, interleaving, and cleaning up."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.runtimes import CGROUPS, PEERS, Floor, Host, Runtime, find_runtimes
from bench.timing import FailedCommandError, Sample, Timer

OPERATIONS = ("create", "start", "state", "exec", "kill", "delete")
LIFE = ("create", "start", "delete")  # an engine waits for their sum
TIMEOUT = 60.0
SETTLE = 0.005
OWN = ("floor", "floor-kept", "pyoci")
MIN_ROUNDS = 3  # of a series that exceeds its time limit

Times = dict[str, dict[str, list[int]]]  # operation: runtime: microseconds


@dataclass
class Options:
    """What bench/bench passes on."""

    pyoci: str
    tools: str  # the directory of floor and timer
    config: str  # the path of a config.json with placeholders
    peers: tuple[str, ...] = PEERS
    rounds: int = 60
    seconds: float = 20.0
    realtime: bool = False
    containers: int = 1000
    mounts: tuple[int, ...] = (0, 1000, 3000)

    @classmethod
    def parse(cls, text: str) -> "Options":
        values = json.loads(text)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


class Session:
    """The timer and the runtimes of one part."""

    def __init__(self, options: Options, host: Host, timer: Timer) -> None:
        self.options = options
        self.host = host
        self.timer = timer
        found = find_runtimes(host, options.pyoci, Path(options.tools), options.peers)
        self.runtimes = {name: runtime for name, runtime in found.items() if self._can_run(runtime)}

    def _can_run(self, runtime: Runtime) -> bool:
        """An old runtime may reject the config."""
        try:
            self.timer.run(runtime.run("one"))
        except FailedCommandError as error:
            self.clear(runtime, ["one"])
            if runtime.name in OWN:
                raise
            warn(f"skip {runtime.name}: {error}")
            return False
        return True

    def skip(self, name: str, error: FailedCommandError) -> None:
        """Measure on without a runtime that has failed. Raises the error if the runtime is ours."""
        if name in OWN:
            raise error
        warn(f"skip {name}: {error}")
        del self.runtimes[name]

    @property
    def floor(self) -> str:
        return f"{self.options.tools}/floor"

    def add_kept_floor(self) -> None:
        """Also measure the floor whose child enters a small mount namespace first.

        Linux 6.18 takes the numbers of namespaces from a batch for each processor. It refuses to bind a namespace to a
        file if the number is lower than that of its maker's. So try each processor.
        """
        kept = self.host.directory / "kept"
        kept.touch()
        processors = subprocess.check_output(["nproc"], text=True)
        for processor in range(int(processors)):
            keep = ["taskset", "-c", str(processor), self.floor, "keep", str(kept)]
            if subprocess.run(keep, stderr=subprocess.DEVNULL).returncode == 0:
                runtimes = list(self.runtimes.items())
                runtimes.insert(1, ("floor-kept", Floor("floor-kept", self.floor, self.host, kept)))
                self.runtimes = dict(runtimes)
                return
        warn("cannot keep a mount namespace: skip that floor")

    def repeat(self, rounds: int, measure: Callable[[Runtime], dict[str, Sample]], what: str) -> "Series":
        """Measure all runtimes in turn, each round in another order. The first round is not counted.

        After the time limit of the options, no further round begins. A runtime of others that fails is left out from
        then on.
        """
        series = Series(list(self.runtimes))
        end = time.monotonic() + self.options.seconds
        for number in range(rounds + 1):
            if number > MIN_ROUNDS and time.monotonic() > end:
                break
            note(f"{what}: round {number}/{rounds}")
            for name in turn(list(self.runtimes), number):
                try:
                    samples = self._attempt(self.runtimes[name], measure)
                except FailedCommandError as error:
                    self.skip(name, error)
                    series.drop(name)
                    continue
                if number:
                    series.add(name, samples)
        note("")
        return series

    def _attempt(self, runtime: Runtime, measure: Callable[[Runtime], dict[str, Sample]]) -> dict[str, Sample]:
        """Sometimes runc finds its cgroup busy, so try twice."""
        for remaining in (1, 0):
            try:
                return measure(runtime)
            except FailedCommandError as error:
                self.clear(runtime, ["one", "two"])
                if not remaining:
                    raise
                warn(str(error))
        raise AssertionError

    def live(self, runtime: Runtime) -> dict[str, Sample]:
        """Run /bin/true. Then take a container from create to delete, with each other command once in between."""
        run = self.timer.run
        settle()
        samples = {"run": run(runtime.run("one"))}
        settle()
        samples["create"] = run(runtime.create("two"))
        pid = self.pid(runtime, "two")
        samples["start"] = run(runtime.start("two"))
        samples["state"] = run(runtime.state("two"))
        samples["exec"] = run(runtime.exec("two"))
        samples["kill"] = run(runtime.kill("two"))
        self.timer.reap(pid)
        samples["delete"] = run(runtime.delete("two"))
        return samples

    def pid(self, runtime: Runtime, id: str) -> int:
        return int(json.loads(subprocess.check_output(runtime.state(id)))["pid"])

    def clear(self, runtime: Runtime, ids: list[str]) -> None:
        """Remove containers whatever state they are in."""
        if not self.host.systemd:
            end_processes([runtime.cgroup(id) for id in ids])
        for id in ids:
            command = runtime.command("delete", "--force", id)
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with suppress(OSError):
                runtime.cgroup(id).rmdir()


class Series:
    """The samples of all runtimes, by operation."""

    def __init__(self, runtimes: list[str]) -> None:
        self._runtimes = runtimes
        self._samples: dict[str, dict[str, list[Sample]]] = {}

    def add(self, runtime: str, samples: dict[str, Sample]) -> None:
        for operation, sample in samples.items():
            self._samples.setdefault(operation, {name: [] for name in self._runtimes})[runtime].append(sample)

    def drop(self, runtime: str) -> None:
        """Forget a runtime, because its samples are not complete."""
        self._runtimes.remove(runtime)
        for by_name in self._samples.values():
            by_name.pop(runtime, None)

    @property
    def times(self) -> Times:
        """Microseconds. A life is the sum of its parts in one round."""
        times = {
            operation: {name: [round(sample.seconds * 1e6) for sample in samples] for name, samples in by_name.items()}
            for operation, by_name in self._samples.items()
        }
        if all(part in times for part in LIFE):
            times["life"] = {
                name: [sum(parts) for parts in zip(*(times[part][name] for part in LIFE), strict=True)]
                for name in self._runtimes
            }
        return times

    def resident(self, operation: str) -> dict[str, int]:
        """The largest resident set of one process, in KiB."""
        return {name: max(sample.resident for sample in samples) for name, samples in self._samples[operation].items()}


@contextmanager
def session(options: Options, **of_host: Any) -> Iterator[Session]:
    """A session in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="pyoci-bench.", ignore_cleanup_errors=True) as directory:
        timer = Timer(Path(options.tools) / "timer")
        host = Host(Path(directory), Path(options.config).read_text(), **of_host)
        try:
            yield Session(options, host, timer)
        finally:
            timer.close()
            remove_cgroups(Path(CGROUPS).glob(f"{host.prefix}-*"))
            if (kept := Path(directory) / "kept").exists():  # else the directory would stay
                subprocess.run(["umount", kept], stderr=subprocess.DEVNULL)


def turn(names: list[str], number: int) -> list[str]:
    """The order in a round. Over the rounds, each is first equally often."""
    first = number % len(names)
    return names[first:] + names[:first]


def settle() -> None:
    """Wait until the kernel has removed the network namespace before, because it makes a new one only then."""
    time.sleep(SETTLE)


def end_processes(cgroups: list[Path]) -> None:
    """Kill all processes of cgroups, and wait until the cgroups are empty."""
    cgroups = [cgroup for cgroup in cgroups if cgroup.exists()]
    for cgroup in cgroups:
        with suppress(FileNotFoundError):
            (cgroup / "cgroup.kill").write_text("1")
    end = time.monotonic() + TIMEOUT
    for cgroup in cgroups:
        while has_processes(cgroup):
            if time.monotonic() > end:
                raise TimeoutError(f"processes in {cgroup} do not end")
            time.sleep(0.001)


def remove_cgroups(cgroups: Iterable[Path]) -> None:
    """Kill the processes of cgroups that have no children, and remove the cgroups."""
    found = [cgroup for cgroup in cgroups if cgroup.exists()]
    end_processes(found)
    for cgroup in found:
        cgroup.rmdir()


def has_processes(cgroup: Path) -> bool:
    """Whether a cgroup has processes. It may be gone: a `run` that waits removes it."""
    try:
        return "populated 1" in (cgroup / "cgroup.events").read_text()
    except OSError:
        return False


def note(text: str) -> None:
    """Show progress on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="" if text else "\r", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)
