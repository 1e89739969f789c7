"""process.apparmorProfile, process.selinuxLabel and linux.mountLabel (PROC-15, PROC-16, LBL-01).

A kernel has one of the two security modules, or none. Where a module is not enabled, its labels are refused; where it
is, they are what the container has. SELinux needs a policy that knows the labels: tests/vm/selinux.conf does.
"""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.runtime import Bundle, Runtime

pytestmark = pytest.mark.root

APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
SELINUX = Path("/sys/fs/selinux")
ENABLED = {
    "apparmor": APPARMOR.exists() and APPARMOR.read_text() == "Y\n",
    "selinux": SELINUX.joinpath("enforce").exists(),
}
LABEL = "system_u:system_r:container_t:s0:c1,c2"
FILES = "system_u:object_r:container_file_t:s0:c1,c2"
OTHER_FILES = "system_u:object_r:container_file_t:s0:c3"
QUOTED = "system_u:object_r:container_file_t:s0:c1,c3"
UNKNOWN = "system_u:system_r:no_such_t:s0"

with_apparmor = pytest.mark.may_skip("the kernel has no AppArmor, or SELinux instead: tests/vm has a machine for it")
with_selinux = pytest.mark.may_skip("the kernel has no SELinux, or another policy: tests/vm has a machine for it")


def known(label):
    """Whether the loaded policy knows this label."""
    try:
        SELINUX.joinpath("context").write_text(label)
    except OSError:
        return False
    return True


def label_of(path):
    """The SELinux label of a file."""
    return os.getxattr(path, "security.selinux").rstrip(b"\0").decode()


# --- without the module


@pytest.mark.parametrize(
    ("module", "place", "key", "message"),
    [
        ("apparmor", "process", "apparmorProfile", "an AppArmor profile: AppArmor is not enabled on this host"),
        ("selinux", "process", "selinuxLabel", "an SELinux label: SELinux is not enabled on this host"),
        ("selinux", "linux", "mountLabel", "a mount label: SELinux is not enabled on this host"),
    ],
)
def test_a_label_that_nothing_enforces(
    runtime: Runtime, bundle: Bundle, module: str, place: str, key: str, message: str
) -> None:
    """It is an error, never a container without the label (CVE-2019-16884, A-43)."""
    bundle.config[place][key] = "unconfined"
    if ENABLED[module]:
        assert f"{message}\n" not in runtime("create", "--bundle", bundle.folder, runtime.id).err
    else:
        assert f"/{place}/{key}: cannot apply {message}" == runtime.create_fails()


# --- AppArmor

RULES = "file, network, capability, mount, umount, pivot_root, ptrace, signal, unix"


@contextlib.contextmanager
def loaded(name, rules):
    """A profile that is loaded meanwhile."""
    text = f"profile {name} flags=(attach_disconnected, mediate_deleted) {{ {rules}, }}\n".encode()
    parser = ["apparmor_parser", "--quiet", "--skip-cache"]
    subprocess.run([*parser, "--replace"], input=text, check=True)
    yield
    subprocess.run([*parser, "--remove"], input=text, check=True)


@pytest.fixture
def profile(runtime: Runtime):
    """The name of a profile that forbids the file /secret."""
    if not ENABLED["apparmor"] or not shutil.which("apparmor_parser"):
        pytest.skip("needs AppArmor, and apparmor_parser")
    name = f"pyoci-{runtime.host.token}"
    with loaded(name, f"deny /secret rwl, {RULES}"):
        yield name


SHOW = "cat /proc/self/attr/current; cat /public /secret 2>&1; true"
CONFINED = "{} (enforce)\npublic\ncat: can't open '/secret': Permission denied\n"


@pytest.fixture
def files(bundle: Bundle) -> None:
    """Two files, of which the profile forbids one."""
    for name in ("public", "secret"):
        (bundle.rootfs / name).write_text(f"{name}\n")


