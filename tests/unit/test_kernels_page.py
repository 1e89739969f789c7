"""docs/kernels.md says what the tests see."""

from pathlib import Path

from tests.support.kernels import FEATURES

PAGE = Path(__file__).resolve().parents[2] / "docs/kernels.md"


def test_the_table_is_what_the_tests_see():
    """Row by row, in order."""
    lines = PAGE.read_text().splitlines()
    first = lines.index("| what is asked for | since Linux | what an older kernel gets |") + 2

    assert [feature.row() for feature in FEATURES] == lines[first : first + len(FEATURES)]
    assert "" == lines[first + len(FEATURES)]
