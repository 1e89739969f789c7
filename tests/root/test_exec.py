"""exec: one more process in a container, as like its first one as can be."""

import array
import json
import os
import platform
import pty
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import hierarchy
from pyoci.compiler import known_filters, seccomp
from tests.support import keyrings
from tests.support.runtime import PATIENCE, Bundle, Result, Runtime, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle) -> "Box":
    """A container that runs, and a function that runs a shell script in it."""
    bundle.shell("exec sleep 1000")
    return Box(runtime, bundle)


class Box:
    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.number = 0

    def start(self) -> "Box":
        self.runtime.create()
        self.runtime.start()
        return self

    def exec(self, *words: Path | str, **options: bool) -> Result:
        """`exec OPTIONS ID PROGRAM…`: the words before `--` are options."""
        words = [str(word) for word in words]
        at = words.index("--") if "--" in words else 0
        return self.runtime("exec", *words[:at], self.runtime.id, *words[at + bool(at) :], **options)

    def shell(self, script: str, *options: str) -> str:
        """What a script prints that ends well."""
        result = self.exec(*options, "--", "sh", "-c", script) if options else self.exec("sh", "-c", script)
        assert (0, "") == (result.status, result.err), result
        return result.out

    def process(self, **changes: Any) -> Path:
        """A process.json: the container's own process with changes."""
        self.number += 1
        path = self.runtime.folder / f"process{self.number}.json"
        path.write_text(json.dumps({**self.bundle.process, **changes}))
        return path

    def by_file(self, *options: Any, **changes: Any) -> Result:
        """exec with --process."""
        return self.runtime("exec", *options, "--process", self.process(**changes), self.runtime.id)

    def fails(self, *words: Path | str) -> str:
        """exec that fails with the contract's status: its message."""
        self.bundle.write()
        result = self.exec(*words)
        assert 255 == result.status, result
        message = result.err.removesuffix("\n")
        assert "\n" not in message
        last = json.loads(self.runtime.log.read_text().splitlines()[-1])
        assert ("error", message) == (last["level"], last["msg"])
        return message


# --- where it runs


@pytest.mark.skipif(not Path("/proc/keys").exists(), reason="a kernel without keyrings")
@pytest.mark.parametrize("options", [(), ("--no-new-keyring",)], ids=" ".join)
def test_session_keyring(box: Box, options: tuple[str, ...], probe: Path) -> None:
    """It has one of its own, as the container has, or that of the caller, as create was asked for."""
    shutil.copy(probe, box.bundle.rootfs / "bin/probe")
    box.runtime.create(*options)
    box.runtime.start()
    (told,) = [line for line in box.shell("probe").splitlines() if line.startswith("session=")]
    assert told.startswith(f"session={keyrings.own()};") is bool(options)


def test_it_is_where_the_first_process_is(box: Box) -> None:
    """In every namespace, in the cgroup, and beneath the same root."""
    box.bundle.linux["namespaces"] = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
    box.start()
    names = "cgroup ipc mnt net pid time user uts".split()
    pid = box.runtime.pid()

    out = box.shell("for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done; hostname")

    assert [os.readlink(f"/proc/{pid}/ns/{name}") for name in names] == out.split()[:-1]
    assert box.bundle.config["hostname"] == out.split()[-1]
    inside = subprocess.Popen(box.runtime.command("exec", box.runtime.id, "sleep", "100"))
    wait_for(lambda: any(command_line(member) == "sleep\x00100\x00" for member in members(box)))
    inside.terminate()
    assert 128 + 15 == inside.wait(PATIENCE)


def command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has just ended
        return ""


def members(box: Box) -> list[str]:
    record = box.runtime.record()["cgroup"]
    return Path(record["mount"] + record["path"], "cgroup.procs").read_text().split()


def test_a_user_namespace_is_joined(box: Box) -> None:
    """Root in it is the user that the container's root is."""
    box.bundle.in_user_namespace()
    box.start()

    assert "0 0 100000" == box.shell("echo $(id -u) $(id -g) $(awk '{print $2}' /proc/self/uid_map)").strip()


