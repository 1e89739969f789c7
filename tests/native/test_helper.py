"""The helper: what it is linked from, and how the runtime starts it (native/helper, native/launch.pxi)."""

import array
import ctypes
import errno
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci import _native
from pyoci.compiler.block import encode
from pyoci.compiler.verbs import Chdir, ChildOp, ReceivePlan, Setsid, Sync
from pyoci.compiler.verbs.numbers import BLOCK_ERRORS, FIRST_SLOT, HOOKS, MAX_SLOTS, READY
from pyoci.errors import SetupError, reason
from pyoci.executable import freeze, image
from pyoci.parent import helper
from pyoci.parent.conversation import FAILED, RECORD, SYNC, UNREADABLE, UNRECEIVED

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "pyoci/_native.c"
AS_ROOT = os.geteuid() == 0
SEALS = 0xF  # SEAL, SHRINK, GROW, WRITE
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_STACK, PT_RELRO = 1, 2, 3, 0x6474E551, 0x6474E552


# --- what it is


def segments() -> list[tuple[int, int]]:
    """The type and the flags of each segment of the helper."""
    elf = freeze.HELPER.read_bytes()
    table, count = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
    return [image.SEGMENT.unpack_from(elf, table + 56 * number)[:2] for number in range(count)]


def test_helper_is_small_and_hardened() -> None:
    """It is static and position-independent, and has no memory that is writable and executable."""
    elf = freeze.HELPER.read_bytes()
    kinds = dict(segments())
    assert len(elf) < freeze.MAX_HELPER
    assert 3 == struct.unpack_from("<H", elf, 16)[0]  # ET_DYN
    assert PT_INTERP not in kinds
    assert PT_RELRO in kinds
    assert 0 == kinds[PT_STACK] & 1
    assert not [flags for kind, flags in segments() if kind == PT_LOAD and flags & 3 == 3]


def test_kernel_can_map_the_helper() -> None:
    """Whatever the size of its pages: arm64 has pages of 4, 16 or 64 KiB. A page has one place in the file."""
    elf = freeze.HELPER.read_bytes()
    assert freeze.LARGEST_PAGE == {"x86_64": 4096, "aarch64": 65536}[os.uname().machine]
    table, count = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
    headers = [image.SEGMENT.unpack_from(elf, table + 56 * number) for number in range(count)]
    loaded = [header for header in headers if header[0] == PT_LOAD]
    end = 0
    for _, _, offset, virtual, _, _, size, alignment in loaded:
        assert alignment == freeze.LARGEST_PAGE
        assert 0 == (virtual - offset) % alignment
        assert virtual // alignment * alignment >= end, "two segments share a page"
        end = virtual + size


def test_helper_needs_no_relocation() -> None:
    """Nothing would apply one: the helper has no dynamic linker, and its start does not relocate it."""
    listing = subprocess.check_output(["readelf", "--relocs", "--wide", freeze.HELPER], text=True)
    assert "There are no relocations in this file." in listing


def test_helper_has_nothing_of_python() -> None:
    """No string of Python or of the C library is left in it."""
    elf = freeze.HELPER.read_bytes()
    assert not re.findall(rb"Py[A-Z_]\w+|__pyx\w*|GLIBC", elf)


