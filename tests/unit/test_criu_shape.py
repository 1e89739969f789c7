"""pyoci/criu/shape.py: which images restore as the container of a config.json, and which do not."""

from collections.abc import Callable
from typing import Any

import pytest

from pyoci.compiler.facts import Host
from pyoci.config.constants import CAPABILITIES
from pyoci.criu import shape
from pyoci.criu.images import APPARMOR, DEAD, File, Filter, Image, decode
from pyoci.criu.messages import COMMON_MAGIC, Message
from pyoci.criu.wire import encode
from pyoci.errors import ConfigError
from tests.support import checkpoints

Config = dict[str, Any]
Change = Callable[[Image, Config], None]


def problems(image: Image, config: Config, **options: Any) -> list[str]:
    """What the check says: pointers and messages, without what all have in common."""
    try:
        shape.check(image, config, Host(), **options)  # type: ignore[arg-type]
    except ConfigError as error:
        return [str(problem).replace("cannot restore the container: ", "") for problem in error.problems]
    return []


def changed(change: Change, name: str = "plain", **options: Any) -> list[str]:
    """The problems of an image after a change of it or its config."""
    image, config = checkpoints.image(name), checkpoints.config(name)
    change(image, config)
    return problems(image, config, **options)


@pytest.mark.parametrize("name", checkpoints.NAMES)
def test_check_accepts_an_unchanged_container(name: str) -> None:
    """A container and the config.json from which it was created."""
    assert [] == problems(checkpoints.image(name), checkpoints.config(name))


# --- what a container's programs may do before a dump


def drop_privileges(image: Image, _config: Config) -> None:
    """Drop everything."""
    for thread in image.init.threads:
        thread.credentials.permitted = thread.credentials.effective = thread.credentials.bounding = 0


def become_another_user(image: Image, config: Config) -> None:
    """Change the user, as a server that starts as root."""
    config["process"]["noNewPrivileges"] = False
    for thread in image.init.threads:
        thread.credentials.uids = thread.credentials.gids = [33, 33, 33, 33]
        thread.credentials.groups = [33, 44]


def nest_namespaces(image: Image, _config: Config) -> None:
    """Let the child run in new namespaces, as a sandbox."""
    child = image.tasks[1]
    for kind in ("network", "ipc", "uts", "mount"):
        child.namespaces[kind] += 100
    image.mounts[child.namespaces["mount"]] = image.mounts[image.init.namespaces["mount"]][-1:]


def load_a_filter(image: Image, _config: Config) -> None:
    """Load another filter on top of the container's."""
    thread = image.init.threads[0]
    image.filters.append(Filter(Message(encode([(1, bytes(16)), (2, thread.filter)]))))
    thread.filter = len(image.filters) - 1


def mount_something(image: Image, config: Config) -> None:
    """Mount a procfs and a tmpfs, and unmount what masks paths, as a program with CAP_SYS_ADMIN can."""
    config["process"]["capabilities"]["bounding"].append("CAP_SYS_ADMIN")
    config["process"]["capabilities"]["permitted"].append("CAP_SYS_ADMIN")
    mounts = image.init_mounts
    proc = next(mount for mount in mounts if mount.point == "/proc")
    proc.point = "/mnt/proc"
    mounts[:] = [mount for mount in mounts if not mount.point.startswith("/proc/")]


def bind_inside(image: Image, config: Config) -> None:
    """Bind a directory of the root filesystem."""
    root = next(mount for mount in image.init_mounts if mount.point == "/")
    root.type = "overlay"
    root.source = "overlay"
    bound = next(mount for mount in image.init_mounts if mount.point == "/dev/shm")
    bound.type, bound.source, bound.device, bound.options = "overlay", "overlay", root.device, root.options
    bound.root = root.root + "/tmp"
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/dev/shm"]


def leave_a_zombie(image: Image, _config: Config) -> None:
    """A dead process has no credentials."""
    child = image.tasks[1]
    child.state = DEAD
    child.threads = []
    child.namespaces = {}


@pytest.mark.parametrize(
    "change",
    [
        drop_privileges,
        become_another_user,
        nest_namespaces,
        load_a_filter,
        mount_something,
        bind_inside,
        leave_a_zombie,
    ],
    ids=lambda change: change.__name__,
)
def test_check_accepts_what_programs_do(change: Change) -> None:
    """Programs may change what their privileges let them change."""
    assert [] == changed(change)


# --- more power than config.json gives


