"""Mounts, the root filesystem, devices, masked and read-only paths: as the container's mountinfo and its files show."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import Bundle, MountPoint, Runtime, mount_points, wait_for

pytestmark = pytest.mark.root


def mounted(runtime: Runtime, script: str = "true", *options: str) -> tuple[dict[str, MountPoint], str]:
    """The container's mount points, and what a script writes that runs there."""
    text = runtime.shell(f"cat /proc/self/mountinfo; echo END; {script}", *options)
    table, _, rest = text.partition("END\n")
    return mount_points(table), rest


# --- options

PER_MOUNT = [  # options → what a mount has of these
    ([], {"rw", "relatime"}),
    (["defaults"], {"rw", "relatime"}),
    (["ro"], {"ro", "relatime"}),
    (["ro", "rw"], {"rw", "relatime"}),
    (["rw", "ro"], {"ro", "relatime"}),
    (["nosuid"], {"rw", "relatime", "nosuid"}),
    (["nosuid", "suid"], {"rw", "relatime"}),
    (["nodev"], {"rw", "relatime", "nodev"}),
    (["nodev", "dev"], {"rw", "relatime"}),
    (["noexec"], {"rw", "relatime", "noexec"}),
    (["noexec", "exec"], {"rw", "relatime"}),
    (["noatime"], {"rw", "noatime"}),
    (["noatime", "atime"], {"rw", "relatime"}),
    (["nodiratime"], {"rw", "relatime", "nodiratime"}),
    (["nodiratime", "diratime"], {"rw", "relatime"}),
    (["noatime", "relatime"], {"rw", "relatime"}),
    (["strictatime", "relatime"], {"rw", "relatime"}),
    (["relatime", "norelatime"], {"rw", "relatime"}),
    (["strictatime"], {"rw"}),
    (["noatime", "strictatime"], {"rw"}),
    (["strictatime", "nostrictatime"], {"rw", "relatime"}),
    (["nosymfollow"], {"rw", "relatime", "nosymfollow"}),
    (["nosymfollow", "symfollow"], {"rw", "relatime"}),
    (["silent"], {"rw", "relatime"}),
    (["loud"], {"rw", "relatime"}),
    (["iversion"], {"rw", "relatime"}),
    (["noiversion"], {"rw", "relatime"}),
    (["ro", "nosuid", "nodev", "noexec", "noatime"], {"ro", "nosuid", "nodev", "noexec", "noatime"}),
]
NAMES = [",".join(options) or "none" for options, _ in PER_MOUNT]


def test_options_of_a_filesystem(runtime: Runtime, bundle: Bundle) -> None:
    """Each option of the specification's table on a new tmpfs."""
    for n, (options, _) in enumerate(PER_MOUNT):
        bundle.mount(f"/m{n}", "tmpfs", *options)
    points, _ = mounted(runtime)
    assert {name: expected for name, (_, expected) in zip(NAMES, PER_MOUNT, strict=True)} == {
        name: points[f"/m{n}"].options for n, name in enumerate(NAMES)
    }


def test_options_of_a_bind(runtime: Runtime, bundle: Bundle) -> None:
    """The same on a bind mount, whose source does not notice."""
    source = runtime.folder / "source"
    source.mkdir()
    for n, (options, _) in enumerate(PER_MOUNT):
        bundle.mount(f"/m{n}", "none", "bind", *options, source=source)
    points, _ = mounted(runtime)
    assert {name: expected for name, (_, expected) in zip(NAMES, PER_MOUNT, strict=True)} == {
        name: points[f"/m{n}"].options for n, name in enumerate(NAMES)
    }


@pytest.mark.parametrize(
    ("options", "there"),
    [
        (["sync"], {"sync"}), (["sync", "async"], set()), (["dirsync"], {"dirsync"}), (["lazytime"], {"lazytime"}),
        (["lazytime", "nolazytime"], set()), (["size=64k"], {"size=64k"}),
        (["mode=711", "uid=5"], {"mode=711", "uid=5"}), (["mode=711,uid=5", "size=64k,"], {"mode=711", "uid=5", "size=64k"}),
        (["mpol=bind:0,0,size=64k"], {"mpol=bind:0", "size=64k"}),
    ],
    ids=str,
)  # fmt: skip
def test_options_of_the_superblock(runtime: Runtime, bundle: Bundle, options: list[str], there: set[str]) -> None:
    """What belongs to the filesystem as a whole, and its own options."""
    bundle.mount("/m", "tmpfs", *options)
    points, _ = mounted(runtime)
    watched = {"sync", "dirsync", "lazytime", *there}
    assert there == points["/m"].super_options & watched


def test_an_unknown_option_among_several_in_one(runtime: Runtime, bundle: Bundle) -> None:
    """The error has the pointer of the string that has it."""
    bundle.mount("/m", "tmpfs", "nosuid", "size=64k,bogus=1")
    where = f"/mounts/{len(bundle.config['mounts']) - 1}/options/1"
    failed = runtime.create_fails()
    assert f"{where}: cannot mount tmpfs on /m: fsconfig: invalid argument" in failed
    assert "'bogus'" in failed


def test_an_overlay_of_directories_with_commas(runtime: Runtime, bundle: Bundle) -> None:
    """A backslash before a comma makes it the name's own, as for mount(2)."""
    lower, others = runtime.folder / "a,b", ("upper", "work")
    lower.mkdir()
    (lower / "file").touch()
    for name in others:
        (runtime.folder / name).mkdir()
    options = ",".join(f"{name}dir={runtime.folder / name}" for name in others)
    bundle.mount("/m", "overlay", f"lowerdir={runtime.folder}/a\\,b,{options}")
    assert "file\n" == runtime.shell("ls /m")


