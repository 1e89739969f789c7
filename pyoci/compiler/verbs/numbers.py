"""Numbers that the runtime and the child agree on: synchronisation points and descriptor slots.

`tools/gen_verbs.py` hands them to native/child by the same names.
"""

# Synchronisation points. At most of them the child reports that it has reached the point, and waits for an answer.
# - HELD: the first child has done nothing yet. It waits only if the plan has operations for this point.
# - INIT: a bootstrap process has cloned init and reports its pid.
# - LISTENER: the child reports nothing. The process that starts it has stopped it (pyoci.host.seccomp_agent).
HELD = -1
INIT, ID_MAPS, TIME_OFFSETS, HOOKS, CONSOLE, READY, CREATED, NET_DEVICES, LISTENER, CGROUP = range(10)
POINTS = {
    HELD: "held", INIT: "init", ID_MAPS: "id-maps", TIME_OFFSETS: "time-offsets", HOOKS: "hooks", CONSOLE: "console",
    READY: "ready", CREATED: "created", NET_DEVICES: "net-devices", LISTENER: "listener", CGROUP: "cgroup",
}  # fmt: skip

# Slots of descriptors that both sides know by number. The slots of a plan begin at FIRST_SLOT.
SLOTS = (
    "ROOTFS", "CHANNEL", "EXEC_FIFO", "RESULT_FIFO", "HOOK_STATE", "START_STATE", "BUNDLE", "NULL", "PROC", "TERMINAL",
    "MASK_DIRECTORY", "FILTER", "CREATE_STATE", "NOTIFY_DIRECTORY", "HOST_PROC", "JOINED_PIDS",
    "CRIU_INPUT", "CRIU_OUTPUT", "CRIU_ERRORS", "RPC", "STDIN", "STDOUT", "STDERR",
)  # fmt: skip
ROOTFS, CHANNEL, EXEC_FIFO, RESULT_FIFO, HOOK_STATE, START_STATE, BUNDLE, NULL = range(8)
PROC, TERMINAL, MASK_DIRECTORY, FILTER, CREATE_STATE, NOTIFY_DIRECTORY, HOST_PROC, JOINED_PIDS = range(8, 16)
# What CRIU gets as its first descriptors: its own streams, the socket of its request, and the runtime's streams.
CRIU_INPUT, CRIU_OUTPUT, CRIU_ERRORS, RPC, STDIN, STDOUT, STDERR = range(16, 23)
FIRST_SLOT = 23

NO_SLOT = -1
MAX_SLOTS = 1 << 20  # the kernel's default limit of descriptors

# A block of operations (pyoci.compiler.block) begins with these 8 bytes, of which the last one is the format's version.
BLOCK_MAGIC = int.from_bytes(b"pyociOP\1", "little")
BLOCK_UNFINISHED = 1  # a flag: the last operation does not end the plan

# Why the child can't read a block. The report has the number of the entry, from 1; that of the operation, and the place
# of its field, if the error is in one.
BLOCK_ERRORS = {
    "MAGIC": "it is not a plan of this version",
    "SIZE": "its size is wrong",
    "CHECKSUM": "its checksum is wrong",
    "HEADER": "its header is wrong",
    "SLOTS": "the number of slots is wrong",
    "POOL": "the strings do not end with NUL",
    "VECTORS": "a vector has a string outside the pool",
    "REST": "a vector belongs to no operation",
    "VERB": "there is no such operation",
    "FLAG": "there is no such flag",
    "TEXT": "the string is outside the pool",
    "TABLE": "the table is outside the pool",
    "OPTION": "an option does not end with NUL",
    "VECTOR": "the vector is not the next one",
    "NO_END": "the vector does not end",
    "SLOT": "there is no such slot",
    "POINT": "there is no such synchronisation point",
    "NEGATIVE": "the number is negative",
    "UNUSED": "an unused place is not zero",
    "LAST": "only the last operation executes the program or receives the rest",
}

# The system call or the check at which an operation of the child failed. A record has its index, and `start` also reads
# the records of children that another version created: add at the end, and leave "" for what no child reports any more.
STEPS = (
    "", "openat2", "mkdirat", "openat", "fstat", "fsopen", "fsconfig", "fsconfig(create)", "fsmount", "move_mount",
    "open_tree", "mount_setattr", "mknodat", "fchownat", "fchmod", "symlinkat", "fchdir", "pivot_root", "umount2",
    "chdir", "getcwd", "setns", "unshare", "", "prctl", "setsid", "write", "read", "ioctl", "dup", "socket", "keyctl",
    "personality", "setgroups", "setresgid", "setresuid", "capset", "close_range", "seccomp", "execve", "pipe2", "",
    "waitpid", "chroot", "fspick", "sethostname", "setdomainname", "", "fstatfs", "getdents64", "readlinkat",
    "fchmodat", "changed", "target-is-root", "target-in-proc", "not-proc", "other-node", "not-devpts", "not-found",
    "not-executable", "is-directory", "interpreter", "outside", "", "unknown-verb", "caps-differ", "too-deep",
    "clone", "prlimit", "label-differs", "fsetxattr", "sched_setattr", "ioprio_set", "set_mempolicy", "get_mempolicy",
    "nodes-differ", "mount", "recvmsg", "mmap", "not-mounted",
)  # fmt: skip
