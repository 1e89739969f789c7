"""What a container's program is given: no descriptor, no directory, no right and no blocked signal too many."""

import array
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.config.constants import CAPABILITIES
from tests.support import keyrings
from tests.support.config import mount
from tests.support.hostile import Attack
from tests.support.runtime import AT_ONCE, PATIENCE, wait_for

pytestmark = pytest.mark.root


def tell(text: str) -> dict[str, Any]:
    """What tests/support/probe.c prints, by name; the descriptors by number."""
    told: dict[str, Any] = {"fds": {}, "env": [], "escape": []}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name in ("env", "escape"):
            told[name].append(value)
        elif name.startswith("fd"):
            told["fds"][int(name[2:])] = value
        else:
            told[name] = value
    return told


@pytest.fixture
def inside(attack: Attack, probe: Path) -> Attack:
    """A container whose program is the probe, which also tries to escape."""
    (attack.rootfs / "bin/probe").write_bytes(probe.read_bytes())
    (attack.rootfs / "bin/probe").chmod(0o755)
    attack.process["args"] = ["/bin/probe", "escape"]
    return attack


def report_of(attack: Attack, *options: object, **more: Any) -> dict[str, Any]:
    result = attack.run(*options, **more)
    assert 0 == result.status, result
    return tell(result.out)


# ── descriptors, the working directory ──────────────────────────────────────────────────────────────────


@pytest.fixture
def leaked(tmp_path: Path) -> Iterator[list[int]]:
    """A hundred descriptors of a careless caller: directories of the host, memory files, sockets, pipes."""
    fds: list[int] = []
    for n in range(25):
        fds.append(os.open("/" if n % 2 else tmp_path, os.O_RDONLY | os.O_DIRECTORY))
        fds.append(os.memfd_create("leak"))
        fds.append(socket.socket(socket.AF_UNIX).detach())
        fds.append(os.open("/etc/passwd", os.O_RDONLY))
    for fd in fds:
        os.set_inheritable(fd, True)
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("options", [[], ["--no-pivot"]])
def test_leaked_descriptors(inside: Attack, leaked: list[int], options: list[str]) -> None:
    """CVE-2024-21626, CVE-2016-9962: of what the caller left open, and of our own, nothing reaches the program."""
    told = report_of(inside, *options, close_fds=False)
    assert {0, 1, 2} == set(told["fds"])
    assert [] == [path for path in told["escape"] if path.split("/")[4] not in "012"]