def test_superblock_options_of_a_bind(runtime: Runtime, bundle: Bundle) -> None:
    """They are accepted, and the source's filesystem stays as it is."""
    source = runtime.folder / "source"
    source.mkdir()
    bundle.mount("/m", "none", "bind", "sync", "dirsync", "lazytime", "mand", "async", source=source)
    points, _ = mounted(runtime)
    assert not points["/m"].super_options & {"sync", "dirsync"}


@pytest.fixture
def tree(runtime: Runtime) -> Iterator[Path]:
    """A directory of the host with a tmpfs mounted below, both shared mounts. They are gone afterwards."""
    top = runtime.folder / "tree"
    top.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "top", top], check=True)
    try:
        subprocess.run(["mount", "--make-shared", top], check=True)
        (top / "sub").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "sub", top / "sub"], check=True)
        yield top
    finally:
        subprocess.run(["umount", "-R", top], check=True)


RECURSIVE = [
    (["rro"], {"ro", "relatime"}), (["rro", "rrw"], {"rw", "relatime"}),
    (["rnosuid"], {"rw", "relatime", "nosuid"}), (["rnosuid", "rsuid"], {"rw", "relatime"}),
    (["rnodev"], {"rw", "relatime", "nodev"}), (["rnodev", "rdev"], {"rw", "relatime"}),
    (["rnoexec"], {"rw", "relatime", "noexec"}), (["rnoexec", "rexec"], {"rw", "relatime"}),
    (["rnoatime"], {"rw", "noatime"}), (["rnoatime", "ratime"], {"rw", "relatime"}),
    (["rnoatime", "rrelatime"], {"rw", "relatime"}), (["rnorelatime"], {"rw", "relatime"}),
    (["rstrictatime"], {"rw"}), (["rstrictatime", "rnostrictatime"], {"rw", "relatime"}),
    (["rnodiratime"], {"rw", "relatime", "nodiratime"}), (["rnodiratime", "rdiratime"], {"rw", "relatime"}),
    (["rnosymfollow"], {"rw", "relatime", "nosymfollow"}), (["rnosymfollow", "rsymfollow"], {"rw", "relatime"}),
]  # fmt: skip


def test_recursive_options(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    """They hold for the mounts below, too; `ro` alone does not. Of a contradicting pair the recursive one wins."""
    for n, (options, _) in enumerate(RECURSIVE):
        bundle.mount(f"/m{n}", "none", "rbind", *options, source=tree)
    bundle.mount("/ro", "none", "rbind", "ro", source=tree)
    bundle.mount("/both", "none", "rbind", "rro", "rw", source=tree)
    bundle.mount("/both-rw", "none", "rbind", "ro", "rrw", source=tree)
    bundle.mount("/again", "none", "rbind", source=tree)
    bundle.config["mounts"].append({"destination": "/again", "options": ["remount", "bind", "rro", "rw"]})
    folders = "/m0 /m0/sub /ro /ro/sub /both /both/sub /both-rw /both-rw/sub /again /again/sub"
    points, out = mounted(runtime, f"for p in {folders}; do touch $p/x && echo $p; done 2>/dev/null; true")
    for n, (options, expected) in enumerate(RECURSIVE):
        assert expected == points[f"/m{n}"].options, options
        assert expected == points[f"/m{n}/sub"].options, options
    assert ["/ro/sub", "/both-rw", "/both-rw/sub"] == out.split()


def test_recursive_options_of_a_new_filesystem(runtime: Runtime, bundle: Bundle) -> None:
    """On a mount with nothing below they do what the plain ones do, and win over these."""
    for n, (options, _) in enumerate(RECURSIVE):
        bundle.mount(f"/m{n}", "tmpfs", *options)
    bundle.mount("/both", "tmpfs", "noatime", "rrelatime", "nodev", "rdev")
    points, _ = mounted(runtime)
    for n, (options, expected) in enumerate(RECURSIVE):
        assert expected == points[f"/m{n}"].options, options
    assert {"rw", "relatime"} == points["/both"].options


def test_bind_is_not_recursive(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    """`bind` leaves the mounts below behind, `rbind` takes them along."""
    (tree / "sub/file").touch()
    bundle.mount("/bind", "none", "bind", source=tree).mount("/rbind", "none", "rbind", source=tree)
    points, out = mounted(runtime, "ls /bind/sub /rbind/sub")
    assert "/bind/sub:\n\n/rbind/sub:\nfile\n" == out
    assert "/bind/sub" not in points
    assert "/rbind/sub" in points


@pytest.mark.parametrize(
    ("option", "top", "sub"),
    [
        ("private", set(), {"master"}), ("rprivate", set(), set()),
        ("slave", {"master"}, {"master"}), ("rslave", {"master"}, {"master"}),
        ("shared", {"shared"}, {"shared"}), ("rshared", {"shared"}, {"shared"}),
        ("unbindable", {"unbindable"}, {"master"}), ("runbindable", {"unbindable"}, {"unbindable"}),
        ("rw", {"master"}, {"master"}),
    ],
)  # fmt: skip
def test_propagation(runtime: Runtime, bundle: Bundle, tree: Path, option: str, top: set[str], sub: set[str]) -> None:
    """Each propagation option, of the mount and below it. Unless it was asked for nothing is shared with the host."""
    bundle.mount("/m", "none", "rbind", option, source=tree)
    points, _ = mounted(runtime)
    assert top <= points["/m"].fields
    assert sub <= points["/m/sub"].fields
    if option in ("private", "rprivate"):
        assert set() == points["/m"].fields
    if option == "rprivate":
        assert set() == points["/m/sub"].fields
    if "shared" not in option:
        assert "shared" not in points["/m"].fields | points["/m/sub"].fields


@pytest.mark.parametrize(("option", "seen"), [("rslave", "yes"), ("rshared", "yes"), ("rprivate", "no")])
def test_propagation_works(runtime: Runtime, bundle: Bundle, tree: Path, option: str, seen: str) -> None:
    """A mount that the host makes later appears in the container, or does not."""
    (tree / "late").mkdir()
    bundle.mount("/m", "none", "rbind", option, source=tree)
    bundle.shell("while [ ! -e /go ]; do sleep 0.01; done; test -e /m/late/file && echo yes || echo no")
    runtime.create()
    runtime.start()
    subprocess.run(["mount", "-t", "tmpfs", "late", tree / "late"], check=True)
    (tree / "late/file").touch()
    (bundle.rootfs / "go").touch()
    runtime.wait("stopped")
    assert f"{seen}\n" == runtime.output()


@pytest.mark.parametrize(("option", "seen"), [("rshared", True), ("rslave", False)])
def test_mounts_of_the_container(runtime: Runtime, bundle: Bundle, tree: Path, option: str, seen: bool) -> None:
    """A mount that the container makes reaches the host only where that was asked for."""
    (tree / "late").mkdir()
    for name in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][name].append("CAP_SYS_ADMIN")
    bundle.mount("/m", "none", "rbind", option, source=tree)
    bundle.shell("mount -t tmpfs late /m/late && touch /m/late/file && sleep 100")
    runtime.create()
    runtime.start()
    wait_for(lambda: Path(f"/proc/{runtime.pid()}/root/m/late/file").exists())
    assert seen == (tree / "late/file").exists()


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ("private", set()),
        ("slave", {"master"}),
        ("shared", {"shared"}),
        ("unbindable", {"unbindable"}),
        ("rslave", {"master"}),
    ],
)
def test_root_propagation(runtime: Runtime, bundle: Bundle, tree: Path, value: str, fields: set[str]) -> None:
    """linux.rootfsPropagation, of a root filesystem that is a shared mount of the host."""
    subprocess.run(["cp", "-a", f"{bundle.rootfs}/.", tree], check=True)
    bundle.config["root"]["path"] = str(tree)
    bundle.linux["rootfsPropagation"] = value
    points, _ = mounted(runtime)
    assert fields == points["/"].fields - ({"master"} if value in ("shared", "unbindable") else set())


