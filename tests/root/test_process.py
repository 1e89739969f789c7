"""What the program of a container is: user, capabilities, limits, environment, descriptors, working directory."""

import json
import os
import re
import resource
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pyoci.cli.log import Log
from pyoci.create import create
from pyoci.request import CreateRequest
from pyoci.start import start
from tests.support.runtime import PATIENCE, Bundle, Runtime, parse_status, status_of

pytestmark = pytest.mark.root

MAY_RAISE = int(status_of()["CapEff"], 16) >> 24 & 1  # CAP_SYS_RESOURCE
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def program_status(runtime: Runtime) -> dict[str, str]:
    """/proc/self/status of the container's program."""
    return parse_status(runtime.shell("exec cat /proc/self/status"))


def capabilities(runtime: Runtime, **sets: list[str]) -> dict[str, int]:
    """The program's sets as masks, for these sets in the config; one that is not named is left out there."""
    runtime.bundle.process["capabilities"] = sets
    status = program_status(runtime)
    return {name: int(status[name], 16) for name in SETS}


# --- user


def test_user(runtime: Runtime, bundle: Bundle) -> None:
    """uid and gid, and no group but those listed."""
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 7, 4000000000]}
    status = program_status(runtime)
    assert ["1000"] * 4 == status["Uid"].split()
    assert ["1001"] * 4 == status["Gid"].split()
    assert ["5", "7", "4000000000"] == status["Groups"].split()


@pytest.mark.parametrize("user", [{"uid": 0, "gid": 0}, {"uid": 5, "gid": 6, "additionalGids": []}])
def test_no_groups_of_the_caller(runtime: Runtime, bundle: Bundle, user: dict[str, Any]) -> None:
    """The caller's own groups are not the program's."""
    bundle.process["user"] = user
    bundle.program("cat", "/proc/self/status").write()
    result = runtime.run(extra_groups=[11, 12])
    assert "" == parse_status(result.out)["Groups"]


@pytest.mark.parametrize("groups", [[], [5, 7]])
def test_annotation_does_not_pass_on_roots_groups(runtime: Runtime, bundle: Bundle, groups: list[int]) -> None:
    """run.oci.keep_original_groups, which an image may bring, is for rootless runtimes: the program has the
    config's.
    """
    bundle.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": groups}
    bundle.shell("exec sleep 1000").write()
    log = runtime.folder / "warnings"
    logged = ("--log", log, "--log-format", "json", "--log-level", "warning")
    runtime.detached(*logged, "create", "--bundle", bundle.folder, runtime.id, extra_groups=[0, 6, 44])
    runtime.start()
    status = parse_status(Path(f"/proc/{runtime.pid()}/status").read_text())
    added = runtime(*logged, "exec", runtime.id, "cat", "/proc/self/status", extra_groups=[0, 6, 44])

    assert groups == [int(gid) for gid in status["Groups"].split()]
    assert groups == [int(gid) for gid in parse_status(added.out)["Groups"].split()]
    warning = (
        "/annotations/run.oci.keep_original_groups: ignored run.oci.keep_original_groups = 1: "
        "a runtime that runs as root does not pass on its groups"
    )
    assert [warning, warning] == [json.loads(line)["msg"] for line in log.read_text().splitlines()]


def test_many_groups(runtime: Runtime, bundle: Bundle) -> None:
    """As many as the kernel allows."""
    groups = list(range(1, 65537))
    bundle.process["user"] |= {"additionalGids": groups}
    assert groups == [int(word) for word in program_status(runtime)["Groups"].split()]


def test_umask(runtime: Runtime, bundle: Bundle) -> None:
    """The config's, whatever the caller's."""
    bundle.process["user"] |= {"umask": 0o27}
    assert "0027\n" == runtime.shell("umask", umask=0o77)


def test_umask_of_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    """Without one in the config it is the one of the create."""
    assert "0077\n" == runtime.shell("umask", umask=0o77)
    bundle.shell("umask")
    runtime.create(umask=0o31)
    runtime.start()
    runtime.wait("stopped")
    assert "0031\n" == runtime.output()


# --- capabilities


