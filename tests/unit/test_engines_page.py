"""docs/engines.md."""

import subprocess
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools/engines"


def test_the_page_is_what_was_found():
    """It is made from docs/engines.json and contrib/."""
    done = subprocess.run(["/usr/bin/python3", TOOL, "--docs", "--check"], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
