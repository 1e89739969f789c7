"""Root filesystems for tests: a busybox one, made in an instant, and a real Debian, made once and kept."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from pyoci.testing.rootfs import busybox  # noqa: F401 - beside the other root filesystems

SERVERS = ("nginx-light", "redis-server")
CACHE = Path(__file__).resolve().parents[2] / "build" / "rootfs"


def debian(suite: str = "bookworm") -> Path:
    """A minimal Debian below build/, made by debootstrap at the first use; not to be written to.

    Other callers wait for it. Needs root, and the network once.
    """
    finished = CACHE / f"debian-{suite}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            if not shutil.which("debootstrap"):
                _apt_get("-q", "update")
                _apt_get("-q", "-y", "--no-install-recommends", "install", "debootstrap")
            unfinished = CACHE / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            # it mounts procfs meanwhile, which a test that looks at the host's mounts would see
            private = ["unshare", "--mount", "--propagation", "private"]
            _run(*private, "debootstrap", "--variant=minbase", suite, str(unfinished), *_mirror())
            unfinished.rename(finished)
    return finished


SERVER = CACHE / "server.tar"  # for images that engines import
# What official images leave out, too.
_LEFT_OUT = ("./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./var/cache", "./var/lib/apt/lists")


def server() -> Path:
    """An archive of that Debian with nginx and redis-server, made at the first use. Needs root, and the network
    once.
    """
    root = debian()
    with (CACHE / "server-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not SERVER.exists():
            copy, unfinished = CACHE / "unfinished-server", CACHE / "unfinished-server.tar"
            shutil.rmtree(copy, ignore_errors=True)
            _run("cp", "--archive", "--reflink=auto", str(root), str(copy))
            shutil.copy("/etc/resolv.conf", copy / "etc/resolv.conf")
            # packages must not start their servers here
            policy = copy / "usr/sbin/policy-rc.d"
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
            inside = ["chroot", str(copy), "apt-get", "-q", "-y", "-o", "Acquire::Check-Valid-Until=false"]
            _run(*inside, "update")
            _run(*inside, "--no-install-recommends", "install", *SERVERS, DEBIAN_FRONTEND="noninteractive")
            policy.unlink()
            # as in official images: what the server logs is the container's output
            for name, stream in ("access", "stdout"), ("error", "stderr"):
                log = copy / f"var/log/nginx/{name}.log"
                log.unlink(missing_ok=True)
                log.symlink_to(f"/dev/{stream}")
            left_out = [f"--exclude={path}/*" for path in _LEFT_OUT]
            _run(
                "tar",
                "--create",
                "--file",
                str(unfinished),
                "--directory",
                str(copy),
                "--numeric-owner",
                *left_out,
                ".",
            )
            unfinished.rename(SERVER)
            shutil.rmtree(copy)
    return SERVER


def _mirror() -> list[str]:
    """The one that this host takes its packages from."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    return subprocess.check_output(command, text=True).split()[:1]


def _apt_get(*arguments: str) -> None:
    _run("apt-get", *arguments, DEBIAN_FRONTEND="noninteractive")


def _run(*command: str, **environment: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert result.returncode == 0, f"{' '.join(command)}: {result.stdout[-2000:]}{result.stderr[-2000:]}"
