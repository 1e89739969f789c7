"""Cgroup ownership: who may use the cgroup that a container sees, and that other cgroups keep their owner."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import cgroupfs
from pyoci.cgroups.cgroupfs import Cgroup
from tests.support.runtime import Bundle, Runtime, cgroup_mount

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ALWAYS = {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
WRITABLE = ("nosuid", "noexec", "nodev")


def owners(folder: Path) -> dict[int, set[str]]:
    """Owner → what belongs to it: `.` is the directory itself."""
    found = {}
    for path in (folder, *folder.iterdir()):
        if path == folder or path.is_file():
            found.setdefault(path.stat().st_uid, set()).add("." if path == folder else path.name)
    return found


@pytest.fixture
def owned(runtime: Runtime, bundle: Bundle) -> Callable[..., Any]:
    """Create the container: the owners of its cgroup, while it is there."""

    def create():
        bundle.program("sleep", 100)
        runtime.create()
        (folder,) = runtime.host.cgroups(runtime.id)
        return owners(Path(folder))

    return create


def delegated(folder: str) -> set[str]:
    """What a new owner gets on this kernel: of the files that it lists those that are there."""
    listed = Path("/sys/kernel/cgroup/delegate")
    names = set(listed.read_text().split()) if listed.exists() else ALWAYS
    return {".", *(name for name in names if (Path(folder) / name).exists())}


def test_the_containers_user_owns_its_cgroup(runtime: Runtime, bundle: Bundle, owned: Callable[..., Any]) -> None:
    """With a cgroup namespace of its own and a writable mount: the directory and what the kernel lists (CG-10,
    CG-13).
    """
    bundle.mount("/sys/fs/cgroup", "cgroup", *WRITABLE).process["user"] = {"uid": 1000, "gid": 7}
    found = owned()
    assert ALWAYS | {"."} <= found[1000]
    assert {1000: delegated(runtime.host.cgroups(runtime.id)[0])} == {1000: found[1000]}
    assert {0, 1000} == found.keys()
    assert "cgroup.freeze" in found[0]


def test_and_can_use_it(runtime: Runtime, bundle: Bundle) -> None:
    """It makes groups of its own and moves into them; the limits stay the runtime's."""
    bundle.mount("/sys/fs/cgroup", "cgroup", *WRITABLE).process["user"] = {"uid": 1000, "gid": 7}
    out = runtime.shell(
        """cd /sys/fs/cgroup && mkdir own && echo 0 > own/cgroup.procs && cat /proc/self/cgroup | grep 0::
        { echo 1 > cgroup.freeze; } 2>&1 || true"""
    )
    assert "0::/own\n" in out
    assert "Permission denied" in out


def test_owner_by_the_user_namespace(runtime: Runtime, bundle: Bundle, owned: Callable[..., Any]) -> None:
    """The id on the host of the program's user (CG-10)."""
    bundle.in_user_namespace(host=200000).mount("/sys/fs/cgroup", "cgroup", *WRITABLE)
    bundle.process["user"] = {"uid": 5, "gid": 5}
    found = owned()
    assert {0, 200005} == found.keys()
    assert ALWAYS | {"."} <= found[200005]


def test_owner_by_a_joined_user_namespace(
    runtime: Runtime, bundle: Bundle, owned: Callable[..., Any], tmp_path: Path
) -> None:
    """Whose mapping only its processes know."""
    other = Bundle(tmp_path / "other").in_user_namespace(host=300000).program("sleep", 100)
    others = Runtime(runtime.executable, runtime.folder, other, runtime.host)
    others.id = f"{runtime.host.token}-other"
    others.create()
    bundle.in_user_namespace(host=300000).namespace("user", f"/proc/{others.pid()}/ns/user")
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    bundle.mount("/sys/fs/cgroup", "cgroup", *WRITABLE)
    assert {0, 300000} == owned().keys()


def test_root_of_the_host_stays_owner(bundle: Bundle, owned: Callable[..., Any]) -> None:
    """A container without a user namespace whose program is root."""
    bundle.mount("/sys/fs/cgroup", "cgroup", *WRITABLE)
    assert [0] == list(owned())


def read_only(bundle) -> None:
    bundle.mount("/sys/fs/cgroup", "cgroup", "ro", *WRITABLE)


def no_namespace(bundle) -> None:
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "cgroup"]


def no_new_namespace(bundle) -> None:
    bundle.namespace("cgroup", "/proc/self/ns/cgroup")


def other_source(bundle) -> None:
    bundle.mount("/sys/fs/cgroup", "cgroup2", source="cgroup2")


def other_destination(bundle) -> None:
    bundle.without_mount("/sys/fs/cgroup").mount("/cgroup", "cgroup")


def no_mount(bundle) -> None:
    bundle.without_mount("/sys/fs/cgroup")


@pytest.mark.parametrize(
    "change", [read_only, no_namespace, no_new_namespace, other_source, other_destination, no_mount]
)
def test_without_any_of_the_conditions_it_stays_the_runtimes(
    bundle: Bundle, owned: Callable[..., Any], change: Callable[..., Any]
) -> None:
    """CG-11, CG-12: each alone turns it off."""
    bundle.mount("/sys/fs/cgroup", "cgroup", *WRITABLE).process["user"] = {"uid": 1000, "gid": 7}
    change(bundle)
    assert [0] == list(owned())


# --- the list of the kernel


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    cgroup = Cgroup.create(f"/pyoci-test-owner-{os.getpid()}", "id", [])
    yield cgroup
    with contextlib.suppress(FileNotFoundError):
        cgroup.destroy()


def test_without_the_list(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel that has none: three files that every cgroup has (CG-13)."""
    monkeypatch.setattr(cgroupfs, "DELEGATE", str(tmp_path / "none"))
    cgroup.delegate(1234)
    assert ALWAYS | {"."} == owners(Path(cgroup_mount() + cgroup.path))[1234]


def test_what_is_listed_and_not_there(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No error, and no file of another list is touched (CG-13)."""
    (tmp_path / "list").write_text("cgroup.procs\nmemory.nosuch\ncgroup.threads\n")
    monkeypatch.setattr(cgroupfs, "DELEGATE", str(tmp_path / "list"))
    cgroup.delegate(1234)
    found = owners(Path(cgroup_mount() + cgroup.path))
    assert {".", "cgroup.procs", "cgroup.threads"} == found[1234]
    assert "cgroup.subtree_control" in found[0]
