"""Golden plans: what every feature compiles to, as `pyoci plan` prints it. PYOCI_UPDATE_PLANS=1 writes them anew."""

import json
import os
import sys

import pytest

from pyoci import config
from pyoci.cgroups import resources
from pyoci.compiler import (
    create,
    devices,
    facts,
    memory_policy,
    mounts,
    namespaces,
    operations,
    process,
    seccomp,
    show,
    verbs,
)
from pyoci.compiler.block import HEADER, NULL, encode
from pyoci.compiler.decode import decode
from pyoci.compiler.exec import ExecTarget, compile_exec
from pyoci.compiler.verbs.numbers import INIT, READY
from pyoci.errors import ConfigError
from tests.support.goldens import (
    EXEC,
    EXEC_NAMES,
    NAMES,
    PLAIN_USER,
    PLANS,
    RESTORE_NAMES,
    compiled,
    compiled_exec,
    compiled_restore,
)


def test_clocks_that_there_are_not() -> None:
    """Of timeOffsets what the specification does not know is ignored, whatever it is."""
    document, _ = config.load((PLANS / "time.json").read_bytes())
    expected = show.text(create.compile_container(document, facts.Host(), facts.Options("/bundle", "box")))
    document["linux"]["timeOffsets"] |= {"tai": {"secs": 1}, "unified": "/"}
    plan = create.compile_container(document, facts.Host(), facts.Options("/bundle", "box"))

    assert expected == show.text(plan)


@pytest.mark.parametrize("name", NAMES)
def test_every_mount_of_the_child_has_been_opened(name: str) -> None:
    """An operation that binds a mount, or maps the ids of one, follows the operation that opens its slot."""
    plan = compiled(name)
    opened = {0}  # no user namespace
    for op in [*plan.before, *plan.opening]:
        opened |= {getattr(op, slot) for slot in ("tree", "users", "namespace") if hasattr(op, slot)}
    for child in plan.child():
        if isinstance(child, verbs.BindMount):
            assert child.tree in opened, child
        if isinstance(child, verbs.Mount):
            assert child.users in opened, child
        opened.add(getattr(child, "tree", 0))


@pytest.mark.parametrize("name", EXEC_NAMES)
def test_plan_of_exec_is_the_golden_one(name: str) -> None:
    """Each process compiles to the plan beside it."""
    printed = show.text(compiled_exec(name))
    golden = EXEC / f"{name}.plan"
    if os.environ.get("PYOCI_UPDATE_PLANS"):
        golden.write_text(printed)

    assert golden.read_text() == printed


@pytest.mark.parametrize(("host", "verified"), [(facts.Host(), True), (PLAIN_USER, False)])
def test_namespaces_are_verified_by_who_may_look_at_them(host: facts.Host, verified: bool) -> None:
    """The plan promises no comparison that a plain user could not make."""
    process_, _ = config.load_process((EXEC / "process.json").read_bytes())
    for label in ("apparmorProfile", "selinuxLabel"):
        process_.pop(label, None)
    plan = compile_exec(process_, ExecTarget("box", ["user", "mount"], {}), host)

    assert verified == ("verify_namespaces" in [op.verb for op in plan.parent()])


@pytest.mark.may_skip("the order of the last operations depends on what this machine's filter allows")
@pytest.mark.parametrize("name", NAMES)
def test_plan_is_the_golden_one(name: str) -> None:
    """Each example compiles to the plan beside it."""
    if name == "joined-pids" and os.uname().machine != "x86_64":
        pytest.skip("this plan has a filter of x86-64")
    printed = show.text(compiled(name))
    golden = PLANS / f"{name}.plan"
    if os.environ.get("PYOCI_UPDATE_PLANS"):
        golden.write_text(printed)

    assert golden.read_text() == printed


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        (facts.Host(), False),
        (facts.Host(uid=1000), False),  # it has CAP_SETGID
        (facts.Host(capabilities=process.CAP_SYS_ADMIN), False),
        (facts.Host(user_namespace=True), True),
        (facts.Host(uid=1000, capabilities=process.CAP_SYS_ADMIN), True),
    ],
)
def test_groups_are_kept_by_a_runtime_without_power_over_them(host: facts.Host, kept: bool) -> None:
    """The annotation is ignored, in the plan and with a warning, by one that holds groups of the host; so in exec."""
    annotations = {"run.oci.keep_original_groups": "1"}
    document, _ = config.load((PLANS / "annotations.json").read_bytes())
    document["annotations"] = annotations
    created = create.compile_container(document, host, facts.Options("/bundle", "box"))
    added = compile_exec(document["process"], ExecTarget("box", ["mount"], {}, annotations=annotations), host)

    for plan in (created, added):
        assert kept == ("set_groups" not in [op.verb for op in plan.child()])
        assert kept == (not plan.ignored)
        assert [op.where for op in plan.ignored] == [text.partition(":")[0] for text in plan.warnings]


