"""The child's check of a block, under the sanitizers: no damage makes it read or accept what it must not.

tests/support/fuzz_block.py damages the block of every golden plan. A process with AddressSanitizer checks each one, and
reads those that it accepts as the operations do.
"""

import json
import os
import re
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pyoci.compiler import verbs
from pyoci.compiler.block import HEADER, encode
from pyoci.compiler.verbs import numbers
from pyoci.compiler.verbs.numbers import FIRST_SLOT, READY
from tests.support.slowness import SLOWNESS

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
SEED = 12


# Mount, CloseFds, OpenDevices, Sync, SetGroups, RunHook, Exec: all kinds of fields
PLAN = encode(
    [
        verbs.Mount(type="tmpfs", target="/x", options=["mode=1"], attributes=0, tree=FIRST_SLOT, users=0),
        verbs.CloseFds(first=3),
        verbs.OpenDevices(filesystem=FIRST_SLOT, first=FIRST_SLOT + 1, count=2),
        verbs.Sync(point=READY),
        verbs.SetGroups(gids=b"12345678"),
        verbs.RunHook(path="/h", argv=["h"], envp=[], timeout_ms=0, state=5, add_home=True),
        verbs.Exec(argv=["x"], envp=["A=b"]),
    ],
    FIRST_SLOT + 3,
)
VECTORS = HEADER.size + 48 * 7


def patched(code: str, *changes: tuple[int, int]) -> bytes:
    """The plan with numbers of this code of `struct` at these places."""
    block = bytearray(PLAN)
    for place, number in changes:
        struct.pack_into(f"={code}", block, place, number)
    return bytes(block)


def in_op(index: int, place: int, code: str, number: int) -> tuple[bytes, int, int]:
    """The plan with a number at a place of an operation, and where the error is."""
    return patched(code, (HEADER.size + 48 * index + place, number)), index, place


def without_exec() -> bytes:
    """A plan that has lost its only operation with vectors."""
    block = bytearray(encode([verbs.Setsid(), verbs.Exec(argv=["x"], envp=[])]))
    block[HEADER.size + 48 : HEADER.size + 96] = block[HEADER.size : HEADER.size + 48]
    block[40] = numbers.BLOCK_UNFINISHED
    return bytes(block)


(TABLE,) = struct.unpack_from("=I", PLAN, HEADER.size + 8)  # the options of the mount
POOL = len(PLAN) - HEADER.unpack_from(PLAN)[5]
CASES = {
    "MAGIC": (patched("B", (7, 2)), -1, -1),
    "SIZE": (PLAN + bytes(8), -1, -1),
    "CHECKSUM": (PLAN, -1, -1),
    "HEADER": (patched("I", (40, 4)), -1, -1),
    "SLOTS": (patched("I", (32, 15)), -1, -1),
    "POOL": (patched("B", (len(PLAN) - 1, 1)), -1, -1),
    "VECTORS": (patched("I", (VECTORS, len(PLAN) - POOL)), -1, -1),
    "REST": (without_exec(), -1, -1),
    "VERB": in_op(1, 0, "H", 0x7FFF),
    "FLAG": in_op(1, 2, "H", 1),
    "TEXT": in_op(0, 12, "I", len(PLAN) - POOL),
    "TABLE": in_op(4, 4, "I", TABLE + 1),
    "OPTION": (patched("B", (POOL + TABLE + len("mode=1"), 1)), 0, 8),
    "VECTOR": in_op(5, 16, "q", 1),
    "NO_END": (patched("I", *((VECTORS + 4 * n, 0) for n in range(4, 10))), 6, 16),
    "SLOT": in_op(2, 32, "q", 3),
    "POINT": in_op(3, 16, "q", 10),
    "NEGATIVE": in_op(1, 16, "q", -1),
    "UNUSED": in_op(1, 32, "q", 1),
    "LAST": (patched("I", (40, numbers.BLOCK_UNFINISHED)), 6, -1),
}


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the extension `block_checker`."""
    directory = tmp_path_factory.mktemp("checker")
    source, library = (
        directory / "block_checker.c",
        directory / f"block_checker{sysconfig.get_config_var('EXT_SUFFIX')}",
    )
    cython = [sys.executable, "-m", "cython", "-3", "-I", ROOT / "pyoci", "-o", source]
    subprocess.run([*cython, ROOT / "tests/support/block_checker.pyx"], check=True)
    flags = ["-O1", "-g", "-w", "-shared", "-fPIC", *SANITIZERS, "-I", sysconfig.get_path("include")]
    subprocess.run(["cc", *flags, source, "-o", library], check=True)
    return directory


def run(checker: Path, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python code with the extension, under the sanitizers."""
    runtime = subprocess.check_output(["cc", "-print-file-name=libasan.so"], text=True).strip()
    environment = {
        **os.environ, "PYTHONPATH": f"{checker}:{ROOT}", "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=ROOT,
        input=text,
        text=True,
        capture_output=True,
        check=False,
        timeout=300 * SLOWNESS,
    )


def test_damaged_blocks_are_refused_or_safe(checker: Path) -> None:
    """Every reason comes up, and many blocks are accepted, because a damaged text is a text."""
    result = run(checker, "-m", "tests.support.fuzz_block", str(SEED))

    assert (0, "") == (result.returncode, result.stderr)
    found = json.loads(result.stdout)
    assert {"accepted", *numbers.BLOCK_ERRORS} - {"CHECKSUM", "REST"} <= set(found)
    assert sum(found.values()) > 20_000


def test_check_names_operation_and_field(checker: Path) -> None:
    """One kind of damage for each reason, in one field."""
    script = """
import json, sys, block_checker
print(json.dumps([block_checker.check(bytes.fromhex(line), sign == "1")[:3] for sign, line in map(str.split, sys.stdin)]))
"""
    cases = "\n".join(f"{int(name != 'CHECKSUM')} {block.hex()}" for name, (block, _, _) in CASES.items())
    result = run(checker, "-c", script, text=cases)

    assert "" == result.stderr
    found = dict(zip(CASES, json.loads(result.stdout), strict=True))
    reasons = {name: n for n, name in enumerate(numbers.BLOCK_ERRORS, 1)}
    assert {name: [reasons[name], index, place] for name, (_, index, place) in CASES.items()} == found
    assert set(numbers.BLOCK_ERRORS) == set(CASES)


def test_helper_survives_damaged_blocks() -> None:
    """The real helper refuses them, or ends with a record of the operation that failed; never by a signal."""
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net"]
    command = [*namespaces, sys.executable, "-m", "tests.support.fuzz_helper", str(SEED), "40"]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, timeout=300 * SLOWNESS)

    assert (0, "") == (result.returncode, result.stderr)
    found = json.loads(result.stdout)
    assert {"failed", "unreadable"} <= set(found) <= {"failed", "unreadable", "sync", "none", "exec"}
    assert sum(found.values()) > 1000


def test_sanitizer_can_fail(checker: Path) -> None:
    """A read behind a copy of the block ends the process."""
    result = run(checker, "-c", "import block_checker; block_checker.read_behind(bytes(64))")

    assert result.returncode
    assert re.search("heap-buffer-overflow|insufficient space", result.stderr)  # AddressSanitizer, UBSan of gcc 16
