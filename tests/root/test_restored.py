"""pyoci/criu/restored.py: what the kernel says about the processes of a container, compared with a config.json.

The check needs no restored process: it must accept every container that `create` makes, beside its own config.json.
A hostile image is like a container that was created from another one.
"""

import copy
import fcntl
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyoci.compiler.dump import Dumped, external_mounts
from pyoci.criu import restored
from pyoci.criu.images import Image
from pyoci.errors import SetupError
from pyoci.host.processes import with_descendants
from pyoci.mountinfo import parse
from tests.support.runtime import Runtime, wait_for

pytestmark = pytest.mark.root

ALLOWING: Any = {"defaultAction": "SCMP_ACT_ALLOW"}
WAIT = "echo ready; exec sleep 100"


class Restored:
    """A container that stands for a restored one."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.bundle = runtime.bundle
        self.image = Image()

    def share(self, kind: str) -> None:
        """Leave the container in the host's namespace of this type."""
        namespaces = self.bundle.linux["namespaces"]
        self.bundle.linux["namespaces"] = [each for each in namespaces if each["type"] != kind]
        if kind == "uts":
            del self.bundle.config["hostname"]

    def start(self, script: str = WAIT, *options: object, **more: Any) -> dict[str, Any]:
        """Start a container whose program says `ready`. Returns its config, which a test may change afterwards."""
        self.bundle.shell(script)
        self.runtime.create(*options, **more)
        self.runtime.start()
        wait_for(lambda: "ready" in self.runtime.output())
        if script.endswith("sleep 100"):
            wait_for(lambda: {"sleep"} == {comm(pid) for pid in with_descendants(self.runtime.pid()) if not ended(pid)})
        mounts = parse(Path(f"/proc/{self.runtime.pid()}/mountinfo").read_text())
        devices = {mount.device for mount in parse(Path("/proc/self/mountinfo").read_text())}
        dumped = Dumped(self.runtime.pid(), mounts=mounts, host_devices=devices)
        points: Any = [SimpleNamespace(point=point, key=point) for point in external_mounts(dumped)]
        self.image.mounts = {1: points}
        return copy.deepcopy(self.bundle.config)  # type: ignore[arg-type]

    def check(self, config: Any, **options: Any) -> None:
        """Check the container's processes. Its standard streams are files of the runtime."""
        files = [os.open(self.runtime.folder / name, os.O_RDONLY) for name in ("out", "err")]
        path = self.runtime.record()["cgroup"]["path"]
        rootfs = options.pop("rootfs", self.runtime.record()["rootfs"])
        try:
            restored.check(
                self.runtime.pid(), config, path, self.image, rootfs=rootfs, inherited=(0, *files), **options
            )
        finally:
            for fd in files:
                os.close(fd)

    def refusal(self, config: Any, **options: Any) -> str:
        """The error of a check, without what all have in common."""
        with pytest.raises(SetupError) as caught:
            self.check(config, **options)
        text = str(caught.value).replace(f"process {self.runtime.pid()} ", "process PID ")
        return text.replace("cannot restore the container: ", "")


@pytest.fixture
def container(runtime: Runtime) -> Restored:
    """A container that stands for a restored one."""
    return Restored(runtime)


def comm(pid: int) -> str:
    """The name of a process; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip()
    except OSError:
        return ""


def ended(pid: int) -> bool:
    """Whether a process has ended, even if its parent has not asked for its status."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


# --- what the check accepts


def test_check_accepts_a_container(container: Restored) -> None:
    """With all that a config can confine."""
    bundle = container.bundle
    bundle.linux["seccomp"] = ALLOWING
    bundle.process["noNewPrivileges"] = True
    bundle.config["root"]["readonly"] = True
    bundle.bind("/usr/share", "/data", "ro", "nosuid")
    bundle.mount("/run/lock", "tmpfs", "ro", "noexec")
    config = container.start()

    container.check(config)


