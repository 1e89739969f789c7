"""A real Debian with servers in it: what they take for granted is more than busybox asks for."""

import shutil
import urllib.request
from typing import Any

import pytest

from tests.support import rootfs
from tests.support.daemon import until
from tests.support.podman import Podman

NGINX = ["nginx", "-g", "daemon off;"]
REDIS = ["redis-server", "--dir", "/var/lib/redis", "--appendonly", "yes"]


def page(address):
    """What a server says, or nothing."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return ""


@pytest.fixture
def debian(either: Podman):
    """The image `debian`."""
    if either.run("image", "exists", "debian").returncode:
        archive = either.folder / "debian.tar"
        shutil.copy(rootfs.SERVER, archive)  # a user may not reach the original
        either("import", "--quiet", "--change", "STOPSIGNAL SIGQUIT", archive, "localhost/debian")
        archive.unlink()
    return "localhost/debian"


@pytest.mark.cgroup
def test_server(either: Podman, debian) -> None:
    """Debian's nginx: it answers on a published port, logs, stops by its signal, and answers again once it is
    restarted.
    """
    either("run", "-d", "--name", "box", "-p", "127.0.0.1:8092:80", debian, *NGINX)
    until(lambda: "Welcome to nginx" in page("http://127.0.0.1:8092/"), "it answers")
    either.await_logs("box", '"GET / HTTP/1.1" 200')

    either("stop", "box")
    assert ("exited", 0) == (either.state("box"), either.inspect("box")["State"]["ExitCode"])

    either("start", "box")
    until(lambda: "Welcome to nginx" in page("http://127.0.0.1:8092/"), "it answers again")
    assert "uid=33(www-data) gid=33(www-data) groups=33(www-data)" == either("exec", "-u", "www-data", "box", "id")
    assert "Permission denied" in either("exec", "-u", "www-data", "box", "cat", "/etc/shadow", status=1)


def test_server_on_the_host_network(either: Podman, debian) -> None:
    """Debian's nginx on the host's network, with a health check."""
    # a user has no ports below 1024
    script = (
        "sed -i 's/listen 80 /listen 8093 /; /:80 /d' /etc/nginx/sites-enabled/default; exec nginx -g 'daemon off;'"
    )
    check = "exec 3<>/dev/tcp/127.0.0.1/8093; echo 'GET / HTTP/1.0\n' >&3; grep -q '200 OK' <&3"
    options = ["--network", "host", "--health-cmd", f'bash -c "{check}"', "--health-retries", "1"]
    either("run", "-d", "--name", "box", *options, "--health-interval", "disable", debian, "sh", "-c", script)

    until(lambda: "Welcome to nginx" in page("http://127.0.0.1:8093/"), "it answers")
    either("healthcheck", "run", "box")
    either("exec", "box", "rm", "/var/www/html/index.nginx-debian.html")
    assert "unhealthy" in either("healthcheck", "run", "box", status=1)


@pytest.mark.cgroup
def test_data_outlives_the_container(either: Podman, debian) -> None:
    """Debian's redis-server, whose data is a volume: another container has it, after a stop by SIGTERM."""
    options = ["--user", "redis", "--stop-signal", "SIGTERM", "-v", "data:/var/lib/redis"]

    def cli(*command: Any):
        return either.run("exec", "box", "redis-cli", *command).stdout.strip()

    either("run", "-d", "--name", "box", *options, debian, *REDIS)
    until(lambda: cli("ping") == "PONG", "it serves")
    assert "OK" == cli("set", "word", "kept")
    either("stop", "box")
    assert 0 == either.inspect("box")["State"]["ExitCode"]
    either("rm", "box")

    either("run", "-d", "--name", "box", *options, debian, *REDIS)
    until(lambda: cli("ping") == "PONG", "it serves again")
    assert "kept" == cli("get", "word")
