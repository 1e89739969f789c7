"""What `podman run` has options for."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import profiles
from tests.support.daemon import PATIENCE, until
from tests.support.podman import UID, Podman


@pytest.fixture
def delegated():
    """A cgroup that is the user's, and one in it for what the user runs."""
    top = Path("/sys/fs/cgroup/user")
    (top / "session").mkdir(parents=True)
    for folder in (top, top / "session"):
        for path in (folder, *(folder / f"cgroup.{name}" for name in ("procs", "subtree_control", "threads"))):
            os.chown(path, UID, UID)
    yield top
    until(lambda: "populated 0" in (top / "cgroup.events").read_text(), "everything in it has ended")
    for folder, _, _ in os.walk(top, topdown=False):
        os.rmdir(folder)


def in_cgroup(cgroup, command):
    """What a command prints that runs in this cgroup."""
    enter = f'echo $$ >{cgroup}/cgroup.procs; exec "$@"'
    return subprocess.check_output(["sh", "-c", enter, "sh", *command], text=True, timeout=PATIENCE).strip()


def field(podman, name, *options: Any):
    """A line of /proc/self/status in a container."""
    return podman("run", "--rm", *options, "busybox", "sed", "-n", f"s/^{name}:[[:space:]]*//p", "/proc/self/status")


def test_read_only(either: Podman) -> None:
    """run --read-only, with --tmpfs and --read-only-tmpfs=false."""
    script = "touch /file 2>&1; touch /tmp/file /mnt/file && echo made; grep -o '/mnt tmpfs.*size=[0-9]*k' /proc/mounts"
    done = either.run("run", "--rm", "--read-only", "--tmpfs", "/mnt:size=64k,mode=1777", "busybox", "sh", "-c", script)

    assert "Read-only file system" in done.stdout
    assert "\nmade\n" in done.stdout
    assert "size=64k" in done.stdout
    either("run", "--rm", "--read-only", "--read-only-tmpfs=false", "busybox", "touch", "/tmp/file", status=1)


def test_tmpfs_keeps_what_is_there(either: Podman) -> None:
    """run --tmpfs: with the content of the image (tmpcopyup)."""
    assert "root" in either("run", "--rm", "--tmpfs", "/etc:rw", "busybox", "cat", "/etc/passwd")


def test_volumes(either: Podman, tmp_path: Path) -> None:
    """run --volume: named, anonymous, a directory of the host, read-only."""
    either("run", "--rm", "-v", "named:/data", "busybox", "sh", "-c", "echo x >/data/file")
    assert "x" == either("run", "--rm", "-v", "named:/data:ro", "busybox", "cat", "/data/file")
    either("run", "--rm", "-v", "named:/data:ro", "busybox", "touch", "/data/file", status=1)
    folder = either.folder / "folder"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    either("run", "--rm", "-v", f"{folder}:/data", "-v", "/anonymous", "busybox", "sh", "-c", "echo y >/data/file")
    assert "y\n" == (folder / "file").read_text()
    either("run", "--rm", "-v", f"{folder}:/data", "busybox", "rm", "/data/file")


@pytest.mark.differs("`no-dereference` uses crun's mount option `copy-symlink`, which runc rejects.")
def test_link_of_the_host(either: Podman) -> None:
    """run --mount: a symlink of the host's, with no-dereference."""
    (either.folder / "hostname").touch()
    link = either.folder / "link"
    link.symlink_to("hostname")
    mount = f"type=bind,src={link},dst=/etc/link,no-dereference"
    assert "hostname" == either("run", "--rm", "--mount", mount, "busybox", "readlink", "/etc/link")


def test_capabilities(either: Podman) -> None:
    """run --cap-drop, --cap-add, --privileged."""
    assert "0000000000000000" == field(either, "CapEff", "--cap-drop", "all")
    assert "0000000000000400" == field(either, "CapEff", "--cap-drop", "all", "--cap-add", "net_bind_service")
    assert int(field(either, "CapEff"), 16) < int(field(either, "CapEff", "--privileged"), 16)


def test_privileged(either: Podman) -> None:
    """run --privileged: devices of the host, nothing masked."""
    device = next(path for path in ("/dev/kmsg", "/dev/fuse") if os.path.exists(path))
    script = f"mount -t tmpfs tmpfs /tmp && ls {device}; grep ' /proc/' /proc/mounts | wc -l"
    assert [device, "0"] == either("run", "--rm", "--privileged", "busybox", "sh", "-c", script).split()