# --- sources and destinations


def test_order_and_nesting(runtime: Runtime, bundle: Bundle) -> None:
    """Mounts are made in the order of the list; later ones may lie in earlier ones, or cover them."""
    bundle.mount("/a", "tmpfs").mount("/a/b", "tmpfs", "size=64k").mount("/a/b/c", "tmpfs", "ro")
    bundle.config["mounts"].append({"destination": "/a/b", "type": "tmpfs", "source": "covers", "options": []})
    points, out = mounted(runtime, "ls /a; ls /a/b; cut -d' ' -f5 /proc/self/mountinfo | grep ^/a")
    assert "b\n/a\n/a/b\n/a/b/c\n/a/b\n" == out
    assert "covers" == points["/a/b"].source


def test_destinations(runtime: Runtime, bundle: Bundle) -> None:
    """Relative to `/`, with a slash too many, through a link, missing: all inside of the root filesystem."""
    (bundle.rootfs / "link").symlink_to("/real")
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "up").symlink_to("../../../../real2")
    bundle.mount("relative", "tmpfs").mount("//doubled//slash/", "tmpfs").mount("/link/below", "tmpfs")
    (bundle.rootfs / "real2").mkdir()
    bundle.mount("/up", "tmpfs")
    points, _ = mounted(runtime)
    assert {"/relative", "/doubled/slash", "/real/below", "/real2"} <= points.keys()


