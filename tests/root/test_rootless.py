"""Without power over the host: as a plain user, and as root of an engine's user namespace."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.test_console import ConsoleSocket
from tests.support.rootless import FIRST, UID, Inside, Plain
from tests.support.runtime import Bundle, Host, cgroup_mount, mount_points, parse_status, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def plain(pyoci: str, tmp_path: Path, bundle: Bundle, host_clean: Host) -> Iterator[Plain]:
    """The runtime of a plain user, whose containers are deleted afterwards."""
    made = Plain(pyoci, tmp_path, bundle, host_clean)
    yield made
    made.clean_up()


@pytest.fixture
def host_mount(tmp_path: Path) -> Iterator[Path]:
    """A mount of the host that a user namespace made later gets locked."""
    path = tmp_path / "locked"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec,noatime,mode=755", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture(params=["ranges", "one id"])
def engine(
    request: pytest.FixtureRequest, pyoci: str, tmp_path: Path, bundle: Bundle, host_mount: Path, host_clean: Host
) -> Iterator[Inside]:
    """The runtime as root of a user namespace: one with many ids, and one with a single one, which denies setgroups."""
    made = Inside(pyoci, tmp_path, bundle, host_clean, denies_setgroups=request.param == "one id")
    yield made
    made.clean_up()
    made.end()


@pytest.fixture
def cgroup(host_clean: Host) -> Iterator[Path]:
    """A cgroup that was delegated to the user, and one in it for what the user runs."""
    top = Path(cgroup_mount()) / f"{host_clean.token}-user"
    (top / "session").mkdir(parents=True)
    for path in (top, *(top / name for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads"))):
        os.chown(path, UID, UID)
    for path in (top / "session", top / "session/cgroup.procs"):
        os.chown(path, UID, UID)
    yield top
    (top / "session").rmdir()
    top.rmdir()


# --- a plain user


def test_config_that_spec_writes(plain: Plain) -> None:
    """`spec --rootless` writes a config that this user can run; container root is the user."""
    (plain.bundle.folder / "config.json").unlink(missing_ok=True)
    subprocess.run(plain.as_user(plain.executable, "spec", "--rootless"), cwd=plain.bundle.folder, check=True)
    written = json.loads((plain.bundle.folder / "config.json").read_text())
    assert written["process"]["terminal"]
    written["process"]["terminal"] = False
    plain.bundle.config = written
    assert f"0 {UID} 1" == " ".join(plain.shell("cat /proc/self/uid_map").split())


def test_life_of_a_container(plain: Plain) -> None:
    """create, state, start, exec, kill, delete; the state lies in the user's runtime directory."""
    plain.bundle.shell("trap 'exit 3' TERM; while :; do sleep 0.05; done")
    plain.create()
    assert [plain.id] == [path.name for path in (plain.runtime_dir / "pyoci").iterdir()]
    assert "created" == plain.state()["status"]
    plain.start()
    assert "running" == plain.state()["status"]
    result = plain("exec", plain.id, "sh", "-c", "echo $$; id -u; exit 7")
    assert (7, "") == (result.status, result.err)
    assert "0" == result.out.split()[1]
    result = plain("exec", plain.id, "/nothing")
    assert 255 == result.status
    assert "no such file or directory" in result.err
    assert (0, "", "") == tuple(plain("kill", plain.id, "TERM"))
    plain.wait("stopped")
    plain.delete()


def test_ranges_are_mapped_by_newuidmap(plain: Plain) -> None:
    """Several ranges: the programs of the package uidmap write them, and groups can be set."""
    plain.map_ranges()
    plain.bundle.process["user"] = {"uid": 5, "gid": 6, "additionalGids": [7, 8]}
    out = plain.shell("id -u; id -g; cat /proc/self/status")
    status = parse_status(out.partition("Name:")[1] + out.partition("Name:")[2])
    assert ["5", "6"] == out.split()[:2]
    assert "7 8" == status["Groups"]


