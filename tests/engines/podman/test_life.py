"""The life of a container, from `podman run` to `podman rm`, root's and a user's."""

import re
from pathlib import Path

import pytest

from tests.support.daemon import until
from tests.support.podman import Podman


@pytest.mark.cgroup
def test_run(either: Podman) -> None:
    """run: output on both streams, the exit status."""
    done = either.run("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")

    assert (3, "out\n", "err\n") == (done.returncode, done.stdout, done.stderr)


def test_run_input(either: Podman) -> None:
    """run -i: input until its end."""
    assert "HELLO" == either("run", "--rm", "-i", "busybox", "tr", "a-z", "A-Z", input="hello")


def test_run_terminal(either: Podman) -> None:
    """run -it: a terminal with its size, which can be resized; Ctrl-C; the exit status."""
    terminal = either.terminal("run", "--rm", "-it", "busybox", rows=33, columns=99)
    try:
        terminal.expect("/ # ")
        terminal.type("until [ \"$(stty size)\" = '33 99' ]; do sleep .1; done; tty; ls -l /dev/console; echo en''d\r")
        said = terminal.expect("\nend\r\n")
        assert re.search(r"/dev/pts/0\r\ncrw--w----\s+1 root\s+(5|tty)\s+136,\s+0 ", said)
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


