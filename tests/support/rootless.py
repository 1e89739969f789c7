"""The runtime without power over the host: started by a plain user, and as root of an engine's user namespace.

Both leave this host's files alone: who the user is, and which ids are assigned to it, say files in a mount namespace of
the command's own.
"""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.runtime import Bundle, Host, Runtime, wait_for

UID = 43210  # unused on any host; also the group's id
FIRST, COUNT = 200000, 65536  # the ids that are assigned to it
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_AS_USER = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
# Its own files of users and ids, and what a test wants to have elsewhere; then the command.
_PRIVATE = """
mount --make-rprivate /
for file in passwd subuid subgid; do mount --bind "$1/$file" "/etc/$file"; done
eval "$2"
shift 2
exec "$@"
"""


def give(path: Path, uid: int) -> None:
    """Make `uid` the owner of a tree."""
    for below in (path, *path.rglob("*")):
        os.chown(below, uid, uid, follow_symlinks=False)


class Plain(Runtime):
    """The executable as a plain user starts it, with a state root where it looks for one by itself."""

    def __init__(self, executable: str, folder: Path, bundle: Bundle, host: Host) -> None:
        super().__init__(executable, folder, bundle, host)
        self.runtime_dir = folder / "runtime"
        self.root = self.runtime_dir / "pyoci"
        self.before = ""  # a script which runs as root before each command, in its mount namespace
        self.cgroup = ""  # where its commands run, if not in the tests' own
        self.identity: tuple[str, ...] = _AS_USER  # the words that give up root's
        self._etc = folder / "etc"
        self._etc.mkdir()
        self.runtime_dir.mkdir(mode=0o700)
        (self._etc / "passwd").write_text(f"root:x:0:0::/:/bin/sh\nsomebody:x:{UID}:{UID}::/:/bin/sh\n")
        for name in ("subuid", "subgid"):
            (self._etc / name).write_text(f"somebody:{FIRST}:{COUNT}\n")
        for path in (folder, self.runtime_dir):
            os.chown(path, UID, UID)
        give(bundle.folder, UID)
        bundle.namespace("user")
        self.map_self()

    def map_self(self) -> None:
        """Container root is the user, and no other id is mapped."""
        self.bundle.linux |= {kind: [{"containerID": 0, "hostID": UID, "size": 1}] for kind in _MAPPINGS}

    def map_ranges(self, *ranges: tuple[int, int, int]) -> None:
        """More than that: (in the container, on the host, how many); without any, all that is assigned to it."""
        ranges = ranges or ((0, UID, 1), (1, FIRST, COUNT))
        lines = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges]
        self.bundle.linux |= dict.fromkeys(_MAPPINGS, lines)

    def command(self, *words: object, log: object = None) -> list[str]:
        """The command line of `pyoci WORDS`. Another log than the test's is where only root can write."""
        options = ["--log", self.log, "--log-format", "json", "--log-level", "warning"]
        if self.identity != _AS_USER:  # the default may be the state root of this host's root
            options += ["--root", self.root]
        return self.as_user(self.executable, *options, *words)

    def as_user(self, *words: object, environment: Iterable[str] = ()) -> list[str]:
        """A command line of the user's."""
        enter = f"echo $$ > {self.cgroup}/cgroup.procs\n" if self.cgroup else ""
        return [
            *("unshare", "--mount", "sh", "-ec", enter + _PRIVATE, "sh", str(self._etc), self.before),
            *("env", "-i", f"PATH={_PATH}", f"XDG_RUNTIME_DIR={self.runtime_dir}", *environment),
            *self.identity,
            *map(str, words),
        ]


_MAPPINGS = ("uidMappings", "gidMappings")


class Inside(Runtime):
    """The executable as an engine without privileges starts it: root of the engine's user namespace, with its
    mounts.
    """

    def __init__(
        self, executable: str, folder: Path, bundle: Bundle, host: Host, *, denies_setgroups: bool = False
    ) -> None:
        super().__init__(executable, folder, bundle, host)
        self.denies_setgroups = denies_setgroups
        owner = UID if denies_setgroups else FIRST
        os.chown(folder, owner, owner)
        give(bundle.folder, owner)
        if denies_setgroups:
            words = [*_AS_USER, "unshare", "--user", "--mount", "--map-root-user"]
        else:
            words = ["unshare", "--user", "--mount"]
        self._holder = subprocess.Popen([*words, "sh", "-c", "read go; exec sleep 1000"], stdin=subprocess.PIPE)
        self.pid_of_holder = self._holder.pid
        proc = Path(f"/proc/{self._holder.pid}")
        wait_for(lambda: (proc / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink())
        if not denies_setgroups:
            for kind in ("uid", "gid"):
                (proc / f"{kind}_map").write_text(f"0 {FIRST} {COUNT}\n")
        wait_for(lambda: (proc / "gid_map").read_text() != "")
        host.ours(self._holder.pid)

    def command(self, *words: object, log: object = None) -> list[str]:
        """The command line of `pyoci WORDS`. Another log than the test's is where only root can write."""
        return self.inside(*super().command("--log-level", "warning", *words))

    def inside(self, *words: object) -> list[str]:
        """A command line of the engine's."""
        enter = ["nsenter", f"--target={self._holder.pid}", "--user", "--mount"]
        if self.denies_setgroups:
            return [*_AS_USER, *enter, "--preserve-credentials", *map(str, words)]
        return [*enter, "--setuid=0", "--setgid=0", *map(str, words)]

    def shell_of_engine(self, script: str, **options: Any) -> str:
        """What a script prints that the engine runs."""
        return subprocess.check_output(self.inside("sh", "-ec", script), text=True, **options)

    def end(self) -> None:
        """End the engine, and with it its mounts."""
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdin
        self._holder.stdin.close()
