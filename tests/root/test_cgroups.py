"""The fs driver on this host's cgroup v2: directories, fitness, processes, removal."""

import contextlib
import gc
import inspect
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci import _native, cgroups
from pyoci.cgroups import cgroupfs, freezer, hierarchy
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cgroups.disabled import NoCgroup
from pyoci.cgroups.resources import writes
from pyoci.errors import CgroupError
from tests.support.runtime import PATIENCE

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

NUMBERS = itertools.count()


def unique() -> str:
    """A path that no other test uses."""
    return f"/pyoci-test-{os.getpid()}-{next(NUMBERS)}"


def host(path: str) -> Path:
    """The directory of a path from the mount."""
    return pathlib.Path(hierarchy.find_mount() + path)


def controllers() -> list[str]:
    """Those that this host has for cgroup v2."""
    return host("/cgroup.controllers").read_text().split()


def spawn(directory: Path, *command: str, stdout: int | None = None) -> subprocess.Popen[Any]:
    """A process in the cgroup `directory`."""
    procs = str(directory / "cgroup.procs")

    def join() -> None:
        with open(procs, "w") as file:
            file.write("0")

    return subprocess.Popen(command or ("sleep", "1000"), preexec_fn=join, stdout=stdout)  # noqa: PLW1509


def end(*processes: subprocess.Popen[Any]) -> None:
    """Kill and reap."""
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def path() -> Iterator[str]:
    """A path; whatever a test leaves there is removed."""
    path = unique()
    yield path
    top = host(path)
    if top.exists():
        with contextlib.suppress(OSError):
            (top / "cgroup.kill").write_text("1")
        for _ in range(100):
            with contextlib.suppress(OSError):
                for directory, _, _ in os.walk(top, topdown=False):
                    os.rmdir(directory)
                break
            time.sleep(0.02)


@pytest.fixture
def cgroup(path: str) -> Iterator[Cgroup]:
    """A new cgroup."""
    cgroup = Cgroup.create(path, "id", [])
    yield cgroup
    cgroup.destroy(kill=True)


def refusal(**arguments: Any) -> CgroupError:
    """The error of a create that must fail."""
    with pytest.raises(CgroupError) as caught:
        Cgroup.create(arguments.get("path", ""), arguments.get("id", "id"), arguments.get("writes", []))
    return caught.value


# Directories


def test_create_makes_what_is_missing_and_destroy_removes_just_that(path: str) -> None:
    """A parent that was there stays, one that was made goes with the container."""
    host(path).mkdir()
    cgroup = Cgroup.create(f"{path}/made/leaf", "id", [])

    assert f"{path}/made/leaf" == cgroup.path
    assert [f"{path}/made", f"{path}/made/leaf"] == cgroup.created
    assert host(cgroup.path).stat().st_ino == os.fstat(cgroup.dirfd).st_ino

    cgroup.destroy()
    assert not host(f"{path}/made").exists()
    assert host(path).exists()


def test_destroy_leaves_a_parent_that_others_use(path: str) -> None:
    """Made for the first container, shared with the second."""
    first = Cgroup.create(f"{path}/first", "id", [])
    second = Cgroup.create(f"{path}/second", "id", [])

    first.destroy()
    assert host(second.path).exists()
    second.destroy()


def test_an_existing_cgroup_is_used_and_stays(path: str) -> None:
    """OP-12: the runtime keeps a cgroup that it did not make, and the cgroups inside."""
    host(path).mkdir()
    (host(path) / "inside").mkdir()
    cgroup = Cgroup.create(path, "id", [])

    assert [] == cgroup.created
    cgroup.destroy(kill=True)
    assert (host(path) / "inside").exists()


def test_destroying_a_missing_cgroup_succeeds(path: str) -> None:
    """Delete has to work whatever happened to the directory."""
    cgroup = Cgroup.create(f"{path}/leaf", "id", [])
    host(f"{path}/leaf").rmdir()
    host(path).rmdir()

    cgroup.destroy(kill=True)
    cgroup.destroy()


