"""Lists of numbers such as `0-3,7`, as the kernel writes sets of CPUs and of memory nodes."""

MAX_NUMBER = 0xFFFF  # more CPUs or nodes than any kernel is built for


def parse(text: str) -> list[tuple[int, int]]:
    """The ranges of `text`, each as its first and last number. An item may have spaces around it.

    Raises ValueError for anything else: an empty item, a range that runs backwards, a line break.
    """
    found = []
    for item in text.split(","):
        first, hyphen, last = item.strip(" ").partition("-")
        last = last if hyphen else first
        if len(item) > 20 or not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise ValueError(text)
        if int(last) < int(first):
            raise ValueError(text)
        found.append((int(first), int(last)))
    return found


def is_valid(text: str) -> bool:
    """Whether `parse` accepts `text`."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def numbers(text: str) -> list[int]:
    """The numbers in `text` in ascending order, each once. Raises ValueError, also for one above MAX_NUMBER."""
    found: list[int] = []
    for first, last in sorted(_within_limit(text)):
        found += range(max(first, found[-1] + 1) if found else first, last + 1)
    return found


def bits(text: str) -> int:
    """The numbers in `text` as the bits of an integer. Raises ValueError, also for one above MAX_NUMBER."""
    mask = 0
    for first, last in _within_limit(text):
        mask |= (1 << last + 1) - (1 << first)
    return mask


def _within_limit(text: str) -> list[tuple[int, int]]:
    found = parse(text)
    if max(last for _, last in found) > MAX_NUMBER:
        raise ValueError(text)
    return found
