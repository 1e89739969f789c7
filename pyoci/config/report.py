"""The full report on a config.json, for `pyoci validate`.

This module interprets the schemas of specs/; `create` runs the code that tools/gen_validator.py compiles from them.
These are two engines, so that `create` and `validate` can't share a mistake. The tests compare both with jsonschema.
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
    """Every problem of the config.json (or process.json) in `data`, the content of `file`, in the order of the text."""
    find_faults = schema_faults("process.schema.json" if process else "config.schema.json")
    problems = diagnosis.problems(data, find_faults, process=process)
    for problem in problems:
        problem.file = file
    return problems


class schema_faults:  # noqa: N801
    """A function that applies a schema to a document and yields the faults, in the order of the schema."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, document: "Any") -> "Iterator[diagnosis.Fault]":
        return _faults(SCHEMAS[self.name], self.name, document, "")


def _faults(schema: "Schema", file: str, value: "Any", where: str) -> "Iterator[diagnosis.Fault]":
    """The faults of `value`, which stands at the JSON pointer `where`, by a schema of the schema file `file`.

    A value has one fault of its own at most; an object has one more for each property that is missing.
    """
    wrong = False
    for keyword, asked in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword == "$ref":
            target, referred = _resolve(asked, file)
            yield from _faults(target, referred, value, where)
        elif keyword in _MEMBERS:
            for token, member, inner in _MEMBERS[keyword](schema, value):
                yield from _faults(inner, file, member, f"{where}/{escape(token)}")
        elif keyword == "required":
            if isinstance(value, dict):
                yield from [(where, (name,), value) for name in asked if name not in value]
        elif not wrong and not _CHECKS[keyword](value, asked):
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


def _properties(schema: "Schema", value: "Any") -> "Iterator[tuple[str, Any, Schema]]":
    if isinstance(value, dict):
        yield from [(name, value[name], inner) for name, inner in schema["properties"].items() if name in value]


def _additional(schema: "Schema", value: "Any") -> "Iterator[tuple[str, Any, Schema]]":
    if isinstance(value, dict):
        known, inner = schema.get("properties", {}), schema["additionalProperties"]
        yield from ((name, member, inner) for name, member in value.items() if name not in known)


def _items(schema: "Schema", value: "Any") -> "Iterator[tuple[str, Any, Schema]]":
    if isinstance(value, list):
        yield from ((str(index), item, schema["items"]) for index, item in enumerate(value))


_MEMBERS = {"properties": _properties, "additionalProperties": _additional, "items": _items}


# --- keywords that ask something of the value itself; those of another type ask nothing


_TYPES = {"string": str, "boolean": bool, "array": list, "object": dict}


def _type(value: "Any", asked: str) -> bool:
    if asked == "integer":  # 1.0 is a float, and no integer
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, _TYPES[asked])


def _is_number(value: "Any") -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pattern(value: "Any", asked: str) -> bool:
    if not isinstance(value, str):
        return True
    # a final $ is the end of the string, as in ECMA-262; Python's also matches before a final newline
    anchored = f"{asked[:-1]}\\Z" if asked.endswith("$") else asked
    return re.search(anchored, value) is not None


_CHECKS: "dict[str, Callable[[Any, Any], bool]]" = {
    "type": _type,
    "enum": lambda value, asked: value in asked,
    "pattern": _pattern,
    "minimum": lambda value, asked: not _is_number(value) or value >= asked,
    "maximum": lambda value, asked: not _is_number(value) or value <= asked,
    "minItems": lambda value, asked: not isinstance(value, list) or len(value) >= asked,
}
