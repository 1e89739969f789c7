"""A process that exchanges directories with links all the time, while containers are made.

It wins often enough: each test counts both outcomes. Whichever it is, the canary stays as it was, no directory of the
host is to be seen inside, and a failure is a clean one.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.config import bind, mount
from tests.support.hostile import Attack
from tests.support.runtime import AT_ONCE, PATIENCE, kill, wait_for

pytestmark = pytest.mark.root

ROUNDS = int(os.environ.get("PYOCI_RACE_ROUNDS", "25"))  # of each race, some 20 ms each; more find more


@pytest.fixture(scope="session")
def racer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that exchanges names: see tests/support/racer.c."""
    program = tmp_path_factory.mktemp("racer") / "racer"
    source = Path(__file__).parents[1] / "support" / "racer.c"
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)
    return program


@pytest.fixture
def race(racer: Path) -> Iterator[Callable[..., None]]:
    """Starts the exchange of pairs of names; it ends with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*names: Path) -> None:
        running.append(subprocess.Popen([str(racer), *map(str, names)]))
        time.sleep(0.01)
        assert running[-1].poll() is None

    def stop() -> None:
        while running:
            kill(running.pop())

    start.stop = stop  # type: ignore[attr-defined]
    yield start
    stop()


def rounds(attack: Attack, program: str, *options: str, rounds: int = ROUNDS) -> tuple[int, list[str]]:
    """Make that many containers: how many there were, and what they printed."""
    attack.bundle.shell(program)
    attack.bundle.write()
    outputs = []
    for _ in range(rounds):
        result = attack("run", *options, "--bundle", attack.bundle.folder, attack.id)
        if result.status == 0:
            outputs.append(result.out)
        else:
            assert result.err.strip()
            assert not (attack.root / attack.id).exists()
    return len(outputs), outputs


@pytest.mark.parametrize("options", [[], ["--no-pivot"]])
def test_mount_destination(attack: Attack, race: Callable[..., None], options: list[str]) -> None:
    """CVE-2021-30465, CVE-2015-1335: the destination is a directory now and a link to the host's root then."""
    volume = attack.rootfs / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to("/" * 3 + str(attack.outside).lstrip("/"))
    (attack.rootfs / "target").mkdir()
    (volume / "c").symlink_to("/target")
    (attack.folder / "source").mkdir()
    (attack.folder / "source/marker").write_text("marker")
    attack.config["mounts"] += [
        bind(attack.folder / "source", "/volume/a"),
        bind(attack.folder / "source", "/volume/a/x"),
    ]
    race(volume / "a", volume / "b", volume / "a", volume / "c")
    rounds(attack, "cat /outside/file " + str(attack.outside) + "/file; true", *options)
    assert ["file", "folder"] == sorted(os.listdir(attack.outside))


@pytest.mark.parametrize("type", ["tmpfs", "proc", "sysfs"])
def test_parent_of_a_destination(attack: Attack, race: Callable[..., None], type: str) -> None:
    """CVE-2019-19921, CVE-2024-45310: a missing mount point is made below a directory that turns into a link to the
    host.
    """
    volume = attack.rootfs / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to("../" * 12 + str(attack.outside).lstrip("/"))
    (volume / "c").symlink_to(attack.outside)
    attack.config["mounts"].append(mount("/volume/a/deep/deeper", type))
    race(volume / "a", volume / "b", volume / "a", volume / "c")
    rounds(attack, "true")
    assert ["file", "folder"] == sorted(os.listdir(attack.outside))


def test_proc(attack: Attack, race: Callable[..., None]) -> None:
    """CVE-2019-19921 (Cure53 RUN-01-001), CVE-2023-27561: /proc is a directory now and a link then: no unmasked
    procfs.
    """
    (attack.rootfs / "proc2").symlink_to("/elsewhere")
    (attack.rootfs / "elsewhere").mkdir()
    attack.linux["maskedPaths"] = ["/proc/version"]
    race(attack.rootfs / "proc", attack.rootfs / "proc2")
    _, outputs = rounds(attack, "cat /elsewhere/version /proc/version /proc2/version 2>/dev/null; true")
    assert [] == [text for text in outputs if text]


