"""Intel RDT, on a resctrl filesystem that is pretended (`conformance.resctrl`)."""

from pathlib import Path

from conformance.resctrl import Resctrl
from conformance.trial import Trial, change, host, must


def RDT_01(t: Trial) -> None:
    """Without intelRdt nothing of resctrl is touched in a container's life."""
    resctrl = Resctrl(t)
    resctrl.make("theirs", L3="0=f")
    before = resctrl.everything()
    t.report()
    t.equal(before, resctrl.everything(), "the tree afterwards")


def RDT_02(t: Trial) -> None:
    """The container's process is in the group."""
    resctrl = Resctrl(t)
    resctrl.make("theirs")
    t.bundle.linux["intelRdt"] = {"closID": "theirs"}
    container = t.running()
    t.true(resctrl.holds("theirs", container), "the process is not in the group")


def RDT_02_without_resctrl(t: Trial) -> None:
    """intelRdt is an error if no resctrl is mounted."""
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        raise host.Missing("a resctrl is mounted")
    wrong = ({"closID": "group"}, {}, {"l3CacheSchema": "L3:0=f"}, {"closID": "/", "memBwSchema": "MB:0=50"})
    t.each_refused(dict(change("/linux/intelRdt", value) for value in wrong))


def RDT_03(t: Trial) -> None:
    """closID names the group."""
    resctrl = Resctrl(t)
    t.bundle.linux["intelRdt"] = {"closID": "named", "l3CacheSchema": "L3:0=f"}
    container = t.running()
    t.equal(["named"], resctrl.groups(), "the groups made")
    t.true(resctrl.holds("named", container), "the process is not in the group")


def RDT_03_default(t: Trial) -> None:
    """The closID / is the default group."""
    resctrl = Resctrl(t)
    t.bundle.linux["intelRdt"] = {"closID": "/"}
    container = t.running()
    t.true(resctrl.holds("", container), "the process is not in the default group")
    t.equal([], resctrl.groups(), "the groups made")
    t.equal([], resctrl.written(""), "what was written to the default group's schemata")


def RDT_04(t: Trial) -> None:
    """Without closID the group has the container's id, and is made."""
    resctrl = Resctrl(t)
    for more in ({"l3CacheSchema": "L3:0=f"}, {}):
        t.bundle.linux["intelRdt"] = more
        container = t.running()
        t.true(
            container.id in resctrl.groups(),
            f"with {more}, there are the groups {resctrl.groups()}, not {container.id}",
        )
        t.true(resctrl.holds(container.id, container), "the process is not in the group")


@must
def RDT_05(t: Trial) -> None:
    """l3CacheSchema is written to the group."""
    resctrl = Resctrl(t)
    t.bundle.linux["intelRdt"] = {"closID": "group", "l3CacheSchema": "L3:0=3f"}
    t.running()
    t.equal(["L3:0=3f"], resctrl.written("group"), "what was written to schemata")


def RDT_06(t: Trial) -> None:
    """memBwSchema is written to the group."""
    resctrl = Resctrl(t)
    t.bundle.linux["intelRdt"] = {"closID": "group", "memBwSchema": "MB:0=70"}
    t.running()
    t.equal(["MB:0=70"], resctrl.written("group"), "what was written to schemata")


def RDT_06_wrong(t: Trial) -> None:
    """A memBwSchema that does not begin with MB: or has more than a line is an error."""
    resctrl = Resctrl(t)
    before = resctrl.everything()
    values = ("L3:0=f", "0=70", " MB:0=70", "mb:0=70", "MB:0=70\nL3:0=f", "MB:0=70\n")
    t.each_refused(dict(change("/linux/intelRdt", {"closID": "group", "memBwSchema": value}) for value in values))
    t.equal(before, resctrl.everything(), "the tree afterwards")


def RDT_07(t: Trial) -> None:
    """Each element of schemata is written as a line."""
    resctrl = Resctrl(t)
    t.bundle.linux["intelRdt"] = {"closID": "group", "schemata": ["L3:0=7", "MB:0=20", "L2:0=f"]}
    t.running()
    t.equal(["L3:0=7", "MB:0=20", "L2:0=f"], resctrl.written("group"), "what was written to schemata")


def RDT_07_wrong(t: Trial) -> None:
    """An element of schemata with a newline is an error."""
    resctrl = Resctrl(t)
    before = resctrl.everything()
    values = (["L3:0=7\nMB:0=20"], ["L3:0=7", "MB:0=20\n"], ["\n"])
    t.each_refused(dict(change("/linux/intelRdt", {"closID": "group", "schemata": value}) for value in values))
    t.equal(before, resctrl.everything(), "the tree afterwards")


def RDT_08(t: Trial) -> None:
    """l3CacheSchema is written first, then memBwSchema, whatever their order in the config."""
    resctrl = Resctrl(t)
    t.bundle.linux["intelRdt"] = {"memBwSchema": "MB:0=70", "l3CacheSchema": "L3:0=3f", "closID": "group"}
    t.running()
    t.equal(["L3:0=3f", "MB:0=70"], resctrl.written("group"), "what was written to schemata, in order")


def RDT_08_schemata(t: Trial) -> None:
    """schemata is written last."""
    resctrl = Resctrl(t)
    t.bundle.linux["intelRdt"] = {
        "schemata": ["MB:0=20", "L3:0=7"],
        "memBwSchema": "MB:0=70",
        "l3CacheSchema": "L3:0=3f",
        "closID": "group",
    }
    t.running()
    t.equal(
        ["L3:0=3f", "MB:0=70", "MB:0=20", "L3:0=7"], resctrl.written("group"), "what was written to schemata, in order"
    )


