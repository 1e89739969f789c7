"""What CRIU can't dump, from the texts of /proc."""

import stat

import pytest

from pyoci.criu import unsupported
from pyoci.criu.unsupported import File, UnixSocket, judge_file
from pyoci.mountinfo import parse
from pyoci.request import CriuOptions

CANT = "CRIU can't dump it"
PLAIN = CriuOptions()
MOUNT = 20


def regular(link: str, *, links: int = 1, size: int = 0, mount: int = MOUNT, lock: bool = False) -> File:
    """A regular file that was opened through a mount."""
    fdinfo = {"pos": "0", "mnt_id": str(mount)}
    if lock:
        fdinfo["lock"] = "1: FLOCK  ADVISORY  WRITE 12 00:2a:5 0 EOF"
    file = File(link, stat.S_IFREG | 0o600, fdinfo=fdinfo)
    file.links, file.size, file.inode = links, size, 0x2AF
    return file


def device(major: int, minor: int, kind: int = stat.S_IFCHR) -> File:
    """A device file in a mount of the container."""
    file = File("/dev/z", kind | 0o600, fdinfo={"mnt_id": str(MOUNT)})
    file.device = major, minor
    return file


def socket(protocol: str) -> File:
    """A socket."""
    file = File("socket:[1]", stat.S_IFSOCK | 0o777)
    file.protocol = protocol
    return file


def judge(file: File, options: CriuOptions = PLAIN) -> str:
    """What is wrong with a descriptor of a container with one mount."""
    return judge_file(file, options, {MOUNT}, {"file[1b:2af]"})


@pytest.mark.parametrize(
    "kind", ["[eventfd]", "[eventpoll]", "inotify", "[fanotify]", "[signalfd]", "[timerfd]", "[pidfd]"]
)
def test_files_without_a_path_that_criu_knows(kind: str) -> None:
    """The kernel writes some of their kinds with brackets."""
    assert not judge(File(f"anon_inode:{kind}"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("[io_uring]", "an io_uring"),
        ("[perf_event]", "a performance counter (perf_event_open)"),
        ("[userfaultfd]", "a userfaultfd"),
        ("bpf-prog", "a BPF program"),
        ("seccomp notify", "the listener of a seccomp filter"),
        ("[new\nkind]", "a file of the kind new\\nkind"),
    ],
)
def test_files_without_a_path_that_criu_does_not_know(kind: str, name: str) -> None:
    """Also kinds that are newer than pyoci."""
    assert f"has {name}: {CANT}" == judge(File(f"anon_inode:{kind}"))


def test_bpf_maps_depend_on_how_criu_was_built() -> None:
    """With libbpf CRIU dumps hash tables and arrays."""
    found = [judge(File("anon_inode:bpf-map", fdinfo={"map_type": kind})) for kind in ("1", "2", "27")]

    assert found == [f"has a BPF map: {CANT}, unless it was built with libbpf"] * 2 + [f"has a BPF map: {CANT}"]


@pytest.mark.parametrize(
    "file",
    [
        File("pipe:[1]", stat.S_IFIFO),
        File("net:[4026531840]", stat.S_IFREG),
        File("pidfd:[1]", stat.S_IFREG),
        regular("/etc/passwd"),
        regular("/memfd:x (deleted)", mount=18),
        File("/tmp", stat.S_IFDIR, fdinfo={"mnt_id": str(MOUNT)}),
        regular("/tmp/x (deleted)", links=0, size=1 << 20),
        *(device(*numbers) for numbers in [(1, 3), (1, 5), (5, 0), (5, 2), (10, 200), (136, 0), (4, 1), (188, 0)]),
        *(socket(name) for name in ("TCP", "TCPv6", "UDP", "UNIX", "UNIX-STREAM", "NETLINK", "PACKET", "RAW", "")),
        File("/x", 0, fdinfo={}),  # the process has ended
    ],
    ids=lambda file: f"{file.link} {file.protocol} {file.device}",
)
def test_files_that_criu_dumps(file: File) -> None:
    """What most programs have."""
    assert not judge(file)


