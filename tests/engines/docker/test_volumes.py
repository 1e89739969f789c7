"""Volumes and binds."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.docker import Docker


def test_volume(docker: Docker) -> None:
    """volume create, run -v NAME: it outlives containers."""
    docker("volume", "create", "data")
    docker("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept >/data/file")

    assert "kept" == docker("run", "--rm", "-v", "data:/elsewhere:ro", "busybox", "cat", "/elsewhere/file")
    assert "Read-only file system" in docker(
        "run", "--rm", "-v", "data:/data:ro", "busybox", "touch", "/data/x", status=1
    )


def test_volume_copy(docker: Docker) -> None:
    """run -v NAME, over a directory of the image: its content is copied."""
    assert "root:x:0:0" in docker("run", "--rm", "-v", "data:/etc", "busybox", "head", "-n1", "/etc/passwd")


def test_volumes_from(docker: Docker) -> None:
    """run --volumes-from."""
    docker("create", "--name", "box", "-v", "data:/data", "busybox")
    docker("run", "--rm", "--volumes-from", "box", "busybox", "sh", "-c", "echo x >/data/file")

    assert "x" == docker("run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/file")


def test_bind(docker: Docker, folder: Path) -> None:
    """run -v HOST: read-write and read-only, a directory and a file."""
    (folder / "file").write_text("host\n")

    docker("run", "--rm", "-v", f"{folder}:/mnt", "busybox", "sh", "-c", "echo container >>/mnt/file")
    assert "host\ncontainer\n" == (folder / "file").read_text()
    assert "Read-only file system" in docker(
        "run", "--rm", "-v", f"{folder}:/mnt:ro", "busybox", "touch", "/mnt/x", status=1
    )
    assert "container" in docker("run", "--rm", "-v", f"{folder}/file:/etc/there", "busybox", "cat", "/etc/there")


def test_bind_read_only_below(docker: Docker, folder: Path) -> None:
    """run -v HOST:…:ro: what is mounted below is read-only, too."""
    (folder / "below").mkdir()
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", folder / "below"])
    try:
        assert "Read-only file system" in docker(
            "run", "--rm", "-v", f"{folder}:/mnt:ro", "busybox", "touch", "/mnt/below/x", status=1
        )
    finally:
        subprocess.check_call(["umount", folder / "below"])


@pytest.mark.parametrize(("propagation", "arrives"), [("rslave", True), ("rshared", True), ("rprivate", False)])
def test_propagation(docker: Docker, folder: Path, propagation: str, arrives: bool) -> None:
    """run --mount bind-propagation: a mount that the host makes later."""
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", folder])
    subprocess.check_call(["mount", "--make-rshared", folder])
    (folder / "below").mkdir()
    try:
        mount = f"type=bind,source={folder},target=/mnt,bind-propagation={propagation}"
        docker("run", "-d", "--name", "box", "--mount", mount, "busybox", "sleep", "99")
        subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", folder / "below"])
        assert arrives == ("/mnt/below" in docker("exec", "box", "cat", "/proc/self/mounts"))
    finally:
        docker("rm", "-f", "box")
        subprocess.check_call(["umount", "--recursive", folder])


def test_propagation_out(docker: Docker, folder: Path) -> None:
    """run --mount bind-propagation=rshared: a mount that the container makes arrives at the host."""
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", folder])
    subprocess.check_call(["mount", "--make-rshared", folder])
    (folder / "below").mkdir()
    try:
        docker(
            "run",
            "--rm",
            "--privileged",
            "-v",
            f"{folder}:/mnt:rshared",
            "busybox",
            "mount",
            "-t",
            "tmpfs",
            "x",
            "/mnt/below",
        )
        assert os.path.ismount(folder / "below")
    finally:
        subprocess.check_call(["umount", "--recursive", folder])


def test_mount_tmpfs(docker: Docker) -> None:
    """run --mount type=tmpfs."""
    out = docker(
        "run",
        "--rm",
        "--mount",
        "type=tmpfs,target=/mnt,tmpfs-size=1m,tmpfs-mode=0700",
        "busybox",
        "sh",
        "-c",
        "grep ' /mnt ' /proc/mounts; stat -c %a /mnt",
    )

    assert "size=1024k" in out
    assert out.endswith("\n700")


def test_mount_nested(docker: Docker, folder: Path) -> None:
    """run -v: one inside of another, whatever their order."""
    (folder / "outer").mkdir()
    (folder / "inner").mkdir()
    (folder / "inner/file").write_text("inner")

    assert "inner" == docker(
        "run", "--rm", "-v", f"{folder}/inner:/mnt/a/b", "-v", f"{folder}/outer:/mnt", "busybox", "cat", "/mnt/a/b/file"
    )