def test_destination_is_a_link_to_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """What an image's link leads to is made where it leads: /etc/resolv.conf of a Debian with systemd-resolved."""
    rootfs = bundle.rootfs
    (rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (rootfs / "jump").symlink_to("/tmp/foo/bar")
    (rootfs / "etc/hosts").symlink_to("/jump/baz/hosts")
    (rootfs / "data").symlink_to("../../../srv/data")
    (bundle.folder / "file").write_text("content\n")
    for destination in ("/etc/resolv.conf", "/etc/hosts"):
        bundle.mount(destination, "bind", "bind", source="file")
    bundle.mount("/data/below", "tmpfs")
    points, out = mounted(runtime, "cat /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf /tmp/foo/bar/baz/hosts")
    assert 3 * "content\n" == out
    assert {"/run/systemd/resolve/stub-resolv.conf", "/tmp/foo/bar/baz/hosts", "/srv/data/below"} <= points.keys()


def test_destination_is_a_link_in_a_circle(runtime: Runtime, bundle: Bundle) -> None:
    """Links that lead to each other are an error; one that climbs out of what is made stays inside."""
    (bundle.rootfs / "one").symlink_to("two")
    (bundle.rootfs / "two").symlink_to("one")
    (bundle.rootfs / "three").symlink_to("missing/../../../four")
    bundle.mount("/one", "tmpfs").write()
    result = runtime.run()
    assert 1 == result.status
    assert "cannot mount tmpfs on /one: openat2: too many levels of symbolic links" in result.err
    bundle.without_mount("/one").mount("/three", "tmpfs")
    points, _ = mounted(runtime)
    assert "/four" in points


def test_sources(runtime: Runtime, bundle: Bundle) -> None:
    """Relative to the bundle; a file on a file that is made; whatever `type` says, bind makes a bind mount."""
    (bundle.folder / "dir").mkdir()
    (bundle.folder / "dir/file").write_text("content\n")
    bundle.mount("/m/dir", "bogus", "rbind", source="dir").mount("/m/file", "none", "bind", source="./dir/file")
    entry = {"destination": "/m/untyped", "source": "dir", "options": ["bind", "ro"]}
    bundle.config["mounts"].append(entry)
    points, out = mounted(runtime, "cat /m/dir/file /m/file /m/untyped/file; stat -c %F /m/file")
    assert "content\ncontent\ncontent\nregular file\n" == out
    assert "ro" in points["/m/untyped"].options
    assert (bundle.rootfs / "m/file").is_file()


@pytest.mark.parametrize("options", [[], ["ro", "nosuid", "rprivate"], ["noexec", "rnodev", "private"]])
def test_copy_symlink(runtime: Runtime, bundle: Bundle, options: list[str]) -> None:
    """crun's option, which Podman's `no-dereference` becomes: a source that is a link is made a link of the same
    text.
    """
    source = runtime.folder / "source"
    source.mkdir()
    for name, text in {"relative": "../real", "absolute": "/real", "broken": "/not/here", "there": "same"}.items():
        (source / name).symlink_to(text)
        bundle.mount(f"/new/{name}", "none", "bind", *options, "copy-symlink", source=source / name)
    (source / "file").write_text("content\n")
    bundle.mount("/file", "none", "bind", "copy-symlink", source=source / "file")
    bundle.mount("/linked/below", "none", "bind", "copy-symlink", source=source / "absolute")
    (bundle.rootfs / "linked").symlink_to("/real")
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "new").mkdir()
    (bundle.rootfs / "new/there").symlink_to("same")
    points, out = mounted(
        runtime, "cd /new; for l in relative absolute broken there /real/below; do readlink $l; done; cat /file"
    )
    assert ["../real", "/real", "/not/here", "same", "/real", "content"] == out.split()
    assert {"/file"} == {name for name in points if name.startswith(("/new", "/file", "/real"))}


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["copy-symlink"], "symlinkat: file exists"), (["bind"], "no such file or directory")],
)
def test_copy_symlink_where_something_else_is(
    runtime: Runtime, bundle: Bundle, options: list[str], reason: str
) -> None:
    """Neither a file of the image nor a link that leads elsewhere is replaced. Without the option a link is
    followed.
    """
    source = runtime.folder / "source"
    source.symlink_to("/not/here")
    (bundle.rootfs / "file").write_text("the image's")
    (bundle.rootfs / "link").symlink_to("/elsewhere")
    for destination in ("/file", "/link"):
        bundle.mount(destination, "none", "bind", *options, source=source).write()
        result = runtime.run()
        assert 1 == result.status
        assert reason in result.err
        bundle.without_mount(destination)
    assert "the image's" == (bundle.rootfs / "file").read_text()
    assert "/elsewhere" == os.readlink(bundle.rootfs / "link")


@pytest.mark.parametrize("destination", ["/proc", "/sys"])
def test_copy_symlink_does_not_lead_to_another_proc(runtime: Runtime, bundle: Bundle, destination: str) -> None:
    """The container's masks and the runtime's own writes would go where a link leads."""
    source = runtime.folder / "source"
    source.symlink_to("/tmp")
    bundle.without_mount("/sys").without_mount("/proc")
    (bundle.rootfs / destination[1:]).rmdir()
    bundle.mount(destination, "none", "bind", "copy-symlink", source=source).write()
    result = runtime.run()
    assert 1 == result.status
    assert f"cannot bind {source} on {destination}" in result.err
    assert not (bundle.rootfs / destination[1:]).is_symlink()


def test_many(runtime: Runtime, bundle: Bundle) -> None:
    """A few hundred mounts."""
    source = runtime.folder / "source"
    source.mkdir()
    for n in range(300):
        bundle.config["mounts"].append({"destination": f"/many/{n}", "source": str(source), "options": ["bind"]})
    points, _ = mounted(runtime)
    assert 300 == len([target for target in points if target.startswith("/many/")])


def test_mode_of_a_tmpfs(runtime: Runtime, bundle: Bundle) -> None:
    """A tmpfs takes the mode of the directory it covers, unless the config says which."""
    (bundle.rootfs / "there").mkdir()
    (bundle.rootfs / "there").chmod(0o1711)
    bundle.mount("/there", "tmpfs").mount("/given", "tmpfs", "mode=700").mount("/missing", "tmpfs")
    _, out = mounted(runtime, "stat -c %a /there /given /missing")
    assert ["1711", "700", "1777"] == out.split()


