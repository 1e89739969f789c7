"""What the kubelet sends to containerd's CRI, beyond what every pod has."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.containerd import CONTAINER, KUBERNETES, NODE, POD, Containerd, Cri, CriError, Pod
from tests.support.daemon import until
from tests.support.engines import SYSTEMD

pytestmark = [pytest.mark.needs("cpu"), pytest.mark.section("kubernetes")]

STATUS = Path("/proc/self/status")
RESOURCES = {"cpu_period": 100000, "cpu_shares": 102, "oom_score_adj": 1000, "unified": {"memory.oom.group": "1"}}
PRIVILEGED = {"privileged": True, "namespace_options": {"pid": CONTAINER}}


@pytest.fixture
def privileged(make: Callable[..., Pod]):
    """A pod that may have privileged containers."""
    return make(security_context=PRIVILEGED)


def options_of_cgroup2():
    """The options of this machine's cgroup2."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    (options,) = (line.split()[3] for line in lines if line.split()[1] == "/sys/fs/cgroup")
    return set(options.split(","))


@pytest.mark.cgroup
def test_privileged(privileged) -> None:
    """A privileged container, on a cgroup2 mounted as systemd mounts it: with nsdelegate and memory_recursiveprot."""
    assert {"nsdelegate", "memory_recursiveprot"} <= options_of_cgroup2()

    box = privileged.run("sleep", "99", linux={"security_context": PRIVILEGED, "resources": RESOURCES})

    # all that the machine has
    (bound,) = (line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith("CapBnd:"))
    assert f"CapEff:\t{bound}\n" == privileged.exec(box, "grep", "CapEff", "/proc/self/status")[1]
    mounts = [line.split() for line in privileged.exec(box, "cat", "/proc/self/mounts")[1].splitlines()]
    (options,) = (mount[3] for mount in mounts if mount[1] == "/sys/fs/cgroup")
    assert {"rw", "nsdelegate", "memory_recursiveprot"} <= set(options.split(","))
    # it sees the whole tree, and may write to it
    assert 0 == privileged.exec(box, "sh", "-c", "mkdir /sys/fs/cgroup/made && rmdir /sys/fs/cgroup/made")[0]


MOVE = """
old=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)
mkdir {new}
echo 0 >{new}/cgroup.procs
until rmdir $old; do sleep .05; done
touch /moved
exec sleep 99
"""


@pytest.mark.driver("cgroupfs")  # systemd ends a scope without processes
@pytest.mark.differs("`exec` of runc fails after the container's init process has moved to another cgroup.")
def test_exec_after_init_has_moved(privileged) -> None:
    """ExecSync in a privileged container that has moved to another cgroup and removed its first, as buildkitd does."""
    new = Path("/sys/fs/cgroup/moved")
    box = privileged.run("sh", "-c", MOVE.format(new=new), linux={"security_context": PRIVILEGED})
    try:
        until(lambda: "sleep" in Path(f"/proc/{privileged.process(box)}/comm").read_text(), "it has moved")

        assert (0, f"0::{new.name}\n".replace("::", "::/"), "") == privileged.exec(box, "cat", "/proc/self/cgroup")
    finally:
        privileged.cri("StopContainer", container_id=box, timeout=0)
        until(lambda: "populated 0" in (new / "cgroup.events").read_text(), "it has ended")
        new.rmdir()


@pytest.mark.cgroup
@pytest.mark.needs("cpu", "memory")
def test_resize(pod: Pod) -> None:
    """UpdateContainerResources as for a resize in place: new limits, and memory.oom.group as it was."""
    resources = {**RESOURCES, "cpu_quota": 50000, "memory_limit_in_bytes": 64 << 20}
    box = pod.run("sleep", "99", linux={"resources": resources})
    names = "cpu.max", "memory.max", "memory.oom.group"

    def files():
        return [pod.exec(box, "cat", f"/sys/fs/cgroup/{name}")[1].strip() for name in names]

    assert ["50000 100000", str(64 << 20), "1"] == files()
    resources |= {"cpu_quota": 75000, "memory_limit_in_bytes": 96 << 20}
    pod.cri("UpdateContainerResources", container_id=box, linux=resources)
    assert ["75000 100000", str(96 << 20), "1"] == files()
    resources["unified"] = {"memory.oom.group": "0"}
    pod.cri("UpdateContainerResources", container_id=box, linux=resources)
    assert ["75000 100000", str(96 << 20), "0"] == files()
    if SYSTEMD:  # whose reload writes what it knows
        subprocess.check_call(["systemctl", "daemon-reload"], timeout=60)
        assert ["75000 100000", str(96 << 20)] == files()[:2]


