"""The executable of a release runs on any Linux, and its archive is installed by unpacking it."""

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.testing.rootfs import busybox
from tests.support import installed, releases

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SUITES = ("bookworm", "trixie", "noble", "sid")
NOBODY = 65534
# Commands that need neither privileges nor procfs, and the beginning of what they print. /bundle has a config.json.
ANYWHERE = {
    ("--version",): "pyoci version ",
    ("--help",): "usage: pyoci",
    ("run", "--help"): "usage: pyoci run",
    ("features",): '{\n  "ociVersionMin"',
    ("validate", "/bundle"): "",
    ("plan", "/bundle"): "runtime: before the clone",
    ("spec", "--bundle", "/new"): "",
}
# As ./demo does, in short.
HELLO = """#!/bin/sh
echo "Hello from $(cat /proc/sys/kernel/hostname)."
echo "I am process $$, as $(id -u)."
touch /file 2>/dev/null || echo "I can't write to /."
"""
SAYS = "Hello from demo.\nI am process 1, as 0.\nI can't write to /.\n"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive."""
    return releases.unpacked(tmp_path_factory.mktemp("archive"))


# --- a system of its own


class Root:
    """A root directory in a file system of its own, where at first only the executable and two directories are."""

    def __init__(self, directory: Path, executable: Path) -> None:
        self.path = directory
        shutil.copy(executable, directory / "pyoci")
        for name in ("bundle", "new"):
            (directory / name).mkdir()
            (directory / name).chmod(0o777)

    def run(self, *arguments: str, user: int = 0, mounts: str = "") -> subprocess.CompletedProcess[str]:
        """Run pyoci there, as a user, after a shell outside has run `mounts` in the root directory."""
        script = f'cd "$1" && shift && {mounts or "true"} && exec "$@"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", str(self.path)]
        command += ["/usr/sbin/chroot", f"--userspec={user}:{user}", ".", "/pyoci", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={}, timeout=60)


def empty(directory: Path) -> None:
    """Leave the directory empty."""


def musl(directory: Path) -> None:
    """The C library musl, and no other."""
    unpacked = installed.CHECKOUT / "build/musl"
    subprocess.run([installed.CHECKOUT / "tools/unpack", "trixie", "musl", unpacked], check=True)
    shutil.copytree(unpacked, directory, symlinks=True, dirs_exist_ok=True)
    assert list(directory.rglob("ld-musl-*"))
    assert not list(directory.rglob("libc.so.6"))


@pytest.fixture(params=[empty, musl])
def root(request: pytest.FixtureRequest, tmp_path: Path, prefix: Path) -> Iterator[Root]:
    """Such a root, on a tmpfs."""
    directory = tmp_path / "root"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory], check=True)
    try:
        request.param(directory)
        yield Root(directory, prefix / "bin/pyoci")
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def configure(root: Root) -> None:
    """Put the bundle of ./demo there: what `pyoci spec` writes, with another program."""
    assert 0 == root.run("spec", "--bundle", "/bundle").returncode
    file = root.path / "bundle/config.json"
    config = json.loads(file.read_text())
    config["hostname"] = "demo"
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/bin/hello"]
    file.write_text(json.dumps(config))
    busybox(root.path / "bundle/rootfs")
    (root.path / "bundle/rootfs/bin/hello").write_text(HELLO)
    (root.path / "bundle/rootfs/bin/hello").chmod(0o755)


# --- alone


@pytest.mark.parametrize("user", [0, NOBODY])
@pytest.mark.parametrize("mounts", ["", "mount -o remount,bind,ro ."], ids=["writable", "read-only"])
def test_commands_that_need_no_kernel_interface(root: Root, user: int, mounts: str) -> None:
    """They run without /proc, libraries and configuration, for any user, also where nothing can be written."""
    configure(root)
    for arguments, begins in ANYWHERE.items():
        done = root.run(*arguments, user=user, mounts=mounts)
        if mounts and arguments[0] == "spec":
            assert (1, True) == (done.returncode, "read-only file system" in done.stderr)
            continue
        assert (0, "") == (done.returncode, done.stderr), arguments
        assert done.stdout.startswith(begins), arguments
        (root.path / "new/config.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "arguments", [("run", "--bundle", "/bundle", "demo"), ("create", "--bundle", "/bundle", "demo")]
)
def test_commands_name_what_is_missing(root: Root, arguments: tuple[str, ...]) -> None:
    """A container needs procfs, and nothing is left of one that could not be created."""
    configure(root)
    (root.path / "run").mkdir()

    done = root.run(*arguments)

    assert (1, "") == (done.returncode, done.stdout)
    assert "no procfs is mounted on /proc (hint: mount -t proc proc /proc)" in done.stderr
    assert 1 == done.stderr.count("\n")
    assert [] == [str(path) for path in (root.path / "run").rglob("demo")]


def test_container_in_a_root_with_nothing_else(root: Root) -> None:
    """What ./demo runs, with the executable and what the kernel provides: procfs, cgroups and /dev/null."""
    configure(root)
    cgroups = subprocess.check_output(["findmnt", "-n", "-t", "cgroup2", "-o", "TARGET"], text=True).split()[0]
    # a new mount of cgroup2 would change the options of the host's
    needed = f"mkdir -p proc sys/fs/cgroup run dev && mount -t proc proc proc && mount --bind {cgroups} sys/fs/cgroup"
    needed += " && touch dev/null && mount --bind /dev/null dev/null"

    done = root.run("run", "--bundle", "/bundle", f"demo-{os.getpid()}", mounts=needed)

    assert (SAYS, "", 0) == (done.stdout, done.stderr, done.returncode)
    assert [] == [path.name for path in (root.path / "run/pyoci").iterdir()]


def test_executable_of_another_user_is_the_same(root: Root) -> None:
    """It has no path of the user who built it, and every user may execute it."""
    content = (root.path / "pyoci").read_bytes()
    assert not re.search(rb"/home/|/tmp/(sources|venv|in|out)\b|\.pyenv", content)
    assert stat.S_IMODE((root.path / "pyoci").stat().st_mode) == 0o755


# --- in a distribution


@pytest.mark.parametrize("suite", SUITES)
def test_archive_runs_in_each_distribution(suite: str) -> None:
    """Unpacked below /usr/local, it runs Docker's container, and brings manual pages and completion. rm removes it."""
    introductions = (
        "In the directory with the archive and `SHA256SUMS`",
        "To upgrade, rename the new executable over the old one, then copy the rest",
        "To uninstall",
    )
    install, upgrade, uninstall = (
        installed.commands(each).replace("pyoci-0.1.0-linux-x86_64", releases.NAME) for each in introductions
    )
    with installed.Root(suite, *installed.SHELLS_AND_MANUAL, "xz-utils") as system:
        system.copy(*(releases.made() / name for name in (f"{releases.NAME}.tar.xz", "SHA256SUMS")))
        bundle = installed.bundle(system)
        before = system.files()
        system.run("sh", "-euc", install, directory="/srv")
        words = {"installed", *installed.use(system, bundle)}
        system.run("sh", "-euc", upgrade, directory="/srv")
        system.run("sh", "-euc", f"{uninstall}\nrm -r {releases.NAME}", directory="/srv")
        after = system.files()
        theirs = ("/var/cache/man/", f"{bundle}/")  # man's, and mount points that the container's runtime has made
        changed = {path for path, _ in before.items() ^ after.items() if not path.startswith(theirs)}

    assert set() == changed
    installed.assert_listed(installed.row("archive", suite, "—", {*words, "removed"}))
