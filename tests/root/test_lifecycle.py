"""The life of a container, by hand: create, start, kill, delete, and what state says in between."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pyoci.container import Container
from pyoci.delete import delete
from pyoci.host import files
from pyoci.host.state_directory import StateDirectory
from tests.support.runtime import PATIENCE, Bundle, Runtime, cgroup_mount, wait_for

pytestmark = pytest.mark.root


def test_whole_life(runtime: Runtime, bundle: Bundle) -> None:
    """created, running, stopped, gone; the program runs at start and not before."""
    bundle.shell("echo started; exec sleep 100")
    bundle.config["annotations"] = {"org.example.a": "b", "org.opencontainers.foo": ""}
    runtime.create("--pid-file", runtime.folder / "pid")
    created = runtime.state()
    pid = created["pid"]
    assert {
        "ociVersion": "1.3.0",
        "id": runtime.id,
        "status": "created",
        "pid": pid,
        "bundle": str(bundle.folder),
        "rootfs": str(bundle.rootfs),
        "annotations": {"org.example.a": "b", "org.opencontainers.foo": ""},
    } == {key: value for key, value in created.items() if key not in ("created", "owner")}
    assert str(pid).encode() == (runtime.folder / "pid").read_bytes()
    assert 0o100644 == (runtime.folder / "pid").stat().st_mode
    assert "" == runtime.output()
    assert Path(f"/proc/{pid}/root/bin/busybox").exists()

    runtime.start()
    wait_for(lambda: runtime.output() == "started\n")
    assert {**created, "status": "running"} == runtime.state()

    assert (0, "", "") == tuple(runtime("kill", runtime.id, "KILL"))
    runtime.wait("stopped")
    assert {**created, "status": "stopped", "pid": 0} == runtime.state()
    runtime.delete()
    runtime.assert_gone()
    assert {} == runtime.state()


def test_relative_bundle(runtime: Runtime, bundle: Bundle) -> None:
    """state has the absolute path of the bundle, wherever create was called from."""
    runtime.detached("create", "--bundle", "bundle", runtime.id, cwd=runtime.folder)
    assert str(bundle.folder) == runtime.state()["bundle"]


def test_current_directory_is_the_bundle(runtime: Runtime, bundle: Bundle) -> None:
    """Without --bundle."""
    runtime.detached("create", runtime.id, cwd=bundle.folder)
    assert str(bundle.folder) == runtime.state()["bundle"]


def test_config_is_read_once(runtime: Runtime, bundle: Bundle) -> None:
    """Changes of config.json after create have no effect (LIFE-02)."""
    bundle.program("echo", "first").hook("poststop", f"echo first >> {runtime.folder}/log")
    runtime.create()
    bundle.program("echo", "second").hook("poststop", f"echo second >> {runtime.folder}/log").write()
    runtime.start()
    runtime.wait("stopped")
    (bundle.folder / "config.json").unlink()
    runtime.delete()
    assert "first\n" == runtime.output()
    assert "first\n" == (runtime.folder / "log").read_text()


def test_what_each_status_allows(runtime: Runtime, bundle: Bundle) -> None:
    """start needs created; kill a live process; delete one that does not run. A refusal changes nothing."""
    bundle.shell("trap 'echo got usr1' USR1; echo ready; while true; do sleep 0.05; done")
    runtime.create()
    pid = runtime.pid()
    runtime.start()
    wait_for(lambda: runtime.output() == "ready\n")
    assert "cannot start an already running container" in runtime.fails("start", runtime.id)
    assert f"cannot delete container {runtime.id} that is not stopped: running" == runtime.fails("delete", runtime.id)
    assert ("running", pid) == (runtime.state()["status"], runtime.pid())
    assert 0 == runtime("kill", runtime.id, "USR1").status
    wait_for(lambda: runtime.output() == "ready\ngot usr1\n")

    assert 0 == runtime("kill", runtime.id, "9").status
    runtime.wait("stopped")  # also if SIGKILL is still pending
    wait_for(lambda: runtime("kill", runtime.id, "0").status != 0)
    assert "container not running" in runtime.fails("kill", runtime.id, "0")
    assert "container not running" in runtime.fails("kill", runtime.id, "TERM")
    assert "cannot start a container that has stopped" in runtime.fails("start", runtime.id)
    runtime.delete()
    for command in ("start", "kill", "delete", "state"):
        assert f"container `{runtime.id}` does not exist" in runtime.fails(command, runtime.id)
    runtime.delete("--force")


def test_delete_of_a_created_container(runtime: Runtime, bundle: Bundle) -> None:
    """As other runtimes do, and engines expect: it is killed and deleted."""
    bundle.program("sleep", 100)
    runtime.create()
    runtime.delete()
    runtime.assert_gone()


def test_forced_delete_of_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    """With everything that runs in it."""
    bundle.shell("sleep 101 & sleep 102 & wait")
    runtime.create()
    runtime.start()
    runtime.delete("--force")
    runtime.assert_gone()


def test_paused(runtime: Runtime, bundle: Bundle) -> None:
    """A frozen cgroup is the status paused; delete --force still works."""
    bundle.program("sleep", 100)
    runtime.create()
    runtime.start()
    (freeze,) = [Path(path, "cgroup.freeze") for path in runtime.host.cgroups()]
    freeze.write_text("1")
    runtime.wait("paused")
    assert "not stopped: paused" in runtime.fails("delete", runtime.id)
    runtime.delete("--force")
    runtime.assert_gone()


def test_id_can_be_used_again(runtime: Runtime, bundle: Bundle) -> None:
    """After delete, with another bundle's config."""
    for word in ("one", "two"):
        bundle.program("echo", word)
        runtime.create()
        runtime.start()
        runtime.wait("stopped")
        assert f"{word}\n" == runtime.output()
        runtime.delete()


