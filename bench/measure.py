"""Measure one part and print its result as JSON: `measure.py PART OPTIONS`. bench/bench runs it in the right place."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import parts
from bench.session import Options, warn


def main() -> int:
    part, text = sys.argv[1:]
    options = Options.parse(text)
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        raise SystemExit("bench: run it where cgroup v2 is at /sys/fs/cgroup: see bench/bench")
    if options.realtime:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            warn("cannot use real-time priority")
    print(json.dumps(getattr(parts, part)(options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
