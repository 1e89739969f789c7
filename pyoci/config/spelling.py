"""Guess what a misspelt word was meant to be. Only loaded for errors."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_WORD = 40  # characters; a longer word is not a slip, and comparing it would take time


def hint(word: str, names: "Iterable[str]", prefix: str = "") -> str:
    """A hint at the one of `names` that is closest to `word`, shown after `prefix`; "" if none is close."""
    found = nearest(word, names)
    return f"did you mean `{prefix}{found}`?" if found else ""


def nearest(word: str, names: "Iterable[str]") -> str:
    """The first of `names` with the fewest slips in `word`; "" if none is close.

    A word of up to five characters may have one slip, a longer one two.
    """
    if len(word) > MAX_WORD:
        return ""
    limit = 1 if len(word) < 6 else 2
    best, fewest = "", limit + 1
    for name in names:
        if abs(len(name) - len(word)) < fewest and (slips := _slips(word, name)) < fewest:
            best, fewest = name, slips
    return best


def _slips(a: str, b: str) -> int:
    """How many characters were left out, added, replaced, or swapped with the next one between `a` and `b`."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a):
        row = [i + 1]
        for j, y in enumerate(b):
            row.append(min(last[j] + (x != y), last[j + 1] + 1, row[j] + 1))
            if i and j and x == b[j - 1] and y == a[i - 1]:
                row[-1] = min(row[-1], before[j - 1] + 1)
        before, last = last, row
    return last[-1]


__all__ = ["hint", "nearest"]
