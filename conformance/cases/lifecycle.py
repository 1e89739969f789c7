"""The lifecycle, step by step."""

import os
import time
from pathlib import Path

from conformance.bundle import KINDS
from conformance.runtime import Container, Failure, is_same
from conformance.trial import Trial

CREATE = KINDS[:3]


def LIFE_01(t: Trial) -> None:
    """create gets a bundle and an id: containers of two bundles stay separate."""
    other = t.another_bundle()
    other.program("echo", "other")
    t.bundle.program("echo", "one")
    one, two = t.create(), t.create(bundle=other)
    for container, text in ((two, "other"), (one, "one")):
        container.start()
        container.wait()
        t.equal([text], [line["text"] for line in container.lines], f"the report of container {container.id}")
        t.true(is_same(container.bundle.folder, container.state()["bundle"]), "the state names another bundle")


def LIFE_02(t: Trial) -> None:
    """create makes the environment and runs no program; what becomes of config.json afterwards has no effect."""
    for kind in KINDS:
        t.bundle.hook(kind)
    t.bundle.program_in_log("echo", "old", "await", 15)
    container = t.create()
    assert_not_started(t, container)

    t.bundle.config["hooks"] = {}
    for kind in KINDS:
        t.bundle.hook(kind, "exit", 1)
    t.bundle.program("echo", "new", "await", 15)
    t.bundle.config["root"] = {"path": "missing"}
    t.bundle.config["annotations"] = {"org.example.new": ""}
    t.bundle.write()
    container.start()
    t.equal("old", container.tells("echo")["text"], "the program's report")
    t.equal({}, container.state().get("annotations") or {}, "annotations of the state")
    (t.bundle.folder / "config.json").unlink()
    container.tells("await")
    container.kill("TERM")
    container.wait()
    t.stopped(container)
    container.delete()
    t.equal([*CREATE, "poststop", "poststart", "program", "startContainer"], sorted_tail(t.hook_names()), "what ran")


def sorted_tail(names: "list[str]") -> "list[str]":
    """The hooks of create in order, and the rest by name: program and poststart run at the same time."""
    return [*names[:3], *sorted(names[3:], key="poststop poststart program startContainer".split().index)]


def assert_not_started(t: Trial, container: Container) -> None:
    """The program has not run, and is not about to: the process runs another one for a moment that would suffice."""
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        if is_same(t.bundle.rootfs / "probe", f"/proc/{container.pid}/exe"):
            raise Failure("the program runs before start")
        time.sleep(0.01)
    t.equal("created", container.state().get("status"), "status after create")
    t.equal("", container.output(), "the output before start")


def assert_stopped_by(t: Trial, kind: str) -> None:
    """A hook fails: so does its operation; what should come later does not come, and the container is gone."""
    for each in KINDS[:5]:
        t.bundle.hook(each)
    t.bundle.hook(kind, "exit", 1)
    t.bundle.hook(kind)
    t.bundle.program_in_log("pause")
    before = t.traces()
    container = t.runtime.create(t.bundle, ok=kind not in CREATE)
    done = container.created
    if kind not in CREATE:
        done = container.start(ok=False)
    t.true(done.status != 0, f"`{done.words[0]}` succeeded although a {kind} hook failed")
    t.assert_no_traces(before, container.id, done.words[0])
    expected = [*KINDS[: KINDS.index(kind) + 1], kind]
    names = t.hook_names()
    if kind == "poststart":  # what ran before it is LIFE-14's matter
        expected, names = ([name for name in found if name == kind] for found in (expected, names))
    t.equal(expected, names, "what ran")


def LIFE_03(t: Trial) -> None:
    """After a failing prestart hook create fails, nothing more runs, and the container is gone."""
    assert_stopped_by(t, "prestart")


def LIFE_04(t: Trial) -> None:
    """After a failing createRuntime hook create fails, nothing more runs, and the container is gone."""
    assert_stopped_by(t, "createRuntime")


