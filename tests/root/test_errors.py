"""Errors of a create: one line with the place in config.json, the object and the kernel's reason; nothing is left."""

import itertools
import json
import os
import re
import resource
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import PATIENCE, Bundle, Runtime, cgroup_mount

pytestmark = pytest.mark.root

MACHINES_32 = {"x86_64": 3, "aarch64": 40}


def executable(bundle: Bundle, path: str, content: bytes, mode: int = 0o755) -> None:
    place = bundle.rootfs / path.lstrip("/")
    place.write_bytes(content)
    place.chmod(mode)
    bundle.program(path)


def missing_source(bundle) -> None:
    bundle.mount("/x", "bind", "rbind", source="/no/such")


def missing_relative_source(bundle) -> None:
    bundle.mount("/x", "bind", "bind", source="no/such")


def file_on_directory(bundle) -> None:
    bundle.mount("/tmp", "bind", "bind", source=bundle.rootfs / "etc/passwd")


def directory_on_file(bundle) -> None:
    bundle.mount("/etc/passwd", "tmpfs")


def unknown_filesystem(bundle) -> None:
    bundle.mount("/x", "nosuchfs")


def unknown_option(bundle) -> None:
    bundle.mount("/x", "tmpfs", "nosuid", "nosuchoption")


def bad_option_value(bundle) -> None:
    bundle.mount("/x", "tmpfs", "nosuid", "size=much")


def bad_option_of_a_silent_filesystem(bundle) -> None:
    bundle.mount("/x", "overlay", "lowerdir=/no/such", source="overlay")


def target_below_a_file(bundle) -> None:
    bundle.mount("/etc/passwd/x", "tmpfs")


def target_on_a_readonly_filesystem(bundle) -> None:
    bundle.mount("/sys/nosuch", "tmpfs")


def target_in_proc(bundle) -> None:
    bundle.mount("/proc/self/attr", "tmpfs")


def target_is_the_root(bundle) -> None:
    bundle.mount("/tmp/..", "tmpfs")


def program_not_found(bundle) -> None:
    bundle.program("nosuchprogram")


def program_missing(bundle) -> None:
    bundle.program("/no/such")


def program_is_a_directory(bundle) -> None:
    bundle.program("/etc")


def program_is_not_executable(bundle) -> None:
    bundle.program("/etc/passwd")


def program_is_anothers(bundle) -> None:
    executable(bundle, "/bin/mine", b"#!/bin/sh\n", 0o700)
    bundle.process["user"] |= {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}


def program_is_not_executable_in_path(bundle) -> None:
    executable(bundle, "/bin/plain", b"#!/bin/sh\n", 0o644)
    bundle.program("plain")


def program_of_another_type(bundle) -> None:
    bundle.program("/dev/null")


def program_on_a_noexec_mount(bundle) -> None:
    bundle.mount("/mnt", "bind", "bind", "noexec", source=bundle.rootfs / "bin").program("/mnt/true")


def program_without_path(bundle) -> None:
    bundle.process["env"] = ["A=b"]
    bundle.program("true")


def interpreter_missing(bundle) -> None:
    executable(bundle, "/bin/script", b"#!/usr/bin/nosuch -x\n")


def interpreter_is_not_executable(bundle) -> None:
    executable(bundle, "/bin/script", b"#! /etc/passwd\n")


def interpreter_of_the_interpreter(bundle) -> None:
    executable(bundle, "/bin/inner", b"#!/usr/bin/nosuch\n")
    executable(bundle, "/bin/script", b"#!/bin/inner\n")


def interpreter_with_carriage_return(bundle) -> None:
    executable(bundle, "/bin/script", b"#!/bin/sh\r\necho hello\r\n")
    bundle.program("script")


def loader_missing(bundle) -> None:
    with open("/bin/true", "rb") as dynamic:
        executable(bundle, "/bin/dynamic", dynamic.read())


def loader_of_32_bits_missing(bundle) -> None:
    """The header, one program header of type PT_INTERP, the name of a loader."""
    loader = b"/lib/nosuch.so.2\0"
    head = b"\x7fELF\1\1\1" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 3, MACHINES_32[os.uname().machine], 1, 0, 52, 0, 0,
                                                     52, 32, 1, 0, 0, 0)  # fmt: skip
    entry = struct.pack("<IIIIIIII", 3, 84, 84, 84, len(loader), len(loader), 4, 1)
    executable(bundle, "/bin/dynamic", head + entry + loader)


