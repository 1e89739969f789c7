"""Real processes that have what CRIU can't dump: the runtime names each of them beforehand."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.criu import undumpable
from pyoci.criu.undumpable import MAX_FINDINGS, find
from pyoci.request import CriuOptions
from tests.support.runtime import Bundle, Runtime, kill, wait_for

pytestmark = pytest.mark.root

CANT = "CRIU can't dump it"
CONNECT = 'a = socket.create_server(("127.0.0.1", 0)); b = socket.create_connection(a.getsockname()); c = a.accept()'
CONNECTED = "has established TCP connections (hint: pass --tcp-established to keep them, or --tcp-close)"
EXECED = "was started by exec: CRIU leaves it out"  # as each process that init has not started
UNAVAILABLE = 77  # exit status of a program that the kernel refuses what it tests
PROLOGUE = """
import ctypes, fcntl, mmap, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result < 0:
        sys.exit(77)
    return result
def zeros(*values, size=128):
    return ctypes.create_string_buffer(b"".join(values).ljust(size, b"\\0"), size)
"""
EPILOGUE = """
print("ready", flush=True)
time.sleep(100)
"""


@contextlib.contextmanager
def running(script: str, folder: Path) -> Iterator[int]:
    """A Python program in a session and directory of its own that has done `script`; its pid."""
    program = [sys.executable, "-ISc", PROLOGUE + script + EPILOGUE]
    process = subprocess.Popen(
        program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, cwd=folder
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line and process.wait() == UNAVAILABLE:
            pytest.skip("the kernel does not offer it")
        assert line == b"ready\n"
        yield process.pid
    finally:
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        kill(process)
        if process.stdout:
            process.stdout.close()


def children(pid: int) -> list[int]:
    """The children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def problems_of(pids: list[int], options: CriuOptions | None = None) -> list[str]:
    """The problems of processes on the host, without those of the host's mounts, which no container has."""
    found = find(pids[0], pids, options or CriuOptions())
    return [problem for problem in found if not problem.startswith("the container has mounted ")]


def found(pid: int, *more: int, options: CriuOptions | None = None) -> list[str]:
    """The problems, without the names of the processes."""
    problems = problems_of([pid, *more], options)
    assert all(
        re.match(r"process \d+ \(\S+\) ", problem) for problem in problems if "the container" not in problem[:14]
    )
    return [re.sub(r"^process \d+ \(\S+\) ", "", problem) for problem in problems]


@pytest.mark.may_skip("kernels may be built without these")
@pytest.mark.parametrize(
    ("script", "phrase"),
    [
        ("call(libc.syscall(425, 8, zeros()))", f"has an io_uring: {CANT}"),
        (
            "fd = call(libc.syscall(425, 8, zeros()))\nm = mmap.mmap(fd, 4096, offset=0x10000000)\nos.close(fd)",
            f"maps an io_uring: {CANT}",
        ),
        (
            'call(libc.syscall(298, zeros(struct.pack("IIQ", 1, 128, 1)), 0, -1, -1, 0))',
            f"has a performance counter (perf_event_open): {CANT}",
        ),
        ("call(libc.syscall(323, 1))", f"has a userfaultfd: {CANT}"),
        ("call(libc.syscall(447, 0))", f"has secret memory (memfd_secret): {CANT}"),
        ("call(libc.syscall(444, zeros(struct.pack('Q', 1)), 8, 0))", f"has a Landlock ruleset: {CANT}"),
        ('call(libc.syscall(430, b"tmpfs", 0))', f"has a filesystem that is not mounted yet (fsopen): {CANT}"),
        (
            'call(libc.syscall(321, 0, zeros(struct.pack("IIIII", 1, 4, 4, 4, 0)), 72))',
            f"has a BPF map: {CANT}, unless it was built with libbpf",
        ),
        (
            """
f = zeros(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
call(libc.prctl(38, 1, 0, 0, 0))
call(libc.syscall(317, 1, 8, zeros(struct.pack("HxxxxxxQ", 1, ctypes.addressof(f)))))
""",
            f"has the listener of a seccomp filter: {CANT}",
        ),
        (
            "try: s = socket.socket(40, socket.SOCK_STREAM)\nexcept OSError: sys.exit(77)",
            f"has a socket of the protocol AF_VSOCK: {CANT}",
        ),
        (
            "try: s = socket.socket(2, socket.SOCK_STREAM, 262)\nexcept OSError: sys.exit(77)",
            f"has a socket of the protocol MPTCP: {CANT} (hint: set GODEBUG=multipathtcp=0 for a Go program)",
        ),
    ],
)
def test_files_of_the_kernel(script: str, phrase: str, tmp_path: Path) -> None:
    """io_uring, perf, userfaultfd, BPF, and sockets of families that CRIU does not know."""
    with running(script, tmp_path) as pid:
        assert phrase in found(pid)


