"""containerd, on a private socket and in a private directory, with `ctr` and the interface that Kubernetes uses."""

import json
import select
import subprocess
import sys
import uuid
import warnings
from pathlib import Path
from typing import Any

from tests.support import image, rootfs
from tests.support.daemon import PATIENCE, Daemon, Terminal
from tests.support.engines import CHECKOUT, SYSTEMD

CONFIGURATIONS = CHECKOUT / "contrib/containerd"
KUBERNETES = CHECKOUT / "contrib/kubernetes"
NODE_OF_KUBERNETES = KUBERNETES / "containerd.toml"  # with systemd's cgroups
PROTOCOL = CHECKOUT / "tests/engines/containerd/cri.proto"
POD, CONTAINER, NODE = range(3)  # NamespaceMode
CREATED, RUNNING, EXITED = range(3)  # ContainerState
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = range(3)  # ProfileType
SYSTEMD_DRIVER, CGROUPFS_DRIVER = range(2)  # CgroupDriver
BUSYBOX, PAUSE = "localhost/busybox:latest", "localhost/pause:latest"
# A test's own part of the configuration: beside what we recommend, for all versions, for containerd 1 and 2.
OWN = """
version = {format}
imports = [{imports}]
root = "{folder}/root"
state = "{folder}/state"

[grpc]
address = "{folder}/socket"

[ttrpc]
address = "{folder}/socket.ttrpc"
"""
PODS = {
    1: """
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/net.d"
""",
    2: """
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{folder}/net.d"
""",
}
NETWORK = """
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "dataDir": "FOLDER/addresses"}}]}
"""


class Containerd:
    """A daemon, and `ctr`: `containerd("images", "ls")` is a command that must succeed, and gives what it prints."""

    def __init__(self, folder: Path, runtime: str, *more: Path) -> None:
        """Start it with the configuration that we recommend, with `more` files, beside what is a test's own."""
        self.folder = folder
        self.runtime = runtime
        self.states = folder / "runtime"
        (folder / "net.d").mkdir()
        (folder / "net.d/10-pods.conflist").write_text(NETWORK.replace("FOLDER", str(folder)))
        # By default each container of `ctr` has a share of the processor: that needs its controller.
        self.shares = "cpu" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
        major = int(self.version().partition(".")[0])
        recommended = CONFIGURATIONS / f"config-{major}.toml"
        # containerd 1 would take an imported table of a plugin in place of its own, and containerd 2 adds them up
        if major == 1:
            imports, rest = (
                "",
                recommended.read_text().partition("\n")[2] + ("SystemdCgroup = true\n" if SYSTEMD else ""),
            )
        else:
            paths = [recommended, *([NODE_OF_KUBERNETES] * SYSTEMD), *map(self._with_own_driver, more)]
            imports, rest = ", ".join(f'"{path}"' for path in paths), ""
        own = (OWN + PODS[major]).format(format=major + 1, imports=imports, folder=folder, pause=PAUSE)
        (folder / "config.toml").write_text(own + rest)
        self.client = ["ctr", "--address", f"{folder}/socket"]
        self.daemon = Daemon(folder / "log", "containerd", "--config", folder / "config.toml")
        self.await_daemon()

    def _with_own_driver(self, path: Path) -> Path:
        """A copy of a file for the systemd driver, for the driver of this machine."""
        copy = self.folder / path.name
        copy.write_text(path.read_text() if SYSTEMD else path.read_text().replace("SystemdCgroup = true\n", ""))
        return copy

    def await_daemon(self) -> None:
        """Until it answers."""
        self.daemon.await_answer(*self.client, "version")

    def import_images(self) -> None:
        """busybox for `ctr` and for pods, and what holds a pod's namespaces."""
        root = rootfs.busybox(self.folder / "busybox")
        image.archive(self.folder / "busybox.tar", root, BUSYBOX, Cmd=["sh"])
        image.archive(self.folder / "pause.tar", root, PAUSE, Entrypoint=["/bin/sleep", "1000000"])
        self("images", "import", self.folder / "busybox.tar")
        for name in "busybox", "pause":
            self("--namespace", "k8s.io", "images", "import", self.folder / f"{name}.tar")

    def __call__(self, *arguments: object, status: int = 0, timeout: float = 60) -> str:
        """Run `ctr`; what it prints on both streams if it must fail, on standard output otherwise."""
        command = [*self.client, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL
        )
        assert status == done.returncode, f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return (done.stdout + done.stderr if status else done.stdout).strip()

    def options(self) -> list[str]:
        """Those of `ctr run` that choose the runtime and where it keeps its state."""
        binary = "/usr/local/bin/pyoci" if self.runtime == "pyoci" else "runc"
        return [
            "--runc-binary",
            binary,
            "--runc-root",
            str(self.states),
            *([] if self.shares else ["--cpu-shares", "0"]),
            *(["--runc-systemd-cgroup", "--cgroup", f"system.slice:ctr:{uuid.uuid4().hex}"] if SYSTEMD else []),
        ]

    def terminal(self, *arguments: object, **size: int) -> Terminal:
        """Run `ctr` on a terminal."""
        return Terminal(*self.client, *map(str, arguments), **size)

    def version(self) -> str:
        """The daemon's."""
        return (
            subprocess.check_output(["containerd", "--version"], text=True)
            .split()[2]
            .partition("~")[0]
            .partition("+")[0]
        )

    def stop(self) -> None:
        """End it."""
        self.daemon.stop()