def test_check_accepts_a_user_namespace(container: Restored) -> None:
    """Ids are compared as the container sees them."""
    container.bundle.in_user_namespace()
    container.bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [50]}
    container.bundle.process["noNewPrivileges"] = True
    container.bundle.process["capabilities"] = {"bounding": ["CAP_KILL"]}

    container.check(container.start())


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
def test_check_accepts_namespaces_of_the_host(container: Restored, kind: str) -> None:
    """If config.json shares them."""
    container.share(kind)

    container.check(container.start())


def test_check_accepts_joined_namespaces(container: Restored) -> None:
    """The path leads to the namespace that the container is in."""
    container.bundle.namespace("network", "/proc/self/ns/net")

    container.check(container.start())


def test_check_accepts_children_and_threads(container: Restored) -> None:
    """Programs have children, of which some are dead."""
    container.check(container.start("(sleep 100 & sleep 100) & sleep 0 & echo ready; exec sleep 100"))


def test_check_accepts_what_a_privileged_program_mounts(container: Restored) -> None:
    """A program with CAP_SYS_ADMIN may change every mount."""
    for names in container.bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")  # type: ignore[attr-defined]
    script = "umount /proc/interrupts; mount -t proc proc /mnt; mount -t tmpfs none /tmp; exec 5>/tmp/file; " + WAIT

    container.check(container.start(script))


def test_check_accepts_a_program_in_namespaces_of_its_own(container: Restored) -> None:
    """A sandbox in the container."""
    for names in container.bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")  # type: ignore[attr-defined]

    # by its path, or the program would still be that of a mount in the container's namespace
    nested = "/bin/busybox sh -c 'mount -t tmpfs none /mnt; echo ready; exec /bin/busybox sleep 100'"
    container.check(container.start(f"unshare -m -n -i -u {nested} & wait"))


def test_check_accepts_open_files_of_every_kind(container: Restored) -> None:
    """Pipes, files that were deleted, devices and namespaces."""
    script = "exec 5>/tmp/file 6</dev/zero 7</proc/self/ns/net; rm /tmp/file; sleep 100 | sleep 100 & " + WAIT

    container.check(container.start(script))


# --- more power


def test_check_rejects_capabilities(container: Restored) -> None:
    """The message names the process and the capability."""
    config = container.start()
    config["process"]["capabilities"]["bounding"].remove("CAP_CHOWN")

    expected = "/process/capabilities/bounding: process PID (sleep) has CAP_CHOWN in its bounding set"
    assert expected == container.refusal(config)


def test_check_rejects_capabilities_of_a_child(container: Restored) -> None:
    """Every process is checked, however deep: here init has no_new_privs, and its grandchild has not."""
    config = container.start("(sleep 100 & sleep 100) & echo ready; exec setpriv --nnp sleep 100")
    config["process"]["noNewPrivileges"] = True

    text = container.refusal(config)
    assert text.startswith("/process/noNewPrivileges: process ")
    assert text.endswith("(sleep) can gain privileges")
    assert "PID" not in text


def test_check_rejects_capabilities_of_a_process_outside_the_tree(container: Restored) -> None:
    """In the host's pid namespace, a process whose parent has ended leaves the tree below init."""
    config = container.start()
    runtime = container.runtime

    def pids() -> list[int]:
        found: list[int] = json.loads(runtime("ps", "--format", "json", runtime.id).out)
        return found

    with subprocess.Popen(runtime.command("exec", "--cap", "CAP_SYS_ADMIN", runtime.id, "sleep", "100")) as process:
        wait_for(lambda: len(pids()) == 2 and all("sleep" == comm(pid) for pid in pids()))
        container.check(config)
        container.check(config, pids=[runtime.pid()], criu=os.getpid())
        text = container.refusal(config, pids=[*pids(), os.getpid()], criu=os.getpid())
        runtime("delete", "--force", runtime.id)
        process.wait()
    assert "(sleep) has CAP_SYS_ADMIN in its bounding set" in text


def test_check_rejects_processes_that_can_gain_privileges(container: Restored) -> None:
    """The config asks for noNewPrivileges."""
    config = container.start()
    config["process"]["noNewPrivileges"] = True

    assert "/process/noNewPrivileges: process PID (sleep) can gain privileges" == container.refusal(config)