def test_no_capabilities(runtime: Runtime) -> None:
    """None named, none granted, to root neither."""
    assert dict.fromkeys(SETS, 0) == capabilities(runtime)


def test_no_capabilities_property(runtime: Runtime, bundle: Bundle) -> None:
    """Without `capabilities` at all."""
    del bundle.process["capabilities"]
    status = program_status(runtime)
    assert ["0" * 16] * 5 == [status[name] for name in SETS]


def test_capabilities_of_root(runtime: Runtime) -> None:
    """What execve gives root: bounding and inheritable; ambient and inheritable as listed."""
    names = ["CAP_CHOWN", "CAP_KILL"]
    found = capabilities(runtime, bounding=names, effective=names, permitted=names)
    assert {"CapInh": 0, "CapPrm": 33, "CapEff": 33, "CapBnd": 33, "CapAmb": 0} == found


def test_bounding_alone(runtime: Runtime) -> None:
    """Root gets at execve what the bounding set allows."""
    found = capabilities(runtime, bounding=["CAP_CHOWN"])
    assert {"CapInh": 0, "CapPrm": 1, "CapEff": 1, "CapBnd": 1, "CapAmb": 0} == found


def test_capabilities_of_another_user(runtime: Runtime, bundle: Bundle) -> None:
    """Without ambient ones a user has none after execve; nothing is inherited that was not listed."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    names = ["CAP_CHOWN", "CAP_KILL"]
    found = capabilities(runtime, bounding=names, effective=names, permitted=names)
    assert {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 33, "CapAmb": 0} == found


def test_ambient(runtime: Runtime, bundle: Bundle) -> None:
    """Exactly the ambient ones reach a user's program; those that can't be raised are left out."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    names = ["CAP_CHOWN", "CAP_KILL"]
    every = dict.fromkeys(("bounding", "effective", "permitted"), names)
    found = capabilities(runtime, **every, inheritable=["CAP_KILL"], ambient=["CAP_KILL"])
    assert {"CapInh": 32, "CapPrm": 32, "CapEff": 32, "CapBnd": 33, "CapAmb": 32} == found


def test_inheritable_without_bounding(runtime: Runtime) -> None:
    """Capabilities that the kernel would refuse are left out without an error (PROC-21)."""
    found = capabilities(runtime, bounding=["CAP_CHOWN"], permitted=["CAP_KILL"], inheritable=["CAP_CHOWN", "CAP_KILL"])
    assert {"CapInh": 1, "CapPrm": 1, "CapEff": 1, "CapBnd": 1, "CapAmb": 0} == found


def test_every_capability(runtime: Runtime, bundle: Bundle) -> None:
    """A privileged container has what the runtime can give."""
    given = int(status_of()["CapBnd"], 16)
    names = [f"CAP_{name}" for name in CAPABILITIES]
    found = capabilities(runtime, bounding=names, effective=names, permitted=names, inheritable=names)
    assert {"CapInh": given, "CapPrm": given, "CapEff": given, "CapBnd": given, "CapAmb": 0} == found


CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
    SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
    SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()


def test_every_capability_of_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Those that the runtime itself lacks, too: all of them are the namespace's own."""
    bundle.in_user_namespace()
    names = [f"CAP_{name}" for name in CAPABILITIES]
    found = capabilities(runtime, bounding=names, effective=names, permitted=names)
    assert (1 << len(names)) - 1 == found["CapBnd"] == found["CapPrm"] == found["CapEff"]


def test_unknown_capability(runtime: Runtime, bundle: Bundle) -> None:
    """A warning, no error (PROC-21)."""
    bundle.process["capabilities"]["bounding"] = ["CAP_NOSUCH", "CAP_CHOWN"]
    bundle.program("true").write()
    result = subprocess.run(
        [runtime.executable, "--root", runtime.root, "run", "--bundle", bundle.folder, runtime.id],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert 0 == result.returncode
    assert re.search("warning: .*CAP_NOSUCH", result.stderr)


@pytest.mark.parametrize("uid", [0, 1000])
def test_with_a_seccomp_filter(runtime: Runtime, bundle: Bundle, uid: int) -> None:
    """The capability that loads the filter is not left over."""
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}
    bundle.process["user"] = {"uid": uid, "gid": uid}
    names = ["CAP_CHOWN"]
    bundle.linux["seccomp"]["syscalls"] = [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]
    found = capabilities(runtime, bounding=names, effective=names, permitted=names)
    granted = 0 if uid else 1
    assert {"CapInh": 0, "CapPrm": granted, "CapEff": granted, "CapBnd": 1, "CapAmb": 0} == found
    status = program_status(runtime)
    assert ("2", "0") == (status["Seccomp"], status["NoNewPrivs"])


