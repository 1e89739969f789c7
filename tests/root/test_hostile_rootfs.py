"""Root filesystems made by an attacker: links, nodes and directories where the set-up will go.

Every path of the container is resolved once, inside its root, to a descriptor. Each attack runs in the three
ways in which a container can get its root: pivot_root, --no-pivot, and in a user namespace.
"""

import array
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.config import bind, mount
from tests.support.hostile import Attack
from tests.support.runtime import AT_ONCE, PATIENCE, Result

pytestmark = pytest.mark.root

Run = Callable[[Attack], Result]


@pytest.fixture(params=["pivot", "no-pivot", "user-namespace"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs the container in one of the ways to get a root."""

    def run(attack: Attack) -> Result:
        if request.param == "user-namespace":
            attack.bundle.in_user_namespace()
        return attack.run(*(["--no-pivot"] if request.param == "no-pivot" else []))

    return run


# ── the root and its directories ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", ["/elsewhere", "../../outside", "/etc", "/"])
@pytest.mark.parametrize("path", ["/proc", "/sys"])
def test_proc_or_sys_is_a_symlink(attack: Attack, run: Run, path: str, target: str) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: procfs elsewhere escapes its masks."""
    (attack.rootfs / "elsewhere").mkdir()
    attack.link(path, target)
    result = run(attack)
    assert 1 == result.status
    assert f"on {path}: openat2: too many levels of symbolic links (hint: it must be mounted on ordinary" in result.err
    assert [] == os.listdir(attack.rootfs / "elsewhere")


@pytest.mark.parametrize("path", ["/proc", "/sys"])
def test_proc_or_sys_is_a_symlink_under_a_bind_mount(attack: Attack, path: str) -> None:
    """CVE-2019-19921: the host's procfs or sysfs, bound (`--pid host`), escapes its masks in the same way."""
    (attack.rootfs / "elsewhere").mkdir()
    attack.link(path, "/elsewhere")
    attack.bundle.without_mount(path, "/sys/fs/cgroup")
    attack.config["mounts"].insert(0, bind(path, path, "ro"))
    attack.linux["namespaces"] = [{"type": kind} for kind in ("mount", "network", "uts", "ipc", "cgroup")]
    result = attack.run()
    assert 1 == result.status
    assert f"bind {path} on {path}" in result.err


@pytest.mark.parametrize("path", ["/proc", "/sys"])
def test_proc_or_sys_is_a_file(attack: Attack, run: Run, path: str) -> None:
    """CVE-2019-16884's cousin: a mount point that is not a directory is rejected."""
    (attack.rootfs / path[1:]).rmdir()
    (attack.rootfs / path[1:]).write_text("")
    result = run(attack)
    assert 1 == result.status
    assert "not a directory" in result.err


@pytest.mark.parametrize("destination", ["/a/../../x", "/a/abs/x", "/a/rel/x", "/a/deep/../x", "a/x", "/a/loop/x"])
def test_mount_destination_climbs_out(attack: Attack, run: Run, destination: str) -> None:
    """CVE-2015-3629, CVE-2021-30465, CVE-2024-45310: every way out of the root leads back into it."""
    attack.link("/a/abs", "/target")
    attack.link("/a/rel", "../../../../../../../../../target")
    attack.link("/a/loop", "/a/loop2/../rel")
    (attack.rootfs / "a/loop2").mkdir()
    (attack.rootfs / "target").mkdir()
    (attack.rootfs / "a/deep").mkdir()
    attack.config["mounts"].append(mount(destination, "tmpfs", "mode=701"))
    attack.bundle.shell("awk '$3 == \"tmpfs\" && $4 ~ /mode=701/ {print $2}' /proc/mounts")
    result = run(attack)
    assert 0 == result.status, result
    assert {
        "/a/../../x": "/x", "/a/abs/x": "/target/x", "/a/rel/x": "/target/x", "/a/deep/../x": "/a/x", "a/x": "/a/x",
        "/a/loop/x": "/target/x",
    }[destination] == result.out.strip()  # fmt: skip


def test_mount_destination_is_a_link_to_the_canary(attack: Attack, run: Run) -> None:
    """CVE-2015-1335, CVE-2015-3629: a link with the host's absolute path leads into the root, not to the host's
    file.
    """
    attack.link("/data", str(attack.outside))
    source = attack.folder / "source"
    source.mkdir(mode=0o755)
    (source / "marker").write_text("marker")
    attack.config["mounts"].append(bind(source, "/data"))
    attack.bundle.shell(f"ls /data/; grep -c ' {attack.outside} ' /proc/self/mountinfo")
    result = run(attack)
    assert (0, "marker\n1\n") == (result.status, result.out)
    assert (attack.rootfs / str(attack.outside)[1:]).is_dir()


@pytest.mark.parametrize("destination", ["/", "/.", "/a/..", "/self", "/up", "/abs"])
def test_mount_over_the_root(attack: Attack, run: Run, destination: str) -> None:
    """A mount over the container's root would hide it from the rest of the set-up: refused, links or not."""
    (attack.rootfs / "a").mkdir()
    attack.link("/self", ".")
    attack.link("/up", "../../..")
    attack.link("/abs", "/")
    attack.config["mounts"].append(mount(destination, "tmpfs"))
    result = run(attack)
    assert 1 == result.status
    assert "root" in result.err


@pytest.mark.parametrize("kind", ["symlink", "file", "missing", "fifo", "slash"])
def test_root_path_of_another_type(attack: Attack, kind: str) -> None:
    """root.path itself must be a directory, and not a link to one."""
    place = attack.bundle.folder / "root2"
    if kind in ("symlink", "slash"):
        place.symlink_to(attack.rootfs)
    elif kind == "file":
        place.write_text("")
    elif kind == "fifo":
        os.mkfifo(place)
    attack.config["root"]["path"] = "root2/" if kind == "slash" else "root2"
    result = attack.run()
    assert 1 == result.status
    expected = {"missing": "no such file or directory", "file": "not a directory", "fifo": "not a directory"}
    assert expected.get(kind, "it is a symlink") in result.err


# ── /dev ────────────────────────────────────────────────────────────────────────────────────────────────


def test_dev_is_a_link_to_the_host(attack: Attack) -> None:
    """CVE-2026-41579 (runc), CVE-2026-47766 (crun): nodes and links of /dev are made in the root, or not at all."""
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    (attack.outside / "ptmx").write_text("canary\n")
    attack.remember()
    attack.link("/dev", "../../outside")
    result = attack.run()
    assert 1 == result.status
    attack.link("/dev", str(attack.outside))
    assert 1 == attack.run().status


def test_dev_is_a_link_inside_the_root(attack: Attack) -> None:
    """CVE-2026-41579: a link that stays inside is followed inside."""
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    (attack.rootfs / "elsewhere").mkdir()
    attack.link("/dev", "/../../elsewhere")
    attack.bundle.shell("ls /elsewhere/")
    result = attack.run()
    assert 0 == result.status, result
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx"} <= set(result.out.split())


@pytest.mark.parametrize("dangling", [True, False])
@pytest.mark.parametrize("readonly", [True, False])
def test_console_is_a_link_to_the_host(attack: Attack, console: "Console", dangling: bool, readonly: bool) -> None:
    """CVE-2026-88264 (crun): /dev/console of an image without a /dev mount is not made through a link."""
    attack.bundle.without_mount("/dev", "/dev/shm")
    (attack.rootfs / "dev/pts").mkdir()
    target = attack.outside / ("new" if dangling else "file")
    attack.link("/dev/console", str(target))
    attack.process["terminal"] = True
    attack.config["root"]["readonly"] = readonly
    result = attack.create("--console-socket", console.path)
    assert 1 == result.status
    assert "/dev/console" in result.err


def test_console_is_a_link_inside_the_root(attack: Attack, console: "Console") -> None:
    """CVE-2025-52565: what /dev/console leads to inside the root is covered; nothing else gets the terminal."""
    attack.bundle.without_mount("/dev", "/dev/shm")
    (attack.rootfs / "dev/pts").mkdir()
    (attack.rootfs / "etc/target").write_text("mine\n")
    attack.link("/dev/console", "/etc/target")
    attack.process["terminal"] = True
    attack.bundle.shell("stat -c %F /etc/target")
    assert 0 == attack.create("--console-socket", console.path).status
    assert 0 == attack.start().status
    assert "character special file" == console.read().decode().strip()
    assert "mine\n" == (attack.rootfs / "etc/target").read_text()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "block device", "other device", "fifo", "folder"])
