"""The API is tested with its own pytest plugin and the executable that tools/build makes."""

import shutil
import stat
from pathlib import Path

import pytest

from tests.support.runtime import cgroup_mount

# crun refuses to run where cgroup v2 is beside v1.
_CRUN_IN_HYBRID = """#!/bin/sh
exec unshare --mount sh -c 'mount --bind {unified} /sys/fs/cgroup && exec crun "$@"' sh "$@"
"""


@pytest.fixture(scope="session")
def runtime_executable(pyoci: str) -> str:
    """The executable under test."""
    return pyoci


@pytest.fixture(scope="session")
def crun(tmp_path_factory: pytest.TempPathFactory) -> str:
    """crun, in whatever way it runs here."""
    found = shutil.which("crun")
    if found is None:
        pytest.skip("no crun")
    if cgroup_mount() == "/sys/fs/cgroup":
        return found
    script = tmp_path_factory.mktemp("crun") / "crun"
    script.write_text(_CRUN_IN_HYBRID.format(unified=cgroup_mount()))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def crun_makes_cgroups() -> bool:
    """Whether crun can create cgroups here: not beside cgroup v1, and its device filter needs CAP_SYS_RESOURCE."""
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.partition("CapEff:")[2].split()[0], 16)
    return Path("/sys/fs/cgroup/cgroup.procs").exists() and bool(capabilities >> 24 & 1)
