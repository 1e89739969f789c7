"""linux.netDevices: devices of the host's move into the container's network namespace, with all that is theirs.

The "host" of these tests is a network namespace of their own, in which the runtime runs: whatever happens, no device is
left on the machine. One test uses the machine's.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime import Bundle, Runtime, wait_for

pytestmark = pytest.mark.root


def run(*words: Path | str, check: bool = True) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, (words, done.stderr)
    return done.stdout


class Net:
    """A network namespace, as a file."""

    def __init__(self, file: Path | str) -> None:
        self.file = Path(file)

    @classmethod
    def make(cls, file):
        file.touch()
        run("unshare", f"--net={file}", "true")
        return cls(file)

    def remove(self) -> None:
        run("umount", self.file)
        self.file.unlink()

    def __call__(self, *words: str, check: bool = True) -> str:
        return run("nsenter", f"--net={self.file}", *words, check=check)

    def ip(self, line: str) -> str:
        return self("ip", *line.split())

    def links(self) -> dict[str, dict[str, Any]]:
        """The devices by name, without loopback."""
        found = json.loads(self("ip", "-json", "-details", "link", "show"))
        return {link["ifname"]: link for link in found if link["ifname"] != "lo"}

    def addresses(self, name: str) -> list[dict[str, Any]]:
        """The global permanent addresses of a device, in the kernel's order, without what time changes."""
        (found,) = json.loads(self("ip", "-json", "addr", "show", "dev", name))
        transient = ("tentative", "valid_life_time", "preferred_life_time")
        return [
            {key: value for key, value in address.items() if key not in transient}
            for address in found["addr_info"]
            if address["scope"] == "global" and "dynamic" not in address
        ]

    def device(self, name: str, *addresses: str, up: bool = True) -> None:
        """A new device with these addresses; its other end is called like it, with a p in front."""
        self.ip(f"link add {name} type veth peer name p{name}")
        self.ip(f"link set p{name} up")
        for address in addresses:
            self.ip(f"addr add {address} dev {name}")
        if up:
            self.ip(f"link set {name} up")

    def facts(self, name: str) -> tuple[dict[str, Any], bool, list[dict[str, Any]]]:
        """The properties of a device that must be the same if it did not move, or was moved back."""
        link = self.links()[name]
        keep = ("ifindex", "mtu", "address", "txqlen", "ifalias", "master", "group")
        up = "UP" in link["flags"]
        return {key: link.get(key) for key in keep}, up, self.addresses(name)


@pytest.fixture
def host(runtime: Runtime) -> Iterator[Net]:
    """The namespace that the runtime runs in."""
    net = Net.make(runtime.folder / "host-net")
    wrapper = runtime.folder / "pyoci"
    wrapper.write_text(f'#!/bin/sh\nexec nsenter --net={net.file} {runtime.executable} "$@"\n')
    wrapper.chmod(0o755)
    executable, runtime.executable = runtime.executable, str(wrapper)
    yield net
    runtime.executable = executable
    net.remove()


@pytest.fixture
def joined(runtime: Runtime, bundle: Bundle) -> Iterator[Net]:
    """A namespace that the container joins."""
    net = Net.make(runtime.folder / "joined-net")
    bundle.namespace("network", net.file)
    yield net
    net.remove()


def container(runtime: Runtime, id="") -> Net:
    return Net(f"/proc/{runtime.pid(id)}/ns/net")


ADDRESSES = (
    "10.0.0.1/24 broadcast 10.0.0.255",
    "10.0.0.2/24",  # a secondary address of the same subnet
    "10.0.0.3/24 broadcast 10.0.0.77 label dev0:lbl",
    "10.1.0.1 peer 10.1.0.9/30 noprefixroute",
    "10.2.0.1/16 metric 300",
    "fd00::1/64",
    "fd00::2/64 nodad metric 77",
    "fd00:1::1 peer fd00:1::2/64 noprefixroute",
    "fd00:2::1/128 preferred_lft 0",
)


