"""Resources of whole containers, and what an existing cgroup holds before and after one."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import takeover
from tests.root.test_cgroups_limits import block_device, needs, skip_if
from tests.support.runtime import Bundle, Runtime, cgroup_mount

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

MIB = 1 << 20


def controllers() -> list[str]:
    return Path(cgroup_mount(), "cgroup.controllers").read_text().split()


@pytest.fixture
def existing(runtime: Runtime) -> Iterator[Callable[..., Any]]:
    """A function: an existing cgroup with these values in its files, for a container to use. It is removed
    afterwards.
    """
    made = []

    def make(**values: Any):
        top = Path(cgroup_mount(), f"pyoci-test-{uuid.uuid4().hex[:8]}")
        folder = top / "leaf"
        folder.mkdir(parents=True)
        made.extend((folder, top))
        names = {file.partition("_")[0] for file in values} - {"cgroup"}
        (top / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))
        for file, value in values.items():
            (folder / file.replace("_", ".")).write_text(str(value))
        runtime.bundle.linux["cgroupsPath"] = f"/{top.name}/leaf"
        return folder

    yield make
    runtime.clean_up()
    for folder in made:
        folder.rmdir()


def read(folder: Path, *files: str) -> list[str]:
    return [(folder / file).read_text().strip() for file in files]


LIMITS = {  # a file that is there without any controller, for a host that has none of them
    "cgroup.max.depth": ("5", "7"),
    "hugetlb.2MB.max": (str(8 * MIB), str(4 * MIB)),
    "pids.max": ("99", "33"),
    "memory.high": (str(512 * MIB), str(256 * MIB)),
    "cpu.weight": ("200", "50"),
    "cpu.max": ("50000 100000", "20000 40000"),
}


def limits_here() -> dict[str, tuple[str, str]]:
    return {file: pair for file, pair in LIMITS.items() if file.partition(".")[0] in ("cgroup", *controllers())}


def test_limits_of_an_existing_cgroup_stay_without_resources(
    runtime: Runtime, bundle: Bundle, existing: Callable[..., Any]
) -> None:
    """CG-07: not set is not changed."""
    here = limits_here()
    folder = existing(**{file.replace(".", "_"): before for file, (before, _) in here.items()})
    bundle.linux["resources"] = {"devices": bundle.linux["resources"]["devices"]}
    bundle.program("sleep", 100)
    runtime.create()
    assert [before for before, _ in here.values()] == read(folder, *here)


def test_limits_of_an_existing_cgroup_come_back(runtime: Runtime, bundle: Bundle, existing: Callable[..., Any]) -> None:
    """What create changes delete undoes (LIFE-12): the limits hold while the container is there."""
    here = limits_here()
    folder = existing(**{file.replace(".", "_"): before for file, (before, _) in here.items()})
    bundle.linux["resources"]["unified"] = {file: new for file, (_, new) in here.items()}
    bundle.program("sleep", 100)
    runtime.create()
    assert [new for _, new in here.values()] == read(folder, *here)
    runtime.start()
    runtime.delete("--force")
    assert [before for before, _ in here.values()] == read(folder, *here)


def test_limits_of_an_existing_cgroup_come_back_when_create_fails(
    runtime: Runtime, bundle: Bundle, existing: Callable[..., Any]
) -> None:
    """Afterwards all is as if create had never been tried (ERR-01)."""
    here = limits_here()
    folder = existing(**{file.replace(".", "_"): before for file, (before, _) in here.items()})
    bundle.linux["resources"]["unified"] = {file: new for file, (_, new) in here.items()}
    bundle.program("/no/such/program")
    runtime.create_fails()
    assert [before for before, _ in here.values()] == read(folder, *here)


def test_the_owner_of_an_existing_cgroup_comes_back(
    runtime: Runtime, bundle: Bundle, existing: Callable[..., Any]
) -> None:
    """The same for the container's user, who owned it."""
    folder = existing()
    bundle.mount("/sys/fs/cgroup", "cgroup", "nosuid").process["user"] = {"uid": 1000, "gid": 7}
    bundle.program("sleep", 100)
    runtime.create()
    assert [1000, 1000] == [path.stat().st_uid for path in (folder, folder / "cgroup.procs")]
    runtime.delete("--force")
    assert {0} == {path.stat().st_uid for path in (folder, *folder.iterdir())}


@pytest.mark.parametrize(
    ("old", "new", "lifted"),
    [
        ("", "8:0 rbps=5 wbps=max riops=max wiops=max\n", ["8:0 rbps=max wbps=max riops=max wiops=max"]),
        ("8:0 rbps=7 wbps=max\n", "8:0 rbps=5 wbps=max\n8:16 rbps=max wbps=1\n", ["8:16 rbps=max wbps=max"]),
        ("default 100\n", "default 200\n8:0 300\n", ["8:0 default"]),
        ("", "mlx4_0 hca_handle=2 hca_object=max\n", ["mlx4_0 hca_handle=max hca_object=max"]),
        ("default 100\n8:0 300\n", "default 100\n8:0 300\n", []),
    ],
)
def test_what_lifts_the_limits_of_a_device(old: str, new: str, lifted: list[str]) -> None:
    """One that had no line before is given what stands for no limit: the kernel then drops its line."""
    assert lifted == list(takeover.lift_new_limits(old, new))