def test_dev_null_is_something_else(attack: Attack, kind: str) -> None:
    """CVE-2026-88265 (crun): a /dev/null that is not character device 1:3 is refused; nothing is chown'ed."""
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    place = attack.rootfs / "dev/null"
    if kind == "link":
        attack.link("/dev/null", str(attack.outside / "file"))
    elif kind == "dangling link":
        attack.link("/dev/null", "/nowhere")
    elif kind == "file":
        place.write_text("")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        format_, number = (stat.S_IFBLK, (1, 3)) if kind == "block device" else (stat.S_IFCHR, (1, 5))
        os.mknod(place, format_ | 0o600, os.makedev(*number))
    before = place.lstat()
    result = attack.run()
    assert 1 == result.status
    assert "cannot make device /dev/null: something else exists at this path" in result.err
    assert (before.st_mode, before.st_uid) == (place.lstat().st_mode, place.lstat().st_uid)


def test_host_stdio_is_not_chowned_by_a_lookalike(attack: Attack) -> None:
    """CVE-2026-88265 (crun): the host's /dev/null on stdio stays root's, whatever the container's user."""
    attack.process["user"] = {"uid": 1234, "gid": 1234}
    with open("/dev/null", "r+b") as null:
        attack.bundle.write()
        command = attack.command("run", "--bundle", attack.bundle.folder, attack.id)
        assert (
            0 == subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False, timeout=PATIENCE).returncode
        )
    assert 0 == os.stat("/dev/null").st_uid