@with_apparmor
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("user", [0, 1000])
def test_apparmor_profile(
    runtime: Runtime, bundle: Bundle, profile, files: None, no_new_privileges: bool, user: int
) -> None:
    """The program runs confined, with any user and other restrictions."""
    bundle.process["apparmorProfile"] = profile
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.process["user"]["uid"] = user
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    assert CONFINED.format(profile) == runtime.shell(SHOW)


@with_apparmor
def test_apparmor_profile_in_a_user_namespace(runtime: Runtime, bundle: Bundle, profile, files: None) -> None:
    """The profile is the host's, whatever id container root has there."""
    bundle.in_user_namespace()
    bundle.process["apparmorProfile"] = profile
    assert CONFINED.format(profile) == runtime.shell(SHOW)


@with_apparmor
def test_apparmor_profile_without_a_pid_namespace(runtime: Runtime, bundle: Bundle, profile, files: None) -> None:
    """A user namespace can't mount a procfs of the host's processes: create and exec use the one at /proc."""
    bundle.in_user_namespace()
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "pid"]
    bundle.without_mount("/proc").mount("/proc", "none", "rbind", source="/proc")
    bundle.process["apparmorProfile"] = profile
    assert CONFINED.format(profile) == runtime.shell(SHOW)
    bundle.program("sleep", 100)
    runtime.create()
    runtime.start()
    assert (0, CONFINED.format(profile), "") == tuple(runtime("exec", runtime.id, "/bin/sh", "-c", SHOW))


@with_apparmor
def test_apparmor_profile_takes_effect_with_the_program(runtime: Runtime, bundle: Bundle, profile) -> None:
    """Not before: the set-up is the runtime's. Hooks that run in the container after that run under it, too."""
    bundle.process["apparmorProfile"] = profile
    bundle.hook("startContainer", "cat /proc/self/attr/current > /label").program("sleep", 100)
    bundle.config["root"]["readonly"] = False
    runtime.create()
    label = Path(f"/proc/{runtime.pid()}/attr/current")
    before = label.read_text()
    runtime.start()
    assert [Path("/proc/self/attr/current").read_text(), f"{profile} (enforce)\n"] == [before, label.read_text()]
    assert f"{profile} (enforce)\n" == (bundle.rootfs / "label").read_text()


@with_apparmor
def test_apparmor_profile_that_is_not_loaded(runtime: Runtime, bundle: Bundle, profile) -> None:
    """Nothing is left of the container, and the message names the profile."""
    bundle.process["apparmorProfile"] = "no-such-profile"
    expected = (
        "/process/apparmorProfile: cannot apply the AppArmor profile `no-such-profile`: no such profile is loaded"
    )
    assert expected == runtime.create_fails()


@with_apparmor
def test_apparmor_profile_where_the_image_has_a_proc_of_its_own(runtime: Runtime, bundle: Bundle, profile) -> None:
    """CVE-2019-16884: the label is written where the kernel reads it, not to what the image shows as /proc."""
    bundle.without_mount("/proc").program("sleep", 100)
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    for name in ("self", "thread-self", "1"):
        attributes = bundle.rootfs / "proc" / name / "attr/apparmor"
        attributes.mkdir(parents=True)
        (attributes / "exec").write_text("")
        (attributes.parent / "exec").write_text("")
    bundle.process["apparmorProfile"] = profile
    runtime.create()
    runtime.start()
    assert f"{profile} (enforce)\n" == Path(f"/proc/{runtime.pid()}/attr/current").read_text()
    assert {""} == {path.read_text() for path in bundle.rootfs.glob("proc/*/attr/**/exec")}