@pytest.mark.parametrize("value", ["", "0", "true"])
def test_groups_are_not_kept_for_other_values(value: str) -> None:
    """It is set to 1."""
    document, _ = config.load((PLANS / "annotations.json").read_bytes())
    document["annotations"] = {"run.oci.keep_original_groups": value}
    host = facts.Host(user_namespace=True)
    plan = create.compile_container(document, host, facts.Options("/bundle", "box"))

    assert "set_groups" in [op.verb for op in plan.child()]
    assert [] == plan.ignored


def test_annotation_without_effect_is_in_the_plan_for_programs() -> None:
    """By its pointer, with a value of at most 64 characters."""
    document, _ = config.load((PLANS / "annotations.json").read_bytes())
    document["annotations"] = {"run.oci.handler": "k" * 65, "module.wasm.image/variant": ""}
    plan = create.compile_container(document, facts.Host(), facts.Options("/bundle", "box"))
    printed = json.loads(show.as_json(plan))
    why = "pyoci has no handlers and runs the program in a plain container"

    assert [
        {
            "verb": "ignore_annotation",
            "object": f"run.oci.handler = {'k' * 64}…  ({why})",
            "where": "/annotations/run.oci.handler",
        }
    ] == printed["ignored"]
    assert [f"/annotations/run.oci.handler: ignored run.oci.handler = {'k' * 64}…: {why}"] == plan.warnings


@pytest.mark.parametrize("name", NAMES)
def test_compiling_is_pure(name: str) -> None:
    """The same config gives the same plan, encoded to the same bytes."""
    once, again = ([encode(ops, first=first) for first, ops in compiled(name).blocks()] for _ in range(2))
    assert once == again


@pytest.mark.parametrize("name", NAMES)
def test_every_decision_names_the_property_it_came_from(name: str) -> None:
    """An operation without a JSON pointer is one that every container has."""
    everywhere = {
        "set_pdeathsig", "set_dumpable", "setsid", "join_keyring", "mknod", "bind_device", "make_device", "open_device", "symlink",
        "clone_device", "hide_caller", "reset_affinity", "sync", "close_fds", "wait_start", "commit",
        "protect_stdio", "receive_plan", "record_process", "save_exec_settings",
    }  # fmt: skip
    plan = compiled(name)

    assert everywhere >= {op.verb for op in [*plan.child(), *plan.parent()] if not op.where}


def test_no_text_of_the_config_begins_a_line_of_the_plan() -> None:
    """An annotation of an image, a variable or an argument with line breaks shows no operation that is not there."""
    forged = "\n99  exec  /bin/true"
    document, _ = config.load((PLANS / "annotations.json").read_bytes())
    document["annotations"] = {f"org.systemd.property.X{forged}": forged}
    document["process"]["args"] = ["sh", "-c", forged]
    options = facts.Options("/bundle", "box", cgroup_manager="systemd")
    printed = show.text(create.compile_container(document, facts.Host(), options))

    assert 4 == printed.count(r"\n99")
    assert [] == [line for line in printed.split("\n") if line.startswith("99")]


@pytest.mark.parametrize(
    ("namespaces_", "owns_pids", "visible"),
    [
        (["mount"], True, False), (["mount"], False, True), (["mount", "pid"], False, False),
        (["user", "mount"], True, True), (["user", "mount", "pid"], True, False), (["user", "mount", "pid"], False, False),
    ],
)  # fmt: skip
def test_a_procfs_is_new_where_the_kernel_gives_one(namespaces_: list[str], owns_pids: bool, visible: bool) -> None:
    """Who does not own the pid namespace gets none: the one at /proc takes its place."""
    host = facts.Host(apparmor=True, owns_pids=owns_pids)
    document, _ = config.load((PLANS / "host-pids.json").read_bytes())
    document["linux"]["namespaces"] = [{"type": kind} for kind in (*namespaces_, "network", "ipc")]
    if "user" not in namespaces_:
        document["linux"].pop("uidMappings")
        document["linux"].pop("gidMappings")
    plan = create.compile_container(document, host, facts.Options("/bundle", "box"))

    [op] = [op for op in plan.init if op.verb == "open_proc"]
    assert ("the one at /proc" if visible else "") == show.phrase(op)
    assert visible == op.visible


def test_exec_needs_no_procfs_of_the_container() -> None:
    """Labels are written where the host's procfs shows the process: before it joins anything."""
    names = [op.verb for op in compiled_exec("process").child()]

    assert "open_proc" not in names
    assert names.index("write_attr") < names.index("join_namespace") < names.index("clone_init")


