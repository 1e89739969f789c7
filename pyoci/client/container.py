"""Container: one container of a runtime."""

import contextlib
import json
import os
import signal as signals
import subprocess
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, Self, Unpack

from pyoci.client import criu
from pyoci.client.executable import Executable, temporary_directory
from pyoci.client.exits import Watch
from pyoci.client.failures import UnsupportedError
from pyoci.client.types import CriuOptions, Event, File, Stats, StrPath
from pyoci.errors import ContainerNotFound
from pyoci.types import Process, Resources, State


class Container:
    """One container. `Runtime.create` and `Runtime.load` make it.

    As a context manager it deletes the container at the end, and kills its processes first. `id` is the container's.
    `stdin`, `stdout` and `stderr` are the parent's ends of the streams that `create` was given PIPE for, else None.
    """

    def __init__(
        self,
        executable: Executable,
        id: str,
        watch: Watch,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        self.id = id
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._executable = executable
        self._watch = watch

    def __repr__(self) -> str:
        return f"Container({self.id!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.delete(force=True)
        finally:
            self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close this object's descriptors. The container stays, and so does a known exit status."""
        self._watch.close()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was written and not flushed
                    stream.close()

    @property
    def state(self) -> State:
        """The state document. Raises ContainerNotFound once the container is deleted."""
        state: State = json.loads(self._executable.call("state", self.id))
        return state

    def start(self) -> None:
        """Run the program of a created container. Raises StatusError, SetupError, HookError."""
        self._executable.call("start", self.id)

    def kill(self, signal: str | int = "TERM", *, all: bool = False) -> None:
        """Send a signal to the first process, or with `all` to every process. Raises StatusError if it has ended."""
        options = ["--all"] if all else []
        self._executable.call("kill", *options, self.id, str(int(signal) if isinstance(signal, int) else signal))

    def delete(self, *, force: bool = False) -> None:
        """Delete a stopped container; with `force` kill it first, and ignore that there is none. Raises StatusError."""
        options = ["--force"] if force else []
        try:
            self._executable.call("delete", *options, self.id)
        except ContainerNotFound:
            if not force:
                raise
        self._watch.settle()

    def pause(self) -> None:
        """Freeze every process. Raises StatusError unless the container is running."""
        self._executable.call("pause", self.id)

    def resume(self) -> None:
        """Thaw a paused container. Raises StatusError unless it is paused."""
        self._executable.call("resume", self.id)

    def checkpoint(
        self,
        images: StrPath,
        *,
        work: StrPath | None = None,
        parent: str | None = None,
        leave_running: bool = False,
        pre_dump: bool = False,
        **options: Unpack[CriuOptions],
    ) -> None:
        """Save the processes in the directory `images`, and delete the container; `Runtime.restore` goes on from there.

        Args:
            images: The directory. The runtime creates it.
            work: The directory of CRIU's log; by default `images`.
            parent: The images of a pre-dump before, relative to `images`.
            leave_running: Let the container run on.
            pre_dump: Save only memory, and let the container run on.
            options: What CRIU may do besides, such as `tcp_established=True`: the options of the command.

        Needs root, and the program criu. Raises StatusError unless the container is running or paused, and SetupError
        or another PyociError if CRIU can't save it; the container then runs on.
        """
        words = [*criu.images(images, work), *criu.switches(options, restoring=False)]
        words += [] if parent is None else ["--parent-path", parent]
        words += [f"--{name}" for name, on in (("leave-running", leave_running), ("pre-dump", pre_dump)) if on]
        self._executable.call("checkpoint", *words, self.id)
        self._watch.settle()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the first process ends, and return its exit status: 128 plus the number of a signal.

        Needs Linux 6.15 if `Runtime.load` made this object. Raises subprocess.TimeoutExpired after `timeout` seconds,
        StatusError if the exit status is lost.
        """
        status = self._watch.wait(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(["wait", self.id], timeout or 0)
        return status

    def exec(
        self,
        process: Sequence[str] | Process,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: int | str | None = None,
        input: bytes | None = None,
        stdin: File = subprocess.DEVNULL,
        stdout: File = subprocess.PIPE,
        stderr: File = subprocess.PIPE,
        console_socket: StrPath | None = None,
        timeout: float | None = None,
        check: bool = False,
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run one more program in the container, to its end.

        Args:
            process: The program and its arguments, or a whole `process` of a config.json.
            env: Variables besides those of the container's process.
            cwd: The working directory in the container.
            user: A uid, or `"UID:GID"`.
            input: What the program reads from its standard input; otherwise that is empty.
            stdin, stdout, stderr: As in subprocess.Popen, with other defaults: the result has the output.
            console_socket: Give the program a terminal, whose master goes to this Unix socket, and do not wait for its
                end.
            timeout: Seconds until the program is killed.
            check: Raise CalledProcessError if the exit status is not 0.

        Raises StatusError unless the container is running; SetupError if the program cannot be run; TimeoutExpired and
        CalledProcessError of subprocess.
        """
        if isinstance(process, str):
            raise TypeError("expected the program and its arguments in a list, found a string")
        with temporary_directory() as temp:
            pid_file = temp / "pid"
            options: list[StrPath] = ["--pid-file", pid_file]
            if console_socket is not None:
                options += ["--detach", "--tty", "--console-socket", console_socket]
            if isinstance(process, Mapping):
                if not (env is None and cwd is None and user is None):
                    raise TypeError("expected env, cwd and user in the process document")
                (temp / "process.json").write_text(json.dumps(process))
                options += ["--process", temp / "process.json"]
                program, arguments = list(process.get("args", [])), []
            else:
                options += [part for name, value in (env or {}).items() for part in ("--env", f"{name}={value}")]
                options += [] if cwd is None else ["--cwd", cwd]
                options += [] if user is None else ["--user", str(user)]
                program = arguments = list(process)
            command = self._executable.command("exec", *options, self.id, *arguments, log=temp / "log")
            stdin = stdin if input is None else subprocess.PIPE
            running = self._executable.popen(command, stdin=stdin, stdout=stdout, stderr=stderr)
            result = self._executable.finish(
                running, program, input=input, timeout=timeout, end=lambda: _kill_child(running, pid_file)
            )
            self._executable.check_program(result, temp)
        if check:
            result.check_returncode()
        return result

    def update(self, resources: Resources) -> None:
        """Change limits: `resources` is as `linux.resources` of a config.json, and what it lacks stays as it is."""
        with temporary_directory() as temp:
            file = temp / "resources.json"
            file.write_text(json.dumps(resources))
            self._executable.call("update", "--resources", file, self.id)

    def processes(self) -> list[int]:
        """The pids of every process, as the host numbers them."""
        pids: list[int] = json.loads(self._executable.call("ps", "--format", "json", self.id)) or []
        return pids

    def stats(self) -> Stats:
        """What the container uses. Raises UnsupportedError with crun."""
        self._require_events()
        event: Event = json.loads(self._executable.call("events", "--stats", self.id))
        return event["data"]

    def events(self, interval: float = 5) -> Generator[Event, None, None]:
        """What happens to the container, until it stops: `oom` events, and its statistics every `interval` seconds.

        Closing the generator ends the process that it reads from. Raises UnsupportedError with crun.
        """
        self._require_events()
        with temporary_directory() as temp:
            command = self._executable.command(
                "events", "--interval", f"{max(1, round(interval * 1000))}ms", self.id, log=temp / "log"
            )
            process = self._executable.popen(command, stderr=subprocess.DEVNULL)
            with process:
                try:
                    for line in process.stdout or ():
                        yield json.loads(line)
                except BaseException:
                    process.kill()
                    raise
            self._executable.check(process.returncode, temp, "events")

    def _watch_existing(self) -> None:
        """Watch the first process of a container that is there already. Raises ContainerNotFound."""
        state = self.state
        if state["status"] == "stopped":
            return
        with contextlib.suppress(ProcessLookupError):
            self._watch.begin(state["pid"])
            if self.state["status"] == "stopped":  # so the number may have gone to another process
                self._watch.forget()

    def _require_events(self) -> None:
        if self._executable.name == "crun":
            raise UnsupportedError("cannot read statistics: crun has no `events`")


def _kill_child(runtime: "subprocess.Popen[bytes]", pid_file: Path) -> None:
    """Kill the program that `exec` has started, and so end that; or end `exec` itself, if it has not come so far."""
    try:
        pid = int(pid_file.read_text())
        pidfd = os.pidfd_open(pid)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        runtime.kill()
        return
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        if int(fields[1]) == runtime.pid:  # else the number belongs to another process by now
            signals.pidfd_send_signal(pidfd, signals.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        pass
    finally:
        os.close(pidfd)
