"""Every operation of a plan fails once: the error names its place in config.json, and nothing is left behind.

The child's operations are broken one by one by encoding a verb that the child does not know, the parent's by raising
OSError. No product code knows of this.
"""

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from pyoci.cli.log import Log
from pyoci.compiler import verbs
from pyoci.compiler.verbs import ChildOp
from pyoci.container import Container
from pyoci.create import create
from pyoci.delete import delete
from pyoci.errors import HookError, PyociError, SetupError, StatusError
from pyoci.parent import protocol
from pyoci.request import CreateRequest
from pyoci.start import start
from tests.support.runtime import PATIENCE, Bundle, Runtime

pytestmark = pytest.mark.root


def docker(bundle: Bundle) -> None:
    """What Docker sends, with limits."""
    bundle.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    bundle.linux["seccomp"] = SECCOMP
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}]
    bundle.process["oomScoreAdj"] = 100


def hooks(bundle) -> None:
    """Hooks of every kind."""
    for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"):
        bundle.hook(kind, "cat >/dev/null").hook(kind, "true")


def terminal(bundle) -> None:
    """A terminal."""
    bundle.process |= {"terminal": True, "consoleSize": {"height": 40, "width": 90}}


def user_namespace(bundle) -> None:
    """A user namespace, with devices that the runtime makes."""
    bundle.in_user_namespace()
    zero = {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}
    bundle.linux["devices"] = [{"path": "/dev/pipe", "type": "p"}, zero, {**zero, "path": "/dev/own", "uid": 5}]


def bootstrap(bundle) -> None:
    """An intermediate process: user and time namespaces, with offsets."""
    bundle.in_user_namespace().namespace("time")
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 10}, "boottime": {"secs": 20}}


