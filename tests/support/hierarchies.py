"""CRIU and a host that has cgroup v1, too."""

import os
import subprocess
from pathlib import Path

CONFIGURATION = Path("/etc/criu/runc.conf")


def keep_out_of_v1() -> None:
    """Let runc's CRIU leave cgroups alone, in this mount namespace.

    runc asks CRIU to save every hierarchy from the container's cgroup downwards. In a hierarchy of v1, the engines'
    machine is in the root. So CRIU would save all cgroups of the host, and make those again that have gone meanwhile.
    """
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    if all(line.startswith("0::") for line in lines):
        return
    os.makedirs(CONFIGURATION.parent, exist_ok=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", CONFIGURATION.parent])
    CONFIGURATION.write_text("manage-cgroups ignore\n")