@pytest.mark.parametrize("value", [True, False, None])
def test_no_new_privileges(runtime: Runtime, bundle: Bundle, value: bool | None) -> None:
    """noNewPrivileges, and its default."""
    if value is not None:
        bundle.process["noNewPrivileges"] = value
    assert str(int(bool(value))) == program_status(runtime)["NoNewPrivs"]


@pytest.mark.parametrize("value", [True, False])
def test_setuid_program(runtime: Runtime, bundle: Bundle, value: bool) -> None:
    """With noNewPrivileges a setuid program gives nothing."""
    source = runtime.folder / "euid.c"
    source.write_text('#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("%d", (int)geteuid()); }\n')
    subprocess.run(["cc", "-static", source, "-o", bundle.rootfs / "euid"], check=True)
    (bundle.rootfs / "euid").chmod(0o4755)
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["noNewPrivileges"] = value
    bundle.program("/euid")
    assert ("1000" if value else "0") == runtime.run().out


# --- limits and scheduling


def test_rlimits(runtime: Runtime, bundle: Bundle) -> None:
    """Each as listed, above and below the caller's; the others are the caller's."""
    names = {"RLIMIT_NOFILE": "Max open files", "RLIMIT_CORE": "Max core file size", "RLIMIT_NPROC": "Max processes"}
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 4096},
        {"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1},
        {"type": "RLIMIT_NPROC", "soft": 0, "hard": 77},
    ]
    text = runtime.shell("exec cat /proc/self/limits")
    lines = {name: re.search(rf"^{name} +(\S+) +(\S+)", text, re.MULTILINE).groups() for name in names.values()}
    assert {
        "Max open files": ("100", "4096"), "Max core file size": ("unlimited",) * 2, "Max processes": ("0", "77"),
    } == lines  # fmt: skip
    stack = re.search(r"^Max stack size +(\S+)", text, re.MULTILINE)[1]
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    assert ("unlimited" if soft == resource.RLIM_INFINITY else str(soft)) == stack


def test_tight_rlimits(runtime: Runtime, bundle: Bundle) -> None:
    """Limits under which the runtime itself could not work: it has opened all it needs."""
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3},
        {"type": "RLIMIT_NPROC", "soft": 1, "hard": 1},
        {"type": "RLIMIT_FSIZE", "soft": 0, "hard": 0},
    ]
    bundle.process["user"] |= {"uid": 1000, "gid": 1000}
    assert 0 == runtime.run().status


def test_oom_score(runtime: Runtime, bundle: Bundle) -> None:
    """oomScoreAdj, also below the caller's; unset it is the caller's."""
    for value in (500, 700, *((-500, 0) if MAY_RAISE else ())):
        bundle.process["oomScoreAdj"] = value
        assert f"{value}\n" == runtime.shell("cat /proc/self/oom_score_adj")
    del bundle.process["oomScoreAdj"]
    bundle.program("cat", "/proc/self/oom_score_adj").write()
    command = ["sh", "-c", 'echo 123 > /proc/self/oom_score_adj; exec "$@"', "sh"]
    command += runtime.command("run", "--bundle", bundle.folder, runtime.id)
    assert b"123\n" == subprocess.check_output(command, stdin=subprocess.DEVNULL, timeout=PATIENCE)


def test_affinity(runtime: Runtime, bundle: Bundle) -> None:
    """The caller's processors are not the container's limit."""
    every = status_of()["Cpus_allowed_list"]
    bundle.program("cat", "/proc/self/status").write()
    command = ["taskset", "-c", "0", *runtime.command("run", "--bundle", bundle.folder, runtime.id)]
    out = subprocess.check_output(command, stdin=subprocess.DEVNULL, text=True, timeout=PATIENCE)
    assert every == parse_status(out)["Cpus_allowed_list"]