def test_duplicate_id(runtime: Runtime, bundle: Bundle) -> None:
    """The second create fails, and the first container does not notice."""
    bundle.program("sleep", 100)
    runtime.create()
    before = (runtime.state(), runtime.record())
    message = runtime.fails("create", "--bundle", bundle.folder, runtime.id)
    assert f"container with given ID already exists: {runtime.id}" == message
    assert before == (runtime.state(), runtime.record())
    runtime.start()
    assert "running" == runtime.state()["status"]


@pytest.mark.parametrize("id", ["", ".", "..", "../x", "a/b", "/x", "a\nb", "a b", "é", "x" * 1025], ids=repr)
def test_invalid_id(runtime: Runtime, bundle: Bundle, id: str) -> None:
    """Refused before anything is made."""
    message = runtime.fails("create", "--bundle", bundle.folder, id)
    assert "id" in message.lower()
    assert not runtime.root.exists() or [] == list(runtime.root.iterdir())


def test_another_cgroup_makes_no_difference_to_the_id(runtime: Runtime, bundle: Bundle) -> None:
    """Two containers side by side; list shows both."""
    bundle.program("sleep", 100)
    runtime.create()
    second = f"{runtime.host.token}-2"
    runtime.create(id=second)
    runtime.start(second)
    listed = json.loads(runtime("list", "--format", "json").out)
    assert [(runtime.id, "created"), (second, "running")] == [(entry["id"], entry["status"]) for entry in listed]
    assert [runtime.pid(), runtime.pid(second)] == [entry["pid"] for entry in listed]


def test_list_of_a_thousand(runtime: Runtime, bundle: Bundle) -> None:
    """list needs no more descriptors for many containers than for one."""
    bundle.program("true")
    runtime.create()
    runtime.start()
    runtime.wait("stopped")
    record = runtime.record()
    for n in range(600):
        folder = runtime.root / f"many{n}"
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps({**record, "id": folder.name}))
    assert 601 == len(runtime("list", "--quiet").out.split())
    for folder in runtime.root.glob("many*"):
        (folder / "record.json").unlink()
        folder.rmdir()


# --- the end of the first process


