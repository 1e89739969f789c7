"""The executable that a container can see while its processes are set up, and what it can do to it (CVE-2019-5736).

The runtime starts once and never enters a container. What a container sees as /proc/PID/exe is the helper, which is in
a sealed memfd, or on a read-only mount where memfds may not be executed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGSEGV

import pytest

from tests.support import memfds
from tests.support.config import CAPABILITIES
from tests.support.hostile import Attack
from tests.support.probe import build
from tests.support.rootless import Plain
from tests.support.runtime import Bundle, Host, Result, Runtime, wait_for

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

MEMFD, PRIVATE = "/memfd:pyoci (deleted)", "/pyoci (deleted)"
ROUNDS = 60
NOEXEC = Path("/proc/sys/vm/memfd_noexec")
# A command in a pid namespace of its own, whose memfds may not be executed: the sysctl belongs to the namespace.
REFUSE = 'echo {level} > /proc/sys/vm/memfd_noexec; exec "$@"'


def digest(path: str | Path) -> str:
    """A file's content, in short."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Grabber:
    """A container whose program looks for executables that it could overwrite."""

    def __init__(self, attack: Attack, *, writes: bool = True) -> None:
        self.attack = attack
        self.before = digest(attack.executable)
        shutil.copy(build("grabber"), attack.rootfs / "bin/grabber")
        attack.process["args"] = ["/bin/grabber", "write" if writes else "look"]

    def allow_tracing(self) -> None:
        """Give the container the capability to look into processes that may not be dumped."""
        for kind in ("bounding", "effective", "permitted"):
            self.attack.process["capabilities"][kind] = [*CAPABILITIES, "CAP_SYS_PTRACE"]

    def start(self) -> None:
        """Start the container, and wait until it looks."""
        assert 0 == (result := self.attack.create()).status, result
        assert 0 == (result := self.attack.start()).status, result
        wait_for(lambda: "ready" in self.attack.output())

    def found(self, what: str) -> set[str]:
        """What it has seen, opened for writing, or written to, so far."""
        lines = self.attack.output().splitlines()
        return {line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} ")}

    def execute(self, *options: str) -> Result:
        """Execute a program in the container."""
        return self.attack("exec", *options, self.attack.id, "/bin/true")


def test_exec_shows_only_the_sealed_helper(attack: Attack) -> None:
    """A process of the container that may trace others sees the helper, and can change none of its bytes."""
    grabber = Grabber(attack)
    grabber.allow_tracing()
    grabber.start()
    for n in range(ROUNDS * 5):
        assert 0 == (result := grabber.execute()).status, result
        if n > ROUNDS and MEMFD in grabber.found("seen"):
            break
    assert {MEMFD} == grabber.found("seen")
    time.sleep(0.1)  # the files that it still holds are now executed by no process
    assert 0 == grabber.execute().status
    assert set() == grabber.found("written")
    assert grabber.before == digest(attack.executable)


def test_container_in_the_same_pid_namespace_is_set_up_out_of_reach(attack: Attack) -> None:
    """The same for `create` and `start` in a pid namespace that the hostile container shares."""
    grabber = Grabber(attack)
    grabber.allow_tracing()
    grabber.start()
    pids = f"/proc/{attack.pid()}/ns/pid"
    second = json.loads((attack.bundle.folder / "config.json").read_text())
    second["process"]["args"] = ["/bin/true"]
    second["hooks"] = {"startContainer": [{"path": "/bin/true"}]}
    second["linux"]["namespaces"] = [
        {**entry, "path": pids} if entry["type"] == "pid" else entry for entry in second["linux"]["namespaces"]
    ]
    second["linux"].pop("cgroupsPath", None)
    other = attack.folder / "second"
    other.mkdir()
    second["root"]["path"] = str(attack.rootfs)
    (other / "config.json").write_text(json.dumps(second))
    attack.ids.add(name := f"{attack.id}-2")
    for _ in range(12):
        result = attack("run", "--bundle", other, name)
        assert 0 == result.status, result
    assert grabber.found("seen") <= {MEMFD}
    assert set() == grabber.found("written")
    assert grabber.before == digest(attack.executable)