def test_user(either: Podman) -> None:
    """run --user, --group-add."""
    assert "uid=1000(joan) gid=1001(joan)" in either("run", "--rm", "--user", "joan", "busybox", "id")
    assert "8 9" == field(either, "Groups", "--user", "7:8", "--group-add", "9")


def test_kept_groups(rootless: Podman) -> None:
    """run --group-add keep-groups: those of the user who runs it."""
    if rootless.runtime == "runc":
        pytest.skip("crun's annotation")
    assert "65534" in field(rootless, "Groups", "--group-add", "keep-groups").split()


def test_ulimit(either: Podman) -> None:
    """run --ulimit."""
    out = either("run", "--rm", "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn")
    assert ["100", "200"] == out.split()


def test_seccomp(either: Podman, tmp_path: Path) -> None:
    """run --security-opt seccomp, no-new-privileges."""
    assert "2" == field(either, "Seccomp")
    assert "0" == field(either, "Seccomp", "--security-opt", "seccomp=unconfined")
    assert "1" == field(either, "NoNewPrivs", "--security-opt", "no-new-privileges")
    profile = either.folder / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}'
    )
    profile.chmod(0o644)
    done = either.run("run", "--rm", "--security-opt", f"seccomp={profile}", "busybox", "mkdir", "/x")
    assert "Operation not supported" in done.stderr


