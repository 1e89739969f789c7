"""The block: what `encode` writes, and what is read back from it for `pyoci plan --json`."""

import json
import sys
from typing import Any

import pytest

from pyoci.compiler import show, verbs
from pyoci.compiler.block import HEADER, encode
from pyoci.compiler.decode import decode
from pyoci.compiler.operations import Plan
from tests.support.goldens import EXEC_NAMES, NAMES, compiled, compiled_exec

GOLDENS = [*NAMES, *(f"exec/{name}" for name in EXEC_NAMES)]


def golden(name: str) -> Plan:
    """The plan of tests/plans/NAME.json."""
    return compiled_exec(name.removeprefix("exec/")) if name.startswith("exec/") else compiled(name)


@pytest.mark.parametrize("name", GOLDENS)
def test_decode_reads_what_encode_wrote(name: str) -> None:
    """Every field of every operation, and the header."""
    plan = golden(name)
    blocks = plan.blocks()
    assert plan.child() == [op for _, ops in blocks for op in ops]
    for first, ops in blocks:
        block = encode(ops, plan.slots, first=first)
        read = decode(block)
        assert [op.verb for op in ops] == [op.verb for op in read.ops]
        for written, back in zip(ops, read.ops, strict=True):
            assert [*written.sent_fields()] == [*back.sent_fields()]
            for field, value in written.sent_fields().items():
                expected = [*value] if isinstance(value, list | tuple) else value
                found = back.sent_fields()[field]
                mask = (1 << 64) - 1
                same = expected & mask == found & mask if isinstance(expected, int) else expected == found
                assert same, (written, field)
        assert (plan.slots, first, ops is not blocks[-1][1]) == (read.slots, read.first, read.unfinished)
        assert block == encode(read.ops, read.slots, first=read.first)


def test_block_without_exec_is_marked() -> None:
    """A plan that does not execute a program says so."""
    assert decode(encode([verbs.Setsid()])).unfinished
    assert not decode(encode([verbs.Exec(argv=["x"], envp=[])])).unfinished


@pytest.mark.parametrize("block", [b"", bytes(HEADER.size), b"pyociOP\2" + bytes(HEADER.size)])
def test_decode_rejects_other_data(block: bytes) -> None:
    """A block begins with the version of its format."""
    with pytest.raises(ValueError, match="it "):
        decode(block)


def test_plan_as_json_has_the_fields_that_the_child_gets() -> None:
    """Texts, numbers, flags, lists and tables, of every operation of the child."""
    plan = compiled("mounts")
    printed = json.loads(show.as_json(plan))
    ops: list[dict[str, Any]] = [*printed["bootstrap"], *printed["init"]]

    assert [op.verb for op in plan.child()] == [op["verb"] for op in ops]
    assert [0, printed["blocks"][0]["operations"]] == [block["first"] for block in printed["blocks"]]
    assert len(ops) == sum(block["operations"] for block in printed["blocks"])
    for block in printed["blocks"]:
        assert {"first", "size", "operations", "vectors", "strings", "slots"} == set(block)
        assert plan.slots == block["slots"]
    mount = next(op for op in ops if op["verb"] == "mount")
    assert {"type", "options", "target", "tree", "copy_up"} < set(mount["fields"])
    assert isinstance(mount["fields"]["options"], list)
    assert ops[-1]["fields"]["argv"] == plan.child()[-1].argv


def test_plan_as_json_has_tables_in_hexadecimal() -> None:
    """Such as the supplementary groups."""
    printed = json.loads(show.as_json(compiled("process")))
    groups = next(op for op in printed["init"] if op["verb"] == "set_groups")

    assert groups["object"].split() == [
        str(int.from_bytes(bytes.fromhex(groups["fields"]["gids"])[n : n + 4], sys.byteorder))
        for n in range(0, len(groups["fields"]["gids"]) // 2, 4)
    ]