@pytest.mark.parametrize("words", [["kill"], ["kill", "--all"]], ids=" ".join)
def test_killed_is_stopped(runtime: Runtime, bundle: Bundle, words: list[str]) -> None:
    """From the moment at which kill returns, though the process may take its time: it has memory to give back."""
    source = runtime.folder / "hold.c"
    source.write_text(
        "#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
        'int main(void) { memset(malloc(64 << 20), 1, 64 << 20); write(1, "held\\n", 5); for (;;) pause(); }\n'
    )
    subprocess.run(["cc", "-w", "-O0", "-static", source, "-o", bundle.rootfs / "hold"], check=True)
    bundle.program("/hold")
    for _ in range(20):
        runtime.create()
        runtime.start()
        wait_for(lambda: runtime.output() == "held\n")
        assert (0, "") == tuple(runtime(*words, runtime.id, "KILL"))[::2]
        assert "stopped" == runtime.state()["status"]
        assert (1, "", "container not running\n") == tuple(runtime("kill", runtime.id, "KILL"))
        runtime.delete()


def test_start_against_kill(runtime: Runtime, bundle: Bundle) -> None:
    """Whichever comes first, the container has stopped afterwards."""
    bundle.program("sleep", 100)
    for _ in range(30):
        runtime.create()
        null = subprocess.DEVNULL
        start = subprocess.Popen(runtime.command("start", runtime.id), stdin=null, stdout=null, stderr=null)
        kill = runtime("kill", runtime.id, "KILL")
        status = runtime.status()
        start.wait(PATIENCE)
        assert (kill.status, status) in ((0, "stopped"), (0, "")), kill
        runtime.delete("--force")


def test_delete_closes_every_descriptor(runtime: Runtime, bundle: Bundle) -> None:
    """A program that uses the package deletes many containers: each gives back what it opened."""
    bundle.program("sleep", 100)
    runtime.create()
    before = os.listdir("/proc/self/fd")
    delete(Container.load(runtime.id, root=str(runtime.root)), force=True)
    assert before == os.listdir("/proc/self/fd")


# --- a record of pyoci 0.1.0's first builds, which is called state.json


@pytest.fixture
def old(runtime: Runtime, bundle: Bundle) -> Path:
    """A container that runs, with such a record."""
    bundle.program("sleep", 100)
    runtime.create()
    place = runtime.root / runtime.id
    (place / "record.json").rename(place / "state.json")
    return place


def test_old_record(runtime: Runtime, old: Path) -> None:
    """Every command reads it, and one that writes gives it its new name."""
    assert "created" == runtime.state()["status"]
    assert f"{runtime.id}\n" == runtime("list", "--quiet").out
    runtime.start()
    assert (0, "") == (runtime("exec", runtime.id, "true").status, runtime("kill", runtime.id, "0").err)
    assert (old / "state.json").exists()
    resources = stdin_of("{}")
    assert (0, "") == tuple(runtime("update", "--resources", "-", runtime.id, stdin=resources))[::2]
    os.close(resources)
    assert ["record.json"] == [path.name for path in old.iterdir() if path.name in ("record.json", "state.json")]
    assert "running" == runtime.state()["status"]
    runtime.delete("--force")


