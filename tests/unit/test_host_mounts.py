"""Which containers leave the host's mounts behind, and how the runtime finds the namespace in which they begin."""

import os
import posix
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyoci.compiler import create, facts
from pyoci.compiler.operations import Plan
from pyoci.host import kernel_mounts, processes
from pyoci.linux import CLONE_NEWNS

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = "/proc/25/ns/mnt"
HOST = facts.Host(kernel_mounts=PATH)

# --- the decision


def config() -> dict[str, Any]:
    """A config as engines send it."""
    return {
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["/bin/sh"], "user": {"uid": 0, "gid": 0}},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
            {"destination": "/etc/hosts", "type": "bind", "source": "/var/hosts", "options": ["rbind", "rshared"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "network", "ipc", "uts", "cgroup")]},
    }


def compiled(document: dict[str, Any], host: facts.Host = HOST, **options: Any) -> Plan:
    return create.compile_container(document, host, facts.Options("/bundle", "box", **options))


def leaves_host(plan: Plan) -> bool:
    """Whether the plan is the new way in every respect; fails if it is neither the one nor the other."""
    verbs = [op.verb for op in plan.child()]
    opened = [op.path for op in plan.before if op.verb == "open_namespace" and op.path == PATH]
    if "cover_root" not in verbs:
        assert not opened
        assert "kernel's mount" not in [getattr(op, "kind", "") for op in plan.child()]
        return False
    assert [PATH] == opened
    assert "attach_rootfs" not in verbs
    assert not plan.clone_flags & CLONE_NEWNS
    shown = [f"{op.verb} {op.shown()}" for op in plan.child()]
    order = ["join_namespace kernel's mount", "set_propagation /  SLAVE recursively", "cover_root "]
    assert order == [line for line in shown if line in order]
    made = shown[shown.index(order[0]) + 1]
    assert made.startswith("unshare "), shown
    assert "mount" in made.removeprefix("unshare ").split(", ")
    return True


def test_engines_config_leaves_the_host() -> None:
    """Joined network, ipc and uts namespaces, as of a pod, make no difference."""
    document = config()
    assert leaves_host(compiled(document))
    for entry in document["linux"]["namespaces"][2:5]:
        entry["path"] = f"/proc/1/ns/{entry['type']}"
    assert leaves_host(compiled(document))


@pytest.mark.parametrize("value", ["shared", "slave", "private", "unbindable"])
def test_propagation_of_the_root_makes_no_difference(value: str) -> None:
    """The propagation of the root comes from its clone, which the runtime makes on the host."""
    document = config()
    document["linux"]["rootfsPropagation"] = value
    assert leaves_host(compiled(document))


@pytest.mark.parametrize("kind", ["startContainer", "poststart", "poststop"])
def test_late_hooks_make_no_difference(kind: str) -> None:
    """When they run, the root is pivoted."""
    assert leaves_host(compiled(config() | {"hooks": {kind: [{"path": "/bin/true"}]}}))


def _hook(kind: str) -> "Callable[[dict[str, Any]], None]":
    def change(document: dict[str, Any]) -> None:
        document["hooks"] = {kind: [{"path": "/bin/true"}]}

    return change


def _mount(**entry: Any) -> "Callable[[dict[str, Any]], None]":
    return lambda document: document["mounts"].append({"destination": "/m", **entry})


def _join(kind: str, path: str) -> "Callable[[dict[str, Any]], None]":
    def change(document: dict[str, Any]) -> None:
        others = [entry for entry in document["linux"]["namespaces"] if entry["type"] != kind]
        document["linux"]["namespaces"] = [*others, {"type": kind, "path": path}]

    return change


def _user(document: dict[str, Any]) -> None:
    document["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    document["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}


def _offsets(document: dict[str, Any]) -> None:
    document["linux"]["namespaces"].append({"type": "time"})
    document["linux"]["timeOffsets"] = {"boottime": {"secs": 1}}


def _label(document: dict[str, Any]) -> None:
    document["linux"]["mountLabel"] = "system_u:object_r:container_file_t:" + ",".join(f"c{n}" for n in range(99))