def test_signals(runtime: Runtime, bundle: Bundle) -> None:
    """Nothing is blocked or ignored, whatever the caller blocks and ignores."""
    bundle.program("cat", "/proc/self/status").write()
    script = "trap '' HUP PIPE USR1 32 33 64 2>/dev/null; exec \"$@\""
    command = ["bash", "-c", script, "sh", *runtime.command("run", "--bundle", bundle.folder, runtime.id)]
    status = parse_status(subprocess.check_output(command, stdin=subprocess.DEVNULL, text=True, timeout=PATIENCE))
    assert ["0" * 16] * 3 == [status[name] for name in ("SigBlk", "SigIgn", "SigPnd")]


def test_process_is_a_leader(runtime: Runtime, bundle: Bundle) -> None:
    """pid 1, session and group leader, and dumpable again."""
    bundle.program("cat", "/proc/self/stat")
    fields = runtime.run().out.rpartition(") ")[2].split()
    assert ["0", "1", "1"] == fields[1:4]  # ppid, pgrp, session


def test_session_of_the_caller_is_left(runtime: Runtime, bundle: Bundle) -> None:
    """The container's process has no controlling terminal of the caller's."""
    bundle.program("cat", "/proc/self/stat")
    assert "0" == runtime.run().out.rpartition(") ")[2].split()[4]


def test_personality(runtime: Runtime, bundle: Bundle) -> None:
    """LINUX32 is a 32-bit machine to uname."""
    bundle.linux["personality"] = {"domain": "LINUX32"}
    assert {"x86_64": "i686\n", "aarch64": "armv8l\n"}[os.uname().machine] == runtime.shell("uname -m")
    bundle.linux["personality"] = {"domain": "LINUX"}
    assert f"{os.uname().machine}\n" == runtime.shell("uname -m")


# --- program, environment, directory


def test_environment(runtime: Runtime, bundle: Bundle) -> None:
    """Exactly env, in its order; nothing of the caller's."""
    bundle.process["env"] = ["PATH=/bin", "B=2", "A=ä\n=x", "EMPTY=", "HOME=/h"]
    bundle.program("cat", "/proc/self/environ")
    result = runtime.run(env={"SECRET": "1", "LD_PRELOAD": "/x", "PYTHONPATH": "/x"})
    assert "PATH=/bin\0B=2\0A=ä\n=x\0EMPTY=\0HOME=/h\0" == result.out


def test_environment_with_equal_names(runtime: Runtime, bundle: Bundle) -> None:
    """The last of them counts, whether the program looks for the first or the last; it is there once."""
    bundle.process["env"] = ["ONE=1", "PATH=/nowhere", "HOME=/a", "ONE=2", "PATH=/bin", "ONE=", "HOME=/b", "ONEMORE=x"]
    bundle.program("cat", "/proc/self/environ")
    assert "PATH=/bin\0ONE=\0HOME=/b\0ONEMORE=x\0" == runtime.run().out


