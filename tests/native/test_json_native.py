"""The strict JSON reader and the writer of the extension: an oracle, and a table of faults."""

import collections
import contextlib
import gc
import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyoci._native import json_dumps, json_loads

DEPTH = 64
DIGITS = 20
CALLS = 100

SAMPLE = (
    '{ "ociVersion": "1.2.0", "process": {"args": ["sh", "-c", "a\\tb\\u00e9\\ud83d\\ude00\\/é€😀"],\r\n\t'
    '"user": {"uid": 0, "gid": -10, "umask": null}, "rlimits": [], "env": {} },'
    ' "x": [1.5, -2e+3, 0E1, 18446744073709551615, true, false, null, "", {"": 12345678901234567890}] }\n'
).encode()


# ── An oracle: the standard library, and the rules that we add ──────────────────────────────────────────


class Fault(Exception):
    """The reference reader refuses the document."""


def refuse(*_: object) -> object:
    """Refuse, as a callback."""
    raise Fault


def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse repeated names, drop null members."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise Fault
    return {name: value for name, value in pairs if value is not None}


def integer(digits: str) -> int:
    """Refuse long integers."""
    if len(digits.lstrip("-")) > DIGITS:
        raise Fault
    return int(digits)


def check(value: object, depth: int = 0) -> None:
    """Refuse what only a finished value shows: strings, floats out of range, depth."""
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= char < "\ue000" for char in value)):
        refuse()
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        refuse()
    if isinstance(value, dict | list):
        if depth == DEPTH:
            refuse()
        for item in value if isinstance(value, list) else [*value.keys(), *value.values()]:
            check(item, depth + 1)


def reference(data: bytes) -> object:
    """Return what `json_loads` should return, or raise Fault."""
    try:
        text = data.decode()
        check(json.loads(text, object_pairs_hook=dict))  # names of null members too
        value = json.loads(text, object_pairs_hook=members, parse_constant=refuse, parse_int=integer)
    except (ValueError, RecursionError):
        raise Fault from None
    check(value)
    return value


def outcome(data: bytes) -> str:
    """Read with `json_loads`; repr tells results apart by type as well as by value."""
    try:
        return repr(json_loads(data))
    except ValueError as error:
        _reason, offset = error.args
        assert 0 <= offset <= len(data)
        return "fault"


def expected(data: bytes) -> str:
    """Read with the oracle, spelled as by `outcome`."""
    try:
        return repr(reference(data))
    except Fault:
        return "fault"


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
EXACT = st.none() | st.booleans() | st.integers(-(10**20) + 1, 10**20 - 1) | TEXT
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PARTS = ["{", "}", "[", "]", ",", ":", '"', '"a"', '"a":', "null", "true", "false", "0", "1", "-", ".5", "e1"]
PARTS += ["E+", " ", "\n", "\\", '"\\ud83d', '\\ude00"', "\\u0000", "NaN", "//", "'", "\ufeff", "é", "\x7f"]


