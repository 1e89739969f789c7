"""Checkpoint and restore of what confines a container: namespaces, filters, capabilities, cgroups, hooks."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.test_cgroups_limits import needs
from tests.root.test_labels import CONFINED, files, profile, with_apparmor
from tests.root.test_net_devices import Net
from tests.support import criu as program
from tests.support.restoring import COUNTER, CheckpointRuntime, again, assert_same, facts, python
from tests.support.runtime import Bundle, cgroup_mount, status_of, wait_for

__all__ = ["files", "profile"]  # fixtures
pytestmark = pytest.mark.root
MIB = 1 << 20


# --- namespaces


@pytest.mark.parametrize("kind", ["network", "uts", "ipc", "cgroup"])
def test_namespaces_of_the_host(checkpoints: CheckpointRuntime, bundle: Bundle, kind: str) -> None:
    """A container without a namespace of a kind still has the host's."""
    spaces = bundle.linux["namespaces"]
    bundle.linux["namespaces"] = [entry for entry in spaces if entry["type"] != kind]
    if kind == "uts":
        del bundle.config["hostname"]
    if kind == "network":
        bundle.without_mount("/sys", "/sys/fs/cgroup")

    again(checkpoints, bundle)

    link = {"network": "net"}.get(kind, kind)
    assert os.readlink(f"/proc/{checkpoints.pid()}/ns/{link}") == os.readlink(f"/proc/self/ns/{link}")


@pytest.fixture
def other(checkpoints: CheckpointRuntime, tmp_path: Path) -> int:
    """Another container, whose namespaces can be joined: the pid of its init."""
    made = Bundle(tmp_path / "other").program("sleep", 100000)
    made.config["hostname"] = "other"
    first, checkpoints.bundle = checkpoints.bundle, made
    checkpoints.launch(id=f"{checkpoints.host.token}-other")
    checkpoints.bundle = first
    return checkpoints.pid(f"{checkpoints.host.token}-other")


@pytest.mark.parametrize("kinds", [["network"], ["uts"], ["ipc"], ["network", "ipc", "uts"]], ids="+".join)
def test_joined_namespaces(checkpoints: CheckpointRuntime, bundle: Bundle, other: int, kinds: list[str]) -> None:
    """A container of a pod is in its namespaces again."""
    links = {"network": "net"}
    if "uts" in kinds:
        del bundle.config["hostname"]
    for kind in kinds:
        bundle.namespace(kind, f"/proc/{other}/ns/{links.get(kind, kind)}")  # type: ignore[arg-type]

    again(checkpoints, bundle)

    for kind in kinds:
        link = links.get(kind, kind)
        assert os.readlink(f"/proc/{checkpoints.pid()}/ns/{link}") == os.readlink(f"/proc/{other}/ns/{link}")
    if "uts" in kinds:
        assert "other\n" == checkpoints.inside("hostname")


@pytest.fixture
def network(checkpoints: CheckpointRuntime) -> Iterator[Net]:
    """A network namespace as a file, as engines make it, with a device."""
    net = Net.make(checkpoints.folder / "net")
    net.device("eth0", "10.1.0.1/24")
    checkpoints.host.remember()
    yield net
    checkpoints.clean_up()
    net.remove()
    checkpoints.host.remember()


def test_a_network_namespace_of_the_engine(checkpoints: CheckpointRuntime, bundle: Bundle, network: Net) -> None:
    """It is joined again by its path, and its devices stay as they are."""
    bundle.namespace("network", network.file)
    before = network.facts("eth0")

    again(checkpoints, bundle)

    assert before == network.facts("eth0")
    assert "10.1.0.1/24" in checkpoints.inside("ip addr show dev eth0")


def test_another_network_namespace_at_restore(checkpoints: CheckpointRuntime, bundle: Bundle, network: Net) -> None:
    """The config of the restore decides which one: engines make a new one for each run."""
    bundle.namespace("network", network.file).shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.checkpoint()
    new = Net.make(checkpoints.folder / "new-net")
    try:
        bundle.namespace("network", new.file)

        checkpoints.restore()

        link = os.readlink(f"/proc/{checkpoints.pid()}/ns/net")
        assert f"net:[{new.file.stat().st_ino}]" == link
        checkpoints.assert_counts()
        checkpoints.delete("--force")
    finally:
        new.remove()


