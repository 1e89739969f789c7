"""docs/conformance.md."""

from pathlib import Path

from conformance.report import LEGEND
from conformance.rows import ROWS

PAGE = Path(__file__).resolve().parents[2] / "docs/conformance.md"


def test_the_legend_is_what_a_report_writes() -> None:
    """A page that was measured before its signs changed their meaning would be read wrong."""
    text = PAGE.read_text()

    assert text.startswith("\n".join(LEGEND) + "\n\n"), (
        "docs/conformance.md is stale: run python3 -m conformance --format markdown"
    )


def test_the_rows_are_those_that_are_judged() -> None:
    """With their levels and their words."""
    missing = [
        row
        for row, about in ROWS.items()
        if not any(
            line.startswith(f"| {row} | {about.level} | {about.what} |") for line in PAGE.read_text().splitlines()
        )
    ]

    assert [] == missing, "docs/conformance.md is stale: run python3 -m conformance --format markdown"
