"""Tests as root under kernels of Debian's: what user-mode Linux has not, and what only an old or a new kernel does.

`qemu` is the tool for it; it is tested first. Its processor is emulated, so a boot is worth many tests.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import probe
from tests.support.kernels import FEATURES
from tests.support.machine import CHECKOUT, QEMU, environment, on_qemu, pytest_command, run
from tests.support.runtime import wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

# What runs in machines: the oldest kernel with AppArmor, and a newer one with SELinux.
COMMON = [
    "test_kernel.py",
    "test_labels.py",
    "test_time.py",
    "test_idmap.py",
    "test_cgroups_limits.py",
    "test_long_options.py",
]
CONFINED = [  # restored containers
    f"test_checkpoint_isolation.py::{test}"
    for test in ("test_apparmor_profile", "test_limits_of_the_config", "test_seccomp_and_capabilities")
]
OLD = (
    ["--kernel", "6.1"],
    [*COMMON, "test_cgroups.py", "test_cgroups_resources.py", *CONFINED],
    "not selinux and not mount_label",
)
NEW = (
    ["--kernel", "6.12", "--append", "security=selinux selinux=1 enforcing=0", CHECKOUT / "tests/vm/selinux"],
    [*COMMON, "test_checkpoint_memory.py"],
    "not apparmor",
)
# Of what runs in both, and in one of them: tests that have no other machine.
EVERYWHERE = [
    *("test_cpuset_is_written", "test_huge_pages_beyond_the_limit_are_refused", "test_rdma_limits_are_written"),
    "test_exec_says_that_memory_is_short",
    *("test_offsets[True]", "test_clocks_of_another_container", "test_a_new_tmpfs"),
    *(f"test_what_a_newer_kernel_brings[{feature.since[0]}.{feature.since[1]}]" for feature in FEATURES),
]
ONLY = {
    "old": [
        *("test_apparmor_profile_in_a_user_namespace", "test_apparmor_confines_the_runtime_itself[True]"),
        *("test_apparmor_profile", "test_limits_of_the_config", "test_seccomp_and_capabilities[False-1000]"),
    ],
    "new": [
        *("test_selinux_label[0-True]", "test_mount_label", "test_a_tmpfs_with_a_copy"),
        *("test_a_chain_of_pre_dumps", "test_lazy_pages", "test_a_page_server"),
    ],
}


@on_qemu
def test_the_machine_runs_a_command_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes on directory, output, status and some of the environment. Its changes are lost, and nothing is left."""
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

    # the tool tells that it fetches a kernel, or boots again
    told = [line for line in err.splitlines() if not line.startswith("qemu: ")]
    assert (7, ["err"]) == (status, told)
    out, folder, said, *files, release, controllers, time, disk = out.splitlines()
    assert ["out", str(tmp_path), "it's so "] == [out, folder, said]
    assert ["here", "there"] == files
    assert release.startswith("6.1.")
    assert set("cpuset cpu io memory hugetlb pids rdma misc".split()) == set(controllers.split())
    assert ["/proc/self/ns/time", "ext2/ext3"] == [time, disk]
    assert "here\n" == (tmp_path / "here").read_text()
    assert [] == list((tmp_path / "jobs").iterdir())
    wait_for(lambda: "" == run("pgrep", "--full", f"job={tmp_path}")[1], "processes of it are left")


@on_qemu
def test_a_machine_that_does_not_boot_is_tried_again(tmp_path: Path) -> None:
    """It tries three times, and prints the kernel's last message each time."""
    status, out, err = run(QEMU, "--append", "rdinit=/no/such/init", "true", env=environment(tmp_path))

    assert (125, "") == (status, out)
    assert 2 == err.count("qemu: the machine did not boot, and is tried again: ")
    assert 2 < err.count("Kernel panic - not syncing: ")
    assert [] == list(tmp_path.iterdir())


@on_qemu
def test_the_tests_as_root_pass_in_machines(pyoci: str, criu: Path, tmp_path: Path) -> None:
    """On the oldest kernel and on a newer one, each with its security module."""
    assert os.access(pyoci, os.X_OK)
    assert os.access(criu, os.X_OK)
    probe.build()  # here, where it does not take half a minute

    def boot(machine):
        options, modules, keywords = machine
        command = [QEMU, "--timeout", "1200", *options, *pytest_command(modules, keywords)]
        return run(*command, cwd=CHECKOUT, env=environment(tmp_path))

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(boot, (OLD, NEW)))

    for name, (status, out, err) in zip(("old", "new"), results, strict=True):
        assert 0 == status, out[-20_000:] + err
        for test in EVERYWHERE + ONLY[name]:
            assert f"::{test} PASSED" in out, f"{test} did not run in the {name} machine"