def test_the_hosts_namespaces_stay_the_hosts(box: Box) -> None:
    """What the container shares with the host is not joined."""
    box.bundle.linux["namespaces"] = [{"type": "mount"}, {"type": "pid"}]
    box.bundle.config.pop("hostname", None)
    box.bundle.config.pop("domainname", None)
    box.bundle.linux.pop("sysctl", None)
    box.start()

    assert os.readlink("/proc/self/ns/net") == box.shell("readlink /proc/self/ns/net").strip()


def test_a_created_container_takes_processes_too(box: Box) -> None:
    """It has everything but its program."""
    box.runtime.create()

    assert "/proc/1" in box.exec("ls", "-d", "/proc/1", "/proc/2").out


# --- what it is


def test_it_inherits_the_containers_process(box: Box) -> None:
    """User, groups, environment, working directory, capabilities, limits, umask."""
    box.bundle.process |= {
        "user": {"uid": 1000, "gid": 100, "additionalGids": [5, 6], "umask": 0o27},
        "env": ["PATH=/bin", "A=b", "HOME=/tmp"],
        "cwd": "/tmp",
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
        "noNewPrivileges": True,
        "oomScoreAdj": 123,
        "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "effective": []},
    }
    box.start()

    out = box.shell("id -u; id -G; umask; pwd; echo $A $HOME; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj")
    status = box.exec("cat", "/proc/self/status").out  # the shell ignores a signal

    assert ["1000", "100 5 6", "0027", "/tmp", "b /tmp", "100", "200", "123"] == out.splitlines()
    first = Path(f"/proc/{box.runtime.pid()}/status").read_text()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn"):
        assert line(name, first) == line(name, status), name


def test_what_a_process_file_does_not_say_is_the_containers(box: Box) -> None:
    """Capabilities, limits, priorities; but what it says counts, be it that there is none."""
    box.bundle.process |= {
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
        "oomScoreAdj": 123,
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3},
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
    }
    box.start()
    path = box.runtime.folder / "process.json"
    script = "grep Cap /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj; ionice -p $$"
    wanted = {"args": ["/bin/sh", "-c", script], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    path.write_text(json.dumps(wanted))

    out = box.runtime("exec", "--process", path, box.runtime.id).out.splitlines()

    first = Path(f"/proc/{box.runtime.pid()}/status").read_text()
    sets = [line(name, first) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    assert [*sets, "100", "123", "best-effort: prio 3"] == out

    empty = {"apparmorProfile": "", "selinuxLabel": "", "rlimits": []}
    path.write_text(json.dumps({**wanted, **empty, "capabilities": {}, "oomScoreAdj": 5}))
    out = box.runtime("exec", "--process", path, box.runtime.id).out.splitlines()

    assert ["0" * 16] * 5 + ["100", "5", "best-effort: prio 3"] == [row.rpartition("\t")[2] for row in out]


def line(name: str, text: str) -> str:
    (found,) = [row for row in text.splitlines() if row.startswith(name + ":")]
    return found


def test_the_seccomp_filter_is_the_containers(box: Box) -> None:
    """With and without noNewPrivileges; it stays though the bundle is gone."""
    box.bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42}],
    }
    box.start()
    (box.bundle.folder / "config.json").unlink()

    for options in ((), ("--no-new-privs",)):
        assert "2" == box.shell("awk '/^Seccomp:/{print $2}' /proc/self/status", *options).strip()
        result = box.exec(*options, "--", "mkdir", "/tmp/x") if options else box.exec("mkdir", "/tmp/x")
        assert 1 == result.status
        assert "No message of desired type" in result.err


@pytest.mark.parametrize("known", [True, False], ids=["known", "changed"])
def test_filter_of_an_engine_is_the_same_in_exec(box: Box, known: bool) -> None:
    """A profile that the executable knows gets the compiler's filter, in the container and in exec."""
    machine = platform.machine()
    _, profile = next(known_filters.profiles(machine))
    if not known:
        profile = {**profile, "defaultErrnoRet": 42}
    box.bundle.linux["seccomp"] = profile
    box.start()

    kept = (box.runtime.root / box.runtime.id / "seccomp").read_bytes()
    assert seccomp.compile_filter(profile, machine).program == kept
    result = box.exec("unshare", "-U", "true")
    assert 1 == result.status
    assert ("Operation not permitted" if known else "No message of desired type") in result.err


