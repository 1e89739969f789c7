"""`linux.resources` as writes: every property, what can't be converted, and the order."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyoci import config
from pyoci.cgroups.disabled import NoCgroup
from pyoci.cgroups.resources import as_meant, controllers, weight_of_shares, writes
from pyoci.cgroups.update import update
from pyoci.cli.options import Values
from pyoci.cli.resources import from_options
from pyoci.errors import CgroupError, ConfigError

MAX_U64 = 2**64 - 1


def values(resources: dict[str, Any]) -> list[tuple[str, str]]:
    """(file, value) of each write."""
    return [(write.file, write.value) for write in writes(resources)]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, []),
        ({"blockIO": {}, "memory": {}, "cpu": {}, "pids": {}, "network": {}, "rdma": {}, "unified": {}}, []),
        ({"hugepageLimits": [], "blockIO": {"weightDevice": [], "throttleReadBpsDevice": []}}, []),
        ({"devices": [{"allow": False, "access": "rwm"}]}, []),
        ({"memory": {"limit": 1048576}}, [("memory.max", "1048576")]),
        ({"memory": {"limit": 0, "reservation": 0, "swap": 0}}, []),
        ({"memory": {"limit": -1}}, [("memory.max", "max"), ("memory.swap.max", "max")]),
        ({"memory": {"limit": -1, "swap": -1}}, [("memory.max", "max"), ("memory.swap.max", "max")]),
        ({"memory": {"swap": -1}}, [("memory.swap.max", "max")]),
        ({"memory": {"limit": 100, "swap": -1}}, [("memory.max", "100"), ("memory.swap.max", "max")]),
        ({"memory": {"limit": 100, "swap": 100}}, [("memory.max", "100"), ("memory.swap.max", "0")]),
        ({"memory": {"limit": 100, "swap": 150}}, [("memory.max", "100"), ("memory.swap.max", "50")]),
        ({"memory": {"reservation": 77}}, [("memory.low", "77")]),
        ({"memory": {"reservation": -1}}, [("memory.low", "max")]),
        ({"cpu": {"shares": 0}}, []),
        ({"cpu": {"shares": 512}}, [("cpu.weight", "59")]),
        ({"cpu": {"shares": 1}}, [("cpu.weight", "1")]),
        ({"cpu": {"shares": MAX_U64}}, [("cpu.weight", "10000")]),
        ({"cpu": {"quota": 20000}}, [("cpu.max", "20000")]),
        ({"cpu": {"quota": 20000, "period": 50000}}, [("cpu.max", "20000 50000")]),
        ({"cpu": {"quota": 0, "period": 0}}, []),
        ({"cpu": {"quota": -1}}, [("cpu.max", "max")]),
        ({"cpu": {"period": 50000}}, [("cpu.max", "max 50000")]),
        ({"cpu": {"burst": 0}}, [("cpu.max.burst", "0")]),
        ({"cpu": {"burst": 5}}, [("cpu.max.burst", "5")]),
        (
            {"cpu": {"quota": 20000, "burst": 20000}},
            [("cpu.max.burst", "0"), ("cpu.max", "20000"), ("cpu.max.burst", "20000")],
        ),
        (
            {"cpu": {"quota": -1, "burst": 7}},
            [("cpu.max.burst", "0"), ("cpu.max", "max"), ("cpu.max.burst", "7")],
        ),
        ({"cpu": {"idle": 1}}, [("cpu.idle", "1")]),
        ({"cpu": {"idle": 1, "shares": 512}}, [("cpu.idle", "1")]),
        ({"cpu": {"idle": 0, "shares": 512}}, [("cpu.idle", "0"), ("cpu.weight", "59")]),
        ({"cpu": {"cpus": "0-3,7", "mems": "0"}}, [("cpuset.cpus", "0-3,7"), ("cpuset.mems", "0")]),
        ({"cpu": {"cpus": "", "mems": ""}}, []),
        ({"blockIO": {"weight": 0}}, []),
        ({"blockIO": {"weight": 500}}, [("io.bfq.weight", "500")]),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 16, "weight": 10}]}},
            [("io.bfq.weight", "8:16 10")],
        ),
        (
            {
                "blockIO": {
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": MAX_U64}],
                    "throttleReadBpsDevice": [
                        {"major": 8, "minor": 0, "rate": 1},
                        {"major": 8, "minor": 1, "rate": 0},
                    ],
                }
            },
            [
                ("io.max", "8:0 rbps=1"),
                ("io.max", "8:1 rbps=max"),
                ("io.max", f"8:0 wbps={MAX_U64}"),
                ("io.max", "8:0 riops=3"),
                ("io.max", "8:0 wiops=4"),
            ],
        ),
        ({"pids": {"limit": 2048}}, [("pids.max", "2048")]),
        ({"pids": {"limit": 0}}, [("pids.max", "0")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"pids": {"limit": -(2**63)}}, [("pids.max", "max")]),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 9}]},
            [
                ("hugetlb.2MB.max", "0"),
                ("hugetlb.2MB.rsvd.max", "0"),
                ("hugetlb.1GB.max", "9"),
                ("hugetlb.1GB.rsvd.max", "9"),
            ],
        ),
        (
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 0}, "mlx4_0": {"hcaObjects": 1}}},
            [("rdma.max", "mlx5_1 hca_handle=3 hca_object=0"), ("rdma.max", "mlx4_0 hca_object=1")],
        ),
        (
            {"unified": {"memory.high": "1000", "no_such.file": " x "}},
            [("memory.high", "1000"), ("no_such.file", " x ")],
        ),
        (
            {"unified": {"io.max": "8:0 rbps=1\n8:16 wbps=2\n"}},
            [("io.max", "8:0 rbps=1"), ("io.max", "8:16 wbps=2")],
        ),
        ({"unified": {"cpuset.cpus": ""}}, [("cpuset.cpus", "")]),
        (
            {"unified": {"memory.max": "5"}, "pids": {"limit": 1}, "memory": {"limit": 4}},
            [("memory.max", "4"), ("pids.max", "1"), ("memory.max", "5")],
        ),
    ],
)
def test_conversion(resources: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each property becomes the v2 file and value of the same meaning; unset ones nothing."""
    assert expected == values(resources)


