"""SCMP_ACT_NOTIFY: the agent gets the listener before the container does anything under its filter."""

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.compiler._syscalls import COLUMNS, NAMES
from pyoci.container import Container
from pyoci.errors import SetupError
from pyoci.host import sockets
from pyoci.start import start
from tests.root.test_crash import Moments, assert_removable, settle
from tests.support.agent import ARCHITECTURE, CONTINUE, IOCTL_RECV, IOCTL_SEND, NOTIF, RESPONSE, Agent
from tests.support.runtime import AT_ONCE, PATIENCE, Bundle, Runtime, status_of, wait_for

pytestmark = pytest.mark.root

WHERE = "/linux/seccomp/listenerPath"
MKDIR = ("mkdir", "mkdirat")
# What the process and the hooks that it forks call under the filter, and what a filter had better not ask about.
SETS = {
    "program": ["execve"],
    "descriptors": ["close", "close_range", "dup2", "dup3", "fcntl", "pipe2"],
    "transfers": ["read", "write", "writev", "sendmsg", "sendto", "recvmsg", "ioctl"],
    "credentials": ["capset", "capget", "prctl"],
    "children": ["clone", "clone3", "fork", "vfork", "wait4", "waitid", "kill", "setpgid", "poll", "ppoll"],
    "filters": ["seccomp", "pidfd_getfd", "ptrace"],
    "ends": ["exit", "exit_group"],
}


@pytest.fixture
def agent(runtime: Runtime) -> Iterator[Agent]:
    """An agent that lets everything continue, until the test says otherwise."""
    with Agent(runtime.folder / "agent") as made:
        yield made


def notify(bundle: Bundle, path: Path | str, *names: str, **more: Any) -> Bundle:
    """The agent is asked about these system calls, everything else is allowed."""
    known = [name for name in names if COLUMNS[ARCHITECTURE][NAMES.index(name)] >= 0]
    rules = [{"names": known, "action": "SCMP_ACT_NOTIFY"}]
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(path), "syscalls": rules, **more
    }  # fmt: skip
    return bundle


# --- what the agent gets, and what it can do with it