def test_exec_into_a_container_with_ranges(plain: Plain) -> None:
    """Another user than container root; oomScoreAdj goes for this process, too."""
    plain.map_ranges()
    plain.bundle.process["oomScoreAdj"] = 300
    plain.bundle.program("sleep", 1000)
    plain.create()
    plain.start()
    result = plain("exec", "--user", "9:10", plain.id, "sh", "-c", "id -u; id -g; cat /proc/self/oom_score_adj")
    assert (0, "9\n10\n300\n", "") == tuple(result)
    assert "300" == Path(f"/proc/{plain.pid()}/oom_score_adj").read_text().strip()
    plain.delete("--force")


def test_exec_into_a_created_container(plain: Plain) -> None:
    """The user has power over the memory of init, so exec can join its namespaces before the program runs."""
    plain.bundle.program("sleep", 1000)
    plain.create()
    assert (0, "ok\n", "") == tuple(plain("exec", plain.id, "echo", "ok"))


def test_user_who_may_mount(plain: Plain) -> None:
    """With root's capabilities, the container's user namespace gets no power over init, as with root."""
    plain.identity = (*plain.identity, "--inh-caps=+all,-sys_resource", "--ambient-caps=+all,-sys_resource")
    names = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]
    plain.bundle.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    plain.bundle.program("sleep", 1000)
    plain.create()
    assert 0 == plain("exec", plain.id, "true").status
    for what in ("ls /proc/1/fd", "readlink /proc/1/exe", "head -c 1 /proc/1/mem", "cat /proc/1/environ"):
        assert 0 != plain("exec", plain.id, "sh", "-c", what).status
    plain.start()
    assert 0 == plain("exec", plain.id, "readlink", "/proc/1/exe").status


def test_root_who_may_not_mount(plain: Plain) -> None:
    """Without CAP_SYS_ADMIN, root gets a plain user's plan, and exec joins the namespaces of a created container."""
    plain.identity = ("setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin")
    os.chown(plain.runtime_dir, 0, 0)
    plain.bundle.program("sleep", 1000)
    plain.create()
    assert (0, "ok\n", "") == tuple(plain("exec", plain.id, "echo", "ok"))


def test_container_root_is_another_than_the_user(plain: Plain) -> None:
    """Nothing of the user's is mapped: container root is the first of the assigned ids."""
    plain.map_ranges((0, FIRST, 1000))
    for path in (plain.bundle.rootfs, *plain.bundle.rootfs.rglob("*")):
        os.chown(path, FIRST, FIRST, follow_symlinks=False)
    plain.bundle.process["oomScoreAdj"] = 200
    assert "0\n200\n" == plain.shell("id -u; cat /proc/self/oom_score_adj")


def test_container_root_cannot_change_the_mode_of_a_bound_device(plain: Plain) -> None:
    """A device that belongs to the user: container root uses the host's node, and may read it, but not change it."""
    plain.before = f"mount -t tmpfs tmpfs /dev/shm; mknod /dev/shm/own c 1 5; chown {UID}:{UID} /dev/shm/own"
    plain.bundle.linux["devices"] = [{"path": "/dev/shm/own", "type": "c", "major": 1, "minor": 5}]
    plain.bundle.config["mounts"] = [
        mount for mount in plain.bundle.config["mounts"] if mount["destination"] != "/dev/shm"
    ]
    out = plain.shell("head -c 3 /dev/shm/own | wc -c; chmod 777 /dev/shm/own 2>&1; stat -c '%u %a' /dev/shm/own")
    assert ["3", "chmod: /dev/shm/own: Read-only file system", "0 644"] == out.splitlines()


def test_bound_devices_are_read_only_mounts(plain: Plain) -> None:
    """The child clones the default devices of a plain user's container."""
    assert {"ro"} == {options.split(",")[0] for options in options_of_devices(plain)}


