"""Route netlink: network devices and their addresses, as requests to the kernel and its answers (rtnetlink(7)).

A message is a header, a struct of its kind, and attributes: each with a length, a type, and a value padded to four
bytes. Numbers have the byte order of the machine.
"""

import _socket
import _struct
import errno
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Attributes = dict[int, bytes]

AF_NETLINK, NETLINK_ROUTE = 16, 0

# linux/netlink.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x4, 0x10
NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE = 0x300, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3

# linux/rtnetlink.h
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 18, 20, 22

# linux/if_link.h
IFLA_IFNAME, IFLA_MASTER, IFLA_NET_NS_FD, IFLA_NEW_IFINDEX = 3, 10, 28, 49

# linux/if_addr.h
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = (
    1, 2, 3, 4, 6, 8, 9, 11,
)  # fmt: skip

HEADER = _struct.Struct("=IHHII")  # length of the message, type, flags, sequence number, sender
LINK = _struct.Struct("=BxHiII")  # family, type, index, flags, mask of the flags to change
ADDRESS = _struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
ATTRIBUTE = _struct.Struct("=HH")  # length with this header, type
LIFETIMES = _struct.Struct("=IIII")  # preferred and valid seconds, creation, update
NUMBER = _struct.Struct("=I")

MAX_MESSAGE = 1 << 16
MAX_ATTEMPTS = 10  # at a list of addresses that changes while the kernel writes it


class Socket:
    """A netlink socket in the network namespace in which it was opened. Raises OSError."""

    def __init__(self) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(AF_NETLINK, kind, NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def set_link(self, index: int, attributes: "Attributes", flags: int = 0) -> None:
        """Change attributes of the device `index`, and set its `flags`. Raises OSError."""
        self._do(RTM_NEWLINK, 0, LINK.pack(0, 0, index, flags, flags) + _encode(attributes))

    def get_link(self, index: int = 0, name: bytes | None = None) -> "Link":
        """Return the device with this index or (alternative) name. Raises OSError."""
        attributes = {} if name is None else {IFLA_IFNAME: name + b"\0"}
        for _, body in self._ask(RTM_GETLINK, NLM_F_ACK, LINK.pack(0, 0, index, 0, 0) + _encode(attributes)):
            return Link(body)
        raise OSError(errno.ENODEV, posix.strerror(errno.ENODEV))

    def add_address(self, index: int, family: int, prefix: int, scope: int, attributes: "Attributes") -> None:
        """Add an address to the device `index`. Raises OSError: FileExistsError if the device has it."""
        self._do(
            RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ADDRESS.pack(family, prefix, 0, scope, index) + _encode(attributes)
        )

    def addresses(self, index: int) -> "list[Address]":
        """Return the addresses of the device `index`, in the kernel's order. Raises OSError."""
        for _ in range(MAX_ATTEMPTS):
            answers = list(self._ask(RTM_GETADDR, NLM_F_DUMP, ADDRESS.pack(0, 0, 0, 0, 0)))
            if not any(flags & NLM_F_DUMP_INTR for flags, _ in answers):
                break
        else:
            raise OSError(errno.EBUSY, posix.strerror(errno.EBUSY))
        found = [Address(body) for _, body in answers]
        return [address for address in found if address.index == index]

    def _do(self, kind: int, flags: int, body: bytes) -> None:
        for _ in self._ask(kind, NLM_F_ACK | flags, body):
            pass

    def _ask(self, kind: int, flags: int, body: bytes) -> "Iterator[tuple[int, bytes]]":
        """Send a request; yield (flags, body) of each answer. Raises OSError for an error of the kernel."""
        self._sequence += 1
        head = HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.sendto(head + body, (0, 0))
        found: list[tuple[int, bytes]] = []
        while True:
            for answer, its_flags, content in self._receive():
                if answer == NLMSG_ERROR:
                    (code,) = _struct.unpack_from("=i", content)
                    if code:
                        raise OSError(-code, posix.strerror(-code))
                if answer in (NLMSG_ERROR, NLMSG_DONE):
                    return iter(found)
                found.append((its_flags, content))

    def _receive(self) -> "Iterator[tuple[int, int, bytes]]":
        """Yield (type, flags, body) of the next messages that answer the last request."""
        data, (sender, _) = self._socket.recvfrom(MAX_MESSAGE)
        at = 0
        while sender == 0 and at + HEADER.size <= len(data):  # the kernel is 0
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
            if length < HEADER.size or at + length > len(data):
                raise OSError(errno.EMSGSIZE, posix.strerror(errno.EMSGSIZE))
            if sequence == self._sequence:
                yield kind, flags, data[at + HEADER.size : at + length]
            at += _aligned(length)


class Link:
    """A network device."""

    def __init__(self, body: bytes) -> None:
        _, _, self.index, self.flags, _ = LINK.unpack_from(body)
        attributes = _decode(body[LINK.size :])
        self.name = attributes.get(IFLA_IFNAME, b"").rstrip(b"\0")
        self.master: int = NUMBER.unpack(attributes.get(IFLA_MASTER, bytes(4)))[0]


class Address:
    """An address of a network device."""

    def __init__(self, body: bytes) -> None:
        self.family, self.prefix, self.flags, self.scope, self.index = ADDRESS.unpack_from(body)
        self.attributes = _decode(body[ADDRESS.size :])
        if IFA_FLAGS in self.attributes:  # more bits than the header's byte
            (self.flags,) = NUMBER.unpack(self.attributes[IFA_FLAGS])


def _encode(attributes: "Attributes") -> bytes:
    parts = []
    for kind, value in attributes.items():
        length = ATTRIBUTE.size + len(value)
        parts.append(ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length))
    return b"".join(parts)


def _decode(data: bytes) -> "Attributes":
    found = {}
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            break
        found[kind] = data[at + ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
