"""Names in config.json that stand for numbers of the kernel, and the rules for kernel parameters and cgroup files."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    CapabilitySet = Literal["bounding", "permitted", "effective", "inheritable", "ambient"]

# linux/capability.h; the position is the number
CAPABILITIES: dict[str, int] = {
    f"CAP_{name}": number
    for number, name in enumerate(
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
        "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
        "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
        "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
        "PERFMON BPF CHECKPOINT_RESTORE".split()
    )
}

CAPABILITY_SETS: "tuple[CapabilitySet, ...]" = ("bounding", "permitted", "effective", "inheritable", "ambient")

# asm-generic/resource.h, which x86 and Arm use; the position is the number
RLIMITS: dict[str, int] = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()
    )
}

# What /proc/PID/ns calls each type of namespace. `exec` joins them in this order.
NAMESPACE_FILES = {
    "user": "user", "ipc": "ipc", "uts": "uts", "network": "net", "pid": "pid", "time": "time", "cgroup": "cgroup",
    "mount": "mnt",
}  # fmt: skip

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_WORD = frozenset(_LETTERS + "0123456789_")
_SYSCTL = _WORD | frozenset("./:@-")

_IPC_SYSCTLS = frozenset(
    f"kernel/{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


def sysctl_path(key: str) -> str:
    """The path below /proc/sys of the kernel parameter `key`; "" if `key` can't be the name of one.

    The rules are those of sysctl(8). If the first separator in `key` is a dot, dots separate, and a slash stands for a
    dot within a name (`net.ipv4.conf.eth0/1.forwarding`). If it is a slash, slashes separate, and dots are dots.
    """
    if not _SYSCTL.issuperset(key):
        return ""
    dot, slash = key.find("."), key.find("/")
    if slash < 0 or 0 <= dot < slash:
        key = key.replace(".", "\n").replace("/", ".").replace("\n", "/")
    for name in key.split("/"):
        if name in ("", ".", ".."):
            return ""
    return key


def sysctl_namespace(path: str) -> str:
    """The type of the namespace that isolates the kernel parameter at `path`; "" if it is the host's."""
    top, _, rest = path.partition("/")
    if top == "net" and rest:
        return "network"
    if path in _IPC_SYSCTLS or path.startswith("fs/mqueue/"):
        return "ipc"
    if path == "kernel/domainname":
        return "uts"
    if top == "user" and rest:
        return "user"
    return ""


def is_cgroup_file(name: str) -> bool:
    """Whether `name` can be a file of a cgroup, such as `memory.max`: words with dots between them."""
    words = name.split(".")
    return len(words) > 1 and all(word and _WORD.issuperset(word) for word in words)
