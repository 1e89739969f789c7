"""Mounts: what, where, in which order, and every option."""

import os
from pathlib import Path
from typing import Any

from conformance import host
from conformance.trial import Failure, Trial, mounts, should

PROPAGATION = {"private": host.MS_PRIVATE, "shared": host.MS_SHARED, "slave": host.MS_SLAVE}


def mounted(t: Trial, *destinations: str) -> "list[dict[str, Any]]":
    """What mountinfo says in the container of these mount points."""
    found = mounts(t.report()["mountinfo"])
    missing = [path for path in destinations if path not in found]
    if missing:
        raise Failure(f"nothing is mounted on {', '.join(missing)}")
    return [found[path] for path in destinations]


def content(t: Trial, path: str) -> "str | None":
    """The content of a file in the container, None if there is no such file."""
    return t.ask("read", path).get("content")


def folder(t: Trial, name: str, **files: str) -> Path:
    """A directory beside the bundle; for each file its content."""
    path = t.folder / name
    path.mkdir()
    for file, text in files.items():
        (path / file).write_text(text)
    return path


def tree(t: Trial, flags: int = 0, name: str = "tree") -> Path:
    """A mount of the host with another one below, at `sub`, both with these flags."""
    top = folder(t, name)
    host.mount("tmpfs", top, "tmpfs")
    (top / "sub").mkdir()
    (top / "top.txt").write_text("top")
    host.mount("tmpfs", top / "sub", "tmpfs")
    (top / "sub" / "sub.txt").write_text("sub")
    if flags:
        host.remount_bind(top / "sub", flags)
        host.remount_bind(top, flags)
    return top


# --- what and where


def MNT_01(t: Trial) -> None:
    """Mounts are made in the order listed: a later one covers an earlier one, and stands on it."""
    one, two = folder(t, "one", mark="one"), folder(t, "two", mark="two")
    (one / "inner").mkdir()
    t.bundle.bind(one, "/tmp")
    t.bundle.bind(two, "/tmp/inner")
    t.equal("two", content(t, "/tmp/inner/mark"), "the file on the mount in the mount")
    t.bundle.bind(two, "/tmp")
    t.equal("two", content(t, "/tmp/mark"), "the file on the later mount")


def MNT_01_child_first(t: Trial) -> None:
    """A mount that is listed before that of a directory above it is covered."""
    one, two = folder(t, "one", mark="one"), folder(t, "two", mark="two")
    (one / "inner").mkdir()
    (t.bundle.rootfs / "tmp" / "inner").mkdir()
    t.bundle.bind(two, "/tmp/inner")
    t.bundle.bind(one, "/tmp")
    t.equal((None, "one"), (content(t, "/tmp/inner/mark"), content(t, "/tmp/mark")), "the files")


def MNT_02(t: Trial) -> None:
    """`destination` is a path in the container; a relative one is relative to its root, whatever cwd is."""
    data = folder(t, "data", mark="x")
    (t.bundle.rootfs / "tmp" / "deep").mkdir()
    t.bundle.process["cwd"] = "/tmp"
    for destination in ("/tmp/deep", "tmp/deep"):
        t.bundle.bind(data, destination)
        t.equal("x", content(t, "/tmp/deep/mark"), f"the file below {destination}")
        t.bundle.drop_mount(destination)


def MNT_02_missing(t: Trial) -> None:
    """`destination` is required."""
    t.bundle.config["mounts"].append({"type": "tmpfs", "source": "tmpfs"})
    t.refused(why="with a mount that has no destination")


def MNT_03(t: Trial) -> None:
    """The source of a bind is a directory or a file, absolute or relative to the bundle."""
    data = t.bundle.folder / "data"
    data.mkdir()
    (data / "mark").write_text("x")
    for name in ("data", "other"):
        (t.folder / name).mkdir()
    (t.bundle.rootfs / "etc" / "mark").touch()
    for source in (data, "data", "./data", "../bundle/data"):
        t.bundle.bind(source, "/tmp")
        t.bundle.bind(f"{source}/mark", "/etc/mark")
        first, second = t.run("read", "/tmp/mark", "read", "/etc/mark", cwd=t.folder)
        t.equal(("x", "x"), (first.get("content"), second.get("content")), f"the files of {source}")
        t.bundle.drop_mount("/tmp")
        t.bundle.drop_mount("/etc/mark")