def options_of_devices(runtime: Inside | Plain) -> list[str]:
    """Mount options of the devices that a container has by default."""
    lines = runtime.shell("cat /proc/self/mountinfo").splitlines()
    found = [line.split()[5] for line in lines if line.split()[4] in ("/dev/null", "/dev/zero", "/dev/tty")]
    assert 3 == len(found)
    return found


def test_range_that_is_not_the_users(plain: Plain) -> None:
    """newuidmap refuses: its words, and the key that asked for it."""
    plain.map_ranges((0, UID, 1), (1, 1000, 10))
    message = plain.create_fails()
    assert (
        "/linux/uidMappings: cannot map ids with /usr/bin/newuidmap: uid range [1-11) -> [1000-1010) not allowed"
        in message
    )
    assert "/etc/subuid" in message


def test_no_newuidmap(plain: Plain, tmp_path: Path) -> None:
    """Where the programs are missing, the message says what they are and where they were looked for."""
    (tmp_path / "empty").mkdir()
    layer = tmp_path / "empty"
    plain.before = f"""
        mount -t tmpfs tmpfs {layer}
        mkdir {layer}/upper {layer}/work
        mknod {layer}/upper/newuidmap c 0 0
        mount -t overlay -o lowerdir=/usr/bin,upperdir={layer}/upper,workdir={layer}/work overlay /usr/bin
    """
    plain.map_ranges()
    message = plain.create_fails()
    assert "/linux/uidMappings: cannot map ids: newuidmap is not installed" in message
    assert "package uidmap" in message


def test_groups_that_can_not_be_set(plain: Plain) -> None:
    """With its own group alone a user may not set others: the key that asks for them is named."""
    plain.bundle.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [0]}
    message = plain.create_fails()
    assert message.startswith(
        "/process/user/additionalGids: cannot set supplementary groups: the user namespace denies it"
    )


def test_no_user_namespace(plain: Plain) -> None:
    """What can't work is said before anything is made, and what to do."""
    plain.bundle.linux["namespaces"] = [n for n in plain.bundle.linux["namespaces"] if n["type"] != "user"]
    for kind in ("uidMappings", "gidMappings"):
        del plain.bundle.linux[kind]
    message = plain.create_fails()
    assert "/linux/namespaces: cannot make a container without a user and a mount namespace of its own" in message
    assert "pyoci spec --rootless" in message


def test_terminal(plain: Plain, tmp_path: Path) -> None:
    """Through a console socket, of the first process and of another one."""
    plain.map_ranges()
    plain.bundle.process["terminal"] = True
    plain.bundle.shell("tty; sleep 1000")
    first, second = (ConsoleSocket(tmp_path / name) for name in ("first", "second"))
    for path in ("first", "second"):
        os.chown(tmp_path / path, UID, UID)
    plain.create("--console-socket", tmp_path / "first")
    first.receive()
    plain.start()
    first.until("/dev/pts/0")
    pid_file = plain.folder / "exec.pid"
    options = ("--detach", "--tty", "--console-socket", tmp_path / "second", "--pid-file", pid_file)
    done = plain("exec", *options, plain.id, "sh", "-c", "tty; id -u")
    assert (0, "", "") == tuple(done)
    second.receive()
    assert ["/dev/pts/1", "0"] == second.read().split()
    first.close()
    second.close()
    os.waitpid(int(pid_file.read_text()), 0)  # init can't end before this process is reaped
    plain.delete("--force")


def test_binds(plain: Plain, tmp_path: Path) -> None:
    """Sources are the user's to bind: a directory, a file whose mount point is missing, a link; their attributes
    hold.
    """
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content")
    plain.bundle.mount("/folder", "bind", "rbind", "ro", "nosuid", source=source)
    (source / "link").symlink_to("file")
    plain.bundle.mount("/new/file", "bind", "bind", source=source / "file")
    plain.bundle.mount("/new/link", "bind", "bind", "copy-symlink", "ro", source=source / "link")
    out = plain.shell("cat /folder/file /new/file; readlink /new/link; cat /proc/self/mountinfo")
    mounts = mount_points(out.partition("\n")[2])
    assert "contentcontentfile" == out.partition("\n")[0]
    assert {"ro", "nosuid"} <= mounts["/folder"].options


