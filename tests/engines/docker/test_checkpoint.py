"""docker checkpoint, and docker start --checkpoint.

Docker 28 restores only containers of the host's network. It looks for the network namespace of any other before
containerd has restored a process.
"""

from pathlib import Path

import pytest

from tests.support.counting import COUNT, LISTEN, await_count, counted, repeat
from tests.support.daemon import until
from tests.support.docker import Docker, restore


@pytest.fixture
def counter(docker: Docker) -> str:
    """The name of a container that counts."""
    docker("run", "-d", "--name", "counter", "--network", "host", "busybox", *COUNT)
    await_count(docker, "counter", 5)
    return "counter"


@pytest.mark.cgroup
def test_checkpoint(docker: Docker, counter: str) -> None:
    """checkpoint create: ends the container; start --checkpoint: it goes on where it was."""
    docker("checkpoint", "create", counter, "first")
    docker.await_state(counter, "exited")
    before = counted(docker, counter)

    restore(docker, counter, "first")

    await_count(docker, counter, before + 5)
    assert "running" == docker.state(counter)
    assert "1 " in docker("exec", counter, "ps")
    docker("kill", counter)
    assert 137 == docker.inspect(counter)["State"]["ExitCode"]


def test_leave_running(docker: Docker, counter: str) -> None:
    """checkpoint create --leave-running: the container counts on, the same process."""
    process = docker.inspect(counter)["State"]["Pid"]

    docker("checkpoint", "create", "--leave-running", counter, "first")

    await_count(docker, counter, counted(docker, counter) + 5)
    assert process == docker.inspect(counter)["State"]["Pid"]


def test_listing(docker: Docker, counter: str) -> None:
    """checkpoint ls and rm."""
    for name in "first", "second":
        docker("checkpoint", "create", "--leave-running", counter, name)
    assert ["first", "second"] == sorted(docker("checkpoint", "ls", counter).split()[2:])

    docker("checkpoint", "rm", counter, "first")

    assert ["second"] == docker("checkpoint", "ls", counter).split()[2:]


def test_directory(docker: Docker, counter: str, folder: Path) -> None:
    """checkpoint create --checkpoint-dir: the images are there."""
    docker("checkpoint", "create", "--leave-running", "--checkpoint-dir", folder, counter, "first")

    assert (folder / "first/inventory.img").exists()
    assert "first" in docker("checkpoint", "ls", "--checkpoint-dir", folder, counter)


def test_twice(docker: Docker, counter: str) -> None:
    """A restored container: a checkpoint of it, and its restore."""
    for name in "first", "second":
        docker("checkpoint", "create", counter, name)
        docker.await_state(counter, "exited")
        restore(docker, counter, name)
        await_count(docker, counter, counted(docker, counter) + 5)


def test_terminal(docker: Docker) -> None:
    """A container with a terminal: input and output after its restore."""
    docker("run", "-dit", "--name", "box", "--network", "host", "busybox", "sh")
    docker("checkpoint", "create", "box", "first")
    docker.await_state("box", "exited")

    restore(docker, "box", "first")

    terminal = docker.terminal("attach", "box")
    try:
        terminal.type("tty; echo he''re\r")
        assert "/dev/pts/0" in terminal.expect("\nhere\r\n")
        terminal.type("exit 3\r")
        docker.await_state("box", "exited")
    finally:
        terminal.end()
    assert 3 == docker.inspect("box")["State"]["ExitCode"]


def test_files(docker: Docker, folder: Path) -> None:
    """A volume, a bind mount and a tmpfs: with their files after the restore."""
    files = "echo $$ >/volume/a; echo bound >/bound/b; echo kept >/tmpfs/c; exec 3>>/volume/log; "
    script = files + repeat("echo x >&3")
    options = ["--volume", "data:/volume", "--volume", f"{folder}:/bound", "--tmpfs", "/tmpfs"]
    docker("run", "-d", "--name", "box", "--network", "host", *options, "busybox", "sh", "-c", script)
    until(lambda: docker.run("exec", "box", "test", "-s", "/volume/log").returncode == 0, "it writes")
    docker("checkpoint", "create", "box", "first")
    docker.await_state("box", "exited")

    restore(docker, "box", "first")

    assert "1\nbound\nkept" == docker("exec", "box", "cat", "/volume/a", "/bound/b", "/tmpfs/c")
    lines = int(docker("exec", "box", "wc", "-l", "/volume/log").split()[0])
    until(lambda: int(docker("exec", "box", "wc", "-l", "/volume/log").split()[0]) > lines, "it writes on")


def test_failure(docker: Docker) -> None:
    """checkpoint create: an error for an open connection; the container runs on."""
    script = f"{LISTEN}; nc 127.0.0.1 7001 </dev/zero >/dev/null & " + COUNT[2]
    docker("run", "-d", "--name", "box", "--network", "host", "busybox", "sh", "-c", script)
    await_count(docker, "box", 10)

    said = docker("checkpoint", "create", "box", "first", status=1)

    assert "Cannot checkpoint container box: " in said
    assert "checkpoint" in said
    await_count(docker, "box", counted(docker, "box") + 5)
    assert "running" == docker.state("box")


def test_missing(docker: Docker, counter: str) -> None:
    """start --checkpoint: an error for a name that does not exist."""
    docker("stop", "--time", "0", counter)

    assert "checkpoint none does not exist" in docker("start", "--checkpoint", "none", counter, status=1)
