"""The command line with real containers: what engines see of each command."""

import array
import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import OTHERS, PATIENCE

pytestmark = pytest.mark.root

APPLETS = "sh cat echo sleep true false id ls tty stty"


class Runtime:
    """The executable, a state root, a log and a bundle of its own."""

    def __init__(self, executable: str, folder: Path) -> None:
        self.executable = executable
        self.folder = folder
        self.root = folder / "root"
        self.log = folder / "log.json"
        self.bundle = folder / "bundle"
        self.ids = set()
        self.make_bundle()

    def make_bundle(self) -> None:
        """A root filesystem with busybox, and the config that `spec` writes, without a terminal."""
        binaries = self.bundle / "rootfs/bin"
        binaries.mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), binaries / "busybox")
        for name in APPLETS.split():
            (binaries / name).symlink_to("busybox")
        assert ("", "") == self("spec", "--bundle", self.bundle)[1:]
        self.config = json.loads((self.bundle / "config.json").read_text())
        self.config["process"]["terminal"] = False

    def write(self, *args: str, **process: Any) -> None:
        """Give the container a program."""
        self.config["process"] |= {"args": list(args), **process}
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def command(self, *words: Path | str) -> list[str]:
        """The whole command line."""
        options = ["--root", self.root, "--log", self.log, "--log-format", "json"]
        return [str(word) for word in (self.executable, *options, *words)]

    def __call__(self, *words: Path | str, **options: Any) -> tuple[int, str, str]:
        """Run it: (exit status, standard output, standard error).

        Into files: the ends of pipes would be the container's, too, and we would wait for it.
        """
        self.ids.update(str(word) for word in words[-2:])
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            result = subprocess.run(
                self.command(*words), stdout=out, stderr=err, text=True, timeout=PATIENCE, check=False, **options
            )
            out.seek(0)
            err.seek(0)
            return result.returncode, out.read(), err.read()

    def state(self, id: str) -> dict[str, Any]:
        """The state document."""
        status, out, err = self("state", id)
        assert (0, "") == (status, err)
        return json.loads(out)

    def wait(self, id: str, status: str) -> None:
        """Wait until the container has this status."""
        deadline = time.monotonic() + PATIENCE
        while self.state(id)["status"] != status:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def errors(self) -> list[str]:
        """The messages in the log."""
        return [json.loads(line)["msg"] for line in self.log.read_text().splitlines()]


@pytest.fixture
def runtime(pyoci: str, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime whose containers are gone afterwards."""
    made = Runtime(pyoci, tmp_path)
    yield made
    for name in made.ids:
        subprocess.run(
            [made.executable, "--root", made.root, "delete", "--force", name], capture_output=True, check=False
        )


def cgroups(name: str) -> set[Any]:
    """Every cgroup of the host that has this name; others come and go."""
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    return {path for path, _, _ in os.walk(mount) if os.path.basename(path) == name}


def mounts(folder: Path) -> list[str]:
    """The host's mounts, but for where other programs may mount at any time, and not in the test's own directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not line.split()[4].startswith(OTHERS) or str(folder) in line]


