"""docker exec: processes that join a container."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.docker import Docker, capabilities


@pytest.fixture
def box(docker: Docker):
    """The name of a container that runs."""
    docker("run", "-d", "--name", "box", "--init", "--hostname", "inside", "busybox", "sleep", "99")
    return "box"


def test_exec(docker: Docker, box) -> None:
    """exec: output on both streams, the exit status."""
    done = docker.run("exec", box, "sh", "-c", "hostname; echo err >&2; exit 3")

    assert (3, "inside\n", "err\n") == (done.returncode, done.stdout, done.stderr)


def test_exec_input(docker: Docker, box) -> None:
    """exec -i: input until its end."""
    assert "HELLO" == docker("exec", "-i", box, "tr", "a-z", "A-Z", input="hello")


def test_exec_much(docker: Docker, box) -> None:
    """exec -i: a megabyte in, and out again."""
    text = "x" * (1 << 20)

    assert text == docker("exec", "-i", box, "cat", input=text)


def test_exec_terminal(docker: Docker, box) -> None:
    """exec -it: a terminal with its size, which can be resized; the exit status."""
    terminal = docker.terminal("exec", "-it", box, "sh", rows=30, columns=90)
    try:
        terminal.expect("/ # ")
        terminal.type("stty size; tty\r")
        assert re.search(r"30 90\r\n/dev/pts/\d+\r\n", terminal.expect("/ # "))
        terminal.resize(40, 100)
        terminal.type("until [ \"$(stty size)\" = '40 100' ]; do sleep .1; done; stty size; exit 4\r")
        terminal.expect("\n40 100\r\n")
        assert 4 == terminal.wait()
    finally:
        terminal.end()


def test_exec_environment(docker: Docker, box) -> None:
    """exec --env, --workdir."""
    assert "/etc\nb c" == docker("exec", "--env", "A=b c", "--workdir", "/etc", box, "sh", "-c", "pwd; echo $A")


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("joan", "uid=1000(joan) gid=1001(joan) groups=100(users),1001(joan),2000(wheel)"),
        ("1000", "uid=1000(joan) gid=1001(joan) groups=100(users),1001(joan),2000(wheel)"),
        ("joan:users", "uid=1000(joan) gid=100(users) groups=100(users)"),
        ("4000:5000", "uid=4000 gid=5000 groups=5000"),
    ],
)
def test_exec_user(docker: Docker, box, user: str, identity: str) -> None:
    """exec --user."""
    kinds = docker("exec", "--user", user, box, "id").split()
    expected = identity.split()

    assert expected[:2] == kinds[:2]
    assert set(expected[2][7:].split(",")) == set(kinds[2][7:].split(",")) if len(kinds) > 2 else len(expected) == 3


def test_exec_privileged(docker: Docker, box) -> None:
    """exec --privileged: all capabilities."""
    assert capabilities(docker("exec", "--privileged", box, "cat", "/proc/self/status")) == capabilities(
        Path("/proc/self/status").read_text()
    )
    assert capabilities(docker("exec", box, "cat", "/proc/self/status")) == capabilities(
        docker("exec", box, "cat", "/proc/1/status")
    )


def test_exec_detached(docker: Docker, box) -> None:
    """exec -d: it goes on."""
    docker("exec", "-d", box, "sh", "-c", "sleep .2; echo done >/tmp/done")

    assert "done" == docker("exec", box, "sh", "-c", "until cat /tmp/done 2>/dev/null; do sleep .1; done")


def test_exec_is_confined(docker: Docker, box) -> None:
    """exec: the container's namespaces, cgroup, capabilities, seccomp filter."""
    script = "for each in {0}/ns/*; do readlink $each; done; cat {0}/cgroup; grep -E 'Cap|Seccomp|NoNew' {0}/status"
    first, own = (docker("exec", box, "sh", "-c", script.format(f"/proc/{who}")) for who in ("1", "self"))

    assert first == own


def test_exec_status_of_a_signal(docker: Docker, box) -> None:
    """exec of a program that a signal ends."""
    docker("exec", box, "sh", "-c", "kill -KILL $$", status=137)


def test_exec_stopped(docker: Docker, box) -> None:
    """exec into a container that has ended, and into none."""
    docker("kill", box)

    assert "is not running" in docker("exec", box, "true", status=1)
    assert "No such container" in docker("exec", "none", "true", status=1)


def test_exec_many(docker: Docker, box) -> None:
    """exec: twenty at once."""
    clients = [
        subprocess.Popen([*docker.client, "exec", box, "echo", str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(20)
    ]

    assert [(f"{number}\n", None) for number in range(20)] == [client.communicate(timeout=60) for client in clients]
    assert {0} == {client.returncode for client in clients}
