"""Files that a tool generates and that the repository keeps: which are outdated, and how to renew them."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def changed(wanted: Mapping[Path, str]) -> list[Path]:
    """The files that are missing or have another text."""
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]


def main(tool: str, wanted: Mapping[Path, str], outdated: Iterable[Path]) -> int:
    """Renew the outdated files, or report them if the command line has --check. Return the exit status.

    A file that is outdated and not wanted is removed.
    """
    if "--check" in sys.argv[1:]:
        paths = [*outdated]
        for path in paths:
            sys.stderr.write(f"{path.relative_to(ROOT)} is outdated: run tools/{tool}\n")
        return 1 if paths else 0
    for path in outdated:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
    return 0