def test_old_record_renamed_meanwhile(runtime: Runtime, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader finds the record, even if another command renames it between the reader's two attempts."""
    read = files.read

    def rename_first(name, *rest: Any):
        if name == "state.json" and (old / name).exists():
            (old / name).rename(old / "record.json")
        return read(name, *rest)

    directory = StateDirectory.open(str(runtime.root), runtime.id)
    monkeypatch.setattr(files, "read", rename_first)
    try:
        assert runtime.id == directory.load().id
    finally:
        directory.close()


def stdin_of(text: str) -> int:
    """A pipe with a text in it."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
        file.write(text)
    return reader


def test_delete_of_an_old_record(runtime: Runtime, old: Path) -> None:
    """Nothing of it is left."""
    runtime.delete("--force")
    runtime.assert_gone()


# --- containers of other runtimes


@pytest.mark.parametrize("name", ["runc", "crun", "youki"])
def test_containers_of_another_runtime(runtime: Runtime, name: str) -> None:
    """They don't exist for pyoci, which says whose they are and what to use; and leaves them alone, also by force."""
    place = runtime.root / "theirs"
    place.mkdir(parents=True, mode=0o700)
    runtime.root.chmod(0o700)
    files = {"runc": ["state.json"], "crun": ["status", "config.json"], "youki": ["state.json", "youki_config.json"]}
    for file in files[name]:
        (place / file).write_text('{"id": "theirs", "pid": 1, "init_process_pid": 1}')
    use = f"use `{name} --root {runtime.root}` for it"
    expected = f"container `theirs` does not exist: {place} is a container of {name} (hint: {use})"
    for words in (["state"], ["start"], ["kill"], ["delete"], ["pause"]):
        assert expected == runtime.fails(*words, "theirs")
    assert (0, "", "") == tuple(runtime("delete", "--force", "theirs"))
    assert (0, "[]\n", "") == tuple(runtime("list", "--format", "json"))
    assert sorted(files[name]) == sorted(path.name for path in place.iterdir())
    shutil.rmtree(place)


def test_list_of_a_root_that_is_not_there(runtime: Runtime) -> None:
    """As runc: a root that was asked for has to be there, while the default is made with the first container."""
    message = runtime.fails("list")
    assert f"cannot use state directory {runtime.root}: no such file or directory" == message


# --- without a process


def test_create_without_process(runtime: Runtime, bundle: Bundle) -> None:
    """create succeeds; start fails, and changes nothing (PROC-01)."""
    del bundle.config["process"]
    runtime.create()
    assert "created" == runtime.state()["status"]
    message = runtime.fails("start", runtime.id)
    assert "/process: cannot start the container: config.json has no process" == message
    assert "created" == runtime.state()["status"]
    runtime.delete()
    runtime.assert_gone()


def test_create_without_process_writes_the_pid_file(runtime, bundle, tmp_path) -> None:
    """The container is recorded as created, and the engine gets the pid of its init."""
    del bundle.config["process"]
    pid_file = tmp_path / "pid"
    runtime.create("--pid-file", pid_file)

    assert str(runtime.state()["pid"]) == pid_file.read_text()
    assert "created" == json.loads((runtime.root / runtime.id / "record.json").read_text())["status"]


def test_create_without_process_explains_a_failure(runtime: Runtime, bundle: Bundle) -> None:
    """An operation that fails in the child is reported as in any other container."""
    del bundle.config["process"]
    bundle.mount("/data", "tmpfs", "nonsense=1")

    assert "cannot mount tmpfs on /data: fsconfig: invalid argument" in runtime.create_fails()


def test_run_without_process(runtime: Runtime, bundle: Bundle) -> None:
    """run can't go on, and leaves nothing behind."""
    del bundle.config["process"]
    assert "config.json has no process" in runtime.create_fails(verb="run")


# --- run


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("true", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
    ],
)
def test_exit_status(runtime: Runtime, bundle: Bundle, script: str, status: int) -> None:
    """run returns the program's status, 128 + n for signal n. A shell of its own, since init has no default actions."""
    bundle.shell(f"sh -c '{script}'; s=$?; exit $s")
    assert status == runtime.run().status
    runtime.assert_gone()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2])
def test_exit_status_of_a_killed_init(runtime: Runtime, bundle: Bundle, number: Any) -> None:
    """128 + n, when the container's own process was ended by a signal; it shares the host's pid namespace here."""
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "pid"]
    bundle.shell(f"kill -{int(number)} $$; sleep 100")
    assert 128 + number == runtime.run().status