def MNT_03_dummy(t: Trial) -> None:
    """The source of a filesystem that needs none is a name, or is left out."""
    t.bundle.mount("/tmp", "tmpfs", "conformance-name")
    t.bundle.config["mounts"].append({"destination": "/etc", "type": "tmpfs"})
    named, unnamed = mounted(t, "/tmp", "/etc")
    t.equal(("tmpfs", "conformance-name"), (named["type"], named["source"]), "type and source")
    t.equal("tmpfs", unnamed["type"], "type of the mount without a source")


def MNT_03_device(t: Trial) -> None:
    """The source of a filesystem on a device is the device, which the container's programs need not be allowed
    to use.
    """
    for tool in ("losetup", "mkfs.ext4"):
        host.require_tool(tool)
    host.require_filesystem("ext4")
    image = t.folder / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    host.run("mkfs.ext4", "-q", image)
    try:
        device = host.run("losetup", "--find", "--show", image).strip()
    except OSError:
        raise host.Missing("there are no loop devices") from None
    try:
        t.bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
        t.bundle.mount("/tmp", "ext4", device, "ro")
        (entry,) = mounted(t, "/tmp")
        t.equal(("ext4", device), (entry["type"], entry["source"]), "type and source")
    finally:
        host.run("losetup", "--detach", device)


def MNT_04(t: Trial) -> None:
    """`bind` and `rbind` make a bind mount, whatever the type says."""
    data = folder(t, "data", mark="x")
    tried = [(option, kind) for option in ("bind", "rbind") for kind in ("none", "bind", "bogus", "tmpfs", None)]
    for number, (option, kind) in enumerate(tried):
        (t.bundle.rootfs / f"m{number}").mkdir()
        t.bundle.mount(f"/m{number}", kind or "", data, option)
        if kind is None:
            del t.bundle.config["mounts"][-1]["type"]
    found = t.run(*(word for number in range(len(tried)) for word in ("read", f"/m{number}/mark")))
    for (option, kind), line in zip(tried, found, strict=True):
        t.equal("x", line.get("content"), f"the file with {option} and the type {kind}")


def MNT_04_recursion(t: Trial) -> None:
    """`bind` takes one mount, `rbind` those below it too."""
    top = tree(t)
    t.bundle.bind(top, "/tmp", "bind")
    t.bundle.bind(top, "/etc", "rbind")
    files = ("/tmp/top.txt", "/tmp/sub/sub.txt", "/etc/top.txt", "/etc/sub/sub.txt")
    found = t.run(*(word for file in files for word in ("read", file)))
    t.equal(["top", None, "top", "sub"], [line.get("content") for line in found], "list of files with bind and rbind")


def MNT_05(t: Trial) -> None:
    """A filesystem that the kernel does not know, or none, is an error."""
    t.bundle.mount("/tmp", "conformancefs", "none")
    t.refused(why="with a mount of the type conformancefs")
    t.bundle.drop_mount("/tmp")
    t.bundle.config["mounts"].append({"destination": "/tmp", "source": "none", "options": ["ro"]})
    t.refused(why="with a mount that has no type and is not a bind")


def MNT_07(t: Trial) -> None:
    """Options that the runtime does not know go to the filesystem, all of them."""
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "size=1m", "nosuid", "mode=0751", "uid=7")
    fs, stat = t.run("statfs", "/tmp", "stat", "/tmp")
    t.equal(1 << 20, fs["size"], "size of the tmpfs")
    t.equal((0o751, 7), (stat["mode"], stat["uid"]), "mode and owner of the tmpfs")


