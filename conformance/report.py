"""Results as a table, TAP, JUnit, JSON, or Markdown."""

import json
import os
import platform
import re
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from conformance.findings import finding
from conformance.rows import AREAS, RELAXED, ROWS, UNREACHABLE
from conformance.suite import ERROR, FAIL, MISSING, PASS, UNMET

UNTESTED = "untested"
LONGEST = 240  # of what was seen, in the document
WORSE = (ERROR, FAIL, UNMET, PASS, MISSING, UNTESTED)  # which of several outcomes counts for a row
SIGNS = {PASS: "✓", FAIL: "✗", UNMET: "~", MISSING: "–", ERROR: "!", UNTESTED: " "}


def outcome_of(outcomes: "list[str]") -> str:
    """The outcome of a row from those of its cases: one failure fails it."""
    for outcome in WORSE:
        if outcome in outcomes:
            return outcome
    return UNTESTED


def document(
    runtime: str, version: str, results: "list[Any]", seconds: float, part: "tuple[int, int]" = (1, 1)
) -> "dict[str, Any]":
    """What `--format json` writes for one runtime. `part` is which of how many parts of a run this is."""
    return {
        "runtime": runtime,
        "version": version,
        "kernel": platform.release(),
        "machine": os.environ.get("CONFORMANCE_MACHINE", "host"),
        "part": part,
        "seconds": round(seconds, 1),
        "cases": [case for result in results for case in result.to_dicts()],
    }


def rows_of(cases: "list[dict[str, Any]]") -> "dict[str, str]":
    """The outcome of every row of the specification."""
    by_row: dict[str, list[str]] = {row: [] for row in ROWS}
    for case in cases:
        by_row[case["row"]].append(case["outcome"])
    return {row: outcome_of(outcomes) for row, outcomes in by_row.items()}


def as_table(documents: "list[dict[str, Any]]") -> str:
    """Each row beside each runtime, then what is wrong, then counts."""
    names = [name_of(document) for document in documents]
    outcomes = [rows_of(document["cases"]) for document in documents]
    tried = [row for row in ROWS if any(case["row"] == row for document in documents for case in document["cases"])]
    width = max(len(name) for name in names)
    lines = []
    for row in tried:
        signs = "  ".join(f"{SIGNS[found[row]]:^{width}}" for found in outcomes)
        lines.append(f"{row:8} {ROWS[row].level:3} {signs}  {ROWS[row].what}")
    lines = [f"{'row':12} {'  '.join(f'{name:^{width}}' for name in names)}", *lines, ""]
    for document in documents:
        for case in document["cases"]:
            if case["outcome"] in (FAIL, ERROR, UNMET):
                level = "should: " if case["outcome"] == UNMET else ""
                lines.append(f"{name_of(document)}: {case['name']}: {level}{case['sentence']}\n    {case['message']}")
    for document, found in zip(documents, outcomes, strict=True):
        counts = {kind: sum(found[row] == kind for row in tried) for kind in (PASS, FAIL, UNMET, ERROR, MISSING)}
        told = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
        lines.append(f"{name_of(document)}: {len(tried)} rows: {told}; {document['seconds']:.0f} s")
    return "\n".join(lines) + "\n"


def as_tap(documents: "list[dict[str, Any]]") -> str:
    """TAP version 13, a test for each case of each runtime; what is recommended and not done is a TODO."""
    lines = []
    for document in documents:
        for case in document["cases"]:
            ok = "not ok" if case["outcome"] in (FAIL, ERROR, UNMET) else "ok"
            directive = {MISSING: f" # SKIP {case['message']}", UNMET: " # TODO recommended"}.get(case["outcome"], "")
            lines.append(f"{ok} {len(lines) + 1} - {name_of(document)} {case['name']}: {case['sentence']}{directive}")
            if ok == "not ok":
                lines[-1] += "\n  ---\n  message: " + json.dumps(case["message"]) + "\n  ..."
    return "\n".join(["TAP version 13", f"1..{len(lines)}", *lines]) + "\n"


