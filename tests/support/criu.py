"""A CRIU that works on this kernel: Debian sid's, run by the script build/criu/criu.

`tools/criu` fetches it at the first use. Machines of tests/vm have no network, so whoever boots one calls `program`
first.
"""

import functools
import os
import subprocess
from pathlib import Path

from tests.support.runtime import status_of

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT = 600  # seconds to fetch it

# Features of the kernel, as `criu check --feature` calls them.
DIRTY_TRACKING = "mem_dirty_track"  # for pre-dumps
LAZY_PAGES = "uffd-noncoop"

_CAP_SYS_RESOURCE = 24


@functools.cache
def program() -> Path:
    """The absolute path of an executable `criu`. Fetches it into build/criu at the first use, from the network."""
    fetched = subprocess.run(
        [CHECKOUT / "tools/criu", "--fetch"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert fetched.returncode == 0, f"cannot fetch criu: {fetched.stderr}"
    return Path(fetched.stdout.strip())


@functools.cache
def supports(feature: str) -> bool:
    """Whether criu and this kernel support a feature, such as `DIRTY_TRACKING`."""
    checked = subprocess.run([program(), "check", "--feature", feature], capture_output=True, text=True, check=False)
    return checked.returncode == 0


def has_all_privileges() -> bool:
    """Whether root has CAP_SYS_RESOURCE here. CRIU needs it for other users' processes, and for large pipes."""
    return bool(int(status_of()["CapEff"], 16) >> _CAP_SYS_RESOURCE & 1)


def environment() -> dict[str, str]:
    """This environment with that `criu` first in PATH, as runc and crun look for it."""
    return {**os.environ, "PATH": f"{program().parent}:{os.environ['PATH']}"}
