"""The CRI plugin, by the calls that the kubelet makes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.containerd import CONTAINER, CREATED, EXITED, NODE, POD, RUNNING, Containerd, Cri, CriError, Pod
from tests.support.daemon import until

pytestmark = pytest.mark.needs("cpu")  # each pod has a share of the processor


def test_status(daemon: Containerd, interface: Cri, runtime: str) -> None:
    """Status: the runtime is ready, and what it can do."""
    status = interface("Status", verbose=True)

    assert {"RuntimeReady": True, "NetworkReady": True} == {
        each.type: each.status for each in status.status.conditions if each.type.endswith("Ready")
    }
    assert "/usr/local/bin/pyoci" in json.dumps(json.loads(status.info["config"]))
    if not daemon.version().startswith("1."):  # which does not ask
        (handler,) = (each for each in status.runtime_handlers if each.name == runtime)
        assert (True, True) == (handler.features.recursive_read_only_mounts, handler.features.user_namespaces)


def test_default(make: Callable[..., Pod], daemon: Containerd) -> None:
    """RunPodSandbox without a handler: the default runtime."""
    if daemon.runtime == "runc":
        pytest.skip("the configuration names pyoci")
    pod = make(handler="")

    assert (0, "pod\n", "") == pod.exec(pod.run("sleep", "99"), "hostname")


def test_pod(pod: Pod, interface: Cri) -> None:
    """RunPodSandbox: a network, an address."""
    status = interface("PodSandboxStatus", pod_sandbox_id=pod.id).status

    assert (0, "10.88.") == (status.state, status.network.ip[:6])
    assert status.network.ip in pod.exec(pod.run("sleep", "99"), "ip", "addr")[1]


def test_container(pod: Pod) -> None:
    """CreateContainer, StartContainer: environment, working directory; its log and its exit code."""
    config = {"working_dir": "/etc", "envs": [{"key": "A", "value": b"b"}]}
    container = pod.create("sh", "-c", "sleep 0.2; pwd; echo $A; exit 3", **config)
    assert CREATED == pod.status(container).state

    pod.cri("StartContainer", container_id=container)

    until(lambda: pod.status(container).state == EXITED, "it ends")
    assert (3, "Error") == (pod.status(container).exit_code, pod.status(container).reason)
    with open(f"{pod.config['log_directory']}/box.log", encoding="utf-8") as log:
        assert ["/etc", "b"] == [line.split()[-1] for line in log]


@pytest.mark.cgroup
def test_exec_sync(pod: Pod) -> None:
    """ExecSync: both streams, the exit code."""
    container = pod.run("sleep", "99")

    assert (5, "out\n", "err\n") == pod.exec(container, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert 127 == pod.exec(container, "sh", "-c", "none")[0]


def test_exec_sync_program_is_missing(pod: Pod) -> None:
    """ExecSync of a program that is not there."""
    container = pod.run("sleep", "99")

    with pytest.raises(CriError, match='exec: "none": executable file not found in \\$PATH'):
        pod.exec(container, "none")


def test_stop(pod: Pod) -> None:
    """StopContainer, with a handler of SIGTERM and with the timeout; RemoveContainer."""
    polite = pod.run("sh", "-c", "trap 'exit 9' TERM; touch /ready; while :; do sleep .1; done", name="polite")
    rude = pod.run("sh", "-c", "trap '' TERM; while :; do sleep .1; done", name="rude")
    pod.exec(polite, "sh", "-c", "until test -e /ready; do sleep .1; done")

    pod.cri("StopContainer", container_id=polite, timeout=10)
    pod.cri("StopContainer", container_id=rude, timeout=1)

    assert (9, 137) == (pod.status(polite).exit_code, pod.status(rude).exit_code)
    pod.cri("RemoveContainer", container_id=rude)


def test_remove_while_it_runs(pod: Pod) -> None:
    """RemoveContainer of one that runs."""
    pod.cri("RemoveContainer", container_id=pod.run("sleep", "99"))


def test_namespaces(make: Callable[..., Pod]) -> None:
    """A pod's containers share its network, IPC and UTS namespaces, and have a PID namespace each."""
    options = {"pid": CONTAINER}
    pod = make(security_context={"namespace_options": options})
    context = {"security_context": {"namespace_options": options}}
    first, second = (pod.run("sleep", "99", name=name, linux=context) for name in ("first", "second"))

    def namespaces(container):
        names = "net", "ipc", "uts", "pid", "mnt"
        return [pod.exec(container, "readlink", f"/proc/self/ns/{name}")[1] for name in names]

    one, other = namespaces(first), namespaces(second)
    assert one[:3] == other[:3]
    assert [True, True] == [a != b for a, b in zip(one[3:], other[3:], strict=True)]


