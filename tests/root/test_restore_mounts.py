"""The process that becomes CRIU: the mounts that it brings together, its descriptors, and what is left of them.

A script takes CRIU's place, and says what it sees.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import Bundle, Host, wait_for

pytestmark = pytest.mark.root

CHECKOUT = Path(__file__).resolve().parents[2]
RUN = CHECKOUT / "tests/support/becomes_criu.py"
RDONLY, NOSUID, RELATIME = 1, 2, 1 << 21


def mount(point: str, above: str = "/", **fields: Any) -> dict[str, Any]:
    """A mount of a checkpoint."""
    return {"point": point, "above": above, "key": "", "flags": RELATIME, "type": "ext4", "root": "/", **fields}


def external(point: str, above: str = "/", **fields: Any) -> dict[str, Any]:
    """An external mount."""
    return mount(point, above, key=point, **fields)


class Stage:
    """A config, the mounts of a checkpoint, and the script in CRIU's place."""

    def __init__(self, bundle: Bundle, folder: Path, beside: Path, id: str) -> None:
        self.rootfs = bundle.rootfs
        self.folder = folder
        self.program = beside / "criu"
        self.data = folder / "data"
        self.data.mkdir(mode=0o755)
        (self.data / "hello").write_text("hello\n")
        self.bind = {"destination": "/data", "source": str(self.data), "options": ["rbind"]}
        self.document: dict[str, Any] = {
            "bundle": str(bundle.folder),
            "id": id,
            "program": str(self.program),
            "mounts": [mount("/", "")],
            "config": {
                "ociVersion": "1.3.0",
                "root": {"path": str(self.rootfs)},
                "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
                "mounts": [],
                "linux": {"namespaces": [{"type": "mount"}]},
            },
        }

    def has(self, *mounts: dict[str, Any], config: list[dict[str, Any]] | None = None) -> None:
        """The checkpoint has these mounts, and config.json those."""
        self.document["mounts"] += mounts
        self.document["config"]["mounts"] = [self.bind] if config is None else config

    def command(self, script: str) -> list[str]:
        """The command that runs the plan, whose program is this script."""
        self.program.write_text(f"#!/bin/sh\nexec >&3\n{script}\n")
        self.program.chmod(0o755)
        file = self.folder / "document.json"
        file.write_text(json.dumps(self.document))
        return [sys.executable, str(RUN), str(file)]

    def run(self, script: str) -> list[str]:
        """What the script says, line by line."""
        done = subprocess.run(self.command(script), capture_output=True, text=True, timeout=60, check=False)
        assert (0, "") == (done.returncode, done.stderr)
        return done.stdout.splitlines()

    def error(self) -> str:
        """Why it fails. The program does not run."""
        done = subprocess.run(self.command("echo ran"), capture_output=True, text=True, timeout=60, check=False)
        assert (1, "") == (done.returncode, done.stdout)
        return done.stderr.strip()


@pytest.fixture
def stage(bundle: Bundle, tmp_path: Path, host_clean: Host) -> Iterator[Stage]:
    """A container with a volume at /data, to be restored. The host is clean afterwards."""
    beside = CHECKOUT / "build" / host_clean.token  # restore covers /tmp
    beside.mkdir(mode=0o755)
    yield Stage(bundle, tmp_path, beside, host_clean.token)
    shutil.rmtree(beside)


@pytest.fixture
def below(stage: Stage) -> Iterator[Path]:
    """A filesystem below the volume."""
    folder = stage.data / "deep/below"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    (folder / "file").write_text("of the filesystem below\n")
    yield folder
    subprocess.run(["umount", folder], check=True)


def mounts_in(lines: list[str]) -> dict[str, tuple[str, str]]:
    """Attributes and propagation by mount point, of lines of mountinfo."""
    fields = [line.split() for line in lines]
    return {each[4]: (each[5], " ".join(each[6 : each.index("-")])) for each in fields}


def test_criu_finds_one_mount_for_each_key(stage: Stage, below: Path) -> None:
    """The root filesystem, the volume and the filesystem below it, with the attributes of the checkpoint."""
    stage.bind["options"] = ["rbind", "ro"]
    stage.has(
        external("/data", flags=RDONLY | NOSUID | RELATIME),
        external("/data/deep/below", "/data"),
    )
    found = mounts_in(stage.run("grep ' /tmp/' /proc/self/mountinfo"))

    assert {"/tmp/root": "rw,relatime", "/tmp/0": "ro,nosuid,relatime", "/tmp/1": "rw,relatime"} == {
        point: attributes for point, (attributes, _) in found.items() if not point.startswith("/tmp/pytest")
    }
    assert all("shared:" in found[point][1] for point in ("/tmp/root", "/tmp/0", "/tmp/1"))
    assert ["hello", "of the filesystem below"] == stage.run("cat /tmp/0/hello /tmp/1/file; ls /tmp/0/deep/below")
    assert below.is_mount()


