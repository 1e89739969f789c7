"""The executable by itself, in a root filesystem without Python: every command works, and gives the same answers."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyoci.cli.help import of_command
from pyoci.cli.table import COMMANDS
from tests.support.config import docker_like
from tests.support.rootfs import busybox

pytestmark = pytest.mark.root

PATIENCE = 60  # seconds for one command

# Makes the directory $0 the root of a mount namespace, and keeps that until standard input ends.
ENTER = """
mount --bind "$0" "$0" && cd "$0" || exit 1
for each in proc sys dev; do mount --rbind /$each $each || exit 1; done
pivot_root . mnt && exec /bin/busybox sh -c 'umount -l /mnt && cd /bundle && echo ready && exec cat'
"""

# A config with a fault of each kind.
FAULTY = {
    "ociVersion": "1.3.0",
    "process": {"args": ["sh"], "cwd": "work", "user": {"uid": -1}, "rlimits": [{"type": "RLIMIT_x\n", "hard": 1}]},
    "root": {"path": ""},
    "hooks": {"prestart": [{"path": "hook"}]},
    "annotations": {"a~/b": 1, "": "x"},
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "pid"}, {"type": "none"}],
        "devices": [{"type": "q", "path": 1.5}],
        "resources": {"memory": {"limit": "512m"}, "hugepageLimits": [{"pageSize": "1kB\n", "limit": -1}]},
        "seccomp": {"defaultAction": "SCMP_ACT_NONE", "syscalls": [{"names": []}]},
    },
    "solaris": {"milestone": 1},
}


class Alone:
    """A root filesystem with the executable, its shared libraries and busybox, and nothing else."""

    def __init__(self, pyoci: str, folder: Path) -> None:
        self.folder = busybox(folder / "root")
        for path in (pyoci, *libraries(pyoci)):
            target = self.folder / ("bin" if path == pyoci else Path(path).parent.relative_to("/"))
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        (self.folder / "mnt").mkdir()
        self.bundle = self.folder / "bundle"
        busybox(self.bundle / "rootfs")
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, self.folder]
        self.holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout is not None
        assert b"ready\n" == self.holder.stdout.readline()

    def close(self) -> None:
        try:
            self("delete", "--force", "--regex", ".")
        finally:
            self.holder.communicate(timeout=PATIENCE)

    def __call__(self, *words: object, **options: object) -> tuple[int, str, str]:
        """Run a command: its status and what it wrote."""
        return self.call("/bin/pyoci", "--root", "/run/alone", *words, **options)

    def call(self, *words: object, stdin: str = "") -> tuple[int, str, str]:
        """Run a program."""
        enter = ["nsenter", "--target", self.holder.pid, "--mount", "--root", "--wd"]
        command = [str(word) for word in (*enter, *words)]
        done = subprocess.run(
            command, capture_output=True, text=True, input=stdin, timeout=PATIENCE, env={"PATH": "/bin"}
        )
        assert "internal error" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def detached(self, *words: object) -> None:
        """Run a command that leaves a process, which must not hold the test's pipes open."""
        script = '"$@" >/out 2>&1 </dev/null; status=$?; cat /out; exit $status'
        assert (0, "", "") == self.call("sh", "-c", script, "sh", "/bin/pyoci", "--root", "/run/alone", *words)


