"""process.scheduler, process.ioPriority and linux.memoryPolicy, read back from the kernel with the container's pid."""

import contextlib
import ctypes
import errno
import json
import os
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.kernels import KERNEL
from tests.support.runtime import PATIENCE, Bundle, Runtime, cgroup_mount

pytestmark = pytest.mark.root

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {"sched_getattr": 315, "ioprio_get": 252, "set_mempolicy": 238},
    "aarch64": {"sched_getattr": 275, "ioprio_get": 31, "set_mempolicy": 237},
}[os.uname().machine]
IOPRIO_WHO_PROCESS = 1
CAP_SYS_NICE = 23
MS = 1_000_000
NICE = os.nice(0)  # of the runtime, and so of what the config does not say otherwise of
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 2 * MS, "deadline": 20 * MS, "period": 100 * MS}


def attributes(pid: int) -> tuple[int, ...]:
    """sched_getattr(2): policy, flags, nice, priority, runtime, deadline, period."""
    buffer = ctypes.create_string_buffer(56)
    assert 0 == LIBC.syscall(NUMBERS["sched_getattr"], pid, buffer, 56, 0), os.strerror(ctypes.get_errno())
    return struct.unpack_from("=IQiIQQQ", buffer, 4)


def io_priority(pid: int) -> tuple[int, int]:
    """ioprio_get(2): class, priority."""
    value = LIBC.syscall(NUMBERS["ioprio_get"], IOPRIO_WHO_PROCESS, pid)
    assert value >= 0, os.strerror(ctypes.get_errno())
    return value >> 13, value & 0x1FFF


def has_memory_policy(pid: int, policy: str) -> bool:
    """Whether all of a process' memory has the policy with this name of the kernel's: numa(7), /proc/PID/numa_maps."""
    lines = Path(f"/proc/{pid}/numa_maps").read_text().splitlines()
    return len(lines) > 3 and all(f" {policy} " in f"{line} " for line in lines)


def started(runtime: Runtime, bundle: Bundle) -> int:
    """The pid of a container that has been started and sleeps."""
    bundle.program("sleep", 100)
    runtime.create()
    runtime.start()
    return runtime.pid()


def has_numa() -> bool:
    """Whether the kernel knows NUMA policies at all."""
    return LIBC.syscall(NUMBERS["set_mempolicy"], 0, None, 0) == 0


def realtime_reaches_cgroups() -> bool:
    """Whether a process in a cgroup may be SCHED_FIFO. Where the kernel shares realtime out among cgroups
    (CONFIG_RT_GROUP_SCHED) and the cpu controller is of version 2, which has no file for that, it may not.
    """
    top = Path(cgroup_mount())
    if "cpu" not in (top / "cgroup.controllers").read_text().split():
        return True
    (top / "cgroup.subtree_control").write_text("+cpu")
    cgroup = top / f"realtime-{os.getpid()}"
    cgroup.mkdir()
    try:
        script = "echo 0 > $0/cgroup.procs; chrt --fifo 1 true"
        return subprocess.run(["sh", "-c", script, cgroup], stderr=subprocess.DEVNULL, check=False).returncode == 0
    finally:
        cgroup.rmdir()


needs_numa = pytest.mark.skipif(not has_numa(), reason="this kernel was built without NUMA")

# --- process.scheduler


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"policy": "SCHED_OTHER", "nice": -7}, (0, 0, -7, 0)),
        ({"policy": "SCHED_OTHER", "nice": 19, "flags": []}, (0, 0, 19, 0)),
        ({"policy": "SCHED_BATCH", "nice": 3}, (3, 0, 3, 0)),
        ({"policy": "SCHED_IDLE"}, (5, 0, NICE, 0)),
        ({"policy": "SCHED_FIFO", "priority": 1}, (1, 0, 0, 1)),
        ({"policy": "SCHED_RR", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (2, 1, 0, 99)),
        # what it had stays: the policy of the runtime, or for the kernel that and all parameters
        ({"policy": "SCHED_BATCH", "nice": 4, "flags": ["SCHED_FLAG_KEEP_POLICY"]}, (0, 0, 4, 0)),
        ({"policy": "SCHED_BATCH", "nice": 4, "flags": ["SCHED_FLAG_KEEP_PARAMS"]}, (0, 0, NICE, 0)),
    ],
)
@pytest.mark.parametrize("user_namespace", [False, True], ids=["", "userns"])
def test_scheduler(
    runtime: Runtime,
    bundle: Bundle,
    scheduler: dict[str, Any],
    expected: tuple[int, int, int, int],
    user_namespace: bool,
) -> None:
    """The created process has it, and the program that it becomes; also one without any capability."""
    bundle.process["scheduler"] = scheduler
    bundle.process["user"] |= {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}
    if user_namespace:
        bundle.in_user_namespace()
    bundle.program("sleep", 100)
    if expected[0] in (1, 2) and not realtime_reaches_cgroups():
        message = runtime.create_fails()
        assert f"/process/scheduler: cannot set scheduling policy {scheduler['policy']}: operation not perm" in message
        assert "CONFIG_RT_GROUP_SCHED" in message
        return
    runtime.create()
    pid = runtime.pid()
    assert expected == attributes(pid)[:4]
    runtime.start()
    assert "sleep\x00100\x00" == Path(f"/proc/{pid}/cmdline").read_text()
    assert expected == attributes(pid)[:4]


