"""Restore's plan: the process that becomes CRIU, what it brings together for CRIU, and CRIU's request."""

import json
import os
from typing import Any

import pytest

from pyoci import config
from pyoci.compiler import facts, show, verbs
from pyoci.compiler.block import encode
from pyoci.compiler.restore import RestorePlan, compile_restore
from pyoci.compiler.verbs.numbers import CREATED, NET_DEVICES, READY
from pyoci.compiler.verbs.phrases import attributes
from pyoci.criu import rpc
from pyoci.errors import PyociError
from pyoci.linux import CLONE_NEWNET, MOUNT_ATTR__ATIME
from pyoci.request import CriuOptions
from tests.support.goldens import CRIU, RESTORE, RESTORE_NAMES, compiled_restore, image_of

RDONLY, NOSUID, NOATIME, NODIRATIME, RELATIME = 1, 2, 1 << 10, 1 << 11, 1 << 21  # flags of mount(2)
MAPPINGS = {f"{kind}Mappings": [{"containerID": 0, "hostID": 1000, "size": 1}] for kind in ("uid", "gid")}
DATA = {"destination": "/data", "source": "/srv/data"}


def mount(point: str, above: str = "/", **fields: Any) -> dict[str, Any]:
    """A mount of a checkpoint, by default external if it is below `/`."""
    return {"point": point, "above": above, "key": "", "flags": 0, "type": "ext4", "root": "/", **fields}


def external(point: str, above: str = "/", **fields: Any) -> dict[str, Any]:
    """An external mount, whose key is its mount point."""
    return mount(point, above, key=point, **fields)


ROOT = mount("/", "")


def restored(
    mounts: list[dict[str, Any]],
    *found: dict[str, Any],
    linux: dict[str, Any] | None = None,
    program: str = CRIU,
    root: dict[str, Any] | None = None,
    host: facts.Host | None = None,
    notify: str = "",
    label: str = "",
    new_keyring: bool = True,
) -> RestorePlan:
    """The plan for a config with these mounts, and a checkpoint with these besides its root."""
    document: dict[str, Any] = {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs", **(root or {})},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": "mount"}], **(linux or {})},
    }
    image = image_of([ROOT, *found] if "/" not in [each["point"] for each in found] else [*found])
    if label:
        document["process"]["selinuxLabel"] = label
    loaded, _ = config.load(json.dumps(document).encode())
    options = facts.Options("/bundle", "box", notify=notify, new_keyring=new_keyring)
    request: Any = type("Request", (), {"options": CriuOptions(), "image_path": "/images"})
    return compile_restore(loaded, host or facts.Host(), options, image, request, program)


def sources(made: RestorePlan) -> dict[str, str]:
    """The source of each place where CRIU looks for one."""
    return {op.name: op.source for op in made.plan.child() if isinstance(op, verbs.AddSource)}


def points(made: RestorePlan) -> list[tuple[str, str, bool]]:
    """Path, path in its source, and kind of each mount point that is made."""
    return [(op.path, op.below, op.directory) for op in made.plan.child() if isinstance(op, verbs.MakeMountPoint)]


@pytest.mark.parametrize("name", RESTORE_NAMES)
def test_plan_is_the_golden_one(name: str) -> None:
    """Each example compiles to the plan and the request beside it. PYOCI_UPDATE_PLANS=1 writes them anew."""
    made = compiled_restore(name)
    printed = show.text(made.plan) + "\nCRIU's request\n" + "".join(f"{line}\n" for line in rpc.show(made.options))
    golden = RESTORE / f"{name}.plan"
    if os.environ.get("PYOCI_UPDATE_PLANS"):
        golden.write_text(printed)

    assert golden.read_text() == printed


@pytest.mark.parametrize("name", RESTORE_NAMES)
def test_every_tree_has_been_opened(name: str) -> None:
    """The child attaches only what the runtime has opened, and the runtime opens nothing else."""
    plan = compiled_restore(name).plan
    opened = {getattr(op, slot) for op in [*plan.before, *plan.opening] for slot in ("tree", "filesystem", "namespace")
              if hasattr(op, slot)}  # fmt: skip
    used = {op.tree for op in plan.child() if isinstance(op, verbs.AddSource | verbs.StageTree)}

    assert used <= opened
    assert encode(plan.child(), plan.slots)