@pytest.mark.parametrize("kind", ["bounding", "permitted", "effective", "inheritable", "ambient"])
def test_check_rejects_capabilities(kind: str) -> None:
    """In every set, and in every thread."""

    def change(image: Image, _config: Config) -> None:
        credentials = image.tasks[1].threads[0].credentials
        setattr(credentials, kind, getattr(credentials, kind) | 1 << CAPABILITIES["CAP_SYS_ADMIN"] | 1 << 60)

    assert [
        f"/process/capabilities/bounding: process 2 (sleep) has CAP_SYS_ADMIN, unknown capabilities in its {kind} set"
    ] == changed(change)


def test_check_rejects_capabilities_that_execve_would_not_give() -> None:
    """Under noNewPrivileges, no program has more than the first one."""

    def change(_image: Image, config: Config) -> None:
        config["process"]["capabilities"]["permitted"].remove("CAP_KILL")

    expected = "/process/capabilities/bounding: process {} (sleep) has CAP_KILL in its permitted set"
    assert [expected.format(pid) for pid in (1, 2)] == changed(change)


def test_check_rejects_processes_that_can_gain_privileges() -> None:
    """The config asks for noNewPrivileges."""

    def change(image: Image, _config: Config) -> None:
        image.tasks[1].threads[0].credentials.no_new_privs = False

    assert ["/process/noNewPrivileges: process 2 (sleep) can gain privileges"] == changed(change)


def test_check_rejects_ids_that_no_program_could_take() -> None:
    """Without CAP_SETUID and set-user-ID programs, a process stays what it is."""

    def change(image: Image, _config: Config) -> None:
        credentials = image.init.threads[0].credentials
        credentials.uids, credentials.groups = [1000, 0, 1000, 1000], [0, 6]

    assert [
        "/process/user/uid: process 1 (sleep) has the user ids 0, 1000",
        "/process/user/gid: process 1 (sleep) has the group ids 0, 6",
    ] == changed(change, "user")


def test_check_rejects_a_thread_without_the_filter() -> None:
    """The chain of each thread must have the filter of config.json."""

    def none(image: Image, _config: Config) -> None:
        image.init.threads[0].mode, image.init.threads[0].filter = 0, -1

    def other(image: Image, config: Config) -> None:
        config["linux"]["seccomp"]["syscalls"][0]["names"] = ["swapon"]

    advice = "(restore with the runtime that made the image)"
    assert ["/linux/seccomp: process 1 (sleep) has no seccomp filter"] == changed(none)
    assert [f"/linux/seccomp: process {pid} (sleep) has another seccomp filter {advice}" for pid in (1, 2)] == changed(
        other
    )


def test_check_rejects_higher_limits() -> None:
    """Raising a hard limit, or lowering an OOM score adjustment, needs CAP_SYS_RESOURCE."""

    def change(image: Image, config: Config) -> None:
        image.init.rlimits[7] = (1024, 2048)
        config["process"]["oomScoreAdj"] = 100

    assert [
        "/process/rlimits/0: process 1 (sleep) has a higher RLIMIT_NOFILE",
        "/process/oomScoreAdj: process 1 (sleep) has the OOM score adjustment 0",
        "/process/oomScoreAdj: process 2 (sleep) has the OOM score adjustment 0",
    ] == changed(change)


def test_check_rejects_realtime_scheduling() -> None:
    """Only programs with CAP_SYS_NICE can ask for it."""

    def change(image: Image, _config: Config) -> None:
        image.init.threads[0].policy = 1

    assert ["/process/scheduler: process 1 (sleep) has the scheduling policy SCHED_FIFO"] == changed(change)


@pytest.mark.parametrize(
    ("type", "capability", "what"),
    [
        (10, "CAP_NET_RAW", "a packet socket"),
        (12, "CAP_SYS_ADMIN", "a fanotify group"),
        (15, "CAP_NET_ADMIN", "a TUN device"),
        (19, "CAP_BPF", "a BPF map"),
        (4, "CAP_NET_RAW", "a raw socket"),
        (1, "CAP_SYSLOG", "the log of the kernel"),
    ],
)
def test_check_rejects_files_that_no_program_could_open(type: int, capability: str, what: str) -> None:
    """CRIU opens them with the runtime's privileges."""
    socket = encode([(4, 3)])

    def change(image: Image, config: Config) -> None:
        proc = next(mount for mount in image.init_mounts if mount.point == "/proc")
        kmsg = encode([(6, b"/proc/kmsg"), (7, proc.id << 1)])
        image.files.append(File(Message(encode([(1, type), (3, kmsg), (4, socket)]))))

    def allowed(image: Image, config: Config) -> None:
        change(image, config)
        config["process"]["capabilities"]["bounding"].append(capability)
        config["process"]["capabilities"]["permitted"].append(capability)

    expected = f"/process/capabilities/bounding: the image has {what} open, which no program could have opened"
    assert [expected] == changed(change)
    assert [] == changed(allowed)


