"""Intel RDT: what is compared how, and what becomes of a resource group, on the model of resctrl without FUSE."""

import errno
import os
import posixpath
from collections.abc import Callable
from typing import Any

import pytest

from pyoci.compiler import intel_rdt, verbs
from pyoci.compiler.intel_rdt import differences, parse
from pyoci.errors import SetupError, StateError
from pyoci.host import resctrl
from pyoci.host.resctrl import Group
from tests.support.resctrl import Refused, Tree

# What a line says.


@pytest.mark.parametrize(
    ("text", "schemata"),
    [
        ("", {}),
        ("nothing", {}),
        ("L3:0=7ff;1=7FF", {"L3": {"0": "7ff", "1": "7ff"}}),
        ("    MB:0=  20;1= 100\n    L3:00=0x0f\n", {"MB": {"0": "20", "1": "100"}, "L3": {"0": "f"}}),
        ("L3CODE:0=0;\nL3CODE:1=f", {"L3CODE": {"0": "0", "1": "f"}}),
        ("L3:0=1;0=2", {"L3": {"0": "2"}}),
    ],
)
def test_parse(text: str, schemata: dict[str, dict[str, str]]) -> None:
    """Blanks, leading zeros and upper case mean nothing; the last assignment counts."""
    assert schemata == parse(text)


@pytest.mark.parametrize(
    ("wanted", "found", "different"),
    [
        ("L3:0=f", "L3:0=f;1=7ff", []),
        ("L3:1=f", "L3:0=f;1=7ff", ["L3:1=7ff"]),
        ("L3:2=f\nL2:0=1", "L3:0=f", ["L3:2=nothing", "L2:0=nothing"]),
        ("MB:0=35;1=36", "MB:0=40;1=35", ["MB:1=35"]),
        ("MB:0=30", "MB:0=40", ["MB:0=40"]),
        ("L3:0=5", "L3:0=a", ["L3:0=a"]),
    ],
)
def test_differences(wanted: str, found: str, different: list[str]) -> None:
    """Only the config's domains are compared, and bandwidth as the kernel rounds it."""
    assert different == differences(parse(wanted), parse(found), {"MB": 10})


# The plan.


@pytest.mark.parametrize(
    ("rdt", "how", "lines"),
    [
        ({}, ("box", "", intel_rdt.MAKE), []),
        ({"closID": "/"}, ("/", "", intel_rdt.FIND), []),
        ({"closID": "gold", "enableMonitoring": True}, ("gold", "box", intel_rdt.FIND), []),
        ({"closID": "gold", "schemata": ["a"]}, ("gold", "", intel_rdt.FIND_OR_MAKE), ["a"]),
        (
            {"schemata": ["c", "d"], "memBwSchema": "MB:b", "l3CacheSchema": "L3:a"},
            ("box", "", intel_rdt.MAKE),
            ["L3:a", "MB:b", "c", "d"],
        ),
        ({"schemata": [], "memBwSchema": "", "l3CacheSchema": ""}, ("box", "", intel_rdt.MAKE), []),
    ],
)
def test_plan(rdt: dict[str, Any], how: tuple[str, str, int], lines: list[str]) -> None:
    """The group first, then its lines in the specification's order (RDT-08), then the monitoring group."""
    (made, *rest), join_group = intel_rdt.compile_rdt(rdt, "box")

    assert how == (made.group, made.monitoring, made.required)
    assert lines == [op.line for op in rest if isinstance(op, verbs.WriteSchemata)]
    assert ["make_monitoring_group"] * bool(how[1]) == [op.verb for op in rest if op.verb != "write_schemata"]
    assert isinstance(join_group, verbs.JoinRdtGroup)


# The effects.

MOUNT = "/sys/fs/resctrl"


class Model:
    """The model in place of `files` and `posix`."""

    def __init__(self) -> None:
        self.tree = Tree()

    def _inside(self, path: str) -> str:
        assert path == MOUNT or path.startswith(f"{MOUNT}/")
        assert path == posixpath.normpath(path)
        return path.removeprefix(MOUNT)

    def _do(self, act: Callable[..., Any], path: str, *more: str) -> None:
        try:
            result = act(self._inside(path), *more)
        except Refused as refused:
            self.tree.status = refused.status
            raise OSError(refused.number, os.strerror(refused.number)) from None
        return result

    def _find(self, path: str) -> dict[str, bool] | tuple[Callable[..., Any], Callable[..., Any] | None]:
        what = self.tree.find(self._inside(path))
        if what is None:
            raise FileNotFoundError(errno.ENOENT, path)
        return what

    def stat(self, path: str) -> None:
        self._find(path)

    def mkdir(self, path: str) -> None:
        if self.tree.find(self._inside(path)) is not None:
            raise FileExistsError(errno.EEXIST, path)
        self._do(self.tree.mkdir, path)

    def rmdir(self, path: str) -> None:
        self._find(path)
        self._do(self.tree.rmdir, path)

    def read(self, path: str) -> bytes:
        return self._find(path)[0]().encode()

    def write(self, path: str, data: bytes) -> None:
        write = self._find(path)[1]
        self._do(lambda _, text: write(text), path, data.decode())


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(resctrl, "posix", made)
    monkeypatch.setattr(resctrl, "files", made)
    monkeypatch.setattr(resctrl, "find_mount", lambda: MOUNT)
    return made


def prepare(rdt: dict[str, Any], id: str = "box") -> Group:
    """A group whose operations before the clone are done."""
    ops, _ = intel_rdt.compile_rdt(rdt, id)
    group = resctrl.Group.planned(ops[0])
    for op in ops:
        group.run(op, -1)
    return group


def join(group: Group, pid: int) -> None:
    group.run(verbs.JoinRdtGroup(group=""), pid)


