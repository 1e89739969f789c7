"""Strict JSON: what both readers accept and refuse, where they see trouble, and what is written."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyoci.config import jsonio, reader, text

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.booleans() | st.integers(-(10**19), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(params=["native", "reader"])
def loads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`jsonio.loads` with each of its readers."""
    if request.param == "reader":
        monkeypatch.setattr(jsonio, "_native_loads", None)
    elif jsonio._native_loads is None:
        assert "CI" not in os.environ, "the extension is not built"
        pytest.skip("the extension is not built")
    return jsonio.loads


def reader_loads(data: bytes) -> Any:
    value, problems, _ = reader.parse(jsonio.decode(data))
    if problems:
        raise jsonio.JsonError(problems)
    return value


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


@settings(max_examples=300)
@given(VALUES, st.booleans(), st.sampled_from([None, 0, 1, "\t"]))
def test_reads_what_the_standard_library_reads(value: Any, ascii_only: bool, indent: Any) -> None:
    """Both readers agree with json.loads on documents that have none of the faults we refuse."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    assert json.loads(text) == jsonio.loads(text.encode())
    assert json.loads(text) == reader_loads(text.encode())


def reference(data: bytes) -> Any:
    """json.loads with pyoci's rules; any exception rejects the text."""

    def refuse(*_: object) -> Any:
        raise ValueError

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            refuse()
        return dict(pairs)

    def integer(digits: str) -> int:
        return int(digits) if len(digits.lstrip("-")) <= 20 else refuse()

    def real(digits: str) -> float:
        return float(digits) if abs(float(digits)) != float("inf") else refuse()

    def check(value: Any, depth: int) -> None:
        if isinstance(value, str) and any(character == "\0" or "\ud800" <= character < "\ue000" for character in value):
            refuse()
        if isinstance(value, dict | list):
            if depth == text.MAX_DEPTH:
                refuse()
            for item in [*value, *value.values()] if isinstance(value, dict) else value:
                check(item, depth + 1)

    document = data.decode("utf-8")
    value = json.loads(document, object_pairs_hook=members, parse_int=integer, parse_float=real, parse_constant=refuse)
    check(value, 0)
    return without_nulls(value)


PIECES = st.sampled_from(
    r'{ } [ ] , : " \ / null true 0 1 -1 1.0 1e3 1e400 NaN -Infinity "a" "b" "\u0041" "\ud83d\ude00" "\ud800"'
    r' "\u0000" "é" 00 1. .5 +1 1e -  "\x" "a 18446744073709551615 123456789012345678901 tru'.split(" ")
)


@settings(max_examples=1500)
@given(st.lists(PIECES, max_size=12))
def test_both_readers_refuse_the_same(pieces: list[str]) -> None:
    """Random text from tempting pieces: the two readers and a model on json.loads agree on acceptance and value."""
    data = "".join(pieces).encode()
    outcomes = []
    for read in (reference, jsonio.loads, reader_loads):
        try:
            outcomes.append(("value", read(data)))
        except ValueError:
            outcomes.append(("refused", None))

    assert [outcomes[0]] * 3 == outcomes


@settings(max_examples=300)
@given(VALUES)
def test_writes_what_it_reads(value: Any) -> None:
    """dumps, compact and indented, is read back as the same value by the standard library."""
    assert value == json.loads(jsonio.dumps(value))
    assert value == json.loads(jsonio.dumps(value, indent=2))


def test_writes_as_the_standard_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the extension, dumps is json.dumps to the byte, but for DEL and lone surrogates."""
    value = {"a": [1, -2, True, False, None, {}, [], 'é😀\n\t\x01"\\'], "": {"b": {"c": (1, "x")}}, "z": 2**64}
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    indented = json.dumps(value, indent=2, ensure_ascii=False)
    for native in (jsonio._native_dumps, None):
        monkeypatch.setattr(jsonio, "_native_dumps", native)

        assert compact == jsonio.dumps(value)
        assert indented == jsonio.dumps(value, indent=2)
        assert json.dumps(value, indent=4, ensure_ascii=False) == jsonio.dumps(value, indent=4)
        assert '"\\u007f\\udcff"' == jsonio.dumps("\x7f\udcff")
        assert "[1.5,0.0]" == jsonio.dumps([1.5, 0.0])
        with pytest.raises(TypeError):
            jsonio.dumps({1: 2})
        with pytest.raises(TypeError):
            jsonio.dumps([b""])
        with pytest.raises(ValueError, match="nan"):
            jsonio.dumps([float("nan")])


def test_numbers_keep_their_spelling() -> None:
    """The careful reader keeps 1e3 as it stands, and it is written back like that."""
    assert "[1e3,1.0,-0.50]" == jsonio.dumps(reader_loads(b"[1e3, 1.0, -0.50]"))


def test_quote_escapes_what_a_terminal_acts_on() -> None:
    """Escape sequences, line breaks and invisible characters can't get through."""
    assert r'"a\u001b[31m\n\u202e\u2028\"\\é"' == text.quote('a\x1b[31m\n\u202e\u2028"\\é')


