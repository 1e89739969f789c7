"""Hooks that misbehave, and images that would like to be run by them."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import Attack
from tests.support.runtime import AT_ONCE, PATIENCE, kill, wait_for

pytestmark = pytest.mark.root

ON_HOST = ("prestart", "createRuntime", "createContainer")
AT_CREATE = ON_HOST
KINDS = (*ON_HOST, "startContainer", "poststart", "poststop")


def hook(script: str, **more: Any) -> dict[str, Any]:
    """A hook that is a shell with this script."""
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def set_hook(attack: Attack, kind: str, *entries: dict[str, Any]) -> None:
    attack.config["hooks"] = {kind: list(entries)}


def processes(marker: str) -> list[int]:
    """Live processes with `marker` in their command line."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line:
                found.append(int(entry))
    return found


def seconds(attack: Attack) -> str:
    """A number of seconds that no other process sleeps for: it tells whose a sleeping process is."""
    return str(int(attack.id[2:9], 16) + 10_000_000)


# ── environment and descriptors ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_environment_is_the_hooks(attack: Attack, kind: str) -> None:
    """CVE-2025-23266 (NVIDIAScape): nothing of the container's or the runtime's environment is in a hook's."""
    out = "/told" if kind == "startContainer" else str(attack.folder / "told")
    attack.process["env"] = ["PATH=/evil", "LD_PRELOAD=/evil.so", "PYTHONPATH=/evil", "HOME=/evil", "BASH_ENV=/evil"]
    attack.process["args"] = ["/bin/true"]
    script = f"cat /proc/self/environ | tr '\\0' '\\n' > {out}.env; ls -l /proc/self/fd > {out}.fds; pwd > {out}.pwd"
    set_hook(attack, kind, hook(script, env=["ONLY=this", "PATH=/usr/bin:/bin"]))
    result = attack.run(env={"LD_BIND_NOW": "1", "PYTHONSTARTUP": "/evil", "FROM_CALLER": "1"})
    assert 0 == result.status, result
    told = attack.rootfs / "told" if kind == "startContainer" else attack.folder / "told"
    names = {line.split("=")[0] for line in Path(f"{told}.env").read_text().split()}
    assert {"ONLY", "PATH"} <= names <= {"ONLY", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}
    fds = re.findall(r" (\d+) -> (.*)", Path(f"{told}.fds").read_text())
    assert {"0", "1", "2"} <= {fd for fd, _ in fds} <= {"0", "1", "2", "3"}
    assert all(link.startswith("/proc/") for fd, link in fds if fd == "3")  # of ls itself
    if kind != "startContainer":
        assert str(attack.bundle.folder) == Path(f"{told}.pwd").read_text().strip()


def test_environment_is_empty_without_one(attack: Attack) -> None:
    """A hook without `env` has none."""
    program = attack.folder / "hook"
    program.write_text(f"#!/bin/sh\nexec /bin/busybox env > {attack.folder}/told\n")
    program.chmod(0o755)
    set_hook(attack, "createRuntime", {"path": str(program)})
    assert 0 == attack.run(env={"FROM_CALLER": "1"}).status
    names = {line.split("=")[0] for line in (attack.folder / "told").read_text().split()}
    assert names <= {"PWD", "SHLVL", "_", "OLDPWD", "PATH"}


# ── time and output ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["prestart", "createContainer", "startContainer", "poststop"])
def test_timeout_kills_children_too(attack: Attack, kind: str) -> None:
    """At its timeout a hook is killed with what it started."""
    mark = seconds(attack)
    set_hook(attack, kind, hook(f"sleep {mark} & sleep {mark} & trap '' TERM INT; sleep {mark}", timeout=1))
    before = time.monotonic()
    result = attack.run()
    assert PATIENCE > time.monotonic() - before
    assert kind == "poststop" or (1, True) == (result.status, "timed out after 1 s" in result.err), result
    wait_for(lambda: not processes(f"sleep\0{mark}"))