def test_shared_pid(make: Callable[..., Pod]) -> None:
    """A pod whose containers share its PID namespace."""
    options = {"pid": POD}
    pod = make(security_context={"namespace_options": options})
    first = pod.run("sleep", "77", name="first", linux={"security_context": {"namespace_options": options}})
    second = pod.run("sleep", "99", name="second", linux={"security_context": {"namespace_options": options}})

    assert "sleep 77" in pod.exec(second, "ps")[1]
    pod.cri("StopContainer", container_id=first, timeout=0)
    assert RUNNING == pod.status(second).state


def test_host_network(make: Callable[..., Pod]) -> None:
    """A pod on the host's network."""
    pod = make(hostname="", security_context={"namespace_options": {"network": NODE}})
    container = pod.run("sleep", "99", linux={"security_context": {"namespace_options": {"network": NODE}}})

    assert "cni0" in pod.exec(container, "ls", "/sys/class/net")[1]


def test_security_context(pod: Pod) -> None:
    """User, group, capabilities, read-only root, no_new_privs."""
    context = {
        "run_as_user": {"value": 1000},
        "run_as_group": {"value": 1001},
        "readonly_rootfs": True,
        "no_new_privs": True,
        "capabilities": {"drop_capabilities": ["ALL"]},
    }
    container = pod.run("sleep", "99", linux={"security_context": context})

    assert "uid=1000 gid=1001" in pod.exec(container, "id")[1]
    assert "Read-only file system" in pod.exec(container, "touch", "/tmp/x")[2]
    status = pod.exec(container, "grep", "-E", "CapBnd|NoNewPrivs", "/proc/self/status")[1].split()
    assert ["CapBnd:", "0000000000000000", "NoNewPrivs:", "1"] == status


def test_mounts(pod: Pod, tmp_path: Path) -> None:
    """Mounts of the host, read-write and recursively read-only."""
    (tmp_path / "file").write_text("host\n")
    mounts = [
        {"container_path": "/rw", "host_path": str(tmp_path)},
        {"container_path": "/ro", "host_path": str(tmp_path), "readonly": True, "recursive_read_only": True},
    ]
    container = pod.run("sleep", "99", mounts=mounts)

    assert (0, "host\n", "") == pod.exec(container, "cat", "/ro/file")
    assert 0 == pod.exec(container, "touch", "/rw/new")[0]
    assert "Read-only file system" in pod.exec(container, "touch", "/ro/new")[2]


def test_program_is_missing(pod: Pod) -> None:
    """StartContainer of a program that is not there."""
    container = pod.create("none")

    with pytest.raises(CriError, match='exec: "none": executable file not found in \\$PATH'):
        pod.cri("StartContainer", container_id=container)
    assert (EXITED, 128, "StartError") == (
        pod.status(container).state,
        pod.status(container).exit_code,
        pod.status(container).reason,
    )


@pytest.mark.needs("cpu", "memory", "pids")
def test_stats(pod: Pod) -> None:
    """ContainerStats: processor time, memory."""
    container = pod.run("sh", "-c", "while :; do :; done")

    def stats():
        return pod.cri("ContainerStats", container_id=container).stats

    until(lambda: stats().cpu.usage_core_nano_seconds.value > 100_000_000, "it has used the processor")
    assert stats().memory.usage_bytes.value > 0


@pytest.mark.cgroup
@pytest.mark.needs("cpu", "memory")
def test_limits(pod: Pod) -> None:
    """Limits, and UpdateContainerResources."""
    limits = {"cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512, "memory_limit_in_bytes": 64 << 20}
    container = pod.run("sleep", "99", linux={"resources": limits})

    def files():
        return [pod.exec(container, "cat", f"/sys/fs/cgroup/{name}")[1].strip() for name in ("cpu.max", "memory.max")]

    assert ["50000 100000", str(64 << 20)] == files()
    new = {"cpu_period": 100000, "cpu_quota": 25000, "memory_limit_in_bytes": 96 << 20}
    pod.cri("UpdateContainerResources", container_id=container, linux=new)
    assert ["25000 100000", str(96 << 20)] == files()
