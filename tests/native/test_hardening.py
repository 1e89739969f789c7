"""How the executable is hardened, read from what the kernel and the dynamic linker read: it has no section headers."""

import platform
import struct
import subprocess
from pathlib import Path

import pytest

from pyoci.executable import freeze
from pyoci.executable.image import SEGMENT

PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO, PT_LOAD = 2, 3, 0x6474E551, 0x6474E552, 1
PF_X, PF_W = 1, 2
DT_STRTAB, DT_STRSZ, DT_FLAGS, DT_FLAGS_1 = 5, 10, 30, 0x6FFFFFFB
DF_BIND_NOW, DF_1_NOW = 8, 1
PAGE = 4096
ENTRY = struct.Struct("<QQ")  # of the dynamic section: tag and value


class Elf:
    """The program headers of an executable, and its dynamic section."""

    def __init__(self, path: str) -> None:
        self.content = Path(path).read_bytes()
        table, entries = struct.unpack_from("<Q", self.content, 32)[0], struct.unpack_from("<H", self.content, 56)[0]
        self.segments = [SEGMENT.unpack_from(self.content, table + 56 * index) for index in range(entries)]
        self.dynamic: dict[int, int] = {}  # empty if the executable is static
        for _, _, offset, *_ in self.of_type(PT_DYNAMIC):
            while (entry := ENTRY.unpack_from(self.content, offset))[0]:
                self.dynamic[entry[0]] = entry[1]
                offset += ENTRY.size

    def of_type(self, kind: int) -> "filter[tuple[int, ...]]":
        return filter(lambda segment: segment[0] == kind, self.segments)

    def names(self) -> set[bytes]:
        """The names of all symbols that are looked up or offered."""
        address = self.dynamic[DT_STRTAB]
        for _, _, offset, virtual, _, size, *_ in self.of_type(PT_LOAD):
            if virtual <= address < virtual + size:
                start = offset + address - virtual
        return set(self.content[start : start + self.dynamic[DT_STRSZ]].split(b"\0"))


@pytest.fixture(scope="module")
def elf(pyoci: str) -> Elf:
    return Elf(pyoci)


def test_no_memory_is_writable_and_executable(elf: Elf) -> None:
    """Neither the stack nor any segment."""
    ((_, stack, *_),) = elf.of_type(PT_GNU_STACK)
    assert not stack & PF_X
    assert [] == [flags for _, flags, *_ in elf.of_type(PT_LOAD) if flags & PF_W and flags & PF_X]


def test_symbols_are_resolved_at_start(elf: Elf) -> None:
    """No function's address is looked up later, so that the table of addresses can be read-only."""
    if not elf.dynamic:  # a static executable has no symbols
        assert [] == list(elf.of_type(PT_INTERP))
        return
    assert elf.dynamic[DT_FLAGS] & DF_BIND_NOW
    assert elf.dynamic[DT_FLAGS_1] & DF_1_NOW


def test_addresses_of_functions_are_read_only(elf: Elf, pyoci: str) -> None:
    """In a process, the pages of the global offset table and what else the dynamic linker fills in are read-only."""
    ((_, _, _, first, _, _, size, _),) = elf.of_type(PT_GNU_RELRO)
    first, end = first & -PAGE, (first + size) & -PAGE
    assert end - first >= PAGE

    with subprocess.Popen(
        [pyoci, "update", "--resources", "-", "x"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        wait_until_it_reads(process.pid)
        lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        process.communicate(timeout=60)
    maps = [line.split() for line in lines]
    spans = [(*(int(part, 16) for part in span.split("-")), rights) for span, rights, *_ in maps]

    assert {"r--p"} == {rights for begin, stop, rights in spans if begin < end and stop > first}
    assert [] == [line for line, (_, rights, *_) in zip(lines, maps, strict=True) if "w" in rights and "x" in rights]


def wait_until_it_reads(pid: int) -> None:
    """Wait until the process reads its standard input."""
    while Path(f"/proc/{pid}/syscall").read_text().split()[:2] != [READ, "0x0"]:
        pass


READ = {"x86_64": "0", "aarch64": "63"}.get(platform.machine(), "")


def test_stack_and_buffers_are_checked(elf: Elf) -> None:
    """The compiler's checks are there: stack protector and _FORTIFY_SOURCE."""
    if not elf.dynamic:  # the functions that the checks call are part of the executable, with their messages
        assert b"stack smashing detected" in elf.content
        assert b"buffer overflow detected" in elf.content
        return
    assert b"__stack_chk_fail" in elf.names()
    assert any(name.endswith(b"_chk") for name in elf.names())


@pytest.mark.may_skip("CET is Intel's and AMD's")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="CET is of x86-64")
def test_our_own_code_marks_where_jumps_may_land() -> None:
    """pyoci's functions begin with endbr64, for CET."""
    build = Path(freeze.__file__).parents[2] / "build" / "executable"
    for name in ("main", "static", "_native", "image"):
        listing = subprocess.check_output(["objdump", "-d", build / f"{name}.o"], text=True)
        assert "endbr64" in listing, name
