"""Hooks: what each is, where and when it runs."""

import json
import os
from pathlib import Path
from typing import Any

from conformance.bundle import KINDS
from conformance.runtime import Container, Failure
from conformance.trial import Trial, mounts

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def lived(t: Trial) -> Container:
    """A container that went through all of its life, so that all hooks have run."""
    container = t.running()
    t.stop(container)
    container.delete()
    return container


def same(path: object, found: "list[int]") -> bool:
    """Whether this is the file at `path`."""
    here = os.stat(str(path))
    return [here.st_dev, here.st_ino] == found


def relative(kind: str) -> "tuple[str, Any]":
    hook = {"path": "probe", "args": ["probe", "exit", "0"]}
    return f"with a relative path of a {kind} hook", lambda b: b.set("/hooks", {kind: [hook]})


def HOOK_01(t: Trial) -> None:
    """A hook's path is absolute; a relative one is an error, even if it would lead to a program."""
    os.chdir(t.bundle.folder)
    t.each_refused(dict(map(relative, KINDS[:3])))
    t.bundle.hook("createRuntime")
    t.run("report")
    t.hook_ran("createRuntime")


def HOOK_01_later(t: Trial) -> None:
    """A relative path of a hook that runs after create is an error, of create or else of start."""
    os.chdir(t.bundle.folder)
    t.bundle.program("exit", 0)
    t.each_refused(dict(map(relative, KINDS[3:])), by_start=True)


def without(kind: str) -> "tuple[str, Any]":
    return f"without the path of a {kind} hook", lambda b: b.set("/hooks", {kind: [{"args": ["probe"]}]})


def HOOK_01_missing(t: Trial) -> None:
    """A hook of create without a path is an error."""
    t.each_refused(dict(map(without, KINDS[:3])))


def HOOK_01_missing_later(t: Trial) -> None:
    """A hook without a path that would run after create is an error, of create or else of start."""
    t.bundle.program("exit", 0)
    t.each_refused(dict(map(without, KINDS[3:])), by_start=True)


def HOOK_02(t: Trial) -> None:
    """args is the whole argument vector of a hook, its first entry too."""
    words = ["another name", "hook", "LOG", "KIND", "echo", "", "echo", 'a b\t"$HOME" \\', "echo", "é"]
    for kind in KINDS:
        t.bundle.hook(kind)
        hook = t.bundle.config["hooks"][kind][0]
        hook["args"] = [hook["args"][2] if word == "LOG" else kind if word == "KIND" else word for word in words]
    lived(t)
    for kind in KINDS:
        found = [word.encode("latin-1").decode() for word in t.hook_ran(kind)["args"]]
        t.equal(t.bundle.config["hooks"][kind][0]["args"], found, f"the argument vector of the {kind} hook")


def HOOK_02_unset(t: Trial) -> None:
    """Without args a hook still runs, without arguments."""
    script = t.bundle.folder / "script"
    for kind in ("createRuntime", "poststart", "poststop"):
        path = t.bundle.folder / kind
        path.write_text(f"#!/bin/sh\nwhile read -r _; do :; done\necho {kind} $# >>{script}.log\n")
        path.chmod(0o755)
        t.bundle.set(f"/hooks/{kind}", [{"path": str(path)}])
    lived(t)
    log = Path(f"{script}.log")
    t.true(log.exists(), "no hook ran")
    t.equal("createRuntime 0\npoststart 0\npoststop 0\n", log.read_text(), "what the hooks wrote")


def HOOK_03(t: Trial) -> None:
    """env is the environment of a hook, all of it."""
    env = ["A=1", "PATH=/nowhere", "EMPTY=", "LONG=" + "x" * 5000, "B=a=b c"]
    for kind in KINDS:
        t.bundle.hook(kind, env=env)
    lived(t)
    for kind in KINDS:
        t.equal(env, t.hook_ran(kind)["env"], f"the environment of the {kind} hook")