def test_leaked_descriptors_of_a_created_process(inside: Attack, leaked: list[int]) -> None:
    """CVE-2024-21626: while it waits for start, the first process holds two FIFOs of the state, and no directory."""
    assert 0 == inside.create(close_fds=False).status
    folder = f"/proc/{inside.pid()}/fd"
    links = {int(fd): os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
    state = f"{inside.root}/{inside.id}"
    others = {fd: link for fd, link in links.items() if fd > 2}
    assert {f"{state}/exec.fifo", f"{state}/result.fifo"} == set(others.values())
    assert "/" == os.readlink(f"/proc/{inside.pid()}/cwd")


@pytest.mark.parametrize("options", [[], ["--no-pivot"]])
@pytest.mark.parametrize("way", ["cwd", "symlink", "thread-self", "deep"])
def test_cwd_is_a_leaked_directory(inside: Attack, leaked: list[int], way: str, options: list[str]) -> None:
    """CVE-2024-21626 (Leaky Vessels): a cwd of /proc/self/fd/N is an error, whatever N is."""
    for n in [*range(16), leaked[0], leaked[1]]:
        path = {
            "cwd": f"/proc/self/fd/{n}", "symlink": f"/fd{n}", "thread-self": f"/proc/thread-self/fd/{n}",
            "deep": f"/proc/self/fd/{n}/../../../etc",
        }[way]  # fmt: skip
        if way == "symlink":
            inside.link(f"/fd{n}", f"/proc/self/fd/{n}")
        inside.process["cwd"] = path
        result = inside.run(*options, close_fds=False)
        assert (1, True) == (result.status, "cwd" in result.err), (path, result)


def test_cwd_becomes_a_leaked_directory(inside: Attack, tmp_path: Path) -> None:
    """CVE-2024-21626: passed on by --preserve-fds, a directory of the host is the caller's wish, but never the cwd."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    inside.process["cwd"] = "/proc/self/fd/3"
    result = inside.run("--preserve-fds", "1", close_fds=False, preexec_fn=lambda: os.dup2(fd, 3))
    os.close(fd)
    assert (1, True) == (result.status, "cwd" in result.err)


@pytest.mark.parametrize("options", [[], ["--no-pivot"]])
def test_program_behind_a_leaked_directory(inside: Attack, leaked: list[int], options: list[str]) -> None:
    """CVE-2024-21626: no descriptor of the runtime leads execve to a program of the host."""
    for n in [*range(3, 24), leaked[0], leaked[4]]:
        for path in (
            f"/proc/self/fd/{n}/../bin/sh",
            f"/proc/self/fd/{n}/bin/sh",
            f"/proc/self/fd/{n}/../../bin/busybox",
        ):
            inside.process["args"] = [path, "-c", "echo escaped"]
            result = inside.run(*options, close_fds=False)
            assert (True, "") == (result.status != 0, result.out), (path, result)


# ── ids, groups, capabilities ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [4294967295, 4294967296, -1, -2, 2**63, 1.0, "0", "1000", True, None, [], "１"])
@pytest.mark.parametrize("key", ["uid", "gid", "additionalGids"])
def test_invalid_id_is_rejected(inside: Attack, key: str, value: Any) -> None:
    """CVE-2024-40635, CVE-2026-46680, CVE-2026-30892: an id that is out of range or no number is never root's."""
    if (key, value) == ("additionalGids", None):
        value = [None]
    inside.process["user"][key] = [value] if key == "additionalGids" and not isinstance(value, list) else value
    if value == []:
        inside.process["user"][key] = [[]] if key == "additionalGids" else []
    result = inside.run()
    assert (1, "", True) == (result.status, result.out, "/process/user" in result.err), result


def test_largest_id(inside: Attack) -> None:
    """CVE-2024-40635: the largest id is an id, and not -1."""
    inside.process["user"] = {"uid": 4294967294, "gid": 4294967294, "additionalGids": [4294967294]}
    told = report_of(inside)
    assert ["4294967294 " * 3] * 2 == [f"{told['uid']} ", f"{told['gid']} "]
    assert "4294967294" == told["Groups"]


def test_no_group_of_the_caller(inside: Attack) -> None:
    """CVE-2022-2989, CVE-2022-36109, CVE-2023-25173: the groups are exactly those of the config, or none."""
    before = os.getgroups()
    try:
        os.setgroups([5, 6, 7])
        assert "" == report_of(inside)["Groups"]
        inside.process["user"]["additionalGids"] = []
        assert "" == report_of(inside)["Groups"]
        inside.process["user"]["additionalGids"] = [42, 4, 42]
        assert {"4", "42"} == set(report_of(inside)["Groups"].split())
    finally:
        os.setgroups(before)


@pytest.mark.parametrize("key", ["uid", "gid", "additionalGids"])
def test_id_without_mapping(inside: Attack, key: str) -> None:
    """CVE-2022-2990: an id that the user namespace does not have is an error, not the overflow id."""
    inside.bundle.in_user_namespace()
    inside.process["user"][key] = [70000] if key == "additionalGids" else 70000
    result = inside.run()
    assert (1, "") == (result.status, result.out)


SETS = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}


