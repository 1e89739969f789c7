"""pyoci/types.py, generated from specs/: the same properties, required in the same places."""

import runpy
import types as python_types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci import types
from pyoci.config._schemas import SCHEMAS

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(ROOT / "tools" / "gen_types.py"))
PYTHON_TYPES = {"string": str, "boolean": bool, "integer": int}


def test_generated_types_are_up_to_date() -> None:
    """The module is what tools/gen_types.py makes of specs/."""
    assert GENERATOR["generate"]() == (ROOT / "pyoci/types.py").read_text(), "run tools/gen_types.py"


def resolve(schema: dict[str, Any], file: str) -> tuple[dict[str, Any], str]:
    """`schema` without a reference, and the file that it is in."""
    while "$ref" in schema:
        name, _, path = schema["$ref"].partition("#")
        file = name or file
        schema = SCHEMAS[file]
        for token in path.split("/")[1:]:
            schema = schema[token]
    return schema, file


def differences(schema: dict[str, Any], file: str, kind: Any, where: str) -> Iterator[str]:
    """Where the type `kind` is not what the schema says."""
    schema, file = resolve(schema, file)
    arguments = typing.get_args(kind)
    if typing.is_typeddict(kind):
        yield from object_differences(schema, file, kind, where)
    elif typing.get_origin(kind) is list:
        yield from differences(schema["items"], file, arguments[0], f"{where}/0")
    elif typing.get_origin(kind) is dict and arguments[1] is not object:
        yield from differences(schema["additionalProperties"], file, arguments[1], f"{where}/*")
    elif typing.get_origin(kind) is typing.Literal:
        if list(arguments) != schema["enum"]:
            yield f"{where}: {arguments} is not {schema['enum']}"
    elif arguments[1:] == (object,):
        if schema["type"] != "object":
            yield f"{where}: an object is not {schema['type']}"
    elif PYTHON_TYPES[schema["type"]] is not kind:
        yield f"{where}: {kind} is not {schema['type']}"


def object_differences(schema: dict[str, Any], file: str, kind: Any, where: str) -> Iterator[str]:
    """Where a TypedDict differs from the schema of an object."""
    if kind.__required_keys__ != set(schema.get("required", ())):
        yield f"{where}: required are {sorted(kind.__required_keys__)}"
    members = typing.get_type_hints(kind)
    if members.keys() != schema["properties"].keys():
        yield f"{where}: the members are {sorted(members)}"
    for name in members.keys() & schema["properties"].keys():
        yield from differences(schema["properties"][name], file, members[name], f"{where}/{name}")


@pytest.mark.parametrize("name", ["config", "process", "state", "features"])
def test_types_have_the_members_of_the_schema(name: str) -> None:
    """Every property at any depth, with its type, its values and whether it is required."""
    file = f"{name}.schema.json"

    assert [] == list(differences(SCHEMAS[file], file, getattr(types, name.capitalize()), name))


def test_a_missing_member_is_found() -> None:
    """The comparison can fail."""
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}
    empty = typing.TypedDict("empty", {})  # noqa: UP013

    assert ["x: required are []", "x: the members are []"] == list(differences(schema, "", empty, "x"))


def test_all_names_are_exported() -> None:
    """`from pyoci.types import *` gives every type, and nothing else."""
    defined = {
        name
        for name, value in vars(types).items()
        if not name.startswith("_") and not isinstance(value, python_types.ModuleType)
    }

    assert defined - {"Literal", "Required", "TypedDict"} == set(types.__all__)
