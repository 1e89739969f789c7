"""pyoci/criu/images.py: facts from CRIU's image files, and what becomes of damaged ones."""

import pytest

from pyoci.criu import images, wire
from pyoci.criu.messages import COMMON_MAGIC, Message
from tests.support import checkpoints

DEFAULT_CAPABILITIES = 0x20000420  # of `pyoci spec`


def entry(magic: int, *messages: bytes) -> bytes:
    """An image file."""
    words = [word.to_bytes(4, "little") for word in (COMMON_MAGIC, magic)]
    return b"".join([*words, *(len(message).to_bytes(4, "little") + message for message in messages)])


def test_decode_returns_processes_with_credentials() -> None:
    """Each task has its parent, its name and what it may do."""
    image = checkpoints.image("plain")
    init, child = image.tasks

    assert (1, 0, "sleep", images.ALIVE) == (init.pid, init.parent, init.name, init.state)
    assert (2, 1) == (child.pid, child.parent)
    credentials = init.threads[0].credentials
    assert (DEFAULT_CAPABILITIES, DEFAULT_CAPABILITIES) == (credentials.bounding, credentials.permitted)
    assert (0, 0) == (credentials.inheritable, credentials.ambient)
    assert credentials.no_new_privs
    assert [0, 0, 0, 0] == credentials.uids
    assert (1024, 1024) == init.rlimits[7]
    assert 0 == init.oom_score_adj


def test_decode_returns_the_seccomp_filters_of_a_thread() -> None:
    """A chain has the program that pyoci has compiled."""
    image = checkpoints.image("plain")
    (thread,) = image.init.threads
    (only,) = image.chain(thread)

    assert images.SECCOMP_MODE_FILTER == thread.mode
    assert len(only.program) % 8 == 0
    assert -1 == only.previous


@pytest.mark.parametrize("is_shared", [True, False])
def test_decode_shares_filters_among_threads(is_shared: bool) -> None:
    """CRIU dumps filters that all threads have once, with the flag for all threads."""
    files = checkpoints.files("plain")
    core = wire.decode(files["core-1.img"][12:])
    del core[3]  # only the first thread has it
    checkpoints.edit_inside(core, [5], lambda thread: [thread.pop(field, None) for field in (11, 12)])
    files["core-7.img"] = entry(images.CORE, checkpoints.encode(core))
    files["pstree.img"] = entry(images.PSTREE, wire.encode([(1, 1), (2, 0), (3, 1), (4, 1), (5, 1), (5, 7)]))
    (program,) = {each.program for each in checkpoints.image("plain").filters}
    filters = wire.encode([(1, wire.encode([(1, program), *([(3, 1)] if is_shared else [])]))])
    files["seccomp.img"] = entry(images.SECCOMP, filters)

    image = images.decode(files)

    first, second = image.init.threads
    assert list(image.chain(first))
    assert (list(image.chain(first)) if is_shared else []) == list(image.chain(second))


def test_decode_returns_mounts_with_their_keys() -> None:
    """A mount says which filesystem it shows, and whether the filesystem comes from outside."""
    image = checkpoints.image("plain")
    mounts = {mount.point: mount for mount in image.init_mounts}

    assert ["/data", "/proc/interrupts", "/proc/keys", "/proc/timer_list"] == image.external_keys()
    assert ("proc", "/", "") == (mounts["/proc"].type, mounts["/proc"].root, mounts["/proc"].key)
    assert ("proc", "/sys") == (mounts["/proc/sys"].type, mounts["/proc/sys"].root)
    assert "/" == images.root_mount(image.init_mounts).point
    assert "cgroup2" == mounts["/sys/fs/cgroup"].type


def test_decode_returns_namespaces() -> None:
    """A namespace of init's own has another number than the host's."""
    image = checkpoints.image("plain")
    own = {kind for kind, number in image.init.namespaces.items() if number != image.host[kind]}

    assert {"pid", "network", "ipc", "uts", "mount", "cgroup"} == own
    assert {("network", image.init.namespaces["network"]): "", ("pid", image.init.namespaces["pid"]): ""} == (
        image.external
    )
    assert {} == image.id_maps


def test_decode_returns_id_maps() -> None:
    """The maps are those of config.json. Credentials have the container's ids."""
    image = checkpoints.image("user")
    maps = image.id_maps[image.init.namespaces["user"]]

    assert ([(0, 100000, 65536)], [(0, 100000, 65536)]) == (maps.uids, maps.gids)
    assert [1000, 1000, 1000, 1000] == image.init.threads[0].credentials.uids
    assert "/dev/null" in image.external_keys()


def test_decode_returns_terminals() -> None:
    """A terminal whose master no process has open is the engine's."""
    assert [False, False, True] == [checkpoints.image(name).has_terminal() for name in checkpoints.NAMES]