@pytest.mark.parametrize("timeout", [2_147_483, 2_147_484, 4_294_968, 2**31, 2**53, 2**63 - 1])
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
def test_timeout_is_huge(attack: Attack, kind: str, timeout: int) -> None:
    """A timeout in seconds whose milliseconds do not fit 32 or 64 bits is long, not past."""
    set_hook(attack, kind, hook("sleep 0.05", timeout=timeout))
    result = attack.run()
    assert (0, "") == (result.status, result.err)


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"])
def test_child_writes_for_ever(attack: Attack, kind: str) -> None:
    """A process that a hook leaves behind, and that never stops to write, does not delay the runtime."""
    mark = seconds(attack)
    writer = f"exec /bin/busybox dd if=/dev/zero bs=64k count={mark}"
    script = " ".join([f"({writer}) &"] * 6) + " sleep 0.1; exit 0"
    set_hook(attack, kind, hook(script))
    result = attack.run()
    assert 0 == result.status
    assert AT_ONCE > result.seconds
    for pid in processes(f"count={mark}"):  # a broken pipe has ended most of them
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_output_is_a_gigabyte(attack: Attack, kind: str, status: int) -> None:
    """CVE-2022-1708, CVE-2022-31030: output is read, cut and dropped; memory does not grow with it."""
    size = 1024 if kind == "createRuntime" and status else 128
    script = f"/bin/busybox dd if=/dev/zero bs=1M count={size} >&2; exit {status}"
    set_hook(attack, kind, hook(script))
    attack.bundle.write()
    command = attack.command("run", "--bundle", attack.bundle.folder, attack.id)
    limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (96 << 20, 96 << 20))  # noqa: E731
    with (attack.folder / "out").open("wb") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=limit, timeout=60,
                              check=False)  # fmt: skip
    assert status == done.returncode
    assert 9000 > (attack.folder / "out").stat().st_size
    assert status == 0 or b"exited with status 1: \\x00" in (attack.folder / "out").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_stdin_is_closed_at_once(attack: Attack, kind: str) -> None:
    """A hook that does not read the state causes no broken pipe."""
    attack.config["annotations"] = {"filler": "x" * 100_000}
    set_hook(attack, kind, hook("exec 0<&- 1>&- 2>&-; exit 0"))
    assert 0 == attack.run().status


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_state_can_not_be_changed(attack: Attack, kind: str) -> None:
    """The state on one hook's stdin is the state on the next one's."""
    vandal = "exec 3<>/dev/stdin; echo garbage >&3; truncate -s 0 /dev/stdin; cat > /dev/null; true"
    check = f"cat > {attack.folder}/told"
    set_hook(attack, kind, hook(vandal + " 2>/dev/null"), hook(check))
    assert 0 == attack.run().status
    assert attack.id == json.loads((attack.folder / "told").read_text())["id"]


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("command", ["create", "run"])
def test_runtime_is_killed_while_a_hook_sleeps(attack: Attack, command: str, number: int, kind: str) -> None:
    """A signal ends the runtime while a hook without a timeout runs, and with it the hook and the first process."""
    mark = seconds(attack)
    set_hook(attack, kind, hook(f"echo > {attack.folder}/sleeping; exec sleep {mark}"))
    attack.bundle.write()
    words = attack.command(command, "--bundle", attack.bundle.folder, attack.id)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for((attack.folder / "sleeping").exists)
        process.send_signal(number)
        assert 0 != process.wait(PATIENCE)
        wait_for(lambda: not processes(f"sleep\0{mark}"))
    finally:
        kill(process)
        for pid in processes(f"sleep\0{mark}"):
            os.kill(pid, signal.SIGKILL)


def test_parent_dies_without_a_word(attack: Attack) -> None:
    """The first process sees its parent's end by its socket as well, and not by the parent-death signal alone."""
    mark = seconds(attack)
    set_hook(attack, "createRuntime", hook(f"echo > {attack.folder}/sleeping; exec sleep {mark}"))
    attack.bundle.write()
    # prctl does nothing: no parent-death signal is ever set
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=prctl", "-e", "inject=prctl:retval=0",
             *attack.command("create", "--bundle", attack.bundle.folder, attack.id)]  # fmt: skip
    tracer = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for((attack.folder / "sleeping").exists)
        children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        for pid in processes(f"sleep\0{mark}"):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not attack_processes(attack))
    finally:
        for pid in attack_processes(attack):
            os.kill(pid, signal.SIGKILL)
        kill(tracer)


