"""A runtime under test, a bundle for it, and the host around both.

`Bundle` is a busybox root filesystem with a config as Docker sends it. `Runtime` runs the executable with a state root
and a log of its own, and holds every answer to the rules of the command line. `Host` is what no command may change;
its `assert_clean` checks the invariants I1 to I5:

    I1  no process is left, unless it belongs to a container that is created or running
    I2  the host's mounts are what they were
    I3  no cgroup, and no program attached to one, is left after `delete --force`
    I4  the state root is empty, and `delete --force` can be repeated
    I5  a tree outside of the root filesystem did not change
"""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.deadline import finish
from tests.support.hostile import OTHERS, docker_like
from tests.support.rootfs import busybox

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60  # seconds for one command, or one change of a container's status, on a machine as busy as can be
PR_SET_CHILD_SUBREAPER = 36
BPF_PROG_QUERY, BPF_CGROUP_DEVICE, SYS_BPF = 16, 6, {"x86_64": 321, "aarch64": 280}
NAMESPACES = ("mount", "network", "uts", "pid", "ipc", "cgroup")


class Bundle:
    """A bundle whose config is written when a command uses it; until then `config` is the test's to change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rootfs = busybox(folder / "rootfs")
        self.config = docker_like("rootfs")

    @property
    def process(self) -> dict[str, Any]:
        return self.config["process"]

    @process.setter
    def process(self, value: dict[str, Any]) -> None:
        self.config["process"] = value

    @property
    def linux(self) -> dict[str, Any]:
        return self.config["linux"]

    @linux.setter
    def linux(self, value: dict[str, Any]) -> None:
        self.config["linux"] = value

    def program(self, *args: object) -> "Bundle":
        """The container's program."""
        self.process["args"] = [str(arg) for arg in args]
        return self

    def shell(self, script: str) -> "Bundle":
        """The container's program is a shell with this script."""
        return self.program("/bin/sh", "-c", script)

    def mount(self, destination: str, type: str = "tmpfs", *options: str, source: str | Path = "") -> "Bundle":
        """One more entry of `mounts`, in place of an earlier one with this destination."""
        self.config["mounts"] = [entry for entry in self.config["mounts"] if entry["destination"] != destination]
        entry = {"destination": destination, "type": type, "source": str(source or type), "options": list(options)}
        self.config["mounts"].append(entry)
        return self

    def without_mount(self, *destinations: str) -> "Bundle":
        """Leave out entries of `mounts`."""
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] not in destinations]
        return self

    def namespace(self, type: str, path: str | Path = "") -> "Bundle":
        """A namespace of this type, a new one or the one at `path`, in place of what the config says of it."""
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] != type]
        self.linux["namespaces"].append({"type": type, "path": str(path)} if path else {"type": type})
        return self

    def in_user_namespace(self, host: int = 100000, size: int = 65536) -> "Bundle":
        """Container root is `host` on the host, and owns the root filesystem."""
        self.namespace("user")
        self.linux["uidMappings"] = self.linux["gidMappings"] = [{"containerID": 0, "hostID": host, "size": size}]
        for path in (self.rootfs, *self.rootfs.rglob("*")):
            os.chown(path, host, host, follow_symlinks=False)
        return self

    def hook(self, kind: str, script: str, **more: Any) -> "Bundle":
        """One more hook of this kind: a shell with a script, found in the root filesystem for startContainer."""
        entry = {"path": "/bin/sh", "args": ["sh", "-c", script], **more}
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)
        return self

    def write(self) -> None:
        (self.folder / "config.json").write_text(json.dumps(self.config))


