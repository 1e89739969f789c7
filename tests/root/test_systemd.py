"""The systemd driver, with a real systemd: tests/vm runs this where one is the first process."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pyoci.cgroups import units
from pyoci.cgroups.resources import Write
from tests.support.runtime import Bundle, Host, Runtime, wait_for

HERE = os.path.exists("/run/systemd/system") and os.access("/run/dbus/system_bus_socket", os.W_OK)
pytestmark = [
    pytest.mark.root,
    pytest.mark.may_skip("needs systemd as the first process: tests/vm runs it in such machines"),
    pytest.mark.skipif(not HERE, reason="needs a machine whose first process is systemd"),
]
MIB = 1 << 20
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split() if HERE else []


def needs(*names: Any):
    reason = f"needs {' '.join(names)} in cgroup v2"
    return pytest.mark.skipif(not set(names) <= set(CONTROLLERS), reason=reason)


class Systemd(Runtime):
    """Create, run and restore get --systemd-cgroup, other commands don't: as engines do it."""

    def command(self, *words: object, log: object = None) -> list[str]:
        driver = ["--systemd-cgroup"] if words[0] in ("create", "run", "restore") else []
        program, *rest = super().command(*words, log=log)
        return [program, *driver, *rest]

    def assert_gone(self, id="") -> None:
        super().assert_gone(id)
        assert {} == show(f"docker-{id or self.id}.scope")


@pytest.fixture
def runtime(pyoci: str, tmp_path: Path, bundle: Bundle, host_clean: Host):
    made = Systemd(pyoci, tmp_path, bundle, host_clean)
    bundle.linux["cgroupsPath"] = f"system.slice:docker:{made.id}"
    yield made
    made.clean_up()
    left = ("list-units", "--all", "--plain", "--no-legend", f"*{host_clean.token}*")
    wait_for(lambda: "" == systemctl(*left), "units are left")  # systemd forgets them when it has nothing else to do


def systemctl(*words: Any):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout


def show(unit):
    """The properties of a unit; {} if there is no such."""
    properties = dict(line.partition("=")[::2] for line in systemctl("show", unit).splitlines())
    return {} if properties["LoadState"] == "not-found" else properties


def running(runtime, bundle, script="exec sleep 100") -> None:
    bundle.shell(script)
    runtime.create()
    runtime.start()


def cgroup(runtime):
    record = runtime.record()["cgroup"]
    return Path(record["mount"] + record["path"])


def scope(runtime):
    return f"docker-{runtime.id}.scope"


# --- a life


def test_a_life(runtime: Runtime, bundle: Bundle) -> None:
    """Its first process is in the scope when create returns; the later commands need no --systemd-cgroup."""
    bundle.shell("cat /proc/self/cgroup; exec sleep 100")
    runtime.create()

    unit = show(scope(runtime))
    path = f"/system.slice/{scope(runtime)}"
    assert path in Path(f"/proc/{runtime.pid()}/cgroup").read_text()
    assert ("active", "system.slice", path, "yes", "no") == tuple(
        unit[name] for name in ("ActiveState", "Slice", "ControlGroup", "Delegate", "DefaultDependencies")
    )
    assert f"container {runtime.id}" == unit["Description"]
    assert ["yes"] * 4 == [unit[f"{kind}Accounting"] for kind in ("CPU", "Memory", "IO", "Tasks")]

    runtime.start()
    wait_for(runtime.output)
    assert "0::/" in runtime.output().splitlines()
    assert ("running", scope(runtime)) == tuple(runtime.state()[name] for name in ("status", "systemd-scope"))
    for verb, status in (("pause", "paused"), ("resume", "running")):
        assert (0, "", "") == tuple(runtime(verb, runtime.id))
        assert status == runtime.state()["status"]
    assert [runtime.pid()] == json.loads(runtime("ps", "--format", "json", runtime.id).out)
    inside = runtime("exec", runtime.id, "/bin/sh", "-c", "cat /proc/self/cgroup")
    assert "0::/" in inside.out.splitlines()
    assert (0, "", "") == tuple(runtime("kill", runtime.id, "KILL"))
    runtime.wait("stopped")
    runtime.delete()
    runtime.assert_gone()


