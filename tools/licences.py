#!/usr/bin/env python3
"""Writes the licences of what the executable contains, as tools/linked lists it on standard input.

    tools/linked [TRACE] | tools/licences.py DIRECTORY

DIRECTORY gets the copyright file of each Debian package, the licences that these files refer to, and a README.md, which
says where the sources are.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

COMMON = Path("/usr/share/common-licenses")
README = """\
# Licences

pyoci is under the Apache License 2.0, which is in the file `LICENSE` beside this directory. The executable also
contains code of the Debian packages below. Each has its licence in the file of its name. Where such a file names
`/usr/share/common-licenses`, look in `common-licenses` here.

| package | version | source package |
|-|-|-|
{rows}

Debian keeps the source of each package: `apt-get source NAME=VERSION`, or https://snapshot.debian.org.

The C library is under the LGPL 2.1. To link pyoci with another version of it, install that version, with its headers
and archives. Then run `tools/build` in the sources of pyoci.
"""


def write(directory: Path, packages: Iterable[dict[str, str]]) -> None:
    """Make the directory and write the files. Raises OSError."""
    (directory / COMMON.name).mkdir(parents=True)
    rows = []
    for package in packages:
        text = Path(package["licence"]).read_bytes()
        (directory / f"{package['name']}.txt").write_bytes(text)
        for name in re.findall(rf"{COMMON}/([\w.+-]*\w)".encode(), text):
            shutil.copyfile(COMMON / name.decode(), directory / COMMON.name / name.decode())
        source = f"{package['source']} {package['sourceVersion']}"
        rows.append(f"| {package['name']} | {package['version']} | {source} |")
    (directory / "README.md").write_text(README.format(rows="\n".join(rows)))


def main(arguments: list[str]) -> int:
    """Run the tool."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write("usage: tools/licences.py DIRECTORY <LINKED\n")
        return 2
    try:
        write(Path(arguments[0]), json.load(sys.stdin)["linked"])
    except OSError as error:
        sys.stderr.write(f"cannot write licences: {error.filename}: {(error.strerror or '').lower()}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
