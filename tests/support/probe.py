"""Builds probe.c, once for each version of it: in a machine under emulation a compiler takes half a minute."""

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("probe.c")
PROGRAM = SOURCE.parents[2] / "build" / "probe"


def build() -> Path:
    """The program below build/."""
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        PROGRAM.parent.mkdir(exist_ok=True)
        unfinished = PROGRAM.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", unfinished, SOURCE], check=True)
        unfinished.rename(PROGRAM)
    return PROGRAM