def test_dev_null_of_a_user_namespace_is_a_link(attack: Attack) -> None:
    """CVE-2026-88265, CVE-2025-31133: where nodes are bound, a link is followed in the root only."""
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    attack.link("/dev/null", str(attack.outside / "file"))
    attack.bundle.in_user_namespace()
    result = attack.run()
    assert 1 == result.status
    assert "/dev/null" in result.err


@pytest.mark.parametrize("null", ["link", "missing", "file"])
def test_masks_do_not_use_the_containers_null(attack: Attack, run: Run, null: str) -> None:
    """CVE-2025-31133 (runc), CVE-2025-62161 (youki): masks come from the host's /dev/null, verified."""
    source = attack.folder / "dev"
    source.mkdir(mode=0o755)
    if null == "link":
        (source / "null").symlink_to("/proc/sys/kernel/core_pattern")
    elif null == "file":
        (source / "null").write_text("fake")
        (source / "null").chmod(0o666)
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    attack.config["mounts"].insert(1, bind(source, "/dev"))  # a bound /dev is the caller's: no nodes are made
    attack.linux["maskedPaths"] = ["/proc/version", "/proc/keys", "/proc/sysrq-trigger", "/etc/secret"]
    (attack.rootfs / "etc/secret").write_text("secret")
    attack.bundle.shell(
        "for f in /proc/version /proc/keys /etc/secret; do stat -c '%n %t:%T %F' $f; done; cat /etc/secret"
    )
    result = run(attack)
    assert 0 == result.status, result
    expected = [f"{path} 1:3 character special file" for path in ("/proc/version", "/proc/keys", "/etc/secret")]
    assert expected == result.out.splitlines()


def test_masks_do_not_give_away_the_hosts_null(attack: Attack, run: Run) -> None:
    """Root of a container may own every file there, but through a mask it can't change what the host's /dev/null is."""
    files = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")
    attack.process["capabilities"] = {kind: list(files) for kind in ("bounding", "effective", "permitted")}
    attack.linux["maskedPaths"] = ["/proc/keys", "/etc/secret"]
    (attack.rootfs / "etc/secret").write_text("secret")
    null = os.stat("/dev/null")
    owner = f"{null.st_uid}:{null.st_gid}"
    attack.bundle.shell(
        f"for f in /proc/keys /etc/secret; do chmod {null.st_mode & 0o7777:o} $f; chown {owner} $f; touch -c $f; "
        "echo x > $f; cat $f; done; exit 5"
    )  # what it is already: it must not come to harm by a test that fails
    result = run(attack)
    assert 5 == result.status, result
    assert 6 == result.err.count("Read-only file system"), result


def test_ptmx_of_devpts_is_covered(attack: Attack, console: "Console") -> None:
    """CVE-2025-52565: the terminal comes from a devpts itself, not from what was mounted over its ptmx."""
    source = attack.folder / "ptmx"
    os.mkfifo(source)
    attack.config["mounts"].append(bind(source, "/dev/pts/ptmx"))
    attack.process["terminal"] = True
    result = attack.create("--console-socket", console.path)
    assert 1 == result.status
    assert "cannot open a terminal" in result.err


@pytest.mark.parametrize("ptmx", ["/dev/ptmx", "/dev/pts/ptmx"])
def test_ptmx_is_the_hosts(attack: Attack, console: "Console", ptmx: str) -> None:
    """CVE-2025-52565: the host's own ptmx over the container's would hand out the host's terminals."""
    attack.config["mounts"].append(bind(ptmx, "/dev/pts/ptmx"))
    attack.process["terminal"] = True
    result = attack.create("--console-socket", console.path)
    assert 1 == result.status
    assert "cannot open a terminal" in result.err