@pytest.mark.parametrize("destination", ["/proc", "/sys"])
def test_proc_is_exchanged_after_its_mount(attack: Attack, destination: str) -> None:
    """CVE-2019-19921: a mount point that was exchanged for a link once its filesystem is there: no mask may be missed.

    A hook on the host makes sure that it happens at the worst moment.
    """
    name = destination[1:]
    (attack.rootfs / f"{name}2").symlink_to("/elsewhere")
    (attack.rootfs / "elsewhere").mkdir()
    script = f"mv -T {name} {name}3; mv -T {name}2 {name}"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cd {attack.rootfs} && {script}"], "env": ["PATH=/bin:/usr/bin"]}
    attack.config["hooks"] = {"createRuntime": [hook]}
    attack.linux["maskedPaths"] = [f"{destination}/{'version' if name == 'proc' else 'kernel'}"]
    attack.linux["readonlyPaths"] = []
    attack.bundle.shell("cat /proc3/version; ls /sys3/kernel")
    result = attack.run()
    assert (1, "", True) == (result.status, result.out, "replaced by something else" in result.err), result


def test_bind_source(attack: Attack, race: Callable[..., None]) -> None:
    """CVE-2017-1002101, CVE-2021-25741: a source is the directory or what the link leads to, with nothing in between.

    It belongs to the caller; but once it is opened, the mount is of what was opened, and never of a third thing.
    """
    volume = attack.folder / "volume"
    for name in ("a", "c"):
        (volume / name).mkdir(parents=True)
        (volume / name / "name").write_text(name)
    race(volume / "a", volume / "c")
    attack.config["mounts"].append(bind(volume / "a", "/data", "ro"))
    (attack.rootfs / "data").mkdir()
    count, outputs = rounds(attack, "cat /data/name; touch /data/x 2>/dev/null && echo writable; true")
    assert ROUNDS == count
    assert {"a", "c"} >= set(outputs)


