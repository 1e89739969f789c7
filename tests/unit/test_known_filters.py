"""Filters that the executable has for what engines send by default (pyoci/compiler/known_filters.py)."""

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import device_filter
from pyoci.compiler import known_filters, seccomp
from pyoci.config.jsonio import dumps, loads
from pyoci.errors import CgroupError

ROOT = Path(__file__).resolve().parents[2]
MACHINES = tuple(seccomp.MACHINES)
PROFILES = [(arch, label, profile) for arch in MACHINES for label, profile in known_filters.profiles(arch)]
DOCKER = "Docker 28, default capabilities"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Any, seccomp.Filter]]]:
    """The filters of every architecture, which the executable has of its own one only."""
    monkeypatch.setattr(seccomp, "KNOWN", {})
    monkeypatch.setattr(device_filter, "KNOWN", [])
    for arch in MACHINES:
        known_filters.compile_known(arch)
    return seccomp.KNOWN


def compiled_afresh(profile: Any, arch: str, monkeypatch: pytest.MonkeyPatch) -> seccomp.Filter:
    """The filter of a profile, by the compiler."""
    with monkeypatch.context() as changed:
        changed.setattr(seccomp, "KNOWN", {})
        return seccomp.compile_filter(profile, arch)


def test_ordinary_python_knows_no_filters() -> None:
    """Only the build compiles them, so a start of Python costs nothing more."""
    assert {} == seccomp.KNOWN
    assert [] == device_filter.KNOWN


