"""Configs with members that are anything but what belongs there: an error that names the place, or a plan; never a
crash.

PYOCI_MUTATIONS says how many; more find more.
"""

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from pyoci import config
from pyoci.cgroups import resources
from pyoci.compiler import create, facts, show
from pyoci.compiler.block import encode
from pyoci.compiler.exec import ExecTarget, compile_exec
from pyoci.errors import PyociError
from tests.support.damage import is_safe

ROUNDS = int(os.environ.get("PYOCI_MUTATIONS", "1600"))
CONFIGS = [json.loads(path.read_text()) for path in sorted((Path(__file__).parents[1] / "plans").glob("*.json"))]
HOSTS = [
    facts.Host(apparmor=True, selinux=True),
    facts.Host(kernel_mounts="/proc/25/ns/mnt"),
    facts.Host(uid=1000, gid=1000, capabilities=0),
    facts.Host(cgroup_mount="", user_namespace=True, setgroups=False),
]
NUMBERS = [0, 1, -1, 255, 65536, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 1.0, 1e300]
TEXTS = [
    *(
        "",
        "/",
        "..",
        "/a/../../b",
        "a\nb",
        "é",
        "x" * 300,
        "/proc",
        "bind",
        "remount",
        "idmap",
        "tmpcopyup",
        "=",
        "0-9",
    ),
    *("3-0", "²", "max", "user", "time", "SCMP_ACT_NOTIFY", "SCHED_DEADLINE", "CAP_NOSUCH", "RLIMIT_NOFILE", "::"),
]
VALUES: list[Any] = [*NUMBERS, *TEXTS, None, True, False, [], {}, [None], [{}], {"": ""}, {"a": None}]
NAMES = """type path source options destination uidMappings major fileMode uid limit rate errnoRet args index value
    unified rdma intelRdt netDevices memoryPolicy timeOffsets scheduler ioPriority execCPUAffinity personality sysctl
    consoleSize selinuxLabel mountLabel seccomp annotations closID nodes mode flags policy a/b a~b""".split()


def containers(value: Any) -> "list[Any]":
    """Every object and array of a document."""
    inside = value.values() if isinstance(value, dict) else value
    return [value, *(each for part in inside if isinstance(part, dict | list) for each in containers(part))]


def mutate(chance: random.Random, document: "dict[str, Any]") -> None:
    """Put something in, or take something out, somewhere."""
    place = chance.choice(containers(document))
    value = copy.deepcopy(chance.choice([*VALUES, chance.choice(containers(chance.choice(CONFIGS)))]))
    if isinstance(place, list):
        if place and chance.random() < 0.5:
            place[chance.randrange(len(place))] = value
        else:
            place.append(value)
    elif place and chance.random() < 0.2:
        del place[chance.choice(list(place))]
    else:
        place[chance.choice([*place, *NAMES] if chance.random() < 0.7 else NAMES)] = value


def compile_all(document: "dict[str, Any]", host: facts.Host, manager: str) -> None:
    """Whatever can be made of a document, as the commands make it."""
    loaded, _ = config.load(json.dumps(document).encode())
    plan = create.compile_container(loaded, host, facts.Options("/bundle", "box", cgroup_manager=manager))
    assert show.text(plan)
    assert show.as_json(plan)
    assert all(is_safe(encode(ops, plan.slots, first=first)) for first, ops in plan.blocks())


def compile_process(document: "dict[str, Any]", host: facts.Host) -> None:
    """The same for exec and update."""
    process, _ = config.load_process(json.dumps(document.get("process")).encode())
    plan = compile_exec(process, ExecTarget("box", ["user", "mount"], {}), host)
    assert is_safe(encode(plan.child(), plan.slots))


def compile_resources(document: "dict[str, Any]") -> None:
    linux = document.get("linux")
    limits = linux.get("resources") if isinstance(linux, dict) else None
    resources.writes(config.load_resources(json.dumps(limits).encode()))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_configs(seed: int) -> None:
    """Every message is one line that says something."""
    chance = random.Random(seed)
    refused: list[str] = []
    made = 0
    for _ in range(ROUNDS // 4):
        document = copy.deepcopy(chance.choice(CONFIGS))
        for _ in range(chance.choice([1, 1, 2, 5])):
            mutate(chance, document)
        host, manager = chance.choice(HOSTS), chance.choice(["cgroupfs", "systemd", "disabled"])
        for compile_ in (
            lambda d=document, h=host, m=manager: compile_all(d, h, m),
            lambda d=document, h=host: compile_process(d, h),
            lambda d=document: compile_resources(d),
        ):
            try:
                compile_()
                made += 1
            except PyociError as error:
                refused.append(str(error))
    assert made
    assert refused
    assert not [message for message in refused if "the value is not valid" in message]
