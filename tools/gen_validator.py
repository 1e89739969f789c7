"""Compile the JSON Schemas in specs/ into Python: `python tools/gen_validator.py`.

Writes three modules into pyoci/config/, which are built, not kept:

_validator.py   plain code that checks a config.json or process.json and finds every problem. It is for the hot path, so
                it imports one function (docs/decisions/0003-generated-validator.md).
_platforms.py   the same for the sections of other platforms. Loaded when a config has one.
_schemas.py     the schemas themselves, for the full report of `pyoci validate`

The compiler knows the part of JSON Schema that specs/ uses, and rejects any other keyword.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
SPECS = TOP / "specs"
PACKAGE = TOP / "pyoci" / "config"

NAMES = ("config", "process", "state", "features")
PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")

ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description"}
KNOWN = ANNOTATIONS | {
    *("$ref", "type", "properties", "required", "additionalProperties", "items", "minItems"),
    *("enum", "pattern", "minimum", "maximum"),
}
TYPES = {"string": "str", "boolean": "bool", "integer": "int", "array": "list", "object": "dict"}

# what most arrays are: of strings, or of objects which a function checks
HELPERS = """\
def _strings(v, at, bad):
    if type(v) is not list:
        return bad(at, "an array", v)
    for i, x in enumerate(v):
        if type(x) is not str:
            bad(f"{at}/{i}", "a string", x)


