"""docs/engines.md."""

import subprocess
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools/engines"


def test_the_page_is_what_was_found():
    """It is made from docs/engines.json and contrib/."""
    subprocess.check_call(["/usr/bin/python3", TOOL, "--docs", "--check"])