def test_options_change_the_process(box: Box) -> None:
    """Missing settings are the container's."""
    box.bundle.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [7]}
    box.bundle.process["capabilities"] = {
        "bounding": ["CAP_KILL"],
        "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL"],
    }
    box.start()

    assert "1000 0" == box.shell("echo $(id -u) $(id -g)", "--user", "1000").strip()
    assert "1000 1001" == box.shell("echo $(id -u) $(id -g)", "-u", "1000:1001").strip()
    assert {"0", "7", "8", "9"} == set(box.shell("id -G", "-g", "8", "-g", "9").split())
    assert "/tmp" == box.shell("pwd", "--cwd", "/tmp").strip()
    assert "1 2" == box.shell("echo $A $B", "-e", "A=1", "--env", "B=2").strip()
    assert "1" == box.shell("awk '/^NoNewPrivs/{print $2}' /proc/self/status", "--no-new-privs").strip()
    caps = box.shell("awk '/^CapEff/{print $2}' /proc/self/status", "--cap", "CAP_CHOWN", "-c", "setuid")
    assert (1 << 5 | 1 << 0 | 1 << 7) == int(caps, 16)


def test_a_variable_replaces_the_containers(box: Box) -> None:
    """It is there once: some programs would look at the first of two, others at the last."""
    box.bundle.process["env"] = ["PATH=/bin", "A=1", "HOME=/tmp"]
    box.start()

    environment = box.exec("-e", "A=2", "-e", "HOME=", "--", "cat", "/proc/self/environ").out

    assert ["A=2", "HOME=/root", "PATH=/bin"] == sorted(environment.strip("\0").split("\0"))


def test_added_capabilities_that_may_be_inherited_are_ambient(box: Box) -> None:
    """A program of a user other than root has them, then."""
    box.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    box.bundle.process["capabilities"] = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"],
        "ambient": ["CAP_CHOWN"],
    }
    box.start()

    status = box.shell("cat /proc/self/status", "--cap", "CAP_SYSLOG", "--cap", "CAP_NET_RAW")

    assert ["CapInh: 400000001", "CapAmb: 400000001", "CapEff: 400000001"] == [
        f"{name}: {int(line(name, status).split()[1], 16):x}" for name in ("CapInh", "CapAmb", "CapEff")
    ]


def test_options_of_the_program_are_the_programs(box: Box) -> None:
    """Those of exec end at the id."""
    box.start()

    assert "-c --user\n" == box.exec("echo", "-c", "--user").out


def test_a_process_by_a_pipe(box: Box) -> None:
    """What a shell makes of `--process <(command)`."""
    box.start()
    reader, writer = os.pipe()
    os.write(writer, box.process(args=["echo", "hello"]).read_bytes())
    os.close(writer)

    result = box.runtime("exec", "--process", f"/dev/fd/{reader}", box.runtime.id, pass_fds=[reader])
    os.close(reader)

    assert (0, "hello\n", "") == tuple(result)


def test_a_process_by_file(box: Box) -> None:
    """All of it is the file's; what the file lacks, the process lacks."""
    box.start()

    result = box.by_file(
        args=["sh", "-c", "id -u; pwd; echo $X"], user={"uid": 5, "gid": 5}, cwd="/tmp", env=["X=y", "PATH=/bin"]
    )

    assert (0, "5\n/tmp\ny\n", "") == tuple(result)


def test_cpu_affinity(box: Box) -> None:
    """execCPUAffinity is for processes that come later."""
    box.bundle.process["execCPUAffinity"] = {"initial": "0", "final": "1"}
    box.start()
    cpus = "awk '/^Cpus_allowed_list/{print $2}' /proc/self/status"

    assert "1" == box.shell(cpus).strip()
    assert "0" == box.by_file(args=["sh", "-c", cpus], execCPUAffinity={"initial": "0"}).out.strip()
    first = Path(f"/proc/{box.runtime.pid()}/status").read_text()
    assert line("Cpus_allowed_list", first).split()[1] != "1"
    result = box.by_file(args=["true"], execCPUAffinity={"final": "777"})
    assert (255, "/execCPUAffinity/final: cannot run on CPUs 777: invalid argument\n") == (result.status, result.err)