@pytest.mark.parametrize("intruder", ["malloc(1)", "PyErr_Clear()", 'printf("%d", 1)', "pthread_mutex_lock(0)"])
def test_link_fails_with_anything_but_system_calls(tmp_path: Path, intruder: str) -> None:
    """The linker refuses a child that allocates, formats, locks or calls into Python."""
    text = SOURCE.read_text()
    entry = re.search(r"static void __pyx_f_5pyoci_7_native_run_ops\([^;{]*\) \{", text)
    assert entry
    changed = tmp_path / "changed.c"
    changed.write_text(f"{text[: entry.end()]} {intruder};{text[entry.end() :]}")
    objects = [tmp_path / "changed.o", tmp_path / "libc.o"]
    cheap = [flag for flag in freeze.HELPER_FLAGS if flag != "-O2"]
    include = ["-I", sysconfig.get_path("include"), "-I", ROOT / "pyoci"]
    subprocess.run(["cc", "-w", *cheap, *include, "-c", changed, "-o", objects[0]], check=True)
    library = ROOT / "pyoci/native/helper/libc.c"
    subprocess.run(["cc", "-O2", *cheap, "-ffreestanding", "-c", library, "-o", objects[1]], check=True)
    linked = subprocess.run(
        ["cc", *freeze.HELPER_LINKING, *objects, "-o", tmp_path / "linked"], capture_output=True, text=True
    )
    assert linked.returncode != 0
    assert f"undefined reference to `{intruder.partition('(')[0]}'" in linked.stderr


def test_process_with_shared_memory_makes_system_calls_only() -> None:
    """Between clone3 and execveat, the new process calls no function and uses no memory of the thread (errno)."""
    made = ROOT / "build/executable/_native.o"
    assert made.exists(), "run tools/build"
    listing = subprocess.check_output(["objdump", "-dr", "--no-show-raw-insn", made], text=True)
    body = re.search(r"<pyoci_become_helper>:\n(.*?)\n\n", listing + "\n\n", re.DOTALL)
    assert body
    code = body[1]
    assert not re.findall(r"\s(?:call|bl|blr)\s", code), code
    assert not re.findall(r"%[fg]s:|tpidr|errno|stack_chk", code), code
    assert len(re.findall(r"\s(?:syscall|svc)\b", code)) >= 3


@pytest.mark.parametrize("arguments", [[], ["init"], ["init", "x"], ["init", "1"], ["init", "3x"], ["init", "3", "4"]])
def test_helper_ends_without_a_plan(tmp_path: Path, arguments: list[str]) -> None:
    """A program of the container may execute it: it says nothing and exits."""
    copy = shutil.copy(freeze.HELPER, tmp_path / "helper")
    os.chmod(copy, 0o755)
    done = subprocess.run(["init", *arguments[1:]], executable=copy, capture_output=True, stdin=subprocess.DEVNULL)
    assert (127, b"", b"") == (done.returncode, done.stdout, done.stderr)


# --- how it is started


class Started:
    """A process that runs the helper, and the runtime's end of its channel."""

    def __init__(self, flags: int = 0) -> None:
        self.messages: list[str] = []
        self.helper = helper.Helper(self.messages.append)
        self.ours, theirs = _native.channel()
        try:
            self.pid, self.pidfd = self.helper.start(theirs, flags)
        finally:
            os.close(theirs)

    def send(self, *points: int, slots: list[int] | None = None) -> None:
        """Send a plan of synchronisation points."""
        self.send_ops(*(Sync(point=point) for point in points), slots=slots)

    def send_ops(self, *ops: ChildOp, slots: list[int] | None = None, first: int = 0) -> None:
        """Send a block of operations."""
        slots = slots or [-1] * FIRST_SLOT
        _native.send_plan(self.ours, encode(list(ops), len(slots), first=first), slots)

    def answer(self) -> None:
        """Let the process continue at a point."""
        _native.send(self.ours, b"\1")

    def record(self) -> tuple[int, ...]:
        """Receive one record: kind, operation, step, errno, length, detail."""
        data, _ = _native.receive_fds(self.ours, 8192)
        return RECORD.unpack(data)

    def end(self) -> int:
        """Close the channel, and return the exit status."""
        os.close(self.ours)
        os.close(self.pidfd)
        self.helper.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def started() -> Iterator[Started]:
    """A process that waits for its plan."""
    made = Started()
    yield made
    made.end()


