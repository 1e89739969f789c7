"""Checkpoint and restore: a container goes on where it was, with its data and its processes."""

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.root.test_console import ConsoleSocket
from tests.support.restoring import COUNTER, CheckpointRuntime, Pipe, assert_same, facts, with_host_programs
from tests.support.runtime import Bundle, status_of, wait_for

pytestmark = pytest.mark.root


def test_a_counter_goes_on(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Its number, its process and its tmpfs are as before; checkpoint deletes the container."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    before, pid = facts(checkpoints), checkpoints.pid()

    checkpoints.checkpoint()

    assert {} == checkpoints.state()
    checkpoints.assert_gone()
    checkpoints.restore()
    assert checkpoints.assert_counts() > 2
    assert_same(before, facts(checkpoints))
    assert pid != checkpoints.pid()
    numbers = [int(line) for line in checkpoints.wait_for_file("/dev/shm/count").split()]
    assert list(range(1, len(numbers) + 1)) == numbers


# A tree with sessions, an orphan and an ignored signal.
TREE = """
    cd /dev/shm
    setsid sh -c 'sleep 1001 & sleep 1002' &
    setsid sh -c 'exec setsid sh -c "sleep 1003 & wait"' &
    (sh -c 'sleep 1004 & exit')
    trap '' USR1
    sleep 1005 &
    echo $! $$ >pids
    until [ -e ready ]; do sleep 0.01; done
    rm ready; echo ready >done
    wait
"""


def test_ten_generations(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """A tree of processes with sessions, and their data: ten times in a row the same, with the same numbers."""
    bundle.shell(TREE)
    checkpoints.launch()
    checkpoints.wait_for_file("/dev/shm/pids")
    checkpoints.inside("touch /dev/shm/ready")
    checkpoints.wait_for_file("/dev/shm/done")
    checkpoints.inside("head -c 3000000 /dev/urandom >/dev/shm/data")
    wait_for(lambda: 5 == [status_of(pid)["Name"] for pid in checkpoints.pids()].count("sleep"))
    data = checkpoints.inside("md5sum /dev/shm/data")
    before = facts(checkpoints)
    assert 2 < len({task["NSsid"] for task in before["tasks"].values()})

    for generation in range(10):
        checkpoints.again(images=f"images-{generation}")
        assert_same(before, facts(checkpoints))
        assert data == checkpoints.inside("md5sum /dev/shm/data")


def test_the_running_container_stays_with_leave_running(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """It goes on in the same process. The images still restore it, later and as it was."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    pid = checkpoints.pid()

    checkpoints.checkpoint("--leave-running")

    assert ("running", pid) == (checkpoints.state()["status"], checkpoints.pid())
    checkpoints.inside("touch /dev/shm/later")
    later = checkpoints.count() + 20
    wait_for(lambda: checkpoints.count() > later, "it does not go on")
    checkpoints.delete("--force")
    checkpoints.restore()
    assert "later" not in checkpoints.inside("ls /dev/shm").split()
    checkpoints.assert_counts()


def test_a_paused_container_is_dumped(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """It stays paused with --leave-running; it runs when it is restored."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    assert (0, "", "") == tuple(checkpoints("pause", checkpoints.id))

    checkpoints.checkpoint("--leave-running")

    assert "paused" == checkpoints.state()["status"]
    reached = checkpoints.count()
    assert (0, "", "") == tuple(checkpoints("resume", checkpoints.id))
    checkpoints.assert_counts()
    checkpoints.delete("--force")
    checkpoints.restore()
    assert "running" == checkpoints.state()["status"]
    assert checkpoints.assert_counts() >= reached


def test_output_goes_on_in_the_pipes_of_the_new_engine(
    checkpoints: CheckpointRuntime, bundle: Bundle, pipes: Callable[[], Pipe]
) -> None:
    """Standard input, output and error are the pipes of whoever restores."""
    bundle.shell("n=0; while read word; do n=$((n+1)); echo out $n $word; echo err $n $word >&2; done; echo end")
    streams = [pipes() for _ in range(3)]

    def say(word: str, number: int) -> None:
        os.write(streams[0].writer, f"{word}\n".encode())
        assert f"out {number} {word}\n" == streams[1].until("\n")
        assert f"err {number} {word}\n" == streams[2].until("\n")

    def standard() -> dict[str, int]:
        return {"stdin": streams[0].reader, "stdout": streams[1].writer, "stderr": streams[2].writer}

    checkpoints.launch(**standard())
    say("first", 1)
    for number in (2, 3):
        checkpoints.checkpoint()
        for stream in streams:
            stream.close()
        streams = [pipes() for _ in range(3)]
        checkpoints.restore(**standard())
        say("again", number)
    os.close(streams[0].writer)
    streams[1].until("end\n")
    checkpoints.wait("stopped")


def numbers_in(log: Path) -> list[int]:
    """The numbers in the complete lines of a log."""
    return [int(line.split()[-1]) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_output_goes_on_in_another_log(checkpoints: CheckpointRuntime, bundle: Bundle, tmp_path: Path) -> None:
    """A log of the host that was opened to append to can be another one after the restore."""
    bundle.shell("n=0; while :; do n=$((n+1)); echo out $n; sleep 0.02; done")
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    with first.open("ab") as file:
        checkpoints.launch(stdout=file)
    wait_for(lambda: 3 in numbers_in(first))
    checkpoints.checkpoint()
    reached = numbers_in(first)

    with second.open("ab") as file:
        checkpoints.restore(stdout=file)

    wait_for(lambda: len(numbers_in(second)) > 2)
    assert reached == numbers_in(first)
    assert reached[-1] + 1 == numbers_in(second)[0]


def test_output_goes_on_in_the_same_log(checkpoints: CheckpointRuntime, bundle: Bundle, tmp_path: Path) -> None:
    """A log that was opened in another way must have the same size. The output goes on at its end."""
    bundle.shell("n=0; while :; do n=$((n+1)); echo out $n; sleep 0.02; done")
    log = tmp_path / "first.log"
    with log.open("wb") as file:
        checkpoints.launch(stdout=file)
    wait_for(lambda: 3 in numbers_in(log))
    checkpoints.checkpoint()
    reached = numbers_in(log)
    with (tmp_path / "other.log").open("wb") as file:
        assert 0 != checkpoints.restores(stdout=file).status
    assert "at the checkpoint it had" in checkpoints.last_error()

    with log.open("r+b") as file:
        checkpoints.restore(stdout=file)

    wait_for(lambda: len(numbers_in(log)) > len(reached) + 2)
    found = numbers_in(log)
    assert list(range(1, len(found) + 1)) == found


@pytest.mark.parametrize("user_namespace", [False, True])
def test_a_shell_on_a_terminal(checkpoints: CheckpointRuntime, bundle: Bundle, user_namespace: bool) -> None:
    """Typing goes on at the terminal that comes through the new console socket: variables, jobs and modes are kept."""
    bundle.process["terminal"] = True
    bundle.process["consoleSize"] = {"height": 40, "width": 91}
    if user_namespace:
        bundle.in_user_namespace()
    with_host_programs(bundle)
    bundle.program("/usr/bin/bash", "--norc", "--noprofile", "--noediting", "-i")
    numbers = itertools.count()

    def ask(console: ConsoleSocket, line: str) -> str:
        """What the shell answers to a line; the terminal's echo of the line has no `end-N`."""
        number = next(numbers)
        os.write(console.master, f"{line}; echo end-''{number}.\n".encode())
        return console.until(f"end-{number}.").partition("\n")[2].lstrip()

    sockets = [ConsoleSocket(checkpoints.folder / f"console-{number}") for number in range(3)]
    try:
        checkpoints.launch("--console-socket", sockets[0].path)
        sockets[0].receive()
        ask(sockets[0], "PS1=; answer=42; sleep 1000 & stty -echoctl")
        before = facts(checkpoints)
        for console in sockets[1:]:
            checkpoints.checkpoint()
            checkpoints.restore("--console-socket", console.path)
            console.receive()
            assert_same(before, facts(checkpoints))
            assert "42\n" == ask(console, "echo $answer")
            assert "40 91\n" == ask(console, "stty size")
            assert "-echoctl" in ask(console, "stty -a")
            assert "/dev/pts/0\n" == ask(console, "tty")
            assert "sleep 1000" in ask(console, "jobs")
        os.write(sockets[2].master, b"exit 3\n")
        checkpoints.wait("stopped")
    finally:
        for console in sockets:
            console.close()


def test_own_user_namespace(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Ids, capabilities and mounts are the same; the container's root is still unmapped on the host."""
    bundle.in_user_namespace().shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    before = facts(checkpoints)
    assert ["0", "100000", "65536"] == before["maps"][0]

    checkpoints.again()

    checkpoints.assert_counts()
    assert_same(before, facts(checkpoints))
    assert "100000" == status_of(checkpoints.pid())["Uid"].split()[0]
    assert "0\n" == checkpoints.inside("id -u")


# --- commands on a restored container


def test_every_command_works_on_a_restored_container(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """state, list, ps, exec, pause, resume, update, events, kill and delete, as on one that was created here."""
    bundle.shell(COUNTER)
    bundle.config["annotations"] = {"org.example.key": "value"}
    checkpoints.launch()
    checkpoints.assert_counts()
    before = checkpoints.state()
    checkpoints.again()

    state = checkpoints.state()
    assert {key: value for key, value in before.items() if key not in ("pid", "created")} == {
        key: value for key, value in state.items() if key not in ("pid", "created")
    }
    listed = json.loads(checkpoints("list", "--format", "json").out)
    assert [(checkpoints.id, "running", state["pid"])] == [(c["id"], c["status"], c["pid"]) for c in listed]
    assert [state["pid"]] == checkpoints.pids()
    assert "0\n" == checkpoints.inside("id -u")
    executed = checkpoints("exec", checkpoints.id, "/bin/sh", "-c", "exit 7")
    assert 7 == executed.status
    assert (0, "", "") == tuple(checkpoints("pause", checkpoints.id))
    assert "paused" == checkpoints.state()["status"]
    assert (0, "", "") == tuple(checkpoints("resume", checkpoints.id))
    assert (0, "", "") == tuple(checkpoints("update", "--resources", "-", checkpoints.id, input=b"{}"))
    event = checkpoints("events", "--stats", checkpoints.id)
    assert (0, checkpoints.id) == (event.status, json.loads(event.out)["id"])
    checkpoints.assert_counts()
    assert (0, "", "") == tuple(checkpoints("kill", checkpoints.id, "KILL"))
    checkpoints.wait("stopped")
    checkpoints.delete()
    checkpoints.assert_gone()


def test_delete_force_ends_a_restored_container(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Nothing of it is left, neither mounts nor cgroup."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.again()

    checkpoints.delete("--force")

    checkpoints.assert_gone()


def test_restore_in_the_foreground_returns_the_status(
    checkpoints: CheckpointRuntime, bundle: Bundle, pipes: Callable[[], Pipe]
) -> None:
    """Without --detach, restore waits for the container and exits with its status, as run does."""
    bundle.shell("echo ready; read line; echo got $line; exit 5")
    standard_input, output = pipes(), pipes()
    checkpoints.launch(stdin=standard_input.reader, stdout=output.writer)
    output.until("ready\n")
    checkpoints.checkpoint()
    given = pipes()
    os.write(given.writer, b"word\n")

    words = ("restore", "--bundle", bundle.folder, "--image-path", checkpoints.images())
    restored = checkpoints(*words, checkpoints.id, stdin=given.reader)

    assert (5, "got word\n", "") == tuple(restored)
    checkpoints.assert_gone()


def test_restore_writes_the_pid_file(checkpoints: CheckpointRuntime, bundle: Bundle, tmp_path: Path) -> None:
    """It has the number of the restored init, which is a child of whoever restores."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.checkpoint()

    checkpoints.restore("--pid-file", tmp_path / "pid")

    pid = int((tmp_path / "pid").read_text())
    assert pid == checkpoints.pid()
    assert os.getpid() == int(status_of(pid)["PPid"])
    assert (0, "", "") == tuple(checkpoints("kill", checkpoints.id, "TERM"))  # the shell is init, and ignores it
    os.kill(pid, signal.SIGKILL)
    assert signal.SIGKILL == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) * -1
    checkpoints.wait("stopped")


# --- somewhere else


def test_restore_under_another_id(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Two containers come out of one image, side by side, each with its own processes, tmpfs and cgroup."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    before = facts(checkpoints)
    checkpoints.checkpoint()
    second = f"{checkpoints.host.token}-2"

    checkpoints.restore()
    checkpoints.restore(id=second)

    assert_same(before, facts(checkpoints))
    assert_same(before, facts(checkpoints, second))
    for each in (checkpoints.id, second):
        checkpoints.assert_counts(each)
    cgroups = [Path(f"/proc/{checkpoints.pid(each)}/cgroup").read_text() for each in (checkpoints.id, second)]
    assert cgroups[0] != cgroups[1]


def test_restore_on_another_host(checkpoints: CheckpointRuntime, bundle: Bundle, tmp_path: Path) -> None:
    """With another state directory, and a copy of the root filesystem in another bundle: as after a migration."""
    bundle.shell(COUNTER + " 4</bin/busybox 5>>/written")
    checkpoints.launch()
    checkpoints.assert_counts()
    before = facts(checkpoints)
    checkpoints.checkpoint()
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(["cp", "-a", bundle.folder, tmp_path / "elsewhere/bundle"], check=True)
    bundle.folder.rename(tmp_path / "away")
    checkpoints.bundle = Bundle.__new__(Bundle)
    checkpoints.bundle.__dict__.update(bundle.__dict__, directory=tmp_path / "elsewhere/bundle")
    checkpoints.bundle.rootfs = tmp_path / "elsewhere/bundle/rootfs"
    root, checkpoints.root = checkpoints.root, tmp_path / "elsewhere/state"
    try:
        checkpoints.restore()

        checkpoints.assert_counts()
        assert_same(before, facts(checkpoints))
        assert str(tmp_path / "elsewhere/bundle") == checkpoints.state()["bundle"]
        checkpoints.delete("--force")
    finally:
        checkpoints.root = root
        (tmp_path / "away").rename(bundle.folder)
