"""The moments in a command's course: every system call after it began to change something. A command can be killed or
stopped at each of them, by strace; no product code knows of this.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.support.runtime import PATIENCE, wait_for

CALL = re.compile(r"(\w+)\((.*)")
# Calls that change nothing outside of the process: being killed before one is being killed before the next.
HARMLESS = frozenset(
    "brk mmap munmap mprotect getpid geteuid gettid fcntl newfstatat fstat lseek getrandom rt_sigprocmask rt_sigaction "
    "sysinfo uname getcwd ioctl".split()
)


def moments_in(trace: Path, first: str) -> list[tuple[str, int, str]]:
    """Every call of a trace from the first one that matches `first`, as (name, n, the call)."""
    counts: dict[str, int] = {}
    found: list[tuple[str, int, str]] = []
    for line in trace.read_text(errors="replace").splitlines():
        call = CALL.match(line)
        if not call or "resumed>" in line:
            continue
        name = call[1]
        counts[name] = counts.get(name, 0) + 1
        if (found or re.search(first, line)) and name not in HARMLESS:
            found.append((name, counts[name], line[:120]))
    return found


def at(moment: tuple[str, int, str], signal_name: str) -> list[str]:
    """The options of strace that send the command a signal as it enters this call."""
    name, n, _ = moment
    return ["-e", f"trace={name}", "-e", f"inject={name}:signal={signal_name}:when={n}"]


class Moments:
    """The moments at which a command can be killed."""

    def __init__(self, runtime) -> None:
        self.runtime = runtime
        self.strace = shutil.which("strace")
        assert self.strace, "there is no strace"

    def of(self, *words: Any, first, prepare=None, **options: Any):
        """Run the command once; every call from the first one that matches `first`, as (name, n, the call)."""
        trace = self.runtime.folder / "trace"
        self._run(["-o", trace], words, options)
        found = moments_in(trace, first)
        assert len(found) > 5
        return found

    def kill(self, moment, *words: Any, **options: Any):
        """Run the command and kill it at this moment. False if it ended before."""
        return self._run(["-o", "/dev/null", *at(moment, "KILL")], words, options) == -signal.SIGKILL

    def _run(self, arguments, words, options):
        command = [self.strace, "-qq", *map(str, arguments), *self.runtime.command(*words)]
        with (self.runtime.folder / "out").open("wb") as out:
            options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **options}
            return subprocess.run(command, timeout=PATIENCE, check=False, **options).returncode

    @contextlib.contextmanager
    def stopped(self, moment, *words: Any, statuses=(0,)):
        """Run the command, stop it at this moment, and let it go on in the end, to one of the exit statuses. Yields
        whether it was stopped: it may end before.
        """
        trace = self.runtime.folder / "trace"
        trace.unlink(missing_ok=True)
        command = [self.strace, "-o", trace, *at(moment, "STOP")]
        with (self.runtime.folder / "out").open("wb") as out:
            strace = subprocess.Popen(
                [*map(str, command), *self.runtime.command(*words)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        wait_for(lambda: strace.poll() is not None or (trace.exists() and "--- stopped by" in trace.read_text()))
        try:
            yield strace.poll() is None
        finally:
            if strace.poll() is None:
                (pid,) = Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split()
                os.kill(int(pid), signal.SIGCONT)
            status = strace.wait(PATIENCE)
        assert status in statuses, (self.runtime.folder / "out").read_text()