def test_an_own_network_namespace_has_loopback(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """After a restore it is up, as after create."""
    again(checkpoints, bundle)

    assert "LOOPBACK,UP" in checkpoints.inside("ip link show lo")
    assert "127.0.0.1" in checkpoints.inside("ip addr show lo")


def test_host_name_and_ipc_objects(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """What the container changed in its namespaces is kept: its name, kernel parameters and shared memory."""
    bundle.linux["sysctl"] = {"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "0"}
    bundle.process["capabilities"] = {
        name: [*bundle.process["capabilities"]["bounding"], "CAP_SYS_ADMIN"]
        for name in ("bounding", "effective", "permitted")
    }
    bundle.shell(f"hostname changed; {COUNTER}")
    checkpoints.launch()
    checkpoints.assert_counts()

    checkpoints.again()

    assert "changed\n" == checkpoints.inside("hostname")
    assert "1\n" == checkpoints.inside("cat /proc/sys/kernel/shm_rmid_forced")


# --- filters and privileges

# Tries what is forbidden, each time when it is asked, and notes the errors.
FORBIDDEN = """
import errno, os, socket, time

def attempt(call):
    try:
        call()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]

turn = 0
while True:
    turn += 1
    while not os.path.exists(f"/dev/shm/go-{turn}"):
        time.sleep(0.02)
    with open(f"/dev/shm/told-{turn}", "w") as file:
        print(
            attempt(lambda: os.mkdir("/dev/shm/folder")),
            attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
            attempt(lambda: os.chroot("/")),
            attempt(lambda: os.chown(f"/dev/shm/go-{turn}", 5, 5)),
            os.nice(0), os.getuid(), os.getgroups(), file=file)
"""


def other_users(user_namespace: bool, uid: int) -> bool:
    """Whether CRIU can dump processes of other users here."""
    return user_namespace or uid == 0 or program.has_all_privileges()


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("user_namespace", [False, True])
def test_seccomp_and_capabilities(
    checkpoints: CheckpointRuntime, bundle: Bundle, uid: int, user_namespace: bool
) -> None:
    """What was forbidden to a process is forbidden to it after the restore, by filter or lack of capability."""
    python(bundle, FORBIDDEN)
    if user_namespace:
        bundle.in_user_namespace()
    bundle.process["user"] = {"uid": uid, "gid": uid, "additionalGids": [5, 6], "umask": 0o27}
    bundle.process["noNewPrivileges"] = True
    bundle.process["oomScoreAdj"] = 200
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    checkpoints.launch()

    def told(turn: int) -> str:
        checkpoints.inside(f"touch /dev/shm/go-{turn}")
        return checkpoints.wait_for_file(f"/dev/shm/told-{turn}")

    expected = told(1)
    assert ["ENOSYS", "EPERM"] == expected.split()[:2]
    assert ("EPERM" if uid else "done") == expected.split()[2]
    if not other_users(user_namespace, uid):
        assert "CAP_SYS_RESOURCE" in checkpoints.checkpoint_fails()
        return
    before = facts(checkpoints)
    assert {"2"} == {task["Seccomp"] for task in before["tasks"].values()}
    for turn in (2, 3):
        checkpoints.again(images=f"images-{turn}")
        assert_same(before, facts(checkpoints))
        assert expected == told(turn)
    executed = checkpoints("exec", checkpoints.id, "/bin/mkdir", "/dev/shm/folder")
    assert "Function not implemented" in executed.err


@with_apparmor
def test_apparmor_profile(checkpoints: CheckpointRuntime, bundle: Bundle, profile: str, files: None) -> None:
    """The processes and those of `exec` are confined again."""
    bundle.process["apparmorProfile"] = profile

    again(checkpoints, bundle)

    assert f"{profile} (enforce)\n" == Path(f"/proc/{checkpoints.pid()}/attr/current").read_text()
    assert CONFINED.format(profile) == checkpoints.inside("cat /proc/self/attr/current; cat /public /secret 2>&1; true")


# --- cgroups


def cgroup(checkpoints: CheckpointRuntime) -> Path:
    """The cgroup of the first process."""
    lines = Path(f"/proc/{checkpoints.pid()}/cgroup").read_text().splitlines()
    return Path(cgroup_mount() + next(line[3:] for line in lines if line.startswith("0::")))


def test_the_cgroup_is_that_of_the_config(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Processes are in the cgroup that config.json names now; it is the root of their cgroup namespace."""
    bundle.linux["cgroupsPath"] = f"/{checkpoints.host.token}/first"
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.checkpoint()
    assert [] == checkpoints.host.cgroups("first")
    bundle.linux["cgroupsPath"] = f"/{checkpoints.host.token}/second"

    checkpoints.restore()

    checkpoints.assert_counts()
    assert cgroup(checkpoints).match(f"*/{checkpoints.host.token}/second")
    assert "0::/\n" in checkpoints.inside("cat /proc/self/cgroup")
    assert [] == checkpoints.host.cgroups("first")
    checkpoints.delete("--force")
    parent = Path(cgroup_mount(), checkpoints.host.token)
    if parent.exists():
        parent.rmdir()


def test_without_a_cgroup(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """With --cgroup-manager disabled there is none before and after."""
    bundle.without_mount("/sys/fs/cgroup").linux.pop("resources", None)
    spaces = bundle.linux["namespaces"]
    bundle.linux["namespaces"] = [entry for entry in spaces if entry["type"] != "cgroup"]
    wrapper = checkpoints.folder / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {checkpoints.executable} --cgroup-manager disabled "$@"\n')
    wrapper.chmod(0o755)
    checkpoints.executable = str(wrapper)
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    before = Path("/proc/self/cgroup").read_text()

    checkpoints.again()

    checkpoints.assert_counts()
    assert before == Path(f"/proc/{checkpoints.pid()}/cgroup").read_text()
    assert [] == checkpoints.host.cgroups()


def limits() -> dict[str, object]:
    return {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB},
        "pids": {"limit": 77},
        "cpu": {"quota": 50000, "period": 100000, "shares": 512},
    }


@needs("memory", "pids", "cpu")
def test_limits_of_the_config(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """They hold for the restored container: those of config.json, not what `update` had made of them."""
    bundle.linux["resources"] |= limits()
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    names = ("memory.max", "memory.low", "pids.max", "cpu.max", "cpu.weight")
    before = {name: (cgroup(checkpoints) / name).read_text() for name in names}
    assert "77\n" == before["pids.max"]
    updated = checkpoints("update", "--resources", "-", checkpoints.id, input=b'{"pids": {"limit": 99}}')
    assert (0, "", "") == tuple(updated)

    checkpoints.again()

    checkpoints.assert_counts()
    assert before == {name: (cgroup(checkpoints) / name).read_text() for name in names}


@needs("pids")
def test_limits_of_the_config_that_restores(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """An engine may restore with other limits."""
    bundle.linux["resources"] |= {"pids": {"limit": 77}}
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    checkpoints.checkpoint()
    bundle.linux["resources"] |= {"pids": {"limit": 66}}

    checkpoints.restore()

    checkpoints.assert_counts()
    assert "66\n" == (cgroup(checkpoints) / "pids.max").read_text()


def test_cgroups_of_the_container(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """Cgroups that it made below its own, and its processes in them, are there again."""
    bundle.without_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev")
    bundle.shell(
        "mkdir -p /sys/fs/cgroup/inner/most; echo 0 >/sys/fs/cgroup/inner/most/cgroup.procs; exec sleep 100000"
    )
    checkpoints.launch()
    wait_for(lambda: (cgroup(checkpoints).name, status_of(checkpoints.pid())["Name"]) == ("most", "sleep"))
    before = facts(checkpoints)

    checkpoints.again()

    assert_same(before, facts(checkpoints))
    assert "inner/most" == "/".join(cgroup(checkpoints).parts[-2:])
    assert "0::/inner/most\n" == checkpoints.inside("cat /proc/1/cgroup | grep ^0::")
    checkpoints.delete("--force")
    assert [] == checkpoints.host.cgroups()


# --- hooks


def test_hooks(checkpoints: CheckpointRuntime, bundle: Bundle, tmp_path: Path) -> None:
    """checkpoint runs poststop hooks, because it deletes the container. restore runs those of create on the host, when
    the namespaces are there and no process runs. It runs no poststart hooks, because no program starts.
    """
    notes = tmp_path / "notes"
    for kind in ("prestart", "createRuntime", "poststart", "poststop"):
        script = f"echo {kind} $(cat | tr -d '\\n') >>{notes}"
        bundle.hook(kind, script, env=["PATH=/usr/bin:/bin"])  # type: ignore[arg-type]
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    created = noted(notes)
    assert ["prestart", "createRuntime", "poststart"] == [name for name, _ in created]
    before = created[0][1]["pid"]

    checkpoints.checkpoint()
    assert ["poststop"] == [name for name, _ in noted(notes)]
    checkpoints.restore()

    restored = noted(notes)
    assert ["prestart", "createRuntime"] == [name for name, _ in restored]
    for _, state in restored:
        assert (checkpoints.id, checkpoints.pid()) == (state["id"], state["pid"])
        assert before != state["pid"]
    checkpoints.assert_counts()


def noted(notes: Path) -> list[tuple[str, dict[str, object]]]:
    """Name and state of the hooks that ran since the last call."""
    lines = notes.read_text().splitlines()
    notes.write_text("")
    return [(line.split(" ", 1)[0], json.loads(line.split(" ", 1)[1])) for line in lines]


def test_the_user_of_a_restored_process_gains_nothing(checkpoints: CheckpointRuntime, bundle: Bundle) -> None:
    """A config with fewer capabilities than the image's processes have is an image of another container."""
    bundle.shell(COUNTER)
    checkpoints.launch()
    checkpoints.assert_counts()
    assert int(status_of(checkpoints.pid())["CapBnd"], 16)
    checkpoints.checkpoint()
    bundle.process["capabilities"] = {"bounding": [], "effective": [], "permitted": []}

    message = checkpoints.restore_fails()

    assert message.startswith("/process/capabilities/bounding: cannot restore the container: process 1 (sh) has CAP_")