def test_a_program_that_ends_takes_its_scope_along(runtime: Runtime, bundle: Bundle) -> None:
    """`run` in the foreground, again and again with one name."""
    for _ in range(5):
        assert "hello\n" == runtime.shell("echo hello")
        runtime.assert_gone()


def test_the_cgroup_mount_shows_the_scope_alone(runtime: Runtime, bundle: Bundle) -> None:
    """The cgroup namespace is rooted in the final cgroup."""
    out = runtime.shell("grep ' /sys/fs/cgroup ' /proc/self/mountinfo; cat /sys/fs/cgroup/cgroup.procs")

    mount, *pids = out.splitlines()
    assert "/" == mount.split()[3]
    assert "1" in pids


def test_without_a_path(runtime: Runtime, bundle: Bundle) -> None:
    """A scope in system.slice, named after the runtime and the container."""
    del bundle.linux["cgroupsPath"]
    running(runtime, bundle)

    assert f"/system.slice/pyoci-{runtime.id}.scope" == runtime.record()["cgroup"]["path"]
    assert "active" == show(f"pyoci-{runtime.id}.scope")["ActiveState"]


def test_a_slice_in_a_slice(runtime: Runtime, bundle: Bundle) -> None:
    """As Kubernetes nests pods: dashes are levels."""
    top = f"t{runtime.host.token[1:]}"
    bundle.linux["cgroupsPath"] = f"{top}-pod1.slice:cri-containerd:{runtime.id}"
    running(runtime, bundle)

    assert f"/{top}.slice/{top}-pod1.slice/cri-containerd-{runtime.id}.scope" == runtime.record()["cgroup"]["path"]
    runtime.delete("--force")
    systemctl("stop", f"{top}.slice")


def test_a_name_that_is_a_slice(runtime: Runtime, bundle: Bundle) -> None:
    """The unit is the slice itself; the process is moved in."""
    top = f"t{runtime.host.token[1:]}"
    bundle.linux["cgroupsPath"] = f"system.slice:docker:{top}.slice"
    running(runtime, bundle)

    assert f"/{top}.slice" == runtime.record()["cgroup"]["path"]
    assert f"0::/{top}.slice" in Path(f"/proc/{runtime.pid()}/cgroup").read_text().splitlines()
    runtime.delete("--force")
    assert {} == show(f"{top}.slice") or "inactive" == show(f"{top}.slice")["ActiveState"]


