"""Commands for containers that run: pause, resume, ps, update, events."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import hierarchy
from tests.support.runtime import PATIENCE, Bundle, Runtime, wait_for

pytestmark = pytest.mark.root
MIB = 1 << 20


def needs(*names: Any):
    """Skip where the v2 hierarchy lacks one of these controllers: machines of tests/vm have them."""
    have = Path(hierarchy.find_mount(), "cgroup.controllers").read_text().split() if os.geteuid() == 0 else []
    reason = f"no {' '.join(names)} in cgroup v2"

    def mark(test):
        return pytest.mark.may_skip(reason)(pytest.mark.skipif(not set(names) <= set(have), reason=reason)(test))

    return mark


def running(runtime: Runtime, bundle: Bundle, script: str = "exec sleep 100") -> None:
    """A container that runs this script."""
    bundle.shell(script)
    runtime.create()
    runtime.start()


def cgroup(runtime: Runtime) -> Path:
    """The directory of the container's cgroup."""
    record = runtime.record()["cgroup"]
    return Path(record["mount"] + record["path"])


def content(runtime: Runtime, name: str) -> str:
    return (cgroup(runtime) / name).read_text().strip()


# --- pause and resume


def test_a_paused_container_stands_still(runtime: Runtime, bundle: Bundle) -> None:
    """Its status is paused; it can't be started, paused or deleted, only resumed, or deleted by force."""
    running(runtime, bundle, "while :; do echo x; done")
    wait_for(runtime.output)

    assert (0, "", "") == tuple(runtime("pause", runtime.id))

    assert "paused" == runtime.state()["status"]
    size = (runtime.folder / "out").stat().st_size
    time.sleep(0.05)
    assert size == (runtime.folder / "out").stat().st_size
    assert "container already paused" == runtime.fails("pause", runtime.id)
    assert "cannot start an already running container" == runtime.fails("start", runtime.id)
    assert f"cannot delete container {runtime.id} that is not stopped: paused" == runtime.fails("delete", runtime.id)

    assert (0, "", "") == tuple(runtime("resume", runtime.id))
    wait_for(lambda: (runtime.folder / "out").stat().st_size > size)
    assert "running" == runtime.state()["status"]
    assert "container not paused" == runtime.fails("resume", runtime.id)


def test_a_paused_container_is_killed_and_deleted(runtime: Runtime, bundle: Bundle) -> None:
    """A frozen process dies of SIGKILL."""
    running(runtime, bundle)
    assert (0, "", "") == tuple(runtime("pause", runtime.id))

    runtime.delete("--force")

    runtime.assert_gone()


def test_only_what_runs_is_paused(runtime: Runtime, bundle: Bundle) -> None:
    """Not a created container, whose start would hang, nor a stopped one."""
    bundle.shell("true")
    runtime.create()
    assert "cannot pause a container that is created" == runtime.fails("pause", runtime.id)
    runtime.start()
    runtime.wait("stopped")

    for verb in ("pause", "resume"):
        assert "container not running" == runtime.fails(verb, runtime.id)
    assert "container `nobody` does not exist" == runtime.fails("pause", "nobody")


# --- ps


def test_ps_lists_every_process(runtime: Runtime, bundle: Bundle) -> None:
    """As JSON for engines, the first process ahead; as the table of ps(1)."""
    running(runtime, bundle, "sleep 100 & sleep 100 & wait")
    wait_for(lambda: content(runtime, "cgroup.procs").count("\n") == 2)

    status, out, err = runtime("ps", "--format", "json", runtime.id)

    assert (0, "") == (status, err)
    pids = json.loads(out)
    assert runtime.pid() == pids[0]
    assert sorted(map(int, content(runtime, "cgroup.procs").split())) == sorted(pids)