def test_own_group(model: Model) -> None:
    """Made, written, joined, monitored; removed, with its monitoring group, from what the state keeps."""
    before = model.tree.find("/")
    group = prepare({"l3CacheSchema": "L3:0=f\nMB:1=20", "memBwSchema": "MB:0=35", "enableMonitoring": True})
    join(group, os.getpid())
    made = model.tree.groups["box"]

    assert "    MB:0=  40;1=  20\n    L3:0=f;1=7ff\n" == made.read_schemata()
    assert [os.getpid()] == made.tasks == made.monitors["box"].tasks
    record = group.settled()
    assert {
        "mount": MOUNT,
        "made": ["box/mon_groups/box", "box"],
        "shared": "",
        "joined": ["box", "box/mon_groups/box"],
    } == record
    for _ in range(2):
        resctrl.remove(record)
        assert before == model.tree.find("/")


def test_shared_group(model: Model) -> None:
    """The first container makes it, the next compares; the container's end takes the monitoring groups alone."""
    rdt = {"closID": "gold", "memBwSchema": "MB:0=35", "enableMonitoring": True}
    first, second = prepare(rdt, "one"), prepare(rdt, "two")

    assert ["gold/mon_groups/one"] == first.settled()["made"]
    assert ["gold/mon_groups/two"] == second.settled()["made"]
    resctrl.remove(first.settled())
    resctrl.remove(second.settled())
    assert {} == model.tree.groups["gold"].monitors


def test_a_shared_group_is_undone_unless_it_is_used(model: Model) -> None:
    """A create that fails takes it back, unless another container has joined it meanwhile."""
    group = prepare({"closID": "gold", "memBwSchema": "MB:0=35"})
    assert [] == group.undo()
    assert "gold" not in model.tree.groups

    group = prepare({"closID": "gold", "memBwSchema": "MB:0=35"})
    join(group, os.getpid())
    assert [] == group.undo()
    assert "gold" in model.tree.groups


def test_default_group_with_a_schema(model: Model) -> None:
    """It exists: its schema is compared, never written."""
    prepare({"closID": "/", "l3CacheSchema": "L3:0=7ff"})
    with pytest.raises(SetupError, match="cannot use resource group /: it exists with another schema: L3:0=7ff"):
        prepare({"closID": "/", "l3CacheSchema": "L3:0=f"})

    assert 0x7FF == model.tree.default.schemata["L3"][0]


def test_group_that_another_process_made_first(model: Model) -> None:
    """A group that appears after the plan is not ours: compared if it may be another's, else an error, and it stays."""
    ops, _ = intel_rdt.compile_rdt({"closID": "gold", "memBwSchema": "MB:0=50"}, "box")
    group = resctrl.Group.planned(ops[0])
    model.tree.mkdir("/gold")
    group.make()
    with pytest.raises(SetupError, match="it exists with another schema: MB:0=100"):
        group.write("MB:0=50", "/x")
    assert ([], []) == (group.made, group.undo())

    ops, _ = intel_rdt.compile_rdt({}, "box")
    group = resctrl.Group.planned(ops[0])
    model.tree.mkdir("/box")
    with pytest.raises(SetupError, match=f"/linux/intelRdt: cannot make resource group {MOUNT}/box: it exists"):
        group.make()
    assert ([], []) == (group.made, group.undo())
    assert {"", "gold", "box"} == set(model.tree.groups)


@pytest.mark.parametrize("id", ["info", "mon_groups", "schemata", "tasks"])
def test_names_of_the_file_system(model: Model, id: str) -> None:
    """The existing directory is not a group of pyoci's."""
    with pytest.raises(SetupError, match="it exists"):
        prepare({}, id)


def test_monitoring_group_that_is_there(model: Model) -> None:
    """Another's; nothing is made and nothing removed."""
    model.tree.mkdir("/gold")
    model.tree.mkdir("/gold/mon_groups/box")
    with pytest.raises(
        SetupError, match=r"/linux/intelRdt/enableMonitoring: cannot make monitoring group .*: it exists"
    ):
        prepare({"closID": "gold", "enableMonitoring": True})

    assert ["box"] == list(model.tree.groups["gold"].monitors)


def test_no_monitor_is_left(model: Model) -> None:
    """The error says so, and what was made before is undone (RDT-12)."""
    model.tree.mkdir("/gold")
    for name in "abcd":
        model.tree.mkdir(f"/gold/mon_groups/{name}")
    ops, _ = intel_rdt.compile_rdt({"enableMonitoring": True}, "box")
    group = resctrl.Group.planned(ops[0])
    group.make()
    with pytest.raises(SetupError, match=r"no space left on device \(Out of RMIDs\) \(hint: every monitoring id"):
        group.monitor("/x")

    assert [] == group.undo()
    assert {"", "gold"} == set(model.tree.groups)


def test_group_that_cannot_be_removed_is_reported(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `undo` as text, by `remove` as an error."""
    group = prepare({})
    monkeypatch.setattr(
        model, "rmdir", lambda path: model._do(lambda _: (_ for _ in ()).throw(Refused(errno.EBUSY)), path)
    )

    assert [f"cannot remove {MOUNT}/box: device or resource busy"] == group.undo()
    with pytest.raises(SetupError, match="device or resource busy"):
        resctrl.remove(group.settled())


@pytest.mark.parametrize("record", [{"mount": "/x"}, {"mount": "/x", "made": 5, "shared": ""}])
def test_invalid_record_is_ignored(record: dict[str, Any]) -> None:
    """Of another version, or damaged."""
    with pytest.raises(StateError, match="not of this version"):
        resctrl.remove(record)
    with pytest.raises(StateError, match="not of this version"):
        resctrl.join(record, 1)