@pytest.mark.parametrize(
    "kind",
    [
        "user",
        "pid",
        pytest.param(
            "time",
            marks=[
                pytest.mark.may_skip("user-mode Linux has no time namespaces"),
                pytest.mark.skipif(
                    not os.path.lexists("/proc/self/ns/time"), reason="this kernel has no time namespaces"
                ),
            ],
        ),
    ],
)
def test_with_a_bootstrap_process_and_user_namespaces(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """However the first process comes about, it ends up in the scope."""
    if kind == "user":
        bundle.in_user_namespace()
    elif kind == "pid":
        bundle.namespace("pid", "/proc/self/ns/pid")
    else:
        bundle.namespace("time")
        bundle.linux["timeOffsets"] = {"monotonic": {"secs": 5}}
    running(runtime, bundle)

    assert f"0::/system.slice/{scope(runtime)}" in Path(f"/proc/{runtime.pid()}/cgroup").read_text().splitlines()
    runtime.delete("--force")
    runtime.assert_gone()


def test_hooks_see_the_final_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    """createRuntime hooks come when the process is where it will stay."""
    out = runtime.folder / "seen"
    script = f"""pid=$(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/'); cat /proc/$pid/cgroup >{out}"""
    bundle.hook("createRuntime", script)
    running(runtime, bundle)

    assert f"0::/system.slice/{scope(runtime)}" in out.read_text().splitlines()


# --- a user's own


USER, GROUP = 5, 60  # games, of every Debian


@pytest.fixture
def session(runtime: Runtime, host_clean: Host):
    """How to run as a user whose systemd runs, from outside of what is delegated to it; `runtime` is the user's
    then.
    """
    folder = Path(f"/run/session-{host_clean.token}")
    folder.mkdir(mode=0o700)
    runtime.executable = shutil.copy(runtime.executable, folder / "pyoci")
    runtime.root, runtime.log = folder / "state", folder / "log.json"
    os.chown(folder, USER, GROUP)
    unit = f"session-{host_clean.token}.service"
    options = [
        f"--unit={unit}",
        "--quiet",
        f"--uid={USER}",
        "--service-type=notify",
        f"--setenv=XDG_RUNTIME_DIR={folder}",
    ]
    options += [
        "--property=Delegate=yes",
        "--property=KillMode=mixed",
        "--property=DefaultDependencies=no",
        f"--setenv=HOME={folder}",
    ]
    manager = ["/lib/systemd/systemd", "--user", "--unit=basic.target"]
    subprocess.run(["systemd-run", *options, *manager], check=True)
    wait_for((folder / "bus").exists, "no bus")
    yield {"env": {"XDG_RUNTIME_DIR": str(folder)}, "user": USER, "group": GROUP, "extra_groups": []}
    runtime.clean_up()
    systemctl("stop", unit)
    wait_for(lambda: not show(unit))
    shutil.rmtree(folder)


def test_a_users_container_is_a_unit_of_the_users_systemd(runtime: Runtime, session, bundle: Bundle) -> None:
    """A whole life, with no more of the environment than engines leave."""
    bundle.in_user_namespace(USER, 1)
    bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": GROUP, "size": 1}]
    bundle.linux["cgroupsPath"] = f"user.slice:libpod:{runtime.id}"
    bundle.shell("exec sleep 100")
    name = f"libpod-{runtime.id}.scope"

    runtime.create(**session)

    assert f"/user.slice/{name}" in Path(f"/proc/{runtime.record()['pid']}/cgroup").read_text()
    assert USER == cgroup(runtime).stat().st_uid
    for verb in ("start", "pause", "resume"):
        assert (0, "", "") == tuple(runtime(verb, runtime.id, **session))
    inside = runtime("exec", runtime.id, "/bin/sh", "-c", "cat /proc/self/cgroup", **session)
    assert (0, "") == (inside.status, inside.err)
    assert "0::/" in inside.out.splitlines()
    path = cgroup(runtime)
    below = path / "below"
    below.mkdir()
    for each in (below, below / "cgroup.procs"):
        os.chown(each, USER, GROUP)
    inside = runtime("exec", "--cgroup", "below", runtime.id, "/bin/sh", "-c", "cat /proc/self/cgroup", **session)
    assert (0, "") == (inside.status, inside.err)
    assert "0::/below" in inside.out.splitlines()
    assert (0, "", "") == tuple(runtime("delete", "--force", runtime.id, **session))
    assert not path.exists()


# --- limits


@needs("memory", "cpu", "pids")
def test_limits_are_properties_and_files(runtime: Runtime, bundle: Bundle) -> None:
    """What the config limits is in both, and a reload of systemd leaves it."""
    bundle.linux["resources"] |= {
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB, "reservation": 32 * MIB},
        "cpu": {"shares": 512, "quota": 33333, "period": 100000},
        "pids": {"limit": 50},
    }
    running(runtime, bundle)

    def check() -> None:
        unit = show(scope(runtime))
        assert [str(64 * MIB), "0", str(32 * MIB)] == [unit[f"Memory{name}"] for name in ("Max", "SwapMax", "Low")]
        assert ("59", "340ms", "50") == (unit["CPUWeight"], unit["CPUQuotaPerSecUSec"], unit["TasksMax"])
        files = {"memory.max": str(64 * MIB), "memory.low": str(32 * MIB), "cpu.weight": "59", "pids.max": "50"}
        files["cpu.max"] = "34000 100000"
        assert files == {name: (cgroup(runtime) / name).read_text().strip() for name in files}

    check()
    systemctl("daemon-reload")
    check()