def test_no_environment(runtime: Runtime, bundle: Bundle) -> None:
    """Without env there is HOME alone; without PATH only a path with a slash can be run."""
    del bundle.process["env"]
    bundle.program("/bin/cat", "/proc/self/environ")
    assert "HOME=/root\0" == runtime.run().out
    bundle.program("cat")
    assert "executable file not found in $PATH" in runtime.create_fails()


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/user"), (77, "/")])
def test_home(runtime: Runtime, bundle: Bundle, uid: int, home: str) -> None:
    """HOME from the container's passwd, also if the config has an empty one; `/` for a user it does not know."""
    (bundle.rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/user:/bin/sh\n")
    bundle.process["env"] = ["PATH=/bin"]
    bundle.process["user"] = {"uid": uid, "gid": 0}
    assert f"{home}\n" == runtime.shell("echo $HOME")
    bundle.process["env"] = ["HOME=/set", "PATH=/bin", "HOME="]
    assert f"{home}\n" == runtime.shell("echo $HOME")


def test_search_path(runtime: Runtime, bundle: Bundle) -> None:
    """args[0] is looked for in the container's PATH, in its order, as execvp does; argv[0] is what the config says."""
    for folder, word in (("one", "first"), ("two", "second")):
        (bundle.rootfs / folder).mkdir()
        (bundle.rootfs / folder / "prog").write_text(f"#!/bin/sh\necho {word}\n")
        (bundle.rootfs / folder / "prog").chmod(0o755)
    (bundle.rootfs / "zero").mkdir()
    (bundle.rootfs / "zero/prog").write_text("not executable\n")
    bundle.process["env"] = ["PATH=/nosuch:/zero:/one:/two"]
    bundle.program("prog")
    assert "first\n" == runtime.run().out
    bundle.process["env"] = ["PATH=/bin"]
    bundle.program("busybox")
    assert 0 == runtime.run().status


def test_program_in_the_working_directory(runtime: Runtime, bundle: Bundle) -> None:
    """A relative path counts from cwd."""
    (bundle.rootfs / "dir").mkdir()
    (bundle.rootfs / "dir/prog").write_text("#!/bin/sh\npwd\n")
    (bundle.rootfs / "dir/prog").chmod(0o755)
    bundle.process["cwd"] = "/dir"
    bundle.program("./prog")
    assert "/dir\n" == runtime.run().out


def test_arguments(runtime: Runtime, bundle: Bundle) -> None:
    """Whatever they hold."""
    args = ["/bin/cat", "/proc/self/cmdline", "", "a b", "ä\n", "x" * 100000]
    bundle.program(*args)
    assert "\0".join(args) + "\0" == runtime.run().out


def test_working_directory_is_made(runtime: Runtime, bundle: Bundle) -> None:
    """A cwd that is missing is made, with its parents; it belongs to root and is 0755."""
    bundle.process["cwd"] = "/a/b/c"
    assert "/a/b/c\n0:0 755\n" == runtime.shell("pwd; stat -c '%u:%g %a' .", umask=0o77)


def test_working_directory_of_a_user(runtime: Runtime, bundle: Bundle) -> None:
    """A directory that only the container's user may enter."""
    (bundle.rootfs / "mine").mkdir(mode=0o700)
    os.chown(bundle.rootfs / "mine", 1000, 1000)
    bundle.process["cwd"] = "/mine"
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}
    assert "/mine\n" == runtime.shell("pwd")


def test_working_directory_that_the_user_may_not_enter(runtime: Runtime, bundle: Bundle) -> None:
    """/root of a container whose user is another: the program begins there, as with runc and crun."""
    (bundle.rootfs / "root").mkdir(exist_ok=True)
    (bundle.rootfs / "root").chmod(0o700)
    bundle.process["cwd"] = "/root"
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}
    assert "/root\nls: .: Permission denied\n" == runtime.shell("pwd; ls . 2>&1 || true").replace("can't open '.'", ".")


@pytest.mark.parametrize(("mode", "owner"), [(0o700, (1000, 7)), (0o070, (5, 1000)), (0o070, (5, 1001))])
def test_working_directory_that_only_the_user_may_enter(
    runtime: Runtime, bundle: Bundle, mode: int, owner: tuple[int, int]
) -> None:
    """As with NFS or FUSE, root's capabilities do not count: then the user's ids and groups do."""
    (bundle.rootfs / "mine").mkdir()
    (bundle.rootfs / "mine").chmod(mode)
    os.chown(bundle.rootfs / "mine", *owner)
    bundle.process["cwd"] = "/mine"
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [1001]}
    bundle.process["capabilities"] = {}
    bundle.shell("pwd; grep -E '^(Uid|Gid)' /proc/self/status")
    bundle.write()
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command += runtime.command("--cgroup-manager", "disabled", "run", "--bundle", bundle.folder, runtime.id)
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert ["/mine", "Uid:", *["1000"] * 4, "Gid:", *["1000"] * 4] == done.stdout.split()


def test_working_directory_on_a_mount(runtime: Runtime, bundle: Bundle) -> None:
    """It is entered after the mounts."""
    bundle.mount("/mnt", "tmpfs", "size=64k")
    bundle.process["cwd"] = "/mnt/new"
    assert "/mnt/new\ntmpfs\n" == runtime.shell("pwd; stat -f -c %T .")


