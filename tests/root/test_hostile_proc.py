"""procfs, sysfs, cgroupfs and the runtime's own executable: what a container could reach the host through."""

import hashlib
import mmap
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.config import bind, mount
from tests.support.hostile import Attack

pytestmark = pytest.mark.root


# ── mounts over /proc ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["tmpfs", "bind", "fake procfs", "procfs file", "cgroup2", "sysfs", "mqueue"])
def test_something_else_is_mounted_on_proc(attack: Attack, kind: str) -> None:
    """CVE-2019-16884, CVE-2015-3631: what is not the root of a procfs has no place on /proc."""
    source = attack.folder / "fake"
    (source / "self/attr").mkdir(parents=True)
    if kind == "bind":
        entry = bind(source, "/proc")
    elif kind == "fake procfs":
        entry = bind("/proc/sys", "/proc")  # procfs by its type, but not its root
    elif kind == "procfs file":
        entry = bind("/proc/self/task", "/proc")
    else:
        entry = mount("/proc", "cgroup" if kind == "cgroup2" else kind)
    for place in (0, 1):  # in place of a procfs, and over it
        attack.config["mounts"].insert(place, entry)
        result = attack.run()
        assert (1, True) == (result.status, "procfs" in result.err), result
        attack.config["mounts"].remove(entry)


BELOW_PROC = ["/proc/self/attr", "/proc/sys", "/proc/sys/kernel", "/proc/1/attr", "/proc/thread-self", "/proc/net",
              "/proc/sysrq-trigger", "/proc/self/attr/exec", "/proc/self/fd", "/proc/self"]  # fmt: skip


@pytest.mark.parametrize("type", ["tmpfs", "proc", "sysfs", "bind"])
@pytest.mark.parametrize("destination", BELOW_PROC)
def test_something_is_mounted_below_proc(attack: Attack, type: str, destination: str) -> None:
    """CVE-2019-16884, CVE-2025-52881: a mount on a file of procfs redirects what is written there."""
    source = attack.folder / "fake"
    source.mkdir()
    (source / "file").write_text("")
    is_file = destination.endswith(("trigger", "exec"))
    entry = bind(source / "file" if is_file else source, destination) if type == "bind" else mount(destination, type)
    attack.config["mounts"].append(entry)
    result = attack.run()
    assert 1 == result.status
    assert "proc" in result.err


def test_link_to_proc(attack: Attack) -> None:
    """CVE-2019-16884: a destination that leads to /proc by a link is /proc."""
    attack.link("/data", "/proc/sys")
    attack.config["mounts"].append(mount("/data", "tmpfs"))
    result = attack.run()
    assert (1, True) == (result.status, "procfs" in result.err)


def test_lxcfs_may_cover_its_files(attack: Attack) -> None:
    """The exception: the files that lxcfs serves may be covered, since no security decision reads them."""
    (attack.folder / "meminfo").write_text("MemTotal: 1 kB\n")
    attack.config["mounts"].append(bind(attack.folder / "meminfo", "/proc/meminfo", "ro"))
    attack.bundle.shell("cat /proc/meminfo")
    assert "MemTotal: 1 kB\n" == attack.run().out


def test_device_on_a_procfs_file(attack: Attack) -> None:
    """CVE-2025-52565: /dev/null of an image must not lead a bound device onto procfs."""
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    attack.link("/dev/null", "/proc/version")
    attack.bundle.in_user_namespace()
    result = attack.run()
    assert (1, True) == (result.status, "procfs" in result.err)


# ── sysctl ──────────────────────────────────────────────────────────────────────────────────────────────


def test_sysctl_with_proc_covered(attack: Attack) -> None:
    """CVE-2025-52881: sysctls are written through a procfs that nothing can be mounted on."""
    attack.linux["sysctl"] = {"kernel.domainname": "set-by-test", "net.ipv4.ip_forward": "1"}
    fake = attack.folder / "fake"
    fake.mkdir()
    attack.bundle.without_mount("/proc")
    attack.link("/proc", "/fake")
    attack.bundle.shell("cat /proc/sys/kernel/domainname; hostname -d; cat /proc/sys/net/ipv4/ip_forward")
    attack.linux["maskedPaths"] = attack.linux["readonlyPaths"] = []
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    before = Path("/proc/sys/kernel/domainname").read_text(), Path("/proc/sys/net/ipv4/ip_forward").read_text()
    (attack.rootfs / "fake/sys/kernel").mkdir(parents=True)
    (attack.rootfs / "fake/sys/kernel/domainname").write_text("untouched\n")
    result = attack.run()
    assert "untouched" == result.out.splitlines()[0]
    assert before == (
        Path("/proc/sys/kernel/domainname").read_text(), Path("/proc/sys/net/ipv4/ip_forward").read_text()
    )  # fmt: skip


