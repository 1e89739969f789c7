"""Each engine passes its tests with pyoci as its runtime. The tests are in the directory of its name."""

import os
import select
import subprocess
from typing import Any

import pytest

from tests.support import engines, rootfs
from tests.support.machine import on_qemu, on_uml, run

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

TIME = 1200  # seconds for all tests of an engine on one machine

LEAK = """
import os, subprocess
from pathlib import Path
from tests.support import leaks
leaks.TIMEOUT = 0.5
before = leaks.Leaks(states=(Path("/run/states"),), daemons=(os.getpid(),))
before.assert_none()
subprocess.check_call("(sleep 99 &) ; mkdir -p /sys/fs/cgroup/x /run/states/x; mount -t tmpfs x /mnt", shell=True)
held = open("/etc/passwd")
print(*before.left(), sep="\\n")
"""


def machine(script):
    """A machine that runs a script, and the cgroup that it has."""
    command = [engines.MACHINE, engines.NEWEST, "procps", "--", "sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, f"pyoci-engines.{process.pid}"


def find_cgroups(name: str) -> list[str]:
    """The host's cgroups of this name. Others may come and go meanwhile."""
    find = ["find", "/sys/fs/cgroup", "-ignore_readdir_race", "-type", "d", "-name", name]
    return subprocess.run(find, stdout=subprocess.PIPE, text=True, check=False).stdout.splitlines()


@pytest.fixture(scope="module", autouse=True)
def debian() -> None:
    """Make the newest Debian, with progress on standard error."""
    packages = [*engines.COMMON, "procps", "iproute2"]
    subprocess.run([engines.CHECKOUT / "tools/debian", engines.NEWEST, *packages, "--", "true"], check=True)


def test_machine() -> None:
    """It passes on a command's output and status, is apart, and leaves nothing."""
    script = "echo out; echo err >&2; pyoci --version; ls /sys/class/net; ps -A -o comm | grep -c -e python -e pytest; exit 7"

    process, cgroup = machine(script)

    out, err = process.communicate(timeout=600)
    assert (7, "err\n") == (process.returncode, err)
    assert ["out", "lo", "0"] == [
        line for line in out.splitlines() if not line.startswith(("pyoci version", "spec", "commit", "+CRIU"))
    ]
    assert [] == find_cgroups(cgroup)


# A container of each runtime under one root, and what each reports about the others'.
MIXED = """
cd /tmp && mkdir -p bundle/rootfs/bin && cp /bin/busybox bundle/rootfs/bin/sleep
pyoci spec --bundle bundle
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"sleep", "100"/' bundle/config.json
for runtime in pyoci runc crun; do
    $runtime --root /run/mixed run -d --bundle bundle by-$runtime >/dev/null </dev/null || exit 1
done
say() { "$@" 2>&1; echo "status $?"; }
for runtime in runc crun; do
    echo "-- $runtime"
    say $runtime --root /run/mixed list -q
    say $runtime --root /run/mixed state by-pyoci
done
for id in by-runc by-crun; do
    echo "-- pyoci $id"
    say pyoci --root /run/mixed state $id
    say pyoci --root /run/mixed delete --force $id
done
echo "-- pyoci list"
pyoci --root /run/mixed list -q
for runtime in pyoci runc crun; do
    $runtime --root /run/mixed state by-$runtime | grep '"status"'
    $runtime --root /run/mixed delete --force by-$runtime || exit 1
done
ls /run/mixed
"""


def test_runtimes_under_one_root() -> None:
    """containerd gives all its handlers one root: each runtime passes over the others' containers, and none panics."""
    command = [engines.MACHINE, engines.NEWEST, "runc", "crun", "busybox-static", "--", "sh", "-c", MIXED]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    assert 0 == done.returncode, done
    assert "panic" not in done.stdout
    parts = {part.partition("\n")[0]: part.partition("\n")[2] for part in done.stdout.split("-- ")[1:]}
    assert ["by-runc", "status 0"] == [
        line for line in parts["runc"].splitlines() if line.startswith(("by-", "status 0"))
    ]
    assert ["by-crun", "status 0"] == [
        line for line in parts["crun"].splitlines() if line.startswith(("by-", "status 0"))
    ]
    for name, why in (("runc", "container does not exist"), ("crun", "by-pyoci/status`: No such file")):
        assert why in parts[name]
        state, deletion = parts[f"pyoci by-{name}"].split("status 1\n")
        assert f"container `by-{name}` does not exist: /run/mixed/by-{name} is a container of {name} " in state
        assert "status 0\n" == deletion
    assert ["by-pyoci", *['"status":"running"'] * 3] == "".join(parts["pyoci list"].split(" ")).replace(
        ",", ""
    ).splitlines()


def test_machine_ends() -> None:
    """With the one who asked for it."""
    process, cgroup = machine("echo begun; exec sleep 4321")
    assert process.stdout
    assert select.select([process.stdout], [], [], 120)[0], "nothing of it for 120 seconds"
    assert "begun\n" == process.stdout.readline()
    assert 1 == len(find_cgroups(cgroup))

    process.terminate()

    assert "" == process.communicate(timeout=90)[0]
    assert [] == find_cgroups(cgroup)


def test_leaks() -> None:
    """It reports a process, a mount, a cgroup, a state and a descriptor that are left."""
    status, out, err = run(
        engines.MACHINE, engines.NEWEST, *engines.COMMON, "--", "python3", "-c", LEAK, cwd=engines.CHECKOUT
    )

    assert (0, "") == (status, err)
    cgroup, descriptor, mount, process, state = out.splitlines()
    assert ["cgroup /sys/fs/cgroup/x", "mount /mnt", "state /run/states/x"] == [cgroup, mount, state]
    assert descriptor.endswith(": /etc/passwd")
    assert "sleep" == process.split()[2]


@pytest.fixture(scope="module")
def server() -> None:
    """The archive of a Debian with servers, which engines import."""
    rootfs.server()


@pytest.mark.parametrize("engine", [name for name in engines.ENGINES if name not in engines.BUILT])
def test_engine(pyoci: str, server: None, engine: Any) -> None:
    """In one machine, with one start of its daemons."""
    run = engines.run(engine, timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert [] == [row for row in run.rows if row["result"] == "fails"]
    assert 5 < len(run.rows)


@pytest.mark.parametrize("engine", ["docker", "containerd", "podman"])
def test_systemd_driver(pyoci: str, server: None, engine: str) -> None:
    """With systemd to make the cgroups, which is the engine's first choice there, or what its configuration says."""
    run = engines.run(engine, "-m", "cgroup or driver", machine="systemd", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert [] == [row for row in run.rows if row["result"] == "fails"]
    assert 10 < len(run.rows)


@pytest.mark.nightly
def test_nvidia_container_runtime(pyoci: str) -> None:
    """NVIDIA's runtime, which adds devices to a config, calls pyoci: below Docker."""
    engines.build("nvidia-container-runtime")

    run = engines.run("docker", "-k", "nvidia", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert ["works"] * 3 == [row["result"] for row in run.rows]


@pytest.mark.nightly
@on_uml
def test_nvidia_container_runtime_in_a_pod(pyoci: str) -> None:
    """NVIDIA's runtime as a RuntimeClass of containerd's pods, which need controllers."""
    engines.build("nvidia-container-runtime")

    run = engines.run("containerd", "-k", "nvidia", machine="uml", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert ["works"] == [row["result"] for row in run.rows]


@on_uml
@pytest.mark.parametrize(
    ("machine", "chosen"),
    [
        ("host", ["test_containerd"]),
        pytest.param(
            *("uml", ["test_plain_pod", "test_exec_sync", "test_stop", "test_commands"]), marks=pytest.mark.nightly
        ),
    ],
    ids=["configuration", "pods"],
)
def test_containerd_1(pyoci: str, machine: str, chosen: list[str]) -> None:
    """The page's configuration for containerd 1, and some pods, with Debian 13's containerd."""
    run = engines.run("containerd", "-k", " or ".join(chosen), machine=machine, suite="trixie", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert {"works"} == {row["result"] for row in run.rows}
    assert len(chosen) <= len(run.rows)


@pytest.mark.nightly
@on_uml
def test_crio(pyoci: str) -> None:
    """CRI-O, built from its sources, with the drop-in of contrib/kubernetes."""
    run = engines.run("crio", machine="uml", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert {"works"} == {row["result"] for row in run.rows}
    assert 5 < len(run.rows)


@pytest.mark.nightly
@on_qemu
def test_apparmor(pyoci: str) -> None:
    """Pods with AppArmor profiles, on a kernel that has it."""
    run = engines.run("containerd", "-k", "apparmor", machine="qemu", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert ["works"] == [row["result"] for row in run.rows]


@on_uml
def test_limits_of_old_podman(pyoci: str) -> None:
    """What Debian 12's Podman asks of the controller pids."""
    run = engines.run("podman4", machine="uml", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert ["works"] * 3 == [row["result"] for row in run.rows]


@on_uml
@pytest.mark.parametrize("engine", ["docker", "containerd"])
def test_limits(pyoci: str, engine: str) -> None:
    """What needs a controller that the host may lack."""
    run = engines.run(engine, machine="uml", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert 7 <= [row["result"] for row in run.rows].count("works")
    assert ["needs"] >= [row["result"] for row in run.rows if row["result"] != "works"]  # cpuset, or a newer kernel


@on_uml
@pytest.mark.parametrize("engine", ["docker", "containerd"])
def test_limits_with_the_systemd_driver(pyoci: str, engine: str) -> None:
    """Pods' and containers' limits, and what changes them."""
    run = engines.run(engine, "-m", "cgroup", machine="uml-systemd", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert {"works"} == {row["result"] for row in run.rows}


@on_uml
def test_the_newest_systemd(pyoci: str) -> None:
    """What the kubelet changes of a scope of the newest systemd, on a machine with controllers."""
    run = engines.run("containerd", "-k", "resize or privileged", machine="uml-newest-systemd", timeout=TIME)

    assert 0 == run.status, run.output[-30_000:]
    assert ["works"] * 2 == [row["result"] for row in run.rows]
