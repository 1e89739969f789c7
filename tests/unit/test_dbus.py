"""D-Bus messages, compared with jeepney's."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jeepney.low_level import Endianness, Header, HeaderFields, Message, MessageType

from pyoci.dbus import wire
from pyoci.dbus.wire import Variant

INTEGERS = {"y": 8, "n": -16, "q": 16, "i": -32, "u": 32, "x": -64, "t": 64}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def integers(kind):
    bits = INTEGERS[kind]
    return st.integers(0, (1 << bits) - 1) if bits > 0 else st.integers(-1 << -bits - 1, (1 << -bits - 1) - 1)


BASIC = [st.tuples(st.just(kind), integers(kind)) for kind in INTEGERS]
BASIC += [
    st.tuples(st.just("b"), st.booleans()),
    st.tuples(st.just("d"), st.floats(allow_nan=False)),
    st.tuples(st.just("s"), TEXT),
    st.tuples(st.just("o"), st.sampled_from(["/", "/a", "/a/b_1"])),
    st.tuples(st.just("g"), st.sampled_from(["", "s", "a{sv}", "(ii)"])),
    st.tuples(st.just("ay"), st.binary(max_size=9)),
]


def containers(inner):
    """(signature, value) of what may hold values of `inner`."""
    lists = inner.flatmap(lambda pair: st.tuples(st.just("a" + pair[0]), st.just([pair[1]] * 2) | st.just([])))
    structs = st.lists(inner, min_size=1, max_size=3).map(
        lambda pairs: (f"({''.join(s for s, _ in pairs)})", tuple(v for _, v in pairs))
    )
    dicts = st.tuples(TEXT, inner).map(lambda pair: (f"a{{s{pair[1][0]}}}", {pair[0]: pair[1][1]}))
    variants = inner.map(lambda pair: ("v", Variant(*pair)))
    return lists.filter(lambda pair: pair[0] != "ay") | structs | dicts | variants


VALUES = st.lists(st.recursive(st.one_of(BASIC), containers, max_leaves=6), max_size=4)
FIELDS = {wire.PATH: "/a/b", wire.INTERFACE: "x.y", wire.MEMBER: "Z", wire.DESTINATION: "x.y"}


def for_jeepney(value: Any) -> Any:
    """The same as jeepney writes it: a variant is a pair."""
    if isinstance(value, Variant):
        return (value.signature, for_jeepney(value.value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(for_jeepney, value))
    return {key: for_jeepney(each) for key, each in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_messages_are_jeepneys(values) -> None:
    """Byte for byte, and it reads ours."""
    signature, body = "".join(s for s, _ in values), [v for _, v in values]
    fields = {HeaderFields(code): value for code, value in FIELDS.items()}
    if signature:
        fields[HeaderFields.signature] = signature
    header = Header(Endianness.little, MessageType.method_call, 0, 1, -1, -1, fields)

    theirs = Message(header, tuple(map(for_jeepney, body))).serialise(serial=7)

    ours = wire.encode(wire.CALL, 7, FIELDS, signature, *body)

    assert theirs == ours


@given(VALUES)
def test_what_is_written_is_read(values) -> None:
    """With whatever comes after it left alone, and nothing of a part of it."""
    signature, body = "".join(s for s, _ in values), [v for _, v in values]
    data = wire.encode(wire.SIGNAL, 9, FIELDS, signature, *body)

    message, size = wire.decode(data + b"more")

    assert (wire.SIGNAL, 9, len(data), body) == (message.kind, message.serial, size, message.body)
    assert FIELDS.items() <= message.fields.items()
    assert [None] * len(data) == [wire.decode(data[:length]) for length in range(len(data))]


@given(st.binary(max_size=64), VALUES, st.data())
def test_broken_messages_raise_value_error(noise, values, data) -> None:
    """A message with bytes of another is read, incomplete or malformed; nothing else."""
    whole = wire.encode(wire.SIGNAL, 9, FIELDS, "".join(s for s, _ in values), *(v for _, v in values))
    at = data.draw(st.integers(0, len(whole)))
    try:
        wire.decode(whole[:at] + noise + whole[at + len(noise) :])
    except wire.MalformedMessage:
        pass


@pytest.mark.parametrize(("key", "name"), [("t", 1 << 40), ("d", 0.5), ("b", True), ("y", 7)])
def test_dictionary_whose_keys_are_numbers_is_read_as_pairs(key: str, name: float) -> None:
    """The sender could choose numbers that collide."""
    data = wire.encode(wire.SIGNAL, 9, FIELDS, f"a{{{key}s}}", {name: "x"})

    assert [[(name, "x")]] == wire.decode(data)[0].body
    assert data == wire.encode(wire.SIGNAL, 9, FIELDS, f"a{{{key}s}}", [(name, "x")])


def test_a_big_endian_message_is_read() -> None:
    body = b"\0\0\0\x01A\0"
    header = b"B\x02\0\x01" + len(body).to_bytes(4, "big") + (5).to_bytes(4, "big")
    fields = b"\x05\x01u\0" + (3).to_bytes(4, "big") + b"\x08\x01g\0\x01s\0"
    data = header + len(fields).to_bytes(4, "big") + fields
    message, size = wire.decode(data + bytes(-len(data) % 8) + body)

    assert (wire.RETURN, 5, 3, ["A"]) == (message.kind, message.serial, message.fields[wire.REPLY_SERIAL], message.body)
    assert len(data) + -len(data) % 8 + len(body) == size


@pytest.mark.parametrize(
    "signature", ["a", "(", "()", "{ss}", "a{vs}", "a{s}", "z", "a" * 100 + "s", "(" * 80 + ")" * 80]
)
def test_invalid_signatures_are_rejected(signature: str) -> None:
    with pytest.raises(ValueError, match="is not a signature"):
        list(wire.types(signature))


@pytest.mark.parametrize(
    ("signature", "value"),
    [("y", 256), ("u", -1), ("n", 1 << 15), ("s", "a\0b"), ("g", "s" * 256), ("u", "x"), ("(ss)", ("a",))],
)
def test_values_of_another_type(signature: str, value: int | str | tuple[str]) -> None:
    with pytest.raises(ValueError):
        wire.encode(wire.CALL, 1, FIELDS, signature, value)


def test_infinity_is_a_double() -> None:
    message, _ = wire.decode(wire.encode(wire.CALL, 1, FIELDS, "d", math.inf))

    assert [math.inf] == message.body
