"""An attacker's bench: a container with everything in the attacker's hands, and a host that must not change.

`Attack` holds a bundle whose root filesystem the test poisons, a private state root, and a canary tree beside
the root filesystem, where every path that escapes ends up. `Attack.assert_host_clean` checks what no attack may
change: processes, mounts, cgroups, the state, the canary, and the host's own files that past bugs wrote to.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from tests.support.rootfs import busybox

PATIENCE = 60  # seconds for one command: whatever is hostile, an answer comes, on a machine as busy as can be
AT_ONCE = 8  # seconds for one that waits for nobody: less than the runtime has patience with others

CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip
MASKED = [
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
MAPPINGS = [{"containerID": 0, "hostID": 100000, "size": 65536}]

# Where programs that have nothing to do with a test may mount at any time, such as engines, and other tests.
OTHERS = ("/tmp/", "/run/", "/sys/fs/cgroup", "/var/", "/srv/", "/home/", "/media/", "/snap/")

# What published bugs have written to, changed the owner of, or replaced.
HOST_FILES = (
    "/dev/null", "/dev/zero", "/dev/console", "/etc/passwd", "/etc/group", "/etc/hosts",
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/sysrq", "/proc/sys/kernel/modprobe",
)  # fmt: skip


def docker_like(rootfs: str) -> dict[str, Any]:
    """A config as Docker sends it, with a program that does nothing."""
    return {
        "ociVersion": "1.2.1",
        "root": {"path": rootfs},
        "hostname": "victim",
        "process": {
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "HOME=/root"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/sys/fs/cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
            mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
            "resources": {"devices": [{"allow": False, "access": "rwm"}, *_ALLOWED]},
        },
    }


_ALLOWED = [
    {"allow": True, "type": "c", "access": "m"},
    *({"allow": True, "type": "c", "major": 1, "minor": n, "access": "rwm"} for n in (3, 5, 7, 8, 9)),
    *({"allow": True, "type": "c", "major": 5, "minor": n, "access": "rwm"} for n in (0, 2)),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]


def mount(destination: str, type: str, *options: str, source: str = "") -> dict[str, Any]:
    """An entry of `mounts`."""
    return {"destination": destination, "type": type, "source": source or type, "options": list(options)}


def bind(source: "str | Path", destination: str, *options: str) -> dict[str, Any]:
    """A bind mount."""
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", *options]}


class Result:
    """How a command ended: `status`, `out`, `err`, and the `seconds` it took."""

    def __init__(self, status: int, out: str, err: str, seconds: float) -> None:
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"<{self.status} in {self.seconds:.2f} s: {self.out[-2000:]!r} {self.err[-2000:]!r}>"


class Attack:
    """One container to attack, and the host around it."""

    def __init__(self, executable: str, folder: Path) -> None:
        self.executable = executable
        self.folder = folder
        self.id = f"hx{uuid.uuid4().hex[:12]}"
        self.root = folder / "state"
        self.log = folder / "log.json"
        self.bundle = folder / "bundle"
        self.rootfs = busybox(self.bundle / "rootfs")
        self.outside = folder / "outside"
        self.config = docker_like(str(self.rootfs))
        self._ids = {self.id}
        self._plant_canary()
        self._before = self._host()

    # --- the container

    @property
    def process(self) -> dict[str, Any]:
        return self.config["process"]

    @property
    def linux(self) -> dict[str, Any]:
        return self.config["linux"]

    def shell(self, script: str) -> None:
        """The container's program is a shell with this script."""
        self.process["args"] = ["/bin/sh", "-c", script]

    def without_mount(self, *destinations: str) -> None:
        """Leave out mounts of the config."""
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] not in destinations]

    def in_user_namespace(self) -> None:
        """Give the container a user namespace of its own, whose root is nobody on the host."""
        self.linux["namespaces"].append({"type": "user"})
        self.linux["uidMappings"] = self.linux["gidMappings"] = MAPPINGS
        for path in (self.rootfs, *self.rootfs.rglob("*")):
            os.chown(path, 100000, 100000, follow_symlinks=False)
        path = self.rootfs
        while path != path.parent:  # uid 100000 walks to the root filesystem in createContainer hooks
            path = path.parent

    def link(self, path: str, target: str) -> None:
        """A symbolic link in the root filesystem, in place of whatever is there."""
        place = self.rootfs / path.lstrip("/")
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def write_config(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    # --- commands

    def command(self, *words: object) -> list[str]:
        """The whole command line of `pyoci WORDS`."""
        options = ["--root", self.root, "--log", self.log, "--log-format", "json"]
        return [str(word) for word in (self.executable, *options, *words)]

    def pyoci(self, *words: object, timeout: float = PATIENCE, **options: Any) -> Result:
        """Run a command. An answer comes in time, and it is no accident of the implementation."""
        before = time.monotonic()
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.command(*words), capture_output=True, timeout=timeout, check=False, **options)
        out, err = done.stdout.decode("utf-8", "backslashreplace"), done.stderr.decode("utf-8", "backslashreplace")
        assert "Traceback" not in err, err
        assert "internal error" not in err, err
        return Result(done.returncode, out, err, time.monotonic() - before)

    def run(self, *options: object, **more: Any) -> Result:
        """`run` the container in the foreground."""
        self.write_config()
        return self.pyoci("run", "--bundle", self.bundle, *options, self.id, **more)

    def create(self, *options: object, **more: Any) -> Result:
        """`create` the container. What it prints goes to the files `out` and `err`."""
        self.write_config()
        before = time.monotonic()
        command = self.command("create", "--bundle", self.bundle, *options, self.id)
        more.setdefault("stdin", subprocess.DEVNULL)
        timeout = more.pop("timeout", PATIENCE)
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            done = subprocess.run(command, stdout=out, stderr=err, timeout=timeout, check=False, **more)
        text = (self.folder / "err").read_text(errors="backslashreplace")
        assert "Traceback" not in text, text
        assert "internal error" not in text, text
        return Result(done.returncode, self.output(), text, time.monotonic() - before)

    def output(self) -> str:
        """What a created container has printed so far."""
        return (self.folder / "out").read_text(errors="backslashreplace")

    def start(self) -> Result:
        return self.pyoci("start", self.id)

    def state(self) -> dict[str, Any]:
        """The state document; {} if there is no such container."""
        result = self.pyoci("state", self.id)
        document: dict[str, Any] = json.loads(result.out) if result.status == 0 else {}
        return document

    def delete(self, *options: str) -> Result:
        return self.pyoci("delete", *(options or ("--force",)), self.id)

    def wait(self, status: str) -> None:
        """Wait until the container has this status."""
        deadline = time.monotonic() + PATIENCE
        while self.state().get("status") != status:
            assert time.monotonic() < deadline, f"not {status}: {self.state()}"
            time.sleep(0.01)

    def pid(self) -> int:
        """The container's first process, as the host numbers it."""
        return int(self.state()["pid"])

    def record(self) -> dict[str, Any]:
        """record.json as the runtime wrote it."""
        document: dict[str, Any] = json.loads((self.root / self.id / "record.json").read_text())
        return document

    # --- the host

    def _plant_canary(self) -> None:
        self.outside.mkdir(mode=0o755)
        (self.outside / "file").write_text("canary\n")
        (self.outside / "folder").mkdir(mode=0o750)
        (self.outside / "folder" / "file").write_text("canary\n")
        (self.outside / "folder" / "file").chmod(0o600)

    def _host(self) -> dict[str, Any]:
        return {
            "canary": {str(path): _describe(path) for path in (self.outside, *sorted(self.outside.rglob("*")))},
            "beside": sorted(path.name for path in self.folder.iterdir() if path.name in ("bundle", "outside")),
            "files": {path: _describe(Path(path)) for path in HOST_FILES},
            "mounts": self._mounts(),
        }

    def _mounts(self) -> list[str]:
        """The host's mounts, without those that other tests may come and go with."""
        lines = [
            line.split(" - ")[0].split()[3:6]
            for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
        ]
        return sorted(
            " ".join(line) for line in lines if not line[1].startswith(OTHERS) or str(self.folder) in " ".join(line[:2])
        )

    def clean_up(self) -> None:
        """Remove whatever the container left, as an administrator would."""
        for container in self._ids:
            subprocess.run(
                self.command("delete", "--force", container), capture_output=True, timeout=PATIENCE, check=False
            )
        for path in reversed(self.cgroups()):  # of a container that its state does not lead to any more
            with contextlib.suppress(OSError):
                Path(path, "cgroup.kill").write_text("1")
                wait_for(lambda path=path: "populated 0" in Path(path, "cgroup.events").read_text())
                os.rmdir(path)

    def assert_host_clean(self) -> None:
        """Invariants I1 to I5, after `delete --force` of whatever the attack left."""
        for _ in range(2):
            result = self.delete("--force")
            assert 0 == result.status, result
        assert not (self.root / self.id).exists(), "the state is still there"
        leftover = [path.name for path in self.root.iterdir()] if self.root.exists() else []
        assert not leftover, leftover
        assert not (strays := self.strays()), strays
        assert not (cgroups := self.cgroups()), cgroups
        after = self._host()
        changed = {key: (self._before[key], after[key]) for key in after if self._before[key] != after[key]}
        assert not changed, changed

    def cgroups(self) -> list[str]:
        """Cgroups with the container's name in theirs."""
        mounts = Path("/proc/mounts").read_text(errors="replace").splitlines()
        top = next(line.split()[1] for line in mounts if " cgroup2 " in line)
        return [path for path, _, _ in os.walk(top) if self.id in path]

    def strays(self) -> list[str]:
        """Processes that see the container's root filesystem mounted, except ended ones."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = []
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    with contextlib.suppress(OSError):
                        if str(self.bundle) in Path(f"/proc/{entry}/mountinfo").read_text(errors="replace"):
                            found.append(Path(f"/proc/{entry}/cmdline").read_text(errors="replace").replace("\0", " "))
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.01)


def _describe(path: Path) -> tuple[object, ...]:
    """What must not change of a file."""
    try:
        status = path.lstat()
    except OSError as error:
        return (error.errno,)
    content = ""
    if path.is_file() and not path.is_symlink():
        with contextlib.suppress(OSError):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
    return (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_nlink, content)


def wait_for(condition: Any, what: str = "") -> None:
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what or "waited too long"
        time.sleep(0.005)


def kill(process: "subprocess.Popen[Any]", number: int = signal.SIGKILL) -> None:
    """End a process of the test's own."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
    process.wait(PATIENCE)