def test_sysctl_reaches_only_the_container(attack: Attack) -> None:
    """The parameter is the container's, the host's stays."""
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    attack.linux["sysctl"] = {"net.ipv4.ip_forward": "0" if before.strip() == "1" else "1", "kernel.msgmax": "4096"}
    attack.bundle.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
    result = attack.run()
    assert [attack.linux["sysctl"]["net.ipv4.ip_forward"], "4096"] == result.out.split()
    assert before == Path("/proc/sys/net/ipv4/ip_forward").read_text()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel.core_pattern", "|/pwn"),
        ("kernel/../kernel/core_pattern", "|/pwn"),
        ("net/../kernel/core_pattern", "|/pwn"),
        ("net.ipv4.../../kernel.core_pattern", "|/pwn"),
        ("net.ipv4.ip_forward", "1\n2"),
        ("net.ipv4.ip_forward", "1\0"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/pwn\n"),
        ("net.ipv4.ip_forward", "1" * 5000),
        ("vm.overcommit_memory", "1"),
        ("kernel.sysrq", "1"),
        ("", "1"),
        ("net", "1"),
        ("/etc/passwd", "x"),
        ("net//etc/passwd", "x"),
        ("net.\n", "x"),
    ],
)
def test_sysctl_is_not_the_containers(attack: Attack, key: str, value: str) -> None:
    """CVE-2022-0811, CVE-2022-0532, GHSA-w2j5-3rcx-vx7x: only what a namespace of the container isolates."""
    attack.linux["sysctl"] = {key: value}
    result = attack.run()
    assert (1, True) == (result.status, "sysctl" in result.err), result


@pytest.mark.parametrize("way", ["no namespace", "the host's by path"])
def test_sysctl_of_the_hosts_network(attack: Attack, way: str) -> None:
    """CVE-2022-0532: a network namespace that is the host's isolates nothing."""
    attack.linux["namespaces"] = [ns for ns in attack.linux["namespaces"] if ns["type"] != "network"]
    if way == "the host's by path":
        attack.linux["namespaces"].append({"type": "network", "path": f"/proc/{os.getpid()}/ns/net"})
    attack.bundle.without_mount("/sys", "/sys/fs/cgroup")
    before = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    attack.linux["sysctl"] = {"net.ipv4.ip_default_ttl": "65" if before.strip() == "64" else "64"}
    try:
        result = attack.run()
        assert before == Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    finally:
        Path("/proc/sys/net/ipv4/ip_default_ttl").write_text(before)
    assert 1 == result.status


# ── /proc/self/exe ──────────────────────────────────────────────────────────────────────────────────────


OVERWRITE = """#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
/* Become a process that watches what init was executed from, and tries to write there. */
int main(int argc, char **argv)
{
    char link[256] = "";
    int tries, fd;
    for (tries = 0; tries < 3; tries++) {
        fd = open(argv[1], O_WRONLY | (tries == 1 ? O_TRUNC : 0) | (tries == 2 ? O_APPEND : 0));
        printf("%s\\n", fd < 0 ? strerror(errno) : "writable");
    }
    readlink(argv[1], link, sizeof link - 1);
    printf("%s\\n", link);
    return 0;
}
"""


def executables(attack: Attack) -> dict[str, str]:
    """Digests of everything a container could overwrite to be executed as root later."""
    paths = [attack.executable, "/bin/busybox", os.path.realpath("/usr/bin/python3")]
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("how", ["path", "link", "script", "script link", "argument"])
@pytest.mark.parametrize("options", [[], ["--no-pivot"]])
def test_program_is_the_runtime(attack: Attack, how: str, options: list[str]) -> None:
    """CVE-2019-5736: the program is /proc/self/exe, by whatever way: the running file can't be written to."""
    before = executables(attack)
    attack.link("/bin/self", "/proc/self/exe")
    (attack.rootfs / "bin/script").write_text("#!/proc/self/exe\n")
    (attack.rootfs / "bin/script").chmod(0o755)
    (attack.rootfs / "bin/script-link").write_text("#!/bin/self\n")
    (attack.rootfs / "bin/script-link").chmod(0o755)
    attack.process["args"] = {
        "path": ["/proc/self/exe", "--version"],
        "link": ["/bin/self", "--version"],
        "script": ["/bin/script"],
        "script link": ["/bin/script-link"],
        "argument": ["/bin/sh", "-c", "exec /proc/1/exe --version"],
    }[how]
    result = attack.run(*options)
    assert "" == result.out or how == "argument"
    assert before == executables(attack)