@pytest.mark.parametrize("seccomp", [False, True])
@pytest.mark.parametrize("nnp", [False, True])
@pytest.mark.parametrize(
    ("uid", "asked", "got"),
    [
        # of root, execve gives what the bounding set allows: nothing that is not in it
        (0, {}, {}),
        (0, {"bounding": ["CAP_KILL"]}, {"CapBnd": "KILL", "CapPrm": "KILL", "CapEff": "KILL"}),
        (1000, {}, {}),
        (1000, {"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"], "permitted": ["CAP_KILL", "CAP_SYS_ADMIN"],
                "effective": ["CAP_KILL"]}, {"CapBnd": "KILL SYS_ADMIN"}),
        (1000, {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
                "inheritable": ["CAP_KILL"]}, {"CapBnd": "KILL", "CapInh": "KILL"}),
        (1000, {name: ["CAP_KILL"] for name in SETS.values()},
         {"CapBnd": "KILL", "CapInh": "KILL", "CapPrm": "KILL", "CapEff": "KILL", "CapAmb": "KILL"}),
        (1000, {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]}, {"CapBnd": "KILL"}),
    ],
)  # fmt: skip
def test_capabilities_are_exact(
    inside: Attack, uid: int, asked: dict[str, list[str]], got: dict[str, str], nnp: bool, seccomp: bool
) -> None:
    """CVE-2016-8867, CVE-2022-24769, CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: no set holds more than asked.

    A seccomp filter must not leave the CAP_SYS_ADMIN behind that loading it takes.
    """
    inside.process["user"] = {"uid": uid, "gid": uid}
    inside.process["capabilities"] = asked
    inside.process["noNewPrivileges"] = nnp
    if seccomp:
        inside.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW",
                                   "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}  # fmt: skip
    told = report_of(inside)
    bits = {name: sum(1 << CAPABILITIES[f"CAP_{cap}"] for cap in got.get(name, "").split()) for name in SETS}
    if nnp and "permitted" not in asked:
        bits["CapPrm"] = bits["CapEff"] = 0  # then not even root's execve gains anything
    assert bits == {name: int(told[name], 16) for name in SETS}
    assert ("1" if nnp else "0", "2" if seccomp else "0") == (told["NoNewPrivs"], told["Seccomp"])
    assert ("0", "0") == (told["keepcaps"], told["securebits"])


@pytest.mark.parametrize("nnp", [False, True])
def test_setuid_and_file_capabilities(inside: Attack, probe: Path, nnp: bool) -> None:
    """CVE-2022-24769: with no_new_privs, or nothing in the bounding set, files of the image give nothing."""
    setuid = inside.rootfs / "bin/setuid"
    setuid.write_bytes(probe.read_bytes())
    setuid.chmod(0o6755)
    capable = inside.rootfs / "bin/capable"
    capable.write_bytes(probe.read_bytes())
    capable.chmod(0o755)
    # VFS_CAP_REVISION_2 with the effective bit; every capability permitted and inheritable
    os.setxattr(capable, "security.capability", bytes.fromhex("01000002" + "ffffffff" * 2 + "ff010000" * 2))
    inside.process["user"] = {"uid": 1000, "gid": 1000}
    inside.process["noNewPrivileges"] = nnp
    inside.process["capabilities"] = {} if not nnp else {"bounding": list(CAPABILITIES)}
    inside.process["args"] = ["/bin/setuid"]
    told = report_of(inside)
    assert ("1000" if nnp else "0") == told["uid"].split()[1]
    assert 0 == int(told["CapEff"], 16)
    inside.process["args"] = ["/bin/capable"]
    result = inside.run()
    if result.status == 0:  # without no_new_privs execve refuses what it can't give
        assert 0 == int(tell(result.out)["CapPrm"], 16)
    else:
        assert "operation not permitted" in result.err


def test_capabilities_in_a_user_namespace(inside: Attack) -> None:
    """CVE-2022-24769: the same sets in a user namespace, which starts with all of them."""
    inside.bundle.in_user_namespace()
    inside.process["capabilities"] = {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")}
    told = report_of(inside)
    kill = 1 << CAPABILITIES["CAP_KILL"]
    assert [0, kill, kill, kill, 0] == [int(told[name], 16) for name in SETS]


# ── signals, limits, and what else survives execve ──────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [[], ["--detach"]])
def test_signals_of_the_caller(inside: Attack, options: list[str]) -> None:
    """What the caller, or Python, ignores or blocks is neither ignored nor blocked inside."""

    def ignore_and_block() -> None:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    inside.bundle.write()
    out = inside.folder / "told"
    with out.open("wb") as file:
        command = inside.command("run", *options, "--bundle", inside.bundle.folder, inside.id)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=ignore_and_block,
                              check=False, timeout=PATIENCE)  # fmt: skip
    assert 0 == done.returncode
    if options:
        inside.wait("stopped")
    told = tell(out.read_text())
    assert ["0" * 16] * 2 == [told["SigBlk"], told["SigIgn"]]
    assert ("1", "0", "0") == (told["dumpable"], told["pdeathsig"], told["TracerPid"])


