"""docs/kernels.md has the errors that the tests expect."""

from pathlib import Path

from tests.support.kernels import FEATURES

PAGE = Path(__file__).resolve().parents[2] / "docs/kernels.md"


def test_table_has_the_expected_errors() -> None:
    """Row by row, in the order of the tests."""
    lines = PAGE.read_text().splitlines()
    first = lines.index("| feature | since Linux | error on an older kernel |") + 2

    assert [feature.row() for feature in FEATURES] == lines[first : first + len(FEATURES)]
    assert "" == lines[first + len(FEATURES)]
