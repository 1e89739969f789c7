"""A dockerd with --userns-remap: all containers have the same user namespace mappings."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker import Docker, capabilities, separate

FIRST = 200000  # of the host's ids that containers have
LINES = {
    "passwd": "remap:*:901:901::/:/bin/sh\n",
    "group": "remap:*:901:\n",
    "subuid": f"remap:{FIRST}:65536\n",
    "subgid": f"remap:{FIRST}:65536\n",
}


@pytest.fixture
def remapped(daemon: Docker, runtime: str, tmp_path: Path) -> Iterator[Docker]:
    """A separate dockerd, whose containers have the ids of a user `remap`."""
    for name, line in LINES.items():
        path, copy = Path("/etc") / name, tmp_path / name
        copy.write_text(path.read_text() + line)
        subprocess.check_call(["mount", "--bind", copy, path])
    with separate(Docker, "remap", runtime, "--userns-remap", "remap") as docker:
        yield docker
    for name in LINES:
        subprocess.check_call(["umount", f"/etc/{name}"])


def test_life(remapped) -> None:
    """dockerd --userns-remap: run, exec, pause, stop; root is nobody's outside, but for --userns host."""
    remapped("run", "-d", "--name", "box", "busybox", "sleep", "99")

    pid = remapped.inspect("box")["State"]["Pid"]
    assert FIRST == os.stat(f"/proc/{pid}").st_uid
    assert f"0 {FIRST} 65536" == " ".join(remapped("exec", "box", "cat", "/proc/self/uid_map").split())
    assert "0" == remapped("exec", "box", "sh", "-c", "touch /root/new && stat -c %u /root/new")
    remapped("pause", "box")
    assert "paused" == remapped.state("box")
    remapped("unpause", "box")
    remapped("stop", "--time", "0", "box")
    assert "0 0 4294967295" == " ".join(
        remapped("run", "--rm", "--userns", "host", "busybox", "cat", "/proc/self/uid_map").split()
    )


def test_privileged(remapped) -> None:
    """dockerd --userns-remap: run --privileged is for --userns host alone."""
    refused = remapped("run", "--rm", "--privileged", "busybox", "true", status=125)
    assert "privileged mode is incompatible with user namespaces" in refused

    out = remapped("run", "--rm", "--privileged", "--userns", "host", "busybox", "cat", "/proc/self/status")
    assert capabilities(Path("/proc/self/status").read_text()) == capabilities(out)