def test_decode_returns_names_of_cgroups() -> None:
    """Threads refer to sets of cgroups."""
    image = checkpoints.image("plain")
    assert image.cgroups is not None

    assert "/h2plain" in image.cgroups.paths
    assert "name=systemd" in image.cgroups.names
    assert not image.has_sub_cgroups
    second = image.tasks[1].threads[0]
    image.cgroups.of_threads[second.cgroups][""] += "/below"
    assert image.has_sub_cgroups


def test_init_may_be_in_a_cgroup_below_the_container_s() -> None:
    """CRIU has the length of the path of the cgroup namespace's root."""
    path, root = "/box/below", len("/box")
    member = {1: [b""], 2: [path.encode()], 3: [root]}
    kinds = {root: True, len(path): False}
    for number, expected in kinds.items():
        data = checkpoints.encode({1: [checkpoints.encode({1: [2], 2: [checkpoints.encode({**member, 3: [number]})]})]})
        assert expected == (2 in images.Cgroups(Message(data)).below_root)


def test_decode_names_a_missing_file() -> None:
    """Each file that another one refers to must be there."""
    for name in checkpoints.files("user"):
        if name in ("cgroup.img", "tty-info.img", "seccomp.img") or name.startswith("netns-"):
            continue  # CRIU leaves it out if there is nothing to say
        left = {file: data for file, data in checkpoints.files("user").items() if file != name}
        with pytest.raises(images.DamagedImage) as caught:
            images.decode(left)
        expected = f"cannot restore the container: checkpoint image {name} is damaged: it is missing"
        assert expected == str(caught.value)