def test_runtime_is_never_writable(attack: Attack, probe: Path) -> None:
    """CVE-2019-5736: the executable of a created container's first process can't be opened for writing, ever."""
    before = executables(attack)
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == attack.create().status
    exe = f"/proc/{attack.pid()}/exe"
    link = os.readlink(exe)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(OSError) as caught:
            os.close(os.open(exe, flags))
        assert caught.value.errno in (1, 26, 30)  # EPERM, ETXTBSY, EROFS
    held = os.open(exe, os.O_RDONLY)
    assert 0 == attack.start().status
    assert 0 == attack.delete().status
    # the trick of the exploit: hold it open, and reopen it for writing as soon as no process executes it any more
    writable = os.open(f"/proc/self/fd/{held}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.write(writable, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(writable, 1)
    with pytest.raises(PermissionError):
        mmap.mmap(writable, 4096)
    os.close(writable)
    os.close(held)
    assert attack.executable not in link
    assert before == executables(attack)


def test_libraries_of_the_image_do_not_run_in_the_runtime(attack: Attack) -> None:
    """CVE-2019-14271: a `#!/proc/self/exe` script does not run the image's ELF loader as the runtime."""
    (attack.rootfs / "lib64").mkdir()
    marker = attack.rootfs / "loaded"
    loader = attack.rootfs / "lib64/ld-linux-x86-64.so.2"
    source = attack.folder / "loader.c"
    source.write_text(
        '#include <fcntl.h>\nvoid _start(void){long r;__asm__ volatile("syscall":"=a"(r):"a"(85),"D"("/loaded"),"S"(0644)'
        ':"rcx","r11","memory");for(;;)__asm__ volatile("syscall":"=a"(r):"a"(231),"D"(0):"rcx","r11","memory");}\n'
    )
    build = ["gcc", "-static-pie", "-nostdlib", "-fPIE", "-o", str(loader), str(source)]
    subprocess.run(build, check=True)
    (attack.rootfs / "bin/script").write_text("#!/proc/self/exe\n")
    (attack.rootfs / "bin/script").chmod(0o755)
    attack.process["args"] = ["/bin/script"]
    before = executables(attack)
    attack.run()
    # if it ran, then in a process whose executable can't be written; the test above looks at that
    assert before == executables(attack)
    assert not marker.exists() or 0 == marker.stat().st_uid


# ── cgroups ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["cgroupns", "host cgroupns", "userns", "userns and host cgroupns"])
def test_cgroupfs_is_read_only(attack: Attack, way: str) -> None:
    """CVE-2023-25809, CVE-2022-0492: what the container sees of cgroupfs can't be written where `ro` was asked."""
    if "host cgroupns" in way:
        attack.linux["namespaces"] = [ns for ns in attack.linux["namespaces"] if ns["type"] != "cgroup"]
    if "userns" in way:
        attack.bundle.in_user_namespace()
    attack.bundle.shell(
        "cd /sys/fs/cgroup; mkdir x; echo 1 > cgroup.procs; echo 0 > cgroup.freeze; find . -name x; echo end"
    )
    result = attack.run()
    assert (0, "end") == (result.status, result.out.strip())
    assert 3 == result.err.count("Read-only file system")


@pytest.mark.parametrize(
    "path",
    [
        "../../x",
        "/../x",
        "/a/../../x",
        "a//b",
        "//",
        "/",
        ".",
        "..",
        "a/./b",
        "/a\n/b",
        "a/..",
        "a\0b",
        " /../",
        "/a/..",
    ],
)
def test_cgroup_path_climbs_out(attack: Attack, path: str) -> None:
    """GHSA-5g49-rx9x-qfc6, runc #5403: no path leaves the hierarchy, or names something twice."""
    if path == " /../":
        path = "x/../../y"
    attack.linux["cgroupsPath"] = path
    result = attack.run()
    assert (1, True) == (result.status, "cgroup" in result.err), result


def test_cgroup_of_another_owner(attack: Attack) -> None:
    """CVE-2023-6476: a cgroup with processes in it is not taken, its processes are not killed."""
    top = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line)
    victim = Path(top, f"victim-{attack.id[2:]}")
    victim.mkdir()
    sleeper = subprocess.Popen(["/bin/sleep", "100"])
    try:
        (victim / "cgroup.procs").write_text(str(sleeper.pid))
        attack.linux["cgroupsPath"] = f"/{victim.name}"
        result = attack.run()
        assert (1, True) == (result.status, "the container's cgroup is not empty" in result.err)
        assert sleeper.poll() is None
        assert 0 == attack.delete().status
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
        while "populated 1" in (victim / "cgroup.events").read_text():
            time.sleep(0.01)
        victim.rmdir()


@pytest.mark.parametrize(
    "key", ["../cgroup.procs", "cgroup/procs", "memory.max\n", "a", "memory.", ".max", "/etc/passwd"]
)
def test_unified_key_is_a_path(attack: Attack, key: str) -> None:
    """GHSA-5g49-rx9x-qfc6: a key of `unified` is the name of a file of this cgroup."""
    attack.linux["resources"]["unified"] = {key: "1"}
    result = attack.run()
    assert (1, True) == (result.status, "unified" in result.err)
