"""Build floor and timer, static C programs, with the filters of Docker's config.

Needs a C compiler and the static C library (libc6-dev).
"""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUTPUT = ROOT / "build" / "bench"
CONFIG = ROOT / "pyoci" / "executable" / "docker.json"
FLAGS = ["-O2", "-static", "-Wall", "-Wextra", "-Werror"]
WITHOUT_LIBC = ["-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector"]
WITHOUT_LIBC += ["-fno-asynchronous-unwind-tables", "-Wl,--build-id=none"]

sys.path.insert(0, str(ROOT))

from pyoci.cgroups.device_filter import compile_rules  # noqa: E402
from pyoci.compiler.seccomp import compile_filter  # noqa: E402


def build(output: Path = OUTPUT) -> None:
    """Write `floor` and `timer` to the directory `output`."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "filters.h").write_text(filters(json.loads(CONFIG.read_text())["linux"]))
    compile_program(HERE / "floor.c", output / "floor", [*WITHOUT_LIBC, f"-I{output}"])
    compile_program(HERE / "timer.c", output / "timer", [])


def filters(linux: dict[str, Any]) -> str:
    """C source with the seccomp filter and the device filter of a config."""
    seccomp = compile_filter(linux["seccomp"], platform.machine()).program
    devices = compile_rules(linux["resources"]["devices"])
    return "".join(
        f"static const unsigned char {name}[] __attribute__((aligned(8))) = {{{','.join(map(str, program))}}};\n"
        for name, program in (("seccomp_filter", seccomp), ("device_filter", devices))
    )


def compile_program(source: Path, target: Path, flags: list[str]) -> None:
    new = target.with_suffix(".new")  # the old one may run
    subprocess.run(["gcc", *FLAGS, *flags, "-o", str(new), str(source)], check=True)
    new.replace(target)


if __name__ == "__main__":
    build()