def test_container_in_the_hosts_pid_namespace_opens_nothing(attack: Attack) -> None:
    """--pid=host shows the runtime itself. With an engine's usual capabilities the container can't open its file."""
    attack.linux["namespaces"] = [entry for entry in attack.linux["namespaces"] if entry["type"] != "pid"]
    grabber = Grabber(attack, writes=False)
    grabber.start()
    for _ in range(ROUNDS):
        assert 0 == (result := grabber.execute()).status, result
    assert set() == {path for path in grabber.found("opened") if "pyoci" in path}
    assert set() == grabber.found("seen") & {attack.executable, MEMFD}
    assert grabber.before == digest(attack.executable)


WAYS = {
    "path": ["/proc/self/exe", "--version"],
    "init": ["/proc/1/exe", "--version"],
    "link": ["/bin/self", "--version"],
    "script": ["/bin/script"],
    "script link": ["/bin/script-link"],
    "thread": ["/proc/thread-self/exe"],
    "descriptor": ["/proc/self/fd/3"],
}


def poison(rootfs: Path) -> None:
    """Put links and scripts that lead to /proc/self/exe into an image."""
    (rootfs / "bin/self").symlink_to("/proc/self/exe")
    for name, line in (("script", "#!/proc/self/exe\n"), ("script-link", "#!/bin/self\n")):
        (rootfs / "bin" / name).write_text(line)
        (rootfs / "bin" / name).chmod(0o755)


@pytest.mark.parametrize("way", WAYS)
def test_exec_of_the_executable_itself_does_nothing(attack: Attack, way: str) -> None:
    """exec of /proc/self/exe runs the helper without a plan, or init's program, as the container's user."""
    before = digest(attack.executable)
    poison(attack.rootfs)
    attack.process["args"] = ["/bin/sleep", "100"]
    assert 0 == (result := attack.create()).status, result
    assert 0 == (result := attack.start()).status, result
    result = attack("exec", attack.id, *WAYS[way])
    assert "runc" not in result.out
    assert "pyoci" not in result.out
    assert way == "init" or result.status in (1, 126, 127, 255), result
    assert "running" == attack.status()
    assert before == digest(attack.executable)


@pytest.mark.parametrize("verb", ["run", "exec", "hook"])
def test_no_library_of_the_image_runs_with_the_helper(attack: Attack, verb: str) -> None:
    """CVE-2019-5736 as published: a library's constructor in a process that executes /proc/self/exe.

    The helper is static. It loads neither the image's loader nor what LD_PRELOAD and ld.so.preload name.
    """
    before = digest(attack.executable)
    poison(attack.rootfs)
    source, library = attack.folder / "evil.c", attack.rootfs / "lib/evil.so"
    library.parent.mkdir(exist_ok=True)
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        '__attribute__((constructor)) static void grab(void) {\n    int fd = open("/proc/self/exe", O_RDONLY);\n'
        '    (void)fd; close(open("/loaded", O_CREAT | O_WRONLY, 0644));\n}\n'
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    (attack.rootfs / "etc").mkdir(exist_ok=True)
    (attack.rootfs / "etc/ld.so.preload").write_text("/lib/evil.so\n")
    (attack.rootfs / "lib64").mkdir(exist_ok=True)
    for loader in ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1"):
        shutil.copy(library, attack.rootfs / loader)
        (attack.rootfs / loader).chmod(0o755)
    attack.process["env"] = [*attack.process.get("env", []), "LD_PRELOAD=/lib/evil.so"]
    attack.process["args"] = ["/bin/script"] if verb == "run" else ["/bin/sleep", "100"]
    if verb == "hook":
        entry = {"path": "/bin/script", "env": ["LD_PRELOAD=/lib/evil.so"]}
        attack.config["hooks"] = {"startContainer": [entry]}
    if verb == "run":
        attack.run()
    else:
        attack.create()
        attack.start()
        attack("exec", "--env", "LD_PRELOAD=/lib/evil.so", attack.id, "/bin/self")
    assert not (attack.rootfs / "loaded").exists()
    assert before == digest(attack.executable)


