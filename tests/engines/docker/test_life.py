"""The life of a container, from `docker run` to `docker rm`."""

import json
import re
from pathlib import Path

import pytest

from tests.support.daemon import until
from tests.support.docker import Docker, late


@pytest.mark.cgroup
def test_run(docker: Docker) -> None:
    """run: output on both streams, the exit status."""
    done = docker.run(*late("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"))

    assert (3, "out\n", "err\n") == (done.returncode, done.stdout, done.stderr)


def test_run_input(docker: Docker) -> None:
    """run -i: input until its end."""
    assert "HELLO" == docker("run", "--rm", "-i", "busybox", "tr", "a-z", "A-Z", input="hello")


def test_run_terminal(docker: Docker) -> None:
    """run -it: a terminal with its size, which can be resized; Ctrl-C; the exit status."""
    terminal = docker.terminal("run", "--rm", "-it", "busybox", rows=33, columns=99)
    try:
        terminal.expect("/ # ")
        terminal.type("stty size; tty; ls -l /dev/console\r")
        assert re.search(r"33 99\r\n/dev/pts/0\r\ncrw--w----\s+1 root\s+(5|tty)\s+136,\s+0 ", terminal.expect("/ # "))
        terminal.resize(44, 111)
        terminal.type("until [ \"$(stty size)\" = '44 111' ]; do sleep .1; done; stty size\r")
        terminal.expect("\n44 111\r\n")
        terminal.type("sh -c \"echo beg''un; exec sleep 99\"\r")
        terminal.expect("begun\r\n")
        terminal.type("\x03")
        terminal.type("echo status $?; exit 5\r")
        terminal.expect("status 130\r\n")
        assert 5 == terminal.wait()
    finally:
        terminal.end()


def test_logs(docker: Docker) -> None:
    """logs, with --tail and --follow."""
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep .1; done")

    assert "1\n2\n3" == docker("logs", "--follow", "box")
    assert "3" == docker("logs", "--tail", "1", "box")


def test_wait(docker: Docker) -> None:
    """wait: the exit status of a container that runs."""
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep .3; exit 9")

    assert "9" == docker("wait", "box")


@pytest.mark.cgroup
def test_stop(docker: Docker) -> None:
    """stop: SIGTERM, which the program may handle."""
    docker.run_with_trap("box", "exit 7", "TERM")

    docker("stop", "box")

    assert 7 == docker.inspect("box")["State"]["ExitCode"]


def test_stop_timeout(docker: Docker) -> None:
    """stop --time: SIGKILL for a program that does not mind SIGTERM."""
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep .1; done")
    docker.await_logs("box", "ready")

    docker("stop", "--time", "1", "box")

    assert 137 == docker.inspect("box")["State"]["ExitCode"]


def test_stop_signal(docker: Docker) -> None:
    """run --stop-signal."""
    docker.run_with_trap("box", "exit 8", "USR1", "--stop-signal", "USR1")

    docker("stop", "box")

    assert 8 == docker.inspect("box")["State"]["ExitCode"]


@pytest.mark.parametrize(("signal", "status"), [("HUP", 129), ("9", 137), ("SIGRTMIN+3", 165)])
def test_kill(docker: Docker, signal: str, status: int) -> None:
    """kill --signal."""
    docker("run", "-d", "--init", "--name", "box", "busybox", "sleep", "99")
    # the init is there, and listens
    until(lambda: re.search(r"^\d+ +sleep 99$", docker("top", "box", "-o", "pid,args"), re.M), "the program runs")

    docker("kill", "--signal", signal, "box")

    assert str(status) == docker("wait", "box")


def test_kill_stopped(docker: Docker) -> None:
    """kill, stop and rm of a container that has ended."""
    docker("run", "--name", "box", "busybox", "true")

    assert "is not running" in docker("kill", "box", status=1)
    docker("stop", "box")
    docker("rm", "box")


def test_restart_policy(docker: Docker) -> None:
    """run --restart on-failure:2."""
    docker(
        "run", "-d", "--name", "box", "--restart", "on-failure:2", "busybox", "sh", "-c", "sleep .2; echo life; exit 4"
    )

    until(lambda: docker.state("box") == "exited", "it has given up")

    assert (2, 4) == (docker.inspect("box")["RestartCount"], docker.inspect("box")["State"]["ExitCode"])
    assert ["life"] * 3 == docker("logs", "box").split()


@pytest.mark.cgroup
def test_restart(docker: Docker) -> None:
    """restart: another process in the same root filesystem."""
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo x >>/tmp/lives; exec sleep 99")
    first = docker.inspect("box")["State"]["Pid"]
    until(lambda: docker.run("exec", "box", "cat", "/tmp/lives").stdout == "x\n", "its first life has begun")

    docker("restart", "--time", "0", "box")

    assert first != docker.inspect("box")["State"]["Pid"]
    until(lambda: docker("exec", "box", "cat", "/tmp/lives") == "x\nx", "its second life has begun")


def test_create_start(docker: Docker) -> None:
    """create, start, and start once more."""
    docker("create", "--name", "box", "busybox", "sh", "-c", "sleep .2; echo life")

    assert "life" == docker("start", "--attach", "box")
    assert "life" == docker("start", "--attach", "box")