def test_no_descriptor_of_the_runtime_goes_along(box: Box) -> None:
    """But those that are to be kept, at their numbers."""
    box.start()
    read, write = os.pipe()
    os.dup2(write, 60)  # unused here
    os.set_inheritable(60, True)

    assert "0 1 2 3" == " ".join(box.exec("ls", "/proc/self/fd", close_fds=False).out.split())  # 3 is ls' own
    result = box.exec("--preserve-fds", "58", "--", "sh", "-c", "echo kept >/proc/self/fd/60", close_fds=False)

    os.close(60)
    os.close(write)
    assert (0, "kept\n") == (result.status, os.read(read, 100).decode())
    os.close(read)


def test_holes_among_kept_descriptors_are_not_filled_by_ours(box: Box) -> None:
    """What the runtime has open by then has a number among those, which must not lead to a program (CVE-2024-21626)."""
    box.start()

    for number in range(3, 23):
        message = box.fails("--preserve-fds", "20", "--", f"/proc/self/fd/{number}/.")
        assert "no such file or directory" in message, message


def test_signals_are_default(box: Box) -> None:
    """Python ignores SIGPIPE; a program must not."""
    box.start()

    status = box.exec("cat", "/proc/self/status").out

    assert 0 == int(line("SigIgn", status).split()[1], 16)
    assert 0 == int(line("SigBlk", status).split()[1], 16)


def test_its_executable_is_not_the_hosts(box: Box) -> None:
    """CVE-2019-5736: /proc/self/exe as the program leads to a file that no process can write to."""
    box.start()
    executable = Path(os.path.realpath(box.runtime.executable))
    before = executable.read_bytes()

    result = box.exec("/proc/self/exe", "--version")

    assert (127, "") == (result.status, result.out)  # the helper does nothing without a plan
    assert before == executable.read_bytes()
    status = box.exec("sh", "-c", "echo x > /proc/self/exe").status
    assert 0 != status


def test_a_user_namespace_has_no_power_over_init_before_it_starts(box: Box) -> None:
    """A process that exec adds to a created container can't look into init, even with CAP_SYS_PTRACE."""
    box.bundle.in_user_namespace()
    names = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]
    box.bundle.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    box.runtime.create()

    for what in ("ls /proc/1/fd", "readlink /proc/1/exe", "head -c 1 /proc/1/mem", "cat /proc/1/environ"):
        assert 0 != box.exec("sh", "-c", what).status
    box.runtime("start", box.runtime.id)
    assert 0 == box.exec("sh", "-c", "readlink /proc/1/exe").status


# --- its end


def test_the_exit_status_is_the_programs(box: Box) -> None:
    """128 + n for a signal; nothing of it is left."""
    box.start()

    assert 7 == box.exec("sh", "-c", "exit 7").status
    assert 128 + 9 == box.exec("sh", "-c", "kill -9 $$").status
    assert [str(box.runtime.pid())] == members(box)


def test_signals_are_forwarded(box: Box) -> None:
    """To the program, by a caller that waits for it."""
    box.start()
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(box.runtime.command("exec", box.runtime.id, "sh", "-c", script), stdout=subprocess.PIPE)
    assert b"ready\n" == process.stdout.readline()

    process.send_signal(signal.SIGTERM)

    assert b"caught\n" == process.communicate(timeout=PATIENCE)[0]
    assert 5 == process.returncode


def test_detached(box: Box) -> None:
    """Returns when it runs; the pid file has its pid, without a newline; it is an orphan that ends by itself."""
    box.start()
    pid_file = box.runtime.folder / "exec.pid"

    result = subprocess.run(
        box.runtime.command("exec", "--detach", "--pid-file", pid_file, box.runtime.id, "sleep", "100"),
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),
        timeout=PATIENCE,
    )

    assert 0 == result.returncode
    text = pid_file.read_text()
    assert text.isdigit()
    assert b"sleep\x00100\x00" == Path(f"/proc/{text}/cmdline").read_bytes()
    assert text in members(box)
    os.kill(int(text), signal.SIGKILL)
    assert int(text) == os.waitpid(int(text), 0)[0]