# --- a kernel that restricts memfds


def restricted(runtime: Runtime, level: int, *words: object) -> Result:
    """Run a command in a new pid namespace with vm.memfd_noexec."""
    prefix = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-ec", REFUSE.format(level=level), "sh"]
    done = subprocess.run([*prefix, *runtime.command(*words)], capture_output=True, text=True, check=False, timeout=60)
    return Result(done.returncode, done.stdout, done.stderr, 0)


needs_sysctl = pytest.mark.skipif(not NOEXEC.exists(), reason="needs Linux 6.3")
may_skip = pytest.mark.may_skip("before Linux 6.3 no memfd can be refused")


@needs_sysctl
@may_skip
@pytest.mark.parametrize("level", [1, 2])
def test_run_where_memfds_are_restricted(runtime: Runtime, bundle: Bundle, level: int) -> None:
    """vm.memfd_noexec=1 demands a flag, 2 refuses memfds: then the helper is on a mount of its own."""
    before = {place: sorted(os.listdir(place)) for place in ("/run", "/dev/shm", "/var/lib", "/var/tmp")}
    bundle.shell("echo ran").write()
    result = restricted(runtime, level, "run", "--bundle", bundle.folder, runtime.id)
    assert (0, "ran\n", "") == (result.status, result.out, result.err)
    for place, names in before.items():
        assert {name for name in os.listdir(place) if "pyoci" in name} <= set(names)


@needs_sysctl
@may_skip
@pytest.mark.parametrize("level", [1, 2])
def test_slow_hook_where_memfds_are_restricted(runtime: Runtime, bundle: Bundle, level: int) -> None:
    """start still sees that the program does not run yet, and reports the hook."""
    bundle.hook("startContainer", "sleep 1; exit 3").program("true").write()
    result = restricted(runtime, level, "run", "--bundle", bundle.folder, runtime.id)
    assert 1 == result.status
    assert "/hooks/startContainer/0: error running startContainer hook #0" in result.err


SESSION = """
set -e
echo {level} > /proc/sys/vm/memfd_noexec
create=$1; shift
"$@" create --bundle "$BUNDLE" "$ID" >"$OUT" 2>&1 </dev/null
"$@" start "$ID"
for n in $(seq {rounds}); do "$@" exec "$ID" /bin/true; done
sleep 0.1
"$@" exec "$ID" /bin/true
"$@" delete --force "$ID"
"""


@needs_sysctl
@may_skip
@pytest.mark.parametrize("level", [1, 2])
def test_hostile_container_where_memfds_are_restricted(attack: Attack, level: int) -> None:
    """Neither the runtime's executable nor the helper can be written to, whatever the helper is in."""
    grabber = Grabber(attack)
    grabber.allow_tracing()
    attack.bundle.write()
    environment = {
        **os.environ, "BUNDLE": str(attack.bundle.folder), "ID": attack.id, "OUT": str(attack.folder / "out"),
    }  # fmt: skip
    script = SESSION.format(level=level, rounds=ROUNDS)
    prefix = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh", "x"]
    command = [*prefix, *attack.command()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr), done.stderr
    assert grabber.found("seen") <= {MEMFD if level == 1 else PRIVATE}
    assert set() == grabber.found("written")
    assert grabber.before == digest(attack.executable)


STRICT = [sys.executable, "-IS", str(Path(memfds.__file__))]


def strict(command: list[str]) -> tuple[int, str, str]:
    """Run a command on a kernel that refuses every memfd without MFD_NOEXEC_SEAL."""
    done = subprocess.run([*STRICT, *command], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["createRuntime", "startContainer"])