@pytest.mark.parametrize(
    "text", ['{"a": null, "b": {"c": null, "d": [{"e": null}]}}', " \t\r\n[] \n", "0", '""', "-0", "[null]", "null"]
)
def test_null_members_are_absent(loads: Any, text: str) -> None:
    """A member whose value is null is not there; a null by itself stays."""
    assert without_nulls(json.loads(text)) == loads(text.encode())


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_depth_limit(loads: Any) -> None:
    """64 levels are read, 65 are not, and 100000 neither crash nor take long."""
    assert {} != loads(nested(64))
    for data in (nested(65), b"[" * 65 + b"]" * 65, b"[" * 100_000, b'{"":' * 100_000):
        with pytest.raises(jsonio.JsonError, match="nest deeper than 64"):
            loads(data)


def test_size_limit(loads: Any) -> None:
    """16 MiB are read, one byte more is not."""
    assert loads(b"0" + b" " * (text.MAX_BYTES - 1)) == 0
    with pytest.raises(jsonio.JsonError, match="16777217 bytes, more than the limit of 16777216"):
        loads(b"0" + b" " * text.MAX_BYTES)


# (document, the problems as they are printed)
FAULTS = [
    (b"", "config.json:1:1: /: the document is empty"),
    (b" \n ", "config.json:2:2: /: the document is empty"),
    (b"\xef\xbb\xbf{}", "config.json:1:1: /: expected UTF-8 without a byte order mark, found one"),
    ("{}".encode("utf-16"), "config.json:1:1: /: expected UTF-8, found what looks like UTF-16 or UTF-32"),
    ("{}".encode("utf-16-le"), "config.json:1:1: /: expected UTF-8, found what looks like UTF-16 or UTF-32"),
    ("{}".encode("utf-32-be"), "config.json:1:1: /: expected UTF-8, found what looks like UTF-16 or UTF-32"),
    (b'{\n "\xc3\xa9": "\xff"}', "config.json:2:8: /: the byte 0xff is not UTF-8"),
    (b'["\xed\xa0\x80"]', "config.json:1:3: /: the byte 0xed is not UTF-8"),
    (b'{"a": [1', "config.json:1:9: /a: the document ends inside the array that opens at 1:7"),
    (b'{\n"a": 1\n', "config.json:3:1: /: the document ends inside the object that opens at 1:1"),
    (b'{"a":', "config.json:1:6: /a: expected a value, found the end of the document"),
    (b'["abc', "config.json:1:2: /0: the document ends inside the string that opens here"),
    (b'{"a": 1,}', 'config.json:1:8: /: a comma is not allowed before "}"'),
    (b"[1,\n]", 'config.json:1:3: /: a comma is not allowed before "]"'),
    (b'{"a": 1 "b": 2}', 'config.json:1:9: /: expected a comma or "}", found a string'),
    (b"[1 2]", 'config.json:1:4: /: expected a comma or "]", found "2"'),
    (b'{"a" 1}', 'config.json:1:6: /a: expected a colon after the name, found "1"'),
    (b"{'a': 1}", 'config.json:1:2: /: expected a name in double quotes, found "\'"'),
    (b"{a: 1}", 'config.json:1:2: /: expected a name in double quotes, found "a"'),
    (b"[TRUE]", 'config.json:1:2: /0: expected a value, found "TRUE"'),
    (b"[,]", 'config.json:1:2: /0: expected a value, found ","'),
    (b"// x\n{}", "config.json:1:1: /: expected a value, found a comment, which JSON does not have"),
    (b"{}\n{}", 'config.json:2:1: /: expected the end of the document, found "{"'),
    (b'["a\nb"]', "config.json:1:4: /0: the control character U+000A must be escaped in a string"),
    (b'["\\x41"]', 'config.json:1:3: /0: "\\\\x" is not an escape of JSON'),
    (b'["\\u00g0"]', "config.json:1:3: /0: expected four hexadecimal digits after \\u"),
    (b"[01]", "config.json:1:2: /0: a number must not start with 0"),
    (b"[1.]", 'config.json:1:4: /0: expected a digit after the decimal point, found "]"'),
    (b"[1e+]", 'config.json:1:5: /0: expected a digit in the exponent, found "]"'),
    (b"[-]", 'config.json:1:2: /0: expected a value, found "-"'),
    (b"[\xef\xbc\x91]", 'config.json:1:2: /0: expected a value, found "\uff11"'),
    (b"[NaN]", "config.json:1:2: /0: NaN is not a number of JSON"),
    (b"[-Infinity]", "config.json:1:2: /0: -Infinity is not a number of JSON"),
    (b"[1e400]", "config.json:1:2: /0: the number 1e400 is out of range"),
    (b'{"x": %s}' % (b"1" * 1_000_000), "config.json:1:7: /x: an integer of more than 20 digits is out of range"),
    (
        b'{"a/b": "\\u0000"}',
        "config.json:1:10: /a~1b: U+0000 is not allowed in a string: the kernel would end it there",
    ),
    (b'["\\ud800x"]', "config.json:1:3: /0: U+D800 is half of a surrogate pair, and its other half is missing"),
    (b'["\\udc00\\ud800"]', "config.json:1:3: /0: U+DC00 is half of a surrogate pair, and its other half is missing"),
    (b'{"process": 1, "process": 1}', 'config.json:1:16: /process: the name "process" is repeated in this object'),
    (b'{"a": null, "\\u0061": 1}', 'config.json:1:13: /a: the name "a" is repeated in this object'),
]


