"""pyoci passes every row that can be judged: on this host, with cgroup v2 alone, and in machines that have what it lacks."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.rows import ROWS, UNREACHABLE

CHECKOUT = Path(__file__).resolve().parents[2]
VM = CHECKOUT / "tests/vm"

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.slow]

# machine: (the words before the command, how much slower it is than the host)
MACHINES = {
    "host": ([], 1),
    "unified": ([VM / "unified"], 1),
    "user-mode-linux": ([VM / "uml", "--timeout", "1200", "--"], 6),
}

# Rows that none of these machines can judge.
NOWHERE: "dict[str, str]" = {}


@pytest.fixture(scope="module")
def results(pyoci):
    """The cases of a run on a machine; each machine runs once."""
    found: dict[str, list[dict]] = {}

    def on(machine):
        if machine not in found:
            found[machine] = judge(pyoci, machine)
        return found[machine]

    return on


def judge(runtime, machine):
    before, slow = MACHINES[machine]
    command = [sys.executable, "-m", "conformance", "--runtime", runtime, "--format", "json"]
    patience = ["env", f"CONFORMANCE_PATIENCE={slow}"]
    done = subprocess.run([*map(str, before), *patience, *command], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.stderr == "", done.stderr
    assert done.returncode in (0, 1), done.stdout
    return json.loads(done.stdout)[0]["cases"]


def marked(machine):
    """A machine that this host can't have is left out."""
    marks = []
    if machine == "user-mode-linux":
        marks = [pytest.mark.skipif(not shutil.which("linux.uml"), reason="needs Debian's user-mode-linux")]
        if platform.machine() != "x86_64":
            marks.append(pytest.mark.may_skip("user-mode Linux is for x86-64"))
    return pytest.param(machine, marks=marks, id=machine)


@pytest.mark.parametrize("machine", [marked(machine) for machine in MACHINES])
def test_no_row_fails(results, machine):
    """The message says which does, and how."""
    failed = [f"{c['name']}: {c['message']}" for c in results(machine) if c["outcome"] not in ("pass", "missing")]

    assert [] == failed


@pytest.mark.skipif(not shutil.which("linux.uml"), reason="needs Debian's user-mode-linux")
def test_every_row_is_judged_somewhere(results):
    """Or it is known why not: a machine that is found unfit tests nothing, and nobody would see it."""
    cases = [case for machine in MACHINES for case in results(machine)]
    judged = {case["row"] for case in cases if case["outcome"] != "missing"}
    reasons = {case["row"]: case["message"] for case in cases if case["outcome"] == "missing"}

    missing = {row: reasons.get(row) for row in ROWS if row not in judged and row not in UNREACHABLE}

    assert NOWHERE.keys() == missing.keys(), missing