@pytest.mark.parametrize(
    ("file", "phrase"),
    [
        (device(10, 229), f"has the device /dev/z (10:229): {CANT}"),
        (device(4, 64), f"has the device /dev/z (4:64): {CANT}"),
        (device(1, 3, stat.S_IFBLK), f"has the device /dev/z (1:3): {CANT}"),
        (socket("AF_VSOCK"), f"has a socket of the protocol AF_VSOCK: {CANT}"),
        (
            socket("MPTCP"),
            f"has a socket of the protocol MPTCP: {CANT} (hint: set GODEBUG=multipathtcp=0 for a Go program)",
        ),
        (regular("/secretmem (deleted)", mount=15), f"has secret memory (memfd_secret): {CANT}"),
        (File("dmabuf:x", stat.S_IFREG), f"has dmabuf:x: {CANT}"),
        (regular("/f", mount=53), f"has /f, which is in none of the container's mounts: {CANT}"),
        (
            regular("/tmp/x (deleted)", links=0, size=(1 << 20) + 512),
            "has /tmp/x (deleted) with 1049088 bytes (hint: set ghost-limit in /etc/criu/pyoci.conf)",
        ),
    ],
)
def test_files_that_criu_does_not_dump(file: File, phrase: str) -> None:
    """Each with its reason."""
    assert phrase == judge(file)


def test_files_from_outside_may_be_declared() -> None:
    """The request names those that the engine has opened, by mount and inode."""
    assert not judge(regular("/log", mount=0x1B))


def test_options_allow_locks_and_removed_files() -> None:
    """As their hints say."""
    locked, removed = regular("/x", lock=True), regular("/x (deleted)", links=1)

    assert judge(locked) == "holds a lock on /x (hint: pass --file-locks)"
    assert judge(removed) == "has /x (deleted), which has another hard link (hint: pass --link-remap)"
    assert not judge(locked, CriuOptions(file_locks=True))
    assert not judge(removed, CriuOptions(link_remap=True))


MAPS = """\
55d0a0a00000-55d0a0a02000 r-xp 00000000 fe:00 131 /bin/busybox
7f0000000000-7f0000001000 rw-s 10000000 00:10 1036 anon_inode:[io_uring]
7f0000001000-7f0000002000 rw-s 00000000 00:2a 5 /dev/dri/card 0
7f0000002000-7f0000003000 rw-s 00000000 00:01 4 /SYSV00004236 (deleted)
7f0000003000-7f0000004000 rw-p 00000000 00:2a 6 /tmp/lib.so (deleted)
7f0000004000-7f0000005000 rw-p 00000000 00:00 0
7ffd0a000000-7ffd0a021000 rw-p 00000000 00:00 0 [stack]
"""


def test_mappings() -> None:
    """Only some mappings need a look."""
    card, library = device(226, 0), regular("/tmp/lib.so (deleted)", links=1)
    files = {"/dev/dri/card 0": card, "/tmp/lib.so (deleted)": library}

    mapped = list(unsupported.mapped_files(MAPS))

    assert [device for _, device, _ in mapped] == ["00:10", "00:2a", "00:01", "00:2a"]
    found = [unsupported.judge_mapping(path, files.get(path), PLAIN, shares_ipc=True) for *_, path in mapped]
    assert found == [
        f"maps an io_uring: {CANT}",
        f"maps the device /dev/dri/card 0: {CANT}",
        "maps System V shared memory of the host: give the container an ipc namespace",
        "maps /tmp/lib.so (deleted), which has another hard link (hint: pass --link-remap)",
    ]
    assert not unsupported.judge_mapping("/SYSV00004236 (deleted)", None, PLAIN, shares_ipc=False)
    assert not unsupported.judge_mapping("/dev/zero", device(1, 5), PLAIN, shares_ipc=False)
    assert not unsupported.judge_mapping("/dev/gone", None, PLAIN, shares_ipc=False)


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0063 00000000:0000 0A 00000000:00000001 00:00000000 00000000     0        0 501 1 0000000000000000
   1: 0100007F:0063 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 502 1 0000000000000000
   2: 0100007F:0064 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 503 1 0000000000000000
