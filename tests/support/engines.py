"""Run the tests of real engines, with pyoci or runc as their runtime.

The tests of an engine are in the directory of its name in tests/engines. They run inside a Debian that has the engine,
separated from this host by tests/engines/machine. `run` starts them from outside.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
MACHINE = CHECKOUT / "tests/engines/machine"
LATE = 124  # the status of tests that did not end, as of timeout(1)
RESULTS = "ENGINE-RESULTS "  # begins the line of what the tests found

OLD, NEWEST = "bookworm", "sid"  # suites of Debian with the engines of the tests
# The stable release is too old. Its Docker 26 loses output of short containers on a busy machine (support/docker.py),
# and its Podman 5.4 cannot remove a container whose conmon was killed, with runc as well. Its containerd 1.7 lacks
# calls of a current kubelet.
SUITES = {"docker": NEWEST, "containerd": NEWEST, "crio": NEWEST, "podman": NEWEST, "podman4": OLD, "buildah": NEWEST}
COMMON = ["python3", "python3-pytest", "busybox-static", "procps", "runc"]
# The engines and their packages.
_PODMAN = [
    "podman",
    "buildah",
    "crun",
    "netavark",
    "aardvark-dns",
    "passt",
    "uidmap",
    "catatonit",
    "golang-github-containers-common",
    "nftables",
    "iproute2",
]
ENGINES = {
    "docker": ["docker.io", "docker-cli", "docker-buildx", "docker-compose", "iptables", "iproute2", "criu"],
    "containerd": [
        "apparmor",
        "containerd",
        "conmon",
        "criu",
        "containernetworking-plugins",
        "e2fsprogs",
        "iptables",
        "iproute2",
        "python3-grpcio",
        "python3-grpc-tools",
        "python3-yaml",
    ],
    "crio": [
        *("conmon", "crun", "skopeo", "containernetworking-plugins", "golang-github-containers-common", "libseccomp2"),
        *("iptables", "iproute2", "python3-grpcio", "python3-grpc-tools", "python3-yaml"),
    ],
    "podman": [*_PODMAN, "criu", "iptables"],
    "podman4": [*_PODMAN, "iptables"],
    "buildah": _PODMAN,
}
# Programs that Debian does not package: the arguments of tools/go-install.
BUILT = {
    # the tags leave out what needs more libraries, such as GPGME
    "crio": [
        *("--with-c", "pinns/src", "github.com/cri-o/cri-o@v1.34.0", "cmd/crio", "libseccomp-dev", "pkgconf", "--"),
        *("-tags", "seccomp containers_image_openpgp exclude_graphdriver_btrfs btrfs_noversion"),
    ],
    "nvidia-container-runtime": ["github.com/NVIDIA/nvidia-container-toolkit@v1.20.2", "cmd/nvidia-container-runtime"],
}
# Where the tests can run, and the command that runs another command there.
MACHINES: dict[str, tuple[str | Path, ...]] = {
    "host": (),
    "uml": (CHECKOUT / "tests/vm/uml", "--timeout", "1800", "--"),
    "qemu": (CHECKOUT / "tests/vm/qemu", "--timeout", "3600", "--"),
    "systemd": (),
    "uml-systemd": (CHECKOUT / "tests/vm/uml", "--timeout", "1800", "--systemd", "--"),
    # with the newer systemd of that Debian
    "uml-newest-systemd": (CHECKOUT / "tests/vm/uml", "--timeout", "1800", "--"),
    "qemu-systemd": (CHECKOUT / "tests/vm/qemu", "--timeout", "3600", "--systemd", "--"),
}
SYSTEMD = os.path.isdir("/run/systemd/system")  # engines use the systemd driver


@dataclass
class Run:
    """The outcome of an engine's tests. `status` is that of pytest, or LATE.

    `rows` are the features: {engine, version, machine, runtime, feature, result, note}, where `result` is "works",
    "fails" or "needs", and `note` says what is missing, or how runc differs.
    """

    status: int
    output: str
    rows: list[dict[str, Any]]


def build(program: str) -> None:
    """Build a program of BUILT in the Debian with the newest engines, if it is not there."""
    subprocess.run([CHECKOUT / "tools/go-install", NEWEST, *BUILT[program]], check=True)


def run(
    engine: str,
    *arguments: str,
    runtime: str = "pyoci",
    machine: str = "host",
    suite: str | None = None,
    timeout: float = 3600,
) -> Run:
    """Run an engine's tests.

    Args:
        engine: Its name in `ENGINES`.
        arguments: Passed to pytest.
        runtime: The engine's runtime: pyoci or runc.
        machine: Its name in `MACHINES`. Other kernels than the host's run only features that need a controller.
        suite: The suite of Debian that has the engine; None for the one in `SUITES`.
        timeout: Seconds.
    """
    debian = suite or SUITES[engine]
    if engine in BUILT:
        build(engine)
    command = [
        *(*MACHINES[machine], MACHINE, *(["--systemd"] if "systemd" in machine else [])),
        *(debian, *COMMON, *ENGINES[engine], "--"),
        *(
            "/usr/bin/python3",
            "-m",
            "pytest",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            f"--runtime={runtime}",
            *arguments,
        ),
        *([] if machine in ("host", "systemd") else ["--needs"]),
        # the root of qemu is an overlay, on which Podman can't mount another; /tmp is a tmpfs
        *(["--basetemp=/tmp/engine"] if machine.startswith("qemu") else []),
        *([] if any("/" in argument for argument in arguments) else [f"tests/engines/{engine}"]),
    ]
    environment = {
        **os.environ,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",  # pyoci is in /usr/local/bin there
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYOCI_ENGINE": engine,
        "PYOCI_ENGINE_MACHINE": machine,
    }
    if machine != "host":  # machines have no network to fetch packages
        subprocess.run([CHECKOUT / "tools/debian", debian, *COMMON, *ENGINES[engine], "--", "true"], check=True)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=CHECKOUT,
        env=environment,
    ) as process:
        try:
            said, _ = process.communicate(timeout=timeout)
        except BaseException as error:
            process.terminate()  # SIGTERM lets the machine end its processes; SIGKILL would not
            try:
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Run(LATE, f"{said}\nnot finished after {timeout:.0f} seconds", [])
    output, _, results = said.partition(RESULTS)
    return Run(process.returncode, output, json.loads(results.splitlines()[0]) if results else [])
