"""State directories that were tampered with, crashed runtimes, full disks and empty descriptor tables.

Whatever lies in the state directory, a command ends in time with a message, signals no process that is not the
container's process, and `delete --force` removes what is left.
"""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import Attack
from tests.support.runtime import AT_ONCE, PATIENCE, kill, wait_for

pytestmark = pytest.mark.root

CLONE3 = 435  # its number, on every architecture


def created(attack: Attack) -> Path:
    """A created container; where its state is."""
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == attack.create().status
    return attack.root / attack.id


def ended(attack: Attack) -> None:
    """A container that has ended without a start, and is still there."""
    created(attack)
    os.kill(attack.pid(), signal.SIGKILL)
    attack.wait("stopped")
    for path in attack.cgroups():  # a process that was killed is stopped before it has left its cgroup
        wait_for(lambda events=Path(path, "cgroup.events"): "populated 0" in events.read_text())


def create_beside(attack: Attack, id: str) -> None:
    """Another container from the same bundle; it holds nothing of the test's open."""
    quiet = subprocess.DEVNULL
    command = attack.command("create", "--bundle", attack.bundle.folder, id)
    subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, check=True)


def taken_over(attack: Attack) -> str:
    """A container that has ended, and another one in its cgroup, whose id this is."""
    ended(attack)
    other = f"{attack.id}b"
    attack.ids.add(other)
    create_beside(attack, other)
    return other


def rewrite(place: Path, **changes: Any) -> None:
    """Change record.json."""
    record = json.loads((place / "record.json").read_text())
    (place / "record.json").write_text(json.dumps(record | changes))


@contextlib.contextmanager
def rewritten(place: Path, **changes: Any) -> Iterator[None]:
    """Meanwhile record.json is changed; afterwards it is what it was, if it is still there."""
    original = (place / "record.json").read_bytes()
    rewrite(place, **changes)
    try:
        yield
    finally:
        if place.exists():
            (place / "record.json").write_bytes(original)


# ── start finds something else than it left ─────────────────────────────────────────────────────────────


def test_init_is_killed_before_start(attack: Attack) -> None:
    """Start of a container whose first process was killed says that it has stopped."""
    created(attack)
    os.kill(attack.pid(), signal.SIGKILL)
    attack.wait("stopped")
    for path in attack.cgroups():  # a process that was killed is stopped before it has left its cgroup
        wait_for(lambda events=Path(path, "cgroup.events"): "populated 0" in events.read_text())
    result = attack.start()
    assert (1, "cannot start a container that has stopped\n") == (result.status, result.err)


@pytest.mark.parametrize("name", ["exec.fifo", "result.fifo"])
@pytest.mark.parametrize("kind", ["missing", "file", "symlink", "fifo", "fifo with a reader", "folder", "device"])
def test_fifo_is_replaced(attack: Attack, name: str, kind: str) -> None:
    """Start never writes to, reads from or waits for anything but the FIFOs that create made."""
    place = created(attack)
    init = attack.pid()
    os.rename(place / name, attack.folder / "original")
    held = -1
    if kind == "file":
        (place / name).write_text("")
    elif kind == "symlink":
        (place / name).symlink_to(attack.folder / "original")
    elif kind == "folder":
        (place / name).mkdir()
    elif kind == "device":
        os.mknod(place / name, 0o020600, os.makedev(1, 5))
    elif kind != "missing":
        os.mkfifo(place / name)
        if kind == "fifo with a reader":
            held = os.open(place / name, os.O_RDWR)
    result = attack.start()
    assert 1 == result.status
    assert result.err
    assert AT_ONCE > result.seconds
    if held >= 0:
        os.set_blocking(held, False)
        with pytest.raises(BlockingIOError):
            os.read(held, 1)
        os.close(held)
    if Path(f"/proc/{init}").exists():
        assert "sleep" not in Path(f"/proc/{init}/cmdline").read_text().split("\0")[0]


# ── many at once ────────────────────────────────────────────────────────────────────────────────────────


def test_result_fifo_is_kept_open(attack: Attack) -> None:
    """A start whose answer another process holds back ends with the container, at the latest."""
    place = created(attack)
    pid = attack.pid()
    keeper = os.open(place / "result.fifo", os.O_RDWR)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(attack.command("start", attack.id), stdin=quiet, stdout=quiet, stderr=quiet) as starting:
        try:
            wait_for(lambda: os.readlink(f"/proc/{pid}/exe") != os.readlink(f"/proc/{starting.pid}/exe"))
            assert 0 == attack("kill", attack.id, "KILL").status
            starting.wait(PATIENCE)
        finally:
            kill(starting)
            os.close(keeper)
    assert 0 == attack.delete().status