def test_the_pid_file_of_a_failure_is_not_made(box: Box) -> None:
    """conmon tells a runtime's failure from a program's by it."""
    box.start()
    pid_file = box.runtime.folder / "exec.pid"

    assert 255 == box.exec("--pid-file", pid_file, "--", "nosuch").status
    assert not pid_file.exists()
    assert 3 == box.exec("--pid-file", pid_file, "--", "sh", "-c", "exit 3").status
    assert pid_file.read_text().isdigit()


# --- terminals


def test_a_terminal_in_the_foreground(box: Box) -> None:
    """The caller's is relayed."""
    box.start()
    master, slave = pty.openpty()

    process = subprocess.Popen(
        box.runtime.command("exec", "--tty", box.runtime.id, "sh", "-c", "test -t 0 -a -t 1 -a -t 2 && tty; read x; echo got $x"),
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    os.write(master, b"hello\n")

    out = read_all(master)
    assert 0 == process.wait(PATIENCE)
    assert "/dev/pts/0" in out
    assert "got hello" in out


def read_all(fd: int) -> str:
    text = b""
    while True:
        try:
            part = os.read(fd, 4096)
        except OSError:
            part = b""
        if not part:
            os.close(fd)
            return text.decode()
        text += part


def test_a_terminal_through_a_console_socket(box: Box) -> None:
    """One message with the master; the size is the process'."""
    box.start()
    with socket.socket(socket.AF_UNIX) as listener:
        path = box.runtime.folder / "console.sock"
        listener.bind(str(path))
        listener.listen()
        process = box.process(args=["stty", "size"], terminal=True, consoleSize={"height": 33, "width": 77})
        options = ("--detach", "--console-socket", path, "--pid-file", box.runtime.folder / "pid", "--process", process)
        result = subprocess.run(
            box.runtime.command("exec", *options, box.runtime.id),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
        assert (0, b"", b"") == (result.returncode, result.stdout, result.stderr)
        connection, _ = listener.accept()
        with connection:
            _, ancillary, _, _ = connection.recvmsg(4096, 64)
    master = array.array("i", ancillary[0][2])[0]

    assert "33 77" in read_all(master)
    # the process that adopts it must reap it: until then the pid namespace, and so the container, can't end
    os.waitpid(int((box.runtime.folder / "pid").read_text()), 0)


def test_a_foreground_process_leaves_a_terminal_to_its_console_socket(box: Box) -> None:
    """Its output goes there and nowhere else; the status is still returned."""
    box.start()
    with socket.socket(socket.AF_UNIX) as listener:
        path = box.runtime.folder / "console.sock"
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(PATIENCE)
        process = box.process(args=["sh", "-c", "echo ready; read line; echo $line; exit 7"], terminal=True)
        words = box.runtime.command("exec", "--console-socket", path, "--process", process, box.runtime.id)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as running:
            connection, _ = listener.accept()
            with connection:
                _, ancillary, _, _ = connection.recvmsg(4096, 64)
            master = array.array("i", ancillary[0][2])[0]
            os.write(master, b"typed\n")
            assert ["ready", "typed"] == sorted({"ready", "typed"} & set(read_all(master).split()))
            assert 7 == running.wait(PATIENCE)
            assert b"" == running.stdout.read()


def test_a_terminal_needs_a_reader_at_its_other_end(box: Box) -> None:
    """And a socket a terminal."""
    box.start()

    assert "there is no --console-socket" in box.fails("--tty", "--detach", "--", "sh")
    assert "cannot use --console-socket" in box.fails("--console-socket", "/nowhere", "--", "sh")


# --- what can't be


def test_error_of_the_program_is_reported(box: Box) -> None:
    """With the contract's words; nothing is left."""
    (box.bundle.rootfs / "plain").write_text("#!/bin/sh\n")
    (box.bundle.rootfs / "script").write_text("#!/no/interpreter\n")
    (box.bundle.rootfs / "script").chmod(0o755)
    box.start()

    assert '/args/0: exec: "nosuch": executable file not found in $PATH (hint: PATH is /bin)' == box.fails("nosuch")
    assert '/args/0: exec: "/x": stat /x: no such file or directory' == box.fails("/x")
    assert box.fails("/plain").startswith('/args/0: exec: "/plain": permission denied')
    assert box.fails("/etc").startswith('/args/0: exec: "/etc": is a directory')
    assert "interpreter /no/interpreter" in box.fails("/script")
    assert '/cwd: chdir to cwd ("/w") set in config.json failed: no such file or directory' == box.fails(
        "--cwd", "/w", "--", "true"
    )
    assert [str(box.runtime.pid())] == members(box)


@pytest.mark.parametrize("number", range(3, 24))
def test_no_descriptor_leads_out(box: Box, number: int) -> None:
    """CVE-2024-21626: neither as working directory nor as a way to a program."""
    box.start()

    for words in (["--cwd", f"/proc/self/fd/{number}", "--", "true"], [f"/proc/self/fd/{number}/../../bin/sh"]):
        message = box.fails(*words)
        assert "no such file or directory" in message or "not a directory" in message, message


def test_the_container_sees_nothing_of_the_runtime(box: Box) -> None:
    """A process of the container that may look at every newcomer finds none of the host's files and directories open,
    even with CAP_SYS_PTRACE. (Without it, it sees no more than that there is one.)
    """
    box.bundle.process["capabilities"] = {name: ["CAP_SYS_PTRACE"] for name in ("bounding", "effective", "permitted")}
    watch = """
        while :; do
            for p in /proc/[0-9]*; do
                [ $p = /proc/1 ] && continue
                for f in exe cwd root; do readlink $p/$f 2>/dev/null; done
                ls -l $p/fd 2>/dev/null | sed -n 's/.*-> //p'
            done
        done
    """
    box.bundle.shell(watch)
    box.start()

    helper = "/memfd:pyoci (deleted)"
    for _ in range(400):
        assert 0 == box.exec("true").status
        seen = set(box.runtime.output().split("\n"))
        if helper in seen and "/bin/busybox" in seen:  # its executable before and after
            break

    folders = ("/tmp", "/run", "/home", "/root", str(box.runtime.folder))
    assert {helper, "/bin/busybox"} <= seen
    assert set() == {path for path in seen if path.startswith(folders)} - {
        str(box.runtime.folder / name) for name in ("out", "err")
    }


def test_a_container_that_takes_none(box: Box) -> None:
    """Stopped, paused, unknown."""
    box.start()
    assert (0, "", "") == tuple(box.runtime("pause", box.runtime.id))
    assert "cannot exec in a paused container (hint: --ignore-paused waits until it is resumed)" == box.fails("true")
    assert (0, "", "") == tuple(box.runtime("resume", box.runtime.id))
    box.runtime("kill", box.runtime.id, "KILL")
    box.runtime.wait("stopped")
    assert "cannot exec in a stopped container" == box.fails("true")
    result = box.runtime("exec", "nobody", "true")
    assert (255, "container `nobody` does not exist\n") == (result.status, result.err)


def test_a_paused_container_can_be_waited_for(box: Box) -> None:
    """--ignore-paused: the process goes on when the container does."""
    box.start()
    assert (0, "", "") == tuple(box.runtime("pause", box.runtime.id))
    process = subprocess.Popen(
        box.runtime.command("exec", "--ignore-paused", box.runtime.id, "echo", "hi"), stdout=subprocess.PIPE
    )
    time.sleep(0.1)
    assert process.poll() is None

    assert (0, "", "") == tuple(box.runtime("resume", box.runtime.id))

    assert b"hi\n" == process.communicate(timeout=PATIENCE)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"args": ["sh"], "cwd": "x"}', "/cwd: expected an absolute path, found the string"),
        ('{"args": [], "cwd": "/"}', "/args"),
        ('{"cwd": "/", "args": ["a"], "user": {"uid": -1, "gid": 0}}', "/user/uid: expected an integer from 0"),
        ('{"cwd": "/", "args": ["a"], "user": {"uid": "root", "gid": 0}}', "/user/uid: expected an integer from 0"),
        ("{", "bad.json:1:2: "),
        ('{"cwd": "/", "args": ["a"], "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}', "/rlimits/0/type"),
    ],
)
def test_a_bad_process_file(box: Box, text: str, message: str) -> None:
    """Its faults are named; nothing runs."""
    box.start()
    path = box.runtime.folder / "bad.json"
    path.write_text(text)

    assert message in box.fails("--process", path, "--")
    assert [str(box.runtime.pid())] == members(box)