# --- descriptors


def descriptors(runtime: Runtime, *options: Any, **more: bool) -> list[str]:
    """Numbers of what the program has open, without the one that ls reads the directory by."""
    runtime.bundle.shell("exec ls -1 /proc/self/fd")
    result = runtime.run(*options, **more)
    assert 0 == result.status, result
    return result.out.split()[:-1]


def test_only_three_descriptors(runtime: Runtime) -> None:
    """Whatever the caller has open."""
    leaks = [os.open("/", os.O_RDONLY) for _ in range(20)]
    for fd in leaks:
        os.set_inheritable(fd, True)
    try:
        assert ["0", "1", "2"] == descriptors(runtime, close_fds=False)
    finally:
        for fd in leaks:
            os.close(fd)


def test_descriptors_of_the_created_process(runtime: Runtime, bundle: Bundle) -> None:
    """What waits for start holds nothing of the host's but its FIFOs."""
    bundle.hook("startContainer", "true").program("true")
    runtime.create()
    folder = f"/proc/{runtime.pid()}/fd"
    targets = sorted(os.readlink(f"{folder}/{name}") for name in os.listdir(folder) if int(name) > 2)
    state = runtime.root / runtime.id
    assert ["/memfd:state (deleted)", f"{state}/exec.fifo", f"{state}/result.fifo"] == targets


def run_with_descriptors(
    runtime: Runtime, script: str, numbers: list[int], *options: int | str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[Any]:
    """`run` by a shell which has opened these descriptors, each on a file that holds its number."""
    for n in numbers:
        (runtime.folder / f"fd{n}").write_text(f"<{n}>")
    opened = " ".join(f"{n}<{runtime.folder}/fd{n}" for n in numbers)
    runtime.bundle.shell(script).write()
    command = ["bash", "-c", f'exec "$@" {opened}', "sh"]
    command += runtime.command("run", *options, "--bundle", runtime.bundle.folder, runtime.id)
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
    )


def test_preserved_descriptors(runtime: Runtime) -> None:
    """--preserve-fds N passes 3 to 2+N, and no more."""
    script = "cat <&4; cat <&3; exec ls -1 /proc/self/fd"
    done = run_with_descriptors(runtime, script, [3, 4, 5, 9], "--preserve-fds", 2)
    assert "<4><3>0\n1\n2\n3\n4\n5\n" == done.stdout, done  # 5 is what ls has opened


def test_preserved_descriptors_with_holes(runtime: Runtime) -> None:
    """A number that the caller has not opened is not a descriptor of the runtime."""
    script = "for n in 3 4 5 6 7; do echo $n $(readlink /proc/self/fd/$n); done"
    done = run_with_descriptors(runtime, script, [5], "--preserve-fds", 4)
    found = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert f"{runtime.folder}/fd5" == found.pop("5")
    assert {"3": "", "4": "", "6": "", "7": ""} == {n: target.replace("/dev/null", "") for n, target in found.items()}


MANY = 300
TIGHT = (256, 2000)  # soft, hard


def with_many_mounts(runtime: Runtime, **options: tuple[int, int]) -> subprocess.CompletedProcess[Any]:
    """The program's soft and hard limit on descriptors, where both are tighter for the runtime than its mounts need."""
    source = runtime.folder / "source"
    source.mkdir()
    for n in range(MANY):
        runtime.bundle.mount(f"/many/{n}", "none", "bind", source=source)
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, options.get("limit", TIGHT))  # noqa: E731
    runtime.bundle.shell(f"test $(grep -c /many/ /proc/mounts) = {MANY} && ulimit -Sn && ulimit -Hn").write()
    command = runtime.command("run", "--bundle", runtime.bundle.folder, runtime.id)
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=limit, check=False)


def test_more_mounts_than_descriptors(runtime: Runtime) -> None:
    """The soft limit is the program's, and does not count for the runtime."""
    done = with_many_mounts(runtime)
    assert (0, "", "256\n2000\n") == (done.returncode, done.stderr, done.stdout)