def test_executable_is_a_sealed_memfd(started: Started) -> None:
    """No process can write to it, shrink it or unseal it."""
    exe = f"/proc/{started.pid}/exe"
    assert "/memfd:pyoci (deleted)" == os.readlink(exe)
    assert ["the helper is in a sealed memfd"] == started.messages
    fd = started.helper._fd
    assert SEALS == fcntl_seals(fd)
    assert freeze.HELPER.read_bytes() == os.pread(fd, 1 << 20, 0)


def fcntl_seals(fd: int) -> int:
    """The seals of a memfd, without F_SEAL_EXEC."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS


def test_process_has_nothing_of_the_caller(started: Started) -> None:
    """It has no variables, and no descriptors but its channel and the standard streams."""
    started.send(READY)
    assert SYNC == started.record()[0]
    assert b"" == Path(f"/proc/{started.pid}/environ").read_bytes()
    inherited = {int(name) for name in os.listdir("/proc/self/fd") if is_inheritable(int(name))}
    open_there = {int(name) for name in os.listdir(f"/proc/{started.pid}/fd")} - {0, 1, 2} - inherited
    assert 1 == len(open_there)
    assert os.readlink(f"/proc/{started.pid}/fd/{open_there.pop()}").startswith("socket:")


def is_inheritable(fd: int) -> bool:
    """Whether a descriptor is open, and survives execve."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_descriptors_of_the_caller_keep_their_numbers() -> None:
    """The runtime's own take other numbers, and are close-on-exec."""
    read, write = os.pipe()
    os.dup2(write, 60)
    os.set_inheritable(60, True)
    started = Started()
    slots = [-1] * FIRST_SLOT
    slots[3] = read
    started.send(READY, slots=slots)
    assert SYNC == started.record()[0]
    links = {int(name): os.readlink(f"/proc/{started.pid}/fd/{name}") for name in os.listdir(f"/proc/{started.pid}/fd")}
    pipe = os.readlink(f"/proc/self/fd/{read}")
    assert pipe == links[60]
    ends = [fd for fd, link in links.items() if link == pipe and fd != 60]
    assert 1 == len(ends)
    flags = int(re.search(r"flags:\s+(\d+)", Path(f"/proc/{started.pid}/fdinfo/{ends[0]}").read_text())[1], 8)
    assert flags & os.O_CLOEXEC
    for fd in (60, read, write):
        os.close(fd)
    started.end()


def test_many_descriptors(started: Started) -> None:
    """More than fit into one message (SCM_MAX_FD)."""
    null = os.open("/dev/null", os.O_RDONLY)
    started.send(READY, slots=[null] * 600)
    assert SYNC == started.record()[0]
    there = [os.readlink(f"/proc/{started.pid}/fd/{name}") for name in os.listdir(f"/proc/{started.pid}/fd")]
    assert 600 <= there.count("/dev/null") <= 603
    os.close(null)


def test_too_many_descriptors(started: Started) -> None:
    """The child reports that its limit is lower than what its plan needs."""
    import resource

    resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (20, 20))
    null = os.open("/dev/null", os.O_RDONLY)
    started.send(READY, slots=[null] * 40)
    kind, index, step, error, *_ = started.record()
    assert (UNRECEIVED, 0, "recvmsg", errno.EMFILE) == (kind, index, _native.STEPS[step], error)
    os.close(null)


def test_plan_in_two_blocks(started: Started) -> None:
    """Records count operations through both. Each block may come with descriptors."""
    read, write = os.pipe()
    slots = [-1] * FIRST_SLOT
    started.send_ops(Sync(point=HOOKS), ReceivePlan(), slots=slots)
    kind, index, *_, detail = started.record()
    assert (SYNC, 0, HOOKS) == (kind, index, detail)
    started.answer()
    slots[3] = read
    started.send_ops(Setsid(), Sync(point=READY), slots=slots, first=2)
    kind, index, *_, detail = started.record()
    assert (SYNC, 3, READY) == (kind, index, detail)
    links = [os.readlink(f"/proc/{started.pid}/fd/{name}") for name in os.listdir(f"/proc/{started.pid}/fd")]
    assert 1 == links.count(os.readlink(f"/proc/self/fd/{read}"))
    for fd in (read, write):
        os.close(fd)


