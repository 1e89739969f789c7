"""Run restore's plan without images: `becomes_criu.py FILE`, the process that becomes CRIU, with a program of the test.

FILE has a config, the mounts of a checkpoint as in tests/plans/restore, and the path of the program. This prints what
the program sends over the socket on which CRIU would take its request, or the error.
"""

import json
import posix
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pyoci import config as configuration
from pyoci.compiler import verbs
from pyoci.compiler.facts import Options
from pyoci.compiler.restore import compile_restore
from pyoci.compiler.verbs.numbers import CRIU_ERRORS, CRIU_INPUT, CRIU_OUTPUT, RPC, STDERR, STDIN, STDOUT
from pyoci.errors import PyociError
from pyoci.host.facts import probe
from pyoci.parent.operations import HOST_VERBS
from pyoci.parent.protocol import Launch
from pyoci.request import CriuOptions
from tests.support.goldens import image_of


def nothing(_launch: Launch, _op: "verbs.ParentOp") -> None:
    """Record nothing: there is no container."""


def run(document: dict[str, Any]) -> None:
    """Run the plan, and print what the program says. Raises PyociError."""
    config, _ = configuration.load(json.dumps(document["config"]).encode())
    request: Any = SimpleNamespace(options=CriuOptions(), image_path="/images")
    image: Any = image_of(document["mounts"])
    host, manager = probe("/run/pyoci"), document.get("cgroupManager", "disabled")
    options = Options(document["bundle"], document["id"], cgroup_manager=manager)
    directories = [(place, path) for place, path in document.get("directories", [])]
    made = compile_restore(config, host, options, image, request, document["program"], directories=directories)
    operations = {**HOST_VERBS, verbs.RecordProcess: nothing, verbs.SaveExecSettings: nothing}
    launch = Launch(made.plan, operations, config, document["id"], host.cgroup_mount)
    own, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        launch.plan_cgroup()
        launch.prepare()
        launch.clone()
        for fd, slot in enumerate((CRIU_INPUT, CRIU_OUTPUT, CRIU_ERRORS, STDIN, STDOUT, STDERR)):
            launch.slots[slot] = posix.dup(fd % 3)
        launch.slots[RPC] = posix.dup(peer.fileno())
        peer.close()
        launch.send_plan()
        posix.close(launch.slots[RPC])  # so that the end of the program is the end of file
        launch.slots[RPC] = -1
        launch.alongside()
        launch.serve_child()
        while data := own.recv(1 << 16):
            print(data.decode(), end="", flush=True)
    finally:
        launch.abort()
        launch.cgroup.destroy(kill=True)


if __name__ == "__main__":
    try:
        run(json.loads(Path(sys.argv[1]).read_bytes()))
    except PyociError as error:
        sys.exit(str(error))