def test_a_new_cgroup_of_the_same_name_is_not_ours(path: str) -> None:
    """Someone removed ours and made another: it and its processes are left alone."""
    cgroup = Cgroup.create(path, "id", [])
    record = cgroup.to_dict()
    cgroup.close()
    host(path).rmdir()
    host(path).mkdir()
    stranger = spawn(host(path))
    try:
        loaded = cgroups.from_dict(record)
        assert [] == loaded.pids()
        loaded.kill()
        loaded.destroy(kill=True)

        assert stranger.poll() is None
        assert host(path).exists()
    finally:
        end(stranger)


def test_the_record_survives_json(path: str) -> None:
    """State keeps driver, mount, path and what was made; a later command needs nothing else."""
    cgroup = Cgroup.create(path, "id", [])
    record = json.loads(json.dumps(cgroup.to_dict()))
    cgroup.close()
    loaded = cgroups.from_dict(record)

    assert "cgroupfs" == record["driver"]
    assert record == loaded.to_dict()
    loaded.destroy()
    assert not host(path).exists()


def test_an_unknown_driver_is_an_error() -> None:
    """A state that a later version wrote."""
    with pytest.raises(CgroupError, match="cannot use cgroup manager other"):
        cgroups.from_dict({"driver": "other"})


def test_a_relative_path_and_no_path_go_beside_the_cgroup_of_the_caller() -> None:
    """Where the caller's own cgroup is, below its parent."""
    own = pathlib.Path("/proc/self/cgroup").read_text().split("0::")[1].strip()
    parent = own.rpartition("/")[0]

    assert f"{parent}/a/b" == hierarchy.cgroup_path("a/b", "id")
    assert f"{parent}/id" == hierarchy.cgroup_path("", "id")
    assert "/a/b" == hierarchy.cgroup_path("/a/b", "id")
    assert "/a/b" == hierarchy.cgroup_path("/a/b/", "id")


@pytest.mark.parametrize(
    "path",
    ["../x", "/../x", "/a/../../x", "/a/..", "a//b", "/a//b", "/", "//", "/a/.", ".", "/a\0b", "/a\nb"],
)
def test_a_path_that_could_leave_the_hierarchy_is_refused(path: str) -> None:
    """Nothing is cleaned silently: a strange path is a mistake or an attack."""
    error = refusal(path=path)

    assert "/linux/cgroupsPath" == error.where
    assert "cannot use cgroup path" in error.message


def test_a_component_of_another_type_is_rejected() -> None:
    """Interface files have names as well."""
    error = refusal(path="/cgroup.procs/x")

    assert "cannot create cgroup /cgroup.procs/x: not a directory" == error.message


def test_a_directory_with_something_mounted_on_it_is_refused(path: str) -> None:
    """Not a cgroup any more, whatever it holds."""
    host(path).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(host(path))], check=True)
    try:
        error = refusal(path=path)
    finally:
        subprocess.run(["umount", str(host(path))], check=True)

    assert "something is mounted over it" in error.message


def test_a_read_only_mount_is_one_clear_error() -> None:
    """As in most containers."""
    program = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(cgroupfs.__file__).parents[2])!r})
from pyoci.cgroups.cgroupfs import Cgroup
try:
    Cgroup.create("/pyoci-test-read-only", "id", [])
except Exception as error:
    print(error)
