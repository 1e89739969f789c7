"""What a runtime, or the probe in its container, has written: where it is not what it should be, the runtime is
at fault.
"""

import json
from typing import Any, NoReturn


class Failure(Exception):
    """The runtime breaks a requirement: how, in a sentence."""


class Late(Failure):
    """A command of the runtime does not end."""


class Output(dict[str, Any]):
    """An object of a runtime's JSON, or of the probe's: what is missing in it is a Failure."""

    def __missing__(self, key: str) -> NoReturn:
        raise Failure(f"there is no {key!r} in {json.dumps(self)[:300]}")


def parse(text: "str | bytes", what: str) -> Any:
    """JSON, its objects as `Output`; Failure if it is invalid."""
    try:
        return json.loads(text, object_hook=Output)
    except (ValueError, RecursionError):
        raise Failure(f"{what} is not JSON but {text[:300]!r}") from None


def parse_object(text: "str | bytes", what: str) -> Output:
    """One JSON object; Failure if it is something else."""
    found = parse(text, what)
    if not isinstance(found, Output):
        raise Failure(f"{what} is not an object but {text[:300]!r}")
    return found


def parse_lines(lines: "list[str]", what: str) -> "list[dict[str, Any]]":
    """Lines of the probe, an object each."""
    return [parse_object(line, what) for line in lines]
