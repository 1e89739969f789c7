"""`linux.netDevices`, the mover: move network devices into a container's network namespace, and back.

`host/net_devices.py` starts this process. It reads one request from stdin and writes one answer to stdout,
both as JSON. `host/rtnetlink.py` talks to the kernel.

A device keeps its own properties when it moves, such as its MAC address and MTU. It goes down and loses its addresses,
which belong to the namespace. It also keeps its name, and the kernel renames it after the move. If the new name is not
available, the device would stay inside. So a device moves under a unique temporary name, by which the mover finds it,
and then gets its new name.
"""

import _socket
import errno
import posix

from pyoci import _native
from pyoci.compiler.net_devices import WHERE
from pyoci.config.jsonio import dumps, loads
from pyoci.errors import PyociError, reason
from pyoci.host import files, rtnetlink
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
    from collections.abc import Callable
    from typing import Any

    from pyoci.host.net_devices import Address, Device, Moved

_LOOPBACK = 1  # the index of `lo` in each network namespace
FOREVER = 0xFFFFFFFF  # seconds
# The flags that a request to add an address may have: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
# The others report the state of the address.
IFA_F_SETTABLE = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
# The attributes that describe an address itself, in the order of a request.
ATTRIBUTES = (
    rtnetlink.IFA_ADDRESS,
    rtnetlink.IFA_LOCAL,
    rtnetlink.IFA_BROADCAST,
    rtnetlink.IFA_LABEL,
    rtnetlink.IFA_RT_PRIORITY,
    rtnetlink.IFA_PROTO,
)
# Those and the attributes that the members `flags`, `preferred` and `valid` of an address replace.
KNOWN = (*ATTRIBUTES, rtnetlink.IFA_FLAGS, rtnetlink.IFA_CACHEINFO)


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
    if "setUp" in request:
        _set_up(mover, request["setUp"])
        return {"warnings": []}
    if "bringBack" in request:
        return {"warnings": mover.bring_back(request["bringBack"])}
    return {"moved": mover.move(request["move"])}


def _set_up(mover: "_Mover", parameters: "list[list[str]]") -> None:
    """Bring loopback up, and write kernel parameters of the namespace, which /proc/sys/net of this process shows."""
    try:
        mover.inside.set_link(_LOOPBACK, {}, IFF_UP)
    except OSError as error:
        raise Failure(f"cannot bring loopback up: {reason(error.errno or 0)}") from error
    for where, path, value in parameters:
        try:
            files.write(f"/proc/sys/{path}", value.encode("utf-8", "surrogateescape"))
        except OSError as error:
            why = reason(error.errno or 0)
            raise Failure(f"cannot write {value!r} to /proc/sys/{path}: {why}", where) from error


