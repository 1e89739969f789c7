"""What the kubelet sends to containerd's CRI, beyond what every pod has."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import pages
from tests.support.containerd import (
    CGROUPFS_DRIVER,
    CONTAINER,
    KUBERNETES,
    LOCALHOST,
    NODE,
    POD,
    RUNTIME_DEFAULT,
    SYSTEMD_DRIVER,
    UNCONFINED,
    Containerd,
    Cri,
    CriError,
    Pod,
)
from tests.support.daemon import until
from tests.support.devices import SHOW_SENSOR, assert_sensor
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


PROFILE_TYPES = {"RuntimeDefault": RUNTIME_DEFAULT, "Unconfined": UNCONFINED, "Localhost": LOCALHOST}


def manifest(section: str) -> dict[str, Any]:
    """The pod in a section of the page, parsed."""
    (pod,) = [
        each
        for each in map(yaml.safe_load, (block.text for block in pages.blocks(pages.KUBERNETES, section, "yaml")))
        if each.get("kind") == "Pod"
    ]
    return pod["spec"]


def profile(given: dict[str, str], directory: str = "") -> dict[str, object]:
    """A seccompProfile or appArmorProfile of a pod, as the kubelet passes it on."""
    reference = os.path.join(directory, given["localhostProfile"]) if "localhostProfile" in given else ""
    return {"profile_type": PROFILE_TYPES[given["type"]], "localhost_ref": reference}


def run_with(pod: Pod, *, name: str = "box", **context: object) -> str:
    """Run a container with this security context."""
    return pod.run("sleep", "99", name=name, linux={"security_context": context})


FILTERED = "Seccomp:\t2\n"


def test_seccomp_of_the_engine(pod: Pod) -> None:
    """seccompProfile RuntimeDefault: the engine's filter, also for ExecSync; Unconfined: without a filter."""
    filtered = run_with(pod, name="filtered", seccomp={"profile_type": RUNTIME_DEFAULT})
    free = run_with(pod, name="free", seccomp={"profile_type": UNCONFINED})

    mode = "grep", "Seccomp:", "/proc/self/status"
    assert (0, FILTERED, "") == pod.exec(filtered, *mode)
    assert (0, "Seccomp:\t0\n", "") == pod.exec(free, *mode)
    assert FILTERED in Path(f"/proc/{pod.process(filtered)}/status").read_text()
    # the filter refuses new user namespaces to programs without CAP_SYS_ADMIN
    unshare = "unshare", "--user", "true"
    assert 0 == pod.exec(free, *unshare)[0]
    status, _, error = pod.exec(filtered, *unshare)
    assert (True, True) == (status != 0, "Operation not permitted" in error)


def test_seccomp_of_the_node(pod: Pod, tmp_path: Path) -> None:
    """seccompProfile Localhost: the pod and the profile of docs/kubernetes.md."""
    specification = manifest("Seccomp")
    (container,) = specification["containers"]
    given = container["securityContext"]["seccompProfile"]
    path = tmp_path / given["localhostProfile"]
    path.parent.mkdir(parents=True)
    path.write_text(pages.block(pages.KUBERNETES, "Seccomp", "json"))

    box = run_with(pod, seccomp=profile(given, str(tmp_path)))

    assert "RuntimeDefault" == specification["securityContext"]["seccompProfile"]["type"]
    assert (0, FILTERED, "") == pod.exec(box, "grep", "Seccomp:", "/proc/self/status")
    status, _, error = pod.exec(box, "mkdir", "/made")
    assert (True, True) == (status != 0, "No space left on device" in error)
    assert 0 == pod.exec(box, "touch", "/made")[0]


def test_seccomp_profile_is_missing(pod: Pod, tmp_path: Path) -> None:
    """seccompProfile Localhost, without the file: no container is left."""
    with pytest.raises(CriError, match="no such file or directory"):
        run_with(pod, seccomp={"profile_type": LOCALHOST, "localhost_ref": f"{tmp_path}/none.json"})


CONFINEMENT = """
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  file,
  capability,
  network,
  signal,
  deny /made w,
}}
"""


@pytest.mark.apparmor
def test_apparmor(pod: Pod, tmp_path: Path) -> None:
    """appArmorProfile RuntimeDefault, and the pod of docs/kubernetes.md, with a profile of the node."""
    (container,) = manifest("AppArmor")["containers"]
    given = container["securityContext"]["appArmorProfile"]
    name = given["localhostProfile"]
    text = tmp_path / "profile"
    text.write_text(CONFINEMENT.format(name=name))
    subprocess.check_call(["apparmor_parser", "--replace", "--skip-cache", text], timeout=120)

    confined = run_with(pod, name="confined", apparmor=profile(given))
    default = run_with(pod, name="default", apparmor={"profile_type": RUNTIME_DEFAULT})

    label = "cat", "/proc/self/attr/current"
    assert (0, f"{name} (enforce)\n", "") == pod.exec(confined, *label)
    assert (0, "cri-containerd.apparmor.d (enforce)\n", "") == pod.exec(default, *label)
    assert f"{name} (enforce)\n" == Path(f"/proc/{pod.process(confined)}/attr/current").read_text()
    assert "Permission denied" in pod.exec(confined, "touch", "/made")[2]
    assert 0 == pod.exec(default, "touch", "/made")[0]


