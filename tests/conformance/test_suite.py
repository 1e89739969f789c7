"""The conformance suite itself: whole, and able to find a runtime at fault."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from conformance import report, suite
from conformance.findings import FINDINGS, finding
from conformance.rows import RELAXED, ROWS, SINCE, UNREACHABLE

CHECKOUT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def conformance(*words: Any, **environment: Any):
    """Run the command line: (exit status, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "--jobs", "6", *map(str, words)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


def script(folder, text):
    """A runtime of a few lines of shell."""
    path = folder / "runtime"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def outcomes(runtime, *ids: Any, **environment: Any):
    """Outcome and message by case."""
    words = [word for name in ids for word in ("--id", name)]
    _, out, err = conformance("--runtime", runtime, "--format", "json", *words, **environment)
    assert "" == err
    (document,) = json.loads(out)
    return {case["name"]: (case["outcome"], case["message"]) for case in document["cases"]}


# --- that it is whole


def test_every_row_has_a_case_or_a_reason_not_to() -> None:
    """And not both."""
    judged = {case.row for case in suite.collect()}

    assert set(ROWS) - judged == set(UNREACHABLE)
    assert set(RELAXED) <= judged


def test_what_is_newer_than_others_is_a_row_or_a_case() -> None:
    """A name that nothing has any more would say nothing."""
    assert set(SINCE) <= set(ROWS) | {case.name for case in suite.collect()}


def test_every_case_says_what_it_requires() -> None:
    """In one sentence."""
    for case in suite.collect():
        assert case.sentence.endswith("."), case.name
        assert len(case.sentence) < 300, case.name


def test_cases_are_found_by_area_row_and_name() -> None:
    """MNT-1 is not MNT-10."""
    assert {"MNT"} == {case.row.partition("-")[0] for case in suite.collect(["MNT"])}
    assert {"MNT-01"} == {case.row for case in suite.collect(["MNT-01"])}
    assert ["ERR_01"] == [case.name for case in suite.collect(["ERR_01"])]
    assert [] == suite.collect(["MNT-1"])


@pytest.mark.parametrize("many", [1, 2, 3])
def test_parts_are_the_whole(many: int) -> None:
    """Each case is in one of them."""
    names = [
        line.split()[0]
        for number in range(1, many + 1)
        for line in conformance("--id", "MNT", "--list", "--part", f"{number}/{many}")[1].splitlines()
        if line.startswith("MNT_")
    ]

    assert sorted(case.name for case in suite.collect(["MNT"])) == sorted(names)


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "1", "1/", "x/y", ""])
def test_invalid_part_is_a_usage_error(wrong: str) -> None:
    """And nothing is run."""
    status, out, err = conformance("--part", wrong)

    assert (2, "") == (status, out)
    assert f"argument --part: invalid part value: {wrong!r}" in err


def test_nothing_of_a_runtime_is_imported() -> None:
    """A checkout is all it needs."""
    program = "import conformance.__main__, sys; print([name for name in sys.modules if name.startswith('pyoci')])"

    assert "[]\n" == subprocess.check_output([sys.executable, "-c", program], cwd=CHECKOUT, text=True)


def test_an_unknown_case_is_a_usage_error() -> None:
    """One line, status 2."""
    assert (2, "", "conformance: no case is named XYZ-01\n") == conformance("--id", "XYZ-01")


# --- that it can find a fault


@needs_root
@pytest.mark.slow
def test_a_runtime_that_does_nothing_passes_no_row(tmp_path: Path) -> None:
    """It reports success for every command."""
    found = outcomes(script(tmp_path, "exit 0"), CONFORMANCE_SLOWNESS="0.1")

    assert [] == [name for name, (outcome, _) in found.items() if outcome == suite.PASS]
    assert [] == [(name, message) for name, (outcome, message) in found.items() if outcome == suite.ERROR]


@needs_root
@pytest.mark.slow
def test_a_runtime_that_refuses_everything_is_found_out(tmp_path: Path) -> None:
    """It passes at most what has to be refused."""
    found = outcomes(script(tmp_path, "echo no >&2; exit 1"), CONFORMANCE_SLOWNESS="0.1")

    rows = {name: "-".join(name.split("_")[:2]) for name in found}
    passed = {rows[name] for name, (outcome, _) in found.items() if outcome == suite.PASS}
    failed = {rows[name] for name, (outcome, _) in found.items() if outcome in (suite.FAIL, suite.UNMET)}
    whole = passed - failed
    assert {row for row in whole if "E" not in ROWS[row].level} <= MAY_REFUSE
    assert [] == [(name, message) for name, (outcome, message) in found.items() if outcome == suite.ERROR]