def test_source_that_is_missing(plain: Plain, tmp_path: Path) -> None:
    """The message is the one that root gets."""
    plain.bundle.mount("/folder", "bind", "rbind", source=tmp_path / "nothing")
    message = plain.create_fails()
    assert message == (
        f"/mounts/{len(plain.bundle.config['mounts']) - 1}/source: cannot use mount source {tmp_path}/nothing: "
        "no such file or directory"
    )


def test_limits_without_a_cgroup(plain: Plain) -> None:
    """The user has none to put limits on: the container runs, and the log says what is lost and why."""
    plain.bundle.linux["resources"]["pids"] = {"limit": 10}
    plain.bundle.linux["cgroupsPath"] = f"/{plain.host.token}"
    plain.bundle.shell("echo ran")
    result = plain.run()
    assert (0, "ran\n") == (result.status, result.out)
    warnings = [json.loads(line)["msg"] for line in plain.log.read_text().splitlines()]
    assert any("/linux/resources: ignored: the container gets no cgroup:" in text for text in warnings), warnings


def test_no_limits_and_no_cgroup(plain: Plain) -> None:
    """Nothing is lost, so nothing is said. The container can be killed, but not paused or limited: why, and what
    to do.
    """
    plain.bundle.program("sleep", 1000)
    plain.create()
    plain.start()
    assert not plain.log.exists() or "ignored" not in plain.log.read_text()
    lacking = (
        r"cannot %s container: it has no cgroup: this user may not write to \S+ "
        r"\(hint: create it in a cgroup that is delegated to this user: with --systemd-cgroup in a systemd session, "
        r"or under `systemd-run --user --scope`\)"
    )
    assert re.fullmatch(lacking % "pause", plain.fails("pause", plain.id))
    assert re.fullmatch("--memory: " + lacking % "limit", plain.fails("update", "--memory", "10m", plain.id))
    assert (0, "", "") == tuple(plain("update", "--memory", "-1", plain.id))
    assert (0, "", "") == tuple(plain("kill", "--all", plain.id, "KILL"))
    plain.wait("stopped")


def test_delegated_cgroup(plain: Plain, cgroup: Path) -> None:
    """A cgroup of its own beside the user's: it can be paused, and goes with the container."""
    plain.cgroup = str(cgroup / "session")
    plain.bundle.program("sleep", 1000)
    plain.create()
    plain.start()
    assert f"0::/{cgroup.name}/{plain.id}\n" in Path(f"/proc/{plain.pid()}/cgroup").read_text()
    plain.bundle.process["oomScoreAdj"] = 100
    process = {**plain.bundle.process, "args": ["cat", "/proc/self/cgroup", "/proc/self/oom_score_adj"]}
    (plain.folder / "process.json").write_text(json.dumps(process))
    result = plain("exec", "--process", plain.folder / "process.json", plain.id)
    assert (0, "") == (result.status, result.err)
    assert ["0::/", "100"] == [line for line in result.out.splitlines() if line.startswith(("0::", "100"))]
    assert (0, "", "") == tuple(plain("pause", plain.id))
    assert "paused" == plain.state()["status"]
    assert (0, "", "") == tuple(plain("resume", plain.id))
    plain.delete("--force")
    assert not (cgroup / plain.id).exists()


def test_controller_that_was_not_delegated(plain: Plain, cgroup: Path) -> None:
    """The cgroup exists without the controller: the limit is an error, as for root, and nothing is left."""
    plain.cgroup = str(cgroup / "session")
    os.chown(cgroup / "cgroup.subtree_control", 0, 0)
    plain.bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 2 << 20}]
    message = plain.create_fails()
    assert f"cannot enable controller hugetlb in cgroup /{cgroup.name}: permission denied" in message
    assert "it is not delegated to this user" in message


