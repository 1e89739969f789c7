"""Codes in comments and docstrings: rows of the specification, which conformance/rows.py defines, and no others."""

import re
from pathlib import Path

from conformance import rows

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    path
    for folder in ("pyoci", "tests")
    for suffix in ("py", "pyx", "pxi")
    for path in (ROOT / folder).rglob(f"*.{suffix}")
]
SECTIONS = {row.partition("-")[0] for row in rows.ROWS}


def found(pattern: str) -> set[str]:
    return {f"{path.relative_to(ROOT)}: {code}" for path in FILES for code in re.findall(pattern, path.read_text())}


def test_rows_are_those_of_the_suite() -> None:
    """Every row that a file names exists."""
    named = found(rf"\b(?:{'|'.join(sorted(SECTIONS))})-\d\d\b(?!-)")

    assert [] == sorted(code for code in named if code.partition(": ")[2] not in rows.ROWS)
    assert len(named) > 30


def test_no_code_is_defined_nowhere() -> None:
    """A letter and a number of a private list say nothing to other readers."""
    assert set() == found(r"(?:# ── |\"\"\"|, |\()([THP]\d\d?)(?=[:,)]| to )")
