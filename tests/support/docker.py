"""Docker, with its daemon on private sockets and in a private folder, and its client."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.support import leaks, rootfs
from tests.support.daemon import Daemon, Terminal, until
from tests.support.engines import CHECKOUT

CONFIGURATION = CHECKOUT / "contrib/docker/daemon.json"
USERS = "root:x:0:0:root:/root:/bin/sh\njoan:x:1000:1001:Joan:/tmp:/bin/sh\n"
GROUPS = "root:x:0:\njoan:x:1001:\nusers:x:100:joan\nwheel:x:2000:joan\n"


def capabilities(status: str) -> int:
    """The effective set in the text of /proc/self/status."""
    return int(status.partition("CapEff:\t")[2].split()[0], 16)


class Docker:
    """A daemon and its client; `docker("run", …)` is a command that must succeed, and gives what it prints."""

    def __init__(self, folder: Path, runtime: str, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        """Start a daemon.

        Args:
            folder: For all that is its own.
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

    def __call__(self, *arguments: object, status: int = 0, input: str | None = None, timeout: float = 120) -> str:
        """Run the client; what it prints on both streams if it must fail, on standard output otherwise."""
        done = self.run(*arguments, input=input, timeout=timeout)
        assert status == done.returncode, (
            f"docker {' '.join(map(str, arguments))}: status {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return (done.stdout + done.stderr if status else done.stdout).strip()

    def run(
        self, *arguments: object, input: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run the client, whatever comes of it."""
        command = [*self.client, *map(str, arguments)]
        feed = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, **feed)

    def terminal(self, *arguments: object, **size: int) -> Terminal:
        """Run the client on a terminal."""
        return Terminal(*self.client, *map(str, arguments), **size)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the daemon knows of a container, or another object."""
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
        (pid,) = (
            pid for pid, _, command in leaks.processes() if self.inspect(name)["State"]["Pid"] in leaks.children(pid)
        )
        return pid

    def restart(self) -> None:
        """Start the daemon once more."""
        self.daemon.start()
        self.await_daemon()

    def remove_forgotten(self) -> None:
        """Remove the tasks of its containerd that a daemon which was killed did not write down."""
        ctr = ["ctr", "--address", f"{self.folder}/exec/containerd/containerd.sock", "--namespace", "moby"]
        known = self("ps", "--all", "--quiet", "--no-trunc").split()
        for task in subprocess.check_output([*ctr, "tasks", "ls", "--quiet"], text=True).split():
            if task not in known:
                subprocess.check_call([*ctr, "tasks", "delete", "--force", task])

    def collect_garbage(self) -> None:
        """Have the daemon close what nobody uses. It must have been started with --debug."""
        connection = socket.socket(socket.AF_UNIX)
        with connection:
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