def assert_aborted(t: Trial, kind: str) -> None:
    """A hook of this kind takes too long: it is aborted, and counts as one that failed."""
    late = t.bundle.folder / "late"
    log = "/hooks/late" if kind == "startContainer" else late
    t.bundle.hook(kind, "sleep", 5000, "output", log, "echo", "late", timeout=1)
    t.bundle.program("pause")
    before = t.traces()
    container = t.runtime.create(t.bundle, ok=kind not in KINDS[:3])
    done = container.created if kind in KINDS[:3] else container.start(ok=False)
    t.true(done.status != 0, f"`{done.words[0]}` succeeded although a {kind} hook takes longer than its timeout")
    t.assert_no_traces(before, container.id, done.words[0])
    t.equal([kind], t.hook_names(), "what ran")
    t.true(not late.exists(), "the hook went on after its timeout")


def HOOK_04(t: Trial) -> None:
    """A createRuntime hook that takes longer than its timeout is aborted, and create fails."""
    assert_aborted(t, "createRuntime")


def HOOK_04_prestart(t: Trial) -> None:
    """A prestart hook that takes longer than its timeout is aborted, and create fails."""
    assert_aborted(t, "prestart")


def HOOK_04_createContainer(t: Trial) -> None:
    """A createContainer hook that takes longer than its timeout is aborted, and create fails."""
    assert_aborted(t, "createContainer")


def HOOK_04_startContainer(t: Trial) -> None:
    """A startContainer hook that takes longer than its timeout is aborted, and start fails."""
    assert_aborted(t, "startContainer")


def HOOK_04_poststart(t: Trial) -> None:
    """A poststart hook that takes longer than its timeout is aborted, and start fails."""
    assert_aborted(t, "poststart")


def HOOK_04_poststop(t: Trial) -> None:
    """A poststop hook that takes longer than its timeout is aborted, and delete goes on."""
    before = t.traces()
    t.bundle.hook("poststop", "sleep", 5000, "output", t.folder / "late", "echo", "late", timeout=1)
    t.bundle.hook("poststop")
    container = lived(t)
    t.equal(["poststop"] * 2, t.hook_names(), "what ran")
    t.assert_no_traces(before, container.id, "delete")
    t.true(not (t.folder / "late").exists(), "the hook went on after its timeout")


def HOOK_04_in_time(t: Trial) -> None:
    """A hook that takes less than its timeout, or has none, is waited for."""
    for kind in KINDS:
        t.bundle.hook(kind, "sleep", 100, timeout=60)
        t.bundle.hook(kind, "sleep", 100)
    lived(t)
    t.equal(sorted([*KINDS, *KINDS]), sorted(t.hook_names()), "what ran")


def HOOK_04_invalid(t: Trial) -> None:
    """A timeout that is not more than 0, or no whole number, is an error."""
    invalid_timeouts(t, "createRuntime")


def HOOK_04_invalid_later(t: Trial) -> None:
    """So it is, for a hook that runs after create, an error of create or else of start."""
    t.bundle.program("exit", 0)
    invalid_timeouts(t, "poststop", by_start=True)


def invalid_timeouts(t: Trial, kind: str, *, by_start: bool = False) -> None:
    t.each_refused(
        {
            f"with a timeout of {timeout!r} of a {kind} hook": lambda b, timeout=timeout: b.hook(kind, timeout=timeout)
            for timeout in (0, -1, 0.5, "1")
        },
        by_start=by_start,
    )


def HOOK_05(t: Trial) -> None:
    """Hooks of one kind run in the order in which they are listed, one after the other."""
    for kind in KINDS:
        for number, pause in enumerate((60, 20, 0)):
            t.bundle.hook(kind, "sleep", pause)
            t.bundle.config["hooks"][kind][-1]["args"][3] = f"{kind} {number}"
    lived(t)
    for kind in KINDS:
        lines = [line for line in t.bundle.hooks_ran() if line["name"].startswith(f"{kind} ")]
        t.equal([f"{kind} {number}" for number in range(3)], [line["name"] for line in lines], "the order")
        for i, pause in enumerate((60, 20)):
            passed = (lines[i + 1]["time"] - lines[i]["time"]) / 1e6
            t.true(passed >= pause, f"{kind} hook {i + 1} started {passed:.0f} ms after one that takes {pause} ms")


