"""The careful JSON reader: decides every doubtful case, and knows the position of every value.

Slow and plain. It goes on after a fault that leaves the structure clear (a repeated name, NaN, a lone surrogate), so
that it reports all of those. It stops at the first fault that does not.
"""

from pyoci import pointer
from pyoci.config.messages import show
from pyoci.config.text import MAX_DEPTH, MAX_DIGITS, Real
from pyoci.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pyoci.config.text import Json

    # The values whose positions the caller wants, as a tree of the tokens of their JSON pointers.
    Wanted = dict[str, "Wanted"]

MAX_PROBLEMS = 100  # more would not help the user, and a hostile document can have millions

_DIGITS = "0123456789"
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LITERALS: "dict[str, bool | None]" = {"true": True, "false": False, "null": None}
_NOT_JSON = ("NaN", "Infinity", "-Infinity")


def parse(text: str, wanted: "Wanted | None" = None) -> "tuple[Json, list[Problem], dict[str, tuple[int, int]]]":
    """Read `text` and return its value, its problems, and the positions of the wanted values.

    A position, by JSON pointer, is the offset of a value and the offset of its name; for an element of an array, its
    own offset twice. The value is None if the reader had to stop; then there is a problem.
    """
    reader = _Reader(text)
    try:
        value = reader.document(wanted)
    except _Stop:
        value = None
    return value, reader.problems, reader.places


class _Stop(Exception):
    """The reader can't go on."""


