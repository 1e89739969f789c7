"""What restore's plan says is what happens: the system calls of the process that becomes CRIU, and of the runtime."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.root.test_traced import guarded, is_spawned, of_child, of_runtime, step
from tests.support.contracts import Step, difference
from tests.support.restoring import FILE_COUNTER
from tests.support.runtime import Bundle, Runtime, wait_for
from tests.support.tracing import Trace, trace

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).resolve().parents[2]
# The runtime executes `criu --version`, and tar for each tmpfs of the images, before it does anything else.
PROGRAMS = Step("the programs that examine CRIU and the images", "(vfork | clone | clone3)+")
# The runtime freezes the processes until it has checked them.
FREEZE, THAW = Step("the freeze before the check", "write"), Step("the thaw after it", "write")
NOTIFICATIONS = ("init", "net-devices", "hooks", "console", "ready")


class Restored:
    """A container that was restored: the plan that restore printed, and the trace of restore."""

    def __init__(self, plan: dict[str, Any], made: Trace, *, has_user_namespace: bool) -> None:
        self.has_user_namespace = has_user_namespace
        self.plan = plan
        self.trace = made


def fill(bundle: Bundle, data: Path) -> None:
    """Give the container all kinds of mounts for which CRIU needs a source, and a network of its own."""
    (bundle.rootfs / "secret").touch()
    (data / "file").touch()
    for destination, source, option in (("/data", data, "rbind"), ("/etc/file", data / "file", "bind")):
        bundle.config["mounts"].append({"destination": destination, "source": str(source), "options": [option, "ro"]})
    bundle.linux.setdefault("maskedPaths", []).append("/secret")
    kinds = [entry["type"] for entry in bundle.linux["namespaces"]]
    bundle.linux["namespaces"] += [{"type": kind} for kind in ("network", "cgroup") if kind not in kinds]
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    bundle.shell(FILE_COUNTER)


@pytest.fixture(params=["root", "user namespace"])
def restored(request: pytest.FixtureRequest, runtime: Runtime, criu: Path, tmp_path: Path) -> Iterator[Restored]:
    """A container with a filesystem below its volume, dumped and restored without some of its mount points."""
    data = tmp_path / "data"
    (data / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", data / "below"], check=True)
    try:
        fill(runtime.bundle, data)
        if request.param == "user namespace":
            runtime.bundle.in_user_namespace()
        runtime.create(stdout=-3, stderr=-3)
        runtime.start()
        wait_for((runtime.bundle.rootfs / "count").exists)
        images = tmp_path / "images"
        assert (0, "", "") == tuple(
            runtime("--criu", criu, "checkpoint", "--image-path", images, "--work-path", tmp_path / "work", runtime.id)
        )
        shutil.rmtree(runtime.bundle.rootfs / "data")
        (runtime.bundle.rootfs / "etc/file").unlink()
        words = ["--criu", criu, "restore", "--detach", "--bundle", runtime.bundle.folder, "--image-path", images]
        words += ["--work-path", tmp_path / "work"]
        printed = runtime(*words, "--plan", "--json", runtime.id)
        assert (0, "") == (printed.status, printed.err)
        made = trace(runtime.command(*words, runtime.id), folder=tmp_path)
        assert [0] == made.statuses, (tmp_path / "err0").read_text() + (tmp_path / "work/restore.log").read_text()
        own = request.param == "user namespace"
        yield Restored(json.loads(printed.out)["plan"], made, has_user_namespace=own)
    finally:
        runtime.clean_up()
        subprocess.run(["umount", data / "below"], check=True)


def test_calls_are_those_of_the_plan(restored: Restored) -> None:
    """The child makes the calls that its operations promise, and becomes CRIU. The runtime makes no other changes."""
    main = restored.trace.main(0)
    children = [child for child in restored.trace.children(0) if child.parent == main.pid and not is_spawned(child)]
    verbs = {op["verb"] for op in restored.plan["init"]}
    assert {"stage_tree", "add_source", "make_mount_point", "unstage_tree", "number_fds", "exec_host"} <= verbs
    assert restored.has_user_namespace == ("share_images" in verbs)

    assert "" == difference(children[0].calls, of_child(restored.plan))
    notified = [step(op) for point in NOTIFICATIONS for op in restored.plan["at"].get(point, ())]
    notified += [FREEZE, *map(step, restored.plan["at"]["created"]), THAW]
    assert "" == difference(guarded(main), [PROGRAMS, *of_runtime(restored.plan), *notified])