@pytest.mark.parametrize("name", RESTORE_NAMES)
def test_tree_is_attached_once(name: str) -> None:
    """A second attachment would move it. Others get clones of it."""
    attached = [
        op.tree
        for op in compiled_restore(name).plan.child()
        if isinstance(op, verbs.StageTree) or (isinstance(op, verbs.AddSource) and not op.clone)
    ]

    assert sorted(set(attached)) == sorted(attached)


def test_limit_of_processes_waits_for_criu() -> None:
    """CRIU needs processes of its own; other limits apply to it."""
    plan = compiled_restore("volumes").plan

    assert ["write_cgroup"] == [op.verb for op in plan.at[READY]]
    assert ["commit"] == [op.verb for op in plan.at[CREATED]]
    assert "write_cgroup" in [op.verb for op in plan.alongside]


def test_external_mount_that_config_lacks_is_refused() -> None:
    """It may be any file of the host on which the checkpoint was made."""
    with pytest.raises(PyociError) as caught:
        restored([], external("/data"))

    expected = "cannot restore the container: the checkpoint has an external mount at /data, which config.json does not"
    assert f"{expected} have" == str(caught.value)


def test_key_cannot_forge_a_line() -> None:
    """Keys come from the checkpoint."""
    with pytest.raises(PyociError) as caught:
        restored([], external("/da\nta"))

    assert "/da\\nta" in str(caught.value)


def test_volume_that_checkpoint_lacks_is_refused() -> None:
    """The container would run without it."""
    with pytest.raises(PyociError) as caught:
        restored([{**DATA, "options": ["bind"]}])

    assert "/mounts/0: cannot restore the container: the checkpoint has no mount at /data" == str(caught.value)


def test_volume_may_have_been_remade_in_the_container() -> None:
    """Any mount at its mount point is enough: a proc or sysfs of the host is none of an own namespace."""
    assert {"root": "/bundle/rootfs"} == sources(restored([{**DATA, "options": ["bind"]}], mount("/data")))


@pytest.mark.parametrize(
    ("options", "flags", "lacking"),
    [
        (["bind", "ro"], 0, "ro"),
        (["bind", "ro", "nosuid"], RDONLY, "nosuid"),
        (["rbind", "rro", "nodev"], NOSUID, "ro, nodev"),
    ],
)
def test_checkpoint_must_have_the_attributes_of_a_volume(options: list[str], flags: int, lacking: str) -> None:
    """CRIU sets the attributes of the checkpoint, and would make a read-only volume writable."""
    with pytest.raises(PyociError) as caught:
        restored([{**DATA, "options": options}], external("/data", flags=flags))

    expected = f"/mounts/0: cannot restore the container: the checkpoint mounts /data without {lacking}"
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (RELATIME, ""),
        (RELATIME | RDONLY | NOSUID, "RDONLY|NOSUID"),
        (0, "STRICTATIME"),
        (NOATIME | NODIRATIME, "NOATIME|NODIRATIME"),
    ],
)
def test_source_gets_the_attributes_of_the_checkpoint(flags: int, shown: str) -> None:
    """Root of a user namespace can't change them, and CRIU leaves them out for some mounts."""
    made = restored([{**DATA, "options": ["bind"]}], external("/data", flags=flags))
    op = next(op for op in made.plan.child() if isinstance(op, verbs.AddSource) and op.name == "0")

    assert shown == attributes(op.attr_set)
    assert MOUNT_ATTR__ATIME == op.attr_clear & MOUNT_ATTR__ATIME
    assert not (op.attr_set & ~MOUNT_ATTR__ATIME) & op.attr_clear


def test_source_gets_the_attributes_that_all_mounts_with_its_key_have() -> None:
    """CRIU can add attributes to a mount, and take none away in a user namespace."""
    found = [external("/data", flags=RELATIME | RDONLY | NOSUID), external("/data", flags=RELATIME | NOSUID)]
    made = restored([{**DATA, "options": ["bind"]}], *found)
    op = next(op for op in made.plan.child() if isinstance(op, verbs.AddSource) and op.name == "0")

    assert "NOSUID" == attributes(op.attr_set)