def test_ps_of_a_container_that_has_stopped(runtime: Runtime, bundle: Bundle) -> None:
    """It lists no process, without an error; or those left if no pid namespace has ended with init."""
    running(runtime, bundle, "sleep 100")
    runtime("kill", runtime.id, "KILL")
    runtime.wait("stopped")
    assert (0, "[]\n", "") == tuple(runtime("ps", "--format", "json", runtime.id))
    runtime.delete()

    left_alone(runtime, bundle)
    (pid,) = json.loads(runtime("ps", "-f", "json", runtime.id).out)
    assert str(pid) == content(runtime, "cgroup.procs")


def left_alone(runtime: Runtime, bundle: Bundle) -> None:
    """A container in the host's pid namespace whose first process has ended, and another one has not."""
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "pid"]
    running(runtime, bundle, "sleep 100 & wait")
    wait_for(lambda: len(content(runtime, "cgroup.procs").split()) == 2)
    os.kill(runtime.pid(), signal.SIGKILL)
    runtime.wait("stopped")


def test_kill_of_what_a_container_has_left(runtime: Runtime, bundle: Bundle) -> None:
    """SIGKILL is for all of it, whether or not the first process is there; no other signal is, and a second one finds
    no process.
    """
    left_alone(runtime, bundle)

    assert "container not running" == runtime.fails("kill", runtime.id, "TERM")
    assert 0 == runtime("kill", runtime.id, "KILL").status

    wait_for(lambda: content(runtime, "cgroup.procs") == "")
    assert "container not running" == runtime.fails("kill", runtime.id, "KILL")


@pytest.mark.may_skip("ps -ef needs the time of boot, which user-mode Linux does not tell")
def test_ps_as_a_table(runtime: Runtime, bundle: Bundle) -> None:
    """The lines of ps(1), whatever its options, as long as there is a column PID."""
    if subprocess.run(["ps", "-ef"], capture_output=True).returncode:
        pytest.skip("ps -ef does not work here")
    running(runtime, bundle, "sleep 100 & sleep 100 & wait")
    wait_for(lambda: 2 == runtime("ps", runtime.id, "-o", "pid,args").out.count(" sleep 100\n"))

    status, out, err = runtime("ps", runtime.id)

    assert (0, "") == (status, err)
    head, *lines = out.splitlines()
    assert "UID PID PPID C STIME TTY TIME CMD".split() == head.split()
    assert set(content(runtime, "cgroup.procs").split()) == {line.split()[1] for line in lines}


def test_ps_needs_the_column_pid(runtime: Runtime, bundle: Bundle) -> None:
    """Nothing else tells which lines are the container's."""
    running(runtime, bundle)

    assert "no column PID" in runtime.fails("ps", runtime.id, "-o", "args")
    assert "cannot use format `xml`: expected table or json" in runtime.fails("ps", "-f", "xml", runtime.id)


# --- update


@needs("memory", "cpu", "pids")
def test_update_by_options(runtime: Runtime, bundle: Bundle) -> None:
    """Every option ends in its file; what is not given stays."""
    bundle.linux["resources"] = {"cpu": {"quota": 20000, "period": 50000}, "memory": {"limit": 64 * MIB}}
    running(runtime, bundle)

    def update(*words: Any) -> None:
        assert (0, "", "") == tuple(runtime("update", *words, runtime.id))

    update("--memory", "128m", "--pids-limit", "17", "--cpu-share", "1024", "--memory-reservation=1048576")
    assert str(128 * MIB) == content(runtime, "memory.max")
    assert str(MIB) == content(runtime, "memory.low")
    assert "17" == content(runtime, "pids.max")
    assert "100" == content(runtime, "cpu.weight")
    assert "20000 50000" == content(runtime, "cpu.max")

    update("--cpu-period", "25000")
    assert "20000 25000" == content(runtime, "cpu.max")
    update("--cpu-quota", "-1")
    assert "max 25000" == content(runtime, "cpu.max")
    update("--memory", "-1", "--pids-limit", "-1")
    assert ("max", "max") == (content(runtime, "memory.max"), content(runtime, "pids.max"))


