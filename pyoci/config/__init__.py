"""From the bytes of config.json to a config that can be run: strict JSON, the schema, and the prose.

Pure: reads nothing, changes nothing. The hot path stops at the first fault; what is said about a document
with faults comes from `diagnosis`, which reads it again with care.
"""

from pyoci.config.jsonio import JsonError, loads
from pyoci.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pyoci.config import diagnosis

    Check = Callable[[Any, str, Callable[..., object]], None]  # a function of the generated validator

__all__ = ["load", "load_process", "load_resources", "resource_problems"]


def load(data: bytes, file: str = "config.json") -> "tuple[dict[str, Any], list[str]]":
    """The config in `data`, the content of config.json or another `file`, and warnings about it.

    Members whose value is null are gone. Two things that engines send are turned into what the specification
    has: every `fileMode` of a device is reduced to its permission bits, and a recursive `rootfsPropagation`
    (`rslave`) loses its `r`, since the container's other mounts have their own. Raises ConfigError with every
    problem, each with its JSON pointer, line and column.
    """
    from pyoci.config import _validator, checks  # here, since most commands need only `jsonio` of this package

    config = _read(data, _validator.check_config, file, process=False)
    linux = config.get("linux", {})
    for device in linux.get("devices", ()):
        if "fileMode" in device:
            device["fileMode"] &= checks.PERMISSIONS
    if "rootfsPropagation" in linux:
        linux["rootfsPropagation"] = linux["rootfsPropagation"].removeprefix("r")
    return config, checks.unknown_capabilities(config.get("process", {}), "/process")


def load_process(data: bytes, file: str = "process.json") -> "tuple[dict[str, Any], list[str]]":
    """The process in `data`, the content of a process.json for exec, and warnings about it.

    It is the `process` of a config.json by itself; errors as for `load`.
    """
    from pyoci.config import _validator, checks

    process = _read(data, _validator.check_process, file, process=True)
    return process, checks.unknown_capabilities(process, "")


def load_resources(data: bytes) -> "dict[str, Any]":
    """The `linux.resources` in `data`, as `update` gets it; errors as for `load`, without their places."""
    try:
        resources: dict[str, Any] = loads(data)
    except JsonError as error:
        for problem in error.problems:
            problem.file = ""
        raise ConfigError(error.problems) from error
    if resources is None:
        raise ConfigError([Problem("", "expected an object, found null")])
    if problems := resource_problems(resources):
        raise ConfigError(problems)
    return resources


def resource_problems(resources: "Any") -> list[Problem]:
    """Return the problems of a `linux.resources` of `update`, from a document or from options, without their places."""
    from pyoci.config import _validator, diagnosis

    whole = {"ociVersion": "1.0.0", "linux": {"resources": _beside_a_limit(resources)}}
    return diagnosis.problems_below(whole, _faults(_validator.check_config), "/linux/resources")


def _beside_a_limit(resources: "Any") -> "Any":
    """`resources` with a limit of memory, where one of memory plus swap stands alone: that is completed later."""
    memory = resources.get("memory") if type(resources) is dict else None
    if type(memory) is not dict or memory.get("limit") or type(swap := memory.get("swap")) is not int or swap < -1:
        return resources
    return {**resources, "memory": {**memory, "limit": memory["swap"]}}


def _read(data: bytes, check_schema: "Check", file: str, *, process: bool) -> "dict[str, Any]":
    pointed = False
    try:
        return _accept(data, check_schema, process=process)
    except JsonError as error:
        fallback = error.problems
    except _Refused as refused:
        fallback = [Problem(str(refused), "the value is not valid")]
        # on a single line, as engines write it: the pointer says where the value is, and a column does not
        pointed = b"\n" not in data.rstrip()
    # outside the except clauses, so that nothing holds the document any more: it may be large
    problems = _explain(data, check_schema, process=process) or fallback
    for problem in problems:
        problem.file = "" if pointed and problem.where else file
    raise ConfigError(problems)


def _accept(data: bytes, check_schema: "Check", *, process: bool) -> "dict[str, Any]":
    from pyoci.config import checks

    document: dict[str, Any] = loads(data)
    check_schema(document, "", _refuse)
    checks.run(document, _refuse, process=process)
    return document


class _Refused(Exception):
    """The document has a fault."""


def _refuse(where: str, *_: "Any") -> "NoReturn":
    raise _Refused(where)


def _explain(data: bytes, check_schema: "Check", *, process: bool) -> list[Problem]:
    from pyoci.config import diagnosis

    return diagnosis.problems(data, _faults(check_schema), process=process)


def _faults(check_schema: "Check") -> "Callable[[Any], list[diagnosis.Fault]]":
    """What the schema finds in a document, as a list."""
    from pyoci.config import diagnosis

    def find_faults(document: "Any") -> "list[diagnosis.Fault]":
        faults = diagnosis.Some()
        try:
            check_schema(document, "", faults.add)
        except diagnosis.Enough:
            pass
        return faults.items

    return find_faults
