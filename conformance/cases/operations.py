"""The operations: state, create, start, kill, delete."""

import os
import stat
from typing import Any

from conformance.runtime import Container, Failure, is_same
from conformance.trial import Trial, faults, host, mounts


def assert_error(t: Trial, *words: object, **options: Any) -> None:
    """This command line is an error."""
    if t.runtime.command(*words, **options).status == 0:
        told = " ".join(repr(str(word)) if not str(word) else str(word) for word in words)
        raise Failure(f"`{told.replace(t.runtime.prefix, 'ID')}` succeeded")


def assert_untouched(t: Trial, container: Container, *words: object) -> None:
    """This command line is an error, and the container is as it was."""
    before = container.state()
    assert_error(t, *words)
    t.equal(before, container.state(), f"the state after the failing `{words[0]}`")


def stopped(t: Trial) -> Container:
    """A container that ran and has ended."""
    container = t.running()
    t.stop(container)
    return container


def OP_01(t: Trial) -> None:
    """state without an id, or with one that no container has, is an error."""
    container = t.create()
    for words in ((), ("",), ("missing",), (container.id[:-1],), (container.id + "0",), ("..",)):
        assert_error(t, "state", *words)
    t.stop(container)
    container.delete()
    assert_error(t, "state", container.id)


def OP_02(t: Trial) -> None:
    """state returns the state document of the container that is named."""
    for container in (t.create(), t.create()):
        document = container.state()
        t.equal([], faults(document), "what is wrong with the state")
        t.equal(container.id, document["id"], "id")


def OP_03(t: Trial) -> None:
    """create without an id, or where there is no bundle, is an error, and nothing is made."""
    t.bundle.write()
    empty = t.folder / "empty"
    empty.mkdir()
    before = t.traces()
    assert_error(t, "create", "--bundle", t.bundle.folder)
    assert_error(t, "create", t.runtime.prefix, cwd=empty)
    assert_error(t, "create", "--bundle", "", t.runtime.prefix, cwd=empty)
    t.assert_no_traces(before, t.runtime.prefix, "create")


def OP_04(t: Trial) -> None:
    """create with an id that is taken is an error, and the container that has it is untouched, whatever its status."""
    other = t.another_bundle()
    other.write()
    t.bundle.program_in_log("await", 15)
    container = t.create()
    again = ("create", "--bundle", other.folder, container.id)
    assert_untouched(t, container, *again)
    container.start()
    container.tells("await")
    assert_untouched(t, container, *again)
    container.kill("TERM")
    t.equal(0, container.wait(), "the exit status")
    t.stopped(container)
    assert_untouched(t, container, *again)
    t.equal(["program"], t.hook_names(), "what ran")
    container.delete()


def OP_04_invalid(t: Trial) -> None:
    """create with an id that is empty, or leads out of where the runtime keeps its state, is an error."""
    t.bundle.write()
    before = t.traces()
    for name in ("", ".", "..", "../escaped", "a/../../escaped", "x" * 5000):
        assert_error(t, "create", "--bundle", t.bundle.folder, name)
    t.assert_no_traces(before, t.runtime.prefix, "create")
    t.true(not (t.folder / "escaped").exists(), "an id led out of the state root")


def OP_05(t: Trial) -> None:
    """create applies everything but the program: root, mounts, devices, namespaces, hostname, sysctl are there."""
    t.bundle.config["hostname"] = "conformance"
    t.bundle.config["root"]["readonly"] = True
    t.bundle.linux["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "noexec", "size=64k")
    t.bundle.program_in_log("pause")
    own = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "ipc", "uts", "mnt")}
    container = t.create()
    root = f"/proc/{container.pid}/root"
    found = mounts(container.file("mountinfo"))
    t.equal([], t.hook_names(), "what ran in create")
    t.true(is_same(root, t.bundle.rootfs), "the root filesystem is another")
    t.true("ro" in found["/"]["options"], "the root filesystem is not read-only")
    t.true("/tmp" in found and "noexec" in found["/tmp"]["options"], "a mount is not there")
    t.true(stat.S_ISCHR(os.stat(f"{root}/dev/null").st_mode), "/dev/null is not there")
    for kind, name in own.items():
        t.true(container.namespace(kind) != name, f"the {kind} namespace is not new")
    host.setns(f"/proc/{container.pid}/ns/uts")
    t.equal("conformance", os.uname().nodename, "the hostname")
    host.setns(f"/proc/{container.pid}/ns/net")
    with open("/proc/sys/net/ipv4/ip_default_ttl") as file:
        t.equal("77\n", file.read(), "the sysctl")


def OP_06(t: Trial) -> None:
    """A property that can't be applied as it is written is an error of create, and no container is made."""
    t.bundle.hook("poststop")
    t.each_refused(
        {
            "with a mount option that is wrong": lambda b: b.mount("/tmp", "tmpfs", "tmpfs", "size=banana"),
            "with a bind source that is missing": lambda b: b.bind(t.folder / "missing", "/tmp"),
            "with a file as network namespace": lambda b: b.namespace("network", t.probe),
            "with a sysctl value that is wrong": lambda b: b.set("/linux/sysctl", {"net.ipv4.ip_forward": "banana"}),
            "with a cgroup file that is missing": lambda b: b.set(
                "/linux/resources", {"unified": {"pids.banana": "1"}}
            ),
        }
    )


def OP_07(t: Trial) -> None:
    """start without an id, of an unknown container, or of one that is not created is an error and has no effect."""
    t.bundle.program_in_log("await", 15)
    container = t.create()
    for words in ((), ("",), ("missing",), (container.id + "0",)):
        assert_untouched(t, container, "start", *words)
    container.start()
    container.tells("await")
    assert_untouched(t, container, "start", container.id)
    container.kill("TERM")
    t.equal(0, container.wait(), "the exit status")
    t.stopped(container)
    assert_untouched(t, container, "start", container.id)
    t.equal(["program"], t.hook_names(), "what ran")