def RDT_08_unset(t: Trial) -> None:
    """Without any schema no schemata is written."""
    resctrl = Resctrl(t)
    resctrl.make("theirs", L3="0=f")
    for entry in ({"closID": "theirs"}, {}):
        t.bundle.linux["intelRdt"] = entry
        container = t.running()
        found = {name: resctrl.written(name) for name in ("theirs", "", container.id)}
        t.equal({"theirs": ["L3:0=f"], "": [], container.id: []}, found, f"what was written with {entry}")


def RDT_09(t: Trial) -> None:
    """A group that exists is used if it has the schemata asked for, and left as it is."""
    resctrl = Resctrl(t)
    resctrl.make("theirs", L3="0=f", MB="0=50")
    for more in (
        {"l3CacheSchema": "L3:0=f"},
        {"memBwSchema": "MB:0=50"},
        {"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50"},
    ):
        t.bundle.linux["intelRdt"] = {"closID": "theirs", **more}
        resctrl.forget()
        container = t.running()
        t.true(resctrl.holds("theirs", container), f"with {more} the process is not in the group")
        t.equal({"L3:0=f", "MB:0=50"}, set(resctrl.written("theirs")), "what the group's schemata hold")


def RDT_09_mismatch(t: Trial) -> None:
    """A group that exists with other schemata than those asked for is an error, and stays as it is."""
    resctrl = Resctrl(t)
    resctrl.make("theirs", L3="0=f", MB="0=50")
    before = resctrl.everything()
    values = (
        {"l3CacheSchema": "L3:0=7"},
        {"memBwSchema": "MB:0=60"},
        {"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=60"},
    )
    t.each_refused(dict(change("/linux/intelRdt", {"closID": "theirs", **value}) for value in values))
    t.equal(before, resctrl.everything(), "the tree afterwards")


def RDT_10(t: Trial) -> None:
    """A closID without a schema must exist; the process is put there."""
    resctrl = Resctrl(t)
    resctrl.make("theirs", L3="0=f")
    t.bundle.linux["intelRdt"] = {"closID": "theirs"}
    container = t.running()
    t.true(resctrl.holds("theirs", container), "the process is not in the group")
    t.bundle.linux["intelRdt"] = {"closID": "missing"}
    t.refused(why="with a closID that does not exist and no schema")
    t.equal(["theirs"], resctrl.groups(), "the groups afterwards")


def RDT_11(t: Trial) -> None:
    """delete removes the group that was made for the container's id, and no other, also one that was made for a
    closID.
    """
    resctrl = Resctrl(t)
    resctrl.make("theirs")
    for entry in ({"l3CacheSchema": "L3:0=f"}, {"closID": "theirs"}, {"closID": "named", "l3CacheSchema": "L3:0=f"}):
        t.bundle.linux["intelRdt"] = entry
        t.report()
    t.equal(["named", "theirs"], resctrl.groups(), "the groups that are left")


def ERR_01_resctrl_group(t: Trial) -> None:
    """A create that fails later on leaves no group that it has made, and the others."""
    resctrl = Resctrl(t)
    resctrl.make("theirs")
    t.bundle.bind(t.folder / "missing", "/tmp")
    for entry in ({"l3CacheSchema": "L3:0=f"}, {"closID": "theirs"}, {"closID": "named", "l3CacheSchema": "L3:0=f"}):
        t.bundle.linux["intelRdt"] = entry
        t.refused(why="with a bind source that is missing")
        t.equal(["theirs"], resctrl.groups(), f"the groups that are left with {entry}")


def RDT_12(t: Trial) -> None:
    """enableMonitoring makes a monitoring group of the container's id in its group; delete removes it."""
    resctrl = Resctrl(t)
    resctrl.make("theirs")
    for entry, group in (({"closID": "theirs"}, "theirs"), ({"closID": "/"}, ""), ({}, None)):
        t.bundle.linux["intelRdt"] = {**entry, "enableMonitoring": True}
        container = t.running()
        name = container.id if group is None else group
        t.equal([container.id], resctrl.monitored(name), f"the monitoring groups with {entry}")
        t.true(
            resctrl.holds(f"{name}/mon_groups/{container.id}", container), "the process is not in the monitoring group"
        )
        container.kill()
        container.wait()
        container.delete()
        t.true(group is None or not resctrl.monitored(group), "the monitoring group is left")
    t.bundle.linux["intelRdt"] = {"closID": "theirs", "enableMonitoring": False}
    t.running()
    t.equal([], resctrl.monitored("theirs"), "the monitoring groups without enableMonitoring")


def RDT_12_failure(t: Trial) -> None:
    """A monitoring group that can't be made is an error."""
    resctrl = Resctrl(t, deny=lambda name: "mon_groups" in name)
    for entry in ({"closID": "/"}, {"l3CacheSchema": "L3:0=f"}, {"closID": "named", "l3CacheSchema": "L3:0=f"}):
        t.bundle.linux["intelRdt"] = {**entry, "enableMonitoring": True}
        t.refused(why=f"with {entry} and no free monitoring group")
        if resctrl.groups():
            t.left_behind.append(f"`create` left the group {', '.join(resctrl.groups())}, with {entry}")
            for name in resctrl.groups():
                resctrl.drop(name)


def RDT_13(t: Trial) -> None:
    """enableCMT and enableMBM are unknown properties: they are accepted, and do nothing."""
    resctrl = Resctrl(t)
    resctrl.make("theirs")
    t.bundle.linux["intelRdt"] = {"closID": "theirs", "enableCMT": True, "enableMBM": True}
    container = t.running()
    t.true(resctrl.holds("theirs", container), "the process is not in the group")
    t.equal(([], []), (resctrl.monitored("theirs"), resctrl.monitored()), "the monitoring groups")
