"""A host that switches from runc to pyoci, and back (docs/switching.md)."""

import json
import signal
from collections.abc import Iterator

import pytest

from tests.support.daemon import until
from tests.support.docker import CONFIGURATION, Docker, separate

pytestmark = pytest.mark.compares


@pytest.fixture
def switched(daemon: Docker) -> Iterator[Docker]:
    """Start a separate dockerd whose runtime is runc, with a configuration that the test may change."""
    with separate(Docker, "switch", "runc") as docker:
        yield docker


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