def MNT_07_refused(t: Trial) -> None:
    """What the filesystem does not know either is an error."""
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "conformance")
    t.refused(why="with a tmpfs option that does not exist")


def MNT_12(t: Trial) -> None:
    """What can't be mounted is an error: a source that is missing, a directory on a file, a file on a directory."""
    data = folder(t, "data", mark="x")
    (t.bundle.rootfs / "etc" / "file").touch()
    cases = ((t.folder / "missing", "/tmp"), ("missing", "/tmp"), (data, "/etc/file"), (data / "mark", "/tmp"))
    for source, destination in cases:
        t.bundle.bind(source, destination)
        t.refused(why=f"with a bind mount of {source} on {destination}")
        t.bundle.drop_mount(destination)


def FS_01(t: Trial) -> None:
    """The default filesystems are available, and work."""
    types = {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}
    report, cpu, net, shm, pts = t.run(
        "report", "read", "/proc/sys/kernel/ostype", "list", "/sys/class/net", "create", "/dev/shm/x", "x",
        "open", "/dev/pts/ptmx", "rw",
    )  # fmt: skip
    found = mounts(report["mountinfo"])
    t.equal(types, {path: found.get(path, {}).get("type") for path in types}, "types of the default filesystems")
    t.equal("Linux\n", cpu.get("content"), "/proc/sys/kernel/ostype")
    t.true("lo" in net["names"], "/sys is not that of the container's network namespace")
    t.equal((None, None), (shm.get("error"), pts.get("error")), "the outcome of opening /dev/shm/x and /dev/pts/ptmx")


# --- options: flags of a mount


def flags(t: Trial, on: str, off: str, name: str, bind: bool = True) -> None:
    """`on` sets this flag of a mount, `off` does not, and the later of both wins; on a tmpfs and on a bind mount."""
    wanted = {(): False, (on,): True, (off,): False, (on, off): False, (off, on): True}
    source = folder(t, "source")
    host.mount("tmpfs", source, "tmpfs")
    points = []
    for number, (options, expected) in enumerate(wanted.items()):
        for kind in ("tmpfs", "bind")[: 1 + bind]:
            point = f"/{kind}{number}"
            (t.bundle.rootfs / point[1:]).mkdir()
            if kind == "tmpfs":
                t.bundle.mount(point, "tmpfs", "tmpfs", *options)
            else:
                t.bundle.bind(source, point, "bind", *options)
            points.append((point, options, expected))
    for found, (point, options, expected) in zip(mounted(t, *(p[0] for p in points)), points, strict=True):
        t.equal(expected, name in found["options"], f"flag {name} with {' and '.join(options) or 'nothing'} on {point}")
    (own,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {source} " in line]
    t.true(name not in own.split()[5].split(","), "the flag came upon the host's own mount too")


def MNT_06_ro(t: Trial) -> None:
    """`ro` makes a mount read-only, `rw` does not."""
    flags(t, "ro", "rw", "ro")


def MNT_06_ro_works(t: Trial) -> None:
    """Read-only mounts can't be written to: a tmpfs, and a bind whose source on the host stays writable."""
    data = folder(t, "data")
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "ro")
    t.bundle.bind(data, "/etc", "ro")
    container = t.running("create", "/tmp/x", "x", "create", "/etc/x", "x")
    t.equal(["EROFS", "EROFS"], [line.get("error") for line in container.lines[:2]], "the outcomes of writing")
    (data / "host").write_text("x")


def MNT_06_nosuid(t: Trial) -> None:
    """`nosuid` and `suid`."""
    flags(t, "nosuid", "suid", "nosuid")


def MNT_06_nodev(t: Trial) -> None:
    """`nodev` and `dev`."""
    flags(t, "nodev", "dev", "nodev")


def MNT_06_noexec(t: Trial) -> None:
    """`noexec` and `exec`."""
    flags(t, "noexec", "exec", "noexec")


def MNT_06_noatime(t: Trial) -> None:
    """`noatime` and `atime`."""
    flags(t, "noatime", "atime", "noatime")


