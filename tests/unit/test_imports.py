"""Every module that a hot command loads, in the real executable, through the life of a real container.

A module costs some 50 µs at each of the calls that an engine makes per container; the standard library's cost
milliseconds. So the list is kept by hand: if a command needs another module, add it here.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyoci.executable import freeze

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a real container needs root")

# What CPython's core has before pyoci starts, and the two that Cython makes up.
CORE = """
    sys builtins _frozen_importlib _imp _thread _warnings _weakref posix _pyoci_executable
    cython_runtime pyoci pyoci.executable pyoci._native
""".split()

ALWAYS = """
    errno fcntl select time _struct
    pyoci.host pyoci.cli pyoci.cli.arguments pyoci.cli.call pyoci.cli.commands pyoci.cli.failure pyoci.cli.output pyoci.cli.table
    pyoci.errors pyoci.cli.log pyoci.config.ids pyoci.cli.options pyoci.host.files
    pyoci.container pyoci.record pyoci.version pyoci.host.processes pyoci.host.state_directory pyoci.host.state_root
    pyoci.cgroups pyoci.cgroups.directories pyoci.cgroups.disabled pyoci.cgroups.cgroupfs pyoci.cgroups.hierarchy
    pyoci.cgroups.controllers pyoci.cgroups.freezer pyoci.cgroups.takeover
    pyoci.config pyoci.config.jsonio pyoci.config.text pyoci.linux
""".split()

CREATION = """
    itertools math pyoci.pointer pyoci.ranges pyoci.host.hooks pyoci.cgroups.resources pyoci.parent
    pyoci.host.bundle pyoci.host.terminal pyoci.parent.conversation pyoci.create pyoci.request pyoci.delete
    pyoci.handover pyoci.parent.explain pyoci.host.facts pyoci.parent.helper pyoci.parent.protocol pyoci.cli.signals
    pyoci.cgroups.device_filter pyoci.cgroups.device_program pyoci.config._validator pyoci.config.checks
    pyoci.config.constants pyoci.config.messages pyoci.compiler pyoci.compiler._syscalls pyoci.compiler.block
    pyoci.compiler.bpf
    pyoci.compiler.cgroup pyoci.compiler.create pyoci.compiler.facts pyoci.compiler.devices pyoci.compiler.hooks
    pyoci.compiler.host_mounts pyoci.host.kernel_mounts
    pyoci.compiler.idmap pyoci.compiler.mount_options pyoci.compiler.mounts pyoci.compiler.namespaces
    pyoci.compiler.operations pyoci.compiler.paths pyoci.compiler.process pyoci.compiler.rootfs
    pyoci.compiler.seccomp pyoci.compiler.seccomp_rules pyoci.parent.operations
"""

VERBS = """
    pyoci.compiler.verbs pyoci.compiler.verbs.base pyoci.compiler.verbs.numbers pyoci.compiler.verbs.phrases
    pyoci.compiler.verbs.process pyoci.compiler.verbs.proc pyoci.compiler.verbs.clones pyoci.compiler.verbs.mounts
    pyoci.compiler.verbs.devices pyoci.compiler.verbs.root pyoci.compiler.verbs.terminal pyoci.compiler.verbs.credentials
    pyoci.compiler.verbs.program pyoci.compiler.verbs.restore pyoci.compiler.verbs.hooks pyoci.compiler.verbs.runtime pyoci.compiler.verbs.cgroup
"""

COMMANDS = {
    "create": CREATION + VERBS,
    "run": CREATION + VERBS + "pyoci.run pyoci.start",
    "exec": CREATION + VERBS + "pyoci.exec pyoci.compiler.exec",
    "start": "pyoci.start pyoci.delete pyoci.parent pyoci.parent.conversation pyoci.compiler pyoci.config.constants"
    + VERBS,
    "state": "",
    "list": "pyoci.listing",
    "kill": "pyoci.kill pyoci.cli.signals",
    "delete": "pyoci.delete",
}

# Writes the names of the loaded modules to $MODULES when the command has ended.
REPORT = """

_main = main

def main(arguments):
    status = _main(arguments)
    file = posix.open(posix.environ[b"MODULES"], posix.O_CREAT | posix.O_WRONLY | posix.O_TRUNC, 0o600)
    posix.write(file, "\\n".join(sys.modules).encode())
    posix.close(file)
    return status
"""


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real package, in an executable that tells its modules."""
    top = tmp_path_factory.mktemp("imports")
    shutil.copytree(ROOT / "pyoci", top / "pyoci", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    with (top / "pyoci" / "executable" / "__init__.py").open("a") as file:
        file.write(REPORT)
    native = ROOT / "build" / "executable" / "_native.o"
    assert native.exists(), "run tools/build"
    freeze.build(top / "pyoci-modules", top / "temp", package=top / "pyoci", native=native, image=False)
    return top / "pyoci-modules"


@pytest.fixture(scope="module")
def loaded(executable: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The modules that each hot command loaded, in the order of a container's life."""
    top = tmp_path_factory.mktemp("container")
    (top / "rootfs" / "bin").mkdir(parents=True)
    for folder in ("dev", "proc", "sys"):
        (top / "rootfs" / folder).mkdir()
    shutil.copy("/bin/busybox", top / "rootfs" / "bin" / "sh")
    subprocess.run([executable, "spec", "--bundle", top], check=True, env={"MODULES": str(top / "modules")})
    config = json.loads((top / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/sh", "-c", "exit 0"]}
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["reboot", "kexec_load"], "action": "SCMP_ACT_ERRNO"}],
    }
    (top / "config.json").write_text(json.dumps(config))

    name = f"imports-{os.getpid()}"
    found: dict[str, set[str]] = {}

    def call(words: str) -> None:
        verb = words.split(maxsplit=1)[0]
        command = [str(executable), "--root", str(top / "state"), *words.split()]
        with (top / "stderr").open("w+") as stderr:  # a pipe would stay open in the container
            status = subprocess.call(
                command, env={"MODULES": str(top / "modules")}, cwd=top, timeout=60,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip
            stderr.seek(0)
            assert ("", 0) == (stderr.read(), status), words
        found[verb] = set((top / "modules").read_text().split())

    try:
        for words in ("create ID", "state ID", "list", "exec ID /bin/sh -c true", "kill ID WINCH", "start ID"):
            call(words.replace("ID", name))
    finally:
        call(f"delete --force {name}")
    call(f"run {name}")
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_modules(loaded: dict[str, set[str]], command: str) -> None:
    """A hot command loads the modules that are listed for it, and no others."""
    assert set() == loaded[command] - {*CORE, *ALWAYS, *COMMANDS[command].split()}