@needs("memory", "pids")
def test_update_by_json(runtime: Runtime, bundle: Bundle) -> None:
    """From a file or standard input; engines send the container's whole resources, device rules among them."""
    running(runtime, bundle)
    resources = {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 32 * MIB},
        "pids": {"limit": 9},
        "unified": {"memory.high": str(16 * MIB)},
        "blockIO": {},
        "x": 1,
    }
    path = runtime.folder / "resources.json"
    path.write_text(json.dumps(resources))

    assert (0, "", "") == tuple(runtime("update", "--resources", path, runtime.id))
    assert str(32 * MIB) == content(runtime, "memory.max")
    assert str(16 * MIB) == content(runtime, "memory.high")
    assert "9" == content(runtime, "pids.max")

    done = runtime("update", "-r", "-", runtime.id, stdin=None, input=b'{"pids": {"limit": 0}}')
    assert (0, "", "") == tuple(done)
    assert "max" == content(runtime, "pids.max")  # as the version of the config has it


@needs("pids")
def test_exec_where_there_is_no_room(runtime: Runtime, bundle: Bundle) -> None:
    """The container may not have one more process: the message says so, and an update makes room."""
    bundle.linux["resources"] = {"pids": {"limit": 1}}
    running(runtime, bundle)

    done = runtime("exec", runtime.id, "true")
    assert 255 == done.status
    assert done.err.startswith("cannot clone the process: clone3: resource temporarily unavailable (hint: ")
    assert "pids.max" in done.err

    runtime("update", "--pids-limit", "5", runtime.id)
    assert 0 == runtime("exec", runtime.id, "true").status


@needs("memory")
@pytest.mark.parametrize("by", ["options", "JSON"])
@pytest.mark.parametrize(
    ("created", "updated", "limits"),
    [
        ((64, 128), {"swap": 300}, (64, 236)),
        ((64, 0), {"swap": 300}, (64, 236)),
        ((64, 128), {"limit": 100}, (100, 28)),
        ((64, 128), {"limit": 32}, (32, 96)),
        ((64, 64), {"limit": 32}, (32, 0)),
        ((64, 128), {"limit": 200}, (200, 64)),
    ],
)
def test_update_of_memory_or_swap_keeps_the_other(
    runtime: Runtime,
    bundle: Bundle,
    by: str,
    created: tuple[int, int],
    updated: dict[str, Any],
    limits: tuple[int, int],
) -> None:
    """As Docker sends it: what `docker update` does not name is absent."""
    limit, total = (number * MIB for number in created)
    bundle.linux["resources"] = {"memory": {"limit": limit, "swap": total}}
    running(runtime, bundle)
    if not (cgroup(runtime) / "memory.swap.max").exists():
        pytest.skip("this kernel counts no swap")
    bytes_ = {name: number * MIB for name, number in updated.items()}
    if by == "JSON":
        document = json.dumps({"memory": bytes_}).encode()
        done = runtime("update", "-r", "-", runtime.id, stdin=None, input=document)
    else:
        options = {"limit": "--memory", "swap": "--memory-swap"}
        done = runtime("update", *(f"{options[name]}={number}" for name, number in bytes_.items()), runtime.id)
    assert (0, "", "") == tuple(done)
    assert limits == tuple(int(content(runtime, f"memory.{file}")) // MIB for file in ("max", "swap.max"))


@needs("memory")
def test_update_of_swap_where_memory_is_unlimited(runtime: Runtime, bundle: Bundle) -> None:
    """It is memory plus swap: there is nothing that could be left of it for swap."""
    running(runtime, bundle)
    done = runtime("update", f"--memory-swap={MIB}", runtime.id)
    assert (1, "--memory-swap") == (done.status, done.err.partition(":")[0])


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ((), "/blockIO/weight: cannot convert weight 9: must be from 10 to 1000"),
        (("--blkio-weight", "9"), "--blkio-weight: cannot convert weight 9: must be from 10 to 1000"),
    ],
)
def test_update_names_what_the_user_asked_for(
    runtime: Runtime, bundle: Bundle, words: tuple[str, ...], where: str
) -> None:
    """The option, or the pointer into the document of --resources."""
    running(runtime, bundle)
    resources = json.dumps({"blockIO": {"weight": 9}}).encode()
    done = runtime("update", *(words or ("-r", "-")), runtime.id, stdin=None, input=resources)

    assert (1, "", f"{where}\n") == tuple(done)


