"""What a plan says is what happens: the system calls of `create`, `start`, `exec` and `delete`, seen by python-ptrace.

The child makes exactly the calls that its operations promise, in their order. The runtime changes no mount, namespace,
credential or cgroup but where an operation of its own says so.
"""

import json
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyoci import _native
from pyoci import config as configuration
from pyoci.compiler import create as compiler
from pyoci.compiler import facts as compiler_facts
from pyoci.compiler import show, verbs
from pyoci.compiler.exec import ExecTarget, compile_exec
from pyoci.compiler.seccomp import compile_filter
from pyoci.host import facts
from tests.support.contracts import Contract, Step, difference, promises
from tests.support.rootless import UID, Plain
from tests.support.runtime import Bundle, Host, Runtime, cgroup_mount
from tests.support.tracing import HELPER, Call, Process, Trace, trace

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIGS = {path.stem: path for path in sorted((CHECKOUT / "tests/data/bundles").glob("*.json"))}
CREATE, START, EXEC, DELETE = range(4)  # the commands of a trace, in their order

AS_ROOT, ROOTLESS = "root", "rootless"

# --- what the runtime does beside its plan

MOUNTS = set("""
    chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root umount umount2
""".split())  # fmt: skip
NAMESPACES = set("clone clone3 fork setdomainname sethostname setns unshare vfork".split())
CREDENTIALS = set("""
    capset keyctl seccomp setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid
""".split())  # fmt: skip
PRCTL = {  # the options of prctl(2) that change credentials
    8: "PR_SET_KEEPCAPS", 22: "PR_SET_SECCOMP", 24: "PR_CAPBSET_DROP", 28: "PR_SET_SECUREBITS",
    38: "PR_SET_NO_NEW_PRIVS", 47: "PR_CAP_AMBIENT",
}  # fmt: skip
CHANGES_OF_FILES = set("""
    chmod chown fchmod fchmodat fchown fchownat fremovexattr fsetxattr lsetxattr mkdir mkdirat pwrite64 pwritev rename renameat
    renameat2 rmdir setxattr unlink unlinkat write writev
""".split())  # fmt: skip
# Files of procfs by which a process changes the namespaces and credentials of another one.
OF_PROCESSES = re.compile(r"/proc/(\d+|self)/(uid_map|gid_map|setgroups|timens_offsets|oom_score_adj|attr/.*)$")

CLONE_VFORK = 0x4000

CLONE = Step("the clone of the first child", "clone3")
REMOVE_CGROUP = Step("the removal of the cgroup", "write? unlinkat+")
# What the first child does before its first operation: it keeps its end of the channel and executes the helper. The
# helper blocks all signals, receives its plan, maps it, and ignores SIGPIPE. In its own user namespace, and for a user,
# it also carries its capabilities over.
BEGIN = Step(
    "the start of the child",
    "(capget capset prctl*)? fcntl execveat rt_sigprocmask fcntl (capget capset prctl)? recvmsg+ newfstatat mmap mmap close"
    " rt_sigaction umask",
)


def is_guarded(call: Call) -> bool:
    """Whether a call changes a mount, a namespace, a credential or a cgroup."""
    if call.name in MOUNTS | NAMESPACES | CREDENTIALS or call.name == "bpf":
        return True
    if call.name == "prctl":
        return call.args[0] in PRCTL
    in_cgroup = call.path.startswith(cgroup_mount() + "/")
    return call.name in CHANGES_OF_FILES and (in_cgroup or bool(OF_PROCESSES.match(call.path)))


def is_spawned(process: Process) -> bool:
    """Whether a process was made as posix_spawn(3) makes one, for another program than the child's helper."""
    made_by = process.made_by
    if process.executed and process.executed[0][1].startswith(HELPER):
        return False
    return made_by is not None and (made_by.name == "vfork" or bool(made_by.clone_flags & CLONE_VFORK))


def guarded(process: Process) -> list[Call]:
    """The guarded calls of a runtime, from its first program on."""
    first = next(at for at, path in process.executed if path.endswith("/pyoci"))
    return [call for call in process.calls[first:] if is_guarded(call)]


