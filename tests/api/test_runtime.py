"""Runtime and Container with a real runtime."""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

import pyoci as api
from pyoci.testing import Bundle

pytestmark = pytest.mark.root
NULL = subprocess.DEVNULL


def children() -> set[str]:
    """The pids of this process' children."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_a_life(runtime: api.Runtime, bundle: Bundle) -> None:
    """create, start, kill, wait, delete, and the status in between."""
    with runtime.create("life", bundle, stdin=NULL) as container:
        assert "created" == container.state["status"]
        assert ["life"] == [state["id"] for state in runtime.list()]
        container.start()
        assert "running" == container.state["status"]
        assert [container.state["pid"]] == container.processes()
        container.kill("KILL")

        assert 137 == container.wait(timeout=60)
        assert "stopped" == container.state["status"]
    assert [] == runtime.list()
    assert 137 == container.wait()


def test_the_context_deletes_after_an_exception(runtime: api.Runtime, bundle: Bundle) -> None:
    """The exception is the caller's."""
    with pytest.raises(ZeroDivisionError), runtime.create("raises", bundle, stdin=NULL):
        raise ZeroDivisionError

    assert [] == runtime.list()


@pytest.mark.parametrize(
    ("script", "signal", "status"),
    [("exit 0", None, 0), ("exit 255", None, 255), ("kill -9 $$", None, 0), ("sleep 100", "KILL", 137)],
)
def test_wait(runtime: api.Runtime, bundle: Bundle, script: str, signal: str | None, status: int) -> None:
    """The exit status in the form of a shell. Its own SIGKILL does not reach the first process of a pid namespace."""
    bundle.shell(script)
    with runtime.create("wait", bundle, stdin=NULL) as container:
        with pytest.raises(subprocess.TimeoutExpired):
            container.wait(timeout=0)
        container.start()
        if signal:
            container.kill(signal)

        assert status == container.wait(timeout=60)


@pytest.mark.parametrize("number", ["TERM", "SIGTERM", 15, signal.SIGTERM, "15"])
def test_kill_takes_names_and_numbers(runtime: api.Runtime, bundle: Bundle, number: str | int) -> None:
    """In any spelling."""
    bundle.shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
    with runtime.create("kill", bundle, stdin=NULL, stdout=subprocess.PIPE) as container:
        container.start()
        assert container.stdout is not None
        assert b"ready\n" == container.stdout.readline()
        container.kill(number)

        assert 3 == container.wait(timeout=60)


def test_exec(container: api.Container) -> None:
    """Arguments, environment, directory, user, input and output."""
    script = 'echo "$A $(pwd) $(id -u):$(id -g)"; cat; echo err >&2; exit 7'
    result = container.exec(["sh", "-c", script], env={"A": "b c"}, cwd="/tmp", user="5:6", input=b"in", timeout=60)

    assert (["sh", "-c", script], 7) == (result.args, result.returncode)
    assert (b"b c /tmp 5:6\nin", b"err\n") == (result.stdout, result.stderr)
    assert b"" == container.exec(["cat"], timeout=60).stdout
    with pytest.raises(subprocess.CalledProcessError) as caught:
        container.exec(["sh", "-c", script], check=True)
    assert (7, b"err\n") == (caught.value.returncode, caught.value.stderr)


def test_exec_of_a_process_document(container: api.Container) -> None:
    """A whole `process`."""
    process: api.Process = {
        "args": ["sh", "-c", "id -u; pwd"],
        "cwd": "/etc",
        "user": {"uid": 9, "gid": 9},
        "env": ["PATH=/bin"],
    }

    assert b"9\n/etc\n" == container.exec(process, check=True).stdout
    with pytest.raises(TypeError):
        container.exec(process, cwd="/")
    with pytest.raises(TypeError):
        container.exec("id")


