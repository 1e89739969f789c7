"""resctrl without the hardware: a file system that behaves as the kernel's, served through FUSE.

    python3 tests/support/resctrl.py MOUNTPOINT     mounts it and serves it until it is unmounted

As in the kernel, mkdir makes a group with its files, rmdir removes it with them and gives its processes to the default
group, a line of schemata is checked and merged, the reason of a failure is in info/last_cmd_status, and there are only
so many groups. The machine has two L3 caches with 11 ways each, and memory bandwidth in steps of 10 %.

What it can't be is a `resctrl` in /proc/self/mountinfo: `disguise` gives a command one that says so. `Tree` alone is
the same without FUSE.
"""

import ctypes
import errno
import os
import struct
import subprocess
import sys
import time

GROUPS = 4  # classes of service, the default one among them
MONITORS = 4
FULL = {"MB": {0: 100, 1: 100}, "L3": {0: 0x7FF, 1: 0x7FF}}
STEP = 10

# --- what is in it


class Refused(Exception):
    """An operation fails with this errno; the text is for last_cmd_status."""

    def __init__(self, number, status="ok") -> None:
        super().__init__(number)
        self.number = number
        self.status = status


class Group:
    """A control group, or with a parent a monitoring group of it."""

    def __init__(self, parent=None) -> None:
        self.parent = parent
        self.tasks = []
        self.monitors = {}
        self.schemata = {resource: dict(domains) for resource, domains in FULL.items()}

    def read_schemata(self):
        lines = []
        for resource, domains in self.schemata.items():
            form = "{}={:x}" if resource == "L3" else "{}={:4d}"
            lines.append(f"{resource:>6}:" + ";".join(form.format(*domain) for domain in domains.items()) + "\n")
        return "".join(lines)

    def write_schemata(self, text) -> None:
        if not text.endswith("\n"):
            raise Refused(errno.EINVAL, "Missing newline\n")
        new = {resource: dict(domains) for resource, domains in self.schemata.items()}
        for line in text[:-1].split("\n"):
            resource, _, rest = line.partition(":")
            resource = resource.strip()
            if resource not in new:
                raise Refused(errno.EINVAL, f"Unknown or unsupported resource name '{resource}'\n")
            for assignment in rest.split(";"):
                domain, _, value = assignment.partition("=")
                if not domain.strip().isdigit() or int(domain) not in new[resource]:
                    raise Refused(errno.EINVAL, f"Unknown domain '{domain}'\n")
                new[resource][int(domain)] = _mask(value) if resource == "L3" else _bandwidth(value)
        self.schemata = new


