"""What CRIU's logs mean: the lines are from logs of CRIU 4.2.1."""

import time

import pytest

from pyoci.criu.explain import MAX_LOG, MAX_REASON, NO_REASON, explain, name_process
from tests.support.slowness import SLOWNESS

RLIMIT = "(00.064788) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
DUMP_ENDS = """\
(00.052956) Error (criu/cr-dump.c:1545): Dump files (pid: 28991) failed with -1
(00.052960) Unlock network
(00.102537) Error (criu/cr-dump.c:1975): Dumping FAILED.
"""
RESTORE_ENDS = """\
(00.054817)      1: Error (criu/files.c:1221): Unable to open fd=3 id=0xb
(00.055676) Error (criu/cr-restore.c:2331): Restoring FAILED.
(00.056242) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory
"""

DUMPS = [
    (
        "(00.052944) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.",
        "a process has established TCP connections",
        "--tcp-established",
    ),
    (
        "(00.048502) Error (criu/sk-inet.c:185): inet: In-flight connection (l) for 2712d11",
        "a TCP connection waits for a process to accept it",
        "--tcp-skip-in-flight",
    ),
    (
        (
            "(00.080413) Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks! "
            "You can try --file-locks to dump them."
        ),
        "a process holds a file lock",
        "--file-locks",
    ),
    (
        "(00.147381) Error (criu/sk-unix.c:874): unix: External socket is used. Consider using --ext-unix-sk option.",
        "a process is connected to a unix socket outside the container",
        "--ext-unix-sk",
    ),
    (
        (
            "(00.172736) Error (criu/sk-unix.c:881): unix: Can't dump half of stream unix connection. name: (null); "
            "peer name: /tmp/sock"
        ),
        "a process is connected to the unix socket /tmp/sock outside the container",
        "datagram",
    ),
    (
        "(00.053692) Error (criu/files-reg.c:1122): Can't create link remap for /tmp/x. Use link-remap option.",
        "a process has the removed file /tmp/x open, which has another hard link",
        "--link-remap",
    ),
    (
        "(00.055825) Error (criu/files-reg.c:1031): Can't dump ghost file /tmp/x of 2097152 size, increase limit",
        "a process has the deleted file /tmp/x open, with 2097152 bytes",
        "ghost-limit",
    ),
    (
        (
            "(00.060376) Error (criu/pstree.c:304): The root process 3823 is not a session leader. "
            "Consider using --shell-job option"
        ),
        "the container's init is not the leader of its session",
        "--shell-job",
    ),
    (
        (
            "pie: 1: Error (criu/pie/parasite.c:588): send_fds failed (-22)\n"
            "(00.092513) Error (criu/parasite-syscall.c:280): Can't retrieve FDs from socket\n"
            "(00.092515) Error (compel/src/lib/infect-rpc.c:44): Message reply from daemon is trimmed (12/0)"
        ),
        "a process has a descriptor, such as an io_uring, that the kernel keeps to it: CRIU can't dump it",
        "io_uring_setup",
    ),
    (
        (
            "(00.065513) Error (criu/proc_parse.c:502): Unknown shit 600 (anon_inode:[io_uring])\n"
            "(00.065521) Error (criu/proc_parse.c:738): Can't open 29643's mapfile link 7fedf6149000: No such device"
        ),
        "a process maps [io_uring], which CRIU can't dump",
        "io_uring_setup",
    ),
    (
        "(00.046983) Error (criu/files-ext.c:94): Can't dump file 4 of that type [600] (anon anon_inode:[perf_event])",
        "a process has perf_event as descriptor 4, which CRIU can't dump",
        "close it",
    ),
    (
        "(00.062827) Error (criu/files-ext.c:94): Can't dump file 4 of that type [600] (anon anon_inode:bpf-prog)",
        "a process has bpf-prog as descriptor 4, which CRIU can't dump",
        "close it",
    ),
    (
        "(00.041091) Error (criu/files-ext.c:94): Can't dump file 3 of that type [20600] (chr 10:229)",
        "a process has the character device 10:229 as descriptor 3, which CRIU can't dump",
        "close it",
    ),
    (
        "(00.039481) Error (criu/files-ext.c:94): Can't dump file 3 of that type [60600] (unknown /dev/z)",
        "a process has /dev/z as descriptor 3, which CRIU can't dump",
        "close it",
    ),
    (
        "(00.067145) Error (criu/files-reg.c:1790): Can't lookup mount=15 for fd=4 path=/secretmem (deleted)",
        "a process has the memory secretmem (deleted) as descriptor 4, which CRIU can't dump",
        "",
    ),
    (
        "(00.073836) Error (criu/files-reg.c:1790): Can't lookup mount=101 for fd=1 path=/tmp/out",
        "a process has /tmp/out as descriptor 1, on a mount outside the container",
        "close it",
    ),
    (
        "(00.047358) Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 27154fc",
        "a process has an MPTCP socket, which CRIU can't dump",
        "GODEBUG=multipathtcp=0",
    ),
    (
        "(00.052833) Error (criu/sockets.c:767): sockets: BUG! Unknown socket collected (family 40)",
        "a process has a socket of address family 40, which CRIU can't dump",
        "close it",
    ),
    (
        (
            "(00.041662) Error (criu/namespaces.c:460): Can't dump nested user namespace for 431\n"
            "(00.041664) Error (criu/namespaces.c:754): Can't make userns id\n"
            "(00.043310) Error (criu/util.c:657): exited, status=1"
        ),
        "process 431 has its own user namespace, which CRIU can't dump",
        "",
    ),
    (
        "(00.038900) Error (compel/src/lib/infect.c:262): Unseizable non-zombie 883 found, state S, err -1/10",
        "cannot stop process 883: a debugger traces it, or it has just ended",
        "detach the debugger",
    ),
    (
        (
            "(00.033839) Warn  (compel/src/lib/infect.c:132): Unable to interrupt task: 3896 (Operation not permitted)\n"
            "(00.033852) Error (compel/src/lib/infect.c:417): Unable to detach from 3896: No such process"
        ),
        "cannot stop process 3896: a debugger traces it, or it has just ended",
        "detach the debugger",
    ),
    (
        "(00.042207) Error (criu/mount.c:724): mnt: FS mnt ./tmp/m dev 0x2a root / unsupported id 53",
        "the container has mounted a filesystem on /tmp/m that CRIU can't dump",
        "unmount it",
    ),
    (
        "(00.042207) Error (criu/filesystems.c:663): failed to dump fs ./tmp/m (fuse): always fail",
        "the container has mounted a fuse filesystem on /tmp/m, which CRIU can't dump",
        "unmount it",
    ),
    (
        "(00.047894) Error (criu/mount.c:753): mnt: 125:./mnt doesn't have a proper root mount",
        "CRIU can't find the source of the mount /mnt",
        "config.json",
    ),
    (
        "(00.051071) Error (criu/tty.c:2399): tty: Unable to find a master for /0",
        "the master of the terminal /0 is outside the container",
        "console socket",
    ),
    (
        (
            "(00.081241) Error (criu/page-xfer.c:263): page-xfer: Unable to spice data: No space left on device\n"
            "(00.081258) Error (criu/bfd.c:131): bfd: Error flushing image: No space left on device\n"
            "(00.081419) Error (criu/mem.c:718): Can't dump page with parasite"
        ),
        "no space left on device",
        "free space",
    ),
    (
        (
            'Error (criu/util.c:642): execvp("iptables-restore", ...) failed: No such file or directory\n'
            "(00.037892) Error (criu/util.c:657): exited, status=1\n"
            "(00.038119) Error (criu/net.c:3436): net: Locking network failed: iptables-restore returned -1. This may be "
            "connected to disabled CONFIG_NETFILTER_XT_MARK kernel build config option."
        ),
        "iptables-restore is not installed",
        "--network-lock",
    ),
    (
        (
            "(00.049312) Error (criu/config.c:1131): Tracking memory is not available. "
            "Consider omitting --track-mem option."
        ),
        "the kernel does not track changes of memory",
        "CONFIG_MEM_SOFT_DIRTY",
    ),
]
RESTORES = [
    (
        "(00.054815)      1: Error (criu/files-reg.c:2175): File fd/2 has bad size 0 (expect 75)",
        "the caller's file for standard stream 2 has 0 bytes; at the checkpoint it had 75",
        "use pipes, or log files that are opened for appending",
    ),
    (
        "(00.058023)      1: Error (criu/files-reg.c:2353): Can't open file fd/1 on restore: Permission denied",
        "cannot open the caller's file for standard stream 1: permission denied",
        "use pipes, or log files that are opened for appending",
    ),
    (
        "(00.054815)      1: Error (criu/files-reg.c:2175): File mnt/a has bad size 4 (expect 3)",
        "/mnt/a has 4 bytes; at the checkpoint it had 3",
        "root filesystem",
    ),
    (
        "(00.066173)      1: Error (criu/files-reg.c:2153): File mnt/libz.so has bad build-ID",
        "/mnt/libz.so is another program or library than at the checkpoint",
        "root filesystem",
    ),
    (
        "(00.058023)      1: Error (criu/files-reg.c:2353): Can't open file mnt/a on restore: No such file or directory",
        "cannot open /mnt/a: no such file or directory",
        "root filesystem",
    ),
    (
        "(00.021705) Error (criu/mount.c:3141): mnt: No mapping for 124:(null) mountpoint",
        "the checkpoint has a mount that config.json lacks",
        "config.json",
    ),
    (
        (
            "(00.066574)      1: Error (criu/mount-v2.c:634): mnt-v2: Can't stat mountpoint "
            "/tmp/.criu.mntns.6nleck/mnt-0000000053/mnt: No such file or directory"
        ),
        "the root filesystem lacks the mount point /mnt",
        "root filesystem",
    ),
    (
        "(00.033961)      1: Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 11): Address already in use",
        "an address of the container is already in use",
        "network namespace",
    ),
    (
        "(00.057359)      1: Error (criu/sk-inet.c:912): inet: Connected TCP socket in image",
        "the checkpoint has established TCP connections",
        "--tcp-close",
    ),
    (
        "(00.032899) Error (criu/image.c:94): Need to set the --tcp-close options.",
        "the container was checkpointed with --tcp-close",
        "pass --tcp-close",
    ),
    (
        "(00.024551) Error (criu/cr-restore.c:1237): Can't fork for 7737: File exists",
        "pid 7737 is already in use",
        "pid namespace",
    ),
    (
        (
            "(00.177103)      1: Error (criu/files-reg.c:329): Can't send data: No space left on device\n"
            "(00.178419) Error (criu/files-reg.c:862): Couldn't unlink remap /tmp/g: No such file or directory"
        ),
        "no space left on device",
        "free space",
    ),
    (
        "(00.140086)      1: Error (criu/mem.c:1363): Unable to reserve memory (76824576 bytes): Cannot allocate memory",
        "out of memory",
        "memory limit",
    ),
    (
        "(00.047840) Error (criu/lsm.c:406): apparmor LSM specified but apparmor not supported by kernel",
        "the kernel has no apparmor",
        "--lsm-profile",
    ),
    (
        (
            'Error (criu/util.c:642): execvp("ip", ...) failed: No such file or directory\n'
            "(00.062960)      1: Error (criu/util.c:657): exited, status=1\n"
            "(00.062971)      1: Error (criu/net.c:2073): net: IP tool failed on addr restore"
        ),
        "ip is not installed",
        "iproute2",
    ),
    (
        "(00.045464) Error (criu/uffd.c:349): uffd: connect to lazy-pages.socket failed: No such file or directory",
        "no `criu lazy-pages` listens on lazy-pages.socket",
        "criu lazy-pages",
    ),
    (
        "(00.030661) Error (criu/cgroup.c:1877): cg: Abort restore of existing cgroups",
        "a cgroup of the checkpoint exists already",
        "--manage-cgroups-mode",
    ),
    (
        "(00.045) Error (criu/protobuf.c:93): Read 35 bytes while 78 expected from /tmp/i/inventory.img: No such file",
        "the file inventory.img is truncated",
        "image directory",
    ),
    (
        "(00.047184) Error (criu/image.c:554): Head magic doesn't match for pstree.img",
        "the file pstree.img is damaged",
        "image directory",
    ),
    (
        "(00.065320) Error (criu/protobuf.c:72): Unexpected EOF on (empty-image)",
        "the image directory is not a checkpoint, or lacks files",
        "image directory",
    ),
    (
        "(00.193968) pie: 1: Error (criu/pie/restorer.c:1907): Can't read pages data (-9)",
        "the image directory is damaged",
        "image directory",
    ),
    (
        "(00.193968) Error (criu/cr-restore.c:1269): 123 killed by signal 9: Killed",
        "signal 9 killed a process of the container",
        "memory limit",
    ),
]


