"""`./test` runs every test, in parts that run side by side, and reports their results."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import parts, times
from tests.support.runtime import wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
GOOD = "tests/unit/test_files.py"
BAD = "def test_bad():\n    '''Fail.'''\n    print('said on the way')\n    assert 1 == 2\n"

SLOW = """
import pathlib, subprocess, time, pytest

@pytest.fixture
def child():
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        yield
        time.sleep(1)
        child.kill()
    pathlib.Path("clean").touch()

def test_slow(child):
    with subprocess.Popen(["sleep", "600"]):  # in pytest's group, as a machine is
        pathlib.Path("begun").touch()
        time.sleep(600)
"""

Run = Callable[..., tuple[int, str]]


def command(logs: Path, host: dict[str, list[str]], machines: dict[str, list[str]], *steps: str) -> list[str]:
    """The command that runs these parts as `./test` does."""
    script = f"""
import sys
from pathlib import Path
from tests.support import parts
parts.LOGS = Path({str(logs)!r})
parts.HOST = [parts.Part(*part) for part in {list(host.items())!r}]
parts.MACHINES = [parts.Part(*part) for part in {list(machines.items())!r}]
sys.exit(parts.main({list(steps)!r}))
"""
    return [sys.executable, "-c", script]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run parts as `./test` does: (exit status, output)."""

    def run(host: dict[str, list[str]], machines: dict[str, list[str]], *steps: str) -> tuple[int, str]:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        words = command(tmp_path / "logs", host, machines, *steps)
        done = subprocess.run(
            words, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=300, env=environment
        )
        assert "" == done.stderr
        return done.returncode, done.stdout

    return run


def test_every_test_belongs_to_one_part() -> None:
    """No file of tests is left out, and none runs twice; but a part may take some of a file's tests, and another
    the others.
    """
    files = {path.relative_to(CHECKOUT) for path in (CHECKOUT / "tests").rglob("test_*.py")}
    in_machines = {path for path in files if path.parts[1] == "engines" and len(path.parts) > 3}
    takers: dict[Path, list[str]] = {path: [] for path in files - in_machines}
    for part in (*parts.HOST, *parts.MACHINES):
        places = [Path(word) for word in part.arguments if word.startswith("tests/")]
        chosen = " ".join(word for word in part.arguments if not word.startswith("tests/"))
        for path, chosen_by in takers.items():
            if any(path == place or place in path.parents for place in places):
                chosen_by.append(chosen)

    assert {} == {path: chosen for path, chosen in takers.items() if chosen != [""] and not _halves(chosen)}


def _halves(chosen: list[str]) -> bool:
    """Whether two parts share the tests of a file: what the one chooses, the other leaves out."""
    return len(chosen) == 2 and chosen[1] == f"-k not ({chosen[0].removeprefix('-k ')})"


def test_part_that_passes_is_one_line(run: Run) -> None:
    """The line has the part's name, its time, and how many tests passed; the table has the steps before."""
    status, output = run({"good": [GOOD]}, {}, "prepare=12", "build=3")

    assert 0 == status, output
    line = next(line for line in output.splitlines() if "good" in line)
    assert ["good", "ok"] == line.split()[:2]
    assert " passed in " in line
    table = output.partition("How long it took\n")[2].splitlines()
    assert ["12.0 s  prepare", "3.0 s  build"] == [line.strip() for line in table[:2]]
    assert [f"{GOOD}::"] == sorted({line.partition("::")[0].split()[-1] + "::" for line in table if "::" in line})


def test_part_that_fails_is_shown_whole(run: Run, tmp_path: Path) -> None:
    """Beside parts that pass; the exit status says so."""
    bad = tmp_path / "test_bad.py"
    bad.write_text(BAD)

    status, output = run({"bad": [str(bad)]}, {"good": [GOOD]})

    assert 1 == status
    assert {"good": "ok", "bad": "FAILED"} == dict(
        line.split()[:2] for line in output.splitlines() if line.startswith(("  good ", "  bad "))
    )
    assert "said on the way" in output
    assert "assert 1 == 2" in output
    assert output.endswith("\nFAILED: bad\n")


def test_part_that_does_not_begin_fails(run: Run) -> None:
    """As when its directory is missing: pytest's status is not 0."""
    status, output = run({}, {"lost": ["tests/no-such-folder"]})

    assert 1 == status
    assert "no-such-folder" in output


def test_part_with_a_skip_fails_in_ci(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output names the skipped test."""
    skips = tmp_path / "test_skips.py"
    skips.write_text("import pytest\n\ndef test_skipped():\n    pytest.skip('no reason')\n")
    # what ./test takes from tests/conftest.py
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")

    monkeypatch.delenv("CI", raising=False)
    here, _ = run({"skips": [str(skips)]}, {})
    monkeypatch.setenv("CI", "true")
    there, output = run({"skips": [str(skips)]}, {})

    assert (0, 1) == (here, there)
    assert "skipped, but must run here" in output
    assert "test_skips.py::test_skipped" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_ends_all_parts(tmp_path: Path, number: signal.Signals) -> None:
    """The running parts clean up, the others do not begin, the status is 1. A terminal sends Ctrl-C to the group."""
    slow = tmp_path / "test_slow.py"
    slow.write_text(
        SLOW.replace('"begun"', repr(str(tmp_path / "begun"))).replace('"clean"', repr(str(tmp_path / "clean")))
    )
    # under nohup the runner ignores SIGHUP, as this test's own run may
    words = ["env", "--default-signal", *command(tmp_path / "logs", {"slow": [str(slow)], "after": [GOOD]}, {})]

    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, cwd=CHECKOUT, stdout=pipe, text=True, start_new_session=True, env=environment
    ) as process:
        try:
            wait_for((tmp_path / "begun").exists, "the slow test does not begin")
            os.killpg(process.pid, number)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()

    assert 1 == process.returncode
    assert "KeyboardInterrupt" in output
    assert output.endswith("\nFAILED: slow, after\n")
    assert (tmp_path / "clean").exists()
    assert not (tmp_path / "logs/after.log").exists()


def test_times_add_up_by_part(tmp_path: Path) -> None:
    """A part's time is that of its tests; the slowest tests come first, and no more than ten."""
    tests = {f"tests/unit/test_a.py::test_{number}": float(number) for number in range(20)} | {"tests/vm/t.py::t": 0.5}

    lines = times.table(times.by_part(tests), tests)

    assert ["190.0 s  tests/unit", "0.5 s  tests/vm"] == [line.strip() for line in lines[:2]]
    slowest = lines[lines.index("the slowest tests") + 1 :]
    assert [f"{number}.0 s  tests/unit/test_a.py::test_{number}" for number in range(19, 9, -1)] == [
        line.strip() for line in slowest
    ]


def test_run_with_arguments_shows_its_times(tmp_path: Path) -> None:
    """As `./test tests/unit` does; with $PYOCI_TIMES the figures go to that file."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", GOOD]

    # this test may run in a part, which has PYOCI_TIMES
    shown = subprocess.check_output(["env", "--unset=PYOCI_TIMES", *command], cwd=CHECKOUT, text=True)
    file = tmp_path / "times"
    kept = subprocess.check_output(["env", f"PYOCI_TIMES={file}", *command], cwd=CHECKOUT, text=True)

    assert "how long it took" in shown
    assert "s  tests/unit\n" in shown
    assert "how long it took" not in kept
    assert {GOOD} == {nodeid.partition("::")[0] for nodeid in json.loads(file.read_text())}