def MNT_06_nodiratime(t: Trial) -> None:
    """`nodiratime` and `diratime`."""
    flags(t, "nodiratime", "diratime", "nodiratime")


@should
def MNT_06_nosymfollow(t: Trial) -> None:
    """`nosymfollow` and `symfollow`."""
    host.require_kernel(5, 10, "nosymfollow")
    flags(t, "nosymfollow", "symfollow", "nosymfollow")


def access_times(entry: "dict[str, Any]") -> str:
    """How a mount updates access times."""
    for name in ("noatime", "relatime"):
        if name in entry["options"]:
            return name
    return "strictatime"


def MNT_06_strictatime(t: Trial) -> None:
    """`strictatime` updates access times always; `nostrictatime`, `relatime`, `norelatime` and nothing as the kernel
    does by default."""
    wanted = {
        (): "relatime", ("strictatime",): "strictatime", ("strictatime", "nostrictatime"): "relatime",
        ("nostrictatime",): "relatime", ("nostrictatime", "strictatime"): "strictatime", ("relatime",): "relatime",
        ("norelatime",): "relatime", ("relatime", "norelatime"): "relatime", ("norelatime", "relatime"): "relatime",
    }  # fmt: skip
    for number, options in enumerate(wanted):
        (t.bundle.rootfs / f"m{number}").mkdir()
        t.bundle.mount(f"/m{number}", "tmpfs", "tmpfs", *options)
    found = mounted(t, *(f"/m{number}" for number in range(len(wanted))))
    for (options, expected), entry in zip(wanted.items(), found, strict=True):
        t.equal(expected, access_times(entry), f"access times with {' and '.join(options) or 'nothing'}")


def MNT_06_relatime(t: Trial) -> None:
    """`relatime` and `noatime` change how a bind mount updates access times; without them it stays as it is."""
    source = folder(t, "source")
    host.mount("tmpfs", source, "tmpfs", host.MS_STRICTATIME)
    wanted = {"relatime": "relatime", "noatime": "noatime", "bind": "strictatime"}
    for option in wanted:
        (t.bundle.rootfs / option).mkdir()
        t.bundle.bind(source, f"/{option}", "bind", option)
    for (option, expected), entry in zip(wanted.items(), mounted(t, *(f"/{name}" for name in wanted)), strict=True):
        t.equal(expected, access_times(entry), f"access times of a bind with {option}")


# --- options: flags of a filesystem


def superblock(t: Trial, on: str, off: str, name: str = "") -> None:
    """`on` sets this flag of a filesystem, `off` does not, and the later of both wins. "": the kernel does not show it.

    A bind mount takes them and does not change."""
    wanted = {(): False, (on,): True, (off,): False, (on, off): False, (off, on): True}
    source = folder(t, "source")
    t.bundle.bind(source, "/tmp", "bind", on, off)
    for number, options in enumerate(wanted):
        (t.bundle.rootfs / f"m{number}").mkdir()
        t.bundle.mount(f"/m{number}", "tmpfs", "tmpfs", *options)
    found = mounted(t, "/tmp", *(f"/m{number}" for number in range(len(wanted))))
    for (options, expected), entry in zip(wanted.items(), found[1:], strict=True):
        t.equal("tmpfs", entry["type"], "type")
        if name:
            t.equal(expected, name in entry["super"], f"flag {name} with {' and '.join(options) or 'nothing'}")


def MNT_06_sync(t: Trial) -> None:
    """`sync` and `async`."""
    superblock(t, "sync", "async", "sync")


def MNT_06_dirsync(t: Trial) -> None:
    """`dirsync`."""
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "dirsync")
    t.bundle.mount("/etc", "tmpfs", "tmpfs")
    one, other = mounted(t, "/tmp", "/etc")
    t.equal((True, False), ("dirsync" in one["super"], "dirsync" in other["super"]), "flag dirsync")


def MNT_06_lazytime(t: Trial) -> None:
    """`lazytime` and `nolazytime`."""
    superblock(t, "lazytime", "nolazytime", "lazytime")


