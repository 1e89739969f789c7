"""The JSON Schemas (draft-04) that the runtime specification publishes, from Debian's package: an oracle for our
own.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "build" / "specification"
SCHEMAS = FOLDER / "usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema"
PACKAGE = "golang-github-opencontainers-specs-dev"

# Two slips of 1.3.0 that its successor corrects: a reference without its slash, and an array's schema that holds for
# the first element only.
CORRECTIONS = {
    "defs.json": ('"#definitions/uint32"', '"#/definitions/uint32"'),
    "config-vm.json": (
        '"items": [{"$ref": "defs-vm.json#/definitions/IOMemEntryFormat"}]',
        '"items": {"$ref": "defs-vm.json#/definitions/IOMemEntryFormat"}',
    ),
}


def schemas() -> dict[str, Any]:
    """The specification's schemas by file name. Fetched once, into build/specification; skips where that fails."""
    fetched = subprocess.run(
        [CHECKOUT / "tools/unpack", "experimental", PACKAGE, FOLDER], capture_output=True, text=True, timeout=600
    )
    if fetched.returncode:
        pytest.skip(f"cannot fetch the specification's schemas: {fetched.stderr}", allow_module_level=True)
    return {path.name: _corrected(path) for path in SCHEMAS.glob("*.json")}


def _corrected(path: Path) -> Any:
    text = json.dumps(json.loads(path.read_text()))
    wrong, right = CORRECTIONS.get(path.name, ("", ""))
    return json.loads(text.replace(wrong, right) if wrong else text)
