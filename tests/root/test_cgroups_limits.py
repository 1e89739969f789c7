"""Limits that the kernel enforces. Each test needs its controller in the v2 hierarchy of this host."""

import itertools
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import hierarchy
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.resources import writes
from pyoci.errors import CgroupError
from tests.support.runtime import Bundle, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

NUMBERS = itertools.count()
MIB = 1 << 20


def host(path: str) -> Path:
    """The directory of a path from the mount."""
    return pathlib.Path(hierarchy.find_mount() + path)


def skip_if(condition, reason):
    """Skip on such a host: another one, in tests/vm, has what is missing here."""

    def mark(test):
        return pytest.mark.may_skip(reason)(pytest.mark.skipif(condition, reason=reason)(test))

    return mark


def needs(*names: Any):
    """Skip where the v2 hierarchy lacks one of these controllers."""
    have = host("/cgroup.controllers").read_text().split()
    return skip_if(not set(names) <= set(have), f"no {' '.join(names)} in cgroup v2")


@pytest.fixture
def limited() -> Iterator[Callable[..., Any]]:
    """A function that makes a cgroup with some resources, two levels below the root."""
    made = []

    def make(resources):
        wanted = writes(resources)
        cgroup = Cgroup.create(f"/pyoci-test-limits-{os.getpid()}/{next(NUMBERS)}", "id", wanted)
        made.append(cgroup)
        cgroup.apply(wanted)
        return cgroup

    yield make
    for cgroup in reversed(made):
        cgroup.destroy(kill=True)


def content(cgroup, file):
    """What the kernel shows."""
    return (host(cgroup.path) / file).read_text().strip()


def numbers(cgroup, file):
    """A flat-keyed file."""
    return {key: int(value) for key, value in map(str.split, content(cgroup, file).splitlines())}


def run(cgroup: Cgroup, program: str) -> int:
    """Run a Python program inside; its exit status."""
    join = f"open({str(host(cgroup.path) / 'cgroup.procs')!r}, 'w').write('0')\n"
    return subprocess.run([sys.executable, "-I", "-S", "-c", join + program], check=False).returncode


@needs("memory")
def test_memory_limits_are_written(limited: Callable[..., Any]) -> None:
    """CG-31: hard limit, soft limit, and the swap share of the sum."""
    cgroup = limited({"memory": {"limit": 64 * MIB, "swap": 80 * MIB, "reservation": 32 * MIB}})

    assert str(64 * MIB) == content(cgroup, "memory.max")
    assert str(32 * MIB) == content(cgroup, "memory.low")
    assert not (host(cgroup.path) / "memory.swap.max").exists() or str(16 * MIB) == content(cgroup, "memory.swap.max")