@pytest.mark.parametrize(
    ("first", "gid", "reason", "index"), [(0, 0, "HEADER", -1), (3, 0, "HEADER", -1), (2, -1, "NEGATIVE", 3)]
)
def test_second_block_that_is_damaged(started: Started, first: int, gid: int, reason: str, index: int) -> None:
    """The record names the operation by its number in the whole plan. The second block continues the first one."""
    started.send_ops(Setsid(), ReceivePlan())
    started.send_ops(Sync(point=HOOKS), Chdir(path="/", uid=0, gid=gid), first=first)
    kind, found, step, *_ = started.record()
    assert (UNREADABLE, index, reason) == (kind, found, [*BLOCK_ERRORS][step - 1])


def test_operations_after_receive_plan(started: Started) -> None:
    """The child waits for more at the end of a block only."""
    started.send_ops(ReceivePlan(), Setsid())
    kind, index, step, *_ = started.record()
    assert (UNREADABLE, 0, "LAST") == (kind, index, [*BLOCK_ERRORS][step - 1])


def test_too_many_descriptors_with_the_second_block(started: Started) -> None:
    """The operation that receives them fails."""
    import resource

    slots = [-1] * 40
    started.send_ops(Setsid(), ReceivePlan(), slots=slots)
    resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (20, 20))
    null = os.open("/dev/null", os.O_RDONLY)
    started.send_ops(Sync(point=READY), slots=[null] * 40, first=2)
    kind, index, step, error, *_ = started.record()
    assert (FAILED, 1, "recvmsg", errno.EMFILE) == (kind, index, _native.STEPS[step], error)
    os.close(null)


def test_child_that_waits_for_its_second_block_ends_with_the_runtime() -> None:
    """A closed channel ends it."""
    started = Started()
    started.send_ops(Sync(point=HOOKS), ReceivePlan())
    assert SYNC == started.record()[0]
    started.answer()
    assert 1 == started.end()


def test_child_ends_with_the_runtime() -> None:
    """A closed channel, before or after the plan, ends it."""
    assert 1 == Started().end()
    started = Started()
    started.send(HOOKS, READY)
    assert 1 == started.end()


@pytest.mark.parametrize(
    "message", [b"", b"x", array.array("i", [FIRST_SLOT, -2]).tobytes(), array.array("i", [MAX_SLOTS + 1, 3]).tobytes()]
)
def test_nonsense_in_place_of_a_plan(message: bytes) -> None:
    """The child reports it, and ends."""
    started = Started()
    peer = socket.socket(fileno=os.dup(started.ours))
    socket.send_fds(peer, [message or b"\0"], [0])
    kind, index, step, *_ = started.record()
    assert (UNRECEIVED, 0, "recvmsg") == (kind, index, _native.STEPS[step])
    peer.close()
    assert 1 == started.end()


def test_capabilities_survive_in_a_user_namespace() -> None:
    """execve would take them from a process whose user namespace has no ids yet. Nothing inherits them from it."""
    if not AS_ROOT:
        pytest.skip("needs root")
    started = Started(0x10000000)  # CLONE_NEWUSER
    started.send(READY)
    assert SYNC == started.record()[0]
    status = Path(f"/proc/{started.pid}/status").read_text()
    sets = {name: int(value, 16) for name, value in re.findall(r"Cap(\w+):\s+(\w+)", status)}
    assert sets["Bnd"] == sets["Prm"] == sets["Eff"]
    assert 0 == sets["Inh"] == sets["Amb"]
    started.end()


MEMFDS_REFUSED = """
import os, sys
sys.path.insert(0, {root!r})
from tests.native.test_helper import Started
open("/proc/sys/vm/memfd_noexec", "w").write("{level}")
started = Started()
started.send(8)
print(started.record()[0], os.readlink(f"/proc/{{started.pid}}/exe"), started.messages)
started.end()
"""