def nested(leaves: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Nest `leaves` in arrays and objects."""
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(nested(EXACT | FLOATS), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_reads_what_json_writes(value: object, escaped: bool, indent: int | str | None) -> None:
    """Whatever json.dumps writes is read as json.loads would read it."""
    data = json.dumps(value, ensure_ascii=escaped, indent=indent).encode()
    assert expected(data) == outcome(data) != "fault"


@given(st.lists(st.sampled_from(PARTS), max_size=12))
@settings(max_examples=500)
def test_agrees_with_the_oracle_on_nonsense(parts: list[str]) -> None:
    """A jumble of JSON's parts is read or refused as the oracle does."""
    data = "".join(parts).encode()
    assert expected(data) == outcome(data)


@given(st.binary(max_size=40))
def test_agrees_with_the_oracle_on_bytes(noise: bytes) -> None:
    """Bytes in a string are read or refused as the oracle does."""
    data = b'["' + noise + b'"]'
    assert expected(data) == outcome(data)


def test_every_prefix_of_a_document() -> None:
    """A document that is cut anywhere is a fault; it is whole only before its last newline."""
    assert expected(SAMPLE) == outcome(SAMPLE) == outcome(SAMPLE[:-1]) != "fault"
    for size in range(len(SAMPLE) - 1):
        assert outcome(SAMPLE[:size]) == "fault", size


def test_every_byte_mutated() -> None:
    """Whatever one byte of a document becomes, the result is the oracle's."""
    for place in range(len(SAMPLE)):
        for byte in range(256):
            data = SAMPLE[:place] + bytes([byte]) + SAMPLE[place + 1 :]
            ours = outcome(data)
            # The oracle is slow: ask it about each accepted document, and about a sample of the others.
            if ours != "fault" or (place + byte) % 16 == 0:
                assert expected(data) == ours, data


def test_every_byte_deleted_or_doubled() -> None:
    """A byte more or less gives the oracle's result."""
    for place in range(len(SAMPLE)):
        before, byte, after = SAMPLE[:place], SAMPLE[place : place + 1], SAMPLE[place + 1 :]
        for data in (before + after, before + byte + byte + after):
            assert expected(data) == outcome(data), data


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        (b"", "unexpected end, expected a value", 0),
        (b" \n", "unexpected end, expected a value", 2),
        (b"\xef\xbb\xbf{}", "unexpected byte order mark", 0),
        (b"{} x", "unexpected data after the value", 3),
        (b"{}{}", "unexpected data after the value", 2),
        (b"{}\0", "unexpected data after the value", 2),
        (b"nul", "expected a value", 0),
        (b"nulll", "unexpected data after the value", 4),
        (b"True", "expected a value", 0),
        (b"[NaN]", "expected a value", 1),
        (b"[Infinity]", "expected a value", 1),
        (b"-Infinity", "expected a digit", 1),
        (b"\xc3\xa9", "expected a value", 0),
        (b"\0", "expected a value", 0),
        (b"{'a':1}", "expected a member name in double quotes", 1),
        (b"{a:1}", "expected a member name in double quotes", 1),
        (b"{,}", "expected a member name in double quotes", 1),
        (b"{", "expected a member name in double quotes", 1),
        (b'{"a":1,', "expected a member name in double quotes", 7),
        (b'{"a" 1}', "expected ':' after the member name", 5),
        (b'{"a"', "expected ':' after the member name", 4),
        (b'{"a":', "unexpected end, expected a value", 5),
        (b'{"a":}', "expected a value", 5),
        (b'{"a":1', "expected ',' or '}' after the member", 6),
        (b'{"a":1]', "expected ',' or '}' after the member", 6),
        (b'{"a":1 , }', "unexpected trailing comma", 7),
        (b'{"a":1,,}', "expected a member name in double quotes", 7),
        (b"[", "unexpected end, expected a value", 1),
        (b"[1 2]", "expected ',' or ']' after the element", 3),
        (b"[1", "expected ',' or ']' after the element", 2),
        (b"[1,\n]", "unexpected trailing comma", 2),
        (b"[,1]", "expected a value", 1),
        (b"[1] // why", "unexpected data after the value", 4),
        (b"/**/[]", "expected a value", 0),
        (b"+1", "expected a value", 0),
        (b".5", "expected a value", 0),
        (b"-", "expected a digit", 1),
        (b"1.", "expected a digit", 2),
        (b"1.e5", "expected a digit", 2),
        (b"1e", "expected a digit", 2),
        (b"1e+", "expected a digit", 3),
        (b"[01]", "unexpected leading zero in a number", 1),
        (b"-00", "unexpected leading zero in a number", 0),
        (b"0x10", "unexpected data after the value", 1),
        (b"1_000", "unexpected data after the value", 1),
        (b"12345678901234567890_1", "unexpected data after the value", 20),
        (b"[123456789012345678901]", "integer of more than 20 digits", 1),
        (b"-123456789012345678901", "integer of more than 20 digits", 0),
        (b"[1e309]", "number out of range", 1),
        (b"[-1.0e400]", "number out of range", 1),
        (b'["abc', "unterminated string", 1),
        (b'["abc\\"]', "unterminated string", 1),
        (b'"\\', "unterminated string", 0),
        (b'"a\nb"', "unescaped control character 0x0a in a string", 2),
        (b'"a\0b"', "unescaped control character 0x00 in a string", 2),
        (b'{"\x1f":1}', "unescaped control character 0x1f in a string", 2),
        (b'"a\\x41"', "unknown escape in a string", 2),
        (b'"\\U0041"', "unknown escape in a string", 1),
        (b'"\\u00g0"', "expected four hexadecimal digits after \\u", 1),
        (b'"\\u 041"', "expected four hexadecimal digits after \\u", 1),
        (b'"\\u12', "expected four hexadecimal digits after \\u", 1),
        (b'"a\\u0000"', "NUL in a string", 2),
        (b'{"a\\u0000":1}', "NUL in a string", 3),
        (b'"\\ud83d"', "lone surrogate in a string", 1),
        (b'"\\ude00"', "lone surrogate in a string", 1),
        (b'"\\ude00\\ud83d"', "lone surrogate in a string", 1),
        (b'"\\ud83d\\ud83d\\ude00"', "lone surrogate in a string", 1),
        (b'"\\ud83d\\n1234"', "lone surrogate in a string", 1),
        (b'"\\ud83d\\ude0"', "lone surrogate in a string", 1),
        (b'"ab\xff"', "malformed UTF-8 in a string", 3),
        (b'"ab\xc3"', "malformed UTF-8 in a string", 3),
        (b'"ab\xe2\x82', "malformed UTF-8 in a string", 3),
        (b'{"a":1,"a":2}', "duplicate member name 'a'", 7),
        (b'{"a":null,"a":2}', "duplicate member name 'a'", 10),
        (b'{"a":1,"a":null}', "duplicate member name 'a'", 7),
        (b'{"a":null,"b":null, "b":null}', "duplicate member name 'b'", 20),
        (b'{"a":{},"\\u0061":{}}', "duplicate member name 'a'", 8),
        (b'[{"\\u001b":1,"\\u001b":2}]', "duplicate member name '\\x1b'", 13),
    ],
)
def test_fault(data: bytes, reason: str, offset: int) -> None:
    """Each fault has its reason, and the offset of the byte where it lies."""
    with pytest.raises(ValueError) as caught:
        json_loads(data)
    assert (reason, offset) == caught.value.args