def MNT_06_iversion(t: Trial) -> None:
    """`iversion` and `noiversion` are taken, and not handed on to a filesystem that does not know them."""
    superblock(t, "iversion", "noiversion")


def MNT_06_silent(t: Trial) -> None:
    """`silent` and `loud` are taken, and not handed on to a filesystem that does not know them."""
    superblock(t, "silent", "loud")


def MNT_06_mand(t: Trial) -> None:
    """`mand` and `nomand`, which do nothing any more, are taken or refused."""
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "mand", "nomand")
    t.bundle.program("report")
    container = t.runtime.create(t.bundle, ok=False)
    if container.created.status == 0:
        container.start()
        t.true("/tmp" in mounts(container.tells("report")["mountinfo"]), "nothing is mounted on /tmp")


def MNT_06_defaults(t: Trial) -> None:
    """`defaults` says nothing, and is not handed on to the filesystem."""
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "defaults")
    t.bundle.mount("/etc", "tmpfs", "tmpfs", "defaults", "nosuid", "size=1m")
    t.bundle.bind(folder(t, "data"), "/bin", "bind", "defaults")
    one, other, _ = mounted(t, "/tmp", "/etc", "/bin")
    t.equal({"rw", "relatime"}, one["options"], "options of a tmpfs with defaults")
    t.equal({"rw", "relatime", "nosuid"}, other["options"], "options of a tmpfs with defaults and nosuid")


def MNT_06_remount(t: Trial) -> None:
    """`remount` changes the mount that is there, and makes no other."""
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "size=1m")
    t.bundle.mount("/tmp", "tmpfs", "tmpfs", "remount", "ro", "nosuid", "size=2m")
    report, fs, outcome = t.run("report", "statfs", "/tmp", "create", "/tmp/x", "x")
    t.equal(1, report["mountinfo"].count(" /tmp "), "number of mounts on /tmp")
    t.true({"ro", "nosuid"} <= mounts(report["mountinfo"])["/tmp"]["options"], "it is not read-only and nosuid")
    t.equal(2 << 20, fs["size"], "size of the tmpfs")
    t.equal("EROFS", outcome.get("error"), "the outcome of writing")


def MNT_06_remount_of_a_bind(t: Trial) -> None:
    """`remount` with `bind` changes one mount, and not its filesystem."""
    data = folder(t, "data")
    t.bundle.bind(data, "/tmp")
    t.bundle.bind(data, "/etc")
    t.bundle.mount("/tmp", "none", data, "remount", "bind", "ro")
    changed, other = mounted(t, "/tmp", "/etc")
    t.equal((True, False), ("ro" in changed["options"], "ro" in other["options"]), "flag ro of the two binds")


@should
def MNT_06_tmpcopyup(t: Trial) -> None:
    """`tmpcopyup`, if it is taken, fills a tmpfs with what was there."""
    (t.bundle.rootfs / "etc" / "file").write_text("kept")
    (t.bundle.rootfs / "etc" / "file").chmod(0o640)
    t.bundle.mount("/etc", "tmpfs", "tmpfs", "tmpcopyup")
    t.bundle.program("read", "/etc/file", "stat", "/etc/file", "create", "/etc/new", "x", "pause")
    container = t.runtime.create(t.bundle, ok=False)
    if container.created.status == 0:
        container.start()
        container.tells("pause")
        read, stat, *_ = container.lines
        t.equal(("kept", 0o640), (read.get("content"), stat.get("mode")), "content and mode of the copy")
        t.true(not (t.bundle.rootfs / "etc" / "new").exists(), "there is no tmpfs")


# --- options: propagation


def propagation(entry: "dict[str, Any]") -> str:
    """The propagation of a mount in a word."""
    words = {"shared": "shared", "master": "slave", "unbindable": "unbindable"}
    found = [words[field.partition(":")[0]] for field in entry["fields"] if field.partition(":")[0] in words]
    return " and ".join(found) or "private"


