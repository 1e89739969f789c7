#!/usr/bin/env python3
"""Make pyoci/types.py, the types of config.json, the state and the features document, from the schemas in specs/.

Each object of a schema becomes a TypedDict with the specification's names: a property that the schema requires is
Required, and its description becomes the docstring of the member. The sections of other platforms stay plain
dictionaries, because pyoci checks and then ignores them. The module is built, not kept.
"""

import json
import keyword
import textwrap
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
SPECS = TOP / "specs"
OUTPUT = TOP / "pyoci" / "types.py"

Schema = dict[str, Any]

PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")
SCALARS = {"string": "str", "boolean": "bool", "integer": "int"}
# Objects whose property does not name them, or names another object, too.
NAMES = {
    "Process/rlimits": "Rlimit",
    "Process/execCPUAffinity": "ExecCPUAffinity",
    "Linux/netDevices": "NetDevice",
    "Linux/namespaces": "Namespace",
    "Resources/devices": "DeviceRule",
    "Resources/cpu": "CPU",
    "Resources/hugepageLimits": "HugepageLimit",
    "Resources/rdma": "RDMA",
    "BlockIO/weightDevice": "WeightDevice",
    "Network/priorities": "InterfacePriority",
    "Seccomp/syscalls": "SyscallRule",
    "SyscallRule/args": "ArgumentCondition",
    "Features/linux": "LinuxFeatures",
    **{
        f"LinuxFeatures/{name}": f"{name[0].upper()}{name[1:]}Features"
        for name in (
            *("cgroup", "seccomp", "apparmor", "selinux", "intelRdt", "memoryPolicy", "mountExtensions"),
            "netDevices",
        )
    },
    "MountExtensionsFeatures/idmap": "IdmapFeatures",
}
# Runtimes may have more values here than this version of the specification, such as the status `paused`.
OPEN = {
    "State/status",
    "LinuxFeatures/namespaces",
    *(f"SeccompFeatures/{name}" for name in ("actions", "operators", "archs", "knownFlags", "supportedFlags")),
}

HEAD = '''\
"""The types of config.json, of the state and of the features document, in the words of the specification.

Made by tools/gen_types.py from specs/.
"""

# ruff: noqa

from typing import Literal, Required, TypedDict
'''


class Types:
    """The definitions, in the order in which they depend on each other."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self.schemas = schemas
        self.definitions: dict[str, str] = {}
        self.file = ""

    def document(self, name: str) -> str:
        """Define the type of a whole document, and return its name."""
        self.file = f"{name}.schema.json"
        return self.object(self.schemas[self.file], name[0].upper() + name[1:])

    def of(self, schema: Schema, place: str) -> str:
        """The type of a value by `schema`; `place` is the type and the property that it belongs to."""
        if "$ref" in schema:
            return self.referred(schema["$ref"], place)
        if "enum" in schema and place not in OPEN:
            values = [json.dumps(value) for value in schema["enum"]]
            lines = "".join(f"    {value},\n" for value in values)
            return f"Literal[{', '.join(values)}]" if len(str(values)) < 90 else f"Literal[\n{lines}]"
        kind = schema["type"]
        if kind in SCALARS:
            return SCALARS[kind]
        if kind == "array":
            return f"list[{self.of(schema['items'], place)}]"
        if schema.get("additionalProperties"):
            return f"dict[str, {self.of(schema['additionalProperties'], place)}]"
        if "properties" not in schema:
            return "dict[str, object]"
        return self.object(schema, NAMES.get(place) or title(place.rpartition("/")[2]))

    def referred(self, reference: str, place: str) -> str:
        """The type of what `reference` leads to."""
        file, _, path = reference.partition("#")
        name = path.rpartition("/")[2] or file.partition(".")[0]
        if name in PLATFORMS:
            return "dict[str, object]"
        before, self.file = self.file, file or self.file
        schema = self.schemas[self.file]
        for token in path.split("/")[1:]:
            schema = schema[token]
        if "enum" in schema and place not in OPEN:
            found = title(name)
            self.define(found, f"{found} = {self.of(schema, found)}\n" + docstring(schema, ""))
        elif schema["type"] == "object" and schema.get("properties", {}) != {"": {}}:
            found = self.object(schema, title(name))
        else:
            found = self.of(schema, place)
        self.file = before
        return found

    def object(self, schema: Schema, name: str) -> str:
        """Define a TypedDict, and return its name."""
        required = schema.get("required", ())
        members = []
        for key, member in schema["properties"].items():
            kind = self.of(member, f"{name}/{key}").replace("\n", "\n    ")
            members.append((key, f"Required[{kind}]" if key in required else kind, member))
        if any(not key.isidentifier() or keyword.iskeyword(key) for key, _, _ in members):
            lines = "".join(f"        {json.dumps(key)}: {kind},\n" for key, kind, _ in members)
            text = f'{name} = TypedDict(\n    "{name}",\n    {{\n{lines}    }},\n    total=False,\n)\n'
            notes = "".join(f"\n- `{key}`: {member['description']}" for key, _, member in members)
            self.define(name, text + f'"""{schema["description"]}\n{notes}\n"""\n')
        else:
            lines = "".join(f"\n    {key}: {kind}\n{docstring(member, '    ')}" for key, kind, member in members)
            self.define(name, f"class {name}(TypedDict, total=False):\n{docstring(schema, '    ')}{lines}")
        return name

    def define(self, name: str, text: str) -> None:
        """Keep a definition; one name can't have two."""
        if self.definitions.setdefault(name, text) != text:
            raise ValueError(f"two types would be called {name}: give one another name in NAMES")


def title(name: str) -> str:
    """The type's name for a property: `blockIO` is BlockIO, `hooks` is Hooks."""
    return name[0].upper() + name[1:]


def docstring(schema: Schema, indent: str) -> str:
    """The description of `schema`, if it has one."""
    text = schema.get("description", "")
    if not text:
        return ""
    lines = textwrap.wrap(f'"""{text}"""', 118 - len(indent))
    return "".join(f"{indent}{line}\n" for line in lines)


def generate() -> str:
    """The text of the module."""
    names = ("config", "process", "state", "features")
    documents = [json.loads((SPECS / f"{name}.schema.json").read_text("utf-8")) for name in names]
    types = Types({document["$id"]: document for document in documents})
    for name in names:
        types.document(name)
    if unused := set(NAMES.values()) - types.definitions.keys():
        raise ValueError(f"NAMES has names that no object gets: {', '.join(sorted(unused))}")
    exported = "".join(f'    "{name}",\n' for name in sorted(types.definitions))
    return "\n\n".join([HEAD, f"__all__ = [\n{exported}]\n", *types.definitions.values()])


def main() -> None:
    """Write the module if it differs from what is there."""
    text = generate()
    if not OUTPUT.is_file() or OUTPUT.read_text("utf-8") != text:
        OUTPUT.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