@pytest.mark.parametrize(
    "tail",
    ["", "80", "bfbf", "808080", "9f80", "a080", "8fbfbf", "908080", "c0", "7f80", "807f", "80c0", "8080c0"],
)
def test_utf8(tail: str) -> None:
    """Each lead byte with each kind of tail is taken or refused, at the same place, as CPython does."""
    for lead in range(0x80, 0x100):
        noise = bytes([lead]) + bytes.fromhex(tail)
        try:
            wanted: object = noise.decode()
        except UnicodeDecodeError as error:
            wanted = ("malformed UTF-8 in a string", 1 + error.start)
        try:
            found: object = json_loads(b'"' + noise + b'"')
        except ValueError as error:
            found = error.args
        assert wanted == found, noise


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"null", None),
        (b'{"a":null,"b":[null]}', {"b": [None]}),
        (b'{"a":null}', {}),
        (b"1.0", 1.0),
        (b"1e2", 100.0),
        (b"1e-999", 0.0),
        (b"-0", 0),
        (b"999999999999999999", 999999999999999999),
        (b"-9223372036854775808", -9223372036854775808),
        (b"18446744073709551615", 18446744073709551615),
        (b"-99999999999999999999", -99999999999999999999),
        (b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\/\b\f\n\r\t'),
        (b'"\\u00Ff\\uffff\\ud800\\udc00\\uDBFF\\uDFFF"', "\xff\uffff\U00010000\U0010ffff"),
        (b'"\x7f"', "\x7f"),
    ],
)
def test_value(data: bytes, value: object) -> None:
    """Values, with their types."""
    assert repr(value) == repr(json_loads(data))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth(opening: bytes, closing: bytes) -> None:
    """`max_depth` levels are read; the bracket that opens one more is the fault, however many follow it."""
    for depth in (1, 2, 64):
        json_loads(opening * (depth - 1) + b"[]" + closing * (depth - 1), depth)
        for extra in (1, 100_000):
            with pytest.raises(ValueError, match="nested deeper") as caught:
                json_loads(opening * (depth + extra), max_depth=depth)
            assert (f"nested deeper than {depth} levels", depth * len(opening)) == caught.value.args
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        json_loads(opening * 65)
    with pytest.raises(ValueError, match="nested deeper than 1000 levels"):
        json_loads(opening * 100_000, 2**31 - 1)


