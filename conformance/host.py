"""Facts about this host, and what it lacks: a row that needs what is not there can't be judged.

`require_…` raises Missing with the reason; the runner reports it, and it counts neither for nor against a runtime.
"""

import ctypes
import errno
import os
import platform
import re
import signal
import socket
import struct
import subprocess
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWTIME = 0x10000000, 0x20000000, 0x40000000, 0x80
NAMESPACES = {  # type in a config: name in /proc/PID/ns, flag
    "pid": ("pid", CLONE_NEWPID), "network": ("net", CLONE_NEWNET), "mount": ("mnt", CLONE_NEWNS),
    "ipc": ("ipc", CLONE_NEWIPC), "uts": ("uts", CLONE_NEWUTS), "user": ("user", CLONE_NEWUSER),
    "cgroup": ("cgroup", CLONE_NEWCGROUP), "time": ("time", CLONE_NEWTIME),
}  # fmt: skip
MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_BIND, MS_REMOUNT = 0x4000, 1 << 18, 1 << 19, 1 << 20, 0x1000, 0x20
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOSYMFOLLOW = 1, 2, 4, 8, 0x100
MS_NOATIME, MS_NODIRATIME, MS_RELATIME, MS_STRICTATIME = 0x400, 0x800, 1 << 21, 1 << 24
MNT_DETACH = 2
AT_FDCWD, AT_EMPTY_PATH, OPEN_TREE_CLONE, MOUNT_ATTR_IDMAP = -100, 0x1000, 1, 0x100000
PR_SET_CHILD_SUBREAPER = 36

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
CAP = {name: number for number, name in enumerate(CAPABILITIES)}


class Missing(Exception):
    """This host lacks what the row needs: a reason in a few words."""


def check(result: int, what: str) -> int:
    """The result of a C function, or OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str, target: object, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    arguments = [os.fsencode(str(text)) for text in (source, target, kind)]
    check(LIBC.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data) if data else None), f"mount on {target}")


def umount(target: object) -> None:
    check(LIBC.umount2(os.fsencode(str(target)), MNT_DETACH), f"umount {target}")


def remount_bind(target: object, flags: int) -> None:
    """Give one mount these flags, and no others."""
    mount("none", target, "", MS_REMOUNT | MS_BIND | flags)


def unshare(flags: int) -> None:
    check(LIBC.unshare(flags), "unshare")


def setns(path: object, kind: int = 0) -> None:
    fd = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(LIBC.setns(fd, kind), f"setns {path}")
    finally:
        os.close(fd)


def elsewhere(pid: int, kinds: "tuple[str, ...]", act: "Callable[[], object]") -> None:
    """Do something in namespaces of a process, `kinds` as in /proc/PID/ns, without going there. OSError if it fails."""
    paths = [f"/proc/{pid}/ns/{kind}" for kind in kinds]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for path in paths:
                setns(path)
            act()
            code = 0
        except OSError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(errno.EIO, said or "a child of the suite failed")


# --- cgroup v2


@cache
def cgroup_mount() -> Path:
    """Where cgroup v2 is mounted. Missing if it is not."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] == "cgroup2":
            return Path(fields.split()[4])
    raise Missing("cgroup v2 is not mounted")


def is_unified() -> bool:
    """Whether cgroup v2 is all there is."""
    return " - cgroup " not in Path("/proc/self/mountinfo").read_text()


def require_unified() -> None:
    """Most runtimes use v1 for its controllers while it is mounted."""
    if not is_unified():
        raise Missing("cgroup v1 is mounted beside v2")


def require_controller(name: str) -> None:
    """A controller of cgroup v2, which this process may hand to children."""
    if name not in (cgroup_mount() / "cgroup.controllers").read_text().split():
        raise Missing(f"cgroup v2 has no {name} controller")


# --- capabilities and ids