@needs("io")
@skip_if(block_device() is None, "no block device")
def test_throttles_of_an_existing_cgroup_come_back(
    runtime: Runtime, bundle: Bundle, existing: Callable[..., Any]
) -> None:
    """A device that had none has none again; one that had keeps its own."""
    major, minor = block_device()
    folder = existing(cgroup_max_depth=5)
    (folder.parent / "cgroup.subtree_control").write_text("+io")
    bundle.linux["resources"]["blockIO"] = {
        "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1048576}]
    }
    bundle.program("sleep", 100)
    runtime.create()
    assert [f"{major}:{minor} rbps=1048576 wbps=max riops=max wiops=max"] == read(folder, "io.max")
    runtime.delete("--force")
    assert [""] == read(folder, "io.max")
    (folder / "io.max").write_text(f"{major}:{minor} wiops=77")
    runtime.create()
    runtime.delete("--force")
    assert [f"{major}:{minor} rbps=max wbps=max riops=max wiops=77"] == read(folder, "io.max")


@pytest.mark.parametrize("why", ["the container's cgroup unexpectedly frozen", "the container's cgroup is not empty"])
def test_a_cgroup_that_is_not_fit_is_refused(
    runtime: Runtime, bundle: Bundle, existing: Callable[..., Any], why: str
) -> None:
    """CG-01: by a create that leaves it alone."""
    folder = existing()
    if why == "the container's cgroup unexpectedly frozen":
        (folder / "cgroup.freeze").write_text("1")
        message = runtime.create_fails()
        (folder / "cgroup.freeze").write_text("0")
    else:
        process = subprocess.Popen(["sleep", "100"])
        (folder / "cgroup.procs").write_text(str(process.pid))
        runtime.host._children.add(process.pid)
        try:
            message = runtime.create_fails()
        finally:
            process.kill()
            process.wait()
    assert f"/linux/cgroupsPath: cannot use cgroup {bundle.linux['cgroupsPath']}: {why}" == message


def with_clocks(bundle) -> None:
    """An intermediate process clones the container's first one."""
    bundle.namespace("time").linux["timeOffsets"] = {"monotonic": {"secs": 5}}


def in_a_user_namespace(bundle) -> None:
    bundle.in_user_namespace()


NO_CLOCKS = "no time namespaces"
needs_clocks = (
    pytest.mark.may_skip(NO_CLOCKS),
    pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason=NO_CLOCKS),
)


@pytest.mark.parametrize("change", [None, pytest.param(with_clocks, marks=needs_clocks), in_a_user_namespace])
def test_a_cgroup_that_was_killed_once(
    runtime: Runtime, bundle: Bundle, existing: Callable[..., Any], change: Callable[..., Any] | None
) -> None:
    """It can be used again: the kernel would kill whatever is cloned into it."""
    folder = existing()
    (folder / "cgroup.kill").write_text("1")
    if change:
        change(bundle)
    bundle.program("sleep", 100)
    for _ in range(3):
        runtime.create()
        assert [str(runtime.pid())] == read(folder, "cgroup.procs")
        runtime.start()
        runtime.delete("--force")


def test_the_runtimes_cgroup_was_killed_once(runtime: Runtime, bundle: Bundle, existing: Callable[..., Any]) -> None:
    """That does not concern a container either."""
    folder = existing()
    (folder / "cgroup.kill").write_text("1")
    del bundle.linux["cgroupsPath"]
    bundle.program("sleep", 100)
    runtime.create(preexec_fn=lambda: (folder / "cgroup.procs").write_text("0"))
    (cgroup,) = runtime.host.cgroups(runtime.id)
    assert [str(runtime.pid())] == read(Path(cgroup), "cgroup.procs")
    runtime.delete("--force")


@needs("pids")
def test_no_process_but_the_first(runtime: Runtime, bundle: Bundle) -> None:
    """pids.limit 0 is a limit from version 1.3 on (CG-40): the program runs, and can't make another."""
    bundle.config["ociVersion"] = "1.3.0"
    bundle.linux["resources"]["pids"] = {"limit": 0}
    bundle.shell("echo one; (echo two); echo three")
    result = runtime.run()
    assert "one\n" == result.out
    assert "can't fork: Resource temporarily unavailable" in result.err


@needs("pids")
@pytest.mark.parametrize(("version", "limit"), [("1.2.1", "max"), ("1.3.0", "0")])
def test_no_limit_of_processes_by_version(runtime: Runtime, bundle: Bundle, version: str, limit: str) -> None:
    """A limit of 0, from create and from update: Podman 4 says unlimited with it, in configs up to version 1.2."""
    bundle.config["ociVersion"] = version
    bundle.linux["resources"]["pids"] = {"limit": 0}
    bundle.program("sleep", 100)
    runtime.create()
    (cgroup,) = map(Path, runtime.host.cgroups(runtime.id))
    assert [limit] == read(cgroup, "pids.max")
    for wanted, expected in ((7, "7"), (0, limit)):
        assert (0, "", "") == tuple(runtime("update", "--pids-limit", wanted, runtime.id))
        assert [expected] == read(cgroup, "pids.max")
    runtime.delete("--force")


