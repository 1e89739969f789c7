"""What a distribution's packages and an administrator's files add to every container: sysctls, volumes of images,
hooks.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.podman import GRAPH_ROOT, UID, Podman

SYSCTL = "net.ipv4.ping_group_range"
LIMIT = 256  # bytes that fsconfig(2) takes of an option


def lowerdir(podman, *options: Any):
    """The option of the overlay on /mnt in a container."""
    lines = podman("run", "--rm", *options, "busybox", "cat", "/proc/self/mountinfo").splitlines()
    (line,) = (line for line in lines if line.split()[4] == "/mnt")
    options = line.partition(" - overlay ")[2].split(",")
    (found,) = (option for option in options if option.startswith("lowerdir"))
    return found


def test_default_sysctls(either: Podman) -> None:
    """run: the default_sysctls of Debian's containers.conf."""
    configuration = Path("/usr/share/containers/containers.conf").read_text()

    assert f'"{SYSCTL}=0 0"' in configuration
    script = f"cat /proc/sys/{SYSCTL.replace('.', '/')}"
    assert ["0", "0"] == either("run", "--rm", "busybox", "sh", "-c", script).split()
    either("run", "-d", "--name", "box", "busybox", "sleep", "99")
    assert ["0", "0"] == either("exec", "box", "sh", "-c", script).split()


@pytest.mark.parametrize("other", [(), ("--uts=host",), ("--userns=host",)], ids=["alone", "uts", "userns"])
def test_pid_namespace_of_the_host_with_a_sysctl(either: Podman, other: Any) -> None:
    """run --pid=host with a sysctl of the container's network namespace."""
    options = ["--pid=host", "--sysctl", f"{SYSCTL}=0 7", *other]

    out = either("run", "--rm", *options, "busybox", "sh", "-c", f"cat /proc/sys/{SYSCTL.replace('.', '/')}; echo $$")

    low, high, pid = out.split()
    assert (["0", "7"], True) == ([low, high], int(pid) > 1)


def test_pid_namespace_of_another_with_a_sysctl(either: Podman) -> None:
    """run --pid=container: with a sysctl of the container's network namespace."""
    either("run", "-d", "--name", "box", "busybox", "sleep", "99")

    out = either(
        *("run", "--rm", "--pid=container:box", "--sysctl", f"{SYSCTL}=0 7"),
        *("busybox", "sh", "-c", f"cat /proc/sys/{SYSCTL.replace('.', '/')}; cat /proc/1/comm"),
    )

    assert ["0", "7", "sleep"] == out.split()


def test_sysctls(either: Podman) -> None:
    """run --sysctl: of IPC, of a message queue, of the network, and exec after it."""
    sysctls = {
        "kernel.msgmax": "9000",
        "kernel.shm_rmid_forced": "1",
        "fs.mqueue.msg_max": "12",
        "net.core.somaxconn": "99",
    }
    options = [f"--sysctl={name}={value}" for name, value in sysctls.items()]
    either("run", "-d", "--name", "box", *options, "busybox", "sleep", "99")

    paths = [f"/proc/sys/{name.replace('.', '/')}" for name in sysctls]
    assert list(sysctls.values()) == either("exec", "box", "cat", *paths).split()


def test_volume_of_an_image(either: Podman) -> None:
    """run --mount type=image: read-only, with a lowerdir longer than 256 bytes."""
    options = ["--mount", "type=image,source=busybox,destination=/mnt"]

    assert "root:x:0:0" in either("run", "--rm", *options, "busybox", "head", "-n1", "/mnt/etc/passwd")
    script = "touch /mnt/x 2>&1"
    assert "Read-only file system" in either("run", "--rm", *options, "busybox", "sh", "-c", script, status=1)
    found = lowerdir(either, *options)
    assert GRAPH_ROOT in found
    assert len(found.partition("=")[2]) >= LIMIT


def test_writable_volume_of_an_image(either: Podman) -> None:
    """run --mount type=image,rw=true: with a lowerdir, an upperdir and a workdir longer than 256 bytes."""
    options = ["--mount", "type=image,source=busybox,destination=/mnt,rw=true"]

    assert "x" == either("run", "--rm", *options, "busybox", "sh", "-c", "echo x >/mnt/etc/new; cat /mnt/etc/new")
    either("run", "--rm", *options, "busybox", "test", "-e", "/mnt/etc/new", status=1)


def test_volume_with_an_image_driver(either: Podman) -> None:
    """volume create --driver image."""
    either("volume", "create", "--driver", "image", "--opt", "image=localhost/busybox", "pictures")

    assert "root:x:0:0" in either("run", "--rm", "-v", "pictures:/mnt", "busybox", "head", "-n1", "/mnt/etc/passwd")


def test_overlay_of_a_directory(either: Podman) -> None:
    """run --volume DIRECTORY:…:O: a long path; the container's changes are lost."""
    folder = either.folder / ("folder-" + "with-a-long-path-" * 14) / "data"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text("host\n")
    folder.parent.chmod(0o755)
    for path in (folder, folder / "file") if either.user else ():
        os.chown(path, UID, UID)
    options = ["-v", f"{folder}:/mnt:O"]

    script = "cat /mnt/file; echo container >/mnt/file; cat /mnt/file"
    assert ["host", "container"] == either("run", "--rm", *options, "busybox", "sh", "-c", script).split()
    assert "host\n" == (folder / "file").read_text()
    assert len(lowerdir(either, *options).partition("=")[2]) >= LIMIT


HOOK = """#!/bin/sh
set -e
exec >>{folder}/log 2>&1
pwd
root=$(python3 -c 'import json, sys
bundle = json.load(sys.stdin)["bundle"]
print(json.load(open(bundle + "/config.json"))["root"]["path"])')
ls "$root/proc" | grep -x self
mkdir -p "$root/mnt"
mount --bind {folder}/given "$root/mnt"
"""


@pytest.mark.differs("runc starts createContainer hooks in the root filesystem instead of the bundle.")
def test_hook_that_mounts(podman: Podman, tmp_path: Path) -> None:
    """run --hooks-dir: a createContainer hook that looks at the /proc of the root, and mounts into it."""
    folder = tmp_path
    (folder / "given").mkdir()
    (folder / "given/file").write_text("given\n")
    (folder / "hook").write_text(HOOK.format(folder=folder))
    (folder / "hook").chmod(0o755)
    hook = {"path": str(folder / "hook"), "args": ["hook"], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    description = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": ["createContainer"]}
    (folder / "hooks").mkdir()
    (folder / "hooks/mount.json").write_text(json.dumps(description))

    done = podman.run("--hooks-dir", folder / "hooks", "run", "--rm", "busybox", "cat", "/mnt/file")

    assert (0, "given\n") == (done.returncode, done.stdout), done.stderr + (folder / "log").read_text()
    directory, found = (folder / "log").read_text().split()
    assert "self" == found
    if podman.runtime == "pyoci":
        assert "userdata" == Path(directory).name
