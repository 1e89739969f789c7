"""Time commands, with bench/timer.c and with hyperfine."""

import json
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Command = Sequence[str]


class FailedCommandError(Exception):
    """A command has failed; the message has what it printed."""


@dataclass(frozen=True)
class Sample:
    """What one or more commands took together."""

    seconds: float
    cpu: float
    resident: int  # KiB: the largest of one process
    faults: int


class Timer:
    """The program bench/timer, which starts the commands and becomes the parent of what they leave."""

    def __init__(self, program: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd="/"
        )

    def run(self, *commands: Command) -> Sample:
        """Start all commands at once and wait for all.

        Raises FailedCommandError.
        """
        self._errors.truncate(0)
        answer = self._ask("run", *(word for command in commands for word in (*command, "")))
        seconds, cpu, resident, faults, failed = answer.split()
        if int(failed):
            self._errors.seek(0)
            printed = self._errors.read().decode(errors="replace").strip()
            raise FailedCommandError(f"{failed} of {len(commands)} failed: {' '.join(commands[0])}: {printed[-2000:]}")
        return Sample(float(seconds), float(cpu), int(resident), int(faults))

    def reap(self, pid: int) -> None:
        """Wait until a container's process has ended and is gone."""
        self._ask("reap", str(pid))

    def close(self) -> None:
        self._process.communicate()
        self._errors.close()

    def _ask(self, *words: str) -> str:
        request = b"".join(word.encode() + b"\0" for word in words)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(struct.pack("=I", len(request)) + request)
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("bench/timer has ended")
        return answer.decode()


def time_with_hyperfine(command: Command, runs: int, prepare: Path | None = None) -> list[float]:
    """The seconds of each run. `prepare` is a script that hyperfine 1 and 2 run before each."""
    with tempfile.NamedTemporaryFile() as export:
        options = ["--style", "none", "--warmup", "1", "--runs", str(runs), "--export-json", export.name]
        options += ["--prepare", str(prepare)] if prepare else []
        done = subprocess.run(
            ["hyperfine", "-N", *options, " ".join(command)], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise FailedCommandError(done.stderr)
        return wall_times(json.load(export))


def wall_times(export: dict[str, Any]) -> list[float]:
    """The seconds of each run in an export: hyperfine 1 has `times`, hyperfine 2 `measurements`."""
    (result,) = export["results"]
    if "measurements" not in result:
        return list(result["times"])
    clocks = [measurement["time_wall_clock"] for measurement in result["measurements"]]
    if {clock["unit"] for clock in clocks} != {"second"}:
        raise ValueError("cannot read hyperfine's export: the unit of time is not the second")
    return [clock["value"] for clock in clocks]
