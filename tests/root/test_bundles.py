"""The configs that Docker, Podman and containerd send, in busybox and in a real Debian, in each layout of cgroups.

Where the cgroup v2 hierarchy lacks the controller of a limit that a config sets, one line names it; tests/vm/test_vm.py
runs this module on a machine that has them all.
"""

import json
import os
import re
import resource
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support import rootfs

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "tests/data/bundles"
CONFIGS = sorted(FOLDER.glob("*.json"))
ENGINES = [path.stem for path in CONFIGS]

LIMITS = {  # the controller that a config needs, and what asks for it
    "podman-default": ("pids", "/linux/resources/pids/limit"),
    "containerd-ctr": ("cpu", "/linux/resources/cpu/shares"),
}

FINDMNT = ["findmnt", "--noheadings", "--first-only", "--output", "TARGET", "--types", "cgroup2"]
MOUNT = subprocess.check_output(FINDMNT, text=True).strip()
CONTROLLERS = Path(MOUNT, "cgroup.controllers").read_text().split()
VIEWS = {"host": ([], MOUNT)}
if MOUNT != "/sys/fs/cgroup":
    VIEWS["unified"] = ([str(CHECKOUT / "tests/vm/unified")], "/sys/fs/cgroup")

CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
    SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
    SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()

SETS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "ambient": "CapAmb",
}


class Bundle:
    """An engine's config, on a root filesystem of its own: an overlay, as engines make it."""

    def __init__(self, folder: Path, lower: Path, config_file: Path, view: str) -> None:
        self.name = config_file.stem
        self.prefix, self.mount = VIEWS[view]
        self.folder = folder / "bundle"
        self.rootfs = self.folder / "rootfs"
        self.root = folder / "state"
        self.folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.folder], check=True)
        state = self.folder / "state"
        for path in (self.rootfs, self.folder / "upper", self.folder / "work", state / "shm"):
            path.mkdir(parents=True)
        layers = f"lowerdir={lower},upperdir={self.folder}/upper,workdir={self.folder}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", self.rootfs], check=True)
        for name in ("resolv.conf", "hostname", "hosts", ".containerenv"):
            (state / name).write_text(f"{name} of the engine\n")
        text = config_file.read_text().replace("@ROOTFS@", str(self.rootfs)).replace("@STATE@", str(state))
        self.config = json.loads(text)
        self.expected = self.config["process"]["args"][-1] + "\n"
        self.calls = 0
        self.id = f"pyoci-test-{uuid4().hex}"
        # elsewhere than the engine's, and on the same level
        self.config["linux"]["cgroupsPath"] = f"/pyoci-test-bundles/{self.id}"
        self.save()

    def save(self, *args: str) -> None:
        """Write config.json, with another program if there are `args`."""
        if args:
            self.config["process"]["args"] = list(args)
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def missing(self) -> str:
        """The line that says why this host can't run it; "" if it can."""
        controller, where = LIMITS.get(self.name, ("", ""))
        if not controller or controller in CONTROLLERS:
            return ""
        what = f"the requested cgroup controller `{controller}` is not available"
        line = f"{where}: cannot apply: {what} in this host's cgroup v2 hierarchy ({self.mount})"
        hint = f"on this host it serves cgroup v1, unless the kernel is booted with cgroup_no_v1={controller}"
        return f"{line} (hint: {hint})\n"

    def warning(self) -> str:
        """The warnings of `run` about capabilities that this host's root lacks; "" if it has them all."""
        own = int(re.search("CapEff:(.*)", Path("/proc/self/status").read_text())[1], 16)
        asked = {name for names in self.config["process"].get("capabilities", {}).values() for name in names}
        lacking = [name for name in map("CAP_{}".format, CAPABILITIES) if name in asked and not own & mask([name])]
        line = "warning: /process/capabilities: left out, since the runtime itself lacks them: "
        return f"{line}{', '.join(lacking)}\n" if lacking else ""

    def call(self, runtime: str, *words: Path | str) -> tuple[int, str, str]:
        """Run a command: (exit status, standard output, standard error)."""
        command = [*self.prefix, runtime, "--root", self.root, *words]
        self.calls += 1
        # files, not pipes: a container keeps them, and may write later
        with self.output(self.calls).open("w+") as out, (self.folder / "err").open("w+") as err:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False).returncode
            out.seek(0)
            err.seek(0)
            return status, out.read(), err.read()

    def output(self, call: int) -> Path:
        """The file that takes the standard output of the first, second, … call."""
        return self.folder / f"out{call}"

    def run(self, runtime: str) -> tuple[int, str, str]:
        """`run` in the foreground."""
        return self.call(runtime, "run", "--bundle", self.folder, self.id)

    def traces(self) -> list[Any]:
        """Return what the container left on the host, which should be nothing."""
        cgroup = Path(MOUNT, "pyoci-test-bundles", self.id)
        state = list(self.root.iterdir()) if self.root.exists() else []
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.folder) in line]
        return [str(path) for path in [*state, cgroup] if path.exists()] + mounts[2:]  # two are our own

    def remove(self, pyoci: str) -> None:
        """Whatever became of it."""
        self.call(pyoci, "delete", "--force", self.id)
        cgroup = Path(MOUNT, "pyoci-test-bundles", self.id)
        if cgroup.exists():  # as crun leaves it where it fails
            cgroup.rmdir()
        subprocess.run(["umount", "--recursive", self.folder], check=True)


