"""Statistics from the files of a cgroup, and limits from the options of `update`."""

import pytest

from pyoci.cgroups.stats import UNLIMITED, statistics
from pyoci.cli import resources
from pyoci.cli.options import Values
from pyoci.errors import UsageError

FILES = {
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 2\nthrottled_usec 30\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.10 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory.stat": "anon 4096\nfile 8192\nkernel 100\nsock 7\n",
    "memory.current": "12288\n",
    "memory.peak": "20000\n",
    "memory.max": "1048576\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
    "memory.swap.current": "512\n",
    "memory.swap.max": "1024\n",
    "pids.current": "4\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:0 \n",
    "hugetlb.2MB.rsvd.current": "2097152\n",
    "hugetlb.2MB.events": "max 5\n",
}


def test_every_number_has_its_place() -> None:
    """Microseconds become nanoseconds; swap counts memory and swap together, as cgroup v1 did."""
    data = statistics(lambda name: FILES.get(name, ""), ["2MB"])

    assert {"total": 1_500_000, "kernel": 500_000, "user": 1_000_000} == data["cpu"]["usage"]
    assert {"periods": 7, "throttledPeriods": 2, "throttledTime": 30_000} == data["cpu"]["throttling"]
    assert {"avg10": 1.5, "avg60": 0.1, "avg300": 0.0, "total": 77} == data["cpu"]["psi"]["some"]
    memory = data["memory"]
    assert {"usage": 12288, "limit": 1048576, "max": 20000, "failcnt": 3} == memory["usage"]
    assert {"usage": 12800, "limit": 1049600, "failcnt": 0} == memory["swap"]
    assert (8192, 100, 7, 4096) == (
        memory["cache"],
        memory["kernel"]["usage"],
        memory["kernelTCP"]["usage"],
        memory["raw"]["anon"],
    )
    assert {"current": 4, "limit": 0} == data["pids"]
    assert [
        {"major": 8, "minor": 0, "op": "Read", "value": 10},
        {"major": 8, "minor": 0, "op": "Write", "value": 20},
    ] == data["blkio"]["ioServiceBytesRecursive"]
    assert {"2MB": {"usage": 2097152, "failcnt": 5}} == data["hugetlb"]


def test_a_cgroup_without_files_has_zeros() -> None:
    """Engines read every key."""
    data = statistics(lambda _: "", [])

    assert 0 == data["cpu"]["usage"]["total"]
    assert UNLIMITED == data["memory"]["usage"]["limit"]
    assert [] == data["blkio"]["sectorsRecursive"]
    assert "psi" not in data["cpu"]


def options(**given: str) -> Values:
    values = Values()
    for name, value in given.items():
        values.put(name.replace("_", "-"), value)
    return values


def test_options_of_update_are_resources() -> None:
    """Sizes may have units; -1 lifts a limit."""
    found = resources.from_options(
        options(memory="512m", memory_swap="-1", cpu_quota="-1", cpuset_cpus="0-1", pids_limit="0", cpu_share="10")
    )

    assert {
        "memory": {"limit": 512 << 20, "swap": -1},
        "cpu": {"quota": -1, "cpus": "0-1", "shares": 10},
        "pids": {"limit": 0},
    } == found


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("1b", 1), ("2k", 2048), ("2K", 2048), ("3MB", 3 << 20), ("1GiB", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    """As Docker and runc write them."""
    assert {"memory": {"limit": size}} == resources.from_options(options(memory=text))


@pytest.mark.parametrize("text", ["x", "1x", "1.5g", "--1", "1_0", "²", "m", " 1"])
def test_invalid_sizes_are_rejected(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError, match="for --memory: expected a number of bytes"):
        resources.from_options(options(memory=text))


def test_counts_are_not_negative() -> None:
    """A weight of -1 lifts nothing."""
    with pytest.raises(UsageError, match="cannot use `-1` for --cpu-share: expected a number"):
        resources.from_options(options(cpu_share="-1"))