def _mask(text):
    try:
        value = int(text, 16)
    except ValueError:
        raise Refused(errno.EINVAL, f"Non-hex character in the mask {text}\n") from None
    lowest = value & -value
    if not 0 < value <= 0x7FF:
        raise Refused(errno.EINVAL, f"Mask {value:x} is out of range\n")
    if (value // lowest + 1) & (value // lowest):
        raise Refused(errno.EINVAL, f"The mask {value:x} has non-consecutive 1-bits\n")
    return value


def _bandwidth(text):
    if not text.strip().isdigit() or not 10 <= int(text) <= 100:
        raise Refused(errno.EINVAL, f"MB value {text} out of range [10,100]\n")
    return -(-int(text) // STEP) * STEP


class Tree:
    """The file system: paths → what they are. Directories of groups are the only ones that come and go."""

    def __init__(self) -> None:
        self.default = Group()
        self.groups = {"": self.default}
        self.status = "ok\n"

    def find(self, path):
        """The directory's entries as {name: is it a directory}, or a file's (read, write); None if there is nothing."""
        parts = [part for part in path.split("/") if part]
        if parts[:1] == ["info"]:
            return self._info(parts[1:])
        name = "" if not parts or (parts[0] in ("mon_groups", "schemata", "tasks")) else parts.pop(0)
        if name not in self.groups:
            return None
        group = self.groups[name]
        if parts[:1] == ["mon_groups"]:
            if len(parts) == 1:
                return dict.fromkeys(group.monitors, True)
            if parts[1] not in group.monitors:
                return None
            group, parts = group.monitors[parts[1]], parts[2:]
        if not parts:
            own = {"tasks": False} if group.parent else {"tasks": False, "schemata": False, "mon_groups": True}
            top = {"info": True, **{other: True for other in self.groups if other}} if group is self.default else {}
            return own | top
        if parts == ["tasks"]:
            return lambda: "".join(f"{pid}\n" for pid in group.tasks if _lives(pid)), lambda text: self._join(
                group, text
            )
        if parts == ["schemata"] and not group.parent:
            return group.read_schemata, group.write_schemata
        return None

    def _info(self, parts):
        if parts == ["last_cmd_status"]:
            return lambda: self.status, None
        if parts == ["MB", "bandwidth_gran"]:
            return lambda: f"{STEP}\n", None
        return {(): {"last_cmd_status": False, "MB": True}, ("MB",): {"bandwidth_gran": False}}.get(tuple(parts))

    def _join(self, group, text) -> None:
        pid = int(text)
        if not _lives(pid):
            raise Refused(errno.ESRCH, f"No task {pid}\n")
        if group.parent and pid not in group.parent.tasks:
            raise Refused(errno.EINVAL, "Can't move task to different control group\n")
        left = group.parent.monitors.values() if group.parent else [
            each for other in self.groups.values() for each in (other, *other.monitors.values())
        ]  # fmt: skip
        for other in left:
            if pid in other.tasks:
                other.tasks.remove(pid)
        group.tasks.append(pid)

    def mkdir(self, path) -> None:
        parent, _, name = path.rpartition("/")
        if parent == "":
            if len(self.groups) == GROUPS:
                raise Refused(errno.ENOSPC, "Out of CLOSIDs\n")
            self.groups[name] = Group()
            return
        owner, _, last = parent.rpartition("/")
        if last != "mon_groups":
            raise Refused(errno.EPERM)
        group = self.groups[owner.strip("/")]
        if sum(len(each.monitors) for each in self.groups.values()) == MONITORS:
            raise Refused(errno.ENOSPC, "Out of RMIDs\n")
        group.monitors[name] = Group(parent=group)

    def rmdir(self, path) -> None:
        parent, _, name = path.rpartition("/")
        if parent == "" and name in self.groups:
            self.default.tasks += self.groups.pop(name).tasks
            return
        owner, _, last = parent.rpartition("/")
        if last != "mon_groups":
            raise Refused(errno.EPERM)
        del self.groups[owner.strip("/")].monitors[name]


def _lives(pid):
    return os.path.exists(f"/proc/{pid}")


# --- FUSE, <linux/fuse.h>

IN = struct.Struct("=IIQQIIII")
OUT = struct.Struct("=IiQ")
ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, RMDIR, OPEN, READ, WRITE, STATFS, RELEASE = (
    1,
    2,
    3,
    4,
    9,
    11,
    14,
    15,
    16,
    17,
    18,
)
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 38, 42
DIRECT_IO = 1  # a file has no size, as in the kernel


class Server:
    """Answers the kernel's requests about a Tree, one after the other."""

    def __init__(self, fd, tree) -> None:
        self.fd = fd
        self.tree = tree
        self.paths = {1: ""}
        self.numbers = {"": 1}

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self.fd, 1 << 17)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, opcode, unique, node, *_ = IN.unpack_from(request)
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            try:
                answer, number = self.answer(opcode, self.paths.get(node, ""), request[IN.size :]), 0
                if opcode in (MKDIR, RMDIR, WRITE):
                    self.tree.status = "ok\n"
            except Refused as refused:
                answer, number = b"", -refused.number
                if refused.status != "ok":
                    self.tree.status = refused.status
            os.write(self.fd, OUT.pack(OUT.size + len(answer), number, unique) + answer)

    def answer(self, opcode, path, data):
        if opcode == INIT:
            major, minor, readahead, _ = struct.unpack_from("=IIII", data)
            assert major == 7
            return struct.pack("=IIIIHHIIHHI7I", 7, min(minor, 31), readahead, 0, 8, 8, 1 << 16, 1, 0, 0, 0, *[0] * 7)
        if opcode in (LOOKUP, MKDIR, RMDIR):
            child = f"{path}/{data[8 if opcode == MKDIR else 0 :].split(bytes(1))[0].decode()}"
            there = self.tree.find(child) is not None
            if there == (opcode == MKDIR):
                raise Refused(errno.EEXIST if there else errno.ENOENT)
            if opcode == MKDIR:
                self.tree.mkdir(child)
            if opcode == RMDIR:
                self.tree.rmdir(child)
                return b""
            number = self.numbers.setdefault(child, len(self.numbers) + 1)
            self.paths[number] = child
            return struct.pack("=QQQQII", number, 0, 0, 0, 0, 0) + self.attributes(child)
        if opcode in (GETATTR, SETATTR):
            return struct.pack("=QII", 0, 0, 0) + self.attributes(path)
        if opcode in (OPEN, OPENDIR):
            self.attributes(path)
            return struct.pack("=QII", 0, DIRECT_IO if opcode == OPEN else 0, 0)
        if opcode == STATFS:
            return struct.pack("=QQQQQIIII6I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0, *[0] * 6)
        if opcode in (READ, READDIR, WRITE):
            return self.contents(opcode, path, data)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, DESTROY):
            return b""
        raise Refused(errno.ENOSYS)

    def contents(self, opcode, path, data):
        _, offset, size = struct.unpack_from("=QQI", data)
        what = self.tree.find(path)
        if what is None:
            raise Refused(errno.ENODEV)
        if opcode == READ:
            return what[0]().encode()[offset : offset + size]
        if opcode == WRITE:
            if what[1] is None:
                raise Refused(errno.EPERM)
            what[1](data[40 : 40 + size].decode())
            return struct.pack("=II", size, 0)
        listing = b""
        for number, (name, directory) in enumerate(what.items(), 1):
            if number > offset:
                entry = struct.pack("=QQII", 1 << 32, number, len(name), 4 if directory else 8) + name.encode()
                listing += entry + bytes(-len(entry) % 8)
        return listing[:size]

    def attributes(self, path):
        what = self.tree.find(path)
        if what is None:
            raise Refused(errno.ENOENT)
        mode = 0o40755 if isinstance(what, dict) else 0o100644
        return ATTRIBUTES.pack(self.numbers[path], 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def main(mountpoint) -> None:
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"resctrl", os.fsencode(mountpoint), b"fuse", 0, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), "cannot mount", mountpoint)
    Server(fd, Tree()).serve()