def OP_08(t: Trial) -> None:
    """start runs the program with its arguments."""
    t.bundle.program("echo", "one", "echo", "", "echo", "th ree", "exit", 9)
    container = t.create()
    container.start()
    t.equal(9, container.wait(), "the exit status")
    t.equal(["one", "", "th ree"], [line["text"] for line in container.lines], "the program's report")


def OP_08_without_process(t: Trial) -> None:
    """Without `process` nothing can be started (whether create takes such a config is PROC-01's matter)."""
    del t.bundle.config["process"]
    t.refused_by_start("without process")


def OP_09(t: Trial) -> None:
    """kill without an id, of an unknown container, or of one neither created nor running is an error without effect."""
    container = t.running()
    for words in ((), ("",), ("", "KILL"), ("missing", "KILL"), (container.id + "0", "KILL")):
        assert_untouched(t, container, "kill", *words)
    t.stop(container)
    for signal in ("KILL", "TERM"):
        assert_untouched(t, container, "kill", container.id, signal)
    container.delete()
    assert_error(t, "kill", container.id, "KILL")


def OP_10(t: Trial) -> None:
    """kill sends the requested signal, and no other, to the container's process."""
    signals = (15, 1, 10, 12, 2, 40)
    t.bundle.program(*("await", ",".join(map(str, signals))) * len(signals))
    container = t.create()
    container.start()
    container.tells("await")
    for count, signal in enumerate(signals, 1):
        container.kill(str(signal))
        t.wait_for(lambda count=count: len(caught(container)) >= count, f"delivery of signal {signal}")
    t.equal(0, container.wait(), "the exit status")
    t.equal(list(signals), caught(container), "the signals that came")


def caught(container: Container) -> "list[int]":
    return [line["signal"] for line in container.lines if line["op"] == "caught"]


def OP_10_kill(t: Trial) -> None:
    """SIGKILL ends a container, created or running."""
    for container in (t.create(), t.running()):
        t.true(container.pid, "state shows no pid")
        container.kill("KILL")
        t.equal(128 + 9, container.wait(), "the exit status")
        t.stopped(container)


def OP_10_unknown_signal(t: Trial) -> None:
    """A signal that does not exist is an error, and nothing is sent."""
    container = t.running()
    for signal in ("SIGCONFORMANCE", "9999", "-1"):  # how a signal is spelt is not specified
        assert_untouched(t, container, "kill", container.id, signal)
    t.stop(container)


def OP_11(t: Trial) -> None:
    """delete without an id, of an unknown or of a running container is an error without effect."""
    # not of one that is created: see RELAXED
    container = t.running()
    for words in ((), ("",), ("missing",), (container.id + "0",), (container.id,)):
        assert_untouched(t, container, "delete", *words)
    t.stop(container)
    container.delete()
    assert_error(t, "delete", container.id)


def OP_12(t: Trial) -> None:
    """delete removes the cgroup that create made, and the container's mounts, processes and state."""
    before = t.traces()
    container = stopped(t)
    container.delete()
    t.assert_no_traces(before, container.id, "delete")
    t.true((t.bundle.rootfs / "probe").exists(), "the root filesystem was emptied")


def OP_12_parent_cgroups(t: Trial) -> None:
    """delete removes the cgroups above the container's too, if create made them."""
    before = t.traces()
    t.bundle.linux["cgroupsPath"] = f"/{t.runtime.prefix}/middle/inner"
    container = stopped(t)
    container.delete()
    t.assert_no_traces(before, container.id, "delete")


def OP_12_joined_namespace(t: Trial) -> None:
    """delete leaves a namespace alone that the container only joined."""
    path = t.new_namespace("net")
    t.bundle.namespace("network", path)
    identity = os.stat(path).st_ino
    container = t.running("report")
    t.equal(f"net:[{identity}]", container.tells("report")["namespaces"]["net"], "the network namespace")
    t.stop(container)
    container.delete()
    t.equal(identity, os.stat(path).st_ino, "what is at the namespace's path after delete")


def OP_12_bind_source(t: Trial) -> None:
    """delete leaves alone what is in the directories that were bound into the container."""
    source = t.folder / "data"
    (source / "inner").mkdir(parents=True)
    (source / "file").write_text("kept")
    t.bundle.bind(source, "/tmp")
    container = stopped(t)
    container.delete()
    t.equal(["file", "inner"], sorted(os.listdir(source)), "what is in the directory after delete")
    t.equal("kept", (source / "file").read_text(), "what is in the file after delete")


def OP_12_cgroup_of_others(t: Trial) -> None:
    """delete leaves the container's cgroup if it was there before create."""
    path = host.cgroup_mount() / t.runtime.prefix
    path.mkdir()
    t.bundle.linux["cgroupsPath"] = f"/{t.runtime.prefix}"
    container = t.running()
    t.true(container.cgroup() == path or path in container.cgroup().parents, f"the cgroup is {container.cgroup()}")
    t.stop(container)
    container.delete()
    t.true(path.is_dir(), "the cgroup that was there before create is gone after delete")


def OP_13(t: Trial) -> None:
    """After delete the id is free for another container."""
    other = t.another_bundle()
    other.program("echo", "other")
    container = stopped(t)
    container.delete()
    again = t.create(bundle=other, id=container.id)
    again.start()
    again.wait()
    t.equal(["other"], [line.get("text") for line in again.lines], "the other program's report")
    t.stopped(again)
    again.delete()
