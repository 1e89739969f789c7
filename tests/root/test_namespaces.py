"""Namespaces, new and joined, id mappings, clock offsets, host names, kernel parameters."""

import itertools
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import Bundle, Runtime, wait_for

pytestmark = pytest.mark.root

LINKS = {
    "mount": "mnt", "network": "net", "uts": "uts", "pid": "pid", "ipc": "ipc", "cgroup": "cgroup", "user": "user",
    "time": "time",
}  # fmt: skip
SHOW = "for n in mnt net uts pid ipc cgroup user time; do readlink /proc/self/ns/$n; done"


def namespaces_of(pid: int | str) -> dict[str, str]:
    """Type → identity of the namespaces of a process."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{link}") for kind, link in LINKS.items()}


def inside(runtime: Runtime, *options: Any) -> dict[str, str]:
    """The same of the container's program."""
    return dict(zip(LINKS, runtime.shell(SHOW, *options).split(), strict=True))


@pytest.mark.parametrize(
    "kinds", [["mount"], list(LINKS), *[["mount", kind] for kind in LINKS if kind != "mount"]], ids=str
)
def test_new_namespaces(runtime: Runtime, bundle: Bundle, kinds: list[str]) -> None:
    """Listed namespaces are new, the others are the runtime's (NS-02, NS-05)."""
    bundle.linux["namespaces"] = [{"type": kind} for kind in kinds]
    if "user" in kinds:
        bundle.in_user_namespace()
    if "uts" not in kinds:
        del bundle.config["hostname"]
    if not {"network", "pid"} <= set(kinds):
        bundle.without_mount("/sys", "/sys/fs/cgroup")
    if "user" in kinds and "pid" not in kinds:  # the kernel forbids mounting a procfs of other processes
        bundle.without_mount("/proc").mount("/proc", "none", "rbind", source="/proc")
    if kinds in (["mount", "user"],):
        bundle.without_mount("/dev/pts", "/dev/shm")
    found = inside(runtime)
    host = namespaces_of("self")
    assert set(kinds) == {kind for kind in LINKS if found[kind] != host[kind]}


def test_time_namespace_without_offsets(runtime: Runtime, bundle: Bundle) -> None:
    """init is in the new time namespace from the first, as its children are."""
    bundle.namespace("time").program("sleep", 100)
    runtime.create()
    created = namespaces_of(runtime.pid())
    runtime.start()
    assert namespaces_of("self")["time"] != created["time"] == namespaces_of(runtime.pid())["time"]


