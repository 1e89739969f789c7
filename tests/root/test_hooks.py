"""Hooks of all six kinds: order, namespaces, the state on stdin, and what becomes of failures."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import PATIENCE, Bundle, Runtime, wait_for

pytestmark = pytest.mark.root

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
IN_CREATE = KINDS[:3]
ON_HOST = ("prestart", "createRuntime", "poststart", "poststop")
STATUSES = dict(zip(KINDS, ("creating", "creating", "creating", "created", "running", "stopped"), strict=True))


def record_states(bundle: Bundle, folder: Path) -> dict[str, Path]:
    """Each hook keeps its state document; startContainer inside of the root filesystem. Returns where, by kind."""
    places = {kind: folder / f"{kind}.json" for kind in KINDS}
    places["startContainer"] = bundle.rootfs / "startContainer.json"
    for kind, place in places.items():
        inside = "/startContainer.json" if kind == "startContainer" else place
        bundle.hook(kind, f"cat > {inside}")
    return places


def test_order_and_states(runtime: Runtime, bundle: Bundle) -> None:
    """Each hook runs at its time, and reads the container's state."""
    places = record_states(bundle, runtime.folder)
    bundle.shell("test -e /startContainer.json && touch /ran; sleep 100")
    bundle.config["annotations"] = {"a": "b"}

    def seen():
        return {kind for kind, place in places.items() if place.exists()}

    runtime.create()
    assert set(IN_CREATE) == seen()
    runtime.start()
    assert set(KINDS[:5]) == seen()
    wait_for((bundle.rootfs / "ran").exists)
    pid = runtime.pid()
    runtime.delete("--force")
    assert set(KINDS) == seen()
    times = [places[kind].stat().st_mtime_ns for kind in KINDS]
    assert sorted(times) == times

    for kind, place in places.items():
        state = json.loads(place.read_text())
        assert STATUSES[kind] == state["status"], kind
        assert (runtime.id, str(bundle.folder), {"a": "b"}) == (state["id"], state["bundle"], state["annotations"])
        inner = 1 if kind in ("createContainer", "startContainer") else pid
        assert (0 if kind == "poststop" else inner) == state["pid"], kind
        assert "1.3.0" == state["ociVersion"]


def test_several_of_a_kind(runtime: Runtime, bundle: Bundle) -> None:
    """In the order of the list, each with the whole state, whatever the one before did with it."""
    log = runtime.folder / "log"
    for kind in KINDS:
        where = "/log" if kind == "startContainer" else log
        bundle.hook(kind, f"true <&0; exec 0</dev/null; echo {kind} 1 >> {where}")
        bundle.hook(kind, f"head -c 5 >/dev/null; echo {kind} 2 >> {where}")
        bundle.hook(kind, f"cat > /dev/null; grep -q ociVersion; echo {kind} 3 $? >> {where}")
        bundle.hook(kind, f"grep -c ociVersion >> {where}")
    assert 0 == runtime.run().status
    text = log.read_text()
    outside = [kind for kind in KINDS if kind != "startContainer"]
    assert "".join(f"{kind} 1\n{kind} 2\n{kind} 3 1\n1\n" for kind in outside) == text
    assert "startContainer 1\nstartContainer 2\nstartContainer 3 1\n1\n" == (bundle.rootfs / "log").read_text()


def test_where_they_run(runtime: Runtime, bundle: Bundle) -> None:
    """createContainer runs the host's program in the container's namespaces, startContainer the container's; the
    others, and all paths but startContainer's, are the host's.
    """
    show = "for n in mnt net pid uts ipc cgroup; do readlink /proc/self/ns/$n; done"
    for kind in KINDS:
        where = "/ns" if kind == "startContainer" else runtime.folder / f"{kind}.ns"
        bundle.hook(kind, f"{show} > {where}")
    bundle.program("sleep", 100)
    runtime.create()
    inside = [os.readlink(f"/proc/{runtime.pid()}/ns/{name}") for name in ("mnt", "net", "pid", "uts", "ipc", "cgroup")]
    host = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "pid", "uts", "ipc", "cgroup")]
    runtime.start()
    runtime.delete("--force")
    for kind in ON_HOST:
        assert host == (runtime.folder / f"{kind}.ns").read_text().split(), kind
    assert inside == (bundle.rootfs / "ns").read_text().split()
    assert inside == (runtime.folder / "createContainer.ns").read_text().split()