@needs("memory")
def test_too_much_memory_is_killed(limited: Callable[..., Any]) -> None:
    """The limit is enforced, without swap as a way round."""
    cgroup = limited({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    status = run(cgroup, f"block = bytearray({96 * MIB})\nfor at in range(0, len(block), 4096): block[at] = 1")

    assert -9 == status
    assert numbers(cgroup, "memory.events")["oom_kill"] == 1


@needs("memory")
def test_check_before_update_refuses_less_than_is_in_use(limited: Callable[..., Any]) -> None:
    """CG-32: no process is killed, and nothing is written at all."""
    cgroup = limited({"memory": {"limit": 128 * MIB}})
    hold = f"import time; block = bytearray({24 * MIB})\nfor at in range(0, len(block), 4096): block[at] = 1\n"
    procs = str(host(cgroup.path) / "cgroup.procs")
    process = subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"open({procs!r}, 'w').write('0')\n{hold}print(flush=True)\ntime.sleep(99)",
        ],
        stdout=subprocess.PIPE,
    )
    process.stdout.read(1)
    update = {"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True, "reservation": MIB}}
    try:
        with pytest.raises(CgroupError, match=f"cannot set memory.max to {8 * MIB}: [0-9]+ are in use") as caught:
            cgroup.apply(writes(update, ""))
        assert "/memory/limit" == caught.value.where
        assert process.poll() is None
        assert str(128 * MIB) == content(cgroup, "memory.max")
        assert "0" == content(cgroup, "memory.low")
        cgroup.apply(writes({"memory": {"limit": 100 * MIB, "checkBeforeUpdate": True}}))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@needs("pids")
def test_pids_limit_holds(limited: Callable[..., Any]) -> None:
    """Three processes and not a fourth."""
    cgroup = limited({"pids": {"limit": 3}})
    program = """
import os, time
made = 0
try:
    for _ in range(9):
        if os.fork() == 0:
            time.sleep(9)
        made += 1
except BlockingIOError:
    os._exit(made)
os._exit(99)
"""

    assert 2 == run(cgroup, program)
    assert "3" == content(cgroup, "pids.max")


@needs("pids")
def test_a_limit_of_no_process_is_real(limited: Callable[..., Any]) -> None:
    """CG-40: written when the first process is inside, it stops every other."""
    cgroup = limited({})
    limit = writes({"pids": {"limit": 0}})
    assert limit[0].after_clone
    other = Cgroup.create(f"{cgroup.path}-zero", "id", limit)
    other.apply(limit)
    program = "import os\ntry: os.fork()\nexcept BlockingIOError: os._exit(7)"

    assert "0" == content(other, "pids.max")
    assert 7 == run(other, program)
    other.destroy(kill=True)


@needs("cpu")
@pytest.mark.parametrize(
    ("cpu", "files"),
    [
        ({"shares": 512}, {"cpu.weight": "59"}),
        ({"quota": 20000, "period": 50000}, {"cpu.max": "20000 50000"}),
        ({"quota": 20000}, {"cpu.max": "20000 100000"}),
        ({"period": 50000}, {"cpu.max": "max 50000"}),
        ({"quota": 20000, "burst": 20000}, {"cpu.max": "20000 100000", "cpu.max.burst": "20000"}),
        ({"idle": 1, "shares": 512}, {"cpu.idle": "1"}),
        ({"idle": 0, "shares": 512}, {"cpu.idle": "0", "cpu.weight": "59"}),
    ],
)
def test_cpu_limits_are_written(limited: Callable[..., Any], cpu: dict[str, Any], files: dict[str, Any]) -> None:
    """CG-45, CG-33, CG-34, in an order that the kernel takes."""
    cgroup = limited({"cpu": cpu})

    assert files == {file: content(cgroup, file) for file in files}


@needs("cpu")
def test_cpu_limits_can_be_updated_in_both_directions(limited: Callable[..., Any]) -> None:
    """Burst and quota limit each other, idle and weight exclude each other: each write must be legal by itself."""
    cgroup = limited({"cpu": {"quota": 50000, "period": 70000, "burst": 50000}})
    for quota, burst in ((20000, 20000), (60000, 60000), (30000, 1000), (90000, 0)):
        cgroup.apply(writes({"cpu": {"quota": quota, "burst": burst}}))
        assert f"{quota} 70000" == content(cgroup, "cpu.max"), "the period stays"
        assert str(burst) == content(cgroup, "cpu.max.burst")

    cgroup.apply(writes({"cpu": {"idle": 1, "shares": 100}}))
    cgroup.apply(writes({"cpu": {"idle": 1, "shares": 2000}}))
    cgroup.apply(writes({"cpu": {"idle": 0, "shares": 512}}))
    assert "59" == content(cgroup, "cpu.weight")


@needs("cpu")
def test_cpu_quota_throttles(limited: Callable[..., Any]) -> None:
    """A busy loop has to stop, again and again."""
    cgroup = limited({"cpu": {"quota": 10000, "period": 100000}})
    procs = str(host(cgroup.path) / "cgroup.procs")
    process = subprocess.Popen(["sh", "-c", f"echo 0 >{procs}; while :; do :; done"])
    try:
        wait_for(lambda: numbers(cgroup, "cpu.stat")["nr_throttled"] >= 5, "it is never throttled")
    finally:
        process.kill()
        process.wait()

    # even where the processor is a busy host's, and its time counts while the machine does not have it
    assert numbers(cgroup, "cpu.stat")["throttled_usec"] > 0


@needs("cpuset")
def test_cpuset_is_written(limited: Callable[..., Any]) -> None:
    """CG-35."""
    cgroup = limited({"cpu": {"cpus": "0", "mems": "0"}})

    assert "0" == content(cgroup, "cpuset.cpus.effective")
    assert "0" == content(cgroup, "cpuset.mems")
    assert 0 == run(cgroup, "import os\nassert os.sched_getaffinity(0) == {0}")


@needs("cpuset")
def test_a_processor_that_is_not_there_is_an_error(limited: Callable[..., Any]) -> None:
    """The kernel's word, with the key."""
    with pytest.raises(CgroupError, match=r"/linux/resources/cpu/cpus: cannot write `4000-4001` to cpuset.cpus"):
        limited({"cpu": {"cpus": "4000-4001"}})


def block_device():
    """(major, minor) of a whole disk, or None."""
    for disk in sorted(pathlib.Path("/sys/block").iterdir()):
        if not disk.name.startswith(("ram", "zram")):
            return tuple(map(int, (disk / "dev").read_text().split(":")))
    return None


@needs("io")
@skip_if(block_device() is None, "no block device")
def test_io_throttles_of_one_device_come_together(limited: Callable[..., Any]) -> None:
    """CG-37: four keys, one line of io.max."""
    major, minor = block_device()
    device = {"major": major, "minor": minor}
    cgroup = limited(
        {
            "blockIO": {
                "throttleReadBpsDevice": [{**device, "rate": 1048576}],
                "throttleWriteBpsDevice": [{**device, "rate": 2097152}],
                "throttleReadIOPSDevice": [{**device, "rate": 30}],
                "throttleWriteIOPSDevice": [{**device, "rate": 40}],
            }
        }
    )
    assert f"{major}:{minor} rbps=1048576 wbps=2097152 riops=30 wiops=40" == content(cgroup, "io.max")

    cgroup.apply(writes({"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 0}]}}))
    assert f"{major}:{minor} rbps=max wbps=2097152 riops=30 wiops=40" == content(cgroup, "io.max")


@needs("io")
def test_a_device_that_is_not_there_is_an_error(limited: Callable[..., Any]) -> None:
    """Not taken for a removed cgroup, which has the same errno."""
    throttle = [{"major": 4000, "minor": 1, "rate": 1}]
    with pytest.raises(CgroupError, match=r"cannot write `4000:1 rbps=1` to io.max") as caught:
        limited({"blockIO": {"throttleReadBpsDevice": throttle}})

    assert "/linux/resources/blockIO/throttleReadBpsDevice/0" == caught.value.where


@needs("io")
def test_block_io_weight_takes_the_file_that_is_there() -> None:
    """CG-47: BFQ's, else the common one scaled, else an error that names the key."""
    limits = writes({"blockIO": {"weight": 500}})
    cgroup = Cgroup.create(f"/pyoci-test-limits-weight-{os.getpid()}", "id", limits)
    try:
        files = os.listdir(host(cgroup.path))
        if "io.bfq.weight" in files:
            cgroup.apply(limits)
            assert content(cgroup, "io.bfq.weight").removeprefix("default ") == "500"
        elif "io.weight" in files:
            cgroup.apply(limits)
            assert content(cgroup, "io.weight") == "default 4950"
        else:
            with pytest.raises(
                CgroupError,
                match=r"^/linux/resources/blockIO/weight: cannot set weight 500: cannot write `4950` to io.weight .*kernel has no such file",
            ):
                cgroup.apply(limits)
    finally:
        cgroup.destroy()


@needs("hugetlb")
def test_huge_pages_beyond_the_limit_are_refused(limited: Callable[..., Any]) -> None:
    """CG-38: the limit counts when they are reserved, so mmap fails and no process is killed."""
    pool = pathlib.Path("/proc/sys/vm/nr_hugepages")
    before = pool.read_text()
    try:
        wait_for(lambda: pool.write_text("4") and int(pool.read_text()) >= 4, "memory is in too small pieces")
        cgroup = limited({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]})
        reserve = "import mmap\nmmap.mmap(-1, {}, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x40000)"
        assert [0, 1] == [run(cgroup, reserve.format(size * MIB)) for size in (4, 6)]
    finally:
        pool.write_text(before)


@pytest.fixture
def rdma_devices():
    """Two devices of the kernel's own making, without hardware."""
    made = []
    try:
        for name in ("pyoci0", "pyoci1"):
            for command in (f"ip link add {name} type dummy", f"ip link set {name} up",
                            f"rdma link add {name} type rxe netdev {name}"):  # fmt: skip
                subprocess.run(command.split(), check=True, capture_output=True)
            made.append(name)
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{error.cmd}: {error.stderr}")
    finally:
        for name in ("pyoci0", "pyoci1"):
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


@needs("rdma")
@pytest.mark.may_skip("no module rdma_rxe")
def test_rdma_limits_are_written(limited: Callable[..., Any], rdma_devices) -> None:
    """CG-41: a line for each device; what a device has no limit for stays."""
    cgroup = limited({"rdma": {"pyoci0": {"hcaHandles": 3, "hcaObjects": 10000}, "pyoci1": {"hcaObjects": 7}}})
    expected = ["pyoci0 hca_handle=3 hca_object=10000", "pyoci1 hca_handle=max hca_object=7"]
    assert expected == sorted(line.strip() for line in content(cgroup, "rdma.max").splitlines())


@needs("rdma")
def test_an_rdma_device_that_is_not_there_is_an_error(limited: Callable[..., Any]) -> None:
    """The kernel's word, with the key."""
    with pytest.raises(CgroupError, match=r"cannot write `nosuch hca_object=7` to rdma.max") as caught:
        limited({"rdma": {"nosuch": {"hcaObjects": 7}}})
    assert "/linux/resources/rdma/nosuch" == caught.value.where


@needs("misc")
def test_a_misc_limit_is_unified_and_its_resource_must_be_there(limited: Callable[..., Any]) -> None:
    """CG-42: the controller is enabled for it; this host has none of its resources."""
    if pathlib.Path(host("/misc.capacity")).read_text():
        pytest.skip("this host has such a resource")
    with pytest.raises(CgroupError, match=r"cannot write `sev 1` to misc.max of .*: invalid argument") as caught:
        limited({"unified": {"misc.max": "sev 1"}})
    assert "/linux/resources/unified/misc.max" == caught.value.where


@needs("memory", "pids", "cpu")
def test_every_controller_is_enabled_at_once_and_only_where_missing(limited: Callable[..., Any]) -> None:
    """A second container below the same parent finds all enabled."""
    resources = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}, "cpu": {"shares": 300}}
    first = limited(resources)
    second = limited(resources)
    parent = host(first.path).parent

    assert {"memory", "pids", "cpu"} <= set((parent / "cgroup.subtree_control").read_text().split())
    assert "9" == content(second, "pids.max")


@needs("memory")
def test_default_limits_do_not_disturb_an_ancestor_with_processes() -> None:
    """They don't need the controller: only a real limit makes this an error."""
    top = host(f"/pyoci-test-limits-busy-{os.getpid()}")
    top.mkdir()
    procs = str(top / "cgroup.procs")
    process = subprocess.Popen(["sleep", "99"])
    pathlib.Path(procs).write_text(str(process.pid))
    try:
        unlimited = writes({"memory": {"limit": -1}})
        cgroup = Cgroup.create(f"/{top.name}/leaf", "id", unlimited)
        cgroup.apply(unlimited)
        assert not (top / "leaf/memory.max").exists()
        cgroup.destroy()
    finally:
        process.kill()
        process.wait()
        top.rmdir()


@needs("memory")
def test_unified_comes_last_and_overrides(limited: Callable[..., Any]) -> None:
    """CG-42."""
    cgroup = limited({"memory": {"limit": 64 * MIB}, "unified": {"memory.max": str(48 * MIB), "memory.oom.group": "1"}})

    assert str(48 * MIB) == content(cgroup, "memory.max")
    assert "1" == content(cgroup, "memory.oom.group")


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle):
    """A container that runs, and its cgroup."""

    def start(**resources: Any):
        bundle.linux["resources"].update(resources)
        bundle.program("/bin/sleep", "1000")
        runtime.create()
        runtime.start()
        record = runtime.record()["cgroup"]
        return pathlib.Path(record["mount"] + record["path"])

    return start


