"""The calls that CRI-O makes of conmon and of the runtime, by its drop-in of contrib/kubernetes."""

import json
import os
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import rootfs
from tests.support.containerd import KUBERNETES
from tests.support.counting import repeat
from tests.support.daemon import until
from tests.support.engines import SYSTEMD
from tests.support.leaks import Leaks

pytestmark = [pytest.mark.section("kubernetes"), pytest.mark.cgroup]

HANDLER = tomllib.loads((KUBERNETES / "crio.conf").read_text())["crio"]["runtime"]["runtimes"]["pyoci"]
ID = "c" * 64


class Crio:
    """One container, as CRI-O has it."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.slice = "podcrio.slice" if SYSTEMD else ""
        bundle = folder / "bundle"
        bundle.mkdir()
        self.binary = HANDLER["runtime_path"]
        self.root = HANDLER["runtime_root"]
        self.call("spec", "--bundle", bundle, root=False)
        config = json.loads((bundle / "config.json").read_text())
        config["process"] |= {
            "terminal": False,
            "args": ["sh", "-c", "trap 'exit 7' TERM; echo out; " + repeat(":", fifo="/dev/shm/fifo")],
        }
        config["linux"]["cgroupsPath"] = f"{self.slice}:crio:{ID}" if SYSTEMD else f"/kubepods/podcrio/crio-{ID}"
        (bundle / "config.json").write_text(json.dumps(config))
        rootfs.busybox(bundle / "rootfs")
        self.config = config
        self.bundle = bundle

    def call(self, *arguments: Any, root=True, systemd=False, status=0, **options: Any):
        """Call the runtime."""
        own = [f"--root={self.root}", *(["--systemd-cgroup"] if systemd and SYSTEMD else [])] if root else []
        command = [self.binary, *own, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
        assert status == done.returncode, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def create(self, *options: Any):
        """Let conmon create it, or restore it. Returns the pid that conmon reports."""
        reader, writer = os.pipe()
        folder = self.folder
        for name in "exits", "sockets", "persistent":
            (folder / name).mkdir(exist_ok=True)
        command = [HANDLER["monitor_path"], "-b", self.bundle, "-c", ID, "-u", ID, "-n", "k8s_box_pod_test_0"]
        command += ["--exit-dir", folder / "exits", "-l", folder / "log", "--log-level", "info"]
        command += ["-P", folder / "conmon.pid", "-p", self.bundle / "pidfile", "--persist-dir", folder / "persistent"]
        command += ["-r", self.binary, "--runtime-arg", f"--root={self.root}", "--socket-dir-path", folder / "sockets"]
        command += ["--syslog", *(["-s"] if SYSTEMD else []), *options]
        environment = {**os.environ, "_OCI_SYNCPIPE": str(writer)}
        with os.fdopen(reader) as answers:
            try:
                subprocess.run(command, env=environment, pass_fds=[writer], check=True, timeout=60)
            finally:
                os.close(writer)
            return json.loads(answers.readline())["pid"]

    def state(self):
        """The container's state, from the runtime."""
        return json.loads(self.call("state", ID, systemd=True))


@pytest.fixture
def crio(runtime: str, tmp_path: Path):
    """A container that is not there yet; at the end, nothing is left of it."""
    if runtime != "pyoci":
        pytest.skip("the drop-in names pyoci")
    leaks = Leaks()
    crio = Crio(tmp_path)
    yield crio
    crio.call("delete", "--force", ID, systemd=True)
    if SYSTEMD:
        subprocess.check_call(["systemctl", "stop", crio.slice], timeout=60)
    leaks.assert_none()


def test_life(crio, record_property: Callable[[str, object], None]) -> None:
    """CRI-O: create through conmon, start, exec, update, kill, delete."""
    version = subprocess.check_output([HANDLER["monitor_path"], "--version"], text=True).split()[2]
    record_property("version", f"conmon {version}")
    pid = crio.create()
    assert ("created", pid) == (crio.state()["status"], crio.state()["pid"])

    crio.call("start", ID, systemd=True)
    until(lambda: "out" in (crio.folder / "log").read_text(), "its output is in the log")
    (crio.folder / "process").write_text(
        json.dumps({**crio.config["process"], "args": ["sh", "-c", "echo in; exit 5"]})
    )
    assert "in\n" == crio.call("exec", "--process", crio.folder / "process", ID, status=5)
    # without --systemd-cgroup, whatever made the cgroup
    crio.call("update", "--resources", "-", ID, input="{}")
    crio.call("kill", ID, "15", systemd=True)

    until(lambda: list((crio.folder / "exits").iterdir()), "conmon has seen it end")
    assert "7" == (crio.folder / "exits" / ID).read_text()
    assert "stopped" == crio.state()["status"]


def test_checkpoint(crio) -> None:
    """CRI-O: checkpoint, with --leave-running and without; restore through conmon."""
    images, ended = crio.folder / "images", crio.folder / "exits" / ID
    crio.create()
    crio.call("start", ID, systemd=True)
    until(lambda: "out" in (crio.folder / "log").read_text(), "its output is in the log")
    options = ["--file-locks", "--image-path", images, "--work-path", crio.folder]
    crio.call("checkpoint", *options, "--leave-running", ID, systemd=True)
    assert "running" == crio.state()["status"]

    crio.call("checkpoint", *options, ID, systemd=True)
    until(ended.exists, "conmon has seen it end")
    ended.unlink()
    pid = crio.create("--restore", images)

    assert ("running", pid) == (crio.state()["status"], crio.state()["pid"])
    crio.call("kill", ID, "15", systemd=True)
    until(ended.exists, "conmon has seen it end again")
    assert "7" == ended.read_text()
