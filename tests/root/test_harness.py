"""The harness does not wait for a container that a test did not expect."""

import time

import pytest

from tests.support import deadline
from tests.support.deadline import HeldOpen
from tests.support.runtime import Bundle, Host, Runtime

pytestmark = pytest.mark.root


def test_a_container_that_should_not_be_there(
    runtime: Runtime, bundle: Bundle, host_clean: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `create` that succeeds where it should fail fails the test in seconds; afterwards the container is deleted."""
    monkeypatch.setattr(deadline, "GRACE", 0.5)
    bundle.program("/bin/sleep", "1000")
    begun = time.monotonic()

    with pytest.raises(
        HeldOpen, match=r"create .* ended with status 0, and a process that it left keeps its output open"
    ):
        runtime.create_fails()

    assert time.monotonic() - begun < 30
    assert "created" == runtime.status()
    runtime.clean_up()
    runtime.assert_gone()
