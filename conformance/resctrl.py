"""A resctrl filesystem for hosts that have none: a tmpfs, and answers to the runtime's system calls that make it one.

Few processors have Intel RDT, and few machines in which tests run. The runtime is watched (`notify.watch`): it finds
the tmpfs in mountinfo and statfs(2) as a resctrl, mkdir(2) makes a group with its files, rmdir(2) removes one with
them, and every line that is written to a `schemata` is kept in order.
"""

import errno
import os
import re
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import host, notify
from conformance.runtime import descendants

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.runtime import Container
    from conformance.trial import Trial

ROOT = Path("/sys/fs/resctrl")
MAGIC = 0x7655821  # RDTGROUP_SUPER_MAGIC
AT_REMOVEDIR = 0x200
WATCHED = "open openat openat2 statfs fstatfs mkdir mkdirat rmdir unlink unlinkat".split()
FLAGS = "cqm cqm_llc cqm_occup_llc cqm_mbm_total cqm_mbm_local rdt_a cat_l3 mba"  # of such a processor, in cpuinfo
DEFAULT = {"L3": "0=ff", "MB": "0=100"}
MON_GROUPS = "mon_groups"


class Resctrl:
    """The pretended filesystem. Groups are named by their directory, "" is the default one.

    `deny` is a function that is called for each mkdir, and can reject the directory.
    """

    def __init__(self, t: "Trial", deny: "Callable[[str], bool]" = lambda name: False) -> None:
        notify.require_notification()
        self.deny = deny
        self.tree = t.folder / "sys-fs" / "resctrl"
        self.log = t.folder / "schemata-log"
        self.log.mkdir()
        self._mount(t.folder / "sys-fs")
        for name, files in {
            "info/L3": {"cbm_mask": "ff", "min_cbm_bits": "1", "num_closids": "16", "shareable_bits": "0"},
            "info/MB": {"bandwidth_gran": "10", "min_bandwidth": "10", "num_closids": "8", "delay_linear": "1"},
            "info/L3_MON": {"mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes", "num_rmids": "64"},
            "info": {"last_cmd_status": "ok"},
        }.items():
            (ROOT / name).mkdir(parents=True, exist_ok=True)
            for file, text in files.items():
                (ROOT / name / file).write_text(f"{text}\n")
        self._fill(ROOT)
        self._families: list[tuple[str, set[int]]] = []  # of processes, whenever a `tasks` was opened to write to it
        notify.watch(t.runtime, t.probe, WATCHED, self._answer)

    def _mount(self, fs: Path) -> None:
        """A tmpfs at /sys/fs/resctrl, of which /sys may know nothing; the rest of /sys/fs stays."""
        for entry in Path("/sys/fs").iterdir():
            if entry.is_dir():
                (fs / entry.name).mkdir(parents=True)
                if entry.name != "resctrl":
                    host.mount(str(entry), fs / entry.name, "", host.MS_BIND | host.MS_REC)
        self.tree.mkdir(exist_ok=True)
        host.mount("resctrl", self.tree, "tmpfs")
        host.mount(str(fs), "/sys/fs", "", host.MS_BIND | host.MS_REC)

    def _fill(self, group: Path) -> None:
        for name in ("tasks", "schemata", "cpus", "mode", "size"):
            (group / name).touch()
        (group / MON_GROUPS).mkdir(exist_ok=True)

    # --- for tests

    def make(self, name: str, **schemata: str) -> None:
        """A group that another process has made, with this in its schemata (L3, MB)."""
        (ROOT / name).mkdir()
        self._fill(ROOT / name)
        for resource, value in schemata.items():
            self._log(name).open("a").write(f"{resource}:{value}\n")

    def groups(self) -> "list[str]":
        return sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("info", MON_GROUPS))

    def monitored(self, group: str = "") -> "list[str]":
        """Names of the monitoring groups in a group."""
        return sorted(path.name for path in (ROOT / group / MON_GROUPS).iterdir())

    def drop(self, name: str) -> None:
        """Remove a group that a runtime has left."""
        shutil.rmtree(ROOT / name)

    def holds(self, group: str, container: "Container") -> bool:
        """Whether the container's first process is in a group: itself, or because one was that had it made, as children
        are in the group of their parent. That one lived, and was the runtime's, when the runtime opened `tasks`, and
        the container's process did not exist yet.
        """
        tasks = ROOT / group.strip("/") / "tasks"
        pids = {int(word) for word in tasks.read_text().split()} if tasks.exists() else set()
        before = [family for path, family in self._families if path == str(tasks) and container.pid not in family]
        return container.pid in pids or any(pids & family for family in before)

    def forget(self) -> None:
        """Processes written until now are of no interest."""
        self._families.clear()

    def written(self, group: str) -> "list[str]":
        """The lines that were written to its `schemata`, in order."""
        log = self._log(group)
        return [line.strip() for line in log.read_text().splitlines() if line.strip()] if log.exists() else []

    def everything(self) -> "dict[str, object]":
        """All of the tree, and all that was written."""
        files = {str(path.relative_to(ROOT)): path.read_text() if path.is_file() else None for path in ROOT.rglob("*")}
        return {**files, **{f"log of {path.name}": path.read_text() for path in self.log.iterdir()}}

    # --- for the runtime

    def _log(self, group: str) -> Path:
        return self.log / (group.replace("/", "\\") or "default")

    def _schemata(self, group: str) -> str:
        found = dict(DEFAULT)
        for line in self.written(group):
            resource, _, value = line.partition(":")
            found[resource.strip()] = value.strip()
        # as wide as L3CODE, which is how the kernel indents where the processor has CDP, whether it is on or not
        return "".join(f"{resource:>6}:{value}\n" for resource, value in found.items())

    def _answer(self, call: notify.Call) -> None:
        if os.readlink(f"/proc/{call.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            call.go_on()  # in the container
            return
        name = self._names[call.number]
        at = name in ("openat", "openat2", "mkdirat", "unlinkat")
        if name == "fstatfs":
            path = os.readlink(f"/proc/{call.pid}/fd/{call.args[0]}")
        else:
            path = self._resolve(call, call.text(int(at)), call.args[0] if at else None)
        below = path == str(ROOT) or path.startswith(f"{ROOT}/")
        if name.startswith("open"):
            self._open(call, path, self._flags(call, name), below=below)
        elif not below:
            call.go_on()
        elif name in ("statfs", "fstatfs"):
            call.put(1, struct.pack("=qqQQQQQqqqq", MAGIC, 4096, 0, 0, 0, 0, 0, 0, 255, 4096, 0).ljust(120, b"\0"))
            call.succeed()
        elif name in ("mkdir", "mkdirat"):
            self._mkdir(call, Path(path))
        else:
            is_rmdir = name == "rmdir" or (name == "unlinkat" and call.args[2] & AT_REMOVEDIR)
            self._remove(call, Path(path), rmdir=bool(is_rmdir))

    @property
    def _names(self) -> "dict[int, str]":
        return {host.syscalls()[name]: name for name in WATCHED if name in host.syscalls()}

    def _resolve(self, call: notify.Call, path: str, folder: "int | None") -> str:
        if not path.startswith("/"):
            is_cwd = folder is None or folder & 0xFFFFFFFF == 0xFFFFFF9C  # AT_FDCWD
            link = "cwd" if is_cwd else f"fd/{folder}"
            path = f"{os.readlink(f'/proc/{call.pid}/{link}')}/{path}"
        path = os.path.normpath(path)
        tree = str(self.tree)  # the same mount at another place
        return str(ROOT) + path[len(tree) :] if path == tree or path.startswith(f"{tree}/") else path

    def _flags(self, call: notify.Call, name: str) -> int:
        if name == "openat2":
            return int(struct.unpack("=Q", call.data(2, 8))[0])
        return call.args[1] if name == "open" else call.args[2]

    def _open(self, call: notify.Call, path: str, flags: int, *, below: bool) -> None:
        cloexec = bool(flags & os.O_CLOEXEC)
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        text = None
        if re.fullmatch(r"/proc/(self|thread-self|\d+)(/task/\d+)?/mountinfo", path):
            text = Path(f"/proc/{call.pid}/mountinfo").read_text().replace(" - tmpfs resctrl ", " - resctrl resctrl ")
        elif path == "/proc/mounts" or re.fullmatch(r"/proc/(self|thread-self|\d+)(/task/\d+)?/mounts", path):
            text = (
                Path(f"/proc/{call.pid}/mounts").read_text().replace(f"resctrl {ROOT} tmpfs", f"resctrl {ROOT} resctrl")
            )
        elif path == "/proc/cpuinfo":
            text = re.sub(r"^(flags\s*:.*)$", rf"\1 {FLAGS}", Path(path).read_text(), flags=re.MULTILINE)
        elif path == "/proc/filesystems":
            text = Path(path).read_text() + "nodev\tresctrl\n"
        elif below and os.path.basename(path) == "schemata" and os.path.exists(path):
            group = str(Path(path).parent.relative_to(ROOT)).replace(".", "", 1)
            if writes:
                self._give(
                    call, os.open(self._log(group), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), cloexec=cloexec
                )
                return
            text = self._schemata(group)
        elif below and writes:
            if os.path.basename(path) == "tasks" and os.path.exists(path):
                self._families.append((path, set(descendants(os.getpid()))))
                fd = os.open(path, os.O_WRONLY | os.O_APPEND)
                os.write(fd, b"\n")  # a number is whole without a newline: the kernel takes one from each write(2)
                self._give(call, fd, cloexec=cloexec)
            else:
                call.fail(errno.EACCES if os.path.exists(path) else errno.EPERM if flags & os.O_CREAT else errno.ENOENT)
            return
        if text is None:
            call.go_on()
            return
        fd = os.memfd_create("resctrl")
        os.write(fd, text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        self._give(call, fd, cloexec=cloexec)

    def _give(self, call: notify.Call, fd: int, *, cloexec: bool) -> None:
        try:
            call.give(fd, cloexec=cloexec)
        finally:
            os.close(fd)

    def _mkdir(self, call: notify.Call, path: Path) -> None:
        parts = path.relative_to(ROOT).parts
        is_group = len(parts) == 1 and parts[0] not in ("info", MON_GROUPS)
        is_monitor = len(parts) in (2, 3) and parts[-2] == MON_GROUPS
        if path.exists():
            call.fail(errno.EEXIST)
        elif not path.parent.exists():
            call.fail(errno.ENOENT)
        elif not is_group and not is_monitor:
            call.fail(errno.EPERM)
        elif self.deny(str(path.relative_to(ROOT))):
            call.fail(errno.ENOSPC)
        else:
            path.mkdir()
            if is_group:
                self._fill(path)
            else:
                (path / "tasks").touch()
                (path / "mon_data").mkdir()
            call.succeed()

    def _remove(self, call: notify.Call, path: Path, *, rmdir: bool) -> None:
        parts = path.relative_to(ROOT).parts
        is_group = (len(parts) == 1 and parts[0] not in ("info", MON_GROUPS)) or (
            len(parts) in (2, 3) and parts[-2] == MON_GROUPS
        )
        if not path.exists():
            call.fail(errno.ENOENT)
        elif not rmdir:
            call.fail(errno.EISDIR if path.is_dir() else errno.EPERM)
        elif not path.is_dir():
            call.fail(errno.ENOTDIR)
        elif not is_group:
            call.fail(errno.EPERM)
        else:
            shutil.rmtree(path)
            call.succeed()