@pytest.mark.parametrize("what", ["folder", "link", "tmpfs"])
def test_pts_without_a_devpts(attack: Attack, console: "Console", what: str) -> None:
    """CVE-2025-52565: /dev/pts must be a devpts before its ptmx is opened."""
    attack.bundle.without_mount("/dev/pts", "/dev", "/dev/shm")
    if what == "link":
        attack.link("/dev/pts", "/dev/fake")
    (attack.rootfs / ("dev/fake" if what == "link" else "dev/pts")).mkdir()
    os.mknod(attack.rootfs / ("dev/fake" if what == "link" else "dev/pts") / "ptmx", stat.S_IFCHR | 0o666, 5 << 8 | 2)
    if what == "tmpfs":
        attack.config["mounts"].append(mount("/dev/pts", "tmpfs"))
    attack.process["terminal"] = True
    result = attack.create("--console-socket", console.path)
    assert 1 == result.status
    assert "the container's /dev/pts is not a devpts" in result.err


# ── masked and read-only paths ──────────────────────────────────────────────────────────────────────────


def test_masked_path_is_a_link(attack: Attack, run: Run) -> None:
    """GHSA-3q8j-pf29-vwv8 (youki): a mask covers what the link leads to, inside; the link's name may be missing."""
    (attack.rootfs / "etc/secret").write_text("secret")
    (attack.rootfs / "etc/folder").mkdir()
    (attack.rootfs / "etc/folder/secret").write_text("secret")
    attack.link("/etc/alias", "/etc/secret")
    attack.link("/etc/folder-alias", "../../../etc/folder")
    attack.link("/etc/escape", str(attack.outside / "file"))
    attack.linux["maskedPaths"] += ["/etc/alias", "/etc/alias", "/etc/folder-alias", "/etc/escape", "/etc/missing"]
    attack.bundle.shell(
        "cat /etc/secret; ls /etc/folder; cat /etc/passwd | wc -l; touch /etc/folder/x && echo writable"
    )
    result = run(attack)
    assert 0 != result.status
    assert "1" == result.out.strip()


def test_readonly_path_is_a_link(attack: Attack, run: Run) -> None:
    """GHSA-3q8j-pf29-vwv8 (youki): read-only is what the link leads to, with everything mounted below it."""
    (attack.rootfs / "data").mkdir()
    attack.link("/alias", "/data")
    attack.link("/trigger", "/proc/sysrq-trigger")
    attack.config["mounts"].append(mount("/data/sub", "tmpfs", "mode=777"))
    attack.config["mounts"].append(mount("/data/sub/deeper", "tmpfs", "mode=777"))
    attack.linux["readonlyPaths"] = ["/alias", "/alias", "/trigger", "/missing", "/etc/passwd/below-a-file"]
    attack.bundle.shell(
        "for f in /data/x /data/sub/x /data/sub/deeper/x; do touch $f && echo $f; done;"
        "(echo > /proc/sysrq-trigger) && echo trigger; touch /etc/x && echo fine"
    )
    result = run(attack)
    assert 0 == result.status, result
    assert "fine" == result.out.strip()


def test_masked_directory_stays_masked_below_a_readonly_one(attack: Attack, run: Run) -> None:
    """CVE-2019-16884's consequence: a read-only bind over a masked path must not uncover it."""
    (attack.rootfs / "data/secret").mkdir(parents=True)
    (attack.rootfs / "data/secret/file").write_text("secret")
    attack.linux["readonlyPaths"] = ["/data", "/data/secret"]
    attack.linux["maskedPaths"] = ["/data/secret"]
    attack.bundle.shell("ls -A /data/secret; touch /data/secret/x; touch /data/x; echo done")
    result = run(attack)
    assert "done" == result.out.strip()


def test_mask_of_a_magic_link(attack: Attack) -> None:
    """CVE-2021-30465: a magic link leads anywhere; as part of a masked path it is refused, not followed."""
    attack.link("/etc/magic", "/proc/self/root/etc/passwd")
    attack.linux["maskedPaths"].append("/etc/magic")
    result = attack.run()
    assert 1 == result.status
    assert "cannot mask /etc/magic" in result.err


# ── cwd and files that the runtime reads ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cwd", ["/work", "/work/deep", "/up/x"])
def test_cwd_is_made_inside(attack: Attack, run: Run, cwd: str) -> None:
    """CVE-2026-55686 (podman), CVE-2024-45310 (runc): a missing cwd is made in the root, through no link."""
    attack.link("/work", str(attack.outside / "new"))
    attack.link("/up", "../../../../../..")
    attack.process["cwd"] = cwd
    attack.bundle.shell("pwd -P")
    result = run(attack)
    if cwd.startswith("/work"):
        assert 1 == result.status
        assert "cwd" in result.err
    else:
        assert "/x" == result.out.strip()


