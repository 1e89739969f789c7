"""Containers that leave the host's mounts behind: the same container as with all mounts in view, and nothing left.

A createRuntime hook that does nothing keeps the host's mounts in view. So each test here can have both.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyoci.cgroups import hierarchy
from pyoci.host import kernel_mounts
from tests.support.runtime import PATIENCE, Bundle, Runtime, wait_for

pytestmark = pytest.mark.root

WAYS = ["kernel's", "host's"]


@pytest.fixture(autouse=True)
def thread() -> Iterator[str]:
    """The /proc directory of kdevtmpfs. Its mounts must be the same after each test."""
    namespace = kernel_mounts.find("/")
    if not namespace:
        pytest.skip("the kernel has no kdevtmpfs, or its pid namespace is another")
    process = namespace.removesuffix("/ns/mnt")
    before = Path(process, "mountinfo").read_text()
    yield process
    assert before == Path(process, "mountinfo").read_text()


def choose(runtime: Runtime, way: str) -> None:
    """Let the container begin with the kernel's mounts or with the host's."""
    runtime.bundle.config.pop("hooks", None)
    if way == "host's":
        runtime.bundle.hook("createRuntime", "true")
    runtime.bundle.write()
    result = runtime("plan", runtime.bundle.folder)
    assert 0 == result.status, result
    assert (way == "kernel's") == ("cover_root" in result.out)


def table(text: str) -> list[str]:
    """A mountinfo with ids, anonymous devices and peer groups numbered as they appear.

    The parent of `/` lies outside and only appears as a number. It is the same, too: the kernel's first mount.
    """
    numbers: dict[str, str] = {}

    def number(kind: str, value: str) -> str:
        return numbers.setdefault(f"{kind} {value}", f"{kind}{len(numbers)}")

    lines = []
    for line in text.splitlines():
        own, parent, device, rest = line.split(" ", 3)
        rest = re.sub(r"(shared|master|propagate_from):(\d+)", lambda found: number(found[1], found[2]), rest)
        device = number("device", device) if device.startswith("0:") else device
        lines.append(" ".join([number("mount", own), number("mount", parent), device, rest]))
    return lines


def test_mounts_of_the_container_are_the_same(runtime: Runtime, bundle: Bundle) -> None:
    """Line by line: mounts, their order, parents, options, propagation and sources."""
    source = runtime.folder / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "source", source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        (source / "below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "below", source / "below"], check=True)
        for n, option in enumerate(["bind", "rbind", "rprivate", "rslave", "rshared", "ro"]):
            kind = "bind" if option == "bind" else "rbind"
            bundle.mount(f"/data{n}", "bind", kind, option, source=str(source))
        bundle.mount("/tmp", "tmpfs", "size=64k", "ro", "shared")
        bundle.linux["rootfsPropagation"] = "shared"
        bundle.linux["maskedPaths"] = ["/proc/kcore", "/proc/acpi", "/sys/firmware"]
        bundle.linux["readonlyPaths"] = ["/proc/sys", "/proc/bus"]
        tables = {}
        for way in WAYS:
            choose(runtime, way)
            tables[way] = table(runtime.shell("cat /proc/self/mountinfo"))
    finally:
        subprocess.run(["umount", "-R", source], check=True)

    assert 20 < len(tables[WAYS[0]])
    assert tables[WAYS[1]] == tables[WAYS[0]]
    whole = [line for line in tables[WAYS[0]] if line.split()[3] == "/" and "devtmpfs" in line]
    assert [] == whole  # a masked path may be one device of it


@pytest.mark.parametrize("propagation", ["private", "rprivate", "slave", "rslave", "shared", "rshared", ""])
def test_propagation_of_a_bind_mount_is_the_same(runtime: Runtime, bundle: Bundle, propagation: str) -> None:
    """What the host mounts below a source while the container runs, and what the container mounts there."""
    source = runtime.folder / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "source", source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        (source / "host").mkdir()
        (source / "inside").mkdir()
        bundle.mount("/data", "bind", "rbind", *filter(None, [propagation]), source=str(source))
        for kind in ("bounding", "effective", "permitted"):
            bundle.process["capabilities"][kind].append("CAP_SYS_ADMIN")
        bundle.shell("mount -t tmpfs i /data/inside && touch /data/inside/file /ready; sleep 100")
        seen = {}
        for way in WAYS:
            choose(runtime, way)
            runtime.create()
            subprocess.run(["mount", "-t", "tmpfs", "host", source / "host"], check=True)
            (source / "host/file").touch()
            runtime.start()
            inside = Path(f"/proc/{runtime.pid()}/root")
            wait_for((inside / "ready").exists)
            seen[way] = (inside / "data/host/file").exists(), (source / "inside/file").exists()
            runtime.delete("--force")
            (bundle.rootfs / "ready").unlink()
            for name in ("host", "inside"):
                subprocess.run(["umount", source / name], check=name == "host", capture_output=True)
    finally:
        runtime.clean_up()
        subprocess.run(["umount", "-R", source], check=True)

    assert seen[WAYS[1]] == seen[WAYS[0]]
    assert ("private" not in propagation, "shared" in propagation) == seen[WAYS[0]]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_early_hook_finds_the_host_in_the_mount_namespace(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """Hooks for devices enter the namespace of the state's pid and bind the host's files there."""
    source = runtime.folder / "source"
    source.write_text("bound by a hook\n")
    (bundle.rootfs / "target").touch()
    enter = (
        "" if kind == "createContainer" else "nsenter --mount=/proc/$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')/ns/mnt "
    )
    bundle.hook(kind, f"{enter}mount --bind {source} {bundle.rootfs}/target", path="/bin/sh")
    assert "bound by a hook\n" == runtime.shell("cat /target")


@pytest.mark.parametrize("hint", [None, b"1", b"no number", b"99999999"])
def test_wrong_hint_is_replaced(runtime: Runtime, bundle: Bundle, thread: str, hint: bytes | None) -> None:
    """One of another boot, or not even a pid."""
    runtime.root.mkdir(mode=0o700)
    if hint is not None:
        os.setxattr(runtime.root, kernel_mounts.HINT, hint)
    choose(runtime, "kernel's")
    assert "ran\n" == runtime.shell("echo ran")
    assert thread == f"/proc/{os.getxattr(runtime.root, kernel_mounts.HINT).decode()}"


def test_state_root_that_keeps_no_attribute(runtime: Runtime, bundle: Bundle) -> None:
    """Containers on such a host begin with all of its mounts."""
    runtime.root.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "ramfs", "-o", "mode=0700", "none", runtime.root], check=True)
    try:
        bundle.write()
        assert "attach_rootfs" in runtime("plan", bundle.folder).out
        assert "ran\n" == runtime.shell("echo ran")
    finally:
        subprocess.run(["umount", runtime.root], check=True)


def test_many_creates_on_a_fresh_root(runtime: Runtime, bundle: Bundle, thread: str) -> None:
    """Each finds the namespace or the hint of another one. The last delete leaves an empty directory."""
    choose(runtime, "kernel's")
    bundle.program("true")
    bundle.linux.pop("cgroupsPath", None)
    bundle.write()
    ids = [f"{runtime.id}-{n}" for n in range(30)]
    null = subprocess.DEVNULL
    creates = [
        subprocess.Popen(
            runtime.command("create", "--bundle", bundle.folder, name), stdin=null, stdout=null, stderr=null
        )
        for name in ids
    ]
    assert [0] * len(ids) == [create.wait(PATIENCE) for create in creates]
    assert thread == f"/proc/{os.getxattr(runtime.root, kernel_mounts.HINT).decode()}"
    for name in ids:
        runtime.delete("--force", id=name)
    assert [] == os.listdir(runtime.root)
    runtime.root.rmdir()


def test_killed_create_leaves_no_mount(runtime: Runtime, bundle: Bundle) -> None:
    """kill -9 at many moments. The fixture looks at the kernel's namespace, the harness at the host's."""
    choose(runtime, "kernel's")
    bundle.program("sleep", 100)
    bundle.write()
    for _ in runtime.creates_killed():
        runtime.clean_up()


def test_failed_create_leaves_no_mount(runtime: Runtime, bundle: Bundle) -> None:
    """A mount that fails, after the child has left the host's mounts."""
    choose(runtime, "kernel's")
    bundle.mount("/m", "tmpfs", "size=none")
    assert "/mounts/" in runtime.create_fails()


