"""The types of the API: complete, and useful to the caller."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def mypy(*files: Path) -> list[str]:
    """What mypy --strict reports for a program that imports pyoci."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", *files]
    result = subprocess.run(map(str, command), cwd=ROOT, capture_output=True, text=True, check=False)
    assert "" == result.stderr
    return result.stdout.splitlines()


def test_a_program_that_uses_everything() -> None:
    """No error, and no Any that hides one."""
    assert [] == mypy(ROOT / "tests/api/typed.py")


def test_mistakes_are_found() -> None:
    """Each in its line, and no others."""
    file = ROOT / "tests/api/wrongly_typed.py"
    lines = [number for number, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# error")]
    found = [int(line.split(":")[1]) for line in mypy(file) if ": error:" in line]

    assert lines == sorted(set(found))
