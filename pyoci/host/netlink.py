"""`linux.netDevices`, the work: moves network devices into a container's network namespace, and back.

Runs in a process that lives for nothing else (`host/net_devices.py`): it reads one request from stdin and writes one
answer to stdout, both JSON. pyroute2 speaks to the kernel.

The kernel keeps what belongs to a device, such as its MAC address and MTU, and takes away what belongs to a namespace:
a device that moves goes down and loses its addresses. It also keeps its name while it moves, and is renamed
afterwards, so a name that can't be had would leave it inside. A device therefore moves under a name that nobody
else has, by which it is found, and gets its own there.
"""

import posix
import sys

from pyoci import _native
from pyoci.compiler.net_devices import WHERE
from pyoci.config.jsonio import dumps, loads
from pyoci.errors import PyociError, reason
from pyoci.host import files
from pyoci.host.net_devices import NETWORK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Device = dict[str, Any]  # as net_devices.move asks for it
    Moved = dict[str, Any]  # what was a device on the host: _Mover.move
    Address = dict[str, Any]  # the arguments of pyroute2's addr("add")

CLONE_NEWNET = 0x40000000
EPERM, EBUSY, EEXIST, ENODEV, EINVAL, EOPNOTSUPP = 1, 16, 17, 19, 22, 95
AF_INET, AF_INET6 = 2, 10
RT_SCOPE_UNIVERSE = 0
IFF_UP = 1
IFNAMSIZ = 16
FOREVER = 0xFFFFFFFF  # seconds
IFA_F_TEMPORARY, IFA_F_DEPRECATED, IFA_F_PERMANENT = 0x01, 0x20, 0x80
# What may be asked for when an address is added: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN. The
# other flags say what became of it.
IFA_F_SETTABLE = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
ATTRIBUTES = {
    "IFA_ADDRESS": "address", "IFA_LOCAL": "local", "IFA_BROADCAST": "broadcast", "IFA_LABEL": "label",
    "IFA_RT_PRIORITY": "rt_priority", "IFA_PROTO": "proto",
}  # fmt: skip


