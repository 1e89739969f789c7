"""Options of `docker run`: what the program may do, and what it sees."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import profiles
from tests.support.docker import Docker, capabilities, late
from tests.support.engines import SYSTEMD


def test_read_only(docker: Docker) -> None:
    """run --read-only."""
    assert "Read-only file system" in docker("run", "--rm", "--read-only", "busybox", "touch", "/new", status=1)


def test_capabilities(docker: Docker) -> None:
    """run --cap-drop, --cap-add."""
    chown, net_raw, sys_admin = 1 << 0, 1 << 13, 1 << 21

    def of(*options: Any):
        return capabilities(docker("run", "--rm", *options, "busybox", "cat", "/proc/self/status"))

    assert of() & chown
    assert of() & net_raw
    assert 0 == of() & sys_admin
    assert 0 == of("--cap-drop", "ALL")
    assert chown == of("--cap-drop", "ALL", "--cap-add", "CHOWN")
    assert of() | sys_admin == of("--cap-add", "SYS_ADMIN")
    assert "Operation not permitted" in docker(
        "run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "9", "/tmp", status=1
    )


def test_privileged(docker: Docker) -> None:
    """run --privileged: all capabilities, the host's devices, no seccomp filter, nothing masked."""
    device = next(path for path in ("/dev/kmsg", "/dev/fuse") if os.path.exists(path))
    script = f"cat /proc/self/status; ls {device}; mount -t tmpfs none /mnt; sysctl -w kernel.domainname=d"
    out = docker("run", "--rm", "--privileged", "--workdir", "/mnt", "busybox", "sh", "-c", script)

    assert capabilities(Path("/proc/self/status").read_text()) == capabilities(out)
    assert re.search("Seccomp:\t0", out)
    assert [device, "kernel.domainname = d"] == out.splitlines()[-2:]


def test_user(docker: Docker) -> None:
    """run --user, --group-add: names of the image, and numbers; HOME."""
    assert "uid=1000(joan) gid=1001(joan) groups=1001(joan),100(users),2000(wheel)" in (
        docker("run", "--rm", "--user", "joan", "busybox", "id"),
        docker("run", "--rm", "--user", "joan", "busybox", "id").replace(
            "groups=100(users),1001(joan)", "groups=1001(joan),100(users)"
        ),
    )
    assert "/tmp" == docker("run", "--rm", "--user", "joan", "busybox", "sh", "-c", "echo $HOME")
    assert "uid=4000 gid=5000 groups=77,5000" in (
        docker("run", "--rm", "--user", "4000:5000", "--group-add", "77", "busybox", "id").replace(
            "groups=5000,77", "groups=77,5000"
        )
    )


def test_user_may_write_to_its_streams(docker: Docker) -> None:
    """run --user: /dev/stdout and /dev/stderr can be opened."""
    script = "echo out >/dev/stdout; echo err >/dev/stderr"
    done = docker.run(*late("run", "--rm", "--user", "joan", "busybox", "sh", "-c", script))

    assert (0, "out\n", "err\n") == (done.returncode, done.stdout, done.stderr)


def test_tmpfs(docker: Docker) -> None:
    """run --tmpfs, with options."""
    mount = docker(
        "run",
        "--rm",
        "--tmpfs",
        "/mnt:size=3m,mode=1750,noexec",
        "busybox",
        "sh",
        "-c",
        "grep ' /mnt ' /proc/mounts; stat -c %a /mnt",
    )

    assert re.fullmatch(r"tmpfs /mnt tmpfs \S*\bnoexec\b\S*\bsize=3072k\S* 0 0\n1750", mount)


def test_shm_size(docker: Docker) -> None:
    """run --shm-size."""
    assert "size=7168k" in docker("run", "--rm", "--shm-size", "7m", "busybox", "grep", " /dev/shm ", "/proc/mounts")


def test_ulimit(docker: Docker) -> None:
    """run --ulimit."""
    out = docker(
        "run",
        "--rm",
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=0",
        "busybox",
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; ulimit -c",
    )

    assert ["100", "200", "0"] == out.split()


def test_sysctl(docker: Docker) -> None:
    """run --sysctl."""
    out = docker(
        "run",
        "--rm",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.msgmax=9999",
        "busybox",
        "sh",
        "-c",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    )

    assert ["1", "9999"] == out.split()


def test_seccomp_default(docker: Docker) -> None:
    """run: the default seccomp profile."""
    out = docker("run", "--rm", "busybox", "sh", "-c", "grep Seccomp: /proc/self/status; unshare -U true", status=1)

    assert "Seccomp:\t2" in out
    assert "Operation not permitted" in out