# --- what a plan promises

VERBS = {verb.verb: verb for verb in (*verbs.CHILD, *verbs.PARENT)}


def step(op: dict[str, str], number: int | None = None) -> Step:
    """What an operation of a printed plan promises."""
    what = " ".join(filter(None, (op["verb"], op["object"], op["where"] and f"({op['where']})")))
    label = f"operation {number} `{what}`" if number is not None else f"the runtime's `{what}`"
    return Step(label, promises(VERBS[op["verb"]]))


def of_runtime(plan: dict[str, Any]) -> list[Step]:
    """What the runtime does by this plan, in order: before the clone, beside the child, and where the child waits."""
    ops = [step(op) for op in plan["before"]]
    held = plan["at"].get("held", [])
    ops += [CLONE, *map(step, held), *map(step, (*plan["opening"], *plan["meanwhile"]))]
    for op in (*plan["bootstrap"], *plan["init"]):
        point = (
            op["object"] if op["verb"] == "sync" else {"clone_init": "init", "open_console": "console"}.get(op["verb"])
        )
        if point:
            ops += map(step, (*plan["at"].get(point, ()), *plan["after"].get(point, ())))
    return ops


def of_child(plan: dict[str, Any]) -> list[Step]:
    """What the first child does by this plan: the bootstrap process, if there is one, or else init."""
    ops = plan["bootstrap"] or plan["init"]
    return [BEGIN, *(step(op, number) for number, op in enumerate(ops))]


def of_second_child(plan: dict[str, Any]) -> list[Step]:
    """What the process does that the bootstrap process clones, from that call on."""
    before = len(plan["bootstrap"]) - 1
    return [step(op, before + number) for number, op in enumerate((plan["bootstrap"][-1], *plan["init"]))]


def compiled(runtime: Runtime, host: compiler_facts.Host) -> Any:
    """The plan of `create` on such a host."""
    config, _ = configuration.load((runtime.bundle.folder / "config.json").read_bytes(), "config.json")
    return compiler.compile_container(config, host, compiler_facts.Options(str(runtime.bundle.folder), runtime.id))


def printed(runtime: Runtime) -> dict[str, Any]:
    """The plan that `pyoci plan --json` prints."""
    result = runtime("plan", "--json", runtime.bundle.folder)
    assert 0 == result.status, result
    document: dict[str, Any] = json.loads(result.out)
    return document


def exec_plan(runtime: Runtime, process: dict[str, Any], host: compiler_facts.Host) -> dict[str, Any]:
    """The plan of `exec` in a container of the bundle."""
    linux = runtime.bundle.linux
    types = [entry["type"] for entry in linux["namespaces"]]
    order = ("user", "ipc", "uts", "network", "pid", "time", "cgroup", "mount")
    program = compile_filter(linux["seccomp"], host.arch) if "seccomp" in linux else None
    target = ExecTarget(
        runtime.id,
        [kind for kind in order if kind in types],
        {},
        program,
        early_filter=program is not None
        and _native.admits_setup(program.program, not process.get("noNewPrivileges"), False),
    )
    document: dict[str, Any] = json.loads(show.as_json(compile_exec(process, target, host)))
    return document


# --- containers


def take_config(bundle: Bundle, name: str, folder: Path, user: str) -> None:
    """Give the bundle an engine's config, without the limits for which this host has no controllers, or no room."""
    state = folder / "engine"
    (state / "shm").mkdir(parents=True)
    for file in ("resolv.conf", "hostname", "hosts", ".containerenv"):
        (state / file).write_text(f"{file} of the engine\n")
    text = CONFIGS[name].read_text().replace("@ROOTFS@", str(bundle.rootfs)).replace("@STATE@", str(state))
    bundle.config = json.loads(text)
    bundle.program("/bin/sleep", "1000")
    bundle.linux.pop("cgroupsPath", None)
    for limit in ("cpu", "pids"):
        bundle.linux["resources"].pop(limit, None)
    if user == ROOTLESS and "sysctl" in bundle.linux:  # the group 2147483647 is not there in a user namespace
        bundle.linux["sysctl"]["net.ipv4.ping_group_range"] = "0 0"
    for limit in bundle.process.get("rlimits", []):
        most = resource.getrlimit(getattr(resource, limit["type"]))[1]
        if most != resource.RLIM_INFINITY:
            limit["hard"] = limit["soft"] = min(limit["hard"], most)