@pytest.mark.parametrize(
    ("flags", "value"), [([], 0), (["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RESET_ON_FORK"], 7)]
)
def test_deadline(runtime: Runtime, bundle: Bundle, flags: list[str], value: int) -> None:
    """Its three times, in nanoseconds, and the flags that belong to it."""
    bundle.process["scheduler"] = {**DEADLINE, "flags": flags}
    assert (6, value, 0, 0, 2 * MS, 20 * MS, 100 * MS) == attributes(started(runtime, bundle))


def test_deadline_is_the_period_if_none_is_given(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel's rule."""
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 2 * MS, "deadline": 20 * MS}
    assert (2 * MS, 20 * MS, 20 * MS) == attributes(started(runtime, bundle))[4:]


def test_deadline_with_hooks(runtime: Runtime, bundle: Bundle) -> None:
    """A hook that init forks: only where the children are to have another policy."""
    bundle.process["scheduler"] = DEADLINE
    bundle.hook("createContainer", "true").hook("startContainer", "exec cat /proc/self/stat > /stat")
    assert "/process/scheduler: a process with SCHED_DEADLINE can't run the startContainer" in runtime.create_fails()
    bundle.process["scheduler"] = {**DEADLINE, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    pid = started(runtime, bundle)
    assert 6 == attributes(pid)[0]
    assert 0 == int((bundle.rootfs / "stat").read_text().rpartition(")")[2].split()[38])  # its policy: proc_pid_stat(5)


def test_too_much_for_deadline(runtime: Runtime, bundle: Bundle) -> None:
    """A whole processor for each of as many containers as there are processors: the kernel keeps some for the
    others.
    """
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 1000 * MS, "deadline": 1000 * MS}
    *names, last = [f"{runtime.host.token}-{n}" for n in range(os.cpu_count())]
    for name in names:
        runtime.create(id=name)
    message = runtime.fails("create", "--bundle", bundle.folder, last)
    assert {} == runtime.state(last)
    assert [] == runtime.host.cgroups(last)
    assert "/process/scheduler: cannot set scheduling policy SCHED_DEADLINE: device or resource busy" in message
    assert "hint: the host has not enough processor time left" in message


@pytest.mark.parametrize("flag", ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"])
def test_utilization_clamps(runtime: Runtime, bundle: Bundle, flag: str) -> None:
    """Clamped to 0, as the specification has no value for it; or, where the kernel can't, an error that says so."""
    bundle.process["scheduler"] = {"policy": "SCHED_OTHER", "flags": [flag]}
    buffer = ctypes.create_string_buffer(struct.pack("=IIQiIQQQII", 56, 0, 0x20, 0, 0, 0, 0, 0, 0, 1024), 56)
    if LIBC.syscall(NUMBERS["sched_getattr"] - 1, 0, buffer, 0) == 0:
        started(runtime, bundle)
    else:
        assert errno.EOPNOTSUPP == ctypes.get_errno()
        message = runtime.create_fails()
        assert "/process/scheduler: cannot set scheduling policy SCHED_OTHER: operation not supported" in message
        assert "CONFIG_UCLAMP_TASK" in message


@pytest.mark.parametrize("program", ["scheduler", "ioPriority"])
def test_without_the_capability(runtime: Runtime, bundle: Bundle, program: str) -> None:
    """A runtime without CAP_SYS_NICE: what any process may do of itself is done, the rest is an error."""
    lowered = ["setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice"]
    run = runtime.command
    runtime.command = lambda *words, **kept: [*lowered, *run(*words, **kept)]
    bundle.process["user"] |= {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}
    if program == "scheduler":
        bundle.process["scheduler"] = {"policy": "SCHED_FIFO", "priority": 5}
        expected = "cannot set scheduling policy SCHED_FIFO: operation not permitted (hint: needs CAP_SYS_NICE"
        allowed = {"scheduler": {"policy": "SCHED_BATCH", "nice": 5}}
    else:
        bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_RT", "priority": 5}
        expected = "cannot set I/O priority IOPRIO_CLASS_RT: operation not permitted (hint: needs CAP_SYS_NICE"
        allowed = {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7}}
    assert f"/process/{program}: {expected}" in runtime.create_fails()
    bundle.process |= allowed
    pid = started(runtime, bundle)
    assert ((3, 0, 5, 0) if program == "scheduler" else (0, 0, NICE, 0)) == attributes(pid)[:4]
    assert program == "scheduler" or (2, 7) == io_priority(pid)


