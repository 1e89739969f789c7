"""linux.intelRdt: resource groups in the resctrl file system.

No test machine has the hardware. tests/support/resctrl.py does what the kernel would do, where FUSE can be used;
what needs no more than files that are there already, is tested on a tmpfs.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import resctrl as model
from tests.support.resctrl import Resctrl
from tests.support.runtime import Bundle, Runtime, wait_for

pytestmark = pytest.mark.root


def needs_fuse(test):
    """Mark a test that the model serves a file system for."""
    test = pytest.mark.may_skip("FUSE is not for every root; tests/vm runs these")(test)
    return pytest.mark.skipif(not model.is_possible(), reason="needs FUSE")(test)


def in_disguise(runtime: Runtime, mountpoint: Path) -> None:
    """From now on the runtime takes this mount for resctrl."""
    words = model.disguise(mountpoint, runtime.folder / "mountinfo")
    wrapper = runtime.folder / "pyoci"
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in [*map(str, words), runtime.executable])
    wrapper.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    wrapper.chmod(0o755)
    runtime.executable = str(wrapper)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resctrl]:
    """The model, mounted: once, and before a test lists processes and mounts."""
    made = model.Resctrl(tmp_path_factory.mktemp("rdt"))
    yield made
    made.close()


@pytest.fixture
def resctrl(served: Resctrl, runtime: Runtime, bundle: Bundle) -> Iterator[Resctrl]:
    """The model, with no group but the default one, and none left when the containers are gone."""
    assert {"", "info"} == {path.rpartition("/")[0].partition("/")[0] for path in served.tree()}
    executable = runtime.executable
    in_disguise(runtime, served.path)
    bundle.program("sleep", 100)
    yield served
    runtime.clean_up()
    runtime.executable = executable
    for group in served.path.iterdir():
        if group.is_dir() and group.name not in ("info", "mon_groups"):
            group.rmdir()


@pytest.fixture
def files(runtime: Runtime, bundle: Bundle) -> Iterator[Path]:
    """A tmpfs in place of resctrl, with a group `gold` in which nothing happens by itself."""
    folder = runtime.folder / "resctrl"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    for group in (folder, folder / "gold"):
        group.mkdir(exist_ok=True)
        (group / "tasks").touch()
        (group / "schemata").write_text("    MB:0=  20;1=  70\n    L3:0=07f;1=7ff\n")
    executable = runtime.executable
    in_disguise(runtime, folder)
    bundle.program("sleep", 100)
    yield folder
    runtime.clean_up()
    runtime.executable = executable
    subprocess.run(["umount", folder], check=True)


def other(runtime: Runtime, tmp_path: Path, rdt: dict[str, Any]) -> str:
    """A second container; its id."""
    first, runtime.bundle = runtime.bundle, Bundle(tmp_path / "other").program("sleep", 100)
    runtime.bundle.linux["intelRdt"] = rdt
    second = f"{runtime.host.token}-other"
    runtime.create(id=second)
    runtime.bundle = first
    return second


# --- with files that are there already


def test_no_resctrl(runtime: Runtime, bundle: Bundle) -> None:
    """An error that names the property (RDT-02)."""
    bundle.linux["intelRdt"] = {}
    message = runtime.create_fails()
    assert message.startswith("/linux/intelRdt: cannot use Intel RDT: no resctrl file system is mounted (hint: ")


@pytest.mark.parametrize(("class_id", "group"), [("gold", "gold/"), ("/", "")])
def test_a_group_that_is_there(runtime: Runtime, bundle: Bundle, files: Path, class_id: str, group: str) -> None:
    """The container's process is put into it; delete leaves it alone (RDT-02, RDT-03, RDT-10, RDT-11)."""
    bundle.linux["intelRdt"] = {"closID": class_id, "enableCMT": True, "enableMBM": True}
    before = (files / f"{group}schemata").read_text()
    runtime.create()
    assert f"{runtime.pid()}\n" == (files / f"{group}tasks").read_text()
    runtime.delete()
    assert ["gold", "schemata", "tasks"] == sorted(path.name for path in files.iterdir())
    assert before == (files / f"{group}schemata").read_text()


def test_exec_joins_the_group(runtime: Runtime, bundle: Bundle, files: Path) -> None:
    """One more process of the container is where its first one is."""
    bundle.linux["intelRdt"] = {"closID": "gold"}
    runtime.create()
    runtime.start()
    tasks = files / "gold/tasks"
    tasks.write_text("")
    pid_file = runtime.folder / "exec-pid"
    assert 0 == runtime("exec", "--pid-file", pid_file, runtime.id, "true").status
    assert pid_file.read_text() + "\n" == tasks.read_text()
    tasks.unlink()
    message = runtime.fails("exec", runtime.id, "true")
    assert "/gold/tasks: no such file or directory" in message


def test_without_the_property_nothing_is_touched(runtime: Runtime, bundle: Bundle, files: Path) -> None:
    """RDT-01."""
    runtime.create()
    assert "" == (files / "tasks").read_text()
    assert ["gold", "schemata", "tasks"] == sorted(path.name for path in files.iterdir())
    assert {} == runtime.record()["rdt"]


