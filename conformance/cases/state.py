"""The state of a container, as `state` and hooks get it."""

import math
import re
import shlex

from conformance.bundle import KINDS
from conformance.runtime import TIMEOUT, is_same
from conformance.trial import SEMVER, STATES, Failure, Trial, faults


def ST_01(t: Trial) -> None:
    """ociVersion is the version of the specification that the state follows, and so does not depend on the config's."""
    found = []
    for version in ("1.0.0", "1.0.2"):
        t.bundle.config["ociVersion"] = version
        found.append(t.create().state().get("ociVersion"))
    match = SEMVER.fullmatch(str(found[0]))
    t.true(match and match.group(1) == "1", f"ociVersion is {found[0]!r}")
    t.equal(found[0], found[1], "ociVersion for another config")


def ST_01_in_hooks(t: Trial) -> None:
    """Hooks get the ociVersion that `state` shows."""
    for kind in KINDS[:5]:
        t.bundle.hook(kind)
    version = t.running().state().get("ociVersion")
    for kind in KINDS[:5]:
        t.equal(version, t.hook_ran(kind)["state"].get("ociVersion"), f"ociVersion in a {kind} hook")


def ST_02(t: Trial) -> None:
    """id is the container's id."""
    for container in (t.create(), t.create()):
        t.equal(container.id, container.state().get("id"), "id")


def ST_03(t: Trial) -> None:
    """status is created after create, running after start, stopped when the process has ended."""
    t.bundle.program("await", 15, "exit", 3)
    container = t.create()
    t.equal("created", container.state().get("status"), "status after create")
    container.start()
    t.equal("running", container.state().get("status"), "status after start")
    container.tells("await")
    t.equal("running", container.state().get("status"), "status of a program at work")
    container.kill("TERM")
    t.equal(3, container.wait(), "the exit status")
    t.stopped(container)
    t.equal("stopped", container.state().get("status"), "status, once stopped,")


def ST_03_killed_before_start(t: Trial) -> None:
    """status of a container whose process ended before it was started is stopped."""
    container = t.create()
    t.true(container.pid, "state shows no pid")
    container.kill()
    container.wait()
    t.stopped(container)


def ST_03_unreaped(t: Trial) -> None:
    """A process that has ended is not running, even if its parent has not waited for it."""
    container = t.create()
    container.start()
    t.stopped(container)


def ST_03_in_hooks(t: Trial) -> None:
    """Hooks of create see creating or created, startContainer created, poststart running, poststop stopped."""
    for kind in KINDS:
        t.bundle.hook(kind)
    container = t.running()
    container.kill()
    container.wait()
    container.delete()
    for kind in KINDS[:3]:
        status = t.hook_ran(kind)["state"].get("status")
        t.true(status in ("creating", "created"), f"status in a {kind} hook is {status!r}")
    for kind, status in zip(KINDS[3:], STATES[1:], strict=True):
        t.equal(status, t.hook_ran(kind)["state"].get("status"), f"status in a {kind} hook")


def ST_03_while_creating(t: Trial) -> None:
    """A container that `state` shows while it is being created is creating or created."""
    shown = t.folder / "shown"
    name = t.runtime.new_id()
    state = shlex.join([*t.runtime.words, "--root", str(t.runtime.root), "state", name])
    t.bundle.shell_hook("createRuntime", f"{state} >{shown} 2>&1; :", timeout=math.ceil(TIMEOUT))
    container = t.create(id=name)
    t.true(shown.exists(), "the hook did not run")
    status = re.search(r'"status": ?"(.*?)"', shown.read_text())
    t.true(
        not status or status.group(1) in ("creating", "created"),
        f"state during create shows {status and status.group(1)}",
    )
    t.equal("created", container.state().get("status"), "status after create")


