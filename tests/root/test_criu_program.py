"""What checkpoint and restore pass on: criu, its configuration, and to the container a keyring of its own."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import keyrings
from tests.support.runtime import Runtime, wait_for

pytestmark = pytest.mark.root

NULL = subprocess.DEVNULL
ANNOTATION = "org.criu.config"
CONFIGURATION = "/etc/criu/pyoci-test.conf"
# An /etc of the command's own, with that file.
WITH_CONFIGURATION = f"""
mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work &&
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc &&
mkdir -p /etc/criu && printf '%s\\n' "$TEXT" > {CONFIGURATION} && chmod "$MODE" {CONFIGURATION} && exec "$@"
"""


@pytest.fixture
def running(runtime: Runtime) -> Runtime:
    """A container with a deleted file of 2 MiB open, which CRIU dumps only with a larger `ghost-limit`."""
    runtime.bundle.shell(
        "dd if=/dev/zero of=/gone bs=1M count=2 2>/dev/null; exec 5</gone; rm /gone; touch /ready; while :; do sleep 1; done"
    )
    runtime.bundle.config["annotations"] = {ANNOTATION: CONFIGURATION}
    runtime.create(stdout=NULL, stderr=NULL)
    runtime.start()
    wait_for((runtime.bundle.rootfs / "ready").exists)
    return runtime


def checkpoint(runtime: Runtime, *options: object) -> str:
    """The error of a checkpoint, which leaves the container running."""
    result = runtime(*options, "checkpoint", "--image-path", runtime.folder / "images", runtime.id)
    assert (1, "") == (result.status, result.out)
    assert "running" == runtime.status()
    return result.err.strip()


def test_the_error_says_what_is_wrong_with_criu(running: Runtime) -> None:
    """A missing one, one of another kind, an old one, and one that others can change."""
    fake = running.folder / "criu"
    action = "cannot checkpoint the container: "

    assert f"{action}cannot run {fake}: no such file or directory" == checkpoint(running, "--criu", fake)
    fake.write_text("#!/bin/sh\necho Version: 3.9\n")
    assert f"{action}cannot run {fake}: it is not an executable file" == checkpoint(running, "--criu", fake)
    fake.chmod(0o755)
    assert f"{action}{fake} is version 3.9; pyoci needs 3.17 (" in checkpoint(running, "--criu", fake)
    fake.chmod(0o757)
    assert f"{action}cannot trust {fake}: {fake} can be written by others (" in checkpoint(running, "--criu", fake)
    assert not (running.folder / "images").exists()


def test_root_of_a_user_namespace_lacks_privileges(running: Runtime, criu: Path) -> None:
    """One line says which."""
    words = running.command("--criu", criu, "checkpoint", "--image-path", running.folder / "images", running.id)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", *words], capture_output=True, text=True, stdin=NULL, check=False
    )

    expected = "cannot checkpoint the container: CRIU needs CAP_SYS_ADMIN in the initial user namespace (hint: "
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(expected)
    assert "running" == running.status()


def test_the_annotation_names_a_file_for_crius_options(running: Runtime, criu: Path) -> None:
    """For checkpoint and for restore. Without the file, and if others can change it, both fail."""
    fault = f"/annotations/{ANNOTATION}: cannot use CRIU's configuration {CONFIGURATION}: "
    assert f"{fault}no such file or directory" == checkpoint(running, "--criu", criu)

    def run(*words: object, text: str = "ghost-limit 4M", mode: str = "600") -> tuple[int, str]:
        """The exit status and the error of a command with this configuration."""
        command = ["unshare", "--mount", "sh", "-c", WITH_CONFIGURATION, "sh", *running.command("--criu", criu, *words)]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TEXT": text, "MODE": mode}
        with (running.folder / "err").open("w") as err:
            status = subprocess.run(
                command, stdin=NULL, stdout=NULL, stderr=err, env=environment, check=False
            ).returncode
        return status, (running.folder / "err").read_text().strip()

    images = ("--image-path", running.folder / "images", running.id)
    status, error = run("checkpoint", *images, mode="606")
    assert (1, True) == (status, f"{fault}{CONFIGURATION} can be written by others (" in error)
    status, error = run("checkpoint", *images, text="ghost-limit 1M")
    assert (1, True) == (status, "with 2097152 bytes" in error), error
    assert "running" == running.status()

    assert (0, "") == run("checkpoint", *images)
    restored = ("restore", "--detach", "--bundle", running.bundle.folder, *images)
    status, error = run(*restored, mode="606")
    assert (1, True) == (status, f"{fault}{CONFIGURATION} can be written by others (" in error)
    assert (0, "") == run(*restored)
    assert "running" == running.status()


@pytest.mark.skipif(not Path("/proc/keys").exists(), reason="a kernel without keyrings")
@pytest.mark.parametrize("options", [(), ("--no-new-keyring",)], ids=" ".join)
def test_restored_session_keyring(runtime: Runtime, criu: Path, probe: Path, options: tuple[str, ...]) -> None:
    """It is a new one, and the caller's only with --no-new-keyring."""
    rootfs = runtime.bundle.rootfs
    shutil.copy(probe, rootfs / "bin/probe")
    runtime.bundle.shell("touch /ready; while [ ! -e /go ]; do sleep 0.01; done; /bin/probe >/told; exec sleep 100")
    runtime.create(stdout=NULL, stderr=NULL)
    runtime.start()
    wait_for((rootfs / "ready").exists)
    images = ("--image-path", runtime.folder / "images", runtime.id)
    assert (0, "", "") == tuple(runtime("--criu", criu, "checkpoint", *images))
    words = ("restore", "--detach", *options, "--bundle", runtime.bundle.folder, *images)
    runtime.detached("--criu", criu, *words, stdout=NULL, stderr=NULL)
    (rootfs / "go").touch()
    wait_for(lambda: (rootfs / "told").exists() and "session=" in (rootfs / "told").read_text())

    (line,) = [line for line in (rootfs / "told").read_text().splitlines() if line.startswith("session=")]
    assert line.startswith(f"session={keyrings.own()};") is bool(options)