# --- for tests

DISGUISE = """
sed '\\| {mountpoint} |s| - [^ ]* | - resctrl |' /proc/self/mountinfo >{fake} && mount --bind {fake} /proc/$$/mountinfo &&
exec "$@"
"""


def is_possible():
    """Whether FUSE is there, and this process may use it."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError:
        return False
    return True


def disguise(mountpoint, fake):
    """Words in front of a command, for which a mount is one of resctrl in /proc/self/mountinfo. `fake` is a file for
    that.
    """
    script = DISGUISE.format(mountpoint=mountpoint, fake=fake)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]


class Resctrl:
    """The file system, mounted."""

    def __init__(self, folder) -> None:
        self.path = folder / "resctrl"
        self.path.mkdir()
        self._server = subprocess.Popen([sys.executable, __file__, self.path])
        deadline = time.monotonic() + 30
        while not os.path.ismount(self.path):
            assert self._server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def read(self, name):
        return (self.path / name).read_text()

    def tree(self):
        """Every file with its contents, but for what the default group gets back, and the last status."""
        files = [path for path in sorted(self.path.rglob("*")) if path.is_file() and path.name != "last_cmd_status"]
        return {str(path.relative_to(self.path)): path.read_text() for path in files if path != self.path / "tasks"}

    def close(self) -> None:
        subprocess.run(["umount", self.path], check=True)
        assert self._server.wait(30) == 0


if __name__ == "__main__":
    main(sys.argv[1])