def document(resources: dict[str, Any]) -> bytes:
    """A config.json with these resources."""
    return json.dumps({"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "linux": {"resources": resources}}).encode()


def convert(resources):
    """What create does with the resources of a config.json."""
    loaded, _ = config.load(document(resources))
    return writes(loaded["linux"]["resources"])


@pytest.mark.parametrize(
    ("resources", "where", "reason"),
    [
        ({"memory": {"kernel": 1}}, "/memory/kernel", "no controller"),
        ({"memory": {"kernelTCP": 1}}, "/memory/kernelTCP", "no controller"),
        ({"memory": {"swappiness": 0}}, "/memory/swappiness", "no controller"),
        ({"memory": {"disableOOMKiller": True}}, "/memory/disableOOMKiller", "no controller"),
        ({"memory": {"useHierarchy": False}}, "/memory/useHierarchy", "no controller"),
        ({"cpu": {"realtimeRuntime": 950000}}, "/cpu/realtimeRuntime", "no controller"),
        ({"cpu": {"realtimePeriod": 1000000}}, "/cpu/realtimePeriod", "no controller"),
        ({"blockIO": {"leafWeight": 10}}, "/blockIO/leafWeight", "no controller"),
        ({"blockIO": {"weight": 9}}, "/blockIO/weight", "from 10 to 1000"),
        ({"blockIO": {"weight": 1001}}, "/blockIO/weight", "from 10 to 1000"),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}},
            "/blockIO/weightDevice/0/leafWeight",
            "no controller",
        ),
        ({"network": {"classID": 1}}, "/network/classID", "no controller"),
        (
            {"network": {"priorities": [{"name": "eth0", "priority": 1}]}},
            "/network/priorities",
            "no controller",
        ),
        ({"rdma": {"mlx 4": {"hcaHandles": 1}}}, "/rdma/mlx 4", "not a device name"),
        ({"unified": {"cgroup.procs": "1"}}, "/unified/cgroup.procs", "only the runtime"),
        ({"unified": {"cgroup.freeze": "1"}}, "/unified/cgroup.freeze", "only the runtime"),
    ],
)
def test_conversion_rejects_what_cgroup_v2_can_not_express(resources: dict[str, Any], where: str, reason: str) -> None:
    """The error names the property, and a valid config gets so far."""
    with pytest.raises(CgroupError, match=reason) as caught:
        convert(resources)

    assert f"/linux/resources{where}" == caught.value.where


