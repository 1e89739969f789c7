"""Containers that are dumped and restored, and what must be the same of them before and after.

`CheckpointRuntime` adds `checkpoint` and `restore` to the harness of tests/support/runtime.py. `facts` collects what
the kernel says about a container.
"""

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.counting import repeat
from tests.support.runtime import PATIENCE, Bundle, Host, Result, Runtime, status_of, wait_for

TIMEOUT = 300  # seconds for one dump or restore, also where the processor is emulated
IMAGES = "images"  # the directory that a test dumps to, unless it names another

# Fields of /proc/PID/status that a restore must not change.
STATUS = (
    *("Name", "NSpid", "NSsid", "NSpgid", "Uid", "Gid", "Groups", "Umask", "SigBlk", "SigIgn", "SigCgt"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"),
)
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


class CheckpointRuntime(Runtime):
    """The executable with a CRIU that works here, and directories of images."""

    def __init__(self, executable: str, folder: Path, bundle: Bundle, host: Host, criu: Path) -> None:
        super().__init__(executable, folder, bundle, host)
        self.criu = criu

    def command(self, *words: object, log: object = None) -> list[str]:
        program, *rest = super().command(*words, log=log)
        return [program, "--criu", str(self.criu), *rest]

    def images(self, name: str = IMAGES) -> Path:
        """A directory of images."""
        return self.folder / name

    def into_files(self, *words: object, **options: Any) -> Result:
        """A command that may leave a container, whose standard streams are /dev/null unless the caller gives others."""
        null = subprocess.DEVNULL
        result = super().into_files(*words, **{"stdout": null, "stderr": null, **options})
        if result.status:
            result.err += self.last_error()
        return result

    def last_error(self) -> str:
        """The last line of the log."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return str(json.loads(lines[-1])["msg"]) if lines else ""

    def launch(self, *options: object, id: str = "", **more: Any) -> None:
        """`create` and `start`."""
        self.create(*options, id=id, **more)
        self.start(id)

    def checkpoint(self, *options: object, id: str = "", images: str = IMAGES) -> None:
        """`checkpoint`, which succeeds without a word."""
        words = ("checkpoint", "--image-path", self.images(images), "--work-path", self.images(f"{images}-work"))
        result = self(*words, *options, id or self.id, timeout=TIMEOUT)
        assert (0, "", "") == tuple(result), f"{result} {self.criu_log(images, 'dump')}"

    def restore(self, *options: object, id: str = "", images: str = IMAGES, **more: Any) -> None:
        """`restore --detach`, which succeeds."""
        result = self.restores(*options, id=id, images=images, **more)
        assert 0 == result.status, f"{result} {self.criu_log(images, 'restore')}"

    def restores(self, *options: object, id: str = "", images: str = IMAGES, **more: Any) -> Result:
        """`restore --detach`, whatever comes of it."""
        words = ("restore", "--detach", "--bundle", self.bundle.folder, "--image-path", self.images(images))
        words = (*words, "--work-path", self.images(f"{images}-work"))
        return self.into_files(*words, *options, id or self.id, **{"timeout": TIMEOUT, **more})

    def restore_fails(self, *options: object, images: str = IMAGES, id: str = "") -> str:
        """A `restore` that fails, leaving nothing behind. Returns its message."""
        words = ("restore", "--detach", "--bundle", self.bundle.folder, "--image-path", self.images(images))
        message = self.fails(*words, "--work-path", self.images(f"{images}-work"), *options, id or self.id)
        self.assert_gone(id)
        return message

    def checkpoint_fails(self, *options: object, images: str = IMAGES, id: str = "") -> str:
        """A `checkpoint` that fails. The container runs as before. Returns the message."""
        before = self.state(id)
        words = ("checkpoint", "--image-path", self.images(images), "--work-path", self.images(f"{images}-work"))
        message = self.fails(*words, *options, id or self.id)
        assert before == self.state(id)
        return message

    def again(self, *options: object, id: str = "", images: str = IMAGES, **more: Any) -> None:
        """Dump the container, which deletes it, and restore it."""
        self.checkpoint(*options, id=id, images=images)
        assert {} == self.state(id)
        self.restore(*options, id=id, images=images, **more)
        assert "running" == self.state(id)["status"]

    def criu_log(self, images: str, kind: str) -> str:
        """The errors in CRIU's log, for a test that fails."""
        log = self.images(f"{images}-work") / f"{kind}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(["", *(line for line in lines if "Error" in line or "Warn" in line)][-20:])

    # --- what the container shows

    def inside(self, script: str, id: str = "") -> str:
        """What a shell prints that `exec` runs in the container."""
        result = self("exec", id or self.id, "/bin/sh", "-c", script)
        assert (0, "") == (result.status, result.err), result
        return result.out

    def pids(self, id: str = "") -> list[int]:
        """The container's processes, as the host numbers them."""
        result = self("ps", "--format", "json", id or self.id)
        assert 0 == result.status, result
        return list(json.loads(result.out))

    def file(self, path: str, id: str = "") -> Path:
        """A file of the container, as its first process sees it."""
        return Path(f"/proc/{self.pid(id)}/root{path}")

    def wait_for_file(self, path: str, id: str = "") -> str:
        """Wait until the container has written a line to a file; the file's content."""
        file = self.file(path, id)
        wait_for(lambda: file.exists() and file.read_text().endswith("\n"), f"the container did not write {path}")
        return file.read_text()

    def count(self, id: str = "") -> int:
        """The number that `COUNTER` has reached."""
        return int(self.wait_for_file("/dev/shm/count", id).split()[-1])

    def assert_counts(self, id: str = "") -> int:
        """The counter goes on; the number that it had reached."""
        begin = self.count(id)
        wait_for(lambda: self.count(id) > begin + 2, "the counter stands still")
        return begin


# A shell that counts in a variable, and writes each number to a tmpfs.
COUNTER = "cd /dev/shm; i=0; " + repeat("i=$((i+1)); echo $i", fifo="fifo", seconds=0.02) + " >>count"

# A shell that writes each number to a file of the root filesystem. CRIU refuses an open file whose size has changed
# since the checkpoint, so this one keeps its size: the same images can be restored twice.
FILE_COUNTER = "i=1000000; " + repeat("i=$((i+1)); echo $i 1<>/count", seconds=0.02)


def facts(runtime: CheckpointRuntime, id: str = "") -> dict[str, Any]:
    """What a restore must not change: each process by its number inside, the mounts, the id mappings, the shared
    namespaces, the host name.
    """
    pids = runtime.pids(id)
    init = runtime.pid(id)
    return {
        "tasks": {task["NSpid"]: task for task in map(_task, pids)},
        "threads": sorted(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
        "mounts": mounts(init, runtime.bundle.linux.get("maskedPaths", []), id or runtime.id),
        "maps": [Path(f"/proc/{init}/{name}_map").read_text().split() for name in ("uid", "gid")],
        "shared": shared_namespaces(init),
        "oom": Path(f"/proc/{init}/oom_score_adj").read_text(),
        "limits": Path(f"/proc/{init}/limits").read_text(),
    }


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Compare two `facts`, and fail with the entries that differ."""
    differing = [name for name in before if before[name] != after[name]]
    lines = []
    for name in differing:
        old, new = (_entries(found[name]) for found in (before, after))
        lines += [f"{name}: only before: {entry}" for entry in old if entry not in new]
        lines += [f"{name}: only after:  {entry}" for entry in new if entry not in old]
    assert not differing, "\n".join(["", *lines])


def again(checkpoints: CheckpointRuntime, bundle: Bundle, *options: str) -> None:
    """Start a counter, dump it and restore it. Its namespaces, mounts and all else are as before."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    before = facts(checkpoints)
    checkpoints.again(*options)
    assert_same(before, facts(checkpoints))
    checkpoints.assert_counts()


def _entries(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [(key, field, text) for key, fields in value.items() for field, text in fields.items()]
    return value.splitlines() if isinstance(value, str) else list(value)


def _task(pid: int) -> dict[str, str]:
    """One process: its status, with all ids as its own namespace numbers them."""
    status = status_of(pid)
    fields = {name: status.get(name, "") for name in STATUS}
    for name in ("NSpid", "NSsid", "NSpgid"):
        fields[name] = fields[name].split()[-1]
    parent = int(status["PPid"])
    fields["parent"] = _inner(parent) if fields["NSpid"] != "1" else ""
    fields["cwd"] = os.readlink(f"/proc/{pid}/cwd")
    fields["label"] = _label(pid)
    return fields


def _inner(pid: int) -> str:
    return status_of(pid)["NSpid"].split()[-1]


def _label(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/attr/current").read_text()
    except OSError:  # no security module
        return ""


def mounts(pid: int, masked: list[str], id: str) -> list[tuple[object, ...]]:
    """The mounts of a process in the order of their places, without the numbers that the kernel gives.

    Names of the bundle are relative to it, and those of the cgroup have no id. What masks a file is a read-only null
    device, whatever filesystem it is from.
    """
    found: list[tuple[object, ...]] = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        _, _, _, root, target, options, *_ = left.split()
        if target in masked and root == "/null":
            found.append((target, "null device", "ro" in options.split(",")))
        else:
            root = root.partition("/bundle")[2] if "/bundle" in root else root.replace(id, "ID")
            found.append((target, right.split()[0], root, tuple(sorted(options.split(",")))))
    return sorted(found, key=str)


def shared_namespaces(pid: int) -> list[str]:
    """The namespaces that a process has in common with this one."""
    return [kind for kind in NAMESPACES if _namespace(pid, kind) == _namespace("self", kind)]


def _namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


class Pipe:
    """A pipe of an engine's: the container has the end `writer` as a standard stream."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until `text` has come. Returns all that came since the last call."""
        while text not in self.seen:
            assert select.select([self.reader], [], [], PATIENCE)[0], self.seen
            part = os.read(self.reader, 4096)
            assert part, f"the pipe was closed: {self.seen}"
            self.seen += part.decode()
        found, _, self.seen = self.seen.partition(text)
        return found + text

    def close(self) -> None:
        for fd in (self.reader, self.writer):
            with contextlib.suppress(OSError):
                os.close(fd)


def with_host_programs(bundle: Bundle) -> None:
    """Give the container the programs of this host, read-only: such as Python."""
    bundle.mount("/usr", "none", "bind", "ro", source="/usr")  # without what is mounted below
    for name in ("lib", "lib64"):
        link = bundle.rootfs / name
        if os.path.islink(f"/{name}") and not link.is_symlink():
            link.symlink_to(f"usr/{name}")


def python(bundle: Bundle, script: str, *arguments: Iterable[str]) -> None:
    """Let the container's program be this host's Python with a script."""
    with_host_programs(bundle)
    (bundle.rootfs / "script.py").write_text(script)
    bundle.program("/usr/bin/python3", "-I", "-S", "/script.py", *arguments)
