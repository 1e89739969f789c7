"""Names that collide in dictionaries of an executable whose hash secret every user can read."""

import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.support.probe import build

PERTURB_SHIFT = 5
LOG2_SIZE = 15  # of the dictionary to fill: 21845 names, by which an attack takes ten times as long as it may
ROUNDS = 10


def secret_of(executable: Path) -> tuple[int, int]:
    """The key of SipHash in an executable with an image. Its strings have their hash beside them, which finds it."""
    elf = executable.read_bytes()
    name = b"__init__"
    at = 0
    while (at := elf.find(name + b"\0", at + 1)) > 0:
        for header in (48, 40):  # CPython 3.11's str is a word longer than 3.12's
            length, hash_ = struct.unpack_from("<qQ", elf, at - header + 16)
            if length != len(name) or hash_ in (0, 0xFFFFFFFFFFFFFFFF):
                continue
            command = [str(build("collisions")), str(executable), name.decode(), str(hash_)]
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split()
            if found:
                return int(found[0]), int(found[1])
    raise ValueError(f"{executable} has no secret")


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
