"""The full report on a config.json, for `pyoci validate`.

This module interprets the schemas of specs/; `create` runs the code that tools/gen_validator.py compiles from them.
`create` and `validate` use different engines so that they can't share a mistake. The tests compare both with
jsonschema.
"""

import re

from pyoci.config import diagnosis
from pyoci.config._schemas import SCHEMAS
from pyoci.config.messages import expected
from pyoci.errors import Problem
from pyoci.pointer import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Schema = dict[str, Any]

ANNOTATIONS = frozenset(("$schema", "$id", "$defs", "title", "description"))


def report(data: bytes, file: str = "config.json", *, process: bool = False) -> list[Problem]:
    """Every problem of the config.json (or process.json) in `data`, in the order of the text. `file` is its name."""
    find_faults = SchemaFaults("process.schema.json" if process else "config.schema.json")
    problems = diagnosis.problems(data, find_faults, process=process)
    for problem in problems:
        problem.file = file
    return problems


class SchemaFaults:
    """A function that applies the schema `name` to a document and yields the faults, in the order of the schema."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, document: object) -> "Iterator[diagnosis.Fault]":
        return _faults(SCHEMAS[self.name], self.name, document, "")


def _faults(schema: "Schema", file: str, value: object, where: str) -> "Iterator[diagnosis.Fault]":
    """The faults of `value`, at the JSON pointer `where`, by a schema of the schema file `file`.

    A value has at most one fault itself; an object has one more for each missing property.
    """
    wrong = False
    for keyword, argument in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword == "$ref":
            target, referred = _resolve(argument, file)
            yield from _faults(target, referred, value, where)
        elif keyword in _MEMBERS:
            for token, member, inner in _MEMBERS[keyword](schema, value):
                yield from _faults(inner, file, member, f"{where}/{escape(token)}")
        elif keyword == "required":
            if isinstance(value, dict):
                yield from [(where, (name,), value) for name in argument if name not in value]
        elif not wrong and not _CHECKS[keyword](value, argument):
            wrong = True
            yield where, expected(schema), value


def _resolve(reference: str, file: str) -> "tuple[Schema, str]":
    """The schema that `reference` names, and its file."""
    name, _, path = reference.partition("#")
    file = name or file
    schema: Schema = SCHEMAS[file]
    for token in path.split("/")[1:]:
        schema = schema[token]
    return schema, file


# --- keywords that lead to members: (reference token, member, its schema)


def _properties(schema: "Schema", value: object) -> "Iterator[tuple[str, object, Schema]]":
    if isinstance(value, dict):
        yield from [(name, value[name], inner) for name, inner in schema["properties"].items() if name in value]


def _additional(schema: "Schema", value: object) -> "Iterator[tuple[str, object, Schema]]":
    if isinstance(value, dict):
        known, inner = schema.get("properties", {}), schema["additionalProperties"]
        yield from ((name, member, inner) for name, member in value.items() if name not in known)


def _items(schema: "Schema", value: object) -> "Iterator[tuple[str, object, Schema]]":
    if isinstance(value, list):
        yield from ((str(index), item, schema["items"]) for index, item in enumerate(value))


_MEMBERS = {"properties": _properties, "additionalProperties": _additional, "items": _items}


# --- keywords that constrain the value itself; they accept every value of another type


_TYPES = {"string": str, "boolean": bool, "array": list, "object": dict}


def _type(value: object, name: str) -> bool:
    if name == "integer":  # 1.0 is a float, and not an integer
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, _TYPES[name])


def _pattern(value: object, pattern: str) -> bool:
    if not isinstance(value, str):
        return True
    # a final $ is the end of the string, as in ECMA-262; Python's also matches before a final newline
    anchored = f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern
    return re.search(anchored, value) is not None


def _is_number(value: "Any") -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: "dict[str, Callable[[Any, Any], bool]]" = {
    "type": _type,
    "enum": lambda value, values: value in values,
    "pattern": _pattern,
    "minimum": lambda value, least: not _is_number(value) or value >= least,
    "maximum": lambda value, most: not _is_number(value) or value <= most,
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
}
