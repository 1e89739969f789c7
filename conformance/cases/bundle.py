"""The bundle, the version, annotations."""

import os

from conformance.trial import SEMVER, Trial, change, host


def BUN_01(t: Trial) -> None:
    """config.json, by exactly this name and at the root of the bundle, is required."""
    config = t.bundle.folder / "config.json"
    t.bundle.write()
    t.bundle.config, good = None, config.read_text()

    def somewhere_else(name: str) -> None:
        config.unlink(missing_ok=True)
        path = t.bundle.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(good)

    t.each_refused(
        {
            "without config.json": lambda b: config.unlink(),
            "with Config.json": lambda b: somewhere_else("Config.json"),
            "with config": lambda b: somewhere_else("config"),
            "with rootfs/config.json": lambda b: somewhere_else("rootfs/config.json"),
            "with a directory config.json": lambda b: config.mkdir(),
        }
    )
    config.rmdir()
    somewhere_else("config.json")
    t.run()


def BUN_01_no_bundle(t: Trial) -> None:
    """A bundle that does not exist, or is a file, is an error."""
    good = t.bundle.folder / "config.json"
    t.refused("--bundle", t.folder / "missing")
    t.refused("--bundle", good)
    t.run()


def BUN_02(t: Trial) -> None:
    """A bundle can be moved, and what is relative in it is relative to where it stands."""
    (t.bundle.folder / "data").write_text("here")
    (t.bundle.rootfs / "tmp/file").touch()
    t.bundle.bind("data", "/tmp/file")
    t.bundle.program("read", "/tmp/file")
    (line,) = t.run()
    t.equal("here", line.get("content"), "the file of the bundle")

    moved = t.folder / "moved"
    os.rename(t.bundle.folder, moved)
    (moved / "data").write_text("there")
    t.bundle.folder = moved
    t.bundle.rootfs = moved / "rootfs"
    (line,) = t.run()
    t.equal("there", line.get("content"), "the file of the moved bundle")


VERSIONS = ("", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.0 ", "01.0.0", "1.0.0-", "1.0.0-a..b", "1.0.0-01", "1.0.0+a_b")


def CFG_01(t: Trial) -> None:
    """ociVersion is required, and is a version as SemVer 2.0.0 has them, whatever its pre-release and build are."""
    for version in ("1.0.2-dev", "1.0.1-rc.1.x-y", "1.0.0+dev", "1.0.2-0a+001.x"):
        t.bundle.config["ociVersion"] = version
        t.run()
    t.each_refused({"without ociVersion": lambda b: b.remove("/ociVersion")})


def CFG_01_not_semver(t: Trial) -> None:
    """An ociVersion that SemVer 2.0.0 does not know is an error."""
    t.each_refused(dict(change("/ociVersion", version) for version in VERSIONS))


def CFG_02(t: Trial) -> None:
    """A config for 1.0, or for any minor version up to the one that the runtime says it follows, works."""
    versions = ["1.0.0", "1.0.1", "1.0.2"]
    try:
        newest = str(t.runtime.features().get("ociVersionMax"))
    except host.Missing:
        newest = "1.0.2"
    match = SEMVER.fullmatch(newest)
    t.true(match, f"ociVersionMax of the features is {newest!r}")
    versions += [f"1.{minor}.0" for minor in range(1, int(match.group(2)))]
    for version in versions:
        t.bundle.config["ociVersion"] = version
        t.create()
    t.bundle.config["ociVersion"] = newest
    t.run()


def CFG_02_another_major(t: Trial) -> None:
    """A config for another major version is an error: compatibility is promised within one alone."""
    t.each_refused(dict(change("/ociVersion", version) for version in ("0.9.0", "2.0.0")))


def CFG_03(t: Trial) -> None:
    """The objects of other platforms may be there, and change nothing."""
    plain = t.report()
    t.bundle.config |= {
        "windows": {"layerFolders": ["C:\\layer"], "resources": {"memory": {"limit": 1 << 20}}, "network": {}},
        "solaris": {"milestone": "svc:/milestone/container:default", "cappedMemory": {"physical": "1m"}},
        "vm": {"kernel": {"path": "/missing"}, "hypervisor": {"path": "/missing", "parameters": ["x"]}},
        "zos": {"namespaces": [{"type": "mount"}]},
        "freebsd": {"jail": {"host": "new"}},
    }
    found = t.report()
    for name in ("args", "env", "rlimits", "capabilities", "uid", "cwd"):
        t.equal(plain[name], found[name], name)


def ANN_01(t: Trial) -> None:
    """Annotations have keys of any characters and values that are strings, empty ones too."""
    annotations = {"org.example.key": "value", "x": "", "é\U0001f980": '"\\\n', "a b": " ", "null": "null"}
    t.bundle.config["annotations"] = annotations
    t.equal(annotations, t.create().state().get("annotations"), "annotations of the state")


def ANN_01_none(t: Trial) -> None:
    """An absent map of annotations is equivalent to an empty one."""
    for empty in ({}, {"annotations": {}}):
        t.bundle.config.pop("annotations", None)
        t.bundle.config |= empty
        t.equal({}, t.create().state().get("annotations") or {}, "annotations of the state")


def ANN_01_invalid(t: Trial) -> None:
    """An annotation that is not a string, or whose key is empty, is an error."""
    values: tuple[object, ...] = (5, 1.5, True, {}, ["x"])
    t.each_refused(
        dict([*(change("/annotations", {"key": value}) for value in values), change("/annotations", {"": "value"})])
    )


def ANN_02(t: Trial) -> None:
    """Keys below org.opencontainers are reserved, but an unknown one among them changes nothing."""
    annotations = {
        "org.opencontainers.conformance": "x",
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "pdp11",
        "org.opencontainers.image.stopSignal": "SIGWINCH",
        "org.opencontainers.image.created": "yesterday",
    }
    t.bundle.config["annotations"] = annotations
    container = t.create()
    t.equal(annotations, container.state().get("annotations"), "annotations of the state")
    container.start()
    t.equal(0, container.wait(), "the exit status")