def LIFE_04_ways_to_fail(t: Trial) -> None:
    """A hook fails if it ends with another status than 0, by a signal, or can't be executed."""
    (t.bundle.folder / "text").write_text("no program")
    hook = {"args": ["hook"]}
    t.each_refused(
        {
            "with a hook that exits with 1": lambda b: b.hook("createRuntime", "exit", 1),
            "with a hook that exits with 255": lambda b: b.hook("createRuntime", "exit", 255),
            "with a hook that is killed": lambda b: b.hook("createRuntime", "raise", 9),
            "with a hook that crashes": lambda b: b.hook("createRuntime", "raise", 11),
            "with a hook that is missing": lambda b: b.set(
                "/hooks/createRuntime", [{**hook, "path": str(b.folder / "missing")}]
            ),
            "with a hook that is not a program": lambda b: b.set(
                "/hooks/createRuntime", [{**hook, "path": str(b.folder / "text")}]
            ),
            "with a hook that is a directory": lambda b: b.set("/hooks/createRuntime", [{**hook, "path": "/"}]),
        }
    )
    t.bundle.hook("createRuntime", "exit", 0)
    t.run("report")


def LIFE_05(t: Trial) -> None:
    """After a failing createContainer hook create fails, nothing more runs, and the container is gone."""
    assert_stopped_by(t, "createContainer")


def LIFE_06(t: Trial) -> None:
    """start gets an id: of two containers created it starts the one that is named."""
    t.bundle.program("pause")
    one, two = t.create(), t.create()
    two.start()
    two.tells("pause")
    t.equal("created", one.state().get("status"), "status of the other container")
    assert_not_started(t, one)


def LIFE_07(t: Trial) -> None:
    """After a failing startContainer hook start fails, the program does not run, and the container is gone."""
    assert_stopped_by(t, "startContainer")


def LIFE_08(t: Trial) -> None:
    """start runs the program, once."""
    t.bundle.program_in_log("echo", "ran", "exit", 7)
    container = t.create()
    container.start()
    t.equal(7, container.wait(), "the exit status")
    t.equal(["ran"], [line.get("text") for line in container.lines], "the program's report")
    t.equal(["program"], t.hook_names(), "what ran")


def LIFE_09(t: Trial) -> None:
    """After a failing poststart hook start fails, the program is ended, and the container is gone."""
    assert_stopped_by(t, "poststart")


def LIFE_10(t: Trial) -> None:
    """A container is stopped when its process has ended, of itself or by a signal from anywhere."""
    for status in (0, 1, 255):
        t.bundle.program("exit", status)
        container = t.create()
        container.start()
        t.equal(status, container.wait(), "the exit status")
        t.stopped(container)
    container = t.running()
    os.kill(container.pid, 9)
    t.equal(128 + 9, container.wait(), "the exit status")
    t.stopped(container)
    container = t.running()
    container.kill()
    container.wait()
    t.stopped(container)


def LIFE_11(t: Trial) -> None:
    """delete gets an id: of two containers it deletes the one that is named."""
    one, two = t.running(), t.create()
    t.stop(one)
    one.delete()
    t.true(not one.exists(), "the container is still there after delete")
    t.equal("created", two.state().get("status"), "status of the other container")
    two.start()
    two.tells("pause")


def LIFE_12(t: Trial) -> None:
    """delete undoes what create did: processes, mounts, cgroups and the state are gone."""
    before = t.traces()
    t.bundle.linux["cgroupsPath"] = f"/{t.runtime.prefix}"
    t.bundle.mount("/tmp")
    t.bundle.bind(t.bundle.folder, "/etc")
    t.bundle.config["root"]["readonly"] = True
    container = t.running()
    t.true(Path(f"/proc/{container.pid}").exists(), "there is no process")
    t.stop(container)
    container.delete()
    t.assert_no_traces(before, container.id, "delete")


def LIFE_13(t: Trial) -> None:
    """poststop hooks run in delete; one that fails is worth a warning, and does not keep the next from running."""
    log = t.bundle.folder / "hooks.log"
    t.bundle.hook("poststop", "exit", 1)
    t.bundle.hook("poststop", "raise", 9)
    t.bundle.hook("poststop")
    container = t.running()
    t.stop(container)
    t.true(not log.exists(), "a poststop hook ran before delete")
    container.delete()
    t.equal(["poststop"] * 3, t.hook_names(), "what ran")
    t.true(not container.exists(), "the container is still there after delete")