@with_apparmor
@pytest.mark.parametrize("user_namespace", [False, True])
def test_apparmor_profile_of_exec(runtime: Runtime, bundle: Bundle, profile, files: None, user_namespace: bool) -> None:
    """One more process has the container's profile, or the one that it is given. /proc of a user namespace, of which
    files
    are masked, is the only procfs that may be mounted there."""
    if user_namespace:
        bundle.in_user_namespace()
    bundle.program("sleep", 100)
    bundle.process["apparmorProfile"] = profile
    runtime.create()
    runtime.start()
    shell = ["/bin/sh", "-c", SHOW]
    assert (0, CONFINED.format(profile), "") == tuple(runtime("exec", runtime.id, *shell))
    document = runtime.folder / "process.json"
    document.write_text(json.dumps({"args": shell, "cwd": "/", "user": {"uid": 0, "gid": 0}}))
    assert (0, CONFINED.format(profile), "") == tuple(runtime("exec", "--process", document, runtime.id))
    unknown = runtime("exec", "--apparmor", "no-such-profile", runtime.id, *shell)
    assert (255, "", True) == (unknown.status, unknown.out, "no such profile is loaded" in unknown.err), unknown


@pytest.fixture
def confined(runtime: Runtime):
    """The runtime itself is confined, as in a container of LXC: it may not write below /sys."""
    if not ENABLED["apparmor"] or not shutil.which("apparmor_parser") or not shutil.which("aa-exec"):
        pytest.skip("needs AppArmor, apparmor_parser and aa-exec")
    name = f"pyoci-outer-{runtime.host.token}"
    with loaded(name, f"deny /sys/[^fdck]*{{,/**}} wklx, change_profile -> **, {RULES}"):
        plain = runtime.command
        runtime.command = lambda *words, **kept: ["aa-exec", "-p", name, "--", *plain(*words, **kept)]
        yield name
        runtime.command = plain


@with_apparmor
@pytest.mark.parametrize("user_namespace", [False, True])
def test_apparmor_confines_the_runtime_itself(
    runtime: Runtime, bundle: Bundle, profile, confined, files: None, user_namespace: bool
) -> None:
    """The files of a procfs that is mounted nowhere look like /sys/net/… to AppArmor: a rule for sysfs forbids
    them.
    """
    if user_namespace:
        bundle.in_user_namespace()
    bundle.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "7"}
    bundle.process["apparmorProfile"] = profile
    out = runtime.shell(f"cat /proc/sys/net/ipv4/ip_unprivileged_port_start; {SHOW}")
    assert f"7\n{CONFINED.format(profile)}" == out


# --- SELinux


@pytest.fixture
def enforcing():
    """SELinux enforces its policy, which knows the labels."""
    if not ENABLED["selinux"] or not known(LABEL):
        pytest.skip("needs SELinux with tests/vm/selinux.conf")
    enforce = SELINUX / "enforce"
    before = enforce.read_text()
    enforce.write_text("1")
    yield
    enforce.write_text(before)


@with_selinux
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("user", [0, 1000])
def test_selinux_label(runtime: Runtime, bundle: Bundle, enforcing, no_new_privileges: bool, user: int) -> None:
    """The program has the label, and with it what the policy grants: files of its own categories only."""
    bundle.process["selinuxLabel"] = LABEL
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.process["user"]["uid"] = user
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    for name, label in (("own", FILES), ("other", OTHER_FILES)):
        bundle.mount(f"/{name}", "tmpfs", f"context={label}", "mode=777")
    out = runtime.shell(
        "cat /proc/self/attr/current; echo; for d in own other; do (echo $d >$d/file; cat $d/file) 2>&1; done; true"
    )
    label, *lines = out.split("\n")
    assert LABEL == label.rstrip("\0")
    assert "own" == lines[0]
    assert "Permission denied" in lines[1]