def propagates(t: Trial, option: str, source: str, top: str, sub: "str | None") -> None:
    """A tree of the host whose mounts are all `source` is bound with this option: what its mounts are then."""
    t.bundle.linux["rootfsPropagation"] = "slave"
    path = tree(t)
    for mount in (path, path / "sub"):
        host.mount("none", mount, "", PROPAGATION[source])
    t.bundle.bind(path, "/tmp", "rbind", option)
    found = [propagation(entry) for entry in mounted(t, "/tmp", "/tmp/sub")]
    t.equal(top, found[0], f"propagation with {option}")
    if sub:
        t.equal(sub, found[1], f"propagation of a mount below with {option}")


def MNT_06_private(t: Trial) -> None:
    """`private`."""
    propagates(t, "private", "shared", "private", None)


def MNT_06_rprivate(t: Trial) -> None:
    """`rprivate`, also of what is mounted below."""
    propagates(t, "rprivate", "shared", "private", "private")


def MNT_06_shared(t: Trial) -> None:
    """`shared`, and nothing below."""
    propagates(t, "shared", "private", "shared", "private")


def MNT_06_rshared(t: Trial) -> None:
    """`rshared`, also of what is mounted below."""
    propagates(t, "rshared", "private", "shared", "shared")


def MNT_06_slave(t: Trial) -> None:
    """`slave`."""
    propagates(t, "slave", "shared", "slave", None)


def MNT_06_rslave(t: Trial) -> None:
    """`rslave`, also of what is mounted below."""
    propagates(t, "rslave", "shared", "slave", "slave")


def MNT_06_unbindable(t: Trial) -> None:
    """`unbindable`, and nothing below."""
    propagates(t, "unbindable", "private", "unbindable", "private")


def MNT_06_runbindable(t: Trial) -> None:
    """`runbindable`, also of what is mounted below."""
    propagates(t, "runbindable", "private", "unbindable", "unbindable")


def MNT_06_propagation_in_order(t: Trial) -> None:
    """Several kinds of propagation are set one after the other, on new filesystems too."""
    t.bundle.linux["rootfsPropagation"] = "slave"
    for number, options in enumerate((["shared"], ["shared", "private"], ["private", "shared"], ["unbindable"])):
        (t.bundle.rootfs / f"m{number}").mkdir()
        t.bundle.mount(f"/m{number}", "tmpfs", "tmpfs", *options)
    found = [propagation(entry) for entry in mounted(t, "/m0", "/m1", "/m2", "/m3")]
    t.equal(["shared", "private", "shared", "unbindable"], found, "propagation")


def MNT_06_rslave_works(t: Trial) -> None:
    """What the host mounts below the source of an `rslave` mount appears in a container that runs."""
    t.bundle.linux["rootfsPropagation"] = "slave"
    path = tree(t)
    host.mount("none", path, "", host.MS_SHARED)
    (path / "late").mkdir()
    t.bundle.bind(path, "/tmp", "rbind", "rslave")
    container = t.create()
    source = folder(t, "late-source", mark="late")
    host.mount(str(source), path / "late", "", host.MS_BIND)
    container.start()
    found = mounts(container.tells("report")["mountinfo"])
    t.true("/tmp/late" in found, "the container does not see a mount that the host made after create")


# --- options: recursive


def require_mount_setattr() -> None:
    host.require_kernel(5, 12, "mount_setattr")


def recursive(t: Trial, on: str, off: str, name: str, flag: int) -> None:
    """`on` sets a flag on a whole tree, `off` clears it there; the host's own mounts stay."""
    require_mount_setattr()
    paths = {on: tree(t, name="on"), off: tree(t, flag, name="off")}
    t.bundle.bind(paths[on], "/tmp", "rbind", on)
    t.bundle.bind(paths[off], "/etc", "rbind", off)
    entries = mounted(t, "/tmp", "/tmp/sub", "/etc", "/etc/sub")
    for option, entry in zip((on, on, off, off), entries, strict=True):
        t.equal(option == on, name in entry["options"], f"flag {name} with {option} on {entry['point']}")
    own = mounts(Path("/proc/self/mountinfo").read_text())
    for option, path in paths.items():
        for mount in (path, path / "sub"):
            t.equal(option == off, name in own[str(mount)]["options"], f"flag {name} of the host's own mount")