@pytest.mark.parametrize("signal", ["TERM", "USR1"])
def test_signals_before_start(inside: Attack, signal: str) -> None:
    """A signal that comes while the container waits is dealt with at once; none is lost in a mask."""
    inside.linux["namespaces"] = [ns for ns in inside.linux["namespaces"] if ns["type"] != "pid"]
    assert 0 == inside.create().status
    assert 0 == inside("kill", inside.id, signal).status
    inside.wait("stopped")
    result = inside.start()
    assert (1, "cannot start a container that has stopped\n") == (result.status, result.err)


def test_limits_of_the_caller(inside: Attack) -> None:
    """A tight limit of the caller's is the container's too, unless the config sets another."""
    inside.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
                                 {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]  # fmt: skip
    inside.bundle.shell("ulimit -n; ulimit -Hn; ulimit -c")
    before = lambda: resource.setrlimit(resource.RLIMIT_CORE, (5, 10))  # noqa: E731
    result = inside.run(preexec_fn=before)
    assert ["64", "128", "0"] == result.out.split()


# ── the first process before it is the container's ──────────────────────────────────────────────────────


def test_created_process_can_not_be_touched(inside: Attack) -> None:
    """CVE-2016-9962, CVE-2016-8649: who shares the pid namespace can't ptrace the first process, or use what it has."""
    inside.process["capabilities"] = {}  # so that only its being undumpable protects it
    assert 0 == inside.create().status
    host_pid = inside.pid()
    inspector = (
        "for f in root cwd exe fd/0 fd/1 fd/2 fd/3 fd/4 fd/5; do readlink /proc/1/$f >/dev/null && echo $f; done; "
        "for f in environ maps mem auxv syscall stack; do head -c 1 /proc/1/$f 2>/dev/null | grep -q . && echo $f; done; "
        "echo end"
    )
    # root without capabilities, in the container's pid namespace
    command = ["nsenter", "--target", str(host_pid), "--pid", "unshare", "--mount", "sh", "-c",
               ("mount -t proc proc /proc; exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs sh -c "
               f"'{inspector}'")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert "end" == done.stdout.strip(), done
    status = Path(f"/proc/{host_pid}/status").read_text()
    assert 0 == os.stat(f"/proc/{host_pid}/fd").st_uid
    assert "TracerPid:\t0" in status


def test_joined_pid_namespace_can_not_touch_it(attack: Attack, probe: Path) -> None:
    """CVE-2016-9962: a hostile container that another one's pid namespace is joined to sees nothing but its name."""
    attack.bundle.shell(
        "while :; do for p in /proc/[0-9]*; do for f in root cwd exe fd/3 fd/4 fd/5 fd/6; do "
        "l=$(readlink $p/$f) && case $f=$l in root=/|cwd=/|exe=/bin/busybox|fd/?=pipe:*|fd/?=/proc*) ;; "
        "*) echo $p $f $l ;; esac; done; done; done"
    )
    attack.process["capabilities"] = {}
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    other = f"{attack.id}b"
    attack.ids.add(other)
    folder = attack.folder / "second"
    folder.mkdir()
    config = json.loads((attack.bundle.folder / "config.json").read_text())
    config["process"]["args"] = ["/bin/true"]
    config["process"]["capabilities"] = {}
    config["linux"]["namespaces"] = [
        {"type": "pid", "path": f"/proc/{attack.pid()}/ns/pid"} if ns["type"] == "pid" else ns
        for ns in config["linux"]["namespaces"]
    ]
    (folder / "config.json").write_text(json.dumps(config))
    for _ in range(20):
        result = attack("run", "--bundle", folder, other)
        assert 0 == result.status, result
    assert "" == attack.output()


# ── seccomp ─────────────────────────────────────────────────────────────────────────────────────────────

MINIMAL = """
static long call(long n, long a, long b, long c)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
void _start(void)
{
    call(1, 1, (long)"ran\\n", 4);
    for (;;)
        call(231, 0, 0, 0);
}
"""


@pytest.fixture
def minimal(attack: Attack) -> Attack:
    """A container whose program makes two system calls: write, when it may, and exit_group."""
    source = attack.folder / "minimal.c"
    source.write_text(MINIMAL)
    build = ["gcc", "-static", "-nostdlib", "-ffreestanding", "-o", str(attack.rootfs / "bin/minimal"), str(source)]
    subprocess.run(build, check=True)
    attack.process["args"] = ["/bin/minimal"]
    return attack


@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_profile_allows_hardly_anything(minimal: Attack, default: str, nnp: bool) -> None:
    """CVE-2019-10144's class: a profile need not allow what the runtime does, only what the program does."""
    allowed = ["execve", "exit_group", *([] if nnp else ["capset", "capget"])]
    minimal.process["noNewPrivileges"] = nnp
    minimal.linux["seccomp"] = {"defaultAction": default, "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}
    result = minimal.run()
    assert (0 if default == "SCMP_ACT_ERRNO" else 128 + 31, "") == (result.status, result.out), result
    minimal.linux["seccomp"]["syscalls"][0]["names"].append("write")
    result = minimal.run()
    assert (0, "ran\n") == (result.status, result.out), result


def test_profile_pretends(attack: Attack) -> None:
    """capset and capget that a filter answers with success did nothing: the container must not start with more."""
    attack.process["capabilities"] = {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")}
    attack.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["capset", "capget"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}],
    }
    result = attack.run()
    assert (1, True) == (result.status, "did not grant exactly these sets" in result.err), result


def test_unknown_action_or_architecture(attack: Attack) -> None:
    """What the compiler does not know is an error, never a hole."""
    for seccomp in (
        {"defaultAction": "SCMP_ACT_NOSUCH"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOSUCH"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NOSUCH"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_NOSUCH"}]},
    ):
        attack.linux["seccomp"] = seccomp
        result = attack.run()
        assert (1, True) == (result.status, "/linux/seccomp" in result.err), result


# ── Programs made by an attacker ────────────────────────────────────────────────────────────────────────


def elf(table: int, count: int, size: int, *headers: bytes) -> bytes:
    """A 64-bit ELF header with this program header table."""
    head = bytearray(64)
    head[:16] = b"\x7fELF\x02\x01\x01" + bytes(9)
    head[16:20] = (2).to_bytes(2, "little") + (62).to_bytes(2, "little")
    head[32:40] = (table & (2**64 - 1)).to_bytes(8, "little")
    head[54:56], head[56:58] = size.to_bytes(2, "little"), count.to_bytes(2, "little")
    return bytes(head) + b"".join(headers) + bytes(64)


def interpreter(offset: int, size: int) -> bytes:
    """A program header of type PT_INTERP."""
    return b"\x03\0\0\0" + bytes(4) + offset.to_bytes(8, "little") + bytes(16) + size.to_bytes(8, "little") + bytes(16)


PROGRAMS = {
    "table before the file": elf(-56, 1, 56),
    "table wraps": elf(-1, 0xFFFF, 0xFFFF),
    "table far before": elf(-65535, 2, 65535),
    "table behind": elf(1 << 40, 5, 56),
    "entries of no size": elf(64, 0xFFFF, 0, interpreter(0, 10)),
    "name behind": elf(64, 1, 56, interpreter(1 << 62, 10)),
    "name wraps": elf(64, 1, 56, interpreter(2**64 - 4, 8)),
    "unterminated name": elf(64, 1, 56, interpreter(0, 2**64 - 1)),
    "name as long as a path": elf(64, 1, 56, interpreter(64, 4096)),
    "empty": b"",
    "two bytes": b"#!",
    "no interpreter": b"#!\n",
    "blank interpreter": b"#!   \t  \n",
    "endless line": b"#!" + b"/" * 8000,
    "NUL": b"#!\0/bin/sh\n",
    "itself": b"#!/bin/evil\n",
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_program_is_malformed(attack: Attack, kind: str) -> None:
    """A file of the image is read with bounds: an error of execve's at most."""
    (attack.rootfs / "bin/evil").write_bytes(PROGRAMS[kind])
    (attack.rootfs / "bin/evil").chmod(0o755)
    attack.process["args"] = ["/bin/evil"]
    result = attack.run()
    assert 1 <= result.status < 128 or result.status in (128 + 9, 128 + 11)
    assert "killed by signal" not in result.err


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "folder", "loop"])
def test_program_of_another_type(attack: Attack, kind: str) -> None:
    """A program that is not a regular file is not opened to find out."""
    place = attack.rootfs / "bin/evil"
    if kind == "fifo":
        os.mkfifo(place, 0o755)
    elif kind == "device":
        os.mknod(place, 0o020755, os.makedev(1, 5))
    elif kind == "socket":
        os.mknod(place, 0o140755)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("evil")
    attack.process["args"] = ["/bin/evil"]
    result = attack.run()
    assert (1, True) == (result.status, AT_ONCE > result.seconds)


# ── the terminal ────────────────────────────────────────────────────────────────────────────────────────


def test_input_is_not_injected(inside: Attack, tmp_path: Path) -> None:
    """CVE-2016-10124: TIOCSTI reaches the container's own terminal at most, never the caller's."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "console.sock"))
    listener.listen(1)
    listener.settimeout(PATIENCE)
    inside.process["terminal"] = True
    outer_master, outer = os.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(outer, termios.TIOCSCTTY, 0)

    with listener:
        inside.bundle.write()
        command = inside.command("create", "--bundle", inside.bundle.folder, "--console-socket", tmp_path / "console.sock",
                                 inside.id)  # fmt: skip
        done = subprocess.run(command, stdin=outer, stdout=outer, stderr=outer, preexec_fn=own_terminal, check=False,
                              timeout=PATIENCE)  # fmt: skip
        assert 0 == done.returncode
        peer, _ = listener.accept()
        with peer:
            _, control, _, _ = peer.recvmsg(64, socket.CMSG_SPACE(4))
        master = array.array("i", control[0][2])[0]
        assert 0 == inside.start().status
        text = b""
        try:
            while part := os.read(master, 4096):
                text += part
        except OSError:
            pass
        os.close(master)
    told = tell(text.decode().replace("\r", ""))
    assert {"/dev/console", "/dev/pts/0"} >= {told["fds"][fd].split(" ")[1] for fd in range(3)}
    os.set_blocking(outer, False)
    with pytest.raises(BlockingIOError):
        os.read(outer, 1)
    os.close(outer)
    os.close(outer_master)


def test_terminal_and_socket_belong_together(attack: Attack) -> None:
    """create refuses a terminal without a console socket before it makes anything."""
    attack.process["terminal"] = True
    result = attack.create()
    assert (1, True) == (result.status, "no --console-socket" in result.err)
    attack.process["terminal"] = False
    result = attack.create("--console-socket", attack.folder / "nowhere")
    assert (1, True) == (result.status, "process.terminal is not true" in result.err)


# ── The kernel's own side doors ─────────────────────────────────────────────────────────────────────────


def test_session_keyring_is_new(attack: Attack, probe: Path) -> None:
    """Neither the caller's session keyring is the container's, with whatever keys it holds, nor one that any user of
    the host has given a name that the runtime might ask for."""
    if not Path("/proc/keys").exists():
        pytest.skip("a kernel without keyrings")
    shutil.copy(probe, attack.rootfs / "bin/probe")
    attack.bundle.shell("/bin/probe; exec sleep 100")
    command = ["/usr/bin/python3", "-IS", "-c", keyrings.PLANT]
    pipe = subprocess.PIPE
    for name in (f"_ses.{attack.id}", "_ses"):
        with subprocess.Popen([*command, name], stdin=pipe, stdout=pipe) as planter:
            assert planter.stdout is not None
            theirs = [int(planter.stdout.readline()), keyrings.own()]
            assert 0 == attack.create().status
            assert 0 == attack.start().status
            wait_for(lambda: "session=" in attack.output())
            for told in (attack.output(), attack("exec", attack.id, "/bin/probe").out):
                (line,) = [line for line in told.splitlines() if line.startswith("session=")]
                number, kind, uid, gid, _, _ = line.removeprefix("session=").split(";")
                assert int(number) not in theirs
                assert ("keyring", "0", "0") == (kind, uid, gid)
        attack.clean_up()


def test_keys_of_a_user_are_exhausted(attack: Attack, probe: Path) -> None:
    """Container root in a user namespace can use up the keys of its user on the host. create and exec of other
    containers with that user still work.
    """
    if not Path("/proc/keys").exists():
        pytest.skip("a kernel without keyrings")
    shutil.copy(probe, attack.rootfs / "bin/probe")
    attack.bundle.in_user_namespace()
    attack.bundle.shell("/bin/probe; exec sleep 100")
    command = ["/usr/bin/python3", "-IS", "-c", keyrings.EXHAUST, "100000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert 0 < int(user.stdout.readline())
        result = attack.create(preexec_fn=keyrings.join_new)
        assert 0 == result.status, result
        assert 0 == attack.start().status
        wait_for(lambda: "session=" in attack.output())
        executed = attack("exec", attack.id, "/bin/probe", preexec_fn=keyrings.join_new)
        assert 0 == executed.status, executed
        for told in (attack.output(), executed.out):
            (line,) = [line for line in told.splitlines() if line.startswith("session=")]
            assert int(line.removeprefix("session=").split(";")[0]) != keyrings.own()


def test_exec_where_the_first_thread_has_ended(attack: Attack) -> None:
    """A first process of which another thread alone lives has no namespaces to join; and the program is not missing."""
    program = attack.folder / "leader.c"
    program.write_text(
        "#include <pthread.h>\n#include <unistd.h>\n"
        "static void *wait_on(void *nothing) { for (;;) sleep(100); return nothing; }\n"
        "int main(void) { pthread_t t; pthread_create(&t, 0, wait_on, 0); pthread_exit(0); }\n"
    )
    command = ["gcc", "-static", "-pthread", "-o", str(attack.rootfs / "bin/leader"), str(program)]
    subprocess.run(command, check=True)
    attack.process["args"] = ["/bin/leader"]
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    wait_for(lambda: ") Z " in Path(f"/proc/{attack.pid()}/stat").read_text())
    assert "running" == attack.state()["status"]
    result = attack("exec", attack.id, "/bin/true")
    assert (255, "cannot exec in a container whose first process is ending\n") == (result.status, result.err)


@pytest.mark.parametrize("delete", [False, True], ids=["killed", "deleted"])
@pytest.mark.parametrize("held_up", ["clone3", "setns", "execve", "exec.json"])
def test_exec_where_the_container_ends_meanwhile(attack: Attack, held_up: str, delete: bool) -> None:
    """That is what it says, whatever it met: engines take `no such file or directory` for a missing program."""
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    pid = attack.pid()
    command = attack.command("exec", attack.id, "/bin/true")
    if held_up == "exec.json":
        calls = attack.folder / "calls"
        subprocess.run(["strace", "-qq", "-o", str(calls), "-e", "trace=openat", *command], check=True)
        number = [held_up in line for line in calls.read_text().splitlines()].index(True) + 1
        point = ["-e", "trace=openat", "-e", f"inject=openat:delay_enter=2000000:when={number}"]
    elif held_up == "execve":  # of the program: by then, exec has sent its last report
        point = ["-f", "-e", "trace=close_range", "-e", "inject=close_range:delay_enter=2000000"]
    else:
        point = ["-f", "-e", f"trace={held_up}", "-e", f"inject={held_up}:delay_enter=2000000"]
    command = ["strace", "-qq", "-o", "/dev/null", *point, *command]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as executing:
        time.sleep(0.4)
        os.kill(pid, signal.SIGKILL)
        if delete:
            assert 0 == attack.delete().status
        _, err = executing.communicate(timeout=PATIENCE)
    err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith("strace: "))
    gone = f"container `{attack.id}` does not exist\n"
    assert 255 == executing.returncode
    assert err in (
        ("cannot exec in a stopped container\n", gone) if delete else ("cannot exec in a stopped container\n",)
    )


@pytest.mark.parametrize("kind", ["zero", "folder", "pipe", "file", "file to write to"])
def test_standard_input_of_the_host(attack: Attack, kind: str) -> None:
    """Only what is the container's alone is given to its user: no device that others use as well, no directory, and no
    file to read from."""
    attack.process["user"] = {"uid": 1000, "gid": 1000}
    place = attack.folder / kind
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "zero":
        os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    else:
        place.touch()
    attack.bundle.write()
    command = attack.command("run", "--bundle", attack.bundle.folder, attack.id)
    gives = kind in ("pipe", "file to write to")
    given = os.open(place, os.O_RDWR if gives else os.O_RDONLY)
    try:
        assert 0 == subprocess.run(command, stdin=given, check=False, timeout=PATIENCE).returncode
    finally:
        os.close(given)
    assert (1000 if gives else 0) == place.stat().st_uid


CHANGE_NULL = "for n in 0 1; do chmod 666 /proc/self/fd/$n; chown 0:0 /proc/self/fd/$n; done"  # what it is already


CHANGED_BY_EXEC = {
    "own": ":",
    "none": "rm /dev/null",
    "link": "ln -sf /etc/passwd /dev/null",
    "FIFO": "rm /dev/null; mkfifo /dev/null",
}


@pytest.mark.parametrize("null", ["created", *CHANGED_BY_EXEC])
def test_standard_streams_are_not_the_hosts_null(attack: Attack, null: str) -> None:
    """Root of the container may change its own /dev/null and not, through what it has inherited, the host's."""
    attack.process["capabilities"] = {
        set_: ["CAP_CHOWN", "CAP_FOWNER"] for set_ in ("bounding", "effective", "permitted")
    }
    is_own = 'grep -q "^$(sed -n "s/^mnt_id:[^0-9]*//p" /proc/self/fdinfo/0) " /proc/self/mountinfo'
    script = f"{CHANGE_NULL}; echo x && cat && if {is_own}; then exit 7; fi; exit 8"
    if null == "created":
        attack.bundle.shell(script)
        attack.bundle.write()
        words = ["run", "--bundle", str(attack.bundle.folder), attack.id]
    else:
        attack.bundle.shell(f"{CHANGED_BY_EXEC[null]}; touch /ready; exec sleep 100")
        assert 0 == attack.create().status
        assert 0 == attack.start().status
        wait_for((attack.rootfs / "ready").exists)
        words = ["exec", attack.id, "/bin/sh", "-c", script]
    done = subprocess.run(
        attack.command(*words),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=20,
    )  # fmt: skip
    expected = (7, 0) if null in ("created", "own") else (8, 4)
    assert expected == (done.returncode, done.stderr.count("Read-only file system")), done.stderr


@pytest.mark.parametrize("kind", ["tty", "pty"])
def test_standard_input_is_a_terminal(attack: Attack, kind: str) -> None:
    """One of a devpts is given to the container's user; /dev/tty, which all users share, a console or a serial line is
    not."""
    attack.process["user"] = {"uid": 1000, "gid": 1000}
    attack.bundle.write()
    master, slave = os.openpty()
    place = Path(os.ttyname(slave))
    if kind == "tty":
        place = attack.folder / kind
        os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(5, 0))
    command = attack.command("run", "--bundle", attack.bundle.folder, attack.id)

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    try:
        done = subprocess.run(["/bin/sh", "-c", 'exec "$@" <"$0"', str(place), *command],
                              check=False, timeout=PATIENCE, pass_fds=[slave], preexec_fn=take_terminal)  # fmt: skip
        assert 0 == done.returncode
        assert (1000 if kind == "pty" else 0) == place.stat().st_uid
    finally:
        os.close(master)
        os.close(slave)


def test_mount_data_is_not_executed(attack: Attack) -> None:
    """CVE-2018-10856's class: options of a mount go to the filesystem as they are; what it refuses is an error."""
    attack.config["mounts"].append(mount("/data", "tmpfs", "size=1;reboot"))
    result = attack.run()
    assert (1, True) == (result.status, "size=1;reboot" in result.err or "fsconfig" in result.err)