def test_a_device_moves_with_all_that_is_its_own(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """MAC, MTU, alias and every global permanent address; it is up, and gone from the host (NET-01, -05, -06)."""
    host.device("dev0", *ADDRESSES)
    host.ip("link set dev0 mtu 1345 address 02:00:00:00:00:07 txqueuelen 77 alias something")
    facts, up, addresses = host.facts("dev0")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    runtime.create()

    inside = container(runtime)
    there, there_up, there_addresses = inside.facts("eth0")
    assert {"pdev0"} == set(host.links())
    assert facts | {"ifindex": 0} == there | {"ifindex": 0}
    assert up
    assert there_up
    assert len(ADDRESSES) == len(addresses)
    renamed = {"dev0": "eth0", "dev0:lbl": "eth0:lbl"}
    expected = [address | ({"label": renamed[address["label"]]} if "label" in address else {}) for address in addresses]
    assert expected == there_addresses


def test_addresses_that_stay_behind(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """Those that are not global, or not permanent, are not carried."""
    host.device("dev0", "10.0.0.1/24 scope link", "10.0.1.1/24 valid_lft 1000 preferred_lft 1000", "10.0.2.1/24")
    host.ip("addr add fd00::1/64 dev dev0 valid_lft 1000 preferred_lft 1000")
    host.ip("addr add fec0::1/64 dev dev0 scope site")
    bundle.linux["netDevices"] = {"dev0": {}}
    runtime.create()
    (device,) = json.loads(container(runtime)("ip", "-json", "addr", "show", "dev", "dev0"))
    assert ["10.0.2.1"] == [address["local"] for address in device["addr_info"] if address["local"][:4] != "fe80"]


def test_the_host_name_is_the_default(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """An empty object; a device without addresses that was down (NET-02, NET-06)."""
    host.device("dev0", up=False)
    bundle.linux["netDevices"] = {"dev0": {}}
    assert "UP" in runtime.shell("ip link show dev0")


def test_several_devices(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """Each under its name, be it another's name on the host."""
    for name in ("dev0", "dev1", "dev2"):
        host.device(name, f"10.0.{name[-1]}.1/24")
    bundle.linux["netDevices"] = {"dev0": {"name": "dev1"}, "dev1": {"name": "dev0"}, "dev2": {"name": "x%d"}}
    runtime.create()
    inside = container(runtime)
    assert {"dev0", "dev1", "x0"} == set(inside.links())
    assert ["10.0.1.1", "10.0.0.1", "10.0.2.1"] == [
        inside.addresses(name)[0]["local"] for name in ("dev0", "dev1", "x0")
    ]
    assert {"pdev0", "pdev1", "pdev2"} == set(host.links())


def test_kinds_of_device(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """All those that this kernel has."""
    host.device("base")
    wanted = {
        "dummy": "link add {} type dummy",
        "ifb": "link add {} type ifb",
        "macvlan": "link add link base name {} type macvlan",
        "tap": "tuntap add dev {} mode tap",
        "veth": "link add {} type veth peer name peer",
        "vlan": "link add link base name {} type vlan id 7",
    }
    for kind, line in wanted.items():
        host("ip", *line.format(f"my{kind}").split(), check=False)
    made = {name for name in host.links() if name.startswith("my")}
    assert "myveth" in made
    bundle.linux["netDevices"] = {name: {} for name in made}
    runtime.create()
    inside = container(runtime).links()
    assert made == set(inside)
    assert all("UP" in link["flags"] for link in inside.values())


def test_an_empty_object_moves_nothing(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """And needs no network namespace."""
    host.device("dev0")
    bundle.linux["netDevices"] = {}
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "network"]
    bundle.without_mount("/sys", "/sys/fs/cgroup")
    assert "dev0" in runtime.shell("cat /proc/net/dev")


def test_hooks_find_the_devices(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """On the host, prestart and createRuntime in the namespace of the state's pid; createContainer in its own."""
    host.device("dev0", "10.0.0.1/24")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    look = f"nsenter --net=/proc/$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')/ns/net ip addr show eth0 >{runtime.folder}"
    path = {"env": [f"PATH={os.environ['PATH']}"]}
    bundle.hook("prestart", f"{look}/prestart", **path)
    bundle.hook("createRuntime", f"{look}/createRuntime", **path)
    bundle.hook("createContainer", f"ip addr show eth0 >{runtime.folder}/createContainer", **path)
    runtime.create()
    for kind in ("prestart", "createRuntime", "createContainer"):
        assert "10.0.0.1/24" in (runtime.folder / kind).read_text(), kind


def test_kernel_parameters_of_a_device(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """It is there when they are written."""
    host.device("dev0")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    bundle.linux["sysctl"] = {"net.ipv4.conf.eth0.forwarding": "1"}
    assert "1\n" == runtime.shell("cat /proc/sys/net/ipv4/conf/eth0/forwarding")


def test_user_namespace(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """The device belongs to the container's root."""
    host.device("dev0", "10.0.0.1/24", "fd00::1/64")
    bundle.in_user_namespace()
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    for name in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][name].append("CAP_NET_ADMIN")
    out = runtime.shell("ip addr show eth0; ip link set eth0 mtu 1280; cat /sys/class/net/eth0/mtu")
    assert "inet 10.0.0.1/24" in out
    assert "inet6 fd00::1/64" in out
    assert out.endswith("\n1280\n")


def test_behind_a_process_in_between(runtime: Runtime, bundle: Bundle, host: Net, tmp_path: Path) -> None:
    """With a pid namespace that is joined, init is not the process that the runtime cloned."""
    first, runtime.bundle = runtime.bundle, Bundle(tmp_path / "other").program("sleep", 100)
    second = f"{runtime.host.token}-other"
    runtime.create(id=second)
    runtime.bundle = first
    bundle.namespace("pid", f"/proc/{runtime.pid(second)}/ns/pid")
    host.device("dev0")
    bundle.linux["netDevices"] = {"dev0": {}}
    assert "dev0" in runtime.shell("ip link")


def test_delete_leaves_the_device_to_the_kernel(runtime: Runtime, bundle: Bundle, host: Net, joined: Net) -> None:
    """It is not moved back: in a namespace that outlives the container it stays (NET-07)."""
    host.device("dev0", "10.0.0.1/24")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    assert "10.0.0.1" in runtime.shell("ip addr show eth0")
    assert "eth0" in joined.links()
    assert {"pdev0"} == set(host.links())


def test_a_namespace_that_ends_with_the_container(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """The kernel destroys a virtual device with it."""
    host.device("dev0")
    bundle.linux["netDevices"] = {"dev0": {}}
    runtime.shell("true")
    wait_for(lambda: {} == host.links())


def test_the_machines_own_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """The same from the namespace that everything else runs in."""
    name = f"py{os.getpid()}"
    run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    try:
        run("ip", "addr", "add", "192.0.2.77/32", "dev", name)
        bundle.linux["netDevices"] = {name: {"name": "eth0"}}
        assert "192.0.2.77/32" in runtime.shell("ip addr show eth0")
        wait_for(lambda: name not in run("ip", "link"))
    finally:
        run("ip", "link", "del", name, check=False)


# --- names


def test_a_name_that_is_taken(runtime: Runtime, bundle: Bundle, host: Net, joined: Net) -> None:
    """An error, and the device was not touched (NET-04)."""
    host.device("dev0", *ADDRESSES)
    joined.device("eth0")
    before = host.facts("dev0"), joined.facts("eth0")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    message = runtime.create_fails()
    assert "/linux/netDevices/dev0/name: cannot move network device dev0: the container has a device eth0 " in message
    assert before == (host.facts("dev0"), joined.facts("eth0"))


@pytest.mark.parametrize("config", [{}, {"name": "lo"}])
def test_the_default_name_may_be_taken_too(
    runtime: Runtime, bundle: Bundle, host: Net, joined: Net, config: dict[str, str]
) -> None:
    """Loopback is a device like others."""
    host.device("dev0")
    joined.device("dev0")
    bundle.linux["netDevices"] = {"dev0": config}
    where = "/linux/netDevices/dev0" + ("/name" if config else "")
    assert f"{where}: cannot move network device dev0: " in runtime.create_fails()


def test_a_name_that_the_kernel_completes(runtime: Runtime, bundle: Bundle, host: Net, joined: Net) -> None:
    """%d is the lowest number that is free, also where the device's old name is taken (NET-04)."""
    joined.device("eth0")
    joined.device("dev0")
    host.device("dev0", "10.0.0.1/24 label dev0:a")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth%d"}}
    runtime.create()
    (address,) = joined.addresses("eth1")
    assert ("10.0.0.1", "eth1:a") == (address["local"], address["label"])


def test_a_name_that_only_the_kernel_knows_is_taken(runtime: Runtime, bundle: Bundle, host: Net, joined: Net) -> None:
    """The second name of another device: the kernel refuses it when the device has moved, and it is brought back."""
    host.device("dev0", *ADDRESSES)
    joined.device("other")
    joined.ip("link property add dev other altname eth0")
    before = host.facts("dev0")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    message = runtime.create_fails()
    assert (
        "/linux/netDevices/dev0/name: cannot rename network device dev0 to eth0 in the container: file exists"
        in message
    )
    assert before == host.facts("dev0")
    assert {"other", "pother"} == set(joined.links())


def test_long_labels(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """A label has 15 characters: what follows the colon stays, as in the kernel."""
    host.device("dev0", "10.0.0.1/24 label dev0:longlabel")
    bundle.linux["netDevices"] = {"dev0": {"name": "eighteenletter"}}
    runtime.create()
    assert ["eight:longlabel"] == [a["label"] for a in container(runtime).addresses("eighteenletter")]


# --- what can't be done


def test_a_device_that_is_missing(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """The error names it; a second one was not touched (NET-03)."""
    host.device("dev0", "10.0.0.1/24")
    before = host.facts("dev0")
    bundle.linux["netDevices"] = {"dev0": {}, "dev9": {}}
    message = runtime.create_fails()
    assert "/linux/netDevices/dev9: cannot move network device dev9: the host has none of this name" in message
    assert before == host.facts("dev0")


def test_a_second_name_is_not_the_devices_name(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """The kernel would find it."""
    host.device("dev0")
    host.ip("link property add dev dev0 altname nickname")
    bundle.linux["netDevices"] = {"nickname": {}}
    assert "/linux/netDevices/nickname: " in runtime.create_fails()


@pytest.mark.parametrize("kind", ["lo", "bridge"])
def test_a_device_that_cannot_leave(runtime: Runtime, bundle: Bundle, host: Net, kind: str) -> None:
    """Loopback and bridges; the one that went before is back as it was."""
    host.device("dev0", *ADDRESSES)
    name = "lo" if kind == "lo" else "br0"
    if kind == "bridge":
        host.ip("link add br0 type bridge")
    before = host.facts("dev0")
    bundle.linux["netDevices"] = {"dev0": {}, name: {"name": "x"}}
    message = runtime.create_fails()
    assert f"/linux/netDevices/{name}: cannot move network device {name}: invalid argument (hint: " in message
    assert before == host.facts("dev0")


def test_no_network_namespace(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """Neither a new one nor another's: an error of the config (NET-03)."""
    host.device("dev0")
    bundle.linux["netDevices"] = {"dev0": {}}
    bundle.linux["namespaces"] = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "network"]
    bundle.without_mount("/sys", "/sys/fs/cgroup")
    message = runtime.create_fails()
    assert "/linux/netDevices: network devices need a namespace of type network in /linux/namespaces" in message


def test_the_hosts_namespace(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """A path that leads to the namespace in which the device is."""
    host.device("dev0")
    bundle.namespace("network", host.file).without_mount("/sys", "/sys/fs/cgroup")
    bundle.linux["netDevices"] = {"dev0": {}}
    message = runtime.create_fails()
    assert f"/linux/netDevices: cannot move network devices to {host.file}: it is the host's network" in message


@pytest.mark.parametrize(
    ("devices", "where"),
    [
        ({"a/b": {}}, "/linux/netDevices/a~1b"),
        ({"": {}}, "/linux/netDevices/"),
        ({"x" * 16: {}}, "/linux/netDevices/" + "x" * 16),
        ({"dev0": {"name": ".."}}, "/linux/netDevices/dev0/name"),
        ({"dev0": {"name": "a b"}}, "/linux/netDevices/dev0/name"),
        ({"dev0": {"name": "eth%s"}}, "/linux/netDevices/dev0/name"),
        ({"dev0": {"name": "%d%d"}}, "/linux/netDevices/dev0/name"),
        ({"dev0": {"name": "e%dx"}}, "/linux/netDevices/dev0/name"),
        ({"dev0": {"name": "x"}, "dev1": {"name": "x"}}, "/linux/netDevices/dev1/name"),
        ({"dev0": {"name": "dev1"}, "dev1": {}}, "/linux/netDevices/dev1"),
    ],
)
def test_bad_names(runtime: Runtime, bundle: Bundle, host: Net, devices: dict[str, Any], where: str) -> None:
    """Errors of the config, before anything is done (NET-03)."""
    host.device("dev0")
    before = host.facts("dev0")
    bundle.linux["netDevices"] = devices
    assert f": {where}: " in f": {runtime.create_fails()}"
    assert before == host.facts("dev0")


# --- a create that fails afterwards


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("namespace", ["new", "joined"])
def test_a_create_that_fails_brings_the_device_back(
    runtime: Runtime, bundle: Bundle, host: Net, request: pytest.FixtureRequest, up: bool, namespace: str
) -> None:
    """Name, index, addresses, link and bridge are what they were (ERR-01)."""
    if namespace == "joined":
        request.getfixturevalue("joined")
    host.ip("link add br0 type bridge")
    host.device("dev0", *ADDRESSES, "10.7.0.1/24 scope link", up=up)
    host.ip("link set dev0 mtu 1345 master br0 address 02:00:00:00:00:07")
    before = host.facts("dev0")
    assert "br0" == before[0]["master"]
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    bundle.hook("createRuntime", "exit 7")
    assert "exited with status 7" in runtime.create_fails()
    assert before == host.facts("dev0")
    assert "10.7.0.1" in host.ip("addr show dev0")
    if namespace == "joined":
        assert {} == request.getfixturevalue("joined").links()


def test_addresses_that_run_out_come_back_too(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """With what was left of their time."""
    host.device("dev0", "10.0.0.1/24 valid_lft 1000 preferred_lft 500")
    host.ip("addr add fd00::1/64 dev dev0 valid_lft 2000 preferred_lft 0")
    bundle.linux["netDevices"] = {"dev0": {}}
    bundle.program("/no/such/program")
    assert "no such file or directory" in runtime.create_fails()
    (device,) = json.loads(host("ip", "-json", "addr", "show", "dev", "dev0"))
    times = {a["local"]: (a["valid_life_time"], a["preferred_life_time"]) for a in device["addr_info"]}
    assert 900 < times["10.0.0.1"][0] <= 1000
    assert 400 < times["10.0.0.1"][1] <= 500
    assert 1900 < times["fd00::1"][0] <= 2000
    assert 0 == times["fd00::1"][1]


def test_a_device_that_a_hook_has_renamed_is_found(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """By its number."""
    host.device("dev0", *ADDRESSES)
    before = host.facts("dev0")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    bundle.hook("createContainer", "ip link set eth0 down && ip link set eth0 name zzz && exit 3")
    bundle.config["hooks"]["createContainer"][0]["env"] = [f"PATH={os.environ['PATH']}"]
    assert "exited with status 3" in runtime.create_fails()
    assert before == host.facts("dev0")


def test_a_device_that_cannot_come_back_is_reported(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """The error of create stays the error; it also names the device and the kernel's reason."""
    host.device("dev0")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    bundle.hook("createContainer", "ip link del eth0; exit 3")
    bundle.config["hooks"]["createContainer"][0]["env"] = [f"PATH={os.environ['PATH']}"]
    message = runtime.create_fails()
    assert message.endswith("exited with status 3; cannot move network device dev0 back: no such device")


def test_a_killed_create_is_cleaned_up(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """kill -9 in a hook after the move: `delete --force` removes what is left."""
    host.device("dev0")
    bundle.linux["netDevices"] = {"dev0": {}}
    bundle.hook("createRuntime", f"echo >{runtime.folder}/here; exec sleep 100")
    bundle.write()
    process = subprocess.Popen(
        runtime.command("create", "--bundle", bundle.folder, runtime.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for((runtime.folder / "here").exists)
    process.kill()
    process.wait()
    runtime.delete("--force")
    runtime.assert_gone()


# --- the mover


def test_only_the_mover_changes_a_namespace(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """Of what runs on the host, one process enters the container's network namespace, and it starts no thread."""
    host.device("dev0")
    bundle.linux["netDevices"] = {"dev0": {}}
    bundle.write()
    trace = runtime.folder / "trace"
    calls = "trace=setns,unshare,clone,clone3,vfork,fork,execve"
    command = ["strace", "-f", "-qq", "-o", trace, "-e", calls, "-e", "signal=none", "nsenter", f"--net={host.file}"]
    command += ["env", "-i", *runtime.command("run", "--bundle", bundle.folder, runtime.id)]
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    lines = trace.read_text().splitlines()
    (mover,) = {line.split()[0] for line in lines if '"move-net-devices"' in line}
    its = [line.split(maxsplit=1)[1] for line in lines if line.split()[0] == mover]
    assert ["setns(3, CLONE_NEWNET)"] == [line.partition(" =")[0].strip() for line in its if "setns" in line]
    assert [] == [line for line in its if "CLONE_THREAD" in line or line.startswith("unshare")]


def test_under_an_ordinary_python(runtime: Runtime, bundle: Bundle, host: Net) -> None:
    """Without the executable, the mover is this Python once more."""
    host.device("dev0", "10.0.0.1/24", "fd00::1/64")
    bundle.linux["netDevices"] = {"dev0": {"name": "eth0"}}
    paths = [str(Path(__file__).parents[2])]
    wrapper = Path(runtime.executable)
    code = f"import sys; sys.path[:0] = {paths!r}; from pyoci.__main__ import main; sys.exit(main())"
    wrapper.write_text(f'#!/bin/sh\nexec nsenter --net={host.file} {sys.executable} -I -S -c "{code}" "$@"\n')
    out = runtime.shell("ip addr show eth0")
    assert "inet 10.0.0.1/24" in out
    assert "inet6 fd00::1/64" in out