@pytest.mark.parametrize(
    "rdt",
    [
        {"l3CacheSchema": "L3:0=7F;1=7ff"},
        {"memBwSchema": "MB:0=20;1=070"},
        {"memBwSchema": "MB:1=70", "schemata": [" L3 : 0 = 07f "]},
    ],
)
def test_a_schema_that_the_group_has(runtime: Runtime, bundle: Bundle, files: Path, rdt: dict[str, Any]) -> None:
    """Written otherwise, or of one domain only, it is the same (RDT-09)."""
    bundle.linux["intelRdt"] = {"closID": "gold", **rdt}
    runtime.create()
    assert f"{runtime.pid()}\n" == (files / "gold/tasks").read_text()


@pytest.mark.parametrize(
    ("rdt", "message"),
    [
        ({"l3CacheSchema": "L3:0=ff"}, "l3CacheSchema: cannot use resource group gold: it exists with another schema: L3:0=7f"),
        ({"l3CacheSchema": "L3:2=7f"}, "l3CacheSchema: cannot use resource group gold: it exists with another schema: L3:2=nothing"),
        ({"memBwSchema": "MB:0=20;1=60"}, "memBwSchema: cannot use resource group gold: it exists with another schema: MB:1=70"),
        ({"schemata": ["L3:0=7f", "L2:0=f"]}, "schemata/1: cannot use resource group gold: it exists with another schema: L2:0="),
        ({"schemata": ["nonsense"]}, "schemata/0: cannot compare 'nonsense' with "),
    ],
)  # fmt: skip
def test_a_schema_that_the_group_has_not(
    runtime: Runtime, bundle: Bundle, files: Path, rdt: dict[str, Any], message: str
) -> None:
    """An error, and the group is unchanged (RDT-09)."""
    before = (files / "gold/schemata").read_text()
    bundle.linux["intelRdt"] = {"closID": "gold", **rdt}
    assert f"/linux/intelRdt/{message}" in runtime.create_fails()
    assert (before, "") == ((files / "gold/schemata").read_text(), (files / "gold/tasks").read_text())


def test_a_group_that_is_missing(runtime: Runtime, bundle: Bundle, files: Path) -> None:
    """Without a schema it can't be made (RDT-10)."""
    bundle.linux["intelRdt"] = {"closID": "silver"}
    message = runtime.create_fails()
    assert f"/linux/intelRdt/closID: cannot use resource group silver: there is no {files}/silver" in message
    assert not (files / "silver").exists()


def test_the_containers_id_is_taken(runtime: Runtime, bundle: Bundle, files: Path) -> None:
    """Another's group, which stays (RDT-04, RDT-11)."""
    (files / runtime.id).mkdir()
    bundle.linux["intelRdt"] = {}
    assert (
        f"/linux/intelRdt: cannot make resource group {files}/{runtime.id}: it exists (hint: " in runtime.create_fails()
    )
    assert (files / runtime.id).exists()


@pytest.mark.parametrize(
    "rdt",
    [{}, {"closID": "silver", "memBwSchema": "MB:0=20"}, {"closID": "gold", "enableMonitoring": True}],
)
def test_what_create_has_made_goes_when_it_fails(
    runtime: Runtime, bundle: Bundle, files: Path, rdt: dict[str, Any]
) -> None:
    """No file of a group appears here, so that something fails after each directory."""
    bundle.linux["intelRdt"] = rdt
    assert "no such file or directory" in runtime.create_fails()
    assert ["gold", "schemata", "tasks"] == sorted(path.name for path in files.iterdir())


# --- as the kernel does it


@needs_fuse
def test_a_group_of_its_own(runtime: Runtime, bundle: Bundle, resctrl: Resctrl) -> None:
    """Named as the container, with what the config says, in its order; gone with it (RDT-04, -08, -11, -12)."""
    (resctrl.path / "foreign").mkdir()
    before = resctrl.tree()
    bundle.linux["intelRdt"] = {
        "l3CacheSchema": "L3:0=f0;1=f0", "memBwSchema": "MB:0=20;1=35", "schemata": ["L3:1=7", "MB:0=50"],
        "enableMonitoring": True,
    }  # fmt: skip
    runtime.create()
    runtime.start()
    schemata = resctrl.read(f"{runtime.id}/schemata")
    assert "MB:0=  50;1=  40 L3:0=f0;1=7" == " ".join(line.strip() for line in schemata.splitlines())
    pid = f"{runtime.pid()}\n"
    assert pid == resctrl.read(f"{runtime.id}/tasks")
    assert pid == resctrl.read(f"{runtime.id}/mon_groups/{runtime.id}/tasks")
    runtime.delete("--force")
    assert before == resctrl.tree()


