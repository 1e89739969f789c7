"""The table of verbs: each is complete, and native code has the same idea of it."""

import inspect
import re
import runpy
import struct
import subprocess
from pathlib import Path

import pytest

from pyoci import _native
from pyoci.compiler import verbs
from pyoci.compiler.verbs import base, numbers
from pyoci.parent.operations import HOST_VERBS

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(ROOT / "tools" / "gen_verbs.py"))
EVERY = [*verbs.CHILD, *verbs.PARENT]
# What the caller of a launch does: it has the record, the sockets and the container that exists.
BY_CALLER = {
    verbs.CheckInit, verbs.Commit, verbs.FillHookState, verbs.FillStartState, verbs.IgnoreAnnotation,
    verbs.OpenContainer, verbs.OpenContainerRoot, verbs.RecordCgroup, verbs.RecordProcess, verbs.SaveExecSettings,
    verbs.SendConsole, verbs.SendListener, verbs.SendPidfd, verbs.TakeSignals, verbs.TraceChild, verbs.VerifyNamespaces,
}  # fmt: skip


def sample(verb: type[verbs.ChildOp]) -> verbs.ChildOp:
    """An operation whose fields all differ."""
    values: dict[str, object] = {}
    for n, (name, kind) in enumerate(verb.wire, 1):
        values[name] = {
            base.TEXT: f"text {n}", base.BLOB: b"blob %d" % n, base.OPTIONS: [f"option {n}", "b"],
            base.NUMBER: -n, base.NATURAL: n, base.POINT: 1, base.SLOT: n, base.OPTIONAL_SLOT: -1, base.SLOT_COUNT: 1,
            base.HALF: 0xFFFFFFF0 + n, base.VECTOR: ["argv"], base.ENVIRONMENT: ["A=b"],
        }[kind]  # fmt: skip
    return verb("/where", **values, **{name: n % 2 == 0 for n, (name, _) in enumerate(verb.bits)})


def declared(verb: type[verbs.ChildOp]) -> str:
    """The verb's struct as C, from the file that native code includes."""
    text = (ROOT / "pyoci" / "native" / "_verbs.pxi").read_text()
    members = re.search(rf"cdef struct {verb.__name__}Op:\n((?:    .*\n)+)", text)
    assert members, verb
    return f"struct {verb.__name__}Op {{ {' '.join(f'{line.strip()};' for line in members[1].splitlines())} }};"


@pytest.mark.parametrize("verb", EVERY, ids=lambda verb: verb.verb)
def test_verb_has_contract(verb: type[verbs.Op]) -> None:
    """Each class says in one line what it does, and which system calls it makes."""
    contract = inspect.getdoc(verb) or ""  # since 3.13, __doc__ lacks the indentation, too
    first, _, rest = contract.partition("\n")
    sections = re.findall(r"^(\w[\w ]*):", rest, re.MULTILINE)

    assert re.fullmatch(r"[A-Z].*\.", first), first
    assert "Calls" in sections
    assert set(sections) <= {"Takes", "Does", "Ignores", "Leaves", "Fails with", "Calls"}
    order = ["Takes", "Does", "Ignores", "Leaves", "Fails with", "Calls"]
    assert sections == sorted(sections, key=order.index)


@pytest.mark.parametrize("verb", EVERY, ids=lambda verb: verb.verb)
def test_verb_has_calls_that_parse(verb: type[verbs.Op]) -> None:
    """`Calls:` is a pattern over names of system calls."""
    calls = re.search(r"^Calls:(.*(?:\n    .*)*)", inspect.getdoc(verb) or "", re.MULTILINE)
    assert calls
    pattern = re.sub(r"[A-Za-z_0-9]+", "(?:x )", calls[1])

    re.compile(pattern, re.VERBOSE)
    assert re.fullmatch(r"[A-Za-z_0-9()|?*+\s]*", calls[1])


@pytest.mark.parametrize("verb", EVERY, ids=lambda verb: verb.verb)
def test_verb_has_phrase_for_errors(verb: type[verbs.Op]) -> None:
    """Each says of itself `<verb> <object>`, by fields that it has."""
    assert verb.fails or "attempt" in vars(verb)
    fields = {name for name, _ in verb.fields}
    for template in (verb.fails, verb.shows):
        for name in re.findall(r"{(\w+)}", template):
            assert name in fields or isinstance(getattr(verb, name, None), property), name


def test_child_verbs_print_every_sample() -> None:
    """A template that names a missing field would fail when the operation does."""
    for verb in verbs.CHILD:
        if verb not in (verbs.Sync, verbs.SetPropagation, verbs.Remount, verbs.LoadSeccomp, verbs.SetScheduler):
            op = sample(verb)
            assert op.attempt()
            assert "{" not in op.attempt() + op.shown()


def test_codes_count_from_one() -> None:
    """A verb's code is its place in the table, on both sides; 0 is no verb."""
    assert list(range(1, len(verbs.CHILD) + 1)) == [verb.code for verb in verbs.CHILD]
    assert _native.VERBS == ("", *(verb.verb for verb in verbs.CHILD))
    names = [verb.verb for verb in EVERY]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("file", "made"), [("_verbs.pxi", "declarations"), ("_table.pxi", "table")])
def test_generated_file_is_up_to_date(file: str, made: str) -> None:
    """What stands in pyoci/native is what tools/gen_verbs.py makes of the classes."""
    assert GENERATOR[made]() == (ROOT / "pyoci" / "native" / file).read_text(), "run tools/gen_verbs.py"