@pytest.mark.parametrize("own_pids", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_created_container_is_asked_to_end(runtime: Runtime, bundle: Bundle, number: Any, own_pids: bool) -> None:
    """It does, though the first process of a pid namespace need not: no other process handles the signal. Others it
    ignores; once started the program decides.
    """
    if not own_pids:
        bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "pid"]
    bundle.program("sleep", 100)
    runtime.create()
    if own_pids:
        assert 0 == runtime("kill", runtime.id, "USR1").status
        assert "created" == runtime.state()["status"]
    assert 0 == runtime("kill", runtime.id, number.name).status
    runtime.wait("stopped")
    assert "cannot start a container that has stopped" == runtime.fails("start", runtime.id)
    runtime.delete()

    if own_pids:
        runtime.create()
        runtime.start()
        assert 0 == runtime("kill", runtime.id, number.name).status
        assert "running" == runtime.state()["status"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH + 6])
def test_signals_are_forwarded(runtime: Runtime, bundle: Bundle, number: Any) -> None:
    """What run receives the program receives."""
    bundle.shell(f"trap 'exit 42' {int(number)}; touch /ready; while true; do sleep 0.05; done").write()
    process = subprocess.Popen(runtime.command("run", "--bundle", bundle.folder, runtime.id), stdin=subprocess.DEVNULL)
    wait_for((bundle.rootfs / "ready").exists)
    process.send_signal(number)
    assert 42 == process.wait(PATIENCE)
    runtime.assert_gone()


def test_run_is_killed_with_its_program(runtime: Runtime, bundle: Bundle) -> None:
    """kill from another command ends a foreground run with 137."""
    bundle.program("sleep", 100).write()
    process = subprocess.Popen(runtime.command("run", "--bundle", bundle.folder, runtime.id), stdin=subprocess.DEVNULL)
    runtime.wait("running")
    assert 0 == runtime("kill", runtime.id, "KILL").status
    assert 137 == process.wait(PATIENCE)
    runtime.assert_gone()


def test_run_with_input(runtime: Runtime, bundle: Bundle) -> None:
    """The program reads what run is given."""
    bundle.program("cat").write()
    command = runtime.command("run", "--bundle", bundle.folder, runtime.id)
    done = subprocess.run(command, input=b"x" * 300000, capture_output=True, timeout=PATIENCE, check=True)
    assert b"x" * 300000 == done.stdout


def test_detached_run(runtime: Runtime, bundle: Bundle) -> None:
    """run --detach returns when the program runs."""
    bundle.program("sleep", 100)
    pid_file = runtime.folder / "pid"
    result = runtime.detached("run", "--detach", "--pid-file", pid_file, "--bundle", bundle.folder, runtime.id)
    assert ("", "") == (result.out, result.err)
    assert "running" == runtime.state()["status"]
    assert str(runtime.pid()) == pid_file.read_text()


def test_kept_after_run(runtime: Runtime, bundle: Bundle) -> None:
    """run --keep leaves the stopped container and its cgroup."""
    bundle.shell("exit 5")
    assert 5 == runtime.run("--keep").status
    assert "stopped" == runtime.state()["status"]
    assert [] != runtime.host.cgroups(runtime.id)
    runtime.delete()


def test_orphans_of_the_container_end_with_it(runtime: Runtime, bundle: Bundle) -> None:
    """What the program leaves running ends with the pid namespace; without one, with the cgroup."""
    bundle.shell("sleep 103 & true")
    assert 0 == runtime.run().status
    runtime.assert_gone()
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "pid"]
    assert 0 == runtime.run().status
    runtime.assert_gone()


# --- the program can't be run after all