@pytest.mark.parametrize(("data", "message"), FAULTS, ids=[repr(data[:24]) for data, _ in FAULTS])
def test_fault(loads: Any, data: bytes, message: str) -> None:
    """Each fault is refused by both readers, with its place and what is wrong."""
    with pytest.raises(jsonio.JsonError) as caught:
        loads(data)

    assert message == str(caught.value.problems[0])


def test_all_faults_that_leave_the_structure_clear() -> None:
    """One report has them all."""
    with pytest.raises(jsonio.JsonError) as caught:
        jsonio.loads(b'{"a": NaN, "a": "\\u0000", "b": ["\\ud800", Infinity]}')

    assert ["/a", "/a", "/a", "/b/0", "/b/1"] == [problem.where for problem in caught.value.problems]


def test_the_number_of_problems_is_bounded() -> None:
    """A hostile document can't make us collect millions."""
    with pytest.raises(jsonio.JsonError) as caught:
        jsonio.loads(b"[" + b"NaN," * 100_000 + b"0]")

    assert reader.MAX_PROBLEMS == len(caught.value.problems)


def test_disagreeing_readers_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fast reader refuses is never accepted, even if the careful one sees nothing wrong."""

    def refuse(data: bytes, max_depth: int) -> Any:
        raise ValueError("something odd", 0)

    monkeypatch.setattr(jsonio, "_native_loads", refuse)
    with pytest.raises(jsonio.JsonError, match="something odd"):
        jsonio.loads(b"{}")


def test_imports_nothing_of_the_library() -> None:
    """Neither reading nor explaining a fault imports json, re, or the codecs' package."""
    program = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).resolve().parents[2])!r}]; before = set(sys.modules)\n"
        "from pyoci.config import jsonio\n"
        "jsonio.loads(b'{}'); jsonio.dumps({'a': 1.5}, indent=2)\n"
        "try: jsonio.loads(b'{\"a\": 1,}')\n"
        "except jsonio.JsonError: pass\n"
        "new = set(sys.modules) - before - set(sys.builtin_module_names) - {'cython_runtime'}\n"
        "print(*sorted(name for name in new if not name.startswith('pyoci')))"
    )
    run = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout.split() == []
