"""The schemas of specs/ applied by the library `jsonschema`: the oracle for our own two engines."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from pyoci.config._schemas import SCHEMAS
from pyoci.config.messages import expected
from pyoci.pointer import escape


class jsonschema_faults:  # noqa: N801
    """A function that applies a schema to a document and returns the faults."""

    def __init__(self, name: str) -> None:
        # with a $schema, jsonschema would follow references into its own dialect instead of this one
        schemas = {
            identifier: {key: value for key, value in schema.items() if key != "$schema"}
            for identifier, schema in SCHEMAS.items()
        }
        registry: Registry[Any] = Registry().with_resources(
            (identifier, Resource.from_contents(schema, default_specification=DRAFT202012))
            for identifier, schema in schemas.items()
        )
        self.validator = _dialect()(schemas[name], registry=registry)

    def __call__(self, document: Any) -> list[Any]:
        faults: dict[tuple[str, Any], Any] = {}
        for error in self.validator.iter_errors(document):
            where = "".join([f"/{escape(str(token))}" for token in error.absolute_path])
            if error.validator == "required":
                for name in error.validator_value:
                    if name not in error.instance:
                        faults[where, (name,)] = (where, (name,), error.instance)
            else:
                faults[where, None] = (where, expected(error.schema), error.instance)
        return list(faults.values())


def _dialect() -> Any:
    """Draft 2020-12 in which 1.0 is not an integer, and anchored patterns follow ECMA-262."""
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return jsonschema.validators.extend(
        jsonschema.Draft202012Validator, validators={"pattern": _pattern}, type_checker=types
    )


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    # in Python, $ also matches before a final newline
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")
