"""The device filter in the kernel: the verifier takes every program, and opens fail as the rules say."""

import errno
import os
import pathlib
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyoci import _native, cgroups
from pyoci.cgroups import hierarchy
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.device_filter import compile_rules
from pyoci.errors import CgroupError

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

DENY_ALL = {"allow": False, "access": "rwm"}
MEM = {"type": "c", "major": 1, "minor": 1}
ACCESS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}

# Opens or makes each node given as NAME:ACCESS, and prints the errno (0: it went well).
PROBE = """
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write("0")
flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
for what in sys.argv[2:]:
    path, _, access = what.rpartition(":")
    try:
        if access == "m":
            os.mknod(path, 0o20600, os.makedev(1, 1))
        else:
            os.close(os.open(path, flags[access] | os.O_NOCTTY | os.O_NONBLOCK))
        print(0)
    except OSError as error:
        print(error.errno)
"""


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A new cgroup."""
    cgroup = Cgroup.create(f"/pyoci-test-devices-{os.getpid()}", "id", [])
    yield cgroup
    cgroup.destroy(kill=True)


def probe(cgroup: Cgroup, *attempts: str) -> list[int]:
    """The errno of each attempt inside the cgroup."""
    command = [sys.executable, "-I", "-S", "-c", PROBE, cgroup.mount + cgroup.path, *attempts]
    return [int(n) for n in subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()]


def attached(path: Path | str) -> int:
    """How many device programs a cgroup has, as the kernel tells."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    attr = bytearray(struct.pack("=8I", fd, 6, 0, 0, 0, 0, 0, 0))
    try:
        _native.bpf(16, attr)
    finally:
        os.close(fd)
    return struct.unpack_from("=I", attr, 24)[0]


def test_default_devices_open_and_others_do_not(cgroup: Cgroup, tmp_path: Path) -> None:
    """CG-22 with deny-all, the one rule that containerd sends: making nodes is allowed, opening them is not."""
    os.mknod(tmp_path / "block", 0o60600, os.makedev(1, 1))
    os.mknod(tmp_path / "mem", 0o20600, os.makedev(1, 1))
    cgroup.attach_device_filter(compile_rules([DENY_ALL]))

    assert 1 == attached(cgroup.mount + cgroup.path)
    assert [0] * 8 == probe(
        cgroup,
        "/dev/null:rw",
        "/dev/zero:r",
        "/dev/full:rw",
        "/dev/random:r",
        "/dev/urandom:r",
        "/dev/ptmx:rw",
        f"{tmp_path}/made:m",
        "/etc/passwd:r",
    )
    assert [errno.EPERM] * 4 == probe(
        cgroup, f"{tmp_path}/mem:r", f"{tmp_path}/mem:rw", f"{tmp_path}/made:w", f"{tmp_path}/block:r"
    )


def test_partly_denied_access_is_refused(cgroup: Cgroup, tmp_path: Path) -> None:
    """A-34: after `deny r` opening for both is refused, and writing is not."""
    os.mknod(tmp_path / "mem", 0o20600, os.makedev(1, 1))
    rules = [DENY_ALL, {"allow": True, "access": "rw", **MEM}, {"allow": False, "access": "r", **MEM}]
    before = probe(cgroup, f"{tmp_path}/mem:w")
    cgroup.attach_device_filter(compile_rules(rules))

    assert [errno.EPERM, errno.EPERM, *before] == probe(
        cgroup, f"{tmp_path}/mem:r", f"{tmp_path}/mem:rw", f"{tmp_path}/mem:w"
    )


def test_allowing_everything_attaches_nothing(cgroup: Cgroup) -> None:
    """A privileged container has no program to be asked."""
    cgroup.attach_device_filter(compile_rules([DENY_ALL, {"allow": True, "access": "rwm"}]))

    assert 0 == attached(cgroup.mount + cgroup.path)


def test_filter_of_the_parent_stays_in_force(cgroup: Cgroup, tmp_path: Path) -> None:
    """What an ancestor denies no child can allow."""
    os.mknod(tmp_path / "mem", 0o20600, os.makedev(1, 1))
    child = Cgroup.create(f"{cgroup.path}/child", "id", [])
    cgroup.attach_device_filter(compile_rules([DENY_ALL]))
    child.attach_device_filter(compile_rules([DENY_ALL, {"allow": True, "access": "rw", **MEM}]))

    assert [errno.EPERM] == probe(child, f"{tmp_path}/mem:r")
    child.destroy()


def test_filter_leaves_a_cgroup_that_was_there_before() -> None:
    """I3: the cgroup stays, the program must not."""
    directory = pathlib.Path(hierarchy.find_mount() + f"/pyoci-test-devices-kept-{os.getpid()}")
    directory.mkdir()
    try:
        cgroup = Cgroup.create(f"/{directory.name}", "id", [])
        cgroup.attach_device_filter(compile_rules([DENY_ALL]))
        assert 1 == attached(directory)

        cgroups.from_dict(cgroup.to_dict()).destroy(kill=True)
        cgroup.close()
        assert 0 == attached(directory)
    finally:
        directory.rmdir()


def test_a_program_that_the_kernel_refuses_says_why(cgroup: Cgroup) -> None:
    """The last line of the verifier, asked for only then."""
    endless = struct.pack("<BBhi", 0xB4, 0, 0, 1)
    with pytest.raises(CgroupError, match=r"cannot load device filter: .*last insn is not an exit") as caught:
        cgroup.attach_device_filter(endless)

    assert "/linux/resources/devices" == caught.value.where


LETTERS = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
NUMBERS = st.sampled_from([0, 1, 3, 5, 136, 4095])
RULES = st.lists(
    st.fixed_dictionaries(
        {"allow": st.booleans(), "access": LETTERS},
        optional={"type": st.sampled_from("abc"), "major": NUMBERS, "minor": NUMBERS},
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RULES)
def test_verifier_takes_every_program(rules) -> None:
    """No dead code, no bad jump, whatever the rules."""
    if program := compile_rules(rules):
        os.close(_native.bpf_prog_load(15, program))


def test_verifier_takes_as_many_rules_as_a_config_may_have() -> None:
    """A thousand tests in a row, with every mix of letters, must not be too complex for it."""
    letters = ["r", "w", "rw", "m", "rwm"]
    rules = [
        {"allow": n % 3 > 0, "type": "bc"[n % 2], "major": n % 7, "minor": n, "access": letters[n % 5]}
        for n in range(1024)
    ]

    os.close(_native.bpf_prog_load(15, compile_rules([{"allow": True, "access": "rwm"}, *rules])))