@pytest.fixture(scope="session", params=["busybox", "debian"])
def lower(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem that many containers share, and none writes to."""
    if request.param == "debian":
        return rootfs.debian()
    return rootfs.busybox(tmp_path_factory.mktemp("busybox") / "rootfs")


@pytest.fixture
def make(tmp_path: Path, lower: Path, pyoci: str) -> Iterator[Callable[..., Any]]:
    """A function that makes a bundle."""
    made: list[Bundle] = []

    def bundle(config_file, view="host"):
        made.append(Bundle(tmp_path / str(len(made)), lower, config_file, view))
        return made[-1]

    yield bundle
    for each in made:
        each.remove(pyoci)
    parent = Path(MOUNT, "pyoci-test-bundles")
    if parent.exists() and not any(path.is_dir() for path in parent.iterdir()):
        parent.rmdir()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("config_file", CONFIGS, ids=ENGINES)
def test_the_program_runs_or_one_line_names_the_controller(
    make: Callable[..., Any], pyoci: str, config_file: Path, view: str
) -> None:
    """Nothing but its own output, its own status; and nothing is left."""
    bundle = make(config_file, view)

    if line := bundle.missing():
        assert (1, "", line) == bundle.run(pyoci)
    else:
        assert (0, bundle.expected, bundle.warning()) == bundle.run(pyoci)
    assert [] == bundle.traces()


@pytest.mark.parametrize(("script", "status"), [("exit 42", 42), ("kill -9 $$", 137), ("nosuch 2>/dev/null", 127)])
def test_the_status_is_the_programs(make: Callable[..., Any], pyoci: str, script: str, status: int) -> None:
    """128 and more for a signal."""
    bundle = make(FOLDER / "docker-default.json")
    # within another shell: the first process of a pid namespace is immune to its own signals
    bundle.save("/bin/sh", "-c", f"/bin/sh -c {script!r}; exit $?")

    assert status == bundle.run(pyoci)[0]
    assert [] == bundle.traces()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ENGINES)
def test_the_life_that_an_engine_gives_it(make: Callable[..., Any], pyoci: str, name: str, view: str) -> None:
    """create, state, start, state, delete: with the options that containerd's shim passes.

    Where a controller is missing, create says so, on stderr and in the log.
    """
    bundle = make(FOLDER / f"{name}.json", view)
    pid_file, log = bundle.folder / "init.pid", bundle.folder / "log.json"
    options = ["--log", log, "--log-format", "json"]

    def status():
        return json.loads(bundle.call(pyoci, *options, "state", bundle.id)[1])["status"]

    create = ["create", "--bundle", bundle.folder, "--pid-file", pid_file, bundle.id]
    if line := bundle.missing():
        assert (1, "", line) == bundle.call(pyoci, *options, *create)
        assert line.strip() == json.loads(log.read_text())["msg"]
        assert (1, "", f"container `{bundle.id}` does not exist\n") == bundle.call(pyoci, "state", bundle.id)
        assert [] == bundle.traces()
        return
    assert (0, "", "") == bundle.call(pyoci, *options, *create)
    ended = os.pidfd_open(int(pid_file.read_text()))
    assert "created" == status()

    assert (0, "", "") == bundle.call(pyoci, *options, "start", bundle.id)
    assert wait(ended)
    assert bundle.expected == bundle.output(1).read_text()
    assert "stopped" == status()
    assert (0, "", "") == bundle.call(pyoci, *options, "delete", bundle.id)
    assert not log.exists() or "" == log.read_text()
    assert [] == bundle.traces()


def test_a_limit_above_the_hosts_is_set_or_one_line_names_it(make: Callable[..., Any], pyoci: str) -> None:
    """Podman asks for a million open files, whatever it has itself: only CAP_SYS_RESOURCE can give more than that."""
    bundle = make(FOLDER / "podman-default.json")
    bundle.config["linux"]["resources"] = {}
    bundle.save("/bin/sh", "-c", "ulimit -Hn")
    wanted = bundle.config["process"]["rlimits"][0]["hard"]
    own = int(re.search("CapEff:(.*)", Path("/proc/self/status").read_text())[1], 16)

    if own & mask(["CAP_SYS_RESOURCE"]) or wanted <= resource.getrlimit(resource.RLIMIT_NOFILE)[1]:
        assert (0, f"{wanted}\n", "") == bundle.run(pyoci)
    else:
        line = "/process/rlimits/0: cannot set RLIMIT_NOFILE: operation not permitted"
        hint = "hint: raising a hard limit needs CAP_SYS_RESOURCE"
        assert (1, "", f"{line} ({hint})\n") == bundle.run(pyoci)
    assert [] == bundle.traces()


SHARED = """
mount --make-rshared /
before=$(cat /proc/self/mountinfo)
"$@"
status=$?
after=$(cat /proc/self/mountinfo)
[ "$before" = "$after" ] || { diff <(echo "$before") <(echo "$after") >&2; exit 99; }
exit $status
"""


@pytest.mark.parametrize("user_namespace", [False, True])
def test_no_mount_reaches_a_host_that_shares_its_mounts(
    make: Callable[..., Any], pyoci: str, user_namespace: bool
) -> None:
    """systemd makes them shared. A mask that hits another one, or a device, is a mount on a clone of the host's."""
    bundle = make(FOLDER / "docker-default.json")
    linux = bundle.config["linux"]
    linux["maskedPaths"] += ["/proc/keys", "/proc/keys", "/dev/full", "/dev/full", "/dev/null", "/sys/firmware"]
    if user_namespace:
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        del linux["sysctl"]
        os.chown(bundle.rootfs / "etc", 100000, 100000)  # where mount points are made
        for folder in bundle.rootfs.parents[1:5]:  # pytest makes them for root alone
            folder.chmod(0o711)
    bundle.save()
    bundle.prefix = ["unshare", "--mount", "--propagation", "private", "bash", "-c", SHARED, "shared"]

    assert (0, bundle.expected, "") == bundle.run(pyoci)
    assert [] == bundle.traces()


PROBE = """
of() { echo "[$1]"; }
of ids; id -u; id -g; id -G
of status; grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign)|Cap...|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status
of limits; cat /proc/self/limits
of environment; env | sort
of cwd; pwd
of hostname; cat /proc/sys/kernel/hostname
of cgroup; tail -n 1 /proc/self/cgroup
of oom_score_adj; cat /proc/self/oom_score_adj
of namespaces; for name in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$name; done
of mounts; cat /proc/self/mountinfo
of devices; ls -lA /dev | sed -n 's/[A-Z][a-z][a-z] *[0-9]* *[0-9:]*//; s/  */ /gp' | grep -v ^total
of descriptors; ls /proc/self/fd
of sysctl; cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start
of interfaces; tail -n +3 /proc/net/dev
of unreadable
for path in @MASKED@; do [ ! -e $path ] || echo $path $(ls -A $path/ 2>/dev/null) $(cat $path 2>/dev/null); done
of writable
for path in / /tmp /dev /dev/shm /etc/hostname /sys /sys/fs/cgroup /proc/sys/kernel/domainname; do
    if [ -d $path ]; then (: >$path/probe) else (: >>$path) fi 2>/dev/null && echo $path
done
exit 42
"""


def probe(bundle: Bundle, runtime: str) -> tuple[int, str, dict[str, Any]]:
    """Run PROBE in the container: (exit status, standard error, {section: lines})."""
    script = PROBE.replace("@MASKED@", " ".join(bundle.config["linux"].get("maskedPaths", ())))
    bundle.save("/bin/sh", "-c", script)
    status, out, err = bundle.run(runtime)
    sections = {}
    for line in out.replace(bundle.id, "ID").splitlines():
        if line.startswith("["):
            sections[line.strip("[]")] = lines = []
        else:
            lines.append(line.strip())
    if status == 42:
        sections["mounts"] = mounts(sections["mounts"])
        sections["status"] = dict(line.split(":", 1) for line in sections["status"])
    return status, err, sections


def fit(bundle: Bundle) -> Bundle:
    """Leave out what this host can't give, as other tests see to."""
    if line := bundle.missing():
        bundle.config["linux"]["resources"].pop(line.split("/")[3])
    for rlimit in bundle.config["process"].get("rlimits", ()):
        if rlimit["type"] == "RLIMIT_NOFILE":
            rlimit.update(soft=100, hard=200)
    return bundle


def mounts(mountinfo: list[str]) -> dict[str, tuple[str, str, set[str]]]:
    """{where: (type of the filesystem, its root, options)}, without what differs from boot to boot."""
    found = {}
    for line in mountinfo:
        fields, _, (kind, _, _) = (part.split() for part in line.partition(" - "))
        found[fields[4]] = (kind, fields[3], set(fields[5].split(",")))
    return found


def mask(names: list[str]) -> int:
    """Capabilities as the kernel shows them."""
    return sum(1 << CAPABILITIES.index(name.removeprefix("CAP_")) for name in names)


@pytest.mark.parametrize("config_file", CONFIGS, ids=ENGINES)
def test_the_container_is_what_the_config_says(make: Callable[..., Any], pyoci: str, config_file: Path) -> None:
    """As a program in it sees it."""
    bundle = fit(make(config_file, [*VIEWS][-1]))
    process, linux = bundle.config["process"], bundle.config["linux"]
    user, has = process["user"], process["capabilities"]

    exit_status, err, seen = probe(bundle, pyoci)

    assert (42, "") == (exit_status, err)

    groups = {user["gid"], *user.get("additionalGids", ())}
    assert [str(user["uid"]), str(user["gid"])] == seen["ids"][:2]
    assert groups == set(map(int, seen["ids"][2].split()))
    status = {key: value.split()[0] if value.split() else "" for key, value in seen["status"].items()}
    for key, kernel in SETS.items():
        assert mask(has.get(key, [])) == int(status[kernel], 16), key
    assert process.get("noNewPrivileges", False) == bool(int(status["NoNewPrivs"]))
    assert (2 if "seccomp" in linux else 0) == int(status["Seccomp"])
    assert user.get("umask", 0o022) == int(status["Umask"], 8)
    assert 0 == int(status["SigBlk"], 16) == int(status["SigIgn"], 16)
    assert set(process["env"]) <= set(seen["environment"])
    assert [process["cwd"]] == seen["cwd"]
    if "hostname" in bundle.config:
        assert [bundle.config["hostname"]] == seen["hostname"]
    kinds = {"mount": "mnt", "network": "net"}
    fresh = {kinds.get(entry["type"], entry["type"]) for entry in linux["namespaces"]}
    for line in seen["namespaces"]:
        kind = line.partition(":")[0]
        assert (kind in fresh) == (line != os.readlink(f"/proc/self/ns/{kind}")), kind
    own = "/" if "cgroup" in fresh else linux["cgroupsPath"].replace(bundle.id, "ID")
    assert [f"0::{own}"] == seen["cgroup"]
    for rlimit in process.get("rlimits", ()):
        words = {"RLIMIT_NOFILE": "Max open files", "RLIMIT_NPROC": "Max processes"}[rlimit["type"]]
        line = next(line for line in seen["limits"] if line.startswith(words))
        assert [str(rlimit["soft"]), str(rlimit["hard"])] == line.removeprefix(words).split()[:2]
    for entry in bundle.config["mounts"]:
        kind, _, options = seen["mounts"][entry["destination"]]
        if not entry["source"].startswith("/"):
            assert entry["type"].replace("cgroup", "cgroup2") == kind
        assert {"ro", "nosuid", "nodev", "noexec"} & set(entry["options"]) <= options, entry["destination"]
    assert all(line in linux["maskedPaths"] for line in seen["unreadable"])
    readonly = bundle.config["root"].get("readonly", False)
    assert readonly == ("/" not in seen["writable"])
    assert "/proc/sys/kernel/domainname" not in seen["writable"] or not linux.get("readonlyPaths")
    assert [] == bundle.traces()


@pytest.mark.may_skip("other runtimes are for comparison, and can't run everywhere")
@pytest.mark.parametrize("lower", ["busybox"], indirect=True)
@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize("name", ENGINES)
def test_it_looks_like_in_other_runtimes(make: Callable[..., Any], pyoci: str, name: str, runtime: str) -> None:
    """What a program sees of its container is the same, but for a few things that they do on purpose, or wrongly."""
    if not shutil.which(runtime):
        pytest.skip(f"no {runtime}")
    ours, theirs = (fit(make(FOLDER / f"{name}.json", [*VIEWS][-1])) for _ in range(2))
    ours.config["ociVersion"] = theirs.config["ociVersion"] = "1.0.2"  # Debian's crun refuses what engines write today

    status, err, theirs_seen = probe(theirs, runtime)
    theirs.call(runtime, "delete", "--force", theirs.id)
    if status != 42:
        pytest.skip(f"{runtime} can't run it here: {err.strip()}")
    status, err, ours_seen = probe(ours, pyoci)

    assert (42, "") == (status, err)
    for path in ours.config["linux"].get("maskedPaths", []) + ours.config["linux"].get("readonlyPaths", []):
        # ours keep nosuid, nodev and noexec
        covered = [seen["mounts"].pop(path, None) is not None for seen in (theirs_seen, ours_seen)]
        assert covered[0] == covered[1], path
    if runtime == "runc":  # Go raises it
        for seen in (theirs_seen, ours_seen):
            seen["limits"] = [line for line in seen["limits"] if not line.startswith("Max open files")]
    core = "lrwxrwxrwx 1 root root 11 core -> /proc/kcore"
    theirs_seen["devices"] = [line for line in theirs_seen["devices"] if line != core]
    for seen in (theirs_seen, ours_seen):
        seen["namespaces"] = [line == os.readlink(f"/proc/self/ns/{line.split(':')[0]}") for line in seen["namespaces"]]
    for section in ours_seen:
        assert theirs_seen[section] == ours_seen[section], section


def wait(pidfd: int) -> bool:
    """Whether a process ends, within a minute."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    ended = poller.poll(60_000)
    os.close(pidfd)
    return bool(ended)
