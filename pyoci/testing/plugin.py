"""The pytest plugin: the fixtures `rootfs`, `bundle`, `runtime` and `container`.

It needs no daemon, and no root: without root, the container has a user namespace whose root is the user. A guardian
process deletes the containers of a run that was killed (guardian.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pyoci

if TYPE_CHECKING:
    from pyoci.testing.bundle import Bundle

_TIMEOUT = 60  # seconds for the guardian to end


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pyoci")
    group.addoption("--pyoci-runtime", metavar="PROGRAM", help="the OCI runtime for the fixture `runtime`")
    group.addoption("--pyoci-rootfs", metavar="SOURCE", help="what the fixture `rootfs` is made of")
    parser.addini("pyoci_runtime", "the OCI runtime for the fixture `runtime` (default: pyoci)")
    parser.addini("pyoci_rootfs", "a directory, tar archive or OCI image layout, or `busybox`", default="busybox")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "rootfs(source): make the fixture `rootfs` of this source")


class Guardian:
    """The other end of the guardian process."""

    def __init__(self) -> None:
        read, self.pipe = os.pipe()
        program = str(Path(__file__).with_name("guardian.py"))
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", program, str(os.getpid())],
            stdin=read,
            stdout=null,
            stderr=null,
            start_new_session=True,
        )
        os.close(read)

    def watch(self, runtime: "pyoci.Runtime") -> None:
        """Delete this runtime's containers when the test run is killed."""
        runtime._executable.inherited = (self.pipe,)
        line = json.dumps([runtime.root, *runtime._executable.command()])
        os.write(self.pipe, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self.pipe)
        self._process.wait(_TIMEOUT)


@pytest.fixture(scope="session")
def _guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    yield guardian
    guardian.close()


@pytest.fixture(scope="session")
def runtime_executable(pytestconfig: pytest.Config) -> str | None:
    """The executable of the fixture `runtime`: --pyoci-runtime, `pyoci_runtime` of the ini file, or None for pyoci."""
    return pytestconfig.getoption("--pyoci-runtime") or pytestconfig.getini("pyoci_runtime") or None


@pytest.fixture
def runtime(runtime_executable: str | None, tmp_path: Path, _guardian: Guardian) -> "Iterator[pyoci.Runtime]":
    """A Runtime with a state directory of its own, whose containers are deleted after the test."""
    made = pyoci.Runtime(runtime_executable, root=tmp_path / "state")
    _guardian.watch(made)
    yield made
    directory = tmp_path / "state"
    for path in sorted(directory.iterdir()) if directory.exists() else ():
        made._executable.call("delete", "--force", path.name)


@pytest.fixture
def rootfs(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A root filesystem that the test may change, of what the marker `rootfs` or the option `pyoci_rootfs` names."""
    from pyoci.testing.rootfs import make_rootfs

    config = request.config
    marker = request.node.get_closest_marker("rootfs")
    option = config.getoption("--pyoci-rootfs")
    source = marker.args[0] if marker else option or config.getini("pyoci_rootfs")
    if source != "busybox" and not option:
        source = os.path.join(config.rootpath, source)
    return make_rootfs(source, tmp_path / "bundle" / "rootfs")


@pytest.fixture
def bundle(rootfs: Path) -> "Bundle":
    """A Bundle with that root filesystem, whose program sleeps. A test changes `config` before it uses the bundle."""
    from pyoci.testing.bundle import Bundle

    config = pyoci.spec(rootless=os.geteuid() != 0)
    config["ociVersion"] = "1.0.2"  # which old runtimes accept, too
    config["process"] |= {"terminal": False, "args": ["sleep", "1000000"]}
    config["root"]["readonly"] = False
    return Bundle(rootfs.parent, rootfs, config)


@pytest.fixture
def container(runtime: "pyoci.Runtime", bundle: "Bundle") -> "Iterator[pyoci.Container]":
    """A running container of that bundle."""
    with runtime.create(f"test-{os.getpid()}", bundle, stdin=subprocess.DEVNULL) as created:
        created.start()
        yield created