class Result:
    """How a command ended: `status`, and what it wrote to `out` and `err`."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    def __iter__(self) -> Any:
        return iter((self.status, self.out, self.err))

    def __repr__(self) -> str:
        return f"<exit status {self.status}, out {self.out[-3000:]!r}, err {self.err[-3000:]!r}>"


class Runtime:
    """The executable, with a state root and a log of its own."""

    def __init__(self, executable: str, folder: Path, bundle: Bundle, host: "Host") -> None:
        self.executable = executable
        self.folder = folder
        self.root = folder / "state"
        self.log = folder / "log.json"
        self.bundle = bundle
        self.host = host
        self.id = f"{host.token}-1"

    # --- commands

    def command(self, *words: object) -> list[str]:
        """The whole command line of `pyoci WORDS`."""
        options = ["--root", self.root, "--log", self.log, "--log-format", "json"]
        return [str(word) for word in (self.executable, *options, *words)]

    def __call__(self, *words: object, timeout: float = PATIENCE, **options: Any) -> Result:
        """Run a command. Whatever happens, it is no accident of the implementation."""
        options.setdefault("stdin", subprocess.DEVNULL)
        given = options.pop("input", None)
        if given is not None:
            options["stdin"] = subprocess.PIPE
        pipe = subprocess.PIPE
        with subprocess.Popen(self.command(*words), stdout=pipe, stderr=pipe, **options) as process:
            said = finish(process, timeout, given)
        out, err = (text.decode("utf-8", "backslashreplace") for text in said)
        assert "Traceback" not in err, err
        assert "internal error" not in err, err
        return Result(process.returncode, out, err)

    def create(self, *options: object, id: str = "", **more: Any) -> Result:
        """`create`, which succeeds. What the container writes goes to the files `out` and `err`."""
        return self.detached("create", "--bundle", self.bundle.folder, *options, id or self.id, **more)

    def detached(self, *words: object, **options: Any) -> Result:
        """A command that succeeds and leaves a container, which keeps the files `out` and `err` open."""
        self.bundle.write()
        options.setdefault("stdin", subprocess.DEVNULL)
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            options = {"stdout": out, "stderr": err, **options}
            done = subprocess.run(self.command(*words), timeout=PATIENCE, check=False, **options)
        result = Result(done.returncode, self.output(), (self.folder / "err").read_text())
        assert 0 == result.status, result
        return result

    def output(self) -> str:
        """What the container that was created has written so far."""
        return (self.folder / "out").read_text(errors="backslashreplace")

    def start(self, id: str = "") -> None:
        assert (0, "", "") == tuple(self("start", id or self.id))

    def run(self, *options: object, **more: Any) -> Result:
        """`run` in the foreground, whatever comes of it."""
        self.bundle.write()
        return self("run", "--bundle", self.bundle.folder, *options, self.id, **more)

    def shell(self, script: str, *options: object, **more: Any) -> str:
        """What a script writes in a container that runs to its good end."""
        self.bundle.shell(script)
        result = self.run(*options, **more)
        assert (0, "") == (result.status, result.err), result
        return result.out

    def state(self, id: str = "") -> dict[str, Any]:
        """The state document; {} if there is no such container."""
        result = self("state", id or self.id)
        if result.status:
            assert "does not exist" in result.err, result
            return {}
        document: dict[str, Any] = json.loads(result.out)
        return document

    def pid(self, id: str = "") -> int:
        """The container's first process, as the host numbers it."""
        return int(self.state(id)["pid"])

    def status(self, id: str = "") -> str:
        """Its status while other commands make it or delete it: "" if there is no such container, or only a half of it."""
        result = self("state", id or self.id)
        if result.status:
            assert re.search("does not exist|is being created", result.err), result
            return ""
        return str(json.loads(result.out)["status"])

    def wait(self, status: str, id: str = "") -> None:
        """Wait until the container has this status."""
        wait_for(lambda: self.status(id) == status, f"not {status}")

    def delete(self, *options: str, id: str = "") -> None:
        result = self("delete", *options, id or self.id)
        assert (0, "", "") == tuple(result), result

    def record(self, id: str = "") -> dict[str, Any]:
        """record.json as the runtime wrote it."""
        document: dict[str, Any] = json.loads((self.root / (id or self.id) / "record.json").read_text())
        return document

    # --- errors

    def fails(self, *words: object, **options: Any) -> str:
        """Run a command that fails: one line on standard error, the same one last in the log. Returns it."""
        self.bundle.write()
        result = self(*words, **options)
        assert 0 != result.status, result
        message = result.err.removesuffix("\n")
        assert message
        assert "\n" not in message
        last = json.loads(self.log.read_text().splitlines()[-1])
        assert ("error", message) == (last["level"], last["msg"])
        return message

    def create_fails(self, *options: object, verb: str = "create", **more: Any) -> str:
        """A `create` that fails, leaving nothing behind at once. Returns its message."""
        message = self.fails(verb, "--bundle", self.bundle.folder, *options, self.id, **more)
        self.assert_gone()
        return message

    def creates_killed(self, moments: int = 12) -> "Iterator[None]":
        """kill -9 of `create` at so many moments of its course; each time the caller looks at what is left, and deletes
        it. As long as none of them has hit it at its work there are more: how long that takes changes with the machine.
        """

        def begin() -> "subprocess.Popen[bytes]":
            words = self.command("create", "--bundle", self.bundle.folder, self.id)
            null = subprocess.DEVNULL
            return subprocess.Popen(words, stdin=null, stdout=null, stderr=null)

        def run() -> float:
            start = time.monotonic()
            assert 0 == begin().wait(PATIENCE)
            course = time.monotonic() - start
            self.delete("--force")
            return course

        run()  # the first one is slower than those that follow
        course = min(run(), run())
        hits = 0
        deadline = time.monotonic() + PATIENCE
        moment = 0
        while moment < moments or not hits:
            create = begin()
            time.sleep(course * (moment % moments) / moments)
            create.kill()
            hits += create.wait() == -signal.SIGKILL and (self.root / self.id).exists()
            yield
            moment += 1
            assert hits or time.monotonic() < deadline, "each came before or after what create does"

    def assert_gone(self, id: str = "") -> None:
        """Nothing of the container is left, without any `delete`."""
        assert not (self.root / (id or self.id)).exists()
        assert [] == self.host.cgroups(id or self.id)
        assert [] == self.host.processes()

    def clean_up(self) -> None:
        """`delete --force` of every container, twice."""
        for path in sorted(self.root.iterdir()) if self.root.exists() else ():
            for _ in range(2):
                assert (0, "", "") == tuple(self("delete", "--force", path.name))


