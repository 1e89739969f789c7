"""Checkpoint and restore of servers: Redis with data, a web server with connections, locked and deleted files."""

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.test_net_devices import Net
from tests.support import rootfs
from tests.support.restoring import CheckpointRuntime, assert_same, facts, python
from tests.support.runtime import PATIENCE, Bundle, kill, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def servers(bundle: Bundle) -> Iterator[Path]:
    """A Debian with servers as the root filesystem of the bundle: an overlay, as engines make it."""
    folder = bundle.folder / "layers"
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir(parents=True)
    subprocess.run(["tar", "-xf", rootfs.server(), "-C", folder / "lower"], check=True)
    layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
    root = bundle.folder / "servers"
    root.mkdir()
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
    bundle.rootfs = root
    bundle.config["root"]["path"] = str(root)
    yield root
    subprocess.run(["umount", root], check=True)


def test_redis_keeps_its_data(servers: Path, checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Keys, their digest, the run id and the counters are those of before. The server never noticed."""
    bundle.process["env"] = ["PATH=/usr/bin:/bin"]
    options = ("--save", "", "--enable-debug-command", "yes", "--daemonize", "no", "--dir", "/dev/shm")
    bundle.program("redis-server", *options)

    def ask(*words: str) -> str:
        result = checkpoints("exec", checkpoints.id, "redis-cli", *words)
        assert (0, "") == (result.status, result.err), result
        return result.out.strip()

    def information() -> dict[str, str]:
        return dict(line.split(":", 1) for line in ask("info").split() if ":" in line)

    checkpoints.launch()
    wait_for(lambda: "PONG" in checkpoints("exec", checkpoints.id, "redis-cli", "ping").out)
    assert "OK" == ask("debug", "populate", "10000", "key", "100")
    assert "OK" == ask("set", "answer", "42", "ex", "100000")
    digest, before, tasks = ask("debug", "digest"), information(), facts(checkpoints)

    for images in ("first", "second"):
        checkpoints.again(images=images)
        after = information()
        assert digest == ask("debug", "digest")
        assert "10001" == ask("dbsize")
        assert "42" == ask("get", "answer")
        assert before["run_id"] == after["run_id"]
        assert before["process_id"] == after["process_id"] == "1"
        assert int(before["total_commands_processed"]) < int(after["total_commands_processed"])
        assert int(before["uptime_in_seconds"]) <= int(after["uptime_in_seconds"])
        assert_same(tasks, facts(checkpoints))
    assert "OK" == ask("set", "later", "43")


# --- a web server

# Answers each request with how many it has answered, over all of its connections.
SERVER = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answered = 0

    def do_GET(self):
        Handler.answered += 1
        text = f"{Handler.answered} {os.getpid()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words):
        pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
with open("/dev/shm/ready", "w") as file:
    print("ready", file=file)
server.serve_forever()
"""

# Sends a request over its only connection for each line that it reads, and prints the answer or the error.
CLIENT = """
import http.client, sys

connection = http.client.HTTPConnection(sys.argv[1], 8080, timeout=60)
connection.connect()
print("connected", flush=True)
for line in sys.stdin:
    try:
        connection.sock.send(b"GET / HTTP/1.1\\r\\nHost: server\\r\\n\\r\\n")
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        print(response.read().decode(), flush=True)
    except (OSError, http.client.HTTPException) as error:
        print(type(error).__name__, flush=True)
"""


class Client:
    """A client of the web server with one connection, in the network namespace of these tests."""

    def __init__(self, host: Net, address: str) -> None:
        pipe = subprocess.PIPE
        command = ["nsenter", f"--net={host.file}", "/usr/bin/python3", "-I", "-S", "-c", CLIENT, address]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        assert "connected" == self._line()

    def ask(self) -> str:
        """The answer to one more request."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "the client got no answer"
        return self.process.stdout.readline().strip()


@pytest.fixture
def network(checkpoints: CheckpointRuntime, bundle: Bundle) -> Iterator[Net]:
    """The network namespace that the runtime runs in, and the container with it."""
    net = Net.make(checkpoints.folder / "host-net")
    net.ip("link set lo up")
    wrapper = checkpoints.folder / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec nsenter --net={net.file} {checkpoints.executable} "$@"\n')
    wrapper.chmod(0o755)
    executable, checkpoints.executable = checkpoints.executable, str(wrapper)
    spaces = bundle.linux["namespaces"]
    bundle.linux["namespaces"] = [entry for entry in spaces if entry["type"] != "network"]
    bundle.without_mount("/sys", "/sys/fs/cgroup")  # a sysfs belongs to a network namespace
    yield net
    checkpoints.clean_up()
    checkpoints.executable = executable
    net.remove()


@pytest.fixture
def client(network: Net, checkpoints: CheckpointRuntime, bundle: Bundle) -> Iterator[Client]:
    """A client that is connected to the container's web server."""
    python(bundle, SERVER)
    checkpoints.launch()
    checkpoints.wait_for_file("/dev/shm/ready")
    made = Client(network, "127.0.0.1")
    checkpoints.host.ours(made.process.pid)
    yield made
    kill(made.process)
    for pipe in (made.process.stdin, made.process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def pid_inside(checkpoints: CheckpointRuntime) -> str:
    """The web server's process, as it sees itself."""
    (pid,) = facts(checkpoints)["tasks"]
    return str(pid)


def test_an_established_connection_goes_on(
    network: Net, client: Client, checkpoints: CheckpointRuntime, bundle: Bundle
) -> None:
    """With --tcp-established, the client's connection survives; the server goes on counting and takes new ones."""
    pid = pid_inside(checkpoints)
    assert f"1 {pid}" == client.ask()
    assert f"2 {pid}" == client.ask()

    checkpoints.again("--tcp-established")

    assert f"3 {pid}" == client.ask()
    other = Client(network, "127.0.0.1")
    assert f"4 {pid}" == other.ask()
    assert f"5 {pid}" == client.ask()
    other.process.communicate()


def test_an_established_connection_is_refused_without_the_option(
    client: Client, checkpoints: CheckpointRuntime
) -> None:
    """checkpoint names the option. The container goes on, and so does the connection."""
    assert client.ask().startswith("1 ")

    message = checkpoints.checkpoint_fails()

    assert message.startswith("cannot checkpoint the container: ")
    assert "--tcp-established" in message
    assert "\n" not in message
    assert client.ask().startswith("2 ")


@pytest.mark.parametrize("dumped", ["--tcp-close", "--tcp-established"])
def test_connections_are_closed_with_tcp_close(
    network: Net, client: Client, checkpoints: CheckpointRuntime, dumped: str
) -> None:
    """The restored server finds its old connections closed. It answers new ones, and has its count."""
    assert client.ask().startswith("1 ")
    checkpoints.checkpoint(dumped)

    checkpoints.restore("--tcp-close")

    other = Client(network, "127.0.0.1")
    assert other.ask().startswith("2 ")
    other.process.communicate()
    assert [] == connections(checkpoints)
    if dumped == "--tcp-close":  # else, CRIU's filter still drops what the client sends
        assert client.ask() in ("ConnectionResetError", "RemoteDisconnected", "BrokenPipeError")


def connections(checkpoints: CheckpointRuntime) -> list[str]:
    """The established connections of the web server."""
    lines = Path(f"/proc/{checkpoints.pid()}/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[1].endswith(":1F90") and line.split()[3] == "01"]


def test_a_listening_server_needs_no_option(network: Net, checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Its socket listens again, at the same address."""
    python(bundle, SERVER)
    checkpoints.launch()
    checkpoints.wait_for_file("/dev/shm/ready")

    checkpoints.again()

    client = Client(network, "127.0.0.1")
    assert client.ask().startswith("1 ")
    client.process.communicate()


# Both ends of a connection, in one container; a thread answers what the main thread asks.
BOTH_ENDS = """
import socket, threading, time

listener = socket.create_server(("127.0.0.1", 8081))
near = socket.create_connection(("127.0.0.1", 8081))
far, _ = listener.accept()

def answer():
    while data := far.recv(100):
        far.sendall(str(int(data) + 1).encode())

threading.Thread(target=answer, daemon=True).start()
number = 0
while True:
    near.sendall(str(number).encode())
    number = int(near.recv(100))
    with open("/dev/shm/count", "a") as file:
        print(number, file=file)
    time.sleep(0.02)
"""


def test_connections_within_an_own_network_namespace(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Both ends are restored, in a new namespace whose loopback device is up."""
    python(bundle, BOTH_ENDS)
    checkpoints.launch()
    checkpoints.assert_counts()
    before = facts(checkpoints)

    checkpoints.again("--tcp-established")

    checkpoints.assert_counts()
    assert_same(before, facts(checkpoints))


# --- files

LOCKS = """
import fcntl, os, sys, time

locked = open("/tmp/locked", "w")
fcntl.flock(locked, fcntl.LOCK_EX)
record = open("/tmp/record", "w")
fcntl.lockf(record, fcntl.LOCK_EX, 10, 5)
with open("/dev/shm/ready", "w") as file:
    print("ready", file=file)
while True:
    time.sleep(100)
"""


def test_file_locks(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """With --file-locks they hold again after restore. Without it, checkpoint names the option."""
    python(bundle, LOCKS)
    checkpoints.launch()
    checkpoints.wait_for_file("/dev/shm/ready")
    is_locked = ("exec", checkpoints.id, "/usr/bin/flock", "-n", "/tmp/locked", "true")
    assert 1 == checkpoints(*is_locked).status
    locks = _locks(checkpoints)
    assert 2 == len(locks)

    assert "--file-locks" in checkpoints.checkpoint_fails()
    checkpoints.again("--file-locks")

    assert 1 == checkpoints(*is_locked).status
    assert locks == _locks(checkpoints)


def _locks(checkpoints: CheckpointRuntime) -> list[list[str]]:
    """Kind, strength, file and range of the locks of the first process."""
    lines = Path("/proc/locks").read_text().splitlines()
    fields = [line.split() for line in lines]
    return sorted([line[1], line[3], *line[6:]] for line in fields if line[4] == str(checkpoints.pid()))


DELETED = """
import os, time

os.mkdir("/dev/shm/gone")
files = []
for path in ("/tmp/deleted", "/dev/shm/gone/deleted"):
    files.append(open(path, "w+"))
    files[-1].write("kept")
    files[-1].flush()
    os.unlink(path)
linked = open("/tmp/linked", "w+")
linked.write("kept")
linked.flush()
os.link("/tmp/linked", "/tmp/other")
os.unlink("/tmp/linked")
files.append(linked)
with open("/dev/shm/ready", "w") as file:
    print("ready", file=file)
while not os.path.exists("/dev/shm/tell"):
    time.sleep(0.02)
for file in files:
    file.seek(0)
with open("/dev/shm/told", "w") as file:
    print(*(each.read() for each in files), os.fstat(linked.fileno()).st_nlink, file=file)
time.sleep(1000)
"""


def test_deleted_files(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """A deleted file that is open is dumped with its content; one with other names needs --link-remap."""
    python(bundle, DELETED)
    checkpoints.launch()
    checkpoints.wait_for_file("/dev/shm/ready")

    assert "--link-remap" in checkpoints.checkpoint_fails()
    checkpoints.checkpoint("--link-remap")
    checkpoints.restore()

    checkpoints.inside("touch /dev/shm/tell")
    assert "kept kept kept 1\n" == checkpoints.wait_for_file("/dev/shm/told")
    assert ["other"] == sorted(os.listdir(bundle.rootfs / "tmp"))
