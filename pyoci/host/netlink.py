"""`linux.netDevices`, the helper process: move network devices into a container's network namespace, and back.

`host/net_devices.py` starts the helper for this alone. It reads one request from stdin and writes one answer to stdout,
both as JSON. pyroute2 talks to the kernel.

A device keeps its own properties when it moves, such as its MAC address and MTU. It goes down and loses its addresses,
which belong to the namespace. It also keeps its name, and the kernel renames it after the move. If the new name is not
available, the device would stay inside. So a device moves under a unique temporary name, by which the helper finds it,
and then gets its new name.
"""

import errno
import posix
import sys

from pyoci import _native
from pyoci.compiler.net_devices import WHERE
from pyoci.config.jsonio import dumps, loads
from pyoci.errors import PyociError, reason
from pyoci.host import files
from pyoci.host.net_devices import NETWORK
from pyoci.linux import (
    AF_INET6,
    CLONE_NEWNET,
    IFA_F_DEPRECATED,
    IFA_F_PERMANENT,
    IFA_F_TEMPORARY,
    IFF_UP,
    IFNAMSIZ,
    RT_SCOPE_UNIVERSE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyoci.host.net_devices import Address, Device, Moved

FOREVER = 0xFFFFFFFF  # seconds
# The flags that a request to add an address may have: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
# The others report the state of the address.
IFA_F_SETTABLE = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
ATTRIBUTES = {
    "IFA_ADDRESS": "address", "IFA_LOCAL": "local", "IFA_BROADCAST": "broadcast", "IFA_LABEL": "label",
    "IFA_RT_PRIORITY": "rt_priority", "IFA_PROTO": "proto",
}  # fmt: skip


class Failure(Exception):
    """An error for the answer, which the runtime raises as SetupError."""

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
        raise PyociError("cannot move network devices: only pyoci itself runs this command, for linux.netDevices")
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


def _answer(request: "dict[str, Any]") -> "dict[str, object]":
    try:
        mover = _Mover(NETWORK)
    except OSError as error:
        hint = "entering it needs CAP_SYS_ADMIN over it" if error.errno == errno.EPERM else ""
        raise Failure(
            f"cannot enter the container's network namespace: {reason(error.errno or 0)}", WHERE, hint
        ) from error
    if "bringBack" in request:
        return {"warnings": mover.bring_back(request["bringBack"])}
    return {"moved": mover.move(request["move"])}


def _not_installed(module: str) -> Failure:
    """Return the error for a missing pyroute2 or, without a complete Python, a missing module that it imports."""
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    if module.partition(".")[0] in sys.stdlib_module_names:
        missing, hint = f"the standard library of {python}", f"install {python}, and pyroute2 for it"
    else:
        missing, hint = f"the Python package {module}", f"install pyroute2 for {python}, which pyoci was built with"
    return Failure(f"cannot move network devices: {missing} is not installed", WHERE, hint)


class _Mover:
    """Two netlink sockets: `host` in the runtime's network namespace, `inside` in the container's."""

    def __init__(self, network: int) -> None:
        try:
            from pyroute2 import IPRoute, NetlinkError
        except ModuleNotFoundError as error:
            raise _not_installed(error.name or "") from error
        except ImportError as error:
            raise Failure(f"cannot move network devices: cannot import pyroute2: {error}", WHERE) from error
        self._error = NetlinkError
        self._network = network
        self._home = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self.host = IPRoute()
        _native.enter_namespace(network, CLONE_NEWNET)
        self.inside = IPRoute()  # a socket stays in the namespace in which it was created

    def move(self, devices: "list[Device]") -> "list[Moved]":
        """Move all devices. If one fails, this moves the others back before it raises."""
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
        """Restore the devices, the last one first. Returns a message for each that can't be restored."""
        messages = []
        for device in reversed(moved):
            try:
                self._bring_back(device)
            except Failure as failure:
                messages.append(failure.answer["message"])
        return messages

    # --- one device

    def _check(self, device: "Device") -> None:
        """Raise Failure for a problem that is visible before anything changes."""
        name, new_name = device["device"], device["name"]
        if self._find(self.host, name) is None:
            raise Failure(f"cannot move network device {name}: the host has none of this name", device["where"])
        if "%" not in new_name and self._find(self.inside, new_name) is not None:
            raise Failure(
                f"cannot move network device {name}: the container has a device {new_name} already",
                device["nameWhere"],
                "end the name in %d to let the kernel choose a number",
            )

    def _move(self, device: "Device", moved: "list[Moved]") -> None:
        """Move a device and append it to `moved`, even if this raises Failure later."""
        name = device["device"]
        link = self._find(self.host, name)
        if link is None:  # it has gone since the check
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
        temporary_name = f"pyoci-{posix.urandom(4).hex()}"
        what = f"move network device {name}"
        self._do(
            what,
            device["where"],
            lambda: self.host.link("set", index=link["index"], net_ns_fd=self._network, ifname=temporary_name),
        )
        arrived = self._find(self.inside, temporary_name)
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
        self._set_up_inside(device, index, kept)

    def _set_up_inside(self, device: "Device", index: int, addresses: "list[Address]") -> None:
        """Give a device in the container its name and its addresses, and bring it up."""
        name, new_name = device["device"], device["name"]
        self._do(
            f"rename network device {name} to {new_name} in the container",
            device["nameWhere"],
            lambda: self.inside.link("set", index=index, ifname=new_name),
        )
        if "%" in new_name:
            new_name = next(iter(self.inside.link("get", index=index))).get_attr("IFLA_IFNAME")
        for address in addresses:
            what = f"add address {_text(address)} to network device {name} in the container"
            self._add(self.inside, index, _arguments(address, name, new_name), what, device["where"])
        self._do(
            f"set network device {name} up in the container",
            device["where"],
            lambda: self.inside.link("set", index=index, state="up"),
        )

    def _bring_back(self, device: "Moved") -> None:
        name, where = device["device"], device["where"]
        what = f"move network device {name} back"
        target = {"index": device["index"], "net_ns_fd": self._home, "ifname": name}
        try:
            list(self.inside.link("set", new_ifindex=device["hostIndex"], **target))
        except self._error as error:
            if error.code != errno.EBUSY:
                raise Failure(f"cannot {what}: {reason(error.code)}", where) from error
            # Another device has its index by now: let the kernel choose one.
            self._do(what, where, lambda: self.inside.link("set", **target))
        link = self._find(self.host, name)
        if link is None:
            raise Failure(f"cannot {what}: it did not arrive", where)
        index = link["index"]
        for address in device["addresses"]:
            if address["unknown"] or (address["family"] == AF_INET6 and address["flags"] & IFA_F_TEMPORARY):
                continue  # the kernel creates temporary addresses anew
            what = f"restore address {_text(address)} of network device {name}"
            self._add(self.host, index, _arguments(address, name, name), what, where)
        if device["master"]:
            self._do(
                f"restore the master of network device {name}",
                where,
                lambda: self.host.link("set", index=index, master=device["master"]),
            )
        if device["up"]:
            self._do(
                f"set network device {name} up again", where, lambda: self.host.link("set", index=index, state="up")
            )

    # --- the kernel

    def _do(self, what: str, where: str, request: "Callable[[], Any]") -> None:
        """Send a request to the kernel. Raises Failure, which says that `what` failed."""
        try:
            list(request())
        except self._error as error:
            raise Failure(f"cannot {what}: {reason(error.code)}", where, _HINTS.get(error.code, "")) from error

    def _add(self, side: "Any", index: int, address: "Mapping[str, object]", what: str, where: str) -> None:
        """Add an address, unless the kernel has created it again by itself. Raises Failure."""
        try:
            list(side.addr("add", index=index, **address))
        except self._error as error:
            if error.code != errno.EEXIST:
                raise Failure(f"cannot {what}: {reason(error.code)}", where) from error

    def _find(self, side: "Any", name: str) -> "Any":
        """Return the link with this name, None if there is none. The kernel finds it by an alternative name as well."""
        try:
            links = list(side.link("get", ifname=name))
        except self._error as error:
            if error.code == errno.ENODEV:
                return None
            raise Failure(f"cannot find network device {name}: {reason(error.code)}", WHERE) from error
        return next((link for link in links if link.get_attr("IFLA_IFNAME") == name), None)

    def _addresses(self, side: "Any", index: int) -> "list[Address]":
        """Return the addresses of a device in the order in which to add them again.

        With IPv4, the first address of a subnet is the primary one. With IPv6, the kernel lists the last address first.
        """
        found = [_address(message) for message in side.get_addr(index=index)]
        newest_first = [address for address in found if address["family"] == AF_INET6]
        return [address for address in found if address["family"] != AF_INET6] + newest_first[::-1]


_HINTS = {
    errno.EPERM: "it needs CAP_NET_ADMIN over both network namespaces",
    errno.EINVAL: "some devices, such as lo and bridges, can't leave their network namespace",
    errno.EOPNOTSUPP: "some devices can't leave their network namespace",
}


# --- addresses


def _address(message: "Any") -> "Address":
    """Return the properties of an address, as JSON values."""
    attributes = dict(message["attrs"])
    cache = attributes.get("IFA_CACHEINFO", {})
    known: Any = {name: attributes[attribute] for attribute, name in ATTRIBUTES.items() if attribute in attributes}
    address: Address = {
        "family": message["family"],
        "prefixlen": message["prefixlen"],
        "scope": message["scope"],
        "flags": attributes.get("IFA_FLAGS", message["flags"]),
        "preferred": cache.get("ifa_preferred", FOREVER),
        "valid": cache.get("ifa_valid", FOREVER),
        "unknown": "UNKNOWN" in attributes,
    }
    address.update(known)
    return address


def _is_kept(address: "Address") -> bool:
    """Whether the device keeps this address in the container."""
    return bool(address["flags"] & IFA_F_PERMANENT) and address["scope"] == RT_SCOPE_UNIVERSE


def _text(address: "Address") -> str:
    return f"{address.get('local') or address.get('address')}/{address['prefixlen']}"


def _arguments(address: "Address", name: str, new_name: str) -> "dict[str, object]":
    """Return the arguments that add the address to a device whose name has changed from `name` to `new_name`."""
    values: Mapping[str, object] = address
    arguments = {key: values[key] for key in ("family", "prefixlen", "scope", *ATTRIBUTES.values()) if key in values}
    if "label" in address:
        arguments["label"] = _label(address["label"], name, new_name)
    if settable := address["flags"] & IFA_F_SETTABLE:
        arguments["flags"] = settable
    preferred = 0 if address["flags"] & IFA_F_DEPRECATED else address["preferred"]
    if (preferred, address["valid"]) != (FOREVER, FOREVER):
        arguments |= {"preferred_lft": preferred, "valid_lft": address["valid"]}
    return arguments


def _label(label: str, name: str, new_name: str) -> str:
    """Return the label of an IPv4 address after its device is renamed: the part after the colon stays.

    If both together are too long, this cuts the name, as the kernel does.
    """
    if label == name:
        return new_name
    suffix = label[label.index(":") :] if ":" in label else ""
    return new_name[: IFNAMSIZ - 1 - len(suffix)] + suffix
