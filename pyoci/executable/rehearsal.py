"""What commands do, for the build of the executable to rehearse (image.c, heap.c).

It needs no privileges and changes nothing on the host. Even as root it creates no container, because the root
filesystem of its config does not exist.
"""

import posix
import sys

from pyoci import config as configuration
from pyoci import container, delete, handover, kill, record, run, start
from pyoci import create as creation
from pyoci.cgroups import cgroupfs, controllers, device_program, directories, hierarchy, resources
from pyoci.cgroups.cgroupfs import Cgroup
from pyoci.cli import log, options
from pyoci.cli.table import GLOBAL_BY_NAME
from pyoci.compiler import verbs
from pyoci.compiler.block import encode
from pyoci.compiler.create import compile_container
from pyoci.compiler.exec import ExecTarget, compile_exec
from pyoci.compiler.facts import Host, Options
from pyoci.compiler.seccomp import MACHINES
from pyoci.compiler.verbs import base, clones
from pyoci.config.jsonio import dumps, loads
from pyoci.dbus import wire
from pyoci.host import bundle, facts, files, hooks, kernel_mounts, processes, state_directory, state_root, terminal
from pyoci.host.state_directory import StateDirectory
from pyoci.parent import conversation, helper, operations, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pyoci.compiler.operations import Plan
    from pyoci.types import Config, Linux

    Main = Callable[[list[str]], int]  # executable.main


TIMES = 20  # CPython specialises code after 16 runs, counting the warm-up of a loop
CGROUP_FILES = {"cgroup.freeze": b"0\n", "cgroup.events": b"populated 1\nfrozen 0\n"}


def compile_known_filters(_directory: str, _main: "Main") -> None:
    """Compile the filters of the profiles that engines send by default, for every later process."""
    from pyoci.compiler import known_filters

    known_filters.compile_known(_HOST.arch)
    # the image keeps the filters only
    for name in ("known_filters", "_profiles"):
        del sys.modules[f"pyoci.compiler.{name}"]
        delattr(sys.modules["pyoci.compiler"], name)


def warm_up(directory: str, main: "Main") -> None:
    """Do the work of commands until CPython has specialised the code.

    No module keeps a result, because the image must not contain data of the build host. Two results stay, made from
    constants: the filters of `compile_known_filters`, and the JSON reader's names.
    """
    # Imports have filled the cache of attributes. Replacing an entry would write to the old name, far from hot blocks.
    sys._clear_type_cache()
    given = options.Values()
    for _ in range(TIMES):
        options.parse(GLOBAL_BY_NAME, ["--root", "/run/pyoci", "--log-format", "json", "state"], given, mixed=False)
        config, plan = _compile(directory)
        _exec(config, plan)
        _unit(config)
        _life(directory, main)
        _failing_create(directory, main)


def any_command(directory: str, main: "Main") -> None:
    """Run the commands of a container's life after create, and touch the code that they rarely use."""
    _life(directory, main)
    for module in (container, start, kill, delete, record, processes, state_directory, cgroupfs):
        _touch(module)


def create(directory: str, main: "Main") -> None:
    """Run create as far as possible without a root filesystem, and touch the code of the rest."""
    _compile(directory)
    _failing_create(directory, main)
    for module in (
        creation, run, handover, protocol, operations, conversation, helper, cgroupfs, controllers, device_program,
        directories, hierarchy, resources, bundle, facts, files, hooks, kernel_mounts, processes, state_directory,
        state_root, terminal, record, start, log, verbs, base, clones,
    ):  # fmt: skip
        _touch(module, names=True)


_HOST = Host(posix.uname().machine, "/sys/fs/cgroup", capabilities=(1 << 41) - 1)


def _compile(directory: str) -> "tuple[Config, Plan]":
    """Read, validate, compile and encode the config in `directory`."""
    fd = posix.open(f"{directory}/config.json", posix.O_RDONLY | posix.O_CLOEXEC)
    text = posix.read(fd, posix.fstat(fd).st_size)
    posix.close(fd)
    config, _warnings = configuration.load(text)
    if _HOST.arch not in MACHINES:
        config["linux"].pop("seccomp")
    plan = compile_container(config, _HOST, Options("/bundle", "id"))
    if plan.filter is not None:
        plan.filter.program  # noqa: B018 - compiles it
    for first, ops in plan.blocks():
        encode(ops, first=first)
    loads(dumps({"process": config["process"], "linux": config["linux"]}).encode())
    return config, plan


