"""Documents that are huge: refused in bounded memory and time."""

import subprocess
import sys
import time
from pathlib import Path

from pyoci.compiler import mounts
from tests.support.slowness import SLOWNESS

ROOT = Path(__file__).resolve().parents[2]

FLOODS = """
import sys
sys.path.insert(0, sys.argv[1])
from pyoci import config
from pyoci.errors import ConfigError
head = b'{"ociVersion": "1.0.0", "root": {"path": "x"}, "linux": {"namespaces": [{"type": "mount"}]}, '
for tail in (
    lambda: b'"mounts": [' + b'{"destination": "/x"},' * 100000 + b'{"destination": "/x"}]}',
    lambda: b'"process": {"cwd": "/", "args": ["x"], "env": [' + b'"A=b",' * 1000000 + b'"A=b"]}}',
    lambda: b'"process": {"cwd": "/", "args": [' + b'5,' * 100000 + b'5]}}',
    lambda: b'"mounts": "' + b'\\\\u0041' * 100000 + b'"}',
    lambda: b'"annotations": {"a": "' + b'x' * (50 << 20) + b'"}}',
):
    try:
        config.load(head + tail())
    except ConfigError as error:
        print(len(error.problems), error.problems[0])
# not ru_maxrss, which remembers the process that forked this one
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) // 1024 < 200)
"""


def test_floods() -> None:
    """100000 mounts, a million variables, 50 MiB of annotation: an error each, within 200 MiB and some seconds."""
    command = [sys.executable, "-I", "-c", FLOODS, str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120 * SLOWNESS)

    shown = "A" * 60
    assert [
        "1 /mounts: there are 100001 entries, more than the limit of 16384",
        "1 /process/env: there are 1000001 entries, more than the limit of 65536",
        "100 /process/args/0: expected a string, found 5",
        f'1 /mounts: expected an array, found the string "{shown}…"',
        "1 /: the document has 52428918 bytes, more than the limit of 16777216",
        "True",
    ] == run.stdout.splitlines()


def test_option_with_many_commas() -> None:
    """The time to take it apart grows with its length, not with its square: 0.3 seconds instead of 30."""
    option = "mpol=bind:" + ",".join(["0"] * 1_000_000)
    before = time.process_time()

    mount = mounts.Mount({"destination": "/a", "options": [f"{option},size=1m"]}, 0)

    assert [option, "size=1m"] == mount.data
    assert time.process_time() - before < 5 * SLOWNESS
