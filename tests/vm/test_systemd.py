"""The systemd driver where systemd is the first process: on the host's kernel in namespaces, and with every controller.

`systemd`, and `--systemd` of the other machines, are this directory's tools for it.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import CHECKOUT, SYSTEMD, UML, environment, host_mounts, on_uml, pytest_command, run

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        not os.path.exists("/lib/systemd/systemd") or not shutil.which("dbus-daemon"), reason="needs systemd and a bus"
    ),
]


def test_the_machine_runs_a_command_as_a_service(tmp_path: Path) -> None:
    """It passes on directory, output and status. Nothing is left on the host, whose mounts and cgroups stay the
    same.
    """
    script = (
        "echo out; echo err >&2; cat /proc/1/comm; pwd; cat /proc/self/cgroup | grep 0::; ls . /sys/fs/cgroup; exit 7"
    )
    before = host_mounts(tmp_path)

    status, out, err = run(SYSTEMD, "bash", "-c", script, cwd=tmp_path, env=environment(tmp_path))

    assert (7, "err\n") == (status, err)
    assert ["out", "systemd", str(tmp_path), "0::/system.slice/job.service"] == out.splitlines()[:4]
    assert {"init.scope", "system.slice"} <= set(out.splitlines())
    assert before == host_mounts(tmp_path)
    assert [] == list(tmp_path.iterdir())
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    (job,) = (line for line in out.splitlines() if line.startswith("pyoci-systemd."))  # and its cgroup has this name
    assert not Path(mount, job).exists()


def test_the_machine_ends_after_its_time(tmp_path: Path) -> None:
    status, out, err = run(
        SYSTEMD, "--timeout", "10", "sh", "-c", "echo begun; exec sleep 99", env=environment(tmp_path)
    )

    assert (124, "begun\n", "systemd: ended after 10 seconds\n") == (status, out, err)
    assert [] == list(tmp_path.iterdir())


def test_kernel_parameters_are_not_the_machines(tmp_path: Path) -> None:
    """But for the network's, which is its own."""
    script = "echo 1 >/proc/sys/vm/overcommit_memory; echo 1 >/proc/sys/net/ipv4/ip_forward && echo written"

    status, out, err = run(SYSTEMD, "sh", "-c", script, env=environment(tmp_path))

    assert (0, "written\n") == (status, out)
    assert "Read-only file system" in err


def assert_the_driver_works(tmp_path, *machine: Any, modules: tuple[str, ...] = ("test_systemd.py",)):
    """The output of its tests in a machine."""
    command = [*machine, "--timeout", "900", *pytest_command(modules)]

    status, out, err = run(*command, cwd=CHECKOUT, env=environment(tmp_path))

    assert 0 == status, out[-20_000:] + err
    assert "test_a_life PASSED" in out
    return out


def test_the_systemd_driver(pyoci: str, criu: Path, tmp_path: Path) -> None:
    out = assert_the_driver_works(tmp_path, SYSTEMD, modules=("test_systemd.py", "test_checkpoint_systemd.py"))

    assert "test_a_restored_container_is_in_a_scope PASSED" in out


@on_uml
def test_the_systemd_driver_with_every_controller(pyoci: str, tmp_path: Path) -> None:
    """This machine has what the host may have no controllers for."""
    out = assert_the_driver_works(tmp_path, UML, "--systemd")

    assert "test_update_sets_properties_and_files PASSED" in out
    assert ["test_with_a_bootstrap_process_and_user_namespaces[time]"] == re.findall(r"::(\S+) SKIPPED", out)
