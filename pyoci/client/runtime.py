"""Runtime: an OCI runtime's executable, and the directory with the states of its containers."""

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from pyoci.client import criu
from pyoci.client.container import Container
from pyoci.client.executable import Executable, temporary_directory
from pyoci.client.exits import Watch, needs_monitor
from pyoci.client.failures import UnsupportedError
from pyoci.client.types import CgroupManager, File, LogLevel, RestoreOptions, StrPath
from pyoci.errors import PyociError
from pyoci.types import Features, State


class Runtime:
    """An OCI runtime: pyoci, runc, crun, or another one with their command line.

    Args:
        executable: A path, or a name to find in PATH; by default the pyoci that was installed with this package, else
            the one in PATH.
        root: The directory for states; by default the executable's own.
        cgroup_manager: What creates the cgroups: the runtime itself (`cgroupfs`), systemd, or nothing.
        criu: The program for checkpoint and restore; by default the one that the runtime finds.
        log_level: The least important messages for the logger `pyoci`.

    Every method runs the executable and leaves this process as it is. Several threads may use one Runtime.
    """

    def __init__(
        self,
        executable: StrPath | None = None,
        *,
        root: StrPath | None = None,
        cgroup_manager: CgroupManager = "cgroupfs",
        criu: StrPath | None = None,
        log_level: LogLevel = "warning",
    ) -> None:
        self._executable = Executable(executable, root, cgroup_manager, log_level, criu)

    def __repr__(self) -> str:
        return f"Runtime({self.executable!r}, root={self.root!r})"

    @property
    def executable(self) -> str:
        """The absolute path of the executable."""
        return self._executable.path

    @property
    def root(self) -> str | None:
        """The directory for states; None for the executable's own."""
        return self._executable.root

    @property
    def name(self) -> str:
        """The first word of the executable's version, such as `pyoci`, `runc` or `crun`."""
        return self._executable.name

    def create(
        self,
        id: str,
        bundle: StrPath,
        *,
        config: StrPath | None = None,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        console_socket: StrPath | None = None,
    ) -> Container:
        """Create a container, whose program waits for `start`.

        `config` is a file to read instead of the bundle's config.json. The standard streams are the container's, with
        the values of subprocess.Popen; with PIPE, the container has the attributes `stdin`, `stdout` and `stderr`.
        A config with `process.terminal` needs `console_socket`, a Unix socket that receives the terminal's master.

        Raises ConfigError, ContainerExists, SetupError, HookError, CgroupError, or another PyociError.
        """
        options = _creation_options(self.name, bundle, config, console_socket)
        return self._create("create", id, options, _config_file(bundle, config), (stdin, stdout, stderr))

    def restore(
        self,
        id: str,
        bundle: StrPath,
        images: StrPath,
        *,
        config: StrPath | None = None,
        work: StrPath | None = None,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        console_socket: StrPath | None = None,
        **options: Unpack[RestoreOptions],
    ) -> Container:
        """Create a container from what `Container.checkpoint` has saved in the directory `images`. It runs at once.

        `work` is the directory of CRIU's log, by default `images`. The standard streams replace pipes that the
        container had as such. `options` are those of the command, such as `tcp_established=True`. The others are as in
        `create`.

        Needs root, and the program criu. Raises what `create` raises.
        """
        if config is not None and self.name == "crun":
            raise UnsupportedError("cannot use another config: crun's restore reads the bundle's config.json alone")
        words = [*_creation_options(self.name, bundle, config, console_socket), *criu.images(images, work)]
        words += ["--detach", *criu.switches(options, restoring=True)]
        return self._create("restore", id, words, _config_file(bundle, config), (stdin, stdout, stderr))

    def _create(
        self, verb: str, id: str, options: Sequence[StrPath], config: Path, streams: tuple[File, File, File]
    ) -> Container:
        """Run a command that creates a container, and watch the container's first process."""
        stdin, stdout, stderr = streams
        with temporary_directory() as temp:
            command = self._executable.command(verb, *options, "--pid-file", temp / "pid", id, log=temp / "log")
            process: subprocess.Popen[bytes] | None = None
            watch = Watch(monitor=needs_monitor())
            try:
                process = self._executable.popen(
                    [*watch.prefix, *command], stdin=stdin, stdout=stdout, stderr=stderr, inherited=watch.inherited
                )
                watch.release()
                status = process.wait()
                self._executable.check(status, temp, verb, config=config)
                with contextlib.suppress(ProcessLookupError):  # it was killed already
                    watch.begin(int((temp / "pid").read_text()))
            except BaseException as error:
                watch.close()
                if process is not None:
                    _close_streams(process)
                    process.wait()
                    if not isinstance(error, PyociError):  # such as KeyboardInterrupt: the create may have succeeded
                        self._discard(id)
                raise
        return Container(self._executable, id, watch, process.stdin, process.stdout, process.stderr)

    def run(
        self,
        id: str,
        bundle: StrPath,
        *,
        config: StrPath | None = None,
        input: bytes | None = None,
        stdin: File = subprocess.DEVNULL,
        stdout: File = subprocess.PIPE,
        stderr: File = subprocess.PIPE,
        timeout: float | None = None,
        check: bool = False,
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a container to its end and delete it.

        `input` goes to the program's standard input. By default that is empty, and the result has the output.

        Raises what `create` raises; with `check` subprocess.CalledProcessError if the exit status is not 0; and
        subprocess.TimeoutExpired after `timeout` seconds, when it has deleted the container.
        """
        with temporary_directory() as temp:
            options = _creation_options(self.name, bundle, config)
            command = self._executable.command("run", *options, id, log=temp / "log")
            stdin = stdin if input is None else subprocess.PIPE
            process = self._executable.popen(command, stdin=stdin, stdout=stdout, stderr=stderr)
            result = self._executable.finish(
                process, ["run", id], input=input, timeout=timeout, end=lambda: self._discard(id)
            )
            self._executable.check_program(result, temp, config=_config_file(bundle, config))
        if check:
            result.check_returncode()
        return result

    def load(self, id: str) -> Container:
        """An existing container, also one of another program. Raises ContainerNotFound."""
        container = Container(self._executable, id, Watch(monitor=False), None, None, None)
        container._watch_existing()
        return container

    def list(self) -> "list[State]":
        """The state of every container."""
        if self.root is not None and not os.path.isdir(self.root):
            return []  # the first `create` will make it
        states: list[State] = json.loads(self._executable.call("list", "--format", "json") or b"[]") or []
        return states

    def features(self) -> Features:
        """What the runtime supports (features.md). Raises UnsupportedError if it has no such command."""
        if self.name == "crun" and b"features" not in self._executable.call("--help"):
            raise UnsupportedError("cannot read the features: this crun has no `features`")
        features: Features = json.loads(self._executable.call("features"))
        return features

    def _discard(self, id: str) -> None:
        """Delete a container that may be there."""
        with contextlib.suppress(PyociError):
            self._executable.call("delete", "--force", id)


def _creation_options(
    runtime: str, bundle: StrPath, config: StrPath | None, console_socket: StrPath | None = None
) -> list[StrPath]:
    options: list[StrPath] = ["--bundle", bundle]
    if config is not None:
        if runtime == "runc":
            raise UnsupportedError("cannot use another config: runc reads the bundle's config.json alone")
        options += ["--config", os.path.abspath(config)]
    if console_socket is not None:
        options += ["--console-socket", console_socket]
    return options


def _config_file(bundle: StrPath, config: StrPath | None) -> Path:
    return Path(bundle, "config.json") if config is None else Path(config)


def _close_streams(process: "subprocess.Popen[bytes]") -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
