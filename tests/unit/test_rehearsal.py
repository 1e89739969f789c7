"""What the build rehearses, and leaves in the executable's image (pyoci/executable/rehearsal.py)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# What the modules hold besides code, before and after. `modules` are those that commands load.
REHEARSE = """
import json, sys, types
sys.path.insert(0, sys.argv[1])
sys.modules["_pyoci_executable"] = types.SimpleNamespace(core_only=True)
from pyoci.executable import PRELOADED, main, rehearsal
modules = json.loads(sys.argv[3])

def held():
    found = {}
    for name, module in list(sys.modules.items()):
        for holder in (module, *vars(module).values()) if name.partition(".")[0] == "pyoci" else ():
            if holder is module or isinstance(holder, type) and holder.__module__ == name:
                values = {key: repr(value) for key, value in vars(holder).items() if not key.startswith("__")}
                found[f"{name} {getattr(holder, '__name__', '')}"] = values
    return found

for name in modules or PRELOADED:
    __import__(name)
rehearsal.TIMES = 1
before = held()
for part in (rehearsal.warm_up, rehearsal.any_command, rehearsal.create):
    part(sys.argv[2], main)
print(json.dumps([before, held(), [name for name in sys.modules if name.startswith("pyoci.")]]))
"""


def rehearse(directory: Path, modules: list[str]) -> list[Any]:
    """What modules held before and after, of a process that had loaded these first; and the modules that it has now."""
    shutil.copy(ROOT / "pyoci" / "executable" / "docker.json", directory / "config.json")
    command = [sys.executable, "-I", "-c", REHEARSE, str(ROOT), str(directory), json.dumps(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout)
    return found


def test_modules_keep_nothing_of_a_command(tmp_path: Path) -> None:
    """The image has whatever they held when it was made: it must not know the host that it was built on."""
    modules = rehearse(tmp_path, [])[2]

    before, after, _ = rehearse(tmp_path, modules)

    assert len(before) > 100
    assert before == after


def test_rehearsing_leaves_nothing(tmp_path: Path) -> None:
    """No container, though its commands were real ones."""
    rehearse(tmp_path, [])

    assert ["config.json", "root"] == sorted(path.name for path in tmp_path.iterdir())
    assert [] == list((tmp_path / "root").iterdir())