def test_tmpcopyup(runtime: Runtime, bundle: Bundle) -> None:
    """The new tmpfs holds what its target held: contents, owners, modes, links, nodes. The target stays as it was."""
    there = bundle.rootfs / "there"
    (there / "dir").mkdir(parents=True)
    (there / "dir/file").write_text("content\n" * 5000)
    os.chown(there / "dir/file", 5, 6)
    (there / "dir/file").chmod(0o4751)
    os.chown(there / "dir", 7, 8)
    (there / "dir").chmod(0o2750)
    (there / "link").symlink_to("dir/file")
    (there / "empty").touch(0o600)
    os.mkfifo(there / "fifo")
    there.chmod(0o751)
    bundle.mount("/there", "tmpfs", "tmpcopyup", "size=1m")
    script = "cd /there; stat -c '%n %F %a %u:%g %s' . dir dir/file empty fifo; readlink link; wc -l < link"
    points, out = mounted(runtime, f"{script}; rm -r dir; touch new")
    assert ["directory", "751"] == out.splitlines()[0].split()[1:3]
    assert [
        "dir directory 2750 7:8", "dir/file regular file 4751 5:6", "empty regular empty file 600 0:0", "fifo fifo",
    ] == [" ".join(line.split()[:n]) for line, n in zip(out.splitlines()[1:5], (4, 5, 6, 2), strict=True)]  # fmt: skip
    assert ["dir/file", "5000"] == out.splitlines()[5:]
    assert "tmpfs" == points["/there"].type
    assert ["dir", "empty", "fifo", "link"] == sorted(os.listdir(there))


def test_readonly_tmpfs_holds_later_mounts(runtime: Runtime, bundle: Bundle) -> None:
    """Targets are made before it becomes read-only."""
    bundle.mount("/ro", "tmpfs", "ro").mount("/ro/inner", "tmpfs").mount("/dev", "tmpfs", "ro", "mode=755")
    bundle.config["mounts"].sort(key=lambda entry: entry["destination"].count("/"))
    points, out = mounted(runtime, "touch /ro/inner/x && echo inner; touch /ro/x 2>&1; ls /dev/null /ro")
    assert "ro" in points["/ro"].options & points["/dev"].options
    assert "inner\ntouch: /ro/x: Read-only file system\n/dev/null\n\n/ro:\ninner\n" == out