def attack_processes(attack: Attack) -> list[int]:
    """Processes of the container's cgroup."""
    found = []
    for path in attack.cgroups():
        found += [int(pid) for pid in Path(path, "cgroup.procs").read_text().split()]
    return found


# ── hooks that can't run ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [*ON_HOST, "startContainer", "poststart"])
@pytest.mark.parametrize("what", ["missing", "folder", "not executable", "no format", "relative link", "fifo", "loop"])
def test_hook_cannot_be_executed(attack: Attack, kind: str, what: str) -> None:
    """A hook that can't be executed is an error that names it, in bounded time."""
    folder = attack.rootfs if kind == "startContainer" else attack.folder
    place = folder / "hook"
    if what == "folder":
        place.mkdir()
    elif what == "not executable":
        place.write_text("#!/bin/sh\n")
    elif what == "no format":
        place.write_bytes(b"\x7fELF")
        place.chmod(0o755)
    elif what == "fifo":
        os.mkfifo(place, 0o755)
    elif what in ("relative link", "loop"):
        place.symlink_to("hook" if what == "loop" else "nowhere")
    set_hook(attack, kind, {"path": "/hook" if kind == "startContainer" else str(place)})
    result = attack.run()
    assert (1, True) == (result.status, f"/hooks/{kind}/0: error running {kind} hook #0: cannot run" in result.err), (
        result
    )
    assert AT_ONCE > result.seconds


@pytest.mark.parametrize("kind", [*ON_HOST, "startContainer"])
def test_failing_hook_stops_the_container(attack: Attack, kind: str) -> None:
    """After a hook that failed, or was killed, no later one runs and no program starts."""
    out = "/told" if kind == "startContainer" else f"{attack.folder}/told"
    attack.process["args"] = ["/bin/touch", "/ran"]
    for script in ("exit 3", "kill -KILL $$"):
        set_hook(attack, kind, hook(script), hook(f"echo > {out}"))
        result = attack.run()
        assert 1 == result.status
        assert not (attack.rootfs / "ran").exists()
        assert not (attack.rootfs / "told").exists()
        assert not (attack.folder / "told").exists()


# ── startContainer hooks are programs of the image ──────────────────────────────────────────────────────


