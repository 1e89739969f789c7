"""From the bytes of config.json to a config that can be run: strict JSON, the schema, and the specification's prose.

Pure: reads no file, changes nothing. The hot path stops at the first fault. Then `diagnosis` reads the document again,
with care, and finds all its faults.
"""

from pyoci.config.jsonio import JsonError, loads
from pyoci.errors import ConfigError, Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pyoci.config import diagnosis
    from pyoci.types import Config, Process, Resources

    # A function of the generated validator: (document, its JSON pointer, what to call for a fault)
    Validate = Callable[[object, str, Callable[..., object]], None]

__all__ = ["load", "load_process", "load_resources", "resource_problems"]


def load(data: bytes, file: str = "config.json") -> "tuple[Config, list[str]]":
    """Return the config in `data`, and warnings about it. `file` is the name of its file, for messages.

    - It lacks the members whose value is null.
    - The `fileMode` of every device is reduced to its permission bits: engines send the type of the file, too.
    - A recursive `rootfsPropagation`, such as `rslave`, which engines send, loses its `r`: it applies to the root
      mount, and the container's other mounts have their own.

    Raises ConfigError with every problem, each with its JSON pointer, line and column.
    """
    from pyoci.config import _validator, checks  # here, because most commands need only `jsonio` of this package

    config: Config = _read(data, _validator.check_config, file, process=False)
    linux = config.get("linux", {})
    for device in linux.get("devices", ()):
        if "fileMode" in device:
            device["fileMode"] &= checks.PERMISSIONS
    if "rootfsPropagation" in linux:
        linux["rootfsPropagation"] = linux["rootfsPropagation"].removeprefix("r")  # type: ignore[typeddict-item]
    return config, checks.unknown_capabilities(config.get("process"), "/process")


def load_process(data: bytes, file: str = "process.json") -> "tuple[Process, list[str]]":
    """Return the process in `data`, which `exec --process` takes, and warnings about it. Raises as `load` does."""
    from pyoci.config import _validator, checks

    process: Process = _read(data, _validator.check_process, file, process=True)
    return process, checks.unknown_capabilities(process, "")


def load_resources(data: bytes) -> "Resources":
    """Return the `linux.resources` in `data`, which `update` takes. Raises ConfigError with every problem, unplaced."""
    try:
        resources = loads(data)
    except JsonError as error:
        for problem in error.problems:
            problem.file = ""
        raise ConfigError(error.problems) from error
    if resources is None:
        raise ConfigError([Problem("", "expected an object, found null")])
    if problems := resource_problems(resources):
        raise ConfigError(problems)
    checked: Resources = resources
    return checked


def resource_problems(resources: object) -> list[Problem]:
    """Return the problems of a `linux.resources` of `update`, from a document or from options, without their places."""
    from pyoci.config import _validator, diagnosis

    whole = {"ociVersion": "1.0.0", "linux": {"resources": _with_memory_limit(resources)}}
    return diagnosis.problems_below(whole, _fault_finder(_validator.check_config), "/linux/resources")


def _with_memory_limit(resources: "Any") -> "Any":
    """`resources` with a memory limit, if they only limit memory plus swap: `update` completes those later."""
    memory = resources.get("memory") if type(resources) is dict else None
    if type(memory) is not dict or memory.get("limit") or type(swap := memory.get("swap")) is not int or swap < -1:
        return resources
    return {**resources, "memory": {**memory, "limit": memory["swap"]}}


def _read(data: bytes, validate: "Validate", file: str, *, process: bool) -> "Any":
    """Return the checked document in `data`. Raises ConfigError with every problem."""
    one_line = False
    try:
        return _accept(data, validate, process=process)
    except JsonError as error:
        fallback = error.problems
    except _Rejected as rejected:
        fallback = [Problem(str(rejected), "the value is not valid")]
        # Engines write the document on one line, where a pointer helps to find a value and a column does not.
        one_line = b"\n" not in data.rstrip()
    # outside the except clauses, so that nothing holds the document any longer: it may be large
    problems = _diagnose(data, validate, process=process) or fallback
    for problem in problems:
        problem.file = "" if one_line and problem.where else file
    raise ConfigError(problems)


def _accept(data: bytes, validate: "Validate", *, process: bool) -> "Any":
    """Return the document in `data`. Raises JsonError or _Rejected at the first fault."""
    from pyoci.config import checks

    document = loads(data)
    validate(document, "", _reject)
    checks.run(document, _reject, process=process)
    return document


class _Rejected(Exception):
    """The document has a fault; the argument is its JSON pointer."""


def _reject(where: str, *_: object) -> "NoReturn":
    raise _Rejected(where)


def _diagnose(data: bytes, validate: "Validate", *, process: bool) -> list[Problem]:
    from pyoci.config import diagnosis

    return diagnosis.problems(data, _fault_finder(validate), process=process)


def _fault_finder(validate: "Validate") -> "diagnosis.FindFaults":
    """A function that returns what the generated validator finds wrong with a document, up to the limit."""
    from pyoci.config import diagnosis, reader

    def find_faults(document: object) -> "list[diagnosis.Fault]":
        faults: list[diagnosis.Fault] = []

        def keep(where: str, expectation: "str | tuple[str]", value: object) -> None:
            faults.append((where, expectation, value))
            if len(faults) >= reader.MAX_PROBLEMS:
                raise diagnosis.TooManyProblems

        try:
            validate(document, "", keep)
        except diagnosis.TooManyProblems:
            pass
        return faults

    return find_faults