@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param(_hook(kind), id=kind) for kind in ("prestart", "createRuntime", "createContainer")),
        pytest.param(_mount(type="overlay", source="overlay", options=["lowerdir=/a:/b"]), id="overlay"),
        pytest.param(_mount(type="ext4", source="/dev/vdb"), id="device"),
        pytest.param(_mount(type="a-filesystem-of-tomorrow", source="none"), id="unknown"),
        pytest.param(_mount(type="tmpfs", source="tmpfs", options=["size=" + "1" * 300]), id="long-option"),
        pytest.param(_mount(type="tmpfs", source="t" * 300), id="long-source"),
        pytest.param(_label, id="long-label"),
        pytest.param(_user, id="user"),
        pytest.param(_offsets, id="time"),
        pytest.param(_join("pid", "/proc/1/ns/pid"), id="joined-pid"),
        pytest.param(_join("user", "/proc/1/ns/user"), id="joined-user"),
        pytest.param(_join("mount", "/proc/1/ns/mnt"), id="joined-mount"),
    ],
)
def test_host_stays_in_view_of_what_needs_it(change: "Callable[[dict[str, Any]], None]") -> None:
    """Hooks before the pivot, host paths, and namespaces that are made in another order."""
    document = config()
    change(document)
    host = facts.Host(kernel_mounts=PATH, selinux=True)
    assert not leaves_host(compiled(document, host))


def test_no_pivot_keeps_the_host_in_view() -> None:
    """The root moves over the host's."""
    assert not leaves_host(compiled(config(), no_pivot=True))


def test_host_without_the_namespace_keeps_the_host_in_view() -> None:
    """A kernel without kdevtmpfs, another pid namespace, or a runtime that may not join."""
    assert not leaves_host(compiled(config(), facts.Host()))


# --- the kernel's thread

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="reads a trusted attribute")


def thread() -> int:
    """The pid of kdevtmpfs."""
    done = subprocess.run(["pgrep", "-x", "-P", "2", "kdevtmpfs"], capture_output=True, text=True)
    if not done.stdout:
        pytest.skip("the kernel has no kdevtmpfs, or its pid namespace is another")
    return int(done.stdout)


def remembered(directory: Path) -> bytes:
    fd = os.open(directory, os.O_RDONLY)
    try:
        kernel_mounts.remember(fd, kernel_mounts.find(str(directory)))
    finally:
        os.close(fd)
    return os.getxattr(directory, kernel_mounts.HINT)


@needs_root
@pytest.mark.parametrize("hint", [None, b"", b"1", b"99999999", b"-1", b"25; rm", b"\xff\0", b"9" * 4000])
def test_hint_is_verified_and_replaced(tmp_path: Path, hint: bytes | None) -> None:
    """A pid of another boot, of another process, or no number at all."""
    if hint is not None:
        os.setxattr(tmp_path, kernel_mounts.HINT, hint)
    expected = thread()
    assert f"/proc/{expected}/ns/mnt" == kernel_mounts.find(str(tmp_path))
    assert str(expected).encode() == remembered(tmp_path)


@needs_root
def test_right_hint_needs_no_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks at every thread of the kernel."""
    expected = thread()
    remembered(tmp_path)
    monkeypatch.setattr(kernel_mounts, "_kernel_threads", lambda: pytest.fail("searched"))
    assert f"/proc/{expected}/ns/mnt" == kernel_mounts.find(str(tmp_path))


@needs_root
def test_root_that_does_not_exist_yet(tmp_path: Path) -> None:
    """The first create makes it."""
    assert f"/proc/{thread()}/ns/mnt" == kernel_mounts.find(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


@needs_root
def test_filesystem_without_attributes(tmp_path: Path) -> None:
    """A ramfs keeps no hint, so each create would search."""
    program = "from pyoci.host import kernel_mounts; print([kernel_mounts.find('.')])"
    inside = 'mount -t ramfs none "$1" && cd "$1" && shift && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, "-", tmp_path, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
    )
    assert ("['']\n", "") == (done.stdout, done.stderr)


@pytest.mark.parametrize("name", [b"kdevtmpfs", b"kdevtmpfs) S 2 ", b"(kdevtmpfs)"])
def test_program_with_the_name_of_the_thread_is_rejected(name: bytes) -> None:
    """Every process chooses its own name, also one with blanks and parentheses."""
    pid = posix.fork()
    if pid == 0:
        try:
            Path("/proc/self/comm").write_bytes(name)
            posix.kill(posix.getpid(), 19)
        finally:
            posix._exit(0)
    try:
        os.waitpid(pid, os.WUNTRACED)
        assert name == Path(f"/proc/{pid}/comm").read_bytes()[:-1]
        assert not processes.is_kernel_thread(pid, b"kdevtmpfs")
    finally:
        posix.kill(pid, 9)
        os.waitpid(pid, 0)


def test_thread_is_recognised() -> None:
    """By its name and the kernel's flag."""
    pid = thread()
    assert processes.is_kernel_thread(pid, b"kdevtmpfs")
    assert not processes.is_kernel_thread(pid, b"kthreadd")
    assert not processes.is_kernel_thread(1 << 30, b"kdevtmpfs")
