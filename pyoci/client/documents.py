"""validate, plan, spec and features: what needs no container, and leaves the host alone."""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pyoci.client.types import CgroupManager, StrPath
from pyoci.compiler import features as features_document
from pyoci.compiler import known_filters, show
from pyoci.compiler.create import compile_container
from pyoci.compiler.facts import Options
from pyoci.config import diagnosis, load, template
from pyoci.config.jsonio import dumps
from pyoci.config.text import printable
from pyoci.criu import installed
from pyoci.errors import Problem
from pyoci.host import facts
from pyoci.host.bundle import read_config
from pyoci.types import Config, Features

if TYPE_CHECKING:
    from pyoci.compiler import operations


def validate(config: Mapping[str, object] | bytes | StrPath) -> list[Problem]:
    """Every problem of a config; an empty list if it is valid.

    Takes a config, its JSON (bytes, or a str that begins with `{`), or the path of a bundle or of a file. A problem has
    `pointer`, `message`, `line` and `column`; line and column are 0 for a mapping. Raises PyociError if the
    file cannot be read, TypeError if the config has a value that JSON lacks.
    """
    from pyoci.client.schema import config_faults

    data, file = _read(config)
    problems = diagnosis.problems(data, config_faults())
    for problem in problems:
        problem.file = file
        if not file:
            problem.line = problem.column = 0
    return problems


class Operation(NamedTuple):
    """One line of a plan.

    `verb` is what happens and `text` to what; `pointer` is the JSON pointer to the reason in the config, or "". The
    container's process does the operations that have a `number`, the runtime the others.
    """

    verb: str
    pointer: str
    text: str
    number: int | None


class Plan:
    """What `create` would do. Iterating yields each Operation in order; str() is the output of `pyoci plan`."""

    def __init__(self, plan: "operations.Plan", warnings: list[str]) -> None:
        self.warnings = warnings
        self._plan = plan

    def __iter__(self) -> Iterator[Operation]:
        for row in show.rows_of(self._plan):
            if not isinstance(row, str):
                number, verb, text, pointer = row
                yield Operation(verb.rpartition(" ")[2], pointer, text, int(number) if number else None)

    def __str__(self) -> str:
        lines = show.text(self._plan).removesuffix("\n").split("\n")
        return "".join(f"{printable(line)}\n" for line in lines)

    def to_json(self) -> str:
        """The output of `pyoci plan --json`."""
        return show.as_json(self._plan)


def plan(
    config: Mapping[str, object] | bytes | StrPath,
    *,
    bundle: StrPath | None = None,
    cgroup_manager: CgroupManager = "cgroupfs",
    preserve_fds: int = 0,
    no_pivot: bool = False,
    no_new_keyring: bool = False,
) -> Plan:
    """What root would do to create a container on this host.

    Takes what `validate` takes. `bundle` is the directory of relative paths; by default that of the file, or the
    current one. The other arguments are options of `pyoci create`. Raises ConfigError, or another PyociError.
    """
    _compile_known_filters()
    data, _ = _read(config)
    configuration, warnings = load(data)
    if bundle is None:
        bundle = _bundle(config)
    options = Options(
        os.path.abspath(bundle),
        "ID",
        preserve_fds=preserve_fds,
        no_pivot=no_pivot,
        new_keyring=not no_new_keyring,
        cgroup_manager=cgroup_manager,
    )
    compiled = compile_container(configuration, facts.probe("/", as_root=True), options)
    return Plan(compiled, [*warnings, *compiled.warnings])


@functools.cache
def _compile_known_filters() -> None:
    """Compile the filters that the executable already has in its image, so that the plan is the executable's."""
    known_filters.compile_known(os.uname().machine)


def spec(*, rootless: bool = False) -> Config:
    """The config that `pyoci spec` writes: a shell on a terminal. With `rootless` it needs no privileges."""
    config = template.default()
    return template.rootless(config, os.geteuid(), os.getegid()) if rootless else config


def features() -> Features:
    """What this version of pyoci supports: the output of `pyoci features`."""
    return features_document.document(checkpoint=installed.is_available())


def _read(config: Mapping[str, object] | bytes | StrPath) -> tuple[bytes, str]:
    """The JSON of a config, and the name of its file: "" if it comes from a mapping."""
    if isinstance(config, Mapping):
        return dumps(dict(config)).encode("utf-8", "surrogateescape"), ""
    if isinstance(config, bytes):
        return config, "config.json"
    path = os.fspath(config)
    if path.lstrip().startswith("{"):
        return path.encode("utf-8", "surrogateescape"), "config.json"
    path = os.path.abspath(path)
    if os.path.isdir(path):
        path = os.path.join(path, "config.json")
    directory, name = os.path.split(path)
    return read_config(directory, name), name


def _bundle(config: Mapping[str, object] | bytes | StrPath) -> StrPath:
    if isinstance(config, Mapping | bytes) or os.fspath(config).lstrip().startswith("{"):
        return os.getcwd()
    return config if os.path.isdir(config) else os.path.dirname(os.path.abspath(config))