def dumped(runtime: Runtime, criu: Path) -> list[object]:
    """The command line that restores a container which was dumped."""
    runtime.bundle.shell("touch /ready; while :; do sleep 0.1; done")
    runtime.create(stdout=NULL, stderr=NULL)
    runtime.start()
    wait_for((runtime.bundle.rootfs / "ready").exists)
    images = ("--image-path", runtime.folder / "images", runtime.id)
    assert (0, "", "") == tuple(runtime("--criu", criu, "checkpoint", *images))
    return ["--criu", criu, "restore", "--detach", "--bundle", runtime.bundle.folder, *images]


def test_restore_sends_a_pidfd(runtime: Runtime, criu: Path) -> None:
    """--pidfd-socket is that of create: it gets a pidfd of init."""
    words = dumped(runtime, criu)
    path = str(runtime.folder / "pidfd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        runtime.detached(*words[:4], "--pidfd-socket", path, *words[4:], stdout=NULL, stderr=NULL)
        connection, _ = listener.accept()
    with connection:
        text, (pidfd,), _, _ = socket.recv_fds(connection, 100, 1)

    assert b"pidfd" == text
    assert f"Pid:\t{runtime.pid()}\n" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    os.close(pidfd)


def test_restored_processes_have_the_priorities_of_the_config(runtime: Runtime, criu: Path) -> None:
    """Memory policy and I/O priority are not in images."""
    runtime.bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    runtime.bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    runtime.detached(*dumped(runtime, criu), stdout=NULL, stderr=NULL)

    pid = runtime.state()["pid"]
    assert "idle" == subprocess.check_output(["ionice", "-p", str(pid)], text=True).strip()
    assert " bind:0 " in Path(f"/proc/{pid}/numa_maps").read_text()
