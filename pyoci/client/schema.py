"""The schemas of specs/, applied by the library jsonschema.

Its faults, with the checks of pyoci.config, make the same report as `pyoci validate`, which brings its own interpreter
of the schemas (config/report.py) because the executable has no libraries.
"""

import functools
import re
from collections.abc import Iterator

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from pyoci.config._schemas import SCHEMAS
from pyoci.config.messages import expected
from pyoci.pointer import join


class JsonschemaFaults:
    """A function that applies one schema file to a document and returns the faults, as `diagnosis` takes them."""

    def __init__(self, name: str) -> None:
        # With a $schema, jsonschema would follow references into its own dialect.
        schemas = {
            identifier: {key: value for key, value in schema.items() if key != "$schema"}
            for identifier, schema in SCHEMAS.items()
        }
        registry = Registry().with_resources(
            (identifier, Resource.from_contents(schema, default_specification=DRAFT202012))
            for identifier, schema in schemas.items()
        )
        self._validator = _dialect()(schemas[name], registry=registry)

    def __call__(self, document: object) -> "list[tuple[str, str | tuple[str], object]]":
        faults: dict[tuple[str, str], tuple[str, str | tuple[str], object]] = {}
        for error in self._validator.iter_errors(document):
            where = join(map(str, error.absolute_path))
            if error.validator == "required":
                for name in error.validator_value:
                    if name not in error.instance:
                        faults[where, name] = (where, (name,), error.instance)
            else:
                faults[where, ""] = (where, expected(error.schema), error.instance)
        return list(faults.values())


@functools.cache
def config_faults() -> JsonschemaFaults:
    """The faults of a config.json. Compiling the schema takes longer than applying it."""
    return JsonschemaFaults("config.schema.json")


def _dialect() -> "type[jsonschema.protocols.Validator]":
    """Draft 2020-12 that rejects 1.0 as an integer, and anchored patterns mean what ECMA-262 says."""
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    dialect: type[jsonschema.protocols.Validator] = jsonschema.validators.extend(
        jsonschema.Draft202012Validator, validators={"pattern": _pattern}, type_checker=types
    )
    return dialect


def _pattern(_: object, pattern: str, value: object, __: object) -> "Iterator[jsonschema.ValidationError]":
    # In Python, $ also matches before a final newline.
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")
