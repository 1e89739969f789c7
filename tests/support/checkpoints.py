"""Images of real containers, which CRIU 4.2.1 wrote, without their memory.

tests/data/checkpoints has for each container its config.json, and the files of which restore reads facts. All run
`sleep` under a shell with the capabilities of `pyoci spec`, a seccomp filter and a read-only volume at /data:

    plain      a container without a user namespace
    user       one with a user namespace, whose program is an ordinary user
    terminal   one with a terminal
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyoci.criu import images, wire

DIRECTORY = Path(__file__).resolve().parents[1] / "data/checkpoints"
NAMES = ("plain", "user", "terminal")


def files(name: str) -> dict[str, bytes]:
    """The files of an image that restore reads."""
    return {path.name: path.read_bytes() for path in sorted((DIRECTORY / name).glob("*.img"))}


def image(name: str = "plain") -> images.Image:
    """A decoded image."""
    return images.decode(files(name))


def config(name: str = "plain") -> dict[str, Any]:
    """The config.json of the container."""
    found: dict[str, Any] = json.loads((DIRECTORY / name / "config.json").read_bytes())
    return found


Fields = dict[int, list[int | bytes]]


def edit(path: Path, change: Callable[[Fields], bool | None]) -> None:
    """Change the fields of each entry of an image file; leave out entries for which `change` returns False."""
    data = path.read_bytes()
    at = 4 if path.name == "inventory.img" else 8
    edited = data[:at]
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        fields = wire.decode(data[at + 4 : at + 4 + size])
        at += 4 + size
        if change(fields) is not False:
            message = encode(fields)
            edited += len(message).to_bytes(4, "little") + message
    path.write_bytes(edited)


def encode(fields: Fields) -> bytes:
    """A message with these fields."""
    return wire.encode((number, value) for number, values in fields.items() for value in values)


def edit_inside(fields: Fields, path: list[int], change: Callable[[Fields], None]) -> None:
    """Change the fields of a message inside: `path` has the number of the field at each level."""
    if not path:
        change(fields)
        return
    (data,) = fields[path[0]]
    assert isinstance(data, bytes)
    inner = wire.decode(data)
    edit_inside(inner, path[1:], change)
    fields[path[0]] = [encode(inner)]