def test_host_does_not_see_the_mounts(stage: Stage) -> None:
    """They are in a mount namespace of their own, and nothing propagates."""
    stage.has(external("/data"))
    with subprocess.Popen(stage.command("echo ready; exec sleep 100"), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert "ready\n" == run.stdout.readline()
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        run.send_signal(signal.SIGINT)

    assert not {"/tmp/root", "/tmp/0"} & set(points)
    assert not Path("/tmp/root").exists()


def test_nothing_is_left_of_a_killed_runtime(stage: Stage, host_clean: Host) -> None:
    """CRIU ends with the runtime, and its mounts with it."""
    stage.has(external("/data"))
    command = stage.command("echo $$; touch /tmp/.criu.mntns.1; exec sleep 100")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.kill()
    wait_for(lambda: [] == host_clean.processes())

    assert not Path(f"/proc/{pid}").exists()
    assert not Path("/tmp/.criu.mntns.1").exists()


def test_criu_has_the_socket_and_no_other_descriptor(stage: Stage) -> None:
    """It inherits the standard streams and the socket, and blocks and ignores no signal."""
    stage.has(external("/data"))
    lines = stage.run(
        "echo $*; env | grep -v '^_=\\|^PWD='; grep -E 'Sig(Blk|Ign)' /proc/self/status; ls -l /proc/$$/fd"
    )
    open_files = [line.split() for line in lines if " -> " in line and not line.endswith("/criu")]

    assert ["swrk 3", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] == lines[:2]
    assert ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] == lines[2:4]
    assert ["0", "1", "2", "3", "4", "5", "6"] == [fields[fields.index("->") - 1] for fields in open_files]


def test_criu_is_in_the_cgroup_of_the_container(stage: Stage) -> None:
    """From its first moment. It sees the cgroup as the container will."""
    stage.document["cgroupManager"] = "cgroupfs"
    stage.document["config"]["linux"]["namespaces"].append({"type": "cgroup"})
    stage.document["config"]["linux"]["cgroupsPath"] = f"/{stage.document['id']}"
    stage.has(external("/data"))
    lines = stage.run("grep ^0:: /proc/self/cgroup; grep ^0:: /proc/$PPID/cgroup")

    assert "0::/" == lines[0]
    assert lines[1].startswith("0::/..")


def test_missing_mount_points_are_made(stage: Stage) -> None:
    """A directory or a file, as what goes there. One in a volume is made there."""
    file = stage.folder / "file"
    file.touch()
    config = [stage.bind, {"destination": "/new/file", "source": str(file), "options": ["bind"]}]
    stage.has(
        external("/data"),
        external("/new/file"),
        mount("/new/proc", type="proc"),
        mount("/data/new", "/data", type="tmpfs"),
        config=config,
    )
    stage.run(":")

    assert (stage.rootfs / "new/file").is_file()
    assert (stage.rootfs / "new/proc").is_dir()
    assert (stage.data / "new").is_dir()


@pytest.mark.parametrize("target", ["/", "..", "/etc", "missing"])
def test_mount_point_behind_a_symlink_is_refused(stage: Stage, host_clean: Host, target: str) -> None:
    """CRIU would follow it. Nothing is made outside of the root filesystem, or elsewhere in it."""
    (stage.rootfs / "link").symlink_to(target)
    before = sorted(stage.rootfs.iterdir())
    bind = {**stage.bind, "destination": "/link/new/data"}
    stage.has(external("/link/new/data"), config=[bind])
    link = "openat2: too many levels of symbolic links"

    assert f"/mounts/0: cannot make mount point /link/new/data: {link}" == stage.error()
    assert before == sorted(stage.rootfs.iterdir())
    assert not Path("/new").exists()
    assert host_clean.canary.exists()


def test_mount_point_that_is_a_symlink_is_refused(stage: Stage) -> None:
    """Its target stays as it is."""
    (stage.rootfs / "data").symlink_to("/etc")
    stage.has(external("/data"))

    assert "cannot make mount point /data: openat2: too many levels of symbolic links" in stage.error()


