"""The configs and processes of tests/plans, and what they compile to."""

from pathlib import Path

from pyoci import config
from pyoci.compiler import create, facts, operations, seccomp
from pyoci.compiler.exec import ExecTarget, compile_exec

PLANS = Path(__file__).resolve().parent.parent / "plans"
NAMES = sorted(path.stem for path in PLANS.glob("*.json"))

EXEC = PLANS / "exec"
HOST = facts.Host("x86_64", "/sys/fs/cgroup", apparmor=True, selinux=True, kernel_mounts="/proc/25/ns/mnt")
PLAIN_USER = facts.Host("x86_64", "/sys/fs/cgroup", capabilities=0, uid=1000, gid=1000)
EXEC_NAMES = sorted(path.stem for path in EXEC.glob("*.json"))


def compiled_exec(name: str) -> operations.Plan:
    """The plan of tests/plans/exec/NAME.json, a process.json, in a container with a filter that allows all."""
    process, _ = config.load_process((EXEC / f"{name}.json").read_bytes())
    filter_ = seccomp.compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, "x86_64")
    container = ExecTarget(
        "box",
        ["user", "network", "pid", "mount"] if name == "user" else ["network", "pid", "mount"],
        {"personality": {"domain": "LINUX32"}},
        seccomp.Filter(filter_.flags, program=filter_.program),  # as the container's state has it
    )
    return compile_exec(process, container, facts.Host("x86_64", "/sys/fs/cgroup", apparmor=True, selinux=True))


def compiled(name: str, **options: object) -> operations.Plan:
    """The plan of tests/plans/NAME.json on a host with everything, for the bundle /bundle; `systemd.json` is for the
    manager of its name, `sd-notify.json` for a service manager that listens."""
    if name == "systemd":
        options.setdefault("cgroup_manager", "systemd")
    if name == "sd-notify":
        options.setdefault("notify", "/run/pyoci/box/notify/notify.sock")
    document, _ = config.load((PLANS / f"{name}.json").read_bytes())
    return create.compile_container(
        document,
        PLAIN_USER if name == "rootless" else HOST,
        facts.Options("/bundle", "box", **options),
    )
