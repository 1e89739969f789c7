"""Damage blocks of operations in every way, and check that the child refuses them or can run them safely.

    PYTHONPATH=DIRECTORY LD_PRELOAD=libasan.so python -m tests.support.fuzz_block SEED

DIRECTORY has the extension `block_checker`. SEED is that of the random generator. Prints as JSON how many blocks the
child refused, by its reason, and how many it accepted.
"""

import collections
import json
import random
import sys

import block_checker

from pyoci.compiler.verbs import numbers
from tests.support.damage import blocks, damaged, is_safe

MUTATIONS = 1000  # of each plan
READ_BACK = 10  # one in so many accepted blocks is read by the decoder, which is slow
REASONS = ("accepted", *numbers.BLOCK_ERRORS)


def run(seed: int) -> dict[str, int]:
    """Return how often each reason came. Raises AssertionError for a block that the child should have refused."""
    chance = random.Random(seed)
    found: collections.Counter[str] = collections.Counter()
    for name, block in blocks():
        reason, *where = block_checker.check(block)[:3]
        assert [0, -1, -1] == [reason, *where], (name, REASONS[reason], where)
        signed = block_checker.signed(block)
        for n in range(MUTATIONS):
            other = damaged(chance, block)
            if other == block:
                continue
            # the checksum alone finds all damage
            unsigned = bytearray(other)
            if len(other) >= 16:
                unsigned[8:16] = signed[8:16]
            assert bytes(unsigned) == signed or block_checker.check(bytes(unsigned), False)[0], (name, seed, n)
            reason = block_checker.check(other)[0]
            found[REASONS[reason]] += 1
            if not reason and n % READ_BACK == 0:
                assert is_safe(other), (name, seed, n)
    return dict(found)


def main() -> None:
    """Print the counts as JSON."""
    print(json.dumps(run(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