@pytest.mark.parametrize("user", ["root", "-1", "1:", "0x1", "4294967295", "１", "1:2:3", " 1"])
def test_users_are_numbers(box: Box, user: str) -> None:
    """Names are the caller's to look up, and nothing is guessed (CVE-2026-30892)."""
    box.start()

    assert "for --user: expected an id" in box.fails("--user", user, "--", "id")


@pytest.mark.parametrize(
    "words", [("true", "\udcff"), ("--env", "A=\udcff", "--", "true"), ("--cwd", "/\udcff", "--", "true")]
)
def test_words_that_are_not_utf8(box: Box, words: tuple[str, ...]) -> None:
    """Bytes that are not UTF-8 have no place in a process. The error names the word, not a document."""
    box.start()
    word = next(word for word in words if "\udcff" in word).replace("\udcff", "\\udcff")
    assert f"exec: cannot use `{word}`: it is not UTF-8" == box.fails(*words)


def test_an_unmapped_user(box: Box) -> None:
    """The kernel's word, with what it means."""
    box.bundle.in_user_namespace(size=1000)
    box.start()

    assert "/user: cannot change user and group: setresuid: invalid argument" in box.fails("-u", "5000", "--", "id")


def test_unknown_capabilities_are_a_warning(box: Box) -> None:
    """As in create."""
    box.start()

    result = box.runtime("exec", "--cap", "CAP_FOO", box.runtime.id, "true")

    assert 0 == result.status