def test_killed_while_it_creates(plain: Plain) -> None:
    """Whenever the runtime is killed, `delete --force` removes what is left."""
    plain.map_ranges()
    plain.bundle.program("sleep", 1000)
    plain.bundle.write()
    for _ in plain.creates_killed(15):
        plain.delete("--force")
        plain.assert_gone()


def test_default_root_without_a_runtime_directory(plain: Plain) -> None:
    """Without XDG_RUNTIME_DIR the state would go to /run, which is not the user's: the message says what to set."""
    words = plain.as_user(
        plain.executable, "create", "--bundle", plain.bundle.folder, plain.id, environment=["XDG_RUNTIME_DIR="]
    )
    plain.bundle.write()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "/run/pyoci: permission denied" in done.stderr
    assert "XDG_RUNTIME_DIR" in done.stderr


# --- an engine


def test_life_in_an_engine(engine: Inside) -> None:
    """create, start, exec, kill, delete by root of a user namespace, with devices, masks and a terminal's place."""
    engine.bundle.shell("echo x > /dev/null; ls /dev; exec sleep 1000")
    engine.create()
    engine.start()
    wait_for(lambda: "zero" in engine.output())
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx"} <= set(engine.output().split())
    result = engine("exec", engine.id, "sh", "-c", "id -u; head -c 3 /dev/zero | wc -c; exit 4")
    assert (4, "0\n3\n", "") == tuple(result)
    assert (0, "", "") == tuple(engine("kill", engine.id, "KILL"))
    engine.wait("stopped")
    engine.delete()


def test_limits_in_an_engine(engine: Inside) -> None:
    """The engine's limits are lost if it was given no cgroup."""
    engine.bundle.linux["resources"]["memory"] = {"limit": 1 << 28}
    engine.bundle.linux["cgroupsPath"] = f"/{engine.host.token}"
    engine.bundle.shell("echo ran")
    result = engine.run()
    assert (0, "ran\n") == (result.status, result.out)
    assert "/linux/resources: ignored: the container gets no cgroup" in engine.log.read_text()


def test_attributes_that_are_locked(engine: Inside, host_mount: Path) -> None:
    """What the host has mounted without devices or set-user-ID programs stays so, whatever else is changed of it."""
    locked = host_mount
    engine.bundle.mount("/one", "bind", "rbind", "ro", source=locked)
    engine.bundle.mount("/two", "bind", "bind", "rprivate", source=locked)
    engine.bundle.mount("/three", "bind", "bind", "nosuid", "nodev", "noexec", "ro", source=locked)
    mounts = mount_points(engine.shell("cat /proc/self/mountinfo"))
    for target in ("/one", "/two", "/three"):
        assert {"nosuid", "nodev", "noexec", "noatime"} <= mounts[target].options
    assert {"ro"} == {"ro", "rw"} & mounts["/one"].options
    assert {"rw"} == {"ro", "rw"} & mounts["/two"].options


def test_remount_of_what_is_locked(engine: Inside, host_mount: Path) -> None:
    """A remount changes what it names, and nothing else."""
    engine.bundle.mount("/one", "bind", "bind", source=host_mount)
    engine.bundle.config["mounts"].append({"destination": "/one", "options": ["bind", "remount", "ro"]})
    mounts = mount_points(engine.shell("cat /proc/self/mountinfo"))
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= mounts["/one"].options


def test_locked_attribute_is_an_error(engine: Inside, host_mount: Path) -> None:
    """A mount that needs a locked attribute gets the kernel's error, not other attributes."""
    engine.bundle.mount("/one", "bind", "bind", "exec", source=host_mount)
    message = engine.create_fails()
    assert f"cannot use mount source {host_mount}: operation not permitted" in message
    assert "a user namespace locks ro," in message


