"""Files that a tool generates and that the repository keeps: which are outdated, and how to renew them."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def outdated(wanted: Mapping[Path, str], present: Iterable[Path] = ()) -> list[Path]:
    """The files that are missing or have another text, and those of `present` that are not wanted."""
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    return changed + [path for path in present if path not in wanted]


def main(tool: str, wanted: Mapping[Path, str], present: Iterable[Path] = ()) -> int:
    """Renew the outdated files, or report them if the command line has --check. Return the exit status.

    Removes the files of `present` that are not wanted.
    """
    paths = outdated(wanted, present)
    if "--check" in sys.argv[1:]:
        for path in paths:
            sys.stderr.write(f"{path.relative_to(ROOT)} is outdated: run tools/{tool}\n")
        return 1 if paths else 0
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path in wanted:
            path.write_text(wanted[path])
        else:
            path.unlink()
    return 0