def test_parallel_starts(attack: Attack) -> None:
    """Of many starts exactly one succeeds."""
    created(attack)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: attack.start(), range(8)))
    assert [0, *[1] * 7] == sorted(result.status for result in results)
    assert {"cannot start an already running container\n"} == {r.err for r in results if r.status}
    assert "running" == attack.state()["status"]


def test_parallel_starts_after_a_killed_create(attack: Attack) -> None:
    """A command that asks whether another one is at work keeps its own lock."""
    place = created(attack)
    rewrite(place, status="creating")  # as a runtime leaves it that was killed just before it committed
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: attack.start(), range(8)))
    assert [0, *[1] * 7] == sorted(result.status for result in results)


def test_parallel_creates(attack: Attack) -> None:
    """Of many creates of one id exactly one succeeds; the others do not disturb it."""
    attack.process["args"] = ["/bin/sleep", "100"]
    attack.bundle.write()
    command = attack.command("create", "--bundle", attack.bundle.folder, attack.id)

    def create(_: int) -> tuple[int, bytes]:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              check=False, timeout=PATIENCE)  # fmt: skip
        return done.returncode, done.stderr

    # the winner's container keeps its standard error: let that be a file
    script = '"$@" 2>"$0/err.$$"; s=$?; test $s = 0 || cat "$0/err.$$" >&2; exit $s'
    command = ["/bin/sh", "-c", script, str(attack.folder), *command]
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(create, range(20)))
    assert [0, *[1] * 19] == sorted(status for status, _ in results)
    assert {f"container with given ID already exists: {attack.id}\n".encode()} == {e for s, e in results if s}
    assert "created" == attack.state()["status"]
    assert 0 == attack.start().status


def test_everything_at_once(attack: Attack) -> None:
    """Delete, start, kill and state beside each other: no traceback, no deadlock, nothing left."""
    attack.process["args"] = ["/bin/sleep", "100"]
    for _ in range(6):
        assert 0 == attack.create().status
        commands = [
            ("start",),
            ("kill",),
            ("state",),
            ("delete",),
            ("list",),
            ("delete", "--force"),
            ("state",),
            ("kill",),
        ]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda words: attack(*words, *([] if words == ("list",) else [attack.id])), commands))
        assert 0 == attack.delete().status
        assert {} == attack.state()


def test_forced_delete_while_the_record_is_not_there_yet(attack: Attack) -> None:
    """It waits for the create that has just claimed the id, ends its process, and deletes what create leaves."""
    attack.process["args"] = ["/bin/sleep", "100"]
    attack.bundle.write()
    command = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=mknodat",
               "-e", "inject=mknodat:delay_enter=300000:when=1",
               *attack.command("create", "--bundle", attack.bundle.folder, attack.id)]  # fmt: skip
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as creator:
        wait_for(lambda: is_locked(attack.root / attack.id))  # sooner, it would be deleted while it is claimed
        assert 0 == attack.delete().status
        assert creator.wait(PATIENCE) in (0, 1)  # it fails unless it had ended before
    assert not (attack.root / attack.id).exists()
    attack.assert_host_clean()


def is_locked(place: Path) -> bool:
    """Whether a process has locked a directory. This does not try to lock it."""
    if not place.exists():
        return False
    locks = Path("/proc/locks").read_text().splitlines()
    return any(" FLOCK " in line and f":{place.stat().st_ino} " in line for line in locks)


@pytest.mark.parametrize("existed", [False, True])
def test_delete_where_another_container_has_the_cgroup_now(attack: Attack, existed: bool) -> None:
    """A process in the cgroup of an ended container belongs to another container: delete leaves it and its limits
    alone, and says so.
    """
    path = f"/{attack.id}"
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    if existed:
        Path(mount + path).mkdir()
        Path(mount + path, "cgroup.max.depth").write_text("9")
    attack.linux["cgroupsPath"] = path
    attack.linux["resources"]["unified"] = {"cgroup.max.depth": "5"}
    other = taken_over(attack)

    result = subprocess.run(
        [attack.executable, "--root", attack.root, "delete", attack.id], capture_output=True, text=True, check=False
    )

    warning = f"warning: cgroup {path} stays: container {other} has taken it over\n"
    assert (0, warning) == (result.returncode, result.stderr)
    assert "created" == json.loads(attack("state", other).out)["status"]
    assert "5\n" == Path(mount + path, "cgroup.max.depth").read_text()
    assert 0 == attack("delete", "--force", other).status
    if existed:
        assert "9\n" == Path(mount + path, "cgroup.max.depth").read_text()
        assert not [name for name in os.listxattr(mount + path) if name.startswith("trusted.")]
    os.rmdir(mount + path)


def test_kill_all_where_another_container_has_the_cgroup_now(attack: Attack) -> None:
    """Likewise."""
    attack.linux["cgroupsPath"] = f"/{attack.id}"
    other = taken_over(attack)

    assert 0 == attack("kill", "--all", attack.id, "KILL").status
    assert "created" == json.loads(attack("state", other).out)["status"]
    assert 0 == attack("delete", "--force", other).status
    attack.assert_host_clean()


