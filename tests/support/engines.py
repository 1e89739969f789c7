"""Real engines with pyoci as their runtime: where they run, and what a run of their tests says.

The tests of an engine lie in a folder of its name in tests/engines. They run inside a Debian that has it, apart from this
host, as tests/engines/machine makes it; `Run` starts them from outside.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
MACHINE = CHECKOUT / "tests/engines/machine"
RESULTS = "ENGINE-RESULTS "  # begins the line of what the tests found

OLD, NEWEST = "bookworm", "sid"  # Debian's: what the tests use, and what docs/engines.md is about
# Docker 26 of the stable release loses the output of more short containers on a busy machine (support/docker.py), and Podman 5.4
# can't remove a container whose conmon was killed: with runc as well. Its containerd 1.7 lacks what a current kubelet asks for.
SUITES = {"docker": NEWEST, "containerd": NEWEST, "podman": NEWEST, "podman4": OLD, "buildah": NEWEST}
COMMON = ["python3", "python3-pytest", "busybox-static", "procps", "runc"]
# The engines, and the packages that have them and what they use.
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
    "docker": ["docker.io", "docker-cli", "docker-buildx", "docker-compose", "iptables", "iproute2"],
    "containerd": [
        "containerd",
        "conmon",
        "containernetworking-plugins",
        "e2fsprogs",
        "iproute2",
        "python3-grpcio",
        "python3-grpc-tools",
        "python3-yaml",
    ],
    "podman": _PODMAN,
    "podman4": [*_PODMAN, "iptables"],
    "buildah": _PODMAN,
}
# Where the tests can run, and the command that runs another one there.
MACHINES: dict[str, tuple[str | Path, ...]] = {
    "host": (),
    "uml": (CHECKOUT / "tests/vm/uml", "--timeout", "1800", "--"),
    "qemu": (CHECKOUT / "tests/vm/qemu", "--timeout", "3600", "--"),
    "systemd": (),
    "uml-systemd": (CHECKOUT / "tests/vm/uml", "--timeout", "1800", "--systemd", "--"),
    # the Debian's own systemd, which is newer
    "uml-newest-systemd": (CHECKOUT / "tests/vm/uml", "--timeout", "1800", "--"),
    "qemu-systemd": (CHECKOUT / "tests/vm/qemu", "--timeout", "3600", "--systemd", "--"),
}
SYSTEMD = os.path.isdir("/run/systemd/system")  # this is such a machine: engines are to have it make cgroups


@dataclass
class Run:
    """What a run of an engine's tests came to.

    `rows` are the features: {engine, version, machine, runtime, feature, result, note}, where `result` is "works",
    "fails" or "needs", and `note` says what is needed, or in what way it differs.
    """

    status: int
    output: str
    rows: list[dict[str, Any]]


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
        machine: Its name in `MACHINES`. On others than the host's kernel only features that need a controller are tested.
        suite: The Debian that has the engine; None for the one in `SUITES`.
        timeout: Seconds.
    """
    debian = suite or SUITES[engine]
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
        *([] if any("/" in argument for argument in arguments) else [f"tests/engines/{engine}"]),
    ]
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYOCI_ENGINE": engine,
        "PYOCI_ENGINE_MACHINE": machine,
    }
    if machine != "host":  # it has no network to fetch packages by
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
        except BaseException:
            process.terminate()  # the machine ends what is in it, which a killed one could not
            try:
                process.communicate(timeout=60)
            finally:
                process.kill()
            raise
    output, _, results = said.partition(RESULTS)
    return Run(process.returncode, output, json.loads(results.splitlines()[0]) if results else [])