class Cri:
    """The Container Runtime Interface: `cri("RunPodSandbox", config=…)` is a call, and gives the answer."""

    def __init__(self, engine: Any) -> None:
        """Call the socket of an engine: `Containerd`, or one with its directory."""
        generated = engine.folder / "generated"
        generated.mkdir()
        paths = [f"-I{PROTOCOL.parent}", f"--python_out={generated}"]
        subprocess.check_call([sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", *paths, PROTOCOL])
        sys.path.insert(0, str(generated))
        with warnings.catch_warnings():  # they are older than this Python
            warnings.simplefilter("ignore")
            import cri_pb2
        self.types: Any = cri_pb2
        # gRPC has threads of its own, and does not go with a process that forks
        self.caller = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CALLER, f"unix://{engine.folder}/socket"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, method: str, **fields: Any) -> Any:
        """Call a method, with the fields of its request; a `CriError` if the answer is one."""
        assert self.caller.stdin
        assert self.caller.stdout
        called = self.types.DESCRIPTOR.services_by_name["RuntimeService"].methods_by_name[method]
        request = getattr(self.types, called.input_type.name)(**fields)
        print(method, request.SerializeToString().hex(), file=self.caller.stdin, flush=True)
        # the caller itself gives up after 60 seconds
        assert select.select([self.caller.stdout], [], [], 90)[0], f"no answer to {method}"
        kind, answer = json.loads(self.caller.stdout.readline())
        if kind == "error":
            raise CriError(answer)
        return getattr(self.types, called.output_type.name).FromString(bytes.fromhex(answer))

    def close(self) -> None:
        """Hang up."""
        self.caller.kill()
        self.caller.communicate(timeout=PATIENCE)


class CriError(Exception):
    """An answer of the Container Runtime Interface that is an error."""


class Pod:
    """A pod sandbox, and containers in it. Where systemd makes cgroups, it has a slice, as the kubelet gives it one."""

    def __init__(self, cri: Cri, handler: str, folder: Path, hostname: str = "pod", **linux: Any) -> None:
        self.cri = cri
        uid = uuid.uuid4().hex
        self.slice = f"kubepods-besteffort-pod{uid}.slice" if SYSTEMD else ""
        self.config = {
            "metadata": {"name": "pod", "uid": uid, "namespace": "test"},
            "hostname": hostname,
            "log_directory": str(folder),
            "linux": {"cgroup_parent": self.slice, **linux},
        }
        self.id = cri("RunPodSandbox", config=self.config, runtime_handler=handler).pod_sandbox_id

    def create(self, *command: str, name: str = "box", **config: Any) -> str:
        """Create a container."""
        what = {"metadata": {"name": name}, "image": {"image": BUSYBOX}, "command": command, "log_path": f"{name}.log"}
        call = {"pod_sandbox_id": self.id, "config": {**what, **config}, "sandbox_config": self.config}
        return self.cri("CreateContainer", **call).container_id

    def run(self, *command: str, **config: Any) -> str:
        """Create and start a container."""
        container = self.create(*command, **config)
        self.cri("StartContainer", container_id=container)
        return container

    def status(self, container: str) -> Any:
        """A container's status."""
        return self.cri("ContainerStatus", container_id=container).status

    def process(self, container: str) -> int:
        """A container's first process."""
        info = self.cri("ContainerStatus", container_id=container, verbose=True).info["info"]
        return json.loads(info)["pid"]

    def exec(self, container: str, *command: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        done = self.cri("ExecSync", container_id=container, cmd=command, timeout=20)
        return done.exit_code, done.stdout.decode(), done.stderr.decode()

    def remove(self) -> None:
        """Stop and remove it, with its containers."""
        self.cri("StopPodSandbox", pod_sandbox_id=self.id)
        self.cri("RemovePodSandbox", pod_sandbox_id=self.id)
        if self.slice:
            subprocess.check_call(["systemctl", "stop", self.slice], timeout=60)


# Reads lines of a method and its request, writes lines of its answer.
CALLER = """
import grpc, json, sys
channel = grpc.insecure_channel(sys.argv[1])
for line in sys.stdin:
    method, _, request = line.rstrip().partition(" ")
    try:
        answer = "answer", channel.unary_unary("/runtime.v1.RuntimeService/" + method)(bytes.fromhex(request), timeout=60).hex()
    except grpc.RpcError as error:
        answer = "error", error.details()
    print(json.dumps(answer), flush=True)
"""