def test_run_where_data_needs_a_flag(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """Linux 6.3 to 6.5 with vm.memfd_noexec=2: the plan, the filter and the hooks' state are in memfds."""
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    bundle.hook(kind, "grep -q ociVersion").shell("echo ran").write()
    assert (0, "ran\n", "") == strict(runtime.command("run", "--bundle", bundle.folder, runtime.id))


def test_net_devices_where_data_needs_a_flag(runtime: Runtime, bundle: Bundle) -> None:
    """The request to the process that moves network devices, and its answer, are in memfds."""
    bundle.linux["netDevices"] = {"eth7": {}}
    bundle.write()
    status, _, err = strict(runtime.command("run", "--bundle", bundle.folder, runtime.id))
    assert (1, "/linux/netDevices/eth7: cannot move network device eth7: the host has none of this name\n") == (
        status,
        err,
    )


# --- places from which the runtime itself runs


def one_line(result: Result) -> bool:
    """Whether a command failed with one line."""
    return result.status != 0 and 1 == len(result.err.strip().splitlines()) and "Traceback" not in result.err


def shell(runtime: Runtime, script: str, *words: object) -> Result:
    """Run a command from a script with a mount namespace of its own, which gets the command line as arguments."""
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(runtime.folder)]
    done = subprocess.run([*prefix, *runtime.command(*words)], capture_output=True, text=True, check=False, timeout=60)
    return Result(done.returncode, done.stdout, done.stderr, 0)


READ_ONLY = """
mkdir -p "$1/ro"; cp "$2" "$1/ro/pyoci"
mount --bind "$1/ro" "$1/ro"; mount -o remount,bind,ro,nosuid,nodev "$1/ro"
place="$1/ro/pyoci"; shift 2
exec "$place" "$@"
"""


def test_executable_on_a_read_only_mount(runtime: Runtime, bundle: Bundle) -> None:
    """It needs no place to write to beside itself."""
    bundle.shell("echo ran").write()
    result = shell(runtime, READ_ONLY, "run", "--bundle", bundle.folder, runtime.id)
    assert (0, "ran\n") == (result.status, result.out), result


# Every directory that the helper may be in refuses to execute files; the runtime is on a mount that does not.
NOWHERE = """
mount -t tmpfs none /mnt; cp "{executable}" /mnt/pyoci; cp -a "{bundle}" /mnt/bundle
for place in /run /dev/shm /var/lib /var/tmp /tmp; do
    mount --bind "$place" "$place"; mount -o remount,bind,noexec "$place"
done
"""