@pytest.mark.parametrize("early", [True, False])
def test_exec_clones_when_all_is_settled(early: bool) -> None:
    """The program's process sets nothing that it could inherit; a filter that forbids the set-up is its own to load."""
    document, _ = config.load_process((EXEC / "user.json").read_bytes())
    filter_ = seccomp.compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, "x86_64")
    box = ExecTarget("box", ["pid", "mount"], {}, filter_, early_filter=early)
    plan = compile_exec(document, box, facts.Host(selinux=True))

    expected = ["setsid", "sync", *([] if early else ["load_seccomp"]), "exec"]
    assert expected == [op.verb for op in plan.init]
    assert early == ("load_seccomp" in [op.verb for op in plan.bootstrap])


def test_goldens_show_every_verb() -> None:
    """Every verb of the child but the ones for special hosts appears in a golden plan, so that its printing is seen."""
    shown = {op.verb for name in NAMES for op in compiled(name).child()}
    shown |= {op.verb for name in EXEC_NAMES for op in compiled_exec(name).child()}
    shown |= {op.verb for name in RESTORE_NAMES for op in compiled_restore(name).plan.child()}

    special = {"move_root", "set_rlimit", "set_scheduler", "set_io_priority"}
    assert special == {verb.verb for verb in verbs.CHILD} - shown


def test_parent_verbs_are_all_known() -> None:
    """What a plan asks of the runtime is a verb of the runtime."""
    asked = {type(op) for name in NAMES for op in compiled(name).parent()}
    asked |= {type(op) for name in EXEC_NAMES for op in compiled_exec(name).parent()}
    asked |= {type(op) for name in RESTORE_NAMES for op in compiled_restore(name).plan.parent()}

    assert asked <= set(verbs.PARENT)


def test_a_value_cannot_forge_a_line() -> None:
    """Control characters of the config are shown as escapes."""
    document, _ = config.load((PLANS / "minimal.json").read_bytes())
    document["process"]["args"] = ["sh\n99  exec  /bin/true", "\x1b[2J"]
    printed = show.text(create.compile_container(document, facts.Host(), facts.Options("/bundle", "box")))

    assert "sh\\n99  exec  /bin/true \\x1b[2J" in printed


def test_no_pivot_and_no_keyring() -> None:
    """--no-pivot moves the root instead; --no-new-keyring leaves the keyring alone."""
    names = [op.verb for op in compiled("minimal", no_pivot=True, new_keyring=False).init]

    assert ["move_root"] == [verb for verb in names if verb in ("move_root", "pivot_root", "join_keyring")]


def test_disabled_cgroup_manager_plans_no_cgroup() -> None:
    """--cgroup-manager disabled: neither a cgroup nor limits nor a device filter nor an owner."""
    of_cgroup = {"make_cgroup", "write_cgroup", "attach_device_filter", "chown_cgroup"}
    of_cgroups = [
        {op.verb for name in ("resources", "user") for op in compiled(name, **options).parent()} & of_cgroup
        for options in ({}, {"cgroup_manager": "disabled"})
    ]

    assert [of_cgroup, set()] == of_cgroups


def test_the_program_gets_its_notify_socket() -> None:
    """In place of one that the config has, which would be another's."""
    (exec_,) = [op for op in compiled("sd-notify").init if op.verb == "exec"]

    assert ["NOTIFY_SOCKET=/run/notify/notify.sock"] == [v for v in exec_.envp if v.startswith("NOTIFY_SOCKET=")]


@pytest.mark.parametrize("without", ["process", "namespaces"])
def test_no_notify_socket_if_the_program_could_not_use_it(without: str) -> None:
    """Without a program, and without a mount namespace, where the mount would be the host's."""
    document, _ = config.load((PLANS / "no-mount-namespace.json").read_bytes())
    if without == "process":
        document, _ = config.load((PLANS / "sd-notify.json").read_bytes())
        del document["process"]
    options = facts.Options("/bundle", "box", notify="/run/pyoci/box/notify/notify.sock")
    plan = create.compile_container(document, facts.Host(), options)

    assert [] == [op for op in [*plan.child(), *plan.parent()] if op.where == mounts.NOTIFY]
    assert [] == [v for op in plan.init for v in getattr(op, "envp", ()) if v.startswith("NOTIFY_SOCKET=")]


