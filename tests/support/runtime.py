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
import stat
import struct
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyoci
from pyoci import testing
from pyoci.client.container import Container
from pyoci.client.executable import Executable
from pyoci.client.exits import Watch
from pyoci.testing.rootfs import busybox
from tests.support.config import docker_like
from tests.support.deadline import finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyoci.client.types import StrPath

AT_ONCE = 8  # seconds for a command that waits for nobody: less than the runtime's timeout for others
PATIENCE = 60  # seconds for one command, or one change of a container's status, on a machine as busy as can be
PR_SET_CHILD_SUBREAPER = 36
BPF_PROG_QUERY, BPF_CGROUP_DEVICE, SYS_BPF = 16, 6, {"x86_64": 321, "aarch64": 280}
# Where programs that have nothing to do with a test may mount at any time, such as engines, and other tests.
OTHERS = ("/tmp/", "/run/", "/sys/fs/cgroup", "/var/", "/srv/", "/home/", "/media/", "/snap/")
NAMESPACES = ("mount", "network", "uts", "pid", "ipc", "cgroup")


class Bundle(testing.Bundle):
    """A bundle with a busybox root filesystem and a config as Docker sends it. The harness writes config.json."""

    def __init__(self, folder: Path, rootfs: str = "rootfs") -> None:
        super().__init__(folder, busybox(folder / "rootfs"), docker_like(rootfs))

    @property
    def folder(self) -> Path:
        """The directory."""
        return self.directory


class Commands(Executable):
    """The API's side of the harness: its commands are the harness' own, whatever those are wrapped in."""

    def __init__(self, harness: "Runtime") -> None:
        super().__init__(harness.executable, None, "cgroupfs", "error")
        self._harness = harness

    def command(self, *words: "StrPath", log: "StrPath | None" = None) -> list[str]:
        return self._harness.command(*words, log=log)


class Result:
    """How a command ended: `status`, what it wrote to `out` and `err`, and the `seconds` it took."""

    def __init__(self, status: int, out: str, err: str, seconds: float) -> None:
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds

    def __iter__(self) -> "Iterator[int | str]":
        return iter((self.status, self.out, self.err))

    def __repr__(self) -> str:
        return f"<{self.status} in {self.seconds:.2f} s: {self.out[-3000:]!r} {self.err[-3000:]!r}>"


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
        self._commands = Commands(self)

    # --- commands

    def command(self, *words: object, log: object = None) -> list[str]:
        """The whole command line of `pyoci WORDS`."""
        options = ["--root", self.root, "--log", log or self.log, "--log-format", "json"]
        return [str(word) for word in (self.executable, *options, *words)]

    def container(self, id: str = "") -> Container:
        """The container in the API."""
        return Container(self._commands, id or self.id, Watch(monitor=False))

    def __call__(self, *words: object, timeout: float = PATIENCE, **options: Any) -> Result:
        """Run a command. Whatever happens, the error is one that the implementation expects."""
        begun = time.monotonic()
        options.setdefault("stdin", subprocess.DEVNULL)
        given = options.pop("input", None)
        if given is not None:
            options["stdin"] = subprocess.PIPE
        pipe = subprocess.PIPE
        with subprocess.Popen(self.command(*words), stdout=pipe, stderr=pipe, **options) as process:
            out, err = finish(process, timeout, given)
        return _result(process.returncode, out, err, begun)

    def create(self, *options: object, id: str = "", **more: Any) -> Result:
        """`create`, which succeeds. What the container writes goes to the files `out` and `err`."""
        return self.detached("create", "--bundle", self.bundle.folder, *options, id or self.id, **more)

    def detached(self, *words: object, **options: Any) -> Result:
        """A command that succeeds and leaves a container, which keeps the files `out` and `err` open."""
        result = self.into_files(*words, **options)
        assert 0 == result.status, result
        return result

    def into_files(self, *words: object, timeout: float = PATIENCE, **options: Any) -> Result:
        """A command that may leave a container, which keeps the files `out` and `err` open."""
        self.bundle.write()
        begun = time.monotonic()
        options.setdefault("stdin", subprocess.DEVNULL)
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            options = {"stdout": out, "stderr": err, **options}
            done = subprocess.run(self.command(*words), timeout=timeout, check=False, **options)
        return _result(done.returncode, *((self.folder / name).read_bytes() for name in ("out", "err")), begun)

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
        """The state document; {} if there is no such container, or `create` has not recorded it yet."""
        try:
            return dict(self.container(id).state)
        except pyoci.ContainerNotFound:
            return {}
        except pyoci.StateError as error:
            if str(error).endswith("is being created: it has no record.json yet"):
                return {}
            raise

    def pid(self, id: str = "") -> int:
        """The container's first process, as the host numbers it."""
        return int(self.state(id)["pid"])

    def status(self, id: str = "") -> str:
        """Its status while other commands create or delete it: "" if there is no such container, or half of one."""
        try:
            return str(self.state(id).get("status", ""))
        except pyoci.PyociError as error:
            if not re.search("is being created|was left half made", str(error)):
                raise
            return ""

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
        """`delete --force` of every container, twice: the second one finds nothing, and succeeds."""
        for path in sorted(self.root.iterdir()) if self.root.exists() else ():
            for _ in range(2):
                assert (0, "", "") == tuple(self("delete", "--force", path.name))


