"""Descriptors, links in /dev, devices."""

import os
import stat

from conformance import host
from conformance.trial import Trial, mounts

DEFAULTS = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def device(t: Trial, path: str, kind: str = "c", major: int = 1, minor: int = 3, **more: int) -> None:
    """One more device."""
    entry = {"path": path, "type": kind, "major": major, "minor": minor, **more}
    t.bundle.linux.setdefault("devices", []).append(entry)


def node(t: Trial, path: str) -> "tuple[str, int, int]":
    """Type, major and minor of a device in the container."""
    line = t.ask("stat", path)
    t.true("error" not in line, f"stat of {path} gives {line.get('error')}")
    return line["type"], line["major"], line["minor"]


def FD_01(t: Trial) -> None:
    """The program has no descriptors but 0, 1 and 2, whatever the runtime's caller had open."""
    leaks = [os.open(path, os.O_RDONLY) for path in ("/", "/dev/null", t.folder)]
    t.equal([0, 1, 2], t.report(pass_fds=leaks)["fds"], "list of open descriptors")


def FD_02(t: Trial) -> None:
    """/dev/fd, stdin, stdout and stderr are links to what is in /proc/self/fd."""
    found = t.run(*(word for name in LINKS for word in ("readlink", f"/dev/{name}")))
    t.equal(list(LINKS.values()), [line.get("target") for line in found], "list of targets")


def DEV_01(t: Trial) -> None:
    """Each device of the list is there, with its numbers, and can be used."""
    device(t, "/dev/one", minor=3)
    device(t, "/dev/two", minor=5)
    one, two, write = t.run("stat", "/dev/one", "stat", "/dev/two", "write", "/dev/one", "x")
    t.equal(
        [("c", 1, 3), ("c", 1, 5)], [(s.get("type"), s.get("major"), s.get("minor")) for s in (one, two)], "devices"
    )
    t.equal(None, write.get("error"), "the outcome of writing to the device")


def DEV_02(t: Trial) -> None:
    """The types: c and u make a character device, b a block device, p a FIFO."""
    for kind, expected in (("c", "c"), ("u", "c"), ("b", "b")):
        device(t, f"/dev/type-{kind}", kind, 7, 200)
        t.equal((expected, 7, 200), node(t, f"/dev/type-{kind}"), f"device of type {kind}")
    t.bundle.linux["devices"] = [{"path": "/dev/type-p", "type": "p"}]
    t.equal("p", node(t, "/dev/type-p")[0], "type of a FIFO")


def DEV_02_unknown(t: Trial) -> None:
    """A type that does not exist, or none, is an error."""
    for kind in ("x", "a", "cb", "", None):
        t.bundle.linux["devices"] = [{"path": "/dev/x", "major": 1, "minor": 3, "type": kind}]
        if kind is None:
            del t.bundle.linux["devices"][0]["type"]
        t.refused(why=f"with a device of the type {kind!r}")


def DEV_03(t: Trial) -> None:
    """A device can be anywhere, also where no directory was."""
    (t.bundle.rootfs / "etc" / "deep").mkdir()
    for path in ("/etc/deep/device", "/device", "/not/yet/device"):
        device(t, path)
        t.equal(("c", 1, 3), node(t, path), f"device at {path}")


def DEV_03_missing(t: Trial) -> None:
    """`path` is required."""
    t.bundle.linux["devices"] = [{"type": "c", "major": 1, "minor": 3}]
    t.refused(why="with a device that has no path")