def ended(pid: int) -> bool:
    """Whether a process is gone, or is a zombie that its new parent has not waited for."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_life(runtime: Runtime) -> None:
    """create, start, kill, delete: statuses as the specification has them, and nothing is printed."""
    runtime.write("sleep", "100")
    assert (0, "", "") == runtime("create", "--bundle", runtime.bundle, "--pid-file", runtime.folder / "pid", "c1")
    state = runtime.state("c1")
    pid = int((runtime.folder / "pid").read_bytes())

    assert str(pid).encode() == (runtime.folder / "pid").read_bytes()  # no newline: containerd reads it with Atoi
    assert ("created", pid, str(runtime.bundle)) == (state["status"], state["pid"], state["bundle"])
    assert str(runtime.bundle / "rootfs") == state["rootfs"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", state["created"])
    assert (0, "", "") == runtime("start", "c1")
    assert "running" == runtime.state("c1")["status"]
    assert (0, "", "") == runtime("kill", "c1", "9")
    runtime.wait("c1", "stopped")
    assert 0 == runtime.state("c1")["pid"]
    assert (0, "", "") == runtime("delete", "c1")
    assert not (runtime.root / "c1").exists()
    assert "" == runtime.log.read_text()


def test_texts_that_engines_look_for(runtime: Runtime) -> None:
    """containerd, CRI-O, Docker and Podman decide by these, byte by byte."""
    runtime.write("true")
    runtime("create", "-b", runtime.bundle, "c1")
    runtime("start", "c1")
    runtime.wait("c1", "stopped")

    assert (1, "", "container not running\n") == runtime("kill", "c1", "KILL")
    assert (0, "", "") == runtime("kill", "--all", "c1", "9")
    assert "cannot start a container that has stopped\n" == runtime("start", "c1")[2]
    assert "already exists" in runtime("create", "-b", runtime.bundle, "c1")[2]
    assert (0, "", "") == runtime("delete", "c1")
    for verb in ("delete", "state", "kill", "start"):
        status, out, err = runtime(verb, "c1")
        assert (1, "") == (status, out)
        assert "does not exist" in err
    assert (0, "", "") == runtime("delete", "--force", "c1")


def test_delete_of_a_running_container(runtime: Runtime) -> None:
    """An error that names the status; --force kills it."""
    runtime.write("sleep", "100")
    runtime("run", "-d", "-b", runtime.bundle, "c1")
    pid = runtime.state("c1")["pid"]

    assert (1, "", "cannot delete container c1 that is not stopped: running\n") == runtime("delete", "c1")
    assert (0, "", "") == runtime("delete", "c1", "--force")
    assert ended(pid)


@pytest.mark.parametrize(
    ("args", "process", "expected"),
    [
        (["nosuch"], {}, 'exec: "nosuch": executable file not found in $PATH'),
        (["/nosuch"], {}, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        (["/bin"], {}, 'exec: "/bin": is a directory'),
        (["/data"], {}, 'exec: "/data": permission denied'),
        (["sh"], {"cwd": "/data"}, 'chdir to cwd ("/data") set in config.json failed: not a directory'),
    ],
)
def test_errors_that_must_appear_at_create(
    args: list[str], process: dict[str, str], expected: str, runtime: Runtime
) -> None:
    """Exit codes 126 and 127 of engines come from create's message; and nothing is left behind."""
    (runtime.bundle / "rootfs/data").write_text("text")
    runtime.write(*args, **process)
    before, mounted = cgroups("c1"), mounts(runtime.folder)
    status, out, err = runtime("create", "-b", runtime.bundle, "--pid-file", runtime.folder / "pid", "c1")

    assert (1, "") == (status, out)
    assert 1 == err.count("\n")
    assert expected in err
    assert [err.rstrip("\n")] == runtime.errors()
    assert not (runtime.folder / "pid").exists()
    assert [] == list(runtime.root.iterdir())
    assert set() == cgroups("c1") - before
    assert mounted == mounts(runtime.folder)