def LIFE_13_missing(t: Trial) -> None:
    """A poststop hook that can't be executed counts as a failing hook, also for readers of the state."""
    t.bundle.config["annotations"] = {"org.example.long": "x" * 100000}  # more than a pipe takes without a reader
    t.bundle.set("/hooks", {"poststop": [{"path": str(t.bundle.folder / "missing")}]})
    t.bundle.hook("poststop")
    container = t.running()
    t.stop(container)
    container.delete()
    t.equal(["poststop"], t.hook_names(), "what ran")
    t.true(not container.exists(), "the container is still there after delete")


def LIFE_14(t: Trial) -> None:
    """The hooks of create run in create, in order; startContainer, the program and poststart in start; poststop
    in delete.
    """
    t.bundle.hook("startContainer", "sleep", 100)  # a runtime that does not wait for it fails
    for kind in reversed(KINDS):
        t.bundle.hook(kind)
    t.bundle.program_in_log("exit", 0)
    moments = [time.monotonic_ns()]
    container = t.create()
    t.true(container.pid, "state shows no pid")
    moments.append(time.monotonic_ns())
    container.start()
    moments.append(time.monotonic_ns())
    container.wait()
    t.stopped(container)
    moments.append(time.monotonic_ns())
    container.delete()
    moments.append(time.monotonic_ns())
    times = {line["name"]: line["time"] for line in t.bundle.hooks_ran()}
    t.equal({*KINDS, "program"}, set(times), "what ran")
    expected = [
        "prestart",
        "createRuntime",
        "createContainer",
        "CREATED",
        "startContainer",
        "program",
        "STOPPED",
        "poststop",
    ]
    known = {**times, "CREATED": moments[1], "STOPPED": moments[3]}
    t.equal(expected, sorted(expected, key=known.__getitem__), "the order")
    t.true(times["startContainer"] < times["poststart"] < moments[2], "poststart hooks did not run at the end of start")
    t.true(
        moments[0] < times["prestart"] and times["poststop"] < moments[4], "a hook ran before create or after delete"
    )


def assert_poststop_after(t: Trial, kind: str) -> None:
    """A hook fails: within the operation poststop hooks have run, and the id is free."""
    t.bundle.hook(kind, "exit", 1)
    t.bundle.hook("poststop", "sleep", 50, "output", t.folder / "done", "echo", "done")
    t.bundle.program("pause")
    container = t.runtime.create(t.bundle, ok=kind not in CREATE)
    done = container.created
    if kind not in CREATE:
        done = container.start(ok=False)
    t.true(done.status != 0, f"`{done.words[0]}` succeeded although a {kind} hook failed")
    t.equal([kind, "poststop"], t.hook_names(), "what ran")
    t.true((t.folder / "done").exists(), f"`{done.words[0]}` did not wait for the poststop hook")
    t.true(not container.exists(), f"`state` still shows the container after the failing {kind} hook")
    del t.bundle.config["hooks"]
    t.create(id=container.id)


def LIFE_15(t: Trial) -> None:
    """After a failing prestart hook the container is destroyed, poststop hooks have run, and the id is free."""
    assert_poststop_after(t, "prestart")


def LIFE_15_createRuntime(t: Trial) -> None:
    """After a failing createRuntime hook the container is destroyed, poststop hooks have run, and the id is free."""
    assert_poststop_after(t, "createRuntime")


def LIFE_15_createContainer(t: Trial) -> None:
    """After a failing createContainer hook the container is destroyed, poststop hooks have run, and the id is free."""
    assert_poststop_after(t, "createContainer")


def LIFE_15_startContainer(t: Trial) -> None:
    """After a failing startContainer hook the container is destroyed, poststop hooks have run, and the id is free."""
    assert_poststop_after(t, "startContainer")


def LIFE_15_poststart(t: Trial) -> None:
    """After a failing poststart hook the container is destroyed, poststop hooks have run, and the id is free."""
    assert_poststop_after(t, "poststart")