def test_exec_after_the_first_process_has_moved_and_the_scope_is_gone(runtime: Runtime, bundle: Bundle) -> None:
    """It goes where that process is."""
    running(runtime, bundle, "while :; do sleep 0.05; done")
    first, beside = cgroup(runtime), Path("/sys/fs/cgroup", f"{runtime.host.token}-beside")
    beside.mkdir()
    try:
        while pids := (first / "cgroup.procs").read_text().split() if first.exists() else []:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    (beside / "cgroup.procs").write_text(pid)
        wait_for(lambda: not first.exists())
        result = runtime("exec", runtime.id, "cat", "/proc/self/cgroup")
        assert (0, beside.name) == (result.status, result.out.splitlines()[-1].rpartition("/")[2])
    finally:
        runtime.delete("--force")
        wait_for(lambda: "populated 0" in (beside / "cgroup.events").read_text())
        beside.rmdir()


@needs("memory", "cpu", "pids")
def test_update_sets_properties_and_files(runtime: Runtime, bundle: Bundle) -> None:
    """A quota alone keeps the period, as everywhere; a reload leaves it."""
    bundle.linux["resources"] |= {"cpu": {"quota": 20000, "period": 50000}}
    running(runtime, bundle)

    words = ["--memory", str(80 * MIB), "--cpu-quota", "30001", "--pids-limit", "20"]
    assert (0, "", "") == tuple(runtime("update", *words, runtime.id))

    systemctl("daemon-reload")
    unit = show(scope(runtime))
    assert (str(80 * MIB), "610ms", "20") == (unit["MemoryMax"], unit["CPUQuotaPerSecUSec"], unit["TasksMax"])
    assert "30500 50000" == (cgroup(runtime) / "cpu.max").read_text().strip()
    assert str(80 * MIB) == (cgroup(runtime) / "memory.max").read_text().strip()
    assert "20" == (cgroup(runtime) / "pids.max").read_text().strip()


@needs("memory")
@pytest.mark.parametrize("value", ["0", "1"])
def test_update_as_the_kubelet_sends_it(runtime: Runtime, bundle: Bundle, value: str) -> None:
    """A resize in place carries memory.oom.group, for which a running scope has no property: the file has it."""
    running(runtime, bundle)
    before = show(scope(runtime))
    limits = {"memory": {"limit": 80 * MIB}, "unified": {"memory.oom.group": value}}
    (runtime.folder / "limits").write_text(json.dumps(limits))

    assert (0, "", "") == tuple(runtime("update", "--resources", runtime.folder / "limits", runtime.id))

    unit = show(scope(runtime))
    assert (str(80 * MIB), before["OOMPolicy"]) == (unit["MemoryMax"], unit["OOMPolicy"])
    assert value == (cgroup(runtime) / "memory.oom.group").read_text().strip()


@needs("memory")
def test_a_slice_has_no_policy_for_lack_of_memory(runtime: Runtime, bundle: Bundle) -> None:
    """The file alone says it."""
    bundle.linux["cgroupsPath"] = f"system.slice:docker:t{runtime.host.token[1:]}.slice"
    bundle.linux["resources"]["unified"] = {"memory.oom.group": "1"}
    running(runtime, bundle)
    assert "1" == (cgroup(runtime) / "memory.oom.group").read_text().strip()
    runtime.delete("--force")


# A write to each file that has a property.
TOLD = {
    **dict.fromkeys(("memory.max", "memory.high", "memory.swap.max"), "99999744"),
    **dict.fromkeys(("memory.low", "memory.min", "memory.zswap.max"), "4096"),
    **dict.fromkeys(("cpu.weight", "io.weight"), "50"),
    **dict.fromkeys(("cpuset.cpus", "cpuset.mems"), "0"),
    "memory.oom.group": "1",
    "cpu.idle": "1",
    "cpu.max": "50000 100000",
    "pids.max": "99",
}


def test_what_a_running_scope_changes(runtime: Runtime, bundle: Bundle) -> None:
    """systemd changes every property that update sets, and refuses those that only a new unit takes."""
    running(runtime, bundle)
    version = int(re.match(r"systemd (\d+)", systemctl("--version"))[1])
    assert set(TOLD) == set(units._PROPERTIES)
    writes = [Write(file, value, "") for file, value in TOLD.items()]
    told = [each for each in units.properties(writes) if each.since <= version]
    fixed = {each.name for each in told if not is_changed(scope(runtime), each)}
    assert fixed == units.AT_CREATION & {each.name for each in told}


