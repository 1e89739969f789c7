"""The runtime and the child use the same numbers and layouts."""

import re
import struct
import subprocess
from pathlib import Path

import pytest

from pyoci import _native
from pyoci.compiler import verbs
from pyoci.compiler.block import HEADER, NULL, encode
from pyoci.compiler.decode import decode
from pyoci.compiler.verbs import numbers
from pyoci.parent import conversation, explain

PACKAGE = Path(__file__).resolve().parents[2] / "pyoci"


@pytest.fixture(scope="module")
def source() -> Path:
    """The C code of the extension."""
    path = PACKAGE / "_native.c"
    assert path.exists(), "there is no pyoci/_native.c: run tools/build"
    return path


# --- the numbers of both sides


def child_source() -> str:
    """The text of all files of the child."""
    return "".join(path.read_text() for path in sorted((PACKAGE / "native/child").glob("*.pxi")))


def enums() -> dict[str, list[tuple[str, int]]]:
    """Every enum of the child's source, by its first name: [(name, value), …]."""
    text = re.sub(r"#.*", "", child_source())
    found = {}
    for body in re.findall(r"cdef enum: *\n((?:    .*\n|\n)+)", text):
        value = -1
        members = []
        for word in re.split(r"[,\n]", body):
            name, _, given = (part.strip() for part in word.partition("="))
            if name:
                value = eval(given) if given else value + 1
                members.append((name, value))
        found[members[0][0]] = members
    return found


def test_steps_are_all_used() -> None:
    """Every step is reported somewhere, and its name says it."""
    names = {"STEP_" + re.sub(r"\W+", "_", name).strip("_").upper() for name in numbers.STEPS if name}
    assert numbers.STEPS == _native.STEPS
    assert names == set(re.findall(r"\bSTEP_\w+", re.sub(r"#.*", "", child_source())))


def test_numbers_of_messages() -> None:
    """Both sides agree on the flag for a timeout, and on the size of a payload."""
    others = dict(enums()["UNIX98_PTY_FIRST"])
    assert others["HOOK_TIMED_OUT"] == explain.HOOK_TIMED_OUT
    assert others["MAX_PAYLOAD"] == conversation.MAX_PAYLOAD


def test_kinds() -> None:
    """Both sides agree on the kinds of records."""
    kinds = dict(enums()["RECORD_SYNC"])
    ours = (
        conversation.SYNC,
        conversation.FAILED,
        conversation.EXEC,
        conversation.CLONED,
        conversation.UNREADABLE,
        conversation.UNRECEIVED,
    )
    assert ours == tuple(kinds.values())


def test_record_is_what_python_unpacks(source: Path, tmp_path: Path) -> None:
    """The C struct has the fields of the runtime's format at the same places. test_verbs.py compares the operations."""
    tag = "struct __pyx_t_5pyoci_7_native_Record"
    declaration = re.search(rf"{tag} {{.*?}};", source.read_text(), re.DOTALL)[0]
    fields = "kind op step error length detail".split()
    words = "".join(f'printf("%zu ", offsetof({tag}, {field}));' for field in fields)
    program = tmp_path / "layout.c"
    program.write_text(
        f"#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n{declaration}\n"
        f'int main(void) {{ {words} printf("%zu", sizeof({tag})); }}'
    )
    subprocess.run(["cc", program, "-o", tmp_path / "layout"], check=True)
    theirs = [int(word) for word in subprocess.check_output([tmp_path / "layout"]).split()]
    codes = conversation.RECORD.format.removeprefix("=")
    assert [struct.calcsize("=" + codes[:n]) for n in range(len(codes) + 1)] == theirs


def test_encoding() -> None:
    """Strings, tables, option lists, vectors and masks arrive where the child looks for them."""
    ops = [
        verbs.Chdir("/process/cwd", path="/tmp", uid=1, gid=2),
        verbs.SetGroups(gids=b"12345678"),
        verbs.Mount(type="tmpfs", target="/x", options=["mode=1", "size=2"], attributes=0, tree=16, users=0),
        verbs.DropBounding(keep=(1 << 64) - 1),
        verbs.Exec(argv=["sh", "-c"], envp=["A=ä", "B=\udcff"]),
    ]
    block = encode(ops, 17)
    read = decode(block)
    unpacked = list(struct.iter_unpack("=HHIIIqqqq", block[HEADER.size :][: 48 * len(ops)]))
    pool, vectors = read.pool, read.vectors

    def text(offset: int) -> bytes:
        return pool[offset : pool.index(0, offset)]

    assert [op.code for op in ops] == [fields[0] for fields in unpacked]
    assert (b"/tmp", b"", 1, 2) == (text(unpacked[0][2]), text(unpacked[0][3]), unpacked[0][5], unpacked[0][6])
    assert (0, b"12345678") == (unpacked[1][2] % 8, text(unpacked[1][2]))
    assert b"\x0e\0\0\0mode=1\0size=2\0" == pool[unpacked[2][3] - 4 :][:18]
    assert (b"tmpfs", b"/x") == (text(unpacked[2][2]), text(unpacked[2][4]))
    assert -1 == unpacked[3][5]
    argv, envp = unpacked[4][5:7]
    assert [b"sh", b"-c", None] == [None if offset == NULL else text(offset) for offset in vectors[argv:envp]]
    assert [b"A=\xc3\xa4", b"B=\xff"] == [text(offset) for offset in vectors[envp : envp + 2]]
    assert [NULL] * 3 == vectors[envp + 2 :]  # the end, the place for HOME, and what aligns the pool