def ST_04(t: Trial) -> None:
    """pid is the host's number of the container's process, the same while created and while running."""
    t.bundle.program("report", "pause")
    container = t.create()
    created = container.state().get("pid")
    t.true(is_same(t.bundle.rootfs, f"/proc/{created}/root"), f"the root of process {created} is another")
    container.start()
    container.tells("pause")
    t.equal(created, container.state().get("pid"), "pid, while running,")
    report = container.tells("report")
    t.equal(report["namespaces"]["pid"], container.namespace("pid"), "the pid namespace of pid")
    t.equal(1, report["pid"], "the pid that the program has")


def ST_04_without_a_namespace(t: Trial) -> None:
    """Without a pid namespace pid is what the program has itself."""
    t.bundle.drop_namespace("pid")
    container = t.running("report")
    t.equal(container.tells("report")["pid"], container.state().get("pid"), "pid")


def ST_04_in_hooks(t: Trial) -> None:
    """In hooks pid is as the hook's own namespaces have it: the host's number, or 1 in a new pid namespace."""
    for kind in KINDS[:5]:
        t.bundle.hook(kind)
    container = t.running()
    for kind in KINDS[:5]:
        state = t.hook_ran(kind)["state"]
        if state.get("status") == "creating" and "pid" not in state:
            continue  # it is required from created on
        inside = kind in ("createContainer", "startContainer")
        t.equal(1 if inside else container.pid, state.get("pid"), f"pid in a {kind} hook")


def ST_05(t: Trial) -> None:
    """bundle is the bundle's absolute path, even if create got a relative one."""
    for words in ("bundle", "./bundle/", "bundle/rootfs/.."):
        found = t.create("--bundle", words, cwd=t.folder).state().get("bundle")
        t.true(str(found).startswith("/"), f"bundle is {found!r} for {words}")
        t.true(is_same(t.bundle.folder, found), f"bundle is {found!r} for {words}")


def ST_06(t: Trial) -> None:
    """annotations are those of the config, in every status, or there are none."""
    t.bundle.program("await", 15)
    t.bundle.config["annotations"] = annotations = {"org.example.key": "value", "empty": ""}
    container = t.create()
    t.equal(annotations, container.state().get("annotations"), "annotations while created")
    container.start()
    t.equal(annotations, container.state().get("annotations"), "annotations while running")
    container.tells("await")
    container.kill("TERM")
    container.wait()
    t.stopped(container)
    t.equal(annotations, container.state().get("annotations"), "annotations once stopped")


def ST_06_none(t: Trial) -> None:
    """Without annotations the map is empty or absent."""
    t.equal({}, t.create().state().get("annotations", {}), "annotations")


def ST_08(t: Trial) -> None:
    """The document has all that the schema requires, each property with its type, whatever the status."""
    t.bundle.program("await", 15)
    t.bundle.config["annotations"] = {"org.example.key": "value"}
    container = t.create()
    t.equal([], faults(container.state()), "what is wrong with the state, while created,")
    container.start()
    t.equal([], faults(container.state()), "what is wrong with the state, while running,")
    container.tells("await")
    container.kill("TERM")
    container.wait()
    t.stopped(container)
    t.equal([], faults(container.state()), "what is wrong with the state, once stopped,")


def ST_08_alone(t: Trial) -> None:
    """What `state` writes to its standard output is one JSON document and nothing else."""
    container = t.create()
    done = t.runtime.command("state", container.id)
    if not done.out.strip().startswith("{") or not done.out.strip().endswith("}"):
        raise Failure(f"`state` writes {done.out[:200]!r}")
    t.equal(container.id, container.state().get("id"), "id")


def ST_08_in_hooks(t: Trial) -> None:
    """What hooks get follows the schema too."""
    t.bundle.config["annotations"] = {"org.example.key": "value"}
    for kind in KINDS:
        t.bundle.hook(kind)
    container = t.running()
    t.stop(container)
    container.delete()
    for kind in KINDS:
        t.equal([], faults(t.hook_ran(kind)["state"]), f"what is wrong with the state in a {kind} hook")