def _each(v, at, bad, check):
    if type(v) is not list:
        return bad(at, "an array", v)
    for i, x in enumerate(v):
        check(x, f"{at}/{i}", bad)"""

Schema = dict[str, Any]


def _load_words() -> Any:
    """Import the words for what a schema expects from the package, which may not be built yet."""
    if str(TOP) not in sys.path:
        sys.path.insert(0, str(TOP))
    return importlib.import_module("pyoci.config.messages")


words = _load_words()


def load_schemas() -> dict[str, Schema]:
    """The schemas of specs/ by their `$id`."""
    documents = [json.loads((SPECS / f"{name}.schema.json").read_text("utf-8")) for name in NAMES]
    return {document["$id"]: document for document in documents}


class Compiler:
    """Compiles schemas to functions `name(value, at, bad)`.

    `at` is the JSON pointer of `value`, and `bad(pointer, expectation, value)` takes a problem; for a missing
    property, `bad(pointer, (name,), value)`.
    """

    def __init__(self, schemas: dict[str, Schema], *, elsewhere: tuple[str, ...] = ()) -> None:
        self.schemas = schemas
        self.elsewhere = elsewhere
        self.functions: dict[str, list[str]] = {}
        self.constants: dict[str, str] = {}
        self.file = ""

    def module(self, docstring: str) -> str:
        constants = [f"{name} = {text!r}" for text, name in self.constants.items()]
        functions = ["\n".join(lines) for lines in self.functions.values()]
        return (
            "\n\n\n".join(
                [
                    f'"""{docstring}"""\n\n# ruff: noqa\n\nfrom pyoci.pointer import escape\n\n' + "\n".join(constants),
                    HELPERS,
                    *functions,
                ]
            )
            + "\n"
        )

    def entry(self, name: str, file: str, schema: Schema) -> None:
        self.file = file
        self.function(name, schema)

    def resolve(self, schema: Schema) -> tuple[str, str, Schema]:
        """The file, the name and the content of the schema that `schema` refers to."""
        file, _, path = schema["$ref"].partition("#")
        file = file or self.file
        node = self.schemas[file]
        for token in path.split("/")[1:]:
            node = node[token]
        name = path.rpartition("/")[2] or file.partition(".")[0]
        return file, name, node

    def phrase(self, schema: Schema) -> str:
        """The name of the constant with the expectation of `schema`, in words."""
        text = words.expected(schema)
        if text not in self.constants:
            self.constants[text] = f"_X{len(self.constants)}"
        return self.constants[text]

    def function(self, name: str, schema: Schema) -> None:
        """Compile an object's schema into the function `name`."""
        lines = [f"def {name}(v, at, bad):"]
        self.functions[name] = lines
        lines.append("    if type(v) is not dict:")
        lines.append(f"        return bad(at, {self.phrase({'type': 'object'})}, v)")
        properties = {key: sub for key, sub in schema.get("properties", {}).items() if sub}
        required = schema.get("required", [])
        if properties:
            lines.append("    get = v.get")
        for key, sub in properties.items():
            lines.append(f"    x = get({key!r})")
            body = self.check(sub, "x", f"at + {'/' + key!r}", f"{name}_{key}")
            if key in required:
                lines.append("    if x is None:")
                lines.append(f"        bad(at, ({key!r},), v)")
                if len(body) == 2 and body[0].startswith("if "):
                    lines += ["    el" + body[0], "    " + body[1]]
                else:
                    lines.append("    else:")
                    lines.extend("        " + line for line in body)
            elif len(body) == 2 and body[0].startswith("if "):
                condition = body[0].removeprefix("if ").removesuffix(":")
                lines.append(f"    if x is not None and ({condition}):")
                lines.append("    " + body[1])
            else:
                lines.append("    if x is not None:")
                lines.extend("        " + line for line in body)
        if "additionalProperties" in schema:
            lines.append("    for k, x in v.items():")
            # the only other property is the empty name, whose value may be anything
            lines.append("        if k:" if "properties" in schema else "        if True:")
            body = self.check(schema["additionalProperties"], "x", "at + '/' + escape(k)", f"{name}_any")
            lines.extend("            " + line for line in body)

    def check(self, schema: Schema, x: str, at: str, name: str) -> list[str]:
        """Statements that check the value `x`. `at` is an expression for its pointer, `name` names a new function."""
        unknown = set(schema) - KNOWN
        if unknown:
            raise ValueError(f"cannot compile the keywords {sorted(unknown)} of {name}")
        if "$ref" in schema:
            if not set(schema) - {"$ref"} <= ANNOTATIONS:
                raise ValueError(f"cannot compile keywords beside $ref in {name}")
            file, target, content = self.resolve(schema)
            if content["type"] != "object":
                return self.inside(file, content, x, at, target)
            if target in self.elsewhere:
                return ["from pyoci.config import _platforms", f"_platforms.{target}({x}, {at}, bad)"]
            function = "check_process" if target == "process" else f"_{target}"
            if function not in self.functions:
                before, self.file = self.file, file
                self.function(function, content)
                self.file = before
            return [f"{function}({x}, {at}, bad)"]
        kind = schema["type"]
        if kind == "object":
            if not schema.get("properties") and "additionalProperties" not in schema:
                return self.scalar(schema, x, at, "")
            function = name if name.startswith("_") else f"_{name}"
            if function in self.functions:
                raise ValueError(f"two objects are called {function}")
            self.function(function, schema)
            return [f"{function}({x}, {at}, bad)"]
        if kind == "array":
            return self.array(schema, x, at, name)
        if "enum" in schema:
            return self.scalar(schema, x, at, f"{x} not in {{{', '.join(map(repr, schema['enum']))}}}")
        if "pattern" in schema:
            return self.scalar(schema, x, at, f"not ({pattern(schema['pattern'], x)})")
        if "maximum" in schema:
            return self.scalar(schema, x, at, f"not {schema['minimum']} <= {x} <= {schema['maximum']}")
        if "minimum" in schema:
            return self.scalar(schema, x, at, f"{x} < {schema['minimum']}")
        return self.scalar(schema, x, at, "")

    def inside(self, file: str, schema: Schema, x: str, at: str, name: str) -> list[str]:
        """`check` for a schema of another file."""
        before, self.file = self.file, file
        body = self.check(schema, x, at, name)
        self.file = before
        return body

    def scalar(self, schema: Schema, x: str, at: str, wrong: str) -> list[str]:
        condition = f"type({x}) is not {TYPES[schema['type']]}" + (f" or {wrong}" if wrong else "")
        return [f"if {condition}:", f"    bad({at}, {self.phrase(schema)}, {x})"]

    def array(self, schema: Schema, x: str, at: str, name: str) -> list[str]:
        wrong = f" or not {x}" if schema.get("minItems") else ""
        if schema["items"] == {"type": "string"} and not wrong:
            return [f"_strings({x}, {at}, bad)"]
        within = at.removeprefix("at + '/").removesuffix("'")
        body = self.check(schema["items"], "y", f"f'{{at}}/{within}/{{i}}'", name)
        if len(body) == 1 and not wrong:
            return [f"_each({x}, {at}, bad, {body[0].partition('(')[0]})"]
        return [
            f"if type({x}) is not list{wrong}:",
            f"    bad({at}, {self.phrase(schema)}, {x})",
            "else:",
            f"    for i, y in enumerate({x}):",
            *("        " + line for line in body),
        ]