@needs_sysctl
@may_skip
def test_no_directory_to_execute_from(runtime: Runtime, bundle: Bundle) -> None:
    """A runtime that may mount needs none, even where memfds are refused."""
    bundle.shell("echo ran").write()
    script = NOWHERE.format(executable=runtime.executable, bundle=bundle.folder) + 'shift 2; exec /mnt/pyoci "$@"'
    refuse = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-ec", REFUSE.format(level=2), "sh"]
    mounts = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(runtime.folder)]
    command = [*refuse, *mounts, *runtime.command("run", "--bundle", "/mnt/bundle", runtime.id)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (0, "ran\n", "") == (done.returncode, done.stdout, done.stderr)


def test_no_file_may_grow(runtime: Runtime, bundle: Bundle) -> None:
    """RLIMIT_FSIZE holds for memfds, too: one line, and nothing is left."""
    bundle.shell("echo ran").write()
    for blocks in (0, 1, 8, 40):
        script = f'ulimit -f {blocks}; shift; exec "$@"'
        result = shell(runtime, script, "run", "--bundle", bundle.folder, runtime.id)
        assert one_line(result), (blocks, result)
        runtime.host.assert_clean(runtime.root)
    assert result.err == (
        "cannot execute the helper: memfd: file too large (hint: raise the limit on the size of files: `ulimit -f`)\n"
    )


def test_plain_user_whose_files_may_not_grow(plain: Plain, bundle: Bundle) -> None:
    """No other place takes the helper either, so the error names one place only."""
    bundle.shell("echo ran").write()
    plain.before = "ulimit -f 40"
    result = plain.run()
    assert one_line(result), result
    assert "cannot execute the helper: memfd: file too large (hint: " in result.err


@pytest.mark.parametrize("kibibytes", [28, 36, 48, 64])
def test_small_stack(runtime: Runtime, bundle: Bundle, kibibytes: int) -> None:
    """Where RLIMIT_STACK lets the runtime itself work, it is large enough for the helper, with a filter and copies."""
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    deep = bundle.rootfs / "copied"
    (deep / "/".join(["a"] * 10)).mkdir(parents=True)
    (deep / "file").write_text("ran\n")
    bundle.mount("/copied", "tmpfs", "tmpcopyup")
    bundle.program("cat", "/copied/file").write()
    result = shell(runtime, f'ulimit -s {kibibytes}; shift; exec "$@"', "run", "--bundle", bundle.folder, runtime.id)
    if (result.status, result.out, result.err) == (-SIGSEGV, "", ""):  # the runtime itself has ended
        assert kibibytes < 64
    else:
        assert (0, "ran\n", "") == (result.status, result.out, result.err)


def test_full_shared_memory(runtime: Runtime, bundle: Bundle) -> None:
    """A memfd belongs to another mount than a full /dev/shm."""
    bundle.shell("echo ran").write()
    script = """
mount -t tmpfs -o size=64k none /dev/shm; dd if=/dev/zero of=/dev/shm/full bs=4k 2>/dev/null || true
shift; exec "$@"
"""
    result = shell(runtime, script, "run", "--bundle", bundle.folder, runtime.id)
    assert (0, "ran\n") == (result.status, result.out), result


CHROOT = """
root="$1/chroot"; mkdir -p "$root"; mount --rbind / "$root"; shift
exec chroot "$root" "$@"
"""


@pytest.mark.parametrize("option", ["", "--no-pivot"])
def test_runtime_in_a_chroot(runtime: Runtime, bundle: Bundle, option: str) -> None:
    """It creates the container, or reports in one line why the kernel refuses."""
    bundle.shell("echo ran").write()
    words = [option] if option else []
    result = shell(runtime, CHROOT, "run", *words, "--bundle", bundle.folder, runtime.id)
    assert (0, "ran\n") == (result.status, result.out) or one_line(result), result
    runtime.host.assert_clean(runtime.root)


# --- without root


@pytest.fixture
def plain(pyoci: str, tmp_path: Path, bundle: Bundle, host_clean: Host) -> Plain:
    """A runtime of a plain user."""
    return Plain(pyoci, tmp_path, bundle, host_clean)


@needs_sysctl
@may_skip
def test_plain_user_without_a_place_to_execute_from(plain: Plain, bundle: Bundle) -> None:
    """Memfds are refused, and every directory is noexec: one line names each of them, and nothing is left."""
    bundle.shell("echo ran").write()
    plain.before = NOWHERE.format(executable=plain.executable, bundle=bundle.folder)
    plain.executable = "/mnt/pyoci"
    refuse = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-ec", REFUSE.format(level=2), "sh"]
    command = [*refuse, *plain.command("run", "--bundle", bundle.folder, plain.id)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    result = Result(done.returncode, done.stdout, done.stderr, 0)
    assert one_line(result), result
    assert result.err.startswith("cannot execute the helper: memfd: "), result
    for place in ("tmpfs", "/run", "/dev/shm", "/var/lib", "/var/tmp", "/tmp"):
        assert f"; {place}: " in result.err
    assert "" == result.out


@pytest.mark.parametrize("way", ["path", "link", "script", "script link"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_helper_of_a_plain_user_does_nothing_without_a_plan(plain: Plain, bundle: Bundle, verb: str, way: str) -> None:
    """CVE-2019-5736 without root: the program is /proc/self/exe, and a container writes to nothing of the user's."""
    before = digest(plain.executable)
    poison(bundle.rootfs)
    if verb == "run":
        bundle.process["args"] = WAYS[way]
        result = plain.run()
    else:
        bundle.shell("exec sleep 100")
        plain.create()
        plain.start()
        result = plain("exec", plain.id, *WAYS[way])
        assert 0 != plain("exec", plain.id, "sh", "-c", "echo owned > /proc/self/exe").status
        plain.clean_up()
    assert "" == result.out
    assert result.status in (1, 126, 127, 255), result
    assert before == digest(plain.executable)
