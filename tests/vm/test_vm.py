"""Tests as root on a machine that has what this host may lack: cgroup v2 with every controller, an older kernel.

`uml` and `unified` are this directory's tools for it; they are tested first.
"""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import rootfs
from tests.support.machine import (
    CHECKOUT,
    UML,
    UNIFIED,
    environment,
    host_mounts,
    on_uml,
    pytest_command,
    run,
)
from tests.support.runtime import wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

# What runs in machines, each with one CPU: these modules of tests/root, without the tests that KEYWORDS exclude.
MACHINES = [
    [
        "test_bundles.py",
        "test_devices.py",
        "test_net_devices.py::test_a_device_moves_with_all_that_is_its_own",
        "test_net_devices.py::test_kinds_of_device",
        "test_intel_rdt.py",
    ],
    [
        *(
            "test_kernel.py",
            "test_lifecycle.py",
            "test_cgroups.py",
            "test_cgroups_devices.py",
            "test_cgroups_limits.py",
        ),
        *("test_cgroups_owner.py", "test_cgroups_resources.py", "test_running.py"),
    ],
]
# User-mode Linux panics if a process in a cgroup without memory dies while the kernel copies to it: handle_page_fault()
# reports success without a page, and maybe_map() follows the null pointer. test_qemu.py runs that test.
KEYWORDS = "not as-sent and not test_exec_says_that_memory_is_short"


@on_uml
def test_the_machine_runs_a_command_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes on directory, output, status and some of the environment. Its changes are lost."""
    monkeypatch.setenv("PYOCI_TEST", "it's so")
    script = """
        echo out; echo err >&2; pwd; echo "$PYOCI_TEST $UNSAID"; cat here; echo there >here; cat here
        cat /sys/fs/cgroup/cgroup.controllers; cat; exit 7
    """
    (tmp_path / "here").write_text("here\n")
    monkeypatch.setenv("UNSAID", "x")

    status, out, err = run(UML, "bash", "-c", script, cwd=tmp_path)

    assert (7, "err\n") == (status, err)
    assert ["out", str(tmp_path), "it's so ", "here", "there", "cpu io memory pids"] == out.splitlines()
    assert "here\n" == (tmp_path / "here").read_text()


# What each script takes of the host, and the Debian packages that have it.
NEEDED = {
    "uml": {"linux.uml": "user-mode-linux", "insmod": "kmod", "ip": "iproute2"},
    "uml --systemd": {"/lib/systemd/systemd": "systemd", "dbus-daemon": "dbus"},
    "qemu": {"qemu-system-x86_64": "qemu-system-x86", "depmod": "kmod", "mkfs.ext4": "e2fsprogs", "ip": "iproute2"},
    "systemd": {"/lib/systemd/systemd": "systemd", "dbus-daemon": "dbus", "ip": "iproute2"},
}


@pytest.mark.parametrize(
    ("script", "program", "package"),
    [(script, program, package) for script, needed in NEEDED.items() for program, package in needed.items()],
)
def test_a_program_that_is_missing_is_named(tmp_path: Path, script: Any, program: Any, package: Any) -> None:
    """Before anything starts, with the package that has it."""
    # `command -v` of the script is ours, and knows all programs but one
    (tmp_path / "env").write_text(f'command() {{ [ "$2" != {program} ]; }}\n')
    words = [UML.parent / script.split()[0], *script.split()[1:], "true"]

    status, out, err = run(*words, env={**environment(tmp_path), "BASH_ENV": str(tmp_path / "env")})

    assert (125, "") == (status, out)
    assert f"cannot run a machine: there is no {program} (hint: apt-get install {package})\n" == err
    assert ["env"] == [path.name for path in tmp_path.iterdir()]


@on_uml
def test_the_machine_ends_after_its_time(tmp_path: Path) -> None:
    """With all its processes, and its output until then."""
    started = time.monotonic()

    status, out, err = run(UML, "--timeout", "10", "sh", "-c", "echo begun; exec sleep 999", env=environment(tmp_path))

    assert (124, "begun\n", "uml: ended after 10 seconds\n") == (status, out, err)
    assert time.monotonic() - started < 600  # of the 999 that it would take
    assert [] == list(tmp_path.iterdir())
    wait_for(lambda: "" == run("pgrep", "--full", f"job={tmp_path}")[1], "processes of it are left")


def test_unified_shows_cgroup_v2_alone_and_leaves_the_host_as_it_is(tmp_path: Path) -> None:
    """At /sys/fs/cgroup, with the options that it has."""
    before = host_mounts(tmp_path)
    (options,) = {line.rpartition(" ")[2] for line in before if " - cgroup2 " in line}

    status, out, err = run(UNIFIED, "sh", "-c", "grep -w -e cgroup -e cgroup2 /proc/self/mountinfo; exit 7")

    assert (7, "") == (status, err)
    (line,) = out.splitlines()
    assert "/sys/fs/cgroup" == line.split()[4]
    assert ["cgroup2", options] == line.partition(" - ")[2].split()[::2]
    assert before == host_mounts(tmp_path)


@on_uml
def test_the_tests_as_root_pass_in_machines(pyoci: str, tmp_path: Path) -> None:
    """What the host has no controllers for runs there."""
    assert os.access(pyoci, os.X_OK)
    rootfs.debian()  # a machine has no network

    def boot(modules):
        return run(UML, "--timeout", "900", *pytest_command(modules, KEYWORDS), cwd=CHECKOUT, env=environment(tmp_path))

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(boot, MACHINES))

    for status, out, err in results:
        assert 0 == status, out[-20_000:] + err
    out = "".join(out for _, out, _ in results)
    for engine in ("containerd-ctr", "docker-default", "docker-privileged", "docker-readonly-user", "podman-default"):
        for base in ("busybox", "debian"):
            assert re.search(rf"the_program_runs\S*\[{base}-{engine}-host\] PASSED", out), engine
    assert "test_memory_limits_are_written PASSED" in out
    assert "test_intel_rdt.py::test_a_group_of_its_own PASSED" in out