def pattern(source: str, x: str) -> str:
    """An expression that is true when the string `x` matches the anchored ECMA-262 pattern `source`.

    The pattern is a sequence of characters and character classes, one of which may repeat (`*` or `+`).
    Plain string methods decide, so nothing can hang on `$`, which in Python's `re` also matches before a
    final newline, or on what `re` takes for a digit.
    """
    if not (source.startswith("^") and source.endswith("$")):
        raise ValueError(f"cannot compile the pattern {source}: not anchored")
    items = _items(source[1:-1])
    loops = [index for index, (_, _, repeat) in enumerate(items) if repeat]
    if len(loops) > 1:
        raise ValueError(f"cannot compile the pattern {source}: two repetitions")
    if not loops:
        head, tail, loop = items, [], None
    else:
        head, tail, loop = items[: loops[0]], items[loops[0] + 1 :], items[loops[0]]
    fixed = len(head) + len(tail)
    if loop is None:
        terms = [f"len({x}) == {fixed}"]
    else:
        least = fixed + (loop[2] == "+")
        terms = [f"len({x}) >= {least}"] if least else []
    prefix = ""
    while head and not head[0][1] and len(head[0][0]) == 1:
        prefix += head.pop(0)[0]
    if prefix:
        terms.append(f"{x}[:{len(prefix)}] == {prefix!r}")
    places = [(len(prefix) + i, item) for i, item in enumerate(head)] + [
        (i - len(tail), item) for i, item in enumerate(tail)
    ]
    terms += [f"{x}[{place}] {'not in' if negated else 'in'} {chars!r}" for place, (chars, negated, _) in places]
    if loop:
        start, stop = len(prefix) + len(head), -len(tail) if tail else ""
        middle = f"{x}[{start}:{stop}]" if start or tail else x
        chars, negated, _ = loop
        if negated:
            terms += [f"{char!r} not in {middle}" for char in chars]
        else:
            terms.append(f"not {middle}.strip({chars!r})")
    return " and ".join(terms)


def _items(source: str) -> list[tuple[str, bool, str]]:
    """The items of a pattern: its characters, whether it excludes them, and its repetition."""
    items, at = [], 0
    while at < len(source):
        negated = False
        if source[at] == "[":
            end = source.index("]", at)
            body, at = source[at + 1 : end], end + 1
            negated = body.startswith("^")
            chars = _class(body.removeprefix("^"))
        elif source[at] in "\\.(){}|?*+":
            raise ValueError(f"cannot compile the pattern {source}: {source[at]}")
        else:
            chars, at = source[at], at + 1
        repeat = source[at : at + 1] if source[at : at + 1] in ("*", "+") else ""
        at += len(repeat)
        items.append((chars, negated, repeat))
    return items


def _class(body: str) -> str:
    """The characters of a class such as `A-Z_`; a hyphen at the end stands for itself."""
    body = body.replace("\\n", "\n")
    chars, at = "", 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            chars += "".join(map(chr, range(ord(body[at]), ord(body[at + 2]) + 1)))
            at += 3
        else:
            chars += body[at]
            at += 1
    return chars


def generate() -> dict[str, str]:
    """The text of the generated modules by file name."""
    schemas = load_schemas()
    made = "Made by tools/gen_validator.py from specs/"
    main = Compiler(schemas, elsewhere=PLATFORMS)
    main.entry("check_process", "process.schema.json", schemas["process.schema.json"])
    main.entry("check_config", "config.schema.json", schemas["config.schema.json"])
    platforms = Compiler(schemas)
    for name in PLATFORMS:
        platforms.entry(name, "config.schema.json", schemas["config.schema.json"]["$defs"][name])
    return {
        "_validator.py": main.module(f"The schemas of config.json and process.json as code. {made}."),
        "_platforms.py": platforms.module(f"The schemas of config.json's other platforms as code. {made}."),
        "_schemas.py": f'"""The schemas by their $id. {made}."""\n\n# ruff: noqa\n\nSCHEMAS = {schemas!r}\n',
    }


def main() -> None:
    """Write the generated modules that have changed."""
    for name, text in generate().items():
        path = PACKAGE / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