def test_user_namespace_in_an_engines(engine: Inside) -> None:
    """Podman's --userns: mappings are relative to the engine's, and only the runtime writes them."""
    if engine.denies_setgroups:
        maps = [{"containerID": 0, "hostID": 0, "size": 1}]
    else:
        maps = [{"containerID": 0, "hostID": 1, "size": 1000}, {"containerID": 1000, "hostID": 0, "size": 1}]
    engine.bundle.namespace("user")
    engine.bundle.linux["uidMappings"] = engine.bundle.linux["gidMappings"] = maps
    owner = UID if engine.denies_setgroups else FIRST + 1
    for path in (engine.bundle.rootfs, *engine.bundle.rootfs.rglob("*")):
        os.chown(path, owner, owner, follow_symlinks=False)
    engine.bundle.shell("id -u; exec sleep 1000")
    engine.create()
    pid = engine.pid()
    outside = [line.split() for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines()]
    assert ["0", str(owner)] == outside[0][:2]
    engine.start()
    result = engine("exec", engine.id, "id", "-u")
    assert (0, "0\n", "") == tuple(result)
    engine.delete("--force")


def test_state_root_of_an_engine(engine: Inside, tmp_path: Path) -> None:
    """The user's runtime directory if there is one; rootful Podman passes an empty one, and then it is /run/pyoci."""
    directory = tmp_path / "xdg"
    directory.mkdir(mode=0o700)
    os.chown(directory, *[UID if engine.denies_setgroups else FIRST] * 2)
    engine.bundle.program("sleep", 1000)
    engine.bundle.write()
    command = engine.inside("env", f"XDG_RUNTIME_DIR={directory}", engine.executable)
    subprocess.run([*command, "create", "--bundle", engine.bundle.folder, engine.id],
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    assert [engine.id] == [path.name for path in (directory / "pyoci").iterdir()]
    subprocess.run([*command, "delete", "--force", engine.id], check=True)
    engine.shell_of_engine("mount -t tmpfs tmpfs /run")  # the host may have a /run/pyoci
    done = subprocess.run(
        engine.inside("env", "XDG_RUNTIME_DIR=", engine.executable, "state", engine.id),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    # the host's, if it is there, is not this user's to look into
    assert done.stderr in (
        f"container `{engine.id}` does not exist\n",
        "cannot use state directory /run/pyoci: permission denied\n",
    )


def test_groups_that_are_kept(engine: Inside) -> None:
    """Podman's --group-add keep-groups: a runtime without power over the host's groups keeps its own, for exec too."""
    engine.bundle.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    engine.bundle.shell("exec sleep 1000")
    engine.bundle.write()
    groups = "" if engine.denies_setgroups else "7 9"
    words = engine.command("create", "--bundle", engine.bundle.folder, engine.id)
    if groups:
        at = words.index(engine.executable)
        words[at:at] = ["setpriv", "--groups", groups.replace(" ", ",")]
    subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    engine.start()
    status = parse_status(Path(f"/proc/{engine.pid()}/status").read_text())
    assert groups == " ".join(str(int(gid) - FIRST) for gid in status["Groups"].split())
    words = engine.command("exec", engine.id, "cat", "/proc/self/status")
    if groups:
        at = words.index(engine.executable)
        words[at:at] = ["setpriv", "--groups", groups.replace(" ", ",")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ("", groups) == (done.stderr, parse_status(done.stdout)["Groups"])
    engine.delete("--force")


# --- kernel parameters without a pid namespace


def without_pid_namespace(bundle: Bundle) -> None:
    """As `podman run --pid=host` asks for it: the host's processes, the host's /proc, and a kernel parameter."""
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "pid"]
    bundle.without_mount("/proc").mount("/proc", "none", "rbind", "nosuid", "noexec", "nodev", source="/proc")
    bundle.linux["sysctl"] = {"net.ipv4.ping_group_range": "0 0", "kernel.shmmax": "12345"}
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []


SHOW_PARAMETERS = "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shmmax; readlink /proc/self/ns/pid"


def parameters() -> list[str]:
    """The host's, which containers are not to change."""
    return [Path(f"/proc/sys/{name}").read_text() for name in ("net/ipv4/ping_group_range", "kernel/shmmax")]


def test_kernel_parameters_without_a_pid_namespace(plain: Plain) -> None:
    """A user namespace gets no procfs of the host's processes: the parameters go through the one at /proc, to the
    namespaces of the container."""
    before = parameters()
    without_pid_namespace(plain.bundle)
    plain.bundle.linux["readonlyPaths"] = ["/proc/sys"]
    written = plain.shell(SHOW_PARAMETERS).split()
    assert ["0", "0", "12345", os.readlink("/proc/self/ns/pid")] == written
    assert before == parameters()


@pytest.mark.parametrize("own", [False, True], ids=["engine's user namespace", "own user namespace"])
def test_kernel_parameters_in_an_engine_without_a_pid_namespace(engine: Inside, own: bool) -> None:
    """The same for root of an engine's user namespace, which does not own the host's pid namespace either."""
    before = parameters()
    without_pid_namespace(engine.bundle)
    if own:
        mapping = [{"containerID": 0, "hostID": 0, "size": 1}]
        engine.bundle.namespace("user").linux.update(uidMappings=mapping, gidMappings=mapping)
    written = engine.shell(SHOW_PARAMETERS).split()
    assert ["0", "0", "12345", os.readlink("/proc/self/ns/pid")] == written
    assert before == parameters()


def test_kernel_parameters_where_proc_is_covered(plain: Plain) -> None:
    """What lies over a part of /proc is not followed, and nothing is written elsewhere."""
    without_pid_namespace(plain.bundle)
    fake = plain.folder / "fake"
    (fake / "ipv4").mkdir(parents=True)
    (fake / "ipv4/ping_group_range").write_text("fake")
    os.chmod(fake / "ipv4/ping_group_range", 0o666)
    plain.before = f"mount --bind {fake} /proc/sys/net"
    assert plain.create_fails() == (
        "/linux/sysctl/net.ipv4.ping_group_range: cannot write '0 0' to /proc/sys/net/ipv4/ping_group_range: "
        "openat2: invalid cross-device link (hint: something is mounted over it, or over a directory on the way to it)"
    )
    assert "fake" == (fake / "ipv4/ping_group_range").read_text()


@pytest.mark.parametrize(("pids", "owns"), [([], "False"), (["--pid", "--fork"], "True")], ids=["host's", "own"])
def test_whether_the_runtime_owns_its_pid_namespace(pids: list[str], owns: str) -> None:
    """A user namespace that was made together with a pid namespace, or for the host's."""
    script = "from pyoci.host.facts import probe; print(probe().owns_pids)"
    command = ["unshare", "--user", "--map-root-user", "--mount", *pids, sys.executable, "-c", script]
    assert f"{owns}\n" == subprocess.check_output(command, text=True, cwd=Path(__file__).parents[2])


def test_notify_socket_of_a_plain_user(plain: Plain) -> None:
    """The container's first process clones the directory of its socket by itself, and only that one."""
    plain.bundle.shell("ls -a /run/notify; echo $NOTIFY_SOCKET").write()
    command = plain.as_user(
        plain.executable, "run", "-b", plain.bundle.folder, plain.id, environment=["NOTIFY_SOCKET=@none"]
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert "/run/notify/notify.sock" in done.stdout.split(), done


def test_devices_that_the_runtime_binds_are_read_only_mounts(engine: Inside) -> None:
    """The runtime clones them itself where it may mount."""
    assert {"ro"} == {options.split(",")[0] for options in options_of_devices(engine)}