class _Mover:
    """Two netlink sockets: `host` in the runtime's network namespace, `inside` in the container's."""

    def __init__(self, network: int) -> None:
        self._network = network
        self._home = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self.host = rtnetlink.Socket()
        _native.enter_namespace(network, CLONE_NEWNET)
        self.inside = rtnetlink.Socket()  # a socket stays in the namespace in which it was created

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
        addresses = _addresses(self.host, link.index)
        kept = [address for address in addresses if _is_kept(address)]
        for address in kept:
            if address["unknown"]:
                raise Failure(
                    f"cannot move network device {name}: its address {_text(address)} has a property that this "
                    "version of pyoci does not know",
                    device["where"],
                )
        temporary_name = f"pyoci-{posix.urandom(4).hex()}"
        what = f"move network device {name}"
        self._do(
            what,
            device["where"],
            lambda: self.host.set_link(link.index, _target(self._network, temporary_name)),
        )
        arrived = self._find(self.inside, temporary_name)
        if arrived is None:
            raise Failure(f"cannot {what}: it did not arrive", device["where"])
        index = arrived.index
        moved.append(
            {
                "device": name,
                "where": device["where"],
                "index": index,
                "hostIndex": link.index,
                "up": bool(link.flags & IFF_UP),
                "master": link.master,
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
            lambda: self.inside.set_link(index, {rtnetlink.IFLA_IFNAME: _string(new_name)}),
        )
        if "%" in new_name:
            new_name = self.inside.get_link(index).name.decode("utf-8", "surrogateescape")
        for address in addresses:
            what = f"add address {_text(address)} to network device {name} in the container"
            self._add(self.inside, index, address, _attributes(address, name, new_name), what, device["where"])
        self._do(
            f"set network device {name} up in the container",
            device["where"],
            lambda: self.inside.set_link(index, {}, IFF_UP),
        )

    def _bring_back(self, device: "Moved") -> None:
        name, where = device["device"], device["where"]
        what = f"move network device {name} back"
        target = _target(self._home, name)
        same_index = {**target, rtnetlink.IFLA_NEW_IFINDEX: rtnetlink.NUMBER.pack(device["hostIndex"])}
        try:
            self.inside.set_link(device["index"], same_index)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise Failure(f"cannot {what}: {reason(error.errno or 0)}", where) from error
            # Another device has its index by now: let the kernel choose one.
            self._do(what, where, lambda: self.inside.set_link(device["index"], target))
        link = self._find(self.host, name)
        if link is None:
            raise Failure(f"cannot {what}: it did not arrive", where)
        index = link.index
        for address in device["addresses"]:
            if address["unknown"] or (address["family"] == AF_INET6 and address["flags"] & IFA_F_TEMPORARY):
                continue  # the kernel creates temporary addresses anew
            what = f"restore address {_text(address)} of network device {name}"
            self._add(self.host, index, address, _attributes(address, name, name), what, where)
        if device["master"]:
            self._do(
                f"restore the master of network device {name}",
                where,
                lambda: self.host.set_link(index, {rtnetlink.IFLA_MASTER: rtnetlink.NUMBER.pack(device["master"])}),
            )
        if device["up"]:
            self._do(f"set network device {name} up again", where, lambda: self.host.set_link(index, {}, IFF_UP))

    # --- the kernel

    def _do(self, what: str, where: str, request: "Callable[[], None]") -> None:
        """Send a request to the kernel. Raises Failure, which says that `what` failed."""
        try:
            request()
        except OSError as error:
            code = error.errno or 0
            raise Failure(f"cannot {what}: {reason(code)}", where, _HINTS.get(code, "")) from error

    def _add(
        self,
        side: rtnetlink.Socket,
        index: int,
        address: "Address",
        attributes: "dict[int, bytes]",
        what: str,
        where: str,
    ) -> None:
        """Add an address, unless the kernel has created it again by itself. Raises Failure."""
        try:
            side.add_address(index, address["family"], address["prefixlen"], address["scope"], attributes)
        except FileExistsError:
            pass
        except OSError as error:
            raise Failure(f"cannot {what}: {reason(error.errno or 0)}", where) from error

    def _find(self, side: rtnetlink.Socket, name: str) -> "rtnetlink.Link | None":
        """Return the device with this name, or None. The kernel finds a device by an alternative name as well."""
        wanted = name.encode("utf-8", "surrogateescape")
        try:
            link = side.get_link(name=wanted)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise Failure(f"cannot find network device {name}: {reason(error.errno or 0)}", WHERE) from error
        return link if link.name == wanted else None


_HINTS = {
    errno.EPERM: "it needs CAP_NET_ADMIN over both network namespaces",
    errno.EINVAL: "some devices, such as lo and bridges, can't leave their network namespace",
    errno.EOPNOTSUPP: "some devices can't leave their network namespace",
}


def _target(network: int, name: str) -> "dict[int, bytes]":
    """Attributes that move a device to the network namespace of the descriptor `network`, under `name`."""
    return {rtnetlink.IFLA_NET_NS_FD: rtnetlink.NUMBER.pack(network), rtnetlink.IFLA_IFNAME: _string(name)}


def _string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"


# --- addresses


def _addresses(side: rtnetlink.Socket, index: int) -> "list[Address]":
    """Return the addresses of a device in the order in which to add them again. Raises Failure.

    With IPv4, the first address of a subnet is the primary one. With IPv6, the kernel lists the last address first.
    """
    try:
        found = [_address(address) for address in side.addresses(index)]
    except OSError as error:
        raise Failure(f"cannot read the addresses of network devices: {reason(error.errno or 0)}", WHERE) from error
    newest_first = [address for address in found if address["family"] == AF_INET6]
    return [address for address in found if address["family"] != AF_INET6] + newest_first[::-1]


def _address(address: rtnetlink.Address) -> "Address":
    """Return the properties of an address, as JSON values."""
    attributes = address.attributes
    forever = rtnetlink.LIFETIMES.pack(FOREVER, FOREVER, 0, 0)
    preferred, valid, _, _ = rtnetlink.LIFETIMES.unpack(attributes.get(rtnetlink.IFA_CACHEINFO, forever))
    return {
        "family": address.family,
        "prefixlen": address.prefix,
        "scope": address.scope,
        "flags": address.flags,
        "preferred": preferred,
        "valid": valid,
        "attributes": {str(kind): attributes[kind].hex() for kind in ATTRIBUTES if kind in attributes},
        "unknown": any(kind not in KNOWN for kind in attributes),
    }


def _is_kept(address: "Address") -> bool:
    """Whether the device keeps this address in the container."""
    return bool(address["flags"] & IFA_F_PERMANENT) and address["scope"] == RT_SCOPE_UNIVERSE


def _text(address: "Address") -> str:
    attributes = address["attributes"]
    number = bytes.fromhex(attributes.get(str(rtnetlink.IFA_LOCAL)) or attributes[str(rtnetlink.IFA_ADDRESS)])
    return f"{_socket.inet_ntop(address['family'], number)}/{address['prefixlen']}"


def _attributes(address: "Address", name: str, new_name: str) -> "dict[int, bytes]":
    """Return the attributes that add the address to a device whose name has changed from `name` to `new_name`."""
    attributes = {int(kind): bytes.fromhex(value) for kind, value in address["attributes"].items()}
    if label := attributes.get(rtnetlink.IFA_LABEL):
        text = label.rstrip(b"\0").decode("utf-8", "surrogateescape")
        attributes[rtnetlink.IFA_LABEL] = _string(_label(text, name, new_name))
    if settable := address["flags"] & IFA_F_SETTABLE:
        attributes[rtnetlink.IFA_FLAGS] = rtnetlink.NUMBER.pack(settable)
    preferred = 0 if address["flags"] & IFA_F_DEPRECATED else address["preferred"]
    if (preferred, address["valid"]) != (FOREVER, FOREVER):
        attributes[rtnetlink.IFA_CACHEINFO] = rtnetlink.LIFETIMES.pack(preferred, address["valid"], 0, 0)
    return attributes


def _label(label: str, name: str, new_name: str) -> str:
    """Return the label of an IPv4 address after its device is renamed: the part after the colon stays.

    If both together are too long, this cuts the name, as the kernel does.
    """
    if label == name:
        return new_name
    suffix = label[label.index(":") :] if ":" in label else ""
    return new_name[: IFNAMSIZ - 1 - len(suffix)] + suffix
