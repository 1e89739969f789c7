"""`list` describes ordinary containers by a short way of its own: it must say what `Container` says about each."""

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci.container import Container
from pyoci.errors import ContainerNotFound, PyociError
from pyoci.host import processes
from pyoci.host.state_directory import is_transient
from pyoci.listing import list_all

OPERATIONS = {
    "70": {"verb": "wait_start", "where": "", "s1": "", "timeout": 0},
    "71": {"verb": "exec", "where": "/process/args", "s1": "", "timeout": 0},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root."""
    folder = tmp_path / "root"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def cgroup(tmp_path: Path) -> dict[str, Any]:
    """The record of a cgroup /a/b, in a tree with the files that the freezer has."""
    mount = tmp_path / "cgroup"
    for folder in (mount, mount / "a", mount / "a/b"):
        folder.mkdir()
        (folder / "cgroup.events").write_text("populated 1\nfrozen 0\n")
        if folder != mount:
            (folder / "cgroup.freeze").write_text("0\n")
    inode = (mount / "a/b").stat().st_ino
    rest: dict[str, Any] = {"created": ["/a/b"], "filter_id": 0, "before": {}, "owners": {}, "mark": ""}
    return {"driver": "cgroupfs", "mount": str(mount), "path": "/a/b", "inode": inode, **rest}


def document(id: str, cgroup: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A record whose process is this one."""
    pid = os.getpid()
    found = {
        "pyoci": 1, "fifos": [1, 2], "id": id, "ociVersion": "1.2.1", "status": "created", "pid": pid,
        "startTime": processes.start_time(pid), "bootId": processes.boot_id(), "bundle": "/b", "rootfs": "/b/r",
        "created": "2026-01-01T00:00:00.000000000Z", "owner": "", "annotations": {"a": "b"}, "hooks": {},
        "process": ["sh"], "notify": False, "sharesPids": False, "cgroup": cgroup, "rdt": {}, "listener": {},
        "startOps": OPERATIONS,
    }  # fmt: skip
    return {**found, **changes}


def put(root: Path, name: str, record: Any) -> Path:
    """A state directory."""
    folder = root / name
    folder.mkdir(mode=0o700)
    text = record if isinstance(record, str) else json.dumps(record, separators=(",", ":"))
    (folder / "record.json").write_text(text)
    return folder


def one_by_one(root: Path) -> tuple[list[Any], list[str]]:
    """What `Container` says about each."""
    states: list[Any] = []
    failures = []
    for name in sorted(path.name for path in root.iterdir() if not path.name.startswith(".")):
        try:
            container = Container.load(name, root=str(root))
            try:
                state: Any = container.state()
                uid = container.directory.owner()
                state["owner"] = "root" if uid == 0 else f"#{uid}"
                states.append(state)
            finally:
                container.close()
        except ContainerNotFound:
            pass
        except PyociError as error:
            if is_transient(error):
                failures.append(f"{name}: {error}")
    return states, failures


def listed(root: Path) -> tuple[list[Any], list[str]]:
    """What `list` says."""
    states, failures = list_all(str(root))
    return list(states), failures


def test_running_and_stopped_containers(root: Path, cgroup: dict[str, Any]) -> None:
    """The process decides: its pid, its start time, the boot."""
    own = document("own", cgroup)
    put(root, "own", own)
    put(root, "no-cgroup", {**own, "id": "no-cgroup", "cgroup": {"driver": "disabled", "refusal": ""}})
    put(root, "none", {**own, "id": "none", "pid": -1})
    put(root, "later", {**own, "id": "later", "startTime": own["startTime"] + 1})
    put(root, "boot", {**own, "id": "boot", "bootId": "00000000-0000-0000-0000-000000000000"})
    put(root, "gone", {**own, "id": "gone", "pid": 2**22 + 1})

    states, failures = listed(root)

    assert (states, failures) == one_by_one(root)
    statuses = {state["id"]: state["status"] for state in states}
    assert {"own": "running", "no-cgroup": "running"} == {
        name: status for name, status in statuses.items() if status != "stopped"
    }
    assert 6 == len(statuses)


@pytest.mark.parametrize("place", ["own", "above", "gone", "other inode"])
def test_paused_containers(root: Path, cgroup: dict[str, Any], place: str) -> None:
    """The cgroup, or one above it, is frozen, and it is still the container's."""
    put(root, "one", document("one", cgroup))
    put(root, "two", document("two", cgroup))
    top = Path(cgroup["mount"], "a")
    frozen = top if place == "above" else top / "b"
    (frozen / "cgroup.freeze").write_text("1\n")
    (top / "b/cgroup.events").write_text("populated 1\nfrozen 1\n")
    if place == "gone":
        (top / "b").rename(top / "c")
    elif place == "other inode":
        (top / "b").rename(top / "c")
        (top / "b").mkdir()
        (top / "b/cgroup.freeze").write_text("1\n")

    states, failures = listed(root)

    assert (states, failures) == one_by_one(root)
    assert ["paused" if place in ("own", "above") else "running"] * 2 == [state["status"] for state in states]


def test_unusual_directories(root: Path, cgroup: dict[str, Any]) -> None:
    """Foreign, empty, open to others, of another id, a link, a file, a container that is being created."""
    own = document("a", cgroup)
    put(root, "a", own)
    put(root, "other-id", own)
    put(root, "b.", document("b.", cgroup))
    put(root, "sp ace", document("sp ace", cgroup))
    put(root, "open", document("open", cgroup)).chmod(0o777)
    put(root, "creating", document("creating", cgroup, status="creating"))
    (root / "empty").mkdir(mode=0o700)
    (root / "link").symlink_to("a")
    (root / "file").write_text("")
    (root / ".hidden").mkdir()
    (put(root, "runc", "") / "record.json").rename(root / "runc/state.json")
    (put(root, "old", document("old", cgroup)) / "record.json").rename(root / "old/state.json")
    (root / "dangling").mkdir(mode=0o700)
    (root / "dangling/record.json").symlink_to("/nowhere")
    (root / "fifo").mkdir(mode=0o700)
    os.mkfifo(root / "fifo/record.json")
    put(root, "large", document("large", cgroup, annotations={"a": "x" * 20000}))
    waiting = put(root, "waiting", document("waiting", cgroup))
    os.mkfifo(waiting / "exec.fifo")

    states, failures = listed(root)

    assert (states, failures) == one_by_one(root)
    assert {"a", "b.", "large", "old"} <= {state["id"] for state in states}


def test_missing_root(tmp_path: Path) -> None:
    """A root that does not exist has no containers, unless the caller named it."""
    assert ([], []) == listed(tmp_path / "none")
    with pytest.raises(PyociError, match="cannot use state directory"):
        list_all(str(tmp_path / "none"), must_exist=True)


WRONG: tuple[Any, ...] = (None, 0, -5, 1.5, True, "", "x", [], ["x"], [1], {}, {"x": 1}, {"0": {}})


def changes(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield records with one member missing, or with another value, also one level and two levels further down."""
    for key, member in record.items():
        yield {name: value for name, value in record.items() if name != key}
        yield from ({**record, key: value} for value in WRONG)
        if isinstance(member, dict):
            for inner in member:
                yield {**record, key: {name: value for name, value in member.items() if name != inner}}
                yield from ({**record, key: {**member, inner: value}} for value in WRONG)
    for value in WRONG:
        operations = copy.deepcopy(OPERATIONS)
        operations["71"]["where"] = value
        yield {**record, "startOps": operations}
    yield {**record, "other": 1}
    yield {"startOps": OPERATIONS, **{key: value for key, value in record.items() if key != "startOps"}}


def test_damaged_records(root: Path, cgroup: dict[str, Any]) -> None:
    """Whatever is wrong with a record, and whichever records precede it, the answer is that of `Container`."""
    put(root, "c0000", document("c0000", cgroup))
    for number, record in enumerate(changes(document("x", cgroup)), 1):
        name = f"c{number:04}"
        put(root, name, {**record, "id": name} if record.get("id") == "x" else record)

    states, failures = listed(root)

    assert (states, failures) == one_by_one(root)
    assert 80 < len(states) < number


ENDS = (
    '{0},"startOps":{1}}}',
    '{0},"startOps":{1}}} ',
    '{0},"startOps":{1}',
    '{0},"startOps":{1}}}x',
    '{0},"startOps":{{}}}}',
    '{0},"startOps":{1},"startOps":{1}}}',
    '{0},"other":{{"startOps":{1}}}}}',
    '{0},"other":{{"x":1,"startOps":{1}}}}}',
    '{0},"other":{{"x":1,"startOps":{1}}}',
    '{0},"startOps":{1},"other":{{"x":1,"startOps":{1}}}}}',
    '{0},"startOps":{1},"other":1}}',
    '{0}"startOps":{1}}}',
    '{0} ,"startOps":{1}}}',
    '{0},"startOps" :{1}}}',
    '{0},"annotations":{{}},"startOps":{1}}}',
)


@pytest.mark.parametrize("first", range(len(ENDS)))
def test_operations_compared_as_text_are_checked(root: Path, cgroup: dict[str, Any], first: int) -> None:
    """Operations are compared as text: whatever record came first, no invalid one passes and no valid one fails."""
    operations = json.dumps(OPERATIONS, separators=(",", ":"))
    for number, end in enumerate([ENDS[first], *ENDS, *ENDS]):
        name = f"c{number:02}"
        record = document(name, cgroup)
        del record["startOps"]
        begin = json.dumps(record, separators=(",", ":")).removesuffix("}")
        put(root, name, end.format(begin, operations))

    assert listed(root) == one_by_one(root)