@pytest.mark.parametrize(("lines", "reason", "hint"), DUMPS, ids=[reason for _, reason, _ in DUMPS])
def test_explain_finds_the_cause_of_a_failed_dump(lines: str, reason: str, hint: str) -> None:
    """The cause stands between errors that CRIU survives, and what failed because of it."""
    found = explain(f"{RLIMIT}{lines}\n{DUMP_ENDS}", dumping=True)

    assert reason == found[0]
    assert hint in found[1]
    assert bool(hint) == bool(found[1])


@pytest.mark.parametrize(("lines", "reason", "hint"), RESTORES, ids=[reason for _, reason, _ in RESTORES])
def test_explain_finds_the_cause_of_a_failed_restore(lines: str, reason: str, hint: str) -> None:
    """As for dumps."""
    found = explain(f"{RLIMIT}{lines}\n{RESTORE_ENDS}", dumping=False)

    assert reason == found[0]
    assert hint in found[1]
    assert bool(hint) == bool(found[1])


@pytest.mark.parametrize(("line", "reason", "_"), [*DUMPS[:8], *RESTORES[:8]])
def test_explain_accepts_a_single_message(line: str, reason: str, _: str) -> None:
    """An answer of CRIU has the first error, without time and place."""
    assert reason == explain(line.partition("): ")[2], dumping=True)[0]