def test_a_cgroup_below_the_containers(box: Box) -> None:
    """Which exists, and lies below."""
    box.start()
    record = box.runtime.record()["cgroup"]
    below = Path(record["mount"] + record["path"], "sub")
    below.mkdir()
    try:
        out = subprocess.Popen(
            box.runtime.command("exec", "--cgroup", "sub", box.runtime.id, "cat"), stdin=subprocess.PIPE
        )
        wait_for((below / "cgroup.procs").read_text)
        out.communicate()
        assert 0 == box.exec("--cgroup", "/", "--", "true").status
        assert "expected a path below the container's" in box.fails("--cgroup", "../x", "--", "true")
        assert "no such file or directory" in box.fails("--cgroup", "nosuch", "--", "true")
    finally:
        wait_for(lambda: not (below / "cgroup.procs").read_text())
        below.rmdir()


def test_a_container_that_manages_its_own_cgroups(box: Box) -> None:
    """Where its cgroup can take no process, the new one goes to the first one's."""
    if not set(Path(hierarchy.find_mount(), "cgroup.controllers").read_text().split()):
        pytest.skip("no controller")
    box.start()
    record = box.runtime.record()["cgroup"]
    top = Path(record["mount"] + record["path"])
    controllers = (top / "cgroup.controllers").read_text().split()
    inside = top / "inside"
    inside.mkdir()
    (inside / "cgroup.procs").write_text(str(box.runtime.pid()))
    if controllers:
        (top / "cgroup.subtree_control").write_text(f"+{controllers[0]}")

    result = box.exec("true")

    assert 0 == result.status, result
    if controllers:
        assert "device or resource busy" in box.fails("--cgroup", "/", "--", "true")


def test_many_at_a_time(box: Box) -> None:
    """Twenty processes come and go, and nothing is left."""
    box.start()
    processes = [
        subprocess.Popen(box.runtime.command("exec", box.runtime.id, "sh", "-c", f"exit {n}")) for n in range(20)
    ]

    assert list(range(20)) == [process.wait(PATIENCE) for process in processes]
    assert [str(box.runtime.pid())] == members(box)


def test_the_end_of_the_container_ends_it(box: Box) -> None:
    """Its pid namespace goes."""
    box.start()
    script = "echo up; exec sleep 1000"
    process = subprocess.Popen(box.runtime.command("exec", box.runtime.id, "sh", "-c", script), stdout=subprocess.PIPE)
    assert b"up\n" == process.stdout.readline()

    box.runtime("kill", box.runtime.id, "KILL")

    process.communicate(timeout=PATIENCE)
    assert 128 + 9 == process.returncode