"""
    script = 'mount -o remount,bind,ro "$0" && exec "$1" -c "$2"'
    command = ["unshare", "-m", "sh", "-ec", script, hierarchy.find_mount(), sys.executable, program]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout

    assert (
        "/linux/cgroupsPath: cannot create cgroup /pyoci-test-read-only: read-only file system"
        " (hint: the cgroup2 mount is read-only here)\n" == said
    )


def test_parallel_creates_and_deletes_under_one_parent(path: str) -> None:
    """Each makes and removes the shared parent under the feet of the others: no one may fail for it."""
    failures = []

    def live(name) -> None:
        try:
            for _ in range(60):
                Cgroup.create(f"{path}/{name}", "id", []).destroy()
        except CgroupError as error:
            failures.append(error)

    threads = [threading.Thread(target=live, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert not host(path).exists() or [] == [entry for entry in host(path).iterdir() if entry.is_dir()]


def test_a_failing_create_leaves_no_directory(path: str) -> None:
    """Neither the cgroup nor the parents that were made for it."""
    refusal(path=f"{path}/deep/er", writes=writes({"unified": {"nosuch.max": "1"}}))

    assert not host(path).exists()


def test_no_descriptor_stays_open(path: str) -> None:
    """Whether create succeeds or fails."""
    hierarchy.find_mount()
    gc.collect()  # what earlier tests have left to be closed
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        Cgroup.create(f"{path}/a/b", "id", []).destroy(kill=True)
        refusal(path=f"{path}/a/b", writes=writes({"unified": {"nosuch.max": "1"}}))
        refusal(path="/cgroup.procs/x")

    assert before == len(os.listdir("/proc/self/fd"))


# Fitness


def test_a_cgroup_with_processes_is_refused(path: str) -> None:
    """CG-01: the container would share limits and the end with strangers."""
    host(path).mkdir()
    process = spawn(host(path))
    try:
        error = refusal(path=path)
    finally:
        end(process)

    assert f"cannot use cgroup {path}: the container's cgroup is not empty" == error.message
    assert host(path).exists()


def test_processes_below_count_too(path: str) -> None:
    """A populated child makes the cgroup populated."""
    (host(path) / "child").mkdir(parents=True)
    process = spawn(host(path) / "child")
    try:
        assert "the container's cgroup is not empty" in refusal(path=path).message
    finally:
        end(process)


@pytest.mark.parametrize("below", ["", "/leaf"])
def test_a_frozen_cgroup_is_refused(path: str, below: str) -> None:
    """By itself or through its parent: the container's first process would never run."""
    host(path).mkdir()
    (host(path) / "cgroup.freeze").write_text("1")
    error = refusal(path=path + below)
    (host(path) / "cgroup.freeze").write_text("0")

    assert f"cannot use cgroup {path}{below}: the container's cgroup unexpectedly frozen" == error.message


@pytest.mark.parametrize("below", ["", "/leaf"])
def test_a_threaded_cgroup_is_refused(path: str, below: str) -> None:
    """Processes can't be cloned into one, or into the invalid domain below it."""
    (host(path) / "threads").mkdir(parents=True)
    (host(path) / "threads/cgroup.type").write_text("threaded")
    error = refusal(path=f"{path}/threads{below}")

    assert f"cannot use cgroup {path}/threads{below}: it is a threaded cgroup" == error.message
    assert not host(f"{path}/threads/leaf").exists()


# Controllers and limits


def test_a_missing_controller_is_one_line_that_names_it_and_the_key(path: str) -> None:
    """The host's hierarchy has no such controller: nothing else may be said."""
    resources = {"unified": {"nosuch.max": "1"}}
    error = refusal(path=path, writes=writes(resources))

    what = "the requested cgroup controller `nosuch` is not available"
    place = f"this host's cgroup v2 hierarchy ({hierarchy.find_mount()})"
    assert f"/linux/resources/unified/nosuch.max: cannot apply: {what} in {place}" == str(error)


def test_a_limit_for_a_controller_on_v1_is_refused_with_a_hint(path: str) -> None:
    """The usual reason on a hybrid host. Nothing to see where v2 has everything."""
    v1 = [line.split() for line in pathlib.Path("/proc/cgroups").read_text().splitlines()[1:]]
    names = {name for name, hierarchy, *_ in v1 if hierarchy != "0"} & {"pids", "memory", "cpu"}
    assert not names & set(controllers())
    for name, resources in {
        "pids": {"limit": 5},
        "memory": {"limit": 1 << 30},
        "cpu": {"shares": 1024},
    }.items():
        if name in names:
            error = refusal(path=path, writes=writes({name: resources}))
            assert f"controller `{name}` is not available in this host's cgroup v2 hierarchy (" in str(error)
            assert ") (hint: on this host it serves cgroup v1, unless " in str(error)