def test_checkpoint_must_have_a_readonly_root() -> None:
    """If the config has one."""
    with pytest.raises(PyociError, match=r"/root/readonly: .* mounts / without ro"):
        restored([], root={"readonly": True})

    restored([], mount("/", "", flags=RDONLY), root={"readonly": True})


def test_remount_changes_what_the_checkpoint_must_have() -> None:
    """A later entry of `mounts` may set and clear attributes."""
    made_readonly = {"destination": "/data", "options": ["remount", "bind", "ro"]}
    writable_again = {"destination": "/data", "options": ["remount", "bind", "rw"]}
    bind = {**DATA, "options": ["bind"]}
    with pytest.raises(PyociError, match="without ro"):
        restored([bind, made_readonly], external("/data"))

    restored([bind, made_readonly, writable_again], external("/data"))


def test_mount_below_a_recursive_bind_comes_from_its_tree() -> None:
    """Its key is below the volume's. It has the attributes that are recursive."""
    made = restored(
        [{**DATA, "options": ["rbind", "rro", "nosuid"]}],
        external("/data", flags=RDONLY | NOSUID),
        external("/data/a/b", "/data", flags=RDONLY),
    )
    below = [(op.below, op.is_mount, op.clone) for op in made.plan.child() if isinstance(op, verbs.AddSource)]

    assert {"root": "/bundle/rootfs", "0": "/srv/data", "1": "/srv/data/a/b"} == sources(made)
    assert [("", False, True), ("", False, True), ("a/b", True, True)] == below
    assert ["mnt[/data]:/tmp/0", "mnt[/data/a/b]:/tmp/1"] == made.options["external"]
    with pytest.raises(PyociError, match="mounts /data/a/b without ro"):
        restored(
            [{**DATA, "options": ["rbind", "rro"]}], external("/data", flags=RDONLY), external("/data/a/b", "/data")
        )


def test_mount_below_a_plain_bind_is_refused() -> None:
    """The volume of the config does not have it."""
    with pytest.raises(PyociError, match="external mount at /data/sub"):
        restored([{**DATA, "options": ["bind"]}], external("/data"), external("/data/sub", "/data"))


def test_masked_file_gets_a_node_of_its_own() -> None:
    """The checkpoint may have a writable mount, through which container root could change the host's node."""
    made = restored([], external("/proc/kcore"), linux={"maskedPaths": ["/proc/kcore", "/proc/keys"]})

    assert {"root": "/bundle/rootfs", "0": "/dev/null"} == sources(made)
    assert ["open_rootfs", "make_device_filesystem", "make_device"] == [op.verb for op in made.plan.opening]


def test_masked_file_gets_the_node_of_the_host_read_only() -> None:
    """A runtime in a user namespace can't make nodes."""
    masked = {"maskedPaths": ["/proc/kcore"]}
    host = facts.Host(user_namespace=True)
    made = restored([], external("/proc/kcore", flags=RDONLY), linux=masked, host=host)

    assert ["open_rootfs", "open_null"] == [op.verb for op in made.plan.opening]
    with pytest.raises(PyociError, match="without ro"):
        restored([], external("/proc/kcore"), linux=masked, host=host)


@pytest.mark.parametrize(("count", "source"), [(1, "/srv/data"), (2, "/dev/null")])
def test_mask_on_a_volume_has_the_same_key(count: int, source: str) -> None:
    """A masked file of a bind mount is two mounts at one path. CRIU can give both only one source: the mask."""
    found = [external("/data") for _ in range(count)]
    made = restored([{**DATA, "options": ["bind"]}], *found, linux={"maskedPaths": ["/data"]})

    assert source == sources(made)["0"]


def test_missing_mount_points_are_made_in_their_source() -> None:
    """Those of the root filesystem and of volumes. The checkpoint has the content of a container's own filesystems."""
    made = restored(
        [{"destination": "/dev", "type": "tmpfs"}, {**DATA, "options": ["bind"]}],
        mount("/dev", type="tmpfs"),
        mount("/dev/pts", "/dev", type="devpts"),
        external("/data"),
        mount("/data/tmp", "/data", type="tmpfs"),
        mount("/etc/read-only", root="/etc/read-only"),
        mount("/sys/fs/cgroup", type="cgroup2", root="/../box"),
    )

    assert [
        ("/dev", "/dev", True),
        ("/data", "/data", False),
        ("/data/tmp", "/tmp", True),
        ("/sys/fs/cgroup", "/sys/fs/cgroup", True),
    ] == points(made)


