"""CRI-O, on a private socket and in a private directory, with the drop-in that we recommend."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import image, rootfs
from tests.support.containerd import BUSYBOX, KUBERNETES, NETWORK, PAUSE
from tests.support.daemon import Daemon
from tests.support.engines import SYSTEMD

# A test's own part of the configuration.
OWN = """
[crio]
root = "{folder}/root"
runroot = "{folder}/run"
storage_driver = "overlay"
log_dir = "{folder}/logs"
version_file = "{folder}/version"
clean_shutdown_file = "{folder}/clean.shutdown"

[crio.api]
listen = "{folder}/socket"

[crio.runtime]
cgroup_manager = "{manager}"
conmon_cgroup = "{conmon}"
container_exits_dir = "{folder}/exits"
container_attach_socket_dir = "{folder}/attach"
namespaces_dir = "{folder}/namespaces"
hooks_dir = []
disable_hostport_mapping = true
irqbalance_config_restore_file = "disable"

[crio.image]
pause_image = "{pause}"
pause_command = ""

[crio.network]
network_dir = "{folder}/net.d"
plugin_dirs = ["/usr/lib/cni"]
"""

# Ends on SIGTERM, which CRI-O gives a minute.
HOLD = "trap exit TERM; sleep 1000000 & wait"


class Crio:
    """A daemon, with images that its pods need. `tests.support.containerd.Cri` calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "net.d").mkdir()
        (folder / "net.d/10-pods.conflist").write_text(NETWORK.replace("FOLDER", str(folder)))
        manager, conmon = ("systemd", "system.slice") if SYSTEMD else ("cgroupfs", "pod")
        own = OWN.format(folder=folder, manager=manager, conmon=conmon, pause=PAUSE)
        (folder / "crio.conf").write_text(own)
        (folder / "crio.conf.d").mkdir()
        shutil.copy(KUBERNETES / "crio.conf", folder / "crio.conf.d/99-pyoci.conf")
        self._import_images()
        options = ["--config", folder / "crio.conf", "--config-dir", folder / "crio.conf.d"]
        self.daemon = Daemon(folder / "log", "crio", *options)
        connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        self.daemon.await_answer(sys.executable, "-c", connect, f"{folder}/socket")

    def _import_images(self) -> None:
        """busybox, and what holds a pod's namespaces, before the daemon opens its storage."""
        root = rootfs.busybox(self.folder / "busybox")
        image.archive(self.folder / "busybox.tar", root, BUSYBOX, Cmd=["sh"])
        image.archive(self.folder / "pause.tar", root, PAUSE, Entrypoint=["/bin/sh", "-c", HOLD])
        storage = f"containers-storage:[overlay@{self.folder}/root+{self.folder}/run]"
        for name, path in (BUSYBOX, "busybox.tar"), (PAUSE, "pause.tar"):
            copy = ["skopeo", "--insecure-policy", "copy", f"oci-archive:{self.folder}/{path}:latest", storage + name]
            subprocess.check_call(copy, stdout=subprocess.DEVNULL, timeout=120)

    @staticmethod
    def version() -> str:
        """Return the version that `crio --version` prints."""
        lines = subprocess.check_output(["crio", "--version"], text=True, stderr=subprocess.DEVNULL).splitlines()
        (version,) = (line.split()[-1] for line in lines if line.lower().startswith("crio version"))
        return version

    def stop(self) -> None:
        """End it."""
        self.daemon.stop()
