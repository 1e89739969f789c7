"""The schemas of specs/ and the code generated from them: strictness, agreement, and the pattern compiler."""

import copy
import importlib
import itertools
import json
import re
import runpy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_documents import every_property, mutations

from pyoci.client.schema import JsonschemaFaults
from pyoci.compiler import features
from pyoci.config import _platforms, _schemas, _validator, diagnosis
from pyoci.config.reader import MAX_PROBLEMS
from pyoci.config.report import SchemaFaults, report

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(ROOT / "tools" / "gen_validator.py"))
CONFIG, PROCESS = SchemaFaults("config.schema.json"), SchemaFaults("process.schema.json")
ORACLES = {name: JsonschemaFaults(f"{name}.schema.json") for name in ("config", "process", "state", "features")}


def generated_faults(document: Any, check: Any = _validator.check_config) -> list[Any]:
    faults: list[Any] = []
    check(document, "", lambda *fault: faults.append(fault))
    return faults


def comparable(faults: list[Any]) -> list[str]:
    return sorted(f"{where}: {expectation}" for where, expectation, _ in faults)


@pytest.mark.parametrize("name", GENERATOR["NAMES"])
def test_schemas_are_schemas(name: str) -> None:
    """Each file of specs/ is valid draft 2020-12, and its $id is its name."""
    schema = json.loads((ROOT / "specs" / f"{name}.schema.json").read_text())

    jsonschema.Draft202012Validator.check_schema(schema)
    assert f"{name}.schema.json" == schema["$id"]


def test_schemas_describe_themselves() -> None:
    """Every property of a Linux container, a state and a features document has a description."""

    def bare(node: Any, path: str) -> list[str]:
        found = []
        for name, schema in node.get("properties", {}).items():
            target = json.loads((ROOT / "specs" / "config.schema.json").read_text())["$defs"].get(
                schema.get("$ref", "").rpartition("/")[2], {}
            )
            if schema and name != "" and "description" not in schema and "description" not in target:
                found.append(f"{path}/{name}")
            found += bare(schema, f"{path}/{name}") + bare(schema.get("items", {}), f"{path}/{name}/0")
        for name, schema in node.get("$defs", {}).items():
            if name not in GENERATOR["PLATFORMS"]:
                found += bare(schema, f"{path}#{name}")
        return found

    for schema in _schemas.SCHEMAS.values():
        assert [] == bare(schema, schema["$id"])


def test_generated_modules_are_up_to_date() -> None:
    """What stands in pyoci/config is what tools/gen_validator.py makes of specs/."""
    for name, text in GENERATOR["generate"]().items():
        assert text == (ROOT / "pyoci" / "config" / name).read_text(), f"run tools/gen_validator.py: {name} is stale"


def test_generated_validator_imports_one_function() -> None:
    """It is on the hot path; only a section of another platform loads another generated module."""
    for module in (_validator, _platforms):
        lines = Path(str(module.__file__)).read_text().splitlines()

        imports = {line.strip() for line in lines if re.match(r"\s*(import|from)\b", line)}
        platforms = {"from pyoci.config import _platforms"} if module is _validator else set()
        assert imports == {"from pyoci.pointer import escape", *platforms}


def test_document_with_every_property_is_valid() -> None:
    """The document that the other tests mutate has no fault, and leaves no property of the schema out."""
    document = every_property()

    assert [] == generated_faults(document)
    assert [] == list(CONFIG(document))
    used = {name for path, _ in paths(document) for name in path if isinstance(name, str)}
    known = {name for file in ("config", "process") for name in properties(_schemas.SCHEMAS[f"{file}.schema.json"])}
    assert known - {""} <= used