MAPPING = [{"host_id": 200000, "container_id": 0, "length": 65536}]


def user_namespace(mode):
    """A security context with that user namespace."""
    maps = {"uids": MAPPING, "gids": MAPPING} if mode == POD else {}
    return {"namespace_options": {"pid": CONTAINER, "userns_options": {"mode": mode, **maps}}}


def test_user_namespace(make: Callable[..., Pod], daemon: Containerd) -> None:
    """hostUsers: false: the image and a volume are idmapped; root inside is another user outside."""
    volume = daemon.folder / "volume"
    volume.mkdir()
    (volume / "file").write_text("of root\n")
    (volume / "file").chmod(0o600)
    context = user_namespace(POD)
    pod = make(security_context=context)
    mount = {"container_path": "/volume", "host_path": str(volume), "uidMappings": MAPPING, "gidMappings": MAPPING}
    box = pod.run("sleep", "99", linux={"security_context": context}, mounts=[mount])

    assert "0     200000      65536" in pod.exec(box, "cat", "/proc/self/uid_map")[1]
    assert (0, "0\n", "") == pod.exec(box, "stat", "-c", "%u", "/bin/sh")
    assert (0, "of root\n", "") == pod.exec(box, "cat", "/volume/file")
    assert 0 == pod.exec(box, "sh", "-c", "echo new >/volume/new")[0]
    assert (0, 0) == (os.stat(volume / "new").st_uid, os.stat(volume / "new").st_gid)
    assert 200000 == os.stat(f"/proc/{pod.process(box)}").st_uid


def test_user_namespace_of_the_node(make: Callable[..., Pod]) -> None:
    """hostUsers: true, which the kubelet sends as the mode NODE: the host's."""
    context = user_namespace(NODE)
    pod = make(security_context=context)
    box = pod.run("sleep", "99", linux={"security_context": context})

    assert "0          0 4294967295\n" in pod.exec(box, "cat", "/proc/self/uid_map")[1]


@pytest.mark.parametrize(("recursive", "below"), [(False, True), (True, False)], ids=["Disabled", "Enabled"])
def test_recursive_read_only(pod: Pod, tmp_path: Path, recursive: bool, below: bool) -> None:
    """recursiveReadOnly: what is mounted below a read-only volume."""
    (tmp_path / "below").mkdir()
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "below"])
    try:
        mount = {
            "container_path": "/ro",
            "host_path": str(tmp_path),
            "readonly": True,
            "recursive_read_only": recursive,
        }
        box = pod.run("sleep", "99", mounts=[mount])

        assert "Read-only file system" in pod.exec(box, "touch", "/ro/new")[2]
        status, _, error = pod.exec(box, "touch", "/ro/below/new")
        assert (below, not below) == (status == 0, "Read-only file system" in error)
    finally:
        subprocess.check_call(["umount", tmp_path / "below"])


def test_sysctls(make: Callable[..., Pod]) -> None:
    """securityContext.sysctls of a pod."""
    pod = make(sysctls={"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"})
    box = pod.run("sleep", "99")

    paths = ["/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced"]
    assert (0, "0\n1\n", "") == pod.exec(box, "cat", *paths)


HOOK = """#!/bin/sh
exec >{folder}/log 2>&1
cat >/dev/null
ls rootfs/proc | grep -x self
mkdir -p rootfs/mnt
mount --bind {folder}/given rootfs/mnt
echo done
"""


