"""A process that joins others. They, and tracers among them, see it only with the credentials that it keeps.

The attackers are programs of the container: tests/support/seizer.c has CAP_SYS_PTRACE and seizes each new process,
tests/support/watcher.c is an ordinary user's and reads what /proc tells of it.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyoci.config.constants import CAPABILITIES as CAPABILITY_NUMBERS
from tests.support.config import CAPABILITIES
from tests.support.hostile import Attack
from tests.support.kernels import KERNEL
from tests.support.probe import build
from tests.support.runtime import PATIENCE, wait_for

pytestmark = pytest.mark.root

ROUNDS = 40
SECRET = "secret-of-the-host"
MOUNT_IS_FORBIDDEN = -1
JUST_EXECUTED = -8  # it did not stand at a system call: there is nothing that the attacker could have it call


@pytest.fixture
def host_environment() -> dict[str, str]:
    """The runtime's own environment, with what is not for the container."""
    return {**os.environ, "TOKEN": SECRET}


# Denies something, and lets the attacker do its work.
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["clone3", "bpf", "swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}
PROGRAM = """
static long call(long n, long a, long b, long c)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
void _start(void)
{
    call(1, 1, (long)"ran\\n", 4);
    call(231, 0, 0, 0);
    *(volatile char *)0 = 0;
}
"""


class Seizer:
    """A container whose program seizes every new process, and what it tells of them."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        shutil.copy(build("seizer"), attack.rootfs / "bin/seizer")
        (attack.rootfs / "tmp").mkdir(exist_ok=True)
        attack.process["args"] = ["/bin/seizer", SECRET]
        for kind in ("bounding", "effective", "permitted"):
            attack.process["capabilities"][kind] = [*CAPABILITIES, "CAP_SYS_PTRACE"]

    def start(self, environment: dict[str, str]) -> None:
        assert 0 == (result := self.attack.create(env=environment)).status, result
        assert 0 == (result := self.attack.start()).status, result
        wait_for(lambda: "ready" in self.attack.output())

    def seized(self) -> list[dict[str, str]]:
        """Its reports so far, by name."""
        lines = self.attack.output().splitlines()[1:]
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def own(self, name: str) -> str:
        """A line of the container's first process' /proc/PID/status."""
        text = Path(f"/proc/{self.attack.pid()}/status").read_text()
        return next(line.split()[1] for line in text.splitlines() if line.startswith(name + ":"))


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize(("seccomp", "nnp"), [(False, False), (True, False), (True, True)],
                         ids=["", "seccomp", "seccomp-nnp"])  # fmt: skip
def test_seized_process_has_nothing_of_the_runtime(
    attack: Attack, host_environment: dict[str, str], seccomp: bool, nnp: bool, user: int
) -> None:
    """Who seizes what exec adds, finds a process with the container's capabilities and filter, and nothing to read."""
    seizer = Seizer(attack)
    attack.process["noNewPrivileges"] = nnp
    if seccomp:
        attack.linux["seccomp"] = PROFILE
    seizer.start(host_environment)
    bounding = seizer.own("CapBnd")
    process = {**attack.process, "args": ["/bin/true"], "user": {"uid": user, "gid": user, "additionalGids": [7]}}
    given = attack.folder / "process.json"
    given.write_text(json.dumps(process))
    for _ in range(ROUNDS):
        assert 0 == (result := attack("exec", "--process", given, attack.id, env=host_environment)).status, result

    found = seizer.seized()
    set_up = [process for process in found if process["comm"] == "init"]
    assert set_up, "the attacker was too slow each time"
    assert {(bounding, bounding, "7")} == {(p["CapBnd"], p["CapPrm"], p["Groups"]) for p in set_up}
    assert {("2" if seccomp else "0", str(int(nnp)))} == {(p["Seccomp"], p["NoNewPrivs"]) for p in found}
    assert {"no"} == {process["secret"] for process in found}
    assert {int(process["mount"]) for process in found} <= {MOUNT_IS_FORBIDDEN, JUST_EXECUTED}
    for process in set_up:
        descriptors = dict(entry.split(":", 1) for entry in process["fds"].split(","))
        assert ["socket"] == [target.split(":")[0] for number, target in descriptors.items() if int(number) > 2]


def test_attacker_is_able(attack: Attack, host_environment: dict[str, str]) -> None:
    """The control: a process that may mount is made to, and what it was given is found in its memory."""
    seizer = Seizer(attack)
    seizer.start(host_environment)
    words = ("exec", "--cap", "CAP_SYS_ADMIN", "--env", f"GIVEN={SECRET}", attack.id, "/bin/true")
    for _ in range(ROUNDS):
        assert 0 == (result := attack(*words)).status, result
    found = seizer.seized()
    assert any("0" == process["mount"] for process in found), found
    assert any("yes" == process["secret"] for process in found), found


@pytest.mark.parametrize("user", [0, 1000])
def test_watcher_sees_nothing_of_the_runtime(attack: Attack, host_environment: dict[str, str], user: int) -> None:
    """Command line, environment and name of the runtime are not to be read in the container."""
    shutil.copy(build("watcher"), attack.rootfs / "bin/watcher")
    attack.process["args"] = ["/bin/watcher"]
    attack.process["user"] = {"uid": user, "gid": user}
    assert 0 == (result := attack.create(env=host_environment)).status, result
    assert 0 == (result := attack.start()).status, result
    wait_for(lambda: "ready" in attack.output())
    for _ in range(ROUNDS):
        words = ("exec", "--env", f"GIVEN={SECRET}", "--user", "2000", attack.id, "/bin/true")
        assert 0 == (result := attack(*words, env=host_environment)).status, result
    seen = {line for line in attack.output().splitlines()[1:] if not line.startswith("auxv=")}
    assert {"cmdline=init|", "comm=init"} <= seen, "the attacker was too slow each time"
    # the kernel changes a name without a lock: a reader may see the beginning of one and the end of the other
    others = {line for line in seen if not re.fullmatch("comm=[it][nr][iu][te]", line)}
    assert others <= {"cmdline=init|", "cmdline=/bin/true|"}


def test_created_process_tells_nothing_of_the_runtime(attack: Attack, host_environment: dict[str, str]) -> None:
    """The container's first process, until it is started: not even its owner reads what the runtime was given."""
    for kind in ("bounding", "effective", "permitted"):
        attack.process["capabilities"][kind] = [*CAPABILITIES, "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
    assert 0 == (result := attack.create(env=host_environment)).status, result
    script = (
        "tr '\\0' '|' </proc/1/cmdline; cat /proc/1/comm; tr -d '\\0' </proc/1/environ; "
        "cut -d' ' -f2 /proc/1/stat; head -n 1 /proc/1/status"
    )
    result = attack("exec", attack.id, "/bin/sh", "-c", script, env=host_environment)
    assert (0, "init|init\n(init)\nName:\tinit\n", "") == (result.status, result.out, result.err)


def build_program(attack: Attack) -> Path:
    """A program that writes `ran` and exits, by two system calls."""
    source, program = attack.folder / "program.c", attack.rootfs / "bin/program"
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-static", "-nostdlib", "-ffreestanding", "-o", program, source], check=True)
    return program


@pytest.mark.skipif(KERNEL < (6, 17), reason="before, only a process in a pid namespace mounts its procfs")
@pytest.mark.may_skip("docs/kernels.md says what is done otherwise")
@pytest.mark.parametrize(("seccomp", "nnp"), [(False, False), (True, False), (True, True)],
                         ids=["", "seccomp", "seccomp-nnp"])  # fmt: skip
def test_first_process_in_a_joined_pid_namespace(
    attack: Attack, host_environment: dict[str, str], seccomp: bool, nnp: bool
) -> None:
    """A container joins a pid namespace: processes there see its first process with that container's powers alone,
    during
    the set-up and before the start. They never see a hook of the host."""
    seizer = Seizer(attack)
    seizer.start(host_environment)
    bounding = f"{sum(1 << CAPABILITY_NUMBERS[name] for name in CAPABILITIES):016x}"
    folder = attack.folder / "joining"
    folder.mkdir()
    config = json.loads((attack.bundle.folder / "config.json").read_text())
    config["root"]["path"] = str(attack.rootfs)
    config["process"] |= {"args": ["/bin/true"], "noNewPrivileges": nnp}
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    if seccomp:
        config["linux"]["seccomp"] = PROFILE
    config["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", ":"]}]}
    for entry in config["linux"]["namespaces"]:
        if entry["type"] == "pid":
            entry["path"] = f"/proc/{attack.pid()}/ns/pid"
    (folder / "config.json").write_text(json.dumps(config))
    for number in range(ROUNDS // 2):
        name = f"{attack.id}n{number}"
        attack.ids.add(name)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": host_environment}
        command = attack.command("run", "--bundle", folder, name)
        assert 0 == subprocess.run(command, timeout=PATIENCE, check=False, **quiet).returncode

    found = seizer.seized()
    set_up = [process for process in found if process["comm"] == "init"]
    assert set_up, "the attacker was too slow each time"
    assert {"init", "true"} >= {process["comm"] for process in found}
    assert {(bounding, bounding)} == {(process["CapBnd"], process["CapPrm"]) for process in set_up}
    assert {("2" if seccomp else "0", str(int(nnp)))} == {(p["Seccomp"], p["NoNewPrivs"]) for p in found}
    assert {"no"} == {process["secret"] for process in found}
    assert {int(process["mount"]) for process in found} <= {MOUNT_IS_FORBIDDEN, JUST_EXECUTED}


@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("forbidden", [(), ("setsid",), ("clone",), ("read",), ("exit_group",), ("capset", "capget")])
def test_profile_forbids_what_exec_does(attack: Attack, forbidden: tuple[str, ...], nnp: bool) -> None:
    """A profile need not allow what the runtime does, only what the program does: here, next to nothing."""
    build_program(attack)
    attack.process["noNewPrivileges"] = nnp
    names = {"execve", "write", "exit_group", "capset", "capget", "setsid", "clone", "read"} - {*forbidden}
    attack.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}],
    }
    assert 0 == (result := attack.create()).status, result
    result = attack("exec", attack.id, "/bin/program")
    if forbidden == ("capset", "capget") and not nnp:
        assert 255 == result.status, result
    elif forbidden == ("exit_group",):
        assert (128 + 11, "ran\n") == (result.status, result.out), result
    else:
        assert (0, "ran\n") == (result.status, result.out), result