def test_remount(runtime: Runtime, bundle: Bundle) -> None:
    """`remount` changes a mount that is there; with `bind` only the mount, else its filesystem, too."""
    bundle.mount("/m", "tmpfs", "size=64k", "nosuid")
    again = {"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "size=128k", "ro"]}
    bundle.config["mounts"].append(again)
    bundle.config["mounts"].append({"destination": "/dev/shm", "options": ["remount", "bind", "ro"]})
    points, _ = mounted(runtime)
    assert {"ro", "nosuid"} <= points["/m"].options
    assert "size=128k" in points["/m"].super_options
    assert "ro" in points["/dev/shm"].options
    assert "ro" not in points["/dev/shm"].super_options


REMOUNTS = [  # options of the mount, then of the remount → what it has of both
    (["noatime"], ["ro"], {"ro", "noatime"}),
    (["noatime"], ["relatime"], {"rw", "relatime"}),
    (["relatime"], ["strictatime"], {"rw"}),
    (["nodiratime", "nosuid"], ["diratime"], {"rw", "relatime", "nosuid"}),
    (["ro", "nosuid", "nodev", "noexec"], ["rw", "suid", "dev", "exec"], {"rw", "relatime"}),
    (["nosymfollow"], ["symfollow", "noexec"], {"rw", "relatime", "noexec"}),
    (["rw"], ["ro", "rw", "ro"], {"ro", "relatime"}),
    (["rw"], ["rro", "rnodev"], {"ro", "relatime", "nodev"}),
]


@pytest.mark.parametrize("bind", [[], ["bind"]], ids=["filesystem", "bind"])
def test_options_of_a_remount(runtime: Runtime, bundle: Bundle, bind: list[str]) -> None:
    """It changes what it names, and leaves the rest as it is; an access-time mode too."""
    source = runtime.folder / "source"
    source.mkdir()
    for n, (first, second, _) in enumerate(REMOUNTS):
        entry = {"destination": f"/m{n}", "type": "tmpfs", "source": str(source), "options": [*bind, *first]}
        bundle.config["mounts"] += [entry, {**entry, "options": [*bind, "remount", *second]}]
    points, _ = mounted(runtime)
    assert [expected for _, _, expected in REMOUNTS] == [points[f"/m{n}"].options for n in range(len(REMOUNTS))]


@pytest.mark.parametrize(
    ("first", "second", "there"),
    [
        (["sync"], ["async"], set()), ([], ["sync"], {"sync"}), (["dirsync"], ["nosuid"], {"dirsync"}),
        (["lazytime"], ["nolazytime"], set()),
        (["lazytime"], ["size=64k"], {"lazytime", "size=64k"}),
    ],
    ids=str,
)  # fmt: skip
def test_superblock_options_of_a_remount(
    runtime: Runtime, bundle: Bundle, first: list[str], second: list[str], there: set[str]
) -> None:
    """Those of the filesystem, too."""
    bundle.mount("/m", "tmpfs", *first)
    bundle.config["mounts"].append({"destination": "/m", "type": "tmpfs", "options": ["remount", *second]})
    points, _ = mounted(runtime)
    assert there == points["/m"].super_options & {"sync", "dirsync", "lazytime", "size=64k"}


@pytest.mark.parametrize(("option", "sub"), [("private", {"master"}), ("rprivate", set()), ("rshared", {"shared"})])
def test_propagation_of_a_remount(runtime: Runtime, bundle: Bundle, tree: Path, option: str, sub: set[str]) -> None:
    """The propagation of a mount that is there can be changed, too."""
    bundle.mount("/m", "none", "rbind", source=tree)
    bundle.config["mounts"].append({"destination": "/m", "options": ["remount", "bind", option]})
    points, _ = mounted(runtime)
    assert sub <= points["/m/sub"].fields
    assert ({"shared"} if option == "rshared" else set()) <= points["/m"].fields
    assert "private" not in option or set() == points["/m"].fields


def test_remount_below(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    """A recursive attribute reaches the mounts below, another does not."""
    bundle.mount("/m", "none", "rbind", source=tree)
    again = {"destination": "/m", "options": ["remount", "bind", "rnoexec", "rnosuid"]}
    bundle.config["mounts"].append(again)
    points, _ = mounted(runtime)
    assert {"rw", "relatime", "noexec", "nosuid"} == points["/m"].options == points["/m/sub"].options


@pytest.mark.parametrize("options", [["ro", "rnoexec"], ["rnoexec", "ro"]], ids=",".join)
def test_remount_of_a_tree_and_of_its_top(runtime: Runtime, bundle: Bundle, tree: Path, options: list[str]) -> None:
    """Both kinds in one entry: each reaches what it is for."""
    bundle.mount("/m", "none", "rbind", source=tree)
    bundle.config["mounts"].append({"destination": "/m", "options": ["remount", "bind", *options]})
    points, _ = mounted(runtime)
    assert {"ro", "relatime", "noexec"} == points["/m"].options
    assert {"rw", "relatime", "noexec"} == points["/m/sub"].options


def test_symlinks_are_not_followed(runtime: Runtime, bundle: Bundle) -> None:
    """nosymfollow, where it matters."""
    source = runtime.folder / "source"
    source.mkdir()
    (source / "file").write_text("content")
    (source / "link").symlink_to("file")
    bundle.mount("/m", "none", "bind", "nosymfollow", source=source)
    assert "contentcat: can't open '/m/link': Too many levels of symbolic links\n" == runtime.shell(
        "cat /m/file; cat /m/link 2>&1; true"
    )


@pytest.mark.may_skip("a machine may have no loop devices, or forbid them")
def test_a_block_device(runtime: Runtime, bundle: Bundle) -> None:
    """The source of a filesystem is a device, its other options are the filesystem's own (MNT-03, MNT-07)."""
    image = runtime.folder / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    setup = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    if setup.returncode:
        pytest.skip(setup.stderr.strip())
    device = setup.stdout.strip()
    try:
        bundle.mount("/m", "ext4", "noatime", "commit=17", "ro", source=device)
        points, out = mounted(runtime, "ls /m; touch /m/x 2>&1; true")
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    assert ("ext4", device) == (points["/m"].type, points["/m"].source)
    assert {"ro", "noatime"} == points["/m"].options
    assert {"commit=17", "ro"} <= points["/m"].super_options
    assert "lost+found\ntouch: /m/x: Read-only file system\n" == out


def test_covered_file_of_proc(runtime: Runtime, bundle: Bundle) -> None:
    """What lxcfs serves may cover its file below /proc."""
    (bundle.folder / "cpuinfo").write_text("one processor\n")
    bundle.mount("/proc/cpuinfo", "bind", "bind", source="cpuinfo")
    assert "one processor\n" == runtime.shell("cat /proc/cpuinfo")


def test_host_does_not_see_them(runtime: Runtime, bundle: Bundle) -> None:
    """None of the container's mounts is in the host's table, while it runs."""
    bundle.mount("/m", "tmpfs").program("sleep", 100)
    runtime.create()
    runtime.start()
    assert str(bundle.rootfs) not in Path("/proc/self/mountinfo").read_text()


def test_no_old_root(runtime: Runtime, bundle: Bundle) -> None:
    """The host's tree is gone: nothing but the config's mounts, and the root has no parent."""
    points, out = mounted(runtime, "ls -a / | head -3; cd /..; ls -d /work /home 2>/dev/null; pwd")
    ours = {entry["destination"] for entry in bundle.config["mounts"]} | {
        "/",
        *bundle.linux["maskedPaths"],
        *bundle.linux["readonlyPaths"],
    }
    assert set() == points.keys() - ours
    assert out.endswith("/\n")


def test_no_pivot(runtime: Runtime, bundle: Bundle) -> None:
    """--no-pivot: the same container, entered by chroot."""
    points, out = mounted(runtime, "ls /; cd ..; pwd; touch /x", "--no-pivot")
    assert {"/proc", "/dev", "/sys"} <= points.keys()
    assert (bundle.rootfs / "x").exists()
    assert out.endswith("/\n")


# --- the root


@pytest.mark.parametrize("readonly", [True, False])
def test_readonly_root(runtime: Runtime, bundle: Bundle, readonly: bool) -> None:
    """root.readonly makes `/` read-only, and not the mounts on it; missing mount points are still made."""
    bundle.config["root"]["readonly"] = readonly
    bundle.mount("/made/for/it", "tmpfs")
    points, out = mounted(runtime, "touch /x 2>/dev/null && echo root; touch /made/for/it/x && echo mount")
    assert ("mount\n" if readonly else "root\nmount\n") == out
    assert ("ro" if readonly else "rw") in points["/"].options
    assert readonly != (bundle.rootfs / "x").exists()


def test_root_is_an_absolute_path(runtime: Runtime, bundle: Bundle) -> None:
    """Also with a slash too many."""
    bundle.config["root"]["path"] = f"{bundle.folder}//rootfs/"
    assert "x\n" == runtime.shell("echo x")


def test_mounts_below_the_root(runtime: Runtime, bundle: Bundle) -> None:
    """The host's mounts below the root filesystem are in the container."""
    (bundle.rootfs / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", bundle.rootfs / "below"], check=True)
    try:
        (bundle.rootfs / "below/file").touch()
        assert "file\n" == runtime.shell("ls /below")
    finally:
        subprocess.run(["umount", bundle.rootfs / "below"], check=True)


# --- devices

DEFAULT_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@pytest.mark.parametrize("userns", [False, True])
def test_default_devices(runtime: Runtime, bundle: Bundle, userns: bool) -> None:
    """They are there and can be used, in a user namespace too; the links as well."""
    if userns:
        bundle.in_user_namespace()
    script = """cd /dev; for d in null zero full random urandom tty; do stat -c '%n %t %T %a' $d; done
        for l in fd stdin stdout stderr ptmx; do readlink $l; done
        exec 2>/dev/null; head -c 3 zero | wc -c; head -c 3 urandom | wc -c
        echo x > null && echo ok; echo x > full || echo full"""
    out = runtime.shell(script).splitlines()
    assert [f"{name} {major} {minor} 666" for name, (major, minor) in DEFAULT_DEVICES.items()] == out[:6]
    assert ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"] == out[6:11]
    assert ["3", "3", "ok", "full"] == out[11:]


def test_no_links_without_proc(runtime: Runtime, bundle: Bundle) -> None:
    """A link is made only where its target exists (FD-02)."""
    bundle.without_mount("/proc", "/sys/fs/cgroup", "/sys")
    bundle.linux |= {"maskedPaths": [], "readonlyPaths": []}
    assert ["null", "zero"] == [
        n for n in runtime.shell("ls -1 /dev").split() if n in ("fd", "stdin", "stderr", "null", "zero")
    ]


@pytest.mark.parametrize("userns", [False, True])
def test_listed_devices(runtime: Runtime, bundle: Bundle, userns: bool) -> None:
    """All types, anywhere, with mode and owner whatever the umask; a second entry of one device is accepted.

    In a user namespace too, where owners are those of the container (DEV-07).
    """
    if userns:
        bundle.in_user_namespace()
    os.mknod(bundle.rootfs / "same", 0o020600, os.makedev(1, 3))
    bundle.linux["devices"] = [
        {"path": "/x/y/char", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5, "gid": 6},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 7, "fileMode": 0o666},
        {"path": "/dev/block", "type": "b", "major": 7, "minor": 99},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o604},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600},
        {"path": "/same", "type": "c", "major": 1, "minor": 3, "fileMode": 0o604, "uid": 9},
        {"path": "/again", "type": "c", "major": 1, "minor": 3},
    ]
    out = runtime.shell(
        "stat -c '%n|%F|%t:%T|%a|%u:%g' /x/y/char /dev/unbuffered /dev/block /dev/pipe /dev/zero /same /again",
        umask=0o77,
    )
    assert [
        "/x/y/char|character special file|1:5|640|5:6",
        "/dev/unbuffered|character special file|1:7|666|0:0",
        "/dev/block|block special file|7:63|666|0:0",
        "/dev/pipe|fifo|0:0|604|0:0",
        "/dev/zero|character special file|1:5|600|0:0",
        "/same|character special file|1:3|604|9:0",
        "/again|character special file|1:3|666|0:0",
    ] == out.splitlines()