def test_exec_passes_streams(container: api.Container, tmp_path: Path) -> None:
    """What subprocess takes."""
    (tmp_path / "in").write_text("text")
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("wb") as target:
        result = container.exec(
            ["sh", "-c", "cat; echo err >&2"], stdin=source, stdout=target, stderr=subprocess.STDOUT
        )

    assert (None, None) == (result.stdout, result.stderr)
    assert "texterr\n" == (tmp_path / "out").read_text()


def test_exec_moves_much_data(container: api.Container) -> None:
    """More than a pipe holds, in both directions at once."""
    data = os.urandom(1 << 20)

    assert data == container.exec(["cat"], input=data, check=True).stdout


def test_exec_kills_a_program_that_takes_too_long(container: api.Container) -> None:
    """The program in the container, not just the runtime's process; what it wrote comes with the exception."""
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        container.exec(["sh", "-c", "echo begun; exec sleep 1000"], timeout=5)

    assert (["sh", "-c", "echo begun; exec sleep 1000"], b"begun\n") == (caught.value.cmd, caught.value.output)
    assert [container.state["pid"]] == container.processes()


def test_exec_on_a_terminal(container: api.Container, tmp_path: Path) -> None:
    """The socket receives the master."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert 0 == container.exec(["sh", "-c", "tty; sleep 0.1"], console_socket=path).returncode
        connection, _ = listener.accept()
        with connection:
            _, (master,), _, _ = socket.recv_fds(connection, 100, 1)
    with open(master, "rb", buffering=0) as terminal:
        assert b"/dev/pts/0\r\n" == terminal.read(100)


def test_create_with_pipes(runtime: api.Runtime, bundle: Bundle) -> None:
    """The container's ends are the container's; the parent's ends are attributes."""
    bundle.program("cat")
    with runtime.create(
        "pipes", bundle, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as container:
        container.start()
        assert container.stdin is not None
        assert container.stdout is not None
        assert container.stderr is None
        container.stdin.write(b"text")
        container.stdin.close()

        assert b"text" == container.stdout.read()
        assert 0 == container.wait(timeout=60)


def test_create_of_another_config(runtime: api.Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """`config` is read in place of the bundle's."""
    bundle.write()
    bundle.program("sh", "-c", "exit 9")
    (tmp_path / "other.json").write_text(json.dumps(bundle.config))

    assert 9 == runtime.run("other", bundle.directory, config=tmp_path / "other.json").returncode


def test_create_on_a_terminal(runtime: api.Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """`console_socket` receives the master."""
    bundle.process["terminal"] = True
    bundle.program("tty")
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with runtime.create("terminal", bundle, stdin=NULL, console_socket=path) as container:
            connection, _ = listener.accept()
            with connection:
                _, (master,), _, _ = socket.recv_fds(connection, 100, 1)
            container.start()
            with open(master, "rb", buffering=0) as terminal:
                assert b"/dev/pts/0\r\n" == terminal.read(100)


def test_run(runtime: api.Runtime, bundle: Bundle) -> None:
    """To the end, with input and output."""
    bundle.shell("cat; echo err >&2; exit 4")
    result = runtime.run("run", bundle, input=b"in", timeout=60)

    assert (4, b"in", b"err\n") == (result.returncode, result.stdout, result.stderr)
    assert [] == runtime.list()
    with pytest.raises(subprocess.CalledProcessError):
        runtime.run("run", bundle, check=True)


def test_run_deletes_what_takes_too_long(runtime: api.Runtime, bundle: Bundle) -> None:
    """What it wrote comes with the exception."""
    bundle.shell("echo begun; sleep 1000")
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        runtime.run("long", bundle, timeout=5)

    assert b"begun\n" == caught.value.output
    assert [] == runtime.list()


def test_pause_and_resume(container: api.Container) -> None:
    """The status says so."""
    container.pause()
    assert "paused" == container.state["status"]
    container.resume()
    assert "running" == container.state["status"]


def test_stats_and_events(container: api.Container) -> None:
    """Once, and again and again until it stops."""
    assert container.stats()["cpu"]["usage"]["total"] > 0
    events = container.events(interval=0.05)
    assert [("stats", container.id)] * 2 == [(event["type"], event["id"]) for event in (next(events), next(events))]
    container.kill("KILL")
    assert {"stats"} >= {event["type"] for event in events}


def test_closed_events_leave_no_process(container: api.Container) -> None:
    """Closing the generator ends what it reads from."""
    before = set(os.listdir("/proc/self/fd")), children()
    with contextlib.closing(container.events(interval=0.05)) as events:
        next(events)

    assert before == (set(os.listdir("/proc/self/fd")), children())


def test_load(runtime: api.Runtime, container: api.Container) -> None:
    """The same container, for every method."""
    loaded = runtime.load(container.id)
    assert container.state == loaded.state
    loaded.kill("KILL")

    assert (137, 137) == (loaded.wait(timeout=60), container.wait(timeout=60))


def test_warnings_go_to_the_logger(runtime: api.Runtime, bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    """And errors do not."""
    bundle.process["capabilities"] = {"bounding": ["CAP_NONE"]}
    with runtime.create("warned", bundle, stdin=NULL, stderr=NULL):
        pass
    ((name, level, message),) = caplog.record_tuples

    assert ("pyoci", logging.WARNING) == (name, level)
    assert "CAP_NONE" in message


ERRORS = [
    ({"ociVersion": "none"}, api.ConfigError, "/ociVersion"),
    (
        {"mounts": [{"destination": "/x", "type": "none", "source": "none", "options": ["a"]}]},
        api.SetupError,
        "/mounts/0",
    ),
    ({"hooks": {"createRuntime": [{"path": "/bin/false"}]}}, api.HookError, "/hooks/createRuntime/0"),
]


@pytest.mark.parametrize(("change", "kind", "pointer"), ERRORS, ids=["config", "setup", "hook"])
def test_create_raises(
    runtime: api.Runtime, bundle: Bundle, change: dict[str, object], kind: type[api.PyociError], pointer: str
) -> None:
    """The class, the pointer and the message; nothing is left."""
    bundle.config.update(change)
    with pytest.raises(kind) as caught:
        runtime.create("fails", bundle, stdin=NULL, stderr=NULL)
    error = caught.value
    problems = error.problems if isinstance(error, api.ConfigError) else [error]

    assert [pointer] == [problem.pointer for problem in problems]
    assert pointer not in problems[0].message
    assert [] == runtime.list()


def test_create_raises_every_problem(runtime: api.Runtime, bundle: Bundle) -> None:
    """A ConfigError has what `validate` returns."""
    bundle.config.update({"hostname": 1, "domainname": 2})
    with pytest.raises(api.ConfigError) as caught:
        runtime.create("fails", bundle, stdin=NULL, stderr=NULL)

    assert {"/hostname", "/domainname"} == {problem.pointer for problem in caught.value.problems}


def test_errors_of_the_status(runtime: api.Runtime, bundle: Bundle, container: api.Container) -> None:
    """What another status would allow."""
    for call in (container.start, container.resume, container.delete):
        with pytest.raises(api.StatusError):
            call()
    with pytest.raises(api.ContainerExists):
        runtime.create(container.id, bundle, stdin=NULL, stderr=NULL)
    with pytest.raises(api.SetupError) as caught:
        container.exec(["none"])
    assert "executable file not found in $PATH" in caught.value.message
    assert caught.value.hint
    assert caught.value.hint not in caught.value.message
    container.kill("KILL")
    container.wait(timeout=60)
    for call in (container.start, container.kill, container.pause, container.stats, lambda: container.exec(["id"])):
        with pytest.raises(api.StatusError):
            call()


def test_errors_of_what_is_not_there(runtime: api.Runtime, container: api.Container) -> None:
    """`delete` with force ignores it."""
    container.delete(force=True)
    container.delete(force=True)
    for call in (
        container.start,
        container.kill,
        container.pause,
        container.delete,
        lambda: runtime.load(container.id),
    ):
        with pytest.raises(api.ContainerNotFound):
            call()


def test_a_failing_create_leaks_nothing(runtime: api.Runtime, bundle: Bundle) -> None:
    """No descriptor, no child, no file."""
    bundle.config["hostname"] = 1  # type: ignore[typeddict-item]
    before = set(os.listdir("/proc/self/fd"))
    temporary = set(os.listdir("/tmp"))
    for _ in range(3):
        with pytest.raises(api.ConfigError):
            runtime.create("fails", bundle, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    assert before == set(os.listdir("/proc/self/fd"))
    assert not [name for name in set(os.listdir("/tmp")) - temporary if name.startswith("pyoci-")]


def test_an_interrupted_create_leaves_no_container(
    runtime: api.Runtime, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the runtime is at work."""

    def interrupted(self: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        monkeypatch.undo()
        raise KeyboardInterrupt

    runtime.list()
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runtime.create("interrupted", bundle, stdin=NULL)

    assert [] == runtime.list()


def test_the_executable_is_found(pyoci: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name in PATH, by its path, or not at all."""
    (tmp_path / "pyoci").symlink_to(pyoci)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    for name in ("pyoci", "./pyoci", tmp_path / "pyoci"):
        assert str(tmp_path / "pyoci") == api.Runtime(name).executable
    with pytest.raises(api.PyociError, match="cannot run none: there is no such executable") as caught:
        api.Runtime("none")
    assert "Runtime" in caught.value.hint


def test_runc(bundle: Bundle, tmp_path: Path) -> None:
    """The same methods, and errors where their meaning is certain."""
    if not shutil.which("runc"):
        pytest.skip("no runc")
    runtime = api.Runtime("runc", root=tmp_path / "runc")
    with runtime.create("api-runc", bundle, stdin=NULL) as container:
        with pytest.raises(api.ContainerExists):
            runtime.create("api-runc", bundle, stdin=NULL, stderr=NULL)
        container.start()
        assert b"0\n" == container.exec(["id", "-u"], check=True).stdout
        assert [container.state["pid"]] == container.processes()
        assert "stats" == next(container.events(interval=1))["type"]
        with pytest.raises(api.PyociError, match="executable file not found"):
            container.exec(["none"])
        with pytest.raises(subprocess.TimeoutExpired):
            container.exec(["sleep", "1000"], timeout=5)
        assert [container.state["pid"]] == container.processes()
        for call in (container.start, container.resume, container.delete):
            with pytest.raises(api.StatusError):
                call()
        container.kill("KILL")
        assert 137 == container.wait(timeout=60)
    with pytest.raises(api.ContainerNotFound):
        container.kill()
    with pytest.raises(api.UnsupportedError):
        runtime.run("api-runc", bundle, config="other.json")


def test_crun(crun: str, bundle: Bundle, tmp_path: Path) -> None:
    """What it lacks is an UnsupportedError."""
    runtime = api.Runtime(crun, root=tmp_path / "crun", cgroup_manager="disabled")
    with runtime.create("api-crun", bundle, stdin=NULL) as container:
        container.start()
        assert b"0\n" == container.exec(["id", "-u"], check=True).stdout
        for call in (container.stats, lambda: next(container.events())):
            with pytest.raises(api.UnsupportedError):
                call()
        container.kill("KILL")
        assert 137 == container.wait(timeout=60)
    with pytest.raises(api.ContainerNotFound):
        container.start()


def test_load_of_a_stopped_container(runtime: api.Runtime, container: api.Container) -> None:
    """Its exit status is gone."""
    container.kill("KILL")
    container.wait(timeout=60)
    time.sleep(0.01)
    loaded = runtime.load(container.id)

    with pytest.raises(api.StatusError, match="cannot wait for the container"):
        loaded.wait()