def test_logs(podman: Podman) -> None:
    """logs, with --tail and --follow."""
    podman("run", "-d", "--name", "box", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep .1; done")

    assert "1\n2\n3" == podman("logs", "--follow", "box")
    assert "3" == podman("logs", "--tail", "1", "box")


def test_wait(podman: Podman) -> None:
    """wait: the exit status of a container that runs."""
    podman("run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep .3; exit 9")

    assert "9" == podman("wait", "box")


@pytest.mark.cgroup
def test_stop(either: Podman) -> None:
    """stop: SIGTERM, which the program may handle."""
    either.run_with_trap("box", "exit 7", "TERM")

    either("stop", "box")

    assert 7 == either.inspect("box")["State"]["ExitCode"]


def test_stop_timeout(either: Podman) -> None:
    """stop --time: SIGKILL for a program that does not mind SIGTERM."""
    either.run_with_trap("box", "", "TERM")

    either("stop", "--time", "1", "box")

    assert 137 == either.inspect("box")["State"]["ExitCode"]


@pytest.mark.parametrize(("signal", "status"), [("HUP", 129), ("9", 137), ("SIGRTMIN+3", 165)])
def test_kill(podman: Podman, signal: str, status: int) -> None:
    """kill --signal."""
    podman("run", "-d", "--init", "--name", "box", "busybox", "sleep", "99")
    # the init is there, and listens
    until(lambda: re.search(r"^\d+ +sleep 99 *$", podman("top", "box", "pid", "args"), re.M), "the program runs")

    podman("kill", "--signal", signal, "box")

    assert str(status) == podman("wait", "box")


def test_kill_stopped(podman: Podman) -> None:
    """kill, stop and rm of a container that has ended."""
    podman("run", "--name", "box", "busybox", "true")

    assert "can only kill running containers" in podman("kill", "box", status=125)
    podman("stop", "box")
    podman("rm", "box")


def test_restart_policy(podman: Podman) -> None:
    """run --restart on-failure:2."""
    podman("run", "-d", "--name", "box", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo life; exit 4")

    until(lambda: podman.inspect("box")["RestartCount"] == 2 and podman.state("box") == "exited", "it has given up")

    assert ["life"] * 3 == podman("logs", "box").split()


@pytest.mark.cgroup
def test_restart(podman: Podman) -> None:
    """restart: another process in the same root filesystem."""
    podman("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo x >>/tmp/lives; exec sleep 99")
    until(lambda: podman("exec", "box", "cat", "/tmp/lives") == "x", "its first life has begun")

    podman("restart", "--time", "0", "box")

    until(lambda: podman("exec", "box", "cat", "/tmp/lives") == "x\nx", "its second life has begun")


def test_create_start(either: Podman) -> None:
    """create, init, start, and start once more."""
    either("create", "--name", "box", "busybox", "sh", "-c", "echo life")
    either("init", "box")
    assert "initialized" == either.state("box")

    assert "life" == either("start", "--attach", "box")
    assert "life" == either("start", "--attach", "box")


@pytest.mark.cgroup
def test_pause(podman: Podman) -> None:
    """pause and unpause: nothing runs in between."""
    script = "while :; do echo $((i += 1)) >/tmp/next; mv /tmp/next /tmp/count; sleep .01; done"
    podman("run", "-d", "--name", "box", "-v", "shared:/tmp", "busybox", "sh", "-c", script)
    until(lambda: podman.run("exec", "box", "cat", "/tmp/count").stdout, "it counts")

    podman("pause", "box")
    assert "paused" == podman.state("box")
    read = ["run", "--rm", "-v", "shared:/tmp", "busybox", "sh", "-c", "cat /tmp/count; sleep .2; cat /tmp/count"]
    count = podman(*read).split()
    assert count[0] == count[1]
    podman("exec", "box", "true", status=255)

    podman("unpause", "box")
    until(lambda: podman("exec", "box", "cat", "/tmp/count") not in ("", count[0]), "it goes on")


@pytest.mark.cgroup
def test_exec(either: Podman) -> None:
    """exec: output, the exit status, --user, --workdir, --env, -i."""
    either("run", "-d", "--name", "box", "busybox", "sleep", "99")

    done = either.run("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 6")
    assert (6, "out\n", "err\n") == (done.returncode, done.stdout, done.stderr)
    script = "id; pwd; echo $WORD"
    out = either("exec", "--user", "joan", "--workdir", "/etc", "--env", "WORD=x", "box", "sh", "-c", script)
    ids, *rest = out.splitlines()
    assert ["100(users)", "1001(joan)", "2000(wheel)"] == sorted(ids.partition("groups=")[2].split(","))
    assert ("uid=1000(joan) gid=1001(joan) ", ["/etc", "x"]) == (ids.partition("groups=")[0], rest)
    assert "HELLO" == either("exec", "-i", "box", "tr", "a-z", "A-Z", input="hello")


def test_exec_terminal(either: Podman) -> None:
    """exec -it: a terminal, the exit status."""
    either("run", "-d", "--name", "box", "busybox", "sleep", "99")
    terminal = either.terminal("exec", "-it", "--user", "1000", "box", "sh", rows=33, columns=99)
    try:
        terminal.expect("$ ")
        terminal.type("tty; id -u; exit 5\r")
        terminal.expect("/dev/pts/0\r\n1000\r\n")
        assert 5 == terminal.wait()
    finally:
        terminal.end()


def test_exec_detached(podman: Podman) -> None:
    """exec --detach."""
    podman("run", "-d", "--name", "box", "busybox", "sleep", "99")

    podman("exec", "--detach", "box", "sh", "-c", "echo done >/tmp/file")

    until(lambda: podman.run("exec", "box", "cat", "/tmp/file").stdout == "done\n", "it has run")


def test_exec_privileged(podman: Podman) -> None:
    """exec --privileged: every capability, in a container that has few."""
    podman("run", "-d", "--name", "box", "--cap-drop", "all", "busybox", "sleep", "99")

    def capabilities(*options: str) -> str:
        return podman("exec", *options, "box", "sed", "-n", "s/^CapEff:\t0*//p", "/proc/self/status")

    assert "" == capabilities()
    assert 8 < len(capabilities("--privileged"))


def test_top(podman: Podman) -> None:
    """top: the processes of the container."""
    podman("run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep 99 & exec sleep 98")

    until(lambda: "sleep 99" in podman("top", "box", "pid", "args"), "both run")

    assert ["sleep 98", "sleep 99"] == sorted(
        line.split(maxsplit=1)[1].strip() for line in podman("top", "box", "pid", "args").splitlines()[1:]
    )


def test_attach(podman: Podman) -> None:
    """attach: input and output."""
    script = "while :; do echo here; sleep .1; done & read line; kill $!; echo got $line; exit 6"
    podman("run", "-dit", "--name", "box", "busybox", "sh", "-c", script)
    terminal = podman.terminal("attach", "box")
    try:
        terminal.expect("here\r\n")
        terminal.type("this\r")
        terminal.expect("got this\r\n")
        terminal.wait()
        assert "6" == podman("wait", "box")
    finally:
        terminal.end()


def test_copy(podman: Podman, tmp_path: Path) -> None:
    """cp: into a container that runs, and out of one that does not."""
    podman("run", "-d", "--name", "box", "busybox", "sleep", "99")
    (tmp_path / "in").write_text("content\n")

    podman("cp", tmp_path / "in", "box:/tmp/there")
    assert "content" == podman("exec", "box", "cat", "/tmp/there")
    podman("kill", "box")
    podman("cp", "box:/tmp/there", tmp_path / "out")

    assert "content\n" == (tmp_path / "out").read_text()


def test_health(podman: Podman) -> None:
    """healthcheck: healthy, unhealthy."""
    options = ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1"]
    podman("run", "-d", "--name", "box", *options, "busybox", "sh", "-c", "touch /tmp/well; exec sleep 99")

    until(lambda: podman.run("healthcheck", "run", "box").returncode == 0, "it is well")
    podman("exec", "box", "rm", "/tmp/well")
    podman.run("healthcheck", "run", "box")

    assert "unhealthy" == podman.inspect("box")["State"]["Health"]["Status"]