@pytest.mark.cgroup
def test_pause(docker: Docker) -> None:
    """pause and unpause: nothing runs in between."""
    script = "while :; do echo $((i += 1)) >/tmp/next; mv /tmp/next /tmp/count; sleep .01; done"
    docker("run", "-d", "--name", "box", "-v", "shared:/tmp", "busybox", "sh", "-c", script)
    until(lambda: docker.run("exec", "box", "cat", "/tmp/count").stdout, "it counts")

    docker("pause", "box")
    assert "paused" == docker.state("box")
    count = docker(
        "run", "--rm", "-v", "shared:/tmp", "busybox", "sh", "-c", "cat /tmp/count; sleep .2; cat /tmp/count"
    ).split()
    assert count[0] == count[1]
    assert "is paused" in docker("exec", "box", "true", status=1)

    docker("unpause", "box")
    until(lambda: docker("exec", "box", "cat", "/tmp/count") not in ("", count[0]), "it goes on")


@pytest.mark.cgroup
def test_stop_paused(docker: Docker) -> None:
    """stop of a paused container."""
    docker("run", "-d", "--name", "box", "busybox", "sleep", "99")
    docker("pause", "box")

    docker("stop", "--time", "1", "box")

    assert "exited" == docker.state("box")


@pytest.mark.cgroup
def test_top(docker: Docker) -> None:
    """top: the processes, as the host numbers them."""
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep 99 & exec sleep 98")

    until(lambda: "sleep 99" in docker("top", "box", "-o", "pid,args"), "both run")

    lines = docker("top", "box", "-o", "pid,args").splitlines()[1:]
    assert ["sleep 98", "sleep 99"] == sorted(line.split(maxsplit=1)[1] for line in lines)
    assert str(docker.inspect("box")["State"]["Pid"]) in [line.split()[0] for line in lines]


@pytest.mark.needs("cpu", "memory", "pids")
def test_stats(docker: Docker) -> None:
    """stats: processor time, memory, processes."""
    docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep 99 & while :; do :; done")

    def stats() -> dict[str, str]:
        return json.loads(docker("stats", "--no-stream", "--format", "json", "box"))

    until(lambda: float(stats()["CPUPerc"].rstrip("%")) > 10, "it uses the processor")
    assert "2" == stats()["PIDs"]
    assert not stats()["MemUsage"].startswith("0B")


def test_stats_network(docker: Docker) -> None:
    """stats: the network."""
    docker("run", "-d", "--name", "box", "busybox", "sleep", "99")

    def sent() -> str:
        return json.loads(docker("stats", "--no-stream", "--format", "json", "box"))["NetIO"]

    until(lambda: not sent().endswith(" 0B"), "its interface has said something")


def test_attach(docker: Docker) -> None:
    """attach: input, output, the exit status."""
    docker("run", "-dit", "--name", "box", "busybox", "sh", "-c", "read line; echo got $line; exit 6")
    terminal = docker.terminal("attach", "box")
    try:
        terminal.type("this\r")
        terminal.expect("got this\r\n")
        assert 6 == terminal.wait()
    finally:
        terminal.end()


def test_detach(docker: Docker) -> None:
    """run -it, and detach by Ctrl-P Ctrl-Q: it goes on."""
    terminal = docker.terminal("run", "-it", "--name", "box", "busybox")
    try:
        terminal.expect("/ # ")
        terminal.type("\x10\x11")
        terminal.wait()
        assert "running" == docker.state("box")
    finally:
        terminal.end()


def test_copy(docker: Docker, folder: Path) -> None:
    """cp: into a container that runs, and out of one that does not."""
    docker("run", "-d", "--name", "box", "busybox", "sleep", "99")
    (folder / "in").write_text("content\n")

    docker("cp", folder / "in", "box:/tmp/there")
    assert "content" == docker("exec", "box", "cat", "/tmp/there")
    docker("kill", "box")
    docker("cp", "box:/tmp/there", folder / "out")

    assert "content\n" == (folder / "out").read_text()


def test_commit_and_diff(docker: Docker) -> None:
    """diff and commit."""
    docker("run", "--name", "box", "busybox", "sh", "-c", "echo new >/root/new")

    assert "A /root/new" in docker("diff", "box").splitlines()
    docker("commit", "box", "changed")
    try:
        assert "new" == docker("run", "--rm", "changed", "cat", "/root/new")
    finally:
        docker("rmi", "changed")


@pytest.mark.cgroup
def test_health(docker: Docker) -> None:
    """run --health-cmd: starting, healthy, unhealthy."""
    options = ["--health-cmd", "test -e /tmp/well", "--health-interval", "200ms", "--health-retries", "2"]
    docker("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", "touch /tmp/well; exec sleep 99")

    def health() -> str:
        return docker.inspect("box")["State"]["Health"]["Status"]

    until(lambda: health() == "healthy", "it is healthy")
    docker("exec", "box", "rm", "/tmp/well")
    until(lambda: health() == "unhealthy", "it is unhealthy")
