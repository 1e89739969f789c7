"""The options of checkpoint and restore as words of a command line."""

import os
from collections.abc import Mapping

from pyoci.client.types import CriuOptions, RestoreOptions, StrPath


def images(path: StrPath, work: StrPath | None) -> list[StrPath]:
    """The directories. runc resolves a relative path in the bundle, so these are absolute."""
    options: list[StrPath] = ["--image-path", os.path.abspath(path)]
    return options if work is None else [*options, "--work-path", os.path.abspath(work)]


def switches(options: CriuOptions, *, restoring: bool) -> list[str]:
    """The other options. Raises TypeError for one that there is not."""
    known = (RestoreOptions if restoring else CriuOptions).__annotations__
    values: Mapping[str, object] = {**options}
    words = []
    for name, value in values.items():
        if name not in known:
            raise TypeError(f"cannot use option {name}: expected one of {', '.join(known)}")
        if value:
            flag = f"--{name.replace('_', '-')}"
            words += [flag] if value is True else [flag, str(value)]
    return words