def properties(bundle) -> None:
    """Whatever else has an operation of its own."""
    source = bundle.folder / "source"
    source.mkdir()
    (source / "file").touch()
    bundle.mount("/bound", "none", "rbind", "rro", "rslave", source=source)
    bundle.mount("/file", "none", "bind", source="source/file")
    bundle.mount("/etc", "tmpfs", "tmpcopyup", "ro")
    bundle.mount("/dev/shm", "tmpfs", "private", "size=64k")
    bundle.config["mounts"].append({"destination": "/bound", "options": ["remount", "bind", "ro"]})
    bundle.config |= {"hostname": "h", "domainname": "d"}
    bundle.config["root"]["readonly"] = True
    bundle.linux["rootfsPropagation"] = "private"
    bundle.linux["personality"] = {"domain": "LINUX32"}
    bundle.linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    bundle.linux["seccomp"] = SECCOMP
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_PREFERRED"}
    bundle.process |= {"noNewPrivileges": True, "cwd": "/made", "env": ["PATH=/bin"]}
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 1}
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 5}
    bundle.process["user"] |= {"uid": 1000, "gid": 1000, "umask": 7, "additionalGids": [5]}
    bundle.process["capabilities"] |= {"inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]}


def notification(bundle) -> None:
    """A filter with a listener, which the sweep's socket takes."""
    listener = {"listenerPath": str(bundle.folder.parent / "console")}
    rules = [*SECCOMP["syscalls"], {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    bundle.linux["seccomp"] = {**SECCOMP, **listener, "syscalls": rules}
    bundle.hook("startContainer", "true")


SECCOMP = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
}
CONFIGS = [docker, hooks, terminal, user_namespace, bootstrap, properties, notification]


# Takes the connections of the socket that is its standard input, and what comes by them.
LISTENER = """
import socket
listener = socket.socket(fileno=0)
while True:
    connection, _ = listener.accept()
    with connection:
        while connection.recv(4096):
            pass
"""


@pytest.fixture
def sweep(runtime: Runtime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> "Iterator[Sweep]":
    """A sweep over the plan of this bundle."""
    with Sweep(runtime, bundle, monkeypatch) as made:
        yield made


class Sweep:
    """Creates and starts one container again and again, in this process: descriptors and children are seen, too."""

    def __init__(self, runtime: Runtime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.monkeypatch = monkeypatch
        self.ops = []
        self.encode = protocol.encode
        self.perform = protocol.Launch._perform
        self.socket = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Self:
        path = str(self.runtime.folder / "console")
        self.socket.bind(path)
        self.socket.listen()
        # another process: what a thread has open for a moment would be this one's
        self.listener = subprocess.Popen([sys.executable, "-I", "-S", "-c", LISTENER], stdin=self.socket)
        self.runtime.host.ours(self.listener.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.kill()
        self.listener.wait()
        self.socket.close()

    def create(self) -> Container:
        self.bundle.write()
        has_terminal = self.bundle.process.get("terminal")
        request = CreateRequest(
            self.runtime.id,
            root=str(self.runtime.root),
            bundle=str(self.bundle.folder),
            log=Log(),
            console_socket=str(self.runtime.folder / "console") if has_terminal else None,
        )
        return create(request)

    def break_child(self, index: int) -> None:
        """Replace an operation of the child by one that fails; -1 only counts the operations."""

        def encode(ops: Sequence[ChildOp], slots: int, *, first: int) -> bytes:
            self.ops = [*self.ops[:first], *ops]
            broken = list(ops)
            if first <= index < first + len(ops):
                broken[index - first] = verbs.SetScheduler(attributes=b"", policy="none")
            return self.encode(broken, slots, first=first)

        self.monkeypatch.setattr(protocol, "encode", encode)

    def break_parent(self, index: int) -> None:
        """Let the `index`th operation that the runtime itself does fail with EIO. `ops` has the operations that ran."""
        self.ops = []

        def broken(launch, op) -> None:
            self.ops.append(op)
            if len(self.ops) - 1 == index:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self.perform(launch, op)

        self.monkeypatch.setattr(protocol.Launch, "_perform", broken)

    def assert_clean(self, fds: dict[str, str]) -> None:
        """Nothing is left, in this process neither."""
        self.runtime.host.assert_clean(self.runtime.root)
        assert fds == open_descriptors()


def open_descriptors() -> dict[str, str]:
    """What this process has open, as numbers and targets."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return {name: target for name, target in found.items() if not target.startswith("/proc/")}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_operation_of_the_child(
    sweep: Sweep, runtime: Runtime, bundle: Bundle, config: Callable[..., Any]
) -> None:
    """The child rejects the nth operation, for every n."""
    config(bundle)
    sweep.break_child(-1)
    container = sweep.create()
    start(container)
    delete(container, force=True)
    container.close()
    sweep.runtime.host.assert_clean(runtime.root)
    fds = open_descriptors()
    waits = [op.verb for op in sweep.ops].index("wait_start")
    assert "exec" == sweep.ops[-1].verb

    for index, op in enumerate(list(sweep.ops)):
        sweep.break_child(index)
        where = "/process/args/0" if op.verb == "exec" else op.where
        kind = HookError if op.verb == "run_hook" else SetupError
        what = f"operation {index}, {op!r}"
        if index < waits:
            with pytest.raises(kind) as failure:
                sweep.create()
        elif index == waits:
            container = sweep.create()  # it dies alone
            os.waitid(os.P_PID, container.record.pid, os.WEXITED | os.WNOWAIT)
            assert "stopped" == container.status()
            with pytest.raises(StatusError, match="stopped"):
                start(container)
            container.close()
            container = Container.load(runtime.id, root=str(runtime.root))
            delete(container)
            container.close()
            sweep.assert_clean(fds)
            continue
        else:
            container = sweep.create()
            with pytest.raises(kind) as failure:
                start(container)
            container.close()
        message = str(failure.value)
        assert where == failure.value.where, what
        phrase = message.removeprefix(f"{where}: ") if where else message
        assert phrase.startswith(("cannot ", "error running ", 'exec: "', "chdir to cwd")), what
        assert "invalid argument" in message or "sched_setattr" in message, what
        sweep.assert_clean(fds)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_operation_of_the_parent(
    sweep: Sweep, runtime: Runtime, bundle: Bundle, config: Callable[..., Any]
) -> None:
    """The nth thing that the runtime does itself fails, for every n."""
    config(bundle)
    sweep.break_parent(-1)
    container = sweep.create()
    delete(container, force=True)
    container.close()
    sweep.runtime.host.assert_clean(runtime.root)
    fds = open_descriptors()
    count = len(sweep.ops)
    assert {op.verb for op in sweep.ops} >= {"open_rootfs", "make_cgroup", "attach_device_filter", "commit"}

    for index in range(count):
        sweep.break_parent(index)
        with pytest.raises(PyociError) as failure:
            sweep.create()
        op = sweep.ops[-1]
        assert index == len(sweep.ops) - 1
        assert op.where == failure.value.where, op
        assert str(failure.value).startswith((f"{op.where}: " if op.where else "") + "cannot "), op
        assert "input/output error" in str(failure.value), op
        sweep.assert_clean(fds)


# --- single system calls, from outside

FINGERPRINT = """grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig[BI])' /proc/self/status
    cut -d' ' -f4-6,8- /proc/self/mountinfo | sed 's/ master:[0-9]*//'; cat /proc/self/limits; umask; hostname
    ls -ln /dev | sed 's/ [A-Z][a-z][a-z] .*[0-9] / /'; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
    ls /proc/self/fd; cat /proc/self/cgroup; env"""
OURS = frozenset(
    "close wait4 waitid exit_group exit poll select write read".split()
)  # the runtime could do nothing then
QUIET = frozenset("brk mmap munmap mprotect getpid gettid geteuid rt_sigaction rt_sigprocmask getrandom".split())
OF_THE_CHILD = frozenset(
    """
    openat2 move_mount fsopen fsconfig fsmount pivot_root umount2 mknodat symlinkat setresuid setresgid setgroups capset
    capget close_range seccomp setns setsid sethostname unshare fchdir chdir keyctl prctl faccessat2 fchownat sched_setaffinity
    """.split()
)


def system_calls(trace: Path) -> list[tuple[str, int]]:
    """(name, n) for each call of a process in a trace, from its first change to the state root on."""
    counts = {}
    found = []
    begun = False
    for line in trace.read_text(errors="replace").splitlines():
        name = line.partition("(")[0]
        if not name.isidentifier():
            continue
        counts[name] = counts.get(name, 0) + 1
        begun = begun or name.startswith("mkdir")
        if begun and name not in OURS | QUIET:
            found.append((name, counts[name]))
    return found


def strace(runtime: Runtime, *options: Path | str) -> tuple[int, str, str]:
    """`run` the container under strace: (status, out, err)."""
    command = ["strace", "-qq", *options, *runtime.command("run", "--bundle", runtime.bundle.folder, runtime.id)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "EINTR"])
@pytest.mark.parametrize("whose", ["runtime", "child"])
def test_every_system_call(runtime: Runtime, bundle: Bundle, whose: str, error: str) -> None:
    """One call fails: the container is made, and is not weaker; or an error in one line, and nothing is left."""
    docker(bundle)
    bundle.process["user"] |= {"uid": 1000, "gid": 1000, "umask": 0o27, "additionalGids": [5]}
    bundle.shell(FINGERPRINT).write()
    trace = runtime.folder / "trace"
    follow = ["-f", "-e", f"trace={','.join(OF_THE_CHILD)}"] if whose == "child" else []
    if whose == "child":
        status, expected, err = strace(runtime, "-ff", "-o", trace)
        traces = sorted(runtime.folder.glob("trace.*"), key=lambda path: path.stat().st_size)
        child = next(path for path in traces if "pivot_root" in path.read_text(errors="replace"))
        calls = {}
        for line in child.read_text(errors="replace").splitlines():
            name = line.partition("(")[0]
            if name in OF_THE_CHILD:
                calls[name] = calls.get(name, 0) + 1
            if name == "execve":
                break
        points = [(name, n + 1) for name, count in calls.items() for n in range(count)]
    else:
        status, expected, err = strace(runtime, "-o", trace)
        points = system_calls(trace)
    assert (0, "") == (status, err)
    assert len(points) > 50

    succeeded = 0
    for name, n in points[:: 1 if error == "EPERM" else 4]:
        what = f"{name} number {n} fails with {error}"
        inject = ["-o", "/dev/null", *follow, "-e", f"inject={name}:error={error}:when={n}"]
        status, out, err = strace(runtime, *inject)
        if status == 0:
            succeeded += 1
            assert expected == out, what
            assert "" == err, what
        else:
            assert 1 == status, what
            assert 1 == err.count("\n"), (what, err)
            assert "internal error" not in err, (what, err)
            assert out in ("", expected), what
            if out:  # the program has run: it was the delete that failed
                runtime.clean_up()
        runtime.host.assert_clean(runtime.root)
    assert succeeded