def as_junit(documents: "list[dict[str, Any]]") -> str:
    """JUnit's XML: a suite for each runtime. It knows no recommendations: what is not done of them is output."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<testsuites>"]
    for document in documents:
        cases = document["cases"]
        counts = {kind: sum(case["outcome"] == kind for case in cases) for kind in (FAIL, ERROR, MISSING)}
        lines.append(
            f'<testsuite name={quoteattr(name_of(document))} tests="{len(cases)}" failures="{counts[FAIL]}"'
            f' errors="{counts[ERROR]}" skipped="{counts[MISSING]}" time="{document["seconds"]}">'
        )
        for case in cases:
            inside = {
                FAIL: f"<failure message={quoteattr(case['message'])}/>",
                ERROR: f"<error message={quoteattr(case['message'])}/>",
                MISSING: f"<skipped message={quoteattr(case['message'])}/>",
                UNMET: f"<system-out>{escape('recommended, and not done: ' + case['message'])}</system-out>",
            }.get(case["outcome"], "")
            at = f"classname={quoteattr(case['row'])} name={quoteattr(case['name'])}"
            lines.append(f'<testcase {at} time="{case["seconds"]}">{inside}</testcase>')
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def as_json(documents: "list[dict[str, Any]]") -> str:
    return json.dumps(documents, indent=1) + "\n"


LEGEND = (
    "# Conformance",
    "",
    "`tools/conformance` writes this page. [conformance/README.md](../conformance/README.md) explains the suite. The rows are",
    "requirements of the OCI runtime specification 1.3: M must, S should, E must fail, W must warn, Y may.",
    "✓ passed. ✗ failed. ~ only a recommendation is unmet. – not judged: the machine lacks what the row needs, or the runtime",
    "does not use what it may do. Blank: no test.",
)
"""The first lines of a report in Markdown, with the meaning of its signs."""


def as_markdown(documents: "list[dict[str, Any]]") -> str:
    """docs/conformance.md: rows beside runtimes, counts for each area, a sentence on every failure, what no test
    reaches.

    Runs of one runtime on several machines are one column: a row counts as passed where it passed somewhere and failed
    nowhere.
    """
    names = list(dict.fromkeys(name_of(document) for document in documents))
    merged = {name: [case for d in documents if name_of(d) == name for case in d["cases"]] for name in names}
    outcomes = {name: rows_of(cases) for name, cases in merged.items()}
    lines = [
        *LEGEND,
        "",
        "| runtime | version | machines |",
        "|-|-|-|",
    ]
    for name in names:
        runs = [d for d in documents if name_of(d) == name]
        lines.append(f"| {name} | {runs[0]['version']} | {_machines(runs)} |")
    lines += ["", "## Counts", "", _head("area", names), _rule(names)]
    for area, title in AREAS.items():
        rows = [row for row in ROWS if ROWS[row].area == area]
        lines.append(_line(title, [_count([outcomes[name][row] for row in rows]) for name in names]))
    lines.append(_line("**all**", [f"**{_count(list(outcomes[name].values()))}**" for name in names]))
    lines += ["", "Rows that passed, of those judged; then failed, unmet and not judged rows.", "", "## Rows"]
    for area, title in AREAS.items():
        lines += ["", f"### {title}", "", _head("row |  | requirement", names), "|-" * (3 + len(names)) + "|"]
        for row, about in ROWS.items():
            if about.area == area:
                signs = [SIGNS[outcomes[name][row]].strip() for name in names]
                lines.append(_line(f"{row} | {about.level} | {about.what}", signs))
    lines += ["", "## Failures"]
    for name in names:
        version = next(d["version"] for d in documents if name_of(d) == name)
        lines += ["", f"### {name}", ""]
        failed = [row for row, outcome in outcomes[name].items() if outcome == FAIL]
        lines += [_failure(version, row, merged[name], FAIL) for row in failed] or ["None."]
        unmet = [row for row in ROWS if any(c["row"] == row and c["outcome"] == UNMET for c in merged[name])]
        if unmet:
            lines += ["", "Unmet recommendations:", ""]
            lines += [_failure(version, row, merged[name], UNMET) for row in unmet]
    lines += ["", "## Relaxed rows", "", "| row | why the suite asks for less than the specification |", "|-|-|"]
    lines += [f"| {row} | {why} |" for row, why in RELAXED.items()]
    lines += ["", "## Rows that no test can reach", "", "| row | why |", "|-|-|"]
    lines += [f"| {row} | {why} |" for row, why in UNREACHABLE.items()]
    lines += ["", "## Features that these machines lack", ""]
    lines += _lacking(outcomes, merged, names)
    return "\n".join(lines) + "\n"


def _machines(runs: "list[dict[str, Any]]") -> str:
    """Where a runtime ran, and for how long; parts of one run ran at one time, and the longest counts."""
    seconds: dict[str, list[float]] = {}
    for run in runs:
        release = ".".join(run["kernel"].split(".")[:2])
        _, of = run["part"]
        which = f"Linux {release}" if of == 1 else f"Linux {release}, {of} at a time"
        seconds.setdefault(f"{run['machine']} ({which}", []).append(run["seconds"])
    return ", ".join(f"{where}, {max(took):.0f} s)" for where, took in seconds.items())


def _failure(version: str, row: str, cases: "list[dict[str, Any]]", outcome: str) -> str:
    told = [c for c in cases if c["row"] == row and c["outcome"] == outcome]
    seen = "; ".join(dict.fromkeys(_short(c["message"]) for c in told[:3]))
    failed = any(c["row"] == row and c["outcome"] == FAIL for c in cases)
    sentence = finding(version, row) if outcome == FAIL or not failed else ""  # which is about what is worse
    what = sentence or " ".join(dict.fromkeys(c["sentence"] for c in told[:3]))
    return f"- **{row}** ({ROWS[row].spec}): {what} Seen: {seen}".replace("\n", " ")


def _short(message: str) -> str:
    message = re.sub(r"/\S*?/conformance-\w+", "…", message)  # the directory of this run
    return message if len(message) <= LONGEST else message[:LONGEST] + "…"


def _lacking(outcomes: Any, merged: Any, names: "list[str]") -> "list[str]":
    lines = []
    for row in ROWS:
        if any(outcomes[name][row] == MISSING for name in names):
            reasons = dict.fromkeys(
                _reason(case["message"])
                for name in names
                for case in merged[name]
                if case["row"] == row and case["outcome"] == MISSING
            )
            who = "" if all(outcomes[name][row] == MISSING for name in names) else " (some runtimes)"
            lines.append(f"- {row}{who}: {'; '.join(reasons)}")
    return lines or ["Nothing."]


def _reason(message: str) -> str:
    """Why a row was not judged, without what was seen of a property that the runtime does not claim to know."""
    claim, colon, _ = message.partition(" alone: ")
    return f"{claim} alone" if colon else _short(message)


def _count(outcomes: "list[str]") -> str:
    counts = {kind: outcomes.count(kind) for kind in (FAIL, UNMET, ERROR)}
    passed = outcomes.count(PASS)
    judged = passed + counts[FAIL] + counts[UNMET]
    counts[MISSING] = len(outcomes) - judged - counts[ERROR]
    more = [f"{number} {SIGNS[kind]}" for kind, number in counts.items() if number]
    return ", ".join([f"{passed}/{judged}", *more])


def _head(first: str, names: "list[str]") -> str:
    return _line(first, names)


def _rule(names: "list[str]") -> str:
    return "|-" * (1 + len(names)) + "|"


def _line(first: str, cells: "list[str]") -> str:
    return f"| {first} | {' | '.join(cells)} |"


def name_of(document: "dict[str, Any]") -> str:
    """The last word of the runtime's path."""
    return document["runtime"].split()[0].rpartition("/")[2]


FORMATS = {"table": as_table, "tap": as_tap, "junit": as_junit, "json": as_json, "markdown": as_markdown}