def test_a_listed_device_works_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Also where the runtime keeps its state on a filesystem without devices; nothing of the node is left there."""
    bundle.in_user_namespace()
    bundle.linux["devices"] = [{"path": "/dev/nul", "type": "c", "major": 1, "minor": 3, "fileMode": 0o622}]
    runtime.root.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev,mode=700", "tmpfs", runtime.root], check=True)
    try:
        bundle.shell("echo x > /dev/nul && echo ok; sleep 100")
        runtime.create()
        runtime.start()
        wait_for(lambda: "ok\n" == runtime.output())
        assert [] == [name for name in os.listdir(runtime.root / runtime.id) if name.startswith("device")]
        runtime.delete("--force")
    finally:
        subprocess.run(["umount", runtime.root], check=True)


def test_bound_dev_is_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    """Where /dev is a bind mount nothing is made in it (A-32)."""
    source = runtime.folder / "dev"
    source.mkdir()
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    bundle.without_mount("/dev/pts", "/dev/shm").mount("/dev", "bind", "rbind", source=source)
    bundle.config["mounts"].insert(0, bundle.config["mounts"].pop())
    assert "null\n" == runtime.shell("ls -1 /dev")


def test_dev_without_a_mount(runtime: Runtime, bundle: Bundle) -> None:
    """The nodes are made in the root filesystem itself."""
    bundle.without_mount("/dev", "/dev/pts", "/dev/shm")
    runtime.shell("true")
    status = (bundle.rootfs / "dev/null").stat()
    assert stat.S_ISCHR(status.st_mode)
    assert os.makedev(1, 3) == status.st_rdev


def test_a_device_of_the_config_replaces_a_default(runtime: Runtime, bundle: Bundle) -> None:
    """Its mode and owner are the config's."""
    bundle.linux["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 3}]
    assert "600 3\n" == runtime.shell("stat -c '%a %u' /dev/null")


# --- masked and read-only paths


def test_masked_paths(runtime: Runtime, bundle: Bundle) -> None:
    """A directory is empty, a file is /dev/null, a missing path is skipped; all of it read-only."""
    (bundle.rootfs / "secret").mkdir()
    (bundle.rootfs / "secret/file").write_text("x")
    (bundle.rootfs / "other").mkdir()
    (bundle.rootfs / "key").write_text("x")
    (bundle.rootfs / "key2").write_text("x")
    bundle.linux["maskedPaths"] = ["/secret", "/other", "/key", "/key2", "/no/such", "/proc/cmdline", "/key"]
    script = (
        "ls -A /other /secret; cat /key /key2; cat /proc/cmdline; touch /secret/x 2>&1; stat -c %F /key; echo x > /key"
    )
    out = runtime.shell(script)
    assert "/other:\n\n/secret:\ntouch: /secret/x: Read-only file system\ncharacter special file\n" == out
    assert "x" == (bundle.rootfs / "key").read_text()


def test_readonly_paths(runtime: Runtime, bundle: Bundle) -> None:
    """A path and what is mounted below it; a missing path is skipped."""
    bundle.mount("/data", "tmpfs").mount("/data/below", "tmpfs")
    (bundle.rootfs / "file").write_text("x")
    bundle.linux["readonlyPaths"] = ["/data", "/file", "/no/such", "/proc/sys"]
    script = """exec 2>/dev/null; for p in /data/x /data/below/x /file; do echo > $p || echo no $p; done
        echo 1 > /proc/sys/vm/swappiness || echo no sysctl; cat /file"""
    assert "no /data/x\nno /data/below/x\nno /file\nno sysctl\nx" == runtime.shell(script)


def test_paths_that_are_listed_twice(runtime: Runtime, bundle: Bundle) -> None:
    """They are protected once, however they are spelt."""
    for name in ("masked", "readonly"):
        (bundle.rootfs / name).mkdir()
    bundle.linux["maskedPaths"] = ["/masked", "/proc/cmdline", "/masked/", "//proc/./cmdline", "/masked"]
    bundle.linux["readonlyPaths"] = ["/readonly", "/proc/bus", "/readonly/.", "/proc/bus"]
    lines = runtime.shell("cat /proc/self/mountinfo").splitlines()
    expected = ["/masked", "/proc/bus", "/proc/cmdline", "/readonly"]
    assert expected == sorted(line.split()[4] for line in lines if line.split()[4] in expected)


def test_mask_below_a_readonly_path(runtime: Runtime, bundle: Bundle) -> None:
    """It stays masked."""
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data/key").write_text("x")
    bundle.linux["readonlyPaths"] = ["/data"]
    bundle.linux["maskedPaths"] = ["/data/key"]
    assert "" == runtime.shell("cat /data/key")


def test_cgroup_mount(runtime: Runtime, bundle: Bundle) -> None:
    """The container sees its own cgroup as the root, read-only."""
    points, out = mounted(
        runtime, "cat /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x 2>&1; true"
    )
    assert "cgroup2" == points["/sys/fs/cgroup"].type
    assert "ro" in points["/sys/fs/cgroup"].options
    assert "0::/\n" in out
    assert "\n1\n" in out
    assert "Read-only file system" in out


@pytest.mark.parametrize("namespace", [False, True])
@pytest.mark.parametrize("options", [["ro", "bogus"], ["none", "name=systemd"]], ids=",".join)
def test_cgroup_mount_with_an_option_that_cgroup2_has_not(
    runtime: Runtime, bundle: Bundle, namespace: bool, options: list[str]
) -> None:
    """Such as one of cgroup v1: it is an error, not replaced by another type."""
    if not namespace:
        bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "cgroup"]
    bundle.without_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", *options, source="cgroup")
    failed = runtime.create_fails()
    what = "cannot mount cgroup2 on /sys/fs/cgroup: fsconfig" if namespace else "cannot apply `"
    first = options.index("bogus") if "bogus" in options else 0
    assert f"/mounts/{len(bundle.config['mounts']) - 1}/options/{first}: {what}" in failed