def test_labels_need_their_lsm() -> None:
    """A label that nothing would enforce is an error, and all of them are named."""
    document, _ = config.load((PLANS / "minimal.json").read_bytes())
    document["process"]["apparmorProfile"] = "box"
    document["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0"
    with pytest.raises(ConfigError) as caught:
        create.compile_container(document, facts.Host(), facts.Options("/bundle", "box"))

    assert ["/process/apparmorProfile", "/linux/mountLabel"] == [problem.where for problem in caught.value.problems]


def test_an_owner_that_a_bound_device_cannot_have_is_a_warning() -> None:
    """In a user namespace the host's node stays unchanged; equal ids cause no warning."""
    document, _ = config.load((PLANS / "user.json").read_bytes())
    device = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}
    pipe = {"path": "/dev/pipe", "type": "p", "uid": 5}
    document["linux"]["devices"] = [{**device, "uid": 0, "gid": 0}, {**device, "uid": 5, "gid": 6}, pipe]
    host = facts.Host(capabilities=~(1 << 27))  # CAP_MKNOD
    plan = create.compile_container(document, host, facts.Options("/bundle", "box"))
    why = "ignored: the container gets the host's device, because a user namespace can't make nodes"

    assert [f"/linux/devices/1/uid: {why}", f"/linux/devices/1/gid: {why}"] == plan.warnings


def test_mount_label_reaches_the_filesystems_that_take_one() -> None:
    """tmpfs gets context=…, proc does not; a context of the mount's own stays."""
    document, _ = config.load((PLANS / "mounts.json").read_bytes())
    document["linux"]["mountLabel"] = "label"
    host = facts.Host(selinux=True)
    plan = create.compile_container(document, host, facts.Options("/bundle", "box"))
    labelled = {op.type for op in plan.init if isinstance(op, verbs.Mount) and "context=label" in op.options}

    assert {"tmpfs"} == labelled


def test_labels_are_written_to_the_process_own_attributes() -> None:
    """AppArmor and SELinux labels go through a private procfs, for the next execve; the keyring's label comes first."""
    document, _ = config.load((PLANS / "minimal.json").read_bytes())
    document["process"].update(apparmorProfile="box", selinuxLabel="label")
    host = facts.Host(apparmor=True, selinux=True)
    plan = create.compile_container(document, host, facts.Options("/bundle", "box"))

    assert [
        ("open_proc", ""),
        ("write_attr", "thread-self/attr/keycreate"),
        ("join_keyring", ""),
        ("write_attr", "thread-self/attr/apparmor/exec"),
        ("write_attr", "thread-self/attr/exec"),
    ] == [
        (op.verb, getattr(op, "path", "")) for op in plan.init if op.verb in ("open_proc", "write_attr", "join_keyring")
    ]


@pytest.mark.parametrize(
    ("key", "value", "written", "read"),
    [
        ("apparmorProfile", "box", "exec box", "box"),
        ("apparmorProfile", "a//&b", "exec a//&b", ""),
        ("apparmorProfile", ":namespace:box", "exec :namespace:box", ""),
        ("selinuxLabel", "u:r:t:s0:c2,c1", "u:r:t:s0:c2,c1", "u:r:t"),
    ],
)
def test_labels_are_read_back(key: str, value: str, written: str, read: str) -> None:
    """As much of a label as the kernel writes in one way only."""
    (op,) = list(process.security_labels({key: value}))

    assert (written, read) == (op.value, op.expected)


