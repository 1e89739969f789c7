"""Networks. The machine has no way out, but bridges as everywhere."""

import os
import urllib.request

import pytest

from tests.support.daemon import until
from tests.support.docker import Docker


def answer(address):
    """What a server says, or nothing."""
    try:
        with urllib.request.urlopen(address, timeout=2) as page:
            return page.read().decode()
    except OSError:
        return ""


def test_network_none(docker: Docker) -> None:
    """run --network none: loopback only, and that is up."""
    assert ["lo"] == docker("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net").split()
    assert "UP" in docker("run", "--rm", "--network", "none", "busybox", "ip", "link", "show", "lo")


def test_network_host(docker: Docker) -> None:
    """run --network host."""
    assert os.readlink("/proc/self/ns/net") == docker(
        "run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"
    )


def test_network_container(docker: Docker) -> None:
    """run --network container:NAME."""
    docker("run", "-d", "--name", "box", "busybox", "httpd", "-f", "-h", "/etc", "-p", "8000")
    namespace = docker("exec", "box", "readlink", "/proc/self/ns/net")

    assert namespace == docker("run", "--rm", "--network", "container:box", "busybox", "readlink", "/proc/self/ns/net")
    assert "root:x:0:0" in docker(
        "run", "--rm", "--network", "container:box", "busybox", "wget", "-qO-", "127.0.0.1:8000/passwd"
    )


def test_network_bridge(docker: Docker) -> None:
    """network create: containers find each other by name."""
    docker("network", "create", "net")
    docker("run", "-d", "--name", "server", "--network", "net", "busybox", "httpd", "-f", "-h", "/etc")

    assert "root:x:0:0" in docker("run", "--rm", "--network", "net", "busybox", "wget", "-qO-", "server/passwd")


def test_network_connect(docker: Docker) -> None:
    """network connect and disconnect, while it runs."""
    docker("network", "create", "net")
    docker("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "99")
    docker("network", "disconnect", "none", "box")

    docker("network", "connect", "net", "box")
    assert ["eth0", "lo"] == docker("exec", "box", "ls", "/sys/class/net").split()
    docker("network", "disconnect", "net", "box")
    assert ["lo"] == docker("exec", "box", "ls", "/sys/class/net").split()


@pytest.mark.parametrize("protocol", ["127.0.0.1:", ""])
def test_publish(docker: Docker, protocol: str) -> None:
    """run -p: a port of the host."""
    docker("run", "-d", "--name", "box", "-p", f"{protocol}8090:80", "busybox", "httpd", "-f", "-h", "/etc")

    until(lambda: "root:x:0:0" in answer("http://127.0.0.1:8090/passwd"), "it serves")


def test_privileged_port(docker: Docker) -> None:
    """run --user: a server on port 80 (net.ipv4.ip_unprivileged_port_start)."""
    docker("run", "-d", "--name", "box", "--user", "joan", "-p", "8091:80", "busybox", "httpd", "-f", "-h", "/etc")

    until(lambda: "root:x:0:0" in answer("http://127.0.0.1:8091/passwd"), "it serves")