@pytest.mark.parametrize("file", ["fifo", "device", "link", "folder", "huge"])
def test_passwd_is_a_trap(attack: Attack, file: str) -> None:
    """CVE-2026-47262 (containerd): the container's passwd neither blocks, nor leads out, nor fills memory."""
    place = attack.rootfs / "etc/passwd"
    place.unlink()
    if file == "fifo":
        os.mkfifo(place)
    elif file == "device":
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif file == "folder":
        place.mkdir()
    elif file == "link":
        host = attack.folder / "passwd"
        host.write_text("root:x:0:0:root:/stolen:/bin/sh\n")
        attack.link("/etc/passwd", str(host))
    else:
        with place.open("wb") as huge:
            huge.truncate(1 << 30)
    attack.process["env"] = ["PATH=/bin"]
    attack.bundle.shell("echo $HOME")
    result = attack.run()
    assert (0, "/") == (result.status, result.out.strip())
    assert AT_ONCE > result.seconds


@pytest.mark.parametrize(
    ("line", "home"),
    [
        ("root:x:1000:1000::/by-name:/bin/sh", "/"),
        ("1000:x:5:5::/numeric-name:/bin/sh", "/"),
        ("u:x:4294967296000:0::/overflow:/bin/sh", "/"),
        ("u:x:18446744073709551616:0::/wraps:/bin/sh", "/"),
        ("u:x::0::/empty-uid:/bin/sh", "/"),
        ("u:x:-0:0::/negative:/bin/sh", "/"),
        ("u:x: 0:0::/blank:/bin/sh", "/"),
        ("u:x:0", "/"),
        ("u:x:0:0::relative:/bin/sh", "/"),
        ("A" * 5000 + ":x:0:0::/long:/bin/sh", "/"),
        ("u:x:0:0::/home:/bin/sh", "/home"),
    ],
)
def test_passwd_lines(attack: Attack, line: str, home: str) -> None:
    """CVE-2016-3697, CVE-2024-40635, CVE-2022-4318: ids are numbers, in range; a bad line names no user."""
    (attack.rootfs / "etc/passwd").write_text(f"{line}\n")
    attack.process["env"] = ["PATH=/bin"]
    attack.bundle.shell("echo $HOME")
    assert home == attack.run().out.strip()


def test_tmpcopyup_of_a_poisoned_directory(attack: Attack) -> None:
    """CVE-2018-15664's class: a copy of a directory of the image copies links as links, FIFOs as FIFOs, and ends."""
    folder = attack.rootfs / "data"
    folder.mkdir()
    (folder / "link").symlink_to(attack.outside / "file")
    (folder / "directory-link").symlink_to(attack.outside)
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (folder / "sub").mkdir(mode=0o700)
    (folder / "sub/file").write_text("kept")
    attack.config["mounts"].append(mount("/data", "tmpfs", "tmpcopyup", "size=1m"))
    attack.bundle.shell("cd /data; stat -c '%n %F' link directory-link fifo zero sub; cat sub/file")
    result = attack.run()
    assert (
        "link symbolic link\ndirectory-link symbolic link\nfifo fifo\nzero character special file\nsub directory\nkept"
        == result.out
    )


def test_tmpcopyup_of_a_deep_directory(attack: Attack) -> None:
    """CVE-2026-47262's class: no directory of the image is deep enough to exhaust the stack."""
    folder = attack.rootfs / "data"
    folder.mkdir()
    before = os.getcwd()
    try:
        os.chdir(folder)
        for _ in range(200):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    attack.config["mounts"].append(mount("/data", "tmpfs", "tmpcopyup"))
    result = attack.run()
    assert 1 == result.status
    assert "too deep" in result.err


# ── The terminal's other end ────────────────────────────────────────────────────────────────────────────


class Console:
    """A listening socket, like the engines' for terminals."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "console.sock"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen(1)
        self._socket.settimeout(PATIENCE)

    def read(self) -> bytes:
        """What the container has written to its terminal."""
        peer, _ = self._socket.accept()
        with peer:
            _, control, _, _ = peer.recvmsg(64, socket.CMSG_SPACE(4))
        master = array.array("i", control[0][2])[0]
        data = b""
        try:
            while part := os.read(master, 4096):
                data += part
        except OSError:
            pass
        os.close(master)
        return data

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def console(tmp_path: Path) -> Iterator["Console"]:
    """A process that receives terminals."""
    made = Console(tmp_path)
    yield made
    made.close()
