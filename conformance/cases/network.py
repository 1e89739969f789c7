"""Network devices that are moved into the container's network namespace.

Each case has a network namespace of its own in place of the host's, so that devices can be made at will.
"""

import json
import subprocess
from typing import Any

from conformance.runtime import Container
from conformance.trial import Failure, Trial, change, host

UP = 1  # IFF_UP


def with_device(t: Trial, name: str = "conf0") -> None:
    """The suite and the runtime have a network namespace of their own, with this device in it."""
    host.require_tool("ip")
    host.require_namespace("net")
    host.unshare(host.CLONE_NEWNET)
    host.run("ip", "link", "set", "lo", "up")
    add_device(name)


def add_device(name: str) -> None:
    for kind in (["type", "dummy"], ["type", "veth", "peer", "name", f"{name}p"]):
        if subprocess.run(["ip", "link", "add", name, *kind], capture_output=True, check=False).returncode == 0:
            return
    raise host.Missing("the kernel has no dummy and no veth devices")


def joined_namespace(t: Trial, *devices: str) -> str:
    """The path of a network namespace with these devices, which the container is to join."""
    path = t.folder / "net"
    path.touch()
    for name in devices:
        add_device(name)
    host.run("unshare", f"--net={path}", "true")
    for name in devices:
        run_in(str(path), "ip", "link", "set", "dev", name, "netns", str(path), here=True)
    t.bundle.namespace("network", path)
    return str(path)


def run_in(path: str, *command: str, here: bool = False) -> str:
    """Run a program in the network namespace at `path`, or in ours."""
    return host.run(*(command if here else ("nsenter", f"--net={path}", *command)))


def links(path: str = "") -> "dict[str, dict[str, Any]]":
    """The devices of a network namespace, without a path the suite's own, with their addresses."""
    text = run_in(path, "ip", "-json", "address", here=not path)
    return {link["ifname"]: link for link in json.loads(text or "[]")}


def namespace_of(container: Container) -> str:
    return f"/proc/{container.pid}/ns/net"


def addresses(link: "dict[str, Any]") -> "dict[str, tuple[int, str, str | None, str | None]]":
    """Its addresses, without those of the kernel: prefix length, scope, broadcast, peer."""
    return {
        entry.get("local"): (entry["prefixlen"], entry["scope"], entry.get("broadcast"), entry.get("address"))
        for entry in link["addr_info"]
        if not entry.get("local", "").startswith("fe80:")
    }


def NET_01(t: Trial) -> None:
    """A device is taken from the host's network namespace into the container's, for the program to use, from
    create on.
    """
    with_device(t)
    index = links()["conf0"]["address"]
    t.bundle.linux["netDevices"] = {"conf0": {}}
    container = t.create()
    t.true("conf0" not in links(), "the device is still the host's")
    t.equal(
        index, links(namespace_of(container)).get("conf0", {}).get("address"), "the hardware address of the container's"
    )


def NET_01_two(t: Trial) -> None:
    """Several devices are moved, and others stay."""
    with_device(t)
    for name in ("conf1", "conf2"):
        add_device(name)
    t.bundle.linux["netDevices"] = {"conf0": {}, "conf2": {"name": "second"}}
    found = t.ask("addresses")["links"]
    t.true({"conf0", "second"} <= set(found), f"the container has {', '.join(found)}")
    t.true("conf1" in links() and "conf1" not in found, "a device that is not named was moved")


def NET_02(t: Trial) -> None:
    """A device gets the name given, or keeps its own; names may be exchanged."""
    with_device(t)
    add_device("conf1")
    before = {name: link["address"] for name, link in links().items()}
    t.bundle.linux["netDevices"] = {"conf0": {"name": "conf1"}, "conf1": {"name": "new-name.0"}}
    container = t.running()
    found = {name: link["address"] for name, link in links(namespace_of(container)).items()}
    t.equal(before["conf0"], found.get("conf1"), "the hardware address of what is conf1 now")
    t.equal(before["conf1"], found.get("new-name.0"), "the hardware address of what is new-name.0 now")


def NET_03(t: Trial) -> None:
    """A device that is not there, that can't be moved, or is to get an invalid name, is an error, and stays."""
    with_device(t)
    before = links()
    wrong = [{"nosuch": {}}, {"lo": {"name": "lo1"}}, {"conf0": {}, "nosuch": {}}]
    wrong += [{"conf0": {"name": name}} for name in ("a/b", "..", ".", "with space", "sixteen-letters0", "a:b")]
    t.each_refused(dict(change("/linux/netDevices", value) for value in wrong))
    t.equal(set(before), set(links()), "the devices of the host")


def NET_03_no_namespace(t: Trial) -> None:
    """Without a network namespace of the container there is nowhere to move a device to: an error."""
    with_device(t)
    t.bundle.drop_namespace("network")
    t.bundle.drop_mount("/sys")
    t.bundle.linux["netDevices"] = {"conf0": {"name": "other"}}
    t.refused(why="with netDevices and no network namespace")
    t.true("conf0" in links(), "the device was moved or renamed")


