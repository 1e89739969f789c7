"""A host that switches from runc to pyoci, and back (docs/switching.md)."""

import json
import signal
import tempfile
from pathlib import Path

import pytest

from tests.support.daemon import until
from tests.support.docker import CONFIGURATION, Docker
from tests.support.leaks import Leaks

pytestmark = pytest.mark.compares


@pytest.fixture
def switched(daemon: Docker):
    """Start a separate dockerd whose runtime is runc, with a configuration that the test may change."""
    leaks = Leaks()
    folder = Path(tempfile.mkdtemp(prefix="switch"))  # short: containerd's sockets have long names
    options = ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    # without networks it would take away the other's bridge
    docker = Docker(folder, "runc", *options, wrapper=("unshare", "--net"))
    docker.import_busybox()
    yield docker
    docker.remove_all()
    docker.stop()
    leaks.states.append(docker.states)
    leaks.assert_none()


def configure(docker: Docker, configuration: dict[str, object]) -> None:
    """Let dockerd read another configuration, as `systemctl reload docker` does."""
    (docker.folder / "daemon.json").write_text(json.dumps(configuration))
    docker.daemon.process.send_signal(signal.SIGHUP)
    default = configuration["default-runtime"]
    until(lambda: docker("info", "--format", "{{.DefaultRuntime}}") == default, f"the default runtime is {default}")


def runtime_of(docker: Docker, name: str) -> str:
    """The runtime that Docker keeps for a container."""
    return docker.inspect(name)["HostConfig"]["Runtime"]


def start(docker: Docker, name: str) -> None:
    """Start a container that waits, with the default runtime."""
    docker("run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "600")


def test_containers_keep_their_runtime(switched: Docker) -> None:
    """Docker keeps the runtime of each container when the default changes."""
    configuration = json.loads(CONFIGURATION.read_text())
    configure(switched, {**configuration, "default-runtime": "runc"})
    start(switched, "before")
    configure(switched, configuration)
    start(switched, "after")

    assert ["runc", "pyoci"] == [runtime_of(switched, name) for name in ("before", "after")]
    for name in ("before", "after"):
        assert "lives" == switched("exec", name, "echo", "lives")
        switched("restart", "--time", "0", name)
        assert "lives" == switched("exec", name, "echo", "lives")
    assert ["runc", "pyoci"] == [runtime_of(switched, name) for name in ("before", "after")]

    configure(switched, {**configuration, "default-runtime": "runc"})  # back
    start(switched, "later")
    assert ["pyoci", "runc"] == [runtime_of(switched, name) for name in ("after", "later")]
    assert "lives" == switched("exec", "after", "echo", "lives")


def test_containers_need_their_runtime(switched: Docker) -> None:
    """Without pyoci in its configuration, Docker starts none of pyoci's containers."""
    configuration = json.loads(CONFIGURATION.read_text())
    configure(switched, configuration)
    start(switched, "left")
    switched("stop", "--time", "0", "left")
    configure(switched, {"runtimes": {}, "default-runtime": "runc"})

    done = switched.run("start", "left")
    assert 0 != done.returncode
    assert "unknown or invalid runtime name: pyoci" in done.stderr
    configure(switched, configuration)
    switched("start", "left")
    assert "lives" == switched("exec", "left", "echo", "lives")