def cwd_is_a_file(bundle) -> None:
    bundle.process["cwd"] = "/etc/passwd"


def cwd_below_a_file(bundle) -> None:
    bundle.process["cwd"] = "/etc/passwd/x"


def cwd_is_closed(bundle) -> None:
    bundle.in_user_namespace()
    (bundle.rootfs / "closed").mkdir(mode=0o700)  # the host root's: no user in the container owns it
    bundle.process["cwd"] = "/closed"
    bundle.process["user"] |= {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}


def rootfs_missing(bundle) -> None:
    bundle.config["root"]["path"] = "nosuch"


def rootfs_is_a_file(bundle) -> None:
    bundle.config["root"]["path"] = "rootfs/etc/passwd"


def device_is_something_else(bundle) -> None:
    (bundle.rootfs / "node").write_text("")
    bundle.linux["devices"] = [{"path": "/node", "type": "c", "major": 1, "minor": 3}]


def device_is_another(bundle) -> None:
    os.mknod(bundle.rootfs / "node", 0o020666, os.makedev(1, 5))
    bundle.linux["devices"] = [{"path": "/node", "type": "c", "major": 1, "minor": 3}]


def device_of_an_unmapped_user(bundle) -> None:
    bundle.in_user_namespace(size=10)
    bundle.linux["devices"] = [{"path": "/node", "type": "c", "major": 1, "minor": 3, "uid": 10}]


def unknown_sysctl(bundle) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.nosuch": "1"}


def bad_sysctl_value(bundle) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "many"}


def hard_limit_below_soft(bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]


def limit_above_the_kernels(bundle) -> None:
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 40},
    ]


def namespace_missing(bundle) -> None:
    bundle.namespace("network", "/no/such")


def namespace_is_a_file(bundle) -> None:
    bundle.namespace("network", "/etc/passwd")


def namespace_of_another_type(bundle) -> None:
    bundle.namespace("network", "/proc/self/ns/uts")


def cgroup_climbs(bundle) -> None:
    bundle.linux["cgroupsPath"] = "/../x"


def cgroup_below_a_populated_one(bundle) -> None:
    bundle.linux["cgroupsPath"] = "/"


def unmapped_user(bundle) -> None:
    bundle.in_user_namespace(size=10)
    bundle.process["user"] |= {"uid": 10, "gid": 0}


def unmapped_group(bundle) -> None:
    bundle.in_user_namespace(size=10)
    bundle.process["user"] |= {"additionalGids": [10]}


def hook_is_relative(bundle) -> None:
    bundle.hook("createRuntime", "true", path="bin/sh")