@pytest.fixture
def other(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> int:
    """A container whose namespaces can be joined: all of them new, a user namespace too. Its pid."""
    made = Bundle(tmp_path / "other").in_user_namespace().namespace("time")
    made.program("sleep", 100)
    first, runtime.bundle = runtime.bundle, made
    runtime.create(id=f"{runtime.host.token}-other")
    runtime.start(f"{runtime.host.token}-other")
    runtime.bundle = first
    return runtime.pid(f"{runtime.host.token}-other")


def join(bundle: Bundle, pid: int | str, *kinds: str) -> None:
    for kind in kinds:
        bundle.namespace(kind, f"/proc/{pid}/ns/{LINKS[kind]}")


@pytest.mark.parametrize("order", list(itertools.permutations(["pid", "user", "network"])), ids="-".join)
def test_joined_in_any_order(runtime: Runtime, bundle: Bundle, other: int, order: tuple[str, str, str]) -> None:
    """pid, user and network of another container, listed in any order (NS-07)."""
    bundle.in_user_namespace()
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    join(bundle, other, *order)
    bundle.without_mount("/sys/fs/cgroup")
    found = inside(runtime)
    theirs = namespaces_of(other)
    assert {kind: theirs[kind] for kind in order} == {kind: found[kind] for kind in order}
    host = namespaces_of("self")
    for kind in ("mount", "uts", "ipc", "cgroup"):
        assert found[kind] not in (theirs[kind], host[kind])


def test_an_empty_path_counts_as_missing(runtime: Runtime, bundle: Bundle) -> None:
    """The namespace is new, as without a path."""
    for entry in bundle.linux["namespaces"]:
        entry["path"] = ""
    found, host = inside(runtime), namespaces_of("self")
    assert {entry["type"] for entry in bundle.linux["namespaces"]} == {
        kind for kind in LINKS if found[kind] != host[kind]
    }


def create_another(runtime: Runtime, folder: Path) -> str:
    """Create a container in the host's user namespace whose namespaces can be joined. Returns its id."""
    first, runtime.bundle = runtime.bundle, Bundle(folder / "other").program("sleep", 100)
    second = f"{runtime.host.token}-other"
    runtime.create(id=second)
    runtime.bundle = first
    return second


@pytest.mark.parametrize("kind", ["network", "uts", "ipc", "pid", "cgroup"])
def test_joined_alone(runtime: Runtime, bundle: Bundle, tmp_path: Path, kind: str) -> None:
    """Each type, from a container in the host's user namespace."""
    second = create_another(runtime, tmp_path)
    join(bundle, runtime.pid(second), kind)
    if kind == "uts":
        del bundle.config["hostname"]
    if kind == "cgroup":
        bundle.without_mount("/sys/fs/cgroup")
    found = inside(runtime)
    theirs = namespaces_of(runtime.pid(second))
    assert [kind] == [name for name in theirs if name not in ("user", "time") and found[name] == theirs[name]]
    assert "created" == runtime.state(second)["status"]


def test_joined_time_namespace(runtime: Runtime, bundle: Bundle, other: int) -> None:
    """Its clocks, too."""
    join(bundle, other, "time")
    assert namespaces_of(other)["time"] == inside(runtime)["time"]


def test_processes_of_a_joined_pid_namespace(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """The container ends with its program, what it left running is killed, and the other container goes on."""
    second = create_another(runtime, tmp_path)
    runtime.start(second)
    join(bundle, runtime.pid(second), "pid")
    assert "sleep 100" in runtime.shell("sleep 105 & ps -o args")
    assert "running" == runtime.state(second)["status"]
    inner = Path(f"/proc/{runtime.pid(second)}/root/proc")
    assert not [path for path in inner.glob("[0-9]*") if b"105" in (path / "cmdline").read_bytes()]


def test_procfs_shows_the_joined_pid_namespace(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """A process that is outside of it mounts /proc: the container sees the processes of that namespace, not the
    host's.
    """
    second = create_another(runtime, tmp_path)
    runtime.start(second)
    join(bundle, runtime.pid(second), "pid")
    bundle.linux["sysctl"] = {"net.ipv4.ping_group_range": "0 7"}
    shown = runtime.shell("cat /proc/1/cmdline; echo; echo /proc/[0-9]*; cat /proc/sys/net/ipv4/ping_group_range")
    first_line, processes, groups = shown.replace("\0", " ").splitlines()
    assert ("sleep 100", "0\t7") == (first_line.strip(), groups)
    assert 2 == len(processes.split())  # the other's program, and this shell


def test_oom_score_of_a_process_that_another_one_cloned(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """oomScoreAdj is the container's, not that of the process in between which joins a pid namespace for it."""
    second = create_another(runtime, tmp_path)
    join(bundle, runtime.pid(second), "pid")
    bundle.process["oomScoreAdj"] = 345
    assert ["345"] * 10 == [runtime.shell("cat /proc/self/oom_score_adj").strip() for _ in range(10)]


def test_a_bound_namespace_file(runtime: Runtime, bundle: Bundle) -> None:
    """A path that is a bind mount, as engines keep network namespaces; it stays after the delete (OP-12)."""
    file = runtime.folder / "netns"
    file.touch()
    subprocess.run(["unshare", f"--net={file}", "true"], check=True)
    try:
        bundle.namespace("network", file)
        found = inside(runtime)["network"]
        assert found == f"net:[{file.stat().st_ino}]"
        assert 0 == subprocess.run(["nsenter", f"--net={file}", "true"], check=False).returncode
    finally:
        subprocess.run(["umount", file], check=True)


@pytest.mark.parametrize("kind", [kind for kind in LINKS if kind not in ("mount", "user", "time")])
def test_path_of_the_runtimes_own(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """A path may lead to the runtime's own namespace."""
    join(bundle, "self", kind)
    if kind == "uts":
        del bundle.config["hostname"]
    if kind in ("network", "pid", "cgroup"):
        bundle.without_mount("/sys", "/sys/fs/cgroup")
    assert namespaces_of("self")[kind] == inside(runtime)[kind]


def test_loopback(runtime: Runtime, bundle: Bundle) -> None:
    """The loopback of a new network namespace is up; of a joined one it is as it was."""
    assert "LOOPBACK,UP" in runtime.shell("ip link show lo")
    file = runtime.folder / "netns"
    file.touch()
    subprocess.run(["unshare", f"--net={file}", "true"], check=True)
    try:
        bundle.namespace("network", file)
        assert "LOOPBACK,UP" not in runtime.shell("ip link show lo")
    finally:
        subprocess.run(["umount", file], check=True)


# --- names


def test_names(runtime: Runtime, bundle: Bundle) -> None:
    """hostname and domainname inside; the host's stay."""
    before = (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text())
    bundle.config |= {"hostname": "box", "domainname": "example.org"}
    assert "box\nexample.org\n" == runtime.shell("hostname; cat /proc/sys/kernel/domainname")
    assert before == (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text())


def test_longest_name(runtime: Runtime, bundle: Bundle) -> None:
    """64 bytes; one more is an error."""
    bundle.config["hostname"] = "x" * 64
    assert "x" * 64 + "\n" == runtime.shell("cat /proc/sys/kernel/hostname")
    bundle.config["hostname"] = "x" * 65
    assert "/hostname: " in runtime.create_fails()


def test_name_without_a_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """A host name without a UTS namespace would be the host's: an error (A-13)."""
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "uts"]
    before = os.uname().nodename
    assert "/hostname: " in runtime.create_fails()
    assert before == os.uname().nodename


# --- user namespaces


def test_id_mappings(runtime: Runtime, bundle: Bundle) -> None:
    """As the config lists them, several too; nothing of the root filesystem changes its owner (UM-02)."""
    bundle.in_user_namespace()
    bundle.linux["uidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 1000},
        {"containerID": 1000, "hostID": 5000, "size": 1},
        {"containerID": 2000, "hostID": 200000, "size": 5},
    ]
    bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 70000}]
    before = {path: path.lstat().st_uid for path in bundle.rootfs.rglob("*")}
    out = runtime.shell(
        "cat /proc/self/uid_map; echo; cat /proc/self/gid_map; id -u; touch /made; cat /proc/self/setgroups"
    )
    lines = [line.split() for line in out.splitlines()]
    assert [["0", "100000", "1000"], ["1000", "5000", "1"], ["2000", "200000", "5"], []] == lines[:4]
    assert [["0", "100000", "70000"], ["0"], ["allow"]] == lines[4:]
    assert 100000 == (bundle.rootfs / "made").stat().st_uid
    (bundle.rootfs / "made").unlink()
    after = {path: path.lstat().st_uid for path in bundle.rootfs.rglob("*")}
    assert before == {path: uid for path, uid in after.items() if path in before}


def test_user_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """process.user is of the container's user namespace (PROC-50)."""
    bundle.in_user_namespace()
    bundle.process["user"] = {"uid": 1000, "gid": 7, "additionalGids": [8]}
    bundle.shell("id; exec sleep 100")
    runtime.create()
    runtime.start()
    wait_for(runtime.output)
    assert "uid=1000 gid=7 groups=8" == re.sub(r"\([^)]*\)", "", runtime.output()).strip().replace(
        "groups=7,8", "groups=8"
    )
    status = Path(f"/proc/{runtime.pid()}/status").read_text()
    assert "Uid:\t101000\t101000\t101000\t101000\n" in status
    assert "Gid:\t100007\t100007\t100007\t100007\n" in status
    assert "Groups:\t100008 \n" in status


def test_capabilities_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """They count there and not on the host, whose clock stays."""
    bundle.in_user_namespace()
    for name in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][name] += ["CAP_SYS_ADMIN", "CAP_SYS_TIME"]
    assert "inner\n" == runtime.shell("hostname inner && hostname; date -s 2020-01-01 >/dev/null 2>&1; true")
    assert time.gmtime().tm_year > 2020


def test_user_namespace_with_offsets_and_hooks(runtime: Runtime, bundle: Bundle) -> None:
    """Everything that needs an intermediate process, together; the state names the container's own process."""
    bundle.in_user_namespace().namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 5000}}
    bundle.hook("createRuntime", f"cat > {runtime.folder}/seen").program("sleep", 100)
    runtime.create()
    pid = runtime.pid()
    assert f'"pid":{pid}' in (runtime.folder / "seen").read_text().replace(" ", "")
    assert os.getpid() == int(re.search(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    runtime.start()
    assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")


# --- kernel parameters


def test_sysctl(runtime: Runtime, bundle: Bundle) -> None:
    """Dots or slashes; values with spaces; in the container's namespaces only."""
    bundle.linux["sysctl"] = {
        "net.ipv4.ip_forward": "1",
        "net/ipv4/ping_group_range": "0 1000",
        "kernel.shmmax": "12345678",
        "net.ipv4.conf.lo.forwarding": "1",
        "net/ipv4/conf/lo/rp_filter": "1",
    }
    before = Path("/proc/sys/kernel/shmmax").read_text()
    out = runtime.shell(
        "cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/ping_group_range kernel/shmmax net/ipv4/conf/lo/forwarding"
    )
    assert ["1", "0", "1000", "12345678", "1"] == out.split()
    assert before == Path("/proc/sys/kernel/shmmax").read_text()


@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max"])
def test_sysctl_of_the_host(runtime: Runtime, bundle: Bundle, key: str) -> None:
    """One that would change the host, for lack of a namespace, is an error."""
    kind = "network" if key.startswith("net") else "ipc"
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != kind]
    bundle.without_mount("/sys", "/sys/fs/cgroup")
    bundle.linux["sysctl"] = {key: "1"}
    before = Path("/proc/sys", key.replace(".", "/")).read_text()
    assert f"/linux/sysctl/{key}: " in runtime.create_fails()
    assert before == Path("/proc/sys", key.replace(".", "/")).read_text()


@pytest.mark.parametrize(
    "key", ["kernel.core_pattern", "vm.swappiness", "kernel/../vm/swappiness", "net.ipv4/../../vm/swappiness"]
)
def test_sysctl_of_no_namespace(runtime: Runtime, bundle: Bundle, key: str) -> None:
    """One that belongs to no namespace is an error, and is not changed."""
    bundle.linux["sysctl"] = {key: "1"}
    watched = [Path("/proc/sys/kernel/core_pattern"), Path("/proc/sys/vm/swappiness")]
    before = [path.read_text() for path in watched]
    message = runtime.create_fails()
    assert "/linux/sysctl/" in message
    assert before == [path.read_text() for path in watched]


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "pid"])
@pytest.mark.parametrize("user", ["new", "joined"])
def test_joined_beside_a_user_namespace(
    runtime: Runtime, bundle: Bundle, request: pytest.FixtureRequest, kind: str, user: str
) -> None:
    """It belongs to the runtime's user namespace: with the rights of the other one, joining it would fail (NS-07)."""
    other = request.getfixturevalue("other") if user == "joined" else 0
    options = {"network": "--net", "pid": "--pid"}
    holder = subprocess.Popen(
        ["unshare", options.get(kind, f"--{kind}"), "--fork", "--kill-child", "sleep", "100"], start_new_session=True
    )
    try:
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        wait_for(
            lambda: children.read_text() and "sleep" in Path(f"/proc/{children.read_text().strip()}/comm").read_text()
        )
        pid = int(children.read_text())
        bundle.in_user_namespace().namespace(kind, f"/proc/{pid}/ns/{LINKS[kind]}")
        if other:
            del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
            join(bundle, other, "user")
        # filesystems that only the namespace's owner may mount
        bundle.without_mount({"network": "/sys", "pid": "/proc", "ipc": "/dev/mqueue"}.get(kind, ""), "/sys/fs/cgroup")
        bundle.mount("/proc", "none", "rbind", source="/proc")
        bundle.linux.pop("sysctl", None)
        bundle.config.pop("hostname", None)
        found = inside(runtime)
        theirs = namespaces_of(pid)
        assert theirs[kind] == found[kind]
        assert namespaces_of("self")["user"] != found["user"]
    finally:
        holder.kill()
        holder.wait()


def test_without_a_mount_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """The root filesystem is the container's alone: nothing is mounted on the host, and no way leads out."""
    bundle.linux = {"namespaces": [{"type": "pid"}, {"type": "network"}]}
    bundle.config = {key: bundle.config[key] for key in ("ociVersion", "process", "root", "linux")}
    (bundle.rootfs / "out").mkdir()
    bundle.shell(
        "cd /; for i in $(seq 40); do cd ..; done; ls; chroot /out /bin/true; echo x >/dev/null; exec sleep 100"
    )
    runtime.create()
    runtime.start()
    wait_for(lambda: "usr" in runtime.output() or "bin" in runtime.output())

    pid = runtime.pid()

    assert os.readlink("/proc/self/ns/mnt") == os.readlink(f"/proc/{pid}/ns/mnt")
    assert sorted(os.listdir(bundle.rootfs)) == sorted(runtime.output().split())
    result = runtime("exec", runtime.id, "ls", "/")
    assert (0, runtime.output()) == (result.status, result.out)
    runtime.delete("--force")
    runtime.assert_gone()


def test_what_would_be_mounted_on_the_host_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """With every place that asks for it."""
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "mount"]

    assert "/mounts: this needs a namespace of type mount" in runtime.create_fails()