@needs("memory")
def test_check_before_update_at_create(runtime: Runtime, bundle: Bundle, existing: Callable[..., Any]) -> None:
    """CG-32: what an existing cgroup still holds, such as a file on a tmpfs, is compared with the limit."""
    folder = existing(memory_max=256 * MIB)
    held = runtime.folder / "held"
    held.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "held", held], check=True)
    try:
        script = f"echo 0 > {folder}/cgroup.procs && head -c {32 * MIB} /dev/zero > {held}/file"
        subprocess.run(["sh", "-c", script], check=True)
        bundle.linux["resources"]["memory"] = {"limit": 16 * MIB, "checkBeforeUpdate": True}
        message = runtime.create_fails()
        assert message.startswith(f"/linux/resources/memory/limit: cannot set memory.max to {16 * MIB}: ")
        assert [str(256 * MIB)] == read(folder, "memory.max")
        bundle.linux["resources"]["memory"]["limit"] = 200 * MIB
        bundle.program("sleep", 100)
        runtime.create()
        assert [str(200 * MIB)] == read(folder, "memory.max")
        runtime.delete("--force")
    finally:
        subprocess.run(["umount", held], check=True)


@needs("memory", "pids", "cpu", "io")
def test_everything_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """One config with a property of each kind, in a container that runs: the table of v1 to v2."""
    bundle.linux["resources"] |= {
        "memory": {"limit": 128 * MIB, "reservation": 64 * MIB, "swap": 128 * MIB, "disableOOMKiller": False},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 20000, "idle": 0},
        "pids": {"limit": 100},
        "blockIO": {},
        "network": {"classID": 0, "priorities": []},
        "unified": {"memory.high": str(120 * MIB), "pids.max": "50"},
    }
    bundle.program("sleep", 100)
    runtime.create()
    runtime.start()
    (folder,) = runtime.host.cgroups(runtime.id)
    files = (
        "memory.max",
        "memory.low",
        "cpu.weight",
        "cpu.max",
        "cpu.max.burst",
        "cpu.idle",
        "memory.high",
        "pids.max",
    )
    expected = [128 * MIB, 64 * MIB, 100, "50000 100000", 20000, 0, 120 * MIB, 50]
    assert [str(value) for value in expected] == read(Path(folder), *files)
    swap = Path(folder, "memory.swap.max")
    assert not swap.exists() or "0" == swap.read_text().strip()


def test_device_rules_of_a_container(runtime: Runtime, bundle: Bundle) -> None:
    """A node alone opens nothing (DEV-10): the last rule for it decides (CG-20), the defaults stay usable (CG-22)."""
    memory = {"type": "c", "major": 1, "minor": 1}
    bundle.linux["devices"] = [{"path": "/dev/mem", **memory}]
    rules = bundle.linux["resources"]["devices"] = [{"allow": False, "access": "rwm"}]
    bundle.shell("head -c 0 /dev/mem; head -c 1 /dev/zero | wc -c; echo x > /dev/null && echo null; mknod /n c 1 1")
    bundle.process["capabilities"] = {
        kind: [*names, "CAP_SYS_RAWIO"] for kind, names in bundle.process["capabilities"].items()
    }
    denied = runtime.run()
    assert "1\nnull\n" == denied.out
    assert "head: /dev/mem: Operation not permitted\n" == denied.err

    (bundle.rootfs / "n").unlink()
    rules += [{"allow": True, "access": "rwm", **memory}]
    # some kernels have no such device: then it is the host's error, too, that there is none
    on_host = subprocess.run(["head", "-c", "0", "/dev/mem"], capture_output=True, text=True, check=False).stderr
    assert ("Operation not permitted" in on_host) == ("Operation not permitted" in runtime.run().err)

    (bundle.rootfs / "n").unlink()
    rules += [{"allow": False, "access": "r", **memory}]
    assert "head: /dev/mem: Operation not permitted\n" == runtime.run().err


@pytest.mark.parametrize(
    ("resources", "where"),
    [
        ({"network": {"classID": 1}}, "network/classID"),
        ({"memory": {"swappiness": 60}}, "memory/swappiness"),
        ({"memory": {"kernel": MIB}}, "memory/kernel"),
        ({"memory": {"disableOOMKiller": True}}, "memory/disableOOMKiller"),
        ({"cpu": {"realtimeRuntime": 1}}, "cpu/realtimeRuntime"),
        ({"blockIO": {"leafWeight": 500}}, "blockIO/leafWeight"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_equivalent_is_an_error(
    runtime: Runtime, bundle: Bundle, resources: dict[str, Any], where: str
) -> None:
    """CG-30, in create: nothing of it is ignored silently."""
    bundle.linux["resources"] |= resources
    assert f"/linux/resources/{where}: cannot convert {where.rpartition('/')[2]} " in runtime.create_fails()