def is_changed(unit, each):
    """Whether systemd takes a property for a unit that is there."""
    value = each.value.value
    words = [str(len(value)), *map(str, value)] if isinstance(value, bytes) else [str(value)]
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    call = [*manager, "SetUnitProperties", "sba(sv)", unit, "true", "1", each.name, each.value.signature, *words]
    done = subprocess.run(["busctl", "call", *call], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or f"Cannot set property {each.name}, or unknown property" in done.stderr, done
    return done.returncode == 0


@needs("pids")
def test_a_limit_of_processes_does_not_hinder_hooks(runtime: Runtime, bundle: Bundle) -> None:
    """createContainer hooks fork in the cgroup before the limit holds."""
    bundle.linux["resources"]["pids"] = {"limit": 1}
    bundle.hook("createContainer", "(:); (:)")
    running(runtime, bundle)

    assert "1" == show(scope(runtime))["TasksMax"]
    assert "1" == (cgroup(runtime) / "pids.max").read_text().strip()


def test_devices_stay_filtered_after_a_reload(runtime: Runtime, bundle: Bundle) -> None:
    """The program is ours alone: systemd has no policy to replace it by."""
    bundle.linux["resources"]["devices"] = [{"allow": False, "access": "rwm"}]
    script = "mknod /dev/disk b 254 0; while :; do head -c1 /dev/disk >/new 2>&1; mv /new /seen; sleep 0.1; done"
    running(runtime, bundle, script)
    seen = bundle.rootfs / "seen"

    def is_refused():
        return seen.exists() and "not permitted" in seen.read_text()

    wait_for(is_refused)
    systemctl("daemon-reload")
    seen.unlink()
    wait_for(is_refused)
    assert "auto" == show(scope(runtime))["DevicePolicy"]


def test_annotations_are_properties(runtime: Runtime, bundle: Bundle) -> None:
    """As CRI-O and Podman send them."""
    bundle.config["annotations"] = {
        "org.systemd.property.TimeoutStopUSec": "uint64 10000000",
        "org.systemd.property.RuntimeMaxSec": "1000.5",
        "org.systemd.property.After": "['crio.service']",
        "org.systemd.property.DefaultDependencies": "true",
        "org.systemd.property.KillSignal": "15",
        "org.systemd.property.MemoryHigh": "uint64 100003840",
        "org.systemd.propertyx": "false",
    }
    running(runtime, bundle)

    unit = show(scope(runtime))
    assert ("10s", "16min 40.500000s", "yes", "15", "100003840") == tuple(
        unit[name] for name in ("TimeoutStopUSec", "RuntimeMaxUSec", "DefaultDependencies", "KillSignal", "MemoryHigh")
    )
    assert "crio.service" in unit["After"].split()


@needs("memory", "pids", "cpu")
def test_limits_of_the_config_come_before_annotations(runtime: Runtime, bundle: Bundle) -> None:
    """What the unit has is what config.json says."""
    bundle.linux["resources"] = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}, "cpu": {"shares": 512}}
    bundle.config["annotations"] = {
        f"org.systemd.property.{name}": text
        for name, text in {"MemoryMax": "uint64 1", "TasksMax": "uint64 9999", "CPUWeight": "uint64 99"}.items()
    }
    running(runtime, bundle)
    shares = (cgroup(runtime) / "cpu.weight").read_text().strip()

    limits = {"MemoryMax": str(64 * MIB), "TasksMax": "50", "CPUWeight": shares}
    assert limits == {name: show(scope(runtime))[name] for name in limits}
    assert "99" != shares


