"""Docker, with its daemon on private sockets and in a private directory, and its client."""

import json
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.support import leaks, rootfs
from tests.support.daemon import PATIENCE, Client, Daemon, until
from tests.support.engines import CHECKOUT

CONFIGURATION = CHECKOUT / "contrib/docker/daemon.json"
USERS = "root:x:0:0:root:/root:/bin/sh\njoan:x:1000:1001:Joan:/tmp:/bin/sh\n"
GROUPS = "root:x:0:\njoan:x:1001:\nusers:x:100:joan\nwheel:x:2000:joan\n"


def capabilities(status: str) -> int:
    """The effective set in the text of /proc/self/status."""
    return int(status.partition("CapEff:\t")[2].split()[0], 16)


IMAGES = ("busybox", "built", "changed", "debian")
# A program that begins a moment later than its container.
LATE = ("sh", "-c", 'sleep 0.2; exec "$@"', "sh")


def late(*arguments: object) -> tuple[object, ...]:
    """The arguments of a `docker run` that is waited for, with a program that begins a moment later.

    On a machine that is busy enough Docker loses what a program says that ends at once, and `docker logs` lacks it,
    too: it hangs up on a container that has ended before it has picked up. Of 250 containers these were 8 with runc, 22
    with a quicker runtime, and none that waits a moment.
    """
    if arguments[0] != "run" or {"-d", "-dit", "--detach", "--entrypoint"} & set(arguments):
        return arguments
    after = next((n for n, word in enumerate(arguments, 1) if word in IMAGES), len(arguments))
    return (*arguments[:after], *(LATE if arguments[after:] else ()), *arguments[after:])