@needs_fuse
def test_a_group_for_many(runtime: Runtime, bundle: Bundle, resctrl: Resctrl, tmp_path: Path) -> None:
    """The first one makes it, the next one finds it as it is, also where the kernel has rounded; it outlives both."""
    bundle.linux["intelRdt"] = {"closID": "shared", "memBwSchema": "MB:0=35", "enableMonitoring": True}
    second = other(runtime, tmp_path, bundle.linux["intelRdt"])
    runtime.create()
    assert [runtime.pid(second), runtime.pid()] == [int(pid) for pid in resctrl.read("shared/tasks").split()]
    runtime.delete()
    runtime.delete(id=second)
    assert "shared/schemata" in resctrl.tree()
    assert [] == list((resctrl.path / "shared/mon_groups").iterdir())


@needs_fuse
def test_a_line_that_the_kernel_refuses(runtime: Runtime, bundle: Bundle, resctrl: Resctrl) -> None:
    """The error has its reason, and the group is gone."""
    before = resctrl.tree()
    for class_id in ({}, {"closID": "new"}):
        bundle.linux["intelRdt"] = {**class_id, "schemata": ["MB:0=20", "L3:0=505"]}
        message = runtime.create_fails()
        assert "/linux/intelRdt/schemata/1: cannot write 'L3:0=505' to " in message
        assert message.endswith("/schemata: invalid argument (The mask 505 has non-consecutive 1-bits)")
        assert before == resctrl.tree()


@needs_fuse
def test_no_class_is_left(runtime: Runtime, bundle: Bundle, resctrl: Resctrl) -> None:
    """The processor has only so many."""
    for name in "abc":
        (resctrl.path / name).mkdir()
    bundle.linux["intelRdt"] = {}
    message = runtime.create_fails()
    assert "no space left on device (Out of CLOSIDs) (hint: every class of service" in message


@needs_fuse
@pytest.mark.parametrize("class_id", [{}, {"closID": "new", "memBwSchema": "MB:0=20"}], ids=["own", "shared"])
def test_a_create_that_fails_or_is_killed(
    runtime: Runtime, bundle: Bundle, resctrl: Resctrl, class_id: dict[str, str]
) -> None:
    """Nothing is left; if it was killed, by `delete --force`."""
    before = resctrl.tree()
    bundle.linux["intelRdt"] = {**class_id, "enableMonitoring": True}
    bundle.hook(
        "createRuntime", f"echo >{runtime.folder}/here; test -e {runtime.folder}/stay || exit 3; exec sleep 100"
    )
    assert "exited with status 3" in runtime.create_fails()
    assert before == resctrl.tree()

    (runtime.folder / "here").unlink()
    (runtime.folder / "stay").touch()
    process = subprocess.Popen(
        runtime.command("create", "--bundle", bundle.folder, runtime.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for((runtime.folder / "here").exists)
    assert before != resctrl.tree()
    process.kill()
    process.wait()
    runtime.delete("--force")
    assert before == resctrl.tree()


@needs_fuse
def test_behind_a_process_in_between(runtime: Runtime, bundle: Bundle, resctrl: Resctrl, tmp_path: Path) -> None:
    """With a pid namespace that is joined, the group gets init, not the process that the runtime cloned."""
    second = other(runtime, tmp_path, {"closID": "/"})
    assert f"{runtime.pid(second)}\n" == resctrl.read("tasks")
    bundle.namespace("pid", f"/proc/{runtime.pid(second)}/ns/pid")
    bundle.linux["intelRdt"] = {}
    seen = runtime.folder / "seen"
    bundle.hook("createRuntime", f"cat >{seen}; echo >>{seen}; cat {resctrl.path}/{runtime.id}/tasks >>{seen}")
    assert "7\n" == runtime.shell("echo 7")
    state, pid = seen.read_text().splitlines()
    assert json.loads(state)["pid"] == int(pid)


@needs_fuse
def test_update(runtime: Runtime, bundle: Bundle, resctrl: Resctrl) -> None:
    """The lines are written to the container's group: all of them and the limits, or nothing."""
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=7f", "memBwSchema": "MB:0=20"}
    runtime.create()
    schemata = f"{runtime.id}/schemata"

    assert (0, "", "") == tuple(
        runtime("update", "--l3-cache-schema", "L3:1=3f", "--mem-bw-schema=MB:0=70", runtime.id)
    )
    changed = resctrl.read(schemata)
    assert ["L3:0=7f;1=3f", "MB:0=70;1=100"] == sorted(changed.replace(" ", "").split())
    message = runtime.fails("update", "--l3-cache-schema", "L3:0=1", "--mem-bw-schema", "MB:0=900", runtime.id)
    assert message.startswith("/linux/intelRdt/memBwSchema: cannot change ")
    assert changed == resctrl.read(schemata)
    message = runtime.fails("update", "--l3-cache-schema", "L3:0=1", "--cpu-rt-period", "1", runtime.id)
    assert message.startswith("--cpu-rt-period: ")
    assert changed == resctrl.read(schemata)


def test_update_without_a_group(runtime: Runtime, bundle: Bundle) -> None:
    """There is nothing to change."""
    bundle.program("sleep", 100)
    runtime.create()
    message = runtime.fails("update", "--l3-cache-schema", "L3:0=1", runtime.id)
    assert "/linux/intelRdt: cannot change a resource group: the container has none" == message