def HOOK_06(t: Trial) -> None:
    """Each hook gets the state of the container on its standard input, all of it."""
    t.bundle.config["annotations"] = annotations = {"org.example.key": "value", "é": '"\n'}
    for kind in KINDS:
        for number in "12":
            t.bundle.hook(kind)
            t.bundle.config["hooks"][kind][-1]["args"][3] = kind + number
    container = lived(t)
    for name in (kind + number for kind in KINDS for number in "12"):
        state = t.hook_ran(name)["state"]
        t.equal(container.id, state.get("id"), f"the id that the {name} hook got")
        t.equal(str(t.bundle.folder), state.get("bundle"), f"the bundle that the {name} hook got")
        t.equal(annotations, state.get("annotations"), f"the annotations that the {name} hook got")


def HOOK_06_unread(t: Trial) -> None:
    """A hook that does not read its standard input does not fail, and a state of 100 KiB comes whole."""
    t.bundle.config["annotations"] = {"org.example.long": "x" * 100000}
    for kind in KINDS:
        t.bundle.hook(kind)
        hook = t.bundle.config["hooks"][kind][0]
        t.bundle.config["hooks"][kind].insert(0, {**hook, "args": ["probe", "exit", "0"]})
    lived(t)
    for kind in KINDS:
        t.equal(100000, len(t.hook_ran(kind)["state"]["annotations"]["org.example.long"]), f"what the {kind} hook read")


def own_namespaces() -> "dict[str, str]":
    return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES}


def assert_in_runtime(t: Trial, line: "dict[str, Any]") -> None:
    """The hook ran where the runtime runs."""
    t.equal(own_namespaces(), {kind: line["namespaces"].get(kind) for kind in NAMESPACES}, "the hook's namespaces")
    t.true(same("/", line["root"]), "the hook's root is not the host's")


def assert_not_pivoted(t: Trial, line: "dict[str, Any]") -> None:
    """At the time of the hook the container had its namespaces and mounts, but not yet its root."""
    found = line.get("container", {})
    if not line["state"].get("pid") and line["state"].get("status") == "creating":
        return  # a container that is being created need not have a pid (ST-04), and so there is nothing to look at
    t.true("namespaces" in found, "the hook saw no process of the container")
    t.true(same("/", found["root"]), "the container's root was pivoted already")
    for kind in ("mnt", "pid", "net", "uts", "ipc"):
        t.true(found["namespaces"][kind] != own_namespaces()[kind], f"there was no new {kind} namespace yet")
    assert_mounts(t, found["mountinfo"])


def assert_mounts(t: Trial, mountinfo: str) -> None:
    for entry in t.bundle.config["mounts"]:
        path = f"{t.bundle.rootfs}{entry['destination']}"
        t.true(path in mounts(mountinfo), f"there was no mount at {path} yet")


def in_create(t: Trial, kind: str) -> "dict[str, Any]":
    """A hook of create, and what it saw. It can't run in start."""
    t.bundle.hook(kind)
    t.create()
    return t.hook_ran(kind)


def HOOK_07(t: Trial) -> None:
    """prestart hooks run in create, in the runtime's namespaces, when the container has its own but no new root yet."""
    line = in_create(t, "prestart")
    assert_in_runtime(t, line)
    assert_not_pivoted(t, line)


def HOOK_08(t: Trial) -> None:
    """createRuntime hooks run in create, in the runtime's namespaces, when the container has its own but no new
    root yet.
    """
    line = in_create(t, "createRuntime")
    assert_in_runtime(t, line)
    assert_not_pivoted(t, line)


def HOOK_09(t: Trial) -> None:
    """createContainer hooks are the host's programs, and run in create, in the container's namespaces, before
    its root.
    """
    t.bundle.hook("createContainer")
    container = t.create()
    line = t.hook_ran("createContainer")
    expected = {kind: container.namespace(kind) for kind in NAMESPACES}
    t.equal(expected, {kind: line["namespaces"].get(kind) for kind in NAMESPACES}, "the hook's namespaces")
    t.true(same("/", line["root"]), "the container's root was pivoted already")
    assert_mounts(t, line["mountinfo"])