def bounding() -> int:
    """The capabilities that this process could give, as a mask."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0


def granted() -> "list[str]":
    """Their names in a config."""
    mask = bounding()
    return [f"CAP_{name}" for name, number in CAP.items() if mask >> number & 1]


def last_capability() -> int:
    """The highest one that the kernel knows."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def require_capability(name: str) -> None:
    if not bounding() >> CAP[name] & 1:
        raise Missing(f"CAP_{name} is not available")


# --- the kernel


def require_namespace(name: str) -> None:
    """`name` as in /proc/self/ns: time, user, cgroup, …"""
    if not os.path.exists(f"/proc/self/ns/{name}"):
        raise Missing(f"the kernel has no {name} namespaces")


@cache
def new_network() -> "frozenset[str]":
    """The devices that a new network namespace has here: lo, and whatever else this kernel makes of itself."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            unshare(CLONE_NEWNET)
            os.write(write, " ".join(name for _, name in socket.if_nameindex()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        names = pipe.read().decode().split()
    if os.waitpid(pid, 0)[1]:
        raise Missing("no new network namespace can be made")
    return frozenset(names)


def works(function: "Callable[[], object]") -> bool:
    """Whether this can be done here, tried in a child."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def sched_setattr(policy: int, runtime: int = 0, deadline: int = 0, period: int = 0, priority: int = 0) -> None:
    """sched_setattr(2) of this process."""
    number = {"x86_64": 314, "aarch64": 274, "riscv64": 274}.get(platform.machine())
    if number is None:
        raise Missing("the number of sched_setattr is not known here")
    attributes = struct.pack("=IIQiIQQQ", 48, policy, 0, 0, priority, runtime, deadline, period)
    check(LIBC.syscall(ctypes.c_long(number), 0, attributes, 0), "sched_setattr")


def require_scheduler(policy: int, **values: int) -> None:
    """This process can have the policy, in a cgroup of its own too: there a kernel may have no real time to give."""
    name = f"conformance-scheduler-{os.getpid()}"

    def act() -> None:
        if is_unified():
            (cgroup_mount() / name / "cgroup.procs").write_text("0")
        sched_setattr(policy, **values)

    if is_unified():
        (cgroup_mount() / name).mkdir()
    try:
        if not works(act):
            raise Missing(f"a process in a cgroup can't have the scheduling policy {policy}")
    finally:
        if is_unified():
            (cgroup_mount() / name).rmdir()


def require_idmap(folder: Path) -> None:
    """Require that the filesystem of this directory supports idmapped mounts."""
    if not works(lambda: idmap(folder)):
        raise Missing("the filesystem here takes no idmapped mounts")


def idmap(folder: Path) -> None:
    """mount_setattr(2) with an id mapping, on a copy of the mount of this directory."""
    tree = check(LIBC.syscall(ctypes.c_long(428), AT_FDCWD, os.fsencode(folder), OPEN_TREE_CLONE), "open_tree")
    pid = os.fork()
    if pid == 0:
        unshare(CLONE_NEWUSER)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        os.waitpid(pid, os.WUNTRACED)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 100000 65536")
        users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        attributes = struct.pack("=QQQQ", MOUNT_ATTR_IDMAP, 0, 0, users)
        number = ctypes.c_long(442)
        check(LIBC.syscall(number, tree, b"", AT_EMPTY_PATH, attributes, ctypes.c_size_t(32)), "mount_setattr")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def kernel() -> "tuple[int, int]":
    """The kernel's version, such as (6, 1)."""
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


def require_kernel(major: int, minor: int, what: str) -> None:
    if kernel() < (major, minor):
        raise Missing(f"{what} came with Linux {major}.{minor}, this is {platform.release()}")


@cache
def syscalls() -> "dict[str, int]":
    """The system calls of this architecture and their numbers, from the C library's header."""
    command = [os.environ.get("CC", "cc"), "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", os.devnull]
    numbers = re.findall(r"^#define __NR_(\w+) (\d+)$", run(*command), re.MULTILINE)
    return {name: int(number) for name, number in numbers}


