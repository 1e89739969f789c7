"""Terminals: through a console socket, as engines use it, and in the foreground."""

import array
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import AT_ONCE, PATIENCE, Bundle, Result, Runtime, mount_points, wait_for

pytestmark = pytest.mark.root


class ConsoleSocket:
    """A listening socket, and the terminal that came through it."""

    def __init__(self, path: Path | str, backlog: int = 5) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.bind(str(path))
        self.socket.listen(backlog)
        self.master = -1

    def receive(self) -> bytes:
        """The message that came with the descriptor."""
        connection, _ = self.socket.accept()
        with connection:
            data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(16))
        ((_, kind, payload),) = ancillary
        assert socket.SCM_RIGHTS == kind
        descriptors = array.array("i", payload)
        assert 1 == len(descriptors)
        self.master = descriptors[0]
        return data

    def until(self, text: str) -> str:
        """Read until `text` was written."""
        return read_until(self.master, text)

    def read(self) -> str:
        """All that is written to the terminal until its last user closes it."""
        return read_to_end(self.master)

    def close(self) -> None:
        self.socket.close()
        if self.master >= 0:
            os.close(self.master)


def read_to_end(fd: int) -> str:
    parts = []
    while select.select([fd], [], [], PATIENCE)[0]:
        try:
            part = os.read(fd, 4096)
        except OSError:  # EIO: no process has it open any more
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode().replace("\r\n", "\n")


def read_until(fd: int, text: str) -> str:
    """Return the output before `text`."""
    seen = b""
    while text.encode() not in seen:
        assert select.select([fd], [], [], PATIENCE)[0], seen
        seen += os.read(fd, 4096)
    return seen.decode().replace("\r\n", "\n").partition(text)[0]


@pytest.fixture
def console(runtime: Runtime, bundle: Bundle) -> Iterator[ConsoleSocket]:
    """A console socket for a container with a terminal."""
    bundle.process["terminal"] = True
    made = ConsoleSocket(runtime.folder / "console")
    yield made
    made.close()


def create(runtime: Runtime, console: ConsoleSocket, *options: Any) -> Result:
    return runtime.create("--console-socket", console.path, *options)