def test_annotations_do_not_reach_other_units(runtime: Runtime, bundle: Bundle) -> None:
    """Each is ignored with a warning, and shown in the plan: an image may bring them."""
    asked = {
        "CPUWeight": "uint64 10000",
        "IOWeight": "uint64 10000",
        "Wants": "['rescue.target']",
        "BindsTo": "['dbus.service']",
        "PartOf": "['dbus.service']",
        "Conflicts": "['dbus.service']",
        "Before": "['shutdown.target']",
        "After": "['shutdown.target']",
        "OnFailure": "['reboot.target']",
        "KillMode": "'none'",
        "SendSIGKILL": "false",
        "Slice": "'init.scope'",
        "ExecStartPre": "'/bin/true'",
        "NoSuchThing": "no value",
    }
    bundle.config["annotations"] = {f"org.systemd.property.{name}": text for name, text in asked.items()}
    log = runtime.folder / "warnings"
    bundle.shell("exec sleep 1000").write()
    logged = ("--log", log, "--log-format", "json", "--log-level", "warning")
    runtime.detached("--systemd-cgroup", *logged, "create", "--bundle", bundle.folder, runtime.id)

    unit = show(scope(runtime))
    plain = {"CPUWeight": "[not set]", "IOWeight": "[not set]", "KillMode": "control-group", "SendSIGKILL": "yes"}
    plain |= {"Slice": "system.slice", "Wants": "", "BindsTo": "", "PartOf": "", "OnFailure": "", "Conflicts": ""}
    assert plain == {name: unit.get(name, "") for name in plain}
    assert not {"shutdown.target", "dbus.service"} & {*unit.get("Before", "").split(), *unit.get("After", "").split()}
    pointers = [f"/annotations/org.systemd.property.{name}" for name in asked]
    assert pointers == [json.loads(line)["msg"].partition(": ignored ")[0] for line in log.read_text().splitlines()]
    plan = json.loads(runtime("--systemd-cgroup", "plan", "--json", bundle.folder).out)
    assert pointers == [entry["where"] for entry in plan["ignored"]]


# --- errors


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/docker/x", "the systemd driver expects SLICE:PREFIX:NAME"),
        ("a:b", "the systemd driver expects SLICE:PREFIX:NAME"),
        ("a.slice:b:c:d", "the systemd driver expects SLICE:PREFIX:NAME"),
        ("a:b:c", "a is not the name of a slice"),
        ("a/b.slice:b:c", "a/b.slice is not the name of a slice"),
        ("a--b.slice:b:c", "a--b.slice is not the name of a slice"),
        ("system.slice:docker:", "it has no name"),
        ("system.slice:docker:../x", "docker-../x.scope is not the name of a unit"),
    ],
)
def test_invalid_paths_are_rejected(runtime: Runtime, bundle: Bundle, path: str, why: str) -> None:
    bundle.linux["cgroupsPath"] = path

    assert f"/linux/cgroupsPath: cannot use cgroup path {path!r}: {why}" == runtime.create_fails()


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("KillSignal", "15 16", "cannot set property KillSignal to `15 16`: unexpected `16` after the value"),
        ("TimeoutStopSec", "'x'", "cannot set property TimeoutStopSec to `'x'`: it is not a number of seconds"),
        ("CollectMode", "'x'", "cannot start unit UNIT: Invalid CollectMode setting: x"),
    ],
)
def test_invalid_properties_are_rejected(runtime: Runtime, bundle: Bundle, name: str, text: str, why: str) -> None:
    """The annotation is named."""
    bundle.config["annotations"] = {f"org.systemd.property.{name}": text}

    message = runtime.create_fails()

    assert f"/annotations/org.systemd.property.{name}: {why.replace('UNIT', scope(runtime))}" == message


def test_an_annotation_moves_no_process_into_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """Where a create that fails would kill them."""
    other = subprocess.Popen(["sleep", "100"])
    before = Path(f"/proc/{other.pid}/cgroup").read_text()
    try:
        bundle.config["annotations"] = {"org.systemd.property.PIDs": f"[uint32 {other.pid}]"}
        bundle.write()

        runtime.create()
        runtime.delete("--force")

        assert before == Path(f"/proc/{other.pid}/cgroup").read_text()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_failed_unit_of_the_name_is_forgotten(runtime: Runtime, bundle: Bundle) -> None:
    """It stays known to systemd until it is reset."""
    subprocess.run(
        ["systemd-run", "--scope", "--quiet", f"--unit={scope(runtime)}", "-p", "RuntimeMaxSec=1", "sleep", "30"],
        check=False,
    )
    wait_for(lambda: show(scope(runtime)).get("ActiveState") == "failed")

    running(runtime, bundle)

    assert "active" == show(scope(runtime))["ActiveState"]