@pytest.mark.parametrize(
    ("mount", "where", "message"),
    [
        ({"destination": "/"}, "/mounts/0/destination", "over the container's root"),
        ({"destination": "/a/..", "type": "tmpfs"}, "/mounts/0/destination", "over the container's root"),
        ({"destination": "/a", "source": "/b", "options": ["bind", "size=1m"]}, "/mounts/0/options/1", "`size=1m`"),
        ({"destination": "/a", "options": ["ro"]}, "/mounts/0", "needs a type"),
        ({"destination": "/a", "type": "tmpfs", "options": ["copy-symlink"]}, "/mounts/0", "a bind mount only"),
        (
            {"destination": "/a", "source": "/b", "options": ["bind", "remount", "copy-symlink"]},
            "/mounts/0",
            "a bind mou",
        ),
        ({"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}, "/mounts/0", "tmpfs only"),
        ({"destination": "/a", "type": "tmpfs", "options": ["tmpcopyup", "remount"]}, "/mounts/0", "new tmpfs only"),
        (
            {"destination": "/a", "options": ["remount", "sync", "dirsync"]},
            "/mounts/0/options/2",
            "cannot change dirsync",
        ),
    ],
)
def test_mounts_that_cannot_be(mount: dict[str, object], where: str, message: str) -> None:
    """A mount that can't be applied as written is an error with the pointer of its reason."""
    with pytest.raises(ConfigError, match=message) as caught:
        mounts.compile_mounts({"mounts": [mount]}, operations.Slots(), bundle="/bundle")

    assert where == caught.value.problems[0].where


@pytest.mark.parametrize(
    ("options", "set_", "clear"),
    [
        (["ro"], 1, 0),
        (["ro", "rw"], 0, 1),
        (["rw", "ro"], 1, 0),
        (["nosuid", "nodev", "noexec"], 14, 0),
        (["noatime"], 0x10, 0x70),
        (["noatime", "relatime"], 0, 0x70),
        (["relatime", "strictatime"], 0x20, 0x70),
        (["nodiratime", "diratime"], 0, 0x80),
        (["defaults", "silent", "loud", "iversion", "noiversion"], 0, 0),
    ],
)
def test_mount_attributes(options: list[str], set_: int, clear: int) -> None:
    """Options become attributes; the later of a pair wins; an access-time mode clears the whole field."""
    mount = mounts.Mount({"destination": "/a", "options": options}, 0)

    assert (set_, clear) == (mount.attr_set, mount.attr_clear)
    assert [] == mount.data


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        ("size=64k", ["size=64k"]),
        ("size=64k,,mode=700,", ["size=64k", "mode=700"]),
        ("mpol=bind:0-1,3,size=64k", ["mpol=bind:0-1,3", "size=64k"]),
        ("lowerdir=/a\\,b,upperdir=/c", ["lowerdir=/a\\,b", "upperdir=/c"]),
        ("lowerdir=/a\\\\,upperdir=/c", ["lowerdir=/a\\\\", "upperdir=/c"]),
        ('lowerdir=/a"b,upperdir=/c', ['lowerdir=/a"b', "upperdir=/c"]),
        ("context=u:r:t:s0:c1,c2", ["context=u:r:t:s0:c1,c2"]),
        ("context=u:r:t:s0:c1,c2,mode=700", ["context=u:r:t:s0:c1,c2", "mode=700"]),
        ('mode=700,rootcontext="u:r:t:s0:c1,c2"', ["mode=700", "rootcontext=u:r:t:s0:c1,c2"]),
        ("", []),
    ],
)
def test_options_of_a_filesystem_in_one_string(option: str, parts: list[str]) -> None:
    """They are taken apart where mount(2) would, but not in a value that has commas; each leads back to the string."""
    mount = mounts.Mount({"destination": "/a", "options": ["ro", option]}, 0)

    assert (parts, ["/mounts/0/options/1"] * len(parts)) == (mount.data, mount.data_where)


def test_every_namespace_is_cloned_joined_or_unshared_once() -> None:
    """Whatever the mix of new and joined namespaces, each is entered exactly once."""
    kinds = list(namespaces.CLONE_FLAGS)
    for joined in range(1 << len(kinds)):
        entries = [
            {"type": kind, "path": f"/{kind}"} if joined >> n & 1 else {"type": kind} for n, kind in enumerate(kinds)
        ]
        linux = {"namespaces": entries, "timeOffsets": {"monotonic": {"secs": 1}} if not joined & 1 else {}}
        kinds_ = namespaces.Namespaces(linux, (6, 18))
        writer = namespaces.IdMapWriter(linux, kinds_, 0, 0, process.ALL_CAPABILITIES)
        entry = namespaces.enter_namespaces(kinds_, writer, operations.Slots(), [], dumpable=False, privileged=True)
        flags = [flag for flag in namespaces.CLONE_FLAGS.values() if entry.clone_flags & flag]
        for op in (
            *entry.bootstrap,
            *entry.init,
            *namespaces.enter_early(kinds_),
            *namespaces.cgroup_namespace(kinds_),
        ):
            if isinstance(op, verbs.JoinNamespace):
                flags.append(op.types)
            elif isinstance(op, verbs.Unshare):
                flags += [flag for flag in namespaces.CLONE_FLAGS.values() if op.types & flag]

        assert sorted(namespaces.CLONE_FLAGS.values()) == sorted(flags)