@pytest.mark.parametrize("name", sorted(checkpoints.files("user")))
def test_decode_survives_damage_anywhere(name: str) -> None:
    """A file that is cut or has another byte decodes to something, or ends in the one error that names a file."""
    files = checkpoints.files("user")
    whole = files[name]
    step = max(1, len(whole) // 100)
    variants = [whole[:size] for size in range(0, len(whole), step)]
    for change in (0x01, 0x80, 0xFF):
        changed = (whole[:at] + bytes((whole[at] ^ change,)) + whole[at + 1 :] for at in range(0, len(whole), step))
        variants.extend(changed)
    errors = [error for damaged in variants if (error := decode_error({**files, name: damaged}))]

    assert errors
    assert all(error.startswith("cannot restore the container: checkpoint image ") for error in errors)
    assert all(error.isprintable() for error in errors)


def decode_error(files: dict[str, bytes]) -> str:
    """The text of the error, "" if the files decode."""
    try:
        images.decode(files)
    except images.DamagedImage as error:
        return str(error)
    return ""


def test_decode_rejects_a_value_that_occurs_twice() -> None:
    """CRIU would take the last one."""
    files = checkpoints.files("plain")
    data = files["ids-2.img"]
    message = data[12:] + wire.encode([(5, 1)])  # a second pid namespace: the host's

    with pytest.raises(images.DamagedImage, match="field 5 occurs 2 times"):
        images.decode({**files, "ids-2.img": entry(images.IDS, message)})


def test_decode_rejects_numbers_that_criu_would_cut() -> None:
    """A uint32 of CRIU has 32 bits."""
    files = checkpoints.files("plain")
    message = wire.encode([(1, 1 << 32 | 2), (2, 2), (3, 2), (4, 2)])

    with pytest.raises(images.DamagedImage, match=r"ids-2\.img is damaged"):
        images.decode({**files, "ids-2.img": entry(images.IDS, message)})
    with pytest.raises(ValueError, match="field 1 is too large"):
        Message(message).number(1)


def test_decode_rejects_strings_that_criu_would_end_earlier() -> None:
    """A string of C ends at NUL."""
    with pytest.raises(ValueError, match="field 7 has a NUL byte"):
        Message(wire.encode([(7, b"/data\0/etc")])).text(7)


def test_decode_rejects_filters_in_a_circle() -> None:
    """CRIU would load them forever."""
    files = checkpoints.files("plain")
    circle = [wire.encode([(1, bytes(8)), (2, 1)]), wire.encode([(1, bytes(8)), (2, 0)])]
    message = wire.encode([(1, each) for each in circle])

    with pytest.raises(images.DamagedImage, match=r"seccomp\.img is damaged: its filters form no chain"):
        images.decode({**files, "seccomp.img": entry(images.SECCOMP, message)})


def test_decode_follows_long_chains_of_filters() -> None:
    """The time grows with the number of filters, not with its square."""
    files = checkpoints.files("plain")
    chain = [wire.encode([(1, bytes(8)), *([(2, index - 1)] if index else [])]) for index in range(50_000)]
    message = wire.encode([(1, each) for each in chain])

    image = images.decode({**files, "seccomp.img": entry(images.SECCOMP, message)})

    assert 50_000 == len(image.filters)


@pytest.mark.parametrize(
    "tree",
    [
        [(1, 0, [1]), (2, 3, [2]), (3, 1, [3])],
        [(1, 0, [1]), (1, 1, [1])],
        [(1, 0, [1]), (2, 0, [2])],
        [(1, 0, [1]), (2, 1, [2, 1])],
        [(1, 0, [2])],
        [(0, 0, [0])],
        [],
    ],
    ids=["parent-later", "twice", "two-inits", "shared-thread", "other-leader", "pid-0", "empty"],
)
def test_decode_rejects_impossible_trees(tree: list[tuple[int, int, list[int]]]) -> None:
    """Every process has its own threads, and a parent that CRIU makes before it."""
    files = checkpoints.files("plain")
    messages = [
        wire.encode([(1, pid), (2, parent), (3, 1), (4, 1), *((5, thread) for thread in threads)])
        for pid, parent, threads in tree
    ]

    with pytest.raises(images.DamagedImage, match=r"pstree\.img is damaged"):
        images.decode({**files, "pstree.img": entry(images.PSTREE, *messages)})


def test_decode_rejects_mount_points_outside_the_root() -> None:
    """CRIU makes paths of the host of them."""
    files = checkpoints.files("plain")
    fields: list[tuple[int, int | bytes]] = [(1, 5), (2, 1), (3, 1), (4, 2), (5, 0)]
    texts: list[tuple[int, int | bytes]] = [(6, b"/"), (7, b"/../../etc"), (8, b"none"), (9, b"")]

    with pytest.raises(images.DamagedImage, match=r"`/../../etc` is not a mount point"):
        images.decode({**files, "mountpoints-13.img": entry(images.MNTS, wire.encode([*fields, *texts]))})


def test_decode_rejects_other_formats() -> None:
    """The images of a CRIU before 2.0 have other files."""
    files = checkpoints.files("plain")
    data = bytearray(files["inventory.img"])
    data[9] = 1  # img_version

    with pytest.raises(images.DamagedImage, match=r"inventory\.img is damaged: its format is 1 instead of 2"):
        images.decode({**files, "inventory.img": bytes(data)})


@pytest.mark.parametrize("run", [b"x; flush ruleset", b"a b", b"\xc2\xb2"])
def test_decode_rejects_run_ids_with_commands(run: bytes) -> None:
    """CRIU puts the id into commands of nft, which may run in the host's network namespace."""
    files = checkpoints.files("plain")
    message = checkpoints.encode({**wire.decode(files["inventory.img"][8:]), 13: [run]})
    data = files["inventory.img"][:4] + len(message).to_bytes(4, "little") + message

    with pytest.raises(images.DamagedImage, match=r"inventory\.img is damaged: it has the run id "):
        images.decode({**files, "inventory.img": data})


def test_names_of_files() -> None:
    """Only files with facts are read: not the memory of the container."""
    read = ["core-1.img", "inventory.img", "mountpoints-13.img", "pstree.img", "seccomp.img", "tty-info.img"]
    left = [
        "pages-1.img",
        "core-.img",
        "core-1.img.gz",
        "tmpfs-dev-64.tar.gz.img",
        "dump.log",
        "core-x.img",
        "core.img",
    ]

    assert [True] * len(read) == [images.is_read(name) for name in read]
    assert [False] * len(left) == [images.is_read(name) for name in left]


def test_decode_rejects_credentials_that_occur_twice() -> None:
    """CRIU joins the messages: it would add the second one's capabilities to the first one's."""
    files = checkpoints.files("plain")
    core = Message(files["core-2.img"][12:])
    thread = core.data(5) + wire.encode([(10, wire.encode([(1, 0)]))])
    message = wire.encode([(1, 1), (3, core.data(3)), (5, thread)])

    with pytest.raises(images.DamagedImage, match=r"core-2\.img is damaged: field 10 occurs 2 times"):
        images.decode({**files, "core-2.img": entry(images.CORE, message)})


def test_decode_ignores_the_thread_of_a_dead_process() -> None:
    """CRIU writes a number from uninitialized memory. The image of a process that lives must have its own."""
    files = checkpoints.files("plain")
    init = wire.encode([(1, 1), (2, 0), (3, 1), (4, 1), (5, 1)])
    other = wire.encode([(1, 2), (2, 1), (3, 1), (4, 1), (5, 0x5B2E86F0)])
    files["pstree.img"] = entry(images.PSTREE, init, other)
    core = wire.decode(files["core-2.img"][12:])
    with pytest.raises(images.DamagedImage, match="process 2 can't have its threads"):
        images.decode(files)

    checkpoints.edit_inside(core, [3], lambda common: common.update({1: [images.DEAD]}))
    files["core-2.img"] = entry(images.CORE, checkpoints.encode(core))

    assert [False, True] == [task.is_dead for task in images.decode(files).tasks]
