"""The words of problems: what the schema expects, and what the document has instead."""

from pyoci.config.text import Real, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SHOWN = 60  # characters of a string that a message repeats

_TYPES = {
    "string": "a string",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "integer": "an integer",
}


def expected(schema: "dict[str, Any]") -> str:
    """What `schema`, which has no `$ref`, expects of a value: `an integer from 0 to 65535`."""
    if "enum" in schema:
        return alternatives(schema["enum"])
    if "pattern" in schema:
        title: str = schema["title"]
        return title
    if schema["type"] == "integer" and "minimum" in schema:
        if "maximum" in schema:
            return f"an integer from {schema['minimum']} to {schema['maximum']}"
        return f"an integer of at least {schema['minimum']}"
    if schema["type"] == "array" and "minItems" in schema:
        return "an array of at least one entry"
    return _TYPES[schema["type"]]


def alternatives(values: "list[str] | tuple[str, ...]") -> str:
    """`values` as in `"a", "b" or "c"`."""
    shown = [f'"{value}"' for value in values]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def missing(name: str) -> str:
    """The message for an object that lacks a required property."""
    return f'missing the required property "{name}"'


def mismatch(expectation: str, value: object) -> str:
    """The message for a value that differs from what the specification expects."""
    return f"expected {expectation}, found {found(value)}"


def found(value: object) -> str:
    """The value with its kind, as in `the string "root"`. A long string is shortened."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {show(value)}" if value else "an empty string"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    return value.text if isinstance(value, Real) else str(value)


def show(text: str) -> str:
    """`text` in quotes, shortened if it is long, with every character escaped that a terminal would act on."""
    shown = quote(text[:MAX_SHOWN])
    return shown if len(text) <= MAX_SHOWN else f'{shown[:-1]}…"'