@pytest.mark.parametrize(("kernel", "last"), [((6, 17), True), ((6, 16), False)])
def test_joined_pid_namespace_sees_a_settled_process_where_procfs_can_be_asked(
    kernel: tuple[int, int], last: bool
) -> None:
    """Before Linux 6.17 only a process in a pid namespace mounts its procfs, so it is cloned ahead of the mounts."""
    document = json.loads((PLANS / "minimal.json").read_text())
    document["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}]
    document["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    plan = create.compile_container(document, facts.Host(kernel=kernel), facts.Options("/bundle", "box"))
    names = [op.verb for op in plan.child()]

    assert last == (names.index("clone_init") > max(names.index("mount"), names.index("set_capabilities")))


@pytest.mark.parametrize("joined", [True, False])
def test_a_process_in_a_joined_pid_namespace_joins_its_resource_group_by_its_own_pid(joined: bool) -> None:
    """The bootstrap process may clone it before it is in the group itself."""
    document = json.loads((PLANS / "minimal.json").read_text())
    pids = {"type": "pid", "path": "/proc/7/ns/pid"} if joined else {"type": "pid"}
    document["linux"]["namespaces"] = [{"type": "mount"}, pids]
    document["linux"]["intelRdt"] = {"closID": "gold"}
    plan = create.compile_container(document, facts.Host(), facts.Options("/bundle", "box"))

    assert ["join_rdt_group"] == [op.verb for op in plan.alongside if isinstance(op, verbs.JoinRdtGroup)]
    assert joined == any(isinstance(op, verbs.JoinRdtGroup) for op in plan.at.get(INIT, ()))


def test_encoding_shares_strings_and_aligns_blobs() -> None:
    """Equal strings are stored once, offset 0 is the empty one, a blob starts at a multiple of 8."""
    block = encode(
        [
            verbs.Chdir(path="/a", uid=0, gid=0),
            verbs.Chdir(path="/a", uid=0, gid=0),
            verbs.SetGroups(gids=b"12345678"),
            verbs.Exec(argv=["x", ""], envp=["A=b"]),
        ]
    )
    encoded = block[HEADER.size :]
    pool, vectors = decode(block).pool, decode(block).vectors
    first, second, blob = (int.from_bytes(encoded[48 * n + 4 : 48 * n + 8], sys.byteorder) for n in range(3))

    assert first == second
    assert b"/a\0" == pool[first : first + 3]
    assert 0 == blob % 8
    assert b"12345678" == pool[blob : blob + 8]
    assert 8 == int.from_bytes(pool[blob - 4 : blob], sys.byteorder)
    assert [NULL, NULL, NULL] == [vectors[2], vectors[4], vectors[5]]
    assert 0 == vectors[1]


def test_writes_stand_in_the_plan_as_resources_gives_them() -> None:
    """make_cgroup knows each limit that a write_cgroup is going to write."""
    plan = compiled("resources")
    [made] = [op for op in plan.parent() if isinstance(op, verbs.MakeCgroup)]
    written = [op.write for op in plan.parent() if isinstance(op, verbs.WriteCgroup)]

    assert {id(write) for write in made.writes} == {id(write) for write in written}
    assert len(made.writes) == len(written) > 0
    assert all(isinstance(write, resources.Write) for write in written)


def test_pids_limit_waits_until_all_processes_of_the_set_up_were_cloned() -> None:
    """A limit of one process must not forbid the bootstrap process or a hook."""
    plan = compiled("resources")

    assert ["pids.max"] == [op.write.file for op in plan.at[READY] if isinstance(op, verbs.WriteCgroup)]


@pytest.mark.parametrize(("limits", "raised"), [((64, 4096), True), ((64, 64), False), ((1024, 4096), False)])
def test_more_descriptors_than_the_soft_limit(limits: "tuple[int, int]", *, raised: bool) -> None:
    """The plan says that the runtime takes them, and that the program does not inherit that."""
    document, _ = config.load((PLANS / "minimal.json").read_bytes())
    document["mounts"] = [
        {"destination": f"/many/{n}", "type": "none", "source": "/srv", "options": ["bind"]} for n in range(200)
    ]
    plan = create.compile_container(document, facts.Host(open_files=limits), facts.Options("/bundle", "box"))
    own = [op for op in plan.parent() if isinstance(op, verbs.RaiseOwnRlimit)]
    back = [(op.soft, op.hard) for op in plan.init if isinstance(op, verbs.SetRlimit)]
    assert ([limits] if raised else []) == back
    assert raised == bool(own)
    assert all(plan.slots < op.soft <= limits[1] for op in own)
    assert ("raise_own_rlimit" in show.text(plan)) == raised


@pytest.mark.parametrize("host", [facts.Host(capabilities=~(1 << 23)), facts.Host(user_namespace=True)])
def test_priorities_where_the_runtime_may_not_set_them(host: facts.Host) -> None:
    """Without CAP_SYS_NICE of the initial user namespace the process itself does what any process may, of itself."""
    document, _ = config.load((PLANS / "process.json").read_bytes())
    document["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    plan = create.compile_container(document, host, facts.Options("/bundle"))
    child = [op.verb for op in plan.child()]
    first = child.index("set_memory_policy")

    assert ["set_memory_policy", "set_scheduler", "set_io_priority", "sync", "wait_start"] == child[first : first + 5]
    assert not {"sched_setattr", "ioprio_set"} & {op.verb for op in plan.parent()}
    assert "SCHED_BATCH  nice 5" in show.text(plan)


@pytest.mark.parametrize(
    ("scheduler", "shown", "packed"),
    [
        ({"policy": "SCHED_OTHER", "nice": -20}, "SCHED_OTHER  nice -20", (0, 0, -20, 0, 0, 0, 0)),
        ({"policy": "SCHED_RR", "priority": 99}, "SCHED_RR  priority 99", (2, 0, 0, 99, 0, 0, 0)),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2**63 - 1, "flags": ["SCHED_FLAG_DL_OVERRUN"]},
            "SCHED_DEADLINE  runtime 1024  deadline 9223372036854775807  DL_OVERRUN",
            (6, 4, 0, 0, 1024, 2**63 - 1, 0),
        ),
    ],
)
def test_scheduler(scheduler: dict[str, object], shown: str, packed: tuple[int, ...]) -> None:
    """struct sched_attr, and how it is printed."""
    (op,) = process.priorities({"scheduler": scheduler})

    assert (56, *packed, 0, 0) == process.SCHED_ATTR.unpack(op.attributes)
    assert shown == show.phrase(op)


@pytest.mark.parametrize(
    ("nodes", "bits"),
    [("0", [0]), ("0-3, 7", [0, 1, 2, 3, 7]), ("64", [64]), ("1023", [1023]), ("32767", [32767]), ("2-2,1", [1, 2])],
)
def test_nodes_of_a_memory_policy(nodes: str, bits: list[int]) -> None:
    """A mask of whole words, as long as it must be."""
    op = memory_policy.set_memory_policy({"mode": "MPOL_BIND", "nodes": nodes})

    words = enumerate(memoryview(op.mask).cast("L"))
    assert sum(1 << bit for bit in bits) == sum(word << 64 * n for n, word in words)
    assert len(op.mask) % 8 == 0


def test_limits_where_the_runtime_may_not_set_them() -> None:
    """Without CAP_SYS_RESOURCE the container's process lowers its own limits, last of all that may open a file."""
    document = {
        "root": {"path": "rootfs"},
        "process": {
            "args": ["true"],
            "cwd": "/",
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2**64 - 1}],
        },
        "linux": {"namespaces": [{"type": "mount"}]},
    }
    for capabilities, by_runtime in ((-1, True), (~(1 << 24), False)):
        plan = create.compile_container(document, facts.Host(capabilities=capabilities), facts.Options("/bundle"))
        child = [op.verb for op in plan.child()]
        assert by_runtime == any(op.verb == "prlimit" for op in plan.parent())
        assert by_runtime != ("set_rlimit" in child)
        if not by_runtime:
            at = child.index("set_rlimit")
            assert ["set_rlimit", "sync", "wait_start"] == child[at : at + 3]
            assert child.index("close_fds") < at
            assert "RLIMIT_NOFILE  soft 3 hard infinity" in show.text(plan)


