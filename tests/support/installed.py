"""Systems to install pyoci in, what an installed pyoci can do there, and the table of docs/install.md.

with installed.Root("trixie", "man-db", "bash-completion") as root:
    before = root.files()
    root.run("apt-get", "install", …)
    bundle = installed.bundle(root)
    words = installed.use(root, bundle)
    root.run("apt-get", "purge", …)
    assert before == root.files()
installed.assert_listed(installed.row("Debian package", "trixie", "—", {"installed", *words, "removed"}))
"""

import json
import os
import platform
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from tests.support import rootfs

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs/install.md"
USE = CHECKOUT / "tests/packages/use"
CONFIG = CHECKOUT / "tests/data/bundles/docker-default.json"

SYSTEMS = {
    "bookworm": "Debian 12",
    "trixie": "Debian 13",
    "sid": "Debian sid",
    "noble": "Ubuntu 24.04",
}
# The columns of the table after way, system, Python and architecture.
WORDS = ("installed", "ran", "validated", "manual", "completed", "removed")
SHELLS_AND_MANUAL = ("bash", "bash-completion", "man-db")  # with these packages, `use` prints all of its words
TIMEOUT = 900  # seconds for one command in a root: it may compile


def commands(introduction: str) -> str:
    """The code block of docs/install.md after a line."""
    block = PAGE.read_text().partition(f"\n{introduction}:\n\n")[2].partition("\n\n")[0]
    assert block.startswith("    "), introduction
    return re.sub("(?m)^    ", "", block)


# Makes an overlay on the directory $1 the root of a mount namespace, and keeps it until standard input ends. What a
# command writes is in a tmpfs, and vanishes with the namespace.
ENTER = """
lower=$1
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$lower,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
for each in proc sys dev; do mount --rbind /$each $each; done
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs run
pivot_root . .
umount -l .
cd /
echo ready
exec cat
"""
NOT_COMPARED = {"proc", "sys", "dev", "tmp", "run"}


class Root:
    """A system of its own, without the checkout: a copy-on-write view of a root of tools/debian.

    Commands run as root in its mount namespace, with the host's /proc, /sys, /dev and network.
    """

    def __init__(self, suite: str, *packages: str) -> None:
        """Make the system.

        Args:
            suite: A key of SYSTEMS.
            packages: The packages that it has, with what they depend on.
        """
        self.suite = suite
        subprocess.run([CHECKOUT / "tools/debian", suite, *packages, "--", "true"], check=True)
        lower = Path(os.environ.get("PYOCI_DEBIAN", CHECKOUT / "build/debian"), suite)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-euc", ENTER, "bash", lower],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert b"ready\n" == self._holder.stdout.readline()
        self.path = Path(f"/proc/{self._holder.pid}/root")
        """The root directory, as the host's processes reach it."""

    def run(
        self,
        *command: "str | Path",
        directory: str = "/root",
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command as root, with nothing of the caller's environment. Its errors go to `stdout`, too.

        Raises AssertionError with the output if `check` is set and the command fails.
        """
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **(environment or {}),
        }
        pid = self._holder.pid
        # --wd is a path of the host
        enter = ["nsenter", f"--target={pid}", "--mount", "--root", f"--wd={self.path}{directory}", "--"]
        words = [*enter, "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{' '.join(map(str, command))}: {done.stdout}"
        return done

    def copy(self, *files: Path, directory: str = "/srv") -> list[str]:
        """Copy files of the host into a directory of the system. Return their paths there."""
        target = Path(f"{self.path}{directory}")
        target.mkdir(parents=True, exist_ok=True)
        return [f"{directory}/{Path(shutil.copy(file, target)).name}" for file in files]

    def files(self) -> dict[str, str]:
        """Describe every file: its path, and its mode and size, or where it links to.

        Leaves out directories: programs that remove files often leave those that they share with others.
        """
        found = {}
        for directory, names, files in os.walk(self.path):
            if Path(directory) == self.path:
                names[:] = [name for name in names if name not in NOT_COMPARED]
            links = [name for name in names if os.path.islink(os.path.join(directory, name))]
            for name in (*files, *links):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                is_link = stat.S_ISLNK(status.st_mode)
                text = os.readlink(path) if is_link else f"{status.st_mode:o} {status.st_size}"
                found[path.removeprefix(str(self.path))] = text
        return found

    def close(self) -> None:
        """End the system, and everything in it."""
        with self._holder:
            assert self._holder.stdin is not None
            self._holder.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def bundle(root: Root, directory: str = "/srv/bundle") -> str:
    """Make a bundle with the config that Docker sends and a busybox, and return its path in the system.

    It needs a busybox on the host. Its file `expected` has what the container prints.
    """
    write_bundle(Path(f"{root.path}{directory}"), directory)
    return directory


def write_bundle(folder: Path, directory: str) -> None:
    """Write this bundle to the new directory `folder`, which another system has as `directory`."""
    rootfs.busybox(folder / "rootfs")
    for name in ("resolv.conf", "hostname", "hosts"):
        (folder / name).write_text(f"{name} of the engine\n")
    text = CONFIG.read_text().replace("@ROOTFS@", f"{directory}/rootfs").replace("@STATE@", directory)
    config = json.loads(text)
    config["linux"]["cgroupsPath"] = f"/pyoci-test-{uuid4().hex}"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "expected").write_text(config["process"]["args"][-1] + "\n")


def use(root: Root, bundle: str, *executable: str, environment: Mapping[str, str] | None = None) -> set[str]:
    """Run tests/packages/use in the system. Return the words that it prints: what an installed pyoci did.

    `executable` is the path of pyoci, by default the one in PATH.
    """
    (script,) = root.copy(USE, directory="/tmp")
    words = root.run("sh", script, bundle, *executable, environment=environment).stdout.split()
    assert set(words) <= set(WORDS), words
    return set(words)


def in_table(way: str, column: int) -> str:
    """The command of docs/install.md that upgrades (1) or uninstalls (2)."""
    (row,) = re.findall(rf"(?m)^\| {way} \| `(.*)` \| `(.*)` \|$", PAGE.read_text())
    return str(row[column - 1])


def row(way: str, suite: str, python: str, words: Iterable[str], architecture: str = "") -> str:
    """Return a row of the table in docs/install.md.

    Args:
        way: How pyoci was installed, such as `pipx, wheel`.
        suite: A key of SYSTEMS, or the name of another system.
        python: The version of Python that pyoci was installed for; `—` if it needs none.
        words: Those of WORDS that the test has seen.
        architecture: As uname(1) prints it; by default the host's.
    """
    seen = set(words)
    cells = ["yes" if word in seen else "—" for word in WORDS]
    return f"| {' | '.join([way, SYSTEMS.get(suite, suite), python, architecture or platform.machine(), *cells])} |"


def assert_listed(row: str) -> None:
    """Fail unless docs/install.md has this row."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    way = row.split(" | ", maxsplit=1)[0]
    assert row in rows, f"docs/install.md lacks\n{row}\nand has\n" + "\n".join(line for line in rows if way in line)