def test_create_container_hook_sees_the_mounts(runtime: Runtime, bundle: Bundle) -> None:
    """Before the root is pivoted: the mounts stand below the root filesystem, in the container only."""
    bundle.mount("/mnt", "tmpfs", "size=64k")
    bundle.hook(
        "createContainer", f"touch {bundle.rootfs}/mnt/here && grep ' {bundle.rootfs}/mnt ' /proc/self/mountinfo"
    )
    assert "here\n" == runtime.shell("ls /mnt")
    assert not (bundle.rootfs / "mnt/here").exists()


def test_create_container_hook_can_mount(runtime: Runtime, bundle: Bundle) -> None:
    """What it mounts below the root filesystem the program sees, as engines' hooks for devices need it."""
    source = runtime.folder / "source"
    source.write_text("bound by a hook\n")
    (bundle.rootfs / "target").touch()
    bundle.hook("createContainer", f"mount --bind {source} {bundle.rootfs}/target", path="/bin/sh")
    assert "bound by a hook\n" == runtime.shell("cat /target")
    assert "" == (bundle.rootfs / "target").read_text()


@pytest.mark.parametrize("how", [(), ("--no-pivot",)], ids=["pivot", "no pivot"])
@pytest.mark.parametrize("namespace", ["host", "user"])
@pytest.mark.parametrize("link", [False, True], ids=["folder", "link"])
def test_create_container_hook_begins_in_the_bundle_of_the_container(
    runtime: Runtime, bundle: Bundle, namespace: str, link: bool, how: tuple[str, ...]
) -> None:
    """Its working directory is the bundle in the container's mount namespace: the container's mounts are there, and
    what
    the hook mounts by a relative path the program sees."""
    (runtime.folder / "source").write_text("bound by a hook\n")
    (bundle.rootfs / "target").touch()
    if namespace == "user":
        bundle.in_user_namespace()
    path = f"PATH={os.environ['PATH']}"
    script = "pwd -P; ls rootfs/proc/self/ns | grep mnt; mount --bind ../source rootfs/target"
    bundle.hook("createContainer", f"({script}) > {runtime.folder}/said 2>&1", env=[path])
    (runtime.folder / "said").touch()
    (runtime.folder / "said").chmod(0o666)
    folder = bundle.folder
    if link:
        folder = runtime.folder / "link"
        folder.symlink_to(bundle.folder)
    bundle.shell("cat /target").write()
    result = runtime("run", "--bundle", folder, *how, runtime.id)
    assert f"{bundle.folder}\nmnt\n" == (runtime.folder / "said").read_text()
    assert (0, "bound by a hook\n", "") == tuple(result)
    assert "" == (bundle.rootfs / "target").read_text()


def test_start_container_hook_begins_where_the_program_does(runtime: Runtime, bundle: Bundle) -> None:
    """In the container, in the working directory of its process."""
    (bundle.rootfs / "work").mkdir()
    bundle.process["cwd"] = "/work"
    bundle.hook("startContainer", "pwd > /said")
    assert "/work\n" == runtime.shell("cat /said")


def test_bundle_that_the_containers_mount_namespace_has_not(runtime: Runtime, bundle: Bundle) -> None:
    """A joined mount namespace with another directory at the bundle's path: a hook that would begin there is
    refused.
    """
    (runtime.folder / "other").mkdir()
    bundle.config["root"]["path"] = str(bundle.rootfs.rename(runtime.folder / "rootfs"))
    script = f"mount --bind {runtime.folder}/other {bundle.folder} && echo && exec sleep 100"
    other = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE)
    runtime.host.ours(other.pid)
    try:
        assert b"\n" == other.stdout.readline()
        bundle.namespace("mount", f"/proc/{other.pid}/ns/mnt").program("true")
        bundle.hook("createContainer", "true")
        assert runtime.create_fails() == (
            f"/hooks/createContainer: cannot enter bundle {bundle.folder} in the container's mount namespace: "
            "it was replaced by something else in the meantime"
        )
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