def DEV_04(t: Trial) -> None:
    """Something else at the path makes an error: a file, a directory, another device."""
    place = t.bundle.rootfs / "etc"
    (place / "file").touch()
    (place / "directory").mkdir()
    os.mknod(place / "minor", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    os.mknod(place / "type", 0o666 | stat.S_IFBLK, os.makedev(1, 3))
    for name in ("file", "directory", "minor", "type"):
        t.bundle.linux["devices"] = []
        device(t, f"/etc/{name}")
        t.refused(why=f"with a {name} in the way of a device")


def DEV_04_same(t: Trial) -> None:
    """The device that was asked for may be there already."""
    os.mknod(t.bundle.rootfs / "etc" / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    device(t, "/etc/device")
    t.equal(("c", 1, 3), node(t, "/etc/device"), "device")


def DEV_05(t: Trial) -> None:
    """A device needs major and minor."""
    for kind in ("c", "u", "b"):
        for missing in ("major", "minor"):
            t.bundle.linux["devices"] = []
            device(t, "/dev/x", kind)
            del t.bundle.linux["devices"][0][missing]
            t.refused(why=f"with a device of type {kind} without {missing}")


def DEV_06(t: Trial) -> None:
    """fileMode is the permission bits, whatever the umasks are."""
    t.bundle.process["user"]["umask"] = 0o077
    modes = (0o666, 0o640, 0o400, 0o777)
    for number, mode in enumerate(modes):
        device(t, f"/dev/mode{number}", fileMode=mode)
    words = [word for number in range(len(modes)) for word in ("stat", f"/dev/mode{number}")]
    found = t.run(*words, preexec_fn=lambda: os.umask(0o077))
    t.equal([oct(mode) for mode in modes], [oct(line["mode"]) for line in found], "modes")


def DEV_07(t: Trial) -> None:
    """uid and gid own the device; unset, root does."""
    device(t, "/dev/owned", uid=1000, gid=2000)
    device(t, "/dev/plain")
    owned, plain = t.run("stat", "/dev/owned", "stat", "/dev/plain")
    t.equal((1000, 2000), (owned["uid"], owned["gid"]), "owner and group")
    t.equal((0, 0), (plain["uid"], plain["gid"]), "owner and group if they are unset")


def DEV_07_in_a_user_namespace(t: Trial) -> None:
    """They are ids of the container's user namespace."""
    t.require_type("user")
    t.bundle.user_namespace()
    device(t, "/dev/owned", uid=5, gid=6)
    line = t.ask("stat", "/dev/owned")
    t.equal((5, 6), (line.get("uid"), line.get("gid")), "owner and group")


def DEV_08(t: Trial) -> None:
    """The same device may be listed twice."""
    device(t, "/dev/one")
    device(t, "/dev/two")
    found = t.run("stat", "/dev/one", "stat", "/dev/two")
    t.equal([(1, 3)] * 2, [(line.get("major"), line.get("minor")) for line in found], "devices")


def DEV_09(t: Trial) -> None:
    """The default devices are there, can be used, and can be opened by every user."""
    t.bundle.process["user"] = {"uid": 1000, "gid": 1000}
    words = [word for name in DEFAULTS for word in ("stat", f"/dev/{name}")]
    *found, write, read, full = t.run(
        *words, "write", "/dev/null", "x", "open", "/dev/urandom", "rw", "write", "/dev/full", "x"
    )
    numbers = {
        name: (line.get("type"), line.get("major"), line.get("minor"))
        for name, line in zip(DEFAULTS, found, strict=True)
    }
    t.equal({name: ("c", *pair) for name, pair in DEFAULTS.items()}, numbers, "devices")
    t.equal(
        (None, None, "ENOSPC"), (write.get("error"), read.get("error"), full.get("error")), "outcomes of using them"
    )


def DEV_09_in_a_user_namespace(t: Trial) -> None:
    """The default devices are there and can be used in a user namespace too."""
    t.require_type("user")
    t.bundle.user_namespace()
    DEV_09(t)


def DEV_09_ptmx(t: Trial) -> None:
    """/dev/ptmx is /dev/pts/ptmx of the container."""
    one, other, outcome = t.run("stat", "/dev/ptmx", "stat", "/dev/pts/ptmx", "open", "/dev/ptmx", "rw")
    t.equal((other["dev"], other["ino"]), (one.get("dev"), one.get("ino")), "file behind /dev/ptmx")
    t.equal(None, outcome.get("error"), "the outcome of opening /dev/ptmx")


def DEV_09_console(t: Trial) -> None:
    """With a terminal, /dev/console is a bind mount of it."""
    t.bundle.process["terminal"] = True
    t.bundle.program("report", "stat", "/dev/console", "stat", "/proc/self/fd/0", "open", "/dev/console", "rw")
    console = t.console()
    container = t.create("--console-socket", console.path)
    container.start()
    report, at, terminal, outcome = console.lines()
    t.true("/dev/console" in mounts(report["mountinfo"]), "nothing is mounted on /dev/console")
    t.equal(
        ("c", terminal["major"], terminal["minor"]), (at["type"], at["major"], at["minor"]), "device at /dev/console"
    )
    t.equal(None, outcome.get("error"), "the outcome of opening /dev/console")


def DEV_10(t: Trial) -> None:
    """A node that is not the container's to have can't be opened where device rules deny it; default devices can."""
    leak = t.folder / "kmsg"
    os.mknod(leak, 0o666 | stat.S_IFCHR, os.makedev(1, 11))
    try:
        os.close(os.open(leak, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        raise host.Missing("the kernel's log can't be opened here") from None
    (t.bundle.rootfs / "etc" / "kmsg").touch()
    t.bundle.bind(leak, "/etc/kmsg")
    t.bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    opened, null = t.run("open", "/etc/kmsg", "r", "open", "/dev/null", "rw")
    t.equal("EPERM", opened.get("error"), "the outcome of opening the node")
    t.equal(None, null.get("error"), "the outcome of opening /dev/null")