@pytest.mark.parametrize(
    ("reason", "hint", "problem", "expected"),
    [
        (
            "a process holds a file lock",
            "pass --file-locks",
            "process 7 (x) holds a lock on /a (hint: pass --file-locks)",
            ("process 7 (x) holds a lock on /a", "pass --file-locks"),
        ),
        (
            "a process has bpf-map as descriptor 4, which CRIU can't dump",
            "close it",
            "process 7 (x) has a BPF map: CRIU can't dump it",
            ("process 7 (x) has a BPF map: CRIU can't dump it", "close it"),
        ),
        (
            "a process is connected to a unix socket outside the container",
            "pass --ext-unix-sk",
            "process 7 (x) is connected to the unix socket /a outside the container: CRIU can't dump the connection",
            (
                (
                    "process 7 (x) is connected to the unix socket /a outside the container: "
                    "CRIU can't dump the connection"
                ),
                "",
            ),
        ),
        (
            "cannot stop process 9: a debugger traces it, or it is ending",
            "try again",
            "process 9 (x) is traced by process 3: CRIU can't stop it (hint: detach the debugger)",
            ("process 9 (x) is traced by process 3: CRIU can't stop it", "detach the debugger"),
        ),
    ],
)
def test_name_process_prefers_what_names_it(reason: str, hint: str, problem: str, expected: tuple[str, str]) -> None:
    """A problem that has nothing to do with the reason is not the reason."""
    others = ["process 5 (y) was started by exec: CRIU leaves it out"]

    assert expected == name_process(reason, hint, [*others, problem])
    assert (reason, hint) == name_process(reason, hint, others)
    assert ("no space left on device", "h") == name_process("no space left on device", "h", [problem])


