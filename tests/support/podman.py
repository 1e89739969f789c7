"""Podman and Buildah, root's and a user's, with all their files in one directory."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.support import rootfs
from tests.support.daemon import PATIENCE, Client
from tests.support.docker import GROUPS, USERS
from tests.support.engines import CHECKOUT, SYSTEMD

CONFIGURATION = CHECKOUT / "contrib/podman/pyoci.conf"
UID = 1000  # of the user of a Podman without root
# What the machine lacks: a controller, a capability, a journal, maybe systemd. Images are private to the test.
MACHINE = f"""
[containers]
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=10000:10000"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "{"systemd" if SYSTEMD else "cgroupfs"}"
events_logger = "file"
healthcheck_events = false
"""
# For a kernel without tables of packets. Podman 4.3 does not know the first setting, so its containers get no network.
WITHOUT_TABLES = """
[network]
firewall_driver = "none"
"""
WITHOUT_NETWORK = """
[containers]
netns = "none"
"""
# The options of an overlay are longer than the 256 bytes that fsconfig(2) takes.
GRAPH_ROOT = "storage-" + "with-a-long-path-" * 12
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/{graph_root}"
runroot = "{folder}/run"
"""
# Where a distribution's packages have their configuration, and an administrator the changes to it.
ETC = Path("/etc/containers")
PRIVATE = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\nuser:*:{UID}:{UID}::/home/user:/bin/sh\ncontainers:x:999:999::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "group": f"root:x:0:\nuser:x:{UID}:\nwheel:x:2000:user\n",
    "subuid": "user:100000:65536\ncontainers:1000000:1048576\n",
    "subgid": "user:100000:65536\ncontainers:1000000:1048576\n",
}


