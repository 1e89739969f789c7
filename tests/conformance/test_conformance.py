"""pyoci passes every row that can be judged: on this host, with cgroup v2 alone, and in machines that have what it
lacks.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conformance import suite

CHECKOUT = Path(__file__).resolve().parents[2]
VM = CHECKOUT / "tests/vm"
MADE_HERE = all(map(shutil.which, ("linux.uml", "qemu-system-x86_64")))

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.slow]

# machine: (the words before the command, how much slower it is than the host, rows: all if none is named)
MACHINES = {
    "host": ([], 1, []),
    "unified": ([VM / "unified"], 1, []),
    # what no other machine has: there page faults cost most, and processors are emulated
    "user-mode-linux": ([VM / "uml", "--timeout", "1200", "--"], 6, ["CG"]),
    "qemu-6.1": (
        [VM / "qemu", "--kernel", "6.1", "--timeout", "1200", "--"],
        12,
        ["PROC-15", "CG-35", "CG-38", "CG-41", "CG-47", "TIME-01", "FEAT-14"],
    ),
    "qemu-6.12": (
        [
            VM / "qemu",
            "--kernel",
            "6.12",
            "--append",
            "security=selinux selinux=1 enforcing=0",
            "--timeout",
            "1200",
            "--",
            VM / "selinux",
        ],
        12,
        ["PROC-16", "LBL-01", "MNT-09", "MNT-10", "MNT-11"],
    ),
}

# Cases that none of these machines can judge.
NOWHERE: "dict[str, str]" = {}


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, pyoci: str) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """The cases of a run on a machine. Each machine that the chosen tests need runs once, two at a time."""
    chosen = [item for item in request.session.items if request.path == item.path]
    names = {item.callspec.params["machine"] if hasattr(item, "callspec") else "" for item in chosen}
    wanted = MACHINES if "" in names else names  # the test without a machine needs all of them
    slowest_first = sorted(MACHINES, key=lambda machine: -MACHINES[machine][1])
    with ThreadPoolExecutor(2) as pool:
        runs = {
            machine: pool.submit(judge, pyoci, machine)
            for machine in slowest_first
            if machine in wanted and (MADE_HERE or machine in ("host", "unified"))
        }
        yield lambda machine: runs[machine].result()


def judge(runtime, machine):
    before, slow, rows = MACHINES[machine]
    wanted = [word for row in rows for word in ("--id", row)]
    command = [sys.executable, "-m", "conformance", "--runtime", runtime, "--format", "json", *wanted]
    slowness = ["env", f"CONFORMANCE_SLOWNESS={slow}"]
    done = subprocess.run([*map(str, before), *slowness, *command], cwd=CHECKOUT, capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if not line.startswith("qemu: ")]  # that a boot was tried again
    assert [] == told, done.stderr
    assert done.returncode in (0, 1), done.stdout
    return json.loads(done.stdout)[0]["cases"]


def marked(machine):
    """A machine that this host can't have is left out."""
    marks = []
    if machine not in ("host", "unified"):
        marks = [pytest.mark.skipif(not MADE_HERE, reason="needs Debian's user-mode-linux and qemu-system-x86")]
        if platform.machine() != "x86_64":
            marks.append(pytest.mark.may_skip("the machines are for x86-64"))
    return pytest.param(machine, marks=marks, id=machine)


@pytest.mark.parametrize("machine", [marked(machine) for machine in MACHINES])
def test_no_row_fails(results: Callable[[str], list[dict[str, Any]]], machine: Any) -> None:
    """The message says which does, and how."""
    failed = [f"{c['name']}: {c['message']}" for c in results(machine) if c["outcome"] not in ("pass", "missing")]

    assert [] == failed


@pytest.mark.skipif(not MADE_HERE, reason="needs Debian's user-mode-linux and qemu-system-x86")
def test_every_case_is_judged_somewhere(results: Callable[[str], list[dict[str, Any]]]) -> None:
    """Or a known reason explains why not. A machine that lacks a feature would otherwise skip its rows unnoticed."""
    cases = [case for machine in MACHINES for case in results(machine)]
    judged = {case["name"] for case in cases if case["outcome"] != "missing"}
    reasons = {case["name"]: case["message"] for case in cases if case["outcome"] == "missing"}

    missing = {case.name: reasons.get(case.name) for case in suite.collect() if case.name not in judged}

    assert NOWHERE.keys() == missing.keys(), missing