def test_capabilities_that_cannot_be_granted() -> None:
    """A warning names them (PROC-21); the sets go without."""
    sets = {
        "bounding": ["CAP_CHOWN", "CAP_SYS_BOOT", "CAP_SYS_RESOURCE"],
        "permitted": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_FOWNER"],
        "ambient": ["CAP_CHOWN", "CAP_FOWNER"],
        "unknown": 1,
    }
    document = {
        "root": {"path": "rootfs"},
        "process": {"args": ["true"], "cwd": "/", "capabilities": sets},
        "linux": {"namespaces": [{"type": "mount"}]},
    }
    host = facts.Host(capabilities=~(1 << 22 | 1 << 24))
    plan = create.compile_container(document, host, facts.Options("/bundle"))

    assert plan.warnings == [
        "/process/capabilities: left out, since the runtime itself lacks them: CAP_SYS_BOOT, CAP_SYS_RESOURCE",
        "/process/capabilities/effective: left out, since `permitted` lacks them: CAP_KILL",
        "/process/capabilities/inheritable: left out, since `bounding` lacks them: CAP_FOWNER",
        "/process/capabilities/ambient: can't raise ambient capability CAP_FOWNER: `permitted` or `inheritable` lacks it",
    ]
    assert [(1, 1, 1)] == [
        (op.effective, op.permitted, op.inheritable) for op in plan.child() if isinstance(op, verbs.SetCapabilities)
    ]


@pytest.mark.parametrize(("binds", "made"), [((0, 1), False), ((1, 0), True), ((1, 2), False), ((0, 2), True)])
def test_devices_of_a_dev_that_is_mounted_twice(binds: tuple[int, int], made: bool) -> None:
    """What lies on top counts: in a /dev of the host's, no node is made or given another owner. 2 is a remount."""
    kinds = (
        {"destination": "/dev", "type": "tmpfs"},
        {"destination": "/dev", "source": "/dev", "options": ["rbind"]},
        {"destination": "/dev", "options": ["remount", "bind", "ro"]},
    )
    document = {
        "root": {"path": "rootfs"},
        "mounts": [kinds[kind] for kind in binds],
        "linux": {"namespaces": [{"type": "mount"}]},
    }
    plan = create.compile_container(document, facts.Host(), facts.Options("/bundle"))

    assert made == any(op.verb in ("mknod", "symlink") for op in plan.init)


