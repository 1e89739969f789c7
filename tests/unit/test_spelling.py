"""What a misspelt word was meant to be."""

import pytest

from pyoci.cli import COMMANDS
from pyoci.config import spelling

NAMES = ("create", "start", "state", "ps", "bundle", "preserve-fds")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("crate", "create"), ("craete", "create"), ("creat", "create"), ("crreate", "create"), ("xreate", "create"), ("createee", "create"),
        ("preserve_fd", "preserve-fds"), ("bundel", "bundle"), ("px", "ps"), ("stat", "start"), ("states", "state"),
    ],
)  # fmt: skip
def test_word_with_slips_is_recognised(word: str, expected: str) -> None:
    """A character that was left out, added, replaced, or swapped with the next one; two of them in a longer word."""
    assert expected == spelling.nearest(word, NAMES)
    assert f"did you mean `--{expected}`?" == spelling.hint(word, NAMES, "--")


@pytest.mark.parametrize("word", ["", "x", "abc", "crxxxe", "stop", "preserve", "create" * 1000, "\0", "🦀🦀"])
def test_other_word_gets_no_hint(word: str) -> None:
    """Nothing is close to it."""
    assert "" == spelling.nearest(word, NAMES)
    assert "" == spelling.hint(word, NAMES)


def test_no_command_is_a_slip_of_another() -> None:
    """None is suggested for one that exists."""
    assert list(COMMANDS) == [spelling.nearest(name, COMMANDS) for name in COMMANDS]
