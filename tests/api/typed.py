"""A program that uses the API, for mypy --strict: test_typing.py."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyoci
from pyoci.testing import Bundle, make_rootfs


def documents(path: Path) -> list[tuple[str, int]]:
    """Everything that needs no container."""
    config: pyoci.Config = pyoci.spec(rootless=True)
    config["process"]["args"] = ["sh"]
    config["linux"]["resources"] = {"memory": {"limit": 1 << 20}}
    problems: list[pyoci.Problem] = pyoci.validate(config) + pyoci.validate(b"{}") + pyoci.validate(path)
    plan: pyoci.Plan = pyoci.plan(config, bundle=path, cgroup_manager="systemd")
    verbs: list[str] = [operation.verb for operation in plan if operation.number is not None]
    features: pyoci.Features = pyoci.features()
    return [(problem.pointer, problem.line) for problem in problems] + [(verbs[0], len(features["hooks"]))]


def life(path: Path) -> Iterator[int]:
    """A container from create to delete."""
    runtime = pyoci.Runtime("runc", root=path, cgroup_manager="cgroupfs", log_level="debug")
    try:
        with runtime.create("id", path, stdin=subprocess.PIPE, stdout=None) as container:
            container.start()
            state: pyoci.State = container.state
            result: subprocess.CompletedProcess[bytes] = container.exec(["id"], env={"A": "b"}, user=1, timeout=1.5)
            container.exec({"args": ["id"], "cwd": "/", "user": {"uid": 0, "gid": 0}}, check=True)
            container.update({"pids": {"limit": 5}})
            for event in container.events(interval=0.5):
                print(event["type"], event.get("data"))
            yield from (container.wait(timeout=1), len(result.stdout), state["pid"], *container.processes())
        container.checkpoint(path, work=path / "work", parent="../before", pre_dump=True, tcp_established=True)
        with runtime.restore("id", path, path, manage_cgroups_mode="ignore", lsm_profile="apparmor:x") as restored:
            print(restored.id)
    except pyoci.ConfigError as error:
        print(error.problems[0].pointer)
    except pyoci.PyociError as error:
        print(error.pointer, error.hint, error.message)


@pytest.fixture
def prepared(tmp_path: Path) -> Bundle:
    """A bundle of the caller's own."""
    rootfs = make_rootfs("busybox", tmp_path / "rootfs")
    return Bundle(tmp_path, rootfs, pyoci.spec()).shell("exit 0").mount("/x", "tmpfs", "ro").namespace("network")
