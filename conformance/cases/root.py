"""The root filesystem, host name and domain name."""

import socket

from conformance import host
from conformance.trial import Trial, mounts


def ROOT_01(t: Trial) -> None:
    """A container without `root` can't be made."""
    del t.bundle.config["root"]
    t.refused(why="without root")


def ROOT_02(t: Trial) -> None:
    """`root.path` may be absolute."""
    t.bundle.config["root"]["path"] = str(t.bundle.rootfs)
    (t.bundle.rootfs / "mark").touch()
    t.true("error" not in t.ask("stat", "/mark"), "the root is not the directory that root.path names")


def ROOT_02_relative(t: Trial) -> None:
    """A relative `root.path` is below the bundle, wherever the runtime was called; any name will do."""
    t.bundle.rootfs.rename(t.bundle.folder / "system")
    (t.bundle.folder / "system" / "mark").touch()
    (t.folder / "system").mkdir()
    for path in ("system", "./system/../system"):
        t.bundle.config["root"]["path"] = path
        (line,) = t.run("stat", "/mark", cwd=t.folder)
        t.true("error" not in line, f"the root is not {path} in the bundle")


def ROOT_02_missing(t: Trial) -> None:
    """`root.path` has to be there, and to be a directory that exists."""
    (t.bundle.folder / "file").touch()
    for path in ("missing", "file", str(t.folder / "missing")):
        t.bundle.config["root"]["path"] = path
        t.refused(why=f"with root.path {path!r}")
    del t.bundle.config["root"]["path"]
    t.refused(why="without root.path")


def ROOT_03(t: Trial) -> None:
    """A read-only root is read-only inside, and the mounts of the config are not."""
    t.bundle.config["root"]["readonly"] = True
    t.bundle.mount("/tmp")
    data = t.folder / "data"
    data.mkdir()
    t.bundle.bind(data, "/etc")
    root, tmpfs, bind, report = t.run(
        "create", "/new", "x", "create", "/tmp/new", "x", "create", "/etc/new", "x", "report"
    )
    t.equal("EROFS", root.get("error"), "the outcome of a write to /")
    t.equal((None, None), (tmpfs.get("error"), bind.get("error")), "the outcome of writes to mounts")
    t.true("ro" in mounts(report["mountinfo"])["/"]["options"], "mountinfo does not call / read-only")


def ROOT_03_false(t: Trial) -> None:
    """The root is writable unless it is said to be read-only, and is the directory of the bundle."""
    for wanted in (None, False):
        t.bundle.config["root"].pop("readonly", None)
        if wanted is not None:
            t.bundle.config["root"]["readonly"] = wanted
        name = f"new-{wanted}"
        t.equal(None, t.ask("create", f"/{name}", "x").get("error"), "the outcome of a write to /")
        t.equal("x", (t.bundle.rootfs / name).read_text(), "the file on the host")


# --- names


def UTS_01(t: Trial) -> None:
    """The host name is the container's, and the host's stays."""
    before = socket.gethostname()
    t.bundle.config["hostname"] = "conformance-1.example"
    t.equal("conformance-1.example", t.report()["hostname"], "host name")
    t.equal(before, socket.gethostname(), "the host's own name")


def UTS_01_impossible(t: Trial) -> None:
    """A name that is longer than the kernel allows is an error."""
    t.bundle.config["hostname"] = "x" * 65
    t.refused(why="with a host name of 65 bytes")


def UTS_01_of_the_runtime(t: Trial) -> None:
    """Without a UTS namespace of its own, the container's host name is still set, or it is an error."""
    name_without_namespace(t, "hostname")


def UTS_02(t: Trial) -> None:
    """The domain name is the container's, and the host's stays."""
    before = host.domain_name()
    t.bundle.config["domainname"] = "conformance.example"
    report, file = t.run("report", "read", "/proc/sys/kernel/domainname")
    t.equal("conformance.example", report["domainname"], "domain name")
    t.equal("conformance.example\n", file["content"], "/proc/sys/kernel/domainname")
    t.equal(before, host.domain_name(), "the host's own domain name")


def UTS_02_impossible(t: Trial) -> None:
    """A name that is longer than the kernel allows is an error."""
    t.bundle.config["domainname"] = "x" * 65
    t.refused(why="with a domain name of 65 bytes")


def UTS_02_of_the_runtime(t: Trial) -> None:
    """Without a UTS namespace of its own, the container's domain name is still set, or it is an error."""
    name_without_namespace(t, "domainname")


def name_without_namespace(t: Trial, key: str) -> None:
    """Both ways are open to a runtime; to ignore the name is not."""
    host.unshare(host.CLONE_NEWUTS)  # the runtime's own, so that the host's name is safe
    t.bundle.drop_namespace("uts")
    t.bundle.config[key] = "conformance-2"
    t.bundle.program("report")
    container = t.runtime.create(t.bundle, ok=False)
    if container.created.status == 0:
        container.start()
        t.equal("conformance-2", container.tells("report")[key], key)
