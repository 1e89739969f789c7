"""The configs and processes of tests/plans, and what they compile to."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyoci import config
from pyoci.compiler import create, facts, operations, seccomp
from pyoci.compiler.exec import ExecTarget, compile_exec
from pyoci.compiler.restore import RestorePlan, compile_restore
from pyoci.request import CriuOptions

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


RESTORE = PLANS / "restore"
RESTORE_NAMES = sorted(path.stem for path in RESTORE.glob("*.json"))
CRIU = "/usr/sbin/criu"


def image_of(mounts: list[dict[str, Any]], *, sub_cgroups: bool = False) -> SimpleNamespace:
    """What a checkpoint has: mounts, each with the mount point of the one that it lies on, "" for the root."""
    numbers = {mount["point"]: number for number, mount in enumerate(mounts, 2)}
    found = [
        SimpleNamespace(**mount, shared=0, master=0, id=number, parent=numbers.get(mount["above"], 1))
        for number, mount in enumerate(mounts, 2)
    ]
    keys = list(dict.fromkeys(mount.key for mount in found if mount.key))
    return SimpleNamespace(
        mounts={9: found}, init_mounts=found, external_keys=lambda: keys, has_sub_cgroups=sub_cgroups
    )


def compiled_restore(name: str) -> RestorePlan:
    """The plan of tests/plans/restore/NAME.json: a config, the mounts of a checkpoint, and options."""
    document = json.loads((RESTORE / f"{name}.json").read_bytes())
    manager = document.get("cgroupManager", "cgroupfs")
    loaded, _ = config.load(json.dumps(document["config"]).encode())
    request = SimpleNamespace(options=CriuOptions(**document.get("options", {})), image_path="/images")
    image = image_of(document["mounts"], sub_cgroups=document.get("subCgroups", False))
    options = facts.Options("/bundle", "box", cgroup_manager=manager)
    return compile_restore(loaded, HOST, options, image, request, CRIU, places=document.get("places"))
