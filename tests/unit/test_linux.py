"""The constants of pyoci/linux.py, compared with the C headers of this system."""

import re
import subprocess
from pathlib import Path

import pytest

from pyoci import linux

HEADERS = """
    fcntl.h sched.h signal.h sys/ioctl.h sys/mount.h sys/ptrace.h sys/socket.h sys/stat.h net/if.h
    linux/bpf.h linux/capability.h linux/if_addr.h linux/ioprio.h linux/magic.h linux/nsfs.h linux/openat2.h
    linux/rtnetlink.h linux/seccomp.h
""".split()
# These are in no header that programs include.
KERNEL_ONLY = {"PF_EXITING", "PF_KTHREAD"}

NAMES = [name for name in vars(linux) if name.isupper() and name not in KERNEL_ONLY]


def assertions(names: list[str]) -> str:
    """A C file that compiles if the headers give each of `names` the value it has in the module."""
    lines = ["#define _GNU_SOURCE", *(f"#include <{header}>" for header in HEADERS)]
    lines += [f'_Static_assert((long long){name} == {getattr(linux, name)}LL, "{name}");' for name in names]
    return "\n".join(lines) + "\n"


def test_constants_are_those_of_the_headers(tmp_path: Path) -> None:
    """A wrong number compiles nowhere else, and does something else in the kernel."""
    source = tmp_path / "constants.c"
    source.write_text(assertions(NAMES))
    done = subprocess.run(["cc", "-fsyntax-only", source], capture_output=True, text=True)

    assert ("", 0) == (done.stderr, done.returncode)


def test_every_constant_is_used() -> None:
    """A module that writes a number itself leaves its constant here unused."""
    package = Path(linux.__file__).parent
    text = "\n".join(file.read_text() for file in package.rglob("*.py") if file.name != "linux.py")

    assert set() == {name for name in vars(linux) if name.isupper()} - set(re.findall(r"\w+", text))


def test_a_wrong_constant_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail."""
    monkeypatch.setattr(linux, "O_PATH", 1)
    source = tmp_path / "constants.c"
    source.write_text(assertions(["O_PATH"]))

    assert 0 != subprocess.run(["cc", "-fsyntax-only", source], capture_output=True).returncode