# Rows of another level that ask for nothing but a refusal: what the good case would be, other rows ask.
MAY_REFUSE = {"CG-01", "CG-05", "PROC-53", "ROOT-01", "SEC-07"}


# How `state` may be garbled: a program of Python, whose `state` is the real document.
LIES = {
    "an array": "[state]",
    "nothing": "{}",
    "other types": "{**state, 'id': [], 'pid': 'x', 'status': None, 'bundle': 3, 'annotations': [1], 'ociVersion': 1}",
    "nobody": "{**state, 'pid': 4194303, 'bundle': '/nowhere'}",
}
LIAR = """
for word; do
    [ "$word" != features ] || { echo '{"ociVersionMin": 1, "hooks": 3, "mountOptions": {}, "linux": {"seccomp": []}}'; exit; }
    [ "$word" != state ] || exec PYTHON -c "
import json, subprocess, sys
done = subprocess.run(['RUNTIME', *sys.argv[1:]], stdout=subprocess.PIPE)
state = json.loads(done.stdout or '{}')
print(json.dumps(LIE))
sys.exit(done.returncode)" "$@"
done
exec RUNTIME "$@"
"""


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES)
def test_what_a_runtime_writes_is_its_own_fault(lie: Any, pyoci: str, tmp_path: Path) -> None:
    """A state or features document that no test can read fails rows; the suite itself does not fail."""
    text = LIAR.replace("PYTHON", sys.executable).replace("RUNTIME", str(pyoci)).replace("LIE", LIES[lie])

    rows = ("ST", "LIFE-01", "LIFE-02", "LIFE-06", "OP-02", "OP-05", "FEAT-01", "FEAT-05", "FEAT-06", "FEAT-13")
    found = outcomes(script(tmp_path, text), *rows)

    assert [] == [(name, message) for name, (outcome, message) in found.items() if outcome == suite.ERROR]
    assert suite.FAIL in {outcome for outcome, _ in found.values()}


@needs_root
def test_what_a_crashed_runtime_leaves_is_removed(tmp_path: Path) -> None:
    """Processes and cgroups, and the suite reports them."""
    leaves = script(tmp_path, 'sleep 987 >/dev/null 2>&1 &\necho "container: no" >&2; exit 1')

    found = outcomes(leaves, "NS_06")

    assert suite.PASS == found["NS_06"][0]
    outcome, message = found["ERR_01_in_NS_06"]
    assert suite.FAIL == outcome
    assert "left behind processes" in message
    assert "" == subprocess.run(["pgrep", "-f", "^sleep 987$"], capture_output=True, text=True).stdout


@needs_root
def test_a_runtime_that_hangs_is_given_up(tmp_path: Path) -> None:
    """After the timeout."""
    found = outcomes(script(tmp_path, "exec sleep 60"), "EXT_01", CONFORMANCE_SLOWNESS="0.2")

    assert ("fail", "`create` did not end within 3 s") == found["EXT_01"]


# --- reports


@pytest.fixture
def documents():
    """Two runtimes, one of which fails a row."""
    case = {"row": "MNT-01", "level": "M", "name": "MNT_01", "sentence": "Mounts are made in order.", "seconds": 0.5}
    base = {"version": "1", "kernel": "6.1", "machine": "host", "part": [1, 1], "seconds": 2.0}
    good = {**base, "runtime": "/usr/bin/good", "cases": [{**case, "outcome": "pass", "message": ""}]}
    bad = {**base, "runtime": "bad --debug", "cases": [{**case, "outcome": "fail", "message": 'they "are" <not>'}]}
    return [good, bad]


def test_the_table_shows_runtimes_beside_each_other(documents) -> None:
    """Then what is wrong, then counts."""
    lines = report.as_table(documents).splitlines()

    assert ["row", "good", "bad"] == lines[0].split()
    assert ["MNT-01", "M", "✓", "✗"] == lines[1].split()[:4]
    assert 'bad: MNT_01: Mounts are made in order.\n    they "are" <not>' in report.as_table(documents)
    assert "bad: 1 rows: 1 fail; 2 s" == lines[-1]