def test_answers_of_an_agent(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """It lets one call continue, and decides the errno of another."""
    answers = [None, errno.EDQUOT]
    agent.answer = lambda _: answers.pop(0)
    notify(bundle, agent.path, *MKDIR).shell("mkdir /one && ls -d /one; mkdir /two; ls -d /two")
    result = runtime.run()
    assert "/one\n" == result.out
    assert "mkdir: can't create directory '/two': Disk quota exceeded" in result.err, result
    assert 2 == len(agent.calls)
    assert set(MKDIR) >= set(agent.calls)


@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("user_namespace", [False, True], ids=["", "userns"])
def test_process_state(
    runtime: Runtime, bundle: Bundle, agent: Agent, no_new_privileges: bool, user_namespace: bool
) -> None:
    """The message is what the specification says; it comes when the filter is loaded, in start (SEC-21 to SEC-24)."""
    bundle.config["annotations"] = {"k": "v"}
    bundle.process["noNewPrivileges"] = no_new_privileges
    if user_namespace:
        bundle.in_user_namespace()
    notify(bundle, agent.path, *MKDIR, listenerMetadata="é\n").program("sleep", 100)
    runtime.create()
    assert [] == agent.states
    runtime.start()
    state = runtime.state()
    wait_for(lambda: agent.states)
    common = {key: state[key] for key in ("ociVersion", "id", "pid", "bundle", "annotations")}
    assert [
        {
            "ociVersion": "1.3.0",
            "fds": ["seccompFd"],
            "pid": state["pid"],
            "metadata": "é\n",
            "state": {**common, "status": "created"},
        }
    ] == agent.states
    status = status_of(state["pid"])
    assert ("2", "1", "0") == (status["Seccomp"], status["Seccomp_filters"], status["TracerPid"])
    assert str(int(no_new_privileges)) == status["NoNewPrivs"]
    assert ["0", "1", "2"] == sorted(os.listdir(f"/proc/{state['pid']}/fd"))


def test_no_metadata(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """What there is none of is not in the message."""
    notify(bundle, agent.path, *MKDIR).program("true")
    assert 0 == runtime.run().status
    wait_for(lambda: agent.states)
    assert {"ociVersion", "fds", "pid", "state"} == agent.states[0].keys()


def test_large_message(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """More than a socket holds at once."""
    notify(bundle, agent.path, *MKDIR, listenerMetadata="x" * 2_000_000).program("true")
    assert 0 == runtime.run().status
    wait_for(lambda: agent.states)
    assert "x" * 2_000_000 == agent.states[0]["metadata"]


def test_path_in_the_bundle(runtime: Runtime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path counts from the bundle, wherever start is called; it may be longer than a socket's address."""
    folder = bundle.folder / ("long" * 30)
    folder.mkdir()
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(folder)
        agent = Agent(Path("agent"))
    with agent:
        notify(bundle, f"{folder.name}/agent", *MKDIR).program("true")
        runtime.create(cwd=bundle.folder)
        assert 0 == runtime("start", runtime.id, cwd="/").status
        wait_for(lambda: agent.states)


def test_bundle_is_not_read_again(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """What the config says after create is of no account."""
    notify(bundle, agent.path, *MKDIR, listenerMetadata="before").program("true")
    runtime.create()
    notify(bundle, "/nowhere", *MKDIR, listenerMetadata="after").write()
    runtime.start()
    wait_for(lambda: agent.states)
    assert "before" == agent.states[0]["metadata"]


@pytest.mark.parametrize("flags", [[], ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]], ids=["", "killable"])
def test_wait_killable(runtime: Runtime, bundle: Bundle, agent: Agent, flags: list[str]) -> None:
    """A signal breaks a call off that the agent works on; not with this flag."""
    notify(bundle, agent.path, "chdir", flags=flags)
    bundle.shell("trap 'signalled=1' USR1; cd /tmp; cd /tmp; echo $signalled; exec sleep 100")
    runtime.create()
    pid = runtime.pid()

    def answer(_) -> None:
        if len(agent.calls) == 1:
            os.kill(pid, signal.SIGUSR1)
            if flags:
                time.sleep(0.1)
            else:  # until it has taken the signal, and so given up its call
                wait_for(lambda: not int(status_of(pid)["ShdPnd"], 16))

    agent.answer = answer
    runtime.start()
    wait_for(runtime.output)
    assert "1\n" == runtime.output()
    assert bool(flags) != ("Interrupted system call" in (runtime.folder / "err").read_text())


def test_listener_is_ignored_without_notify(runtime: Runtime, bundle: Bundle) -> None:
    """Even a dead path (SEC-20)."""
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nowhere", "listenerMetadata": "x",
        "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
    }  # fmt: skip
    assert "ran\n" == runtime.shell("echo ran")


def test_path_is_needed(runtime: Runtime, bundle: Bundle) -> None:
    """NOTIFY without an agent."""
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_NOTIFY"}
    assert '/linux/seccomp/defaultAction: SCMP_ACT_NOTIFY needs "listenerPath"' in runtime.create_fails()


# --- exec


def test_exec(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """Each process loads the filter, and the agent gets a listener for each, with the pid of that process."""
    notify(bundle, agent.path, *MKDIR, listenerMetadata="m").program("sleep", 100)
    runtime.create()
    runtime.start()
    state = runtime.state()
    result = runtime("exec", runtime.id, "sh", "-c", "mkdir /one && echo made; grep Seccomp_f /proc/self/status")
    assert (0, "made\nSeccomp_filters:\t1\n") == (result.status, result.out), result
    first, second = agent.states
    assert (state["pid"], "created") == (first["pid"], first["state"]["status"])
    assert second["pid"] != state["pid"]
    assert second == {**first, "pid": second["pid"], "state": {**first["state"], "status": "running"}}
    assert 1 == len(agent.calls)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("options", [[], ["--detach"]], ids=["", "detached"])
def test_exec_is_notified(runtime: Runtime, bundle: Bundle, agent: Agent, kind: str, options: list[str]) -> None:
    """Whatever call of the process' set-up the agent has to answer, it gets there."""
    notify(bundle, agent.path, *SETS[kind]).program("sleep", 100)
    runtime.create()
    runtime.start()
    with (runtime.folder / "exec").open("wb") as out:
        words = [*options, "--pid-file", runtime.folder / "pid", runtime.id, "sh", "-c", "echo ran > /marker"]
        command = runtime.command("exec", *words)
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=PATIENCE, check=True)
    if options:  # it is an orphan, of this process
        assert 0 == os.waitpid(int((runtime.folder / "pid").read_text()), 0)[1]
    assert (bundle.rootfs / "marker").exists()
    assert "" == (runtime.folder / "exec").read_text()


def test_exec_without_an_agent(runtime: Runtime, bundle: Bundle) -> None:
    """exec fails, and nothing is left of the process; the container goes on."""
    with Agent(runtime.folder / "agent") as agent:
        notify(bundle, agent.path, *MKDIR).program("sleep", 100)
        runtime.create()
        runtime.start()
    for options in ([], ["--detach"]):
        message = runtime.fails("exec", *options, runtime.id, "sh", "-c", "echo ran > /marker; sleep 100")
        assert f"{WHERE}: cannot connect to seccomp agent {agent.path}: connection refused" == message
    assert not (bundle.rootfs / "marker").exists()
    assert [runtime.pid()] == json.loads(runtime("ps", "--format", "json", runtime.id).out)
    assert "running" == runtime.state()["status"]


def test_exec_is_refused_by_the_agent(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """execve fails as the agent says, and so does exec."""
    notify(bundle, agent.path, "execve").program("sleep", 100)
    runtime.create()
    runtime.start()
    agent.answer = lambda _: errno.EACCES
    result = runtime("exec", runtime.id, "/bin/true")
    assert 0 != result.status
    assert 'exec: "/bin/true": permission denied' in result.err


# --- nothing that the process does under the filter may wait for a missing agent


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_own_calls_are_notified(
    runtime: Runtime, bundle: Bundle, agent: Agent, kind: str, no_new_privileges: bool
) -> None:
    """Whatever call of the container's own set-up the agent has to answer, it gets there."""
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.hook("startContainer", "mkdir /hook").hook("startContainer", "mkdir /another")
    notify(bundle, agent.path, *SETS[kind])
    assert "/hook\nran\n" == runtime.shell("ls -d /hook; echo ran")
    assert agent.calls or kind == "filters"
    assert 3 <= agent.calls.count("execve") or kind != "program"
    assert ("capset" in agent.calls) == (kind == "credentials" and not no_new_privileges)


def test_everything_is_notified(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """NOTIFY as the default action."""
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": str(agent.path)}
    bundle.hook("startContainer", "mkdir /hook")
    assert "ran\n" == runtime.shell("test -d /hook && echo ran")
    assert {"capset", "clone", "execve", "close", "write", "exit_group"} <= set(agent.calls)


def test_hooks_are_notified(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """startContainer hooks run under the filter, and the agent has it by then."""
    bundle.hook("startContainer", "mkdir /hook")
    notify(bundle, agent.path, *MKDIR)
    agent.answer = lambda _: errno.EXDEV
    bundle.program("true")
    runtime.create()
    message = runtime.fails("start", runtime.id)
    assert "/hooks/startContainer/0: error running startContainer hook #0: /bin/sh exited with status 1" in message
    assert "Invalid cross-device link" in message
    runtime.assert_gone()


def test_agent_refuses_the_program(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """execve fails as the agent says, and so does start."""
    notify(bundle, agent.path, "execve").program("/bin/true")
    agent.answer = lambda _: errno.EACCES
    runtime.create()
    assert 'exec: "/bin/true": permission denied' in runtime.fails("start", runtime.id)
    runtime.assert_gone()


def test_agent_that_ends(runtime: Runtime, bundle: Bundle) -> None:
    """When no listener is left, the call that waits and those that come get ENOSYS from the kernel."""
    with Agent(runtime.folder / "agent") as agent:
        notify(bundle, agent.path, *MKDIR)
        bundle.shell("while ! test -e /gone; do sleep 0.01; done; mkdir /x; echo $?")
        runtime.create()
        runtime.start()
        wait_for(lambda: agent.states)
    (bundle.rootfs / "gone").touch()
    wait_for(runtime.output)
    assert "1\n" == runtime.output()
    assert "Function not implemented" in (runtime.folder / "err").read_text()


class Leaving:
    """An agent that closes its listener while a system call waits for it, after an answer to another call or none."""

    def __init__(self, path: Path, *, answers: bool) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.answers = answers
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.socket.accept()
        data, (listener,), _, _ = socket.recv_fds(connection, 1 << 16, 4)
        while data:
            data = connection.recv(1 << 16)
        connection.close()
        request = bytearray(NOTIF.size)
        fcntl.ioctl(listener, IOCTL_RECV, request)
        if self.answers:
            number = NOTIF.unpack(request)[0]
            with pytest.raises(FileNotFoundError):
                fcntl.ioctl(listener, IOCTL_SEND, RESPONSE.pack(number + 1, 0, 0, CONTINUE))
        os.close(listener)

    def close(self) -> None:
        self.thread.join()
        self.socket.close()


@pytest.mark.parametrize("answers", [False, True], ids=["closes", "answers another call"])
@pytest.mark.parametrize("way", ["start", "run", "run --detach", "exec", "exec --detach", "hook"])
def test_agent_that_leaves(runtime: Runtime, bundle: Bundle, way: str, answers: bool) -> None:
    """execve waits for an agent that closes its listener: it fails as without an agent, and nothing hangs. No copy of
    the
    listener is left in the process itself."""
    path = runtime.folder / "agent"
    notify(bundle, path, "execve").program("/bin/sleep", 100)
    if way == "hook":
        bundle.hook("startContainer", "true")
    if way.startswith("exec"):
        with Agent(path):
            runtime.create()
            runtime.start()
            runtime.wait("running")
        path.unlink()
        words = [*way.split(), runtime.id, "/bin/sleep", "100"]
    elif way.startswith("run"):
        bundle.write()
        words = [*way.split(), "--bundle", bundle.folder, runtime.id]
    else:
        runtime.create()
        words = ["start", runtime.id]
    agent = Leaving(path, answers=answers)
    message = runtime.fails(*words, timeout=AT_ONCE)
    agent.close()
    expected = 'exec: "/bin/sleep": function not implemented'
    if way == "hook":
        expected = "error running startContainer hook #0: cannot run /bin/sh: function not implemented"
    assert expected in message
    if way.startswith("exec"):
        assert "running" == runtime.state()["status"]
    else:
        runtime.assert_gone()


@pytest.mark.parametrize("way", ["run", "exec"])
def test_signal_while_execve_waits(runtime: Runtime, bundle: Bundle, agent: Agent, way: str) -> None:
    """An agent that never answers holds up the foreground, which a signal ends: nothing is left of the process."""
    notify(bundle, agent.path, "execve").program("sleep", 100)
    words = ["run", "--bundle", bundle.folder, runtime.id]
    if way == "exec":
        runtime.create()
        runtime.start()
        words = ["exec", runtime.id, "sleep", "100"]
        agent.calls.clear()
    bundle.write()
    go = threading.Event()
    agent.answer = lambda _: None if go.wait(PATIENCE) else errno.ETIMEDOUT
    with subprocess.Popen(
        runtime.command(*words), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: agent.calls)
        process.terminate()
        try:
            assert "signal 15 has ended the runtime before the program ran\n" == process.communicate(timeout=AT_ONCE)[1]
        finally:
            process.kill()
            go.set()
        assert (1 if way == "run" else 255) == process.returncode
    if way == "exec":
        assert "running" == runtime.state()["status"]
        assert [runtime.pid()] == json.loads(runtime("ps", "--format", "json", runtime.id).out)
    else:
        runtime.assert_gone()


def test_signal_reaches_a_program_that_was_not_there_yet(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """A signal that comes before execve is the program's, if that runs soon."""
    notify(bundle, agent.path, "execve").program("/bin/sleep", 100)
    # the signal ends it; the first process of a pid namespace would ignore it
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "pid"]
    go = threading.Event()
    agent.answer = lambda _: None if go.wait(PATIENCE) else errno.ETIMEDOUT
    bundle.write()
    words = runtime.command("run", "--bundle", bundle.folder, runtime.id)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        wait_for(lambda: agent.calls)
        process.send_signal(signal.SIGUSR1)
        go.set()
        assert 128 + signal.SIGUSR1 == process.wait(PATIENCE)


def test_delete_beside_a_start_that_waits(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """An agent that never answers holds up start; `delete --force` ends both."""
    go = threading.Event()
    agent.answer = lambda _: None if go.wait(PATIENCE) else errno.ETIMEDOUT
    notify(bundle, agent.path, "execve").program("sleep", 100)
    runtime.create()
    words = runtime.command("start", runtime.id)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as start:
        wait_for(lambda: agent.calls)
        result = runtime("delete", "--force", runtime.id, timeout=AT_ONCE)
        go.set()
        assert (0, "", "") == tuple(result)
        start.wait(PATIENCE)
    runtime.assert_gone()


# --- agents that are not there


def no_socket(path, _) -> None:
    pass


def no_listener(path, _) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def a_file(path, _) -> None:
    path.touch()


def another_type(path, stack) -> None:
    stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(str(path))


def full(path, stack) -> None:
    """Its queue of connections is full."""
    made = stack.enter_context(socket.socket(socket.AF_UNIX))
    made.bind(str(path))
    made.listen(0)
    stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))


NOBODY = {
    no_socket: "no such file or directory",
    no_listener: "connection refused",
    a_file: "connection refused",
    another_type: "protocol wrong type for socket",
    full: "resource temporarily unavailable",
}


@pytest.mark.parametrize("nobody", NOBODY, ids=lambda nobody: nobody.__name__)
def test_agent_is_missing(runtime: Runtime, bundle: Bundle, nobody: Callable[..., Any]) -> None:
    """start fails at once, nothing has run under the filter, the container is destroyed."""
    path = runtime.folder / "agent"
    bundle.hook("startContainer", "touch /ran").hook("poststart", f"touch {bundle.rootfs}/ran")
    bundle.hook("poststop", f"touch {bundle.folder}/stopped")
    notify(bundle, path, *MKDIR).shell("touch /ran")
    runtime.create()
    with contextlib.ExitStack() as stack:
        nobody(path, stack)
        message = runtime.fails("start", runtime.id, timeout=AT_ONCE)
    assert f"{WHERE}: cannot connect to seccomp agent {path}: {NOBODY[nobody]}" == message
    runtime.assert_gone()
    assert not (bundle.rootfs / "ran").exists()
    assert (bundle.folder / "stopped").exists()


@pytest.mark.parametrize("options", [[], ["--detach"]])
def test_agent_of_run_is_missing(runtime: Runtime, bundle: Bundle, options: list[str]) -> None:
    """`run`, whose child the process is, leaves nothing either."""
    notify(bundle, "/nowhere", *MKDIR).shell("touch /ran")
    message = runtime.create_fails(*options, verb="run")
    assert f"{WHERE}: cannot connect to seccomp agent /nowhere: no such file or directory" == message
    assert not (bundle.rootfs / "ran").exists()


def test_agent_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who takes the connection and reads nothing is not waited for for ever."""
    monkeypatch.setattr(sockets, "TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "agent"))
        made.listen()
        with pytest.raises(SetupError, match=r"cannot send to seccomp agent .*: connection timed out"):
            sockets.send(str(tmp_path / "agent"), 0, b"x" * 1_000_000, "seccomp agent", WHERE)


def test_agent_closes_the_connection(tmp_path: Path) -> None:
    """Before it has read everything."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "agent"))
        made.listen()

        def close() -> None:
            made.accept()[0].close()

        closer = threading.Thread(target=close)
        closer.start()
        with pytest.raises(
            SetupError, match=r"cannot send to seccomp agent .*: (broken pipe|connection reset by peer)"
        ):
            sockets.send(str(tmp_path / "agent"), 0, b"x" * 1_000_000, "seccomp agent", WHERE)
        closer.join()


def test_without_the_capability(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """The listener is another process', which takes CAP_SYS_PTRACE: the error says so."""
    notify(bundle, agent.path, *MKDIR).shell("touch /ran")
    runtime.create()
    run = runtime.command
    runtime.command = lambda *words, **kept: ["setpriv", "--bounding-set", "-sys_ptrace", *run(*words, **kept)]
    message = runtime.fails("start", runtime.id)
    assert f"{WHERE}: cannot get the listener of the seccomp filter: operation not permitted" in message
    assert "hint: it needs CAP_SYS_PTRACE" in message
    runtime.assert_gone()
    assert [] == agent.states


# --- the process while start holds it


def test_start_is_killed(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """The container is still created, or stopped, or the agent has the listener: it never runs without one."""
    moments = Moments(runtime)
    notify(bundle, agent.path, "chdir").shell("cd /tmp; echo ran > marker; exec sleep 100")
    marker = bundle.rootfs / "tmp/marker"
    runtime.create()
    points = moments.of("start", runtime.id, first=r"flock")
    assert_removable(runtime)

    # each system call of the process makes the same three, some hundred times in all
    points = [moment for moment in points if moment[0] not in ("waitid", "ptrace") or moment[1] % 25 < 2]

    def outcome():
        """created, stopped, or running, once that shows: what is about to be killed runs for another moment, even when
        the
        agent has its listener."""
        wait_for(lambda: settle(runtime) != "running" or marker.exists())
        return settle(runtime)

    seen = set()
    for moment in points:
        marker.unlink(missing_ok=True)
        agent.states.clear()
        runtime.create()
        moments.kill(moment, "start", runtime.id)
        status = outcome()
        seen.add(status)
        if status == "created":  # even with its filter, until it has its program
            runtime.start()
        if status in ("created", "running"):
            wait_for(marker.exists, moment)
            assert 1 == len(agent.states)
        else:
            assert "stopped" == status
            assert not marker.exists(), moment
        assert_removable(runtime)
    assert {"created", "stopped", "running"} == seen


def test_start_has_no_descriptor_left(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """Nothing has begun: the container waits for another start."""
    notify(bundle, agent.path, *MKDIR).program("sleep", 100)
    runtime.create()
    calls = runtime.folder / "calls"
    strace = ["strace", "-qq", "-o", calls, "-e", "trace=openat", "-e", "signal=none"]
    subprocess.run([*strace, *runtime.command("start", runtime.id)], check=True, timeout=PATIENCE)
    opened = [n for n, line in enumerate(calls.read_text().splitlines(), 1) if '"exec.fifo"' in line]
    assert opened
    for number in opened:
        runtime.delete("--force")
        runtime.create()
        inject = ["-e", f"inject=openat:error=EMFILE:when={number}"]
        done = subprocess.run([*strace, *inject, *runtime.command("start", runtime.id)],
                              capture_output=True, text=True, check=False, timeout=PATIENCE)  # fmt: skip
        assert (1, True) == (done.returncode, "too many open files" in done.stderr), done
        assert "created" == runtime.state()["status"]
        runtime.start()
        assert "running" == runtime.state()["status"]


def test_start_is_taken_up(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """One that is killed when the agent has the listener: the next waits for the program, and sends nothing."""
    go = threading.Event()
    agent.answer = lambda _: None if go.wait(PATIENCE) else errno.ETIMEDOUT
    notify(bundle, agent.path, "execve").program("sleep", 100)
    bundle.hook("poststart", f"touch {runtime.folder}/poststart")
    runtime.create()
    with subprocess.Popen(runtime.command("start", runtime.id), stdin=subprocess.DEVNULL) as start:
        wait_for(lambda: agent.calls)
        start.kill()
    assert "created" == runtime.state()["status"]
    with subprocess.Popen(runtime.command("start", runtime.id), stdin=subprocess.DEVNULL) as start:
        with pytest.raises(subprocess.TimeoutExpired):
            start.wait(0.3)
        go.set()
        assert 0 == start.wait(PATIENCE)
    assert "running" == runtime.state()["status"]
    assert (1, ["execve"]) == (len(agent.states), agent.calls)
    assert (runtime.folder / "poststart").exists()


def test_stopped_process(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """start continues a stopped process, which is not the program yet."""
    notify(bundle, agent.path, *MKDIR).program("sleep", 100)
    runtime.create()
    pid = runtime.pid()
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: status_of(pid)["State"].startswith("T"))
    runtime.start()
    assert "running" == runtime.state()["status"]
    wait_for(lambda: agent.states)


def test_process_that_is_stopped_again_and_again(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """Stops delay start or make it fail, while it traces the process and afterwards. They do not hang it."""
    notify(bundle, agent.path, *MKDIR).program("sleep", 100)
    again = "another process stops the container's process again and again while the runtime sets it up\n"
    for _ in range(5):
        runtime.create()
        pid = runtime.pid()
        words = runtime.command("start", runtime.id)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as start:
            while start.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            assert (start.returncode, start.stderr.read()) in ((0, ""), (1, f"{WHERE}: {again}"), (1, again))
        runtime.delete("--force")


def test_signals_meanwhile(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """A signal that the process gets while it is held is its own affair."""
    notify(bundle, agent.path, *MKDIR).program("sleep", 100)
    for _ in range(5):
        runtime.create()
        pid = runtime.pid()
        start = subprocess.Popen(runtime.command("start", runtime.id), stdin=subprocess.DEVNULL)
        while start.poll() is None:
            os.kill(pid, signal.SIGWINCH)
            time.sleep(0.0002)  # each one holds it up: some time has to be left for the rest
        assert 0 == start.returncode
        assert "running" == runtime.state()["status"]
        runtime.delete("--force")


def test_process_is_killed_meanwhile(runtime: Runtime, bundle: Bundle) -> None:
    """start says so, and nothing is left."""
    path = runtime.folder / "agent"
    notify(bundle, path, *MKDIR, listenerMetadata="x" * 2_000_000).program("sleep", 100)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        runtime.create()
        pid = runtime.pid()
        start = subprocess.Popen(
            runtime.command("start", runtime.id), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        with listener.accept()[0] as connection:  # start is in the middle of its message
            assert status_of(pid)["TracerPid"] == str(start.pid)
            os.kill(pid, signal.SIGKILL)
            while connection.recv(1 << 16):
                pass
        assert re.search("was killed before it ran|no such process", start.communicate(timeout=PATIENCE)[1])
    assert 1 == start.returncode
    runtime.assert_gone()


def test_its_parent_hears_of_its_end(runtime: Runtime, bundle: Bundle) -> None:
    """The library kills a process which is not its own, and goes on living: the parent still gets a report."""
    notify(bundle, "/nowhere", *MKDIR).program("sleep", 100).write()
    script = (
        "import ctypes, os, subprocess, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); "
        "subprocess.run(sys.argv[1:], check=True); print('created', flush=True); print(os.wait()[1])"
    )
    command = runtime.command("create", "--bundle", bundle.folder, runtime.id)
    parent = subprocess.Popen([sys.executable, "-c", script, *command], stdout=subprocess.PIPE, text=True)
    assert "created\n" == parent.stdout.readline()
    container = Container.load(runtime.id, root=str(runtime.root))
    with pytest.raises(SetupError, match="cannot connect to seccomp agent"):
        start(container)
    container.close()
    assert ([parent.stdout], [], []) == select.select([parent.stdout], [], [], PATIENCE)
    assert f"{int(signal.SIGKILL)}\n" == parent.communicate(timeout=PATIENCE)[0]