ERRORS = [
    (
        missing_source,
        "/mounts/N/source: cannot use mount source /no/such: no such file or directory",
    ),
    (
        missing_relative_source,
        "/mounts/N/source: cannot use mount source .*/bundle/no/such: no such file or directory",
    ),
    (
        file_on_directory,
        (
            "/mounts/N: cannot bind .*/passwd on /tmp: move_mount: not a directory "
            ".hint: .*/passwd is a file, and /tmp of the container a directory."
        ),
    ),
    (
        directory_on_file,
        (
            "/mounts/N: cannot mount tmpfs on /etc/passwd: move_mount: not a directory "
            ".hint: /etc/passwd of the container is a file, and a new tmpfs a directory."
        ),
    ),
    (
        unknown_filesystem,
        "/mounts/N: cannot mount nosuchfs on /x: fsopen: no such device .hint: this kernel .*",
    ),
    (
        unknown_option,
        "/mounts/N/options/1: cannot mount tmpfs on /x: fsconfig: invalid argument .*nosuchoption.*",
    ),
    (
        bad_option_of_a_silent_filesystem,
        (
            "/mounts/N/options/0: cannot mount overlay on /x: fsconfig: no such file or directory"
            "( .overlay: .*| .hint: the option is lowerdir=/no/such.)"
        ),
    ),
    (
        bad_option_value,
        "/mounts/N/options/1: cannot mount tmpfs on /x: fsconfig: invalid argument.*",
    ),
    (
        target_below_a_file,
        "/mounts/N: cannot mount tmpfs on /etc/passwd/x: openat2: not a directory",
    ),
    (
        target_on_a_readonly_filesystem,
        "/mounts/N: cannot mount tmpfs on /sys/nosuch: mkdirat: .*",
    ),
    (
        target_in_proc,
        "/mounts/N: cannot mount tmpfs on /proc/self/attr: the destination lies on procfs.*",
    ),
    (
        target_is_the_root,
        (
            "config.json:.*/mounts/N/destination: cannot mount over the container's "
            "root|/mounts/N/destination: cannot mount over the container's root"
        ),
    ),
    (
        program_not_found,
        '/process/args/0: exec: "nosuchprogram": executable file not found in \\$PATH .hint: PATH is /bin.',
    ),
    (
        program_without_path,
        '/process/args/0: exec: "true": executable file not found in \\$PATH .hint: process.env has no PATH.',
    ),
    (
        program_missing,
        '/process/args/0: exec: "/no/such": stat /no/such: no such file or directory',
    ),
    (
        program_is_a_directory,
        '/process/args/0: exec: "/etc": is a directory',
    ),
    (
        program_is_not_executable,
        '/process/args/0: exec: "/etc/passwd": permission denied .hint: /etc/passwd has mode 0644: no user may .*',
    ),
    (
        program_is_not_executable_in_path,
        '/process/args/0: exec: "plain": permission denied .hint: /bin/plain has mode 0644: no user may execute it.',
    ),
    (
        program_of_another_type,
        '/process/args/0: exec: "/dev/null": permission denied .hint: /dev/null is not a regular file.',
    ),
    (
        program_on_a_noexec_mount,
        '/process/args/0: exec: "/mnt/true": permission denied .hint: /mnt/true lies on a mount with the option noexec.',
    ),
    (
        program_is_anothers,
        (
            '/process/args/0: exec: "/bin/mine": permission denied '
            ".hint: /bin/mine has mode 0700, and the program's user is 1000."
        ),
    ),
    (
        interpreter_missing,
        (
            '/process/args/0: exec: "/bin/script": cannot be executed without its `#!` interpreter /usr/bin/nosuch: '
            "no such file or directory .hint: the first line of /bin/script names it."
        ),
    ),
    (
        interpreter_is_not_executable,
        (
            '/process/args/0: exec: "/bin/script": cannot be executed without its `#!` interpreter /etc/passwd: '
            "permission denied .hint: the first line of /bin/script names it."
        ),
    ),
    (
        interpreter_of_the_interpreter,
        (
            '/process/args/0: exec: "/bin/script": cannot be executed without its `#!` interpreter /usr/bin/nosuch: '
            "no such file or directory .hint: the first line of /bin/inner names it."
        ),
    ),
    (
        interpreter_with_carriage_return,
        (
            '/process/args/0: exec: "script": cannot be executed without its `#!` interpreter /bin/sh.x0d: no such file '
            "or directory .hint: the first line of /bin/script ends with a carriage return, as on Windows."
        ),
    ),
    (
        loader_missing,
        (
            '/process/args/0: exec: "/bin/dynamic": cannot be executed without its ELF loader /lib.*: no such file or '
            "directory .hint: /bin/dynamic is dynamically linked, and was built for another root filesystem."
        ),
    ),
    (
        loader_of_32_bits_missing,
        (
            '/process/args/0: exec: "/bin/dynamic": cannot be executed without its ELF loader /lib/nosuch.so.2: no such '
            "file or directory .hint: .*"
        ),
    ),
    (
        cwd_is_a_file,
        (
            '/process/cwd: chdir to cwd ."/etc/passwd".* failed: not a '
            "directory|/process/cwd: cannot make directory /etc/passwd: .*"
        ),
    ),
    (
        cwd_below_a_file,
        "/process/cwd: cannot make directory /etc/passwd/x: openat2: not a directory",
    ),
    (
        cwd_is_closed,
        '/process/cwd: chdir to cwd ."/closed".* failed: permission denied',
    ),
    (
        rootfs_missing,
        "/root/path: cannot use root filesystem .*/nosuch: no such file or directory",
    ),
    (
        rootfs_is_a_file,
        "/root/path: cannot use root filesystem .*/passwd: not a directory",
    ),
    (
        device_is_something_else,
        "/linux/devices/0: cannot make device /node: something else exists at this path",
    ),
    (
        device_is_another,
        "/linux/devices/0: cannot make device /node: something else exists at this path",
    ),
    (
        device_of_an_unmapped_user,
        "/linux/devices/0/uid: cannot set the owner of the device: 10 is not in /linux/uidMappings",
    ),
    (
        unknown_sysctl,
        "/linux/sysctl/net.ipv4.nosuch: cannot write '1' to /proc/sys/net/ipv4/nosuch: openat2: no such .*",
    ),
    (
        bad_sysctl_value,
        "/linux/sysctl/net.ipv4.ip_forward: cannot write 'many' to /proc/sys/.*: write: invalid argument",
    ),
    (
        hard_limit_below_soft,
        ".*/process/rlimits/0.*",
    ),
    (
        limit_above_the_kernels,
        "/process/rlimits/1: cannot set RLIMIT_NOFILE: operation not permitted.*",
    ),
    (
        namespace_missing,
        "/linux/namespaces/N/path: cannot join /no/such: no such file or directory",
    ),
    (
        namespace_is_a_file,
        "/linux/namespaces/N/path: cannot join /etc/passwd: not a namespace",
    ),
    (
        namespace_of_another_type,
        "/linux/namespaces/N/path: cannot join /proc/self/ns/uts: not a network namespace",
    ),
    (
        cgroup_climbs,
        '/linux/cgroupsPath: expected a path without "..", found the string "/../x"',
    ),
    (
        cgroup_below_a_populated_one,
        "/linux/cgroupsPath: cannot use cgroup path '/': .*",
    ),
    (
        unmapped_user,
        "/process/user: cannot change user and group: setresuid: invalid argument .hint: the id is not mapped.*",
    ),
    (
        unmapped_group,
        "/process/user/additionalGids: cannot set supplementary groups: setgroups: invalid argument .hint: .*",
    ),
    (
        hook_is_relative,
        ".*/hooks/createRuntime/0/path.*",
    ),
]


