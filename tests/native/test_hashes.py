"""Hashes of strings in the executable (pyoci/executable/hashes.c)."""

import ast
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyoci.executable import freeze
from tests.support.collisions import colliding, secret_of, steps

pytestmark = pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
ROOT = Path(__file__).resolve().parents[2]

# Stands in for pyoci.cli: the last argument is code, which leaves something in `result`.
CLI = """
import posix, sys

KNOWN = {"a name of this module": 1, b"some bytes": 2, "\\u20ac": 3}

def main(argv):
    names = {"argv": argv, "sys": sys, "KNOWN": KNOWN}
    exec(argv[-1], names)
    posix.write(1, repr(names["result"]).encode())
    return 0
"""
# What a dictionary or a set of the image has must be found by a string that is equal and new.
CHECK = """
import gc
places = [place for place in [*gc.get_objects(), *map(vars, sys.modules.values())] if type(place) in (dict, set, frozenset)]
keys = [key for place in places for key in place if type(key) in (str, bytes)]
copies = [(key + key[:1])[:-1] if len(key) > 1 else key for key in keys]
result = len(keys), [key for key, copy in zip(keys, copies) if hash(key) != hash(copy)]
"""

Evaluate = Callable[..., Any]


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An executable with an image whose command line runs Python code."""
    top = tmp_path_factory.mktemp("hashes")
    package = top / "pyoci"
    for folder in ("executable", "host"):
        (package / folder).mkdir(parents=True)
    for name in ("__init__.py", "version.py", "executable/__init__.py", "host/__init__.py", "host/trust.py"):
        shutil.copy(ROOT / "pyoci" / name, package / name)
    (package / "cli.py").write_text(CLI)
    native = ROOT / "build" / "executable" / "_native.o"
    assert native.exists(), "run tools/build"
    freeze.build(top / "made", top / "temp", package=package, native=native, static=False)  # imports from files
    return top / "made"


@pytest.fixture
def evaluate(executable: Path) -> Evaluate:
    """What `result` is after the code has run, with these arguments, in a new process."""

    def run(code: str, *arguments: str) -> Any:
        command = [str(executable), *arguments, code]
        done = subprocess.run(command, capture_output=True, text=True, env={}, timeout=60)
        assert ("", 0) == (done.stderr, done.returncode)
        return ast.literal_eval(done.stdout)

    return run


@pytest.mark.parametrize("expression", ["'a name that no image has'", "b'bytes that no image has'", "'\\u20ac\\u20ad'"])
def test_hash_of_a_string_differs_from_process_to_process(evaluate: Evaluate, expression: str) -> None:
    """Within one, equal strings have equal hashes."""
    code = f"result = hash({expression}), hash(({expression} + {expression})[:len({expression})])"
    runs = [evaluate(code) for _ in range(3)]

    assert 3 == len(set(runs))
    assert all(first == second for first, second in runs)


def test_strings_of_the_image_are_found(evaluate: Evaluate) -> None:
    """By strings of this process: whatever is in the dictionaries and sets of the image."""
    count, lost = evaluate(CHECK)

    assert [] == lost
    assert count > 2000
    assert [1, 2, 3] == evaluate("result = [KNOWN[key] for key in (argv[0], argv[1].encode(), argv[2])]",
                                 "a name of this module", "some bytes", "\u20ac")  # fmt: skip


def test_strings_are_found_when_python_is_complete(evaluate: Evaluate) -> None:
    """Modules from files bring strings and intern them."""
    count, lost = evaluate("import json, re, enum, typing, dataclasses" + CHECK)

    assert [] == lost
    assert count > 4000


def test_names_computed_from_the_file_do_not_collide(executable: Path, evaluate: Evaluate) -> None:
    """Under the secret in the file they take 50 steps and more; in a process they behave like random ones."""
    log2_size = 12
    names = colliding(secret_of(executable), log2_size)
    hashes = evaluate("result = [hash(name) for name in argv[:-1]]", *names)

    assert steps(hashes, log2_size) < 3
    assert steps(evaluate("result = [hash(name.encode()) for name in argv[:-1]]", *names), log2_size) < 3