def test_a_unit_that_is_in_use_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    """It belongs to another owner: nothing of it is stopped or removed."""
    other = subprocess.Popen(["systemd-run", "--scope", "--quiet", f"--unit={scope(runtime)}", "sleep", "100"])
    try:
        wait_for(lambda: show(scope(runtime)).get("ActiveState") == "active")
        bundle.write()

        message = runtime.fails("create", "--bundle", bundle.folder, runtime.id)

        assert re.search(
            f"cannot start unit {scope(runtime)}: Unit {scope(runtime)} (already exists|was already)", message
        )
        assert other.poll() is None
        assert "active" == show(scope(runtime))["ActiveState"]
    finally:
        other.kill()
        other.wait()
        wait_for(lambda: not show(scope(runtime)))


def test_a_unit_that_is_stopped_by_hand(runtime: Runtime, bundle: Bundle) -> None:
    """`systemctl stop` ends the container, which can be deleted then."""
    running(runtime, bundle, "trap 'exit 0' TERM; sleep 100 & wait")

    systemctl("stop", scope(runtime))

    runtime.wait("stopped")
    runtime.delete()
    runtime.assert_gone()


def test_a_paused_container_is_deleted_by_force(runtime: Runtime, bundle: Bundle) -> None:
    running(runtime, bundle)
    assert (0, "", "") == tuple(runtime("pause", runtime.id))

    runtime.delete("--force")

    runtime.assert_gone()


def test_create_fails_late(runtime: Runtime, bundle: Bundle) -> None:
    """The scope is gone with everything else."""
    bundle.program("/bin/nothing-of-the-kind")

    assert "no such file or directory" in runtime.create_fails()


def test_end_of_the_first_process_is_reported(runtime: Runtime, bundle: Bundle) -> None:
    """Not that its scope has ended with it, while the limits were written: by a runtime that is slow here."""
    bundle.mount("/bin/sh", "bind", "rbind", source=bundle.folder)
    bundle.linux["resources"]["unified"] = {"cgroup.max.depth": "9"}
    bundle.write()
    slowly = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=write", "-e", "inject=write:delay_exit=200000"]
    command = runtime.command("create", "--bundle", bundle.folder, runtime.id)

    done = subprocess.run([*slowly, *command], capture_output=True, text=True, check=False)

    assert (1, "/mounts/") == (done.returncode, done.stderr[:8])
    assert "ot a directory" in done.stderr
    runtime.assert_gone()


def test_create_is_killed_at_any_time(runtime: Runtime, bundle: Bundle) -> None:
    """`delete --force` removes what is there, and systemd removes what has no process."""
    bundle.write()
    for _ in runtime.creates_killed():
        runtime.delete("--force")
        wait_for(lambda: not show(scope(runtime)), "the scope stays")
        wait_for(lambda: not runtime.host.cgroups(runtime.id), "the cgroup stays")


def test_many_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """Thirty containers, in ten threads."""
    bundle.shell("exit 7")
    folders = []
    for number in range(30):
        folder = runtime.folder / f"many-{number}"
        folder.mkdir()
        config = {
            **bundle.config,
            "linux": {**bundle.linux, "cgroupsPath": f"system.slice:docker:{runtime.id}-{number}"},
        }
        config["root"] = {"path": str(bundle.rootfs)}
        (folder / "config.json").write_text(json.dumps(config))
        folders.append(folder)
    found = {}

    def work(first) -> None:
        for number in range(first, 30, 10):
            found[number] = runtime("run", "--bundle", folders[number], f"{runtime.id}-{number}", timeout=120)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {7} == {result.status for result in found.values()}, found
    assert {""} == {result.err for result in found.values()}


def test_a_systemd_that_is_busy_is_waited_for(runtime: Runtime, bundle: Bundle) -> None:
    """A stopped bus goes on after two seconds: so does create."""
    bus = int(show("dbus.service")["MainPID"])
    assert bus > 0  # 0 would be this process' own group
    bundle.shell("exec sleep 100")
    os.kill(bus, signal.SIGSTOP)
    timer = threading.Timer(2, os.kill, (bus, signal.SIGCONT))
    timer.start()
    try:
        runtime.create()
    finally:
        timer.join()
        with contextlib.suppress(ProcessLookupError):
            os.kill(bus, signal.SIGCONT)
    assert "created" == runtime.state()["status"]