def traced(runtime: Runtime, folder: Path) -> Trace:
    """The four commands under the tracer."""
    runtime.bundle.write()
    return trace(
        runtime.command("create", "--bundle", runtime.bundle.folder, runtime.id),
        runtime.command("start", runtime.id),
        runtime.command("exec", runtime.id, "/bin/true"),
        runtime.command("delete", "--force", runtime.id),
        folder=folder,
    )


class Life:
    """A container's life: its trace, and the plans of its `create` and `exec`."""

    def __init__(self, user: str, runtime: Runtime, folder: Path, create: dict[str, Any], exec: dict[str, Any]) -> None:
        self.user = user
        self.plans = {CREATE: create, EXEC: exec}
        self.trace = traced(runtime, folder)
        errors = [(folder / f"err{number}").read_text() for number in range(4)]
        assert [0, 0, 0, 0] == self.trace.statuses, errors

    def first_child(self, command: int) -> Process:
        """The process that a runtime clones for its plan. Others, such as newuidmap, execute another program."""
        main = self.trace.main(command)
        (child,) = (
            child for child in self.trace.children(command) if child.parent == main.pid and not is_spawned(child)
        )
        return child

    def spawned(self, command: int) -> list[Process]:
        """The other processes that a runtime makes."""
        return [child for child in self.trace.children(command) if is_spawned(child)]

    def second_child(self, command: int) -> Process | None:
        """The process that a bootstrap process clones, with the call that clones it; None without bootstrap process."""
        first = self.first_child(command)
        found = [child for child in self.trace.children(command) if child.parent == first.pid]
        if not found:
            return None
        clone = next(call for call in reversed(first.calls) if call.name == "clone")
        return Process(found[-1].pid, command, first.pid, clone, [clone, *found[-1].calls], found[-1].executed)


@pytest.fixture(scope="module")
def lives() -> dict[tuple[str, str], Life]:
    """Each container lives once for all tests."""
    return {}


@pytest.fixture
def life(
    request: pytest.FixtureRequest,
    lives: dict[tuple[str, str], Life],
    pyoci: str,
    tmp_path: Path,
    bundle: Bundle,
    host_clean: Host,
) -> Iterator[Life]:
    """The life of a container with an engine's config, as root's or as a plain user's."""
    name, user = request.param
    if request.param in lives:
        yield lives[request.param]
        return
    take_config(bundle, name, tmp_path, user)
    host = facts.probe(as_root=True)
    if user == ROOTLESS:
        runtime: Runtime = Plain(pyoci, tmp_path, bundle, host_clean)
        runtime.map_ranges()
        host.uid = host.gid = UID
        host.capabilities = 0
    else:
        runtime = Runtime(pyoci, tmp_path, bundle, host_clean)
    bundle.write()
    try:
        create = printed(runtime) if user == AS_ROOT else json.loads(show.as_json(compiled(runtime, host)))
        process = {**bundle.process, "args": ["/bin/true"]}
        lives[request.param] = Life(user, runtime, tmp_path, create, exec_plan(runtime, process, host))
        yield lives[request.param]
    finally:
        runtime.clean_up()


every_life = pytest.mark.parametrize(
    "life",
    [pytest.param((name, user), id=f"{name}-{user}") for user in (AS_ROOT, ROOTLESS) for name in CONFIGS],
    indirect=True,
)


@every_life
@pytest.mark.parametrize("command", [CREATE, EXEC], ids=["create", "exec"])
def test_runtime_changes_only_what_its_plan_says(life: Life, command: int) -> None:
    """Every guarded call of the runtime is one that an operation of the runtime's promises, in the plan's order."""
    steps = of_runtime(life.plans[command])
    assert "" == difference(guarded(life.trace.main(command)), steps)
    for other in life.spawned(command):
        assert [] == [str(call) for call in other.calls if is_guarded(call)]