class Host:
    """What surrounds the containers of one test, and must be afterwards what it was before.

    Orphans become children of this very process, so that no process of a container can hide.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = f"t{uuid.uuid4().hex[:10]}"
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.canary = folder / "canary"
        self._plant_canary()
        self._children = set(_children())
        self._before = self._facts()

    def assert_clean(self, root: Path) -> None:
        """I1 to I5, once every container was deleted."""
        assert [] == self.processes()
        assert [] == self.cgroups()
        assert [] == (sorted(path.name for path in root.iterdir()) if root.exists() else [])
        now = self._facts()
        for what, before in self._before.items():
            assert before == now[what], f"{what} of the host changed"

    def release(self) -> None:
        """End what is left, and be nobody's parent any more."""
        for pid in set(_children()) - self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def ours(self, pid: int) -> None:
        """A process of the test's own, which is to live longer than its containers."""
        self._children.add(pid)

    def reap(self) -> None:
        """Reap what has ended, as an engine does with the processes of its `exec --detach`."""
        for pid in set(_children()) - self._children:
            os.waitpid(pid, os.WNOHANG)

    # --- what it looks at

    def processes(self) -> list[str]:
        """Command lines of live processes that were not there before; they get a moment to end."""
        deadline = time.monotonic() + PATIENCE
        while True:
            new = set(_children()) - self._children
            left = [f"{pid} {_command_line(pid)}" for pid in new if os.waitpid(pid, os.WNOHANG)[0] == 0]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.005)

    def cgroups(self, id: str = "") -> list[str]:
        """Cgroups of this test's containers."""
        # not os.walk, which fails in a very deep tree, and any test may have made one
        find = ["find", cgroup_mount(), "-ignore_readdir_race", "-type", "d", "-name", f"*{id or self.token}*"]
        return subprocess.run(find, capture_output=True, text=True, check=False, timeout=PATIENCE).stdout.splitlines()

    def _facts(self) -> dict[str, Any]:
        return {
            "mounts": self._mounts(),
            "programs": {path: self._device_programs(path) for path in (cgroup_mount(), own_cgroup())},
            "canary": {str(path): _describe(path) for path in (self.canary, *sorted(self.canary.rglob("*")))},
            "beside": sorted(path.name for path in self.folder.iterdir() if path.name.startswith(("canary", "bundle"))),
            "null": _describe(Path("/dev/null")),
            "cwd": os.getcwd(),
        }

    def _mounts(self) -> list[str]:
        """The host's mounts, but for places where other programs may mount at any time."""
        lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return sorted(
            " ".join(line[3:]) for line in lines if not line[4].startswith(OTHERS) or str(self.folder) in " ".join(line)
        )

    def _device_programs(self, cgroup: str) -> int:
        """How many device programs are attached to a cgroup that outlives the containers."""
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            attributes = ctypes.create_string_buffer(struct.pack("=IIIIQII", fd, BPF_CGROUP_DEVICE, 0, 0, 0, 0, 0), 64)
            number = SYS_BPF[os.uname().machine]
            assert 0 == self._libc.syscall(number, BPF_PROG_QUERY, attributes, 64), os.strerror(ctypes.get_errno())
            return int(struct.unpack_from("=I", attributes, 24)[0])
        finally:
            os.close(fd)

    def _plant_canary(self) -> None:
        self.canary.mkdir(mode=0o755)
        (self.canary / "file").write_text("canary\n")
        (self.canary / "folder").mkdir(mode=0o750)
        (self.canary / "folder/file").write_text("canary\n")
        (self.canary / "folder/file").chmod(0o600)
        (self.canary / "link").symlink_to("file")
        os.mkfifo(self.canary / "fifo", 0o640)


def _describe(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
    return (oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev, status.st_nlink, content)


def _children() -> list[int]:
    """Every child of this process, zombies too."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(ended)"


def cgroup_mount() -> str:
    """Where the cgroup v2 hierarchy is mounted."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.split()[2] == "cgroup2")


def own_cgroup() -> str:
    """The cgroup of this process in that hierarchy."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return cgroup_mount() + next(line[3:] for line in lines if line.startswith("0::"))


def status_of(pid: int | str = "self") -> dict[str, str]:
    """The fields of /proc/PID/status."""
    return parse_status(Path(f"/proc/{pid}/status").read_text())


def parse_status(text: str) -> dict[str, str]:
    """The fields of a status file: name to value."""
    fields = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in fields}


class MountPoint:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    def __init__(self, line: str) -> None:
        left, right = line.split(" - ", 1)
        _, _, self.device, self.root, self.target, options, *fields = left.split()
        self.options = set(options.split(","))
        self.fields = {field.partition(":")[0] for field in fields}  # shared, master, propagate_from, unbindable
        self.type, self.source, super_options = right.split()
        self.super_options = set(super_options.split(","))


def mount_points(text: str) -> dict[str, MountPoint]:
    """What mountinfo says, by mount point; of several on one point the last."""
    found = [MountPoint(line) for line in text.splitlines()]
    return {entry.target: entry for entry in found}


def wait_for(condition: Any, what: str = "") -> None:
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what or "waited too long"
        time.sleep(0.005)