def HOOK_09_reach(t: Trial) -> None:
    """A mount that a createContainer hook makes below the root filesystem is there in the container, and only there."""
    (t.bundle.rootfs / "tmp/hook").mkdir()
    target = t.bundle.rootfs / "tmp/hook"
    t.bundle.hook("createContainer", "mount", "hook", target, "tmpfs", 0, "create", target / "file", "made")
    t.bundle.program("read", "/tmp/hook/file")
    (line,) = t.run()
    t.equal("made", line.get("content"), "the file that the hook made")
    t.equal([], os.listdir(target), "what is in the directory on the host")


def HOOK_10(t: Trial) -> None:
    """startContainer hooks are looked up in the container, and run in start, in its namespaces, before the program."""
    t.bundle.hook("startContainer", "sleep", 100)
    t.bundle.hook("startContainer")
    t.bundle.program_in_log("pause")
    container = t.create()
    t.equal([], t.hook_names(), "what ran in create")
    container.start()
    t.wait_for(lambda: "program" in t.hook_names(), "the program")
    t.equal(["startContainer", "startContainer", "program"], t.hook_names(), "what ran")
    expected = {kind: container.namespace(kind) for kind in NAMESPACES}
    for line in t.bundle.hooks_ran():
        t.equal(expected, {kind: line["namespaces"].get(kind) for kind in NAMESPACES}, "the hook's namespaces")
        t.true(same(t.bundle.rootfs, line["root"]), "the hook's root is not the container's")


def HOOK_10_host_path(t: Trial) -> None:
    """A startContainer hook whose program is on the host alone can't be run, and start fails."""
    t.bundle.set("/hooks/startContainer", [{"path": str(t.bundle.probe), "args": ["probe", "exit", "0"]}])
    t.refused_by_start("with a startContainer hook that is not in the container")


def HOOK_11(t: Trial) -> None:
    """poststart hooks run when the program has been executed, before start returns, in the runtime's namespaces."""
    done = t.folder / "done"
    t.bundle.hook("startContainer", "sleep", 100)  # a runtime that does not wait for the program fails
    t.bundle.hook("poststart", "sleep", 100, "output", done, "echo", "done")
    t.bundle.program("pause")
    container = t.create()
    t.equal([], t.hook_names(), "what ran in create")
    container.start()
    t.true(done.exists(), "start did not wait for the hook")
    line = t.hook_ran("poststart")
    assert_in_runtime(t, line)
    t.true(
        same(t.bundle.rootfs / "probe", line.get("container", {}).get("exe", [])), "the program was not yet executed"
    )


def HOOK_12(t: Trial) -> None:
    """poststop hooks run when the container is destroyed, before delete returns, in the runtime's namespaces."""
    done = t.folder / "done"
    t.bundle.linux["cgroupsPath"] = f"/{t.runtime.prefix}"
    look = f"ls -d /sys/fs/cgroup/{t.runtime.prefix} /sys/fs/cgroup/*/{t.runtime.prefix} 2>/dev/null >{t.folder}/"
    t.bundle.shell_hook("poststart", f"{look}poststart; :")
    t.bundle.shell_hook("poststop", f"{look}poststop; :")
    t.bundle.hook("poststop", "sleep", 100, "output", done, "echo", "done")
    container = t.running()
    t.stop(container)
    t.equal([], t.hook_names(), "what ran before delete")
    container.delete()
    t.true(done.exists(), "delete did not wait for the hook")
    assert_in_runtime(t, t.hook_ran("poststop"))
    for kind in ("poststart", "poststop"):
        if not (t.folder / kind).exists():
            raise Failure(f"the {kind} hook did not run")
    t.true((t.folder / "poststart").read_text(), "there was no cgroup at cgroupsPath while the container ran")
    t.equal("", (t.folder / "poststop").read_text(), "the cgroups that were still there")


def HOOK_12_status(t: Trial) -> None:
    """poststop hooks see a stopped container, whose process is gone."""
    t.bundle.hook("poststop")
    lived(t)
    line = t.hook_ran("poststop")
    t.equal("stopped", line["state"].get("status"), "the status")
    t.true(
        "exe" not in line.get("container", {}) or not line["state"].get("pid"),
        f"there is a process {json.dumps(line['state'])}",
    )