@pytest.mark.parametrize(
    ("options", "capabilities"),
    [
        ([], "default capabilities"),
        (["--cap-drop", "ALL"], "no capabilities"),
        (["--cap-add", "SYS_ADMIN"], "CAP_SYS_ADMIN added"),
        (["--cap-add", "SYS_PTRACE"], "CAP_SYS_PTRACE added"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_seccomp_default_is_known(podman: Podman, options: list[str], capabilities: str) -> None:
    """run: the executable knows the default seccomp profile."""
    name = podman("run", "--detach", *options, "busybox", "sleep", "99")
    config = Path(podman("inspect", "--format", "{{.OCIConfigPath}}", name))

    assert f"Podman, {capabilities}" == profiles.described(config)


def test_masks(either: Podman) -> None:
    """run --security-opt mask, unmask."""
    read = ["busybox", "sh", "-c", "ls /proc/acpi /proc/scsi 2>&1 | wc -l; wc -c </etc/passwd"]
    assert "0" == either("run", "--rm", "--security-opt", "mask=/etc/passwd", *read).split()[1]
    assert "ro" in either("run", "--rm", "busybox", "grep", " /proc/sys proc", "/proc/mounts")
    either(
        "run", "--rm", "--security-opt", "unmask=ALL", "busybox", "grep", " /proc/sys proc", "/proc/mounts", status=1
    )


def test_device(podman: Podman) -> None:
    """run --device."""
    out = podman(
        "run", "--rm", "--device", "/dev/full:/dev/my:rw", "busybox", "sh", "-c", "echo >/dev/my; ls -l /dev/my"
    )
    assert "1,   7" in out


def test_device_of_the_host(rootless: Podman) -> None:
    """run --device, by a user: the host's is bound."""
    assert "1,   7" in rootless("run", "--rm", "--device", "/dev/full:/dev/my", "busybox", "ls", "-l", "/dev/my")


def test_init(either: Podman) -> None:
    """run --init: an init as first process."""
    assert "podman-init" == either("run", "--rm", "--init", "busybox", "cat", "/proc/1/comm")


def test_hostname_and_sysctl(either: Podman) -> None:
    """run --hostname, --sysctl."""
    options = ["--hostname", "box.example", "--sysctl", "net.ipv4.ip_forward=1"]
    out = either("run", "--rm", *options, "busybox", "sh", "-c", "hostname; cat /proc/sys/net/ipv4/ip_forward")
    assert ["box.example", "1"] == out.split()


def test_oom_score(either: Podman) -> None:
    """run --oom-score-adj."""
    assert "500" == either("run", "--rm", "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj")


def test_umask_and_timezone(either: Podman) -> None:
    """run --umask, --tz."""
    assert "0027" == either("run", "--rm", "--umask", "0027", "busybox", "sh", "-c", "umask")


@pytest.mark.may_skip("a container's /dev may lack the mqueue that a user's --ipc host binds")
@pytest.mark.parametrize("kind", ["pid", "ipc", "uts", "network", "cgroupns"])
def test_namespaces_of_the_host(either: Podman, kind: str) -> None:
    """run --pid, --ipc, --uts, --network, --cgroupns: the host's."""
    if kind == "ipc" and either.user and not os.path.exists("/dev/mqueue"):
        pytest.skip("a /dev/mqueue on the host")
    link = {"network": "net", "cgroupns": "cgroup"}.get(kind, kind)
    inside = either("run", "--rm", f"--{kind}", "host", "busybox", "readlink", f"/proc/self/ns/{link}")
    # a user's is that of the process which keeps its namespaces
    assert os.readlink(f"/proc/self/ns/{link}") == inside


def test_namespaces_of_another(either: Podman) -> None:
    """run --pid, --network, --ipc: another container's."""
    either("run", "-d", "--name", "box", "--ipc", "shareable", "busybox", "sleep", "99")
    options = [f"--{kind}=container:box" for kind in ("pid", "network", "ipc")]
    script = "for n in pid net ipc; do readlink /proc/self/ns/$n; done"
    assert either("exec", "box", "sh", "-c", script) == either("run", "--rm", *options, "busybox", "sh", "-c", script)


def test_userns_auto(podman: Podman) -> None:
    """run --userns=auto: ids that no other container has."""
    maps = [podman("run", "--rm", "--userns=auto", "busybox", "cat", "/proc/self/uid_map") for _ in range(2)]
    assert all(int(line.split()[1]) >= 1000000 for line in maps)
    podman("run", "-d", "--name", "box", "--userns=auto", "busybox", "sleep", "99")
    assert "0" == podman("exec", "box", "id", "-u")


def test_userns_keep_id(rootless: Podman) -> None:
    """run --userns=keep-id: the user has its own id inside."""
    out = rootless("run", "--rm", "--userns=keep-id", "busybox", "sh", "-c", "id -u; touch /tmp/file; ls -ln /tmp/file")
    assert "1000" == out.split()[0] == out.split()[3]
    rootless("run", "-d", "--name", "box", "--userns=keep-id", "busybox", "sleep", "99")
    assert "1000" == rootless("exec", "box", "id", "-u")


def test_userns_nomap(rootless: Podman) -> None:
    """run --userns=nomap: the user's id is not mapped inside."""
    assert "0" == rootless("run", "--rm", "--userns=nomap", "busybox", "id", "-u")


def test_cgroups_disabled(either: Podman) -> None:
    """run --cgroups=disabled: none of its own."""
    if either.runtime == "runc":
        pytest.skip("Podman gives it to crun alone")
    either("run", "-d", "--name", "box", "--cgroups=disabled", "--cgroupns=host", "busybox", "sleep", "99")
    assert "libpod" not in either("exec", "box", "cat", "/proc/self/cgroup")
    either("stop", "--time", "0", "box")


@pytest.mark.driver("cgroupfs")
def test_cgroups_split(podman: Podman, delegated) -> None:
    """run --cgroups=split: below that of Podman's caller."""
    options = ["--cgroups=split", "--cgroupns=host"]
    in_cgroup(delegated / "session", podman.command("run", "-d", "--name", "box", *options, "busybox", "sleep", "99"))
    assert "0::/user/session/libpod-payload-" in podman("exec", "box", "cat", "/proc/self/cgroup")
    podman("rm", "--force", "--time", "0", "box")


def with_descriptor(number, path, command):
    """What a command prints that has a file open by this number."""
    script = f'exec {number}<"$0"; exec "$@"'
    return subprocess.check_output(
        ["sh", "-c", script, path, *command], stdin=subprocess.DEVNULL, text=True, timeout=PATIENCE
    )


def test_preserved_descriptors(either: Podman, tmp_path: Path) -> None:
    """run --preserve-fds and --preserve-fd: descriptors of the caller's."""
    (tmp_path / "file").write_text("through")
    command = either.command("run", "--rm", "--preserve-fds", "1", "busybox", "cat", "/proc/self/fd/3")
    assert "through" == with_descriptor(3, tmp_path / "file", command)


@pytest.mark.differs("`--preserve-fd` of one descriptor: runc also passes on those with lower numbers.")
def test_preserved_descriptor_with_holes(podman: Podman, tmp_path: Path) -> None:
    """run --preserve-fd: one by its number, and none of those below."""
    (tmp_path / "file").write_text("through")
    script = "cat <&7; for fd in 3 4 5 6 8 9; do [ ! -e /proc/self/fd/$fd ] || echo $fd; done"
    command = podman.command("run", "--rm", "--preserve-fd", "7", "busybox", "sh", "-c", script)
    assert "through" == with_descriptor(7, tmp_path / "file", command)


def test_sdnotify_of_the_container(podman: Podman, tmp_path: Path) -> None:
    """run --sdnotify=container: its readiness reaches who waits for Podman."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20)
        podman.environment["NOTIFY_SOCKET"] = str(path)
        try:
            # busybox' nc knows no datagrams of AF_UNIX
            podman(
                "run",
                "-d",
                "--name",
                "box",
                "--sdnotify=container",
                "busybox",
                "sh",
                "-c",
                "ls -l $NOTIFY_SOCKET; sleep 99",
            )
        finally:
            del podman.environment["NOTIFY_SOCKET"]
    podman.await_logs("box", "/run/notify/notify.sock")


def test_sdnotify_of_conmon(podman: Podman, tmp_path: Path) -> None:
    """run --sdnotify=conmon: ready when it runs, with conmon's pid."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20)
        podman.environment["NOTIFY_SOCKET"] = str(path)
        try:
            podman("run", "-d", "--name", "box", "--sdnotify=conmon", "busybox", "sleep", "99")
        finally:
            del podman.environment["NOTIFY_SOCKET"]
        assert b"READY=1" in notify.recv(4096)


def test_secrets(either: Podman) -> None:
    """run --secret: as a file, and in the environment."""
    either("secret", "create", "word", "-", input="hidden")
    options = ["--secret", "word", "--secret", "word,type=env,target=WORD"]
    out = either("run", "--rm", *options, "busybox", "sh", "-c", "cat /run/secrets/word; echo; echo $WORD")
    assert ["hidden", "hidden"] == out.split()


def test_runtime_flag(podman: Podman) -> None:
    """--runtime-flag: an option of the runtime's."""
    assert "said" == podman("--runtime-flag", "debug", "run", "--rm", "busybox", "echo", "said")


def test_log_driver_passthrough(podman: Podman) -> None:
    """run --log-driver passthrough: the streams of Podman itself."""
    assert "straight" == podman("run", "--rm", "--log-driver", "passthrough", "busybox", "echo", "straight")


def test_hooks(podman: Podman) -> None:
    """run --hooks-dir: hooks of every kind but startContainer, in order."""
    hooks = podman.folder / "hooks"
    hooks.mkdir(exist_ok=True)
    (podman.folder / "hook").write_text(f"#!/bin/sh\ncat >/dev/null; echo $1 >>{podman.folder}/hooks.log\n")
    (podman.folder / "hook").chmod(0o755)
    kinds = ["createRuntime", "createContainer", "poststart", "poststop"]
    for kind in kinds:
        (hooks / f"{kind}.json").write_text(
            f'{{"version": "1.0.0", "hook": {{"path": "{podman.folder}/hook", "args": ["hook", "{kind}"]}},'
            f' "when": {{"always": true}}, "stages": ["{kind}"]}}'
        )
    podman("--hooks-dir", hooks, "run", "--rm", "busybox", "true")
    log = podman.folder / "hooks.log"
    until(lambda: log.exists() and len(log.read_text().split()) == len(kinds), "every hook has run")
    assert kinds == log.read_text().split()
    log.unlink()


@pytest.mark.cgroup
@pytest.mark.needs("memory", "cpu", "pids")
def test_limits(podman: Podman) -> None:
    """run --memory, --cpus, --pids-limit; update."""
    options = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"]
    podman("run", "-d", "--name", "box", *options, "busybox", "sleep", "99")
    read = ["cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/pids.max"]
    assert ["67108864", "50000 100000", "50"] == podman("exec", "box", *read).splitlines()
    podman("update", "--memory", "96m", "--pids-limit", "70", "box")
    assert ["100663296", "50000 100000", "70"] == podman("exec", "box", *read).splitlines()


def test_idmapped_volume(podman: Podman) -> None:
    """run --volume with idmap, in a user namespace: the owner is the same inside as outside."""
    folder = podman.folder / "idmapped"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("x")
    os.chown(folder / "file", 5, 6)
    options = ["--userns=auto", "-v", f"{folder}:/data:idmap"]
    assert "5 6" == podman("run", "--rm", *options, "busybox", "stat", "-c", "%u %g", "/data/file")


@pytest.mark.driver("cgroupfs")
def test_delegated_cgroup(rootless: Podman, delegated) -> None:
    """run and pause, by a user with a delegated cgroup."""

    def inside(*arguments: Any):
        return in_cgroup(delegated / "session", rootless.command(*arguments))

    inside("run", "-d", "--name", "box", "--cgroupns=host", "busybox", "sleep", "99")
    assert "0::/user/" in inside("exec", "box", "cat", "/proc/self/cgroup")
    assert 1 == len([folder for folder in delegated.iterdir() if len(folder.name) == 64])
    inside("pause", "box")
    assert "paused" == rootless.state("box")
    inside("unpause", "box")
    inside("rm", "--force", "--time", "0", "box")
    assert [] == [folder for folder in delegated.iterdir() if len(folder.name) == 64]
