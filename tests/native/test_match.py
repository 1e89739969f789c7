"""JSON texts that are compared with a form (pyoci/native/match.pxi)."""

import json
import random

import pytest

from pyoci._native import match_json

FORM: list[bytes | type] = [b'{"id":', str, b',"pid":', int, b',"args":', list, b',"fixed":true}']
SEED = 12
MUTATIONS = 20_000


def text(id: str = '"a"', pid: str = "1", args: str = "[]", rest: str = "") -> bytes:
    """A text of the form, unless a value is not simple."""
    return f'{{"id":{id},"pid":{pid},"args":{args},"fixed":true}}{rest}'.encode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (text(), ["a", 1, None]),
        (text(id='""', pid="0", args='[""]'), ["", 0, None]),
        (text(id='"/x y~!"', pid="999999999999999999", args='["a","b]"]'), ["/x y~!", 999999999999999999, None]),
    ],
)
def test_match_returns_the_values(given: bytes, expected: list[object]) -> None:
    """A value for each type of the form, None for an array."""
    assert expected == match_json(given, FORM)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"{",
        text(rest=" "),
        text()[:-1],
        text().replace(b"fixed", b"fixes"),
        *[text(id=value) for value in ("1", '"', '"a', "a", r'"\n"', r'"a\""', '"\x1f"', '"\x7f"', '"é"', "", " ")],
        *[text(pid=value) for value in ("", "-1", "01", "1.0", "1e3", "1" * 19, '"1"', " 1", "true")],
        *[
            text(args=value)
            for value in ("", "[", "]", "[,]", '["a",]', '["a" ]', "[1]", '["a"', '["a"]]', "[[]]", "{}")
        ],
    ],
)
def test_match_rejects_other_texts(given: bytes) -> None:
    """Another form, and values that are valid but not simple."""
    assert match_json(given, FORM) is None


def test_match_needs_all_parts() -> None:
    """A form without parts matches the empty text only."""
    assert [] == match_json(b"", [])
    assert match_json(b"x", []) is None
    assert match_json(b"ab", [b"a", b"bc"]) is None


def test_damaged_texts_match_only_as_valid_json() -> None:
    """What matches is JSON with these members, of these types, in this order."""
    chance = random.Random(SEED)
    alphabet = b'"\\,:[]{}019-.eE a\x00\x1f\x7f\xc3\xa9'
    matched = 0
    for _ in range(MUTATIONS):
        given = bytearray(text(id='"ab"', pid="12", args='["a","b"]'))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(given))
            given[at : at + chance.randint(0, 2)] = bytes(chance.choices(alphabet, k=chance.randint(0, 2)))
        values = match_json(bytes(given), FORM)
        if values is None:
            continue
        matched += 1
        pairs = json.loads(given, object_pairs_hook=list)
        assert ["id", "pid", "args", "fixed"] == [name for name, _ in pairs]
        assert values[:2] == [value for _, value in pairs][:2]
        assert isinstance(pairs[2][1], list)
        assert all(isinstance(item, str) for item in pairs[2][1])
        assert pairs[3][1] is True
    assert matched > MUTATIONS / 100
