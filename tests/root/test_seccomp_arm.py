"""Seccomp filters on programs of 32-bit Arm, which processors of aarch64 may run beside those of 64 bits."""

import errno
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyoci.compiler import known_filters
from pyoci.compiler._syscalls import COLUMNS, NAMES
from tests.support.runtime import Bundle, Runtime

COMPILER = shutil.which("arm-linux-gnueabihf-gcc")
SOURCE = Path(__file__).parents[1] / "support/arm.c"
NUMBERS = dict(zip(NAMES, COLUMNS["SCMP_ARCH_ARM"], strict=True))
HIGHEST = NUMBERS["set_tls"]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        platform.machine() != "aarch64" or not COMPILER, reason="needs aarch64 and gcc-arm-linux-gnueabihf"
    ),
    pytest.mark.may_skip("other processors run no programs of 32-bit Arm"),
]


@pytest.fixture
def arm(bundle: Bundle) -> Bundle:
    """A bundle with the program /arm."""
    flags = ["-marm", "-O2", "-Wall", "-Werror", "-fomit-frame-pointer", "-ffreestanding", "-nostdlib", "-static"]
    subprocess.run([str(COMPILER), *flags, SOURCE, "-o", bundle.rootfs / "arm"], check=True)
    return bundle


def results(runtime: Runtime, bundle: Bundle, *calls: str) -> list[int]:
    """The results of calls NAME or NAME:ARGUMENT of the program; negative ones are errors."""
    words = []
    for call in calls:
        name, colon, argument = call.partition(":")
        words.append(f"{NUMBERS.get(name, name)}{colon}{argument}")
    bundle.program("/arm", *words)
    result = runtime.run()
    assert (0, "") == (result.status, result.err), result
    numbers = [int(line, 16) for line in result.out.split()]
    return [number - (number >> 31 << 32) for number in numbers]


def profile(*rules: dict[str, Any], **others: Any) -> dict[str, Any]:
    """A profile for both architectures that allows what no rule denies."""
    architectures = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": list(rules), **others}


def deny(name: str, number: int, **others: Any) -> dict[str, Any]:
    """A rule that answers a call with an error."""
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number, **others}


def test_program_runs_without_a_filter(runtime: Runtime, arm: Bundle) -> None:
    """The kernel runs it, so the filter decides in the other tests."""
    arm.linux.pop("seccomp", None)
    assert [1, 0, 0] == results(runtime, arm, "getpid", "getppid", "cacheflush")


def test_rules_apply_to_arms_numbers(runtime: Runtime, arm: Bundle) -> None:
    """A rule names a call, whose number differs from that of aarch64."""
    arm.linux["seccomp"] = profile(deny("getppid", errno.EBADF), deny("cacheflush", errno.EXDEV))
    assert [1, -errno.EBADF, -errno.EXDEV] == results(runtime, arm, "getpid", "getppid", "cacheflush")


def test_conditions_compare_32_bits(runtime: Runtime, arm: Bundle) -> None:
    """An argument has no high word."""
    condition = {"index": 0, "op": "SCMP_CMP_EQ", "value": 0xFFFF_FFFF}
    arm.linux["seccomp"] = profile(deny("personality", errno.EXDEV, args=[condition]))
    denied, allowed = results(runtime, arm, "personality:4294967295", "personality:0")
    assert -errno.EXDEV == denied
    assert allowed >= 0


def test_dockers_profile(runtime: Runtime, arm: Bundle) -> None:
    """Numbers between Arm's calls and its own ones far above get EPERM, and higher numbers ENOSYS."""
    (found,) = [
        profile for label, profile in known_filters.profiles("aarch64") if label == "Docker 28, default capabilities"
    ]
    arm.linux["seccomp"] = found
    unknown, above = "900000", str(HIGHEST + 1)
    calls = ["getpid", "cacheflush", "reboot", unknown, above, "personality:4"]
    expected = [1, 0, -errno.EPERM, -errno.EPERM, -errno.ENOSYS, -errno.EPERM]
    assert expected == results(runtime, arm, *calls)


def test_program_is_killed_unless_arm_is_listed(runtime: Runtime, arm: Bundle) -> None:
    """Its first call ends it."""
    arm.linux["seccomp"] = profile(architectures=["SCMP_ARCH_AARCH64"])
    arm.program("/arm", str(NUMBERS["getpid"]))
    result = runtime.run()
    assert (128 + 31, "") == (result.status, result.out)  # SIGSYS
