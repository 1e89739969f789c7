"""Names that collide in dictionaries of an executable whose hash secret every user can read."""

import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.support.probe import build

PT_LOAD, PT_DYNAMIC = 1, 2
DT_STRTAB, DT_SYMTAB = 5, 6
PERTURB_SHIFT = 5
LOG2_SIZE = 15  # of the dictionary to fill: 21845 names, by which an attack takes ten times as long as it may
ROUNDS = 10


def secret_of(executable: Path) -> tuple[int, int]:
    """The key of SipHash in the data segment of an executable that exports CPython's symbols."""
    elf = executable.read_bytes()
    table, entries = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<H", elf, 56)[0]
    segments = [struct.unpack_from("<IIQQQQQQ", elf, table + i * 56) for i in range(entries)]

    def place(address: int) -> int:
        """Where in the file the byte at `address` is."""
        for kind, _, offset, virtual, _, size, _, _ in segments:
            if kind == PT_LOAD and virtual <= address < virtual + size:
                return int(offset + address - virtual)
        raise ValueError(f"{executable} has no data at {address:#x}")

    at = next(offset for kind, _, offset, *_ in segments if kind == PT_DYNAMIC)
    dynamic: dict[int, int] = {}
    while (entry := struct.unpack_from("<QQ", elf, at))[0]:
        dynamic[entry[0]] = entry[1]
        at += 16
    strings = place(dynamic[DT_STRTAB])
    for symbol in range(place(dynamic[DT_SYMTAB]), strings, 24):
        name, _, _, _, address, _ = struct.unpack_from("<IBBHQQ", elf, symbol)
        if elf.startswith(b"_Py_HashSecret\0", strings + name):
            k0, k1 = struct.unpack_from("<QQ", elf, place(address))
            return k0, k1
    raise ValueError(f"{executable} does not export _Py_HashSecret")


def secret_from(seed: int) -> tuple[int, int]:
    """The key of SipHash that PYTHONHASHSEED makes (lcg_urandom of CPython)."""
    data = bytearray()
    for _ in range(16):
        seed = (seed * 214013 + 2531011) & 0xFFFFFFFF
        data.append(seed >> 16 & 0xFF)
    k0, k1 = struct.unpack("<QQ", data)
    return k0, k1


def colliding(secret: tuple[int, int], log2_size: int = LOG2_SIZE) -> list[str]:
    """Names of 8 letters that collide under a secret: see collisions.c."""
    command = [str(build("collisions")), *map(str, secret), str(log2_size)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()


def ordinary(count: int) -> list[str]:
    """As many names of the same form, at random."""
    number = random.Random(1)
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(number.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", k=8))] = None
    return list(names)


def steps(hashes: Iterable[int], log2_size: int) -> float:
    """At how many places CPython looks for a name, on average, when names with these hashes fill a dictionary."""
    mask = (1 << log2_size) - 1
    taken: set[int] = set()
    looked = 0
    for hash_ in hashes:
        rest = hash_ & 0xFFFFFFFFFFFFFFFF
        place = rest & mask
        looked += 1
        while place in taken:
            rest >>= PERTURB_SHIFT
            place = (5 * place + rest + 1) & mask
            looked += 1
        taken.add(place)
    return looked / len(taken)


def cpu(command: list[str], expected: int, **options: Any) -> float:
    """Seconds of CPU that a command takes which ends with status `expected`. Its output is dropped."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    process = subprocess.Popen(command, **options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert expected == process.returncode, command
    return usage.ru_utime + usage.ru_stime


def assert_equal_cost(pyoci: str, measure: Callable[[list[str]], dict[str, float]]) -> None:
    """Assert that commands cost at most twice as much with colliding names as with random ones, by `measure`.

    The minimum of several rounds counts, because other processes can only add to it.
    """
    attack = colliding(secret_of(Path(pyoci)))
    harmless = ordinary(len(attack))
    least: list[dict[str, float]] = [{}, {}]
    for _ in range(ROUNDS):
        for seen, names in zip(least, (harmless, attack), strict=True):
            for command, seconds in measure(names).items():
                seen[command] = min(seconds, seen.get(command, seconds))
        too_slow = {command: (least[0][command], seconds) for command, seconds in least[1].items()
                    if seconds > 2 * least[0][command]}  # fmt: skip
        if not too_slow:
            return
    assert {} == too_slow