@pytest.mark.parametrize("wrong", [None, "{}", bytearray(b"{}"), 1])
def test_reads_bytes_only(wrong: Any) -> None:
    """Anything but bytes is a programmer's mistake."""
    with pytest.raises(TypeError):
        json_loads(wrong)


def test_leaks_nothing() -> None:
    """Reading, writing and failing over and over leave no memory behind."""
    broken = [SAMPLE[:size] for size in range(0, len(SAMPLE), 7)] + [SAMPLE[:-3] + b', {"a":1,"a":2}]}']

    whole = b'{"a": [null, "\\u00e9", 12345678901234567890, {"b": null, "c": [true]}]}'

    def once() -> None:
        json_dumps(json_loads(whole), indent=True)
        for data in broken:
            with contextlib.suppress(ValueError):
                json_loads(data)
        with contextlib.suppress(TypeError):
            json_dumps(["x" * 1000, {"a": object()}])

    for _ in range(3):
        once()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(CALLS):
        once()
    gc.collect()
    assert sys.getallocatedblocks() - before < CALLS // 2  # a single block lost per call would be CALLS


# ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
WRITABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(WRITABLE, st.booleans())
def test_writes_what_the_standard_library_writes(value: object, indent: bool) -> None:
    """The text is json.dumps's, except that DEL and lone surrogates are escaped."""
    layout = {"indent": 2} if indent else {"separators": (",", ":")}
    text = json.dumps(value, ensure_ascii=False, **layout).replace("\x7f", "\\u007f")
    assert text.encode(errors="backslashreplace") == json_dumps(value, indent)


@given(nested(EXACT))
def test_reads_back_what_it_writes(value: object) -> None:
    """A written value is read back unchanged, without its null members."""
    assert expected(json.dumps(value).encode()) == outcome(json_dumps(value)) != "fault"


@pytest.mark.parametrize(
    ("value", "compact", "indented"),
    [
        ({}, b"{}", b"{}"),
        ([], b"[]", b"[]"),
        ((), b"[]", b"[]"),
        ("", b'""', b'""'),
        ({"a": (1, {})}, b'{"a":[1,{}]}', b'{\n  "a": [\n    1,\n    {}\n  ]\n}'),
        ({"a": None, "b": 0}, b'{"a":null,"b":0}', b'{\n  "a": null,\n  "b": 0\n}'),
        ([True, False, -1], b"[true,false,-1]", b"[\n  true,\n  false,\n  -1\n]"),
        (2**70, b"1180591620717411303424", b"1180591620717411303424"),
        ("\x00\x1b\x7f\u2028", b'"\\u0000\\u001b\\u007f\xe2\x80\xa8"', None),
        ('"\\/\n\t\r\b\f', b'"\\"\\\\/\\n\\t\\r\\b\\f"', None),
        ("a\udcffb", b'"a\\udcffb"', None),
        ({"\udc80": "é€😀"}, '{"\\udc80":"é€😀"}'.encode(), None),
        (collections.OrderedDict(a=1), b'{"a":1}', None),
    ],
)
def test_written(value: object, compact: bytes, indented: bytes | None) -> None:
    """The exact bytes, on one line and indented."""
    assert compact == json_dumps(value)
    if indented is not None:
        assert indented == json_dumps(value, indent=True)


@pytest.mark.parametrize("wrong", [1.5, b"x", {1}, {1: 2}, {None: 1}, object(), [1, {"a": (2.0,)}]])
def test_refuses_other_types(wrong: object) -> None:
    """A value without an exact form in JSON raises TypeError, at any depth."""
    with pytest.raises(TypeError, match="cannot write JSON"):
        json_dumps(wrong)


def test_refuses_a_cycle() -> None:
    """A list within itself ends in ValueError, not in the end of the stack."""
    cycle: list[object] = []
    cycle.append({"again": (cycle,)})
    with pytest.raises(ValueError, match="nested deeper than 1000 levels"):
        json_dumps(cycle)
