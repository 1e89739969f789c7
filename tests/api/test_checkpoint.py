"""Checkpoint and restore through the API, with a real CRIU."""

import subprocess
import time
from pathlib import Path

import pytest

import pyoci as api
from pyoci.client import criu as words
from pyoci.testing import Bundle
from tests.support import criu as criu_program
from tests.support.counting import repeat

NULL = subprocess.DEVNULL
# It appends: a checkpoint between `> /count` and what follows would leave an empty file.
COUNT = "i=0; " + repeat("i=$((i+1)); echo $i", seconds=0.01) + " >>/count"


@pytest.fixture
def dumper(runtime_executable: str, criu: Path, tmp_path: Path) -> api.Runtime:
    """A runtime that finds a CRIU."""
    return api.Runtime(runtime_executable, root=tmp_path / "state", criu=criu)


def count(bundle: Bundle) -> int:
    """How far the container's program has counted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return int((bundle.rootfs / "count").read_text().split()[-1])
        except (FileNotFoundError, IndexError):  # not yet
            time.sleep(0.01)
    raise TimeoutError("the program does not count")


def counts_on(bundle: Bundle) -> bool:
    """Whether the program is counting."""
    before, deadline = count(bundle), time.monotonic() + 60
    while time.monotonic() < deadline:
        if count(bundle) > before:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.root
def test_a_container_goes_on_after_a_restore(dumper: api.Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """It is deleted in between, and its program does not start again from 1."""
    bundle.shell(COUNT)
    with dumper.create("api-dump", bundle, stdin=NULL, stdout=NULL, stderr=NULL) as container:
        container.start()
        assert counts_on(bundle)
        container.checkpoint(tmp_path / "images")
        assert [] == dumper.list()
        assert 137 == container.wait(timeout=60)
    before = count(bundle)

    with dumper.restore("api-dump", bundle, tmp_path / "images", stdin=NULL, stdout=NULL, stderr=NULL) as container:
        assert "running" == container.state["status"]
        assert counts_on(bundle)
        assert count(bundle) > before
        container.kill("KILL")
        assert 137 == container.wait(timeout=60)
    assert [] == dumper.list()


@pytest.mark.root
def test_a_container_that_stays(dumper: api.Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """With `leave_running`, and after an error."""
    bundle.shell(COUNT)
    with dumper.create("api-stays", bundle, stdin=NULL, stdout=NULL, stderr=NULL) as container:
        with pytest.raises(api.StatusError):
            container.checkpoint(tmp_path / "images")
        container.start()
        container.checkpoint(tmp_path / "images", work=tmp_path / "work", leave_running=True)

        assert (tmp_path / "work" / "dump.log").exists()
        assert counts_on(bundle)
        with pytest.raises(api.UsageError, match="--parent-path"):
            container.checkpoint(tmp_path / "more", parent="/absolute")
        assert counts_on(bundle)


@pytest.mark.root
def test_restore_fails_without_images(dumper: api.Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """It leaves nothing behind."""
    with pytest.raises(api.PyociError, match="images"):
        dumper.restore("api-none", bundle, tmp_path / "images", stdin=NULL, stdout=NULL, stderr=NULL)

    assert [] == dumper.list()


@pytest.mark.root
def test_runc_checkpoints_and_restores(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """runc finds CRIU in PATH."""
    monkeypatch.setenv("PATH", criu_program.environment()["PATH"])
    bundle.shell(COUNT)
    try:
        runtime = api.Runtime("runc", root=tmp_path / "runc")
    except api.PyociError:
        pytest.skip("no runc")
    bundle.config["ociVersion"] = "1.0.2"
    with runtime.create("api-runc-dump", bundle, stdin=NULL, stdout=NULL, stderr=NULL) as container:
        container.start()
        assert counts_on(bundle)
        container.checkpoint(tmp_path / "images", manage_cgroups_mode="soft")
        assert [] == runtime.list()
    before = count(bundle)

    streams: dict[str, int] = {"stdin": NULL, "stdout": NULL, "stderr": NULL}
    images = tmp_path / "images"
    with runtime.restore("api-runc-dump", bundle, images, manage_cgroups_mode="soft", **streams) as container:
        assert counts_on(bundle)
        assert count(bundle) > before
        container.kill("KILL")


def test_options_are_those_of_the_commands() -> None:
    """True is a switch, a text a value; False and None are left out."""
    assert ["--tcp-established", "--network-lock", "skip"] == words.switches(
        {"tcp_established": True, "shell_job": False, "network_lock": "skip"}, restoring=False
    )
    assert ["--lsm-profile", "apparmor:x"] == words.switches({"lsm_profile": "apparmor:x"}, restoring=True)


def test_unknown_options_are_rejected() -> None:
    """As with any function; labels are for restore alone."""
    with pytest.raises(TypeError, match=r"^cannot use option tcp: expected one of tcp_established, "):
        words.switches({"tcp": True}, restoring=True)  # type: ignore[typeddict-unknown-key]
    with pytest.raises(TypeError, match=r"^cannot use option lsm_profile: "):
        words.switches({"lsm_profile": "apparmor:x"}, restoring=False)  # type: ignore[typeddict-unknown-key]


def test_other_runtimes_choose_criu_themselves(tmp_path: Path) -> None:
    """runc and crun have no such option."""
    (tmp_path / "runc").write_text("#!/bin/sh\necho runc version 1\n")
    (tmp_path / "runc").chmod(0o755)
    runtime = api.Runtime(tmp_path / "runc", root=tmp_path, criu="/usr/sbin/criu")

    with pytest.raises(api.UnsupportedError, match=r"^cannot choose criu: runc looks for it in PATH$"):
        runtime.list()