@needs("memory", "pids")
def test_an_update_that_is_refused_half_way_is_taken_back(runtime: Runtime, bundle: Bundle) -> None:
    """The limits are restored, and the message names the one that failed."""
    bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}
    running(runtime, bundle)
    wrong = {"memory": {"limit": 128 * MIB}, "pids": {"limit": 30}, "unified": {"memory.high": "lots"}}

    done = runtime("update", "-r", "-", runtime.id, stdin=None, input=json.dumps(wrong).encode())

    assert 1 == done.status
    assert "/unified/memory.high: cannot write `lots` to memory.high" in done.err
    assert (str(64 * MIB), "20") == (content(runtime, "memory.max"), content(runtime, "pids.max"))


@needs("memory")
def test_update_checks_usage_if_asked(runtime: Runtime, bundle: Bundle) -> None:
    """A limit below what is in use would kill: with checkBeforeUpdate it is refused."""
    bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}}
    running(runtime, bundle, "dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; exec sleep 100")
    wait_for(lambda: int(content(runtime, "memory.current")) > 20 * MIB)
    small = {"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True}}

    done = runtime("update", "-r", "-", runtime.id, stdin=None, input=json.dumps(small).encode())

    assert 1 == done.status
    assert "/memory/limit: cannot set memory.max to 8388608" in done.err
    assert str(64 * MIB) == content(runtime, "memory.max")
    assert "running" == runtime.state()["status"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "/: the document is empty"),
        ("null", "/: expected an object, found null"),
        ("[]", "/: expected an object, found an empty array"),
    ],
)
def test_update_by_an_invalid_document(runtime: Runtime, bundle: Bundle, document: str, message: str) -> None:
    """The text has no file that could be named, and no member."""
    running(runtime, bundle)
    result = runtime("update", "--resources", "-", runtime.id, stdin=None, input=document.encode())
    assert (1, f"{message}\n") == (result.status, result.err)


def test_update_says_what_is_wrong(runtime: Runtime, bundle: Bundle) -> None:
    """Each in one line, and nothing changes."""
    running(runtime, bundle)

    def by_json(text):
        done = runtime("update", "-r", "-", runtime.id, stdin=None, input=text)
        assert 1 == done.status
        return done.err.removesuffix("\n")

    assert "/memory/limit: expected an integer" in by_json(b'{"memory": {"limit": "1m"}}')
    assert "/memory/swappiness: expected an integer from 0 to 100, found 101" == by_json(
        b'{"memory": {"swappiness": 101}}'
    )
    assert "expected an object" in by_json(b"[]")
    assert "cannot use `1x` for --memory: expected a number of bytes" == runtime.fails(
        "update", "--memory", "1x", runtime.id
    )
    assert "/memory/kernel: cannot convert kernel to cgroup v2: no controller has it" == by_json(
        b'{"memory": {"kernel": 5000000}}'
    )
    assert "container `nobody` does not exist" == runtime.fails("update", "--pids-limit", "5", "nobody")


def test_update_of_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    """There is nothing to limit."""
    running(runtime, bundle, "true")
    runtime.wait("stopped")

    assert "container not running" == runtime.fails("update", "--pids-limit", "5", runtime.id)


# --- events

