"""JSON pointers (RFC 6901)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import pointer


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", []), ("/", [""]), ("/a~1b/~0/1/x", ["a/b", "~", "1", "x"]), ("/~01", ["~1"])],
)
def test_pointer_splits_into_its_tokens_and_back(text: str, tokens: list[str]) -> None:
    """The examples of RFC 6901: `~1` is a slash, `~0` a tilde, and `~01` is `~1`."""
    assert tokens == pointer.split(text)
    assert text == pointer.join(tokens)


@given(st.lists(st.text()))
def test_split_undoes_join(tokens: list[str]) -> None:
    """Any name of a member may be a token."""
    assert tokens == pointer.split(pointer.join(tokens))