def test_limits_that_say_nothing_need_no_controller(path: str) -> None:
    """What engines send everywhere: empty objects, and limits that are lifted."""
    resources = {
        "blockIO": {},
        "memory": {"limit": -1, "swap": -1},
        "pids": {"limit": -1},
        "cpu": {"shares": 0, "quota": -1, "period": 100000, "burst": 0, "idle": 0},
    }
    cgroup = Cgroup.create(path, "id", writes(resources))
    cgroup.apply(writes(resources))
    cgroup.destroy()


@pytest.mark.may_skip("user-mode Linux has no hugetlb controller")
@pytest.mark.skipif("hugetlb" not in controllers(), reason="no hugetlb in cgroup v2")
def test_hugepage_limits_are_written_through_enabled_ancestors(path: str) -> None:
    """Both accountings, in a cgroup three levels down."""
    limits = writes({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]})
    cgroup = Cgroup.create(f"{path}/a/b", "id", limits)
    cgroup.apply(limits)

    assert "hugetlb" in (host(path) / "cgroup.subtree_control").read_text().split()
    assert "hugetlb" in (host(path) / "a/cgroup.subtree_control").read_text().split()
    assert "4194304" == (host(cgroup.path) / "hugetlb.2MB.max").read_text().strip()
    assert "4194304" == (host(cgroup.path) / "hugetlb.2MB.rsvd.max").read_text().strip()
    cgroup.destroy()


@pytest.mark.skipif(not controllers(), reason="no controller in cgroup v2")
def test_every_controller_is_enabled(path: str) -> None:
    """Also without limits: a container is measured by them, and gives them to cgroups of its own."""
    cgroup = Cgroup.create(f"{path}/a/b", "id", [])

    assert controllers() == (host(cgroup.path) / "cgroup.controllers").read_text().split()
    cgroup.destroy()


@pytest.mark.skipif(not controllers(), reason="no controller in cgroup v2")
def test_unavailable_controllers_are_skipped(path: str) -> None:
    """Below a cgroup with processes of its own there are only those that do not guard their domain: no limit asks for
    more.
    """
    host(path).mkdir()
    process = spawn(host(path))
    try:
        cgroup = Cgroup.create(f"{path}/leaf", "id", [])
        found = (host(cgroup.path) / "cgroup.controllers").read_text().split()
        cgroup.destroy()
    finally:
        end(process)
        host(path).rmdir()

    assert not {"memory", "hugetlb", "io"} & set(found)


