"""The command line: `python3 -m conformance --runtime RUNTIME [--runtime RUNTIME …]`.

Judges OCI runtimes by their command line alone. Needs root, Python 3.11, a C compiler with a static libc; nothing of
any runtime.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from conformance import report, suite
from conformance.rows import RELAXED, ROWS, UNREACHABLE
from conformance.runtime import version


def main() -> int:
    options = parse(sys.argv[1:])
    if options.merge:
        documents = [document for path in options.merge for document in json.loads(Path(path).read_text())]
        return write(options, documents)
    first, step = options.part
    wanted = suite.collect(options.id)[first - 1 :: step]
    if options.list:
        for case in wanted:
            print(f"{case.name:40} {case.level:3} {case.sentence}")
        for row, why in UNREACHABLE.items():
            print(f"{row:40} {ROWS[row].level:3} no test: {why}")
        for row, why in RELAXED.items():
            print(f"{row:40} {ROWS[row].level:3} not all: {why}")
        return 0
    if not wanted:
        print(f"conformance: no case is named {', '.join(options.id)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("conformance: runtimes need root, and so does this", file=sys.stderr)
        return 2
    suite.adopt_orphans()
    documents = []
    for command_line in options.runtime or ["pyoci"]:
        progress = Progress(command_line, len(wanted))
        known_as = version(command_line)
        started = time.monotonic()
        results = suite.run(command_line, wanted, options.jobs, progress.tell)
        progress.end()
        seconds = time.monotonic() - started
        documents.append(report.document(command_line, known_as, results, seconds, options.part))
    return write(options, documents)


def write(options: argparse.Namespace, documents: "list[dict]") -> int:
    """The report; 1 if a row failed."""
    text = report.FORMATS[options.format](documents)
    if options.output:
        Path(options.output).write_text(text)
    else:
        sys.stdout.write(text)
    return int(any(c["outcome"] in (suite.FAIL, suite.ERROR) for document in documents for c in document["cases"]))


def parse(words: "list[str]") -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m conformance", description=__doc__, allow_abbrev=False)
    parser.add_argument("--runtime", action="append", help="its path, or a command line; may be repeated")
    parser.add_argument(
        "--id", action="append", default=[], help="a row (MNT-10), an area (MNT) or a case; may be repeated"
    )
    parser.add_argument("--format", choices=report.FORMATS, default="table")
    parser.add_argument("--output", help="write the report to this file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at a time (default: %(default)s)")
    parser.add_argument(
        "--part",
        type=part,
        default=(1, 1),
        metavar="N/M",
        help="every M-th case, from the N-th on: for M machines at a time, and then --merge",
    )
    parser.add_argument("--list", action="store_true", help="show the cases instead of running them")
    parser.add_argument("--merge", nargs="+", metavar="JSON", help="report on earlier runs, written with --format json")
    return parser.parse_args(words)


def part(text: str) -> "tuple[int, int]":
    """`2/3` as (2, 3)."""
    number, _, of = text.partition("/")
    if not 1 <= int(number) <= int(of):
        raise ValueError
    return int(number), int(of)


class Progress:
    """A bar on a terminal; elsewhere nothing."""

    def __init__(self, what: str, total: int) -> None:
        self.what = what.split(maxsplit=1)[0].rpartition("/")[2]
        self.total = total
        self.done = self.failed = 0
        self.shown = sys.stderr.isatty()

    def tell(self, result: suite.Result) -> None:
        self.done += 1
        self.failed += result.outcome in (suite.FAIL, suite.ERROR)
        if self.shown:
            full = 30 * self.done // self.total
            bar = "█" * full + "░" * (30 - full)
            failed = f", {self.failed} failed" if self.failed else ""
            sys.stderr.write(f"\r\033[K{self.what} {bar} {self.done}/{self.total}{failed}  {result.case.name}")
            sys.stderr.flush()

    def end(self) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")


if __name__ == "__main__":
    sys.exit(main())