@pytest.fixture
def device(tmp_path: Path):
    """A CDI device whose createContainer hook mounts into the root, by paths relative to the bundle."""
    folder = tmp_path / "device"
    (folder / "given").mkdir(parents=True)
    (folder / "given/file").write_text("given\n")
    (folder / "hook").write_text(HOOK.format(folder=folder))
    (folder / "hook").chmod(0o755)
    hook = {"hookName": "createContainer", "path": str(folder / "hook"), "env": ["PATH=/usr/bin:/bin"]}
    edits = {"hooks": [hook], "env": ["DEVICE=there"]}
    specification = {
        "cdiVersion": "0.6.0",
        "kind": "example.com/thing",
        "devices": [{"name": "one", "containerEdits": edits}],
    }
    path = Path("/var/run/cdi/thing.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(specification))
    yield folder
    path.unlink()


@pytest.mark.differs("runc starts createContainer hooks in the root filesystem instead of the bundle.")
def test_device_with_a_hook(pod: Pod, device, runtime: str) -> None:
    """A CDI device, as device plugins give it: its createContainer hook mounts into rootfs."""
    if runtime == "runc":
        pytest.skip("a hook that knows where it is")
    box = pod.run("sleep", "99", CDI_devices=[{"name": "example.com/thing=one"}])

    assert ["self", "done"] == (device / "log").read_text().split()
    assert (0, "there\n", "") == pod.exec(box, "sh", "-c", "echo $DEVICE")
    assert (0, "given\n", "") == pod.exec(box, "cat", "/mnt/file")


STATES = "/run/containerd/runc/k8s.io"


@pytest.mark.compares
def test_runtime_class(make: Callable[..., Pod]) -> None:
    """runtimeClassName: pods of pyoci and of runc on one node, whose states are in one directory."""
    pods = {name: make(handler=name) for name in ("pyoci", "runc")}
    boxes = {name: pod.run("sleep", "99") for name, pod in pods.items()}

    for name, pod in pods.items():
        status = pod.cri("PodSandboxStatus", pod_sandbox_id=pod.id).status
        assert name == status.runtime_handler
        assert (0, "pod\n", "") == pod.exec(boxes[name], "hostname")
    for name, other in ("pyoci", "runc"), ("runc", "pyoci"):
        listed = subprocess.run([name, "--root", STATES, "list", "--quiet"], capture_output=True, text=True, timeout=60)
        assert (0, {pods[name].id, boxes[name]}) == (listed.returncode, set(listed.stdout.split())), listed.stderr
        state = [name, "--root", STATES, "state"]
        assert 0 == subprocess.run([*state, boxes[name]], capture_output=True, timeout=60).returncode
        foreign = subprocess.run([*state, boxes[other]], capture_output=True, text=True, timeout=60)
        assert 1 == foreign.returncode
        assert "panic" not in foreign.stderr


def test_unknown_runtime_class(make: Callable[..., Pod]) -> None:
    """runtimeClassName: a handler that containerd does not have."""
    with pytest.raises(CriError, match='no runtime for "none" is configured'):
        make(handler="none")


def test_manifests(interface: Cri, make: Callable[..., Pod], daemon: Containerd) -> None:
    """A RuntimeClass, and a pod with hostUsers: false and a recursively read-only volume: contrib/kubernetes."""
    handler = yaml.safe_load((KUBERNETES / "runtimeclass.yaml").read_text())["handler"]
    specification = yaml.safe_load((KUBERNETES / "pod.yaml").read_text())["spec"]
    (container,) = specification["containers"]
    (volume,) = container["volumeMounts"]
    goods = daemon.folder / "goods"  # replaces the manifest's directory
    goods.mkdir()
    (handled,) = (each for each in interface("Status").runtime_handlers if each.name == handler)
    assert (True, True) == (handled.features.recursive_read_only_mounts, handled.features.user_namespaces)

    context = user_namespace(NODE if specification["hostUsers"] else POD)
    pod = make(handler=handler, security_context=context)
    mount = {
        "container_path": volume["mountPath"],
        "host_path": str(goods),
        "readonly": volume["readOnly"],
        "recursive_read_only": volume["recursiveReadOnly"] == "Enabled",
        "uidMappings": MAPPING,
        "gidMappings": MAPPING,
    }
    box = pod.run(*container["command"], linux={"security_context": context}, mounts=[mount])

    assert "0     200000      65536" in pod.exec(box, "cat", "/proc/self/uid_map")[1]
    assert "Read-only file system" in pod.exec(box, "touch", "/goods/new")[2]