def test_socket_for_sd_notify_is_a_source() -> None:
    """If a service manager listens now."""
    flags = RDONLY | NOSUID | 4 | 8
    made = restored([], external("/run/notify", flags=flags), notify="/run/pyoci/box/notify/notify.sock")

    assert {"root": "/bundle/rootfs", "0": "/run/pyoci/box/notify"} == sources(made)
    restored([], notify="/run/pyoci/box/notify/notify.sock")
    with pytest.raises(PyociError, match="external mount at /run/notify"):
        restored([], external("/run/notify", flags=flags))


def test_network_namespace_starts_empty() -> None:
    """The checkpoint has nothing of it. The runtime brings loopback up and writes its parameters."""
    namespaces = [{"type": "mount"}, {"type": "network"}, {"type": "ipc"}]
    parameters = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192"}
    made = restored([], linux={"namespaces": namespaces, "sysctl": parameters})
    [op] = made.plan.at[NET_DEVICES]

    assert CLONE_NEWNET == made.options["empty_ns"]
    assert isinstance(op, verbs.SetUpNetwork)
    assert (("/linux/sysctl/net.ipv4.ip_forward", "net/ipv4/ip_forward", "1"),) == op.parameters


@pytest.mark.parametrize(
    ("namespaces", "message"),
    [
        ([], "/linux/namespaces: .* without its own mount namespace"),
        ([{"type": "mount", "path": "/run/mnt"}], "/linux/namespaces/0/path: .* without its own mount namespace"),
        (
            [{"type": "mount"}, {"type": "user"}, {"type": "network", "path": "/run/netns/a"}],
            "/linux/namespaces/2/path: .* can't join a network namespace",
        ),
        ([{"type": "mount"}, {"type": "cgroup", "path": "/c"}], "/linux/namespaces/1/path: .* join a cgroup namespace"),
    ],
)
def test_namespaces_that_criu_cannot_restore(namespaces: list[dict[str, str]], message: str) -> None:
    """They are refused before CRIU starts."""
    with pytest.raises(PyociError, match=message):
        restored([], linux={"namespaces": namespaces, **(MAPPINGS if {"type": "user"} in namespaces else {})})


def test_criu_in_the_covered_directory_is_refused() -> None:
    """CRIU executes itself and its libraries by their paths."""
    with pytest.raises(PyociError, match="cannot run criu from /tmp/criu: "):
        restored([], program="/tmp/criu")


@pytest.mark.parametrize(
    ("label", "new_keyring", "expected"),
    [
        ("", True, ["set_pdeathsig", "join_keyring", "unshare"]),
        ("", False, ["set_pdeathsig", "unshare"]),
        ("u:r:t:s0", True, ["set_pdeathsig", "open_proc", "write_attr", "join_keyring", "unshare"]),
    ],
)
def test_restored_processes_have_their_own_keyring(label: str, new_keyring: bool, expected: list[str]) -> None:
    """They would have the engine's: images have no keyrings. With a label, the keyring has it, too."""
    made = restored([], label=label, new_keyring=new_keyring, host=facts.Host(selinux=True))

    assert expected == [op.verb for op in made.plan.init][: len(expected)]


def test_restored_processes_inherit_what_images_lack() -> None:
    """The process that becomes CRIU has the memory policy and the I/O priority; images have the scheduling policy."""
    document = {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "cwd": "/",
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
            "scheduler": {"policy": "SCHED_BATCH"},
        },
        "linux": {"namespaces": [{"type": "mount"}], "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}},
    }
    loaded, _ = config.load(json.dumps(document).encode())
    request: Any = type("Request", (), {"options": CriuOptions(), "image_path": "/images"})
    options = facts.Options("/bundle", "box")
    made = compile_restore(loaded, facts.Host(), options, image_of([ROOT]), request, CRIU)

    found = [op.verb for op in made.plan.init]
    at = found.index("reset_affinity") + 1
    assert ["set_memory_policy", "set_io_priority", "set_umask"] == found[at : at + 3]
    assert "set_scheduler" not in found
