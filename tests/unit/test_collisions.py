"""Names that collide under the hash secret in the executable's file cost what other names cost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyoci.executable import freeze
from tests.support.collisions import assert_equal_cost, colliding, cpu, secret_from, steps
from tests.support.config import docker_like

Put = Callable[[dict[str, Any], list[str]], None]


def annotations(config: dict[str, Any], names: list[str]) -> None:
    config["annotations"] = dict.fromkeys(names, "")


def variables(config: dict[str, Any], names: list[str]) -> None:
    config["process"]["env"] = [f"{name}=" for name in names]


def kernel_parameters(config: dict[str, Any], names: list[str]) -> None:
    config["linux"]["sysctl"] = dict.fromkeys(names, "1")


def cgroup_files(config: dict[str, Any], names: list[str]) -> None:
    config["linux"].setdefault("resources", {})["unified"] = dict.fromkeys(names, "1")


def rdma_devices(config: dict[str, Any], names: list[str]) -> None:
    config["linux"].setdefault("resources", {})["rdma"] = {name: {"hcaHandles": 1} for name in names}


def system_calls(config: dict[str, Any], names: list[str]) -> None:
    rules = [{"names": names, "action": "SCMP_ACT_ERRNO"}]
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


def network_devices(config: dict[str, Any], names: list[str]) -> None:
    config["linux"]["netDevices"] = {name: {} for name in names}


def members_that_mean_nothing(config: dict[str, Any], names: list[str]) -> None:
    config.update(dict.fromkeys(names, 1))


PLACES: dict[Put, int] = {
    annotations: 0, variables: 0, kernel_parameters: 1, cgroup_files: 1, rdma_devices: 0, system_calls: 0,
    network_devices: 0, members_that_mean_nothing: 0,
}  # fmt: skip


def test_names_collide_where_the_secret_is_known() -> None:
    """The attack of these tests is one: it takes 25 times as many steps in a Python whose seed is given."""
    log2_size = 12
    names = colliding(secret_from(7), log2_size)
    code = "import sys; print(*map(hash, sys.argv[1:]))"
    command = [sys.executable, "-c", code, *names]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    hashes = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.split()

    assert len(set(names)) == 2 * (1 << log2_size) // 3
    assert steps(map(int, hashes), log2_size) > 50


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
@pytest.mark.parametrize(
    ("verb", "put"),
    [*(("plan", put) for put in PLACES), ("validate", members_that_mean_nothing), ("validate", kernel_parameters)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_colliding_names_cost_no_more(pyoci: str, tmp_path: Path, verb: str, put: Put) -> None:
    """Wherever a config has names that its author chooses."""

    def measure(names: list[str]) -> dict[str, float]:
        config = docker_like("rootfs")
        put(config, names)
        (tmp_path / "config.json").write_text(json.dumps(config))
        return {verb: cpu([pyoci, verb, "--bundle", str(tmp_path)], PLACES[put])}

    assert_equal_cost(pyoci, measure)


@pytest.mark.skipif(not freeze.Libpython().allows_image, reason="this Python has no static library")
def test_colliding_variables_of_the_caller_cost_no_more(pyoci: str) -> None:
    """The environment becomes a dictionary at every start."""

    def measure(names: list[str]) -> dict[str, float]:
        return {"version": cpu([pyoci, "--version"], 0, env=dict.fromkeys(names, ""))}

    assert_equal_cost(pyoci, measure)