def test_another_pid_namespace_keeps_the_host_in_view(runtime: Runtime, bundle: Bundle) -> None:
    """There the kernel's threads are out of sight. A hint from outside names a process of the wrong namespace."""
    choose(runtime, "kernel's")
    assert "ran\n" == runtime.shell("echo ran")  # leaves the hint
    nested = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    options = ["run", "--bundle", str(bundle.folder), runtime.id]
    plan = subprocess.run([*nested, *runtime.command("plan", bundle.folder)], capture_output=True, text=True)
    done = subprocess.run([*nested, *runtime.command(*options)], capture_output=True, text=True)

    assert "attach_rootfs" in plan.stdout
    assert (0, "ran\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("lost", ["sys_chroot", "sys_ptrace"])
def test_runtime_without_the_right_to_join_keeps_the_host_in_view(runtime: Runtime, bundle: Bundle, lost: str) -> None:
    """setns(2) needs CAP_SYS_CHROOT. Opening the namespace of a thread with every capability needs CAP_SYS_PTRACE."""
    choose(runtime, "kernel's")
    program = f"from pyoci.host.facts import probe; print([probe({str(runtime.folder)!r}).kernel_mounts])"
    without = ["setpriv", f"--bounding-set=-{lost}", "--inh-caps=-all"]
    done = subprocess.run([*without, sys.executable, "-c", program], capture_output=True, text=True)
    assert ("['']\n", "") == (done.stdout, done.stderr)
    bundle.shell("echo ran")
    bundle.write()
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind] = []
    bundle.write()
    options = ["run", "--bundle", str(bundle.folder), runtime.id]
    done = subprocess.run([*without, *runtime.command(*options)], capture_output=True, text=True)
    assert (0, "ran\n", "") == (done.returncode, done.stdout, done.stderr)


def test_no_command_reads_the_table_of_mounts(runtime: Runtime, bundle: Bundle) -> None:
    """The time to read it grows with the mounts of the host."""
    if hierarchy.find_mount() not in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        pytest.skip("the cgroup v2 hierarchy is in an unusual place")
    bundle.program("sleep", 100)
    bundle.write()
    trace = runtime.folder / "trace"
    for words in (
        ["create", "--bundle", bundle.folder, runtime.id],
        ["start", runtime.id],
        ["state", runtime.id],
        ["exec", runtime.id, "/bin/true"],
        ["list"],
        ["kill", runtime.id, "KILL"],
        ["delete", "--force", runtime.id],
    ):
        command = ["strace", "-qq", "-o", trace, "-e", "trace=%file", *runtime.command(*words)]
        null = subprocess.DEVNULL
        assert 0 == subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=PATIENCE).returncode, words
        text = trace.read_text(errors="replace")
        assert str(runtime.root) in text
        assert [] == re.findall(r".*/(?:mountinfo|mounts|mountstats)\".*", text), words