@pytest.mark.may_skip("user-mode Linux has no hugetlb controller")
@pytest.mark.skipif("hugetlb" not in controllers(), reason="no hugetlb in cgroup v2")
def test_an_unknown_page_size_is_an_error(path: str) -> None:
    """CG-38: it has to name a file that is there."""
    limits = writes({"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]})
    cgroup = Cgroup.create(path, "id", limits)
    with pytest.raises(CgroupError) as caught:
        cgroup.apply(limits)
    cgroup.destroy()

    assert "/linux/resources/hugepageLimits/0" == caught.value.where
    assert f"cannot write `0` to hugetlb.3MB.max of cgroup {path}: no such file or directory" == caught.value.message


@pytest.mark.skipif(not {"hugetlb", "memory"} & set(controllers()), reason="no controller that guards its domain")
def test_an_ancestor_with_processes_is_named(path: str) -> None:
    """The rule of v2 that surprises most: EBUSY alone would explain nothing."""
    limits = writes(
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
        if "hugetlb" in controllers()
        else {"memory": {"limit": 1 << 30}}
    )
    name = limits[0].controller
    host(path).mkdir()
    process = spawn(host(path))
    try:
        error = refusal(path=f"{path}/leaf", writes=limits)
    finally:
        end(process)

    assert f"cannot enable controller {name} in cgroup {path}: device or resource busy" == error.message
    assert "a cgroup with processes of its own can't have limited children" in error.hint
    assert limits[0].where == error.where


def test_a_value_that_the_kernel_refuses_names_key_file_and_value(cgroup: Cgroup) -> None:
    """CG-42, for a file that needs no controller."""
    with pytest.raises(CgroupError) as caught:
        cgroup.apply(writes({"unified": {"cgroup.max.depth": "deep"}}))

    assert (
        "/linux/resources/unified/cgroup.max.depth: cannot write `deep` to cgroup.max.depth"
        f" of cgroup {cgroup.path}: invalid argument" == str(caught.value)
    )


def test_unified_is_written_as_it_is(cgroup: Cgroup) -> None:
    """Core files included."""
    cgroup.apply(writes({"unified": {"cgroup.max.depth": "7", "cgroup.max.descendants": "max"}}))

    assert "7\n" == (host(cgroup.path) / "cgroup.max.depth").read_text()


def test_limiting_a_cgroup_that_was_removed_says_so(path: str) -> None:
    """Removed under our feet: not the fault of the limit."""
    cgroup = Cgroup.create(path, "id", [])
    host(path).rmdir()
    with pytest.raises(CgroupError, match=f"cannot limit cgroup {path}: it was removed"):
        cgroup.apply(writes({"unified": {"cgroup.max.depth": "7"}}))
    cgroup.destroy()


# Processes


def test_pids_finds_processes_in_children_too(cgroup: Cgroup) -> None:
    """`ps` shows the whole subtree."""
    (host(cgroup.path) / "a/b").mkdir(parents=True)
    (host(cgroup.path) / "c").mkdir()
    inside = [spawn(host(cgroup.path) / place) for place in (".", "a/b", "c")]
    try:
        assert {process.pid for process in inside} == set(cgroup.pids())
        assert [inside[0].pid] == cgroup.pids(recursive=False)
    finally:
        end(*inside)


def test_freeze_stops_and_thaw_lets_go(cgroup: Cgroup) -> None:
    """Frozen when freeze returns, running when thaw does."""
    process = spawn(host(cgroup.path), "sh", "-c", "while :; do :; done")

    def used():  # user time, in hundredths of a second
        return int(pathlib.Path(f"/proc/{process.pid}/stat").read_text().split()[13])

    try:
        cgroup.freeze()
        assert cgroup.is_frozen()
        before = used()
        time.sleep(0.2)
        assert used() - before <= 1  # its last steps on the way to its rest, which the kernel may count later

        cgroup.thaw()
        assert not cgroup.is_frozen()
    finally:
        end(process)


def test_freezing_what_can_not_freeze_times_out_and_is_undone(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process stuck in the kernel delays it; no process may stay half frozen."""
    monkeypatch.setattr(freezer, "wait_for", lambda *_: False)
    with pytest.raises(CgroupError, match=r"cannot freeze cgroup .*: not done after 0.1 s"):
        cgroup.freeze(timeout=0.1)

    assert "0\n" == (host(cgroup.path) / "cgroup.freeze").read_text()


def test_thaw_under_a_frozen_parent_says_why(path: str) -> None:
    """It can't run before the parent is thawed."""
    cgroup = Cgroup.create(f"{path}/leaf", "id", [])
    process = spawn(host(cgroup.path))
    (host(path) / "cgroup.freeze").write_text("1")
    try:
        cgroup.freeze()
        with pytest.raises(CgroupError, match="check whether an ancestor is frozen"):
            cgroup.thaw(timeout=0.05)
    finally:
        (host(path) / "cgroup.freeze").write_text("0")
        end(process)
    cgroup.destroy()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kernel_kills", [True, False])
def test_kill_reaches_every_process_below(
    cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch, frozen: bool, kernel_kills: bool
) -> None:
    """Through cgroup.kill, or by freezing and signalling where Linux is older than 5.14."""
    if not kernel_kills:
        real = freezer.write_at

        def write(dirfd, name, value) -> None:
            real(dirfd, "no.such.file" if name == "cgroup.kill" else name, value)

        monkeypatch.setattr(freezer, "write_at", write)
    (host(cgroup.path) / "a").mkdir()
    inside = [spawn(host(cgroup.path) / place) for place in (".", ".", "a")]
    if frozen:
        cgroup.freeze()

    assert cgroup.kill()
    assert [-signal.SIGKILL] * 3 == [process.wait(PATIENCE) for process in inside]


def test_kill_sends_other_signals_to_all(cgroup: Cgroup) -> None:
    """`kill --all`; those who wait for it get it, no one else does."""
    inside = [spawn(host(cgroup.path)) for _ in range(2)]
    cgroup.kill(signal.SIGTERM)

    assert [-signal.SIGTERM] * 2 == [process.wait(PATIENCE) for process in inside]


def test_kill_spares_a_container_that_takes_the_cgroup_over_meanwhile(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill --all` of a stopped container may lose a race against the create of the cgroup's next container."""
    host(path).mkdir(parents=True)
    cgroup = Cgroup.create(path, "first", [])
    others: list[subprocess.Popen[bytes]] = []
    real = freezer.freeze

    def freeze(dirfd: int, path: str, timeout: float) -> None:
        Cgroup.create(path, "second", []).close()
        others.append(spawn(host(path)))
        real(dirfd, path, timeout)

    monkeypatch.setattr(freezer, "freeze", freeze)

    assert cgroup.kill(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        others[0].wait(timeout=0.2)
    cgroup.close()
    end(*others)


def test_a_signal_to_a_frozen_cgroup_waits_for_the_thaw(cgroup: Cgroup) -> None:
    """Who paused it decides when its handlers run."""
    program = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    process = spawn(host(cgroup.path), "sh", "-c", program, stdout=subprocess.PIPE)
    assert b"ready\n" == process.stdout.readline()
    cgroup.freeze()
    cgroup.kill(signal.SIGTERM)
    assert cgroup.is_frozen()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.1)

    cgroup.thaw()
    assert 7 == process.wait(PATIENCE)
    process.stdout.close()


def test_what_has_ended_need_not_be_thawed(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux may say for good that a cgroup is frozen whose processes were killed so, where there is another one
    below.
    """
    real = freezer.write_at

    def write(dirfd, name, value) -> None:
        if (name, value) != ("cgroup.freeze", b"0"):
            real(dirfd, name, value)

    monkeypatch.setattr(freezer, "write_at", write)
    process = spawn(host(cgroup.path))

    assert cgroup.kill(signal.SIGTERM)
    assert -signal.SIGTERM == process.wait(PATIENCE)


# The end


def test_destroy_waits_for_the_last_process(path: str) -> None:
    """It waits until the kernel reports that the cgroup is empty, and not longer."""
    cgroup = Cgroup.create(path, "id", [])
    process = spawn(host(path), "sleep", "0.2")
    start = time.monotonic()
    cgroup.destroy()

    assert time.monotonic() - start < 8  # less than its timeout for processes that stay
    assert not host(path).exists()
    process.wait()


def test_destroy_gives_up_and_names_who_stays(path: str) -> None:
    """It kills processes only with `force`."""
    cgroup = Cgroup.create(path, "id", [])
    process = spawn(host(path))
    try:
        with pytest.raises(CgroupError) as caught:
            cgroup.destroy(timeout=0.05)
        assert f"cannot remove cgroup {path}: it still has processes: {process.pid}" == caught.value.message
        assert process.poll() is None
    finally:
        end(process)
    cgroup.destroy()


def test_destroy_of_a_planned_cgroup_waits_for_its_processes(path: str) -> None:
    """A create that was killed as it had cloned the first process has recorded neither: that process is about
    to end.
    """
    planned = Cgroup.planned(path, "id", str(host("")))
    Cgroup.create(path, "id", []).close()
    process = spawn(host(path), "sleep", "0.2")
    planned.destroy()

    assert not host(path).exists()
    assert [] == planned.warnings
    assert 0 == process.wait()


def test_destroy_of_a_planned_cgroup_leaves_those_who_stay(path: str) -> None:
    """They may belong to another container: none is killed, and the rest of the container can be removed."""
    planned = Cgroup.planned(path, "id", str(host("")))
    cgroup = Cgroup.create(path, "id", [])
    process = spawn(host(path))
    try:
        planned.destroy(kill=True, timeout=0.05)
        assert [f"cgroup {path} stays: its processes may not be the container's"] == planned.warnings
        assert process.poll() is None
    finally:
        end(process)
    cgroup.destroy()


@pytest.mark.parametrize("frozen", [False, True])
def test_destroy_kills_when_asked_and_removes_all_below(path: str, frozen: bool) -> None:
    """Frozen or not, with cgroups that the container made."""
    cgroup = Cgroup.create(path, "id", [])
    for n in range(30):
        (host(path) / f"wide{n}/below").mkdir(parents=True)
    inside = [spawn(host(path)), spawn(host(path) / "wide3/below")]
    if frozen:
        cgroup.freeze()
    cgroup.destroy(kill=True)

    assert not host(path).exists()
    for process in inside:
        assert -signal.SIGKILL == process.wait(PATIENCE)


def test_destroy_copes_with_cgroups_nested_deeper_than_a_path_is_long(path: str) -> None:
    """A container that may write cgroupfs can nest very deeply: path length and recursion must not stop the removal."""
    cgroup = Cgroup.create(path, "id", [])
    fd = os.dup(cgroup.dirfd)
    for _ in range(300):
        os.mkdir("fourteen-bytes", dir_fd=fd)
        child = os.open("fourteen-bytes", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 50)
    try:
        assert [] == cgroup.pids()
        cgroup.destroy()
    finally:
        sys.setrecursionlimit(limit)
    assert not host(path).exists()


def test_destroy_of_a_mounted_over_cgroup_ends_in_an_error(path: str) -> None:
    """It can't be removed: said at once, not after turning round and round."""
    cgroup = Cgroup.create(path, "id", [])
    subprocess.run(["mount", "--bind", str(host(path)), str(host(path))], check=True)
    try:
        with pytest.raises(CgroupError, match=f"cannot remove cgroup {path}: device or resource busy"):
            cgroup.destroy()
    finally:
        subprocess.run(["umount", str(host(path))], check=True)
    cgroup.destroy()


def test_an_existing_cgroup_loses_its_processes_only_when_asked(path: str) -> None:
    """It stays, and what runs there without the container's doing goes on unless `kill`."""
    host(path).mkdir()
    cgroup = Cgroup.create(path, "id", [])
    process = spawn(host(path))
    record = cgroup.to_dict()
    cgroup.destroy()
    assert process.poll() is None

    cgroups.from_dict(record).destroy(kill=True)
    assert -signal.SIGKILL == process.wait(PATIENCE)
    assert host(path).exists()


# The mount


MOUNTINFO = """22 27 0:21 / /proc rw - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
38 31 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
"""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"),
        ("41 31 0:38 / /sys/fs/cgroup rw shared:4 master:1 - cgroup2 none rw\n", "/sys/fs/cgroup"),
        ("41 31 0:38 / /mnt/a\\040b\\134c\\011 rw - cgroup2 none rw\n", "/mnt/a b\\c\t"),
        (
            "41 31 0:38 / /a rw - cgroup2 none rw\n42 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n",
            "/sys/fs/cgroup/unified",
        ),
        (
            "41 31 0:38 /part /sys/fs/cgroup rw - cgroup2 none rw\n42 31 0:38 / /b rw - cgroup2 none rw\n",
            "/b",
        ),
        ("41 31 0:38 /part /sys/fs/cgroup rw - cgroup2 none rw\n", "/sys/fs/cgroup"),
        ("41 31 0:38 / /b rw - cgroup2 none rw\n42 31 0:38 / /a rw - cgroup2 none rw\n", "/b"),
    ],
)
def test_mount_is_found_in_every_layout(monkeypatch: pytest.MonkeyPatch, lines: str, expected: str) -> None:
    """Unified, hybrid, elsewhere, several, and with characters that mountinfo escapes."""
    monkeypatch.setattr(hierarchy, "shows_whole_hierarchy", lambda _: False)
    monkeypatch.setattr(hierarchy, "read_file", lambda _: MOUNTINFO + lines)
    monkeypatch.setattr(hierarchy, "is_mounted", lambda *_: True)

    assert expected == hierarchy.find_mount()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("mount -t cgroup2 none $USUAL", "/sys/fs/cgroup"),
        (
            "mount -t tmpfs none $USUAL; mkdir $USUAL/unified; mount -t cgroup2 none $USUAL/unified",
            "/sys/fs/cgroup/unified",
        ),
        ("mount -t cgroup2 none /mnt; mount --bind /mnt$PART $USUAL", "/mnt"),
        ("mount -t cgroup2 none $USUAL; mount -t tmpfs none $USUAL; mount -t cgroup2 none /mnt", "/mnt"),
    ],
    ids=["unified", "hybrid", "part", "covered"],
)
def test_usual_places_and_mountinfo_agree(script: str, expected: str) -> None:
    """A part of the hierarchy, or a mount that another one covers, does not stand for the whole."""
    program = """
        from pyoci.cgroups import hierarchy
        print(hierarchy.find_mount())
        hierarchy.shows_whole_hierarchy = lambda _: False
        print(hierarchy.find_mount())
    """
    inside = f'umount -lR $USUAL; {script}; exec "$@"'
    part = unique()
    host(part).mkdir()
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-ec", inside, "-", sys.executable, "-c", textwrap.dedent(program)],
            env={**os.environ, "USUAL": "/sys/fs/cgroup", "PART": part},
            capture_output=True,
            text=True,
        )
    finally:
        host(part).rmdir()

    assert ([expected] * 2, "") == (done.stdout.split(), done.stderr)


def test_mountinfo_is_not_read_where_the_usual_place_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size grows with the mounts of the host."""
    monkeypatch.setattr(hierarchy, "shows_whole_hierarchy", lambda path: path == "/sys/fs/cgroup/unified")
    monkeypatch.setattr(hierarchy, "read_file", lambda path: pytest.fail(f"read {path}"))

    assert "/sys/fs/cgroup/unified" == hierarchy.find_mount()


def test_no_mount_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pure v1 host."""
    monkeypatch.setattr(hierarchy, "shows_whole_hierarchy", lambda _: False)
    monkeypatch.setattr(hierarchy, "read_file", lambda _: MOUNTINFO)
    with pytest.raises(CgroupError, match="no cgroup2 file system is mounted"):
        hierarchy.find_mount()


def test_a_mount_that_is_covered_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else is mounted over it: what is seen there is no cgroup."""
    monkeypatch.setattr(hierarchy, "shows_whole_hierarchy", lambda _: False)
    monkeypatch.setattr(hierarchy, "read_file", lambda _: "41 31 0:38 / /tmp rw - cgroup2 none rw\n")
    with pytest.raises(CgroupError):
        hierarchy.find_mount()


# The disabled manager


def test_disabled_manager_does_nothing_and_says_what_is_lost() -> None:
    """Every limit and the device filter, but not what means nothing anyway."""
    resources = {"pids": {"limit": 5}, "cpu": {"shares": 1024, "quota": -1}, "memory": {"limit": 9}}
    cgroup = NoCgroup()
    cgroup.apply(writes(resources))
    cgroup.attach_device_filter(b"12345678")
    cgroup.attach_device_filter(b"")

    assert [
        "/linux/resources/memory/limit: ignored: cgroups are disabled",
        "/linux/resources/cpu/shares: ignored: cgroups are disabled",
        "/linux/resources/pids/limit: ignored: cgroups are disabled",
        "/linux/resources/devices: ignored: cgroups are disabled",
    ] == cgroup.warnings
    assert -1 == cgroup.dirfd
    assert [] == cgroup.pids()
    assert not cgroup.kill()
    assert isinstance(cgroups.from_dict(json.loads(json.dumps(cgroup.to_dict()))), NoCgroup)
    for verb, act in (("pause", cgroup.freeze), ("resume", cgroup.thaw)):
        message = f"^cannot {verb} container: it has no cgroup: its cgroup manager is disabled .hint: create it without --cgroup-manager disabled.$"
        with pytest.raises(CgroupError, match=message):
            act()
    with pytest.raises(
        CgroupError, match=r"^/linux/resources/memory/limit: cannot limit container: it has no cgroup: "
    ):
        cgroup.enable(writes(resources))
    cgroup.destroy(kill=True)


def test_bpf_refuses_more_than_its_buffer_holds() -> None:
    """The wrapper's attr has 256 bytes."""
    with pytest.raises(ValueError, match="256"):
        _native.bpf(16, bytearray(257))
    with pytest.raises(OSError, match="Invalid argument"):
        _native.bpf(12345, bytearray(256))