@pytest.mark.parametrize(
    ("resources", "where", "reason"),
    [
        ({"memory": {"limit": -2}}, "/memory/limit", "or -1 for unlimited"),
        ({"memory": {"reservation": -2}}, "/memory/reservation", "or -1 for unlimited"),
        ({"memory": {"swap": -2, "limit": 1}}, "/memory/swap", "or -1 for unlimited"),
        ({"memory": {"swap": 5, "limit": -1}}, "/memory/swap", "memory, which is unlimited"),
        ({"memory": {"swap": 5, "limit": 6}}, "/memory/swap", "below the limit of memory, 6"),
        ({"cpu": {"idle": 2}}, "/cpu/idle", "0 or 1"),
        ({"cpu": {"idle": -1}}, "/cpu/idle", "0 or 1"),
        ({"cpu": {"burst": 6, "quota": 5}}, "/cpu/burst", "above the quota 5"),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}, "/blockIO/weightDevice/0", "neither"),
        ({"hugepageLimits": [{"pageSize": "2mb", "limit": 0}]}, "/hugepageLimits/0/pageSize", "such as 64KB"),
        ({"hugepageLimits": [{"pageSize": "02MB", "limit": 0}]}, "/hugepageLimits/0/pageSize", "such as 64KB"),
        ({"hugepageLimits": [{"pageSize": "../MB", "limit": 0}]}, "/hugepageLimits/0/pageSize", "such as 64KB"),
        ({"hugepageLimits": [{"pageSize": "２MB", "limit": 0}]}, "/hugepageLimits/0/pageSize", "such as 64KB"),
        ({"rdma": {"mlx": {}}}, "/rdma/mlx", "neither"),
        ({"rdma": {"a/b~": {}}}, "/rdma/a~1b~0", "neither"),
        ({"unified": {"memory": "1"}}, "/unified/memory", "has not the form"),
        ({"unified": {"../memory.max": "1"}}, "/unified/..~1memory.max", "has not the form"),
        ({"unified": {"memory.max\n": "1"}}, "/unified/memory.max\n", "has not the form"),
        ({"unified": {"memory..max": "1"}}, "/unified/memory..max", "has not the form"),
        ({"unified": {".max": "1"}}, "/unified/.max", "has not the form"),
        ({"unified": {"": "1"}}, "/unified/", "has not the form"),
    ],
)
def test_invalid_resources_are_rejected_before_the_conversion(
    resources: dict[str, Any], where: str, reason: str
) -> None:
    """`create` and `update --resources` check them by the same code, and the conversion trusts them."""
    for check, text, top in (
        (config.load, document(resources), "/linux/resources"),
        (config.load_resources, json.dumps(resources).encode(), ""),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            check(text)

        assert [f"{top}{where}"] == [problem.where for problem in caught.value.problems]


@pytest.mark.parametrize("limit", [None, 0])
def test_create_needs_a_memory_limit_beside_the_one_of_memory_plus_swap(limit: int | None) -> None:
    """An update may leave it out: the container has one."""
    memory = {"swap": 5} | ({} if limit is None else {"limit": limit})
    with pytest.raises(ConfigError, match='needs "limit", the limit of memory') as caught:
        convert({"memory": memory})

    assert "/linux/resources/memory/swap" == caught.value.problems[0].where
    assert {"memory": memory} == config.load_resources(json.dumps({"memory": memory}).encode())


def values_of(words: dict[str, str]) -> Values:
    """Options of the command line."""
    options = Values()
    for name, text in words.items():
        options.put(name, text)
    return options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"memory": "-2"}, "--memory: expected a number of bytes, or -1 for unlimited, found -2"),
        ({"memory": "6", "memory-swap": "5"}, "--memory-swap: the limit of memory plus swap, 5, is below the limit of memory, 6"),
        ({"cpu-idle": "2"}, "--cpu-idle: expected 0 or 1, found 2"),
        ({"cpu-quota": "5", "cpu-burst": "6"}, "--cpu-burst: the burst 6 is above the quota 5"),
        ({"cpuset-cpus": "a"}, '--cpuset-cpus: expected a list of CPUs such as 0-3,7, found the string "a"'),
    ],
)  # fmt: skip
def test_the_options_of_update_are_checked_like_a_document(words: dict[str, str], message: str) -> None:
    """The error names the option."""
    with pytest.raises(ConfigError) as caught:
        from_options(values_of(words))

    assert message == str(caught.value)