class Host:
    """What surrounds the containers of one test, and must be afterwards what it was before.

    With `adopts`, orphans become children of this very process, so that no process of a container can hide.
    """

    def __init__(self, folder: Path, *, canary: str = "canary", adopts: bool = True) -> None:
        self.folder = folder
        self.token = f"t{uuid.uuid4().hex[:10]}"
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._adopts = adopts
        if adopts:
            self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.canary = folder / canary
        self._plant_canary(links=adopts)
        self._children = set(_children())
        self.remember()

    def remember(self) -> None:
        """From now on, this is what must not change."""
        self._before = self._facts()

    def assert_clean(self, root: Path) -> None:
        """I1 to I5, once every container was deleted; without `adopts`, I1 is the caller's to check."""
        assert not self._adopts or [] == self.processes()
        assert [] == self.cgroups()
        assert [] == (sorted(path.name for path in root.iterdir()) if root.exists() else [])
        now = self._facts()
        for what, before in self._before.items():
            assert before == now[what], f"{what} of the host changed: from {before} to {now[what]}"

    def release(self) -> None:
        """End what a failed test has left, remove its cgroups, and be nobody's parent any more."""
        for pid in set(_children()) - self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        for cgroup in sorted(self.cgroups(), reverse=True):  # a child comes after its parent in this order
            with contextlib.suppress(OSError):
                os.rmdir(cgroup)
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def ours(self, pid: int) -> None:
        """A process of the test's own, which is to live longer than its containers."""
        self._children.add(pid)

    def reap(self) -> None:
        """Reap what has ended, as an engine does with the processes of its `exec --detach`."""
        for pid in set(_children()) - self._children:
            os.waitpid(pid, os.WNOHANG)

    # --- what it looks at

    def processes(self, *expected: int) -> list[str]:
        """Command lines of live processes that were not there before, without the expected ones.

        Waits a moment for them to end, and reaps those that have ended.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            new = set(_children()) - self._children - {*expected}
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
            "canary": {str(path): describe(path) for path in (self.canary, *sorted(self.canary.rglob("*")))},
            "beside": sorted(
                path.name for path in self.folder.iterdir() if path.name.startswith((self.canary.name, "bundle"))
            ),
            "null": describe(Path("/dev/null")),
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

    def _plant_canary(self, *, links: bool) -> None:
        self.canary.mkdir(mode=0o755)
        (self.canary / "file").write_text("canary\n")
        (self.canary / "folder").mkdir(mode=0o750)
        (self.canary / "folder/file").write_text("canary\n")
        (self.canary / "folder/file").chmod(0o600)
        if links:
            (self.canary / "link").symlink_to("file")
            os.mkfifo(self.canary / "fifo", 0o640)


def describe(path: Path) -> tuple[object, ...]:
    """What must not change of a file."""
    try:
        status = path.lstat()
    except OSError as error:
        return (error.errno,)
    content = ""
    if stat.S_ISREG(status.st_mode):
        with contextlib.suppress(OSError):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
    return (oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev, status.st_nlink, content)


def _result(status: int, out: bytes, err: bytes, begun: float) -> Result:
    """The result of a command, whose error is one of those that are expected."""
    texts = [text.decode("utf-8", "backslashreplace") for text in (out, err)]
    for accident in ("Traceback", "internal error"):
        assert accident not in texts[1], texts[1]
    return Result(status, *texts, time.monotonic() - begun)


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


def kill(process: "subprocess.Popen[Any]", number: int = signal.SIGKILL) -> None:
    """End a process of the test's own."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    process.wait(PATIENCE)