def test_mount_point_of_another_type_is_refused(stage: Stage) -> None:
    """A directory can't be mounted on a file, nor a file on a directory."""
    (stage.rootfs / "data").touch()
    stage.has(external("/data"))

    assert "/mounts/0: cannot make mount point /data: openat2: not a directory" == stage.error()

    stage.bind["source"] = str(stage.folder / "file")
    (stage.folder / "file").touch()
    (stage.rootfs / "data").unlink()
    (stage.rootfs / "data").mkdir()

    assert "/mounts/0: cannot make mount point /data: something else exists at this path" == stage.error()


def test_mount_below_a_volume_must_be_there(stage: Stage) -> None:
    """A directory of the volume in its place would hide that something is missing."""
    (stage.data / "deep/below").mkdir(parents=True)
    stage.has(external("/data"), external("/data/deep/below", "/data"))
    source = f"{stage.data}/deep/below"

    assert f"/mounts/0: cannot use mount source {source}: nothing is mounted there" == stage.error()
    shutil.rmtree(stage.data / "deep")
    assert f"/mounts/0: cannot use mount source {source}: openat2: no such file or directory" == stage.error()


@pytest.mark.parametrize("link", ["deep", "deep/below"])
def test_mount_below_a_volume_is_behind_no_symlink(stage: Stage, link: str) -> None:
    """The container may write to the volume, and plant one."""
    (stage.data / link).parent.mkdir(exist_ok=True)
    (stage.data / link).symlink_to("/proc" if link == "deep/below" else "/")
    stage.has(external("/data"), external("/data/deep/below", "/data"))

    assert stage.error().endswith("openat2: too many levels of symbolic links")


def test_masked_files_and_a_joined_namespace(stage: Stage) -> None:
    """A masked file gets a node, and a namespace by path is a file that CRIU can open."""
    linux = stage.document["config"]["linux"]
    linux["maskedPaths"] = ["/a", "/b"]
    linux["namespaces"].append({"type": "ipc", "path": "/proc/self/ns/ipc"})
    stage.has(external("/a", flags=RDONLY | RELATIME), external("/b"), config=[])
    lines = stage.run(
        "stat -c '%t:%T %F' /tmp/0 /tmp/1; stat -Lc %i /tmp/ipc-namespace; touch /tmp/0 2>/dev/null || echo denied"
    )

    assert ["1:3 character special file"] * 2 == lines[:2]
    assert [str(os.stat("/proc/self/ns/ipc").st_ino), "denied"] == lines[2:]
    assert (stage.rootfs / "a").is_file()


def test_idmapped_volume(stage: Stage) -> None:
    """The source has the mapping of config.json."""
    mapping = [{"containerID": 0, "hostID": 5000, "size": 1000}]
    bind = {**stage.bind, "options": ["bind"], "uidMappings": mapping, "gidMappings": mapping}
    stage.has(external("/data"), config=[bind])

    assert ["5000"] == stage.run("stat -c %u /tmp/0/hello")


def test_images_for_root_of_a_user_namespace(stage: Stage) -> None:
    """Everybody in CRIU's mount namespace can read them and their parents, and nobody else."""
    images = stage.folder / "images"
    places = ("second", "first", "deep/er")
    for place in places:
        (images / place).mkdir(parents=True, mode=0o700)
        (images / place / "pages-1.img").write_text(place)
        (images / place / "pages-1.img").chmod(0o600)
    (images / "second/parent").symlink_to("../first")
    linux = stage.document["config"]["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    stage.document["directories"] = [(place, str(images / place)) for place in places]
    stage.has(external("/data"))
    lines = stage.run(
        "cd /tmp/images/second && cat pages-1.img parent/pages-1.img ../deep/er/pages-1.img && echo;"
        "stat -c %a . pages-1.img parent/. parent/pages-1.img"
    )

    assert ["secondfirstdeep/er", "755", "644", "755", "644"] == lines
    assert {0o100600} == {(images / place / "pages-1.img").stat().st_mode for place in places}


def test_program_that_cannot_be_executed(stage: Stage) -> None:
    """The error names it."""
    stage.has(external("/data"))
    command = stage.command("")
    stage.program.chmod(0o644)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert f"cannot execute {stage.program}: execve: permission denied" == done.stderr.strip()