def test_delete_where_a_container_of_another_root_has_the_cgroup_now(attack: Attack) -> None:
    """Likewise where both have the same id."""
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    path = Path(mount, attack.id)
    path.mkdir()
    attack.linux["cgroupsPath"] = f"/{attack.id}"
    ended(attack)
    own, attack.root = attack.root, attack.folder / "another"
    create_beside(attack, attack.id)
    another, attack.root = attack.root, own

    result = subprocess.run(
        [attack.executable, "--root", own, "delete", attack.id], capture_output=True, text=True, check=False
    )

    warning = f"warning: cgroup /{attack.id} stays: container {attack.id} has taken it over\n"
    assert (0, warning) == (result.returncode, result.stderr)
    attack.root = another
    assert "created" == attack.state()["status"]
    assert 0 == attack.delete("--force").status
    attack.root = own
    path.rmdir()
    attack.assert_host_clean()


def test_processes_where_another_container_has_the_cgroup_now(attack: Attack) -> None:
    """A container in the host's pid namespace has ended: the processes in that namespace are not its own."""
    attack.linux["cgroupsPath"] = f"/{attack.id}"
    attack.linux["namespaces"] = [each for each in attack.linux["namespaces"] if each["type"] != "pid"]
    other = taken_over(attack)

    result = attack("kill", attack.id, "KILL")
    assert (1, "container not running\n") == (result.status, result.err)
    assert [] == json.loads(attack("ps", "--format", "json", attack.id).out)
    (pid,) = json.loads(attack("ps", "--format", "json", other).out)
    assert Path(f"/proc/{pid}").exists()
    assert "created" == json.loads(attack("state", other).out)["status"]
    assert 0 == attack("delete", "--force", other).status
    attack.assert_host_clean()


@pytest.mark.parametrize("command", ["kill --all ID KILL", "kill ID KILL", "delete --force ID"])
def test_cgroup_says_that_it_is_taken(attack: Attack, command: str) -> None:
    """As root of a container with every privilege can have it say, while the container runs."""
    attack.linux["namespaces"] = [each for each in attack.linux["namespaces"] if each["type"] != "pid"]
    attack.bundle.shell("sleep 100 & sleep 100; :")
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    (path,) = attack.cgroups()
    wait_for(lambda: len(Path(path, "cgroup.procs").read_text().split()) == 3)
    os.setxattr(path, "trusted.pyoci", b"another")
    assert 3 == len(json.loads(attack("ps", "--format", "json", attack.id).out))
    assert 0 == attack(*(word.replace("ID", attack.id) for word in command.split())).status
    wait_for(lambda: not Path(path).exists() or "populated 0" in Path(path, "cgroup.events").read_text())
    if Path(path).exists():
        os.removexattr(path, "trusted.pyoci")
    attack.assert_host_clean()


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"[]",
        b'{"before": {}}',
        b'{"before": {"../cgroup.max.depth": "7"}, "owners": {}}',
        b'{"before": {"..": "7"}, "owners": {}}',
        b'{"before": {"cgroup.max.depth": 7}, "owners": {}}',
        b'{"before": {"cgroup.max.depth": "\\ud800"}, "owners": {}}',
        b'{"before": {}, "owners": {".": -1}}',
        b'{"before": {}, "owners": {".": 4294967296}}',
        b'{"before": {}, "owners": {"../cgroup.procs": 7}}',
    ],
)
def test_nonsense_is_handed_on_with_a_cgroup(attack: Attack, kept: bytes) -> None:
    """As root of a container with every privilege can write it."""
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    above = Path(mount, attack.id)
    path = above / "leaf"
    path.mkdir(parents=True)
    attack.linux["cgroupsPath"] = f"/{attack.id}/leaf"
    created(attack)
    os.setxattr(path, "trusted.pyoci.before", kept)
    assert 0 == attack.delete("--force").status
    assert ["max\n"] * 2 == [(folder / "cgroup.max.depth").read_text() for folder in (above, path)]
    assert [0] * 3 == [place.stat().st_uid for place in (above, path, above / "cgroup.procs")]
    path.rmdir()
    above.rmdir()
    attack.assert_host_clean()


def is_in_clone3(strace: int) -> bool:
    """Whether the program that strace follows is held up in clone3(2)."""
    for pid in Path(f"/proc/{strace}/task/{strace}/children").read_text().split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/syscall").read_text().startswith(f"{CLONE3} "):
                return True
    return False


