"""What the command line may import: built-in modules and our own, as on CPython's core."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# Runs a command line where nothing else can be imported, not even what Python itself has loaded by now.
HARNESS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "_json" or name.startswith("pyoci"):  # jsonio also works without _json
            return None
        raise ImportError(f"{name} must not be imported here")

sys.path.insert(0, ROOT)
finders = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") == "PathFinder"]
sys.meta_path[:] = [sys.meta_path[0], Refuse(), *finders]
kept = {"sys", "builtins", "__main__", "_frozen_importlib", "_frozen_importlib_external", "_imp"}
for name in list(sys.modules):
    if name not in kept and name not in sys.builtin_module_names and not name.startswith("encodings"):
        del sys.modules[name]

from pyoci.cli import main

sys.exit(main(ARGV))
"""


def run(*argv: Path | str) -> subprocess.CompletedProcess[Any]:
    """Run a command line in the harness."""
    code = HARNESS.replace("ROOT", repr(str(ROOT))).replace("ARGV", repr([str(word) for word in argv]))
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words",
    ["--version", "--help", "create --help", "features", "list", "list --format json"],
)
def test_commands_that_need_nothing(words: str, tmp_path: Path) -> None:
    """They run on the core alone."""
    (tmp_path / "root").mkdir(0o700)
    result = run("--root", tmp_path / "root", *words.split())

    assert (0, "") == (result.returncode, result.stderr)


def test_spec_needs_nothing(tmp_path: Path) -> None:
    """Writing a config is plain output."""
    assert 0 == run("spec", "--bundle", tmp_path).returncode
    assert (tmp_path / "config.json").stat().st_size > 1000


@pytest.mark.parametrize("words", ["start x", "state x", "kill x KILL", "delete x", "create x", "run x"])
def test_errors_of_the_hot_path_need_nothing(words: str, tmp_path: Path) -> None:
    """An unknown id, or a bundle without config.json, is reported without the standard library."""
    log = tmp_path / "log.json"
    result = run("--root", tmp_path / "root", "--log", log, "--log-format", "json", *words.split())

    assert 1 == result.returncode
    assert "must not be imported" not in result.stderr
    assert "internal error" not in result.stderr
    assert result.stderr.count("\n") == log.read_text().count("\n") == 1


def test_the_harness_refuses_what_it_should() -> None:
    """kill --regex compiles a regular expression: here that fails, so the tests above can fail."""
    assert "re must not be imported here" in run("kill", "--regex", "x").stderr