@every_life
def test_start_changes_nothing(life: Life) -> None:
    """`start` releases the container's process, and makes no guarded call."""
    assert [] == list(map(str, guarded(life.trace.main(START))))


@every_life
def test_delete_removes_the_cgroup(life: Life) -> None:
    """Beside the cgroup, `delete` changes nothing."""
    has_cgroup = any(call.name == "mkdirat" for call in guarded(life.trace.main(CREATE)))
    assert has_cgroup == (life.user == AS_ROOT)
    assert "" == difference(guarded(life.trace.main(DELETE)), [REMOVE_CGROUP] if has_cgroup else [])


@every_life
@pytest.mark.parametrize("command", [CREATE, EXEC], ids=["create", "exec"])
def test_child_makes_the_calls_of_its_plan(life: Life, command: int) -> None:
    """Each process that enters the container calls exactly what its operations promise, in order."""
    plan = life.plans[command]
    assert "" == difference(life.first_child(command).calls, of_child(plan))
    second = life.second_child(command)
    assert bool(plan["bootstrap"]) == (second is not None)
    if second is not None:
        assert "" == difference(second.calls, of_second_child(plan))


# --- the comparison itself: what it must not let pass


def promised(life: Life, command: int) -> list[tuple[list[Call], list[Step]]]:
    """For each process that enters the container: its calls, and what its operations promise."""
    plan = life.plans[command]
    second = life.second_child(command)
    found = [(life.first_child(command).calls, of_child(plan))]
    return [*found, (second.calls, of_second_child(plan))] if second is not None else found


one_life = pytest.mark.parametrize("life", [pytest.param(("docker-readonly-user", AS_ROOT), id="root")], indirect=True)


@one_life
@pytest.mark.parametrize("command", [CREATE, EXEC], ids=["create", "exec"])
def test_call_of_an_operation_that_the_plan_lacks_is_found(life: Life, command: int) -> None:
    """Without any one of its operations, the plan does not explain the calls any more, and the message says where."""
    for calls, steps in promised(life, command):
        for number, missing in enumerate(steps):
            if difference([], [missing]):  # one that promises nothing may be missing
                said = difference(calls, [*steps[:number], *steps[number + 1 :]])
                assert said, f"the plan is enough without {missing.label}"


@one_life
@pytest.mark.parametrize("command", [CREATE, EXEC], ids=["create", "exec"])
@pytest.mark.parametrize("name", ["mount", "setns", "unshare", "setresuid", "execve"])
def test_call_that_no_operation_promises_is_found(life: Life, command: int, name: str) -> None:
    """Wherever it comes between the others."""
    extra = Call(name, [0] * 6)
    for calls, steps in promised(life, command):
        contract = Contract(steps)
        for number, names in enumerate(contract.promised_before(calls)):
            if name in names:  # the call is found out by what follows
                assert contract.difference([*calls[:number], extra, *calls[number:]]), number


@one_life
def test_change_by_the_runtime_that_its_plan_lacks_is_found(life: Life) -> None:
    """As if `create` mounted, entered a namespace, took an id or removed a cgroup, at any time."""
    calls, steps = guarded(life.trace.main(CREATE)), of_runtime(life.plans[CREATE])
    removal = Call("unlinkat", [3, 0, 0], path=f"{cgroup_mount()}/x")
    for extra in (Call("mount", []), Call("setns", []), Call("setuid", []), Call("prctl", [28, 0]), removal):
        assert is_guarded(extra)
        for number in range(len(calls) + 1):
            assert difference([*calls[:number], extra, *calls[number:]], steps)
    assert is_guarded(Call("write", [1, 0, 0], path=f"{cgroup_mount()}/x/cgroup.procs"))
    assert is_guarded(Call("write", [1, 0, 0], path="/proc/12/uid_map"))
    assert not is_guarded(Call("prctl", [15, 0]))  # PR_SET_NAME
    assert not is_guarded(Call("write", [1, 0, 0], path="/tmp/log.json"))