class Limits(NoCgroup):
    """A container without a cgroup whose memory limits can still be read."""

    memory, swap = "100", "50"

    def read(self, name: str) -> str:
        """The content of a file."""
        return {"memory.max": self.memory, "memory.swap.max": self.swap}.get(name, "")


@pytest.mark.parametrize(
    ("memory", "reason"),
    [("100", "the container's limit of memory is 100"), ("max", "the container has no limit of memory")],
)
def test_update_compares_a_limit_of_memory_plus_swap_with_the_container(memory: str, reason: str) -> None:
    """It names no limit of memory, so the container's own counts."""
    cgroup = Limits()
    cgroup.memory = memory
    with pytest.raises(
        CgroupError, match=f"^/memory/swap: cannot set swap 5: it limits memory plus swap, and {reason}$"
    ):
        update(cgroup, {"memory": {"swap": 5}}, "1.3.0")


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"kernel": -1, "kernelTCP": 0, "disableOOMKiller": False, "useHierarchy": True}},
        {"cpu": {"realtimeRuntime": 0, "realtimePeriod": 0}},
        {"cpu": {"realtimeRuntime": -1}},
        {"blockIO": {"leafWeight": 0}},
        {"network": {"classID": 0, "priorities": []}},
    ],
)
def test_a_property_of_v1_that_asks_for_nothing_is_accepted(resources: dict[str, Any]) -> None:
    """Engines fill in zeros and defaults: those are what v2 does anyway."""
    assert [] == values(resources)


def test_every_write_names_its_property() -> None:
    """The pointer leads to the key which the limit comes from."""
    resources = {
        "memory": {"limit": 5, "swap": 6, "reservation": 1},
        "cpu": {"shares": 3, "quota": 5, "burst": 1, "cpus": "0", "mems": "0", "idle": 0},
        "blockIO": {
            "weight": 10,
            "weightDevice": [{"major": 1, "minor": 2, "weight": 11}],
            "throttleReadBpsDevice": [{"major": 1, "minor": 2, "rate": 3}],
        },
        "pids": {"limit": 1},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "rdma": {"m/x": {"hcaHandles": 1}},
        "unified": {"memory.high": "1"},
    }

    assert [
        "/memory/limit",
        "/memory/swap",
        "/memory/reservation",
        "/cpu/idle",
        "/cpu/shares",
        "/cpu/burst",
        "/cpu/quota",
        "/cpu/burst",
        "/cpu/cpus",
        "/cpu/mems",
        "/blockIO/weight",
        "/blockIO/weightDevice/0/weight",
        "/blockIO/throttleReadBpsDevice/0",
        "/pids/limit",
        "/hugepageLimits/0",
        "/hugepageLimits/0",
        "/rdma/m~1x",
        "/unified/memory.high",
    ] == [write.where.removeprefix("/linux/resources") for write in writes(resources)]


def test_the_pointer_can_start_elsewhere() -> None:
    """`update` reads a bare resources document."""
    assert ["/pids/limit"] == [write.where for write in writes({"pids": {"limit": 1}}, "")]


