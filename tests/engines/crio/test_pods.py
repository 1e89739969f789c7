"""What the kubelet sends to CRI-O, whose drop-in of contrib/kubernetes makes pyoci a handler."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support import pages
from tests.support.containerd import CONTAINER, EXITED, KUBERNETES, LOCALHOST, POD, Cri, CriError, Pod
from tests.support.daemon import until
from tests.support.devices import SHOW_SENSOR, assert_sensor

pytestmark = [
    pytest.mark.needs("cpu", "memory", "pids"),
    pytest.mark.section("kubernetes"),
    pytest.mark.program("crio"),
    pytest.mark.compares,
]

MAPPING = [{"host_id": 200000, "container_id": 0, "length": 65536}]


def test_status_lists_the_handler(interface: Cri) -> None:
    """CRI-O, Status: the handler of the drop-in, with its features."""
    features = {each.name: each.features for each in interface("Status").runtime_handlers}["pyoci"]

    assert (True, True) == (features.recursive_read_only_mounts, features.user_namespaces)


def test_container_returns_output_and_exit_code(pod: Pod) -> None:
    """CRI-O: a container's output, exit code, ExecSync; pyoci has it."""
    box = pod.run("sh", "-c", "trap 'exit 9' TERM; echo out; while :; do sleep .1; done")

    listed = subprocess.check_output(["pyoci", "list", "--quiet"], text=True, timeout=60).split()
    assert box in listed
    assert (5, "pod\n", "err\n") == pod.exec(box, "sh", "-c", "hostname; echo err >&2; exit 5")
    until(lambda: "out" in Path(f"{pod.config['log_directory']}/box.log").read_text(), "its output is in the log")
    pod.cri("StopContainer", container_id=box, timeout=10)
    assert (EXITED, 9) == (pod.status(box).state, pod.status(box).exit_code)


def test_create_reports_a_missing_program(pod: Pod) -> None:
    """CRI-O: a program that is not there."""
    with pytest.raises(CriError, match='exec: "none": executable file not found in \\$PATH'):
        pod.run("none")


def test_limits(pod: Pod) -> None:
    """CRI-O: limits, and UpdateContainerResources."""
    limits = {"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "memory_limit_in_bytes": 64 << 20}
    box = pod.run("sleep", "99", linux={"resources": limits})

    def files() -> list[str]:
        return [pod.exec(box, "cat", f"/sys/fs/cgroup/{name}")[1].strip() for name in ("cpu.max", "memory.max")]

    assert ["50000 100000", str(64 << 20)] == files()
    new = {"cpu_period": 100000, "cpu_quota": 25000, "memory_limit_in_bytes": 96 << 20}
    pod.cri("UpdateContainerResources", container_id=box, linux=new)
    assert ["25000 100000", str(96 << 20)] == files()


def test_manifests(make: Callable[..., Pod], tmp_path: Path) -> None:
    """CRI-O: the RuntimeClass and the pod of contrib/kubernetes: hostUsers: false, a recursively read-only volume."""
    handler = yaml.safe_load((KUBERNETES / "runtimeclass.yaml").read_text())["handler"]
    specification = yaml.safe_load((KUBERNETES / "pod.yaml").read_text())["spec"]
    (container,) = specification["containers"]
    (volume,) = container["volumeMounts"]
    goods = tmp_path / "goods"  # replaces the manifest's directory
    (goods / "below").mkdir(parents=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", goods / "below"])
    try:
        users = {"mode": POD, "uids": MAPPING, "gids": MAPPING}
        context = {"namespace_options": {"pid": CONTAINER, "userns_options": users}}
        pod = make(handler=handler, security_context=context)
        mount = {
            "container_path": volume["mountPath"],
            "host_path": str(goods),
            "readonly": volume["readOnly"],
            "recursive_read_only": volume["recursiveReadOnly"] == "Enabled",
        }
        box = pod.run(*container["command"], linux={"security_context": context}, mounts=[mount])

        assert "0     200000      65536" in pod.exec(box, "cat", "/proc/self/uid_map")[1]
        for directory in "/goods", "/goods/below":
            assert "Read-only file system" in pod.exec(box, "touch", f"{directory}/new")[2]
        pod.cri("StopContainer", container_id=box, timeout=0)  # `sleep` as first process ignores SIGTERM
    finally:
        subprocess.check_call(["umount", "--lazy", goods / "below"])


def test_seccomp_of_the_node(pod: Pod, tmp_path: Path) -> None:
    """CRI-O: seccompProfile Localhost, with the profile of docs/kubernetes.md."""
    path = tmp_path / "profile.json"
    path.write_text(pages.block(pages.KUBERNETES, "Seccomp", "json"))
    seccomp = {"profile_type": LOCALHOST, "localhost_ref": str(path)}
    box = pod.run("sleep", "99", linux={"security_context": {"seccomp": seccomp}})

    assert (0, "Seccomp:\t2\n", "") == pod.exec(box, "grep", "Seccomp:", "/proc/self/status")
    assert "No space left on device" in pod.exec(box, "mkdir", "/made")[2]


def test_container_gets_a_cdi_device(pod: Pod, sensor: str) -> None:
    """CRI-O: a CDI device of contrib/cdi."""
    box = pod.run("sleep", "99", CDI_devices=[{"name": sensor}])

    assert_sensor(pod.exec(box, "sh", "-c", SHOW_SENSOR)[1])