def with_device(**device: object) -> dict:
    entry = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, **device}
    mappings = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 10}]
    return {
        "root": {"path": "rootfs"},
        "process": {"args": ["true"], "cwd": "/"},
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "user"}],
            "uidMappings": mappings,
            "gidMappings": mappings[1:],
            "devices": [entry],
        },
    }


@pytest.mark.parametrize(
    ("device", "owner"), [({"gid": 1}, (1000, 100000)), ({"uid": 1, "gid": 10}, (100000, 100009)), ({"uid": 10}, None)]
)
def test_devices_of_a_user_namespace_have_its_owners(device: dict, owner: "tuple[int, int] | None") -> None:
    """The runtime makes the node for an id of the host; an id that is not mapped, root's too, is an error."""
    if owner:
        plan = create.compile_container(with_device(**device), facts.Host(), facts.Options("/bundle"))
        (made,) = [op for op in plan.opening if isinstance(op, verbs.MakeDevice) and op.where]
        assert owner == (made.uid, made.gid)
        return
    with pytest.raises(ConfigError) as caught:
        create.compile_container(with_device(**device), facts.Host(), facts.Options("/bundle"))
    assert ["/linux/devices/0: cannot set the owner of the device: 0 is not in /linux/gidMappings"] == [
        str(problem) for problem in caught.value.problems
    ]


def test_devices_of_a_joined_user_namespace_wait_for_its_mappings() -> None:
    """They are the namespace's own, which can be read once a process is in it; the tmpfs comes before the clone."""
    document = with_device(uid=5, gid=6)
    document["linux"]["namespaces"][1]["path"] = "/proc/1/ns/user"
    del document["linux"]["uidMappings"], document["linux"]["gidMappings"]
    plan = create.compile_container(document, facts.Host(), facts.Options("/bundle"))
    made = [op for op in plan.at[INIT] if isinstance(op, verbs.MakeDevice)]

    assert ["make_device_filesystem"] == [op.verb for op in plan.opening if "device" in op.verb]
    assert 1 + len(devices.DEFAULT_DEVICES) == len(made)
    assert (5, 6, True) == (made[0].uid, made[0].gid, made[0].owner_in_container)


def test_default_devices_without_container_root_cause_no_error() -> None:
    """No process could be that container's init; the error is about that, not about the devices."""
    document = with_device()
    del document["linux"]["devices"]
    plan = create.compile_container(document, facts.Host(), facts.Options("/bundle"))
    assert {(1000, 0)} == {(op.uid, op.gid) for op in plan.opening if isinstance(op, verbs.MakeDevice)}


CHOWN, FOWNER, MKNOD = 0, 3, 27


@pytest.mark.parametrize(
    "host",
    [facts.Host(user_namespace=True), *(facts.Host(capabilities=~(1 << n)) for n in (CHOWN, FOWNER, MKNOD))],
)
def test_devices_are_bound_where_the_runtime_can_make_none(host: facts.Host) -> None:
    """In a user namespace of the runtime's, or without the capabilities to make a node and to give it away."""
    plan = create.compile_container(with_device(), host, facts.Options("/bundle"))
    assert "/dev/x" in [op.path for op in plan.opening if isinstance(op, verbs.OpenDevice)]
    assert "open_devices" not in [op.verb for op in plan.init]


@pytest.mark.parametrize(
    ("kind", "source", "options", "waits"),
    [
        ("tmpfs", "tmpfs", ["size=1m"], False),
        ("ext4", "/dev/loop0", [], True),
        ("btrfs", "none", ["device=/dev/sda"], True),
        ("none", "/srv", ["bind"], False),
    ],
)
def test_the_device_filter_waits_for_mounts_of_devices(kind: str, source: str, options: list, waits: bool) -> None:
    """It is for the container's programs: to mount a device is what the config asks for."""
    document = with_device(gid=1)
    document["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    document["mounts"] = [{"destination": "/m", "type": kind, "source": source, "options": options}]
    plan = create.compile_container(document, facts.Host(), facts.Options("/bundle"))
    places = {"meanwhile": plan.alongside, "ready": plan.at[READY]}

    assert ["ready" if waits else "meanwhile"] == [
        place for place, ops in places.items() if any(op.verb == "attach_device_filter" for op in ops)
    ]
