"""Container ids and signals."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci.cli.signals import SIGNALS, parse_signal
from pyoci.config.ids import check_id
from pyoci.errors import PyociError, UsageError


@pytest.mark.parametrize("id", ["a", "0", "_x", "+x", "-x", "a.b", "a..b", "A-Z_0+9.", "x" * 64, "x" * 223])
def test_good_ids(id: str) -> None:
    """What runc and the engines use."""
    check_id(id)


@pytest.mark.parametrize(
    "id",
    [
        "", ".", "..", "../x", "a/b", "/a", ".x", "a\n", "\na", "a b", "a\0", "é", "a:b",
        "１", "a\u0300", "x" * 224, "x" * 256, "\udcff",
    ],
)  # fmt: skip
def test_bad_ids(id: str) -> None:
    """Nothing that is a path, nothing that a terminal or a file system could read in another way."""
    with pytest.raises(PyociError, match=r"^cannot use container ID `") as caught:
        check_id(id)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("id", "what"),
    [
        ("this/is/invalid", "invalid character `/` in the ID"),
        ("a b", "invalid character ` ` in the ID"),
        (".foo", "invalid character `.` at the start of the ID"),
        ("..", "invalid character `.` at the start of the ID"),
    ],
)
def test_the_character_that_is_wrong_is_named(id: str, what: str) -> None:
    """In the words of crun, for those who look for them."""
    with pytest.raises(PyociError, match=r"^cannot use container ID `") as caught:
        check_id(id)
    assert f"`{id}`: {what}: only letters, " in str(caught.value)


@given(st.text(max_size=20))
def test_an_id_is_a_plain_name(id) -> None:
    """Whatever is accepted is a file name of its own, which is not hidden."""
    try:
        check_id(id)
    except PyociError:
        return

    assert id.isascii()
    assert id.isprintable()
    assert "/" not in id
    assert not id.startswith(".")


def test_signal_names_are_the_systems() -> None:
    """Every name has the number that the C library gives it, and none is missing."""
    expected = {item.name.removeprefix("SIG"): item.value for item in signal.Signals if item.value < 32}
    aliases = {name: number for name, number in SIGNALS.items() if name not in expected}

    assert expected == {name: number for name, number in SIGNALS.items() if name in expected}
    assert {"IOT", "CLD", "POLL", "STKFLT"} >= set(aliases)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigkill", 9), ("kill", 9), ("Term", 15), ("0", 0),
        ("64", 64), ("35", 35),
        ("RTMIN", 34), ("SIGRTMIN+1", 35), ("rtmin+30", 64), ("RTMAX", 64), ("SIGRTMAX-2", 62), ("09", 9),
    ],
)  # fmt: skip
def test_signals(text: str, expected: int) -> None:
    """Numbers up to 64, names in any case, realtime signals by offset."""
    assert expected == parse_signal(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "65", "-1", "SIG", "SIGSIGKILL", "BOGUS", "9x", "1.0", "RTMIN+31", "RTMIN-1", "RTMAX+1",
        "RTMIN+", "KILL+1", "９", "²", "1" * 9999,
    ],
)  # fmt: skip
def test_invalid_signal_is_rejected(text: str) -> None:
    """Anything else is refused, and named."""
    with pytest.raises(UsageError, match="unknown signal"):
        parse_signal(text)
