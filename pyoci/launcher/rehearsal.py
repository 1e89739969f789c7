"""What commands do before they touch the host, for the build of the executable to rehearse (image.c)."""

import posix

from pyoci import cli, dbus, options
from pyoci import config as configuration
from pyoci.config.jsonio import dumps, loads
from pyoci.plan.compiler import Host, Options, compile_container
from pyoci.plan.exec import Running, compile_exec
from pyoci.plan.operations import encode
from pyoci.plan.seccomp import MACHINES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def any_command() -> None:
    """Parse a command line, write a container's record and read it."""
    given = options.Values()
    options.parse(cli.GLOBAL_OPTIONS, ["--root", "/run/pyoci", "--log-format", "json", "state"], given, mixed=False)
    record = {"id": "id", "pid": 1, "cgroup": {"path": "/id", "files": {}}, "args": ["sh"], "paused": False}
    loads(dumps(record).encode())


def create(file: str, *, everything: bool) -> None:
    """Read, validate, compile and encode the config in `file`; with `everything` an exec of its process, and what is
    asked of systemd.
    """
    fd = posix.open(file, posix.O_RDONLY | posix.O_CLOEXEC)
    text = posix.read(fd, posix.fstat(fd).st_size)
    posix.close(fd)
    arch = posix.uname().machine
    config, _warnings = configuration.load(text)
    if arch not in MACHINES:
        config["linux"].pop("seccomp")
    host = Host(arch, "/sys/fs/cgroup", capabilities=(1 << 41) - 1)
    plan = compile_container(config, host, Options("/bundle", "id"))
    encode(plan.child())
    plan.complete()
    loads(dumps({"process": config["process"], "linux": config["linux"]}).encode())
    if everything:
        running = Running("id", ["mount", "pid", "network"], {}, plan.filter)
        encode(compile_exec(config["process"], running, host).child())
        _unit(config, host)


def _unit(config: "dict[str, Any]", host: Host) -> None:
    """Compile for the systemd driver, and put what it asks for into a message."""
    linux = {**config["linux"], "cgroupsPath": "system.slice:docker:id"}
    plan = compile_container({**config, "linux": linux}, host, Options("/bundle", "id", cgroup_manager="systemd"))
    given = [(each.name, each.value) for each in plan.properties]
    fields = {dbus.PATH: "/", dbus.INTERFACE: "x.y", dbus.MEMBER: "z", dbus.DESTINATION: "x.y"}
    dbus.decode(dbus.encode(dbus.CALL, 1, fields, "ssa(sv)a(sa(sv))", "unit", "replace", given, []))
