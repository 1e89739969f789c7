"""A real Debian with servers in it: what they take for granted is more than busybox asks for."""

import re
import urllib.request
from typing import Any

import pytest

from tests.support import rootfs
from tests.support.daemon import until
from tests.support.docker import Docker, restore

NGINX = ["nginx", "-g", "daemon off;"]


@pytest.fixture(scope="module")
def debian(daemon: Docker):
    """The image `debian`."""
    daemon("import", "--change", "STOPSIGNAL SIGQUIT", rootfs.SERVER, "debian")
    yield "debian"
    daemon("rmi", "debian")


def page(address):
    """What a server says, or nothing."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return ""


@pytest.mark.cgroup
def test_server(docker: Docker, debian) -> None:
    """Debian's nginx: it answers on a bridge, logs, is stopped by its signal, and answers again once it is
    restarted.
    """
    docker("run", "-d", "--name", "box", "-p", "127.0.0.1:8092:80", debian, *NGINX)
    until(lambda: "Welcome to nginx" in page("http://127.0.0.1:8092/"), "it answers")
    docker.await_logs("box", '"GET / HTTP/1.1" 200')

    docker("stop", "box")
    assert ("exited", 0) == (docker.state("box"), docker.inspect("box")["State"]["ExitCode"])

    docker("restart", "box")
    until(lambda: "Welcome to nginx" in page("http://127.0.0.1:8092/"), "it answers again")


def test_server_on_the_host_network(docker: Docker, debian) -> None:
    """Debian's nginx on the host's network; its workers are another user's."""
    docker("run", "-d", "--name", "box", "--network", "host", debian, *NGINX)

    until(lambda: "Welcome to nginx" in page("http://127.0.0.1:80/"), "it answers")
    users = {line.split()[1] for line in docker("top", "box", "-o", "pid,uid,args").splitlines() if "worker" in line}
    assert {"33"} == users


@pytest.mark.cgroup
def test_server_health(docker: Docker, debian) -> None:
    """Debian's nginx with a health check, and without its page."""
    check = "exec 3<>/dev/tcp/127.0.0.1/80; echo 'GET / HTTP/1.0\n' >&3; grep -q '200 OK' <&3"
    options = ["--health-cmd", f'bash -c "{check}"', "--health-interval", "200ms", "--health-retries", "2"]
    docker("run", "-d", "--name", "box", *options, debian, *NGINX)

    def health():
        return docker.inspect("box")["State"]["Health"]["Status"]

    until(lambda: health() == "healthy", "it is healthy")
    docker("exec", "box", "rm", "/var/www/html/index.nginx-debian.html")
    until(lambda: health() == "unhealthy", "it is unhealthy")


def test_exec_as_the_server(docker: Docker, debian) -> None:
    """exec --user www-data in a Debian: its groups, its files, no others'."""
    docker("run", "-d", "--name", "box", debian, *NGINX)

    assert "uid=33(www-data) gid=33(www-data) groups=33(www-data)" == docker("exec", "-u", "www-data", "box", "id")
    assert "Permission denied" in docker("exec", "-u", "www-data", "box", "cat", "/etc/shadow", status=1)
    assert re.search(r"^www-data .*worker", docker("exec", "box", "sh", "-c", PROCESSES), re.M)


# a small Debian has no ps
PROCESSES = "for p in /proc/[0-9]*; do echo $(stat -c %U $p) $(tr '\\0' ' ' <$p/cmdline); done"


@pytest.mark.cgroup
def test_data_outlives_the_container(docker: Docker, debian) -> None:
    """Debian's redis-server, whose data is a volume: another container has it, after a stop by SIGTERM."""
    server = ["redis-server", "--dir", "/var/lib/redis", "--appendonly", "yes"]
    options = ["--user", "redis", "--stop-signal", "SIGTERM", "-v", "data:/var/lib/redis"]

    def cli(*command: Any):
        return docker.run("exec", "box", "redis-cli", *command).stdout.strip()

    docker("run", "-d", "--name", "box", *options, debian, *server)
    until(lambda: cli("ping") == "PONG", "it serves")
    assert "OK" == cli("set", "word", "kept")
    docker("stop", "box")
    assert 0 == docker.inspect("box")["State"]["ExitCode"]
    docker("rm", "box")

    docker("run", "-d", "--name", "box", *options, debian, *server)
    until(lambda: cli("ping") == "PONG", "it serves again")
    assert "kept" == cli("get", "word")


def test_checkpoint(docker: Docker, debian) -> None:
    """checkpoint create and start --checkpoint: Debian's redis-server has its data in memory, and serves again."""
    server = ["redis-server", "--save", "", "--appendonly", "no", "--port", "6390"]
    docker("run", "-d", "--name", "box", "--network", "host", "--stop-signal", "SIGTERM", debian, *server)

    def cli(*command: Any):
        return docker.run("exec", "box", "redis-cli", "-p", "6390", *command).stdout.strip()

    until(lambda: cli("ping") == "PONG", "it serves")
    assert "OK" == cli("set", "word", "kept")
    cli("eval", "for i = 1, 10000 do redis.call('set', i, 'value' .. i) end", "0")
    docker("checkpoint", "create", "box", "first")
    docker.await_state("box", "exited")

    restore(docker, "box", "first")

    assert ("kept", "10001") == (cli("get", "word"), cli("dbsize"))
    docker("stop", "box")
    assert 0 == docker.inspect("box")["State"]["ExitCode"]