def test_tap(documents) -> None:
    """Version 13."""
    lines = report.as_tap(documents).splitlines()

    assert ["TAP version 13", "1..2", "ok 1 - good MNT_01: Mounts are made in order."] == lines[:3]
    assert "not ok 2 - bad MNT_01: Mounts are made in order." == lines[3]


def test_junit(documents) -> None:
    """Well formed, with its counts."""
    good, bad = ET.fromstring(report.as_junit(documents))

    assert ("1", "0") == (good.get("tests"), good.get("failures"))
    assert "1" == bad.get("failures")
    assert 'they "are" <not>' == bad.find("testcase/failure").get("message")


def test_a_failure_anywhere_fails_the_row(documents) -> None:
    """Runs of one runtime on several machines are merged."""
    again = json.loads(json.dumps(documents[1]))
    again["machine"] = "other"
    again["cases"][0]["outcome"] = "pass"

    text = report.as_markdown([*documents, again])

    assert "| MNT-01 | M | mounts are made in the order listed | ✓ | ✗ |" in text
    assert "| bad | 1 | host (Linux 6.1, 2 s), other (Linux 6.1, 2 s) |" in text


def test_parts_of_a_run_are_one_machine(documents) -> None:
    """They ran at one time, so that the longest counts."""
    one, _ = documents
    parts = [one | {"part": [1, 2], "seconds": 2}, one | {"part": [2, 2], "seconds": 5}]

    assert "| good | 1 | host (Linux 6.1, 2 at a time, 5 s) |" in report.as_markdown(parts)


def test_unmet_recommendation_is_reported_separately(documents) -> None:
    """It fails no row, and no run; each report has its own way to say so."""
    bad = documents[1]
    bad["cases"][0] |= {"outcome": "unmet", "level": "S"}

    assert "bad: MNT_01: should: Mounts are made in order." in report.as_table([bad])
    assert "bad: 1 rows: 1 unmet; 2 s" in report.as_table([bad])
    assert "not ok 1 - bad MNT_01: Mounts are made in order. # TODO recommended" in report.as_tap([bad])
    assert "0" == ET.fromstring(report.as_junit([bad]))[0].get("failures")
    assert "| MNT-01 | M | mounts are made in the order listed | ~ |" in report.as_markdown([bad])


def test_findings_are_of_the_version_they_were_seen_in() -> None:
    """Of another one nothing is said."""
    (known, rows), *_ = FINDINGS.items()
    row, sentence = next(iter(rows.items()))
    name, _, series = known.partition(" ")

    assert sentence == finding(f"{name} version {series}.7+x", row)
    assert "" == finding(f"{name} version {series}1.0", row)
    assert "" == finding("another version 1.0", row)
    assert {row for rows in FINDINGS.values() for row in rows} <= set(ROWS)


def test_earlier_runs_are_merged_by_the_command_line(documents, tmp_path: Path) -> None:
    """Status 1, since one failed."""
    (tmp_path / "a.json").write_text(report.as_json(documents[:1]))
    (tmp_path / "b.json").write_text(report.as_json(documents[1:]))

    status, out, err = conformance("--merge", tmp_path / "a.json", tmp_path / "b.json")

    assert (1, "") == (status, err)
    assert report.as_table(documents) == out


# --- words that cases are written in


def test_a_case_asks_for_what_its_row_does_or_says_otherwise() -> None:
    """MNT-06 is a row of what must be; of some options the specification's table says that they should."""
    levels = {case.name: case.level for case in suite.collect()}

    assert ("M", "M", "S") == (levels["MNT_06_ro"], levels["MNT_06_shared"], levels["MNT_06_rro"])
    assert ("S", "M") == (levels["CG_13"], levels["CG_13_no_list"])
    assert set(levels.values()) <= {"M", "M!", "S", "S!", "E", "W", "Y"}


def test_only_cleaning_up_uses_what_the_specification_does_not_know() -> None:
    """`delete` has no options there."""
    found = [path.name for path in (CHECKOUT / "conformance").rglob("*.py") if '"--force"' in path.read_text()]

    assert ["runtime.py"] == found