@pytest.mark.skipif(not AS_ROOT, reason="the sysctl needs root")
@pytest.mark.skipif(not os.path.exists("/proc/sys/vm/memfd_noexec"), reason="needs Linux 6.3")
@pytest.mark.may_skip("before Linux 6.3 no memfd can be refused")
@pytest.mark.parametrize("level", [1, 2])
def test_kernel_that_refuses_memfds(level: int) -> None:
    """With vm.memfd_noexec=1 a memfd must ask to be executable. With 2 the helper is on a read-only mount."""
    code = MEMFDS_REFUSED.format(root=str(ROOT), level=level)
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    out = subprocess.check_output(command, text=True, cwd=ROOT)
    assert out.startswith(f"{SYNC} ")
    assert ("/memfd:pyoci" in out, "the helper is in a sealed memfd" in out) == (level == 1, level == 1)
    assert ("/pyoci" in out, "the helper is in a private tmpfs" in out) == (level == 2, level == 2)


def test_failure_after_the_file_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A private tmpfs that can't be made read-only is not used, and no descriptor of it stays open."""
    if not AS_ROOT:
        pytest.skip("needs root")

    def refuse(_fd: int) -> None:
        raise PermissionError(errno.EPERM, "refused")

    monkeypatch.setattr(_native, "make_read_only", refuse)
    monkeypatch.setattr(helper, "PLACES", (helper.TMPFS,))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SetupError, match="cannot execute the helper: tmpfs: operation not permitted"):
        helper.Helper().start(0, 0)
    assert before == os.listdir("/proc/self/fd")


def test_nothing_to_execute_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line with every place and its reason, and nothing is left open."""

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(_native, "new_memfd", refuse)
    monkeypatch.setattr(helper, "PLACES", (helper.MEMFD, "/proc", "/no/such"))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SetupError) as caught:
        helper.Helper().start(0, 0)
    message = "cannot execute the helper: memfd: permission denied; /proc: "
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("; /no/such: no such file or directory")
    assert before == os.listdir("/proc/self/fd")


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.EFBIG])
def test_limit_that_holds_everywhere(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Another place would not help: the error names the first one only, and what to do."""
    asked: list[object] = []

    def refuse(*name: object, **_: object) -> int:
        asked.append(name)
        raise OSError(error, "refused")

    monkeypatch.setattr(_native, "new_memfd", refuse)
    monkeypatch.setattr(_native, "new_mount", refuse)
    with pytest.raises(SetupError) as caught:
        helper.Helper().start(0, 0)
    assert f"cannot execute the helper: memfd: {reason(error)}" == caught.value.message
    assert caught.value.hint
    assert 1 == len(asked)


def test_execve_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a security module refuses to execute the memfd, the next place is used."""
    launch = _native.launch
    refused: list[int] = []

    def refuse(fd: int, *arguments: int) -> tuple[int, int]:
        if not refused:
            refused.append(fd)
            raise PermissionError(errno.EACCES, "execveat")
        return launch(fd, *arguments)

    monkeypatch.setattr(_native, "launch", refuse)
    started = Started()
    assert 2 == len(started.messages)
    assert "/memfd" not in os.readlink(f"/proc/{started.pid}/exe")
    started.end()


def test_runtime_reports_the_error_of_execveat() -> None:
    """The runtime learns what failed and why; the process is gone, and errno of the runtime is its own."""
    plain = os.memfd_create("not a program")
    ours, theirs = _native.channel()
    ctypes.set_errno(0)
    with pytest.raises(OSError, match="execveat") as caught:
        _native.launch(plain, theirs, 0)
    assert ("execveat", errno.ENOEXEC) == (caught.value.strerror, caught.value.errno)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    for fd in (plain, ours, theirs):
        os.close(fd)