def test_explain_keeps_an_unknown_error() -> None:
    """The first error that CRIU does not survive is the reason, without CRIU's prefix for the subsystem."""
    log = (
        RLIMIT + "(00.1) Error (criu/x.c:1): mnt: Can't frobnicate /x!\n(00.2) Error (criu/y.c:2): Later\n" + DUMP_ENDS
    )

    assert explain(log, dumping=True) == ("can't frobnicate /x", "")


@pytest.mark.parametrize("log", ["", "\n", "(00.000000) Version: 4.2.1\n(00.1) Dumping\n", RLIMIT + DUMP_ENDS])
def test_explain_admits_that_there_is_no_reason(log: str) -> None:
    """An empty log, or one that CRIU was killed in."""
    for dumping in (True, False):
        reason, hint = explain(log, dumping=dumping)
        assert reason == NO_REASON
        assert hint


def test_explain_escapes_what_the_container_chose() -> None:
    """Names of files reach terminals and logs only in printable form, on one line, and not in full length."""
    name = "/\x1b[31m\u202e\x07" + "x" * 3000
    log = f"(00.1) Error (criu/files-reg.c:1122): Can't create link remap for {name}. Use link-remap option.\n"

    for text in explain(log[:1990] + ". Use\n", dumping=True) + explain(f"Error (a.c:1): {name}", dumping=True):
        assert text.isprintable()
        assert len(text) <= MAX_REASON


@pytest.mark.parametrize(
    "piece",
    [
        "Error (criu/x.c:1): File ",
        "File x has bad size ",
        "Read 1 bytes while 2 expected from /a/b.im",
        "Can't dump file 1 of that type [1] (",
        "(0.0) Error (a.c:1): Failed to open_tree : : ",
        "\x00\n\udcff",
        "A session leader of 1 is outside ",
    ],
)
def test_explain_is_quick_for_hostile_logs(piece: str) -> None:
    """No text makes it slow, or fail."""
    begun = time.monotonic()

    for log in (
        piece * (4 * MAX_LOG // len(piece)),
        "Error (a.c:1): " + piece * 90,
        ("Error (a.c:1): " + piece * 40 + "\n") * 100,
    ):
        assert explain(log, dumping=True)[0].isprintable()

    assert time.monotonic() - begun < 5 * SLOWNESS