def get_mempolicy() -> int:
    """The NUMA memory policy of this process. Missing if the kernel knows none."""
    mode = ctypes.c_int(-1)
    if LIBC.syscall(syscalls()["get_mempolicy"], ctypes.byref(mode), None, 0, None, 0) < 0:
        raise Missing("the kernel has no NUMA memory policies")
    return mode.value


def set_mempolicy(mode: int, nodes: int) -> None:
    """`nodes` is a mask."""
    mask = ctypes.c_ulong(nodes)
    check(LIBC.syscall(syscalls()["set_mempolicy"], mode, ctypes.byref(mask), 64), "set_mempolicy")


def require_file(path: str, what: str) -> None:
    if not os.path.exists(path):
        raise Missing(what)


def require_filesystem(name: str) -> None:
    known = Path("/proc/filesystems").read_text().split()
    if name not in known:
        raise Missing(f"the kernel has no filesystem {name}")


def require_x86_64() -> None:
    if platform.machine() != "x86_64":
        raise Missing("the test is written for x86-64")


@cache
def require_32_bit() -> None:
    """System calls through the 32-bit entry of x86."""
    require_x86_64()
    pid = os.fork()
    if pid == 0:
        # in a child, since a kernel without it kills the caller
        code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20 (getpid); int 0x80; ret
        import mmap

        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        os._exit(0 if call() > 0 else 1)
    _, status = os.waitpid(pid, 0)
    if status:
        raise Missing("the kernel has no 32-bit system calls")


def require_tool(name: str) -> None:
    if not any(os.access(f"{folder}/{name}", os.X_OK) for folder in os.get_exec_path()):
        raise Missing(f"the program {name} is not installed")


def run(*command: object) -> str:
    """Output of a program of the host that succeeds; OSError otherwise."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(errno.EINVAL, f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def rdma_device() -> "Iterator[str]":
    """A device for RDMA: the host's, or else one without hardware that is there for a while."""
    if os.path.isdir("/sys/class/infiniband") and (found := os.listdir("/sys/class/infiniband")):
        yield found[0]
        return
    for tool in ("ip", "rdma"):
        require_tool(tool)
    name = f"conf{os.getpid()}"
    with ExitStack() as stack:
        try:
            run("ip", "link", "add", name, "type", "dummy")
            stack.callback(run, "ip", "link", "delete", name)
            run("ip", "link", "set", name, "up")
            run("rdma", "link", "add", name, "type", "rxe", "netdev", name)
        except OSError as error:
            raise Missing(f"there is no RDMA device, and none can be made: {error.strerror}") from None
        yield name


@contextmanager
def apparmor_profile(text: str) -> "Iterator[None]":
    """A profile that is loaded for a while."""
    require_tool("apparmor_parser")
    load = ["apparmor_parser", "--skip-cache", "--replace"]
    subprocess.run(load, input=text.encode(), capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*load[:2], "--remove"], input=text.encode(), capture_output=True, check=True)


def is_lsm(name: str) -> bool:
    """Whether a security module is active."""
    try:
        return name in Path("/sys/kernel/security/lsm").read_text().strip().split(",")
    except OSError:
        return (
            name == "apparmor"
            and os.path.exists("/sys/module/apparmor/parameters/enabled")
            and (Path("/sys/module/apparmor/parameters/enabled").read_text().strip() == "Y")
        )


def require_selinux(label: str) -> None:
    """SELinux is active, with a policy that knows this label."""
    if not is_lsm("selinux"):
        raise Missing("SELinux is not active")
    fs = Path("/sys/fs/selinux")
    if not (fs / "class").is_dir() or not os.listdir(fs / "class"):
        raise Missing("SELinux has no policy")
    try:
        (fs / "context").write_text(label)
    except OSError:
        raise Missing(f"the policy of SELinux has no {label}") from None


def domain_name() -> str:
    """The NIS domain name of this process."""
    return Path("/proc/sys/kernel/domainname").read_text().strip()