# --- exec


def test_exec(runtime: Runtime, bundle: Bundle) -> None:
    """A process that is executed in the container has a scheduler and an I/O priority of its own, or the first
    one's.
    """
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 3}
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    if has_numa():
        bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    started(runtime, bundle)
    with executed(runtime, "sleep", "50") as pid:
        assert ((3, 0, 3, 0), (2, 6)) == (attributes(pid)[:4], io_priority(pid))
        assert not has_numa() or has_memory_policy(pid, "bind:0")
    own = {"scheduler": {"policy": "SCHED_IDLE"}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}}
    (runtime.folder / "process.json").write_text(json.dumps({**bundle.process, **own, "args": ["sleep", "51"]}))
    with executed(runtime, process=runtime.folder / "process.json") as pid:
        assert ((5, 0, NICE, 0), (3, 0)) == (attributes(pid)[:4], io_priority(pid))


@contextlib.contextmanager
def executed(runtime, *words: Any, process=None):
    """The pid of a process that exec leaves in the container."""
    options = ["--detach", "--pid-file", runtime.folder / "pid", *(["--process", process] if process else [])]
    with (runtime.folder / "exec").open("wb") as out:
        command = runtime.command("exec", *options, runtime.id, *words)
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=PATIENCE, check=True)
    pid = int((runtime.folder / "pid").read_text())
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# --- process.ioPriority


@pytest.mark.parametrize("user_namespace", [False, True], ids=["", "userns"])
@pytest.mark.parametrize(("name", "number"), [("RT", 1), ("BE", 2), ("IDLE", 3)])
@pytest.mark.parametrize("priority", [0, 7])
def test_io_priority(
    runtime: Runtime, bundle: Bundle, name: str, number: int, priority: int, user_namespace: bool
) -> None:
    """Class and priority; the children have it, too."""
    bundle.process["ioPriority"] = {"class": f"IOPRIO_CLASS_{name}", "priority": priority}
    bundle.process["user"] |= {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}
    if user_namespace:
        bundle.in_user_namespace()
    bundle.shell("sleep 100 & wait")
    runtime.create()
    runtime.start()
    pid = runtime.pid()
    assert (number, priority) == io_priority(pid)
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not children.read_text():
        pass
    assert (number, priority) == io_priority(int(children.read_text()))


# --- linux.memoryPolicy


@needs_numa
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"mode": "MPOL_DEFAULT"}, "default"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_PREFERRED"}, "local"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0"),
        ({"mode": "MPOL_BIND", "nodes": "0-0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        pytest.param(
            {"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"},
            "weighted interleave:0",
            marks=[
                pytest.mark.skipif(KERNEL < (6, 9), reason="the kernel has no weighted interleave"),
                pytest.mark.may_skip("test_kernel.py has what Linux before 6.9 says"),
            ],
        ),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "bind=relative:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, "bind=balancing:0"),
        ({"mode": "MPOL_BIND", "nodes": "0,1023", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_memory_policy(runtime: Runtime, bundle: Bundle, policy: dict[str, Any], expected: str) -> None:
    """Each mode and flag, for the program and its children."""
    bundle.linux["memoryPolicy"] = policy
    assert has_memory_policy(started(runtime, bundle), expected)


@needs_numa
@pytest.mark.parametrize(
    "policy",
    [
        {"mode": "MPOL_BIND", "nodes": "1000"},
        {"mode": "MPOL_BIND", "nodes": "0,1000"},
        {"mode": "MPOL_INTERLEAVE", "nodes": "0-32767"},
        {"mode": "MPOL_PREFERRED", "nodes": "1023"},
    ],
)
def test_memory_policy_of_nodes_that_are_not_there(runtime: Runtime, bundle: Bundle, policy: dict[str, str]) -> None:
    """The kernel would silently use others, or none."""
    bundle.linux["memoryPolicy"] = policy
    message = runtime.create_fails()
    assert f"/linux/memoryPolicy: cannot set memory policy {policy['mode']}: " in message
    assert "hint: a node has no memory or is not in cpuset.mems" in message


@pytest.mark.skipif(has_numa(), reason="this kernel has NUMA")
@pytest.mark.may_skip("most kernels have NUMA")
def test_memory_policy_without_numa(runtime: Runtime, bundle: Bundle) -> None:
    """An error that says so."""
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_LOCAL"}
    assert "function not implemented (hint: this kernel was built without NUMA)" in runtime.create_fails()
