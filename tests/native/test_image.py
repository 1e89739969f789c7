"""Python started when the executable is built (pyoci/executable/image.c)."""

import importlib
import json
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pyoci.compiler import known_filters
from pyoci.executable import PRELOADED, freeze
from pyoci.executable.image import image_segment

ROOT = Path(__file__).resolve().parents[2]


def test_whatever_a_hot_command_loads_is_in_the_image() -> None:
    """A module that comes later is unmarshalled by each process."""
    lists = importlib.import_module("test_imports")
    hot = {*lists.ALWAYS, *" ".join(lists.COMMANDS.values()).split()}
    code = "import sys; [__import__(name) for name in sys.argv[1:]]; print(*sys.modules)"
    command = [sys.executable, "-c", code, *PRELOADED]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    assert set() == hot - set(loaded)


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the counter knows the instructions of x86-64 only")
@pytest.mark.may_skip("other machines have no counter")
def test_command_executes_few_instructions(pyoci: str, tmp_path: Path) -> None:
    """Starting Python anew would take millions, and reading the tables for unwinding more than one."""
    counter = tmp_path / "counter"
    subprocess.run(["cc", "-O2", ROOT / "tests/support/cpuid.c", "-o", counter], check=True)
    output = subprocess.check_output([counter, "1000000", pyoci, "--version"], env={}, text=True)
    assert 10_000 < int(output.split()[-1]) < 500_000


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
def test_executable_has_an_image(pyoci: str) -> None:
    """Its data segment is larger than what was linked, and there are no sections for strip to believe in."""
    elf = bytearray(Path(pyoci).read_bytes())
    _, (_, _, _, _, _, in_file, _, _) = image_segment(elf)

    assert in_file > 3 << 20
    assert (0,) == struct.unpack_from("<H", elf, 60)
    assert 0 != subprocess.run(["strip", "-o", "/dev/null", pyoci], capture_output=True).returncode


def populated(trace: Path, *command: "str | Path") -> list[int]:
    """How many bytes each call populates that a command makes."""
    strace = ["strace", "-e", "trace=madvise", "-o", trace, *command]
    assert 0 != subprocess.run(strace, capture_output=True).returncode
    return [int(size) for size in re.findall(r"madvise\(\w+, (\d+), MADV_POPULATE_WRITE\) = 0", trace.read_text())]


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
def test_create_makes_only_those_pages_its_own_that_it_writes_to(pyoci: str, tmp_path: Path) -> None:
    """The rehearsal has found some, and far from all. Of the rest, a failing create writes to few."""
    calls = populated(tmp_path / "trace", pyoci, "create", "--bundle", tmp_path, "id")
    _, (_, _, _, _, _, in_file, _, _) = image_segment(Path(pyoci).read_bytes())

    assert 1 << 19 < sum(calls) < in_file // 2


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
def test_short_command_makes_the_hottest_pages_its_own(pyoci: str, tmp_path: Path) -> None:
    """One call copies the blocks that every command writes to. They lie together."""
    (size,) = populated(tmp_path / "trace", pyoci, "--root", tmp_path, "state", "id")

    assert 1 << 16 < size < 1 << 19


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
def test_image_tells_nothing_of_its_builder(pyoci: str) -> None:
    """The build has run commands, which read the host's files: nothing is left of them in freed memory either."""
    image = Path(pyoci).read_bytes()

    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/mountinfo", "/proc/self/cgroup"):
        for line in Path(path).read_bytes().splitlines():
            assert len(line) < 12 or line not in image, path
    assert not re.search(rb"CapBnd:\t|/pyoci\.[a-z0-9_]{8}/", image)


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
def test_image_has_the_filters_of_engines(pyoci: str, tmp_path: Path) -> None:
    """The plan loads the filter of a known profile from the beginning, and compiles that of another one later."""
    config = json.loads((ROOT / "pyoci/executable/docker.json").read_text())
    _, config["linux"]["seccomp"] = next(known_filters.profiles(platform.machine()))

    def plan() -> str:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return subprocess.run([pyoci, "plan", "--bundle", tmp_path], capture_output=True, text=True, check=True).stdout

    assert "load_seccomp" in plan()
    assert "write_filter" not in plan()
    config["linux"]["seccomp"]["syscalls"].pop(0)
    assert "write_filter" in plan()