@pytest.mark.parametrize(
    ("script", "expected"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
)
def test_run_returns_the_programs_status(script: str, expected: int, runtime: Runtime) -> None:
    """128 + N for a signal. The container has a pid namespace, so a child's shell must end its init."""
    # init of a pid namespace ignores signals from inside it: the program is run without one
    runtime.config["linux"]["namespaces"] = [n for n in runtime.config["linux"]["namespaces"] if n["type"] != "pid"]
    runtime.write("sh", "-c", script)

    assert (expected, "", "") == runtime("run", "-b", runtime.bundle, "c1")
    assert not (runtime.root / "c1").exists()


def test_run_passes_standard_streams_through(runtime: Runtime) -> None:
    """Input, output and errors are the container's own, to the last byte."""
    runtime.write("sh", "-c", "cat; echo error >&2")
    text = "line\n" * 50_000

    assert (0, text, "error\n") == runtime("run", "-b", runtime.bundle, "c1", input=text)


def test_run_keep(runtime: Runtime) -> None:
    """BuildKit reads the cgroup of a stopped container; `delete` removes it."""
    runtime.write("true")

    assert 0 == runtime("run", "--keep", "-b", runtime.bundle, "c1")[0]
    assert "stopped" == runtime.state("c1")["status"]
    assert (0, "", "") == runtime("delete", "c1")


def test_run_forwards_signals(runtime: Runtime) -> None:
    """What reaches the runtime reaches the program."""
    runtime.write("sh", "-c", "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    with subprocess.Popen(
        runtime.command("run", "-b", runtime.bundle, "c1"), stdout=subprocess.PIPE, text=True
    ) as process:
        runtime.ids.add("c1")
        assert "ready\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert ("got it\n", 7) == (process.stdout.read(), process.wait(PATIENCE))


def test_init_is_an_orphan_of_the_subreaper(runtime: Runtime) -> None:
    """Engines wait for the pid themselves, so the runtime must not stand between."""
    code = (
        "import ctypes, os, subprocess, sys\n"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER
        "subprocess.run(sys.argv[2:], check=True)\n"
        "pid = int(open(sys.argv[1]).read())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    runtime.write("sh", "-c", "exit 42")
    run = runtime.command("run", "-d", "-b", runtime.bundle, "--pid-file", runtime.folder / "pid", "c1")
    runtime.ids.add("c1")
    result = subprocess.run(
        ["/usr/bin/python3", "-c", code, runtime.folder / "pid", *run],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert "42\n" == result.stdout, result.stderr


def test_console_socket(runtime: Runtime) -> None:
    """One message, some data, exactly one descriptor: the terminal's master. No answer is needed."""
    runtime.write("sh", "-c", "tty; stty size; echo done", terminal=True, consoleSize={"height": 33, "width": 77})
    path = runtime.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert (0, "", "") == runtime("create", "-b", runtime.bundle, "--console-socket", path, "c1")
        connection, _ = server.accept()  # engines accept only after create has returned
        data, ancillary, _, _ = connection.recvmsg(4096, 256)
        rest = connection.recv(1)
        connection.close()
    assert data
    assert rest == b""
    ((level, kind, raw),) = ancillary
    assert (socket.SOL_SOCKET, socket.SCM_RIGHTS) == (level, kind)
    (master,) = array.array("i", raw)
    assert (0, "", "") == runtime("start", "c1")
    output = b""
    with contextlib.suppress(OSError):  # EIO: the last user of the terminal has gone
        while True:
            output += os.read(master, 4096)
    os.close(master)

    assert b"33 77\r\ndone" in output
    assert b"not a tty" not in output


def test_console_socket_with_a_long_path(runtime: Runtime) -> None:
    """buildah's socket lies in the bundle, whose path may be longer than a socket address."""
    folder = runtime.folder / ("d" * 100)
    folder.mkdir()
    runtime.write("sh", terminal=True)
    here = os.open(folder, os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/s")
        server.listen()
        assert (0, "", "") == runtime("create", "-b", runtime.bundle, "--console-socket", folder / "s", "c1")
        server.accept()[0].close()
    os.close(here)


@pytest.mark.parametrize(
    ("terminal", "options", "expected"),
    [(True, [], "there is no --console-socket"), (False, ["--console-socket", "/x"], "process.terminal is not true")],
)
def test_terminal_and_console_socket_go_together(
    terminal: bool, options: list[str], expected: str, runtime: Runtime
) -> None:
    """One without the other is an error."""
    runtime.write("sh", terminal=terminal)
    status, _, err = runtime("create", "-b", runtime.bundle, *options, "c1")

    assert 1 == status
    assert expected in err


def test_foreground_terminal(runtime: Runtime) -> None:
    """`run` on a terminal: what is typed arrives, and the outer terminal is as it was afterwards."""
    runtime.write("sh", "-c", "read line; echo got $line; exit 5", terminal=True)
    pid, master = pty.fork()
    if pid == 0:
        os.execv(runtime.executable, runtime.command("run", "-b", runtime.bundle, "c1"))
    runtime.ids.add("c1")
    os.write(master, b"hello\r")
    output = b""
    with contextlib.suppress(OSError):
        while True:
            output += os.read(master, 4096)
    os.close(master)

    assert b"got hello" in output
    assert 5 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_pidfd_socket(runtime: Runtime) -> None:
    """runc's --pidfd-socket: a pidfd of the container's process."""
    runtime.write("sleep", "100")
    path = runtime.folder / "pidfd.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert (0, "", "") == runtime("create", "-b", runtime.bundle, "--pidfd-socket", path, "c1")
        connection, _ = server.accept()
        _, fds, _, _ = socket.recv_fds(connection, 4096, 2)
        connection.close()
    information = Path(f"/proc/self/fdinfo/{fds[0]}").read_text()
    os.close(fds[0])

    assert f"Pid:\t{runtime.state('c1')['pid']}\n" in information


SHOW_DESCRIPTORS = """
n=3
while [ $n -lt 40 ]; do
    [ -L /proc/$$/fd/$n ] && echo $n
    n=$((n + 1))
done
echo $LISTEN_FDS-$LISTEN_PID
"""


def descriptors(runtime: Runtime, *options: str, opened: str = "", environment: str = "") -> tuple[list[str], str]:
    """The descriptors beyond 2 that a program gets, and its LISTEN_FDS and LISTEN_PID.

    `opened` are redirections and `environment` assignments of the shell that becomes the runtime.
    """
    runtime.write("sh", "-c", SHOW_DESCRIPTORS)
    command = runtime.command("run", "-b", runtime.bundle, *options, "c1")
    script = f'export X=1 {environment}; exec "$@" {opened}'
    result = subprocess.run(
        ["bash", "-c", script, "bash", *command], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (0, "") == (result.returncode, result.stderr)
    *shown, variables = result.stdout.split()
    return shown, variables


THREE = "3</dev/zero 4</dev/zero 5</dev/zero"


def test_no_descriptor_leaks(runtime: Runtime) -> None:
    """Whatever the caller has left open stays outside."""
    assert ([], "-") == descriptors(runtime, opened=THREE + " 9</etc 30</proc/self/maps")


def test_preserve_fds(runtime: Runtime) -> None:
    """3 and 4 are passed on at their numbers, 5 is not."""
    assert (["3", "4"], "-") == descriptors(runtime, "--preserve-fds", "2", opened=THREE)


def test_preserve_fds_with_holes(runtime: Runtime) -> None:
    """Podman's --preserve-fd 5 passes 3 with 3 and 4 closed: they stay closed, and no descriptor of the runtime
    gets there.
    """
    assert (["5"], "-") == descriptors(runtime, "--preserve-fds", "3", opened="5</dev/zero")


def test_listen_fds_meant_for_another_process(runtime: Runtime) -> None:
    """LISTEN_PID names another process: nothing is passed, without a message."""
    assert ([], "-") == descriptors(runtime, opened=THREE, environment="LISTEN_FDS=1 LISTEN_PID=1")


def test_listen_fds(runtime: Runtime) -> None:
    """LISTEN_PID names us: they come first, those of --preserve-fds follow, and the program gets their number."""
    environment = "LISTEN_FDS=1 LISTEN_PID=$$"

    assert (["3"], "1-1") == descriptors(runtime, opened=THREE, environment=environment)
    assert (["3", "4"], "1-1") == descriptors(runtime, "--preserve-fds", "1", opened=THREE, environment=environment)


def test_too_many_descriptors_to_preserve(runtime: Runtime) -> None:
    """A clear error, at once."""
    runtime.write("true")
    status, _, err = runtime("create", "-b", runtime.bundle, "--preserve-fds", "999999999", "c1")

    assert 1 == status
    assert "internal error" not in err


def test_list(runtime: Runtime) -> None:
    """Ours, in order; what other runtimes keep in the same root, and rubbish, is passed over."""
    runtime.write("sleep", "100")
    a, b = f"list-a-{os.getpid()}", f"list-b-{os.getpid()}"
    for name in (b, a):
        runtime("create", "-b", runtime.bundle, name)
    (runtime.root / "runc1").mkdir()
    (runtime.root / "runc1/state.json").write_text('{"id": "runc1", "init_process_pid": 1}')
    (runtime.root / "empty").mkdir()
    (runtime.root / "file").write_text("")
    listed = json.loads(runtime("list", "--format", "json")[1])

    assert (0, f"{a}\n{b}\n", "") == runtime("list", "-q")
    assert [(a, "created", "root"), (b, "created", "root")] == [(s["id"], s["status"], s["owner"]) for s in listed]
    assert runtime("list")[1].split()[:4] == ["ID", "PID", "STATUS", "BUNDLE"]
    assert (runtime.root / "runc1/state.json").exists()


def test_regex(runtime: Runtime) -> None:
    """crun's --regex, with containers."""
    runtime.write("sleep", "100")
    for name in ("web-1", "web-2", "db"):
        runtime("run", "-d", "-b", runtime.bundle, name)

    assert (0, "", "") == runtime("delete", "--force", "--regex", "^web-")
    assert "db\n" == runtime("list", "-q")[1]
    runtime("delete", "--force", "db")


@pytest.mark.parametrize("id", ["", ".", "..", "../x", "a/b", "a\n", ".x", "x" * 256, "é"])
def test_invalid_ids_are_rejected(id: str, runtime: Runtime) -> None:
    """Nothing is made, nothing outside the root is touched."""
    runtime.write("true")
    before = sorted(runtime.folder.iterdir())
    for verb in ("create", "start", "state", "kill", "delete"):
        options = ["-b", runtime.bundle] if verb == "create" else []
        assert 1 == runtime(verb, *options, id)[0]
    runtime.ids.clear()

    assert sorted({*before, runtime.log}) == sorted(runtime.folder.iterdir())


def test_config_edited_between_create_and_start(runtime: Runtime) -> None:
    """The container is what the config was at create."""
    runtime.write("echo", "first")
    with open(runtime.folder / "out", "w") as file:
        subprocess.run(runtime.command("create", "-b", runtime.bundle, "c1"), stdout=file, check=True, timeout=PATIENCE)
    runtime.ids.add("c1")
    runtime.write("echo", "second")
    (runtime.bundle / "config.json").unlink()
    assert (0, "", "") == runtime("start", "c1")
    runtime.wait("c1", "stopped")

    assert "first\n" == (runtime.folder / "out").read_text()


def test_warnings_do_not_stain_the_containers_streams(runtime: Runtime) -> None:
    """An unknown capability causes a warning: for a user, or in a log that asks for it."""
    capabilities = {"bounding": ["CAP_NO_SUCH"], "effective": ["CAP_NO_SUCH"], "permitted": ["CAP_NO_SUCH"]}
    runtime.write("true", capabilities=capabilities)
    assert (0, "", "") == runtime("run", "-b", runtime.bundle, "c1")
    assert "" == runtime.log.read_text()

    words = [runtime.executable, "--root", runtime.root, "run", "-b", runtime.bundle, "c1"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (0, "") == (result.returncode, result.stdout)
    assert "CAP_NO_SUCH" in result.stderr
    assert result.stderr.startswith("warning: ")

    words = runtime.command("--debug", "run", "-b", runtime.bundle, "c1")
    subprocess.run(words, capture_output=True, timeout=PATIENCE, check=True)
    assert any("CAP_NO_SUCH" in message for message in runtime.errors())


def test_debug_tells_how_far_it_has_come(runtime: Runtime) -> None:
    """Each thing that the runtime does for a container, before it is done, and each point that the container
    reaches.
    """
    runtime.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    runtime.write("sleep", "100")
    log = runtime.folder / "debug.log"
    words = [runtime.executable, "--root", runtime.root, "--log", log, "--log-format", "json", "--debug"]
    for command in (["create", "-b", runtime.bundle, "c1"], ["start", "c1"], ["exec", "c1", "true"]):
        with open(runtime.folder / "streams", "ab") as streams:
            subprocess.run([*words, *command], stdin=subprocess.DEVNULL, stdout=streams, stderr=streams, check=True)
    assert (0, "", "") == runtime("delete", "--force", "c1")
    assert "" == (runtime.folder / "streams").read_text()
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"debug"} == {entry["level"] for entry in told}
    messages = [entry["msg"] for entry in told]
    for message in (
        f"/root/path open_rootfs {runtime.bundle}/rootfs",
        "sync ready",
        "sync created",
        "verify_namespaces",
    ):
        assert any(text.startswith(message) for text in messages), messages
    assert messages.index("sync ready") < messages.index("sync created")
    [written] = [text for text in messages if " write_filter " in text]
    planned = subprocess.check_output([runtime.executable, "plan", runtime.bundle], text=True)
    [expected] = [line for line in planned.splitlines() if " write_filter " in line]
    [instructions] = re.findall("([1-9][0-9]*) instructions", expected)
    assert f"/linux/seccomp write_filter {instructions} instructions" == written


def test_an_empty_environment(runtime: Runtime) -> None:
    """Podman calls delete with XDG_RUNTIME_DIR alone, CRI-O with little more."""
    runtime.write("true")
    for words in (
        ["create", "-b", runtime.bundle, "c1"],
        ["start", "c1"],
        ["state", "c1"],
        ["delete", "--force", "c1"],
    ):
        assert 0 == runtime(*words, env={})[0]


def test_hostile_environment_and_directory(runtime: Runtime) -> None:
    """Neither the working directory nor PYTHON* decides what runs."""
    hostile = runtime.folder / "hostile"
    (hostile / "pyoci").mkdir(parents=True)
    for name in ("json.py", "os.py", "posix.py", "re.py", "pyoci/__init__.py", "sitecustomize.py"):
        (hostile / name).write_text("raise SystemExit(99)\n")
    runtime.write("true")
    environment = {
        "PYTHONPATH": str(hostile),
        "PYTHONHOME": str(hostile),
        "PYTHONSTARTUP": str(hostile / "os.py"),
        "PATH": "/x",
    }
    for words in (["run", "-b", runtime.bundle, "c1"], ["validate", runtime.bundle], ["features"], ["list"]):
        assert 0 == runtime(*words, env=environment, cwd=hostile)[0]


def test_what_spec_writes_runs(runtime: Runtime) -> None:
    """The template, as it is, on a terminal."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(runtime.executable, runtime.command("run", "-b", runtime.bundle, "c1"))
    runtime.ids.add("c1")
    os.write(master, b"id; exit 6\r")
    output = b""
    with contextlib.suppress(OSError):
        while True:
            output += os.read(master, 4096)
    os.close(master)

    assert b"uid=0" in output
    assert 6 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_poststop_hook_that_fails(runtime: Runtime) -> None:
    """delete succeeds, the next hook runs, and a user gets a warning; an engine's streams and log stay clean."""
    hooks = [{"path": "/bin/false"}, {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{runtime.folder}/state"]}]
    runtime.config["hooks"] = {"poststop": hooks}
    runtime.write("true")
    runtime("create", "-b", runtime.bundle, "c1")
    words = [runtime.executable, "--root", runtime.root, "delete", "c1"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (0, "") == (result.returncode, result.stdout)
    assert result.stderr.startswith("warning: /hooks/poststop/0: ")
    assert "stopped" == json.loads((runtime.folder / "state").read_text())["status"]
    runtime("create", "-b", runtime.bundle, "c1")
    assert (0, "", "") == runtime("delete", "c1")
    assert "" == runtime.log.read_text()


@pytest.mark.parametrize(
    ("changes", "pointer", "hint"),
    [
        ({"cwd": "relative"}, "/process/cwd", None),
        ({"args": ["/none"]}, "/process/args/0", None),
        ({"args": ["none"], "env": ["PATH=/x"]}, "/process/args/0", "PATH is /x"),
    ],
    ids=["config", "missing", "hint"],
)
def test_json_log_names_the_value_at_fault(
    runtime: Runtime, changes: dict[str, Any], pointer: str, hint: str | None
) -> None:
    """A program that calls pyoci gets the JSON pointer without taking the message apart."""
    runtime.config["process"] |= changes
    (runtime.bundle / "config.json").write_text(json.dumps(runtime.config))
    status, _, err = runtime("create", "--bundle", runtime.bundle, "pointer")
    entry = json.loads(runtime.log.read_text().splitlines()[-1])

    assert (1, pointer, hint, err.rstrip("\n")) == (status, entry["pointer"], entry.get("hint"), entry["msg"])


def test_json_log_has_the_hint(runtime: Runtime) -> None:
    """An error without a place in a document has no pointer."""
    status, _, err = runtime("state", "--bundel", "x")
    entry = json.loads(runtime.log.read_text().splitlines()[-1])

    assert (1, err.rstrip("\n")) == (status, entry["msg"])
    assert {"level", "msg", "time", "error", "hint"} == set(entry)
    assert err.endswith(f"(hint: {entry['hint']})\n")