def _exec(config: "Config", plan: "Plan") -> None:
    """Compile and encode an exec of the container's program."""
    target = ExecTarget("id", ["mount", "pid", "network"], {}, plan.filter)
    encode(compile_exec(config["process"], target, _HOST).child())


def _life(directory: str, main: "Main") -> None:
    """Run the commands of a container's life after create. `directory` has its state, and the files of its cgroup.

    This process plays the part of init until the container has stopped.
    """
    root, cgroup = f"{directory}/root", f"{directory}/cgroup"
    posix.mkdir(cgroup)
    for name, content in CGROUP_FILES.items():
        files.replace(f"{cgroup}/{name}", content, 0o600)
    claimed = StateDirectory.claim(root, "id")
    exec_fifo, result_fifo = claimed.create_fifos()
    init = _record("id", directory, pid=posix.getpid())
    claimed.save(init)
    claimed.unlock()
    _expect(main, root, ("state", 0), ("kill", 0, "CONT"))
    posix.unlink(f"{root}/id/{state_directory.EXEC_FIFO}")  # as `start` does
    _expect(main, root, ("state", 0), ("kill", 0, "CONT"), ("start", 1))
    posix.close(exec_fifo)
    posix.close(result_fifo)
    init.pid = -1
    claimed.save(init)
    claimed.close()
    for name in CGROUP_FILES:
        posix.unlink(f"{cgroup}/{name}")
    _expect(main, root, ("state", 0), ("start", 1), ("kill", 1), ("delete", 0), ("state", 1))


def _expect(main: "Main", root: str, *commands: "tuple[str, int] | tuple[str, int, str]") -> None:
    """Run commands of the container, and check their exit statuses."""
    for verb, expected, *arguments in commands:
        status = _run(main, "--root", root, verb, "id", *arguments)
        if status != expected:
            raise RuntimeError(f"{verb} ends with {status}")


def _failing_create(directory: str, main: "Main") -> None:
    """Run a create that fails: the config names a root filesystem that does not exist."""
    if not _run(main, "--root", f"{directory}/root", "create", "--bundle", directory, "id"):
        raise RuntimeError("create did not fail")


def _record(id: str, bundle: str, *, pid: int) -> record.Record:
    """The record that create would have written for a container whose init is `pid`."""
    cgroup = Cgroup(bundle, "/cgroup", ["/cgroup"], posix.stat(f"{bundle}/cgroup").st_ino)
    return record.Record(
        id,
        bundle,
        rootfs=f"{bundle}/rootfs",
        created=record.now(),
        cgroup=cgroup.to_dict(),
        status="created",
        pid=pid,
        start_time=processes.start_time(pid),
        boot_id=processes.boot_id(),
        args=["sh"],
    )


def _run(main: "Main", *arguments: str) -> int:
    """Run a command with its output discarded; return its exit status."""
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    kept = [(fd, posix.dup(fd)) for fd in (1, 2)]
    for fd, _ in kept:
        posix.dup2(null, fd)
    try:
        return main(list(arguments))
    finally:
        for fd, ours in kept:
            posix.dup2(ours, fd)
            posix.close(ours)
        posix.close(null)


def _touch(module: "ModuleType", *, names: bool = False) -> None:
    """Write to the objects that a module's functions refer to. A call does the same, because Python counts references.

    `names` adds the names of attributes and globals, which a function looks up the first few times that it runs.
    """
    for value in vars(module).values():
        for function in vars(value).values() if isinstance(value, type) else (value,):
            function = getattr(function, "__func__", None) or getattr(function, "fget", None) or function
            code = getattr(function, "__code__", None)
            if code is not None and function.__module__ == module.__name__:
                for _ in (*code.co_consts, *(code.co_names if names else ())):
                    continue


def _unit(config: "Config") -> None:
    """Compile for the systemd driver, and encode the request to systemd."""
    linux: Linux = {**config["linux"], "cgroupsPath": "system.slice:docker:id"}
    plan = compile_container({**config, "linux": linux}, _HOST, Options("/bundle", "id", cgroup_manager="systemd"))
    set_ = (op.property for op in plan.parent() if isinstance(op, verbs.SetProperty))
    given = [(each.name, each.value) for each in set_]
    fields = {wire.PATH: "/", wire.INTERFACE: "x.y", wire.MEMBER: "z", wire.DESTINATION: "x.y"}
    wire.decode(wire.encode(wire.CALL, 1, fields, "ssa(sv)a(sa(sv))", "unit", "replace", given, []))