def test_more_mounts_than_descriptors_of_a_user_with_limits(runtime: Runtime, bundle: Bundle) -> None:
    """Limits of the config go before those of the caller."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]
    done = with_many_mounts(runtime)
    assert (0, "", "77\n88\n") == (done.returncode, done.stderr, done.stdout)


def test_more_mounts_than_the_hard_limit(runtime: Runtime) -> None:
    """Nothing can be done; it is said, and nothing is left."""
    done = with_many_mounts(runtime, limit=(256, 256))
    assert 1 == done.returncode
    assert "too many open files" in done.stderr
    assert 1 == done.stderr.count("\n")
    runtime.assert_gone()


def test_listen_descriptors(runtime: Runtime) -> None:
    """LISTEN_FDS are passed, with LISTEN_PID as the program sees it."""
    script = "env | grep ^LISTEN | sort; cat <&3; cat <&4; ls -1 /proc/self/fd | tr '\\n' ' '"
    path = os.environ["PATH"]
    (runtime.folder / "wrapper").write_text('#!/bin/bash\nexport LISTEN_PID=$$ LISTEN_FDS=2\nexec "$@"\n')
    (runtime.folder / "wrapper").chmod(0o755)
    executable, wrapper = runtime.command, str(runtime.folder / "wrapper")
    runtime.command = lambda *words, **kept: [wrapper, *executable(*words, **kept)]
    done = run_with_descriptors(runtime, script, [3, 4, 5], environment={"PATH": path})
    assert "LISTEN_FDS=2\nLISTEN_PID=1\n<3><4>0 1 2 3 4 5 " == done.stdout, done


def test_listen_descriptors_without_a_program(runtime: Runtime, bundle: Bundle) -> None:
    """A config without `process` has no user for them: the container is created."""
    del bundle.config["process"]
    bundle.write()
    command = runtime.command("create", "--bundle", bundle.folder, runtime.id)
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
    with (runtime.folder / "said").open("w+") as said:  # no pipe: the container goes on holding it
        done = subprocess.run(["bash", "-c", script, "bash", *command], stdout=said, stderr=said, check=False)
    assert (0, "") == (done.returncode, (runtime.folder / "said").read_text())
    assert "created" == runtime.state()["status"]


def test_listen_descriptors_of_another(runtime: Runtime) -> None:
    """LISTEN_PID of another process: not for us."""
    done = run_with_descriptors(
        runtime, "env | grep -c LISTEN; ls -1 /proc/self/fd | tr '\\n' ' '", [3, 4],
        environment={"PATH": os.environ["PATH"], "LISTEN_PID": "1", "LISTEN_FDS": "2"},
    )  # fmt: skip
    assert "0\n0 1 2 3 " == done.stdout, done


def test_closed_standard_descriptors(runtime: Runtime, bundle: Bundle) -> None:
    """A caller without standard streams: the program's are not files of the runtime's."""
    bundle.shell("for n in 0 1 2; do readlink /proc/self/fd/$n; done > /seen; true").write()
    command = [
        "bash",
        "-c",
        'exec "$@" 0<&- 1>&- 2>&-',
        "sh",
        *runtime.command("run", "--bundle", bundle.folder, runtime.id),
    ]
    done = subprocess.run(command, timeout=PATIENCE, check=False)
    assert 0 == done.returncode
    seen = (bundle.rootfs / "seen").read_text().splitlines()
    assert {"/dev/null"} >= {target for n, target in enumerate(seen) if n != 1}, seen


def test_standard_streams_belong_to_the_user(runtime: Runtime, bundle: Bundle) -> None:
    """A user can reopen /dev/stdout, and a pipe is theirs."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    assert "out\n" == runtime.shell("echo out > /dev/stdout")


def test_caller_may_be_threaded(runtime: Runtime, bundle: Bundle) -> None:
    """The library works beside other threads, and leaves them alone."""
    bundle.program("sleep", 100).write()
    before = threading.active_count()
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        request = CreateRequest(runtime.id, root=str(runtime.root), bundle=str(bundle.folder), log=Log())
        container = create(request)
        start(container)
        container.close()
        assert "running" == runtime.state()["status"]
        assert before + 3 == threading.active_count()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
