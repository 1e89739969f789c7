"""What `checkpoint` asks of CRIU: pyoci.compiler.dump, from the lines of mountinfo."""

from pyoci.compiler.dump import Dumped, compile_dump, external_mounts
from pyoci.criu import rpc
from pyoci.mountinfo import parse
from pyoci.request import CheckpointRequest, CriuOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyoci.criu.rpc import Options
    from pyoci.errors import Log

ROOT = "10 9 254:0 /var/b/rootfs / rw - ext4 /dev/vda rw"
HOST = {"254:0", "0:6", "0:20", "0:21", "0:22", "0:38"}  # a disk, devtmpfs, and the host's proc, sysfs, tmpfs, cgroup2


class NoLog:
    """A log that nobody reads."""

    debugs = False

    def warning(self, message: str) -> None:
        """Ignore it."""

    def debug(self, message: str) -> None:
        """Ignore it."""


def external(*lines: str, shared: "tuple[str, ...]" = ()) -> "list[str]":
    """Return the external mounts of a container with these lines of mountinfo, and the root's."""
    return external_mounts(Dumped(7, mounts=parse("\n".join([ROOT, *lines])), host_devices=HOST, shared=shared))


def test_mounts_of_the_container_itself_are_dumped() -> None:
    """They are in no namespace but the container's."""
    assert not external(
        "11 10 0:53 / /proc rw - proc proc rw",
        "12 10 0:54 / /dev rw - tmpfs tmpfs rw",
        "13 12 0:55 / /dev/pts rw - devpts devpts rw",
        "14 12 0:55 /0 /dev/console rw - devpts devpts rw",
        "15 11 0:53 /sys /proc/sys ro - proc proc rw",
    )


def test_binds_of_the_host_are_external() -> None:
    """A volume, one file, the null device over a masked path, and a whole tmpfs of the host."""
    assert external(
        "11 10 254:0 /var/data /data rw - ext4 /dev/vda rw",
        "12 10 254:0 /etc/hosts /etc/hosts rw - ext4 /dev/vda rw",
        "13 10 0:6 /null /proc/kcore ro - devtmpfs devtmpfs rw",
        "14 10 0:22 / /dev/shm rw - tmpfs shm rw",
    ) == ["/data", "/etc/hosts", "/proc/kcore", "/dev/shm"]


def test_a_bind_inside_the_root_filesystem_is_not_external() -> None:
    """The container's own processes may have made it: CRIU binds it again."""
    assert not external("11 10 254:0 /var/b/rootfs/srv /mnt rw - ext4 /dev/vda rw")


def test_a_neighbour_of_the_root_filesystem_is_external() -> None:
    """`rootfs2` begins like `rootfs`, and is another directory."""
    assert external("11 10 254:0 /var/b/rootfs2 /mnt rw - ext4 /dev/vda rw") == ["/mnt"]


def test_cgroup2_is_mounted_again() -> None:
    """The hierarchy is the host's, whichever part the mount shows."""
    assert not external("11 10 0:38 /c1 /sys/fs/cgroup ro - cgroup2 cgroup rw")


def test_the_hosts_proc_is_external_in_an_own_pid_namespace() -> None:
    """In the host's pid namespace, a new procfs would be the same."""
    line = "11 10 0:20 / /host/proc rw - proc proc rw"
    assert external(line) == ["/host/proc"]
    assert not external(line, shared=("pid",))


def test_the_hosts_sysfs_follows_the_network_namespace() -> None:
    """A sysfs shows the devices of a network namespace."""
    line = "11 10 0:21 / /sys ro - sysfs sysfs rw"
    assert external(line) == ["/sys"]
    assert not external(line, shared=("net",))


def test_a_filesystem_that_no_mount_shows_as_a_whole_is_external() -> None:
    """The host may have unmounted it, and CRIU could not find the rest."""
    assert external("11 10 8:1 /part /data rw - ext4 /dev/sda1 rw") == ["/data"]


def test_paths_with_blanks() -> None:
    """mountinfo escapes them; CRIU gets them as they are."""
    assert external("11 10 254:0 /a\\040b /c\\011d\\134 rw - ext4 /dev/vda rw") == ["/c\td\\"]


