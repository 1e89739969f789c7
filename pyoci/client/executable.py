"""The executable of a runtime: its command lines, and the processes that run them."""

import contextlib
import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pyoci.client.failures import Report, UnsupportedError, class_of
from pyoci.client.types import CgroupManager, File, LogLevel, StrPath
from pyoci.errors import PyociError

_TIMEOUT = 10  # seconds for a command to end, once its program was killed
# Variables of the caller's environment that would make the runtime use sockets meant for the caller.
_CALLERS = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET")


class Executable:
    """A runtime's executable and the global options for it. Its methods may run in several threads."""

    def __init__(
        self,
        path: StrPath | None,
        root: StrPath | None,
        cgroup_manager: CgroupManager,
        log_level: LogLevel,
        criu: StrPath | None = None,
    ) -> None:
        self.path = _find(path)
        self.root = None if root is None else os.path.abspath(root)
        self.cgroup_manager = cgroup_manager
        self.log_level = log_level
        self.criu = None if criu is None else os.path.abspath(criu)
        self.inherited: tuple[int, ...] = ()  # descriptors for every process

    @functools.cached_property
    def name(self) -> str:
        """The first word of its version, such as `pyoci`, `runc` or `crun`."""
        return _name(self.path, os.stat(self.path).st_mtime_ns)

    @functools.cached_property
    def _options(self) -> tuple[str, ...]:
        options: list[str] = [] if self.root is None else ["--root", self.root]
        if self.name == "pyoci":
            options += ["--log-level", self.log_level]
        elif self.log_level == "debug":
            options += ["--debug"]
        if self.name in ("pyoci", "crun"):
            options += ["--cgroup-manager", self.cgroup_manager]
        elif self.cgroup_manager == "systemd":
            options += ["--systemd-cgroup"]
        elif self.cgroup_manager == "disabled":
            raise UnsupportedError(f"cannot disable cgroups: {self.name or self.path} has no such option")
        if self.criu is not None:
            if self.name != "pyoci":
                raise UnsupportedError(f"cannot choose criu: {self.name or self.path} looks for it in PATH")
            options += ["--criu", self.criu]
        return tuple(options)

    def command(self, *words: StrPath, log: StrPath | None = None) -> list[str]:
        """The command line for `words`, a command with its options and operands."""
        logging = () if log is None else ("--log", log, "--log-format", "json")
        return [self.path, *self._options, *map(os.fspath, (*logging, *words))]

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: File = subprocess.DEVNULL,
        stdout: File = subprocess.PIPE,
        stderr: File = subprocess.PIPE,
        inherited: Sequence[int] = (),
    ) -> "subprocess.Popen[bytes]":
        """Start a process that inherits its streams, `inherited`, and no other descriptor."""
        environment = {name: value for name, value in os.environ.items() if name not in _CALLERS}
        descriptors = (*self.inherited, *inherited)
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, pass_fds=descriptors
        )

    def call(self, *words: StrPath) -> bytes:
        """Run a command that starts no program, and return its output. Raises PyociError."""
        with temporary_directory() as temp:
            with self.popen(self.command(*words, log=temp / "log")) as process:
                out, err = process.communicate()
            self.check(process.returncode, temp, words[0], err)
        return out

    def check(
        self, status: int, temp: Path, verb: StrPath, err: bytes | None = None, *, config: Path | None = None
    ) -> None:
        """Raise a PyociError if a command has failed. It has logged its error in the directory `temp`."""
        error = Report(temp / "log", config=config).error
        if not status:
            return
        if error is None:
            text = (err or b"").decode(errors="replace").strip() or f"exit status {status}"
            error = class_of(text)(f"cannot {os.fspath(verb)} with {self.path}: {text}")
        raise error

    def check_program(
        self, result: "subprocess.CompletedProcess[bytes]", temp: Path, *, config: Path | None = None
    ) -> None:
        """The same for `run` and `exec`. Without an error in the log, the exit status is the program's own."""
        error = Report(temp / "log", config=config).error
        if error is not None and result.returncode:
            raise error

    def finish(
        self,
        process: "subprocess.Popen[bytes]",
        args: Sequence[str],
        *,
        input: bytes | None,
        timeout: float | None,
        end: Callable[[], None],
    ) -> "subprocess.CompletedProcess[bytes]":
        """Wait for a process as subprocess.run does. `end` ends what runs in the container, after `timeout` seconds."""
        with process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException as error:
                end()
                try:
                    process.wait(_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
                if isinstance(error, subprocess.TimeoutExpired):
                    error.cmd = args
                raise
        return subprocess.CompletedProcess(args, process.returncode, out, err)


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory for the files of one command."""
    with tempfile.TemporaryDirectory(prefix="pyoci-") as path:
        yield Path(path)


@functools.cache
def _name(path: str, _time: int) -> str:
    result = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (result.stdout.split() or [""])[0]


def _find(path: StrPath | None) -> str:
    """The executable at `path`, or with this name in PATH. Raises PyociError."""
    if path is None:
        installed = Path(sysconfig.get_path("scripts"), "pyoci")
        path = installed if installed.exists() else "pyoci"
    found = shutil.which(path)
    if found is None:
        raise PyociError(
            f"cannot run {os.fspath(path)}: there is no such executable",
            hint="install pyoci with pip, or pass Runtime the path of an executable",
        )
    return os.path.abspath(found)
