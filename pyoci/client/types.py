"""The types of the API besides the documents of the specification, which are in pyoci.types."""

import os
from typing import IO, Any, Literal, NotRequired, TypeAlias, TypedDict

StrPath: TypeAlias = str | os.PathLike[str]
File: TypeAlias = int | IO[bytes] | IO[str] | None
CgroupManager: TypeAlias = Literal["cgroupfs", "systemd", "disabled"]
LogLevel: TypeAlias = Literal["error", "warning", "info", "debug"]
Stats: TypeAlias = dict[str, Any]
"""What a container uses, in runc's form."""


class Event(TypedDict):
    """What happened to a container: `stats` with its statistics in `data`, or `oom`."""

    type: str
    id: str
    data: NotRequired[Stats]