@needs("pids")
@pytest.mark.parametrize(("limit", "call"), [(1, "clone3"), (2, "clone")], ids=["no process", "one process"])
def test_exec_says_that_the_cgroup_is_full(running, runtime: Runtime, limit: int, call: str) -> None:
    """It is exec's process that can't be cloned, whichever clone it is; the hint names the limit."""
    running(pids={"limit": limit})
    hint = "the cgroup, a parent of it or the user has reached a limit of processes: pids.max, RLIMIT_NPROC"
    expected = f"cannot clone the process: {call}: resource temporarily unavailable (hint: {hint})"
    assert expected == runtime.fails("exec", runtime.id, "/bin/true")


@needs("memory")
def test_exec_says_that_memory_is_short(running, runtime: Runtime) -> None:
    """The limit stops exec's process, not the container's first one: the kernel kills it or refuses its execve."""
    cgroup = running()
    (cgroup / "memory.oom.group").write_text("0")
    pathlib.Path(f"/proc/{runtime.pid()}/oom_score_adj").write_text("-1000")
    (cgroup / "memory.max").write_text("4096")
    hint = "(hint: out of memory? the limit may be too low)"
    killed = f"the process was killed by signal 9 while it was set up {hint}"
    refused = f"cannot clone the process: execveat: cannot allocate memory {hint}"
    assert runtime.fails("exec", runtime.id, "/bin/true") in (killed, refused)
    assert "running" == runtime.state()["status"]