class _Reader:
    __slots__ = ("at", "path", "places", "problems", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.path: list[str] = []  # reference tokens of the value being read
        self.problems: list[Problem] = []
        self.places: dict[str, tuple[int, int]] = {}

    def document(self, wanted: "Wanted | None") -> "Json":
        self.skip_space()
        if self.at == len(self.text):
            self.fail("the document is empty")
        if wanted is not None:
            self.places[""] = (self.at, self.at)
        value = self.value(wanted)
        self.skip_space()
        if self.at < len(self.text):
            self.fail(f"expected the end of the document, found {self.next_text()}")
        return value

    def value(self, wanted: "Wanted | None") -> "Json":
        character = self.text[self.at : self.at + 1]
        if character == '"':
            return self.string()
        if character == "{":
            return self.object(wanted)
        if character == "[":
            return self.array(wanted)
        if character == "-" or (character and character in _DIGITS):
            return self.number()
        for word, constant in _LITERALS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return constant
        return self.not_a_value()

    def object(self, wanted: "Wanted | None") -> "dict[str, Json]":
        opened = self.enter()
        members: dict[str, Json] = {}
        names: set[str] = set()
        while self.has_more("}", opened, first=not names):
            name_at = self.at
            if self.text[name_at : name_at + 1] != '"':
                self.fail(f"expected a name in double quotes, found {self.next_text()}")
            name = self.string()
            self.path.append(name)
            if name in names:
                self.report(f"the name {show(name)} is repeated in this object", name_at)
            names.add(name)
            self.skip_space()
            if self.text[self.at : self.at + 1] != ":":
                self.fail(f"expected a colon after the name, found {self.next_text()}")
            self.at += 1
            self.skip_space()
            value = self.value(self.place(name, name_at, wanted))
            if value is not None:
                members[name] = value
            self.path.pop()
        return members

    def array(self, wanted: "Wanted | None") -> "list[Json]":
        opened = self.enter()
        items: list[Json] = []
        while self.has_more("]", opened, first=not items):
            item_at, token = self.at, str(len(items))
            self.path.append(token)
            items.append(self.value(self.place(token, item_at, wanted)))
            self.path.pop()
        return items

    def place(self, token: str, name_at: int, wanted: "Wanted | None") -> "Wanted | None":
        """Note where the value starts, if it is wanted. Returns the wanted values inside it."""
        if wanted is None or token not in wanted:
            return None
        self.places.setdefault(self.pointer(), (self.at, name_at))
        return wanted[token]

    def enter(self) -> int:
        """Enter an array or object, and return where it opens."""
        opened = self.at
        if len(self.path) >= MAX_DEPTH:
            self.fail(f"arrays and objects nest deeper than {MAX_DEPTH}")
        self.at += 1
        return opened

    def has_more(self, closing: str, opened: int, *, first: bool) -> bool:
        """Whether another item follows, at `at`. If not, the array or object is closed."""
        self.skip_space()
        if self.text[self.at : self.at + 1] == closing:
            self.at += 1
            return False
        if self.at == len(self.text):
            kind, (line, column) = "object" if closing == "}" else "array", place(self.text, opened)
            self.fail(f"the document ends inside the {kind} that opens at {line}:{column}")
        if first:
            return True
        if self.text[self.at] != ",":
            self.fail(f'expected a comma or "{closing}", found {self.next_text()}')
        comma = self.at
        self.at += 1
        self.skip_space()
        if self.text[self.at : self.at + 1] == closing:
            self.at = comma
            self.fail(f'a comma is not allowed before "{closing}"')
        return True

    def string(self) -> str:
        text, opened = self.text, self.at
        self.at += 1
        parts: list[str] = []
        quote = opened
        while True:
            if quote < self.at:  # the first time, and after an escaped quote
                quote = text.find('"', self.at)
            if quote < 0:
                self.at = opened
                self.fail("the document ends inside the string that opens here")
            escaped = text.find("\\", self.at, quote)
            end = quote if escaped < 0 else escaped
            self.check_plain(text[self.at : end])
            parts.append(text[self.at : end])
            self.at = end
            if end == quote:
                self.at += 1
                return "".join(parts)
            parts.append(self.escape())

    def check_plain(self, run: str) -> None:
        """Check characters that are neither quotes nor escapes."""
        if run.isprintable():
            return
        for offset, character in enumerate(run):
            if character < " ":
                self.at += offset
                self.fail(f"the control character U+{ord(character):04X} must be escaped in a string")

    def escape(self) -> str:
        at = self.at
        kind = self.text[at + 1 : at + 2]
        if kind != "u":
            if kind not in _ESCAPES:
                self.fail(f"{show(self.text[at : at + 2])} is not an escape of JSON")
            self.at += 2
            return _ESCAPES[kind]
        code = self.hex(at)
        self.at += 6
        if 0xD800 <= code < 0xDC00 and self.text[self.at : self.at + 2] == "\\u":
            low = self.hex(self.at)
            if 0xDC00 <= low < 0xE000:
                self.at += 6
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        if 0xD800 <= code < 0xE000:
            self.report(f"U+{code:04X} is half of a surrogate pair, and its other half is missing", at)
            return "\ufffd"
        if code == 0:
            self.report("U+0000 is not allowed in a string: the kernel would end it there", at)
            return "\ufffd"
        return chr(code)

    def hex(self, at: int) -> int:
        digits = self.text[at + 2 : at + 6]
        if len(digits) < 4 or digits.strip(_DIGITS + "abcdefABCDEF"):
            self.at = at
            self.fail("expected four hexadecimal digits after \\u")
        return int(digits, 16)

    def number(self) -> int | float:
        text, start = self.text, self.at
        if text[start] == "-":
            self.at += 1
        if text[self.at : self.at + 1] == "0":
            self.at += 1
            if self.skip_digits():
                self.at = start
                self.fail("a number must not start with 0")
        elif not self.skip_digits():
            self.at = start
            return self.not_a_value()
        whole = self.at
        if text[self.at : self.at + 1] == ".":
            self.at += 1
            if not self.skip_digits():
                self.fail(f"expected a digit after the decimal point, found {self.next_text()}")
        if text[self.at : self.at + 1] in ("e", "E"):
            self.at += 2 if text[self.at + 1 : self.at + 2] in ("+", "-") else 1
            if not self.skip_digits():
                self.fail(f"expected a digit in the exponent, found {self.next_text()}")
        spelling = text[start : self.at]
        if self.at > whole:
            number = Real(spelling)
            if number - number != 0:
                self.report(f"the number {show(spelling)[1:-1]} is out of range", start)
            return number
        if len(spelling.lstrip("-")) > MAX_DIGITS:
            self.report(f"an integer of more than {MAX_DIGITS} digits is out of range", start)
            return 0
        return int(spelling)

    def skip_digits(self) -> int:
        """Skip digits, and return how many there were."""
        text, at = self.text, self.at
        while text[at : at + 1] and text[at] in _DIGITS:
            at += 1
        count, self.at = at - self.at, at
        return count

    def not_a_value(self) -> int:
        for word in _NOT_JSON:
            if self.text.startswith(word, self.at):
                self.report(f"{word} is not a number of JSON", self.at)
                self.at += len(word)
                return 0
        return self.fail(f"expected a value, found {self.next_text()}")

    def skip_space(self) -> None:
        if self.text[self.at : self.at + 1] > " ":
            return
        while True:
            ahead = self.text[self.at : self.at + 64]
            spaces = len(ahead) - len(ahead.lstrip(" \t\n\r"))
            self.at += spaces
            if spaces < 64:
                return

    def next_text(self) -> str:
        """The text at `at`, for a message."""
        text, at = self.text, self.at
        if at >= len(text):
            return "the end of the document"
        if text[at] == '"':
            return "a string"
        if text.startswith(("//", "/*", "#"), at):
            return "a comment, which JSON does not have"
        end = at
        while end < at + 20 and text[end : end + 1].isalnum():
            end += 1
        return show(text[at : max(end, at + 1)])

    def pointer(self) -> str:
        return pointer.join(self.path)

    def report(self, message: str, at: int) -> None:
        self.problems.append(Problem(self.pointer(), message, *place(self.text, at)))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def fail(self, message: str) -> "NoReturn":
        self.report(message, self.at)
        raise _Stop


def place(text: str, offset: int) -> tuple[int, int]:
    """The line and the column of `offset`, both from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