@pytest.mark.cgroup
def test_cgroup_driver(interface: Cri) -> None:
    """RuntimeConfig: containerd reports the driver of pyoci's handler to the kubelet."""
    driver = SYSTEMD_DRIVER if SYSTEMD else CGROUPFS_DRIVER

    assert driver == interface("RuntimeConfig").linux.cgroup_driver


def test_handler_features(interface: Cri) -> None:
    """The node's status.runtimeHandlers, as docs/kubernetes.md shows it."""
    (shown,) = yaml.safe_load(pages.block(pages.KUBERNETES, "What pyoci reports to the engine", "yaml"))
    handlers = {each.name: each.features for each in interface("Status").runtime_handlers}

    features = handlers[shown["name"]]
    assert shown["features"] == {
        "recursiveReadOnlyMounts": features.recursive_read_only_mounts,
        "userNamespaces": features.user_namespaces,
    }


def test_plain_pod(make: Callable[..., Pod]) -> None:
    """The pod of docs/kubernetes.md that only chooses the RuntimeClass."""
    specification = manifest("RuntimeClass")
    (container,) = specification["containers"]
    pod = make(handler=specification["runtimeClassName"])

    assert (0, "pod\n", "") == pod.exec(pod.run(*container["command"]), "hostname")


def test_commands_for_the_operator(pod: Pod, daemon: Containerd) -> None:
    """What docs/kubernetes.md runs on the node to look at a container."""
    box = pod.run("sleep", "99")
    script = pages.block(pages.KUBERNETES, "Find out why a pod does not start", "sh")
    assert "/run/containerd/io.containerd" in script

    script = script.replace("/run/containerd/io.containerd", f"{daemon.folder}/state/io.containerd")
    done = subprocess.run(
        ["sh", "-euxc", script], env={**os.environ, "ID": box}, capture_output=True, text=True, timeout=120
    )

    assert 0 == done.returncode, done.stderr
    shown = done.stdout.replace(": ", ":")
    assert [] == [each for each in (f'"id":"{box}"', '"status":"running"', "wait_start") if each not in shown]


def test_upgrade(pod: Pod) -> None:
    """A new executable is renamed over the old one: exec, signals and deletion of running containers work."""
    installed = Path("/usr/local/bin/pyoci")
    old, box = installed.stat().st_ino, pod.run("sleep", "99")
    new = installed.with_suffix(".new")
    subprocess.check_call(["cp", installed, new])

    new.rename(installed)

    assert old != installed.stat().st_ino
    assert [] == [link for link in Path("/proc").glob("[0-9]*/exe") if is_deleted(link, installed)]
    assert (0, "pod\n", "") == pod.exec(box, "hostname")
    pod.cri("StopContainer", container_id=box, timeout=0)
    assert 137 == pod.status(box).exit_code


def is_deleted(link: Path, program: Path) -> bool:
    """Whether a process runs a program that is no longer there."""
    try:
        return os.readlink(link) == f"{program} (deleted)"
    except OSError:  # it has ended, or belongs to the kernel
        return False


def test_device(pod: Pod, sensor: str) -> None:
    """A CDI device of contrib/cdi: its node, its variable, the mount of all devices of its kind."""
    box = pod.run("sleep", "99", CDI_devices=[{"name": sensor}])

    assert_sensor(pod.exec(box, "sh", "-c", SHOW_SENSOR)[1])


@pytest.mark.program("nvidia-container-runtime")
@pytest.mark.compares
def test_nvidia_container_runtime(make: Callable[..., Pod], sensor: str) -> None:
    """A RuntimeClass for NVIDIA's runtime in its cdi mode, which calls pyoci."""
    pod = make(handler="nvidia")
    wanted = [{"key": "NVIDIA_VISIBLE_DEVICES", "value": sensor.encode()}]
    box = pod.run("sh", "-c", f"{SHOW_SENSOR}; exec sleep 99", envs=wanted)
    log = Path(f"{pod.config['log_directory']}/box.log")

    until(lambda: "ID=" in log.read_text(), "its output is in the log")
    assert_sensor("\n".join(line.split(" ", 3)[3] for line in log.read_text().splitlines()))
    listed = subprocess.check_output(["pyoci", "--root", STATES, "list", "--quiet"], text=True, timeout=60)
    assert {pod.id, box} == set(listed.split())


def test_unknown_device(pod: Pod, sensor: str) -> None:
    """A CDI device that no file has."""
    with pytest.raises(CriError, match="unresolvable CDI devices"):
        pod.create("sleep", "99", CDI_devices=[{"name": sensor.replace("=", "=un")}])


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
