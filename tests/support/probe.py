"""Builds probe.c and its like, once for each version: in a machine under emulation a compiler takes half a minute."""

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def build(name: str = "probe") -> Path:
    """The program below build/."""
    source, program = HERE / f"{name}.c", HERE.parents[1] / "build" / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(exist_ok=True)
        unfinished = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", unfinished, source], check=True)
        unfinished.rename(program)
    return program
