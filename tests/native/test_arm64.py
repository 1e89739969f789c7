"""The helper on arm64: a cross compiler builds it, and QEMU's user mode runs it."""

import errno
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci import _native
from pyoci.compiler import verbs
from pyoci.compiler.block import encode
from pyoci.compiler.verbs.numbers import BLOCK_ERRORS, FIRST_SLOT, READY
from pyoci.executable import freeze
from pyoci.parent.conversation import EXEC, FAILED, RECORD, SYNC, UNREADABLE
from tests.native.test_block import CASES

ROOT = Path(__file__).resolve().parents[2]
COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64-static")
HEADERS = Path("/usr/aarch64-linux-gnu/include/stdio.h")
AARCH64 = 183  # EM_AARCH64
BUILD = """
import os, sys, types
machine = types.SimpleNamespace(machine="aarch64")
os.uname = lambda: machine
from pathlib import Path
from pyoci.executable import freeze
freeze.build_helper(Path(sys.argv[1]), output=Path(sys.argv[2]))
"""

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the other tests run the helper of this machine"),
    pytest.mark.skipif(not COMPILER or not EMULATOR, reason="needs gcc-aarch64-linux-gnu and qemu-user-static"),
    pytest.mark.skipif(not HEADERS.exists(), reason="needs libc6-dev-arm64-cross"),
    pytest.mark.may_skip("few machines have a cross compiler and an emulator for arm64"),
]


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The helper as the build makes it on arm64."""
    directory = tmp_path_factory.mktemp("arm64")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    config = Path("/usr/include", str(sysconfig.get_config_var("MULTIARCH")), version, "pyconfig.h")
    copy = directory / "include/aarch64-linux-gnu" / version / "pyconfig.h"
    copy.parent.mkdir(parents=True)
    shutil.copy(config, copy)  # the types of both machines have the same sizes
    environment = {**os.environ, "CC": str(COMPILER), "CPATH": str(directory / "include")}
    output = directory / "helper"
    subprocess.run(
        [sys.executable, "-c", BUILD, directory / "temp", output], cwd=ROOT, env=environment, check=True, timeout=300
    )
    return output


class Emulated:
    """A process that runs the helper in QEMU, and the runtime's end of its channel."""

    def __init__(self, helper: Path) -> None:
        self.ours, theirs = _native.channel()
        command = [str(EMULATOR), str(helper), str(theirs)]
        self.process = subprocess.Popen(command, pass_fds=[theirs], stdin=subprocess.DEVNULL)
        os.close(theirs)

    def send(self, *ops: "verbs.ChildOp") -> None:
        """Send a plan without descriptors."""
        _native.send_plan(self.ours, encode([*ops]), [-1] * FIRST_SLOT)

    def record(self) -> tuple[int, ...]:
        """Receive one record: kind, operation, step, errno, length, detail."""
        data, _ = _native.receive_fds(self.ours, 8192)
        return RECORD.unpack(data[: RECORD.size])

    def end(self) -> int:
        """Close the channel, and return the exit status."""
        if self.ours >= 0:
            os.close(self.ours)
        self.ours = -1
        return self.process.wait(60)


@pytest.fixture
def emulated(helper: Path) -> Iterator[Emulated]:
    """A process that waits for its plan."""
    made = Emulated(helper)
    yield made
    made.end()


def test_helper_is_an_arm64_executable(helper: Path) -> None:
    """It is small, and needs no relocation."""
    elf = helper.read_bytes()
    assert AARCH64 == struct.unpack_from("<H", elf, 18)[0]
    assert len(elf) < freeze.MAX_HELPER
    listing = subprocess.check_output(["readelf", "--relocs", "--wide", helper], text=True)
    assert "There are no relocations in this file." in listing


@pytest.mark.parametrize("arguments", [[], ["x"], ["3", "4"]])
def test_helper_ends_without_a_plan(helper: Path, arguments: list[str]) -> None:
    """It says nothing and exits."""
    done = subprocess.run([str(EMULATOR), str(helper), *arguments], capture_output=True, stdin=subprocess.DEVNULL)
    assert (127, b"", b"") == (done.returncode, done.stdout, done.stderr)


def test_helper_runs_a_plan(emulated: Emulated) -> None:
    """It waits at a point, reports that only execve remains, and executes the program."""
    emulated.send(
        verbs.ResetSignals(),
        verbs.Sync(point=READY),
        verbs.Chdir(path="/", uid=0, gid=0),
        verbs.FindProgram(name="true", search="/nowhere:/usr/bin:/bin", outside_pids=False),
        verbs.Exec(argv=["true"], envp=["A=B"]),
    )
    assert (SYNC, 1, 0, 0, 0, READY) == emulated.record()
    _native.send(emulated.ours, b"\1")
    assert (EXEC, 4) == emulated.record()[:2]
    assert 0 == emulated.end()


def test_helper_reports_a_failure(emulated: Emulated) -> None:
    """The record names the operation, its step and errno."""
    emulated.send(verbs.SetUmask(umask=0o22), verbs.Chdir(path="/nowhere", uid=0, gid=0), verbs.Sync(point=READY))
    kind, index, step, error, *_ = emulated.record()
    assert (FAILED, 1, "chdir", errno.ENOENT) == (kind, index, _native.STEPS[step], error)
    assert 1 == emulated.end()


@pytest.mark.parametrize("name", [name for name in CASES if name != "CHECKSUM"])
def test_helper_rejects_a_damaged_plan(emulated: Emulated, name: str) -> None:
    """It finds the same error in the same place as on x86-64."""
    block, index, place = CASES[name]
    _native.send_plan(emulated.ours, block, [-1] * FIRST_SLOT)
    kind, at, step, _, _, detail = emulated.record()
    assert (UNREADABLE, name) == (kind, list(BLOCK_ERRORS)[step - 1])
    assert (index, place) == (at, detail if place >= 0 else -1)
    assert 1 == emulated.end()
