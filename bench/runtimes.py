"""The runtimes to measure, their command lines, and the bundles that they get."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CGROUPS = "/sys/fs/cgroup"
PEERS = ("crun", "runc", "youki")
# CRIU can't dump a file of the host, to which our timer sends the output.
QUIET = "exec sleep 100000 </dev/null >/dev/null 2>&1"
# With crun, CRIU also restores the cgroups of version 1 on a host that has both, and fails.
_CRIU_OPTIONS = ("--manage-cgroups-mode", "ignore")
PROGRAMS = {"true": ["/bin/true"], "sleep": ["/bin/sleep", "100000"], "quiet": ["/bin/sh", "-c", QUIET]}


class Runtime:
    """A runtime with the usual command line."""

    def __init__(self, name: str, path: str, host: "Host") -> None:
        self.name = name
        self.path = path
        self.host = host
        self.root = host.directory / f"root-{name}"
        self._flags = ["--systemd-cgroup"] if host.systemd else []

    def command(self, *words: str) -> list[str]:
        return [self.path, "--root", str(self.root), *self._flags, *words]

    def run(self, id: str, program: str = "true") -> list[str]:
        return self.command("run", "--bundle", str(self.host.bundle(self.name, id, program)), id)

    def create(self, id: str, program: str = "sleep") -> list[str]:
        return self.command("create", "--bundle", str(self.host.bundle(self.name, id, program)), id)

    def start(self, id: str) -> list[str]:
        return self.command("start", id)

    def state(self, id: str) -> list[str]:
        return self.command("state", id)

    def exec(self, id: str) -> list[str]:
        """Engines pass the process as a file."""
        return self.command("exec", "--process", str(self.host.directory / "process.json"), id)

    def kill(self, id: str) -> list[str]:
        return self.command("kill", id, "KILL")

    def delete(self, id: str) -> list[str]:
        return self.command("delete", id)

    def checkpoint(self, id: str, images: Path) -> list[str]:
        return self.command("checkpoint", *_CRIU_OPTIONS, "--image-path", str(images), id)

    def restore(self, id: str, images: Path) -> list[str]:
        bundle = str(self.host.bundle(self.name, id, "quiet"))
        return self.command("restore", *_CRIU_OPTIONS, "--detach", "--bundle", bundle, "--image-path", str(images), id)

    def list_all(self) -> list[str]:
        return self.command("list")

    def cgroup(self, id: str) -> Path:
        """The container's, with the cgroupfs driver."""
        return Path(f"{CGROUPS}/{self.host.prefix}-{self.name}-{id}")

    def version(self) -> str:
        done = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=True)
        return " ".join(done.stdout.split("\n")[0].split())


class Floor(Runtime):
    """The program bench/floor, which only makes the system calls. It reads no config.json."""

    def __init__(self, name: str, path: str, host: "Host", kept: Path | None = None) -> None:
        super().__init__(name, path, host)
        self.root.mkdir()
        self._flags = ["--cgroups", f"{CGROUPS}/{host.prefix}-{name}-", *(["--kept", str(kept)] if kept else [])]

    def run(self, id: str, program: str = "true") -> list[str]:
        return self.command("run", str(self.host.directory), id, *self.host.programs[program])

    def create(self, id: str, program: str = "sleep") -> list[str]:
        return self.command("create", str(self.host.directory), id, *self.host.programs[program])

    def exec(self, id: str) -> list[str]:
        return self.command("exec", id, *PROGRAMS["true"])

    def kill(self, id: str) -> list[str]:
        return self.command("kill", id)

    def version(self) -> str:
        return "bench/floor.c"


class Host:
    """A directory with a root filesystem, and the bundles that runtimes need, which it makes at their first use."""

    def __init__(self, directory: Path, config: str, *, systemd: bool = False, limit: int | None = None) -> None:
        """`config` has the placeholders of docker.json; `limit` is a memory limit in bytes."""
        self.directory = directory
        self.systemd = systemd
        self.limit = limit
        self.prefix = f"bench-{os.getpid()}"
        self.programs = dict(PROGRAMS)
        self._config = config
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            (directory / "rootfs" / name).mkdir(parents=True)
        shutil.copy(str(shutil.which("busybox")), directory / "rootfs/bin/busybox")
        for name in ("true", "sleep", "sh"):
            (directory / "rootfs/bin" / name).symlink_to("busybox")
        for name in ("resolv.conf", "hostname", "hosts"):
            (directory / name).touch()
            (directory / "rootfs/etc" / name).touch()  # else the first run makes them
        process = self.config("any", "any", "true")["process"]
        (directory / "process.json").write_text(json.dumps(process))

    def bundle(self, runtime: str, id: str, program: str) -> Path:
        limit = "" if self.limit is None else f"-{self.limit}"
        bundle = self.directory / f"bundle-{runtime}-{id}-{program}{limit}"
        if not bundle.exists():
            bundle.mkdir()
            (bundle / "config.json").write_text(json.dumps(self.config(runtime, id, program)))
        return bundle

    def config(self, runtime: str, id: str, program: str) -> dict[str, Any]:
        name = f"{self.prefix}-{runtime}-{id}"
        cgroup = f"system.slice:bench:{name}" if self.systemd else f"/{name}"
        text = self._config
        for placeholder, value in (
            ("@ROOTFS@", f"{self.directory}/rootfs"),
            ("@STATE@", str(self.directory)),
            ("@CGROUP@", cgroup),
        ):
            text = text.replace(placeholder, value)
        document: dict[str, Any] = json.loads(text)
        document["process"]["args"] = self.programs[program]
        if self.limit is not None:
            document["linux"]["resources"]["memory"] = {"limit": self.limit}
        return document


def find_runtimes(host: Host, pyoci: str, tools: Path, peers: Iterable[str] = PEERS) -> dict[str, Runtime]:
    """The runtimes by name, in the order of the tables."""
    found: dict[str, Runtime] = {} if host.systemd else {"floor": Floor("floor", str(tools / "floor"), host)}
    found["pyoci"] = Runtime("pyoci", pyoci, host)
    return {**found, **{name: Runtime(name, path, host) for name, path in find_peers(tools, peers).items()}}


def find_peers(tools: Path, peers: Iterable[str]) -> dict[str, str]:
    """The paths of the other runtimes that are in $PATH, or beside our tools, where bench/bench copies youki."""
    path = f"{os.environ['PATH']}:{tools}"
    return {name: found for name in peers if (found := shutil.which(name, path=path))}