@pytest.mark.parametrize(
    ("script", "phrase", "options"),
    [
        (
            CONNECT,
            CONNECTED,
            CriuOptions(tcp_established=True),
        ),
        (
            'a = socket.create_server(("::1", 0), family=10); b = socket.create_connection(a.getsockname()[:2]); c = a.accept()',
            CONNECTED,
            CriuOptions(tcp_close=True),
        ),
        (
            'a = socket.create_server(("127.0.0.1", 0)); b = socket.create_connection(a.getsockname())',
            "has not accepted a TCP connection yet (hint: pass --tcp-skip-in-flight)",
            CriuOptions(tcp_skip_in_flight=True, tcp_established=True),
        ),
        (
            'f = open("x", "w"); fcntl.flock(f, fcntl.LOCK_EX)',
            "holds a lock on {folder}/x (hint: pass --file-locks)",
            CriuOptions(file_locks=True),
        ),
        (
            'f = open("x", "w"); fcntl.fcntl(f, 37, struct.pack("hhqqixxxx", 1, 0, 0, 0, 0))',
            "holds a lock on {folder}/x (hint: pass --file-locks)",
            CriuOptions(file_locks=True),
        ),
        (
            'f = open("x", "w"); os.link("x", "y"); os.unlink("x")',
            "has {folder}/x (deleted), which has another hard link (hint: pass --link-remap)",
            CriuOptions(link_remap=True),
        ),
    ],
    ids=["tcp", "tcp6", "in flight", "flock", "open file description lock", "hard link"],
)
def test_what_an_option_allows(script: str, phrase: str, options: CriuOptions, tmp_path: Path) -> None:
    """With the option there is nothing to report."""
    if "::1" in script and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6")
    with running(script, tmp_path) as pid:
        assert phrase.format(folder=tmp_path) in found(pid)
        assert [] == found(pid, options=options)


def test_large_deleted_files(tmp_path: Path) -> None:
    """CRIU copies up to 1 MiB into the images; mapped files count as well as open ones."""
    script = """
for name, size in (("small", 1 << 19), ("large", 1 << 21)):
    f = open(name, "wb+"); f.write(bytes([1]) * size); f.flush(); os.fsync(f.fileno()); os.unlink(name)
    globals()[name] = f
m = mmap.mmap(large.fileno(), 4096)
"""
    with running(script, tmp_path) as pid:
        problems = found(pid)
    assert [problem.split(" with ")[0] for problem in problems] == [
        f"has {tmp_path}/large (deleted)",
        f"maps {tmp_path}/large (deleted)",
    ]
    assert all("ghost-limit" in problem for problem in problems)


@pytest.mark.parametrize("kind", ["stream", "stream in the queue", "named datagram", "unnamed datagram"])
def test_unix_sockets_to_the_outside(kind: str, tmp_path: Path) -> None:
    """A datagram socket with a name is fine with the option; a connection never is."""
    is_stream = kind.startswith("stream")
    type_ = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
    with socket.socket(socket.AF_UNIX, type_) as outside:
        outside.bind(str(tmp_path / "s"))
        if is_stream:
            outside.listen()
        script = f's = socket.socket(1, {int(type_)}); s.connect("{tmp_path}/s")'
        with running(script, tmp_path) as pid:
            accepted = outside.accept()[0] if kind == "stream" else None
            where = f"the unix socket {tmp_path}/s" if kind != "stream in the queue" else "a unix socket"
            problems = found(pid), found(pid, options=CriuOptions(ext_unix_sk=True))
            if accepted:
                accepted.close()
    if is_stream:
        assert problems == ([f"is connected to {where} outside the container: CRIU can't dump the connection"],) * 2
    else:
        assert problems == ([f"is connected to {where} outside the container (hint: pass --ext-unix-sk)"], [])


def test_sockets_of_the_container_itself(tmp_path: Path) -> None:
    """Pairs, listeners, queues, half-closed connections, epoll, pipes, terminals, /dev/null: CRIU knows them all."""
    script = """
import select
a, b = socket.socketpair(); c, d = socket.socketpair(); d.close()
e, f = socket.socketpair(1, 2)
g = socket.socket(1); g.bind("s"); g.listen(); h = socket.socket(1); h.connect("s")
i = socket.create_server(("127.0.0.1", 0)); j = socket.socket(2, 2); k = socket.socket(16, 3, 0)
l = select.epoll(); l.register(a); m = os.pipe(); n = os.openpty(); o = open("/dev/null"); p = open("x", "w")
q = os.memfd_create("x"); r = mmap.mmap(-1, 4096); s = libc.eventfd(0, 0); t = libc.inotify_init()
"""
    with running(script, tmp_path) as pid:
        assert [] == found(pid)


@pytest.mark.parametrize(("flag", "kind"), [(0x4000000, "uts"), (0x8000000, "ipc"), (0x2000000, "cgroup")])
def test_nested_namespaces(flag: int, kind: str, tmp_path: Path) -> None:
    """CRIU dumps only one of these namespaces."""
    child = f"    libc.unshare({flag}); os.write(w, b'x'); time.sleep(100)"
    script = f"r, w = os.pipe()\nif os.fork() == 0:\n{child}\nos.read(r, 1)"
    with running(script, tmp_path) as pid:
        assert [f"has its own {kind} namespace: {CANT}"] == found(pid, *children(pid))