def test_generator_names_slots_and_points() -> None:
    """Both sides have them by the same names."""
    text = GENERATOR["declarations"]()
    for name in numbers.SLOTS:
        assert f"    SLOT_{name} = {getattr(numbers, name)}\n" in text
    for point, name in numbers.POINTS.items():
        assert point == getattr(numbers, name.upper().replace("-", "_"))
        assert f"    SYNC_{name.upper().replace('-', '_')} = {point}\n" in text
    assert numbers.FIRST_SLOT == len(numbers.SLOTS)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """Where a C compiler puts each member of each struct, and the struct's size as `sizeof`."""
    folder = tmp_path_factory.mktemp("layout")
    program = ["#include <stddef.h>", "#include <stdint.h>", "#include <stdio.h>"]
    program += [declared(verb) for verb in verbs.CHILD]
    program.append("int main(void) {")
    for verb in verbs.CHILD:
        tag = f"struct {verb.__name__}Op"
        for name in ("code", "flags", *(name for name, _ in verb.wire)):
            program.append(f'printf("{verb.verb} {name} %zu\\n", offsetof({tag}, {name}));')
        program.append(f'printf("{verb.verb} sizeof %zu\\n", sizeof({tag}));')
    program.append("}")
    (folder / "layout.c").write_text("\n".join(program))
    subprocess.run(["cc", folder / "layout.c", "-o", folder / "layout"], check=True)
    found: dict[str, dict[str, int]] = {}
    for line in subprocess.check_output([folder / "layout"], text=True).splitlines():
        verb_, name, offset = line.split()
        found.setdefault(verb_, {})[name] = int(offset)
    return found


@pytest.mark.parametrize("verb", verbs.CHILD, ids=lambda verb: verb.verb)
def test_struct_has_fields_where_encode_puts_them(
    members: dict[str, dict[str, int]], verb: type[verbs.ChildOp]
) -> None:
    """Each field of an encoded operation is read back by its member of the struct."""
    from pyoci.compiler.block import HEADER, encode
    from pyoci.compiler.decode import decode

    op = sample(verb)
    block = encode([op])
    encoded = block[HEADER.size :][:48]
    pool, vectors = decode(block).pool, decode(block).vectors
    offsets = members[verb.verb]

    def number(name: str, code: str) -> int:
        return int(struct.unpack_from(f"={code}", encoded, offsets[name])[0])

    assert 48 == offsets["sizeof"]
    assert (number("code", "H"), number("flags", "H")) == (verb.code, op.flags)
    for name, kind in verb.wire:
        value = getattr(op, name)
        if kind in base.STRINGS:
            expected = (
                value
                if isinstance(value, bytes)
                else value.encode()
                if isinstance(value, str)
                else b"".join(option.encode() + b"\0" for option in value)
            )
            assert pool[number(name, "I") :].startswith(expected + b"\0"), name
        elif kind in (base.VECTOR, base.ENVIRONMENT):
            offset = vectors[number(name, "q")]
            assert offset is not None
            assert pool[offset:].startswith(value[0].encode() + b"\0"), name
        else:
            assert value == number(name, "I" if kind == base.HALF else "q"), name


def test_every_child_verb_has_a_function() -> None:
    """The other file that a verb of the child needs has its code."""
    source = "".join(path.read_text() for path in (ROOT / "pyoci" / "native" / "child").glob("*.pxi"))
    missing = [verb.verb for verb in verbs.CHILD if not re.search(rf"^cdef int do_{verb.verb}\(", source, re.MULTILINE)]

    assert [] == missing


def test_every_parent_verb_has_a_function() -> None:
    """It is the launch's own, or the caller's."""
    assert set(verbs.PARENT) == set(HOST_VERBS) | BY_CALLER
    assert set() == set(HOST_VERBS) & BY_CALLER


def test_record_keeps_what_an_error_needs() -> None:
    """`start` explains a failure by what create has kept."""
    hook = verbs.RunHook(
        "/hooks/startContainer/0", path="/h", argv=["h"], envp=[], timeout_ms=2000, state=5, add_home=True
    )
    kept = verbs.to_record(hook)
    back = verbs.from_record(kept)

    assert {"verb": "run_hook", "where": "/hooks/startContainer/0", "s1": "/h", "timeout": 2000} == kept
    assert isinstance(back, verbs.RunHook)
    assert (hook.where, hook.path, hook.timeout_ms) == (back.where, back.path, back.timeout_ms)
    for verb in verbs.CHILD:
        assert type(verbs.from_record(verbs.to_record(sample(verb)))) is verb
    unknown = verbs.from_record({**kept, "verb": "of_another_version"})
    assert ("/hooks/startContainer/0", True) == (unknown.where, "version" in unknown.attempt())


def test_steps_keep_their_numbers() -> None:
    """`start` also reads what a child reports that version 0.1.0 created."""
    known = {
        "openat2": 1,
        "unshare": 22,
        "prctl": 24,
        "capset": 36,
        "close_range": 37,
        "seccomp": 38,
        "execve": 39,
        "pipe2": 40,
        "waitpid": 42,
        "not-found": 58,
        "interpreter": 61,
        "unknown-verb": 64,
        "caps-differ": 65,
        "label-differs": 69,
        "mount": 76,
    }

    assert known == {name: numbers.STEPS.index(name) for name in known}