def test_cwd(attack: Attack, race: Callable[..., None]) -> None:
    """CVE-2024-21626, CVE-2026-55686: the working directory turns into a link to a descriptor, or to the host."""
    volume = attack.rootfs / "volume"
    attack.process["cwd"] = "/volume/a"
    for target in [*(f"/proc/self/fd/{n}" for n in range(3, 20)), "../" * 12 + str(attack.outside).lstrip("/")]:
        shutil.rmtree(volume, ignore_errors=True)
        (volume / "a").mkdir(parents=True)
        (volume / "b").symlink_to(target)
        race(volume / "a", volume / "b")
        _, outputs = rounds(attack, "pwd -P; ls", rounds=max(4, ROUNDS // 4))
        race.stop()  # type: ignore[attr-defined]
        for text in outputs:
            where = text.split()[0]
            assert where.startswith("/volume/") or where in ("/", str(attack.outside)), text
            assert "folder" not in text.split(), text
    assert ["file", "folder"] == sorted(os.listdir(attack.outside))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_masked_path(attack: Attack, race: Callable[..., None], kind: str) -> None:
    """CVE-2025-31133, GHSA-3q8j-pf29-vwv8: a mask covers what the path is when it is resolved; it lands nowhere
    else.
    """
    volume = attack.rootfs / "volume"
    volume.mkdir()
    if kind == "file":
        (volume / "a").write_text("secret")
    else:
        (volume / "a").mkdir()
    (volume / "b").symlink_to(attack.outside / ("file" if kind == "file" else "folder"))
    (volume / "c").symlink_to("/proc/sys/kernel")
    race(volume / "a", volume / "b", volume / "a", volume / "c")
    attack.linux["maskedPaths"].append("/volume/a")
    attack.linux["readonlyPaths"].append("/volume/a")
    rounds(attack, "true")


def test_device(attack: Attack, race: Callable[..., None]) -> None:
    """CVE-2026-41579, CVE-2026-47766, CVE-2026-88265: /dev, and a node in it, turn into links to the host's files."""
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    (attack.rootfs / "dev2").symlink_to(attack.outside)
    (attack.rootfs / "dev3").symlink_to("../" * 12 + str(attack.outside).lstrip("/"))
    race(attack.rootfs / "dev", attack.rootfs / "dev2", attack.rootfs / "dev", attack.rootfs / "dev3")
    rounds(attack, "true")
    assert ["file", "folder"] == sorted(os.listdir(attack.outside))


def test_node(attack: Attack, race: Callable[..., None]) -> None:
    """CVE-2026-88265: /dev/null is the device now and a link to a file of the host then: nothing of it is chown'ed."""
    attack.bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    os.mknod(attack.rootfs / "dev/null", 0o020600, os.makedev(1, 3))
    (attack.rootfs / "dev/b").symlink_to(attack.outside / "file")
    (attack.rootfs / "dev/c").write_text("")
    (attack.rootfs / "dev/c").chmod(0o600)
    race(attack.rootfs / "dev/null", attack.rootfs / "dev/b", attack.rootfs / "dev/null", attack.rootfs / "dev/c")
    attack.linux["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "uid": 1234, "gid": 1234}]
    rounds(attack, "true")
    race.stop()  # type: ignore[attr-defined]
    for name in ("null", "b", "c"):
        status = os.lstat(attack.rootfs / "dev" / name)
        assert 0 == status.st_uid or status.st_mode & 0o170000 == 0o020000


def test_program(attack: Attack, race: Callable[..., None]) -> None:
    """The program is now a file and now a FIFO: the runtime never waits for the FIFO's other end."""
    volume = attack.rootfs / "volume"
    volume.mkdir()
    shutil.copy("/bin/busybox", volume / "true")
    os.mkfifo(volume / "b", 0o755)
    race(volume / "true", volume / "b")
    attack.process["args"] = ["/volume/true"]
    attack.bundle.write()
    statuses = set()
    for _ in range(ROUNDS):
        result = attack("run", "--bundle", attack.bundle.folder, attack.id)
        assert AT_ONCE > result.seconds
        statuses.add(result.status)
    assert statuses <= {0, 1}


def test_copy_up(attack: Attack, race: Callable[..., None]) -> None:
    """CVE-2018-15664: what is copied into a tmpfs is a file now, and a link to the host, or a FIFO, then."""
    data = attack.rootfs / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub/file").write_text("mine")
    (data / "file").write_text("mine")
    (data / "b").symlink_to(attack.outside)
    (data / "c").symlink_to(attack.outside / "file")
    os.mkfifo(data / "d")
    race(data / "sub", data / "b", data / "file", data / "c", data / "file", data / "d")
    attack.config["mounts"].append(mount("/data", "tmpfs", "tmpcopyup", "size=1m"))
    _, outputs = rounds(
        attack, "cat /data/*/file; for f in /data/*; do test -f $f && test ! -L $f && cat $f; done; true"
    )
    assert [] == [text for text in outputs if "canary" in text]


def test_shared_volume_of_two_containers(attack: Attack, race: Callable[..., None]) -> None:
    """CVE-2021-30465: a second mount takes as its source what the first one's destination became: never the host's."""
    volume = attack.folder / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to("/")
    race(volume / "a", volume / "b")
    attack.config["mounts"] += [
        bind(volume, "/volume"),
        mount("/volume/a", "tmpfs", "mode=755"),
        bind(volume, "/volume2"),
        mount("/volume2/a", "tmpfs", "mode=755"),
    ]
    _, outputs = rounds(attack, f"ls -d /volume/a{attack.outside} /volume2/a{attack.outside} 2>/dev/null; true")
    assert [] == [text for text in outputs if text]


def test_joined_by_the_racer_itself(attack: Attack) -> None:
    """CVE-2021-30465: the race from inside: one container exchanges names of a volume that others mount."""
    volume = attack.folder / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to(attack.outside)
    (volume / "b2").symlink_to("/proc/self/root" + str(attack.outside))
    attack.config["mounts"].append(bind(volume, "/volume"))
    attack.bundle.shell(
        "cd /volume; while :; do mv -T a t; mv -T b a; mv -T a b; mv -T b2 a; mv -T a b2; mv -T t a; done"
    )
    assert 0 == attack.create().status
    assert 0 == attack.start().status
    other = f"{attack.id}b"
    attack.ids.add(other)
    folder = attack.folder / "second"
    folder.mkdir()
    config = json.loads((attack.bundle.folder / "config.json").read_text())
    config["mounts"] += [mount("/volume/a/x", "tmpfs"), mount("/volume/a", "tmpfs")]
    config["process"]["args"] = ["/bin/cat", str(attack.outside / "file")]
    config["process"]["cwd"] = "/volume/a"
    config["linux"]["maskedPaths"].append("/volume/a/x")
    (folder / "config.json").write_text(json.dumps(config))
    for _ in range(ROUNDS):
        result = attack("run", "--bundle", folder, other)
        assert "canary" not in result.out
        assert result.status != 0


def test_first_process_overtakes_its_own_news(attack: Attack) -> None:
    """Where a process in between clones the first one, the pid that is recorded, limited and signalled is the right
    one.

    The process in between, which alone calls setns, is held up before and in clone, so that the first one is ready
    before its pid can be reported.
    """
    attack.linux["namespaces"] = [
        {"type": "pid", "path": "/proc/self/ns/pid"} if ns["type"] == "pid" else ns for ns in attack.linux["namespaces"]
    ]
    attack.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]
    attack.process["args"] = ["/bin/sleep", "100"]
    attack.bundle.write()
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=clone,setns",
               "-e", "inject=setns:delay_exit=200000", "-e", "inject=clone:delay_exit=400000", *attack.command("create", "--bundle", attack.bundle.folder, attack.id)]  # fmt: skip
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as tracer:
        try:
            wait_for(lambda: attack.state().get("status") == "created" or tracer.poll() is not None)
            pid = attack.pid()
            wait_for(lambda: reads_from(pid).startswith(str(attack.root)), "it waits for no start")
            assert "77                   88" in Path(f"/proc/{pid}/limits").read_text()
            assert 0 == attack.start().status
            assert "running" == attack.state()["status"]
        finally:
            attack.clean_up()


def reads_from(pid: int) -> str:
    """The file that a process waits to read from just now; "" if it does something else."""
    number, *arguments = Path(f"/proc/{pid}/syscall").read_text().split()
    return os.readlink(f"/proc/{pid}/fd/{int(arguments[0], 16)}") if number == "0" else ""


# ── the way to the state, and to what the runtime writes for its caller ──────────────────────────────────────


@pytest.fixture
def elsewhere(attack: Attack) -> Path:
    """A directory like the one above the state root, with a state of the same id: root's own, and private."""
    above, other = attack.folder / "above", attack.folder / "other"
    attack.root = above / "state"
    for path in (above, other, other / "state", other / "state" / attack.id, other / "state" / attack.id / "notify"):
        path.mkdir(mode=0o700)
    (other / "state" / attack.id / "notify/secret").write_text("secret")
    return other


def test_directory_above_the_state_root(attack: Attack, race: Callable[..., None], elsewhere: Path) -> None:
    """The container does not get what lies at the path of its notify socket: it gets the directory which was made for
    it, or create fails."""
    attack.bundle.shell("ls /run/notify")
    attack.bundle.write()
    above = attack.folder / "above"
    environment = {**os.environ, "NOTIFY_SOCKET": "@no-such-manager"}
    race(above, elsewhere)
    seen = []
    for _ in range(4 * ROUNDS):
        done = subprocess.run([attack.executable, "--root", str(above / "state"), "run", "--bundle", str(attack.bundle.folder), attack.id],
                              capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False, env=environment,
                              timeout=PATIENCE)  # fmt: skip
        assert "secret" not in done.stdout
        assert "internal error" not in done.stderr
        seen.append(done.returncode)
    race.stop()  # type: ignore[attr-defined]
    for place in (above, elsewhere):
        assert [attack.id] * (place / "state" / attack.id / "notify/secret").exists() == os.listdir(place / "state")
    [planted] = attack.folder.glob("*/state/*/notify/secret")
    assert "secret" == planted.read_text()
    shutil.rmtree(planted.parents[1])
    assert 0 in seen


def test_run_goes_on_in_the_root_where_it_began(attack: Attack, elsewhere: Path) -> None:
    """A hook exchanges the directory above: `run` starts and deletes its own container, not the one of this id that
    the path leads to now.
    """
    shutil.rmtree(elsewhere / "state" / attack.id)
    attack.bundle.shell("echo ran")
    attack.bundle.write()
    other = [attack.executable, "--root", str(elsewhere / "state")]
    made = [*other, "create", "--bundle", str(attack.bundle.folder), attack.id]
    subprocess.run(made, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    attack.config["linux"]["cgroupsPath"] = f"/{attack.id}-2"
    script = f"cd {attack.folder} && mv above x && mv other above && mv x other"
    attack.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    attack.bundle.write()
    result = attack("run", "--bundle", attack.bundle.folder, attack.id)
    try:
        assert (0, "ran\n", "") == (result.status, result.out, result.err)
        assert [] == os.listdir(elsewhere / "state")
        state = subprocess.check_output([*attack.command("state"), attack.id], text=True)
        assert "created" == json.loads(state)["status"]
    finally:
        subprocess.run([*attack.command("delete"), "--force", attack.id], check=True)


def test_directory_of_a_pid_file(attack: Attack, race: Callable[..., None]) -> None:
    """It is written in one directory, whatever becomes of the path: the file whole, and nothing beside it."""
    folder, link = attack.folder / "pids", attack.folder / "link"
    folder.mkdir()
    link.symlink_to(attack.folder / "others")
    (attack.folder / "others").mkdir()
    attack.process["args"] = ["/bin/true"]
    attack.bundle.write()
    race(folder, link)
    statuses = set()
    for _ in range(2 * ROUNDS):
        statuses.add(attack("run", "--bundle", attack.bundle.folder, "--pid-file", folder / "pid", attack.id).status)
    race.stop()  # type: ignore[attr-defined]
    assert {0} == statuses
    names = {
        name
        for path in attack.folder.iterdir()
        if path.is_dir() and path.name in ("pids", "link", "others")
        for name in os.listdir(path)
    }
    assert {"pid"} == names