def test_cgroup_mount_without_a_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Without a cgroup namespace the host's mount is bound; its options stay as they were."""
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "cgroup"]
    points, out = mounted(runtime, "grep 0:: /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>&1; true")
    assert "cgroup2" == points["/sys/fs/cgroup"].type
    assert f"/{runtime.id}\n" in out
    assert "Read-only file system" in out


PRIVILEGED_POD = ("nosuid", "noexec", "nodev", "relatime", "rw", "nsdelegate", "memory_recursiveprot")


@pytest.mark.parametrize("type", ["cgroup", "cgroup2"])
def test_cgroup_mount_of_a_privileged_pod(runtime: Runtime, bundle: Bundle, type: str) -> None:
    """containerd copies the host's cgroup2 options into the mount of a privileged pod, which has no cgroup
    namespace.
    """
    before = mount_points(Path("/proc/self/mountinfo").read_text())
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "cgroup"]
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.without_mount("/sys", "/sys/fs/cgroup").mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "rw")
    bundle.mount("/sys/fs/cgroup", type, *PRIVILEGED_POD, source="cgroup")
    points, out = mounted(runtime, "grep 0:: /proc/self/cgroup")
    [host] = [point for point in before.values() if point.type == "cgroup2"]
    assert f"/{runtime.id}\n" in out
    assert {"rw", "nosuid", "nodev", "noexec", "relatime"} == points["/sys/fs/cgroup"].options
    assert ("cgroup2", host.super_options) == (points["/sys/fs/cgroup"].type, points["/sys/fs/cgroup"].super_options)


@pytest.mark.parametrize("user_namespace", [False, True])
def test_cgroup_mount_with_options_of_cgroup2(runtime: Runtime, bundle: Bundle, user_namespace: bool) -> None:
    """In a cgroup namespace of its own the kernel takes them, and leaves the host's as they are."""
    before = mount_points(Path("/proc/self/mountinfo").read_text())
    if user_namespace:
        bundle.in_user_namespace()
    bundle.without_mount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", *PRIVILEGED_POD, source="cgroup")
    points, _ = mounted(runtime)
    [host] = [point for point in before.values() if point.type == "cgroup2"]
    assert host.super_options == points["/sys/fs/cgroup"].super_options