def paths(node: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path, node
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from paths(value, (*path, key))


def properties(node: Any) -> set[str]:
    found = set()
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            found |= set(node["properties"])
        for value in node.values():
            found |= properties(value)
    elif isinstance(node, list):
        for value in node:
            found |= properties(value)
    return found


def test_three_engines_find_the_same_faults() -> None:
    """On thousands of mutated configs jsonschema, the report and the generated code find the same faults."""
    count = 0
    for document in itertools.islice(mutations(), 0, None, 5):
        count += 1
        faults = ORACLES["config"](document)
        assert comparable(faults) == comparable(list(CONFIG(document)))
        assert comparable(faults) == comparable(generated_faults(document))
    assert count > 2000


def test_three_engines_agree_on_a_process() -> None:
    """Also for a process.json."""
    for document in mutations():
        if set(document) == {"ociVersion", "process"}:
            process = document["process"]
            faults = ORACLES["process"](process)
            assert comparable(faults) == comparable(list(PROCESS(process)))
            assert comparable(faults) == comparable(generated_faults(process, _validator.check_process))


@pytest.mark.parametrize("name", ["state", "features"])
def test_report_and_jsonschema_agree_on_other_documents(name: str) -> None:
    """The interpreter of the report knows the keywords of every schema in specs/."""
    check = SchemaFaults(f"{name}.schema.json")
    for document in itertools.chain(itertools.islice(mutations(), 0, None, 50), mutations_of(VALID[name])):
        assert comparable(ORACLES[name](document)) == comparable(list(check(document)))


def mutations_of(document: Any) -> Any:
    """`document` with each of its values, in turn, replaced by one of every type, or left out."""
    for path, _ in list(paths(document)):
        for value in (None, True, 0, -1, 2**70, 1.5, "", "x", [], [1, "x"], {}, {"x": 1}):
            changed = copy.deepcopy(document)
            node = changed
            for key in path[:-1]:
                node = node[key]
            if path:
                node[path[-1]] = value
                yield changed
            else:
                yield value
        if path and isinstance(path[-1], str):
            del node[path[-1]]
            yield changed


# With every type of value that these schemas know.
VALID = {
    "state": {
        "ociVersion": "1.3.0",
        "id": "x",
        "status": "running",
        "pid": 7,
        "bundle": "/b",
        "annotations": {"a": "b"},
    },
    "features": features.document(),
}


def test_report_is_the_one_of_jsonschema() -> None:
    """The text of the report is, to the byte, what it is with jsonschema's faults."""

    def texts(document: Any) -> tuple[list[str], list[str]]:
        data = json.dumps(document).encode()
        wanted = diagnosis.problems(data, ORACLES["config"])
        for problem in wanted:
            problem.file = "config.json"
        return [str(problem) for problem in wanted], [str(problem) for problem in report(data)]

    for document in itertools.islice(mutations(), 0, None, 25):
        wanted, found = texts(document)
        assert wanted == found

    # more faults than are reported: the ones left out are the same
    document = every_property()
    document["process"] |= {"args": [1] * 60, "env": [2] * 30, "cwd": 3, "oomScoreAdj": 0}
    document["linux"]["devices"] = [{"type": "q"}] * 50
    document["annotations"] = {"a~b/": 1}  # of several, jsonschema takes any first
    document["hostname"] = 1.50
    wanted, found = texts(document)
    assert MAX_PROBLEMS == len(wanted)
    assert wanted == found


PATTERNS = [
    r"^RLIMIT_[A-Z]+$",
    r"^[0-9, -]*$",
    r"^[cbup]$",
    r"^MB:[^\n]*$",
    r"^[1-9][0-9]*[KMG]B$",
    r"^CAP_[A-Z_]+$",
    r"^abc$",
    r"^[ab][^c]d+e[fg]$",
    r"^x*$",
]
TRAPS = [
    *(
        "",
        "\n",
        "c",
        "c\n",
        "RLIMIT_CPU",
        "RLIMIT_CPU\n",
        "RLIMIT_",
        "RLIMIT_\u0391",
        "0-3,7",
        "0-3\n",
        "\uff11",
        "\u0663",
    ),
    *("MB:", "MB:0=1\n", "MB:\r", "MB:\u2028", "2MB", "2MB\n", "02MB", "MB", "1GB", "10KB", "1KiB", "CAP_X\n", "CAP_"),
    *("abc", "abcabc", "axdeg", "bcdef", "xx", "xy"),
]


def test_patterns_of_the_schemas_are_tested() -> None:
    """The list above has every pattern of specs/."""
    assert set(re.findall(r"'pattern': '([^']*)'", repr(_schemas.SCHEMAS))) <= {repr(p)[1:-1] for p in PATTERNS}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_compiled_pattern(pattern: str) -> None:
    """A compiled pattern decides like ECMA-262: like Python's re with \\Z for $, and with ASCII digits."""
    matches = eval(f"lambda x: {GENERATOR['pattern'](pattern, 'x')}")
    model = re.compile(pattern[:-1] + r"\Z")

    @settings(max_examples=200)
    @given(st.from_regex(model) | st.text("RLIMT_CPMBG0129kcbuap,-: \n\rdefgx", max_size=10))
    def agrees(text: str) -> None:
        assert bool(model.search(text)) == bool(matches(text))

    agrees()
    for text in TRAPS:
        assert bool(model.search(text)) == bool(matches(text)), text


@pytest.mark.parametrize("pattern", ["abc", "^a", "^a|b$", "^(a)$", "^a?$", "^a*b*$", "^a.$", r"^\d$"])
def test_other_patterns_are_refused(pattern: str) -> None:
    """The compiler says no to what it does not know, instead of compiling something else."""
    with pytest.raises(ValueError, match="cannot compile the pattern"):
        GENERATOR["pattern"](pattern, "x")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}},
        {"type": "object", "properties": {"a": {"anyOf": []}}},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/b", "minimum": 1}},
            "$defs": {"b": {"type": "integer"}},
        },
    ],
)
def test_other_keywords_are_refused(schema: dict[str, Any]) -> None:
    """A keyword that the compiler does not know is an error at build time, not a check that is left out."""
    compiler = GENERATOR["Compiler"]({"x": schema})
    with pytest.raises(ValueError, match="cannot compile"):
        compiler.entry("check", "x", schema)


def test_fresh_import() -> None:
    """The generated modules can be imported by themselves."""
    assert importlib.import_module("pyoci.config._validator") is _validator