@should
def MNT_06_rro(t: Trial) -> None:
    """`rro` and `rrw`."""
    recursive(t, "rro", "rrw", "ro", host.MS_RDONLY)


@should
def MNT_06_rnosuid(t: Trial) -> None:
    """`rnosuid` and `rsuid`."""
    recursive(t, "rnosuid", "rsuid", "nosuid", host.MS_NOSUID)


@should
def MNT_06_rnodev(t: Trial) -> None:
    """`rnodev` and `rdev`."""
    recursive(t, "rnodev", "rdev", "nodev", host.MS_NODEV)


@should
def MNT_06_rnoexec(t: Trial) -> None:
    """`rnoexec` and `rexec`."""
    recursive(t, "rnoexec", "rexec", "noexec", host.MS_NOEXEC)


@should
def MNT_06_rnodiratime(t: Trial) -> None:
    """`rnodiratime` and `rdiratime`."""
    recursive(t, "rnodiratime", "rdiratime", "nodiratime", host.MS_NODIRATIME)


@should
def MNT_06_rnosymfollow(t: Trial) -> None:
    """`rnosymfollow` and `rsymfollow`."""
    host.require_kernel(5, 14, "rnosymfollow")
    recursive(t, "rnosymfollow", "rsymfollow", "nosymfollow", host.MS_NOSYMFOLLOW)


def recursive_access_times(t: Trial, before: int, **wanted: str) -> None:
    """A tree of the host with these flags, bound with each of these options: how it updates access times then."""
    require_mount_setattr()
    path = tree(t, before)
    for option in wanted:
        (t.bundle.rootfs / option).mkdir()
        t.bundle.bind(path, f"/{option}", "rbind", option)
    points = [(option, f"/{option}{below}") for option in wanted for below in ("", "/sub")]
    for (option, point), entry in zip(points, mounted(t, *(point for _, point in points)), strict=True):
        t.equal(wanted[option], access_times(entry), f"access times of {point} with {option}")


@should
def MNT_06_rnoatime(t: Trial) -> None:
    """`rnoatime` and `rstrictatime`."""
    recursive_access_times(t, 0, rnoatime="noatime", rstrictatime="strictatime")


@should
def MNT_06_ratime(t: Trial) -> None:
    """`ratime`, `rrelatime`, `rnorelatime` and `rnostrictatime` bring a tree without access times back to the
    default.
    """
    recursive_access_times(
        t, host.MS_NOATIME, ratime="relatime", rrelatime="relatime", rnorelatime="relatime", rnostrictatime="relatime"
    )


@should
def MNT_06_rro_works(t: Trial) -> None:
    """With `rro` nothing of a tree can be written, with `ro` the mounts below can."""
    require_mount_setattr()
    path = tree(t)
    for option, expected in (("rro", "EROFS"), ("ro", None)):
        t.bundle.bind(path, "/tmp", "rbind", option)
        top, sub = t.run("create", "/tmp/x", "x", "create", "/tmp/sub/x", "x")
        t.equal(("EROFS", expected), (top.get("error"), sub.get("error")), f"the outcomes of writing with {option}")
        t.bundle.drop_mount("/tmp")


# --- id-mapped mounts


def mapping(base: int = 100000, size: int = 65536) -> "dict[str, list[dict[str, int]]]":
    """Mappings of users and groups for a mount: 0 and up become base and up."""
    entry = {"containerID": 0, "hostID": base, "size": size}
    return {"uidMappings": [entry], "gidMappings": [entry]}