@pytest.mark.parametrize("way", ["/proc/self/fd/3", "/dev/fd/3", "/bin/link"])
def test_program_behind_its_own_descriptor(attack: Attack, way: str) -> None:
    """A program that only the process itself can name is still executed."""
    attack.link("/bin/link", "/proc/self/fd/3")
    attack.bundle.shell("exec sleep 100")
    assert 0 == (result := attack.create()).status, result
    assert 0 == (result := attack.start()).status, result
    fd = os.open(build_program(attack), os.O_RDONLY)

    def give() -> None:
        os.dup2(fd, 3)

    words = ("exec", "--preserve-fds", "1", attack.id, way)
    result = attack(*words, close_fds=False, preexec_fn=give)
    os.close(fd)
    assert (0, "ran\n") == (result.status, result.out), result


@pytest.mark.parametrize("way", ["/proc/self/fd/77", "/dev/fd/77", "/bin/link"])
def test_program_behind_no_descriptor(attack: Attack, way: str) -> None:
    """What engines make of a program that is missing: the words for it."""
    attack.link("/bin/link", "/proc/self/fd/77")
    assert 0 == (result := attack.create()).status, result
    result = attack("exec", attack.id, way)
    message = f'exec: "{way}": stat {way}: no such file or directory'
    assert (255, True) == (result.status, message in result.err), result
