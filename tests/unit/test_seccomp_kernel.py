"""The kernel takes our filters and does what they say. Needs no privileges: no_new_privs is enough."""

import ctypes
import errno
import json
import os
import platform
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyoci.compiler import seccomp
from pyoci.compiler._syscalls import COLUMNS, NAMES

HERE = Path(__file__).parent
BUNDLES = HERE.parent / "data" / "bundles"
MACHINE = platform.machine()

PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
LIBC = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(MACHINE not in seccomp.MACHINES, reason=f"no numbers for {MACHINE}")


class SockFprog(ctypes.Structure):
    """struct sock_fprog of linux/filter.h."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def number(name: str) -> int:
    """The number of a call on this machine."""
    return COLUMNS[seccomp.MACHINES[MACHINE][0].name][NAMES.index(name)]


def load(made: seccomp.Filter) -> None:
    """Confine this process by a filter; OSError if the kernel refuses it."""
    program = SockFprog(made.instructions, made.program)
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if LIBC.syscall(number("seccomp"), SECCOMP_SET_MODE_FILTER, made.flags, ctypes.byref(program)) < 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def confined(profile: Mapping[str, Any], then: Callable[[], int]) -> int:
    """The wait status of a child that loads the profile's filter, calls `then` and exits with what it returns."""
    made = seccomp.compile_filter(profile, MACHINE)
    pid = os.fork()
    if pid == 0:
        status = 120
        try:
            load(made)
            status = then()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def profiles() -> list[Path]:
    """Our own profile, and those that engines send."""
    return [HERE / "seccomp_profile.json", *sorted(p for p in BUNDLES.glob("*.json") if '"seccomp"' in p.read_text())]


@pytest.mark.parametrize("path", profiles(), ids=lambda path: path.stem)
def test_program_runs_under_a_real_profile(path: Path) -> None:
    """The kernel loads the filter, and a program lives under it."""
    document = json.loads(path.read_text())
    profile = document["linux"]["seccomp"] if "linux" in document else document
    assert confined(profile, lambda: os.execv("/bin/true", ["true"])) == 0


def test_errno_reaches_the_program() -> None:
    """A forbidden call returns the errno of its rule, under a condition too."""
    rules = [
        {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EBADF},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": errno.EXDEV,
            "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 0xFFFF_FFFF}],
        },
    ]

    def errnos() -> bool:
        seen = []
        for name in ("getppid", "personality"):
            assert LIBC.syscall(number(name), ctypes.c_ulong(0xFFFF_FFFF)) == -1
            seen.append(ctypes.get_errno())
        return seen != [errno.EBADF, errno.EXDEV] or LIBC.syscall(number("personality"), ctypes.c_ulong(0)) == -1

    assert confined({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, errnos) == 0


def test_kill_process() -> None:
    """KILL_PROCESS ends the process with SIGSYS."""
    rules = [{"names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS"}]
    status = confined({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, os.getppid)
    assert os.WTERMSIG(status) == signal.SIGSYS


@pytest.mark.skipif(MACHINE != "x86_64", reason="x32 is of x86_64")
def test_x32_is_killed_unless_listed() -> None:
    """A call through x32 does not go round the filter."""
    status = confined(
        {"defaultAction": "SCMP_ACT_ALLOW"}, lambda: LIBC.syscall(ctypes.c_long(0x4000_0000 + number("getppid")))
    )
    assert os.WTERMSIG(status) == signal.SIGSYS


@pytest.mark.parametrize("notify", [False, True])
@pytest.mark.parametrize("flags", [None, [], *[[flag] for flag in seccomp.FLAGS]], ids=str)
def test_kernel_takes_the_flags(flags: list[str] | None, notify: bool) -> None:
    """Each flag by itself, none, and the default; with a listener, too."""
    profile: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}
    if flags is not None:
        profile["flags"] = flags
    if notify:
        profile |= {"listenerPath": "/x", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}
    assert confined(profile, lambda: 0) == 0


def test_longest_program_is_taken() -> None:
    """What we let through as short enough, the kernel takes."""
    rules = [
        {"names": ["mkdirat"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "op": "SCMP_CMP_EQ", "value": n}]}
        for n in range(4000)
    ]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    assert seccomp.compile_filter(profile, MACHINE).instructions > 4000
    assert confined(profile, lambda: 0) == 0