def libraries(executable: str) -> set[str]:
    """The shared libraries of an executable, with the dynamic linker; none if it is static."""
    lines = subprocess.run(["ldd", executable], stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {word for line in lines for word in line.split() if word.startswith("/")}


@pytest.fixture(scope="module")
def alone(pyoci: str, tmp_path_factory: pytest.TempPathFactory) -> "Alone":
    made = Alone(pyoci, tmp_path_factory.mktemp("alone"))
    yield made
    made.close()


@pytest.fixture
def container(alone: Alone) -> "dict[str, object]":
    """A config whose container `alone-PID` waits; it is created and started."""
    config = docker_like("rootfs")
    config["process"] |= {"args": ["/bin/sleep", "1000"], "terminal": False}
    (alone.bundle / "config.json").write_text(json.dumps(config))
    alone.detached("create", ID)
    assert (0, "", "") == alone("start", ID)
    yield config
    assert (0, "", "") == alone("delete", "--force", ID)


ID = f"alone-{os.getpid()}"
OTHER = f"{ID}-other"

# Command lines of each command beside a running container, with the status that they end with.
CALLS: dict[str, list[tuple[int, str]]] = {
    "create": [(1, "create ID")],
    "exec": [
        (3, "exec ID sh -c 'exit 3'"),
        (0, "exec --cwd /tmp --env A=b --user 7:8 --additional-gids 9 --cap CAP_KILL --no-new-privs ID true"),
        (0, "exec --tty ID true"),
        (0, "exec --process /bundle/process.json --pid-file /pid ID"),
        (255, "exec --process /bundle/config.json ID"),
        (255, "exec --apparmor none --process-label none ID true"),
        (0, "exec --preserve-fds 0 --ignore-paused ID true"),
    ],
    "start": [(1, "start ID")],
    "run": [(0, "run --config /bundle/true.json OTHER"), (1, "run --config /bundle/faulty.json OTHER")],
    "state": [(0, "state ID"), (1, "state OTHER")],
    "kill": [(0, "kill ID WINCH"), (0, "kill --regex '^alone-[0-9]+$' WINCH"), (0, "kill --all ID 28"),
             (1, "kill --regex '(' KILL"), (0, r"kill --regex '[[a]\N{DIGIT ONE}' KILL")],
    "delete": [(1, "delete ID"), (0, "delete --force OTHER"), (0, "delete --regex '(?i)^NONE|[^\\w-]'"),
               (1, "delete --regex 'a{1,99999999999999999999}'")],
    "pause": [(0, "pause ID")],
    "resume": [(1, "resume ID"), (0, "pause ID"), (0, "resume ID")],
    "ps": [(0, "ps --format json ID"), (1, "ps --format yaml ID"), (0, "ps ID -o pid,args")],
    "update": [(0, "update --resources - ID"), (1, "update --cpu-rt-period 1 ID")],
    "events": [(0, "events --stats ID"), (1, "events --interval soon ID")],
    "list": [(0, "list"), (0, "list --format json"), (0, "list --quiet")],
    "spec": [(0, "spec --file /spec.json"), (0, "spec --rootless --bundle /tmp")],
    "validate": [(0, "validate"), (1, "validate --config /bundle/faulty.json"), (1, "validate --json -f /bundle/faulty.json")],
    "plan": [(0, "plan"), (0, "plan --json"), (0, "--systemd-cgroup plan"), (1, "plan --config /bundle/faulty.json")],
    "features": [(0, "features")],
    "checkpoint": [(0, "checkpoint --plan ID"), (0, "checkpoint --plan --json ID"), (1, "checkpoint ID")],
    "restore": [(1, "restore --plan --image-path /none OTHER"), (1, "restore OTHER")],  # there is no criu
}  # fmt: skip


@pytest.mark.parametrize("verb", COMMANDS)
def test_command(alone: Alone, container: dict[str, object], verb: str) -> None:
    """Each command, in several ways, ends with its usual status, and its help is whole."""
    process = {**container["process"], "args": ["true"]}
    for name, document in {
        "process": process,
        "true": {**container, "process": process},
        "faulty": FAULTY,
    }.items():
        (alone.bundle / f"{name}.json").write_text(json.dumps(document))

    for expected, line in CALLS[verb]:
        words = re.sub(r"\bID\b", ID, line.replace("OTHER", OTHER))
        status, out, err = alone.call("sh", "-c", f"/bin/pyoci --root /run/alone {words}", stdin="{}")
        assert expected == status, (line, out, err)
        assert err.count("\n") == (status != 0 and not out and status != 3), (line, err)
    assert (0, of_command(verb, COMMANDS[verb], whole=True), "") == alone(verb, "--help")


def test_every_command_is_called() -> None:
    """The table above has each command."""
    assert set(COMMANDS) == set(CALLS)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_validate_gives_the_same_report(alone: Alone, pyoci: str, options: list[str]) -> None:
    """The report of a faulty config is, to the byte, what it is beside a whole Python."""
    (alone.bundle / "config.json").write_text(json.dumps(FAULTY, indent=1))
    here = subprocess.run([pyoci, "validate", *options, alone.bundle], capture_output=True, text=True, timeout=PATIENCE)

    assert (1, "") == (here.returncode, here.stderr)
    assert here.stdout.count("/linux/") > 5
    assert (1, here.stdout, "") == alone("validate", *options, "/bundle")


def test_life_with_hooks_and_logs(alone: Alone) -> None:
    """Hooks with a timeout, a log in JSON, --debug, and annotations: nothing on the way needs a library."""
    config = docker_like("rootfs")
    config["process"] |= {"args": ["true"], "terminal": False, "env": ["PATH=/bin"]}
    hook = {"path": "/bin/busybox", "args": ["true"], "timeout": 30}
    config["hooks"] = {"createRuntime": [hook], "createContainer": [hook], "startContainer": [hook], "poststop": [hook]}
    (alone.bundle / "config.json").write_text(json.dumps(config))

    status, out, _ = alone("--log", "/log.json", "--log-format", "json", "--debug", "run", OTHER)

    assert (0, "") == (status, out)
    log = [json.loads(line) for line in (alone.folder / "log.json").read_text().splitlines()]
    assert {"debug"} == {entry["level"] for entry in log}

    config["hooks"] = {"createRuntime": [{**hook, "args": ["sleep", "100"], "timeout": 1}]}
    (alone.bundle / "config.json").write_text(json.dumps(config))
    status, _, err = alone("run", OTHER)
    assert 1 == status
    assert err.startswith("/hooks/createRuntime/0: ")


def test_net_devices_need_no_library(alone: Alone) -> None:
    """Moving network devices works without an installed Python, too."""
    config = docker_like("rootfs")
    config["linux"]["netDevices"] = {"eth7": {}}
    (alone.bundle / "config.json").write_text(json.dumps(config))

    status, _, err = alone("run", OTHER)

    assert (1, "/linux/netDevices/eth7: cannot move network device eth7: the host has none of this name\n") == (
        status,
        err,
    )