def test_swapped_start_container_hook(attack: Attack, probe: Path) -> None:
    """CVE-2019-14271's class: a startContainer hook comes from the image, so it has the container's rights alone.

    No capability more, no descriptor of the host, the container's seccomp filter, no way to the runtime's memory.
    """
    assert 0 == os.geteuid()
    attack.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    attack.process["capabilities"] = {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")}
    attack.process["noNewPrivileges"] = True
    attack.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    (attack.rootfs / "open").mkdir()
    (attack.rootfs / "open").chmod(0o777)
    shutil.copy(probe, attack.rootfs / "bin/probe")
    script = (
        "cd /open; /bin/probe escape > escaped; mkdir x 2> mkdir; readlink /proc/1/exe > exe; readlink /proc/1/root > root;"
        "ls /proc/1/fd > fds; echo x > /proc/1/mem; echo done > end"
    )
    set_hook(attack, "startContainer", hook(script, env=["PATH=/bin"]))
    attack.process["args"] = ["/bin/cat", "/open/end"]
    result = attack.run()
    assert (0, "done\n") == (result.status, result.out), result
    told = (attack.rootfs / "open/escaped").read_text()
    for line in ("uid=1000 1000 1000", "gid=1000 1000 1000", "Groups=7", "CapPrm=0000000000000000", "NoNewPrivs=1",
                 "CapBnd=0000000000000020", "CapInh=0000000000000000", "CapAmb=0000000000000000", "Seccomp=2",
                 "SigBlk=0000000000000000", "SigIgn=0000000000000000", "getcwd=/open"):  # fmt: skip
        assert f"{line}\n" in told
    fds = {line.split("=")[0] for line in told.splitlines() if line.startswith("fd")}
    assert {"fd0", "fd1", "fd2"} == fds
    assert "not supported" in (attack.rootfs / "open/mkdir").read_text()
    assert ["", "", ""] == [(attack.rootfs / "open" / name).read_text() for name in ("exe", "root", "fds")]


def test_start_container_hook_is_self(attack: Attack) -> None:
    """CVE-2019-5736: a startContainer hook that is /proc/self/exe does not run the runtime as a container's program."""
    attack.link("/bin/hook", "/proc/self/exe")
    set_hook(attack, "startContainer", {"path": "/bin/hook", "args": ["hook", "--version"]})
    before = Path(attack.executable).read_bytes()
    attack.run()
    assert before == Path(attack.executable).read_bytes()


def test_hook_paths_do_not_come_from_the_image(attack: Attack) -> None:
    """CVE-2025-23266: createContainer hooks are the host's programs, though they run in the container's namespaces."""
    (attack.rootfs / "bin/sh").unlink()
    (attack.rootfs / "bin/sh").write_text("#!/bin/busybox sh\necho image > /pwned\n")
    (attack.rootfs / "bin/sh").chmod(0o755)
    set_hook(
        attack, "createContainer", hook(f"readlink /proc/self/exe > {attack.folder}/told; pwd >> {attack.folder}/told")
    )
    assert 0 == attack.run().status
    assert not (attack.rootfs / "pwned").exists()
    exe, cwd = (attack.folder / "told").read_text().split()
    assert (True, str(attack.bundle.folder)) == (not exe.startswith(str(attack.rootfs)), cwd)


# ── what hooks write ends up in logs ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_output_forges_no_log_line(attack: Attack, kind: str) -> None:
    """CVE-2022-4318's class: escapes, line breaks and bad UTF-8 of a hook stay on one line, as text."""
    script = r"""printf 'first\n{"level":"error","msg":"forged"}\r\033]0;owned\007\033[2J\377\200\0end' >&2; exit 1"""
    set_hook(attack, kind, hook(script))
    result = attack.run()
    assert 1 == result.status
    assert 1 == result.err.count("\n")
    assert all(character.isprintable() or character == "\n" for character in result.err), result.err
    lines = attack.log.read_bytes().splitlines()
    assert 1 == len(lines)
    record = json.loads(lines[0])
    assert {"level", "msg", "time", "error", "pointer"} == set(record)
    assert record["msg"].isprintable()
    assert "forged" in record["msg"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\tb", "é", "a\u202eb", "a b", "a/../b", "\x7f", "a\0b"])
def test_names_forge_no_log_line(attack: Attack, name: str) -> None:
    """The error shows an invalid id on one line, with unprintable characters escaped."""
    if "\0" in name:
        with pytest.raises(ValueError):
            attack("state", name)
        return
    for words in (
        ["state", name],
        ["create", "--bundle", attack.bundle.folder, name],
        ["kill", name],
        ["delete", "--force", name],
    ):
        result = attack(*words)
        assert (1, 1) == (result.status, result.err.count("\n")), words
        assert result.err[:-1].isprintable()
    assert all(json.loads(line)["level"] == "error" for line in attack.log.read_bytes().splitlines())


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "fifo", "folder"])
def test_log_of_another_type(attack: Attack, kind: str) -> None:
    """CVE-2025-0750: a log that is a link, or would block, is refused."""
    if kind == "symlink":
        attack.log.symlink_to(attack.outside / "file")
    elif kind == "dangling symlink":
        attack.log.symlink_to(attack.outside / "new")
    elif kind == "fifo":
        os.mkfifo(attack.log)
    else:
        attack.log.mkdir()
    result = attack.run()
    assert (1, True) == (result.status, "cannot open log" in result.err)
    assert AT_ONCE > result.seconds
    attack.log.rmdir() if kind == "folder" else attack.log.unlink()


def test_paths_in_errors_are_printable(attack: Attack) -> None:
    """What a config names is shown in errors with its escapes escaped."""
    attack.process["args"] = ["/bin/\x1b[31mred\nline"]
    result = attack.run()
    assert (1, 1) == (result.status, result.err.count("\n"))
    assert result.err[:-1].isprintable()
