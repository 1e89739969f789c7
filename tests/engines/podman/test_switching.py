"""A host that switches from runc to pyoci (docs/switching.md)."""

import pytest

from tests.support.podman import Podman

pytestmark = pytest.mark.compares


def test_containers_keep_their_runtime(podman: Podman) -> None:
    """restart, exec and rm of a container that another runtime than the default one created."""
    podman("--runtime", "runc", "run", "-d", "--name", "before", "busybox", "sleep", "600")
    podman("run", "-d", "--name", "after", "busybox", "sleep", "600")

    for _ in range(2):
        for name, runtime in (("before", "runc"), ("after", "pyoci")):
            assert runtime == podman("inspect", "--format", "{{.OCIRuntime}}", name)
            assert "lives" == podman("exec", name, "echo", "lives")
            podman("restart", "--time", "0", name)
    podman("rm", "--force", "--time", "0", "before", "after")