def test_check_rejects_processes_without_a_filter(container: Restored) -> None:
    """The mode and the number of filters count."""
    config = container.start()
    config["linux"]["seccomp"] = ALLOWING

    assert "/linux/seccomp: process PID (sleep) has no seccomp filter" == container.refusal(config)


def test_check_rejects_another_number_of_filters(container: Restored, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image has more than the kernel has loaded."""
    container.bundle.linux["seccomp"] = ALLOWING
    config = container.start()
    thread: Any = SimpleNamespace(id=1)
    container.image.tasks = [SimpleNamespace(threads=[thread])]  # type: ignore[list-item]
    monkeypatch.setattr(Image, "chain", lambda _self, _thread: iter(range(2)))

    assert "/linux/seccomp: process PID (sleep) has 1 seccomp filters instead of 2" == container.refusal(config)


def test_check_rejects_other_id_maps(container: Restored) -> None:
    """Root of the container would be another user of the host."""
    container.bundle.in_user_namespace()
    config = container.start()
    config["linux"]["uidMappings"][0]["hostID"] = 200000

    assert "/linux/uidMappings: process PID (sleep) has other uid mappings" == container.refusal(config)


def test_check_rejects_ids_that_no_program_could_take(container: Restored) -> None:
    """Without privileges, and without a way to gain any."""
    container.bundle.process["noNewPrivileges"] = True
    container.bundle.process["capabilities"] = {}
    config = container.start()
    config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [0]}

    assert "/process/user/uid: process PID (sleep) has the user ids 0" == container.refusal(config)


# --- the host's


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "pid"])
def test_check_rejects_namespaces_of_the_host(container: Restored, kind: str) -> None:
    """If config.json has a new one."""
    container.share(kind)
    config = container.start()
    config["linux"]["namespaces"].append({"type": kind})

    index = len(config["linux"]["namespaces"]) - 1
    expected = f"/linux/namespaces/{index}: process PID (sleep) is in the runtime's {kind} namespace"
    assert expected == container.refusal(config)


def test_check_rejects_another_namespace_than_the_path(container: Restored) -> None:
    """A namespace of its own, or the one of another container."""
    config = container.start()
    index = next(n for n, each in enumerate(config["linux"]["namespaces"]) if each["type"] == "network")
    config["linux"]["namespaces"][index]["path"] = "/proc/self/ns/net"

    expected = f"/linux/namespaces/{index}/path: process PID (sleep) is in another network namespace"
    assert expected == container.refusal(config)


def test_check_rejects_a_child_in_a_namespace_of_the_host(container: Restored) -> None:
    """Init has its own, but gave a child the host's."""
    for names in container.bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")  # type: ignore[attr-defined]
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        os.dup2(host, 33)
        script = "nsenter --net=/proc/self/fd/3 sh -c 'echo ready; exec sleep 100' & exec 3<&-; wait"
        config = container.start(script, "--preserve-fds", 1, pass_fds=(3,), preexec_fn=lambda: os.dup2(33, 3))
    finally:
        os.close(host)
        os.close(33)

    assert "is in another network namespace than init" in container.refusal(config)


def test_check_rejects_another_cgroup(container: Restored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits would not hold."""
    config = container.start()
    record = container.runtime.record()
    record["cgroup"]["path"] = "/other"
    monkeypatch.setattr(Runtime, "record", lambda _self: record)

    assert "/linux/cgroupsPath: process PID (sleep) is in the cgroup /" in container.refusal(config)


@pytest.mark.parametrize(
    ("path", "shown"), [("/usr", "/usr"), ("/etc/passwd", "/etc/passwd"), ("/proc/self/ns/net", "net:[")]
)
def test_check_rejects_descriptors_of_the_host(container: Restored, path: str, shown: str) -> None:
    """A directory, a file and a namespace."""
    opened = os.open(path, os.O_RDONLY)
    copy_of_it = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 33)  # above those that subprocess uses
    try:
        config = container.start(WAIT, "--preserve-fds", 1, pass_fds=(3,), preexec_fn=lambda: os.dup2(copy_of_it, 3))
    finally:
        os.close(opened)
        os.close(copy_of_it)

    text = container.refusal(config)
    assert text.startswith(f"process PID (sleep) has descriptor 3 open, which leads to {shown}")


def test_check_rejects_filesystems_of_the_host(container: Restored) -> None:
    """A mount that restore has not provided."""
    container.bundle.bind("/usr/share", "/data")
    config = container.start()
    container.image.mounts = {}
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/data"]
    for names in config["process"]["capabilities"].values():
        names.append("CAP_SYS_ADMIN")  # masks are external, too

    text = container.refusal(config)
    assert "has a filesystem of the host at /" in text


# --- confining mounts


def test_check_rejects_missing_masks(container: Restored) -> None:
    """A masked path that shows its content, and a read-only path that is writable."""
    masked, readonly = (container.bundle.linux[key] for key in ("maskedPaths", "readonlyPaths"))
    container.bundle.linux["maskedPaths"] = container.bundle.linux["readonlyPaths"] = []
    config = container.start()
    assert masked
    assert readonly

    config["linux"]["maskedPaths"] = ["/nonexistent", "/proc/interrupts"]
    assert "/linux/maskedPaths/1: process PID (sleep) can see /proc/interrupts" == container.refusal(config)
    config["linux"]["maskedPaths"] = ["/sys/firmware"]
    assert "/linux/maskedPaths/0: process PID (sleep) can see /sys/firmware" == container.refusal(config)
    config["linux"] = {**config["linux"], "maskedPaths": [], "readonlyPaths": ["/proc/sys"]}
    assert "/linux/readonlyPaths/0: process PID (sleep) can write to /proc/sys" == container.refusal(config)


def test_check_rejects_masks_that_show_what_they_cover(container: Restored) -> None:
    """A mount of the masked path on itself masks nothing."""
    container.bundle.linux["maskedPaths"] = []
    container.bundle.linux["readonlyPaths"] = ["/proc/sys"]
    config = container.start()
    config["linux"]["maskedPaths"] = ["/proc/sys"]

    assert "/linux/maskedPaths/0: process PID (sleep) can see /proc/sys" == container.refusal(config)


def test_check_rejects_missing_mounts(container: Restored) -> None:
    """Also through a link: /etc/link leads to /data."""
    link = container.bundle.rootfs / "etc/link"
    link.symlink_to("/data")
    config = container.start()
    config["mounts"].append({"destination": "/etc/link", "type": "tmpfs", "source": "none"})

    index = len(config["mounts"]) - 1
    assert f"/mounts/{index}: process PID (sleep) has no mount at /etc/link" == container.refusal(config)


def test_check_rejects_mounts_without_their_options(container: Restored) -> None:
    """The file system is there, but not as confined."""
    container.bundle.mount("/run/lock", "tmpfs")
    config = container.start()
    config["mounts"][-1]["options"] = ["ro", "nodev", "noexec", "nosuid"]

    index = len(config["mounts"]) - 1
    expected = f"/mounts/{index}/options: process PID (sleep) has /run/lock without ro, nosuid, nodev, noexec"
    assert expected == container.refusal(config)


def test_check_rejects_a_writable_root(container: Restored) -> None:
    """The config says that it is read-only."""
    config = container.start()
    config["root"]["readonly"] = True

    assert "/root/readonly: process PID (sleep) has a writable root filesystem" == container.refusal(config)


def test_check_rejects_another_root(container: Restored, tmp_path: Path) -> None:
    """Its mounts can't be examined."""
    config = container.start()

    expected = "/root/path: every process has another root directory than the container's"
    assert expected == container.refusal(config, rootfs=str(tmp_path))


def test_check_reports_a_process_that_is_gone(container: Restored) -> None:
    """It was killed meanwhile."""
    config = container.start()
    pid = container.runtime.pid()
    container.runtime("kill", container.runtime.id, "KILL")
    wait_for(lambda: ended(pid))  # `state` says `stopped` as soon as the signal is pending

    with pytest.raises(SetupError, match="cannot restore the container: its first process has ended"):
        restored.check(pid, config, "", container.image, rootfs="/")