# --- security modules


@pytest.mark.parametrize("kind", ["apparmor", "selinux"])
def test_check_rejects_other_labels(kind: str) -> None:
    """The image must have the label of config.json, unless an option replaces it."""
    key = {"apparmor": "apparmorProfile", "selinux": "selinuxLabel"}[kind]

    def given(label: str, lsm: str = kind) -> Change:
        def change(image: Image, config: Config) -> None:
            config["process"][key] = "wanted"
            image.lsm = lsm
            image.tasks.pop()
            image.init.threads[0].credentials.label = label

        return change

    assert [] == changed(given("wanted"))
    assert [f"/process/{key}: process 1 (sleep) has the label other"] == changed(given("other"))
    assert [f"/process/{key}: process 1 (sleep) has no label"] == changed(given("", ""))
    assert [] == changed(given("replaced"), lsm_profile=f"{kind}:replaced")
    child = changed(given("wanted//child"))
    assert ([] if kind == "apparmor" else 1) == (child if kind == "apparmor" else len(child))


def test_check_rejects_apparmor_policies() -> None:
    """CRIU would load them on the host, also in place of the host's."""

    def change(image: Image, _config: Config) -> None:
        policy = encode([(1, encode([(1, b"../.."), (2, encode([(1, b"docker-default"), (2, b"policy")]))]))])
        words = [word.to_bytes(4, "little") for word in (COMMON_MAGIC, APPARMOR, len(policy))]
        image.has_policies = decode(
            {**checkpoints.files("plain"), "apparmor.img": b"".join([*words, policy])}
        ).has_policies

    expected = "/process/apparmorProfile: the image has AppArmor policies, which CRIU would load on the host"
    assert [expected] == changed(change)


def test_check_rejects_labels_of_sockets() -> None:
    """A program sets one only if the policy allows it. CRIU sets any."""

    def change(image: Image, config: Config) -> None:
        image.lsm, config["process"]["selinuxLabel"] = "selinux", "wanted"
        for task in image.tasks:
            task.threads[0].credentials.label = "wanted"
        image.init.threads[0].credentials.socket_label = "other"

    assert ["/process/selinuxLabel: process 1 (sleep) gives new sockets the label other"] == changed(change)


# --- another container's shape


def test_check_rejects_namespaces_of_the_host() -> None:
    """CRIU would leave the process in the runtime's namespace."""

    def init(image: Image, _config: Config) -> None:
        for task in image.tasks:
            task.namespaces["network"] = image.host["network"]

    def child(image: Image, _config: Config) -> None:
        image.tasks[1].namespaces["network"] = image.host["network"]

    assert ["/linux/namespaces/1: the image has no network namespace"] == changed(init)
    assert ["/linux/namespaces: process 2 (sleep) has another network namespace than init"] == changed(child)


def test_check_rejects_namespaces_that_the_config_shares() -> None:
    """The container would have another shape."""

    def change(_image: Image, config: Config) -> None:
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "uts"]

    assert ["/linux/namespaces: the image has a uts namespace of its own"] == changed(change)


def test_check_compares_network_namespaces_from_outside() -> None:
    """A namespace by path is dumped as one from outside, and a new one is not."""

    def joined(_image: Image, config: Config) -> None:
        config["linux"]["namespaces"][1]["path"] = "/run/netns/pod"

    def external(image: Image, config: Config) -> None:
        image.external["network", image.init.namespaces["network"]] = "extRootNetNS"

    def both(image: Image, config: Config) -> None:
        joined(image, config)
        external(image, config)

    assert ["/linux/namespaces/1: the image has a network namespace of its own"] == changed(joined)
    assert ["/linux/namespaces/1: the image has a network namespace from outside"] == changed(external)
    assert [] == changed(both)


def test_check_rejects_other_id_maps() -> None:
    """Root of the image must not become another user of the host."""

    def change(image: Image, _config: Config) -> None:
        maps = image.id_maps[image.init.namespaces["user"]]
        maps.uids = [(0, 0, 65536)]
        maps.gids = [*maps.gids, (65536, 0, 1)]

    assert [
        "/linux/uidMappings: the image has other uid mappings",
        "/linux/gidMappings: the image has other gid mappings",
    ] == changed(change, "user")


