"""Pods, and what Kubernetes calls so."""

import json

import pytest

from tests.support.daemon import until
from tests.support.podman import Podman

MANIFEST = """
apiVersion: v1
kind: Pod
metadata:
  name: shop
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000}
  volumes:
    - name: shared
      emptyDir: {}
  containers:
    - name: writer
      image: localhost/busybox
      command: [sh, -c, "echo sold >/data/file; exec sleep 99"]
      volumeMounts: [{name: shared, mountPath: /data}]
      securityContext: {capabilities: {drop: [all]}}
    - name: reader
      image: localhost/busybox
      command: [sh, -c, "until cat /data/file; do sleep 0.1; done; exec sleep 99"]
      volumeMounts: [{name: shared, mountPath: /data}]
      livenessProbe: {exec: {command: ["test", "-e", "/data/file"]}, periodSeconds: 60}
"""


@pytest.mark.cgroup
def test_pod(either: Podman) -> None:
    """pod: an infra container and two members, who share its network, IPC and host name."""
    either("pod", "create", "--name", "shop", "--hostname", "shop.example")
    for name in ("one", "two"):
        either("run", "-d", "--pod", "shop", "--name", name, "busybox", "sleep", "99")

    script = "for n in net ipc uts; do readlink /proc/self/ns/$n; done; hostname"
    one, two = (either("exec", name, "sh", "-c", script) for name in ("one", "two"))
    assert one == two
    assert one.endswith("shop.example")
    assert 3 == len(json.loads(either("pod", "inspect", "shop"))[0]["Containers"])


@pytest.mark.cgroup
def test_pod_life(podman: Podman) -> None:
    """pod: pause, unpause, restart, kill, stop, rm."""
    podman("pod", "create", "--name", "shop", "--share", "pid,net")
    podman("run", "-d", "--pod", "shop", "--name", "one", "busybox", "sleep", "99")
    assert "sleep" in podman("exec", "one", "ps")

    podman("pod", "pause", "shop")
    assert "paused" == podman.state("one")
    podman("pod", "unpause", "shop")
    podman("pod", "restart", "shop")
    assert "running" == podman.state("one")
    podman("pod", "kill", "shop")
    podman.await_state("one", "exited")
    podman("pod", "start", "shop")
    podman("pod", "stop", "--time", "0", "shop")
    podman("pod", "rm", "shop")


def test_play_kube(either: Podman) -> None:
    """kube play, kube generate, kube down: a pod with two containers and a volume."""
    manifest = either.folder / "shop.yaml"
    manifest.write_text(MANIFEST)
    manifest.chmod(0o644)
    either("kube", "play", manifest)
    until(lambda: "sold" in either.run("logs", "shop-reader").stdout, "the reader reads what the writer has written")
    assert "1000" == either("exec", "shop-writer", "id", "-u")

    generated = either("kube", "generate", "shop")
    assert "kind: Pod" in generated
    assert "name: shop-reader" in generated
    either("kube", "down", manifest)


def test_pod_with_a_user_namespace(podman: Podman) -> None:
    """pod create --userns=auto: the members are in one."""
    podman("pod", "create", "--name", "shop", "--userns=auto:size=1000")
    for name in ("one", "two"):
        podman("run", "-d", "--pod", "shop", "--name", name, "busybox", "sleep", "99")

    one, two = (podman("exec", name, "cat", "/proc/self/uid_map") for name in ("one", "two"))

    assert one == two
    assert "1000" == one.split()[2]
