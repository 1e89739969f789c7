"""The code blocks of a page of docs, which tests give to the programs that they are for."""

from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
KUBERNETES = CHECKOUT / "docs/kubernetes.md"


class Block(NamedTuple):
    """A fenced block, with the heading that it is below."""

    section: str
    language: str
    text: str


def blocks(page: Path, section: str = "", language: str = "") -> list[Block]:
    """Return the fenced blocks of a page in their order, or only those of a section or a language."""
    found: list[Block] = []
    heading, opened, lines = "", None, list[str]()
    for line in page.read_text().splitlines():
        if opened is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif opened is None and line.startswith("```"):
            opened, lines = line.removeprefix("```"), []
        elif line == "```" and opened is not None:
            found.append(Block(heading, opened, "\n".join(lines) + "\n"))
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"{page}: a block of {heading!r} is open at the end"
    return [block for block in found if section in ("", block.section) and language in ("", block.language)]


def block(page: Path, section: str, language: str) -> str:
    """Return the text of a section's only block in a language."""
    (found,) = blocks(page, section, language)
    return found.text