def prepare_machine(folder: Path) -> None:
    """Make users, their ids, a /dev/shm and a copy of the Debian's /etc/containers that are the machine's own. Call it
    once.
    """
    folder.mkdir()
    for name, content in PRIVATE.items():
        (folder / name).write_text(content)
        subprocess.check_call(["mount", "--bind", folder / name, f"/etc/{name}"])
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"])
    shutil.copytree(ETC, folder / "containers", symlinks=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", ETC])
    shutil.copytree(folder / "containers", ETC, symlinks=True, dirs_exist_ok=True)
    if os.path.exists("/dev/net/tun"):  # the host's may be root's alone
        os.mknod(folder / "tun", 0o20666, os.makedev(10, 200))
        (folder / "tun").chmod(0o666)
        subprocess.check_call(["mount", "--bind", folder / "tun", "/dev/net/tun"])
    for path in list(folder.parents)[:-2]:
        path.chmod(0o711)  # the user has to get through to what is its own
    if SYSTEMD:  # whose the cgroups are
        return
    cgroups = Path("/sys/fs/cgroup")
    for controller in (cgroups / "cgroup.controllers").read_text().split():
        (cgroups / "cgroup.subtree_control").write_text(f"+{controller}")


class Podman(Client):
    """`podman("run", …)` is a command that must succeed, and gives what it prints. With `user`, it is a user's."""

    program = "podman"

    def __init__(self, folder: Path, runtime: str, *, user: bool = False) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.runtime = runtime
        self.user = user
        self._configure()
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder, graph_root=GRAPH_ROOT))
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder / "home"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "TMPDIR": str(folder),
        }
        (folder / "home").mkdir()
        self.states = Path("/run") / runtime
        if user:
            self.runtime_dir = Path(f"/run/user/{UID}")
            self.runtime_dir.mkdir(parents=True, exist_ok=True)
            self.environment["XDG_RUNTIME_DIR"] = str(self.runtime_dir)
            self.persistent = self.runtime_dir / "libpod/tmp/persist"
            self.states = self.runtime_dir / runtime
            for path in (folder, folder / "home", self.runtime_dir):
                os.chown(path, UID, UID)
            self.runtime_dir.chmod(0o700)
            if SYSTEMD:
                self._log_in()

    def _configure(self) -> None:
        """Add to the distribution's configuration what the machine lacks, and the runtime as we recommend it."""
        nft = ["nft", "list", "ruleset"]
        tables = not subprocess.run(nft, capture_output=True, check=False, timeout=PATIENCE).returncode
        added = ETC / "containers.conf.d"
        added.mkdir(exist_ok=True)
        (added / "machine.conf").write_text(MACHINE)
        if not tables:
            old = os.environ.get("PYOCI_ENGINE") == "podman4"
            (added / "tables.conf").write_text(WITHOUT_NETWORK if old else WITHOUT_TABLES)
        recommended = CONFIGURATION.read_text()
        (added / "pyoci.conf").write_text(
            recommended if self.runtime == "pyoci" else f'[engine]\nruntime = "{self.runtime}"\n'
        )

    def _log_in(self) -> None:
        """Have the user's own systemd, as users of containers do; Podman itself is outside of what is delegated to it,
        as
        in a session."""
        subprocess.check_call(["loginctl", "enable-linger", "user"], timeout=PATIENCE)
        subprocess.check_call(["systemctl", "start", f"user@{UID}.service"], timeout=PATIENCE)

    def command(self, *arguments: object) -> list[str]:
        """The whole command line."""
        as_user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--groups=2000"] if self.user else []
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return ["env", "-i", "-C", str(self.folder), *variables, *as_user, self.program, *map(str, arguments)]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Run it beside the test."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def inspect(self, name: str, kind: str = "container") -> dict[str, Any]:
        """What it knows of a container, or another object."""
        found = json.loads(self("inspect", "--type", kind, name))
        return found[0] if isinstance(found, list) else found

    def _busybox(self) -> Path:
        root = rootfs.busybox(self.folder / "busybox")
        (root / "etc/passwd").write_text(USERS)
        (root / "etc/group").write_text(GROUPS)
        (root / "tmp").chmod(0o1777)
        return root

    def import_busybox(self) -> None:
        """The image `busybox`."""
        root = self._busybox()
        archive = self.folder / "busybox.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, ".")
        archive.chmod(0o644)
        self("import", "--quiet", "--change", "CMD sh", "--change", "ENV PATH=/bin", archive, "busybox")

    def remove_all(self) -> None:
        """Whatever a test left to be removed: pods, containers, volumes, secrets."""
        self("pod", "rm", "--all", "--force", "--time", "0")
        self("rm", "--all", "--force", "--volumes", "--time", "0")
        self("volume", "prune", "--force")
        self("secret", "rm", "--all")
        if self.user:  # left by a failed container, with any runtime; the directory itself comes and goes
            self.persistent.mkdir(exist_ok=True)
            os.chown(self.persistent, UID, UID)
            for path in self.persistent.iterdir():
                shutil.rmtree(path, ignore_errors=True)

    def systemctl(self, *arguments: str) -> str:
        """Ask the systemd that has its units."""
        manager = ["--machine=user@", "--user"] if self.user else []
        return subprocess.check_output(["systemctl", *manager, *arguments], text=True, timeout=PATIENCE).strip()

    def delete_forgotten(self) -> None:
        """Containers that the runtime has and Podman does not: it may delete one before its runtime has made it. And
        the
        scope of a conmon that was killed before systemd had moved it there, which systemd would not see end."""
        if SYSTEMD:
            self.systemctl("stop", "libpod-conmon-*.scope")
        known = self("ps", "--all", "--quiet", "--no-trunc").split()
        for path in self.states.iterdir() if self.states.exists() else ():
            if path.name not in known and not path.name.startswith("."):
                delete = [self.runtime, "--root", self.states, "delete", "--force", path.name]
                if self.user:
                    self("unshare", *delete)
                else:
                    subprocess.check_call(list(map(str, delete)), timeout=PATIENCE)

    def version(self) -> str:
        """Its own."""
        return self("version", "--format", "{{.Client.Version}}")


class Buildah(Podman):
    """The same of Buildah, which has no daemon either."""

    program = "buildah"

    def import_busybox(self) -> None:
        """The image `busybox`."""
        root = self._busybox()
        name = self("from", "scratch")
        self("add", "--quiet", name, root, "/")
        self("config", "--cmd", "sh", "--env", "PATH=/bin", name)
        # with this name: the distribution calls `busybox` an image of a registry
        self("commit", "--quiet", "--rm", name, "localhost/busybox")

    def remove_all(self) -> None:
        """Whatever a test left to be removed: working containers."""
        self("rm", "--all")

    def version(self) -> str:
        """Its own."""
        return self("version").partition("Version:")[2].split()[0]
