"""Tests as root under kernels of Debian's: what user-mode Linux has not, and what only an old or a new kernel does.

`qemu` is the tool for it; it is tested first. Its processor is emulated, so a boot is worth many tests.
"""

import os

import pytest

from tests.support.machine import QEMU, environment, on_qemu, run

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@on_qemu
def test_the_machine_runs_a_command_as_here(tmp_path, monkeypatch):
    """Its folder, its output, its status and some of its environment; what it writes is lost. Nothing of it is left."""
    monkeypatch.setenv("PYOCI_TEST", "it's so")
    monkeypatch.setenv("UNSAID", "x")
    script = """
        echo out; echo err >&2; pwd; echo "$PYOCI_TEST $UNSAID"; cat here; echo there >here; cat here; uname -r
        cat /sys/fs/cgroup/cgroup.controllers; ls /proc/self/ns/time; stat -f -c %T $TMPDIR; modprobe dummy; cat; exit 7
    """
    (tmp_path / "here").write_text("here\n")
    (tmp_path / "jobs").mkdir()

    command = [QEMU, "--kernel", "6.1", "--append", "said=so", "bash", "-c", script + "grep -c said=so /proc/cmdline"]
    status, out, err = run(*command, cwd=tmp_path, env=environment(tmp_path / "jobs"))

    assert (7, "err\n") == (status, err)
    out, folder, said, *files, release, controllers, time, disk = out.splitlines()
    assert ["out", str(tmp_path), "it's so "] == [out, folder, said]
    assert ["here", "there"] == files
    assert release.startswith("6.1.")
    assert set("cpuset cpu io memory hugetlb pids rdma misc".split()) == set(controllers.split())
    assert ["/proc/self/ns/time", "ext2/ext3"] == [time, disk]
    assert "here\n" == (tmp_path / "here").read_text()
    assert [] == list((tmp_path / "jobs").iterdir())
    assert "" == run("pgrep", "--full", f"job={tmp_path}")[1]


@on_qemu
def test_a_machine_that_does_not_boot_is_tried_again(tmp_path):
    """Three times, and each time what the kernel said is told."""
    status, out, err = run(QEMU, "--append", "rdinit=/no/such/init", "true", env=environment(tmp_path))

    assert (125, "") == (status, out)
    assert 2 == err.count("qemu: the machine did not boot, and is tried again: ")
    assert 2 < err.count("Kernel panic - not syncing: ")
    assert [] == list(tmp_path.iterdir())
