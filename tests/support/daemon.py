"""A program that serves until it is ended, and the engines' clients."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 60  # seconds


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for it; fail if it does not come."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"not within {patience} s: {what}"
        time.sleep(0.02)


class Daemon:
    """A server in the background, with its output in a file."""

    def __init__(self, log: Path, *command: str | Path, environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start it, for the first time or once more."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def await_answer(self, *probe: str | Path) -> None:
        """Wait until this command succeeds."""

        def answers() -> bool:
            assert self.process.poll() is None, f"{self.command[0]} ended:\n{self.log.read_text()[-1500:]}"
            done = subprocess.run(
                probe,
                capture_output=True,
                check=False,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                timeout=PATIENCE,
            )
            return done.returncode == 0

        until(answers, f"{self.command[0]} serves")

    def kill(self) -> None:
        """As if it had crashed."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        """As an operator stops it; one that does not end in time is killed, and that is an error."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


class Client:
    """A program whose commands the tests run: `client("run", …)` must succeed, and gives what it prints."""

    program: str

    def command(self, *arguments: object) -> list[str]:
        """The whole command line."""
        raise NotImplementedError

    def __call__(self, *arguments: object, status: int = 0, input: str | None = None, timeout: float = 120) -> str:
        """Run it; what it prints on both streams if it must fail, on standard output otherwise."""
        done = self.run(*arguments, input=input, timeout=timeout)
        assert status == done.returncode, (
            f"{self.program} {' '.join(map(str, arguments))}: status {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return (done.stdout + done.stderr if status else done.stdout).strip()

    def run(
        self, *arguments: object, input: str | None = None, timeout: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run it, whatever comes of it."""
        feed = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        command = self.command(*arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **feed, **options)

    def terminal(self, *arguments: object, **size: int) -> "Terminal":
        """Run it on a terminal."""
        return Terminal(*self.command(*arguments), **size)

    def inspect(self, name: str) -> dict[str, Any]:
        """What it knows of a container."""
        return json.loads(self("inspect", name))[0]

    def state(self, name: str) -> str:
        """A container's status: running, exited…"""
        return self.inspect(name)["State"]["Status"]

    def await_state(self, name: str, status: str) -> None:
        """Until a container has this status."""
        until(lambda: self.state(name) == status, f"{name} is {status}")

    def await_logs(self, name: str, text: str) -> None:
        """Until a container has printed this."""
        until(lambda: text in self("logs", name), f"{name} prints {text!r}")

    def run_with_trap(self, name: str, action: str, signal: str, *options: object) -> None:
        """A container whose program does `action` on a signal, once it is ready for that."""
        script = f"trap '{action}' {signal}; echo ready; while :; do sleep .1; done"
        self("run", "-d", "--name", name, *options, "busybox", "sh", "-c", script)
        self.await_logs(name, "ready")


class Terminal:
    """A command on a terminal of its own, as a person has one."""

    def __init__(self, *command: str | Path, rows: int = 24, columns: int = 80) -> None:
        self.output = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            # the size is set before a program asks for it
            termios.tcsetwinsize(0, (rows, columns))
            os.execvp(command[0], list(map(str, command)))
        self.status: int | None = None

    def resize(self, rows: int, columns: int) -> None:
        """The kernel tells the foreground processes of it."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """What a person types; "\\r" is Enter."""
        os.write(self.master, text.encode())

    def expect(self, text: str) -> str:
        """All the output up to this text, which is taken from what is expected next."""
        end = time.monotonic() + PATIENCE
        while text.encode() not in self.output:
            assert time.monotonic() < end, f"no {text!r} in {self.output!r}"
            assert self._read(end - time.monotonic()), f"no {text!r} before the end, but {self.output!r}"
        before, _, self.output = self.output.partition(text.encode())
        return before.decode()

    def wait(self) -> int:
        """The exit status, after all output."""
        end = time.monotonic() + PATIENCE
        while self._read(end - time.monotonic()):
            assert time.monotonic() < end, f"it does not end: {self.output!r}"
        os.close(self.master)
        return self._reap()

    def end(self) -> None:
        """Leave nothing of it, whatever happened."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.close(self.master)
            self._reap()

    def _reap(self) -> int:
        """Its exit status, once it has ended."""
        ended: list[int] = []

        def reaped() -> bool:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            ended.extend([status] if pid else [])
            return bool(pid)

        until(reaped, f"process {self.pid} ends")
        self.status = os.waitstatus_to_exitcode(ended[0])
        return self.status

    def _read(self, patience: float) -> bool:
        if select.select([self.master], [], [], max(0, patience))[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: the other side is closed
                return False
            self.output += data
            return bool(data)
        return True