class Docker(Client):
    """A daemon and its client; `docker("run", …)` is a command that must succeed, and gives what it prints."""

    program = "docker"

    def __init__(self, folder: Path, runtime: str, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        """Start a daemon.

        Args:
            directory: The directory for all its files.
            runtime: The default runtime.
            options: More of the daemon's.
            wrapper: A command that runs the daemon in its place, such as unshare.
        """
        self.folder = folder / "docker"
        self.folder.mkdir()
        self.runtime = runtime
        self.client = ["docker", "--host", f"unix://{self.folder}/docker.sock"]
        self.states = self.folder / "exec/runtime-runc/moby"
        self.daemon = Daemon(
            self.folder / "log",
            *(
                *wrapper,
                "dockerd",
                "--config-file",
                self._configuration(),
                "--host",
                f"unix://{self.folder}/docker.sock",
            ),
            *("--exec-root", self.folder / "exec", "--data-root", self.folder / "data"),
            *("--pidfile", self.folder / "pid", *options),
            environment={
                "DOCKER_BUILDKIT_RUNC_COMMAND": f"/usr/local/bin/{runtime}" if runtime == "pyoci" else runtime
            },
        )
        self.await_daemon()

    def _configuration(self) -> Path:
        """The one that we recommend, or that with another default."""
        if self.runtime == "pyoci":
            return CONFIGURATION
        path = self.folder / "daemon.json"
        path.write_text(json.dumps({**json.loads(CONFIGURATION.read_text()), "default-runtime": self.runtime}))
        return path

    def await_daemon(self) -> None:
        """Until it answers."""
        self.daemon.await_answer(*self.client, "version")

    def command(self, *arguments: object) -> list[str]:
        """The client's."""
        return [*self.client, *map(str, arguments)]

    def __call__(self, *arguments: object, status: int = 0, input: str | None = None, timeout: float = 120) -> str:
        """As any client; a container's output is not lost, unless it is empty."""
        heard = arguments if status in (125, 126, 127) else late(*arguments)
        return super().__call__(*heard, status=status, input=input, timeout=timeout)

    def import_busybox(self) -> None:
        """The image `busybox`."""
        root = rootfs.busybox(self.folder / "busybox")
        (root / "tmp").chmod(0o1777)
        (root / "etc/passwd").write_text(USERS)
        (root / "etc/group").write_text(GROUPS)
        archive = self.folder / "busybox.tar"
        subprocess.check_call(["tar", "-C", root, "-cf", archive, "."])
        self("import", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin", archive, "busybox")

    def remove_all(self) -> None:
        """Whatever a test left to be removed: containers, volumes, networks."""
        if containers := self("ps", "--all", "--quiet").split():
            self("rm", "--force", "--volumes", *containers)
        self("volume", "prune", "--all", "--force")
        self("network", "prune", "--force")

    def daemons(self) -> tuple[int, ...]:
        """dockerd, and its containerd."""
        return self.daemon.pid, *leaks.children(self.daemon.pid)

    def shim(self, name: str) -> int:
        """The process that containerd has for a container."""
        first = self.inspect(name)["State"]["Pid"]
        (pid,) = (pid for pid, _, _ in leaks.processes() if first in leaks.children(pid))
        return pid

    def restart(self) -> None:
        """Start the daemon once more."""
        self.daemon.start()
        self.await_daemon()

    def remove_forgotten(self) -> None:
        """Remove the tasks of its containerd that a daemon which was killed did not write down."""
        ctr = ["ctr", "--address", f"{self.folder}/exec/containerd/containerd.sock", "--namespace", "moby"]
        known = self("ps", "--all", "--quiet", "--no-trunc").split()
        for task in subprocess.check_output([*ctr, "tasks", "ls", "--quiet"], text=True, timeout=PATIENCE).split():
            if task not in known:
                subprocess.check_call([*ctr, "tasks", "delete", "--force", task], timeout=PATIENCE)

    def collect_garbage(self) -> None:
        """Let the daemon close unused descriptors. It must have been started with --debug."""
        connection = socket.socket(socket.AF_UNIX)
        with connection:
            connection.settimeout(PATIENCE)
            connection.connect(f"{self.folder}/docker.sock")
            connection.sendall(b"GET /debug/pprof/heap?gc=1 HTTP/1.0\r\n\r\n")
            answer = connection.recv(65536)
            while connection.recv(65536):
                pass
        assert b" 200 OK" in answer.splitlines()[0]

    def version(self) -> str:
        """Of the daemon, and of the containerd that serves it."""
        return self("version", "--format", "{{.Server.Version}}").partition("+")[0]

    def stop(self) -> None:
        """End the daemon, with its containers."""
        self.daemon.stop()


def restore(docker: Docker, name: str, checkpoint: str) -> None:
    """Start a container from a checkpoint.

    Docker fails until the next collection of garbage has removed the daemon's own copy of the checkpoint.
    """

    def started() -> bool:
        done = docker.run("start", "--checkpoint", checkpoint, name)
        assert done.returncode == 0 or "already exists" in done.stderr, done.stderr
        return done.returncode == 0

    until(started, "Docker forgets its own copy of the checkpoint")


D = TypeVar("D", bound=Docker)


@contextmanager
def separate(
    kind: type[D], name: str, runtime: str, *options: str, clean_up: Callable[[D], object] = lambda docker: None
) -> Iterator[D]:
    """A dockerd beside the one for all tests. At the end nothing is left.

    It has no networks: with them it would remove the bridge of the other.

    Args:
        kind: The class of the result.
        name: The directory of its files begins with that. Keep it short: containerd's sockets have long names.
        runtime: The default runtime.
        options: More of the daemon's.
        clean_up: What removes more, when the daemon has stopped.
    """
    left = leaks.Leaks()
    folder = Path(tempfile.mkdtemp(prefix=name))
    folder.chmod(0o711)  # the ids of a user namespace search it
    networks = ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    docker = kind(folder, runtime, *networks, *options, wrapper=("unshare", "--net"))
    docker.import_busybox()
    yield docker
    docker.remove_all()
    docker.stop()
    clean_up(docker)
    left.states.append(docker.states)
    left.assert_none()