def test_delete_where_an_exec_is_frozen(attack: Attack) -> None:
    """What exec had put into the cgroup, and not yet into the pid namespace, is killed with the container."""
    created(attack)
    assert 0 == attack.start().status
    # held up between the look at the container's status and the clone
    command = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e", "inject=clone3:delay_enter=5000000",
               *attack.command("exec", attack.id, "/bin/true")]  # fmt: skip
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as executing:
        wait_for(lambda: is_in_clone3(executing.pid))
        assert 0 == attack("pause", attack.id).status
        assert 0 == attack("kill", attack.id, "KILL").status
        attack.wait("stopped")
        (path,) = attack.cgroups()
        wait_for(lambda: "populated 1" in Path(path, "cgroup.events").read_text())
        assert 0 == attack.delete().status
        assert 255 == executing.wait(PATIENCE)
    attack.assert_host_clean()


def test_delete_of_a_running_container(attack: Attack) -> None:
    """Only --force deletes what runs."""
    created(attack)
    assert 0 == attack.start().status
    result = attack("delete", attack.id)
    assert 1 == result.status
    assert "not stopped: running" in result.err
    assert 0 == attack.delete("--force").status


# ── record.json ──────────────────────────────────────────────────────────────────────────────────────────

BROKEN = {
    "empty": b"",
    "truncated": None,
    "array": b"[]",
    "number": b"1",
    "NUL": b"\0" * 100,
    "not UTF-8": b'{"pyoci": 1, "id": "\xff"}',
    "deep": b"[" * 100000,
    "huge": b'{"pyoci": 1, "a": "' + b"a" * (33 << 20) + b'"}',
    "only its format": b'{"pyoci": 1}',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_record_is_broken(attack: Attack, kind: str) -> None:
    """A record that can't be read is an error; delete --force removes what can be found."""
    place = created(attack)
    init = attack.pid()
    data = BROKEN[kind]
    whole = (place / "record.json").read_bytes()
    (place / "record.json").write_bytes(whole[: len(whole) // 2] if data is None else data)
    try:
        for words in (("state",), ("start",), ("kill", "--", "KILL"), ("delete",)):
            result = attack(words[0], attack.id)
            assert 1 == result.status
            assert result.err
            assert "config.json" not in result.err
            assert AT_ONCE > result.seconds
        assert 0 == attack("list").status
    finally:
        os.kill(init, signal.SIGKILL)
    attack("delete", "--force", attack.id)
    shutil.rmtree(place, ignore_errors=True)
    remove_cgroup(attack)


def remove_cgroup(attack: Attack) -> None:
    """What no runtime can find any more without its record."""
    for path in reversed(attack.cgroups()):
        wait_for(lambda path=path: "populated 0" in Path(path, "cgroup.events").read_text())
        os.rmdir(path)


CGROUP = {
    "driver": "cgroupfs", "mount": "/sys/fs/cgroup", "path": "/x", "created": [], "inode": 0, "filter_id": 0,
    "before": {}, "owners": {},
}  # fmt: skip
WRONG: "dict[str, dict[str, Any]]" = {
    "version": {"pyoci": 2},
    "pid 0": {"pid": 0},
    "pid 1": {"pid": 1},
    "pid -1": {"pid": -1},
    "pid -2": {"pid": -2},
    "pid text": {"pid": "1"},
    "pid true": {"pid": True},
    "pid real": {"pid": 1.0},
    "pid huge": {"pid": 1 << 40},
    "pid above pid_max": {"pid": (1 << 31) - 1},
    "id": {"id": "other"},
    "start time": {"startTime": 1},
    "start time text": {"startTime": "x"},
    "boot": {"bootId": "another"},
    "boot number": {"bootId": 5},
    "bundle": {"bundle": 5},
    "hooks": {"hooks": []},
    "list of hooks": {"hooks": {"poststop": 5}},
    "hook": {"hooks": {"poststop": ["x"]}},
    "hook without a path": {"hooks": {"poststop": [{}]}},
    "arguments of a hook": {"hooks": {"poststop": [{"path": "/bin/true", "args": [5]}]}},
    "environment of a hook": {"hooks": {"poststop": [{"path": "/bin/true", "env": "A=b"}]}},
    "timeout of a hook": {"hooks": {"poststart": [{"path": "/bin/true", "timeout": "x"}]}},
    "cgroup": {"cgroup": None},
    "cgroup text": {"cgroup": "x"},
    "cgroup driver": {"cgroup": {"driver": "nosuch"}},
    "cgroup members": {"cgroup": {"driver": "cgroupfs"}},
    "cgroup mount": {"cgroup": CGROUP | {"mount": 5}},
    "cgroup created": {"cgroup": CGROUP | {"created": 5}},
    "cgroup before": {"cgroup": CGROUP | {"before": []}},
    "a cgroup created": {"cgroup": CGROUP | {"created": [5]}},
    "owner of a cgroup": {"cgroup": CGROUP | {"owners": {"x": "y"}}},
    "value of a cgroup": {"cgroup": CGROUP | {"before": {"x": 5}}},
    "unit": {"cgroup": CGROUP | {"driver": "systemd", "unit": 5, "bus": "/run/x", "user": False}},
    "unit created": {"cgroup": CGROUP | {"driver": "systemd", "created": [5], "unit": "x", "bus": "/x", "user": False}},
    "status": {"status": ["x"]},
    "process": {"process": 5},
    "annotations": {"annotations": 5},
    "operations": {"startOps": 5},
    "listener": {"listener": [1]},
    "listener members": {"listener": {"path": 5, "metadata": ""}},
}


@pytest.mark.parametrize("kind", WRONG)
def test_record_is_wrong(attack: Attack, bystander: "subprocess.Popen[bytes]", kind: str) -> None:
    """Whatever a record says, no command crashes or signals a process that is not the container's."""
    place = created(attack)
    init = attack.pid()
    with rewritten(place, **WRONG[kind]):
        for words in (("state",), ("list",), ("kill",), ("start",)):
            result = attack(*words, *([] if words == ("list",) else [attack.id]))
            assert AT_ONCE > result.seconds
            assert "internal error" not in result.err
    assert bystander.poll() is None
    assert Path("/proc/1").exists()
    assert Path(f"/proc/{init}").exists() or kind == "start time"


@pytest.mark.parametrize("kind", WRONG)
def test_delete_with_a_wrong_record(attack: Attack, bystander: "subprocess.Popen[bytes]", kind: str) -> None:
    """`delete` does what it can, or says why it can't, and ends only the container's own process."""
    place = created(attack)
    init = attack.pid()
    try:
        with rewritten(place, **WRONG[kind]):
            for words in (("delete",), ("delete", "--force")):
                result = attack(*words, attack.id)
                assert bool(result.status) == bool(result.err)
                assert "internal error" not in result.err
    finally:
        if not place.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, signal.SIGKILL)
    assert bystander.poll() is None
    attack("delete", "--force", attack.id)
    shutil.rmtree(place, ignore_errors=True)
    remove_cgroup(attack)


@pytest.mark.parametrize("whose", ["own", "bystander", "init"])
def test_pid_of_another_process(attack: Attack, bystander: "subprocess.Popen[bytes]", whose: str) -> None:
    """A pid that now belongs to another process is not the container: reported stopped, never signalled."""
    place = created(attack)
    init = attack.pid()
    with rewritten(place, pid={"own": os.getpid(), "bystander": bystander.pid, "init": 1}[whose]):
        assert "stopped" == attack.state()["status"]
        killed = attack("kill", attack.id, "KILL")
        assert (1, "container not running\n") == (killed.status, killed.err)
        assert bystander.poll() is None
    assert "created" == attack.state()["status"]
    assert init == attack.pid()


def test_pid_is_a_thread_now(attack: Attack) -> None:
    """A pid that has become a thread of another process can't be opened: the container has stopped."""
    place = created(attack)
    time.sleep(0.02)  # start times count ticks of 10 ms: the thread must not share that of init
    with ThreadPoolExecutor(1) as pool:
        import threading

        thread = pool.submit(threading.get_native_id).result()
        with rewritten(place, pid=thread):
            assert "stopped" == attack.state()["status"]


def test_name_of_the_process_lies(attack: Attack) -> None:
    """A process named `a) R 1 (` does not change the fields that follow its name in /proc/PID/stat."""
    shutil.copy("/bin/busybox", attack.rootfs / "bin/a) R 1 (")
    (attack.rootfs / "bin/a) R 1 (").unlink()
    (attack.rootfs / "bin/sleep").unlink()
    shutil.copy("/bin/busybox", attack.rootfs / "bin/sleep")
    attack.bundle.shell("printf 'a) R 1 (' > /proc/self/comm; exec 3>&1; while :; do /bin/usleep 100000; done")
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    wait_for(lambda: "a) R 1 (" in Path(f"/proc/{attack.pid()}/comm").read_text())
    assert "running" == attack.state()["status"]
    assert 0 == attack("kill", attack.id, "KILL").status
    attack.wait("stopped")


@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder", "device", "socket"])
def test_record_of_another_type(attack: Attack, kind: str) -> None:
    """A record.json that is not a regular file is rejected at once, not followed, not waited for."""
    place = created(attack)
    record = place / "record.json"
    original = record.read_bytes()
    record.unlink()
    if kind == "symlink":
        (attack.folder / "elsewhere").write_bytes(original)
        record.symlink_to(attack.folder / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(record)
    elif kind == "device":
        os.mknod(record, 0o020600, os.makedev(1, 5))
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(place):
            listener.bind("record.json")
    else:
        record.mkdir()
    for command in ("state", "start", "kill", "delete"):
        result = attack(command, attack.id)
        assert (1, True) == (result.status, AT_ONCE > result.seconds)
    assert 0 == attack("list").status
    record.rmdir() if kind == "folder" else record.unlink()
    record.write_bytes(original)
    record.chmod(0o600)


def test_unexpected_things_in_the_state(attack: Attack) -> None:
    """Delete removes by descriptor, follows no link, and says so if something is not its own."""
    place = created(attack)
    (place / "link").symlink_to(attack.outside / "file")
    (place / "folder-link").symlink_to(attack.outside)
    assert 0 == attack.delete().status


# ── locks ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("command", ["start", "delete"])
def test_lock_is_held_for_ever(attack: Attack, command: str) -> None:
    """A stopped runtime with the lock in its hand delays others for seconds, and then they say so."""
    place = created(attack)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        result = attack(command, attack.id)
        assert (1, True) == (result.status, PATIENCE > result.seconds)
        assert f"cannot lock container `{attack.id}`" in result.err
        assert "created" == attack.state()["status"]
    finally:
        os.close(fd)
    assert 0 == attack.start().status


def test_lock_is_given_back(attack: Attack) -> None:
    """Who waits for a lock goes on as soon as it is free."""
    place = created(attack)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(attack.start)
        time.sleep(0.3)
        os.close(fd)
        assert (0, True) == ((result := waiting.result()).status, AT_ONCE > result.seconds)


# ── the root of all states ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o1770, 0o702])
def test_root_can_be_written_by_others(attack: Attack, mode: int) -> None:
    """CVE-2021-41089, CVE-2021-41091, CVE-2024-25621: who can put a directory there puts our hooks there."""
    attack.root.mkdir()
    attack.root.chmod(mode)
    attack.bundle.write()
    for words in (["create", "--bundle", attack.bundle.folder, attack.id], ["state", attack.id], ["list"],
                  ["delete", "--force", attack.id], ["start", attack.id], ["kill", attack.id]):  # fmt: skip
        result = attack(*words)
        assert (1, True) == (result.status, "others can write to it" in result.err), words
    assert [] == list(attack.root.iterdir())
    attack.root.chmod(0o700)


def test_root_of_another_user(attack: Attack) -> None:
    """CVE-2024-25621: a state root that another user owns is theirs."""
    attack.root.mkdir(mode=0o700)
    os.chown(attack.root, 1234, 1234)
    result = attack.create()
    assert (1, True) == (result.status, "owner 1234" in result.err)
    os.chown(attack.root, 0, 0)


@pytest.mark.parametrize("slash", ["", "/", "//", "/."])
def test_root_is_a_link(attack: Attack, slash: str) -> None:
    """A state root that is a symlink is refused, with slashes after it too."""
    (attack.folder / "elsewhere").mkdir(mode=0o700)
    attack.root.symlink_to(attack.folder / "elsewhere")
    attack.bundle.write()
    command = [attack.executable, "--root", f"{attack.root}{slash}"]
    done = subprocess.run([*command, "create", "--bundle", str(attack.bundle.folder), attack.id], capture_output=True,
                          stdin=subprocess.DEVNULL, text=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert (1, True) == (done.returncode, "cannot use state directory" in done.stderr), done.stderr
    assert [] == list((attack.folder / "elsewhere").iterdir())
    attack.root.unlink()


def test_way_to_the_root_is_made(attack: Attack) -> None:
    """Directories that are missing are made for root alone, through a link that is there, such as /var/run is one."""
    (attack.folder / "real").mkdir()
    (attack.folder / "link").symlink_to("real")
    attack.root = attack.folder / "link/a/a/./b//state"
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == attack.create(umask=0).status
    for below in ("a", "a/a", "a/a/b", "a/a/b/state"):
        assert 0o700 == (attack.folder / "real" / below).stat().st_mode & 0o7777


def test_way_to_the_root_is_a_dangling_link(attack: Attack) -> None:
    """Nothing is made where it leads."""
    (attack.folder / "link").symlink_to("missing")
    attack.root = attack.folder / "link/state"
    result = attack.create()
    assert (1, f"cannot use state directory {attack.root}: no such file or directory\n") == (result.status, result.err)
    assert not (attack.folder / "missing").exists()
    (attack.folder / "link").unlink()


def test_container_directory_of_another_user(attack: Attack) -> None:
    """CVE-2024-25621: a planted state with hooks is not run by root: the directory must be ours."""
    attack.root.mkdir(mode=0o700)
    place = attack.root / attack.id
    place.mkdir()
    marker = attack.folder / "pwned"
    record = {
        "pyoci": 1, "id": attack.id, "status": "created", "pid": -1, "startTime": 0, "bootId": "", "bundle": "/",
        "rootfs": "/", "created": "", "owner": "", "annotations": {}, "process": [], "rdt": {}, "sharesPids": False,
        "hooks": {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {marker}"]}]},
        "cgroup": {"driver": "disabled"}, "listener": {}, "startOps": {},
    }  # fmt: skip
    (place / "record.json").write_text(json.dumps(record))
    os.chown(place, 1234, 1234)
    for words in (["delete", "--force"], ["delete"], ["start"], ["state"]):
        attack(*words, attack.id)
        assert not marker.exists()
    shutil.rmtree(place)


def test_state_is_private(attack: Attack) -> None:
    """CVE-2021-41089: no other user can look into the state, whatever the umask."""
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == attack.create(umask=0).status
    for path, mode in ((attack.root, 0o700), (attack.root / attack.id, 0o700)):
        assert mode == path.stat().st_mode & 0o7777
    for path in (attack.root / attack.id).iterdir():
        assert 0 == path.stat().st_mode & 0o077


@pytest.mark.parametrize("kind", ["link", "dangling link"])
def test_pid_file_is_a_link(attack: Attack, kind: str) -> None:
    """CVE-2025-0750's class: the pid file replaces a link, and never writes through it."""
    target = attack.outside / ("file" if kind == "link" else "new")
    (attack.folder / "pid").symlink_to(target)
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == attack.create("--pid-file", attack.folder / "pid").status
    assert not (attack.folder / "pid").is_symlink()
    assert str(attack.pid()) == (attack.folder / "pid").read_text()


# ── nothing left to take ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_state_is_on_a_full_disk(attack: Attack, blocks: int) -> None:
    """ENOSPC at whatever moment is an error that says so, and nothing stays."""
    attack.root.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"nr_blocks={blocks},mode=700", "tmpfs", str(attack.root)], check=True
    )
    try:
        attack.config["annotations"] = {"filler": "x" * 4096 * blocks}
        result = attack.create()
        assert 1 == result.status
        assert "no space left on device" in result.err
        assert [] == list(attack.root.iterdir())
    finally:
        subprocess.run(["umount", str(attack.root)], check=True)


def test_state_is_on_a_read_only_disk(attack: Attack) -> None:
    """The error names EROFS as well."""
    attack.root.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=700", "tmpfs", str(attack.root)], check=True)
    try:
        result = attack.create()
        assert (1, True) == (result.status, "read-only file system" in result.err)
    finally:
        subprocess.run(["umount", str(attack.root)], check=True)


def test_state_has_no_inodes(attack: Attack) -> None:
    """No room for one name more, at each of the names that create makes."""
    attack.root.mkdir(mode=0o700)
    for inodes in range(1, 8):
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"nr_inodes={inodes + 1},mode=700", "tmpfs", str(attack.root)], check=True
        )
        try:
            result = attack.create()
            if result.status:
                assert "no space left on device" in result.err
                assert [] == list(attack.root.iterdir())
            else:
                assert inodes > 3
                assert 0 == attack.delete().status
        finally:
            subprocess.run(["umount", str(attack.root)], check=True)


def test_few_descriptors(attack: Attack) -> None:
    """EMFILE at the nth descriptor, for each n: a clean failure, or a container."""
    attack.process["args"] = ["/bin/sleep", "100"]
    succeeded = []
    for limit in range(4, 48):
        result = attack.create(
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        )
        if result.status == 0:
            succeeded.append(limit)
            assert "created" == attack.state()["status"]
            assert 0 == attack.delete().status
        else:
            assert not succeeded, result
            assert result.err.strip()
            assert not (attack.root / attack.id).exists(), (limit, result)
            assert [] == attack.cgroups(), (limit, result)
            assert [] == attack.strays(), (limit, result)
    assert succeeded


@pytest.mark.parametrize("command", ["state", "kill", "start", "delete"])
def test_few_descriptors_later(attack: Attack, command: str) -> None:
    """A live container is not called stopped or missing for want of a descriptor."""
    created(attack)
    for limit in range(3, 16):
        before = lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # noqa: E731
        words = [command, attack.id, *(["0"] if command == "kill" else [])]
        result = attack(*words, preexec_fn=before)
        assert "does not exist" not in result.err, (limit, result)
        if result.status == 0:
            assert command != "state" or "created" == json.loads(result.out)["status"]
            break
        assert "not running" not in result.err, (limit, result)
        assert "created" == attack.state()["status"], (limit, result)
    else:
        pytest.fail("never succeeded")


def test_few_descriptors_of_a_list(attack: Attack) -> None:
    """What `list` leaves out is not there."""
    created(attack)
    for limit in range(4, 24):
        before = lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # noqa: E731
        result = attack("list", "-q", preexec_fn=before)
        assert result.status == 1 or f"{attack.id}\n" == result.out, (limit, result)
    assert 0 == result.status


@pytest.mark.parametrize("file", ["record.json", "cgroup.freeze"])
@pytest.mark.parametrize("error", ["EIO", "EMFILE", "ENOMEM"])
def test_list_where_one_can_not_be_read(attack: Attack, file: str, error: str) -> None:
    """list shows the others, and reports that one is missing."""
    place = created(attack)
    assert 0 == attack.start().status
    record = json.loads((place / "record.json").read_text())
    other = attack.root / f"{attack.id}b"
    other.mkdir(mode=0o700)
    (other / "record.json").write_text(json.dumps(record | {"id": other.name, "startTime": 1}))
    calls = attack.folder / "calls"

    def list_with_failures(when: str = "") -> "subprocess.CompletedProcess[str]":
        """List with errors in these openat(2)."""
        inject = ["-e", f"inject=openat:error={error}:when={when}"] if when else []
        strace = ["strace", "-qq", "-o", calls, "-e", "trace=openat", "-e", "signal=none", *inject]
        command = [*strace, *attack.command("list", "-q")]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)

    def next_open(after: int) -> int:
        """The number of the next openat(2) of the file."""
        lines = enumerate(calls.read_text().splitlines(), 1)
        return next(n for n, line in lines if n > after and f'{file}"' in line)

    assert 0 == list_with_failures().returncode
    first = next_open(0)
    assert 0 == list_with_failures(str(first)).returncode  # it tries once more, in another way
    second = next_open(first)
    done = list_with_failures(f"{first}..{second}+{second - first}")
    shutil.rmtree(other)
    assert (1, f"{other.name}\n") == (done.returncode, done.stdout), done
    assert done.stderr.startswith(f"{attack.id}: cannot "), done
    assert "traceback" not in done.stderr.lower()


