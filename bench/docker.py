"""Docker's own time: `docker run --rm`, and the processors' time of health checks."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.runtimes import find_peers
from bench.session import MIN_ROUNDS, Options, note, turn, warn
from bench.timing import Timer
from tests.support.docker import Docker

CPU = Path("/sys/fs/cgroup/cpu.stat")  # the machine has a cgroup of its own
INTERVAL = "200ms"
SLICE = 3.0  # seconds
SLICES = 2


def measure(options: Options) -> dict[str, Any]:
    """Runs inside tests/engines/machine."""
    peers = find_peers(Path(options.tools), options.peers)
    names = ["pyoci", *peers]
    added = [f"--add-runtime={name}={path}" for name, path in peers.items() if name != "runc"]
    tables = subprocess.run(["iptables", "--table", "nat", "--list"], capture_output=True).returncode == 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        docker = Docker(
            Path(directory), "pyoci", *added, *([] if tables else ["--iptables=false", "--ip6tables=false"])
        )
        timer = Timer(Path(options.tools) / "timer")
        try:
            docker.import_busybox()
            names = [name for name in names if can_run(docker, name)]
            runs = time_runs(docker, timer, names, max(1, options.rounds // 3), options.seconds)
            checks = time_checks(docker, names, SLICES if options.rounds > 1 else 1)
            version = subprocess.check_output(["dockerd", "--version"], text=True).strip()
        finally:
            timer.close()
            docker.stop()
    return {"run": runs, "check": checks, "version": version}


def can_run(docker: Docker, name: str) -> bool:
    """Whether Docker runs a container with this runtime.

    Docker sends an empty `blockIO`, for which crun needs the io controller.
    """
    done = docker.run("run", "--rm", "--runtime", name, "busybox", "/bin/true")
    if done.returncode:
        warn(f"skip {name}: {done.stderr.strip()}")
    return done.returncode == 0


def time_runs(docker: Docker, timer: Timer, names: list[str], rounds: int, seconds: float) -> dict[str, list[int]]:
    """Microseconds of each `docker run --rm`. After these `seconds`, no further round begins."""
    times: dict[str, list[int]] = {name: [] for name in names}
    program = str(shutil.which("docker"))
    end = time.monotonic() + seconds
    for number in range(rounds + 1):
        if number > MIN_ROUNDS and time.monotonic() > end:
            break
        note(f"docker run: round {number}/{rounds}")
        for name in turn(names, number):
            _, *words = docker.command("run", "--rm", "--runtime", name, "busybox", "/bin/true")
            sample = timer.run([program, *words])
            if number:
                times[name].append(round(sample.seconds * 1e6))
    return times


def time_checks(docker: Docker, names: list[str], slices: int) -> dict[str, list[float]]:
    """The processors' seconds of one health check, in each slice of time.

    Counts all processes of the machine, and subtracts what they use without health checks.
    """
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(slices):
        for name in turn(names, number):
            note(f"health checks: {number + 1}/{slices}: {name}")
            idle, _ = watch(docker, name, None)
            used, checks = watch(docker, name, INTERVAL)
            if not checks:
                warn(f"no health check of {name} ran")
                continue
            seconds[name].append(round((used - idle) / checks, 5))
    return seconds


def watch(docker: Docker, name: str, interval: str | None) -> tuple[float, int]:
    """The processors' seconds in one slice, and how many health checks ended in it."""
    health = ["--health-cmd", "echo >>/checks", "--health-interval", interval] if interval else []
    id = docker.run("run", "--detach", "--runtime", name, *health, "busybox", "sleep", "1000").stdout.strip()
    try:
        checks = Path(f"/proc/{docker.inspect(id)['State']['Pid']}/root/checks")
        time.sleep(1.0)
        used, count = processor_seconds(), size(checks)
        time.sleep(SLICE)
        return processor_seconds() - used, size(checks) - count
    finally:
        docker.run("rm", "--force", id)


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def processor_seconds() -> float:
    fields = dict(line.split() for line in CPU.read_text().splitlines())
    return int(fields["usage_usec"]) / 1e6