def ERR_01_network_device(t: Trial) -> None:
    """When create fails later on, the device is the host's again, with its name and its addresses."""
    with_device(t)
    host.run("ip", "address", "add", "10.20.30.40/24", "dev", "conf0")
    before = links()["conf0"]
    t.bundle.linux["netDevices"] = {"conf0": {"name": "inside"}}
    t.bundle.bind(t.folder / "missing", "/tmp")
    t.refused(why="with a bind source that is missing")
    t.true("conf0" in links(), f"the host has {', '.join(links())} after a create that failed")
    after = links()["conf0"]
    t.equal((before["address"], addresses(before)), (after["address"], addresses(after)), "the addresses of the device")


def NET_04(t: Trial) -> None:
    """A name that a device of the container's network namespace has is an error, and both devices stay."""
    with_device(t)
    path = joined_namespace(t, "taken")
    before = set(links(path))
    for devices in ({"conf0": {"name": "taken"}}, {"conf0": {"name": "lo"}}):
        t.bundle.linux["netDevices"] = devices
        t.refused(why=f"with {devices} and a device of this name in the namespace")
        t.true("conf0" in links(), "the device is gone from the host")
    t.equal(before, set(links(path)), "the devices of the namespace")


def NET_04_template(t: Trial) -> None:
    """In a name that ends with %d the kernel puts the first number that is free."""
    with_device(t)
    path = joined_namespace(t, "many0")
    address = links()["conf0"]["address"]
    t.bundle.linux["netDevices"] = {"conf0": {"name": "many%d"}}
    t.running()
    t.equal(address, links(path).get("many1", {}).get("address"), "the hardware address of many1")


def NET_05(t: Trial) -> None:
    """Permanent global addresses of both families go with a device, as they are; its other attributes stay."""
    with_device(t)
    for words in (
        ["10.20.30.40/24", "brd", "10.20.30.250"],
        ["10.20.30.41/24"],
        ["192.0.2.1", "peer", "192.0.2.9/32"],
        ["2001:db8::7/64", "nodad"],
        ["2001:db8:1::8/80", "nodad"],
    ):
        host.run("ip", "address", "add", *words, "dev", "conf0")
    host.run("ip", "link", "set", "conf0", "mtu", "1400", "address", "02:11:22:33:44:55", "alias", "some words")
    before = links()["conf0"]
    t.bundle.linux["netDevices"] = {"conf0": {"name": "inside"}}
    container = t.running()
    after = links(namespace_of(container)).get("inside", {"addr_info": []})
    t.equal(addresses(before), addresses(after), "the addresses of the device")
    for name in ("mtu", "address", "ifalias"):
        t.equal(before.get(name), after.get(name), f"the {name} of the device")


def NET_05_up(t: Trial) -> None:
    """So they do with a device that is up."""
    with_device(t)
    host.run("ip", "link", "set", "conf0", "up")
    host.run("ip", "address", "add", "10.20.30.40/24", "dev", "conf0")
    host.run("ip", "address", "add", "2001:db8::7/64", "nodad", "dev", "conf0")
    t.bundle.linux["netDevices"] = {"conf0": {}}
    found = {address for name, address in t.ask("addresses")["addresses"] if name == "conf0"}
    t.true({"10.20.30.40", "2001:db8::7"} <= found, f"the addresses are {', '.join(sorted(found))}")


def NET_05_others(t: Trial) -> None:
    """Addresses that are not permanent, or not global, do not go with a device."""
    with_device(t)
    host.run("ip", "address", "add", "10.20.30.40/24", "dev", "conf0")
    host.run("ip", "address", "add", "10.20.31.41/24", "dev", "conf0", "valid_lft", "1000", "preferred_lft", "1000")
    host.run("ip", "address", "add", "10.20.32.42/24", "dev", "conf0", "scope", "link")
    host.run("ip", "address", "add", "10.20.33.43/24", "dev", "conf0", "scope", "host")
    host.run(
        "ip", "address", "add", "2001:db8::7/64", "nodad", "dev", "conf0", "valid_lft", "1000", "preferred_lft", "1000"
    )
    t.bundle.linux["netDevices"] = {"conf0": {}}
    found = addresses(links(namespace_of(t.running())).get("conf0", {"addr_info": []}))
    t.equal({"10.20.30.40"}, set(found), "the addresses of the device")


def NET_06(t: Trial) -> None:
    """A device is up after the move, though it was down before."""
    with_device(t)
    t.true("UP" not in links()["conf0"]["flags"], "the device is up beforehand")
    t.bundle.linux["netDevices"] = {"conf0": {"name": "inside"}}
    found = t.ask("addresses")["links"]
    t.true(found.get("inside", 0) & UP, f"the flags of the device are {found.get('inside')}")


def NET_07(t: Trial) -> None:
    """After create the runtime leaves the device alone: changes stay, and delete does not move it back."""
    with_device(t)
    path = joined_namespace(t)
    t.bundle.linux["netDevices"] = {"conf0": {"name": "inside"}}
    t.bundle.program("addresses", "pause")
    container = t.create()
    if "inside" not in links(path):
        raise Failure("the device was not moved")
    run_in(path, "ip", "link", "set", "inside", "down")
    run_in(path, "ip", "link", "set", "inside", "name", "changed")
    container.start()
    found = container.tells("addresses")["links"]
    t.true("changed" in found and not found["changed"] & UP, f"the devices after start, and their flags, are {found}")
    container.kill()
    container.wait()
    t.true("changed" in links(path), "the device is gone when the process has ended")
    container.delete()
    t.true("changed" in links(path), f"after delete the namespace has {', '.join(links(path))}")
    t.true("conf0" not in links() and "changed" not in links(), "delete moved the device to the host")