def options(dumped: Dumped, *, given: "CriuOptions | None" = None, **named: object) -> "Options":
    """Return CRIU's options for a checkpoint."""
    log: Log = NoLog()
    request = CheckpointRequest("/i", options=given or CriuOptions(), log=log, **named)  # type: ignore[arg-type]
    return compile_dump(dumped, request).request.options


def test_defaults() -> None:
    """The container ends, its cgroup is left alone, and the terminal's master stays the engine's."""
    dumped = Dumped(7, mounts=parse(ROOT), host_devices=HOST, freezer="/sys/fs/cgroup/c1")
    assert options(dumped) == {
        "pid": 7,
        "log_level": 4,
        "log_file": "dump.log",
        "notify_scripts": True,
        "orphan_pts_master": True,
        "leave_running": False,
        "manage_cgroups": False,
        "manage_cgroups_mode": rpc.CGROUP_MODES["ignore"],
        "freeze_cgroup": "/sys/fs/cgroup/c1",
        "empty_ns": 0x40000000,
    }


def test_pre_dump_leaves_mounts_and_files_to_the_dump() -> None:
    """It writes memory alone, and the container goes on."""
    mounts = parse(f"{ROOT}\n11 10 0:22 / /dev/shm rw - tmpfs shm rw")
    dumped = Dumped(7, mounts=mounts, host_devices=HOST, external={"network": 9}, files=["file[1:2]"])
    found = options(dumped, pre_dump=True, parent_path="../p")
    assert found["leave_running"] is True
    assert found["track_mem"] is True
    assert found["parent_img"] == "../p"
    assert found["external"] == ["net[9]:extRootNetNS"]
    assert options(dumped)["external"] == ["net[9]:extRootNetNS", "mnt[/dev/shm]:/dev/shm", "file[1:2]"]


def test_every_option_reaches_criu() -> None:
    """Each option of the command line has its field."""
    given = CriuOptions(
        tcp_established=True,
        tcp_skip_in_flight=True,
        tcp_close=True,
        ext_unix_sk=True,
        shell_job=True,
        file_locks=True,
        manage_cgroups_mode="strict",
        network_lock="nftables",
        link_remap=True,
        auto_dedup=True,
        lazy_pages=True,
    )
    found = options(
        Dumped(7, mounts=parse(ROOT), host_devices=HOST),
        given=given,
        page_server=("10.0.0.1", 9000),
        status_fd=9,
        leave_running=True,
    )
    for name in "tcp_established tcp_skip_in_flight tcp_close ext_unix_sk shell_job file_locks link_remap".split():
        assert found[name] is True
    assert found["auto_dedup"] is found["lazy_pages"] is found["leave_running"] is True
    assert (found["manage_cgroups"], found["manage_cgroups_mode"]) == (True, rpc.CGROUP_MODES["strict"])
    assert found["network_lock"] == rpc.NETWORK_LOCKS["nftables"]
    assert found["ps"] == {"address": "10.0.0.1", "port": 9000}
    assert found["status_fd"] == 9


def test_network_lock_without_iptables() -> None:
    """CRIU would fail to execute iptables-restore; the command line decides if it names a lock."""
    dumped = Dumped(7, mounts=parse(ROOT), host_devices=HOST, has_iptables=False)
    assert options(dumped)["network_lock"] == rpc.NETWORK_LOCKS["nftables"]
    assert options(dumped, given=CriuOptions(network_lock="skip"))["network_lock"] == rpc.NETWORK_LOCKS["skip"]


def test_cgroups_below_the_containers_are_dumped() -> None:
    """A restored process must find its own cgroup again; the command line decides if it names a mode."""
    dumped = Dumped(7, mounts=parse(ROOT), host_devices=HOST, has_subgroups=True)
    assert options(dumped)["manage_cgroups_mode"] == rpc.CGROUP_MODES["soft"]
    assert options(dumped, given=CriuOptions(manage_cgroups_mode="ignore"))["manage_cgroups"] is False


def test_a_network_namespace_is_dumped_empty() -> None:
    """The host's is not dumped at all, and one that config.json joins is external."""
    assert "empty_ns" not in options(Dumped(7, mounts=parse(ROOT), host_devices=HOST, shared=["net"]))
    joined = options(Dumped(7, mounts=parse(ROOT), host_devices=HOST, external={"network": 9}))
    assert "empty_ns" not in joined
    assert joined["external"] == ["net[9]:extRootNetNS"]