@pytest.mark.parametrize("kind", KINDS)
def test_argv_and_environment(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """args is the whole argv; the environment is what the config says and nothing else."""
    inside = kind == "startContainer"
    where = "/seen" if inside else runtime.folder / "seen"
    entry = {
        "path": "/bin/busybox",
        "args": [
            "sh",
            "-c",
            f'tr "\\0" "\\n" < /proc/self/environ > {where}; echo "$0 $1" >> {where}',
            "zero",
            "one two",
        ],
        "env": ["A=1", "PATH=/bin:/usr/bin", "EMPTY="],
    }
    bundle.config["hooks"] = {kind: [entry]}
    bundle.process["env"].append("SECRET=1")
    assert 0 == runtime.run(env={"RUNTIME": "1"}).status
    seen = (bundle.rootfs / "seen" if inside else runtime.folder / "seen").read_text()
    assert "A=1\nPATH=/bin:/usr/bin\nEMPTY=\nzero one two\n" == seen


def test_environment_of_a_start_container_hook(runtime: Runtime, bundle: Bundle) -> None:
    """Without `env` it is the program's, HOME included; with an empty one it is empty."""
    script = {"path": "/bin/busybox", "args": ["sh", "-c", "/bin/cat < /proc/self/environ > /seen; true"]}
    bundle.config["hooks"] = {"startContainer": [script]}
    bundle.process["env"] = ["ONE=1", "ONE=two", "PATH=/bin"]
    assert 0 == runtime.run(env={"RUNTIME": "1"}).status
    assert "ONE=two\0PATH=/bin\0HOME=/root\0" == (bundle.rootfs / "seen").read_text()
    bundle.config["hooks"] = {"startContainer": [{**script, "env": []}]}
    assert 0 == runtime.run(env={"RUNTIME": "1"}).status
    assert "" == (bundle.rootfs / "seen").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_descriptors_and_signals(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """A hook has its state, its output, and no descriptor more; no signal is ignored or blocked."""
    where = "/seen" if kind == "startContainer" else runtime.folder / "seen"
    script = f"grep -E '^Sig(Blk|Ign)' /proc/self/status > {where}; ls /proc/self/fd >> {where}"
    bundle.hook(kind, script)
    with (runtime.folder / "leak").open("w") as leak:
        os.set_inheritable(leak.fileno(), True)
        assert 0 == runtime.run(close_fds=False).status
    seen = (bundle.rootfs / "seen" if kind == "startContainer" else runtime.folder / "seen").read_text()
    blocked, ignored, *descriptors = seen.splitlines()
    assert ("SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000") == (blocked, ignored)
    assert ["0", "1", "2", "3"] == descriptors  # 3 is the directory that ls reads


def test_created_until_the_program_runs(runtime: Runtime, bundle: Bundle) -> None:
    """While a startContainer hook runs, the program does not yet (ST-03)."""
    bundle.hook("startContainer", "touch /began; while ! test -e /go; do sleep 0.02; done").program("sleep", 100)
    runtime.create()
    with subprocess.Popen(runtime.command("start", runtime.id)) as start:
        wait_for((bundle.rootfs / "began").exists)
        assert "created" == runtime.state()["status"]
        (bundle.rootfs / "go").touch()
        assert 0 == start.wait(PATIENCE)
    assert "running" == runtime.state()["status"]


def test_start_is_killed_while_its_hook_runs(runtime: Runtime, bundle: Bundle) -> None:
    """The next start goes on with it: it waits for the program, and runs the poststart hooks."""
    bundle.hook("startContainer", "touch /began; while ! test -e /go; do sleep 0.02; done").program("sleep", 100)
    bundle.hook("poststart", f"touch {runtime.folder}/poststart")
    runtime.create()
    with subprocess.Popen(runtime.command("start", runtime.id)) as start:
        wait_for((bundle.rootfs / "began").exists)
        start.kill()
    assert "created" == runtime.state()["status"]
    with subprocess.Popen(runtime.command("start", runtime.id)) as start:
        time.sleep(0.2)
        (bundle.rootfs / "go").touch()
        assert 0 == start.wait(PATIENCE)
    assert "running" == runtime.state()["status"]
    assert (runtime.folder / "poststart").exists()


# --- failures


@pytest.mark.parametrize("kind", KINDS[:5])
@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ({"path": "/bin/sh", "args": ["sh", "-c", "echo oh no >&2; exit 3"]}, "exited with status 3: oh no"),
        ({"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $$"]}, "was killed by signal 9"),
        ({"path": "/nosuch"}, "cannot run /nosuch: no such file or directory"),
        ({"path": "/etc/passwd"}, "cannot run /etc/passwd: permission denied"),
    ],
    ids=["status", "signal", "missing", "not executable"],
)
def test_failure(runtime: Runtime, bundle: Bundle, kind: str, hook: dict[str, Any], why: str) -> None:
    """The operation fails, names the hook, runs no later one, and leaves nothing; poststop has run (LIFE-15)."""
    bundle.config["hooks"] = {kind: [{"path": "/bin/true"}, hook, {"path": "/bin/touch", "args": ["touch", "/later"]}]}
    bundle.hook("poststop", f"cat > {runtime.folder}/poststop")
    bundle.shell("touch /ran; sleep 100")
    if kind in IN_CREATE:
        message = runtime.create_fails()
    else:
        runtime.create()
        message = runtime.fails("start", runtime.id)
        runtime.assert_gone()
    assert message.startswith(f"/hooks/{kind}/1: error running {kind} hook #1: ")
    assert message.endswith(why)
    assert {} == runtime.state()
    stopped = json.loads((runtime.folder / "poststop").read_text())
    assert (runtime.id, "stopped", 0) == (stopped["id"], stopped["status"], stopped["pid"])
    assert not Path("/later").exists()
    assert not (bundle.rootfs / "later").exists()
    if kind != "poststart":
        assert not (bundle.rootfs / "ran").exists()


