"""Convert the manual pages in docs/man from Markdown to roff, the format of man(1).

It knows the Markdown that tools/gen_man.py writes: headings, paragraphs, lists, tables with two columns, indented code,
and bold, italic, code and links inside a line.
"""

import re
import textwrap

INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|\*(?P<italic>[^*]+)\*"
    r"|\[(?P<text>[^]]+)\]\((?P<target>[^)]+)\)|<(?P<url>https?://[^>]+)>"
)
# In roff, these characters begin an escape, or print as typographic quotes, accents and hyphens. A shell does not know
# an option with such a hyphen.
CHARACTERS = str.maketrans({
    "\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", "…": "...",
})  # fmt: skip
PAGE = re.compile(r"([\w-]+)\.(\d)\.md")
TERM = re.compile(r"(\*\*.+?\*\*(?:, \*\*.+?\*\*)*): (.*)", re.DOTALL)


def page(markdown: str, *, version: str, date: str) -> str:
    """Return a page as roff. `date` is the day of the release, or empty."""
    lines: list[str] = []
    for block in re.split(r"\n{2,}", markdown.strip("\n")):
        if block.startswith("# "):
            name, section = re.fullmatch(r"# ([\w-]+)\((\d)\)", block).groups()  # type: ignore[union-attr]
            lines.append(f'.TH "{escape(name.upper())}" "{section}" "{date}" "pyoci {version}" "System Administration"')
        elif block.startswith("## "):
            lines.append(f".SH {escape(block[3:])}")
        elif block.startswith("    "):
            code = map(protect, map(escape, textwrap.dedent(block).split("\n")))
            lines += [*paragraph(lines), ".RS 4", ".nf", *code, ".fi", ".RE"]
        elif block.startswith("|"):
            lines += table(block)
        elif block.startswith("- "):
            for item in re.split(r"\n(?=- )", block):
                lines += list_item(joined(item[2:]))
        else:
            lines += [*paragraph(lines), *sentences(joined(block))]
    return "\n".join(lines) + "\n"


def paragraph(lines: list[str]) -> list[str]:
    """Return the request that begins a paragraph, which a heading has begun already."""
    return [] if lines[-1].startswith(".SH") else [".PP"]


def table(block: str) -> list[str]:
    """Return the rows of a table, without its heading, as a list of terms."""
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in block.split("\n")[2:]]
    return [line for term, text in rows for line in (".TP", inline(term.strip()), *sentences(text.strip()))]


def list_item(text: str) -> list[str]:
    """Return an item of a list: a term with its explanation, or a text behind a bullet."""
    term = TERM.fullmatch(text)
    if term:
        return [".TP", inline(term[1]), *sentences(term[2])]
    return [r".IP \(bu 2", *sentences(text)]


def sentences(text: str) -> list[str]:
    """Return each sentence on a line of its own, as roff wants it."""
    return [protect(inline(sentence)) for sentence in re.split(r"(?<=[^.][.!?]) (?=[A-Z*`])", text)]


def inline(text: str) -> str:
    """Return text with the marks inside a line as changes of the font."""
    parts, end = [], 0
    for match in INLINE.finditer(text):
        parts += [escape(text[end : match.start()]), _marked(match)]
        end = match.end()
    return "".join([*parts, escape(text[end:])])


def _marked(match: "re.Match[str]") -> str:
    kind = match.lastgroup
    if kind == "target":
        manual = PAGE.fullmatch(match["target"])
        return rf"\fB{escape(manual[1])}\fR({manual[2]})" if manual else escape(match["text"])
    font = {"code": "B", "bold": "B", "italic": "I", "url": ""}[kind or ""]
    return rf"\f{font}{escape(match[kind])}\fR" if font else escape(match[kind])  # type: ignore[index]


def escape(text: str) -> str:
    """Return text without marks, so that roff prints it as it is. Raises ValueError for other than ASCII."""
    escaped = text.translate(CHARACTERS)
    if not escaped.isascii():
        raise ValueError(f"cannot convert `{text}` to roff: it is not ASCII")
    return escaped


def protect(line: str) -> str:
    """Return a line of text, which must not look like a request."""
    return rf"\&{line}" if line.startswith(".") else line


def joined(text: str) -> str:
    """Return text without its line breaks."""
    return " ".join(text.split())