def test_controllers_of_limits_are_needed_and_those_of_lifted_limits_are_not() -> None:
    """A share is a limit even where it is the kernel's own, 1024; without its controller it would mean nothing."""
    assert (["cpu", "pids"], []) == controllers(writes({"cpu": {"shares": 1024}, "pids": {"limit": 3}}))
    assert (["cpu"], []) == controllers(writes({"cpu": {"shares": 1025, "quota": -1}}))
    assert ([], ["cpu"]) == controllers(writes({"cpu": {"quota": -1, "period": 100000, "idle": 0}}))
    assert ([], ["memory", "pids"]) == controllers(writes({"memory": {"limit": -1}, "pids": {"limit": -1}}))
    assert (["hugetlb"], []) == controllers(writes({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}))


def test_unified_needs_the_controller_of_its_prefix_and_core_files_need_none() -> None:
    """`nosuch.max` needs a controller nosuch; cgroup.max.depth is the core's."""
    assert (["nosuch"], []) == controllers(writes({"unified": {"nosuch.max": "1", "cgroup.max.depth": "1"}}))


def test_check_before_update_compares_with_the_usage() -> None:
    """Only when asked for, and only for real limits."""
    checked = writes({"memory": {"limit": 5, "swap": 6, "checkBeforeUpdate": True}})
    assert ["memory.current", "memory.swap.current"] == [write.usage for write in checked]

    unlimited = writes({"memory": {"limit": -1, "swap": -1, "checkBeforeUpdate": True}})
    assert ["", ""] == [write.usage for write in unlimited]

    unchecked = writes({"memory": {"limit": 5, "swap": 6}})
    assert ["", ""] == [write.usage for write in unchecked]


def test_no_process_at_all_is_a_limit_for_after_the_clone() -> None:
    """Written before, it would refuse the container's first process."""
    assert [True] == [write.after_clone for write in writes({"pids": {"limit": 0}})]
    assert [False] == [write.after_clone for write in writes({"pids": {"limit": 1}})]
    assert [True] == [write.after_clone for write in writes({"unified": {"pids.max": "0\n"}})]


@pytest.mark.parametrize(("weight", "scaled"), [(10, 1), (11, 11), (100, 910), (500, 4950), (1000, 10000)])
def test_io_weight_is_scaled_where_there_is_no_bfq(weight: int, scaled: int) -> None:
    """10 to 1000 becomes 1 to 10000, by default and for a device."""
    device = {"major": 8, "minor": 0, "weight": weight}
    group, single = writes({"blockIO": {"weight": weight, "weightDevice": [device]}})

    assert ("io.weight", f"{scaled}") == (group.otherwise.file, group.otherwise.value)
    assert ("io.weight", f"8:0 {scaled}") == (single.otherwise.file, single.otherwise.value)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_weight_grows_with_shares(one, other) -> None:
    """Within its range, through its fixed points, and never the other way round."""
    low, high = sorted((one, other))

    assert 1 <= weight_of_shares(low) <= weight_of_shares(high) <= 10000
    assert (1, 100, 10000) == tuple(map(weight_of_shares, (2, 1024, 262144)))


@given(st.integers(3, 262143))
def test_weight_follows_the_formula_of_runc_and_crun(shares) -> None:
    """ceil(10^((l²+125l)/612 − 7/34)), where l is the binary logarithm."""
    exact = 10 ** ((math.log2(shares) ** 2 + 125 * math.log2(shares)) / 612 - 7 / 34)

    assert 0 <= weight_of_shares(shares) - exact < 1 + 1e-9


@pytest.mark.parametrize(
    ("version", "limit"),
    [("1.0.0", -1), ("1.0.2-dev", -1), ("1.2.1", -1), ("1.2.1+dev", -1), ("", -1), ("1.3.0", 0), ("1.3.0-rc.1", 0), ("1.10.0", 0)],
)  # fmt: skip
def test_no_processes_is_unlimited_before_version_1_3(version: str, limit: int) -> None:
    """From then on the specification says that 0 is a limit."""
    assert {"pids": {"limit": limit}, "cpu": {}} == as_meant({"pids": {"limit": 0}, "cpu": {}}, version)


@pytest.mark.parametrize("resources", [{}, {"pids": {}}, {"pids": {"limit": 1}}, {"pids": {"limit": -1}}])
def test_other_limits_mean_the_same_in_every_version(resources: dict[str, dict[str, int]]) -> None:
    assert resources == as_meant(resources, "1.0.0") == as_meant(resources, "1.3.0")