@pytest.mark.parametrize(
    ("arch", "label", "profile"), PROFILES, ids=[f"{arch}: {label}" for arch, label, _ in PROFILES]
)
def test_known_filter_equals_compiled_one(
    arch: str, label: str, profile: Any, known: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known profile gets the compiler's bytes, flags and warnings, without compiling them."""
    received = loads(dumps(profile).encode())

    found = seccomp.compile_filter(received, arch)

    expected = compiled_afresh(received, arch, monkeypatch)
    assert found.is_compiled
    assert not expected.is_compiled
    assert (expected.program, expected.flags) == (found.program, found.flags)
    assert list(expected.warnings) == list(found.warnings)


@pytest.mark.parametrize("arch", MACHINES)
def test_profiles_are_distinct(arch: str, known: dict[str, list[tuple[Any, seccomp.Filter]]]) -> None:
    """Each profile is there once, and is found by comparing it with few others."""
    found = [profile for shape, rows in known.items() if shape.startswith(arch) for profile, _ in rows]

    assert len(list(known_filters.profiles(arch))) == len(found)
    assert len(found) == len({json.dumps(profile) for profile in found})
    assert max(len(rows) for rows in known.values()) <= 2


def changes(value: Any) -> Iterator[Any]:
    """Yield copies of a JSON value, each with a single change."""
    if isinstance(value, dict):
        yield {**value, "other": 0}
        for key, member in value.items():
            yield {name: each for name, each in value.items() if name != key}
            yield from ({**value, key: changed} for changed in changes(member))
    elif isinstance(value, list):
        yield [*value, value[0]]
        for place, item in enumerate(value):
            yield [*value[:place], *value[place + 1 :]]
            yield [*value[:place], item, *value[place:]]
            yield from ([*value[:place], changed, *value[place + 1 :]] for changed in changes(item))
        if value[::-1] != value:
            yield value[::-1]
    elif isinstance(value, str):
        yield value + "x"
        yield ""
    else:
        yield value + 1


def known_filter(profile: Any, arch: str) -> seccomp.Filter | None:
    """The filter that was compiled before, if `compile_filter` returns one."""
    tables = [filter_ for rows in seccomp.KNOWN.values() for _, filter_ in rows]
    found = seccomp.compile_filter(profile, arch)
    return found if any(found is each for each in tables) else None


@pytest.mark.parametrize("label", [DOCKER, "containerd 2.4, no capabilities", "Podman, default capabilities"])
def test_changed_profile_is_not_known(label: str, known: object) -> None:
    """No profile with a single change, anywhere in it, gets the filter of the original."""
    (profile,) = (each for name, each in known_filters.profiles("x86_64") if name == label)
    others = [each for name, each in known_filters.profiles("x86_64") if name != label]
    count = 0
    for changed in changes(loads(dumps(profile).encode())):
        if all(rule.get("names") and "action" in rule for rule in changed.get("syscalls", ())):
            count += 1
            shape = seccomp.shape(changed, "x86_64")
            same = [each for each, _ in seccomp.KNOWN.get(shape, ()) if each == changed]
            # without chroot, Docker's profile is that of a container without capabilities
            assert same == [each for each in others if each == changed], json.dumps(changed)

    assert count > 1000


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        (lambda profile: profile["syscalls"][0]["names"].remove("read"), False),
        (lambda profile: profile["syscalls"][0]["names"].append("no_such_call"), True),
        (lambda profile: profile["syscalls"][2]["args"][0].update(value=41), False),
        (lambda profile: profile["architectures"].remove("SCMP_ARCH_X86"), False),
        (lambda profile: profile.update(defaultErrnoRet=2), False),
        (lambda profile: profile.update(flags=["SECCOMP_FILTER_FLAG_LOG"]), False),
    ],
    ids=["name", "unknown name", "argument", "architecture", "errno", "flag"],
)
def test_changed_profile_is_compiled(change: Any, warned: bool, known: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change gets the program, the flags and the warnings that it asks for."""
    (original,) = (profile for name, profile in known_filters.profiles("x86_64") if name == DOCKER)
    profile = copy.deepcopy(original)
    change(profile)

    found = seccomp.compile_filter(profile, "x86_64")

    known_one = seccomp.compile_filter(original, "x86_64")
    expected = compiled_afresh(profile, "x86_64", monkeypatch)
    assert not found.is_compiled
    assert (expected.program, expected.flags) == (found.program, found.flags)
    assert warned or (known_one.program, known_one.flags) != (found.program, found.flags)
    assert warned == any("no_such_call" in line for line in found.warnings)


def test_profile_of_another_architecture_is_not_known(known: object) -> None:
    """A profile is known for the architecture that its engine sends it on."""
    for arch, _, profile in PROFILES:
        assert known_filter(profile, arch)
        assert not any(known_filter(profile, other) for other in MACHINES if other != arch)


def test_architecture_without_profiles_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build on another architecture goes on without known filters."""
    monkeypatch.setattr(seccomp, "KNOWN", {})
    monkeypatch.setattr(device_filter, "KNOWN", [])

    known_filters.compile_known("riscv64")

    assert {} == seccomp.KNOWN


def test_config_of_the_rehearsal_is_known(known: object) -> None:
    """The benchmark's config has Docker's profile as Docker sends it."""
    config = json.loads((ROOT / "pyoci/executable/docker.json").read_text())

    assert known_filter(config["linux"]["seccomp"], "x86_64")


@pytest.mark.parametrize(("engine", "bundle"), [("Docker", "docker-default"), ("containerd", "containerd-ctr")])
def test_known_device_rules_are_what_the_engine_sends(engine: str, bundle: str) -> None:
    """The lists equal those of captured configs."""
    config = json.loads((ROOT / "tests/data/bundles" / f"{bundle}.json").read_text())

    assert config["linux"]["resources"]["devices"] == known_filters.device_rules()[engine]


@pytest.mark.parametrize("engine", known_filters.device_rules())
def test_known_device_filter_equals_compiled_one(engine: str, known: object) -> None:
    """A known list of device rules gets the compiler's program without compiling it, and no changed list does."""
    rules = loads(dumps(known_filters.device_rules()[engine]).encode())
    programs = [program for _, program in device_filter.KNOWN]

    found = device_filter.compile_rules(rules)

    assert any(found is program for program in programs)
    changed_rules = [each for each in changes(rules) if all({"allow", "access"} <= rule.keys() for rule in each)]
    assert len(changed_rules) > 100
    for changed in changed_rules:
        with contextlib.suppress(CgroupError, KeyError):
            assert not any(device_filter.compile_rules(changed) is program for program in programs)
    device_filter.KNOWN.clear()
    assert found == device_filter.compile_rules(rules)