def test_traced_processes(tmp_path: Path) -> None:
    """CRIU must trace them itself."""
    script = "c = os.fork()\nif c == 0: time.sleep(100)\ncall(libc.ptrace(0x4206, c, 0, 0))"
    with running(script, tmp_path) as pid:
        assert [f"is traced by process {pid}: CRIU can't stop it (hint: detach the debugger)"] == found(
            pid, *children(pid)
        )


def test_processes_that_end_meanwhile(tmp_path: Path) -> None:
    """No process, a zombie, and processes that come and go."""
    assert [] == find(1 << 22, [(1 << 22) + 1], CriuOptions())
    script = """
c = os.fork()
if c == 0: os._exit(0)
b = os.fork()
if b == 0:
    while True:
        p = os.fork()
        if p == 0: f = open("/dev/null"); os._exit(0)
        os.waitpid(p, 0)
"""
    with running(script, tmp_path) as pid:
        first, *others = children(pid)
        for _ in range(20):
            assert [] == problems_of([pid, first, *others, *(each for other in others for each in children(other))])


LOCK = 'f = open(str(os.getpid()), "w"); fcntl.flock(f, fcntl.LOCK_EX)'


def locks(folder: Path, *pids: int) -> list[str]:
    """The problems of processes that have done `LOCK` in this directory."""
    return [f"holds a lock on {folder}/{pid} (hint: pass --file-locks)" for pid in pids]


def test_process_that_ends_before_its_mounts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of its mount namespace still have their mounts."""
    read = undumpable._text
    with running(LOCK, tmp_path) as one, running(LOCK, tmp_path) as other:
        ended = f"/proc/{min(one, other)}/mountinfo"
        monkeypatch.setattr(undumpable, "_text", lambda path: "" if path == ended else read(path))
        assert {*locks(tmp_path, one, other), EXECED} == set(found(one, other))


@pytest.mark.parametrize("root", ["plain", "/proc"])
def test_process_with_a_root_directory_of_its_own(root: str, tmp_path: Path) -> None:
    """It shows only mounts below that: none in a plain directory. All of init's still count."""
    (tmp_path / "plain").mkdir()
    with running(f"{LOCK}; os.chroot({root!r})", tmp_path) as other, running(LOCK, tmp_path) as init:
        assert {*locks(tmp_path, init, other), EXECED} == set(found(init, other))


def test_init_in_a_plain_directory(tmp_path: Path) -> None:
    """It shows no mounts. Its files are still judged."""
    (tmp_path / "plain").mkdir()
    with running(f"{LOCK}; {CONNECT}; os.chroot('plain')", tmp_path) as init:
        assert [CONNECTED, *locks(tmp_path, init)] == found(init)


def test_the_number_of_problems_is_bounded(tmp_path: Path) -> None:
    """A hostile program fills neither the terminal nor the memory."""
    script = 'f = []\nfor i in range(300):\n    f.append(open(f"x{i}", "w")); fcntl.flock(f[-1], fcntl.LOCK_EX)'
    with running(script, tmp_path) as pid:
        problems = find(pid, [pid], CriuOptions())
    assert len(problems) == MAX_FINDINGS + 1
    assert problems[-1] == "there may be more"


def test_checkpoint_plan_names_the_processes(runtime: Runtime, bundle: Bundle) -> None:
    """Before the request, as comments; in JSON as a list. Nothing is changed, and no criu is needed."""
    bundle.shell("exec 9>/dev/shm/x; ln /dev/shm/x /dev/shm/y; rm /dev/shm/x; exec sleep 1000")
    runtime.create()
    runtime.start()
    pid = runtime.pid()
    wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")

    text = runtime("checkpoint", "--plan", runtime.id)
    allowed = runtime("checkpoint", "--plan", "--link-remap", runtime.id)

    assert (0, "") == (text.status, text.err)
    problem = f"process {pid} (sleep) has /dev/shm/x (deleted), which has another hard link (hint: pass --link-remap)"
    assert f"\n\n# {problem}\ntype: DUMP\n" in text.out
    assert "# process" not in allowed.out
    assert runtime.status() == "running"


def test_checkpoint_plan_names_processes_of_exec(runtime: Runtime, bundle: Bundle) -> None:
    """They do not descend from init, so CRIU would lose them."""
    bundle.shell("exec sleep 1000")
    runtime.create()
    runtime.start()
    pid_file = runtime.folder / "exec.pid"
    runtime.detached("exec", "--detach", "--pid-file", pid_file, runtime.id, "sleep", "999")

    out = runtime("checkpoint", "--plan", runtime.id).out

    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # as the engine does
    assert f"\n# process {pid} (sleep) {EXECED}\n" in out
