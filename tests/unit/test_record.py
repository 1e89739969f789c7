"""record.json and exec.json, which other versions of pyoci read and write."""

from pathlib import Path
from typing import Any

import pytest

from pyoci.config.jsonio import dumps, loads
from pyoci.host.state_directory import StateDirectory
from pyoci.record import ExecSettings, Listener, Record, now

# A record as version 0.1.0 writes it, without the two keys of the state directory.
WRITTEN: dict[str, Any] = {
    "id": "x", "ociVersion": "1.3.0", "status": "created", "pid": 42, "startTime": 7, "bootId": "boot",
    "bundle": "/b", "rootfs": "/b/rootfs", "created": "2026-01-01T00:00:00.000000000Z", "owner": "",
    "annotations": {"a": "b"}, "hooks": {"poststop": [{"path": "/h", "args": ["h"], "timeout": 3}]},
    "process": ["sh"], "notify": True, "sharesPids": False, "cgroup": {"driver": "disabled"}, "rdt": {},
    "listener": {"path": "/agent", "metadata": "m", "filters": 1},
    "startOps": {"63": {"verb": "wait_start", "where": "", "s1": "", "timeout": 0}},
    "namespaces": {"network": "/run/netns/a"}, "descriptors": ["/dev/null", "pipe:[7]"],
}  # fmt: skip


def test_record_keeps_its_json() -> None:
    """Keys, their order and their values stay the same when a record is read and written."""
    assert dumps(WRITTEN) == dumps(Record.from_dict(WRITTEN).to_dict())


def test_record_keeps_unknown_keys() -> None:
    """A newer version's key survives an older version's `update`."""
    assert {"new": [1]} == Record.from_dict(WRITTEN | {"new": [1], "pyoci": 1, "fifos": []}).other
    assert [1] == Record.from_dict(WRITTEN | {"new": [1]}).to_dict()["new"]


@pytest.mark.parametrize("key", ["ociVersion", "notify", "namespaces", "descriptors"])
def test_record_of_an_earlier_version_lacks_keys(key: str) -> None:
    """Versions before these keys wrote records that are still valid."""
    older = {name: value for name, value in WRITTEN.items() if name != key}

    assert not getattr(Record.from_dict(older), {"ociVersion": "oci_version"}.get(key, key))


def test_listener_of_an_earlier_version_lacks_the_number_of_filters() -> None:
    """`start` counts its own filters then."""
    listener = Record.from_dict(WRITTEN | {"listener": {"path": "/agent", "metadata": ""}}).listener

    assert listener is not None
    assert listener.filters is None
    assert {"path": "/agent", "metadata": ""} == listener.to_dict()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, None) for key in WRITTEN if key not in ("ociVersion", "notify")),
        ("pid", True),
        ("pid", 0),
        ("pid", -2),
        ("pid", 1 << 31),
        ("sharesPids", 1),
        ("hooks", {"poststop": {}}),
        ("hooks", {"poststop": [{"path": 1}]}),
        ("hooks", {"poststop": [{"path": "/h", "env": [1]}]}),
        ("listener", {"path": "/agent"}),
        ("listener", {"path": "/agent", "metadata": "", "filters": "1"}),
        ("startOps", {"x": {"verb": "exec", "where": "", "s1": "", "timeout": 0}}),
        ("startOps", {"1": {"verb": "exec"}}),
        ("startOps", {"1": []}),
        ("namespaces", []),
        ("namespaces", {"pid": 1}),
        ("descriptors", "pipe:[7]"),
        ("descriptors", [None]),
    ],
)
def test_record_with_a_wrong_type_is_rejected(key: str, value: object) -> None:
    """The types are checked when the record is read, so no command meets a wrong one later."""
    with pytest.raises(ValueError, match=r"."):
        Record.from_dict(WRITTEN | {key: value})


def test_record_without_a_key_is_rejected() -> None:
    """Every key that all versions write is required."""
    for key in WRITTEN.keys() - {"ociVersion", "notify", "namespaces", "descriptors"}:
        with pytest.raises(ValueError, match=key):
            Record.from_dict({name: value for name, value in WRITTEN.items() if name != key})


@pytest.mark.parametrize(("status", "pid"), [("running", 42), ("stopped", 0)])
def test_state_document(status: str, pid: int) -> None:
    """A stopped container has no pid, and hooks in the container get the pid that they see."""
    record = Record.from_dict(WRITTEN)

    assert pid == record.state(status)["pid"]
    assert {"ociVersion": "1.3.0", "id": "x", "pid": 5, "status": "created", "bundle": "/b", "annotations": {"a": "b"}} == (
        loads(record.state_json("created", pid=5))
    )  # fmt: skip


def test_state_document_before_the_process_exists() -> None:
    """The pid of the record is -1 then."""
    assert 0 == Record.from_dict(WRITTEN | {"pid": -1}).state("creating")["pid"]


@pytest.mark.parametrize("seccomp", [{}, {"seccomp": {"flags": 2}}])
def test_exec_settings_keep_their_json(seccomp: dict[str, Any]) -> None:
    """exec.json stays the same when it is read and written."""
    written = {"process": {"cwd": "/"}, "linux": {}, "keyring": True, **seccomp}

    assert dumps(written) == dumps(ExecSettings.from_dict(written).to_dict())


@pytest.mark.parametrize("change", [{"process": []}, {"linux": None}, {"keyring": 1}, {"seccomp": {}}, {"seccomp": 1}])
def test_exec_settings_with_a_wrong_type_are_rejected(change: dict[str, Any]) -> None:
    """The types are checked when exec.json is read."""
    with pytest.raises(ValueError, match=r"."):
        ExecSettings.from_dict({"process": {}, "linux": {}, "keyring": True, **change})


def test_new_record_has_defaults() -> None:
    """A container that is being created has no process yet."""
    record = Record("x", "/b", rootfs="/r", created=now(), cgroup={})
    record.listener = Listener("/agent", "")
    record.start_operations = {3: {"verb": "exec", "where": "/process/args", "s1": "", "timeout": 0}}
    document = loads(dumps(record.to_dict()).encode())

    assert ("creating", -1) == (document["status"], document["pid"])
    assert document == Record.from_dict(document).to_dict()


@pytest.mark.parametrize("changed", [False, True], ids=["same", "changed"])
def test_save_commits_a_prepared_record(tmp_path: Path, changed: bool) -> None:
    """save renames what prepare wrote, or writes anew if the record has changed since; no other file stays."""
    directory = StateDirectory.claim(str(tmp_path), "c")
    record = Record("c", "/b", rootfs="/b/r", created="", cgroup={})
    directory.save(record)
    record.status = "created"
    directory.prepare(record)
    assert "creating" == directory.load().status
    record.pid = 7 if changed else -1

    directory.save(record)

    assert ("created", record.pid) == (directory.load().status, directory.load().pid)
    assert ["record.json"] == [path.name for path in (tmp_path / "c").iterdir()]
    directory.close()


def test_lock_at_once_yields_to_another_process(tmp_path: Path) -> None:
    """The open directory is locked only if the lock is free and the id still names it."""
    StateDirectory.claim(str(tmp_path), "c").close()
    first, second = (StateDirectory.open(str(tmp_path), "c") for _ in range(2))
    assert (True, False) == (first.lock_at_once(), second.lock_at_once())
    assert (True, False) == (first.has_lock, second.has_lock)

    first.release()
    first.close()
    (tmp_path / "c").rename(tmp_path / "old")
    (tmp_path / "c").mkdir(mode=0o700)
    assert not second.lock_at_once()
    second.close()