@pytest.mark.parametrize(("fault", "expected"), ERRORS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("verb", ["create", "run"])
def test_error(runtime: Runtime, bundle: Bundle, fault: Callable[..., Any], expected: str, verb: str) -> None:
    """What an operator reads, and finds in the log."""
    fault(bundle)
    last = {"mounts": len(bundle.config["mounts"]) - 1, "namespaces": len(bundle.linux["namespaces"]) - 1}
    expected = re.sub(r"/(mounts|namespaces)/N", lambda match: f"/{match[1]}/{last[match[1]]}", expected)
    message = runtime.create_fails(verb=verb)
    assert re.fullmatch(expected, message), message


CONTROLLERS = {"memory": {"limit": 1 << 26}, "cpu": {"shares": 512}, "pids": {"limit": 10}}


@pytest.mark.may_skip("a host that has the controller can't lack it")
def test_cgroup_that_delegates(runtime: Runtime, bundle: Bundle) -> None:
    """A cgroup that hands controllers on may hold no process: the error is the path's, not the namespaces'."""
    cgroup = Path(cgroup_mount(), f"{runtime.id}-parent")
    bundle.linux["cgroupsPath"] = f"/{cgroup.name}"
    cgroup.mkdir()
    try:
        controllers = (cgroup / "cgroup.controllers").read_text().split()
        assert controllers, "this host's cgroup v2 has no controller"
        (cgroup / "cgroup.subtree_control").write_text(f"+{controllers[0]}")
        bundle.write()
        message = runtime.fails("create", "--bundle", bundle.folder, runtime.id)
    finally:
        cgroup.rmdir()
    assert message.startswith(f"/linux/cgroupsPath: cannot put a process into cgroup /{cgroup.name}: device or ")
    assert "subtree_control" in message


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_controller_that_is_missing(runtime: Runtime, bundle: Bundle, controller: str) -> None:
    """A limit that this host's hierarchy can't enforce is an error which names the controller, and its place."""
    with open(f"{cgroup_mount()}/cgroup.controllers") as file:
        if controller in file.read().split():
            pytest.skip("this host has the controller")
    bundle.linux["resources"][controller] = CONTROLLERS[controller]
    message = runtime.create_fails()
    assert message.startswith(f"/linux/resources/{controller}/{next(iter(CONTROLLERS[controller]))}: ")
    assert controller in message.partition(": ")[2]


# --- the file itself


def processor_time() -> float:
    """Of the commands that have ended, in seconds: a busy machine does not change it much."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "config.json:1:1: .*"),
        (b"[]", "config.json:1:1: .*"),
        (b'{"ociVersion": "1.0.2", "root"', "config.json:1:31: .*"),
        (b'{"ociVersion": "1.0.2"}', "config.json:1:1: /: missing the required property .*"),
        (b'{\n "ociVersion": "1.0.2",\n "ociVersion": "1.0.2"}', "config.json:3:2: .*ociVersion.*"),
        (b"\xff\xfe{\x00}\x00", "config.json:.*"),
        (b"[" * 200000, "config.json:1:.*"),
        (b'{"ociVersion": ' + b"9" * 100000 + b"}", "config.json:1:.*"),
    ],
    ids=["empty", "array", "truncated", "bare", "duplicate", "UTF-16", "deep", "number"],
)
def test_content(runtime: Runtime, bundle: Bundle, content: bytes, expected: str) -> None:
    """An invalid config: the line, the column, the expected value, within seconds of the processor's time."""
    bundle.write = lambda: (bundle.folder / "config.json").write_bytes(content)
    before = processor_time()
    message = runtime.create_fails()
    assert processor_time() - before < 5
    assert re.fullmatch(expected, message), message
    assert len(message) < 1000


def with_memory(size: int) -> dict[str, Callable[..., Any]]:
    """Options for a command that may have so many bytes of address space."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))}


@pytest.mark.parametrize("verb", ["validate", "plan", "create"])
def test_little_memory_is_reported_in_one_line(runtime: Runtime, bundle: Bundle, verb: str) -> None:
    """Whatever there is too little for: no internal error, and no traces."""
    words = ["create", "--bundle", bundle.folder, runtime.id] if verb == "create" else [verb, bundle.folder]
    bundle.config = {"ociVersion": "1.0.0"}
    bundle.write()

    def starts(size):
        done = subprocess.run(runtime.command(*words), capture_output=True, check=False, **with_memory(size))
        return b"missing the required property" in done.stdout + done.stderr

    least = next(size for size in itertools.count(24 << 20, 1 << 19) if starts(size))
    bundle.config["process"] = {"cwd": "/", "args": [5]}
    bundle.config["annotations"] = {f"key-{number}": "x" * 90 for number in range(9000)}
    bundle.write()
    told = tuple(runtime(*words))
    lacking = (1, "", f"cannot {verb}: out of memory\n")
    not_even_the_name = (1, "", "cannot run the command: out of memory\n")

    sizes = range(least, least + (16 << 20), 1 << 20)
    outcomes = {tuple(runtime(*words, **with_memory(size))) for size in sizes}
    assert {lacking, told} == outcomes - {not_even_the_name}
    runtime.assert_gone()


def no_file(path) -> None:
    pass


def fifo(path) -> None:
    os.mkfifo(path)


def folder(path) -> None:
    path.mkdir()


def link(path) -> None:
    path.symlink_to("/etc/passwd")


def endless(path) -> None:
    path.symlink_to("/dev/zero")


def huge(path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


def huge_string(path) -> None:
    with path.open("wb") as file:
        file.write(b'{"ociVersion": "' + b"x" * (100 << 20) + b'"}')


@pytest.mark.parametrize(
    "kind", [no_file, fifo, folder, link, endless, huge, huge_string], ids=lambda kind: kind.__name__
)
def test_file(runtime: Runtime, bundle: Bundle, kind: Callable[..., Any]) -> None:
    """Files of other types or sizes are rejected at once."""
    bundle.write = lambda: None
    kind(bundle.folder / "config.json")
    before = processor_time()
    message = runtime.create_fails()
    assert processor_time() - before < 5
    assert f"{bundle.folder}/config.json" in message
    assert message.startswith("cannot ")


def test_bundle_is_missing(runtime: Runtime, bundle: Bundle) -> None:
    """The bundle's path is in the message."""
    message = runtime.fails("create", "--bundle", "/no/such", runtime.id)
    assert "cannot " in message
    assert "/no/such" in message
    assert "no such" in message


def test_pid_file_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    """The container is taken back."""
    message = runtime.create_fails("--pid-file", "/no/such/pid")
    assert message == "cannot write pid file /no/such/pid: no such file or directory"


def test_log_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    """The error goes to standard error alone."""
    bundle.write()
    command = [
        runtime.executable,
        "--root",
        runtime.root,
        "--log",
        "/no/such/log",
        "create",
        "-b",
        bundle.folder,
        runtime.id,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert 1 == done.returncode
    assert "cannot open log /no/such/log: no such file or directory\n" == done.stderr
    assert not runtime.root.exists()


@pytest.mark.parametrize("root", ["/proc/x", "/proc/x/y", "/dev/null/x"])
def test_state_root_cannot_be_made(runtime: Runtime, bundle: Bundle, root: str) -> None:
    """The reason is the kernel's, and the path is named."""
    bundle.write()
    words = [runtime.executable, "--root", root, "create", "-b", bundle.folder, runtime.id]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert 1 == done.returncode
    assert re.fullmatch(f"cannot use state directory {root}: [a-z ]+\n", done.stderr), done.stderr


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_state_root_is_open(runtime: Runtime, bundle: Bundle, mode: int) -> None:
    """A state root that others can write to is not used."""
    runtime.root.mkdir(mode=0o700)
    runtime.root.chmod(mode)
    message = runtime.fails("create", "--bundle", bundle.folder, runtime.id)
    assert message.startswith(f"cannot use state directory {runtime.root}: others can write to it")
    runtime.root.chmod(0o700)


def test_state_root_is_readonly(runtime: Runtime, bundle: Bundle) -> None:
    """EROFS, on the mkdir that would claim the id."""
    bundle.write()
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        'mkdir -p "$0"; mount -t tmpfs -o ro,mode=700 none "$0"; shift 0; exec "$@"',
        runtime.root,
    ]
    command += runtime.command("create", "--bundle", bundle.folder, runtime.id)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert 1 == done.returncode
    assert done.stderr == f"cannot make state directory {runtime.root}/{runtime.id}: read-only file system\n"
    runtime.root.rmdir()


def test_state_root_is_full(runtime: Runtime, bundle: Bundle) -> None:
    """ENOSPC while the state is written: one line, nothing is left."""
    bundle.write()
    fill = 'mkdir -p "$0"; mount -t tmpfs -o size=4k,mode=700 none "$0"; head -c 4096 /dev/zero > "$0/.full"'
    script = f'{fill}; "$@"; s=$?; ls "$0"; exit $s'
    command = ["unshare", "-m", "sh", "-c", script, runtime.root]
    command += runtime.command("create", "--bundle", bundle.folder, runtime.id)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (1, "") == (done.returncode, done.stdout)
    assert "no space left on device" in done.stderr
    assert 1 == done.stderr.count("\n")
    assert "internal error" not in done.stderr
    assert [] == runtime.host.cgroups()
    runtime.root.rmdir()


@pytest.mark.parametrize("limit", range(3, 32))
def test_few_descriptors(runtime: Runtime, bundle: Bundle, limit: int) -> None:
    """However many descriptors there are: the container is made, or an error and nothing is left."""
    bundle.write()
    command = [
        "sh",
        "-c",
        f'ulimit -n {limit}; exec "$@"',
        "sh",
        *runtime.command("run", "--bundle", bundle.folder, runtime.id),
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.stderr.count("\n") == 1
        assert re.search("too many open files|cannot|shared libraries", done.stderr), done.stderr
    else:
        assert "" == done.stderr
    runtime.assert_gone()


def test_error_is_one_json_line(runtime: Runtime, bundle: Bundle) -> None:
    """A value with a line end and an escape sequence can forge neither a line nor a colour."""
    bundle.program("/bin/x\ny\x1b[31m")
    message = runtime.create_fails()
    assert "\\n" in message
    assert "\x1b" not in message
    line = runtime.log.read_text().splitlines()[-1]
    assert {"level", "msg", "time", "error", "pointer"} == set(json.loads(line))


def test_another_bundle_is_unharmed(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """A failing create of a second container leaves the first one running."""
    bundle.program("sleep", 100)
    runtime.create()
    runtime.start()
    other = Bundle(tmp_path / "other")
    other.mount("/x", "bind", "bind", source="/no/such").write()
    runtime.fails("create", "--bundle", other.folder, f"{runtime.host.token}-2")
    assert "running" == runtime.state()["status"]
    assert not (runtime.root / f"{runtime.host.token}-2").exists()
