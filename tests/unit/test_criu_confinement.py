"""pyoci/criu/confinement.py: facts of the kernel beside a config."""

from pathlib import Path

import pytest

from pyoci.criu import confinement
from pyoci.criu.confinement import Thread
from pyoci.mountinfo import MountInfo

STATUS = b"""Name:\tNetwork Service
State:\tt (tracing stop)
NSpid:\t4711\t12
Uid:\t101000\t101000\t101000\t101000
Gid:\t100050\t100050\t100050\t100050
Groups:\t100006 65534
CapInh:\t0000000000000000
CapPrm:\t0000000000000020
CapEff:\t0000000000000000
CapBnd:\t0000000020000420
CapAmb:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""


def test_thread_reads_its_status() -> None:
    """Linux before 5.9 does not count filters."""
    thread = Thread(STATUS, "label")
    credentials = thread.credentials

    assert ("Network Service", 12, 2, None, False) == (
        thread.name, thread.id, thread.mode, thread.filters, thread.is_dead
    )  # fmt: skip
    assert (0x20, 0, 0x20000420, True) == (
        credentials.permitted, credentials.effective, credentials.bounding, credentials.no_new_privs
    )  # fmt: skip
    assert "label" == credentials.label
    assert 3 == Thread(STATUS + b"Seccomp_filters:\t3\n").filters
    assert Thread(STATUS.replace(b"t (tracing stop)", b"Z (zombie)")).is_dead


def test_translated_returns_ids_of_the_container() -> None:
    """The container has no name for an id without a mapping."""
    uids = confinement.id_map(b"         0     100000       1000\n      1000     101000      64536\n")
    gids = confinement.id_map(b"0 100000 65536\n")
    credentials = confinement.translated(Thread(STATUS).credentials, uids, gids)

    assert [(0, 100000, 1000), (1000, 101000, 64536)] == uids
    assert [1000] * 4 == credentials.uids
    assert [50] * 4 == credentials.gids
    assert [6, -1] == credentials.groups


@pytest.mark.parametrize(
    ("its", "expected"),
    [
        (b"0::/box\n", []),
        (b"0::/box/below\n", []),
        (b"0::/boxes\n", ["/boxes"]),
        (b"0::/\n", ["/"]),
        (b"3:memory:/engine\n0::/box\n", []),
        (b"3:memory:/other\n0::/box\n", ["/other"]),
        (b"1:name=systemd:/box\n0::/box\n", []),
        (b"1:name=systemd:/a:b\n0::/box\n", ["/a:b"]),
    ],
)
def test_check_cgroup(its: bytes, expected: list[str]) -> None:
    """A process is in the container's cgroup or below. In cgroup v1 it stays, or systemd moves it."""
    runtimes = b"3:memory:/engine\n1:name=systemd:/\n0::/runtime\n"
    found = [text.removeprefix("is in the cgroup ") for _, text in confinement.check_cgroup(its, runtimes, "/box")]

    assert expected == found
    assert [] == list(confinement.check_cgroup(its, runtimes, ""))


def mount(device: str, root: str, point: str, kind: str = "ext4") -> MountInfo:
    """A mount."""
    return MountInfo(f"1 0 {device} {root} {point} rw - {kind} source rw")


def test_check_host_filesystems() -> None:
    """A filesystem of the host is known if config.json has it, or a directory above."""
    mounts = [
        mount("8:1", "/bundle/rootfs", "/"),
        mount("8:2", "/srv/data", "/data"),
        mount("0:50", "/", "/tmp", "tmpfs"),
        mount("0:30", "/", "/sys/fs/cgroup", "cgroup2"),
        mount("0:5", "/", "/proc", "proc"),
        mount("8:2", "/srv/data/part", "/part"),
    ]
    host = {"8:1", "8:2", "8:3", "0:30", "0:5"}
    known = [("8:1", "/bundle/rootfs"), ("8:2", "/srv/data")]

    def found(*more: MountInfo, shared: tuple[str, ...] = ("pid",)) -> list[str]:
        problems = confinement.check_host_filesystems([*mounts, *more], host, known, shared)
        return [text.removeprefix("has a filesystem of the host at ") for _, text in problems]

    assert [] == found()
    assert ["/proc"] == found(shared=())
    assert ["/etc"] == found(mount("8:1", "/etc", "/etc"))
    assert ["/up"] == found(mount("8:2", "/srv", "/up"))
    assert ["/beside"] == found(mount("8:2", "/srv/database", "/beside"))
    assert ["/new"] == found(mount("8:3", "/", "/new"))
    assert ["/"] == found(mount("8:1", "/srv", "/"))


def test_leads_to_host() -> None:
    """A path in none of the container's mounts, or a namespace of the runtime's that the container does not share."""

    def leads(target: str, mount: int = -1) -> bool:
        return confinement.leads_to_host(target, {"network": 7, "mount": 8, "uts": 9}, {"uts"}, mount, {20, 21})

    assert [False, True] == [leads("/etc/passwd", number) for number in (20, 22)]
    assert [True, False] == [leads(f"net:[{inode}]") for inode in (7, 70)]
    assert [True, False] == [leads("mnt:[8]"), leads("uts:[9]")]
    assert [False] * 3 == [leads(target) for target in ("pipe:[7]", "socket:[8]", "anon_inode:[eventfd]")]


def test_the_status_of_this_process_can_be_read() -> None:
    """Whatever this kernel has in it."""
    thread = Thread(Path("/proc/self/status").read_bytes())

    assert not thread.is_dead
    assert 4 == len(thread.credentials.uids)