UNTIL_GO = "while [ ! -e /go ]; do sleep 0.01; done"  # another process decides when the container goes on


def watch(runtime: Runtime, interval: str) -> subprocess.Popen[Any]:
    """`events`, beside the test."""
    command = runtime.command("events", "--interval", interval, runtime.id)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_statistics_once(runtime: Runtime, bundle: Bundle) -> None:
    """One line of JSON, with every key that engines read, and CPU time that was used."""
    running(runtime, bundle, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 100")
    wait_for(runtime.output)

    status, out, err = runtime("events", "--stats", runtime.id)

    assert (0, "") == (status, err)
    event = json.loads(out)
    assert ("stats", runtime.id) == (event["type"], event["id"])
    data = event["data"]
    assert {"cpu", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"} == set(data)
    used = data["cpu"]["usage"]
    assert used["total"] > 1_000_000
    assert used["total"] >= used["user"]
    assert {"limit", "usage", "max", "failcnt"} == set(data["memory"]["usage"])


@needs("memory", "pids")
def test_statistics_of_limits(runtime: Runtime, bundle: Bundle) -> None:
    """Use and limit."""
    bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}
    running(runtime, bundle)

    data = json.loads(runtime("events", "--stats", runtime.id).out)["data"]

    assert 64 * MIB == data["memory"]["usage"]["limit"]
    assert 0 < data["memory"]["usage"]["usage"] <= 64 * MIB
    assert {"current": 1, "limit": 20} == data["pids"]
    assert data["memory"]["raw"]["anon"] > 0


def test_events_end_with_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """A line at once and one at every interval."""
    running(runtime, bundle, UNTIL_GO)

    with watch(runtime, "100ms") as watching:
        lines = [watching.stdout.readline() for _ in range(3)]
        (bundle.rootfs / "go").touch()
        lines += watching.communicate(timeout=PATIENCE)[0].splitlines()

    assert 0 == watching.returncode
    assert {"stats"} == {json.loads(line)["type"] for line in lines}
    assert "container not running" == runtime.fails("events", runtime.id)


@needs("memory")
def test_a_kill_for_want_of_memory_is_an_event(runtime: Runtime, bundle: Bundle) -> None:
    """Type oom."""
    bundle.linux["resources"] = {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}
    eats = "(x=$(dd if=/dev/zero bs=1M count=40 2>/dev/null | tr '\\0' x)); sleep 100"
    running(runtime, bundle, f"{UNTIL_GO}; {eats}")

    with watch(runtime, "60s") as watching:
        assert b'"stats"' in watching.stdout.readline()
        (bundle.rootfs / "go").touch()
        while json.loads(line := watching.stdout.readline())["type"] == "stats":
            pass
        assert 0 == runtime("kill", runtime.id, "KILL").status
        watching.communicate(timeout=PATIENCE)

    assert {"type": "oom", "id": runtime.id} == json.loads(line)


@pytest.mark.parametrize("interval", ["1000h", "9" * 400 + "s"])
def test_interval_is_longer_than_the_kernel_counts(runtime: Runtime, bundle: Bundle, interval: str) -> None:
    """The first line comes at once, and the end with the container."""
    running(runtime, bundle, UNTIL_GO)

    with watch(runtime, interval) as watching:
        assert b'"stats"' in watching.stdout.readline()
        (bundle.rootfs / "go").touch()
        assert (b"", b"") == watching.communicate(timeout=PATIENCE)

    assert 0 == watching.returncode


@pytest.mark.parametrize("interval", ["x", "-1s", "5y", "0s", "1s1"])
def test_invalid_intervals_are_rejected(runtime: Runtime, bundle: Bundle, interval: str) -> None:
    """A duration as Go writes it."""
    running(runtime, bundle)
    assert f"cannot use `{interval}` for --interval: expected a duration such as 5s or 500ms" == runtime.fails(
        "events", "--interval", interval, runtime.id
    )