def test_program_disappears_before_start(runtime: Runtime, bundle: Bundle) -> None:
    """start reports that execve failed; the container is gone, its poststop hooks have run (A-06)."""
    (bundle.rootfs / "prog").write_text("#!/bin/sh\n")
    (bundle.rootfs / "prog").chmod(0o755)
    bundle.program("/prog").hook("poststop", f"cat > {runtime.folder}/poststop")
    runtime.create()
    (bundle.rootfs / "prog").unlink()
    assert '/process/args/0: exec: "/prog": no such file or directory' == runtime.fails("start", runtime.id)
    runtime.assert_gone()
    assert "stopped" == json.loads((runtime.folder / "poststop").read_text())["status"]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"echo hi\n", "it is neither a program for this machine nor a script with a `#!` line"),
        (b"", "the file is empty"),
        (b"#!\n", "its `#!` line names no interpreter"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x16\0" + bytes(64), "the program was made for s390x"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x39\x30" + bytes(64), "the program was made for ELF machine 12345"),
    ],
    ids=["text", "empty", "no interpreter", "other machine", "unknown machine"],
)
def test_program_in_an_unknown_format(runtime: Runtime, bundle: Bundle, content: bytes, hint: str) -> None:
    """The kernel's own word, at start, with what is wrong with the file."""
    (bundle.rootfs / "prog").write_bytes(content)
    (bundle.rootfs / "prog").chmod(0o755)
    bundle.program("/prog")
    runtime.create()
    message = runtime.fails("start", runtime.id)
    assert f'/process/args/0: exec: "/prog": exec format error (hint: {hint})' == message
    runtime.assert_gone()


def test_run_of_no_program(runtime: Runtime, bundle: Bundle) -> None:
    """The same in the foreground."""
    (bundle.rootfs / "prog").write_text("echo hi\n")
    (bundle.rootfs / "prog").chmod(0o755)
    bundle.program("/prog")
    assert "exec format error" in runtime.create_fails(verb="run")


# --- the process of the state


def test_main_thread_may_end(runtime: Runtime, bundle: Bundle) -> None:
    """A program whose first thread has ended runs on in the others: it is not stopped."""
    source = runtime.folder / "threads.c"
    source.write_text(
        "#include <pthread.h>\n#include <unistd.h>\n"
        "static void *wait_for_ever(void *x) { for (;;) pause(); return x; }\n"
        'int main(void) { pthread_t t; pthread_create(&t, 0, wait_for_ever, 0); write(1, "!", 1); pthread_exit(0); }\n'
    )
    subprocess.run(["cc", "-w", "-static", "-pthread", source, "-o", bundle.rootfs / "threads"], check=True)
    bundle.program("/threads")
    runtime.create()
    runtime.start()
    pid = runtime.pid()
    wait_for(lambda: re.search(r"\) Z ", Path(f"/proc/{pid}/stat").read_text()))
    assert ("running", pid) == (runtime.state()["status"], runtime.pid())
    assert 0 == runtime("kill", runtime.id, "KILL").status
    runtime.wait("stopped")


def test_pid_of_another_process(runtime: Runtime, bundle: Bundle, bystander: subprocess.Popen[Any]) -> None:
    """A pid that the kernel has given to another process is not the container's: stopped, and never signalled."""
    bundle.program("sleep", 100)
    runtime.create()
    os.kill(runtime.pid(), signal.SIGKILL)
    runtime.wait("stopped")
    record = {**runtime.record(), "pid": bystander.pid}
    (runtime.root / runtime.id / "record.json").write_text(json.dumps(record))
    assert "stopped" == runtime.state()["status"]
    assert "container not running" in runtime.fails("kill", runtime.id, "KILL")
    runtime.delete()
    assert bystander.poll() is None


def test_cgroup_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    """An absolute cgroupsPath counts from the mount; the container's process is there."""
    path = f"/{runtime.host.token}/a/b"
    bundle.linux["cgroupsPath"] = path
    bundle.program("sleep", 100)
    runtime.create()
    assert f"0::{path}\n" in Path(f"/proc/{runtime.pid()}/cgroup").read_text()
    assert [str(runtime.pid())] == Path(f"{cgroup_mount()}{path}/cgroup.procs").read_text().split()
    runtime.delete("--force")
    assert [] == runtime.host.cgroups()


def test_times(runtime: Runtime, bundle: Bundle) -> None:
    """`created` is the time of creation, in UTC."""
    before = time.time()
    runtime.create()
    text = runtime.state()["created"]
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{9}Z", text)
    seconds = time.mktime(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 1 <= seconds <= time.time()