broken
"""


def test_tcp_connections() -> None:
    """A socket that listens has a connection in its queue; another is connected."""
    found = unsupported.connections(TCP)
    assert found == {501: (10, 1), 502: (1, 0), 503: (10, 0)}

    judged = [unsupported.judge_connection(*each, PLAIN) for each in found.values()]

    assert judged == [
        "has not accepted a TCP connection yet (hint: pass --tcp-skip-in-flight)",
        "has established TCP connections (hint: pass --tcp-established to keep them, or --tcp-close)",
        "",
    ]
    for options in (CriuOptions(tcp_established=True), CriuOptions(tcp_close=True)):
        assert not unsupported.judge_connection(1, 0, options)
    assert not unsupported.judge_connection(10, 1, CriuOptions(tcp_skip_in_flight=True))


def test_netlink_sockets_with_unread_messages() -> None:
    """The fifth column is how much is unread."""
    text = "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n0 0 1 0 0 0 0 2 0 7\n0 0 2 0 1280 0 0 2 0 8\n"

    assert unsupported.unread_netlink(text) == {8}


STREAM, DATAGRAM = 1, 2
ESTABLISHED, LISTEN = 1, 10


def unix(kind: int, peer: int = 0, name: str = "", state: int = ESTABLISHED) -> UnixSocket:
    """A unix socket."""
    made = UnixSocket(kind, state)
    made.peer, made.name = peer, name
    return made


def test_unix_sockets() -> None:
    """Connections inside the container are fine; outside, only those of datagrams to a name."""
    closed = unix(STREAM)
    closed.shutdown = 3
    listener = unix(STREAM, state=LISTEN, name="/in")
    listener.waiting = (7,)
    outside = {90: unix(STREAM, name="/run/\x1b"), 91: unix(DATAGRAM, name="/dev/log"), 92: unix(DATAGRAM)}
    own = {
        1: unix(STREAM, 2), 2: unix(STREAM, 1), 3: closed, 4: listener, 7: unix(STREAM), 8: unix(DATAGRAM),
        10: unix(STREAM, 90), 11: unix(DATAGRAM, 91), 12: unix(DATAGRAM, 92), 13: unix(STREAM, 99), 14: unix(STREAM),
    }  # fmt: skip

    found = dict(unsupported.judge_unix_sockets({**own, **outside}, own, PLAIN))

    cant = "is connected to a unix socket outside the container: CRIU can't dump the connection"
    assert found == {
        10: "is connected to the unix socket /run/\\x1b outside the container: CRIU can't dump the connection",
        11: "is connected to the unix socket /dev/log outside the container (hint: pass --ext-unix-sk)",
        12: cant, 13: cant, 14: cant,
    }  # fmt: skip
    assert not dict(unsupported.judge_unix_sockets({**own, **outside}, own, CriuOptions(ext_unix_sk=True)))[11]


def test_status() -> None:
    """A tracer, and a session whose leader is in none of the container's processes."""
    text = "Name:\tx\nTracerPid:\t5\nNSpid:\t70\t7\nNSsid:\t60\t0\n"

    assert list(unsupported.judge_status(unsupported.fields_of(text), shares_pids=True)) == [
        "is traced by process 5: CRIU can't stop it (hint: detach the debugger)",
        f"belongs to a session that began outside the container: {CANT}",
    ]
    fields = unsupported.fields_of("TracerPid:\t0\nNSsid:\t60\t0\n")
    assert [] == list(unsupported.judge_status(fields, shares_pids=False))


def test_namespaces() -> None:
    """CRIU dumps nested mount and network namespaces, and no others."""
    init = dict.fromkeys(("uts", "ipc", "user", "cgroup", "pid", "time", "net", "mnt"), 1)
    other = dict.fromkeys(init, 2)

    assert [
        f"has its own {kind} namespace: {CANT}" for kind in ("uts", "ipc", "user", "cgroup", "pid", "time")
    ] == list(unsupported.judge_namespaces(other, init))
    assert [] == list(unsupported.judge_namespaces({}, init))


def test_mounts() -> None:
    """Filesystems that the container has mounted itself."""
    mounts = parse(
        "1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / /tmp rw - tmpfs x rw\n3 1 0:3 / /a\\012b rw - fuse.sshfs x rw\n"
        "4 1 0:4 / /data rw - nfs x rw\n5 1 0:5 /sub /other rw - xfs x rw\n6 1 0:6 / /o rw - overlay x rw\n"
    )

    assert list(unsupported.judge_mounts(mounts, {"/data"})) == [
        "the container has mounted fuse on /a\\nb, which pyoci does not restore",
        "the container has mounted overlay on /o, which pyoci does not restore",
    ]


def test_processes_outside_the_tree() -> None:
    """Those of exec have their parents outside the container. A circle, which a reused pid could make, ends."""
    assert unsupported.outside_tree({1: 0, 2: 1, 3: 2, 10: 0, 11: 10, 20: 21, 21: 20}, 1) == [10, 11, 20, 21]


def test_pseudoterminals() -> None:
    """A master has its number in fdinfo, a slave in its device."""
    master = File("/dev/pts/ptmx", stat.S_IFCHR, fdinfo={"tty-index": "3"})

    assert unsupported.terminal_index(master) == (True, 3)
    assert unsupported.terminal_index(device(137, 1)) == (False, 257)
    assert unsupported.terminal_index(device(1, 3)) == (False, -1)


@pytest.mark.parametrize("text", ["", "\n\n", ":", "x\x00y: \udcff\n1 2 3", "a " * 1000 + "\n" + "9 " * 1000])
def test_no_text_makes_it_fail(text: str) -> None:
    """Kernels differ, and processes end while their files are read."""
    unsupported.fields_of(text)
    unsupported.connections(text)
    unsupported.unread_netlink(text)
    assert all(len(each) == 3 for each in unsupported.mapped_files(text))