class Failure(Exception):
    """What goes back to the runtime, which makes a SetupError of it."""

    def __init__(self, message: str, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.answer = {"message": message, "where": where, "hint": hint}


def main() -> int:
    """Answer the request on stdin; 0."""
    try:
        request = loads(_read_all(0))
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise PyociError("cannot move network devices: this command is pyoci's own, for linux.netDevices")
    try:
        answer = _answer(request)
    except Failure as failure:
        answer = {"error": failure.answer}
    files.write_all(1, dumps(answer).encode("utf-8", "surrogateescape"))
    return 0


def _read_all(fd: int) -> bytes:
    parts = []
    while part := posix.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def _answer(request: "dict[str, Any]") -> "dict[str, Any]":
    try:
        mover = _Mover(NETWORK)
    except OSError as error:
        hint = "entering it needs CAP_SYS_ADMIN over it" if error.errno == EPERM else ""
        raise Failure(
            f"cannot enter the container's network namespace: {reason(error.errno or 0)}", WHERE, hint
        ) from error
    if "bringBack" in request:
        return {"warnings": mover.bring_back(request["bringBack"])}
    return {"moved": mover.move(request["move"])}


def _not_installed(module: str) -> Failure:
    """What to say when pyroute2 or, where there is no whole Python, one of the modules that it imports is missing."""
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    if module.partition(".")[0] in sys.stdlib_module_names:
        missing, hint = f"the standard library of {python}", f"install {python}, and pyroute2 for it"
    else:
        missing, hint = f"the Python package {module}", f"install pyroute2 for {python}, which pyoci was built with"
    return Failure(f"cannot move network devices: {missing} is not installed", WHERE, hint)


class _Mover:
    """Two conversations with the kernel: `host` about the devices of the runtime's network namespace, `inside` about
    those of the container's."""

    def __init__(self, network: int) -> None:
        try:
            from pyroute2 import IPRoute, NetlinkError
        except ModuleNotFoundError as error:
            raise _not_installed(error.name or "") from error
        except ImportError as error:
            raise Failure(f"cannot move network devices: pyroute2 can't be used: {error}", WHERE) from error
        self._refused = NetlinkError
        self._network = network
        self._home = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self.host = IPRoute()
        _native.enter_namespace(network, CLONE_NEWNET)
        self.inside = IPRoute()  # a socket stays in the namespace that it was made in

    def move(self, devices: "list[Device]") -> "list[Moved]":
        """All of them, or none: whatever is wrong with the last one, the first is back when this has raised."""
        moved: list[Moved] = []
        try:
            for device in devices:
                self._check(device)
            for device in devices:
                self._move(device, moved)
        except BaseException as error:
            left = self.bring_back(moved)
            if left and isinstance(error, Failure):
                error.answer["message"] = "; ".join([error.answer["message"], *left])
            raise
        return moved

    def bring_back(self, moved: "list[Moved]") -> "list[str]":
        """Each device as it was, the last one first; why one isn't."""
        left = []
        for device in reversed(moved):
            try:
                self._bring_back(device)
            except Failure as failure:
                left.append(failure.answer["message"])
        return left

    # --- one device

    def _check(self, device: "Device") -> None:
        """What can be known before anything is touched."""
        name, new_name = device["device"], device["name"]
        if self._find(self.host, name) is None:
            raise Failure(f"cannot move network device {name}: the host has none of this name", device["where"])
        if "%" not in new_name and self._find(self.inside, new_name) is not None:
            raise Failure(
                f"cannot move network device {name}: the container has a device {new_name} already",
                device["nameWhere"],
                "a name that ends in %d is completed by the kernel",
            )

    def _move(self, device: "Device", moved: "list[Moved]") -> None:
        name, new_name = device["device"], device["name"]
        link = self._find(self.host, name)
        if link is None:  # since the check
            raise Failure(f"cannot move network device {name}: the host has none of this name", device["where"])
        addresses = self._addresses(self.host, link["index"])
        kept = [address for address in addresses if _is_kept(address)]
        for address in kept:
            if address["unknown"]:
                raise Failure(
                    f"cannot move network device {name}: its address {_text(address)} has a property that this "
                    "version of pyroute2 does not know",
                    device["where"],
                )
        passing_name = f"pyoci-{posix.urandom(4).hex()}"
        what = f"move network device {name}"
        self._tell(
            what,
            device["where"],
            lambda: self.host.link("set", index=link["index"], net_ns_fd=self._network, ifname=passing_name),
        )
        arrived = self._find(self.inside, passing_name)
        if arrived is None:
            raise Failure(f"cannot {what}: it did not arrive", device["where"])
        index = arrived["index"]
        moved.append(
            {
                "device": name,
                "where": device["where"],
                "index": index,
                "hostIndex": link["index"],
                "up": bool(link["flags"] & IFF_UP),
                "master": link.get_attr("IFLA_MASTER") or 0,
                "addresses": addresses,
            }
        )
        self._tell(
            f"name network device {name} {new_name} in the container",
            device["nameWhere"],
            lambda: self.inside.link("set", index=index, ifname=new_name),
        )
        if "%" in new_name:
            new_name = next(iter(self.inside.link("get", index=index))).get_attr("IFLA_IFNAME")
        for address in kept:
            what = f"give network device {name} its address {_text(address)} in the container"
            self._add(self.inside, index, _arguments(address, name, new_name), what, device["where"])
        self._tell(
            f"set network device {name} up in the container",
            device["where"],
            lambda: self.inside.link("set", index=index, state="up"),
        )

    def _bring_back(self, device: "Moved") -> None:
        name, where = device["device"], device["where"]
        what = f"bring network device {name} back"
        target = {"index": device["index"], "net_ns_fd": self._home, "ifname": name}
        try:
            list(self.inside.link("set", new_ifindex=device["hostIndex"], **target))
        except self._refused as error:
            if error.code != EBUSY:
                raise Failure(f"cannot {what}: {reason(error.code)}", where) from error
            # another device has got its number in the meantime
            self._tell(what, where, lambda: self.inside.link("set", **target))
        link = self._find(self.host, name)
        if link is None:
            raise Failure(f"cannot {what}: it did not arrive", where)
        index = link["index"]
        for address in device["addresses"]:
            if address["unknown"] or (address["family"] == AF_INET6 and address["flags"] & IFA_F_TEMPORARY):
                continue  # the kernel makes temporary ones anew
            what = f"give network device {name} its address {_text(address)} back"
            self._add(self.host, index, _arguments(address, name, name), what, where)
        if device["master"]:
            self._tell(
                f"make network device {name} a port again",
                where,
                lambda: self.host.link("set", index=index, master=device["master"]),
            )
        if device["up"]:
            self._tell(
                f"set network device {name} up again", where, lambda: self.host.link("set", index=index, state="up")
            )

    # --- the kernel

    def _tell(self, what: str, where: str, tell: "Callable[[], Any]") -> None:
        """Do it; raise what the kernel says as a Failure to do `what`."""
        try:
            list(tell())
        except self._refused as error:
            raise Failure(f"cannot {what}: {reason(error.code)}", where, _HINTS.get(error.code, "")) from error

    def _add(self, side: "Any", index: int, address: "Address", what: str, where: str) -> None:
        """Add an address; the kernel may have made it anew by itself."""
        try:
            list(side.addr("add", index=index, **address))
        except self._refused as error:
            if error.code != EEXIST:
                raise Failure(f"cannot {what}: {reason(error.code)}", where) from error

    def _find(self, side: "Any", name: str) -> "Any":
        """The link of this name, None if there is none; the kernel would take an alternative name, too."""
        try:
            links = list(side.link("get", ifname=name))
        except self._refused as error:
            if error.code == ENODEV:
                return None
            raise Failure(f"cannot look for network device {name}: {reason(error.code)}", WHERE) from error
        return next((link for link in links if link.get_attr("IFLA_IFNAME") == name), None)

    def _addresses(self, side: "Any", index: int) -> "list[Address]":
        """The addresses of a device in an order in which they can be added again: of IPv4 the first of a subnet is the
        primary one, and of IPv6 the kernel tells the last one first."""
        found = [_address(message) for message in side.get_addr(index=index)]
        newest_first = [address for address in found if address["family"] == AF_INET6]
        return [address for address in found if address["family"] != AF_INET6] + newest_first[::-1]


_HINTS = {
    EPERM: "it needs CAP_NET_ADMIN over both network namespaces",
    EINVAL: "some devices, such as lo and bridges, can't leave their network namespace",
    EOPNOTSUPP: "some devices can't leave their network namespace",
}


# --- addresses


def _address(message: "Any") -> "Address":
    """What there is to know of an address, as JSON values."""
    attributes = dict(message["attrs"])
    cache = attributes.get("IFA_CACHEINFO", {})
    known = {name: attributes[attribute] for attribute, name in ATTRIBUTES.items() if attribute in attributes}
    return {
        **known,
        "family": message["family"],
        "prefixlen": message["prefixlen"],
        "scope": message["scope"],
        "flags": attributes.get("IFA_FLAGS", message["flags"]),
        "preferred": cache.get("ifa_preferred", FOREVER),
        "valid": cache.get("ifa_valid", FOREVER),
        "unknown": "UNKNOWN" in attributes,
    }


def _is_kept(address: "Address") -> bool:
    """Whether a device has it in the container, too."""
    return bool(address["flags"] & IFA_F_PERMANENT) and address["scope"] == RT_SCOPE_UNIVERSE


def _text(address: "Address") -> str:
    return f"{address.get('local') or address.get('address')}/{address['prefixlen']}"


def _arguments(address: "Address", name: str, new_name: str) -> "Address":
    """What adds the address again, to a device that was `name` and is `new_name`."""
    arguments = {key: address[key] for key in ("family", "prefixlen", "scope", *ATTRIBUTES.values()) if key in address}
    if "label" in address:
        arguments["label"] = _label(address["label"], name, new_name)
    if settable := address["flags"] & IFA_F_SETTABLE:
        arguments["flags"] = settable
    preferred = 0 if address["flags"] & IFA_F_DEPRECATED else address["preferred"]
    if (preferred, address["valid"]) != (FOREVER, FOREVER):
        arguments |= {"preferred_lft": preferred, "valid_lft": address["valid"]}
    return arguments


def _label(label: str, name: str, new_name: str) -> str:
    """The label of an IPv4 address when its device gets another name: what follows the colon stays, as in the kernel
    itself, which cuts the name where both are too long."""
    if label == name:
        return new_name
    suffix = label[label.index(":") :] if ":" in label else ""
    return new_name[: IFNAMSIZ - 1 - len(suffix)] + suffix
