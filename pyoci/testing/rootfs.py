"""Root filesystems for tests, from busybox, a directory, a tar archive or an OCI image layout."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

from pyoci.client.types import StrPath
from pyoci.errors import PyociError

_DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp")


def make_rootfs(source: StrPath, directory: Path) -> Path:
    """Create a root filesystem in the new directory `directory`, and return its path.

    `source` is `busybox`, or a path: of a directory to copy, of a tar archive, or of an OCI image layout. A layout with
    several images needs `PATH:TAG`. Without root, files are the user's, and device nodes are left out.
    """
    if os.fspath(source) == "busybox":
        return busybox(directory)
    from pyoci.testing.layers import unpack_archive, unpack_image

    path, tag = Path(source), ""
    if not path.exists():
        name, _, tag = os.fspath(source).rpartition(":")
        path = Path(name or source)
    if (path / "oci-layout").exists():
        unpack_image(path, directory, tag)
    elif path.is_dir():
        _copy(path, directory)
    elif path.exists() and not tag:
        unpack_archive(path, directory)
    else:
        raise PyociError(f"cannot create a root filesystem: {source} does not exist")
    return directory


def busybox(directory: Path) -> Path:
    """Create a root filesystem of busybox, with all its applets. Raises PyociError if it is not installed."""
    program, applets = _busybox()
    for name in _DIRECTORIES:
        (directory / name).mkdir(parents=True)
    shutil.copy(program, directory / "bin/busybox")
    binaries = os.open(directory / "bin", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for applet in applets:
            os.symlink("busybox", applet, dir_fd=binaries)
    finally:
        os.close(binaries)
    (directory / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (directory / "etc/group").write_text("root:x:0:\n")
    return directory


@functools.cache
def _busybox() -> tuple[str, list[str]]:
    """A static busybox and the names of its applets."""
    program = shutil.which("busybox")
    hint = "install busybox-static"
    if program is None:
        raise PyociError("cannot create a root filesystem: busybox is not installed", hint=hint)
    with open(program, "rb") as file:
        if b"/ld-" in file.read(4096):  # the name of an ELF interpreter
            raise PyociError(f"cannot create a root filesystem: {program} needs shared libraries", hint=hint)
    names = subprocess.check_output([program, "--list"], text=True).split()
    return program, [name for name in names if name != "busybox"]


def _copy(source: Path, directory: Path) -> None:
    directory.mkdir(parents=True)
    command = ["cp", "--archive", "--reflink=auto", f"{source}/.", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PyociError(f"cannot create a root filesystem: {result.stderr.strip()}")