@pytest.mark.parametrize("call", ["openat", "read"])
@pytest.mark.parametrize("error", ["EIO", "EMFILE", "ENOMEM"])
def test_record_can_not_be_read_just_now(attack: Attack, call: str, error: str) -> None:
    """`delete --force` says so, and does not forget a container that lives."""
    created(attack)
    calls = attack.folder / "calls"
    command = attack.command("delete", "--force", attack.id)
    quiet = ["strace", "-qq", "-o", calls, "-e", f"trace={call}"]
    subprocess.run([*quiet, *attack.command("state", attack.id)], check=True, stdout=subprocess.DEVNULL)
    lines = calls.read_text().splitlines()
    mark = '"record.json"' if call == "openat" else '{\\"pyoci'
    number = next(n for n, line in enumerate(lines, 1) if mark in line)
    inject = f"inject={call}:error={error}:when={number}"
    quiet = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    done = subprocess.run([*quiet, *command], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (1, True) == (done.returncode, "record.json: " in done.stderr), done
    assert "created" == attack.state()["status"]


def test_few_descriptors_of_a_forced_delete(attack: Attack) -> None:
    """Where it succeeds the container is gone, and where it fails it is still there."""
    for limit in range(3, 24):
        created(attack)
        before = lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # noqa: E731
        result = attack("delete", "--force", attack.id, preexec_fn=before)
        if result.status:
            assert "created" == attack.state()["status"], (limit, result)
            assert 0 == attack.delete().status
        attack.assert_host_clean()


def test_many_containers_are_listed(attack: Attack) -> None:
    """List closes what it opens: more containers than descriptors are still all there."""
    place = created(attack)
    record = json.loads((place / "record.json").read_text())
    for n in range(40):
        (attack.root / f"c{n}").mkdir(mode=0o700)
        (attack.root / f"c{n}" / "record.json").write_text(json.dumps(record | {"id": f"c{n}", "startTime": 1}))
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))  # noqa: E731
    result = attack("list", "-q", preexec_fn=limit)
    assert 41 == len(result.out.split())
    for n in range(40):
        shutil.rmtree(attack.root / f"c{n}")


def test_no_more_processes(attack: Attack) -> None:
    """The caller's own RLIMIT_NPROC in the way of the clone: an error, and no half container."""
    user = 54321
    for path in (attack.bundle.folder, attack.rootfs):
        os.chown(path, user, user)

    def become_a_user_without_processes() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)

    attack.bundle.write()
    (attack.folder / "own").mkdir(mode=0o700)
    os.chown(attack.folder / "own", user, user)
    executable = shutil.copy(attack.executable, attack.folder / "pyoci")  # the checkout may be root's alone
    command = [executable, "--root", str(attack.folder / "own"), "--cgroup-manager", "disabled"]
    done = subprocess.run([*command, "create", "--bundle", str(attack.bundle.folder), attack.id], capture_output=True, text=True,
                          check=False, timeout=PATIENCE, preexec_fn=become_a_user_without_processes)  # fmt: skip
    assert 1 == done.returncode
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert [] == list((attack.folder / "own").iterdir())


# ── run ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_run_without_a_process(attack: Attack) -> None:
    """Run of a config without a program ends with an error, it does not wait for a start that never comes."""
    del attack.config["process"]
    result = attack.run()
    assert (1, True) == (result.status, "has no process" in result.err)