@pytest.mark.parametrize("kind", KINDS[:5])
def test_failure_of_run(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """The same in the foreground."""
    bundle.hook(kind, "exit 3").hook("poststop", f"touch {runtime.folder}/poststop").shell("sleep 100")
    assert f"/hooks/{kind}/0: error running {kind} hook #0: /bin/sh exited with status 3" == runtime.create_fails(
        verb="run"
    )
    assert (runtime.folder / "poststop").exists()


def test_hook_under_the_filter(runtime: Runtime, bundle: Bundle) -> None:
    """A startContainer hook is the container's: the error says that the filter stopped it."""
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    bundle.hook("startContainer", "exec mkdir /tmp/folder").program("true")
    what = "/bin/sh was killed by signal 31, bad system call: the seccomp filter forbids it"
    message = f"/hooks/startContainer/0: error running startContainer hook #0: {what}"
    assert message == runtime.create_fails(verb="run")


def test_bad_system_call_of_the_host(runtime: Runtime, bundle: Bundle) -> None:
    """No other hook runs under the container's filter: it is not to blame."""
    bundle.hook("createContainer", "kill -SYS $$").program("true")
    what = "/bin/sh was killed by signal 31, bad system call"
    assert runtime.create_fails() == f"/hooks/createContainer/0: error running createContainer hook #0: {what}"


def test_create_that_fails_after_hooks(runtime: Runtime, bundle: Bundle) -> None:
    """What createRuntime hooks set up on the host is for poststop hooks to take down, whatever create fails for."""
    bundle.hook("createRuntime", f"touch {runtime.folder}/network").hook("poststop", f"rm {runtime.folder}/network")
    bundle.hook("poststop", f"cat > {runtime.folder}/stopped").program("/no/such")
    assert runtime.create_fails().startswith("/process/args/0: ")
    assert not (runtime.folder / "network").exists()
    assert "stopped" == json.loads((runtime.folder / "stopped").read_text())["status"]


def test_create_that_fails_before_hooks(runtime: Runtime, bundle: Bundle) -> None:
    """No hook has run, so there is nothing to take down."""
    bundle.hook("createRuntime", f"touch {runtime.folder}/hook").hook("poststop", f"touch {runtime.folder}/hook")
    bundle.mount("/x", "nosuchfs")
    assert runtime.create_fails().startswith("/mounts/")
    assert not (runtime.folder / "hook").exists()


@pytest.mark.parametrize("ending", ["program", "startContainer", "poststart"])
def test_failing_poststop_of_run(runtime: Runtime, bundle: Bundle, ending: str) -> None:
    """A warning there, too, also when the start has failed; the error comes last."""
    bundle.hook("poststop", "exit 3").program("/bin/true").write()
    if ending != "program":
        bundle.hook(ending, "exit 4").write()
    command = [runtime.executable, "--root", runtime.root, "run", "--bundle", bundle.folder, runtime.id]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    lines = ["warning: /hooks/poststop/0: error running poststop hook #0: /bin/sh exited with status 3"]
    if ending != "program":
        lines.append(f"/hooks/{ending}/0: error running {ending} hook #0: /bin/sh exited with status 4")
    assert lines == done.stderr.splitlines()
    assert (ending != "program") == done.returncode


def test_failing_poststop(runtime: Runtime, bundle: Bundle) -> None:
    """A warning; the hooks after it run, and delete succeeds (LIFE-13)."""
    bundle.hook("poststop", "exit 3").hook("poststop", f"touch {runtime.folder}/second").program("true")
    runtime.create()
    runtime.start()
    runtime.wait("stopped")
    log = runtime.folder / "warnings"
    result = subprocess.run(
        [runtime.executable, "--root", runtime.root, "--debug", f"--log={log}", "--log-format=json", "delete",
         runtime.id],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("", "") == (result.stdout, result.stderr)
    assert ("warning", "/hooks/poststop/0: error running poststop hook #0: /bin/sh exited with status 3") in [
        (json.loads(line)["level"], json.loads(line)["msg"]) for line in log.read_text().splitlines()
    ]
    assert (runtime.folder / "second").exists()
    runtime.assert_gone()


@pytest.mark.parametrize("kind", KINDS)
def test_timeout(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """At its timeout a hook is killed with what it has started."""
    bundle.hook(kind, "sleep 104 & sleep 104", timeout=1).program("sleep", 100)
    before = time.monotonic()
    if kind == "poststop":
        runtime.create()
        runtime("delete", "--force", runtime.id)
    elif kind in IN_CREATE:
        assert f"/hooks/{kind}/0: error running {kind} hook #0: /bin/sh timed out after 1 s" == runtime.create_fails()
    else:
        runtime.create()
        assert f"/hooks/{kind}/0: error running {kind} hook #0: /bin/sh timed out after 1 s" == runtime.fails(
            "start", runtime.id
        )
    assert 1 <= time.monotonic() - before < PATIENCE
    runtime.assert_gone()


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_output(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """However much a failing hook writes, the message has its beginning, on one line that can't speak to a terminal."""
    bundle.hook(kind, "printf 'first\\n\\033[31m'; yes | head -c 3000000; exit 1").program("true")
    if kind == "startContainer":
        runtime.create()
        message = runtime.fails("start", runtime.id)
    else:
        message = runtime.create_fails()
    assert message.startswith(
        f"/hooks/{kind}/0: error running {kind} hook #0: /bin/sh exited with status 1: first\\n\\x1b[31my\\ny"
    )
    assert len(message) < 8192


def test_output_of_a_good_hook(runtime: Runtime, bundle: Bundle) -> None:
    """It is nobody's."""
    for kind in KINDS:
        bundle.hook(kind, "echo out; echo err >&2")
    assert "program\n" == runtime.shell("echo program")


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_daemon_of_a_hook(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """A hook that leaves a process behind, with its output open, delays nothing."""
    daemon = runtime.folder / "daemon"
    script = f"setsid sh -c 'echo $$ > {daemon}; exec sleep 1000' & until test -s {daemon}; do sleep 0.02; done"
    bundle.hook(kind, script).program("true")
    assert 0 == runtime.run().status  # long before it ends
    if kind == "createRuntime":  # the other one was the container's, and is gone
        os.kill(int(daemon.read_text()), 9)


@pytest.mark.parametrize("words", [["KILL"], ["TERM"], ["--all", "KILL"]], ids=" ".join)
def test_kill_while_a_hook_of_create_runs(runtime: Runtime, bundle: Bundle, words: list[str]) -> None:
    """A container that is neither created nor running is not signalled; create goes on as if nothing had been
    (OP-09).
    """
    hold = runtime.folder / "hold"
    hold.touch()
    script = f"touch {runtime.folder}/running; while [ -e {hold} ]; do sleep 0.01; done"
    bundle.hook("createRuntime", script).program("true").write()
    *options, signal = words
    with subprocess.Popen(
        runtime.command("create", "--bundle", bundle.folder, runtime.id), stdin=subprocess.DEVNULL
    ) as create:
        try:
            wait_for((runtime.folder / "running").exists)
            message = runtime.fails("kill", *options, runtime.id, signal)
            assert "creating" == runtime.state()["status"]
        finally:
            hold.unlink()
    assert "cannot signal a container that is still being created" == message
    assert (0, "created") == (create.returncode, runtime.state()["status"])
    assert 0 == runtime("kill", *words[:-1], runtime.id, "KILL").status
    runtime.wait("stopped")
    runtime.delete()


def test_signalled_runtime(runtime: Runtime, bundle: Bundle) -> None:
    """create is killed while a hook runs: the hook goes with it."""
    bundle.hook("createRuntime", f"touch {runtime.folder}/running; exec sleep 100").write()
    command = runtime.command("create", "--bundle", bundle.folder, runtime.id)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for((runtime.folder / "running").exists)
    process.kill()
    process.wait()
    assert [] == runtime.host.processes()
    assert re.match("stopped|creating", runtime.state()["status"])
    runtime.delete("--force")
