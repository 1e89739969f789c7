"""Other architectures: tools/build-for builds pyoci for each, and its commands run under QEMU's user mode.

QEMU has neither clone3 nor namespaces of its own, so no container runs here. `./test --arch ARCH` runs more tests.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from test_linux import NAMES as CONSTANTS
from test_linux import assertions

from pyoci.compiler import seccomp
from pyoci.compiler._syscalls import COLUMNS, NAMES
from pyoci.executable import freeze

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ROOT / "build/foreign"
MACHINES = {"aarch64": 183, "riscv64": 243, "ppc64le": 21, "s390x": 22}  # e_machine of an ELF file
BUNDLE = ROOT / "tests/data/bundles/docker-default.json"

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.deadline(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount"),
    pytest.mark.parametrize("arch", MACHINES),
]


def checkout(arch: str) -> Path:
    """The copy of the checkout with what was built for an architecture. Builds it first."""
    subprocess.run([ROOT / "tools/build-for", arch], check=True)
    return FOREIGN / arch / "checkout"


def foreign(arch: str, *command: object, cwd: Path = ROOT) -> tuple[int, str, str]:
    """Run a command among the programs of an architecture: (status, output, errors)."""
    words = [str(word) for word in (ROOT / "tools/foreign", arch, *command)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def header(path: Path) -> tuple[int, int]:
    """The type and the machine of an ELF file."""
    elf = path.read_bytes()[:20]
    order = {1: "little", 2: "big"}[elf[5]]
    return int.from_bytes(elf[16:18], order), int.from_bytes(elf[18:20], order)  # type: ignore[arg-type]


def test_executable_is_static(arch: str) -> None:
    """It is of the architecture, and needs no loader."""
    executable = checkout(arch) / "build/pyoci"
    assert (2, MACHINES[arch]) == header(executable)  # ET_EXEC
    assert "INTERP" not in subprocess.check_output(["readelf", "--program-headers", "--wide", executable], text=True)


def test_helper_needs_no_relocation(arch: str) -> None:
    """It has no loader that would relocate it."""
    helper = checkout(arch) / "pyoci/_helper"
    assert (3, MACHINES[arch]) == header(helper)  # ET_DYN
    assert helper.stat().st_size < freeze.MAX_HELPER
    listing = subprocess.check_output(["readelf", "--relocs", "--wide", helper], text=True)
    assert "There are no relocations in this file." in listing


def test_commands_print_the_same_as_on_this_machine(arch: str, pyoci: str, tmp_path: Path) -> None:
    """`spec`, `validate` and `plan` have this machine's output."""
    executable = checkout(arch) / "build/pyoci"
    config = tmp_path / "config.json"
    (tmp_path / "rootfs").mkdir()
    docker = json.loads(BUNDLE.read_text())
    del docker["linux"]["seccomp"]  # its filter depends on the architecture
    outputs = []
    for program in (Path(pyoci), executable):
        config.unlink(missing_ok=True)
        said = [foreign(arch, program, command, cwd=tmp_path) for command in ("--version", "spec", "validate", "plan")]
        config.write_text(json.dumps(docker))
        said += [foreign(arch, program, command, cwd=tmp_path) for command in ("validate", "plan")]
        outputs.append(said)
    assert outputs[0] == outputs[1]
    assert [0] * 6 == [status for status, *_ in outputs[1]]


def test_plan_has_a_filter(arch: str, tmp_path: Path) -> None:
    """Docker's profile becomes a filter of the architecture, and the plan can be read back."""
    executable = checkout(arch) / "build/pyoci"
    (tmp_path / "config.json").write_bytes(BUNDLE.read_bytes())
    status, out, err = foreign(arch, executable, "plan", cwd=tmp_path)
    assert (0, "") == (status, err)
    assert re.search(r"filter +\d+ instructions", out)
    status, out, err = foreign(arch, executable, "plan", "--json", cwd=tmp_path)
    assert (0, "") == (status, err)
    assert json.loads(out)


def test_short_command_makes_the_hottest_pages_its_own(arch: str, tmp_path: Path) -> None:
    """The rehearsal under QEMU has found the blocks that every command writes to."""
    command = ("env", "QEMU_STRACE=1", checkout(arch) / "build/pyoci", "--root", tmp_path, "state", "id")
    status, out, err = foreign(arch, *command)
    assert 1 == status
    (size,) = re.findall(r"madvise\(\w+,(\d+),MADV_POPULATE_WRITE\) = 0", out + err)
    assert 1 << 16 < int(size) < 1 << 19


def test_validate_reports_a_mistake(arch: str, tmp_path: Path) -> None:
    """One line with its place, and status 1."""
    executable = checkout(arch) / "build/pyoci"
    (tmp_path / "config.json").write_text('{"ociVersion": "1.3.0", "root": {"path": "rootfs", "readonly": "é\\n"}}')
    status, out, err = foreign(arch, executable, "validate", cwd=tmp_path)
    assert (1, "") == (status, err)
    assert "config.json:1:64: /root/readonly: expected true or false" in out


def test_features_list_its_architecture(arch: str) -> None:
    """A filter covers its own calls."""
    status, out, err = foreign(arch, checkout(arch) / "build/pyoci", "features")
    assert (0, "") == (status, err)
    assert seccomp.MACHINES[arch][0].name in out


def test_constants_are_those_of_its_headers(arch: str, tmp_path: Path) -> None:
    """The numbers in pyoci/linux.py are its kernel's, too."""
    source = tmp_path / "constants.c"
    source.write_text(assertions(CONSTANTS))
    assert (0, "", "") == foreign(arch, "sh", "-c", f"$CC -fsyntax-only {source}")


def test_numbers_of_calls_are_those_of_its_headers(arch: str, tmp_path: Path) -> None:
    """The table agrees with the kernel's header on every call that both know, and knows nearly all."""
    source = tmp_path / "calls.c"
    source.write_text("#include <asm/unistd.h>\n")
    status, out, err = foreign(arch, "sh", "-c", f"$CC -E -dM {source}")
    assert (0, "") == (status, err)
    defined = dict(re.findall(r"^#define __NR_(\w+) (\w+)$", out, re.MULTILINE))
    theirs = {name: int(number) for name, number in defined.items() if number.isdecimal() and name != "syscalls"}
    ours = dict(zip(NAMES, COLUMNS[seccomp.MACHINES[arch][0].name], strict=True))
    known = theirs.keys() & ours.keys()
    assert {name: theirs[name] for name in known} == {name: ours[name] for name in known}
    assert len(known) > 280
    assert len(theirs.keys() - known) <= 10