def test_terminal(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """Standard input, output and error, and /dev/console, are one terminal, the controlling one."""
    bundle.process["consoleSize"] = {"height": 40, "width": 91}
    bundle.shell(
        "tty; stty size; test -t 0 -a -t 1 -a -t 2 && echo three; echo to tty > /dev/tty;"
        "echo to console > /dev/console;"
        "stat -c '%u %t:%T' /dev/console; cat /proc/self/mountinfo; ls -1 /dev/pts;"
        "echo 'your turn'; read line; echo got $line"
    )
    create(runtime, console)
    assert b"/dev/pts/0" == console.receive()
    runtime.start()
    text = console.until("your turn")
    os.write(console.master, b"hello\n")
    assert "/dev/pts/0\n40 91\nthree\nto tty\nto console\n0 88:0\n" in text
    assert console.read().endswith("got hello\n")
    points = mount_points("\n".join(line for line in text.splitlines() if " - " in line))
    assert ("devpts", "/0") == (points["/dev/console"].type, points["/dev/console"].root)
    assert "0\nptmx\n" in text


def test_owner(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """The terminal belongs to the container's user."""
    bundle.process["user"] |= {"uid": 1000, "gid": 1000}
    bundle.shell("stat -c %u /dev/pts/0 /dev/console; tty > /dev/tty")
    create(runtime, console)
    console.receive()
    runtime.start()
    assert "1000\n1000\n/dev/pts/0\n" == console.read()


def test_in_a_user_namespace(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """The same where container root is unmapped on the host."""
    bundle.in_user_namespace().shell("stat -c %u /dev/console; tty")
    create(runtime, console)
    console.receive()
    runtime.start()
    assert "0\n/dev/pts/0\n" == console.read()


def test_hangup(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """When the master is closed the program's session gets SIGHUP."""
    bundle.shell("trap 'touch /hup; exit' HUP; touch /ready; while true; do sleep 0.05; done")
    create(runtime, console)
    console.receive()
    runtime.start()
    wait_for((bundle.rootfs / "ready").exists)
    os.close(console.master)
    console.master = -1
    wait_for((bundle.rootfs / "hup").exists)


def test_size_without_terminal(runtime: Runtime, bundle: Bundle) -> None:
    """consoleSize is ignored."""
    bundle.process["consoleSize"] = {"height": 40, "width": 91}
    assert "not a tty\n" == runtime.shell("tty; true")


def test_listener_never_accepts(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """A listener that never accepts delays nothing: the message waits in its queue."""
    before = time.monotonic()
    create(runtime, console)
    assert time.monotonic() - before < AT_ONCE
    assert "created" == runtime.state()["status"]


def test_queue_is_full(runtime: Runtime, bundle: Bundle) -> None:
    """A listener whose queue is full is an error, at once."""
    bundle.process["terminal"] = True
    console = ConsoleSocket(runtime.folder / "console", backlog=0)
    waiting = []
    try:
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            client.connect(str(console.path))
    except BlockingIOError:
        before = time.monotonic()
        message = runtime.create_fails("--console-socket", console.path)
        assert time.monotonic() - before < AT_ONCE
        assert "cannot connect to console socket" in message
    finally:
        console.close()
        for client in waiting:
            client.close()


def test_listener_is_gone(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """A socket without a listener."""
    console.socket.close()
    message = runtime.create_fails("--console-socket", console.path)
    assert f"cannot connect to console socket {console.path}: connection refused" in message


def test_no_socket(runtime: Runtime, bundle: Bundle) -> None:
    """A regular file, a directory, nothing."""
    bundle.process["terminal"] = True
    file = runtime.folder / "file"
    file.touch()
    for path, why in ((file, "connection refused"), (runtime.folder, "connection refused"),
                      (runtime.folder / "nosuch", "no such file or directory")):  # fmt: skip
        message = runtime.create_fails("--console-socket", path)
        assert message.endswith(f"cannot connect to console socket {path}: {why}")


def test_long_path(runtime: Runtime, bundle: Bundle) -> None:
    """Longer than the 108 bytes of a socket's address."""
    bundle.process["terminal"] = True
    folder = runtime.folder / ("x" * 150)
    folder.mkdir()
    here = os.getcwd()
    os.chdir(folder)
    try:
        console = ConsoleSocket("console")
    finally:
        os.chdir(here)
    bundle.program("tty")
    console.path = folder / "console"
    create(runtime, console)
    assert b"/dev/pts/0" == console.receive()
    runtime.start()
    assert "/dev/pts/0\n" == console.read()
    console.close()


def test_relative_path(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """From the current directory."""
    runtime.create("--console-socket", "console", cwd=runtime.folder)
    assert b"/dev/pts/0" == console.receive()


def test_terminal_and_socket_belong_together(runtime: Runtime, bundle: Bundle) -> None:
    """One without the other is an error that names process.terminal."""
    bundle.process["terminal"] = True
    assert runtime.create_fails().startswith("/process/terminal: cannot allocate a terminal")
    assert runtime.create_fails("--detach", verb="run").startswith("/process/terminal: cannot allocate a terminal")
    bundle.process["terminal"] = False
    message = runtime.create_fails("--console-socket", runtime.folder / "console")
    assert message.startswith("/process/terminal: cannot use --console-socket")


def test_without_devpts(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """A terminal needs the container's own /dev/pts."""
    bundle.without_mount("/dev/pts")
    message = runtime.create_fails("--console-socket", console.path)
    assert message.startswith("/process/terminal: cannot open a terminal: ")


def test_pidfd_socket(runtime: Runtime, bundle: Bundle) -> None:
    """--pidfd-socket is sent a pidfd of the container's process."""
    listener = ConsoleSocket(runtime.folder / "pidfd")
    runtime.create("--pidfd-socket", listener.path)
    assert b"pidfd" == listener.receive()
    info = Path(f"/proc/self/fdinfo/{listener.master}").read_text()
    assert f"Pid:\t{runtime.pid()}\n" in info
    listener.close()


# --- in the foreground


class Terminal:
    """`run` in a terminal of its own, at which this test sits."""

    def __init__(self, runtime: Runtime, rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        self.size(rows, columns)
        self.before = termios.tcgetattr(slave)
        runtime.bundle.write()
        command = runtime.command("run", "--bundle", runtime.bundle.folder, runtime.id)
        command = ["setsid", "--ctty", "--wait", *command]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
        self.slave = slave

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str) -> str:
        """Read until `text` was written; what came before it."""
        return read_until(self.master, text)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait(self) -> int:
        """The exit status; the terminal's attributes are what they were."""
        status = self.process.wait(PATIENCE)
        assert self.before == termios.tcgetattr(self.slave)
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(runtime: Runtime, bundle: Bundle) -> Iterator[Callable[..., Any]]:
    """`run` in a terminal, once the test has said what."""
    bundle.process["terminal"] = True
    made = []

    def start(script, **options: Any):
        bundle.shell(script)
        made.append(Terminal(runtime, **options))
        return made[0]

    yield start
    for one in made:
        one.close()


def test_foreground(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """The program reads the typed input, its output is shown, its status returned, and the terminal restored."""
    sitting = terminal("stty size; tty; echo 'name?'; read name; echo \"<$name>\"; exit 7", rows=33, columns=99)
    assert "33 99\n/dev/pts/0\n" == sitting.until("name?")
    sitting.type("world\n")
    sitting.until("<world>")
    assert 7 == sitting.wait()
    runtime.assert_gone()


def test_interrupt_key(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """^C goes to the program through its own terminal, not to the runtime."""
    sitting = terminal("trap 'echo caught; exit 9' INT; echo ready; while true; do sleep 0.05; done")
    sitting.until("ready")
    sitting.type("\x03")
    sitting.until("caught")
    assert 9 == sitting.wait()


def test_window_changes(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """A new size of the terminal is the container's, too."""
    sitting = terminal("trap 'stty size; exit 0' WINCH; echo ready; while true; do sleep 0.05; done")
    sitting.until("ready")
    sitting.size(50, 60)
    sitting.until("50 60")
    assert 0 == sitting.wait()


def test_much_output(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """All of it arrives before the exit."""
    sitting = terminal("seq 1 20000; echo end")
    assert 20000 == sitting.until("end").count("\n")
    assert 0 == sitting.wait()


def test_much_input_that_is_echoed(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """Input goes on while output does: neither waits for the other."""
    lines = 20000
    sitting = terminal("stty -echo; echo ready; cat; echo end")
    sitting.until("ready")
    left = b"".join(b"%09d\n" % number for number in range(lines)) + b"\x04"
    seen = b""
    os.set_blocking(sitting.master, False)
    while b"end" not in seen:
        readable, writable, _ = select.select([sitting.master], [sitting.master] if left else [], [], PATIENCE)
        assert readable or writable, f"{len(left)} bytes could not be typed"
        if readable:
            seen += os.read(sitting.master, 65536)
        if writable:
            left = left[os.write(sitting.master, left[:4096]) :]
    assert lines == sum(line.isdigit() for line in seen.split())
    assert 0 == sitting.wait()


def test_signal_while_output_is_not_read(runtime: Runtime, bundle: Bundle) -> None:
    """A signal gets to a program whose output is not taken, and what it wrote arrives once it is."""
    bundle.process["terminal"] = True
    bundle.shell("trap 'exit 9' TERM; while true; do echo 0123456789; done & wait")
    bundle.write()
    command = runtime.command("run", "--bundle", bundle.folder, runtime.id)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        select.select([process.stdout], [], [], PATIENCE)
        time.sleep(0.5)  # until the pipe is full, and the terminal's buffer
        process.terminate()
        wait_for(lambda: runtime.status() in ("", "stopped"))
        *lines, last = process.stdout.read().decode().split("\n")
        assert {"0123456789"} == set(lines)
        assert "0123456789".startswith(last)
        assert 9 == process.wait(PATIENCE)
    runtime.assert_gone()


def test_second_signal_without_a_reader(runtime: Runtime, bundle: Bundle) -> None:
    """The program has ended, and its last output has no reader: a signal ends the runtime."""
    bundle.process["terminal"] = True
    bundle.shell("i=0; while [ $i -lt 1000 ]; do echo 0123456789; i=$((i+1)); done; exit 9")
    bundle.write()
    command = runtime.command("run", "--bundle", bundle.folder, runtime.id)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, pipesize=4096) as process:
        wait_for(lambda: runtime.status() == "stopped")
        process.terminate()
        assert 9 == process.wait(AT_ONCE)
    runtime.assert_gone()


def test_reader_goes_away(runtime: Runtime, bundle: Bundle) -> None:
    """To the program its terminal hangs up."""
    bundle.process["terminal"] = True
    bundle.shell("trap '' HUP; while echo 0123456789; do true; done; exit 7")
    bundle.write()
    command = runtime.command("run", "--bundle", bundle.folder, runtime.id)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert 7 == process.wait(PATIENCE)


def test_terminal_that_is_closed_and_opened_again(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """As init systems do with /dev/console."""
    sitting = terminal("exec </dev/null >/dev/null 2>&1; sleep 0.3; echo back >/dev/console; sleep 0.3; exit 7")
    sitting.until("back")
    assert 7 == sitting.wait()


def test_foreground_with_a_console_socket(runtime: Runtime, bundle: Bundle, console: ConsoleSocket) -> None:
    """The terminal is the socket's: `run` waits, and keeps its hands off."""
    bundle.shell('echo ready; read line; echo "<$line>"; exit 7')
    bundle.write()
    command = runtime.command("run", "--bundle", bundle.folder, "--console-socket", console.path, runtime.id)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        console.receive()
        process.stdin.write(b"wrong\n")
        process.stdin.flush()
        console.until("ready")
        time.sleep(0.2)
        os.write(console.master, b"right\n")
        assert "<right>" in console.read()
        assert 7 == process.wait(PATIENCE)
        assert b"" == process.stdout.read()


def test_terminal_is_restored_when_killed(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """Another process kills the program."""
    sitting = terminal("echo ready; sleep 100")
    sitting.until("ready")
    assert 0 == runtime("kill", runtime.id, "KILL").status
    assert 128 + signal.SIGKILL == sitting.wait()


def test_start_fails_in_a_terminal(runtime: Runtime, bundle: Bundle, terminal: Callable[..., Any]) -> None:
    """The error is readable: the terminal is not left raw."""
    bundle.hook("startContainer", "exit 3")
    sitting = terminal("true")
    sitting.until("exited with status 3")
    assert 1 == sitting.wait()


def test_foreground_without_a_terminal_of_ones_own(runtime: Runtime, bundle: Bundle) -> None:
    """The caller has pipes: the container still has its terminal; scripts find no carriage returns in its
    output.
    """
    bundle.process["terminal"] = True
    bundle.shell("tty; echo x")
    result = runtime.run()
    assert (0, "/dev/pts/0\nx\n") == (result.status, result.out)


def test_exec_foreground_without_a_terminal_of_ones_own(runtime: Runtime, bundle: Bundle) -> None:
    """The same of one more process."""
    bundle.program("sleep", 100)
    runtime.create()
    runtime.start()
    result = runtime("exec", "--tty", runtime.id, "sh", "-c", "tty; echo x")
    assert (0, "/dev/pts/0\nx\n") == (result.status, result.out)


def test_lines_on_a_terminal(runtime: Runtime, terminal: Callable[..., Any]) -> None:
    """A terminal gets its carriage returns."""
    sitting = terminal("echo one; echo two; stty -a | grep -o ' onlcr'")
    seen = b""
    while b" onlcr\r\n" not in seen:
        seen += os.read(sitting.master, 4096)
    assert b"one\r\ntwo\r\n" in seen
    assert 0 == sitting.wait()