@with_selinux
def test_selinux_label_in_a_user_namespace(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """The label is the host's, whatever id container root has there."""
    bundle.in_user_namespace()
    bundle.process["selinuxLabel"] = LABEL
    assert LABEL == runtime.shell("cat /proc/self/attr/current").rstrip("\0\n")


@with_selinux
def test_selinux_label_of_the_session_keyring(runtime: Runtime, bundle: Bundle, enforcing, probe: Path) -> None:
    """The keyring is the container's to use, so it has its label."""
    shutil.copy(probe, bundle.rootfs / "bin/probe")
    bundle.process["selinuxLabel"] = LABEL
    bundle.program("/bin/probe")
    (keyring,) = [line for line in runtime.run().out.splitlines() if line.startswith("keyring=")]
    assert f"keyring={LABEL}" == keyring


@with_selinux
def test_selinux_label_that_the_policy_does_not_know(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """It is refused in create, and named."""
    bundle.process["selinuxLabel"] = UNKNOWN
    message = runtime.create_fails()
    assert (
        f"/process/selinuxLabel: cannot apply the SELinux label `{UNKNOWN}`: the loaded policy does not know it"
        == message
    )


@with_selinux
def test_selinux_label_under_which_the_program_must_not_start(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """The policy has its say at execve: start tells, and the container is gone."""
    os.setxattr(bundle.rootfs / "bin/busybox", "security.selinux", b"system_u:object_r:sealed_t:s0\0")
    bundle.process["selinuxLabel"] = LABEL
    runtime.create()
    result = runtime("start", runtime.id)
    assert (1, "", True) == (result.status, result.out, 'exec: "/bin/true": permission denied' in result.err), result
    runtime.assert_gone()


@with_selinux
def test_mount_label(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """Every mount that is made for the container has it, but for the kernel's own files; binds are what they were."""
    (bundle.folder / "data").mkdir()
    bundle.mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev").program("sleep", 100)
    bundle.mount("/data", "bind", "bind", source=bundle.folder / "data")
    bundle.mount("/other", "tmpfs", f"context={OTHER_FILES}")
    bundle.mount("/quoted", "tmpfs", f'mode=711,context="{QUOTED}",size=64k')
    bundle.linux["mountLabel"] = FILES
    bundle.linux["maskedPaths"] = ["/sys/firmware", "/proc/fs"]
    runtime.create()
    root = Path(f"/proc/{runtime.pid()}/root")
    names = ["dev", "dev/null", "dev/pts", "dev/pts/ptmx", "dev/shm", "dev/mqueue", "sys/firmware", "proc/fs"]
    assert dict.fromkeys(names, FILES) == {name: label_of(root / name) for name in names}
    assert OTHER_FILES == label_of(root / "other")
    assert QUOTED == label_of(root / "quoted")
    ours = {name: label_of(f"/{name}") for name in ("proc", "sys")}
    assert ours == {name: label_of(root / name) for name in ours}
    assert label_of(bundle.folder / "data") == label_of(root / "data")


@with_selinux
def test_mount_label_in_a_user_namespace(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """There only tmpfs and devpts take labels; the others are mounted without. The devices are on a tmpfs."""
    bundle.mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev").in_user_namespace().program("sleep", 100)
    bundle.linux["mountLabel"] = FILES
    runtime.create()
    root = Path(f"/proc/{runtime.pid()}/root")
    names = ["dev", "dev/null", "dev/pts", "dev/shm"]
    assert dict.fromkeys(names, FILES) == {name: label_of(root / name) for name in names}


@with_selinux
def test_mount_label_that_the_policy_does_not_know(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """It is refused, and the message names the property."""
    bundle.linux["mountLabel"] = UNKNOWN
    message = runtime.create_fails()
    expected = "/linux/mountLabel: cannot mount tmpfs on /dev: the loaded policy does not know the label (hint: "
    assert message.startswith(expected)
    assert UNKNOWN in message


@with_selinux
def test_mount_label_of_devices_that_the_policy_does_not_know(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """In a user namespace their filesystem is the first one to be made."""
    bundle.in_user_namespace()
    bundle.linux["mountLabel"] = UNKNOWN
    why = (
        f"cannot make a tmpfs for devices with the SELinux label `{UNKNOWN}`: the loaded policy does not know the label"
    )
    assert f"/linux/mountLabel: {why}" == runtime.create_fails()


@with_selinux
def test_categories_in_another_order(runtime: Runtime, bundle: Bundle, enforcing) -> None:
    """The kernel writes them in its own way: it is still the same label."""
    bundle.process["selinuxLabel"] = "system_u:system_r:container_t:s0:c2,c1"
    assert LABEL == runtime.shell("cat /proc/self/attr/current").rstrip("\0\n")