def owned(t: Trial) -> Path:
    """A tree of mounts whose files belong to user 5 and group 6."""
    path = tree(t)
    host.require_idmap(path)
    for file in (path / "top.txt", path / "sub" / "sub.txt"):
        os.chown(file, 5, 6)
    return path


def owners(t: Trial) -> "list[tuple[int, int]]":
    """Whose the files of that tree, mounted on /tmp, are in the container."""
    lines = t.run("stat", "/tmp/top.txt", "stat", "/tmp/sub/sub.txt")
    for line in lines:
        t.true("error" not in line, f"stat of {line['path']} gives {line.get('error')}")
    return [(line["uid"], line["gid"]) for line in lines]


def MNT_09(t: Trial) -> None:
    """uidMappings and gidMappings map the owners of files in a mount; the files themselves stay."""
    path = owned(t)
    t.bundle.bind(path, "/tmp", "bind", "idmap", **mapping(base=3000))
    found = t.ask("stat", "/tmp/top.txt")
    t.equal((3005, 3006), (found["uid"], found["gid"]), "owner of the file in the container")
    stat = (path / "top.txt").stat()
    t.equal((5, 6), (stat.st_uid, stat.st_gid), "owner of the file on the host")


def MNT_09_written(t: Trial) -> None:
    """The owner of a file written through the mount is mapped back."""
    path = owned(t)
    path.chmod(0o777)
    t.bundle.process["user"] = {"uid": 3007, "gid": 3008}
    t.bundle.bind(path, "/tmp", "bind", "idmap", **mapping(base=3000))
    t.equal(None, t.ask("create", "/tmp/new", "x").get("error"), "the outcome of writing")
    stat = (path / "new").stat()
    t.equal((7, 8), (stat.st_uid, stat.st_gid), "owner of the new file on the host")


def MNT_09_pair(t: Trial) -> None:
    """One kind of mapping without the other is an error."""
    data = folder(t, "data")
    for name, entries in mapping().items():
        t.bundle.bind(data, "/tmp", "bind", "idmap", **{name: entries})
        t.refused(why=f"with {name} alone")
        t.bundle.drop_mount("/tmp")


def MNT_10(t: Trial) -> None:
    """With `idmap` a mount has its own mappings, in a user namespace too; mounts below it stay as they are."""
    t.require_type("user")
    path = owned(t)
    t.bundle.user_namespace(base=100000)
    t.bundle.bind(path, "/tmp", "rbind", "idmap", **mapping(base=100010))
    t.equal([(15, 16), (65534, 65534)], owners(t), "owners of the files in the container")


def MNT_10_of_the_container(t: Trial) -> None:
    """`idmap` without mappings takes those of the container's user namespace, or is an error."""
    t.require_type("user")
    path = owned(t)
    t.bundle.user_namespace(base=100000)
    t.bundle.bind(path, "/tmp", "bind", "idmap")
    t.bundle.program("stat", "/tmp/top.txt")
    container = t.runtime.create(t.bundle, ok=False)
    if container.created.status == 0:
        container.start()
        stat = container.tells("stat")
        t.equal((5, 6), (stat.get("uid"), stat.get("gid")), "owner of the file in the container")


def MNT_10_without_mappings(t: Trial) -> None:
    """`idmap` without mappings and without a user namespace is an error."""
    t.bundle.bind(folder(t, "data"), "/tmp", "bind", "idmap")
    t.refused(why="with idmap and no mappings at all")


def MNT_11(t: Trial) -> None:
    """With `ridmap` the mounts below are mapped too."""
    t.require_type("user")
    path = owned(t)
    t.bundle.user_namespace(base=100000)
    t.bundle.bind(path, "/tmp", "rbind", "ridmap", **mapping(base=100010))
    t.equal([(15, 16)] * 2, owners(t), "owners of the files in the container")


def MNT_11_without_mappings(t: Trial) -> None:
    """`ridmap` without mappings and without a user namespace is an error."""
    t.bundle.bind(folder(t, "data"), "/tmp", "rbind", "ridmap")
    t.refused(why="with ridmap and no mappings at all")
