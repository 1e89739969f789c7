"""Our schemas accept and reject what the specification's own do.

Where ours differ on purpose, `by_the_specification` says how.
"""

import copy
import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4
from schema_documents import REPLACEMENTS, every_property, mutations

from pyoci.config import _validator
from pyoci.config.report import SchemaFaults
from tests.support.specification import schemas

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = schemas()
BUNDLES = ROOT / "tests" / "data" / "bundles"


def pattern(_: Any, source: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """ECMA-262: $ is the end, not also the place before a final newline."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", source), value):
        yield jsonschema.ValidationError("pattern")


def oracle(name: str) -> jsonschema.Draft4Validator:
    # with a $schema, a reference into another file would leave the extended dialect
    contents = {key: {k: v for k, v in file.items() if k != "$schema"} for key, file in SPECIFICATION.items()}
    registry: Registry[Any] = Registry().with_resources(
        (key, Resource.from_contents(file, default_specification=DRAFT4)) for key, file in contents.items()
    )
    dialect = jsonschema.validators.extend(jsonschema.Draft4Validator, {"pattern": pattern})
    return dialect(contents[name], registry=registry)


CONFIG, STATE, FEATURES = (oracle(f"{name}-schema.json") for name in ("config", "state", "features"))
OUR_CONFIG, OUR_STATE, OUR_FEATURES = (SchemaFaults(f"{name}.schema.json") for name in ("config", "state", "features"))


def generated_valid(document: Any) -> bool:
    class Fault(Exception):
        pass

    def bad(*_: object) -> None:
        raise Fault

    try:
        _validator.check_config(document, "", bad)
    except Fault:
        return False
    return True


def by_the_specification(config: Any) -> Any:
    """`config` without what our schema accepts on purpose, and the specification's does not.

    - `fileMode` is any u32 by the prose, and callers pass st_mode: the schema says at most 511.
    - `pids.limit` is optional by the prose since 1.3.0: the schema requires it.
    - `rootfsPropagation` comes from engines in the recursive spelling too: the schema has four values.
    """
    config = copy.deepcopy(config)
    linux = config.get("linux", {}) if isinstance(config, dict) else {}
    if not isinstance(linux, dict):
        return config
    for device in linux.get("devices", []) if isinstance(linux.get("devices"), list) else []:
        mode = device.get("fileMode") if isinstance(device, dict) else None
        if type(mode) is int and 0 <= mode < 2**32:
            device["fileMode"] = mode & 511
    resources = linux.get("resources", {})
    pids = resources.get("pids") if isinstance(resources, dict) else None
    if isinstance(pids, dict):
        pids.setdefault("limit", 1)
    if linux.get("rootfsPropagation") in ("rprivate", "rshared", "rslave", "runbindable"):
        linux["rootfsPropagation"] = linux["rootfsPropagation"][1:]
    return config


def agree(config: Any) -> None:
    """The oracle and the generated code say the same; that the report's engine does too, test_schema shows."""
    ours = generated_valid(config)
    if ours != CONFIG.is_valid(config):
        assert ours
        assert CONFIG.is_valid(by_the_specification(config)), config


def test_mutated_properties() -> None:
    """Each property of every section, replaced by values of every type and around every bound, or left out."""
    count = 0
    for config in itertools.islice(mutations(), 0, None, 2):
        agree(config)
        count += 1
    assert count > 5000


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*.json")), ids=lambda path: path.stem)
def test_mutated_bundles(path: Path) -> None:
    """Configs as engines write them, with some values replaced at random."""
    original = json.loads(path.read_text())
    agree(original)
    choose = random.Random(path.stem)
    for _ in range(25):
        config = copy.deepcopy(original)
        for _ in range(choose.choice((1, 1, 2))):
            node: Any = config
            while True:
                key = choose.choice(list(node) if isinstance(node, dict) else range(len(node)))
                if not isinstance(node[key], dict | list) or not node[key] or choose.random() < 0.1:
                    node[key] = copy.deepcopy(choose.choice(REPLACEMENTS))
                    break
                node = node[key]
        agree(config)


def test_deliberate_differences() -> None:
    """They are what the docstring above says, and no others are needed: each is valid here and not there."""
    for linux in (
        {"devices": [{"type": "c", "path": "/x", "fileMode": 0o20666}]},
        {"resources": {"pids": {}}},
        *({"rootfsPropagation": name} for name in ("rprivate", "rshared", "rslave", "runbindable")),
    ):
        config = {"ociVersion": "1.0.0", "linux": linux}

        assert not CONFIG.is_valid(config)
        agree(config)


def test_top_level_types() -> None:
    """Documents that are not an object, and empty ones."""
    for config in (None, True, 1, "x", [], {}, {"ociVersion": None}):
        assert not CONFIG.is_valid(config)
        assert list(OUR_CONFIG(config))
        assert config is None or not generated_valid(config) or config == {"ociVersion": None}
    assert not generated_valid(None)


STATE_DOCUMENT = {
    "ociVersion": "1.3.0",
    "id": "x",
    "status": "created",
    "pid": 1,
    "bundle": "/x",
    "annotations": {"a": "b", "": "x"},
}
FEATURES_DOCUMENT = {
    "ociVersionMin": "1.0.0",
    "ociVersionMax": "1.3.0",
    "hooks": ["x"],
    "mountOptions": ["x"],
    "annotations": {"a": "b"},
    "potentiallyUnsafeConfigAnnotations": ["x"],
    "linux": {
        "namespaces": ["mount"],
        "capabilities": ["CAP_KILL"],
        "cgroup": dict.fromkeys(("v1", "v2", "systemd", "systemdUser", "rdma"), True),
        "seccomp": {
            "enabled": True,
            "actions": ["SCMP_ACT_KILL"],
            "operators": ["SCMP_CMP_EQ"],
            "archs": ["SCMP_ARCH_X86"],
            "knownFlags": ["SECCOMP_FILTER_FLAG_LOG"],
            "supportedFlags": [],
        },
        **{name: {"enabled": True} for name in ("apparmor", "selinux", "intelRdt", "netDevices")},
        "mountExtensions": {"idmap": {"enabled": True}},
    },
}


@pytest.mark.parametrize(
    ("document", "theirs", "ours"),
    [(STATE_DOCUMENT, STATE, OUR_STATE), (FEATURES_DOCUMENT, FEATURES, OUR_FEATURES)],
    ids=["state", "features"],
)
def test_mutated_state_and_features(document: Any, theirs: Any, ours: Any) -> None:
    """The same for the other two documents, with the values that matter there, null among them."""
    replacements = [
        *REPLACEMENTS,
        None,
        "creating",
        "stopped",
        "paused",
        "CAP_",
        "CAP_X\n",
        ["CAP_KILL\n"],
        ["SCMP_ACT_X"],
    ]

    def nodes(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        yield path
        for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            yield from nodes(value, (*path, key))

    assert [] == list(ours(document))
    for path in nodes(document):
        for replacement in (*replacements, agree):
            changed = copy.deepcopy(document)
            if not path:
                continue
            node: Any = changed
            for key in path[:-1]:
                node = node[key]
            if replacement is agree:
                del node[path[-1]]
            else:
                node[path[-1]] = replacement

            assert theirs.is_valid(changed) == (not list(ours(changed))), changed


def test_the_document_with_every_property() -> None:
    """What the mutations start from is valid for the specification."""
    assert CONFIG.is_valid(every_property())
