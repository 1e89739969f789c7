"""Lists of numbers such as `0-3,7`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import ranges


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", [(0, 0)]), ("0-3,7", [(0, 3), (7, 7)]), (" 0-3 , 7 ", [(0, 3), (7, 7)]), ("7,0", [(7, 7), (0, 0)])],
)
def test_parse_returns_ranges_in_the_order_of_the_text(text: str, expected: list[tuple[int, int]]) -> None:
    """Each item is a number or a range, with spaces around it."""
    assert expected == ranges.parse(text)
    assert ranges.is_valid(text)


@pytest.mark.parametrize("text", ["", ",", "0,", "1-", "-1", "3-1", "0x1", "٣", "1\n", "1\t", "a", "1 2", "0" * 21])
def test_parse_rejects_invalid_lists(text: str) -> None:
    """Only ASCII digits, hyphens, commas and spaces, and every range runs upwards."""
    with pytest.raises(ValueError) as caught:
        ranges.parse(text)
    assert (text,) == caught.value.args
    assert not ranges.is_valid(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", [0]),
        ("7,0-3", [0, 1, 2, 3, 7]),
        ("0-3,2-5,1", [0, 1, 2, 3, 4, 5]),
        (",".join(["0-65535"] * 200), list(range(65536))),
    ],
    ids=["one", "unsorted", "overlapping", "flood"],
)
def test_numbers_counts_each_number_once(text: str, expected: list[int]) -> None:
    """A list of some megabytes could name them a trillion times."""
    assert expected == ranges.numbers(text)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1))
def test_bits_and_numbers_agree(pairs: list[tuple[int, int]]) -> None:
    """`bits` sets the bit of each number."""
    text = ",".join(f"{min(pair)}-{max(pair)}" for pair in pairs)

    assert sum(1 << number for number in ranges.numbers(text)) == ranges.bits(text)


@pytest.mark.parametrize("text", ["65536", "0-65536", "9" * 19])
def test_numbers_above_the_limit_are_rejected(text: str) -> None:
    """No kernel has so many CPUs or nodes, and a hostile list could ask for any amount of memory."""
    assert ranges.is_valid(text)
    for convert in (ranges.bits, ranges.numbers):
        with pytest.raises(ValueError, match=text):
            convert(text)