def test_check_rejects_a_nested_user_namespace() -> None:
    """A process has every capability there."""

    def change(image: Image, _config: Config) -> None:
        image.tasks[1].namespaces["user"] += 100

    assert ["/linux/namespaces: process 2 (sleep) has another user namespace than init"] == changed(change)


def test_check_compares_terminals() -> None:
    """An engine waits for the terminal that config.json asks for, and has nothing for another one."""

    def without(_image: Image, config: Config) -> None:
        config["process"]["terminal"] = False

    def wanted(_image: Image, config: Config) -> None:
        config["process"]["terminal"] = True

    advice = "(pass --shell-job if it is the caller's)"
    assert [f"/process/terminal: the image has a terminal {advice}"] == changed(without, "terminal")
    assert [] == changed(without, "terminal", shell_job=True)
    assert ["/process/terminal: the image has no terminal"] == changed(wanted)


# --- mounts


@pytest.mark.parametrize(
    ("kind", "source"),
    [("auto", "/dev/sda1"), ("overlay", "overlay"), ("debugfs", "debugfs"), ("devtmpfs", "dev"), ("securityfs", "s")],
)
def test_check_rejects_filesystems_that_criu_would_mount(kind: str, source: str) -> None:
    """CRIU mounts them from any source of the host."""

    def change(image: Image, _config: Config) -> None:
        mount = next(mount for mount in image.init_mounts if mount.point == "/dev/shm")
        mount.type, mount.source = kind, source

    expected = "/mounts: the image has a filesystem at /dev/shm that pyoci does not restore"
    assert [expected] == changed(change)


def test_check_rejects_an_overlay_that_differs_from_the_root_filesystem() -> None:
    """CRIU binds a mount only from one with the same source, options and device, and a root above it."""

    def variant(**values: object) -> Change:
        def change(image: Image, config: Config) -> None:
            bind_inside(image, config)
            bound = next(mount for mount in image.init_mounts if mount.point == "/dev/shm")
            for name, value in values.items():
                setattr(bound, name, value)

        return change

    expected = ["/mounts: the image has a filesystem at /dev/shm that pyoci does not restore"]
    for values in ({"source": "other"}, {"options": "lowerdir=/etc"}, {"device": 99}, {"root": "/"}):
        assert expected == changed(variant(**values))


def test_check_rejects_a_procfs_beside_the_masks() -> None:
    """Without CAP_SYS_ADMIN no program could have mounted it. Masked paths would be visible there."""

    def moved(image: Image, _config: Config) -> None:
        next(mount for mount in image.init_mounts if mount.point == "/proc").point = "/mnt"

    def part(image: Image, _config: Config) -> None:
        next(mount for mount in image.init_mounts if mount.point == "/proc/sys").point = "/mnt"

    assert "/mounts: the image has another proc at /mnt" in changed(moved)
    assert ["/mounts: the image has another proc at /mnt"] == changed(part)


def test_check_rejects_lacking_attributes() -> None:
    """What config.json mounts read-only or without devices must be so."""

    def change(image: Image, _config: Config) -> None:
        for mount in image.init_mounts:
            mount.flags = 0

    assert [
        "/root/readonly: the image has a writable root filesystem",
        "/mounts/0/options: the image has this mount without nosuid, nodev, noexec",
        "/mounts/1/options: the image has this mount without nosuid",
        "/mounts/2/options: the image has this mount without nosuid, noexec",
        "/mounts/3/options: the image has this mount without nosuid, nodev, noexec",
        "/mounts/4/options: the image has this mount without nosuid, nodev, noexec",
        "/mounts/5/options: the image has this mount without ro, nosuid, nodev, noexec",
        "/mounts/6/options: the image has this mount without ro, nosuid, nodev, noexec",
        "/mounts/7/options: the image has this mount without ro, nosuid",
        *(f"/linux/readonlyPaths/{index}: the image has this path writable" for index in range(4)),
    ] == changed(change)


def test_check_reports_a_few_problems() -> None:
    """An image with very many processes fills no log."""

    def change(image: Image, _config: Config) -> None:
        image.tasks[1].threads[0].credentials.bounding |= 1 << 21
        image.tasks += image.tasks[1:] * 1000

    assert shape.MAX_PROBLEMS == len(changed(change))
