"""From a runtime's log to an exception."""

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pyoci import errors
from pyoci.errors import ConfigError, ContainerExists, ContainerNotFound, Problem, PyociError, StatusError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOGGER = logging.getLogger("pyoci")
"""Gets what a runtime logs besides its error: warnings, and with `log_level="debug"` each of its steps."""

_LEVELS = {"warning": logging.WARNING, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}

# What runc and crun say, where the meaning is certain.
_MESSAGES: tuple[tuple[str, type[PyociError]], ...] = (
    (r"container with (given )?id (already )?exists|container `[^`]*` already exists", ContainerExists),
    (r"container (`[^`]*` )?does not exist", ContainerNotFound),
    (r"^(error opening file|cannot open directory|open) [`'].*[`']: No such file or directory$", ContainerNotFound),
    (r"container (`[^`]*` )?(is )?not (running|paused)", StatusError),
    (r"cannot (start|delete|exec|pause).*(container|state)", StatusError),
    (r"`[^`]*` is not in (the )?.*(created|stopped|running|paused).* state", StatusError),
)


class UnsupportedError(PyociError):
    """The runtime has no such command or option."""


class Report:
    """What one command logged: `error` is None if the command itself did not fail."""

    def __init__(self, log: Path, *, config: "Path | None" = None) -> None:
        self.error: PyociError | None = None
        try:
            lines = log.read_text(errors="replace").splitlines()
        except FileNotFoundError:  # crun creates it at the first message
            lines = []
        for line in lines:
            entry = _entry(line)
            if entry.get("level") in ("error", "fatal"):
                self.error = _error(entry, config)
            elif entry:
                LOGGER.log(_LEVELS.get(entry.get("level", ""), logging.INFO), "%s", entry.get("msg", ""))


def class_of(message: str) -> type[PyociError]:
    """The class of an error that has no other sign than its text."""
    return next((kind for pattern, kind in _MESSAGES if re.search(pattern, message, re.IGNORECASE)), PyociError)


def _entry(line: str) -> dict[str, str]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return {key: str(value) for key, value in entry.items()} if isinstance(entry, dict) else {}


def _error(entry: dict[str, str], config: "Path | None") -> PyociError:
    message, pointer, hint = (entry.get(key, "") for key in ("msg", "pointer", "hint"))
    kind = getattr(errors, entry.get("error", ""), None) or class_of(message)
    if kind is ConfigError:
        return ConfigError(_problems(config) or [Problem(pointer, message)])
    if pointer:
        message = message.removeprefix(f"{pointer}: ")
    if hint:
        message = message.removesuffix(f" (hint: {hint})")
    made: PyociError = kind(message, where=pointer, hint=hint)
    return made


def _problems(config: "Path | None") -> "Sequence[Problem]":
    """Every problem of the config that the runtime has rejected: its log names the first one."""
    if config is None:
        return ()
    from pyoci.client.documents import validate

    try:
        return validate(config)
    except PyociError:  # it was removed meanwhile
        return ()