@pytest.mark.parametrize(
    ("options", "capabilities"),
    [
        ([], "default capabilities"),
        (["--cap-drop", "ALL"], "no capabilities"),
        (["--cap-add", "NET_ADMIN"], "default capabilities"),
        (["--cap-add", "SYS_ADMIN"], "CAP_SYS_ADMIN added"),
        (["--cap-add", "SYS_PTRACE"], "CAP_SYS_PTRACE added"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_seccomp_default_is_known(docker: Docker, options: list[str], capabilities: str) -> None:
    """run: the executable knows the default seccomp profile."""
    name = docker("run", "--detach", *options, "busybox", "sleep", "99")
    (config,) = docker.folder.rglob(f"{name}/config.json")

    assert f"Docker 28, {capabilities}" == profiles.described(config)


def test_seccomp_file(docker: Docker, folder: Path) -> None:
    """run --security-opt seccomp=FILE."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    (folder / "profile.json").write_text(json.dumps(profile))

    out = docker(
        "run", "--rm", "--security-opt", f"seccomp={folder}/profile.json", "busybox", "mkdir", "/tmp/x", status=1
    )

    assert "No space left on device" in out


def test_seccomp_unconfined(docker: Docker) -> None:
    """run --security-opt seccomp=unconfined."""
    out = docker(
        "run",
        "--rm",
        "--security-opt",
        "seccomp=unconfined",
        "busybox",
        "sh",
        "-c",
        "grep Seccomp: /proc/self/status; unshare -U id -u",
    )

    assert ["Seccomp:", "0", "65534"] == out.split()


def test_no_new_privileges(docker: Docker) -> None:
    """run --security-opt no-new-privileges."""

    def of(*options: Any):
        return docker("run", "--rm", *options, "busybox", "grep", "NoNewPrivs", "/proc/self/status").split()[1]

    assert "0" == of()
    assert "1" == of("--security-opt", "no-new-privileges")


def test_masked_paths(docker: Docker) -> None:
    """run, and --security-opt systempaths=unconfined: what is masked in /proc and /sys."""
    script = "wc -c </proc/keys; touch /proc/sys/kernel/hostname; ls /sys/firmware | wc -l"

    assert ["0", "0"] == docker.run(*late("run", "--rm", "busybox", "sh", "-c", script)).stdout.split()
    docker("run", "--rm", "--security-opt", "systempaths=unconfined", "busybox", "touch", "/proc/sys/kernel/hostname")


def test_init(docker: Docker) -> None:
    """run --init: it reaps, and passes signals on."""
    docker.run_with_trap("box", "exit 5", "TERM", "--init")
    assert "docker-init" in docker("exec", "box", "cat", "/proc/1/cmdline")

    docker("stop", "box")

    assert 5 == docker.inspect("box")["State"]["ExitCode"]


def test_devices(docker: Docker) -> None:
    """run --device: with its permissions; without it, none."""
    assert "/dev/fuse" == docker(
        "run", "--rm", "--device", "/dev/fuse", "busybox", "sh", "-c", "exec 3<>/dev/fuse && ls /dev/fuse"
    )
    assert "/dev/other" == docker(
        "run", "--rm", "--device", "/dev/fuse:/dev/other:r", "busybox", "sh", "-c", "exec 3</dev/other && ls /dev/other"
    )
    assert "Operation not permitted" in docker(
        "run", "--rm", "--device", "/dev/fuse:/dev/other:r", "busybox", "sh", "-c", "exec 3<>/dev/other", status=1
    )
    minor = os.minor(os.stat("/dev/fuse").st_rdev)
    assert "Operation not permitted" in docker(
        "run", "--rm", "busybox", "sh", "-c", f"mknod /dev/fuse c 10 {minor} && exec 3<>/dev/fuse", status=1
    )


def test_device_rules(docker: Docker) -> None:
    """run --device-cgroup-rule."""
    minor = os.minor(os.stat("/dev/fuse").st_rdev)
    script = f"mknod /tmp/fuse c 10 {minor} && exec 3<>/tmp/fuse && echo open"

    assert "open" == docker("run", "--rm", "--device-cgroup-rule", f"c 10:{minor} rwm", "busybox", "sh", "-c", script)


def test_hostname(docker: Docker) -> None:
    """run --hostname, --domainname, --add-host, --dns, --uts host."""
    script = "hostname; cat /proc/sys/kernel/domainname; grep somewhere /etc/hosts; grep ^nameserver /etc/resolv.conf"
    out = docker(
        "run",
        "--rm",
        "--hostname",
        "name",
        "--domainname",
        "domain",
        "--add-host",
        "somewhere:1.2.3.4",
        "--dns",
        "9.9.9.9",
        "busybox",
        "sh",
        "-c",
        script,
    )

    assert ["name", "domain", "1.2.3.4\tsomewhere", "nameserver 9.9.9.9"] == out.splitlines()
    assert os.readlink("/proc/self/ns/uts") == docker(
        "run", "--rm", "--uts", "host", "busybox", "readlink", "/proc/self/ns/uts"
    )


def test_pid(docker: Docker) -> None:
    """run --pid host, --pid container:NAME."""
    docker("run", "-d", "--name", "box", "busybox", "sleep", "99")
    namespace = docker("exec", "box", "readlink", "/proc/self/ns/pid")

    assert os.readlink("/proc/self/ns/pid") == docker(
        "run", "--rm", "--pid", "host", "busybox", "readlink", "/proc/self/ns/pid"
    )
    assert namespace == docker("run", "--rm", "--pid", "container:box", "busybox", "readlink", "/proc/self/ns/pid")
    assert "sleep 99" in docker("run", "--rm", "--pid", "container:box", "busybox", "ps")


def test_pid_host_ends_all(docker: Docker) -> None:
    """run --pid host: processes that it left end with it."""
    docker("run", "--rm", "--pid", "host", "busybox", "sh", "-c", "setsid sleep 9876 & sleep .1")
    assert "9876" not in "".join(path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())


def test_ipc(docker: Docker) -> None:
    """run --ipc host, private, shareable, container:NAME."""
    docker(
        "run",
        "-d",
        "--name",
        "box",
        "--ipc",
        "shareable",
        "busybox",
        "sh",
        "-c",
        "echo shared >/dev/shm/file; exec sleep 99",
    )
    namespace = docker("exec", "box", "readlink", "/proc/self/ns/ipc")

    assert f"{namespace}\nshared" == docker(
        "run", "--rm", "--ipc", "container:box", "busybox", "sh", "-c", "readlink /proc/self/ns/ipc; cat /dev/shm/file"
    )
    assert os.readlink("/proc/self/ns/ipc") == docker(
        "run", "--rm", "--ipc", "host", "busybox", "readlink", "/proc/self/ns/ipc"
    )
    assert namespace != docker("run", "--rm", "--ipc", "private", "busybox", "readlink", "/proc/self/ns/ipc")


def unified(text):
    """The path in cgroup v2 of /proc/self/cgroup."""
    return text.rpartition("0::")[2]


@pytest.mark.cgroup
def test_cgroupns(docker: Docker) -> None:
    """run --cgroupns private, host."""
    command = "busybox", "cat", "/proc/self/cgroup"

    assert "/" == unified(docker("run", "--rm", "--cgroupns", "private", *command))
    path = r"/system\.slice/docker-[0-9a-f]{64}\.scope" if SYSTEMD else "/docker/[0-9a-f]{64}"
    assert re.fullmatch(path, unified(docker("run", "--rm", "--cgroupns", "host", *command)))


@pytest.mark.cgroup
@pytest.mark.differs("pyoci removes parent cgroups that it created with the last container in them; runc leaves them.")
def test_cgroup_parent(docker: Docker) -> None:
    """run --cgroup-parent."""
    parent = "some-where.slice" if SYSTEMD else "/some/where"
    path = r"/some\.slice/some-where\.slice/docker-[0-9a-f]{64}\.scope" if SYSTEMD else "/some/where/[0-9a-f]{64}"
    options = "--cgroup-parent", parent, "--cgroupns", "host"
    out = docker("run", "--rm", *options, "busybox", "cat", "/proc/self/cgroup")

    assert re.fullmatch(path, unified(out))
    if SYSTEMD:  # which keeps slices that it has made
        subprocess.check_call(["systemctl", "stop", "some.slice"])
    elif docker.runtime == "runc":
        os.removedirs("/sys/fs/cgroup/some/where")


def test_oom_score(docker: Docker) -> None:
    """run --oom-score-adj."""
    assert "500" == docker("run", "--rm", "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj")


def test_labels_and_annotations(docker: Docker) -> None:
    """run --label, --annotation."""
    assert "hi" == docker(
        "run", "--rm", "--label", "a=b", "--annotation", "org.example.key=value", "busybox", "echo", "hi"
    )


def test_entrypoint(docker: Docker) -> None:
    """run --entrypoint, --workdir (which is made), --env."""
    out = docker(
        "run",
        "--rm",
        "--entrypoint",
        "/bin/sh",
        "--workdir",
        "/new/folder",
        "--env",
        "A=b",
        "busybox",
        "-c",
        "pwd; echo $A",
    )

    assert ["/new/folder", "b"] == out.split()
